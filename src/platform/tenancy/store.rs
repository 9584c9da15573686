//! SQL of tenants, API keys and the audit log; all of it as the system role.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Scope, TenantId};
use crate::platform::{
    db::{SystemTx, TenantTx, errors::OnConstraint as _},
    error::{Error, Kind, Result},
};

/// A tenant's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Tenant {
    pub id: Uuid,
    pub slug: String,
    pub webhook_url: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// An API key without its secret.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredKey {
    pub tenant_id: Uuid,
    pub key_id: String,
    pub name: String,
    pub scope: String,
    pub secret_hash: Vec<u8>,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// # Errors
/// `Conflict` when the slug is taken.
pub async fn insert_tenant(tx: &mut SystemTx, id: TenantId, slug: &str, webhook_url: Option<&str>) -> Result<()> {
    sqlx::query(
        r#"
        insert into tenants (id, slug, webhook_url)
        values ($1, $2, $3)
        "#,
    )
    .bind(id.as_uuid())
    .bind(slug)
    .bind(webhook_url)
    .execute(tx.traced("INSERT tenants"))
    .await
    .on_constraint("tenants_slug_key", || {
        Error::new(Kind::Conflict, "tenant_slug_taken", "A tenant with this name exists.")
    })?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn set_webhook(tx: &mut SystemTx, id: Uuid, webhook_url: Option<&str>) -> Result<()> {
    sqlx::query(
        r#"
        update tenants
        set webhook_url = $2, updated_at = now()
        where id = $1
        "#,
    )
    .bind(id)
    .bind(webhook_url)
    .execute(tx.traced("UPDATE tenants"))
    .await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn find_tenant(tx: &mut SystemTx, slug: &str) -> Result<Option<Tenant>> {
    let tenant = sqlx::query_as(
        r#"
        select id, slug, webhook_url, created_at, updated_at
        from tenants
        where slug = $1
        "#,
    )
    .bind(slug)
    .fetch_optional(tx.traced("SELECT tenants"))
    .await?;
    Ok(tenant)
}

/// # Errors
/// Only the database's own.
pub async fn list_tenants(tx: &mut SystemTx) -> Result<Vec<Tenant>> {
    let tenants = sqlx::query_as(
        r#"
        select id, slug, webhook_url, created_at, updated_at
        from tenants
        order by slug
        limit 10000
        "#,
    )
    .fetch_all(tx.traced("SELECT tenants"))
    .await?;
    Ok(tenants)
}

/// The tenant's own row, as the tenant.
///
/// # Errors
/// Only the database's own.
pub async fn own_tenant(tx: &mut TenantTx) -> Result<Option<Tenant>> {
    let tenant = sqlx::query_as(
        r#"
        select id, slug, webhook_url, created_at, updated_at
        from tenants
        where id = $1
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .fetch_optional(tx.traced("SELECT tenants"))
    .await?;
    Ok(tenant)
}

/// # Errors
/// Only the database's own.
pub async fn insert_key(
    tx: &mut SystemTx,
    tenant: Uuid,
    key_id: &str,
    name: &str,
    scope: Scope,
    hash: &[u8],
) -> Result<()> {
    sqlx::query(
        r#"
        insert into api_keys (tenant_id, key_id, name, scope, secret_hash)
        values ($1, $2, $3, $4, $5)
        "#,
    )
    .bind(tenant)
    .bind(key_id)
    .bind(name)
    .bind(scope.as_str())
    .bind(hash)
    .execute(tx.traced("INSERT api_keys"))
    .await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn find_key(tx: &mut SystemTx, key_id: &str) -> Result<Option<StoredKey>> {
    let key = sqlx::query_as(
        r#"
        select tenant_id, key_id, name, scope, secret_hash, created_at, revoked_at
        from api_keys
        where key_id = $1
        "#,
    )
    .bind(key_id)
    .fetch_optional(tx.traced("SELECT api_keys"))
    .await?;
    Ok(key)
}

/// Replaces a key's hash, unless somebody else has by now.
///
/// # Errors
/// Only the database's own.
pub async fn renew_key(tx: &mut SystemTx, key_id: &str, old: &[u8], new: &[u8]) -> Result<()> {
    sqlx::query(
        r#"
        update api_keys
        set secret_hash = $3
        where key_id = $1 and secret_hash = $2
        "#,
    )
    .bind(key_id)
    .bind(old)
    .bind(new)
    .execute(tx.traced("UPDATE api_keys"))
    .await?;
    Ok(())
}

/// # Errors
/// Only the database's own.
pub async fn list_keys(tx: &mut SystemTx, tenant: Uuid) -> Result<Vec<StoredKey>> {
    let keys = sqlx::query_as(
        r#"
        select tenant_id, key_id, name, scope, secret_hash, created_at, revoked_at
        from api_keys
        where tenant_id = $1
        order by created_at
        limit 10000
        "#,
    )
    .bind(tenant)
    .fetch_all(tx.traced("SELECT api_keys"))
    .await?;
    Ok(keys)
}

/// Whether a live key of this id was there to revoke.
///
/// # Errors
/// Only the database's own.
pub async fn revoke_key(tx: &mut SystemTx, tenant: Uuid, key_id: &str) -> Result<bool> {
    let done = sqlx::query(
        r#"
        update api_keys
        set revoked_at = now()
        where tenant_id = $1 and key_id = $2 and revoked_at is null
        "#,
    )
    .bind(tenant)
    .bind(key_id)
    .execute(tx.traced("UPDATE api_keys"))
    .await?;
    Ok(done.rows_affected() > 0)
}

/// # Errors
/// Only the database's own.
pub async fn audit(tx: &mut SystemTx, tenant: Uuid, actor: &str, action: &str, detail: Value) -> Result<()> {
    sqlx::query(
        r#"
        insert into audit_log (tenant_id, id, actor, action, detail)
        values ($1, $2, $3, $4, $5)
        "#,
    )
    .bind(tenant)
    .bind(Uuid::now_v7())
    .bind(actor)
    .bind(action)
    .bind(detail)
    .execute(tx.traced("INSERT audit_log"))
    .await?;
    Ok(())
}
