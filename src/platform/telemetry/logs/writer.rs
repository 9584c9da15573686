//! The log writer: a queue bounded in bytes and a thread of its own. A reader of standard output
//! that stops never stops a request (trap 9 of the design): the oldest lines below WARN are
//! dropped and counted.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing::Level;

/// 8 MiB hold about 16,000 lines: seconds of a busy service, and a known share of its memory.
const QUEUE_BYTES: usize = 8 << 20;
/// Lines handed over in one `write(2)`: 40 ns a line instead of 417 (research/performance.md).
const BATCH_BYTES: usize = 64 << 10;
const TICK: Duration = Duration::from_secs(1);
/// How long an ordinary line waits for company.
const LINGER: Duration = Duration::from_millis(5);

struct Line {
    bytes: Box<[u8]>,
    /// WARN and above go last when room is needed.
    important: bool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    bytes: usize,
    writing: bool,
    /// Somebody waits for it, or the line is one to be seen at once.
    urgent: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    dropped: AtomicU64,
}

/// A handle to the writer's queue; cheap to clone.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Starts the thread that writes to `sink`, and calls `tick` about once a second.
    pub fn spawn(sink: Box<dyn Write + Send>, tick: impl Fn() + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Self(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || run(&shared, sink, tick))
            .expect("a thread can be started at boot");
        writer
    }

    /// Queues one line, newline included. Never waits for the sink.
    pub fn write(&self, line: &[u8], level: Level) {
        let mut queue = self.0.queue.lock();
        queue.bytes += line.len();
        queue.lines.push_back(Line { bytes: line.into(), important: level <= Level::WARN });
        while queue.bytes > QUEUE_BYTES {
            let oldest = queue.lines.iter().position(|line| !line.important).unwrap_or(0);
            let Some(line) = queue.lines.remove(oldest) else { break };
            queue.bytes -= line.bytes.len();
            self.0.dropped.fetch_add(1, Relaxed);
        }
        let first = queue.lines.len() == 1;
        let urgent = level <= Level::WARN && !std::mem::replace(&mut queue.urgent, true);
        // Waking a thread costs more than the line: most lines find it woken, and collecting.
        let full = queue.bytes >= BATCH_BYTES && queue.bytes - line.len() < BATCH_BYTES;
        drop(queue);
        if first || urgent || full {
            self.0.filled.notify_one();
        }
    }

    /// Lines lost since the start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Waits until all queued lines are written; `false` when `timeout` passed first.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut queue = self.0.queue.lock();
        queue.urgent = true;
        self.0.filled.notify_one();
        while !queue.lines.is_empty() || queue.writing {
            if self.0.drained.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Writes what is queued, within `timeout`, and ends the thread.
    pub fn close(&self, timeout: Duration) -> bool {
        let flushed = self.flush(timeout);
        self.0.queue.lock().closed = true;
        self.0.filled.notify_one();
        flushed
    }
}

fn run(shared: &Shared, mut sink: Box<dyn Write + Send>, tick: impl Fn()) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut ticked = Instant::now();
    loop {
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            tick();
        }
        let mut queue = shared.queue.lock();
        queue.writing = false;
        if queue.lines.is_empty() {
            shared.drained.notify_all();
            if queue.closed {
                return;
            }
            if shared.filled.wait_for(&mut queue, TICK).timed_out() {
                continue;
            }
        }
        let waits = |queue: &mut Queue| !queue.urgent && !queue.closed && queue.bytes < BATCH_BYTES;
        shared.filled.wait_while_for(&mut queue, waits, LINGER);
        queue.urgent = false;
        batch.clear();
        let mut lines = 0;
        while batch.len() < BATCH_BYTES {
            let Some(line) = queue.lines.pop_front() else { break };
            queue.bytes -= line.bytes.len();
            batch.extend_from_slice(&line.bytes);
            lines += 1;
        }
        queue.writing = true;
        drop(queue);
        // A closed pipe (EPIPE) must not end the service: the lines are lost, and counted.
        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            shared.dropped.fetch_add(lines, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A sink that writes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().map_err(std::io::Error::other)?;
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stopped_reader_costs_the_oldest_info_lines_and_no_warning() {
        let (release, stuck) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::spawn(Box::new(Stuck(stuck, Arc::clone(&written))), || {});
        writer.write(b"warn\n", Level::WARN);
        let line = [b"x".repeat(1023), vec![b'\n']].concat();
        for _ in 0..20_000 {
            writer.write(&line, Level::INFO);
        }
        let queued = writer.0.queue.lock().bytes;
        assert!(queued <= QUEUE_BYTES, "{queued}");
        assert!(writer.dropped() >= 20_000 - (QUEUE_BYTES / 1024) as u64 - 100, "{}", writer.dropped());
        assert!(!writer.flush(Duration::from_millis(50)), "nothing can have been written");
        drop(release);
        assert!(writer.close(Duration::from_secs(5)));
        assert_eq!(writer.dropped(), 20_001, "a dead sink loses the rest, and every loss is counted");
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (release, stuck) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::spawn(Box::new(Stuck(stuck, Arc::clone(&written))), || {});
        (0..100).for_each(|n| writer.write(format!("{n}\n").as_bytes(), Level::INFO));
        (0..100).for_each(|_| release.send(()).expect("the writer lives"));
        assert!(writer.flush(Duration::from_secs(5)));
        let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written.lock()), expected);
        assert_eq!(writer.dropped(), 0);
    }
}
