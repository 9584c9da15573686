//! What one object says of another is true: selectors, names of Secrets and ConfigMaps, ports by name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Rendering, Workload, holds, list, name_of, namespace_of, number, text};
use crate::repo::deploy::{Tree, caught};

/// Secrets that somebody else makes: the overlay says how, or a component that is not always there does.
const GIVEN: &[&str] = &["keel-secrets", "keel-migration", "keel-pgbouncer", "keel-pgbouncer-tls"];

fn check(tree: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    for workload in rendering.workloads() {
        pods(tree, rendering, &workload, &mut |what| problems.push(format!("{}: {what}", workload.title())));
    }
    for kind in ["Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress", "HTTPRoute"] {
        for object in rendering.of(kind) {
            let mut say =
                |what: String| problems.push(format!("{}: {kind} {}: {what}", rendering.name, name_of(object)));
            match kind {
                "Service" => service(rendering, object, &mut say),
                "PodDisruptionBudget" => {
                    if selected(rendering, namespace_of(object), &object["spec"]["selector"]["matchLabels"]).is_empty()
                    {
                        say("its selector matches no pods".to_owned());
                    }
                }
                "HorizontalPodAutoscaler" => {
                    let target = &object["spec"]["scaleTargetRef"];
                    let (kind, name) = (text(target, "/kind"), text(target, "/name"));
                    if rendering.named(kind, namespace_of(object), name).is_none() {
                        say(format!("scales {kind} {name}, which is not there"));
                    }
                }
                _ => backends(rendering, object, &mut say),
            }
        }
    }
    problems
}

/// The workloads of a namespace whose pods have these labels.
pub fn selected<'a>(rendering: &'a Rendering, namespace: &str, labels: &Value) -> Vec<Workload<'a>> {
    let mut workloads = rendering.workloads();
    workloads.retain(|workload| workload.namespace() == namespace && workload.has_labels(labels));
    workloads
}

fn pods(tree: &Tree, rendering: &Rendering, workload: &Workload<'_>, say: &mut impl FnMut(String)) {
    let (pod, namespace) = (workload.pod(), workload.namespace());
    let kind = text(workload.object, "/kind");
    if kind != "Job" && !workload.has_labels(&workload.object["spec"]["selector"]["matchLabels"]) {
        say("its selector does not match the labels of its own pods".to_owned());
    }
    for constraint in list(pod, "/topologySpreadConstraints") {
        if !workload.has_labels(&constraint["labelSelector"]["matchLabels"]) {
            say(format!("topologySpreadConstraints: {} does not count its own pods", text(constraint, "/topologyKey")));
        }
    }
    let account = text(pod, "/serviceAccountName");
    if rendering.named("ServiceAccount", namespace, account).is_none() {
        say(format!("serviceAccountName {account}: there is none of this name in {namespace}"));
    }
    let priority = text(pod, "/priorityClassName");
    if !priority.is_empty() && !rendering.of("PriorityClass").any(|class| name_of(class) == priority) {
        say(format!("priorityClassName {priority}: there is none of this name"));
    }
    let volumes: BTreeSet<&str> = list(pod, "/volumes")
        .iter()
        .map(|volume| text(volume, "/name"))
        .chain(list(workload.object, "/spec/volumeClaimTemplates").iter().map(name_of))
        .collect();
    let mounts: Vec<&str> = workload
        .containers()
        .flat_map(|container| list(container, "/volumeMounts"))
        .map(|mount| text(mount, "/name"))
        .collect();
    for mount in mounts.iter().filter(|mount| !volumes.contains(*mount)) {
        say(format!("mounts {mount}, which is no volume of the pod"));
    }
    for volume in volumes.iter().filter(|volume| !mounts.contains(*volume)) {
        say(format!("nothing mounts the volume {volume}"));
    }
    for volume in list(pod, "/volumes") {
        if let Some(name) = volume.pointer("/configMap/name").and_then(Value::as_str) {
            found(rendering, "ConfigMap", namespace, name, say);
        }
        if let Some(secret) = volume.get("secret") {
            secret_is_given(tree, rendering, namespace, secret, say);
        }
    }
    for source in workload.containers().flat_map(|container| list(container, "/envFrom")) {
        if let Some(name) = source.pointer("/configMapRef/name").and_then(Value::as_str) {
            found(rendering, "ConfigMap", namespace, name, say);
        }
        if source.get("secretRef").is_some_and(|secret| secret["optional"] != true) {
            say("secrets are files, not variables".to_owned());
        }
    }
}

fn found(rendering: &Rendering, kind: &str, namespace: &str, name: &str, say: &mut impl FnMut(String)) {
    if rendering.named(kind, namespace, name).is_none() {
        say(format!("{kind} {name}: there is none of this name in {namespace}"));
    }
}

/// In the rendering, from a vault, or made by hand with a command that the overlay shows.
fn secret_is_given(tree: &Tree, rendering: &Rendering, namespace: &str, volume: &Value, say: &mut impl FnMut(String)) {
    let name = text(volume, "/secretName");
    let keys: Vec<&str> = list(volume, "/items").iter().map(|item| text(item, "/key")).collect();
    let known: BTreeSet<String> = if let Some(secret) = rendering.named("Secret", namespace, name) {
        let data = secret["data"].as_object().into_iter().flatten();
        data.map(|(key, _)| key.clone()).collect()
    } else if let Some(external) =
        rendering.of("ExternalSecret").find(|external| text(external, "/spec/target/name") == name)
    {
        list(external, "/spec/data").iter().map(|entry| text(entry, "/secretKey").to_owned()).collect()
    } else if !GIVEN.contains(&name) {
        return say(format!("Secret {name}: there is none of this name in {namespace}"));
    } else if rendering.is_overlay() {
        let said = tree.text(&format!("{}/kustomization.yaml", rendering.name));
        let words = said.split_whitespace().filter_map(|word| word.strip_prefix("--from-file="));
        words.map(ToOwned::to_owned).collect()
    } else {
        return;
    };
    for key in keys.iter().filter(|key| !known.contains(**key)) {
        say(format!("Secret {name} has no key {key}; it has {known:?}"));
    }
}

fn service(rendering: &Rendering, service: &Value, say: &mut impl FnMut(String)) {
    let workloads = selected(rendering, namespace_of(service), &service["spec"]["selector"]);
    if workloads.is_empty() {
        return say("its selector matches no pods".to_owned());
    }
    for port in list(service, "/spec/ports") {
        let target = text(port, "/targetPort");
        for workload in &workloads {
            if !workload.ports().iter().any(|(name, _)| *name == target) {
                say(format!("targetPort {target} is no port of {}", name_of(workload.object)));
            }
        }
        // Behind a cluster address the number is ours to choose; without one it is the container's.
        let number_of = |workload: &Workload<'_>| {
            workload.ports().into_iter().find(|(name, _)| *name == target).map(|(_, number)| number)
        };
        if service["spec"]["clusterIP"] == "None" && number_of(&workloads[0]) != number(port, "/port") {
            say(format!("a headless Service's port {target} must be the container's"));
        }
    }
}

fn backends(rendering: &Rendering, route: &Value, say: &mut impl FnMut(String)) {
    let ingress = list(route, "/spec/rules").iter().flat_map(|rule| list(rule, "/http/paths"));
    let ingress =
        ingress.map(|path| (text(path, "/backend/service/name"), &path["backend"]["service"]["port"]["name"]));
    let gateway = list(route, "/spec/rules").iter().flat_map(|rule| list(rule, "/backendRefs"));
    let gateway = gateway.map(|backend| (text(backend, "/name"), &backend["port"]));
    let backends: Vec<_> = ingress.chain(gateway).collect();
    if backends.is_empty() {
        say("leads nowhere".to_owned());
    }
    for (name, port) in backends {
        let service = rendering.named("Service", namespace_of(route), name);
        let ports = service.map(|service| list(service, "/spec/ports")).unwrap_or_default();
        if !ports.iter().any(|known| &known["name"] == port || &known["port"] == port) {
            say(format!("leads to Service {name} port {port}, which is not there"));
        }
        if ports.iter().any(|known| known["name"] == "admin") {
            say("leads to the admin port, which is never public".to_owned());
        }
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn what_manifests_say_of_each_other_is_true() {
    holds(check);
}

#[test]
fn selectors_and_names_that_miss_are_caught() {
    let base = "deploy/kubernetes/base";
    let services = format!("{base}/services.yaml");
    caught(problems, &services, "targetPort: http", "targetPort: web", "targetPort web is no port of keel");
    caught(
        problems,
        &services,
        "  selector:\n    app.kubernetes.io/name: keel",
        "  selector:\n    app.kubernetes.io/name: kel",
        "matches no pods",
    );
    caught(problems, &services, "port: 9464", "port: 9465", "headless Service's port admin");
    let budget = format!("{base}/disruption-budget.yaml");
    caught(problems, &budget, "component: server", "component: web", "PodDisruptionBudget keel: its selector");
    let deployment = format!("{base}/deployment.yaml");
    caught(problems, &deployment, "serviceAccountName: keel", "serviceAccountName: kel", "serviceAccountName kel");
    caught(problems, &deployment, "name: keel-config", "name: keel-conf", "ConfigMap keel-conf");
    caught(
        problems,
        &format!("{base}/ingress.yaml"),
        "name: http",
        "name: admin",
        "port \"admin\", which is not there",
    );
    caught(
        problems,
        &format!("{base}/autoscaler.yaml"),
        "name: keel\n  minReplicas",
        "name: api\n  minReplicas",
        "scales Deployment api",
    );
}

#[test]
fn a_secret_that_nobody_makes_is_caught() {
    if super::has_kubectl() {
        let external = "deploy/kubernetes/components/external-secrets/external-secrets.yaml";
        caught(problems, external, "secretKey: redis-url", "secretKey: redis-uri", "keel-secrets has no key redis-url");
        let staging = "deploy/kubernetes/overlays/staging/kustomization.yaml";
        caught(problems, staging, "--from-file=auth-pepper", "--from-file=pepper", "has no key auth-pepper");
    }
}
