//! When a worker that died is replaced. The time is passed in.

use std::time::{Duration, Instant};

/// When a worker that died is replaced. The first replacement starts at once: a crash costs one request. If workers
/// keep dying without answering a request, a growing pause follows each death, in which requests fail at once; after
/// `limit` replacements in a row there is no further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// How many times in a row a worker is replaced without an answer in between; 5 by default, 0 for never.
    pub limit: u32,
    /// The pause after the second death in a row, 100 ms by default; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause; 30 s by default.
    pub longest_pause: Duration,
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        let (pause, longest_pause) = (Duration::from_millis(100), Duration::from_secs(30));
        RestartPolicy { limit: 5, pause, longest_pause }
    }
}

/// Counts the deaths of one session's workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    in_a_row: u32,
    next: Option<Instant>,
}

/// Why no worker may be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Not before this time has passed.
    For(Duration),
    /// Never, after this number of deaths.
    Forever(u32),
}

impl Restarts {
    pub fn new(policy: RestartPolicy) -> Restarts {
        Restarts { policy, in_a_row: 0, next: None }
    }

    /// Returns whether a worker may be started now.
    pub fn check(&self, now: Instant) -> Result<(), Held> {
        if self.gave_up() {
            return Err(Held::Forever(self.in_a_row));
        }
        match self.next {
            Some(next) if next > now => Err(Held::For(next - now)),
            _ => Ok(()),
        }
    }

    pub fn died(&mut self, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let doublings = self.in_a_row.saturating_sub(2);
        let pause = self.policy.pause.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        let pause = if self.in_a_row == 1 { Duration::ZERO } else { pause.min(self.policy.longest_pause) };
        self.next = now.checked_add(pause);
    }

    /// A request was answered: the count of deaths in a row starts over.
    pub fn answered(&mut self) {
        (self.in_a_row, self.next) = (0, None);
    }

    pub fn gave_up(&self) -> bool {
        self.in_a_row > self.policy.limit || (self.policy.limit == 0 && self.in_a_row > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let ms = Duration::from_millis;
        let policy = RestartPolicy { limit: 5, pause: ms(100), longest_pause: ms(300) };
        let mut restarts = Restarts::new(policy);
        let now = Instant::now();
        let mut held = || {
            restarts.died(now);
            restarts.check(now)
        };
        assert_eq!(held(), Ok(()));
        assert_eq!(held(), Err(Held::For(ms(100))));
        assert_eq!(held(), Err(Held::For(ms(200))));
        assert_eq!(held(), Err(Held::For(ms(300))));
        assert_eq!(held(), Err(Held::For(ms(300))));
        assert_eq!(restarts.check(now + ms(299)), Err(Held::For(ms(1))));
        assert_eq!(restarts.check(now + ms(300)), Ok(()));
        restarts.died(now);
        assert_eq!(restarts.check(now + ms(1_000_000)), Err(Held::Forever(6)));
        assert!(restarts.gave_up());
    }

    #[test]
    fn an_answer_begins_anew() {
        let mut restarts = Restarts::new(RestartPolicy::default());
        let now = Instant::now();
        for _ in 0..1000 {
            restarts.died(now);
            assert_eq!(restarts.check(now), Ok(()));
            restarts.answered();
        }
        let mut never = Restarts::new(RestartPolicy { limit: 0, ..RestartPolicy::default() });
        assert_eq!(never.check(now), Ok(()));
        never.died(now);
        assert_eq!(never.check(now), Err(Held::Forever(1)));
    }
}
