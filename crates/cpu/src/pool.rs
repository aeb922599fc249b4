//! The threads that kernels run on.

use std::sync::Arc;

use milwright_mil::engine::MAX_THREADS;
use rayon::prelude::*;

/// Threads that all steps of a run share. Clones use the same threads.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// `None`: everything runs on the calling thread.
    threads: Option<Arc<rayon::ThreadPool>>,
}

impl Pool {
    /// A pool that runs everything on the calling thread.
    pub const fn inline() -> Pool {
        Pool { threads: None }
    }

    /// A pool of `threads` threads, at most [`MAX_THREADS`]; one thread is [`inline`](Pool::inline), zero is one per
    /// core.
    ///
    /// # Errors
    /// The system cannot start so many threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n.min(MAX_THREADS),
        };
        if threads == 1 {
            return Ok(Pool::inline());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.thread_name(|i| format!("milwright-{i}")).build().map_err(std::io::Error::other)?;
        Ok(Pool { threads: Some(Arc::new(pool)) })
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.as_ref().map_or(1, |p| p.current_num_threads())
    }

    /// Runs `f` on one of the pool's threads, so that starting parallel work in it needs no hand-over.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.threads {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Calls `f` with 0 to `chunks` - 1, in any order and in parallel. Returns when all calls have.
    pub fn parallel_for(&self, chunks: usize, f: impl Fn(usize) + Send + Sync) {
        match &self.threads {
            Some(pool) if chunks > 1 => pool.install(|| (0..chunks).into_par_iter().for_each(f)),
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
        match &self.threads {
            Some(pool) if out.len() > chunk => {
                pool.install(|| out.par_chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c)));
            }
            _ => out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c)),
        }
    }

    /// Returns a chunk length that splits `elements` evenly among the threads: a multiple of `multiple`, and at least
    /// `least` elements, because a hand-over to a thread costs more than shorter chunks gain.
    pub fn chunk(&self, elements: usize, multiple: usize, least: usize) -> usize {
        let multiple = multiple.max(1);
        elements.div_ceil(self.threads()).max(least).max(1).next_multiple_of(multiple)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
}
