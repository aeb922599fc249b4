//! `milwright run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright::json::dictionary_as_json;
use milwright::{
    Dictionary, Error, ErrorKind, FeatureType, Files, FunctionInfo, InferenceRequest, InputFolder,
    LoadOptions, Loaded, Model, Precision, Prediction, Result, SampleSource, Samples, Session, Tensor,
};
use serde::Serialize;

use crate::common::{self, Global, InputArgs, TargetArg};
use crate::destination::{FileNames, Force, check_folder};
use crate::inputs::Declared;
use crate::outputs::{self, Class, Summary};
use crate::printer::{self, Printer, count, duration};
use crate::progress;

/// Runs a model: once, for every file of a folder, or for several steps.
///
/// Inputs that are not given are drawn to suit the model, from the seed. Small outputs are printed, of a classifier the
/// best classes. With --output, each output is written as DIR/NAME.npy (images as DIR/NAME.png, and dictionaries as
/// DIR/NAME.json, as well), and drawn inputs as DIR/inputs/NAME.npy, or NAME.json: `--inputs DIR/inputs` gives the same
/// again.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright run model.mlpackage --input image=photo.jpg
  milwright run model.mlpackage --input x=x.npy --input scale=1.5 --input ids='[[1, 2, 3]]'
  milwright run model.mlpackage --input all.npz --json --data
  milwright run model.mlpackage --inputs photos/ --output out/
  milwright run stateful.mlpackage --input token=tokens.npy --steps 8
  milwright run model.mlpackage --seed 7 --function decode

An input is a file (.npy, .npz, .json, .txt; .png or .jpg for an image) or its value: a number,
numbers with commas between, JSON, or text. A file without NAME=, .npz or .json, has several inputs
by name. An image of another size is made to fit: see --fit.")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file.
    model: PathBuf,
    /// An input: a file or a value.
    #[arg(long = "input", value_name = "NAME=VALUE", conflicts_with = "inputs")]
    given: Vec<String>,
    #[command(flatten)]
    inputs: InputArgs,
    /// Run so many times, one after the other, and keep the states. An input with one dimension more, of this size, is
    /// fed step by step.
    #[arg(long, value_name = "N", conflicts_with = "inputs", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,
    /// Seed of inputs that are not given.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A folder for the outputs.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: Force,
    /// Print all elements of the outputs, not only those of small ones; in JSON as `values`.
    #[arg(long, visible_alias = "values")]
    data: bool,
    /// How many classes of a classifier are printed.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// The function to run [default: the model's default function]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// What the model should run on.
    #[arg(long, value_enum, default_value_t = TargetArg::Auto)]
    target: TargetArg,
    /// What fp16 programs are computed in.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Declared)]
    precision: PrecisionArg,
    /// Run the model in a process of its own: if that crashes, it is an error.
    #[arg(long)]
    isolated: bool,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PrecisionArg {
    /// As the program says.
    Declared,
    /// fp32, as Core ML does on the CPU.
    Wide,
}

#[derive(Serialize)]
struct Report<'a> {
    loaded: &'a Loaded,
    inputs: &'a SampleSource,
    #[serde(flatten)]
    run: Run,
}

/// Of one prediction.
#[derive(Serialize)]
struct Run {
    run_seconds: f64,
    outputs: BTreeMap<String, Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Class>>,
}

#[derive(Serialize)]
struct Many<'a> {
    loaded: &'a Loaded,
    inputs: &'a SampleSource,
    results: Vec<Named>,
}

/// Of one file of a folder, or one step.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    run: Option<Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let function = args.function.as_deref();
    let precision = match args.precision {
        PrecisionArg::Declared => Precision::Declared,
        PrecisionArg::Wide => Precision::Wide,
    };
    let options = LoadOptions { precision, ..global.load_options(function, args.threads) };
    if let Some(folder) = &args.output {
        check_folder(folder)?;
    }
    let load = || common::backend(args.target.into(), args.isolated)?.session(&model, &options);
    if let Some(folder) = args.inputs.folder(&model, function, printer)? {
        check_outputs(args, &model, (0..folder.len()).map(|set| name_in(&folder, set)))?;
        return run_folder(args, &model, &folder, &mut *load()?, printer);
    }
    let declared = Declared::new(&model, function)?;
    let (request, drawn, source) = request(args, &model, &declared, &options, printer)?;
    if source.is_drawn() {
        printer.note(format!("inputs: {source}"));
    }
    if let Some(steps) = args.steps {
        check_outputs(args, &model, (1..=steps).map(|step| format!("step-{step}")))?;
        let given = Given { request: &request, source: &source };
        return run_steps(args, &model, &declared, &given, steps as usize, &mut *load()?, printer);
    }
    check_outputs(args, &model, [String::new()])?;
    let mut session = load()?;
    let start = Instant::now();
    let prediction = session.predict(&request).map_err(|e| source.explain(request.explain(e)))?;
    let took = start.elapsed();
    if let Some(folder) = &args.output {
        write(args, folder, &model, &request, &drawn, &prediction)?;
    }
    let loaded = session.loaded();
    let info = model.info().function(function);
    if printer.is_json() {
        printer.json(&Report { loaded, inputs: &source, run: summary(args, info, &prediction, took) });
    } else {
        outputs::show(&prediction, info, args.top, args.data, printer);
        printer.note(format!(
            "plan {} in {}; ran in {}",
            loaded.plan,
            duration(loaded.duration),
            duration(took)
        ));
    }
    Ok(())
}

fn summary(args: &Args, info: Option<&FunctionInfo>, prediction: &Prediction, took: Duration) -> Run {
    Run {
        run_seconds: took.as_secs_f64(),
        outputs: Summary::all(prediction, info, args.data),
        top: outputs::best(prediction, info, args.top).map(|(_, classes)| classes),
    }
}

/// Runs the model for everything in a folder. What fails does not stop the others.
fn run_folder(
    args: &Args,
    model: &Arc<Model>,
    folder: &InputFolder,
    session: &mut dyn Session,
    printer: &Printer,
) -> Result<()> {
    let function = args.function.as_deref();
    let info = model.info().function(function);
    let mut results = Vec::new();
    let mut table = printer.table(&["input", "result"]);
    let mut failed: Vec<Error> = Vec::new();
    let mut runs = 0;
    let bar = progress::bar("running", folder.len() as u64);
    let mut folders = FileNames::default();
    // What cannot be written for one cannot be for the others.
    let mut unwritten = None;
    'sets: for set in 0..folder.len() {
        let name = name_in(folder, set);
        let requests = folder.read(set, args.inputs.fit());
        let requests = match requests {
            Ok(requests) => requests,
            Err(e) => {
                table.add_row(vec![name.clone(), "failed".into()]);
                results.push(Named { name, run: None, error: Some(e.to_string()) });
                failed.push(e);
                continue;
            }
        };
        let many = requests.len() > 1;
        for (i, request) in requests.iter().enumerate() {
            let name = if many { format!("{name}[{i}]") } else { name.clone() };
            let start = Instant::now();
            let ran = session.predict(request).map_err(|e| request.explain(e));
            let ran = ran.map(|prediction| (prediction, start.elapsed()));
            match ran {
                Ok((prediction, took)) => {
                    runs += 1;
                    if let Some(out) = &args.output {
                        let written =
                            write(args, &out.join(folders.file(&name)), model, request, &[], &prediction);
                        unwritten = written.err();
                    }
                    let best = outputs::best(&prediction, info, 1).and_then(|(_, mut best)| best.pop());
                    let short = best.map(|c| format!("{}  {}", c.label(), c.probability()));
                    let short = short.unwrap_or_else(|| outputs::in_short(&prediction, info));
                    table.add_row(vec![name.clone(), short]);
                    if printer.is_json() {
                        let run = Some(summary(args, info, &prediction, took));
                        results.push(Named { name, run, error: None });
                    }
                    if unwritten.is_some() {
                        break 'sets;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(e) => {
                    table.add_row(vec![name.clone(), "failed".into()]);
                    results.push(Named { name: name.clone(), run: None, error: Some(e.to_string()) });
                    failed.push(e);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&Many { loaded: session.loaded(), inputs: &folder.source(), results });
    } else {
        printer.show(&table);
        printer.note(format!("{} of the model", count(runs, "run", "runs")));
    }
    failed.splice(0..0, unwritten);
    if failed.is_empty() {
        return Ok(());
    }
    let first = failed.remove(0);
    failed.iter().for_each(printer::error);
    Err(first)
}

/// One set of inputs, and where they come from.
struct Given<'a> {
    request: &'a InferenceRequest,
    source: &'a SampleSource,
}

/// Runs the model again and again with its states.
fn run_steps(
    args: &Args,
    model: &Arc<Model>,
    declared: &Declared,
    given: &Given<'_>,
    steps: usize,
    session: &mut dyn Session,
    printer: &Printer,
) -> Result<()> {
    let function = args.function.as_deref();
    let info = model.info().function(function);
    let mut results = Vec::new();
    let mut table = printer.table(&["step", "result"]);
    let bar = progress::bar("running", steps as u64);
    for step in 0..steps {
        let inputs = given.request.inputs().iter();
        let parts = inputs.filter_map(|(n, t)| Some((n, part(t, step, steps, declared.shape(n))?)));
        let request = parts.fold(given.request.clone(), |r, (name, part)| r.input(name, part));
        let start = Instant::now();
        let prediction = session.predict(&request).map_err(|e| given.source.explain(request.explain(e)))?;
        let took = start.elapsed();
        let name = (step + 1).to_string();
        if let Some(out) = &args.output {
            write(args, &out.join(format!("step-{name}")), model, &request, &[], &prediction)?;
        }
        if printer.is_json() {
            let run = Some(summary(args, info, &prediction, took));
            results.push(Named { name, run, error: None });
        } else {
            let best = outputs::best(&prediction, info, 1).and_then(|(_, mut best)| best.pop());
            let short = best.map(|c| format!("{}  {}", c.label(), c.probability()));
            table.add_row(vec![name, short.unwrap_or_else(|| outputs::in_short(&prediction, info))]);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&Many { loaded: session.loaded(), inputs: given.source, results });
    } else {
        printer.show(&table);
    }
    Ok(())
}

/// What a stack of `steps` inputs holds for one step; none if the tensor is not a stack.
fn part(tensor: &Tensor, step: usize, steps: usize, declared: Option<&[usize]>) -> Option<Tensor> {
    let declared = declared?;
    let shape = tensor.shape();
    let is_stack = shape.split_first() == Some((&steps, declared))
        || shape.len() == declared.len()
            && shape != declared
            && shape.get(1..) == declared.get(1..)
            && shape.first().copied() == declared.first().and_then(|n| n.checked_mul(steps));
    if !is_stack || tensor.dtype().is_sub_byte() || tensor.dtype() == milwright::DType::String {
        return None;
    }
    let all = tensor.shared_bytes();
    let len = all.len() / steps;
    Tensor::from_bytes(tensor.dtype(), declared, all.slice(step * len..(step + 1) * len)).ok()
}

/// The given inputs, the names of those that had to be drawn, and how these were.
fn request(
    args: &Args,
    model: &Model,
    declared: &Declared,
    options: &LoadOptions,
    printer: &Printer,
) -> Result<(InferenceRequest, Vec<String>, SampleSource)> {
    let mut request = declared.read(&args.given, args.inputs.fit(), printer)?;
    let is_given = |name: &str, request: &InferenceRequest| request.inputs().named(name).is_some();
    let mut drawn = Vec::new();
    let mut source = SampleSource::default();
    if declared.names().any(|name| !is_given(name, &request)) {
        let samples = Samples::draw_within(model, args.function.as_deref(), args.seed, 1, options);
        let samples = samples.map_err(|e| e.with_hint(declared.hint()))?;
        source = samples.source;
        if let SampleSource::Drawn { ranges, .. } = &mut source {
            ranges.retain(|name, _| !is_given(name, &request));
        }
        for (name, tensor) in samples.requests[0].inputs() {
            if !is_given(name, &request) {
                request = match samples.requests[0].keys(name) {
                    Some(keys) => request.dictionary(name, Dictionary::new(keys.clone(), tensor.clone())?),
                    None => request.input(name, tensor.clone()),
                };
                drawn.push(name.clone());
            }
        }
    }
    Ok((request, drawn, source))
}

/// What a file or folder with inputs is called: its path in the folder.
fn name_in(folder: &InputFolder, set: usize) -> String {
    let path = folder.path(set);
    let inside = path.strip_prefix(folder.root()).ok().filter(|inside| *inside != Path::new(""));
    let name = inside.or(path.file_name().map(Path::new)).unwrap_or(path);
    name.to_string_lossy().into_owned()
}

/// Finds outputs that are there already, before the model runs for long: those of each set or step, which have a folder of
/// its name; the only one, without a name, has none.
fn check_outputs(args: &Args, model: &Model, sets: impl IntoIterator<Item = String>) -> Result<()> {
    let Some(folder) = &args.output else { return Ok(()) };
    let outputs = model.info().function(args.function.as_deref()).map_or(&[][..], |f| &f.outputs);
    let mut folders = FileNames::default();
    for set in sets {
        let folder = if set.is_empty() { folder.clone() } else { folder.join(folders.file(&set)) };
        let mut names = FileNames::default();
        args.force
            .check_files(outputs.iter().map(|o| folder.join(format!("{}.npy", names.file(&o.name)))))?;
    }
    Ok(())
}

/// How a tensor is written.
enum Form<'a> {
    Array,
    Image(&'a FeatureType),
    /// With its keys.
    Dictionary(&'a Tensor),
}

fn write(
    args: &Args,
    folder: &Path,
    model: &Model,
    request: &InferenceRequest,
    drawn: &[String],
    prediction: &Prediction,
) -> Result<()> {
    let info = model.info().function(args.function.as_deref());
    let mut names = FileNames::default();
    let mut outputs = Vec::new();
    for (name, tensor) in prediction.outputs() {
        let file = names.file(name);
        let feature = info.and_then(|f| f.outputs.named(name));
        outputs.push((folder.join(format!("{file}.npy")), tensor, Form::Array));
        if let Some(ty @ FeatureType::Image { .. }) = feature.map(|f| &f.ty) {
            outputs.push((folder.join(format!("{file}.png")), tensor, Form::Image(ty)));
        }
        if let Some(keys) = outputs::keys(prediction, info, name) {
            outputs.push((folder.join(format!("{file}.json")), tensor, Form::Dictionary(keys)));
        }
    }
    let inputs_folder = folder.join("inputs");
    let mut names = FileNames::default();
    for (name, tensor) in request.inputs().iter().filter(|(n, _)| drawn.contains(n)) {
        let file = names.file(name);
        outputs.push(match request.keys(name) {
            Some(keys) => (inputs_folder.join(format!("{file}.json")), tensor, Form::Dictionary(keys)),
            None => (inputs_folder.join(format!("{file}.npy")), tensor, Form::Array),
        });
    }
    args.force.check_files(outputs.iter().map(|(path, ..)| path.clone()))?;

    let mut files = Files::new(args.force.existing());
    for (path, tensor, form) in outputs {
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        match form {
            Form::Array => files.npy(path, tensor)?,
            Form::Image(ty) => files.png(path, tensor, ty)?,
            Form::Dictionary(keys) => files.text(path, &format!("{}\n", dictionary_as_json(keys, tensor)))?,
        }
    }
    files.commit().map_err(Force::explain)
}
