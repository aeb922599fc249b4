//! The [`op!`](crate::op) macro, which declares an op, and the types that a declaration expands to.
//!
//! ```text
//! op! {
//!     /// Joins tensors along the dimension `axis`. …
//!     Concat since Ios13 {
//!         values: Many<T>,
//!         axis: Axis,
//!         interleave: bool = false,
//!     }
//!     where T: [Fp16, Fp32, Int32] since Ios17 [Int8, UInt8]
//!     => infer
//! }
//! ```
//!
//! The name is followed by the opsets with a version of the op, then the parameters. A parameter has a *form*:
//!
//! | form | constant | field of `Params` |
//! |---|---|---|
//! | `Operand<T>` | no | an [`Operand`](crate::ops::Operand): type, known elements, slot |
//! | `Const<T>`, `IntConst<T>` | yes | an `Operand`; the second has an integer for its default |
//! | `EarlyConst<T until OPSET, U>` | before OPSET | an `Operand` |
//! | `Many<T>`, `ManyConst<T>`, `ManyAny` | no, yes, no | a vector of operands |
//! | `Any`, `ConstAny`, `List`, `State` | no, yes, no, no | a [`Bound`](crate::ops::Bound) |
//! | `bool`, `i64`, `f32<T>`, `Str`, `Ints`, `Bools` | yes | what it says: a number, a `&str`, a vector |
//! | `Number<T>` | yes | a [`Number`](crate::ops::Number): an `f32`, and the operand if one is bound |
//! | `Axis`, `Axes` | yes | an [`Axis`](crate::ops::Axis), which a rank makes non-negative |
//!
//! `<…>` is a type variable or a list of element types; `<A until OPSET, B>` is one that changed. An `Option<…>` may be
//! absent. A `Within<…>` must be bound in those versions that have it; its field is an `Option`, too. After the form
//! come `since OPSET`, `until OPSET` (the first opset without it), and the default. The default of an `Option<…>` is
//! only for the docs: its field is `None` if nothing is bound, and the code that reads it applies the default.

use super::{InferError, Inferred, OpView};
use crate::{DType, Opset};

/// The declaration of an op: documentation, parameters of every version, type inference.
pub trait OpDef {
    /// What the op computes, for people: Markdown.
    const DOC: &'static str;
    /// The parameters of one op, after they are read.
    type Params<'a>;
    /// Every version, oldest first.
    const VERSIONS: &'static [Version];
    /// The op's effect besides computing its outputs from its inputs.
    const EFFECT: Effect = Effect::None;

    /// Reads the parameters of an op of this kind.
    ///
    /// # Errors
    /// A parameter is missing, has another form, or must be a constant but is not known before the run.
    fn params<'a>(view: &'a OpView<'a>) -> Result<Self::Params<'a>, InferError>;

    /// Infers the types of the outputs, and their known elements.
    ///
    /// # Errors
    /// The inputs do not fit each other.
    fn infer(p: &Self::Params<'_>) -> Result<Vec<Inferred>, InferError>;
}

/// The effect of an op besides computing its outputs from its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// None: the op may be folded, shared, or dropped when unused.
    None,
    /// It draws random numbers: it must not be folded or shared.
    Random,
    /// It reads or writes a state: it keeps its place, and is not dropped.
    State,
}

/// A version of an op.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The opset that introduced it.
    pub opset: Opset,
    /// The parameters of all versions.
    #[doc(hidden)]
    pub all_params: &'static [Param],
    /// The type variables of all versions.
    #[doc(hidden)]
    pub all_vars: &'static [Var],
}

impl Version {
    /// The parameters.
    pub fn params(&self) -> impl Iterator<Item = &'static Param> + use<> {
        let opset = self.opset;
        let here = move |p: &&Param| p.since.is_none_or(|s| s <= opset) && p.until.is_none_or(|u| opset < u);
        self.all_params.iter().filter(here)
    }

    /// The parameter of this name.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params().find(|p| p.name == name)
    }

    /// The type variables that parameters share, and the element types that each allows.
    pub fn types(&self) -> impl Iterator<Item = (&'static str, Vec<DType>)> {
        self.all_vars.iter().map(|v| (v.name, self.dtypes(v.name))).filter(|(_, dtypes)| !dtypes.is_empty())
    }

    /// The element types that a type variable allows: floats, then integers, then bools.
    pub fn dtypes(&self, var: &str) -> Vec<DType> {
        let mut dtypes: Vec<DType> = self.var(var).collect();
        dtypes.sort_by_key(|&d| (d == DType::Bool, d));
        dtypes
    }

    /// Whether a parameter accepts tensors of this element type.
    pub fn takes(&self, param: &Param, dtype: DType) -> bool {
        match param.kind {
            Kind::Var(var) => self.allows(var, dtype),
            Kind::Of(dtypes) => dtypes.contains(&dtype),
            Kind::Any => true,
            Kind::List | Kind::State => false,
        }
    }

    /// The element types that a parameter accepts, if they are listed.
    pub fn taken(&self, param: &Param) -> Vec<DType> {
        match param.kind {
            Kind::Var(var) => self.dtypes(var),
            Kind::Of(dtypes) => dtypes.to_vec(),
            Kind::Any | Kind::List | Kind::State => Vec::new(),
        }
    }

    /// Whether a type variable allows this element type.
    pub fn allows(&self, var: &str, dtype: DType) -> bool {
        self.var(var).any(|d| d == dtype)
    }

    fn var(&self, var: &str) -> impl Iterator<Item = DType> {
        let lists = self.all_vars.iter().filter(move |v| v.name == var).flat_map(|v| v.dtypes);
        lists.filter(|(since, _)| *since <= self.opset).flat_map(|(_, dtypes)| *dtypes).copied()
    }
}

/// A type variable.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// The name in the declaration.
    pub name: &'static str,
    /// The element types that it allows, each list with the first opset that allows them.
    pub dtypes: &'static [(Opset, &'static [DType])],
}

/// One parameter of an op.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The name in MIL.
    pub name: &'static str,
    /// The values that it accepts.
    pub kind: Kind,
    /// Whether it requires a constant.
    pub constant: bool,
    /// Whether it accepts a list of values.
    pub variadic: bool,
    /// The meaning of an unbound parameter.
    pub default: Default,
    /// The opset that introduced it, if that is not the op's first.
    pub since: Option<Opset>,
    /// The first opset without it.
    pub until: Option<Opset>,
}

/// The values that a parameter accepts.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A tensor whose element type is the type variable of this name.
    Var(&'static str),
    /// A tensor of one of these element types.
    Of(&'static [DType]),
    /// A list.
    List,
    /// A state.
    State,
    /// Anything.
    Any,
}

/// The meaning of an unbound parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It must be bound.
    Required,
    /// It may be absent. The op then behaves differently, as its docs say.
    Absent,
    /// This bool.
    Bool(bool),
    /// This int32.
    Int(i32),
    /// This float, in the element type of the parameter.
    Float(f32),
    /// This string.
    Str(&'static str),
}

impl Kind {
    /// A bool tensor or scalar.
    pub const BOOL: Kind = Kind::Of(&[DType::Bool]);
    /// An int32 tensor or scalar.
    pub const INT32: Kind = Kind::Of(&[DType::Int32]);
    /// A string.
    pub const STRING: Kind = Kind::Of(&[DType::String]);

    /// The kind of a form that does not name a type.
    #[doc(hidden)]
    pub const fn of(form: &str) -> Kind {
        match form.as_bytes() {
            b"bool" | b"Bools" => Kind::BOOL,
            b"i64" | b"Ints" | b"Axis" | b"Axes" => Kind::INT32,
            b"Str" => Kind::STRING,
            b"Any" | b"ConstAny" | b"ManyAny" => Kind::Any,
            b"List" => Kind::List,
            b"State" => Kind::State,
            _ => panic!("the form needs a type variable or a list of element types"),
        }
    }
}

/// Whether a parameter of this form requires a constant; for `EarlyConst`, in early opsets.
#[doc(hidden)]
pub const fn is_constant(form: &str) -> bool {
    !matches!(form.as_bytes(), b"Operand" | b"Many" | b"ManyAny" | b"Any" | b"List" | b"State")
}

/// Whether a parameter of this form accepts a list of values.
#[doc(hidden)]
pub const fn is_variadic(form: &str) -> bool {
    matches!(form.as_bytes(), b"Many" | b"ManyConst" | b"ManyAny")
}

/// Declares an op: a type with the op's name, docs, versions, parameters and type inference, and its [`Effect`] if it
/// has one. See [the module](crate::ops::declare) for the syntax.
#[macro_export]
#[doc(hidden)]
macro_rules! op {
    (
        $(#[doc = $doc:literal])+
        $name:ident since $($opset:ident),+ { $($fields:tt)* }
        $(where $(
            $var:ident: $([$($dtype:ident),*])? $(since $later:ident [$($more:ident),*])*
        ),+)?
        => $infer:expr $(, $effect:path)? $(,)?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::ops::OpDef for $name {
            const DOC: &'static str = concat!($($doc, "\n"),+);
            type Params<'a> = Params<'a>;
            const VERSIONS: &'static [$crate::ops::Version] = &[$($crate::ops::Version {
                opset: $crate::Opset::$opset,
                all_params: Params::ALL,
                all_vars: VARS,
            }),+];
            $(const EFFECT: $crate::ops::Effect = $effect;)?

            fn params<'a>(view: &'a $crate::ops::OpView<'a>) -> Result<Params<'a>, $crate::ops::InferError> {
                Params::read(view)
            }

            fn infer(p: &Params<'_>) -> Result<Vec<$crate::ops::Inferred>, $crate::ops::InferError> {
                let infer: fn(&Params<'_>) -> Result<Vec<$crate::ops::Inferred>, $crate::ops::InferError> = $infer;
                infer(p)
            }
        }

        const VARS: &[$crate::ops::Var] = &[$($($crate::ops::Var {
            name: stringify!($var),
            dtypes: &[
                $(($crate::Opset::Ios13, &[$($crate::DType::$dtype),*]),)?
                $(($crate::Opset::$later, &[$($crate::DType::$more),*]),)*
            ],
        }),+)?];

        $crate::op_params! { $name [] $($fields)* }
    };
}

/// Declares the struct of an op's parameters. Processes one field after the other, and turns each into
/// `[name form optional [kind] [opset, kind from there on] [since] [until] [default]]`.
#[macro_export]
#[doc(hidden)]
macro_rules! op_params {
    (
        $op:ident [$($done:tt)*]
        $field:ident: $optional:ident<$form:ident<$kind:tt $(until $change:ident, $next:tt)?>>
        $(since $since:ident)? $(until $until:ident)? $(= $default:literal)?, $($rest:tt)*
    ) => {
        $crate::op_params! { $op [
            $($done)*
            [$field $form $optional [$kind] [$($change $next)?] [$($since)?] [$($until)?] [$($default)?]]
        ] $($rest)* }
    };
    (
        $op:ident [$($done:tt)*]
        $field:ident: Option<$form:ident>
        $(since $since:ident)? $(until $until:ident)? $(= $default:literal)?, $($rest:tt)*
    ) => {
        $crate::op_params! { $op [
            $($done)*
            [$field $form Option [] [] [$($since)?] [$($until)?] [$($default)?]]
        ] $($rest)* }
    };
    (
        $op:ident [$($done:tt)*]
        $field:ident: $form:ident$(<$kind:tt $(until $change:ident, $next:tt)?>)?
        $(since $since:ident)? $(until $until:ident)? $(= $default:literal)?, $($rest:tt)*
    ) => {
        $crate::op_params! { $op [
            $($done)*
            [
                $field $form Required [$($kind)?] [$($($change $next)?)?]
                [$($since)?] [$($until)?] [$($default)?]
            ]
        ] $($rest)* }
    };
    ($op:ident [$([
        $field:ident $form:ident $optional:ident $kind:tt [$($change:ident $next:tt)?] $since:tt $until:tt $default:tt
    ])*]) => {
        #[doc = concat!("The parameters of [`", stringify!($op), "`].")]
        #[derive(Clone, Debug)]
        pub struct Params<'a> {
            /// The op that the parameters belong to.
            pub view: &'a $crate::ops::OpView<'a>,
            $(
                #[doc = concat!("The parameter `", stringify!($field), "`.")]
                pub $field: $crate::op_field!('a $optional $form),
            )*
        }

        impl<'a> Params<'a> {
            const ALL: &'static [$crate::ops::Param] = &[$(
                $crate::ops::Param {
                    name: stringify!($field),
                    kind: $crate::op_part!(kind $form $kind),
                    constant: $crate::ops::is_constant(stringify!($form)),
                    variadic: $crate::ops::is_variadic(stringify!($form)),
                    default: $crate::op_part!(default $optional $form $default),
                    since: $crate::op_part!(opset $since),
                    until: $crate::op_part!(until [$($change)?] $until),
                },
                $($crate::ops::Param {
                    name: stringify!($field),
                    kind: $crate::op_part!(kind $form [$next]),
                    constant: $crate::op_part!(still_constant $form),
                    variadic: $crate::ops::is_variadic(stringify!($form)),
                    default: $crate::op_part!(default $optional $form $default),
                    since: Some($crate::Opset::$change),
                    until: $crate::op_part!(opset $until),
                },)?
            )*];

            fn read(view: &'a $crate::ops::OpView<'a>) -> Result<Params<'a>, $crate::ops::InferError> {
                Ok(Params {
                    view,
                    $($field: $crate::ops::Read::read(&$crate::ops::Place {
                        view,
                        name: stringify!($field),
                        default: $crate::op_part!(default $optional $form $default),
                    })?,)*
                })
            }

            /// The opset that introduced the op's version.
            pub fn opset(&self) -> $crate::Opset {
                self.view.version.opset
            }
        }
    };
}

/// The Rust type of a field, for a parameter's form.
#[macro_export]
#[doc(hidden)]
macro_rules! op_field {
    ($a:lifetime Option $form:ident) => { Option<$crate::op_field!($a Required $form)> };
    ($a:lifetime Within $form:ident) => { Option<$crate::op_field!($a Required $form)> };
    ($a:lifetime Required Operand) => { $crate::ops::Operand<$a> };
    ($a:lifetime Required Const) => { $crate::ops::Operand<$a> };
    ($a:lifetime Required IntConst) => { $crate::ops::Operand<$a> };
    ($a:lifetime Required EarlyConst) => { $crate::ops::Operand<$a> };
    ($a:lifetime Required Many) => { Vec<$crate::ops::Operand<$a>> };
    ($a:lifetime Required ManyConst) => { Vec<$crate::ops::Operand<$a>> };
    ($a:lifetime Required ManyAny) => { Vec<$crate::ops::Bound<$a>> };
    ($a:lifetime Required Any) => { $crate::ops::Bound<$a> };
    ($a:lifetime Required ConstAny) => { $crate::ops::Bound<$a> };
    ($a:lifetime Required List) => { $crate::ops::Bound<$a> };
    ($a:lifetime Required State) => { $crate::ops::Bound<$a> };
    ($a:lifetime Required Str) => { &$a str };
    ($a:lifetime Required Ints) => { Vec<i64> };
    ($a:lifetime Required Bools) => { Vec<bool> };
    ($a:lifetime Required Number) => { $crate::ops::Number<$a> };
    ($a:lifetime Required Axis) => { $crate::ops::Axis };
    ($a:lifetime Required Axes) => { $crate::ops::Axes };
    ($a:lifetime Required $plain:ident) => { $plain };
}

/// The name of an op's parameter. Does not compile if the op has no such parameter.
///
/// ```
/// assert_eq!(milwright_mil::param!(Concat.axis), "axis");
/// ```
///
/// ```compile_fail
/// milwright_mil::param!(Concat.axes);
/// ```
#[macro_export]
macro_rules! param {
    ($op:ident.$param:ident) => {{
        let _ = |p: &<$crate::ops::defs::$op as $crate::ops::OpDef>::Params<'_>| {
            let _ = &p.$param;
        };
        stringify!($param)
    }};
}

/// Computes a part of a [`Param`] from the corresponding part of the declaration.
#[macro_export]
#[doc(hidden)]
macro_rules! op_part {
    (kind $form:ident []) => { $crate::ops::Kind::of(stringify!($form)) };
    (kind $form:ident [$var:ident]) => { $crate::ops::Kind::Var(stringify!($var)) };
    (kind $form:ident [[$($dtype:ident),+]]) => { $crate::ops::Kind::Of(&[$($crate::DType::$dtype),+]) };
    (still_constant EarlyConst) => { false };
    (still_constant $form:ident) => { $crate::ops::is_constant(stringify!($form)) };
    (opset []) => { None };
    (opset [$opset:ident]) => { Some($crate::Opset::$opset) };
    (until [$change:ident] $until:tt) => { Some($crate::Opset::$change) };
    (until [] $until:tt) => { $crate::op_part!(opset $until) };
    (default Option $form:ident []) => { $crate::ops::Default::Absent };
    (default $optional:ident $form:ident []) => { $crate::ops::Default::Required };
    (default $optional:ident bool [$default:literal]) => { $crate::ops::Default::Bool($default) };
    (default $optional:ident i64 [$default:literal]) => { $crate::ops::Default::Int($default) };
    (default $optional:ident Axis [$default:literal]) => { $crate::ops::Default::Int($default) };
    (default $optional:ident IntConst [$default:literal]) => { $crate::ops::Default::Int($default) };
    (default $optional:ident Operand [$default:literal]) => { $crate::ops::Default::Int($default) };
    (default $optional:ident Str [$default:literal]) => { $crate::ops::Default::Str($default) };
    (default $optional:ident $form:ident [$default:literal]) => { $crate::ops::Default::Float($default) };
}

#[cfg(test)]
mod tests {
    use crate::Opset;
    use crate::ops::{Kind, OpKind};

    /// A change at an opset without a version of the op would have no effect.
    #[test]
    fn changes_come_with_a_version() {
        for kind in OpKind::ALL {
            let versions = kind.versions();
            let has = |opset: Opset| versions.iter().any(|v| v.opset == opset);
            for param in versions[0].all_params {
                let at = [param.since, param.until].into_iter().flatten();
                assert!(at.into_iter().all(has), "`{}` of {}", param.name, kind.name());
            }
            for var in versions[0].all_vars {
                let later = var.dtypes.iter().map(|(since, _)| *since).filter(|s| *s != Opset::Ios13);
                assert!(later.into_iter().all(has), "{} of {}", var.name, kind.name());
            }
        }
    }

    /// Every type variable that a parameter names is declared in its version.
    #[test]
    fn type_variables_are_declared() {
        for kind in OpKind::ALL {
            for version in kind.versions() {
                for param in version.params() {
                    if let Kind::Var(var) = param.kind {
                        assert!(!version.dtypes(var).is_empty(), "`{}` of {}", param.name, kind.name());
                    }
                }
            }
        }
    }

    #[test]
    fn versions_are_differences() {
        let names = |opset| {
            let version = OpKind::ConstexprLutToDense.version(opset).unwrap();
            version.params().map(|p| (p.name, p.constant)).collect::<Vec<_>>()
        };
        assert_eq!(names(Opset::Ios16), [("indices", true), ("lut", true), ("shape", true)]);
        assert_eq!(names(Opset::Ios18), [("indices", true), ("lut", true), ("vector_axis", true)]);
        let bias = |opset| OpKind::Conv.version(opset).unwrap().param("bias").unwrap().constant;
        assert_eq!([bias(Opset::Ios16), bias(Opset::Ios17)], [true, false]);
    }
}
