//! HTTP/1.1 by hand: requests as bytes, answers parsed where they lie, a blocking keep-alive connection, and load at a
//! fixed rate over such connections. As much load as the service takes is in `load`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use super::figures::Histogram;

pub fn request(method: &str, path: &str, fields: &str) -> Vec<u8> {
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n{length}{fields}\r\n").into_bytes()
}

/// Where an answer lies in the bytes that were read.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Range<usize>,
}

impl Answer {
    /// The answer at the start of `bytes`, or `None` while it is not whole.
    ///
    /// # Errors
    /// What is no answer, or has no length.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default().trim();
        let status = bytes.get(9..12).and_then(|digits| text(digits).parse().ok()).ok_or("not HTTP/1.1")?;
        let length = bytes[..head].split(|byte| *byte == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked("content-length:".len())?;
            name.eq_ignore_ascii_case(b"content-length:").then(|| text(value).parse::<usize>().ok())?
        });
        let length = length.ok_or("an answer without content-length")?;
        let body = head + 4..head + 4 + length;
        Ok((bytes.len() >= body.end).then_some(Self { status, body }))
    }

    /// # Errors
    /// Another status, with the beginning of the body.
    pub fn check(&self, wanted: u16, bytes: &[u8]) -> Result<(), String> {
        if self.status == wanted {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&bytes[self.body.clone()]);
        Err(format!("{} instead of {wanted}: {}", self.status, body.chars().take(300).collect::<String>()))
    }
}

pub struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| format!("no connection to {address}: {error}"))?;
        Ok(Self { stream, bytes: Vec::with_capacity(8 << 10) })
    }

    /// Sends a request and reads its answer, which has to have this status; returns the body.
    pub fn ask(&mut self, request: &[u8], wanted: u16) -> Result<&[u8], String> {
        self.stream.write_all(request).map_err(|error| format!("a request can't be sent: {error}"))?;
        self.bytes.clear();
        let mut chunk = [0; 8 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the service closed the connection".to_owned()),
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(format!("no answer: {error}")),
            }
            if let Some(answer) = Answer::parse(&self.bytes)? {
                answer.check(wanted, &self.bytes)?;
                return Ok(&self.bytes[answer.body]);
            }
        }
    }
}

/// Load at a fixed rate, spread over some connections.
pub struct Pace {
    pub connections: usize,
    pub per_second: f64,
    pub length: Duration,
}

/// What the nth request of a load is, and the status it has to get.
pub type Nth<'a> = dyn Fn(usize) -> (&'a [u8], u16) + Sync + 'a;

impl Pace {
    pub fn run(&self, address: SocketAddr, nth: &Nth) -> Result<Histogram, String> {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.connections).map(|first| scope.spawn(move || self.connection(address, first, nth))).collect();
            let mut all = Histogram::default();
            for thread in threads {
                all.merge(&thread.join().expect("a load thread returns its errors")?);
            }
            Ok(all)
        })
    }

    fn connection(&self, address: SocketAddr, first: usize, nth: &Nth) -> Result<Histogram, String> {
        let mut connection = Connection::open(address)?;
        let mut latencies = Histogram::default();
        let interval = Duration::from_secs_f64(self.connections as f64 / self.per_second);
        let (began, mut latest) = (Instant::now(), Duration::ZERO);
        for number in (first..).step_by(self.connections) {
            let due = Duration::from_secs_f64(number as f64 / self.per_second);
            if due >= self.length {
                break;
            }
            let early = due.saturating_sub(began.elapsed());
            std::thread::sleep(early);
            // What had to wait for a slow answer counts from when it was due; a sleep that was too long is ours.
            let held = early.is_zero() && latest > interval;
            let start = if held { began + due } else { Instant::now() };
            let (request, wanted) = nth(number);
            connection.ask(request, wanted)?;
            latest = start.elapsed();
            latencies.record(latest.as_nanos());
        }
        Ok(latencies)
    }
}
