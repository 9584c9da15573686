//! An instance of the service at addresses that stay: what scrapes it finds it again after a restart.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::Value;

use super::{SOON, daemon::address, within};
use crate::support::{
    client::Client,
    process::{Process, Service},
};

/// One instance; `APP__HTTP__BIND` and `APP__ADMIN__BIND` are its own.
pub struct Instance {
    pub client: Client,
    pub admin: Client,
    pub scraped: SocketAddr,
    variables: BTreeMap<String, String>,
    process: Service,
    /// Of its processes before this one.
    past: Vec<Value>,
}

impl Instance {
    pub async fn start(variables: &BTreeMap<String, String>) -> Self {
        let (public, scraped) = (address(), address());
        let mut variables = variables.clone();
        variables.insert("APP__HTTP__BIND".to_owned(), public.to_string());
        variables.insert("APP__ADMIN__BIND".to_owned(), scraped.to_string());
        let process = Process::serve(&variables);
        let client = Client::new(format!("http://{public}"));
        let admin = Client::new(format!("http://{scraped}"));
        let instance = Self { client, admin, scraped, variables, process, past: Vec::new() };
        instance.ready().await;
        instance
    }

    pub async fn ready(&self) {
        let ready = within(SOON, async || {
            let answer = self.admin.request(reqwest::Method::GET, "/health/ready", "").send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
        });
        if ready.await.is_none() {
            let errors = self.process.errors.lock().unwrap().clone();
            panic!("not ready within {SOON:?}: {errors}{:#?}", self.process.lines());
        }
    }

    /// Ends it as a deployment does; the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.process.signal("TERM");
        self.process.exit(Duration::from_secs(40)).await
    }

    /// Starts it anew at the same addresses, whatever became of the one before.
    pub async fn restart(&mut self) {
        self.past.extend(self.process.lines());
        self.process = Process::serve(&self.variables);
        self.ready().await;
    }

    /// The log lines of all its processes.
    pub fn lines(&self) -> Vec<Value> {
        self.past.iter().cloned().chain(self.process.lines()).collect()
    }
}
