//! What the text of the runbooks names: the service's commands and flags, settings, metrics, log events, addresses, fault
//! routes, scripts. It says what a person would try, so all of it exists.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::Regex;

use super::{Files, cluster, rules};
use crate::{
    drills::blocks,
    repo::{
        self,
        deploy::{code, grafana::logql, promql::Known},
        docs::help,
    },
};

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static PROMQ: LazyLock<Regex> = LazyLock::new(|| pattern(r#"promq '((?:[^']|'"?\$[A-Z_]+"?')*)'"#));
static FILLED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"'"?\$[A-Z_]+"?'"#));
static CODE: LazyLock<Regex> = LazyLock::new(|| pattern(r"`([^`\n]+)`"));
static METRIC: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[a-z][a-z0-9]*(_[a-z0-9]+)+_(total|seconds|bytes|bucket|count|sum)\b"));
static SETTING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-z][a-z_]*(\.[a-z][a-z_]*)+$"));
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bAPP__[A-Z0-9_]+[A-Z0-9]"));
static EVENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\blogq ([a-z_|]+)"));
static TALLY: LazyLock<Regex> = LazyLock::new(|| pattern(r"\btally ((?:[a-z_]+ ?)+)"));
static COMMAND: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)(?:\bappctl|^keel|`keel)((?: [^\s`|;&)]+)+)"#));
static FAULT: LazyLock<Regex> = LazyLock::new(|| pattern(r"/v1/faults/[a-z-]+"));
static ADMIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:\$ADMIN|\$\{?INSTANCE\}?|:19464|:9464)(/[a-z][a-z/-]*)"));
static PLACE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(?:scripts|deploy|docs|config|migrations|runbooks|src)/[A-Za-z0-9_./-]*[A-Za-z0-9_]"));
static MAKE: LazyLock<Regex> = LazyLock::new(|| pattern(r"`make ([a-z][a-z-]*)"));

/// For the tests: what in a runbook is named wrongly, and how that is said.
pub const FAULTS: [(&str, &str, &str); 8] = [
    ("appctl api-key revoke", "appctl api-key revok", "no command `keel api-key revok`"),
    ("revoke --tenant", "revoke --tenants", "no flag --tenants"),
    (
        "http_server_requests_shed_total",
        "http_server_request_shed_total",
        "nobody exports `http_server_request_shed_total`",
    ),
    ("rollout undo deployment/keel", "rollout undo deployment/kiel", "no deployment `kiel`"),
    ("--namespace keel rollout", "--namespace kiel rollout", "no namespace `kiel`"),
    (
        "kubectl --namespace keel rollout undo",
        "kubectl --namespace keel rollback undo",
        "no kubectl command `rollback`",
    ),
    ("$ADMIN/health/ready", "$ADMIN/health/reddy", "the admin listener has no /health/reddy"),
    ("by (error_type, ", "by (error_kind, ", "label `error_kind`"),
];

pub fn problems(files: &Files) -> Vec<String> {
    let facts = Facts::of(files);
    let mut problems = Vec::new();
    for (folder, name, text) in files.runbooks().filter(|(folder, _, _)| *folder != "drills") {
        let found = facts.problems(text);
        problems.extend(found.into_iter().map(|problem| format!("runbooks/{folder}/{name}.md: {problem}")));
    }
    problems
}

/// What there is.
struct Facts {
    metrics: Known,
    sections: BTreeSet<String>,
    faults: String,
    admin: BTreeSet<String>,
    targets: BTreeSet<String>,
    cluster: cluster::Objects,
}

impl Facts {
    fn of(files: &Files) -> Self {
        let rules = rules(files);
        let sections = code().settings.keys().filter_map(|key| Some(key.split('.').next()?.to_owned()));
        let route = pattern(r#"route\(\s*"(/[^"]+)""#);
        let routes = |path: &str| -> Vec<String> {
            files
                .below(path, ".rs")
                .flat_map(|(_, text)| route.captures_iter(text))
                .map(|it| it[1].to_owned())
                .collect()
        };
        let makefile = std::fs::read_to_string(repo::root().join("Makefile")).unwrap();
        let targets = makefile.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned()));
        Self {
            metrics: Known::of(rules.iter().map(|rule| rule.text("/record")).filter(|name| !name.is_empty())),
            sections: sections.collect(),
            faults: routes("src/platform/faults/").join(" ") + " ",
            admin: routes("src/platform/admin/").into_iter().collect(),
            targets: targets.collect(),
            cluster: cluster::Objects::of(files),
        }
    }

    fn problems(&self, text: &str) -> Vec<String> {
        let mut problems: Vec<String> = PROMQ
            .captures_iter(text)
            .flat_map(|query| self.metrics.problems(&FILLED.replace_all(&query[1], "x")))
            .collect();
        for found in EVENT.captures_iter(text).flat_map(|found| found.get(1).unwrap().as_str().split('|')) {
            if !logql::is_event(found) {
                problems.push(format!("no line says `{found}`; docs/telemetry.md has the events"));
            }
        }
        for field in TALLY.captures_iter(text).flat_map(|found| found.get(1).unwrap().as_str().split_whitespace()) {
            if !logql::is_field(field) {
                problems.push(format!("lines have no field `{field}`"));
            }
        }
        for variable in VARIABLE.find_iter(text).map(|found| found.as_str()) {
            if !code().variables.contains(variable.trim_end_matches("_FILE")) {
                problems.push(format!("no setting has the variable {variable}"));
            }
        }
        for fault in FAULT.find_iter(text).map(|found| found.as_str()) {
            if !self.faults.contains(&format!("{fault} ")) {
                problems.push(format!("there is no fault route {fault}"));
            }
        }
        for path in ADMIN.captures_iter(text).map(|found| found[1].trim_end_matches('/').to_owned()) {
            if !self.admin.contains(&path) {
                problems.push(format!("the admin listener has no {path}, only {:?}", self.admin));
            }
        }
        for place in PLACE.find_iter(text).map(|found| found.as_str()) {
            if !repo::root().join(place).exists() {
                problems.push(format!("there is no {place}"));
            }
        }
        for target in MAKE.captures_iter(text).map(|found| found[1].to_owned()) {
            if !self.targets.contains(&target) {
                problems.push(format!("there is no `make {target}`"));
            }
        }
        problems.extend(COMMAND.captures_iter(text).filter_map(|found| wrong_words(found.get(1).unwrap().as_str())));
        problems.extend(prose(text).flat_map(|code| self.of_code(code)));
        for block in blocks::all(text) {
            problems.extend(self.cluster.problems(&block.text));
        }
        problems.extend(prose(text).flat_map(|code| self.cluster.problems(code)));
        problems.sort();
        problems.dedup();
        problems
    }

    /// A name between backticks.
    fn of_code(&self, code_span: &str) -> Vec<String> {
        let first = code_span.split('.').next().unwrap_or_default();
        if METRIC.is_match(code_span) {
            let query = code_span.split(['{', ' ', '[']).next().unwrap_or_default();
            return self.metrics.problems(query);
        }
        let is_setting = SETTING.is_match(code_span) && self.sections.contains(first);
        let known =
            |key: &str| code().settings.keys().any(|known| known == key || known.starts_with(&format!("{key}.")));
        if is_setting && !known(code_span) && !logql::is_attribute(code_span) {
            return vec![format!("there is no setting `{code_span}`; docs/configuration.md has them")];
        }
        Vec::new()
    }
}

/// What stands between backticks outside of blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    CODE.captures_iter(text).map(|found| found.get(1).unwrap().as_str())
}

/// The words after `keel`: commands first, then flags and values. Prose that goes on behind the name is no command.
fn wrong_words(words: &str) -> Option<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let is_name = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let (mut command, mut text) = (Vec::new(), help(&[])?);
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        if !is_name(word) || !text.contains("\nCommands:\n") {
            break;
        }
        command.push(*word);
        let Some(more) = help(&command) else {
            return Some(format!("there is no command `keel {}`", command.join(" ")));
        };
        text = more;
    }
    let mut flags = words.iter().filter_map(|word| word.split('=').next().filter(|word| word.starts_with("--")));
    let unknown = flags.rfind(|flag| !pattern(&format!(r"(?m)^ .*{flag}(\s|=|$)")).is_match(&text));
    unknown.map(|flag| format!("`keel {}` has no flag {flag}", command.join(" ")))
}
