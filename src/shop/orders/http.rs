//! `/v1/orders`: bodies and handlers.

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    answer::OrderBody,
    model::NewOrder,
    service::{self, Placed},
    store,
};
use crate::{
    platform::{
        db::TenantTx,
        error::{Error, Result},
        http::{
            auth::{Caller, Read, Write},
            extract::{Json, PathId, Query},
            pagination::{ListQuery, Page},
            problem::{BodyProblem, ConflictProblem, Failed, NotFoundProblem, PaymentProblem, Problem},
        },
        idempotency::{Answer, IdempotencyKey},
    },
    shop::State,
};

pub fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(place_order, list_orders))
        .routes(routes!(show_order))
        .routes(routes!(cancel_order))
}

/// An order to place.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaceOrder {
    #[schema(min_items = 1, max_items = 100)]
    lines: Vec<PlaceLine>,
    /// Token of the payment provider.
    #[schema(max_length = 100, pattern = "\\S", example = "tok_ok")]
    payment_method: String,
}

/// A product and how many of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaceLine {
    product_id: Uuid,
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: i64,
}

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer as it is kept: fresh or replayed, the same bytes and the same headers but one.
fn respond(answer: Answer, replayed: bool) -> Response {
    #[derive(Deserialize)]
    struct Kept {
        id: Uuid,
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let order: Option<Kept> = serde_json::from_str(&answer.body).ok().filter(|_| status.is_success());
    let mut response = (status, [(header::CONTENT_TYPE, kind)], answer.body).into_response();
    if let Some(Kept { id }) = order {
        let location = HeaderValue::from_str(&format!("/v1/orders/{id}")).expect("an id is plain ASCII");
        response.headers_mut().insert(header::LOCATION, location);
    } else {
        response.extensions_mut().insert(Failed { code: "payment_declined", is_fault: false, chain: String::new() });
    }
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Places an order: reserves the stock, charges, and settles.
///
/// With the same `Idempotency-Key` it is placed once; a repetition gets the first answer.
#[utoipa::path(
    post,
    path = "/v1/orders",
    tag = "orders",
    security(("api_key" = ["write"])),
    params(("idempotency-key" = String, Header, description = "1 to 255 visible ASCII characters, new for each order", min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")),
    request_body = PlaceOrder,
    responses(
        (status = 201, body = OrderBody, description = "Paid", headers(
            ("location" = String, description = "Path of the new order"),
            ("idempotent-replayed" = String, description = "`true` when this is the answer to an earlier request")
        )),
        (status = 202, body = OrderBody, description = "The payment is not known yet; the order settles by itself", headers(
            ("location" = String, description = "Path of the new order"),
            ("idempotent-replayed" = String, description = "`true` when this is the answer to an earlier request")
        )),
        Problem, BodyProblem, ConflictProblem, PaymentProblem
    )
)]
async fn place_order(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    key: IdempotencyKey,
    Json(body): Json<PlaceOrder>,
) -> Result<Response> {
    let lines: Vec<_> = body.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
    let new = NewOrder::parse(&lines, &body.payment_method)
        .inspect_err(|error| state.metrics.orders.order(caller.tenant, error.code))?;
    Ok(match service::place(&state, caller.tenant, &key, &new, &body).await? {
        Placed::Fresh(answer) => respond(answer, false),
        Placed::Replayed(answer) => respond(answer, true),
    })
}

/// Lists the orders, oldest first.
#[utoipa::path(
    get,
    path = "/v1/orders",
    tag = "orders",
    security(("api_key" = ["read"])),
    params(ListQuery),
    responses((status = 200, body = Page<OrderBody>), Problem)
)]
async fn list_orders(
    Shared(state): Shared<State>,
    caller: Caller<Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OrderBody>>> {
    let window = state.cursors.read(&query, caller.tenant, "orders")?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let orders = store::list(&mut tx, window.after, window.rows()).await?;
    tx.commit().await?;
    Ok(Json(state.cursors.page(&window, orders, |order| order.id).map(|order| OrderBody::from(&order))))
}

/// Shows an order.
#[utoipa::path(
    get,
    path = "/v1/orders/{order_id}",
    tag = "orders",
    security(("api_key" = ["read"])),
    params(("order_id" = Uuid, Path)),
    responses((status = 200, body = OrderBody), Problem, NotFoundProblem)
)]
async fn show_order(Shared(state): Shared<State>, caller: Caller<Read>, id: PathId) -> Result<Json<OrderBody>> {
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let order = store::find(&mut tx, id.0).await?;
    tx.commit().await?;
    order
        .map(|order| Json(OrderBody::from(&order)))
        .ok_or_else(|| Error::not_found("order_not_found", "There is no such order."))
}

/// Cancels a paid order: the stock goes back, the money by a job.
#[utoipa::path(
    post,
    path = "/v1/orders/{order_id}/cancel",
    tag = "orders",
    security(("api_key" = ["write"])),
    params(("order_id" = Uuid, Path)),
    responses((status = 200, body = OrderBody), Problem, NotFoundProblem, ConflictProblem)
)]
async fn cancel_order(Shared(state): Shared<State>, caller: Caller<Write>, id: PathId) -> Result<Json<OrderBody>> {
    let order = service::cancel(&state, caller.tenant, id.0).await?;
    Ok(Json(OrderBody::from(&order)))
}
