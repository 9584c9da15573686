//! SQL of idempotency keys.

use std::time::Duration;

use super::{Answer, IdempotencyKey, in_progress};
use crate::platform::{
    db::{SystemTx, TenantTx},
    error::Result,
};

/// Rows removed in one transaction.
pub const BATCH: u64 = 1_000;

#[derive(sqlx::FromRow)]
pub struct Stored {
    pub fingerprint: Vec<u8>,
    pub status: Option<i32>,
    pub body: Option<String>,
}

/// Whether the key was free. Waits for a transaction that holds it, for at most the role's
/// `lock_timeout`.
pub async fn insert(tx: &mut TenantTx, key: &IdempotencyKey, fingerprint: &[u8]) -> Result<bool> {
    let done = sqlx::query(
        r#"
        insert into idempotency_keys (tenant_id, key, fingerprint)
        values ($1, $2, $3)
        on conflict on constraint idempotency_keys_pkey do nothing
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(key.as_str())
    .bind(fingerprint)
    .execute(tx.traced("INSERT idempotency_keys"))
    .await
    .map_err(|error| match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("55P03") => in_progress(),
        _ => error.into(),
    })?;
    Ok(done.rows_affected() == 1)
}

pub async fn find(tx: &mut TenantTx, key: &IdempotencyKey) -> Result<Option<Stored>> {
    let stored = sqlx::query_as(
        r#"
        select fingerprint, status, body
        from idempotency_keys
        where tenant_id = $1 and key = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(key.as_str())
    .fetch_optional(tx.traced("SELECT idempotency_keys"))
    .await?;
    Ok(stored)
}

/// Keeps the answer unless one is kept already; the answer that is kept.
pub async fn complete(tx: &mut TenantTx, key: &str, answer: &Answer) -> Result<Option<(i32, String)>> {
    let kept = sqlx::query_as(
        r#"
        update idempotency_keys
        set status = coalesce(status, $3), body = coalesce(body, $4), completed_at = coalesce(completed_at, now())
        where tenant_id = $1 and key = $2
        returning status, body
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(key)
    .bind(i32::from(answer.status))
    .bind(&answer.body)
    .fetch_optional(tx.traced("UPDATE idempotency_keys"))
    .await?;
    Ok(kept)
}

/// Removes one batch; what is still in progress stays.
pub async fn expire(tx: &mut SystemTx, retention: Duration) -> Result<u64> {
    let done = sqlx::query(
        r#"
        delete from idempotency_keys
        where (tenant_id, key) in (
            select tenant_id, key
            from idempotency_keys
            where created_at < now() - make_interval(secs => $1) and status is not null
            limit $2
            for update skip locked
        )
        "#,
    )
    .bind(retention.as_secs_f64())
    .bind(BATCH.cast_signed())
    .execute(tx.traced("DELETE idempotency_keys"))
    .await?;
    Ok(done.rows_affected())
}
