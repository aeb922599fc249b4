//! Finds the weight files that a model refers to.

use std::collections::BTreeSet;

use crate::proto::mil_spec::{
    Argument, Block, Operation, Value, argument::binding, value, value::immediate_value,
};
use crate::proto::{Model, Pipeline, model};

/// Returns the distinct file names in all blob references, including those of nested models.
pub(crate) fn weight_files(model: &Model) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    in_model(model, &mut names);
    names
}

// Recursion is bounded: the decoder refuses messages that are nested deeper than `limits::MAX_MESSAGE_DEPTH`.

fn in_model<'a>(model: &'a Model, names: &mut BTreeSet<&'a str>) {
    let pipeline: Option<&Pipeline> = match &model.r#type {
        Some(model::Type::MlProgram(program)) => {
            program.attributes.values().for_each(|value| in_value(value, names));
            for function in program.functions.values() {
                function.attributes.values().for_each(|value| in_value(value, names));
                function.block_specializations.values().for_each(|block| in_block(block, names));
            }
            None
        }
        Some(model::Type::Pipeline(pipeline)) => Some(pipeline),
        Some(model::Type::PipelineClassifier(classifier)) => classifier.pipeline.as_ref(),
        Some(model::Type::PipelineRegressor(regressor)) => regressor.pipeline.as_ref(),
        _ => None,
    };
    pipeline.into_iter().flat_map(|pipeline| &pipeline.models).for_each(|model| in_model(model, names));
}

fn in_block<'a>(block: &'a Block, names: &mut BTreeSet<&'a str>) {
    block.attributes.values().for_each(|value| in_value(value, names));
    block.operations.iter().for_each(|operation| in_operation(operation, names));
}

fn in_operation<'a>(operation: &'a Operation, names: &mut BTreeSet<&'a str>) {
    let bindings = operation.inputs.values().flat_map(|Argument { arguments }| arguments);
    for binding in bindings {
        if let Some(binding::Binding::Value(value)) = &binding.binding {
            in_value(value, names);
        }
    }
    operation.attributes.values().for_each(|value| in_value(value, names));
    operation.blocks.iter().for_each(|block| in_block(block, names));
}

fn in_value<'a>(value: &'a Value, names: &mut BTreeSet<&'a str>) {
    match &value.value {
        Some(value::Value::BlobFileValue(blob)) => {
            names.insert(&blob.file_name);
        }
        Some(value::Value::ImmediateValue(immediate)) => match &immediate.value {
            Some(immediate_value::Value::Tuple(tuple)) => {
                tuple.values.iter().for_each(|value| in_value(value, names));
            }
            Some(immediate_value::Value::List(list)) => {
                list.values.iter().for_each(|value| in_value(value, names));
            }
            Some(immediate_value::Value::Dictionary(dictionary)) => dictionary
                .values
                .iter()
                .flat_map(|pair| [&pair.key, &pair.value])
                .flatten()
                .for_each(|value| in_value(value, names)),
            Some(immediate_value::Value::Tensor(_)) | None => {}
        },
        None => {}
    }
}
