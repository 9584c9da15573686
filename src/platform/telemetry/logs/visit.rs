//! What a line says of its request, and the one visitor of an event's own fields: what a field is called and what it looks like decide here
//! whether it is hidden, for the lines on standard output and for the records over OTLP alike (trap 16).

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

use crate::platform::telemetry::{context, redact::is_secret_key, sink::Sink};

/// Takes the fields that may leave, as they may leave.
pub trait Output {
    fn text(&mut self, key: &'static str, value: &str);
    fn integer(&mut self, key: &'static str, value: i64);
    fn unsigned(&mut self, key: &'static str, value: u64);
    fn float(&mut self, key: &'static str, value: f64);
    fn flag(&mut self, key: &'static str, value: bool);
}

/// Bytes of one field; backtraces are the only ones that come near.
const LONGEST_TEXT: usize = 32 << 10;

/// What every line of a request says of it. Ids and path were searched for secrets once, when it came in.
pub fn request(out: &mut impl Output) {
    context::with_current(|request| {
        out.text("request_id", &request.request_id);
        out.text("correlation_id", &request.correlation_id);
        if let Some((tenant, principal)) = request.caller() {
            let mut id = [0; 36];
            out.text("tenant_id", tenant.as_uuid().as_hyphenated().encode_lower(&mut id));
            out.text("principal_id", principal.as_str());
        }
        if let Some(job) = request.job {
            out.text("job", job);
            return;
        }
        out.text("method", request.method);
        out.text("route", request.route);
        out.text("path", &request.path);
    });
}

/// Redacts, and keeps `message` apart.
pub struct Redacting<'a, O> {
    pub out: &'a mut O,
    /// Filled with the name of the event.
    pub message: &'a mut String,
    /// Text under construction, reused.
    pub scratch: &'a mut String,
}

/// Fields of ours that hold numbers, typed ids and names out of fixed lists: nothing to search.
fn is_plain(key: &str) -> bool {
    matches!(
        key,
        "outcome"
            | "error_code"
            | "db_query_summary"
            | "queue"
            | "job_id"
            | "severity"
            | "dependency"
            | "status"
            | "duration_ms"
            | "db_queries"
            | "db_ms"
            | "db_pool_wait_ms"
            | "redis_ops"
            | "redis_ms"
            | "request_bytes"
            | "response_bytes"
    )
}

impl<O: Output> Redacting<'_, O> {
    fn text(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => {
                self.message.clear();
                self.message.push_str(&Sink::Log.text(value));
            }
            name if name.starts_with("log.") => {}
            name if is_plain(name) => self.out.text(name, value),
            name => {
                let clean = Sink::Log.field(name, value);
                // Searched whole, then cut: a line must not be larger than what all lines may take.
                if clean.len() <= LONGEST_TEXT {
                    self.out.text(name, &clean);
                } else {
                    let end = clean.floor_char_boundary(LONGEST_TEXT);
                    self.out.text(name, &format!("{}… (cut)", &clean[..end]));
                }
            }
        }
    }

    /// A number can be a PIN: by its key it is hidden like any text.
    fn hides(&mut self, field: &Field) -> bool {
        // What the `log` bridge says about its own callsite is no field of the event.
        let name = field.name();
        let hides = name.starts_with("log.") || !is_plain(name) && is_secret_key(name);
        if hides {
            self.text(field, "");
        }
        hides
    }

    fn formatted(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Taken, not borrowed: `text` needs the rest of `self`, and Display may log.
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        let _ = scratch.write_fmt(value);
        self.text(field, &scratch);
        *self.scratch = scratch;
    }
}

impl<O: Output> Visit for Redacting<'_, O> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if !self.hides(field) {
            self.out.integer(field.name(), value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !self.hides(field) {
            self.out.unsigned(field.name(), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if !self.hides(field) {
            self.out.flag(field.name(), value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if !self.hides(field) {
            self.out.float(field.name(), value);
        }
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
        self.formatted(field, format_args!("{value:?}"));
    }
}
