//! Read-through: from Redis, else from the loader, at most once a key at a time in this process. A value
//! is kept for a while after its time, for when the loader can't be reached.
//! Invalidation leaves a tombstone for longer than a load may take, so that a load that began
//! before the change can't put the old value back.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Failure, Redis, key::Key};
use crate::{
    labels,
    platform::{
        error::{Error, Kind, Result},
        jitter,
        telemetry::metrics::{Counter, Registry},
        tenancy::TenantId,
    },
};

labels! {
    pub struct Outcome { outcome: &'static str = "_OTHER" }
}

/// No value is an empty string, so this can stand for "changed just now".
const TOMBSTONE: &str = "";
/// A tombstone outlives every load. The request is answered by its timeout, but its work may go on
/// to the database's own limits.
const SHORTEST_TOMBSTONE: Duration = Duration::from_secs(15);

/// How long after its time a value may stand in for a database that is away (stale-if-error).
const STALE_IF_ERROR: Duration = Duration::from_secs(600);
/// Writes unless the value was changed just now. What is there otherwise is as old as this or older: a tombstone
/// outlives every load.
const FILL: &str = r"
    if redis.call('GET', KEYS[1]) == '' then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
";

/// A value as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// The key it was written under: what turns up under another one is nobody's answer.
    key: String,
    /// Milliseconds since 1970.
    fresh_until: u64,
    value: T,
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

type Flight = OnceCell<Result<Arc<str>, Arc<Error>>>;

/// A cache of tenants' values of one kind.
#[derive(Clone)]
pub struct ReadThrough {
    redis: Option<Redis>,
    prefix: Arc<str>,
    kind: &'static str,
    ttl: Duration,
    tombstone: Duration,
    requests: Counter<Outcome>,
    flights: Arc<Mutex<HashMap<Key, Weak<Flight>>>>,
}

/// What all caches of an application share.
#[derive(Clone)]
pub struct Caches {
    redis: Option<Redis>,
    prefix: Arc<str>,
    tombstone: Duration,
    requests: Counter<Outcome>,
}

impl Caches {
    /// `request_timeout` says how long a load may take.
    pub fn new(redis: Option<Redis>, prefix: &str, request_timeout: Duration, registry: &Registry) -> Self {
        let requests: Counter<Outcome> =
            registry.counter("cache_requests_total", "Reads through the cache, by outcome.", 8);
        for outcome in ["hit", "miss", "stale", "error"] {
            requests.with(&Outcome { outcome });
        }
        Self { redis, prefix: prefix.into(), tombstone: SHORTEST_TOMBSTONE.max(request_timeout * 2), requests }
    }

    /// A cache for values of `kind`, kept for `ttl`.
    pub fn of(&self, kind: &'static str, ttl: Duration) -> ReadThrough {
        ReadThrough {
            redis: self.redis.clone(),
            prefix: Arc::clone(&self.prefix),
            kind,
            ttl,
            tombstone: self.tombstone,
            requests: self.requests.clone(),
            flights: Arc::default(),
        }
    }
}

impl ReadThrough {
    /// The cached value, or what `load` returns, which is then cached. `None` is not cached. When `load` can't
    /// reach what it loads from, the last value, up to ten minutes past its time.
    ///
    /// # Errors
    /// Only those of `load`.
    pub async fn get<T, F>(&self, tenant: TenantId, id: Uuid, load: impl FnOnce() -> F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<Option<T>>>,
    {
        let key = Key::of_tenant(&self.prefix, tenant, self.kind, id);
        let mut kept = self.cached::<T>(&key).await;
        if let Some(fresh) = kept.take_if(|kept| kept.fresh_until > now_millis()) {
            return Ok(Some(fresh.value));
        }
        let flight = self.join(&key);
        let loaded = flight.get_or_init(|| async {
            let value = load().await.map_err(Arc::new)?;
            let text = value.map(|value| serde_json::to_string(&value)).transpose();
            let text: Arc<str> = text.map_err(|error| Arc::new(Error::internal(error)))?.unwrap_or_default().into();
            self.fill(&key, &text).await;
            Ok(text)
        });
        let loaded = loaded.await.clone();
        self.leave(&key, &flight);
        match loaded {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(Error::internal),
            Err(error) => match kept.filter(|_| error.kind == Kind::Unavailable) {
                Some(kept) => {
                    self.requests.with(&Outcome { outcome: "stale" }).inc();
                    Ok(Some(kept.value))
                }
                None => Err(error.copy()),
            },
        }
    }

    /// Forgets the value: call it after the commit that changed it. When Redis does not answer, the
    /// old value is served until its `ttl` ends.
    pub async fn invalidate(&self, tenant: TenantId, id: Uuid) {
        let key = Key::of_tenant(&self.prefix, tenant, self.kind, id);
        // A read that starts after this one must not join a load that began before the change.
        self.flights.lock().remove(&key);
        let Some(redis) = &self.redis else { return };
        let mut command = redis::cmd("SET");
        command.arg(key.as_str()).arg(TOMBSTONE).arg("PX").arg(self.tombstone.as_millis().to_string());
        if let Err(error) = redis.insist::<()>("SET", &command).await {
            tracing::warn!(error = %error, kind = self.kind, "cache_invalidation_failed");
        }
    }

    async fn cached<T: DeserializeOwned>(&self, key: &Key) -> Option<Kept<T>> {
        let redis = self.redis.as_ref()?;
        let mut command = redis::cmd("GET");
        command.arg(key.as_str());
        let (outcome, value) = match redis.run::<Option<String>>("GET", &command).await {
            Err(failure) => {
                // Of another type: no fill could replace it.
                if matches!(&failure, Failure::Redis(error) if error.code() == Some("WRONGTYPE")) {
                    self.discard(redis, key).await;
                }
                ("error", None)
            }
            Ok(None) => ("miss", None),
            Ok(Some(text)) if text == TOMBSTONE => ("miss", None),
            Ok(Some(text)) => match serde_json::from_str::<Kept<T>>(&text) {
                Ok(kept) if kept.key == key.as_str() => {
                    (if kept.fresh_until > now_millis() { "hit" } else { "miss" }, Some(kept))
                }
                Ok(_) | Err(_) => {
                    self.discard(redis, key).await;
                    ("error", None)
                }
            },
        };
        self.requests.with(&Outcome { outcome }).inc();
        value
    }

    /// Removes what can't be read: corrupt, of another version, of another type or key.
    async fn discard(&self, redis: &Redis, key: &Key) {
        tracing::warn!(kind = self.kind, "cache_value_unreadable");
        let _removed: Result<u64, _> = redis.run("DEL", redis::cmd("DEL").arg(key.as_str())).await;
    }

    async fn fill(&self, key: &Key, text: &str) {
        let Some(redis) = self.redis.as_ref().filter(|_| !text.is_empty()) else { return };
        // Those that were loaded together don't end together.
        let ttl = jitter::between(self.ttl * 9 / 10..=self.ttl * 11 / 10);
        let fresh_until = now_millis() + u64::try_from(ttl.as_millis()).unwrap_or_default();
        let key_text = serde_json::Value::from(key.as_str());
        let kept = format!(r#"{{"key":{key_text},"fresh_until":{fresh_until},"value":{text}}}"#);
        let mut command = redis::cmd("EVAL");
        command.arg(FILL).arg(1).arg(key.as_str()).arg(kept).arg((ttl + STALE_IF_ERROR).as_millis().to_string());
        // A cache that can't be filled costs the next read a query; `run` has counted the failure.
        let _filled: Result<u8, _> = redis.run("EVAL", &command).await;
    }

    fn join(&self, key: &Key) -> Arc<Flight> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight::new());
        flights.insert(key.clone(), Arc::downgrade(&flight));
        flight
    }

    /// The first to finish ends the flight: later reads start a new one.
    fn leave(&self, key: &Key, flight: &Arc<Flight>) {
        let mut flights = self.flights.lock();
        if flights.get(key).is_some_and(|known| known.as_ptr() == Arc::as_ptr(flight)) {
            flights.remove(key);
        }
    }
}
