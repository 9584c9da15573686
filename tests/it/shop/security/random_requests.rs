//! Requests at random for `tenants_fuzz`: what two tenants have, and what one of them asks for next.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::Random;
use crate::{security::document::UNKNOWN, support::client::Tenant};

/// Beyond so many resources of a kind nothing is created: lists stay lists and not downloads.
pub const MOST: usize = 60;

/// One of the two, and what it has.
pub struct Side {
    pub tenant: Tenant,
    pub marker: String,
    /// Ids of what the tenant has or had, by collection.
    pub ids: BTreeMap<&'static str, Vec<String>>,
    /// All of them, the tenant's own too.
    pub known: BTreeSet<String>,
    pub cursors: Vec<String>,
}

pub struct Wanted {
    pub actor: usize,
    pub method: Method,
    pub path: String,
    pub reads: bool,
    pub body: Option<Value>,
    pub idempotency_key: Option<String>,
    /// Whether it asks for what is the other's.
    pub is_foreign: bool,
}

pub const COLLECTIONS: [&str; 3] = ["/v1/products", "/v1/users", "/v1/orders"];

/// An id of the actor's, of the other's (then `true`), or nobody's.
fn some_id(random: &mut Random, sides: &[Side; 2], actor: usize, collection: &str) -> (String, bool) {
    let owner = match random.below(20) {
        0..10 => actor,
        10..19 => 1 - actor,
        _ => return (UNKNOWN.to_owned(), false),
    };
    let id = random.pick(&sides[owner].ids[collection]).cloned();
    id.map_or((UNKNOWN.to_owned(), false), |id| (id, owner != actor))
}

fn content(random: &mut Random, collection: &str, marker: &str) -> Value {
    let n = random.next() % 400;
    match collection {
        "/v1/users" => json!({"email": format!("{marker}{n}@example.com"), "name": marker, "source": marker}),
        _ => json!({"sku": format!("{marker}-{n}"), "name": format!("{marker} plank"), "description": marker,
            "price": {"amount_minor": n, "currency": "EUR"}, "stock": 50}),
    }
}

pub fn wanted(random: &mut Random, sides: &[Side; 2]) -> Wanted {
    let actor = random.below(2);
    let side = &sides[actor];
    let collection = COLLECTIONS[random.below(3)];
    let mut wanted = Wanted {
        actor,
        method: Method::GET,
        path: collection.to_owned(),
        reads: false,
        body: None,
        idempotency_key: None,
        is_foreign: false,
    };
    let full = side.ids[collection].len() >= MOST;
    match random.below(12) {
        0 => wanted.path = "/v1/tenant".to_owned(),
        1 | 2 => {
            let owner = if random.below(3) == 0 { 1 - actor } else { actor };
            let limit = 1 + random.below(100);
            wanted.path = match random.pick(&sides[owner].cursors).filter(|_| random.clone().below(2) == 0) {
                Some(cursor) => {
                    wanted.is_foreign = owner != actor;
                    format!("{collection}?limit={limit}&cursor={cursor}")
                }
                None => format!("{collection}?limit={limit}"),
            };
        }
        3..6 => {
            let (id, foreign) = some_id(random, sides, actor, collection);
            (wanted.path, wanted.is_foreign) = (format!("{collection}/{id}"), foreign);
        }
        6 | 7 if !full && collection != "/v1/orders" => {
            wanted.method = Method::POST;
            wanted.body = Some(content(random, collection, &side.marker));
        }
        8 => {
            let (id, foreign) = some_id(random, sides, actor, "/v1/products");
            wanted.method = if random.below(4) == 0 { Method::DELETE } else { Method::PATCH };
            wanted.body = (wanted.method == Method::PATCH).then(|| {
                [json!({}), json!({"name": format!("{} new", side.marker)}), json!({"stock": 50})][random.below(3)]
                    .clone()
            });
            (wanted.path, wanted.is_foreign) = (format!("/v1/products/{id}"), foreign);
        }
        9 => {
            let (id, foreign) = some_id(random, sides, actor, "/v1/orders");
            wanted.method = Method::POST;
            (wanted.path, wanted.is_foreign) = (format!("/v1/orders/{id}/cancel"), foreign);
        }
        _ => {
            // The keys of both are the same few, so that they meet.
            let (id, foreign) = some_id(random, sides, actor, "/v1/products");
            wanted.method = Method::POST;
            wanted.path = "/v1/orders".to_owned();
            let method = ["tok_ok", "tok_ok", "tok_declined"][random.below(3)];
            wanted.body =
                Some(json!({"lines": [{"product_id": id, "quantity": 1 + random.below(3)}], "payment_method": method}));
            wanted.idempotency_key = Some(format!("shared-{}", random.below(3 * MOST)));
            wanted.is_foreign = foreign;
        }
    }
    wanted.reads = wanted.method == Method::GET && random.below(2) == 0;
    wanted
}
