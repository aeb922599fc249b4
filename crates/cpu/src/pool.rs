//! The threads that kernels run on.

mod crew;
mod shares;

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use milwright_mil::engine::MAX_THREADS;

use self::crew::Crew;
pub(crate) use self::shares::Shares;

/// Threads that all steps of a run share. Clones use the same threads.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// `None`: everything runs on the calling thread.
    crew: Option<Arc<Crew>>,
}

impl Pool {
    /// A pool that runs everything on the calling thread.
    pub const fn inline() -> Pool {
        Pool { crew: None }
    }

    /// A pool of `threads` threads, the calling one among them, and at most [`MAX_THREADS`]; one thread is
    /// [`inline`](Pool::inline), zero is one per core.
    ///
    /// # Errors
    /// The system cannot start so many threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        match threads.min(MAX_THREADS) {
            1 => Ok(Pool::inline()),
            n => Ok(Pool { crew: Some(Arc::new(Crew::new(n - 1)?)) }),
        }
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, |crew| crew.threads())
    }

    /// Calls `f` with 0 to `chunks` - 1, in any order and in parallel. Returns when all calls have. If the threads have
    /// other work, the calling thread makes all calls.
    ///
    /// # Panics
    /// A call panicked.
    pub fn parallel_for(&self, chunks: usize, f: impl Fn(usize) + Send + Sync) {
        match &self.crew {
            Some(crew) if chunks > crew.threads() => {
                let shares = Shares::new(chunks, crew.threads());
                crew.run(crew.threads(), &|lane| shares.of(lane).for_each(&f));
            }
            Some(crew) if chunks > 1 => crew.run(chunks, &f),
            _ => (0..chunks).for_each(f),
        }
    }

    /// Splits `out` into chunks of `chunk` elements (the last may be shorter) and calls `f` with each chunk's number
    /// and the chunk, in parallel.
    pub fn for_each_chunk<T: Send>(
        &self,
        out: &mut [T],
        chunk: usize,
        f: impl Fn(usize, &mut [T]) + Send + Sync,
    ) {
        let chunk = chunk.max(1);
        if self.crew.is_none() || out.len() <= chunk {
            return out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
        }
        let (len, start) = (out.len(), AtomicPtr::new(out.as_mut_ptr()));
        self.parallel_for(len.div_ceil(chunk), |i| {
            let from = i * chunk;
            // SAFETY: chunk `i` is inside `out`, which is borrowed until all calls have returned; each number is given to
            // one call, so that nobody else has this chunk.
            let part = unsafe {
                let start = start.load(Ordering::Relaxed).add(from);
                std::slice::from_raw_parts_mut(start, chunk.min(len - from))
            };
            f(i, part);
        });
    }

    /// Returns a chunk length that splits `elements` evenly among the threads: a multiple of `multiple`, and at least
    /// `least` elements, because a hand-over to a thread costs more than shorter chunks gain.
    pub fn chunk(&self, elements: usize, multiple: usize, least: usize) -> usize {
        let multiple = multiple.max(1);
        elements.div_ceil(self.threads()).max(least).max(1).next_multiple_of(multiple)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for pool in [Pool::inline(), Pool::new(2).unwrap()] {
            let sum = AtomicUsize::new(0);
            pool.parallel_for(100, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
            let mut out = vec![0; 10];
            pool.for_each_chunk(&mut out, 3, |i, c| c.fill(i));
            assert_eq!(out, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
        }
    }

    #[test]
    fn many_jobs_of_many_leaders() {
        let pool = Pool::new(3).unwrap();
        assert_eq!(pool.threads(), 3);
        std::thread::scope(|scope| {
            for leader in 0..3 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for round in 0..2000 {
                        let mut out = vec![0u32; 1 + (round * 7 + leader) % 50];
                        pool.for_each_chunk(&mut out, 1 + round % 3, |_, c| {
                            c.iter_mut().for_each(|x| *x += 1)
                        });
                        assert!(out.iter().all(|&x| x == 1));
                        // From time to time, the helpers fall asleep.
                        if round % 500 == 0 {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn jobs_inside_of_jobs() {
        let pool = Pool::new(4).unwrap();
        let sum = AtomicUsize::new(0);
        pool.parallel_for(8, |_| {
            pool.parallel_for(8, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 8 * 28);
    }

    #[test]
    fn helpers_take_part() {
        // A helper may come late, or not at all; but not each time.
        let (pool, caller) = (Pool::new(2).unwrap(), std::thread::current().id());
        let helped = AtomicUsize::new(0);
        for _ in 0..2000 {
            pool.parallel_for(2, |_| {
                std::thread::sleep(Duration::from_millis(1));
                if std::thread::current().id() != caller {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
            });
            if helped.load(Ordering::Relaxed) > 10 {
                return;
            }
        }
        panic!("helpers took part {helped:?} times");
    }

    #[test]
    fn who_waited_long_works_alone() {
        let (pool, caller) = (Pool::new(2).unwrap(), std::thread::current().id());
        let helped = AtomicUsize::new(0);
        let run = |own: u64, helpers: u64| {
            helped.store(0, Ordering::Relaxed);
            pool.parallel_for(2, |_| {
                let is_caller = std::thread::current().id() == caller;
                helped.fetch_add(usize::from(!is_caller), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(if is_caller { own } else { helpers }));
            });
            helped.load(Ordering::Relaxed)
        };
        for _ in 0..1000 {
            // A piece of work comes back late. Those that follow do not wait for helpers, for a while.
            if run(1000, 10_000) == 1 && (0..5).all(|_| run(300, 300) == 0) {
                return;
            }
        }
        panic!("helpers took part although they are late");
    }

    #[test]
    fn panics_reach_the_caller() {
        let pool = Pool::new(2).unwrap();
        for bad in [0, 7, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.parallel_for(64, |i| assert!(i != bad, "chunk {i}"));
            }));
            let message = result.unwrap_err().downcast::<String>().unwrap();
            assert!(message.starts_with(&format!("chunk {bad}")), "{message}");
            // The pool still works.
            let sum = AtomicUsize::new(0);
            pool.parallel_for(10, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }
}
