//! What the example adds to the harness: its payment provider, in this process or in one of its own. Gone with the
//! example.

use std::collections::BTreeMap;

use keel::{
    config::Config,
    platform::config::Sources,
    shop::sandbox::{self, Sandbox},
};
use serde_json::Value;

use super::{TestApp, client::Client, process::Process, sinks::SHARED};

const URL: &str = "APP__SHOP__PAYMENTS__URL";
const TIMEOUT: &str = "APP__SHOP__PAYMENTS__TIMEOUT";

/// The payment provider of one application.
pub struct Provider {
    books: Client,
    sandbox: Sandbox,
}

/// Starts it and tells the service where it is, unless the test brings its own.
pub async fn start(variables: &mut BTreeMap<String, String>) -> Option<Provider> {
    // The call fits into the request, also where a test shortens that.
    if let Some(shorter) = variables.get("APP__HTTP__BODY_TIMEOUT").filter(|_| is_short(variables)).cloned() {
        variables.entry(TIMEOUT.to_owned()).or_insert(shorter);
    }
    if variables.contains_key(URL) {
        return None;
    }
    let sources = Sources { directory: None, variables: variables.clone(), built_in: keel::config::FILES };
    let config: Config = keel::config::load(&sources).readable().unwrap();
    let sandbox = sandbox::start(&config.shop.sandbox, &config.http, &SHARED.telemetry).await.unwrap();
    let url = format!("http://{}", sandbox.address);
    variables.insert(URL.to_owned(), url.clone());
    Some(Provider { books: Client::new(url), sandbox })
}

/// Whether a request has less than what the provider is given as a rule.
fn is_short(variables: &BTreeMap<String, String>) -> bool {
    variables.get("APP__HTTP__REQUEST_TIMEOUT").is_some_and(|timeout| timeout.ends_with("ms"))
}

pub async fn stop(provider: Option<Provider>) {
    if let Some(provider) = provider {
        provider.sandbox.stop().await;
    }
}

/// Starts it as a process that instances of the built binary share.
pub async fn spawn(variables: &mut BTreeMap<String, String>) -> Process {
    // Of the service only: who waits for its first line wants one.
    let own = variables.iter().filter(|(name, _)| *name != "RUST_LOG");
    let process = Process::spawn(&["payment-sandbox"], &own.map(|(n, v)| (n.clone(), v.clone())).collect());
    let line = process.line("payment_sandbox_started").await;
    variables.insert(URL.to_owned(), format!("http://{}", line["listen_address"].as_str().unwrap()));
    process
}

impl TestApp {
    /// The payment provider, to look into it.
    pub fn books(&self) -> &Client {
        &self.shop.as_ref().expect("a provider that the test did not bring").books
    }

    /// What the payment provider has in its books.
    pub async fn charges(&self) -> Vec<Value> {
        self.books().get("/charges", "").await.ok(200)["data"].as_array().unwrap().clone()
    }
}
