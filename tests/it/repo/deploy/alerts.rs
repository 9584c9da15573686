//! docs/alerts.md: every alert of `deploy/prometheus/rules`, what it asks, where its link leads, and how its last drill
//! went. `make docs` and `make drill` write it; a test compares. A file of rules that is neither the platform's nor the
//! cluster's has a page of its own, which goes when the file does.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::{
    grafana::{generate, inspect::text},
    none,
};
use crate::repo::{self, File};

const RULES: &str = "deploy/prometheus/rules/";
const DRILLS: &str = "runbooks/drills/";
const RESULTS: &str = "docs/drills.md";
/// Files of rules whose alerts are on the first page, in this order.
const FIRST: [&str; 2] = ["platform", "cluster"];
const HEAD: &str = "\
Generated from `deploy/prometheus/rules` by `make docs`; a test compares. What to do when one fires: [runbooks/](../runbooks/README.md).\n";
const EXPLAINED: &str = "
Severity: `page` gets a person up, `ticket` is for tomorrow, `info` is good to know, `none` is Watchdog alone. *for*: how long
the expression has to hold. *drilled*: seconds from the fault to the arrival at the receiver in the last drill
([drills.md](drills.md)); windows are sixty times as short there, so production takes about as many minutes. `-`: what only a
cluster can show, or a slow burn of hours and days, which rule tests alone check. Words *like this* stand for labels and values.
";

/// What the pages are made of.
struct Sources(Vec<File>);

/// A line of the table of docs/drills.md.
struct Drilled<'a> {
    name: &'a str,
    severity: &'a str,
    /// To the alert, to the named cause, to recovery.
    seconds: [&'a str; 3],
}

impl Sources {
    fn checkout() -> Self {
        Self(repo::files(&[RULES, DRILLS, RESULTS, "deploy/grafana/source"]))
    }

    fn text(&self, path: &str) -> &str {
        self.0.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    }

    /// Files of rules by their names without ending, the first page's first.
    fn rules(&self) -> Vec<&str> {
        let names = self.0.iter().filter_map(|file| file.path.strip_prefix(RULES)?.strip_suffix(".yaml"));
        let mut names: Vec<&str> = names.collect();
        names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
        names
    }

    fn alerts(&self, rules: &str) -> Vec<Value> {
        let path = format!("{RULES}{rules}.yaml");
        let file: Value = serde_saphyr::from_str(self.text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let groups = file["groups"].as_array().cloned().unwrap_or_default();
        let all = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        all.filter(|rule| rule["alert"].is_string()).collect()
    }

    fn drilled(&self) -> Vec<Drilled<'_>> {
        let rows = self.text(RESULTS).lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        rows.filter_map(|row| {
            let [name, severity, alert, cause, recovery, _restarts] = row.split(" | ").collect::<Vec<_>>()[..] else {
                return None;
            };
            alert.parse::<f64>().ok().map(|_| Drilled { name, severity, seconds: [alert, cause, recovery] })
        })
        .collect()
    }

    /// The drills of an alert in this severity.
    fn of<'a>(&self, drilled: &'a [Drilled<'a>], rule: &Value) -> Vec<&'a Drilled<'a>> {
        let fits = |drill: &&Drilled<'_>| {
            drill.name.split(": ").next() == rule["alert"].as_str() && drill.severity == rule["labels"]["severity"]
        };
        drilled.iter().filter(fits).collect()
    }

    fn dashboard(&self, url: &str) -> String {
        let uid = url.split("/d/").nth(1).and_then(|rest| rest.split('?').next()).unwrap_or_default();
        let stems = self.0.iter().filter_map(|file| file.path.strip_prefix("deploy/grafana/source/"));
        let source = stems.filter_map(|name| name.strip_suffix(".yaml")).find(|name| generate::uid(name) == uid);
        source.map_or_else(String::new, |name| format!("[{uid}](../deploy/grafana/source/{name}.yaml)"))
    }
}

/// What a template says when nothing is filled in: *label*, *value*.
fn said(template: &str) -> String {
    static FIELD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\{\{\s*\$(?:labels\.|externalLabels\.)?(\w+)[^}]*\}\}").unwrap());
    let line = template.split_whitespace().collect::<Vec<_>>().join(" ");
    FIELD.replace_all(&line, "*$1*").into_owned()
}

fn index(sources: &Sources, rules: &str) -> String {
    let drilled = sources.drilled();
    let mut table = "| alert | severity | for | drilled | says |\n|---|---|---|---|---|\n".to_owned();
    for rule in sources.alerts(rules) {
        let (name, labels) = (text(&rule, "alert"), &rule["labels"]);
        let seconds: Vec<String> =
            sources.of(&drilled, &rule).iter().map(|drill| format!("{} s", drill.seconds[0])).collect();
        let after = if seconds.is_empty() { "-".to_owned() } else { seconds.join(", ") };
        let held = rule["for"].as_str().unwrap_or("-");
        let (severity, summary) = (text(labels, "severity"), said(text(&rule["annotations"], "summary")));
        writeln!(table, "| [{name}](#{}) | {severity} | {held} | {after} | {summary} |", name.to_lowercase()).unwrap();
    }
    table
}

/// All rules of one name, under one heading.
fn section(sources: &Sources, folder: &str, name: &str, rules: &[Value]) -> String {
    let drilled = sources.drilled();
    let mut page = format!("\n### {name}\n");
    for rule in rules {
        let (labels, annotations) = (&rule["labels"], &rule["annotations"]);
        let held = rule["for"].as_str().map_or_else(|| "at once".to_owned(), |held| format!("when it held for {held}"));
        let (severity, team) = (text(labels, "severity"), text(labels, "team"));
        writeln!(page, "\n**{severity}** for the team {team}, {held}. {}", said(text(annotations, "description")))
            .unwrap();
        writeln!(page, "\n```promql\n{}\n```", text(rule, "expr").trim_end()).unwrap();
        writeln!(page, "\nDashboard: {}.", sources.dashboard(text(annotations, "dashboard_url"))).unwrap();
        for Drilled { name, seconds: [alert, cause, recovery], .. } in sources.of(&drilled, rule) {
            let file = name.replace(": ", "-");
            let link = format!("[{name}](../{DRILLS}{folder}/{file}.yaml)");
            writeln!(
                page,
                "Drill {link}: {alert} s to the alert, {cause} s to the named cause, {recovery} s to recovery."
            )
            .unwrap();
        }
    }
    writeln!(page, "\nRunbook: [{name}](../runbooks/{folder}/{name}.md).").unwrap();
    page
}

fn part(sources: &Sources, rules: &str) -> String {
    let mut page = format!("\n## {rules}.yaml\n\n{}", index(sources, rules));
    let mut by_name: Vec<(String, Vec<Value>)> = Vec::new();
    for rule in sources.alerts(rules) {
        let name = text(&rule, "alert").to_owned();
        match by_name.iter_mut().find(|(other, _)| *other == name) {
            Some((_, all)) => all.push(rule),
            None => by_name.push((name, vec![rule])),
        }
    }
    page.extend(by_name.iter().map(|(name, all)| section(sources, rules, name, all)));
    page
}

/// The pages by their paths.
fn pages(sources: &Sources) -> BTreeMap<String, String> {
    let (first, others): (Vec<&str>, Vec<&str>) = sources.rules().into_iter().partition(|name| FIRST.contains(name));
    let mut page = format!("# Alerts\n\n{HEAD}");
    for name in &others {
        writeln!(page, "The alerts of `{name}.yaml` are in [alerts-{name}.md](alerts-{name}.md).").unwrap();
    }
    page.push_str(EXPLAINED);
    page.extend(first.iter().map(|name| part(sources, name)));
    let mut pages = BTreeMap::from([("docs/alerts.md".to_owned(), page)]);
    for name in others {
        let head = format!("# Alerts of {name}.yaml\n\n{HEAD}How to read it: [alerts.md](alerts.md).\n");
        pages.insert(format!("docs/alerts-{name}.md"), head + &part(sources, name));
    }
    pages
}

/// What of the pages in `docs` is not what the sources make.
fn fresh(sources: &Sources) -> Vec<String> {
    let made = pages(sources);
    let there: Vec<File> =
        repo::files(&["docs"]).into_iter().filter(|file| file.path.starts_with("docs/alerts")).collect();
    let kept = |path: &str| there.iter().find(|file| file.path == path).map(|file| &file.text);
    let differs = made.iter().filter(|(path, text)| kept(path) != Some(*text));
    let mut problems: Vec<String> =
        differs.map(|(path, _)| format!("{path} is not what the rules and drills make: run `make docs`")).collect();
    let left = there.iter().filter(|file| !made.contains_key(&file.path));
    problems.extend(left.map(|file| format!("{} has no rules: delete it", file.path)));
    problems
}

#[test]
#[ignore = "make docs"]
fn write_the_alerts() {
    for (path, text) in pages(&Sources::checkout()) {
        std::fs::write(repo::root().join(path), text).unwrap();
    }
}

#[test]
fn the_pages_of_alerts_are_what_rules_and_drills_make() {
    none(&fresh(&Sources::checkout()));
}

#[test]
fn a_page_that_is_old_is_caught() {
    let planted = |path: &str, from: &str, to: &str| {
        let mut sources = Sources::checkout();
        let file = sources.0.iter_mut().find(|file| file.path == path).unwrap();
        assert!(file.text.contains(from), "{path} does not contain `{from}`");
        file.text = file.text.replacen(from, to, 1);
        sources
    };
    let rules = format!("{RULES}platform.yaml");
    for (path, from, to) in [
        (rules.as_str(), "severity: page\n", "severity: ticket\n"),
        (rules.as_str(), "for: 2m", "for: 3m"),
        (rules.as_str(), "> 14.4 * 0.001", "> 15 * 0.001"),
        (rules.as_str(), "Users see errors.", "Users see faults."),
        (RESULTS, "| PostgresDown | page | ", "| PostgresDown | page | 1"),
    ] {
        let problems = fresh(&planted(path, from, to));
        assert!(problems.iter().any(|problem| problem.starts_with("docs/alerts.md is not")), "`{to}`: {problems:?}");
    }
    let mut sources = Sources::checkout();
    sources.0.push(File { path: format!("{RULES}more.yaml"), text: "groups: []\n".to_owned() });
    assert!(fresh(&sources).iter().any(|problem| problem.starts_with("docs/alerts-more.md is not")));
}

#[test]
fn every_alert_is_on_a_page_with_all_there_is_to_say() {
    let sources = Sources::checkout();
    let all: String = pages(&sources).into_values().collect();
    for name in sources.rules() {
        for rule in sources.alerts(name) {
            let alert = text(&rule, "alert");
            for part in [format!("\n### {alert}\n"), format!("(../runbooks/{name}/{alert}.md)")] {
                assert!(all.contains(&part), "{alert}: no `{part}`");
            }
        }
    }
    assert!(!all.contains("Dashboard: ."), "a dashboard was not found by its uid");
    assert!(!all.contains("{{"), "a template was not read: {:?}", all.lines().find(|line| line.contains("{{")));
    for drill in sources.drilled() {
        assert!(all.contains(&format!("Drill [{}](", drill.name)), "the drill of {} is on no page", drill.name);
    }
}
