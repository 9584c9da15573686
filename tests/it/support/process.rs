//! The built binary as a process of its own: signals, exit codes, standard output.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{client::Client, services};

const BINARY: &str = env!("CARGO_BIN_EXE_keel");

/// Runs a command to its end with these variables only (and PATH).
pub fn run(arguments: &[&str], variables: &BTreeMap<String, String>) -> Output {
    Command::new(BINARY).args(arguments).env_clear().envs(variables).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `keel serve`.
pub type Service = Process;

/// A running command of the binary, killed when dropped.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    pub errors: Arc<Mutex<String>>,
}

impl Process {
    pub fn serve(variables: &BTreeMap<String, String>) -> Self {
        Self::spawn(&["serve"], variables)
    }

    /// `keel serve` with a limit on open files.
    pub fn limited(files: u32, variables: &BTreeMap<String, String>) -> Self {
        let script = format!("ulimit -n {files} && exec \"$0\" serve");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, BINARY]);
        Self::start(command, variables)
    }

    pub fn spawn(arguments: &[&str], variables: &BTreeMap<String, String>) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        Self::start(command, variables)
    }

    fn start(mut command: Command, variables: &BTreeMap<String, String>) -> Self {
        let mut child =
            command.env_clear().envs(variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (stdout, seen) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                seen.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let errors: Arc<Mutex<String>> = Arc::default();
        let (stderr, said) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, lines, errors }
    }

    /// The first line with this message.
    pub async fn line(&self, message: &str) -> Value {
        super::eventually(message, || async { self.lines().into_iter().find(|line| line["message"] == message) }).await
    }

    pub fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Clients of the public and the admin listener, once both are open.
    pub async fn clients(&self) -> (Client, Client) {
        let line = self.line("service_starting").await;
        let client = |name: &str| Client::new(format!("http://{}", line[name].as_str().unwrap()));
        (client("public"), client("admin"))
    }

    /// The names of its threads, where the kernel tells them.
    pub fn threads(&self) -> Option<BTreeSet<String>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        Some(names.map(|name| name.trim().to_owned()).collect())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// The exit code, within `limit`; -1 when a signal ended it.
    pub async fn exit(&mut self, limit: Duration) -> i32 {
        self.status(limit).await.code().unwrap_or(-1)
    }

    /// How it ended, within `limit`.
    pub async fn status(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {limit:?}: {:#?}", self.lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Settings for a process on `database`, with free ports.
pub fn settings(database: &str) -> BTreeMap<String, String> {
    services::settings(database)
}
