//! The balancer before servers that tell their name and have a switch for their health.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::support::harness::balancer::{Backend, Balancer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

struct Server {
    backend: Backend,
    good: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

/// Sends its name, then what it reads up to the end, then the end.
async fn server(name: &'static str) -> Server {
    let (listener, health) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let backend = Backend {
        address: listener.local_addr().unwrap(),
        health: health.local_addr().unwrap(),
        health_path: "/health/ready".into(),
    };
    let good = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&good);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = health.accept().await {
            let n = stream.read(&mut [0; 1024]).await.unwrap_or(0);
            let status = if switch.load(SeqCst) { "200 OK" } else { "503 Service Unavailable" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if n > 0 {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).await.is_ok() {
                    let _ = stream.write_all(&all).await;
                }
            });
        }
    });
    Server { backend, good, serving }
}

async fn connect(address: SocketAddr) -> Option<(String, TcpStream)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut name = [0; 1];
    stream.read_exact(&mut name).await.ok()?;
    Some((String::from_utf8(name.to_vec()).unwrap(), stream))
}

async fn names(balancer: &Balancer, count: usize) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for _ in 0..count {
        *names.entry(connect(balancer.address).await.unwrap().0).or_default() += 1;
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn it_balances_checks_replaces_and_removes() {
    let (one, two) = (server("a").await, server("b").await);
    let balancer = Balancer::start(vec![one.backend.clone(), two.backend.clone()]).await;
    balancer.wait_for_healthy(2).await;
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(connect(balancer.address).await.unwrap());
    }
    assert_eq!((balancer.open(0), balancer.open(1), balancer.total(0)), (10, 10, 10));
    one.good.store(false, SeqCst);
    balancer.wait_for_healthy(1).await;
    assert_eq!(names(&balancer, 10).await, BTreeMap::from([("b".to_owned(), 10)]));
    for (name, mut stream) in kept {
        stream.write_all(name.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, name);
    }
    balancer.replace(0, server("c").await.backend);
    balancer.wait_for_healthy(2).await;
    let both = names(&balancer, 20).await;
    assert!(both["b"] > 0 && both["c"] > 0, "{both:?}");
    balancer.remove(1);
    assert_eq!(names(&balancer, 5).await, BTreeMap::from([("c".to_owned(), 5)]));
    one.good.store(true, SeqCst);
    balancer.replace(2, one.backend.clone());
    balancer.wait_for_healthy(2).await;
    assert!(balancer.is_healthy(0) && !balancer.is_healthy(1) && balancer.is_healthy(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connect_goes_to_the_next() {
    let (one, two) = (server("a").await, server("b").await);
    let balancer = Balancer::start(vec![one.backend.clone(), two.backend.clone()]).await;
    balancer.wait_for_healthy(2).await;
    one.serving.abort();
    let _aborted = one.serving.await;
    assert_eq!(names(&balancer, 20).await, BTreeMap::from([("b".to_owned(), 20)]));
    assert_eq!((balancer.healthy(), balancer.unserved()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_for_a_healthy_one_and_then_are_closed() {
    let one = server("a").await;
    one.good.store(false, SeqCst);
    let balancer = Balancer::start(vec![one.backend.clone()]).await;
    let start = Instant::now();
    assert!(connect(balancer.address).await.is_none());
    assert!(start.elapsed() > Duration::from_millis(1900) && start.elapsed() < Duration::from_millis(2500));
    assert_eq!(balancer.unserved(), 1);
    let address = balancer.address;
    let waiting = tokio::spawn(async move { connect(address).await.map(|(name, _)| name) });
    one.good.store(true, SeqCst);
    assert_eq!(waiting.await.unwrap().as_deref(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_ends_the_connections() {
    let one = server("a").await;
    let balancer = Balancer::start(vec![one.backend]).await;
    let (_, mut stream) = connect(balancer.address).await.unwrap();
    drop(balancer);
    assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
}
