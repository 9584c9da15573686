//! SQL of products.

use uuid::Uuid;

use super::model::{Changes, NewProduct, Product};
use crate::platform::{
    db::{TenantTx, errors::OnConstraint as _},
    error::{Error, Kind, Result},
};

fn sku_taken() -> Error {
    Error::new(Kind::Conflict, "product_sku_taken", "A product with this SKU exists.")
}

/// # Errors
/// `Conflict` when the SKU is taken in this shop.
pub async fn insert(tx: &mut TenantTx, product: &NewProduct) -> Result<Product> {
    sqlx::query_as(
        r#"
        insert into products (tenant_id, id, sku, name, description, price_minor, currency, stock)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        returning id, sku, name, description, price_minor, currency, stock, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(Uuid::now_v7())
    .bind(&product.sku)
    .bind(&product.name)
    .bind(&product.description)
    .bind(product.price_minor)
    .bind(&product.currency)
    .bind(product.stock)
    .fetch_one(tx.traced("INSERT products"))
    .await
    .on_constraint("products_tenant_id_sku_key", sku_taken)
}

/// # Errors
/// Only the database's own.
pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Product>> {
    let product = sqlx::query_as(
        r#"
        select id, sku, name, description, price_minor, currency, stock, created_at, updated_at
        from products
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .fetch_optional(tx.traced("SELECT products"))
    .await?;
    Ok(product)
}

/// Oldest first, after the id `after`.
///
/// # Errors
/// Only the database's own.
pub async fn list(tx: &mut TenantTx, after: Option<Uuid>, limit: i64) -> Result<Vec<Product>> {
    let products = sqlx::query_as(
        r#"
        select id, sku, name, description, price_minor, currency, stock, created_at, updated_at
        from products
        where tenant_id = $1 and id > $2
        order by id
        limit $3
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(tx.traced("SELECT products"))
    .await?;
    Ok(products)
}

/// Writes what is given in one statement: no read before it, so no race. `None` when there is no
/// such product.
///
/// # Errors
/// `Conflict` when the new SKU is taken in this shop.
pub async fn update(tx: &mut TenantTx, id: Uuid, changes: &Changes) -> Result<Option<Product>> {
    sqlx::query_as(
        r#"
        update products
        set sku = coalesce($3, sku),
            name = coalesce($4, name),
            description = case when $5 then $6 else description end,
            price_minor = coalesce($7, price_minor),
            currency = coalesce($8, currency),
            stock = coalesce($9, stock),
            updated_at = now()
        where tenant_id = $1 and id = $2
        returning id, sku, name, description, price_minor, currency, stock, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .bind(&changes.sku)
    .bind(&changes.name)
    .bind(changes.description.is_some())
    .bind(changes.description.clone().flatten())
    .bind(changes.price_minor)
    .bind(&changes.currency)
    .bind(changes.stock)
    .fetch_optional(tx.traced("UPDATE products"))
    .await
    .on_constraint("products_tenant_id_sku_key", sku_taken)
}

/// Whether there was such a product.
///
/// # Errors
/// Only the database's own.
pub async fn delete(tx: &mut TenantTx, id: Uuid) -> Result<bool> {
    let done = sqlx::query(
        r#"
        delete from products
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .execute(tx.traced("DELETE products"))
    .await?;
    Ok(done.rows_affected() > 0)
}
