//! A model of the manager, with its policies.

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
use super::telemetry;
use super::{
    Batch, BatchOptions, Breaker, BreakerOptions, BreakerState, Call, Clock, Deadline, Fallback, Limit, Pool,
    Predict, Reply, Shadow, ShadowStatus, Skipped,
};
use crate::telemetry::Labels;
use crate::{
    Availability, Candidate, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, Model, Result, Target,
};

/// How the manager serves a model.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// The backends, in the order in which they are tried.
    pub chain: Vec<Candidate>,
    /// How each backend loads the model. The candidate's compute units replace those given here, and the manager's
    /// cancel flag replaces `cancel`.
    pub load: LoadOptions,
    /// Load the model on all backends at once, not only on the first. A fallback then finds its model ready, at the
    /// price of the memory.
    pub standby: bool,
    /// A request that each session runs once after loading. It fills caches, and finds a model that cannot run before
    /// the first call does.
    pub warm_up: Option<InferenceRequest>,
    /// The number of sessions of each backend, at least one: that many calls run in parallel. Each session has its own
    /// thread, states and intermediate results. The model is loaded once, and its sessions share its weights and
    /// `load.threads`; with one thread, each call runs on the thread of its session.
    pub sessions: usize,
    /// The largest number of calls that are passed to the backends at a time, at least the number of sessions. The
    /// surplus waits for a session, in the order of arrival.
    pub concurrency: usize,
    /// The largest number of waiting calls.
    pub queue: usize,
    /// The longest time that a call may take, including the wait.
    pub deadline: Option<Duration>,
    /// The longest time that one backend may take for a call before the next one is tried.
    pub attempt: Option<Duration>,
    /// The timeouts of loading and stopping.
    pub driver: DriverOptions,
    /// When the circuit breaker of a backend opens.
    pub breaker: BreakerOptions,
    /// Batches calls; `None` does not.
    pub batch: Option<BatchOptions>,
    /// Compares two backends on live traffic; `None` does not.
    pub shadow: Option<ShadowOptions>,
}

impl Default for ModelOptions {
    /// All backends of this machine, one call at a time, at most 256 waiting calls, and at most half a minute per
    /// call.
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

/// A second backend to compare a model's outputs with.
#[derive(Clone, Debug)]
pub struct ShadowOptions {
    /// The other backend.
    pub candidate: Candidate,
    /// The share of calls to compare, 0 to 1.
    pub rate: f64,
    /// The lowest SNR, in dB, that is not a mismatch.
    pub snr_db: f64,
}

/// The status of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// The name that it was loaded by.
    pub name: String,
    /// Whether the model is loading, ready or closing.
    pub phase: Phase,
    /// The number of running calls.
    pub running: usize,
    /// The number of waiting calls.
    pub waiting: usize,
    /// The available backends of the chain, in order.
    pub backends: Vec<BackendStatus>,
    /// The unavailable backends of the chain, and why.
    pub absent: Vec<Skipped>,
    /// The results of the shadow comparison.
    pub shadow: Option<ShadowStatus>,
}

/// The phase of a model's life.
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
    /// How the first session made the model ready, if it did.
    pub loaded: Option<Loaded>,
    /// The number of loaded sessions.
    pub sessions: usize,
    /// The state of its breaker.
    pub breaker: BreakerState,
    /// Threads that hung in it and were abandoned.
    pub abandoned_threads: u64,
    /// Abandoned threads that have not returned yet.
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
    /// Calls hold it for reading. Closing takes it for writing, and so waits for the calls.
    calls: RwLock<()>,
    /// Cancels the remaining calls.
    stop: watch::Sender<bool>,
}

/// The chain with a shadow, and the driver of the shadow.
struct Compared {
    chain: Arc<Shadow<Fallback<Link>>>,
    driver: Arc<Driver>,
}

/// One backend: its breaker in front of its sessions, each of which has a deadline.
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
    /// Assembles the policies. A call passes through its deadline, the limit, batches, the shadow and the chain; and
    /// for each backend through the breaker, the pool of sessions, the deadline of the attempt and the session's
    /// thread. `chain` holds the candidates with their availability.
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
            Driver::new(model, candidate, load, options.driver, clock, labels)
        };
        // A timeout after at least 3/4 of `attempt` counts as the backend's failure, not as a caller in a hurry.
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
            let first = driver(candidate);
            let others = (1..options.sessions).map(|_| first.sharing());
            let others: Vec<_> = others.map(Arc::new).collect();
            let sessions: Vec<_> = [Arc::new(first)].into_iter().chain(others).collect();
            // The time that a call waits for an idle session does not count as part of the backend's attempt.
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
                let driver = Arc::new(driver(&shadow.candidate));
                let other = Arc::new(attempt(Arc::clone(&driver), &options, &clock));
                let labels = labels(&shadow.candidate);
                let chain = Arc::new(Shadow::new(chain, other, shadow.rate, shadow.snr_db, labels));
                (Arc::clone(&chain) as Arc<dyn Predict>, Some(Compared { chain, driver }))
            }
        };
        let concurrency = options.concurrency.max(options.sessions);
        let (inner, concurrency): (Arc<dyn Predict>, _) = match options.batch {
            None => (inner, concurrency),
            // Batches run in parallel, too.
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

    /// Runs the model. Dropping the future cancels the call: a waiting call leaves the queue, and the backend of a
    /// running call is asked to stop.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded): the queue is full. [`DeadlineExceeded`](ErrorKind::DeadlineExceeded).
    /// [`Unavailable`](ErrorKind::Unavailable): the model is being unloaded, or no backend works. Or an error of
    /// [`Session::predict_with`](crate::Session::predict_with) from the last backend that was tried.
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

    /// The current status.
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

    /// Loads the model on the first backend of the chain that can (on all with `standby`), and runs the warm-up.
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

    /// Accepts no more calls, waits up to `limit` for those queued or in flight, cancels the rest, and ends the
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
        // All at once, because each one may need its grace period.
        let closed: JoinSet<()> = drivers.map(|driver| async move { driver.close().await }).collect();
        closed.join_all().await;
    }

    /// Whether both handles are of the same model, not only of the same name.
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

/// Limits the time of one backend's attempt.
fn attempt<S: Predict>(inner: S, options: &ModelOptions, clock: &Arc<dyn Clock>) -> Deadline<S> {
    Deadline::new(inner, options.attempt, "the backend", Arc::clone(clock))
}

impl fmt::Debug for ModelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModelHandle").field(&self.0.name).finish()
    }
}
