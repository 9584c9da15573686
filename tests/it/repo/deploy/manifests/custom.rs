//! Kinds that are no part of Kubernetes, and so in no validator's schema: their fields are those of their documentation,
//! and what they say of scrapes, rules and dashboards agrees with the rest.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Rendering, containers::admin_paths, fields::FIELDS, has_kubectl, holds, list, name_of, namespace_of, text,
};
use crate::repo::deploy::{Tree, caught, code};

/// `kubectl apply` keeps a copy of what it applied in an annotation, and all of them together have 256 KiB.
const LARGEST: usize = 200 * 1024;
const TARGET_LABELS: [&str; 2] = ["namespace", "pod"];

fn check(tree: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{}: {what}", rendering.name));
    for object in &rendering.objects {
        fields(object, &mut say);
    }
    for monitor in rendering.of("ServiceMonitor") {
        one_monitor(rendering, monitor, &mut |what| say(format!("ServiceMonitor {}: {what}", name_of(monitor))));
    }
    for rules in rendering.of("PrometheusRule") {
        let file = format!("deploy/prometheus/rules/{}.yaml", name_of(rules).trim_start_matches("keel-"));
        if Some(&rules["spec"]) != tree.yaml(&file).first() {
            say(format!("PrometheusRule {}: is not what {file} says; run scripts/manifests.sh write", name_of(rules)));
        }
    }
    for map in rendering.of("ConfigMap") {
        for (name, text) in map["data"].as_object().into_iter().flatten() {
            if text.as_str().is_some_and(|text| text.len() > LARGEST) {
                say(format!("ConfigMap {}: {name} is too large for `kubectl apply`", name_of(map)));
            }
        }
        if let Some(text) = map.pointer("/data/prometheus.yaml").and_then(Value::as_str) {
            let config = serde_saphyr::from_str(text).unwrap();
            prometheus(rendering, &config, &mut |what| say(format!("prometheus.yaml: {what}")));
        }
    }
    problems
}

fn fields(object: &Value, say: &mut impl FnMut(String)) {
    let version = text(object, "/apiVersion");
    let group = version.split('/').next().unwrap();
    let Some((kind, known, allowed)) = FIELDS.iter().find(|(kind, ..)| object["kind"] == **kind) else {
        // Groups of Kubernetes have no dot, or are its own.
        if group.contains('.') && !group.ends_with(".k8s.io") {
            say(format!("{} {}: say in this test which fields it has", text(object, "/kind"), name_of(object)));
        }
        return;
    };
    if version != *known {
        say(format!("{kind} {}: apiVersion is {known}", name_of(object)));
    }
    let mut paths = BTreeSet::new();
    leaves(&object["spec"], "spec".to_owned(), &mut paths);
    for path in paths {
        let matches = |allowed: &&&str| match allowed.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == **allowed,
        };
        if !allowed.iter().any(|allowed| matches(&allowed)) {
            say(format!("{kind} {}: {path} is no field that its documentation has", name_of(object)));
        }
    }
}

fn leaves(value: &Value, path: String, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, format!("{path}.{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, format!("{path}[]"), found)),
        _ => {
            found.insert(path);
        }
    }
}

pub fn environment(rendering: &Rendering) -> &str {
    let map = rendering.of("ConfigMap").find(|map| name_of(map).starts_with("keel-config"));
    map.map(|map| text(map, "/data/APP_ENVIRONMENT")).unwrap_or_default()
}

fn one_monitor(rendering: &Rendering, monitor: &Value, say: &mut impl FnMut(String)) {
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let service = rendering.of("Service").find(|service| {
        let labels = &service["metadata"]["labels"];
        namespace_of(service) == namespace_of(monitor) && wanted.iter().all(|(name, value)| &labels[name] == value)
    });
    let Some(service) = service else {
        // The collector is a component of its own.
        if rendering.is_overlay() || name_of(monitor) == "keel" {
            say("its selector matches no Service".to_owned());
        }
        return;
    };
    let label = text(monitor, "/spec/jobLabel");
    let job = service["metadata"]["labels"][label].as_str().unwrap_or_default();
    if job != name_of(monitor) {
        say(format!("job would be `{job}`, but dashboards and rules look for `{}`", name_of(monitor)));
    }
    for endpoint in list(monitor, "/spec/endpoints") {
        if !list(service, "/spec/ports").iter().any(|port| port["name"] == endpoint["port"]) {
            say(format!("port {} is none of Service {}", endpoint["port"], name_of(service)));
        }
        let path = text(endpoint, "/path");
        if name_of(monitor) == "keel" && !admin_paths().contains(path) {
            say(format!("path {path} does not exist; the admin listener has {:?}", admin_paths()));
        }
        if endpoint["honorLabels"] != false {
            say("honorLabels must be false: what a pod says must not replace the target's labels".to_owned());
        }
        let told = list(endpoint, "/relabelings").iter().find(|relabeling| relabeling["targetLabel"] == "environment");
        if told.is_none_or(|told| told["replacement"] != environment(rendering)) {
            say(format!("the label environment must be {}; release/ sets it", environment(rendering)));
        }
    }
}

/// The configuration of a Prometheus without operator.
fn prometheus(rendering: &Rendering, config: &Value, say: &mut impl FnMut(String)) {
    let mut jobs = BTreeSet::new();
    for scrape in list(config, "/scrape_configs") {
        let job = text(scrape, "/job_name");
        jobs.insert(job);
        let relabeled = list(scrape, "/relabel_configs");
        let target = |label: &str| relabeled.iter().find(|relabel| relabel["target_label"] == label);
        let mut told: Vec<&str> =
            target("environment").map(|relabel| text(relabel, "/replacement")).into_iter().collect();
        for group in list(scrape, "/static_configs") {
            told.push(text(group, "/labels/environment"));
            for address in list(group, "/targets").iter().filter_map(Value::as_str) {
                let (host, port) = address.split_once(':').unwrap();
                let service = rendering.named("Service", "keel", host);
                let ports = service.map(|service| list(service, "/spec/ports")).unwrap_or_default();
                if !ports.iter().any(|known| known["port"].as_u64() == port.parse().ok()) {
                    say(format!("job {job}: {address} is no Service's port"));
                }
            }
        }
        if told.is_empty() || told.iter().any(|told| *told != environment(rendering)) {
            say(format!("job {job}: the label environment must be {}", environment(rendering)));
        }
        if !list(scrape, "/kubernetes_sd_configs").is_empty() {
            for label in TARGET_LABELS.iter().filter(|label| target(label).is_none()) {
                say(format!("job {job}: pods need the label {label}"));
            }
            let kept =
                relabeled.iter().find(|relabel| relabel["action"] == "keep").map(|relabel| text(relabel, "/regex"));
            let (name, port) = kept.and_then(|kept| kept.split_once(';')).unwrap_or_default();
            let keeps = rendering.workloads().iter().any(|workload| {
                workload.template["metadata"]["labels"]["app.kubernetes.io/name"] == name
                    && workload.ports().iter().any(|(known, _)| *known == port)
            });
            if !keeps {
                say(format!("job {job}: keeps `{name};{port}`, and no pod has this name and port"));
            }
        }
        if scrape["honor_labels"] == true {
            say(format!("job {job}: honor_labels must be false"));
        }
    }
    for job in ["keel", "postgres", "redis", "otel-collector"].iter().filter(|job| !jobs.contains(**job)) {
        say(format!("there is no job {job}, which dashboards and rules look for"));
    }
}

/// What kustomize is told file by file, because it takes no patterns.
fn listed(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, files, ending) in [
        ("deploy/grafana", "deploy/grafana/dashboards", ".json"),
        ("deploy/prometheus", "deploy/prometheus/rules", ".yaml"),
    ] {
        let kustomization = format!("{folder}/kustomization.yaml");
        let generators = tree.yaml(&kustomization).remove(0);
        let named: BTreeSet<String> = list(&generators, "/configMapGenerator")
            .iter()
            .flat_map(|generator| list(generator, "/files"))
            .map(|file| format!("{folder}/{}", file.as_str().unwrap()))
            .collect();
        for file in tree.files(files, ending) {
            if !named.contains(&file) {
                problems.push(format!("{kustomization}: add {file}"));
            }
        }
    }
    let rules = "deploy/kubernetes/components/monitoring";
    let kustomization = tree.yaml(&format!("{rules}/kustomization.yaml")).remove(0);
    for file in tree.files("deploy/prometheus/rules", ".yaml") {
        let written = format!("rules-{}", file.rsplit('/').next().unwrap());
        if !list(&kustomization, "/resources").iter().any(|resource| resource == &written) {
            problems.push(format!(
                "{rules}/kustomization.yaml: add {written}, which scripts/manifests.sh write makes of {file}"
            ));
        }
    }
    problems
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn custom_kinds_have_documented_fields_and_agree_with_the_rest() {
    holds(check);
    assert!(code().labels("http_server_requests_shed_total").is_some());
}

#[test]
fn every_dashboard_and_rule_file_is_in_a_config_map() {
    super::none(&listed(&Tree::checkout()));
    caught(
        listed,
        "deploy/grafana/kustomization.yaml",
        "files: [dashboards/sql.json]",
        "files: [dashboards/red.json]",
        "dashboards/sql.json",
    );
}

#[test]
fn faults_in_custom_kinds_are_caught() {
    if !has_kubectl() {
        return;
    }
    let components = "deploy/kubernetes/components";
    let monitors = format!("{components}/monitoring/service-monitors.yaml");
    caught(problems, &monitors, "honorLabels: false", "honourLabels: false", "honourLabels is no field");
    caught(problems, &monitors, "port: admin", "port: metrics", "is none of Service keel-admin");
    caught(
        problems,
        &monitors,
        "jobLabel: app.kubernetes.io/name",
        "jobLabel: app.kubernetes.io/component",
        "job would be",
    );
    caught(problems, &monitors, "targetLabel: environment", "targetLabel: env", "can't be rendered");
    let release = "deploy/kubernetes/release/replacements.yaml";
    caught(problems, release, "kind: ServiceMonitor", "kind: Probe", "the label environment must be staging");
    let rules = "deploy/prometheus/rules/platform.yaml";
    caught(problems, rules, "\ngroups:\n  - name: ", "\ngroups:\n  - name: x", "run scripts/manifests.sh write");
    let secrets = format!("{components}/external-secrets/external-secrets.yaml");
    caught(problems, &secrets, "secretKey:", "secretName:", "spec.data[].secretName is no field");
    let local = "deploy/kubernetes/overlays/local/prometheus-config.yaml";
    caught(problems, local, "regex: keel;admin", "regex: keel;metrics", "no pod has this name and port");
    caught(problems, local, "redis-exporter:9121", "redis-exporter:9122", "redis-exporter:9122 is no Service's port");
    caught(problems, local, "target_label: pod", "target_label: pods", "pods need the label pod");
}
