//! `milwright plan`

use std::collections::BTreeMap;
use std::path::PathBuf;

use milwright::{ComputePlan, ComputeUnits, CoreMl, Device, LoadOptions, PlannedOp, Result};
use serde_json::{Value, json};

use crate::common::{self, Global, TargetArg};
use crate::printer::Printer;

/// Shows where Core ML means to run each op of a model, and what part of the cost it expects there.
///
/// Only Core ML knows, on the machine that it is for.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright plan model.mlpackage
  milwright plan model.mlpackage --target gpu --json | jq '.ops[] | select(.device != \"gpu\")'")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file.
    model: PathBuf,
    /// What Core ML may use: the Neural Engine, the GPU, or all; the CPU always.
    #[arg(long, value_enum, default_value_t = TargetArg::Auto)]
    target: TargetArg,
    /// The function [default: the model's default function]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let compute_units = match args.target {
        TargetArg::Auto => ComputeUnits::All,
        TargetArg::Ane => ComputeUnits::CpuAndNeuralEngine,
        TargetArg::Gpu => ComputeUnits::CpuAndGpu,
        TargetArg::Cpu => ComputeUnits::CpuOnly,
    };
    let options = LoadOptions { compute_units, ..global.load_options(args.function.as_deref(), 0) };
    let plan = CoreMl.compute_plan(&model, &options)?;
    if printer.is_json() {
        printer.json(&json!({
            "ops": plan.ops.iter().map(op).collect::<Vec<_>>(),
            "layers": plan.layers.iter().map(op).collect::<Vec<_>>(),
        }));
    } else {
        show(&plan, printer);
    }
    Ok(())
}

fn op(op: &PlannedOp) -> Value {
    json!({
        "function": op.function,
        "operator": op.operator,
        "outputs": op.outputs,
        "device": op.preferred.as_ref().map(name),
        "supported": op.supported.iter().map(name).collect::<Vec<_>>(),
        "cost": op.cost,
    })
}

/// A device, as targets are called.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Gpu => "gpu".into(),
        Device::NeuralEngine { .. } => "ane".into(),
        Device::Other(class) => class.clone(),
    }
}

fn show(plan: &ComputePlan, printer: &Printer) {
    let mut table = printer.table(&["op", "outputs", "device", "could run on", "cost"]);
    // Constants run nowhere.
    let placed = || plan.ops.iter().chain(&plan.layers).filter(|op| op.preferred.is_some());
    for op in placed() {
        table.add_row(vec![
            op.operator.clone(),
            op.outputs.join(", "),
            op.preferred.as_ref().map(name).unwrap_or_default(),
            op.supported.iter().map(name).collect::<Vec<_>>().join(", "),
            op.cost.map_or("–".into(), |cost| format!("{:.1} %", 100.0 * cost)),
        ]);
    }
    printer.show(&table);
    let mut devices: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for op in placed() {
        let (ops, cost) = devices.entry(op.preferred.as_ref().map(name).unwrap_or_default()).or_default();
        *ops += 1;
        *cost += op.cost.unwrap_or_default();
    }
    for (device, (ops, cost)) in devices {
        printer.line(format!("{device}: {ops} ops, {:.1} % of the cost", 100.0 * cost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_called_as_targets_are() {
        let devices =
            [Device::Cpu, Device::Gpu, Device::NeuralEngine { cores: 16 }, Device::Other("MLX".into())];
        assert_eq!(devices.each_ref().map(name), ["cpu", "gpu", "ane", "MLX"]);
        let conv = PlannedOp {
            operator: "ios17.conv".into(),
            outputs: vec!["y".into()],
            preferred: Some(Device::NeuralEngine { cores: 16 }),
            cost: Some(0.5),
            ..PlannedOp::default()
        };
        assert_eq!(op(&conv)["device"], "ane");
        assert_eq!(op(&PlannedOp::default())["device"], Value::Null);
    }
}
