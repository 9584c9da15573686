//! What the image's builder may see (.dockerignore), and the workflows that build and publish the image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    image::{DOCKERFILE, builder_rust, checkout, is_pinned, stages},
    none,
};

const WORKFLOW: &str = ".github/workflows/release.yml";
const CI: &str = ".github/workflows/ci.yml";

/// What a COPY takes from the context is let in, and nothing else is.
fn context_problems(ignore: &str, dockerfile: &str) -> Vec<String> {
    let stages = stages(dockerfile);
    let copied: BTreeSet<&str> = stages
        .iter()
        .flat_map(|stage| stage.all("COPY"))
        .filter(|copy| !copy.contains("--from="))
        .flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    let mut lines = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut problems = Vec::new();
    if lines.next() != Some("*") {
        problems.push(".dockerignore: the first pattern has to be `*`: only what is named gets in".to_owned());
    }
    let named: BTreeSet<&str> = lines.map(|line| line.strip_prefix('!').unwrap_or(line)).collect();
    for path in copied.difference(&named) {
        problems.push(format!(".dockerignore: {path} is copied by {DOCKERFILE} but not let in"));
    }
    for path in named.difference(&copied) {
        problems.push(format!(".dockerignore: {path} is let in, but nothing of {DOCKERFILE} copies it"));
    }
    for path in copied.iter().filter(|path| !super::super::root().join(path).exists()) {
        problems.push(format!("{DOCKERFILE}: it copies {path}, which is not there"));
    }
    problems
}

/// BuildKit ignores an argument that the Dockerfile does not declare, and `BUILDKIT_SBOM_…` below the first stage means
/// that stage alone.
fn argument_problems(workflow: &str, dockerfile: &str) -> Vec<String> {
    let document: Value = serde_saphyr::from_str(workflow).unwrap();
    let declared = |text: &str, name: &str| {
        text.lines().filter_map(|line| line.strip_prefix("ARG ")).any(|argument| {
            let (declared, _) = argument.split_once('=').unwrap_or((argument, ""));
            declared.trim() == name
        })
    };
    let before_stages = dockerfile.split("\nFROM ").next().unwrap();
    let mut problems = Vec::new();
    for (step, lines) in steps(&document).filter_map(|step| Some((step, step["with"]["build-args"].as_str()?))) {
        for name in lines.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())) {
            let (text, place) = if name.starts_with("BUILDKIT_SBOM_") {
                (before_stages, "before its first FROM")
            } else {
                (dockerfile, "in it")
            };
            if !declared(text, name) {
                problems.push(format!("{WORKFLOW}: {name} does nothing: {DOCKERFILE} has no `ARG {name}` {place}"));
            }
        }
        let scans = lines.contains("BUILDKIT_SBOM_SCAN_CONTEXT=true");
        if !step["with"]["sbom"].is_null() && !scans {
            problems.push(format!("{WORKFLOW}: an SBOM without BUILDKIT_SBOM_SCAN_CONTEXT=true names no crate"));
        }
    }
    let looks =
        |step: &Value| step["run"].as_str().is_some_and(|run| run.contains(".SBOM") && run.contains("pkg:cargo/"));
    if !steps(&document).any(looks) {
        problems.push(format!("{WORKFLOW}: no step looks for a crate (pkg:cargo/…) in the SBOM that was pushed"));
    }
    problems
}

/// What holds for both workflows.
fn common_problems(path: &str, workflow: &str) -> Vec<String> {
    let document: Value = serde_saphyr::from_str(workflow).unwrap();
    let mut problems = Vec::new();
    let mut problem = |text: String| problems.push(format!("{path}: {text}"));
    if document["permissions"] != serde_json::json!({}) {
        problem("permissions at the top have to be {}: each job asks for its own".to_owned());
    }
    for line in workflow.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: ")) {
        let (action, version) = line.split_once(" # v").unwrap_or((line, ""));
        let commit = action.split_once('@').map_or("", |(_, commit)| commit);
        if version.is_empty() || commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            problem(format!("{line} is not pinned as action@<commit> # v<version>: a tag can be moved"));
        }
    }
    for (name, job) in document["jobs"].as_object().unwrap() {
        if !job["timeout-minutes"].is_u64() {
            problem(format!("the job {name} has no timeout-minutes: GitHub's own is six hours"));
        }
    }
    problems
}

/// What a release would be refused for, CI refuses before.
fn ci_problems(ci: &str) -> Vec<String> {
    let (ci_document, release): (Value, Value) =
        (serde_saphyr::from_str(ci).unwrap(), serde_saphyr::from_str(&checkout(WORKFLOW)).unwrap());
    let mut problems = common_problems(CI, ci);
    let mut problem = |text: &str| problems.push(format!("{CI}: {text}"));
    let is_scan = |step: &&Value| step["uses"].as_str().is_some_and(|action| action.contains("/trivy-action@"));
    let scan =
        |document: &Value| steps(document).find(is_scan).map(|step| [step["uses"].clone(), step["with"].clone()]);
    if scan(&release).is_none() || scan(&ci_document) != scan(&release) {
        problem("its scan of the image is not the release's: both have to find the same");
    }
    if !steps(&ci_document).any(|step| step["run"] == "make image") {
        problem("no job runs `make image`");
    }
    let mut jobs = ci_document["jobs"].as_object().unwrap().values();
    if !jobs.all(|job| job["permissions"] == serde_json::json!({ "contents": "read" })) {
        problem("a job may do more than read the sources");
    }
    problems
}

fn steps(workflow: &Value) -> impl Iterator<Item = &Value> {
    let jobs = workflow["jobs"].as_object().into_iter().flatten();
    jobs.flat_map(|(_, job)| job["steps"].as_array().into_iter().flatten())
}

fn workflow_problems(workflow: &str) -> Vec<String> {
    let document: Value = serde_saphyr::from_str(workflow).unwrap();
    let dockerfile = checkout(DOCKERFILE);
    let mut problems = common_problems(WORKFLOW, workflow);
    let mut problem = |text: String| problems.push(format!("{WORKFLOW}: {text}"));
    let rust = builder_rust(&stages(&dockerfile));
    if document["env"]["RUST_VERSION"] != rust.as_str() {
        problem(format!("RUST_VERSION is {}, but {DOCKERFILE} builds with {rust}", document["env"]["RUST_VERSION"]));
    }
    for (name, image) in document["env"].as_object().unwrap() {
        if image.as_str().is_some_and(|image| image.contains('/') && !is_pinned(image)) {
            problem(format!("{name} is {image}, without an exact tag and a digest"));
        }
    }
    let jobs = document["jobs"].as_object().unwrap();
    if !jobs["ci"]["steps"].as_array().unwrap().iter().any(|step| step["run"] == "make ci") {
        problem("the job ci does not run `make ci`".to_owned());
    }
    for (name, job) in jobs {
        let needs = &job["needs"];
        let waits = needs == "ci" || needs.as_array().is_some_and(|needs| needs.contains(&Value::from("ci")));
        if name != "ci" && !waits {
            problem(format!("the job {name} does not need ci: it would publish what no test has seen"));
        }
        for (scope, right) in job["permissions"].as_object().into_iter().flatten() {
            if right == "write"
                && !(matches!(name.as_str(), "image" | "publish") && scope == "packages")
                && !(name == "publish" && matches!(scope.as_str(), "id-token" | "attestations"))
            {
                problem(format!("the job {name} may write {scope}, which it has no use for"));
            }
        }
        for step in job["steps"].as_array().unwrap().iter().filter(|step| !step["with"]["file"].is_null()) {
            if step["with"]["file"] != DOCKERFILE || step["with"]["target"] != "runtime" {
                problem(format!("the job {name} builds {} of {}", step["with"]["target"], step["with"]["file"]));
            }
        }
    }
    problems
}

#[test]
fn ci_builds_and_scans_the_image_as_a_release_does() {
    none(&ci_problems(&checkout(CI)));
    caught_in(ci_problems, CI, "run: make image", "run: make lint", "no job runs `make image`");
    caught_in(ci_problems, CI, "severity: HIGH,CRITICAL", "severity: CRITICAL", "not the release's");
    caught_in(ci_problems, CI, "contents: read", "contents: write", "more than read");
    caught_in(ci_problems, CI, "timeout-minutes: 20", "timeout-hours: 20", "supply-chain has no timeout-minutes");
}

#[test]
fn the_builder_sees_what_it_needs_and_no_more() {
    none(&context_problems(&checkout(".dockerignore"), &checkout(DOCKERFILE)));
}

#[test]
fn a_release_is_tested_pinned_and_may_do_little() {
    none(&workflow_problems(&checkout(WORKFLOW)));
    none(&argument_problems(&checkout(WORKFLOW), &checkout(DOCKERFILE)));
}

/// Plants a fault in a text that is no part of deploy/.
#[track_caller]
fn caught_in(check: impl Fn(&str) -> Vec<String>, path: &str, from: &str, to: &str, named: &str) {
    let text = checkout(path);
    assert!(text.contains(from), "{path} does not contain `{from}`");
    let problems = check(&text.replacen(from, to, 1));
    assert!(problems.iter().any(|problem| problem.contains(named)), "`{to}` in {path} was not caught: {problems:#?}");
}

#[test]
fn a_context_with_too_much_or_too_little_is_caught() {
    let check = |ignore: &str| context_problems(ignore, &checkout(DOCKERFILE));
    caught_in(check, ".dockerignore", "\n*\n", "\n", "first pattern");
    caught_in(check, ".dockerignore", "!config\n", "", "config is copied");
    caught_in(check, ".dockerignore", "!src\n", "!src\n!.git\n", ".git is let in");
}

#[test]
fn a_release_with_a_loose_action_another_compiler_or_no_tests_is_caught() {
    caught_in(workflow_problems, WORKFLOW, "@37fe631027851001ddb9b187196cc803df7f5f0e", "@v4", "a tag can be moved");
    caught_in(workflow_problems, WORKFLOW, "RUST_VERSION: \"1.95.0\"", "RUST_VERSION: \"1.94.0\"", "builds with");
    caught_in(workflow_problems, WORKFLOW, "needs: ci", "needs: []", "image does not need ci");
    caught_in(workflow_problems, WORKFLOW, "run: make ci", "run: make lint", "does not run `make ci`");
    caught_in(workflow_problems, WORKFLOW, "contents: read", "contents: write", "may write contents");
    caught_in(workflow_problems, WORKFLOW, "permissions: {}", "permissions: write-all", "permissions at the top");
    caught_in(workflow_problems, WORKFLOW, "scanner:1.12.0@", "scanner:latest@", "SBOM_GENERATOR");
}

#[test]
fn a_build_argument_that_nothing_reads_and_an_sbom_without_crates_are_caught() {
    let in_dockerfile = |dockerfile: &str| argument_problems(&checkout(WORKFLOW), dockerfile);
    let declared = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=false\n";
    caught_in(in_dockerfile, DOCKERFILE, declared, "", "BUILDKIT_SBOM_SCAN_CONTEXT does nothing");
    let moved =
        |dockerfile: &str| in_dockerfile(&dockerfile.replace("AS builder\n", &format!("AS builder\n{declared}")));
    caught_in(moved, DOCKERFILE, declared, "", "before its first FROM");
    caught_in(in_dockerfile, DOCKERFILE, "ARG VERSION=0.0.0", "ARG VERSIO=0.0.0", "VERSION does nothing");
    let in_workflow = |workflow: &str| argument_problems(workflow, &checkout(DOCKERFILE));
    caught_in(in_workflow, WORKFLOW, "SCAN_CONTEXT=true", "SCAN_CONTEXT=false", "names no crate");
    caught_in(in_workflow, WORKFLOW, "pkg:cargo/tokio", "pkg:deb/debian", "no step looks for a crate");
}
