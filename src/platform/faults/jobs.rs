//! Jobs on purpose: one that does nothing and one that never succeeds.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::platform::{
    db::TenantTx,
    error::{Error, Result},
    jobs::{self, Job, JobRegistry, Next, Run},
};

#[derive(Serialize, Deserialize)]
struct Nothing {}

impl Job for Nothing {
    const KIND: &'static str = "faults.nothing";
    const QUEUE: &'static str = "faults";
    type State = ();

    async fn run(self, (): (), _: Run) -> Result<Next> {
        Ok(Next::Done)
    }
}

#[derive(Serialize, Deserialize)]
struct Poison {}

impl Job for Poison {
    const KIND: &'static str = "faults.poison";
    const QUEUE: &'static str = "faults";
    type State = ();

    async fn run(self, (): (), _: Run) -> Result<Next> {
        Err(Error::internal("a fault was asked for"))
    }
}

/// Adds them where faults are enabled.
pub fn register(registry: JobRegistry, enabled: bool) -> JobRegistry {
    if enabled { registry.with::<Nothing>(()).with::<Poison>(()) } else { registry }
}

pub(super) async fn enqueue(tx: &mut TenantTx, poison: bool) -> Result<()> {
    if poison {
        jobs::enqueue(tx, Uuid::now_v7(), Duration::ZERO, &Poison {}).await
    } else {
        jobs::enqueue(tx, Uuid::now_v7(), Duration::ZERO, &Nothing {}).await
    }
}
