//! What an editor, a commit and a report on GitHub are guided by, against what is there: `.editorconfig`, the
//! devcontainer, the hooks, the forms and Dependabot's groups. Checks return what is wrong, and are shown planted faults.

mod editor;
mod github;
mod hooks;

use std::{path::Path, process::Command};

use super::root;

/// All files of the tree that git knows or would take, as paths from the root.
pub fn tracked() -> Vec<String> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().expect("the checks need git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    // Deleted and not yet staged is listed too.
    let there = |path: &&str| !path.is_empty() && Path::new(&root().join(path)).is_file();
    listed.split('\0').filter(there).map(ToOwned::to_owned).collect()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Expects the check to name what was planted.
#[track_caller]
fn named(problems: &[String], expected: &str) {
    assert!(problems.iter().any(|problem| problem.contains(expected)), "`{expected}` was not named: {problems:#?}");
}
