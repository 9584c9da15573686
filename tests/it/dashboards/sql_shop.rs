//! The SQL of docs/queries-shop.md, on a database with an order that is stuck. Gone with the example.

use sqlx::AssertSqlSafe;

use super::{sheets::blocks, sql};
use crate::support::services;

#[tokio::test(flavor = "multi_thread")]
async fn stuck_orders_are_found() {
    let database = services::database().await;
    let tenant = sql::tenant(&database).await;
    let mut runtime = services::connect("DATABASE_URL", &database).await;
    let order = format!(
        "begin; set local app.tenant_id = '{tenant}';
         insert into orders (tenant_id, id, status, payment_method, total_minor, currency, idempotency_key)
         values ('{tenant}', gen_random_uuid(), 'payment_pending', 'tok_timeout', 1, 'EUR', 'k'); commit"
    );
    sql::execute(&mut runtime, &order).await;
    for block in blocks("sql").iter().filter(|block| block.word == "admin") {
        let mut admin = sql::admin(&database).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql::filled_in(block))).fetch_all(&mut admin).await;
        assert!(!rows.unwrap().is_empty(), "{} finds nothing", block.place);
    }
    drop(runtime);
    services::drop_database(&database).await;
}
