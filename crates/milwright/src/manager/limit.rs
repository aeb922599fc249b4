//! So many calls at a time; so many wait, by priority; the others hear that it is too much.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::sync::{Mutex, MutexGuard, lock};
use super::{BoxFuture, Call, Clock, Predict, Priority, Reply, WhenFull};
use crate::telemetry;
use crate::{Error, ErrorKind, Result};

/// Lets so many calls through at a time. A call that waits costs its caller's memory and a place in the queue; dropping
/// its future gives the place back.
pub struct Limit<S> {
    inner: S,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    model: Arc<str>,
}

impl<S: Predict> Limit<S> {
    /// Lets `running` calls through at a time, at least one, and `waiting` more wait.
    pub fn new(inner: S, running: usize, waiting: usize, clock: Arc<dyn Clock>, model: Arc<str>) -> Limit<S> {
        Limit { inner, queue: Arc::new(Queue::new(running.max(1), waiting)), clock, model }
    }

    /// How many calls run, and how many wait.
    pub fn depth(&self) -> (usize, usize) {
        self.queue.depth()
    }
}

impl<S> Limit<S> {
    /// Records how many wait. Others do so at the same time: the last one is to be right.
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

/// Records how many wait when it is dropped.
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
            // When it is dropped, the one who waited is gone, whichever way.
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

/// Places, and who waits for them. It knows nothing of what they are for.
pub(crate) struct Queue {
    running: usize,
    waiting: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Places that are taken, or promised to one of `called`.
    taken: usize,
    waiting: BTreeMap<Ticket, Option<Waker>>,
    /// Whose turn it is, and who does not know yet.
    called: BTreeSet<Ticket>,
    next: u64,
}

/// The order of those who wait.
type Ticket = (Reverse<Priority>, u64);

impl Queue {
    pub(crate) fn new(running: usize, waiting: usize) -> Queue {
        Queue { running, waiting, inner: Mutex::new(Inner::default()) }
    }

    /// Takes a place in the queue, or says how many are there.
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

    /// How many places are taken, and how many wait for one.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.taken, inner.waiting.len())
    }

    /// Gives a place to the next, or back.
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

/// Waits for its turn.
pub(crate) struct Turn {
    queue: Arc<Queue>,
    /// `None` when the place was handed out.
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

/// A place among those that run; dropping it lets the next one in.
pub(crate) struct Place(Arc<Queue>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}
