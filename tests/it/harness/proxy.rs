//! Each mode of the proxy before an echo server and before one that records.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::harness::proxy::{Mode, Proxy};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const SHORT: Duration = Duration::from_millis(150);

async fn eventually(what: &str, look: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !look() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An echo server, and all it read.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    kept.lock().extend_from_slice(&buffer[..n]);
                    if stream.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn proxy() -> (Proxy, Arc<Mutex<Vec<u8>>>) {
    let (address, seen) = echo().await;
    (Proxy::start(address).await, seen)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address).await.unwrap()
}

async fn round(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut buffer = vec![0; text.len()];
    stream.read_exact(&mut buffer).await?;
    assert_eq!(buffer, text.as_bytes());
    Ok(())
}

/// A connect may itself end with the reset.
async fn connect_is_reset(proxy: &Proxy) -> bool {
    match TcpStream::connect(proxy.address).await {
        Ok(mut stream) => is_reset(&mut stream).await,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 9]).await, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_megabytes_and_the_half_close_and_counts() {
    let (proxy, _) = proxy().await;
    let stream = connect(&proxy).await;
    assert_eq!((proxy.connections(), proxy.open()), (1, 1));
    let (mut reader, mut writer) = stream.into_split();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    drop((reader, writing.await.unwrap()));
    eventually("closed", || proxy.open() == 0).await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn urls_point_at_the_proxy() {
    let (proxy, _) = proxy().await;
    let at = proxy.address;
    assert_eq!(proxy.url("postgres://me:p%40w@db:5432/keel?a=b@c"), format!("postgres://me:p%40w@{at}/keel?a=b@c"));
    assert_eq!(proxy.url("http://[::1]:4317"), format!("http://{at}"));
    assert_eq!(proxy.url("redis://127.0.0.1:6379/0"), format!("redis://{at}/0"));
}

#[tokio::test]
async fn a_writer_nobody_reads_is_held_back() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(sink.local_addr().unwrap()).await;
    for mode in [Mode::Pass, Mode::Delay(Duration::from_millis(20))] {
        proxy.set(mode.clone());
        let mut client = connect(&proxy).await;
        let (_unread, _) = sink.accept().await.unwrap();
        let mut written = 0;
        while let Ok(n) = timeout(Duration::from_millis(300), client.write(&[7; 65536])).await {
            written += n.unwrap();
            // Kernel buffers of four sockets, and 4 MiB of delay.
            assert!(written < 40 << 20, "{mode:?}");
        }
        assert!(written > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_adds_latency_and_does_not_serialise() {
    let (proxy, _) = proxy().await;
    let mut stream = connect(&proxy).await;
    round(&mut stream, "warm").await.unwrap();
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    let start = Instant::now();
    round(&mut stream, "one").await.unwrap();
    let one = start.elapsed();
    assert!(one >= Duration::from_millis(200) && one < Duration::from_millis(260), "{one:?}");
    let (mut reader, mut writer) = stream.into_split();
    let start = Instant::now();
    let writing = tokio::spawn(async move {
        for n in 0..20_u8 {
            writer.write_all(&[n]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        writer
    });
    let mut got = [0; 20];
    reader.read_exact(&mut got).await.unwrap();
    let all = start.elapsed();
    assert_eq!(got.to_vec(), (0..20).collect::<Vec<u8>>());
    assert!(all < Duration::from_millis(550), "{all:?}");
    let mut writer = writing.await.unwrap();
    proxy.set(Mode::Pass);
    let start = Instant::now();
    writer.write_all(b"x").await.unwrap();
    reader.read_exact(&mut got[..1]).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttle_limits_each_direction() {
    let (proxy, _) = proxy().await;
    proxy.set(Mode::Throttle(100_000));
    let stream = connect(&proxy).await;
    let (mut reader, mut writer) = stream.into_split();
    let start = Instant::now();
    let writing = tokio::spawn(async move { writer.write_all(&[1; 60_000]).await.map(|()| writer) });
    reader.read_exact(&mut vec![0; 60_000]).await.unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(580) && took < Duration::from_millis(900), "{took:?}");
    drop(writing.await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn refuse_resets_and_refuses_and_the_port_comes_back() {
    let (proxy, _) = proxy().await;
    for _ in 0..50 {
        let mut stream = connect(&proxy).await;
        round(&mut stream, "before").await.unwrap();
        proxy.set(Mode::Refuse);
        let refused = TcpStream::connect(proxy.address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(is_reset(&mut stream).await);
        proxy.set(Mode::Pass);
        round(&mut connect(&proxy).await, "after").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_resets_old_and_new_connections_however_short_it_is() {
    let (proxy, _) = proxy().await;
    let (mut old, mut unanswered) = (connect(&proxy).await, connect(&proxy).await);
    round(&mut old, "before").await.unwrap();
    proxy.set(Mode::Reset);
    proxy.set(Mode::Pass);
    assert!(is_reset(&mut old).await && is_reset(&mut unanswered).await);
    proxy.set(Mode::Reset);
    assert!(connect_is_reset(&proxy).await);
    proxy.set(Mode::Pass);
    round(&mut connect(&proxy).await, "after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_holds_everything_and_loses_nothing() {
    let (proxy, seen) = proxy().await;
    let mut old = connect(&proxy).await;
    round(&mut old, "before").await.unwrap();
    proxy.set(Mode::BlackHole);
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        assert!(timeout(SHORT, round(stream, "held")).await.is_err());
    }
    assert_eq!((seen.lock().as_slice(), proxy.open()), (b"before".as_slice(), 2));
    proxy.set(Mode::Pass);
    for stream in [&mut old, &mut new] {
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_connections_stay_silent_and_new_ones_pass() {
    let (proxy, _) = proxy().await;
    let mut old = connect(&proxy).await;
    round(&mut old, "before").await.unwrap();
    let mut just_connected = connect(&proxy).await;
    proxy.set(Mode::BlackHoleOld);
    let mut new = connect(&proxy).await;
    round(&mut new, "new").await.unwrap();
    proxy.set(Mode::Reset);
    assert!(is_reset(&mut new).await);
    proxy.set(Mode::Pass);
    round(&mut connect(&proxy).await, "newer").await.unwrap();
    for stream in [&mut old, &mut just_connected] {
        assert!(timeout(SHORT, round(stream, "?")).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_cuts_between_the_commit_and_its_answer_once() {
    let (proxy, seen) = proxy().await;
    let (mut first, mut second) = (connect(&proxy).await, connect(&proxy).await);
    for stream in [&mut first, &mut second] {
        round(stream, "begin").await.unwrap();
    }
    proxy.set(Mode::CutOn(b"commit".to_vec()));
    round(&mut first, "Q...co").await.unwrap();
    assert!(timeout(SHORT, proxy.cut()).await.is_err());
    first.write_all(b"MMIT;").await.unwrap();
    assert!(is_reset(&mut first).await);
    proxy.cut().await;
    assert_eq!((proxy.cuts(), proxy.mode(), proxy.open()), (1, Mode::Pass, 1));
    assert!(seen.lock().ends_with(b"Q...coMMIT;"));
    round(&mut second, "commit").await.unwrap();
    assert!(timeout(SHORT, proxy.cut()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn swallow_lets_requests_through() {
    let (proxy, seen) = proxy().await;
    proxy.set(Mode::Swallow);
    let mut stream = connect(&proxy).await;
    assert!(timeout(SHORT, round(&mut stream, "asked")).await.is_err());
    assert_eq!(*seen.lock(), b"asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_and_missing_upstreams_reach_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let mut stream = connect(&proxy).await;
    listener.accept().await.unwrap().0.set_zero_linger().unwrap();
    assert!(is_reset(&mut stream).await);
    drop(listener);
    assert!(connect_is_reset(&proxy).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_closes_everything() {
    let (proxy, _) = proxy().await;
    let mut stream = connect(&proxy).await;
    round(&mut stream, "before").await.unwrap();
    let mut old = connect(&proxy).await;
    proxy.set(Mode::BlackHoleOld);
    let address = proxy.address;
    drop(proxy);
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for stream in [&mut stream, &mut old] {
        assert!(matches!(timeout(Duration::from_secs(5), stream.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
    }
}
