//! Signals. Ctrl-C: the first asks to stop and clean up, the second ends the process at once.

use milwright::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code of a command that was interrupted.
pub const EXIT_CODE: u8 = 130;

/// What is cancelled when the process is asked to end.
pub fn cancel() -> Cancel {
    let cancel = Cancel::default();
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        let registered = flag::register_conditional_shutdown(signal, EXIT_CODE.into(), cancel.flag())
            .and_then(|_| flag::register(signal, cancel.flag()));
        if let Err(e) = registered {
            tracing::debug!("signal {signal} ends the process without cleaning up: {e}");
        }
    }
    cancel
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
