//! `milwright run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use milwright::{
    Error, ErrorKind, FeatureType, Files, InferenceRequest, Loaded, Model, Prediction, Result, SampleSource,
    Samples, Target, Tensor, read_file,
};
use serde::Serialize;

use crate::common::{self, Global};
use crate::printer::{Printer, duration, number};

/// Runs a model once.
///
/// Inputs that are not given are drawn to suit the model, from the seed. With --output, each output is written as
/// DIR/NAME.npy (images as DIR/NAME.png as well), and drawn inputs as DIR/inputs/NAME.npy.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright run model.mlpackage --input image=photo.png --output out/
  milwright run model.mlpackage --input x=x.npy --input mask=mask.npy --json
  milwright run model.mlpackage --seed 7 --function decode")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file, with an ML program.
    model: PathBuf,
    /// An input: a .npy file, or a .png or .jpg file for an image.
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = input)]
    inputs: Vec<(String, PathBuf)>,
    /// Seed of inputs that are not given.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A folder for the outputs.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The function to run [default: the model's default function]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Run the model in a process of its own: if that crashes, it is an error.
    #[arg(long)]
    isolated: bool,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
}

fn input(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("inputs are given as NAME=FILE, such as image=photo.png".into()),
    }
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let function = args.function.as_deref();
    let options = global.load_options(function, args.threads);
    if let Some(folder) = args.output.as_deref().filter(|f| f.exists() && !f.is_dir()) {
        let error =
            Error::new(ErrorKind::InvalidInput, "a file of this name is in the way; outputs go to a folder");
        return Err(error.with_hint("choose another name with --output").at(folder));
    }
    let (request, drawn, source) = request(args, &model)?;
    if !drawn.is_empty() {
        printer.note(format!("drawn from seed {}: {}", args.seed, drawn.join(", ")));
    }
    let mut session = common::backend(Target::Auto, args.isolated)?.load(&model, &options)?;
    let start = std::time::Instant::now();
    let prediction = session.predict(&request).map_err(|e| source.explain(e))?;
    let took = start.elapsed();
    if let Some(folder) = &args.output {
        write(folder, &model, function, &request, &drawn, &prediction)?;
    }
    let loaded = session.loaded();
    if printer.is_json() {
        let outputs = prediction.outputs().iter().map(|(n, t)| (n.clone(), Summary::new(t))).collect();
        printer.json(&Report { loaded, run_seconds: took.as_secs_f64(), outputs });
    } else {
        show(&prediction, printer);
        printer.note(format!(
            "plan {} in {}; ran in {}",
            loaded.plan,
            duration(loaded.duration),
            duration(took)
        ));
    }
    Ok(())
}

/// The given inputs, the names of those that had to be drawn, and how these were.
fn request(args: &Args, model: &Model) -> Result<(InferenceRequest, Vec<String>, SampleSource)> {
    let function = args.function.as_deref();
    let info = model.info().function(function);
    let names: Vec<&str> = match model.program() {
        Ok(_) => {
            let program = model.function(function)?;
            program.inputs.iter().map(|&v| program[v].name.as_str()).collect()
        }
        Err(_) => info.map(|f| f.inputs.iter().map(|i| i.name.as_str()).collect()).unwrap_or_default(),
    };
    let mut request = InferenceRequest::new();
    for (i, (name, file)) in args.inputs.iter().enumerate() {
        if !names.contains(&name.as_str()) {
            let error = Error::new(ErrorKind::InvalidInput, format!("the model has no input `{name}`"));
            return Err(error.with_hint(format!("its inputs are: {}", names.join(", "))).at(model.path()));
        }
        if args.inputs[..i].iter().any(|(n, _)| n == name) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the input `{name}` is given twice")));
        }
        let feature = info.and_then(|f| f.inputs.iter().find(|i| i.name == *name));
        request = request.input(name, read_file(file, feature.map(|f| &f.ty))?);
    }
    let needs_more = names.iter().any(|name| !args.inputs.iter().any(|(n, _)| n == name));
    let mut drawn = Vec::new();
    let mut source = SampleSource::default();
    if needs_more {
        let samples = Samples::draw(model, function, args.seed, 1)?;
        source = samples.source;
        for (name, tensor) in samples.requests[0].inputs() {
            if !args.inputs.iter().any(|(n, _)| n == name) {
                request = request.input(name, tensor.clone());
                drawn.push(name.clone());
            }
        }
    }
    Ok((request, drawn, source))
}

fn write(
    folder: &Path,
    model: &Model,
    function: Option<&str>,
    request: &InferenceRequest,
    drawn: &[String],
    prediction: &Prediction,
) -> Result<()> {
    let make = |folder: &Path| std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e));
    make(folder)?;
    let mut files = Files::default();
    let info = model.info().function(function);
    for (name, tensor) in prediction.outputs() {
        files.npy(file(folder, name, "npy"), tensor)?;
        let feature = info.and_then(|f| f.outputs.iter().find(|o| o.name == *name));
        if let Some(ty @ FeatureType::Image { .. }) = feature.map(|f| &f.ty) {
            files.png(file(folder, name, "png"), tensor, ty)?;
        }
    }
    if !drawn.is_empty() {
        let folder = folder.join("inputs");
        make(&folder)?;
        for (name, tensor) in request.inputs().iter().filter(|(n, _)| drawn.contains(n)) {
            files.npy(file(&folder, name, "npy"), tensor)?;
        }
    }
    files.commit()
}

/// `NAME.EXTENSION` in a folder; a name from a model must not lead out of it.
fn file(folder: &Path, name: &str, extension: &str) -> PathBuf {
    let safe: String =
        name.chars().map(|c| if matches!(c, '/' | '\\' | ':' | '\0') { '_' } else { c }).collect();
    folder.join(format!("{safe}.{extension}"))
}

#[derive(Serialize)]
struct Report<'a> {
    loaded: &'a Loaded,
    run_seconds: f64,
    outputs: BTreeMap<String, Summary>,
}

#[derive(Serialize)]
struct Summary {
    dtype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    text: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    not_finite: usize,
}

impl Summary {
    fn new(tensor: &Tensor) -> Summary {
        let values = tensor.to_f64();
        let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        let fold = |f: fn(f64, f64) -> f64| finite.iter().copied().reduce(f);
        Summary {
            dtype: tensor.dtype().name(),
            shape: tensor.shape().to_vec(),
            text: tensor.strings().to_vec(),
            min: fold(f64::min),
            max: fold(f64::max),
            mean: (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64),
            not_finite: values.len() - finite.len(),
        }
    }
}

fn show(prediction: &Prediction, printer: &Printer) {
    let mut table = printer.table(&["output", "type", "min", "mean", "max", "not finite"]);
    for (name, tensor) in prediction.outputs() {
        let s = Summary::new(tensor);
        let whole = tensor.dtype().is_int();
        let cell = |x: Option<f64>| x.map_or("–".to_owned(), number);
        let bound =
            |x: Option<f64>| if whole { x.map_or("–".to_owned(), |x| x.to_string()) } else { cell(x) };
        let min = if s.text.is_empty() { bound(s.min) } else { s.text.join(" ") };
        let shape = format!("{} {:?}", s.dtype, s.shape);
        table.add_row(vec![name.clone(), shape, min, cell(s.mean), bound(s.max), s.not_finite.to_string()]);
    }
    printer.show(&table);
}
