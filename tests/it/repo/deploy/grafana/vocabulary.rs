//! Which series and labels exist: the service's own from `keel catalogue`, and of what others export the part that
//! dashboards use, and what the rules record. A name of an exporter stands here only if both Debian's package, which `make dashboards-check`
//! runs, and the pinned image have it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use super::{
    super::{Tree, code},
    inspect::{list, text},
    promql,
};

/// Prometheus has these rules wherever the service runs; what they record can be asked for.
pub const RULES: &str = "deploy/prometheus/rules/platform.yaml";

/// What is recorded, and of what it is made.
static RECORDED: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let rules = Tree::checkout().yaml(RULES).remove(0);
    let rules = list(&rules, "/groups").iter().flat_map(|group| list(group, "/rules"));
    let named = rules.map(|rule| (text(rule, "record").to_owned(), text(rule, "expr").to_owned()));
    named.filter(|(name, _)| !name.is_empty()).collect()
});

/// What Prometheus adds to each series it scrapes.
pub const TARGET: &[&str] = &["job", "instance", "environment"];
/// What it adds in a cluster besides.
pub const CLUSTER: &[&str] = &["namespace", "pod"];

pub struct Exporter {
    /// Value of `job`; empty where series are not scraped with one that is known.
    pub job: &'static str,
    /// Where it runs, if not beside every service.
    pub only_in: Option<&'static str>,
    pub series: &'static [(&'static str, &'static [&'static str])],
}

/// postgres-exporter 0.11.1 and 0.20.1.
const POSTGRES: Exporter = Exporter {
    job: "postgres",
    only_in: None,
    series: &[
        ("pg_up", &[]),
        ("pg_database_size_bytes", &["datname"]),
        ("pg_locks_count", &["datname", "mode"]),
        ("pg_settings_max_connections", &[]),
        ("pg_stat_activity_count", &["datname", "state"]),
        ("pg_stat_activity_max_tx_duration", &["datname", "state"]),
        ("pg_stat_database_blks_hit", &["datname"]),
        ("pg_stat_database_blks_read", &["datname"]),
        ("pg_stat_database_deadlocks", &["datname"]),
        ("pg_stat_database_numbackends", &["datname"]),
        ("pg_stat_database_temp_bytes", &["datname"]),
        ("pg_stat_database_tup_deleted", &["datname"]),
        ("pg_stat_database_tup_fetched", &["datname"]),
        ("pg_stat_database_tup_inserted", &["datname"]),
        ("pg_stat_database_tup_updated", &["datname"]),
        ("pg_stat_database_xact_commit", &["datname"]),
        ("pg_stat_database_xact_rollback", &["datname"]),
    ],
};

/// redis-exporter 1.45.0 and 1.88.0.
const REDIS: Exporter = Exporter {
    job: "redis",
    only_in: None,
    series: &[
        ("redis_up", &[]),
        ("redis_blocked_clients", &[]),
        ("redis_commands_duration_seconds_total", &["cmd"]),
        ("redis_commands_total", &["cmd"]),
        ("redis_connected_clients", &[]),
        ("redis_db_keys", &["db"]),
        ("redis_evicted_keys_total", &[]),
        ("redis_expired_keys_total", &[]),
        ("redis_keyspace_hits_total", &[]),
        ("redis_keyspace_misses_total", &[]),
        ("redis_memory_max_bytes", &[]),
        ("redis_memory_used_bytes", &[]),
        ("redis_rejected_connections_total", &[]),
    ],
};

/// OpenTelemetry Collector 0.159, whose reader is set to add no suffixes.
const COLLECTOR: Exporter = Exporter {
    job: "otel-collector",
    only_in: Some("stack"),
    series: &[
        ("otelcol_exporter_enqueue_failed_spans", &["exporter"]),
        ("otelcol_exporter_enqueue_failed_log_records", &["exporter"]),
        ("otelcol_exporter_queue_capacity", &["exporter"]),
        ("otelcol_exporter_queue_size", &["exporter"]),
        ("otelcol_exporter_send_failed_spans", &["exporter"]),
        ("otelcol_exporter_send_failed_log_records", &["exporter"]),
        ("otelcol_exporter_sent_spans", &["exporter"]),
        ("otelcol_exporter_sent_log_records", &["exporter"]),
        ("otelcol_receiver_accepted_spans", &["receiver", "transport"]),
        ("otelcol_receiver_accepted_log_records", &["receiver", "transport"]),
        ("otelcol_receiver_refused_spans", &["receiver", "transport"]),
        ("otelcol_receiver_refused_log_records", &["receiver", "transport"]),
        ("otelcol_processor_memory_limiter_refused_spans", &["processor"]),
        ("otelcol_processor_memory_limiter_refused_log_records", &["processor"]),
        ("otelcol_processor_tail_sampling_global_count_traces_sampled", &["sampled"]),
        ("otelcol_processor_tail_sampling_sampling_trace_dropped_too_early", &[]),
    ],
};

/// Tempo 3.0 of itself.
const TEMPO: Exporter = Exporter {
    job: "tempo",
    only_in: Some("stack"),
    series: &[
        ("tempo_discarded_spans_total", &["reason", "tenant"]),
        ("tempo_distributor_attributes_truncated_total", &[]),
        ("tempo_distributor_spans_received_total", &[]),
    ],
};

/// Loki of itself.
const LOKI: Exporter = Exporter {
    job: "loki",
    only_in: Some("stack"),
    series: &[
        ("loki_discarded_samples_total", &["reason", "tenant"]),
        ("loki_distributor_lines_received_total", &[]),
        ("loki_mutated_samples_total", &[]),
    ],
};

/// Metrics that Tempo 3.0 makes of traces and writes to Prometheus.
const TRACES: Exporter = Exporter {
    job: "",
    only_in: Some("stack"),
    series: &[
        ("traces_service_graph_request_total", &["client", "server", "connection_type"]),
        ("traces_service_graph_request_failed_total", &["client", "server", "connection_type"]),
        ("traces_spanmetrics_calls_total", &["service", "span_name", "span_kind", "status_code"]),
        ("traces_spanmetrics_latency_bucket", &["service", "span_name", "span_kind", "status_code", "le"]),
    ],
};

/// The kubelet's cAdvisor.
const CADVISOR: Exporter = Exporter {
    job: "",
    only_in: Some("cluster"),
    series: &[
        ("container_cpu_cfs_throttled_periods_total", &["namespace", "pod", "container"]),
        ("container_cpu_cfs_periods_total", &["namespace", "pod", "container"]),
        ("container_fs_reads_bytes_total", &["namespace", "pod", "container", "device"]),
        ("container_fs_writes_bytes_total", &["namespace", "pod", "container", "device"]),
        ("container_memory_working_set_bytes", &["namespace", "pod", "container"]),
        ("container_network_receive_bytes_total", &["namespace", "pod", "interface"]),
        ("container_network_transmit_bytes_total", &["namespace", "pod", "interface"]),
    ],
};

/// kube-state-metrics 2, the kubelet's volumes and cert-manager: `rules/cluster.yaml` wants them.
const CLUSTER_STATE: Exporter = Exporter {
    job: "",
    only_in: Some("cluster"),
    series: &[
        ("certmanager_certificate_expiration_timestamp_seconds", &["namespace", "name"]),
        ("kube_deployment_spec_replicas", &["namespace", "deployment"]),
        ("kube_deployment_status_condition", &["namespace", "deployment", "condition", "status"]),
        ("kube_deployment_status_replicas_available", &["namespace", "deployment"]),
        ("kube_horizontalpodautoscaler_spec_max_replicas", &["namespace", "horizontalpodautoscaler"]),
        ("kube_horizontalpodautoscaler_status_current_replicas", &["namespace", "horizontalpodautoscaler"]),
        ("kube_job_complete", &["namespace", "job_name", "condition"]),
        ("kube_job_created", &["namespace", "job_name"]),
        ("kube_job_failed", &["namespace", "job_name", "condition"]),
        ("kube_pod_container_status_last_terminated_reason", &["namespace", "pod", "container", "reason"]),
        ("kube_pod_container_status_restarts_total", &["namespace", "pod", "container"]),
        ("kube_pod_container_status_waiting_reason", &["namespace", "pod", "container", "reason"]),
        ("kubelet_volume_stats_available_bytes", &["namespace", "persistentvolumeclaim"]),
        ("kubelet_volume_stats_capacity_bytes", &["namespace", "persistentvolumeclaim"]),
    ],
};

/// Prometheus' own.
const PROMETHEUS: Exporter = Exporter {
    job: "",
    only_in: None,
    series: &[("up", &[]), ("scrape_duration_seconds", &[]), ("ALERTS", &["alertname", "alertstate", "severity"])],
};

const EXPORTERS: [&Exporter; 9] =
    [&POSTGRES, &REDIS, &COLLECTOR, &TEMPO, &LOKI, &TRACES, &CADVISOR, &CLUSTER_STATE, &PROMETHEUS];

fn exporter(series: &str) -> Option<(&'static Exporter, &'static [&'static str])> {
    EXPORTERS.into_iter().find_map(|exporter| {
        exporter.series.iter().find(|(name, _)| *name == series).map(|(_, labels)| (exporter, *labels))
    })
}

/// The values of `job` that a series of an exporter has; none where they are not ours to say.
pub fn jobs(series: &str) -> Vec<&'static str> {
    match exporter(series).map(|(exporter, _)| exporter.job) {
        None | Some("") => Vec::new(),
        // Gateways and agents are the same program.
        Some("otel-collector") => vec!["otel-collector", "otel-agent"],
        Some(job) => vec![job],
    }
}

/// `stack` or `cluster`: where a series exists, if not wherever the service runs.
pub fn only_in(series: &str) -> Option<&'static str> {
    exporter(series).and_then(|(exporter, _)| exporter.only_in)
}

/// All labels a series has in Prometheus. None: there is no such series.
pub fn labels(series: &str) -> Option<BTreeSet<String>> {
    let target = TARGET.iter().chain(CLUSTER).map(|label| (*label).to_owned());
    if let Some((_, own)) = exporter(series) {
        return Some(own.iter().map(|label| (*label).to_owned()).chain(target).collect());
    }
    // What a rule leaves of the labels, and nothing of the target.
    if let Some(made_of) = RECORDED.get(series) {
        return Some(promql::look(made_of).labels);
    }
    let own = code().labels(series)?;
    // A label of the target's name is moved out of its way.
    let taken = |label: String| {
        if TARGET.contains(&label.as_str()) || CLUSTER.contains(&label.as_str()) {
            format!("exported_{label}")
        } else {
            label
        }
    };
    Some(own.into_iter().map(taken).chain(target).collect())
}
