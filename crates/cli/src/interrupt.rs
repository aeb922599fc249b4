//! Signals. The first (Ctrl-C, `kill`, a terminal that is closed) asks to stop, and ends the process soon after,
//! whatever it is doing; the second ends it at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use milwright::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How long work may take to stop by itself, which it does between two of its steps. A step may take for ever.
const GRACE: Duration = Duration::from_millis(500);
/// How often it is looked whether a signal came.
const INTERVAL: Duration = Duration::from_millis(20);

static CANCEL: OnceLock<Cancel> = OnceLock::new();
/// The signal that came, or 0.
static SIGNAL: OnceLock<std::sync::Arc<AtomicUsize>> = OnceLock::new();

/// What to cancel in place of [`cancel()`], if Ctrl-C asks first.
static ASKED_FIRST: OnceLock<Cancel> = OnceLock::new();

/// What is cancelled when the process is asked to end.
pub fn cancel() -> Cancel {
    CANCEL.get_or_init(Cancel::default).clone()
}

/// From here on, the first Ctrl-C only sets [`cancel()`], and whoever looks at it ends with what there is by then. Other
/// signals cancel what this returns, too, and a second Ctrl-C ends the process at once.
pub fn ask_first() -> Cancel {
    ASKED_FIRST.get_or_init(Cancel::default).clone()
}

/// The exit code of a command that was interrupted: 128 and the number of the signal, as shells have it.
pub fn exit_code() -> u8 {
    let signal = SIGNAL.get().map_or(0, |signal| signal.load(Ordering::Relaxed));
    code(if signal == 0 { SIGINT } else { signal as i32 })
}

fn code(signal: i32) -> u8 {
    128 + u8::try_from(signal).unwrap_or_default()
}

/// From here on, a signal cleans up. One that was ignored when the process started (`nohup`) stays so.
pub fn watch() {
    let (cancel, last) = (cancel(), SIGNAL.get_or_init(Default::default));
    for signal in signals().filter(|&signal| !is_ignored(signal)) {
        // In this order: the first signal finds the flag unset, and sets it.
        let registered = flag::register_conditional_shutdown(signal, code(signal).into(), cancel.flag())
            .and_then(|_| flag::register_usize(signal, last.clone(), signal as usize))
            .and_then(|_| flag::register(signal, cancel.flag()));
        if let Err(e) = registered {
            tracing::debug!("signal {signal} ends the process without cleaning up: {e}");
        }
    }
    let watched = thread::Builder::new().name("signals".into()).spawn(|| {
        while !crate::interrupt::cancel().is_cancelled() {
            thread::sleep(INTERVAL);
        }
        if let Some(cancel) = ASKED_FIRST.get() {
            let signal = SIGNAL.get().map_or(0, |signal| signal.load(Ordering::Relaxed));
            if signal == SIGINT as usize {
                crate::printer::stopping();
                return;
            }
            cancel.cancel();
        }
        end();
    });
    if let Err(e) = watched {
        tracing::debug!("a signal ends the process when its step is done: {e}");
    }
}

/// Ends the process, unless it ends by itself soon.
#[expect(
    clippy::exit,
    reason = "the command decides about its end, and nothing else stops a step that takes long"
)]
fn end() {
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        thread::sleep(INTERVAL);
    }
    milwright::abandon_writes();
    crate::printer::interrupted();
    std::process::exit(exit_code().into());
}

#[cfg(unix)]
fn signals() -> impl Iterator<Item = i32> {
    [SIGINT, SIGTERM, signal_hook::consts::SIGHUP].into_iter()
}

#[cfg(not(unix))]
fn signals() -> impl Iterator<Item = i32> {
    [SIGINT, SIGTERM].into_iter()
}

/// Whether whoever started this process had it ignore a signal. Only Linux says so without unsafe code; elsewhere,
/// nobody is told that a terminal was closed.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_ignored(signal: i32) -> bool {
    signal == signal_hook::consts::SIGHUP
}

#[cfg(not(unix))]
fn is_ignored(_: i32) -> bool {
    false
}

/// From here on, a file that grows beyond what this process may write (`ulimit -f`) is an error, as on a full disk. Left
/// alone, the system ends the process.
#[cfg(unix)]
pub fn outlive_file_limits() {
    // The signal needs a handler, and nobody to read what it sets.
    if let Err(e) = flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default()) {
        tracing::debug!("a file that grows too large ends the process: {e}");
    }
}

/// There is no such signal.
#[cfg(not(unix))]
pub fn outlive_file_limits() {}
