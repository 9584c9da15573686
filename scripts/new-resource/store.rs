//! SQL of widgets.

use uuid::Uuid;

use super::model::{Changes, NewWidget, Widget};
use crate::platform::{
    db::{TenantTx, errors::OnConstraint as _},
    error::{Error, Kind, Result},
};

fn number_taken() -> Error {
    Error::new(Kind::Conflict, "widget_number_taken", "A widget with this number exists.")
}

/// # Errors
/// `Conflict` when the tenant has a widget of this number.
pub async fn insert(tx: &mut TenantTx, widget: &NewWidget) -> Result<Widget> {
    sqlx::query_as(
        r#"
        insert into widgets (tenant_id, id, number, name, note)
        values ($1, $2, $3, $4, $5)
        returning id, number, name, note, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(Uuid::now_v7())
    .bind(&widget.number)
    .bind(&widget.name)
    .bind(&widget.note)
    .fetch_one(tx.traced("INSERT widgets"))
    .await
    .on_constraint("widgets_tenant_id_number_key", number_taken)
}

/// # Errors
/// Only the database's own.
pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Widget>> {
    let widget = sqlx::query_as(
        r#"
        select id, number, name, note, created_at, updated_at
        from widgets
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .fetch_optional(tx.traced("SELECT widgets"))
    .await?;
    Ok(widget)
}

/// Oldest first, after the id `after`.
///
/// # Errors
/// Only the database's own.
pub async fn list(tx: &mut TenantTx, after: Option<Uuid>, limit: i64) -> Result<Vec<Widget>> {
    let widgets = sqlx::query_as(
        r#"
        select id, number, name, note, created_at, updated_at
        from widgets
        where tenant_id = $1 and id > $2
        order by id
        limit $3
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(tx.traced("SELECT widgets"))
    .await?;
    Ok(widgets)
}

/// Writes what is given in one statement: no read before it, so no race. `None` when there is no
/// such widget.
///
/// # Errors
/// `Conflict` when the tenant has a widget of the new number.
pub async fn update(tx: &mut TenantTx, id: Uuid, changes: &Changes) -> Result<Option<Widget>> {
    sqlx::query_as(
        r#"
        update widgets
        set number = coalesce($3, number),
            name = coalesce($4, name),
            note = case when $5 then $6 else note end,
            updated_at = now()
        where tenant_id = $1 and id = $2
        returning id, number, name, note, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .bind(&changes.number)
    .bind(&changes.name)
    .bind(changes.note.is_some())
    .bind(changes.note.clone().flatten())
    .fetch_optional(tx.traced("UPDATE widgets"))
    .await
    .on_constraint("widgets_tenant_id_number_key", number_taken)
}

/// Whether there was such a widget.
///
/// # Errors
/// Only the database's own.
pub async fn delete(tx: &mut TenantTx, id: Uuid) -> Result<bool> {
    let done = sqlx::query(
        r#"
        delete from widgets
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .execute(tx.traced("DELETE widgets"))
    .await?;
    Ok(done.rows_affected() > 0)
}
