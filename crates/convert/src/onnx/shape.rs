//! Shapes and constants.

use milwright_mil::Tensor;

use super::elem::Elem;
use super::item::{Item, Val};
use super::node::Node;
use super::stored::Stored;
use crate::Error;
use crate::lower::{Result, tensor_of};

/// `Constant`: one of its attributes is the value.
pub(super) fn constant(n: &mut Node<'_, '_>) -> Result<Val> {
    let stored = if let Some(stored) = n.tensor("value")? {
        stored
    } else if let Some(stored) = n.sparse_tensor("sparse_value")? {
        stored
    } else if let Some(x) = n.float("value_float")? {
        Stored::new(Elem::Float, Tensor::scalar(x))
    } else if let Some(x) = n.floats("value_floats")? {
        Stored::new(Elem::Float, tensor_of(&[x.len()], x.to_vec())?)
    } else if let Some(i) = n.int("value_int")? {
        Stored::new(Elem::Int64, Tensor::scalar(i))
    } else if let Some(i) = n.ints("value_ints")? {
        Stored::new(Elem::Int64, tensor_of(&[i.len()], i.to_vec())?)
    } else if let Some(text) = n.text("value_string")? {
        Stored::new(Elem::String, Tensor::string(text))
    } else if let Some(texts) = n.texts("value_strings")? {
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        let tensor = Tensor::from_strings(&[texts.len()], texts);
        Stored::new(Elem::String, tensor.map_err(|e| Error::malformed(e.to_string()))?)
    } else {
        return Err(Error::malformed("it has no value"));
    };
    let name = n.label.clone();
    Ok(Val::constant(name, stored))
}

/// `Identity`, of anything that a name can refer to.
pub(super) fn identity(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    Ok(vec![n.item(0)?.clone()])
}
