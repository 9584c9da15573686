//! The compose files: images, names, mounts, secrets and health checks, held against the code and each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use regex::Regex;
use serde_json::Value;

use super::{
    Tree, caught, code, none,
    stack::{Stack, entries, networks, resolved, secrets, strings, text},
};

/// Files below `/etc/keel` by secret: the same names in a cluster.
const SECRETS: [(&str, &str); 6] = [
    ("database-url", "secrets"),
    ("database-system-url", "secrets"),
    ("redis-url", "secrets"),
    ("auth-pepper", "secrets"),
    ("admin-token", "secrets"),
    ("database-migration-url", "migration"),
];

fn seconds(duration: &str) -> Duration {
    let unit = duration.trim_start_matches(|character: char| character.is_ascii_digit());
    let number: u64 = duration.trim_end_matches(unit).parse().unwrap();
    if unit == "ms" { Duration::from_millis(number) } else { Duration::from_secs(number) }
}

/// Every `image:` of every file: a version, and the same wherever it stands.
fn images(tree: &Tree) -> Vec<String> {
    fn find<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("image").and_then(Value::as_str));
                map.values().for_each(|value| find(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let mut problems = Vec::new();
    let mut seen: BTreeMap<String, (String, String)> = BTreeMap::new();
    for path in tree.files("deploy", ".yaml") {
        let documents = tree.yaml(&path);
        let mut found = Vec::new();
        documents.iter().for_each(|document| find(document, &mut found));
        for image in found {
            let (name, tag) = image.rsplit_once(':').unwrap_or((image, ""));
            // Its tag is CI's: kustomize and `make image` set it.
            if name == "keel" || name.ends_with("/keel") {
                continue;
            }
            if !tag.contains(|character: char| character.is_ascii_digit()) || tag.starts_with("latest") {
                problems.push(format!("{path}: image `{image}` has no version: write the exact tag"));
            }
            let (other, place) = seen.entry(name.to_owned()).or_insert_with(|| (tag.to_owned(), path.clone()));
            if other != tag {
                problems.push(format!("{path}: image `{image}` is {name}:{other} in {place}: use one version"));
            }
        }
    }
    problems
}

fn problems(tree: &Tree) -> Vec<String> {
    let stack = Stack::of(tree);
    let mut problems = Vec::new();
    for (name, service) in &stack.services {
        let mut add = |what: String| problems.push(format!("deploy/compose*.yaml: {name}: {what}"));
        for port in strings(&service["ports"]).filter(|port| !port.starts_with("127.0.0.1:")) {
            add(format!("port `{port}` is open to others: publish it on 127.0.0.1"));
        }
        if service["read_only"] != true || service["cap_drop"] != serde_json::json!(["ALL"]) {
            add("is not read_only or keeps capabilities: take it from the anchor `hardened`".to_owned());
        }
        if !strings(&service["security_opt"]).any(|option| option == "no-new-privileges:true") {
            add("may gain privileges: add no-new-privileges:true".to_owned());
        }
        let dockerfile = service["build"]["dockerfile"].as_str();
        if dockerfile.is_some_and(|path| !tree.path(path).is_file()) {
            add(format!("is built with {dockerfile:?}, which is not in the tree"));
        }
        environment(name, service, &stack).into_iter().for_each(&mut add);
        mounts(service, &stack, tree).into_iter().for_each(&mut add);
        health(name, service, &stack).into_iter().for_each(&mut add);
    }
    problems.extend(figures(&stack));
    problems
}

fn environment(name: &str, service: &Value, stack: &Stack) -> Vec<String> {
    let mut problems = Vec::new();
    let targets: BTreeSet<String> = stack.secret_targets(name);
    let url = Regex::new(r"^(?:[a-z]+://)?([a-z-]+):(\d+)(?:/.*)?$").unwrap();
    for (variable, value) in entries(&service["environment"]) {
        let value = resolved(text(value));
        if service["image"] == "keel:dev" {
            let plain = variable.strip_suffix("_FILE");
            if !code().variables.contains(variable) && !plain.is_some_and(|plain| code().secrets.contains(plain)) {
                problems.push(format!("the service knows no variable `{variable}`: see docs/configuration.md"));
            }
        }
        let secret = ["PASS", "TOKEN", "SECRET", "PEPPER"].iter().any(|word| variable.contains(word));
        if secret && !variable.ends_with("_FILE") {
            problems.push(format!("`{variable}` is a secret in the file: give its path in `{variable}_FILE`"));
        }
        if variable.ends_with("_FILE") && !targets.contains(&value) {
            problems.push(format!("`{variable}` is {value}, where no secret is mounted: {targets:?}"));
        }
        if let Some(found) = url.captures(&value).filter(|found| !found[1].contains("localhost")) {
            let why = stack.unreachable(Some(name), &found[1], found[2].parse().unwrap());
            problems.extend(why.map(|why| format!("`{variable}` is {value}: {why}")));
        }
    }
    problems
}

fn mounts(service: &Value, stack: &Stack, tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let maker = std::fs::read_to_string(crate::repo::root().join("scripts/lib/compose-secrets.sh")).unwrap();
    for (secret, target) in secrets(service) {
        let file = stack.secrets.get(&secret).map(|secret| resolved(text(&secret["file"])));
        if file.as_deref() != Some(&format!("../.local/compose/secrets/{secret}")) || !maker.contains(&secret) {
            let known = secret.starts_with("alert-") && maker.contains("alert-$severity-url");
            if file.is_none() || !known {
                problems.push(format!("secret `{secret}` is not made: see scripts/lib/compose-secrets.sh"));
            }
        }
        let folder = SECRETS.iter().find(|(known, _)| *known == secret).map(|(_, folder)| *folder);
        if service["image"] == "keel:dev" && Some(target.clone()) != folder.map(|it| format!("/etc/keel/{it}/{secret}"))
        {
            problems.push(format!("secret `{secret}` is mounted at {target}: in a cluster it is elsewhere"));
        }
    }
    let mut mounted = Vec::new();
    for volume in strings(&service["volumes"]) {
        let mut parts = volume.split(':');
        let (source, target) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        if let Some(relative) = source.strip_prefix("./") {
            mounted.push((target, format!("deploy/{relative}")));
            if !tree.path(&format!("deploy/{relative}")).exists() {
                problems.push(format!("`{source}` is mounted and not in the tree"));
            }
        } else if !stack.volumes.contains(source) {
            problems.push(format!("there is no volume `{source}`"));
        }
    }
    // A file that an argument names has to come from one of the mounts.
    for argument in strings(&service["command"]).map(resolved) {
        let Some((_, file)) = argument.split_once('=').filter(|(_, file)| file.ends_with(".yaml")) else { continue };
        let there = mounted.iter().any(|(target, source)| {
            file.strip_prefix(target).is_some_and(|rest| tree.path(&format!("{source}{rest}")).is_file())
        });
        if !there {
            problems.push(format!("`{argument}` names a file that is not mounted"));
        }
    }
    problems.extend(
        networks(service)
            .into_iter()
            .filter(|it| *it != "default" && !stack.networks.contains(*it))
            .map(|network| format!("there is no network `{network}`")),
    );
    problems
}

fn health(name: &str, service: &Value, stack: &Stack) -> Vec<String> {
    let mut problems = Vec::new();
    let test: Vec<&str> = strings(&service["healthcheck"]["test"]).collect();
    let once = service["restart"] == "no";
    if test.is_empty() && !once {
        problems.push("has no health check: `up --wait` would not wait for it".to_owned());
    }
    if test.contains(&"/usr/local/bin/keel") && !subcommands().contains(*test.last().unwrap()) {
        problems.push(format!("health check {test:?}: keel has no such subcommand"));
    }
    if service["image"] == "keel:dev" {
        let command = strings(&service["command"]).next().unwrap_or_default();
        if !subcommands().contains(command) {
            problems.push(format!("command `{command}`: keel has no such subcommand"));
        }
    }
    let depends = &service["depends_on"];
    if test.contains(&"/probe/busybox") && depends["probe"]["condition"] != "service_completed_successfully" {
        problems.push("asks with /probe/busybox: it has to depend on `probe`".to_owned());
    }
    for (other, how) in entries(depends) {
        let Some(other_service) = stack.services.get(other) else {
            problems.push(format!("depends on `{other}`, and there is no such service"));
            continue;
        };
        let healthy = how["condition"] == "service_healthy";
        if healthy && other_service["healthcheck"].is_null() {
            problems.push(format!("waits until `{other}` is healthy, which has no health check"));
        }
        if (how["condition"] == "service_completed_successfully") != (other_service["restart"] == "no") {
            problems.push(format!("waits for the end of `{other}`, or for more of what ends: see its `restart`"));
        }
    }
    if name == "probe" && !strings(&service["volumes"]).any(|volume| volume == "probe:/probe") {
        problems.push("has no volume to copy to".to_owned());
    }
    let runs = strings(&service["command"]).any(|word| word.ends_with("mv /probe/.new /probe/busybox"));
    if name == "probe" && !runs {
        problems.push("copies onto a busybox that may run at that moment: copy to /probe/.new and rename".to_owned());
    }
    problems
}

fn subcommands() -> BTreeSet<String> {
    let help = super::printed(&["--help"]);
    help.lines()
        .filter_map(|line| line.strip_prefix("  ")?.split("  ").next())
        .map(|word| word.trim().to_owned())
        .collect()
}

/// Times and connections that other parts count on.
fn figures(stack: &Stack) -> Vec<String> {
    let mut problems = Vec::new();
    let service = &stack.services["keel"];
    let setting = |key: &str| {
        let variable = format!("APP__{}", key.to_uppercase().replace('.', "__"));
        let given = service["environment"][&variable].as_str();
        given.map_or_else(|| code().settings[key].clone(), ToOwned::to_owned)
    };
    let phases = ["lifecycle.drain_delay", "lifecycle.drain_timeout", "lifecycle.flush_timeout"];
    let drain = phases.iter().map(|phase| seconds(&setting(phase))).sum::<Duration>() + Duration::from_secs(4);
    let grace = seconds(text(&service["stop_grace_period"]));
    if grace < drain {
        problems.push(format!("deploy/compose.yaml: keel: stop_grace_period is {grace:?}, the drain takes {drain:?}"));
    }
    let replicas = service["deploy"]["replicas"].as_u64().unwrap();
    if setting("rate_limit.instances") != replicas.to_string() {
        problems.push(format!("deploy/compose.yaml: keel: APP__RATE_LIMIT__INSTANCES is not {replicas}"));
    }
    let each =
        ["database.max_connections", "database.system_max_connections"].map(|key| setting(key).parse::<u64>().unwrap());
    let limit = strings(&stack.services["postgres"]["command"])
        .find_map(|it| it.strip_prefix("max_connections=")?.parse().ok());
    // Migrations, the exporter and a person.
    let needed = replicas * each.iter().sum::<u64>() + 10;
    if limit.is_none_or(|limit: u64| limit < needed) {
        problems.push(format!("deploy/compose.yaml: postgres: max_connections is {limit:?}, needed are {needed}"));
    }
    problems
}

/// What `scripts/lib/provision.sh` sets on the runtime roles, the init script has to set as well.
fn role_settings(script: &str) -> BTreeSet<String> {
    let pattern = Regex::new(r"(?m)^\s*alter role \$(?:role|name) (set .*?);$").unwrap();
    pattern.captures_iter(script).map(|found| found[1].to_owned()).collect()
}

fn roles(tree: &Tree) -> Vec<String> {
    let (init, provision) = (
        tree.text("deploy/postgres/init.sh"),
        std::fs::read_to_string(crate::repo::root().join("scripts/lib/provision.sh")).unwrap(),
    );
    let (ours, theirs) = (role_settings(&init), role_settings(&provision));
    assert!(theirs.len() >= 3, "no settings found in provision.sh");
    let differ = ours.symmetric_difference(&theirs);
    differ.map(|it| format!("deploy/postgres/init.sh: `{it}` is not what scripts/lib/provision.sh does")).collect()
}

#[test]
fn every_image_has_one_version_everywhere() {
    none(&images(&Tree::checkout()));
    caught(images, "deploy/compose.yaml", "redis:8.10.1-trixie", "redis:latest", "has no version");
    caught(
        images,
        "deploy/compose.observability.yaml",
        "busybox:1.37.0-musl",
        "busybox:1.36.0-musl",
        "use one version",
    );
}

#[test]
fn the_compose_files_name_only_what_there_is() {
    none(&problems(&Tree::checkout()));
    let base = "deploy/compose.yaml";
    let watching = "deploy/compose.observability.yaml";
    for (path, from, to, named) in [
        (base, "\"127.0.0.1:${KEEL_ADMIN_PORTS:-9464-9465}:9464\"", "\"9464:9464\"", "open to others"),
        (base, "APP__HTTP__BIND:", "APP__HTTP__BINT:", "no variable `APP__HTTP__BINT`"),
        (base, "APP__AUTH__PEPPER_FILE:", "APP__AUTH__PEPPER:", "is a secret in the file"),
        (
            base,
            "REDIS_URL_FILE: /etc/keel/secrets/redis-url",
            "REDIS_URL_FILE: /etc/keel/redis-url",
            "no secret is mounted",
        ),
        (base, "target: /etc/keel/migration/", "target: /etc/keel/migrations/", "elsewhere"),
        (base, "{source: admin-token,", "{source: admin-tokens,", "is not made"),
        (base, "keel, healthcheck]", "keel, health]", "no such subcommand"),
        (base, "command: [migrate]", "command: [migrations]", "no such subcommand"),
        (base, "redis: {condition", "rediss: {condition", "there is no such service"),
        (base, "dockerfile: deploy/Dockerfile", "dockerfile: Dockerfile", "is built with Some(\"Dockerfile\")"),
        (base, "&& mv /probe/.new /probe/busybox", "&& cp /probe/.new /probe/busybox", "may run at that moment"),
        (base, "./postgres/init.sh", "./postgres/roles.sh", "not in the tree"),
        (base, "stop_grace_period: 40s", "stop_grace_period: 30s", "the drain takes 32s"),
        (base, "max_connections=100", "max_connections=30", "needed are 38"),
        (base, "networks: [data]\n    shm", "networks: [dat]\n    shm", "no network `dat`"),
        (watching, "REDIS_ADDR: redis://redis:6379", "REDIS_ADDR: redis://redis:6380", "does not listen on 6380"),
        (watching, "networks: [default, data]", "networks: [default]", "no network is shared with `postgres`"),
        (watching, "http://otel-collector:4318}", "http://collector:4318}", "no service `collector`"),
        (watching, "config.file=/etc/prometheus/prom", "config.file=/etc/prometheus/Prom", "is not mounted"),
        (watching, "cap_drop: [ALL]", "cap_drop: []", "keeps capabilities"),
    ] {
        caught(problems, path, from, to, named);
    }
}

#[test]
fn both_ways_to_set_up_postgres_make_the_same_roles() {
    none(&roles(&Tree::checkout()));
    caught(roles, "deploy/postgres/init.sh", "lock_timeout = '1s'", "lock_timeout = '9s'", "set lock_timeout");
}
