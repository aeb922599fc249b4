//! A compressed weight as numbers: what the schemes make, and what `constexpr_*` ops express.

use milwright_mil::{DType, OpKind, Opset, Tensor, Type, pack_bits, param};

use crate::blocks::for_each_run;
use crate::float_tensor;
use crate::loss::Loss;

/// A weight that a scheme gets: all elements are finite.
#[derive(Clone, Copy, Debug)]
pub struct FloatWeight<'a> {
    /// The elements, in row-major order.
    pub values: &'a [f32],
    /// The shape.
    pub shape: &'a [usize],
    /// The element type of the program, fp16 or fp32. Scales and palettes are stored in it.
    pub dtype: DType,
    /// The dimension of the output channels, if every op that uses the weight agrees on it.
    pub output_axis: Option<usize>,
    /// The dimension of the input channels, likewise.
    pub input_axis: Option<usize>,
    /// The least and the greatest number of channels that each group of a grouped convolution leaves in the dimension
    /// of the output channels; vectors must divide it.
    pub vector_limit: Option<usize>,
    /// Whether blocks and n:m patterns of zeros suit the ops that use it: the weights of `conv` and `linear`.
    pub prunes_in_patterns: bool,
}

/// A compressed weight.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    pub shape: Vec<usize>,
    /// fp16 or fp32.
    pub dtype: DType,
    /// The elements that are not zero; for a palette of vectors one for each vector. `None`: all.
    pub mask: Option<Vec<bool>>,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Dense(Vec<f32>),
    Linear(Scaled),
    Palette(Tables),
}

/// Integers with scales for blocks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaled {
    /// int8, uint8, int4 or uint4.
    pub dtype: DType,
    /// One element in each byte; signed ones as two's complement of 8 bits.
    pub data: Vec<u8>,
    /// The number of blocks in each dimension of the data.
    pub counts: Vec<usize>,
    /// One for each block, representable in the weight's element type.
    pub scales: Vec<f32>,
    /// One for each block, like the data.
    pub zeros: Option<Vec<u8>>,
}

/// Indices into tables.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub bits: usize,
    /// In the shape of the weight, but divided by `vector` along `axis`.
    pub indices: Vec<u8>,
    /// The elements of an entry, which lie along `axis`.
    pub vector: usize,
    pub axis: usize,
    /// The number of tables, each for a range along `axis`.
    pub groups: usize,
    /// `groups` times 2^`bits` times `vector` values.
    pub values: Vec<f32>,
    /// The same values as integers.
    pub scaled: Option<Scaled>,
}

impl Scaled {
    pub fn is_signed(&self) -> bool {
        matches!(self.dtype, DType::Int8 | DType::Int4)
    }

    /// The values, not rounded to the weight's element type.
    pub fn decode(&self, shape: &[usize]) -> Vec<f32> {
        let mut out = vec![0.0; self.data.len()];
        let signed = self.is_signed();
        let number = move |q: u8| if signed { f32::from(q as i8) } else { f32::from(q) };
        for_each_run(shape, &self.counts, |range, block, step| {
            let (out, data) = (&mut out[range.clone()], &self.data[range]);
            if step == 0 {
                let zero = self.zeros.as_ref().map_or(0.0, |z| number(z[block]));
                let scale = self.scales[block];
                out.iter_mut().zip(data).for_each(|(o, &q)| *o = (number(q) - zero) * scale);
            } else {
                for (i, (o, &q)) in out.iter_mut().zip(data).enumerate() {
                    let block = block + i * step;
                    let zero = self.zeros.as_ref().map_or(0.0, |z| number(z[block]));
                    *o = (number(q) - zero) * self.scales[block];
                }
            }
        });
        out
    }

    fn tensor(&self, shape: &[usize], data: &[u8]) -> Tensor {
        let bits = self.dtype.bits();
        let bytes = if bits == 8 { data.to_vec() } else { pack_bits(data, bits) };
        Tensor::from_bytes(self.dtype, shape, bytes.into()).expect("one for each element")
    }
}

impl Tables {
    /// The shape of the indices.
    pub fn index_shape(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        shape[self.axis] /= self.vector;
        shape
    }

    /// The shape of the tables in the form of iOS18.
    pub fn table_shape(&self, rank: usize) -> Vec<usize> {
        let mut shape = vec![1; rank];
        shape[self.axis] = self.groups;
        shape.extend([1 << self.bits, self.vector]);
        shape
    }

    pub fn decode(&self, shape: &[usize]) -> Vec<f32> {
        let inner: usize = shape[self.axis + 1..].iter().product();
        let places = shape[self.axis] / self.vector;
        let per_group = places / self.groups;
        let entry = self.vector;
        let table = entry << self.bits;
        let mut out = vec![0.0; self.indices.len() * self.vector];
        if inner == 0 || places == 0 {
            return out;
        }
        let rows = self.indices.chunks_exact(inner).zip(out.chunks_exact_mut(inner * entry));
        for (row, (indices, out)) in rows.enumerate() {
            let values = &self.values[row % places / per_group * table..][..table];
            for v in 0..entry {
                let out = &mut out[v * inner..(v + 1) * inner];
                out.iter_mut().zip(indices).for_each(|(o, &i)| *o = values[usize::from(i) * entry + v]);
            }
        }
        out
    }
}

impl Coded {
    /// The values as they come back, not yet rounded to the element type.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = match &self.data {
            Data::Dense(values) => values.clone(),
            Data::Linear(scaled) => scaled.decode(&self.shape),
            Data::Palette(tables) => tables.decode(&self.shape),
        };
        if let Some(mask) = self.element_mask() {
            values.iter_mut().zip(&mask).filter(|(_, m)| !**m).for_each(|(v, _)| *v = 0.0);
        }
        values
    }

    /// The mask with one entry for each element.
    fn element_mask(&self) -> Option<Vec<bool>> {
        let mask = self.mask.as_ref()?;
        let Data::Palette(Tables { vector, axis, .. }) = self.data else { return Some(mask.clone()) };
        let inner: usize = self.shape[axis + 1..].iter().product();
        Some(mask.chunks(inner.max(1)).flat_map(|m| m.repeat(vector)).collect())
    }

    pub fn loss(&self, before: &[f32]) -> Loss {
        Loss::of_slices(before, &self.decode(), self.dtype)
    }

    /// Writes the weight as ops. The last one's only or last output is the weight.
    pub fn ops(self, opset: Opset) -> Vec<ConstexprOp> {
        if opset >= Opset::Ios18 { self.new_ops() } else { self.old_ops() }
    }

    fn new_ops(self) -> Vec<ConstexprOp> {
        let (shape, dtype) = (self.shape, self.dtype);
        let rank = shape.len();
        let mut ops = Vec::new();
        let mask = self.mask;
        let data = match self.data {
            Data::Dense(values) => {
                let mask = mask.unwrap_or_else(|| vec![true; values.len()]);
                let kept = select(&values, &mask);
                ops.push(sparse(
                    Source::Tensor(float_tensor(&kept, &[kept.len()], dtype)),
                    Source::Tensor(mask_tensor(&mask, &shape)),
                    &shape,
                    dtype,
                ));
                return ops;
            }
            Data::Linear(scaled) => {
                let scales = float_tensor(&scaled.scales, &scaled.counts, dtype);
                let zeros = scaled.zeros.as_ref().map(|z| scaled.tensor(&scaled.counts, z));
                let Some(mask) = mask else {
                    ops.push(ConstexprOp::shift_scale(
                        scaled.tensor(&shape, &scaled.data),
                        scales,
                        zeros,
                        &shape,
                        dtype,
                    ));
                    return ops;
                };
                let kept = select(&scaled.data, &mask);
                let mut op = ConstexprOp::new(OpKind::ConstexprSparseBlockwiseShiftScale);
                op.tensor(param!(ConstexprSparseBlockwiseShiftScale.data_mask), mask_tensor(&mask, &shape));
                op.tensor(
                    param!(ConstexprSparseBlockwiseShiftScale.nonzero_data),
                    scaled.tensor(&[kept.len()], &kept),
                );
                op.tensor(param!(ConstexprSparseBlockwiseShiftScale.scale), scales);
                if let Some(zeros) = zeros {
                    op.tensor(param!(ConstexprSparseBlockwiseShiftScale.offset), zeros);
                }
                op.outputs = vec![
                    ("mask", Type::tensor(DType::UInt1, &shape)),
                    ("values", Type::tensor(dtype, &[kept.len()])),
                ];
                ops.push(op);
                ops.push(sparse(Source::Output(0, 1), Source::Output(0, 0), &shape, dtype));
                return ops;
            }
            Data::Palette(tables) => tables,
        };
        let table_shape = data.table_shape(rank);
        let lut = match &data.scaled {
            None => Source::Tensor(float_tensor(&data.values, &table_shape, dtype)),
            Some(scaled) => {
                let scales = float_tensor(&scaled.scales, &scaled.counts, dtype);
                let zeros = scaled.zeros.as_ref().map(|z| scaled.tensor(&scaled.counts, z));
                let numbers = scaled.tensor(&table_shape, &scaled.data);
                ops.push(ConstexprOp {
                    outputs: vec![("palette", Type::tensor(dtype, &table_shape))],
                    ..ConstexprOp::shift_scale(numbers, scales, zeros, &table_shape, dtype)
                });
                Source::Output(0, 0)
            }
        };
        let index_dtype = match data.bits {
            1 => DType::UInt1,
            2 => DType::UInt2,
            3 => DType::UInt3,
            4 => DType::UInt4,
            6 => DType::UInt6,
            _ => DType::UInt8,
        };
        let index_shape = data.index_shape(&shape);
        let packed = |indices: &[u8], shape: &[usize]| {
            Tensor::from_bytes(index_dtype, shape, pack_bits(indices, data.bits).into())
                .expect("one index for each element")
        };
        let axis = (data.vector > 1).then(|| Tensor::scalar(data.axis as i32));
        let Some(mask) = mask else {
            let mut op = ConstexprOp::new(OpKind::ConstexprLutToDense);
            op.tensor(param!(ConstexprLutToDense.indices), packed(&data.indices, &index_shape));
            op.inputs.push((param!(ConstexprLutToDense.lut), lut));
            if let Some(axis) = axis {
                op.tensor(param!(ConstexprLutToDense.vector_axis), axis);
            }
            op.outputs = vec![("", Type::tensor(dtype, &shape))];
            ops.push(op);
            return ops;
        };
        let kept = select(&data.indices, &mask);
        let mut op = ConstexprOp::new(OpKind::ConstexprLutToSparse);
        op.tensor(param!(ConstexprLutToSparse.indices_mask), mask_tensor(&mask, &index_shape));
        op.tensor(param!(ConstexprLutToSparse.indices_nonzero_data), packed(&kept, &[kept.len()]));
        op.inputs.push((param!(ConstexprLutToSparse.lut), lut));
        if let Some(axis) = axis {
            op.tensor(param!(ConstexprLutToSparse.vector_axis), axis);
        }
        op.outputs = vec![
            ("mask", Type::tensor(DType::UInt1, &shape)),
            ("values", Type::tensor(dtype, &[kept.len() * data.vector])),
        ];
        let at = ops.len();
        ops.push(op);
        ops.push(sparse(Source::Output(at, 1), Source::Output(at, 0), &shape, dtype));
        ops
    }

    /// As ops of iOS16 and iOS17, which have one scale for each channel or one for all, one table, or a mask.
    fn old_ops(self) -> Vec<ConstexprOp> {
        let (shape, dtype) = (self.shape, self.dtype);
        let mut op;
        match self.data {
            Data::Dense(values) => {
                let mask = self.mask.unwrap_or_else(|| vec![true; values.len()]);
                let kept = select(&values, &mask);
                let bits: Vec<u8> = mask.iter().map(|&m| u8::from(m)).collect();
                op = ConstexprOp::new(OpKind::ConstexprSparseToDense);
                op.tensor(
                    param!(ConstexprSparseToDense.nonzero_data),
                    float_tensor(&kept, &[kept.len()], dtype),
                );
                op.tensor(param!(ConstexprSparseToDense.mask), bytes_tensor(pack_bits(&bits, 1)));
                op.tensor(param!(ConstexprSparseToDense.shape), shape_tensor(&shape));
            }
            Data::Linear(scaled) => {
                let axis = scaled.counts.iter().position(|&n| n > 1);
                let of: Vec<usize> = axis.map(|a| scaled.counts[a]).into_iter().collect();
                let zeros = scaled.zeros.clone().unwrap_or_else(|| vec![0; scaled.scales.len()]);
                op = ConstexprOp::new(OpKind::ConstexprAffineDequantize);
                op.tensor(
                    param!(ConstexprAffineDequantize.quantized_data),
                    scaled.tensor(&shape, &scaled.data),
                );
                op.tensor(param!(ConstexprAffineDequantize.zero_point), scaled.tensor(&of, &zeros));
                op.tensor(param!(ConstexprAffineDequantize.scale), float_tensor(&scaled.scales, &of, dtype));
                op.tensor(param!(ConstexprAffineDequantize.axis), Tensor::scalar(axis.unwrap_or(0) as i32));
            }
            Data::Palette(tables) => {
                let packed = pack_bits(&tables.indices, tables.bits);
                op = ConstexprOp::new(OpKind::ConstexprLutToDense);
                op.tensor(param!(ConstexprLutToDense.indices), bytes_tensor(packed));
                let lut = float_tensor(&tables.values, &[tables.values.len()], dtype);
                op.tensor(param!(ConstexprLutToDense.lut), lut);
                op.tensor(param!(ConstexprLutToDense.shape), shape_tensor(&shape));
            }
        }
        op.outputs = vec![("", Type::tensor(dtype, &shape))];
        vec![op]
    }
}

/// A `constexpr_*` op, not yet in a function.
#[derive(Clone, Debug)]
pub(crate) struct ConstexprOp {
    pub kind: OpKind,
    pub inputs: Vec<(&'static str, Source)>,
    /// What is added to the weight's name, and the type. That of the last op is the weight itself.
    pub outputs: Vec<(&'static str, Type)>,
}

/// Where an input comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Tensor(Tensor),
    /// Output `.1` of op number `.0`.
    Output(usize, usize),
}

impl ConstexprOp {
    fn new(kind: OpKind) -> ConstexprOp {
        ConstexprOp { kind, inputs: Vec::new(), outputs: Vec::new() }
    }

    fn tensor(&mut self, name: &'static str, tensor: Tensor) {
        self.inputs.push((name, Source::Tensor(tensor)));
    }

    fn shift_scale(
        data: Tensor,
        scales: Tensor,
        zeros: Option<Tensor>,
        shape: &[usize],
        dtype: DType,
    ) -> ConstexprOp {
        let mut op = ConstexprOp::new(OpKind::ConstexprBlockwiseShiftScale);
        op.tensor(param!(ConstexprBlockwiseShiftScale.data), data);
        op.tensor(param!(ConstexprBlockwiseShiftScale.scale), scales);
        if let Some(zeros) = zeros {
            op.tensor(param!(ConstexprBlockwiseShiftScale.offset), zeros);
        }
        op.outputs = vec![("", Type::tensor(dtype, shape))];
        op
    }
}

fn sparse(values: Source, mask: Source, shape: &[usize], dtype: DType) -> ConstexprOp {
    let mut op = ConstexprOp::new(OpKind::ConstexprSparseToDense);
    op.inputs.push((param!(ConstexprSparseToDense.nonzero_data), values));
    op.inputs.push((param!(ConstexprSparseToDense.mask), mask));
    op.outputs = vec![("", Type::tensor(dtype, shape))];
    op
}

fn select<T: Copy>(values: &[T], mask: &[bool]) -> Vec<T> {
    values.iter().zip(mask).filter(|(_, m)| **m).map(|(v, _)| *v).collect()
}

fn mask_tensor(mask: &[bool], shape: &[usize]) -> Tensor {
    let bits: Vec<u8> = mask.iter().map(|&m| u8::from(m)).collect();
    Tensor::from_bytes(DType::UInt1, shape, pack_bits(&bits, 1).into()).expect("one bit for each element")
}

fn bytes_tensor(bytes: Vec<u8>) -> Tensor {
    Tensor::from_vec(&[bytes.len()], bytes).expect("a vector's shape is its length")
}

fn shape_tensor(shape: &[usize]) -> Tensor {
    // Each dimension fits `u32`, because the tensor is in memory.
    let dims: Vec<u32> = shape.iter().map(|&n| n as u32).collect();
    Tensor::from_vec(&[dims.len()], dims).expect("a vector's shape is its length")
}
