//! Whether the dashboard that an alert leads to shows what the alert is about: whoever follows the link in the night has
//! no time to look for the panel.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::{super::Tree, caught, none, rules, selectors};

/// Shown by no panel of its own: no line is down.
const UNSHOWN: &str = "up";

fn elsewhere(tree: &Tree) -> Vec<String> {
    let rules = rules(tree);
    let recorded: BTreeMap<&str, &str> = rules.iter().map(|rule| (rule.text("record"), rule.text("expr"))).collect();
    let dashboards: BTreeMap<String, String> = tree
        .files("deploy/grafana/dashboards", ".json")
        .iter()
        .map(|path| (tree.json(path)["uid"].as_str().unwrap_or_default().to_owned(), tree.text(path)))
        .collect();
    let uid = Regex::new("/d/([a-z0-9-]+)").unwrap();
    let mut problems = Vec::new();
    // What a cluster exports is on its own dashboards.
    for rule in rules.iter().filter(|rule| !rule.text("alert").is_empty() && !rule.place.contains("/cluster.yaml")) {
        let (mut left, mut names) = (vec![rule.text("expr")], BTreeSet::new());
        while let Some(expr) = left.pop() {
            for name in selectors(expr).into_iter().filter_map(|selector| selector.name) {
                left.extend(recorded.get(name.as_str()).filter(|_| !names.contains(&name)));
                names.insert(name);
            }
        }
        let link = rule.rule["annotations"]["dashboard_url"].as_str().unwrap_or_default();
        let leads_to = uid.captures(link).map(|found| found[1].to_owned()).unwrap_or_default();
        // Whether there is one is asked in `graph`.
        let Some(panels) = dashboards.get(&leads_to) else { continue };
        let shown = |name: &String| {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            Regex::new(&format!("\\b{family}(_bucket|_count|_sum)?\\b")).unwrap().is_match(panels)
        };
        if !names.is_empty() && !names.contains(UNSHOWN) && !names.iter().any(shown) {
            problems.push(format!("{}: {leads_to} shows none of {names:?}", rule.place));
        }
    }
    problems
}

#[test]
fn an_alert_leads_to_the_dashboard_that_shows_it() {
    none(&elsewhere(&Tree::checkout()));
    let rules = "deploy/prometheus/rules/platform.yaml";
    caught(
        elsewhere,
        rules,
        "max by (job, environment) (service_ready",
        "max by (job) (panics_total",
        "ServiceNotReady",
    );
    caught(elsewhere, rules, "/d/keel-red?", "/d/keel-logs?", "HttpErrorBudgetBurn: keel-logs shows none of");
}
