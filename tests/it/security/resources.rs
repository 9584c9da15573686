//! API4: what a request may cost. Single bodies of every bad kind, values at their limits on one route,
//! and a head of 200 fields are in `platform::bad_input`; `fields` goes over the fields of the document;
//! here every list, and sizes that must be refused before they are read.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    document::{Api, Ids, Operation, at_least},
    raw, raw_stream,
};
use crate::support::{TestApp, client::Tenant};

fn head(operation: &Operation, id: &str, key: &str, more: &str) -> String {
    format!(
        "{} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {key}\r\nidempotency-key: k-1\r\ncontent-type: application/json\r\n{more}\r\n\r\n",
        operation.method,
        operation.address(id)
    )
}

pub async fn with_bodies(app: &TestApp, acme: &Tenant) -> (Api, Ids, Vec<Operation>) {
    let api = Api::of(app).await;
    let ids = api.seed(app, acme).await;
    let operations: Vec<_> = api.operations().into_iter().filter(|it| it.body.is_some()).collect();
    at_least(4, operations.len(), "operations with a body");
    (api, ids, operations)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_has_a_page_of_a_size_that_is_bounded() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let lists: Vec<_> = Api::of(&app).await.operations().into_iter().filter(|it| it.is_list).collect();
    for list in &lists {
        for limit in ["0", "-1", "101", "1000000000", "9223372036854775807", "-9223372036854775808"] {
            app.get(&format!("{}?limit={limit}", list.path), &acme.key).await.problem(400, "limit_out_of_range");
        }
        for query in [
            "limit=ten",
            "limit=",
            "limit=1e1",
            "limit=1.0",
            "limit=9223372036854775808",
            "limit=%00",
            "limit=1&limit=2",
            "limit[]=1",
            "Limit=1",
            "offset=1",
            "page=1",
            "sort=id",
            "order=desc",
            "filter=1",
            "fields=id",
            "q=x",
            "cursor=a&cursor=b",
        ] {
            app.get(&format!("{}?{query}", list.path), &acme.key).await.problem(400, "malformed_query");
        }
        for limit in ["1", "100", "+1", "007"] {
            let answer = app.get(&format!("{}?limit={limit}", list.path), &acme.key).await;
            assert!(answer.status < 500, "{}", answer.text);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_is_refused_unread_on_every_route() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let (_, ids, operations) = with_bodies(&app, &acme).await;
    for operation in &operations {
        let name = format!("{} {}", operation.method, operation.path);
        // Not a byte of it is sent; a client that waits to be asked is not asked.
        for more in [
            "content-length: 10737418240",
            "content-length: 1048577",
            "expect: 100-continue\r\ncontent-length: 10737418240",
        ] {
            let started = Instant::now();
            let answer = raw(&app, head(operation, operation.id_in(&ids), &acme.key, more)).await;
            assert!(matches!(answer.status(), 413 | 417), "{name} {more}: {}", answer.text);
            assert!(!answer.text.contains("100 Continue") && answer.closed, "{name} {more}: {}", answer.text);
            assert!(started.elapsed() < Duration::from_secs(2), "{name} {more}: at once");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_is_refused_at_the_cap_on_every_route() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let (_, ids, operations) = with_bodies(&app, &acme).await;
    for operation in &operations {
        let name = format!("{} {}", operation.method, operation.path);
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 64 << 10], b"\r\n"].concat();
        for (more, chunk) in
            [("transfer-encoding: chunked", &chunk), ("content-length: 10737418240", &vec![b' '; 64 << 10])]
        {
            let mut first = Some(head(operation, operation.id_in(&ids), &acme.key, more).into_bytes());
            let mut chunks = 0;
            let answer = raw_stream(&app, Duration::from_secs(10), || {
                chunks += 1;
                first.take().or_else(|| (chunks < 4_096).then(|| chunk.clone()))
            })
            .await;
            // With so much unread the connection may end before the answer is read.
            assert!([413, 0].contains(&answer.status()) && answer.closed, "{name} {more}: {}", answer.text);
            assert!(answer.sent < 24 << 20, "{name} {more}: {} bytes were taken", answer.sent);
        }
        let mut body = head(operation, operation.id_in(&ids), &acme.key, "content-length: 1048577").into_bytes();
        body.resize(body.len() + (1 << 20) + 1, b' ');
        let answer = raw(&app, body).await;
        assert_eq!(answer.status(), 413, "{name}: {}", answer.text);
        assert!(answer.text.contains("body_too_large"), "{name}: {}", answer.text);
    }
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_entries_are_refused_quickly() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let (api, ids, operations) = with_bodies(&app, &acme).await;
    let mut checked = 0;
    for operation in &operations {
        for (name, schema) in api.properties(operation.body.as_ref().unwrap()) {
            let Some(most) = api.resolve(&schema)["maxItems"].as_u64() else { continue };
            let mut body = api.body(operation, &ids).unwrap();
            let entry = body[&name][0].clone();
            for entries in [usize::try_from(most).unwrap() + 1, 1_000] {
                body[&name] = Value::Array(vec![entry.clone(); entries]);
                let started = Instant::now();
                let answer = operation.send(&app, &acme.key, operation.id_in(&ids), Some(&body)).await;
                let fields = answer.problem(422, "validation_failed")["errors"].as_array().unwrap().len();
                assert!(
                    fields <= entries + 1 && started.elapsed() < Duration::from_secs(1),
                    "{fields} in {:?}",
                    started.elapsed()
                );
                checked += 1;
            }
        }
    }
    at_least(2, checked, "arrays past their limit");
    assert_eq!(app.charges().await.len(), 1, "the order of the shop's seed");
    app.stop().await;
}
