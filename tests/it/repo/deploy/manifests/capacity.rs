//! Figures that follow from each other: probes and the code's own limits, the time to drain, connections and the database.

use serde_json::Value;

use super::{
    Rendering, Workload, has_kubectl, holds, list, name_of, namespace_of, number,
    settings::{seconds, settings},
    text,
};
use crate::repo::deploy::{Tree, caught, code};

/// What migrations, the exporter and a person at a prompt take.
const HEADROOM: i64 = 5;
/// Seconds that a new database may take on a slow machine.
const INITIALISED: f64 = 300.0;
/// Postgres keeps these for superusers.
const RESERVED: i64 = 3;

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{}: {what}", rendering.name));
    timing(rendering, &mut say);
    rollout(rendering, &mut say);
    scaling(rendering, &mut say);
    problems
}

fn probe(container: &Value, name: &str) -> (f64, f64, f64) {
    let figure = |field: &str, default: i64| number(container, &format!("/{name}/{field}")).unwrap_or(default);
    let seconds = |field: &str, default: i64| figure(field, default) as f64;
    (seconds("periodSeconds", 10), seconds("timeoutSeconds", 1), seconds("failureThreshold", 3))
}

fn timing(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let settings = settings(rendering);
    let setting = |key: &str| {
        seconds(settings.get(key).unwrap_or_else(|| panic!("{}: `config show` says no {key}", rendering.name)))
    };
    let workload = rendering.service();
    let container = list(workload.pod(), "/containers").first().unwrap();
    let drain = setting("lifecycle.drain_delay")
        + setting("lifecycle.drain_timeout")
        + setting("lifecycle.flush_timeout")
        + 4.0;
    let grace = number(workload.pod(), "/terminationGracePeriodSeconds").unwrap_or(30) as f64;
    if grace < drain {
        say(format!("Deployment keel: terminationGracePeriodSeconds {grace} is shorter than the drain, {drain} s"));
    }
    if setting("lifecycle.drain_delay") < 5.0 {
        say("lifecycle.drain_delay: load balancers need 5 s to notice".to_owned());
    }
    if container.get("lifecycle").is_some() {
        say("Deployment keel: no preStop hook: drain_delay does it, and the grace period would have to be longer"
            .to_owned());
    }
    let (period, _, failures) = probe(container, "startupProbe");
    if period * failures < setting("database.startup_timeout") + 5.0 {
        say(format!(
            "startupProbe: {} s are over before database.startup_timeout, when the service ends by itself and says why",
            period * failures
        ));
    }
    let (period, timeout, failures) = probe(container, "readinessProbe");
    if period < setting("lifecycle.check_interval") || timeout < setting("lifecycle.check_timeout") {
        say("readinessProbe: asks more often, or waits less long, than the service checks (lifecycle.check_*)"
            .to_owned());
    }
    if setting("lifecycle.stalled_after") + period * failures > setting("lifecycle.dead_after") {
        say("readinessProbe: must take the traffic away before lifecycle.dead_after".to_owned());
    }
    let (period, timeout, failures) = probe(container, "livenessProbe");
    let restarted = setting("lifecycle.dead_after") + period * failures + timeout;
    if restarted > 90.0 || failures < 3.0 {
        say(format!(
            "livenessProbe: restarts {restarted} s after a stall; at most 90 s, and never for one or two failures"
        ));
    }
}

fn rollout(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let workload = rendering.service();
    let spec = &workload.object["spec"];
    if number(spec, "/strategy/rollingUpdate/maxUnavailable") != Some(0) {
        say("Deployment keel: maxUnavailable must be 0 in a rollout".to_owned());
    }
    let waits = list(workload.pod(), "/initContainers").iter().flat_map(|container| list(container, "/args"));
    let waits =
        waits.filter_map(|argument| argument.as_str()?.strip_prefix("--timeout=")?.parse::<i64>().ok()).sum::<i64>();
    let container = list(workload.pod(), "/containers").first().unwrap();
    let start = number(container, "/startupProbe/periodSeconds").unwrap_or(10)
        * number(container, "/startupProbe/failureThreshold").unwrap_or(3);
    let least = waits + start + number(spec, "/minReadySeconds").unwrap_or(0);
    if number(spec, "/progressDeadlineSeconds").unwrap_or(600) < least {
        say(format!(
            "Deployment keel: progressDeadlineSeconds must be at least {least}: wait-for-schema and the start"
        ));
    }
    for job in rendering.of("Job") {
        if number(job, "/spec/activeDeadlineSeconds").is_none_or(|deadline| deadline > waits) {
            say(format!(
                "Job {}: activeDeadlineSeconds must not be longer than wait-for-schema waits, {waits} s",
                name_of(job)
            ));
        }
    }
}

fn scaling(rendering: &Rendering, say: &mut impl FnMut(String)) {
    let Some(scaler) = rendering.of("HorizontalPodAutoscaler").find(|scaler| name_of(scaler) == "keel") else {
        return say("no HorizontalPodAutoscaler keel".to_owned());
    };
    let settings = settings(rendering);
    let setting = |key: &str| settings[key].parse::<i64>().unwrap();
    let service = rendering.service();
    if service.object["spec"].get("replicas").is_some() {
        say("Deployment keel: no `replicas`: each apply would take back what the autoscaler did".to_owned());
    }
    // By default 1.
    let least = number(scaler, "/spec/minReplicas").unwrap_or(1);
    let most = number(scaler, "/spec/maxReplicas").unwrap_or(0);
    if least > most || least < 2 {
        say(format!(
            "HorizontalPodAutoscaler keel: from {least} to {most} pods: at least 2, and no more than the most"
        ));
    }
    for budget in rendering.of("PodDisruptionBudget").filter(|budget| name_of(budget) == "keel") {
        if number(budget, "/spec/maxUnavailable").is_none_or(|unavailable| unavailable >= least) {
            say("PodDisruptionBudget keel: maxUnavailable must leave a pod of the autoscaler's least".to_owned());
        }
    }
    if setting("rate_limit.instances") != least {
        say(format!("APP__RATE_LIMIT__INSTANCES must be the autoscaler's least number of pods, {least}"));
    }
    for metric in list(scaler, "/spec/metrics") {
        let name = text(metric, "/pods/metric/name");
        if text(metric, "/type") == "Resource" && text(metric, "/resource/name") == "cpu" {
            continue;
        }
        if code().labels(name).is_none() {
            say(format!("HorizontalPodAutoscaler keel: the service has no metric `{name}`"));
        }
    }
    let surge = number(service.object, "/spec/strategy/rollingUpdate/maxSurge").unwrap_or(1);
    let wanted = (most + surge) * (setting("database.max_connections") + setting("database.system_max_connections"));
    let limit = text(scaler, "/metadata/annotations/keel~1database-max-connections").parse::<i64>().unwrap_or(0);
    let bearable = (limit - RESERVED) * 8 / 10;
    if let Some(pooler) = rendering.workloads().into_iter().find(|workload| name_of(workload.object) == "pgbouncer") {
        through_pooler(rendering, &pooler, wanted, bearable, say);
    } else if wanted + HEADROOM > bearable {
        say(format!(
            "HorizontalPodAutoscaler keel: {most} pods and {surge} of a rollout open {wanted} connections, and {HEADROOM} are \
             for others; 80 % of the database's {limit} are {bearable}"
        ));
    }
    for database in rendering.workloads().iter().filter(|workload| name_of(workload.object) == "postgres") {
        let arguments = list(database.pod(), "/containers").iter().flat_map(|container| list(container, "/args"));
        if !arguments.into_iter().any(|argument| argument == &format!("max_connections={limit}")) {
            say(format!("StatefulSet postgres: its max_connections must be the autoscaler's annotation, {limit}"));
        }
        let (period, _, failures) = probe(&list(database.pod(), "/containers")[0], "startupProbe");
        if period * failures < INITIALISED {
            say(format!(
                "StatefulSet postgres: startupProbe: {} s: initdb and the init script may take {INITIALISED} s, and a volume \
                 where they were stopped stays without roles",
                period * failures
            ));
        }
    }
}

/// One PgBouncer must take all clients when the other is gone; all of them together must not ask too much.
fn through_pooler(
    rendering: &Rendering,
    pooler: &Workload<'_>,
    wanted: i64,
    bearable: i64,
    say: &mut impl FnMut(String),
) {
    let map =
        rendering.of("ConfigMap").find(|map| namespace_of(map) == "keel" && map["data"]["pgbouncer.ini"].is_string());
    let text = map.map(|map| map["data"]["pgbouncer.ini"].as_str().unwrap()).unwrap_or_default();
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.and_then(|value| value.trim().parse::<i64>().ok()).unwrap_or(0)
    };
    if wanted > figure("max_client_conn") {
        say(format!("pgbouncer.ini: max_client_conn must be at least {wanted}: one of them may be alone"));
    }
    // A pool for the runtime role and one for the system role; while one is replaced there is one more.
    let opened = (number(pooler.object, "/spec/replicas").unwrap_or(1) + 1) * 2 * figure("default_pool_size");
    if opened + HEADROOM > bearable {
        say(format!(
            "pgbouncer.ini: {opened} connections to the database and {HEADROOM} for others; it bears {bearable}"
        ));
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

#[test]
fn figures_follow_from_each_other() {
    holds(check);
}

#[test]
fn a_grace_period_that_is_too_short_is_caught() {
    let deployment = "deploy/kubernetes/base/deployment.yaml";
    caught(problems, deployment, "GracePeriodSeconds: 40", "GracePeriodSeconds: 30", "is shorter than the drain, 32 s");
    let base = "deploy/kubernetes/base/kustomization.yaml";
    caught(
        problems,
        base,
        "- OTEL_SERVICE_NAME=keel",
        "- APP__LIFECYCLE__DRAIN_TIMEOUT=30s",
        "terminationGracePeriodSeconds 40 is shorter than the drain, 42 s",
    );
}

#[test]
fn probes_that_do_not_fit_the_code_are_caught() {
    let deployment = "deploy/kubernetes/base/deployment.yaml";
    caught(problems, deployment, "failureThreshold: 65", "failureThreshold: 30", "startupProbe: 60 s are over");
    caught(
        problems,
        deployment,
        "periodSeconds: 5\n",
        "periodSeconds: 10\n",
        "readinessProbe: must take the traffic away",
    );
    caught(problems, deployment, "failureThreshold: 6\n", "failureThreshold: 12\n", "livenessProbe: restarts 137 s");
    caught(problems, deployment, "progressDeadlineSeconds: 900", "progressDeadlineSeconds: 600", "at least 740");
}

#[test]
fn more_pods_than_the_database_bears_are_caught() {
    let scaler = "deploy/kubernetes/base/autoscaler.yaml";
    caught(problems, scaler, "maxReplicas: 4", "maxReplicas: 10", "open 154 connections");
    caught(problems, scaler, "minReplicas: 3", "minReplicas: 4", "APP__RATE_LIMIT__INSTANCES must be");
    caught(problems, scaler, "name: cpu", "name: memory", "no metric ``");
    let base = "deploy/kubernetes/base/kustomization.yaml";
    caught(problems, base, "__MAX_CONNECTIONS=10", "__MAX_CONNECTIONS=20", "open 120 connections");
    if has_kubectl() {
        let production = "deploy/kubernetes/overlays/production/autoscaler.yaml";
        caught(problems, production, "maxReplicas: 10", "maxReplicas: 14", "overlays/production: Horizontal");
        let local = "deploy/kubernetes/overlays/local/postgres.yaml";
        caught(problems, local, "max_connections=100", "max_connections=50", "StatefulSet postgres");
        caught(problems, local, "failureThreshold: 150", "failureThreshold: 30", "startupProbe: 60 s");
    }
}
