//! docs/upgrading.md, run as it stands: a clone of a real earlier commit of this repository takes what came later, whole,
//! by area, and all but an area.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::scratch::command;

// Put together here: as words of this tree they could be no one's names.
const NAME: &str = concat!("acme", "-payments");
const TITLE: &str = concat!("Acme ", "Pays");
const DESCRIPTION: &str = "What the clone is for.";
const REPOSITORY: &str = concat!("https://github.com/acme/acme", "-payments");

/// Runs a script in a folder, as a person would who stops at the first failure.
#[track_caller]
fn sh(folder: &Path, script: &str) -> String {
    let mut bash = command(folder, "bash");
    let output = bash.args(["-euo", "pipefail", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.trim().to_owned()
}

/// The `sh` blocks of the page, without what builds: CI does that, and scripts/clones.sh.
fn blocks() -> Vec<String> {
    let page = std::fs::read_to_string(super::root().join("docs/upgrading.md")).unwrap();
    let block = |text: &str| text.split("\n```").next().unwrap().replace("\nmake docs", "").replace("\nmake check", "");
    page.split("```sh\n").skip(1).map(block).collect()
}

/// The folder, and in it `template`, a clone of this repository.
fn template(directory: &TempDir) -> (PathBuf, PathBuf) {
    let folder = directory.path().canonicalize().unwrap();
    let root = super::root();
    sh(&folder, &format!("git clone --quiet --no-hardlinks '{}' template", root.display()));
    let template = folder.join("template");
    sh(&template, "git switch --quiet -C main");
    (folder, template)
}

/// The first commit that could be renamed, if it is not the last: a clone that began with one commit has none.
fn earlier(template: &Path) -> Option<String> {
    let born = sh(template, "git log --diff-filter=A --format=%H -- scripts/rename.sh | tail -n1");
    let later = sh(template, &format!("git rev-list --count {born}..HEAD -- src docs 2>/dev/null || echo 0"));
    (!born.is_empty() && later != "0").then_some(born)
}

#[test]
fn the_commands_of_the_page_take_a_later_template_into_a_clone() {
    let directory = TempDir::new().unwrap();
    let (folder, template) = template(&directory);
    let Some(earlier) = earlier(&template) else {
        let required = std::env::var_os("KEEL_REQUIRE_HISTORY").is_some();
        assert!(!required, "this history has no earlier commit: check out all of it (fetch-depth: 0)");
        eprintln!("SKIPPED: this history has no earlier commit to take changes from (a shallow or a new clone)");
        return;
    };
    let [once, fetch, vendor, look, merge, except, area] = &blocks()[..] else {
        panic!("docs/upgrading.md has seven blocks of sh: {:#?}", blocks());
    };

    sh(&folder, "git clone --quiet --no-hardlinks template clone");
    let clone = folder.join("clone");
    sh(&clone, &format!("git switch --quiet -C main {earlier}"));
    let rename = format!(
        "make --no-print-directory rename NAME={NAME} TITLE='{TITLE}' DESCRIPTION='{DESCRIPTION}' REPOSITORY={REPOSITORY}"
    );
    sh(&clone, &format!("{rename} && git commit --quiet --all --message 'Rename'"));
    sh(&clone, once);
    // A line in a file of the template, and a file of its own.
    sh(
        &clone,
        "echo '// Ours.' >>src/main.rs && echo ours >docs/ours.md && git add --all && git commit --quiet -m Ours",
    );
    let ours = sh(&clone, "git rev-parse HEAD");

    sh(&clone, fetch);
    sh(&clone, vendor);
    assert!(!folder.join("upgrade").exists(), "the page clears up");
    let took = |area: &str| sh(&clone, &format!("git diff --stat vendor HEAD -- {area}"));
    assert!(sh(&clone, look).contains('|'), "something came");
    let manifest = sh(&clone, "git show vendor:Cargo.toml");
    for (key, value) in
        [("name", NAME), ("metadata.title", TITLE), ("description", DESCRIPTION), ("repository", REPOSITORY)]
    {
        assert!(manifest.contains(&format!("{key} = \"{value}\"")), "{key} is as the clone has it");
    }

    // Whole: what is not the template's is ours, and nothing else.
    sh(&clone, merge);
    assert_eq!(sh(&clone, "git diff --name-only vendor HEAD"), "docs/ours.md\nsrc/main.rs");
    assert_eq!(sh(&clone, "git status --porcelain"), "");

    // All but docs.
    sh(&clone, &format!("git reset --quiet --hard {ours}"));
    sh(&clone, except);
    assert_eq!(sh(&clone, &format!("git diff --stat {ours} HEAD -- docs")), "", "docs are as they were");
    assert_eq!(took("src/platform tests scripts"), "");
    assert_eq!(sh(&clone, "git merge vendor"), "Already up to date.");

    // One area, then the rest.
    sh(&clone, &format!("git reset --quiet --hard {ours}"));
    sh(&clone, area);
    assert_eq!(took("src/platform tests/it/platform"), "");
    assert_ne!(took("docs"), "", "nothing else came");
    sh(&clone, merge);
    assert_eq!(sh(&clone, "git diff --name-only vendor HEAD"), "docs/ours.md\nsrc/main.rs");
}

#[test]
fn a_clone_without_the_example_does_not_get_it_back() {
    if !super::root().join("scripts/strip-example.sh").is_file() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let (folder, template) = template(&directory);
    sh(&folder, "git clone --quiet --no-hardlinks template clone");
    let clone = folder.join("clone");
    sh(&clone, "DOCS=no scripts/strip-example.sh && git commit --quiet --all --message 'Strip'");
    let [once, fetch, vendor, _, merge, ..] = &blocks()[..] else { panic!("{:#?}", blocks()) };
    sh(&clone, once);
    sh(&template, "echo '// Later.' >>src/platform/jitter.rs && git commit --quiet --all --message 'Later'");

    sh(&clone, fetch);
    sh(&clone, vendor);
    sh(&clone, merge);
    assert_eq!(sh(&clone, "git diff --name-only HEAD~1 HEAD"), "src/platform/jitter.rs", "what came is what changed");
    assert!(clone.join("src/domain/mod.rs").is_file());
}
