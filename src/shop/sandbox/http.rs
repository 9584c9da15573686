//! The sandbox's API: charges and refunds by token, and the webhooks it was sent.
//!
//! `tok_ok` succeeds, `tok_declined` is declined, `tok_error` charges and answers 500, `tok_timeout`
//! charges and answers too late, `tok_slow` takes most of a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    platform::{
        error::{Error, Kind, Result},
        http::extract::{Json, PathId},
    },
    shop::payments::{Charge, Outcome},
};

/// Longer than any caller waits.
const TOO_LATE: Duration = Duration::from_secs(10);
/// Slow, but in time.
const SLOW: Duration = Duration::from_millis(800);
/// Webhooks kept to look at.
const KEPT_WEBHOOKS: usize = 1_000;

#[derive(Clone, Serialize)]
struct Made {
    #[serde(flatten)]
    charge: Charge,
    outcome: Outcome,
    refunded: bool,
    /// How often this charge was asked for; it was made once.
    requests: u32,
}

#[derive(Default)]
struct Books {
    charges: BTreeMap<Uuid, Made>,
    webhooks: Vec<Value>,
}

type Shared = Arc<Mutex<Books>>;

pub fn router() -> Router {
    Router::new()
        .route("/charges", post(charge).get(list))
        .route("/charges/{order_id}", get(show))
        .route("/charges/{order_id}/refund", post(refund))
        .route("/webhooks", post(receive).get(received))
        .with_state(Shared::default())
}

async fn charge(State(books): State<Shared>, Json(charge): Json<Charge>) -> Result<Response> {
    let token = charge.payment_method.clone();
    let outcome = match token.as_str() {
        "tok_ok" | "tok_error" | "tok_timeout" | "tok_slow" => Outcome::Succeeded,
        "tok_declined" => Outcome::Declined,
        _ => {
            return Err(Error::new(
                Kind::Invalid,
                "unknown_payment_method",
                "Use tok_ok, tok_declined, tok_error, tok_timeout or tok_slow.",
            ));
        }
    };
    let made = {
        let mut books = books.lock();
        let made =
            books.charges.entry(charge.order_id).or_insert(Made { charge, outcome, refunded: false, requests: 0 });
        made.requests += 1;
        made.clone()
    };
    match token.as_str() {
        "tok_error" => return Err(Error::internal("tok_error: charged, and answered 500")),
        "tok_timeout" => tokio::time::sleep(TOO_LATE).await,
        "tok_slow" => tokio::time::sleep(SLOW).await,
        _ => {}
    }
    let status = if outcome == Outcome::Declined { StatusCode::PAYMENT_REQUIRED } else { StatusCode::CREATED };
    Ok((status, Json(made)).into_response())
}

async fn list(State(books): State<Shared>) -> Json<Value> {
    let charges: Vec<Made> = books.lock().charges.values().cloned().collect();
    Json(json!({"data": charges}))
}

async fn show(State(books): State<Shared>, id: PathId) -> Result<Json<Made>> {
    let made = books.lock().charges.get(&id.0).cloned();
    made.map(Json).ok_or_else(|| Error::not_found("charge_not_found", "There is no such charge."))
}

async fn refund(State(books): State<Shared>, id: PathId) -> Result<Json<Made>> {
    let mut books = books.lock();
    let made =
        books.charges.get_mut(&id.0).ok_or_else(|| Error::not_found("charge_not_found", "There is no such charge."))?;
    made.refunded = true;
    Ok(Json(made.clone()))
}

async fn receive(State(books): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let webhooks = &mut books.lock().webhooks;
    if webhooks.len() < KEPT_WEBHOOKS {
        webhooks.push(json!({"id": header("webhook-id"), "signature": header("webhook-signature"), "body": body}));
    }
    StatusCode::NO_CONTENT
}

async fn received(State(books): State<Shared>) -> Json<Value> {
    Json(json!({"data": books.lock().webhooks.clone()}))
}
