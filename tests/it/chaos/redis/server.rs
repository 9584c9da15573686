//! A real server: out of memory, made a replica, without its scripts, killed and started again, frozen.

use std::time::Instant;

use redis::aio::MultiplexedConnection;

use super::{Course, World, times};
use crate::{
    chaos::instance::{self, Instance},
    support::eventually,
};

/// What is done to a server, and what makes it good again.
type Fault = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const FAULTS: &[Fault] = &[
    ("5i1", "a real server out of memory", &["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]),
    ("5i2", "a real server made a replica (READONLY)", &["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]),
    (
        "5i3",
        "a real replica without its master (MASTERDOWN)",
        &["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
        &["REPLICAOF NO ONE", "CONFIG SET replica-serve-stale-data yes"],
    ),
    ("5i4", "a real server forgets all scripts (NOSCRIPT)", &["SCRIPT FLUSH"], &[]),
    ("5i5", "a real server is emptied (FLUSHALL)", &["FLUSHALL"], &[]),
    ("5i6", "a real server stopped and continued (SIGSTOP)", &["STOP"], &["CONT"]),
    ("5i7", "a real server killed and started again", &["KILL"], &["up"]),
];

async fn connect(url: &str) -> MultiplexedConnection {
    eventually("the server", || async {
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.ok()
    })
    .await
}

async fn apply(url: &str, pid: &str, steps: &[&'static str]) {
    for step in steps {
        match *step {
            "STOP" | "CONT" | "KILL" => instance::signal(step, pid),
            "up" => {
                let up = tokio::task::spawn_blocking(Instance::up);
                connect(url).await;
                // The same one, which the caller takes down.
                std::mem::forget(up.await.unwrap());
            }
            step => {
                let mut words = step.split(' ');
                let mut command = redis::cmd(words.next().unwrap());
                for word in words {
                    command.arg(word);
                }
                command.exec_async(&mut connect(url).await).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    let instance = Instance::up();
    let url = instance.variables()["REDIS_URL"].clone();
    for (number, name, breaks, mends) in FAULTS {
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connect(&url).await).await.unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned();
        let world = World::start(&url, true).await;
        let (calm, lasts) = times(true);
        let load = world.load().await;
        let start = Instant::now();
        tokio::time::sleep(calm).await;
        apply(&url, &pid, breaks).await;
        let began = Instant::now();
        tokio::time::sleep(lasts).await;
        apply(&url, &pid, mends).await;
        let ended = Instant::now();
        let back = world.in_use(ended).await;
        world.row(number, name, true, start, load, Course { began, ended, back }).await;
        world.stop().await;
    }
}
