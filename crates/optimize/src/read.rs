//! Reads a compressed weight back from the `constexpr_*` ops that express it, so that another step can follow.

use milwright_mil::{Arg, DType, Function, OpId, OpKind, Tensor, ValueId, param};

use crate::code::{Coded, Data, Scaled, Tables};
use crate::to_f32;

/// Returns the weight that an op of iOS18, the last one of its chain, expresses.
///
/// # Errors
/// It is in a form that Milwright does not write; the text says which.
pub(crate) fn read(function: &Function, op: OpId) -> Result<Coded, String> {
    let output = function[op].outputs.first().and_then(|&v| function[v].ty.as_tensor());
    let known = output.and_then(|t| Some((t.fixed_shape()?, t.dtype)));
    let (shape, dtype) = known.filter(|(_, d)| matches!(d, DType::Fp16 | DType::Fp32)).ok_or(FORM)?;
    let reader = Reader { function, shape };
    let (mask, data) = match function[op].kind {
        OpKind::ConstexprBlockwiseShiftScale => (None, Data::Linear(reader.shift_scale(op)?)),
        OpKind::ConstexprAffineDequantize => (None, Data::Linear(reader.affine(op)?)),
        OpKind::ConstexprLutToDense => {
            let (tables, indices) = reader.tables(
                op,
                param!(ConstexprLutToDense.indices),
                param!(ConstexprLutToDense.lut),
                param!(ConstexprLutToDense.vector_axis),
            )?;
            (None, Data::Palette(Tables { indices: numbers(&indices), ..tables }))
        }
        OpKind::ConstexprSparseToDense => reader.sparse(op)?,
        _ => return Err(FORM.into()),
    };
    Ok(Coded { shape: reader.shape, dtype, mask, data })
}

/// The address of the largest constant that a compressed weight is made of: two weights that have the same one are equal.
pub(crate) fn address(function: &Function, op: OpId) -> usize {
    let mut found = (0, 0);
    let mut ops = vec![op];
    while let Some(op) = ops.pop() {
        for arg in function[op].inputs.iter().flat_map(|i| &i.args) {
            let tensor = match arg {
                Arg::Const(value) => value.as_tensor(),
                Arg::Value(value) => function.const_value(*value).and_then(|v| v.as_tensor()),
            };
            match (tensor, arg) {
                (Some(tensor), _) => {
                    found = found.max((tensor.bytes().len(), tensor.bytes().as_ptr().addr()))
                }
                (None, Arg::Value(value)) => ops.extend(function.defining_op(*value)),
                (None, Arg::Const(_)) => {}
            }
        }
    }
    found.1
}

const FORM: &str = "is compressed in a form that no step can follow";

struct Reader<'a> {
    function: &'a Function,
    shape: Vec<usize>,
}

impl Reader<'_> {
    fn tensor(&self, op: OpId, name: &str) -> Result<Tensor, String> {
        let found = match self.function[op].args(name) {
            [Arg::Const(value)] => value.as_tensor(),
            [Arg::Value(value)] => self.function.const_value(*value).and_then(|v| v.as_tensor()),
            _ => None,
        };
        found.cloned().ok_or_else(|| FORM.into())
    }

    fn optional(&self, op: OpId, name: &str) -> Result<Option<Tensor>, String> {
        if self.function[op].args(name).is_empty() { Ok(None) } else { self.tensor(op, name).map(Some) }
    }

    /// The op that computes an input, if one does.
    fn before(&self, op: OpId, name: &str) -> Option<(OpId, ValueId)> {
        let value = self.function[op].value(name)?;
        let before = self.function.defining_op(value)?;
        (self.function[before].kind != OpKind::Const).then_some((before, value))
    }

    fn shift_scale(&self, op: OpId) -> Result<Scaled, String> {
        let data = self.tensor(op, param!(ConstexprBlockwiseShiftScale.data))?;
        let scale = self.tensor(op, param!(ConstexprBlockwiseShiftScale.scale))?;
        let zeros = self.optional(op, param!(ConstexprBlockwiseShiftScale.offset))?;
        scaled(data.dtype(), numbers(&data), &scale, zeros.as_ref())
    }

    /// The form of iOS16, with one scale for each index of a dimension, or one for all.
    fn affine(&self, op: OpId) -> Result<Scaled, String> {
        let data = self.tensor(op, param!(ConstexprAffineDequantize.quantized_data))?;
        let scale = self.tensor(op, param!(ConstexprAffineDequantize.scale))?;
        let zero = self.tensor(op, param!(ConstexprAffineDequantize.zero_point))?;
        let axis = self.tensor(op, param!(ConstexprAffineDequantize.axis))?.to_i64();
        let rank = self.shape.len();
        let axis = axis.and_then(|a| a.first().copied()).ok_or(FORM)?;
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).map_err(|_| FORM)?;
        let blocks = scale.elements().max(zero.elements());
        let mut counts = vec![1; rank];
        *counts.get_mut(axis).ok_or(FORM)? = blocks;
        if blocks != 1 && blocks != self.shape[axis] || zero.dtype() != data.dtype() {
            return Err(FORM.into());
        }
        // A single one is for all.
        let all = |tensor: &Tensor| {
            let one = |t: &Tensor| t.bytes().repeat(blocks / t.elements().max(1));
            Tensor::from_bytes(tensor.dtype(), &counts, one(tensor).into()).map_err(|_| FORM)
        };
        let zero = Some(all(&zero)?).filter(|zero| numbers(zero).iter().any(|&z| z != 0));
        scaled(data.dtype(), numbers(&data), &all(&scale)?, zero.as_ref())
    }

    /// Tables, and the indices as they are stored.
    fn tables(&self, op: OpId, indices: &str, lut: &str, axis: &str) -> Result<(Tables, Tensor), String> {
        let indices = self.tensor(op, indices)?;
        let axis = self.optional(op, axis)?.and_then(|t| t.to_i64()?.first().copied());
        let (values, table_shape, scaled) = match self.before(op, lut) {
            Some((before, value)) if self.function[before].kind == OpKind::ConstexprBlockwiseShiftScale => {
                let scaled = self.shift_scale(before)?;
                let ty = self.function[value].ty.as_tensor().ok_or(FORM)?;
                let shape = ty.fixed_shape().ok_or(FORM)?;
                let exact = scaled.decode(&shape);
                let values = to_f32(&crate::float_tensor(&exact, &[exact.len()], ty.dtype));
                (values, shape, Some(scaled))
            }
            Some(_) => return Err(FORM.into()),
            None => {
                let lut = self.tensor(op, lut)?;
                (to_f32(&lut), lut.shape().to_vec(), None)
            }
        };
        let rank = self.shape.len();
        if values.is_empty() || table_shape.len() != rank + 2 {
            return Err(FORM.into());
        }
        let vector = table_shape[rank + 1];
        let bits = match table_shape[rank] {
            n @ (2 | 4 | 8 | 16 | 64 | 256) => n.ilog2() as usize,
            _ => return Err(FORM.into()),
        };
        let grouped: Vec<usize> = (0..rank).filter(|&d| table_shape[d] > 1).collect();
        let given = axis.and_then(|a| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok());
        let axis = match (&grouped[..], given) {
            ([], axis) => axis.unwrap_or(0),
            (&[one], axis) if axis.is_none_or(|a| a == one) => one,
            _ => return Err("has tables for several dimensions, which no step can follow".into()),
        };
        let groups = *table_shape.get(axis).ok_or(FORM)?;
        let fits = self.shape[axis].is_multiple_of(groups * vector);
        if !fits {
            return Err(FORM.into());
        }
        Ok((Tables { bits, indices: Vec::new(), vector, axis, groups, values, scaled }, indices))
    }

    /// The mask, and what is under it, with zeros elsewhere.
    fn sparse(&self, op: OpId) -> Result<(Option<Vec<bool>>, Data), String> {
        let data = param!(ConstexprSparseToDense.nonzero_data);
        let Some((before, _)) = self.before(op, data) else {
            let mask = self.mask(op, param!(ConstexprSparseToDense.mask))?;
            let values = to_f32(&self.tensor(op, data)?);
            return Ok((Some(mask.clone()), Data::Dense(spread(&values, &mask)?)));
        };
        match self.function[before].kind {
            OpKind::ConstexprSparseBlockwiseShiftScale => {
                let mask = self.mask(before, param!(ConstexprSparseBlockwiseShiftScale.data_mask))?;
                let data = self.tensor(before, param!(ConstexprSparseBlockwiseShiftScale.nonzero_data))?;
                let scale = self.tensor(before, param!(ConstexprSparseBlockwiseShiftScale.scale))?;
                let zeros = self.optional(before, param!(ConstexprSparseBlockwiseShiftScale.offset))?;
                let all = spread(&numbers(&data), &mask)?;
                Ok((Some(mask), Data::Linear(scaled(data.dtype(), all, &scale, zeros.as_ref())?)))
            }
            OpKind::ConstexprLutToSparse => {
                let mask = self.mask(before, param!(ConstexprLutToSparse.indices_mask))?;
                let (tables, indices) = self.tables(
                    before,
                    param!(ConstexprLutToSparse.indices_nonzero_data),
                    param!(ConstexprLutToSparse.lut),
                    param!(ConstexprLutToSparse.vector_axis),
                )?;
                let indices = spread(&numbers(&indices), &mask)?;
                Ok((Some(mask), Data::Palette(Tables { indices, ..tables })))
            }
            _ => Err(FORM.into()),
        }
    }

    fn mask(&self, op: OpId, name: &str) -> Result<Vec<bool>, String> {
        let mask = self.tensor(op, name)?;
        Ok(mask.to_i64().ok_or(FORM)?.into_iter().map(|m| m != 0).collect())
    }
}

/// Integers with scales that have the dimensions of the data.
fn scaled(dtype: DType, data: Vec<u8>, scale: &Tensor, zeros: Option<&Tensor>) -> Result<Scaled, String> {
    let is_known = matches!(dtype, DType::Int8 | DType::UInt8 | DType::Int4 | DType::UInt4);
    if !is_known || zeros.is_some_and(|z| z.dtype() != dtype) {
        return Err(FORM.into());
    }
    let (counts, scales) = (scale.shape().to_vec(), to_f32(scale));
    Ok(Scaled { dtype, data, counts, scales, zeros: zeros.map(numbers) })
}

/// One byte for each integer, negative ones as two's complement of 8 bits.
fn numbers(tensor: &Tensor) -> Vec<u8> {
    tensor.to_i64().unwrap_or_default().into_iter().map(|x| x as u8).collect()
}

/// Puts values where the mask is set.
fn spread<T: Copy + Default>(values: &[T], mask: &[bool]) -> Result<Vec<T>, String> {
    if mask.iter().filter(|m| **m).count() != values.len() {
        return Err(FORM.into());
    }
    let mut values = values.iter().copied();
    Ok(mask.iter().map(|&m| if m { values.next().unwrap_or_default() } else { T::default() }).collect())
}
