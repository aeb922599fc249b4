//! The function that a network is lowered to, layer by layer.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};

use milwright_formats::proto::WeightParams;
use milwright_mil::{Function, Opset, Tensor, ValueId};

use super::weights;
use crate::Error;
use crate::lower::{Faults, Lowering, Result, Scope, op};

/// A function under construction, and the values that the network's names refer to at this point.
///
/// A network's tensors are floats. Here a value keeps the type that an op gave it (bool, int32) until a layer needs
/// floats, so that computed shapes stay integers.
pub(super) struct Net {
    lowering: Lowering,
    pub scope: Scope<ValueId>,
    /// The number of outputs of the current layer.
    pub outputs: usize,
    /// Names that layers would have defined if they could be lowered.
    pub faulty: HashSet<String>,
    /// The errors of layers that could not be lowered.
    pub faults: Faults,
    /// The number of layers that were lowered.
    pub lowered: usize,
    /// Whether results are compared with the shapes that layers say they have.
    pub checks_shapes: bool,
    /// Whether inputs and outputs have the shapes that the model describes, even if the network is an old one.
    pub as_declared: bool,
}

impl Net {
    pub fn new(opset: Opset) -> Net {
        Net {
            lowering: Lowering::new(opset),
            scope: Scope::default(),
            outputs: 0,
            faulty: HashSet::new(),
            faults: Faults::default(),
            lowered: 0,
            checks_shapes: false,
            as_declared: false,
        }
    }

    /// What a name refers to.
    pub fn value_of(&self, name: &str) -> Result<ValueId> {
        let undefined = || Error::malformed(format!("`{name}` is not defined"));
        self.scope.get(name).copied().ok_or_else(undefined)
    }

    /// Returns the finished function, with these outputs.
    pub fn finish(self, outputs: Vec<ValueId>) -> Function {
        self.lowering.builder.finish(outputs)
    }

    pub fn weights(&self, params: Option<&WeightParams>, shape: &[usize]) -> Result<Tensor> {
        weights::read(params, shape, 0)
    }

    /// Returns a vector of one element for a scalar, because networks have no scalars.
    pub fn vector(&mut self, value: ValueId) -> Result<ValueId> {
        match self.builder.tensor_type(value) {
            Some(ty) if ty.rank() == 0 => op!(self, ExpandDims, x = value, axes = &[0][..]),
            _ => Ok(value),
        }
    }
}

impl Deref for Net {
    type Target = Lowering;
    fn deref(&self) -> &Lowering {
        &self.lowering
    }
}

impl DerefMut for Net {
    fn deref_mut(&mut self) -> &mut Lowering {
        &mut self.lowering
    }
}
