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
    /// Seconds that the job that waits longest has been due. One that is tried again is late only when nobody takes it
    /// then: its pauses are meant.
    pub oldest: f64,
    /// Those given up, until somebody requeues or deletes them.
    pub dead: i64,
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

/// How many of the oldest due jobs are looked at for each that is wanted: enough to find other tenants'.
const LOOK_AT: i64 = 4;

/// What a process takes at once.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub queue: &'a str,
    pub kinds: &'a [&'a str],
    pub most: usize,
    /// Of one tenant, those included that run already: `running`.
    pub most_of_one: usize,
    pub running: Vec<(Uuid, usize)>,
    pub lease: Duration,
}

/// Takes jobs for the length of the lease. A job whose lease ran out is taken anew; what this process does
/// not know is left for one that does, and a tenant that has its part waits behind the others.
///
/// # Errors
/// Only the database's own.
pub async fn claim(tx: &mut SystemTx, wanted: &Wanted<'_>) -> Result<Vec<Claimed>> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let tenants: Vec<Uuid> = wanted.running.iter().map(|(tenant, _)| *tenant).collect();
    let counts: Vec<i64> = wanted.running.iter().map(|(_, count)| number(*count)).collect();
    // Materialized: a plan that ran the inner select twice would take more than the limit.
    let claimed = sqlx::query_as(
        r#"
        with running as (
            select *
            from unnest($5::uuid[], $6::bigint[]) as running (tenant_id, count)
        ),
        oldest as materialized (
            select tenant_id, id, run_at
            from jobs
            where queue = $1
              and kind = any($2)
              and dead_at is null
              and run_at <= now()
              and (locked_until is null or locked_until < now())
              and tenant_id <> all (select tenant_id from running where count >= $7)
            order by run_at
            limit $8
            for update skip locked
        ),
        shared as (
            select oldest.tenant_id, oldest.id, oldest.run_at,
                   row_number() over (partition by oldest.tenant_id order by oldest.run_at)
                       + coalesce(running.count, 0) as place
            from oldest
            left join running on running.tenant_id = oldest.tenant_id
        ),
        due as materialized (
            select tenant_id, id
            from shared
            where place <= $7
            order by run_at
            limit $3
        )
        update jobs
        set attempts = jobs.attempts + 1, locked_until = now() + make_interval(secs => $4)
        from due
        where jobs.tenant_id = due.tenant_id and jobs.id = due.id
        returning jobs.tenant_id, jobs.id, jobs.kind, jobs.payload, jobs.request_id, jobs.correlation_id,
                  jobs.traceparent, jobs.attempts
        "#,
    )
    .bind(wanted.queue)
    .bind(wanted.kinds)
    .bind(number(wanted.most))
    .bind(wanted.lease.as_secs_f64())
    .bind(tenants)
    .bind(counts)
    .bind(number(wanted.most_of_one))
    .bind(number(wanted.most).saturating_mul(LOOK_AT))
    .fetch_all(tx.traced("UPDATE jobs"))
    .await?;
    Ok(claimed)
}

/// Which claim of which job: whoever claimed it since has another number of tries.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub tenant: Uuid,
    pub id: Uuid,
    pub attempts: i32,
}

/// What becomes of a claimed job. All of them say whether the ticket was still good.
#[derive(Clone, Debug)]
pub enum Settlement {
    Finish,
    /// Back for later, with the error of this try.
    Retry(Duration, String),
    /// Back for later; this try does not count.
    Postpone(Duration),
    /// Aside, for a person.
    Bury(String),
}

/// # Errors
/// Only the database's own.
pub async fn settle(tx: &mut SystemTx, ticket: Ticket, settlement: &Settlement) -> Result<bool> {
    let (statement, summary) = match settlement {
        Settlement::Finish => (FINISH, "DELETE jobs"),
        Settlement::Retry(..) => (RETRY, "UPDATE jobs"),
        Settlement::Postpone(_) => (POSTPONE, "UPDATE jobs"),
        Settlement::Bury(_) => (BURY, "UPDATE jobs"),
    };
    let query = sqlx::query(statement).bind(ticket.tenant).bind(ticket.id).bind(ticket.attempts);
    let query = match settlement {
        Settlement::Finish => query,
        Settlement::Retry(after, error) => query.bind(after.as_secs_f64()).bind(error),
        Settlement::Postpone(after) => query.bind(after.as_secs_f64()),
        Settlement::Bury(error) => query.bind(error),
    };
    Ok(query.execute(tx.traced(summary)).await?.rows_affected() == 1)
}

const FINISH: &str = r#"
    delete from jobs
    where tenant_id = $1 and id = $2 and attempts = $3
"#;
const RETRY: &str = r#"
    update jobs
    set locked_until = null, run_at = now() + make_interval(secs => $4), last_error = $5
    where tenant_id = $1 and id = $2 and attempts = $3 and dead_at is null
"#;
const POSTPONE: &str = r#"
    update jobs
    set locked_until = null, attempts = attempts - 1, run_at = now() + make_interval(secs => $4)
    where tenant_id = $1 and id = $2 and attempts = $3 and dead_at is null
"#;
const BURY: &str = r#"
    update jobs
    set locked_until = null, dead_at = now(), last_error = $4
    where tenant_id = $1 and id = $2 and attempts = $3 and dead_at is null
"#;

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
               count(*) filter (where dead_at is null) as pending,
               coalesce(extract(epoch from now() - min(run_at) filter (
                   where dead_at is null and run_at <= now() and (locked_until is null or locked_until <= now())
               )), 0)::float8 as oldest,
               count(*) filter (where dead_at is not null) as dead
        from jobs
        group by queue
        limit 100
        "#,
    )
    .fetch_all(tx.traced("SELECT jobs"))
    .await?;
    Ok(backlog)
}
