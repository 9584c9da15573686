//! The queue between a signal and its exporter: bounded in bytes and in number, emptied by a thread
//! with a runtime of its own, every loss counted by its reason. Whoever adds to it never waits.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// What one signal may keep, and how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub queue_items: usize,
    pub queue_bytes: usize,
    pub batch_items: usize,
    /// Longest time something waits for company.
    pub delay: Duration,
    pub export_timeout: Duration,
    /// Exports under way at once: a receiver that is far must not be asked one batch at a time.
    pub concurrency: usize,
}

impl Limits {
    /// A full batch, or half the room taken by fewer, larger things.
    fn is_worth_sending<T>(&self, state: &State<T>) -> bool {
        state.items.len() >= self.batch_items || state.bytes >= self.queue_bytes / 2
    }
}

/// What became of one signal since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub exported: AtomicU64,
    pub queue_full: AtomicU64,
    pub export_failed: AtomicU64,
    pub shutdown: AtomicU64,
    /// Batches, not items.
    pub failures: AtomicU64,
}

impl Counts {
    /// Losses by reason.
    pub fn dropped(&self) -> [(&'static str, u64); 3] {
        [("queue_full", &self.queue_full), ("export_failed", &self.export_failed), ("shutdown", &self.shutdown)]
            .map(|(reason, count)| (reason, count.load(Relaxed)))
    }
}

/// The other end of the queue.
pub trait Export<T>: 'static {
    /// # Errors
    /// Why the whole batch is lost.
    fn export(&self, batch: Vec<T>) -> impl Future<Output = Result<(), String>>;
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    in_flight: usize,
    flush: bool,
    closed: bool,
    /// The deadline of the shutdown has passed: what is left has been counted.
    abandoned: bool,
}

struct Shared<T> {
    name: String,
    complained: Mutex<Option<Instant>>,
    state: Mutex<State<T>>,
    limits: Limits,
    counts: Arc<Counts>,
    wake: Notify,
    drained: Condvar,
}

const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// A handle to the queue. Cheap to clone.
pub struct Batcher<T>(Arc<Shared<T>>);

impl<T> Clone for Batcher<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts the thread; `build` runs on it, inside the runtime its connections will live in. On the
    /// main runtime a pod with a single worker would deadlock (opentelemetry-rust#2715).
    ///
    /// # Errors
    /// What `build` says, or why there is no thread.
    pub fn spawn<E: Export<T>>(
        name: &str,
        limits: Limits,
        counts: Arc<Counts>,
        build: impl FnOnce() -> Result<E, String> + Send + 'static,
    ) -> Result<Self, String> {
        let state =
            State { items: VecDeque::new(), bytes: 0, in_flight: 0, flush: false, closed: false, abandoned: false };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            complained: Mutex::new(None),
            state: Mutex::new(state),
            limits,
            counts,
            wake: Notify::new(),
            drained: Condvar::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the export runtime can't be started: {error}"))?;
        let (built, outcome) = std::sync::mpsc::channel();
        let queue = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                step_back();
                runtime.block_on(async move {
                    match build() {
                        Ok(exporter) => {
                            let _ = built.send(Ok(()));
                            run(&queue, exporter).await;
                        }
                        Err(why) => drop(built.send(Err(why))),
                    }
                });
            })
            .map_err(|error| format!("the export thread can't be started: {error}"))?;
        outcome.recv().map_err(|_| "the export thread ended before it began".to_owned())??;
        Ok(Self(shared))
    }

    /// Queues one item of about `bytes`, or counts it as lost.
    /// Whether it was queued.
    pub fn push(&self, bytes: usize, item: T) -> bool {
        let Shared { state, limits, counts, wake, .. } = &*self.0;
        let mut state = state.lock();
        if state.closed || state.items.len() >= limits.queue_items || state.bytes + bytes > limits.queue_bytes {
            let count = if state.closed { &counts.shutdown } else { &counts.queue_full };
            count.fetch_add(1, Relaxed);
            return false;
        }
        let before = limits.is_worth_sending(&state);
        state.items.push_back((bytes, item));
        state.bytes += bytes;
        let worth_sending = !before && limits.is_worth_sending(&state);
        drop(state);
        if worth_sending {
            wake.notify_one();
        }
        true
    }

    pub fn queued_bytes(&self) -> usize {
        self.0.state.lock().bytes
    }

    /// Sends what is queued; `false` when `timeout` passed first.
    pub fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.0.state.lock();
        state.flush = true;
        self.0.wake.notify_one();
        let deadline = Instant::now() + timeout;
        while !state.items.is_empty() || state.in_flight > 0 {
            if self.0.drained.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Sends what is queued, within `timeout`, and ends the thread. What is left counts as lost.
    pub fn close(&self, timeout: Duration) -> bool {
        self.0.state.lock().closed = true;
        if self.flush(timeout) {
            return true;
        }
        let mut state = self.0.state.lock();
        if std::mem::replace(&mut state.abandoned, true) {
            return false;
        }
        let lost = state.items.len() + state.in_flight;
        state.items.clear();
        self.0.counts.shutdown.fetch_add(lost as u64, Relaxed);
        false
    }
}

/// A batch is a millisecond of work: it must not stand before a request that is due on the same core.
/// Only Linux gives a thread a priority of its own.
#[cfg(not(target_os = "linux"))]
const fn step_back() {}

#[cfg(target_os = "linux")]
fn step_back() {
    // Low enough to yield, high enough to keep up where one core has to do for all.
    const NICE: i32 = 5;
    let _unchanged = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

async fn run<T, E: Export<T>>(shared: &Shared<T>, exporter: E) {
    let mut under_way = FuturesUnordered::new();
    let mut due = false;
    loop {
        while under_way.len() < shared.limits.concurrency
            && let Some(batch) = shared.take(due)
        {
            under_way.push(shared.export(&exporter, batch));
        }
        due = false;
        if under_way.is_empty() && shared.is_over() {
            return;
        }
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(shared.limits.delay) => due = true,
            Some(()) = under_way.next() => {}
        }
    }
}

impl<T> Shared<T> {
    /// The next batch, if there is a full one, or one that may wait no longer.
    fn take(&self, due: bool) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        let waits = !due && !state.flush && !state.closed && !self.limits.is_worth_sending(&state);
        if waits || state.items.is_empty() {
            return None;
        }
        let most = self.limits.batch_items.min(state.items.len());
        let taken: Vec<(usize, T)> = state.items.drain(..most).collect();
        state.bytes -= taken.iter().map(|(bytes, _)| bytes).sum::<usize>();
        state.in_flight += taken.len();
        Some(taken.into_iter().map(|(_, item)| item).collect())
    }

    async fn export<E: Export<T>>(&self, exporter: &E, batch: Vec<T>) {
        let size = batch.len();
        // A panic loses its batch; without this it would lose the signal.
        let export = AssertUnwindSafe(exporter.export(batch)).catch_unwind();
        let result = match tokio::time::timeout(self.limits.export_timeout, export).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("the exporter panicked".to_owned()),
            Err(_) => Err("no end within the export timeout".to_owned()),
        };
        let mut state = self.state.lock();
        state.in_flight -= size;
        let counted = state.abandoned;
        drop(state);
        match result {
            Ok(()) if counted => {}
            Ok(()) => drop(self.counts.exported.fetch_add(size as u64, Relaxed)),
            Err(error) => {
                self.counts.failures.fetch_add(1, Relaxed);
                if !counted {
                    self.counts.export_failed.fetch_add(size as u64, Relaxed);
                }
                self.complain(&error, size);
            }
        }
    }

    /// Says why, but not every time: a collector that is away is away for many batches.
    fn complain(&self, error: &str, lost: usize) {
        let mut complained = self.complained.lock();
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            tracing::warn!(signal = self.name, error, lost, "telemetry_export_failed");
        }
    }

    /// Tells who waits that all is sent; whether nothing will come any more.
    fn is_over(&self) -> bool {
        let mut state = self.state.lock();
        if state.items.is_empty() {
            state.flush = false;
            self.drained.notify_all();
        }
        state.closed && state.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: Limits = Limits {
        queue_items: 10,
        queue_bytes: 100,
        batch_items: 4,
        delay: Duration::from_secs(3_600),
        export_timeout: Duration::from_secs(5),
        concurrency: 1,
    };

    /// Hands each batch over, and answers as told.
    struct Told(mpsc::Sender<Vec<u32>>, tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Result<(), String>>>);

    impl Export<u32> for Told {
        async fn export(&self, batch: Vec<u32>) -> Result<(), String> {
            let _ = self.0.send(batch);
            self.1.lock().await.recv().await.unwrap_or(Err("nobody tells".to_owned()))
        }
    }

    fn push_all(batcher: &Batcher<u32>, items: std::ops::Range<u32>) {
        for item in items {
            batcher.push(1, item);
        }
    }

    type Harness = (Batcher<u32>, Arc<Counts>, mpsc::Receiver<Vec<u32>>, tokio::sync::mpsc::Sender<Result<(), String>>);

    fn harness(limits: Limits) -> Harness {
        let (seen, batches) = mpsc::channel();
        let (tell, told) = tokio::sync::mpsc::channel(100);
        let counts = Arc::new(Counts::default());
        let batcher =
            Batcher::spawn("test", limits, Arc::clone(&counts), move || Ok(Told(seen, tokio::sync::Mutex::new(told))))
                .unwrap();
        (batcher, counts, batches, tell)
    }

    #[test]
    fn a_full_batch_leaves_at_once_and_a_rest_at_the_flush() {
        let (batcher, counts, batches, tell) = harness(LIMITS);
        push_all(&batcher, 0..5);
        (0..2).for_each(|_| tell.blocking_send(Ok(())).unwrap());
        assert_eq!(batches.recv_timeout(Duration::from_secs(5)).unwrap(), [0, 1, 2, 3]);
        assert!(batcher.flush(Duration::from_secs(5)));
        assert_eq!(batches.recv_timeout(Duration::from_secs(5)).unwrap(), [4]);
        assert_eq!((counts.exported.load(Relaxed), batcher.queued_bytes()), (5, 0));
    }

    #[test]
    fn every_item_is_exported_or_counted_by_its_reason() {
        let (batcher, counts, batches, tell) = harness(LIMITS);
        push_all(&batcher, 0..4);
        batches.recv_timeout(Duration::from_secs(5)).unwrap();
        // One batch is under way and not answered: ten more fit by number, nine of them by size.
        push_all(&batcher, 0..8);
        batcher.push(92, 8);
        batcher.push(1, 9);
        push_all(&batcher, 10..13);
        assert_eq!(counts.dropped(), [("queue_full", 4), ("export_failed", 0), ("shutdown", 0)]);
        tell.blocking_send(Err("no".to_owned())).unwrap();
        batches.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(!batcher.close(Duration::from_millis(50)), "the second batch is never answered");
        batcher.push(1, 99);
        assert_eq!(counts.dropped(), [("queue_full", 4), ("export_failed", 4), ("shutdown", 10)]);
        assert_eq!(counts.failures.load(Relaxed), 1);
        assert_eq!(counts.exported.load(Relaxed) + 18, 18, "18 went in, 18 are accounted for");
    }

    #[test]
    fn a_slow_receiver_is_asked_several_batches_at_a_time() {
        let (batcher, counts, batches, tell) = harness(Limits { concurrency: 2, ..LIMITS });
        push_all(&batcher, 0..8);
        for _ in 0..2 {
            assert_eq!(batches.recv_timeout(Duration::from_secs(5)).unwrap().len(), 4, "before any answer");
        }
        (0..2).for_each(|_| tell.blocking_send(Ok(())).unwrap());
        assert!(batcher.close(Duration::from_secs(5)));
        assert_eq!(counts.exported.load(Relaxed), 8);
    }

    #[test]
    fn an_exporter_that_panics_loses_its_batch_and_goes_on() {
        struct Once(std::sync::atomic::AtomicBool);
        impl Export<u32> for Once {
            async fn export(&self, _: Vec<u32>) -> Result<(), String> {
                assert!(self.0.swap(true, Relaxed), "the first batch");
                Ok(())
            }
        }
        let counts = Arc::new(Counts::default());
        let batcher = Batcher::spawn("test", LIMITS, Arc::clone(&counts), || Ok(Once(false.into()))).unwrap();
        push_all(&batcher, 0..4);
        assert!(batcher.flush(Duration::from_secs(5)));
        batcher.push(1, 4);
        assert!(batcher.close(Duration::from_secs(5)));
        assert_eq!((counts.dropped()[1].1, counts.exported.load(Relaxed)), (4, 1));
    }

    #[test]
    fn large_things_leave_before_their_number_makes_a_batch() {
        let (batcher, counts, batches, tell) = harness(LIMITS);
        tell.blocking_send(Ok(())).unwrap();
        batcher.push(60, 1);
        assert_eq!(batches.recv_timeout(Duration::from_secs(5)).unwrap(), [1]);
        assert!(batcher.close(Duration::from_secs(5)));
        assert_eq!(counts.exported.load(Relaxed), 1);
    }

    #[test]
    fn an_exporter_that_hangs_loses_its_batch_after_the_timeout_and_no_more() {
        let (batcher, counts, batches, _tell) = harness(Limits { export_timeout: Duration::from_millis(50), ..LIMITS });
        push_all(&batcher, 0..4);
        batches.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(batcher.close(Duration::from_secs(5)));
        assert_eq!(counts.dropped(), [("queue_full", 0), ("export_failed", 4), ("shutdown", 0)]);
    }
}
