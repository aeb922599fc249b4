//! `constexpr_lut_to_dense`

use crate::op;
use crate::ops::{Axis, InferError, Inferred, dim};
use crate::{Dim, Opset, TensorType};

op! {
    /// Palettized weights: indices into a lookup table.
    ///
    /// Until iOS17, `lut` is a vector of 2, 4, 16, 64 or 256 elements, `indices` are packed in bytes, least
    /// significant bit first, and `shape` is the shape of the result.
    ///
    /// From iOS18 on, `indices` have a type of as many bits as a table needs, and `lut` has the rank of `indices`
    /// plus two. Its first sizes divide those of `indices`: each of its tables serves a block. Then follow the entries
    /// of a table, and the elements of an entry; where these are more than one, an index makes that many elements
    /// along `vector_axis`.
    ConstexprLutToDense since Ios16, Ios18 {
        indices: Const<[UInt8] until Ios18, IndicesT>,
        lut: Const<T>,
        vector_axis: Option<Axis> since Ios18,
        shape: Within<Ints<[UInt32]>> until Ios18,
    }
    where IndicesT: since Ios18 [UInt1, UInt2, UInt3, UInt4, UInt6, UInt8], T: [Fp16, Fp32, Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (indices, lut) = (p.indices, p.lut);
    if p.opset() >= Opset::Ios18 {
        let shape = expanded(p.vector_axis, indices.dtype.bits(), &indices.shape, &lut)?;
        return Ok(vec![TensorType::new(lut.dtype, shape).into()]);
    }
    require!(indices.rank() == 1 && lut.rank() == 1, "inputs `indices` and `lut` must be vectors");
    let bits = match lut.shape[0] {
        Dim::Fixed(n @ (2 | 4 | 16 | 64 | 256)) => n.trailing_zeros() as usize,
        d => return Err(InferError(format!("`lut` must have 2, 4, 16, 64 or 256 elements, not {d}"))),
    };
    let ty = TensorType::new(lut.dtype, packed_shape(p.shape.as_deref())?);
    let bytes = ty.elements().and_then(|n| n.checked_mul(bits)).map(|n| n.div_ceil(8));
    let bytes = bytes.ok_or_else(|| InferError("the shape has too many elements".into()))?;
    let given = indices.shape[0];
    require!(
        given.agrees(bytes.into()),
        "input `indices` has {given} bytes; {ty} needs {bytes} at {bits} bits"
    );
    Ok(vec![ty.into()])
}

/// Returns the parameter `shape` of an op with packed data.
pub(super) fn packed_shape(shape: Option<&[i64]>) -> Result<Vec<Dim>, InferError> {
    let shape = shape.ok_or_else(|| InferError("input `shape` is missing".into()))?;
    Ok(shape.iter().map(|&n| dim(Some(n))).collect())
}

/// Returns the shape after indices of `bits` bits and of the shape `indices` are looked up.
pub(super) fn expanded(
    vector_axis: Option<Axis>,
    bits: usize,
    indices: &[Dim],
    lut: &TensorType,
) -> Result<Vec<Dim>, InferError> {
    let rank = indices.len();
    require!(rank >= 1, "the indices are a scalar; they must have at least rank 1");
    require!(
        lut.rank() == rank + 2,
        "input `lut` has rank {}; for indices of rank {rank} it needs {}",
        lut.rank(),
        rank + 2
    );
    for (d, (n, tables)) in indices.iter().zip(&lut.shape).enumerate() {
        if let (Some(n), Some(tables)) = (n.fixed(), tables.fixed()) {
            let fits = n.checked_rem(tables) == Some(0);
            require!(
                fits,
                "input `lut` is {tables} in dimension {d}, which does not divide the indices' {n}"
            );
        }
    }
    let (entries, vector) = (lut.shape[rank], lut.shape[rank + 1]);
    require!(
        entries.agrees(Dim::Fixed(1 << bits)),
        "a table has {entries} entries; indices of {bits} bits need {}",
        1 << bits
    );
    let mut shape = indices.to_vec();
    if vector != Dim::Fixed(1) {
        require!(vector_axis.is_some(), "entries of {vector} elements need a `vector_axis`");
        require!(vector != Dim::Fixed(0), "an entry of `lut` has no elements");
    }
    if let Some(axis) = vector_axis {
        let axis = axis.resolve(rank)?;
        shape[axis] = shape[axis].zip_with(vector, usize::checked_mul);
    }
    Ok(shape)
}
