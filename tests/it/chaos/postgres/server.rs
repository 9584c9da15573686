//! A real server that is really restarted, fast and at once: an instance of this test's own.

use std::time::Instant;

use sqlx::{Connection as _, PgConnection};

use super::address;
use crate::{
    chaos::{
        instance::{self, Instance},
        watch::{Goal, Watch},
    },
    support::{
        client::Client,
        eventually,
        harness::Proxy,
        process::{Process, Service, run, text},
    },
};

/// Ends the server as `pg_ctl stop` does, has it started again, and says when it took connections.
async fn restart(admin_url: &str, signal: &str) -> Instant {
    let mut admin = PgConnection::connect(admin_url).await.unwrap();
    let file: String = sqlx::query_scalar("select pg_read_file('postmaster.pid')").fetch_one(&mut admin).await.unwrap();
    let pid = file.lines().next().unwrap();
    instance::signal(signal, pid);
    eventually("the end of the server", || async { PgConnection::connect(admin_url).await.is_err().then_some(()) })
        .await;
    let starting = tokio::task::spawn_blocking(Instance::up);
    let accepts =
        eventually("the new server", || async { PgConnection::connect(admin_url).await.ok().map(|_| Instant::now()) })
            .await;
    // Up it is the same one, which the caller takes down.
    std::mem::forget(starting.await.unwrap());
    accepts
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    let instance = Instance::up();
    let mut variables = instance.variables();
    let admin_url = variables.remove("TEST_ADMIN_DATABASE_URL").unwrap();
    variables.insert("APP_ENVIRONMENT".to_owned(), "test".to_owned());
    assert!(run(&["migrate"], &variables).status.success());
    // The data of the instance outlives it: the tenants of earlier runs are there.
    let slug = format!("t{}", uuid::Uuid::now_v7().simple());
    assert!(run(&["tenant", "create", &slug], &variables).status.success());
    let key = run(&["api-key", "create", "--tenant", &slug, "--scope", "read", "--name", "chaos"], &variables);
    let key = text(&key.stdout).trim().to_owned();
    let proxy = Proxy::start(address(&variables["DATABASE_URL"]).await).await;
    for name in ["DATABASE_URL", "DATABASE_SYSTEM_URL"] {
        let url = proxy.url(&variables[name]);
        variables.insert(name.to_owned(), url);
    }
    let service: Service = Process::serve(&variables);
    let (public, admin): (Client, Client) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let watch = Watch::get(16, &public, "/v1/tenant", &key);
    watch.recovery(Instant::now()).await;
    let mut recoveries = Vec::new();
    for signal in ["INT", "QUIT", "INT", "QUIT"] {
        let accepts = restart(&admin_url, signal).await;
        recoveries.push(watch.recovery(accepts).await);
    }
    let answers = watch.stop().await;
    Goal::seconds(true, 2, 5)
        .row("4d", "a real server restarted under load, twice fast and twice at once", &answers, &recoveries)
        .record(true);
}
