//! A safe bridge to Apple's Core ML: compile, load, describe, predict, plan.
//!
//! Its types are plain Rust: paths, strings, numbers and shared memory. No pointer and no Objective-C object leaves it.
//! Every call runs in an autorelease pool of its own, every `NSError` and every Objective-C exception becomes an
//! [`Error`], and a method that older systems lack is looked up before it is called. On systems without Core ML,
//! everything fails with [`ErrorKind::Unavailable`].
//!
//! ```no_run
//! use std::path::Path;
//! use milwright_apple::{Array, Backings, Configuration, ElementType, Features, Model, Value};
//!
//! let compiled = milwright_apple::compile(Path::new("model.mlpackage"))?;
//! let mut model = Model::load(&compiled, &Configuration::default())?;
//! let x = Array::new(ElementType::Float32, &[1, 2], vec![0; 8].into())?;
//! let inputs = Features::from([("x".into(), Value::Array(x))]);
//! let outputs = model.predict(&inputs, Backings::new())?;
//! # Ok::<(), milwright_apple::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | compile a model | [`compile()`], [`compile_async`] |
//! | load it | [`Model::load`], [`Model::load_async`], [`Configuration`] |
//! | run it | [`Model::predict`], [`Model::predict_async`], [`Model::predict_batch`] |
//! | keep states | [`Model::new_state`], [`Model::predict_with_state`] |
//! | write outputs into memory of one's own | [`Backing`] |
//! | see where it runs | [`compute_plan`], [`devices`] |
//! | wait for a completion handler | [`wait()`] |
//!
//! A completion handler is called exactly once, on one of Core ML's threads, with a result or with an error that says
//! why there is none. A panic in a handler does not unwind further.

mod array;
#[cfg(any(target_vendor = "apple", milwright_standin))]
mod bridge;
#[cfg(not(any(target_vendor = "apple", milwright_standin)))]
mod disabled;
mod error;
#[cfg(any(target_vendor = "apple", milwright_standin, test))]
mod flight;
#[cfg(feature = "swift")]
pub mod swift;
mod types;
mod wait;

#[cfg(any(target_vendor = "apple", milwright_standin))]
use bridge as platform;
#[cfg(not(any(target_vendor = "apple", milwright_standin)))]
use disabled as platform;

pub use array::{Array, Backing, ElementType};
pub use error::{Error, ErrorKind, Result};
pub use platform::{
    Model, State, availability, compile, compile_async, compute_plan, devices, machine, system,
};
pub use types::{
    Backings, ComputePlan, ComputeUnits, Configuration, Description, Device, Feature, FeatureKind, Features,
    Hints, Image, ImageSizes, Label, Metadata, PixelFormat, PlannedOp, Reshapes, Shapes, Specialization,
    Value,
};
pub use wait::wait;
