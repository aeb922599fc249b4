//! The number of parameters of a model, and how they are stored.
//!
//! A parameter is a learned number, or one that was folded into a learned number. What counts as a parameter: in an ML
//! program, the elements (after decompression) of every constant that has at least one dimension and is a float or an
//! integer of at most eight bits; in a neural network, the elements of every layer's weights; in classical models,
//! coefficients, thresholds, leaves and stored samples. A weight that is used twice counts once.

mod network;
mod program;

use milwright_convert::onnx::OutlineWeight;
use milwright_formats::proto::{self as pb, model};
use milwright_mil::Program;
use prost::Message as _;
use serde::Serialize;

use crate::kinds::pipeline;

/// The number of parameters of a model, and how they are stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Storage {
    /// The number of parameters.
    pub parameters: u64,
    /// The bytes of the parameters in the file, including tables, scales and masks.
    pub bytes: u64,
    /// The average number of bits per parameter; `None` if there are no parameters.
    pub bits_per_parameter: Option<f64>,
    /// The parameters by form and element type, the largest number of bytes first.
    pub forms: Vec<StorageForm>,
    /// The bytes of other constants, which are not parameters, such as tables of positions and shapes.
    pub other_bytes: u64,
}

/// Parameters that are stored in the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageForm {
    /// `dense`, `sparse`, `palettized 4-bit`, `linear int8`, `blockwise int4`; several are joined by ` + `.
    pub form: String,
    /// The element type that the model computes with, by its MIL name.
    pub dtype: String,
    /// The number of weights in this form.
    pub weights: u64,
    /// The number of parameters in these weights.
    pub parameters: u64,
    /// Their bytes in the file.
    pub bytes: u64,
    /// The average number of bits per parameter.
    pub bits_per_parameter: f64,
}

impl Storage {
    /// Counts the parameters of a model message. The program of a compiled model is not part of it.
    pub(crate) fn new(model: &pb::Model) -> Storage {
        let mut storage = Storage::default();
        storage.add_model(model);
        storage.finish()
    }

    /// Counts the parameters of a program in the IR.
    pub(crate) fn of_program(program: &Program) -> Storage {
        let mut storage = Storage::default();
        program::add_ir(&mut storage, program);
        storage.finish()
    }

    /// Counts the parameters of an ONNX model that was not imported.
    pub(crate) fn of_outline(weights: &[OutlineWeight]) -> Storage {
        let mut storage = Storage::default();
        weights.iter().for_each(|w| storage.add("dense", w.dtype, w.elements, w.bytes));
        storage.finish()
    }

    /// Adds up several models.
    pub(crate) fn total<'a>(models: impl Iterator<Item = &'a Storage>) -> Storage {
        let mut total = Storage::default();
        for storage in models {
            total.other_bytes = total.other_bytes.saturating_add(storage.other_bytes);
            for form in &storage.forms {
                match total.forms.iter_mut().find(|f| f.form == form.form && f.dtype == form.dtype) {
                    Some(group) => {
                        group.weights = group.weights.saturating_add(form.weights);
                        group.parameters = group.parameters.saturating_add(form.parameters);
                        group.bytes = group.bytes.saturating_add(form.bytes);
                    }
                    None => total.forms.push(form.clone()),
                }
            }
        }
        total.finish()
    }

    fn add_model(&mut self, model: &pb::Model) {
        use model::Type as T;
        // The decoder bounds how deep pipelines nest.
        if let Some(pipeline) = pipeline(model) {
            return pipeline.models.iter().for_each(|m| self.add_model(m));
        }
        if let Some(layers) = milwright_convert::neural_network::layers(model) {
            return layers.iter().for_each(|layer| network::add_layer(self, layer));
        }
        let classic = |form: &str, dtype: &str, parameters: usize, message: usize| {
            (form.to_owned(), dtype.to_owned(), parameters as u64, message as u64)
        };
        let (form, dtype, parameters, bytes) = match &model.r#type {
            Some(T::MlProgram(program)) => return program::add_messages(self, program),
            Some(T::GlmRegressor(m)) => classic(
                "dense",
                "fp64",
                m.weights.iter().map(|w| w.value.len()).sum::<usize>() + m.offset.len(),
                m.encoded_len(),
            ),
            Some(T::GlmClassifier(m)) => classic(
                "dense",
                "fp64",
                m.weights.iter().map(|w| w.value.len()).sum::<usize>() + m.offset.len(),
                m.encoded_len(),
            ),
            Some(T::TreeEnsembleRegressor(m)) => {
                classic("tree nodes", "fp64", tree_numbers(m.tree_ensemble.as_ref()), m.encoded_len())
            }
            Some(T::TreeEnsembleClassifier(m)) => {
                classic("tree nodes", "fp64", tree_numbers(m.tree_ensemble.as_ref()), m.encoded_len())
            }
            Some(T::SupportVectorRegressor(m)) => {
                use pb::support_vector_regressor::SupportVectors as V;
                let vectors = match &m.support_vectors {
                    Some(V::DenseSupportVectors(v)) => dense_numbers(v),
                    Some(V::SparseSupportVectors(v)) => sparse_numbers(v),
                    None => 0,
                };
                let coefficients = m.coefficients.as_ref().map_or(0, |c| c.alpha.len());
                classic("support vectors", "fp64", vectors + coefficients + 1, m.encoded_len())
            }
            Some(T::SupportVectorClassifier(m)) => {
                use pb::support_vector_classifier::SupportVectors as V;
                let vectors = match &m.support_vectors {
                    Some(V::DenseSupportVectors(v)) => dense_numbers(v),
                    Some(V::SparseSupportVectors(v)) => sparse_numbers(v),
                    None => 0,
                };
                let coefficients: usize = m.coefficients.iter().map(|c| c.alpha.len()).sum();
                let others = m.rho.len() + m.prob_a.len() + m.prob_b.len();
                classic("support vectors", "fp64", vectors + coefficients + others, m.encoded_len())
            }
            Some(T::KNearestNeighborsClassifier(m)) => {
                let samples = m.nearest_neighbors_index.iter().flat_map(|i| &i.float_samples);
                classic("samples", "fp32", samples.map(|s| s.vector.len()).sum(), m.encoded_len())
            }
            Some(T::Scaler(m)) => {
                classic("dense", "fp64", m.shift_value.len() + m.scale_value.len(), m.encoded_len())
            }
            _ => return,
        };
        self.add(&form, &dtype, parameters, bytes);
    }

    /// Adds a weight.
    fn add(&mut self, form: &str, dtype: &str, parameters: u64, bytes: u64) {
        if parameters == 0 {
            return;
        }
        let found = self.forms.iter().position(|f| f.form == form && f.dtype == dtype);
        let at = found.unwrap_or_else(|| {
            self.forms.push(StorageForm {
                form: form.to_owned(),
                dtype: dtype.to_owned(),
                weights: 0,
                parameters: 0,
                bytes: 0,
                bits_per_parameter: 0.0,
            });
            self.forms.len() - 1
        });
        let group = &mut self.forms[at];
        group.weights += 1;
        // Sums saturate because shapes in a file may claim anything.
        group.parameters = group.parameters.saturating_add(parameters);
        group.bytes = group.bytes.saturating_add(bytes);
    }

    fn finish(mut self) -> Storage {
        for form in &mut self.forms {
            form.bits_per_parameter = bits(form.bytes, form.parameters).unwrap_or_default();
            self.parameters = self.parameters.saturating_add(form.parameters);
            self.bytes = self.bytes.saturating_add(form.bytes);
        }
        self.bits_per_parameter = bits(self.bytes, self.parameters);
        self.forms.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.form.cmp(&b.form)));
        self
    }
}

fn bits(bytes: u64, parameters: u64) -> Option<f64> {
    (parameters > 0).then(|| bytes as f64 * 8.0 / parameters as f64)
}

/// The number of branch thresholds and leaf values.
fn tree_numbers(trees: Option<&pb::TreeEnsembleParameters>) -> usize {
    let Some(trees) = trees else { return 0 };
    let node = |n: &pb::tree_ensemble_parameters::TreeNode| n.evaluation_info.len().max(1);
    trees.nodes.iter().map(node).sum::<usize>() + trees.base_prediction_value.len()
}

fn dense_numbers(vectors: &pb::DenseSupportVectors) -> usize {
    vectors.vectors.iter().map(|v| v.values.len()).sum()
}

fn sparse_numbers(vectors: &pb::SparseSupportVectors) -> usize {
    vectors.vectors.iter().map(|v| v.nodes.len()).sum()
}
