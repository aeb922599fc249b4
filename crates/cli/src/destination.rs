//! Where results go: nothing is replaced unasked, and every name is one on every system.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use milwright::{Container, Error, ErrorKind, Existing, Result, is_name_of_file, would_replace};
use unicode_normalization::UnicodeNormalization;

use crate::printer;

/// Whether existing results may be replaced.
#[derive(clap::Args)]
pub struct Force {
    /// Replace a result that is there already.
    #[arg(long)]
    force: bool,
}

impl Force {
    /// For the writers: what comes between a check and the end of a write is not replaced either.
    pub fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    /// Says how to replace what a writer found at a destination.
    pub fn explain(error: Error) -> Error {
        if error.kind() == ErrorKind::Exists { error.with_hint(REPLACE) } else { error }
    }

    /// Refuses to replace a model, unless that is wanted, and always the one that the result is made from, or one that has it
    /// inside. What is no model of this kind is not looked at: it is never replaced, and whoever writes says so.
    pub fn check_model(&self, path: &Path, container: Container, source: &Path) -> Result<()> {
        if let (Ok(a), Ok(b)) = (path.canonicalize(), source.canonicalize())
            && b.starts_with(&a)
            && (a == b || would_replace(path, container))
        {
            let message = "the result would replace the model that it is made from";
            let error = Error::new(ErrorKind::InvalidInput, message);
            return Err(error.with_hint("choose another name with -o").at(path));
        }
        if self.force || !would_replace(path, container) {
            return Ok(());
        }
        Err(there_already().at(path))
    }

    /// Refuses to replace any of these files, unless that is wanted. A link counts as a file, wherever it leads: what it leads to
    /// would be replaced.
    pub fn check_files(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok_and(|m| m.is_file() || m.is_symlink());
        match paths.into_iter().find(is_there).filter(|_| !self.force) {
            Some(path) => Err(there_already().at(path)),
            None => Ok(()),
        }
    }
}

const REPLACE: &str = "replace it with --force, or choose another name with -o";

fn there_already() -> Error {
    Error::new(ErrorKind::Exists, "it is there already").with_hint(REPLACE)
}

/// Names of files after names from a model: none leads out of its folder, means something to a system, or is another
/// one's in different letters.
#[derive(Default)]
pub struct FileNames {
    /// [`folded`].
    taken: BTreeSet<String>,
    /// The last number that a name was told apart by.
    numbers: BTreeMap<String, u32>,
}

impl FileNames {
    /// The longest that every file system takes is 255 bytes, with an extension and a temporary name around it.
    const MAX_BYTES: usize = 160;

    /// The name of a file, without its extension.
    pub fn file(&mut self, name: &str) -> String {
        let forbidden = |c: char| printer::is_unsafe(c) || r#"/\:*?"<>|"#.contains(c);
        let mut safe: String = name.chars().map(|c| if forbidden(c) { '_' } else { c }).collect();
        let end = (0..=safe.len().min(Self::MAX_BYTES)).rev().find(|&end| safe.is_char_boundary(end));
        safe.truncate(end.unwrap_or(0));
        // Windows drops these at the end of a name.
        let kept = safe.trim_end_matches(['.', ' ']).len();
        safe.replace_range(kept.., &"_".repeat(safe.len() - kept));
        if safe.is_empty() || safe.starts_with('.') || milwright::is_device_name(&safe) {
            safe.insert(0, '_');
        }
        let mut unique = safe.clone();
        while !self.taken.insert(folded(&unique)) {
            let number = self.numbers.entry(safe.clone()).or_insert(1);
            *number += 1;
            unique = format!("{safe}-{number}");
        }
        unique
    }
}

/// A name as the systems compare it that take letters of either case, and both spellings of a letter with a mark, for the
/// same.
fn folded(name: &str) -> String {
    name.to_lowercase().to_uppercase().nfd().collect()
}

/// Refuses a folder for outputs that is called like a file, or that is one.
pub fn check_folder(path: &Path) -> Result<()> {
    let error = |message: &str| Error::new(ErrorKind::InvalidInput, message);
    if path.exists() && !path.is_dir() {
        let error = error("a file of this name is in the way; outputs go to a folder");
        return Err(error.with_hint("choose another name with -o").at(path));
    }
    if !path.exists() && is_name_of_file(path) {
        let better = path.with_extension("");
        return Err(error("outputs go to a folder, a file for each, and this is the name of a file")
            .with_hint(format!("write to {}/", better.display()))
            .at(path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let mut names = FileNames::default();
        for (name, file) in [
            ("digit", "digit"),
            ("Digit", "Digit-2"),
            ("DIGIT-2", "DIGIT-2-2"),
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("a/b", "a_b"),
            ("a:b", "a_b-2"),
            (r"a\b", "a_b-3"),
            ("", "_"),
            ("..", "__"),
            (".hidden", "_.hidden"),
            ("end.", "end_"),
            ("end. .", "end___"),
            ("end ", "end_-2"),
            ("nul", "_nul"),
            ("COM1.x", "_COM1.x"),
            ("con ", "con_"),
            ("a\n\u{202e}\0b", "a___b"),
            ("stra\u{df}e", "stra\u{df}e"),
            ("STRASSE", "STRASSE-2"),
            ("\u{e9}t\u{e9}", "\u{e9}t\u{e9}"),
            ("e\u{301}te\u{301}", "e\u{301}te\u{301}-2"),
            ("\u{540d}\u{524d}", "\u{540d}\u{524d}"),
            ("\u{51fa}\u{529b}", "\u{51fa}\u{529b}"),
        ] {
            assert_eq!(names.file(name), file, "{name:?}");
        }
    }

    /// Whatever a model calls its features: a plain name on Linux, Windows and macOS, and each its own.
    #[test]
    fn names_are_safe_and_distinct() {
        let reserved =
            ["CON", "prn", "Aux", "NUL", "COM1", "lpt9", "CONIN$", "com\u{b2}", "nul.tar.gz", "CON."];
        let pieces =
            ["", ".", " ", "/", "\\", ":", "\0", "\n", "a", "A", "\u{fc}", "u\u{308}", "*", "~", "-", "%"];
        let mut given: BTreeSet<String> = reserved.iter().map(|&r| r.to_owned()).collect();
        for a in pieces {
            for b in pieces {
                for c in ["", ".", " ", "a", "NUL"] {
                    given.insert(format!("{a}{b}{c}"));
                }
            }
        }
        for long in ["a", "\u{fc}", "\u{1f600}", "a."] {
            given.insert(long.repeat(1000));
            given.insert(long.repeat(1001));
        }
        let mut names = FileNames::default();
        let made: Vec<String> = given.iter().map(|name| names.file(name)).collect();
        for (name, file) in given.iter().zip(&made) {
            assert!(!file.is_empty() && file.len() < 200 && !file.starts_with('.'), "{name:?}: {file:?}");
            assert!(!file.ends_with(['.', ' ']), "{name:?}: {file:?}");
            assert!(
                !file.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', '\0', '\n']),
                "{name:?}: {file:?}"
            );
            assert!(!milwright::is_device_name(file), "{name:?}: {file:?}");
        }
        let distinct: BTreeSet<String> = made.iter().map(|file| file.to_lowercase()).collect();
        assert_eq!(distinct.len(), given.len());
        // The file system of this machine, too.
        let folder = tempfile::tempdir().unwrap();
        for file in &made {
            std::fs::File::create_new(folder.path().join(format!("{file}.npy"))).unwrap();
        }
    }

    #[test]
    fn names_of_folders() {
        for name in ["a.onnx", "a.json", "a.MLMODEL"] {
            assert_eq!(check_folder(Path::new(name)).unwrap_err().hint(), Some("write to a/"));
        }
        assert!(check_folder(Path::new("a.b/c")).is_ok() && check_folder(Path::new("v1.2")).is_ok());
    }
}
