//! A busy day in a minute: what users, mistakes and faults do to the platform's routes, on all instances.
//! What the example adds is in `traffic_shop`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    client::{Client, Tenant},
    stack::Stack,
};

/// Who asks, and whom.
#[derive(Clone)]
pub struct Site {
    pub acme: Tenant,
    pub globex: Tenant,
    /// Asks more than its limit allows.
    flood: Tenant,
    instances: Vec<Client>,
    /// Where somebody listens whom the service can call.
    neighbour: u16,
    /// Answers by what was asked and status; status 0 is none.
    tally: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Site {
    pub fn new(stack: &Stack) -> Self {
        Self {
            acme: stack.tenant("acme", &[]),
            globex: stack.tenant("globex", &[]),
            flood: stack.tenant("flood", &[]),
            instances: stack.instances.iter().map(|instance| instance.client.clone()).collect(),
            neighbour: stack.instances[0].scraped.port(),
            tally: Arc::default(),
        }
    }

    /// The instance whose turn it is.
    pub fn at(&self, turn: usize) -> &Client {
        &self.instances[turn % self.instances.len()]
    }

    pub fn tenant(&self, turn: usize) -> &Tenant {
        if turn.is_multiple_of(3) { &self.globex } else { &self.acme }
    }

    /// What came back: while an instance is replaced that is nothing.
    pub async fn send(&self, what: &str, request: RequestBuilder) -> Option<Value> {
        let answer = request.timeout(Duration::from_secs(15)).send().await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        *self.tally.lock().entry(format!("{what} {status}")).or_default() += 1;
        serde_json::from_str(&answer.ok()?.text().await.ok()?).ok()
    }

    async fn get(&self, turn: usize, path: &str, key: &str) {
        self.send(path, self.at(turn).request(Method::GET, path, key)).await;
    }

    async fn fault(&self, turn: usize, fault: &str) {
        let path = format!("/v1/faults/{fault}");
        self.send(&path, self.at(turn).request(Method::POST, &path, &self.tenant(turn).key)).await;
    }

    /// Of so many requests of one kind at once.
    async fn crowd(&self, turn: usize, size: usize, fault: &str) {
        // Of one instance: two have twice the room.
        join_all((0..size).map(|one| self.fault(turn + one * self.instances.len(), fault))).await;
    }
}

/// Everything that is going on, until stopped.
pub struct Traffic {
    site: Site,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Traffic {
    pub fn start(site: Site) -> Self {
        let mut traffic = Self { site, stop: CancellationToken::new(), tasks: JoinSet::new() };
        traffic.every(50, everyday);
        traffic.every(300, refused);
        traffic.every(400, failing);
        traffic.every(1_000, slow);
        traffic.every(4_000, crowded);
        traffic.every(5_000, flooded);
        traffic.every(1_000, queued);
        traffic
    }

    /// Does this again and again with such a pause in ms, the turn counted.
    pub fn every<F>(&mut self, pause: u64, act: impl Fn(Site, usize) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (site, stop) = (self.site.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut turn = 0;
            while !stop.is_cancelled() {
                act(site.clone(), turn).await;
                turn += 1;
                sleep(Duration::from_millis(pause)).await;
            }
        });
    }

    /// What was answered how often so far.
    pub fn tally(&self) -> BTreeMap<String, u64> {
        self.site.tally.lock().clone()
    }

    pub async fn stop(mut self) -> BTreeMap<String, u64> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.tally()
    }
}

async fn everyday(site: Site, turn: usize) {
    site.get(turn, "/v1/tenant", &site.tenant(turn).read_key).await;
}

async fn refused(site: Site, turn: usize) {
    site.get(turn, "/v1/tenant", "").await;
    site.get(turn, "/v1/tenant", "ak_wrong").await;
    site.get(turn, "/v1/no-such-route", &site.acme.key).await;
    let client = site.at(turn);
    site.send("read key writes", client.request(Method::POST, "/v1/faults/error", &site.acme.read_key)).await;
    site.send("wrong method", client.request(Method::DELETE, "/v1/tenant", &site.acme.key)).await;
}

async fn failing(site: Site, turn: usize) {
    site.fault(turn, "error").await;
    site.fault(turn / 2, "panic").await;
}

async fn slow(site: Site, turn: usize) {
    for fault in ["slow-query?ms=400", "n-plus-one?n=40", "sleep?ms=300", "cpu?ms=50", "leak?mib=1"] {
        site.fault(turn, fault).await;
    }
    // One that answers, and one that is gone.
    site.fault(turn, &format!("call?port={}", [site.neighbour, 1][turn % 2])).await;
    // The second waits for the first one's lock, in vain.
    tokio::join!(site.fault(turn, "lock?ms=1500"), site.fault(turn, "lock?ms=1500"));
    // Past the deadline of a request.
    site.fault(turn, "sleep?ms=4000").await;
}

/// More than the pool has connections, then more than the instance has places.
async fn crowded(site: Site, turn: usize) {
    site.crowd(turn, 16, "slow-query?ms=900").await;
    site.crowd(turn, 60, "sleep?ms=300").await;
}

/// Three times what its limit lets it have at once, and few enough at a time to be let in.
async fn flooded(site: Site, turn: usize) {
    for batch in 0..30 {
        join_all((0..10).map(|one| site.get(turn + batch + one, "/v1/tenant", &site.flood.key))).await;
    }
}

async fn queued(site: Site, turn: usize) {
    site.fault(turn, "jobs?n=20").await;
    site.fault(turn, "jobs?fail=true").await;
}
