//! The `OTEL_*` variables, read once and checked: what is wrong with them ends the start like any
//! other bad setting, where the SDK would say nothing and do something else. The table of all of
//! them is in `variables`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use opentelemetry_sdk::trace::{Sampler, SpanLimits};

use super::{batch::Limits, grpc};
use crate::platform::telemetry::propagation::Format;

/// Everything `OTEL_*` says.
#[derive(Clone, Debug)]
pub struct Settings {
    pub disabled: bool,
    /// Of `OTEL_RESOURCE_ATTRIBUTES`, decoded.
    pub resource: Vec<(String, String)>,
    pub sampler: Sampler,
    pub span_limits: SpanLimits,
    /// Longest attribute of a span, in characters.
    pub span_value_length: usize,
    pub log_attributes: usize,
    pub log_value_length: usize,
    pub propagators: Vec<Format>,
    pub traces: Signal,
    pub logs: Signal,
}

/// How one signal leaves.
#[derive(Clone, Debug)]
pub struct Signal {
    /// `None`: it does not.
    pub destination: Option<Destination>,
    pub limits: Limits,
}

/// Where to.
#[derive(Clone, Debug)]
pub struct Destination {
    pub transport: Transport,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub timeout: Duration,
    pub gzip: bool,
    /// PEM file of the authorities that are trusted besides the system's.
    pub certificate: Option<PathBuf>,
    /// PEM files of the certificate and key to show.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Grpc,
    Http,
}

/// Bound of each queue; with 1 KiB a span about 16,000 of them.
const QUEUE_BYTES: usize = 16 << 20;

/// Exports under way at once: 4 × 512 spans in the 50 ms of a far collector are 40,000 a second.
const CONCURRENCY: usize = 4;

impl Settings {
    /// # Errors
    /// Every variable that can't be used, with what was expected. Values of headers are not repeated.
    pub fn parse(variables: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader { variables, faults: Vec::new() };
        let settings = reader.settings();
        // Both signals read the common variables.
        reader.faults.sort();
        reader.faults.dedup();
        if reader.faults.is_empty() { Ok(settings) } else { Err(reader.faults) }
    }

    /// `service.name`, when only the resource names it (`OTEL_SERVICE_NAME` wins; the specification
    /// has it so, the SDK the other way round).
    pub fn service_name(variables: &BTreeMap<String, String>) -> Option<String> {
        let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        if given("OTEL_SERVICE_NAME").is_some() {
            return None;
        }
        let pairs = pairs(given("OTEL_RESOURCE_ATTRIBUTES")?).ok()?;
        pairs.into_iter().find(|(key, _)| key == "service.name").map(|(_, value)| value)
    }
}

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    faults: Vec<String>,
}

/// `key=value,key=value`, percent-decoded.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ()> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or(())?;
            let decoded = percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| ())?;
            if key.trim().is_empty() { Err(()) } else { Ok((key.trim().to_owned(), decoded.into_owned())) }
        })
        .collect()
}

impl<'a> Reader<'a> {
    /// The value of the first of these that is set; empty is unset, as the specification says.
    fn text<'n>(&self, names: &'n [impl AsRef<str>]) -> Option<(&'n str, &'a str)> {
        names.iter().find_map(|name| {
            let value = self.variables.get(name.as_ref())?.trim();
            (!value.is_empty()).then_some((name.as_ref(), value))
        })
    }

    fn number<N: std::str::FromStr + PartialOrd + Copy>(
        &mut self,
        names: &[impl AsRef<str>],
        least: N,
        default: N,
    ) -> N {
        let Some((name, value)) = self.text(names) else { return default };
        match value.parse() {
            Ok(number) if number >= least => number,
            _ => {
                let wanted = if std::any::type_name::<N>() == "f64" { "a share from 0 to 1" } else { "a whole number" };
                self.faults.push(format!("{name}: expected {wanted}, got \"{value}\""));
                default
            }
        }
    }

    fn millis(&mut self, names: &[impl AsRef<str>], default: u64) -> Duration {
        // 0 is allowed, and as soon as can be.
        Duration::from_millis(self.number(names, 0, default).max(1))
    }

    fn flag(&mut self, names: &[impl AsRef<str>]) -> bool {
        let Some((name, value)) = self.text(names) else { return false };
        match value.to_ascii_lowercase().as_str() {
            "true" => return true,
            "false" => {}
            _ => self.faults.push(format!("{name}: expected true or false, got \"{value}\"")),
        }
        false
    }

    fn choice<C: Copy>(&mut self, names: &[impl AsRef<str>], choices: &[(&str, C)], default: C) -> C {
        let Some((name, value)) = self.text(names) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(known, _)| known.eq_ignore_ascii_case(value)) {
            return *choice;
        }
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        self.faults.push(format!("{name}: expected {}, got \"{value}\"", known.join(" or ")));
        default
    }

    fn settings(&mut self) -> Settings {
        let resource = match self.text(&["OTEL_RESOURCE_ATTRIBUTES"]).map(|(_, value)| pairs(value)) {
            None => Vec::new(),
            Some(Ok(pairs)) => pairs,
            Some(Err(())) => {
                self.faults.push("OTEL_RESOURCE_ATTRIBUTES: expected key=value,key=value, percent-encoded".to_owned());
                Vec::new()
            }
        };
        let lengths = ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
        let log_lengths = ["OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
        let log_counts = ["OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"];
        Settings {
            disabled: self.flag(&["OTEL_SDK_DISABLED"]),
            resource,
            sampler: self.sampler(),
            span_limits: SpanLimits {
                max_attributes_per_span: self.number(
                    &["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"],
                    0,
                    128,
                ),
                max_events_per_span: self.number(&["OTEL_SPAN_EVENT_COUNT_LIMIT"], 0, 128),
                max_links_per_span: self.number(&["OTEL_SPAN_LINK_COUNT_LIMIT"], 0, 128),
                max_attributes_per_event: self.number(
                    &["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"],
                    0,
                    128,
                ),
                max_attributes_per_link: self.number(
                    &["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"],
                    0,
                    128,
                ),
            },
            span_value_length: self.number(&lengths, 0, usize::MAX),
            log_attributes: self.number(&log_counts, 0, 128),
            log_value_length: self.number(&log_lengths, 0, usize::MAX),
            propagators: self.propagators(),
            traces: self.signal("TRACES", true, "BSP", 5_000),
            // Off unless asked for: an agent that reads standard output would have every line twice.
            logs: self.signal("LOGS", false, "BLRP", 1_000),
        }
    }

    fn sampler(&mut self) -> Sampler {
        let ratio = self.number(&["OTEL_TRACES_SAMPLER_ARG"], 0.0, 1.0);
        if ratio > 1.0 {
            self.faults.push(format!("OTEL_TRACES_SAMPLER_ARG: expected a share from 0 to 1, got \"{ratio}\""));
        }
        let (parent_based, root) = self.choice(
            &["OTEL_TRACES_SAMPLER"],
            &[
                ("parentbased_always_on", (true, 0)),
                ("parentbased_always_off", (true, 1)),
                ("parentbased_traceidratio", (true, 2)),
                ("always_on", (false, 0)),
                ("always_off", (false, 1)),
                ("traceidratio", (false, 2)),
            ],
            (true, 0),
        );
        let root = [Sampler::AlwaysOn, Sampler::AlwaysOff, Sampler::TraceIdRatioBased(ratio)][root].clone();
        if parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
    }

    fn propagators(&mut self) -> Vec<Format> {
        let Some((name, value)) = self.text(&["OTEL_PROPAGATORS"]) else {
            return vec![Format::TraceContext, Format::Baggage];
        };
        let mut formats = Vec::new();
        for wanted in value.split(',').map(str::trim).filter(|wanted| !wanted.eq_ignore_ascii_case("none")) {
            match Format::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(wanted)) {
                Some((_, format)) if formats.contains(format) => {}
                Some((_, format)) => formats.push(*format),
                None => {
                    let known: Vec<&str> = Format::ALL.iter().map(|(known, _)| *known).collect();
                    self.faults.push(format!("{name}: expected {} or none, got \"{wanted}\"", known.join(", ")));
                }
            }
        }
        formats
    }

    /// `batch` is the short name of the signal's processor in the variables, `delay` its default in ms.
    fn signal(&mut self, name: &str, is_default: bool, batch: &str, delay: u64) -> Signal {
        let exporters = [("otlp", true), ("none", false)];
        let wanted = self.choice(&[format!("OTEL_{name}_EXPORTER")], &exporters, is_default);
        let of = |end: &str| [format!("OTEL_{batch}_{end}")];
        let queue_items = self.number(&of("MAX_QUEUE_SIZE"), 1, 16_384);
        Signal {
            destination: self.destination(name).filter(|_| wanted),
            limits: Limits {
                queue_items,
                queue_bytes: QUEUE_BYTES,
                // More than fits would never be full (the specification says so too).
                batch_items: self.number(&of("MAX_EXPORT_BATCH_SIZE"), 1, 512).min(queue_items),
                delay: self.millis(&of("SCHEDULE_DELAY"), delay),
                export_timeout: self.millis(&of("EXPORT_TIMEOUT"), 30_000),
                concurrency: CONCURRENCY,
            },
        }
    }

    /// The signal's own variables win over the common ones.
    fn destination(&mut self, signal: &str) -> Option<Destination> {
        let names = |end: &str| [format!("OTEL_EXPORTER_OTLP_{signal}_{end}"), format!("OTEL_EXPORTER_OTLP_{end}")];
        let transports = [("grpc", Transport::Grpc), ("http/protobuf", Transport::Http)];
        let transport = self.choice(&names("PROTOCOL"), &transports, Transport::Http);
        if let (Transport::Grpc, Some(missing)) = (transport, grpc::MISSING) {
            let protocol = names("PROTOCOL");
            let named = self.text(&protocol).map_or("", |(name, _)| name);
            self.faults.push(format!("{named}: {missing}"));
        }
        let headers = match self.text(&names("HEADERS")).map(|(name, value)| (name.to_owned(), pairs(value))) {
            None => Vec::new(),
            Some((_, Ok(headers))) => headers,
            Some((name, Err(()))) => {
                // Not the value: tokens live here.
                self.faults.push(format!("{name}: expected key=value,key=value, percent-encoded"));
                Vec::new()
            }
        };
        let insecure = self.flag(&names("INSECURE"));
        let timeout = self.millis(&names("TIMEOUT"), 10_000);
        let gzip = self.choice(&names("COMPRESSION"), &[("none", false), ("gzip", true)], false);
        let certificate = self.file(&names("CERTIFICATE"));
        let client = match (self.file(&names("CLIENT_CERTIFICATE")), self.file(&names("CLIENT_KEY"))) {
            (Some(shown), Some(key)) => Some((shown, key)),
            (None, None) => None,
            _ => {
                let [_, shown] = names("CLIENT_CERTIFICATE");
                self.faults.push(format!("{shown}: needs {}, and the other way round", names("CLIENT_KEY")[1]));
                None
            }
        };
        // No endpoint, no exporter, no noise: a collector on localhost is nobody's default.
        let names = names("ENDPOINT");
        let (name, endpoint) = self.text(&names)?;
        let mut url = match (endpoint.split_once("://"), transport) {
            (Some(("http" | "https", rest)), _) if !rest.is_empty() => endpoint.to_owned(),
            (None, Transport::Grpc) => format!("{}://{endpoint}", if insecure { "http" } else { "https" }),
            _ => {
                self.faults.push(format!("{name}: expected http://host:port or https://host:port"));
                return None;
            }
        };
        // The common endpoint is a base, the signal's own is the address itself.
        if transport == Transport::Http && name == names[1] {
            url = format!("{}/v1/{}", url.trim_end_matches('/'), signal.to_ascii_lowercase());
        }
        Some(Destination { transport, url, headers, timeout, gzip, certificate, client })
    }

    fn file(&mut self, names: &[impl AsRef<str>]) -> Option<PathBuf> {
        let (name, value) = self.text(names)?;
        match std::fs::File::open(value) {
            Ok(_) => Some(PathBuf::from(value)),
            Err(error) => {
                self.faults.push(format!("{name}: can't read {value}: {error}"));
                None
            }
        }
    }
}
