//! Backends that hang, panic and answer wrongly where it is least expected.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use milwright::manager::{
    BatchOptions, BreakerOptions, BreakerState, Call, Clock, DriverOptions, Manager, ModelOptions,
};
use milwright::{
    Availability, Backend, Candidate, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, LoadedModel,
    Model, PlanOrigin, PredictOptions, Prediction, Result, Session, State, Unshared,
};

use crate::fake::{Act, Fake, call, model, settle, y};
use crate::{SECOND, kind, options, serve, start};

/// What a test gives a backend to do.
type Does<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// A backend that does what it is given. It answers as many predictions as it is told.
#[derive(Clone)]
struct Odd {
    asked: Does<bool>,
    loads: Does<Result<()>>,
    answers: Does<Vec<Prediction>>,
    dropped: Does<()>,
}

impl Odd {
    fn new() -> Odd {
        Odd {
            asked: Arc::new(|| true),
            loads: Arc::new(|| Ok(())),
            answers: Arc::new(Vec::new),
            dropped: Arc::new(|| ()),
        }
    }
}

impl Backend for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn availability(&self) -> Availability {
        Availability { available: (self.asked)(), reason: "as told".into() }
    }

    fn load(&self, _: &Arc<Model>, _: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        let odd = self.clone();
        Unshared::load(move || odd.open())
    }
}

impl Odd {
    fn open(&self) -> Result<Box<dyn Session>> {
        (self.loads)()?;
        let loaded = Loaded {
            backend: "odd",
            plan: PlanOrigin::Compiled,
            plan_path: None,
            duration: Duration::ZERO,
            arena_bytes: 0,
            weight_bytes: 0,
        };
        Ok(Box::new(OddSession { odd: self.clone(), loaded }))
    }
}

struct OddSession {
    odd: Odd,
    loaded: Loaded,
}

impl Session for OddSession {
    fn predict_with(&mut self, _: &InferenceRequest, _: PredictOptions<'_>) -> Result<Prediction> {
        Ok((self.odd.answers)().remove(0))
    }

    fn predict_batch(&mut self, _: &[InferenceRequest], _: PredictOptions<'_>) -> Result<Vec<Prediction>> {
        Ok((self.odd.answers)())
    }

    fn new_state(&self) -> State {
        State::default()
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

impl Drop for OddSession {
    fn drop(&mut self) {
        (self.odd.dropped)();
    }
}

/// Holds threads up until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[tokio::test]
async fn a_backend_that_panics_or_hangs_when_it_is_asked_is_not_there() {
    let (manager, clock, m) = serve(options(&[&Fake::script("good", &[])])).await;
    let panics = Odd { asked: Arc::new(|| panic!("as told")), ..Odd::new() };
    let chain = vec![Candidate::new(panics), Fake::script("other", &[]).candidate()];
    let other = ModelOptions { chain, ..ModelOptions::default() };
    let other = manager.load("panics", model(), other).await.unwrap();
    let reply = other.predict(call(1.0)).await.unwrap();
    assert_eq!((&*reply.route.backend, y(reply.prediction())), ("other", 3.0));
    assert_eq!(reply.route.skipped[0].reason, "the backend panicked when it was asked");

    let gate = Gate::default();
    let held = gate.clone();
    let hangs = Odd {
        asked: Arc::new(move || {
            held.pass();
            true
        }),
        ..Odd::new()
    };
    let loading = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.load("hangs", model(), alone(hangs)).await })
    };
    settle().await;
    // Nobody else notices.
    m.predict(call(1.0)).await.unwrap();
    assert_eq!(manager.list().await.unwrap().len(), 2);
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(DriverOptions::default().load_timeout);
    let error = loading.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let reason = "odd: the backend did not say within 300s whether it is there";
    assert_eq!(error.hint(), Some(reason));
    gate.open();
    manager.drain(SECOND).await;
}

/// A model with an odd backend.
fn alone(odd: Odd) -> ModelOptions {
    ModelOptions { chain: vec![Candidate::new(odd)], ..ModelOptions::default() }
}

#[tokio::test]
async fn a_session_that_panics_when_it_runs_and_when_it_is_dropped_costs_one_call() {
    let odd = Odd {
        answers: Arc::new(|| panic!("as told")),
        dropped: Arc::new(|| panic!("as told")),
        ..Odd::new()
    };
    let (manager, _, m) = serve(alone(odd)).await;
    for _ in 0..2 {
        assert_eq!(kind(m.predict(call(1.0)).await), ErrorKind::Unavailable);
    }
    manager.drain(SECOND).await;
}

#[tokio::test]
async fn a_batch_that_is_not_answered_whole_is_an_error() {
    let odd = Odd { answers: Arc::new(|| vec![Prediction::default()]), ..Odd::new() };
    let good = Fake::script("good", &[]);
    let chain = vec![Candidate::new(odd), good.candidate()];
    let (_manager, _, m) = serve(ModelOptions { chain, ..ModelOptions::default() }).await;
    let requests = [1.0, 2.0, 3.0].map(|x| call(x).requests[0].clone());
    let reply = m.predict(Call { requests: Arc::new(requests), ..call(0.0) }).await.unwrap();
    assert_eq!(reply.predictions.iter().map(y).collect::<Vec<_>>(), [3.0, 5.0, 7.0]);
    assert_eq!(reply.route.skipped[0].reason, "the backend answered 1 of 3 requests");
}

#[tokio::test]
async fn a_batch_does_not_wait_until_its_calls_are_too_late() {
    let fake = Fake::script("cpu", &[]);
    let batch = BatchOptions { size: 8, delay: SECOND };
    let (_manager, clock, m) = serve(ModelOptions { batch: Some(batch), ..options(&[&fake]) }).await;
    let within = |ms| Some(clock.now() + Duration::from_millis(ms));
    let slow = start(&m, call(1.0)).await;
    let quick = start(&m, Call { deadline: within(100), ..call(2.0) }).await;
    assert!(fake.log().runs.is_empty());
    clock.advance(Duration::from_millis(50));
    assert_eq!(y(quick.await.unwrap().unwrap().prediction()), 5.0);
    assert_eq!(y(slow.await.unwrap().unwrap().prediction()), 3.0);
    assert_eq!(fake.log().runs, [vec![1.0, 2.0]]);
}

#[tokio::test]
async fn a_backend_that_is_always_late_is_left_alone() {
    let (slow, good) = (Fake::new("slow", |_| Act::Obey), Fake::script("good", &[]));
    let attempt = Duration::from_millis(100);
    let breaker = BreakerOptions { failures: 3, ..BreakerOptions::default() };
    let (_manager, clock, m) =
        serve(ModelOptions { attempt: Some(attempt), breaker, ..options(&[&slow, &good]) }).await;
    for _ in 0..3 {
        assert_eq!(m.status().backends[0].breaker, BreakerState::Closed);
        let runs = start(&m, call(1.0)).await;
        slow.until(|log| log.stuck == 1).await;
        clock.advance(attempt);
        assert_eq!(runs.await.unwrap().unwrap().route.backend, "good");
        slow.until(|log| log.stuck == 0).await;
    }
    assert_eq!(m.status().backends[0].breaker, BreakerState::Open);
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_a_call_leaves_nothing_that_hangs_to_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (first, second) = (runtime(), runtime());
    let (manager, m) = first.block_on(async {
        let manager = Manager::start();
        let m = manager.load("m", model(), options(&[&fake])).await.unwrap();
        drop(start(&m, call(1.0)).await);
        fake.until(|log| log.stuck == 1).await;
        (manager, m)
    });
    drop(first);
    second.block_on(async {
        for error in [m.predict(call(2.0)).await.unwrap_err(), manager.list().await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(error.to_string(), "the manager's runtime has ended");
        }
    });
    fake.release();
    drop((manager, m));
    while !fake.is_unused() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_call_whose_time_is_over_does_not_fall_back() {
    let (slow, other) = (Fake::new("slow", |_| Act::Obey), Fake::script("other", &[]));
    let (_manager, clock, m) = serve(options(&[&slow, &other])).await;
    let runs = start(&m, Call { deadline: Some(clock.now() + SECOND), ..call(1.0) }).await;
    slow.until(|log| log.stuck == 1).await;
    while !runs.is_finished() {
        clock.advance(Duration::from_millis(1));
        settle().await;
    }
    let error = runs.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), other.log().loads), (ErrorKind::DeadlineExceeded, 0));
}

#[tokio::test]
async fn why_a_backend_does_not_load_is_never_the_fault_of_a_call() {
    let refuses = || Err(Error::new(ErrorKind::InvalidInput, "it is not made for this model"));
    let odd = Odd { loads: Arc::new(refuses), ..Odd::new() };
    let chain = vec![Candidate::new(odd.clone()), Fake::script("good", &[]).candidate()];
    let (manager, _, m) = serve(ModelOptions { chain, ..ModelOptions::default() }).await;
    let route = m.predict(call(1.0)).await.unwrap().route;
    assert_eq!((&*route.backend, &*route.skipped[0].reason), ("good", "it is not made for this model"));
    let error = manager.load("alone", model(), alone(odd)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_is_loaded_for_nobody_is_given_up() {
    let (bad, slow) = (Fake::script("bad", &[Act::Fail]), Fake::script("slow", &[]).loading(&[Act::Hang]));
    let (manager, clock, m) = serve(options(&[&bad, &slow])).await;
    let runs = start(&m, call(1.0)).await;
    slow.until(|log| log.stuck == 1).await;
    runs.abort();
    drop((manager, m));
    settle().await;
    clock.advance(DriverOptions::default().grace);
    settle().await;
    assert_eq!(clock.sleepers(), 0, "somebody waits for it to be loaded");
    slow.release();
}
