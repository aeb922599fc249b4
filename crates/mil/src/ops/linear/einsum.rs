//! `einsum`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Einstein summation over two tensors: `equation` names the dimensions of both and of the result, such as
    /// `bnqd,bnkd->bnqk`; names that the result lacks are summed over. A dimension of 1 stands for any size.
    Einsum since Ios13 {
        values: ManyAny,
        equation: Str,
    }
    => infer
}

/// Parses an equation into the names of dimensions: of the first operand, of the second, and of the result.
///
/// # Errors
/// The equation is not of the form `ab,bc->ac`, with one ASCII letter for each dimension.
pub fn parse(equation: &str) -> Result<[Vec<u8>; 3], InferError> {
    let wrong = || InferError(format!("input `equation` is `{equation}`; it must have the form `ab,bc->ac`"));
    let compact: String = equation.chars().filter(|c| *c != ' ').collect();
    let (operands, result) = compact.split_once("->").ok_or_else(wrong)?;
    let (a, b) = operands.split_once(',').ok_or_else(wrong)?;
    let parts = [a, b, result].map(|s| s.as_bytes().to_vec());
    let repeats = |s: &[u8]| (1..s.len()).any(|i| s[..i].contains(&s[i]));
    let letters = parts.iter().all(|s| s.iter().all(u8::is_ascii_alphabetic) && !repeats(s));
    let known = parts[2].iter().all(|c| parts[0].contains(c) || parts[1].contains(c));
    if letters && known { Ok(parts) } else { Err(wrong()) }
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let values = p.values.iter().map(|v| v.tensor()).collect::<Result<Vec<_>, _>>()?;
    let [a, b] = values[..] else {
        return Err(InferError(format!("input `values` has {} tensors; two are taken", values.len())));
    };
    let names = parse(p.equation)?;
    if a.dtype != b.dtype || a.rank() != names[0].len() || b.rank() != names[1].len() {
        return Err(InferError(format!("the equation does not fit a {a} and a {b}")));
    }
    let size = |name: &u8| {
        let find = |t: &TensorType, names: &[u8]| names.iter().position(|n| n == name).map(|d| t.shape[d]);
        match (find(a, &names[0]), find(b, &names[1])) {
            (Some(Dim::Fixed(1)), Some(d)) | (Some(d), Some(Dim::Fixed(1))) => Ok(d),
            (Some(d), Some(e)) if d.agrees(e) => Ok(if d == Dim::Unknown { e } else { d }),
            (Some(d), None) | (None, Some(d)) => Ok(d),
            _ => {
                Err(InferError(format!("dimension `{}` differs between a {a} and a {b}", char::from(*name))))
            }
        }
    };
    // The sizes of summed dimensions must agree, too.
    names[..2].iter().flatten().try_for_each(|n| size(n).map(drop))?;
    let shape = names[2].iter().map(size).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![TensorType::new(a.dtype, shape).into()])
}
