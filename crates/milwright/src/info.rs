//! Describes Core ML files of all 37 model types, including those that cannot be run.

mod check;
mod facts;
mod features;

use std::collections::BTreeMap;

use milwright_formats::proto::{self as pb, model};
use milwright_mil::{Function, Program, TensorType};
use serde::Serialize;

use crate::kinds::pipeline;
use crate::storage::Storage;
use crate::{ColorSpace, FeatureInfo, FeatureType, ModelKind, NamedList, Task};
use facts::{
    class_labels, declared_sizes, first_ops, multiply_adds, network_preprocessing, program_classes, systems,
};
use features::feature;

/// The description of a model, which `inspect` shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// The model type; `None` if it is not known. In JSON, `model_type` and its name in the specification, such as
    /// `mlProgram`.
    #[serde(rename = "model_type", serialize_with = "kind_name")]
    pub kind: Option<&'static ModelKind>,
    /// The specification version: 6 to 10 for ML programs.
    pub specification_version: i32,
    /// Whether Milwright can run models of this type.
    pub runnable: bool,
    /// The function that runs by default.
    pub default_function: String,
    /// The functions. Models that are not ML programs have one.
    pub functions: Vec<FunctionInfo>,
    /// Author, licence, version and description, if the file has them.
    pub metadata: BTreeMap<String, String>,
    /// Metadata under keys of the author's choice.
    pub user_defined: BTreeMap<String, String>,
    /// The oldest systems that can run it; `None` if the specification version is unknown.
    pub needs: Option<Systems>,
    /// The number of parameters and how they are stored, over all functions and parts.
    pub storage: Storage,
    /// The models of a pipeline, in order.
    pub pipeline: Vec<ModelInfo>,
    /// The names of these models, if the file has them.
    pub pipeline_names: Vec<String>,
    /// Warnings about this description, such as that weights are missing, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The oldest systems that can run a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Systems {
    /// The version of iOS, such as `16`.
    pub ios: String,
    /// The version of macOS, such as `13`.
    pub macos: String,
}

/// One function of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionInfo {
    /// The name.
    pub name: String,
    /// Inputs, in declared order.
    pub inputs: NamedList<FeatureInfo>,
    /// Outputs, in declared order.
    pub outputs: NamedList<FeatureInfo>,
    /// States, in declared order.
    pub states: NamedList<FeatureInfo>,
    /// The output with the class label, in a classifier.
    pub predicted_feature: Option<String>,
    /// The output with the probability of each class, in a classifier.
    pub predicted_probabilities: Option<String>,
    /// The class labels of a classifier, in the order of its probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassLabels>,
    /// The opset, for ML programs.
    pub opset: Option<String>,
    /// The multiply-add operations of one run in convolutions, matrix products and recurrent layers; `None` if the
    /// number depends on the inputs or is unknown.
    pub multiply_adds: Option<u64>,
    /// How often each op is used in an ML program, or each kind of layer in a neural network.
    pub ops: BTreeMap<String, usize>,
}

/// The class labels of a classifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassLabels {
    /// Strings.
    Text(Vec<String>),
    /// Integers.
    Int64(Vec<i64>),
}

impl ModelInfo {
    pub(crate) fn new(model: &pb::Model) -> ModelInfo {
        let empty = pb::ModelDescription::default();
        let description = model.description.as_deref().unwrap_or(&empty);
        let metadata = description.metadata.clone().unwrap_or_default();
        let texts = [
            ("author", &metadata.author),
            ("description", &metadata.short_description),
            ("license", &metadata.license),
            ("version", &metadata.version_string),
        ];
        let given = texts.iter().filter(|(_, v)| !v.is_empty());
        let functions = functions(model, description);
        let default = if description.default_function_name.is_empty() {
            functions.iter().find(|f| f.name == "main").or(functions.first())
        } else {
            functions.iter().find(|f| f.name == description.default_function_name)
        };
        let mut info = ModelInfo {
            kind: ModelKind::of(model),
            specification_version: model.specification_version,
            runnable: false,
            default_function: default.map(|f| f.name.clone()).unwrap_or_default(),
            functions,
            metadata: given.map(|(k, v)| ((*k).to_owned(), (*v).clone())).collect(),
            user_defined: metadata.user_defined.clone(),
            needs: systems(model.specification_version),
            storage: Storage::new(model),
            // The decoder bounds how deep pipelines nest.
            pipeline: pipeline(model).map_or(&[][..], |p| &p.models).iter().map(ModelInfo::new).collect(),
            pipeline_names: pipeline(model).map_or(Vec::new(), |p| p.names.clone()),
            warnings: Vec::new(),
        };
        info.runnable = info.check(Task::Run).is_ok();
        info
    }

    /// Adds the descriptions of a pipeline's models.
    pub(crate) fn with_parts(mut self, parts: Vec<ModelInfo>) -> ModelInfo {
        // The message of a compiled pipeline contains no programs.
        self.storage = Storage::total(parts.iter().map(|part| &part.storage));
        self.pipeline = parts;
        self
    }

    /// Adds opsets and ops from the program, which is the only place where a compiled model has them.
    pub(crate) fn with_program(mut self, program: &Program) -> ModelInfo {
        for info in &mut self.functions {
            let Some(function) = program.functions.get(&info.name) else { continue };
            info.opset = Some(function.opset.coreml_name().to_owned());
            info.ops.clear();
            for op in function.walk() {
                *info.ops.entry(function[op].kind.name().to_owned()).or_default() += 1;
            }
        }
        if self.storage == Storage::default() {
            self.storage = Storage::of_program(program);
        }
        let opset = |f: &Function| f.opset.coreml_name().trim_start_matches("CoreML").parse::<i32>().ok();
        let opset = program.functions.values().filter_map(opset).max();
        self.needs = systems(self.specification_version.max(opset.map_or(0, |o| o + 1)));
        self.with_computed(program)
    }

    /// Adds what only the program knows: shapes, class labels and the amount of computation.
    pub(crate) fn with_computed(mut self, program: &Program) -> ModelInfo {
        for info in &mut self.functions {
            let Some(function) = program.functions.get(&info.name) else { continue };
            info.multiply_adds = multiply_adds(function);
            info.classes = info.classes.take().or_else(|| program_classes(function));
            let inputs = function.inputs.iter().map(|&value| (value, true));
            let outputs = function[function.body].outputs.iter().map(|&value| (value, false));
            for (value, is_input) in inputs.chain(outputs) {
                let data = &function[value];
                let features = if is_input { &mut info.inputs } else { &mut info.outputs };
                let Some(feature) = features.named_mut(&data.name) else { continue };
                match &feature.ty {
                    FeatureType::MultiArray { shape, .. } => {
                        let declared = shape.len();
                        let sizes = |t: &TensorType| declared_sizes(t, declared);
                        feature.program_shape = data.ty.as_tensor().map(sizes);
                    }
                    FeatureType::Image { .. } if is_input && feature.preprocessing.is_none() => {
                        feature.preprocessing = first_ops(function, value);
                    }
                    _ => {}
                }
            }
        }
        self
    }

    /// The name of the model type in the specification, such as `mlProgram`, or `unknown`.
    pub fn model_type(&self) -> &'static str {
        self.kind.map_or("unknown", ModelKind::name)
    }

    /// Returns the function of this name, or the default one.
    pub fn function(&self, name: Option<&str>) -> Option<&FunctionInfo> {
        let name = name.unwrap_or(&self.default_function);
        self.functions.iter().find(|f| f.name == name)
    }
}

fn functions(model: &pb::Model, description: &pb::ModelDescription) -> Vec<FunctionInfo> {
    let named = |name: &String| (!name.is_empty()).then(|| name.clone());
    let mut functions: Vec<FunctionInfo> = description
        .functions
        .iter()
        .map(|f| FunctionInfo {
            name: f.name.clone(),
            inputs: f.input.iter().map(feature).collect(),
            outputs: f.output.iter().map(feature).collect(),
            states: f.state.iter().map(feature).collect(),
            predicted_feature: named(&f.predicted_feature_name),
            predicted_probabilities: named(&f.predicted_probabilities_name),
            ..FunctionInfo::default()
        })
        .collect();
    if functions.is_empty() {
        functions.push(FunctionInfo {
            name: "main".into(),
            inputs: description.input.iter().map(feature).collect(),
            outputs: description.output.iter().map(feature).collect(),
            states: description.state.iter().map(feature).collect(),
            predicted_feature: named(&description.predicted_feature_name),
            predicted_probabilities: named(&description.predicted_probabilities_name),
            ..FunctionInfo::default()
        });
        if let Some(info) = functions.last_mut() {
            info.classes = class_labels(model);
            for (name, preprocessing) in network_preprocessing(model) {
                let mut inputs = info.inputs.iter_mut();
                let is_image = |f: &FeatureInfo| matches!(f.ty, FeatureType::Image { .. });
                let input = inputs.find(|i| if name.is_empty() { is_image(i) } else { i.name == name });
                if let Some(input) = input {
                    let color = match input.ty {
                        FeatureType::Image { color, .. } => color,
                        _ => ColorSpace::Unknown,
                    };
                    input.preprocessing = Some(preprocessing.in_order_of(color));
                }
            }
        }
    }
    if let Some(model::Type::MlProgram(program)) = &model.r#type {
        for info in &mut functions {
            let Some(function) = program.functions.get(&info.name) else { continue };
            info.opset = Some(function.opset.clone());
            let block = function.block_specializations.get(&function.opset);
            block.iter().for_each(|b| count_ops(b, &mut info.ops));
        }
    }
    if let (Some(layers), [info]) = (milwright_convert::neural_network::layers(model), &mut functions[..]) {
        for layer in layers {
            let kind = milwright_convert::neural_network::table::kind(layer);
            *info.ops.entry(kind.to_owned()).or_default() += 1;
        }
    }
    functions
}

fn count_ops(block: &pb::mil_spec::Block, counts: &mut BTreeMap<String, usize>) {
    for op in &block.operations {
        *counts.entry(op.r#type.clone()).or_default() += 1;
        op.blocks.iter().for_each(|b| count_ops(b, counts));
    }
}

fn kind_name<S: serde::Serializer>(
    kind: &Option<&'static ModelKind>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.map_or("unknown", ModelKind::name))
}
