//! The worked example, to be read and replaced: tenants run shops. A shop has users, who were
//! signed up from some source, with an e-mail address that is unique in their shop. It has
//! products: a SKU unique in the shop, a price in minor units of one currency, and a stock that is
//! never negative. Products are read often and changed rarely, so single ones are cached. An order
//! takes products from the stock and money from a payment provider, once each, whatever fails on
//! the way; what the provider leaves open, a job settles. A paid order is confirmed to the tenant by
//! a signed webhook; a cancelled one gives stock and money back. Nothing here can see another
//! tenant's rows: every store function takes a `TenantTx`.

pub mod catalogue;
pub mod orders;
pub mod payments;
pub mod products;
pub mod sandbox;
pub mod users;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use self::{
    orders::{ConfirmOrder, RefundOrder, SettleOrder},
    payments::{Gateway, PaymentsConfig, Provider},
    sandbox::SandboxConfig,
};
use crate::{
    platform::{
        cache::read_through::{Caches, ReadThrough},
        config::{Environment, Faults, Reader, Section as _, Setting as _},
        db::Db,
        http::pagination::Cursors,
        idempotency::Idempotency,
        jobs::JobRegistry,
        outbound::Outbound,
        telemetry::metrics::{Registry, tenants::TenantLabels},
        tenancy::{activity::Activity, api_key::Pepper},
    },
    resources, section,
};

resources! {
    users: UserMetrics,
    products,
    orders: OrderMetrics,
}

section! {
    /// The example domain.
    pub struct Config in "shop" {
        /// How long a product may be served from the cache.
        pub product_cache_ttl: Duration => Duration::from_secs(1)..=Duration::from_secs(86_400),
    }
}

/// What the root configuration holds for the example.
#[derive(Clone, Debug)]
pub struct Settings {
    pub domain: Config,
    pub payments: PaymentsConfig,
    pub sandbox: SandboxConfig,
}

impl Settings {
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            domain: Config::read(reader),
            payments: PaymentsConfig::read(reader),
            sandbox: SandboxConfig::read(reader),
        }
    }

    /// Adds what can't be, by itself or beside the time that a request has.
    pub fn check(&self, environment: Environment, request_timeout: Duration, faults: &mut Faults) {
        self.payments.check(environment, faults);
        if self.payments.timeout >= request_timeout {
            faults.add(format!(
                "shop.payments.timeout: {} must be shorter than http.request_timeout, {}",
                self.payments.timeout.show(),
                request_timeout.show()
            ));
        }
    }
}

/// An amount of money, in the smallest unit of its currency.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    #[schema(minimum = 0, maximum = 999_999_999_999_i64, example = 1999)]
    pub amount_minor: i64,
    /// ISO 4217 code, of those the shop knows.
    #[schema(pattern = "^(AUD|CAD|CHF|CZK|DKK|EUR|GBP|JPY|NOK|NZD|PLN|SEK|USD)$", example = "EUR")]
    pub currency: String,
}

/// What the platform gives the shop.
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

/// What the shop's handlers and jobs share. Cheap to clone: every request does, more than once.
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
    pub products: ReadThrough,
    pub idempotency: Idempotency,
    pub gateway: Arc<dyn Gateway>,
    pub outbound: Outbound,
    pub metrics: Metrics,
    pub pepper: Pepper,
    /// After this time an order that is not settled is looked into.
    pub settle_after: Duration,
}

impl State {
    /// # Errors
    /// A setting that can't be used, in words.
    pub fn new(settings: &Settings, platform: &Platform<'_>) -> Result<Self, String> {
        let Settings { domain, payments, .. } = settings;
        Ok(Self(Arc::new(Shared {
            db: platform.db.clone(),
            cursors: Cursors::new(platform.pepper),
            products: platform.caches.of("product", domain.product_cache_ttl),
            idempotency: platform.idempotency.clone(),
            gateway: Arc::new(Provider::new(payments, platform.outbound)?),
            outbound: platform.outbound.clone(),
            metrics: Metrics::new(platform),
            pepper: platform.pepper.clone(),
            settle_after: payments.settle_after,
        })))
    }
}

/// All jobs of the shop.
pub fn jobs(jobs: JobRegistry, state: &State) -> JobRegistry {
    jobs.with::<SettleOrder>(state.clone()).with::<ConfirmOrder>(state.clone()).with::<RefundOrder>(state.clone())
}
