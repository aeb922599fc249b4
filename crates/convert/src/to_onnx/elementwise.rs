//! Activations, functions of single elements, reductions.

use milwright_mil::DType;
use milwright_mil::ops::{Axes, Number, Operand};

use super::graph::{Node, Result, broken, float, int, text};
use super::implement;
use crate::Error;

type Made = Result<Vec<String>>;

fn un(n: &mut Node<'_, '_>, x: &Operand<'_>, op: &str) -> Made {
    let x = n.of(x)?;
    Ok(vec![n.add(op, &[&x])])
}

fn bin(n: &mut Node<'_, '_>, x: &Operand<'_>, y: &Operand<'_>, op: &str) -> Made {
    let (x, y) = (n.of(x)?, n.of(y)?);
    Ok(vec![n.add(op, &[&x, &y])])
}

/// x + epsilon, in the element type of x.
fn shifted(n: &mut Node<'_, '_>, x: &Operand<'_>, epsilon: &Number<'_>) -> Result<String> {
    let name = n.of(x)?;
    let epsilon = n.scalar(x.dtype, epsilon.value.into())?;
    Ok(n.add("Add", &[&name, &epsilon]))
}

/// x · factor + shift
fn affine(n: &mut Node<'_, '_>, x: &str, dtype: DType, factor: f32, shift: f32) -> Result<String> {
    let (factor, shift) = (n.scalar(dtype, factor.into())?, n.scalar(dtype, shift.into())?);
    let scaled = n.add("Mul", &[x, &factor]);
    Ok(n.add("Add", &[&scaled, &shift]))
}

fn clipped(n: &mut Node<'_, '_>, x: &Operand<'_>, low: f32, high: f32) -> Made {
    let (name, low, high) = (n.of(x)?, n.scalar(x.dtype, low.into())?, n.scalar(x.dtype, high.into())?);
    Ok(vec![n.add("Clip", &[&name, &low, &high])])
}

implement! {
    ClampedRelu: |n, p| {
        let x = n.of(&p.x)?;
        let leaky = n.add_with("LeakyRelu", &[&x], vec![float("alpha", p.alpha)]);
        let beta = n.scalar(p.x.dtype, p.beta.into())?;
        Ok(vec![n.add("Min", &[&leaky, &beta])])
    };
    Elu: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("Elu", &[&x], vec![float("alpha", p.alpha)])])
    };
    Gelu: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![match p.mode {
            "SIGMOID_APPROXIMATION" => {
                let factor = n.scalar(p.x.dtype, 1.702)?;
                let scaled = n.add("Mul", &[&x, &factor]);
                let gate = n.add("Sigmoid", &[&scaled]);
                n.add("Mul", &[&x, &gate])
            }
            "TANH_APPROXIMATION" => n.add_with("Gelu", &[&x], vec![text("approximate", "tanh")]),
            _ => n.add("Gelu", &[&x]),
        }])
    };
    LeakyRelu: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("LeakyRelu", &[&x], vec![float("alpha", p.alpha)])])
    };
    LinearActivation: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![affine(n, &x, p.x.dtype, p.alpha, p.beta)?])
    };
    Prelu: |n, p| {
        let (x, alpha) = (n.of(&p.x)?, n.along(&p.alpha, p.x.dtype, 1, p.x.rank())?);
        Ok(vec![n.add("PRelu", &[&x, &alpha])])
    };
    Relu: |n, p| un(n, &p.x, "Relu");
    Relu6: |n, p| clipped(n, &p.x, 0.0, 6.0);
    ScaledTanh: |n, p| {
        let x = n.of(&p.x)?;
        let (alpha, beta) = (n.scalar(p.x.dtype, p.alpha.into())?, n.scalar(p.x.dtype, p.beta.into())?);
        let scaled = n.add("Mul", &[&x, &beta]);
        let tanh = n.add("Tanh", &[&scaled]);
        Ok(vec![n.add("Mul", &[&tanh, &alpha])])
    };
    Sigmoid: |n, p| un(n, &p.x, "Sigmoid");
    SigmoidHard: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("HardSigmoid", &[&x], vec![float("alpha", p.alpha), float("beta", p.beta)])])
    };
    Silu: |n, p| {
        let x = n.of(&p.x)?;
        let gate = n.add("Sigmoid", &[&x]);
        Ok(vec![n.add("Mul", &[&x, &gate])])
    };
    Softmax: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("Softmax", &[&x], vec![int("axis", p.axis.value)])])
    };
    Softplus: |n, p| un(n, &p.x, "Softplus");
    SoftplusParametric: |n, p| {
        let x = n.of(&p.x)?;
        let alpha = n.along(&p.alpha, p.x.dtype, 1, p.x.rank())?;
        let beta = n.along(&p.beta, p.x.dtype, 1, p.x.rank())?;
        let scaled = n.add("Mul", &[&x, &beta]);
        let plus = n.add("Softplus", &[&scaled]);
        Ok(vec![n.add("Mul", &[&plus, &alpha])])
    };
    Softsign: |n, p| un(n, &p.x, "Softsign");
    ThresholdedRelu: |n, p| {
        let x = n.of(&p.x)?;
        let (alpha, zero) = (n.scalar(p.x.dtype, p.alpha.into())?, n.scalar(p.x.dtype, 0.0)?);
        let kept = n.add("GreaterOrEqual", &[&x, &alpha]);
        Ok(vec![n.add("Where", &[&kept, &x, &zero])])
    };
    Abs: |n, p| un(n, &p.x, "Abs");
    Acos: |n, p| un(n, &p.x, "Acos");
    Asin: |n, p| un(n, &p.x, "Asin");
    Atan: |n, p| un(n, &p.x, "Atan");
    Atanh: |n, p| un(n, &p.x, "Atanh");
    Cast: |n, p| {
        let (x, to) = (n.of(&p.x)?, n.out(0)?.dtype);
        let x = n.cast(&x, p.x.dtype, to)?;
        Ok(vec![x])
    };
    Ceil: |n, p| un(n, &p.x, "Ceil");
    Clip: |n, p| clipped(n, &p.x, p.alpha, p.beta);
    Cos: |n, p| un(n, &p.x, "Cos");
    Cosh: |n, p| un(n, &p.x, "Cosh");
    Erf: |n, p| un(n, &p.x, "Erf");
    Exp: |n, p| un(n, &p.x, "Exp");
    Exp2: |n, p| {
        let (x, two) = (n.of(&p.x)?, n.scalar(p.x.dtype, 2.0)?);
        Ok(vec![n.add("Pow", &[&two, &x])])
    };
    Floor: |n, p| un(n, &p.x, "Floor");
    Inverse: |n, p| {
        let x = shifted(n, &p.x, &p.epsilon)?;
        Ok(vec![n.add("Reciprocal", &[&x])])
    };
    Log: |n, p| {
        let x = shifted(n, &p.x, &p.epsilon)?;
        Ok(vec![n.add("Log", &[&x])])
    };
    LogicalNot: |n, p| un(n, &p.x, "Not");
    Round: |n, p| un(n, &p.x, "Round");
    Rsqrt: |n, p| {
        let x = shifted(n, &p.x, &p.epsilon)?;
        let root = n.add("Sqrt", &[&x]);
        Ok(vec![n.add("Reciprocal", &[&root])])
    };
    Sign: |n, p| un(n, &p.x, "Sign");
    Sin: |n, p| un(n, &p.x, "Sin");
    Sinh: |n, p| un(n, &p.x, "Sinh");
    Sqrt: |n, p| un(n, &p.x, "Sqrt");
    Square: |n, p| bin(n, &p.x, &p.x, "Mul");
    Tan: |n, p| un(n, &p.x, "Tan");
    Tanh: |n, p| un(n, &p.x, "Tanh");
    Threshold: |n, p| bin(n, &p.x, &p.alpha, "Max");
    Add: |n, p| bin(n, &p.x, &p.y, "Add");
    Equal: |n, p| bin(n, &p.x, &p.y, "Equal");
    FloorDiv: |n, p| {
        let (x, y) = (n.of(&p.x)?, n.of(&p.y)?);
        if p.x.dtype.is_float() {
            let part = n.add("Div", &[&x, &y]);
            return Ok(vec![n.add("Floor", &[&part])]);
        }
        // Division of integers truncates, the remainder has the divisor's sign.
        let rest = n.add("Mod", &[&x, &y]);
        let whole = n.add("Sub", &[&x, &rest]);
        Ok(vec![n.add("Div", &[&whole, &y])])
    };
    Greater: |n, p| bin(n, &p.x, &p.y, "Greater");
    GreaterEqual: |n, p| bin(n, &p.x, &p.y, "GreaterOrEqual");
    Less: |n, p| bin(n, &p.x, &p.y, "Less");
    LessEqual: |n, p| bin(n, &p.x, &p.y, "LessOrEqual");
    LogicalAnd: |n, p| bin(n, &p.x, &p.y, "And");
    LogicalOr: |n, p| bin(n, &p.x, &p.y, "Or");
    LogicalXor: |n, p| bin(n, &p.x, &p.y, "Xor");
    Maximum: |n, p| bin(n, &p.x, &p.y, "Max");
    Minimum: |n, p| bin(n, &p.x, &p.y, "Min");
    Mod: |n, p| {
        let (x, y) = (n.of(&p.x)?, n.of(&p.y)?);
        if p.x.dtype.is_int() {
            return Ok(vec![n.add("Mod", &[&x, &y])]);
        }
        // C's remainder has the sign of x: add y where the signs differ.
        let rest = n.add_with("Mod", &[&x, &y], vec![int("fmod", 1)]);
        let zero = n.scalar(p.x.dtype, 0.0)?;
        let (below, negative) = (n.add("Less", &[&rest, &zero]), n.add("Less", &[&y, &zero]));
        let differ = n.add("Xor", &[&below, &negative]);
        let exact = n.add("Equal", &[&rest, &zero]);
        let inexact = n.add("Not", &[&exact]);
        let differ = n.add("And", &[&differ, &inexact]);
        let moved = n.add("Add", &[&rest, &y]);
        Ok(vec![n.add("Where", &[&differ, &moved, &rest])])
    };
    Mul: |n, p| bin(n, &p.x, &p.y, "Mul");
    NotEqual: |n, p| {
        let same = bin(n, &p.x, &p.y, "Equal")?.remove(0);
        Ok(vec![n.add("Not", &[&same])])
    };
    Pow: |n, p| bin(n, &p.x, &p.y, "Pow");
    RealDiv: |n, p| bin(n, &p.x, &p.y, "Div");
    Sub: |n, p| bin(n, &p.x, &p.y, "Sub");
    Select: |n, p| {
        let (cond, a, b) = (n.of(&p.cond)?, n.of(&p.a)?, n.of(&p.b)?);
        Ok(vec![n.add("Where", &[&cond, &a, &b])])
    };
    ReduceArgmax: |n, p| arg(n, &p.x, p.axis.value, p.keep_dims, "ArgMax");
    ReduceArgmin: |n, p| arg(n, &p.x, p.axis.value, p.keep_dims, "ArgMin");
    ReduceL1Norm: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceL1");
    ReduceL2Norm: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceL2");
    ReduceLogSum: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceLogSum");
    ReduceLogSumExp: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceLogSumExp");
    ReduceMax: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceMax");
    ReduceMean: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceMean");
    ReduceMin: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceMin");
    ReduceProd: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceProd");
    ReduceSum: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceSum");
    ReduceSumSquare: |n, p| reduce(n, &p.x, p.axes.as_ref(), p.keep_dims, "ReduceSumSquare");
}

fn reduce(n: &mut Node<'_, '_>, x: &Operand<'_>, axes: Option<&Axes>, keep: bool, op: &str) -> Made {
    let axes = Axes::or_all(axes, x.rank()).map_err(broken)?;
    let name = n.of(x)?;
    if axes.is_empty() {
        return Err(Error::unsupported("a reduction of no dimension"));
    }
    // Means and roots of integers are computed as numbers, and lose their fractions at the end.
    let real = x.dtype.is_int()
        && !matches!(
            op,
            "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" | "ReduceL1"
        );
    let name = if real { n.cast(&name, x.dtype, DType::Fp32)? } else { name };
    let axes = n.int64s(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
    let y = n.add_with(op, &[&name, &axes], vec![int("keepdims", keep.into())]);
    Ok(vec![if real { n.cast(&y, DType::Fp32, x.dtype)? } else { y }])
}

/// The index of an extreme element.
fn arg(n: &mut Node<'_, '_>, x: &Operand<'_>, axis: i64, keep: bool, op: &str) -> Made {
    let name = n.of(x)?;
    let y = n.add_with(op, &[&name], vec![int("axis", axis), int("keepdims", keep.into())]);
    let to = n.out(0)?.dtype;
    Ok(vec![n.cast(&y, DType::Int64, to)?])
}
