//! The table of the `OTEL_*` variables that are honoured: printed into docs/telemetry.md, and each row
//! tried by a test (tests/it/platform/otel_variables.rs fails when one of them has no trial).

/// One variable, or a group that differs in the signal only.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// Whether there are also `OTEL_EXPORTER_OTLP_TRACES_…` and `…_LOGS_…`, which win.
    pub by_signal: bool,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn one(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, by_signal: false, default, meaning }
}

const fn each(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, by_signal: true, default, meaning }
}

pub const VARIABLES: &[Variable] = &[
    one("OTEL_SDK_DISABLED", "false", "`true`: no spans, no export; log lines and metrics stay."),
    one(
        "OTEL_SERVICE_NAME",
        "`service.name`",
        "Name of the service in every signal; wins over the resource attribute.",
    ),
    one("OTEL_RESOURCE_ATTRIBUTES", "", "`key=value,…`, percent-encoded; wins over what the service says of itself."),
    one(
        "OTEL_PROPAGATORS",
        "tracecontext,baggage",
        "Any of `tracecontext`, `baggage`, `b3`, `b3multi`, `xray`; or `none`.",
    ),
    one("OTEL_TRACES_EXPORTER", "otlp", "`otlp` or `none`."),
    one("OTEL_LOGS_EXPORTER", "none", "`none` or `otlp`: then every line is exported too, redacted alike."),
    one(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "`always_on`, `always_off`, `traceidratio`, or these with `parentbased_` before them.",
    ),
    one("OTEL_TRACES_SAMPLER_ARG", "1", "Share of traces for `traceidratio`, 0 to 1."),
    each(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "Collector. Over HTTP the common one gets `/v1/traces` and `/v1/logs` appended. None: no export.",
    ),
    each("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`http/protobuf`, or `grpc` (cargo feature `otlp-grpc`)."),
    each("OTEL_EXPORTER_OTLP_HEADERS", "", "`key=value,…`, percent-encoded, on every export."),
    each("OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "Of one export, its retries included, in ms."),
    each("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "`none` or `gzip`."),
    each("OTEL_EXPORTER_OTLP_INSECURE", "false", "gRPC without TLS, for an endpoint without a scheme."),
    each("OTEL_EXPORTER_OTLP_CERTIFICATE", "", "PEM file of authorities to trust besides the system's."),
    each("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "", "PEM file of the certificate to show."),
    each("OTEL_EXPORTER_OTLP_CLIENT_KEY", "", "PEM file of its key."),
    one(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "16384",
        "Spans that wait at most; and 16 MiB of them at most. More are dropped and counted.",
    ),
    one("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "Spans of one export."),
    one("OTEL_BSP_SCHEDULE_DELAY", "5000", "Longest wait of a span for a full batch, in ms."),
    one("OTEL_BSP_EXPORT_TIMEOUT", "30000", "Of one batch, in ms; then it is lost and counted."),
    one("OTEL_BLRP_MAX_QUEUE_SIZE", "16384", "As for spans, for log records."),
    one("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "512", "As for spans, for log records."),
    one("OTEL_BLRP_SCHEDULE_DELAY", "1000", "As for spans, for log records."),
    one("OTEL_BLRP_EXPORT_TIMEOUT", "30000", "As for spans, for log records."),
    one("OTEL_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of anything, where nothing below says otherwise."),
    one("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "none", "Characters of a text, where nothing below says otherwise."),
    one("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of a span."),
    one("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "none", "Characters of an attribute of a span."),
    one("OTEL_SPAN_EVENT_COUNT_LIMIT", "128", "Events of a span."),
    one("OTEL_SPAN_LINK_COUNT_LIMIT", "128", "Links of a span."),
    one("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of an event."),
    one("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of a link."),
    one("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of a log record."),
    one("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "none", "Characters of an attribute of a log record."),
];
