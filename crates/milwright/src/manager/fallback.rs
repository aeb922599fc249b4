//! Falls back to the next backend if one fails.

use std::sync::Arc;

use super::clock::{MARGIN, after};
use super::predict::is_fault;
use super::telemetry;
use super::{BoxFuture, Call, Clock, Predict, Reply, Skipped};
use crate::telemetry::Labels;
use crate::{Error, ErrorKind, Result};

/// Tries backends in order until one answers. The reply, the log and the metrics say which backends were skipped, and
/// why. Errors of the caller (a wrong input, say) and an expired deadline end the search at once.
pub struct Fallback<S> {
    links: Vec<(Labels, S)>,
    absent: Vec<Skipped>,
    clock: Arc<dyn Clock>,
}

impl<S: Predict> Fallback<S> {
    /// A fallback over these links, in this order. Replies also report the `absent` backends as skipped.
    pub fn new(links: Vec<(Labels, S)>, absent: Vec<Skipped>, clock: Arc<dyn Clock>) -> Fallback<S> {
        Fallback { links, absent, clock }
    }
}

impl<S: Predict> Predict for Fallback<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut skipped = self.absent.clone();
            let mut last = Error::new(ErrorKind::Unavailable, "no backend of this machine runs it");
            for (i, (labels, link)) in self.links.iter().enumerate() {
                match link.predict(call.clone()).await {
                    Ok(mut reply) => {
                        skipped.append(&mut reply.route.skipped);
                        reply.route.skipped = skipped;
                        return Ok(reply);
                    }
                    Err(e) if !is_fault(e.kind()) => return Err(e),
                    Err(e) => {
                        let end = after(self.clock.now(), MARGIN);
                        let is_over = e.kind() == ErrorKind::DeadlineExceeded
                            && call.deadline.is_some_and(|deadline| deadline <= end);
                        let next = self.links.get(i + 1).filter(|_| !is_over);
                        if let Some((next, _)) = next {
                            telemetry::fallback(labels, &next.backend, e.kind());
                            tracing::warn!(model = %labels.model, from = %labels.backend, to = %next.backend,
                                error = %e, "falling back");
                        }
                        skipped.push(Skipped { backend: labels.backend.to_string(), reason: e.to_string() });
                        last = e;
                        // No backend is loaded for a call whose time is over.
                        if is_over {
                            break;
                        }
                    }
                }
            }
            let [before @ .., _] = &skipped[..] else { return Err(last) };
            let tried: Vec<String> = before.iter().map(|s| format!("{}: {}", s.backend, s.reason)).collect();
            Err(if tried.is_empty() { last } else { last.with_hint(tried.join("; ")) })
        })
    }
}
