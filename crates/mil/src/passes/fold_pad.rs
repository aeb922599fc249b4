//! Folds a `pad` with zeros into the convolution after it.
//!
//! ```text
//! p = pad(x = x, pad = [0, 0, 0, 0, 1, 1, 2, 2])
//! y = conv(x = p, weight = w, pad_type = "valid")    y = conv(x = x, weight = w, pad_type = "custom",
//!                                                             pad = [1, 1, 2, 2])
//! ```
//!
//! Only the dimensions that the convolution slides over may be padded.

use super::Editor;
use crate::infer::Facts;
use crate::ops::OpDef;
use crate::ops::defs::{Conv, Pad};
use crate::{Evaluate, Input, OpId, OpKind, TensorType, Value, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        if e.is(op, OpKind::Conv) {
            fold(e, &facts, op);
        }
    }
}

fn fold(e: &mut Editor<'_>, facts: &Facts, conv: OpId) -> Option<()> {
    let x = e.value(conv, param!(Conv.x))?;
    let pad = e.producer(x, OpKind::Pad)?;
    if !e.used_once(x) {
        e.skip(conv, "something else uses the padded tensor");
        return None;
    }
    let source = e.value(pad, param!(Pad.x))?;
    let rank = facts.ty(e.f, x).as_tensor().map(TensorType::rank)?;
    let (pad_view, conv_view) = (facts.view(e.f, pad).ok()?, facts.view(e.f, conv).ok()?);
    let (pad_params, conv_params) = (Pad::params(&pad_view).ok()?, Conv::params(&conv_view).ok()?);
    let filled = pad_params.constant_val.map_or(Ok(0.0), |v| v.float()).ok()?;
    let zeros = pad_params.mode == "constant" && filled == 0.0;
    let added = pad_params.pad.ints().ok()?;
    // Both parameters have two numbers for each of the last dimensions; a convolution's window slides over all but the
    // first two.
    let spatial = rank.checked_sub(2)? * 2;
    let outside = added.len().saturating_sub(spatial);
    if !zeros || added[..outside].iter().any(|&n| n != 0) {
        e.skip(
            conv,
            "the padding is not of zeros, or not only of dimensions that the convolution slides over",
        );
        return None;
    }
    let own = match conv_params.pad_type {
        "valid" => vec![0; spatial],
        "custom" => conv_params.pad.filter(|p| p.len() == spatial)?,
        _ => {
            e.skip(conv, "the convolution pads by the size of its input");
            return None;
        }
    };
    let mut sum = own;
    let missing = spatial - (added.len() - outside);
    for (s, n) in sum[missing..].iter_mut().zip(&added[outside..]) {
        *s = s.checked_add(*n)?;
    }
    let sum = sum.iter().map(|&n| i32::try_from(n).ok()).collect::<Option<Vec<i32>>>()?;
    let name = e.f[e.f[conv].outputs[0]].name.clone();
    let pad = e.new_const(conv, &format!("{name}_pad"), Value::ints(&sum));
    let pad_type = e.new_const(conv, &format!("{name}_pad_type"), Value::string("custom"));
    let mut inputs = e.f[conv].inputs.clone();
    inputs.retain(|i| !matches!(i.name.as_str(), "x" | "pad" | "pad_type"));
    inputs.insert(0, Input::value(param!(Conv.x), source));
    inputs.push(Input::value(param!(Conv.pad), pad));
    inputs.push(Input::value(param!(Conv.pad_type), pad_type));
    e.rewrite(conv, e.f[conv].kind, inputs);
    Some(())
}
