//! Tests of the state machines under every interleaving of threads:
//!
//! `RUSTFLAGS='--cfg loom' cargo test -p milwright --lib --release loom`

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::breaker::{BreakerOptions, BreakerState, Circuit};
use super::limit::Queue;
use super::{Priority, WhenFull};

/// Never two at a time; each call gets its turn; at the end all places are free.
#[test]
fn places_are_handed_on() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1, 2));
        let inside = loom::sync::Arc::new(AtomicUsize::new(0));
        let threads = [Priority::Normal, Priority::High].map(|priority| {
            let (queue, inside) = (Arc::clone(&queue), inside.clone());
            thread::spawn(move || {
                let place =
                    block_on(queue.enter(priority, WhenFull::Refuse).unwrap_or_else(|_| unreachable!()));
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(place);
            })
        });
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(queue.depth(), (0, 0));
    });
}

/// A call that is dropped just when it gets a place passes the place on.
#[test]
fn giving_up_loses_no_place() {
    loom::model(|| {
        let queue = Arc::new(Queue::new(1, 2));
        let enter = |queue: &Arc<Queue>| {
            Arc::clone(queue).enter(Priority::Normal, WhenFull::Refuse).unwrap_or_else(|_| unreachable!())
        };
        let first = block_on(enter(&queue));
        let second = enter(&queue);
        let third = enter(&queue);
        let leaving = thread::spawn(move || drop(first));
        let giving_up = thread::spawn(move || drop(second));
        drop(block_on(third));
        leaving.join().unwrap();
        giving_up.join().unwrap();
        assert_eq!(queue.depth(), (0, 0));
    });
}

/// Of two calls that arrive when the breaker is due for a probe, one is admitted, and its result decides.
#[test]
fn one_call_probes() {
    loom::model(|| {
        let (cooldown, patience) = (Duration::from_secs(1), Duration::ZERO);
        let circuit = Arc::new(Circuit::new(BreakerOptions { failures: 1, cooldown, patience }));
        let start = Instant::now();
        let admitted = Arc::clone(&circuit).admit(start).ok().unwrap();
        assert_eq!(admitted.failed(start), Some(BreakerState::Open));
        assert!(Arc::clone(&circuit).admit(start).is_err());

        let later = start + cooldown;
        let probes = loom::sync::Arc::new(AtomicUsize::new(0));
        let threads = [0, 1].map(|_| {
            let (circuit, probes) = (Arc::clone(&circuit), probes.clone());
            thread::spawn(move || {
                let Ok(admitted) = circuit.admit(later) else { return };
                // After the probe succeeded, the other call is admitted like any call.
                if admitted.succeeded() == Some(BreakerState::Closed) {
                    probes.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(probes.load(Ordering::SeqCst), 1);
        assert_eq!(circuit.state(later), BreakerState::Closed);
    });
}

/// If a probe is dropped, the next call probes.
#[test]
fn a_probe_can_be_given_up() {
    loom::model(|| {
        let (cooldown, patience) = (Duration::from_secs(1), Duration::ZERO);
        let circuit = Arc::new(Circuit::new(BreakerOptions { failures: 1, cooldown, patience }));
        let start = Instant::now();
        // Admitted while the breaker was closed: its result comes too late to count.
        let slow = Arc::clone(&circuit).admit(start).ok().unwrap();
        Arc::clone(&circuit).admit(start).ok().unwrap().failed(start);
        let later = start + cooldown;
        let probe = Arc::clone(&circuit).admit(later).ok().unwrap();
        let giving_up = thread::spawn(move || drop(probe));
        let late = thread::spawn(move || assert_eq!(slow.failed(later), None));
        giving_up.join().unwrap();
        late.join().unwrap();
        let next = Arc::clone(&circuit).admit(later).ok().unwrap();
        assert_eq!(next.succeeded(), Some(BreakerState::Closed));
    });
}
