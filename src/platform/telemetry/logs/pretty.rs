//! The format for a person at a terminal: a short line an event, and under the line of a finished
//! request its spans as a small waterfall, so that the first trace is seen with no backend at all.

use std::{
    collections::HashMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use opentelemetry::trace::{SpanId, Status, TraceContextExt as _, TraceId};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use parking_lot::Mutex;
use tracing::{Event, Level};

use super::writer::LogWriter;
use crate::platform::telemetry::context;

/// `12:03:55.123  INFO request_completed GET /v1/users status=200 … trace=4bf9…`
pub(super) fn line(out: &mut String, event: &Event<'_>, message: &str, fields: &str) {
    let meta = event.metadata();
    let _ = write!(out, "{} {:>5} {}", chrono::Utc::now().format("%H:%M:%S%.3f"), meta.level(), message.escape_debug());
    context::with_current(|request| {
        let _ = match request.job {
            Some(job) => write!(out, " job={job}"),
            None => write!(out, " {} {}", request.method, request.path.escape_debug()),
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

/// Traces under way, and spans of each, that are kept for drawing.
const MOST_TRACES: usize = 256;
const MOST_SPANS: usize = 40;
/// Characters of the time axis.
const WIDTH: usize = 32;

/// Draws each local root with its children when it ends.
#[derive(Debug)]
pub struct Waterfall {
    writer: LogWriter,
    traces: Mutex<HashMap<TraceId, Vec<SpanData>>>,
}

impl Waterfall {
    pub fn new(writer: LogWriter) -> Self {
        Self { writer, traces: Mutex::default() }
    }
}

impl SpanProcessor for Waterfall {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        let trace = span.span_context.trace_id();
        let is_root = span.parent_span_is_remote || span.parent_span_id == SpanId::INVALID;
        let mut traces = self.traces.lock();
        if !is_root {
            if traces.len() >= MOST_TRACES && !traces.contains_key(&trace) {
                traces.clear();
            }
            let spans = traces.entry(trace).or_default();
            if spans.len() < MOST_SPANS {
                spans.push(span);
            }
            return;
        }
        let children = traces.remove(&trace).unwrap_or_default();
        drop(traces);
        if !children.is_empty() {
            self.writer.write(draw(&span, children).as_bytes(), Level::DEBUG);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn draw(root: &SpanData, mut children: Vec<SpanData>) -> String {
    children.sort_by_key(|span| span.start_time);
    let total = millis(root.start_time, root.end_time).max(0.001);
    let mut out = String::new();
    row(&mut out, root, root, total, 0);
    for child in &children {
        row(&mut out, root, child, total, depth(child, &children));
    }
    out
}

fn depth(span: &SpanData, all: &[SpanData]) -> usize {
    let parent = all.iter().find(|other| other.span_context.span_id() == span.parent_span_id);
    // A child starts after its parent: no cycle, but foreign ids are not to be trusted with recursion.
    parent.map_or(1, |parent| if parent.start_time < span.start_time { (1 + depth(parent, all)).min(8) } else { 2 })
}

fn row(out: &mut String, root: &SpanData, span: &SpanData, total: f64, depth: usize) {
    let place = |at: SystemTime| ((millis(root.start_time, at) / total * WIDTH as f64) as usize).min(WIDTH);
    let (from, to) = (place(span.start_time).min(WIDTH - 1), place(span.end_time));
    let bar = "█".repeat((to.saturating_sub(from)).max(1));
    let failed = if matches!(span.status, Status::Error { .. }) { " ✗" } else { "" };
    let _ = writeln!(
        out,
        "    {:WIDTH$} {:>9.3} ms  {:indent$}{}{failed}",
        format!("{:from$}{bar}", ""),
        millis(span.start_time, span.end_time),
        "",
        span.name.escape_debug(),
        indent = depth * 2,
    );
}

fn millis(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64() * 1_000.0
}
