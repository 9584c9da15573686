//! The payment provider of development and tests, as a process of its own (`keel payment-sandbox`):
//! it joins traces, keeps its charges while the service restarts, and receives webhooks to look at.

mod http;

use std::{net::SocketAddr, path::PathBuf};

use tokio::task::JoinHandle;

use crate::{
    platform::{
        http::{HttpConfig, observe::Observe, overload::Gate, server},
        telemetry::{
            Telemetry,
            metrics::{Registry, tenants::TenantLabels},
        },
    },
    section,
};

section! {
    /// The payment sandbox; development only.
    pub struct SandboxConfig in "shop.sandbox" {
        /// Address of the sandbox; port 0 takes a free one.
        pub bind: SocketAddr,
        /// File that keeps the charges over a restart of the sandbox; empty for memory only.
        pub books: Option<String>,
    }
}

/// A serving sandbox.
pub struct Sandbox {
    pub address: SocketAddr,
    stop: server::Stop,
    serving: JoinHandle<usize>,
}

/// Starts the sandbox, observed like any service.
///
/// # Errors
/// A port that is taken or books that can't be read, in words.
pub async fn start(config: &SandboxConfig, public: &HttpConfig, telemetry: &Telemetry) -> Result<Sandbox, String> {
    let socket = server::listen(config.bind, "shop.sandbox.bind").await?;
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    let registry = Registry::default();
    let tenants = TenantLabels::new(&registry);
    let observe = Observe::new(telemetry, &registry, &tenants, public, &Gate::new(public, &registry));
    let router = http::router(config.books.as_ref().map(PathBuf::from))?.layer(observe);
    let limits = server::Limits { max_connections: 256, ..server::Limits::default() };
    let stop = server::Stop::default();
    #[expect(clippy::disallowed_methods, reason = "the accept loop; each request gets its own context")]
    let serving = tokio::spawn(server::run(socket, router, limits, stop.clone()));
    tracing::info!(listen_address = %address, "payment_sandbox_started");
    Ok(Sandbox { address, stop, serving })
}

impl Sandbox {
    /// Ends at once: nobody's money is at stake.
    pub async fn stop(self) {
        self.stop.drain.cancel();
        self.stop.kill.cancel();
        let _connections_cut = self.serving.await;
    }
}
