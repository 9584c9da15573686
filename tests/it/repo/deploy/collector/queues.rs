//! What waits for a backend: on the gateway's disk, in what compose can spare of its memory, and by files that are where
//! they are said to be.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value, json};

use super::{
    BACKENDS, COMPOSE, GATEWAY, Keys, QUEUES, backends, kind_of, members, merged, pipelines::INWARD, read, strings,
};
use crate::repo::{
    deploy::{Tree, caught, none},
    root,
};

/// Exporters that send outward in the pipelines of a whole configuration.
fn outward(file: &Value) -> BTreeSet<&str> {
    let exporters =
        members(&file["service"], "pipelines").into_iter().flat_map(|(_, pipeline)| strings(&pipeline["exporters"]));
    exporters.filter(|name| !INWARD.contains(name) && file["exporters"].get(*name).is_some()).collect()
}

/// Whether the exporter has a queue at all, and something to wait for.
fn can_wait(exporter: &str, keys: &Keys) -> bool {
    let kind = kind_of(exporter);
    kind != "debug" && keys.problems(&json!({"sending_queue": {}}), &format!("exporters {kind}"), "").is_empty()
}

fn wrong_queues(tree: &Tree) -> Vec<String> {
    let keys = Keys::read("collector.txt", include_str!("keys/collector.txt"));
    let (compose, gateway) = (read(tree, COMPOSE), read(tree, GATEWAY));
    let disk = gateway["extensions"]["file_storage"]["max_size"].as_u64().unwrap_or(0);
    let mut problems = Vec::new();
    let mut compositions = vec![(GATEWAY.to_owned(), gateway.clone())];
    for backend in backends(tree) {
        let over = read(tree, &backend);
        for exporter in outward(&merged(&compose, &over)).into_iter().filter(|name| can_wait(name, &keys)) {
            let queue = &merged(&compose, &over)["exporters"][exporter]["sending_queue"];
            if queue["sizer"] != "bytes" || queue["queue_size"].as_u64().is_none_or(|size| size > 64 << 20) {
                problems.push(format!("{backend}: {exporter}: no queue of at most 64 MiB, by bytes"));
            }
        }
        let queue = backend.replace(BACKENDS, QUEUES);
        let whole = merged(&gateway, &over);
        let whole = if tree.path(&queue).exists() { merged(&whole, &read(tree, &queue)) } else { whole };
        compositions.push((format!("{backend} on the gateway"), whole));
    }
    for (place, whole) in &compositions {
        for exporter in outward(whole).into_iter().filter(|name| can_wait(name, &keys)) {
            let queue = &whole["exporters"][exporter]["sending_queue"];
            if queue["storage"] != "file_storage" || queue["sizer"] != "bytes" {
                problems.push(format!("{place}: the queue of {exporter} is not on disk: write it into {QUEUES}"));
            } else if queue["queue_size"].as_u64().is_none_or(|size| size > disk) {
                problems.push(format!("{place}: the queue of {exporter} is larger than its file may be, {disk}"));
            }
        }
    }
    for queue in tree.files(QUEUES, ".yaml") {
        let backend = queue.replace(QUEUES, BACKENDS);
        let known = tree.path(&backend).exists().then(|| read(tree, &backend));
        for (exporter, _) in members(&read(tree, &queue), "exporters") {
            if known.as_ref().is_none_or(|known| known["exporters"].get(exporter).is_none()) {
                problems.push(format!("{queue}: {backend} has no exporter {exporter}"));
            }
        }
    }
    problems
}

/// Files of the gateway's ConfigMap, as the pod sees them.
fn generated(tree: &Tree) -> BTreeSet<String> {
    let kustomization = read(tree, "deploy/collector/kustomization.yaml");
    let maps = kustomization["configMapGenerator"].as_array().into_iter().flatten();
    let files = maps.filter(|map| map["name"] == "otel-collector").flat_map(|map| strings(&map["files"]));
    files.map(ToOwned::to_owned).collect()
}

fn missing_files(tree: &Tree) -> Vec<String> {
    let files = generated(tree);
    let mut problems = Vec::new();
    for (folder, prefix) in [(BACKENDS, "backend"), (QUEUES, "queue")] {
        for path in tree.files(folder, ".yaml") {
            let (short, name) = (path.trim_start_matches("deploy/collector/"), path.rsplit('/').next().unwrap());
            let line = format!("{prefix}-{name}={short}");
            if !files.contains(&line) {
                problems.push(format!("deploy/collector/kustomization.yaml: add {line}"));
            }
        }
    }
    let names: BTreeSet<&str> = files.iter().filter_map(|file| Some(file.split_once('=')?.0)).collect();
    let said = Regex::new(r"--config=/etc/otelcol/([A-Za-z0-9./_-]+\.yaml)").unwrap();
    let page = std::fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    let heads = backends(tree).into_iter().map(|path| (tree.text(&path), path));
    for (text, path) in heads.chain([(page, "docs/deploy.md".to_owned())]) {
        let found: BTreeSet<&str> = said.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
        for file in found.iter().filter(|file| !names.contains(**file)) {
            problems.push(format!("{path}: the gateway's pod has no /etc/otelcol/{file}, but {names:?}"));
        }
        let own = path.trim_start_matches(BACKENDS).trim_start_matches('/');
        if path.starts_with(BACKENDS) {
            let queue = tree.path(&format!("{QUEUES}/{own}")).exists();
            if !found.contains(format!("backend-{own}").as_str())
                || found.contains(format!("queue-{own}").as_str()) != queue
            {
                problems.push(format!("{path}: its head does not say how the gateway is given it, and its queue"));
            }
        }
    }
    problems
}

#[test]
fn what_waits_for_a_backend_is_on_the_gateways_disk() {
    none(&wrong_queues(&Tree::checkout()));
    let queue = "deploy/collector/queues/honeycomb.yaml";
    caught(wrong_queues, queue, "      storage: file_storage\n", "", "otlp_http/honeycomb is not on disk");
    caught(wrong_queues, queue, "queue_size: 268", "queue_size: 568", "larger than its file");
    caught(wrong_queues, queue, "otlp_http/honeycomb", "otlp_http/honey", "has no exporter otlp_http/honey");
    caught(wrong_queues, GATEWAY, "      storage: file_storage\n", "", "otlp_grpc/tempo is not on disk");
    let jaeger = "deploy/collector/backends/jaeger.yaml";
    caught(wrong_queues, jaeger, "      sizer: bytes\n", "", "no queue of at most 64 MiB");
}

#[test]
fn backends_and_queues_are_in_the_gateways_pod() {
    none(&missing_files(&Tree::checkout()));
    let kustomization = "deploy/collector/kustomization.yaml";
    caught(missing_files, kustomization, "      - queue-otlp.yaml=queues/otlp.yaml\n", "", "add queue-otlp.yaml");
    let jaeger = "deploy/collector/backends/jaeger.yaml";
    caught(missing_files, jaeger, "otelcol/backend-", "otelcol/backends/", "has no /etc/otelcol/backends/jaeger.yaml");
}
