//! A backend that computes `y = 2x + 1`, and fails as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use milwright::manager::Call;
use milwright::{
    Availability, Backend, Candidate, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, LoadedModel,
    Model, PlanOrigin, PredictOptions, Prediction, Result, Session, State, Tensor, Unshared,
};
use tokio::sync::watch;

/// What a run or a load does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Answer,
    /// The answer, and one more.
    Wrong,
    Fail,
    /// Waits for [`Fake::release`], deaf to everything, and answers.
    Hang,
    /// Waits until it is cancelled.
    Obey,
    /// Says that the deadline passed, and goes on until [`Fake::release`].
    Linger,
    /// From here on, the session is dead.
    Die,
    Panic,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub loads: usize,
    /// The inputs of each run, in order; those of a batch are together.
    pub runs: Vec<Vec<f32>>,
    /// How many threads hang, or hold on until they are cancelled.
    pub stuck: usize,
}

#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    name: &'static str,
    available: bool,
    loads: Mutex<VecDeque<Act>>,
    runs: Mutex<Box<dyn FnMut(f32) -> Act + Send>>,
    log: watch::Sender<Log>,
    released: Mutex<bool>,
    release: Condvar,
}

impl Fake {
    /// Asks `runs` with the input of each run what to do.
    pub fn new(name: &'static str, runs: impl FnMut(f32) -> Act + Send + 'static) -> Fake {
        Fake(Arc::new(Inner {
            name,
            available: true,
            loads: Mutex::default(),
            runs: Mutex::new(Box::new(runs)),
            log: watch::Sender::default(),
            released: Mutex::new(false),
            release: Condvar::new(),
        }))
    }

    /// Does these things, one a run, and then answers.
    pub fn script(name: &'static str, acts: &[Act]) -> Fake {
        let mut acts: VecDeque<Act> = acts.iter().copied().collect();
        Fake::new(name, move |_| acts.pop_front().unwrap_or(Act::Answer))
    }

    pub fn loading(self, acts: &[Act]) -> Fake {
        self.0.loads.lock().unwrap().extend(acts);
        self
    }

    pub fn absent(name: &'static str) -> Fake {
        let mut inner = Arc::into_inner(Fake::script(name, &[]).0).unwrap();
        inner.available = false;
        Fake(Arc::new(inner))
    }

    pub fn candidate(&self) -> Candidate {
        Candidate::new(self.clone())
    }

    pub fn log(&self) -> Log {
        self.0.log.borrow().clone()
    }

    /// Waits until something has happened.
    pub async fn until(&self, condition: impl FnMut(&Log) -> bool) {
        self.0.log.subscribe().wait_for(condition).await.unwrap();
    }

    /// Frees those who hang, now and later.
    pub fn release(&self) {
        *self.0.released.lock().unwrap() = true;
        self.0.release.notify_all();
    }

    /// Whether no session and no candidate is left.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn act(&self, act: Act, options: &PredictOptions<'_>) -> Result<()> {
        match act {
            Act::Answer | Act::Wrong => return Ok(()),
            Act::Fail => return Err(Error::new(ErrorKind::Runtime, "it failed, as told")),
            Act::Die => return Err(Error::new(ErrorKind::Unavailable, "the session died, as told")),
            Act::Linger => return Err(Error::new(ErrorKind::DeadlineExceeded, "it goes on, as told")),
            Act::Panic => panic!("as told"),
            Act::Hang | Act::Obey => {}
        }
        self.0.log.send_modify(|log| log.stuck += 1);
        if act == Act::Hang {
            drop(self.0.release.wait_while(self.0.released.lock().unwrap(), |released| !*released).unwrap());
        } else {
            while !options.cancel.is_cancelled() {
                std::thread::yield_now();
            }
        }
        self.0.log.send_modify(|log| log.stuck -= 1);
        if act == Act::Hang { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "cancelled")) }
    }
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn availability(&self) -> Availability {
        let reason = if self.0.available { "it is here" } else { "it is not here" };
        Availability { available: self.0.available, reason: reason.into() }
    }

    fn load(&self, _: &Arc<Model>, _: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        let fake = self.clone();
        Unshared::load(move || fake.open())
    }
}

impl Fake {
    fn open(&self) -> Result<Box<dyn Session>> {
        self.0.log.send_modify(|log| log.loads += 1);
        let act = self.0.loads.lock().unwrap().pop_front().unwrap_or(Act::Answer);
        self.act(act, &PredictOptions::default())?;
        let loaded = Loaded {
            backend: self.0.name,
            plan: PlanOrigin::Compiled,
            plan_path: None,
            duration: Duration::from_millis(20),
            arena_bytes: 0,
            weight_bytes: 0,
        };
        Ok(Box::new(FakeSession { fake: self.clone(), loaded, dead: false, lingers: false }))
    }
}

struct FakeSession {
    fake: Fake,
    loaded: Loaded,
    dead: bool,
    lingers: bool,
}

impl FakeSession {
    fn run(
        &mut self,
        requests: &[InferenceRequest],
        options: &PredictOptions<'_>,
    ) -> Result<Vec<Prediction>> {
        let xs: Vec<f32> = requests.iter().map(x).collect::<Result<_>>()?;
        self.fake.0.log.send_modify(|log| log.runs.push(xs.clone()));
        if self.dead {
            return Err(Error::new(ErrorKind::Unavailable, "the session is dead"));
        }
        let acts: Vec<Act> = xs.iter().map(|&x| self.fake.0.runs.lock().unwrap()(x)).collect();
        self.dead = acts.contains(&Act::Die);
        self.lingers = acts.contains(&Act::Linger);
        acts.iter().try_for_each(|&act| self.fake.act(act, options))?;
        let answer = |(x, act): (&f32, &Act)| {
            let y = 2.0 * x + if *act == Act::Wrong { 2.0 } else { 1.0 };
            Prediction::new(vec![("y".into(), Tensor::scalar(y))])
        };
        Ok(xs.iter().zip(&acts).map(answer).collect())
    }
}

impl Session for FakeSession {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let mut predictions = self.run(std::slice::from_ref(request), &options)?;
        Ok(predictions.remove(0))
    }

    fn predict_batch(
        &mut self,
        requests: &[InferenceRequest],
        options: PredictOptions<'_>,
    ) -> Result<Vec<Prediction>> {
        self.run(requests, &options)
    }

    fn rest(&mut self) {
        if std::mem::take(&mut self.lingers) {
            // As one that hangs, but nobody waits for what comes of it.
            let _ = self.fake.act(Act::Hang, &PredictOptions::default());
        }
    }

    fn new_state(&self) -> State {
        State::default()
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

/// A call with the input `x`.
pub fn call(x: f32) -> Call {
    Call::from(InferenceRequest::new().input("x", Tensor::scalar(x)))
}

fn x(request: &InferenceRequest) -> Result<f32> {
    let x = request.inputs().iter().find(|(n, _)| n == "x").and_then(|(_, t)| t.to_vec::<f32>().ok());
    x.map(|x| x[0]).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the input `x` is missing"))
}

/// The model that the fake does not look at.
pub fn model() -> Arc<Model> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");
    Arc::new(Model::open(path).unwrap())
}

pub fn y(prediction: &Prediction) -> f32 {
    prediction.output("y").unwrap().to_vec::<f32>().unwrap()[0]
}

/// Lets every task run that can.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
