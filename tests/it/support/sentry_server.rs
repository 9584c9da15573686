//! A Sentry for tests, which keeps the envelopes it is sent, and under it the port that misbehaves
//! when told to. The OTLP collector stands on the same kind of port.

use std::{
    io::Read as _, net::SocketAddr, ops::Deref, os::fd::AsFd as _, sync::Arc, thread::JoinHandle, time::Duration,
};

use axum::{
    body::Bytes,
    http::{Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tokio_rustls::TlsAcceptor;

/// What a port does with a request, once it has read it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Behaviour {
    #[default]
    Answer,
    /// Keeps what comes, and answers so much later.
    Slow(Duration),
    /// Keeps nothing and answers with this status; over gRPC with UNAVAILABLE.
    Refuse(u16),
    /// Refuses with 429, to be asked again after so many seconds.
    TooMany(u64),
    /// Keeps nothing and resets the connection in place of an answer.
    Reset,
    /// Keeps nothing and never answers, a new connection not even with a handshake. What waits is
    /// cut off at the next change: nothing late is ever kept.
    Silent,
}

/// A request, read to its end.
pub struct Arrival {
    pub parts: Parts,
    pub body: Bytes,
    pub client_certificate: bool,
    pub behaviour: Behaviour,
}

impl Arrival {
    pub fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether its content counts as delivered.
    pub fn kept(&self) -> bool {
        matches!(self.behaviour, Behaviour::Answer | Behaviour::Slow(_))
    }

    /// The refusal, where refusing is the behaviour.
    pub fn refusal(&self) -> Option<Response> {
        match self.behaviour {
            Behaviour::Refuse(status) => Some(StatusCode::from_u16(status).unwrap().into_response()),
            Behaviour::TooMany(seconds) => {
                // No category between the colons: all of them.
                let limits = format!("{seconds}::organization");
                let headers = [("retry-after", seconds.to_string()), ("x-sentry-rate-limits", limits)];
                Some((StatusCode::TOO_MANY_REQUESTS, headers).into_response())
            }
            _ => None,
        }
    }

    /// The body without its content encoding.
    pub fn content(&self) -> Result<Bytes, String> {
        match self.header("content-encoding") {
            "" | "identity" => Ok(self.body.clone()),
            "gzip" => unzip(&self.body),
            other => Err(format!("content encoding {other}")),
        }
    }
}

pub fn unzip(bytes: &[u8]) -> Result<Bytes, String> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).map_err(|error| format!("gzip: {error}"))?;
    Ok(plain.into())
}

/// An HTTP server on a loopback port, on a thread and a runtime of its own: tests come and go with theirs.
pub struct Port {
    pub address: SocketAddr,
    /// `None`: stopped.
    behaviour: watch::Sender<Option<Behaviour>>,
    connections: Arc<Mutex<usize>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Port {
    pub fn start(tls: Option<ServerConfig>, receive: impl Fn(Arrival) -> Response + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (behaviour, mut state) = watch::channel(Some(Behaviour::Answer));
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let site = Site { receive: Arc::new(receive), state: state.clone(), tls };
        let connections = Arc::new(Mutex::new(0));
        let accepted = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // Its end drops the runtime, and with it the listener and all connections.
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let stream = tokio::select! {
                        stream = listener.accept() => stream,
                        _ = state.wait_for(Option::is_none) => return,
                    };
                    // Some clients are gone before they are accepted.
                    let Ok((stream, _)) = stream else { continue };
                    *accepted.lock() += 1;
                    tokio::spawn(site.clone().connection(stream));
                }
            });
        });
        Self { address, behaviour, connections, thread: Mutex::new(Some(thread)) }
    }

    /// For all requests that are read to their end from now on.
    pub fn set(&self, behaviour: Behaviour) {
        assert!(self.thread.lock().is_some(), "a stopped port stays stopped");
        self.behaviour.send_replace(Some(behaviour));
    }

    /// How many connections it has accepted: all there is to see of one that meets silence.
    pub fn connections(&self) -> usize {
        *self.connections.lock()
    }

    /// On return the port refuses connections.
    pub fn stop(&self) {
        self.behaviour.send_replace(None);
        if let Some(thread) = self.thread.lock().take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What each connection knows.
#[derive(Clone)]
struct Site {
    receive: Arc<dyn Fn(Arrival) -> Response + Send + Sync>,
    state: watch::Receiver<Option<Behaviour>>,
    tls: Option<TlsAcceptor>,
}

impl Site {
    async fn connection(self, stream: TcpStream) {
        if *self.state.borrow() == Some(Behaviour::Silent) {
            self.end_of_silence().await;
            return;
        }
        // A second descriptor of the socket: the first is gone with the connection, and the way in
        // which the last one is closed is what the client sees.
        let twin = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned().unwrap());
        let cut = match self.tls.clone() {
            None => self.http(stream, false).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => {
                    let certificate = stream.get_ref().1.peer_certificates().is_some();
                    self.http(stream, certificate).await
                }
                Err(_) => false,
            },
        };
        if cut {
            TcpStream::from_std(twin).unwrap().set_zero_linger().unwrap();
        }
    }

    async fn end_of_silence(&self) {
        let mut state = self.state.clone();
        let _stopped = state.wait_for(|state| *state != Some(Behaviour::Silent)).await;
    }

    /// Whether the connection is to be reset.
    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        client_certificate: bool,
    ) -> bool {
        let cut = Arc::new(Notify::new());
        let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let (site, cut) = (self.clone(), Arc::clone(&cut));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let behaviour = site.state.borrow().unwrap_or_default();
                let answer = (site.receive)(Arrival { parts, body, client_certificate, behaviour });
                match behaviour {
                    Behaviour::Slow(delay) => tokio::time::sleep(delay).await,
                    Behaviour::Reset | Behaviour::Silent => {
                        site.end_of_silence().await;
                        cut.notify_one();
                        // An error would be answered, over HTTP/2 with a reset of the stream only.
                        std::future::pending::<()>().await;
                    }
                    _ => {}
                }
                Ok::<_, hyper::Error>(answer)
            }
        });
        let server = auto::Builder::new(TokioExecutor::new());
        tokio::select! {
            _client_left = server.serve_connection(TokioIo::new(stream), service) => false,
            () = cut.notified() => true,
        }
    }
}

/// The key of the project in the DSN.
const KEY: &str = "0123456789abcdef0123456789abcdef";
const PATH: &str = "/api/42/envelope/";

#[derive(Default)]
struct Store {
    events: Vec<Value>,
    raw: Vec<u8>,
    requests: usize,
    auths: Vec<String>,
    faults: Vec<String>,
}

/// The ingest of Sentry on a port of its own.
pub struct SentryServer {
    port: Port,
    store: Arc<Mutex<Store>>,
}

impl Deref for SentryServer {
    type Target = Port;

    fn deref(&self) -> &Port {
        &self.port
    }
}

impl SentryServer {
    pub fn start() -> Self {
        let store: Arc<Mutex<Store>> = Arc::default();
        let kept = Arc::clone(&store);
        let port = Port::start(None, move |arrival| kept.lock().take(&arrival));
        Self { port, store }
    }

    pub fn dsn(&self) -> String {
        format!("http://{KEY}@{}/42", self.port.address)
    }

    /// The `event` items that were accepted.
    pub fn events(&self) -> Vec<Value> {
        self.store.lock().events.clone()
    }

    /// All that was received, accepted or not: request lines, headers, bodies without their encoding.
    pub fn raw(&self) -> Vec<u8> {
        self.store.lock().raw.clone()
    }

    /// How many requests arrived, accepted or not.
    pub fn requests(&self) -> usize {
        self.store.lock().requests
    }

    /// The `X-Sentry-Auth` header of each request.
    pub fn auths(&self) -> Vec<String> {
        self.store.lock().auths.clone()
    }

    /// What a real Sentry would not have understood.
    pub fn faults(&self) -> Vec<String> {
        self.store.lock().faults.clone()
    }
}

impl Store {
    fn take(&mut self, arrival: &Arrival) -> Response {
        let content = arrival.content();
        self.requests += 1;
        self.auths.push(arrival.header("x-sentry-auth").to_owned());
        self.raw.extend_from_slice(format!("{} {}\n", arrival.parts.method, arrival.parts.uri).as_bytes());
        for (name, value) in &arrival.parts.headers {
            self.raw.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
        self.raw.extend_from_slice(&[b"\n", content.as_ref().unwrap_or(&arrival.body).as_ref(), b"\n"].concat());
        let events = content.and_then(|content| events(arrival, &content));
        self.faults.extend(events.as_ref().err().cloned());
        if let Some(refusal) = arrival.refusal() {
            return refusal;
        }
        let Ok(events) = events else { return StatusCode::BAD_REQUEST.into_response() };
        let id = events.first().map(|event| event["event_id"].clone()).unwrap_or_default();
        if arrival.kept() {
            self.events.extend(events);
        }
        ([(header::CONTENT_TYPE, "application/json")], json!({ "id": id }).to_string()).into_response()
    }
}

/// The `event` items of an envelope.
fn events(arrival: &Arrival, content: &[u8]) -> Result<Vec<Value>, String> {
    let (method, path) = (&arrival.parts.method, arrival.parts.uri.path());
    if method != Method::POST || path != PATH {
        return Err(format!("{method} {path} is not the ingest"));
    }
    let auth = arrival.header("x-sentry-auth");
    if !auth.starts_with("Sentry ") || !auth.contains(&format!("sentry_key={KEY}")) {
        return Err(format!("X-Sentry-Auth: {auth:?}"));
    }
    let parsed = |what: &str, json: &[u8]| -> Result<Value, String> {
        serde_json::from_slice(json).map_err(|error| format!("{what}: {error}: {}", String::from_utf8_lossy(json)))
    };
    let (first, mut rest) = line(content);
    parsed("envelope header", first)?;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = line(rest);
        // Envelopes may end with empty lines.
        if head.is_empty() {
            rest = tail;
            continue;
        }
        let head = parsed("item header", head)?;
        let payload;
        (payload, rest) = match head["length"].as_u64() {
            None => line(tail),
            Some(length) => {
                let length = usize::try_from(length).unwrap();
                let (payload, tail) = tail.split_at_checked(length).ok_or(format!("{length} bytes are not there"))?;
                match tail {
                    [] => (payload, tail),
                    [b'\n', tail @ ..] => (payload, tail),
                    _ => return Err(format!("the item goes on after {length} bytes")),
                }
            }
        };
        match head["type"].as_str() {
            Some("event") => events.push(parsed("event", payload)?),
            Some(_) => {}
            None => return Err(format!("an item without a type: {head}")),
        }
    }
    Ok(events)
}

/// Up to the next line break, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
