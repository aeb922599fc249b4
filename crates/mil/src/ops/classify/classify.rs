//! `classify`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{DType, Dim, Type};

op! {
    /// The class with the largest probability, and the probability of each class.
    ///
    /// `probabilities` has as many elements as the list (or vector) `classes`, which are strings or int64.
    /// The results are the class, the first one if several are equally probable, and a dictionary from class
    /// to probability (fp64).
    Classify since Ios13 {
        probabilities: Operand<[Fp32]>,
        classes: ConstAny,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (class, count) = match p.classes.ty {
        Type::List(element, count) => (element.as_tensor().map(|t| t.dtype), *count),
        Type::Tensor(t) => (Some(t.dtype), t.elements().map_or(Dim::Unknown, Dim::Fixed)),
        _ => (None, Dim::Unknown),
    };
    let class = class.filter(|c| [DType::String, DType::Int64].contains(c));
    let class = class.ok_or_else(|| InferError("input `classes` must be strings or int64".into()))?;
    let probabilities = p.probabilities;
    if let (Dim::Fixed(classes), Some(n)) = (count, probabilities.elements())
        && classes != n
    {
        return Err(InferError(format!("there are {classes} classes for {n} probabilities")));
    }
    let dict = Type::Dict(Box::new(Type::scalar(class)), Box::new(Type::scalar(DType::Fp64)));
    Ok(vec![Type::scalar(class).into(), dict.into()])
}
