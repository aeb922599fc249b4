//! The states of a model.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;

use block2::{DynBlock, StackBlock};
use objc2::rc::Retained;
use objc2::{msg_send, sel};
use objc2_core_ml::{MLMultiArray, MLState};
use objc2_foundation::{NSArray, NSNumber, NSString};

use super::convert::sizes;
use super::edge::{Held, enter, responds, unsupported};
use super::feature::{layout, read_array, unfit};
use crate::array::{scatter, span};
use crate::flight::InFlight;
use crate::{Array, Error, Result};

/// The states of one model. Predictions with the same `State` continue each other.
///
/// While an asynchronous prediction with it is in flight, every other use fails with [`Busy`](crate::ErrorKind::Busy).
#[derive(Debug)]
pub struct State {
    pub(super) state: Held<MLState>,
    pub(super) flight: InFlight,
}

impl State {
    pub(super) fn new(state: Retained<MLState>) -> State {
        State { state: Held::new(state), flight: InFlight::default() }
    }

    /// Reads a state's value.
    ///
    /// # Errors
    /// There is no state of this name, or a prediction with it is in flight.
    pub fn read(&self, name: &str) -> Result<Array> {
        self.with(name, read_array)
    }

    /// Replaces a state's value.
    ///
    /// # Errors
    /// There is no state of this name, it has another shape or element type, or a prediction with it is in flight.
    pub fn write(&mut self, name: &str, array: &Array) -> Result<()> {
        self.with(name, |state| write_array(state, name, array))
    }

    /// Calls `call` with a state's array, which is valid during that call only.
    fn with<T>(&self, name: &str, call: impl Fn(&MLMultiArray) -> Result<T>) -> Result<T> {
        let _pass = self.flight.claim("state")?;
        enter(|| {
            let result = Cell::new(None);
            let handler = StackBlock::new(|array: *mut MLMultiArray| {
                // SAFETY: Core ML gives nil or an array that lives until the handler returns.
                if let Some(array) = unsafe { array.as_ref() } {
                    // `enter`, so that no exception unwinds through the block and the call has a pool of its own.
                    result.set(Some(enter(|| call(array))));
                }
            });
            let handler: &DynBlock<dyn Fn(*mut MLMultiArray) + '_> = &handler;
            // SAFETY: the selector takes a name and a block of (MLMultiArray *), and calls it before it returns.
            unsafe {
                msg_send![
                    &*self.state,
                    getMultiArrayForStateNamed: &*NSString::from_str(name),
                    handler: handler,
                ]
            }
            result
                .into_inner()
                .ok_or_else(|| Error::invalid(format!("Core ML gave nothing for the state `{name}`")))?
        })
    }
}

fn write_array(state: &MLMultiArray, name: &str, array: &Array) -> Result<()> {
    let (shape, element, _) = layout(state)?;
    if shape != array.shape() || element != array.element() {
        return Err(Error::invalid(format!(
            "the state `{name}` holds {shape:?} {element:?}, not {:?} {:?}",
            array.shape(),
            array.element()
        )));
    }
    if !responds(state, sel!(getMutableBytesWithHandler:)) {
        return Err(unsupported("writing a state", "macOS 12.3"));
    }
    let packed = array.packed();
    let written = Cell::new(None);
    let handler = StackBlock::new(|start: *mut c_void, available: isize, strides: *mut NSArray<NSNumber>| {
        let write = || {
            // SAFETY: Core ML gives nil or an array that lives until the handler returns.
            let strides = unsafe { strides.as_ref() };
            let strides = strides.ok_or_else(|| Error::protocol("Core ML gave no strides"))?;
            let strides = sizes(strides, "stride")?;
            let needed = span(element, &shape, &strides).map_err(unfit)?;
            let fits = usize::try_from(available).is_ok_and(|n| needed <= n);
            let start = NonNull::new(start.cast::<u8>()).filter(|_| fits);
            let Some(start) = start else {
                return Err(Error::protocol(format!("Core ML gave too few bytes for {shape:?}")));
            };
            // SAFETY: Core ML says that this many bytes are writable while the handler runs, and nobody else uses the
            // state: `write` has it by `&mut`.
            let data = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), needed) };
            scatter(&packed, data, element.size(), &shape, &strides);
            Ok(())
        };
        written.set(Some(write()));
    });
    let handler: &DynBlock<dyn Fn(*mut c_void, isize, *mut NSArray<NSNumber>) + '_> = &handler;
    // SAFETY: the selector takes a block of (void *, NSInteger, NSArray *), and calls it before it returns.
    unsafe { msg_send![state, getMutableBytesWithHandler: handler] }
    written.into_inner().ok_or_else(|| Error::protocol("Core ML gave no bytes of a state"))?
}
