//! The worked example, to be read and replaced: tenants run shops. A shop has users, who were
//! signed up from some source, with an e-mail address that is unique in their shop. It has
//! products: a SKU unique in the shop, a price in minor units of one currency, and a stock that is
//! never negative. Products are read often and changed rarely, so single ones are cached. Nothing
//! here can see another tenant's rows: every store function takes a `TenantTx`.

pub mod products;
pub mod users;

use std::time::Duration;

use utoipa_axum::router::OpenApiRouter;

use crate::{
    platform::{
        cache::read_through::{Caches, ReadThrough},
        db::Db,
        http::pagination::Cursors,
    },
    section,
};

section! {
    /// The example domain.
    pub struct Config in "shop" {
        /// How long a product may be served from the cache.
        pub product_cache_ttl: Duration => Duration::from_secs(1)..=Duration::from_secs(86_400),
    }
}

/// What the shop's handlers share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    pub db: Db,
    pub cursors: Cursors,
    pub products: ReadThrough,
}

impl State {
    pub fn new(config: &Config, db: &Db, cursors: &Cursors, caches: &Caches) -> Self {
        Self { db: db.clone(), cursors: cursors.clone(), products: caches.of("product", config.product_cache_ttl) }
    }
}

/// All routes of the shop.
pub fn router() -> OpenApiRouter<State> {
    users::router().merge(products::router())
}
