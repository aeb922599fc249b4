//! Runs a session on its own thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, oneshot, watch};

use super::clock::after;
use super::loads::Loads;
use super::predict::is_fault;
use super::sync::{Mutex, lock};
use super::telemetry;
use super::{BoxFuture, Call, Clock, Predict, Reply, Route};
use crate::telemetry::Labels;
use crate::{
    Cancel, Candidate, Error, ErrorKind, LoadOptions, Loaded, Model, PredictOptions, Prediction, Result,
    Session, State,
};

/// The timeouts of a [`Driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverOptions {
    /// The timeout of loading, which includes compiling.
    pub load_timeout: Duration,
    /// The pause after a failed load before the next attempt.
    pub reload_after: Duration,
    /// How long a cancelled call may take to stop. After that its thread counts as hung: it is abandoned, and the
    /// model is loaded again.
    pub grace: Duration,
    /// The largest number of hung threads of this session. Once it is reached, no further thread is started.
    pub max_hung: usize,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions {
            load_timeout: Duration::from_secs(300),
            reload_after: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            max_hung: 4,
        }
    }
}

/// Loads a model with one backend and runs it on its own thread, one call at a time.
///
/// The model is loaded when it is first needed. The backend never blocks the caller. A cancelled call is asked to
/// stop, which backends check between ops. A thread that hangs is abandoned, and the model is loaded again on another
/// one. The same happens if a session returns at its deadline but keeps computing, and does not come to
/// [rest](Session::rest) in time. A session that panics or [dies](Session) is replaced, too.
pub struct Driver {
    shared: Arc<Shared>,
    /// Locked by the task that runs a call or loads the model.
    slot: Arc<tokio::sync::Mutex<Slot>>,
}

struct Shared {
    model: Arc<Model>,
    candidate: Candidate,
    loads: Arc<Loads>,
    load: LoadOptions,
    options: DriverOptions,
    clock: Arc<dyn Clock>,
    labels: Labels,
    runtime: tokio::runtime::Handle,
    closed: watch::Sender<bool>,
    loaded: Mutex<Option<Loaded>>,
    /// Whether the machine has a single core. Spinning would then keep the session's thread from running.
    is_alone: bool,
    /// The number of slow runs in a row (slower than waking a thread), counted up to `SLOW`.
    long_runs: AtomicU32,
    /// Abandoned threads, ever.
    abandoned: AtomicU64,
    /// Abandoned threads that have not returned yet.
    hung: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    thread: Option<Thread>,
    failed: Option<Failed>,
}

struct Thread {
    jobs: mpsc::SyncSender<Job>,
    /// Closes when the thread ends, which drops the sender.
    end: oneshot::Receiver<()>,
    handle: JoinHandle<()>,
    life: Arc<Mutex<Life>>,
}

struct Job {
    call: Call,
    cancel: Cancel,
    reply: oneshot::Sender<Result<Reply>>,
    /// Sent when the session is at rest again: whether it can be used again.
    rested: oneshot::Sender<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Used,
    Abandoned,
    Ended,
}

/// A failed attempt to load, and the time before which there is no other.
struct Failed {
    until: Instant,
    kind: ErrorKind,
    message: String,
}

type Guard = OwnedMutexGuard<Slot>;

/// Roughly how long it takes to wake a thread on an idle machine.
const QUICK: Duration = Duration::from_micros(50);

/// The number of slow runs in a row that makes a model slow. A single one may just have been interrupted.
const SLOW: u32 = 4;

impl Driver {
    /// A driver for a model on a candidate's backend. Call it inside a tokio runtime. The `cancel` flag of `load` is
    /// ignored.
    pub fn new(
        model: Arc<Model>,
        candidate: Candidate,
        load: LoadOptions,
        options: DriverOptions,
        clock: Arc<dyn Clock>,
        labels: Labels,
    ) -> Driver {
        Driver::with_loads(model, candidate, Arc::default(), load, options, clock, labels)
    }

    /// Another driver of the same model on the same backend: the model is loaded once for both.
    pub fn sharing(&self) -> Driver {
        let Shared { model, candidate, loads, load, options, clock, labels, .. } = &*self.shared;
        Driver::with_loads(
            Arc::clone(model),
            candidate.clone(),
            Arc::clone(loads),
            load.clone(),
            *options,
            Arc::clone(clock),
            labels.clone(),
        )
    }

    fn with_loads(
        model: Arc<Model>,
        candidate: Candidate,
        loads: Arc<Loads>,
        load: LoadOptions,
        options: DriverOptions,
        clock: Arc<dyn Clock>,
        labels: Labels,
    ) -> Driver {
        let shared = Shared {
            model,
            candidate,
            loads,
            load,
            options,
            clock,
            labels,
            runtime: tokio::runtime::Handle::current(),
            closed: watch::Sender::new(false),
            loaded: Mutex::new(None),
            is_alone: std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1),
            long_runs: AtomicU32::new(SLOW),
            abandoned: AtomicU64::new(0),
            hung: AtomicUsize::new(0),
        };
        Driver { shared: Arc::new(shared), slot: Arc::default() }
    }

    /// Loads the model unless it is loaded.
    ///
    /// # Errors
    /// As for [`Backend::load`](crate::Backend::load); or loading timed out.
    pub async fn warm_up(&self) -> Result<Loaded> {
        drop(self.ready().await?);
        self.loaded().ok_or_else(|| self.shared.is_closed_error())
    }

    /// How the model was made ready; `None` before the first load.
    pub fn loaded(&self) -> Option<Loaded> {
        lock(&self.shared.loaded).clone()
    }

    /// The number of abandoned threads: ever, and those that still hang.
    pub fn abandoned(&self) -> (u64, usize) {
        (self.shared.abandoned.load(Ordering::Relaxed), self.shared.hung.load(Ordering::Relaxed))
    }

    /// Cancels the running call and ends the thread. On return, the thread has ended or was abandoned.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        let thread = self.slot.lock().await.thread.take();
        if let Some(thread) = thread {
            self.shared.end(thread).await;
        }
    }

    /// Locks the slot once its thread is idle, and loads the model if there is no thread.
    async fn ready(&self) -> Result<Guard> {
        let slot = Arc::clone(&self.slot).lock_owned().await;
        if slot.thread.is_some() {
            return Ok(slot);
        }
        // A separate task: if the caller drops its future, the model is loaded all the same.
        let start = self.shared.runtime.spawn(start(Arc::clone(&self.shared), slot));
        let ended = |_| Error::new(ErrorKind::Unavailable, "the manager's runtime has ended");
        let slot = start.await.map_err(ended)?;
        match (&slot.thread, &slot.failed) {
            (Some(_), _) => Ok(slot),
            (None, Some(failed)) => Err(Error::new(failed.kind, failed.message.clone())),
            (None, None) => Err(self.shared.is_closed_error()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Cancels a load in progress: nobody needs it any more.
        self.shared.closed.send_replace(true);
    }
}

impl Predict for Driver {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            // A failed load is never the call's fault: the next backend may load the model.
            let blameless = |e: Error| match is_fault(e.kind()) {
                true => e,
                false => Error::new(ErrorKind::Unavailable, e.to_string()),
            };
            let slot = self.ready().await.map_err(blameless)?;
            let (reply, mut answer) = oneshot::channel();
            let (rested, rest) = oneshot::channel();
            let cancel = Cancel::default();
            let job = Job { call, cancel: cancel.clone(), reply, rested };
            // If the thread is gone, `try_send` drops the job, and `answer` reports that.
            if let Some(thread) = &slot.thread {
                let _ = thread.jobs.try_send(job);
            }
            let mut running = Running { shared: &self.shared, cancel, rest: Some(rest), slot: Some(slot) };
            // Spins only briefly, because other tasks need this thread.
            let soon = self.shared.briefly(2 * QUICK, || answer.try_recv().ok());
            let answer = tokio::select! {
                biased;
                answer = async { match soon { Some(soon) => Ok(soon), None => answer.await } } => answer,
                () = self.shared.until_closed() => return Err(self.shared.is_closed_error()),
            };
            let panicked =
                |_| Err(Error::new(ErrorKind::Unavailable, "the backend panicked while it ran the model"));
            let answer = answer.unwrap_or_else(panicked);
            match answer.as_ref().map_err(Error::kind) {
                // The backend may still be computing: as after a cancelled call, the session has to come to rest.
                Err(ErrorKind::DeadlineExceeded | ErrorKind::Cancelled) => {}
                Err(ErrorKind::Unavailable) => {
                    if let Some(mut slot) = running.slot.take() {
                        self.shared.discard(&mut slot);
                    }
                }
                _ => drop(running.slot.take()),
            }
            answer
        })
    }
}

/// A call that runs on the thread. Dropping it early cancels the call.
struct Running<'a> {
    shared: &'a Arc<Shared>,
    cancel: Cancel,
    rest: Option<oneshot::Receiver<bool>>,
    /// Held until the thread can take another call.
    slot: Option<Guard>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (Some(mut slot), Some(rest)) = (self.slot.take(), self.rest.take()) else { return };
        self.cancel.cancel();
        // The thread is taken out of the slot. If the runtime has ended, `recover` never runs, and the next call must
        // not get this thread.
        let thread = slot.thread.take();
        self.shared.runtime.spawn(recover(Arc::clone(self.shared), slot, thread, rest));
    }
}

/// Waits until the thread of a cancelled call is at rest. If that takes longer than the grace period, abandons the
/// thread and starts another one.
async fn recover(
    shared: Arc<Shared>,
    mut slot: Guard,
    thread: Option<Thread>,
    rest: oneshot::Receiver<bool>,
) {
    let grace = shared.clock.sleep_until(after(shared.clock.now(), shared.options.grace));
    tokio::select! {
        biased;
        is_usable = rest => {
            slot.thread = thread;
            if is_usable != Ok(true) {
                shared.discard(&mut slot);
            }
        }
        () = grace => if let Some(thread) = thread { shared.abandon(&thread.life) },
    }
    if slot.thread.is_none() {
        start(shared, slot).await;
    }
}

/// Loads the model on a new thread. Returns the slot with the thread, or with the reason for the failure.
async fn start(shared: Arc<Shared>, mut slot: Guard) -> Guard {
    let now = shared.clock.now();
    if *shared.closed.borrow() || slot.failed.as_ref().is_some_and(|f| now < f.until) {
        return slot;
    }
    slot.failed = None;
    let Labels { model, backend } = &shared.labels;
    match shared.load(now).await {
        Ok((thread, loaded)) => {
            let seconds = loaded.duration.as_secs_f64();
            tracing::info!(%model, %backend, plan = %loaded.plan, seconds, "loaded");
            telemetry::loaded(&shared.labels, &loaded);
            *lock(&shared.loaded) = Some(loaded);
            slot.thread = Some(thread);
        }
        Err(error) => {
            tracing::warn!(%model, %backend, %error, "not loaded");
            telemetry::load_failed(&shared.labels, error.kind());
            let until = after(shared.clock.now(), shared.options.reload_after);
            slot.failed = Some(Failed { until, kind: error.kind(), message: error.to_string() });
        }
    }
    slot
}

impl Shared {
    /// Loads the model on a new thread.
    async fn load(self: &Arc<Shared>, now: Instant) -> Result<(Thread, Loaded)> {
        let cancel = Cancel::default();
        let (thread, ready) = self.spawn(&cancel)?;
        let late = self.clock.sleep_until(after(now, self.options.load_timeout));
        let loaded = tokio::select! {
            biased;
            loaded = ready => loaded.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Runtime, "the backend panicked while it loaded the model"))
            }),
            () = late => {
                let message = format!("loading took longer than {:?}", self.options.load_timeout);
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }
            () = self.until_closed() => Err(self.is_closed_error()),
        };
        match loaded {
            Ok(loaded) => Ok((thread, loaded)),
            Err(e) => {
                cancel.cancel();
                self.end(thread).await;
                Err(e)
            }
        }
    }

    fn spawn(self: &Arc<Shared>, cancel: &Cancel) -> Result<(Thread, oneshot::Receiver<Result<Loaded>>)> {
        let hung = self.hung.load(Ordering::Relaxed);
        if hung >= self.options.max_hung {
            let message = format!("{hung} threads hang in this backend: no further one is risked");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let (jobs, queue) = mpsc::sync_channel(1);
        let (ready, is_ready) = oneshot::channel();
        let (ending, end) = oneshot::channel();
        let life = Arc::new(Mutex::new(Life::Used));
        let alive = Alive { shared: Arc::clone(self), life: Arc::clone(&life), _end: ending };
        let options = LoadOptions {
            compute_units: self.candidate.compute_units,
            cancel: cancel.clone(),
            ..self.load.clone()
        };
        let body = move || {
            let alive = alive;
            // The panic hook has printed the message; the caller sees that the reply channel was dropped.
            let mut session = None;
            let _ = catch_unwind(AssertUnwindSafe(|| {
                drive(&alive.shared, &options, ready, &queue, &mut session)
            }));
            // In a separate `catch_unwind`: a second panic, while dropping, would otherwise abort the process.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(session)));
        };
        let thread = std::thread::Builder::new().name("milwright-session".into()).spawn(body);
        let handle = thread.map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("there is no thread to run it on: {e}"))
        })?;
        Ok((Thread { jobs, end, handle, life }, is_ready))
    }

    /// Stops using a thread because it died, or its session did.
    fn discard(self: &Arc<Shared>, slot: &mut Guard) {
        if let Some(thread) = slot.thread.take() {
            let shared = Arc::clone(self);
            self.runtime.spawn(async move { shared.end(thread).await });
        }
    }

    /// Ends a thread that should be idle, or abandons it if it hangs.
    async fn end(self: &Arc<Shared>, thread: Thread) {
        let Thread { jobs, end, handle, life } = thread;
        drop(jobs);
        let grace = self.clock.sleep_until(after(self.clock.now(), self.options.grace));
        tokio::select! {
            biased;
            // The thread's body has returned: joining does not block.
            _ = end => { let _ = handle.join(); }
            () = grace => self.abandon(&life),
        }
    }

    fn abandon(&self, life: &Mutex<Life>) {
        let mut life = lock(life);
        if *life == Life::Used {
            *life = Life::Abandoned;
            self.loads.forget();
            let hung = self.hung.fetch_add(1, Ordering::Relaxed) + 1;
            self.abandoned.fetch_add(1, Ordering::Relaxed);
            telemetry::abandoned(&self.labels);
            let Labels { model, backend } = &self.labels;
            tracing::error!(%model, %backend, hung, "a thread hangs in the backend: left behind");
        }
    }

    /// Polls `look` for a little longer than it takes to wake a sleeping thread. If a model runs faster than that,
    /// back-to-back calls skip the system's scheduler, which on an idle machine costs more than everything else. Uses
    /// the system's time, not the `Clock`: no policy depends on it.
    fn briefly<T>(&self, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.long_runs.load(Ordering::Relaxed) >= SLOW || self.is_alone {
            return None;
        }
        let start = Instant::now();
        loop {
            let found = look();
            if found.is_some() || start.elapsed() > limit {
                return found;
            }
            std::hint::spin_loop();
        }
    }

    async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // `wait_for` fails only if the sender is gone, and `self` owns the sender.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    fn is_closed_error(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("`{}` is being unloaded", self.labels.model))
    }
}

/// Held by a thread while it lives.
struct Alive {
    shared: Arc<Shared>,
    life: Arc<Mutex<Life>>,
    _end: oneshot::Sender<()>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if std::mem::replace(&mut *lock(&self.life), Life::Ended) == Life::Abandoned {
            self.shared.hung.fetch_sub(1, Ordering::Relaxed);
            telemetry::came_back(&self.shared.labels);
        }
    }
}

/// The body of a thread: loads the model, then runs calls until the sender of jobs is gone.
fn drive(
    shared: &Shared,
    options: &LoadOptions,
    ready: oneshot::Sender<Result<Loaded>>,
    jobs: &mpsc::Receiver<Job>,
    session: &mut Option<Box<dyn Session>>,
) {
    let Labels { model, backend } = &shared.labels;
    let span = tracing::info_span!("load", %model, %backend).entered();
    let session = match shared.loads.session(&*shared.candidate.backend, &shared.model, options) {
        Ok(loaded) => session.insert(loaded),
        Err(e) => {
            let _ = ready.send(Err(e));
            return;
        }
    };
    drop(span);
    let is_stateful = !session.new_state().names().is_empty();
    if ready.send(Ok(session.loaded().clone())).is_err() {
        return;
    }
    while let Some(job) = next(shared, jobs) {
        if job.reply.is_closed() {
            let _ = job.rested.send(true);
            continue;
        }
        let _span =
            tracing::debug_span!("run", %model, %backend, requests = job.call.requests.len()).entered();
        let start = shared.clock.now();
        let answer = run(&mut **session, &job, is_stateful).map(|(predictions, state)| {
            let ran = shared.clock.now().saturating_duration_since(start);
            let long_runs = shared.long_runs.load(Ordering::Relaxed);
            shared
                .long_runs
                .store(if ran < QUICK { 0 } else { long_runs.saturating_add(1) }, Ordering::Relaxed);
            telemetry::ran(&shared.labels, ran);
            let route = Route { backend: backend.to_string(), ran, ..Route::default() };
            Reply { predictions, state, route }
        });
        let kind = answer.as_ref().err().map(Error::kind);
        let _ = job.reply.send(answer);
        if matches!(kind, Some(ErrorKind::DeadlineExceeded | ErrorKind::Cancelled)) {
            session.rest();
        }
        let _ = job.rested.send(kind != Some(ErrorKind::Unavailable));
    }
}

/// The next job; `None` once the sender is gone.
fn next(shared: &Shared, jobs: &mpsc::Receiver<Job>) -> Option<Job> {
    let soon = shared.briefly(6 * QUICK, || match jobs.try_recv() {
        Err(mpsc::TryRecvError::Empty) => None,
        job => Some(job.ok()),
    });
    soon.unwrap_or_else(|| jobs.recv().ok())
}

fn run(session: &mut dyn Session, job: &Job, is_stateful: bool) -> Result<(Vec<Prediction>, Option<State>)> {
    let Call { requests, deadline, .. } = &job.call;
    let mut state = job.call.state.clone();
    let options = || PredictOptions { state: None, deadline: *deadline, cancel: job.cancel.clone() };
    let predictions = match &**requests {
        [request] if !is_stateful && state.is_none() => vec![session.predict_with(request, options())?],
        requests if !is_stateful && state.is_none() => session.predict_batch(requests, options())?,
        requests => {
            let one = |request| {
                let mut own = state.is_none().then(|| session.new_state());
                let state = state.as_mut().or(own.as_mut());
                session.predict_with(request, PredictOptions { state, ..options() })
            };
            requests.iter().map(one).collect::<Result<Vec<_>>>()?
        }
    };
    if predictions.len() != requests.len() {
        let message = format!("the backend answered {} of {} requests", predictions.len(), requests.len());
        return Err(Error::new(ErrorKind::Runtime, message));
    }
    Ok((predictions, state))
}
