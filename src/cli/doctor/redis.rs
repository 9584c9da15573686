//! Redis: whether it answers soon enough, takes writes, and has the time.

use std::io;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    ServerErrorKind, aio::MultiplexedConnection,
};

use super::{Bounds, Clock, Finding, endpoints, now, or_ok};
use crate::platform::cache::RedisConfig;

const REDIS: &str = "redis";
const LATENCY: &str = "redis.latency";
const WRITES: &str = "redis.writes";
const CLOCK: &str = "redis.clock";

/// Older ones are no longer mended.
const OLDEST: (u32, u32) = (6, 2);

pub async fn check(config: &RedisConfig, bounds: &Bounds) -> Vec<Finding> {
    let Some(url) = &config.url else { return vec![Finding::skip(REDIS, "no REDIS_URL: no cache")] };
    let opened = url.expose().into_connection_info().and_then(|info| {
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            other => other.to_string(),
        };
        Ok((place, Client::open(info)?))
    });
    // The error may quote the URL.
    let Ok((place, client)) = opened else {
        return vec![Finding::fail(REDIS, "not a Redis URL", "correct REDIS_URL: redis://user:password@host:port/0")];
    };
    // Bounded here, and not by its own half second.
    let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let work = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
        questions(&mut connection).await
    };
    let answers = match bounds.within(work).await {
        Some(Ok(answers)) => answers,
        other => {
            let (detail, mend) = match other {
                Some(Err(error)) => refusal(&error, bounds),
                _ => (
                    format!("no answer within {}", bounds.seconds()),
                    "look for a firewall that drops packets, a blocked server (SLOWLOG GET), another service's port in REDIS_URL".to_owned(),
                ),
            };
            let skipped = [LATENCY, WRITES, CLOCK].map(|check| Finding::skip(check, "redis has no connection"));
            return [vec![Finding::fail(REDIS, format!("{place}: {detail}"), mend)], skipped.to_vec()].concat();
        }
    };
    let mut found = vec![answers.server(&place), answers.latency(config)];
    found.extend(answers.writes());
    found.push(answers.clock.finding(CLOCK, "the clock of Redis"));
    found
}

struct Answers {
    clock: Clock,
    /// Seconds of a PING over a connection in use.
    ping: f64,
    /// `None`: INFO is not permitted.
    info: Option<String>,
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &str) -> Result<T, RedisError> {
    redis::cmd(command).query_async(connection).await
}

async fn questions(connection: &mut MultiplexedConnection) -> Result<Answers, RedisError> {
    let _warm: String = ask(connection, "PING").await?;
    let asked = now();
    let _pong: String = ask(connection, "PING").await?;
    let ping = now() - asked;
    let asked = now();
    let (seconds, micros): (f64, f64) = ask(connection, "TIME").await?;
    let clock = Clock::read(asked, seconds + micros / 1e6);
    Ok(Answers { clock, ping, info: ask(connection, "INFO").await.ok() })
}

impl Answers {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.info.as_ref()?.lines();
        lines.filter_map(|line| line.split_once(':')).find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    }

    fn server(&self, place: &str) -> Finding {
        let Some(version) = self.field("redis_version") else {
            return Finding::ok(REDIS, format!("{place}, {:.1} ms", self.ping * 1e3));
        };
        let detail = format!("{place}, Redis {version}, {:.1} ms", self.ping * 1e3);
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if number < OLDEST {
            let mend = format!("update to {}.{} or later: older releases are no longer mended", OLDEST.0, OLDEST.1);
            return Finding::warn(REDIS, detail, mend);
        }
        Finding::ok(REDIS, detail)
    }

    fn latency(&self, config: &RedisConfig) -> Finding {
        let (ping, limit) = (self.ping * 1e3, config.operation_timeout.as_millis());
        if self.ping > config.operation_timeout.as_secs_f64() {
            let what = format!("PING took {ping:.1} ms, redis.operation_timeout is {limit} ms: commands give up");
            return Finding::warn(
                LATENCY,
                what,
                "bring Redis nearer, look at SLOWLOG GET, or raise redis.operation_timeout",
            );
        }
        Finding::ok(LATENCY, format!("PING {ping:.1} ms, limit {limit} ms"))
    }

    /// From INFO: it has what CONFIG GET would say, and hosted servers allow it more often.
    fn writes(&self) -> Vec<Finding> {
        if self.info.is_none() {
            let why = "INFO is not permitted: role, version and maxmemory-policy are not known";
            return vec![Finding::skip(WRITES, why)];
        }
        let mut found = Vec::new();
        if self.field("role") == Some("slave") {
            let mend = "let REDIS_URL name the primary";
            found.push(Finding::fail(WRITES, "a replica, which takes no writes", mend));
        }
        let limit = self.field("maxmemory").and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
        let policy = self.field("maxmemory_policy").unwrap_or("unknown");
        if limit > 0 && policy == "noeviction" {
            let what =
                format!("maxmemory is {} MiB and the policy noeviction: when it is full, writes fail", limit >> 20);
            found.push(Finding::warn(WRITES, what, "config set maxmemory-policy allkeys-lru, and in its file"));
        }
        let memory = if limit == 0 { "no maxmemory".to_owned() } else { format!("maxmemory {} MiB", limit >> 20) };
        or_ok(found, WRITES, format!("takes writes, {memory}, {policy}"))
    }
}

/// What is wrong, and the way out.
fn refusal(error: &RedisError, bounds: &Bounds) -> (String, String) {
    if error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) {
        return ("it is loading its data".to_owned(), "wait; it answers when it is done".to_owned());
    }
    let text = error.to_string();
    if error.kind() == ErrorKind::AuthenticationFailed || text.contains("WRONGPASS") || text.contains("NOAUTH") {
        let mend = "correct user and password in REDIS_URL (a password may need percent-encoding)";
        return ("the password is wrong or missing".to_owned(), mend.to_owned());
    }
    if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
        let mend = "give the user of REDIS_URL +@read +@write +ping +time +info";
        return (format!("the user lacks a permission: {}", bounds.quote(text)), mend.to_owned());
    }
    let kind = match () {
        () if error.is_connection_refusal() => io::ErrorKind::ConnectionRefused,
        () if error.is_connection_dropped() => io::ErrorKind::ConnectionReset,
        () => io::ErrorKind::Other,
    };
    match endpoints::io(kind, &text) {
        ("", _) => (bounds.quote(text), "look at its log; is it Redis, and is REDIS_URL right?".to_owned()),
        (what, mend) => (what.to_owned(), mend.replace("{url}", "REDIS_URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answers, Clock};
    use crate::cli::doctor::Status;

    fn answers(info: Option<&str>) -> Answers {
        let clock = Clock { asked: 0.0, theirs: 0.0, round_trip: 0.0 };
        Answers { clock, ping: 0.001, info: info.map(|info| info.replace(' ', "\r\n")) }
    }

    #[test]
    fn what_info_says_is_judged() {
        let writes = |info| answers(info).writes().iter().map(|finding| finding.status).collect::<Vec<_>>();
        assert_eq!(writes(Some("role:master maxmemory:0 maxmemory_policy:noeviction")), [Status::Ok]);
        assert_eq!(writes(Some("role:master maxmemory:1048576 maxmemory_policy:allkeys-lru")), [Status::Ok]);
        assert_eq!(writes(Some("role:master maxmemory:1048576 maxmemory_policy:noeviction")), [Status::Warn]);
        assert_eq!(writes(Some("role:slave maxmemory:0 maxmemory_policy:noeviction")), [Status::Fail]);
        assert_eq!(writes(None), [Status::Skip]);
        let version = |info| answers(info).server("here").status;
        assert_eq!(version(Some("redis_version:6.0.16")), Status::Warn);
        assert_eq!(version(Some("redis_version:7.2.4")), Status::Ok);
        assert_eq!(version(None), Status::Ok);
    }
}
