//! The rules and the configuration of Prometheus: metrics, labels, targets, annotations and runbooks that exist.

mod shown;
mod tested;

use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use regex::Regex;
use serde_json::Value;

use super::{Tree, caught, none, promql::Known, stack::Stack};

pub struct Rule {
    place: String,
    rule: Value,
}

impl Rule {
    pub fn text(&self, key: &str) -> &str {
        self.rule[key].as_str().unwrap_or_default()
    }
}

pub fn rules(tree: &Tree) -> Vec<Rule> {
    let mut rules = Vec::new();
    for path in tree.files("deploy/prometheus/rules", ".yaml") {
        let document = &tree.yaml(&path)[0];
        for group in document["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap_or("a rule without name");
                rules.push(Rule { place: format!("{path}: {name}"), rule: rule.clone() });
            }
        }
    }
    rules
}

pub fn known(rules: &[Rule]) -> Known {
    Known::of(rules.iter().map(|rule| rule.text("record")))
}

fn queries(tree: &Tree) -> Vec<String> {
    let rules = rules(tree);
    let known = known(&rules);
    let wrong = rules.iter().flat_map(|rule| {
        known.problems(rule.text("expr")).into_iter().map(|problem| format!("{}: {problem}", rule.place))
    });
    wrong.collect()
}

/// The selectors of an expression.
pub fn selectors(expr: &str) -> Vec<VectorSelector> {
    struct Selectors(Vec<VectorSelector>);
    impl ExprVisitor for Selectors {
        type Error = ();
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
            match expr {
                Expr::VectorSelector(selector) => self.0.push(selector.clone()),
                Expr::MatrixSelector(range) => self.0.push(range.vs.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut found = Selectors(Vec::new());
    // One that is no PromQL is reported by `queries`.
    if let Ok(parsed) = parser::parse(expr) {
        let _always_ok = walk_expr(&mut found, &parsed);
    }
    found.0
}

/// Whose series are asked for: in a Prometheus that is shared, others have metrics of the same names.
fn strangers(tree: &Tree) -> Vec<String> {
    let rules = rules(tree);
    let recorded: Vec<&str> = rules.iter().map(|rule| rule.text("record")).collect();
    let mut problems = Vec::new();
    for rule in &rules {
        for selector in selectors(rule.text("expr")) {
            let name = selector.name.clone().unwrap_or_default();
            let bound = selector.matchers.matchers.iter().any(|it| ["job", "namespace"].contains(&it.name.as_str()));
            if !bound && name != "ALERTS" && !recorded.contains(&name.as_str()) {
                problems.push(format!("{}: `{name}` of anybody: say whose, by job or namespace", rule.place));
            }
        }
    }
    problems
}

/// What leads on from an alert is in `graph`.
fn alerts(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in rules(tree) {
        let name = rule.text("alert");
        if name.is_empty() {
            continue;
        }
        let mut add = |what: String| problems.push(format!("{}: {what}", rule.place));
        let severity = rule.rule["labels"]["severity"].as_str().unwrap_or_default();
        if !["page", "ticket", "info"].contains(&severity) && (severity, name) != ("none", "Watchdog") {
            add(format!("severity `{severity}`: page, ticket or info"));
        }
        if rule.rule["labels"]["team"].as_str().is_none_or(str::is_empty) {
            add("no team: who is asked?".to_owned());
        }
        let annotation = |key: &str| rule.rule["annotations"][key].as_str().unwrap_or_default().to_owned();
        for key in ["summary", "description", "runbook_url", "dashboard_url"] {
            if annotation(key).is_empty() {
                add(format!("no annotation `{key}`"));
            }
        }
    }
    problems
}

fn targets(tree: &Tree) -> Vec<String> {
    let config = &tree.yaml("deploy/prometheus/prometheus.yaml")[0];
    let stack = Stack::of(tree);
    let mut problems = Vec::new();
    let mut targets: Vec<(String, String)> = Vec::new();
    let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
    for job in all(&config["scrape_configs"]) {
        let name = job["job_name"].as_str().unwrap().to_owned();
        let mut placed = all(&job["relabel_configs"]).iter().any(|it| it["target_label"] == "environment");
        for group in all(&job["static_configs"]) {
            placed |= !group["labels"]["environment"].is_null();
            targets.extend(all(&group["targets"]).iter().map(|it| (name.clone(), it.as_str().unwrap().to_owned())));
        }
        for dns in all(&job["dns_sd_configs"]) {
            for host in all(&dns["names"]) {
                targets.push((name.clone(), format!("{}:{}", host.as_str().unwrap(), dns["port"])));
            }
        }
        if !placed || job["honor_labels"] == true {
            problems.push(format!(
                "deploy/prometheus/prometheus.yaml: job {name}: no label `environment`, or the target's wins"
            ));
        }
    }
    for group in all(&config["alerting"]["alertmanagers"][0]["static_configs"]) {
        targets
            .extend(all(&group["targets"]).iter().map(|it| ("alerting".to_owned(), it.as_str().unwrap().to_owned())));
    }
    for (job, target) in targets {
        let (host, port) = target.rsplit_once(':').unwrap();
        let host = if host == "127.0.0.1" { "prometheus" } else { host };
        let why = stack.unreachable(Some("prometheus"), host, port.parse().unwrap());
        problems.extend(why.map(|why| format!("deploy/prometheus/prometheus.yaml: {job}: {target}: {why}")));
    }
    let mounted = stack.secret_targets("alertmanager");
    let files = Regex::new(r"_file: (\S+)").unwrap();
    let text = tree.text("deploy/alertmanager/alertmanager.yaml");
    let unmounted = files.captures_iter(&text).map(|found| found[1].to_owned()).filter(|file| !mounted.contains(file));
    problems.extend(unmounted.map(|file| format!("deploy/alertmanager/alertmanager.yaml: {file} is mounted nowhere")));
    problems
}

#[test]
fn rules_ask_only_for_what_is_exported() {
    none(&queries(&Tree::checkout()));
    let rules = "deploy/prometheus/rules/platform.yaml";
    for (from, to, named) in [
        (
            "_duration_seconds_count{job=\"keel\"}[5m]",
            "_duration_second_count{job=\"keel\"}[5m]",
            "nobody exports `http_server_request_duration_second_count`",
        ),
        ("_duration_seconds_count{job=\"keel\"}[5m]", "_duration_seconds{job=\"keel\"}[5m]", "nobody exports"),
        ("http_response_status_code=~", "status=~", "label `status`"),
        ("sum by (job, environment)", "sum by (job, env)", "label `env`"),
        ("error_ratio_rate1d > 3", "error_ratio_rate2d > 3", "error_ratio_rate2d"),
        ("14.4 * 0.001", "14.4 * 0.1", "can never be reached"),
        ("14.4 * 0.001", "0.1 * 14.4", "can never be reached"),
        ("14.4 * 0.001", "1.44", "can never be reached"),
        ("14.4 * 0.001", "14.4 * (1 - 0.9)", "can never be reached"),
        ("14.4 * 0.001", "14.4 * scalar(slo:availability:error_ratio_rate3d)", "with no number"),
        ("14.4 * 0.001", "14.4 * 0.01", "another budget"),
        ("expr: vector(1)", "expr: vector(1", "is no PromQL"),
    ] {
        caught(queries, rules, from, to, named);
    }
}

#[test]
fn rules_ask_for_nobody_elses_series() {
    none(&strangers(&Tree::checkout()));
    for (rules, from, to, named) in [
        ("platform", "pg_up{job=\"postgres\"}", "pg_up", "`pg_up` of anybody"),
        ("platform", "_duration_seconds_count{job=\"keel\"}[5m]", "_duration_seconds_count[5m]", "of anybody"),
        ("cluster", "kube_job_failed{namespace=\"keel\",", "kube_job_failed{", "`kube_job_failed` of anybody"),
    ] {
        caught(strangers, &format!("deploy/prometheus/rules/{rules}.yaml"), from, to, named);
    }
}

#[test]
fn an_alert_says_who_what_and_where_to_look() {
    none(&alerts(&Tree::checkout()));
    let rules = "deploy/prometheus/rules/platform.yaml";
    for (from, to, named) in [
        ("severity: page\n", "severity: critical\n", "severity `critical`"),
        ("team: keel", "group: keel", "no team"),
        ("summary: Alerts", "summery: Alerts", "no annotation `summary`"),
    ] {
        caught(alerts, rules, from, to, named);
    }
}

#[test]
fn prometheus_and_alertmanager_reach_what_they_name() {
    none(&targets(&Tree::checkout()));
    let config = "deploy/prometheus/prometheus.yaml";
    caught(targets, config, "names: [keel]", "names: [kell]", "no service `kell`");
    caught(targets, config, "port: 9464", "port: 9646", "does not listen on 9646");
    caught(targets, config, "\"postgres-exporter:9187\"", "\"postgres:9187\"", "does not listen on 9187");
    caught(
        targets,
        config,
        "labels: {environment: development}",
        "labels: {env: development}",
        "job postgres: no label",
    );
    caught(
        targets,
        "deploy/alertmanager/alertmanager.yaml",
        "secrets/page-url",
        "secrets/pager-url",
        "mounted nowhere",
    );
}
