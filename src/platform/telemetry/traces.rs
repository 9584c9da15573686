//! The tracer provider: sampler, limits and resource by `otlp::Settings`, spans through our own
//! bounded queue, scrubbed on the exporter's thread, where it costs no request anything. No endpoint
//! configured = no exporter, and spans still give ids to the logs.

use std::{borrow::Cow, sync::Arc, time::Duration};

use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Status};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor},
};

use super::{
    build,
    logs::pretty::Waterfall,
    otlp::{Batcher, Counts, Settings, batch::Export, transport},
    sink::Sink,
};
use crate::platform::config::Environment;

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanSink {
    /// Where `OTEL_EXPORTER_OTLP_*` says; nowhere without an endpoint.
    Environment,
    Nowhere,
}

/// # Errors
/// Why there can be no exporter, in words.
pub fn provider(
    resource: Resource,
    settings: &Settings,
    sink: SpanSink,
    waterfall: Option<Waterfall>,
    counts: &Arc<Counts>,
) -> Result<(SdkTracerProvider, Option<Batcher<SpanData>>), String> {
    let builder = SdkTracerProvider::builder().with_span_limits(settings.span_limits).with_resource(resource.clone());
    if settings.disabled {
        return Ok((builder.with_sampler(Sampler::AlwaysOff).build(), None));
    }
    let mut builder = builder.with_sampler(settings.sampler.clone());
    if let Some(waterfall) = waterfall {
        builder = builder.with_span_processor(waterfall);
    }
    let destination = match (sink, &settings.traces.destination) {
        (SpanSink::Environment, Some(destination)) => destination.clone(),
        (SpanSink::Environment, None) | (SpanSink::Nowhere, _) => return Ok((builder.build(), None)),
    };
    let value_length = settings.span_value_length;
    let batcher = Batcher::spawn("otlp-traces", settings.traces.limits, Arc::clone(counts), move || {
        let mut exporter = transport::spans(&destination)?;
        exporter.set_resource(&resource);
        Ok(Scrubbed { exporter, value_length })
    })?;
    Ok((builder.with_span_processor(Queued(batcher.clone())).build(), Some(batcher)))
}

/// What describes the process. Ours are defaults: what `OTEL_RESOURCE_ATTRIBUTES` names wins, but for
/// the name of the service, which logs and traces share.
pub fn resource(service: &str, environment: Environment, settings: &Settings) -> Resource {
    let defaults = [
        ("service.version", build::VERSION.to_owned()),
        ("service.instance.id", uuid::Uuid::now_v7().to_string()),
        ("deployment.environment.name", environment.as_str().to_owned()),
        ("vcs.ref.head.revision", build::GIT_SHA.to_owned()),
        ("telemetry.sdk.name", "opentelemetry".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.version", "0.33.1".to_owned()),
    ];
    let given = settings.resource.iter().filter(|(key, _)| key != "service.name");
    let unnamed = defaults.into_iter().filter(|(key, _)| !settings.resource.iter().any(|(given, _)| given == key));
    // Not `Resource::builder()`: its detector reads the environment again, undecoded.
    Resource::builder_empty()
        .with_attributes(unnamed.map(|(key, value)| KeyValue::new(key, value)))
        .with_attributes(given.map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_service_name(service.to_owned())
        .build()
}

/// Hands ended spans over to the queue.
#[derive(Debug)]
struct Queued(Batcher<SpanData>);

impl SpanProcessor for Queued {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.push(weight(&span), span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        if self.0.close(timeout) { Ok(()) } else { Err(OTelSdkError::Timeout(timeout)) }
    }
}

/// About the memory a span takes until it is exported, in bytes.
fn weight(span: &SpanData) -> usize {
    let heap = |value: &Value| match value {
        Value::String(text) => text.as_str().len(),
        _ => 0,
    };
    let attributes = span.attributes.iter().map(|attribute| size_of::<KeyValue>() + heap(&attribute.value));
    let links = span.links.len() * size_of::<opentelemetry::trace::Link>();
    let events = span.events.len() * size_of::<opentelemetry::trace::Event>();
    size_of::<SpanData>() + span.name.len() + links + events + attributes.sum::<usize>()
}

/// The exporter behind the scrubber.
struct Scrubbed {
    exporter: SpanExporter,
    value_length: usize,
}

impl Export<SpanData> for Scrubbed {
    async fn export(&self, mut batch: Vec<SpanData>) -> Result<(), String> {
        batch.iter_mut().for_each(|span| scrub(span, self.value_length));
        self.exporter.export(batch).await.map_err(|error| error.to_string())
    }
}

fn scrub(span: &mut SpanData, value_length: usize) {
    // A borrowed name is a literal of the code.
    if let Cow::Owned(name) = &span.name
        && let Cow::Owned(clean) = Sink::Span.text(name)
    {
        span.name = clean.into();
    }
    scrub_attributes(&mut span.attributes, value_length);
    for event in &mut span.events.events {
        if let Cow::Owned(name) = &event.name
            && let Cow::Owned(clean) = Sink::Span.text(name)
        {
            event.name = clean.into();
        }
        scrub_attributes(&mut event.attributes, value_length);
    }
    for link in &mut span.links.links {
        scrub_attributes(&mut link.attributes, value_length);
    }
    if let Status::Error { description } = &mut span.status
        && let Cow::Owned(clean) = Sink::Span.text(description)
    {
        *description = clean.into();
    }
}

fn scrub_attributes(attributes: &mut [KeyValue], value_length: usize) {
    for KeyValue { key, value, .. } in attributes {
        let clean = |text: &mut StringValue| {
            if !is_plain(key.as_str())
                && let Cow::Owned(clean) = Sink::Span.field(key.as_str(), text.as_str())
            {
                *text = clean.into();
            }
            if text.as_str().len() > value_length {
                *text = text.as_str().chars().take(value_length).collect::<String>().into();
            }
        };
        match value {
            Value::String(text) => clean(text),
            Value::Array(Array::String(texts)) => texts.iter_mut().for_each(clean),
            _ => {}
        }
    }
}

/// Attributes whose values are typed ids, static strings or parameterised SQL, or were searched when the
/// request came in: nothing to search.
fn is_plain(key: &str) -> bool {
    key.starts_with("db.")
        || matches!(
            key,
            "http.request.method"
                | "http.route"
                | "http.request.header.x-request-id"
                | "correlation_id"
                | "client.address"
                | "url.path"
                | "user_agent.original"
                | "http.request.method_original"
                | "url.scheme"
                | "url.template"
                | "network.protocol.version"
                | "server.address"
                | "tenant.id"
                | "user.id"
                | "error.type"
                | "messaging.system"
                | "messaging.operation.type"
                | "messaging.destination.name"
                | "messaging.message.id"
        )
}
