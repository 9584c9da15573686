//! Telemetry of the process: started once with [`Telemetry::init`], which returns the thing that
//! must be shut down. Metrics belong to the application (`metrics::Registry`), not to the process.

pub mod attribute;
pub mod build;
pub mod context;
pub mod logs;
pub mod metrics;
pub mod propagation;
pub mod redact;
pub mod traces;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use self::{
    logs::{
        LogConfig,
        json::{Identity, LineCounts, LogLayer},
        level::LogLevel,
        writer::LogWriter,
    },
    metrics::Registry,
    traces::{Failures, SpanSink},
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
    /// The environment variables (`OTEL_*` are read from here).
    pub variables: &'a BTreeMap<String, String>,
    pub log_sink: Box<dyn Write + Send>,
    pub span_sink: SpanSink,
}

/// The running telemetry; shut it down last.
#[derive(Clone)]
pub struct Telemetry {
    pub tracer: SdkTracer,
    provider: SdkTracerProvider,
    writer: LogWriter,
    export_failures: Failures,
    pub log_level: LogLevel,
}

labels! {
    pub struct LevelLabel { level: &'static str = "_OTHER" }
}
labels! {
    pub struct SignalLabel { signal: &'static str = "_OTHER" }
}

impl Telemetry {
    /// Installs the global subscriber and panic hook. Call once.
    ///
    /// # Errors
    /// A log filter or an `OTEL_*` value that can't be used, in words.
    pub fn init(options: Options<'_>) -> Result<Self, String> {
        let filter = EnvFilter::try_new(&options.log.filter).map_err(|error| format!("log.filter: {error}"))?;
        let (filter, handle) = reload::Layer::new(filter);
        let log_level =
            LogLevel::new(&options.log.filter, move |filter| handle.reload(filter).map_err(|error| error.to_string()));
        let export_failures = Failures::default();
        let provider = traces::provider(
            options.service,
            options.environment,
            options.variables,
            options.span_sink,
            &export_failures,
        )?;
        let tracer = provider.tracer(SCOPE);
        let writer = LogWriter::spawn(options.log_sink);
        let identity = Identity {
            service: options.service.to_owned(),
            environment: options.environment.as_str(),
            version: build::VERSION,
        };
        // Spans only: an event would become a span event and an ERROR would mark its span (trap 14).
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|meta| {
                meta.is_span() && *meta.level() <= tracing::Level::INFO && !is_exporter(meta.target())
            }));
        tracing_subscriber::registry()
            .with(spans)
            // On this layer only: the level of the logs must not take spans out of traces.
            .with(LogLayer::new(writer.clone(), options.log.format, identity, &LINE_COUNTS).with_filter(filter))
            .try_init()
            .map_err(|error| error.to_string())?;
        install_panic_hook();
        Ok(Self { tracer, provider, writer, export_failures, log_level })
    }

    /// Registers what telemetry says about itself.
    pub fn register(&self, registry: &Registry) {
        registry.counter_fn("log_lines_total", "Log lines written, by level.", || {
            LINE_COUNTS.read().map(|(level, count)| (LevelLabel { level }, count as f64)).collect()
        });
        let writer = self.writer.clone();
        registry.counter_fn(
            "log_lines_dropped_total",
            "Log lines lost because the reader was too slow or gone.",
            move || vec![((), writer.dropped() as f64)],
        );
        let failures = Failures::clone(&self.export_failures);
        registry.counter_fn(
            "telemetry_export_failures_total",
            "Exports of a batch that failed, by signal.",
            move || vec![(SignalLabel { signal: "traces" }, failures.load(Relaxed) as f64)],
        );
    }

    /// Exports what is queued now, for tests.
    pub fn flush(&self) {
        if let Err(error) = self.provider.force_flush() {
            tracing::warn!(error = %error, "telemetry_flush_failed");
        }
        self.writer.flush(Duration::from_secs(1));
    }

    /// Flushes spans and logs within `timeout`, whatever the collector does. Blocks: call it off
    /// the runtime.
    pub fn shutdown(&self, timeout: Duration) {
        let started = Instant::now();
        let (done, waited) = std::sync::mpsc::channel();
        let provider = self.provider.clone();
        // On a thread of its own: the SDK's deadline does not bound every transport (trap 10).
        std::thread::spawn(move || done.send(provider.shutdown_with_timeout(timeout)));
        match waited.recv_timeout(timeout) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "shutdown_telemetry_incomplete"),
            Err(_) => tracing::warn!(waited_ms = started.elapsed().as_millis() as u64, "shutdown_telemetry_incomplete"),
        }
        self.writer.close(Duration::from_secs(1));
    }
}

/// Targets of the exporters' own work: spans of it would be exported, which makes spans.
fn is_exporter(target: &str) -> bool {
    const ROOTS: &[&str] = &["opentelemetry", "h2", "hyper", "tonic", "tower", "reqwest", "rustls"];
    let root = target.split("::").next().unwrap_or_default();
    ROOTS.iter().any(|known| root.starts_with(known))
}

/// One JSON line a panic instead of text on standard error, in the context it happened in.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a payload that is not text");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panic = text, location, backtrace = %backtrace, "panicked");
    }));
}
