//! The accept loop, for all listeners: HTTP/1.1 on hyper with caps on connections, timers for heads,
//! idle time and stalled answers, and a drain with an end. `axum::serve` has none of these (trap 7).

mod connection;
mod counts;
mod descriptors;
mod orders;
mod peers;
mod request;
mod watch;
mod watched;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{body::Body, http::Request, response::Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tower::Service;

pub use self::{counts::Counts, descriptors::descriptors, orders::Stop, peers::client};
use self::{
    counts::{Closed, Open},
    orders::Orders,
    peers::{Peers, admit},
    watch::Patience,
};
use super::forwarded::Proxies;

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections held at once; the next one waits in the kernel's queue.
    pub max_connections: usize,
    /// Connections of one client, an address or an IPv6 /64, beyond which they are closed unread; 0 for no limit.
    pub max_per_peer: usize,
    /// Proxies, which speak for many clients: not subject to `max_per_peer`.
    pub trusted: Proxies,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Between an answer and the first byte of the next request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// Where connections are counted.
    pub counts: Arc<Counts>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_per_peer: 0,
            trusted: Proxies::default(),
            head_timeout: Duration::from_secs(10),
            // Longer than the 60 s of the usual load balancer: it must be the one to close.
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            counts: Arc::default(),
        }
    }
}

/// After a failed accept (no descriptors left): long enough not to spin, short enough not to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_WARNING: Duration = Duration::from_secs(1);
/// What the kernel may hold for us: tokio's backlog.
const BACKLOG: usize = 1024;

/// What the connections of one listener share.
struct Shared {
    patience: Patience,
    counts: Arc<Counts>,
    orders: Orders,
    cut: AtomicUsize,
}

/// Opens a listener; `key` is the setting that names the address.
///
/// # Errors
/// Why not, in words, with the way out.
pub async fn listen(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = key.to_uppercase().replace('.', "__");
        match error.kind() {
            io::ErrorKind::AddrInUse => {
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
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let shared = Arc::new(Shared {
        patience: Patience { head: limits.head_timeout, idle: limits.idle_timeout, write: limits.write_timeout },
        counts: Arc::clone(&limits.counts),
        orders: Orders::default(),
        cut: AtomicUsize::new(0),
    });
    let entrance = Entrance {
        service,
        limits,
        shared: Arc::clone(&shared),
        peers: Peers::default(),
        connections: TaskTracker::new(),
    };
    tokio::select! {
        () = entrance.serve(listener, &stop) => {}
        never = shared.orders.relay(&stop) => match never {},
    }
    shared.cut.load(Relaxed)
}

/// Lets connections in.
struct Entrance<S> {
    service: S,
    limits: Limits,
    shared: Arc<Shared>,
    peers: Peers,
    connections: TaskTracker,
}

impl<S> Entrance<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    async fn serve(&self, listener: TcpListener, stop: &Stop) {
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        tokio::select! {
            () = self.accept(&listener, &places) => {}
            () = stop.drain.cancelled() => {}
            () = stop.kill.cancelled() => {}
        }
        self.empty(listener, &places);
        self.connections.close();
        self.connections.wait().await;
    }

    /// Takes what the kernel has accepted for us already: closing the listener would reset it.
    fn empty(&self, listener: TcpListener, places: &Arc<Semaphore>) {
        // tokio's listener would first wait for news of the kernel.
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..BACKLOG {
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
            let Ok((stream, peer)) = listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.admit(stream, peer, place);
            }
        }
    }

    async fn accept(&self, listener: &TcpListener, places: &Arc<Semaphore>) {
        let (mut warned, mut failed) = (None::<Instant>, 0_u64);
        loop {
            let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer, place),
                // The client has left the queue again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    failed += 1;
                    if warned.is_none_or(|warned| warned.elapsed() >= ACCEPT_WARNING) {
                        tracing::warn!(error = %error, failed, "accept_failed");
                        (warned, failed) = (Some(Instant::now()), 0);
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let most = self.limits.max_per_peer;
        let mut admitted = None;
        if most > 0 && !self.limits.trusted.contain(peer.ip()) {
            admitted = admit(&self.peers, peer.ip(), most);
            if admitted.is_none() {
                self.limits.counts.count(Closed::PeerLimit);
                // A reset leaves nothing behind, neither here nor in the kernel.
                let _best_effort = stream.set_zero_linger();
                return;
            }
        }
        let open = Open::new(&self.limits.counts);
        let connection = connection::serve(stream, peer, self.service.clone(), Arc::clone(&self.shared));
        self.connections.spawn(async move {
            connection.await;
            drop((admitted, open, place));
        });
    }
}
