//! Background jobs: queued in Postgres in the transaction that wants them, run at least once, with
//! the tenant, the ids and a link to the trace of whoever queued them. `worker` runs them, `store`
//! has the SQL. A job is one small type with a kind, a queue and `run`.

pub mod metrics;
mod registry;
mod running;
pub mod store;
pub mod worker;

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub use self::registry::Registry as JobRegistry;
use super::{
    db::TenantTx,
    error::{Error, Result},
    telemetry::{context, propagation},
    tenancy::TenantId,
};
use crate::section;

section! {
    /// Background jobs, run inside `serve`.
    pub struct JobsConfig in "jobs" {
        /// Runs jobs in this process.
        pub enabled: bool,
        /// Jobs of one queue that run at once in this process.
        pub concurrency: usize => 1..=256,
        /// Time between two looks for work when there was none.
        pub poll_interval: Duration => Duration::from_millis(10)..=Duration::from_secs(60),
        /// A job that takes longer is taken to be lost, and run again by another process.
        pub lease: Duration => Duration::from_secs(1)..=Duration::from_secs(3_600),
        /// Pause before the second try; doubled each time, with jitter.
        pub backoff: Duration => Duration::from_millis(1)..=Duration::from_secs(600),
        /// Tries before a job becomes a dead letter.
        pub max_attempts: u32 => 1..=100,
    }
}

/// What a run of a job knows besides its own content.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: Uuid,
    pub tenant: TenantId,
    /// 1 on the first try.
    pub attempt: u32,
}

/// What is next for a job that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    /// Not yet: look again after this time. Costs no try.
    Later(Duration),
}

/// A kind of job. It runs at least once: what it does must bear a repetition.
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Stable: it is in the database.
    const KIND: &'static str;
    /// Jobs of a queue share its concurrency; a slow dependency gets a queue of its own.
    const QUEUE: &'static str;
    /// Multiplies `jobs.backoff`: for the other side that may be away for longer than we would be.
    const PATIENCE: u32 = 1;
    type State: Clone + Send + Sync + 'static;

    fn run(self, state: Self::State, run: Run) -> impl Future<Output = Result<Next>> + Send;
}

/// Queues a job in `tx`: it exists if and only if the transaction commits. `id` names it: a second
/// one of the same id is the same job.
///
/// # Errors
/// Only the database's own.
pub async fn enqueue<J: Job>(tx: &mut TenantTx, id: Uuid, after: Duration, job: &J) -> Result<()> {
    let payload = serde_json::to_value(job).map_err(Error::internal)?;
    let (request_id, correlation_id) =
        context::with_current(|now| (now.request_id.clone(), now.correlation_id.clone())).unwrap_or_default();
    let origin = store::Origin { request_id, correlation_id, traceparent: propagation::traceparent() };
    store::insert(tx, id, J::QUEUE, J::KIND, payload, after, &origin).await
}

/// Takes a queued job back; one that already runs finds its effect done.
///
/// # Errors
/// Only the database's own.
pub async fn cancel(tx: &mut TenantTx, id: Uuid) -> Result<()> {
    store::cancel(tx, id).await
}
