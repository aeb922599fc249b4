//! Optimizes the model in `examples/`, a classifier of handwritten digits, in every way there is, and shows what each
//! costs: size, accuracy on digits that the model was not trained on, distance from the original, latency.
//!
//! ```text
//! cargo run --release --example digits
//! ```
#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright::cache::{Options, Store};
use milwright::{
    DType, Error, InferenceRequest, LoadOptions, Model, Optimizer, Quantization, Result, Samples, Session,
    Target, Tensor, Tolerance, npy,
};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let work = root.join("target/digits");
    std::fs::create_dir_all(&work)
        .map_err(|e| Error::new(milwright::ErrorKind::Io, e.to_string()).at(&work))?;
    let digits = Digits::read(&root.join("examples"))?;
    let store = Store::open(work.join("cache"), Options::default())?;
    // One thread: the model is too small to share.
    let load = LoadOptions { threads: 1, cache: Some(store), ..LoadOptions::default() };
    let original = Arc::new(Model::open(root.join("examples/digits.mlpackage"))?);

    println!("{} digits that the model was not trained on\n", digits.labels.len());
    println!(
        "{:<12}{:>10}{:>11}{:>12}{:>12}{:>14}",
        "weights", "size", "accuracy", "SNR dB", "latency", "plan"
    );
    let row = |name: &str, model: &Arc<Model>, snr: Option<f64>| -> Result<()> {
        let mut session = Target::Cpu.backend()?.session(model, &load)?;
        let (accuracy, latency) = digits.run(session.as_mut())?;
        println!(
            "{name:<12}{:>7.1} KB{:>9.1} %{:>12}{:>9.1} µs{:>14}",
            model.size() as f64 / 1e3,
            100.0 * accuracy,
            snr.map_or("–".into(), |s| format!("{s:.1}")),
            latency.as_secs_f64() * 1e6,
            format!("{:?}", session.loaded().plan).to_lowercase(),
        );
        Ok(())
    };
    row("original", &original, None)?;
    let quantizations = [
        ("float16", Quantization::Float16),
        ("int8", Quantization::Int8),
        ("palette8", Quantization::Palette8),
        ("palette6", Quantization::Palette6),
        ("palette4", Quantization::Palette4),
        ("palette2", Quantization::Palette2),
        ("palette1", Quantization::Palette1),
    ];
    for (name, quantization) in quantizations {
        let path = work.join(format!("digits-{name}.mlpackage"));
        let optimizer = Optimizer::new()
            .quantization(quantization)
            .samples(Samples::given(digits.requests[..32].to_vec()))
            .tolerance(Tolerance::None)
            .load_options(load.clone());
        let report = optimizer.optimize(&original, Some(&path), &mut |_| {})?;
        let worst = report
            .proof
            .functions
            .iter()
            .flat_map(|c| &c.outputs)
            .filter_map(|o| o.snr_db.decibels())
            .reduce(f64::min);
        row(name, &Arc::new(Model::open(&path)?), worst)?;
    }
    println!("\nmodels: {}", work.display());
    println!("compiled plans: {} (run this again: they are loaded from there)", work.join("cache").display());
    Ok(())
}

/// The held-out digits.
struct Digits {
    requests: Vec<InferenceRequest>,
    labels: Vec<i64>,
}

impl Digits {
    fn read(folder: &Path) -> Result<Digits> {
        let images = npy::read(folder.join("digits_test_x.npy"))?;
        let labels = npy::read(folder.join("digits_test_y.npy"))?.to_i64().unwrap_or_default();
        let bytes = images.shared_bytes();
        let image = |i: usize| {
            let one = Tensor::from_bytes(DType::Fp32, &[1, 1, 8, 8], bytes.slice(i * 256..(i + 1) * 256));
            one.map(|t| InferenceRequest::new().input("image", t))
                .map_err(|e| Error::new(milwright::ErrorKind::InvalidInput, e.to_string()))
        };
        Ok(Digits { requests: (0..labels.len()).map(image).collect::<Result<_>>()?, labels })
    }

    /// The share of digits that are recognized, and the median time that one takes.
    fn run(&self, session: &mut dyn Session) -> Result<(f64, Duration)> {
        let mut right = 0;
        let mut times = Vec::with_capacity(self.labels.len());
        for (request, label) in self.requests.iter().zip(&self.labels) {
            let start = Instant::now();
            let prediction = session.predict(request)?;
            times.push(start.elapsed());
            right += usize::from(digit(&prediction) == Some(*label));
        }
        times.sort_unstable();
        Ok((right as f64 / self.labels.len() as f64, times[times.len() / 2]))
    }
}

/// The class label that was predicted.
fn digit(prediction: &milwright::Prediction) -> Option<i64> {
    let label = prediction.output("digit")?;
    match label.dtype() {
        DType::String => label.strings().first()?.parse().ok(),
        _ => label.to_i64()?.first().copied(),
    }
}
