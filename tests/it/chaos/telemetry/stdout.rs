//! Nobody reads standard output any more: the pipe is full for good.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{EXIT, Plan, Subject, World, compare, end, record};
use crate::{
    chaos::Row,
    support::{client::Client, harness::get, services},
};

/// A process with a pipe that is held and not read, killed when dropped.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Unread {
    async fn serve(world: &World, more: &[(&str, &str)]) -> (Self, Subject) {
        // What it says of its addresses is not read either.
        let (public, admin) = (services::free_address(), services::free_address());
        let addresses = [("APP__HTTP__BIND", public.as_str()), ("APP__ADMIN__BIND", admin.as_str())];
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
        command.arg("serve").env_clear().envs(world.with(&[more, &addresses].concat()));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let subject = Subject { public: public.parse().unwrap(), admin: Client::new(format!("http://{admin}")) };
        let unread = Self(child);
        let listens = || async { tokio::net::TcpStream::connect(&admin).await.ok() };
        crate::support::eventually("the admin listener", listens).await;
        subject.ready().await;
        (unread, subject)
    }

    async fn end(mut self) -> (i32, Duration) {
        let asked = Instant::now();
        crate::chaos::instance::signal("TERM", &self.0.id().to_string());
        let status = crate::support::eventually("the exit", || {
            let status = self.0.try_wait().unwrap();
            async move { status }
        })
        .await;
        (status.code().unwrap_or(-1), asked.elapsed())
    }
}

pub async fn run(full: bool) {
    let world = World::new().await;
    // Or a hundred lines a second are all that is written.
    let all_lines = [("APP__LOG__RATE_LIMIT", "0")];
    let (control, healthy) = world.serve(&all_lines).await;
    let (service, faulty) = Unread::serve(&world, &all_lines).await;
    let plan = Plan {
        request: get("/v1/tenant", "", "localhost"),
        status: 401,
        rate: if full { 1_000.0 } else { 300.0 },
        rounds: if full { 7 } else { 2 },
        each: Duration::from_secs(if full { 5 } else { 2 }),
    };
    let compared = compare(&plan, &healthy, &faulty).await;
    let (lines, dropped) = (faulty.metric("log_lines_total").await, faulty.metric("log_lines_dropped_total").await);
    let ((code, took), _) = (service.end().await, end(control).await);
    // A short run fills the pipe, not the queue.
    let counts = compared.more_memory() <= 10.0 && (dropped > 0.0 || !full) && dropped < lines && took <= EXIT;
    let row = Row {
        number: "6c",
        fault: "standard output is not read".to_owned(),
        expected: "p99 + ≤ 10 %; memory + ≤ 10 MiB; lost lines counted; exit in time".to_owned(),
        seen: format!(
            "{}; {lines} lines, {dropped} lost; exit {code} after {:.1} s",
            compared.summary(),
            took.as_secs_f64()
        ),
        recovery: "–".to_owned(),
        held: counts && compared.slower() <= 10.0,
    };
    record(row, counts);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stopped_costs_counted_lines_only() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
