//! The jobs of an order: settle what the request could not, confirm it to the tenant, refund it.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    answer::OrderBody,
    model::{Event, Order},
    service, store, webhook,
};
use crate::{
    platform::{
        db::TenantTx,
        error::{Error, Kind, Result},
        jobs::{Job, Next, Run},
        outbound::Call,
        tenancy,
    },
    shop::{State, payments::Refund},
};

/// The provider is down for minutes at times; asking costs little.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// An order whose charge never reached the provider is not charged later than this.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// A tenant's endpoint gets this long.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the provider what became of a charge, and charges if it never heard of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettleOrder {
    pub order_id: Uuid,
}

impl Job for SettleOrder {
    const KIND: &'static str = "orders.settle";
    const QUEUE: &'static str = "payments";
    type State = State;

    async fn run(self, state: State, run: Run) -> Result<Next> {
        let mut tx = TenantTx::begin(&state.db, run.tenant).await?;
        let found = store::find(&mut tx, self.order_id).await?;
        tx.commit().await?;
        let Some(order) = found.filter(|order| !order.status.is_settled()) else { return Ok(Next::Done) };
        let event = match state.gateway.find(order.id).await {
            Ok(Some(outcome)) => service::event(outcome),
            // Who still waits after a day does not want it any more.
            Ok(None) if chrono::Utc::now() - order.created_at > GIVE_UP => Event::Declined,
            Ok(None) => service::charge(&state, &order).await,
            Err(unknown) => {
                tracing::warn!(order_id = %order.id, error = %unknown, "payment_unknown");
                Event::Unanswered
            }
        };
        // Also without an answer: a client whose request crashed then gets its 202.
        let (order, _) = service::settle(&state, run.tenant, order.id, event).await?;
        Ok(if order.status.is_settled() { Next::Done } else { Next::Later(ASK_AGAIN.min(state.settle_after)) })
    }
}

/// Gives the money of a cancelled order back.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefundOrder {
    pub order_id: Uuid,
}

impl Job for RefundOrder {
    const KIND: &'static str = "orders.refund";
    const QUEUE: &'static str = "payments";
    type State = State;

    async fn run(self, state: State, _: Run) -> Result<Next> {
        match state.gateway.refund(self.order_id).await {
            Ok(Refund::Made) => Ok(Next::Done),
            Ok(Refund::Refused) => {
                Err(Error::new(Kind::Internal, "refund_refused", "The provider refused the refund."))
            }
            Err(unknown) => {
                tracing::warn!(order_id = %self.order_id, error = %unknown, "refund_unknown");
                Ok(Next::Later(ASK_AGAIN.min(state.settle_after)))
            }
        }
    }
}

/// Tells the tenant's own system of a paid order, by a signed webhook. What it says is fixed when
/// it is queued: every delivery has the same id and the same bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfirmOrder {
    event: Value,
}

impl ConfirmOrder {
    /// # Errors
    /// When the order can't be written as JSON.
    pub fn of(id: Uuid, order: &Order) -> Result<Self> {
        let data = serde_json::to_value(OrderBody::from(order)).map_err(Error::internal)?;
        Ok(Self { event: json!({"id": id, "type": "order.paid", "created_at": order.updated_at, "data": data}) })
    }
}

impl Job for ConfirmOrder {
    const KIND: &'static str = "orders.confirm";
    const QUEUE: &'static str = "webhooks";
    // 5, 10, 20 and 40 minutes with the default backoff: a deploy on the other side is no dead letter.
    const PATIENCE: u32 = 150;
    type State = State;

    async fn run(self, state: State, run: Run) -> Result<Next> {
        let mut tx = TenantTx::begin(&state.db, run.tenant).await?;
        let tenant = tenancy::store::own_tenant(&mut tx).await?;
        tx.commit().await?;
        let Some(url) = tenant.and_then(|tenant| tenant.webhook_url) else { return Ok(Next::Done) };
        let url: Url = url.parse().map_err(|_| failed("the webhook URL can't be read"))?;
        let body = self.event.to_string();
        let secrets = state.pepper.webhook_secrets(run.tenant);
        let call = Call {
            method: Method::POST,
            url,
            template: "{webhook_url}",
            headers: webhook::headers(&secrets, run.id, chrono::Utc::now().timestamp(), &body),
            body: Some(body.as_bytes()),
            timeout: WEBHOOK_TIMEOUT,
            idempotent: false,
        };
        let answer = state.outbound.call_tenant(&call).await.map_err(|failure| failed(NOT_TAKEN).caused_by(failure))?;
        match answer.status {
            200..300 => Ok(Next::Done),
            status => Err(failed(NOT_TAKEN).caused_by(format!("status {status}"))),
        }
    }
}

const NOT_TAKEN: &str = "the webhook was not taken";

fn failed(message: &'static str) -> Error {
    Error::new(Kind::Unavailable, "webhook_failed", message)
}
