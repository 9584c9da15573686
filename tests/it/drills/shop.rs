//! What the example adds to a drill's stack: the payment provider's sandbox, behind a proxy. Gone with the example.

use std::{collections::BTreeMap, path::Path, process::Command};

use super::{file::Load, part::Part};
use crate::support::{harness::proxy::Proxy, stack::daemon::address};

/// Adds it, and tells the service where it is.
pub async fn sandbox(
    add: &mut impl FnMut(&'static str, Part, String),
    proxies: &mut BTreeMap<&'static str, Vec<Proxy>>,
    variables: &mut BTreeMap<String, String>,
    directory: &Path,
) {
    let sandbox = address();
    variables.insert("APP__SHOP__SANDBOX__BIND".to_owned(), sandbox.to_string());
    let own = variables.clone();
    let command = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
        command.arg("payment-sandbox").env_clear().envs(&own);
        command
    };
    add("sandbox", Part::new("sandbox", directory, command), format!("http://{sandbox}/charges"));
    let proxy = Proxy::start(sandbox).await;
    variables.insert("APP__SHOP__PAYMENTS__URL".to_owned(), format!("http://{}", proxy.address));
    // A payment that is looked into late would be none within a drill.
    variables.insert("APP__SHOP__PAYMENTS__SETTLE_AFTER".to_owned(), "2500ms".to_owned());
    proxies.insert("payments", vec![proxy]);
}

/// What is recorded of it, and its value in good times.
pub fn past(load: Load) -> Vec<(&'static str, f64)> {
    vec![("job_environment:shop_orders_paid:rate5m", if load == Load::Business { 5.0 } else { 0.0 })]
}
