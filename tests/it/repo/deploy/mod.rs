//! What `deploy/` says against what the code does: ports, paths, names, figures, queries. Each check looks at a
//! [`Tree`] and returns what is wrong, so that the same check can be shown a tree with a planted fault.

mod alerts;
mod collector;
mod compose;
pub mod dashboards;
mod datasources;
pub mod grafana;
mod graph;
mod image;
mod manifests;
mod prometheus;
pub mod promql;
mod release;
mod stack;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process;

/// A copy of what `deploy/` is checked against, or the checkout itself.
pub struct Tree {
    root: PathBuf,
    /// Removed with the tree.
    _copy: Option<TempDir>,
}

impl Tree {
    pub fn checkout() -> Self {
        Self { root: super::root(), _copy: None }
    }

    /// A copy of `deploy/` and `config/` in which the first `from` of `path` is `to`.
    pub fn planted(path: &str, from: &str, to: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["deploy", "config"] {
            copy(&super::root().join(folder), &directory.path().join(folder));
        }
        let tree = Self { root: directory.path().to_owned(), _copy: Some(directory) };
        let text = tree.text(path);
        assert!(text.contains(from), "{path} does not contain `{from}`: the fault can't be planted");
        std::fs::write(tree.root.join(path), text.replacen(from, to, 1)).unwrap();
        tree
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The documents of a YAML file. A key that stands twice is an error.
    pub fn yaml(&self, path: &str) -> Vec<Value> {
        serde_saphyr::from_multiple(&self.text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All files below `folder` whose names end so, as paths from the root, sorted.
    pub fn files(&self, folder: &str, ending: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.path(folder)];
        while let Some(directory) = left.pop() {
            for entry in
                std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if path.to_string_lossy().ends_with(ending) {
                    found.push(path.strip_prefix(&self.root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        assert!(!found.is_empty(), "no *{ending} in {folder}");
        found
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Fails with all that a check found in the checkout.
#[track_caller]
pub fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Plants a fault and expects the check to name it.
#[track_caller]
pub fn caught(check: fn(&Tree) -> Vec<String>, path: &str, from: &str, to: &str, named: &str) {
    let problems = check(&Tree::planted(path, from, to));
    assert!(
        problems.iter().any(|problem| problem.contains(named)),
        "`{to}` in {path} was not caught as `{named}`: {problems:#?}"
    );
}

/// What the binary says of itself.
pub struct Code {
    /// Labels of each metric by its name in the catalogue; a histogram's `_bucket`, `_sum` and `_count` are not in it.
    pub metrics: BTreeMap<String, BTreeSet<String>>,
    pub histograms: BTreeSet<String>,
    /// Default of each setting, by its full key, as docs/configuration.md prints it.
    pub settings: BTreeMap<String, String>,
    /// Each variable that sets something: `APP__…` and the well-known ones, without `_FILE`.
    pub variables: BTreeSet<String>,
    /// Those of them that hold a secret, and so may end in `_FILE`.
    pub secrets: BTreeSet<String>,
}

impl Code {
    /// The labels of a series, by its name as a query says it. None: there is no such metric.
    pub fn labels(&self, series: &str) -> Option<BTreeSet<String>> {
        if let Some(labels) = self.metrics.get(series).filter(|_| !self.histograms.contains(series)) {
            return Some(labels.clone());
        }
        let (base, suffix) = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| Some((series.strip_suffix(suffix)?, suffix)))?;
        let mut labels = self.metrics.get(base).filter(|_| self.histograms.contains(base))?.clone();
        if suffix == "_bucket" {
            labels.insert("le".to_owned());
        }
        Some(labels)
    }
}

pub fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(read_code)
}

fn printed(arguments: &[&str]) -> String {
    let output = process::run(arguments, &BTreeMap::new());
    assert!(output.status.success(), "{}", process::text(&output.stderr));
    process::text(&output.stdout)
}

fn read_code() -> Code {
    let catalogue: Value = serde_json::from_str(&printed(&["catalogue"])).unwrap();
    let mut metrics = BTreeMap::new();
    let mut histograms = BTreeSet::new();
    for metric in catalogue["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap().to_owned();
        let labels = metric["labels"].as_array().unwrap().iter().map(|label| label.as_str().unwrap().to_owned());
        metrics.insert(name.clone(), labels.collect());
        if metric["kind"] == "histogram" {
            histograms.insert(name);
        }
    }
    let (mut settings, mut variables, mut secrets) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut section = String::new();
    for line in printed(&["config", "reference"]).lines() {
        if let Some(name) = line.strip_prefix("## [").and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        }
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
        let [key, kind, default, variable, _meaning] = cells[..] else { continue };
        if key == "key" {
            continue;
        }
        settings.insert(format!("{section}.{key}"), default.trim_matches('"').to_owned());
        variables.insert(variable.to_owned());
        if kind == "secret" {
            secrets.insert(variable.to_owned());
        }
    }
    for line in printed(&["catalogue", "--markdown"]).lines() {
        let name = line.strip_prefix("| `").and_then(|rest| rest.split('`').next());
        variables.extend(name.filter(|name| name.starts_with("OTEL_")).map(ToOwned::to_owned));
        // The general ones have a form for each signal.
        if let Some(general) =
            name.filter(|_| line.contains("| ✓ |")).and_then(|name| name.strip_prefix("OTEL_EXPORTER_OTLP_"))
        {
            variables.extend(["TRACES", "LOGS"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}_{general}")));
        }
    }
    variables.insert("APP_ENVIRONMENT".to_owned());
    Code { metrics, histograms, settings, variables, secrets }
}

#[test]
fn the_code_says_what_the_checks_need() {
    let code = code();
    assert!(code.labels("http_server_request_duration_seconds_bucket").unwrap().contains("le"));
    assert!(code.labels("http_server_request_duration_seconds").is_none(), "a histogram has no series of its own name");
    assert!(code.labels("no_such_metric").is_none());
    assert_eq!(code.settings["http.bind"], "127.0.0.1:8080");
    assert!(code.variables.contains("DATABASE_URL") && code.secrets.contains("DATABASE_URL"));
    assert!(
        code.variables.contains("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            && code.variables.contains("OTEL_BSP_SCHEDULE_DELAY")
    );
    assert!(code.variables.contains("APP__ADMIN__BIND") && !code.secrets.contains("APP__ADMIN__BIND"));
}
