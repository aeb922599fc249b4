//! Backends in a process of their own, so that a crash inside Core ML costs one request and not the caller.

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

use crate::{Availability, Backend, LoadOptions, Model, Result, Session};

pub use restarts::RestartPolicy;
pub use serve::{serve, serve_with};
pub use session::IsolatedSession;

/// Whether sessions run in this process.
#[derive(Clone, Debug, Default)]
pub enum Isolation {
    /// They do.
    #[default]
    None,
    /// Each has a worker process.
    Process(Process),
}

impl Isolation {
    /// The backend, isolated if that is wanted.
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
    /// The program, which calls [`worker::serve`](crate::worker::serve) when it is started so. `milwright worker` is one; your own program may be
    /// another.
    pub command: Launch,
    /// When one that died is replaced.
    pub restarts: RestartPolicy,
    /// Whether a request is sent once more, to a new worker, when its worker died. Never done where a state would be lost
    /// in between. Off by default: a request that kills one worker may kill the next.
    pub retry: bool,
    /// How long a worker that is past a request's deadline may take to say so, and how long the answer to a cancelled
    /// request is waited for, before the worker is killed and its model has to be loaded again. 50 ms by default.
    pub grace: Duration,
    /// How long a worker may take to start and load the model; 10 minutes by default: Core ML compiles for the Neural
    /// Engine when it loads. A request does not wait longer than its own deadline, and the next one waits on.
    pub load_timeout: Duration,
    /// Told what happens to workers, on the thread of the request. It must not block.
    pub observer: Option<Observer>,
}

/// Gets the events of workers: counters of metrics, say.
pub type Observer = Arc<dyn Fn(&WorkerEvent<'_>) + Send + Sync>;

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// A process was started.
    Started {
        /// Its number.
        process: u32,
        /// Whether it takes the place of one that died.
        restart: bool,
    },
    /// A process died, or was killed for it hung or answered nonsense.
    Died {
        /// Its number.
        process: u32,
        /// How, in words.
        how: &'a str,
        /// Whether the states of the session went with it.
        state_lost: bool,
    },
    /// Too many died in a row: there will be no other one.
    GaveUp,
}

impl Process {
    /// The defaults, for a command.
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
/// The worker has a backend of the same name, opens the model's file itself and keeps the session's states. Inputs and
/// outputs go through shared memory. When the worker dies, the request that it had gets an error of the kind
/// [`WorkerDied`](crate::ErrorKind::WorkerDied), and the next request starts another one. States that were in it are lost:
/// every further request on them is an error of the kind [`StateLost`](crate::ErrorKind::StateLost), until
/// [`Session::reset`]. A [`State`](crate::State) of the caller's stays with the caller, and travels with the request.
///
/// The cache of compiled plans is shared with the worker if it is on disk.
#[derive(Clone)]
pub struct Isolated {
    backend: Arc<dyn Backend>,
    process: Process,
    restarts: Arc<AtomicU64>,
}

impl Isolated {
    /// A backend, in processes.
    pub fn new(backend: Arc<dyn Backend>, process: Process) -> Isolated {
        Isolated { backend, process, restarts: Arc::default() }
    }

    /// How often a worker took the place of one that died, over all sessions of this backend and its clones.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// [`load`](Backend::load), with more to ask of the session.
    ///
    /// # Errors
    /// As `load`; and the worker cannot be started, dies, or takes longer than [`Process::load_timeout`].
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

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.load_isolated(model, options)?))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        self.backend.is_cached(model, options)
    }
}
