//! What is measured is right.

use std::sync::{Arc, OnceLock};

use milwright::ErrorKind;
use milwright::manager::{BreakerOptions, Call, Clock, DriverOptions, Manager, ManualClock, ModelOptions};
use milwright::telemetry::Exporter;

use crate::fake::{Act, Fake, call, model, settle};
use crate::{SECOND, kind, options, start};

/// The metrics of this process, in which every model with a name of its own has its own.
fn exporter() -> &'static Exporter {
    static EXPORTER: OnceLock<Exporter> = OnceLock::new();
    EXPORTER.get_or_init(|| Exporter::install().unwrap())
}

#[tokio::test]
async fn metrics_are_right_when_calls_are_given_up_or_refused() {
    let exporter = exporter();
    let (clock, fake) = (ManualClock::default(), Fake::script("cpu", &[Act::Hang]));
    let manager = Manager::with_clock(Arc::new(clock.clone()));
    let m = manager.load("measured", model(), options(&[&fake])).await.unwrap();
    let runs = start(&m, call(1.0)).await;
    let waits = start(&m, Call { deadline: Some(clock.now() + SECOND), ..call(2.0) }).await;
    let gone = start(&m, call(3.0)).await;
    let depth = |n| format!("milwright_queue_depth{{model=\"measured\"}} {n}\n");
    assert!(exporter.render().contains(&depth(2)));
    gone.abort();
    settle().await;
    assert!(exporter.render().contains(&depth(1)));
    clock.advance(SECOND);
    assert_eq!(kind(waits.await.unwrap()), ErrorKind::DeadlineExceeded);
    assert!(exporter.render().contains(&depth(0)));
    fake.release();
    runs.await.unwrap().unwrap();
    manager.unload("measured", SECOND).await.unwrap();
    assert_eq!(kind(m.predict(call(4.0)).await), ErrorKind::Unavailable);
    let metrics = exporter.render();
    for (outcome, calls) in [("ok", 1), ("deadline_exceeded", 1), ("unavailable", 1)] {
        let line = format!("milwright_calls_total{{model=\"measured\",outcome=\"{outcome}\"}} {calls}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn metrics_are_right_when_many_threads_come_back_at_once() {
    const THREADS: usize = 50;
    let exporter = exporter();
    let (clock, fake) = (ManualClock::default(), Fake::new("cpu", |_| Act::Hang));
    let manager = Manager::with_clock(Arc::new(clock.clone()));
    let driver = DriverOptions { max_hung: THREADS + 1, ..DriverOptions::default() };
    let breaker = BreakerOptions { failures: u32::MAX, ..BreakerOptions::default() };
    let hanging = ModelOptions { driver, breaker, ..options(&[&fake]) };
    let m = manager.load("hangs", model(), hanging).await.unwrap();
    for stuck in 1..=THREADS {
        let runs = start(&m, Call { deadline: Some(clock.now() + SECOND), ..call(1.0) }).await;
        fake.until(|log| log.stuck == stuck).await;
        clock.advance(SECOND);
        assert_eq!(kind(runs.await.unwrap()), ErrorKind::DeadlineExceeded);
        settle().await;
        clock.advance(driver.grace);
        settle().await;
    }
    let hung = |n| format!("milwright_hung_threads{{model=\"hangs\",backend=\"cpu\"}} {n}\n");
    assert!(exporter.render().contains(&hung(THREADS)));
    fake.release();
    let is_right = || exporter.render().contains(&hung(0));
    (0..10_000).take_while(|_| !is_right()).for_each(|_| std::thread::yield_now());
    assert!(is_right(), "{}", exporter.render());
}
