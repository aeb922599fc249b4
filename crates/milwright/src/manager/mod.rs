//! Many models, served to many callers: never a hang, never a silent wrong turn.
//!
//! ```
//! # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//! use milwright::manager::{Call, Manager, ModelOptions, Phase};
//! use milwright::{Model, Samples};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let manager = Manager::start();
//! let model = Arc::new(Model::open(format!("{root}examples/digits.mlpackage"))?);
//! let request = Samples::draw(&model, None, 0, 1)?.requests[0].clone();
//! let digits = manager.load("digits", model, ModelOptions::default()).await?;
//! assert_eq!(digits.status().phase, Phase::Ready);
//!
//! let deadline = Some(Instant::now() + Duration::from_secs(10));
//! let reply = digits.predict(Call { deadline, ..Call::from(request) }).await?;
//! println!("{:?} by {}", reply.prediction().outputs()[0].1.shape(), reply.route.backend);
//! for skipped in &reply.route.skipped {
//!     println!("not by {}: {}", skipped.backend, skipped.reason);
//! }
//! manager.drain(Duration::from_secs(10)).await;
//! # Ok::<(), milwright::Error>(())
//! # }).unwrap();
//! ```
//!
//! A [`Manager`] owns the models. Each call runs through policies that know nothing of each other: [`Deadline`],
//! [`Limit`], [`Batch`], [`Shadow`], [`Fallback`], [`Breaker`], [`Pool`]; at their end is a [`Driver`], the thread that
//! loads the model and runs it. Each of them can be used alone, around anything that can [`Predict`]. They take the time from a
//! [`Clock`].

mod availability;
mod batch;
mod breaker;
mod clock;
mod deadline;
mod driver;
mod fallback;
mod limit;
#[cfg(all(test, loom))]
mod loom;
mod model;
mod pool;
mod predict;
mod shadow;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub use batch::{Batch, BatchOptions};
pub use breaker::{Breaker, BreakerOptions, BreakerState};
pub use clock::{Clock, ManualClock, SystemClock};
pub use deadline::Deadline;
pub use driver::{Driver, DriverOptions};
pub use fallback::Fallback;
pub use limit::Limit;
pub use model::{BackendStatus, ModelHandle, ModelOptions, ModelStatus, Phase, ShadowOptions};
pub use pool::Pool;
pub use predict::{BoxFuture, Call, Predict, Priority, Reply, Route, Skipped, WhenFull};
pub use shadow::{Shadow, ShadowStatus};

use crate::{Availability, Error, ErrorKind, Model, Result};

/// Owns many models and serves them. Clones are the same manager; when the last one is gone, models that nobody has a
/// [`ModelHandle`] of end.
#[derive(Clone, Debug)]
pub struct Manager {
    commands: mpsc::Sender<Command>,
}

/// Commands that may wait: they are quick.
const COMMANDS: usize = 64;

impl Manager {
    /// Starts a manager. Call it where a tokio runtime with time is entered.
    pub fn start() -> Manager {
        Manager::with_clock(Arc::new(SystemClock))
    }

    /// Starts a manager that takes the time from a clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Manager {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let owner =
            Owner { models: BTreeMap::new(), clock, commands: commands.downgrade(), is_draining: false };
        tokio::spawn(owner.run(queue));
        Manager { commands }
    }

    /// Loads a model under a name, and warms it up. Other models are served in the meantime, whatever this one does.
    /// Dropping the future gives it up.
    ///
    /// # Errors
    /// The name is taken; no backend of the chain loads the model in time (the error is the first one's); the manager
    /// drains.
    pub async fn load(&self, name: &str, model: Arc<Model>, options: ModelOptions) -> Result<ModelHandle> {
        let name = name.to_owned();
        self.ask(|reply| Command::Load(Box::new(Load { name, model, options, reply }))).await?
    }

    /// A model, by its name.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn model(&self, name: &str) -> Result<ModelHandle> {
        let found = self.ask(|reply| Command::Find { name: name.to_owned(), reply }).await?;
        found.ok_or_else(|| unknown(name))
    }

    /// [`ModelHandle::predict`] of the model of this name.
    ///
    /// # Errors
    /// As there; or there is no such model.
    pub async fn predict(&self, name: &str, call: impl Into<Call>) -> Result<Reply> {
        self.model(name).await?.predict(call).await
    }

    /// All models, by name.
    ///
    /// # Errors
    /// The runtime that the manager was started in is gone.
    pub async fn list(&self) -> Result<Vec<ModelStatus>> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// Unloads a model. It takes no more calls; those that it has are answered, with an error if they are not done
    /// within `limit`. Returns when its threads are gone, or left behind; dropping the future does not stop it.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn unload(&self, name: &str, limit: Duration) -> Result<()> {
        let unloaded = self.ask(|reply| Command::Unload { name: name.to_owned(), limit, reply }).await?;
        if unloaded { Ok(()) } else { Err(unknown(name)) }
    }

    /// Unloads all models, as [`unload`](Manager::unload) does, and loads no more.
    pub async fn drain(&self, limit: Duration) {
        // Where the owner is gone, there is nothing to drain.
        let _ = self.ask(|reply| Command::Drain { limit, reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let gone = || Error::new(ErrorKind::Unavailable, "the manager's runtime has ended");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn unknown(name: &str) -> Error {
    Error::invalid(format!("no model `{name}` is loaded"))
}

/// What the owner is asked to do.
#[derive(Debug)]
enum Command {
    Load(Box<Load>),
    /// The backends of the chain have said whether they are there.
    Add {
        load: Box<Load>,
        chain: Vec<Availability>,
    },
    Find {
        name: String,
        reply: oneshot::Sender<Option<ModelHandle>>,
    },
    List {
        reply: oneshot::Sender<Vec<ModelStatus>>,
    },
    Unload {
        name: String,
        limit: Duration,
        reply: oneshot::Sender<bool>,
    },
    Drain {
        limit: Duration,
        reply: oneshot::Sender<()>,
    },
    /// A model was closed.
    Forget {
        model: ModelHandle,
    },
}

/// A model that is to be loaded.
#[derive(Debug)]
struct Load {
    name: String,
    model: Arc<Model>,
    options: ModelOptions,
    reply: oneshot::Sender<Result<ModelHandle>>,
}

/// The one task that owns the models. It never waits for any of them.
struct Owner {
    models: BTreeMap<String, ModelHandle>,
    clock: Arc<dyn Clock>,
    commands: mpsc::WeakSender<Command>,
    is_draining: bool,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.recv().await {
            // Whoever does not wait for the answer any more does not need it.
            match command {
                Command::Load(load) => self.ask(load),
                Command::Add { load, chain } => self.add(load, chain),
                Command::Find { name, reply } => {
                    let _ = reply.send(self.models.get(&name).cloned());
                }
                Command::List { reply } => {
                    let _ = reply.send(self.models.values().map(ModelHandle::status).collect());
                }
                Command::Unload { name, limit, reply } => match self.models.get(&name) {
                    None => {
                        let _ = reply.send(false);
                    }
                    Some(model) => {
                        let closed = close(model.clone(), limit, self.commands.clone());
                        tokio::spawn(async move {
                            closed.await;
                            let _ = reply.send(true);
                        });
                    }
                },
                Command::Drain { limit, reply } => {
                    self.is_draining = true;
                    let models = self.models.values().cloned();
                    let all: JoinSet<()> = models.map(|m| close(m, limit, self.commands.clone())).collect();
                    tokio::spawn(async move {
                        all.join_all().await;
                        let _ = reply.send(());
                    });
                }
                Command::Forget { model } => {
                    if self.models.get(model.name()).is_some_and(|m| m.is(&model)) {
                        self.models.remove(model.name());
                    }
                }
            }
        }
    }

    /// Has the backends asked whether they are there, elsewhere: they may hang, or panic.
    fn ask(&self, load: Box<Load>) {
        let Some(mut load) = self.accept(load) else { return };
        let (clock, commands) = (Arc::clone(&self.clock), self.commands.clone());
        tokio::spawn(async move {
            let asked = availability::ask(&load.options.chain, load.options.driver.load_timeout, &*clock);
            let chain = tokio::select! {
                biased;
                chain = asked => chain,
                () = load.reply.closed() => return,
            };
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Add { load, chain }).await;
            }
        });
    }

    /// A model that may be loaded. One that may not is answered.
    fn accept(&self, load: Box<Load>) -> Option<Box<Load>> {
        let error = if self.is_draining {
            Error::new(ErrorKind::Unavailable, "the manager takes no more models")
        } else if self.models.contains_key(&load.name) {
            let error = Error::invalid(format!("a model `{}` is loaded already", load.name));
            error.with_hint("unload it first, or use another name")
        } else {
            return Some(load);
        };
        let _ = load.reply.send(Err(error));
        None
    }

    fn add(&mut self, load: Box<Load>, chain: Vec<Availability>) {
        let Some(load) = self.accept(load) else { return };
        let Load { name, model, options, mut reply } = *load;
        let model = ModelHandle::new(&name, &model, options, chain, Arc::clone(&self.clock));
        self.models.insert(name, model.clone());
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let loaded = tokio::select! {
                biased;
                loaded = model.warm_up() => loaded,
                () = reply.closed() => Err(Error::new(ErrorKind::Cancelled, "loading was given up")),
            };
            if loaded.is_err() {
                close(model.clone(), Duration::ZERO, commands).await;
            }
            let _ = reply.send(loaded.map(|()| model));
        });
    }
}

/// Closes a model and has the owner forget it.
async fn close(model: ModelHandle, limit: Duration, commands: mpsc::WeakSender<Command>) {
    model.close(limit).await;
    if let Some(commands) = commands.upgrade() {
        let _ = commands.send(Command::Forget { model }).await;
    }
}
