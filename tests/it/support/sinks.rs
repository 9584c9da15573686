//! Where telemetry ends up in tests: an OTLP collector, a Sentry, and the log lines. They are shared
//! by all tests of the process; a trace id tells whose they are.

use std::{
    io::Write,
    sync::{Arc, LazyLock},
};

use keel::platform::telemetry::{Options, Telemetry, traces::SpanSink};
use parking_lot::Mutex;
use serde_json::Value;

pub use super::collector::{Collector, SeenSpan};
use super::sentry_server::SentryServer;

/// The log lines of the process.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The telemetry of this process, and its sinks.
pub struct Shared {
    pub telemetry: Telemetry,
    pub collector: Collector,
    pub sentry: SentryServer,
    lines: Lines,
}

pub static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (collector, sentry) = (Collector::start(), SentryServer::start());
    let lines = Lines::default();
    let variables = [
        ("APP_ENVIRONMENT", "test"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        // Tests wait for what they sent, not for company.
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("SENTRY_DSN", &if cfg!(feature = "sentry") { sentry.dsn() } else { String::new() }),
        // All tests share one telemetry: their floods are not each other's.
        ("APP__LOG__RATE_LIMIT", "0"),
    ];
    let sources = keel::platform::config::Sources {
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        built_in: keel::config::FILES,
        directory: None,
    };
    let config = keel::config::load(&sources).readable().unwrap();
    let for_people = std::panic::take_hook();
    let telemetry = Telemetry::init(Options {
        service: "keel",
        environment: config.environment,
        log: &config.log,
        sentry: &config.sentry,
        variables: &sources.variables,
        log_sink: Box::new(lines.clone()),
        span_sink: SpanSink::Environment,
    })
    .unwrap();
    // The service's hook writes a log line; a failing test must also say so on the terminal.
    let for_logs = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        for_logs(info);
        for_people(info);
    }));
    Shared { telemetry, collector, sentry, lines }
});

impl Shared {
    /// Exports what is queued. Off the runtime: the exporter blocks.
    pub async fn flush(&self) {
        tokio::task::spawn_blocking(|| SHARED.telemetry.flush()).await.unwrap();
    }

    /// Everything logged so far, as bytes.
    pub async fn printed(&self) -> Vec<u8> {
        self.flush().await;
        self.lines.0.lock().clone()
    }

    /// The log lines so far.
    pub async fn lines(&self) -> Vec<Value> {
        let bytes = self.printed().await;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("every log line is one JSON object")).collect()
    }

    /// The log lines in which `field` is `value`, in order.
    pub async fn logs(&self, field: &str, value: &str) -> Vec<Value> {
        // Parsing all lines of all tests for each look would be most of the suite's time.
        let bytes = self.printed().await;
        let near = serde_json::to_string(value).unwrap();
        let candidates = String::from_utf8(bytes).expect("lines are UTF-8");
        let lines = candidates.lines().filter(|line| line.contains(&near));
        let parsed = lines.map(|line| serde_json::from_str::<Value>(line).expect("every log line is one JSON object"));
        parsed.filter(|line| line[field] == value).collect()
    }

    /// The spans of a trace, once `enough` of them have arrived.
    pub async fn trace(&self, trace_id: &str, enough: usize) -> Vec<SeenSpan> {
        super::eventually(&format!("{enough} spans of trace {trace_id}"), || async {
            self.flush().await;
            let spans = self.collector.trace(trace_id);
            (spans.len() >= enough).then_some(spans)
        })
        .await
    }
}
