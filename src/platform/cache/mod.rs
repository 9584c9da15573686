//! Redis: the connection and every command through it, observed and bounded. What is kept in it is
//! a copy: Redis gone costs time, never an answer. The socket and its supervisor are in `connection`, keys
//! are made in `key`, reads go through `read_through`, `quota` counts for all instances.

mod connection;
pub mod key;
pub mod quota;
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
use redis::{Cmd, FromRedisValue};

use self::connection::Connection;
use crate::{
    platform::{
        breaker::Breaker,
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
        /// Lets production reach another host without TLS: where the network encrypts by itself.
        pub allow_plaintext: bool,
        /// Longest time one command may take; after it the request goes on without Redis.
        pub operation_timeout: Duration => Duration::from_millis(1)..=Duration::from_secs(5),
    }
}

impl RedisConfig {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(Err(fault)) = self.url.as_ref().map(connection::client) {
            faults.add(fault);
        }
    }
}

/// The connection. Cheap to clone; multiplexed, heals by itself.
#[derive(Clone)]
pub struct Redis {
    connection: Arc<Connection>,
    operations: Histogram<Operation>,
    telemetry: Telemetry,
    timeout: Duration,
    address: StringValue,
    port: i64,
}

/// A command that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not asked: it failed too often just now, or was silent to this request.
    #[error("left alone, because it failed just now")]
    Left,
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
}

impl Failure {
    fn name(&self) -> &'static str {
        match self {
            Self::Left => "breaker_open",
            Self::Timeout => "timeout",
            Self::Redis(error) if error.is_timeout() => "timeout",
            Self::Redis(error) => match error.kind() {
                redis::ErrorKind::Io => "io",
                redis::ErrorKind::Server(_) => "server",
                _ => "other",
            },
        }
    }

    /// Whether the server said nothing at all.
    fn is_silence(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Redis(error) => error.is_timeout(),
            Self::Left => false,
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
        breaker: Breaker,
    ) -> Result<Option<Self>, String> {
        let Some(url) = &config.url else { return Ok(None) };
        let client = connection::client(url)?;
        let (address, port) = match client.get_connection_info().addr() {
            redis::ConnectionAddr::Tcp(host, port) | redis::ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => (String::new(), 0),
        };
        Ok(Some(Self {
            connection: Arc::new(Connection::build(url, config.operation_timeout, breaker)?),
            operations,
            telemetry: telemetry.clone(),
            timeout: config.operation_timeout,
            address: Arc::<str>::from(address).into(),
            port: i64::from(port),
        }))
    }

    /// Connects anew with this URL: a rotated password.
    ///
    /// # Errors
    /// A URL that can't be read; nothing is changed then.
    pub fn set_url(&self, url: &Secret) -> Result<(), String> {
        self.connection.set_url(url)
    }

    /// Runs one command; `operation` is its name (`GET`), never a key. For this module's own use: keys
    /// come from `key`, which wants a tenant.
    ///
    /// # Errors
    /// No answer in time, the server's error, or `Left` without asking.
    async fn run<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T, Failure> {
        // A request waits for silence once, not once a command.
        if context::with_current(|request| request.cost.is_redis_silent()).unwrap_or_default() {
            return Err(Failure::Left);
        }
        self.insist(operation, command).await
    }

    /// The same for what is worth another wait.
    async fn insist<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T, Failure> {
        if self.connection.is_open() {
            return Err(Failure::Left);
        }
        self.ask(operation, command).await
    }

    async fn ask<T: FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T, Failure> {
        let context = self.span(operation);
        let started = Instant::now();
        let mut connection = self.connection.get();
        let left = context::time_left();
        let limit = left.map_or(self.timeout, |left| left.min(self.timeout));
        let result = match tokio::time::timeout(limit, command.query_async(&mut connection)).await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => Err(Failure::Timeout),
        };
        // What we did not wait for long enough says nothing of the server.
        let hurried = limit < self.timeout && matches!(result, Err(Failure::Timeout));
        if !hurried {
            self.connection.record(result.as_ref().err());
        }
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
        context::with_current(|request| {
            request.cost.add_redis(took);
            if !hurried && result.as_ref().is_err_and(Failure::is_silence) {
                request.cost.set_redis_silent();
            }
        });
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

    /// Whether the server answers; asks it even while it is left alone, and so ends that.
    ///
    /// # Errors
    /// No answer in time, or the server's error.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.ask::<String>("PING", &redis::cmd("PING")).await.map(|_| ())
    }
}
