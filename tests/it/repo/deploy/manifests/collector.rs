//! The collectors' pods offer what their configuration asks for: variables, ports, directories.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Rendering, Workload, has_kubectl, holds, list, name_of, text};
use crate::repo::deploy::{Tree, caught};

const SYNCHRONOUS: &str = "--feature-gates=stanza.synchronousLogEmitter";

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    let service = rendering.of("ConfigMap").find(|map| name_of(map).starts_with("keel-config"));
    let wanted = service.map(|map| text(map, "/data/APP_ENVIRONMENT")).unwrap_or_default();
    for workload in rendering.workloads() {
        for volume in list(workload.pod(), "/volumes") {
            let name = text(volume, "/configMap/name");
            let map = rendering.named("ConfigMap", workload.namespace(), name);
            if let Some(config) = map.and_then(|map| map["data"]["collector.yaml"].as_str()) {
                one(&workload, config, wanted, &mut |what| problems.push(format!("{}: {what}", workload.title())));
            }
        }
    }
    problems
}

fn one(workload: &Workload<'_>, config: &str, wanted: &str, say: &mut impl FnMut(String)) {
    let container = &list(workload.pod(), "/containers")[0];
    let given: BTreeSet<&str> = list(container, "/env").iter().map(|variable| text(variable, "/name")).collect();
    for reference in config.split("${env:").skip(1).map(|rest| rest.split('}').next().unwrap()) {
        if !reference.contains(":-") && !given.contains(reference) {
            say(format!("its configuration wants the variable {reference}, which has no default"));
        }
    }
    for name in &given {
        if *name != "GOMEMLIMIT" && !config.contains(&format!("${{env:{name}")) {
            say(format!("its configuration does not use the variable {name}"));
        }
    }
    let environment = list(container, "/env").iter().find(|variable| variable["name"] == "KEEL_ENVIRONMENT");
    if environment.is_some_and(|variable| text(variable, "/value") != wanted) {
        say(format!("KEEL_ENVIRONMENT must be {wanted}; release/ sets it"));
    }
    let declared: BTreeSet<i64> = workload.ports().into_iter().map(|(_, number)| number).collect();
    let parsed: Value = serde_saphyr::from_str(config).unwrap();
    let (mut listens, mut directories) = (BTreeSet::new(), Vec::new());
    collect(&parsed, &mut listens, &mut directories);
    let readers = list(&parsed, "/service/telemetry/metrics/readers").iter();
    listens.extend(readers.filter_map(|reader| reader.pointer("/pull/exporter/prometheus/port")?.as_i64()));
    for port in &declared {
        if !listens.contains(port) {
            say(format!("containerPort {port}: its configuration does not listen there, but on {listens:?}"));
        }
    }
    for port in listens.difference(&declared) {
        say(format!("its configuration listens on {port}, which is no containerPort"));
    }
    let mounts: Vec<&str> = list(container, "/volumeMounts").iter().map(|mount| text(mount, "/mountPath")).collect();
    for directory in directories {
        if !mounts.iter().any(|mount| directory.starts_with(mount)) {
            say(format!("its configuration writes to {directory}, which is not mounted"));
        }
    }
    // Its emitter would hold lines in memory whose place in the file is written down already.
    let reads_files = parsed["receivers"]["file_log"].is_object();
    if reads_files && !list(container, "/args").iter().any(|argument| argument == SYNCHRONOUS) {
        say(format!("it reads files and keeps their places: without {SYNCHRONOUS} a crash loses lines"));
    }
    memory(container, say);
}

/// Go's own limit, at 80 % of the container's.
fn memory(container: &Value, say: &mut impl FnMut(String)) {
    let limit =
        text(container, "/resources/limits/memory").strip_suffix("Mi").and_then(|limit| limit.parse::<u64>().ok());
    let soft = list(container, "/env").iter().find(|variable| variable["name"] == "GOMEMLIMIT");
    let soft = soft.and_then(|soft| text(soft, "/value").strip_suffix("MiB")?.parse::<u64>().ok());
    if !limit.zip(soft).is_some_and(|(limit, soft)| (limit * 79..=limit * 81).contains(&(soft * 100))) {
        say("GOMEMLIMIT must be 80 % of the memory limit".to_owned());
    }
}

/// Ports that something listens on, and directories that are written to.
fn collect(value: &Value, listens: &mut BTreeSet<i64>, directories: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(address) if name == "endpoint" => {
                        let port = address.strip_prefix("0.0.0.0:").and_then(|port| port.parse::<i64>().ok());
                        listens.extend(port);
                    }
                    Some(directory) if name == "directory" => directories.push(directory.to_owned()),
                    _ => collect(value, listens, directories),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, listens, directories)),
        _ => {}
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn collectors_have_what_their_configuration_asks_for() {
    holds(check);
}

#[test]
fn a_collector_without_what_it_asks_for_is_caught() {
    if has_kubectl() {
        let gateway = "deploy/kubernetes/components/collector/gateway.yaml";
        caught(problems, gateway, "name: K8S_NAMESPACE", "name: NAMESPACE", "wants the variable K8S_NAMESPACE");
        caught(problems, gateway, "containerPort: 4319", "containerPort: 14319", "listens on 4319");
        caught(problems, gateway, "mountPath: /var/lib/otelcol", "mountPath: /var/lib/queue", "which is not mounted");
        caught(problems, gateway, "value: 410MiB", "value: 512MiB", "GOMEMLIMIT");
        let agent = "deploy/kubernetes/components/collector/agent.yaml";
        caught(problems, agent, "stanza.synchronousLogEmitter", "stanza.synchronous", "a crash loses lines");
        let release = "deploy/kubernetes/release/replacements.yaml";
        caught(problems, release, "name: otel-agent", "name: agent", "KEEL_ENVIRONMENT must be staging");
    }
}
