//! Servers that misbehave, for calls that go out: what they were asked is kept, and how much of their
//! answer was taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// How a server answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// This head, then a gigabyte of spaces.
    Endless(&'static str),
    /// A good head, then a byte now and then.
    Drip,
    /// Nothing, and the connection stays.
    Silent,
    /// Nothing, and the connection ends: before the request was read.
    Gone,
}

impl Manner {
    /// An answer with its length right.
    pub fn answer(status: &str, kind: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
        Self::Bytes(format!("{head}\r\nconnection: close\r\n\r\n{body}").into_bytes())
    }

    pub fn json(status: &str, body: &str) -> Self {
        Self::answer(status, "application/json", body)
    }

    pub fn redirect(status: &str, to: &str) -> Self {
        Self::Bytes(
            format!("HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into(),
        )
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /path`.
    pub line: String,
    pub idempotency_key: String,
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Hostile {
    pub url: String,
    manner: Arc<Mutex<Box<Choose>>>,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<AtomicUsize>,
    /// Bytes of answers that could be written.
    pub sent: Arc<AtomicUsize>,
}

type Choose = dyn Fn(&Asked) -> Manner + Send;

impl Hostile {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            url,
            manner: Arc::new(Mutex::new(Box::new(move |_: &Asked| manner.clone()))),
            asked: Arc::default(),
            connections: Arc::default(),
            sent: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Relaxed);
                let server = serving.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    /// From now on it answers by the request.
    pub fn behave(&self, choose: impl Fn(&Asked) -> Manner + Send + 'static) {
        *self.manner.lock() = Box::new(choose);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let asked = request(&mut stream).await?;
        let manner = (self.manner.lock())(&asked);
        self.asked.lock().push(asked);
        match manner {
            Manner::Bytes(bytes) => self.send(&mut stream, &bytes).await?,
            Manner::Endless(head) => {
                self.send(&mut stream, head.as_bytes()).await?;
                let chunk = vec![b' '; 64 << 10];
                let framed = head.contains("chunked");
                for _ in 0..(1 << 30) / chunk.len() {
                    if framed {
                        self.send(&mut stream, b"10000\r\n").await?;
                    }
                    self.send(&mut stream, &chunk).await?;
                    if framed {
                        self.send(&mut stream, b"\r\n").await?;
                    }
                }
            }
            Manner::Drip => {
                self.send(&mut stream, b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n{").await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.send(&mut stream, b" ").await?;
                }
            }
            Manner::Silent => tokio::time::sleep(Duration::from_secs(600)).await,
            Manner::Gone => {}
        }
        Some(())
    }

    async fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
        stream.write_all(bytes).await.ok()?;
        self.sent.fetch_add(bytes.len(), Relaxed);
        Some(())
    }
}

/// Reads one request to the end of its body.
async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let line =
                    head.lines().find_map(|line| line.split_once(':').filter(|(is, _)| is.eq_ignore_ascii_case(name)));
                line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
            };
            if body.len() >= header("content-length").parse().unwrap_or(0) {
                let line = head.lines().next().unwrap_or_default();
                let line = line.rsplit_once(' ').map_or(line, |(line, _)| line).to_owned();
                return Some(Asked { line, idempotency_key: header("idempotency-key") });
            }
        }
        if read == 0 {
            return None;
        }
    }
}
