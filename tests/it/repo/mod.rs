//! The rules of the house, as tests: each failure says where to look.

mod adding;
mod bench;
mod catalogue;
pub mod deploy;
mod docs;
mod example_shop;
mod features;
mod fuzz;
mod habits;
mod layering;
mod prr;
mod rename;
mod rename_shop;
mod runbook;
mod schema;
mod scratch;
mod second_try;
pub mod semconv;
mod strip_shop;
mod upgrading;

use std::path::{Path, PathBuf};

/// A file of the tree: its path from the root, and its text.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    /// The lines before the tests of the file, without comments: what counts as code.
    pub fn code(&self) -> Vec<&str> {
        let source = self.text.split("#[cfg(test)]").next().unwrap();
        // A table of test vectors is no code, wherever it stands.
        let source = if self.path.ends_with("/vectors.rs") { "" } else { source };
        source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).collect()
    }

    pub fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(&format!("{folder}/"))
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All text files below these places.
pub fn files(places: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    for place in places {
        collect(&root().join(place), &mut found);
    }
    assert!(!found.is_empty(), "nothing in {places:?}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: &Path, found: &mut Vec<File>) {
    if path.is_dir() {
        // What cargo builds for the fuzz targets is no source of ours.
        if path.ends_with("target") {
            return;
        }
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        found.push(File { path, text });
    }
}
