//! A resource of the tests' own, `/v1/test-things`: in the layers of the service and on a table of its own, with a
//! body, ids, a list, the cache and idempotency keys. What the platform does for any resource is shown on it, so that
//! it is shown without a domain. It is not in the document.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use keel::{
    app::App,
    config::Config,
    platform::{
        cache::read_through::{Caches, ReadThrough},
        db::{Db, TenantTx, errors::OnConstraint as _},
        error::{Error, Kind, Result, Validation, text},
        http::{
            auth::{Caller, Read, Write},
            extract::{Json, PathId, Query},
            pagination::{Cursors, ListQuery, Page},
        },
        idempotency::{Answer, Claim, Idempotency, IdempotencyKey},
        telemetry::metrics::Registry,
        tenancy::TenantId,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, FromRow};
use uuid::Uuid;

use super::{TestApp, client::Tenant, services};

pub const PATH: &str = "/v1/test-things";
/// Of one that is posted to with an idempotency key.
pub const ONCE: &str = "/v1/test-things/once";
/// How long one is fresh in the cache, unless told otherwise.
pub const FRESH: Duration = Duration::from_secs(60);

/// As migrations make a tenant's table; `{}` is the role of the service.
const TABLE: &str = "
    select set_config('app.runtime_role', '{}', false);
    create table test_things (
        tenant_id uuid not null,
        id uuid not null,
        name text not null,
        note text,
        amount bigint not null,
        constraint test_things_pkey primary key (tenant_id, id),
        constraint test_things_tenant_id_name_key unique (tenant_id, name)
    );
    select protect_tenant_table('test_things');
";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NewThing {
    name: String,
    note: Option<String>,
    amount: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    amount: Option<i64>,
}

#[derive(Deserialize, FromRow, Serialize)]
struct Thing {
    id: Uuid,
    name: String,
    note: Option<String>,
    amount: i64,
}

/// What the handlers share.
#[derive(Clone)]
pub struct Things {
    db: Db,
    cursors: Cursors,
    cache: ReadThrough,
    idempotency: Idempotency,
    /// Of its cache: the service's own has these series already.
    registry: Registry,
}

impl Things {
    /// Makes the table, unless another application on this database has.
    pub async fn create(app: &App, config: &Config, database: &str, fresh: Duration) -> Self {
        let mut owner = services::connect("DATABASE_MIGRATION_URL", database).await;
        let exists = "select to_regclass('test_things') is not null";
        if !sqlx::query_scalar::<_, bool>(exists).fetch_one(&mut owner).await.unwrap() {
            let table = AssertSqlSafe(TABLE.replace("{}", &services::role("RUNTIME")));
            sqlx::raw_sql(table).execute(&mut owner).await.unwrap();
        }
        owner.close().await.unwrap();
        let registry = Registry::default();
        let caches =
            Caches::new(app.redis().cloned(), &config.redis.key_prefix, config.http.request_timeout, &registry);
        Self {
            db: app.db().clone(),
            cursors: Cursors::new(app.pepper()),
            cache: caches.of("thing", fresh),
            idempotency: app.idempotency().clone(),
            registry,
        }
    }

    pub fn metrics(&self) -> String {
        self.registry.text()
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route(PATH, post(make_thing).get(list_things))
            .route(ONCE, post(make_once))
            .route("/v1/test-things/{thing_id}", get(show_thing).patch(change_thing))
            .with_state(self.clone())
    }
}

/// The body of a new one.
pub fn thing(name: &str) -> Value {
    json!({"name": name, "note": "of oak", "amount": 1})
}

/// A new one: its path and what it is.
pub async fn make(app: &TestApp, tenant: &Tenant, name: &str) -> (String, Value) {
    let made = app.post(PATH, &tenant.key, &thing(name)).await;
    (made.header("location").to_owned(), made.ok(201))
}

fn checked(name: Option<&str>, note: Option<&str>, amount: Option<i64>) -> Result<()> {
    let mut found = Validation::default();
    let texts = [("name", name, 200), ("note", note, 2_000)];
    for (field, value, most) in texts.into_iter().filter_map(|(field, value, most)| Some((field, value?, most))) {
        found.parsed(field, text(value, most));
    }
    if amount.is_some_and(|amount| !(0..=1_000_000_000).contains(&amount)) {
        found.reject("amount", "must be between 0 and 1000000000");
    }
    found.finish()
}

fn not_found() -> Error {
    Error::not_found("thing_not_found", "There is no such thing.")
}

fn taken() -> Error {
    Error::new(Kind::Conflict, "thing_name_taken", "A thing with this name exists.")
}

fn created(id: Uuid, body: String) -> Response {
    let headers = [(header::LOCATION, format!("{PATH}/{id}")), (header::CONTENT_TYPE, "application/json".to_owned())];
    (StatusCode::CREATED, headers, body).into_response()
}

async fn insert(tx: &mut TenantTx, new: &NewThing) -> Result<Thing> {
    let sql = "insert into test_things (tenant_id, id, name, note, amount) values ($1, $2, $3, $4, $5)
               returning id, name, note, amount";
    let query = sqlx::query_as(sql).bind(tx.tenant().as_uuid()).bind(Uuid::now_v7()).bind(&new.name);
    let query = query.bind(&new.note).bind(new.amount);
    query.fetch_one(tx.traced("INSERT test_things")).await.on_constraint("test_things_tenant_id_name_key", taken)
}

async fn make_thing(
    State(things): State<Things>,
    caller: Caller<Write>,
    Json(new): Json<NewThing>,
) -> Result<Response> {
    checked(Some(&new.name), new.note.as_deref(), Some(new.amount))?;
    let mut tx = TenantTx::begin(&things.db, caller.tenant).await?;
    let thing = insert(&mut tx, &new).await?;
    tx.commit().await?;
    tracing::info!(thing_id = %thing.id, "thing_made");
    Ok(created(thing.id, serde_json::to_string(&thing).map_err(Error::internal)?))
}

async fn make_once(
    State(things): State<Things>,
    caller: Caller<Write>,
    key: IdempotencyKey,
    Json(new): Json<NewThing>,
) -> Result<Response> {
    checked(Some(&new.name), new.note.as_deref(), Some(new.amount))?;
    let mut tx = TenantTx::begin(&things.db, caller.tenant).await?;
    let (answer, replayed) = match things.idempotency.claim(&mut tx, &key, "make_once", &new).await? {
        Claim::Replay(answer) => (answer, "true"),
        Claim::New => {
            let thing = insert(&mut tx, &new).await?;
            let body = serde_json::to_string(&thing).map_err(Error::internal)?;
            (things.idempotency.complete(&mut tx, key.as_str(), Answer { status: 201, body }).await?, "false")
        }
    };
    tx.commit().await?;
    let thing: Thing = serde_json::from_str(&answer.body).map_err(Error::internal)?;
    let mut response = created(thing.id, answer.body);
    response.headers_mut().insert("idempotent-replayed", header::HeaderValue::from_static(replayed));
    Ok(response)
}

async fn list_things(
    State(things): State<Things>,
    caller: Caller<Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Thing>>> {
    let window = things.cursors.read(&query, caller.tenant, "things")?;
    let mut tx = TenantTx::begin(&things.db, caller.tenant).await?;
    let sql = "select id, name, note, amount from test_things where tenant_id = $1 and id > $2 order by id limit $3";
    let query = sqlx::query_as(sql).bind(tx.tenant().as_uuid()).bind(window.after.unwrap_or_default());
    let rows: Vec<Thing> = query.bind(window.rows()).fetch_all(tx.traced("SELECT test_things")).await?;
    tx.commit().await?;
    Ok(Json(things.cursors.page(&window, rows, |thing| thing.id)))
}

async fn find(db: &Db, tenant: TenantId, id: Uuid) -> Result<Option<Thing>> {
    let mut tx = TenantTx::begin(db, tenant).await?;
    let sql = "select id, name, note, amount from test_things where tenant_id = $1 and id = $2";
    let query = sqlx::query_as(sql).bind(tenant.as_uuid()).bind(id);
    let thing = query.fetch_optional(tx.traced("SELECT test_things")).await?;
    tx.commit().await?;
    Ok(thing)
}

async fn show_thing(State(things): State<Things>, caller: Caller<Read>, id: PathId) -> Result<Json<Thing>> {
    let load = || find(&things.db, caller.tenant, id.0);
    things.cache.get(caller.tenant, id.0, load).await?.map(Json).ok_or_else(not_found)
}

async fn change_thing(
    State(things): State<Things>,
    caller: Caller<Write>,
    id: PathId,
    Json(change): Json<Change>,
) -> Result<Json<Thing>> {
    checked(change.name.as_deref(), None, change.amount)?;
    let mut tx = TenantTx::begin(&things.db, caller.tenant).await?;
    let sql = "update test_things set name = coalesce($3, name), amount = coalesce($4, amount)
               where tenant_id = $1 and id = $2
               returning id, name, note, amount";
    let query = sqlx::query_as(sql).bind(tx.tenant().as_uuid()).bind(id.0).bind(change.name).bind(change.amount);
    let thing: Option<Thing> = query
        .fetch_optional(tx.traced("UPDATE test_things"))
        .await
        .on_constraint("test_things_tenant_id_name_key", taken)?;
    tx.commit().await?;
    things.cache.invalidate(caller.tenant, id.0).await;
    thing.map(Json).ok_or_else(not_found)
}
