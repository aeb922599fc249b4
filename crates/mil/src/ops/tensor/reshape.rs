//! `reshape`

use crate::op;
use crate::ops::{InferError, Inferred, Known, list};
use crate::{Dim, Opset, TensorType, Type};

op! {
    /// The elements of `x` in another shape.
    ///
    /// One element of `shape` may be -1: that dimension takes what is left. A 0 copies a dimension of `x`: the one at
    /// the same place until iOS16, where both must have the same rank; the one at the same place from the end from
    /// iOS17 on, or 1 if `x` has none there.
    Reshape since Ios13, Ios17 {
        x: Operand<T>,
        shape: Operand<[Int32] until Ios17, U>,
    }
    where
        T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16],
        U: since Ios17 [Int8, Int16, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let shape = match (p.shape.partial(), p.view.outputs.first()) {
        (Some(wanted), _) => reshaped(&x.shape, &wanted, p.opset() >= Opset::Ios17)?,
        // If not even the rank is known, only the declared shape can be used.
        (None, Some(Type::Tensor(declared))) => declared.shape.clone(),
        _ => return Err(InferError("the length of input `shape` is not known".into())),
    };
    let known = if shape.len() <= 1 { p.x.partial().map(Known::Partial) } else { None };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}

/// Returns the shape of `x` after a reshape to `wanted`. With `aligned`, zeros copy dimensions counted from the end, as
/// from iOS17 on.
///
/// # Errors
/// `wanted` is not a valid shape, or has another number of elements.
pub fn reshaped(x: &[Dim], wanted: &[Option<i64>], aligned: bool) -> Result<Vec<Dim>, InferError> {
    require!(
        wanted.iter().flatten().all(|&n| n >= -1),
        "input `shape` has an element below -1: {}",
        list(wanted)
    );
    let free = wanted.iter().filter(|&&n| n == Some(-1)).count();
    require!(free <= 1, "input `shape` has {free} elements that are -1; it can have one");
    require!(
        aligned || x.len() == wanted.len() || !wanted.contains(&Some(0)),
        "input `shape` has a 0 and {} elements; until iOS16 it then needs as many as `x` has dimensions, {}",
        wanted.len(),
        x.len()
    );
    // The dimensions of `x` that are not copied, and the product of those of the result that are not: both must have
    // the same product.
    let mut rest = x.to_vec();
    let mut made = Dim::Fixed(1);
    let mut open = Vec::new();
    let mut shape = vec![Dim::Fixed(1); wanted.len()];
    for (i, &n) in wanted.iter().enumerate() {
        match n {
            Some(0) => {
                let place = if aligned { (x.len() + i).checked_sub(wanted.len()) } else { Some(i) };
                if let Some(j) = place {
                    shape[i] = x[j];
                    rest[j] = Dim::Fixed(1);
                }
            }
            Some(-1) | None => {
                shape[i] = Dim::Unknown;
                open.push(i);
            }
            Some(n) => {
                shape[i] = Dim::Fixed(n as usize);
                made = made.zip_with(shape[i], usize::checked_mul);
            }
        }
    }
    let rest = rest.iter().fold(Dim::Fixed(1), |n, &d| n.zip_with(d, usize::checked_mul));
    let (Dim::Fixed(rest), Dim::Fixed(made)) = (rest, made) else { return Ok(shape) };
    match *open {
        [] => {
            require!(rest == made, "{rest} elements of `x` cannot fill {made} of the shape {}", list(wanted))
        }
        [i] if made > 0 => {
            require!(
                rest % made == 0,
                "{rest} elements of `x` do not fill the shape {} evenly",
                list(wanted)
            );
            shape[i] = Dim::Fixed(rest / made);
        }
        _ => {}
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(x: &[i64], wanted: &[i64], aligned: bool) -> Result<String, String> {
        let dim = |&n: &i64| usize::try_from(n).map_or(Dim::Unknown, Dim::Fixed);
        let x: Vec<Dim> = x.iter().map(dim).collect();
        let wanted: Vec<_> = wanted.iter().map(|&n| (n < 99).then_some(n)).collect();
        let shape = reshaped(&x, &wanted, aligned).map_err(|e| e.0)?;
        Ok(shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn zeros_and_free_dimensions() {
        assert!(shape(&[2, 3, 4], &[0, -1], false).unwrap_err().contains("as many as"));
        assert_eq!(shape(&[2, 3, 4], &[0, -1, 2], false).unwrap(), "2 6 2");
        assert_eq!(shape(&[2, 50], &[1, 0, -1, 0], true).unwrap(), "1 1 2 50");
        assert_eq!(shape(&[4, 3, 2], &[-1, 0], true).unwrap(), "12 2");
        assert!(shape(&[2, 3], &[4, -1], false).is_err());
        assert!(shape(&[2, 3], &[7], false).is_err());
        assert!(shape(&[2, 3], &[-1, -1], false).is_err());
    }

    #[test]
    fn unknown_dimensions_flow() {
        assert_eq!(shape(&[-1, 3, 4], &[0, -1, 2], false).unwrap(), "? 6 2");
        assert_eq!(shape(&[1, 77, 768], &[1, 99, 12, 64], false).unwrap(), "1 77 12 64");
        assert_eq!(shape(&[-1, 4], &[-1, 2], false).unwrap(), "? 2");
        assert_eq!(shape(&[0, 4], &[-1, 2], false).unwrap(), "0 2");
    }
}
