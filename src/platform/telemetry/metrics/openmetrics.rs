//! OpenMetrics 1.0 text: what the `prometheus` crate can't write, because it has no exemplars
//! (tikv/rust-prometheus#393), and the choice between the two formats by `Accept`.

use std::{
    collections::HashMap,
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use parking_lot::Mutex;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One a second a bucket: a scrape reads one, the rest would only cost.
const KEEP_FOR: Duration = Duration::from_secs(1);

/// One measured value and the trace it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub value: f64,
    pub at: SystemTime,
}

/// One exemplar a bucket, the last is +Inf.
#[derive(Debug)]
pub struct Slots {
    bounds: &'static [f64],
    slots: Box<[Mutex<Option<Exemplar>>]>,
}

impl Slots {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, slots: (0..=bounds.len()).map(|_| Mutex::new(None)).collect() }
    }

    /// Keeps the value as the example of its bucket. Only of sampled traces: another's link leads nowhere.
    pub fn offer(&self, value: f64, span: &SpanContext) {
        if !span.is_sampled() || !span.is_valid() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        // Never waits: whoever holds the slot is writing an example as good as this one.
        let Some(mut slot) = self.slots[bucket].try_lock() else { return };
        let at = SystemTime::now();
        if slot.is_none_or(|old| at.duration_since(old.at).map_or(true, |age| age >= KEEP_FOR)) {
            *slot = Some(Exemplar { trace_id: span.trace_id(), span_id: span.span_id(), value, at });
        }
    }

    pub fn read(&self) -> Vec<Option<Exemplar>> {
        self.slots.iter().map(|slot| *slot.lock()).collect()
    }
}

/// Exemplars of a family: label values by sorted label name → one a bucket.
pub type Exemplars = HashMap<Vec<(String, String)>, Vec<Option<Exemplar>>>;

/// Writes all families. `exemplars` is by family name.
pub fn encode(families: &[MetricFamily], exemplars: &HashMap<&'static str, Exemplars>) -> String {
    let mut out = String::with_capacity(32 << 10);
    for family in families.iter().filter(|family| !family.get_metric().is_empty()) {
        let kind = family.get_field_type();
        let (name, kind_name) = match kind {
            // The family of a counter has no `_total`, its sample has.
            MetricType::COUNTER => (family.name().strip_suffix("_total").unwrap_or(family.name()), "counter"),
            MetricType::HISTOGRAM => (family.name(), "histogram"),
            _ => (family.name(), "gauge"),
        };
        let _ = writeln!(out, "# TYPE {name} {kind_name}");
        let _ = write!(out, "# HELP {name} ");
        escape(&mut out, family.help());
        out.push('\n');
        let examples = exemplars.get(family.name());
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    sample(&mut out, (name, "_total"), metric, None, metric.get_counter().get_value(), None);
                }
                MetricType::HISTOGRAM => histogram(&mut out, name, metric, examples),
                _ => sample(&mut out, (name, ""), metric, None, metric.get_gauge().get_value(), None),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn histogram(out: &mut String, name: &str, metric: &Metric, examples: Option<&Exemplars>) {
    let histogram = metric.get_histogram();
    let key = key(metric.get_label());
    let examples = examples.and_then(|examples| examples.get(&key));
    let example = |bucket: usize| examples.and_then(|slots| *slots.get(bucket)?);
    for (at, bucket) in histogram.get_bucket().iter().enumerate() {
        let count = bucket.cumulative_count() as f64;
        sample(out, (name, "_bucket"), metric, Some(bucket.upper_bound()), count, example(at));
    }
    let count = histogram.get_sample_count() as f64;
    let last = example(histogram.get_bucket().len());
    sample(out, (name, "_bucket"), metric, Some(f64::INFINITY), count, last);
    sample(out, (name, "_sum"), metric, None, histogram.get_sample_sum(), None);
    sample(out, (name, "_count"), metric, None, count, None);
}

/// The key of a series in [`Exemplars`].
pub fn key(labels: &[LabelPair]) -> Vec<(String, String)> {
    let mut key: Vec<_> = labels.iter().map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect();
    key.sort_unstable();
    key
}

fn sample(
    out: &mut String,
    (name, suffix): (&str, &str),
    metric: &Metric,
    le: Option<f64>,
    value: f64,
    example: Option<Exemplar>,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = '{';
    // An empty label is no label; it only costs bytes.
    for pair in metric.get_label().iter().filter(|pair| !pair.value().is_empty()) {
        out.push(open);
        open = ',';
        out.push_str(pair.name());
        out.push_str("=\"");
        escape(out, pair.value());
        out.push('"');
    }
    if let Some(bound) = le {
        out.push(open);
        open = ',';
        out.push_str("le=\"");
        number(out, bound);
        out.push('"');
    }
    if open == ',' {
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    if let Some(Exemplar { trace_id, span_id, value, at }) = example {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = write!(out, " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} ");
        number(out, value);
        let _ = write!(out, " {}.{:03}", at.as_secs(), at.subsec_millis());
    }
    out.push('\n');
}

/// `{:?}` keeps the canonical `1.0`; Rust prints `inf`, OpenMetrics wants `+Inf`.
fn number(out: &mut String, value: f64) {
    let _ = match value {
        f64::INFINITY => out.write_str("+Inf"),
        f64::NEG_INFINITY => out.write_str("-Inf"),
        value => write!(out, "{value:?}"),
    };
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Whether `Accept` prefers OpenMetrics 1.0 to plain text (RFC 9110 §12.5.1). Prometheus 2 and 3
/// name several versions each, with weights.
pub fn is_preferred(accept: &str) -> bool {
    let (mut openmetrics, mut text) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let of = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().trim_matches('"'))
        };
        let weight = of("q").map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        match (media.as_str(), of("version")) {
            ("application/openmetrics-text", None | Some("1.0.0")) => openmetrics = openmetrics.max(weight),
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(weight),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        labels,
        platform::telemetry::metrics::{Counter, Histogram, Registry},
    };

    labels! {
        pub struct Route { route: String = "_OTHER".to_owned(), error: &'static str = "" }
    }

    fn span(n: u128) -> SpanContext {
        SpanContext::new(
            TraceId::from(n),
            SpanId::from(7),
            opentelemetry::trace::TraceFlags::SAMPLED,
            false,
            opentelemetry::trace::TraceState::NONE,
        )
    }

    #[test]
    fn the_bucket_of_a_value_carries_its_trace_and_nothing_else_does() {
        let registry = Registry::default();
        let histogram: Histogram<Route> = registry.histogram("http_seconds", "Time of \"HTTP\".", &[0.1, 1.0], 10);
        let route = Route { route: "/a".to_owned(), error: "" };
        histogram.with(&route).observe_in(0.1, &span(1));
        histogram.with(&route).observe_in(5.0, &span(2));
        histogram.with(&Route { route: "/b".to_owned(), error: "" }).observe(0.05);
        let counter: Counter = registry.counter("jobs_total", "Jobs.", 1);
        counter.with(&()).inc();
        let text = registry.openmetrics();
        let lines: Vec<&str> = text.lines().collect();
        let bucket = |start: &str| *lines.iter().find(|line| line.starts_with(start)).unwrap();
        assert!(
            bucket("http_seconds_bucket{route=\"/a\",le=\"0.1\"} 1.0 # {trace_id=\"00000000000000000000000000000001\"")
                .ends_with(|c: char| c.is_ascii_digit())
        );
        assert_eq!(
            bucket("http_seconds_bucket{route=\"/a\",le=\"1.0\"}"),
            "http_seconds_bucket{route=\"/a\",le=\"1.0\"} 1.0"
        );
        assert!(bucket("http_seconds_bucket{route=\"/a\",le=\"+Inf\"}").contains("00000002"));
        assert_eq!(text.matches("trace_id").count(), 2);
        assert!(text.contains("# TYPE jobs counter\n# HELP jobs Jobs.\njobs_total 1.0\n"), "{text}");
        assert!(text.contains("# HELP http_seconds Time of \\\"HTTP\\\".\n"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn an_unsampled_trace_is_no_example() {
        let slots = Slots::new(&[1.0]);
        slots.offer(0.5, &SpanContext::empty_context());
        assert_eq!(slots.read(), [None, None]);
        slots.offer(0.5, &span(1));
        slots.offer(0.5, &span(2));
        assert_eq!(slots.read()[0].unwrap().trace_id, TraceId::from(1), "one a second is enough");
    }

    #[test]
    fn both_prometheus_generations_get_openmetrics_and_a_person_gets_text() {
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            two,
            three,
            "application/openmetrics-text",
            "text/plain;q=0.1, application/OpenMetrics-text; version=\"1.0.0\"",
        ] {
            assert!(is_preferred(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "text/plain, application/openmetrics-text;q=0.5",
        ] {
            assert!(!is_preferred(accept), "{accept}");
        }
    }

    proptest! {
        /// Any label value stays one line and comes back by undoing the escapes.
        #[test]
        fn any_label_value_survives(value in any::<String>()) {
            let registry = Registry::default();
            let counter: Counter<Route> = registry.counter("x_total", "X.", 10);
            counter.with(&Route { route: value.clone(), error: "" }).inc();
            let text = registry.openmetrics();
            prop_assert_eq!(text.split('\n').count(), 5, "{}", text);
            if !value.is_empty() {
                let line = text.split('\n').nth(2).unwrap();
                let written = line.strip_prefix("x_total{route=\"").and_then(|rest| rest.strip_suffix("\"} 1.0")).unwrap();
                let read = written.replace("\\\\", "\u{0}esc").replace("\\n", "\n").replace("\\\"", "\"").replace("\u{0}esc", "\\");
                prop_assume!(!value.contains('\u{0}'));
                prop_assert_eq!(read, value);
            }
        }
    }
}
