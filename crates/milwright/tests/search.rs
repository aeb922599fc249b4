//! `Optimizer::smallest`: what it finds, what it proves, and how it ends.

use std::path::Path;
use std::sync::Arc;

use milwright::{
    Backend, Cancel, Cpu, ErrorKind, InferenceRequest, LoadOptions, Metric, MetricTask, Model,
    OptimizeReport, Optimizer, Progress, Result, Samples, Search, Target, TargetOs, TaskResult, Tensor,
    compare,
};
use milwright_mil::text::parse;

/// A sequence of numbers that looks random, from -1 to 1.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn weight(rows: usize, seed: u64, scale: f32) -> String {
    let values: Vec<String> = numbers(rows * 64, seed).iter().map(|x| format!("{:e}", x * scale)).collect();
    format!("tensor<fp32, [{rows}, 64]>([{}])", values.join(", "))
}

/// Three layers, of which the second adds little to what the first gives: it needs fewer bits. One is written into its
/// op, without a name.
fn model(end: &str) -> Arc<Model> {
    let text = format!(
        "program(1.3) {{ func main<ios18>(tensor<fp32, [1, 64]> x) {{
            tensor<fp32, [64, 64]> first = const()[name = string(\"first\"), val = {}];
            tensor<fp32, [64, 64]> second = const()[name = string(\"second\"), val = {}];
            tensor<fp32, [1, 64]> a = linear(x = x, weight = first)[name = string(\"a\")];
            tensor<fp32, [1, 64]> b = relu(x = a)[name = string(\"b\")];
            tensor<fp32, [1, 64]> c = linear(x = b, weight = second)[name = string(\"c\")];
            tensor<fp32, [1, 64]> d = add(x = b, y = c)[name = string(\"d\")];
            tensor<fp32, [1, 48]> e = linear(x = d, weight = {})[name = string(\"e\")];
            {end}
        }} -> (y); }}",
        weight(64, 1, 0.2),
        weight(64, 2, 0.004),
        weight(48, 3, 0.2),
    );
    Arc::new(Model::from_program(parse(&text).unwrap()).unwrap())
}

const NUMBERS: &str = "tensor<fp32, [1, 48]> y = tanh(x = e)[name = string(\"y\")];";
const SCORES: &str = "tensor<fp32, [1, 48]> y = softmax(x = e, axis = int32(-1))[name = string(\"y\")];";

fn samples(count: usize) -> Samples {
    let request = |i| {
        let x = Tensor::from_vec(&[1, 64], numbers(64, 100 + i)).unwrap();
        InferenceRequest::new().input("x", x)
    };
    Samples::given((0..count as u64).map(request).collect())
}

fn run(optimizer: &Optimizer, model: &Arc<Model>, output: &Path) -> Result<OptimizeReport> {
    optimizer.optimize(model, Some(output), &mut |_| {})
}

#[test]
fn each_weight_gets_the_bits_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let optimizer = Optimizer::new().samples(samples(36)).tolerance(30.0).smallest(Search::new());
    let report = run(&optimizer, &model, &output).unwrap();
    let found = report.search.as_ref().unwrap();
    assert_eq!(found.weights.len(), 3, "the weight without a name is one");
    let bits = |name: &str| found.weights.iter().find(|w| w.name.starts_with(name)).unwrap().bits;
    assert!(bits("second") < bits("first"), "{:?}", found.weights);
    let uniform = found.uniform.as_ref().unwrap();
    assert!(
        report.bytes_after <= uniform.bytes && found.form.is_none(),
        "{} {}",
        report.bytes_after,
        uniform.bytes
    );
    assert!(report.bytes_after < 4 * (2 * 64 + 48) * 64 / 3);
    let used = found.samples.as_ref().unwrap();
    assert_eq!((used.observed, used.searched, used.proved), (12, 12, 12));
    assert!(used.note.is_none() && !found.stopped);

    // The written file holds it on the samples that proved it, and on others it is about as good.
    let written = Arc::new(Model::open(&output).unwrap());
    let others = Samples::given(samples(80).requests.split_off(36));
    let found_later = compare(&model, &written, None, &others, &LoadOptions::default(), &mut || ()).unwrap();
    assert!(found_later.outputs[0].snr_db.decibels().unwrap() > 28.5, "{found_later:?}");
    assert!(report.proof.functions[0].outputs[0].within(30.0));

    // The curve has the result, and what is on it gets better with size.
    assert_eq!(found.curve.iter().filter(|p| p.chosen).count(), 1);
    let best: Vec<_> = found.curve.iter().filter(|p| p.best).collect();
    assert!(best.windows(2).all(|p| p[0].bytes <= p[1].bytes && p[0].figure < p[1].figure));
    let plot = found.plot();
    assert!(plot.starts_with("<svg") && plot.contains("palette4:rows") && plot.ends_with("</svg>\n"));

    // The same again, for the same seed.
    let again = run(&optimizer, &model, &folder.path().join("again.mlpackage")).unwrap();
    let forms = |r: &OptimizeReport| -> Vec<_> {
        r.search.as_ref().unwrap().weights.iter().map(|w| w.form.clone()).collect()
    };
    assert_eq!(forms(&report), forms(&again));
    assert_eq!(report.bytes_after, again.bytes_after);
}

#[test]
fn a_size_gets_the_best_of_that_size() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let by_size = |bytes| Optimizer::new().samples(samples(36)).smallest(Search::new().max_bytes(bytes));
    let report = run(&by_size(10_000), &model, &output).unwrap();
    assert!(report.bytes_after <= 10_000, "{}", report.bytes_after);
    let found = report.search.unwrap();
    let uniform = found.uniform.unwrap();
    assert!(found.proved_figure.unwrap() >= uniform.proved_figure.unwrap());

    let error = run(&by_size(1000), &model, &folder.path().join("none.mlpackage")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tolerance);
    assert!(error.to_string().contains("at most 1000 bytes"), "{error}");
    assert!(!folder.path().join("none.mlpackage").exists());
}

#[test]
fn scores_are_held_to_what_they_are_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(SCORES);
    let by = |metric, tolerance| {
        let output = folder.path().join(format!("{metric}.mlpackage"));
        let search = Search::new().metric(metric);
        let optimizer = Optimizer::new().samples(samples(48)).tolerance(tolerance).smallest(search);
        run(&optimizer, &model, &output)
    };
    let divergence = by(Metric::Kl, 1e-3).unwrap();
    assert!(divergence.proof.functions[0].outputs[0].kl.unwrap() <= 1e-3);
    assert!(divergence.search.unwrap().proved_figure.unwrap() <= 1e-3);
    let choices = by(Metric::Top1, 0.9).unwrap();
    assert!(choices.proof.functions[0].outputs[0].agreement.unwrap() >= 0.9);
    assert!(choices.tolerance_db.is_none());
    let peak = by(Metric::Psnr, 40.0).unwrap();
    assert!(peak.proof.functions[0].outputs[0].psnr_db.decibels().unwrap() >= 40.0);
    for (metric, tolerance) in [(Metric::Kl, -1.0), (Metric::Top1, 99.0), (Metric::Psnr, f64::NAN)] {
        assert_eq!(by(metric, tolerance).unwrap_err().kind(), ErrorKind::InvalidInput, "{metric}");
    }
}

#[test]
fn what_nothing_reaches_is_an_error_with_what_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let optimizer = Optimizer::new().samples(samples(24)).tolerance(300.0).smallest(Search::new());
    let error = run(&optimizer, &model, &output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tolerance);
    assert!(
        error.to_string().contains("nothing smaller is within 300.0 dB")
            && error.to_string().contains("the best is")
    );
    assert!(!output.exists());
}

#[test]
fn samples_that_cannot_serve_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let with = |samples| Optimizer::new().samples(samples).tolerance(30.0).smallest(Search::new());
    let error = run(&with(samples(1)), &model, &output).unwrap_err();
    assert!(error.to_string().contains("cannot both search and prove"), "{error}");
    let mut wrong = samples(24);
    wrong.requests[7] =
        InferenceRequest::new().input("x", Tensor::from_vec(&[1, 64], vec![f32::NAN; 64]).unwrap());
    let error = run(&with(wrong), &model, &output).unwrap_err();
    assert!(error.to_string().contains("set 8 of the inputs has NaN in `x`"), "{error}");
    let mut wrong = samples(24);
    wrong.requests[5] =
        InferenceRequest::new().input("x", Tensor::from_vec(&[1, 32], vec![0f32; 32]).unwrap());
    let error = run(&with(wrong), &model, &output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // Nothing is asked for, or what contradicts it.
    let samples = || samples(24);
    let nothing = Optimizer::new().samples(samples()).smallest(Search::new());
    assert_eq!(run(&nothing, &model, &output).unwrap_err().kind(), ErrorKind::InvalidInput);
    let both = with(samples()).quantization(milwright::Quantization::Int8);
    assert_eq!(run(&both, &model, &output).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!output.exists());

    // Few samples are enough, and that is said.
    let few = Optimizer::new().samples(Samples::given(self::samples(6).requests)).tolerance(25.0);
    let report = run(&few.smallest(Search::new()), &model, &output).unwrap();
    assert!(report.search.unwrap().samples.unwrap().note.unwrap().contains("6 samples are few"));
}

/// Without samples, nothing is said of single weights.
#[test]
fn drawn_inputs_choose_one_form_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let report = run(&Optimizer::new().tolerance(20.0).smallest(Search::new()), &model, &output).unwrap();
    let found = report.search.unwrap();
    assert!(found.form.is_some() && found.samples.is_none() && found.proved_figure.is_none());
    assert!(found.notes.iter().any(|n| n.contains("without samples")));
    assert!(report.proof.is_smoke_test());
}

#[test]
fn systems_and_hardware_have_their_forms() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(NUMBERS);
    let small = Optimizer::new().samples(samples(24)).tolerance(25.0).smallest(Search::new());
    let forms = |optimizer: Optimizer, name: &str| {
        let report = run(&optimizer, &model, &folder.path().join(name)).unwrap();
        let curve = report.search.unwrap().curve;
        curve.into_iter().filter_map(|p| p.form).collect::<Vec<_>>()
    };
    let old = forms(small.clone().target_os(TargetOs::Ios16), "old.mlpackage");
    assert!(old.iter().all(|f| !f.contains(':')) && old.contains(&"palette4".to_owned()), "{old:?}");
    let engine = forms(small.target(Target::Ane), "ane.mlpackage");
    assert!(engine.iter().all(|f| !f.starts_with("int4")) && engine.contains(&"palette4:rows".to_owned()));
}

/// Whoever stops a search gets what it has, if that holds; and nothing if it has nothing.
#[test]
fn a_search_that_is_stopped_keeps_the_best_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(NUMBERS), folder.path().join("small.mlpackage"));
    let stopped_after = |choices: usize| {
        let stop = Cancel::default();
        let search = Search::new().stop(stop.clone());
        let optimizer = Optimizer::new().samples(samples(24)).tolerance(25.0).smallest(search);
        optimizer.optimize(&model, Some(&output), &mut |at| {
            if matches!(at, Progress::Searching { done, .. } if done >= choices) {
                stop.cancel();
            }
        })
    };
    let error = stopped_after(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!output.exists());
    let report = stopped_after(8).unwrap();
    let found = report.search.unwrap();
    assert!(found.stopped && found.form.is_some() && report.proof.functions[0].outputs[0].within(25.0));
    assert!(Model::open(&output).is_ok());

    // Cancelling ends it with nothing, at any time.
    std::fs::remove_dir_all(&output).unwrap();
    let cancel = Cancel::default();
    let load = LoadOptions { cancel: cancel.clone(), ..LoadOptions::default() };
    let optimizer =
        Optimizer::new().samples(samples(24)).tolerance(25.0).load_options(load).smallest(Search::new());
    let ended = optimizer.optimize(&model, Some(&output), &mut |at| {
        if matches!(at, Progress::Searching { done, .. } if done >= 20) {
            cancel.cancel();
        }
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

/// Counts how often it is asked, and gives the share of samples whose largest element stays.
#[derive(Debug, Default)]
struct SameChoice {
    asked: std::sync::atomic::AtomicUsize,
    fails: bool,
}

impl MetricTask for SameChoice {
    fn measure(&self, results: &[TaskResult<'_>]) -> Result<f64> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let largest = |p: &milwright::Prediction| {
            let y = p.outputs()[0].1.to_vec::<f32>().unwrap();
            (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap()
        };
        assert!(results.iter().all(|r| r.request.inputs()[0].0 == "x"));
        let same = results.iter().filter(|r| largest(r.expected) == largest(r.found)).count();
        Ok(if self.fails { f64::NAN } else { same as f64 / results.len() as f64 })
    }
}

#[test]
fn a_task_is_held_to_the_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(SCORES), folder.path().join("small.mlpackage"));
    let task = Arc::new(SameChoice::default());
    let by = |task: &Arc<SameChoice>, least: f64| {
        let search = Search::new().task(Arc::clone(task) as Arc<dyn MetricTask>);
        Optimizer::new().samples(samples(48)).tolerance(least).smallest(search)
    };
    let report = run(&by(&task, 0.9), &model, &output).unwrap();
    let found = report.search.unwrap();
    assert!(found.proved_figure.unwrap() >= 0.9 && found.searched_figure >= 0.9);
    assert!(report.proof.functions[0].task.unwrap() >= 0.9);
    assert!(report.bytes_after <= found.uniform.unwrap().bytes);
    assert!(task.asked.load(std::sync::atomic::Ordering::Relaxed) < 200, "only for all samples");
    // What it gives is checked on samples of its own, too.
    let written = Arc::new(Model::open(&output).unwrap());
    let others = samples(300).requests.split_off(48);
    let mut first = Cpu.session(&model, &LoadOptions::default()).unwrap();
    let mut second = Cpu.session(&written, &LoadOptions::default()).unwrap();
    let same = others.iter().filter(|r| {
        let largest = |of: &mut Box<dyn milwright::Session>| {
            let y = of.predict(r).unwrap().outputs()[0].1.to_vec::<f32>().unwrap();
            (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap()
        };
        largest(&mut first) == largest(&mut second)
    });
    let same = same.count() as f64 / others.len() as f64;
    assert!(same > 0.8, "{same}");

    let error = run(&by(&task, 1.5), &model, &folder.path().join("none.mlpackage")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tolerance);
    assert!(error.to_string().contains("within 1.5 of the original by task: the best is 1, by"), "{error}");
    let broken = Arc::new(SameChoice { fails: true, ..SameChoice::default() });
    let error = run(&by(&broken, 0.5), &model, &folder.path().join("none.mlpackage")).unwrap_err();
    assert!(error.to_string().contains("not a number"), "{error}");
    assert!(!folder.path().join("none.mlpackage").exists());
}

/// What was measured is not measured again, whatever the tolerance; and the result is the same as without.
#[test]
fn a_search_goes_on_from_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let (model, state) = (model(NUMBERS), folder.path().join("search.state"));
    let optimizer = |count, tolerance: f64, search: Search| {
        Optimizer::new().samples(samples(count)).tolerance(tolerance).smallest(search)
    };
    let forms = |r: &OptimizeReport| -> Vec<_> {
        r.search.as_ref().unwrap().weights.iter().map(|w| w.form.clone()).collect()
    };
    let plain = run(&optimizer(36, 30.0, Search::new()), &model, &folder.path().join("a.mlpackage")).unwrap();

    // Cancelled in the middle: the state is there, and no model.
    let cancel = Cancel::default();
    let load = LoadOptions { cancel: cancel.clone(), ..LoadOptions::default() };
    let output = folder.path().join("b.mlpackage");
    let first = optimizer(36, 30.0, Search::new().state(&state)).load_options(load);
    let ended = first.optimize(&model, Some(&output), &mut |at| {
        if matches!(at, Progress::Searching { done, .. } if done >= 18) {
            cancel.cancel();
        }
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(state.is_file() && !output.exists());
    let begun = std::fs::metadata(&state).unwrap().len();

    let resumed = run(&optimizer(36, 30.0, Search::new().state(&state)), &model, &output).unwrap();
    assert_eq!(forms(&resumed), forms(&plain));
    assert_eq!(resumed.bytes_after, plain.bytes_after);
    let whole = std::fs::read(&state).unwrap();
    assert!(whole.len() as u64 > begun);
    // Once more, with nothing left to measure; and with another tolerance, which the state serves, too.
    run(&optimizer(36, 30.0, Search::new().state(&state)), &model, &output).unwrap();
    assert_eq!(std::fs::read(&state).unwrap(), whole, "nothing is new");
    let other = run(&optimizer(36, 25.0, Search::new().state(&state)), &model, &output).unwrap();
    let without = run(&optimizer(36, 25.0, Search::new()), &model, &output).unwrap();
    assert_eq!(forms(&other), forms(&without));

    // Other samples, a damaged file and another file are refused, and stay as they are.
    let refused = |search: Search, count| {
        let error = run(&optimizer(count, 30.0, search), &model, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert!(refused(Search::new().state(&state), 35).contains("other samples"));
    let mut damaged = std::fs::read(&state).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&state, &damaged).unwrap();
    assert!(refused(Search::new().state(&state), 36).contains("damaged"));
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "keep me").unwrap();
    assert!(refused(Search::new().state(&text), 36).contains("not the state of a search"));
    assert_eq!(std::fs::read(&text).unwrap(), b"keep me");
    let nowhere = Search::new().state(folder.path().join("none/state"));
    assert!(run(&optimizer(36, 30.0, nowhere), &model, &output).is_err());
}
