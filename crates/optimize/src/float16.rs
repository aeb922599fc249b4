//! fp16 computation: every op that can compute in fp16 does. `cast` ops connect them to ops that cannot.
//!
//! ```text
//! before  func main(tensor<fp32, [1, 4]> x)  { y = relu(x = x); } -> (y)
//! after   func main(tensor<fp32, [1, 4]> x)  { x_fp16 = cast(x = x, dtype = "fp16");
//!                                              y_fp16 = relu(x = x_fp16);
//!                                              y = cast(x = y_fp16, dtype = "fp32"); } -> (y)
//! ```
//!
//! Inputs and outputs keep their names and types, and weights their names. An op stays in fp32, and the report says
//! why, if its declaration does not allow fp16, if one of its constants would overflow or vanish (an epsilon of 1e-45,
//! say), or if one of its inputs or outputs is known to exceed fp16's range or to lose its precision. If the opset
//! allows scalar parameters of another element type than the data, they stay as they are.
//!
//! The inputs and outputs of blocks and the elements of lists stay fp32: `cast` ops stand inside the blocks, and beside
//! the ops that read and write a list. Everything that decides how often a `while_loop` runs is computed in fp32,
//! because in fp16 a counter stops at 2048, and an error that converges may never fall below a small bound. A loop or
//! `cond` whose result does not fit fp16, or loses its precision in it, stays in fp32 with everything inside it.

use std::collections::{HashMap, HashSet};

mod loops;

use half::f16;
use milwright_mil::infer::{infer, output_dtypes};
use milwright_mil::ops::{Effect, Family, Kind, Param, Version};
use milwright_mil::{
    Arg, BlockId, DType, Function, Input, Op, OpId, OpKind, Opset, Tensor, TensorType, Type, Value, ValueId,
    param,
};

use crate::loss::Loss;
use crate::rewrite::WeightReport;
use crate::{Error, Report, Store, float_tensor, float_values};

/// The largest finite fp16.
pub const LARGEST: f64 = 65504.0;

/// An op that was left in fp32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOp {
    /// The function that the op is in.
    pub function: String,
    /// The op in MIL, such as `log`.
    pub op: &'static str,
    /// Its name.
    pub name: String,
    /// The reason why it stays in fp32.
    pub reason: String,
}

/// Observations of a function's values from a run.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The largest magnitude of each value, if it is known.
    pub largest: HashMap<ValueId, f64>,
    /// Values that must not become fp16, and why: because they are so small that results would be lost, for example.
    pub lost: HashMap<ValueId, String>,
}

/// Converts a function to fp16. Ops stay in fp32 if `observed` says that their inputs or outputs do not fit fp16.
///
/// # Errors
/// The store fails.
pub fn convert(
    name: &str,
    function: &mut Function,
    observed: &Observed,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Report, Error> {
    let names = function.values().map(|(_, v)| v.name.clone()).collect();
    let decisive = loops::decisive(function);
    let mut converter = Converter {
        name,
        names,
        function,
        store,
        progress,
        half: HashMap::new(),
        single: HashMap::new(),
        compressed: HashMap::new(),
        observed,
        decisive,
        around: None,
        report: Report::default(),
    };
    let body = converter.function.body;
    converter.block(body)?;
    let (half, report) = (converter.half, converter.report);
    hand_names_on(function, &half);
    refresh_types(function);
    Ok(report)
}

struct Converter<'a> {
    name: &'a str,
    function: &'a mut Function,
    store: &'a mut dyn Store,
    progress: &'a mut dyn FnMut(usize),
    /// Every name in use.
    names: HashSet<String>,
    /// For each fp32 value that an op needed as fp16, the fp16 value. Valid in the block that made it.
    half: HashMap<ValueId, ValueId>,
    /// For each fp16 value that was fp32 in the original and is needed as such, its copy in fp32.
    single: HashMap<ValueId, ValueId>,
    /// For each compressed constant that became fp16, what it was made of in fp32.
    compressed: HashMap<ValueId, Vec<Input>>,
    observed: &'a Observed,
    /// Ops that decide how often a loop runs, and the loop's name.
    decisive: HashMap<OpId, String>,
    /// The reason why everything in the blocks that are being converted stays in fp32, if there is one.
    around: Option<String>,
    report: Report,
}

/// The decision about an op.
enum Plan {
    /// It has no fp32 operands, or is not a computation: casts, states, blocks.
    Leave,
    /// It stays in fp32, for this reason.
    Keep(String),
    /// It computes in fp16, but the parameters of these type variables stay in fp32.
    Halve(Vec<&'static str>),
}

// Recursion over blocks is bounded: the verifier limits how deep they nest.
impl Converter<'_> {
    fn block(&mut self, block: BlockId) -> Result<(), Error> {
        // Values that this block makes are not visible after it.
        let (half, single) = (self.half.clone(), self.single.clone());
        let ops = std::mem::take(&mut self.function[block].ops);
        for op in ops {
            if self.function[op].kind == OpKind::Const {
                // Constants are made again, in the element type that is needed, where the first op needs them.
                self.function[block].ops.push(op);
                continue;
            }
            match self.plan(op) {
                Plan::Halve(singles) => self.halve(block, op, &singles)?,
                Plan::Leave => self.keep(block, op)?,
                Plan::Keep(reason) => {
                    let kept = &self.function[op];
                    // An op need not have a name; its outputs have names.
                    let output = kept.outputs.first().map_or("", |&v| &self.function[v].name);
                    let name = if kept.name().is_empty() { output } else { kept.name() };
                    self.report.kept.push(KeptOp {
                        function: self.name.to_owned(),
                        op: kept.kind.name(),
                        name: name.to_owned(),
                        reason,
                    });
                    self.keep(block, op)?;
                }
            }
        }
        let outputs = self.function[block].outputs.clone();
        let is_body = block == self.function.body;
        let mut named: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, value) in outputs.into_iter().enumerate() {
            if self.was_single(value) {
                // A function's outputs keep their names. Names in a nested block do not matter, and its outputs may
                // come from outside it.
                let single = match named.get(&value) {
                    Some(&single) => single,
                    None if is_body || self.is_made_in(block, value) => self.output(block, value),
                    None => self.as_single(block, value),
                };
                named.insert(value, single);
                self.function[block].outputs[i] = single;
            }
        }
        if !is_body {
            (self.half, self.single) = (half, single);
        }
        Ok(())
    }

    fn is_made_in(&self, block: BlockId, value: ValueId) -> bool {
        self.function.defining_op(value).is_some_and(|op| self.function[block].ops.contains(&op))
    }

    /// Returns why a value must not be fp16, if it must not.
    fn unfit_value(&self, value: ValueId) -> Option<String> {
        let too_large = self.observed.largest.get(&value).filter(|&&m| m > LARGEST).map(|largest| {
            let name = &self.function[value].name;
            format!("`{name}` reaches {largest:.3e}, and fp16 ends at {LARGEST}")
        });
        too_large.or_else(|| self.observed.lost.get(&value).cloned())
    }

    fn plan(&self, op: OpId) -> Plan {
        let f = &*self.function;
        let id = op;
        let op = &f[op];
        let Some(version) = op.kind.version(f.opset) else { return Plan::Leave };
        // A cast names its result's type; lists and states have types of their own; blocks are converted separately.
        if matches!(op.kind, OpKind::Cast | OpKind::ConstexprCast)
            || !op.blocks.is_empty()
            || op.kind.effect() == Effect::State
            || op.values().chain(op.outputs.iter().copied()).any(|v| matches!(f[v].ty, Type::List(..)))
        {
            return Plan::Leave;
        }
        // The type variable of the op's data and outputs: that of its first parameter that may be fp32.
        let mut variables = version.params().filter_map(|p| group(op, version, p));
        let data = variables.find(|var| allows(version, Kind::Var(var), DType::Fp32));
        // If no input is fp32, the outputs are fp32 for another reason: because a parameter is left out, say.
        let mut any = false;
        let mut singles = Vec::new();
        for input in &op.inputs {
            let Some(param) = version.param(&input.name) else {
                return Plan::Leave;
            };
            if let Some(var) = group(op, version, param).filter(|&v| Some(v) != data)
                && !op.kind.is_constexpr()
                && self.mixes(op, version, var)
            {
                singles.push(var);
                continue;
            }
            for arg in &input.args {
                let (single, constant) = match arg {
                    Arg::Value(v) => (self.is_single_now(*v), f.const_value(*v)),
                    Arg::Const(c) => (is_single(&c.ty()), Some(c)),
                };
                if !single {
                    continue;
                }
                any = true;
                if let Arg::Value(v) = arg
                    && param.constant
                    && self.is_compressed_in_single(*v)
                {
                    return Plan::Keep(format!("its `{}` is compressed, and stays in fp32", input.name));
                }
                if !allows(version, param.kind, DType::Fp16) {
                    return Plan::Keep(format!("its `{}` cannot be fp16", input.name));
                }
                let is_norm = op.kind.family() == Family::Normalization;
                let epsilon = input.name == "epsilon";
                let unfit = |t| if epsilon { unfit_epsilon(t, is_norm) } else { unfit(t) };
                if let Some(why) = constant.and_then(Value::as_tensor).and_then(unfit) {
                    return Plan::Keep(format!("its `{}` {why}", input.name));
                }
            }
        }
        if !any {
            return Plan::Leave;
        }
        if let Some(name) = self.decisive.get(&id) {
            return Plan::Keep(format!("it decides how often while_loop `{name}` runs"));
        }
        let why = self.around.clone();
        match why.or_else(|| op.outputs.iter().copied().chain(op.values()).find_map(|v| self.unfit_value(v)))
        {
            Some(why) => Plan::Keep(why),
            None => Plan::Halve(singles),
        }
    }

    /// Whether the parameters of a type variable other than the data's should stay in fp32: scalars, and vectors that
    /// do not fit fp16.
    fn mixes(&self, op: &Op, version: &Version, var: &str) -> bool {
        let of_var =
            |input: &&Input| version.param(&input.name).is_some_and(|p| group(op, version, p) == Some(var));
        let mut tensors = Vec::new();
        for arg in op.inputs.iter().filter(of_var).flat_map(|i| &i.args) {
            let constant = match arg {
                Arg::Value(v) => self.function.const_value(*v),
                Arg::Const(c) => Some(c),
            };
            match constant.and_then(Value::as_tensor) {
                Some(t) if t.dtype() == DType::Fp32 && t.shape().len() <= 1 => tensors.push(t),
                _ => return false,
            }
        }
        tensors.iter().all(|t| t.elements() == 1) || tensors.iter().any(|t| unfit(t).is_some())
    }

    fn halve(&mut self, block: BlockId, op: OpId, singles: &[&str]) -> Result<(), Error> {
        let mut inputs = self.function[op].inputs.clone();
        let of = &self.function[op];
        let version = of.kind.version(self.function.opset);
        let stays = |input: &Input| {
            let param = version.and_then(|v| v.param(&input.name));
            let var = param.zip(version).and_then(|(p, v)| group(of, v, p));
            var.is_some_and(|v| singles.contains(&v))
        };
        let stay: Vec<bool> = inputs.iter().map(stays).collect();
        if let (true, &[output]) = (of.kind.is_constexpr(), of.outputs.as_slice()) {
            self.compressed.insert(output, inputs.clone());
        }
        let moving = inputs.iter_mut().zip(stay).filter(|(_, stays)| !stays);
        for arg in moving.flat_map(|(i, _)| &mut i.args) {
            match arg {
                Arg::Value(v) if self.is_single_now(*v) => *v = self.as_half(block, *v)?,
                Arg::Const(Value::Tensor(t)) if t.dtype() == DType::Fp32 => {
                    *t = to_half(t);
                }
                _ => {}
            }
        }
        self.function[op].inputs = inputs;
        let found = output_dtypes(self.function, op).unwrap_or_default();
        for (i, value) in self.function[op].outputs.clone().into_iter().enumerate() {
            // If a parameter stays in fp32, so do the outputs of its type variable.
            let stays = found.get(i).is_some_and(|&dtype| dtype == Some(DType::Fp32));
            if is_single(&self.function[value].ty) && !stays {
                set_dtype(&mut self.function[value].ty, DType::Fp16);
                self.half.insert(value, value);
            }
        }
        self.function[block].ops.push(op);
        Ok(())
    }

    /// Leaves an op in fp32 and casts its inputs back.
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
        let around = self.around.clone();
        if !self.function[op].blocks.is_empty() && self.around.is_none() {
            self.around = self.function[op].outputs.iter().find_map(|&v| self.unfit_value(v));
        }
        for nested in self.function[op].blocks.clone() {
            self.block(nested)?;
        }
        self.around = around;
        self.function[block].ops.push(op);
        Ok(())
    }

    /// Whether the value is a compressed constant that stays in fp32. A cast of it would be no constant.
    fn is_compressed_in_single(&self, value: ValueId) -> bool {
        let made = self.function.defining_op(value).map(|op| self.function[op].kind);
        made.is_some_and(|kind| kind.is_constexpr() && kind != OpKind::ConstexprCast)
            && !self.was_single(value)
    }

    /// Whether the value was fp32 in the original program.
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
        if let Some(source) = self.stored_half(value) {
            let name = self.fresh(format!("{}_source", self.function[value].name));
            let (op, half) = self.function.make_const(name, source.into());
            self.function[block].ops.push(op);
            self.half.insert(value, half);
            return Ok(half);
        }
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

    /// Returns the fp16 tensor that a `constexpr_cast` converts to fp32.
    fn stored_half(&self, value: ValueId) -> Option<Tensor> {
        let op = &self.function[self.function.defining_op(value)?];
        let source = match op.args(param!(ConstexprCast.source_val)) {
            [Arg::Const(c)] => c.as_tensor(),
            [Arg::Value(v)] => self.function.const_value(*v)?.as_tensor(),
            _ => None,
        };
        source.filter(|_| op.kind == OpKind::ConstexprCast).cloned()
    }

    fn as_single(&mut self, block: BlockId, value: ValueId) -> ValueId {
        if let Some(&single) = self.single.get(&value) {
            return single;
        }
        let name = self.fresh(format!("{}_to_fp32", self.function[value].name));
        let single = match self.compressed.get(&value).cloned() {
            // A cast is no constant, as weights have to be.
            Some(inputs) => self.again(block, value, inputs, name),
            None => self.cast(block, value, DType::Fp32, name),
        };
        self.single.insert(value, single);
        single
    }

    /// A compressed constant once more, in fp32.
    fn again(&mut self, block: BlockId, value: ValueId, inputs: Vec<Input>, name: String) -> ValueId {
        let mut ty = self.function[value].ty.clone();
        set_dtype(&mut ty, DType::Fp32);
        let kind = self.function.defining_op(value).map_or(OpKind::Identity, |op| self.function[op].kind);
        let op = self.function.push_op(block, kind, inputs, [(name.clone(), ty)]);
        self.function[op].attributes.insert("name".into(), Value::string(name));
        self.function[op].outputs[0]
    }

    /// Returns an output of a block in fp32. It keeps the name, and the fp16 value is renamed.
    fn output(&mut self, block: BlockId, value: ValueId) -> ValueId {
        let name = self.function[value].name.clone();
        self.function[value].name = self.fresh(format!("{name}_fp16"));
        match self.single.get(&value) {
            // The cast exists already, for another use: it takes over the name.
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
        let inputs = vec![Input::value(param!(Cast.x), value), Input::value(param!(Cast.dtype), dtype)];
        let op = self.function.push_op(block, OpKind::Cast, inputs, [(name.clone(), ty)]);
        self.function[op].attributes.insert("name".into(), Value::string(format!("{name}_cast")));
        self.function[op].outputs[0]
    }

    /// Returns a name that is not in use.
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
        let half = to_half(&tensor);
        let loss = Loss::of_slices(&values, &values, DType::Fp16);
        let mut report = WeightReport::new(self.name, name, &tensor);
        report.bytes_after = half.bytes().len();
        (report.snr_db, report.max_error) = (Some(loss.snr_db()), loss.max);
        self.report.weights.push(report);
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

/// Returns the type variable that a parameter's element type must agree with. MIL lets the epsilon of a normalization
/// differ, but other readers of the file want the type of `gamma`, and before iOS17 that of the data.
fn group(op: &Op, version: &Version, param: &Param) -> Option<&'static str> {
    let variable = |p: &Param| match p.kind {
        Kind::Var(var) => Some(var),
        _ => None,
    };
    if param.name == "epsilon" && op.kind.family() == Family::Normalization {
        let gamma = version.param("gamma");
        let data = version.params().next().filter(|_| version.opset < Opset::Ios17);
        if let Some(other) = gamma.or(data) {
            return variable(other);
        }
    }
    variable(param)
}

fn allows(version: &Version, kind: Kind, dtype: DType) -> bool {
    match kind {
        Kind::Var(var) => version.allows(var, dtype),
        Kind::Of(types) => types.contains(&dtype),
        _ => false,
    }
}

/// Returns why a constant cannot be fp16, if it cannot: a number overflows, or all are so small that they vanish or
/// keep hardly any digits.
fn unfit(tensor: &Tensor) -> Option<String> {
    /// The largest relative error of the largest number. Rounding a normal fp16 number costs far less: at most 1/2048.
    const MOST_LOST: f32 = 0.01;
    let mut largest = 0f32;
    for &x in &*float_values(tensor) {
        if f16::from_f32(x).is_infinite() && x.is_finite() {
            return Some(format!("has {x:e}, and fp16 ends at {LARGEST}"));
        }
        largest = largest.max(x.abs());
    }
    let half = f16::from_f32(largest).to_f32();
    if half == 0.0 && largest > 0.0 {
        return Some(format!("is {largest:e}, which is 0 in fp16"));
    }
    ((half - largest).abs() > MOST_LOST * largest)
        .then(|| format!("is {largest:e}, which is {half:e} in fp16"))
}

/// Returns why an epsilon cannot be fp16. It need not be exact, but it must not vanish. The epsilon of a normalization
/// becomes the least fp16 number instead: it only matters for variances that are nearly zero themselves.
fn unfit_epsilon(tensor: &Tensor, is_norm: bool) -> Option<String> {
    match float_values(tensor)[..] {
        [x] if is_norm || f16::from_f32(x) != f16::ZERO => None,
        _ => unfit(tensor),
    }
}

/// Converts a constant to fp16. A single number above 0 does not become 0.
fn to_half(tensor: &Tensor) -> Tensor {
    let values = float_values(tensor);
    let least = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
    match values[..] {
        [x] if x > 0.0 && x < least => float_tensor(&[least], tensor.shape(), DType::Fp16),
        _ => float_tensor(&values, tensor.shape(), DType::Fp16),
    }
}

/// Gives the names of fp32 constants without uses to the fp16 constants that replaced them.
fn hand_names_on(function: &mut Function, half: &HashMap<ValueId, ValueId>) {
    let uses = function.use_counts();
    for (&single, &half) in half {
        if single != half && function.const_value(half).is_some() && uses[single.index()] == 0 {
            let name = std::mem::take(&mut function[single].name);
            function[single].name = std::mem::replace(&mut function[half].name, name.clone());
            for (value, name) in [(single, function[single].name.clone()), (half, name)] {
                if let Some(op) = function.defining_op(value) {
                    function[op].attributes.insert("name".into(), Value::string(name));
                }
            }
        }
    }
}

/// Sets the types of outputs to those that inference finds: for some ops, the declaration does not determine them.
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
