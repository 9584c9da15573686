//! The compose files as one: what services, secrets, volumes and networks there are, and who reaches whom.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::Tree;

/// What listens inside each container, without those of the example. Published by their images or their configuration.
const PORTS: [(&str, &[u16]); 13] = [
    ("keel", &[8080, 9464]),
    ("postgres", &[5432]),
    ("redis", &[6379]),
    ("otel-collector", &[4317, 4318, 8888, 13133, 24224]),
    ("prometheus", &[9090]),
    ("alertmanager", &[9093]),
    ("alert-sink", &[8080]),
    ("postgres-exporter", &[9187]),
    ("redis-exporter", &[9121]),
    ("tempo", &[3200, 4317]),
    ("loki", &[3100]),
    ("grafana", &[3000]),
    ("jaeger", &[4317, 4318, 13133, 16686]),
];

/// The services of all compose files together, each with what any of the files says of it.
#[derive(Default)]
pub struct Stack {
    pub services: BTreeMap<String, Value>,
    pub secrets: BTreeMap<String, Value>,
    pub volumes: BTreeSet<String>,
    pub networks: BTreeSet<String>,
}

impl Stack {
    pub fn of(tree: &Tree) -> Self {
        let mut stack = Self::default();
        for path in tree.files("deploy", ".yaml") {
            if !path.starts_with("deploy/compose") {
                continue;
            }
            let document = &tree.yaml(&path)[0];
            for (name, service) in entries(&document["services"]) {
                merge(stack.services.entry(name.clone()).or_insert(Value::Null), service);
            }
            stack.secrets.extend(entries(&document["secrets"]).map(|(name, secret)| (name.clone(), secret.clone())));
            stack.volumes.extend(entries(&document["volumes"]).map(|(name, _)| name.clone()));
            stack.networks.extend(entries(&document["networks"]).map(|(name, _)| name.clone()));
        }
        stack
    }

    /// What is wrong with an address inside the network. `from` is on a network with it, or is None for anybody.
    pub fn unreachable(&self, from: Option<&str>, host: &str, port: u16) -> Option<String> {
        let Some(service) = self.services.get(host) else {
            return Some(format!("there is no service `{host}`; those are {:?}", self.services.keys()));
        };
        let known = PORTS.iter().find(|(name, _)| *name == host).map(|(_, ports)| *ports);
        // The example's say by their own port what they listen on.
        let published = strings(&service["ports"]).filter_map(|port| port.rsplit(':').next()?.parse().ok());
        if !known.unwrap_or(&[]).contains(&port) && !published.collect::<Vec<u16>>().contains(&port) {
            return Some(format!("`{host}` does not listen on {port}; it does on {known:?}"));
        }
        let from = &self.services[from?];
        (networks(from).is_disjoint(&networks(service))).then(|| format!("no network is shared with `{host}`"))
    }

    pub fn secret_targets(&self, service: &str) -> BTreeSet<String> {
        self.services.get(service).into_iter().flat_map(secrets).map(|(_, target)| target).collect()
    }
}

/// As `docker compose` adds a later file: maps by key, lists one after the other, all else replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

pub fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

pub fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub fn networks(service: &Value) -> BTreeSet<&str> {
    let named: BTreeSet<&str> = strings(&service["networks"]).collect();
    if named.is_empty() { BTreeSet::from(["default"]) } else { named }
}

/// Name and path in the container of each secret.
pub fn secrets(service: &Value) -> Vec<(String, String)> {
    let list = service["secrets"].as_array().into_iter().flatten();
    list.map(|secret| match secret {
        Value::String(name) => (name.clone(), format!("/run/secrets/{name}")),
        long => (text(&long["source"]).to_owned(), text(&long["target"]).to_owned()),
    })
    .collect()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `${NAME:-default}` as it is without the variable.
pub fn resolved(text: &str) -> String {
    Regex::new(r"\$\{[A-Z_]+:-([^}]*)\}").unwrap().replace_all(text, "$1").into_owned()
}
