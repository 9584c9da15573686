//! The graph is closed: metric → panel → alert → test, runbook, drill, and back. No node without its neighbours, no edge
//! that leads nowhere. What the runbooks' commands name is in `commands`, and what of it is for a cluster in `cluster`.

mod cluster;
mod commands;
mod form;
mod ran;
mod shown;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::{
    parser::{self, Expr},
    util::{ExprVisitor, walk_expr},
};
use regex::Regex;
use serde_json::Value;

use crate::{drills::file::Drill, repo};

/// What only a cluster can show has no drill.
const NOT_DRILLED: &str = "cluster";
/// Series of alerts that no panel shows, each with the reason.
const UNSHOWN: &[(&str, &str)] = &[("up", "every panel about processes says it: no line is down")];

/// The texts that make the graph, by their paths.
#[derive(Clone)]
pub struct Files(BTreeMap<String, String>);

impl Files {
    fn checkout() -> Self {
        let places =
            ["runbooks", "deploy/prometheus", "deploy/grafana/dashboards", "deploy/kubernetes", "src/platform"];
        Self(repo::files(&places).into_iter().map(|file| (file.path, file.text)).collect())
    }

    fn below(&self, folder: &str, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        let fits = move |(path, _): &(&str, &str)| path.starts_with(folder) && path.ends_with(ending);
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str())).filter(fits)
    }

    fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// The documents, by folder and name: `platform`, `PostgresDown`.
    fn runbooks(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.below("runbooks/", ".md").filter_map(|(path, text)| {
            let (folder, name) = path.strip_prefix("runbooks/")?.strip_suffix(".md")?.split_once('/')?;
            Some((folder, name, text))
        })
    }

    fn drills(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.below("runbooks/drills/", ".yaml").filter_map(|(path, text)| {
            let (folder, name) = path.strip_prefix("runbooks/drills/")?.strip_suffix(".yaml")?.split_once('/')?;
            Some((folder, name, text))
        })
    }
}

/// A rule with a name, and the file it is in.
struct Rule {
    file: String,
    rule: Value,
}

impl Rule {
    fn text(&self, key: &str) -> &str {
        self.rule.pointer(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.text("/alert")
    }
}

fn rules(files: &Files) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (path, text) in files.below("deploy/prometheus/rules/", ".yaml") {
        let file = path.rsplit('/').next().unwrap().trim_end_matches(".yaml");
        let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let all = document["groups"].as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array());
        rules.extend(all.flatten().map(|rule| Rule { file: file.to_owned(), rule: rule.clone() }));
    }
    rules
}

fn alerts(files: &Files) -> Vec<Rule> {
    rules(files).into_iter().filter(|rule| !rule.name().is_empty()).collect()
}

/// Each alert has a test, a runbook, a drill and a dashboard, and its links lead there.
fn alerts_have_all(files: &Files) -> Vec<String> {
    let tests: String = files.below("deploy/prometheus/tests/", ".yaml").map(|(_, text)| text).collect();
    let uids: BTreeSet<String> = files
        .below("deploy/grafana/dashboards/", ".json")
        .filter_map(|(_, text)| Some(serde_json::from_str::<Value>(text).ok()?["uid"].as_str()?.to_owned()))
        .collect();
    let uid = Regex::new("/d/([a-z0-9-]+)").unwrap();
    let mut problems = Vec::new();
    for rule in alerts(files) {
        let (name, file) = (rule.name(), &rule.file);
        let mut say = |what: String| problems.push(format!("alert {name} ({file}.yaml): {what}"));
        if !Regex::new(&format!("alertname(: |=\"){name}\\b")).unwrap().is_match(&tests) {
            say("no test in deploy/prometheus/tests: it fires, a near miss does not, it clears".to_owned());
        }
        let runbook = format!("runbooks/{file}/{name}.md");
        if files.text(&runbook).is_empty() {
            say(format!("no runbook {runbook}"));
        }
        if !rule.text("/annotations/runbook_url").ends_with(&format!("/{runbook}")) {
            say(format!("runbook_url does not end with {runbook}"));
        }
        let drilled = files.drills().any(|(folder, drill, _)| folder == file && drill.split('-').next() == Some(name));
        if !drilled && file != NOT_DRILLED {
            say(format!("no drill runbooks/drills/{file}/{name}.yaml"));
        }
        let url = rule.text("/annotations/dashboard_url");
        if !uid.captures(url).is_some_and(|found| uids.contains(&found[1])) {
            say(format!("dashboard_url `{url}` leads to no dashboard; there are {uids:?}"));
        }
    }
    problems
}

/// Each runbook and each drill is about an alert of its folder's rules, and listed.
fn nothing_without_alert(files: &Files) -> Vec<String> {
    let alerts = alerts(files);
    let mut problems = Vec::new();
    // The platform's, and one of each domain: README-‹domain›.md.
    let index: String = files.below("runbooks/README", ".md").map(|(_, text)| text).collect();
    for (folder, name, _) in files.runbooks() {
        // The incident kit is about no alert.
        if files.text(&format!("deploy/prometheus/rules/{folder}.yaml")).is_empty() {
            continue;
        }
        if !alerts.iter().any(|alert| alert.name() == name && alert.file == folder) {
            problems.push(format!("runbooks/{folder}/{name}.md: rules/{folder}.yaml has no such alert"));
        }
        if !index.contains(&format!("({folder}/{name}.md)")) {
            problems.push(format!("no index of runbooks/ leads to {folder}/{name}.md"));
        }
    }
    for (folder, name, text) in files.drills() {
        let path = format!("runbooks/drills/{folder}/{name}.yaml");
        let drill = match Drill::parse(name, text) {
            Ok(drill) => drill,
            Err(problem) => {
                problems.push(format!("{path}: {problem}"));
                continue;
            }
        };
        let fires = |alert: &&Rule| {
            alert.name() == drill.alert
                && alert.file == folder
                && alert.text("/labels/severity") == drill.severity.as_str()
        };
        if alerts.iter().find(fires).is_none() {
            let severity = drill.severity.as_str();
            problems.push(format!("{path}: rules/{folder}.yaml has no alert {} with severity {severity}", drill.alert));
        }
        for allowed in drill.expect.allow.iter().filter(|name| !alerts.iter().any(|alert| alert.name() == *name)) {
            problems.push(format!("{path}: it allows {allowed}, and there is no such alert"));
        }
        problems.extend(form::of_drill(files, folder, &drill).into_iter().map(|problem| format!("{path}: {problem}")));
    }
    problems
}

/// Every series an alert asks for, also through what is recorded, is on a panel.
fn metrics_are_shown(files: &Files) -> Vec<String> {
    let panels: String = files.below("deploy/grafana/dashboards/", ".json").map(|(_, text)| text).collect();
    let recorded: BTreeMap<String, String> =
        rules(files).iter().map(|rule| (rule.text("/record").to_owned(), rule.text("/expr").to_owned())).collect();
    let mut problems = Vec::new();
    // What a cluster exports is on its own dashboards.
    for rule in alerts(files).into_iter().filter(|rule| rule.file != NOT_DRILLED) {
        let (mut left, mut seen) = (vec![rule.text("/expr").to_owned()], BTreeSet::new());
        while let Some(expr) = left.pop() {
            for name in series(&expr) {
                if seen.insert(name.clone()) {
                    left.extend(recorded.get(&name).cloned());
                }
            }
        }
        for name in seen.iter().filter(|name| !recorded.contains_key(*name)) {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let shown = Regex::new(&format!("\\b{family}(_bucket|_count|_sum)?\\b")).unwrap().is_match(&panels);
            if !shown && !UNSHOWN.iter().any(|(unshown, _)| unshown == name) {
                problems.push(format!("alert {} ({}.yaml): no panel shows `{name}`", rule.name(), rule.file));
            }
        }
    }
    problems
}

/// The names that an expression selects by.
fn series(expr: &str) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl ExprVisitor for Names {
        type Error = ();
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
            match expr {
                Expr::VectorSelector(selector) => self.0.extend(selector.name.clone()),
                Expr::MatrixSelector(range) => self.0.extend(range.vs.name.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut names = Names(BTreeSet::new());
    let parsed = parser::parse(expr).unwrap_or_else(|error| panic!("`{expr}`: {error}"));
    let _always_ok = walk_expr(&mut names, &parsed);
    names.0
}
