//! OpenMetrics: a strict reader gets back the label values, help and numbers that were written, and the same
//! series as from the text format.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keel::{
    labels,
    platform::telemetry::metrics::{Counter, Gauge, Histogram, Registry, openmetrics},
};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use prometheus::{core::Metric as _, proto::MetricFamily};

use super::{
    exposition::{Exposition, Format, Series, read},
    input::Input,
};

labels! {
    pub struct Pair { first: String = "_OTHER".to_owned(), second: String = "_OTHER".to_owned() }
}

const LIMIT: usize = 4;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    check_help(&mut input);

    let registry = Registry::default();
    let counter: Counter<Pair> = registry.counter("calls_total", "Calls.", LIMIT);
    let gauge: Gauge<Pair> = registry.gauge("depth", "Depth.", LIMIT);
    let histogram: Histogram<Pair> = registry.histogram("call_seconds", "Time.", &[0.1, 1.0], LIMIT);
    let (read_at_scrape, mut sent) = (input.float(), Vec::new());
    registry.gauge_fn("temperature", "Read at scrape time.", move || vec![((), read_at_scrape)]);
    while !input.is_empty() && sent.len() < 6 {
        let (first, second) = (input.text().into_owned(), input.text().into_owned());
        let (pair, value) = (Pair { first, second }, input.float());
        counter.with(&pair).inc_by(u64::from(input.byte()));
        gauge.with(&pair).set(value);
        let span = SpanContext::new(
            TraceId::from_bytes(input.array()),
            SpanId::from_bytes(input.array()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        histogram.with(&pair).observe_in(value, &span);
        sent.push(pair);
    }

    let (text, open) = (registry.text(), registry.openmetrics());
    let (text, open) = (read(&text, Format::Text), read(&open, Format::OpenMetrics));
    assert_eq!(values(&text), values(&open), "both formats say the same");
    check_labels(&open, &sent);
    check_buckets(&open);
}

/// Numbers as text: NaN is the same as itself then.
fn values(exposition: &Exposition) -> BTreeMap<Series, String> {
    exposition.series.iter().map(|(series, value)| (series.clone(), format!("{value:?}"))).collect()
}

fn check_help(input: &mut Input<'_>) {
    let (help, value) = (input.text().into_owned(), input.float());
    let gauge = prometheus::Gauge::new("one", "one").expect("a name is a literal");
    gauge.set(value);
    let mut family = MetricFamily::default();
    family.set_name("one".to_owned());
    family.set_help(help.clone());
    family.set_field_type(prometheus::proto::MetricType::GAUGE);
    family.set_metric(vec![gauge.metric()]);
    let open = read(&openmetrics::encode(&[family], &HashMap::new()), Format::OpenMetrics);
    assert_eq!(open.help["one"], help);
    assert_eq!(open.kinds["one"], "gauge");
    assert_eq!(format!("{:?}", open.series[0].1), format!("{value:?}"));
}

fn check_labels(open: &Exposition, sent: &[Pair]) {
    let of = |pair: &Pair| -> BTreeMap<String, String> {
        let all = [("first", &pair.first), ("second", &pair.second)];
        all.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    };
    let mut expected: BTreeSet<_> = BTreeSet::new();
    for pair in sent {
        let is_other = expected.len() >= LIMIT && !expected.contains(&of(pair));
        expected.insert(if is_other {
            of(&Pair { first: "_OTHER".into(), second: "_OTHER".into() })
        } else {
            of(pair)
        });
    }
    let found: BTreeSet<_> = open
        .series
        .iter()
        .filter(|((name, _), _)| name == "calls_total")
        .map(|((_, labels), _)| labels.clone())
        .collect();
    assert_eq!(found, expected, "label values come back as they were");
    let kinds: Vec<_> = open.kinds.iter().map(|(name, kind)| (&**name, &**kind)).collect();
    let all = [("call_seconds", "histogram"), ("calls", "counter"), ("depth", "gauge"), ("temperature", "gauge")];
    assert!(kinds == all || sent.is_empty() && kinds == all[3..], "{kinds:?}");
}

/// Buckets grow with their bounds, and the last counts all.
fn check_buckets(open: &Exposition) {
    let of = |suffix: &str, labels: &BTreeMap<String, String>| {
        let series = (format!("call_seconds_{suffix}"), labels.clone());
        open.series.iter().find(|(known, _)| *known == series).map(|(_, value)| *value)
    };
    for ((_, labels), count) in open.series.iter().filter(|((name, _), _)| name == "call_seconds_count") {
        let bucket = |bound: &str| {
            of(
                "bucket",
                &[labels.clone(), [("le".to_owned(), bound.to_owned())].into()].into_iter().flatten().collect(),
            )
        };
        let buckets = ["0.1", "1.0", "inf"].map(|bound| bucket(bound).unwrap_or(f64::NAN));
        assert!(buckets.is_sorted() && buckets[2] == *count, "{labels:?}: {buckets:?} of {count}");
        assert!(of("sum", labels).is_some(), "{labels:?} has no sum");
    }
}
