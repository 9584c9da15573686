//! Placing, settling and cancelling: what spans several transactions and the provider.

use uuid::Uuid;

use super::{
    answer::answer,
    jobs::{ConfirmOrder, RefundOrder, SettleOrder},
    model::{Event, NewOrder, Order, Status, price},
    store,
};
use crate::{
    platform::{
        db::{TenantTx, retried},
        error::{Error, Kind, Result},
        idempotency::{Answer, Claim, IdempotencyKey},
        jobs,
        tenancy::TenantId,
    },
    shop::{
        State,
        payments::{Charge, Outcome},
    },
};

/// What a request to place an order led to.
pub enum Placed {
    Fresh(Answer),
    Replayed(Answer),
}

/// Reserves, charges and settles. The charge is outside any transaction: a slow provider holds no
/// lock and no connection. If this process dies on the way, [`SettleOrder`] does the rest.
pub async fn place(
    state: &State,
    tenant: TenantId,
    key: &IdempotencyKey,
    new: &NewOrder,
    content: &impl serde::Serialize,
) -> Result<Placed> {
    let order = match retried(&state.db, || reserve(state, tenant, key, new, content)).await {
        Ok(Reserved::New(order)) => order,
        Ok(Reserved::Replay(answer)) => return Ok(Placed::Replayed(answer)),
        Err(error) => {
            if matches!(error.code, "insufficient_stock" | "validation_failed") {
                state.metrics.orders.order(tenant, error.code);
            }
            return Err(error);
        }
    };
    forget(state, tenant, &order).await;
    let event = charge(state, &order).await;
    let (_, answer) = settle(state, tenant, order.id, event).await?;
    Ok(Placed::Fresh(answer))
}

enum Reserved {
    New(Order),
    Replay(Answer),
}

/// The first transaction: the key, the stock, the order, and the job that would pick it up.
#[tracing::instrument(name = "orders.validate_stock", skip_all)]
async fn reserve(
    state: &State,
    tenant: TenantId,
    key: &IdempotencyKey,
    new: &NewOrder,
    content: &impl serde::Serialize,
) -> Result<Reserved> {
    let mut tx = TenantTx::begin(&state.db, tenant).await?;
    if let Claim::Replay(answer) = state.idempotency.claim(&mut tx, key, "POST /v1/orders", content).await? {
        return Ok(Reserved::Replay(answer));
    }
    let offers = store::lock_offers(&mut tx, &new.lines).await?;
    let (lines, total, currency) = price(&new.lines, &new.listed, &offers)?;
    store::move_stock(&mut tx, &lines, -1).await?;
    let order = store::insert(&mut tx, new, &lines, total, &currency, key.as_str()).await?;
    jobs::enqueue(&mut tx, order.id, state.settle_after, &SettleOrder { order_id: order.id }).await?;
    tx.commit().await?;
    Ok(Reserved::New(order))
}

/// Asks the provider; no usable answer is an answer of its own.
#[tracing::instrument(name = "orders.charge", skip_all, fields(shop.order.id = %order.id))]
pub async fn charge(state: &State, order: &Order) -> Event {
    let charge = Charge {
        order_id: order.id,
        amount_minor: order.total_minor,
        currency: order.currency.clone(),
        payment_method: order.payment_method.clone(),
    };
    match state.gateway.charge(&charge).await {
        Ok(outcome) => event(outcome),
        Err(unknown) => {
            tracing::warn!(order_id = %order.id, error = %unknown, "payment_unknown");
            Event::Unanswered
        }
    }
}

pub const fn event(outcome: Outcome) -> Event {
    match outcome {
        Outcome::Succeeded => Event::Charged,
        Outcome::Declined => Event::Declined,
    }
}

/// The second transaction: the new state, the stock if it goes back, the confirmation, and the
/// answer for replay. Whoever comes second finds it done.
#[tracing::instrument(name = "orders.settle", skip_all, fields(shop.order.id = %id))]
pub async fn settle(state: &State, tenant: TenantId, id: Uuid, event: Event) -> Result<(Order, Answer)> {
    retried(&state.db, || settle_once(state, tenant, id, event)).await
}

async fn settle_once(state: &State, tenant: TenantId, id: Uuid, event: Event) -> Result<(Order, Answer)> {
    let mut tx = TenantTx::begin(&state.db, tenant).await?;
    let found = store::find_for_update(&mut tx, id).await?;
    let mut order = found.ok_or_else(|| Error::internal(format!("order {id} is gone")))?;
    let Some(next) = order.status.after(event) else {
        let answer = state.idempotency.complete(&mut tx, &order.idempotency_key, answer(&order)?).await?;
        tx.commit().await?;
        return Ok((order, answer));
    };
    store::update_status(&mut tx, &mut order, next).await?;
    if next.releases_stock() {
        store::lock_offers(
            &mut tx,
            &order.lines.iter().map(|line| (line.product_id, line.quantity)).collect::<Vec<_>>(),
        )
        .await?;
        store::move_stock(&mut tx, &order.lines, 1).await?;
    }
    if next == Status::Paid {
        let confirmation = Uuid::now_v7();
        let job = ConfirmOrder::of(confirmation, &order)?;
        jobs::enqueue(&mut tx, confirmation, std::time::Duration::ZERO, &job).await?;
    }
    if next.is_settled() {
        jobs::cancel(&mut tx, id).await?;
    }
    // Whoever answered first: the client and its retries see one answer.
    let answer = state.idempotency.complete(&mut tx, &order.idempotency_key, answer(&order)?).await?;
    tx.commit().await?;
    count(state, tenant, &order, event);
    if next.releases_stock() {
        forget(state, tenant, &order).await;
    }
    Ok((order, answer))
}

/// After the commit: an order counts once, when it is settled.
fn count(state: &State, tenant: TenantId, order: &Order, event: Event) {
    match event {
        Event::Charged => {
            state.metrics.orders.payment("succeeded", "");
            state.metrics.orders.paid(tenant, order);
        }
        Event::Declined => {
            state.metrics.orders.payment("declined", "card_declined");
            state.metrics.orders.order(tenant, "payment_declined");
        }
        Event::Unanswered => state.metrics.orders.payment("unknown", "provider"),
        Event::Cancelled => state.metrics.orders.order(tenant, "cancelled"),
    }
    tracing::info!(order_id = %order.id, order_status = order.status.as_str(), "order_settled");
}

/// Takes a paid order back: stock to the shelf, money to the customer by a job. Cancelling twice
/// is cancelling once.
pub async fn cancel(state: &State, tenant: TenantId, id: Uuid) -> Result<Order> {
    retried(&state.db, || cancel_once(state, tenant, id)).await
}

async fn cancel_once(state: &State, tenant: TenantId, id: Uuid) -> Result<Order> {
    let mut tx = TenantTx::begin(&state.db, tenant).await?;
    let found = store::find_for_update(&mut tx, id).await?;
    let mut order = found.ok_or_else(|| Error::not_found("order_not_found", "There is no such order."))?;
    if order.status == Status::Cancelled {
        return Ok(order);
    }
    let Some(next) = order.status.after(Event::Cancelled) else {
        return Err(if order.status.is_settled() {
            Error::new(Kind::Conflict, "order_not_cancellable", "The order was never paid; there is nothing to cancel.")
        } else {
            Error::new(Kind::Conflict, "order_payment_pending", "The payment is not known yet. Try again when it is.")
        });
    };
    store::update_status(&mut tx, &mut order, next).await?;
    store::lock_offers(&mut tx, &order.lines.iter().map(|line| (line.product_id, line.quantity)).collect::<Vec<_>>())
        .await?;
    store::move_stock(&mut tx, &order.lines, 1).await?;
    jobs::enqueue(&mut tx, Uuid::now_v7(), std::time::Duration::ZERO, &RefundOrder { order_id: id }).await?;
    tx.commit().await?;
    count(state, tenant, &order, Event::Cancelled);
    forget(state, tenant, &order).await;
    Ok(order)
}

/// The stock of these products changed.
async fn forget(state: &State, tenant: TenantId, order: &Order) {
    futures_util::future::join_all(order.lines.iter().map(|line| state.products.invalidate(tenant, line.product_id)))
        .await;
}
