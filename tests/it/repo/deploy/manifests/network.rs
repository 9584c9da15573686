//! Network policies: everything denied, then what is needed, on ports that exist.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Rendering, Workload, has_kubectl, holds, list, name_of, namespace_of, references::selected, text};
use crate::repo::deploy::{Tree, caught};

const NAMESPACE_NAME: &str = "kubernetes.io~1metadata.name";
/// What nobody outside the cluster answers on, and where the cloud keeps credentials.
const PRIVATE: &[&str] = &["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{}: {what}", rendering.name));
    for namespace in rendering.of("Namespace").map(name_of) {
        let denied = rendering.named("NetworkPolicy", namespace, "default-deny").map(|policy| &policy["spec"]);
        if denied != Some(&json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})) {
            say(format!("Namespace {namespace}: a NetworkPolicy default-deny for all pods, both ways, is missing"));
        }
    }
    for policy in rendering.of("NetworkPolicy") {
        one_policy(rendering, policy, &mut |what| say(format!("NetworkPolicy {}: {what}", name_of(policy))));
    }
    needed(rendering, &mut say);
    problems
}

/// Whether a pod that is selected by labels is part of this rendering: the collector is not in the base.
fn is_complete(rendering: &Rendering) -> bool {
    rendering.is_overlay()
}

fn one_policy(rendering: &Rendering, policy: &Value, say: &mut impl FnMut(String)) {
    let namespace = namespace_of(policy);
    let selector = &policy["spec"]["podSelector"]["matchLabels"];
    let all = policy["spec"]["podSelector"] == json!({});
    let pods = if all { Vec::new() } else { selected(rendering, namespace, selector) };
    if !all && pods.is_empty() {
        say("its selector matches no pods".to_owned());
    }
    for rule in list(policy, "/spec/ingress") {
        if list(rule, "/from").is_empty() {
            say("lets everybody in: say from whom".to_owned());
        }
        for port in list(rule, "/ports") {
            on_port(&pods, &port["port"], say);
        }
    }
    for rule in list(policy, "/spec/egress") {
        for peer in list(rule, "/to") {
            let cidr = text(peer, "/ipBlock/cidr");
            if cidr == "0.0.0.0/0" {
                let except: Vec<&str> = list(peer, "/ipBlock/except").iter().filter_map(Value::as_str).collect();
                for range in PRIVATE.iter().filter(|range| !except.contains(range)) {
                    say(format!("leads everywhere, {range} too: name it in `except`"));
                }
            }
            let Some(labels) = peer.pointer("/podSelector/matchLabels") else { continue };
            let target = peer.pointer(&format!("/namespaceSelector/matchLabels/{NAMESPACE_NAME}"));
            let target = target.and_then(Value::as_str).unwrap_or(namespace);
            if !rendering.of("Namespace").any(|namespace| name_of(namespace) == target) {
                continue;
            }
            let targets = selected(rendering, target, labels);
            if targets.is_empty() && is_complete(rendering) {
                say(format!("leads to pods that are not there: {labels}"));
            }
            for port in list(rule, "/ports") {
                on_port(&targets, &port["port"], say);
            }
        }
    }
}

fn on_port(pods: &[Workload<'_>], port: &Value, say: &mut impl FnMut(String)) {
    let has = |pod: &Workload<'_>| pod.ports().iter().any(|(name, number)| port == name || port == number);
    if !pods.is_empty() && !pods.iter().any(has) {
        let ports: BTreeSet<_> = pods.iter().flat_map(Workload::ports).collect();
        say(format!("port {port}: its pods have {ports:?}"));
    }
}

/// What the service cannot do without.
fn needed(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let service = rendering.service();
    let applies = |policy: &&Value| {
        policy["spec"]["podSelector"] == json!({}) || service.has_labels(&policy["spec"]["podSelector"]["matchLabels"])
    };
    let policies: Vec<&Value> = rendering.of("NetworkPolicy").filter(applies).collect();
    let allowed = |direction: &str| -> BTreeSet<(String, String)> {
        let rules = policies.iter().flat_map(|policy| list(policy, &format!("/spec/{direction}")));
        let ports = rules.flat_map(|rule| list(rule, "/ports"));
        ports.map(|port| (text(port, "/protocol").to_owned(), port["port"].to_string())).collect()
    };
    let outward = allowed("egress");
    let map = rendering.of("ConfigMap").find(|map| name_of(map).starts_with("keel-config")).map(|map| &map["data"]);
    let collector = map.and_then(|data| data["OTEL_EXPORTER_OTLP_ENDPOINT"].as_str()).unwrap_or_default();
    let collector = collector.rsplit(':').next().unwrap();
    let wanted = [
        ("UDP", "53", "names"),
        ("TCP", "53", "names that don't fit into a datagram"),
        ("TCP", "443", "the world"),
        ("TCP", "5432", "Postgres"),
        ("TCP", "6379", "Redis"),
        ("TCP", collector, "the collector of OTEL_EXPORTER_OTLP_ENDPOINT"),
    ];
    for (protocol, port, what) in wanted {
        if !outward.contains(&(protocol.to_owned(), port.to_owned())) {
            say(format!("no NetworkPolicy lets the service out to {protocol} {port}: {what}"));
        }
    }
    let inward = allowed("ingress");
    for port in ["http", "admin"] {
        if !inward.contains(&("TCP".to_owned(), format!("\"{port}\""))) {
            say(format!("no NetworkPolicy lets anybody in to the service's port {port}"));
        }
    }
    let job_is_fit = rendering.of("Job").all(|job| {
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        rendering.of("NetworkPolicy").any(|policy| {
            let selector = policy["spec"]["podSelector"]["matchLabels"].as_object();
            let applies = selector.is_some_and(|wanted| wanted.iter().all(|(name, value)| &labels[name] == value));
            let rules = list(policy, "/spec/egress").iter().flat_map(|rule| list(rule, "/ports"));
            applies && rules.into_iter().any(|port| port["port"] == 5432)
        })
    });
    if !job_is_fit {
        say("no NetworkPolicy lets the migration out to Postgres".to_owned());
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn policies_deny_everything_and_allow_what_is_needed() {
    holds(check);
}

#[test]
fn policies_that_miss_are_caught() {
    let base = "deploy/kubernetes/base/network-policies.yaml";
    caught(problems, base, "port: admin", "port: metrics", "NetworkPolicy keel-in: port \"metrics\"");
    caught(problems, base, "    - Ingress\n    - Egress", "    - Ingress", "default-deny");
    caught(problems, base, "port: 4318", "port: 4317", "out to TCP 4318");
    caught(problems, base, "              - 169.254.0.0/16\n", "", "169.254.0.0/16");
    caught(
        problems,
        base,
        "component: server\n  policyTypes:\n    - Ingress",
        "component: api\n  policyTypes:\n    - Ingress",
        "NetworkPolicy keel-in: its selector",
    );
    if has_kubectl() {
        let local = "deploy/kubernetes/overlays/local/network-policies.yaml";
        caught(problems, local, "port: 9187", "port: 9188", "overlays/local: NetworkPolicy prometheus: port 9188");
    }
}
