//! Every pod keeps to Pod Security `restricted` and to our own rules beside it.

use serde_json::{Value, json};

use super::{Rendering, Workload, holds, list, name_of, number, text};
use crate::repo::deploy::{Tree, caught};

/// The namespace of what reads the nodes' log files, which `restricted` forbids.
const PRIVILEGED: &str = "keel-collector";
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
