//! docs/pipeline.md: every name in it is one of ours, which the code is asked for, or stands in a list of others' names
//! below, which was made by hand and is as good as the reading was.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::repo::{
    deploy::{code, printed},
    root,
};

/// Names of others, read in the sources and documentation of the pinned versions.
const OTHERS: &[&str] = &[
    // The collector: exporterhelper, receiverhelper, the memory limiter and the tail sampling
    // processor.
    "otelcol_exporter_enqueue_failed_log_records",
    "otelcol_exporter_enqueue_failed_spans",
    "otelcol_exporter_queue_capacity",
    "otelcol_exporter_queue_size",
    "otelcol_exporter_send_failed_log_records",
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_sent_log_records",
    "otelcol_exporter_sent_spans",
    "otelcol_processor_memory_limiter_refused_log_records",
    "otelcol_processor_memory_limiter_refused_spans",
    "otelcol_processor_tail_sampling_global_count_traces_sampled",
    "otelcol_processor_tail_sampling_count_traces_sampled",
    "otelcol_processor_tail_sampling_sampling_late_span_age_count",
    "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
    "otelcol_receiver_accepted_log_records",
    "otelcol_receiver_accepted_spans",
    "otelcol_receiver_refused_log_records",
    "otelcol_receiver_refused_spans",
    // Tempo.
    "tempo_discarded_spans_total",
    "tempo_distributor_attributes_truncated_total",
    "tempo_distributor_spans_received_total",
    // Loki.
    "loki_discarded_samples_total",
    "loki_distributor_lines_received_total",
    "loki_mutated_samples_total",
    // Prometheus.
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_tsdb_exemplar_max_exemplars",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
];

/// Keys of files in deploy/, settings and labels that the page speaks of.
const WORDS: &[&str] = &[
    "block_retention",
    "decision_wait",
    "file_log",
    "file_storage",
    "fluent_forward",
    "max_elapsed_time",
    "limits_config",
    "max_line_size",
    "num_traces",
    "parentbased_always_on",
    "queue_size",
    "rate_limit_bytes",
    "retention_period",
    "scrape_timeout",
    "trace_id",
];

/// Every target has these from its scrape.
const TARGET: [&str; 3] = ["job", "instance", "environment"];

/// Names in backticks and in queries that nobody has.
fn strangers(page: &str) -> Vec<String> {
    let catalogue: Value = serde_json::from_str(&printed(&["catalogue"])).unwrap();
    let events: BTreeSet<&str> =
        catalogue["events"].as_array().unwrap().iter().filter_map(|event| event["name"].as_str()).collect();
    let name = Regex::new(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:\{([^}`]*)\})?`").unwrap();
    let query = Regex::new(r"\b([a-z][a-z0-9]*(?:_[a-z0-9]+)+)\b(?:\{([^}]*)\})?\[").unwrap();
    let label = Regex::new("([a-z_]+)(?:=|!)").unwrap();
    let mut problems = Vec::new();
    for found in name.captures_iter(page).chain(query.captures_iter(page)) {
        let name = &found[1];
        match code().labels(name) {
            Some(known) => {
                let labels = found.get(2).map_or("", |labels| labels.as_str());
                let used = label.captures_iter(labels).map(|label| label.get(1).unwrap().as_str());
                for label in used.filter(|label| !known.contains(*label) && !TARGET.contains(label)) {
                    problems.push(format!("docs/pipeline.md: `{name}` has no label {label}"));
                }
            }
            None if events.contains(name) || OTHERS.contains(&name) || WORDS.contains(&name) => {}
            None => problems.push(format!("docs/pipeline.md: nobody has `{name}`")),
        }
    }
    problems
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/pipeline.md")).unwrap()
}

#[test]
fn every_name_in_the_page_on_losses_is_in_the_code_or_listed_as_read_in_others_sources() {
    let page = page();
    assert_eq!(strangers(&page), Vec::<String>::new());
    let ours = ["telemetry_spans_dropped_total", "telemetry_export_failures_total", "log_lines_dropped_total"];
    for name in ours.iter().chain(["telemetry_log_records_dropped_total", "log_suppressed"].iter()).chain(OTHERS) {
        assert!(page.contains(*name), "docs/pipeline.md does not say what to do about {name}");
    }
}

#[test]
fn a_name_that_is_neither_in_the_code_nor_listed_is_caught() {
    for (planted, named) in [
        ("see `telemetry_span_drops_total`", "nobody has `telemetry_span_drops_total`"),
        ("see `telemetry_spans_dropped_total{cause=\"x\"}`", "has no label cause"),
        ("see `otelcol_exporter_lost_spans`", "nobody has `otelcol_exporter_lost_spans`"),
        ("sum(rate(log_line_total{job=\"keel\"}[5m]))", "nobody has `log_line_total`"),
    ] {
        assert!(strangers(planted).iter().any(|problem| problem.contains(named)), "{planted}");
    }
}
