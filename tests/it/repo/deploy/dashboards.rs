//! The dashboards of `deploy/grafana/`: they are what their sources make, and ask only for what exists.

use super::Tree;

/// A query in PromQL as Prometheus gets it.
pub struct Query {
    /// `red`, `sql`, … the name of the file.
    pub dashboard: String,
    /// Panel and reference (`Error ratio A`), or `variable route`.
    pub place: String,
    /// Variables replaced; of a variable's `label_values(selector, label)` the selector.
    pub expr: String,
}

/// Every PromQL query of every panel, annotation and variable.
pub fn queries(_tree: &Tree) -> Vec<Query> {
    Vec::new()
}
