//! The accept loop on real sockets: every timer, cap and stage of the end, and what hyper makes of
//! requests that two parsers could read in two ways.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    http::StatusCode,
    routing::{get, post},
};
use keel::platform::http::{
    forwarded::Proxies,
    server::{self, Counts, Limits, Stop},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(30);
/// On a busy machine nothing is on time; what must happen happens within this.
const SOON: Duration = Duration::from_secs(5);

fn limits() -> Limits {
    Limits { head_timeout: LONG, idle_timeout: LONG, write_timeout: LONG, ..Limits::default() }
}

/// Requests that handlers have seen, and the slow ones that have begun.
type Seen = Arc<AtomicUsize>;

struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    stop: Stop,
    seen: Seen,
    run: JoinHandle<usize>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let seen = Seen::default();
        let count = axum::middleware::from_fn_with_state(
            Arc::clone(&seen),
            async |State(seen): State<Seen>, request: axum::extract::Request, next: axum::middleware::Next| {
                seen.fetch_add(1, SeqCst);
                next.run(request).await
            },
        );
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()))
            .route("/slow", get(async || tokio::time::sleep(SHORT * 3).await))
            .route("/large", get(async || vec![b'#'; LARGE]))
            .route("/stream", get(async || Body::from_stream(chunks())))
            .route("/echo", post(async |body: Bytes| body))
            .route("/refuse", post(async || StatusCode::FORBIDDEN))
            .route("/panic", get(async || -> () { panic!("on purpose") }))
            .layer(count);
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), "http.bind").await.unwrap();
        let (address, counts, stop) = (listener.local_addr().unwrap(), Arc::clone(&limits.counts), Stop::default());
        #[expect(clippy::disallowed_methods, reason = "no request to lose")]
        let run = tokio::spawn(server::run(listener, router, limits, stop.clone()));
        Self { address, counts, stop, seen, run }
    }

    async fn connect(&self) -> Client {
        Client::over(TcpSocket::new_v4().unwrap(), self.address).await
    }

    async fn connect_from(&self, source: &str) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        Client::over(socket, self.address).await
    }

    /// A client whose kernel takes little ahead.
    async fn connect_narrow(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        Client::over(socket, self.address).await
    }

    /// The reasons for which connections were closed so far.
    async fn closed(&self, expected: &[(&str, u64)]) {
        let closed = || -> Vec<_> { self.counts.closed().into_iter().filter(|(_, count)| *count > 0).collect() };
        eventually(&format!("closed {expected:?}, but {:?}", self.counts), || closed() == expected).await;
    }

    async fn open(&self, expected: u64) {
        eventually(&format!("{expected} open"), || self.counts.open.load(SeqCst) == expected).await;
    }

    async fn seen(&self, expected: usize) {
        eventually(&format!("{expected} requests"), || self.seen.load(SeqCst) == expected).await;
    }

    async fn drained(self) -> usize {
        self.stop.drain.cancel();
        tokio::time::timeout(SOON, self.run).await.expect("drained in time").unwrap()
    }
}

const LARGE: usize = 8 << 20;

fn chunks() -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures_util::stream::iter((0..LARGE / 65_536).map(|_| Ok(Bytes::from(vec![b'#'; 65_536]))))
}

fn head_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Client(TcpStream);

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

impl Client {
    async fn over(socket: TcpSocket, address: SocketAddr) -> Self {
        let stream = tokio::time::timeout(SOON, socket.connect(address)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        self.answer().await
    }

    /// One answer with a length, and no byte more.
    async fn answer(&mut self) -> Answer {
        let answer = tokio::time::timeout(SOON, async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.0.read_exact(&mut body).await.unwrap();
            Answer { status: head[9..12].parse().unwrap(), head, body: String::from_utf8(body).unwrap() }
        });
        answer.await.expect("an answer in time")
    }

    /// Everything until the connection ends, in whatever way, and how long that took.
    async fn rest(&mut self) -> (String, Duration) {
        let (started, mut bytes) = (Instant::now(), Vec::new());
        let _reset_is_an_end_too =
            tokio::time::timeout(SOON, self.0.read_to_end(&mut bytes)).await.expect("closed in time");
        (String::from_utf8_lossy(&bytes).into_owned(), started.elapsed())
    }

    async fn is_open(&mut self) -> bool {
        self.get("/").await.status == 200
    }
}

#[tokio::test]
async fn a_head_that_drips_is_closed_in_time_with_408() {
    let server = Server::start(Limits { head_timeout: SHORT, ..limits() }).await;
    for before in [0, 2] {
        let mut client = server.connect().await;
        for _ in 0..before {
            assert_eq!(client.get("/").await.status, 200);
        }
        client.send("GET / HTTP/1.1\r\nX: ").await;
        let started = Instant::now();
        let (mut read, mut write) = client.0.into_split();
        let drip = async {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 20).await;
            }
            std::future::pending::<()>().await;
        };
        let mut bytes = Vec::new();
        tokio::select! {
            _ = tokio::time::timeout(SOON, read.read_to_end(&mut bytes)) => {}
            () = drip => {}
        }
        let answer = String::from_utf8(bytes).unwrap();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 Request Timeout\r\nconnection: close"),
            "{answer}"
        );
        assert!(started.elapsed() >= SHORT && started.elapsed() < SHORT * 6, "{:?}", started.elapsed());
    }
    server.closed(&[("head_timeout", 2)]).await;
    server.open(0).await;
}

#[tokio::test]
async fn half_a_head_and_silence_is_answered_408() {
    let server = Server::start(Limits { head_timeout: SHORT, ..limits() }).await;
    let mut client = server.connect().await;
    client.send("GET / HT").await;
    let (answer, took) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(took >= SHORT - SHORT / 20, "{took:?}");
    server.closed(&[("head_timeout", 1)]).await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout_and_ends_at_its_own() {
    let idle = SHORT * 4;
    let server = Server::start(Limits { head_timeout: SHORT, idle_timeout: idle, ..limits() }).await;
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let requests: [&[&str]; 6] = [
        &["GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
        &["GET / HT", "TP/1.1\r\nHost: x\r\n", "\r\n"],
        &["POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"],
        &["POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "a", "bc"],
        &[chunked],
        &["POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nab", "c\r\n0\r\n", "\r\n"],
    ];
    let waits = requests.map(async |parts| {
        let mut client = server.connect().await;
        for part in parts {
            client.send(part).await;
            tokio::time::sleep(SHORT / 30).await;
        }
        assert_eq!(client.answer().await.status, 200);
        let (rest, took) = client.rest().await;
        assert_eq!(rest, "", "{parts:?}");
        assert!(took >= idle - SHORT / 5 && took < idle * 3, "{parts:?} {took:?}");
    });
    futures_util::future::join_all(waits).await;
    server.closed(&[("idle_timeout", 6)]).await;
}

#[tokio::test]
async fn a_connection_is_reused_shortly_before_its_idle_timeout() {
    let idle = SHORT * 4;
    let server = Server::start(Limits { head_timeout: SHORT, idle_timeout: idle, ..limits() }).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
        tokio::time::sleep(idle - SHORT).await;
    }
    assert!(client.is_open().await);
}

#[tokio::test]
async fn a_connection_that_never_speaks_is_closed_at_the_shorter_timeout() {
    for (head, idle) in [(SHORT, LONG), (LONG, SHORT)] {
        let server = Server::start(Limits { head_timeout: head, idle_timeout: idle, ..limits() }).await;
        let (rest, took) = server.connect().await.rest().await;
        assert_eq!(rest, "");
        assert!(took >= SHORT - SHORT / 10 && took < SHORT * 6, "{took:?}");
        server.closed(&[("idle_timeout", 1)]).await;
    }
}

#[tokio::test]
async fn a_slow_handler_is_not_cut_by_any_timer() {
    let short = SHORT / 3;
    let server =
        Server::start(Limits { head_timeout: short, idle_timeout: short, write_timeout: short, ..limits() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/slow").await.status, 200);
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n").await;
    for byte in ["a", "b", "c", "d"] {
        tokio::time::sleep(short * 2).await;
        client.send(byte).await;
    }
    assert_eq!(client.answer().await.body, "abcd");
}

#[tokio::test]
async fn a_large_answer_may_be_read_slowly_but_not_never() {
    let short = SHORT / 2;
    let patience = || Limits { head_timeout: short, idle_timeout: short * 8, write_timeout: short, ..limits() };
    for path in ["/large", "/stream"] {
        let server = Server::start(patience()).await;
        let mut client = server.connect_narrow().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (started, mut answer, mut buffer) = (Instant::now(), Vec::new(), vec![0; 32 << 10]);
        while !(answer.ends_with(b"\r\n0\r\n\r\n") || (path == "/large" && answer.len() >= LARGE + head_of(&answer))) {
            match client.0.read(&mut buffer).await {
                Ok(0) => panic!("{path} ended after {}", answer.len()),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("{path} cut after {}: {error} {:?}", answer.len(), server.counts),
            }
            if started.elapsed() < short * 12 {
                tokio::time::sleep(Duration::from_millis(8)).await;
            }
        }
        assert!(answer.len() > LARGE && started.elapsed() > short * 12, "{path} {:?}", started.elapsed());
        assert!(client.is_open().await, "the idle time begins after the answer");
        server.closed(&[]).await;
    }
    for path in ["/large", "/stream"] {
        let server = Server::start(patience()).await;
        let mut client = server.connect_narrow().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        server.seen(1).await;
        let started = Instant::now();
        server.open(0).await;
        assert!(started.elapsed() >= short / 2 && started.elapsed() < short * 6, "{:?}", started.elapsed());
        server.closed(&[("write_timeout", 1)]).await;
        assert!(client.rest().await.0.len() < LARGE);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits { head_timeout: SHORT, ..limits() }).await;
    let mut client = server.connect().await;
    let mut requests = String::new();
    for number in 0..40 {
        let body = format!("number {number}");
        requests += &format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
    client.send(requests).await;
    for number in 0..40 {
        assert_eq!(client.answer().await.body, format!("number {number}"));
    }
    server.seen(40).await;
    // Behind a slow one, for longer than a head may take.
    client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.body, "127.0.0.1");
    server.closed(&[]).await;
}

#[tokio::test]
async fn half_a_pipelined_head_has_the_time_of_a_head() {
    let server = Server::start(Limits { head_timeout: SHORT, ..limits() }).await;
    for (first, then) in [
        ("GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /pe", ""),
        ("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", "GET /pe"),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", "aGET /pe"),
    ] {
        let mut client = server.connect().await;
        client.send(first).await;
        tokio::time::sleep(SHORT / 10).await;
        client.send(then).await;
        assert_eq!(client.answer().await.status, 200);
        let (rest, took) = client.rest().await;
        assert!(rest.starts_with("HTTP/1.1 408 "), "{first} {then} {rest}");
        assert!(took >= SHORT - SHORT / 5 && took < SHORT * 6, "{took:?}");
    }
    server.closed(&[("head_timeout", 3)]).await;
}

#[tokio::test]
async fn a_request_body_that_drips_after_the_answer_does_not_hold_the_connection() {
    let server = Server::start(Limits { head_timeout: SHORT, idle_timeout: SHORT, ..limits() }).await;
    let mut client = server.connect().await;
    client.send("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc").await;
    assert_eq!(client.answer().await.status, 403);
    assert_eq!(client.rest().await.0, "");
    server.open(0).await;
}

#[tokio::test]
async fn one_client_has_only_its_share_of_connections() {
    let server = Server::start(Limits { max_per_peer: 2, ..limits() }).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    assert!(one.is_open().await && two.is_open().await);
    assert_eq!(server.connect().await.rest().await.0, "");
    server.closed(&[("peer_limit", 1)]).await;
    let mut other = server.connect_from("127.0.0.2").await;
    assert_eq!(other.get("/peer").await.body, "127.0.0.2");
    drop(one);
    server.open(2).await;
    assert!(server.connect().await.is_open().await);
    assert!(two.is_open().await);
}

#[tokio::test]
async fn a_trusted_proxy_may_hold_more() {
    let trusted = Proxies::parse(&["127.0.0.0/31".to_owned()]).unwrap();
    let server = Server::start(Limits { max_per_peer: 1, trusted, ..limits() }).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.connect().await);
    }
    for client in &mut clients {
        assert!(client.is_open().await);
    }
    let mut other = server.connect_from("127.0.0.2").await;
    assert!(other.is_open().await);
    assert_eq!(server.connect_from("127.0.0.2").await.rest().await.0, "");
    server.closed(&[("peer_limit", 1)]).await;
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let server = Server::start(Limits { max_connections: 1, ..limits() }).await;
    let mut one = server.connect().await;
    assert!(one.is_open().await);
    let mut two = server.connect().await;
    two.send("GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(one.is_open().await);
    assert_eq!((server.seen.load(SeqCst), server.counts.open.load(SeqCst)), (2, 1));
    drop(one);
    assert_eq!(two.answer().await.status, 200);
}

#[tokio::test]
async fn lame_connections_are_closed_by_their_next_answer() {
    let server = Server::start(limits()).await;
    let (mut idle, mut slow) = (server.connect().await, server.connect().await);
    assert!(!idle.get("/").await.closes());
    slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.seen(2).await;
    server.stop.lame.cancel();
    assert!(slow.answer().await.closes());
    assert_eq!(slow.rest().await.0, "");
    for client in [&mut idle, &mut server.connect().await] {
        let answer = client.get("/").await;
        assert!(answer.status == 200 && answer.closes(), "{answer:?}");
        assert_eq!(client.rest().await.0, "");
    }
    server.closed(&[]).await;
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn the_drain_finishes_requests_and_waits_for_nothing_else() {
    let server = Server::start(limits()).await;
    let (mut idle, mut silent, mut half) = (server.connect().await, server.connect().await, server.connect().await);
    let (mut slow, mut reader) = (server.connect().await, server.connect().await);
    assert!(idle.is_open().await);
    half.send("GET / HT").await;
    slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    reader.send("GET /stream HTTP/1.0\r\nHost: x\r\n\r\n").await;
    server.seen(3).await;
    server.open(5).await;
    let started = Instant::now();
    server.stop.drain.cancel();
    assert_eq!(idle.rest().await.0, "");
    assert_eq!(silent.rest().await.0, "");
    assert!(started.elapsed() < SHORT * 2, "idle ones first: {:?}", started.elapsed());
    assert!(slow.answer().await.closes());
    assert!(reader.rest().await.0.len() > LARGE);
    assert_eq!(half.rest().await.0, "");
    let counts = Arc::clone(&server.counts);
    assert_eq!(server.drained().await, 0);
    assert_eq!((counts.drain.load(SeqCst), counts.killed.load(SeqCst), counts.open.load(SeqCst)), (5, 0, 0));
}

#[tokio::test]
async fn a_head_that_is_completed_in_the_drain_is_answered() {
    let server = Server::start(limits()).await;
    let mut half = server.connect().await;
    half.send("GET / HTTP/1.1\r\nHost: ").await;
    server.open(1).await;
    tokio::time::sleep(SHORT / 10).await;
    server.stop.drain.cancel();
    tokio::time::sleep(SHORT / 3).await;
    half.send("x\r\n\r\n").await;
    let answer = half.answer().await;
    assert!(answer.status == 200 && answer.closes());
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn requests_that_the_kernel_holds_at_the_drain_are_answered() {
    let server = Server::start(limits()).await;
    // The server shares this thread: it accepts nothing before the next await.
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(server.address).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            client.set_nonblocking(true).unwrap();
            Client(TcpStream::from_std(client).unwrap())
        })
        .collect();
    server.stop.drain.cancel();
    for client in &mut clients {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.closes());
    }
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn kill_cuts_what_is_left_and_says_how_much() {
    let server = Server::start(limits()).await;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut client = server.connect().await;
        client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.seen(number).await;
        clients.push(client);
    }
    server.stop.drain.cancel();
    server.stop.kill.cancel();
    let counts = Arc::clone(&server.counts);
    assert_eq!(server.drained().await, 3);
    assert_eq!((counts.killed.load(SeqCst), counts.open.load(SeqCst)), (3, 0));
    for client in &mut clients {
        assert_eq!(client.rest().await.0, "");
    }
}

#[tokio::test]
async fn a_panic_ends_only_its_connection() {
    let server = Server::start(Limits { max_connections: 2, max_per_peer: 2, ..limits() }).await;
    let mut other = server.connect().await;
    assert!(other.is_open().await);
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.rest().await.0, "");
        server.open(1).await;
    }
    assert!(other.is_open().await);
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn heads_have_a_limit_in_fields_and_bytes() {
    let server = Server::start(limits()).await;
    let fields = |count: usize| "X-Field: y\r\n".repeat(count);
    let value = |bytes: usize| format!("X-Field: {}\r\n", "y".repeat(bytes));
    for (name, fields, status) in [
        ("64 fields", fields(63), 200),
        ("65 fields", fields(64), 431),
        ("31 KiB", value(31 << 10), 200),
        ("33 KiB", value(33 << 10), 431),
        ("an endless head", value(10 << 20), 431),
    ] {
        let mut client = server.connect().await;
        let _it_may_hang_up_before_the_end =
            client.0.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes()).await;
        if name == "an endless head" {
            client.rest().await;
        } else {
            assert_eq!(client.answer().await.status, status, "{name}");
        }
    }
    server.seen(2).await;
}

/// What hyper makes of a request: the status of its only answer, 0 for none, and the requests seen.
#[tokio::test]
async fn two_requests_are_never_made_of_one() {
    let server = Server::start(limits()).await;
    let post = |fields: &str, body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}");
    let inner = "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{inner}");
    let cases: Vec<(&str, Vec<u8>, u16, usize)> = vec![
        ("CL and TE", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &chunked).into(), 200, 1),
        ("TE and CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunked).into(), 200, 1),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", inner).into(), 400, 0),
        ("a list of lengths", post("Content-Length: 5, 6\r\n", inner).into(), 400, 0),
        ("a length with a sign", post("Content-Length: +5\r\n", inner).into(), 400, 0),
        ("a negative length", post("Content-Length: -1\r\n", inner).into(), 400, 0),
        ("a hexadecimal length", post("Content-Length: 0x5\r\n", inner).into(), 400, 0),
        ("a length beyond u64", post("Content-Length: 18446744073709551617\r\n", inner).into(), 400, 0),
        ("an empty length", post("Content-Length: \r\n", inner).into(), 400, 0),
        ("a folded field", post("X-Field: a\r\n Content-Length: 5\r\n", inner).into(), 400, 0),
        ("a space before the colon", post("Content-Length : 5\r\n", inner).into(), 400, 0),
        ("TE on HTTP/1.0", post("Transfer-Encoding: chunked\r\n", &chunked).replace("1.1", "1.0").into(), 400, 0),
        ("TE not chunked", post("Transfer-Encoding: gzip\r\n", inner).into(), 400, 0),
        ("TE chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", &chunked).into(), 400, 0),
        ("TE in disguise", post("Transfer-Encoding: xchunked\r\n", &chunked).into(), 400, 0),
        (
            "a chunk size with a sign",
            post("Transfer-Encoding: chunked\r\n", &format!("+5\r\nabcde\r\n{chunked}")).into(),
            400,
            1,
        ),
        (
            "TE twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n", &chunked).into(),
            200,
            1,
        ),
        (
            "the same length twice",
            post("Content-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n", "abcde").into(),
            200,
            1,
        ),
        ("a list of equal lengths", post("Content-Length: 5, 5\r\n", inner).into(), 400, 0),
        (
            "a chunk line that ends in LF",
            post("Transfer-Encoding: chunked\r\n", &format!("5\nabcde\r\n{chunked}")).into(),
            400,
            1,
        ),
        (
            "a LF in a chunk extension",
            post("Transfer-Encoding: chunked\r\n", &format!("5;a\nb\r\nabcde\r\n{chunked}")).into(),
            400,
            1,
        ),
        (
            "a chunk longer than it says",
            post("Transfer-Encoding: chunked\r\n", &format!("3\r\nabcde\r\n{chunked}")).into(),
            400,
            1,
        ),
        (
            "a chunk size beyond u64",
            post("Transfer-Encoding: chunked\r\n", &format!("10000000000000005\r\nabcde\r\n{chunked}")).into(),
            400,
            1,
        ),
        ("lines that end in LF", b"GET / HTTP/1.1\nHost: x\nConnection: close\n\n".to_vec(), 200, 1),
        ("no host", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), 200, 1),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n".to_vec(), 200, 1),
        ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400, 0),
        ("a NUL in a value", post("X-Field: a\0b\r\n", inner).into(), 400, 0),
        ("a bare CR in a value", post("X-Field: a\rContent-Length: 5\r\n", inner).into(), 400, 0),
        ("garbage", b"\x01\x02garbage\r\n\r\n".to_vec(), 400, 0),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), 400, 0),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_vec(), 400, 0),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 0, 0),
        ("a TLS hello", TLS_HELLO.to_vec(), 400, 0),
    ];
    let mut wrong = Vec::new();
    let mut before = 0;
    for (name, bytes, status, requests) in cases {
        let mut client = server.connect().await;
        client.send(&bytes).await;
        let (rest, _) = client.rest().await;
        let statuses: Vec<u16> =
            rest.match_indices("HTTP/1.").map(|(at, _)| rest[at + 9..at + 12].parse().unwrap()).collect();
        let seen = server.seen.load(SeqCst) - before;
        before += seen;
        assert!(statuses.len() <= 1 && seen <= 1, "{name}: {statuses:?} {seen} {rest}");
        let found = (statuses.first().copied().unwrap_or(0), seen);
        if found != (status, requests) {
            wrong.push((name, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    server.open(0).await;
    // All of them by HTTP, none by a timer.
    server.closed(&[]).await;
}

const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\x00\x01\x02\x03\x04\x05\x06\x07\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_balance_under_many_short_connections() {
    let server = Arc::new(Server::start(Limits { max_connections: 16, ..limits() }).await);
    let answered = Arc::new(AtomicU64::new(0));
    let clients = (0..200).map(|number: u32| {
        let (server, answered) = (Arc::clone(&server), Arc::clone(&answered));
        async move {
            let mut client = server.connect().await;
            for _ in 0..number % 4 {
                assert_eq!(client.get("/").await.status, 200);
                answered.fetch_add(1, SeqCst);
            }
        }
    });
    futures_util::future::join_all(clients).await;
    assert_eq!(answered.load(SeqCst), 300);
    server.open(0).await;
    server.closed(&[]).await;
}
