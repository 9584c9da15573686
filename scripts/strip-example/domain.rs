//! The domain: what this service is for, in a few sentences. It is empty: `make new-resource NAME=invoices` makes the
//! first resource, docs/ADDING.md has the recipes for the rest. Nothing here may see another tenant's rows: every store
//! function takes a `TenantTx`.

pub mod catalogue;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::{
    platform::{
        cache::read_through::Caches,
        db::Db,
        http::pagination::Cursors,
        idempotency::Idempotency,
        jobs::JobRegistry,
        outbound::Outbound,
        telemetry::metrics::{Registry, tenants::TenantLabels},
        tenancy::{activity::Activity, api_key::Pepper},
    },
    resources,
};

// One line each: `invoices: InvoiceMetrics`, or `invoices` if it counts nothing.
resources! {}

/// What the platform gives the domain.
pub struct Platform<'a> {
    pub db: &'a Db,
    pub pepper: &'a Pepper,
    pub caches: &'a Caches,
    pub idempotency: &'a Idempotency,
    pub outbound: &'a Outbound,
    pub registry: &'a Registry,
    pub tenants: &'a TenantLabels,
    pub activity: &'a Activity,
}

/// What handlers and jobs share. Cheap to clone: every request does, more than once.
#[derive(Clone)]
pub struct State(Arc<Shared>);

impl std::ops::Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What is behind [`State`].
pub struct Shared {
    pub db: Db,
    pub cursors: Cursors,
    pub idempotency: Idempotency,
    pub outbound: Outbound,
    pub metrics: Metrics,
}

impl State {
    /// # Errors
    /// A setting that can't be used, in words.
    pub fn new(platform: &Platform<'_>) -> Result<Self, String> {
        Ok(Self(Arc::new(Shared {
            db: platform.db.clone(),
            cursors: Cursors::new(platform.pepper),
            idempotency: platform.idempotency.clone(),
            outbound: platform.outbound.clone(),
            metrics: Metrics::new(platform),
        })))
    }
}

/// All jobs of the domain.
pub fn jobs(jobs: JobRegistry, _state: &State) -> JobRegistry {
    jobs
}
