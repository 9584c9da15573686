//! Debian's exporters of Postgres and Redis.

use std::{net::SocketAddr, path::Path};

use super::daemon::{Daemon, address, program};
use crate::support::client::Client;

/// Both, running.
pub struct Exporters {
    pub postgres: SocketAddr,
    pub redis: SocketAddr,
    _processes: [Daemon; 2],
}

impl Exporters {
    /// `postgres_url` is of a role that may read the statistics of all, `redis_url` the service's.
    pub async fn start(directory: &Path, postgres_url: &str, redis_url: &str) -> Self {
        let (postgres, redis) = (address(), address());
        let mut command = program("POSTGRES_EXPORTER");
        // The suite's server has no certificate, and the driver wants one unless told.
        let separator = if postgres_url.contains('?') { '&' } else { '?' };
        command
            .env("DATA_SOURCE_NAME", format!("{postgres_url}{separator}sslmode=disable"))
            .arg(format!("--web.listen-address={postgres}"))
            .arg("--log.level=warn");
        let mut of_postgres = Daemon::start("postgres-exporter", command, directory);
        let mut command = program("REDIS_EXPORTER");
        command.env("REDIS_ADDR", redis_url).arg(format!("-web.listen-address={redis}"));
        let mut of_redis = Daemon::start("redis-exporter", command, directory);
        of_postgres.answers(&Client::new(format!("http://{postgres}")), "/metrics").await;
        of_redis.answers(&Client::new(format!("http://{redis}")), "/metrics").await;
        Self { postgres, redis, _processes: [of_postgres, of_redis] }
    }
}
