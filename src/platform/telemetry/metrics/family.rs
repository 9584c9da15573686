//! Families of one metric: the label set is a Rust type, the number of series has a limit, and
//! what is beyond it goes to one overflow series. The crate's own `*Vec` types hash label values
//! without a separator (`["ab","c"]` = `["a","bc"]`), so they are never used here.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use opentelemetry::trace::SpanContext;
use parking_lot::RwLock;
use prometheus::{
    HistogramOpts, IntCounter, Opts,
    core::{Collector, Desc, Metric},
    proto::{MetricFamily, MetricType},
};

use super::{
    openmetrics::{Exemplars, Slots, key},
    registry::Definition,
};

/// A bounded label set.
pub trait Labels: Clone + Eq + Hash + Send + Sync + 'static {
    const NAMES: &'static [&'static str];
    fn values(&self) -> Vec<String>;
    /// The labels of the series that takes everything beyond the limit.
    fn overflow() -> Self;
}

impl Labels for () {
    const NAMES: &'static [&'static str] = &[];

    fn values(&self) -> Vec<String> {
        Vec::new()
    }

    fn overflow() -> Self {}
}

/// A metric of the `prometheus` crate that a family can hold.
pub trait Instrument: Metric + Clone + Send + Sync + 'static {
    const KIND: MetricType;
    fn build(definition: &Definition, labels: HashMap<String, String>) -> prometheus::Result<Self>;
}

impl Instrument for IntCounter {
    const KIND: MetricType = MetricType::COUNTER;

    fn build(definition: &Definition, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(definition.name, definition.help).const_labels(labels))
    }
}

impl Instrument for prometheus::Gauge {
    const KIND: MetricType = MetricType::GAUGE;

    fn build(definition: &Definition, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(definition.name, definition.help).const_labels(labels))
    }
}

/// A histogram that keeps an example of each bucket. Cheap to clone.
#[derive(Clone)]
pub struct TracedHistogram {
    histogram: prometheus::Histogram,
    slots: Arc<Slots>,
}

impl TracedHistogram {
    pub fn observe(&self, value: f64) {
        self.histogram.observe(value);
    }

    /// Counts a value and offers it as the example of its bucket, found by `span`'s trace.
    pub fn observe_in(&self, value: f64, span: &SpanContext) {
        self.histogram.observe(value);
        self.slots.offer(value, span);
    }
}

impl Metric for TracedHistogram {
    fn metric(&self) -> prometheus::proto::Metric {
        self.histogram.metric()
    }
}

impl Instrument for TracedHistogram {
    const KIND: MetricType = MetricType::HISTOGRAM;

    fn build(definition: &Definition, labels: HashMap<String, String>) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(definition.name, definition.help).buckets(definition.bounds.to_vec());
        let histogram = prometheus::Histogram::with_opts(opts.const_labels(labels))?;
        Ok(Self { histogram, slots: Arc::new(Slots::new(definition.bounds)) })
    }
}

/// All series of one metric name.
pub struct Family<L, I> {
    definition: Definition,
    desc: Desc,
    children: RwLock<HashMap<L, I>>,
}

pub type Counter<L = ()> = Arc<Family<L, IntCounter>>;
pub type Gauge<L = ()> = Arc<Family<L, prometheus::Gauge>>;
pub type Histogram<L = ()> = Arc<Family<L, TracedHistogram>>;

impl<L: Labels, I: Instrument> Family<L, I> {
    /// # Errors
    /// A name or label that Prometheus does not allow.
    pub fn new(definition: Definition) -> prometheus::Result<Arc<Self>> {
        let names = L::NAMES.iter().map(|name| (*name).to_owned()).collect();
        let desc = Desc::new(definition.name.to_owned(), definition.help.to_owned(), names, HashMap::new())?;
        Ok(Arc::new(Self { definition, desc, children: RwLock::default() }))
    }

    /// The series of these labels; beyond the limit, the overflow series. Keep the handle where
    /// the labels don't change: a lookup costs four times the recording.
    pub fn with(&self, labels: &L) -> I {
        if let Some(child) = self.children.read().get(labels) {
            return child.clone();
        }
        let mut children = self.children.write();
        let labels = if children.len() < self.definition.limit { labels.clone() } else { L::overflow() };
        children.entry(labels.clone()).or_insert_with(|| self.child(&labels)).clone()
    }

    fn child(&self, labels: &L) -> I {
        let values = L::NAMES.iter().map(|name| (*name).to_owned()).zip(labels.values()).collect();
        I::build(&self.definition, values).expect("the labels were checked by Desc::new")
    }
}

impl<L: Labels, I: Instrument> Family<L, I> {
    pub(super) fn forget(&self, label: &str, gone: &[Arc<str>]) {
        if let Some(at) = L::NAMES.iter().position(|name| *name == label) {
            self.children.write().retain(|labels, _| !gone.iter().any(|gone| **gone == *labels.values()[at]));
        }
    }
}

impl<L: Labels> Family<L, TracedHistogram> {
    /// The examples of all series, read once a scrape.
    pub(super) fn exemplars(&self) -> Exemplars {
        let children = self.children.read();
        children.values().map(|child| (key(child.metric().get_label()), child.slots.read())).collect()
    }
}

/// Adapter: the registry owns its collectors, callers keep the family.
pub(super) struct Shared<L, I>(pub Arc<Family<L, I>>);

impl<L: Labels, I: Instrument> Collector for Shared<L, I> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.0.children.read().values().map(Metric::metric).collect();
        vec![family(&self.0.definition, I::KIND, metrics)]
    }
}

pub(super) fn family(
    definition: &Definition,
    kind: MetricType,
    metrics: Vec<prometheus::proto::Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{labels, platform::telemetry::metrics::Registry};

    labels! {
        pub struct Pair { a: String = "_OTHER".to_owned(), b: String = "_OTHER".to_owned() }
    }

    fn pair(a: &str, b: &str) -> Pair {
        Pair { a: a.to_owned(), b: b.to_owned() }
    }

    #[test]
    fn label_values_that_join_to_the_same_text_are_two_series() {
        let registry = Registry::default();
        let counter: Counter<Pair> = registry.counter("pairs_total", "Pairs.", 10);
        counter.with(&pair("ab", "c")).inc();
        counter.with(&pair("a", "bc")).inc();
        assert_eq!(counter.with(&pair("ab", "c")).get(), 1);
        assert!(registry.text().contains("pairs_total{a=\"ab\",b=\"c\"} 1"), "{}", registry.text());
    }

    #[test]
    fn series_beyond_the_limit_share_one() {
        let registry = Registry::default();
        let counter: Counter<Pair> = registry.counter("pairs_total", "Pairs.", 2);
        for n in 0..100 {
            counter.with(&pair(&n.to_string(), "x")).inc();
        }
        let text = registry.text();
        assert_eq!(text.lines().filter(|line| line.starts_with("pairs_total{")).count(), 3, "{text}");
        assert!(text.contains("pairs_total{a=\"_OTHER\",b=\"_OTHER\"} 98"), "{text}");
    }
}
