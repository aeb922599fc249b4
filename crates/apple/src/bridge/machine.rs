//! Which machine this is: what every one has its own compiled models for.

use std::ffi::CStr;
use std::ptr;

/// Where macOS keeps the name; the others have it in `hw.machine`, which on a Mac is the architecture.
const NAME: &CStr = if cfg!(target_os = "macos") { c"hw.model" } else { c"hw.machine" };

/// What Apple calls it, such as `Mac16,1`.
pub(super) fn name() -> Option<String> {
    // The names are short; one that is longer is taken for none.
    let mut text = [0u8; 128];
    let mut len = text.len();
    // SAFETY: the name ends with a zero; at most `len` bytes are written to `text`, and `len` becomes their number;
    // nothing is set.
    let status =
        unsafe { libc::sysctlbyname(NAME.as_ptr(), text.as_mut_ptr().cast(), &mut len, ptr::null_mut(), 0) };
    let text = CStr::from_bytes_until_nul(text.get(..len)?).ok()?;
    (status == 0 && !text.is_empty()).then(|| text.to_string_lossy().into_owned())
}
