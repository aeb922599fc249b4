//! Several sessions of one backend.

use std::collections::VecDeque;

use tokio::sync::Semaphore;

use super::sync::{Mutex, lock};
use super::{BoxFuture, Call, Predict, Reply};
use crate::Result;

/// Hands each call to one of several members that are alike, and free: the one that was used last, whose caches are warm.
/// While each of them has a call, the next one waits.
pub struct Pool<S> {
    members: Vec<S>,
    /// Those without a call, the best one first.
    free: Mutex<VecDeque<usize>>,
    /// As many as are free.
    places: Semaphore,
}

impl<S> Pool<S> {
    /// Shares the calls among these members, at least one.
    pub fn new(members: Vec<S>) -> Pool<S> {
        let (free, places) = (Mutex::new((0..members.len()).collect()), Semaphore::new(members.len()));
        Pool { members, free, places }
    }
}

impl<S: Predict> Predict for Pool<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            // It is never closed. Of the two, the place is dropped last.
            let _place = self.places.acquire().await;
            let mut turn = Turn { free: &self.free, member: lock(&self.free).pop_front(), is_well: false };
            let Some(member) = turn.member else { unreachable!("a place is a free member") };
            let reply = self.members[member].predict(call).await;
            turn.is_well = reply.is_ok();
            reply
        })
    }
}

/// A member that has a call. One that did not answer it (it may hang) is the last to get another.
struct Turn<'a> {
    free: &'a Mutex<VecDeque<usize>>,
    member: Option<usize>,
    is_well: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut free = lock(self.free);
        match self.is_well {
            true => self.member.into_iter().for_each(|member| free.push_front(member)),
            false => free.extend(self.member),
        }
    }
}
