//! The weights of a neural network's layers.

use milwright_formats::proto::activation_params::NonlinearityType;
use milwright_formats::proto::neural_network_layer::Layer;
use milwright_formats::proto::quantization_params::QuantizationType;
use milwright_formats::proto::{ActivationParams, LstmWeightParams, NeuralNetworkLayer, WeightParams};

use super::Storage;

type Weight = Option<Box<WeightParams>>;

pub(super) fn add_layer(storage: &mut Storage, layer: &NeuralNetworkLayer) {
    let mut weights: Vec<(&WeightParams, Option<u64>)> = Vec::new();
    collect(layer.layer.as_ref(), &mut weights);
    for (weight, expected) in weights {
        add_weight(storage, weight, expected);
    }
}

/// Collects all weights of a layer, and their numbers of elements if the layer declares them.
fn collect<'a>(layer: Option<&'a Layer>, out: &mut Vec<(&'a WeightParams, Option<u64>)>) {
    let mut add = |weight: &'a Weight, expected: Option<u64>| {
        if let Some(weight) = weight {
            out.push((weight, expected));
        }
    };
    let product = |sizes: &[u64]| sizes.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    match layer {
        Some(Layer::Convolution(p)) => {
            let kernel = p.kernel_size.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            let count = kernel.and_then(|k| product(&[p.output_channels, p.kernel_channels, k]));
            // A deconvolution's weights have the groups in another dimension.
            add(&p.weights, count.filter(|_| !p.is_deconvolution));
            add(&p.bias, Some(p.output_channels));
        }
        Some(Layer::Convolution3d(p)) => {
            add(&p.weights, None);
            add(&p.bias, None);
        }
        Some(Layer::InnerProduct(p)) => {
            add(&p.weights, product(&[p.input_channels, p.output_channels]));
            add(&p.bias, Some(p.output_channels));
        }
        Some(Layer::Embedding(p)) => {
            add(&p.weights, product(&[p.input_dim, p.output_channels]));
            add(&p.bias, Some(p.output_channels));
        }
        Some(Layer::EmbeddingNd(p)) => {
            add(&p.weights, product(&[p.vocab_size, p.embedding_size]));
            add(&p.bias, Some(p.embedding_size));
        }
        Some(Layer::BatchedMatmul(p)) => {
            add(&p.weights, product(&[p.weight_matrix_first_dimension, p.weight_matrix_second_dimension]));
            add(&p.bias, Some(p.weight_matrix_second_dimension));
        }
        Some(Layer::Batchnorm(p)) => {
            for weight in [&p.gamma, &p.beta, &p.mean, &p.variance] {
                add(weight, Some(p.channels));
            }
        }
        Some(Layer::LayerNormalization(p)) => {
            for weight in [&p.gamma, &p.beta] {
                add(weight, None);
            }
        }
        Some(Layer::Bias(p)) => add(&p.bias, product(&p.shape)),
        Some(Layer::Scale(p)) => {
            add(&p.scale, product(&p.shape_scale));
            add(&p.bias, product(&p.shape_bias));
        }
        Some(Layer::LoadConstant(p)) => add(&p.data, product(&p.shape)),
        Some(Layer::LoadConstantNd(p)) => add(&p.data, product(&p.shape)),
        Some(Layer::Activation(p)) => activation(p, &mut add),
        Some(Layer::SimpleRecurrent(p)) => {
            for weight in [&p.weight_matrix, &p.recursion_matrix, &p.bias_vector] {
                add(weight, None);
            }
        }
        Some(Layer::Gru(p)) => {
            for weight in [
                &p.update_gate_weight_matrix,
                &p.reset_gate_weight_matrix,
                &p.output_gate_weight_matrix,
                &p.update_gate_recursion_matrix,
                &p.reset_gate_recursion_matrix,
                &p.output_gate_recursion_matrix,
                &p.update_gate_bias_vector,
                &p.reset_gate_bias_vector,
                &p.output_gate_bias_vector,
            ] {
                add(weight, None);
            }
        }
        Some(Layer::UniDirectionalLstm(p)) => p.weight_params.iter().for_each(|w| lstm(w, &mut add)),
        Some(Layer::BiDirectionalLstm(p)) => p.weight_params.iter().for_each(|w| lstm(w, &mut add)),
        Some(Layer::Custom(p)) => out.extend(p.weights.iter().map(|w| (w, None))),
        _ => {}
    }
}

fn activation<'a>(params: &'a ActivationParams, add: &mut impl FnMut(&'a Weight, Option<u64>)) {
    match &params.nonlinearity_type {
        Some(NonlinearityType::PReLu(p)) => add(&p.alpha, None),
        Some(NonlinearityType::ParametricSoftplus(p)) => {
            add(&p.alpha, None);
            add(&p.beta, None);
        }
        _ => {}
    }
}

fn lstm<'a>(p: &'a LstmWeightParams, add: &mut impl FnMut(&'a Weight, Option<u64>)) {
    for weight in [
        &p.input_gate_weight_matrix,
        &p.forget_gate_weight_matrix,
        &p.block_input_weight_matrix,
        &p.output_gate_weight_matrix,
        &p.input_gate_recursion_matrix,
        &p.forget_gate_recursion_matrix,
        &p.block_input_recursion_matrix,
        &p.output_gate_recursion_matrix,
        &p.input_gate_bias_vector,
        &p.forget_gate_bias_vector,
        &p.block_input_bias_vector,
        &p.output_gate_bias_vector,
        &p.input_gate_peephole_vector,
        &p.forget_gate_peephole_vector,
        &p.output_gate_peephole_vector,
    ] {
        add(weight, None);
    }
}

fn add_weight(storage: &mut Storage, weight: &WeightParams, expected: Option<u64>) {
    let len = |bytes: &[u8]| bytes.len() as u64;
    if !weight.float_value.is_empty() {
        let n = weight.float_value.len() as u64;
        storage.add("dense", "fp32", n, 4 * n);
    } else if !weight.float16_value.is_empty() {
        storage.add("dense", "fp16", len(&weight.float16_value) / 2, len(&weight.float16_value));
    } else if !weight.int8_raw_value.is_empty() {
        storage.add("linear int8", "fp32", len(&weight.int8_raw_value), len(&weight.int8_raw_value));
    } else if let Some(quantization) = &weight.quantization {
        let bits = quantization.number_of_bits.clamp(1, 64);
        let stored = len(&weight.raw_value);
        let places = stored.saturating_mul(8) / bits;
        // Some bits of the last byte may be unused.
        let fits = |n: &u64| *n <= places && places - n < 8;
        let n = expected.filter(fits).unwrap_or(places);
        let (form, extra) = match &quantization.quantization_type {
            Some(QuantizationType::LookupTableQuantization(t)) => {
                (format!("palettized {bits}-bit"), 4 * t.float_value.len())
            }
            Some(QuantizationType::LinearQuantization(l)) => {
                (format!("linear {bits}-bit"), 4 * (l.scale.len() + l.bias.len()))
            }
            None => (format!("{bits}-bit"), 0),
        };
        storage.add(&form, "fp32", n, stored + extra as u64);
    }
}
