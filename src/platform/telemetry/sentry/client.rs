//! With the feature `sentry`: the SDK prepares the event; the way out is our bounded queue, because the
//! SDK's own transport can hold an exit without end, blocks in the panic hook and keeps its losses to
//! itself (trap 13 of the design).

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use backtrace::Backtrace;
use opentelemetry::trace::TraceContextExt as _;
use sentry::{
    Client, ClientOptions,
    integrations::backtrace::{ProcessStacktraceIntegration, backtrace_to_stacktrace},
    protocol::{Breadcrumb, Event, Exception, Level, Mechanism, Request, TraceContext, User},
    types::Dsn,
};
use serde_json::{Value, json};

use super::{
    super::{
        build,
        context::{self, RequestContext},
        otlp::{
            Batcher, Counts,
            batch::{Export, Limits},
        },
        sink::Sink,
    },
    SentryConfig,
};
use crate::platform::config::{Environment, Secret};

/// Events are few and large; a flood of them tells nothing that the first hundred do not.
const LIMITS: Limits = Limits {
    queue_items: 100,
    queue_bytes: 4 << 20,
    batch_items: 1,
    delay: Duration::from_secs(60),
    export_timeout: Duration::from_secs(5),
    concurrency: 1,
};
/// About what one takes while it waits: twenty breadcrumbs of a kilobyte.
const EVENT_BYTES: usize = 24 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// After 429 without `Retry-After`, as Sentry's own clients do.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest pause that is believed, in seconds.
const LONGEST_PAUSE: u64 = 3_600;
const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

fn parse(dsn: &Secret) -> Result<Dsn, String> {
    // It is not repeated.
    dsn.expose().parse().map_err(|_| "sentry.dsn: not a Sentry DSN (https://key@host/project)".to_owned())
}

/// The server that events go to, without key and project.
///
/// # Errors
/// A DSN that can't be read, in words.
pub fn server(dsn: &Secret) -> Result<String, String> {
    parse(dsn).map(|dsn| format!("{}://{}:{}", dsn.scheme(), dsn.host(), dsn.port()))
}

/// Reports faults. Cheap to clone.
#[derive(Clone)]
pub struct Sentry {
    queue: Batcher<Report>,
    counts: Arc<Counts>,
    outcomes: Arc<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    sent: AtomicU64,
    failed: AtomicU64,
    rate_limited: AtomicU64,
}

impl Sentry {
    /// # Errors
    /// A DSN that can't be read (it is not repeated), or why there is no thread.
    pub fn start(config: &SentryConfig, environment: Environment) -> Result<Option<Self>, String> {
        let Some(dsn) = config.dsn.as_ref().map(parse).transpose()? else { return Ok(None) };
        let (counts, outcomes) = (Arc::new(Counts::default()), Arc::new(Outcomes::default()));
        let counted = Arc::clone(&outcomes);
        let release = format!("{}@{}+{}", env!("CARGO_PKG_NAME"), build::VERSION, build::GIT_SHA);
        let options = ClientOptions::new()
            .release(release)
            .environment(environment.as_str())
            .default_integrations(false)
            .add_integration(ProcessStacktraceIntegration)
            .in_app_include(vec![env!("CARGO_CRATE_NAME")])
            .send_default_pii(false);
        let queue = Batcher::spawn("sentry", LIMITS, Arc::clone(&counts), move || Sender::new(&dsn, options, counted))?;
        context::keep_crumbs();
        Ok(Some(Self { queue, counts, outcomes }))
    }

    /// Reports an error of a request or job; returns the id of the event.
    pub fn error(&self, code: &str, chain: &str) -> Option<String> {
        let mechanism = Mechanism { ty: "error".to_owned(), handled: Some(true), ..Mechanism::default() };
        let exception = Exception {
            ty: code.to_owned(),
            value: Some(chain.to_owned()),
            mechanism: Some(mechanism),
            ..Exception::default()
        };
        let place = context::with_current(RequestContext::place).unwrap_or_default();
        let event = Event {
            exception: vec![exception].into(),
            level: Level::Error,
            // Texts hold ids; grouped by them, every error would be an issue of its own.
            fingerprint: vec![code.to_owned().into(), place.into()].into(),
            ..Event::default()
        };
        self.report(event, None)
    }

    /// Reports a panic, from its hook: nothing is sent here, nothing waited for, and the names of the
    /// frames are looked up later (2 s of a worker's time in a debug build).
    pub fn panic(&self, text: &str, frames: Backtrace) -> Option<String> {
        let mechanism = Mechanism { ty: "panic".to_owned(), handled: Some(false), ..Mechanism::default() };
        let exception = Exception {
            ty: "panic".to_owned(),
            value: Some(text.to_owned()),
            mechanism: Some(mechanism),
            ..Exception::default()
        };
        let event = Event { exception: vec![exception].into(), level: Level::Fatal, ..Event::default() };
        self.report(event, Some(frames))
    }

    /// The id, if there was room: an id that leads nowhere is worse than none.
    fn report(&self, mut event: Event<'static>, backtrace: Option<Backtrace>) -> Option<String> {
        event.contexts.extend(trace());
        context::with_current(|request| describe(&mut event, request));
        let id = event.event_id.simple().to_string();
        if !self.queue.push(EVENT_BYTES, Report { event, backtrace }) {
            return None;
        }
        context::with_current(|request| request.set_sentry_event(id.clone()));
        Some(id)
    }

    pub fn flush(&self, timeout: Duration) -> bool {
        self.queue.flush(timeout)
    }

    pub fn close(&self, timeout: Duration) -> bool {
        self.queue.close(timeout)
    }

    /// As of [`super::OUTCOMES`].
    pub fn outcomes(&self) -> [u64; 5] {
        let (outcomes, counts) = (&self.outcomes, &self.counts);
        [
            outcomes.sent.load(Relaxed),
            // What its sender said, and what ended without a word.
            outcomes.failed.load(Relaxed) + counts.export_failed.load(Relaxed),
            outcomes.rate_limited.load(Relaxed),
            counts.queue_full.load(Relaxed),
            counts.shutdown.load(Relaxed),
        ]
    }
}

/// The trace, as the typed context that Sentry can search: an untyped one loses the id.
fn trace() -> Option<(String, sentry::protocol::Context)> {
    opentelemetry::Context::map_current(|cx| {
        let span = cx.span();
        let ids = span.span_context();
        ids.is_valid().then(|| {
            let trace = TraceContext {
                trace_id: ids.trace_id().to_bytes().into(),
                span_id: ids.span_id().to_bytes().into(),
                ..TraceContext::default()
            };
            ("trace".to_owned(), trace.into())
        })
    })
}

fn describe(event: &mut Event<'static>, request: &RequestContext) {
    event.transaction = Some(request.place());
    let mut tag = |name: &str, value: String| event.tags.insert(name.to_owned(), value);
    tag("request_id", request.request_id.clone());
    tag("correlation_id", request.correlation_id.clone());
    if let Some((tenant, principal)) = request.caller() {
        tag("tenant_id", tenant.to_string());
        event.user = Some(User { id: Some(principal.as_str().to_owned()), ..User::default() });
    }
    if request.job.is_none() {
        event.request = Some(Request { method: Some(request.method.to_owned()), ..Request::default() });
        event.extra.insert("path".to_owned(), request.path.clone().into());
    }
    event.breadcrumbs = request
        .crumbs()
        .into_iter()
        .map(|crumb| Breadcrumb {
            timestamp: crumb.at,
            level: if crumb.level == tracing::Level::INFO { Level::Info } else { Level::Warning },
            category: Some("log".to_owned()),
            message: Some(crumb.message),
            data: [("fields".to_owned(), Value::String(crumb.fields))].into_iter().collect(),
            ..Breadcrumb::default()
        })
        .collect::<Vec<_>>()
        .into();
}

/// Every string of the event, whatever it is called and wherever it stands.
fn scrub(key: &str, value: &mut Value) {
    match value {
        Value::String(text) => *text = Sink::Sentry.field(key, text).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(|value| scrub(key, value)),
        Value::Object(members) => members.iter_mut().for_each(|(key, value)| scrub(key, value)),
        _ => {}
    }
}

/// One event in Sentry's envelope format (develop.sentry.dev/sdk/data-model/envelopes).
fn envelope(id: &str, event: &Value) -> Vec<u8> {
    let payload = event.to_string();
    let head =
        json!({"event_id": id, "sent_at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)});
    let item = json!({"type": "event", "length": payload.len()});
    format!("{head}\n{item}\n{payload}\n").into_bytes()
}

/// A fault as it waits: what costs time is done by the thread that sends.
struct Report {
    event: Event<'static>,
    backtrace: Option<Backtrace>,
}

impl Report {
    fn envelope(self, client: &Client) -> Option<Vec<u8>> {
        let Self { mut event, backtrace } = self;
        if let (Some(mut backtrace), Some(exception)) = (backtrace, event.exception.values.last_mut()) {
            backtrace.resolve();
            exception.stacktrace = backtrace_to_stacktrace(&backtrace);
        }
        let event = client.prepare_event(event, None)?;
        let id = event.event_id.simple().to_string();
        let mut event = serde_json::to_value(&event).ok()?;
        scrub("", &mut event);
        Some(envelope(&id, &event))
    }
}

struct Sender {
    client: Client,
    http: reqwest::Client,
    url: String,
    auth: String,
    outcomes: Arc<Outcomes>,
    /// Sentry has asked for quiet until then.
    quiet_until: Cell<Option<Instant>>,
}

impl Sender {
    fn new(dsn: &Dsn, options: ClientOptions, outcomes: Arc<Outcomes>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(SEND_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("the Sentry client can't be built: {error}"))?;
        let (url, auth) = (dsn.envelope_api_url().to_string(), dsn.to_auth(Some(USER_AGENT)).to_string());
        Ok(Self { client: Client::with_options(options), http, url, auth, outcomes, quiet_until: Cell::new(None) })
    }
}

impl Export<Report> for Sender {
    async fn export(&self, batch: Vec<Report>) -> Result<(), String> {
        for report in batch {
            if self.quiet_until.get().is_some_and(|until| until > Instant::now()) {
                self.outcomes.rate_limited.fetch_add(1, Relaxed);
                continue;
            }
            let Some(envelope) = report.envelope(&self.client) else {
                self.outcomes.failed.fetch_add(1, Relaxed);
                continue;
            };
            let request = self.http.post(&self.url).header("X-Sentry-Auth", &self.auth).body(envelope);
            #[expect(clippy::disallowed_methods, reason = "telemetry about a request is no call of the request")]
            let answer = request.send().await;
            let count = match &answer {
                Ok(answer) if answer.status().is_success() => &self.outcomes.sent,
                Ok(answer) if answer.status().as_u16() == 429 => {
                    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
                    self.quiet_until.set(Some(
                        Instant::now()
                            + after.map_or(PAUSE, |after: u64| Duration::from_secs(after.min(LONGEST_PAUSE))),
                    ));
                    &self.outcomes.rate_limited
                }
                _ => &self.outcomes.failed,
            };
            count.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}
