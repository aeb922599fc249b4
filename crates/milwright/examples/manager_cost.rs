//! What the manager costs, and what it does when backends fail: with a backend that takes no time, on the real clock.
//!
//! `cargo run --release --example manager_cost`
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use milwright::manager::{Call, DriverOptions, Manager, ModelHandle, ModelOptions};
use milwright::telemetry::Exporter;
use milwright::{
    Availability, Backend, Candidate, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, LoadedModel,
    Model, PlanOrigin, PredictOptions, Prediction, Result, Session, State, Tensor, Unshared,
};

const CALLS: usize = 10_000;
const CALLERS: usize = 16;

fn main() -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let model = Arc::new(Model::open(examples.join("digits.mlpackage"))?);
    let cannot = |e: std::io::Error| Error::new(ErrorKind::Io, e.to_string());
    // A program that measures has a recorder: its cost belongs to the manager's.
    let exporter = Exporter::install()?;
    let single = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(cannot)?;
    let many = tokio::runtime::Builder::new_multi_thread().enable_time().build().map_err(cannot)?;

    println!("{CALLS} calls, one after the other, of a backend that does nothing; microseconds a call");
    println!("{:<40} {:>8} {:>8} {:>8}", "", "median", "p99", "p99.9");
    show("its session, called directly", directly(&model)?);
    show("by a thread of its own", on_a_thread(&model)?);
    show("by a manager, one thread of tokio", single.block_on(managed(&model, &exporter))?);
    show("by a manager, tokio's pool of threads", many.block_on(managed(&model, &exporter))?);

    println!("\n{CALLS} calls of {CALLERS} callers; 5 % of the runs fail, 1 % hang, 0.5 % kill the session");
    let before = (entries("/proc/self/task"), entries("/proc/self/fd"));
    many.block_on(with_faults(&model))?;
    let now = || (entries("/proc/self/task"), entries("/proc/self/fd"));
    // A thread that has come back takes a moment to be gone.
    let start = Instant::now();
    while now() != before && start.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    let after = now();
    println!(
        "threads: {} before, {} after; files: {} before, {} after",
        before.0, after.0, before.1, after.1
    );
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e6;
    println!("{what:<40} {:>8.1} {:>8.1} {:>8.1}", at(0.5), at(0.99), at(0.999));
}

fn directly(model: &Arc<Model>) -> Result<Vec<Duration>> {
    let mut session = Nothing::default().session(model, &LoadOptions::default())?;
    let request = request(1.0);
    (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            session.predict(&request)?;
            Ok(start.elapsed())
        })
        .collect()
}

/// The least that anything can cost that runs a model on a thread of its own: there and back.
fn on_a_thread(model: &Arc<Model>) -> Result<Vec<Duration>> {
    let (jobs, queue) = std::sync::mpsc::channel::<InferenceRequest>();
    let (answers, answered) = std::sync::mpsc::channel();
    let mut session = Nothing::default().session(model, &LoadOptions::default())?;
    std::thread::spawn(move || queue.iter().all(|request| answers.send(session.predict(&request)).is_ok()));
    let request = request(1.0);
    let gone = || Error::new(ErrorKind::Runtime, "the thread is gone");
    (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            jobs.send(request.clone()).map_err(|_| gone())?;
            answered.recv().map_err(|_| gone())??;
            Ok(start.elapsed())
        })
        .collect()
}

async fn managed(model: &Arc<Model>, exporter: &Exporter) -> Result<Vec<Duration>> {
    let manager = Manager::start();
    let chain = vec![Candidate::new(Nothing::default())];
    let options = ModelOptions { chain, ..ModelOptions::default() };
    let model = manager.load("nothing", Arc::clone(model), options).await?;
    // In a task, as in a server: what runs in `block_on` is woken in another way.
    let task = tokio::spawn(async move {
        let request = request(1.0);
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            model.predict(request.clone()).await?;
            times.push(start.elapsed());
        }
        Ok(times)
    });
    let times = task.await.map_err(|e| Error::new(ErrorKind::Runtime, e.to_string()))?;
    manager.drain(Duration::from_secs(1)).await;
    exporter.render();
    times
}

/// Calls with a deadline each, of two unreliable backends.
async fn with_faults(model: &Arc<Model>) -> Result<()> {
    let manager = Manager::start();
    let hang = Arc::new(Released::default());
    let faulty = || Candidate::new(Nothing { faults: true, runs: Arc::default(), hang: Arc::clone(&hang) });
    let ms = Duration::from_millis;
    let options = ModelOptions {
        chain: vec![faulty(), faulty()],
        standby: true,
        attempt: Some(ms(30)),
        driver: DriverOptions { grace: ms(10), max_hung: CALLS, ..DriverOptions::default() },
        ..ModelOptions::default()
    };
    let model = manager.load("faulty", Arc::clone(model), options).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        tasks.spawn(ask(caller, model.clone()));
    }
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut latest = Duration::ZERO;
    while let Some(answers) = tasks.join_next().await {
        for (outcome, late) in answers.map_err(|e| Error::new(ErrorKind::Runtime, e.to_string()))? {
            *outcomes.entry(outcome).or_default() += 1;
            latest = latest.max(late);
        }
    }
    let abandoned: u64 = model.status().backends.iter().map(|b| b.abandoned_threads).sum();
    println!("{} answers: {outcomes:?}", outcomes.values().sum::<usize>());
    println!("the latest came {:.1} ms after its deadline (0: none did)", latest.as_secs_f64() * 1e3);
    println!("{abandoned} threads hung and were left behind; the sessions in them were replaced");
    hang.release();
    manager.drain(Duration::from_secs(1)).await;
    while model.status().backends.iter().any(|b| b.hung_threads > 0) {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// What came of each call, and how late.
async fn ask(caller: usize, model: ModelHandle) -> Vec<(String, Duration)> {
    let mut answers = Vec::new();
    for i in (caller..CALLS).step_by(CALLERS) {
        let x = i as f32;
        let deadline = Instant::now() + Duration::from_millis(500);
        let reply = model.predict(Call { deadline: Some(deadline), ..Call::from(request(x)) }).await;
        let late = Instant::now().saturating_duration_since(deadline);
        let outcome = match reply {
            Ok(reply) if y(reply.prediction()) == Some(2.0 * x + 1.0) => "right".to_owned(),
            Ok(_) => "WRONG".to_owned(),
            Err(e) => format!("{:?}", e.kind()),
        };
        answers.push((outcome, late));
    }
    answers
}

fn request(x: f32) -> InferenceRequest {
    InferenceRequest::new().input("x", Tensor::scalar(x))
}

fn y(prediction: &Prediction) -> Option<f32> {
    prediction.output("y")?.to_vec().ok()?.first().copied()
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Computes `2x + 1`. With faults, some of its runs fail, hang or kill the session.
#[derive(Clone, Default)]
struct Nothing {
    faults: bool,
    runs: Arc<AtomicU64>,
    hang: Arc<Released>,
}

/// What hangs hangs until it is released.
#[derive(Default)]
struct Released(Mutex<bool>, Condvar);

impl Released {
    fn release(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let released = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_while(released, |released| !*released));
    }
}

impl Backend for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn availability(&self) -> Availability {
        Availability { available: true, reason: "it needs nothing".into() }
    }

    fn load(&self, _: &Arc<Model>, _: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        let (plan, duration) = (PlanOrigin::Compiled, Duration::ZERO);
        let loaded =
            Loaded { backend: "nothing", plan, plan_path: None, duration, arena_bytes: 0, weight_bytes: 0 };
        let backend = self.clone();
        Unshared::load(move || {
            Ok(Box::new(NothingSession { backend: backend.clone(), loaded: loaded.clone() }))
        })
    }
}

struct NothingSession {
    backend: Nothing,
    loaded: Loaded,
}

impl Session for NothingSession {
    fn predict_with(&mut self, request: &InferenceRequest, _: PredictOptions<'_>) -> Result<Prediction> {
        // Multiplying by an odd number goes through all remainders, in no simple order.
        let n = self.backend.runs.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        match n % 1000 {
            0..50 if self.backend.faults => return Err(Error::new(ErrorKind::Runtime, "it failed")),
            50..60 if self.backend.faults => self.backend.hang.wait(),
            60..65 if self.backend.faults => return Err(Error::new(ErrorKind::Unavailable, "it died")),
            _ => {}
        }
        let x = request.inputs().first().and_then(|(_, t)| t.to_vec::<f32>().ok());
        let x = x.and_then(|x| x.first().copied()).unwrap_or(f32::NAN);
        Ok(Prediction::new(vec![("y".into(), Tensor::scalar(2.0 * x + 1.0))]))
    }

    fn new_state(&self) -> State {
        State::default()
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}
