//! The worker process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use milwright_mil::Tensor;
use milwright_worker::{Request, Service};

use super::buffers::Buffers;
use super::wire::{self, Answer, Failure, Load, Misfit, Named, Predict, Ready};
use crate::{
    Backend, Dictionary, Error, ErrorKind, InferenceRequest, Model, PredictOptions, Result, Session, State,
    backends,
};

/// Runs a worker process: answers the requests of an [`Isolated`](super::Isolated) backend with any of [`backends`].
/// Returns when the parent no longer needs it. If the parent ends, the process is killed.
///
/// A program that is its own worker calls this at the start of `main`, before it reads standard input or starts
/// anything else:
///
/// ```no_run
/// # fn main() -> milwright::Result<()> {
/// if std::env::args().nth(1).as_deref() == Some("worker") {
///     return milwright::worker::serve();
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The process was not started as a worker, or was started by another version of Milwright.
pub fn serve() -> Result<()> {
    serve_with(&backends())
}

/// Runs a worker as [`serve()`] does, with other backends. The parent chooses one by name.
///
/// # Errors
/// As for `serve`.
pub fn serve_with(backends: &[Box<dyn Backend>]) -> Result<()> {
    let invalid = |e: milwright_worker::Error| {
        Error::invalid(e.to_string())
            .with_hint("Milwright starts this by itself; there is no use in doing so by hand")
    };
    let mut service = Service::connect(wire::IDENTITY).map_err(invalid)?;
    let mut loaded = None;
    while let Some(mut request) = service.receive().map_err(invalid)? {
        let outcome = answer(&mut request, &mut loaded, backends).unwrap_or_else(|e| failed(&e));
        let (message, blobs) = encode(&outcome)?;
        if let Err(e) = service.reply(&message, &blobs) {
            // The outputs are too large, or memory is short: report that to the parent.
            let error = Error::new(ErrorKind::Runtime, format!("the outputs cannot be returned: {e}"));
            service.reply(&encode(&failed(&error))?.0, &[]).map_err(invalid)?;
        }
        // The next request waits for abandoned predictions. If they take too long, the parent kills this process.
        if let Some(ours) = &mut loaded {
            ours.session.rest();
        }
    }
    Ok(())
}

/// The model that this process has loaded.
struct Ours {
    session: Box<dyn Session>,
    /// Holds the state that comes with a request: overwritten by each such request.
    state: State,
    buffers: Buffers,
}

/// The answer to a request.
enum Outcome {
    Message(Answer),
    Predicted(Tensors),
}

/// The tensors of an answer, by name.
struct Tensors {
    outputs: Vec<(String, Tensor)>,
    classes: Option<Tensor>,
    keys: Vec<(String, Tensor)>,
    state: Option<Vec<(String, Tensor)>>,
}

fn answer(
    request: &mut Request<'_>,
    ours: &mut Option<Ours>,
    backends: &[Box<dyn Backend>],
) -> Result<Outcome> {
    let message = postcard::from_bytes(&request.message)
        .map_err(|e| Error::from(Misfit(format!("a request that is none: {e}"))))?;
    let loaded = ours.as_mut().ok_or_else(|| Error::invalid("no model is loaded"));
    match message {
        wire::Request::Load(load) => {
            let (loaded, ready) = load_model(load, backends)?;
            *ours = Some(loaded);
            Ok(Outcome::Message(Answer::Loaded(ready)))
        }
        wire::Request::Predict(message) => Ok(Outcome::Predicted(predict(message, request, loaded?)?)),
        wire::Request::Reset => {
            loaded?.session.reset()?;
            Ok(Outcome::Message(Answer::Reset))
        }
    }
}

fn load_model(load: Load, backends: &[Box<dyn Backend>]) -> Result<(Ours, Ready)> {
    let backend = backends.iter().find(|b| b.name() == load.backend).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("the worker process has no backend `{}`", load.backend))
    })?;
    let model = Arc::new(Model::open(&load.model)?);
    if model.digest() != load.digest {
        let error = Error::new(ErrorKind::Unavailable, "the file has changed since it was opened");
        return Err(error.with_hint("open the model again").at(&load.model));
    }
    let session = backend.session(&model, &load.settings.into_options())?;
    let state = session.new_state();
    let mut states = Vec::new();
    for name in state.names() {
        let tensor = state.read(name)?;
        states.push((name.to_owned(), tensor.dtype().name().to_owned(), tensor.shape().to_vec()));
    }
    let loaded = session.loaded().clone();
    let ready = Ready {
        plan: loaded.plan,
        plan_path: loaded.plan_path,
        duration: loaded.duration,
        arena_bytes: loaded.arena_bytes,
        weight_bytes: loaded.weight_bytes,
        states,
    };
    Ok((Ours { session, state, buffers: Buffers::default() }, ready))
}

fn predict(message: Predict, request: &mut Request<'_>, ours: &mut Ours) -> Result<Tensors> {
    let deadline = message.left.and_then(|left| Instant::now().checked_add(left));
    let keys: BTreeMap<String, Tensor> =
        unpack(message.keys, request, &mut Buffers::default())?.into_iter().collect();
    let mut inputs = InferenceRequest::new();
    for (name, tensor) in unpack(message.inputs, request, &mut ours.buffers)? {
        inputs = match keys.get(&name) {
            Some(keys) => inputs.dictionary(name, Dictionary::new(keys.clone(), tensor)?),
            None => inputs.input(name, tensor),
        };
    }
    ours.buffers.keep(inputs.inputs().iter().map(|(_, tensor)| tensor));
    let given = message.state.is_some();
    let mut missing =
        if given { ours.state.names().into_iter().map(str::to_owned).collect() } else { Vec::new() };
    for (name, tensor) in unpack(message.state.unwrap_or_default(), request, &mut Buffers::default())? {
        ours.state.write(&name, &tensor)?;
        missing.retain(|n| *n != name);
    }
    if let Some(name) = missing.first() {
        // Otherwise the prediction would read that state of an earlier request.
        return Err(Error::invalid(format!("the state `{name}` is missing: it is of another model")));
    }
    let options = PredictOptions { state: given.then_some(&mut ours.state), deadline, ..Default::default() };
    let prediction = ours.session.predict_with(&inputs, options)?;
    let mut state = None;
    if given {
        let read = |name: &str| Ok((name.to_owned(), ours.state.read(name)?.clone()));
        state = Some(ours.state.names().into_iter().map(read).collect::<Result<_>>()?);
    }
    let classes = prediction.classes().cloned();
    let keys = prediction.all_keys().clone().into_iter().collect();
    Ok(Tensors { outputs: prediction.into_outputs(), classes, keys, state })
}

fn unpack(
    named: Vec<Named>,
    request: &mut Request<'_>,
    buffers: &mut Buffers,
) -> Result<Vec<(String, Tensor)>> {
    let lens = request.blob_lens();
    let mut blob = |n, buffer| request.blob(n, buffer).map_err(|e| Misfit(e.to_string()));
    let tensors = named.into_iter().map(|named| wire::unpack(named, &lens, buffers, &mut blob));
    Ok(tensors.collect::<Result<_, Misfit>>()?)
}

fn failed(error: &Error) -> Outcome {
    Outcome::Message(Answer::Failed(Failure::from(error)))
}

/// Encodes the message, and collects the blobs that go to shared memory.
fn encode(outcome: &Outcome) -> Result<(Vec<u8>, Vec<&[u8]>)> {
    let mut blobs = Vec::new();
    let message = match outcome {
        Outcome::Message(answer) => wire::encode(answer)?,
        Outcome::Predicted(Tensors { outputs, classes, keys, state }) => {
            let outputs = pack_all(outputs, &mut blobs);
            let keys = pack_all(keys, &mut blobs);
            let state = state.as_ref().map(|state| pack_all(state, &mut blobs));
            let classes = classes.as_ref().map(|t| wire::pack("classes", t, &mut blobs));
            wire::encode(&Answer::Predicted { outputs, classes, keys, state })?
        }
    };
    Ok((message, blobs))
}

fn pack_all<'a>(tensors: &'a [(String, Tensor)], blobs: &mut Vec<&'a [u8]>) -> Vec<Named> {
    tensors.iter().map(|(name, tensor)| wire::pack(name, tensor, blobs)).collect()
}
