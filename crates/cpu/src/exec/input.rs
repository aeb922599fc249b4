//! Converts the inputs that callers pass to the types that the function declares.

use std::collections::{HashMap, HashSet};

use milwright_mil::Tensor;

use super::{Executable, RunError};

impl Executable {
    /// Returns the inputs in declared order, converted.
    pub(super) fn bind(&self, given: &[(&str, Tensor)]) -> Result<Vec<Tensor>, RunError> {
        let error = |name: &str, message| RunError::Input { name: name.into(), message };
        let names = || self.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        // Callers mostly give the inputs in declared order. Only the others pay for a map.
        let is_in_order = given.iter().map(|(name, _)| *name).eq(self.inputs.iter().map(|p| p.name.as_str()));
        let mut by_name = HashMap::new();
        if !is_in_order {
            let declared: HashSet<&str> = self.inputs.iter().map(|p| p.name.as_str()).collect();
            for (name, tensor) in given {
                if !declared.contains(name) {
                    return Err(error(name, format!("the function has no such input; it has: {}", names())));
                }
                if by_name.insert(*name, tensor).is_some() {
                    return Err(error(name, "it is given twice".into()));
                }
            }
        }
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for (i, port) in self.inputs.iter().enumerate() {
            let tensor =
                if is_in_order { Some(&given[i].1) } else { by_name.get(port.name.as_str()).copied() };
            let Some(tensor) = tensor else {
                return Err(error(&port.name, "it is missing".into()));
            };
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
