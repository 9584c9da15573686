//! Telemetry of the process: started once with [`Telemetry::init`], which returns the thing that
//! must be shut down. Metrics belong to the application (`metrics::Registry`), not to the process.

pub mod attribute;
pub mod build;
pub mod catalogue;
pub mod context;
pub mod logs;
pub mod metrics;
pub mod off;
pub mod otlp;
mod panics;
pub mod profile;
pub mod propagation;
pub mod redact;
pub mod security;
pub mod sentry;
pub mod sink;
pub mod traces;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use self::{
    logs::{
        Format, LogConfig,
        json::{Identity, LineCounts, LogLayer},
        level::LogLevel,
        limit::Limiter,
        otlp::OtlpLogs,
        pretty::Waterfall,
        writer::LogWriter,
    },
    metrics::Registry,
    otlp::{Counts, Settings},
    propagation::Propagators,
    sentry::{Sentry, SentryConfig},
    traces::SpanSink,
};
use crate::{labels, platform::config::Environment, section};

/// The scope of the spans this crate opens by hand.
const SCOPE: &str = env!("CARGO_PKG_NAME");

section! {
    /// The service as telemetry names it.
    pub struct ServiceConfig in "service" {
        /// `service.name` of every signal.
        pub name: String,
    }
}

static LINE_COUNTS: std::sync::LazyLock<LineCounts> = std::sync::LazyLock::new(LineCounts::default);

/// What `init` needs to know.
pub struct Options<'a> {
    pub service: &'a str,
    pub environment: Environment,
    pub log: &'a LogConfig,
    pub sentry: &'a SentryConfig,
    /// The environment variables (`OTEL_*` are read from here).
    pub variables: &'a BTreeMap<String, String>,
    pub log_sink: Box<dyn Write + Send>,
    pub span_sink: SpanSink,
}

/// The running telemetry; shut it down last.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

impl std::ops::Deref for Telemetry {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What is behind [`Telemetry`].
pub struct Inner {
    pub tracer: SdkTracer,
    pub propagators: Propagators,
    pub sentry: Option<Sentry>,
    pub log_level: LogLevel,
    provider: SdkTracerProvider,
    writer: LogWriter,
    limiter: Arc<Limiter>,
    queues: Arc<[Queue]>,
    spans: Arc<Counts>,
    records: Arc<Counts>,
}

/// What must be emptied before the exit.
struct Queue {
    signal: &'static str,
    flush: Box<dyn Fn(Duration) -> bool + Send + Sync>,
    close: Box<dyn Fn(Duration) -> bool + Send + Sync>,
    bytes: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Queue {
    fn of<T: Send + 'static>(signal: &'static str, batcher: otlp::Batcher<T>) -> Self {
        let (flushed, closed) = (batcher.clone(), batcher.clone());
        Self {
            signal,
            flush: Box::new(move |timeout| flushed.flush(timeout)),
            close: Box::new(move |timeout| closed.close(timeout)),
            bytes: Box::new(move || batcher.queued_bytes()),
        }
    }
}

labels! {
    pub struct LevelLabel { level: &'static str = "_OTHER" }
}
labels! {
    pub struct SignalLabel { signal: &'static str = "_OTHER" }
}
labels! {
    pub struct ReasonLabel { reason: &'static str = "_OTHER" }
}

impl Telemetry {
    /// Installs the global subscriber and panic hook. Call once.
    ///
    /// # Errors
    /// A log filter, an `OTEL_*` value or a DSN that can't be used, in words.
    pub fn init(options: Options<'_>) -> Result<Self, String> {
        let filter = EnvFilter::try_new(&options.log.filter).map_err(|error| format!("log.filter: {error}"))?;
        let settings = Settings::parse(options.variables).map_err(|faults| faults.join("; "))?;
        // The start still says its addresses: the bench looks for them.
        let filter =
            if off::logs() { EnvFilter::new(concat!("off,", env!("CARGO_CRATE_NAME"), "::app=info")) } else { filter };
        let (filter, handle) = reload::Layer::new(filter);
        let log_level =
            LogLevel::new(&options.log.filter, move |filter| handle.reload(filter).map_err(|error| error.to_string()));
        let limiter = Arc::new(Limiter::new(options.log.rate_limit));
        let held_back = Arc::clone(&limiter);
        let writer = LogWriter::spawn(options.log_sink, move || say_suppressed(&held_back));
        let (spans, records) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
        let resource = traces::resource(options.service, options.environment, &settings);
        let mut queues = Vec::new();
        let waterfall = (options.log.format == Format::Pretty).then(|| Waterfall::new(writer.clone()));
        let (provider, batcher) = traces::provider(resource.clone(), &settings, options.span_sink, waterfall, &spans)?;
        queues.extend(batcher.map(|batcher| Queue::of("traces", batcher)));
        let otlp_logs = match settings.logs.destination.clone().filter(|_| !settings.disabled) {
            None => None,
            Some(destination) => {
                let (logs, batcher) = OtlpLogs::new(SCOPE, resource, &settings, destination, Arc::clone(&records))?;
                queues.push(Queue::of("logs", batcher));
                Some(logs)
            }
        };
        let sentry = Sentry::start(options.sentry, options.environment)?;
        let tracer = provider.tracer(SCOPE);
        let identity = Identity {
            service: options.service.to_owned(),
            environment: options.environment.as_str(),
            version: build::VERSION,
        };
        // Spans only: an event would become a span event and an ERROR would mark its span (trap 14).
        let spans_of_tracing = tracing_opentelemetry::layer()
            .with_tracer(tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|meta| {
                !off::spans() && meta.is_span() && *meta.level() <= tracing::Level::INFO && !is_exporter(meta.target())
            }));
        let lines =
            LogLayer::new(writer.clone(), options.log.format, &identity, &LINE_COUNTS, Arc::clone(&limiter), otlp_logs);
        tracing_subscriber::registry()
            .with(spans_of_tracing)
            // On this layer only: the level of the logs must not take spans out of traces.
            .with(lines.with_filter(filter))
            .try_init()
            .map_err(|error| error.to_string())?;
        panics::install(sentry.clone());
        let propagators = Propagators::new(&settings.propagators);
        let queues = queues.into();
        let parts = Inner { tracer, propagators, sentry, log_level, provider, writer, limiter, queues, spans, records };
        Ok(Self(Arc::new(parts)))
    }

    /// Registers what telemetry says about itself.
    pub fn register(&self, registry: &Registry) {
        panics::register(registry);
        registry.counter_fn("log_lines_total", "Log lines written, by level.", || {
            LINE_COUNTS.read().map(|(level, count)| (LevelLabel { level }, count as f64)).collect()
        });
        let writer = self.writer.clone();
        registry.counter_fn(
            "log_lines_dropped_total",
            "Log lines lost because the reader was too slow or gone.",
            move || vec![((), writer.dropped() as f64)],
        );
        for (name, help, counts) in [
            ("telemetry_spans_dropped_total", "Spans that were lost, by reason.", &self.spans),
            ("telemetry_log_records_dropped_total", "OTLP log records that were lost, by reason.", &self.records),
        ] {
            let counts = Arc::clone(counts);
            registry.counter_fn(name, help, move || {
                counts.dropped().map(|(reason, count)| (ReasonLabel { reason }, count as f64)).to_vec()
            });
        }
        let both = [("traces", Arc::clone(&self.spans)), ("logs", Arc::clone(&self.records))];
        let failures = both.clone();
        registry.counter_fn(
            "telemetry_export_failures_total",
            "Exports of a batch that failed, by signal.",
            move || {
                let failed = |(signal, counts): &(&'static str, Arc<Counts>)| {
                    (SignalLabel { signal }, counts.failures.load(Relaxed) as f64)
                };
                failures.iter().map(failed).collect()
            },
        );
        registry.counter_fn("telemetry_exported_total", "Spans and log records that were exported.", move || {
            let exported = |(signal, counts): &(&'static str, Arc<Counts>)| {
                (SignalLabel { signal }, counts.exported.load(Relaxed) as f64)
            };
            both.iter().map(exported).collect()
        });
        let queues = Arc::clone(&self.queues);
        registry.gauge_fn("telemetry_queue_bytes", "What waits to be exported, by signal.", move || {
            queues.iter().map(|queue| (SignalLabel { signal: queue.signal }, (queue.bytes)() as f64)).collect()
        });
        sentry::register(self.sentry.clone(), registry);
        sink::register(registry);
        security::register(registry);
    }

    /// Exports what is queued now, for tests.
    pub fn flush(&self) {
        let timeout = Duration::from_secs(5);
        let flushed = self.queues.iter().all(|queue| (queue.flush)(timeout));
        if !flushed || self.sentry.as_ref().is_some_and(|sentry| !sentry.flush(timeout)) {
            tracing::warn!("telemetry_flush_failed");
        }
        self.writer.flush(Duration::from_secs(1));
    }

    /// Flushes every signal within `timeout` and logs within a second more, whatever the receivers
    /// do. Blocks: call it off the runtime.
    pub fn shutdown(&self, timeout: Duration) {
        let started = Instant::now();
        // In parallel, on one budget: one dead receiver must not use up the others' time.
        let complete = std::thread::scope(|scope| {
            let sentry = scope.spawn(|| self.sentry.as_ref().is_none_or(|sentry| sentry.close(timeout)));
            let closing: Vec<_> = self.queues.iter().map(|queue| scope.spawn(|| (queue.close)(timeout))).collect();
            let closed = closing.into_iter().map(|thread| thread.join().unwrap_or(false)).fold(true, |a, b| a & b);
            sentry.join().unwrap_or(false) & closed
        });
        if !complete {
            let lost = |counts: &Counts| counts.shutdown.load(Relaxed);
            tracing::warn!(
                waited_ms = started.elapsed().as_millis() as u64,
                spans_lost = lost(&self.spans),
                records_lost = lost(&self.records),
                "shutdown_telemetry_incomplete"
            );
        }
        say_suppressed(&self.limiter);
        // What it wraps is closed; this only makes later spans no-ops.
        let _already_closed = self.provider.shutdown_with_timeout(Duration::ZERO);
        self.writer.close(Duration::from_secs(1));
    }
}

/// Says once a second what the limit of each callsite held back.
fn say_suppressed(limiter: &Limiter) {
    for (event, callsite, suppressed) in limiter.take_suppressed() {
        tracing::warn!(event, callsite, suppressed, "log_suppressed");
    }
}

/// Targets of the exporters' own work: spans of it would be exported, which makes spans.
pub(super) fn is_exporter(target: &str) -> bool {
    const ROOTS: &[&str] = &["opentelemetry", "h2", "hyper", "tonic", "tower", "reqwest", "rustls"];
    let root = target.split("::").next().unwrap_or_default();
    ROOTS.iter().any(|known| root.starts_with(known))
}
