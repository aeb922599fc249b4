//! A compiled model is as good as the package that it was compiled from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright::{
    Backend, Cpu, ErrorKind, InferenceRequest, LoadOptions, Model, ModelInfo, Optimizer, Quantization,
    Samples, Snr, Tensor, compare,
};
use milwright_formats::PackageWriter;
use milwright_formats::blob::BlobType;
use milwright_formats::proto::mil_spec::value::BlobFileValue;
use milwright_formats::proto::{
    self as pb, ArrayFeatureType, FeatureDescription, FeatureType, ModelDescription,
    array_feature_type::ArrayDataType, feature_type, model,
};
use milwright_mil::{text, verify};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");

#[test]
fn the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.mlmodelc");
    let package = Arc::new(Model::open(DIGITS).unwrap());
    package.compile_to(&path).unwrap();
    let compiled = Arc::new(Model::open(&path).unwrap());
    assert_eq!(compiled.info(), package.info());
    assert_eq!(ModelInfo::open(&path).unwrap(), ModelInfo::open(DIGITS).unwrap());
    assert_ne!(compiled.digest(), package.digest());
    assert!(compiled.size() > 340_000);

    let samples = Samples::draw(&package, None, 0, 2).unwrap();
    for request in &samples.requests {
        let options = LoadOptions::default();
        let [a, b] =
            [&package, &compiled].map(|m| Cpu.session(m, &options).unwrap().predict(request).unwrap());
        assert_eq!(a.outputs(), b.outputs());
    }
}

#[test]
fn can_be_optimized_to_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.mlmodelc");
    Model::open(DIGITS).unwrap().compile_to(&path).unwrap();
    let compiled = Arc::new(Model::open(&path).unwrap());
    let optimizer = Optimizer::new().quantization(Quantization::Int8).tolerance(20.0);
    let out = folder.path().join("small.mlpackage");
    optimizer.optimize(&compiled, Some(&out), &mut |_| {}).unwrap();
    let small = Arc::new(Model::open(&out).unwrap());
    assert!(small.size() < compiled.size() / 3);
    assert_eq!(small.info().metadata, compiled.info().metadata);

    // And that compiled: the same again.
    let again = folder.path().join("small.mlmodelc");
    small.compile_to(&again).unwrap();
    let again = Arc::new(Model::open(&again).unwrap());
    let samples = Samples::draw(&small, None, 0, 2).unwrap();
    let options = LoadOptions::default();
    let found = compare(&small, &again, None, &samples, &options, &mut || {}).unwrap();
    assert!(found.outputs.iter().all(|o| o.snr_db == Snr::Equal && o.faults.is_empty()), "{found:?}");

    let error = optimizer.optimize(&small, Some(&path), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("the result is a package"), "{error}");
}

/// The weight file of one of a pipeline's models.
struct Sink<'a>(&'a mut PackageWriter, String);

impl milwright_convert::ml_program::WeightSink for Sink<'_> {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<BlobFileValue, milwright_formats::Error> {
        self.0.append_to(&self.1, dtype, elements as u64, data)
    }
}

fn described(input: &str, output: &str) -> Option<Box<ModelDescription>> {
    let feature = |name: &str| {
        let data_type = ArrayDataType::Float32.into();
        let array = ArrayFeatureType { shape: vec![1, 64], data_type, ..Default::default() };
        let ty = Some(feature_type::Type::MultiArrayType(array));
        let ty = Some(FeatureType { r#type: ty, ..Default::default() });
        FeatureDescription { name: name.into(), r#type: ty, ..Default::default() }
    };
    let (input, output) = (vec![feature(input)], vec![feature(output)]);
    Some(Box::new(ModelDescription { input, output, ..Default::default() }))
}

/// A package with a pipeline: h = x · a, y = h · b, for matrices whose elements at (i, j) are (i + j) mod 5 and
/// (2 i + j) mod 7.
fn pipeline(path: &Path, names: &[&str], specification_version: i32) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut part = |number: usize, input: &str, output: &str, element: fn(usize, usize) -> usize| {
        let row = |i: usize| (0..64).map(|j| format!("{}.0", element(j, i))).collect::<Vec<_>>().join(", ");
        let rows: Vec<String> = (0..64).map(|i| format!("[{}]", row(i))).collect();
        let program = format!(
            "program(1.3) {{ func main<ios16>(tensor<fp32, [1, 64]> {input}) {{
                tensor<fp32, [64, 64]> w = const()[name = string(\"w\"), val = tensor<fp32, [64, 64]>([{}])];
                tensor<fp32, [1, 64]> {output} = linear(x = {input}, weight = w)[name = string(\"{output}\")];
            }} -> ({output}); }}",
            rows.join(", ")
        );
        let program = verify(text::parse(&program).unwrap()).unwrap();
        let mut sink = Sink(&mut writer, format!("{number}-weight.bin"));
        let program = milwright_convert::ml_program::write(&program, &mut sink).unwrap();
        let r#type = Some(model::Type::MlProgram(program));
        pb::Model {
            specification_version,
            description: described(input, output),
            r#type,
            ..Default::default()
        }
    };
    let models = vec![part(0, "x", "h", |i, j| (i + j) % 5), part(1, "h", "y", |i, j| (2 * i + j) % 7)];
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let r#type = Some(model::Type::Pipeline(pb::Pipeline { models, names }));
    let description = described("x", "y");
    let whole = pb::Model { specification_version, description, r#type, ..Default::default() };
    writer.stage(&whole).unwrap().commit().unwrap();
}

#[test]
fn a_pipeline_of_programs() {
    let folder = tempfile::tempdir().unwrap();
    let [source, path, small] =
        ["both.mlpackage", "both.mlmodelc", "small.mlpackage"].map(|name| folder.path().join(name));
    for (names, version) in [(&[][..], 7), (&["one", "two"], 9)] {
        let _ = fs::remove_dir_all(&source);
        pipeline(&source, names, version);
        let package = Arc::new(Model::open(&source).unwrap());
        package.compile_to(&path).unwrap();
        let compiled = Arc::new(Model::open(&path).unwrap());
        assert_eq!(path.join("modelNames").exists(), !names.is_empty());
        assert_eq!(compiled.info().pipeline_names, names);
        assert_eq!(compiled.info(), package.info());
        assert_eq!(ModelInfo::open(&path).unwrap(), ModelInfo::open(&source).unwrap());
        assert_eq!(compiled.info().storage.parameters, 2 * 64 * 64);
        assert_eq!(compiled.info().pipeline[0].functions[0].ops["linear"], 1);
        assert!(compiled.size() > 2 * 64 * 64 * 4, "{}", compiled.size());

        // Small whole numbers: exact in fp32.
        let x: Vec<f32> = (0..64u8).map(|i| f32::from(i % 3)).collect();
        let multiply = |x: &[f32], element: fn(usize, usize) -> usize| -> Vec<f32> {
            (0..64).map(|j| (0..64).map(|i| x[i] * element(i, j) as f32).sum()).collect()
        };
        let y = multiply(&multiply(&x, |i, j| (i + j) % 5), |i, j| (2 * i + j) % 7);
        let request = InferenceRequest::new().input("x", Tensor::from_vec(&[1, 64], x).unwrap());
        for model in [&package, &compiled] {
            let mut session = Cpu.session(model, &LoadOptions::default()).unwrap();
            assert_eq!(session.predict(&request).unwrap().output("y").unwrap().to_vec::<f32>().unwrap(), y);
        }

        // The weights count, wherever they lie.
        let other = folder.path().join("other.mlmodelc");
        package.compile_to(&other).unwrap();
        assert_eq!(Model::open(&other).unwrap().digest(), compiled.digest());
        let weights = other.join("model1/weights/1-weight.bin");
        let mut bytes = fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
        assert_ne!(Model::open(&other).unwrap().digest(), compiled.digest());

        // It can be optimized, and compiled once more.
        let _ = fs::remove_dir_all(&small);
        let optimizer = Optimizer::new().quantization(Quantization::Int8).tolerance(30.0);
        optimizer.optimize(&compiled, Some(&small), &mut |_| {}).unwrap();
        let small = Arc::new(Model::open(&small).unwrap());
        assert!(small.info().storage.bytes < compiled.info().storage.bytes / 2);
        small.compile_to(&other).unwrap();
        let again = Arc::new(Model::open(&other).unwrap());
        let samples = Samples::draw(&small, None, 0, 2).unwrap();
        let found = compare(&small, &again, None, &samples, &LoadOptions::default(), &mut || {}).unwrap();
        assert!(found.outputs.iter().all(|o| o.snr_db == Snr::Equal && o.faults.is_empty()), "{found:?}");
    }
}

#[test]
fn damaged_pipelines() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("both.mlpackage");
    pipeline(&source, &["one", "two"], 9);
    let model = Model::open(&source).unwrap();
    let damaged = |damage: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.mlmodelc");
        model.compile_to(&path).unwrap();
        damage(&path);
        (Model::open(&path).unwrap_err(), ModelInfo::open(&path))
    };
    let count = |file: &'static str, from_end: usize, count: u64| {
        move |path: &Path| {
            let file = path.join(file);
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - from_end;
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            fs::write(file, bytes).unwrap();
        }
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), ErrorKind, &'a str);
    let cases: [Case<'_>; 7] = [
        ("the second model", &|p| fs::remove_dir_all(p.join("model1")).unwrap(), ErrorKind::Io, "model1"),
        (
            "its program",
            &|p| fs::remove_file(p.join("model1/model.mil")).unwrap(),
            ErrorKind::Io,
            "model.mil",
        ),
        ("one too few", &count("coremldata.bin", 16, 1), ErrorKind::Malformed, "with folders of 2"),
        ("one too many", &count("coremldata.bin", 16, 3), ErrorKind::Io, "without its model2"),
        ("far too many", &count("coremldata.bin", 16, u64::MAX), ErrorKind::Io, "without its model2"),
        ("many names", &count("modelNames/coremldata.bin", 30, u64::MAX), ErrorKind::Malformed, "names of 2"),
        ("long names", &count("modelNames/coremldata.bin", 22, u64::MAX), ErrorKind::Malformed, "cut off"),
    ];
    for (what, damage, kind, message) in cases {
        let (error, info) = damaged(damage);
        assert!(error.kind() == kind && error.to_string().contains(message), "{what}: {error}");
        assert_eq!(info.unwrap_err().to_string(), error.to_string(), "{what}");
    }
    // Without weights it can be described.
    let (error, info) = damaged(&|p| fs::remove_file(p.join("model1/weights/1-weight.bin")).unwrap());
    assert!(error.to_string().contains("1-weight.bin"), "{error}");
    let info = info.unwrap();
    assert!(info.warnings.iter().any(|w| w.contains("1-weight.bin")), "{:?}", info.warnings);
    // Text where the program should be.
    let (error, _) = damaged(&|p| fs::write(p.join("model0/model.mil"), "program(").unwrap());
    assert!(error.to_string().contains("model 1 of the pipeline, `one`"), "{error}");
}

/// What Core ML's own compiler wrote, from `scripts/fetch_models.py`.
#[test]
fn pipelines_as_the_compiler_of_core_ml_writes_them() {
    let folders = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/models/compiled_pipelines");
    let scratch = tempfile::tempdir().unwrap();
    for folder in fs::read_dir(folders).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        let name = folder.display();
        let expected = folder.join("expected.mlmodelc");
        // Compiled from what it was compiled from (an .mlmodel, where no weights lie outside), and compiled again.
        for source in [folder.join("input.mlmodel"), expected.clone()] {
            let model = match Model::open(&source) {
                Ok(model) => model,
                Err(error) if error.to_string().contains("an .mlmodel cannot have") => continue,
                Err(error) => panic!("{name}: {error}"),
            };
            let out = scratch.path().join("out.mlmodelc");
            model.compile_to(&out).unwrap();
            assert_eq!(Model::open(&out).unwrap().info(), Model::open(&expected).unwrap().info(), "{name}");
            let files = files(&out);
            assert_eq!(files, self::files(&expected), "{name}");
            for file in files.iter().filter(|file| file.ends_with("coremldata.bin")) {
                let [found, wanted] = [&out, &expected].map(|folder| fs::read(folder.join(file)).unwrap());
                // The whole's has a hash and the name of its file.
                if *file == Path::new("analytics/coremldata.bin") {
                    assert_eq!(found[..0x7c], wanted[..0x7c], "{name}");
                } else {
                    assert_eq!(found, wanted, "{name}: {}", file.display());
                }
            }
            let kind = |folder: &Path| {
                let text = fs::read(folder.join("metadata.json")).unwrap();
                let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
                ["modelType", "specificationVersion", "storagePrecision", "inputSchema", "outputSchema"]
                    .map(|key| json[0][key].clone())
            };
            assert_eq!(kind(&out), kind(&expected), "{name}");
        }
    }
}

/// The files in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}
