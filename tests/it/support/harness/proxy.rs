//! A TCP proxy that spoils the network on command: before Postgres, Redis, a collector, Sentry or a
//! provider. It knows no protocol. For many servers behind one address see `balancer`.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as RawListener},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pump::{Pump, Stop};

pub const CHUNK: usize = 16 * 1024;
/// After the first bytes of an answer, how long the rest is waited for before the cut: a reset
/// throws away what the upstream has not read yet.
const QUIET: Duration = Duration::from_millis(30);

/// What happens to bytes and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Each chunk and each end of a stream arrives this much later, in both directions.
    Delay(Duration),
    /// Bytes per second, of each direction of each connection.
    Throttle(u64),
    /// Nobody listens; the connections are reset.
    Refuse,
    /// The connections are reset; new ones are accepted and reset.
    Reset,
    /// Everything is accepted, nothing is forwarded, nothing is closed. What was sent arrives later,
    /// should another mode follow.
    BlackHole,
    /// The connections of now are silent as long as the proxy lives, whatever follows, also resets;
    /// new ones pass.
    BlackHoleOld,
    /// The first connection whose client sends these bytes (ASCII case is ignored) is reset on both
    /// sides when the upstream has answered them, without the answer. Then the mode is `Pass`.
    CutOn(Vec<u8>),
    /// Requests arrive, answers do not.
    Swallow,
}

/// What a connection has to know.
#[derive(Clone)]
pub struct State {
    pub mode: Mode,
    /// Connections with lower numbers are silent for good.
    silent_below: u64,
    /// Connections with lower numbers are to be reset. A mode alone could be missed when two follow
    /// each other at once.
    reset_below: u64,
}

impl State {
    pub fn silent(&self, number: u64) -> bool {
        number < self.silent_below || self.mode == Mode::BlackHole
    }

    fn resets(&self, number: u64) -> bool {
        (self.silent_below..self.reset_below).contains(&number)
    }
}

/// A running proxy; its connections end with it.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        // Bound and never listening: the port stays ours while connects are refused.
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = reserved.local_addr().unwrap();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream,
            _reserved: reserved,
            listener: Mutex::new(Some(Listener::open(address))),
            state: watch::Sender::new(State { mode: Mode::Pass, silent_below: 0, reset_below: 0 }),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            cuts: AtomicU64::new(0),
            uncollected_cuts: Semaphore::new(0),
            runtime: Handle::current(),
            stop: stop.clone(),
        });
        tokio::spawn(Arc::clone(&shared).accept());
        Self { address, shared, _stop: stop.drop_guard() }
    }

    /// `url` with the proxy as its host and port.
    pub fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let user = authority.rfind('@').map_or("", |at| &authority[..=at]);
        format!("{scheme}://{user}{}{path}", self.address)
    }

    /// Changes the mode for the connections there are and those to come. What is connected, sent or
    /// answered after it returned meets the new mode.
    pub fn set(&self, mode: Mode) {
        assert!(mode != Mode::CutOn(Vec::new()), "nothing to cut on");
        let _context = self.shared.runtime.enter();
        let mut listener = self.shared.listener.lock();
        self.shared.admit_waiting(listener.as_ref());
        let next = self.shared.accepted.load(SeqCst);
        let refuse = mode == Mode::Refuse;
        // Closed first: none may be admitted between the modes.
        if refuse {
            *listener = None;
        } else if listener.is_none() {
            *listener = Some(Listener::open(self.address));
        }
        self.shared.state.send_modify(|state| {
            match mode {
                Mode::Refuse | Mode::Reset => state.reset_below = next,
                Mode::BlackHoleOld => state.silent_below = next,
                _ => {}
            }
            state.mode = mode;
        });
    }

    pub fn mode(&self) -> Mode {
        self.shared.state.borrow().mode.clone()
    }

    /// Connections accepted so far, with those the kernel accepted.
    pub fn connections(&self) -> u64 {
        let _context = self.shared.runtime.enter();
        self.shared.admit_waiting(self.shared.listener.lock().as_ref());
        self.shared.accepted.load(SeqCst)
    }

    /// Connections that have not ended.
    pub fn open(&self) -> usize {
        self.connections();
        self.shared.open.load(SeqCst)
    }

    /// Waits for a cut of [`Mode::CutOn`] to be done. Each cut ends one call, also one made later.
    pub async fn cut(&self) {
        self.shared.uncollected_cuts.acquire().await.unwrap().forget();
    }

    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not when the accepting task gets to it: connects are refused from now on.
        *self.shared.listener.lock() = None;
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// The same socket twice: to wait on, and to ask at once.
struct Listener {
    waiting: TcpListener,
    raw: RawListener,
}

impl Listener {
    fn open(address: SocketAddr) -> Self {
        let raw = bind(address).listen(1024).unwrap().into_std().unwrap();
        Self { waiting: TcpListener::from_std(raw.try_clone().unwrap()).unwrap(), raw }
    }
}

struct Shared {
    upstream: SocketAddr,
    _reserved: TcpSocket,
    listener: Mutex<Option<Listener>>,
    state: watch::Sender<State>,
    accepted: AtomicU64,
    open: AtomicUsize,
    cuts: AtomicU64,
    uncollected_cuts: Semaphore,
    runtime: Handle,
    stop: CancellationToken,
}

/// How a connection ended.
enum End {
    Closed,
    Broken,
    Cut,
}

impl Shared {
    async fn accept(self: Arc<Self>) {
        let mut state = self.state.subscribe();
        loop {
            // Numbered under the lock, so that `set` knows which connections came before it.
            let accepting = std::future::poll_fn(|context| {
                let listener = self.listener.lock();
                let Some(open) = &*listener else { return std::task::Poll::Pending };
                open.waiting.poll_accept(context).map(|accepted| accepted.map(|(stream, _)| self.admit(stream)))
            });
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = state.changed() => {}
                _aborted_before_accepted = accepting => {}
            }
        }
    }

    /// Takes what the kernel has accepted and the task has not yet.
    fn admit_waiting(self: &Arc<Self>, listener: Option<&Listener>) {
        while let Some(Ok((stream, _))) = listener.map(|listener| listener.raw.accept()) {
            stream.set_nonblocking(true).unwrap();
            self.admit(TcpStream::from_std(stream).unwrap());
        }
    }

    fn admit(self: &Arc<Self>, client: TcpStream) {
        let number = self.accepted.fetch_add(1, SeqCst);
        if self.state.borrow().mode == Mode::Reset {
            client.set_zero_linger().unwrap();
        } else {
            let open = Open::new(self);
            tokio::spawn(async move { open.0.serve(number, client).await });
        }
    }

    async fn serve(&self, number: u64, mut client: TcpStream) {
        let (mut upstream, mut state) = (None, self.state.subscribe());
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Closed,
            _ = state.wait_for(|state| state.resets(number)) => End::Broken,
            end = self.relay(number, &mut client, &mut upstream) => end,
        };
        if !matches!(end, End::Closed) {
            // Fails only for a socket that is gone already.
            let _ = upstream.as_ref().map_or(Ok(()), TcpStream::set_zero_linger);
            let _ = client.set_zero_linger();
        }
        drop((client, upstream));
        if matches!(end, End::Cut) {
            self.cuts.fetch_add(1, SeqCst);
            self.uncollected_cuts.add_permits(1);
        }
    }

    async fn relay(&self, number: u64, client: &mut TcpStream, upstream: &mut Option<TcpStream>) -> End {
        let state = || self.state.subscribe();
        let _sender_lives = state().wait_for(|state| !state.silent(number)).await.is_ok();
        let Ok(connected) = TcpStream::connect(self.upstream).await else { return End::Broken };
        let upstream = upstream.insert(connected);
        for stream in [&*client, &*upstream] {
            let _ = stream.set_nodelay(true);
        }
        let ((from_client, to_client), (from_upstream, to_upstream)) = (client.split(), upstream.split());
        let up = Pump::new(&self.state, number, true, from_client, to_upstream);
        let down = Pump::new(&self.state, number, false, from_upstream, to_client);
        match tokio::try_join!(up.run(), down.run()) {
            Ok(_) => End::Closed,
            Err(Stop::Broken) => End::Broken,
            Err(Stop::Matched(last)) => {
                let mut answer = vec![0; CHUNK];
                if upstream.write_all(&last).await.is_ok() && upstream.read(&mut answer).await.is_ok_and(|n| n > 0) {
                    let rest = async { while upstream.read(&mut answer).await.is_ok_and(|n| n > 0) {} };
                    let _still_sending = timeout(QUIET, rest).await.is_err();
                }
                End::Cut
            }
        }
    }
}

/// Counts a connection while it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}
