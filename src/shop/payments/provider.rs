//! The payment provider's HTTP API, through `platform::outbound`: timeout, one safe retry, breaker.

use std::time::Duration;

use futures_core::future::BoxFuture;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderValue},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Charge, Gateway, Outcome, Refund, Unknown};
use crate::{
    platform::{
        config::{Environment, Faults, Setting as _},
        outbound::{Answer, Call, Dependency, Outbound, json},
    },
    section,
};

section! {
    /// The payment provider.
    pub struct PaymentsConfig in "shop.payments" {
        /// Base URL of the provider's API.
        pub url: String,
        /// Longest time for a charge, its retry included; after it the outcome is unknown.
        pub timeout: Duration => Duration::from_millis(50)..=Duration::from_secs(30),
        /// How long after an order its payment is looked into, if it is not settled by then.
        pub settle_after: Duration => Duration::from_millis(10)..=Duration::from_secs(3_600),
    }
}

impl PaymentsConfig {
    pub fn check(&self, environment: Environment, faults: &mut Faults) {
        // The job would ask while the request still waits.
        if self.settle_after <= self.timeout {
            let (after, timeout) = (self.settle_after.show(), self.timeout.show());
            faults.add(format!(
                "shop.payments.settle_after: {after} must be longer than shop.payments.timeout, {timeout}"
            ));
        }
        if !Url::parse(&self.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            // Not shown: it may hold a password.
            faults.add("shop.payments.url: expected a URL such as https://payments.example.com");
        } else if environment == Environment::Production && !self.url.starts_with("https://") {
            faults.add("shop.payments.url: takes money over an unencrypted connection, or is the sandbox; use https");
        }
    }
}

/// A client of the provider.
#[derive(Clone)]
pub struct Provider {
    dependency: Dependency,
    base: Url,
    timeout: Duration,
}

#[derive(Deserialize)]
struct ChargeBody {
    outcome: Outcome,
}

impl Provider {
    /// # Errors
    /// A URL that can't be read.
    pub fn new(config: &PaymentsConfig, outbound: &Outbound) -> Result<Self, String> {
        let base = Url::parse(&config.url).map_err(|error| format!("shop.payments.url: {error}"))?;
        Ok(Self { dependency: outbound.dependency("payment_provider"), base, timeout: config.timeout })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        template: &'static str,
        content: Option<&Charge>,
        key: Option<String>,
    ) -> Result<Answer, Unknown> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| Unknown(error.to_string()))?;
        let (mut headers, body) = match content {
            Some(charge) => {
                json(charge).map(|(headers, body)| (headers, Some(body))).map_err(|error| Unknown(error.to_string()))?
            }
            None => (HeaderMap::new(), None),
        };
        if let Some(key) = key.and_then(|key| HeaderValue::from_str(&key).ok()) {
            headers.insert("idempotency-key", key);
        }
        // Every call here may be repeated: reads by nature, writes by their idempotency key.
        let call =
            Call { method, url, template, headers, body: body.as_deref(), timeout: self.timeout, idempotent: true };
        self.dependency.call(&call).await.map_err(|failure| Unknown(failure.to_string()))
    }
}

/// A refusal in the provider's own words: an outcome, or a problem (RFC 9457). What a proxy on the way says in HTML tells nothing of
/// the charge, whatever its status.
#[derive(Deserialize)]
struct RefusalBody {
    status: Option<u16>,
    code: Option<String>,
    outcome: Option<Outcome>,
}

fn is_providers(answer: &Answer) -> bool {
    let refusal: Result<RefusalBody, _> = serde_json::from_slice(&answer.body);
    refusal.is_ok_and(|refusal| {
        refusal.outcome == Some(Outcome::Declined) || (refusal.status == Some(answer.status) && refusal.code.is_some())
    })
}

/// What the provider says of a charge. A refusal for a reason of ours (4xx) is a decline: asking
/// again would get the same answer.
fn outcome(answer: &Answer) -> Result<Outcome, Unknown> {
    match answer.status {
        200 | 201 | 402 => {
            let body: ChargeBody = serde_json::from_slice(&answer.body).map_err(|error| Unknown(error.to_string()))?;
            Ok(body.outcome)
        }
        _ if is_final(answer) => Ok(Outcome::Declined),
        status => Err(Unknown(format!("status {status}"))),
    }
}

/// Whether a repetition would get the same answer.
fn is_final(answer: &Answer) -> bool {
    let passing = matches!(answer.status, 401 | 403 | 408 | 409 | 425 | 429);
    matches!(answer.status, 400..500) && !passing && is_providers(answer)
}

impl Gateway for Provider {
    fn charge<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Result<Outcome, Unknown>> {
        Box::pin(async move {
            let key = Some(charge.order_id.to_string());
            let answer = self.call(Method::POST, "/charges", "/charges", Some(charge), key).await?;
            outcome(&answer)
        })
    }

    fn find(&self, order_id: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Unknown>> {
        Box::pin(async move {
            let answer =
                self.call(Method::GET, &format!("/charges/{order_id}"), "/charges/{order_id}", None, None).await?;
            match answer.status {
                404 if is_providers(&answer) => Ok(None),
                200 | 402 => outcome(&answer).map(Some),
                status => Err(Unknown(format!("status {status}"))),
            }
        })
    }

    fn refund(&self, order_id: Uuid) -> BoxFuture<'_, Result<Refund, Unknown>> {
        Box::pin(async move {
            let key = Some(format!("refund-{order_id}"));
            let path = format!("/charges/{order_id}/refund");
            let answer = self.call(Method::POST, &path, "/charges/{order_id}/refund", None, key).await?;
            match answer.status {
                200 => Ok(Refund::Made),
                _ if is_final(&answer) => Ok(Refund::Refused),
                status => Err(Unknown(format!("status {status}"))),
            }
        })
    }
}
