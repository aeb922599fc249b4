//! Describes a program as a Core ML file does: which features its functions take and give.

use milwright_formats::proto as pb;
use milwright_mil::{DType, Dim, Function, Opset, Program, TensorType, Type, ValueId};
use pb::array_feature_type::{ArrayDataType, ShapeFlexibility};
use pb::feature_type;

use crate::Error;

/// Makes the specification of an ML program, without the program itself: its functions' inputs, outputs and states are
/// features. Dimensions of unknown size may have any size, and 1 by default. Outputs of unknown size have no shape.
///
/// # Errors
/// The program has no functions, or a feature has a type that Core ML's models cannot have, such as bool.
pub fn describe(program: &Program) -> Result<pb::Model, Error> {
    let opset = program.functions.values().map(|f| f.opset).max();
    let opset = opset.ok_or_else(|| Error::malformed("the program has no functions"))?;
    let mut description = pb::ModelDescription::default();
    let only = program.functions.len() == 1 && program.functions.contains_key("main");
    for (name, function) in &program.functions {
        let inputs = function.inputs.iter().filter(|&&v| !matches!(function[v].ty, Type::State(_)));
        let input =
            features(function, inputs.copied(), true).map_err(|e| e.at(format_args!("function `{name}`")))?;
        let outputs = function[function.body].outputs.iter().copied();
        let output =
            features(function, outputs, false).map_err(|e| e.at(format_args!("function `{name}`")))?;
        let states = function.inputs.iter().filter(|&&v| matches!(function[v].ty, Type::State(_)));
        let state =
            features(function, states.copied(), true).map_err(|e| e.at(format_args!("function `{name}`")))?;
        if only {
            (description.input, description.output, description.state) = (input, output, state);
        } else {
            let name = name.clone();
            let function = pb::FunctionDescription { name, input, output, state, ..Default::default() };
            description.functions.push(function);
        }
    }
    if let Some(first) = description.functions.first() {
        let main = description.functions.iter().find(|f| f.name == "main").unwrap_or(first);
        description.default_function_name = main.name.clone();
    }
    let specification_version = opset.specification_version().max(needed_by(program));
    Ok(pb::Model {
        specification_version,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(pb::model::Type::MlProgram(pb::mil_spec::Program::default())),
    })
}

/// The specification version that the element types of features require.
fn needed_by(program: &Program) -> i32 {
    let version = |ty: &Type| match ty.as_tensor().map(|t| t.dtype) {
        Some(DType::Fp16) => Opset::Ios16.specification_version(),
        Some(DType::Int8) => Opset::Ios26.specification_version(),
        _ => 0,
    };
    let values = |f: &Function| -> i32 {
        let values = f.inputs.iter().chain(&f[f.body].outputs);
        values.map(|&v| version(&f[v].ty)).max().unwrap_or(0)
    };
    program.functions.values().map(values).max().unwrap_or(0)
}

fn features(
    function: &Function,
    values: impl Iterator<Item = ValueId>,
    is_input: bool,
) -> Result<Vec<pb::FeatureDescription>, Error> {
    let feature = |value: ValueId| {
        let value = &function[value];
        let unfit = || {
            Error::unsupported(format!("the feature `{}` has the type {}", value.name, value.ty))
                .with_hint("Core ML's features are tensors of fp16, fp32, int32 or int8: cast it")
        };
        let ty = match &value.ty {
            Type::Tensor(ty) => feature_type::Type::MultiArrayType(array(ty, is_input).ok_or_else(unfit)?),
            Type::State(held) => {
                let array = held.as_tensor().and_then(|ty| array(ty, true)).ok_or_else(unfit)?;
                let array = pb::state_feature_type::Type::ArrayType(array);
                feature_type::Type::StateType(pb::StateFeatureType { r#type: Some(array) })
            }
            _ => return Err(unfit()),
        };
        let ty = pb::FeatureType { is_optional: false, r#type: Some(ty) };
        Ok(pb::FeatureDescription { name: value.name.clone(), r#type: Some(ty), ..Default::default() })
    };
    values.map(feature).collect()
}

fn array(ty: &TensorType, is_input: bool) -> Option<pb::ArrayFeatureType> {
    let data_type = match ty.dtype {
        DType::Fp16 => ArrayDataType::Float16,
        DType::Fp32 => ArrayDataType::Float32,
        DType::Int32 => ArrayDataType::Int32,
        DType::Int8 => ArrayDataType::Int8,
        _ => return None,
    };
    let is_flexible = ty.fixed_shape().is_none();
    let default = |dim: &Dim| dim.fixed().unwrap_or(1) as i64;
    let range = |dim: &Dim| match dim.fixed() {
        Some(n) => pb::SizeRange { lower_bound: n as u64, upper_bound: n as i64 },
        None => pb::SizeRange { lower_bound: 1, upper_bound: -1 },
    };
    let ranges = pb::array_feature_type::ShapeRange { size_ranges: ty.shape.iter().map(range).collect() };
    Some(pb::ArrayFeatureType {
        shape: if is_flexible && !is_input { Vec::new() } else { ty.shape.iter().map(default).collect() },
        data_type: data_type.into(),
        shape_flexibility: (is_flexible && is_input).then_some(ShapeFlexibility::ShapeRange(ranges)),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use milwright_mil::text;

    use super::*;

    #[test]
    fn features_are_what_functions_take_and_give() {
        let source = "program(1.3) {
    func main<ios18>(tensor<fp32, [?, 2]> x, state<tensor<fp16, [4]>> s) {
        tensor<fp32, [?, 2]> y = relu(x = x)[name = string(\"y\")];
    } -> (y);
}";
        let model = describe(&text::parse(source).unwrap()).unwrap();
        let description = model.description.unwrap();
        let names = |features: &[pb::FeatureDescription]| -> Vec<String> {
            features.iter().map(|f| f.name.clone()).collect()
        };
        assert_eq!(
            [names(&description.input), names(&description.output), names(&description.state)],
            [["x"], ["y"], ["s"]]
        );
        let Some(feature_type::Type::MultiArrayType(x)) =
            description.input[0].r#type.as_ref().and_then(|t| t.r#type.clone())
        else {
            panic!("not an array")
        };
        assert_eq!(x.shape, [1, 2]);
        let Some(ShapeFlexibility::ShapeRange(ranges)) = x.shape_flexibility else { panic!("not flexible") };
        assert_eq!(ranges.size_ranges[0], pb::SizeRange { lower_bound: 1, upper_bound: -1 });
        assert_eq!(model.specification_version, 9);
    }

    #[test]
    fn types_that_no_feature_has_are_refused() {
        let source = "program(1.3) {
    func main<ios15>(tensor<bool, [2]> x) {
        tensor<bool, [2]> y = logical_not(x = x)[name = string(\"y\")];
    } -> (y);
}";
        let error = describe(&text::parse(source).unwrap()).unwrap_err();
        assert!(error.to_string().contains("`x` has the type tensor<bool, [2]>"), "{error}");
    }
}
