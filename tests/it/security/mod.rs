//! The OWASP API Security Top 10 (2023), one file an item, and what of ASVS 5.0 shows from outside.
//! Where the rest of the suite shows a thing already, the file says where, and adds what is missing.
//! What is common to them: `document` (the routes as /openapi.json has them), `hostile` (servers that
//! misbehave), and requests as raw bytes, here.

mod authentication;
pub mod document;
mod events;
mod fail_closed;
mod fields;
mod functions;
pub mod hostile;
mod inventory;
pub mod log_lines;
mod misconfiguration;
pub mod objects;
mod pending;
mod properties;
mod resources;
mod transport;
pub mod upstream;
mod webhook_urls;
mod webhooks;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{TestApp, client::Client};

/// As usual, but a busy machine's wait for a connection is no finding.
pub async fn start() -> TestApp {
    TestApp::with(&[("APP__DATABASE__ACQUIRE_TIMEOUT", "4s")]).await
}

/// The same with the tests' own resource.
pub async fn start_with_things() -> TestApp {
    TestApp::with_things(&[("APP__DATABASE__ACQUIRE_TIMEOUT", "4s")]).await
}

/// A number nobody else has in this process.
pub fn fresh() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// What a raw exchange came to.
struct Raw {
    text: String,
    /// Bytes that could be written.
    sent: usize,
    /// Whether the service ended the connection.
    closed: bool,
}

impl Raw {
    /// The status of the first answer, 0 for none.
    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// How many answers came.
    fn answers(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count()
    }
}

/// Sends these bytes as they are; what comes back in five seconds.
async fn raw(client: &Client, bytes: impl AsRef<[u8]>) -> Raw {
    let mut once = Some(bytes.as_ref().to_vec());
    raw_stream(client, Duration::from_secs(5), || once.take()).await
}

/// Writes chunk after chunk while it reads, until the service closes or `limit` is over.
async fn raw_stream(client: &Client, limit: Duration, mut chunk: impl FnMut() -> Option<Vec<u8>>) -> Raw {
    let address = client.base.trim_start_matches("http://");
    let (mut read, mut write) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
    let (mut answer, mut sent) = (Vec::new(), 0);
    let writing = async {
        while let Some(bytes) = chunk() {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
            sent += bytes.len();
            // A writer that never waits would keep the reader from its turn.
            tokio::task::yield_now().await;
        }
        // Half a connection is not what is tested: it stays open until the service has had its say.
        std::future::pending::<()>().await;
    };
    let closed = tokio::select! {
        () = writing => false,
        ended = tokio::time::timeout(limit, read.read_to_end(&mut answer)) => ended.is_ok(),
    };
    Raw { text: String::from_utf8_lossy(&answer).into_owned(), sent, closed }
}
