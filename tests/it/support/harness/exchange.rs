//! One HTTP/1.1 request and what came of it, on a plain socket: what `load` is made of, and the
//! clients that behave badly. No retries, no redirects.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{interval, sleep, timeout},
};

use super::report::{Failure, Outcome};

/// A head that is longer is no HTTP of ours.
const LONGEST_HEAD: usize = 64 * 1024;

/// A GET with a bearer key, unless it is empty.
pub fn get(path: &str, key: &str, host: &str) -> Vec<u8> {
    request("GET", path, key, &[("host", host)], b"")
}

/// A POST of JSON with a bearer key, unless it is empty, and more headers. The host is `localhost`
/// unless they have one.
pub fn post(path: &str, key: &str, body: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![("content-type", "application/json")];
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        all.push(("host", "localhost"));
    }
    all.extend_from_slice(headers);
    request("POST", path, key, &all, body.as_bytes())
}

pub fn request(method: &str, path: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !key.is_empty() {
        text += &format!("authorization: Bearer {key}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method != "GET" {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

pub async fn connect(address: SocketAddr, local: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        // Or ports in TIME_WAIT are missing after some thousand connections.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(IpAddr::V4(local), 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An answer that was read to its end.
pub struct Answered {
    pub status: u16,
    /// Whether another request may follow on the connection.
    pub reusable: bool,
}

/// Why there is none.
pub struct Unanswered {
    pub failure: Failure,
    /// Not one byte came.
    pub silent: bool,
}

/// How the end of the body is known.
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// A connection with its unread bytes.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Answers so far.
    pub served: u32,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(8 * 1024), served: 0 }
    }

    /// Whether the server closed it or said something unasked, as far as is known without waiting.
    pub fn is_stale(&self) -> bool {
        let quiet = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        !self.buffer.is_empty() || !self.stream.try_read(&mut [0]).as_ref().is_err_and(quiet)
    }

    /// Sends and reads the answer. The body, without its framing, goes to `body` if there is one.
    pub async fn exchange(&mut self, request: &[u8], mut body: Option<&mut Vec<u8>>) -> Result<Answered, Unanswered> {
        // A server that refuses a body answers before it has read it: the answer counts.
        let unsent = self.stream.write_all(request).await.is_err();
        let mut silent = true;
        let head = self.head(&mut silent).await;
        let (status, framing, mut reusable) = head.map_err(|failure| Unanswered { failure, silent })?;
        let cut = |failure| Unanswered { failure, silent: false };
        match framing {
            _ if request.starts_with(b"HEAD ") || matches!(status, 204 | 304) => {}
            Framing::Length(length) => self.consume(length, &mut body).await.map_err(cut)?,
            Framing::Chunked => self.chunks(&mut body).await.map_err(cut)?,
            Framing::Close => {
                reusable = false;
                loop {
                    let length = self.buffer.len();
                    self.consume(length, &mut body).await.map_err(cut)?;
                    if self.fill().await.map_err(|_| cut(Failure::CutBody))? == 0 {
                        break;
                    }
                }
            }
        }
        self.served += 1;
        Ok(Answered { status, reusable: reusable && !unsent && self.buffer.is_empty() })
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn head(&mut self, silent: &mut bool) -> Result<(u16, Framing, bool), Failure> {
        loop {
            if let Some(end) = position(&self.buffer, b"\r\n\r\n") {
                let parsed = parse(&self.buffer[..end]).ok_or(Failure::Malformed)?;
                self.buffer.drain(..end + 4);
                // Interim answers have no body and announce another.
                if !(100..200).contains(&parsed.0) {
                    return Ok(parsed);
                }
            } else if self.buffer.len() > LONGEST_HEAD || !b"HTTP/1.".starts_with(prefix(&self.buffer, 7)) {
                return Err(Failure::Malformed);
            } else {
                match self.fill().await {
                    Ok(0) => return Err(Failure::Eof),
                    Ok(_) => *silent = false,
                    Err(_) => return Err(Failure::Reset),
                }
            }
        }
    }

    async fn consume(&mut self, mut length: usize, body: &mut Option<&mut Vec<u8>>) -> Result<(), Failure> {
        loop {
            let here = length.min(self.buffer.len());
            if let Some(body) = body {
                body.extend_from_slice(&self.buffer[..here]);
            }
            self.buffer.drain(..here);
            length -= here;
            if length == 0 {
                return Ok(());
            }
            self.fill_or_cut().await?;
        }
    }

    async fn fill_or_cut(&mut self) -> Result<(), Failure> {
        if self.fill().await.is_ok_and(|read| read > 0) { Ok(()) } else { Err(Failure::CutBody) }
    }

    async fn chunks(&mut self, body: &mut Option<&mut Vec<u8>>) -> Result<(), Failure> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| Failure::Malformed)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(());
            }
            self.consume(size, body).await?;
            if !self.line().await?.is_empty() {
                return Err(Failure::Malformed);
            }
        }
    }

    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = position(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(Failure::Malformed);
            }
            self.fill_or_cut().await?;
        }
    }
}

fn prefix(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..length.min(bytes.len())]
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The status, where the body ends, and whether the connection stays.
fn parse(head: &[u8]) -> Option<(u16, Framing, bool)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let (version, rest) = lines.next()?.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok().filter(|status| (100..600).contains(status))?;
    let (mut framing, mut stays) = (Framing::Close, version == "HTTP/1.1");
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunked) {
            framing = Framing::Length(value.parse().ok()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().ends_with("chunked") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            let has = |token: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token));
            stays = !has("close") && (stays || has("keep-alive"));
        }
    }
    Some((status, framing, stays))
}

/// One request on a connection of its own, with the body of its answer.
pub async fn once(address: SocketAddr, request: &[u8], within: Duration) -> (Outcome, Vec<u8>) {
    let mut body = Vec::new();
    let exchange = async {
        let Ok(stream) = connect(address, None).await else { return Outcome::Failed(Failure::Connect) };
        match Connection::new(stream).exchange(request, Some(&mut body)).await {
            Ok(answered) => Outcome::Ok(answered.status),
            Err(unanswered) => Outcome::Failed(unanswered.failure),
        }
    };
    let outcome = timeout(within, exchange).await.unwrap_or(Outcome::Failed(Failure::Timeout));
    (outcome, body)
}

/// How the server ended a slow socket.
#[derive(Debug)]
pub struct SlowEnd {
    /// Since the first byte was sent.
    pub after: Duration,
    pub sent: usize,
    /// What the server said before.
    pub received: Vec<u8>,
    pub reset: bool,
}

/// Sends a byte per interval until the server closes, or the connect fails. After the last byte it
/// only waits.
pub async fn slow_socket(
    address: SocketAddr,
    local: Option<Ipv4Addr>,
    bytes: &[u8],
    every: Duration,
) -> io::Result<SlowEnd> {
    let (mut reader, mut writer) = connect(address, local).await?.into_split();
    let (mut ticks, start) = (interval(every), Instant::now());
    let (mut sent, mut received, mut writable) = (0, Vec::new(), true);
    let reset = loop {
        tokio::select! {
            read = reader.read_buf(&mut received) => match read {
                Ok(0) => break false,
                Ok(_) => {}
                Err(_) => break true,
            },
            _ = ticks.tick(), if writable && sent < bytes.len() => match writer.write(&bytes[sent..=sent]).await {
                Ok(written) => sent += written,
                // The server closed before: what it said comes first, then the end.
                Err(_) => writable = false,
            },
        }
    };
    Ok(SlowEnd { after: start.elapsed(), sent, received, reset })
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// An orderly end; a reset follows once the server has written.
    Fin,
    Rst,
}

/// Sends a request and leaves without reading, this long after.
pub async fn hang_up(address: SocketAddr, request: &[u8], after: Duration, leave: Leave) -> io::Result<()> {
    let mut stream = connect(address, None).await?;
    stream.write_all(request).await?;
    sleep(after).await;
    match leave {
        Leave::Fin => stream.shutdown().await,
        Leave::Rst => stream.set_zero_linger(),
    }
}
