//! Quotas of tenants, counted in Redis for all instances together: GCRA in one script, on the server's clock,
//! so that no instance's clock matters.

use std::{sync::LazyLock, time::Duration};

use redis::{ErrorKind, Script, ServerErrorKind};

use super::{Failure, Redis, key::Key};
use crate::platform::tenancy::TenantId;

/// The key holds the time, in µs, at which the tenant's burst is whole again. Written out in full: Lua's own
/// form of a number this large loses the microseconds. Returns allowed (0, 1), remaining, µs to wait, µs until whole.
const GCRA: &str = r"
        local clock = redis.call('TIME')
        local now = clock[1] * 1000000 + clock[2]
        local each = 1000000 / tonumber(ARGV[1])
        local all = each * tonumber(ARGV[2])
        local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or now) or now, now)
        local used = whole + each - now
        if used > all + 0.5 then
            return {0, 0, math.ceil(used - all), math.ceil(whole - now)}
        end
        redis.call('SET', KEYS[1], string.format('%.0f', whole + each), 'PX', math.max(1, math.ceil(used / 1000)))
        return {1, math.floor((all - used) / each + 0.001), 0, math.ceil(used)}
";
static GCRA_HASH: LazyLock<String> = LazyLock::new(|| Script::new(GCRA).get_hash().to_owned());

/// What the script said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub allowed: bool,
    pub remaining: u32,
    /// Until a request is allowed again.
    pub wait: Duration,
    /// Until the burst is whole.
    pub reset: Duration,
}

/// Counts for all instances that share a Redis and a prefix. Cheap to clone.
#[derive(Clone)]
pub struct Quotas {
    redis: Redis,
    prefix: std::sync::Arc<str>,
}

impl Quotas {
    pub fn new(redis: &Redis, prefix: &str) -> Self {
        Self { redis: redis.clone(), prefix: prefix.into() }
    }

    /// Counts a request of a tenant that may make `per_second` in the long run and `burst` at once.
    ///
    /// # Errors
    /// When Redis gives no answer; nothing may have been counted then.
    pub async fn take(&self, tenant: TenantId, per_second: u32, burst: u32) -> Result<Taken, Failure> {
        let key = Key::of_quota(&self.prefix, tenant);
        let call = |name: &'static str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(1).arg(key.as_str()).arg(per_second).arg(burst);
            command
        };
        let known = self.redis.run("EVALSHA", &call("EVALSHA", &GCRA_HASH)).await;
        let (allowed, remaining, wait, reset): (u8, u32, u64, u64) = match known {
            // A server that was restarted, or never asked.
            Err(Failure::Redis(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.redis.run("EVAL", &call("EVAL", GCRA)).await?
            }
            other => other?,
        };
        let (wait, reset) = (Duration::from_micros(wait), Duration::from_micros(reset));
        Ok(Taken { allowed: allowed == 1, remaining, wait, reset })
    }
}
