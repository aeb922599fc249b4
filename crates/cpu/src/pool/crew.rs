//! Threads that help with parallel work.
//!
//! A thread that has parallel work, its *leader*, opens a door and takes part. Helpers that are awake go in; whoever is
//! inside claims chunks until none is left. The leader then closes the door and waits for those who are inside, that is,
//! for chunks that were claimed, never for a helper to arrive: one that the system does not run in time costs nothing. A
//! helper that finds no work for a while sleeps. A leader that had to wait long for a claimed chunk, because the system
//! runs something else on the helper's core, works alone for a while.
//!
//! All that threads agree on is one number, the door's. loom tests it in every order of threads:
//!
//! `RUSTFLAGS='--cfg loom' cargo test -p milwright-cpu --lib loom`

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

#[cfg(all(test, loom))]
use loom::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize},
    },
    thread::{self, Thread},
};
#[cfg(not(all(test, loom)))]
use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize},
    },
    thread::{self, Thread},
};

/// The helpers of a pool.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<Thread>,
}

/// What a leader and the helpers share. Parts that different threads write are in cache lines of their own.
#[derive(Debug)]
struct Shared {
    /// Whether a thread leads.
    led: Line<AtomicBool>,
    /// See [`EPOCH`] and the others.
    door: Line<AtomicU64>,
    /// The leader's job. What it points to is valid for those who are inside.
    job: Line<AtomicPtr<Job>>,
    /// Only for leaders: until when they work alone, in nanoseconds from `start` on, or zero; when they last stopped or will
    /// stop to, and for how long they did.
    alone_until: AtomicU64,
    last_until: AtomicU64,
    last_for: AtomicU64,
    start: Instant,
}

/// The number of jobs so far is in the door's upper half. It tells a helper whether it has looked at the last one.
const EPOCH: u64 = 1 << 32;
/// Whether helpers may go in.
const OPEN: u64 = 1 << 31;
/// Whether helpers are to end.
const STOP: u64 = 1 << 30;
/// Counts the helpers that sleep, or are about to.
const ASLEEP: u64 = 1 << 15;
const ALL_ASLEEP: u64 = STOP - ASLEEP;
/// Counts the helpers inside.
const INSIDE: u64 = 1;
const ALL_INSIDE: u64 = ASLEEP - INSIDE;

/// How long a helper looks for work before it sleeps. Waking up takes about as long.
const PATIENCE: Duration = Duration::from_micros(100);
/// How often somebody who waits looks before looking at the clock.
const LOOKS: u32 = if cfg!(all(test, loom)) { 1 } else { 32 };
/// How long a leader may wait for a claimed chunk, and how long if it worked longer than that itself, before it takes the
/// helper's core for busy.
const LONG: Duration = Duration::from_micros(500);
/// The shortest and the longest time for which leaders then work alone.
const ALONE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// A value in cache lines of its own: processors fetch two at once.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Line<T>(pub T);

/// Parallel work; it lives on the leader's stack.
struct Job {
    /// The function, whose lifetime is not that long: it is only called while the leader waits.
    call: *const (dyn Fn(usize) + Sync),
    chunks: usize,
    next: Line<AtomicUsize>,
    panic: std::sync::Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job {
    /// Claims chunks until none is left.
    fn work(&self) {
        loop {
            let chunk = self.next.0.fetch_add(1, Relaxed);
            if chunk >= self.chunks {
                return;
            }
            // SAFETY: the leader keeps the function borrowed until nobody is inside.
            let call = unsafe { &*self.call };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(chunk))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                // The other chunks do not matter any more.
                self.next.0.store(self.chunks, Relaxed);
            }
        }
    }
}

impl Crew {
    /// Starts `helpers` threads.
    ///
    /// # Errors
    /// The system cannot start so many.
    pub fn new(helpers: usize) -> std::io::Result<Crew> {
        let mut crew = Crew { shared: Arc::new(Shared::new()), helpers: Vec::new() };
        for i in 1..=helpers {
            let shared = Arc::clone(&crew.shared);
            let thread = thread::Builder::new().name(format!("milwright-{i}"));
            // Those that were started stop when `crew` is dropped.
            crew.helpers.push(thread.spawn(move || shared.help())?.thread().clone());
        }
        Ok(crew)
    }

    /// The number of threads, the leader among them.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Leads a job, or does it alone if another thread leads already, or this one does, or helpers are of no use.
    ///
    /// # Panics
    /// A call panicked.
    pub fn run(&self, chunks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if shared.led.0.load(Relaxed) || shared.led.0.swap(true, Acquire) {
            return (0..chunks).for_each(f);
        }
        if shared.is_alone() {
            // Work inside of this one may be led.
            shared.led.0.store(false, Release);
            return (0..chunks).for_each(f);
        }
        let call: *const (dyn Fn(usize) + Sync + '_) = f;
        // SAFETY: only the lifetime changes. `lead` returns when no helper can call the function any more.
        let call: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(call) };
        let next = Line(AtomicUsize::new(0));
        let job = Job { call, chunks, next, panic: std::sync::Mutex::new(None) };
        self.lead(&job);
        shared.led.0.store(false, Release);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Opens the door, takes part, and returns when nobody can see the job any more.
    fn lead(&self, job: &Job) {
        let Shared { door, job: place, .. } = &*self.shared;
        place.0.store(std::ptr::from_ref(job).cast_mut(), Relaxed);
        let before = door.0.fetch_add(EPOCH + OPEN, Release);
        if before & ALL_ASLEEP != 0 {
            self.helpers.iter().take(job.chunks - 1).for_each(Thread::unpark);
        }
        let start = Instant::now();
        job.work();
        let mut now = door.0.fetch_and(!OPEN, Acquire);
        if now & ALL_INSIDE == 0 {
            return;
        }
        let (worked, mut looks) = (start.elapsed(), 0u32);
        while now & ALL_INSIDE != 0 {
            looks += 1;
            if looks < 32 * LOOKS {
                spin_loop()
            } else {
                thread::yield_now()
            }
            now = door.0.load(Acquire);
        }
        if looks >= 32 * LOOKS && start.elapsed().saturating_sub(worked) > LONG.max(worked) {
            self.shared.retreat();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.door.0.fetch_or(STOP, Release);
        // They are not waited for: in a process that was forked off, they do not exist.
        self.helpers.iter().for_each(Thread::unpark);
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            led: Line(AtomicBool::new(false)),
            door: Line(AtomicU64::new(0)),
            job: Line(AtomicPtr::new(std::ptr::null_mut())),
            alone_until: AtomicU64::new(0),
            last_until: AtomicU64::new(0),
            last_for: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Whether leaders work alone for the time being.
    fn is_alone(&self) -> bool {
        let until = self.alone_until.load(Relaxed);
        if until == 0 {
            return false;
        }
        let alone = nanos(self.start.elapsed()) < until;
        if !alone {
            self.alone_until.store(0, Relaxed);
        }
        alone
    }

    /// Lets leaders work alone for a while: twice as long as the last time if that was not long ago.
    fn retreat(&self) {
        let [least, most] = ALONE.map(nanos);
        let now = nanos(self.start.elapsed());
        let last = self.last_for.load(Relaxed);
        let again = last > 0 && now < self.last_until.load(Relaxed).saturating_add(8 * last);
        let alone = if again { (2 * last).min(most) } else { least };
        self.last_for.store(alone, Relaxed);
        self.last_until.store(now + alone, Relaxed);
        self.alone_until.store(now + alone, Relaxed);
    }

    /// What a helper does.
    fn help(&self) {
        let mut seen = 0;
        while self.enter(&mut seen) {
            // SAFETY: the leader keeps the job until nobody is inside, and stored its address before it opened the door.
            unsafe { &*self.job.0.load(Relaxed) }.work();
            self.door.0.fetch_sub(INSIDE, Release);
        }
    }

    /// Waits until the door is open for a job other than number `seen` and goes in; false if helpers are to end.
    fn enter(&self, seen: &mut u64) -> bool {
        let mut looks = 0u32;
        let mut since = None;
        loop {
            let door = self.door.0.load(Relaxed);
            if door & STOP != 0 {
                return false;
            }
            if door / EPOCH != *seen {
                if door & OPEN != 0
                    && self.door.0.compare_exchange(door, door + INSIDE, Acquire, Relaxed).is_err()
                {
                    continue;
                }
                // It may also have been closed already. Then there will soon be another one.
                *seen = door / EPOCH;
                if door & OPEN != 0 {
                    return true;
                }
                (looks, since) = (0, None);
            }
            spin_loop();
            looks += 1;
            if looks.is_multiple_of(LOOKS) && since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
                || cfg!(all(test, loom))
            {
                self.sleep(door);
                (looks, since) = (0, None);
            }
        }
    }

    /// Sleeps until the door differs from `door` in more than who sleeps and who is inside.
    fn sleep(&self, door: u64) {
        let news = |now: u64| now / EPOCH != door / EPOCH || now & STOP != 0;
        // Whoever changes it later sees that somebody sleeps.
        let fall_asleep = |now| (!news(now)).then_some(now + ASLEEP);
        if self.door.0.fetch_update(Relaxed, Relaxed, fall_asleep).is_err() {
            return;
        }
        while !news(self.door.0.load(Relaxed)) {
            thread::park();
        }
        self.door.0.fetch_sub(ASLEEP, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;

    use super::*;

    /// Numbers that different threads change; loom reports those who do so at once.
    struct Cells([UnsafeCell<u32>; 2]);

    // SAFETY: loom finds out whether this is right.
    unsafe impl Sync for Cells {}

    impl Cells {
        fn new() -> Cells {
            Cells([UnsafeCell::new(0), UnsafeCell::new(0)])
        }

        /// Lets each chunk add one to its number.
        fn add(&self, crew: &Crew) {
            // SAFETY: as above.
            crew.run(2, &|i| self.0[i].with_mut(|x| unsafe { *x += 1 }));
        }

        fn expect(&self, value: u32) {
            // SAFETY: as above.
            self.0.iter().for_each(|x| x.with(|x| assert_eq!(unsafe { *x }, value)));
        }
    }

    /// Tries every order with at most `preemptions` changes of threads where none has to wait.
    fn explore(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(f);
    }

    /// Each chunk is done once, and is over when the job is; the helper may come for the first job, the second, or none,
    /// and sleep at any time. It ends with the crew.
    #[test]
    fn loom_chunks_run_once() {
        explore(3, || {
            let crew = Crew::new(1).unwrap();
            let cells = Cells::new();
            cells.add(&crew);
            cells.expect(1);
            cells.add(&crew);
            cells.expect(2);
        });
    }

    /// Of two leaders, one leads, and both get their work done.
    #[test]
    fn loom_two_leaders() {
        explore(2, || {
            let crew = Arc::new(Crew::new(1).unwrap());
            let other = Arc::clone(&crew);
            let leader = thread::spawn(move || {
                let cells = Cells::new();
                cells.add(&other);
                cells.expect(1);
            });
            let cells = Cells::new();
            cells.add(&crew);
            cells.expect(1);
            leader.join().unwrap();
        });
    }

    /// Work inside of work runs, too.
    #[test]
    fn loom_work_inside_of_work() {
        explore(3, || {
            let crew = Crew::new(1).unwrap();
            let cells = [Cells::new(), Cells::new()];
            crew.run(2, &|i| cells[i].add(&crew));
            cells.iter().for_each(|cells| cells.expect(1));
        });
    }
}
