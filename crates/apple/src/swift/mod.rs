//! Core ML through a small Swift file, for what only Swift offers: predictions that can be cancelled, and [`MLTensor`].
//!
//! It uses the crate's other types, but takes arrays only: for images or texts, use [`Model`](crate::Model). Every slow
//! call takes a completion handler, which is called exactly once; [`wait`](crate::wait()) waits for it. A panic in a
//! handler does not unwind further. Where no Swift is linked, everything fails with
//! [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
//!
//! ```no_run
//! use std::path::Path;
//! use milwright_apple::swift::{Model, Route};
//! use milwright_apple::{Array, Configuration, ElementType, Features, Value, wait};
//!
//! let path = Path::new("model.mlmodelc");
//! let mut model = wait(None, |done| Model::load_async(path, &Configuration::default(), done))?;
//! let x = Array::new(ElementType::Float32, &[1, 2], vec![0; 8].into())?;
//! let inputs = Features::from([("x".into(), Value::Array(x))]);
//! let outputs = wait(None, |done| drop(model.predict_async(&inputs, None, Route::Arrays, done)))?;
//! # Ok::<(), milwright_apple::Error>(())
//! ```
//!
//! [`MLTensor`]: https://developer.apple.com/documentation/coreml/mltensor

#[cfg(swift_linked)]
mod call;
#[cfg(not(swift_linked))]
mod disabled;
#[cfg(swift_linked)]
mod ffi;
#[cfg(swift_linked)]
mod model;
#[cfg(swift_linked)]
mod table;
#[cfg(swift_linked)]
mod tensor;

#[cfg(swift_linked)]
use model as platform;

#[cfg(not(swift_linked))]
use disabled as platform;

pub use platform::{Model, Running, State, availability, devices};

/// How inputs and outputs are passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Route {
    /// `MLMultiArray`. Inputs are read in place.
    #[default]
    Arrays,
    /// `MLTensor`, which copies. Inputs are fp32 and int32, and so are outputs: other types come out as fp32. macOS 15.
    Tensors,
}
