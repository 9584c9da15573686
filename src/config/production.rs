//! What production refuses, in one place: set-ups that work and should not. Each refusal names its key and the
//! way out; where a set-up can be right after all, a key says so in so many words.

use std::{collections::BTreeMap, net::IpAddr};

use sqlx::postgres::PgSslMode;

use super::Config;
use crate::platform::{
    config::{Faults, Secret},
    db,
    telemetry::{logs::Format, otlp},
};

/// Shortest secret, in bytes.
const SHORTEST: usize = 32;
/// Different characters that a random secret of 32 has at least.
const LEAST_VARIETY: usize = 10;

/// Adds what is wrong with `config` in production.
pub fn check(config: &Config, variables: &BTreeMap<String, String>, faults: &mut Faults) {
    database(config, faults);
    secrets(config, faults);
    if config.redis.url.as_ref().is_some_and(is_plain_redis) && !config.redis.allow_plaintext {
        faults.add("redis.url: unencrypted to another host; use rediss://, or allow it with redis.allow_plaintext");
    }
    if matches!(config.log.format, Format::Pretty) {
        faults.add("log.format: pretty is for a person at a terminal; what collects logs reads json");
    }
    let directives = config.log.filter.split(',').map(str::trim);
    if directives.into_iter().any(|directive| directive.eq_ignore_ascii_case("trace")) {
        faults.add("log.filter: trace of everything prints more than anybody should see; name the targets");
    }
    if config.http.proxies().are_everybody() {
        faults.add("http.trusted_proxies: /0 is everybody; name the networks of the proxies in front");
    }
    if config.rate_limit.per_second == 0 && !config.rate_limit.allow_unlimited {
        faults.add(
            "rate_limit.per_second: without a limit one tenant can take everything; set a high one, or allow it with \
             rate_limit.allow_unlimited",
        );
    }
    if config.sentry.dsn.as_ref().is_some_and(|dsn| dsn.expose().starts_with("http://") && !is_local(dsn.expose())) {
        faults.add("sentry.dsn: sends errors unencrypted to another host; use https");
    }
    if let Ok(settings) = otlp::Settings::parse(variables) {
        for to in [settings.traces, settings.logs].into_iter().filter_map(|signal| signal.destination) {
            let plain = to.url.starts_with("http://") && !is_local(&to.url);
            if plain && !to.headers.is_empty() {
                faults.add("OTEL_EXPORTER_OTLP_HEADERS: a key sent unencrypted to another host; use https");
                break;
            }
        }
    }
}

fn database(config: &Config, faults: &mut Faults) {
    let database = &config.database;
    let options = |url: &Option<Secret>| url.as_ref().and_then(|url| db::options(url).ok());
    let (runtime, system) = (options(&database.url), options(&database.system_url));
    for (key, options) in [("url", &runtime), ("system_url", &system)] {
        let Some(options) = options else { continue };
        let encrypted =
            matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        let local = options.get_socket().is_some() || is_local_host(options.get_host());
        if !encrypted && !local && !database.allow_plaintext {
            faults.add(format!(
                "database.{key}: may be unencrypted to another host; add ?sslmode=verify-full, or allow it with \
                 database.allow_plaintext"
            ));
        }
    }
    if runtime.zip(system).is_some_and(|(runtime, system)| runtime.get_username() == system.get_username()) {
        faults.add("database.system_url: the role of database.url; the runtime role must not see all tenants' keys");
    }
    if database.migration_url.is_some() {
        faults.add("database.migration_url: the owner's password is for `migrate`; the service must not hold it");
    }
}

fn secrets(config: &Config, faults: &mut Faults) {
    let dull = |secret: &Secret| {
        let mut letters: Vec<char> = secret.expose().chars().collect();
        letters.sort_unstable();
        letters.dedup();
        // What is too short has been told already.
        secret.expose().len() >= SHORTEST && (letters.len() < LEAST_VARIETY || secret.expose().starts_with("test-only"))
    };
    for (key, pepper) in [("pepper", &config.auth.pepper), ("previous_pepper", &config.auth.previous_pepper)] {
        if key == "previous_pepper" && pepper.as_ref().is_some_and(|pepper| pepper.expose().len() < SHORTEST) {
            faults.add("auth.previous_pepper: must be at least 32 characters long (value not shown)");
        }
        if pepper.as_ref().is_some_and(dull) {
            faults.add(format!("auth.{key}: can be guessed; use `openssl rand -base64 48` (value not shown)"));
        }
    }
    let Some(token) = &config.admin.token else { return };
    if token.expose().len() < SHORTEST {
        faults.add("admin.token: must be at least 32 characters long (value not shown)");
    }
    if config.auth.pepper.as_ref().is_some_and(|pepper| pepper.expose() == token.expose()) {
        faults.add("admin.token: is the pepper; who may change log levels may not forge API keys");
    }
}

fn is_plain_redis(url: &Secret) -> bool {
    url.expose().starts_with("redis://") && !is_local(url.expose())
}

fn is_local(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(is_local_host))
}

fn is_local_host(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.starts_with('/') || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
