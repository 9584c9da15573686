//! The load before a server that answers, breaks and stalls as the path says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::harness::{
    exchange::{Leave, get, hang_up, once, post, slow_socket},
    load::{Load, Target, Until},
    report::{FAILED, Failure, Outcome},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Log {
    requests: Mutex<Vec<String>>,
    peers: Mutex<BTreeSet<String>>,
    ends: Mutex<Vec<String>>,
}

async fn server() -> (SocketAddr, Arc<Log>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Arc::<Log>::default());
    let kept = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            // Answers come in pieces, which Nagle would space by 40 ms.
            stream.set_nodelay(true).unwrap();
            kept.peers.lock().insert(peer.ip().to_string());
            tokio::spawn(serve(stream, Arc::clone(&kept)));
        }
    });
    (address, log)
}

async fn serve(mut stream: TcpStream, log: Arc<Log>) {
    let mut served = 0;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(1..) => {}
                end => return log.ends.lock().push(format!("{:?}", end.map_err(|error| error.kind()))),
            }
        }
        let text = String::from_utf8(head).unwrap();
        let path = text.split(' ').nth(1).unwrap().to_owned();
        log.requests.lock().push(text);
        let answer: &[&str] = match path.as_str() {
            "/length" => &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "llo"],
            "/chunked" => &[
                "HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r",
                "\n2\r\nlo\r\n0\r\nt: v\r\n\r\n",
            ],
            "/interim" => &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"],
            "/to-the-end" => &["HTTP/1.1 200 OK\r\n\r\nhel", "lo", "FIN"],
            "/close" => &["HTTP/1.1 503 No\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n", "FIN"],
            "/eof" => &["FIN"],
            "/half-head" => &["HTTP/1.1 200 OK\r\nconte", "FIN"],
            "/reset" => &["RST"],
            "/cut-length" => &["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", "FIN"],
            "/cut-chunk" => &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "FIN"],
            "/cut-reset" => &["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", "RST"],
            "/malformed" => &["SSH-2.0-x\r\n\r\n"],
            "/silent" => &["WAIT"],
            "/slow" => &["PAUSE", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            "/second-eof" if served == 1 => &["FIN"],
            "/idle-close" => &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "FIN"],
            _ => &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
        };
        served += 1;
        for part in answer {
            match *part {
                "FIN" => return,
                "RST" => return stream.set_zero_linger().unwrap(),
                "WAIT" => {
                    let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
                    return log.ends.lock().push(format!("{end:?}"));
                }
                "PAUSE" => tokio::time::sleep(Duration::from_millis(300)).await,
                text => {
                    let _ = stream.write_all(text.as_bytes()).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn path(address: SocketAddr, path: &str) -> Target {
    Target::new(address, get(path, "", "localhost"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_end_has_its_outcome() {
    let (address, _) = server().await;
    let failed = Outcome::Failed;
    for (path, outcome, body) in [
        ("/length", Outcome::Ok(200), "hello"),
        ("/chunked", Outcome::Ok(201), "hello"),
        ("/interim", Outcome::Ok(204), ""),
        ("/to-the-end", Outcome::Ok(200), "hello"),
        ("/close", Outcome::Ok(503), ""),
        ("/eof", failed(Failure::Eof), ""),
        ("/half-head", failed(Failure::Eof), ""),
        ("/reset", failed(Failure::Reset), ""),
        ("/cut-length", failed(Failure::CutBody), "hello"),
        ("/cut-chunk", failed(Failure::CutBody), "hello"),
        ("/malformed", failed(Failure::Malformed), ""),
        ("/silent", failed(Failure::Timeout), ""),
    ] {
        let within = if path == "/silent" { SECOND / 5 } else { 10 * SECOND };
        let got = once(address, &get(path, "", "localhost"), within).await;
        assert_eq!(got, (outcome, body.as_bytes().to_vec()), "{path}");
    }
    let (cut, _) = once(address, &get("/cut-reset", "", "x"), SECOND).await;
    // A reset may overtake the head.
    assert!(cut == failed(Failure::CutBody) || cut == failed(Failure::Reset), "{cut:?}");
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(once(unused, b"", SECOND).await.0, failed(Failure::Connect));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sends_what_was_asked_and_keeps_the_connections() {
    let (address, log) = server().await;
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let kept = Arc::clone(&seen);
    let target = Target::each(address, |n| post("/length", "key", "", &[("idempotency-key", &n.to_string())]));
    let load = Load::new(target).connections(4).local_address(Ipv4Addr::new(127, 0, 0, 2));
    let load = load.inspect(move |seen| {
        kept.lock().insert(seen.number, seen.body.to_vec());
    });
    let report = load.clone().run_count(1000).await;
    assert_eq!((report.answers.clone(), report.failed(), report.connections), (BTreeMap::from([(200, 1000)]), 0, 4));
    assert_eq!(*seen.lock(), (0..1000).map(|n| (n, b"hello".to_vec())).collect());
    assert_eq!(*log.peers.lock(), BTreeSet::from(["127.0.0.2".to_owned()]));
    let first = log.requests.lock()[0].clone();
    assert!(first.starts_with("POST /length HTTP/1.1\r\nauthorization: Bearer key\r\n"), "{first}");
    let keys: BTreeSet<String> = log.requests.lock().iter().cloned().collect();
    assert_eq!(keys.len(), 1000);
    assert_eq!(load.clone().requests_per_connection(10).connections(1).run_count(100).await.connections, 10);
    assert_eq!(load.keep_alive(false).run_count(100).await.connections, 100);
    let closing = Load::new(path(address, "/close")).connections(2).run_count(50).await;
    assert_eq!((closing.status(503), closing.failed(), closing.connections, closing.stale), (50, 0, 50, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_retried_unless_asked() {
    let (address, log) = server().await;
    let load = Load::new(path(address, "/second-eof"));
    let plain = load.clone().run_count(10).await;
    assert_eq!((plain.ok(), plain.failures, plain.retries), (5, BTreeMap::from([("eof", 5)]), 0));
    assert_eq!(log.requests.lock().len(), 10);
    let retried = load.retry_idle(true).run_count(10).await;
    assert_eq!((retried.ok(), retried.failed(), retried.retries), (10, 0, 9));
    let idle = Load::new(path(address, "/idle-close")).rate(50.0).run_count(10).await;
    // On a starved machine a close may be seen too late, which is then a failure like any other.
    assert!(idle.total() == 10 && idle.ok() >= 7 && idle.stale >= 5, "{:?}", idle.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_keeps_its_rate_and_counts_from_the_schedule() {
    let (address, _) = server().await;
    let report = Load::new(path(address, "/")).connections(8).rate(500.0).run_for(SECOND).await;
    assert_eq!((report.total() + report.unsent, report.failed()), (500, 0));
    assert!(report.unsent < 10 && report.p(0.5, |status| status == 200).unwrap() < Duration::from_millis(10));
    // Three answers a second, ten requests: the last due ones waited for seconds or were never sent.
    let late = Load::new(path(address, "/slow")).rate(10.0).run_for(SECOND).await;
    assert_eq!(late.total() + late.unsent, 10);
    assert!(late.unsent >= 5, "{}", late.unsent);
    assert!(late.p(1.0, |_| true).unwrap() > Duration::from_millis(800));
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_and_refusals_are_counted_with_their_latency() {
    let (address, _) = server().await;
    let report = Load::new(path(address, "/silent")).connections(3).timeout(SECOND / 10).run_count(6).await;
    assert_eq!(report.failures, BTreeMap::from([("timeout", 6)]));
    let p = report.p(0.5, |status| status == FAILED).unwrap();
    assert!(p >= SECOND / 10 && p < SECOND / 5, "{p:?}");
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = Load::new(path(unused, "/")).run_for(SECOND / 5).await;
    assert!(refused.failures["connect"] <= 45 && refused.ok() == 0, "{:?}", refused.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_watched_stopped_and_redirected() {
    let (address, _) = server().await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let current = Arc::new(Mutex::new(unused));
    let source = Arc::clone(&current);
    let target = path(address, "/").at(move || *source.lock());
    let token = CancellationToken::new();
    let running = Load::new(target).connections(2).start(Until::Cancelled(token.clone()));
    while running.look(|report| report.failed()) < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let switched = Instant::now();
    *current.lock() = address;
    while running.report().ok() < 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    token.cancel();
    let report = running.join().await;
    assert!(report.first_ok_after(switched).unwrap() < SECOND / 2);
    assert!(report.goodput(switched, Instant::now()) > 100.0);
    let running = Load::new(path(address, "/slow")).start(Until::Elapsed(60 * SECOND));
    assert_eq!(running.stop().await.failed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_sockets_and_hang_ups_end_as_told() {
    let (address, log) = server().await;
    let request = get("/close", "", "x");
    let every = Duration::from_millis(5);
    let end = slow_socket(address, Some(Ipv4Addr::new(127, 0, 0, 3)), &request, every).await.unwrap();
    assert!(!end.reset && end.sent == request.len() && end.received.starts_with(b"HTTP/1.1 503"), "{end:?}");
    assert!(end.after >= every * (request.len() as u32 - 2), "{end:?}");
    assert!(log.peers.lock().contains("127.0.0.3"));
    for (leave, expected) in [(Leave::Fin, "Ok(0)"), (Leave::Rst, "Err(ConnectionReset)")] {
        log.ends.lock().clear();
        hang_up(address, &get("/silent", "", "x"), SECOND / 20, leave).await.unwrap();
        let deadline = Instant::now() + 5 * SECOND;
        while log.ends.lock().is_empty() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*log.ends.lock(), [expected]);
    }
}
