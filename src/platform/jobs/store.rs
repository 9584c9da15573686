//! SQL of the job queue. Tenants put in and take back; the system role claims and finishes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::platform::{
    db::{SystemTx, TenantTx},
    error::Result,
};

/// Who queued a job.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub request_id: String,
    pub correlation_id: String,
    pub traceparent: Option<String>,
}

/// A claimed job.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Claimed {
    pub tenant_id: Uuid,
    pub id: Uuid,
    pub kind: String,
    pub payload: Value,
    pub request_id: String,
    pub correlation_id: String,
    pub traceparent: Option<String>,
    pub attempts: i32,
}

/// A dead letter, for a person to judge.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Dead {
    pub tenant_id: Uuid,
    pub id: Uuid,
    pub queue: String,
    pub kind: String,
    pub attempts: i32,
    pub last_error: Option<String>,
    pub correlation_id: String,
    pub dead_at: DateTime<Utc>,
}

/// How much waits in a queue.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Backlog {
    pub queue: String,
    pub pending: i64,
    /// Seconds that the oldest runnable job waits.
    pub oldest: f64,
}

/// # Errors
/// Only the database's own.
pub async fn insert(
    tx: &mut TenantTx,
    id: Uuid,
    queue: &str,
    kind: &str,
    payload: Value,
    after: Duration,
    origin: &Origin,
) -> Result<()> {
    sqlx::query(
        r#"
        insert into jobs (tenant_id, id, queue, kind, payload, request_id, correlation_id, traceparent, run_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))
        on conflict on constraint jobs_pkey do nothing
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .bind(queue)
    .bind(kind)
    .bind(payload)
    .bind(&origin.request_id)
    .bind(&origin.correlation_id)
    .bind(&origin.traceparent)
    .bind(after.as_secs_f64())
    .execute(tx.traced("INSERT jobs"))
    .await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn cancel(tx: &mut TenantTx, id: Uuid) -> Result<()> {
    sqlx::query(
        r#"
        delete from jobs
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .execute(tx.traced("DELETE jobs"))
    .await?;
    Ok(())
}

/// Takes up to `most` jobs for the length of the lease. A job whose lease ran out is taken anew.
///
/// # Errors
/// Only the database's own.
pub async fn claim(tx: &mut SystemTx, queue: &str, most: usize, lease: Duration) -> Result<Vec<Claimed>> {
    let claimed = sqlx::query_as(
        r#"
        update jobs
        set attempts = attempts + 1, locked_until = now() + make_interval(secs => $3)
        where (tenant_id, id) in (
            select tenant_id, id
            from jobs
            where queue = $1 and dead_at is null and run_at <= now() and (locked_until is null or locked_until < now())
            order by run_at
            limit $2
            for update skip locked
        )
        returning tenant_id, id, kind, payload, request_id, correlation_id, traceparent, attempts
        "#,
    )
    .bind(queue)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .bind(lease.as_secs_f64())
    .fetch_all(tx.traced("UPDATE jobs"))
    .await?;
    Ok(claimed)
}

/// # Errors
/// Only the database's own.
pub async fn finish(tx: &mut SystemTx, tenant: Uuid, id: Uuid) -> Result<()> {
    sqlx::query(
        r#"
        delete from jobs
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tenant)
    .bind(id)
    .execute(tx.traced("DELETE jobs"))
    .await?;
    Ok(())
}

/// Puts a failed job back for later.
///
/// # Errors
/// Only the database's own.
pub async fn retry(tx: &mut SystemTx, tenant: Uuid, id: Uuid, after: Duration, error: &str) -> Result<()> {
    sqlx::query(
        r#"
        update jobs
        set locked_until = null, run_at = now() + make_interval(secs => $3), last_error = $4
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tenant)
    .bind(id)
    .bind(after.as_secs_f64())
    .bind(error)
    .execute(tx.traced("UPDATE jobs"))
    .await?;
    Ok(())
}

/// Puts a job back that is not due yet; the try does not count.
///
/// # Errors
/// Only the database's own.
pub async fn postpone(tx: &mut SystemTx, tenant: Uuid, id: Uuid, after: Duration) -> Result<()> {
    sqlx::query(
        r#"
        update jobs
        set locked_until = null, attempts = attempts - 1, run_at = now() + make_interval(secs => $3)
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tenant)
    .bind(id)
    .bind(after.as_secs_f64())
    .execute(tx.traced("UPDATE jobs"))
    .await?;
    Ok(())
}

/// Sets a job aside for a person.
///
/// # Errors
/// Only the database's own.
pub async fn bury(tx: &mut SystemTx, tenant: Uuid, id: Uuid, error: &str) -> Result<()> {
    sqlx::query(
        r#"
        update jobs
        set locked_until = null, dead_at = now(), last_error = $3
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tenant)
    .bind(id)
    .bind(error)
    .execute(tx.traced("UPDATE jobs"))
    .await?;
    Ok(())
}

/// Gives back a job that was claimed but not begun.
///
/// # Errors
/// Only the database's own.
pub async fn release(tx: &mut SystemTx, tenant: Uuid, id: Uuid) -> Result<()> {
    sqlx::query(
        r#"
        update jobs
        set locked_until = null, attempts = attempts - 1
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tenant)
    .bind(id)
    .execute(tx.traced("UPDATE jobs"))
    .await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn dead(tx: &mut SystemTx, most: i64) -> Result<Vec<Dead>> {
    let dead = sqlx::query_as(
        r#"
        select tenant_id, id, queue, kind, attempts, last_error, correlation_id, dead_at
        from jobs
        where dead_at is not null
        order by dead_at
        limit $1
        "#,
    )
    .bind(most)
    .fetch_all(tx.traced("SELECT jobs"))
    .await?;
    Ok(dead)
}

/// The tenants of dead letters that were given another five tries.
///
/// # Errors
/// Only the database's own.
pub async fn requeue(tx: &mut SystemTx, id: Option<Uuid>) -> Result<Vec<Uuid>> {
    let tenants = sqlx::query_scalar(
        r#"
        update jobs
        set dead_at = null, attempts = 0, run_at = now(), locked_until = null
        where dead_at is not null and ($1::uuid is null or id = $1)
        returning tenant_id
        "#,
    )
    .bind(id)
    .fetch_all(tx.traced("UPDATE jobs"))
    .await?;
    Ok(tenants)
}

/// # Errors
/// Only the database's own.
pub async fn backlog(tx: &mut SystemTx) -> Result<Vec<Backlog>> {
    let backlog = sqlx::query_as(
        r#"
        select queue,
               count(*) as pending,
               coalesce(extract(epoch from now() - min(run_at) filter (where run_at <= now())), 0)::float8 as oldest
        from jobs
        where dead_at is null
        group by queue
        limit 100
        "#,
    )
    .fetch_all(tx.traced("SELECT jobs"))
    .await?;
    Ok(backlog)
}
