//! Folds a batch normalization into the convolution before it.
//!
//! ```text
//! c = conv(x = x, weight = w, bias = b)
//! y = batch_norm(x = c, mean = m, variance = v,       y = conv(x = x, weight = w * s, bias = (b - m) * s + beta)
//!                gamma = g, beta = beta)              with s = g / sqrt(v + epsilon)
//! ```
//!
//! Also for `conv_transpose`. The weights must be plain constants, and nothing else may use the convolution's result.

use super::Editor;
use super::fold_scale::scale_conv;
use crate::ops::defs::BatchNorm;
use crate::ops::{OpDef, Operand};
use crate::{Evaluate, OpKind, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        if e.is(op, OpKind::BatchNorm)
            && let Some(x) = e.value(op, param!(BatchNorm.x))
            && let Ok(view) = facts.view(e.f, op)
            && let Ok(p) = BatchNorm::params(&view)
        {
            let known = |vector: Operand<'_>| vector.value().map(crate::Tensor::to_f64);
            let (Some(mean), Some(variance)) = (known(p.mean), known(p.variance)) else { continue };
            let channels = mean.len();
            let or = |vector: Option<Operand<'_>>, x| vector.map_or(Some(vec![x; channels]), known);
            let (Some(gamma), Some(beta)) = (or(p.gamma, 1.0), or(p.beta, 0.0)) else { continue };
            if [&variance, &gamma, &beta].iter().any(|p| p.len() != channels) {
                continue;
            }
            let scale: Vec<f64> =
                gamma.iter().zip(&variance).map(|(g, v)| g / (v + f64::from(p.epsilon)).sqrt()).collect();
            let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
            scale_conv(e, op, x, &scale, shift);
        }
    }
}
