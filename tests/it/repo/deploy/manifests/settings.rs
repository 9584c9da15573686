//! The environment a container will have, and what the binary itself makes of it: `keel config check` and `config show`.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;

use super::{Rendering, Workload, has_kubectl, holds, list, namespace_of, text};
use crate::{
    repo::deploy::{Tree, caught},
    support::process,
};

/// The variables of a container, and the directory its secrets are in meanwhile.
pub struct Environment {
    pub variables: BTreeMap<String, String>,
    _secrets: TempDir,
}

/// As the kubelet will set them; secrets as files in another place.
pub fn environment(rendering: &Rendering, workload: &Workload<'_>, container: &Value) -> Environment {
    let secrets = tempfile::tempdir().unwrap();
    let mut variables = BTreeMap::new();
    for source in list(container, "/envFrom") {
        let name = text(source, "/configMapRef/name");
        let map = rendering.named("ConfigMap", workload.namespace(), name);
        let data = map.and_then(|map| map["data"].as_object()).into_iter().flatten();
        variables.extend(data.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())));
    }
    for variable in list(container, "/env") {
        let name = text(variable, "/name").to_owned();
        let value = match variable.get("value").and_then(Value::as_str) {
            // What the kubelet would know.
            None => "1".to_owned(),
            Some(path) if name.ends_with("_FILE") => {
                let key = path.rsplit('/').next().unwrap();
                let file = secrets.path().join(key);
                std::fs::write(&file, secret(rendering, key)).unwrap();
                file.to_string_lossy().into_owned()
            }
            Some(value) => value.replace("$(", "").replace(')', ""),
        };
        variables.insert(name, value);
    }
    Environment { variables, _secrets: secrets }
}

/// The value a rendered Secret has for a key, else one that production would take.
fn secret(rendering: &Rendering, key: &str) -> String {
    let rendered = rendering.of("Secret").filter(|secret| namespace_of(secret) == "keel");
    if let Some(value) = rendered.filter_map(|secret| secret["data"][key].as_str()).next() {
        return decoded(value);
    }
    let url = |role: &str| format!("postgres://{role}:Q7w2-not-a-secret@db.example.com/keel?sslmode=verify-full");
    match key {
        "database-url" => url("keel_app"),
        "database-system-url" => url("keel_system"),
        "database-migration-url" => url("keel_owner"),
        "redis-url" => "rediss://redis.example.com:6379".to_owned(),
        "sentry-dsn" => String::new(),
        _ => format!("{key}: 0123456789-abcdefghijklmnopqrstuvwxyz"),
    }
}

/// Base64, as Secrets are written.
fn decoded(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    // Padding and the ends of lines are none.
    for value in text.bytes().filter_map(|letter| LETTERS.iter().position(|known| *known == letter)) {
        bits = (bits << 6 | u32::try_from(value).unwrap()) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The value of each key that the service will have, by its full name.
pub fn settings(rendering: &Rendering) -> BTreeMap<String, String> {
    let workload = rendering.service();
    let container = list(workload.pod(), "/containers").first().unwrap();
    let environment = environment(rendering, &workload, container);
    let output = process::run(&["config", "show"], &environment.variables);
    let mut section = String::new();
    let mut found = BTreeMap::new();
    for line in process::text(&output.stdout).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let value = rest.split("  # ").next().unwrap().trim_matches('"');
            found.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    found
}

/// Seconds in a duration as `config show` prints it.
pub fn seconds(duration: &str) -> f64 {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, factor) = units
        .into_iter()
        .find_map(|(unit, factor)| Some((duration.strip_suffix(unit)?, factor)))
        .unwrap_or_else(|| panic!("`{duration}` is no duration"));
    number.parse::<f64>().unwrap() * factor
}

/// What `keel config check` says of the environment in each overlay.
fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    if !rendering.is_overlay() {
        return Vec::new();
    }
    let workload = rendering.service();
    let container = list(workload.pod(), "/containers").first().unwrap();
    let environment = environment(rendering, &workload, container);
    let output = process::run(&["config", "check"], &environment.variables);
    let mut problems = Vec::new();
    if !output.status.success() {
        let said = process::text(&output.stderr);
        problems.extend(said.lines().map(|line| format!("{}: the service refuses: {line}", workload.title())));
    }
    let named = rendering.name.rsplit('/').next().unwrap();
    let wanted = if named == "local" { "development" } else { named };
    if environment.variables.get("APP_ENVIRONMENT").map(String::as_str) != Some(wanted) {
        problems.push(format!("{}: APP_ENVIRONMENT must be {wanted}", workload.title()));
    }
    problems
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn the_service_takes_the_configuration_of_every_overlay() {
    holds(check);
}

#[test]
fn a_configuration_that_the_service_refuses_is_caught() {
    if has_kubectl() {
        let overlay = |name: &str| format!("deploy/kubernetes/overlays/{name}/kustomization.yaml");
        caught(
            problems,
            &overlay("production"),
            "- APP_ENVIRONMENT=production",
            "- APP_ENVIRONMENT=production\n      - APP__FAULTS__ENABLED=true",
            "faults.enabled",
        );
        caught(problems, &overlay("staging"), "INSTANCES=2", "INSTANCES=two", "rate_limit.instances");
        caught(
            problems,
            &overlay("staging"),
            "- APP_ENVIRONMENT=staging",
            "- APP__LOG__FORMAT=json",
            "must be staging",
        );
        caught(problems, &overlay("local"), "database-url=postgres://", "database-url=mysql://", "database.url");
    }
}
