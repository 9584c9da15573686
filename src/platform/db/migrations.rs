//! The schema: `keel migrate` applies it as the owner, `serve` waits for it as the runtime role.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    migrate::{MigrateError, Migrator},
};

use super::{DatabaseConfig, Db, options};
use crate::platform::jitter;

/// Every file of `migrations/`, in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// One try waits this long for another migrator's lock or a table's; then traffic goes first and
/// the try is repeated. Without it a stuck pod would block every start (trap 12).
const LOCK_TIMEOUT: &str = "1s";

/// Key of the advisory lock of migrators (any constant does).
const LOCK: i64 = 0x6b65_656c;

/// Applies what is missing; safe to run from several places at once.
///
/// # Errors
/// In words, never with the URL.
pub async fn run(config: &DatabaseConfig) -> Result<usize, String> {
    let url = config.migration_url.as_ref().ok_or("database.migration_url: missing; set DATABASE_MIGRATION_URL")?;
    let options = options(url)?;
    for role in [&config.runtime_role, &config.system_role] {
        if !role.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("database: the role name \"{role}\" may hold letters, digits and _ only"));
        }
    }
    let deadline = Instant::now() + config.migration_timeout;
    let mut pause = Duration::from_millis(50);
    loop {
        let (error, again) = match attempt(&options, config).await {
            Ok(applied) => return Ok(applied),
            Err(Attempt::Retry(error)) => (error, true),
            Err(Attempt::Fail(error)) => (error, false),
        };
        if !again || Instant::now() + pause > deadline {
            return Err(error);
        }
        tracing::info!(error, "migration_waits");
        // Several migrators don't meet again at the same moment.
        tokio::time::sleep(jitter::between(pause..=pause * 3 / 2)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

enum Attempt {
    Retry(String),
    Fail(String),
}

async fn attempt(options: &sqlx::postgres::PgConnectOptions, config: &DatabaseConfig) -> Result<usize, Attempt> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    let connecting = connecting.map_err(|_| Attempt::Retry("the database does not answer".to_owned()))?;
    let mut connection = connecting.map_err(|error| classify(&error))?;
    // The files name the roles through these settings, so that a shared server can hold several copies.
    let settings = format!(
        "set lock_timeout = '{LOCK_TIMEOUT}'; set app.runtime_role = '{}'; set app.system_role = '{}'",
        config.runtime_role, config.system_role
    );
    connection.execute(AssertSqlSafe(settings)).await.map_err(|error| classify(&error))?;
    // Held to the end of the session, so that what is counted here is what this run did.
    connection
        .execute(AssertSqlSafe(format!("select pg_advisory_lock({LOCK})")))
        .await
        .map_err(|error| classify(&error))?;
    let before = applied(&mut connection).await.unwrap_or_default().len();
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    // After a rollback of the service the database is ahead of the binary: nothing to do, not a fault.
    migrator.set_ignore_missing(true);
    match migrator.run(&mut connection).await {
        Ok(()) => {
            let after = applied(&mut connection).await.map_err(|error| classify(&error))?.len();
            connection
                .execute(AssertSqlSafe(format!(
                    "grant select on _sqlx_migrations to {}, {}",
                    config.runtime_role, config.system_role
                )))
                .await
                .map_err(|error| classify(&error))?;
            Ok(after - before)
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(classify(&error)),
        Err(error) => Err(Attempt::Fail(error.to_string())),
    }
}

fn classify(error: &sqlx::Error) -> Attempt {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let text = error.to_string();
    // Lock not available, server starting, too many connections, or no server yet.
    if matches!(&*code, "55P03" | "57P03" | "53300") || matches!(error, sqlx::Error::Io(_)) {
        Attempt::Retry(text)
    } else {
        Attempt::Fail(text)
    }
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("select version from _sqlx_migrations where success order by version limit 10000")
        .fetch_all(connection)
        .await
}

/// Migrations of this binary that the database lacks. Newer ones in the database are fine: pods of
/// the release before live through a rollout.
///
/// # Errors
/// When the database can't be asked.
pub async fn missing(db: &Db) -> Result<Vec<i64>, sqlx::Error> {
    let mut connection = db.0.runtime.acquire().await?;
    let applied = match applied(&mut connection).await {
        // undefined_table: nothing was ever migrated here.
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01")) => {
            Vec::new()
        }
        other => other?,
    };
    connection.give_back();
    Ok(MIGRATOR.iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect())
}
