//! Network policies: everything denied, then what is needed, on ports that exist, and from both ends.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Rendering, Workload, has_kubectl, holds, list, name_of, namespace_of, overlay, references::selected, text,
};
use crate::repo::deploy::{Tree, caught};

const NAMESPACE_NAME: &str = "kubernetes.io~1metadata.name";
/// What nobody outside the cluster answers on, and where the cloud keeps credentials.
const PRIVATE: &[&str] = &["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
/// What the API server listens on behind its Service: managed clusters, kubeadm, kind and k3s, minikube, MicroK8s.
const API_SERVER: &[i64] = &[443, 6443, 8443, 16443];

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
        let mut say = |what: String| say(format!("NetworkPolicy {}: {what}", name_of(policy)));
        one_policy(rendering, policy, &mut say);
        both_ends(rendering, policy, &mut say);
    }
    api_server(rendering, &mut say);
    needed(rendering, &mut say);
    problems
}

/// Whether a pod that is selected by labels is part of this rendering: the collector is not in the base.
fn is_complete(rendering: &Rendering) -> bool {
    rendering.is_overlay()
}

fn one_policy(rendering: &Rendering, policy: &Value, say: &mut impl FnMut(String)) {
    let selector = &policy["spec"]["podSelector"]["matchLabels"];
    let all = policy["spec"]["podSelector"] == json!({});
    let pods = if all { Vec::new() } else { selected(rendering, namespace_of(policy), selector) };
    if policy.to_string().contains("matchExpressions") {
        say("say it with matchLabels: this check reads nothing else".to_owned());
    }
    if !all && pods.is_empty() {
        say("its selector matches no pods".to_owned());
    }
    for rule in list(policy, "/spec/ingress") {
        if list(rule, "/from").is_empty() {
            say("lets everybody in: say from whom".to_owned());
        }
        for peer in list(rule, "/from") {
            if stands_for(rendering, policy, peer).is_some_and(|pods| pods.is_empty()) && is_complete(rendering) {
                say(format!("lets in pods that are not there: {peer}"));
            }
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
            let Some(targets) = stands_for(rendering, policy, peer) else { continue };
            if targets.is_empty() && is_complete(rendering) {
                say(format!("leads to pods that are not there: {peer}"));
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

/// The workloads of this rendering that a peer stands for. None: it is an address, or outside.
fn stands_for<'a>(rendering: &'a Rendering, policy: &Value, peer: &Value) -> Option<Vec<Workload<'a>>> {
    if peer.get("ipBlock").is_some() {
        return None;
    }
    let named = peer.pointer(&format!("/namespaceSelector/matchLabels/{NAMESPACE_NAME}")).and_then(Value::as_str);
    let namespace = if peer.get("namespaceSelector").is_some() { named? } else { namespace_of(policy) };
    rendering.of("Namespace").find(|known| name_of(known) == namespace)?;
    let all = json!({});
    Some(selected(rendering, namespace, peer.pointer("/podSelector/matchLabels").unwrap_or(&all)))
}

/// The number that a rule's port is on these pods.
fn number_on(pod: &Workload<'_>, port: &Value) -> Option<i64> {
    port.as_i64().or_else(|| pod.ports().into_iter().find(|(name, _)| port == name).map(|(_, number)| number))
}

fn policies_of<'a>(rendering: &'a Rendering, pods: &Workload<'_>) -> Vec<&'a Value> {
    let applies = |policy: &&Value| {
        let selector = &policy["spec"]["podSelector"];
        namespace_of(policy) == pods.namespace()
            && (selector == &json!({}) || pods.has_labels(&selector["matchLabels"]))
    };
    rendering.of("NetworkPolicy").filter(applies).collect()
}

/// A way between two workloads, on a port of the one that is called.
struct Way<'a> {
    from: &'a Workload<'a>,
    to: &'a Workload<'a>,
    port: i64,
}

impl Way<'_> {
    fn may_leave(&self, rendering: &Rendering) -> bool {
        self.is_in(rendering, self.from, "/spec/egress", "/to", self.to)
    }

    fn may_arrive(&self, rendering: &Rendering) -> bool {
        self.is_in(rendering, self.to, "/spec/ingress", "/from", self.from)
    }

    fn is_in(&self, rendering: &Rendering, own: &Workload<'_>, rules: &str, peers: &str, other: &Workload<'_>) -> bool {
        let is_other = |policy: &Value, peer: &Value| {
            let pods = stands_for(rendering, policy, peer).unwrap_or_default();
            pods.iter().any(|pod| std::ptr::eq(pod.object, other.object))
        };
        let fits = |policy: &Value, rule: &Value| {
            let (ports, peers) = (list(rule, "/ports"), list(rule, peers));
            (ports.is_empty() || ports.iter().any(|entry| number_on(self.to, &entry["port"]) == Some(self.port)))
                && (peers.is_empty() || peers.iter().any(|peer| is_other(policy, peer)))
        };
        let policies = policies_of(rendering, own);
        policies.iter().any(|policy| list(policy, rules).iter().any(|rule| fits(policy, rule)))
    }
}

/// What one policy lets out another has to let in, and the other way round.
fn both_ends(rendering: &Rendering, policy: &Value, say: &mut impl FnMut(String)) {
    let all = json!({});
    let selector = policy.pointer("/spec/podSelector/matchLabels").unwrap_or(&all);
    let own = selected(rendering, namespace_of(policy), selector);
    let peers = |rule: &Value, field: &str| -> Vec<Vec<Workload<'_>>> {
        list(rule, field).iter().filter_map(|peer| stands_for(rendering, policy, peer)).collect()
    };
    for rule in list(policy, "/spec/egress") {
        for (to, entry) in pairs(peers(rule, "/to").concat(), list(rule, "/ports")) {
            let Some(port) = number_on(&to, &entry["port"]) else { continue };
            for from in own.iter().filter(|from| !(Way { from, to: &to, port }).may_arrive(rendering)) {
                let (from, to) = (name_of(from.object), name_of(to.object));
                say(format!("lets {from} out to {to} {port}, but no policy of {to} lets it in"));
            }
        }
    }
    // Who is let in is often a group, of which not everybody comes: somebody must, by each port and of each peer.
    for rule in list(policy, "/spec/ingress") {
        let (peers, ports) = (peers(rule, "/from"), list(rule, "/ports"));
        let comes = |from: &Workload<'_>, entry: &Value| {
            own.iter()
                .any(|to| number_on(to, &entry["port"]).is_some_and(|port| Way { from, to, port }.may_leave(rendering)))
        };
        for pods in peers.iter().filter(|pods| !pods.is_empty()) {
            if !pods.iter().any(|from| ports.iter().any(|entry| comes(from, entry))) {
                let names: Vec<&str> = pods.iter().map(|from| name_of(from.object)).collect();
                say(format!("lets {names:?} in, but no policy lets them out to it"));
            }
        }
        let has_all = is_complete(rendering) && peers.len() == list(rule, "/from").len();
        for entry in ports.iter().filter(|_| has_all) {
            if !peers.iter().flatten().any(|from| comes(from, entry)) {
                say(format!("lets pods in on {}, where no policy lets any of them out to", entry["port"]));
            }
        }
    }
}

fn pairs<'a, 'b>(pods: Vec<Workload<'a>>, ports: &'b [Value]) -> impl Iterator<Item = (Workload<'a>, &'b Value)> {
    pods.into_iter().flat_map(move |pod| ports.iter().map(move |port| (pod, port)))
}

/// Who has a token has it for the API server.
fn api_server(rendering: &Rendering, say: &mut impl FnMut(String)) {
    for workload in rendering.workloads() {
        if workload.pod()["automountServiceAccountToken"] == false {
            continue;
        }
        let policies = policies_of(rendering, &workload);
        let rules = policies.iter().flat_map(|policy| list(policy, "/spec/egress"));
        let anywhere = rules.filter(|rule| rule.get("to").is_none()).flat_map(|rule| list(rule, "/ports"));
        let open: BTreeSet<i64> = anywhere.filter_map(|port| port["port"].as_i64()).collect();
        for port in API_SERVER.iter().filter(|port| !open.contains(port)) {
            let name = name_of(workload.object);
            say(format!(
                "{name} has a token, and no NetworkPolicy lets it out to TCP {port}: some API servers are there"
            ));
        }
    }
}

/// What the service cannot do without.
fn needed(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let policies = policies_of(rendering, &rendering.service());
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

/// Of the local overlay alone, which has nearly everything inside.
fn local(tree: &Tree) -> Vec<String> {
    overlay(tree, "deploy/kubernetes/overlays/local").map_or_else(|error| vec![error], |all| check(tree, &all))
}

#[test]
fn a_way_that_only_one_end_knows_is_caught() {
    if has_kubectl() {
        let file = "deploy/kubernetes/overlays/local/network-policies.yaml";
        let (exporter, misspelt) = ("name: postgres-exporter\n      ports", "name: postgres-exporte\n      ports");
        caught(local, file, exporter, misspelt, "NetworkPolicy postgres: lets in pods that are not there");
        caught(local, file, exporter, misspelt, "lets postgres-exporter out to postgres 5432");
        caught(local, file, "port: 9121", "port: 9122", "redis-exporter: lets [\"prometheus\"] in, but no policy");
        caught(local, file, "port: otlp-http", "port: otlp-grpc", "lets pods in on \"otlp-grpc\", where no");
        caught(local, file, "port: otlp-http", "port: otlp-grpc", "lets keel out to otel-collector 4318");
    }
}

#[test]
fn a_cluster_whose_api_server_is_out_of_reach_is_caught() {
    if has_kubectl() {
        let file = "deploy/kubernetes/overlays/local/network-policies.yaml";
        caught(local, file, "port: 8443", "port: 8444", "prometheus has a token, and no NetworkPolicy");
        let file = "deploy/kubernetes/components/collector/network-policies.yaml";
        caught(problems, file, "port: 16443", "port: 16444", "otel-collector has a token, and no NetworkPolicy");
    }
}
