//! Whether the rule tests show of every alert, in each severity it has, that it is silent, fires, and clears. What is
//! expected is promtool's to check; here only that it is asked for.

use std::{collections::BTreeSet, time::Duration};

use promql_parser::{label::MatchOp, util::parse_duration};
use serde_json::Value;

use super::{super::Tree, caught, none, rules, selectors};

/// A look at one alert in the course of a test.
struct Look {
    at: Duration,
    fires: bool,
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn at(look: &Value) -> Duration {
    parse_duration(look["eval_time"].as_str().unwrap_or_default()).unwrap_or_default()
}

/// What a test asks about this alert in this severity. A look that says nothing about it is none.
fn looks(test: &Value, name: &str, severity: &str) -> Vec<Look> {
    let mut looks = Vec::new();
    for look in list(test, "alert_rule_test").filter(|look| look["alertname"] == name) {
        let fires = list(look, "exp_alerts").any(|alert| alert["exp_labels"]["severity"] == severity);
        looks.push(Look { at: at(look), fires });
    }
    for look in list(test, "promql_expr_test") {
        let of_alerts = selectors(look["expr"].as_str().unwrap_or_default());
        let Some(selector) = of_alerts.iter().find(|selector| selector.name.as_deref() == Some("ALERTS")) else {
            continue;
        };
        let asked = |label: &str, value: &str| {
            let of_label = selector.matchers.matchers.iter().filter(|matcher| matcher.name == label);
            of_label.map(|matcher| matcher.op == MatchOp::Equal && matcher.value == value).collect::<Vec<bool>>()
        };
        let (names, severities) = (asked("alertname", name), asked("severity", severity));
        if names.contains(&false) || severities.contains(&false) {
            continue;
        }
        let samples: Vec<&str> = list(look, "exp_samples").filter_map(|sample| sample["labels"].as_str()).collect();
        // `count(ALERTS{…})` has no labels left: then the selector has to say all.
        let counted = samples.contains(&"{}") && !names.is_empty() && !severities.is_empty();
        let named = samples.iter().any(|labels| {
            labels.contains(&format!("alertname=\"{name}\"")) && labels.contains(&format!("severity=\"{severity}\""))
        });
        looks.push(Look { at: at(look), fires: counted || named });
    }
    looks
}

fn untested(tree: &Tree) -> Vec<String> {
    let tests: Vec<Value> = tree
        .files("deploy/prometheus/tests", ".yaml")
        .iter()
        .flat_map(|path| list(&tree.yaml(path)[0], "tests").cloned().collect::<Vec<Value>>())
        .collect();
    let alerts: BTreeSet<(String, String)> = rules(tree)
        .iter()
        .map(|rule| (rule.text("alert").to_owned(), rule.rule["labels"]["severity"].as_str().unwrap_or("").to_owned()))
        // Never silent.
        .filter(|(name, _)| !name.is_empty() && name != "Watchdog")
        .collect();
    let mut problems = Vec::new();
    for (name, severity) in alerts {
        let complete = tests.iter().any(|test| {
            let looks = looks(test, &name, &severity);
            let firing: Vec<Duration> = looks.iter().filter(|look| look.fires).map(|look| look.at).collect();
            let silent = |before: bool, than: Duration| {
                looks.iter().any(|look| !look.fires && if before { look.at < than } else { look.at > than })
            };
            firing.iter().any(|fired| silent(true, *fired) && silent(false, *fired))
        });
        if !complete {
            problems.push(format!("{name} ({severity}): no rule test in which it is silent, then fires, then clears"));
        }
    }
    problems
}

#[test]
fn every_alert_is_seen_to_fire_and_to_clear() {
    none(&untested(&Tree::checkout()));
    let tests = |name: &str| format!("deploy/prometheus/tests/{name}.yaml");
    for (file, from, to, named) in [
        // It does not clear, another severity fires, it was never silent.
        ("platform-work", "eval_time: 10m30s", "eval_time: 1m", "JobsBacklogGrowing (ticket)"),
        (
            "platform-work",
            "\"JobsDeadLetters\",alertstate=\"firing\",severity=\"ticket\"",
            "\"JobsDeadLetters\",alertstate=\"firing\",severity=\"info\"",
            "JobsDeadLetters (ticket)",
        ),
        ("platform-service", "\"ServicePanics\"", "\"ServicePanic\"", "ServicePanics (ticket)"),
    ] {
        caught(untested, &tests(file), from, to, named);
    }
}
