//! How a runbook is built, and whether a drill and its runbook fit together.

use std::collections::BTreeSet;

use regex::Regex;

use super::{Files, alerts};
use crate::drills::{blocks, file::Drill};

const SECTIONS: [&str; 8] = ["Meaning", "Impact", "Is it real?", "Diagnose", "Mitigate", "Verify", "Escalate", "After"];
const FRONT: [&str; 6] = ["alert", "severity", "owner", "blast_radius", "est_minutes", "safe_for"];
// Nobody reads more at night.
const MOST_LINES: usize = 150;

/// The blocks it names are in the runbook, and it fills in what they leave open.
pub fn of_drill(files: &Files, folder: &str, drill: &Drill) -> Vec<String> {
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

/// Front matter and sections as runbooks/README.md has them.
pub fn runbooks_have_their_form(files: &Files) -> Vec<String> {
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
        if lines > MOST_LINES {
            say(format!("it has {lines} lines, {MOST_LINES} are the most"));
        }
    }
    problems
}
