//! The accept loop, for both listeners: HTTP/1.1 on hyper with a cap on connections, a limit on
//! the head and on idle time, and a drain with an end. `axum::serve` has none of these (trap 7).

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::Request,
    response::Response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt as _};

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_connections: usize,
    pub head_timeout: Duration,
}

/// Head of a request: 64 KiB in all, 100 fields.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_FIELDS: usize = 100;
/// After a failed accept (no descriptors left): long enough not to spin, short enough not to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection without a request for so long is closed at the drain.
const QUIET: Duration = Duration::from_millis(500);

/// How a listener is told to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Stop accepting; connections finish the request they have.
    pub drain: CancellationToken,
    /// Drop the connections that are left.
    pub kill: CancellationToken,
}

/// Opens a listener; `key` is the setting that names the address.
///
/// # Errors
/// Why not, in words, with the way out.
pub async fn listen(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = key.to_uppercase().replace('.', "__");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{key}: {address} is taken by another process; stop it, or set APP__{variable} to another port")
            }
            _ => format!("{key}: can't listen on {address}: {error}"),
        }
    })
}

/// Serves until told to drain, then until the last connection has ended or `kill` comes.
/// Returns the number of connections that were cut.
pub async fn run<S>(listener: TcpListener, service: S, limits: Limits, stop: Stop) -> usize
where
    S: Service<Request<Body>, Response = Response, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = stop.drain.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "accept_failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.drain.cancelled() => break,
        };
        let connection = connection(stream, peer, service.clone(), limits.head_timeout, stop.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    let mut cut = 0;
    tokio::select! {
        () = connections.wait() => {}
        () = stop.kill.cancelled() => {
            cut = connections.len();
            connections.wait().await;
        }
    }
    cut
}

async fn connection<S>(stream: TcpStream, peer: SocketAddr, service: S, head_timeout: Duration, stop: Stop)
where
    S: Service<Request<Body>, Response = Response, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Answers are written whole; waiting for more to send only delays them.
    let _best_effort = stream.set_nodelay(true);
    let busy = Busy::default();
    let requests = busy.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let (work, held) = (service.clone().oneshot(request), requests.begin());
        async move { work.await.map(|response| response.map(|body| Body::new(HeldBody { body, _held: held }))) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.kill.cancelled() => return,
        () = stop.drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                // hyper closes what is idle; half a head it would wait for.
                () = busy.idle() => return,
                () = stop.kill.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        // Clients break off, time out and talk nonsense all day: worth a look only when debugging.
        tracing::debug!(error = %error, "connection_ended");
    }
}

/// Requests of one connection that are at work, from their head to the end of their answer.
#[derive(Clone, Default)]
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn begin(&self) -> Held {
        self.0.fetch_add(1, Relaxed);
        Held(self.clone())
    }

    /// Ends when there has been no request for a moment: long enough to write out the last answer.
    async fn idle(&self) {
        let mut quiet = 0;
        while quiet < 10 {
            tokio::time::sleep(QUIET / 10).await;
            quiet = if self.0.load(Relaxed) == 0 { quiet + 1 } else { 0 };
        }
    }
}

/// Counts as a request until dropped.
struct Held(Busy);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// An answer that is at work until its last byte is taken.
struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
