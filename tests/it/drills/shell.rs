//! Bash, for what a drill injects and for what a runbook says, with the variables that a person would have set.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::part;

/// A script is a group of processes. It ends with the runner, whatever becomes of that.
const LEASH: &str =
    "(exec </dev/null >/dev/null 2>&1; while kill -0 \"$DRILL_RUNNER\"; do sleep 1; done; kill -KILL 0) &\ndisown\n";

pub struct Shell {
    pub root: PathBuf,
    pub variables: BTreeMap<String, String>,
    /// For outputs.
    pub directory: PathBuf,
}

/// How a script ended.
pub struct Ran {
    /// None: not within its time.
    pub status: Option<i32>,
    pub output: String,
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// The output, and how it ended where that was not well.
    pub fn told(&self) -> String {
        match self.status {
            Some(0) => self.output.clone(),
            Some(code) => format!("{}(exit code {code})\n", self.output),
            None => format!("{}(not ended in time, killed)\n", self.output),
        }
    }
}

/// What a script left behind, until dropped.
pub struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        part::signal("KILL", &format!("-{}", self.0.id()));
        let _reaped = self.0.wait();
    }
}

impl Shell {
    /// Runs it to its end; what it leaves behind lives as long as the group.
    pub async fn start(
        &self,
        name: &str,
        script: &str,
        more: &BTreeMap<String, String>,
        limit: Duration,
    ) -> (Ran, Group) {
        let file = self.directory.join(format!("{name}.out"));
        let output = File::create(&file).unwrap();
        let child = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{LEASH}{script}")])
            .current_dir(&self.root)
            .envs(&self.variables)
            .envs(more)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut group = Group(child);
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = group.0.try_wait().unwrap() {
                break Some(status.code().unwrap_or(-1));
            }
            if Instant::now() > deadline {
                break None;
            }
            sleep(Duration::from_millis(20)).await;
        };
        let output = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        (Ran { status, output }, group)
    }

    /// Nothing of it is left.
    pub async fn run(&self, name: &str, script: &str, more: &BTreeMap<String, String>, limit: Duration) -> Ran {
        self.start(name, script, more, limit).await.0
    }
}
