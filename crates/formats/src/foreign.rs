//! Recognizes, by content, files that people open in place of a Core ML model: the error names the format and the next
//! step.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{Error, compiled, lfs_pointer, manifest, open_regular};

/// How much of a file is read: its start and, for archives, its end, where the table of contents is.
const HEAD_BYTES: u64 = 4096;
const TAIL_BYTES: u64 = 1 << 18;
/// How many entries of a folder are read.
const MAX_ENTRIES: usize = 2000;
const MAX_DEPTH: usize = 4;

const TRACE: &str = "convert it with coremltools, in Python, where its class and its weights are: \
                     `coremltools.convert(torch.jit.trace(model.eval(), example), inputs=[coremltools.TensorType(shape=example.shape)])`, \
                     and `.save(\"model.mlpackage\")`";
const TORCH_SCRIPT: &str = "convert it with coremltools, in Python: \
                            `coremltools.convert(torch.jit.load(FILE), inputs=[coremltools.TensorType(shape=…)])`, and \
                            `.save(\"model.mlpackage\")`";
const EXPORTED: &str = "convert it with coremltools, in Python: `coremltools.convert(torch.export.load(FILE))`, and `.save(\"model.mlpackage\")`";
const ONNX: &str = "give the path of the .onnx file where a model is wanted; `milwright convert FILE.onnx --output \
                    MODEL.mlpackage` makes a Core ML model of it";
const KERAS: &str = "convert it with coremltools, in Python: `coremltools.convert(tf.keras.models.load_model(FILE))`, and \
                     `.save(\"model.mlpackage\")`";
const TENSORFLOW: &str =
    "convert it with coremltools, in Python: `coremltools.convert(PATH)`, and `.save(\"model.mlpackage\")`";
const TFLITE: &str = "coremltools does not read it either: convert the TensorFlow model that it was made from: \
                      `coremltools.convert(PATH_OF_SAVED_MODEL)`";
const PICKLE: &str = "load it in Python, and convert what it holds with coremltools: `coremltools.convert(…)` of a traced PyTorch model, \
                      `coremltools.converters.sklearn.convert(…)` of a scikit-learn one";
const SKLEARN: &str =
    "load it in Python, and convert it with coremltools: `coremltools.converters.sklearn.convert(model)`";
const XGBOOST: &str =
    "convert it with coremltools, in Python: `coremltools.converters.xgboost.convert(FILE)`";
const LIBSVM: &str = "convert it with coremltools, in Python: \
                      `coremltools.converters.libsvm.convert(svmutil.svm_load_model(FILE))`";
const WEIGHTS: &str = "it has weights and no program: load them into their model in PyTorch, and convert that with coremltools, in Python";
const OTHER: &str =
    "give the path of an .mlpackage folder, an .mlmodel file, an .mlmodelc folder or an .onnx file";
const INPUT: &str = "give the path of a model first; files like this one are its inputs: `milwright run MODEL --input NAME=FILE`";
const PAGE: &str =
    "the download brought a page in place of the file: log in, or use the link to the file itself";

/// Returns an error for a file that is not a Core ML model; `None` if it may be one.
pub(crate) fn recognise(path: &Path) -> Option<Error> {
    let mut file = open_regular(path).ok()?;
    let len = file.metadata().ok()?.len();
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    if head.is_empty() {
        return Some(Error::malformed("an empty file").with_hint("copy, download or export it again"));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).ok()?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
        return Some(archive(&[&head[..], &tail].concat()));
    }
    let (what, hint) = content(&head, len).or_else(|| text(&head))?;
    Some(error(what, hint))
}

/// Whether a file is an ONNX model: by its content or, if that has no mark of any format, by its name.
pub(crate) fn is_onnx_file(path: &Path) -> bool {
    let Ok(file) = open_regular(path) else { return false };
    let mut head = Vec::new();
    if file.take(HEAD_BYTES).read_to_end(&mut head).is_err() {
        return false;
    }
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let unknown = || content(&head, u64::MAX).is_none() && text(&head).is_none();
    is_onnx(&head) || (named && !head.is_empty() && lfs_pointer(&head).is_none() && unknown())
}

/// Like [`recognise`], by name alone: for files that turned out not to be Core ML models.
pub(crate) fn by_name(path: &Path) -> Option<Error> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    if name == "saved_model.pb" {
        return Some(error(
            "a part of a TensorFlow SavedModel",
            "it is converted as the folder that it is in: `coremltools.convert(FOLDER)`, in Python",
        ));
    }
    let (what, hint) = match Path::new(&name).extension()?.to_str()? {
        "onnx" => ("an ONNX model", ONNX),
        "pb" => ("a TensorFlow graph", TENSORFLOW),
        "pt" | "pth" | "ckpt" => ("a PyTorch file", TRACE),
        "pt2" => ("a program that PyTorch exported", EXPORTED),
        "tflite" => ("a TensorFlow Lite model", TFLITE),
        "caffemodel" => (
            "a Caffe model",
            "coremltools 4 was the last to convert it; its authors may have it in another form",
        ),
        "pkl" | "pickle" | "joblib" => ("a Python object", PICKLE),
        "params" | "pdmodel" | "pdiparams" => {
            ("a model of another framework", "convert the model in PyTorch or TensorFlow with coremltools")
        }
        "ubj" => ("an XGBoost model", XGBOOST),
        "msgpack" => ("weights in MessagePack", WEIGHTS),
        _ => return None,
    };
    Some(error(what, hint))
}

/// Returns an error for a folder that is neither a package nor a compiled model.
pub(crate) fn recognise_folder(folder: &Path) -> Option<Error> {
    let entries = fs::read_dir(folder).ok()?.take(MAX_ENTRIES);
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_package = folder.extension().is_some_and(|e| e.eq_ignore_ascii_case("mlpackage"));
    if names.iter().all(|name| name.starts_with('.')) {
        let hint = if is_package { "copy or download the whole package again" } else { OTHER };
        return Some(Error::malformed("an empty folder").with_hint(hint));
    }
    let has = |name: &str| names.iter().any(|found| found == name);
    let has_end = |end: &str| names.iter().any(|found| found.ends_with(end));
    if let Some(error) = inside(folder, is_package) {
        return Some(error);
    }
    let (what, hint) = if has("saved_model.pb") || has("saved_model.pbtxt") {
        ("a TensorFlow SavedModel", TENSORFLOW)
    } else if has_end(".safetensors") || has("pytorch_model.bin") || has("pytorch_model.bin.index.json") {
        ("a folder with weights for PyTorch", TRACE)
    } else if has("model.json") && has_end(".bin") {
        (
            "a TensorFlow.js model",
            "convert the TensorFlow or Keras model that it was made from with coremltools, in Python",
        )
    } else if has("checkpoint") && has_end(".index") {
        (
            "a TensorFlow checkpoint",
            "export it as a SavedModel, and convert that: `coremltools.convert(FOLDER)`, in Python",
        )
    } else if has("data.pkl") || has("archive") && has_end(".pt") {
        ("a PyTorch file that was unpacked", TRACE)
    } else if has("config.json") && has_end(".weights.h5") {
        ("a Keras model that was unpacked", KERAS)
    } else if has_end(".onnx") {
        ("a folder with an ONNX model", ONNX)
    } else if has_end(".gguf") {
        ("a folder with a GGUF model", "coremltools does not read GGUF: convert the model in PyTorch's form")
    } else {
        return None;
    };
    Some(error(what, hint))
}

fn error(what: &'static str, hint: &'static str) -> Error {
    Error::unsupported(format!("{what}, not a Core ML model")).with_hint(hint)
}

/// Names the models in a folder; in a package without a manifest, only complete ones.
fn inside(folder: &Path, is_package: bool) -> Option<Error> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut looked_at = 0;
    while let Some((next, depth)) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > MAX_ENTRIES {
                break;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            // Finder adds such shadow files to its archives.
            if name.starts_with('.') || name == "__MACOSX" {
                continue;
            }
            let path = entry.path();
            let Ok(ty) = entry.file_type() else { continue };
            let extension =
                path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            let is_model = match &*extension {
                "mlpackage" | "mlmodelc" => ty.is_dir(),
                "mlmodel" => ty.is_file() && !is_package,
                _ => ty.is_dir() && (has_manifest(&path) || compiled::is_ours(&path)),
            };
            if is_model {
                found.push(path);
            } else if ty.is_dir() && depth + 1 < MAX_DEPTH {
                folders.push((path, depth + 1));
            }
        }
    }
    found.sort();
    let [first, others @ ..] = &found[..] else { return None };
    let hint = format!("open the model itself: {}", first.display());
    Some(match others.len() {
        0 => Error::malformed("a folder with a model in it, not the model").with_hint(hint),
        n => {
            let names: Vec<String> = found.iter().take(4).map(|path| path.display().to_string()).collect();
            let more = if n > 3 { ", …" } else { "" };
            Error::malformed(format!("a folder with {} models in it", n + 1))
                .with_hint(format!("open one of them: {}{more}", names.join(", ")))
        }
    })
}

fn has_manifest(folder: &Path) -> bool {
    folder.join(manifest::FILE_NAME).is_file() && folder.join(manifest::DATA_FOLDER).is_dir()
}

/// Tells what a zip archive contains by the names in it.
fn archive(names: &[u8]) -> Error {
    let has = |name: &str| contains(names, name.as_bytes());
    if has("Manifest.json") && has("com.apple.CoreML") || has(".mlpackage/") {
        return Error::malformed("a zip archive with a Core ML package in it")
            .with_hint("unzip it first, and open the .mlpackage that comes out");
    }
    if has(".mlmodelc/") || has("coremldata.bin") {
        return Error::malformed("a zip archive with a compiled Core ML model in it")
            .with_hint("unzip it first, and open the .mlmodelc that comes out");
    }
    if has(".mlmodel") {
        return Error::malformed("a zip archive with a Core ML model in it")
            .with_hint("unzip it first, and open the .mlmodel that comes out");
    }
    let (what, hint) = if has("MAR-INF/") {
        (
            "a TorchServe archive",
            "it is a zip archive: unzip it, and convert the PyTorch model in it with coremltools, in Python",
        )
    } else if has("serialized_exported_program.json") || has("archive_format") || has("models/model.json") {
        ("a program that PyTorch exported", EXPORTED)
    } else if has("data.pkl") && (has("constants.pkl") || has("/code/")) {
        ("a TorchScript model", TORCH_SCRIPT)
    } else if has("data.pkl") {
        ("a PyTorch file", TRACE)
    } else if has("model.weights.h5") {
        ("a Keras model", KERAS)
    } else if has("saved_model.pb") {
        ("a zip archive with a TensorFlow SavedModel", TENSORFLOW)
    } else if has(".npy") {
        ("a NumPy archive of arrays (.npz)", INPUT)
    } else if has("[Content_Types].xml") || has("mimetypeapplication/") {
        ("an office document", OTHER)
    } else if has(".onnx") {
        ("a zip archive with an ONNX model", ONNX)
    } else {
        (
            "a zip archive",
            "unzip it first, and open the .mlpackage, .mlmodel or .mlmodelc in it, if there is one",
        )
    };
    error(what, hint)
}

/// Recognizes files by their first bytes.
fn content(head: &[u8], len: u64) -> Option<(&'static str, &'static str)> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Some(if starts(b"\x89HDF\r\n\x1a\n") {
        ("an HDF5 file, such as Keras saves", KERAS)
    } else if at(4, b"TFL3") {
        ("a TensorFlow Lite model", TFLITE)
    } else if starts(b"GGUF") || starts(b"ggjt") || starts(b"tjgg") || starts(b"lmgg") {
        (
            "a GGUF model",
            "coremltools does not read it either: convert the model in PyTorch's form with coremltools, in Python",
        )
    } else if is_safetensors(head, len) {
        ("a safetensors file", WEIGHTS)
    } else if starts(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.") {
        ("a PyTorch file", TRACE)
    } else if head[0] == 0x80 && matches!(head.get(1), Some(2..=5)) {
        if contains(head, b"sklearn") {
            ("a scikit-learn model in a pickle", SKLEARN)
        } else if contains(head, b"xgboost") {
            ("an XGBoost model in a pickle", XGBOOST)
        } else if contains(head, b"torch") {
            ("a PyTorch model in a pickle", TRACE)
        } else {
            ("a Python pickle", PICKLE)
        }
    } else if is_onnx(head) {
        ("an ONNX model", ONNX)
    } else if head[0] == 0x0a && (contains(head, b"\x12\x0bPlaceholder") || contains(head, b"\x12\x05Const"))
    {
        ("a TensorFlow graph", TENSORFLOW)
    } else if starts(b"\x93NUMPY") {
        ("a NumPy array (.npy)", INPUT)
    } else if starts(b"\x89PNG")
        || starts(b"\xff\xd8\xff")
        || starts(b"GIF8")
        || starts(b"BM") && at(6, &[0; 4])
    {
        ("an image", INPUT)
    } else if starts(b"RIFF") && at(8, b"WEBP") || at(4, b"ftyp") || starts(b"II*\0") || starts(b"MM\0*") {
        ("an image or a film", OTHER)
    } else if starts(b"RIFF") || starts(b"ID3") || starts(b"fLaC") || starts(b"OggS") {
        ("a sound or a film", OTHER)
    } else if starts(b"\x1f\x8b") || starts(b"BZh") || starts(b"\xfd7zXZ\0") || starts(b"\x28\xb5\x2f\xfd") {
        (
            "a compressed file",
            "unpack it first (`tar xf FILE`), and open the .mlpackage, .mlmodel or .mlmodelc in it",
        )
    } else if at(257, b"ustar") || starts(b"7z\xbc\xaf\x27\x1c") || starts(b"Rar!") {
        ("an archive", "unpack it first, and open the .mlpackage, .mlmodel or .mlmodelc in it")
    } else if starts(b"%PDF") {
        ("a PDF document", OTHER)
    } else if starts(b"\x7fELF")
        || starts(b"MZ")
        || starts(b"\xcf\xfa\xed\xfe")
        || starts(b"\xca\xfe\xba\xbe")
    {
        ("a program or a library", OTHER)
    } else if starts(b"SQLite format 3\0") {
        ("a database", OTHER)
    } else if starts(b"bplist00") {
        ("a property list", OTHER)
    } else if starts(b"binf") {
        ("an XGBoost model", XGBOOST)
    } else {
        return None;
    })
}

/// Recognizes text files. A Core ML model has a zero or a control character among its first bytes.
fn text(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end in the middle of a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let text = valid.trim_start_matches('\u{feff}').trim_start();
    if valid.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c')) {
        return None;
    }
    // Git LFS pointers have a better message elsewhere.
    if text.starts_with("version https://git-lfs") {
        return None;
    }
    let start = text.get(..text.len().min(15)).unwrap_or_default().to_ascii_lowercase();
    Some(if start.starts_with("<!doctype html") || start.starts_with("<html") {
        ("a web page", PAGE)
    } else if text.starts_with('{') && contains(head, b"itemInfoEntries") {
        ("the manifest of a package", "open the .mlpackage folder that it is in")
    } else if text.starts_with("{\"learner\"")
        || text.starts_with("{\"version\"") && contains(head, b"\"learner\"")
    {
        ("an XGBoost model", XGBOOST)
    } else if text.starts_with('{') && contains(head, b"modelTopology") {
        (
            "a TensorFlow.js model",
            "convert the TensorFlow or Keras model that it was made from with coremltools, in Python",
        )
    } else if text.starts_with("svm_type ") {
        ("a LIBSVM model", LIBSVM)
    } else if text.starts_with("tree\nversion=") {
        (
            "a LightGBM model",
            "coremltools does not read it: convert a tree ensemble of scikit-learn or XGBoost",
        )
    } else if text.starts_with("<?xml") && contains(head, b"<net ") {
        (
            "an OpenVINO model",
            "convert the model that it was made from (in PyTorch or TensorFlow) with coremltools, in Python",
        )
    } else if text.starts_with('{') || text.starts_with('[') {
        ("a JSON file", OTHER)
    } else {
        ("a text file", OTHER)
    })
}

/// A safetensors file starts with the length of its header (eight bytes), followed by JSON.
fn is_safetensors(head: &[u8], len: u64) -> bool {
    let Some((size, header)) = head.split_first_chunk::<8>() else { return false };
    let size = u64::from_le_bytes(*size);
    (2..=len.saturating_sub(8)).contains(&size)
        && (header.starts_with(b"{\"") || header.starts_with(b"{ ") || header.starts_with(b"{}"))
}

/// An ONNX file starts with its version, then its producer or graph. A Core ML model has a description in that place.
fn is_onnx(head: &[u8]) -> bool {
    let [0x08, version @ 1..=20, rest @ ..] = head else { return false };
    match rest {
        // Without a producer's name, the graph follows at once; Core ML has no field 7.
        [0x3a, ..] => true,
        [0x12, len, rest @ ..] => {
            let len = usize::from(*len);
            let is_word = |b: &u8| b.is_ascii_alphanumeric() || b"._-+ /".contains(b);
            // Producer's version, domain, model's version, text, graph, opset.
            let next = rest.get(len).copied();
            *version >= 3
                && (1..=60).contains(&len)
                && rest.get(..len).is_some_and(|name| name.iter().all(is_word))
                && matches!(next, Some(0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72))
        }
        _ => false,
    }
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Package};

    /// The first bytes of files as their tools write them (magic numbers from the formats' descriptions), and the name
    /// that each gets. Archives are told by the names in them.
    #[test]
    fn each_is_called_what_it_is() {
        let onnx = b"\x08\x08\x12\x07pytorch\x1a\x052.7.0:\x03abc";
        let nameless = b"\x08\x09:\x10\n\x0e\n\x01x\x12\x01y\"\x04Relu";
        let graph = b"\n\x1d\n\x05input\x12\x0bPlaceholder*\x07";
        let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec(), vec![0; 255]].concat();
        let safetensors = [&16u64.to_le_bytes()[..], b"{\"__metadata__\":1}"].concat();
        let files: [(&str, &[u8], &str); 34] = [
            ("empty.mlmodel", b"", "an empty file"),
            ("a", b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            ("a", b"\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"),
            ("a", b"GGUF\x03\0\0\0", "GGUF"),
            ("a", &safetensors, "safetensors"),
            ("a", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
            ("a", b"\x80\x04\x95\0\0csklearn.linear_model._base", "scikit-learn"),
            ("a", b"\x80\x04\x95\0\0ctorch.nn.modules", "PyTorch model in a pickle"),
            ("a", b"\x80\x05\x95\0\0}.", "a Python pickle"),
            ("a", onnx, "an ONNX model"),
            ("a", nameless, "an ONNX model"),
            ("a", graph, "a TensorFlow graph"),
            ("a", b"\x93NUMPY\x01\0", "a NumPy array"),
            ("photo", b"\x89PNG\r\n\x1a\n", "an image"),
            ("photo", b"\xff\xd8\xff\xe0\0\x10JFIF", "an image"),
            ("photo", b"\0\0\0\x18ftypheic", "an image or a film"),
            ("sound", b"RIFF\x24\0\0\0WAVEfmt ", "a sound"),
            ("a", b"\x1f\x8b\x08\0", "a compressed file"),
            ("a", &tar, "an archive"),
            ("a", b"%PDF-1.4\n", "a PDF"),
            ("a", b"\x7fELF\x02\x01\x01", "a program"),
            ("README", b"# A model\n\nIt does this.\n", "a text file"),
            ("README", "Gr\u{fc}\u{df}e".as_bytes(), "a text file"),
            ("a", b"<!DOCTYPE html><html>", "a web page"),
            ("a", b"{\"architectures\": []}", "a JSON file"),
            ("a", b"{\"learner\":{\"attributes\":{}}}", "an XGBoost model"),
            ("a", b"svm_type c_svc\nkernel_type rbf\n", "a LIBSVM model"),
            ("a", b"tree\nversion=v4\n", "a LightGBM model"),
            // Only the name tells what these are.
            ("net.onnx", b"\xff\xfe\0\x01", "an ONNX model"),
            ("net.pb", b"\xff\xfe\0\x01", "a TensorFlow graph"),
            ("saved_model.pb", b"\x08\x01\x12\x04\n\x02\x12\0", "a part of a TensorFlow SavedModel"),
            ("net.pt", b"\xff\xfe\0\x01", "a PyTorch file"),
            ("net.ckpt", b"\xff\xfe\0\x01", "a PyTorch file"),
            ("forest.joblib", b"\x78\x9c\0\x01", "a Python object"),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, what) in files {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = Package::open(&path).unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert_eq!(error.path(), Some(&*path));
            assert!(error.hint().is_some(), "{what}");
        }
        for (names, what) in [
            (
                "digits.mlpackage/Data/com.apple.CoreML/model.mlmodel digits.mlpackage/Manifest.json",
                "a Core ML package",
            ),
            ("digits.mlmodelc/coremldata.bin", "a compiled Core ML model"),
            ("old.mlmodel", "a Core ML model"),
            ("archive/data.pkl archive/version archive/data/0", "a PyTorch file"),
            ("net/code/__torch__.py net/data.pkl net/constants.pkl", "a TorchScript model"),
            ("net/archive_format net/models/model.json", "a program that PyTorch exported"),
            ("metadata.json config.json model.weights.h5", "a Keras model"),
            ("MAR-INF/MANIFEST.json net.pt", "a TorchServe archive"),
            ("x.npy y.npy", "a NumPy archive"),
            ("a.txt", "a zip archive"),
        ] {
            let path = folder.path().join("archive.zip");
            fs::write(&path, [b"PK\x03\x04\0\0\0\0", names.as_bytes()].concat()).unwrap();
            let error = Package::open(&path).unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
        // The name says ONNX, but the content is a Git LFS pointer.
        let path = folder.path().join("net.onnx");
        fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
        assert!(Package::open(&path).unwrap_err().to_string().contains("Git LFS"));
    }

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        let open = |name: &str| Package::open(folder.path().join(name)).unwrap_err();
        make("saved/saved_model.pb");
        make("saved/variables/variables.index");
        make("hub/config.json");
        make("hub/model.safetensors");
        make("one/__MACOSX/._old.mlmodel");
        make("one/deep/old.mlmodel");
        make("two/a.mlmodel");
        make("two/b.mlpackage/Manifest.json");
        make("twice.mlpackage/twice.mlpackage/Manifest.json");
        make("lost.mlpackage/Data/com.apple.CoreML/model.mlmodel");
        make("notes/README.md");
        fs::create_dir(folder.path().join("empty")).unwrap();
        for (name, what, hint) in [
            ("saved", "a TensorFlow SavedModel", "coremltools.convert(PATH)"),
            ("hub", "weights for PyTorch", "coremltools.convert("),
            ("one", "a folder with a model in it", "old.mlmodel"),
            ("two", "a folder with 2 models in it", "b.mlpackage"),
            ("twice.mlpackage", "a folder with a model in it", "twice.mlpackage/twice.mlpackage"),
            ("lost.mlpackage", "no Manifest.json", "incomplete"),
            ("notes", "no Manifest.json", "give the path of"),
            ("empty", "an empty folder", "give the path of"),
        ] {
            let error = open(name);
            assert!(error.to_string().contains(what), "{name}: {error}");
            let found = error.hint().unwrap().replace('\\', "/");
            assert!(found.contains(hint), "{name}: {found}");
        }
        let error = open("tow/a.mlmodel");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("check the path")));
        let error = Package::open(folder.path().join("lost")).unwrap_err();
        assert!(error.hint().unwrap().ends_with("lost.mlpackage"), "{:?}", error.hint());
    }

    /// Valid models are never taken for another format, whatever the first byte of their description.
    #[test]
    fn models_are_models() {
        use crate::proto::{FeatureDescription, Metadata, Model, ModelDescription, model};
        use prost::Message as _;
        let input = FeatureDescription { name: "pytorch".into(), ..Default::default() };
        let descriptions = [
            ModelDescription::default(),
            ModelDescription { input: vec![input.clone()], ..Default::default() },
            ModelDescription { output: vec![input], ..Default::default() },
            ModelDescription { predicted_feature_name: "pytorch".into(), ..Default::default() },
            ModelDescription { metadata: Some(Metadata::default()), ..Default::default() },
        ];
        for specification_version in 1..=10 {
            for description in &descriptions {
                let model = Model {
                    specification_version,
                    description: Some(Box::new(description.clone())),
                    is_updatable: false,
                    r#type: Some(model::Type::Identity(Default::default())),
                };
                let bytes = model.encode_to_vec();
                assert!(content(&bytes, bytes.len() as u64).is_none(), "{bytes:x?}");
                assert!(text(&bytes).is_none(), "{bytes:x?}");
            }
        }
    }
}
