use std::env;
use std::path::Path;

use milwright::{DType, Tensor};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor};

use super::{Engine, Named, input};
use crate::Result;

pub struct OnnxRuntime {
    session: Session,
    inputs: Vec<(String, DynValue)>,
    last: Vec<(String, DynValue)>,
}

impl OnnxRuntime {
    /// `ORT_DYLIB_PATH` names the library.
    #[expect(clippy::disallowed_methods, reason = "this is a program; libraries do not read the environment")]
    pub fn load(model: &Path, inputs: Named, threads: usize) -> Result<OnnxRuntime> {
        let library =
            env::var("ORT_DYLIB_PATH").map_err(|_| "ORT_DYLIB_PATH does not name libonnxruntime")?;
        let environment = ort::init_from(library)?.build()?;
        let session = Session::builder(&environment)?.with_intra_threads(threads)?.commit_from_file(model)?;
        let names = session.inputs().iter().map(|i| i.name().to_owned());
        let inputs =
            names.map(|name| Ok((name.clone(), to_ort(input(&inputs, &name)?)?))).collect::<Result<_>>()?;
        Ok(OnnxRuntime { session, inputs, last: Vec::new() })
    }
}

impl Engine for OnnxRuntime {
    fn run(&mut self) -> Result<()> {
        let inputs: Vec<(&str, SessionInputValue)> =
            self.inputs.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
        let outputs = self.session.run(inputs)?;
        self.last = outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(())
    }

    fn outputs(&mut self) -> Result<Named> {
        let tensor = |(name, value): &(String, DynValue)| {
            let (shape, elements) = value.try_extract_tensor::<f32>()?;
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            Ok((name.clone(), Tensor::from_vec(&shape, elements.to_vec())?))
        };
        self.last.iter().map(tensor).collect()
    }
}

fn to_ort(tensor: &Tensor) -> Result<DynValue> {
    let shape = tensor.shape().to_vec();
    Ok(match tensor.dtype() {
        DType::Int32 => OrtTensor::from_array((shape, tensor.to_vec::<i32>()?))?.into_dyn(),
        _ => OrtTensor::from_array((shape, tensor.to_vec::<f32>()?))?.into_dyn(),
    })
}
