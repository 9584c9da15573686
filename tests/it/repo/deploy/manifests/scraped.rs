//! Who watches the collectors: each that offers metrics is scraped by somebody, and a policy lets them in.

use serde_json::Value;

use super::{
    Rendering, Workload, custom::environment, has_kubectl, holds, list, name_of, namespace_of, references::selected,
    text,
};
use crate::repo::deploy::{Tree, caught};

/// Of every collector (deploy/collector says so, and `collector.rs` compares it).
const METRICS: i64 = 8888;

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    // A component on the base may come without the one that watches.
    let watches = |kind: &str| rendering.of(kind).next().is_some();
    if !(rendering.is_overlay() || watches("ServiceMonitor") || watches("PodMonitor")) {
        return problems;
    }
    let collectors = rendering.workloads();
    for collector in collectors.iter().filter(|workload| workload.ports().iter().any(|(_, port)| *port == METRICS)) {
        let mut say = |what: &str| problems.push(format!("{}: {what}", collector.title()));
        if !is_monitored(rendering, collector) && !is_configured(rendering, collector) {
            say("nobody scrapes its port 8888: no ServiceMonitor, PodMonitor or job of prometheus.yaml selects it");
        }
        if !lets_in(rendering, collector) {
            say("no NetworkPolicy lets Prometheus in to its port `metrics`");
        }
    }
    for monitor in rendering.of("PodMonitor").filter(|_| rendering.is_overlay()) {
        one_monitor(rendering, monitor, &mut |what| {
            problems.push(format!("{}: PodMonitor {}: {what}", rendering.name, name_of(monitor)));
        });
    }
    problems
}

/// What a PodMonitor selects.
fn pods<'a>(rendering: &'a Rendering, monitor: &Value) -> Vec<Workload<'a>> {
    let named: Vec<&str> =
        list(monitor, "/spec/namespaceSelector/matchNames").iter().filter_map(Value::as_str).collect();
    let namespaces = if named.is_empty() { vec![namespace_of(monitor)] } else { named };
    let selector = &monitor["spec"]["selector"]["matchLabels"];
    namespaces.iter().flat_map(|namespace| selected(rendering, namespace, selector)).collect()
}

fn is_monitored(rendering: &Rendering, workload: &Workload<'_>) -> bool {
    let port = |endpoint: &Value| workload.ports().contains(&(text(endpoint, "/port"), METRICS));
    let by_pod = rendering.of("PodMonitor").any(|monitor| {
        pods(rendering, monitor).iter().any(|pod| pod.object == workload.object)
            && list(monitor, "/spec/podMetricsEndpoints").iter().any(port)
    });
    by_pod
        || rendering.of("ServiceMonitor").any(|monitor| {
            let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
            let services = rendering.of("Service").filter(|service| {
                let labels = &service["metadata"]["labels"];
                namespace_of(service) == namespace_of(monitor)
                    && namespace_of(service) == workload.namespace()
                    && wanted.iter().all(|(name, value)| &labels[name] == value)
                    && workload.has_labels(&service["spec"]["selector"])
            });
            services.into_iter().any(|service| {
                list(monitor, "/spec/endpoints").iter().any(|endpoint| {
                    let ports = list(service, "/spec/ports").iter().filter(|port| port["name"] == endpoint["port"]);
                    ports.into_iter().any(|port| port["targetPort"] == "metrics" || port["targetPort"] == METRICS)
                })
            })
        })
}

/// A Prometheus without operator names the Service.
fn is_configured(rendering: &Rendering, workload: &Workload<'_>) -> bool {
    let texts = rendering.of("ConfigMap").filter_map(|map| map.pointer("/data/prometheus.yaml")?.as_str());
    texts.map(|text| serde_saphyr::from_str::<Value>(text).unwrap()).any(|config| {
        let groups = list(&config, "/scrape_configs").iter().flat_map(|scrape| list(scrape, "/static_configs"));
        let targets = groups.flat_map(|group| list(group, "/targets")).filter_map(Value::as_str);
        targets.filter_map(|target| target.strip_suffix(":8888")).any(|host| {
            rendering
                .named("Service", workload.namespace(), host)
                .is_some_and(|service| workload.has_labels(&service["spec"]["selector"]))
        })
    })
}

fn lets_in(rendering: &Rendering, workload: &Workload<'_>) -> bool {
    let policies = rendering.of("NetworkPolicy").filter(|policy| {
        namespace_of(policy) == workload.namespace()
            && workload.has_labels(&policy["spec"]["podSelector"]["matchLabels"])
    });
    let ports = policies.flat_map(|policy| list(policy, "/spec/ingress")).flat_map(|rule| list(rule, "/ports"));
    ports.into_iter().any(|port| port["port"] == "metrics" || port["port"] == METRICS)
}

fn one_monitor(rendering: &Rendering, monitor: &Value, say: &mut impl FnMut(String)) {
    let pods = pods(rendering, monitor);
    let Some(pod) = pods.first() else { return say("its selector matches no pods".to_owned()) };
    let job = pod.template["metadata"]["labels"][text(monitor, "/spec/jobLabel")].as_str().unwrap_or_default();
    if job != name_of(monitor) {
        say(format!("job would be `{job}`, but docs/pipeline.md looks for `{}`", name_of(monitor)));
    }
    for endpoint in list(monitor, "/spec/podMetricsEndpoints") {
        if !pod.ports().iter().any(|(name, _)| endpoint["port"] == *name) {
            say(format!("port {} is none of its pods'", endpoint["port"]));
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

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn every_collector_is_scraped() {
    holds(check);
}

#[test]
fn a_collector_that_nobody_scrapes_is_caught() {
    if has_kubectl() {
        let monitors = "deploy/kubernetes/components/monitoring/service-monitors.yaml";
        caught(problems, monitors, "- keel-collector", "- keel-collectors", "DaemonSet otel-agent: nobody scrapes");
        caught(
            problems,
            monitors,
            "otel-collector\n      app",
            "otel-gate\n      app",
            "otel-collector: nobody scrapes",
        );
        let release = "deploy/kubernetes/release/replacements.yaml";
        caught(problems, release, "kind: PodMonitor", "kind: Probe", "otel-agent: the label environment must be");
        let policies = "deploy/kubernetes/components/collector/network-policies.yaml";
        caught(problems, policies, "port: metrics", "port: otlp-grpc", "otel-collector: no NetworkPolicy lets");
        let local = "deploy/kubernetes/overlays/local/prometheus-config.yaml";
        caught(problems, local, "otel-collector:8888", "otel-collector:4318", "overlays/local: Deployment otel-coll");
    }
}
