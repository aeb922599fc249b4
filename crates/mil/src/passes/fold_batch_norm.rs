//! Makes a batch normalization part of the convolution before it.
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
use crate::{Evaluate, OpKind};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        if e.is(op, OpKind::BatchNorm)
            && let Some(x) = e.value(op, "x")
            && let Ok(view) = facts.view(e.f, op)
            && let Ok(epsilon) = view.float("epsilon")
        {
            let param = |name| view.known_tensor(name).map(crate::Tensor::to_f64);
            let (Some(mean), Some(variance)) = (param("mean"), param("variance")) else { continue };
            let channels = mean.len();
            let gamma = param("gamma").unwrap_or_else(|| vec![1.0; channels]);
            let beta = param("beta").unwrap_or_else(|| vec![0.0; channels]);
            if [&variance, &gamma, &beta].iter().any(|p| p.len() != channels) {
                continue;
            }
            let scale: Vec<f64> =
                gamma.iter().zip(&variance).map(|(g, v)| g / (v + f64::from(epsilon)).sqrt()).collect();
            let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
            scale_conv(e, op, x, &scale, shift);
        }
    }
}
