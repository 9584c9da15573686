//! The log layer: one flat JSON object an event, with the trace, the request and the event's own
//! fields, redacted by key and by value. One visitor, one reused buffer, one hand-over to the writer.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use opentelemetry::trace::TraceContextExt as _;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{Format, writer::LogWriter};
use crate::platform::telemetry::{
    context,
    redact::{MASK, is_secret_key, scrub},
};

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
    writer: LogWriter,
    format: Format,
    identity: Identity,
    counts: &'static LineCounts,
}

impl LogLayer {
    pub fn new(writer: LogWriter, format: Format, identity: Identity, counts: &'static LineCounts) -> Self {
        Self { writer, format, identity, counts }
    }
}

/// The line, and apart from it the event's own fields: they come last but are visited first,
/// because `message` is one of them.
#[derive(Default)]
struct Buffers {
    line: String,
    fields: String,
}

thread_local!(static BUFFERS: RefCell<Buffers> = RefCell::default());

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        BUFFERS.with(|buffers| {
            // A Display implementation that logs finds the buffers taken; it then gets its own.
            let mut own = Buffers::default();
            let mut borrowed = buffers.try_borrow_mut();
            let Buffers { line, fields } = borrowed.as_deref_mut().unwrap_or(&mut own);
            line.clear();
            fields.clear();
            let mut visitor = Fields { out: fields, message: None };
            event.record(&mut visitor);
            let message = visitor.message.unwrap_or_default();
            match self.format {
                Format::Json => self.json(line, event, &message, fields),
                Format::Pretty => pretty(line, event, &message, fields),
            }
            line.push('\n');
            self.writer.write(line.as_bytes(), *event.metadata().level());
            self.counts.add(*event.metadata().level());
        });
    }
}

fn now() -> impl fmt::Display {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ")
}

impl LogLayer {
    fn json(&self, out: &mut String, event: &Event<'_>, message: &str, fields: &str) {
        let meta = event.metadata();
        let _ = write!(out, "{{\"timestamp\":\"{}\",\"level\":\"{}\"", now(), meta.level());
        entry(out, "message", message);
        entry(out, "target", meta.target());
        entry(out, "service", &self.identity.service);
        entry(out, "environment", self.identity.environment);
        entry(out, "version", self.identity.version);
        // OpenTelemetry logs while it holds its own context: reading it then would panic (trap 14).
        if !meta.target().starts_with("opentelemetry") {
            trace_ids(out);
        }
        request(out);
        out.push_str(fields);
        out.push('}');
    }
}

fn trace_ids(out: &mut String) {
    opentelemetry::Context::map_current(|cx| {
        let span = cx.span();
        let ids = span.span_context();
        if ids.is_valid() {
            let _ = write!(
                out,
                ",\"trace_id\":\"{}\",\"span_id\":\"{}\",\"sampled\":{}",
                ids.trace_id(),
                ids.span_id(),
                ids.is_sampled()
            );
        }
    });
}

fn request(out: &mut String) {
    context::with_current(|request| {
        entry(out, "request_id", &request.request_id);
        entry(out, "correlation_id", &request.correlation_id);
        if let Some((tenant, principal)) = request.caller() {
            let _ = write!(out, ",\"tenant_id\":\"{tenant}\"");
            entry(out, "principal_id", principal.as_str());
        }
        if let Some(job) = request.job {
            entry(out, "job", job);
            return;
        }
        entry(out, "method", request.method);
        entry(out, "route", &request.route);
        entry(out, "path", &scrub(&request.path));
    });
}

/// `,"key":"value"` with JSON escapes: a control character can't forge a line.
fn entry(out: &mut String, key: &str, value: &str) {
    out.push(',');
    quote(out, key);
    out.push(':');
    quote(out, value);
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends the event's fields; keeps `message` apart.
struct Fields<'a> {
    out: &'a mut String,
    message: Option<String>,
}

impl Fields<'_> {
    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        self.out.push(',');
        quote(self.out, field.name());
        let _ = write!(self.out, ":{value}");
    }

    fn text(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = Some(scrub(value).into_owned()),
            name if name.starts_with("log.") => {}
            name if is_secret_key(name) => entry(self.out, name, MASK),
            name => entry(self.out, name, &scrub(value)),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        if value.is_finite() { self.raw(field, (value * 1_000.0).round() / 1_000.0) } else { self.raw(field, "null") }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            let _ = write!(chain, ": {cause}");
            next = cause.source();
        }
        self.text(field, &chain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

/// `12:03:55.123  INFO request_completed GET /v1/users status=200 … trace=4bf9…`
fn pretty(out: &mut String, event: &Event<'_>, message: &str, fields: &str) {
    let meta = event.metadata();
    let _ = write!(out, "{} {:>5} {}", chrono::Utc::now().format("%H:%M:%S%.3f"), meta.level(), message.escape_debug());
    context::with_current(|request| {
        let _ = match request.job {
            Some(job) => write!(out, " job={job}"),
            None => write!(out, " {} {}", request.method, scrub(&request.path).escape_debug()),
        };
    });
    out.push_str(&fields.replace(",\"", " ").replace("\":", "="));
    if !meta.target().starts_with("opentelemetry") {
        opentelemetry::Context::map_current(|cx| {
            if cx.span().span_context().is_valid() {
                let _ = write!(out, " trace={}", cx.span().span_context().trace_id());
            }
        });
    }
}
