//! Replaces constants by compressed weights.

use std::collections::{HashMap, HashSet};

use milwright_mil::{Arg, DType, Function, Input, OpId, OpKind, Opset, Tensor, Value, ValueId};

use crate::code::{Coded, ConstexprOp, Data, FloatWeight, Source};
use crate::compression::{Compression, Step};
use crate::config::Config;
use crate::gptq::{self, Inverse, Rows};
use crate::loss::Loss;
use crate::moments::{Moments, Observed};
use crate::read::{address, read};
use crate::weights::{LEAST, Product, Weight, product, prunes_in_patterns, vector_limit};
use crate::{Error, Store, float_values};

/// The result for one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightReport {
    /// The function that the weight is in.
    pub function: String,
    /// The name of the weight: of the `const` op's output.
    pub name: String,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// The element type before.
    pub dtype: DType,
    /// Bytes before.
    pub bytes_before: usize,
    /// Bytes after: data, scales and palettes together.
    pub bytes_after: usize,
    /// The signal-to-noise ratio of the weight's elements, in dB. Infinite if nothing was lost; `None` if the weight
    /// was left alone.
    pub snr_db: Option<f64>,
    /// The largest absolute error of an element.
    pub max_error: f64,
    /// What was done, as [`Compression`] writes it; `None` if the weight was left alone.
    pub form: Option<String>,
    /// The signal-to-noise ratio of what the weight makes of the inputs that were observed, in dB; `None` if none were.
    pub output_snr_db: Option<f64>,
    /// The reason why the weight was left alone, if it was.
    pub skipped: Option<String>,
}

impl WeightReport {
    /// The report of a weight that is left alone.
    pub(crate) fn new(function: &str, name: &str, tensor: &Tensor) -> WeightReport {
        WeightReport {
            function: function.to_owned(),
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            bytes_before: tensor.bytes().len(),
            bytes_after: tensor.bytes().len(),
            snr_db: None,
            max_error: 0.0,
            form: None,
            output_snr_db: None,
            skipped: None,
        }
    }

    /// The report of a compressed weight that is left alone.
    fn of_compressed(function: &str, f: &Function, weight: &Weight, why: String) -> WeightReport {
        let ty = f[weight.value].ty.as_tensor();
        WeightReport {
            function: function.to_owned(),
            name: f[weight.value].name.clone(),
            shape: ty.and_then(|t| t.fixed_shape()).unwrap_or_default(),
            dtype: ty.map_or(DType::Fp32, |t| t.dtype),
            bytes_before: 0,
            bytes_after: 0,
            snr_db: None,
            max_error: 0.0,
            form: None,
            output_snr_db: None,
            skipped: Some(why),
        }
    }
}

/// Compresses the weights of a program's functions, one at a time. A weight that several functions share is compressed
/// once for each form of `constexpr_*` ops that their opsets have.
#[derive(Debug)]
pub(crate) struct Compressor<'a> {
    config: &'a Config,
    inputs: &'a Observed,
    known: &'a mut Compressed,
}

/// Weights that were compressed before, so that a program can be compressed in many ways without doing the same twice.
/// All programs that it serves must share their weights, which have to stay in memory.
#[derive(Debug, Default)]
pub struct Compressed {
    done: HashMap<Identity, Result<Done, String>>,
    /// What GPTQ computes from the inputs of a weight, of the weight that was compressed last.
    inverse: Option<((String, String), Option<Inverse>)>,
}

/// What makes two weights one: address, shape, element type, output and input axes, the opset of the `constexpr_*`
/// form, and the compression; and if its inputs were observed, the function and the name. Addresses are unique because
/// all weights of a program are in memory until the last is compressed.
type Identity = (usize, Vec<usize>, DType, [Option<usize>; 3], Opset, String, Option<(String, String)>);

/// A weight that is compressed already.
struct Start {
    coded: Coded,
    /// The address of its data.
    address: usize,
    /// Its bytes.
    bytes: usize,
}

/// A compressed weight.
#[derive(Clone, Debug)]
struct Done {
    ops: Vec<ConstexprOp>,
    loss: Loss,
    output_snr_db: Option<f64>,
    /// What the mean of each output loses, with inputs observed.
    bias: Vec<f64>,
}

impl<'a> Compressor<'a> {
    pub fn new(config: &'a Config, inputs: &'a Observed, known: &'a mut Compressed) -> Compressor<'a> {
        Compressor { config, inputs, known }
    }

    /// Compresses every weight of a function.
    pub fn compress(
        &mut self,
        name: &str,
        function: &mut Function,
        store: &mut dyn Store,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<WeightReport>, Error> {
        let mut chosen: Vec<(Weight, &Compression, bool)> = Vec::new();
        for weight in self.config.candidates(function) {
            let (Some(compression), named) = self.config.of(function, &weight)? else { continue };
            let elements = function[weight.value].ty.as_tensor().and_then(|t| t.elements()).unwrap_or(0);
            let is_compressed = function[weight.op].kind != OpKind::Const;
            if !compression.steps.is_empty()
                && elements > compression.min_elements
                && (compression.joint || !is_compressed)
            {
                chosen.push((weight, compression, named));
            }
        }
        let needed = chosen.iter().map(|(_, c, _)| c.min_opset()).max();
        let Some(needed) = needed else { return Ok(Vec::new()) };
        crate::raise::raise(function, needed);
        let mut insertions = Insertions::new(function);
        let mut reports = Vec::with_capacity(chosen.len());
        for (weight, compression, named) in chosen {
            let constant = function.const_value(weight.value).and_then(Value::as_tensor).cloned();
            let (tensor, start) = match constant {
                Some(tensor) => (tensor, None),
                None => match read(function, weight.op) {
                    Ok(coded) => {
                        let values = coded.decode();
                        let start = Start {
                            address: address(function, weight.op),
                            bytes: bytes(&coded.clone().ops(Opset::Ios18)),
                            coded,
                        };
                        (crate::float_tensor(&values, &start.coded.shape, start.coded.dtype), Some(start))
                    }
                    Err(why) => {
                        reports.push(WeightReport::of_compressed(name, function, &weight, why));
                        continue;
                    }
                },
            };
            let mut report = WeightReport::new(name, &function[weight.value].name, &tensor);
            if let Some(start) = &start {
                (report.bytes_before, report.bytes_after) = (start.bytes, start.bytes);
            }
            let shape = tensor.shape().to_vec();
            let described = FloatWeight {
                values: &[],
                shape: &shape,
                dtype: tensor.dtype(),
                output_axis: weight.output_axis,
                input_axis: weight.input_axis,
                vector_limit: vector_limit(function, &weight, &shape),
                prunes_in_patterns: named && shape.len() <= 5 || prunes_in_patterns(function, &weight),
            };
            let product = product(function, &weight);
            let key = (name.to_owned(), function[weight.value].name.clone());
            let is_plain = start.is_none();
            let observed = self
                .inputs
                .get(&key)
                .filter(|_| is_plain)
                .zip(product.as_ref())
                .filter(|(m, p)| m.size() == p.columns);
            let observed = observed.map(|(moments, product)| (key, moments, product));
            let opset = function.opset;
            match self.compress_one(&tensor, start, described, compression, opset, observed, store)? {
                Ok(done) => {
                    report.output_snr_db = done.output_snr_db;
                    if let Some(product) =
                        product.filter(|_| weight.users.len() == 1 && !done.bias.is_empty())
                    {
                        insertions.correct(function, &weight, product.user, &done.bias);
                    }
                    report.bytes_after = bytes(&done.ops);
                    (report.snr_db, report.max_error) = (Some(done.loss.snr_db()), done.loss.max);
                    let one =
                        Compression { min_elements: crate::weights::MIN_ELEMENTS, ..compression.clone() };
                    report.form = Some(Compression { dense: false, float16: false, ..one }.to_string());
                    insertions.put(function, &weight, done.ops);
                }
                Err(why) => report.skipped = Some(why),
            }
            reports.push(report);
            progress(tensor.elements());
        }
        insertions.finish(function);
        Ok(reports)
    }

    /// Returns the compressed weight, or why it is left alone.
    #[expect(clippy::too_many_arguments, reason = "it is called once, with what is known of a weight")]
    fn compress_one(
        &mut self,
        tensor: &Tensor,
        start: Option<Start>,
        weight: FloatWeight<'_>,
        compression: &Compression,
        opset: Opset,
        observed: Option<((String, String), &Moments, &Product)>,
        store: &mut dyn Store,
    ) -> Result<Result<Done, String>, Error> {
        let form = constexpr_form(opset);
        let axes = [weight.output_axis, weight.input_axis, weight.vector_limit];
        let address = start.as_ref().map_or_else(|| tensor.bytes().as_ptr().addr(), |start| start.address);
        let key = observed.as_ref().map(|(key, ..)| key.clone());
        let identity =
            (address, tensor.shape().to_vec(), tensor.dtype(), axes, form, compression.to_string(), key);
        if let Some(done) = self.known.done.get(&identity) {
            return Ok(done.clone());
        }
        let mut done = self.code(tensor, start, weight, compression, form, observed);
        for op in done.iter_mut().flat_map(|done| &mut done.ops) {
            for (_, source) in &mut op.inputs {
                if let Source::Tensor(tensor) = source {
                    *tensor = store.store(tensor.clone())?;
                }
            }
        }
        self.known.done.insert(identity, done.clone());
        Ok(done)
    }

    /// Compresses a weight.
    ///
    /// # Errors
    /// It is left alone; the text says why.
    fn code(
        &mut self,
        tensor: &Tensor,
        start: Option<Start>,
        weight: FloatWeight<'_>,
        compression: &Compression,
        form: Opset,
        observed: Option<((String, String), &Moments, &Product)>,
    ) -> Result<Done, String> {
        let dtype = tensor.dtype();
        let values = float_values(tensor);
        if !values.iter().all(|x| x.is_finite()) {
            return Err("has NaN or infinity".into());
        }
        let weight = FloatWeight { values: &values, ..weight };
        let mut coded = match start {
            Some(start) => {
                if let (Data::Palette(tables), [Step::Linear(_), ..]) =
                    (&start.coded.data, &compression.steps[..])
                    && tables.values.len() < LEAST
                {
                    // As in coremltools: there is nothing to save.
                    return Err(format!("its table has fewer than {LEAST} values"));
                }
                steps_after(start.coded, &weight, &compression.steps, form)?
            }
            None => encode(&weight, &compression.steps, form)?,
        };
        let (mut output_snr_db, mut bias) = (None, Vec::new());
        if let Some((key, moments, product)) = observed {
            let rows = Rows { rows: product.rows, columns: product.columns, transposed: product.transposed };
            let plain = coded.clone();
            let measure = |coded: &Coded| {
                let decoded = rounded(coded.decode(), dtype);
                (gptq::output_snr_db(&values, &decoded, rows, moments), decoded)
            };
            let (before, mut decoded) = measure(&coded);
            output_snr_db = Some(before);
            let inverse = match &mut self.known.inverse {
                Some((of, inverse)) if *of == key => inverse,
                other => &mut other.insert((key, Inverse::new(moments))).1,
            };
            if inverse.as_ref().is_some_and(|inverse| gptq::round(&mut coded, &weight, rows, inverse)) {
                let (after, new) = measure(&coded);
                if after > before {
                    (output_snr_db, decoded) = (Some(after), new);
                } else {
                    coded = plain;
                }
            }
            bias = gptq::bias(&values, &decoded, rows, moments);
        }
        let loss = coded.loss(&values);
        drop(values);
        let ops = coded.ops(form);
        if bytes(&ops) >= tensor.bytes().len() && !matches!(compression.steps[..], [Step::Prune(_)]) {
            return Err("would not become smaller".into());
        }
        Ok(Done { ops, loss, output_snr_db, bias })
    }
}

/// Values as they are in the element type.
fn rounded(values: Vec<f32>, dtype: DType) -> Vec<f32> {
    if dtype == DType::Fp16 {
        crate::to_f32(&crate::float_tensor(&values, &[values.len()], dtype))
    } else {
        values
    }
}

/// The bytes of the constants of these ops.
fn bytes(ops: &[ConstexprOp]) -> usize {
    let inputs = ops.iter().flat_map(|op| &op.inputs);
    let bytes = inputs.map(|(_, source)| match source {
        Source::Tensor(tensor) => tensor.bytes().len(),
        Source::Output(..) => 0,
    });
    bytes.sum()
}

/// Takes the steps one after the other.
///
/// # Errors
/// A step does not suit the weight.
pub(crate) fn encode(weight: &FloatWeight<'_>, steps: &[Step], opset: Opset) -> Result<Coded, String> {
    let (shape, dtype) = (weight.shape.to_vec(), weight.dtype);
    let start = Coded { shape, dtype, mask: None, data: Data::Dense(Vec::new()) };
    steps_after(start, weight, steps, opset)
}

/// Takes the steps after those that made a compressed weight.
///
/// # Errors
/// A step does not suit it.
fn steps_after(
    mut coded: Coded,
    weight: &FloatWeight<'_>,
    steps: &[Step],
    opset: Opset,
) -> Result<Coded, String> {
    for step in steps {
        let is_empty = coded.mask.as_ref().is_some_and(|mask| !mask.contains(&true));
        if is_empty && !matches!(step, Step::Prune(_)) {
            return Err("has nothing left to compress".into());
        }
        coded.data = match (step, std::mem::replace(&mut coded.data, Data::Dense(Vec::new()))) {
            (Step::Prune(_), Data::Dense(_)) if coded.mask.is_some() => {
                return Err("a step cannot follow one of its kind".into());
            }
            (Step::Prune(prune), Data::Dense(_)) => {
                let mask = prune.mask(weight.values, weight)?;
                let kept = weight.values.iter().zip(&mask).map(|(x, m)| if *m { *x } else { 0.0 }).collect();
                coded.mask = Some(mask);
                Data::Dense(kept)
            }
            (Step::Prune(_), Data::Palette(tables)) if tables.vector > 1 => {
                return Err("vectors are pruned first, and become a palette then".into());
            }
            (Step::Prune(prune), data) => {
                coded.data = data;
                let mask = prune.mask(&coded.decode(), weight)?;
                // coremltools cannot read a tensor of no elements that are smaller than a byte.
                let is_small = match &coded.data {
                    Data::Linear(scaled) => scaled.dtype.bits() < 8,
                    Data::Palette(tables) => tables.bits < 8,
                    Data::Dense(_) => false,
                };
                if is_small && !mask.contains(&true) {
                    coded.data = Data::Dense(vec![0.0; mask.len()]);
                }
                coded.mask = Some(mask);
                continue;
            }
            (Step::Linear(linear), Data::Dense(pruned)) => {
                let values = if coded.mask.is_some() { &pruned } else { weight.values };
                Data::Linear(linear.quantize(values, weight)?)
            }
            (Step::Linear(_), Data::Palette(tables)) if tables.scaled.is_some() => {
                return Err("a step cannot follow one of its kind".into());
            }
            (Step::Linear(linear), Data::Palette(mut tables)) => {
                tables.quantize(linear, weight.values, weight);
                Data::Palette(tables)
            }
            (Step::Palette(palette), Data::Dense(pruned)) => {
                let values = if coded.mask.is_some() { &pruned } else { weight.values };
                let three = opset >= Opset::Ios18;
                let (tables, mask) = palette.look_up(values, coded.mask.as_deref(), weight, three)?;
                coded.mask = mask;
                Data::Palette(tables)
            }
            (Step::Palette(palette), Data::Linear(scaled)) => {
                Data::Palette(palette.of_integers(&scaled, weight)?)
            }
            (Step::Linear(_), Data::Linear(_)) => return Err("a step cannot follow one of its kind".into()),
            (Step::Palette(_), Data::Palette(_)) => return Err("a step cannot follow one of its kind".into()),
        };
    }
    Ok(coded)
}

/// Gives names to float constants of two or more dimensions that are written into the ops that use them: importers and
/// graph passes leave such, and only constants with names are weights. Returns how many there were.
pub fn name_constants(function: &mut Function) -> usize {
    let mut insertions = Insertions::new(function);
    for op in function.walk() {
        if function[op].kind.is_constexpr() || function[op].kind == OpKind::Const {
            continue;
        }
        let output = function[op].outputs.first().map_or("", |&v| function[v].name.as_str()).to_owned();
        for at in 0..function[op].inputs.len() {
            let input = &function[op].inputs[at];
            let [Arg::Const(value)] = &input.args[..] else { continue };
            let Some(tensor) = value.as_tensor().filter(|t| t.shape().len() >= 2) else { continue };
            if !matches!(tensor.dtype(), DType::Fp16 | DType::Fp32) || tensor.elements() < LEAST {
                continue;
            }
            let (value, name) = (value.clone(), insertions.unique(format!("{output}_{}", input.name)));
            let (new, value) = function.make_const(name, value);
            function[op].inputs[at].args = vec![Arg::Value(value)];
            insertions.before.entry(op).or_default().push(new);
        }
    }
    let count = insertions.before.values().map(Vec::len).sum();
    insertions.finish(function);
    count
}

/// Ops that go before the constants that they replace.
struct Insertions {
    names: HashSet<String>,
    before: HashMap<OpId, Vec<OpId>>,
}

impl Insertions {
    fn new(function: &Function) -> Insertions {
        let mut names: HashSet<String> = HashSet::new();
        let mut add = |values: &[ValueId]| names.extend(values.iter().map(|&v| function[v].name.clone()));
        add(&function.inputs);
        for op in function.walk() {
            add(&function[op].outputs);
            function[op].blocks.iter().for_each(|&b| add(&function[b].inputs));
        }
        Insertions { names, before: HashMap::new() }
    }

    /// Replaces a constant. The last op takes the place of the `const`, under its name and value, so that nothing else
    /// changes.
    fn put(&mut self, function: &mut Function, weight: &Weight, ops: Vec<ConstexprOp>) {
        let base = function[weight.value].name.clone();
        let mut outputs: Vec<Vec<ValueId>> = Vec::new();
        let last = ops.len() - 1;
        for (i, op) in ops.into_iter().enumerate() {
            let input = |(name, source): (&'static str, Source)| match source {
                Source::Tensor(tensor) => Input::constant(name, tensor),
                Source::Output(op, output) => {
                    Input { name: name.into(), args: vec![Arg::Value(outputs[op][output])] }
                }
            };
            let inputs = op.inputs.into_iter().map(input).collect();
            if i == last {
                let target = &mut function[weight.op];
                target.kind = op.kind;
                target.inputs = inputs;
                target.attributes.shift_remove("val");
                break;
            }
            let named: Vec<_> =
                op.outputs.into_iter().map(|(end, ty)| (self.unique(format!("{base}_{end}")), ty)).collect();
            let name = named.first().map(|(name, _)| name.clone()).unwrap_or_default();
            let new = function.make_op(op.kind, inputs, named);
            function[new].attributes.insert("name".into(), Value::string(name));
            outputs.push(function[new].outputs.clone());
            self.before.entry(weight.op).or_default().push(new);
        }
    }

    /// Adds what the means of outputs lose to the bias of a `linear` or `conv`, which gets one if it has none.
    fn correct(&mut self, function: &mut Function, weight: &Weight, user: OpId, lost: &[f64]) {
        let kind = function[user].kind;
        if !matches!(kind, OpKind::Linear | OpKind::Conv) || lost.iter().any(|x| !x.is_finite()) {
            return;
        }
        const BIAS: &str = "bias";
        let Some(dtype) = function[weight.value].ty.as_tensor().map(|t| t.dtype) else { return };
        let old = match function[user].args(BIAS) {
            [] => vec![0.0; lost.len()],
            [Arg::Const(value)] => value.as_tensor().map(Tensor::to_f64).unwrap_or_default(),
            [Arg::Value(value)] => function
                .const_value(*value)
                .and_then(Value::as_tensor)
                .map(Tensor::to_f64)
                .unwrap_or_default(),
            _ => return,
        };
        // One value for all outputs is repeated.
        let old = if old.len() == 1 { vec![old[0]; lost.len()] } else { old };
        if old.len() != lost.len() {
            return;
        }
        let new: Vec<f32> = old.iter().zip(lost).map(|(b, l)| (b + l) as f32).collect();
        let new = crate::float_tensor(&new, &[new.len()], dtype);
        let name = self.unique(format!("{}_corrected_bias", function[weight.value].name));
        let (op, value) = function.make_const(name, new.into());
        function[user].inputs.retain(|i| i.name != BIAS);
        function[user].inputs.push(Input::value(BIAS, value));
        self.before.entry(weight.op).or_default().push(op);
    }

    fn unique(&mut self, name: String) -> String {
        let mut candidate = name.clone();
        let mut number = 0;
        while !self.names.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{name}_{number}");
        }
        candidate
    }

    fn finish(self, function: &mut Function) {
        if self.before.is_empty() {
            return;
        }
        let mut blocks = vec![function.body];
        blocks.extend(function.walk().iter().flat_map(|&op| function[op].blocks.clone()));
        for block in blocks {
            let ops = std::mem::take(&mut function[block].ops);
            let with = |op: OpId| {
                let mut all = self.before.get(&op).cloned().unwrap_or_default();
                all.push(op);
                all
            };
            function[block].ops = ops.into_iter().flat_map(with).collect();
        }
    }
}

/// Returns the opset that introduced the form that `constexpr_*` ops have in `opset`.
fn constexpr_form(opset: Opset) -> Opset {
    if opset >= Opset::Ios18 { Opset::Ios18 } else { Opset::Ios16 }
}

#[cfg(test)]
mod tests {
    use milwright_mil::text::{parse, print};
    use milwright_mil::verify;

    use super::*;
    use crate::weights::candidates;

    /// A constant inside an op gets a name that is free; vectors, and what a `constexpr_*` op is made of, stay.
    #[test]
    fn constants_inside_ops_become_weights() {
        let text = "program(1.3) { func main<ios16>(tensor<fp32, [1, 4]> x, tensor<fp32, [1]> y_weight) {
            tensor<fp32, [1, 3]> y = linear(x = x, weight = tensor<fp32, [3, 4]>([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]), bias = tensor<fp32, [3]>([1, 2, 3]))[name = string(\"y\")];
            tensor<fp32, [1, 3]> z = mul(x = y, y = y_weight)[name = string(\"z\")];
        } -> (z); }";
        let mut program = parse(text).unwrap();
        let function = &mut program.functions["main"];
        assert!(candidates(function).is_empty());
        assert_eq!(name_constants(function), 1);
        assert_eq!(name_constants(function), 0);
        let weights = candidates(function);
        assert_eq!(function[weights[0].value].name, "y_weight_1");
        assert_eq!(weights.len(), 1);
        let printed = print(&program);
        verify(program).unwrap_or_else(|e| panic!("{e}: {printed}"));
    }
}
