//! The graph is closed: metric → panel → alert → test, runbook, drill, and back. No node without its neighbours, no edge
//! that leads nowhere. What the runbooks' commands name is in `commands`, and what of it is for a cluster in `cluster`.

mod cluster;
mod commands;

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::{
    parser::{self, Expr},
    util::{ExprVisitor, walk_expr},
};
use regex::Regex;
use serde_json::Value;

use crate::{
    drills::{blocks, file::Drill},
    repo,
};

/// What only a cluster can show has no drill.
const NOT_DRILLED: &str = "cluster";
/// Series of alerts that no panel shows, each with the reason.
const UNSHOWN: &[(&str, &str)] = &[("up", "every panel about processes says it: no line is down")];
const SECTIONS: [&str; 8] = ["Meaning", "Impact", "Is it real?", "Diagnose", "Mitigate", "Verify", "Escalate", "After"];
const FRONT: [&str; 6] = ["alert", "severity", "owner", "blast_radius", "est_minutes", "safe_for"];

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
    let index = files.text("runbooks/README.md").to_owned() + files.text("runbooks/README-shop.md");
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
        problems.extend(of_drill(files, folder, &drill).into_iter().map(|problem| format!("{path}: {problem}")));
    }
    problems
}

/// The blocks it names are in the runbook, and it fills in what they leave open.
fn of_drill(files: &Files, folder: &str, drill: &Drill) -> Vec<String> {
    let open = Regex::new(r"\$\{?([A-Z][A-Z_]*)\}?").unwrap();
    let set = Regex::new(r"(?m)^ *(?:export |read -r |local )?([A-Z][A-Z_]*)=").unwrap();
    let environment = files.text("runbooks/env.sh");
    let known: BTreeSet<String> = set.captures_iter(environment).map(|found| found[1].to_owned()).collect();
    let blocks = blocks::all(files.text(&format!("runbooks/{folder}/{}.md", drill.alert)));
    let mut problems = Vec::new();
    for (id, with) in drill.steps() {
        let found = match blocks::under(&blocks, id) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let text: String = found.iter().map(|block| block.text.as_str()).collect();
        let own: BTreeSet<String> = set.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        let used: BTreeSet<String> = open.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for name in used.iter().filter(|name| !known.contains(*name) && !own.contains(*name)) {
            if !with.contains_key(name) && name != "HOME" && name != "PATH" {
                problems.push(format!("block {id} wants ${name}, and `with` does not say it"));
            }
        }
        for name in with.keys().filter(|name| !used.contains(*name)) {
            problems.push(format!("`with` says {name}, and block {id} does not want it"));
        }
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

/// Front matter and sections as runbooks/README.md has them.
fn runbooks_have_their_form(files: &Files) -> Vec<String> {
    let sections: Vec<String> = (1..).zip(SECTIONS).map(|(at, title)| format!("{at} {title}")).collect();
    let mut problems = Vec::new();
    for (folder, name, text) in files.runbooks() {
        if files.text(&format!("deploy/prometheus/rules/{folder}.yaml")).is_empty() {
            continue;
        }
        let mut say = |what: String| problems.push(format!("runbooks/{folder}/{name}.md: {what}"));
        let front = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).unwrap_or_default().0;
        let keys: Vec<&str> = front.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        if keys != FRONT {
            say(format!("its front matter has {keys:?}, expected {FRONT:?}"));
        }
        if !front.lines().any(|line| line == format!("alert: {name}")) {
            say(format!("its front matter has no `alert: {name}`"));
        }
        let of_rules: BTreeSet<String> = alerts(files)
            .iter()
            .filter(|alert| alert.name() == name)
            .map(|alert| alert.text("/labels/severity").to_owned())
            .collect();
        let said = front.lines().find_map(|line| line.strip_prefix("severity: ")).unwrap_or_default();
        let said: BTreeSet<String> = said.split(", ").map(ToOwned::to_owned).collect();
        if !of_rules.is_empty() && said != of_rules {
            say(format!("it says severity {said:?}, its rules {of_rules:?}"));
        }
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if headings != sections {
            say(format!("its sections are {headings:?}, expected {sections:?}"));
        }
        let lines = text.lines().count();
        if lines > 150 {
            say(format!("it has {lines} lines, 150 are the most: nobody reads that at night"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::deploy::none;

    /// Plants a fault, or removes the file where `from` is all of it, and expects the check to name it.
    #[track_caller]
    pub fn caught(check: fn(&Files) -> Vec<String>, path: &str, from: &str, to: &str, named: &str) {
        let mut files = Files::checkout();
        let text = files.0.get_mut(path).unwrap_or_else(|| panic!("no file {path}: the fault can't be planted"));
        assert!(text.contains(from), "{path} does not contain `{from}`: the fault can't be planted");
        *text = text.replacen(from, to, 1);
        let problems = check(&files);
        assert!(
            problems.iter().any(|problem| problem.contains(named)),
            "`{to}` in {path} was not caught as `{named}`: {problems:#?}"
        );
    }

    const RULES: &str = "deploy/prometheus/rules/platform.yaml";
    const RUNBOOK: &str = "runbooks/platform/HttpErrorBudgetBurn.md";
    const DRILL: &str = "runbooks/drills/platform/HttpErrorBudgetBurn.yaml";

    #[test]
    fn every_alert_has_a_test_a_runbook_a_drill_and_a_dashboard() {
        none(&alerts_have_all(&Files::checkout()));
    }

    #[test]
    fn every_runbook_and_every_drill_has_its_alert() {
        none(&nothing_without_alert(&Files::checkout()));
    }

    #[test]
    fn every_metric_of_an_alert_is_on_a_panel() {
        none(&metrics_are_shown(&Files::checkout()));
    }

    #[test]
    fn runbooks_are_built_alike() {
        none(&runbooks_have_their_form(&Files::checkout()));
    }

    #[test]
    fn what_runbooks_name_exists() {
        none(&commands::problems(&Files::checkout()));
    }

    #[test]
    fn a_fault_in_a_rule_is_caught() {
        caught(
            alerts_have_all,
            RULES,
            "alert: HttpErrorBudgetBurn",
            "alert: HttpErrorBurn",
            "no runbook runbooks/platform/HttpErrorBurn.md",
        );
        caught(alerts_have_all, RULES, "alert: HttpErrorBudgetBurn", "alert: HttpErrorBurn", "no drill");
        caught(alerts_have_all, RULES, "alert: HttpErrorBudgetBurn", "alert: HttpErrorBurn", "no test");
        caught(
            alerts_have_all,
            RULES,
            "platform/HttpErrorBudgetBurn.md",
            "platform/HttpErrorBurn.md",
            "runbook_url does not end with",
        );
        caught(alerts_have_all, RULES, "/d/keel-red?", "/d/keel-read?", "leads to no dashboard");
        caught(metrics_are_shown, RULES, "(panics_total[10m])", "(panic_total[10m])", "no panel shows `panic_total`");
        caught(runbooks_have_their_form, RULES, "severity: page\n", "severity: info\n", "it says severity");
    }

    #[test]
    fn a_fault_in_a_drill_is_caught() {
        caught(nothing_without_alert, DRILL, "severity: page", "severity: info", "with severity info");
        caught(
            nothing_without_alert,
            DRILL,
            "alert: HttpErrorBudgetBurn",
            "alert: HttpErrorBurn",
            "not the file's name",
        );
        caught(nothing_without_alert, DRILL, "block: \"4.1\"", "block: \"4.9\"", "no block 4.9");
        caught(nothing_without_alert, DRILL, "KEY_ID:", "KEY:", "wants $KEY_ID");
        caught(nothing_without_alert, DRILL, "KEY_ID:", "KEY:", "does not want it");
        caught(nothing_without_alert, DRILL, "HttpErrorRatioHigh", "HttpErrorRatioHuge", "no such alert");
        caught(nothing_without_alert, DRILL, "within:", "withn:", "unknown field");
    }

    #[test]
    fn a_fault_in_a_runbook_is_caught() {
        caught(runbooks_have_their_form, RUNBOOK, "## 6 Verify", "## 6 Done", "its sections are");
        caught(runbooks_have_their_form, RUNBOOK, "severity: page, ticket", "severity: page", "it says severity");
        caught(runbooks_have_their_form, RUNBOOK, "owner:", "team:", "its front matter has");
        caught(
            nothing_without_alert,
            "runbooks/README.md",
            "(platform/HttpErrorBudgetBurn.md)",
            "",
            "no index of runbooks/ leads to",
        );
        for (from, to, named) in commands::FAULTS {
            caught(commands::problems, RUNBOOK, from, to, named);
        }
    }
}
