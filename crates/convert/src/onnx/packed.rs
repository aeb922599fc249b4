//! Products and lookups with weights of 2, 4 and 8 bits in blocks, which stay as small as they are.

use bytes::Bytes;
use milwright_mil::{DType, Tensor, ValueId, unpack_bits};

use super::coded::{Coded, Scales};
use super::compose::V;
use super::elem::Elem;
use super::node::Node;
use super::pad::{self, Fill};
use super::stored::Stored;
use super::{cast, gather};
use crate::Error;
use crate::lower::{Result, op};

/// The 16 numbers of the 4-bit float of bitsandbytes.
const FP4: [f32; 16] = [
    0.0,
    5.208_333_4e-3,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -5.208_333_4e-3,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// The 16 numbers of NF4: quantiles of the normal distribution.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A positive attribute that is a size.
fn size(n: &mut Node<'_, '_>, name: &'static str) -> Result<usize> {
    let size = n.int(name)?.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0 && s < 1 << 40);
    size.ok_or_else(|| Error::malformed(format!("its attribute `{name}` is missing or no size")))
}

/// The bytes of a constant of the file.
fn bytes(n: &Node<'_, '_>, i: usize, wanted: usize) -> Result<Bytes> {
    let stored = n.stored(i).ok_or_else(|| {
        Error::unsupported(format!("quantized weights (its input {i}) that only a run knows"))
            .with_hint("make them a constant of the model: `--freeze NAME=FILE` if they are an input of it")
    })?;
    let found = stored.tensor.bytes().len();
    if stored.elem != Elem::Uint8 || found != wanted {
        return Err(Error::malformed(format!(
            "its input {i} has {found} bytes of {}, not {wanted} of uint8",
            stored.elem.name()
        )));
    }
    Ok(Bytes::copy_from_slice(stored.tensor.bytes()))
}

/// The numbers of a constant.
fn numbers(n: &Node<'_, '_>, i: usize, wanted: usize, what: &str) -> Result<Vec<f64>> {
    let found = n.known_numbers(i).ok_or_else(|| {
        Error::unsupported(format!("{what} (its input {i}) that only a run knows"))
            .with_hint("make them a constant of the model: `--freeze NAME=FILE` if they are an input of it")
    })?;
    match found.len() == wanted {
        true => Ok(found),
        false => Err(Error::malformed(format!("{} {what} for {wanted} blocks", found.len()))),
    }
}

/// The type of unsigned codes of so many bits.
fn unsigned(bits: usize) -> Result<(Elem, DType)> {
    match bits {
        2 => Ok((Elem::Uint2, DType::UInt2)),
        4 => Ok((Elem::Uint4, DType::UInt4)),
        8 => Ok((Elem::Uint8, DType::UInt8)),
        _ => Err(Error::unsupported(format!("weights of {bits} bits"))
            .with_hint("Core ML has weights of 1, 2, 3, 4, 6 and 8 bits: quantize to 2, 4 or 8")),
    }
}

/// Zero points that are packed in bytes, row by row, or floats.
fn zeros(n: &Node<'_, '_>, i: usize, rows: usize, columns: usize, bits: usize) -> Result<Vec<f64>> {
    if !n.has(i) {
        return Ok(vec![f64::from(1u32 << (bits - 1)); rows * columns]);
    }
    if n.elem(i)?.is_float() {
        return numbers(n, i, rows * columns, "zero points");
    }
    let stride = (columns * bits).div_ceil(8);
    let packed = bytes(n, i, rows * stride)?;
    let row = |r: usize| unpack_bits(&packed[r * stride..][..stride], bits, columns);
    Ok((0..rows).flat_map(row).map(f64::from).collect())
}

/// A product with a weight of N × K codes, K in blocks.
pub(super) fn matmul_n_bits(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (rows, terms, block) = (size(n, "N")?, size(n, "K")?, size(n, "block_size")?);
    let bits = usize::try_from(n.int_or("bits", 4)?).unwrap_or(0);
    // How precisely the product has to be computed at least: ours is precise.
    n.ignore("accuracy_level");
    if n.int_or("weight_prepacked", 0)? != 0 {
        return Err(Error::unsupported("weights that are packed for one kind of GPU")
            .with_hint("quantize the model without `weight_prepacked`"));
    }
    let (elem, dtype) = unsigned(bits)?;
    let blocks = terms.div_ceil(block);
    let wide = blocks * block;
    let data = bytes(n, 1, rows * wide * bits / 8)?;
    let x = n.need(0)?;
    let scale = numbers(n, 2, rows * blocks, "scales")?;
    let zero = zeros(n, 3, rows, blocks, bits)?;
    if n.has(4) {
        let groups = n.ints_of(4, "the groups of rows")?;
        if groups.iter().enumerate().any(|(k, &group)| usize::try_from(group).ok() != Some(k / block)) {
            return Err(Error::unsupported("weights whose blocks are not of neighbors (`g_idx`)")
                .with_hint("quantize the model without reordering (`act_order`)"));
        }
    }
    let real = n.dtype(x.id)?;
    let data = Tensor::from_bytes(dtype, &[rows, wide], data).map_err(|e| Error::malformed(e.to_string()))?;
    let scales = Scales { shape: vec![rows, blocks], scale, zero, axis: 1, block, dtype: real };
    let weight = Coded::new(&Stored::new(elem, data), scales)?;
    let weight = weight.ok_or_else(|| Error::malformed("weights without elements"))?;
    let weight = weight.value(n)?;
    let bias = if n.has(5) { Some(n.value(5)?) } else { None };
    let y = linear(n, x.id, terms, wide, weight, bias)?;
    cast::finish(n, y, x.elem)
}

/// The weights of experts, outputs × inputs of each. `at` says which inputs have the codes, scales and zero points; in
/// blocks of inputs, or with one scale for each output if `block` is 0.
pub(super) fn experts(
    n: &mut Node<'_, '_>,
    at: [usize; 3],
    bits: usize,
    block: usize,
) -> Result<Vec<ValueId>> {
    let (elem, dtype) = unsigned(bits)?;
    let shape = n.stored(at[0]).map(|stored| stored.tensor.shape().to_vec()).unwrap_or_default();
    let &[count, rows, packed] = &shape[..] else {
        return Err(Error::unsupported("experts whose weights only a run knows, or of another form")
            .with_hint("their weights are constants of experts × outputs × bytes"));
    };
    let terms = packed * 8 / bits;
    let block = if block == 0 { terms } else { block };
    if block == 0 || !terms.is_multiple_of(block) {
        return Err(Error::malformed(format!("{terms} inputs in blocks of {block}")));
    }
    let blocks = terms / block;
    let codes = bytes(n, at[0], count * rows * packed)?;
    let scale = numbers(n, at[1], count * rows * blocks, "scales")?;
    let zero = match blocks {
        1 if n.has(at[2]) => zeros(n, at[2], count, rows, bits)?,
        _ => zeros(n, at[2], count * rows, blocks, bits)?,
    };
    let x = n.need(0)?.id;
    let real = n.dtype(x)?;
    let mut weights = Vec::with_capacity(count);
    for e in 0..count {
        let data = codes.slice(e * rows * packed..(e + 1) * rows * packed);
        let data =
            Tensor::from_bytes(dtype, &[rows, terms], data).map_err(|e| Error::malformed(e.to_string()))?;
        let own = e * rows * blocks..(e + 1) * rows * blocks;
        let (scale, zero) = (scale[own.clone()].to_vec(), zero[own].to_vec());
        let scales = Scales { shape: vec![rows, blocks], scale, zero, axis: 1, block, dtype: real };
        let weight = Coded::new(&Stored::new(elem, data), scales)?;
        let weight = weight.ok_or_else(|| Error::malformed("weights without elements"))?;
        weights.push(weight.value(n)?);
    }
    Ok(weights)
}

/// The product with a weight whose rows have more elements than `x` has columns; the others do not count.
fn linear(
    n: &mut Node<'_, '_>,
    x: ValueId,
    terms: usize,
    wide: usize,
    weight: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let mut x = if rank == 1 { n.expand_dims(x, &[0])? } else { x };
    if wide > terms {
        let last = n.rank(x)? - 1;
        x = pad::constant_block(n, x, last, 0, (wide - terms) as i64, Fill::Number(0.0))?;
    }
    let mut y = op!(n, Linear, x = x, weight = weight)?;
    if let Some(bias) = bias {
        y = n.add(y, bias)?;
    }
    if rank == 1 { n.squeeze(y, &[0]) } else { Ok(y) }
}

/// A product with a weight of 4-bit floats, flattened and cut into blocks.
pub(super) fn matmul_bnb4(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (rows, terms, block) = (size(n, "N")?, size(n, "K")?, size(n, "block_size")?);
    let table = match n.int_or("quant_type", 1)? {
        0 => FP4,
        1 => NF4,
        other => return Err(Error::malformed(format!("the quantization type {other}"))),
    };
    n.ignore("training_mode");
    if !n.flag("transB", true)? {
        return Err(Error::unsupported("a weight that is not transposed")
            .with_hint("quantize the model again with the tools of ONNX Runtime"));
    }
    let count = rows * terms;
    let packed = bytes(n, 1, count.div_ceil(2))?;
    let scale = numbers(n, 2, count.div_ceil(block), "scales")?;
    let x = n.need(0)?;
    let real = n.dtype(x.id)?;
    // The first of two codes is in the high bits.
    let packed: Vec<u8> = packed.iter().map(|b| b.rotate_left(4)).collect();
    let coded = |shape: &[usize], sizes: Vec<usize>, axis: i64, block: usize| {
        let data = Tensor::from_bytes(DType::UInt4, shape, packed.clone().into());
        let data = data.map_err(|e| Error::malformed(e.to_string()))?;
        let scales =
            Scales { shape: sizes, scale: scale.clone(), zero: Vec::new(), axis, block, dtype: real };
        let coded = Coded::new(&Stored::new(Elem::Uint4, data), scales)?;
        coded.map(|c| c.with_table(&table)).ok_or_else(|| Error::malformed("weights without elements"))
    };
    let weight = if terms % block == 0 {
        coded(&[rows, terms], vec![rows, terms / block], 1, block)?.value(n)?
    } else {
        // Blocks that go on in the next row.
        let dense = coded(&[count], vec![scale.len()], 0, block)?.dense()?;
        let dense = dense.reshaped(&[rows, terms]).map_err(|e| Error::malformed(e.to_string()))?;
        n.constant(dense)
    };
    let y = linear(n, x.id, terms, terms, weight, None)?;
    cast::finish(n, y, x.elem)
}

/// Rows of a table of codes. An index outside of the table gives zeros.
pub(super) fn gather_blocks(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let bits = usize::try_from(n.int_or("bits", 4)?).unwrap_or(0);
    let block = usize::try_from(n.int_or("block_size", 128)?).unwrap_or(0);
    let (axis, along) = (n.int_or("quantize_axis", 1)?, n.int_or("gather_axis", 0)?);
    let missing = || {
        Error::unsupported("a quantized table that only a run knows")
            .with_hint("make it a constant of the model: `--freeze NAME=FILE` if it is an input of it")
    };
    let mut stored = n.stored(0).ok_or_else(missing)?.clone();
    let scales = n.known(2).ok_or_else(missing)?;
    let rank = stored.tensor.shape().len();
    let axis = crate::lower::normalize(axis, rank)?;
    let blocks: usize = scales.elements();
    let mut zero = None;
    if stored.elem == Elem::Uint8 {
        // Several codes in a byte.
        let (elem, dtype) = unsigned(bits)?;
        let mut shape = stored.tensor.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = last.checked_mul(8 / bits).ok_or_else(|| Error::malformed("a table is too large"))?;
        }
        let data = Tensor::from_bytes(dtype, &shape, Bytes::copy_from_slice(stored.tensor.bytes()));
        stored = Stored::new(elem, data.map_err(|e| Error::malformed(e.to_string()))?);
        let columns = scales.shape().last().copied().unwrap_or(1);
        zero = Some(zeros(n, 3, blocks / columns.max(1), columns, bits)?);
    } else if n.has(3) {
        zero = Some(n.known_numbers(3).ok_or_else(missing)?);
    }
    let (shape, dtype) = (scales.shape().to_vec(), scales.dtype());
    let elem = n.elem(2)?;
    let zero = zero.unwrap_or_default();
    let scales = Scales { shape, scale: scales.to_f64(), zero, axis: axis as i64, block, dtype };
    let wrong = || Error::malformed("the scales do not fit the table");
    let table = Coded::new(&stored, scales)?.ok_or_else(wrong)?.value(n)?;
    let along = n.axis(table, along)?;
    let indices = n.value(1)?;
    let indices = gather::from_front(n, indices, table, along)?;
    let count = n.size(table, along)?;
    let known = n.known_integers(indices);
    if known.is_some_and(|known| known.iter().all(|&i| (0..count as i64).contains(&i))) {
        let y = n.gather(table, indices, along)?;
        return cast::finish(n, y, elem);
    }
    let (low, high) = (n.greater_equal(indices, 0.0)?, n.less(indices, count as f64)?);
    let inside = n.and(low, high)?;
    let indices = n.select(inside, indices, 0.0)?;
    let y = n.gather(table, indices, along)?;
    let behind: Vec<i32> =
        (0..(rank - 1 - along) as i32).map(|d| n.rank(inside).map_or(0, |r| r as i32) + d).collect();
    let inside = n.expand_dims(inside, &behind)?;
    let y = n.select(inside, y, 0.0)?;
    cast::finish(n, y, elem)
}
