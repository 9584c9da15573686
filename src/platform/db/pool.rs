//! A pool that heals. sqlx's own waits for ever for a server that went silent, and pays for each stale
//! connection anew (traps 2, 3): here every wait has an end, one stale connection condemns those that are
//! as old, and when none of them answers while a new one does, the pool is replaced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use prometheus::IntCounter;
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::Semaphore;
use tracing::log::LevelFilter;

use super::{
    borrowed::Borrowed,
    share::{Share, Shares},
};
use crate::platform::{telemetry::context, tenancy::TenantId};

/// A stale connection is found by asking, but only one that was idle this long: the question costs
/// a round trip and 12 µs (research/performance.md).
const IDLE_BEFORE_PING: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(250);
/// A server that answered nothing for so long, while somebody waits for a connection, is under suspicion.
const SILENCE: Duration = Duration::from_millis(400);
/// Time for a new connection that asks what the server knows of us.
const INQUIRY: Duration = Duration::from_secs(1);
/// Between two replacements: the connections of the one before must be gone, or they add up.
const REPLACE_EVERY: Duration = Duration::from_secs(5);
/// How much later than the server we end a statement: its own answer, an error with a name, is the better one.
const GRACE: Duration = Duration::from_millis(500);
/// A login may take so much longer than anybody waits for it: it is of use to the next one.
const LOGIN: Duration = Duration::from_secs(2);

/// How a pool is made.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_connections: u32,
    /// Connections of one tenant.
    pub max_of_tenant: usize,
    pub acquire_timeout: Duration,
    pub idle_timeout: Duration,
}

/// The connections of one role. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    current: RwLock<Generation>,
    limits: Limits,
    health: Arc<Health>,
    replaced: IntCounter,
    /// One inquiry at a time.
    checking: Arc<Semaphore>,
    /// Logins that may be under way at once.
    logins: Arc<Semaphore>,
}

/// A pool and the shares of its connections: with another pool everybody begins anew.
#[derive(Clone)]
struct Generation {
    pool: PgPool,
    shares: Shares,
}

/// What is known of the server; times are milliseconds since `born`.
struct Health {
    born: Instant,
    answered: AtomicU64,
    /// What was idle then is not used again.
    stale: AtomicU64,
    replaced: AtomicU64,
    /// Of the role, in milliseconds.
    statement_timeout: AtomicU64,
}

impl Health {
    fn now(&self) -> u64 {
        // Never 0, which stands for never.
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a connection that was idle so long can be used; asks it if that is in doubt.
    async fn is_usable(&self, connection: &mut PgConnection, idle_for: Duration) -> bool {
        let since = self.now().saturating_sub(u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX));
        if since < self.stale.load(Relaxed) {
            return false;
        }
        if idle_for < IDLE_BEFORE_PING {
            return true;
        }
        let answered = matches!(tokio::time::timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())));
        let noted = if answered { &self.answered } else { &self.stale };
        noted.store(self.now(), Relaxed);
        answered
    }
}

impl Pool {
    /// Builds a pool; it connects when first used.
    pub fn build(limits: Limits, options: PgConnectOptions, replaced: IntCounter) -> Self {
        let health = Arc::new(Health {
            born: Instant::now(),
            answered: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            statement_timeout: AtomicU64::new(3_000),
        });
        let current = RwLock::new(connect(limits, options, &health));
        let logins = Arc::new(Semaphore::new(limits.max_connections as usize));
        Self(Arc::new(Inner { current, limits, health, replaced, checking: Arc::new(Semaphore::new(1)), logins }))
    }

    pub fn size(&self) -> u32 {
        self.0.current.read().pool.size()
    }

    pub fn idle(&self) -> usize {
        self.0.current.read().pool.num_idle()
    }

    pub fn max(&self) -> u32 {
        self.0.limits.max_connections
    }

    /// New connections are made with these; those that exist live on.
    pub fn set_options(&self, options: PgConnectOptions) {
        self.0.current.read().pool.set_connect_options(options);
    }

    /// The role's `statement_timeout`, as the boot self-test found it.
    pub fn set_statement_timeout(&self, timeout: Duration) {
        self.0.health.statement_timeout.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.0.health.statement_timeout.load(Relaxed))
    }

    /// The longest wait for the answer to a statement: a server that keeps to the role's limit answers before.
    pub fn longest_wait(&self) -> Duration {
        self.statement_timeout() + GRACE
    }

    /// The same for a statement of a request: hardly past its deadline, because what BEGIN told the server bounds
    /// each statement and not all of them.
    pub fn longest_statement(&self) -> Duration {
        context::time_left().map_or(self.longest_wait(), |left| (left + GRACE).min(self.longest_wait()))
    }

    /// The answer to a statement, if it comes in time.
    ///
    /// # Errors
    /// Its own, or that the server was silent.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        tokio::time::timeout(self.longest_statement(), work).await.unwrap_or_else(|_| Err(super::errors::silent()))
    }

    /// The server has answered, if only with an error.
    pub fn answered(&self) {
        self.0.health.answered.store(self.0.health.now(), Relaxed);
    }

    /// A server that takes no writes: those that are as old lead there too. Not for each such answer, or reads that
    /// it could serve would log in again and again.
    pub fn read_only(&self) {
        let (now, stale) = (self.0.health.now(), self.0.health.stale.load(Relaxed));
        if now.saturating_sub(stale) >= 1_000 {
            self.stale();
        }
    }

    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.0.health.now().saturating_sub(self.0.health.answered.load(Relaxed)))
    }

    /// A connection turned out to be lost, or to lead to the wrong server: the idle ones are no better.
    pub fn stale(&self) {
        self.0.health.stale.store(self.0.health.now(), Relaxed);
    }

    /// A connection, within the acquire timeout and the deadline of the request.
    ///
    /// # Errors
    /// `PoolTimedOut` when all are at work, or why none can be made.
    pub async fn acquire(&self) -> Result<Borrowed, sqlx::Error> {
        loop {
            let pool = self.0.current.read().pool.clone();
            match tokio::time::timeout(self.patience(), self.lend(&pool))
                .await
                .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            {
                Ok(mut borrowed) => {
                    borrowed.keep();
                    return Ok(borrowed);
                }
                // Replaced while we waited.
                Err(sqlx::Error::PoolClosed) if !self.0.current.read().pool.is_closed() => {}
                Err(error) => {
                    if matches!(error, sqlx::Error::PoolTimedOut) {
                        self.suspect();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// A connection of `pool`. Where that takes a login, the login outlives who waits for it: thrown away half
    /// made, each would be begun anew, and a server that is short of processor time would never finish one.
    async fn lend(&self, pool: &PgPool) -> Result<Borrowed, sqlx::Error> {
        let wants_login = pool.num_idle() == 0 && pool.size() < self.max();
        // No more of them than there can be connections: nobody waits in a queue for a request that has left it.
        let Some(place) = wants_login.then(|| Arc::clone(&self.0.logins).try_acquire_owned().ok()).flatten() else {
            return pool.acquire().await.map(Borrowed::new);
        };
        let acquire = pool.acquire();
        #[expect(clippy::disallowed_methods, reason = "a login belongs to the pool, not to the request that wanted it")]
        let login = tokio::spawn(async move {
            let connection = acquire.await.map(Borrowed::new);
            drop(place);
            connection
        });
        login.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// How long a request waits for a connection.
    pub fn patience(&self) -> Duration {
        let limit = self.0.limits.acquire_timeout;
        context::time_left().map_or(limit, |left| left.min(limit))
    }

    /// Whether the server answers a connection of this pool, in time.
    ///
    /// # Errors
    /// No connection, or no answer. `PoolTimedOut` says that all connections are at work and answered.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.acquire().await.map_err(|error| match error {
            // sqlx calls it a timeout, too, when the server refuses. What is only busy answers somebody.
            sqlx::Error::PoolTimedOut if self.silent_for() > self.longest_wait() => super::errors::silent(),
            error => error,
        })?;
        match tokio::time::timeout(INQUIRY, connection.ping()).await {
            Ok(Ok(())) => {
                connection.give_back();
                self.answered();
                Ok(())
            }
            Ok(Err(error)) => {
                self.stale();
                Err(error)
            }
            Err(_) => {
                self.stale();
                Err(super::errors::silent())
            }
        }
    }

    /// Opens connections before anybody waits for one, as far as they can be had.
    pub async fn warm(&self, count: usize) {
        // Held until all are there, or the first one would be lent out again and again.
        let borrowed = futures_util::future::join_all((0..count).map(|_| self.acquire())).await;
        borrowed.into_iter().flatten().for_each(Borrowed::give_back);
    }

    /// Closes it, waiting for connections in use.
    pub async fn close(&self) {
        let pool = self.0.current.read().pool.clone();
        pool.close().await;
    }

    /// Enters a request of a tenant, which then takes its place among the connections.
    pub fn enter(&self, tenant: TenantId) -> Share {
        self.0.current.read().shares.enter(tenant)
    }

    /// Nobody got a connection: that is load, or all of them hang on a server that is gone.
    pub fn suspect(&self) {
        let health = &self.0.health;
        let now = health.now();
        let replaced = health.replaced.load(Relaxed);
        let lately = replaced != 0 && now.saturating_sub(replaced) < REPLACE_EVERY.as_millis() as u64;
        if self.silent_for() < SILENCE || lately {
            return;
        }
        let Ok(permit) = Arc::clone(&self.0.checking).try_acquire_owned() else { return };
        let pool = self.clone();
        crate::platform::lifecycle::spawn(async move {
            let _until_done = permit;
            pool.replace_if_lost().await;
        });
    }

    /// A server that takes a new connection, and on which hardly anything of ours is at work, has lost the old ones.
    async fn replace_if_lost(&self) {
        let old = self.0.current.read().pool.clone();
        let options = old.connect_options();
        let inquiry = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let at_work = at_work(&mut connection).await?;
            connection.close_hard().await?;
            Ok::<_, sqlx::Error>(at_work)
        };
        let Ok(Ok(at_work)) = tokio::time::timeout(INQUIRY, inquiry).await else { return };
        let in_use = i64::from(old.size()) - i64::try_from(old.num_idle()).unwrap_or(i64::MAX);
        // Of those in use some are at nothing just now: about to log in, or between two statements. Most of them are
        // only when nobody answers them.
        if at_work * 2 >= in_use || old.is_closed() {
            return;
        }
        tracing::warn!(connections = in_use, at_work, "database_pool_replaced");
        let mut current = self.0.current.write();
        // Read again: a password may have been rotated meanwhile.
        *current = connect(self.0.limits, (*current.pool.connect_options()).clone(), &self.0.health);
        drop(current);
        self.0.health.replaced.store(self.0.health.now(), Relaxed);
        self.0.replaced.inc();
        // Those who hold a connection find out by themselves, at the latest at the limit of their statement.
        crate::platform::lifecycle::spawn(async move { old.close().await });
    }
}

/// Whether there is time to begin a statement.
///
/// # Errors
/// `PoolTimedOut`, for which the connection is not to blame.
pub fn in_deadline() -> Result<(), sqlx::Error> {
    let over = context::time_left().is_some_and(|left| left.is_zero());
    if over { Err(sqlx::Error::PoolTimedOut) } else { Ok(()) }
}

/// Sessions of this role that have been at a statement for a while, on a server that knows nothing of a lost socket.
async fn at_work(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        r#"
        select count(*)
        from pg_stat_activity
        where usename = current_user
          and datname = current_database()
          and pid <> pg_backend_pid()
          and state = 'active'
          and query_start < now() - interval '300 milliseconds'
        "#,
    )
    .fetch_one(connection)
    .await
}

fn connect(limits: Limits, options: PgConnectOptions, health: &Arc<Health>) -> Generation {
    let health = Arc::clone(health);
    let pool = PgPoolOptions::new()
        .max_connections(limits.max_connections)
        .acquire_timeout(limits.acquire_timeout + LOGIN)
        .idle_timeout(limits.idle_timeout)
        .acquire_slow_level(LevelFilter::Off)
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let health = Arc::clone(&health);
            Box::pin(async move { Ok(health.is_usable(connection, meta.idle_for).await) })
        })
        .connect_lazy_with(options);
    Generation { pool, shares: Shares::new(limits.max_of_tenant) }
}
