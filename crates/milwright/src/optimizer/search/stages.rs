//! Runs choices of forms in stages, so that only what a choice changes is compiled and run.
//!
//! The program is cut before each op that uses a weight. A stage is compiled once for each choice of forms of its own
//! weights. What crosses the cuts is kept for each sample: with nothing compressed, and with the choice that was
//! [held](Stages::hold). A choice starts from the one of these that it shares the most stages with, and stages whose
//! inputs did not change are not run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use milwright_mil::engine::{CompileOptions, Executable, ExecuteOptions, RunOptions};
use milwright_mil::{
    Arg, Attributes, Checked, Def, Function, OpId, OpKind, Program, Tensor, Type, ValueId, verify,
};

use super::path::Choice;
use crate::classifier::Classifier;
use crate::target::reference_engine;
use crate::{Error, ErrorKind, InferenceRequest, LoadOptions, Precision, Prediction, Result};

/// The most bytes of values that are kept for samples; longer stages keep fewer.
const KEPT_BYTES: usize = 1 << 30;

/// The most bytes of weights of stages that are kept ready.
const READY_BYTES: u64 = 1 << 30;

/// The most stages.
const MOST_STAGES: usize = 256;

/// A program in stages.
pub(super) struct Stages {
    /// The program with nothing compressed, of one function, without the op that names classes.
    pub program: Program,
    function: String,
    classifier: Option<Classifier>,
    stages: Vec<Stage>,
    outputs: Vec<ValueId>,
    load: LoadOptions,
    threads: usize,
    /// The values of each sample with nothing compressed, and with the choice that is held.
    base: Held,
    held: Option<Held>,
    /// The choice that ran last.
    last: Option<Held>,
    /// What is ready to run: a stage, and the forms of its weights.
    ready: HashMap<(usize, Vec<Option<usize>>), Ready>,
    clock: u64,
}

/// A run of consecutive ops.
struct Stage {
    ops: Vec<OpId>,
    /// What it takes from inputs and earlier stages.
    inputs: Vec<ValueId>,
    /// What later stages, or the caller, take of it.
    outputs: Vec<ValueId>,
    /// The weights that its ops use, by their place in the choice.
    weights: Vec<usize>,
    /// Its share of the time of a run.
    share: f64,
}

struct Ready {
    executable: Arc<dyn Executable>,
    bytes: u64,
    used: u64,
}

/// The values that cross cuts, of each sample.
type Values = HashMap<ValueId, Tensor>;

/// What a choice gives. The values of unchanged stages are those of the base.
struct Held {
    choice: Choice,
    values: Vec<Values>,
}

impl Stages {
    /// Cuts a program, and runs it on the samples with nothing compressed. `weights` are the names of what can be
    /// compressed, in the order of choices. `None` if it cannot be cut: it has states, or values that are no tensors; or
    /// samples differ in shape.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn new(
        program: &Program,
        function: &str,
        weights: &[&str],
        requests: &[InferenceRequest],
        load: &LoadOptions,
    ) -> Result<Option<Stages>> {
        let mut program = program.clone();
        program.functions.retain(|name, _| name == function);
        if load.precision != Precision::Declared || !program.functions.contains_key(function) {
            return Ok(None);
        }
        let detached = Classifier::detach(&verify(program.clone())?, function)?;
        let (program, classifier) = match detached {
            Some((program, classifier)) => (program.into_inner(), Some(classifier)),
            None => (program, None),
        };
        let f = &program.functions[function];
        let Some(base) = samples(f, requests) else { return Ok(None) };
        let Some(stages) = cut(f, weights, base.len()) else { return Ok(None) };
        let outputs = f[f.body].outputs.clone();
        let threads = match load.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let nothing = vec![None; weights.len()];
        let mut found = Stages {
            function: function.to_owned(),
            classifier,
            stages,
            outputs,
            load: load.clone(),
            threads,
            base: Held { choice: nothing.clone(), values: base },
            held: None,
            last: None,
            ready: HashMap::new(),
            clock: 0,
            program,
        };
        // The first run, and what each stage takes of it.
        let mut times = vec![0f64; found.stages.len()];
        let mut values = std::mem::take(&mut found.base.values);
        let count = values.len();
        for (at, time) in times.iter_mut().enumerate() {
            let program = found.program.clone();
            let executable =
                found.executable(at, vec![None; found.stages[at].weights.len()], &program, &values)?;
            let start = Instant::now();
            let made = found.run_stage(at, &*executable, &values, None, count)?;
            *time = start.elapsed().as_secs_f64();
            values.iter_mut().zip(made).for_each(|(values, made)| values.extend(made));
        }
        let all = times.iter().sum::<f64>().max(1e-9);
        found.stages.iter_mut().zip(times).for_each(|(stage, time)| stage.share = time / all);
        found.base.values = values;
        Ok(Some(found))
    }

    /// Runs a choice on the first `count` samples. `compress` makes the program in which only the weights at the given
    /// places are compressed. Returns the predictions, and how many runs of the whole program they were worth.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn run(
        &mut self,
        choice: &Choice,
        count: usize,
        compress: &mut dyn FnMut(&Program, &[usize]) -> Result<Program>,
    ) -> Result<(Vec<Prediction>, f64)> {
        let count = count.min(self.base.values.len());
        let same =
            |held: &Held, at: usize| self.stages[at].weights.iter().all(|&w| held.choice[w] == choice[w]);
        // The first stage that differs from what is held; a choice that is held for fewer samples is of no use.
        let differs = |held: &Held| (0..self.stages.len()).find(|&at| !same(held, at));
        let of_held = self.held.as_ref().filter(|h| h.values.len() >= count);
        let from_held = of_held.map(|held| differs(held).unwrap_or(self.stages.len()));
        let from_base = differs(&self.base).unwrap_or(self.stages.len());
        let (first, mut changed) = match (from_held, of_held) {
            (Some(at), Some(held)) if at > from_base => {
                // What stages before it have changed.
                let made: HashSet<ValueId> =
                    self.stages[..at].iter().flat_map(|s| s.outputs.iter().copied()).collect();
                let keep = |values: &Values| {
                    values.iter().filter(|(v, _)| made.contains(v)).map(|(v, t)| (*v, t.clone())).collect()
                };
                (at, held.values[..count].iter().map(keep).collect::<Vec<Values>>())
            }
            _ => (from_base, vec![Values::new(); count]),
        };
        let mut cost = 0.0;
        for at in first..self.stages.len() {
            let is_changed = self.stages[at].inputs.iter().any(|v| changed.iter().any(|c| c.contains_key(v)));
            let forms: Vec<Option<usize>> = self.stages[at].weights.iter().map(|&w| choice[w]).collect();
            if !is_changed && forms.iter().all(Option::is_none) {
                continue;
            }
            self.load.cancel.check()?;
            let executable = match self.known(at, &forms) {
                Some(known) => known,
                None => {
                    let program = compress(&self.program, &self.stages[at].weights)?;
                    let base = std::mem::take(&mut self.base.values);
                    let made = self.executable(at, forms, &program, &base);
                    self.base.values = base;
                    made?
                }
            };
            let made = self.run_stage(at, &*executable, &self.base.values, Some(&changed), count)?;
            changed.iter_mut().zip(made).for_each(|(values, made)| values.extend(made));
            cost += self.stages[at].share * count as f64;
        }
        let f = &self.program.functions[&self.function];
        let predictions = (0..count).map(|i| {
            let value = |v: &ValueId| changed[i].get(v).or_else(|| self.base.values[i].get(v)).cloned();
            let outputs = self.outputs.iter().filter_map(|v| Some((f[*v].name.clone(), value(v)?))).collect();
            match &self.classifier {
                Some(classifier) => classifier.finish(outputs),
                None => Prediction::new(outputs),
            }
        });
        let predictions = predictions.collect();
        self.last = Some(Held { choice: choice.clone(), values: changed });
        Ok((predictions, cost))
    }

    /// Holds what a choice gave, if it ran last, because the next ones will be like it.
    pub fn hold(&mut self, choice: &Choice) {
        if self.last.as_ref().is_some_and(|last| last.choice == *choice) {
            self.held = self.last.take();
        }
    }

    fn known(&mut self, at: usize, forms: &[Option<usize>]) -> Option<Arc<dyn Executable>> {
        self.clock += 1;
        let ready = self.ready.get_mut(&(at, forms.to_vec()))?;
        ready.used = self.clock;
        Some(Arc::clone(&ready.executable))
    }

    /// Makes a stage of a program ready.
    fn executable(
        &mut self,
        at: usize,
        forms: Vec<Option<usize>>,
        program: &Program,
        values: &[Values],
    ) -> Result<Arc<dyn Executable>> {
        let stage = &self.stages[at];
        let checked = self.extract(stage, program)?;
        let f = &self.program.functions[&self.function];
        let first = values.first();
        let shapes: Vec<(&str, &[usize])> = stage
            .inputs
            .iter()
            .filter_map(|&v| Some((f[v].name.as_str(), first?.get(&v)?.shape())))
            .collect();
        let stop = || self.load.cancel.is_cancelled();
        let limits = CompileOptions { memory: self.load.limits.memory, cancel: Some(&stop) };
        let plan = reference_engine()
            .compile(&checked, &self.function, &shapes, limits)
            .map_err(|e| self.load.cancel.check().err().unwrap_or_else(|| unusable(&e)))?;
        let execute = ExecuteOptions { threads: 1, memory: self.load.limits.memory };
        let executable = plan.load(execute).map_err(|e| unusable(&e))?;
        self.clock += 1;
        let ready =
            Ready { executable: Arc::clone(&executable), bytes: plan.weight_bytes(), used: self.clock };
        self.ready.insert((at, forms), ready);
        // Those that were not used for longest go first; those with nothing compressed are always needed.
        let mut bytes: u64 = self.ready.values().map(|r| r.bytes).sum();
        while bytes > READY_BYTES {
            let others = self
                .ready
                .iter()
                .filter(|((_, forms), r)| r.used != self.clock && forms.iter().any(Option::is_some));
            let Some(oldest) = others.min_by_key(|(_, r)| r.used).map(|(key, _)| key.clone()) else { break };
            bytes -= self.ready.remove(&oldest).map_or(0, |r| r.bytes);
        }
        Ok(executable)
    }

    /// The program of a stage: its ops, and the constants that they use.
    fn extract(&self, stage: &Stage, program: &Program) -> Result<Checked> {
        let mut f = program.functions[&self.function].clone();
        let body = f.body;
        let wanted: HashSet<OpId> = stage.ops.iter().copied().collect();
        let mut used: HashSet<OpId> = HashSet::new();
        let mut left: Vec<ValueId> = stage.ops.iter().flat_map(|&op| uses(&f, op)).collect();
        while let Some(value) = left.pop() {
            if let Some(op) = f.defining_op(value).filter(|&op| is_constant(&f, op))
                && used.insert(op)
            {
                left.extend(f[op].values());
            }
        }
        f[body].ops.retain(|op| wanted.contains(op) || used.contains(op));
        f[body].outputs.clone_from(&stage.outputs);
        f.attributes = Attributes::new();
        f.inputs.clone_from(&stage.inputs);
        for (i, &v) in stage.inputs.iter().enumerate() {
            f[v].def = Def::Function(i);
        }
        let mut one = Program::default();
        one.functions.insert(self.function.clone(), f);
        verify(one).map_err(|e| unusable(&e))
    }

    /// Runs a stage on the first `count` samples, several at once.
    fn run_stage(
        &self,
        at: usize,
        executable: &dyn Executable,
        base: &[Values],
        changed: Option<&[Values]>,
        count: usize,
    ) -> Result<Vec<Values>> {
        let (stage, f) = (&self.stages[at], &self.program.functions[&self.function]);
        let one = |i: usize| -> Result<Values> {
            let value = |v: ValueId| changed.and_then(|c| c[i].get(&v)).or_else(|| base[i].get(&v)).cloned();
            let inputs: Vec<(&str, Tensor)> =
                stage.inputs.iter().filter_map(|&v| Some((f[v].name.as_str(), value(v)?))).collect();
            let limit = self.load.limits.prediction.and_then(|limit| Instant::now().checked_add(limit));
            let is_over = || limit.is_some_and(|limit| Instant::now() >= limit);
            let stop = || self.load.cancel.is_cancelled() || is_over();
            let run = RunOptions { cancel: Some(&stop), ..RunOptions::default() };
            let outputs = executable
                .run(&inputs, run)
                .map_err(|e| self.load.cancel.check().err().unwrap_or_else(|| unusable(&e)))?;
            Ok(stage.outputs.iter().copied().zip(outputs.into_iter().map(|(_, tensor)| tensor)).collect())
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return Ok(made);
                }
                made.push((i, one(i)?));
            }
        };
        let workers = self.threads.min(count).max(1);
        let found: Vec<Result<Vec<(usize, Values)>>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut found = vec![work()];
            let ended = |e: Box<dyn std::any::Any + Send>| -> Result<_> { std::panic::resume_unwind(e) };
            found.extend(others.into_iter().map(|other| other.join().unwrap_or_else(ended)));
            found
        });
        let mut values = vec![Values::new(); count];
        for part in found {
            part?.into_iter().for_each(|(i, made)| values[i] = made);
        }
        Ok(values)
    }
}

/// The inputs of each sample; `None` if one is missing, or shapes differ.
fn samples(f: &Function, requests: &[InferenceRequest]) -> Option<Vec<Values>> {
    let of = |request: &InferenceRequest| {
        let one = |&v: &ValueId| {
            let (_, tensor) = request.inputs().named(&f[v].name)?;
            matches!(f[v].ty, Type::Tensor(_)).then(|| (v, tensor.clone()))
        };
        f.inputs.iter().map(one).collect::<Option<Values>>()
    };
    let all: Vec<Values> = requests.iter().map(of).collect::<Option<_>>()?;
    let first = all.first()?;
    let alike = |sample: &Values| sample.iter().all(|(v, t)| first[v].shape() == t.shape());
    all.iter().all(alike).then_some(all)
}

/// Cuts a function's body before ops that use weights.
fn cut(f: &Function, weights: &[&str], samples: usize) -> Option<Vec<Stage>> {
    let ops: Vec<OpId> = f[f.body].ops.iter().copied().filter(|&op| !is_constant(f, op)).collect();
    let places: HashMap<&str, usize> = weights.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let weights_of = |op: OpId| -> Vec<usize> {
        let names = uses(f, op).into_iter().map(|v| f[v].name.as_str());
        names.filter_map(|name| places.get(name).copied()).collect()
    };
    let mut starts: Vec<usize> = (1..ops.len()).filter(|&i| !weights_of(ops[i]).is_empty()).collect();
    starts.dedup();
    loop {
        let stages = stages_at(f, &ops, &starts, &weights_of)?;
        let crossing: usize = stages.iter().flat_map(|s| &s.outputs).map(|&v| bytes(f, v)).sum();
        // What is held twice: with nothing compressed, and with a choice.
        if starts.len() < MOST_STAGES && crossing.saturating_mul(2 * samples) <= KEPT_BYTES
            || starts.is_empty()
        {
            return Some(stages);
        }
        starts = starts.iter().copied().skip(1).step_by(2).collect();
    }
}

fn stages_at(
    f: &Function,
    ops: &[OpId],
    starts: &[usize],
    weights_of: &dyn Fn(OpId) -> Vec<usize>,
) -> Option<Vec<Stage>> {
    let mut bounds = vec![0];
    bounds.extend(starts);
    bounds.push(ops.len());
    // The stage of each op, and the last stage that takes each value.
    let mut made: HashMap<ValueId, usize> = HashMap::new();
    let mut taken: HashMap<ValueId, usize> = HashMap::new();
    let mut stages = Vec::new();
    for (at, pair) in bounds.windows(2).enumerate() {
        let own = &ops[pair[0]..pair[1]];
        let (mut inputs, mut weights) = (Vec::new(), Vec::new());
        for &op in own {
            for value in uses(f, op) {
                let is_own = made.get(&value) == Some(&at);
                let from_before = made.contains_key(&value) || f.inputs.contains(&value);
                if from_before && !is_own {
                    taken.insert(value, at);
                    if !inputs.contains(&value) {
                        inputs.push(value);
                    }
                }
            }
            made.extend(f[op].outputs.iter().map(|&v| (v, at)));
            weights.extend(weights_of(op));
        }
        weights.sort_unstable();
        weights.dedup();
        stages.push(Stage { ops: own.to_vec(), inputs, outputs: Vec::new(), weights, share: 0.0 });
    }
    let results: HashSet<ValueId> = f[f.body].outputs.iter().copied().collect();
    for (at, stage) in stages.iter_mut().enumerate() {
        let outputs = stage.ops.iter().flat_map(|&op| f[op].outputs.iter().copied());
        let wanted = |v: &ValueId| taken.get(v).is_some_and(|&last| last > at) || results.contains(v);
        stage.outputs = outputs.filter(wanted).collect();
        if stage.outputs.iter().chain(&stage.inputs).any(|&v| !matches!(f[v].ty, Type::Tensor(_))) {
            return None;
        }
    }
    // Ops whose results nobody takes are in stages that are not run.
    stages.retain(|stage| !stage.outputs.is_empty());
    // A result that no op computes, an input or a constant, is left to whole runs.
    results.iter().all(|v| made.contains_key(v)).then_some(stages)
}

/// The values that an op uses, in its blocks, too.
fn uses(f: &Function, op: OpId) -> Vec<ValueId> {
    let mut found = Vec::new();
    let mut left = vec![op];
    while let Some(op) = left.pop() {
        found.extend(f[op].inputs.iter().flat_map(|i| &i.args).filter_map(|arg| match arg {
            Arg::Value(v) => Some(*v),
            Arg::Const(_) => None,
        }));
        for &block in &f[op].blocks {
            found.extend(f[block].outputs.iter().copied());
            left.extend(f[block].ops.iter().copied());
        }
    }
    found
}

fn is_constant(f: &Function, op: OpId) -> bool {
    f[op].kind == OpKind::Const || f[op].kind.is_constexpr()
}

fn bytes(f: &Function, value: ValueId) -> usize {
    let ty = f[value].ty.as_tensor();
    // What is not known is taken for large.
    ty.and_then(|t| t.dtype.byte_len(t.elements()?)).unwrap_or(1 << 20)
}

fn unusable(e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Runtime, format!("a part of the model cannot be run: {e}"))
}

#[cfg(test)]
mod tests {
    use milwright_mil::text::parse;
    use milwright_optimize::{Compressed, Config, InMemory, ObservedInputs, compress_again};

    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 0.4).collect()
    }

    fn list(values: &[f32]) -> String {
        values.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(", ")
    }

    const NAMES: [&str; 4] = ["wa", "wb", "wc", "wd"];

    /// Two branches, a residual, a weight that two ops share, a conditional, and an input that is used late.
    fn program() -> Program {
        let weights: String = NAMES
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let values = list(&numbers(64 * 64, i));
                format!("tensor<fp32, [64, 64]> {name} = const()[name = string(\"{name}\"), val = tensor<fp32, [64, 64]>([{values}])];\n")
            })
            .collect();
        let text = format!(
            "program(1.3) {{ func main<ios18>(tensor<fp32, [1, 64]> x, tensor<fp32, [1, 64]> late, bool which) {{
            {weights}
            tensor<fp32, [1, 64]> a = linear(x = x, weight = wa)[name = string(\"a\")];
            tensor<fp32, [1, 64]> b = linear(x = x, weight = wb)[name = string(\"b\")];
            tensor<fp32, [1, 64]> r = relu(x = a)[name = string(\"r\")];
            tensor<fp32, [1, 64]> s = add(x = r, y = b)[name = string(\"s\")];
            tensor<fp32, [1, 64]> c = linear(x = s, weight = wc)[name = string(\"c\")];
            tensor<fp32, [1, 64]> e = cond(pred = which)
                () {{
                    tensor<fp32, [1, 64]> t = linear(x = c, weight = wd)[name = string(\"t\")];
                }} -> (t),
                () {{
                    tensor<fp32, [1, 64]> u = add(x = c, y = late)[name = string(\"u\")];
                }} -> (u);
            tensor<fp32, [1, 64]> f = linear(x = e, weight = wc)[name = string(\"f\")];
            tensor<fp32, [1, 64]> y = add(x = f, y = s)[name = string(\"y\")];
            tensor<fp32, [1, 64]> z = tanh(x = b)[name = string(\"z\")];
            }} -> (y, z); }}"
        );
        parse(&text).unwrap()
    }

    /// Whatever is held and known, a choice gives what the whole program with these forms gives.
    #[test]
    fn stages_give_what_the_whole_gives() {
        let program = program();
        let forms = ["int8", "palette4", "palette2"];
        let input_names: Vec<String> = {
            let f = &program.functions["main"];
            f.inputs.iter().map(|&v| f[v].name.clone()).collect()
        };
        let requests: Vec<InferenceRequest> = (0..3)
            .map(|i| {
                let mut request = InferenceRequest::new();
                for (n, name) in input_names.iter().enumerate() {
                    let tensor = match name.as_str() {
                        "which" => Tensor::from_bools(&[], &[i % 2 == 0]).unwrap(),
                        _ => Tensor::from_vec(&[1, 64], numbers(64, 50 + 3 * i + n)).unwrap(),
                    };
                    request = request.input(name, tensor);
                }
                request
            })
            .collect();
        let load = LoadOptions::default();
        let mut stages = Stages::new(&program, "main", &NAMES, &requests, &load).unwrap().unwrap();
        assert!(stages.stages.len() >= 5, "{}", stages.stages.len());
        let mut known = Compressed::default();
        let mut compressed = |program: &Program, choice: &Choice, places: &[usize]| {
            let of = |&w: &usize| (NAMES[w].to_owned(), choice[w].map(|f| forms[f].parse().unwrap()));
            let config = Config { op_names: places.iter().map(of).collect(), ..Config::default() };
            let mut program = program.clone();
            let nothing = ObservedInputs::new();
            compress_again(&mut program, &config, &nothing, &mut known, &mut InMemory, &mut |_| ()).unwrap();
            program
        };
        let mut costs = Vec::new();
        for (i, choice) in [
            [None, None, None, None],
            [None, None, None, Some(1)],
            [Some(0), Some(0), Some(0), Some(0)],
            [Some(0), Some(0), Some(0), Some(2)],
            [Some(0), Some(2), Some(0), Some(2)],
            [None, None, Some(1), None],
            [Some(0), Some(0), Some(0), Some(2)],
        ]
        .into_iter()
        .enumerate()
        {
            let choice = choice.to_vec();
            let base = stages.program.clone();
            let (found, cost) = stages
                .run(&choice, 3, &mut |program, places| Ok(compressed(program, &choice, places)))
                .unwrap();
            costs.push(cost);
            if i == 2 {
                stages.hold(&choice);
            }
            let whole = verify(compressed(&base, &choice, &[0, 1, 2, 3])).unwrap();
            let plan = reference_engine().compile(&whole, "main", &[], CompileOptions::default()).unwrap();
            let executable = plan.load(ExecuteOptions::default()).unwrap();
            for (request, found) in requests.iter().zip(found) {
                let inputs: Vec<(&str, Tensor)> =
                    request.inputs().iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
                let expected = executable.run(&inputs, RunOptions::default()).unwrap();
                for (name, expected) in expected {
                    let found = found.output(&name).unwrap().to_f64();
                    for (a, b) in expected.to_f64().into_iter().zip(found) {
                        assert!((a - b).abs() < 1e-5, "choice {i}, {name}: {a} {b}");
                    }
                }
            }
        }
        assert!(costs[0] == 0.0 && costs[1] < costs[2] && costs[3] < costs[2], "{costs:?}");
    }
}
