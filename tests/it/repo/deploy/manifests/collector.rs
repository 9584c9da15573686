//! The collectors' pods offer what their configuration asks for: variables, ports, directories.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Rendering, Workload,
    custom::environment,
    has_kubectl, holds, list, number,
    settings::{seconds, settings},
    text,
};
use crate::repo::{
    deploy::{Tree, caught, none},
    root,
};

const SYNCHRONOUS: &str = "--feature-gates=stanza.synchronousLogEmitter";

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    let wanted = environment(rendering);
    for workload in rendering.workloads() {
        for volume in list(workload.pod(), "/volumes") {
            let name = text(volume, "/configMap/name");
            let map = rendering.named("ConfigMap", workload.namespace(), name);
            if let Some(config) = map.and_then(|map| map["data"]["collector.yaml"].as_str()) {
                one(&workload, config, wanted, &mut |what| problems.push(format!("{}: {what}", workload.title())));
            }
        }
    }
    gateways(rendering, &mut |what| problems.push(format!("{}: {what}", rendering.name)));
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

/// How many traces a second tail sampling holds until it decides.
fn traces_a_second(config: &Value) -> Option<f64> {
    let sampling = config.pointer("/processors/tail_sampling")?;
    Some(number(sampling, "/num_traces")? as f64 / seconds(text(sampling, "/decision_wait")))
}

/// Production's gateways bear what its pods do until the job places end (docs/scaling.md, the mix): 5 % orders, each a
/// webhook of 100 ms and a trace of its own.
fn gateways(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let Some(gateway) = rendering.named("Deployment", "keel", "otel-collector") else { return };
    let maps = rendering.of("ConfigMap").filter_map(|map| map["data"]["collector.yaml"].as_str());
    let borne = maps.filter_map(|text| traces_a_second(&serde_saphyr::from_str(text).unwrap())).next().unwrap_or(0.0);
    let scaler = rendering.named("HorizontalPodAutoscaler", "keel", "keel");
    let pods = scaler.and_then(|scaler| number(scaler, "/spec/minReplicas")).unwrap_or(0) as f64;
    let requests = pods * settings(rendering)["jobs.concurrency"].parse::<f64>().unwrap() / 0.1 / 0.05;
    let replicas = number(gateway, "/spec/replicas").unwrap_or(1) as f64;
    if rendering.name.ends_with("/production") && replicas * borne < requests * 1.05 {
        say(format!(
            "Deployment otel-collector: {replicas} gateways bear {:.0} traces a second; {requests:.0} requests a second, where \
             the job places end, are {:.0}",
            replicas * borne,
            requests * 1.05
        ));
    }
}

/// Rows of docs/scaling.md whose gateways are not what the figures of tail sampling make of their requests.
fn wrong_rows(page: &str, borne: f64) -> Vec<String> {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| requests/s |"));
    let at = lines.next().and_then(|head| cells(head).iter().position(|cell| cell == "gateways"));
    let Some(at) = at else { return vec!["docs/scaling.md: the table has no column `gateways`".to_owned()] };
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    // Rounded down to 650 there.
    let borne = (borne / 50.0).floor() * 50.0;
    rows.filter_map(|row| {
        let requests: f64 = row[1].replace(',', "").parse().unwrap();
        let wanted = (requests * 1.05 / borne).ceil().max(2.0);
        (row[at] != wanted.to_string())
            .then(|| format!("docs/scaling.md: {requests} requests a second need {wanted} gateways, not {}", row[at]))
    })
    .collect()
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

#[test]
fn the_page_on_scaling_counts_gateways_as_tail_sampling_does() {
    let gateway = &Tree::checkout().yaml("deploy/collector/kubernetes-gateway.yaml")[0];
    let borne = traces_a_second(gateway).unwrap();
    let page = std::fs::read_to_string(root().join("docs/scaling.md")).unwrap();
    none(&wrong_rows(&page, borne));
    assert_eq!(wrong_rows(&page, borne / 2.0).len(), 3, "the rows from 1,000 requests a second on");
    assert!(page.contains("`otelcol_processor_tail_sampling_sampling_trace_dropped_too_early`"));
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
        let production = "deploy/kubernetes/overlays/production/kustomization.yaml";
        caught(problems, production, "/spec/replicas, value: 4", "/spec/replicas, value: 3", "3 gateways bear 2000");
        let agent = "deploy/kubernetes/components/collector/agent.yaml";
        caught(problems, agent, "stanza.synchronousLogEmitter", "stanza.synchronous", "a crash loses lines");
        let release = "deploy/kubernetes/release/replacements.yaml";
        caught(problems, release, "name: otel-agent", "name: agent", "KEEL_ENVIRONMENT must be staging");
    }
}
