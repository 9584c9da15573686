//! Idempotency keys, at the edge: a retry gets the first answer, another body none, a twin waits its turn.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestApp,
    things::{self, thing},
};

async fn once(app: &TestApp, tenant_key: &str, key: &str, body: &Value) -> Answer {
    let request = app.request(Method::POST, things::ONCE, tenant_key).header("idempotency-key", key);
    Answer::of(request.json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_and_makes_nothing() {
    let app = TestApp::with_things(&[]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let first = once(&app, &acme.key, "k-1", &thing("oak")).await;
    first.ok(201);
    let replay = once(&app, &acme.key, "k-1", &thing("oak")).await;
    assert_eq!((replay.status, &replay.text, replay.header("idempotent-replayed")), (201, &first.text, "true"));
    assert_eq!(replay.header("location"), first.header("location"));
    once(&app, &acme.key, "k-1", &thing("ash")).await.problem(422, "idempotency_key_reused");
    let theirs = once(&app, &globex.key, "k-1", &thing("oak")).await;
    assert_ne!(theirs.ok(201)["id"], first.json()["id"], "a key is its tenant's");
    // What failed is not kept: the key is free for a better try.
    once(&app, &acme.key, "k-2", &thing("oak")).await.problem(409, "thing_name_taken");
    once(&app, &acme.key, "k-2", &thing("elm")).await.ok(201);
    app.post(things::ONCE, &acme.key, &thing("fir")).await.problem(400, "idempotency_key_required");
    for bad in ["", " ", "a b", &"x".repeat(256)] {
        once(&app, &acme.key, bad, &thing("fir")).await.problem(400, "invalid_idempotency_key");
    }
    let names = app.get(things::PATH, &acme.key).await.ok(200)["data"].clone();
    let names: Vec<&Value> = names.as_array().unwrap().iter().map(|thing| &thing["name"]).collect();
    assert_eq!(names, [&json!("oak"), &json!("elm")]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_one_key_are_one() {
    let app = TestApp::with_things(&[("APP__DATABASE__ACQUIRE_TIMEOUT", "4s")]).await;
    let acme = app.tenant("acme").await;
    let body = thing("oak");
    let answers = join_all((0..50).map(|_| once(&app, &acme.key, "k-1", &body))).await;
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem(409, "idempotency_key_in_progress");
    }
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(made.iter().all(|answer| answer.text == made[0].text), "one answer for all");
    assert_eq!(made.iter().filter(|answer| answer.header("idempotent-replayed") == "false").count(), 1);
    assert_eq!(app.get(things::PATH, &acme.key).await.ok(200)["data"].as_array().unwrap().len(), 1);
    app.stop().await;
}
