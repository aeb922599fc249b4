//! The engines that are compared, each as its own documentation uses it.

mod milwright;
mod onnxruntime;
#[cfg(feature = "rust-engines")]
mod rten;
#[cfg(feature = "rust-engines")]
mod tract;

use std::path::Path;

use ::milwright::Tensor;

use crate::Result;

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

/// A model that is ready to run on the inputs that it was loaded with.
pub trait Engine {
    /// Runs once, all outputs included, and keeps them.
    fn run(&mut self) -> Result<()>;

    /// What the last run computed.
    fn outputs(&mut self) -> Result<Named>;
}

pub fn load(engine: &str, model: &Path, inputs: Named, threads: usize) -> Result<Box<dyn Engine>> {
    Ok(match engine {
        "milwright" => Box::new(milwright::Milwright::load(model, inputs, threads)?),
        "onnxruntime" => Box::new(onnxruntime::OnnxRuntime::load(model, inputs, threads)?),
        #[cfg(feature = "rust-engines")]
        "rten" => Box::new(rten::Rten::load(model, inputs, threads)?),
        #[cfg(feature = "rust-engines")]
        "tract" => Box::new(tract::Tract::load(model, inputs, threads)?),
        _ => return Err(format!("no engine `{engine}`").into()),
    })
}

/// The input for the one that an ONNX file calls `name`. A file with a single input may name it as it likes.
fn input<'a>(inputs: &'a Named, name: &str) -> Result<&'a Tensor> {
    match &inputs[..] {
        [(_, only)] => Ok(only),
        _ => match inputs.iter().find(|(n, _)| n == name) {
            Some((_, tensor)) => Ok(tensor),
            None => Err(format!("there is no file for the input {name}").into()),
        },
    }
}
