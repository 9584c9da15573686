//! The log layer: one flat JSON object an event, with the trace, the request and the event's own
//! fields. One visitor (`visit`), one reused buffer, one hand-over to the writer; over OTLP too when
//! asked for, and kept as breadcrumbs for Sentry.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{
    Format,
    limit::Limiter,
    otlp::{Attributes, OtlpLogs},
    pretty,
    text::{self, entry},
    visit::{self, Output, Redacting},
    writer::LogWriter,
};
use crate::platform::telemetry::context;

/// What every line says about the process.
#[derive(Clone, Debug)]
pub struct Identity {
    pub service: String,
    pub environment: &'static str,
    pub version: &'static str,
}

/// Lines written since the start, by level: what `log_lines_total` shows.
#[derive(Debug, Default)]
pub struct LineCounts([AtomicU64; 5]);

impl LineCounts {
    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

    fn add(&self, level: Level) {
        if let Some(at) = Self::LEVELS.iter().position(|known| *known == level) {
            self.0[at].fetch_add(1, Relaxed);
        }
    }

    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const NAMES: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        NAMES.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

/// Writes events; spans belong to the tracing layers.
pub struct LogLayer {
    pub writer: LogWriter,
    pub format: Format,
    /// What never changes: `,"service":…,"environment":…,"version":…`.
    identity: String,
    pub counts: &'static LineCounts,
    pub limiter: Arc<Limiter>,
    pub otlp: Option<OtlpLogs>,
}

impl LogLayer {
    pub fn new(
        writer: LogWriter,
        format: Format,
        identity: &Identity,
        counts: &'static LineCounts,
        limiter: Arc<Limiter>,
        otlp: Option<OtlpLogs>,
    ) -> Self {
        let mut known = String::new();
        entry(&mut known, "service", &identity.service);
        entry(&mut known, "environment", identity.environment);
        entry(&mut known, "version", identity.version);
        Self { writer, format, identity: known, counts, limiter, otlp }
    }
}

/// The line, and apart from it the event's own fields: they come last but are visited first,
/// because `message` is one of them.
#[derive(Default)]
struct Buffers {
    line: String,
    fields: String,
    message: String,
    scratch: String,
}

/// What a thread keeps between two lines, at most; a line larger than that is a backtrace.
const KEPT: usize = 64 << 10;

impl Buffers {
    fn shrink(&mut self) {
        for buffer in [&mut self.line, &mut self.fields, &mut self.message, &mut self.scratch] {
            if buffer.capacity() > KEPT {
                *buffer = String::new();
            }
        }
    }
}

/// The fields of a line, and those of a record when records are exported.
struct Both<'a> {
    fields: Members<'a>,
    attributes: Option<&'a mut Attributes>,
}

impl Both<'_> {
    fn each(&mut self, give: impl Fn(&mut dyn Output)) {
        give(&mut self.fields);
        if let Some(attributes) = &mut self.attributes {
            give(*attributes);
        }
    }
}

impl Output for Both<'_> {
    fn text(&mut self, key: &'static str, value: &str) {
        self.each(|out| out.text(beside(key), value));
    }

    fn integer(&mut self, key: &'static str, value: i64) {
        self.each(|out| out.integer(beside(key), value));
    }

    fn unsigned(&mut self, key: &'static str, value: u64) {
        self.each(|out| out.unsigned(beside(key), value));
    }

    fn float(&mut self, key: &'static str, value: f64) {
        self.each(|out| out.float(beside(key), value));
    }

    fn flag(&mut self, key: &'static str, value: bool) {
        self.each(|out| out.flag(beside(key), value));
    }
}

/// The name of an event's field, whoever's event it is, beside those of the line itself: of two members of one
/// name a reader takes either.
fn beside(key: &'static str) -> &'static str {
    match key {
        "timestamp" => "timestamp_",
        "level" => "level_",
        "target" => "target_",
        "service" => "service_",
        "environment" => "environment_",
        "version" => "version_",
        "trace_id" => "trace_id_",
        "span_id" => "span_id_",
        "sampled" => "sampled_",
        "request_id" => "request_id_",
        "correlation_id" => "correlation_id_",
        "tenant_id" => "tenant_id_",
        "principal_id" => "principal_id_",
        "job" => "job_",
        "method" => "method_",
        "route" => "route_",
        "path" => "path_",
        _ => key,
    }
}

thread_local!(static BUFFERS: RefCell<Buffers> = RefCell::default());

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A Display implementation that logs finds the buffers taken, a destructor of the thread finds them
        // gone; they then get their own.
        let logged = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.try_borrow_mut().ok()?;
            self.log(event, &mut buffers);
            buffers.shrink();
            Some(())
        });
        if !matches!(logged, Ok(Some(()))) {
            self.log(event, &mut Buffers::default());
        }
    }
}

impl LogLayer {
    fn log(&self, event: &Event<'_>, buffers: &mut Buffers) {
        let Buffers { line, fields, message, scratch } = buffers;
        let meta = event.metadata();
        line.clear();
        fields.clear();
        message.clear();
        let mut attributes = self.otlp.as_ref().and_then(|otlp| otlp.attributes(event));
        // One visit for both: what is searched twice is counted twice.
        let mut both = Both { fields: Members(fields), attributes: attributes.as_mut() };
        event.record(&mut Redacting { out: &mut both, message, scratch });
        if !self.limiter.admits(meta, message) {
            return;
        }
        let now = SystemTime::now();
        match self.format {
            Format::Json => self.json(line, event, now, message, fields),
            Format::Pretty => pretty::line(line, event, message, fields),
        }
        line.push('\n');
        self.writer.write(line.as_bytes(), *meta.level());
        self.counts.add(*meta.level());
        if let (Some(otlp), Some(attributes)) = (&self.otlp, attributes) {
            otlp.emit(event, now, message, attributes);
        }
        context::with_current(|request| request.crumb(now, *meta.level(), message, fields));
    }

    fn json(&self, out: &mut String, event: &Event<'_>, now: SystemTime, message: &str, fields: &str) {
        let meta = event.metadata();
        out.push_str("{\"timestamp\":\"");
        text::timestamp(out, now);
        out.push_str("\",\"level\":\"");
        out.push_str(meta.level().as_str());
        out.push('"');
        entry(out, "message", message);
        entry(out, "target", meta.target());
        out.push_str(&self.identity);
        // OpenTelemetry logs while it holds its own context: reading it then would panic (trap 14).
        if !meta.target().starts_with("opentelemetry") {
            opentelemetry::Context::map_current(|cx| text::trace_ids(out, cx.span().span_context()));
        }
        visit::request(&mut Members(out));
        out.push_str(fields);
        out.push('}');
    }
}

/// Members of a JSON object.
struct Members<'a>(&'a mut String);

impl Output for Members<'_> {
    fn text(&mut self, key: &'static str, value: &str) {
        entry(self.0, key, value);
    }

    fn integer(&mut self, key: &'static str, value: i64) {
        text::key_of(self.0, key);
        if value < 0 {
            self.0.push('-');
        }
        text::integer(self.0, value.unsigned_abs());
    }

    fn unsigned(&mut self, key: &'static str, value: u64) {
        text::key_of(self.0, key);
        text::integer(self.0, value);
    }

    fn float(&mut self, key: &'static str, value: f64) {
        text::key_of(self.0, key);
        text::float(self.0, value);
    }

    fn flag(&mut self, key: &'static str, value: bool) {
        text::key_of(self.0, key);
        self.0.push_str(if value { "true" } else { "false" });
    }
}
