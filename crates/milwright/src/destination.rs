//! The names that users give to results.

use std::path::Path;

use crate::{Container, Error, Result};

/// What names of files end in, and never those of folders with results.
const FILES: [&str; 23] = [
    "mlmodel",
    "onnx",
    "pt",
    "pth",
    "pt2",
    "h5",
    "hdf5",
    "keras",
    "tflite",
    "pb",
    "pkl",
    "safetensors",
    "gguf",
    "zip",
    "npy",
    "npz",
    "json",
    "csv",
    "txt",
    "png",
    "jpg",
    "jpeg",
    "bin",
];

/// Whether a name ends like that of a file, which folders with results never have.
pub fn is_name_of_file(path: impl AsRef<Path>) -> bool {
    FILES.contains(&extension(path.as_ref()).as_str())
}

/// Refuses a name for a package or a compiled model that ends like another kind of model, or like a file's.
///
/// # Errors
/// It does; the hint is the name that was probably meant.
pub fn check_name(path: impl AsRef<Path>, container: Container) -> Result<()> {
    let path = path.as_ref();
    let written = match container {
        Container::Mlmodel => "mlmodel",
        Container::Mlmodelc => "mlmodelc",
        _ => "mlpackage",
    };
    let why = match extension(path).as_str() {
        extension if extension == written => return Ok(()),
        "mlmodel" => "an .mlmodel is a single file, without room for the weights of ML programs".to_owned(),
        "mlpackage" => "an .mlpackage is what a compiled model is made from".to_owned(),
        "mlmodelc" => "an .mlmodelc is made from the result, by compiling it".to_owned(),
        other if is_name_of_file(path) => format!("nothing is written as .{other}"),
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("the result is a folder that ends in .{written}: {why}"))
        .with_hint(format!("write to {}", path.with_extension(written).display()))
        .at(path))
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_of_results() {
        assert!(check_name("a.mlpackage", Container::Mlpackage).is_ok());
        assert!(
            check_name("a", Container::Mlpackage).is_ok() && check_name("v1.2", Container::Mlmodelc).is_ok()
        );
        let error = check_name("a.MLModel", Container::Mlpackage).unwrap_err();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::InvalidInput, Some("write to a.mlpackage")));
        for name in FILES.map(|end| format!("a.{end}")) {
            assert!(is_name_of_file(&name));
            let error = check_name(&name, Container::Mlmodelc).unwrap_err();
            assert_eq!(error.hint(), Some("write to a.mlmodelc"));
        }
    }
}
