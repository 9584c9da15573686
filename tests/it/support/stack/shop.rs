//! What the example adds to the stack: the payment provider's sandbox. Gone with the example.

use std::collections::BTreeMap;

use crate::support::{client::Client, process::Process};

/// The running sandbox.
pub struct Sandbox {
    pub client: Client,
    _process: Process,
}

impl Sandbox {
    /// Starts it, and tells the service where it is.
    pub async fn start(variables: &mut BTreeMap<String, String>) -> Self {
        variables.insert("APP__SHOP__SANDBOX__BIND".to_owned(), "127.0.0.1:0".to_owned());
        let process = Process::spawn(&["payment-sandbox"], variables);
        let line = process.line("payment_sandbox_started").await;
        let url = format!("http://{}", line["listen_address"].as_str().unwrap());
        variables.insert("APP__SHOP__PAYMENTS__URL".to_owned(), url.clone());
        // A payment that is looked into late would be none within a drill.
        variables.insert("APP__SHOP__PAYMENTS__SETTLE_AFTER".to_owned(), "2500ms".to_owned());
        Self { client: Client::new(url), _process: process }
    }

    /// Where a tenant's confirmations may go.
    pub fn webhooks(&self) -> String {
        format!("{}/webhooks", self.client.base)
    }
}
