//! The boot self-test: what must keep the service from becoming ready.

use std::collections::BTreeMap;

use keel::platform::db::guard;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::{TestApp, app::Different, eventually, services};

async fn refused(app: &TestApp, code: &str) {
    eventually(code, || async {
        let answer = app.admin.get("/health/ready", "").await;
        (answer.status == 503 && answer.json()["checks"]["postgres"] == code).then_some(())
    })
    .await;
}

async fn with_url(name: &str, url: String, database: &str) -> TestApp {
    let settings = BTreeMap::from([(name.to_owned(), url)]);
    TestApp::unready(Different { settings, database: Some(database.to_owned()), ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_an_owner_and_a_role_that_bypasses_row_security_are_refused() {
    let database = services::database().await;
    let superuser = services::with_database(&services::variable("TEST_ADMIN_DATABASE_URL"), &database);
    let owner = services::with_database(&services::variable("DATABASE_MIGRATION_URL"), &database);
    for (name, url) in [("DATABASE_URL", &superuser), ("DATABASE_SYSTEM_URL", &superuser), ("DATABASE_URL", &owner)] {
        let app = with_url(name, url.clone(), &database).await;
        refused(&app, "unsafe_role").await;
        app.get("/v1/tenant", "").await.problem(503, "not_ready");
        assert!(app.running.shutdown().await);
    }
    let mut admin = services::admin().await;
    let role = format!("bypass_{}", uuid::Uuid::now_v7().simple());
    let create =
        format!("create role {role} login bypassrls password 'test'; grant {} to {role}", services::role("RUNTIME"));
    admin.execute(AssertSqlSafe(create)).await.unwrap();
    let (scheme, rest) = superuser.split_once("://").unwrap();
    let url = format!("{scheme}://{role}:test@{}", rest.rsplit_once('@').unwrap().1);
    let app = with_url("DATABASE_URL", url, &database).await;
    refused(&app, "unsafe_role").await;
    assert!(app.running.shutdown().await);
    services::drop_database(&database).await;
    admin.execute(AssertSqlSafe(format!("drop role {role}"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_limits_is_refused() {
    let database = services::database().await;
    for name in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        let url = services::with_database(&services::variable("DATABASE_URL"), &database);
        let app = with_url("DATABASE_URL", format!("{url}?options=-c%20{name}%3D0"), &database).await;
        refused(&app, "unsafe_role").await;
        assert!(app.running.shutdown().await);
    }
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_table_without_protection_is_found_and_refused() {
    let half = [
        "",
        "alter table leaky enable row level security",
        "alter table leaky enable row level security; alter table leaky force row level security",
        "alter table leaky enable row level security; create policy p on leaky using (true)",
        "alter table leaky enable row level security; alter table leaky force row level security;
         create policy p on leaky using (true)",
        "alter table leaky enable row level security; alter table leaky force row level security;
         create policy p on leaky using (tenant_id = current_tenant()) with check (true)",
        "alter table leaky enable row level security; alter table leaky force row level security;
         create policy p on leaky using (true) with check (tenant_id = current_tenant())",
    ];
    for protection in half {
        let database = services::database().await;
        let mut owner = services::connect("DATABASE_MIGRATION_URL", &database).await;
        let sql = format!("create table leaky (tenant_id uuid not null, id uuid not null); {protection}");
        owner.execute(AssertSqlSafe(sql)).await.unwrap();
        assert_eq!(
            guard::unprotected(&mut owner, &services::role("RUNTIME")).await.unwrap(),
            ["leaky"],
            "{protection}"
        );
        let app = TestApp::unready(Different { database: Some(database), ..Default::default() }).await;
        refused(&app, "unprotected_table").await;
        // Mended, it starts by itself.
        let mend = "drop table leaky; create table leaky (tenant_id uuid not null, id uuid not null)";
        owner.execute(mend).await.unwrap();
        let settings = format!("set app.runtime_role = '{}'", services::role("RUNTIME"));
        owner.execute(AssertSqlSafe(settings)).await.unwrap();
        owner.execute("select protect_tenant_table('leaky')").await.unwrap();
        app.ready().await;
        drop(owner);
        app.stop().await;
    }
}
