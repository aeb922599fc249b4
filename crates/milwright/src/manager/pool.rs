//! Several sessions of one backend.

use std::collections::VecDeque;

use tokio::sync::Semaphore;

use super::sync::{Mutex, lock};
use super::{BoxFuture, Call, Predict, Reply};
use crate::Result;

/// Gives each call to an idle one of several equal members: the one that was used last, because its caches are warm.
/// While all members are busy, calls wait.
pub struct Pool<S> {
    members: Vec<S>,
    /// The idle members, the preferred one first.
    free: Mutex<VecDeque<usize>>,
    /// One permit for each idle member.
    places: Semaphore,
}

impl<S> Pool<S> {
    /// A pool of these members, of which there must be at least one.
    pub fn new(members: Vec<S>) -> Pool<S> {
        let (free, places) = (Mutex::new((0..members.len()).collect()), Semaphore::new(members.len()));
        Pool { members, free, places }
    }
}

impl<S: Predict> Predict for Pool<S> {
    fn predict(&self, call: Call) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            // The semaphore is never closed. `turn` is dropped before the permit, so the member is in the list again
            // when the permit is free.
            let _place = self.places.acquire().await;
            let mut turn = Turn { free: &self.free, member: lock(&self.free).pop_front(), is_well: false };
            let Some(member) = turn.member else { unreachable!("a place is a free member") };
            let reply = self.members[member].predict(call).await;
            turn.is_well = reply.is_ok();
            reply
        })
    }
}

/// A member that runs a call. If the call fails (the member may hang), the member goes to the end of the list.
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
