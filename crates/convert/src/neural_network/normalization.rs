//! Normalization.

use milwright_formats::proto::{
    BatchnormLayerParams, L2NormalizeLayerParams, LayerNormalizationLayerParams, LrnLayerParams,
    MeanVarianceNormalizeLayerParams, SoftmaxLayerParams, SoftmaxNdLayerParams, WeightParams,
};
use milwright_mil::ValueId;

use super::net::Net;
use super::weights;
use crate::Error;
use crate::lower::{Result, i32_from, i32_of, op, take, tensor_of, too_low, usize_of, with_rank};

pub(super) fn batchnorm(n: &mut Net, x: &[ValueId], p: &BatchnormLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let channels = usize_of(p.channels)?;
    let epsilon = if p.epsilon == 0.0 { 1e-5 } else { p.epsilon };
    let gamma = per_channel(p.gamma.as_deref(), channels, 1.0)?;
    let beta = per_channel(p.beta.as_deref(), channels, 0.0)?;
    // [batch, channel, height, width]
    with_rank(n, x, 4, |n, x| {
        if p.compute_mean_var && p.instance_normalization {
            return op!(n, InstanceNorm, x = x, gamma = gamma, beta = beta, epsilon = epsilon);
        }
        if p.compute_mean_var {
            let mean = op!(n, ReduceMean, x = x, axes = &[0, 2, 3][..], keep_dims = true)?;
            let centred = op!(n, Sub, x = x, y = mean)?;
            let square = op!(n, Square, x = centred)?;
            let variance = op!(n, ReduceMean, x = square, axes = &[0, 2, 3][..], keep_dims = true)?;
            let inverse = op!(n, Rsqrt, x = variance, epsilon = epsilon)?;
            let normal = op!(n, Mul, x = centred, y = inverse)?;
            let [gamma, beta] = [gamma, beta].map(|t| t.reshaped(&[channels, 1, 1]));
            let wrong = |_| Error::malformed("parameters of a wrong length");
            let scaled = op!(n, Mul, x = normal, y = gamma.map_err(wrong)?)?;
            return op!(n, Add, x = scaled, y = beta.map_err(wrong)?);
        }
        let mean = n.weights(p.mean.as_deref(), &[channels])?;
        let variance = n.weights(p.variance.as_deref(), &[channels])?;
        op!(
            n,
            BatchNorm,
            x = x,
            mean = mean,
            variance = variance,
            gamma = gamma,
            beta = beta,
            epsilon = epsilon
        )
    })
}

fn per_channel(
    params: Option<&WeightParams>,
    channels: usize,
    default: f32,
) -> Result<milwright_mil::Tensor> {
    match weights::count(params) {
        // The channels of the input are checked against this number later. A huge one would only waste memory.
        0 if channels > MAX_CHANNELS => Err(Error::malformed(format!("{channels} channels"))),
        0 => tensor_of(&[channels], vec![default; channels]),
        _ => weights::read(params, &[channels], 0),
    }
}

/// The most channels whose parameters may be missing in the file.
const MAX_CHANNELS: usize = 1 << 20;

pub(super) fn mvn(n: &mut Net, x: &[ValueId], p: &MeanVarianceNormalizeLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let rank = n.rank(x)?;
    if rank < 3 {
        return Err(too_low(rank, 3));
    }
    let epsilon = if p.epsilon == 0.0 { 1e-6 } else { p.epsilon };
    let axes = if p.across_channels { &[-3, -2, -1][..] } else { &[-2, -1] };
    if p.normalize_variance {
        return op!(n, LayerNorm, x = x, axes = axes, epsilon = epsilon);
    }
    let mean = op!(n, ReduceMean, x = x, axes = axes, keep_dims = true)?;
    op!(n, Sub, x = x, y = mean)
}

pub(super) fn l2_normalize(n: &mut Net, x: &[ValueId], p: &L2NormalizeLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, L2Norm, x = x, epsilon = if p.epsilon == 0.0 { 1e-6 } else { p.epsilon })
}

pub(super) fn lrn(n: &mut Net, x: &[ValueId], p: &LrnLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let (size, k) = (i32_of(p.local_size)?, if p.k == 0.0 { 1.0 } else { p.k });
    with_rank(n, x, 4, |n, x| {
        op!(n, LocalResponseNorm, x = x, size = size, alpha = p.alpha, beta = p.beta, k = k)
    })
}

pub(super) fn softmax(n: &mut Net, x: &[ValueId], _: &SoftmaxLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let rank = n.rank(x)?;
    if rank < 3 {
        return Err(too_low(rank, 3));
    }
    op!(n, Softmax, x = x, axis = -3)
}

pub(super) fn softmax_nd(n: &mut Net, x: &[ValueId], p: &SoftmaxNdLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, Softmax, x = x, axis = i32_from(p.axis))
}

pub(super) fn layer_normalization(
    n: &mut Net,
    x: &[ValueId],
    p: &LayerNormalizationLayerParams,
) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let rank = n.rank(x)?;
    let shape: Option<Vec<usize>> = p.normalized_shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.filter(|s| (1..=rank).contains(&s.len()));
    let shape = shape.ok_or_else(|| {
        Error::malformed(format!("a normalized shape of {} sizes", p.normalized_shape.len()))
    })?;
    let axes: Vec<i32> = ((rank - shape.len()) as i32..rank as i32).collect();
    let (gamma, beta) = (n.weights(p.gamma.as_deref(), &shape)?, n.weights(p.beta.as_deref(), &shape)?);
    op!(n, LayerNorm, x = x, axes = &axes[..], gamma = gamma, beta = beta, epsilon = p.eps)
}
