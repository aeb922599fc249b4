//! Which thread does which tasks.

use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::crew::Line;

/// Tasks that are numbered from 0 on, shared among lanes. Each lane has a range of its own, so that a thread does about the
/// same part of each step and finds in its caches what it made in the one before; when a lane is through, it takes what
/// others have not begun.
#[derive(Debug)]
pub(crate) struct Shares {
    tasks: usize,
    /// The next task of each lane.
    next: SmallVec<[Line<AtomicUsize>; 8]>,
}

impl Shares {
    /// Shares tasks among `lanes`, at least one.
    pub fn new(tasks: usize, lanes: usize) -> Shares {
        let lanes = lanes.max(1);
        let next = (0..lanes).map(|lane| Line(AtomicUsize::new(start(tasks, lanes, lane)))).collect();
        Shares { tasks, next }
    }

    /// The tasks that a lane is to do, as long as there are any. Each task is given to one lane.
    pub fn of(&self, lane: usize) -> impl Iterator<Item = usize> + '_ {
        let lanes = self.next.len();
        let mut ahead = 0;
        std::iter::from_fn(move || {
            while ahead < lanes {
                let from = (lane + ahead) % lanes;
                let end = start(self.tasks, lanes, from + 1);
                let next = &self.next[from].0;
                if next.load(Ordering::Relaxed) < end {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task < end {
                        return Some(task);
                    }
                }
                ahead += 1;
            }
            None
        })
    }
}

/// Where the range of a lane starts.
fn start(tasks: usize, lanes: usize, lane: usize) -> usize {
    tasks / lanes * lane + (tasks % lanes).min(lane)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_given_once() {
        for (tasks, lanes) in [(0, 1), (1, 3), (7, 2), (8, 8), (100, 9)] {
            // One lane after the other: the first takes all.
            let shares = Shares::new(tasks, lanes);
            let mut first: Vec<usize> = shares.of(lanes - 1).collect();
            first.sort_unstable();
            assert_eq!(first, (0..tasks).collect::<Vec<_>>());
            assert!((0..lanes).all(|lane| shares.of(lane).next().is_none()));
            // In turn: each has its own range.
            let shares = Shares::new(tasks, lanes);
            let mut iterators: Vec<_> = (0..lanes).map(|lane| shares.of(lane)).collect();
            let mut all: Vec<Vec<usize>> = vec![Vec::new(); lanes];
            for _ in 0..=tasks {
                for (tasks, iterator) in all.iter_mut().zip(&mut iterators) {
                    tasks.extend(iterator.next());
                }
            }
            let joined = all.concat();
            assert_eq!(joined, (0..tasks).collect::<Vec<_>>(), "{tasks} {lanes}");
        }
    }
}
