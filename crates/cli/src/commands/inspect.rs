//! `milwright inspect`

use std::path::{Path, PathBuf};

use milwright::{
    ClassLabels, Error, ErrorKind, FeatureInfo, FeatureType, Flexibility, FunctionInfo, ModelInfo,
    Preprocessing, Result, Storage,
};
use serde_json::{Value, json};

use crate::common;
use crate::printer::{self, Printer, bytes, count, grouped, number, wrapped};

/// Describes models: inputs, outputs, parameters and how they are stored, needs.
///
/// Reads Core ML files of any model type, also those that cannot be run, and packages whose weights are missing.
/// Several models are compared in a table.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright inspect model.mlpackage
  milwright inspect model.mlpackage small.mlpackage
  milwright inspect model.mlmodel --json | jq .functions[0].inputs
  milwright inspect model.mlpackage --json | jq .storage.parameters

Parameters are counted as they are after decompression, their bytes as they are in the file.
Of several models each is described even if another one cannot be read; the exit code is that of
the first one that could not.")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file; several are compared.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// List the weights of one model, with the ops that use them: what a configuration of `optimize` can name.
    #[arg(long)]
    weights: bool,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    if args.weights {
        return list_weights(args, printer);
    }
    if let [model] = &args.models[..] {
        let info = ModelInfo::open(model)?;
        if printer.is_json() {
            printer.json(&info);
        } else {
            show(&info, "", printer);
            info.warnings.iter().for_each(|warning| printer.note(format!("warning: {warning}")));
        }
        return Ok(());
    }
    let opened: Vec<(&Path, Result<ModelInfo>)> =
        args.models.iter().map(|path| (path.as_path(), ModelInfo::open(path))).collect();
    if printer.is_json() {
        let each = |(path, info): &(&Path, Result<ModelInfo>)| entry(path, info);
        printer.json(&opened.iter().map(each).collect::<Vec<_>>());
    } else {
        compare(&opened, printer);
    }
    let mut failed: Vec<Error> = opened.into_iter().filter_map(|(_, info)| info.err()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let first = failed.remove(0);
    failed.iter().for_each(printer::error);
    Err(first)
}

/// The weights that `optimize` looks at, and how they are stored.
fn list_weights(args: &Args, printer: &Printer) -> Result<()> {
    const LEAST: usize = 2049;
    let [path] = &args.models[..] else {
        return Err(Error::new(ErrorKind::InvalidInput, "--weights takes one model"));
    };
    let found = milwright::weights(&common::open(path)?, LEAST)?;
    if printer.is_json() {
        printer.json(&found);
        return Ok(());
    }
    let mut table = printer.table(&["weight", "shape", "type", "stored", "zeros", "values", "used by"]);
    printer::align_right(&mut table, &[4, 5]);
    for w in &found {
        let users: Vec<String> = w.users.iter().map(|u| format!("{} {}", u.op_type, u.name)).collect();
        table.add_row(vec![
            w.name.clone(),
            format!("{:?}", w.shape),
            w.dtype.clone(),
            w.form.clone(),
            format!("{:.1} %", 100.0 * w.sparsity),
            grouped(w.unique_values as u64),
            users.join(", "),
        ]);
    }
    printer.show(&table);
    Ok(())
}

/// A model's description with its path, or the error.
fn entry(path: &Path, info: &Result<ModelInfo>) -> Value {
    match info {
        Ok(info) => {
            let mut entry = json!({ "path": path.display().to_string() });
            if let (Some(entry), Ok(Value::Object(info))) =
                (entry.as_object_mut(), serde_json::to_value(info))
            {
                entry.extend(info);
            }
            entry
        }
        Err(e) => json!({ "path": path.display().to_string(), "error": e.to_string(), "hint": e.hint() }),
    }
}

/// Several models beside each other.
fn compare(models: &[(&Path, Result<ModelInfo>)], printer: &Printer) {
    let heads = ["model", "type", "parameters", "bytes", "bits", "stored", "needs", "inputs → outputs"];
    let mut table = printer.table(&heads);
    printer::align_right(&mut table, &[2, 3, 4]);
    for (path, info) in models {
        let path = path.display().to_string();
        let Ok(info) = info else {
            table.add_row(vec![path, "(cannot be read)".to_owned()]);
            continue;
        };
        let storage = &info.storage;
        let forms: Vec<String> = storage.forms.iter().map(|f| format!("{} {}", f.form, f.dtype)).collect();
        let names = |features: &[FeatureInfo]| {
            features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let function = info.function(None);
        let interface =
            function.map_or(String::new(), |f| format!("{} → {}", names(&f.inputs), names(&f.outputs)));
        table.add_row(vec![
            path,
            info.model_type().to_owned(),
            if storage.parameters > 0 { grouped(storage.parameters) } else { "–".into() },
            if storage.bytes > 0 { bytes(storage.bytes) } else { "–".into() },
            storage.bits_per_parameter.map_or("–".into(), |b| format!("{b:.1}")),
            wrapped(&forms.join(", "), 20),
            info.needs.as_ref().map_or("–".into(), |n| format!("iOS {}", n.ios)),
            wrapped(&interface, 28),
        ]);
    }
    printer.show(&table);
}

/// `within` says where in a pipeline the model is, if it is in one.
fn show(info: &ModelInfo, within: &str, printer: &Printer) {
    let runs = if info.runnable { "" } else { " (not run by this version)" };
    let needs = info
        .needs
        .as_ref()
        .map_or(String::new(), |n| format!(" (iOS {}, macOS {} or newer)", n.ios, n.macos));
    printer.line(format!(
        "{}, specification version {}{needs}{runs}",
        info.model_type(),
        info.specification_version
    ));
    for (key, value) in info.metadata.iter().chain(&info.user_defined) {
        printer.line(format!("  {key}: {value}"));
    }
    show_storage(&info.storage, printer);
    for function in &info.functions {
        show_function(function, info, printer);
    }
    for (i, model) in info.pipeline.iter().enumerate() {
        let outer = if within.is_empty() { String::new() } else { format!("{within}: ") };
        let name = info.pipeline_names.get(i).filter(|name| !name.is_empty());
        let name = name.map_or(String::new(), |name| format!(", `{name}`"));
        let within = format!("{outer}model {} of the pipeline{name}", i + 1);
        printer.line(format!("\n--- {within}"));
        show(model, &within, printer);
    }
}

fn show_storage(storage: &Storage, printer: &Printer) {
    let Some(bits) = storage.bits_per_parameter else { return };
    printer.line(format!(
        "\n{} parameters in {}: {bits:.1} bits each",
        grouped(storage.parameters),
        bytes(storage.bytes)
    ));
    let mut table = printer.table(&["stored", "computed in", "weights", "parameters", "bytes", "bits each"]);
    printer::align_right(&mut table, &[2, 3, 4, 5]);
    for form in &storage.forms {
        table.add_row(vec![
            form.form.clone(),
            form.dtype.clone(),
            grouped(form.weights),
            grouped(form.parameters),
            bytes(form.bytes),
            format!("{:.1}", form.bits_per_parameter),
        ]);
    }
    printer.show(&table);
}

fn show_function(function: &FunctionInfo, info: &ModelInfo, printer: &Printer) {
    let default =
        if info.functions.len() > 1 && function.name == info.default_function { ", default" } else { "" };
    let opset = function.opset.as_ref().map(|o| format!(" ({o}{default})")).unwrap_or_default();
    printer.line(format!("\nfunction {}{opset}", function.name));
    let mut table = printer.table(&["", "name", "type", "description"]);
    let groups = [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)];
    for (what, features) in groups {
        for f in features {
            let description = wrapped(&f.description, 50);
            table.add_row(vec![what.to_owned(), f.name.clone(), wrapped(&feature_type(f), 48), description]);
            if let Some(preprocessing) = &f.preprocessing {
                table.add_row(vec![String::new(), String::new(), wrapped(&scaling(preprocessing), 48)]);
            }
        }
    }
    printer.show(&table);
    if let Some(classes) = &function.classes {
        printer.lines(&wrapped(&labels(classes), 100));
    }
    if let Some(n) = function.multiply_adds.filter(|n| *n > 0) {
        printer.line(format!("computation: {} multiply-adds", grouped(n)));
    }
    if !function.ops.is_empty() {
        let mut ops: Vec<_> = function.ops.iter().collect();
        ops.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), (*name).clone()));
        let ops: Vec<String> = ops.iter().map(|(name, n)| format!("{name} {n}")).collect();
        printer.line(format!("ops: {}", ops.join(", ")));
    }
}

/// Class labels that are shown; `--json` has all of them.
const SHOWN_LABELS: usize = 10;

fn labels(classes: &ClassLabels) -> String {
    let (labels, n): (Vec<String>, usize) = match classes {
        ClassLabels::Text(labels) => (labels.iter().take(SHOWN_LABELS).cloned().collect(), labels.len()),
        ClassLabels::Int64(labels) => {
            (labels.iter().take(SHOWN_LABELS).map(i64::to_string).collect(), labels.len())
        }
    };
    let more = if n > SHOWN_LABELS { ", …" } else { "" };
    format!("{}: {}{more}", count(n, "class", "classes"), labels.join(", "))
}

fn feature_type(feature: &FeatureInfo) -> String {
    let mut text = match (&feature.ty, &feature.program_shape) {
        // Many converters declare no shapes for outputs.
        (FeatureType::MultiArray { dtype, shape, .. }, Some(known)) if shape.is_empty() => {
            let size = |n: &Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
            let sizes: Vec<String> = known.iter().map(size).collect();
            let unknown = if known.contains(&None) { " (? depends on the inputs)" } else { "" };
            format!("{dtype} [{}]{unknown}", sizes.join(", "))
        }
        _ => ty(&feature.ty),
    };
    match feature.default {
        Some(default) => text += &format!(", optional ({default} if left out)"),
        None if feature.optional => text += ", optional",
        None => {}
    }
    text
}

/// What happens to pixels first.
fn scaling(preprocessing: &Preprocessing) -> String {
    if preprocessing.mean_image {
        return "a mean image is subtracted first".into();
    }
    let one = |numbers: &[f64]| match numbers {
        [first, rest @ ..] if rest.iter().all(|x| x == first) => number(*first),
        _ => format!("[{}]", numbers.iter().map(|x| number(*x)).collect::<Vec<_>>().join(", ")),
    };
    let bias = match &preprocessing.bias[..] {
        bias if bias.iter().all(|b| *b == 0.0) => String::new(),
        bias => format!(" + {}", one(bias)),
    };
    format!("scaled first: {} * pixel{bias}", one(&preprocessing.scale))
}

/// A feature's type in words.
pub fn ty(ty: &FeatureType) -> String {
    match ty {
        FeatureType::MultiArray { dtype, shape, flexibility: Flexibility::Fixed } if shape.is_empty() => {
            format!("{dtype}, shape not declared")
        }
        FeatureType::MultiArray { dtype, shape, flexibility } => {
            format!("{dtype} {shape:?}{}", flexible(flexibility, shape, false))
        }
        FeatureType::Image { width, height, color, flexibility } => {
            let flexible = flexible(flexibility, &[*height, *width], true);
            format!("image {color} {width} x {height}{flexible}")
        }
        FeatureType::Int64 => "int64".into(),
        FeatureType::Double => "double".into(),
        FeatureType::String => "string".into(),
        FeatureType::Dictionary { key } => format!("dictionary of {key}"),
        FeatureType::Sequence { element } => format!("sequence of {element}"),
        FeatureType::State { dtype, shape } => format!("state {dtype} {shape:?}"),
        FeatureType::Unknown => "unknown".into(),
    }
}

/// Other shapes, besides the default one.
fn flexible(flexibility: &Flexibility, default: &[u64], is_image: bool) -> String {
    let size = |s: &[u64]| match s {
        [height, width] if is_image => format!("{width} x {height}"),
        _ => format!("{s:?}"),
    };
    match flexibility {
        Flexibility::Fixed => String::new(),
        Flexibility::Enumerated { shapes } => {
            let others: Vec<String> = shapes.iter().filter(|s| s[..] != *default).map(|s| size(s)).collect();
            match others.len() {
                0 => String::new(),
                _ => format!(", or {}", others.join(", or ")),
            }
        }
        Flexibility::Range { dimensions } => {
            let ranges: Vec<String> = dimensions.iter().map(ToString::to_string).collect();
            match &ranges[..] {
                [height, width] if is_image => format!(", flexible: width {width}, height {height}"),
                _ => format!(", flexible: [{}]", ranges.join(", ")),
            }
        }
    }
}
