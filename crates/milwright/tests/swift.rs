//! The backend `swift`: with the stand-in in C, which takes a compiled model's file `standin.txt` for the model; see
//! `scripts/apple/swift.sh`.
#![cfg(feature = "swift")]

use std::collections::BTreeMap;
use std::sync::Arc;

use milwright::{Backend, LoadOptions, Model, Swift};
use milwright_formats::proto::{self as pb, model};
use milwright_mil::{text, verify};
use prost::Message;

/// Nothing in these programs has to be in a file.
struct NoWeights;

impl milwright_convert::ml_program::WeightSink for NoWeights {
    fn store(
        &mut self,
        _: milwright_formats::blob::BlobType,
        _: usize,
        _: &[u8],
    ) -> Result<pb::mil_spec::value::BlobFileValue, milwright_formats::Error> {
        unreachable!("the constants are small")
    }
}

/// A model in memory. Its inputs, outputs and states are fp32 of the shape [2].
fn model(inputs: &[&str], states: &[&str], source: &str) -> Arc<Model> {
    use pb::array_feature_type::ArrayDataType;
    use pb::feature_type::Type;
    let array = || pb::ArrayFeatureType {
        shape: vec![2],
        data_type: ArrayDataType::Float32 as i32,
        ..Default::default()
    };
    let feature = |name: &str, r#type| pb::FeatureDescription {
        name: name.into(),
        r#type: Some(pb::FeatureType { r#type: Some(r#type), ..Default::default() }),
        ..Default::default()
    };
    let arrays = |names: &[&str]| names.iter().map(|n| feature(n, Type::MultiArrayType(array()))).collect();
    let state = |name: &&str| {
        let r#type = Some(pb::state_feature_type::Type::ArrayType(array()));
        feature(name, Type::StateType(pb::StateFeatureType { r#type }))
    };
    let description = pb::ModelDescription {
        input: arrays(inputs),
        output: arrays(&["y"]),
        state: states.iter().map(state).collect(),
        ..Default::default()
    };
    let program = verify(text::parse(source).unwrap()).unwrap();
    let program = milwright_convert::ml_program::write(&program, &mut NoWeights).unwrap();
    let model = pb::Model {
        specification_version: 9,
        description: Some(description.into()),
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    };
    Arc::new(Model::from_bytes(model.encode_to_vec().into(), &BTreeMap::new()).unwrap())
}

fn doubling() -> Arc<Model> {
    let source = "program(1.3) { func main<ios18>(tensor<fp32, [2]> x) {
        tensor<fp32, [2]> y = add(x = x, y = x)[name = string(\"y\")];
    } -> (y); }";
    model(&["x"], &[], source)
}

#[cfg(not(any(target_vendor = "apple", milwright_swift_standin)))]
#[test]
fn elsewhere_it_says_that_there_is_none() {
    let availability = Swift.availability();
    assert!(!availability.available && availability.reason.contains("macOS"), "{availability:?}");
    let e = Swift.session(&doubling(), &LoadOptions::default()).err().unwrap();
    assert_eq!(e.kind(), milwright::ErrorKind::Unavailable);
    assert!(milwright::backends().iter().any(|backend| backend.name() == "swift"));
}

#[cfg(target_vendor = "apple")]
#[test]
fn both_engines_agree() {
    use milwright::{Cpu, InferenceRequest, Tensor};
    let x = Tensor::from_vec(&[2], vec![1f32, 2.5]).unwrap();
    let request = InferenceRequest::new().input("x", x);
    for backend in [&Swift as &dyn Backend, &Cpu] {
        let mut session = backend.session(&doubling(), &LoadOptions::default()).unwrap();
        let outputs = session.predict(&request).unwrap();
        assert_eq!(outputs.output("y").unwrap().to_f64(), [2.0, 5.0], "{}", backend.name());
    }
}

#[cfg(milwright_swift_standin)]
mod with_the_stand_in {
    use std::fs;
    use std::time::{Duration, Instant};

    use milwright::{
        Cancel, DType, ErrorKind, InferenceRequest, PlanOrigin, PredictOptions, Session, Tensor,
    };

    use super::*;

    unsafe extern "C" {
        fn swift_standin_await_late();
        fn swift_standin_objects() -> i64;
    }

    /// A session that the stand-in runs as `text` says.
    fn load(model: &Model, text: &str) -> Box<dyn Session> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlmodelc");
        model.compile_to(&path).unwrap();
        let opened = Arc::new(Model::open(&path).unwrap());
        fs::write(path.join("standin.txt"), text).unwrap();
        Swift.session(&opened, &LoadOptions::default()).unwrap()
    }

    fn x(values: &[f32]) -> InferenceRequest {
        InferenceRequest::new().input("x", Tensor::from_vec(&[values.len()], values.to_vec()).unwrap())
    }

    fn y(session: &mut dyn Session, request: &InferenceRequest) -> Vec<f64> {
        session.predict(request).unwrap().output("y").unwrap().to_f64()
    }

    #[test]
    fn it_is_there_and_predicts() {
        assert!(Swift.availability().available);
        assert!(milwright::backends().iter().any(|b| b.name() == "swift" && b.availability().available));
        let mut session = load(&doubling(), "scale 2\n");
        assert_eq!(session.loaded().backend, "swift");
        assert_eq!(y(&mut *session, &x(&[1.0, 2.5])), [2.0, 5.0]);
        // Element types are converted as those of inputs are elsewhere.
        let whole = InferenceRequest::new().input("x", Tensor::from_vec(&[2], vec![1i32, 2]).unwrap());
        assert_eq!(y(&mut *session, &whole), [2.0, 4.0]);
        // What is in memory is compiled first.
        let mut session = Swift.session(&doubling(), &LoadOptions::default()).unwrap();
        assert_eq!(session.loaded().plan, PlanOrigin::Compiled);
        assert_eq!(y(&mut *session, &x(&[1.0, 2.5])), [1.0, 2.5]);
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        let mut session = load(&doubling(), "scale 2\n");
        for (request, text) in [
            (InferenceRequest::new(), "the input `x` is missing"),
            (x(&[1.0; 2]).input("z", Tensor::scalar(1f32)), "the model has no input `z`"),
        ] {
            let e = session.predict(&request).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            assert!(e.to_string().contains(text), "{e}");
        }
        let e = load(&doubling(), "fault error\n").predict(&x(&[1.0; 2])).unwrap_err();
        assert_eq!((e.kind(), e.hint()), (ErrorKind::Runtime, Some("change the test")));
        let unknown = LoadOptions { function: Some("f".into()), ..LoadOptions::default() };
        assert_eq!(Swift.session(&doubling(), &unknown).err().unwrap().kind(), ErrorKind::InvalidInput);
        let cancelled = LoadOptions::default();
        cancelled.cancel.cancel();
        assert_eq!(Swift.session(&doubling(), &cancelled).err().unwrap().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn states_are_kept_lent_and_reset() {
        let source = "program(1.3) { func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp32, [2]>> s) {
            tensor<fp32, [2]> a = read_state(input = s)[name = string(\"a\")];
            tensor<fp32, [2]> y = add(x = a, y = x)[name = string(\"y\")];
            write_state(data = y, input = s)[name = string(\"w\")];
        } -> (y); }";
        let mut session = load(&model(&["x"], &["s"], source), "state 2\n");
        assert_eq!(y(&mut *session, &x(&[1.0; 2])), [1.0; 2]);
        assert_eq!(y(&mut *session, &x(&[1.0; 2])), [2.0; 2]);
        let mut lent = session.new_state();
        assert_eq!((lent.names(), lent.read("s").unwrap().dtype()), (vec!["s"], DType::Fp32));
        for expected in [5.0, 10.0] {
            let options = PredictOptions { state: Some(&mut lent), ..PredictOptions::default() };
            let outputs = session.predict_with(&x(&[5.0; 2]), options).unwrap();
            assert_eq!(outputs.output("y").unwrap().to_f64(), [expected; 2]);
        }
        assert_eq!(lent.read("s").unwrap().to_f64(), [10.0; 2]);
        assert_eq!(y(&mut *session, &x(&[1.0; 2])), [3.0; 2]);
        session.reset().unwrap();
        assert_eq!(y(&mut *session, &x(&[1.0; 2])), [1.0; 2]);
    }

    /// Waits until no prediction runs any more: those that were stopped have ended.
    fn settle() {
        // SAFETY: no arguments.
        unsafe { swift_standin_objects() };
    }

    #[test]
    fn cancellation_and_deadlines_stop_predictions() {
        let mut session = load(&doubling(), "fault hang\n");
        let cancel = Cancel::default();
        let options = PredictOptions { cancel: cancel.clone(), ..PredictOptions::default() };
        std::thread::scope(|s| {
            s.spawn(|| {
                // SAFETY: no arguments. It waits until the prediction is under way; there is no other that hangs.
                unsafe { swift_standin_await_late() };
                cancel.cancel();
            });
            let e = session.predict_with(&x(&[1.0; 2]), options).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Cancelled, "{e}");
        });
        settle();
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let options = PredictOptions { deadline, ..PredictOptions::default() };
        let e = session.predict_with(&x(&[1.0; 2]), options).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeadlineExceeded, "{e}");
        settle();
    }
}
