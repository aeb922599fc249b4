//! What people are told when they open something else than a model.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_formats::blob::BlobType;
use milwright_formats::proto::{Identity, Model, mil_spec, model};
use milwright_formats::{
    CompiledProgram, Container, ErrorKind, Existing, Package, PackageWriter, write_mlmodel, write_mlmodelc,
};
use prost::Message as _;

fn identity(version: i32) -> Model {
    Model {
        specification_version: version,
        r#type: Some(model::Type::Identity(Identity::default())),
        ..Model::default()
    }
}

fn write_package(path: &Path) {
    PackageWriter::create(path).unwrap().stage(&identity(1)).unwrap().commit().unwrap();
}

/// Asserts the kind, that the error names `path` or a file below it, and words of the message and the hint.
#[track_caller]
fn assert_error(path: &Path, kind: ErrorKind, message: &str, hint: &str) {
    let error = Package::open(path).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.path().is_some_and(|found| found.starts_with(path)), "{error}");
    assert!(error.to_string().contains(message), "{error}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{error}: {:?}", error.hint());
}

#[test]
fn both_containers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mlmodel");
    write_mlmodel(&path, &identity(1)).unwrap();
    let opened = Package::open(&path).unwrap();
    assert_eq!((opened.container(), opened.model()), (Container::Mlmodel, &identity(1)));
    let path = folder.path().join("a.mlpackage");
    write_package(&path);
    let opened = Package::open(&path).unwrap();
    assert_eq!((opened.container(), opened.model()), (Container::Mlpackage, &identity(1)));
}

#[test]
fn things_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_error(&folder.join("missing.mlmodel"), ErrorKind::NotFound, "cannot open it", "");

    let file = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let malformed = ErrorKind::Malformed;
    assert_error(&file("empty.mlmodel", b""), malformed, "empty", "");
    assert_error(
        &file("text.mlmodel", b"Lorem ipsum dolor"),
        ErrorKind::Unsupported,
        "a text file, not a Core ML model",
        "",
    );
    assert_error(&file("m.zip", b"PK\x03\x04rest"), ErrorKind::Unsupported, "zip", "unzip");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    assert_error(&file("lfs.mlmodel", pointer), malformed, "Git LFS", "git lfs pull");
    let untyped = Model { specification_version: 1, ..Model::default() }.encode_to_vec();
    assert_error(&file("untyped.mlmodel", &untyped), malformed, "model types", "");
    assert_error(&file("old.mlmodel", &identity(0).encode_to_vec()), malformed, "version", "");
    let new = identity(11).encode_to_vec();
    assert_error(&file("new.mlmodel", &new), ErrorKind::Unsupported, "version 11", "newer");

    let folder_of = |name: &str, file: &str| {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(file), "x").unwrap();
        path
    };
    assert_error(&folder_of("a.mlpackage", "other"), malformed, "Manifest.json", "incomplete");
    assert_error(&folder_of("photos", "1.jpg"), malformed, "Manifest.json", ".mlpackage folder");
}

#[test]
fn compiled_models_that_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder_of = |name: &str, files: &[(&str, &[u8])]| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        files.iter().for_each(|(file, content)| fs::write(path.join(file), content).unwrap());
        path
    };
    let (malformed, unsupported) = (ErrorKind::Malformed, ErrorKind::Unsupported);
    let header = |number: u32| number.to_le_bytes();
    let trees = folder_of("t.mlmodelc", &[("coremldata.bin", &header(402))]);
    assert_error(
        &trees,
        unsupported,
        "a model of type treeEnsembleClassifier, whose compiled form is not known",
        ".mlpackage",
    );
    let network = folder_of("n.mlmodelc", &[("model.espresso.net", b""), ("coremldata.bin", &header(403))]);
    assert_error(&network, malformed, "cut off", "");
    let old = folder_of("old", &[("model.espresso.net", b"")]);
    assert_error(&old, ErrorKind::NotFound, "without a coremldata.bin", "incomplete");
    let other = folder_of("other", &[("coremldata.bin", &header(7))]);
    assert_error(&other, malformed, "7 is the number of no model type", "");
    let cut = folder_of("cut", &[("coremldata.bin", &header(502))]);
    assert_error(&cut, malformed, "cut off", "");
    let headless = folder_of("headless", &[("model.mil", b"program(1.0) {}")]);
    assert_error(&headless, ErrorKind::NotFound, "coremldata.bin", "incomplete");
    assert_error(&headless.join("model.mil"), malformed, "a part of a compiled model", "headless");
    let empty = folder_of("e.mlmodelc", &[]);
    assert_error(&empty, malformed, "no coremldata.bin", "incomplete");
}

#[test]
fn parts_of_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    write_package(&path);
    for part in ["Manifest.json", "Data", "Data/com.apple.CoreML", "Data/com.apple.CoreML/model.mlmodel"] {
        assert_error(&path.join(part), ErrorKind::Malformed, "a part of a package", "m.mlpackage");
    }
}

#[test]
fn damaged_packages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    write_package(&path);
    let manifest = fs::read_to_string(path.join("Manifest.json")).unwrap();
    let spec = path.join("Data/com.apple.CoreML/model.mlmodel");
    let replaced = |from: &str, to: &str| {
        assert!(manifest.contains(from));
        fs::write(path.join("Manifest.json"), manifest.replace(from, to)).unwrap();
    };
    let item = "com.apple.CoreML/model.mlmodel";
    replaced("1.0.0", "2.0.0");
    assert_error(&path, ErrorKind::Unsupported, "version \"2.0.0\"", "");
    replaced(item, "../../../../etc/hosts");
    assert_error(&path, ErrorKind::Malformed, "leads out of the package", "");
    replaced(item, "/etc/hosts");
    assert_error(&path, ErrorKind::Malformed, "leads out of the package", "");
    replaced(item, "com.apple.CoreML");
    assert_error(&path, ErrorKind::Malformed, "folder", "");
    replaced(item, "com.apple.CoreML/other.mlmodel");
    assert_error(&path, ErrorKind::NotFound, "other.mlmodel", "incomplete");
    replaced("rootModelIdentifier", "root");
    assert_error(&path, ErrorKind::Malformed, "not a package manifest", "");
    fs::write(path.join("Manifest.json"), " ".repeat(2 << 20)).unwrap();
    assert_error(&path, ErrorKind::LimitExceeded, "bytes", "");
    fs::write(path.join("Manifest.json"), "[".repeat(100_000)).unwrap();
    assert_error(&path, ErrorKind::Malformed, "not a package manifest", "");
    fs::write(path.join("Manifest.json"), &manifest).unwrap();
    assert!(Package::open(&path).is_ok());

    #[cfg(unix)]
    {
        let outside = folder.path().join("outside");
        fs::rename(&spec, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &spec).unwrap();
        assert_error(&path, ErrorKind::Malformed, "symbolic link", "cp -RL");
        fs::remove_file(&spec).unwrap();
    }
    #[cfg(not(unix))]
    fs::remove_file(&spec).unwrap();
    assert_error(&path, ErrorKind::NotFound, "missing", "incomplete");
    fs::remove_dir_all(path.join("Data")).unwrap();
    assert_error(&path, ErrorKind::NotFound, "\"Data\" is missing", "incomplete");
}

/// A package with one blob, and the paths of its files.
fn write_program(path: &Path) -> [PathBuf; 3] {
    let mut writer = PackageWriter::create(path).unwrap();
    let reference = writer.append(BlobType::UInt8, 3, &[1, 2, 3]).unwrap();
    writer.stage(&with_weight(reference)).unwrap().commit().unwrap();
    let data = path.join("Data/com.apple.CoreML");
    [path.join("Manifest.json"), data.join("model.mlmodel"), data.join("weights/weight.bin")]
}

/// A program with nothing but a weight.
fn with_weight(reference: mil_spec::value::BlobFileValue) -> Model {
    let value = mil_spec::Value {
        value: Some(mil_spec::value::Value::BlobFileValue(reference)),
        ..mil_spec::Value::default()
    };
    let program = mil_spec::Program { attributes: [("w".into(), value)].into(), ..Default::default() };
    Model {
        specification_version: 7,
        description: Some(Box::default()),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(program)),
    }
}

/// A package that was edited in Xcode and has other parts of its own: its edits are seen, and whoever rewrites it keeps
/// everything that is a file and belongs to it.
#[test]
fn edits_and_other_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    let [manifest, spec, weights] = write_program(&path);
    let data = path.join("Data/com.apple.CoreML");
    let mut entries: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    for (id, kind, name, content) in [
        ("A", "External Metadata Overlay", "Metadata.json", r#"{"MLModelAuthorKey": "edited"}"#),
        ("B", "External FeatureDescription Overlay", "FeatureDescriptions.json", r#"{"Inputs": {}}"#),
        ("C", "something else", "notes.txt", "notes"),
    ] {
        entries["itemInfoEntries"][id] = serde_json::json!({
            "author": "com.apple.CoreML", "description": kind, "name": name,
            "path": format!("com.apple.CoreML/{name}"),
        });
        fs::write(data.join(name), content).unwrap();
    }
    fs::write(&manifest, entries.to_string()).unwrap();
    fs::create_dir_all(path.join("Data/com.example/deep/er")).unwrap();
    fs::write(path.join("Data/com.example/deep/er/table.bin"), [0, 255]).unwrap();
    fs::write(path.join("LICENSE"), "mine").unwrap();
    fs::write(path.join("Data/.DS_Store"), "Finder's").unwrap();
    fs::write(weights.with_file_name("unused.bin"), "nobody's").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hosts", path.join("Data/link")).unwrap();

    let package = Package::open(&path).unwrap();
    let author = |package: &Package| {
        package.model().description.as_ref().unwrap().metadata.clone().unwrap_or_default().author
    };
    assert_eq!(author(&package), "edited");

    let rewritten = folder.path().join("new.mlpackage");
    let mut writer = PackageWriter::create(&rewritten).unwrap();
    writer.carry_over(&package).unwrap();
    let reference = writer.append(BlobType::UInt8, 3, &[3, 2, 1]).unwrap();
    let model = with_weight(reference);
    writer.stage(&model).unwrap().commit().unwrap();
    for kept in [
        "LICENSE",
        "Data/com.example/deep/er/table.bin",
        "Data/com.apple.CoreML/notes.txt",
        "Data/com.apple.CoreML/Metadata.json",
        "Data/com.apple.CoreML/FeatureDescriptions.json",
    ] {
        assert_eq!(fs::read(rewritten.join(kept)).unwrap(), fs::read(path.join(kept)).unwrap(), "{kept}");
    }
    for left in ["Data/.DS_Store", "Data/link", "Data/com.apple.CoreML/weights/unused.bin"] {
        assert!(rewritten.join(left).symlink_metadata().is_err(), "{left}");
    }
    let new: serde_json::Value =
        serde_json::from_slice(&fs::read(rewritten.join("Manifest.json")).unwrap()).unwrap();
    for id in ["A", "B", "C"] {
        assert_eq!(new["itemInfoEntries"][id], entries["itemInfoEntries"][id]);
    }
    assert_eq!(author(&Package::open(&rewritten).unwrap()), "edited");

    // In its own place, too.
    let package = Package::open(&rewritten).unwrap();
    let mut writer = PackageWriter::create(&rewritten).unwrap();
    writer.carry_over(&package).unwrap();
    writer.stage(&Model::decode(&*fs::read(&spec).unwrap()).unwrap()).unwrap_err();
    let mut writer = PackageWriter::create(&rewritten).unwrap();
    writer.carry_over(&package).unwrap();
    writer.stage(&identity(7)).unwrap().commit().unwrap();
    assert_eq!(fs::read(rewritten.join("LICENSE")).unwrap(), b"mine");
    assert!(!rewritten.join("Data/com.apple.CoreML/weights").exists());

    // Edits that are none are an error that names their file; missing ones are missing.
    fs::write(data.join("Metadata.json"), "[").unwrap();
    assert_error(&path, ErrorKind::Malformed, "not the texts that Xcode keeps", "in Xcode");
    assert_eq!(Package::open(&path).unwrap_err().path(), Some(&*data.join("Metadata.json")));
    fs::remove_file(data.join("Metadata.json")).unwrap();
    assert_error(&path, ErrorKind::NotFound, "Metadata.json", "");
}

const WEIGHTS: &str = "@model_path/weights/weight.bin";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8448\n";

#[test]
fn without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    let [manifest, spec, weights] = write_program(&path);
    assert!(Package::open_without_weights(&path).unwrap().unreadable_weights().is_empty());
    let bare = folder.path().join("bare.mlmodel");
    fs::copy(&spec, &bare).unwrap();

    let unreadable = |path: &Path| {
        let package = Package::open_without_weights(path).unwrap();
        assert!(package.weight_files().is_empty());
        let error = &package.unreadable_weights()[WEIGHTS];
        let again = package.blob_at(WEIGHTS, 64).unwrap_err();
        assert_eq!((again.to_string(), again.hint()), (error.to_string(), error.hint()));
        let strict = Package::open(path).unwrap_err();
        assert_eq!(strict.kind(), again.kind());
        error.to_string()
    };
    assert!(unreadable(&bare).contains("separate file"));
    fs::write(&weights, POINTER).unwrap();
    assert!(unreadable(&path).contains("weight.bin: a Git LFS pointer"));
    fs::write(&weights, "damaged").unwrap();
    assert!(unreadable(&path).contains("not a weight file"));
    fs::remove_file(&weights).unwrap();
    fs::create_dir(&weights).unwrap();
    assert!(unreadable(&path).contains("a folder"));
    fs::remove_dir(&weights).unwrap();
    assert!(unreadable(&path).contains("missing"));
    // With the folder, which the manifest names.
    fs::remove_dir(weights.parent().unwrap()).unwrap();
    assert!(unreadable(&path).contains("missing"));
    // A program that has none of its weights there does without the folder: Git, for one, keeps no empty ones.
    fs::write(&spec, with_weight_inside().encode_to_vec()).unwrap();
    assert!(Package::open(&path).unwrap().weight_files().is_empty());
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("com.apple.CoreML/weights", "com.apple.CoreML/other")).unwrap();
    assert_error(&path, ErrorKind::NotFound, "\"com.apple.CoreML/other\" is missing", "incomplete");
}

/// The program of [`with_weight`] without a file.
fn with_weight_inside() -> Model {
    let r#type = Some(model::Type::MlProgram(mil_spec::Program::default()));
    Model { r#type, ..with_weight(mil_spec::value::BlobFileValue::default()) }
}

#[test]
fn pointers_of_git_lfs() {
    let folder = tempfile::tempdir().unwrap();
    for part in 0..3 {
        let path = folder.path().join(format!("{part}.mlpackage"));
        let file = &write_program(&path)[part];
        fs::write(file, POINTER).unwrap();
        assert_error(&path, ErrorKind::Malformed, "a Git LFS pointer", "git lfs pull");
        assert_eq!(Package::open(&path).unwrap_err().path(), Some(file.as_path()));
    }
    for part in ["coremldata.bin", "model.mil"] {
        let path = folder.path().join(format!("{part}.mlmodelc"));
        compiled(&path);
        fs::write(path.join(part), POINTER).unwrap();
        assert_error(&path, ErrorKind::Malformed, "a Git LFS pointer", "git lfs pull");
    }
}

/// A compiled model.
fn compiled(path: &Path) {
    let model = Model {
        specification_version: 7,
        description: Some(Box::default()),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    };
    let program = CompiledProgram {
        model: &model,
        text: "program(1.0) {}".to_owned(),
        functions: Default::default(),
        weights: &Default::default(),
        digest: [0; 32],
    };
    write_mlmodelc(path, &program, Existing::Replace).unwrap();
}

/// Every file of a package and of a compiled model, replaced by everything that is no file, and by links.
#[cfg(unix)]
#[test]
fn parts_that_are_no_files() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    /// Puts something in the place of a file.
    type Replace = fn(&Path);
    /// Writes a sound model, and returns its files.
    type Make<'a> = &'a dyn Fn(&Path) -> Vec<PathBuf>;

    let folder = tempfile::tempdir().unwrap();
    let replace_by: [(&str, Replace); 6] = [
        ("pipe", |p| assert!(Command::new("mkfifo").arg(p).status().unwrap().success())),
        // By a short name: those of sockets are limited.
        ("socket", |p| {
            let short = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap();
            drop(UnixListener::bind(short.path().join("s")).unwrap());
            fs::rename(short.path().join("s"), p).unwrap();
        }),
        ("folder", |p| fs::create_dir(p).unwrap()),
        ("device", |p| symlink("/dev/zero", p).unwrap()),
        ("outside", |p| symlink("/etc/hostname", p).unwrap()),
        ("dangling", |p| symlink("none", p).unwrap()),
    ];
    let packages = |path: &Path| write_program(path).to_vec();
    let compiled_models = |path: &Path| {
        compiled(path);
        vec![path.join("coremldata.bin"), path.join("model.mil")]
    };
    let makers: [Make<'_>; 2] = [&packages, &compiled_models];
    for (kind, make) in makers.iter().enumerate() {
        let files = make(&folder.path().join(format!("sound-{kind}"))).len();
        for (what, replace) in replace_by {
            for part in 0..files {
                let path = folder.path().join(format!("{kind}-{what}-{part}"));
                let file = make(&path)[part].clone();
                fs::remove_file(&file).unwrap();
                replace(&file);
                let error = Package::open(&path).unwrap_err();
                assert!(error.path().is_some_and(|found| found.starts_with(&path)), "{error}");
                assert!(error.hint().is_some(), "{error}");
                let text = error.to_string();
                let said = match what {
                    "pipe" | "socket" => text.contains(what) || text.contains("no coremldata.bin"),
                    "folder" => text.contains("folder"),
                    "dangling" => text.contains("missing"),
                    _ => text.contains("leads out of the package"),
                };
                assert!(said || text.contains("not a Core ML package"), "{what} {part}: {text}");
            }
        }
    }
    // A whole folder somewhere else; and links that stay inside.
    let path = folder.path().join("m.mlpackage");
    let [_, spec, weights] = write_program(&path);
    let inside = weights.with_file_name("real.bin");
    fs::rename(&weights, &inside).unwrap();
    symlink("real.bin", &weights).unwrap();
    fs::rename(&spec, spec.with_file_name("real.mlmodel")).unwrap();
    symlink("real.mlmodel", &spec).unwrap();
    assert!(Package::open(&path).is_ok());
    let link = folder.path().join("link.mlpackage");
    symlink("m.mlpackage", &link).unwrap();
    assert!(Package::open(&link).is_ok(), "what the user names may be a link");
    fs::rename(path.join("Data"), folder.path().join("Elsewhere")).unwrap();
    symlink("../Elsewhere", path.join("Data")).unwrap();
    assert_error(&path, ErrorKind::Malformed, "leads out of the package", "cp -RL");
}
