//! fp16 programs, computed in fp32.
//!
//! Core ML computes fp16 programs in fp32 where it runs them on the CPU; the Neural Engine and the GPU round every
//! result. [`widen`] makes of a program the one that computes as Core ML's CPU does:
//!
//! ```text
//! before  func main(tensor<fp16, [4]> x) { y = relu(x = x); } -> (y)
//! after   func main(tensor<fp16, [4]> x) { x_fp32 = cast(x = x, dtype = "fp32");
//!                                          y_fp32 = relu(x = x_fp32);
//!                                          y = cast(x = y_fp32, dtype = "fp16"); } -> (y)
//! ```
//!
//! Inputs, outputs and states keep their types, and their values are rounded to them.

use std::collections::HashSet;

use half::f16;

use crate::{
    Arg, BlockId, Checked, DType, Function, Input, OpId, OpKind, Tensor, Type, Value, ValueId, VerifyErrors,
    verify,
};

/// The program with fp32 instead of fp16 everywhere but at its inputs, outputs and states.
///
/// # Errors
/// An op of it takes fp16 and not fp32.
pub fn widen(program: Checked) -> Result<Checked, VerifyErrors> {
    let mut program = program.into_inner();
    for function in program.functions.values_mut() {
        let names = function.values().map(|(_, v)| v.name.clone()).collect();
        Widener { function, names }.run();
    }
    verify(program)
}

struct Widener<'a> {
    function: &'a mut Function,
    /// Every name that is taken.
    names: HashSet<String>,
}

impl Widener<'_> {
    fn run(&mut self) {
        let inputs: Vec<ValueId> = self.function.inputs.clone();
        let narrow_inputs: Vec<ValueId> = inputs.iter().copied().filter(|&v| self.is_half(v)).collect();
        let body = self.function.body;
        let outputs = self.function[body].outputs.clone();
        let narrow_outputs: Vec<bool> = outputs.iter().map(|&v| self.is_half(v)).collect();

        let ids: Vec<ValueId> = self.function.values().map(|(id, _)| id).collect();
        for id in ids {
            if !inputs.contains(&id) {
                widen_type(&mut self.function[id].ty);
            }
        }
        for op in self.function.walk() {
            self.constants(op);
        }
        self.states(body);
        self.inputs(&narrow_inputs);
        for (i, narrow) in narrow_outputs.into_iter().enumerate() {
            if narrow {
                self.output(i);
            }
        }
    }

    fn is_half(&self, value: ValueId) -> bool {
        self.function[value].ty.as_tensor().is_some_and(|t| t.dtype == DType::Fp16)
    }

    /// The constants of an op, and the types that it names.
    fn constants(&mut self, op: OpId) {
        let names_type = |f: &Function, arg: &Arg| {
            let value = match arg {
                Arg::Value(v) => f.const_value(*v),
                Arg::Const(c) => Some(c),
            };
            value.and_then(Value::as_tensor).is_some_and(|t| t.strings() == ["fp16"])
        };
        let mut inputs = std::mem::take(&mut self.function[op].inputs);
        for input in &mut inputs {
            for arg in &mut input.args {
                if matches!(input.name.as_str(), "dtype" | "output_dtype") && names_type(self.function, arg) {
                    *arg = Arg::Const(Value::string("fp32"));
                } else if let Arg::Const(value) = arg {
                    widen_value(value);
                }
            }
        }
        self.function[op].inputs = inputs;
        if let Some(value) = self.function[op].attributes.get_mut("val") {
            widen_value(value);
        }
    }

    /// States stay as they are: what is read from one is widened, what is written to one is rounded.
    // Recursion is bounded: the verifier limits how deep blocks nest.
    fn states(&mut self, block: BlockId) {
        for op in std::mem::take(&mut self.function[block].ops) {
            for nested in self.function[op].blocks.clone() {
                self.states(nested);
            }
            let state = self.function[op].value("input").map(|v| self.function[v].ty.clone());
            let holds_half = match state {
                Some(Type::State(held)) => held.as_tensor().is_some_and(|t| t.dtype == DType::Fp16),
                _ => false,
            };
            match self.function[op].kind {
                OpKind::ReadState if holds_half => {
                    let read = self.function[op].outputs[0];
                    set_dtype(&mut self.function[read].ty, DType::Fp16);
                    self.function[block].ops.push(op);
                    let name = self.fresh(format!("{}_fp32", self.function[read].name));
                    self.widened(block, read, name);
                }
                OpKind::WriteState if holds_half => {
                    if let Some(data) = self.function[op].value("data") {
                        let name = self.fresh(format!("{}_fp16", self.function[data].name));
                        let half = self.cast(block, data, DType::Fp16, name);
                        let inputs = &mut self.function[op].inputs;
                        inputs
                            .iter_mut()
                            .filter(|i| i.name == "data")
                            .for_each(|i| i.args = vec![Arg::Value(half)]);
                    }
                    self.function[block].ops.push(op);
                }
                _ => self.function[block].ops.push(op),
            }
        }
    }

    fn inputs(&mut self, inputs: &[ValueId]) {
        let body = self.function.body;
        let ops = std::mem::take(&mut self.function[body].ops);
        for &input in inputs {
            let name = self.fresh(format!("{}_fp32", self.function[input].name));
            self.widened(body, input, name);
        }
        self.function[body].ops.extend(ops);
    }

    /// Appends a cast of `value`, and lets everything else use that instead.
    fn widened(&mut self, block: BlockId, value: ValueId, name: String) {
        // Uses are replaced first: the cast itself goes on using the value.
        let wide = self.cast(block, value, DType::Fp32, name);
        self.function.replace_uses(value, wide);
        let cast = self.function.defining_op(wide).expect("a cast was just made");
        self.function[cast].inputs[0] = Input::value("x", value);
    }

    /// The output keeps its name; the wide value under it is renamed.
    fn output(&mut self, i: usize) {
        let body = self.function.body;
        let value = self.function[body].outputs[i];
        let name = self.function[value].name.clone();
        // An input that is an output as well was widened: it has a name of its own.
        self.function[value].name = self.fresh(format!("{name}_fp32"));
        let name = match self.function.inputs.iter().any(|&v| self.function[v].name == name) {
            true => self.fresh(name),
            false => name,
        };
        self.function[body].outputs[i] = self.cast(body, value, DType::Fp16, name);
    }

    fn cast(&mut self, block: BlockId, value: ValueId, to: DType, name: String) -> ValueId {
        let mut ty = self.function[value].ty.clone();
        set_dtype(&mut ty, to);
        let inputs = vec![Input::value("x", value), Input::constant("dtype", Value::string(to.name()))];
        let op = self.function.push_op(block, OpKind::Cast, inputs, [(name, ty)]);
        self.function[op].outputs[0]
    }

    /// A name that nothing has yet.
    fn fresh(&mut self, name: String) -> String {
        let mut fresh = name.clone();
        let mut n = 1;
        while !self.names.insert(fresh.clone()) {
            fresh = format!("{name}_{n}");
            n += 1;
        }
        fresh
    }
}

fn set_dtype(ty: &mut Type, dtype: DType) {
    if let Type::Tensor(t) = ty {
        t.dtype = dtype;
    }
}

fn widen_type(ty: &mut Type) {
    match ty {
        Type::Tensor(t) if t.dtype == DType::Fp16 => t.dtype = DType::Fp32,
        Type::List(element, _) => widen_type(element),
        Type::Tuple(elements) => elements.iter_mut().for_each(widen_type),
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
    fn borders_stay_narrow() {
        let program = text::parse(
            "program(1.3)
            {
                func main<ios18>(tensor<fp16, [2]> x, state<tensor<fp16, [2]>> memory) {
                    tensor<fp16, [2]> held = read_state(input = memory);
                    tensor<fp16, [2]> sum = add(x = x, y = held);
                    write_state(input = memory, data = sum);
                    tensor<fp32, [2]> single = cast(x = sum, dtype = string(\"fp32\"));
                    tensor<fp16, [2]> y = cast(x = single, dtype = string(\"fp16\"));
                    fp16 half = const()[val = fp16(0x1p-1)];
                    tensor<fp16, [2]> z = mul(x = y, y = half);
                } -> (y, z);
            }",
        );
        let wide = widen(verify(program.unwrap()).unwrap()).unwrap();
        let text = text::print(&wide);
        assert!(text.contains("tensor<fp32, [2]> sum = add(x = x_fp32, y = held_fp32)"), "{text}");
        assert!(text.contains("tensor<fp16, [2]> held = read_state"), "{text}");
        assert!(
            text.contains("write_state(data = sum_fp16, input = memory)")
                || text.contains("write_state(input = memory, data = sum_fp16)"),
            "{text}"
        );
        assert!(text.contains("fp32 half = const()"), "{text}");
        assert!(text.contains("tensor<fp16, [2]> y = cast(x = y_fp32, dtype = string(\"fp16\"))"), "{text}");
        assert_eq!(text.matches("cast(").count(), 7, "{text}");
    }

    #[test]
    fn an_input_may_be_an_output() {
        let text = "program(1.3) { func main<ios16>(tensor<fp16, [2]> x) { } -> (x); }";
        let wide = widen(verify(text::parse(text).unwrap()).unwrap()).unwrap();
        let main = &wide.functions["main"];
        let output = main[main.body].outputs[0];
        assert_eq!(main[output].ty.to_string(), "tensor<fp16, [2]>");
    }
}
