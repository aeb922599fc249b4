//! Writes `fuzz/corpus` from what this repository can make: `cargo run -p milwright-testkit --example fuzz_corpus`.

use std::error::Error;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use milwright_formats::blob::{BlobType, BlobWriter};
use milwright_mil::text;
use milwright_testkit::fuzz;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let corpus = root.join("fuzz/corpus");
    for (target, _) in fuzz::TARGETS {
        let folder = corpus.join(target);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder)?;
    }

    let mut texts = Vec::new();
    find_texts(&root.join("crates"), &mut texts)?;
    texts.sort();
    let manifest = fs::read(root.join("examples/digits.mlpackage/Manifest.json"))?;
    let mut packages = 0;
    for path in texts {
        let content = fs::read_to_string(&path)?;
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{parent}-{stem}");
        // Constants of megabytes would only slow the mutations down.
        if content.len() > 16 << 10 {
            continue;
        }
        fs::write(corpus.join("mil_text").join(&name), &content)?;
        let Ok(program) = text::parse(&content) else { continue };
        if let Some(input) = fuzz::program_input(b"", program.clone()) {
            if let Some(input) = fuzz::compiled_input(&input) {
                fs::write(corpus.join("compiled").join(&name), input)?;
            }
            fs::write(corpus.join("import").join(&name), input)?;
        }
        // One program is like another to the reader of packages.
        if packages < 6
            && let Some(input) = fuzz::program_input(&manifest, program)
        {
            fs::write(corpus.join("package").join(&name), input)?;
            packages += 1;
        }
    }

    for (name, model) in milwright_testkit::onnx::examples() {
        fs::write(corpus.join("onnx").join(name), model)?;
    }

    let models = root.join("crates/milwright/tests/models");
    for name in ["compiled_classifier", "compiled_layers"] {
        let input = fuzz::compiled_network_input(&models.join(format!("{name}.mlmodelc")))?;
        fs::write(corpus.join("compiled_network").join(name), input)?;
    }

    let mut all = BlobWriter::new(Cursor::new(Vec::new()))?;
    for (n, dtype) in (0..64).filter_map(|code| Some((code, BlobType::from_code(code)?))) {
        let len = 7 + u64::from(n);
        let bytes = usize::try_from(dtype.byte_len(len).ok_or("too long")?)?;
        let data = vec![n as u8; bytes];
        let mut one = BlobWriter::new(Cursor::new(Vec::new()))?;
        one.append(dtype, len, &data)?;
        fs::write(corpus.join("blob").join(format!("{dtype:?}")), one.finish()?.into_inner())?;
        all.append(dtype, len, &data)?;
    }
    fs::write(corpus.join("blob/all"), all.finish()?.into_inner())?;
    Ok(())
}

fn find_texts(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.is_dir() {
            find_texts(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "mil") {
            found.push(path);
        }
    }
    Ok(())
}
