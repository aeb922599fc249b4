//! Runs backends in worker processes, so that a crash inside Core ML costs one request instead of the caller's
//! process.

mod answer;
mod buffers;
mod restarts;
mod serve;
mod session;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use milwright_worker::Launch;

use crate::{Availability, Backend, LoadOptions, LoadedModel, Model, Result, Unshared};

pub use restarts::RestartPolicy;
pub use serve::{serve, serve_with};
pub use session::IsolatedSession;

/// Whether sessions run in this process or in worker processes.
#[derive(Clone, Debug, Default)]
pub enum Isolation {
    /// Sessions run in this process.
    #[default]
    None,
    /// Each session has its own worker process.
    Process(Process),
}

impl Isolation {
    /// Wraps the backend in an [`Isolated`] one, if worker processes are wanted.
    pub fn apply(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        match self {
            Isolation::None => backend,
            Isolation::Process(process) => Arc::new(Isolated::new(backend, process.clone())),
        }
    }
}

/// How worker processes are started, watched and replaced.
#[derive(Clone)]
pub struct Process {
    /// The worker program and its arguments. When it is started with these, it calls
    /// [`worker::serve`](crate::worker::serve). `milwright worker` is such a program; your own program may be one,
    /// too.
    pub command: Launch,
    /// When a worker that died is replaced.
    pub restarts: RestartPolicy,
    /// Whether to send a request once more, to a new worker, if its worker died. This is never done if a state would
    /// be lost in between. Off by default: a request that kills one worker may kill the next.
    pub retry: bool,
    /// How long to wait after the deadline or after a cancellation for the worker to answer, before it is killed and
    /// its model has to be loaded again. 50 ms by default.
    pub grace: Duration,
    /// How long a worker may take to start and load the model; 10 minutes by default, because Core ML compiles for the
    /// Neural Engine when it loads. A request waits no longer than its own deadline; loading goes on, and the next
    /// request waits for it.
    pub load_timeout: Duration,
    /// Called with the events of workers, on the thread of the request. It must not block.
    pub observer: Option<Observer>,
}

/// Observes the events of workers, for example to count them in metrics.
pub type Observer = Arc<dyn Fn(&WorkerEvent<'_>) + Send + Sync>;

/// An event in the life of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// A process was started.
    Started {
        /// The process ID.
        process: u32,
        /// Whether it replaces one that died.
        restart: bool,
    },
    /// A process died, or was killed because it hung or sent an invalid answer.
    Died {
        /// The process ID.
        process: u32,
        /// How it died, in words.
        how: &'a str,
        /// Whether the states of the session were lost with it.
        state_lost: bool,
    },
    /// Too many processes died in a row: no other one is started.
    GaveUp,
}

impl Process {
    /// The default settings for a command.
    pub fn new(command: Launch) -> Process {
        Process {
            command,
            restarts: RestartPolicy::default(),
            retry: false,
            grace: Duration::from_millis(50),
            load_timeout: Duration::from_secs(600),
            observer: None,
        }
    }

    fn tell(&self, event: &WorkerEvent<'_>) {
        match event {
            WorkerEvent::Started { process, restart } => {
                tracing::debug!(process, restart, "a worker process was started");
            }
            WorkerEvent::Died { process, how, state_lost } => {
                tracing::warn!(process, state_lost, "a worker process died: {how}");
            }
            WorkerEvent::GaveUp => tracing::warn!("too many worker processes died in a row"),
        }
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("command", &self.command)
            .field("restarts", &self.restarts)
            .field("retry", &self.retry)
            .field("grace", &self.grace)
            .field("load_timeout", &self.load_timeout)
            .finish_non_exhaustive()
    }
}

/// A backend whose sessions run in worker processes, one each.
///
/// The worker opens the model's file itself, loads it with the backend of the same name, and keeps the session's
/// states. Inputs and outputs go through shared memory. If the worker dies, its request fails with an error of the
/// kind [`WorkerDied`](crate::ErrorKind::WorkerDied), and the next request starts another worker. States of the
/// session are lost with the worker: all further requests on them fail with an error of the kind
/// [`StateLost`](crate::ErrorKind::StateLost), until [`Session::reset`](crate::Session::reset). A
/// [`State`](crate::State) that the caller passes stays with the caller, and is sent with each request.
///
/// If the cache of compiled plans is on disk, the worker shares it.
#[derive(Clone)]
pub struct Isolated {
    backend: Arc<dyn Backend>,
    process: Process,
    restarts: Arc<AtomicU64>,
}

impl Isolated {
    /// Isolates a backend in worker processes.
    pub fn new(backend: Arc<dyn Backend>, process: Process) -> Isolated {
        Isolated { backend, process, restarts: Arc::default() }
    }

    /// How many workers were started to replace one that died, in all sessions of this backend and its clones.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Opens a session as [`session`](Backend::session) does. The returned session also tells about its worker.
    ///
    /// # Errors
    /// As for `load`; or the worker cannot be started, dies, or takes longer than [`Process::load_timeout`].
    pub fn load_isolated(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<IsolatedSession> {
        IsolatedSession::new(self, model, options)
    }
}

impl Backend for Isolated {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn availability(&self) -> Availability {
        self.backend.availability()
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        let (isolated, model, options) = (self.clone(), Arc::clone(model), options.clone());
        Unshared::load(move || Ok(Box::new(isolated.load_isolated(&model, &options)?)))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        self.backend.is_cached(model, options)
    }
}
