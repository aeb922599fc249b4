//! fp16 computation: every op that can, computes in fp16; `cast` ops stand where it meets what cannot.
//!
//! ```text
//! before  func main(tensor<fp32, [1, 4]> x)  { y = relu(x = x); } -> (y)
//! after   func main(tensor<fp32, [1, 4]> x)  { x_fp16 = cast(x = x, dtype = "fp16");
//!                                              y_fp16 = relu(x = x_fp16);
//!                                              y = cast(x = y_fp16, dtype = "fp32"); } -> (y)
//! ```
//!
//! Inputs and outputs keep their names and types. An op stays in fp32 if its declaration does not allow fp16, or if
//! one of its constants would overflow, or would vanish altogether (an epsilon of 1e-12, say).

use std::collections::{HashMap, HashSet};

use half::f16;
use milwright_mil::infer::infer;
use milwright_mil::ops::Kind;
use milwright_mil::{
    Arg, BlockId, DType, Function, Input, OpId, OpKind, Tensor, TensorType, Type, Value, ValueId,
};

use crate::rewrite::{Loss, WeightReport};
use crate::{Error, Store, float_tensor, float_values, to_f32};

/// Converts a function to fp16.
///
/// # Errors
/// The store fails.
pub fn convert(
    name: &str,
    function: &mut Function,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<WeightReport>, Error> {
    let names = function.values().map(|(_, v)| v.name.clone()).collect();
    let mut converter = Converter {
        name,
        names,
        function,
        store,
        progress,
        half: HashMap::new(),
        single: HashMap::new(),
        reports: Vec::new(),
    };
    let body = converter.function.body;
    converter.block(body)?;
    let reports = converter.reports;
    refresh_types(function);
    Ok(reports)
}

struct Converter<'a> {
    name: &'a str,
    function: &'a mut Function,
    store: &'a mut dyn Store,
    progress: &'a mut dyn FnMut(usize),
    /// Every name that is taken.
    names: HashSet<String>,
    /// fp32 values as fp16, in the block where each was made.
    half: HashMap<ValueId, ValueId>,
    /// fp16 values that were fp32 in the original, as fp32 again.
    single: HashMap<ValueId, ValueId>,
    reports: Vec<WeightReport>,
}

// Recursion over blocks is bounded: the verifier limits how deep they nest.
impl Converter<'_> {
    fn block(&mut self, block: BlockId) -> Result<(), Error> {
        // What is made in this block is not visible after it.
        let (half, single) = (self.half.clone(), self.single.clone());
        let ops = std::mem::take(&mut self.function[block].ops);
        for op in ops {
            if self.function[op].kind == OpKind::Const {
                // Constants are made anew, in the type that is needed, where the first op needs them.
                self.function[block].ops.push(op);
            } else if self.converts(op) {
                self.halve(block, op)?;
            } else {
                self.keep(block, op)?;
            }
        }
        let outputs = self.function[block].outputs.clone();
        for (i, value) in outputs.into_iter().enumerate() {
            if self.single.contains_key(&value) || self.was_single(value) {
                let single = self.output(block, value);
                self.function[block].outputs[i] = single;
            }
        }
        if block != self.function.body {
            (self.half, self.single) = (half, single);
        }
        Ok(())
    }

    /// Whether the op has fp32 inputs or outputs that may all be fp16.
    fn converts(&self, op: OpId) -> bool {
        let f = &*self.function;
        let op = &f[op];
        let Some(version) = op.kind.version(f.opset) else { return false };
        // A cast says what its result is; a state has its own type; blocks are converted on their own.
        if op.kind == OpKind::Cast
            || !op.blocks.is_empty()
            || op.kind.effect() == milwright_mil::ops::Effect::State
        {
            return false;
        }
        let mut any = op.outputs.iter().any(|v| is_single(&f[*v].ty));
        for input in &op.inputs {
            let Some(param) = version.params.iter().find(|p| p.name == input.name) else { return false };
            let allows_half = match param.kind {
                Kind::Var(var) => {
                    version.types.iter().any(|(name, types)| *name == var && types.contains(&DType::Fp16))
                }
                Kind::Of(types) => types.contains(&DType::Fp16),
                _ => false,
            };
            for arg in &input.args {
                let (single, constant) = match arg {
                    Arg::Value(v) => (self.is_single_now(*v), f.const_value(*v)),
                    Arg::Const(c) => (is_single(&c.ty()), Some(c)),
                };
                if !single {
                    continue;
                }
                any = true;
                if !allows_half || constant.and_then(Value::as_tensor).is_some_and(|t| !survives(t)) {
                    return false;
                }
            }
        }
        any
    }

    fn halve(&mut self, block: BlockId, op: OpId) -> Result<(), Error> {
        let mut inputs = self.function[op].inputs.clone();
        for arg in inputs.iter_mut().flat_map(|i| &mut i.args) {
            match arg {
                Arg::Value(v) if self.is_single_now(*v) => *v = self.as_half(block, *v)?,
                Arg::Const(Value::Tensor(t)) if t.dtype() == DType::Fp32 => {
                    *t = float_tensor(&to_f32(t), t.shape(), DType::Fp16);
                }
                _ => {}
            }
        }
        self.function[op].inputs = inputs;
        for value in self.function[op].outputs.clone() {
            if is_single(&self.function[value].ty) {
                set_dtype(&mut self.function[value].ty, DType::Fp16);
                self.half.insert(value, value);
            }
        }
        self.function[block].ops.push(op);
        Ok(())
    }

    /// Leaves an op in fp32: what it uses is cast back.
    fn keep(&mut self, block: BlockId, op: OpId) -> Result<(), Error> {
        let mut inputs = self.function[op].inputs.clone();
        for arg in inputs.iter_mut().flat_map(|i| &mut i.args) {
            if let Arg::Value(v) = arg
                && self.was_single(*v)
            {
                *v = self.as_single(block, *v);
            }
        }
        self.function[op].inputs = inputs;
        for nested in self.function[op].blocks.clone() {
            self.block(nested)?;
        }
        self.function[block].ops.push(op);
        Ok(())
    }

    /// Whether the value is fp32 in the original program.
    fn is_single_now(&self, value: ValueId) -> bool {
        is_single(&self.function[value].ty) || self.was_single(value)
    }

    /// Whether the value was fp32 and is fp16 now.
    fn was_single(&self, value: ValueId) -> bool {
        self.half.get(&value) == Some(&value)
    }

    fn as_half(&mut self, block: BlockId, value: ValueId) -> Result<ValueId, Error> {
        if let Some(&half) = self.half.get(&value) {
            return Ok(half);
        }
        let constant = self.function.const_value(value).and_then(Value::as_tensor).cloned();
        let half = match constant {
            Some(tensor) => {
                let name = self.function[value].name.clone();
                let tensor = self.store_half(&name, tensor)?;
                let name = self.fresh(format!("{name}_to_fp16"));
                let (op, half) = self.function.make_const(name, tensor.into());
                self.function[block].ops.push(op);
                half
            }
            None => {
                let name = self.fresh(format!("{}_to_fp16", self.function[value].name));
                self.cast(block, value, DType::Fp16, name)
            }
        };
        self.half.insert(value, half);
        Ok(half)
    }

    fn as_single(&mut self, block: BlockId, value: ValueId) -> ValueId {
        if let Some(&single) = self.single.get(&value) {
            return single;
        }
        let name = self.fresh(format!("{}_to_fp32", self.function[value].name));
        let single = self.cast(block, value, DType::Fp32, name);
        self.single.insert(value, single);
        single
    }

    /// An output of a block keeps its name: the fp16 value under it is renamed.
    fn output(&mut self, block: BlockId, value: ValueId) -> ValueId {
        let name = self.function[value].name.clone();
        self.function[value].name = self.fresh(format!("{name}_fp16"));
        match self.single.get(&value) {
            // Made for another use already: that one takes the name.
            Some(&single) => {
                self.function[single].name = name;
                single
            }
            None => {
                let single = self.cast(block, value, DType::Fp32, name);
                self.single.insert(value, single);
                single
            }
        }
    }

    fn cast(&mut self, block: BlockId, value: ValueId, to: DType, name: String) -> ValueId {
        let mut ty = self.function[value].ty.clone();
        set_dtype(&mut ty, to);
        let dtype_name = self.fresh(format!("{name}_dtype"));
        let (dtype_op, dtype) = self.function.make_const(dtype_name, Value::string(to.name()));
        self.function[block].ops.push(dtype_op);
        let inputs = vec![Input::value("x", value), Input::value("dtype", dtype)];
        let op = self.function.push_op(block, OpKind::Cast, inputs, [(name.clone(), ty)]);
        self.function[op].attributes.insert("name".into(), Value::string(format!("{name}_cast")));
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

    fn store_half(&mut self, name: &str, tensor: Tensor) -> Result<Tensor, Error> {
        let values = float_values(&tensor);
        let half = float_tensor(&values, tensor.shape(), DType::Fp16);
        let loss = Loss::of(&values, values.iter().copied(), DType::Fp16);
        let mut report = WeightReport::new(self.name, name, &tensor);
        report.bytes_after = half.bytes().len();
        (report.snr_db, report.max_error) = (Some(loss.snr_db()), loss.max);
        self.reports.push(report);
        (self.progress)(values.len());
        Ok(self.store.store(half)?)
    }
}

fn is_single(ty: &Type) -> bool {
    matches!(ty, Type::Tensor(TensorType { dtype: DType::Fp32, .. }))
}

fn set_dtype(ty: &mut Type, dtype: DType) {
    if let Type::Tensor(t) = ty {
        t.dtype = dtype;
    }
}

/// Whether a constant means the same in fp16: nothing overflows, and not everything that was not zero vanishes.
fn survives(tensor: &Tensor) -> bool {
    let (mut before, mut after) = (false, false);
    for &x in &*float_values(tensor) {
        let half = f16::from_f32(x);
        if half.is_infinite() && x.is_finite() {
            return false;
        }
        before |= x != 0.0;
        after |= half != f16::ZERO;
    }
    after || !before
}

/// Some ops choose the type of an output by more than their declaration says: what inference finds is what stands.
fn refresh_types(function: &mut Function) {
    let (facts, _) = infer(function, &[], None);
    let changed: Vec<(ValueId, DType)> = function
        .values()
        .filter_map(|(id, v)| match (&v.ty, facts.ty(function, id)) {
            (Type::Tensor(declared), Type::Tensor(found)) if declared.dtype != found.dtype => {
                Some((id, found.dtype))
            }
            _ => None,
        })
        .collect();
    for (id, dtype) in changed {
        set_dtype(&mut function[id].ty, dtype);
    }
}
