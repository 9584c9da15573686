//! `deploy/collector`, `deploy/tempo` and `deploy/loki` against the documented names of keys (of the collector's contrib
//! parts those of 0.150 to 0.159, of few the values too; none of the three runs here) and against the code: names, attributes, figures. What happens on the way is in the other
//! files, docs/pipeline.md is in `losses`.

mod contents;
mod keys;
mod losses;
mod pipelines;
mod queues;
mod sampling;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use self::keys::Keys;
use super::{Tree, caught, none, printed};

const COMPOSE: &str = "deploy/collector/collector.yaml";
const GATEWAY: &str = "deploy/collector/kubernetes-gateway.yaml";
const AGENT: &str = "deploy/collector/kubernetes-agent.yaml";
const TEMPO: &str = "deploy/tempo/tempo.yaml";
const LOKI: &str = "deploy/loki/loki.yaml";
const BACKENDS: &str = "deploy/collector/backends";
const QUEUES: &str = "deploy/collector/queues";
/// What a file declares besides its service.
const KINDS: [&str; 5] = ["receivers", "processors", "exporters", "extensions", "connectors"];

/// The only document of a file.
fn read(tree: &Tree, path: &str) -> Value {
    let mut documents = tree.yaml(path);
    assert_eq!(documents.len(), 1, "{path} is one document");
    documents.remove(0)
}

fn backends(tree: &Tree) -> Vec<String> {
    tree.files(BACKENDS, ".yaml")
}

/// What the collector may be given, each a file by itself.
fn configurations(tree: &Tree) -> Vec<String> {
    let alone = [COMPOSE, GATEWAY, AGENT].map(ToOwned::to_owned).into_iter();
    alone.chain(backends(tree)).chain(tree.files(QUEUES, ".yaml")).collect()
}

/// As the collector reads several `--config`: blocks are put together, lists and values replaced.
fn merged(base: &Value, over: &Value) -> Value {
    let (Some(base), Some(over)) = (base.as_object(), over.as_object()) else { return over.clone() };
    let mut all = base.clone();
    for (key, value) in over {
        let value = all.get(key).map_or_else(|| value.clone(), |old| merged(old, value));
        all.insert(key.clone(), value);
    }
    Value::Object(all)
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map_or_else(Vec::new, |items| items.iter().filter_map(Value::as_str).collect())
}

fn members<'a>(value: &'a Value, key: &str) -> Vec<(&'a String, &'a Value)> {
    value[key].as_object().map_or_else(Vec::new, |members| members.iter().collect())
}

/// `tail_sampling/slow` is a `tail_sampling`.
fn kind_of(component: &str) -> &str {
    component.split('/').next().unwrap_or(component)
}

/// Attributes a trace is meant to be found by.
fn searchable() -> Vec<String> {
    let catalogue: Value = serde_json::from_str(&printed(&["catalogue"])).unwrap();
    strings(&catalogue["searchable_attributes"]).into_iter().map(ToOwned::to_owned).collect()
}

fn unknown_keys(tree: &Tree) -> Vec<String> {
    let collector = Keys::read("collector.txt", include_str!("collector/keys/collector.txt"));
    let tempo = Keys::read("tempo.txt", include_str!("collector/keys/tempo.txt"));
    let loki = Keys::read("loki.txt", include_str!("collector/keys/loki.txt"));
    let mut problems = tempo.problems(&read(tree, TEMPO), "top", TEMPO);
    problems.extend(loki.problems(&read(tree, LOKI), "top", LOKI));
    for path in configurations(tree) {
        let file = read(tree, &path);
        problems.extend(collector.problems(&file, "top", &path));
        for kind in KINDS {
            for (name, value) in members(&file, kind) {
                let block = format!("{kind} {}", kind_of(name));
                let place = format!("{path}.{kind}.{name}");
                if collector.has(&block) {
                    problems.extend(collector.problems(value, &block, &place));
                } else {
                    problems
                        .push(format!("{place}: no such component; if there is one, add its keys to collector.txt"));
                }
            }
        }
        for (name, pipeline) in members(&file["service"], "pipelines") {
            problems.extend(collector.problems(pipeline, "pipeline", &format!("{path}.service.pipelines.{name}")));
        }
    }
    problems
}

/// Variables a file reads, with what stands for them when they are not set.
fn variables(text: &str) -> BTreeMap<String, Option<String>> {
    let variable = Regex::new(r"\$\{env:([A-Z0-9_]+)(?::-([^}]*))?\}").unwrap();
    let read = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    read.flat_map(|line| {
        variable.captures_iter(line).map(|found| (found[1].to_owned(), found.get(2))).collect::<Vec<_>>()
    })
    .map(|(name, default)| (name, default.map(|default| default.as_str().to_owned())))
    .collect()
}

fn undocumented_variables(tree: &Tree) -> Vec<String> {
    let said = Regex::new(r"(?m)^#   ([A-Z0-9_]+)  +(.*)$").unwrap();
    let mut problems = Vec::new();
    for path in configurations(tree) {
        let text = tree.text(&path);
        let said: BTreeMap<&str, &str> = said
            .captures_iter(&text)
            .map(|found| (found.get(1).unwrap().as_str(), found.get(2).unwrap().as_str()))
            .collect();
        let read = variables(&text);
        for (name, default) in &read {
            match (said.get(name.as_str()), default) {
                (None, _) => problems.push(format!("{path}: ${{env:{name}}} is not in the head of the file")),
                (Some(line), Some(default)) if !line.contains(&format!("default: {default}")) => {
                    problems.push(format!("{path}: the head does not say that {name} is `{default}` by default"));
                }
                _ => {}
            }
        }
        for name in said.keys().filter(|name| !read.contains_key(**name)) {
            problems.push(format!("{path}: the head names {name}, which nothing reads"));
        }
    }
    problems
}

/// `host:port` without scheme and path; a variable is what stands for it when it is not set.
fn address(endpoint: &str) -> Option<(String, u16)> {
    let endpoint = match variables(endpoint).into_values().next() {
        Some(default) => default?,
        None => endpoint.to_owned(),
    };
    let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let (host, port) = rest.split('/').next()?.split_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn port(endpoint: &Value) -> Option<u16> {
    address(endpoint.as_str()?).map(|(_, port)| port)
}

/// Who answers where inside the composition and the cluster, as the files themselves say.
fn listeners(tree: &Tree) -> BTreeMap<(String, u16), &'static str> {
    let (compose, gateway, tempo, loki) =
        (read(tree, COMPOSE), read(tree, GATEWAY), read(tree, TEMPO), read(tree, LOKI));
    let otlp =
        |file: &Value, receiver: &str| port(&file["receivers"][receiver]["protocols"]["grpc"]["endpoint"]).unwrap_or(0);
    let shared = otlp(&compose, "otlp");
    [
        (("otel-collector", shared), "the gateway"),
        (("otel-collector-peers", otlp(&gateway, "otlp/peers")), "the gateways among themselves"),
        (
            ("tempo", port(&tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]).unwrap_or(0)),
            "Tempo",
        ),
        (
            ("loki", loki["server"]["http_listen_port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(0)),
            "Loki",
        ),
        // Theirs to choose, and these are their defaults.
        (("jaeger", 4317), "Jaeger"),
        (("prometheus", 9090), "Prometheus"),
    ]
    .into_iter()
    .map(|((host, port), who)| ((host.to_owned(), port), who))
    .collect()
}

fn wrong_endpoints(tree: &Tree) -> Vec<String> {
    let listeners = listeners(tree);
    let mut called = Vec::new();
    for path in configurations(tree) {
        let file = read(tree, &path);
        for (name, exporter) in members(&file, "exporters") {
            if let Some(endpoint) = exporter["endpoint"].as_str().and_then(address) {
                called.push((format!("{path}.exporters.{name}"), endpoint));
            }
            let peers = &exporter["resolver"]["dns"];
            if let (Some(host), Some(port)) = (peers["hostname"].as_str(), peers["port"].as_str()) {
                let endpoint = address(&host.replacen('}', &format!(":{port}}}"), 1));
                called.push((format!("{path}.exporters.{name}"), endpoint.unwrap_or_default()));
            }
        }
    }
    for target in read(tree, TEMPO)["metrics_generator"]["storage"]["remote_write"].as_array().into_iter().flatten() {
        called
            .push((format!("{TEMPO}.metrics_generator"), target["url"].as_str().and_then(address).unwrap_or_default()));
    }
    let known: Vec<String> = listeners.keys().map(|(host, port)| format!("{host}:{port}")).collect();
    let mut problems: Vec<String> = called
        .iter()
        .filter(|(_, endpoint)| !listeners.contains_key(endpoint))
        .map(|(place, (host, port))| format!("{place}: nobody listens at {host}:{port}; there are {known:?}"))
        .collect();
    problems.extend(missing_services(tree));
    problems
}

/// The names that the calls rely on, in the files that have to define them.
fn missing_services(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let stack = "deploy/compose.observability.yaml";
    let services = read(tree, stack);
    for name in ["otel-collector", "tempo", "loki", "prometheus", "jaeger"] {
        if services["services"][name].is_null() {
            problems.push(format!("{stack}: no service `{name}`, which the collector and Tempo call by that name"));
        }
    }
    let component = "deploy/kubernetes/components/collector";
    let objects: Vec<Value> = tree.files(component, ".yaml").iter().flat_map(|path| tree.yaml(path)).collect();
    for name in ["otel-collector", "otel-collector-peers"] {
        if !objects.iter().any(|object| object["kind"] == "Service" && object["metadata"]["name"] == name) {
            problems.push(format!("{component}: no Service `{name}`, which the collectors call"));
        }
    }
    problems
}

/// The service, the probes and Prometheus find a gateway at these.
fn wrong_ports(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for path in [COMPOSE, GATEWAY, AGENT] {
        let file = read(tree, path);
        let otlp = &file["receivers"]["otlp"]["protocols"];
        let own = &file["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"];
        let mut ports = vec![
            ("health_check", port(&file["extensions"]["health_check"]["endpoint"]), 13133),
            ("its own metrics", own["port"].as_u64().and_then(|port| port.try_into().ok()), 8888),
        ];
        if path != AGENT {
            ports.push(("OTLP over gRPC", port(&otlp["grpc"]["endpoint"]), 4317));
            ports.push(("OTLP over HTTP", port(&otlp["http"]["endpoint"]), 4318));
        }
        for (what, found, expected) in ports {
            if found != Some(expected) {
                problems.push(format!("{path}: {what} is expected at port {expected}, not {found:?}"));
            }
        }
        for name in ["without_scope_info", "without_units", "without_type_suffix"] {
            if own[name] != true {
                problems
                    .push(format!("{path}: {name} is not true: its metrics would have other names than rules expect"));
            }
        }
    }
    problems
}

#[test]
fn every_key_has_a_documented_name_and_some_a_documented_value() {
    none(&unknown_keys(&Tree::checkout()));
}

#[test]
fn a_misspelt_key_and_an_unknown_component_are_caught() {
    caught(unknown_keys, COMPOSE, "check_interval:", "check_intervall:", "memory_limiter.check_intervall");
    caught(unknown_keys, COMPOSE, "  otlp_http/loki:\n", "  otlphttpp/loki:\n", "exporters.otlphttpp/loki");
    caught(unknown_keys, GATEWAY, "routing_key:", "routing_keys:", "load_balancing.routing_keys");
    caught(
        unknown_keys,
        GATEWAY,
        "        tls:\n          insecure:",
        "        tls:\n          unsecure:",
        "otlp.tls.unsecure",
    );
    caught(unknown_keys, AGENT, "start_at:", "starts_at:", "file_log.starts_at");
    caught(unknown_keys, AGENT, "- type: container", "- typ: container", "operators[0].typ");
    caught(
        unknown_keys,
        "deploy/collector/backends/datadog.yaml",
        "      key:",
        "      api_key:",
        "datadog.api.api_key",
    );
    caught(unknown_keys, TEMPO, "send_exemplars:", "exemplars:", "remote_write[0].exemplars");
    caught(unknown_keys, LOKI, "retention_period:", "retention:", "limits_config.retention:");
    caught(unknown_keys, GATEWAY, "routing_key: traceID", "routing_key: trace_id", "`\"trace_id\"` is none of");
    caught(unknown_keys, GATEWAY, "from: connection", "from: connexion", "pod_association[1].sources[0].from");
    caught(unknown_keys, COMPOSE, "sizer: bytes", "sizer: byte", "sending_queue.sizer: `\"byte\"` is none of");
    caught(unknown_keys, AGENT, "max_elapsed_time: 0s", "max_elapsed_time: 0", "is no duration with a unit");
    caught(unknown_keys, COMPOSE, "decision_wait: 15s", "decision_wait: 15sec", "tail_sampling.decision_wait");
    caught(unknown_keys, COMPOSE, "[ERROR]", "[error]", "status_codes");
    caught(unknown_keys, LOKI, "ignore_defaults: true", "ignore_defaults: {a: b}", "takes a value");
}

#[test]
fn every_variable_is_explained_in_the_head_of_its_file() {
    none(&undocumented_variables(&Tree::checkout()));
    caught(
        undocumented_variables,
        "deploy/collector/backends/honeycomb.yaml",
        "#   HONEYCOMB_API_KEY ",
        "#   HONEYCOMB_KEY ",
        "HONEYCOMB_API_KEY",
    );
    caught(undocumented_variables, COMPOSE, "KEEL_TRACE_SHARE:-100", "KEEL_TRACE_SHARE:-50", "`50` by default");
}

#[test]
fn what_is_called_is_there() {
    let tree = Tree::checkout();
    none(&wrong_endpoints(&tree));
    none(&wrong_ports(&tree));
    caught(wrong_endpoints, COMPOSE, "endpoint: tempo:4317", "endpoint: tempoo:4317", "tempoo:4317");
    caught(wrong_endpoints, GATEWAY, ":-http://loki:3100/otlp}", ":-http://loki:3101/otlp}", "loki:3101");
    caught(wrong_endpoints, GATEWAY, ":-otel-collector-peers}", ":-otel-peers}", "otel-peers:4319");
    caught(wrong_endpoints, GATEWAY, "port: \"4319\"", "port: \"4320\"", "otel-collector-peers:4320");
    caught(wrong_endpoints, AGENT, ":-otel-collector:4317}", ":-collector:4317}", "collector:4317");
    caught(wrong_endpoints, TEMPO, "http://prometheus:9090", "http://prometheus:9091", "prometheus:9091");
    caught(wrong_endpoints, LOKI, "http_listen_port: 3100", "http_listen_port: 3110", "loki:3100");
    caught(wrong_endpoints, "deploy/compose.observability.yaml", "\n  loki:\n", "\n  logs:\n", "no service `loki`");
    caught(
        wrong_endpoints,
        "deploy/kubernetes/components/collector/gateway.yaml",
        "  name: otel-collector-peers\n",
        "  name: peers\n",
        "no Service `otel-collector-peers`",
    );
    caught(wrong_ports, COMPOSE, "0.0.0.0:4318", "0.0.0.0:4319", "OTLP over HTTP");
    caught(wrong_ports, AGENT, "without_type_suffix: true", "without_type_suffix: false", "without_type_suffix");
}
