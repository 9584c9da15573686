//! The connection to Redis and its supervisor. The client's own reconnects when the socket breaks, and never
//! when it falls silent (traps 5, 6): here silence in a row gets a new connection, and a server that does not
//! answer is left alone. Then only the health check asks, so that no request pays for it.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use redis::{
    Client, ErrorKind, IntoConnectionInfo as _, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::Failure;
use crate::platform::{breaker::Breaker, config::Secret};

/// Silence in a row before the connection is replaced.
const SILENT_AFTER: u32 = 3;
/// Between two replacements: a new connection must have had its chance.
const REPLACE_EVERY: Duration = Duration::from_millis(500);
/// A peer that acknowledges nothing for so long is gone; the kernel then ends the socket.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Shortest time to connect, whatever one command may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// One multiplexed connection, replaced when it is no good.
pub struct Connection {
    client: RwLock<Client>,
    manager: RwLock<ConnectionManager>,
    timeout: Duration,
    silent: AtomicU32,
    replaced: Mutex<Instant>,
    breaker: Breaker,
}

/// # Errors
/// What is wrong with the URL, never the URL: it holds a password.
pub fn client(url: &Secret) -> Result<Client, String> {
    let unusable = |_| "redis.url: not a Redis URL (redis://user:password@host:port/0)".to_owned();
    let info = url.expose().into_connection_info().map_err(unusable)?;
    // 1.8 leaves Nagle's algorithm on, and keepalive off.
    let tcp = redis::io::tcp::TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
        .set_user_timeout(USER_TIMEOUT);
    Client::open(info.set_tcp_settings(tcp)).map_err(unusable)
}

fn connect(client: Client, timeout: Duration) -> Result<ConnectionManager, String> {
    // With its defaults every command waits out six retries, 9.4 s, while Redis is down.
    let settings = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(timeout.max(CONNECT_TIMEOUT)))
        .set_response_timeout(Some(timeout.max(CONNECT_TIMEOUT)));
    ConnectionManager::new_lazy_with_config(client, settings).map_err(|error| error.to_string())
}

impl Connection {
    /// Connects when first used. Call it on the runtime that will use it.
    ///
    /// # Errors
    /// A URL that can't be read.
    pub fn build(url: &Secret, timeout: Duration, breaker: Breaker) -> Result<Self, String> {
        let client = client(url)?;
        Ok(Self {
            manager: RwLock::new(connect(client.clone(), timeout)?),
            client: RwLock::new(client),
            timeout,
            silent: AtomicU32::new(0),
            replaced: Mutex::new(Instant::now()),
            breaker,
        })
    }

    /// Whether Redis is left alone now.
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    pub fn get(&self) -> ConnectionManager {
        self.manager.read().clone()
    }

    /// Connects anew with this URL: a rotated password.
    ///
    /// # Errors
    /// A URL that can't be read; nothing is changed then.
    pub fn set_url(&self, url: &Secret) -> Result<(), String> {
        *self.client.write() = client(url)?;
        self.replace();
        Ok(())
    }

    /// What became of a command. An error that is an answer says that the server lives.
    pub fn record(&self, failure: Option<&Failure>) {
        match failure {
            None => {
                self.silent.store(0, Relaxed);
                self.breaker.record(true);
            }
            Some(Failure::Left) => {}
            Some(Failure::Redis(error)) if !error.is_timeout() => match error.kind() {
                // Its address may lead to another server by now: the new primary.
                ErrorKind::Server(ServerErrorKind::ReadOnly) => self.replace_if_due(),
                // The client keeps a login that failed for ever: only another connection can try again.
                ErrorKind::AuthenticationFailed | ErrorKind::Client | ErrorKind::InvalidClientConfig => {
                    self.replace_if_due();
                    self.breaker.record(false);
                }
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown,
                )
                | ErrorKind::Io => self.breaker.record(false),
                _ => {}
            },
            // Silence.
            Some(Failure::Redis(_) | Failure::Timeout) => {
                if self.silent.fetch_add(1, Relaxed) + 1 >= SILENT_AFTER {
                    self.replace_if_due();
                }
                self.breaker.record(false);
            }
        }
    }

    fn replace_if_due(&self) {
        let mut replaced = self.replaced.lock();
        if replaced.elapsed() >= REPLACE_EVERY {
            *replaced = Instant::now();
            drop(replaced);
            tracing::warn!("redis_connection_replaced");
            self.replace();
        }
    }

    fn replace(&self) {
        self.silent.store(0, Relaxed);
        let client = self.client.read().clone();
        if let Ok(manager) = connect(client, self.timeout) {
            *self.manager.write() = manager.clone();
            // It connects only while somebody waits for it, and nobody waits as long as a login may take.
            crate::platform::lifecycle::spawn(async move {
                let mut manager = manager;
                let _up_or_not: Result<String, _> = redis::cmd("PING").query_async(&mut manager).await;
            });
        }
    }
}
