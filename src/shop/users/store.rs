//! SQL of users.

use uuid::Uuid;

use super::model::{NewUser, User};
use crate::platform::{
    db::{TenantTx, errors::OnConstraint as _},
    error::{Error, Kind, Result},
};

/// # Errors
/// `Conflict` when the address is taken in this shop.
pub async fn insert(tx: &mut TenantTx, user: &NewUser) -> Result<User> {
    sqlx::query_as(
        r#"
        insert into users (tenant_id, id, email, name, source)
        values ($1, $2, $3, $4, $5)
        returning id, email, name, source, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(Uuid::now_v7())
    .bind(&user.email)
    .bind(&user.name)
    .bind(&user.source)
    .fetch_one(tx.traced("INSERT users"))
    .await
    .on_constraint("users_tenant_id_email_key", || {
        Error::new(Kind::Conflict, "user_email_taken", "A user with this e-mail address exists.")
    })
}

/// # Errors
/// Only the database's own.
pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<User>> {
    let user = sqlx::query_as(
        r#"
        select id, email, name, source, created_at, updated_at
        from users
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .fetch_optional(tx.traced("SELECT users"))
    .await?;
    Ok(user)
}

/// Oldest first, after the id `after`.
///
/// # Errors
/// Only the database's own.
pub async fn list(tx: &mut TenantTx, after: Option<Uuid>, limit: i64) -> Result<Vec<User>> {
    let users = sqlx::query_as(
        r#"
        select id, email, name, source, created_at, updated_at
        from users
        where tenant_id = $1 and id > $2
        order by id
        limit $3
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(tx.traced("SELECT users"))
    .await?;
    Ok(users)
}
