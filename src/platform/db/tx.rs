//! The only doors to Postgres: [`TenantTx`] sees one tenant, [`SystemTx`] the few tables that exist
//! before a tenant is known. Begin and tenant go in one round trip.
//!
//! Not sqlx's own transaction: a cancelled `begin` of it hands a connection with an open
//! transaction to the next borrower (trap 1, sqlx#4385).

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Executor as _};

use super::{Db, Inner, Traced, borrowed::Borrowed, errors, pool::Pool, share::Share};
use crate::platform::{
    error::{Error, Result},
    telemetry::{context, propagation},
    tenancy::TenantId,
};

/// A rollback is one round trip; a server that can't do it in this time has lost the connection.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// BEGIN waits for nothing: a server that can't do it in this time has lost the connection too.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections tried before a request fails. One stale connection condemns the older ones, so the second is new.
const MOST_BEGINS: u32 = 3;
/// With less than this left, work is not begun.
const SHORTEST_WORK: Duration = Duration::from_millis(5);

/// A transaction that sees and writes the rows of one tenant, by row-level security.
pub struct TenantTx {
    session: Session,
    tenant: TenantId,
    /// Dropped after the session: the place is free once the connection is on its way back.
    _share: Share,
}

impl TenantTx {
    /// # Errors
    /// `Unavailable` when no connection can be had in time.
    pub async fn begin(db: &Db, tenant: TenantId) -> Result<Self> {
        // The tenant is a parsed UUID: formatting it is safe.
        let share = share(db, tenant).await?;
        let session = Session::begin(db, &db.0.runtime, &format!("; set local app.tenant_id = '{tenant}'")).await?;
        Ok(Self { session, tenant, _share: share })
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The executor for one statement; `summary` is its low-cardinality name, `SELECT products`.
    pub fn traced(&mut self, summary: &'static str) -> Traced<'_> {
        self.session.traced(summary)
    }

    /// # Errors
    /// `Unavailable` when the server does not confirm; the work may or may not be done.
    pub async fn commit(self) -> Result<()> {
        self.session.commit().await
    }
}

/// A transaction of the system role: tenants, API keys, jobs; no tenant's data.
pub struct SystemTx(Session);

impl SystemTx {
    /// # Errors
    /// `Unavailable` when no connection can be had in time.
    pub async fn begin(db: &Db) -> Result<Self> {
        Session::begin(db, &db.0.system, "").await.map(Self)
    }

    /// The executor for one statement; `summary` is its low-cardinality name, `SELECT api_keys`.
    pub fn traced(&mut self, summary: &'static str) -> Traced<'_> {
        self.0.traced(summary)
    }

    /// # Errors
    /// `Unavailable` when the server does not confirm; the work may or may not be done.
    pub async fn commit(self) -> Result<()> {
        self.0.commit().await
    }
}

/// An open transaction on a borrowed connection, which goes back to the pool only when it is clean.
struct Session {
    connection: Option<Borrowed>,
    pool: Pool,
    db: Db,
    busy: AtomicBool,
    failed: AtomicBool,
}

impl Session {
    async fn begin(db: &Db, pool: &Pool, also: &str) -> Result<Self> {
        // Who is asking, visible in pg_stat_activity and the server's log, without a comment in the
        // statement: that would defeat the statement cache (trap 17).
        let who = propagation::sampled_traceparent()
            .map(|traceparent| format!("; set local application_name = '{traceparent}'"))
            .unwrap_or_default();
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = acquire(&db.0, pool).await.map_err(|error| errors::unreachable(&error))?;
            // Said after the wait: what is left now. With nothing left the connection is as good as it was.
            let limit = match limit(pool) {
                Ok(limit) => limit,
                Err(error) => {
                    connection.give_back();
                    return Err(error);
                }
            };
            let mut session = Self {
                connection: Some(connection),
                pool: pool.clone(),
                db: db.clone(),
                busy: AtomicBool::new(false),
                failed: AtomicBool::new(false),
            };
            match session.control(&format!("begin{also}{limit}{who}"), BEGIN_TIMEOUT).await {
                Ok(()) => return Ok(session),
                // Nothing was done yet: on another connection it may go well.
                Err(error) if errors::is_lost(&error) && tries < MOST_BEGINS => {}
                Err(error) => return Err(errors::unreachable(&error)),
            }
        }
    }

    /// BEGIN and COMMIT: by the simple protocol, not traced but paid for by the request.
    async fn control(&mut self, sql: &str, limit: Duration) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_deref_mut().expect("taken only by commit and drop");
        self.busy.store(true, Relaxed);
        let started = Instant::now();
        let answer = tokio::time::timeout(limit, connection.execute(AssertSqlSafe(sql))).await;
        context::with_current(|request| request.cost.add_db_time(started.elapsed()));
        // After an error the state of the connection is unknown: `busy` stays set and it is closed.
        match answer.unwrap_or_else(|_| Err(errors::silent())) {
            Ok(_) => {
                self.pool.answered();
                self.busy.store(false, Relaxed);
                Ok(())
            }
            Err(error) => {
                if errors::is_lost(&error) {
                    self.pool.stale();
                }
                Err(error)
            }
        }
    }

    fn traced(&mut self, summary: &'static str) -> Traced<'_> {
        Traced {
            connection: self.connection.as_deref_mut().expect("taken only by commit and drop"),
            db: &self.db.0,
            pool: &self.pool,
            summary,
            busy: &self.busy,
            failed: &self.failed,
        }
    }

    async fn commit(mut self) -> Result<()> {
        if self.failed.load(Relaxed) {
            return Err(Error::internal("a statement of this transaction failed; it can't be committed"));
        }
        let limit = self.pool.longest_wait();
        self.control("commit", limit).await.map_err(|error| errors::from_sqlx(&error))?;
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // In the middle of a statement there is nothing to save: dropped as it is, it is closed.
        let Some(mut connection) = self.connection.take().filter(|_| !self.busy.load(Relaxed)) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let rollback = connection.execute("rollback");
                if matches!(tokio::time::timeout(ROLLBACK_TIMEOUT, rollback).await, Ok(Ok(_))) {
                    connection.give_back();
                }
            });
        }
    }
}

/// What is left of the request for each of its statements, where that is less than the role allows: it goes
/// with BEGIN, in the same round trip.
///
/// # Errors
/// `Timeout` when nothing is left.
fn limit(pool: &Pool) -> Result<String> {
    match context::time_left() {
        Some(left) if left < SHORTEST_WORK => Err(Error::deadline_exceeded()),
        Some(left) if left < pool.statement_timeout() => {
            Ok(format!("; set local statement_timeout = {}", left.as_millis()))
        }
        _ => Ok(String::new()),
    }
}

/// A place among the tenant's connections; the wait for it is a wait for a connection.
async fn share(db: &Db, tenant: TenantId) -> Result<Share> {
    let db = &db.0;
    let mut share = db.runtime.enter(tenant);
    if share.try_take() || measured(db, &db.runtime, share.take(db.runtime.patience()), |taken| *taken).await {
        return Ok(share);
    }
    db.runtime.suspect();
    let message = "Too many requests of yours wait for the database. Wait for their answers.";
    Err(Error::rate_limited("database_tenant_share", message, Duration::from_secs(1)))
}

/// A connection, with its wait measured.
async fn acquire(db: &Inner, pool: &Pool) -> Result<Borrowed, sqlx::Error> {
    let result = measured(db, pool, pool.acquire(), Result::is_ok).await;
    if matches!(result, Err(sqlx::Error::PoolTimedOut)) {
        db.metrics.timeouts.inc();
    }
    result
}

/// A wait for a connection, as it is counted, charged to the request, and told of when it is long.
async fn measured<T>(db: &Inner, pool: &Pool, wait: impl Future<Output = T>, succeeded: impl FnOnce(&T) -> bool) -> T {
    struct Pending<'a>(&'a prometheus::Gauge);
    impl Drop for Pending<'_> {
        fn drop(&mut self) {
            self.0.dec();
        }
    }
    db.metrics.pending.inc();
    let pending = Pending(&db.metrics.pending);
    let started = Instant::now();
    let result = wait.await;
    drop(pending);
    let waited = started.elapsed();
    db.metrics.waited(waited);
    context::with_current(|request| request.cost.add_pool_wait(waited));
    if waited >= db.slow_acquire {
        tracing::warn!(
            duration_ms = waited.as_secs_f64() * 1_000.0,
            connections = pool.size(),
            idle = pool.idle() as u64,
            succeeded = succeeded(&result),
            "slow_acquire"
        );
    }
    result
}
