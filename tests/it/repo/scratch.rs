//! A folder of a test's own with files of this tree: what scripts of the tree do there, nobody else sees, and nothing of
//! who runs the test gets in.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{habits::tracked, root};

/// A command in this folder without the repository, the identity and the hooks of who runs the test, and without the
/// variables that scripts of the tree take.
pub fn command(folder: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let ours = [
        "NAME",
        "TITLE",
        "DESCRIPTION",
        "REPOSITORY",
        "SINGULAR",
        "DOMAIN",
        "DOCS",
        "STRICT",
        "JSON",
        "OFF",
        "TODAY",
        "MAKEFLAGS",
    ];
    let git = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("GIT_"));
    for name in git.chain(ours.map(Into::into)) {
        command.env_remove(name);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").current_dir(folder);
    // The checkout may be another user's, as in a container.
    command.envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]);
    command
}

pub struct Scratch {
    _directory: TempDir,
    root: PathBuf,
}

impl Scratch {
    /// With the files of the tree, changes included, whose paths are wanted; no repository yet.
    pub fn of(wanted: impl Fn(&str) -> bool) -> Self {
        let directory = TempDir::new().unwrap();
        // A script that asks where it is gets the real path.
        let scratch = Self { root: directory.path().canonicalize().unwrap(), _directory: directory };
        for path in tracked().iter().filter(|path| wanted(path)) {
            let to = scratch.path(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(root().join(path), to).unwrap();
        }
        scratch
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A script of the copy, with these variables.
    pub fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        command(&self.root, self.path(script)).envs(variables.iter().copied()).output().unwrap()
    }

    /// It works; what it said.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = command(&self.root, "git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes it a repository, if it is none, and all that lies there a commit.
    pub fn commit(&self) {
        self.git(&["init", "--quiet"]);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "All of it"]);
    }
}
