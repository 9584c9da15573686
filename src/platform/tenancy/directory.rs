//! From an API key to its caller, with a short cache in the process: a key costs a query once in
//! `auth.key_cache_ttl`, and a revoked one is refused at the latest that much later.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;

use super::{
    PrincipalId, Scope, TenantId,
    activity::Activity,
    api_key::{ApiKey, Pepper, Verified},
    store::{self, StoredKey},
};
use crate::{
    platform::{
        config::{Environment, Faults, Secret},
        db::{Db, SystemTx},
        error::{Error, Kind, Result},
    },
    section,
};

section! {
    /// API keys.
    pub struct AuthConfig in "auth" {
        /// Secret that API keys and cursors are signed with; at least 32 characters.
        pub pepper: Option<Secret>,
        /// The pepper before it, while it is being rotated: keys, cursors and webhooks of before stay good.
        pub previous_pepper: Option<Secret>,
        /// How long a looked-up key is trusted, and so the longest a revoked one still works.
        pub key_cache_ttl: Duration => Duration::from_millis(10)..=Duration::from_secs(30),
        /// Failed attempts a minute that one client address may make; 0 for any number. Keys that were good lately pass.
        pub failures_per_minute: u32 => 0..=1_000_000,
    }
}

impl AuthConfig {
    pub fn check(&self, environment: Environment, faults: &mut Faults) {
        match &self.pepper {
            None => faults.add("auth.pepper: missing; set APP__AUTH__PEPPER or APP__AUTH__PEPPER_FILE"),
            Some(pepper) if environment.is_deployed() && pepper.expose().len() < 32 => {
                faults.add("auth.pepper: must be at least 32 characters long (value not shown)");
            }
            Some(_) => {}
        }
    }
}

/// Unknown ids are remembered too, so that a client with an old key costs one query a TTL.
const MOST_KEYS: u64 = 10_000;
/// How long a good key is remembered as such.
const LATELY: Duration = Duration::from_secs(600);

/// Who a key belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    pub scope: Scope,
}

/// Finds callers by their key. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

impl std::ops::Deref for Directory {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What is behind [`Directory`].
pub struct Inner {
    db: Db,
    pepper: Pepper,
    keys: Cache<String, Option<Arc<StoredKey>>>,
    /// Keys that were good lately: id and hash.
    good: Cache<String, Arc<StoredKey>>,
    activity: Activity,
}

/// One answer for unknown, wrong and revoked: nothing to learn from the difference.
fn refused() -> Error {
    Error::new(Kind::Unauthenticated, "invalid_api_key", "The API key is not valid.")
}

impl Directory {
    pub fn new(db: &Db, pepper: &Pepper, ttl: Duration, activity: &Activity) -> Self {
        let keys = Cache::builder().max_capacity(MOST_KEYS).time_to_live(ttl).build();
        let good = Cache::builder().max_capacity(MOST_KEYS).time_to_live(LATELY).build();
        Self(Arc::new(Inner { db: db.clone(), pepper: pepper.clone(), keys, good, activity: activity.clone() }))
    }

    /// Whether this very key was good lately; for another one of its id the answer is that for an unknown one.
    pub async fn knows(&self, text: &str) -> bool {
        let Some(key) = ApiKey::parse(text) else { return false };
        let known = self.good.get(key.id).await;
        let hash = known.as_ref().map_or(&[0; 32][..], |stored| &stored.secret_hash);
        self.pepper.verify(&key, hash) != Verified::No
    }

    /// # Errors
    /// `Unauthenticated` for anything but a live key; `Unavailable` when it can't be looked up.
    pub async fn authenticate(&self, text: &str) -> Result<Identity> {
        let key = ApiKey::parse(text).ok_or_else(refused)?;
        let found = self.keys.try_get_with_by_ref(key.id, self.load(key.id)).await.map_err(|error| error.copy())?;
        // An unknown id is compared with a hash too, so that it takes the same time.
        let hash = found.as_ref().map_or(&[0; 32][..], |stored| &stored.secret_hash);
        let verified = self.pepper.verify(&key, hash);
        let stored =
            found.filter(|stored| verified != Verified::No && stored.revoked_at.is_none()).ok_or_else(refused)?;
        if !self.good.contains_key(key.id) {
            self.good.insert(key.id.to_owned(), Arc::clone(&stored)).await;
        }
        if verified == Verified::ByPrevious {
            self.renew(&key, &stored).await;
        }
        let principal = PrincipalId::new(&stored.key_id);
        self.activity.saw(&principal);
        Ok(Identity {
            tenant: TenantId::from_uuid(stored.tenant_id),
            principal,
            scope: stored.scope.parse().map_err(Error::internal)?,
        })
    }

    /// Hashes a key with the current pepper, so that the one before can go. Once a look-up; when it fails, the
    /// next one tries again.
    async fn renew(&self, key: &ApiKey<'_>, stored: &StoredKey) {
        self.keys.invalidate(key.id).await;
        let renewed = async {
            let mut tx = SystemTx::begin(&self.db).await?;
            store::renew_key(&mut tx, key.id, &stored.secret_hash, &self.pepper.hash(key)).await?;
            tx.commit().await
        };
        if let Err(error) = renewed.await {
            tracing::warn!(error = error.chain(), "api_key_not_renewed");
        }
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredKey>>> {
        let mut tx = SystemTx::begin(&self.db).await?;
        Ok(store::find_key(&mut tx, id).await?.map(Arc::new))
    }
}
