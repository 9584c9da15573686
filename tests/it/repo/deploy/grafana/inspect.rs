//! Reads dashboards as Grafana does: panels inside closed rows too, and queries with their variables filled in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

use super::{super::Tree, promql, vocabulary};

/// What Grafana fills in itself, as for a system that runs for two minutes.
const BUILT_IN: &[(&str, &str)] =
    &[("__auto", "15s"), ("__interval", "15s"), ("__range", "2m"), ("__rate_interval", "30s")];

pub struct Dashboard {
    /// Name of the file: `red`.
    pub name: String,
    pub path: String,
    pub json: Value,
}

pub fn dashboards(tree: &Tree) -> Vec<Dashboard> {
    let one = |path: String| {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned();
        Dashboard { name, json: tree.json(&path), path }
    };
    tree.files("deploy/grafana/dashboards", ".json").into_iter().map(one).collect()
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Dashboard {
    /// Panels of open and closed rows, without the rows.
    pub fn panels(&self) -> Vec<&Value> {
        let top = list(&self.json, "/panels").iter();
        top.flat_map(|panel| if panel["type"] == "row" { list(panel, "/panels").iter().collect() } else { vec![panel] })
            .collect()
    }

    pub fn variables(&self) -> &[Value] {
        list(&self.json, "/templating/list")
    }

    /// Every query with its place: of panels, of annotations, of variables. The value is what Grafana sends.
    pub fn queries(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for panel in self.panels() {
            for target in list(panel, "/targets") {
                found.push((format!("{} {}", text(panel, "title"), text(target, "refId")), target));
            }
        }
        for annotation in list(&self.json, "/annotations/list").iter().filter(|each| each["builtIn"] != 1) {
            found.push((format!("annotation {}", text(annotation, "name")), annotation));
        }
        for variable in self.variables().iter().filter(|each| each["type"] == "query") {
            found.push((format!("variable {}", text(variable, "name")), variable));
        }
        found
    }

    /// The values that a fresh local system has.
    fn values(&self) -> BTreeMap<String, String> {
        let value = |variable: &Value| match text(variable, "name") {
            "environment" => "development".to_owned(),
            "service" => "keel".to_owned(),
            // All of them chosen one by one, so that each is seen by the checks.
            _ if variable["type"] == "custom" => text(variable, "query").replace(',', "|"),
            _ if variable["includeAll"] == true => ".*".to_owned(),
            _ => text(variable, "query").split(',').next().unwrap_or_default().to_owned(),
        };
        let own = self.variables().iter().map(|variable| (text(variable, "name").to_owned(), value(variable)));
        own.chain(BUILT_IN.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
    }

    /// The query with its variables filled in.
    pub fn filled(&self, query: &str) -> String {
        let values = self.values();
        VARIABLE
            .replace_all(query, |found: &regex::Captures<'_>| values.get(name_in(found)).cloned().unwrap_or_default())
            .into_owned()
    }
}

static VARIABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:[.:][^}]*)?\})").unwrap());
static LABEL_VALUES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^label_values\((.+),\s*([a-z_]+)\)$").unwrap());

fn name_in<'a>(found: &'a regex::Captures<'_>) -> &'a str {
    found.get(1).or_else(|| found.get(2)).map_or("", |name| name.as_str())
}

/// The variables that a text names, without those that Grafana has itself.
pub fn variables_in(text: &str) -> BTreeSet<String> {
    let links = ["__url_time_range", "__field", "__data", "__value"];
    VARIABLE
        .captures_iter(text)
        .map(|found| name_in(&found).to_owned())
        .filter(|name| !BUILT_IN.iter().any(|(known, _)| known == name) && !links.contains(&name.as_str()))
        .collect()
}

/// The PromQL of a query, a `label_values(…)` as the series it looks at. None: it goes to another data source.
pub fn promql_of(query: &Value) -> Option<String> {
    if query["datasource"]["type"] != "prometheus" {
        return None;
    }
    if let Some(expr) = query["expr"].as_str() {
        return Some(expr.to_owned());
    }
    let asked = query["query"]["query"].as_str().unwrap_or_default();
    Some(match LABEL_VALUES.captures(asked) {
        Some(found) => format!("group by ({}) ({})", &found[2], &found[1]),
        None => asked.to_owned(),
    })
}

/// A query in PromQL as Prometheus gets it.
pub struct Query {
    /// `red`, `sql`, … the name of the file.
    pub dashboard: String,
    /// Panel and reference (`Error ratio A`), `annotation deploys` or `variable route`; and `(stack)` or `(cluster)`
    /// where its series exist nowhere else.
    pub place: String,
    /// Variables filled in; of a variable's `label_values(selector, label)` `group by (label) (selector)`.
    pub expr: String,
}

pub fn queries(tree: &Tree) -> Vec<Query> {
    let mut found = Vec::new();
    for dashboard in dashboards(tree) {
        for (place, query) in dashboard.queries() {
            let Some(expr) = promql_of(query).map(|expr| dashboard.filled(&expr)) else { continue };
            let series = promql::look(&expr).series;
            let place = match series.iter().find_map(|series| vocabulary::only_in(series)) {
                Some(only) => format!("{place} ({only})"),
                None => place,
            };
            found.push(Query { dashboard: dashboard.name.clone(), place, expr });
        }
    }
    found
}
