//! Cursors: one that was made opens for its tenant and list, and nothing else opens at all.

use keel::platform::{
    config::Secret,
    http::pagination::{Cursors, ListQuery},
    tenancy::{TenantId, api_key::Pepper},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::input::Input;

const LIST: &str = "products";

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let cursors = Cursors::new(&Pepper::new(&Secret::new("p".repeat(32)), None));
    let [tenant, other] = [input.array(), input.array()].map(|id| TenantId::from_uuid(Uuid::from_bytes(id)));
    let last = Uuid::from_bytes(input.array());

    let text = made(&cursors, tenant, last);
    assert_eq!(open(&cursors, tenant, LIST, &text), Some(last), "what was made opens");
    assert_eq!(open(&cursors, tenant, "users", &text), None, "not for another list");
    if other != tenant {
        assert_eq!(open(&cursors, other, LIST, &text), None, "not for another tenant");
    }

    let mut changed = text.clone().into_bytes();
    let at = input.below(changed.len());
    changed[at] = input.byte();
    if changed != text.as_bytes() {
        let changed = String::from_utf8_lossy(&changed);
        assert_eq!(open(&cursors, tenant, LIST, &changed), None, "{changed} is {text} with another byte at {at}");
    }

    let limit = i64::from_le_bytes(input.array());
    let is_limit = query(&json!({ "limit": limit })).is_some_and(|query| cursors.read(&query, tenant, LIST).is_ok());
    assert_eq!(is_limit, (1..=100).contains(&limit), "limit={limit}");

    let text = input.rest();
    if let Some(last) = open(&cursors, tenant, LIST, &text) {
        assert_eq!(text, made(&cursors, tenant, last), "only what we made opens");
    }
}

fn query(query: &Value) -> Option<ListQuery> {
    serde_json::from_value(query.clone()).ok()
}

fn made(cursors: &Cursors, tenant: TenantId, last: Uuid) -> String {
    let first = query(&json!({ "limit": 1 })).expect("a query of one row");
    let window = cursors.read(&first, tenant, LIST).expect("a window of one row");
    cursors.page(&window, vec![last, Uuid::nil()], |id| *id).next_cursor.expect("a second row makes a cursor")
}

fn open(cursors: &Cursors, tenant: TenantId, list: &'static str, text: &str) -> Option<Uuid> {
    let query = query(&json!({ "cursor": text })).expect("any text can be asked for");
    cursors.read(&query, tenant, list).ok()?.after
}
