//! The bridge on systems without Core ML: the same functions, which all fail with `Unavailable`.

use std::path::{Path, PathBuf};

use crate::{
    Array, Backings, ComputePlan, Configuration, Description, Device, Error, ErrorKind, Features, Result,
};

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "Core ML is a part of macOS and iOS; this is another system")
}

/// Whether there is a Core ML.
///
/// # Errors
/// There is no Core ML; the message gives the reason.
pub fn availability() -> Result<()> {
    Err(unavailable())
}

/// The version and build of the system, which compiled models depend on.
///
/// # Errors
/// There is no Core ML.
pub fn system() -> Result<String> {
    Err(unavailable())
}

/// The architecture of this machine.
pub fn machine() -> String {
    std::env::consts::ARCH.to_owned()
}

/// Compiles a `.mlmodel` or `.mlpackage` into a new temporary folder, which the caller has to move or remove.
///
/// # Errors
/// There is no Core ML.
pub fn compile(_path: &Path) -> Result<PathBuf> {
    Err(unavailable())
}

/// Like [`compile`], with a completion handler.
pub fn compile_async<F>(_path: &Path, done: F)
where
    F: FnOnce(Result<PathBuf>) + Send + 'static,
{
    done(Err(unavailable()));
}

/// The devices that Core ML can use.
///
/// # Errors
/// There is no Core ML.
pub fn devices() -> Result<Vec<Device>> {
    Err(unavailable())
}

/// Finds out on which device Core ML plans to run each op of a compiled model.
pub fn compute_plan<F>(_path: &Path, _configuration: &Configuration, done: F)
where
    F: FnOnce(Result<ComputePlan>) + Send + 'static,
{
    done(Err(unavailable()));
}

/// A loaded model. This system has none.
#[derive(Debug)]
pub enum Model {}

/// The states of a model. This system has none.
#[derive(Debug)]
pub enum State {}

impl Model {
    /// Loads a compiled model.
    ///
    /// # Errors
    /// There is no Core ML.
    pub fn load(_path: &Path, _configuration: &Configuration) -> Result<Model> {
        Err(unavailable())
    }

    /// Like [`load`](Model::load), with a completion handler.
    pub fn load_async<F>(_path: &Path, _configuration: &Configuration, done: F)
    where
        F: FnOnce(Result<Model>) + Send + 'static,
    {
        done(Err(unavailable()));
    }

    /// Returns the model's description.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn description(&self) -> Result<Description> {
        match *self {}
    }

    /// Whether the system has [`predict_async`](Model::predict_async).
    pub fn has_async(&self) -> bool {
        match *self {}
    }

    /// Runs the model once.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn predict(&mut self, _inputs: &Features, _backings: Backings) -> Result<Features> {
        match *self {}
    }

    /// Like [`predict`](Model::predict), with a completion handler.
    pub fn predict_async<F>(&mut self, _inputs: &Features, _backings: Backings, _done: F)
    where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        match *self {}
    }

    /// Like [`predict`](Model::predict), and reads and writes states.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn predict_with_state(
        &mut self,
        _inputs: &Features,
        _state: &mut State,
        _backings: Backings,
    ) -> Result<Features> {
        match *self {}
    }

    /// Like [`predict_with_state`](Model::predict_with_state), with a completion handler.
    pub fn predict_with_state_async<F>(
        &mut self,
        _inputs: &Features,
        _state: &mut State,
        _backings: Backings,
        _done: F,
    ) where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        match *self {}
    }

    /// Runs the model once for each set of inputs.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn predict_batch(&mut self, _batch: &[Features]) -> Result<Vec<Features>> {
        match *self {}
    }

    /// Creates states, all zero.
    ///
    /// # Errors
    /// None: there is no such model.
    pub fn new_state(&self) -> Result<State> {
        match *self {}
    }
}

impl State {
    /// Reads a state's value.
    ///
    /// # Errors
    /// None: there are no such states.
    pub fn read(&self, _name: &str) -> Result<Array> {
        match *self {}
    }

    /// Replaces a state's value.
    ///
    /// # Errors
    /// None: there are no such states.
    pub fn write(&mut self, _name: &str, _array: &Array) -> Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn everything_says_that_there_is_none() {
        let path = Path::new("m.mlpackage");
        let configuration = Configuration::default();
        let kinds = [
            availability().unwrap_err().kind(),
            system().unwrap_err().kind(),
            compile(path).unwrap_err().kind(),
            wait(None, |done| compile_async(path, done)).unwrap_err().kind(),
            devices().unwrap_err().kind(),
            wait(None, |done| compute_plan(path, &configuration, done)).unwrap_err().kind(),
            Model::load(path, &configuration).unwrap_err().kind(),
            wait(None, |done| Model::load_async(path, &configuration, done)).unwrap_err().kind(),
        ];
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable));
    }
}
