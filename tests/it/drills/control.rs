//! The one address that a drill talks to: it receives Alertmanager's webhooks, does what `lib.sh` asks for, and is the
//! Prometheus of the runbooks, whose queries it scales as the rules are.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{scale, site::Site};

/// An alert as it came in.
#[derive(Clone, Debug)]
pub struct Notice {
    pub at: Instant,
    pub receiver: String,
    pub alert: String,
    pub severity: String,
    pub firing: bool,
    pub labels: String,
}

/// What came in, and the dead man's switch: it is about silence.
pub struct Received {
    pub notices: Vec<Notice>,
    pub heard: Instant,
}

pub type Inbox = Arc<Mutex<Received>>;

pub fn inbox() -> Inbox {
    Arc::new(Mutex::new(Received { notices: Vec::new(), heard: Instant::now() }))
}

/// An address first: the configurations of others want it before there is a site.
pub async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves until the task is aborted.
pub fn serve(listener: TcpListener, site: Weak<Site>) -> tokio::task::JoinHandle<()> {
    let router = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
        let site = site.clone();
        async move {
            match site.upgrade() {
                Some(site) => answer(&site, &method, &uri, &String::from_utf8_lossy(&body)).await,
                None => (StatusCode::GONE, "the drill is over\n").into_response(),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn answer(site: &Arc<Site>, method: &Method, uri: &Uri, body: &str) -> Response {
    let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let done = match segments[..] {
        ["webhook", receiver] => {
            receive(&site.inbox, receiver, body);
            Ok(String::new())
        }
        ["prometheus", ..] => return forward(site, method, uri, body).await,
        ["part", "start", name] => site.start_part(name).await,
        ["part", "stop", name] => site.stop_part(name).await,
        ["part", "kill", name] => site.with_part(name, |part| part.kill()),
        ["part", "restart", name] => match site.stop_part(name).await {
            Ok(_) => site.start_part(name).await,
            refused => refused,
        },
        ["pids", name] => site.pids(name),
        ["signal", signal, name] => site.pids(name).map(|pids| {
            super::part::signal(signal, &pids);
            String::new()
        }),
        ["proxy", name, mode] => site.proxy(name, mode, 0),
        ["proxy", name, mode, ms] => match ms.parse() {
            Ok(ms) => site.proxy(name, mode, ms),
            Err(_) => Err(format!("proxy {name} {mode}: {ms} is no number of milliseconds")),
        },
        ["flood"] => site.floods.start(body),
        ["unflood"] => {
            site.floods.stop();
            Ok(String::new())
        }
        _ => Err(format!("the runner knows nothing of {}", uri.path())),
    };
    match done {
        Ok(text) => text.into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}

fn receive(inbox: &Inbox, receiver: &str, body: &str) {
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let at = Instant::now();
    let mut inbox = inbox.lock();
    for alert in message["alerts"].as_array().into_iter().flatten() {
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        if label("alertname") == "Watchdog" {
            inbox.heard = at;
            continue;
        }
        let firing = alert["status"] == "firing";
        let notice = Notice {
            at,
            receiver: receiver.to_owned(),
            alert: label("alertname"),
            severity: label("severity"),
            firing,
            labels: alert["labels"].to_string(),
        };
        // Notifications are repeated, with all alerts of the group.
        let known =
            inbox.notices.iter().rev().find(|known| known.labels == notice.labels && known.receiver == receiver);
        if known.is_none_or(|known| known.firing != firing) {
            inbox.notices.push(notice);
        }
    }
}

/// To the real one, with scaled durations in what is asked.
async fn forward(site: &Site, method: &Method, uri: &Uri, body: &str) -> Response {
    let scaled = |form: &str| {
        let pair = |pair: &str| match pair.split_once('=') {
            Some(("query", query)) => {
                let query = percent_decode_str(&query.replace('+', " ")).decode_utf8_lossy().into_owned();
                let query = scale::expression(&query);
                format!("query={}", percent_encoding::utf8_percent_encode(&query, percent_encoding::NON_ALPHANUMERIC))
            }
            _ => pair.to_owned(),
        };
        form.split('&').map(pair).collect::<Vec<_>>().join("&")
    };
    let path = uri.path().trim_start_matches("/prometheus");
    let query = uri.query().map(|query| format!("?{}", scaled(query))).unwrap_or_default();
    let request = site
        .prometheus
        .request(method.clone(), &format!("{path}{query}"), "")
        .header("content-type", "application/x-www-form-urlencoded")
        .timeout(Duration::from_secs(9))
        .body(scaled(body));
    match request.send().await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
            (status, answer.text().await.unwrap_or_default()).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("Prometheus does not answer: {error}\n")).into_response(),
    }
}
