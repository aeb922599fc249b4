//! Serves many models to many callers. Every call ends by its deadline, and every reply says which backend answered.
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
//! A [`Manager`] owns the models. Each call passes through policies that are independent of each other: [`Deadline`],
//! [`Limit`], [`Batch`], [`Shadow`], [`Fallback`], [`Breaker`], [`Pool`]. The last one hands it to a [`Driver`], the
//! thread that loads and runs the model. Each policy can be used alone, around any implementation of [`Predict`]. They
//! take the time from a [`Clock`].

mod availability;
mod batch;
mod breaker;
mod clock;
mod deadline;
mod driver;
mod fallback;
mod limit;
mod loads;
#[cfg(all(test, loom))]
mod loom;
mod model;
mod pool;
mod predict;
mod shadow;
mod sync;
mod telemetry;

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

/// Owns models and serves them. Clones are the same manager. When the last clone is dropped, models without a
/// [`ModelHandle`] are unloaded.
#[derive(Clone, Debug)]
pub struct Manager {
    commands: mpsc::Sender<Command>,
}

/// The capacity of the command channel. Commands are quick.
const COMMANDS: usize = 64;

impl Manager {
    /// Starts a manager. Call it inside a tokio runtime with time enabled.
    pub fn start() -> Manager {
        Manager::with_clock(Arc::new(SystemClock))
    }

    /// Starts a manager with another clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Manager {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let owner =
            Owner { models: BTreeMap::new(), clock, commands: commands.downgrade(), is_draining: false };
        tokio::spawn(owner.run(queue));
        Manager { commands }
    }

    /// Loads a model under a name, and warms it up. Other models are served in the meantime. Dropping the future
    /// cancels loading.
    ///
    /// # Errors
    /// The name is taken; no backend of the chain loads the model in time (returns the error of the first backend); or
    /// the manager is draining.
    pub async fn load(&self, name: &str, model: Arc<Model>, options: ModelOptions) -> Result<ModelHandle> {
        let name = name.to_owned();
        self.ask(|reply| Command::Load(Box::new(Load { name, model, options, reply }))).await?
    }

    /// Returns the model of this name.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn model(&self, name: &str) -> Result<ModelHandle> {
        let found = self.ask(|reply| Command::Find { name: name.to_owned(), reply }).await?;
        found.ok_or_else(|| unknown(name))
    }

    /// Looks the model up and calls [`ModelHandle::predict`].
    ///
    /// # Errors
    /// As for `ModelHandle::predict`; or there is no such model.
    pub async fn predict(&self, name: &str, call: impl Into<Call>) -> Result<Reply> {
        self.model(name).await?.predict(call).await
    }

    /// The status of all models, sorted by name.
    ///
    /// # Errors
    /// The runtime that the manager was started in has ended.
    pub async fn list(&self) -> Result<Vec<ModelStatus>> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// Unloads a model. It accepts no more calls. Calls that are queued or in flight have `limit` to finish, and then
    /// fail. Returns when the model's threads have ended or were abandoned. Dropping the future does not stop the
    /// unloading.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn unload(&self, name: &str, limit: Duration) -> Result<()> {
        let unloaded = self.ask(|reply| Command::Unload { name: name.to_owned(), limit, reply }).await?;
        if unloaded { Ok(()) } else { Err(unknown(name)) }
    }

    /// Unloads all models, as [`unload`](Manager::unload) does, and refuses to load more.
    pub async fn drain(&self, limit: Duration) {
        // If the owner is gone, there is nothing to drain.
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

/// The commands of the owner task.
#[derive(Debug)]
enum Command {
    Load(Box<Load>),
    /// The backends of the chain have reported their availability.
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

/// A model to load.
#[derive(Debug)]
struct Load {
    name: String,
    model: Arc<Model>,
    options: ModelOptions,
    reply: oneshot::Sender<Result<ModelHandle>>,
}

/// The task that owns the models. It never waits for any of them.
struct Owner {
    models: BTreeMap<String, ModelHandle>,
    clock: Arc<dyn Clock>,
    commands: mpsc::WeakSender<Command>,
    is_draining: bool,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.recv().await {
            // Replies are ignored if the caller no longer waits.
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

    /// Asks the backends for their availability in another task, because they may hang or panic.
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

    /// Checks whether a model may be loaded. If not, replies with the error.
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

/// Closes a model and tells the owner to forget it.
async fn close(model: ModelHandle, limit: Duration, commands: mpsc::WeakSender<Command>) {
    model.close(limit).await;
    if let Some(commands) = commands.upgrade() {
        let _ = commands.send(Command::Forget { model }).await;
    }
}
