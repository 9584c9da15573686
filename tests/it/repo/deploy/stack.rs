//! The compose files as one: what services, secrets, volumes and networks there are, and who reaches whom. And each set
//! of them that somebody is told to start, by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use regex::Regex;
use serde_json::Value;

use super::{Tree, caught, none};

/// What listens inside each container, without those of the example. Published by their images or their configuration.
const PORTS: [(&str, &[u16]); 13] = [
    ("keel", &[8080, 9464]),
    ("postgres", &[5432]),
    ("redis", &[6379]),
    ("otel-collector", &[4317, 4318, 8888, 13133, 24224]),
    ("prometheus", &[9090]),
    ("alertmanager", &[9093]),
    ("alert-sink", &[8080]),
    ("postgres-exporter", &[9187]),
    ("redis-exporter", &[9121]),
    ("tempo", &[3200, 4317]),
    ("loki", &[3100]),
    ("grafana", &[3000]),
    ("jaeger", &[4317, 4318, 13133, 16686]),
];

/// The services of all compose files together, each with what any of the files says of it.
#[derive(Default)]
pub struct Stack {
    pub services: BTreeMap<String, Value>,
    pub secrets: BTreeMap<String, Value>,
    pub volumes: BTreeSet<String>,
    pub networks: BTreeSet<String>,
}

impl Stack {
    pub fn of(tree: &Tree) -> Self {
        let files = tree.files("deploy", ".yaml");
        Self::of_files(tree, files.iter().map(String::as_str).filter(|path| path.starts_with("deploy/compose")))
    }

    fn of_files<'a>(tree: &Tree, files: impl IntoIterator<Item = &'a str>) -> Self {
        let mut stack = Self::default();
        for path in files {
            let document = &tree.yaml(path)[0];
            for (name, service) in entries(&document["services"]) {
                merge(stack.services.entry(name.clone()).or_insert(Value::Null), service);
            }
            stack.secrets.extend(entries(&document["secrets"]).map(|(name, secret)| (name.clone(), secret.clone())));
            stack.volumes.extend(entries(&document["volumes"]).map(|(name, _)| name.clone()));
            stack.networks.extend(entries(&document["networks"]).map(|(name, _)| name.clone()));
        }
        stack
    }

    /// What is wrong with an address inside the network. `from` is on a network with it, or is None for anybody.
    pub fn unreachable(&self, from: Option<&str>, host: &str, port: u16) -> Option<String> {
        let Some(service) = self.services.get(host) else {
            return Some(format!("there is no service `{host}`; those are {:?}", self.services.keys()));
        };
        let known = PORTS.iter().find(|(name, _)| *name == host).map(|(_, ports)| *ports);
        // The example's say by their own port what they listen on.
        let published = strings(&service["ports"]).filter_map(|port| port.rsplit(':').next()?.parse().ok());
        if !known.unwrap_or(&[]).contains(&port) && !published.collect::<Vec<u16>>().contains(&port) {
            return Some(format!("`{host}` does not listen on {port}; it does on {known:?}"));
        }
        let from = &self.services[from?];
        (networks(from).is_disjoint(&networks(service))).then(|| format!("no network is shared with `{host}`"))
    }

    pub fn secret_targets(&self, service: &str) -> BTreeSet<String> {
        self.services.get(service).into_iter().flat_map(secrets).map(|(_, target)| target).collect()
    }
}

/// As `docker compose` adds a later file: maps by key, lists one after the other, all else replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

pub fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

pub fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub fn networks(service: &Value) -> BTreeSet<&str> {
    let named: BTreeSet<&str> = strings(&service["networks"]).collect();
    if named.is_empty() { BTreeSet::from(["default"]) } else { named }
}

/// Name and path in the container of each secret.
pub fn secrets(service: &Value) -> Vec<(String, String)> {
    let list = service["secrets"].as_array().into_iter().flatten();
    list.map(|secret| match secret {
        Value::String(name) => (name.clone(), format!("/run/secrets/{name}")),
        long => (text(&long["source"]).to_owned(), text(&long["target"]).to_owned()),
    })
    .collect()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `${NAME:-default}` as it is without the variable.
pub fn resolved(text: &str) -> String {
    Regex::new(r"\$\{[A-Z_]+:-([^}]*)\}").unwrap().replace_all(text, "$1").into_owned()
}

/// What `scripts/up.sh` starts, with and without what watches, and each `docker compose -f … -f …` that is written
/// down somewhere.
fn sets(tree: &Tree) -> BTreeSet<Vec<String>> {
    let root = crate::repo::root();
    let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let listed = |folder: &str, beginning: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let wanted =
            |path: &PathBuf| path.is_file() && path.file_name().unwrap().to_string_lossy().starts_with(beginning);
        entries.filter(wanted).collect()
    };

    let written = Regex::new(r"docker compose((?: (?:-f|--file) [a-z./-]+\.yaml)+)").unwrap();
    let heads =
        tree.files("deploy", ".yaml").into_iter().chain(tree.files("deploy", ".sh")).map(|path| tree.text(&path));
    let pages = listed("docs", "").into_iter().chain(listed("scripts", "")).chain([root.join("README.md")]).map(read);
    let mut sets: BTreeSet<Vec<String>> = BTreeSet::new();
    for text in heads.chain(pages) {
        for found in written.captures_iter(&text) {
            sets.insert(found[1].split(' ').filter(|word| word.ends_with(".yaml")).map(ToOwned::to_owned).collect());
        }
    }

    // The example's script adds to the two lists.
    let added = Regex::new(r"(?m)^\s*([A-Za-z_]+)\+?=\((deploy/compose[^)]*)\)").unwrap();
    let scripts = [root.join("scripts/up.sh")].into_iter().chain(listed("scripts/lib", "compose-")).map(read);
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in scripts {
        for found in added.captures_iter(&text) {
            let files = found[2].split(' ').filter(|word| word.ends_with(".yaml")).map(ToOwned::to_owned);
            lists.entry(found[1].to_owned()).or_default().extend(files);
        }
    }
    let list = |name: &str| lists.get(name).cloned().unwrap_or_default();
    sets.insert(list("COMPOSE_FILES"));
    sets.insert([list("COMPOSE_FILES"), list("files"), list("COMPOSE_LAST_FILES")].concat());
    sets
}

/// Each of those sets by itself: what a service needs is in it, and what ends is waited for.
fn set_problems(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for files in sets(tree) {
        let stack = Stack::of_files(tree, files.iter().map(String::as_str));
        let started: BTreeMap<&String, &Value> =
            stack.services.iter().filter(|(_, service)| service["profiles"].is_null()).collect();
        for (name, service) in &stack.services {
            let mut add = |what: String| problems.push(format!("{}: {name}: {what}", files.join(" + ")));
            if text(&service["image"]).is_empty() {
                add("none of these files says what it is: the one that does has to be among them".to_owned());
            }
            for (other, _) in entries(&service["depends_on"]).filter(|(other, _)| !stack.services.contains_key(*other))
            {
                add(format!("depends on `{other}`, which is in none of these files"));
            }
            for (secret, _) in secrets(service).iter().filter(|(secret, _)| !stack.secrets.contains_key(secret)) {
                add(format!("wants the secret `{secret}`, which is in none of these files"));
            }
            let volumes = strings(&service["volumes"]).filter_map(|volume| volume.split(':').next());
            for volume in volumes.filter(|source| !source.starts_with('.') && !stack.volumes.contains(*source)) {
                add(format!("wants the volume `{volume}`, which is in none of these files"));
            }
            let awaited = started
                .values()
                .any(|other| other["depends_on"][name.as_str()]["condition"] == "service_completed_successfully");
            if service["restart"] == "no" && started.contains_key(name) && !awaited {
                add("ends, and no service waits for that: `up --wait` would fail, so let one depend on it with \
                     service_completed_successfully"
                    .to_owned());
            }
        }
    }
    problems
}

#[test]
fn every_set_of_compose_files_that_is_written_down_starts_by_itself() {
    let tree = Tree::checkout();
    let alone = vec!["deploy/compose.yaml".to_owned()];
    let watched = [alone.clone(), vec!["deploy/compose.observability.yaml".to_owned()]].concat();
    let sets = sets(&tree);
    assert!(sets.contains(&alone) && sets.contains(&watched), "not found where they are written: {sets:?}");
    none(&set_problems(&tree));
}

#[test]
fn a_set_in_which_nobody_waits_for_what_ends_is_caught() {
    let base = "deploy/compose.yaml";
    let watching = "deploy/compose.observability.yaml";
    let waits = "      probe: {condition: service_completed_successfully}\n";
    caught(set_problems, base, waits, "", "deploy/compose.yaml: probe: ends, and no service waits");
    caught(
        set_problems,
        base,
        "migrate: {condition: service_completed_successfully}",
        "migrate: {condition: service_started}",
        "migrate: ends",
    );
    caught(set_problems, base, "volumes:\n  postgres: {}", "volumes:\n  pg: {}", "wants the volume `postgres`");
    caught(
        set_problems,
        watching,
        "  redis-exporter: {file",
        "  redis-exporters: {file",
        "the secret `redis-exporter`",
    );
    caught(set_problems, watching, "      tempo: {cond", "      temp: {cond", "depends on `temp`");
    caught(set_problems, base, "image: redis:", "imag: redis:", "says what it is");
}
