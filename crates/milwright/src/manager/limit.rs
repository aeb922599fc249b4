//! Limits how many calls run and how many wait. Waiting calls are ordered by priority, and further calls are refused.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::sync::{Mutex, MutexGuard, lock};
use super::telemetry;
use super::{BoxFuture, Call, Clock, Predict, Priority, Reply, WhenFull};
use crate::{Error, ErrorKind, Result};

/// Limits concurrency with a queue. A waiting call costs its caller's memory and a place in the queue. Dropping its
/// future frees the place.
pub struct Limit<S> {
    inner: S,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    model: Arc<str>,
}

impl<S: Predict> Limit<S> {
    /// Lets at most `running` calls (at least one) run at a time, and at most `waiting` more wait.
    pub fn new(inner: S, running: usize, waiting: usize, clock: Arc<dyn Clock>, model: Arc<str>) -> Limit<S> {
        Limit { inner, queue: Arc::new(Queue::new(running.max(1), waiting)), clock, model }
    }

    /// The numbers of running and of waiting calls.
    pub fn depth(&self) -> (usize, usize) {
        self.queue.depth()
    }
}

impl<S> Limit<S> {
    /// Records the length of the queue as a metric. Other threads do so, too: the loop makes sure that the last value
    /// written is the current one.
    fn measure(&self) {
        let mut depth = self.queue.depth().1;
        loop {
            telemetry::queue_depth(&self.model, depth);
            let now = self.queue.depth().1;
            if now == depth {
                return;
            }
            depth = now;
        }
    }
}

/// Records the length of the queue when it is dropped.
struct Measured<'a, S>(&'a Limit<S>);

impl<S> Drop for Measured<'_, S> {
    fn drop(&mut self) {
        self.0.measure();
    }
}

impl<S: Predict> Predict for Limit<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let arrived = self.clock.now();
            let turn = Arc::clone(&self.queue).enter(call.priority, call.when_full).map_err(|waiting| {
                Error::new(ErrorKind::Overloaded, format!("{waiting} calls of `{}` wait already", self.model))
                    .with_hint("try again later, or wait for a place")
            })?;
            self.measure();
            // Dropped after the wait, whether it ended with a place or was cancelled.
            let waits = Measured(self);
            let _place = turn.await;
            drop(waits);
            let queued = self.clock.now().saturating_duration_since(arrived);
            telemetry::queued(&self.model, queued);
            let mut reply = self.inner.predict(call).await?;
            reply.route.queued = queued;
            Ok(reply)
        })
    }
}

/// Places and the calls that wait for them, independent of what the places are for.
pub(crate) struct Queue {
    running: usize,
    waiting: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Places that are taken, or reserved for one of `called`.
    taken: usize,
    waiting: BTreeMap<Ticket, Option<Waker>>,
    /// Calls that have a place but have not been polled since.
    called: BTreeSet<Ticket>,
    next: u64,
}

/// The order of waiting calls: by priority, then by arrival.
type Ticket = (Reverse<Priority>, u64);

impl Queue {
    pub(crate) fn new(running: usize, waiting: usize) -> Queue {
        Queue { running, waiting, inner: Mutex::new(Inner::default()) }
    }

    /// Joins the queue, or returns its length if it is full.
    pub(crate) fn enter(self: Arc<Self>, priority: Priority, when_full: WhenFull) -> Result<Turn, usize> {
        let mut inner = self.lock();
        let ticket = (Reverse(priority), inner.next);
        inner.next += 1;
        if inner.taken < self.running {
            inner.taken += 1;
            inner.called.insert(ticket);
        } else if inner.waiting.len() < self.waiting || when_full == WhenFull::Wait {
            inner.waiting.insert(ticket, None);
        } else {
            return Err(inner.waiting.len());
        }
        drop(inner);
        Ok(Turn { queue: self, ticket: Some(ticket) })
    }

    /// The numbers of taken places and of waiting calls.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.taken, inner.waiting.len())
    }

    /// Passes a place on to the next waiting call, or frees it.
    fn leave(&self) {
        let mut inner = self.lock();
        let Some((ticket, waker)) = inner.waiting.pop_first() else {
            inner.taken -= 1;
            return;
        };
        inner.called.insert(ticket);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// A future that completes with a place when it is this call's turn.
pub(crate) struct Turn {
    queue: Arc<Queue>,
    /// `None` once the place was handed out.
    ticket: Option<Ticket>,
}

impl Future for Turn {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        let mut inner = self.queue.lock();
        if inner.called.remove(&ticket) {
            drop(inner);
            self.ticket = None;
            return Poll::Ready(Place(Arc::clone(&self.queue)));
        }
        inner.waiting.insert(ticket, Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut inner = self.queue.lock();
        inner.waiting.remove(&ticket);
        if inner.called.remove(&ticket) {
            drop(inner);
            self.queue.leave();
        }
    }
}

/// A place among the running calls. Dropping it lets the next call run.
pub(crate) struct Place(Arc<Queue>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}
