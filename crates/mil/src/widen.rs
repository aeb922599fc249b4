//! Conversion of fp16 programs to fp32.
//!
//! Core ML computes fp16 programs in fp32 when it runs them on the CPU; the Neural Engine and the GPU round every
//! result to fp16. [`widen`] replaces fp16 by fp32 everywhere in a program:
//!
//! ```text
//! before  func main(tensor<fp16, [4]> x) { y = relu(x = x); z = cast(x = y, dtype = "fp16"); } -> (z)
//! after   func main(tensor<fp32, [4]> x) { y = relu(x = x); z = cast(x = y, dtype = "fp32"); } -> (z)
//! ```

use half::f16;

use crate::{Arg, Checked, DType, Function, OpId, Tensor, Type, Value, ValueId, VerifyErrors, verify};

/// Replaces fp16 by fp32 in a program: in constants, results, inputs, outputs and states.
///
/// # Errors
/// One of the program's ops takes fp16 but not fp32.
pub fn widen(program: Checked) -> Result<Checked, VerifyErrors> {
    let mut program = program.into_inner();
    for function in program.functions.values_mut() {
        let values: Vec<ValueId> = function.values().map(|(id, _)| id).collect();
        values.into_iter().for_each(|id| widen_type(&mut function[id].ty));
        function.walk().into_iter().for_each(|op| widen_constants(function, op));
    }
    verify(program)
}

/// Widens the constants of an op, and replaces `fp16` where a parameter names an element type.
fn widen_constants(function: &mut Function, op: OpId) {
    let mut inputs = std::mem::take(&mut function[op].inputs);
    for input in &mut inputs {
        for arg in &mut input.args {
            if matches!(input.name.as_str(), "dtype" | "output_dtype") && is_half(function, arg) {
                *arg = Arg::Const(Value::string("fp32"));
            } else if let Arg::Const(value) = arg {
                widen_value(value);
            }
        }
    }
    function[op].inputs = inputs;
    if let Some(value) = function[op].attributes.get_mut("val") {
        widen_value(value);
    }
}

/// Whether a parameter is the string `fp16`.
fn is_half(function: &Function, arg: &Arg) -> bool {
    let value = match arg {
        Arg::Value(v) => function.const_value(*v),
        Arg::Const(c) => Some(c),
    };
    value.and_then(Value::as_tensor).is_some_and(|t| t.strings() == ["fp16"])
}

fn widen_type(ty: &mut Type) {
    match ty {
        Type::Tensor(t) if t.dtype == DType::Fp16 => t.dtype = DType::Fp32,
        Type::List(element, _) => widen_type(element),
        Type::Tuple(elements) => elements.iter_mut().for_each(widen_type),
        Type::State(held) => widen_type(held),
        _ => {}
    }
}

fn widen_value(value: &mut Value) {
    match value {
        Value::Tensor(t) if t.dtype() == DType::Fp16 => {
            let halves = t.to_vec::<f16>().unwrap_or_default();
            let wide = halves.into_iter().map(f32::from).collect();
            if let Ok(wide) = Tensor::from_vec(t.shape(), wide) {
                *t = wide;
            }
        }
        Value::List(ty, values) => {
            widen_type(ty);
            values.iter_mut().for_each(widen_value);
        }
        Value::Tuple(values) => values.iter_mut().for_each(widen_value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn fp16_becomes_fp32_everywhere() {
        let program = text::parse(
            "program(1.3)
            {
                func main<ios18>(tensor<fp16, [2]> x, state<tensor<fp16, [2]>> memory) {
                    tensor<fp16, [2]> held = read_state(input = memory);
                    tensor<fp16, [2]> sum = add(x = x, y = held);
                    write_state(input = memory, data = sum);
                    tensor<int32, [2]> whole = cast(x = sum, dtype = string(\"int32\"));
                    string half_type = const()[val = string(\"fp16\")];
                    tensor<fp16, [2]> y = cast(x = whole, dtype = half_type);
                    fp16 half = const()[val = fp16(0x1p-1)];
                    tensor<fp16, [2]> z = mul(x = y, y = half);
                } -> (y, z);
            }",
        );
        let wide = widen(verify(program.unwrap()).unwrap()).unwrap();
        let text = text::print(&wide);
        assert!(!text.contains("tensor<fp16"), "{text}");
        assert!(text.contains("fp32 half = const()[val = fp32(0x1p-1)]"), "{text}");
        assert!(text.contains("y = cast(x = whole, dtype = string(\"fp32\"))"), "{text}");
    }
}
