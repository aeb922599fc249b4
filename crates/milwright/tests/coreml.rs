//! The backend `coreml`. On Linux with the stand-in, which takes a package's file `standin.txt` for the model; on Apple
//! with Core ML itself.

use std::path::{Path, PathBuf};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits.mlpackage")
}

#[cfg(not(any(target_vendor = "apple", milwright_standin)))]
#[test]
fn elsewhere_it_says_that_there_is_none() {
    use milwright::{Backend, CoreMl, ErrorKind, LoadOptions, Model};

    let availability = CoreMl.availability();
    assert!(!availability.available && availability.reason.contains("macOS"), "{availability:?}");
    let model = std::sync::Arc::new(Model::open(digits()).unwrap());
    let e = CoreMl.session(&model, &LoadOptions::default()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    let e = CoreMl.compute_plan(&model, &LoadOptions::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert_eq!(CoreMl.devices().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[cfg(target_vendor = "apple")]
mod with_core_ml {
    use std::sync::Arc;

    use milwright::{Backend, ComputeUnits, CoreMl, Cpu, InferenceRequest, LoadOptions, Model, npy};

    #[test]
    fn both_engines_agree() {
        let model = Arc::new(Model::open(super::digits()).unwrap());
        let images = npy::read(super::digits().with_file_name("digits_test_x.npy")).unwrap();
        let size = images.bytes().len() / images.shape()[0];
        for compute_units in [ComputeUnits::CpuOnly, ComputeUnits::All] {
            let options = LoadOptions { compute_units, ..LoadOptions::default() };
            let mut ours = Cpu.session(&model, &options).unwrap();
            let mut theirs = CoreMl.session(&model, &options).unwrap();
            for i in 0..20 {
                let bytes = images.shared_bytes().slice(i * size..(i + 1) * size);
                let image = milwright::Tensor::from_bytes(images.dtype(), &[1, 1, 8, 8], bytes).unwrap();
                let request = InferenceRequest::new().input("image", image);
                let (ours, theirs) = (ours.predict(&request).unwrap(), theirs.predict(&request).unwrap());
                for (name, tensor) in ours.outputs() {
                    let (a, b) = (tensor.to_f64(), theirs.output(name).unwrap().to_f64());
                    assert_eq!(a.len(), b.len());
                    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.02), "{name}: {a:?} {b:?}");
                }
            }
        }
    }
}

#[cfg(milwright_standin)]
#[path = "../../apple/tests/standin/mod.rs"]
mod standin;

#[cfg(milwright_standin)]
mod with_the_stand_in {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use milwright::{
        Backend, Cancel, ComputeUnits, CoreMl, DType, Device, ErrorKind, InferenceRequest, LoadOptions,
        Model, PlanOrigin, PredictOptions, Session, Tensor,
    };

    use super::standin::{Fault, await_late, fault, hide, release_late, reset, seed, wait_idle};

    /// A package that Milwright opens as digits, and the stand-in as `text` says.
    fn package(text: &str) -> (tempfile::TempDir, Arc<Model>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlpackage");
        copy(&super::digits(), &path);
        fs::write(path.join("standin.txt"), text).unwrap();
        let model = Arc::new(Model::open(&path).unwrap());
        (folder, model)
    }

    fn copy(from: &PathBuf, to: &PathBuf) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    fn load(text: &str) -> Box<dyn Session> {
        let (_folder, model) = package(text);
        CoreMl.session(&model, &LoadOptions::default()).unwrap()
    }

    fn x(values: &[f32]) -> InferenceRequest {
        InferenceRequest::new().input("x", Tensor::from_vec(&[values.len()], values.to_vec()).unwrap())
    }

    fn y(session: &mut dyn Session, request: &InferenceRequest) -> Vec<f64> {
        session.predict(request).unwrap().output("y").unwrap().to_f64()
    }

    const AFFINE: &str = "input x array f32 3\noutput y array f32 3\naffine y x 2 1\n";
    const STATEFUL: &str =
        "input x array f32 3\noutput y array f32 3\nstate s array f16 3\naccumulate y x s\n";

    #[test]
    fn it_is_there_and_predicts() {
        assert!(CoreMl.availability().available);
        let mut session = load(AFFINE);
        assert_eq!(session.loaded().backend, "coreml");
        assert_eq!(y(&mut *session, &x(&[1.0, 2.0, 3.0])), [3.0, 5.0, 7.0]);
        // Element types are converted as those of inputs are elsewhere.
        let whole = InferenceRequest::new().input("x", Tensor::from_vec(&[3], vec![1i32, 2, 3]).unwrap());
        assert_eq!(y(&mut *session, &whole), [3.0, 5.0, 7.0]);
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        let mut session = load(AFFINE);
        for (request, text) in [
            (InferenceRequest::new(), "the input `x` is missing"),
            (x(&[1.0; 3]).input("z", Tensor::scalar(1f32)), "the model has no input `z`"),
            (x(&[1.0; 4]), "Feature x is of a wrong type or shape."),
        ] {
            let e = session.predict(&request).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            assert!(e.to_string().contains(text), "{e}");
        }
        let (_folder, model) = package(AFFINE);
        let unknown = LoadOptions { function: Some("f".into()), ..LoadOptions::default() };
        assert_eq!(CoreMl.session(&model, &unknown).err().unwrap().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn states_are_kept_lent_and_reset() {
        let mut session = load(STATEFUL);
        assert_eq!(y(&mut *session, &x(&[1.0; 3])), [1.0; 3]);
        assert_eq!(y(&mut *session, &x(&[1.0; 3])), [2.0; 3]);
        let mut lent = session.new_state();
        assert_eq!(lent.names(), ["s"]);
        assert_eq!(lent.read("s").unwrap().dtype(), DType::Fp16);
        for expected in [5.0, 10.0] {
            let options = PredictOptions { state: Some(&mut lent), ..PredictOptions::default() };
            let outputs = session.predict_with(&x(&[5.0; 3]), options).unwrap();
            assert_eq!(outputs.output("y").unwrap().to_f64(), [expected; 3]);
        }
        assert_eq!(lent.read("s").unwrap().to_f64(), [10.0; 3]);
        assert_eq!(y(&mut *session, &x(&[1.0; 3])), [3.0; 3]);
        session.reset().unwrap();
        assert_eq!(y(&mut *session, &x(&[1.0; 3])), [1.0; 3]);
    }

    #[test]
    fn deadlines_and_cancelling_hold() {
        for text in [AFFINE, STATEFUL] {
            let mut session = load(text);
            let soon = Some(Instant::now() + Duration::from_secs(100));
            let options = PredictOptions { deadline: soon, ..PredictOptions::default() };
            session.predict_with(&x(&[1.0; 3]), options).unwrap();
            let cancel = Cancel::default();
            cancel.cancel();
            let options = PredictOptions { cancel, ..PredictOptions::default() };
            let e = session.predict_with(&x(&[1.0; 3]), options).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Cancelled);
        }
    }

    const LATER: &str = "predictionFromFeatures:options:completionHandler:";
    const LATER_WITH_STATE: &str = "predictionFromFeatures:usingState:options:completionHandler:";

    /// Predictions that Core ML keeps for itself: each ends in time, and the session goes on when it has come back.
    #[test]
    fn what_core_ml_does_not_answer_ends_all_the_same() {
        for (text, method, expected) in [(AFFINE, LATER, [3.0; 3]), (STATEFUL, LATER_WITH_STATE, [2.0; 3])] {
            let mut session = load(text);
            fault(method, Fault::Late);
            let soon = Some(Instant::now() + Duration::from_millis(30));
            let options = PredictOptions { deadline: soon, ..PredictOptions::default() };
            let e = session.predict_with(&x(&[1.0; 3]), options).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
            let e = session.predict(&x(&[1.0; 3])).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Overloaded, "the first one is on its way: {e}");
            release_late();
            session.rest();
            reset();
            assert_eq!(y(&mut *session, &x(&[1.0; 3])), expected);
            wait_idle();

            let cancel = Cancel::default();
            fault(method, Fault::Late);
            let later = Some(Instant::now() + Duration::from_secs(600));
            let options = PredictOptions { deadline: later, cancel: cancel.clone(), state: None };
            std::thread::scope(|s| {
                s.spawn(|| {
                    await_late();
                    cancel.cancel();
                });
                let e = session.predict_with(&x(&[1.0; 3]), options).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Cancelled);
            });
            release_late();
            session.rest();
            wait_idle();
            reset();
        }
    }

    /// Before macOS 14 nobody calls back: a deadline is looked at once.
    #[test]
    fn an_older_system_predicts_under_a_deadline() {
        hide(LATER);
        let mut session = load(AFFINE);
        let later = Some(Instant::now() + Duration::from_secs(600));
        let options = PredictOptions { deadline: later, ..PredictOptions::default() };
        let outputs = session.predict_with(&x(&[1.0; 3]), options).unwrap();
        assert_eq!(outputs.output("y").unwrap().to_f64(), [3.0; 3]);
        let past = PredictOptions { deadline: Some(Instant::now()), ..PredictOptions::default() };
        let e = session.predict_with(&x(&[1.0; 3]), past).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
        reset();
    }

    /// The manager over the bridge, over a Core ML that fails at random in every way and place, and hangs.
    #[cfg(feature = "manager")]
    #[test]
    fn a_manager_answers_whatever_core_ml_does() {
        use milwright::Candidate;
        use milwright::manager::{BreakerOptions, Call, DriverOptions, Manager, ModelOptions};

        const CALLERS: usize = 8;
        const CALLS: usize = 500;
        let (_folder, model) = package(AFFINE);
        let ms = Duration::from_millis;
        let backend: Arc<dyn Backend> = Arc::new(CoreMl);
        let units = [ComputeUnits::CpuAndNeuralEngine, ComputeUnits::CpuAndGpu, ComputeUnits::CpuOnly];
        let options = ModelOptions {
            chain: units
                .map(|compute_units| Candidate { backend: Arc::clone(&backend), compute_units })
                .into(),
            standby: true,
            sessions: 2,
            attempt: Some(ms(100)),
            driver: DriverOptions {
                grace: ms(5),
                reload_after: ms(1),
                max_hung: 10_000,
                ..Default::default()
            },
            breaker: BreakerOptions { cooldown: ms(1), ..Default::default() },
            ..ModelOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
        let (right, failed) = runtime.block_on(async {
            let manager = Manager::start();
            let served = manager.load("affine", model, options).await.unwrap();
            seed(11);
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let served = served.clone();
                    tokio::spawn(async move {
                        let (mut right, mut failed) = (0, 0);
                        for i in 0..CALLS {
                            let n = (caller * CALLS + i) as f32;
                            let deadline = Some(Instant::now() + Duration::from_secs(20));
                            let call = Call { deadline, ..Call::from(x(&[n, -n, 0.5])) };
                            let reply = served.predict(call).await;
                            assert!(Instant::now() <= deadline.unwrap());
                            match reply {
                                Ok(reply) => {
                                    let y = reply.prediction().output("y").unwrap().to_f64();
                                    let n = f64::from(n);
                                    assert_eq!(y, [2.0 * n + 1.0, -2.0 * n + 1.0, 2.0]);
                                    right += 1;
                                }
                                Err(_) => failed += 1,
                            }
                        }
                        (right, failed)
                    })
                })
                .collect();
            let mut sum = (0, 0);
            for caller in callers {
                let (right, failed) = caller.await.unwrap();
                sum = (sum.0 + right, sum.1 + failed);
            }
            // What was late comes back, and nobody waits for it.
            seed(0);
            release_late();
            manager.drain(Duration::from_secs(60)).await;
            while served.status().backends.iter().any(|backend| backend.hung_threads > 0) {
                tokio::task::yield_now().await;
            }
            sum
        });
        wait_idle();
        reset();
        println!("{right} right, {failed} failed");
        assert_eq!(right + failed, CALLERS * CALLS);
        assert!(right > CALLERS * CALLS * 3 / 4, "{right} right, {failed} failed");
    }

    #[test]
    fn images_and_classes_are_converted() {
        let text = "input x image BGRA 2 1\noutput y image BGRA 2 1\ninvert y x\n";
        let values = vec![0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
        let image = Tensor::from_vec(&[1, 3, 1, 2], values).unwrap();
        let mut session = load(text);
        let request = InferenceRequest::new().input("x", image);
        assert_eq!(y(&mut *session, &request), [255.0, 254.0, 253.0, 252.0, 251.0, 250.0]);
        let text = "labels cat dog\ninput x array f32 1\noutput y array f32 1\naffine y x 1 0\n";
        let prediction = load(text).predict(&x(&[1.0])).unwrap();
        assert_eq!(prediction.classes().unwrap().strings(), ["cat", "dog"]);
    }

    #[test]
    fn compiled_models_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = milwright::cache::Store::open(folder.path(), Default::default()).unwrap();
        let options = LoadOptions { cache: Some(store), ..LoadOptions::default() };
        let (_folder, model) = package(AFFINE);
        for origin in [PlanOrigin::Compiled, PlanOrigin::Cached] {
            let mut session = CoreMl.session(&model, &options).unwrap();
            assert_eq!(session.loaded().plan, origin);
            assert_eq!(y(&mut *session, &x(&[1.0; 3])), [3.0; 3]);
        }
    }

    #[test]
    fn batches_are_one_call_of_core_ml() {
        let requests = [x(&[1.0; 3]), x(&[2.0; 3]), x(&[3.0; 3])];
        let batch = |session: &mut dyn Session| -> Vec<Vec<f64>> {
            let all = session.predict_batch(&requests, PredictOptions::default()).unwrap();
            all.iter().map(|prediction| prediction.output("y").unwrap().to_f64()).collect()
        };
        let mut session = load(AFFINE);
        assert_eq!(batch(&mut *session), [[3.0; 3], [5.0; 3], [7.0; 3]]);
        fault("predictionsFromBatch:options:error:", Fault::Error);
        let e = session.predict_batch(&requests, PredictOptions::default()).unwrap_err();
        assert!(e.to_string().contains("failed in predictionsFromBatch:options:error:"), "{e}");
        reset();
        // With states, each one sees what the last one left.
        assert_eq!(batch(&mut *load(STATEFUL)), [[1.0; 3], [3.0; 3], [6.0; 3]]);
    }

    #[test]
    fn a_plan_says_where_ops_run() {
        assert!(CoreMl.devices().unwrap().contains(&Device::Cpu));
        let (_folder, model) = package(&format!("{AFFINE}op main 0 ios17.mul y ane ane,cpu 0.75\n"));
        let plan = CoreMl.compute_plan(&model, &LoadOptions::default()).unwrap();
        assert_eq!((&*plan.ops[0].operator, plan.ops[0].cost), ("ios17.mul", Some(0.75)));
        assert!(matches!(plan.ops[0].preferred, Some(Device::NeuralEngine { .. })));
        let cancel = Cancel::default();
        cancel.cancel();
        let e = CoreMl.compute_plan(&model, &LoadOptions { cancel, ..LoadOptions::default() }).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn hardware_is_chosen() {
        let (_folder, model) = package(AFFINE);
        for compute_units in
            [ComputeUnits::CpuOnly, ComputeUnits::CpuAndGpu, ComputeUnits::CpuAndNeuralEngine]
        {
            let options = LoadOptions { compute_units, ..LoadOptions::default() };
            let mut session = CoreMl.session(&model, &options).unwrap();
            assert_eq!(y(&mut *session, &x(&[1.0; 3])), [3.0; 3]);
        }
    }
}
