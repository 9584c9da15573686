//! A program that is not ours, run beside the service: its output is in a file, and it ends with its owner.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use uuid::Uuid;

use super::within;
use crate::support::client::Client;

/// Named in messages: `prometheus`.
pub struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with these variables only, its log in `directory`.
    pub fn start(name: &'static str, mut command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let program = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {}: {error}", program.display()));
        Self { name, child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until this path answers 200; fails when the program ends before it.
    pub async fn answers(&mut self, client: &Client, path: &str) {
        let answered = within(super::SOON, async || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let answer = client.request(reqwest::Method::GET, path, "").send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(true)
        });
        if answered.await != Some(true) {
            panic!("{} does not answer {path}:\n{}", self.name, self.log());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A free loopback address. Below 32768, where no outgoing connection takes it before its owner listens, nor while its
/// owner is restarted.
pub fn address() -> SocketAddr {
    loop {
        let port = 20_000 + u16::try_from(Uuid::new_v4().as_u128() % 12_000).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The program that a script found and names in a variable.
pub fn program(variable: &str) -> Command {
    let path = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: `make dashboards-check` finds the program and sets it"));
    let mut command = Command::new(path);
    command.env_clear();
    command
}
