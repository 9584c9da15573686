//! The registry of one application: families, gauges read at scrape time, and the catalogue of
//! all of them, which `keel catalogue` prints and a test compares with docs/telemetry.md.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use parking_lot::Mutex;
use prometheus::{
    Encoder as _, TextEncoder,
    core::{Collector, Desc, Metric as _},
    proto::{Metric, MetricFamily, MetricType},
};
use serde::Serialize;

use super::family::{Counter, Family, Gauge, Histogram, Instrument, Labels, Shared, family};
use super::openmetrics::{self, Exemplars};

/// What a metric is: one row of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct Definition {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Most series of this name, the overflow series not counted.
    pub limit: usize,
    #[serde(skip)]
    pub bounds: &'static [f64],
}

/// All metrics of one application. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    prometheus: prometheus::Registry,
    definitions: Arc<Mutex<Vec<Definition>>>,
    exemplars: Arc<Mutex<Vec<(&'static str, ExemplarSource)>>>,
    forget: Arc<Mutex<Vec<Forget>>>,
}

/// Drops the series of a family that have one of these values under this label.
type Forget = Box<dyn Fn(&str, &[Arc<str>]) + Send + Sync>;

type ExemplarSource = Box<dyn Fn() -> Exemplars + Send + Sync>;

impl Registry {
    pub fn counter<L: Labels>(&self, name: &'static str, help: &'static str, limit: usize) -> Counter<L> {
        self.family(Definition { name, kind: "counter", help, labels: L::NAMES, limit, bounds: &[] })
    }

    pub fn gauge<L: Labels>(&self, name: &'static str, help: &'static str, limit: usize) -> Gauge<L> {
        self.family(Definition { name, kind: "gauge", help, labels: L::NAMES, limit, bounds: &[] })
    }

    pub fn histogram<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        limit: usize,
    ) -> Histogram<L> {
        let family: Histogram<L> =
            self.family(Definition { name, kind: "histogram", help, labels: L::NAMES, limit, bounds });
        let source = Arc::clone(&family);
        self.exemplars.lock().push((name, Box::new(move || source.exemplars())));
        family
    }

    /// A gauge whose values are read at scrape time.
    pub fn gauge_fn<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        let definition = Definition { name, kind: "gauge", help, labels: L::NAMES, limit: 64, bounds: &[] };
        self.read_at_scrape(definition, MetricType::GAUGE, read);
    }

    /// A counter kept elsewhere (an atomic, the kernel) and read at scrape time.
    pub fn counter_fn<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        let definition = Definition { name, kind: "counter", help, labels: L::NAMES, limit: 64, bounds: &[] };
        self.read_at_scrape(definition, MetricType::COUNTER, read);
    }

    fn family<L: Labels, I: Instrument>(&self, definition: Definition) -> Arc<Family<L, I>> {
        let family =
            Family::new(definition.clone()).expect("metric names are literals, checked by every test that boots");
        self.register(definition, Box::new(Shared(Arc::clone(&family))));
        // Weak: the registry must not keep what it is kept by.
        let children = Arc::downgrade(&family);
        self.forget.lock().push(Box::new(move |label, values| {
            if let Some(family) = children.upgrade() {
                family.forget(label, values);
            }
        }));
        family
    }

    fn read_at_scrape<L: Labels>(
        &self,
        definition: Definition,
        kind: MetricType,
        read: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        let names = L::NAMES.iter().map(|name| (*name).to_owned()).collect();
        let desc = Desc::new(definition.name.to_owned(), definition.help.to_owned(), names, HashMap::new())
            .expect("metric names are literals, checked by every test that boots");
        self.register(definition.clone(), Box::new(ReadAtScrape { definition, desc, kind, read, labels: PhantomData }));
    }

    fn register(&self, definition: Definition, collector: Box<dyn Collector>) {
        self.prometheus.register(collector).expect("every metric is declared once, checked by every test that boots");
        self.definitions.lock().push(definition);
    }

    /// Drops all series with one of these values under this label: who they told of is told of no more.
    pub fn forget(&self, label: &str, values: &[Arc<str>]) {
        self.forget.lock().iter().for_each(|forget| forget(label, values));
    }

    /// Every metric, by name.
    pub fn definitions(&self) -> Vec<Definition> {
        let mut all = self.definitions.lock().clone();
        all.sort_by_key(|definition| definition.name);
        all
    }

    fn gather(&self) -> Vec<MetricFamily> {
        // A family without series yet is no sample; the crate's encoder refuses it.
        self.prometheus.gather().into_iter().filter(|family| !family.get_metric().is_empty()).collect()
    }

    /// Prometheus text format 0.0.4.
    pub fn text(&self) -> String {
        let mut out = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.gather(), &mut out).expect("writing to memory does not fail");
        String::from_utf8_lossy(&out).into_owned()
    }

    /// OpenMetrics 1.0, with exemplars.
    pub fn openmetrics(&self) -> String {
        let exemplars = self.exemplars.lock().iter().map(|(name, source)| (*name, source())).collect();
        openmetrics::encode(&self.gather(), &exemplars)
    }
}

struct ReadAtScrape<L, F> {
    definition: Definition,
    desc: Desc,
    kind: MetricType,
    read: F,
    labels: PhantomData<fn() -> L>,
}

impl<L: Labels, F: Fn() -> Vec<(L, f64)> + Send + Sync> Collector for ReadAtScrape<L, F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = (self.read)().into_iter().map(|(labels, value)| sample(self.kind, &labels, value)).collect();
        vec![family(&self.definition, self.kind, metrics)]
    }
}

fn sample<L: Labels>(kind: MetricType, labels: &L, value: f64) -> Metric {
    let opts = L::NAMES
        .iter()
        .zip(labels.values())
        .fold(prometheus::Opts::new("sample", "sample"), |opts, (name, value)| opts.const_label(*name, value));
    // The crate's own types build the protobuf: its setters differ between its encodings.
    if kind == MetricType::COUNTER {
        let counter = prometheus::Counter::with_opts(opts).expect("label names are literals");
        counter.inc_by(value.max(0.0));
        counter.metric()
    } else {
        let gauge = prometheus::Gauge::with_opts(opts).expect("label names are literals");
        gauge.set(value);
        gauge.metric()
    }
}
