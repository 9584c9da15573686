//! What goes on while a drill runs: the steady requests of three tenants, and floods that a drill asks for.
//! Routes of the example are in `traffic_shop`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet, time};

use super::file::Load;
use super::traffic_shop;
use crate::support::client::Client;

/// More than this at once is not steady: then the service is slow, and a turn is left out.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// The way in, and whose keys open it.
#[derive(Clone)]
pub struct Visitors {
    /// One for each instance.
    pub doors: Vec<Client>,
    pub keys: Vec<String>,
}

impl Visitors {
    pub fn request(&self, turn: usize, method: Method, path: &str) -> RequestBuilder {
        self.doors[turn % self.doors.len()].request(method, path, self.key(turn)).timeout(PATIENCE)
    }

    pub fn key(&self, turn: usize) -> &str {
        &self.keys[turn % self.keys.len()]
    }

    /// What came back, where that is JSON; a drill is full of answers that are none.
    pub async fn send(request: RequestBuilder) -> Option<Value> {
        serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()
    }
}

/// The steady part, until dropped.
pub struct Traffic {
    tasks: JoinSet<()>,
    pub visitors: Visitors,
}

impl Traffic {
    pub async fn start(load: Load, visitors: Visitors) -> Self {
        let mut traffic = Self { tasks: JoinSet::new(), visitors };
        if load != Load::None {
            traffic.every(80, |visitors, turn| async move {
                Visitors::send(visitors.request(turn, Method::GET, "/v1/tenant")).await;
            });
        }
        traffic_shop::join(&mut traffic, load).await;
        traffic
    }

    /// Begins this once every so many milliseconds, whether the one before has ended or not.
    pub fn every<F>(&mut self, pause: u64, act: impl Fn(Visitors, usize) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let visitors = self.visitors.clone();
        self.tasks.spawn(async move {
            let (mut clock, room) = (time::interval(Duration::from_millis(pause)), Arc::new(Semaphore::new(AT_ONCE)));
            let mut running = JoinSet::new();
            clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            for turn in 0.. {
                clock.tick().await;
                while running.try_join_next().is_some() {}
                if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                    let act = act(visitors.clone(), turn);
                    running.spawn(async move {
                        act.await;
                        drop(place);
                    });
                }
            }
        });
    }
}

/// Requests that a drill sends until it ends.
pub struct Floods {
    pub doors: Vec<Client>,
    tasks: Mutex<JoinSet<()>>,
}

impl Floods {
    pub fn new(doors: Vec<Client>) -> Self {
        Self { doors, tasks: Mutex::new(JoinSet::new()) }
    }

    /// Lines: method, path, how many at once, pause in ms, instance or 0 for all, body, then keys.
    pub fn start(&self, order: &str) -> Result<String, String> {
        let lines: Vec<&str> = order.split('\n').collect();
        let [method, path, parallel, pause, at, body, keys @ ..] = &lines[..] else {
            return Err(format!("a flood has at least six lines: {order}"));
        };
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("flood: `{text}` is no number"));
        let method: Method = method.parse().map_err(|_| format!("flood: `{method}` is no method"))?;
        let (parallel, pause, at) = (number(parallel)?, number(pause)?, number(at)?);
        let doors = if at == 0 { self.doors.clone() } else { vec![self.doors[(at - 1) % self.doors.len()].clone()] };
        let keys = keys.iter().filter(|key| !key.is_empty()).map(|key| (*key).to_owned()).collect();
        let visitors = Visitors { doors, keys };
        if visitors.keys.is_empty() {
            return Err("a flood has at least one key".to_owned());
        }
        let turns = Arc::new(AtomicUsize::new(0));
        let mut tasks = self.tasks.lock();
        for _ in 0..parallel {
            let (visitors, method, turns) = (visitors.clone(), method.clone(), Arc::clone(&turns));
            let (path, body) = ((*path).to_owned(), (*body).to_owned());
            tasks.spawn(async move {
                // Whoever was let in and is not any more gives up.
                let (mut known, mut refused) = (false, false);
                while !(known && refused) {
                    let request = visitors.request(turns.fetch_add(1, Relaxed), method.clone(), &path);
                    let request = if body.is_empty() {
                        request
                    } else {
                        request.header("content-type", "application/json").body(body.clone())
                    };
                    if let Ok(answer) = request.send().await {
                        refused = answer.status() == 401;
                        known |= !refused;
                        let _read = answer.bytes().await;
                    }
                    time::sleep(Duration::from_millis(pause.max(1) as u64)).await;
                }
            });
        }
        Ok(String::new())
    }

    pub fn stop(&self) {
        self.tasks.lock().abort_all();
    }
}
