//! Activations.

use milwright_formats::proto::activation_params::NonlinearityType as Kind;
use milwright_formats::proto::gelu_layer_params::GeluMode;
use milwright_formats::proto::{ActivationParams, ClampedReLuLayerParams, GeluLayerParams, WeightParams};
use milwright_mil::{Tensor, ValueId};

use super::net::Net;
use super::weights;
use crate::Error;
use crate::lower::{Result, op, take, too_low};

pub(super) fn activation(n: &mut Net, x: &[ValueId], p: &ActivationParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let kind = p.nonlinearity_type.as_ref();
    match kind.ok_or_else(|| Error::malformed("which activation it is is missing"))? {
        Kind::Linear(p) => op!(n, LinearActivation, x = x, alpha = p.alpha, beta = p.beta),
        Kind::ReLu(_) => op!(n, Relu, x = x),
        Kind::LeakyReLu(p) => op!(n, LeakyRelu, x = x, alpha = p.alpha),
        Kind::ThresholdedReLu(p) => op!(n, ThresholdedRelu, x = x, alpha = p.alpha),
        Kind::Tanh(_) => op!(n, Tanh, x = x),
        Kind::ScaledTanh(p) => op!(n, ScaledTanh, x = x, alpha = p.alpha, beta = p.beta),
        Kind::Sigmoid(_) => op!(n, Sigmoid, x = x),
        Kind::SigmoidHard(p) => op!(n, SigmoidHard, x = x, alpha = p.alpha, beta = p.beta),
        Kind::Elu(p) => op!(n, Elu, x = x, alpha = p.alpha),
        Kind::Softsign(_) => op!(n, Softsign, x = x),
        Kind::Softplus(_) => op!(n, Softplus, x = x),
        Kind::PReLu(p) => {
            let alpha = per_channel(n, x, p.alpha.as_deref())?;
            let positive = op!(n, Relu, x = x)?;
            let negative = op!(n, Minimum, x = x, y = 0.0)?;
            let negative = op!(n, Mul, x = negative, y = alpha)?;
            op!(n, Add, x = positive, y = negative)
        }
        Kind::ParametricSoftplus(p) => {
            let (alpha, beta) =
                (per_channel(n, x, p.alpha.as_deref())?, per_channel(n, x, p.beta.as_deref())?);
            let scaled = op!(n, Mul, x = x, y = beta)?;
            let soft = op!(n, Softplus, x = scaled)?;
            op!(n, Mul, x = soft, y = alpha)
        }
    }
}

/// Reads one number, or one for each channel (the third dimension from the end), in a shape that broadcasts.
fn per_channel(n: &Net, x: ValueId, params: Option<&WeightParams>) -> Result<Tensor> {
    if weights::count(params) == 1 {
        return n.weights(params, &[]);
    }
    let rank = n.rank(x)?;
    let channel = rank.checked_sub(3).ok_or_else(|| too_low(rank, 3))?;
    n.weights(params, &[n.size(x, channel)?, 1, 1])
}

pub(super) fn clamped_relu(n: &mut Net, x: &[ValueId], p: &ClampedReLuLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, ClampedRelu, x = x, alpha = p.alpha, beta = p.beta)
}

pub(super) fn gelu(n: &mut Net, x: &[ValueId], p: &GeluLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let mode = match GeluMode::try_from(p.mode) {
        Ok(GeluMode::TanhApproximation) => "TANH_APPROXIMATION",
        Ok(GeluMode::SigmoidApproximation) => "SIGMOID_APPROXIMATION",
        _ => "EXACT",
    };
    op!(n, Gelu, x = x, mode = mode)
}
