//! The worker: claims jobs of each queue, runs them in the context of who queued them, and puts
//! back, buries or finishes them. A process that dies loses nothing: its leases run out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{FutureExt as _, Link, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    JobsConfig, Next, Run,
    metrics::{JobMetrics, Queue, Ran},
    registry::{Kind, Registry},
    running::Running,
    store::{self, Claimed, Settlement, Ticket, Wanted},
};
use crate::platform::{
    db::{Db, SystemTx},
    error::{self, Error, Result},
    jitter,
    telemetry::{
        Telemetry, attribute,
        context::{self, RequestContext},
        metrics, propagation,
    },
    tenancy::{PrincipalId, TenantId},
};

/// Between two looks at the backlog, in polls: a count costs more than a claim.
const BACKLOG_POLLS: u32 = 10;
/// A run ends before its lease does: nobody else may have the job while it still runs here.
const SHARE_OF_LEASE: f64 = 0.9;

/// Runs the jobs of one application. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    db: Db,
    registry: Registry,
    config: JobsConfig,
    telemetry: Telemetry,
    metrics: JobMetrics,
    loops: TaskTracker,
    running: TaskTracker,
}

const fn ticket(claimed: &Claimed) -> Ticket {
    Ticket { tenant: claimed.tenant_id, id: claimed.id, attempts: claimed.attempts }
}

/// Our own database, busy or away: that says nothing about the job.
fn is_database(error: &Error) -> bool {
    error.kind == error::Kind::Unavailable && error.code.starts_with("database_")
}

impl Worker {
    pub fn new(
        db: &Db,
        registry: Registry,
        config: &JobsConfig,
        telemetry: &Telemetry,
        metrics: &metrics::Registry,
    ) -> Self {
        let metrics = JobMetrics::new(metrics, &registry.queues());
        for kind in registry.kinds() {
            metrics.duration.with(&Ran { job: kind, outcome: "success" });
        }
        Self {
            db: db.clone(),
            registry,
            config: config.clone(),
            telemetry: telemetry.clone(),
            metrics,
            loops: TaskTracker::new(),
            running: TaskTracker::new(),
        }
    }

    /// Starts to work; ends with `stop`. What runs by then is waited for with [`Worker::drain`].
    pub fn start(&self, stop: &CancellationToken) {
        for queue in self.registry.queues() {
            let (worker, stop) = (self.clone(), stop.clone());
            self.loops.spawn(async move { worker.work(queue, stop).await });
        }
        let (worker, stop) = (self.clone(), stop.clone());
        self.loops.spawn(async move { worker.watch_backlog(stop).await });
    }

    /// Waits until nothing is claimed any more, and then until what runs has ended.
    pub async fn drain(&self) {
        self.loops.close();
        self.loops.wait().await;
        self.running.close();
        self.running.wait().await;
    }

    async fn work(&self, queue: &'static str, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.config.concurrency));
        let kinds = self.registry.kinds_of(queue);
        let tenants = Running::default();
        loop {
            // Claim no more than can begin at once: a claimed job that waits wears its lease out.
            let first = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
                () = stop.cancelled() => return,
            };
            let mut held = vec![first];
            while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                held.push(place);
            }
            let claimed = match self.claim(queue, &kinds, held.len(), tenants.counts()).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(queue, error = error.chain(), "jobs_claim_failed");
                    Vec::new()
                }
            };
            let found = claimed.len();
            for (claimed, place) in claimed.into_iter().zip(held) {
                if stop.is_cancelled() {
                    self.settle(ticket(&claimed), &Settlement::Postpone(Duration::ZERO)).await;
                    continue;
                }
                let (worker, counted) = (self.clone(), tenants.begin(claimed.tenant_id));
                self.running.spawn(async move {
                    worker.execute(claimed, queue).await;
                    drop((place, counted));
                });
            }
            if found == 0 {
                tokio::select! {
                    () = tokio::time::sleep(self.config.poll_interval) => {}
                    // A tenant with its part of the places may have its next job now.
                    () = tenants.ended() => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    async fn claim(
        &self,
        queue: &str,
        kinds: &[&str],
        most: usize,
        running: Vec<(Uuid, usize)>,
    ) -> Result<Vec<Claimed>> {
        let mut tx = SystemTx::begin(&self.db).await?;
        // One place is never one tenant's alone: who has jobs that hang must not stop everybody else's.
        let most_of_one = self.config.concurrency.saturating_sub(1).max(1);
        let lease = self.config.lease;
        let claimed = store::claim(&mut tx, &Wanted { queue, kinds, most, most_of_one, running, lease }).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn execute(&self, claimed: Claimed, queue: &'static str) {
        let kind = self.registry.find(&claimed.kind).cloned();
        let name = kind.as_ref().map_or("_OTHER", |kind| kind.name);
        let mut request = RequestContext::of_job(claimed.request_id.clone(), claimed.correlation_id.clone(), name);
        request.set_caller(TenantId::from_uuid(claimed.tenant_id), PrincipalId::new("job"));
        let span = self.span(&claimed, name, queue);
        request.span = span.span().span_context().clone();
        let request = request.begin();
        let work = self.attempt(claimed, kind, name, queue, span.clone());
        context::scope(request, work.with_context(span)).await;
    }

    async fn attempt(
        &self,
        claimed: Claimed,
        kind: Option<Kind>,
        name: &'static str,
        queue: &'static str,
        span: Context,
    ) {
        let started = Instant::now();
        let ticket = ticket(&claimed);
        let attempt = u32::try_from(claimed.attempts).unwrap_or(u32::MAX);
        let run = Run { id: claimed.id, tenant: TenantId::from_uuid(claimed.tenant_id), attempt };
        let patience = kind.as_ref().map_or(1, |kind| kind.patience);
        let result = match kind {
            // Claimed more often than it may fail: it ends the process that runs it.
            Some(_) if attempt > self.config.max_attempts => Err(Error::internal("its runs never ended")),
            Some(kind) => self.guarded(&kind, claimed.payload, run).await,
            None => Err(Error::internal(format!("this process knows no job of kind {}", claimed.kind))),
        };
        let (outcome, settlement) = self.judge(&result, attempt, patience);
        let took = started.elapsed();
        self.metrics.duration.with(&Ran { job: name, outcome }).observe(took.as_secs_f64());
        let duration_ms = took.as_secs_f64() * 1_000.0;
        match &result {
            Ok(_) => tracing::info!(job_id = %ticket.id, attempt, outcome, duration_ms, "job_completed"),
            Err(error) => {
                span.span().set_attribute(KeyValue::new("error.type", error.code));
                span.span().set_status(Status::error(error.code));
                let error = error.chain();
                if outcome == "dead" {
                    let sentry_event_id = self.report(name, &error);
                    tracing::error!(job_id = %ticket.id, attempt, outcome, duration_ms, error, sentry_event_id, "job_failed");
                } else {
                    tracing::warn!(job_id = %ticket.id, attempt, outcome, duration_ms, error, "job_failed");
                }
            }
        }
        if self.settle(ticket, &settlement).await && outcome == "dead" {
            self.metrics.dead_letters.with(&Queue { queue }).inc();
        }
        span.span().end();
    }

    /// Tells Sentry of a job that is given up; its retries were handled, and a panic its hook has told of.
    fn report(&self, name: &str, chain: &str) -> Option<String> {
        let sentry = self.telemetry.sentry.as_ref()?;
        let told = context::with_current(|request| request.sentry_event().map(str::to_owned)).flatten();
        told.or_else(|| sentry.error(name, chain))
    }

    fn judge(&self, result: &Result<Next>, attempt: u32, patience: u32) -> (&'static str, Settlement) {
        match result {
            Ok(Next::Done) => ("success", Settlement::Finish),
            Ok(Next::Later(after)) => ("later", Settlement::Postpone(*after)),
            Err(error) if is_database(error) => ("later", Settlement::Postpone(self.backoff(1, 1))),
            Err(error) => {
                let text: String = error.chain().chars().take(500).collect();
                if attempt >= self.config.max_attempts {
                    ("dead", Settlement::Bury(text))
                } else {
                    ("retry", Settlement::Retry(self.backoff(attempt, patience), text))
                }
            }
        }
    }

    /// The job in a task of its own: a panic fails the job, not the worker.
    async fn guarded(&self, kind: &Kind, payload: serde_json::Value, run: Run) -> Result<Next> {
        let work = (kind.handler)(payload, run).with_current_context();
        let request = context::current().expect("execute has set it");
        #[expect(clippy::disallowed_methods, reason = "takes the trace and the context with it")]
        let mut task = tokio::spawn(context::scope(request, work));
        match tokio::time::timeout(self.config.lease.mul_f64(SHARE_OF_LEASE), &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(stopped)) => Err(Error::new(error::Kind::Internal, "panic", "The job panicked.").caused_by(stopped)),
            Err(_) => {
                task.abort();
                Err(Error::new(error::Kind::Timeout, "lease_exceeded", "The job took longer than its lease."))
            }
        }
    }

    /// Writes down what became of a claim; whether it was still ours. A finished job that is not
    /// written down runs again when its lease ends (at least once), so this is tried for a while.
    async fn settle(&self, ticket: Ticket, settlement: &Settlement) -> bool {
        for pause in [50, 200, 1_000, 0] {
            let settled = async {
                let mut tx = SystemTx::begin(&self.db).await?;
                let ours = store::settle(&mut tx, ticket, settlement).await?;
                tx.commit().await.map(|()| ours)
            };
            match settled.await {
                Ok(ours) => return ours,
                Err(error) => tracing::warn!(job_id = %ticket.id, error = error.chain(), "job_settle_failed"),
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        false
    }

    /// Doubled each time, half of it by chance: jobs that failed together don't come back together.
    fn backoff(&self, attempt: u32, patience: u32) -> Duration {
        let most = self.config.backoff * patience * 2_u32.saturating_pow(attempt.saturating_sub(1).min(10));
        jitter::between(most / 2..=most)
    }

    /// A trace of its own, linked to the one that queued it: a job may run hours later.
    fn span(&self, claimed: &Claimed, name: &'static str, queue: &'static str) -> Context {
        let producer = claimed.traceparent.as_deref().and_then(propagation::parse);
        let tracer = &self.telemetry.tracer;
        let builder = tracer
            .span_builder(format!("job {name}"))
            .with_kind(SpanKind::Consumer)
            .with_links(producer.map(Link::with_context).into_iter().collect())
            .with_attributes([
                KeyValue::new("messaging.system", "postgresql"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", queue),
                KeyValue::new("messaging.message.id", claimed.id.to_string()),
                KeyValue::new(attribute::TENANT_ID, claimed.tenant_id.to_string()),
                KeyValue::new(attribute::CORRELATION_ID, claimed.correlation_id.clone()),
            ]);
        let root = Context::new();
        let span = builder.start_with_context(tracer, &root);
        root.with_span(span)
    }

    async fn watch_backlog(&self, stop: CancellationToken) {
        let queues = self.registry.queues();
        loop {
            let rows = async {
                let mut tx = SystemTx::begin(&self.db).await?;
                store::backlog(&mut tx).await
            };
            match rows.await {
                Ok(rows) => self.metrics.backlog(&queues, &rows),
                Err(error) => tracing::debug!(error = error.chain(), "jobs_backlog_unknown"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.poll_interval * BACKLOG_POLLS) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
