//! The sandbox's API: charges and refunds by token, and the webhooks it was sent.
//!
//! `tok_ok` succeeds, `tok_declined` is declined, `tok_error` charges and answers 500, `tok_timeout`
//! charges and answers too late, `tok_slow` takes most of a second. A charge is made once for each
//! `Idempotency-Key`, and only by it: a client that forgets the key charges twice, as in life.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    platform::{
        error::{Error, Kind, Result},
        http::extract::{Json, PathId},
        idempotency::IdempotencyKey,
    },
    shop::payments::{Charge, Outcome},
};

/// Longer than any caller waits.
const TOO_LATE: Duration = Duration::from_secs(10);
/// Slow, but in time.
const SLOW: Duration = Duration::from_millis(800);
/// Webhooks kept to look at.
const KEPT_WEBHOOKS: usize = 1_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    id: Uuid,
    key: String,
    order_id: Uuid,
    amount_minor: i64,
    currency: String,
    payment_method: String,
    outcome: Outcome,
    refunded: bool,
}

impl Made {
    fn is_for(&self, charge: &Charge) -> bool {
        (self.order_id, self.amount_minor, &self.currency, &self.payment_method)
            == (charge.order_id, charge.amount_minor, &charge.currency, &charge.payment_method)
    }
}

#[derive(Default)]
struct Books {
    charges: Vec<Made>,
    webhooks: Vec<Value>,
    file: Option<PathBuf>,
}

impl Books {
    /// Kept over a restart of the sandbox, where a file is given.
    fn keep(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = serde_json::to_vec(&self.charges).map_err(Error::internal)?;
        let new = file.with_extension("new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)).map_err(Error::internal)
    }
}

type Shared = Arc<Mutex<Books>>;

/// # Errors
/// Books that can't be read.
pub fn router(file: Option<PathBuf>) -> Result<Router, String> {
    let charges = match &file {
        Some(file) if file.exists() => std::fs::read(file)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("shop.sandbox.books: {}: {error}; remove it to begin anew", file.display()))?,
        _ => Vec::new(),
    };
    let books = Books { charges, webhooks: Vec::new(), file };
    Ok(Router::new()
        .route("/charges", post(charge).get(list))
        .route("/charges/{order_id}", get(show))
        .route("/charges/{order_id}/refund", post(refund))
        .route("/webhooks", post(receive).get(received))
        .with_state(Shared::new(Mutex::new(books))))
}

async fn charge(State(books): State<Shared>, key: IdempotencyKey, Json(charge): Json<Charge>) -> Result<Response> {
    let token = charge.payment_method.clone();
    let outcome = match token.as_str() {
        "tok_ok" | "tok_error" | "tok_timeout" | "tok_slow" => Outcome::Succeeded,
        "tok_declined" => Outcome::Declined,
        _ => {
            let text = "Use tok_ok, tok_declined, tok_error, tok_timeout or tok_slow.";
            return Err(Error::new(Kind::Invalid, "unknown_payment_method", text));
        }
    };
    let made = make(&books, key.as_str(), charge, outcome)?;
    match token.as_str() {
        "tok_error" => return Err(Error::internal("tok_error: charged, and answered 500")),
        "tok_timeout" => tokio::time::sleep(TOO_LATE).await,
        "tok_slow" => tokio::time::sleep(SLOW).await,
        _ => {}
    }
    let status = if outcome == Outcome::Declined { StatusCode::PAYMENT_REQUIRED } else { StatusCode::CREATED };
    Ok((status, Json(made)).into_response())
}

fn make(books: &Shared, key: &str, charge: Charge, outcome: Outcome) -> Result<Made> {
    let mut books = books.lock();
    if let Some(made) = books.charges.iter().find(|made| made.key == key) {
        return if made.is_for(&charge) {
            Ok(made.clone())
        } else {
            Err(Error::new(Kind::Invalid, "idempotency_key_reused", "This key was used for another charge."))
        };
    }
    let Charge { order_id, amount_minor, currency, payment_method } = charge;
    let id = Uuid::now_v7();
    let key = key.to_owned();
    let made = Made { id, key, order_id, amount_minor, currency, payment_method, outcome, refunded: false };
    books.charges.push(made.clone());
    books.keep()?;
    Ok(made)
}

fn not_found() -> Error {
    Error::not_found("charge_not_found", "There is no such charge.")
}

async fn list(State(books): State<Shared>) -> Json<Value> {
    Json(json!({"data": books.lock().charges.clone()}))
}

async fn show(State(books): State<Shared>, order: PathId) -> Result<Json<Made>> {
    let books = books.lock();
    books.charges.iter().find(|made| made.order_id == order.0).cloned().map(Json).ok_or_else(not_found)
}

async fn refund(State(books): State<Shared>, order: PathId) -> Result<Json<Made>> {
    let mut books = books.lock();
    let made = books.charges.iter_mut().find(|made| made.order_id == order.0).ok_or_else(not_found)?;
    made.refunded = true;
    let made = made.clone();
    books.keep()?;
    Ok(Json(made))
}

/// Keeps what a receiver needs to check the signature.
async fn receive(State(books): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let webhook = json!({
        "id": header("webhook-id"),
        "timestamp": header("webhook-timestamp"),
        "signature": header("webhook-signature"),
        "body": String::from_utf8_lossy(&body),
    });
    let webhooks = &mut books.lock().webhooks;
    if webhooks.len() < KEPT_WEBHOOKS {
        webhooks.push(webhook);
    }
    StatusCode::NO_CONTENT
}

async fn received(State(books): State<Shared>) -> Json<Value> {
    Json(json!({"data": books.lock().webhooks.clone()}))
}
