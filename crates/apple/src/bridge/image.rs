//! Images as pixel buffers, through the C functions of Core Video.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use bytes::Bytes;
use objc2::encode::{Encoding, RefEncode};

use crate::{Error, Image, PixelFormat, Result};

/// The target of a `CVPixelBufferRef`.
#[repr(C)]
pub(super) struct CVBuffer {
    _opaque: [u8; 0],
}

// SAFETY: the encoding that clang gives a CVPixelBufferRef.
unsafe impl RefEncode for CVBuffer {
    const ENCODING_REF: Encoding = Encoding::Pointer(&Encoding::Struct("__CVBuffer", &[]));
}

/// Called when the buffer no longer needs the memory.
type Release = unsafe extern "C" fn(context: *mut c_void, start: *const c_void);

#[cfg_attr(target_vendor = "apple", link(name = "CoreVideo", kind = "framework"))]
unsafe extern "C" {
    fn CVPixelBufferCreateWithBytes(
        allocator: *const c_void,
        width: usize,
        height: usize,
        format: u32,
        start: *mut c_void,
        row_bytes: usize,
        release: Option<Release>,
        context: *mut c_void,
        attributes: *const c_void,
        buffer: *mut *mut CVBuffer,
    ) -> i32;
    fn CVPixelBufferRelease(buffer: *mut CVBuffer);
    fn CVPixelBufferLockBaseAddress(buffer: *mut CVBuffer, flags: u64) -> i32;
    fn CVPixelBufferUnlockBaseAddress(buffer: *mut CVBuffer, flags: u64) -> i32;
    fn CVPixelBufferGetBaseAddress(buffer: *mut CVBuffer) -> *const c_void;
    fn CVPixelBufferGetBytesPerRow(buffer: *mut CVBuffer) -> usize;
    fn CVPixelBufferGetWidth(buffer: *mut CVBuffer) -> usize;
    fn CVPixelBufferGetHeight(buffer: *mut CVBuffer) -> usize;
    fn CVPixelBufferGetPixelFormatType(buffer: *mut CVBuffer) -> u32;
}

/// `kCVPixelBufferLock_ReadOnly`
const READ_ONLY: u64 = 1;

/// A pixel buffer; this owns one reference to it.
pub(super) struct PixelBuffer(NonNull<CVBuffer>);

impl PixelBuffer {
    pub fn as_ptr(&self) -> *mut CVBuffer {
        self.0.as_ptr()
    }
}

impl Drop for PixelBuffer {
    fn drop(&mut self) {
        // SAFETY: it was created with one reference, which is this one.
        unsafe { CVPixelBufferRelease(self.0.as_ptr()) }
    }
}

/// Creates a pixel buffer over an image's memory and keeps that memory alive.
pub(super) fn pixel_buffer(image: &Image) -> Result<PixelBuffer> {
    let data = image.data().clone();
    // Core ML only reads inputs, so nothing writes through this pointer.
    let start = data.as_ptr().cast_mut().cast();
    let context = Box::into_raw(Box::new(data)).cast();
    let mut buffer = ptr::null_mut();
    // SAFETY: `Image` has checked that the rows are within the memory, which the boxed handle keeps alive until
    // `release` drops that handle.
    let status = unsafe {
        CVPixelBufferCreateWithBytes(
            ptr::null(),
            image.width(),
            image.height(),
            image.format().code(),
            start,
            image.row_bytes(),
            Some(release),
            context,
            ptr::null(),
            &mut buffer,
        )
    };
    match NonNull::new(buffer) {
        Some(buffer) if status == 0 => Ok(PixelBuffer(buffer)),
        _ => {
            // SAFETY: if no buffer was created, nothing calls `release`, so the handle is still ours.
            unsafe { release(context, ptr::null()) };
            Err(Error::protocol(format!("Core Video made no pixel buffer: {status}")))
        }
    }
}

/// # Safety
/// `context` comes from `Box::<Bytes>::into_raw`, and nobody uses it afterwards.
unsafe extern "C" fn release(context: *mut c_void, _start: *const c_void) {
    // SAFETY: as the caller promises.
    drop(unsafe { Box::<Bytes>::from_raw(context.cast()) });
}

/// Copies a pixel buffer, with its rows as they are. The buffer lives until this returns.
pub(super) fn read(buffer: *mut CVBuffer) -> Result<Image> {
    if buffer.is_null() {
        return Err(Error::protocol("Core ML gave no image"));
    }
    // SAFETY: the buffer is not null, and lives; getters.
    let (width, height, row_bytes, code) = unsafe {
        (
            CVPixelBufferGetWidth(buffer),
            CVPixelBufferGetHeight(buffer),
            CVPixelBufferGetBytesPerRow(buffer),
            CVPixelBufferGetPixelFormatType(buffer),
        )
    };
    let format = PixelFormat::from_code(code).ok_or_else(|| {
        Error::protocol(format!("Core ML gave an image of the unknown pixel format {code:#010x}"))
    })?;
    let row = width.checked_mul(format.size()).filter(|row| *row <= row_bytes && *row > 0);
    let len = row.and_then(|row| height.checked_sub(1)?.checked_mul(row_bytes)?.checked_add(row));
    let len = len.filter(|len| isize::try_from(*len).is_ok());
    let len = len.ok_or_else(|| {
        Error::protocol(format!("Core ML gave an image of {width} x {height} in rows of {row_bytes} bytes"))
    })?;
    // SAFETY: the buffer lives.
    let status = unsafe { CVPixelBufferLockBaseAddress(buffer, READ_ONLY) };
    if status != 0 {
        return Err(Error::protocol(format!("Core Video did not lock an image: {status}")));
    }
    // SAFETY: the buffer is locked, so that its pixels are in memory: `height` rows, `row_bytes` apart, the last of
    // which has at least the bytes of its pixels.
    let data = unsafe {
        let start = CVPixelBufferGetBaseAddress(buffer).cast::<u8>();
        let data = (!start.is_null()).then(|| std::slice::from_raw_parts(start, len).to_vec());
        CVPixelBufferUnlockBaseAddress(buffer, READ_ONLY);
        data
    };
    let data = data.ok_or_else(|| Error::protocol("Core ML gave an image without pixels"))?;
    Image::new(format, width, height, row_bytes, data.into())
}
