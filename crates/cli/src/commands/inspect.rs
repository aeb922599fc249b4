//! `milwright inspect`

use std::path::PathBuf;

use milwright::{FeatureInfo, FeatureType, Flexibility, ModelInfo, Result};

use crate::printer::Printer;

/// Describes a model: its inputs and outputs, functions, ops and metadata.
///
/// Reads Core ML files of any model type, also those that cannot be run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright inspect model.mlpackage
  milwright inspect model.mlmodel --json | jq .functions[0].inputs")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file.
    model: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let info = ModelInfo::open(&args.model)?;
    if printer.is_json() {
        printer.json(&info);
    } else {
        show(&info, printer, 0);
    }
    Ok(())
}

fn show(info: &ModelInfo, printer: &Printer, depth: usize) {
    let runs = if info.runnable { "" } else { " (not run by this version)" };
    printer.line(format!("{}, specification version {}{runs}", info.model_type, info.specification_version));
    for (key, value) in info.metadata.iter().chain(&info.user_defined) {
        printer.line(format!("  {key}: {value}"));
    }
    for function in &info.functions {
        let default =
            if info.functions.len() > 1 && function.name == info.default_function { ", default" } else { "" };
        let opset = function.opset.as_ref().map(|o| format!(" ({o}{default})")).unwrap_or_default();
        printer.line(format!("\nfunction {}{opset}", function.name));
        let mut table = printer.table(&["", "name", "type", "description"]);
        let groups =
            [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)];
        for (what, features) in groups {
            for f in features {
                table.add_row(vec![what.to_owned(), f.name.clone(), feature_type(f), f.description.clone()]);
            }
        }
        printer.show(&table);
        if !function.ops.is_empty() {
            let mut ops: Vec<_> = function.ops.iter().collect();
            ops.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), (*name).clone()));
            let ops: Vec<String> = ops.iter().map(|(name, n)| format!("{name} {n}")).collect();
            printer.line(format!("ops: {}", ops.join(", ")));
        }
    }
    for (i, model) in info.pipeline.iter().enumerate() {
        printer.line(format!(
            "\n--- model {} of the pipeline{}",
            i + 1,
            if depth > 0 { " (nested)" } else { "" }
        ));
        show(model, printer, depth + 1);
    }
}

fn feature_type(feature: &FeatureInfo) -> String {
    let optional = if feature.optional { ", optional" } else { "" };
    format!("{}{optional}", ty(&feature.ty))
}

/// A feature's type in words.
pub fn ty(ty: &FeatureType) -> String {
    match ty {
        FeatureType::MultiArray { dtype, shape, flexibility } => {
            format!("{dtype} {shape:?}{}", flexible(flexibility))
        }
        FeatureType::Image { width, height, color, flexibility } => {
            format!("image {color} {width} x {height}{}", flexible(flexibility))
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

fn flexible(flexibility: &Flexibility) -> String {
    match flexibility {
        Flexibility::Fixed => String::new(),
        Flexibility::Enumerated { shapes } => {
            let shapes: Vec<String> = shapes.iter().map(|s| format!("{s:?}")).collect();
            format!(", one of {}", shapes.join(" "))
        }
        Flexibility::Range { dimensions } => {
            let range = |&(low, high): &(u64, i64)| match high {
                ..0 => format!("{low}.."),
                _ if low as i64 == high => low.to_string(),
                _ => format!("{low}..{high}"),
            };
            let ranges: Vec<String> = dimensions.iter().map(range).collect();
            format!(", flexible [{}]", ranges.join(", "))
        }
    }
}
