//! Grafana in the composed stack: it finds the files here where it looks for them, and its data sources are the
//! services that run beside it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{Tree, caught, datasources, none},
    inspect::{self, list, text},
};
use crate::repo::root;

const PROVIDERS: &str = "deploy/grafana/provisioning/dashboards";
const COMPOSE: &str = "deploy/compose.observability.yaml";
const RED: &str = "deploy/grafana/dashboards/red.json";
const MONITORS: &str = "deploy/kubernetes/components/monitoring/service-monitors.yaml";
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yaml";

/// Keys of a provider of dashboards in Grafana's documentation.
const KEYS: &str = "allowUiUpdates disableDeletion folder folderUid name options options.foldersFromFilesStructure \
                    options.path orgId type updateIntervalSeconds";

fn providers(tree: &Tree) -> Vec<(String, Value)> {
    let of = |path: String| {
        let providers: Vec<Value> =
            tree.yaml(&path).iter().flat_map(|document| list(document, "/providers").to_vec()).collect();
        providers.into_iter().map(move |provider| (path.clone(), provider)).collect::<Vec<_>>()
    };
    tree.files(PROVIDERS, ".yaml").into_iter().flat_map(of).collect()
}

fn dashboards(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    if providers(tree).is_empty() {
        problems.push(format!("{PROVIDERS}: no provider, and so Grafana has no dashboards"));
    }
    for (path, provider) in providers(tree) {
        let mut used = BTreeSet::new();
        datasources::keys(&provider, "", &mut used);
        for key in used.iter().filter(|key| !KEYS.split_whitespace().any(|known| known == *key)) {
            problems.push(format!("{path}: Grafana's documentation has no `{key}`"));
        }
        if provider["allowUiUpdates"] != false {
            problems.push(format!("{path}: a change in the browser would be lost: allowUiUpdates is not false"));
        }
    }
    problems
}

/// What the files here say against `compose.observability.yaml` and `prometheus.yaml`.
fn stack(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let compose = tree.yaml(COMPOSE).remove(0);
    let mounts: Vec<&str> = list(&compose, "/services/grafana/volumes").iter().filter_map(Value::as_str).collect();
    let mut mounted = |from: &str, to: &str| {
        if !mounts.iter().any(|mount| mount.split(':').take(2).eq([from, to])) {
            problems.push(format!("{COMPOSE}: Grafana does not have {from} at {to}, only {mounts:?}"));
        }
    };
    mounted("./grafana/provisioning", "/etc/grafana/provisioning");
    for (_, provider) in providers(tree) {
        mounted("./grafana/dashboards", provider["options"]["path"].as_str().unwrap_or_default());
    }
    let interval = tree.yaml(PROMETHEUS).remove(0)["global"]["scrape_interval"].clone();
    problems.extend(retention(tree, &compose));
    for (path, source) in datasources::sources(tree).into_values() {
        let host = text(&source, "url").trim_start_matches("http://").split(':').next().unwrap_or_default().to_owned();
        if compose["services"][&host].is_null() {
            problems.push(format!("{path}: {COMPOSE} has no service `{host}`"));
        }
        let said = &source["jsonData"]["timeInterval"];
        if source["type"] == "prometheus" && *said != interval {
            problems.push(format!("{path}: timeInterval is {said}, and {PROMETHEUS} scrapes every {interval}"));
        }
    }
    problems
}

/// The panel says how far back one can look, and that is how long the stack keeps metrics.
fn retention(tree: &Tree, compose: &Value) -> Option<String> {
    let flags = list(compose, "/services/prometheus/command").iter().filter_map(Value::as_str);
    let kept = |name: &str| {
        let flag = format!("--storage.tsdb.retention.{name}=");
        flags.clone().find_map(|given| given.strip_prefix(&flag)).unwrap_or_default().to_owned()
    };
    let said = format!("keeps {} or {}", kept("time").replace('d', " days"), kept("size").replace("GB", " GB"));
    (!tree.text(RED).contains(&said)).then(|| format!("{RED}: Availability does not say that Prometheus {said}"))
}

/// Where another Grafana shows the dashboards, docs/deploy.md says what they need there: the uids that they ask, and as
/// its `timeInterval` how often the ServiceMonitor scrapes.
fn elsewhere(tree: &Tree) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with("| Grafana | yours")).unwrap_or_default();
    let asked = inspect::dashboards(tree).into_iter().flat_map(|dashboard| {
        let queries = dashboard.queries();
        queries.iter().map(|(_, query)| text(&query["datasource"], "uid").to_owned()).collect::<Vec<_>>()
    });
    let mut needed: BTreeSet<String> = asked.collect();
    let monitors = tree.yaml(MONITORS);
    let ours = monitors.iter().find(|monitor| monitor["metadata"]["name"] == "keel").unwrap();
    needed.insert(text(&ours["spec"]["endpoints"][0], "interval").to_owned());
    let missing = needed.iter().filter(|needed| !row.contains(&format!("`{needed}`")));
    missing.map(|missing| format!("docs/deploy.md: the row on Grafana does not name `{missing}`")).collect()
}

#[test]
fn a_grafana_of_ones_own_is_told_what_the_dashboards_need() {
    none(&elsewhere(&Tree::checkout()));
    caught(elsewhere, RED, "\"uid\": \"prometheus\"", "\"uid\": \"mimir\"", "does not name `mimir`");
    caught(elsewhere, MONITORS, "interval: 15s", "interval: 20s", "does not name `20s`");
}

#[test]
fn dashboards_are_provisioned_from_files() {
    none(&dashboards(&Tree::checkout()));
    caught(dashboards, &format!("{PROVIDERS}/keel.yaml"), "allowUiUpdates:", "allowUiUpdate:", "no `allowUiUpdate`");
    caught(dashboards, &format!("{PROVIDERS}/keel.yaml"), "providers:", "provider:", "no provider");
}

#[test]
fn grafana_runs_beside_what_it_asks_and_finds_its_files() {
    none(&stack(&Tree::checkout()));
    caught(
        stack,
        &format!("{PROVIDERS}/keel.yaml"),
        "path: /etc/keel/dashboards",
        "path: /etc/dashboards",
        "/etc/dashboards",
    );
    let sources = "deploy/grafana/provisioning/datasources";
    caught(stack, COMPOSE, "retention.time=7d", "retention.time=30d", "keeps 30 days or 2 GB");
    caught(stack, &format!("{sources}/loki.yaml"), "http://loki:", "http://lok:", "no service `lok`");
    caught(stack, &format!("{sources}/prometheus.yaml"), "timeInterval: 5s", "timeInterval: 60s", "scrapes every");
}
