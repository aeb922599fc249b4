//! Converts the inputs that callers pass to the types that the function declares.

use milwright_mil::Tensor;

use super::{Executable, RunError};

impl Executable {
    /// Returns the inputs in declared order, converted.
    pub(super) fn bind(&self, given: &[(&str, Tensor)]) -> Result<Vec<Tensor>, RunError> {
        let error = |name: &str, message| RunError::Input { name: name.into(), message };
        let names = || self.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some((name, _)) = given.iter().find(|(n, _)| !self.inputs.iter().any(|p| p.name == *n)) {
            return Err(error(name, format!("the function has no such input; it has: {}", names())));
        }
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for port in &self.inputs {
            let mut named = given.iter().filter(|(n, _)| *n == port.name);
            let Some((_, tensor)) = named.next() else {
                return Err(error(&port.name, "it is missing".into()));
            };
            if named.next().is_some() {
                return Err(error(&port.name, "it is given twice".into()));
            }
            let Some((dtype, shape)) = &self.values[port.value].tensor else {
                return Err(error(&port.name, "it is not a tensor of a fixed shape".into()));
            };
            if tensor.shape() != shape {
                let message = format!("its shape is {:?}, but this plan is for {shape:?}", tensor.shape());
                return Err(error(&port.name, message));
            }
            let converted = tensor.converted(*dtype).ok_or_else(|| {
                error(
                    &port.name,
                    format!("it holds {}, which cannot be converted to {dtype}", tensor.dtype()),
                )
            })?;
            tensors.push(converted);
        }
        Ok(tensors)
    }
}
