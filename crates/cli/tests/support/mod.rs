//! What the tests of the command share: a folder to work in, and damaged packages.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod inputs;
pub mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The command under test.
pub const MILWRIGHT: &str = env!("CARGO_BIN_EXE_milwright");

/// A temporary folder with the files of `examples/`.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    pub fn new() -> Workplace {
        let folder = TempDir::new().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for name in ["digits.mlpackage", "digits_test_x.npy", "digits_test_y.npy"] {
            copy(&examples.join(name), &folder.path().join(name));
        }
        Workplace { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the packages of `packages::ALL` that a text names as `bad/NAME.mlpackage`.
    pub fn add_packages(&self, text: &str) {
        for (name, make) in packages::ALL {
            if text.contains(&format!("bad/{name}.mlpackage")) {
                let package = self.path(&format!("bad/{name}.mlpackage"));
                copy(&self.path("digits.mlpackage"), &package);
                make(&package);
            }
        }
    }

    /// Makes the files of `inputs::all` that a text names as `in/NAME`.
    pub fn add_inputs(&self, text: &str) {
        fs::create_dir(self.path("in")).unwrap();
        for (name, content) in inputs::all() {
            if text.contains(&format!("in/{name}")) {
                fs::write(self.path("in").join(name), content).unwrap();
            }
        }
    }

    /// Copies the pipelines of the library's tests that a text names as `pipelines/NAME`.
    pub fn add_pipelines(&self, text: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../milwright/tests/pipelines");
        for entry in fs::read_dir(folder).unwrap() {
            let from = entry.unwrap().path();
            let name = format!("pipelines/{}", from.file_name().unwrap().to_str().unwrap());
            if text.contains(&name) {
                fs::create_dir_all(self.path("pipelines")).unwrap();
                copy(&from, &self.path(&name));
            }
        }
    }

    /// The command, to be run here, with nothing of the environment that tests run in.
    pub fn milwright(&self) -> Command {
        self.command(MILWRIGHT)
    }

    /// A shell that has `milwright` on its path.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let folder = Path::new(MILWRIGHT).parent().unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()))
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("MILWRIGHT_CACHE_DIR", "cache")
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// The names in a folder, sorted; none if it does not exist.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
