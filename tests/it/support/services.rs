//! Postgres and Redis as `make test` gives them, and a fresh database for each test: a copy of a
//! template that was migrated once.

use std::collections::BTreeMap;

use keel::platform::{
    config::Sources,
    db::{DatabaseConfig, migrations},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// A variable of `.local/test/env`.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the suite with `make test`, which starts Postgres and Redis")
    })
}

/// `url` with another database.
pub fn with_database(url: &str, database: &str) -> String {
    let (base, _) = url.rsplit_once('/').unwrap();
    format!("{base}/{database}")
}

pub async fn admin() -> PgConnection {
    PgConnection::connect(&variable("TEST_ADMIN_DATABASE_URL")).await.unwrap()
}

/// The settings that point at `database`.
pub fn settings(database: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("APP_ENVIRONMENT".to_owned(), "test".to_owned()),
        ("REDIS_URL".to_owned(), variable("REDIS_URL")),
    ]);
    for name in ["DATABASE_URL", "DATABASE_SYSTEM_URL", "DATABASE_MIGRATION_URL"] {
        settings.insert(name.to_owned(), with_database(&variable(name), database));
    }
    for name in ["APP__DATABASE__RUNTIME_ROLE", "APP__DATABASE__SYSTEM_ROLE"] {
        settings.insert(name.to_owned(), variable(name));
    }
    settings
}

/// The database section for `database`.
pub fn database_config(database: &str) -> DatabaseConfig {
    let sources = Sources { directory: None, variables: settings(database), built_in: keel::config::FILES };
    keel::config::load(&sources).readable().unwrap().database
}

pub fn role(name: &str) -> String {
    variable(&format!("APP__DATABASE__{name}_ROLE"))
}

fn owner() -> String {
    let url: sqlx::postgres::PgConnectOptions = variable("DATABASE_MIGRATION_URL").parse().unwrap();
    url.get_username().to_owned()
}

/// Databases of runs that were killed are older than this run's template.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let mut admin = admin().await;
            let old: Vec<String> = sqlx::query_scalar(
                "select datname::text from pg_database d where datname like 'keel_test_%'
                 and not exists (select 1 from pg_stat_activity a where a.datname = d.datname)
                 and (pg_stat_file('base/' || oid || '/PG_VERSION')).modification < now() - interval '1 hour'",
            )
            .fetch_all(&mut admin)
            .await
            .unwrap();
            for name in old {
                let _still_used = admin.execute(AssertSqlSafe(format!("drop database if exists {name}"))).await;
            }
            let name = format!("keel_test_{}", Uuid::now_v7().simple());
            create(&mut admin, &name, "template0").await;
            migrations::run(&database_config(&name)).await.unwrap();
            name
        })
        .await
}

async fn create(admin: &mut PgConnection, name: &str, template: &str) {
    admin
        .execute(AssertSqlSafe(format!("create database {name} template {template} owner {}", owner())))
        .await
        .unwrap();
}

/// A new, migrated database; drop it with [`drop_database`].
pub async fn database() -> String {
    // Two copies of one template can't be made at the same time.
    static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let template = template().await;
    let name = format!("keel_test_{}", Uuid::now_v7().simple());
    let _one_at_a_time = COPYING.lock().await;
    create(&mut admin().await, &name, template).await;
    name
}

/// A new database without a schema.
pub async fn empty_database() -> String {
    let name = format!("keel_test_{}", Uuid::now_v7().simple());
    create(&mut admin().await, &name, "template0").await;
    name
}

/// An address that is free now, for a process whose log cannot be read for it.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub async fn drop_database(name: &str) {
    admin().await.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await.unwrap();
}

/// A connection of the owner, the runtime or the system role.
pub async fn connect(variable_name: &str, database: &str) -> PgConnection {
    PgConnection::connect(&with_database(&variable(variable_name), database)).await.unwrap()
}
