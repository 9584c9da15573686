//! Every pod keeps to Pod Security `restricted` and to our own rules beside it, and runs what compose runs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Rendering, Workload, has_kubectl, holds, list, name_of, number, text};
use crate::repo::deploy::{Tree, caught, none, stack::Stack};

/// The namespace of what reads the nodes' log files, which `restricted` forbids.
const PRIVILEGED: &str = "keel-collector";
/// Options in which compose and the cluster may differ: where files are, how long data stays, who may reach it.
const OF_THE_PLACE: &[&str] = &[
    "--config",
    "--maxmemory",
    "--protected-mode",
    "--save",
    "--storage.tsdb.retention.size",
    "--storage.tsdb.retention.time",
    // Only Tempo writes to it, which the local overlay has not.
    "--web.enable-remote-write-receiver",
    "/run/secrets/redis-auth",
];
const VOLUMES: &[&str] =
    &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn check(tree: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    for namespace in rendering.of("Namespace").filter(|namespace| name_of(namespace) != PRIVILEGED) {
        if namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted" {
            problems.push(format!(
                "{}: Namespace {}: label it pod-security.kubernetes.io/enforce: restricted",
                rendering.name,
                name_of(namespace)
            ));
        }
    }
    for workload in rendering.workloads() {
        let mut say = |what: &str| problems.push(format!("{}: {what}", workload.title()));
        pod(&workload, &mut say);
        init_scripts(&workload, &mut say);
        for container in workload.containers() {
            one_container(rendering, &workload, container, &mut say);
        }
        for container in workload.ours() {
            if let Some(user) = image_user(tree)
                && number(workload.pod(), "/securityContext/runAsUser") != Some(user)
            {
                say(&format!(
                    "{}: runAsUser must be {user}, the USER of deploy/Dockerfile",
                    name_of_container(container)
                ));
            }
        }
    }
    problems
}

/// The postgres image runs files that are executable, and reads the others into its own shell.
fn init_scripts(workload: &Workload<'_>, say: &mut impl FnMut(&str)) {
    for mount in workload.containers().flat_map(|container| list(container, "/volumeMounts")) {
        let is_it = |volume: &&Value| volume["name"] == mount["name"];
        let volume = list(workload.pod(), "/volumes").iter().find(is_it);
        let mode = volume.and_then(|volume| number(volume, "/configMap/defaultMode")).unwrap_or(0o644);
        if text(mount, "/mountPath") == "/docker-entrypoint-initdb.d" && mode & 0o111 != 0o111 {
            say(&format!(
                "volume {}: defaultMode must be 365 (0555), or the script is not run but read",
                mount["name"]
            ));
        }
    }
}

/// Where compose and the local overlay have a service of one name and one image, they start it the same way.
fn command_lines(tree: &Tree, rendering: &Rendering) -> Vec<String> {
    let stack = Stack::of(tree);
    let mut problems = Vec::new();
    for workload in rendering.workloads() {
        let (name, container) = (name_of(workload.object), &list(workload.pod(), "/containers")[0]);
        let Some(service) = stack.services.get(name).filter(|service| service["image"] == container["image"]) else {
            continue;
        };
        let (there, here) = (options(list(service, "/command")), options(list(container, "/args")));
        for option in there.symmetric_difference(&here) {
            let known = if there.contains(option) { "compose" } else { "the cluster" };
            problems.push(format!("{}: only {known} starts it with `{option}`", workload.title()));
        }
    }
    problems
}

/// Each with its values, without those of the place.
fn options(arguments: &[Value]) -> BTreeSet<String> {
    let mut options: Vec<String> = Vec::new();
    for argument in arguments.iter().filter_map(Value::as_str) {
        match options.last_mut() {
            Some(option) if option.starts_with('-') && !option.contains('=') && !argument.starts_with('-') => {
                *option += &format!(" {argument}");
            }
            _ => options.push(argument.to_owned()),
        }
    }
    let is_of_the_place = |option: &String| OF_THE_PLACE.contains(&option.split(['=', ' ']).next().unwrap());
    options.into_iter().filter(|option| !is_of_the_place(option)).collect()
}

fn name_of_container(container: &Value) -> &str {
    text(container, "/name")
}

fn pod(workload: &Workload<'_>, say: &mut impl FnMut(&str)) {
    let pod = workload.pod();
    let context = &pod["securityContext"];
    if workload.namespace() == PRIVILEGED {
        // The exception is for the files of root, and for nothing else.
        if workload.containers().any(|container| !list(container, "/securityContext/capabilities/add").is_empty()) {
            say("root without capabilities is all that reading log files needs");
        }
    } else {
        if context["runAsNonRoot"] != true || number(context, "/runAsUser").unwrap_or(0) == 0 {
            say("may run as root: set runAsNonRoot: true and a runAsUser other than 0");
        }
        for volume in list(pod, "/volumes") {
            if !VOLUMES.iter().any(|kind| volume.get(*kind).is_some()) {
                say(&format!("volume {} is of a kind that `restricted` forbids", text(volume, "/name")));
            }
        }
    }
    if text(context, "/seccompProfile/type") != "RuntimeDefault" {
        say("seccompProfile.type must be RuntimeDefault");
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[host] == true {
            say(&format!("{host} is forbidden by `restricted`"));
        }
    }
    if pod["enableServiceLinks"] != false {
        say("enableServiceLinks must be false: variables of every Service would come in");
    }
    if pod["automountServiceAccountToken"].is_null() {
        say("say automountServiceAccountToken, which is true by default");
    }
}

fn one_container(rendering: &Rendering, workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(&str)) {
    let name = name_of_container(container);
    let context = &container["securityContext"];
    let wanted = [("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)];
    for (field, value) in wanted {
        if context[field] != value {
            say(&format!("{name}: securityContext.{field} must be {value}"));
        }
    }
    if context["capabilities"] != json!({"drop": ["ALL"]}) {
        say(&format!("{name}: drop ALL capabilities and add none"));
    }
    if context["privileged"] == true || context["runAsUser"] == 0 || context["runAsNonRoot"] == false {
        say(&format!("{name}: may run as root: its own securityContext takes back the pod's"));
    }
    if list(container, "/ports").iter().any(|port| port.get("hostPort").is_some()) {
        say(&format!("{name}: no hostPort"));
    }
    resources(rendering, workload, container, say);
    let image = text(container, "/image");
    let tag = image.split('@').next().unwrap().rsplit('/').next().unwrap().split_once(':').map(|(_, tag)| tag);
    if !rendering.is_base() && tag.is_none_or(|tag| tag.is_empty() || tag == "latest") {
        say(&format!("{name}: image {image} needs a tag that is not moved"));
    }
}

fn resources(rendering: &Rendering, workload: &Workload<'_>, container: &Value, say: &mut impl FnMut(&str)) {
    let name = name_of_container(container);
    let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
    if requests["cpu"].is_null() || requests["memory"].is_null() {
        say(&format!("{name}: requests for cpu and memory are missing"));
    }
    if limits["memory"].is_null() || limits["memory"] != requests["memory"] {
        say(&format!("{name}: the memory limit must be the request: what is over it is somebody else's"));
    }
    let limited = rendering.name.ends_with("/cpu-limits") && text(workload.object, "/kind") == "Deployment";
    match (limited, millis(&limits["cpu"])) {
        (false, None) => {}
        (false, Some(_)) => {
            say(&format!("{name}: no CPU limit (base/deployment.yaml says why); use components/cpu-limits"));
        }
        (true, limit) => {
            if limit != millis(&requests["cpu"]).map(|request| 2 * request) {
                say(&format!("{name}: the CPU limit must be twice the request"));
            }
        }
    }
}

/// Thousandths of a core.
fn millis(quantity: &Value) -> Option<u64> {
    match quantity {
        Value::Null => None,
        Value::String(text) if text.ends_with('m') => text.trim_end_matches('m').parse().ok(),
        other => other.to_string().trim_matches('"').parse::<u64>().ok().map(|cores| cores * 1000),
    }
}

/// The number in the Dockerfile's last USER.
fn image_user(tree: &Tree) -> Option<i64> {
    let dockerfile = tree.text("deploy/Dockerfile");
    let user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER "))?;
    user.split(':').next().unwrap().parse().ok()
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn every_pod_is_restricted() {
    holds(check);
}

#[test]
fn compose_and_the_cluster_start_the_same_programs_alike() {
    const LOCAL: &str = "deploy/kubernetes/overlays/local";
    let check = |tree: &Tree| {
        super::overlay(tree, LOCAL).map_or_else(|error| vec![error], |rendering| command_lines(tree, &rendering))
    };
    if has_kubectl() {
        none(&check(&Tree::checkout()));
        let exporters = format!("{LOCAL}/exporters.yaml");
        let named = "Deployment postgres-exporter: only compose starts it with `--collector.stat_statements`";
        caught(check, &exporters, "- --collector.stat_statements\n", "- --log.level=info\n", named);
        caught(check, "deploy/compose.yaml", "- allkeys-lru", "- noeviction", "only compose starts it with `--maxmem");
    }
}

#[test]
fn an_init_script_that_would_be_read_and_not_run_is_caught() {
    if has_kubectl() {
        let file = "deploy/kubernetes/overlays/local/postgres.yaml";
        caught(problems, file, "defaultMode: 365", "defaultMode: 292", "postgres: volume \"init\": defaultMode");
    }
}

#[test]
fn a_pod_that_may_run_as_root_is_caught() {
    let file = "deploy/kubernetes/base/deployment.yaml";
    caught(problems, file, "runAsNonRoot: true", "runAsNonRoot: false", "Deployment keel: may run as root");
    caught(problems, file, "runAsUser: 65532", "runAsUser: 0", "may run as root");
    caught(problems, file, "runAsUser: 65532", "runAsUser: 10001", "the USER of deploy/Dockerfile");
    caught(problems, file, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem");
    let file = "deploy/kubernetes/base/namespace.yaml";
    caught(problems, file, "enforce: restricted", "enforce: baseline", "Namespace keel");
}

#[test]
fn a_cpu_limit_outside_its_component_is_caught() {
    let file = "deploy/kubernetes/base/deployment.yaml";
    caught(
        problems,
        file,
        "limits:\n              memory: 64Mi",
        "limits:\n              cpu: 1\n              memory: 64Mi",
        "CPU limit",
    );
}
