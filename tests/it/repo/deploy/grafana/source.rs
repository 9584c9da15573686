//! What a person writes: `deploy/grafana/source/*.yaml`, and `deploy/grafana/shared.yaml` for what dashboards have in
//! common. An unknown key is an error.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, de::DeserializeOwned};

use super::super::Tree;

pub const FOLDER: &str = "deploy/grafana/source";
pub const SHARED: &str = "deploy/grafana/shared.yaml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Pieces of queries, written `<name>` in a query.
    pub fragments: BTreeMap<String, String>,
    pub variables: BTreeMap<String, Variable>,
    pub annotations: BTreeMap<String, Annotation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub label: String,
    pub description: String,
    /// `label_values(…)` of Prometheus.
    pub query: Option<String>,
    /// What can be chosen, where no query says it.
    pub choices: Option<Vec<String>>,
    /// A text field, with what stands in it at first.
    pub text: Option<String>,
    /// Never shown, never changed.
    pub constant: Option<String>,
    #[serde(default)]
    pub multi: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    pub title: String,
    pub text: String,
    pub color: String,
    pub enable: bool,
    /// Its value is the time in milliseconds.
    pub expr: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    pub title: String,
    pub description: String,
    pub variables: Vec<String>,
    #[serde(default)]
    pub annotations: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    #[serde(default)]
    pub collapsed: bool,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    #[default]
    Timeseries,
    Stat,
    Table,
    Heatmap,
    Logs,
    Bargauge,
    NodeGraph,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    pub description: String,
    #[serde(default, rename = "type")]
    pub kind: Kind,
    pub unit: String,
    /// Of 24 columns.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    #[serde(default)]
    pub stacked: bool,
    /// The colour of a value below all thresholds, if not green.
    pub base: Option<String>,
    /// From this value on, this colour.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f64>,
    #[serde(default)]
    pub links: Vec<Link>,
    pub queries: Vec<Query>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub title: String,
    /// Name of the dashboard it leads to.
    pub dashboard: String,
    /// Variables there, from labels of the series clicked on.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub expr: Option<String>,
    pub logql: Option<String>,
    pub traceql: Option<String>,
    #[serde(default)]
    pub service_graph: bool,
    /// Of a series, or the head of a table's column.
    #[serde(default)]
    pub legend: String,
    /// Of a table's column, if it is not the panel's.
    pub unit: Option<String>,
    #[serde(default)]
    pub exemplars: bool,
}

pub fn read<T: DeserializeOwned>(tree: &Tree, path: &str) -> Result<T, String> {
    serde_saphyr::from_str(&tree.text(path)).map_err(|error| format!("{path}: {error}"))
}

/// The sources by name: `red`, `sql`, …
pub fn names(tree: &Tree) -> Vec<String> {
    let name = |path: &String| {
        path.strip_prefix(FOLDER).and_then(|rest| rest.trim_start_matches('/').strip_suffix(".yaml")).map(str::to_owned)
    };
    tree.files(FOLDER, ".yaml").iter().filter_map(name).collect()
}

impl Shared {
    /// The query with its fragments put in, on one line.
    pub fn query(&self, text: &str) -> Result<String, String> {
        let mut missing = None;
        let fragment = Regex::new("<([a-z_]+)>").unwrap();
        let whole =
            fragment.replace_all(text.trim(), |found: &regex::Captures<'_>| match self.fragments.get(&found[1]) {
                Some(fragment) => fragment.clone(),
                None => {
                    missing = Some(found[1].to_owned());
                    String::new()
                }
            });
        match missing {
            Some(name) => Err(format!("no fragment `{name}`; {SHARED} has the fragments")),
            None => Ok(Regex::new(r"\s*\n\s*").unwrap().replace_all(&whole, " ").into_owned()),
        }
    }
}
