//! Enforces the deadlines of calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::{MARGIN, after};
use super::{BoxFuture, Call, Clock, Predict, Reply};
use crate::{Error, ErrorKind, Result};

/// Answers every call by its deadline. If `inner` has not answered by then, the call is cancelled, and fails with an
/// error of the kind [`DeadlineExceeded`](ErrorKind::DeadlineExceeded).
pub struct Deadline<S> {
    inner: S,
    limit: Option<Duration>,
    what: &'static str,
    clock: Arc<dyn Clock>,
}

impl<S: Predict> Deadline<S> {
    /// A deadline in front of `inner`: the call's own, and at most `limit` from now. The error says that `what` took
    /// too long.
    pub fn new(inner: S, limit: Option<Duration>, what: &'static str, clock: Arc<dyn Clock>) -> Deadline<S> {
        Deadline { inner, limit, what, clock }
    }

    fn exceeded(&self, given: Duration) -> Error {
        let message = format!("{} took longer than the {given:.1?} that it had", self.what);
        Error::new(ErrorKind::DeadlineExceeded, message)
    }
}

impl<S: Predict> Predict for Deadline<S> {
    fn predict(&self, mut call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let now = self.clock.now();
            let limit = self.limit.map(|limit| after(now, limit));
            let Some(deadline) = call.deadline.into_iter().chain(limit).min() else {
                return self.inner.predict(call).await;
            };
            let given = deadline.saturating_duration_since(now);
            if given.is_zero() {
                return Err(self.exceeded(given));
            }
            let stop: Instant = deadline - MARGIN.min(given / 4);
            call.deadline = Some(stop);
            tokio::select! {
                biased;
                reply = self.inner.predict(call) => reply,
                () = self.clock.sleep_until(stop) => Err(self.exceeded(given)),
            }
        })
    }
}
