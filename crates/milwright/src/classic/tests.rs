//! Invalid models and inputs: each must cause an error that names the problem, and nothing else.

use milwright_formats::proto::array_feature_type::{ArrayDataType, ShapeFlexibility, ShapeRange};
use milwright_formats::proto::model::Type;
use milwright_formats::proto::{self as pb, feature_type::Type as Feature};

use super::Classic;
use crate::{Dictionary, ErrorKind, InferenceRequest, ModelInfo, Prediction, Result, Tensor};

fn array(shape: &[i64], rows: Option<(u64, i64)>) -> Feature {
    let flexibility = rows.map(|(lower_bound, upper_bound)| {
        let sizes = [(lower_bound, upper_bound), (4, 4)];
        let range = |(lower_bound, upper_bound)| pb::SizeRange { lower_bound, upper_bound };
        ShapeFlexibility::ShapeRange(ShapeRange { size_ranges: sizes.map(range).to_vec() })
    });
    Feature::MultiArrayType(pb::ArrayFeatureType {
        shape: shape.to_vec(),
        data_type: ArrayDataType::Double.into(),
        shape_flexibility: flexibility,
        ..Default::default()
    })
}

fn strings_to_numbers() -> Feature {
    let key = pb::dictionary_feature_type::KeyType::StringKeyType(pb::StringFeatureType {});
    Feature::DictionaryType(pb::DictionaryFeatureType { key_type: Some(key) })
}

fn ints_to_numbers() -> Feature {
    let key = pb::dictionary_feature_type::KeyType::Int64KeyType(pb::Int64FeatureType {});
    Feature::DictionaryType(pb::DictionaryFeatureType { key_type: Some(key) })
}

fn described(r#type: Type, inputs: &[(&str, Feature)], outputs: &[(&str, Feature)]) -> pb::Model {
    let feature = |(name, ty): &(&str, Feature)| pb::FeatureDescription {
        name: (*name).to_owned(),
        r#type: Some(pb::FeatureType { r#type: Some(ty.clone()), ..Default::default() }),
        ..Default::default()
    };
    let description = pb::ModelDescription {
        input: inputs.iter().map(feature).collect(),
        output: outputs.iter().map(feature).collect(),
        predicted_feature_name: "label".into(),
        predicted_probabilities_name: "scores".into(),
        ..Default::default()
    };
    pb::Model { description: Some(Box::new(description)), r#type: Some(r#type), ..Default::default() }
}

fn predict(model: &pb::Model, request: &InferenceRequest) -> Result<Prediction> {
    Classic::new(model)?.predict(&ModelInfo::new(model), request, &|| Ok(()))
}

/// Returns the error of a prediction with invalid inputs.
fn wrong_input(model: &pb::Model, request: &InferenceRequest) -> String {
    let error = predict(model, request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

/// Returns the error of opening a malformed model.
fn malformed(r#type: Type) -> String {
    let model = pb::Model { r#type: Some(r#type), ..Default::default() };
    let error = Classic::new(&model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    error.to_string()
}

fn numbers(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).unwrap()
}

fn suppression() -> pb::NonMaximumSuppression {
    pb::NonMaximumSuppression {
        iou_threshold: 0.5,
        confidence_threshold: 0.25,
        confidence_input_feature_name: "c".into(),
        coordinates_input_feature_name: "x".into(),
        iou_threshold_input_feature_name: "iou".into(),
        confidence_threshold_input_feature_name: "least".into(),
        confidence_output_feature_name: "confidence".into(),
        coordinates_output_feature_name: "coordinates".into(),
        ..Default::default()
    }
}

fn detector(rows: Option<(u64, i64)>) -> pb::Model {
    let inputs = [("c", array(&[], None)), ("x", array(&[], None))];
    let outputs = [("coordinates", array(&[], rows)), ("confidence", array(&[], rows))];
    described(Type::NonMaximumSuppression(suppression()), &inputs, &outputs)
}

fn boxes(confidences: Tensor, coordinates: Tensor) -> InferenceRequest {
    InferenceRequest::new().input("c", confidences).input("x", coordinates)
}

const UNIT: [f64; 4] = [0.5, 0.5, 1.0, 1.0];

#[test]
fn boxes_that_do_not_fit_are_refused() {
    let model = detector(None);
    let one = || numbers(&[1, 4], &UNIT);
    let message = |c: Tensor, x: Tensor| wrong_input(&model, &boxes(c, x));
    assert!(message(numbers(&[2, 3], &[0.5; 6]), one()).contains("confidences of 2 boxes, and 1 boxes"));
    assert!(message(numbers(&[1, 3], &[0.5; 3]), numbers(&[1, 5], &[0.5; 5])).contains("boxes of 5 numbers"));
    assert!(message(numbers(&[2, 1, 3], &[0.5; 6]), one()).contains("of one image"));
    assert!(message(Tensor::scalar(0.5), one()).contains("is one number"));
    assert!(message(Tensor::string("x"), one()).contains("not an array of numbers, but text"));
    assert!(wrong_input(&model, &InferenceRequest::new().input("c", one())).contains("`x` is missing"));
    let other = boxes(one(), one()).input("y", one());
    assert!(wrong_input(&model, &other).contains("no input `y`"));
    for (name, value, why) in [
        ("iou", 1.5, "from 0 to 1"),
        ("iou", f64::NAN, "from 0 to 1"),
        ("least", -0.1, "0 or more"),
        ("least", f64::NAN, "0 or more"),
    ] {
        let request = boxes(numbers(&[1, 1], &[0.9]), one()).input(name, Tensor::scalar(value));
        assert!(wrong_input(&model, &request).contains(why), "{name} {value}");
    }
    let two = boxes(numbers(&[1, 1], &[0.9]), one()).input("iou", numbers(&[2], &[0.1, 0.2]));
    assert!(wrong_input(&model, &two).contains("2 values, not one"));
}

#[test]
fn boxes_without_numbers_are_not_kept_and_keep_none_away() {
    let nan = f64::NAN;
    let confidences = numbers(&[5, 2], &[nan, nan, 0.3, nan, 0.9, 0.1, 0.2, 0.24, 0.8, 0.0]);
    let coordinates = [UNIT, UNIT, [nan; 4], UNIT, [0.5, 0.5, -1.0, 1.0]].concat();
    let prediction = predict(&detector(None), &boxes(confidences, numbers(&[5, 4], &coordinates))).unwrap();
    let confidence = prediction.output("confidence").unwrap();
    assert_eq!(confidence.shape(), [3, 2]);
    let first: Vec<f64> = confidence.to_f64().into_iter().step_by(2).collect();
    assert_eq!(first, [0.9, 0.8, 0.3]);
    // In declared order.
    assert_eq!(prediction.outputs()[0].0, "coordinates");
}

#[test]
fn equally_sure_boxes_keep_their_order() {
    let far = |x: f64| [x, 0.5, 1.0, 1.0];
    let coordinates = [far(10.0), far(0.0), far(0.2), far(20.0)].concat();
    let request = boxes(numbers(&[4], &[0.5; 4]), numbers(&[4, 4], &coordinates));
    let prediction = predict(&detector(None), &request).unwrap();
    let x: Vec<f64> = prediction.output("coordinates").unwrap().to_f64().into_iter().step_by(4).collect();
    assert_eq!(x, [10.0, 0.0, 20.0]);
    assert_eq!(prediction.output("confidence").unwrap().shape(), [3, 1]);
}

#[test]
fn huge_numbers_of_boxes_are_not_made() {
    let request = || boxes(numbers(&[1, 1], &[0.9]), numbers(&[1, 4], &UNIT));
    for rows in [(1 << 40, -1), (u64::MAX, -1), (1 << 23, 1 << 24)] {
        assert!(wrong_input(&detector(Some(rows)), &request()).contains("too many"), "{rows:?}");
    }
    let error = predict(&detector(Some((7, 3))), &request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn malformed_suppressions_are_refused() {
    let with = |change: fn(&mut pb::NonMaximumSuppression)| {
        let mut model = suppression();
        change(&mut model);
        malformed(Type::NonMaximumSuppression(model))
    };
    assert!(with(|m| m.iou_threshold = 2.0).contains("from 0 to 1"));
    assert!(with(|m| m.iou_threshold = f64::NAN).contains("from 0 to 1"));
    assert!(with(|m| m.confidence_threshold = -1.0).contains("0 or more"));
    assert!(with(|m| m.confidence_input_feature_name.clear()).contains("input of confidences"));
    assert!(with(|m| m.coordinates_output_feature_name.clear()).contains("output of coordinates"));
}

fn classifier() -> pb::SupportVectorClassifier {
    use pb::support_vector_classifier::{ClassLabels, SupportVectors};
    let vector = |values: &[f64]| pb::DenseVector { values: values.to_vec() };
    let vectors = vec![vector(&[1.0, 0.0]), vector(&[0.0, 1.0]), vector(&[1.0, 1.0])];
    let coefficients = |alpha: &[f64]| pb::Coefficients { alpha: alpha.to_vec() };
    let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
    pb::SupportVectorClassifier {
        kernel: Some(pb::Kernel { kernel: Some(pb::kernel::Kernel::LinearKernel(pb::LinearKernel {})) }),
        number_of_support_vectors_per_class: vec![1, 1, 1],
        coefficients: vec![coefficients(&[1.0, 0.5, -1.0]), coefficients(&[0.5, -0.5, -1.0])],
        rho: vec![0.0; 3],
        prob_a: vec![-1.0; 3],
        prob_b: vec![0.0; 3],
        support_vectors: Some(SupportVectors::DenseSupportVectors(pb::DenseSupportVectors { vectors })),
        class_labels: Some(ClassLabels::StringClassLabels(pb::StringVector { vector: labels })),
    }
}

#[test]
fn support_vectors_that_contradict_each_other_are_refused() {
    use pb::support_vector_classifier::SupportVectors;
    let with = |change: fn(&mut pb::SupportVectorClassifier)| {
        let mut model = classifier();
        change(&mut model);
        malformed(Type::SupportVectorClassifier(model))
    };
    assert!(with(|m| m.kernel = None).contains("kernel"));
    assert!(with(|m| m.support_vectors = None).contains("no support vectors"));
    assert!(with(|m| m.class_labels = None).contains("no class labels"));
    assert!(with(|m| m.number_of_support_vectors_per_class[1] = -1).contains("-1 support vectors"));
    assert!(with(|m| m.number_of_support_vectors_per_class[1] = i32::MAX).contains("there are 3"));
    assert!(with(|m| m.number_of_support_vectors_per_class.truncate(2)).contains("2 numbers of support"));
    assert!(with(|m| m.coefficients.truncate(1)).contains("1 rows of coefficients for 3 classes"));
    assert!(with(|m| m.coefficients[1].alpha.truncate(2)).contains("2 coefficients for 3"));
    assert!(with(|m| m.rho.truncate(2)).contains("2 constants (rho) for 3 classes, it takes 3"));
    assert!(with(|m| m.prob_a.truncate(2)).contains("probA"));
    assert!(with(|m| m.prob_b.clear()).contains("probB"));
    let kernel = |kernel| move |m: &mut pb::SupportVectorClassifier| m.kernel = Some(pb::Kernel { kernel });
    let poly = pb::kernel::Kernel::PolyKernel(pb::PolyKernel { degree: -1, c: 0.0, gamma: 1.0 });
    let rbf = pb::kernel::Kernel::RbfKernel(pb::RbfKernel { gamma: f64::NAN });
    for (wrong, why) in [(poly, "degree"), (rbf, "gamma")] {
        let mut model = classifier();
        kernel(Some(wrong))(&mut model);
        assert!(malformed(Type::SupportVectorClassifier(model)).contains(why));
    }
    assert!(
        with(|m| {
            let Some(SupportVectors::DenseSupportVectors(v)) = &mut m.support_vectors else { unreachable!() };
            v.vectors[1].values.push(1.0);
        })
        .contains("differ in length")
    );
    for (indices, why) in [([0, 1], "at the place 0"), ([-5, 1], "at the place -5"), ([2, 2], "two numbers")]
    {
        let nodes = indices.map(|index| pb::SparseNode { index, value: 1.0 }).to_vec();
        let vectors = vec![pb::SparseVector { nodes }; 3];
        let mut model = classifier();
        model.support_vectors =
            Some(SupportVectors::SparseSupportVectors(pb::SparseSupportVectors { vectors }));
        assert!(malformed(Type::SupportVectorClassifier(model)).contains(why));
    }
    let regressor = pb::SupportVectorRegressor {
        kernel: classifier().kernel,
        support_vectors: Some(pb::support_vector_regressor::SupportVectors::DenseSupportVectors(
            pb::DenseSupportVectors { vectors: vec![pb::DenseVector { values: vec![1.0] }] },
        )),
        ..Default::default()
    };
    assert!(malformed(Type::SupportVectorRegressor(regressor)).contains("0 coefficients for 1"));
}

#[test]
fn support_vectors_take_inputs_of_their_size() {
    let outputs =
        [("label", Feature::StringType(pb::StringFeatureType {})), ("scores", strings_to_numbers())];
    let x = |values: &[f64]| InferenceRequest::new().input("x", numbers(&[values.len()], values));
    let model = |m| described(Type::SupportVectorClassifier(m), &[("x", array(&[], None))], &outputs);
    let dense = model(classifier());
    assert!(wrong_input(&dense, &x(&[1.0])).contains("have 1 numbers, the support vectors 2"));
    assert!(wrong_input(&dense, &x(&[1.0, f64::NAN])).contains("NaN"));
    let prediction = predict(&dense, &x(&[1.0, 2.0])).unwrap();
    let sum: f64 = prediction.output("scores").unwrap().to_f64().iter().sum();
    assert!((sum - 1.0).abs() < 1e-9);
    // Large indices must not take memory.
    let far = pb::SparseVector { nodes: vec![pb::SparseNode { index: i32::MAX, value: 1.0 }] };
    let vectors = pb::SparseSupportVectors { vectors: vec![far; 3] };
    let mut sparse = classifier();
    sparse.support_vectors =
        Some(pb::support_vector_classifier::SupportVectors::SparseSupportVectors(vectors));
    assert!(wrong_input(&model(sparse), &x(&[1.0, 2.0])).contains("the support vectors 2147483647"));
}

fn neighbors() -> pb::KNearestNeighborsClassifier {
    use pb::k_nearest_neighbors_classifier::{ClassLabels, WeightingScheme};
    use pb::nearest_neighbors_index::{DistanceFunction, IndexType};
    let index = pb::NearestNeighborsIndex {
        number_of_dimensions: 2,
        float_samples: [[0.0, 0.0], [1.0, 1.0]].map(|v| pb::FloatVector { vector: v.to_vec() }).to_vec(),
        index_type: Some(IndexType::LinearIndex(pb::LinearIndex {})),
        distance_function: Some(DistanceFunction::SquaredEuclideanDistance(pb::SquaredEuclideanDistance {})),
    };
    pb::KNearestNeighborsClassifier {
        nearest_neighbors_index: Some(index),
        number_of_neighbors: Some(pb::Int64Parameter { default_value: 5, allowed_values: None }),
        class_labels: Some(ClassLabels::Int64ClassLabels(pb::Int64Vector { vector: vec![4, -4] })),
        default_class_label: None,
        weighting_scheme: Some(WeightingScheme::UniformWeighting(pb::UniformWeighting {})),
    }
}

#[test]
fn neighbors_that_contradict_each_other_are_refused() {
    let with = |change: fn(&mut pb::KNearestNeighborsClassifier)| {
        let mut model = neighbors();
        change(&mut model);
        malformed(Type::KNearestNeighborsClassifier(model))
    };
    fn index(m: &mut pb::KNearestNeighborsClassifier) -> &mut pb::NearestNeighborsIndex {
        m.nearest_neighbors_index.as_mut().unwrap()
    }
    assert!(with(|m| m.nearest_neighbors_index = None).contains("no index"));
    assert!(with(|m| index(m).number_of_dimensions = 0).contains("no dimensions"));
    assert!(with(|m| index(m).number_of_dimensions = i32::MAX).contains("has 2 numbers"));
    assert!(with(|m| index(m).index_type = None).contains("no type"));
    assert!(with(|m| index(m).distance_function = None).contains("no distance"));
    assert!(with(|m| index(m).float_samples.clear()).contains("2 labels for 0"));
    assert!(with(|m| m.class_labels = None).contains("0 labels for 2"));
    assert!(with(|m| m.number_of_neighbors = None).contains("not above 0"));
    assert!(with(|m| m.weighting_scheme = None).contains("weighted"));
    assert!(
        with(|m| {
            index(m).float_samples.clear();
            m.class_labels = None;
        })
        .contains("neither neighbours nor a label")
    );
    let outputs = [("label", Feature::Int64Type(pb::Int64FeatureType {})), ("scores", ints_to_numbers())];
    let model =
        described(Type::KNearestNeighborsClassifier(neighbors()), &[("x", array(&[], None))], &outputs);
    let x = |values: &[f64]| InferenceRequest::new().input("x", numbers(&[values.len()], values));
    assert!(wrong_input(&model, &x(&[1.0])).contains("takes 2"));
    assert!(wrong_input(&model, &x(&[1.0, f64::NAN])).contains("NaN"));
    // k is larger than the number of samples; on a tie, the smaller label wins.
    let prediction = predict(&model, &x(&[0.0, 0.0])).unwrap();
    assert_eq!(prediction.output("label").unwrap(), &Tensor::scalar(-4i64));
    assert_eq!(prediction.output("scores").unwrap().to_f64(), [0.5, 0.5]);
}

fn vectorizer(words: &[&str]) -> Type {
    let vector = words.iter().map(|&w| w.to_owned()).collect();
    let map = pb::dict_vectorizer::Map::StringToIndex(pb::StringVector { vector });
    Type::DictVectorizer(pb::DictVectorizer { map: Some(map) })
}

#[test]
fn words_of_another_kind_are_refused() {
    let model =
        described(vectorizer(&["a", "b"]), &[("x", strings_to_numbers())], &[("y", ints_to_numbers())]);
    let ints = InferenceRequest::new().dictionary("x", Dictionary::from_ints([(1, 1.0)]));
    assert!(wrong_input(&model, &ints).contains("takes strings"));
    let plain = InferenceRequest::new().input("x", numbers(&[2], &[1.0, 2.0]));
    assert!(wrong_input(&model, &plain).contains("is a dictionary"));
    assert!(malformed(vectorizer(&["a", "a"])).contains("two places"));
    assert!(malformed(Type::DictVectorizer(pb::DictVectorizer { map: None })).contains("no keys"));
}

#[test]
fn things_that_are_not_known_are_refused() {
    let categories =
        pb::one_hot_encoder::CategoryType::Int64Categories(pb::Int64Vector { vector: vec![1, 2] });
    let encoder = |handle_unknown| pb::OneHotEncoder {
        output_sparse: false,
        handle_unknown,
        category_type: Some(categories.clone()),
    };
    let int = || Feature::Int64Type(pb::Int64FeatureType {});
    let model = described(Type::OneHotEncoder(encoder(0)), &[("x", int())], &[("y", array(&[2], None))]);
    let x = |tensor: Tensor| InferenceRequest::new().input("x", tensor);
    assert!(wrong_input(&model, &x(Tensor::scalar(3i64))).contains("does not know 3"));
    assert!(wrong_input(&model, &x(Tensor::scalar(1.5))).contains("1.5 is not one"));
    assert!(wrong_input(&model, &x(Tensor::string("1"))).contains("takes whole numbers"));
    assert!(wrong_input(&model, &x(numbers(&[2], &[1.0, 2.0]))).contains("2 values"));
    assert_eq!(predict(&model, &x(Tensor::scalar(2f32))).unwrap().output("y").unwrap().to_f64(), [0.0, 1.0]);
    assert!(malformed(Type::OneHotEncoder(encoder(7))).contains("unknown way"));
    let none = pb::OneHotEncoder { category_type: None, ..encoder(0) };
    assert!(malformed(Type::OneHotEncoder(none)).contains("no categories"));

    use pb::categorical_mapping::{MappingType, ValueOnUnknown};
    let map = [(1, "one".to_owned())].into();
    let mapping = pb::CategoricalMapping {
        mapping_type: Some(MappingType::Int64ToStringMap(pb::Int64ToStringMap { map })),
        value_on_unknown: None,
    };
    let text = Feature::StringType(pb::StringFeatureType {});
    let model = described(Type::CategoricalMapping(mapping.clone()), &[("x", int())], &[("y", text)]);
    assert!(wrong_input(&model, &x(Tensor::scalar(2i64))).contains("does not know 2"));
    let wrong = pb::CategoricalMapping { value_on_unknown: Some(ValueOnUnknown::Int64Value(1)), ..mapping };
    assert!(malformed(Type::CategoricalMapping(wrong)).contains("another type"));
    let none = pb::CategoricalMapping { mapping_type: None, value_on_unknown: None };
    assert!(malformed(Type::CategoricalMapping(none)).contains("maps nothing"));
}

#[test]
fn sparse_features_have_places_in_the_vector() {
    let column = |n| pb::feature_vectorizer::InputColumn { input_column: "x".into(), input_dimensions: n };
    let model = |columns: Vec<_>| {
        let vectorizer = Type::FeatureVectorizer(pb::FeatureVectorizer { input_list: columns });
        described(vectorizer, &[("x", ints_to_numbers())], &[("y", array(&[], None))])
    };
    let x = |place: i64| InferenceRequest::new().dictionary("x", Dictionary::from_ints([(place, 2.0)]));
    let twice = predict(&model(vec![column(2), column(3)]), &x(1)).unwrap();
    assert_eq!(twice.output("y").unwrap().to_f64(), [0.0, 2.0, 0.0, 2.0, 0.0]);
    for place in [3, -1, i64::MAX] {
        assert!(wrong_input(&model(vec![column(3)]), &x(place)).contains("no place in a vector of 3"));
    }
    for size in [1 << 40, u64::MAX] {
        let error = predict(&model(vec![column(1), column(size)]), &x(0)).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }
}

#[test]
fn what_is_cut_off_is_an_error() {
    let int = || Feature::Int64Type(pb::Int64FeatureType {});
    let scaler = pb::Scaler { scale_value: vec![0.5], shift_value: vec![1.0] };
    let model = described(Type::Scaler(scaler), &[("x", int())], &[("y", int())]);
    let x = |x: i64| InferenceRequest::new().input("x", Tensor::scalar(x));
    assert_eq!(predict(&model, &x(3)).unwrap().output("y").unwrap(), &Tensor::scalar(2i64));
    assert!(wrong_input(&model, &x(2)).contains("1.5 is not one"));
    assert!(malformed(Type::Normalizer(pb::Normalizer { norm_type: 9 })).contains("norm"));
}
