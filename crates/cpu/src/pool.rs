//! The threads that kernels run on.
//!
//! A thread that has parallel work, its *leader*, publishes it and takes part. Helpers that are awake join; whoever is
//! there claims chunks until none is left. The leader waits for the chunks that helpers have claimed, never for a helper
//! to arrive: one that the system does not run in time costs nothing. A helper that finds no work for a while sleeps.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use milwright_mil::engine::MAX_THREADS;

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
            n => n.min(MAX_THREADS),
        };
        if threads == 1 {
            return Ok(Pool::inline());
        }
        Ok(Pool { crew: Some(Arc::new(Crew::new(threads - 1)?)) })
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, |crew| crew.helpers.len() + 1)
    }

    /// Calls `f` with 0 to `chunks` - 1, in any order and in parallel. Returns when all calls have. If the threads have
    /// other work, the calling thread makes all calls.
    ///
    /// # Panics
    /// A call panicked.
    pub fn parallel_for(&self, chunks: usize, f: impl Fn(usize) + Send + Sync) {
        match &self.crew {
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
            // SAFETY: chunk `i` is inside `out`, which is borrowed until all calls have returned; each number is claimed
            // once, so that nobody else has this chunk.
            let part = unsafe {
                std::slice::from_raw_parts_mut(start.load(Relaxed).add(from), chunk.min(len - from))
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

/// How often a helper that waits for work looks for it in a row, and then how often with a call of the system between, in
/// which other threads may run, before it sleeps: some microseconds each.
const LOOKS: usize = 64;
const YIELDS: usize = 40;

/// The helpers of a pool.
#[derive(Debug)]
struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// What a leader and the helpers share. Parts that different threads write are in cache lines of their own.
#[derive(Debug, Default)]
struct Shared {
    /// Whether a thread leads.
    led: Line<AtomicBool>,
    /// Counts the jobs: a helper looks at each only once.
    epoch: Line<AtomicU64>,
    /// The job, if there is one.
    job: Line<AtomicPtr<Job>>,
    /// Helpers that may be looking at the job.
    inside: Line<AtomicUsize>,
    /// Helpers that sleep, or are about to.
    asleep: Line<AtomicUsize>,
    stopped: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// A value in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// Parallel work; it lives on the leader's stack.
struct Job {
    /// The function, whose lifetime is not that long: it is only called while the leader waits.
    call: *const (dyn Fn(usize) + Sync),
    chunks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job {
    /// Claims chunks until none is left.
    fn work(&self) {
        loop {
            let chunk = self.next.fetch_add(1, Relaxed);
            if chunk >= self.chunks {
                return;
            }
            // SAFETY: the leader keeps the function borrowed until nobody is inside.
            let call = unsafe { &*self.call };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(chunk))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                // The other chunks do not matter any more.
                self.next.fetch_max(self.chunks, Relaxed);
            }
        }
    }
}

impl Crew {
    fn new(helpers: usize) -> std::io::Result<Crew> {
        let mut crew = Crew { shared: Arc::default(), helpers: Vec::new() };
        for i in 0..helpers {
            let shared = Arc::clone(&crew.shared);
            let thread = std::thread::Builder::new().name(format!("milwright-{i}"));
            // Those that were started stop when `crew` is dropped.
            crew.helpers.push(thread.spawn(move || shared.help())?);
        }
        Ok(crew)
    }

    /// Leads a job, or does it alone if another thread leads already.
    fn run(&self, chunks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if shared.led.0.swap(true, Acquire) {
            return (0..chunks).for_each(f);
        }
        let call: *const (dyn Fn(usize) + Sync + '_) = f;
        // SAFETY: only the lifetime changes. `lead` returns when no helper can call the function any more.
        let call: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(call) };
        let job = Job { call, chunks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        shared.lead(&job);
        shared.led.0.store(false, Release);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.shared.wake_all();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its work.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// Publishes a job, takes part, and returns when nobody can see the job any more.
    fn lead(&self, job: &Job) {
        self.job.0.store(std::ptr::from_ref(job).cast_mut(), SeqCst);
        self.epoch.0.fetch_add(1, SeqCst);
        if self.asleep.0.load(SeqCst) > 0 {
            self.wake_all();
        }
        job.work();
        // A helper says that it is inside before it looks for the job. All four accesses are in one order: either the
        // helper finds none, or it is seen here.
        self.job.0.store(std::ptr::null_mut(), SeqCst);
        let mut looks = 0;
        while self.inside.0.load(SeqCst) > 0 {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn wake_all(&self) {
        // A helper that is about to sleep holds the lock until it does.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// What a helper does.
    fn help(&self) {
        let mut seen = 0;
        while let Some(epoch) = self.wait(seen) {
            seen = epoch;
            self.inside.0.fetch_add(1, SeqCst);
            let job = self.job.0.load(SeqCst);
            // SAFETY: the leader keeps the job until `inside` is zero, if this pointer is not null: see `lead`.
            if let Some(job) = unsafe { job.as_ref() } {
                job.work();
            }
            self.inside.0.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for a job after the one with number `seen` and returns its number; `None` if the crew is dropped.
    fn wait(&self, seen: u64) -> Option<u64> {
        let news = || {
            let epoch = self.epoch.0.load(SeqCst);
            let stopped = self.stopped.load(SeqCst);
            (stopped || epoch != seen).then_some((!stopped).then_some(epoch))
        };
        for look in 0..LOOKS + YIELDS {
            if let Some(news) = news() {
                return news;
            }
            if look < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.0.fetch_add(1, SeqCst);
        let news = loop {
            // A leader that does not see this helper among the sleeping has published its job before this look.
            if let Some(news) = news() {
                break news;
            }
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.0.fetch_sub(1, SeqCst);
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for pool in [Pool::inline(), Pool::new(2).unwrap()] {
            let sum = AtomicUsize::new(0);
            pool.parallel_for(100, |i| {
                sum.fetch_add(i, Relaxed);
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
                sum.fetch_add(i, Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 8 * 28);
    }

    #[test]
    fn helpers_take_part() {
        // Two chunks that wait for each other: only two threads can finish them.
        let (pool, arrived) = (Pool::new(2).unwrap(), AtomicUsize::new(0));
        for round in 1..20 {
            pool.parallel_for(2, |_| {
                arrived.fetch_add(1, SeqCst);
                while arrived.load(SeqCst) < 2 * round {
                    std::thread::yield_now();
                }
            });
        }
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
                sum.fetch_add(i, Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }
}
