//! Compressed weights and quantized activations.

use milwright_mil::ops::{OpView, Operand};
use milwright_mil::{DType, Tensor};

use super::graph::{Graph, Node, Result, broken, int};
use super::implement;
use crate::Error;

type Made = Result<Vec<String>>;

/// Weights as they are when they are not compressed.
fn dense(n: &mut Node<'_, '_>, view: &OpView<'_>) -> Made {
    let Some(engine) = n.engine else {
        return Err(Error::unsupported("weights in a form that ONNX lacks").with_hint("expand them first"));
    };
    let types: Vec<_> = n.op().outputs.iter().map(|&v| n.facts.ty(n.function, v).clone()).collect();
    let tensors = engine.evaluate(view, &types).map_err(Error::unsupported)?;
    tensors.iter().map(|tensor| n.constant(tensor)).collect()
}

/// Codes, and what they stand for.
struct Codes<'a> {
    data: Operand<'a>,
    scale: Operand<'a>,
    offset: Option<Operand<'a>>,
}

impl Codes<'_> {
    /// The zero point in the type of the codes, which ONNX wants; `None` if it has another one.
    fn zero(&self, g: &mut Graph<'_>, sizes: &[usize]) -> Result<Option<Option<String>>> {
        let Some(offset) = &self.offset else { return Ok(Some(None)) };
        let Some(tensor) = offset.value().filter(|t| t.dtype() == self.data.dtype) else { return Ok(None) };
        let shaped = if tensor.elements() == 1 && sizes.iter().product::<usize>() != 1 {
            let Some(filled) = repeated(tensor, sizes) else { return Ok(None) };
            filled
        } else {
            match tensor.reshaped(sizes) {
                Ok(shaped) => shaped,
                Err(_) => return Ok(None),
            }
        };
        Ok(Some(Some(g.constant(&shaped)?)))
    }

    /// A `DequantizeLinear` with scales of these sizes; `None` if it cannot say the same.
    fn node(
        &self,
        n: &mut Node<'_, '_>,
        sizes: &[usize],
        more: &[(&str, usize)],
    ) -> Result<Option<Vec<String>>> {
        let Some(scale) = self.scale.value().and_then(|s| s.reshaped(sizes).ok()) else { return Ok(None) };
        let Some(zero) = self.zero(n, sizes)? else { return Ok(None) };
        let (data, scale) = (n.of(&self.data)?, n.constant(&scale)?);
        let mut inputs = vec![data.as_str(), scale.as_str()];
        inputs.extend(zero.as_deref());
        let more = more.iter().map(|&(name, value)| int(name, value as i64)).collect();
        Ok(Some(vec![n.add_with("DequantizeLinear", &inputs, more)]))
    }
}

/// One element, as many times as these sizes say.
fn repeated(tensor: &Tensor, sizes: &[usize]) -> Option<Tensor> {
    let count = sizes.iter().product();
    let bytes = match tensor.dtype() {
        DType::Int8 | DType::UInt8 => vec![tensor.bytes()[0]; count],
        DType::Int4 | DType::UInt4 => {
            let code = tensor.bytes()[0] & 15;
            vec![code | code << 4; count / 2].into_iter().chain((count % 2 == 1).then_some(code)).collect()
        }
        _ => return None,
    };
    Tensor::from_bytes(tensor.dtype(), sizes, bytes.into()).ok()
}

implement! {
    Const: |n, p| {
        // Written where it is used.
        let _ = p;
        let output = n.op().outputs[0];
        Ok(if n.function[output].ty.as_tensor().is_some_and(|t| t.dtype != DType::String) { vec![n.value(output)?] } else { Vec::new() })
    };
    ConstexprAffineDequantize: |n, p| {
        let codes = Codes { data: p.quantized_data, scale: p.scale, offset: Some(p.zero_point) };
        let axis = p.axis.resolve(p.quantized_data.rank()).map_err(broken)?;
        let sizes = p.scale.fixed_shape().unwrap_or_default();
        let found = if p.scale.elements() == Some(1) {
            codes.node(n, &[], &[])?
        } else {
            codes.node(n, &sizes, &[("axis", axis)])?
        };
        match found {
            Some(made) => Ok(made),
            None => dense(n, p.view),
        }
    };
    ConstexprBlockwiseShiftScale: |n, p| {
        let codes = Codes { data: p.data, scale: p.scale, offset: p.offset };
        let (whole, parts) = (p.data.fixed_shape().unwrap_or_default(), p.scale.fixed_shape().unwrap_or_default());
        let differ: Vec<usize> = (0..whole.len()).filter(|&d| whole[d] != parts[d]).collect();
        let many: Vec<usize> = (0..whole.len()).filter(|&d| parts[d] != 1).collect();
        let integers = p.data.dtype.is_int();
        let found = match (integers, many.as_slice(), differ.as_slice()) {
            (true, [], _) => codes.node(n, &[], &[])?,
            (true, &[axis], _) if parts[axis] == whole[axis] => codes.node(n, &[whole[axis]], &[("axis", axis)])?,
            (true, _, &[axis]) => codes.node(n, &parts, &[("axis", axis), ("block_size", whole[axis] / parts[axis])])?,
            _ => None,
        };
        match found {
            Some(made) => Ok(made),
            None => dense(n, p.view),
        }
    };
    ConstexprCast: |n, p| {
        let (x, to) = (n.of(&p.source_val)?, n.out(0)?.dtype);
        Ok(vec![n.cast(&x, DType::Fp16, to)?])
    };
    ConstexprLutToDense: |n, p| dense(n, p.view);
    ConstexprLutToSparse: |n, p| dense(n, p.view);
    ConstexprSparseBlockwiseShiftScale: |n, p| dense(n, p.view);
    ConstexprSparseToDense: |n, p| dense(n, p.view);
    Dequantize: |n, p| {
        let (x, scale) = (n.of(&p.input)?, n.of(&p.scale)?);
        let mut inputs = vec![x, scale];
        if let Some(zero) = &p.zero_point {
            inputs.push(n.of(zero)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = p.axis.map(|a| int("axis", a.value));
        Ok(vec![n.add_with("DequantizeLinear", &inputs, axis.into_iter().collect())])
    };
    Quantize: |n, p| {
        let (x, scale) = (n.of(&p.input)?, n.of(&p.scale)?);
        let to = n.out(0)?.dtype;
        // Without a zero point the codes would be uint8.
        let zero = match &p.zero_point {
            Some(zero) => n.of(zero)?,
            None => {
                let sizes = p.scale.fixed_shape().unwrap_or_default();
                let bytes = vec![0; sizes.iter().product()];
                let zeros = Tensor::from_bytes(to, &sizes, bytes.into());
                n.constant(&zeros.map_err(|e| Error::malformed(e.to_string()))?)?
            }
        };
        let axis = p.axis.map(|a| int("axis", a.value));
        Ok(vec![n.add_with("QuantizeLinear", &[&x, &scale, &zero], axis.into_iter().collect())])
    };
}
