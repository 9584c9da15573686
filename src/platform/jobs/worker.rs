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
    store::{self, Claimed},
};
use crate::platform::{
    db::{Db, SystemTx},
    error::{Error, Result},
    telemetry::{
        Telemetry, attribute,
        context::{self, RequestContext},
        metrics, propagation,
    },
    tenancy::{PrincipalId, TenantId},
};

/// Between two looks at the backlog.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the jobs of one application. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    db: Db,
    registry: Registry,
    config: JobsConfig,
    telemetry: Telemetry,
    metrics: JobMetrics,
    running: TaskTracker,
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
            running: TaskTracker::new(),
        }
    }

    /// Works until `stop`; what runs by then is waited for with [`Worker::drain`].
    pub async fn run(self, stop: CancellationToken) {
        let queues = TaskTracker::new();
        for queue in self.registry.queues() {
            let (worker, stop) = (self.clone(), stop.clone());
            queues.spawn(async move { worker.work(queue, stop).await });
        }
        let (worker, stopped) = (self.clone(), stop.clone());
        queues.spawn(async move { worker.watch_backlog(stopped).await });
        queues.close();
        queues.wait().await;
    }

    /// Waits until running jobs have ended.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }

    async fn work(&self, queue: &'static str, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.config.concurrency));
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
            let claimed = match self.claim(queue, held.len()).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(queue, error = error.chain(), "jobs_claim_failed");
                    Vec::new()
                }
            };
            let found = claimed.len();
            for (claimed, place) in claimed.into_iter().zip(held) {
                if stop.is_cancelled() {
                    self.release(&claimed).await;
                    continue;
                }
                let worker = self.clone();
                self.running.spawn(async move {
                    worker.execute(claimed, queue).await;
                    drop(place);
                });
            }
            if found == 0 {
                tokio::select! {
                    () = tokio::time::sleep(self.config.poll_interval) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    async fn claim(&self, queue: &str, most: usize) -> Result<Vec<Claimed>> {
        let mut tx = SystemTx::begin(&self.db).await?;
        let claimed = store::claim(&mut tx, queue, most, self.config.lease).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn release(&self, claimed: &Claimed) {
        let result = async {
            let mut tx = SystemTx::begin(&self.db).await?;
            store::release(&mut tx, claimed.tenant_id, claimed.id).await?;
            tx.commit().await
        };
        if let Err(error) = result.await {
            // Its lease runs out by itself.
            tracing::warn!(error = error.chain(), "job_release_failed");
        }
    }

    async fn execute(&self, claimed: Claimed, queue: &'static str) {
        let kind = self.registry.find(&claimed.kind).cloned();
        let name = kind.as_ref().map_or("_OTHER", |kind| kind.name);
        let request = RequestContext::of_job(claimed.request_id.clone(), claimed.correlation_id.clone(), name);
        request.set_caller(TenantId::from_uuid(claimed.tenant_id), PrincipalId::new("job"));
        let request = Arc::new(request);
        let span = self.span(&claimed, name, queue);
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
        let attempt = u32::try_from(claimed.attempts).unwrap_or(u32::MAX);
        let run = Run { id: claimed.id, tenant: TenantId::from_uuid(claimed.tenant_id), attempt };
        let result = match kind {
            Some(kind) => self.guarded(&kind, claimed.payload, run).await,
            None => Err(Error::internal(format!("this process knows no job of kind {}", claimed.kind))),
        };
        let took = started.elapsed();
        let outcome = match &result {
            Ok(Next::Done) => "success",
            Ok(Next::Later(_)) => "later",
            Err(_) if attempt >= self.config.max_attempts => "dead",
            Err(_) => "retry",
        };
        self.metrics.duration.with(&Ran { job: name, outcome }).observe(took.as_secs_f64());
        let duration_ms = took.as_secs_f64() * 1_000.0;
        match &result {
            Ok(_) => tracing::info!(job_id = %claimed.id, attempt, outcome, duration_ms, "job_completed"),
            Err(error) => {
                span.span().set_attribute(KeyValue::new("error.type", error.code));
                span.span().set_status(Status::error(error.code));
                let error = error.chain();
                if outcome == "dead" {
                    self.metrics.dead_letters.with(&Queue { queue }).inc();
                    tracing::error!(job_id = %claimed.id, attempt, outcome, duration_ms, error, "job_failed");
                } else {
                    tracing::warn!(job_id = %claimed.id, attempt, outcome, duration_ms, error, "job_failed");
                }
            }
        }
        self.settle(claimed.tenant_id, claimed.id, attempt, result).await;
        span.span().end();
    }

    /// The job in a task of its own: a panic fails the job, not the worker; and for no longer than
    /// the lease, after which another process takes it.
    async fn guarded(&self, kind: &Kind, payload: serde_json::Value, run: Run) -> Result<Next> {
        let work = (kind.handler)(payload, run).with_current_context();
        let request = context::current().expect("execute has set it");
        #[expect(clippy::disallowed_methods, reason = "takes the trace and the context with it")]
        let mut task = tokio::spawn(context::scope(request, work));
        match tokio::time::timeout(self.config.lease, &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(stopped)) => {
                Err(Error::new(crate::platform::error::Kind::Internal, "panic", "The job panicked.").caused_by(stopped))
            }
            Err(_) => {
                task.abort();
                Err(Error::new(
                    crate::platform::error::Kind::Timeout,
                    "lease_exceeded",
                    "The job took longer than its lease.",
                ))
            }
        }
    }

    /// Finishes, puts back or buries. When the database does not take it, the lease runs out and the
    /// job runs again: at least once.
    async fn settle(&self, tenant: Uuid, id: Uuid, attempt: u32, result: Result<Next>) {
        let settled = async {
            let mut tx = SystemTx::begin(&self.db).await?;
            match result {
                Ok(Next::Done) => store::finish(&mut tx, tenant, id).await?,
                Ok(Next::Later(after)) => store::postpone(&mut tx, tenant, id, after).await?,
                Err(error) => {
                    let text: String = error.chain().chars().take(500).collect();
                    if attempt >= self.config.max_attempts {
                        store::bury(&mut tx, tenant, id, &text).await?;
                    } else {
                        store::retry(&mut tx, tenant, id, self.backoff(attempt), &text).await?;
                    }
                }
            }
            tx.commit().await
        };
        if let Err(error) = settled.await {
            tracing::warn!(job_id = %id, error = error.chain(), "job_settle_failed");
        }
    }

    /// Doubled each time, half of it by chance: jobs that failed together don't come back together.
    fn backoff(&self, attempt: u32) -> Duration {
        let most = self.config.backoff * 2_u32.saturating_pow(attempt.saturating_sub(1).min(10));
        let chance = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
        most.mul_f64(0.5 + chance / 2.0)
    }

    /// A trace of its own, linked to the one that queued it: a job may run hours later.
    fn span(&self, claimed: &Claimed, name: &'static str, queue: &'static str) -> Context {
        let links = claimed
            .traceparent
            .as_deref()
            .and_then(propagation::parse)
            .map(|producer| vec![Link::with_context(producer)]);
        let tracer = &self.telemetry.tracer;
        let builder = tracer
            .span_builder(format!("job {name}"))
            .with_kind(SpanKind::Consumer)
            .with_links(links.unwrap_or_default())
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
                () = tokio::time::sleep(BACKLOG_INTERVAL.min(self.config.poll_interval * 10)) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
