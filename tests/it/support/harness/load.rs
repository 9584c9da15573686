//! A load of HTTP/1.1 requests in which each one is accounted for. The exchange itself is in
//! `exchange`, the account in `report`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    exchange::{Connection, connect},
    report::{Failure, Outcome, Report},
};

/// After a failed connect in a closed loop: a port where nobody listens fails in microseconds, and
/// would be most of the requests.
const PAUSE: Duration = Duration::from_millis(5);
/// Timers tick in milliseconds: that much is not the server's.
const TICK: Duration = Duration::from_millis(2);

/// Where requests go and what they are.
#[derive(Clone)]
pub struct Target {
    address: Arc<dyn Fn() -> SocketAddr + Send + Sync>,
    request: Arc<dyn Fn(u64) -> Arc<[u8]> + Send + Sync>,
}

impl Target {
    pub fn new(address: SocketAddr, request: impl Into<Arc<[u8]>>) -> Self {
        let request = request.into();
        Self { address: Arc::new(move || address), request: Arc::new(move |_| Arc::clone(&request)) }
    }

    /// Another request each time, by its number from 0.
    pub fn each(address: SocketAddr, request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self { address: Arc::new(move || address), request: Arc::new(move |number| request(number).into()) }
    }

    /// Asks for the address before each connect.
    #[must_use]
    pub fn at(mut self, address: impl Fn() -> SocketAddr + Send + Sync + 'static) -> Self {
        self.address = Arc::new(address);
        self
    }
}

/// A request whose outcome is known, for [`Load::inspect`].
pub struct Seen<'a> {
    pub number: u64,
    pub outcome: Outcome,
    /// As far as it came.
    pub body: &'a [u8],
}

type Inspect = Arc<dyn Fn(&Seen<'_>) + Send + Sync>;

/// When no more requests are started. Those on their way are waited for.
#[derive(Clone, Debug)]
pub enum Until {
    Elapsed(Duration),
    Count(u64),
    Cancelled(CancellationToken),
}

/// The settings of a load.
#[derive(Clone)]
pub struct Load {
    target: Target,
    connections: usize,
    rate: Option<f64>,
    per_connection: u32,
    timeout: Duration,
    local: Option<Ipv4Addr>,
    retry_idle: bool,
    inspect: Option<Inspect>,
}

impl Load {
    /// One connection that stays, in a closed loop, five seconds for each request.
    pub fn new(target: Target) -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            target,
            connections: 1,
            rate: None,
            per_connection: u32::MAX,
            timeout,
            local: None,
            retry_idle: false,
            inspect: None,
        }
    }

    /// So many requests at the same time, at most.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Requests per second at fixed times, however slow the answers are; latencies count from those
    /// times. Without it, a request follows an answer at once.
    #[must_use]
    pub fn rate(self, rate: impl Into<Option<f64>>) -> Self {
        Self { rate: rate.into(), ..self }
    }

    #[must_use]
    pub fn keep_alive(self, keep_alive: bool) -> Self {
        self.requests_per_connection(if keep_alive { u32::MAX } else { 1 })
    }

    #[must_use]
    pub fn requests_per_connection(self, per_connection: u32) -> Self {
        Self { per_connection, ..self }
    }

    /// Of a request from its begin, which is later than its scheduled time when none was free; with
    /// the connect if it needs one.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Connects from here, such as 127.0.0.2.
    #[must_use]
    pub fn local_address(self, local: impl Into<Option<Ipv4Addr>>) -> Self {
        Self { local: local.into(), ..self }
    }

    /// Repeats a request once, on a new connection, when the one it was sent on had been used before
    /// and ended without a byte of an answer. Clients do so for idempotent requests.
    #[must_use]
    pub fn retry_idle(self, retry_idle: bool) -> Self {
        Self { retry_idle, ..self }
    }

    /// Shows each outcome; only then are bodies kept.
    #[must_use]
    pub fn inspect(self, inspect: impl Fn(&Seen<'_>) + Send + Sync + 'static) -> Self {
        Self { inspect: Some(Arc::new(inspect)), ..self }
    }

    pub async fn run_for(self, time: Duration) -> Report {
        self.start(Until::Elapsed(time)).join().await
    }

    pub async fn run_count(self, count: u64) -> Report {
        self.start(Until::Count(count)).join().await
    }

    pub fn start(self, until: Until) -> Running {
        let report = Report::new();
        let (limit, stop, time) = match until {
            Until::Count(count) => (count, CancellationToken::new(), None),
            Until::Elapsed(time) => {
                let due = self.rate.map(|rate| (time.as_secs_f64() * rate).ceil() as u64);
                (due.unwrap_or(u64::MAX), CancellationToken::new(), Some(time))
            }
            Until::Cancelled(token) => (u64::MAX, token.child_token(), None),
        };
        let shared = Arc::new(Shared {
            started: report.started,
            report: Mutex::new(report),
            load: self,
            limit,
            next: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            stop: stop.clone(),
            stopped: OnceLock::new(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..shared.load.connections {
            tasks.spawn(Arc::clone(&shared).work());
        }
        if let Some(time) = time {
            let (token, end) = (stop, shared.started + time);
            tasks.spawn(async move {
                let _stopped_before = timeout(end.saturating_duration_since(Instant::now()), token.cancelled()).await;
                token.cancel();
            });
        }
        Running { shared, tasks }
    }
}

/// A load under way; dropping it abandons the requests.
pub struct Running {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Running {
    /// The account so far.
    pub fn report(&self) -> Report {
        let mut report = self.shared.report.lock().clone();
        report.elapsed = report.started.elapsed();
        report
    }

    /// Reads the account so far without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.shared.report.lock())
    }

    /// Starts no more requests and waits for those on their way.
    pub async fn stop(self) -> Report {
        self.shared.stop.cancel();
        self.join().await
    }

    pub async fn join(mut self) -> Report {
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let mut report = self.report();
        if let (Some(rate), Some(stopped)) = (self.shared.load.rate, self.shared.stopped.get()) {
            let due = (stopped.saturating_duration_since(report.started).as_secs_f64() * rate).ceil() as u64;
            report.unsent = due.min(self.shared.limit).saturating_sub(self.shared.sent.load(SeqCst));
        }
        report
    }
}

struct Shared {
    report: Mutex<Report>,
    load: Load,
    started: Instant,
    limit: u64,
    next: AtomicU64,
    sent: AtomicU64,
    stop: CancellationToken,
    stopped: OnceLock<Instant>,
}

impl Shared {
    async fn work(self: Arc<Self>) {
        let (mut connection, mut body) = (None, Vec::new());
        loop {
            let number = self.next.fetch_add(1, SeqCst);
            if number >= self.limit {
                return;
            }
            let Some(begin) = self.turn(number).await else {
                self.stopped.get_or_init(Instant::now);
                return;
            };
            self.sent.fetch_add(1, SeqCst);
            let request = (self.load.target.request)(number);
            body.clear();
            let exchange = self.exchange(&mut connection, &request, &mut body);
            let outcome = match timeout(self.load.timeout, exchange).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    connection = None;
                    Outcome::Failed(Failure::Timeout)
                }
            };
            let now = Instant::now();
            let latency = now - begin;
            self.report.lock().record(outcome, latency, now);
            if let Some(inspect) = &self.load.inspect {
                inspect(&Seen { number, outcome, body: &body });
            }
            if outcome == Outcome::Failed(Failure::Connect) && self.load.rate.is_none() {
                sleep(PAUSE).await;
            }
        }
    }

    /// Waits for the time of a request; says from when its latency counts.
    async fn turn(&self, number: u64) -> Option<Instant> {
        let Some(rate) = self.load.rate else { return (!self.stop.is_cancelled()).then(Instant::now) };
        let scheduled = self.started + Duration::from_secs_f64(number as f64 / rate);
        let early = scheduled > Instant::now();
        if early {
            self.stop.run_until_cancelled(sleep_until(scheduled.into())).await?;
        } else if self.stop.is_cancelled() {
            return None;
        }
        let now = Instant::now();
        Some(if early && now - scheduled < TICK { now } else { scheduled })
    }

    async fn exchange(&self, kept: &mut Option<Connection>, request: &[u8], body: &mut Vec<u8>) -> Outcome {
        let load = &self.load;
        if kept.as_ref().is_some_and(Connection::is_stale) {
            *kept = None;
            self.report.lock().stale += 1;
        }
        loop {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => connection,
                    Err(failure) => return Outcome::Failed(failure),
                },
            };
            let into = load.inspect.is_some().then_some(&mut *body);
            match connection.exchange(request, into).await {
                Ok(answered) => {
                    if answered.reusable && connection.served < load.per_connection {
                        *kept = Some(connection);
                    }
                    return Outcome::Ok(answered.status);
                }
                Err(unanswered) if load.retry_idle && unanswered.silent && connection.served > 0 => {
                    self.report.lock().retries += 1;
                }
                Err(unanswered) => return Outcome::Failed(unanswered.failure),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = connect((self.load.target.address)(), self.load.local);
        // A little before the request's own timeout: nothing was sent, and the kind says so.
        let within = self.load.timeout.mul_f64(0.95);
        let stream = timeout(within, connecting).await.ok().and_then(Result::ok).ok_or(Failure::Connect)?;
        self.report.lock().connections += 1;
        Ok(Connection::new(stream))
    }
}
