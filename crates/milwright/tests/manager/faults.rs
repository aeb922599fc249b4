//! Ten thousand calls of backends that fail now and then, hang or die: each is answered once, with the right numbers or
//! a typed error, before its deadline; and nothing is left behind. (The only test of its process: it counts threads.)

#[expect(dead_code, reason = "the other test uses more of it")]
mod fake;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fake::{Act, Fake, call, model, settle, y};
use milwright::ErrorKind;
use milwright::manager::{Call, Clock, DriverOptions, Manager, ManualClock, ModelOptions};
use milwright::telemetry::{self, Exporter};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const CALLS: usize = 10_000;
const MODELS: usize = 4;
const ATTEMPT: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_millis(100);
/// Calls at a time.
const CALLERS: usize = 32;

/// One model's backends. Out of 1000 runs, 50 fail, 10 hang, 5 kill the session.
fn unreliable(name: &'static str, seed: u64) -> Fake {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    Fake::new(name, move |_| match random.next_u64() % 1000 {
        0..50 => Act::Fail,
        50..60 => Act::Hang,
        60..65 => Act::Die,
        _ => Act::Answer,
    })
}

#[derive(Default)]
struct Tally {
    right: usize,
    errors: std::collections::BTreeMap<String, usize>,
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for who asks with --nocapture")]
fn every_call_is_answered_once() {
    let exporter = Exporter::install().unwrap();
    let model = model();
    let before = (threads(), files());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let fakes: Vec<[Fake; 2]> = (0..MODELS as u64)
        .map(|i| [unreliable("first", 2 * i + 1), unreliable("second", 2 * i + 2)])
        .collect();
    let tally = tokio::task::LocalSet::new().block_on(&runtime, async {
        let clock = ManualClock::default();
        let manager = Manager::with_clock(Arc::new(clock.clone()));
        for (i, fakes) in fakes.iter().enumerate() {
            let options = ModelOptions {
                chain: fakes.iter().map(Fake::candidate).collect(),
                attempt: Some(ATTEMPT),
                driver: DriverOptions { grace: GRACE, max_hung: CALLS, ..DriverOptions::default() },
                ..ModelOptions::default()
            };
            manager.load(&format!("m{i}"), Arc::clone(&model), options).await.unwrap();
        }
        let tally = Rc::new(RefCell::new(Tally::default()));
        let callers: Vec<_> = (0..CALLERS)
            .map(|i| tokio::task::spawn_local(ask(i, manager.clone(), clock.clone(), Rc::clone(&tally))))
            .collect();
        let hangs = tokio::task::spawn_local(pass_time(fakes.clone(), clock.clone()));
        for caller in callers {
            caller.await.unwrap();
        }
        hangs.abort();
        fakes.iter().flatten().for_each(Fake::release);
        manager.drain(Duration::ZERO).await;
        Rc::try_unwrap(tally).ok().unwrap().into_inner()
    });
    drop(runtime);

    let Tally { right, errors } = tally;
    println!("{right} right, {errors:?}");
    assert_eq!(right + errors.values().sum::<usize>(), CALLS);
    // Both backends have to fail a call, or time has to run out; what was hanging is replaced meanwhile.
    assert!(right > CALLS * 9 / 10, "{right} of {CALLS}: {errors:?}");
    let metrics = exporter.render();
    for name in
        [telemetry::FALLBACKS, telemetry::ABANDONED_THREADS, telemetry::RUN_SECONDS, telemetry::BREAKER_STATE]
    {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }

    // What hung has been released: its threads end now.
    let gone = || threads() == before.0;
    (0..10_000_000).take_while(|_| !gone()).for_each(|_| std::thread::yield_now());
    assert_eq!((threads(), files()), before);
    for fake in fakes.iter().flatten() {
        assert!(fake.is_unused(), "a session was not dropped");
    }
}

/// Calls one model after the other.
async fn ask(caller: usize, manager: Manager, clock: ManualClock, tally: Rc<RefCell<Tally>>) {
    for i in (caller..CALLS).step_by(CALLERS) {
        let deadline = clock.now() + Duration::from_secs(1);
        let asked = Call { deadline: Some(deadline), ..call(i as f32) };
        let reply = manager.predict(&format!("m{}", i % MODELS), asked).await;
        assert!(clock.now() <= deadline, "call {i} was answered too late");
        let mut tally = tally.borrow_mut();
        match reply {
            Ok(reply) => {
                assert_eq!(y(reply.prediction()), 2.0 * i as f32 + 1.0, "call {i}");
                tally.right += 1;
            }
            Err(e) => {
                let expected = [ErrorKind::Runtime, ErrorKind::Unavailable, ErrorKind::DeadlineExceeded];
                assert!(expected.contains(&e.kind()), "call {i}: {e:?}");
                *tally.errors.entry(format!("{:?}", e.kind())).or_default() += 1;
            }
        }
    }
}

/// When something hangs that has not hung before, so much time passes that it is given up and left behind. A
/// millisecond at a time, and whoever can do something in it does.
async fn pass_time(fakes: Vec<[Fake; 2]>, clock: ManualClock) {
    let mut seen = 0;
    loop {
        let stuck: usize = fakes.iter().flatten().map(|f| f.log().stuck).sum();
        if stuck > seen {
            seen = stuck;
            for _ in 0..(ATTEMPT + GRACE).as_millis() {
                clock.advance(Duration::from_millis(1));
                settle().await;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
