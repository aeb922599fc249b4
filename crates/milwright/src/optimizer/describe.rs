//! Describes the weights of a model.

use std::sync::Arc;

use serde::Serialize;

use super::parts::Source;
use crate::kinds::Task;
use crate::target::reference_ops;
use crate::{Error, ErrorKind, Model, Result};

/// A weight of a model: a constant of its program, compressed or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightInfo {
    /// The function that it is in; in a pipeline the model, too.
    pub function: String,
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The element type. That of a compressed weight is the type that it is expanded to.
    pub dtype: String,
    /// How it is stored: `dense`, or what expands it, such as `lut_to_dense`.
    pub form: String,
    /// The share of elements with a magnitude of at most 1e-12.
    pub sparsity: f64,
    /// The number of distinct values.
    pub unique_values: usize,
    /// The ops that use it, in order.
    pub users: Vec<WeightUser>,
}

/// An op that uses a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightUser {
    /// The op's type, such as `conv`.
    pub op_type: String,
    /// The op's name.
    pub name: String,
    /// The constants that the op uses, by parameter.
    pub constants: Vec<(String, String)>,
}

/// Describes the weights of a model with at least `min_elements` elements, in program order. Compressed weights are
/// described as they are when expanded.
///
/// # Errors
/// The model has no program, or a compressed weight cannot be expanded.
pub fn weights(model: &Arc<Model>, min_elements: usize) -> Result<Vec<WeightInfo>> {
    let source = Source::new(model, None, Task::Optimize)?;
    let mut all = Vec::new();
    for part in &source.parts {
        for (name, function) in &part.program.functions {
            let found =
                milwright_optimize::describe(&part.function(name), function, min_elements, reference_ops());
            let found =
                found.map_err(|e| Error::new(ErrorKind::Unsupported, e.to_string()).at(model.path()))?;
            all.extend(found.into_iter().map(|w| {
                WeightInfo {
                    function: w.function,
                    name: w.name,
                    shape: w.shape,
                    dtype: w.dtype.name().to_owned(),
                    form: w.form,
                    sparsity: w.sparsity,
                    unique_values: w.unique_values,
                    users: w
                        .users
                        .into_iter()
                        .map(|u| WeightUser { op_type: u.op_type, name: u.name, constants: u.constants })
                        .collect(),
                }
            }));
        }
    }
    Ok(all)
}
