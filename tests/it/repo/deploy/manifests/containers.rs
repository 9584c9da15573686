//! What the containers of our binary are told: commands, variables, files of secrets, ports, paths of probes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Rendering, Workload, has_kubectl, holds, list, number, settings, text};
use crate::{
    repo::{
        deploy::{Code, Tree, caught, code},
        root,
    },
    support::process,
};

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    for workload in rendering.workloads() {
        let mut mentioned = BTreeSet::new();
        for container in workload.ours() {
            let mut say = |what: String| {
                problems.push(format!("{}: {}: {what}", workload.title(), text(container, "/name")));
            };
            command(container, &mut say);
            variables(rendering, &workload, container, &mut say);
            mentioned.extend(files(&workload, container, &mut say));
            probes(&workload, container, &mut say);
            ports(rendering, &workload, container, &mut say);
        }
        for volume in list(workload.pod(), "/volumes").iter().filter(|_| workload.ours().next().is_some()) {
            for item in list(volume, "/secret/items").iter().map(|item| text(item, "/path")) {
                if !mentioned.contains(item) {
                    problems.push(format!("{}: no *_FILE variable names the secret {item}", workload.title()));
                }
            }
        }
    }
    problems
}

/// The first argument is a command, and the others are its options.
fn command(container: &Value, say: &mut impl FnMut(String)) {
    let arguments: Vec<&str> = list(container, "/args").iter().map(|argument| argument.as_str().unwrap()).collect();
    if container.get("command").is_some() {
        say("leave the image's entrypoint: set args, not command".to_owned());
    }
    let Some(command) = arguments.first() else { return say("say which command: args are missing".to_owned()) };
    let help = process::run(&[command, "--help"], &std::collections::BTreeMap::new());
    if !help.status.success() {
        return say(format!("`keel {command}` is no command; `keel --help` lists them"));
    }
    let help = process::text(&help.stdout);
    for option in arguments[1..].iter().map(|argument| argument.split('=').next().unwrap()) {
        if !help.contains(option) {
            say(format!("`keel {command}` has no option {option}"));
        }
    }
}

fn is_known(code: &Code, name: &str) -> bool {
    code.variables.contains(name) || name.strip_suffix("_FILE").is_some_and(|name| code.secrets.contains(name))
}

fn variables(rendering: &Rendering, workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(String)) {
    for source in list(container, "/envFrom") {
        let name = text(source, "/configMapRef/name");
        let map = rendering.named("ConfigMap", workload.namespace(), name);
        for key in map.and_then(|map| map["data"].as_object()).into_iter().flatten().map(|(key, _)| key) {
            if !is_known(code(), key) {
                say(format!("ConfigMap {name}: the service knows no variable {key}; docs/configuration.md lists them"));
            }
        }
    }
    let all = list(container, "/env");
    let mut before: Vec<&str> = Vec::new();
    for variable in all {
        let name = text(variable, "/name");
        // Of the kubelet's making: used in another value, or the runtime's own.
        let own = variable.get("valueFrom").is_some()
            && all.iter().any(|other| text(other, "/value").contains(&format!("$({name})")));
        if !own && name != "TOKIO_WORKER_THREADS" && !is_known(code(), name) {
            say(format!("the service knows no variable {name}; docs/configuration.md lists them"));
        }
        if code().secrets.contains(name) {
            say(format!("{name} holds a secret: give it as a file, {name}_FILE"));
        }
        for reference in text(variable, "/value").split("$(").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !before.contains(&reference) {
                say(format!("{name} uses $({reference}), which is not in the list before it and so stays as it is"));
            }
        }
        if let Some(source) = variable.pointer("/valueFrom/resourceFieldRef") {
            let (kind, resource) = text(source, "/resource").split_once('.').unwrap_or_default();
            if text(source, "/containerName") != text(container, "/name")
                || container["resources"][kind][resource].is_null()
            {
                say(format!("{name}: the container has no {kind}.{resource} of its own"));
            }
        }
        before.push(name);
    }
    let threads = all.iter().find(|variable| variable["name"] == "TOKIO_WORKER_THREADS");
    if threads.is_none_or(|threads| text(threads, "/valueFrom/resourceFieldRef/resource") != "requests.cpu")
        && list(container, "/args").first().is_some_and(|command| command == "serve")
    {
        say("TOKIO_WORKER_THREADS must come from requests.cpu: else there is a thread for each core of the node"
            .to_owned());
    }
}

/// Each `*_FILE` names a file that is mounted; the names of those files.
fn files(workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(String)) -> Vec<String> {
    let mut mounted = Vec::new();
    for mount in list(container, "/volumeMounts") {
        let volume = list(workload.pod(), "/volumes").iter().find(|volume| volume["name"] == mount["name"]);
        for item in volume.map(|volume| list(volume, "/secret/items")).unwrap_or_default() {
            mounted.push(format!("{}/{}", text(mount, "/mountPath"), text(item, "/path")));
        }
    }
    let mut named = Vec::new();
    for variable in list(container, "/env").iter().filter(|variable| text(variable, "/name").ends_with("_FILE")) {
        let path = text(variable, "/value");
        if !mounted.iter().any(|mounted| mounted == path) {
            say(format!("{} names {path}, but mounted are {mounted:?}", text(variable, "/name")));
        }
        named.push(path.rsplit('/').next().unwrap().to_owned());
    }
    named
}

/// The paths of the admin listener, as its code says them.
pub fn admin_paths() -> BTreeSet<String> {
    let source = std::fs::read_to_string(root().join("src/platform/admin/mod.rs")).unwrap();
    let compact: String = source.split_whitespace().collect();
    let paths = compact.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let paths: BTreeSet<String> = paths.collect();
    assert!(paths.contains("/metrics"), "src/platform/admin/mod.rs no longer says its routes: {paths:?}");
    paths
}

fn probes(workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(String)) {
    let serves = list(container, "/args").first().is_some_and(|command| command == "serve");
    for (probe, wanted) in
        [("startupProbe", "/health/startup"), ("readinessProbe", "/health/ready"), ("livenessProbe", "/health/live")]
    {
        let Some(probed) = container.get(probe) else {
            if serves {
                say(format!("{probe} is missing"));
            }
            continue;
        };
        let port = ["httpGet", "tcpSocket"].iter().find_map(|kind| probed[*kind]["port"].as_str()).unwrap_or_default();
        if !workload.ports().iter().any(|(name, _)| *name == port) {
            say(format!("{probe}: {port} is no port of the container"));
        }
        if !serves {
            continue;
        }
        let path = text(probed, "/httpGet/path");
        if port != "admin" || !admin_paths().contains(path) {
            say(format!("{probe}: {path} on {port} does not exist; the admin listener has {:?}", admin_paths()));
        } else if path != wanted {
            say(format!("{probe}: asks {path}, its own is {wanted}"));
        }
    }
}

/// The service listens where the manifest says it does.
fn ports(rendering: &Rendering, workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(String)) {
    let declared: Vec<(&str, i64)> = list(container, "/ports")
        .iter()
        .map(|port| (text(port, "/name"), number(port, "/containerPort").unwrap_or_default()))
        .collect();
    let environment = settings::environment(rendering, workload, container);
    let serves = list(container, "/args").first().is_some_and(|command| command == "serve");
    let mut bound = BTreeSet::new();
    for (variable, value) in &environment.variables {
        // A ConfigMap of the service is also read by commands that listen nowhere.
        if !variable.ends_with("__BIND") || declared.is_empty() {
            continue;
        }
        let name = variable.trim_end_matches("__BIND").rsplit("__").next().unwrap().to_lowercase();
        let (host, port) = value.rsplit_once(':').unwrap_or_default();
        if host != "0.0.0.0" {
            say(format!("{variable}={value}: nobody else reaches it; bind 0.0.0.0"));
        }
        match declared.iter().find(|(known, _)| *known == name) {
            Some((_, number)) if number.to_string() == port => {}
            other => {
                say(format!("{variable}={value}, but containerPort {name} is {:?}", other.map(|(_, number)| number)));
            }
        }
        bound.insert(name);
    }
    for (name, number) in &declared {
        if !bound.contains(*name) {
            say(format!("containerPort {name} ({number}): no variable binds it, and the default is loopback"));
        }
    }
    if serves && !["http", "admin"].iter().all(|name| declared.iter().any(|(known, _)| known == name)) {
        say("the ports http and admin must be declared".to_owned());
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

const DEPLOYMENT: &str = "deploy/kubernetes/base/deployment.yaml";

#[test]
fn containers_are_told_what_the_binary_understands() {
    holds(check);
}

#[test]
fn a_wrong_port_is_caught() {
    caught(problems, DEPLOYMENT, "containerPort: 8080", "containerPort: 8081", "APP__HTTP__BIND=0.0.0.0:8080");
    caught(problems, DEPLOYMENT, "containerPort: 9464", "containerPort: 9090", "containerPort admin is Some(9090)");
    let base = "deploy/kubernetes/base/kustomization.yaml";
    caught(problems, base, "APP__ADMIN__BIND=0.0.0.0:9464", "APP__ADMIN__BIND=127.0.0.1:9464", "bind 0.0.0.0");
}

#[test]
fn a_wrong_probe_is_caught() {
    caught(
        problems,
        DEPLOYMENT,
        "path: /health/ready",
        "path: /healthz",
        "readinessProbe: /healthz on admin does not exist",
    );
    caught(problems, DEPLOYMENT, "path: /health/live", "path: /health/ready", "livenessProbe: asks /health/ready");
    caught(
        problems,
        DEPLOYMENT,
        "port: admin\n            periodSeconds: 2",
        "port: http\n            periodSeconds: 2",
        "startupProbe",
    );
}

#[test]
fn a_misspelt_variable_is_caught() {
    caught(problems, DEPLOYMENT, "name: REDIS_URL_FILE", "name: REDIS_URI_FILE", "no variable REDIS_URI_FILE");
    let base = "deploy/kubernetes/base/kustomization.yaml";
    caught(problems, base, "RATE_LIMIT__INSTANCES", "RATE_LIMITS__INSTANCES", "APP__RATE_LIMITS__INSTANCES");
    caught(problems, DEPLOYMENT, "$(NODE_NAME)", "$(NODE)", "uses $(NODE)");
    caught(problems, DEPLOYMENT, "resource: requests.cpu", "resource: limits.cpu", "TOKIO_WORKER_THREADS");
}

#[test]
fn a_wrong_secret_file_is_caught() {
    caught(
        problems,
        DEPLOYMENT,
        "value: /etc/keel/secrets/auth-pepper",
        "value: /etc/keel/secrets/pepper",
        "names /etc/keel/secrets/pepper",
    );
    caught(problems, DEPLOYMENT, "path: redis-url", "path: redis", "REDIS_URL_FILE names");
    let migration = "deploy/kubernetes/base/migration.yaml";
    caught(
        problems,
        migration,
        "mountPath: /etc/keel/migration",
        "mountPath: /etc/keel",
        "DATABASE_MIGRATION_URL_FILE names",
    );
}

#[test]
fn a_command_that_does_not_exist_is_caught() {
    caught(problems, DEPLOYMENT, "- wait-for-schema\n", "- await-schema\n", "`keel await-schema` is no command");
    caught(problems, DEPLOYMENT, "--timeout=600", "--wait=600", "has no option --wait");
    if has_kubectl() {
        let local = "deploy/kubernetes/overlays/local/kustomization.yaml";
        caught(problems, local, "APP__LOG__FORMAT=json", "APP__LOG__FORMT=json", "overlays/local: Deployment keel");
    }
}
