//! One file per op, at the path of its declaration in `milwright-mil`: `impl Kernel for Op`.
//!
//! The functions here are generated from the op table, so that an op without a kernel does not compile. An unsupported
//! op says so in its kernel's file: `unsupported!(Lstm, "why")`.

use milwright_mil::TensorType;
use milwright_mil::for_each_op;
use milwright_mil::ops::{OpDef, OpKind, OpView, defs};

use crate::{Kernel, KernelError, Packed, Prepared, Support};

/// Declares that there is no code for an op, and why.
#[allow(unused_macros, reason = "used as long as there is such an op")]
macro_rules! unsupported {
    ($op:ident, $reason:literal) => {
        impl $crate::Kernel for milwright_mil::ops::defs::$op {
            const SUPPORT: $crate::Support = $crate::Support::No($reason);

            fn prepare(
                _: &$crate::Params<'_, Self>,
                _: &[milwright_mil::TensorType],
            ) -> Result<$crate::Prepared, $crate::KernelError> {
                Err($crate::KernelError::unsupported($reason))
            }
        }
    };
}

/// Declares that the engine runs an op itself: control flow, states, lists.
#[allow(unused_macros, reason = "used as long as there is such an op")]
macro_rules! by_engine {
    ($op:ident) => {
        impl $crate::Kernel for milwright_mil::ops::defs::$op {
            const SUPPORT: $crate::Support = $crate::Support::Engine;

            fn prepare(
                _: &$crate::Params<'_, Self>,
                _: &[milwright_mil::TensorType],
            ) -> Result<$crate::Prepared, $crate::KernelError> {
                Err($crate::KernelError::unsupported("it runs only as part of a whole function"))
            }
        }
    };
}

#[allow(unused_imports, reason = "families use what they need")]
pub(crate) use {by_engine, unsupported};

mod activation;
mod classify;
mod constant;
mod constexpr;
mod control_flow;
mod conv;
mod elementwise_binary;
mod elementwise_unary;
mod image_resizing;
pub(crate) mod linear;
mod normalization;
mod pool;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod scatter_gather;
mod state;
pub(crate) mod tensor;
mod transformer;

macro_rules! dispatch {
    ($($variant:ident $name:literal $family:ident::$module:ident,)*) => {
        /// Returns how the engine runs an op.
        pub fn support(kind: OpKind) -> Support {
            match kind {
                $(OpKind::$variant => <defs::$variant as Kernel>::SUPPORT,)*
                _ => Support::No("this engine is older than the op"),
            }
        }

        /// Calls [`Kernel::prepare`] of an op.
        ///
        /// # Errors
        /// The op cannot be run.
        pub fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
            match op.kind {
                $(OpKind::$variant => <defs::$variant as Kernel>::prepare(&<defs::$variant as OpDef>::params(op)?, outputs),)*
                _ => Err(KernelError::unsupported("this engine is older than the op")),
            }
        }

        /// Calls [`Kernel::pack`] of an op.
        ///
        /// # Errors
        /// The op cannot be run.
        pub fn pack(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
            match op.kind {
                $(OpKind::$variant => <defs::$variant as Kernel>::pack(&<defs::$variant as OpDef>::params(op)?, outputs),)*
                _ => Ok(None),
            }
        }

        /// Calls [`Kernel::prepare_packed`] of an op.
        ///
        /// # Errors
        /// The op cannot be run.
        pub fn prepare_packed(
            op: &OpView<'_>,
            outputs: &[TensorType],
            packed: Packed,
        ) -> Result<Prepared, KernelError> {
            match op.kind {
                $(OpKind::$variant => {
                    let params = <defs::$variant as OpDef>::params(op)?;
                    <defs::$variant as Kernel>::prepare_packed(&params, outputs, packed)
                })*
                _ => Err(KernelError::unsupported("this engine is older than the op")),
            }
        }
    };
}
for_each_op!(dispatch);
