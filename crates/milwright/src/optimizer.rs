//! Makes models smaller, and proves that they still compute the same.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright_formats::{PackageWriter, StagedPackage};
use milwright_mil::{Opset, Program, Tensor, passes, verify};
use milwright_optimize::float16::{self, Observed};
use milwright_optimize::{Config, ObservedInputs, Report};

mod activations;
mod calibrate;
mod describe;
mod features;
mod fp16;
mod inner;
mod judge;
mod parts;
mod release;
mod report;
mod search;
mod spill;
mod tolerance;

pub use describe::{WeightInfo, WeightUser, weights};
pub use fp16::{Fp16Finding, Fp16Report, Fp16Signal, find_fp16_losses};
pub use milwright_optimize::activations::{Activations, Range as ActivationRange};
pub use milwright_optimize::{Compression, Quantization, QuantizationInfo};
pub use report::OptimizeReport;
pub use search::{CurvePoint, Metric, Search, SearchReport, SearchSamples, SearchedWeight, UniformForm};
pub use tolerance::Tolerance;

use parts::{Part, Source};
use release::Releasing;
use spill::{Spill, Weights};

use crate::kinds::Task;
use crate::proof::Expected;
use crate::target::reference_ops;
use crate::{
    ArrayType, Error, ErrorKind, Existing, FeatureType, LoadOptions, Model, OutputDifference, Proof, Result,
    Samples, Target, TargetOs, WeightReport, overflow, telemetry,
};

/// Optimizes models. Build one, then call [`optimize`](Optimizer::optimize) for as many models as you like.
///
/// ```
/// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
/// use std::sync::Arc;
/// use milwright::{Model, Optimizer, Quantization};
///
/// let model = Arc::new(Model::open(format!("{root}examples/digits.mlpackage"))?);
/// let folder = tempfile::tempdir().unwrap();
/// let out = folder.path().join("digits-int8.mlpackage");
///
/// let optimizer = Optimizer::new().quantization(Quantization::Int8).tolerance(20.0);
/// let report = optimizer.optimize(&model, Some(&out), &mut |_| {})?;
/// assert!(report.bytes_after < report.bytes_before / 3);
/// assert!(Model::open(&out).is_ok());
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer {
    target: Target,
    config: Config,
    tolerance: Tolerance,
    proves: bool,
    calibration: Calibration,
    /// Whether the inputs of weights are observed.
    observes: bool,
    samples: Option<Samples>,
    seed: u64,
    load: LoadOptions,
    existing: Existing,
    /// The opset of the result; `None` keeps that of an ML program, and uses the oldest one for a network.
    opset: Option<Opset>,
    task: Task,
    /// How to search for the smallest result, if it is searched for.
    search: Option<Search>,
    /// How values between ops become integers, if they do.
    activations: Option<Activations>,
    /// The names of graph passes that do not run.
    without: Vec<String>,
}

/// Which samples observe the inputs of weights.
#[derive(Clone, Debug)]
enum Calibration {
    Off,
    /// Half of those that are given.
    Half,
    With(Arc<Samples>),
}

/// The progress of an optimization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Weights are being compressed.
    Compressing {
        /// Elements that are done.
        done: usize,
        /// All elements.
        total: usize,
    },
    /// Choices of forms are being run.
    Searching {
        /// Those that are done.
        done: usize,
        /// All, about.
        total: usize,
    },
    /// The result is being written.
    Writing,
    /// Both models are being run on the same inputs.
    Proving {
        /// Samples that are done.
        done: usize,
        /// All samples.
        total: usize,
    },
}

/// The number of samples that are drawn if none are given.
const DRAWN_SAMPLES: usize = 4;

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer {
            target: Target::Auto,
            config: Compression::default().into(),
            tolerance: Tolerance::Default,
            proves: true,
            calibration: Calibration::Off,
            observes: false,
            samples: None,
            seed: 0,
            load: LoadOptions::default(),
            existing: Existing::Replace,
            opset: None,
            task: Task::Optimize,
            search: None,
            activations: None,
            without: Vec::new(),
        }
    }
}

impl Optimizer {
    /// An optimizer that runs graph passes only.
    pub fn new() -> Optimizer {
        Optimizer::default()
    }

    /// The hardware that the result should run on. The Neural Engine and the GPU compute in fp16: for them, the
    /// program is converted to fp16 before its weights are compressed.
    #[must_use]
    pub fn target(mut self, target: Target) -> Optimizer {
        self.target = target;
        self
    }

    /// How weights are stored: a [`Quantization`], or a [`Compression`] with options.
    #[must_use]
    pub fn quantization(self, compression: impl Into<Compression>) -> Optimizer {
        self.config(compression.into())
    }

    /// How weights are stored, each by the ops that use it.
    #[must_use]
    pub fn config(mut self, config: impl Into<Config>) -> Optimizer {
        self.config = config.into();
        self
    }

    /// The oldest system that the result must run on. It is an error if that system cannot express the result. Without
    /// it, the result is for the system that the model is for, or for the oldest newer one that it needs.
    #[must_use]
    pub fn target_os(mut self, target: TargetOs) -> Optimizer {
        self.opset = Some(target.into());
        self
    }

    /// Does not run the models, for those who compare them elsewhere: the result is written unproved, and the report says
    /// so.
    #[must_use]
    pub fn without_proof(mut self) -> Optimizer {
        self.proves = false;
        self
    }

    /// The lowest SNR, in dB, that every output of the result must have against the original's; or the default of the
    /// setting; or no tolerance. A result outside the tolerance is an error and is not written.
    /// [`OutputDifference::failure`](crate::OutputDifference::failure) says how the different kinds of outputs are
    /// judged.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Optimizer {
        self.tolerance = tolerance.into();
        self
    }

    /// Samples for the proof of the default function, instead of drawn ones. Other functions are always proved with
    /// drawn samples.
    #[must_use]
    pub fn samples(mut self, samples: Samples) -> Optimizer {
        self.samples = Some(samples);
        self
    }

    /// Uses half of the samples to observe the inputs of weights, and compresses weights so that their outputs lose least
    /// (GPTQ, and a correction of biases). The other half proves the result.
    #[must_use]
    pub fn calibrated(mut self) -> Optimizer {
        self.calibration = Calibration::Half;
        self.observes = true;
        self
    }

    /// Makes values between ops int8, where convolutions, linear layers, pooling and sums compute with them: `quantize` and
    /// `dequantize` ops, which need iOS17. Half of the samples observe their ranges, and the other half proves the result. If
    /// it is not within the tolerance, those that lose most stay floats.
    #[must_use]
    pub fn activations(mut self, activations: Activations) -> Optimizer {
        self.activations = Some(activations);
        self
    }

    /// Leaves out a graph pass, of those in `milwright_mil::passes`.
    ///
    /// # Errors
    /// There is no pass of this name.
    pub fn without_pass(mut self, name: &str) -> Result<Optimizer> {
        if !passes::ALL.iter().any(|pass| pass.name == name) {
            let mut names: Vec<&str> = passes::ALL.iter().map(|pass| pass.name).collect();
            names.sort_unstable();
            names.dedup();
            return Err(Error::invalid(format!("there is no graph pass `{name}`"))
                .with_hint(format!("there are {}", names.join(", "))));
        }
        self.without.push(name.to_owned());
        Ok(self)
    }

    /// The seed for drawing samples.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Optimizer {
        self.seed = seed;
        self
    }

    /// How models are loaded for the proof (threads, cache), and the flag that cancels the work.
    #[must_use]
    pub fn load_options(mut self, load: LoadOptions) -> Optimizer {
        self.load = load;
        self
    }

    /// What happens to a package that is at the output already. Without this, it is replaced.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Optimizer {
        self.existing = existing;
        self
    }

    /// Turns this into a converter: programs get this opset, and are changed only as far as that requires.
    pub(crate) fn converting(mut self, opset: Option<Opset>) -> Optimizer {
        self.opset = opset;
        self.task = Task::Convert;
        self
    }

    /// Optimizes a model, proves the result, and writes it to `output` if a path is given. The proof reads the written
    /// file, so it covers exactly what a reader of the file gets.
    ///
    /// A neural network is written as an ML program. In a pipeline, each ML program and network is optimized and gets
    /// its own weight file; the pipeline is proved as a whole.
    ///
    /// If a conversion to fp16 loses too much, the original is run once more to find the values that overflow fp16 and
    /// the ops that lose precision in it. The ops that produce and use these values stay in fp32 in a second attempt,
    /// and are listed in the report.
    ///
    /// A package at `output` is replaced, atomically where the system supports that, unless it should
    /// [stay](Existing::Keep). A caller that wants to ask the user first calls
    /// [`would_replace`](crate::would_replace), as the command does. Nothing but a package is ever replaced.
    ///
    /// # Errors
    /// The result is outside the tolerance, or is NaN or infinite where the original is not; it cannot be written; or
    /// one of the two models cannot be run. An existing `output` is then untouched.
    pub fn optimize(
        &self,
        model: &Arc<Model>,
        output: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<OptimizeReport> {
        let report = match (&self.search, &self.calibration) {
            (Some(search), _) => {
                let found = self.run_search(search, model, output, progress);
                found.and_then(|attempt| attempt.finish(output, self.existing))
            }
            (None, Calibration::Off) if self.activations.is_none() => self.run(model, output, progress),
            (None, Calibration::With(_)) => self.run(model, output, progress),
            (None, _) => self.split(model)?.run(model, output, progress),
        };
        let report = report.map_err(|e| if e.path().is_none() { e.at(model.path()) } else { e });
        telemetry::optimized(report.as_ref().map(|_| ()).map_err(Error::kind));
        report
    }

    /// What is observed of the inputs of a part's weights.
    fn observe_inputs(&self, source: &Source, part: &Part) -> Result<ObservedInputs> {
        let mut observed = ObservedInputs::new();
        let Calibration::With(samples) = &self.calibration else { return Ok(observed) };
        if !self.observes {
            return Ok(observed);
        }
        for name in part.program.functions.keys() {
            let default = &source.model.info().default_function;
            if part.is_whole() && name != default {
                continue;
            }
            let samples = source.samples_of(part, name, samples, &self.load)?;
            calibrate::observe(&part.program, name, &samples, &self.load, &mut observed)?;
        }
        Ok(observed)
    }

    fn run(
        &self,
        model: &Arc<Model>,
        output: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<OptimizeReport> {
        if let Some(output) = output {
            check_output(model, output)?;
        }
        let start = Instant::now();
        let source = self.prepared(model)?;
        let _releasing = Releasing::of(&source.model);
        let prepared_in = start.elapsed();
        tracing::debug!("graph passes took {prepared_in:?}");
        let inputs = source.parts.iter().map(|part| self.observe_inputs(&source, part));
        let inputs: Vec<ObservedInputs> = inputs.collect::<Result<_>>()?;
        let mut observed: Vec<Observations> = source.parts.iter().map(|_| Observations::new()).collect();
        let mut attempt = self.attempt(model, &source, &observed, &inputs, output, progress);
        if self.proves && self.halves() && self.is_poor(attempt.as_ref()) {
            // A run finds the values that fp16 loses. With these in fp32, a second attempt may succeed.
            let found = source.parts.iter().map(|part| self.observe(&source, part));
            match found.collect::<Result<Vec<_>>>() {
                Ok(found) if found.iter().flat_map(HashMap::values).any(says_something) => {
                    observed = found;
                    drop(attempt);
                    attempt = self.attempt(model, &source, &observed, &inputs, output, progress);
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(error) => tracing::debug!(%error, "the values inside cannot be looked at"),
            }
        }
        let mut attempt = attempt?;
        attempt.time += prepared_in;
        attempt.report.fp16_headroom = self.headroom(&source, &observed, &attempt.report);
        attempt.finish(output, self.existing)
    }

    /// The programs of a model after the graph passes. They run before weights are compressed: a pass can fold a scale
    /// into a weight, but not into a palette.
    fn prepared(&self, model: &Arc<Model>) -> Result<Source> {
        if let Some(opset) = self.opset.filter(|&opset| self.activations.is_some() && opset < Opset::Ios17) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("integers between ops need ios17, and the result is for {}", opset.text_name()),
            )
            .with_hint("leave them floats: int8 weights alone need ios16")
            .at(model.path()));
        }
        if let Some(opset) = self.opset {
            self.config.check_opset(opset).map_err(|why| {
                Error::new(ErrorKind::Unsupported, why)
                    .with_hint("choose one of the forms that the system has, or leave the system out")
                    .at(model.path())
            })?;
        }
        let mut source = Source::new(model, self.opset, self.task)?;
        self.check_config(model, &source, "")?;
        for part in &mut source.parts {
            let prepared = passes::run(part.program.clone(), &self.passes(&source.model), None);
            let (program, reports) = prepared.map_err(|e| broken(model, &e))?;
            for report in reports.iter().filter(|r| r.changes > 0) {
                tracing::debug!("pass {}: {} changes in {:?}", report.pass, report.changes, report.duration);
            }
            part.program = parts::with_named_constants(program)?;
        }
        self.check_config(model, &source, " once graph passes have joined ops")?;
        if self.observes || self.search.is_some() {
            source.share_weights()?;
        }
        Ok(source)
    }

    /// Checks that each entry of the configuration is for a weight of the model.
    fn check_config(&self, model: &Model, source: &Source, when: &str) -> Result<()> {
        let functions = source.parts.iter().flat_map(|part| part.program.functions.values());
        self.config.check_matches(functions).map_err(|why| {
            Error::invalid(format!("an entry of the configuration has no effect{when}: {why}"))
                .with_hint("correct it, or remove the entry; `milwright inspect --weights` lists weights and the ops that use them")
                .at(model.path())
        })
    }

    /// The graph passes to run.
    fn passes(&self, model: &Model) -> Vec<passes::Pass> {
        match self.task {
            // What an exporter took apart is put together.
            Task::Convert if model.imported_from().is_some() => passes::ALL.to_vec(),
            // A conversion keeps the program as it is: the passes only remove what the network format left behind.
            Task::Convert => {
                ["remove_noops", "eliminate_dead"].iter().filter_map(|name| passes::by_name(name)).collect()
            }
            _ => passes::ALL.iter().copied().filter(|p| !self.without.iter().any(|n| n == p.name)).collect(),
        }
    }

    /// Whether the program is converted to fp16.
    fn halves(&self) -> bool {
        self.config.computes_in_fp16() || matches!(self.target, Target::Ane | Target::Gpu)
    }

    /// The tolerance in dB; `None` if there is none.
    fn tolerance_db(&self) -> Option<f64> {
        match self.tolerance {
            _ if !self.proves => None,
            Tolerance::Default => Some(self.default_db()),
            Tolerance::Decibels(db) => Some(db),
            Tolerance::None => None,
        }
    }

    /// Whether a conversion to fp16 went so badly that values may have overflowed.
    fn is_poor(&self, attempt: Result<&Attempt, &Error>) -> bool {
        /// fp16 has a precision of 11 bits, 66 dB, of which a deep network may lose half.
        const POOR_DB: f64 = 30.0;
        let poor = |o: &OutputDifference| o.failure(None).is_some() || o.snr_db.rank() < POOR_DB;
        match attempt {
            Ok(attempt) => attempt.report.proof.functions.iter().any(|c| c.outputs.iter().any(poor)),
            Err(e) => e.kind() == ErrorKind::Tolerance,
        }
    }

    /// Finds the largest magnitudes in each function of a part, and the values that fp16 loses.
    fn observe(&self, source: &Source, part: &Part) -> Result<Observations> {
        let mut found = Observations::new();
        for name in part.program.functions.keys() {
            let samples = self.samples_inside(source, part, name)?;
            let largest = overflow::magnitudes(&part.program, name, &samples, &self.load)?;
            let observed = Observed { largest, ..Observed::default() };
            found
                .insert(name.clone(), overflow::losses(&part.program, name, observed, &samples, &self.load)?);
        }
        Ok(found)
    }

    /// Samples for a function of a part: the inputs that it gets when the whole model runs.
    fn samples_inside(&self, source: &Source, part: &Part, function: &str) -> Result<Samples> {
        let outer = if part.is_whole() { function } else { &source.model.info().default_function };
        source.samples_of(part, function, &self.samples_of(&source.model, outer)?, &self.load)
    }

    /// The factor by which intermediate values may grow before they overflow fp16. It is determined only if the result
    /// computes in fp16 and was proved on drawn inputs, and only if that does not take much longer than the proof.
    fn headroom(&self, source: &Source, observed: &[Observations], report: &OptimizeReport) -> Option<f64> {
        const MAX_PROBES: usize = 4;
        let functions = || source.parts.iter().flat_map(|part| part.program.functions.values());
        let is_costly = observed.iter().all(HashMap::is_empty)
            && functions().map(overflow::probes).sum::<usize>() > MAX_PROBES;
        if !self.proves || !self.halves() || !report.proof.is_smoke_test() || is_costly {
            return None;
        }
        let mut largest: f64 = 0.0;
        for (part, observed) in source.parts.iter().zip(observed) {
            for name in part.program.functions.keys() {
                let known = match observed.get(name) {
                    Some(observed) => observed.largest.clone(),
                    None => {
                        let samples = self.samples_inside(source, part, name).ok()?;
                        overflow::magnitudes(&part.program, name, &samples, &self.load).ok()?
                    }
                };
                // Values that overflow stay in fp32 now.
                largest = known.into_values().filter(|&m| m <= float16::LARGEST).fold(largest, f64::max);
            }
        }
        (largest > 0.0).then(|| float16::LARGEST / largest)
    }

    /// Rewrites, writes and proves the result, and leaves it staged.
    fn attempt(
        &self,
        model: &Arc<Model>,
        source: &Source,
        observed: &[Observations],
        inputs: &[ObservedInputs],
        output: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt> {
        let start = Instant::now();
        // Compressed weights are kept next to the result until it is written: that file system needs space for them.
        let scratch = tempfile::tempdir();
        let scratch = scratch.map_err(|e| Error::io("write into", &std::env::temp_dir(), e))?;
        let destination = output.map_or_else(|| scratch.path().join("result.mlpackage"), Path::to_owned);
        // Creating the writer first finds a destination that cannot be written before any work is done.
        let mut writer = PackageWriter::create(&destination)?;
        if let Some(package) = model.package() {
            writer.carry_over(package)?;
        }
        let mut spill = Spill::create(&destination, model.package(), self.load.cancel.clone())?;
        let mut spec = source.model.specification().clone();
        let mut report = Report::default();
        let mut notes = source.notes.clone();
        let total = source.parts.iter().map(|part| self.stages() * weight_elements(&part.program)).sum();
        let mut done = 0;
        for ((part, observed), inputs) in source.parts.iter().zip(observed).zip(inputs) {
            let mut advance = |n| {
                done += n;
                progress(Progress::Compressing { done: done.min(total), total });
            };
            let (program, found) = self.rewrite(model, part, observed, inputs, &mut spill, &mut advance)?;
            report.extend(found);
            let program = self.with_integers(source, part, program, &mut notes)?;
            let checked = verify(program)?;
            let written = HashMap::new();
            let sink = &mut Weights { writer: &mut writer, file: &part.file, spill: &mut spill, written };
            let program = milwright_convert::ml_program::write(&checked, sink);
            let program = program.map_err(|e| Error::from(e).at(&destination))?;
            self.load.cancel.check()?;
            let opset = checked.functions.values().map(|f| f.opset).max().unwrap_or(Opset::Ios15);
            part.put(&mut spec, program, opset);
        }
        notes.extend(features::align(source.model.specification(), &mut spec));
        if let Some(note) = self.raised(source.model.info().specification_version, &spec) {
            notes.push(note);
        }
        progress(Progress::Writing);
        drop(spill);
        let staged = writer.stage(&spec)?;
        let time = start.elapsed();

        let start = Instant::now();
        let result = Arc::new(Model::open(staged.path())?);
        let _releasing = Releasing::of(&result);
        let proof = if self.proves {
            self.prove(&source.model, &result, progress)?
        } else {
            Proof { functions: Vec::new() }
        };
        let report = OptimizeReport {
            output: output.map(Path::to_owned),
            bytes_before: model.size(),
            bytes_after: result.size(),
            weights: report.weights,
            kept: report.kept,
            specification_version: result.info().specification_version,
            notes,
            proved: self.proves,
            proof,
            tolerance_db: self.tolerance_db(),
            default_tolerance: self.tolerance == Tolerance::Default,
            not_smaller: None,
            fp16_headroom: None,
            search: None,
            optimize_time: time,
            proof_time: start.elapsed(),
        };
        let report = OptimizeReport { not_smaller: self.not_smaller(model, &report), ..report };
        self.judge(model, &report, &named(source, observed))?;
        self.load.cancel.check()?;
        Ok(Attempt { report, time, staged, _scratch: scratch })
    }

    /// A note if the form of weights needs a newer system than the model did, and none was asked for.
    fn raised(&self, before: i32, spec: &milwright_formats::proto::Model) -> Option<String> {
        let newer =
            self.task == Task::Optimize && self.opset.is_none() && spec.specification_version > before;
        // Every system of today loads compressed weights of the first kind.
        let forms = self.config.compressions().filter(|c| c.min_opset() >= Opset::Ios18);
        let form = forms.max_by_key(|c| c.min_opset()).filter(|_| newer)?;
        Some(format!("it needs iOS 18 now: `{form}` is not in older systems"))
    }

    /// How many times each weight is processed.
    fn stages(&self) -> usize {
        usize::from(self.halves()) + usize::from(self.compresses())
    }

    fn compresses(&self) -> bool {
        self.config.compresses()
    }

    /// Optimizes a part's program. The new weights go to the spill file.
    fn rewrite(
        &self,
        model: &Model,
        part: &Part,
        observed: &Observations,
        inputs: &ObservedInputs,
        spill: &mut Spill<'_>,
        mut advance: &mut dyn FnMut(usize),
    ) -> Result<(Program, Report)> {
        let mut program = part.program.clone().into_inner();
        let mut report = Report::default();
        if self.config.expands() {
            for function in program.functions.values_mut() {
                let expanded = milwright_optimize::expand(function, reference_ops(), spill);
                self.load.cancel.check()?;
                expanded.map_err(|e| spill.error(&e))?;
            }
            program = verify(program).map_err(|e| broken(model, &e))?.into_inner();
        }
        if self.halves() {
            let unknown = Observed::default();
            for (name, function) in &mut program.functions {
                let observed = observed.get(name).unwrap_or(&unknown);
                let converted = float16::convert(name, function, observed, spill, &mut advance);
                self.load.cancel.check()?;
                report.extend(converted.map_err(|e| spill.error(&e))?);
            }
        }
        if self.compresses() {
            let found = milwright_optimize::compress(&mut program, &self.config, inputs, spill, &mut advance);
            self.load.cancel.check()?;
            let weights = found.map_err(|e| spill.error(&e))?;
            merge(&mut report, Report { weights, ..Report::default() });
            check_raised(part, &program)?;
        }
        // Removes the constants that were converted, and casts that cancel out.
        let names: &[&str] =
            if self.halves() { &["remove_noops", "eliminate_dead"] } else { &["eliminate_dead"] };
        let clean: Vec<passes::Pass> = names.iter().filter_map(|name| passes::by_name(name)).collect();
        let program = verify(program).map_err(|e| broken(model, &e))?;
        let (program, _) = passes::run(program, &clean, None).map_err(|e| broken(model, &e))?;
        report.weights.iter_mut().for_each(|w| w.function = part.function(&w.function));
        report.kept.iter_mut().for_each(|k| k.function = part.function(&k.function));
        Ok((program.into_inner(), report))
    }

    /// Samples for the proof of a function.
    fn samples_of(&self, model: &Model, function: &str) -> Result<Samples> {
        match self.samples.clone().filter(|_| function == model.info().default_function) {
            Some(samples) => Ok(samples.named_for(model)),
            None => Samples::draw_within(model, Some(function), self.seed, DRAWN_SAMPLES, &self.load),
        }
    }

    fn prove(
        &self,
        model: &Arc<Model>,
        result: &Arc<Model>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Proof> {
        let mut functions = Vec::new();
        for name in model.function_names() {
            let samples = self.samples_of(model, name)?;
            let total = samples.requests.len();
            let mut done = 0;
            let mut advance = || {
                done += 1;
                progress(Progress::Proving { done, total });
            };
            let expected = Expected::of(model, result, Some(name), &samples, &self.load)?;
            let of_scores = self.search.as_ref().is_some_and(Search::is_of_scores);
            // A task is about the samples that are given.
            let is_default = name == model.info().default_function;
            let task = self.search.as_ref().and_then(Search::asked).filter(|_| is_default);
            let expected = expected.of_scores(of_scores).of_task(task);
            let mut found = expected.against(result, &self.load, &mut advance)?;
            // In general, two models may differ in element type and in the sizes that they accept. The result must
            // declare and accept what the original does.
            for output in &mut found.outputs {
                output.faults.extend(found.fails_at.clone());
                // Pipelines are an exception: programs cannot declare doubles, so the description of the pipeline is
                // changed, too, and a note says so.
                let declared = |m: &Model| declared_dtype(m, name, &output.name);
                if declared(model) == Some(ArrayType::Double) && declared(result) == Some(ArrayType::Float32)
                {
                    continue;
                }
                let fault = output.other_type.as_ref().map(|t| format!("it has elements of type {t} now"));
                output.faults.extend(fault);
            }
            functions.push(found);
        }
        Ok(Proof { functions })
    }
}

/// The element type that a model declares for an output that is an array.
fn declared_dtype(model: &Model, function: &str, output: &str) -> Option<ArrayType> {
    let declared = model.info().function(Some(function))?.outputs.named(output)?;
    match declared.ty {
        FeatureType::MultiArray { dtype, .. } => Some(dtype),
        _ => None,
    }
}

/// A result that is proved and staged, but not yet in its place.
struct Attempt {
    report: OptimizeReport,
    time: Duration,
    staged: StagedPackage,
    /// The folder of the result if there is no output path.
    _scratch: tempfile::TempDir,
}

impl Attempt {
    fn finish(self, output: Option<&Path>, existing: Existing) -> Result<OptimizeReport> {
        if output.is_some() {
            self.staged.commit_over(existing)?;
        }
        Ok(OptimizeReport { optimize_time: self.time, ..self.report })
    }
}

/// For each function, the observations about its values.
type Observations = HashMap<String, Observed>;

/// Whether a value has to stay in fp32.
fn says_something(observed: &Observed) -> bool {
    !observed.lost.is_empty() || observed.largest.values().any(|&m| m > float16::LARGEST)
}

fn check_output(model: &Model, output: &Path) -> Result<()> {
    model.check_not_replaced(output)?;
    if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("mlmodelc")) {
        return Err(Error::invalid("the result is a package, not a compiled model")
            .with_hint("choose a name that ends in .mlpackage; `milwright compile` compiles it")
            .at(output));
    }
    Ok(())
}

/// Collects the observations of all parts, by the functions' names in reports.
fn named(source: &Source, observed: &[Observations]) -> Observations {
    let parts = source.parts.iter().zip(observed);
    parts.flat_map(|(part, o)| o.iter().map(|(name, o)| (part.function(name), o.clone()))).collect()
}

/// Adds the report of a second step. A weight that went through both steps keeps a single row.
fn merge(report: &mut Report, second: Report) {
    let key = |w: &WeightReport| (w.function.clone(), w.name.clone());
    let rows: HashMap<_, usize> = report.weights.iter().enumerate().map(|(i, w)| (key(w), i)).collect();
    for weight in second.weights {
        match rows.get(&key(&weight)).map(|&i| &mut report.weights[i]) {
            Some(first) if weight.skipped.is_none() => {
                let (bytes_before, dtype) = (first.bytes_before, first.dtype);
                *first = WeightReport { bytes_before, dtype, ..weight };
            }
            Some(_) => {}
            None => report.weights.push(weight),
        }
    }
}

/// The error for a rewritten program that is invalid. The model was valid before, so it is not to blame.
fn broken(model: &Model, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the rewritten program is not valid: {error}"))
        .with_hint(
            "the model itself is fine; please report this as a bug, and try another --quantize until then",
        )
        .at(model.path())
}

/// Checks that functions that were raised to a newer opset are valid there: some ops became stricter.
fn check_raised(part: &Part, program: &Program) -> Result<()> {
    let old = part.program.functions.values();
    let Some(opset) = program
        .functions
        .values()
        .zip(old)
        .filter(|(new, old)| new.opset != old.opset)
        .map(|(f, _)| f.opset)
        .max()
    else {
        return Ok(());
    };
    let Err(errors) = verify(program.clone()) else { return Ok(()) };
    let opset = opset.text_name();
    let message = format!("this form of weights needs {opset}, where the program is not valid: {errors}");
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_hint("int8 with a scale for each channel, and palettes with one table, need iOS 16 only"))
}

fn weight_elements(program: &Program) -> usize {
    let weights = program.functions.values().flat_map(|f| {
        milwright_optimize::weights::weights(f)
            .into_iter()
            .filter_map(|w| f.const_value(w.value)?.as_tensor().map(Tensor::elements))
    });
    weights.sum()
}
