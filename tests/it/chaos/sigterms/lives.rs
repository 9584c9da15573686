//! The lives that a SIGTERM ends: what the process does at that moment, and how it should end.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    super::fleet::{Fleet, Instance, SOON, random},
    SIGTERM,
};
use crate::support::{
    eventually,
    harness::{Failure, Load, Mode, Outcome, Proxy, Target, Until, exchange, get, load::Running, post},
    process::Service,
};

/// What the process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Starting,
    Idle,
    Loaded,
    /// At the drain of a SIGTERM just before.
    Draining,
    /// With a request that is longer than the drain may be.
    Overrun,
}

/// How it ended.
#[derive(Debug)]
pub struct End {
    life: Life,
    /// When it was signalled: since exec for one that starts, else since all was under way.
    pub moment: Duration,
    pub took: Duration,
    pub status: ExitStatus,
    /// Whether there was anything a client could have reached.
    listened: bool,
    /// Answers that came whole,
    pub answered: u64,
    /// but were none of success.
    pub other: u64,
    /// Answers that ended in the middle, and requests from before the signal that have none.
    pub cut: u64,
    /// Connections closed without a byte, of requests that came after the signal.
    pub unanswered: u64,
}

impl End {
    /// Ended by the signal's default action: the handler was not there yet, nor anything else.
    pub fn is_unheard(&self) -> bool {
        self.life == Life::Starting && self.status.signal() == Some(SIGTERM) && !self.listened
    }

    pub fn is_right(&self) -> bool {
        match self.life {
            Life::Starting => self.status.code() == Some(0) || self.is_unheard(),
            Life::Idle | Life::Loaded => self.status.code() == Some(0),
            // A second signal ends the wait, unless it came in one with the first or after the end of the drain.
            Life::Draining => matches!(self.status.code(), Some(0 | 3)),
            Life::Overrun => self.status.code() == Some(3),
        }
    }
}

/// What became of the requests of one life.
#[derive(Default)]
struct Answers {
    whole: u64,
    other: u64,
    cut: u64,
    unanswered: u64,
}

impl Life {
    pub fn of(number: usize) -> Self {
        [
            Self::Starting,
            Self::Loaded,
            Self::Idle,
            Self::Starting,
            Self::Draining,
            Self::Loaded,
            Self::Overrun,
            Self::Starting,
        ][number % 8]
    }

    pub async fn live(self, fleet: Arc<Fleet>, key: String, start: Duration) -> End {
        let mut variables = fleet.variables.clone();
        if self == Self::Overrun {
            variables.insert("APP__LIFECYCLE__DRAIN_TIMEOUT".to_owned(), "300ms".to_owned());
        }
        let (moment, mut began) = (random(if self == Self::Starting { start } else { start / 3 }), Instant::now());
        let mut process = Service::serve(&variables);
        let mut clients = None;
        if self != Self::Starting {
            let instance = Instance::of(process).await;
            instance.ready().await;
            clients = Some(self.clients(&instance, &key).await);
            process = instance.process;
            began = Instant::now();
        }
        sleep(moment.saturating_sub(began.elapsed())).await;
        process.signal("TERM");
        let (asked, moment) = (Instant::now(), began.elapsed());
        if self == Self::Draining {
            sleep(random(super::DRAIN_DELAY)).await;
            process.signal("TERM");
        }
        let status = process.status(SOON).await;
        let took = asked.elapsed();
        let answers = match clients {
            Some(clients) => clients.end().await,
            None => Answers::default(),
        };
        let listened = process.lines().iter().any(|line| line["message"] == "service_starting");
        let Answers { whole, other, mut cut, mut unanswered } = answers;
        if self == Self::Overrun {
            // Of the request that is too long, which is cut on purpose.
            (cut, unanswered) = (0, 0);
        }
        End { life: self, moment, took, status, listened, answered: whole, other, cut, unanswered }
    }

    async fn clients(self, instance: &Instance, key: &str) -> Clients {
        match self {
            Self::Loaded => Clients::busy(instance, key).await,
            Self::Overrun => Clients::endless(instance, key).await,
            _ => Clients::idle(instance, key).await,
        }
    }
}

/// Those who are connected when the signal comes.
struct Clients {
    load: Running,
    stop: CancellationToken,
    /// Requests begun before the signal.
    early: JoinSet<Outcome>,
    _proxies: Vec<Proxy>,
}

impl Clients {
    /// Connections that were used and stay.
    async fn idle(instance: &Instance, key: &str) -> Self {
        let target = Target::new(instance.public, get("/v1/tenant", key, "keel"));
        // One in two seconds on each: it is idle at the signal, or just not.
        let clients = Self::of(Load::new(target).connections(4).rate(2.0));
        eventually("a used connection", || async { clients.load.look(|report| report.ok() > 0).then_some(()) }).await;
        clients
    }

    /// Many short requests, and slow uploads and large downloads that last about a second.
    async fn busy(instance: &Instance, key: &str) -> Self {
        let target = Target::new(instance.public, get("/v1/tenant", key, "keel"));
        let mut clients = Self::of(Load::new(target).connections(8));
        let (up, down) = (Proxy::start(instance.public).await, Proxy::start(instance.public).await);
        up.set(Mode::Throttle(40_000));
        down.set(Mode::Throttle(1_000_000));
        for _ in 0..4 {
            clients.early.spawn(crate::shop::chaos::upload(up.address, key.to_owned()));
            let down = down.address;
            let download = get("/docs/assets/swagger-ui-bundle.js", key, "keel");
            clients.early.spawn(async move { exchange::once(down, &download, SOON).await.0 });
        }
        clients._proxies = vec![up, down];
        eventually("answers", || async { clients.load.look(|report| report.ok() > 0).then_some(()) }).await;
        clients
    }

    /// A request that is cut at the deadline, as it must be.
    async fn endless(instance: &Instance, key: &str) -> Self {
        let target = Target::new(instance.public, post("/v1/faults/sleep?ms=4500", key, "", &[]));
        let clients = Self::of(Load::new(target).connections(1));
        eventually("a request at work", || async {
            (instance.metric("http_server_active_requests", &[]).await > 0.0).then_some(())
        })
        .await;
        clients
    }

    fn of(load: Load) -> Self {
        let stop = CancellationToken::new();
        let load = load.start(Until::Cancelled(stop.clone()));
        Self { load, stop, early: JoinSet::new(), _proxies: Vec::new() }
    }

    async fn end(mut self) -> Answers {
        self.stop.cancel();
        let report = self.load.join().await;
        let mut answers = Answers::default();
        let failed = |failure: Failure| report.failures.get(failure.name()).copied().unwrap_or_default();
        answers.whole = report.ok();
        answers.other = report.answers.values().sum::<u64>() - report.ok();
        answers.unanswered = failed(Failure::Eof) + failed(Failure::Reset);
        // Refused connections are what is left; all else is an answer that is wrong or not whole.
        answers.cut = report.total() - answers.whole - answers.other - answers.unanswered - failed(Failure::Connect);
        while let Some(outcome) = self.early.join_next().await {
            match outcome.unwrap() {
                Outcome::Ok(200 | 201) => answers.whole += 1,
                Outcome::Ok(_) => answers.other += 1,
                Outcome::Failed(_) => answers.cut += 1,
            }
        }
        answers
    }
}
