//! What docs/pipeline.md tells to look at behind the service is on a panel.

use std::collections::BTreeSet;

use regex::Regex;

use super::{
    super::{Tree, caught, none},
    inspect, promql,
};
use crate::repo::root;

/// Names of docs/pipeline.md that no panel shows, each with the reason.
const ONLY_TOLD: &[(&str, &str)] = &[
    ("otelcol_processor_tail_sampling_count_traces_sampled", "it explains, policy by policy, what the panel sums up"),
    (
        "otelcol_processor_tail_sampling_sampling_late_span_age_count",
        "a distribution to set decision_wait by, not to watch",
    ),
];

fn problems(tree: &Tree) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/pipeline.md")).unwrap();
    let shown: BTreeSet<String> =
        inspect::queries(tree).iter().flat_map(|query| promql::look(&query.expr).series).collect();
    let name = Regex::new(r"\b(?:otelcol|tempo|loki)_[a-z_]+\b").unwrap();
    let told: BTreeSet<&str> = name.find_iter(&page).map(|found| found.as_str()).collect();
    assert!(told.len() > 15, "docs/pipeline.md names {told:?}");
    let mut problems = Vec::new();
    for name in &told {
        let excused = ONLY_TOLD.iter().any(|(known, _)| known == name);
        if shown.contains(*name) == excused {
            problems.push(format!("docs/pipeline.md names `{name}`: show it, or say in ONLY_TOLD why not"));
        }
    }
    let stale = ONLY_TOLD.iter().filter(|(name, _)| !told.contains(name));
    problems.extend(stale.map(|(name, _)| format!("`{name}` is in ONLY_TOLD and not in docs/pipeline.md")));
    problems
}

#[test]
fn what_the_page_on_losses_names_is_on_a_panel() {
    none(&problems(&Tree::checkout()));
    let telemetry = "deploy/grafana/dashboards/telemetry.json";
    caught(problems, telemetry, "tempo_discarded_spans_total", "up", "names `tempo_discarded_spans_total`");
    caught(
        problems,
        telemetry,
        "otelcol_exporter_enqueue_failed_spans",
        "up",
        "names `otelcol_exporter_enqueue_failed",
    );
}
