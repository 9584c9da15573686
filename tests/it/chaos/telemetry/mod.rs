//! Row 6: the collector, Sentry and the reader of standard output gone, silent or slow. Two processes stand beside
//! each other, one of which has the fault, and are asked in turns: what both suffer is the machine's.

mod receivers;
mod stdout;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Row;
use crate::support::{
    client::Client,
    eventually,
    harness::{Load, Target},
    process::{self, Service, run, text},
    services,
};

const MIB: f64 = 1024.0 * 1024.0;

/// A database with a tenant, for both processes.
struct World {
    database: String,
    variables: BTreeMap<String, String>,
    key: String,
}

impl World {
    async fn new() -> Self {
        let database = services::database().await;
        let mut variables = process::settings(&database);
        variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
        assert!(run(&["tenant", "create", "acme"], &variables).status.success());
        let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "chaos"], &variables);
        let key = text(&key.stdout).trim().to_owned();
        Self { database, variables, key }
    }

    fn with(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut variables = self.variables.clone();
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        variables
    }

    /// A process whose lines are read.
    async fn serve(&self, more: &[(&str, &str)]) -> (Service, Subject) {
        let service = Service::serve(&self.with(more));
        let (public, admin) = service.clients().await;
        let subject = Subject { public: public.base.trim_start_matches("http://").parse().unwrap(), admin };
        subject.ready().await;
        (service, subject)
    }

    async fn end(self) {
        services::drop_database(&self.database).await;
    }
}

/// A process that is asked and measured.
struct Subject {
    public: SocketAddr,
    admin: Client,
}

impl Subject {
    async fn ready(&self) {
        eventually("readiness", || async { (self.admin.get("/health/ready", "").await.status == 200).then_some(()) })
            .await;
    }

    /// The sum of the series whose lines begin with this.
    async fn metric(&self, name: &str) -> f64 {
        let text = self.admin.get("/metrics", "").await.text;
        let samples = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
        samples.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    async fn memory(&self) -> f64 {
        self.metric("process_resident_memory_bytes").await
    }
}

/// What the processes are asked.
struct Plan {
    request: Vec<u8>,
    /// What each answer has to be.
    status: u16,
    rate: f64,
    rounds: usize,
    each: Duration,
}

/// The process with the fault, as against the one without.
struct Compared {
    /// Requests to each.
    requests: [u64; 2],
    /// Medians of the rounds, in ms.
    p99: [f64; 2],
    /// Growth, in MiB.
    memory: [f64; 2],
}

impl Compared {
    /// By how many percent the p99 is higher.
    fn slower(&self) -> f64 {
        (self.p99[1] / self.p99[0] - 1.0) * 100.0
    }

    fn more_memory(&self) -> f64 {
        self.memory[1] - self.memory[0]
    }

    fn summary(&self) -> String {
        let Self { requests, p99, memory } = self;
        format!(
            "{} requests; p99 {:.1} → {:.1} ms ({:+.0} %); memory {:+.1} MiB, without the fault {:+.1}",
            requests[1],
            p99[0],
            p99[1],
            self.slower(),
            memory[1],
            memory[0]
        )
    }
}

/// Asks `healthy` and `faulty` in turns.
async fn compare(plan: &Plan, healthy: &Subject, faulty: &Subject) -> Compared {
    let subjects = [healthy, faulty];
    let load = |subject: &Subject| {
        Load::new(Target::new(subject.public, plan.request.clone())).connections(32).rate(plan.rate)
    };
    let (mut before, mut p99, mut requests) = ([0.0; 2], [Vec::new(), Vec::new()], [0; 2]);
    for round in 0..=plan.rounds {
        for (index, subject) in subjects.iter().enumerate() {
            let report = load(subject).run_for(plan.each).await;
            assert_eq!(report.status(plan.status), report.total(), "{:?} {:?}", report.answers, report.failures);
            requests[index] += report.total();
            if round == 0 {
                // Not measured: what is made once, and pools that grow.
                before[index] = subject.memory().await;
            } else {
                p99[index].push(report.p(0.99, |_| true).unwrap().as_secs_f64() * 1_000.0);
            }
        }
    }
    let mut memory = [0.0; 2];
    for (index, subject) in subjects.iter().enumerate() {
        memory[index] = (subject.memory().await - before[index]) / MIB;
        p99[index].sort_by(f64::total_cmp);
    }
    Compared { requests, p99: [0, 1].map(|index| p99[index][p99[index].len() / 2]), memory }
}

/// The exit of a process, and how long it took.
async fn end(mut service: Service) -> (i32, Duration) {
    let asked = Instant::now();
    service.signal("TERM");
    (service.exit(Duration::from_secs(30)).await, asked.elapsed())
}

/// No later than this: the drain of what is under way, three seconds for what is queued, one for the log.
const EXIT: Duration = Duration::from_secs(9);

/// What counts is asserted; the times are the machine's too.
fn record(row: Row, counts: bool) {
    assert!(counts, "{row:?}");
    row.record(false);
}
