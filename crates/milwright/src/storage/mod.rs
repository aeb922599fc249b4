//! How many parameters a model has, and how they are stored.
//!
//! A parameter is a number that the model has learned, or that was folded into what it has learned. What counts: in an ML
//! program, the elements of every constant with at least one dimension that is a float or an integer of at most eight
//! bits, as many as there are after decompression; in a neural network, the elements of every layer's weights; in the
//! classical kinds, coefficients, thresholds, leaves and stored samples. A weight that is used twice counts once.

mod network;
mod program;

use milwright_mil::Program;
use milwright_spec::proto::{self as pb, model};
use prost::Message as _;
use serde::Serialize;

use crate::info::pipeline;

/// How many parameters a model has, and how they are stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Storage {
    /// Parameters.
    pub parameters: u64,
    /// Bytes that they take in the file, with tables, scales and masks.
    pub bytes: u64,
    /// Bits that a parameter takes on average; none if there are no parameters.
    pub bits_per_parameter: Option<f64>,
    /// The parameters by form and element type, those that take most bytes first.
    pub forms: Vec<StorageForm>,
    /// Bytes of other constants, such as tables of positions and shapes, that are not parameters.
    pub other_bytes: u64,
}

/// Parameters that are stored in the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageForm {
    /// `dense`, `sparse`, `palettized 4-bit`, `linear int8`, `blockwise int4`; several are joined by ` + `.
    pub form: String,
    /// The element type that the model computes with, by its MIL name.
    pub dtype: String,
    /// How many weights are stored so.
    pub weights: u64,
    /// How many parameters these have.
    pub parameters: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
    /// Bits that a parameter takes.
    pub bits_per_parameter: f64,
}

impl Storage {
    /// Of a model's messages. The program of a compiled model is not among them.
    pub(crate) fn new(model: &pb::Model) -> Storage {
        let mut storage = Storage::default();
        storage.add_model(model);
        storage.finish()
    }

    /// Of a program in the IR.
    pub(crate) fn of_program(program: &Program) -> Storage {
        let mut storage = Storage::default();
        program::add_ir(&mut storage, program);
        storage.finish()
    }

    /// Of several models together.
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
        // Shapes in a file may claim anything.
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

/// A threshold for each branch, and the values of each leaf.
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
