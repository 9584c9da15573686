//! The pipelines of each gateway, with each backend on top: whole and in order.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{AGENT, COMPOSE, GATEWAY, KINDS, backends, kind_of, members, merged, read, strings};
use crate::repo::deploy::{Tree, caught, none};

/// Exporters to the next collector, which does what is left to do.
pub const INWARD: [&str; 2] = ["load_balancing", "otlp_grpc/gateway"];

/// Each file that stands alone, and each backend on top of each gateway.
fn compositions(tree: &Tree) -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> =
        [COMPOSE, GATEWAY, AGENT].iter().map(|path| ((*path).to_owned(), read(tree, path))).collect();
    for backend in backends(tree) {
        let over = read(tree, &backend);
        for base in [COMPOSE, GATEWAY] {
            all.push((format!("{backend} on {base}"), merged(&read(tree, base), &over)));
        }
    }
    all
}

fn wrong_pipelines(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, file) in compositions(tree) {
        let declared = |kind: &str, name: &str| !members(&file, kind).iter().all(|(known, _)| *known != name);
        for (name, pipeline) in members(&file["service"], "pipelines") {
            let place = format!("{place}: pipeline {name}");
            for kind in ["receivers", "processors", "exporters"] {
                for component in strings(&pipeline[kind]) {
                    let is_connector = kind != "processors" && declared("connectors", component);
                    if !is_connector && !declared(kind, component) {
                        problems.push(format!("{place}: {component} is not declared under {kind}"));
                    }
                }
            }
            let processors: Vec<&str> = strings(&pipeline["processors"]).into_iter().map(kind_of).collect();
            let at = |kind: &str| processors.iter().position(|one| *one == kind);
            if processors.first() != Some(&"memory_limiter") {
                problems.push(format!("{place}: memory_limiter is not its first processor"));
            }
            if at("batch").is_some_and(|at| at + 1 != processors.len()) {
                problems.push(format!("{place}: batch is not its last processor"));
            }
            if at("tail_sampling").is_some() && at("batch").is_none() {
                problems.push(format!("{place}: tail_sampling lets traces go one by one, and no batch follows"));
            }
            if at("k8s_attributes") > at("tail_sampling") && at("tail_sampling").is_some() {
                problems
                    .push(format!("{place}: tail_sampling forgets where spans came from; k8s_attributes goes before"));
            }
            let outward: Vec<&str> =
                strings(&pipeline["exporters"]).into_iter().filter(|name| !INWARD.contains(name)).collect();
            // Figures that a connector made of redacted spans hold no text.
            if !outward.is_empty() && !name.starts_with("metrics") && at("redaction").is_none() {
                problems.push(format!("{place}: what goes to {outward:?} was not redacted"));
            }
            if name.starts_with("logs") && at("batch").is_none() {
                for exporter in outward.iter().filter(|exporter| **exporter != "debug") {
                    if file["exporters"][exporter]["sending_queue"]["batch"].is_null() {
                        problems.push(format!(
                            "{place}: {exporter} sends each line alone: no `batch` in its sending_queue"
                        ));
                    }
                }
            }
        }
    }
    for path in [COMPOSE, GATEWAY, AGENT].map(ToOwned::to_owned).into_iter().chain(backends(tree)) {
        problems.extend(unused(&path, &read(tree, &path)));
    }
    problems
}

/// What a file declares and none of its own pipelines names.
fn unused(path: &str, file: &Value) -> Vec<String> {
    let mut named: BTreeSet<&str> = strings(&file["service"]["extensions"]).into_iter().collect();
    for (_, pipeline) in members(&file["service"], "pipelines") {
        named.extend(["receivers", "processors", "exporters"].iter().flat_map(|kind| strings(&pipeline[kind])));
    }
    let mut problems = Vec::new();
    for kind in KINDS {
        for (name, value) in members(file, kind) {
            if !named.contains(name.as_str()) {
                problems.push(format!("{path}: {name} is declared under {kind} and used nowhere"));
            }
            let storage = value["storage"].as_str().or_else(|| value["sending_queue"]["storage"].as_str());
            if storage.is_some_and(|storage| !strings(&file["service"]["extensions"]).contains(&storage)) {
                problems.push(format!("{path}: the storage of {name} is not among service.extensions"));
            }
        }
    }
    problems
}

#[test]
fn pipelines_are_whole_and_in_order_with_every_backend() {
    none(&wrong_pipelines(&Tree::checkout()));
    let newrelic = "deploy/collector/backends/newrelic.yaml";
    caught(
        wrong_pipelines,
        COMPOSE,
        "[memory_limiter, tail_sampling, redaction, batch]",
        "[tail_sampling, memory_limiter, redaction, batch]",
        "memory_limiter is not its first",
    );
    caught(
        wrong_pipelines,
        GATEWAY,
        "[memory_limiter, tail_sampling, redaction, batch]",
        "[memory_limiter, batch, tail_sampling, redaction]",
        "batch is not its last",
    );
    caught(
        wrong_pipelines,
        GATEWAY,
        "[memory_limiter, k8s_attributes, redaction]",
        "[memory_limiter, k8s_attributes]",
        "was not redacted",
    );
    caught(
        wrong_pipelines,
        GATEWAY,
        "exporters: [load_balancing]",
        "exporters: [loadbalancing]",
        "loadbalancing is not declared",
    );
    caught(
        wrong_pipelines,
        COMPOSE,
        "receivers: [fluent_forward, otlp]",
        "receivers: [otlp]",
        "fluent_forward is declared",
    );
    caught(
        wrong_pipelines,
        GATEWAY,
        "extensions: [health_check, file_storage]",
        "extensions: [health_check]",
        "storage of otlp_grpc/tempo",
    );
    caught(
        wrong_pipelines,
        newrelic,
        "    logs:\n      exporters: [otlp_http/newrelic]",
        "    logs:\n      exporters: [otlp_http/newrelik]",
        "otlp_http/newrelik is not declared",
    );
    caught(wrong_pipelines, newrelic, "      batch:\n", "      partition:\n", "sends each line alone");
}
