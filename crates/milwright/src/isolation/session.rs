//! A session whose model is in a worker process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use milwright_mil::{DType, Tensor};
use milwright_worker::{Error as WorkerError, Patience, Worker};

use super::answer::{Answered, Expected, receive};
use super::buffers::Buffers;
use super::restarts::{Held, Restarts};
use super::wire::{self, IDENTITY, Load, Predict, Settings};
use super::{Isolated, Process, WorkerEvent};
use crate::{
    Cancel, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, Model, PlanOrigin, PredictOptions,
    Prediction, Result, Session, State, telemetry,
};

/// A model in a worker process.
pub struct IsolatedSession {
    process: Process,
    backend: &'static str,
    model: Arc<Model>,
    path: PathBuf,
    options: LoadOptions,
    worker: Stage,
    restarts: Restarts,
    /// The number of workers that were started.
    started: u64,
    /// The number of replaced workers in all sessions of the backend.
    total: Arc<AtomicU64>,
    loaded: Loaded,
    states: Vec<(String, DType, Vec<usize>)>,
    memory: Memory,
    buffers: Buffers,
}

enum Stage {
    /// There is no worker yet, or the last one is gone.
    None,
    /// The worker was asked to load the model, and has not answered yet.
    Loading {
        worker: Worker,
        since: Instant,
    },
    Ready(Worker),
}

/// The states that the worker keeps between requests that carry no state.
enum Memory {
    /// None: the model is stateless, or all its states are zero.
    Empty,
    /// The states that earlier requests have written.
    Kept,
    /// The states were lost with the worker; the text says how it died.
    Lost(String),
}

impl IsolatedSession {
    pub(super) fn new(isolated: &Isolated, model: &Arc<Model>, options: &LoadOptions) -> Result<Self> {
        // Errors in the request are reported before a process is started.
        if model.program().is_ok() {
            model.function(options.function.as_deref())?;
        }
        let path = std::path::absolute(model.path()).map_err(|e| Error::io("find", model.path(), e))?;
        if !path.exists() {
            let error = Error::new(ErrorKind::Unsupported, "a worker process cannot open it: it has no file");
            return Err(error.with_hint("write the model to a file, and open that").at(model.path()));
        }
        let backend = isolated.backend.name();
        let mut session = IsolatedSession {
            process: isolated.process.clone(),
            backend,
            model: Arc::clone(model),
            path,
            options: options.clone(),
            worker: Stage::None,
            restarts: Restarts::new(isolated.process.restarts),
            started: 0,
            total: Arc::clone(&isolated.restarts),
            loaded: Loaded {
                backend,
                plan: PlanOrigin::Compiled,
                plan_path: None,
                duration: Duration::ZERO,
                arena_bytes: 0,
                weight_bytes: 0,
            },
            states: Vec::new(),
            memory: Memory::Empty,
            buffers: Buffers::default(),
        };
        session.ready(None, &Cancel::default())?;
        Ok(session)
    }

    /// How often this session's worker was replaced.
    pub fn restarts(&self) -> u64 {
        self.started.saturating_sub(1)
    }

    /// The process ID of the worker, if there is one.
    pub fn process(&self) -> Option<u32> {
        match &self.worker {
            Stage::None => None,
            Stage::Loading { worker, .. } | Stage::Ready(worker) => Some(worker.id()),
        }
    }

    fn attempt(
        &mut self,
        request: &InferenceRequest,
        options: &mut PredictOptions<'_>,
        own: bool,
    ) -> Result<Prediction> {
        self.ready(options.deadline, &options.cancel)?;
        let Stage::Ready(worker) = &mut self.worker else { unreachable!("it is ready") };
        let left = options.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let error = Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the model ran");
            return Err(error.at(self.model.path()));
        }
        let mut blobs = Vec::new();
        let inputs = request.inputs().iter().map(|(n, t)| wire::pack(n, t, &mut blobs)).collect();
        let names = request.inputs().iter().map(|(n, _)| n);
        let keys = names.filter_map(|n| Some(wire::pack(n, request.keys(n)?, &mut blobs))).collect();
        let state = match options.state.as_deref() {
            None => None,
            Some(state) => {
                let named = state.names().into_iter().map(|n| Ok(wire::pack(n, state.read(n)?, &mut blobs)));
                Some(named.collect::<Result<_>>()?)
            }
        };
        let message = wire::encode(&wire::Request::Predict(Predict { inputs, keys, state, left }))?;
        let latest = options.deadline.and_then(|deadline| deadline.checked_add(self.process.grace));
        let stop = || options.cancel.is_cancelled() || self.options.cancel.is_cancelled();
        let patience = Patience { deadline: latest, stop: Some(&stop) };
        let expected =
            Expected { model: &self.model, options: &self.options, state: options.state.as_deref() };
        let answered = worker.send(&message, &blobs, patience).and_then(|()| {
            let waited = match worker.wait(patience) {
                // It may be about to answer, and a short wait is cheaper than loading the model again.
                Err(WorkerError::Stopped) => worker.wait(within(self.process.grace)).map_err(|e| match e {
                    WorkerError::Deadline => WorkerError::Stopped,
                    error => error,
                }),
                waited => waited,
            };
            waited.inspect_err(|_| worker.end())?;
            let patience = if stop() { within(self.process.grace) } else { patience };
            receive(worker, patience, &expected, &mut self.buffers)
        });
        let cancelled = stop();
        let answered = answered.map_err(|error| self.gone(error))?;
        self.restarts.answered();
        if own {
            self.memory = Memory::Kept;
        }
        match answered {
            _ if cancelled => Err(Error::new(ErrorKind::Cancelled, "cancelled").at(self.model.path())),
            Answered::Predicted { outputs, classes, keys, state } => {
                if let Some(ours) = options.state.as_deref_mut() {
                    state.iter().try_for_each(|(name, tensor)| ours.write(name, tensor))?;
                }
                self.buffers.keep(outputs.iter().map(|(_, tensor)| tensor));
                let prediction = Prediction::new(outputs);
                let prediction = keys.into_iter().fold(prediction, |p, (name, keys)| p.with_keys(name, keys));
                Ok(match classes {
                    Some(classes) => prediction.with_classes(classes),
                    None => prediction,
                })
            }
            Answered::Failed(error) => Err(error),
            _ => Err(self.nonsense()),
        }
    }

    /// Makes sure that a worker has loaded the model.
    fn ready(&mut self, deadline: Option<Instant>, cancel: &Cancel) -> Result<()> {
        cancel.check()?;
        self.options.cancel.check()?;
        if let Stage::None = self.worker {
            self.start()?;
        }
        let Stage::Loading { worker, since } = &mut self.worker else { return Ok(()) };
        let latest = since.checked_add(self.process.load_timeout);
        let stop = || cancel.is_cancelled() || self.options.cancel.is_cancelled();
        let patience = Patience { deadline: deadline.into_iter().chain(latest).min(), stop: Some(&stop) };
        match worker.wait(patience) {
            Ok(()) => {}
            // The worker goes on loading, for the next request.
            Err(WorkerError::Deadline) if latest.is_none_or(|latest| Instant::now() < latest) => {
                let error =
                    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed while the model was loaded");
                return Err(error.at(self.model.path()));
            }
            Err(WorkerError::Stopped) if cancel.is_cancelled() => return cancel.check(),
            Err(WorkerError::Deadline) => {
                worker.end();
                let how = format!("killed: it did not load the model within {:?}", self.process.load_timeout);
                return Err(self.gone(WorkerError::Died(how)));
            }
            Err(error) => return Err(self.gone(error)),
        }
        let expected = Expected { model: &self.model, options: &self.options, state: None };
        let patience = Patience { deadline: latest, stop: Some(&stop) };
        match receive(worker, patience, &expected, &mut self.buffers).map_err(|error| self.gone(error))? {
            Answered::Loaded { ready, states } => {
                (self.loaded, self.states) = (ready.loaded(self.backend), states);
                if let Stage::Loading { worker, .. } = std::mem::replace(&mut self.worker, Stage::None) {
                    self.worker = Stage::Ready(worker);
                }
                Ok(())
            }
            Answered::Failed(error) => {
                // No worker died, but this counts as a death, so that repeated attempts have a pause between them.
                self.worker = Stage::None;
                self.restarts.died(Instant::now());
                Err(error)
            }
            _ => Err(self.nonsense()),
        }
    }

    /// Starts a worker and asks it to load the model.
    fn start(&mut self) -> Result<()> {
        let held = |kind, message: String| Error::new(kind, message).at(self.model.path());
        match self.restarts.check(Instant::now()) {
            Ok(()) => {}
            Err(Held::For(pause)) => {
                let message = format!("its worker processes died: the next one may start in {pause:.1?}");
                let error = held(ErrorKind::WorkerDied, message);
                return Err(error.with_hint("try again later"));
            }
            Err(Held::Forever(deaths)) => {
                let message = format!("{deaths} worker processes died in a row: there will be no other");
                let error = held(ErrorKind::Unavailable, message);
                return Err(error.with_hint("the log says how they died; load the model again to go on"));
            }
        }
        let load = wire::Request::Load(Load {
            backend: self.backend.to_owned(),
            model: self.path.clone(),
            digest: self.model.digest(),
            settings: Settings::new(&self.options),
        });
        let message = wire::encode(&load)?;
        let mut worker = Worker::start(&self.process.command, IDENTITY).map_err(|error| self.gone(error))?;
        let restart = self.started > 0;
        self.started += 1;
        self.total.fetch_add(u64::from(restart), Ordering::Relaxed);
        if restart {
            telemetry::worker_restarted(self.backend);
        }
        self.process.tell(&WorkerEvent::Started { process: worker.id(), restart });
        let sent = worker.send(&message, &[], Patience::default());
        self.worker = Stage::Loading { worker, since: Instant::now() };
        sent.map_err(|error| self.gone(error))
    }

    /// Turns an error of the worker into one for the caller. Unless the worker survived the error, records its death.
    fn gone(&mut self, error: WorkerError) -> Error {
        let at = |kind, message: String| Error::new(kind, message).at(self.model.path());
        let told = match &error {
            WorkerError::TooLarge(_) | WorkerError::Memory(_) => {
                return at(ErrorKind::Runtime, error.to_string());
            }
            WorkerError::Deadline => {
                let message = "the deadline passed, and the worker process did not stop: it was killed";
                at(ErrorKind::DeadlineExceeded, message.into())
            }
            WorkerError::Stopped => at(ErrorKind::Cancelled, "cancelled".into()),
            WorkerError::Start { .. } | WorkerError::Unsupported => {
                at(ErrorKind::Unavailable, error.to_string())
            }
            WorkerError::Identity { .. } => at(ErrorKind::Unavailable, error.to_string())
                .with_hint("start a worker of the same version of Milwright"),
            _ => at(ErrorKind::WorkerDied, error.to_string())
                .with_hint("the next request starts another one; send this one again if that is safe"),
        };
        let how = match error {
            WorkerError::Died(how) => how,
            error => error.to_string(),
        };
        let process = self.process();
        self.worker = Stage::None;
        let state_lost = matches!(self.memory, Memory::Kept);
        if let Some(process) = process {
            self.process.tell(&WorkerEvent::Died { process, how: &how, state_lost });
        }
        // A worker that was killed because the caller cancelled does not count as a death.
        if told.kind() != ErrorKind::Cancelled {
            let before = self.restarts.gave_up();
            self.restarts.died(Instant::now());
            if self.restarts.gave_up() && !before {
                self.process.tell(&WorkerEvent::GaveUp);
            }
        }
        if !state_lost {
            return told;
        }
        self.memory = Memory::Lost(how);
        told.with_hint("the states of the session are lost with it: reset the session to begin anew")
    }

    /// Kills a worker that answered another request than the current one.
    fn nonsense(&mut self) -> Error {
        if let Stage::Loading { worker, .. } | Stage::Ready(worker) = &mut self.worker {
            worker.end();
        }
        self.gone(WorkerError::Garbage("the answer to another request".into()))
    }
}

fn within(time: Duration) -> Patience<'static> {
    Patience { deadline: Instant::now().checked_add(time), stop: None }
}

impl Session for IsolatedSession {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        mut options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let own = !self.states.is_empty() && options.state.is_none();
        let mut tries = if self.process.retry { 2 } else { 1 };
        loop {
            if let Memory::Lost(how) = &self.memory
                && own
            {
                let message = format!("the states of the session were lost with its worker process: {how}");
                return Err(Error::new(ErrorKind::StateLost, message)
                    .with_hint("reset the session, and begin anew")
                    .at(self.model.path()));
            }
            tries -= 1;
            match self.attempt(request, &mut options, own) {
                Err(error) if error.kind() == ErrorKind::WorkerDied && tries > 0 => {
                    if own && matches!(self.memory, Memory::Lost(_)) {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    fn reset(&mut self) -> Result<()> {
        if let (Memory::Kept, Stage::Ready(worker)) = (&self.memory, &mut self.worker) {
            let request = wire::encode(&wire::Request::Reset)?;
            let patience = within(self.process.load_timeout);
            let expected = Expected { model: &self.model, options: &self.options, state: None };
            let answered = worker
                .send(&request, &[], patience)
                .and_then(|()| receive(worker, patience, &expected, &mut self.buffers));
            match answered {
                Ok(Answered::Reset) => {}
                Ok(Answered::Failed(error)) => return Err(error),
                Ok(_) => drop(self.nonsense()),
                // The worker is gone. The next one begins with zeros.
                Err(error) => drop(self.gone(error)),
            }
        }
        self.memory = Memory::Empty;
        Ok(())
    }

    fn new_state(&self) -> State {
        let mut state = State::default();
        for (name, dtype, shape) in &self.states {
            let len = dtype.byte_len(shape.iter().product()).unwrap_or_default();
            if let Ok(zeros) = Tensor::from_bytes(*dtype, shape, vec![0; len].into()) {
                state.0.set(name, zeros);
            }
        }
        state
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}
