//! The Dockerfile against the code and the manifests. What it may see, and its release, are in `release`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Tree, caught, code, none};
use crate::support::process;

pub const DOCKERFILE: &str = "deploy/Dockerfile";
const IMAGE_ROOT: &str = "deploy/image-root.sh";
const DEPLOYMENT: &str = "deploy/kubernetes/base/deployment.yaml";
const BINARY: &str = "/usr/local/bin/keel";
const LOWEST_USER: u32 = 10_000;

pub fn checkout(path: &str) -> String {
    std::fs::read_to_string(super::super::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub struct Stage {
    pub image: String,
    name: String,
    /// Instruction and its arguments, continued lines joined.
    steps: Vec<(String, String)>,
}

impl Stage {
    pub fn all<'a>(&'a self, instruction: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.steps.iter().filter(move |(name, _)| name == instruction).map(|(_, rest)| rest.as_str())
    }

    fn last<'a>(&'a self, instruction: &'a str) -> &'a str {
        self.all(instruction).next_back().unwrap_or_default()
    }
}

pub fn stages(dockerfile: &str) -> Vec<Stage> {
    let text: Vec<&str> = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = text.join("\n").replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        if instruction == "FROM" {
            let (image, name) = rest.split_once(" AS ").unwrap_or((&rest, ""));
            stages.push(Stage { image: image.to_owned(), name: name.to_owned(), steps: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.steps.push((instruction.to_owned(), rest));
        }
    }
    stages
}

/// The words of the exec form; None for what a shell would have to run.
fn exec_form(arguments: &str) -> Option<Vec<String>> {
    serde_json::from_str(arguments).ok()
}

pub fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    let tag = name.rsplit('/').next().unwrap().split_once(':').map(|(_, tag)| tag);
    tag.is_some_and(|tag| tag != "latest") && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The numbers of the Rust image's tag.
pub fn builder_rust(stages: &[Stage]) -> String {
    let image = stages.iter().map(|stage| stage.image.as_str()).find(|image| image.contains("rust:"));
    let tag = image.and_then(|image| image.split("rust:").nth(1)).unwrap_or_default();
    tag.chars().take_while(|&c| c.is_ascii_digit() || c == '.').collect()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

fn values<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|inner| values(inner, key, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| values(inner, key, found)),
        _ => {}
    }
}

fn build_problems(tree: &Tree) -> Vec<String> {
    let stages = stages(&tree.text(DOCKERFILE));
    let mut problems = Vec::new();
    let mut known = BTreeSet::from(["scratch"]);
    for stage in &stages {
        if !known.contains(stage.image.as_str()) && !is_pinned(&stage.image) {
            problems.push(format!("{DOCKERFILE}: `FROM {}` wants an exact tag and a digest", stage.image));
        }
        known.insert(&stage.name);
    }
    let rust = builder_rust(&stages);
    let cargo = checkout("Cargo.toml");
    let least = cargo.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).unwrap();
    if numbers(&rust) < numbers(least) {
        problems.push(format!("{DOCKERFILE}: Rust {rust} is older than Cargo.toml's rust-version {least}"));
    }
    for stage in stages.iter().filter(|stage| stage.name == "builder" || stage.name == "runtime") {
        if !stage.all("ARG").any(|argument| argument.starts_with("GIT_SHA=")) {
            problems
                .push(format!("{DOCKERFILE}: the stage {} has no ARG GIT_SHA: it can't know its commit", stage.name));
        }
    }
    let source = cargo.lines().find_map(|line| line.strip_prefix("repository = ")).unwrap();
    let labels = stages.last().map(|stage| stage.last("LABEL")).unwrap_or_default();
    for wanted in [
        "org.opencontainers.image.revision=\"${GIT_SHA}\"".to_owned(),
        "org.opencontainers.image.version=\"${VERSION}\"".to_owned(),
        format!("org.opencontainers.image.source={source}"),
        "org.opencontainers.image.title=\"keel\"".to_owned(),
    ] {
        if !labels.contains(&wanted) {
            problems.push(format!("{DOCKERFILE}: no label {wanted}"));
        }
    }
    problems
}

fn user_problems(tree: &Tree) -> Vec<String> {
    let stages = stages(&tree.text(DOCKERFILE));
    let user = stages.last().unwrap().last("USER");
    let ids: Vec<u32> = user.split(':').filter_map(|id| id.parse().ok()).collect();
    let [uid, gid] = ids[..] else {
        return vec![format!(
            "{DOCKERFILE}: USER {user} is not uid:gid in numbers, so Kubernetes can't tell it from root"
        )];
    };
    let mut problems = Vec::new();
    if uid < LOWEST_USER || gid < LOWEST_USER {
        problems.push(format!("{DOCKERFILE}: USER {user} is below {LOWEST_USER}: the host may have such a user"));
    }
    if !tree.text(IMAGE_ROOT).contains(&format!("keel:x:{uid}:{gid}:")) {
        problems.push(format!("{IMAGE_ROOT}: its passwd has no keel:x:{uid}:{gid}, the Dockerfile's USER"));
    }
    if !tree.path(DEPLOYMENT).is_file() {
        problems.push(format!("{DEPLOYMENT}: missing, so nothing says that pods run as {user}"));
        return problems;
    }
    let documents = Value::Array(tree.yaml(DEPLOYMENT));
    for (key, id) in [("runAsUser", uid), ("runAsGroup", gid)] {
        let mut found = Vec::new();
        values(&documents, key, &mut found);
        if found.is_empty() {
            problems.push(format!("{DEPLOYMENT}: no {key}; the image has {id}"));
        }
        for other in found.into_iter().filter(|&found| found != id) {
            problems.push(format!("{DEPLOYMENT}: {key} {other} is not the image's {id}"));
        }
    }
    problems
}

fn command_problems(tree: &Tree) -> Vec<String> {
    let stages = stages(&tree.text(DOCKERFILE));
    let last = stages.last().unwrap();
    let mut problems = Vec::new();
    let mut problem = |text: String| problems.push(format!("{DOCKERFILE}: {text}"));
    if last.name != "runtime" || last.image != "scratch" || last.all("RUN").next().is_some() {
        problem(format!(
            "the last stage is to be runtime, from scratch and without RUN; it is {}, from {}",
            last.name, last.image
        ));
    }
    if exec_form(last.last("ENTRYPOINT")) != Some(vec![BINARY.to_owned()]) {
        problem(format!("ENTRYPOINT {} is not [\"{BINARY}\"]: there is no shell to run it", last.last("ENTRYPOINT")));
    }
    if !last.all("COPY").eq(["--from=builder /out/root/ /"]) {
        problem("COPY is not /out/root/ to / alone: the same files would no longer make the same layer".to_owned());
    }
    let health = last.last("HEALTHCHECK").split_once("CMD ").map_or("", |(_, command)| command);
    match exec_form(health).as_deref() {
        Some([binary, command]) if binary == BINARY => subcommands(&mut problem, "HEALTHCHECK", command),
        _ => problem(format!("HEALTHCHECK {health} is not [\"{BINARY}\", <command>]")),
    }
    match exec_form(last.last("CMD")).as_deref() {
        Some([command]) => subcommands(&mut problem, "CMD", command),
        _ => problem(format!("CMD {} is not [<command>]", last.last("CMD"))),
    }

    if !tree.text(IMAGE_ROOT).contains(&format!("install -D -m 755 \"$BINARY\" \"$ROOT{BINARY}\"")) {
        problem(format!("{IMAGE_ROOT} does not put the binary at {BINARY}, the entrypoint"));
    }

    let code = code();
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let defaults = BTreeSet::from(["http.bind", "admin.bind"].map(|key| port(&code.settings[key])));
    let exposed: BTreeSet<String> = last.all("EXPOSE").flat_map(str::split_whitespace).map(ToOwned::to_owned).collect();
    if exposed != defaults {
        problem(format!("EXPOSE {exposed:?}, but the service listens on {defaults:?} (config/default.toml)"));
    }
    for (variable, value) in last.all("ENV").flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('=')) {
        if !code.variables.contains(variable) {
            problem(format!("ENV {variable} sets nothing (docs/configuration.md has the variables)"));
        } else if variable.ends_with("__BIND") && !exposed.contains(&port(value)) {
            problem(format!("ENV {variable}={value}: EXPOSE does not have that port"));
        }
    }
    problems
}

fn subcommands(problem: &mut impl FnMut(String), instruction: &str, command: &str) {
    if !process::run(&[command, "--help"], &BTreeMap::new()).status.success() {
        problem(format!("{instruction}: there is no `keel {command}` (keel --help)"));
    }
}

/// Each file with a name that stands for the user's own is in the table of those.
fn name_problems(tree: &Tree) -> Vec<String> {
    let docs = checkout("docs/deploy.md");
    let section = docs.split("### Replace these names\n").nth(1).unwrap_or_default();
    let section = section.split("\n#").next().unwrap();
    let mut problems = Vec::new();
    for name in ["https://example.com/keel/keel", "ghcr.io/example/keel", "https://github.com/example/keel"] {
        // Two of them are one address in a project that has its own: `make rename REPOSITORY=…`.
        let rows: String = section.lines().filter(|line| line.starts_with(&format!("| `{name}` |"))).collect();
        let files = tree.files("deploy", "");
        for path in files.into_iter().filter(|path| tree.text(path).contains(name) && !rows.contains(path.as_str())) {
            problems.push(format!("{path}: {name} stands for the user's own: docs/deploy.md, \"Replace these names\""));
        }
    }
    problems
}

#[test]
fn every_name_that_stands_for_the_users_own_is_in_the_table_of_those() {
    none(&name_problems(&Tree::checkout()));
    caught(
        name_problems,
        "deploy/compose.yaml",
        "image: keel:dev",
        "image: ghcr.io/example/keel:1",
        "stands for the user's",
    );
}

#[test]
fn the_dockerfile_says_what_the_code_and_the_manifests_say() {
    let tree = Tree::checkout();
    none(&[build_problems(&tree), user_problems(&tree), command_problems(&tree)].concat());
}

#[test]
fn a_loose_base_image_an_old_compiler_and_a_lost_commit_are_caught() {
    caught(build_problems, DOCKERFILE, "@sha256:", "-", "exact tag and a digest");
    caught(build_problems, DOCKERFILE, ":1.95.0-slim-bookworm@", ":latest@", "exact tag and a digest");
    caught(build_problems, DOCKERFILE, "rust:1.95.0", "rust:1.80.0", "older than");
    caught(build_problems, DOCKERFILE, "ARG GIT_SHA=unknown\n", "", "builder has no ARG GIT_SHA");
    caught(build_problems, DOCKERFILE, "image.revision=\"${GIT_SHA}\"", "image.revision=\"main\"", "image.revision");
}

#[test]
fn a_user_that_is_root_a_name_or_not_the_manifests_is_caught() {
    caught(user_problems, DOCKERFILE, "USER 65532:65532", "USER 0:0", "below 10000");
    caught(user_problems, DOCKERFILE, "USER 65532:65532", "USER keel", "in numbers");
    caught(user_problems, DOCKERFILE, "USER 65532:65532", "", "in numbers");
    caught(user_problems, DOCKERFILE, "USER 65532:65532", "USER 65534:65532", "passwd has no");
    caught(user_problems, DEPLOYMENT, "runAsUser: 65532", "runAsUser: 1000", "runAsUser 1000");
}

#[test]
fn a_wrong_port_command_or_shell_form_is_caught() {
    caught(command_problems, DOCKERFILE, "EXPOSE 8080 9464", "EXPOSE 8080 9465", "EXPOSE");
    caught(command_problems, DOCKERFILE, "0.0.0.0:9464", "0.0.0.0:9465", "does not have that port");
    caught(command_problems, DOCKERFILE, "APP__ADMIN__BIND", "APP__ADMN__BIND", "sets nothing");
    caught(command_problems, DOCKERFILE, "\"healthcheck\"]", "\"health-check\"]", "no `keel health-check`");
    caught(
        command_problems,
        DOCKERFILE,
        "[\"/usr/local/bin/keel\", \"healthcheck\"]",
        "keel healthcheck",
        "HEALTHCHECK",
    );
    caught(command_problems, DOCKERFILE, "ENTRYPOINT [\"/usr/local/bin/keel\"]", "ENTRYPOINT keel", "no shell");
    caught(command_problems, DOCKERFILE, "/out/root/ /\n", "/out/root/ /\nCOPY --from=builder /a /b\n", "same layer");
    caught(command_problems, IMAGE_ROOT, "\"$ROOT/usr/local/bin/keel\"", "\"$ROOT/keel\"", "the entrypoint");
    caught(command_problems, DOCKERFILE, "FROM scratch", "FROM builder", "from scratch");
}
