//! The forms of `.github`, Dependabot's groups, the workflow's matrices, and the devcontainer.

use std::{collections::BTreeSet, process::Command};

use regex::Regex;
use serde_json::Value;

use super::{named, text, tracked};
use crate::repo::{deploy::none, root};

const DEPENDABOT: &str = ".github/dependabot.yml";
const CI: &str = ".github/workflows/ci.yml";
const DEVCONTAINER: &str = ".devcontainer/devcontainer.json";
/// Two versions of one of these are two globals, or two forms of one message.
const FAMILY: [&str; 4] = ["opentelemetry", "tracing-opentelemetry", "tonic", "prost"];

fn yaml(path: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Names of the crates that Cargo.toml asks for, whatever the section.
fn crates() -> BTreeSet<String> {
    let manifest = text("Cargo.toml");
    let dependency = Regex::new(r"(?m)^([a-z0-9_-]+) = (?:\{ version|.\d)").unwrap();
    let sections = manifest.split("\n[").filter(|section| section.split(']').next().unwrap().ends_with("dependencies"));
    sections.flat_map(|section| dependency.captures_iter(section).map(|found| found[1].to_owned())).collect()
}

/// A form as GitHub takes it: it shows one that it can't read to nobody, and says so to nobody.
fn form_problems(path: &str, text: &str) -> Vec<String> {
    let form = yaml(path, text);
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{path}: {what}"));
    for key in ["name", "description"] {
        if !form[key].is_string() {
            say(format!("no {key}: GitHub would not show the form"));
        }
    }
    let mut ids = BTreeSet::new();
    for field in list(&form, "/body") {
        let kind = field["type"].as_str().unwrap_or_default();
        let attributes = &field["attributes"];
        match kind {
            "markdown" if attributes["value"].is_string() => continue,
            "textarea" | "input" => {}
            "dropdown" | "checkboxes" if list(attributes, "/options").next().is_some() => {}
            _ => say(format!("a field of type `{kind}` without what it needs")),
        }
        let id = field["id"].as_str().unwrap_or_default();
        if !ids.insert(id) || id.is_empty() {
            say(format!("the id `{id}` is missing or another field's"));
        }
        if !attributes["label"].is_string() {
            say(format!("the field `{id}` has no label"));
        }
    }
    if ids.is_empty() {
        say("it asks nothing".to_owned());
    }
    problems
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// The family is one group and in no other, and each place that has versions is looked at.
fn dependabot_problems(text: &str) -> Vec<String> {
    let file = yaml(DEPENDABOT, text);
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{DEPENDABOT}: {what}"));
    let mut watched = BTreeSet::new();
    for update in list(&file, "/updates") {
        let ecosystem = update["package-ecosystem"].as_str().unwrap_or_default();
        let one = update["directory"].as_str().into_iter();
        for directory in one.chain(list(update, "/directories").filter_map(Value::as_str)) {
            watched.insert(format!("{ecosystem} {directory}"));
        }
    }
    let mut needed = BTreeSet::from(["github-actions /".to_owned()]);
    for path in tracked() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        match name {
            "Cargo.lock" => drop(needed.insert(format!("cargo /{folder}"))),
            "Dockerfile" => drop(needed.insert(format!("docker /{folder}"))),
            _ => {}
        }
    }
    for place in needed.symmetric_difference(&watched) {
        say(format!("`{place}` is either not watched or not there"));
    }
    let first = list(&file, "/updates").find(|update| update["directory"] == "/").cloned().unwrap_or_default();
    let groups = &first["groups"];
    let patterns = |group: &str, key: &str| -> Vec<String> {
        list(&groups[group], &format!("/{key}")).filter_map(|pattern| Some(pattern.as_str()?.to_owned())).collect()
    };
    let (together, apart) = (patterns("opentelemetry", "patterns"), patterns("small", "exclude-patterns"));
    for name in crates() {
        let family = FAMILY.iter().any(|member| fits(&format!("{member}*"), &name));
        let in_group = together.iter().any(|pattern| fits(pattern, &name));
        let left_out = apart.iter().any(|pattern| fits(pattern, &name));
        if family && !(in_group && left_out) {
            say(format!("{name} could move without the rest of its family"));
        } else if !family && (in_group || left_out) {
            say(format!("{name} is no member of the family"));
        }
    }
    problems
}

/// The workflow takes each combination of features one by one: those that `make features` compiles, and no other.
fn feature_problems(workflow: &str) -> Vec<String> {
    let output = Command::new(root().join("scripts/features.sh")).arg("list").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(listed.len() > 2, "scripts/features.sh list printed {listed:?}");
    let document = yaml(CI, workflow);
    let matrix = list(&document, "/jobs/features/strategy/matrix/combination");
    let taken: BTreeSet<&str> = matrix.filter_map(Value::as_str).collect();
    let differ = listed.symmetric_difference(&taken);
    differ.map(|name| format!("{CI}: `{name}` is in the job features or in scripts/features.sh, not in both")).collect()
}

/// The workflow takes each clone path by itself: those that `make clones` proves, and no other.
fn clone_problems(workflow: &str) -> Vec<String> {
    let script = text("scripts/clones.sh");
    let proofs = script.lines().find_map(|line| line.strip_prefix("readonly PROOFS=(")?.strip_suffix(')')).unwrap();
    let proofs: BTreeSet<&str> = proofs.split(' ').collect();
    let document = yaml(CI, workflow);
    let taken: BTreeSet<&str> =
        list(&document, "/jobs/clones/strategy/matrix/path").filter_map(Value::as_str).collect();
    let differ = proofs.symmetric_difference(&taken);
    differ.map(|name| format!("{CI}: `{name}` is in the job clones or in scripts/clones.sh, not in both")).collect()
}

/// The Makefile runs what is there.
fn makefile_problems(makefile: &str) -> Vec<String> {
    let scripts =
        makefile.lines().filter(|line| line.starts_with('\t')).flat_map(|line| line.split([' ', '@', ';', '(']));
    let gone =
        scripts.filter(|word| word.starts_with("scripts/") && !root().join(word.trim_end_matches(')')).is_file());
    gone.map(|script| format!("Makefile: {script} is not there")).collect()
}

#[test]
fn each_clone_path_is_proven_by_the_workflow() {
    let workflow = text(CI);
    none(&clone_problems(&workflow));
    let problems = clone_problems(&workflow.replace("path: [rename, ", "path: [rename, all, "));
    assert!(problems.iter().any(|problem| problem.contains("`all`")), "{problems:?}");
}

#[test]
fn the_makefile_runs_scripts_that_are_there() {
    let makefile = text("Makefile");
    none(&makefile_problems(&makefile));
    let problems = makefile_problems(&format!("{makefile}\nnone:\n\t@exec scripts/none.sh\n"));
    assert_eq!(problems, ["Makefile: scripts/none.sh is not there"]);
}

/// Workflows run what is there: scripts of the tree and targets of the Makefile.
fn command_problems(path: &str, workflow: &str) -> Vec<String> {
    let makefile = text("Makefile");
    let document = yaml(path, workflow);
    let jobs = document["jobs"].as_object().into_iter().flatten();
    let steps = jobs.flat_map(|(_, job)| job["steps"].as_array().into_iter().flatten());
    let commands: Vec<&str> = steps.filter_map(|step| step["run"].as_str()).flat_map(str::lines).collect();
    let mut problems = Vec::new();
    for words in commands.iter().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        match words[..] {
            ["make", target, ..] if !makefile.contains(&format!("\n{target}:")) => {
                problems.push(format!("{path}: there is no `make {target}`"));
            }
            [script, ..] if script.starts_with("scripts/") && !root().join(script).is_file() => {
                problems.push(format!("{path}: there is no {script}"));
            }
            _ => {}
        }
    }
    problems
}

/// The container has the image's compiler, and forwards what the service listens on.
fn devcontainer_problems(dockerfile: &str, json: &str) -> Vec<String> {
    let from = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("FROM ")).unwrap_or_default();
        line.split(' ').next().unwrap().to_owned()
    };
    let mut problems = Vec::new();
    let image = text("deploy/Dockerfile");
    if from(dockerfile) != from(&image) {
        problems.push(format!(
            ".devcontainer/Dockerfile is from {}, the image from {}",
            from(dockerfile),
            from(&image)
        ));
    }
    let plain: String = json.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let container: Value = serde_json::from_str(&plain).unwrap_or_else(|error| panic!("{DEVCONTAINER}: {error}"));
    let built = container["build"]["dockerfile"].as_str().unwrap_or_default();
    if !root().join(".devcontainer").join(built).is_file() {
        problems.push(format!("{DEVCONTAINER}: there is no {built}"));
    }
    let user = container["remoteUser"].as_str().unwrap_or("root");
    if user == "root" || !dockerfile.contains(&format!("USER {user}\n")) {
        problems.push(format!("{DEVCONTAINER}: Postgres does not run as {user}; the Dockerfile's user does"));
    }
    let settings = text("config/default.toml");
    for port in list(&container, "/forwardPorts") {
        if !settings.contains(&format!("127.0.0.1:{port}\"")) {
            problems.push(format!("{DEVCONTAINER}: nothing listens on {port} by default (config/default.toml)"));
        }
        if container["portsAttributes"][port.to_string()]["label"].is_null() {
            problems.push(format!("{DEVCONTAINER}: the port {port} has no label"));
        }
    }
    problems
}

#[test]
fn forms_are_such_as_github_shows() {
    let paths: Vec<String> = tracked().into_iter().filter(|path| path.starts_with(".github/ISSUE_TEMPLATE/")).collect();
    let forms: Vec<&String> = paths.iter().filter(|path| !path.ends_with("/config.yml")).collect();
    assert!(forms.len() >= 2 && paths.len() > forms.len(), "{paths:?}");
    none(&forms.iter().flat_map(|path| form_problems(path, &text(path))).collect::<Vec<_>>());
    let bug = text(".github/ISSUE_TEMPLATE/bug.yml");
    let planted = |from: &str, to: &str| form_problems("bug.yml", &bug.replacen(from, to, 1));
    named(&planted("name: ", "title: "), "no name");
    named(&planted("id: steps", "id: happened"), "`happened` is missing or another");
    named(&planted("options: [", "choices: ["), "type `dropdown` without");
    named(&planted("label: Version", "text: Version"), "`version` has no label");
}

#[test]
fn every_yaml_file_of_github_can_be_read() {
    let paths: Vec<String> = tracked().into_iter().filter(|path| path.starts_with(".github/")).collect();
    for path in paths.iter().filter(|path| path.ends_with(".yml") || path.ends_with(".yaml")) {
        assert!(yaml(path, &text(path)).is_object(), "{path} says nothing");
    }
    assert!(serde_saphyr::from_str::<Value>("a: 1\na: 2\n").is_err(), "a key that stands twice would pass");
}

#[test]
fn what_must_move_together_does() {
    let file = text(DEPENDABOT);
    none(&dependabot_problems(&file));
    let planted = |from: &str, to: &str| dependabot_problems(&file.replacen(from, to, 1));
    named(&planted("- tracing-opentelemetry", "- tracing"), "tracing-opentelemetry could move without");
    named(&planted("- tonic*", "- to*"), "tokio is no member");
    named(&planted("/deploy, ", ""), "docker /deploy");
    named(&planted("directory: /tests/fuzz", "directory: /fuzz"), "cargo /tests/fuzz");
}

#[test]
fn every_combination_of_features_is_compiled() {
    let workflow = text(CI);
    none(&feature_problems(&workflow));
    named(&feature_problems(&workflow.replacen("- only-heap-profile", "- heap", 1)), "`only-heap-profile` is in");
    named(&feature_problems(&workflow.replacen("- only-heap-profile", "- heap", 1)), "`heap` is in");
}

#[test]
fn workflows_run_what_is_there() {
    let paths: Vec<String> = tracked().into_iter().filter(|path| path.starts_with(".github/workflows/")).collect();
    assert!(paths.len() >= 2, "{paths:?}");
    none(&paths.iter().flat_map(|path| command_problems(path, &text(path))).collect::<Vec<_>>());
    let planted = |from: &str, to: &str| command_problems(CI, &text(CI).replacen(from, to, 1));
    named(&planted("run: make deny", "run: make denial"), "no `make denial`");
    named(&planted("run: scripts/features.sh", "run: scripts/feature.sh"), "no scripts/feature.sh");
}

#[test]
fn the_devcontainer_is_what_the_image_is_built_with() {
    let (dockerfile, json) = (text(".devcontainer/Dockerfile"), text(DEVCONTAINER));
    none(&devcontainer_problems(&dockerfile, &json));
    named(&devcontainer_problems(&dockerfile.replace("rust:1", "rust:0"), &json), "the image from");
    named(&devcontainer_problems(&dockerfile, &json.replace("[8080,", "[8081,")), "nothing listens on 8081");
    named(&devcontainer_problems(&dockerfile, &json.replace("\"dev\"", "\"root\"")), "does not run as root");
}
