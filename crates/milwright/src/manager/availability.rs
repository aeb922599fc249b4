//! Availability of the backends of a chain.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Clock;
use super::clock::after;
use crate::{Availability, Candidate};

/// Asks each candidate whether it is available, each on its own thread. A candidate that hangs or panics counts as
/// unavailable, and does not delay the others.
pub(crate) async fn ask(chain: &[Candidate], limit: Duration, clock: &dyn Clock) -> Vec<Availability> {
    let end = after(clock.now(), limit);
    let asked: Vec<_> = chain.iter().map(start).collect();
    let mut answers = Vec::new();
    for answer in asked {
        let late = clock.sleep_until(end);
        answers.push(match answer {
            Err(e) => absent(format!("there is no thread to ask it on: {e}")),
            Ok(answer) => tokio::select! {
                biased;
                answer = answer => answer.unwrap_or_else(|_| absent("the backend panicked when it was asked".into())),
                () = late => absent(format!("the backend did not say within {limit:?} whether it is there")),
            },
        });
    }
    answers
}

fn start(candidate: &Candidate) -> std::io::Result<oneshot::Receiver<Availability>> {
    let (reply, answer) = oneshot::channel();
    let candidate = candidate.clone();
    let ask = move || {
        // If the receiver is gone, the caller does not need the answer.
        let _ = reply.send(candidate.backend.availability());
    };
    std::thread::Builder::new().name("milwright-asks".into()).spawn(ask)?;
    Ok(answer)
}

fn absent(reason: String) -> Availability {
    Availability { available: false, reason }
}
