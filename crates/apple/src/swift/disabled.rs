//! The same functions where no Swift is linked. All fail with `Unavailable`.

use std::convert::Infallible;
use std::path::Path;

use super::Route;
use crate::{Array, Configuration, Device, Error, ErrorKind, Features, Result};

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "Core ML is a part of macOS and iOS; this is another system")
}

/// Whether Swift is linked.
///
/// # Errors
/// It is not; the message gives the reason.
pub fn availability() -> Result<()> {
    Err(unavailable())
}

/// The devices that Core ML can use.
///
/// # Errors
/// There is no Core ML.
pub fn devices() -> Result<Vec<Device>> {
    Err(unavailable())
}

/// A loaded model. There is none without Swift.
#[derive(Debug)]
pub struct Model(Infallible);

/// The states of a model. There are none without Swift.
#[derive(Debug)]
pub struct State(Infallible);

/// A prediction in flight. There is none without Swift.
#[derive(Debug)]
pub struct Running(Infallible);

impl Model {
    /// Loads a compiled model.
    pub fn load_async<F>(_path: &Path, _configuration: &Configuration, done: F)
    where
        F: FnOnce(Result<Model>) + Send + 'static,
    {
        done(Err(unavailable()));
    }

    /// Runs the model once.
    pub fn predict_async<F>(
        &mut self,
        _inputs: &Features,
        _state: Option<&mut State>,
        _route: Route,
        _done: F,
    ) -> Running
    where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        match self.0 {}
    }

    /// Creates states, all zero.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn new_state(&mut self) -> Result<State> {
        match self.0 {}
    }
}

impl State {
    /// Reads a state's value.
    ///
    /// # Errors
    /// None: there are no such states.
    pub fn read(&mut self, _name: &str) -> Result<Array> {
        match self.0 {}
    }

    /// Replaces a state's value.
    ///
    /// # Errors
    /// None: there are no such states.
    pub fn write(&mut self, _name: &str, _array: &Array) -> Result<()> {
        match self.0 {}
    }
}

impl Running {
    /// Asks the prediction to stop.
    pub fn cancel(&self) {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn everything_says_that_there_is_none() {
        let load = |done| Model::load_async(Path::new("m.mlmodelc"), &Configuration::default(), done);
        let kinds = [
            availability().unwrap_err().kind(),
            devices().unwrap_err().kind(),
            wait(None, load).unwrap_err().kind(),
        ];
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable));
    }
}
