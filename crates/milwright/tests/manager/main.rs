//! The manager with backends that fail as they are told, and a clock that goes on when it is told.

mod fake;
mod hostile;
#[cfg(feature = "prometheus")]
mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fake::{Act, Fake, call, model, settle, y};
use milwright::manager::{
    BatchOptions, BreakerOptions, BreakerState, Call, Clock, DriverOptions, Manager, ManualClock,
    ModelHandle, ModelOptions, Phase, Priority, Reply, ShadowOptions, WhenFull,
};
use milwright::{
    Availability, Backend, Candidate, Cpu, Error, ErrorKind, InferenceRequest, LoadOptions, LoadedModel,
    Model, Result, Tensor,
};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

fn options(chain: &[&Fake]) -> ModelOptions {
    ModelOptions { chain: chain.iter().map(|f| f.candidate()).collect(), ..ModelOptions::default() }
}

/// A manager with one model.
async fn serve(options: ModelOptions) -> (Manager, ManualClock, ModelHandle) {
    let clock = ManualClock::default();
    let manager = Manager::with_clock(Arc::new(clock.clone()));
    let served = manager.load("m", model(), options).await.unwrap();
    (manager, clock, served)
}

/// Calls in a task of its own, which has got as far as it can when this returns.
async fn start(model: &ModelHandle, call: Call) -> JoinHandle<Result<Reply>> {
    let model = model.clone();
    let task = tokio::spawn(async move { model.predict(call).await });
    settle().await;
    task
}

fn kind(reply: Result<Reply>) -> ErrorKind {
    reply.map(|r| r.route).unwrap_err().kind()
}

#[tokio::test]
async fn answers_say_where_they_come_from() {
    let (absent, here) = (Fake::absent("npu"), Fake::script("cpu", &[]));
    let (manager, _, m) = serve(options(&[&absent, &here])).await;
    let reply = manager.predict("m", call(3.0)).await.unwrap();
    assert_eq!(y(reply.prediction()), 7.0);
    assert_eq!(reply.route.backend, "cpu");
    assert_eq!(reply.route.skipped[0].backend, "npu");
    assert_eq!(reply.route.skipped[0].reason, "it is not here");
    let status = m.status();
    assert_eq!((status.phase, status.backends.len(), status.absent.len()), (Phase::Ready, 1, 1));
    assert_eq!(absent.log().loads, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_or_lets_wait() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (_manager, _, m) = serve(ModelOptions { queue: 1, ..options(&[&fake]) }).await;
    let runs = start(&m, call(1.0)).await;
    let waits = start(&m, call(2.0)).await;
    assert_eq!((m.status().running, m.status().waiting), (1, 1));
    let error = m.predict(call(3.0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.to_string(), "1 calls of `m` wait already");
    let patient = start(&m, Call { when_full: WhenFull::Wait, ..call(4.0) }).await;
    fake.release();
    for (task, want) in [(runs, 3.0), (waits, 5.0), (patient, 9.0)] {
        assert_eq!(y(task.await.unwrap().unwrap().prediction()), want);
    }
    assert_eq!((m.status().running, m.status().waiting), (0, 0));
}

#[tokio::test]
async fn the_higher_priority_goes_first() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (_manager, _, m) = serve(options(&[&fake])).await;
    let mut tasks = vec![start(&m, call(0.0)).await];
    for (x, priority) in
        [(1.0, Priority::Low), (2.0, Priority::Normal), (3.0, Priority::High), (4.0, Priority::High)]
    {
        tasks.push(start(&m, Call { priority, ..call(x) }).await);
    }
    fake.release();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fake.log().runs.concat(), [0.0, 3.0, 4.0, 2.0, 1.0]);
}

#[tokio::test]
async fn a_call_that_waits_can_be_given_up() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (_manager, _, m) = serve(options(&[&fake])).await;
    let runs = start(&m, call(1.0)).await;
    let waits = start(&m, call(2.0)).await;
    waits.abort();
    settle().await;
    assert_eq!(m.status().waiting, 0);
    fake.release();
    runs.await.unwrap().unwrap();
    m.predict(call(3.0)).await.unwrap();
    assert_eq!(fake.log().runs.concat(), [1.0, 3.0]);
}

#[tokio::test]
async fn a_call_that_runs_is_told_to_stop() {
    let fake = Fake::script("cpu", &[Act::Obey]);
    let (_manager, _, m) = serve(options(&[&fake])).await;
    let runs = start(&m, call(1.0)).await;
    fake.until(|log| log.stuck == 1).await;
    runs.abort();
    fake.until(|log| log.stuck == 0).await;
    // The same session goes on.
    assert_eq!(y(m.predict(call(2.0)).await.unwrap().prediction()), 5.0);
    assert_eq!(fake.log().loads, 1);
    assert_eq!(m.status().backends[0].abandoned_threads, 0);
}

#[tokio::test]
async fn what_hangs_is_left_behind_and_replaced() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (_manager, clock, m) = serve(options(&[&fake])).await;
    let runs = start(&m, Call { deadline: Some(clock.now() + SECOND), ..call(1.0) }).await;
    fake.until(|log| log.stuck == 1).await;
    clock.advance(SECOND);
    assert_eq!(kind(runs.await.unwrap()), ErrorKind::DeadlineExceeded);
    let next = start(&m, call(2.0)).await;
    // Until it has had its grace, it may come back.
    assert_eq!((fake.log().loads, m.status().backends[0].hung_threads), (1, 0));
    clock.advance(DriverOptions::default().grace);
    assert_eq!(y(next.await.unwrap().unwrap().prediction()), 5.0);
    let status = &m.status().backends[0];
    assert_eq!((fake.log().loads, status.abandoned_threads, status.hung_threads), (2, 1, 1));
    fake.release();
    while m.status().backends[0].hung_threads > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_goes_on_after_its_answer_hangs_too() {
    let fake = Fake::script("cpu", &[Act::Linger, Act::Answer, Act::Linger]);
    let (_manager, clock, m) = serve(options(&[&fake])).await;
    assert_eq!(kind(m.predict(call(1.0)).await), ErrorKind::DeadlineExceeded);
    fake.until(|log| log.stuck == 1).await;
    let next = start(&m, call(2.0)).await;
    assert_eq!((fake.log().loads, fake.log().runs.len()), (1, 1), "it is not asked before it is at rest");
    clock.advance(DriverOptions::default().grace);
    assert_eq!(y(next.await.unwrap().unwrap().prediction()), 5.0);
    let status = &m.status().backends[0];
    assert_eq!((fake.log().loads, status.abandoned_threads, status.hung_threads), (2, 1, 1));
    fake.release();
    // Now it comes to rest within its grace: the session is used again.
    assert_eq!(kind(m.predict(call(3.0)).await), ErrorKind::DeadlineExceeded);
    assert_eq!(y(m.predict(call(4.0)).await.unwrap().prediction()), 9.0);
    assert_eq!((fake.log().loads, m.status().backends[0].abandoned_threads), (2, 1));
}

#[tokio::test]
async fn sessions_run_side_by_side() {
    let fake = Fake::script("cpu", &[Act::Answer, Act::Answer, Act::Answer, Act::Hang, Act::Hang]);
    let warm_up = Some(InferenceRequest::new().input("x", Tensor::scalar(0f32)));
    let (_manager, clock, m) = serve(ModelOptions { sessions: 3, warm_up, ..options(&[&fake]) }).await;
    assert_eq!((m.status().backends[0].sessions, fake.log().loads), (3, 3));
    assert_eq!(fake.log().runs.concat(), [0.0; 3], "each was warmed up");
    let hang = |x| Call { deadline: Some(clock.now() + SECOND), ..call(x) };
    let stuck = [start(&m, hang(1.0)).await, start(&m, hang(2.0)).await];
    fake.until(|log| log.stuck == 2).await;
    // The third one serves them all, and the ones that hang are not in the way when they were given up.
    for x in [3.0, 4.0, 5.0] {
        assert_eq!(y(m.predict(call(x)).await.unwrap().prediction()), 2.0 * x + 1.0);
    }
    clock.advance(SECOND);
    for task in stuck {
        assert_eq!(kind(task.await.unwrap()), ErrorKind::DeadlineExceeded);
    }
    for x in [6.0, 7.0] {
        assert_eq!(y(m.predict(call(x)).await.unwrap().prediction()), 2.0 * x + 1.0);
    }
    assert_eq!(fake.log().loads, 3);
    clock.advance(DriverOptions::default().grace);
    while m.status().backends[0].hung_threads < 2 || fake.log().loads < 5 {
        tokio::task::yield_now().await;
    }
    fake.release();
}

/// Counts how often a model is loaded.
#[derive(Default)]
struct Counting(Arc<AtomicUsize>);

impl Backend for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn availability(&self) -> Availability {
        Cpu.availability()
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        // Long enough for the other sessions to ask for the model, too.
        std::thread::sleep(Duration::from_millis(20));
        Cpu.load(model, options)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_share_one_loaded_model() {
    let loads = Arc::new(AtomicUsize::new(0));
    let chain = vec![Candidate::new(Counting(Arc::clone(&loads)))];
    let manager = Manager::start();
    let options = ModelOptions { chain, sessions: 4, concurrency: 4, ..ModelOptions::default() };
    let m = manager.load("digits", model(), options).await.unwrap();
    assert_eq!((m.status().backends[0].sessions, loads.load(Ordering::SeqCst)), (4, 1));
    let image = Tensor::from_vec(&[1, 1, 8, 8], vec![0.5f32; 64]).unwrap();
    let request = InferenceRequest::new().input("image", image);
    let expected = m.predict(Call::from(request.clone())).await.unwrap().prediction().clone();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (m, request) = (m.clone(), request.clone());
            tokio::spawn(async move { m.predict(Call::from(request)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(*task.await.unwrap().unwrap().prediction(), expected);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_wait_for_a_session_that_is_free() {
    let fake = Fake::script("cpu", &[Act::Hang, Act::Hang]);
    let (_manager, _, m) = serve(ModelOptions { sessions: 2, concurrency: 4, ..options(&[&fake]) }).await;
    let mut tasks = Vec::new();
    for x in [1.0, 2.0, 3.0, 4.0] {
        tasks.push(start(&m, call(x)).await);
    }
    fake.until(|log| log.stuck == 2).await;
    assert_eq!((m.status().running, fake.log().runs.len()), (4, 2));
    // A call that waits can be given up.
    tasks.remove(2).abort();
    fake.release();
    for (task, x) in tasks.into_iter().zip([1.0, 2.0, 4.0]) {
        assert_eq!(y(task.await.unwrap().unwrap().prediction()), 2.0 * x + 1.0);
    }
    assert_eq!(fake.log().runs.len(), 3);
}

#[tokio::test]
async fn no_further_threads_are_risked_than_allowed() {
    let fake = Fake::new("cpu", |_| Act::Hang);
    let driver = DriverOptions { max_hung: 2, ..DriverOptions::default() };
    let (_manager, clock, m) = serve(ModelOptions { driver, ..options(&[&fake]) }).await;
    for hung in 1..=2 {
        let runs = start(&m, call(1.0)).await;
        fake.until(|log| log.stuck == hung).await;
        clock.advance(30 * SECOND);
        assert_eq!(kind(runs.await.unwrap()), ErrorKind::DeadlineExceeded);
        settle().await;
        clock.advance(driver.grace);
        settle().await;
    }
    let error = m.predict(call(1.0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "2 threads hang in this backend: no further one is risked");
    fake.release();
}

#[tokio::test]
async fn deadlines_pass_in_the_queue_too() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (_manager, clock, m) = serve(options(&[&fake])).await;
    let runs = start(&m, call(1.0)).await;
    let deadline = clock.now() + SECOND;
    let waits = start(&m, Call { deadline: Some(deadline), ..call(2.0) }).await;
    clock.advance(SECOND);
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the call took longer than the 1.0s that it had");
    assert!(clock.now() <= deadline);
    let late = m.predict(Call { deadline: Some(deadline), ..call(3.0) }).await;
    assert_eq!(kind(late), ErrorKind::DeadlineExceeded);
    fake.release();
    runs.await.unwrap().unwrap();
    assert_eq!(fake.log().runs.concat(), [1.0]);
}

#[tokio::test]
async fn a_model_that_hangs_in_loading_holds_nobody_up() {
    let (bad, good) = (Fake::script("bad", &[]).loading(&[Act::Hang]), Fake::script("good", &[]));
    let (manager, clock, m) = serve(options(&[&good])).await;
    let loading = {
        let (manager, options) = (manager.clone(), options(&[&bad]));
        tokio::spawn(async move { manager.load("bad", model(), options).await })
    };
    bad.until(|log| log.stuck == 1).await;
    m.predict(call(1.0)).await.unwrap();
    assert_eq!(manager.model("bad").await.unwrap().status().phase, Phase::Loading);
    assert_eq!(manager.list().await.unwrap().len(), 2);
    clock.advance(DriverOptions::default().load_timeout);
    settle().await;
    clock.advance(DriverOptions::default().grace);
    let error = loading.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.to_string(), "loading took longer than 300s");
    assert_eq!(manager.list().await.unwrap().len(), 1);
    bad.release();
    // Its name is free again.
    manager.load("bad", model(), options(&[&bad])).await.unwrap();
}

#[tokio::test]
async fn loading_can_be_given_up() {
    let fake = Fake::script("cpu", &[]).loading(&[Act::Hang]);
    let clock = ManualClock::default();
    let manager = Manager::with_clock(Arc::new(clock.clone()));
    let loading = {
        let (manager, options) = (manager.clone(), options(&[&fake]));
        tokio::spawn(async move { manager.load("m", model(), options).await })
    };
    fake.until(|log| log.stuck == 1).await;
    loading.abort();
    settle().await;
    clock.advance(DriverOptions::default().grace);
    settle().await;
    assert!(manager.list().await.unwrap().is_empty());
    fake.release();
}

#[tokio::test]
async fn what_does_not_load_is_an_error_or_a_fallback() {
    let bad = Fake::script("bad", &[]).loading(&[Act::Fail, Act::Panic]);
    let clock = ManualClock::default();
    let manager = Manager::with_clock(Arc::new(clock.clone()));
    let error = manager.load("m", model(), options(&[&bad])).await.unwrap_err();
    assert_eq!(error.to_string(), "it failed, as told");
    let error = manager.load("m", model(), options(&[&bad])).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend panicked while it loaded the model");

    let (bad, good) = (Fake::script("bad", &[]).loading(&[Act::Fail]), Fake::script("good", &[]));
    let m = manager.load("m", model(), options(&[&bad, &good])).await.unwrap();
    let reply = m.predict(call(1.0)).await.unwrap();
    assert_eq!((&*reply.route.backend, &*reply.route.skipped[0].reason), ("good", "it failed, as told"));
    assert_eq!(bad.log().loads, 1);
    // After a while it is tried again.
    clock.advance(DriverOptions::default().reload_after);
    assert_eq!(m.predict(call(1.0)).await.unwrap().route.backend, "bad");
}

#[tokio::test]
async fn a_breaker_opens_probes_and_closes() {
    use Act::{Answer, Fail, Hang};
    let (bad, good) =
        (Fake::script("bad", &[Fail, Fail, Fail, Fail, Hang, Answer]), Fake::script("good", &[]));
    let breaker = BreakerOptions { failures: 3, ..BreakerOptions::default() };
    let (_manager, clock, m) =
        serve(ModelOptions { breaker, concurrency: 2, ..options(&[&bad, &good]) }).await;
    let state = || m.status().backends[0].breaker;
    for i in 0..3 {
        assert_eq!(state(), BreakerState::Closed, "{i}");
        let reply = m.predict(call(1.0)).await.unwrap();
        assert_eq!((&*reply.route.backend, reply.route.skipped.len()), ("good", 1));
    }
    assert_eq!(state(), BreakerState::Open);
    let reply = m.predict(call(1.0)).await.unwrap();
    assert_eq!(reply.route.skipped[0].reason, "it failed too often: left alone for 10.0s");
    assert_eq!(bad.log().runs.len(), 3);

    // The probe fails: it stays open.
    clock.advance(breaker.cooldown);
    assert_eq!(state(), BreakerState::HalfOpen);
    assert_eq!(m.predict(call(1.0)).await.unwrap().route.backend, "good");
    assert_eq!((state(), bad.log().runs.len()), (BreakerState::Open, 4));

    // While one probes, the others go elsewhere.
    clock.advance(breaker.cooldown);
    let probe = start(&m, call(2.0)).await;
    bad.until(|log| log.stuck == 1).await;
    assert_eq!(m.predict(call(3.0)).await.unwrap().route.backend, "good");
    assert_eq!(bad.log().runs.len(), 5);
    bad.release();
    assert_eq!(probe.await.unwrap().unwrap().route.backend, "bad");
    assert_eq!(state(), BreakerState::Closed);
    assert_eq!(m.predict(call(3.0)).await.unwrap().route.backend, "bad");
}

#[tokio::test]
async fn a_backend_that_hangs_loses_the_call_to_the_next() {
    let (bad, good) = (Fake::script("bad", &[Act::Hang]), Fake::script("good", &[]));
    let (_manager, clock, m) =
        serve(ModelOptions { attempt: Some(SECOND), standby: true, ..options(&[&bad, &good]) }).await;
    let runs = start(&m, call(1.0)).await;
    bad.until(|log| log.stuck == 1).await;
    clock.advance(SECOND);
    let reply = runs.await.unwrap().unwrap();
    assert_eq!((&*reply.route.backend, y(reply.prediction())), ("good", 3.0));
    assert_eq!(reply.route.skipped[0].reason, "the backend took longer than the 1.0s that it had");
    bad.release();
}

#[tokio::test]
async fn a_wrong_input_is_no_reason_to_fall_back() {
    let (first, second) = (Fake::script("first", &[]), Fake::script("second", &[]));
    let breaker = BreakerOptions { failures: 1, ..BreakerOptions::default() };
    let (_manager, _, m) = serve(ModelOptions { breaker, ..options(&[&first, &second]) }).await;
    assert_eq!(kind(m.predict(InferenceRequest::new()).await), ErrorKind::InvalidInput);
    assert_eq!(m.status().backends[0].breaker, BreakerState::Closed);
    assert_eq!(second.log().loads, 0);
}

#[tokio::test]
async fn sessions_that_die_or_panic_are_replaced() {
    for act in [Act::Die, Act::Panic] {
        let fake = Fake::script("cpu", &[act]);
        let (_manager, _, m) = serve(options(&[&fake])).await;
        assert_eq!(kind(m.predict(call(1.0)).await), ErrorKind::Unavailable);
        assert_eq!(y(m.predict(call(2.0)).await.unwrap().prediction()), 5.0);
        assert_eq!(fake.log().loads, 2);
    }
}

#[tokio::test]
async fn a_shadow_that_differs_is_reported_and_never_seen() {
    let (primary, other) =
        (Fake::script("a", &[]), Fake::new("b", |x| if x == 5.0 { Act::Wrong } else { Act::Answer }));
    let shadow = ShadowOptions { candidate: other.candidate(), rate: 0.5, snr_db: 40.0 };
    let (_manager, _, m) = serve(ModelOptions { shadow: Some(shadow), ..options(&[&primary]) }).await;
    for i in 0..10 {
        let reply = m.predict(call(i as f32)).await.unwrap();
        assert_eq!((y(reply.prediction()), &*reply.route.backend), (2.0 * i as f32 + 1.0, "a"));
        let due = (i as u64).div_ceil(2);
        while m.status().shadow.unwrap().compared < due {
            tokio::task::yield_now().await;
        }
        settle().await;
    }
    let found = m.status().shadow.unwrap();
    assert_eq!((found.compared, found.mismatches, found.failed, found.missed), (5, 1, 0, 0));
    assert_eq!(found.worst.unwrap().max_abs, Some(1.0));
    assert_eq!(other.log().runs.concat(), [1.0, 3.0, 5.0, 7.0, 9.0]);
}

#[tokio::test]
async fn calls_are_batched_up_to_a_size_or_a_delay() {
    let fake = Fake::script("cpu", &[]);
    let batch = BatchOptions { size: 3, delay: SECOND };
    let (_manager, clock, m) = serve(ModelOptions { batch: Some(batch), ..options(&[&fake]) }).await;
    let full = [start(&m, call(1.0)).await, start(&m, call(2.0)).await, start(&m, call(3.0)).await];
    for (task, want) in full.into_iter().zip([3.0, 5.0, 7.0]) {
        assert_eq!(y(task.await.unwrap().unwrap().prediction()), want);
    }
    let few = [start(&m, call(4.0)).await, start(&m, call(5.0)).await];
    assert_eq!(fake.log().runs.len(), 1);
    clock.advance(SECOND);
    for (task, want) in few.into_iter().zip([9.0, 11.0]) {
        assert_eq!(y(task.await.unwrap().unwrap().prediction()), want);
    }
    assert_eq!(fake.log().runs, [vec![1.0, 2.0, 3.0], vec![4.0, 5.0]]);

    // One that is wrong fails alone; one that was given up is left out.
    let wrong = start(&m, InferenceRequest::new().into()).await;
    let gone = start(&m, call(6.0)).await;
    gone.abort();
    settle().await;
    let right = start(&m, call(7.0)).await;
    assert_eq!(kind(wrong.await.unwrap()), ErrorKind::InvalidInput);
    assert_eq!(y(right.await.unwrap().unwrap().prediction()), 15.0);
    assert_eq!(fake.log().runs[2..], [vec![7.0]]);
}

#[tokio::test]
async fn unloading_answers_what_is_there_first() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (manager, _, m) = serve(options(&[&fake])).await;
    let tasks = [start(&m, call(1.0)).await, start(&m, call(2.0)).await];
    let unloading = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.unload("m", SECOND).await })
    };
    settle().await;
    let error = m.predict(call(3.0)).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Unavailable, "`m` is being unloaded"));
    assert_eq!(m.status().phase, Phase::Closing);
    fake.release();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    unloading.await.unwrap().unwrap();
    assert_eq!(manager.unload("m", SECOND).await.unwrap_err().to_string(), "no model `m` is loaded");
    assert_eq!(kind(manager.predict("m", call(1.0)).await), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn draining_ends_whatever_is_left() {
    let fake = Fake::script("cpu", &[Act::Hang]);
    let (manager, clock, m) = serve(options(&[&fake])).await;
    let tasks = [start(&m, call(1.0)).await, start(&m, call(2.0)).await];
    let draining = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.drain(SECOND).await })
    };
    settle().await;
    clock.advance(SECOND);
    for task in tasks {
        assert_eq!(kind(task.await.unwrap()), ErrorKind::Unavailable);
    }
    settle().await;
    clock.advance(DriverOptions::default().grace);
    draining.await.unwrap();
    assert!(manager.list().await.unwrap().is_empty());
    let error: Error = manager.load("n", model(), options(&[&fake])).await.unwrap_err();
    assert_eq!(error.to_string(), "the manager takes no more models");
    fake.release();
}

#[tokio::test]
async fn names_are_taken_once() {
    let fake = Fake::script("cpu", &[]);
    let (manager, _, _) = serve(options(&[&fake])).await;
    let error = manager.load("m", model(), options(&[&fake])).await.unwrap_err();
    assert_eq!(error.to_string(), "a model `m` is loaded already");
    let none = manager.load("n", model(), options(&[&Fake::absent("npu")])).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unavailable);
    assert_eq!(none.hint(), Some("npu: it is not here"));
}

#[tokio::test]
async fn the_warm_up_runs_before_the_first_call() {
    let fake = Fake::script("cpu", &[]);
    let warm_up = Some(call(9.0).requests[0].clone());
    let (_manager, _, m) = serve(ModelOptions { warm_up, ..options(&[&fake]) }).await;
    m.predict(call(1.0)).await.unwrap();
    assert_eq!(fake.log().runs.concat(), [9.0, 1.0]);
}
