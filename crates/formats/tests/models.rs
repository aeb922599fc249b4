//! Models that coremltools wrote: reading, writing and reading again changes nothing.
//!
//! `examples/` is always there; `scripts/fetch_models.py` and `scripts/convert_models.py` put more into
//! `target/models`.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_formats::{Package, PackageWriter};

#[test]
fn round_trip() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut packages = Vec::new();
    find(&root.join("examples"), &mut packages);
    find(&root.join("target/models"), &mut packages);
    assert!(!packages.is_empty());

    let folder = tempfile::tempdir().unwrap();
    for path in packages {
        let package = Package::open(&path).unwrap();
        let copy = folder.path().join("copy.mlpackage");
        let mut writer = PackageWriter::create(&copy).unwrap();
        let mut blobs = Vec::new();
        for (name, file) in package.weight_files() {
            let plain = name.rsplit('/').next().unwrap();
            for found in file.blobs() {
                let (offset, blob) = found.unwrap();
                let written = writer.append_to(plain, blob.dtype, blob.len, &blob.data).unwrap();
                assert_eq!((&written.file_name, written.offset), (name, offset), "{}", path.display());
                blobs.push((written, blob));
            }
        }
        writer.stage(package.model()).unwrap().commit().unwrap();
        let copy = Package::open(&copy).unwrap();
        assert!(copy.model() == package.model(), "{}", path.display());
        for (reference, blob) in blobs {
            assert!(copy.blob(&reference).unwrap() == blob, "{}: {reference:?}", path.display());
        }
    }
}

fn find(folder: &Path, packages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "mlpackage") {
            packages.push(path);
        } else if path.is_dir() {
            find(&path, packages);
        }
    }
}
