//! What the names of an ONNX graph refer to.

use std::cell::OnceCell;
use std::rc::Rc;

use milwright_mil::ValueId;

use super::elem::Elem;
use super::stored::Stored;

/// What a name refers to: a tensor, or a sequence or optional of which everything is known at import.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Tensor(Val),
    /// The elements of a sequence. Its length is known, and each element has a type of its own.
    Sequence(Rc<[Item]>),
    /// An optional, which holds something or not.
    Optional(Option<Rc<Item>>),
}

/// A tensor: a value of the program, or a constant that has no value yet.
///
/// The ONNX element type is kept beside the MIL type, because several share one: all integers are int32, for example.
#[derive(Clone, Debug)]
pub(super) struct Val {
    pub elem: Elem,
    pub source: Source,
}

/// Where a tensor's elements come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A value of the program, in the carrier of the element type.
    Value(ValueId),
    /// A constant of the file. It becomes a value when an op needs it as one.
    Stored(Rc<Constant>),
}

/// A constant of the file.
#[derive(Debug)]
pub(super) struct Constant {
    /// The name, for the value that it may become.
    pub name: String,
    pub stored: Stored,
    /// The value, once there is one.
    pub value: OnceCell<ValueId>,
}

impl Val {
    /// A value of the program.
    pub fn new(elem: Elem, value: ValueId) -> Val {
        Val { elem, source: Source::Value(value) }
    }

    /// A constant.
    pub fn constant(name: impl Into<String>, stored: Stored) -> Val {
        let elem = stored.elem;
        let constant = Constant { name: name.into(), stored, value: OnceCell::new() };
        Val { elem, source: Source::Stored(Rc::new(constant)) }
    }

    /// The constant as the file stores it, if it is one.
    pub fn stored(&self) -> Option<&Stored> {
        match &self.source {
            Source::Stored(constant) => Some(&constant.stored),
            Source::Value(_) => None,
        }
    }
}

impl From<Val> for Item {
    fn from(val: Val) -> Item {
        Item::Tensor(val)
    }
}
