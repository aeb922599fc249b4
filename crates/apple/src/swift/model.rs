//! The calls.

use std::path::Path;
use std::ptr;
use std::sync::Arc;

use super::Route;
use super::call::{
    ACCESSED, Access, Done, Handle, LOADED, PREDICTED, accessed, loaded, now, predicted, refuse,
    release_owner,
};
use super::ffi::{
    MILWRIGHT_SWIFT_ABI, MILWRIGHT_SWIFT_CPU, MILWRIGHT_SWIFT_GPU, MILWRIGHT_SWIFT_NEURAL_ENGINE,
    milwright_swift_abi, milwright_swift_access_state, milwright_swift_cancel, milwright_swift_configuration,
    milwright_swift_device, milwright_swift_devices, milwright_swift_load, milwright_swift_new_state,
    milwright_swift_predict,
};
use super::table::c_text;
use super::tensor::{Inputs, Seen};
use crate::{
    Array, ComputeUnits, Configuration, Device, Error, ErrorKind, Features, Reshapes, Result, Specialization,
};

/// Whether Swift is linked, in the version that this crate was written for.
///
/// # Errors
/// It is not; the message gives the reason.
pub fn availability() -> Result<()> {
    // SAFETY: no arguments.
    match unsafe { milwright_swift_abi() } {
        MILWRIGHT_SWIFT_ABI => Ok(()),
        other => Err(Error::new(
            ErrorKind::Unavailable,
            format!("the Swift that is linked is of version {other}, not {MILWRIGHT_SWIFT_ABI}"),
        )),
    }
}

/// The devices that Core ML can use. macOS 14.
///
/// # Errors
/// Swift is not available, or the system is older.
pub fn devices() -> Result<Vec<Device>> {
    /// There are a handful.
    const MAX: usize = 256;
    availability()?;
    let mut found = [milwright_swift_device { kind: 0, cores: 0 }; MAX];
    // SAFETY: the buffer has room for `MAX` devices.
    let count = unsafe { milwright_swift_devices(found.as_mut_ptr(), MAX as i64) };
    let count = usize::try_from(count)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "listing compute devices needs macOS 14 or newer"))?;
    let device = |device: &milwright_swift_device| match device.kind {
        MILWRIGHT_SWIFT_CPU => Device::Cpu,
        MILWRIGHT_SWIFT_GPU => Device::Gpu,
        MILWRIGHT_SWIFT_NEURAL_ENGINE => {
            Device::NeuralEngine { cores: device.cores.try_into().unwrap_or_default() }
        }
        _ => Device::Other("unknown".into()),
    };
    Ok(found[..count.min(MAX)].iter().map(device).collect())
}

/// A loaded model.
///
/// It may move between threads, but makes one call at a time: while a prediction is in flight, every other call fails
/// with [`Busy`](ErrorKind::Busy).
#[derive(Debug)]
pub struct Model(Arc<Handle>);

/// The states of one model. Predictions with the same `State` continue each other.
///
/// While a prediction with it is in flight, every other use fails with [`Busy`](ErrorKind::Busy).
#[derive(Debug)]
pub struct State(Arc<Handle>);

/// A prediction that may be in flight. Dropping this does not cancel it.
#[derive(Debug)]
pub struct Running(Option<Handle>);

impl Model {
    /// Loads a compiled model. macOS 12.
    ///
    /// `done` gets an error if the path is not UTF-8 or leads to no compiled model, or if this system cannot run the
    /// model or lacks an option.
    pub fn load_async<F>(path: &Path, configuration: &Configuration, done: F)
    where
        F: FnOnce(Result<Model>) + Send + 'static,
    {
        let texts = || {
            availability()?;
            let path = path.to_str().filter(|path| !path.is_empty());
            let path = path.ok_or_else(|| Error::invalid("the path is no text that Core ML can open"))?;
            let text = |text: &Option<String>, what| text.as_ref().map(|t| c_text(t, what)).transpose();
            Ok((
                c_text(path, "path")?,
                text(&configuration.function, "name")?,
                text(&configuration.display_name, "name")?,
            ))
        };
        let (path, function, display_name) = match texts() {
            Ok(texts) => texts,
            Err(e) => return refuse(done, e),
        };
        let hints = configuration.hints;
        let raw = milwright_swift_configuration {
            compute_units: match configuration.compute_units {
                ComputeUnits::CpuOnly => 0,
                ComputeUnits::CpuAndGpu => 1,
                ComputeUnits::All => 2,
                ComputeUnits::CpuAndNeuralEngine => 3,
            },
            function: function.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
            display_name: display_name.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
            low_precision_accumulation: configuration.low_precision_accumulation.into(),
            reshapes: hints.map_or(-1, |hints| match hints.reshapes {
                Reshapes::Frequent => 0,
                Reshapes::Infrequent => 1,
            }),
            specialization: hints.map_or(-1, |hints| match hints.specialization {
                Specialization::Default => 0,
                Specialization::FastPrediction => 1,
            }),
        };
        let done: Done<Handle> = Box::new(move |result| done(result.map(|model| Model(Arc::new(model)))));
        let context = LOADED.add(done);
        // SAFETY: path and configuration are valid during the call; the callback is of the right kind.
        unsafe { milwright_swift_load(path.as_ptr(), &raw, context, loaded) }
    }

    /// Runs the model once, with a state if there is one. macOS 14, with a state macOS 15.
    ///
    /// `done` gets an error if an input is missing, unknown, no array, or of a wrong shape; if the state belongs to
    /// another model; if the prediction was cancelled; or if Core ML fails. `done` may be called before this returns.
    /// Model and state are free again before it is called.
    pub fn predict_async<F>(
        &mut self,
        inputs: &Features,
        state: Option<&mut State>,
        route: Route,
        done: F,
    ) -> Running
    where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        let prepare = || {
            let model = free(&mut self.0, "model")?;
            let state = state.map(|state| free(&mut state.0, "state")).transpose()?;
            Ok((model, state, Inputs::new(inputs)?))
        };
        let (model, state, inputs) = match prepare() {
            Ok(prepared) => prepared,
            Err(e) => {
                refuse(done, e);
                return Running(None);
            }
        };
        let raw_state = state.as_ref().map_or(ptr::null_mut(), |state| state.as_ptr());
        let (raw_model, held) = (model.as_ptr(), (model, state));
        // While the callback holds these, model and state cannot be used otherwise.
        let context = PREDICTED.add(Box::new(move |result| {
            drop(held);
            done(result);
        }));
        let tensors = inputs.tensors();
        // SAFETY: model and state are alive, because `self` and the caller have references. The tensors are valid
        // during the call, and their data until their owners are released. The callbacks are of the right kinds. The
        // returned task comes with a reference.
        let task = unsafe {
            let task = milwright_swift_predict(
                raw_model,
                raw_state,
                tensors.as_ptr(),
                tensors.len() as i64,
                i32::from(route == Route::Tensors),
                context,
                predicted,
                release_owner,
            );
            Handle::own(task)
        };
        Running(task)
    }

    /// Creates states, all zero. macOS 15.
    ///
    /// # Errors
    /// A prediction is in flight, or the system is older.
    pub fn new_state(&mut self) -> Result<State> {
        let model = free(&mut self.0, "model")?;
        let call = |context| {
            // SAFETY: the model is alive; the callback is of the right kind.
            unsafe { milwright_swift_new_state(model.as_ptr(), context, loaded) }
        };
        Ok(State(Arc::new(now(&LOADED, |done: Done<Handle>| done, call)?)))
    }
}

impl State {
    /// Reads a state's value.
    ///
    /// # Errors
    /// There is no state of this name, or a prediction with it is in flight.
    pub fn read(&mut self, name: &str) -> Result<Array> {
        self.access(name, |seen| seen.read())
    }

    /// Replaces a state's value.
    ///
    /// # Errors
    /// There is no state of this name, it has another shape or element type, or a prediction with it is in flight.
    pub fn write(&mut self, name: &str, array: &Array) -> Result<()> {
        let (array, owned) = (array.clone(), name.to_owned());
        self.access(name, move |seen| seen.write(&owned, &array))
    }

    fn access<T: Send + 'static>(
        &mut self,
        name: &str,
        use_it: impl FnOnce(Seen<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = c_text(name, "name")?;
        let state = free(&mut self.0, "state")?;
        let entry = move |done: Done<T>| -> Access {
            Box::new(move |seen: Result<Seen<'_>>| done(seen.and_then(use_it)))
        };
        now(&ACCESSED, entry, |context| {
            // SAFETY: state and name are valid during the call; the callback is of the right kind.
            unsafe { milwright_swift_access_state(state.as_ptr(), name.as_ptr(), context, accessed) }
        })
    }
}

impl Running {
    /// Asks the prediction to stop. Its handler is called in any case: with [`Cancelled`](ErrorKind::Cancelled), or
    /// with the result if the request came too late.
    pub fn cancel(&self) {
        if let Some(task) = &self.0 {
            // SAFETY: the task is alive; Swift lets any thread cancel it, at any time.
            unsafe { milwright_swift_cancel(task.as_ptr()) }
        }
    }
}

/// Takes a second reference, if there is none yet: then no prediction is in flight.
fn free(handle: &mut Arc<Handle>, what: &str) -> Result<Arc<Handle>> {
    match Arc::get_mut(handle) {
        Some(_) => Ok(Arc::clone(handle)),
        None => Err(Error::new(ErrorKind::Busy, format!("a prediction of this {what} has not come back"))),
    }
}
