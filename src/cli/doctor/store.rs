//! What `postgres` asks the server.

use sqlx::{PgConnection, Row as _};

use super::{Clock, now};

/// A session, its role and its server.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Facts {
    pub role: String,
    pub database: String,
    /// With the name of the database: the same or another one.
    pub server_started: f64,
    pub standby: bool,
    pub read_only: bool,
    /// Milliseconds, as for the next two; 0 for none.
    pub statement_timeout: i64,
    pub lock_timeout: i64,
    pub idle_timeout: i64,
    pub max_connections: i64,
    /// Of these, for superusers and for members of pg_use_reserved_connections.
    pub reserved: i64,
    /// -1 for none, as the next.
    pub role_limit: i64,
    pub database_limit: i64,
}

pub async fn facts(connection: &mut PgConnection) -> Result<Facts, sqlx::Error> {
    sqlx::query_as(
        r#"
        select current_user::text as role,
               current_database()::text as database,
               extract(epoch from pg_postmaster_start_time())::float8 as server_started,
               pg_is_in_recovery() as standby,
               current_setting('default_transaction_read_only')::bool as read_only,
               (select setting::int8 from pg_settings where name = 'statement_timeout') as statement_timeout,
               (select setting::int8 from pg_settings where name = 'lock_timeout') as lock_timeout,
               (select setting::int8 from pg_settings where name = 'idle_in_transaction_session_timeout') as idle_timeout,
               current_setting('max_connections')::int8 as max_connections,
               current_setting('superuser_reserved_connections')::int8
                   + coalesce(current_setting('reserved_connections', true)::int8, 0) as reserved,
               (select rolconnlimit::int8 from pg_roles where rolname = current_user) as role_limit,
               (select datconnlimit::int8 from pg_database where datname = current_database()) as database_limit
        "#,
    )
    .fetch_one(connection)
    .await
}

/// By the simple protocol: exactly one round trip.
pub async fn clock(connection: &mut PgConnection) -> Result<Clock, sqlx::Error> {
    let asked = now();
    let row = sqlx::raw_sql("select extract(epoch from clock_timestamp())::float8").fetch_one(connection).await?;
    Ok(Clock::read(asked, row.try_get(0)?))
}

/// A row of the migrators' book.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Applied {
    pub version: i64,
    pub checksum: Vec<u8>,
    pub success: bool,
}

/// Empty where nothing was ever migrated.
pub async fn applied(connection: &mut PgConnection) -> Result<Vec<Applied>, sqlx::Error> {
    let applied =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations order by version limit 10000")
            .fetch_all(connection)
            .await;
    match applied {
        // undefined_table
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01")) => {
            Ok(Vec::new())
        }
        other => other,
    }
}
