//! SQL of orders, and of the stock they take and give back.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::model::{Line, NewOrder, Offer, Order, Status};
use crate::platform::{
    db::TenantTx,
    error::{Error, Result},
};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    status: String,
    payment_method: String,
    total_minor: i64,
    currency: String,
    idempotency_key: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn with(self, lines: Vec<Line>) -> Result<Order> {
        let status =
            Status::parse(&self.status).ok_or_else(|| Error::internal(format!("unknown status {}", self.status)))?;
        let Self { id, payment_method, total_minor, currency, idempotency_key, created_at, updated_at, .. } = self;
        Ok(Order { id, status, payment_method, total_minor, currency, idempotency_key, lines, created_at, updated_at })
    }
}

/// Locks the products of an order, always in the same sequence, and reads what they cost.
pub async fn lock_offers(tx: &mut TenantTx, lines: &[(Uuid, i32)]) -> Result<Vec<Offer>> {
    let products: Vec<Uuid> = lines.iter().map(|(product, _)| *product).collect();
    let offers = sqlx::query_as(
        r#"
        select id, price_minor, currency, stock
        from products
        where tenant_id = $1 and id = any($2)
        order by id
        limit 100
        for no key update
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(products)
    .fetch_all(tx.traced("SELECT products"))
    .await?;
    Ok(offers)
}

/// Takes the stock of an order (`sign` -1) or gives it back (+1). A product that is gone takes nothing back.
pub async fn move_stock(tx: &mut TenantTx, lines: &[Line], sign: i32) -> Result<()> {
    let (products, quantities): (Vec<Uuid>, Vec<i32>) =
        lines.iter().map(|line| (line.product_id, line.quantity * sign)).unzip();
    sqlx::query(
        r#"
        update products
        set stock = products.stock + moved.quantity, updated_at = now()
        from unnest($2::uuid[], $3::int[]) as moved (product_id, quantity)
        where products.tenant_id = $1 and products.id = moved.product_id
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(products)
    .bind(quantities)
    .execute(tx.traced("UPDATE products"))
    .await?;
    Ok(())
}

pub async fn insert(
    tx: &mut TenantTx,
    new: &NewOrder,
    lines: &[Line],
    total_minor: i64,
    currency: &str,
    key: &str,
) -> Result<Order> {
    let row: Row = sqlx::query_as(
        r#"
        insert into orders (tenant_id, id, status, payment_method, total_minor, currency, idempotency_key)
        values ($1, $2, 'placed', $3, $4, $5, $6)
        returning id, status, payment_method, total_minor, currency, idempotency_key, created_at, updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(Uuid::now_v7())
    .bind(&new.payment_method)
    .bind(total_minor)
    .bind(currency)
    .bind(key)
    .fetch_one(tx.traced("INSERT orders"))
    .await?;
    let products: Vec<Uuid> = lines.iter().map(|line| line.product_id).collect();
    let quantities: Vec<i32> = lines.iter().map(|line| line.quantity).collect();
    let prices: Vec<i64> = lines.iter().map(|line| line.price_minor).collect();
    sqlx::query(
        r#"
        insert into order_lines (tenant_id, order_id, position, product_id, quantity, price_minor)
        select $1, $2, line.position, line.product_id, line.quantity, line.price_minor
        from unnest($3::uuid[], $4::int[], $5::bigint[]) with ordinality as line (product_id, quantity, price_minor, position)
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(row.id)
    .bind(products)
    .bind(quantities)
    .bind(prices)
    .execute(tx.traced("INSERT order_lines"))
    .await?;
    row.with(lines.to_vec())
}

pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Order>> {
    let row: Option<Row> = sqlx::query_as(
        r#"
        select id, status, payment_method, total_minor, currency, idempotency_key, created_at, updated_at
        from orders
        where tenant_id = $1 and id = $2
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .fetch_optional(tx.traced("SELECT orders"))
    .await?;
    with_lines(tx, row).await
}

/// The order, locked against any other that would change it.
pub async fn find_for_update(tx: &mut TenantTx, id: Uuid) -> Result<Option<Order>> {
    let row: Option<Row> = sqlx::query_as(
        r#"
        select id, status, payment_method, total_minor, currency, idempotency_key, created_at, updated_at
        from orders
        where tenant_id = $1 and id = $2
        for update
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(id)
    .fetch_optional(tx.traced("SELECT orders"))
    .await?;
    with_lines(tx, row).await
}

async fn with_lines(tx: &mut TenantTx, row: Option<Row>) -> Result<Option<Order>> {
    let Some(row) = row else { return Ok(None) };
    let mut lines = lines(tx, &[row.id]).await?;
    row.with(lines.drain(..).map(|(_, line)| line).collect()).map(Some)
}

async fn lines(tx: &mut TenantTx, orders: &[Uuid]) -> Result<Vec<(Uuid, Line)>> {
    let rows: Vec<(Uuid, Uuid, i32, i64)> = sqlx::query_as(
        r#"
        select order_id, product_id, quantity, price_minor
        from order_lines
        where tenant_id = $1 and order_id = any($2)
        order by order_id, position
        limit 10100
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(orders)
    .fetch_all(tx.traced("SELECT order_lines"))
    .await?;
    Ok(rows
        .into_iter()
        .map(|(order, product_id, quantity, price_minor)| (order, Line { product_id, quantity, price_minor }))
        .collect())
}

/// Oldest first, after the id `after`.
pub async fn list(tx: &mut TenantTx, after: Option<Uuid>, limit: i64) -> Result<Vec<Order>> {
    let rows: Vec<Row> = sqlx::query_as(
        r#"
        select id, status, payment_method, total_minor, currency, idempotency_key, created_at, updated_at
        from orders
        where tenant_id = $1 and id > $2
        order by id
        limit $3
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(tx.traced("SELECT orders"))
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let all = lines(tx, &ids).await?;
    let of = |id: Uuid| all.iter().filter(|(order, _)| *order == id).map(|(_, line)| line.clone()).collect();
    rows.into_iter()
        .map(|row| {
            let lines = of(row.id);
            row.with(lines)
        })
        .collect()
}

pub async fn update_status(tx: &mut TenantTx, order: &mut Order, status: Status) -> Result<()> {
    order.updated_at = sqlx::query_scalar(
        r#"
        update orders
        set status = $3, updated_at = now()
        where tenant_id = $1 and id = $2
        returning updated_at
        "#,
    )
    .bind(tx.tenant().as_uuid())
    .bind(order.id)
    .bind(status.as_str())
    .fetch_one(tx.traced("UPDATE orders"))
    .await?;
    order.status = status;
    Ok(())
}
