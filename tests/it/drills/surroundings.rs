//! What the shell of a drill finds around it: the variables of `runbooks/env.sh` and of `lib.sh`, and the small programs
//! that stand where compose or a cluster would be.

use std::{collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{
    services::{variable, with_database},
    stack::ENVIRONMENT,
};

pub struct Facts<'a> {
    pub root: &'a Path,
    pub here: &'a Path,
    pub control: SocketAddr,
    pub alertmanager: SocketAddr,
    /// The instances' ways in, through the proxies and past them.
    pub public: &'a [SocketAddr],
    pub direct: &'a [SocketAddr],
    pub admin: &'a [SocketAddr],
    /// What the service calls, through its proxy.
    pub dependency: SocketAddr,
    /// Of the command line, past the proxies.
    pub cli: &'a BTreeMap<String, String>,
}

fn program(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The command line with the service's settings.
fn appctl(facts: &Facts) -> String {
    let exports: String = facts.cli.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
    let binary = quoted(env!("CARGO_BIN_EXE_keel"));
    program(&facts.here.join("bin/appctl"), &format!("#!/bin/sh\n{exports}exec {binary} \"$@\"\n"))
}

pub fn variables(facts: &Facts) -> BTreeMap<String, String> {
    fs::create_dir_all(facts.here.join("bin")).unwrap();
    let library = facts.root.join("tests/it/drills/lib.sh").display().to_string();
    let script = |name: &str, function: &str| {
        let text = format!("#!/usr/bin/env bash\nset -euo pipefail\nsource {}\n{function} \"$@\"\n", quoted(&library));
        program(&facts.here.join("bin").join(name), &text)
    };
    let admin_url = with_database(&variable("TEST_ADMIN_DATABASE_URL"), super::start::DATABASE);
    let owner_url = with_database(&variable("DATABASE_MIGRATION_URL"), super::start::DATABASE);
    let psql = |url: &str| format!("psql --no-psqlrc --set=ON_ERROR_STOP=1 {url}");
    let logs = facts.here.join("instance-1.log").display().to_string();
    let own = [
        ("DRILL_RUNNER", std::process::id().to_string()),
        ("DRILL_LIB", library.clone()),
        ("DRILL_DIRECTORY", facts.here.display().to_string()),
        ("DRILL_CONTROL", format!("http://{}", facts.control)),
        ("DRILL_PUBLIC", joined(facts.public)),
        ("DRILL_DIRECT", joined(facts.direct)),
        ("DRILL_ADMIN", joined(facts.admin)),
        ("DRILL_DEPENDENCY", facts.dependency.port().to_string()),
        ("DATABASE_ADMIN_URL", admin_url.clone()),
        ("DATABASE_OWNER_URL", owner_url.clone()),
        ("REDIS_URL", facts.cli["REDIS_URL"].clone()),
        // Of `runbooks/env.sh`.
        ("ENVIRONMENT", ENVIRONMENT.to_owned()),
        ("PROMETHEUS", format!("http://{}/prometheus", facts.control)),
        ("ALERTMANAGER", format!("http://{}", facts.alertmanager)),
        ("API", format!("http://{}", facts.public[0])),
        ("ADMIN", format!("http://{}", facts.admin[0])),
        ("ADMIN_TOKEN", facts.cli["APP__ADMIN__TOKEN"].clone()),
        ("LOGS", format!("cat {logs} {}", logs.replace("instance-1", "instance-2"))),
        ("APPCTL", appctl(facts)),
        ("PSQL", psql(&admin_url)),
        ("PSQL_OWNER", psql(&owner_url)),
        ("REDISCLI", script("rediscli", "redis_cli")),
        ("PART", script("part", "part_of_the_stack")),
        ("PROCESSES", script("processes", "processes_of_the_service")),
    ];
    own.map(|(name, value)| (name.to_owned(), value)).into()
}
