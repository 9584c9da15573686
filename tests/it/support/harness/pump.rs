//! One direction of a connection through the `proxy`: holds, slows and matches chunks. What happens
//! to whole connections is in `proxy`.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::proxy::{CHUNK, Mode, State};

/// What one direction of a connection holds under [`Mode::Delay`]; then it reads no more.
const DELAYED: usize = 4 * 1024 * 1024;

/// Why a direction ended before its stream did.
pub enum Stop {
    Broken,
    /// With what has still to be forwarded.
    Matched(Vec<u8>),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// A chunk without bytes is the end of the stream.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// One direction of a connection.
pub struct Pump<'a> {
    state: &'a watch::Sender<State>,
    number: u64,
    upwards: bool,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    queue: VecDeque<Chunk>,
    queued: usize,
    ended: bool,
    /// Where a match may have begun.
    tail: Vec<u8>,
    throttled_until: Instant,
}

impl<'a> Pump<'a> {
    pub fn new(
        state: &'a watch::Sender<State>,
        number: u64,
        upwards: bool,
        reader: ReadHalf<'a>,
        writer: WriteHalf<'a>,
    ) -> Self {
        let (queue, tail, throttled_until) = (VecDeque::new(), Vec::new(), Instant::now());
        Self { state, number, upwards, reader, writer, queue, queued: 0, ended: false, tail, throttled_until }
    }

    pub async fn run(mut self) -> Result<(), Stop> {
        let mut states = self.state.subscribe();
        let mut buffer = vec![0; CHUNK];
        loop {
            let state = states.borrow_and_update().clone();
            let talks = !state.silent(self.number);
            let (room, piece) = match state.mode {
                Mode::Delay(_) => (self.queued < DELAYED, CHUNK),
                Mode::Throttle(rate) => {
                    (self.queue.is_empty(), usize::try_from(rate / 20).map_or(CHUNK, |n| n.clamp(1, CHUNK)))
                }
                _ => (self.queue.is_empty(), CHUNK),
            };
            tokio::select! {
                // A new mode holds for bytes that came before it was seen.
                biased;
                _ = states.changed() => {}
                read = self.reader.read(&mut buffer[..piece]), if talks && room && !self.ended => {
                    self.take(&buffer[..read?], &state.mode)?;
                }
                written = write(&mut self.writer, self.queue.front()), if talks && !self.queue.is_empty() => {
                    let (written, front) = (written?, &mut self.queue[0]);
                    front.written += written;
                    self.queued -= written;
                    if front.bytes.is_empty() {
                        return Ok(());
                    }
                    if front.written == front.bytes.len() {
                        self.queue.pop_front();
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8], mode: &Mode) -> Result<(), Stop> {
        self.ended = bytes.is_empty();
        let mut due = Instant::now();
        match mode {
            Mode::Delay(latency) => due += *latency,
            Mode::Throttle(rate) => {
                let takes = Duration::from_secs_f64(bytes.len() as f64 / (*rate).max(1) as f64);
                self.throttled_until = due.max(self.throttled_until) + takes;
                due = self.throttled_until;
            }
            Mode::CutOn(pattern) if self.upwards => {
                self.tail.extend_from_slice(bytes);
                let found = self.tail.windows(pattern.len()).any(|window| window.eq_ignore_ascii_case(pattern));
                if found && self.claim() {
                    return Err(Stop::Matched(bytes.to_vec()));
                }
                self.tail.drain(..self.tail.len().saturating_sub(pattern.len() - 1));
            }
            Mode::Swallow if !self.upwards && !self.ended => return Ok(()),
            _ => self.tail.clear(),
        }
        self.queued += bytes.len();
        self.queue.push_back(Chunk { due, bytes: bytes.to_vec(), written: 0 });
        Ok(())
    }

    /// Whether this connection is the first.
    fn claim(&self) -> bool {
        self.state.send_if_modified(|state| {
            let armed = matches!(state.mode, Mode::CutOn(_));
            if armed {
                state.mode = Mode::Pass;
            }
            armed
        })
    }
}

/// Can be dropped at any time: it waits, then writes once.
async fn write(writer: &mut WriteHalf<'_>, chunk: Option<&Chunk>) -> io::Result<usize> {
    let chunk = chunk.expect("asked for only when there is one");
    if chunk.due > Instant::now() {
        sleep_until(chunk.due).await;
    }
    if chunk.bytes.is_empty() {
        return writer.shutdown().await.map(|()| 0);
    }
    writer.write(&chunk.bytes[chunk.written..]).await
}
