//! `topk`

use crate::DType::{Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// The `k` largest elements along `axis`, and their indices; the smallest if `ascending`.
    ///
    /// They come in order (largest first, or smallest first if `ascending`; equal elements by index), also where
    /// `sort` is false and any order would do. From iOS16 on, `return_indices` can leave the indices out. From iOS17
    /// on, a `k` of -1 takes all, and `output_indices_dtype` can be `uint16` instead of `int32`.
    Topk,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                optional("k", Kind::INT32, Default::Int(1)).constant(),
                optional("axis", Kind::INT32, Default::Int(-1)).constant(),
                optional("ascending", Kind::BOOL, Default::Bool(false)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios16,
            params: &[
                required("x", Kind::T),
                optional("k", Kind::INT32, Default::Int(1)).constant(),
                optional("axis", Kind::INT32, Default::Int(-1)).constant(),
                optional("ascending", Kind::BOOL, Default::Bool(false)).constant(),
                optional("sort", Kind::BOOL, Default::Bool(true)).constant(),
                optional("return_indices", Kind::BOOL, Default::Bool(true)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("k", Kind::Var("K"), Default::Int(1)).constant(),
                optional("axis", Kind::INT32, Default::Int(-1)).constant(),
                optional("ascending", Kind::BOOL, Default::Bool(false)).constant(),
                optional("sort", Kind::BOOL, Default::Bool(true)).constant(),
                optional("return_indices", Kind::BOOL, Default::Bool(true)).constant(),
                optional("output_indices_dtype", Kind::STRING, Default::Str("int32")).constant(),
            ],
            types: &[
                ("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16]),
                ("K", &[Int8, Int16, Int32]),
            ],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let axis = op.axis("axis", x.rank())?;
    let (k, opset) = (op.int("k")?, op.version.opset);
    op.bool("ascending")?;
    let mut shape = x.shape.clone();
    if k != -1 || opset < Opset::Ios17 {
        require!(k >= 0, "input `k` is {k}");
        let size = shape[axis];
        require!(
            size.fixed().is_none_or(|n| k as usize <= n),
            "input `k` is {k}, but `axis` has size {size}"
        );
        shape[axis] = Dim::Fixed(k as usize);
    }
    let mut outputs = vec![TensorType::new(x.dtype, shape.clone()).into()];
    if opset < Opset::Ios16 || op.bool("return_indices")? {
        let dtype = match opset < Opset::Ios17 || op.str("output_indices_dtype")? == "int32" {
            true => Int32,
            false => UInt16,
        };
        if dtype == UInt16 {
            let name = op.str("output_indices_dtype")?;
            require!(
                name == "uint16",
                "input `output_indices_dtype` is \"{name}\"; it can be int32 or uint16"
            );
        }
        outputs.push(TensorType::new(dtype, shape).into());
    }
    Ok(outputs)
}
