//! The table of ops: each is declared once, in a file of its own under its family.
//!
//! To add an op, write `FAMILY/OP.rs` with the [`op!`](crate::op) macro and add one line to
//! [`for_each_op!`](crate::for_each_op). Everything else that must know the op expands that list, in this crate and in
//! others, and does not compile until it does.

mod declare;
mod view;

pub use declare::{Default, Effect, Kind, OpDef, Param, Version, many, optional, required};
pub(crate) use view::MAX_PARTIAL;
pub use view::{ArgView, InferError, Inferred, Known, OpView, dim};

/// Calls a macro with the one list of ops: `Type "mil_name" family::module,` for each.
#[macro_export]
macro_rules! for_each_op {
    ($callback:ident) => {
        $callback! {
            // constants
            Const "const" constant::constant,
            // tensor
            Concat "concat" tensor::concat,
        }
    };
}

macro_rules! op_kinds {
    ($($variant:ident $name:literal $family:ident::$module:ident,)*) => {
        /// Which operation an op is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum OpKind {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl OpKind {
            /// Every operation, in the order of the table.
            pub const ALL: &[OpKind] = &[$(OpKind::$variant),*];

            /// The name in MIL.
            pub const fn name(self) -> &'static str {
                match self { $(OpKind::$variant => $name),* }
            }

            /// The family: the folder that the declaration is in.
            pub const fn family(self) -> &'static str {
                match self { $(OpKind::$variant => stringify!($family)),* }
            }

            /// What the op computes, for people: Markdown.
            pub const fn doc(self) -> &'static str {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::DOC),* }
            }

            /// What it does besides computing its outputs from its inputs.
            pub const fn effect(self) -> Effect {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::EFFECT),* }
            }

            /// Every version, oldest first.
            pub const fn versions(self) -> &'static [Version] {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::VERSIONS),* }
            }

            /// The op with this MIL name.
            pub fn from_name(name: &str) -> Option<OpKind> {
                match name { $($name => Some(OpKind::$variant),)* _ => None }
            }

            /// The types of an op's outputs, and what is known of their elements.
            ///
            /// # Errors
            /// The inputs do not fit each other; the text says how. The caller adds where.
            pub fn infer(self, op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::infer(op)),* }
            }
        }

        /// The ops as types, for traits that each of them must implement.
        pub mod defs {
            $(pub use super::$family::$module::$variant;)*
        }
    };
}

pub mod constant;
pub mod tensor;

for_each_op!(op_kinds);

impl OpKind {
    /// The version that a function of this opset uses: the newest that is not newer.
    pub fn version(self, opset: crate::Opset) -> Option<&'static Version> {
        self.versions().iter().rev().find(|v| v.opset <= opset)
    }
}

/// Declares an op: a type named after it, with its docs, versions, type inference, and its [`Effect`] if it has one.
#[macro_export]
#[doc(hidden)]
macro_rules! op {
    ($(#[doc = $doc:literal])+ $name:ident, $versions:expr, $infer:path $(, $effect:path)? $(,)?) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::ops::OpDef for $name {
            const DOC: &'static str = concat!($($doc, "\n"),+);
            const VERSIONS: &'static [$crate::ops::Version] = $versions;
            $(const EFFECT: $crate::ops::Effect = $effect;)?

            fn infer(
                op: &$crate::ops::OpView<'_>,
            ) -> Result<Vec<$crate::ops::Inferred>, $crate::ops::InferError> {
                $infer(op)
            }
        }
    };
}
