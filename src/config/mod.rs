//! The root configuration: the sections their owners declare, read from all layers at once. What only
//! production refuses is in `production`.

mod production;

use std::collections::BTreeMap;

use crate::{
    platform::{
        admin::AdminConfig,
        cache::RedisConfig,
        config::{Declared, Environment, Faults, Reader, Section as _, Setting as _, Sources, source::Merged},
        db::DatabaseConfig,
        faults::FaultsConfig,
        http::{HttpConfig, rate_limit::RateLimitConfig},
        idempotency::IdempotencyConfig,
        jobs::JobsConfig,
        lifecycle::{LifecycleConfig, ReadinessConfig},
        outbound::OutboundConfig,
        telemetry::{ServiceConfig, logs::LogConfig, otlp, sentry::SentryConfig},
        tenancy::directory::AuthConfig,
    },
    shop,
};

/// The files of `config/`, in the binary: it runs without them beside it.
pub const FILES: &[(&str, &str)] = &[
    ("default", include_str!("../../config/default.toml")),
    ("development", include_str!("../../config/development.toml")),
    ("test", include_str!("../../config/test.toml")),
    ("staging", include_str!("../../config/staging.toml")),
    ("production", include_str!("../../config/production.toml")),
];

/// All sections, for the reference and for the check of unknown keys.
pub const DECLARED: &[Declared] = &[
    Declared::of::<ServiceConfig>(),
    Declared::of::<LogConfig>(),
    Declared::of::<SentryConfig>(),
    Declared::of::<HttpConfig>(),
    Declared::of::<AdminConfig>(),
    Declared::of::<ReadinessConfig>(),
    Declared::of::<LifecycleConfig>(),
    Declared::of::<DatabaseConfig>(),
    Declared::of::<RedisConfig>(),
    Declared::of::<AuthConfig>(),
    Declared::of::<IdempotencyConfig>(),
    Declared::of::<JobsConfig>(),
    Declared::of::<OutboundConfig>(),
    Declared::of::<RateLimitConfig>(),
    Declared::of::<FaultsConfig>(),
    Declared::of::<shop::Config>(),
    Declared::of::<shop::payments::PaymentsConfig>(),
    Declared::of::<shop::sandbox::SandboxConfig>(),
];

/// Everything the process can be told.
#[derive(Clone, Debug)]
pub struct Config {
    pub environment: Environment,
    pub service: ServiceConfig,
    pub log: LogConfig,
    pub sentry: SentryConfig,
    pub http: HttpConfig,
    pub admin: AdminConfig,
    pub readiness: ReadinessConfig,
    pub lifecycle: LifecycleConfig,
    pub database: DatabaseConfig,
    pub redis: RedisConfig,
    pub auth: AuthConfig,
    pub idempotency: IdempotencyConfig,
    pub jobs: JobsConfig,
    pub outbound: OutboundConfig,
    pub rate_limit: RateLimitConfig,
    pub faults: FaultsConfig,
    pub shop: shop::Settings,
}

/// A configuration as read, with what is wrong with it.
pub struct Loaded {
    pub config: Config,
    pub merged: Merged,
    pub faults: Faults,
    variables: BTreeMap<String, String>,
}

/// Reads all layers and every key; faults are collected, not thrown.
pub fn load(sources: &Sources) -> Loaded {
    let mut faults = Faults::default();
    let environment = sources.environment(&mut faults);
    let merged = sources.merge(environment, DECLARED, &mut faults);
    let mut reader = Reader::new(&merged, faults);
    let service = ServiceConfig::read(&mut reader);
    let config = Config {
        environment,
        service: ServiceConfig { name: otlp::Settings::service_name(&sources.variables).unwrap_or(service.name) },
        log: LogConfig::read(&mut reader),
        sentry: SentryConfig::read(&mut reader),
        http: HttpConfig::read(&mut reader),
        admin: AdminConfig::read(&mut reader),
        readiness: ReadinessConfig::read(&mut reader),
        lifecycle: LifecycleConfig::read(&mut reader),
        database: DatabaseConfig::read(&mut reader),
        redis: RedisConfig::read(&mut reader),
        auth: AuthConfig::read(&mut reader),
        idempotency: IdempotencyConfig::read(&mut reader),
        jobs: JobsConfig::read(&mut reader),
        outbound: OutboundConfig::read(&mut reader),
        rate_limit: RateLimitConfig::read(&mut reader),
        faults: FaultsConfig::read(&mut reader),
        shop: shop::Settings::read(&mut reader),
    };
    let faults = reader.faults;
    Loaded { config, merged, faults, variables: sources.variables.clone() }
}

impl Loaded {
    /// The configuration of a command that needs only a part of it.
    ///
    /// # Errors
    /// Everything that can't be read.
    pub fn readable(self) -> Result<Config, Faults> {
        if self.faults.is_empty() { Ok(self.config) } else { Err(self.faults) }
    }

    /// The configuration of `serve`: all keys, and what they mean together.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn servable(mut self) -> Result<Config, Faults> {
        let Config {
            environment, log, sentry, http, admin, readiness, database, redis, auth, outbound, faults, ..
        } = &self.config;
        log.check(&mut self.faults);
        sentry.check(&mut self.faults);
        if let Err(faults) = otlp::Settings::parse(&self.variables) {
            faults.into_iter().for_each(|fault| self.faults.add(fault));
        }
        http.check(*environment, &mut self.faults);
        redis.check(&mut self.faults);
        readiness.check(&mut self.faults);
        database.check(&mut self.faults);
        auth.check(*environment, &mut self.faults);
        outbound.check(*environment, &mut self.faults);
        faults.check(*environment, &mut self.faults);
        self.config.shop.check(*environment, http.request_timeout, &mut self.faults);
        if *environment == Environment::Production {
            production::check(&self.config, &self.variables, &mut self.faults);
        }
        if admin.enabled && http.bind == admin.bind && http.bind.port() != 0 {
            self.faults.add(format!("admin.bind: {} is also http.bind; the listeners need a port each", admin.bind));
        }
        if self.config.lifecycle.dead_after <= self.config.lifecycle.stalled_after {
            self.faults.add(format!(
                "lifecycle.dead_after: {} must be longer than lifecycle.stalled_after, {}",
                self.config.lifecycle.dead_after.show(),
                self.config.lifecycle.stalled_after.show()
            ));
        }
        // Deadlines nest: a request that waited in vain for a connection must still be able to say so.
        if database.acquire_timeout >= http.request_timeout {
            self.faults.add(format!(
                "database.acquire_timeout: {} must be shorter than http.request_timeout, {}",
                database.acquire_timeout.show(),
                http.request_timeout.show()
            ));
        }
        self.readable()
    }
}

impl Config {
    /// What is allowed and probably not meant; said once, at the start.
    pub fn warnings(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.environment == Environment::Production && self.service.name == env!("CARGO_PKG_NAME") {
            warnings.push("service.name: still the template's; set OTEL_SERVICE_NAME".to_owned());
        }
        if self.environment == Environment::Production && self.http.trusted_proxies.is_empty() {
            warnings.push(
                "http.trusted_proxies: none; behind a proxy all clients share one address and its limits".to_owned(),
            );
        }
        let asked = variables.get("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "otlp");
        if asked && otlp::Settings::parse(variables).is_ok_and(|settings| settings.traces.destination.is_none()) {
            warnings
                .push("OTEL_TRACES_EXPORTER=otlp: no OTEL_EXPORTER_OTLP_ENDPOINT, so nothing is exported".to_owned());
        }
        warnings
    }

    /// The values that must be hidden wherever they turn up, passwords inside URLs included.
    pub fn secrets(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let urls = [&self.database.url, &self.database.system_url, &self.database.migration_url, &self.redis.url];
        let passwords = urls.into_iter().flatten().filter_map(|url| {
            let (credentials, _) = url.expose().split_once("://")?.1.rsplit_once('@')?;
            let password = credentials.split_once(':')?.1;
            Some([password.to_owned(), decoded(password)])
        });
        let exporters = otlp::Settings::parse(variables).map(|settings| [settings.traces, settings.logs]);
        let exporters = exporters.into_iter().flatten().filter_map(|signal| signal.destination);
        let headers = exporters.flat_map(|to| to.headers.into_iter().map(|(_, value)| value));
        let dsn_key = self.sentry.dsn.as_ref().and_then(|dsn| {
            let (credentials, _) = dsn.expose().split_once("://")?.1.split_once('@')?;
            Some(credentials.to_owned())
        });
        let plain = [&self.auth.pepper, &self.auth.previous_pepper, &self.admin.token, &self.sentry.dsn]
            .into_iter()
            .flatten()
            .map(|secret| secret.expose().to_owned());
        passwords.flatten().chain(plain).chain(headers).chain(dsn_key).collect()
    }
}
