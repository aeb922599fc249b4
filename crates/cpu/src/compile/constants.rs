//! The constants of a plan.

use std::collections::HashMap;

use bytes::Bytes;
use milwright_mil::{DType, Tensor, Value as MilValue};

use crate::memory::{AlignedBytes, align_up};
use crate::plan::{Constant, ConstantNo, Graph, Place, Ty, Value, ValueNo, dtype_code};
use crate::{KernelError, View};

/// Constants of at most this size are stored in the graph, not in the data section.
const INLINE_BYTES: usize = 64;

/// Collects constants. Large ones that share their bytes become one value, and only constants that some step reads get
/// bytes in the data section.
#[derive(Default)]
pub(super) struct Constants {
    /// Values by the constant's address, length, element type and shape.
    seen: HashMap<(usize, usize, DType, Vec<usize>), ValueNo>,
    /// Constants for the data section: the constant's number and its tensor.
    large: Vec<(ConstantNo, Tensor)>,
    /// Single-precision copies of half-precision constants.
    wide: HashMap<ConstantNo, ValueNo>,
    /// The other contents of the data section, such as packed weights. Their offsets are assigned at once.
    chunks: Vec<(u64, Bytes)>,
    len: u64,
}

impl Constants {
    /// Returns the value of a constant, and adds the constant if it is new.
    pub(super) fn value(&mut self, graph: &mut Graph, value: &MilValue) -> ValueNo {
        let Some(t) = value.as_tensor() else {
            let ty = Ty::from_type(&value.ty()).unwrap_or(Ty::List(Box::new(Ty::Tensor(0, vec![])), None));
            return push(graph, ty, Constant::Other);
        };
        let shape: Vec<u64> = t.shape().iter().map(|&n| n as u64).collect();
        let (ty, code) = (ty(t), dtype_code(t.dtype()));
        if t.dtype() == DType::String {
            return push(graph, ty, Constant::Strings(shape, t.strings().to_vec()));
        }
        if t.bytes().len() <= INLINE_BYTES {
            return push(graph, ty, Constant::Inline(code, shape, t.bytes().to_vec()));
        }
        let key = (t.bytes().as_ptr().addr(), t.bytes().len(), t.dtype(), t.shape().to_vec());
        if let Some(&id) = self.seen.get(&key) {
            return id;
        }
        self.large.push((ConstantNo(graph.constants.len() as u32), t.clone()));
        let id = push(graph, ty, Constant::Packed(code, shape));
        self.seen.insert(key, id);
        id
    }

    /// Returns a single-precision copy of a large half-precision constant; `None` for other constants.
    pub(super) fn widened(&mut self, graph: &mut Graph, value: ValueNo) -> Option<ValueNo> {
        let Place::Constant(c) = graph.values[value].place else { return None };
        let at = self.large.binary_search_by_key(&c, |(c, _)| *c).ok()?;
        let half = self.large[at].1.clone();
        if half.dtype() != DType::Fp16 {
            return None;
        }
        if let Some(&wide) = self.wide.get(&c) {
            return Some(wide);
        }
        let values = crate::convert::to_f32(&View::from(&half)).into_owned();
        let wide = self.value(graph, &Tensor::from_vec(half.shape(), values).ok()?.into());
        self.wide.insert(c, wide);
        Some(wide)
    }

    /// Adds a value that has the type of `value` but no elements: an op reads them in packed form.
    pub(super) fn packed(&mut self, graph: &mut Graph, value: ValueNo) -> ValueNo {
        let ty = graph.values[value].ty.clone();
        let Ty::Tensor(dtype, shape) = &ty else { return value };
        let shape = shape.iter().map(|n| n.unwrap_or(0)).collect();
        let constant = Constant::Packed(*dtype, shape);
        push(graph, ty, constant)
    }

    /// Puts bytes into the data section and returns where.
    pub(super) fn data(&mut self, bytes: Bytes) -> u64 {
        let offset = self.len;
        self.len = self.len.saturating_add(align_up(bytes.len()).unwrap_or(usize::MAX) as u64);
        self.chunks.push((offset, bytes));
        offset
    }

    /// Adds the constants that some step reads to the data section, and returns it.
    ///
    /// # Errors
    /// The system does not have the memory for them.
    pub(super) fn finish(mut self, graph: &mut Graph) -> Result<Bytes, KernelError> {
        let mut read = vec![false; graph.constants.len()];
        let outputs = graph.outputs.iter().map(|p| p.value);
        for v in graph.body.iter().flat_map(|s| s.work.values()).chain(outputs) {
            if let Place::Constant(c) = graph.values[v].place {
                read[c.index()] = true;
            }
        }
        for (c, t) in std::mem::take(&mut self.large) {
            if let (true, Constant::Packed(dtype, shape)) = (read[c.index()], graph.constants[c].clone()) {
                graph.constants[c] = Constant::Data(dtype, shape, self.data(t.shared_bytes()));
            }
        }
        let len = usize::try_from(self.len).ok().filter(|&n| n <= isize::MAX as usize);
        let len = len.ok_or_else(|| KernelError::Memory("its weights do not fit in memory".into()))?;
        let mut section = AlignedBytes::try_zeroed(len)?;
        for (offset, bytes) in &self.chunks {
            let start = *offset as usize;
            section.as_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(section.into())
    }
}

fn push(graph: &mut Graph, ty: Ty, constant: Constant) -> ValueNo {
    let place = Place::Constant(ConstantNo(graph.constants.len() as u32));
    graph.constants.push(constant);
    graph.values.push(Value { ty, place });
    ValueNo(graph.values.len() as u32 - 1)
}

fn ty(t: &Tensor) -> Ty {
    Ty::from_type(&t.ty().into()).expect("a tensor's type has a place in a plan")
}
