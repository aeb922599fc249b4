//! The name of this machine. Compiled models depend on it.

use std::ffi::CStr;
use std::ptr;

/// macOS has the name in `hw.model`, the other systems in `hw.machine`, which on a Mac is the architecture.
const NAME: &CStr = if cfg!(target_os = "macos") { c"hw.model" } else { c"hw.machine" };

/// Apple's name of this machine, such as `Mac16,1`.
pub(super) fn name() -> Option<String> {
    // The names are short; a longer one is ignored.
    let mut text = [0u8; 128];
    let mut len = text.len();
    // SAFETY: the name ends with a zero; at most `len` bytes are written to `text`, and `len` becomes their number;
    // nothing is set.
    let status =
        unsafe { libc::sysctlbyname(NAME.as_ptr(), text.as_mut_ptr().cast(), &mut len, ptr::null_mut(), 0) };
    let text = CStr::from_bytes_until_nul(text.get(..len)?).ok()?;
    (status == 0 && !text.is_empty()).then(|| text.to_string_lossy().into_owned())
}
