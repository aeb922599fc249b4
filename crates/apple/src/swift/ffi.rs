//! `swift/milwright_swift.h` in Rust. `scripts/apple/swift_contract.py` compares the two.
#![expect(non_camel_case_types, reason = "the names of the header")]

use std::ffi::{c_char, c_void};

pub(super) const MILWRIGHT_SWIFT_ABI: i32 = 1;
pub(super) const MILWRIGHT_SWIFT_DOMAIN: &str = "milwright.swift";
pub(super) const MILWRIGHT_SWIFT_UNSUPPORTED: i64 = 1;
pub(super) const MILWRIGHT_SWIFT_INVALID: i64 = 2;
pub(super) const MILWRIGHT_SWIFT_PROTOCOL: i64 = 3;
pub(super) const MILWRIGHT_SWIFT_CANCELLED: i64 = 4;
pub(super) const MILWRIGHT_SWIFT_CPU: i32 = 1;
pub(super) const MILWRIGHT_SWIFT_GPU: i32 = 2;
pub(super) const MILWRIGHT_SWIFT_NEURAL_ENGINE: i32 = 3;

#[repr(C)]
pub(super) struct milwright_swift_error {
    pub domain: *const c_char,
    pub code: i64,
    pub message: *const c_char,
    pub reason: *const c_char,
    pub recovery: *const c_char,
}

#[repr(C)]
pub(super) struct milwright_swift_configuration {
    pub compute_units: i32,
    pub function: *const c_char,
    pub display_name: *const c_char,
    pub low_precision_accumulation: i32,
    pub reshapes: i32,
    pub specialization: i32,
}

#[repr(C)]
pub(super) struct milwright_swift_tensor {
    pub name: *const c_char,
    pub element: i32,
    pub rank: i32,
    pub shape: *const i64,
    pub strides: *const i64,
    pub data: *mut c_void,
    pub bytes: i64,
    pub owner: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct milwright_swift_device {
    pub kind: i32,
    pub cores: i64,
}

pub(super) type milwright_swift_loaded =
    extern "C" fn(context: u64, model: *mut c_void, error: *const milwright_swift_error);
pub(super) type milwright_swift_predicted = extern "C" fn(
    context: u64,
    outputs: *const milwright_swift_tensor,
    count: i64,
    error: *const milwright_swift_error,
);
pub(super) type milwright_swift_accessed =
    extern "C" fn(context: u64, array: *const milwright_swift_tensor, error: *const milwright_swift_error);
pub(super) type milwright_swift_owner_release = extern "C" fn(owner: u64);

unsafe extern "C" {
    pub(super) fn milwright_swift_abi() -> i32;
    pub(super) fn milwright_swift_devices(devices: *mut milwright_swift_device, capacity: i64) -> i64;
    pub(super) fn milwright_swift_load(
        path: *const c_char,
        configuration: *const milwright_swift_configuration,
        context: u64,
        done: milwright_swift_loaded,
    );
    pub(super) fn milwright_swift_new_state(model: *mut c_void, context: u64, done: milwright_swift_loaded);
    pub(super) fn milwright_swift_access_state(
        state: *mut c_void,
        name: *const c_char,
        context: u64,
        access: milwright_swift_accessed,
    );
    pub(super) fn milwright_swift_predict(
        model: *mut c_void,
        state: *mut c_void,
        inputs: *const milwright_swift_tensor,
        count: i64,
        tensors: i32,
        context: u64,
        done: milwright_swift_predicted,
        release: milwright_swift_owner_release,
    ) -> *mut c_void;
    pub(super) fn milwright_swift_cancel(task: *mut c_void);
    pub(super) fn milwright_swift_release(object: *mut c_void);
}
