//! Where the service exports to: a collector that answers OTLP over gRPC and only counts, and a black hole that accepts
//! connections and never says a word.

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

#[derive(Default)]
struct Counts {
    spans: AtomicU64,
    bytes: AtomicU64,
}

/// What has arrived so far.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub spans: u64,
    pub bytes: u64,
}

pub struct Sink {
    pub port: u16,
    counts: Arc<Counts>,
}

impl Sink {
    /// Starts on a thread of its own, for as long as the process lives.
    pub fn start() -> Result<Self, String> {
        let (listener, port) = listen()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built at the start").block_on(serve(listener, shared));
        });
        Ok(Self { port, counts })
    }

    pub fn received(&self) -> Received {
        Received { spans: self.counts.spans.load(Relaxed), bytes: self.counts.bytes.load(Relaxed) }
    }
}

/// Opens the black hole and returns its port.
pub fn black_hole() -> Result<u16, String> {
    let (listener, port) = listen()?;
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            held.push(stream);
        }
    });
    Ok(port)
}

fn listen() -> Result<(TcpListener, u16), String> {
    let opened = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    });
    opened.map_err(|error| format!("no port for the collector: {error}"))
}

async fn serve(listener: TcpListener, counts: Arc<Counts>) {
    listener.set_nonblocking(true).expect("a socket of ours");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a bound, non-blocking socket");
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let counts = Arc::clone(&counts);
        let service = service_fn(move |request| receive(request, Arc::clone(&counts)));
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            let _killed_with_its_service = connection.await;
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let traces = request.uri().path().contains("TraceService");
    let message = request.into_body().collect().await?.to_bytes();
    counts.bytes.fetch_add(message.len() as u64, Relaxed);
    // Five bytes come before the message: whether it is compressed, and its length.
    let spans = message.split_at_checked(5).and_then(|(_, message)| spans(message));
    counts.spans.fetch_add(spans.filter(|_| traces).unwrap_or(0), Relaxed);
    // An empty message, and trailers that say it went well.
    let well = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let message = Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(well))));
    let mut response = Response::new(message);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The spans of an `ExportTraceServiceRequest`, skimmed: `resource_spans` = 1, in it `scope_spans` = 2, in it
/// `spans` = 2. To decode them would take the load's core from it.
pub fn spans(message: &[u8]) -> Option<u64> {
    count(message, &[1, 2, 2])
}

fn count(mut bytes: &[u8], path: &[u64]) -> Option<u64> {
    let (field, deeper) = path.split_first()?;
    let mut found = 0;
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes)?;
        let (length, rest) = match key & 7 {
            0 => (0, varint(rest)?.1),
            1 => (8, rest),
            2 => varint(rest)?,
            5 => (4, rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if key == (field << 3 | 2) {
            found += if deeper.is_empty() { 1 } else { count(value, deeper)? };
        }
        bytes = rest;
    }
    Some(found)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (digits, rest) = bytes.split_at(end);
    Some((digits.iter().rev().fold(0, |value, digit| value << 7 | u64::from(digit & 0x7f)), rest))
}
