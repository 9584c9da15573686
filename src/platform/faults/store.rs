//! SQL of the fault routes, on `fault_rows` only.

use std::time::Duration;

use crate::platform::{db::TenantTx, error::Result};

/// # Errors
/// The database's own; `database_timeout` past the role's `statement_timeout`.
pub async fn sleep(tx: &mut TenantTx, duration: Duration) -> Result<()> {
    sqlx::query("select pg_sleep($1)").bind(duration.as_secs_f64()).execute(tx.traced("SELECT pg_sleep")).await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn find(tx: &mut TenantTx, id: i32) -> Result<Option<String>> {
    let payload = sqlx::query_scalar("select payload from fault_rows where id = $1")
        .bind(id)
        .fetch_optional(tx.traced("SELECT fault_rows"))
        .await?;
    Ok(payload)
}

/// Locks a row until the end of the transaction.
///
/// # Errors
/// `database_busy` when another holds it.
pub async fn lock(tx: &mut TenantTx) -> Result<()> {
    sqlx::query("update fault_rows set payload = payload where id = 1").execute(tx.traced("UPDATE fault_rows")).await?;
    Ok(())
}
