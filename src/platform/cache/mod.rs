//! Redis: the connection and every command through it, observed and bounded. What is kept in it is
//! a copy: Redis gone costs time, never an answer. Keys are made in `key`, reads in `read_through`.

pub mod key;
pub mod read_through;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue, StringValue,
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_semantic_conventions::attribute as semconv;
use redis::{
    Cmd, FromRedisValue, IntoConnectionInfo as _,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::{
    platform::{
        config::{Faults, Secret},
        db::metrics::Operation,
        telemetry::{Telemetry, context, metrics::Histogram, off},
    },
    section,
};

section! {
    /// Redis. Without a URL there is no cache and limits are local.
    pub struct RedisConfig in "redis" {
        /// URL of the server; empty for none.
        pub url: Option<Secret>,
        /// First part of every key: several services can share a server.
        pub key_prefix: String,
        /// Longest time one command may take; after it the request goes on without Redis.
        pub operation_timeout: Duration => Duration::from_millis(1)..=Duration::from_secs(5),
    }
}

impl RedisConfig {
    pub fn check(&self, faults: &mut Faults) {
        if self.url.as_ref().is_some_and(|url| url.expose().into_connection_info().is_err()) {
            faults.add("redis.url: not a Redis URL (redis://user:password@host:port/0)");
        }
    }
}

/// The connection. Cheap to clone; multiplexed, reconnects by itself.
#[derive(Clone)]
pub struct Redis {
    manager: ConnectionManager,
    operations: Histogram<Operation>,
    telemetry: Telemetry,
    timeout: Duration,
    address: StringValue,
    port: i64,
}

/// A command that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
}

impl Failure {
    fn name(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Redis(error) => match error.kind() {
                redis::ErrorKind::Io => "io",
                redis::ErrorKind::Server(_) => "server",
                _ => "other",
            },
        }
    }
}

impl Redis {
    /// Builds the client; connects when first used, so that a start never waits for Redis.
    /// Call it on the runtime that will use it.
    ///
    /// # Errors
    /// A URL that can't be read; the URL itself is not in the text.
    pub fn build(
        config: &RedisConfig,
        telemetry: &Telemetry,
        operations: Histogram<Operation>,
    ) -> Result<Option<Self>, String> {
        let Some(url) = &config.url else { return Ok(None) };
        let unusable = |_| "redis.url: not a Redis URL (redis://user:password@host:port/0)".to_owned();
        let info = url.expose().into_connection_info().map_err(unusable)?;
        // 1.8 leaves Nagle's algorithm on.
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let (address, port) = match info.addr() {
            redis::ConnectionAddr::Tcp(host, port) | redis::ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => (String::new(), 0),
        };
        let client = redis::Client::open(info.set_tcp_settings(tcp)).map_err(unusable)?;
        // With its defaults every command waits out six retries, 9.4 s, while Redis is down (trap 6).
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(100))
            .set_connection_timeout(Some(Duration::from_millis(250)))
            .set_response_timeout(Some(Duration::from_millis(250)));
        Ok(Some(Self {
            manager: ConnectionManager::new_lazy_with_config(client, settings).map_err(unusable)?,
            operations,
            telemetry: telemetry.clone(),
            timeout: config.operation_timeout,
            address: Arc::<str>::from(address).into(),
            port: i64::from(port),
        }))
    }

    /// Runs one command; `operation` is its name (`GET`), never a key. For this module's own use: keys
    /// come from `key`, which wants a tenant.
    ///
    /// # Errors
    /// No answer in time, or the server's error.
    async fn run<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T, Failure> {
        let context = self.span(operation);
        let started = Instant::now();
        let mut connection = self.manager.clone();
        let result = match tokio::time::timeout(self.timeout, command.query_async(&mut connection)).await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => Err(Failure::Timeout),
        };
        let took = started.elapsed();
        let error_type = result.as_ref().err().map_or("", Failure::name);
        let span = context.span();
        if !error_type.is_empty() {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
            span.set_status(Status::error(error_type));
        }
        span.end();
        let labels = Operation { db_system_name: "redis", db_query_summary: operation, error_type };
        if !off::metrics() {
            self.operations.with(&labels).observe_in(took.as_secs_f64(), span.span_context());
        }
        context::with_current(|request| request.cost.add_redis(took));
        result
    }

    /// The client span of a command; none outside a trace, where it would only be noise.
    fn span(&self, operation: &'static str) -> Context {
        let parent = Context::current();
        // Unsampled, a child would be too: nothing to build.
        if !parent.span().is_recording() {
            return parent;
        }
        let tracer = &self.telemetry.tracer;
        let builder = tracer.span_builder(operation).with_kind(SpanKind::Client).with_attributes([
            KeyValue::new(semconv::DB_SYSTEM_NAME, "redis"),
            KeyValue::new(semconv::DB_OPERATION_NAME, operation),
            KeyValue::new(semconv::SERVER_ADDRESS, self.address.clone()),
            KeyValue::new(semconv::SERVER_PORT, self.port),
        ]);
        parent.with_span(builder.start_with_context(tracer, &parent))
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// No answer in time, or the server's error.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.run::<String>("PING", &redis::cmd("PING")).await.map(|_| ())
    }
}
