//! Keeps asynchronous calls apart: one in flight at a time, and each answered exactly once. Nothing here knows
//! Objective-C, so that it is tested on every machine, under miri, and by loom in every order of threads:
//!
//! `RUSTFLAGS='--cfg loom' cargo test -p milwright-apple --lib loom`

use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(all(test, loom)))]
use std::sync::{Arc, Mutex, atomic::AtomicBool};
use std::sync::{PoisonError, atomic::Ordering};

// loom's own types, with which it tries every order of threads.
#[cfg(all(test, loom))]
use ::loom::sync::{Arc, Mutex, atomic::AtomicBool};

use crate::{Error, ErrorKind, Result};

/// Whether an asynchronous prediction, of one model or with one state, is in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicBool>);

/// The claim on a prediction in flight. Dropping it ends the claim.
pub(crate) struct Pass(InFlight);

impl InFlight {
    /// Claims the model or state for one prediction.
    ///
    /// # Errors
    /// Another prediction is in flight.
    pub fn claim(&self, what: &str) -> Result<Pass> {
        if self.0.swap(true, Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("an asynchronous prediction of this {what} has not come back"),
            ));
        }
        Ok(Pass(self.clone()))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

type Done<R> = Box<dyn FnOnce(Result<R>) + Send>;

/// A completion handler; `None` once it has been called.
pub(crate) struct Finish<R>(Mutex<Option<Done<R>>>);

impl<R> Finish<R> {
    pub fn new(done: impl FnOnce(Result<R>) + Send + 'static) -> Finish<R> {
        Finish(Mutex::new(Some(Box::new(done))))
    }

    /// Calls the handler with `result()`, unless it has been called already.
    pub fn with(&self, result: impl FnOnce() -> Result<R>) {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(done) = done else { return };
        // A panic must not unwind into Core ML.
        let _ = catch_unwind(AssertUnwindSafe(|| done(result())));
    }
}

impl<R> Drop for Finish<R> {
    fn drop(&mut self) {
        self.with(|| {
            Err(Error::new(
                ErrorKind::Protocol,
                "Core ML let go of the completion handler without calling it",
            ))
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let flight = InFlight::default();
        let pass = flight.claim("model").unwrap();
        assert_eq!(flight.claim("model").err().unwrap().kind(), ErrorKind::Busy);
        drop(pass);
        assert!(flight.claim("model").is_ok());
    }

    #[test]
    fn a_claim_is_exclusive_among_threads() {
        let flight = InFlight::default();
        let inside = AtomicUsize::new(0);
        // Written by the thread that has the claim, without a lock of its own: a second claim would be a data race.
        let mut total = 0u64;
        struct Shared(*mut u64);
        // SAFETY: the claim keeps the threads apart, which is what is tested.
        unsafe impl Sync for Shared {}
        let shared = Shared(&mut total);
        let claimed = AtomicUsize::new(0);
        // Miri detects a race at once, hardware only with luck.
        let tries = if cfg!(miri) { 100 } else { 500_000 };
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let shared = &shared;
                    for _ in 0..tries {
                        let Ok(_pass) = flight.claim("model") else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        // SAFETY: as above; the number outlives the scope.
                        unsafe { *shared.0 += 1 };
                        claimed.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(total, claimed.into_inner() as u64);
        assert!(flight.claim("model").is_ok(), "who was refused has claimed it");
    }

    #[test]
    fn many_answers_are_one() {
        for _ in 0..50 {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let finish = Finish::new(move |_: Result<usize>| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            thread::scope(|s| {
                for i in 0..3 {
                    let finish = &finish;
                    s.spawn(move || finish.with(|| Ok(i)));
                }
            });
            drop(finish);
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn none_is_an_error() {
        let (sender, receiver) = std::sync::mpsc::channel();
        drop(Finish::new(move |result: Result<()>| sender.send(result).unwrap()));
        assert_eq!(receiver.recv().unwrap().unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_panic_ends_there() {
        let finish = Finish::new(|_: Result<()>| std::panic::resume_unwind(Box::new("a handler panics")));
        finish.with(|| Ok(()));
    }
}

#[cfg(all(test, loom))]
mod loom {
    use ::loom::cell::UnsafeCell;
    use ::loom::thread;

    use super::*;

    /// The data that a claim protects. loom tracks every access to it.
    struct Protected(UnsafeCell<u32>);

    // SAFETY: the claim keeps the threads apart, which is what is tested.
    unsafe impl Sync for Protected {}

    #[test]
    fn a_claim_is_exclusive() {
        ::loom::model(|| {
            let flight = InFlight(Arc::new(AtomicBool::new(false)));
            let count = Arc::new(Protected(UnsafeCell::new(0)));
            let claim = |flight: InFlight, count: Arc<Protected>| {
                move || match flight.claim("model") {
                    // SAFETY: as above.
                    Ok(_pass) => count.0.with_mut(|count| unsafe { *count += 1 }),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Busy),
                }
            };
            let threads = [0, 1].map(|_| thread::spawn(claim(flight.clone(), Arc::clone(&count))));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn an_answer_comes_once() {
        ::loom::model(|| {
            let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counted = std::sync::Arc::clone(&calls);
            let finish = Arc::new(Finish::new(move |_: Result<usize>| {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            let threads = [0, 1].map(|i| {
                let finish = Arc::clone(&finish);
                thread::spawn(move || finish.with(|| Ok(i)))
            });
            drop(finish);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        });
    }
}
