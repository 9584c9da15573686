//! The runbooks: front matter, sections, and that what their blocks name exists.

use std::collections::BTreeSet;

use regex::Regex;

use super::{
    Tree, none,
    prometheus::{known, root, rules},
    promql::Known,
};

const SECTIONS: [&str; 8] = ["Meaning", "Impact", "Is it real?", "Diagnose", "Mitigate", "Verify", "Escalate", "After"];

/// The form of a runbook, and whether what it asks Prometheus can be answered.
fn runbook(name: &str, text: &str, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with(&format!("---\nalert: {name}\nseverity: ")) {
        problems.push(format!("{name}: front matter does not begin with `alert: {name}` and `severity:`"));
    }
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let expected: Vec<String> = SECTIONS.iter().enumerate().map(|(at, title)| format!("{} {title}", at + 1)).collect();
    if headings != expected {
        problems.push(format!("{name}: sections are {headings:?}, expected {expected:?}"));
    }
    let asked = Regex::new(r"promq '((?:[^']|'\$ENVIRONMENT')*)'").unwrap();
    for query in asked.captures_iter(text) {
        let query = query[1].replace("'$ENVIRONMENT'", "production");
        problems.extend(known.problems(&query).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    problems
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let rules = rules(&Tree::checkout());
    let known = known(&rules);
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.text("alert")).filter(|name| !name.is_empty()).collect();
    let index = root("runbooks/README.md").unwrap();
    let mut problems = Vec::new();
    for name in &names {
        let text = root(&format!("runbooks/platform/{name}.md")).unwrap_or_default();
        problems.extend(runbook(name, &text, &known));
        if !index.contains(&format!("[{name}](platform/{name}.md)")) {
            problems.push(format!("runbooks/README.md does not list {name}"));
        }
    }
    for entry in std::fs::read_dir(crate::repo::root().join("runbooks/platform")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !names.contains(name.trim_end_matches(".md")) {
            problems.push(format!("runbooks/platform/{name}: there is no such alert"));
        }
    }
    none(&problems);
    let good = root("runbooks/platform/Watchdog.md").unwrap();
    let stale = good.replacen("prometheus_notifications_errors_total", "prometheus_notification_errors", 1);
    assert!(runbook("Watchdog", &stale, &known)[0].contains("nobody exports"));
    assert!(runbook("Watchdog", &good.replace("## 6 Verify", "## 6 Done"), &known)[0].contains("sections"));
}
