//! Runs calls that arrive at about the same time as one batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::clock::after;
use super::sync::{Mutex, lock};
use super::{BoxFuture, Call, Clock, Predict, Reply};
use crate::{Error, ErrorKind, InferenceRequest, Result};

/// How calls are collected into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The largest number of calls in a batch.
    pub size: usize,
    /// The longest time that the first call of a batch waits for others. No call waits longer than half of the time to
    /// its deadline.
    pub delay: Duration,
}

/// Merges calls of one request into a batch, which a backend may run faster. If the batch fails, each of its calls
/// runs alone, so that a bad request fails only itself. Calls with a state or with several requests are not batched.
pub struct Batch<S> {
    inner: Arc<S>,
    options: BatchOptions,
    clock: Arc<dyn Clock>,
    /// The batch that is still open to more calls.
    open: Mutex<Option<mpsc::Sender<Member>>>,
}

struct Member {
    call: Call,
    answer: oneshot::Sender<Result<Reply>>,
}

impl<S: Predict> Batch<S> {
    /// A batching policy in front of `inner`.
    pub fn new(inner: S, options: BatchOptions, clock: Arc<dyn Clock>) -> Batch<S> {
        let options = BatchOptions { size: options.size.max(1), ..options };
        Batch { inner: Arc::new(inner), options, clock, open: Mutex::new(None) }
    }

    /// Adds a call to the open batch, or opens a new one.
    fn join(&self, mut member: Member) {
        let mut open = lock(&self.open);
        if let Some(batch) = &*open {
            match batch.try_send(member) {
                Ok(()) => return,
                Err(closed) => member = closed.into_inner(),
            }
        }
        let (batch, members) = mpsc::channel(self.options.size);
        let end = after(self.clock.now(), self.options.delay);
        let (inner, size, clock) = (Arc::clone(&self.inner), self.options.size, Arc::clone(&self.clock));
        tokio::spawn(async move {
            for members in gather(member, members, size, end, &*clock).await {
                run(&*inner, members).await;
            }
        });
        *open = Some(batch);
    }
}

impl<S: Predict> Predict for Batch<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        if call.requests.len() != 1 || call.state.is_some() {
            return self.inner.predict(call);
        }
        Box::pin(async move {
            let (answer, reply) = oneshot::channel();
            self.join(Member { call, answer });
            let gone = |_| Error::new(ErrorKind::Unavailable, "the batch was given up");
            reply.await.map_err(gone)?
        })
    }
}

/// Collects a batch: waits until it is full or until `end`, but never longer than half of the time to any member's
/// deadline. Calls that arrive while it closes form a second batch.
async fn gather(
    first: Member,
    mut more: mpsc::Receiver<Member>,
    size: usize,
    end: Instant,
    clock: &dyn Clock,
) -> Vec<Vec<Member>> {
    let half = |member: &Member| {
        let now = clock.now();
        member.call.deadline.map(|deadline| now + deadline.saturating_duration_since(now) / 2)
    };
    let mut end = half(&first).map_or(end, |half| half.min(end));
    let mut delay = clock.sleep_until(end);
    let mut members = vec![first];
    while members.len() < size {
        tokio::select! {
            biased;
            Some(member) = more.recv() => {
                if let Some(sooner) = half(&member).filter(|&half| half < end) {
                    end = sooner;
                    delay = clock.sleep_until(end);
                }
                members.push(member);
            }
            () = &mut delay => break,
        }
    }
    more.close();
    let mut late = Vec::new();
    // `recv` instead of `try_recv`: it also waits for a sender that has just reserved its slot.
    while let Some(member) = more.recv().await {
        late.push(member);
    }
    if late.is_empty() { vec![members] } else { vec![members, late] }
}

/// Runs a batch. Members whose callers have dropped their futures are left out; if none is left, the run is cancelled.
async fn run<S: Predict>(inner: &S, mut members: Vec<Member>) {
    members.retain(|m| !m.answer.is_closed());
    if members.len() > 1 {
        let merged = merge(&members);
        let reply = tokio::select! {
            biased;
            reply = inner.predict(merged) => reply,
            () = all_gone(&mut members) => return,
        };
        if let Ok(reply) = reply
            && reply.predictions.len() == members.len()
        {
            for (member, prediction) in members.into_iter().zip(reply.predictions) {
                let reply = Reply { predictions: vec![prediction], state: None, route: reply.route.clone() };
                let _ = member.answer.send(Ok(reply));
            }
            return;
        }
    }
    for Member { call, mut answer } in members {
        tokio::select! {
            biased;
            () = answer.closed() => {}
            reply = inner.predict(call) => { let _ = answer.send(reply); }
        }
    }
}

async fn all_gone(members: &mut [Member]) {
    for member in members {
        member.answer.closed().await;
    }
}

/// Merges all requests into one call, with the highest priority and the latest deadline of the members. The `Deadline`
/// policy in front of the batch enforces each member's own deadline.
fn merge(members: &[Member]) -> Call {
    let requests: Arc<[InferenceRequest]> =
        members.iter().flat_map(|m| m.call.requests.iter().cloned()).collect();
    let deadline = members.iter().map(|m| m.call.deadline).max_by_key(|d| (d.is_none(), *d)).flatten();
    let priority = members.iter().map(|m| m.call.priority).max().unwrap_or_default();
    Call { requests, state: None, deadline, priority, when_full: members[0].call.when_full }
}
