//! One connection, from its accept to its end: hyper serves it, and its clock says when it has waited
//! long enough. hyper's own timer would close idle connections with the patience meant for heads (trap 8).

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Poll, ready},
};

use axum::{body::Body, http::Request, response::Response};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};
use tower::Service;

use super::{
    Shared,
    counts::Closed,
    orders::Stage,
    request::answer,
    watch::{Due, Watch},
    watched::Watched,
};

/// Head of a request, as proxies limit it too; beyond it hyper answers 431.
const HEAD_BYTES: usize = 32 << 10;
const HEAD_FIELDS: usize = 64;
/// Of a body, in each direction.
const BUFFER_BYTES: usize = 64 << 10;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How it ended: by HTTP, or cut.
enum End {
    Served(hyper::Result<()>),
    Cut(Closed),
}

pub(super) async fn serve<S>(stream: TcpStream, peer: SocketAddr, service: S, shared: Arc<Shared>)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Answers are written whole; waiting for more to send only delays them.
    let _best_effort = stream.set_nodelay(true);
    let (patience, orders) = (shared.patience, &shared.orders);
    let watch = Arc::new(Watch::new());
    let (requests, watched) = (&watch, Watched::new(stream, Arc::clone(&watch)));
    let mut serving = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(
            TokioIo::new(watched),
            service_fn(move |request| answer(service.clone(), request, peer, requests, orders)),
        );
    let mut hearing = orders.hear();
    let mut drained: Option<Instant> = None;
    let sleep = tokio::time::sleep(patience.idle);
    tokio::pin!(sleep);
    let end = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut serving).poll(cx) {
                return Poll::Ready(End::Served(ended));
            }
            match hearing.poll(cx) {
                Stage::Kill => return Poll::Ready(End::Cut(Closed::Killed)),
                Stage::Drain if drained.is_none() => {
                    drained = Some(Instant::now());
                    // hyper would close a new connection unread, though its request may have come already.
                    if !watch.is_silent() {
                        Pin::new(&mut serving).graceful_shutdown();
                        continue;
                    }
                }
                _ => {}
            }
            let Some((at, due)) = watch.due(&patience, drained) else { return Poll::Pending };
            // The timer is set again only when it went off or is too late: hardly ever for a request.
            if at < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() < at {
                continue;
            }
            match due {
                Due::Probe => watch.ask_probe(),
                Due::Close(closed) => return Poll::Ready(End::Cut(closed)),
            }
        }
    })
    .await;
    match end {
        End::Served(ended) => {
            if drained.is_some() {
                shared.counts.count(Closed::Drain);
            }
            if let Err(error) = ended {
                // Clients break off, time out and talk nonsense all day: worth a look only when debugging.
                tracing::debug!(error = %error, "connection_ended");
            }
        }
        End::Cut(closed) => {
            shared.counts.count(closed);
            let parts = serving.into_parts();
            let stream = &parts.io.inner().stream;
            match closed {
                Closed::HeadTimeout if !parts.read_buf.is_empty() => {
                    let _best_effort = rustix::io::write(stream, TOO_SLOW);
                }
                // The kernel would offer the rest for many minutes, and hold it in memory.
                Closed::WriteTimeout => {
                    let _best_effort = stream.set_zero_linger();
                }
                Closed::Killed => {
                    shared.cut.fetch_add(1, Relaxed);
                }
                _ => {}
            }
        }
    }
}
