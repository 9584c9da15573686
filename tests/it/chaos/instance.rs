//! A Postgres and a Redis of the chaos rows' own, which they can end, freeze and fill.

use std::{collections::BTreeMap, process::Command};

/// The word that names the instance.
const NAME: &str = "chaos";

fn services(command: &str) {
    let script = format!("{}/scripts/services.sh", env!("CARGO_MANIFEST_DIR"));
    let mut bash = Command::new("bash");
    // Of the servers of the suite.
    bash.env_remove("DATABASE_URL").env_remove("REDIS_URL").args([&script, command, NAME]);
    assert!(bash.status().unwrap().success(), "services.sh {command} {NAME}");
}

/// Running servers, stopped when dropped.
pub struct Instance(());

impl Instance {
    /// Starts what does not run; where it is stays the same.
    pub fn up() -> Self {
        services("up");
        Self(())
    }

    /// What leads there.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let file = format!("{}/.local/{NAME}/env", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).unwrap();
        let variable = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        text.lines().filter_map(variable).collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        services("down");
    }
}

/// Sends a signal to a server.
pub fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
}
