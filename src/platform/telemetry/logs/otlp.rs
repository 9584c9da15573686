//! Log records over OTLP, when `OTEL_LOGS_EXPORTER=otlp`: the same events with the same fields,
//! through the same redacting visitor as the lines. Not the stock bridge, which exports what the
//! lines mask (trap 16).

use std::{sync::Arc, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, Key,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
};
use opentelemetry_otlp::LogExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as _, LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider},
};
use tracing::{Event, Level};

use super::visit::{self, Output};
use crate::platform::telemetry::{
    is_exporter,
    otlp::{Batcher, Counts, Settings, batch::Export, settings::Destination, transport},
};

type Item = (SdkLogRecord, InstrumentationScope);

/// Makes records of events.
pub struct OtlpLogs {
    logger: SdkLogger,
    attributes: usize,
    value_length: usize,
}

impl OtlpLogs {
    /// # Errors
    /// Why there can be no exporter, in words.
    pub fn new(
        scope: &'static str,
        resource: Resource,
        settings: &Settings,
        destination: Destination,
        counts: Arc<Counts>,
    ) -> Result<(Self, Batcher<Item>), String> {
        let described = resource.clone();
        let batcher = Batcher::spawn("otlp-logs", settings.logs.limits, counts, move || {
            let mut exporter = transport::logs(&destination)?;
            exporter.set_resource(&described);
            Ok(Exporter(exporter))
        })?;
        let provider =
            SdkLoggerProvider::builder().with_resource(resource).with_log_processor(Queued(batcher.clone())).build();
        let logger = provider.logger(scope);
        Ok((Self { logger, attributes: settings.log_attributes, value_length: settings.log_value_length }, batcher))
    }

    /// Where the fields of an event go, after the request's, if it is one to export. Not the exporter's own: a record of its
    /// work would make more of it; and OpenTelemetry logs while it holds its own context, which `emit`
    /// reads (trap 14).
    pub(super) fn attributes(&self, event: &Event<'_>) -> Option<Attributes> {
        if is_exporter(event.metadata().target()) {
            return None;
        }
        let mut attributes = Attributes { list: Vec::with_capacity(24), value_length: self.value_length };
        visit::request(&mut attributes);
        Some(attributes)
    }

    pub(super) fn emit(&self, event: &Event<'_>, now: SystemTime, message: &str, mut attributes: Attributes) {
        let meta = event.metadata();
        attributes.list.truncate(self.attributes);
        let mut record = self.logger.create_log_record();
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_target(meta.target().to_owned());
        let (severity, text) = match *meta.level() {
            Level::ERROR => (Severity::Error, "ERROR"),
            Level::WARN => (Severity::Warn, "WARN"),
            Level::INFO => (Severity::Info, "INFO"),
            Level::DEBUG => (Severity::Debug, "DEBUG"),
            Level::TRACE => (Severity::Trace, "TRACE"),
        };
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.set_body(AnyValue::from(message.to_owned()));
        record.add_attributes(attributes.list);
        self.logger.emit(record);
    }
}

pub(super) struct Attributes {
    list: Vec<(Key, AnyValue)>,
    value_length: usize,
}

impl Output for Attributes {
    fn text(&mut self, key: &'static str, value: &str) {
        let value = if value.len() > self.value_length {
            value.chars().take(self.value_length).collect()
        } else {
            value.to_owned()
        };
        self.list.push((Key::from_static_str(key), AnyValue::from(value)));
    }

    fn integer(&mut self, key: &'static str, value: i64) {
        self.list.push((Key::from_static_str(key), AnyValue::from(value)));
    }

    fn unsigned(&mut self, key: &'static str, value: u64) {
        // The protocol has no unsigned number.
        self.integer(key, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn float(&mut self, key: &'static str, value: f64) {
        self.list.push((Key::from_static_str(key), AnyValue::from(value)));
    }

    fn flag(&mut self, key: &'static str, value: bool) {
        self.list.push((Key::from_static_str(key), AnyValue::from(value)));
    }
}

#[derive(Debug)]
struct Queued(Batcher<Item>);

impl LogProcessor for Queued {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        let text = |value: &AnyValue| match value {
            AnyValue::String(text) => text.as_str().len(),
            _ => 0,
        };
        let attributes: usize =
            record.attributes_iter().map(|(_, value)| size_of::<(Key, AnyValue)>() + text(value)).sum();
        let bytes = size_of::<Item>() + attributes + record.body().map_or(0, text);
        self.0.push(bytes, (record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

struct Exporter(LogExporter);

impl Export<Item> for Exporter {
    async fn export(&self, batch: Vec<Item>) -> Result<(), String> {
        let records: Vec<_> = batch.iter().map(|(record, scope)| (record, scope)).collect();
        self.0.export(LogBatch::new(&records)).await.map_err(|error| error.to_string())
    }
}
