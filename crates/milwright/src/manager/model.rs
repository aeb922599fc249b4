//! One model of the manager: the policies, put together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::clock::after;
use super::driver::{Driver, DriverOptions};
use super::{
    Batch, BatchOptions, Breaker, BreakerOptions, BreakerState, Call, Clock, Deadline, Fallback, Limit, Pool,
    Predict, Reply, Shadow, ShadowStatus, Skipped,
};
use crate::telemetry::{self, Labels};
use crate::{
    Availability, Candidate, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, Model, Result, Target,
};

/// How the manager serves a model.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// The backends to try, in turn.
    pub chain: Vec<Candidate>,
    /// How each of them loads the model; compute units come from the candidate, cancelling from the manager.
    pub load: LoadOptions,
    /// Load all of the chain at once, not only what is needed: a fallback finds its model ready, for the memory of one
    /// more.
    pub standby: bool,
    /// Run once by each session, when the model is loaded: caches fill, and what cannot run is known before the first
    /// call.
    pub warm_up: Option<InferenceRequest>,
    /// How many sessions each backend of the chain has, at least one: so many calls run side by side. Each has a thread
    /// and memory of its own; only with a cache in `load` do they share the weights, those of a large model. Their
    /// `load.threads` should share the cores.
    pub sessions: usize,
    /// How many calls go to the backends at a time; never less than there are sessions. More wait for a session, in the
    /// order that they came.
    pub concurrency: usize,
    /// How many calls may wait.
    pub queue: usize,
    /// The longest that a call may take, waiting included.
    pub deadline: Option<Duration>,
    /// The longest that one backend may take for a call before the next one gets it.
    pub attempt: Option<Duration>,
    /// How long backends may take to load, and to stop.
    pub driver: DriverOptions,
    /// When a backend that fails is left alone.
    pub breaker: BreakerOptions,
    /// Puts calls together; `None` does not.
    pub batch: Option<BatchOptions>,
    /// Compares two backends on live traffic; `None` does not.
    pub shadow: Option<ShadowOptions>,
}

impl Default for ModelOptions {
    /// What this machine has, one call at a time; 256 may wait, and a call takes half a minute at most.
    fn default() -> ModelOptions {
        ModelOptions {
            chain: Target::Auto.chain(),
            load: LoadOptions::default(),
            standby: false,
            warm_up: None,
            sessions: 1,
            concurrency: 1,
            queue: 256,
            deadline: Some(Duration::from_secs(30)),
            attempt: Some(Duration::from_secs(10)),
            driver: DriverOptions::default(),
            breaker: BreakerOptions::default(),
            batch: None,
            shadow: None,
        }
    }
}

/// The backend that a model's outputs are compared with.
#[derive(Clone, Debug)]
pub struct ShadowOptions {
    /// The other backend.
    pub candidate: Candidate,
    /// The share of calls to compare, 0 to 1.
    pub rate: f64,
    /// What is further away than this is a mismatch, in dB.
    pub snr_db: f64,
}

/// How a model of the manager is.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// The name that it was loaded by.
    pub name: String,
    /// Whether it has been loaded, and takes calls.
    pub phase: Phase,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// The chain, in order, without what this machine does not have.
    pub backends: Vec<BackendStatus>,
    /// What this machine does not have, and why.
    pub absent: Vec<Skipped>,
    /// What comparing two backends found.
    pub shadow: Option<ShadowStatus>,
}

/// Where a model is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is being loaded; calls wait.
    Loading,
    /// It takes calls.
    Ready,
    /// It takes no more calls.
    Closing,
}

/// One backend of a model.
#[derive(Clone, Debug, Serialize)]
pub struct BackendStatus {
    /// The candidate's name.
    pub name: String,
    /// How the model was made ready, if it was: by the first session.
    pub loaded: Option<Loaded>,
    /// Sessions that the model was made ready for.
    pub sessions: usize,
    /// What its breaker lets through.
    pub breaker: BreakerState,
    /// Threads that hung in it and were left behind.
    pub abandoned_threads: u64,
    /// Of these, the ones that have not come back.
    pub hung_threads: usize,
}

/// A model that a manager serves. Clones are the same model.
#[derive(Clone)]
pub struct ModelHandle(Arc<Entry>);

struct Entry {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    links: Vec<Link>,
    absent: Vec<Skipped>,
    stack: Arc<dyn Predict>,
    limit: Arc<Limit<Arc<dyn Predict>>>,
    shadow: Option<Compared>,
    options: ModelOptions,
    is_ready: AtomicBool,
    is_closing: AtomicBool,
    /// Each call reads; who closes writes, and so waits for the calls.
    calls: RwLock<()>,
    /// Ends the calls that are left.
    stop: watch::Sender<bool>,
}

/// The chain with a shadow, and the shadow's thread.
struct Compared {
    chain: Arc<Shadow<Fallback<Link>>>,
    driver: Arc<Driver>,
}

/// One backend: its breaker, and its sessions, each with a deadline.
#[derive(Clone)]
struct Link {
    breaker: Arc<Breaker<Pool<Deadline<Arc<Driver>>>>>,
    sessions: Vec<Arc<Driver>>,
    labels: Labels,
}

impl Predict for Link {
    fn predict(&self, call: Call) -> super::BoxFuture<'_, Result<Reply>> {
        self.breaker.predict(call)
    }
}

impl ModelHandle {
    /// Puts the policies together. A call goes through them from the outside in: its deadline, its turn, batches, shadow,
    /// the chain; and for each backend its breaker, a session that is free, its own deadline, and its thread. `chain` says
    /// of each candidate whether it is there.
    pub(crate) fn new(
        name: &str,
        model: &Arc<Model>,
        options: ModelOptions,
        chain: Vec<Availability>,
        clock: Arc<dyn Clock>,
    ) -> ModelHandle {
        let name: Arc<str> = name.into();
        let labels = |c: &Candidate| Labels { model: Arc::clone(&name), backend: c.name().into() };
        let driver = |candidate: &Candidate| {
            let (model, candidate, labels) = (Arc::clone(model), candidate.clone(), labels(candidate));
            let (load, clock) = (options.load.clone(), Arc::clone(&clock));
            Arc::new(Driver::new(model, candidate, load, options.driver, clock, labels))
        };
        // Whoever waited for most of an attempt was in no hurry.
        let patience = options.attempt.map_or(Duration::MAX, |attempt| attempt / 4 * 3);
        let patience = options.breaker.patience.min(patience);
        let breaker_options = BreakerOptions { patience, ..options.breaker };
        let (mut links, mut absent) = (Vec::new(), Vec::new());
        for (candidate, availability) in options.chain.iter().zip(chain) {
            if !availability.available {
                absent.push(Skipped { backend: candidate.name(), reason: availability.reason });
                continue;
            }
            let labels = labels(candidate);
            let sessions: Vec<_> = (0..options.sessions.max(1)).map(|_| driver(candidate)).collect();
            // Waiting for one that is free is no fault of the backend's: its time begins after that.
            let guarded = sessions.iter().map(|driver| attempt(Arc::clone(driver), &options, &clock));
            let pool = Pool::new(guarded.collect());
            let breaker = Breaker::new(pool, breaker_options, Arc::clone(&clock), labels.clone());
            links.push(Link { breaker: Arc::new(breaker), sessions, labels });
        }
        let chain = links.iter().map(|link| (link.labels.clone(), link.clone())).collect();
        let chain = Fallback::new(chain, absent.clone(), Arc::clone(&clock));
        let (inner, shadow): (Arc<dyn Predict>, _) = match &options.shadow {
            None => (Arc::new(chain), None),
            Some(shadow) => {
                let driver = driver(&shadow.candidate);
                let other = Arc::new(attempt(Arc::clone(&driver), &options, &clock));
                let labels = labels(&shadow.candidate);
                let chain = Arc::new(Shadow::new(chain, other, shadow.rate, shadow.snr_db, labels));
                (Arc::clone(&chain) as Arc<dyn Predict>, Some(Compared { chain, driver }))
            }
        };
        let concurrency = options.concurrency.max(options.sessions);
        let (inner, concurrency): (Arc<dyn Predict>, _) = match options.batch {
            None => (inner, concurrency),
            // Batches run side by side, too.
            Some(batch) => {
                let concurrency = concurrency.max(batch.size.saturating_mul(options.sessions.max(1)));
                (Arc::new(Batch::new(inner, batch, Arc::clone(&clock))), concurrency)
            }
        };
        let limit =
            Arc::new(Limit::new(inner, concurrency, options.queue, Arc::clone(&clock), Arc::clone(&name)));
        let outer = Deadline::new(Arc::clone(&limit), options.deadline, "the call", Arc::clone(&clock));
        ModelHandle(Arc::new(Entry {
            name,
            clock,
            links,
            absent,
            stack: Arc::new(outer),
            limit,
            shadow,
            options,
            is_ready: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            calls: RwLock::new(()),
            stop: watch::Sender::new(false),
        }))
    }

    /// The name that the model was loaded by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs the model. Dropping the future gives the call up: if it waits, it leaves the queue; if it runs, the backend
    /// is told to stop.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded): too many wait. [`DeadlineExceeded`](ErrorKind::DeadlineExceeded).
    /// [`Unavailable`](ErrorKind::Unavailable): the model is being unloaded, or no backend is well. Or what
    /// [`Session::predict_with`](crate::Session::predict_with) says, of the last backend that was tried.
    pub async fn predict(&self, call: impl Into<Call>) -> Result<Reply> {
        let entry = &*self.0;
        let Some(_counted) = entry.calls.try_read().ok().filter(|_| !self.is_closing()) else {
            telemetry::answered(&entry.name, Err(ErrorKind::Unavailable), Duration::ZERO);
            return Err(self.closed());
        };
        let start = entry.clock.now();
        let span = tracing::debug_span!("predict", model = %entry.name, backend = tracing::field::Empty);
        let mut stop = entry.stop.subscribe();
        let call = call.into();
        let reply = async {
            tokio::select! {
                biased;
                reply = entry.stack.predict(call) => reply,
                _ = stop.wait_for(|stop| *stop) => Err(self.closed()),
            }
        };
        let reply = reply.instrument(span.clone()).await;
        let outcome = reply.as_ref().map(|r| r.route.backend.as_str()).map_err(Error::kind);
        span.record("backend", outcome.unwrap_or("none"));
        telemetry::answered(&entry.name, outcome, entry.clock.now().saturating_duration_since(start));
        reply
    }

    /// How the model is.
    pub fn status(&self) -> ModelStatus {
        let entry = &*self.0;
        let (running, waiting) = entry.limit.depth();
        let phase = match (self.is_closing(), entry.is_ready.load(Ordering::Acquire)) {
            (true, _) => Phase::Closing,
            (false, true) => Phase::Ready,
            (false, false) => Phase::Loading,
        };
        let backend = |link: &Link| {
            let drivers = &link.sessions;
            let threads = || drivers.iter().map(|driver| driver.abandoned());
            let loaded: Vec<Loaded> = drivers.iter().filter_map(|driver| driver.loaded()).collect();
            BackendStatus {
                name: link.labels.backend.to_string(),
                sessions: loaded.len(),
                loaded: loaded.into_iter().next(),
                breaker: link.breaker.state(),
                abandoned_threads: threads().map(|(ever, _)| ever).sum(),
                hung_threads: threads().map(|(_, now)| now).sum(),
            }
        };
        ModelStatus {
            name: entry.name.to_string(),
            phase,
            running,
            waiting,
            backends: entry.links.iter().map(backend).collect(),
            absent: entry.absent.clone(),
            shadow: entry.shadow.as_ref().map(|s| s.chain.status()),
        }
    }

    /// Loads the first backend of the chain that can, or all with `standby`, and runs the warm-up.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        let entry = &*self.0;
        let mut failed = None;
        let mut loaded = 0;
        for link in &entry.links {
            match self.warm_up_link(link).await {
                Ok(()) => loaded += 1,
                Err(e) => failed = failed.or(Some(e)),
            }
            if loaded > 0 && !entry.options.standby {
                break;
            }
        }
        if loaded == 0 {
            let none = || {
                let reasons: Vec<String> =
                    entry.absent.iter().map(|s| format!("{}: {}", s.backend, s.reason)).collect();
                Error::new(ErrorKind::Unavailable, "no backend of the chain is there on this machine")
                    .with_hint(reasons.join("; "))
            };
            return Err(failed.unwrap_or_else(none));
        }
        entry.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    async fn warm_up_link(&self, link: &Link) -> Result<()> {
        let Entry { options, clock, .. } = &*self.0;
        for driver in &link.sessions {
            driver.warm_up().await?;
            if let Some(request) = &options.warm_up {
                let guarded = attempt(Arc::clone(driver), options, clock);
                guarded.predict(Call::from(request.clone())).await?;
            }
        }
        Ok(())
    }

    /// Takes no more calls; answers those that it has, with an error if they are not done within `limit`; ends the
    /// threads.
    pub(crate) async fn close(&self, limit: Duration) {
        let entry = &*self.0;
        entry.is_closing.store(true, Ordering::Release);
        let time = entry.clock.sleep_until(after(entry.clock.now(), limit));
        tokio::select! {
            biased;
            _ = entry.calls.write() => {}
            () = time => {
                entry.stop.send_replace(true);
                drop(entry.calls.write().await);
            }
        }
        let drivers = entry.links.iter().flat_map(|link| &link.sessions);
        let drivers = drivers.chain(entry.shadow.as_ref().map(|shadow| &shadow.driver)).cloned();
        // All at once: each one may need its grace.
        let closed: JoinSet<()> = drivers.map(|driver| async move { driver.close().await }).collect();
        closed.join_all().await;
    }

    /// Whether it is the same model, not only one of the same name.
    pub(crate) fn is(&self, other: &ModelHandle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing.load(Ordering::Acquire)
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("`{}` is being unloaded", self.0.name))
    }
}

/// No backend may take longer than this for a call.
fn attempt<S: Predict>(inner: S, options: &ModelOptions, clock: &Arc<dyn Clock>) -> Deadline<S> {
    Deadline::new(inner, options.attempt, "the backend", Arc::clone(clock))
}

impl fmt::Debug for ModelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModelHandle").field(&self.0.name).finish()
    }
}
