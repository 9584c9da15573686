//! The jobs of an order: settle what the request could not, confirm it to the tenant, refund it.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{answer::OrderBody, service, store, webhook};
use crate::{
    platform::{
        db::TenantTx,
        error::{Error, Kind, Result},
        jobs::{Job, Next, Run},
        outbound::Call,
        tenancy,
    },
    shop::State,
};

/// The provider is down for minutes at times; asking costs little.
const ASK_AGAIN: Duration = Duration::from_secs(10);
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
            Ok(None) => service::charge(&state, &order).await,
            Err(unknown) => {
                tracing::warn!(order_id = %order.id, error = %unknown, "payment_unknown");
                return Ok(Next::Later(ASK_AGAIN.min(state.settle_after)));
            }
        };
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
            Ok(()) => Ok(Next::Done),
            Err(unknown) => {
                tracing::warn!(order_id = %self.order_id, error = %unknown, "refund_unknown");
                Ok(Next::Later(ASK_AGAIN.min(state.settle_after)))
            }
        }
    }
}

/// Tells the tenant's own system of a paid order, by a signed webhook.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfirmOrder {
    pub order_id: Uuid,
}

impl Job for ConfirmOrder {
    const KIND: &'static str = "orders.confirm";
    const QUEUE: &'static str = "webhooks";
    type State = State;

    async fn run(self, state: State, run: Run) -> Result<Next> {
        let mut tx = TenantTx::begin(&state.db, run.tenant).await?;
        let tenant = tenancy::store::own_tenant(&mut tx).await?;
        let order = store::find(&mut tx, self.order_id).await?;
        tx.commit().await?;
        let Some((url, order)) = tenant.and_then(|tenant| tenant.webhook_url).zip(order) else { return Ok(Next::Done) };
        let url: Url = url.parse().map_err(|_| failed("the webhook URL can't be read"))?;
        let event = json!({"id": run.id, "type": "order.paid", "created_at": chrono::Utc::now(), "data": OrderBody::from(&order)});
        let body = event.to_string();
        let headers =
            webhook::headers(&state.pepper.webhook_secret(run.tenant), run.id, chrono::Utc::now().timestamp(), &body);
        let call = Call {
            method: Method::POST,
            url,
            template: "{webhook_url}",
            headers,
            body: Some(body.as_bytes()),
            timeout: WEBHOOK_TIMEOUT,
            idempotent: false,
        };
        let answer = state
            .outbound
            .call_tenant(&call)
            .await
            .map_err(|failure| failed("the webhook was not taken").caused_by(failure))?;
        match answer.status {
            200..300 => Ok(Next::Done),
            status => Err(failed("the webhook was not taken").caused_by(format!("status {status}"))),
        }
    }
}

fn failed(message: &'static str) -> Error {
    Error::new(Kind::Unavailable, "webhook_failed", message)
}
