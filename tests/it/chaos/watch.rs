//! Clients that ask the same thing again and again and keep each answer with its code and its `Retry-After`, which
//! `Load` does not look at. They are few; for load and for latencies there is the harness.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Row;
use crate::support::{client::Client, eventually};

/// Between an answer and the next question of a client.
const PAUSE: Duration = Duration::from_millis(5);
/// So long without a failure is normal again.
const CALM: Duration = Duration::from_secs(1);

/// What fails for longer does not recover.
const PATIENCE: Duration = Duration::from_secs(25);

/// One answer; status 0 is none.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub took: Duration,
    pub status: u16,
    pub code: String,
    pub can_retry: bool,
}

impl Seen {
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let asked = Instant::now();
        // Much longer than any deadline of the service: what takes so long hangs.
        let answer = request.timeout(Duration::from_secs(20)).send().await;
        let (status, can_retry, text) = match answer {
            Err(_) => (0, false, String::new()),
            Ok(answer) => {
                let (status, retry) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
                (status, retry, answer.text().await.unwrap_or_default())
            }
        };
        let problem = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or_default().to_owned();
        Self { at: Instant::now(), took: asked.elapsed(), status, code, can_retry }
    }

    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Nothing else is an answer to a fault: try again, and when.
    fn is_refusal(&self) -> bool {
        (self.status == 503 || self.code == "database_tenant_share") && self.can_retry
    }
}

/// Clients at work until stopped.
pub struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Watch {
    pub fn start(clients: usize, ask: impl Fn() -> reqwest::RequestBuilder + Send + Sync + 'static) -> Self {
        let mut watch = Self { seen: Arc::default(), stop: CancellationToken::new(), clients: JoinSet::new() };
        let ask = Arc::new(ask);
        for _ in 0..clients {
            let (ask, seen, stop) = (Arc::clone(&ask), Arc::clone(&watch.seen), watch.stop.clone());
            watch.clients.spawn(async move {
                while !stop.is_cancelled() {
                    let answer = Seen::of(ask()).await;
                    seen.lock().push(answer);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        watch
    }

    /// The same with a GET.
    pub fn get(clients: usize, client: &Client, path: &str, key: &str) -> Self {
        let (client, path, key) = (client.clone(), path.to_owned(), key.to_owned());
        Self::start(clients, move || client.request(reqwest::Method::GET, &path, &key))
    }

    /// How long after `end` the first success came and the last failure; waits until nothing has failed for a second.
    pub async fn recovery(&self, end: Instant) -> Recovery {
        let seen = || Answers(self.seen.lock().iter().filter(|answer| answer.at >= end).cloned().collect());
        eventually("a second of successes after the fault", || async {
            assert!(end.elapsed() < PATIENCE, "still failing after {PATIENCE:?}: {}", seen().summary());
            let seen = self.seen.lock();
            let after = || seen.iter().filter(|answer| answer.at >= end);
            let first = after().filter(|answer| answer.is_ok()).map(|answer| answer.at).min()?;
            let last = after().filter(|answer| !answer.is_ok()).map(|answer| answer.at).max();
            let since = last.unwrap_or(end).max(first);
            (since.elapsed() >= CALM).then(|| Recovery {
                first: first - end,
                all: last.map_or(first - end, |last| (last - end).max(first - end)),
            })
        })
        .await
    }

    pub async fn stop(mut self) -> Answers {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        Answers(self.seen.lock().clone())
    }
}

/// From the end of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// To the first success.
    pub first: Duration,
    /// To the last failure, after which all succeeded.
    pub all: Duration,
}

/// All that was answered.
pub struct Answers(pub Vec<Seen>);

impl Answers {
    pub fn ok(&self) -> usize {
        self.0.iter().filter(|answer| answer.is_ok()).count()
    }

    /// What was neither a success nor a refusal.
    pub fn wrong(&self) -> usize {
        self.0.iter().filter(|answer| !answer.is_ok() && !answer.is_refusal()).count()
    }

    pub fn slowest(&self) -> Duration {
        self.0.iter().map(|answer| answer.took).max().unwrap_or_default()
    }

    /// Counts of successes and of each refusal, and the longest wait.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::<String, usize>::new();
        for answer in self.0.iter().filter(|answer| !answer.is_ok()) {
            *counts.entry(format!("{} {}", answer.status, answer.code)).or_default() += 1;
        }
        let failures: String = counts.iter().map(|(what, count)| format!(", {count} × {what}")).collect();
        format!("{} ok{failures}; slowest {:.2} s", self.ok(), self.slowest().as_secs_f64())
    }
}

/// What is asked of a fault after which the service has to come back.
pub struct Goal {
    pub first: Duration,
    pub answer: Duration,
}

impl Goal {
    /// A test among many on a busy machine is late by itself.
    pub fn seconds(full: bool, first: u64, answer: u64) -> Self {
        let slack = if full { 1 } else { 10 };
        Self {
            first: Duration::from_secs(if full { first } else { first + slack }),
            answer: Duration::from_secs(answer + slack),
        }
    }

    pub fn row(&self, number: &'static str, fault: &str, answers: &Answers, recoveries: &[Recovery]) -> Row {
        let most = |of: fn(&Recovery) -> Duration| recoveries.iter().map(of).max().unwrap_or_default();
        let (first, all) = (most(|recovery| recovery.first), most(|recovery| recovery.all));
        let held = answers.wrong() == 0 && answers.slowest() <= self.answer && first <= self.first;
        Row {
            number,
            fault: fault.to_owned(),
            expected: format!(
                "each answer ≤ {} s, failures only as 503, or 429 past the tenant's part, with Retry-After; first success ≤ {} s",
                self.answer.as_secs(),
                self.first.as_secs()
            ),
            seen: answers.summary(),
            recovery: format!("first success {:.2} s, all from {:.2} s", first.as_secs_f64(), all.as_secs_f64()),
            held,
        }
    }
}
