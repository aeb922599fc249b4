//! The states of stateful models.

use milwright_mil::{Tensor, engine};

use crate::{Error, Result};

/// The tensors that a stateful model keeps between predictions, by name. [`Session::new_state`] creates one.
/// Predictions share a state only if the caller passes the same one.
///
/// [`Session::new_state`]: crate::Session::new_state
#[derive(Clone, Debug, Default)]
pub struct State(pub(crate) engine::State);

impl State {
    /// The names of the states, in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        self.0.tensors().map(|(n, _)| n).collect()
    }

    /// Returns the value of a state.
    ///
    /// # Errors
    /// There is no state of this name.
    pub fn read(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Replaces the value of a state. Other element types are converted as for inputs.
    ///
    /// # Errors
    /// There is no state of this name, the tensor has another shape, or the state cannot hold its elements.
    pub fn write(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let held = self.read(name)?;
        if held.shape() != tensor.shape() {
            let (want, have) = (held.shape(), tensor.shape());
            return Err(Error::invalid(format!("the state `{name}` has the shape {want:?}, not {have:?}")));
        }
        let dtype = held.dtype();
        let converted = tensor.converted(dtype).ok_or_else(|| {
            Error::invalid(format!("the state `{name}` holds {dtype}, which {} does not fit", tensor.dtype()))
        })?;
        self.0.set(name, converted);
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let names = self.names();
        let error = Error::invalid(format!("there is no state `{name}`"));
        if names.is_empty() {
            error.with_hint("the model has no states")
        } else {
            error.with_hint(format!("the states are: {}", names.join(", ")))
        }
    }
}
