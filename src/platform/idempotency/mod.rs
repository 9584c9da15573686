//! Idempotency keys, in the transaction of the effect: a retry gets the first answer, a twin in
//! flight a 409, another body a 422. Nothing is kept of what was rolled back.

mod store;

use std::time::Duration;

use aws_lc_rs::digest;
use serde::Serialize;

use super::{
    db::{Db, SystemTx, TenantTx},
    error::{Error, Kind, Result},
    telemetry::metrics::{Counter, Registry},
};
use crate::{labels, section};

section! {
    /// Idempotency keys.
    pub struct IdempotencyConfig in "idempotency" {
        /// How long an answer is kept for replay.
        pub retention: Duration => Duration::from_secs(1)..=Duration::from_secs(7 * 86_400),
    }
}

labels! {
    pub struct Outcome { outcome: &'static str = "_OTHER" }
}

/// A key as the client chose it: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(
                Kind::Malformed,
                "invalid_idempotency_key",
                "Idempotency-Key must be 1 to 255 visible ASCII characters.",
            ))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An answer kept for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// What a key stands for.
#[derive(Debug)]
pub enum Claim {
    /// It is ours: do the work, then [`Idempotency::complete`] in the transaction that ends it.
    New,
    Replay(Answer),
}

/// Claims and completes keys, and counts how that goes. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency {
    requests: Counter<Outcome>,
    retention: Duration,
}

impl Idempotency {
    pub fn new(config: &IdempotencyConfig, registry: &Registry) -> Self {
        let requests: Counter<Outcome> = registry.counter(
            "idempotency_requests_total",
            "Requests with an idempotency key, by what became of it.",
            8,
        );
        for outcome in ["new", "replay", "in_progress", "mismatch"] {
            requests.with(&Outcome { outcome });
        }
        Self { requests, retention: config.retention }
    }

    /// Claims `key` for this operation and content. A twin that holds the key waits for at most
    /// the role's `lock_timeout`.
    ///
    /// # Errors
    /// `Conflict` while a twin is at work, `Invalid` when the key was used for something else.
    pub async fn claim(
        &self,
        tx: &mut TenantTx,
        key: &IdempotencyKey,
        operation: &str,
        content: &impl Serialize,
    ) -> Result<Claim> {
        let fingerprint = fingerprint(operation, content)?;
        let (outcome, result) = match store::insert(tx, key, &fingerprint).await {
            Ok(true) => ("new", Ok(Claim::New)),
            Ok(false) => match store::find(tx, key).await? {
                Some(stored) if stored.fingerprint != fingerprint => ("mismatch", Err(reused())),
                Some(store::Stored { status: Some(status), body: Some(body), .. }) => {
                    let status = u16::try_from(status).map_err(Error::internal)?;
                    ("replay", Ok(Claim::Replay(Answer { status, body })))
                }
                // Also when the key expired just now: the next try claims it anew.
                _ => ("in_progress", Err(in_progress())),
            },
            Err(error) if error.code == IN_PROGRESS => ("in_progress", Err(error)),
            Err(error) => return Err(error),
        };
        self.requests.with(&Outcome { outcome }).inc();
        result
    }

    /// Keeps the answer; the first one stays, and is returned.
    ///
    /// # Errors
    /// Only the database's own.
    pub async fn complete(&self, tx: &mut TenantTx, key: &str, answer: Answer) -> Result<Answer> {
        let Some((status, body)) = store::complete(tx, key, &answer).await? else { return Ok(answer) };
        Ok(Answer { status: u16::try_from(status).map_err(Error::internal)?, body })
    }

    /// Removes what is older than the retention, in batches that hold no lock for long.
    ///
    /// # Errors
    /// Only the database's own.
    pub async fn expire(&self, db: &Db) -> Result<u64> {
        let mut removed = 0;
        loop {
            let mut tx = SystemTx::begin(db).await?;
            let batch = store::expire(&mut tx, self.retention).await?;
            tx.commit().await?;
            removed += batch;
            if batch < store::BATCH {
                return Ok(removed);
            }
        }
    }
}

const IN_PROGRESS: &str = "idempotency_key_in_progress";

fn in_progress() -> Error {
    const TEXT: &str = "A request with this Idempotency-Key is being handled. Try again shortly.";
    Error::new(Kind::Conflict, IN_PROGRESS, TEXT).after(Duration::from_secs(1))
}

fn reused() -> Error {
    const TEXT: &str = "This Idempotency-Key was used for another request.";
    Error::new(Kind::Invalid, "idempotency_key_reused", TEXT)
}

/// SHA-256 of the operation and of the parsed content: spaces and the order of fields don't matter.
fn fingerprint(operation: &str, content: &impl Serialize) -> Result<Vec<u8>> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(operation.as_bytes());
    context.update(&[0]);
    context.update(&serde_json::to_vec(content).map_err(Error::internal)?);
    Ok(context.finish().as_ref().to_vec())
}
