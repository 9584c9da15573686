//! Two tenants, random requests with the ids, cursors and idempotency keys of both: no byte of one in an
//! answer to the other. What belongs to a tenant is known by a marker in every text of its data and by its
//! ids; the ids that a caller sent itself may come back to it.

use std::{collections::BTreeMap, sync::LazyLock};

use futures_util::future::join_all;
use regex::Regex;
use reqwest::Method;
use serde_json::Value;

use super::{
    Random,
    random_requests::{COLLECTIONS, MOST, Side, Wanted, wanted},
};
use crate::support::{Answer, TestApp, client::Tenant};

/// Requests of the test; a chaos run takes more ([`fuzz`] takes the number).
const REQUESTS: usize = 2_000;
/// Requests in flight at once, of both tenants on the same connections of the pool.
const AT_ONCE: usize = 8;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: usize,
    pub by_status: BTreeMap<u16, usize>,
    /// Requests with something of the other tenant in them.
    pub foreign: usize,
    /// Foreign bytes, and requests on foreign resources that succeeded.
    pub leaks: Vec<String>,
}

fn ids_in(text: &str) -> impl Iterator<Item = &str> {
    static ID: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
    ID.find_iter(text).map(|found| found.as_str())
}

async fn send(app: &TestApp, sides: &[Side; 2], wanted: &Wanted) -> Answer {
    let tenant = &sides[wanted.actor].tenant;
    let key = if wanted.reads { &tenant.read_key } else { &tenant.key };
    let mut request = app.request(wanted.method.clone(), &wanted.path, key);
    if let Some(key) = &wanted.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    if let Some(body) = &wanted.body {
        request = request.json(body);
    }
    Answer::of(request).await
}

/// What of `other` is in an answer that the caller did not send.
fn leaked(wanted: &Wanted, answer: &Answer, other: &Side) -> Option<String> {
    let shown = format!("{:?}\n{}", answer.headers, answer.text);
    let sent = format!("{} {}", wanted.path, wanted.body.as_ref().map(Value::to_string).unwrap_or_default());
    if shown.contains(&other.marker) {
        return Some("the other's marker".to_owned());
    }
    if let Some(id) = ids_in(&shown).find(|id| other.known.contains(*id) && !sent.contains(*id)) {
        return Some(format!("the other's id {id}"));
    }
    (wanted.is_foreign && answer.status < 400).then(|| "what is the other's was there".to_owned())
}

fn learn(side: &mut Side, wanted: &Wanted, answer: &Answer) {
    if wanted.method == Method::DELETE && answer.status == 204 {
        side.ids.get_mut("/v1/products").unwrap().retain(|id| !wanted.path.ends_with(id.as_str()));
    }
    if answer.status >= 300 || answer.text.is_empty() {
        return;
    }
    let body = answer.json();
    let collection = COLLECTIONS.into_iter().find(|collection| wanted.path.starts_with(collection));
    if let (Some(collection), Some(id)) = (collection, body["id"].as_str())
        && side.known.insert(id.to_owned())
    {
        side.ids.get_mut(collection).unwrap().push(id.to_owned());
    }
    if let Some(cursor) = body["next_cursor"].as_str().filter(|_| side.cursors.len() < 10 * MOST) {
        side.cursors.push(cursor.to_owned());
    }
}

/// Sends `n` requests that `seed` decides; the application must know no tenant yet by these names.
pub async fn fuzz(app: &TestApp, n: usize, seed: u64) -> Outcome {
    let mut random = Random(seed);
    let mut sides = Vec::new();
    for name in ["a", "b"] {
        let marker = format!("mark{name}{:016x}", random.next());
        let tenant = app.tenant(&marker).await;
        let ids = COLLECTIONS.map(|collection| (collection, Vec::new())).into();
        sides.push(Side { known: [tenant.id.to_string()].into(), tenant, marker, ids, cursors: Vec::new() });
    }
    let mut sides: [Side; 2] = sides.try_into().unwrap_or_else(|_| unreachable!());
    let mut outcome = Outcome::default();
    while outcome.requests < n {
        let batch: Vec<_> = (0..AT_ONCE.min(n - outcome.requests)).map(|_| wanted(&mut random, &sides)).collect();
        let answers = join_all(batch.iter().map(|wanted| send(app, &sides, wanted))).await;
        for (wanted, answer) in batch.iter().zip(&answers) {
            learn(&mut sides[wanted.actor], wanted, answer);
        }
        for (wanted, answer) in batch.iter().zip(&answers) {
            outcome.requests += 1;
            outcome.foreign += usize::from(wanted.is_foreign);
            *outcome.by_status.entry(answer.status).or_default() += 1;
            if let Some(what) = leaked(wanted, answer, &sides[1 - wanted.actor]) {
                let Wanted { actor, method, path, .. } = wanted;
                outcome
                    .leaks
                    .push(format!("{}: tenant {actor} {method} {path}: {what}: {}", outcome.requests, answer.text));
            }
        }
    }
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_at_random_see_nothing_of_each_other() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
    // Only a failing test shows what it printed.
    println!("fuzz(&app, {REQUESTS}, {seed})");
    let app = TestApp::with(&[("APP__HTTP__REQUEST_TIMEOUT", "30s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "20s")]).await;
    let outcome = fuzz(&app, REQUESTS, seed).await;
    println!("{} requests, {} for what is the other's: {:?}", outcome.requests, outcome.foreign, outcome.by_status);
    assert!(outcome.leaks.is_empty(), "seed {seed}: {:#?}", outcome.leaks);
    // A run in which nothing succeeds shows nothing.
    let seen = |status: u16| outcome.by_status.get(&status).copied().unwrap_or(0);
    assert_eq!((outcome.requests, seen(500), seen(504)), (REQUESTS, 0, 0), "{:?}", outcome.by_status);
    assert!(seen(200) > REQUESTS / 5 && seen(201) > REQUESTS / 50, "{:?}", outcome.by_status);
    assert!(seen(404) > REQUESTS / 50 && seen(400) > 0 && outcome.foreign > REQUESTS / 10, "{outcome:?}");
    app.stop().await;
}

#[test]
fn what_is_the_others_is_found_in_an_answer() {
    use crate::security::document::UNKNOWN;
    let side = |marker: &str, id: &str| Side {
        tenant: Tenant { id: keel::platform::tenancy::TenantId::new(), key: String::new(), read_key: String::new() },
        marker: marker.to_owned(),
        ids: BTreeMap::new(),
        known: [id.to_owned()].into(),
        cursors: Vec::new(),
    };
    let other = side("markb1", UNKNOWN);
    let get = |path: &str, is_foreign| Wanted {
        actor: 0,
        method: Method::GET,
        path: path.to_owned(),
        reads: true,
        body: None,
        idempotency_key: None,
        is_foreign,
    };
    let answer = |status, text: &str| Answer { status, headers: Default::default(), text: text.to_owned() };
    assert!(leaked(&get("/", false), &answer(200, "a marka1"), &other).is_none());
    assert!(leaked(&get("/", false), &answer(200, "a markb1"), &other).is_some());
    assert!(leaked(&get("/", false), &answer(404, UNKNOWN), &other).is_some());
    assert!(leaked(&get(&format!("/{UNKNOWN}"), true), &answer(404, UNKNOWN), &other).is_none());
    assert!(leaked(&get("/", true), &answer(200, ""), &other).is_some());
}
