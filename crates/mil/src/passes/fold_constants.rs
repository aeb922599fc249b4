//! Replaces ops whose results are known by constants.
//!
//! ```text
//! s = shape(x = x)                               x: tensor<fp32, [2, 3]>
//! n = gather(x = s, indices = 0, axis = 0)       n = const()[val = int32(2)]
//! ```
//!
//! Results that inference does not know are computed by the engine. Compressed constants (`constexpr_*`) stay
//! compressed. Large results are folded only if they are no larger than their inputs. Outputs of functions and blocks
//! are not folded.

use super::Editor;
use crate::infer::infer;
use crate::{Arg, Evaluate, OpId, OpKind, Value};

/// Results of at most this many bytes are folded even if their inputs are smaller.
const SMALL: usize = 1 << 16;

pub(super) fn run(e: &mut Editor<'_>, engine: Option<&dyn Evaluate>) {
    let facts = infer(e.f, &[], engine).0;
    for op in e.f.walk() {
        let data = &e.f[op];
        if data.kind == OpKind::Const || data.kind.is_constexpr() || !Editor::is_pure(data) {
            continue;
        }
        let known = data.outputs.iter().map(|&o| facts.value(o).filter(|v| v.as_tensor().is_some()).cloned());
        let Some(values) = known.collect::<Option<Vec<Value>>>().filter(|v| !v.is_empty()) else { continue };
        let outputs = data.outputs.clone();
        if outputs.iter().any(|&o| e.is_output(o)) {
            e.skip(op, "the result is an output");
            continue;
        }
        let size: usize = values.iter().map(bytes).sum();
        if size > SMALL && size > input_bytes(e, op) {
            e.skip(op, "the result is larger than what it is made of");
            continue;
        }
        match <[Value; 1]>::try_from(values) {
            Ok([value]) => e.rewrite_as_const(op, value),
            Err(values) => {
                for (&output, value) in outputs.iter().zip(values) {
                    let base = format!("{}_folded", e.f[output].name);
                    let new = e.new_const(op, &base, value);
                    e.replace(output, new);
                }
            }
        }
    }
}

fn bytes(value: &Value) -> usize {
    value.as_tensor().map_or(0, |t| t.bytes().len() + t.strings().len())
}

fn input_bytes(e: &Editor<'_>, op: OpId) -> usize {
    let size = |a: &Arg| match a {
        Arg::Value(v) => e.f.const_value(*v).map_or(0, bytes),
        Arg::Const(c) => bytes(c),
    };
    e.f[op].inputs.iter().flat_map(|i| &i.args).map(size).sum()
}
