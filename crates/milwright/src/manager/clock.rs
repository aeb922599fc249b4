//! Time, passed in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::BoxFuture;

/// Where the policies take the time from.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Instant;

    /// Ends when the time has come.
    fn sleep_until(&self, time: Instant) -> BoxFuture<'static, ()>;
}

/// Timers are up to a millisecond late, and the answer has a way to go: so much before a deadline it is given up.
pub(crate) const MARGIN: Duration = Duration::from_millis(2);

/// The time after a while; where that is past what can be told, a long time from now.
pub(crate) fn after(now: Instant, duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(86_400 * 365 * 30);
    now.checked_add(duration).unwrap_or_else(|| now + LONG)
}

/// The time of the system, with tokio's timers: up to a millisecond late.
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

/// A clock that stands still until it is told to go on, for tests. Clones are the same clock.
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
    /// Who sleeps, until when.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
}

impl ManualClock {
    /// Lets time pass: whoever slept until then wakes up.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        hands.now += by;
        let now = hands.now;
        let asleep = hands.sleepers.split_off(&(now, u64::MAX));
        let awake = std::mem::replace(&mut hands.sleepers, asleep);
        drop(hands);
        awake.into_values().for_each(Waker::wake);
    }

    /// Lets time pass until the first sleeper wakes up, if there is one.
    pub fn advance_to_next(&self) -> bool {
        let hands = self.lock();
        let Some((&(time, _), _)) = hands.sleepers.first_key_value() else { return false };
        let by = time.saturating_duration_since(hands.now);
        drop(hands);
        self.advance(by);
        true
    }

    /// How many sleep.
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
