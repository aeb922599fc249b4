//! If one backend fails, the next one answers.

use super::predict::is_fault;
use super::{BoxFuture, Call, Predict, Reply, Skipped};
use crate::telemetry::{self, Labels};
use crate::{Error, ErrorKind, Result};

/// Asks one after the other until one answers. What was skipped, and why, is in the reply, in the log and in the
/// metrics. Errors that are the caller's own (a wrong input, say) end it at once.
pub struct Fallback<S> {
    links: Vec<(Labels, S)>,
    absent: Vec<Skipped>,
}

impl<S: Predict> Fallback<S> {
    /// Asks the links in this order. The `absent` ones are only reported.
    pub fn new(links: Vec<(Labels, S)>, absent: Vec<Skipped>) -> Fallback<S> {
        Fallback { links, absent }
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
                        if let Some((next, _)) = self.links.get(i + 1) {
                            telemetry::fallback(labels, &next.backend, e.kind());
                            tracing::warn!(model = %labels.model, from = %labels.backend, to = %next.backend,
                                error = %e, "falling back");
                        }
                        skipped.push(Skipped { backend: labels.backend.to_string(), reason: e.to_string() });
                        last = e;
                    }
                }
            }
            let [before @ .., _] = &skipped[..] else { return Err(last) };
            let tried: Vec<String> = before.iter().map(|s| format!("{}: {}", s.backend, s.reason)).collect();
            Err(if tried.is_empty() { last } else { last.with_hint(tried.join("; ")) })
        })
    }
}
