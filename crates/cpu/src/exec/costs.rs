//! What the steps of a plan cost, from the types of their operands.

use milwright_mil::OpKind;
use milwright_mil::engine::StepCost;

use super::{Executable, Work};
use crate::plan::ValueNo;

impl Executable {
    /// What each step of the body costs at least: see [`Executable::step_names`].
    pub fn step_costs(&self) -> Vec<StepCost> {
        self.body.iter().map(|step| self.cost(&step.work)).collect()
    }

    fn cost(&self, work: &Work) -> StepCost {
        let none = Vec::new();
        let (read, written, ops) = match work {
            Work::Step { inputs, outputs, ops, epilogue, .. } => {
                let more = epilogue.as_ref().map_or(&none, |(_, inputs, _)| inputs);
                (inputs.iter().chain(more).copied().collect::<Vec<_>>(), outputs.clone(), ops.as_slice())
            }
            Work::Chain { inputs, output, ops, .. } => (inputs.clone(), vec![*output], ops.as_slice()),
            Work::ReadState { output, .. } => (vec![*output], vec![*output], &[][..]),
            Work::WriteState { value, .. } => (vec![*value], vec![*value], &[][..]),
            Work::Dynamic { .. } | Work::Late(_) | Work::Cond { .. } | Work::While { .. } => {
                return StepCost::default();
            }
        };
        let bytes = |v: &ValueNo| {
            let tensor = self.values[*v].tensor.as_ref();
            tensor.and_then(|(dtype, shape)| dtype.byte_len(shape.iter().product())).unwrap_or(0) as u64
        };
        let shape = |v: Option<&ValueNo>| {
            let tensor = v.and_then(|&v| self.values[v].tensor.as_ref());
            tensor.map_or(&[][..], |(_, shape)| shape)
        };
        let count = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
        let elements = count(shape(written.first()));
        // An operand that a product reads once for each element of the result, or each element of its input.
        let (first, second) = (shape(read.first()), shape(read.get(1)));
        let products = match ops.first() {
            Some(OpKind::Conv) => elements * count(second.get(1..).unwrap_or(&[])),
            Some(OpKind::ConvTranspose) => count(first) * count(second.get(1..).unwrap_or(&[])),
            Some(OpKind::Linear) => elements * second.last().map_or(1, |&k| k as u64),
            Some(OpKind::Matmul) => {
                // One of the last two dimensions of the first operand is the inner one.
                let rows = shape(written.first()).iter().rev().nth(1).map_or(1, |&m| m as u64);
                let last: u64 = first.iter().rev().take(2).map(|&n| n as u64).product();
                elements * (last / rows.max(1)).max(1)
            }
            Some(OpKind::Lstm | OpKind::Gru | OpKind::Rnn) => {
                let steps = first.first().map_or(1, |&n| n as u64) * first.get(1).map_or(1, |&n| n as u64);
                let weights = read.iter().map(|v| shape(Some(v))).filter(|s| s.len() == 2);
                steps * weights.map(count).sum::<u64>()
            }
            _ => 0,
        };
        let element_wise =
            if products == 0 { elements } else { 0 } + elements * ops.len().saturating_sub(1) as u64;
        StepCost { flops: 2 * products + element_wise, bytes: read.iter().chain(&written).map(bytes).sum() }
    }
}
