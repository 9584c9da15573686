//! Where telemetry goes: the OTLP collector by an export without content, Sentry by asking its server
//! for nothing in particular. And why a connection can't be made, in words.

use std::{collections::BTreeMap, io};

use super::{Bounds, Finding};
use crate::platform::telemetry::{
    otlp::{
        Settings,
        settings::{Destination, Transport},
        transport,
    },
    sentry::SentryConfig,
};

/// What is wrong, empty when the system's own words say it best, and the way out; `{url}` stands for the
/// name of the setting.
pub fn io(kind: io::ErrorKind, said: &str) -> (&'static str, &'static str) {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    match kind {
        // No kind of its own, so by the words of the resolver.
        _ if said.contains("lookup address") => {
            ("no such host", "correct the host in {url}, or mend the DNS of this machine")
        }
        ConnectionRefused => ("refused: nothing listens there", "start it, or correct host and port in {url}"),
        NotFound => ("no such file", "correct the path of socket or certificate in {url}"),
        UnexpectedEof | ConnectionReset | BrokenPipe => (
            "it closed the connection without an answer",
            "look at its log; does {url} name the right service, with or without TLS as it wants?",
        ),
        _ => ("", "look at routes and firewalls between here and there, and at {url}"),
    }
}

pub async fn otlp(variables: &BTreeMap<String, String>, bounds: &Bounds) -> Vec<Finding> {
    const TRACES: &str = "otlp.traces";
    const LOGS: &str = "otlp.logs";
    let Ok(settings) = Settings::parse(variables) else { return Vec::new() };
    if settings.disabled {
        return [TRACES, LOGS].map(|check| Finding::skip(check, "OTEL_SDK_DISABLED")).to_vec();
    }
    let traces = async {
        let Some(to) = settings.traces.destination else {
            return Finding::skip(TRACES, "no OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=none");
        };
        let to = hurried(to, bounds);
        collector(TRACES, &to, transport::try_spans(&to), bounds).await
    };
    let logs = async {
        let Some(to) = settings.logs.destination else {
            return Finding::skip(LOGS, "no OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_LOGS_EXPORTER is not otlp");
        };
        let to = hurried(to, bounds);
        collector(LOGS, &to, transport::try_logs(&to), bounds).await
    };
    let (traces, logs) = tokio::join!(traces, logs);
    vec![traces, logs]
}

/// The exporter tries again until its time is up, and only then says why: that must be before ours is.
fn hurried(to: Destination, bounds: &Bounds) -> Destination {
    Destination { timeout: to.timeout.min(bounds.timeout * 3 / 4), ..to }
}

async fn collector(
    check: &'static str,
    to: &Destination,
    export: impl Future<Output = Result<(), String>>,
    bounds: &Bounds,
) -> Finding {
    let protocol = match to.transport {
        Transport::Http => "http/protobuf",
        Transport::Grpc => "grpc",
    };
    let (place, reached) = reach(&to.url);
    let who = format!("{place} by {protocol}");
    let (exported, reached) = tokio::join!(bounds.within(export), bounds.within(reached));
    if matches!(exported, Some(Ok(()))) {
        return Finding::ok(check, format!("{who}: took an export without content"));
    }
    let (what, mend) = match (reached, exported) {
        (Some(Err(error)), _) => refused(&error, bounds),
        (None, _) => (
            format!("no connection within {}", bounds.seconds()),
            "look for a firewall that drops packets; correct {url}".to_owned(),
        ),
        (_, Some(Err(error))) => (
            bounds.quote(error),
            "it answers TCP: correct port and OTEL_EXPORTER_OTLP_PROTOCOL (4318 http/protobuf, 4317 grpc), path, \
             _HEADERS and _CERTIFICATE; look at the collector's log"
                .to_owned(),
        ),
        _ => (
            format!("takes connections and does not answer within {}", bounds.seconds()),
            "look at the collector's log and load; is it another service's port?".to_owned(),
        ),
    };
    Finding::fail(check, format!("{who}: {what}"), mend.replace("{url}", "OTEL_EXPORTER_OTLP_ENDPOINT"))
}

fn refused(error: &io::Error, bounds: &Bounds) -> (String, String) {
    let (what, mend) = io(error.kind(), &error.to_string());
    (if what.is_empty() { bounds.quote(error) } else { what.to_owned() }, mend.to_owned())
}

/// `host:port` of a URL, without anything else of it, and the connection to there.
fn reach(url: &str) -> (String, impl Future<Output = io::Result<()>>) {
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default().to_owned();
    let port = url.as_ref().and_then(reqwest::Url::port_or_known_default).unwrap_or_default();
    let place = format!("{host}:{port}");
    let address = place.clone();
    (place, async move { tokio::net::TcpStream::connect(address).await.map(drop) })
}

pub async fn sentry(config: &SentryConfig, bounds: &Bounds) -> Vec<Finding> {
    const CHECK: &str = "sentry";
    if config.dsn.is_none() {
        return vec![Finding::skip(CHECK, "no SENTRY_DSN")];
    }
    // `servable` has said so already.
    let Some(server) = config.server() else { return Vec::new() };
    let asked = async {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let request = client.map_err(|error| error.to_string())?.get(&server);
        #[expect(clippy::disallowed_methods, reason = "a check is no call of a request: no span, no ids, bounded here")]
        let answer = request.send().await;
        answer.map(|answer| answer.status().as_u16()).map_err(|error| sources(&error))
    };
    let (place, reached) = reach(&server);
    let (answered, reached) = tokio::join!(bounds.within(asked), bounds.within(reached));
    let (what, mend) = match (answered, reached) {
        (Some(Ok(status)), _) if status < 500 => {
            let tested = "whether it takes events with this key is not tested";
            return vec![Finding::ok(CHECK, format!("{server} answers; {tested}"))];
        }
        (Some(Ok(status)), _) => {
            let mend = "look at the server's health, or at the proxy in between";
            return vec![Finding::warn(CHECK, format!("{server} answers {status}"), mend)];
        }
        (_, Some(Err(error))) => refused(&error, bounds),
        (Some(Err(error)), _) => {
            (bounds.quote(error), "it answers TCP: correct scheme and port in {url}, or its certificate".to_owned())
        }
        (None, _) => (
            format!("no answer within {}", bounds.seconds()),
            "allow the way out to it in firewall or proxy (HTTPS_PROXY), or correct {url}".to_owned(),
        ),
    };
    vec![Finding::fail(CHECK, format!("{place}: {what}"), mend.replace("{url}", "SENTRY_DSN"))]
}

/// An error with its causes: the first of reqwest says no more than that there is one.
fn sources(error: &reqwest::Error) -> String {
    let mut text = "the request failed".to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
