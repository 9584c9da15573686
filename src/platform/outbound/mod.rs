//! The only way to call out: a timeout for each call, a client span, the ids and the trace passed
//! on, one retry where it is safe and within a budget, a breaker per dependency, no redirects and a cap on
//! the answer: services of ours are in `dependency`, addresses that tenants choose go through `guard`.

mod dependency;
pub mod guard;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_semantic_conventions::attribute as semconv;
use reqwest::{Method, Url, header::HeaderMap};
use serde::Serialize;

pub use self::dependency::Dependency;
use super::breaker::Breakers;
use super::telemetry::{
    Telemetry, context,
    metrics::{HTTP_SECONDS, Histogram, Registry},
    propagation::{self, Propagators},
    security,
};
use crate::{
    labels,
    platform::config::{Environment, Faults},
    section,
};

section! {
    /// Calls to other services.
    pub struct OutboundConfig in "outbound" {
        /// Lets tenant webhooks go to private addresses; for development, production refuses it.
        pub allow_private: bool,
        /// Longest time to connect.
        pub connect_timeout: Duration => Duration::from_millis(10)..=Duration::from_secs(30),
    }
}

impl OutboundConfig {
    pub fn check(&self, environment: Environment, faults: &mut Faults) {
        if self.allow_private && environment == Environment::Production {
            faults.add("outbound.allow_private: tenant webhooks may not reach private addresses in production");
        }
    }
}

labels! {
    pub struct Called {
        server_address: Arc<str> = "_OTHER".into(),
        http_request_method: &'static str = "_OTHER",
        http_response_status_code: u16 = 0,
        error_type: &'static str = "_OTHER",
    }
}

/// Tenants' endpoints may be on the other side of the world.
const TENANT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing was sent: the breaker is open.
    #[error("the dependency failed too often; not called")]
    BreakerOpen,
    /// Nothing was sent: no connection.
    #[error("no connection")]
    Connect,
    /// The address is one that tenants may not reach.
    #[error("the address is not allowed")]
    Forbidden,
    #[error("no answer in time")]
    Timeout,
    #[error("the connection broke")]
    Broken,
    #[error("the answer is too large")]
    TooLarge,
}

impl Failure {
    const fn name(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::Connect => "connect",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::TooLarge => "too_large",
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One call.
pub struct Call<'a> {
    pub method: Method,
    pub url: Url,
    /// Low-cardinality form of the path, for the span's name: `/charges/{id}`.
    pub template: &'static str,
    pub headers: HeaderMap,
    pub body: Option<&'a [u8]>,
    /// For the whole call, its retry included.
    pub timeout: Duration,
    /// Whether the other side takes a repetition for the same thing.
    pub idempotent: bool,
}

/// Whose service it is: which addresses it may have, and what goes on to it.
#[derive(Clone, Copy)]
enum Peer {
    Ours,
    Tenants,
}

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    trusted: reqwest::Client,
    guarded: reqwest::Client,
    allow_private: bool,
    durations: Histogram<Called>,
    breakers: Breakers,
    telemetry: Telemetry,
}

impl Outbound {
    /// # Errors
    /// When the TLS roots of the system can't be used.
    pub fn build(
        config: &OutboundConfig,
        telemetry: &Telemetry,
        registry: &Registry,
        breakers: &Breakers,
    ) -> Result<Self, String> {
        let client = |connect_timeout| {
            reqwest::Client::builder()
                .connect_timeout(connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| format!("the HTTP client can't be built: {error}"))
        };
        Ok(Self {
            trusted: build(client(config.connect_timeout))?,
            guarded: build(client(TENANT_CONNECT_TIMEOUT).dns_resolver(guard::Resolver::new(config.allow_private)))?,
            allow_private: config.allow_private,
            durations: registry.histogram(
                "http_client_request_duration_seconds",
                "Duration of HTTP client requests.",
                HTTP_SECONDS,
                200,
            ),
            breakers: breakers.clone(),
            telemetry: telemetry.clone(),
        })
    }

    /// A dependency of ours, with a breaker of its own.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        Dependency::new(self, self.breakers.of(name))
    }

    /// One call to an address that a tenant chose.
    ///
    /// # Errors
    /// Why there is no answer; `Forbidden` for an address that is not public.
    pub async fn call_tenant(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let result = if guard::may_be_called(&call.url, self.allow_private) {
            // Tenants are many and each names its own host: one label for all.
            self.attempt(Peer::Tenants, call, "tenant".into(), call.timeout).await
        } else {
            Err(Failure::Forbidden)
        };
        // Also of a name that resolved to what it may not.
        if matches!(result, Err(Failure::Forbidden)) {
            security::Event::OutboundForbidden.record();
        }
        result
    }

    async fn attempt(
        &self,
        peer: Peer,
        call: &Call<'_>,
        address: Arc<str>,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let context = self.span(call);
        let (client, propagators) = match peer {
            Peer::Ours => (&self.trusted, Some(&self.telemetry.propagators)),
            Peer::Tenants => (&self.guarded, None),
        };
        let started = Instant::now();
        let result = tokio::time::timeout(timeout, send(client, call, propagators))
            .with_context(context.clone())
            .await
            .unwrap_or(Err(Failure::Timeout));
        let (status, error_type) = match &result {
            Ok(answer) => (answer.status, status_error(answer.status)),
            Err(failure) => (0, failure.name()),
        };
        let span = context.span();
        if status != 0 {
            span.set_attribute(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
        }
        if !error_type.is_empty() {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
            span.set_status(Status::error(error_type));
        }
        span.end();
        let http_request_method = if call.method == Method::POST {
            "POST"
        } else if call.method == Method::GET {
            "GET"
        } else {
            "_OTHER"
        };
        let labels =
            Called { server_address: address, http_request_method, http_response_status_code: status, error_type };
        self.durations.with(&labels).observe(started.elapsed().as_secs_f64());
        result
    }

    fn span(&self, call: &Call<'_>) -> Context {
        let parent = Context::current();
        let tracer = &self.telemetry.tracer;
        let builder = tracer
            .span_builder(format!("{} {}", call.method, call.template))
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new(semconv::HTTP_REQUEST_METHOD, call.method.to_string()),
                KeyValue::new(semconv::URL_TEMPLATE, call.template),
                KeyValue::new(semconv::URL_FULL, shown(&call.url)),
                KeyValue::new(semconv::SERVER_ADDRESS, call.url.host_str().unwrap_or_default().to_owned()),
                KeyValue::new(semconv::SERVER_PORT, i64::from(call.url.port_or_known_default().unwrap_or(0))),
            ]);
        parent.with_span(builder.start_with_context(tracer, &parent))
    }
}

/// `error.type` of a client span and metric is the status, from 400 on (semantic conventions, HTTP).
const fn status_error(status: u16) -> &'static str {
    match status {
        0..400 => "",
        400 => "400",
        401 => "401",
        402 => "402",
        403 => "403",
        404 => "404",
        408 => "408",
        409 => "409",
        410 => "410",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "_OTHER",
    }
}

/// Where a call goes, without what must not be told: credentials and query.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let _no_credentials_to_drop = (shown.set_username(""), shown.set_password(None));
    shown.into()
}

async fn send(client: &reqwest::Client, call: &Call<'_>, propagators: Option<&Propagators>) -> Result<Answer, Failure> {
    let mut request = client.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
    request = match propagators {
        Some(propagators) => request.headers(propagators.inject()),
        // Baggage and other vendors' state are for services of ours only.
        None => propagation::traceparent_header().into_iter().fold(request, |request, (k, v)| request.header(k, v)),
    };
    if let Some((request_id, correlation_id)) =
        context::with_current(|now| (now.request_id.clone(), now.correlation_id.clone()))
    {
        request = request.header("x-request-id", request_id).header("x-correlation-id", correlation_id);
    }
    if let Some(body) = call.body {
        request = request.body(body.to_vec());
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that sends")]
    let mut response = request.send().await.map_err(|error| {
        let forbidden = guard::is_refusal(&error);
        match () {
            () if forbidden => Failure::Forbidden,
            () if error.is_connect() => Failure::Connect,
            () if error.is_timeout() => Failure::Timeout,
            () => Failure::Broken,
        }
    })?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Failure::Broken)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status().as_u16(), body })
}

/// A JSON body and its header.
///
/// # Errors
/// When the value can't be written as JSON.
pub fn json(value: &impl Serialize) -> Result<(HeaderMap, Vec<u8>), serde_json::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(reqwest::header::CONTENT_TYPE, reqwest::header::HeaderValue::from_static("application/json"));
    Ok((headers, serde_json::to_vec(value)?))
}
