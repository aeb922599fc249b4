//! Clocks that are passed in as values.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::BoxFuture;

/// The clock of the policies.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Instant;

    /// Completes at this time.
    fn sleep_until(&self, time: Instant) -> BoxFuture<'static, ()>;
}

/// How long before its deadline a call times out, at most. Timers fire up to a millisecond late, and the answer takes
/// time to reach the caller.
pub(crate) const MARGIN: Duration = Duration::from_millis(2);

/// Adds a duration to a time. If the sum is out of range, returns a time in the far future.
pub(crate) fn after(now: Instant, duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(86_400 * 365 * 30);
    now.checked_add(duration).unwrap_or_else(|| now + LONG)
}

/// The system's clock, with tokio's timers, which fire up to a millisecond late.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, time: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(time.into()))
    }
}

/// A clock for tests that only moves when it is told to. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use milwright::manager::{Clock, ManualClock};
///
/// let clock = ManualClock::default();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now() - start, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Instant,
    /// The wakers of sleeping tasks, by wake-up time.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
}

impl ManualClock {
    /// Moves the clock forward, and wakes the tasks whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        hands.now += by;
        let now = hands.now;
        let asleep = hands.sleepers.split_off(&(now, u64::MAX));
        let awake = std::mem::replace(&mut hands.sleepers, asleep);
        drop(hands);
        awake.into_values().for_each(Waker::wake);
    }

    /// Moves the clock forward to the next wake-up time. Returns whether there is one.
    pub fn advance_to_next(&self) -> bool {
        let hands = self.lock();
        let Some((&(time, _), _)) = hands.sleepers.first_key_value() else { return false };
        let by = time.saturating_duration_since(hands.now);
        drop(hands);
        self.advance(by);
        true
    }

    /// The number of sleeping tasks.
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        let hands = Hands { now: Instant::now(), sleepers: BTreeMap::new(), next_id: 0 };
        ManualClock(Arc::new(Mutex::new(hands)))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.lock().now
    }

    fn sleep_until(&self, time: Instant) -> BoxFuture<'static, ()> {
        let mut hands = self.lock();
        hands.next_id += 1;
        Box::pin(Sleep { clock: self.clone(), key: (time, hands.next_id) })
    }
}

struct Sleep {
    clock: ManualClock,
    key: (Instant, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.clock.lock();
        if hands.now >= self.key.0 {
            return Poll::Ready(());
        }
        hands.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}
