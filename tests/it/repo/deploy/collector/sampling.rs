//! Which traces are kept, by the service's own figures.

use std::collections::BTreeSet;

use regex::Regex;

use super::{COMPOSE, GATEWAY, read, searchable, strings};
use crate::repo::deploy::{Tree, caught, code, none, printed};

fn milliseconds(duration: &str) -> f64 {
    let (number, unit) = duration.split_at(duration.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(duration.len()));
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        _ => f64::NAN,
    };
    number.parse::<f64>().map_or(f64::NAN, |number| number * factor)
}

/// A default from the table of OpenTelemetry's variables.
fn variable_default(name: &str) -> f64 {
    let table = printed(&["catalogue", "--markdown"]);
    let row = table.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
    row.split(" | ").nth(2).unwrap().trim().parse().unwrap()
}

const RED: &str = "deploy/grafana/dashboards/red.json";

/// Bounds of buckets that the dashboard of the objectives compares request durations with, in ms.
fn objectives(tree: &Tree) -> Vec<f64> {
    let bound = Regex::new(r#"http_server_request_duration_seconds_bucket\{[^}]*\ble=\\?"([0-9.]+)\\?""#).unwrap();
    let text = tree.text(RED);
    let seconds = bound.captures_iter(&text).filter_map(|found| found[1].parse::<f64>().ok());
    seconds.map(|seconds| seconds * 1_000.0).collect()
}

fn wrong_sampling(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let longest = milliseconds(&code().settings["http.request_timeout"]) + variable_default("OTEL_BSP_SCHEDULE_DELAY");
    let objectives = objectives(tree);
    if objectives.is_empty() {
        problems
            .push(format!("{RED}: no panel has the bound of the latency objective (`le` of the request durations)"));
    }
    let searchable = searchable();
    let share = Regex::new(r"^\$\{env:KEEL_TRACE_SHARE:-([0-9.]+)\}$").unwrap();
    for path in [COMPOSE, GATEWAY] {
        let file = read(tree, path);
        let sampling = &file["processors"]["tail_sampling"];
        let wait = milliseconds(sampling["decision_wait"].as_str().unwrap_or_default());
        // Not NaN either.
        if wait.max(0.0) <= longest || wait.is_nan() {
            problems.push(format!(
                "{path}: decision_wait is {wait} ms; a root span can be {longest} ms late (http.request_timeout and \
                 OTEL_BSP_SCHEDULE_DELAY): slow traces would be judged without it"
            ));
        }
        let (mut names, mut errors, mut slow) = (BTreeSet::new(), false, false);
        for policy in sampling["policies"].as_array().into_iter().flatten() {
            let (name, kind) =
                (policy["name"].as_str().unwrap_or_default(), policy["type"].as_str().unwrap_or_default());
            if !names.insert(name) {
                problems
                    .push(format!("{path}: two policies are called {name}: their counters could not be told apart"));
            }
            if policy[kind].is_null() && kind != "always_sample" {
                problems.push(format!("{path}: policy {name} is of type `{kind}` and says nothing under that name"));
            }
            errors |= strings(&policy["status_code"]["status_codes"]).contains(&"ERROR");
            if let Some(threshold) = policy["latency"]["threshold_ms"].as_f64() {
                slow = true;
                if objectives.iter().any(|objective| (objective - threshold).abs() > 0.1) {
                    problems.push(format!(
                        "{path}: slow is over {threshold} ms, and the latency objective of {RED} has {objectives:?}"
                    ));
                }
            }
            if let Some(given) = policy["probabilistic"]["sampling_percentage"].as_str() {
                let percentage = share.captures(given).and_then(|found| found[1].parse::<f64>().ok());
                if !percentage.is_some_and(|percentage| percentage > 0.0 && percentage <= 100.0) {
                    problems.push(format!("{path}: the share `{given}` is no percentage of KEEL_TRACE_SHARE"));
                }
            }
            let attribute = policy["string_attribute"]["key"].as_str().or(policy["numeric_attribute"]["key"].as_str());
            if let Some(key) = attribute.filter(|key| !searchable.iter().any(|known| known == key)) {
                problems.push(format!("{path}: policy {name} looks for {key}, which is not among {searchable:?}"));
            }
        }
        if !(errors && slow) {
            problems.push(format!("{path}: failed and slow traces are not both kept (status_code ERROR, latency)"));
        }
    }
    let indexed =
        read(tree, "deploy/collector/backends/aws-xray.yaml")["exporters"]["awsxray"]["indexed_attributes"].clone();
    if strings(&indexed) != searchable {
        problems.push(format!("deploy/collector/backends/aws-xray.yaml: indexed_attributes are not {searchable:?}"));
    }
    problems
}

#[test]
fn failed_and_slow_traces_are_kept_by_the_services_own_figures() {
    none(&wrong_sampling(&Tree::checkout()));
    caught(wrong_sampling, COMPOSE, "status_codes: [ERROR]", "status_codes: [UNSET]", "not both kept");
    caught(wrong_sampling, GATEWAY, "threshold_ms: 250", "threshold_ms: 500", "slow is over 500 ms");
    caught(wrong_sampling, RED, "le=\\\"0.25\\\"", "le=\\\"0.5\\\"", "slow is over 250 ms");
    caught(wrong_sampling, GATEWAY, "decision_wait: 15s", "decision_wait: 10s", "10000 ms late");
    caught(wrong_sampling, COMPOSE, "name: slow", "name: errors", "two policies");
    caught(wrong_sampling, COMPOSE, "KEEL_TRACE_SHARE:-100", "KEEL_TRACE_SHARE:-1000", "no percentage");
    caught(wrong_sampling, "deploy/collector/backends/aws-xray.yaml", "- tenant.id", "- tenant", "indexed_attributes");
}
