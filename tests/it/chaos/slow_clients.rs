//! Row 8: clients that send a byte now and then hold their places for a while only, and the others do not notice.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use keel::platform::http::server::descriptors;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Row,
    fleet::{Fleet, Instance, SOON, random},
    rounds::Rounds,
};
use crate::support::{
    eventually,
    harness::{Load, Target, exchange::slow_socket, get},
};

const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Since the first byte.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_millis(500);
/// In which they come: at once they would be a storm of connects, which is another fault.
const ARRIVAL: Duration = Duration::from_secs(1);
const SLOW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test(flavor = "multi_thread")]
async fn slow_sockets_are_closed_in_time() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn two_thousand_slow_sockets_are_closed_in_time_and_slow_nobody_down() {
    run(true).await;
}

/// What became of the slow ones of one round.
#[derive(Default)]
struct Slow {
    closed: usize,
    longest: Duration,
}

async fn run(full: bool) {
    let (sockets, rounds, peer_limit) = if full { (2_000, 7, "1000") } else { (150, 1, "100") };
    assert!(descriptors(sockets * 2) == sockets * 2, "more open files are needed: ulimit -Hn");
    let fleet =
        Fleet::new(full, &[("APP__HTTP__HEAD_TIMEOUT", "2s"), ("APP__HTTP__MAX_CONNECTIONS_PER_PEER", peer_limit)])
            .await;
    let key = fleet.tenant("acme");
    let instance = fleet.ready().await;
    good(&instance, &key).run_count(200).await;
    let (mut measured, mut closed, mut longest, mut failed) = (Rounds::default(), 0, Duration::ZERO, 0);
    for _ in 0..rounds {
        let without = good(&instance, &key).run_for(CLOSED_WITHIN).await;
        let (with, slow) = tokio::join!(good(&instance, &key).run_for(CLOSED_WITHIN), slow(&instance, sockets));
        measured.add(&without, &with);
        failed += with.total() - with.ok();
        closed += slow.closed;
        longest = longest.max(slow.longest);
    }
    let all = sockets * rounds;
    let counted = eventually("all counted", || async {
        let reason = async |reason: &str| {
            instance.metric("listener_connections_closed_total", &[&format!("reason=\"{reason}\"")]).await as usize
        };
        let counted = (reason("head_timeout").await, reason("peer_limit").await);
        (counted.0 + counted.1 >= all).then_some(counted)
    })
    .await;
    Row {
        number: "8",
        fault: format!("{sockets} sockets that send a byte every {EVERY:?}, {rounds} times"),
        expected: format!("all closed within {CLOSED_WITHIN:?} (head timeout {HEAD_TIMEOUT:?}) and counted, 0 others failed"),
        seen: format!(
            "{closed} of {all} closed, the last after {longest:.1?}; head_timeout {}, peer_limit {}; {failed} others failed",
            counted.0, counted.1
        ),
        recovery: "–".to_owned(),
        held: closed == all && longest <= CLOSED_WITHIN && counted.0 + counted.1 == all && failed == 0,
    }
    .record(true);
    measured.row("8b", "The same, seen by the others").record(false);
    assert_eq!(instance.terminate().await, 0);
    fleet.end().await;
}

/// Traffic of the usual kind.
fn good(instance: &Instance, key: &str) -> Load {
    Load::new(Target::new(instance.public, get("/v1/tenant", key, "keel"))).connections(8).rate(200.0)
}

async fn slow(instance: &Instance, sockets: usize) -> Slow {
    let mut ends = JoinSet::new();
    for _ in 0..sockets {
        let address = instance.public;
        ends.spawn(async move {
            sleep(random(ARRIVAL)).await;
            let began = Instant::now();
            let ended = slow_socket(address, Some(SLOW), b"GET / HTTP/1.1\r\nhost: keel\r\nx-slow: ", EVERY);
            // A connect that fails was beyond the limit too: the reset was faster than we.
            timeout(SOON, ended).await.ok().map(|end| end.map_or_else(|_| began.elapsed(), |end| end.after))
        });
    }
    let times: Vec<Duration> = ends.join_all().await.into_iter().flatten().collect();
    Slow { closed: times.len(), longest: times.into_iter().max().unwrap_or_default() }
}
