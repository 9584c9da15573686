//! `make dashboards-check`: the dashboards and the cheat-sheets are asked, on a stack of real processes under traffic
//! with faults. A query that says nothing is wrong until the list of exceptions gives the reason. What of the
//! cheat-sheets needs no stack is tried by `make test`.

mod answers;
mod logql;
mod sheets;
mod sql;
mod sql_shop;
mod traffic;
mod traffic_shop;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    repo::{
        self,
        deploy::{Tree, dashboards, grafana::vocabulary::RULES},
    },
    support::{
        client::Tenant,
        process,
        stack::{ENVIRONMENT, Plan, SOON, Stack, within},
    },
};
use answers::{Asked, Report, allowed};
use traffic::{Site, Traffic};

/// Longer than any window of the queries, which are 30 s, and than a restart.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most of what a dashboard shows about latency leads to a trace from here.
const WITH_EXEMPLARS: &str = "http_server_request_duration_seconds_bucket";

/// What the traffic has to meet, lest panels of failures be empty by luck.
const EXPECTED: [u16; 9] = [200, 401, 403, 404, 405, 429, 500, 503, 504];

/// Low limits, so that a little traffic meets them.
fn plan() -> Plan {
    let settings = [
        ("APP__DATABASE__SLOW_QUERY", "200ms"),
        ("APP__HTTP__REQUEST_TIMEOUT", "3s"),
        ("APP__HTTP__BODY_TIMEOUT", "2s"),
        ("APP__HTTP__MAX_CONCURRENT_REQUESTS", "50"),
        ("APP__RATE_LIMIT__PER_SECOND", "100"),
        ("APP__RATE_LIMIT__BURST", "100"),
        // An exemplar of a trace that was not sampled would be seen.
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ];
    // What they record is asked for, and an alert has to fire to be seen.
    let rules = vec![repo::root().join(RULES)];
    Plan { settings: settings.map(|(name, value)| (name, value.to_owned())).into(), rules, ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make dashboards-check"]
async fn every_query_of_every_dashboard_and_of_the_cheat_sheets_answers() {
    let mut stack = Stack::start(plan()).await;
    let site = Site::new(&stack);
    let acme = site.acme.clone();
    let mut queries: Vec<Asked> = dashboards::queries(&Tree::checkout())
        .into_iter()
        .map(|query| Asked { document: query.dashboard, place: query.place, expr: query.expr })
        .collect();
    queries.extend(sheets::promql(&acme));

    let traffic = Traffic::start(site);
    let traffic = traffic_shop::join(traffic, &stack);
    // In the middle of it, as a deployment does.
    assert_eq!(stack.instances[1].terminate().await, 0, "the drain fits its deadline under this traffic");
    stack.instances[1].restart().await;
    pause_redis(&stack.variables["REDIS_URL"]).await;

    let report = Report::of(&stack.prometheus, queries, &allowed(), PATIENCE).await;
    let mut problems = report.problems();
    problems.extend(a_wrong_name_is_reported(&stack).await);
    problems.extend(targets(&stack).await);
    problems.extend(metadata(&stack).await);
    problems.extend(exemplars(&stack).await);
    // What is rare may still be on its way.
    let _in_words_below = within(SOON, async || by_products(&stack, &traffic, &acme).is_empty().then_some(())).await;
    problems.extend(by_products(&stack, &traffic, &acme));
    println!("{}", report.table());
    // The script wants to know that this ran: a filter that matches no test is green.
    if let Some(file) = std::env::var_os("KEEL_DASHBOARDS_OUT") {
        std::fs::write(file, report.table()).unwrap();
    }
    println!("answers: {:#?}", traffic.stop().await);
    stack.end().await;
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// For longer than the service waits for a command, and shorter than a scrape may take.
async fn pause_redis(url: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CLIENT").arg("PAUSE").arg(800).exec_async(&mut connection).await.unwrap();
}

/// What the traffic leaves behind besides metrics: statuses, log lines, spans, events.
fn by_products(stack: &Stack, traffic: &Traffic, tenant: &Tenant) -> Vec<String> {
    let mut problems = sheets::problems(stack, tenant);
    if stack.sentry.events().is_empty() {
        problems.push("errors and panics, and Sentry was sent nothing".to_owned());
    }
    let tally = traffic.tally();
    let met = |status: &u16| tally.keys().any(|what| what.ends_with(&format!(" {status}")));
    let expected = EXPECTED.iter();
    let expected = expected.chain(&traffic_shop::EXPECTED);
    problems.extend(expected.filter(|status| !met(status)).map(|status| format!("the traffic met no {status}")));
    problems
}

/// The check itself: a metric that nobody has, a label that no series has, and an exception that nothing needs.
async fn a_wrong_name_is_reported(stack: &Stack) -> Vec<String> {
    let allowed =
        |selector: &str| vec![answers::Allowed { selector: selector.to_owned(), reason: "planted".to_owned() }];
    let wrong = [
        (
            "sum(rate(http_server_request_duration_second_count[30s]))",
            Vec::new(),
            "no series: http_server_request_duration_second_count",
        ),
        ("up{job=\"kiel\"}", Vec::new(), "no series: up{job=\"kiel\"}"),
        (
            "sum(rate(http_server_request_duration_seconds_count{http_response_status_code=~\"6..\"}[30s])) or vector(0)",
            Vec::new(),
            "no series: http_server_request_duration_seconds_count{http_response_status_code=~\"6..\"}",
        ),
        ("up{job=\"keel\"} > 7", Vec::new(), "no number comes out"),
        ("sum(rate(", Vec::new(), "400"),
        ("up", allowed("up"), "up has series: remove the entry"),
        ("up", allowed("kube_"), "no query asks for it: remove the entry"),
    ];
    let mut problems = Vec::new();
    for (expr, allowed, named) in wrong {
        let asked = Asked { document: "planted".to_owned(), place: "A".to_owned(), expr: expr.to_owned() };
        let found = Report::of(&stack.prometheus, vec![asked], &allowed, Duration::ZERO).await.problems();
        if !found.iter().any(|problem| problem.contains(named)) {
            problems.push(format!("`{expr}` was not reported as `{named}`: {found:?}"));
        }
    }
    problems
}

/// Each target has the labels that the dashboards filter by.
async fn targets(stack: &Stack) -> Vec<String> {
    let mut problems = Vec::new();
    for job in ["keel", "postgres", "redis"] {
        let selector = format!("up{{job=\"{job}\"}}");
        let environments = stack.prometheus.label_values("environment", &selector).await.unwrap();
        if environments != [ENVIRONMENT] {
            problems.push(format!("{selector} has the environments {environments:?}"));
        }
        let down = async || stack.prometheus.query(&format!("{selector} == 0")).await.unwrap();
        // One scrape may come too late on a busy machine.
        if within(SOON, async || down().await.is_empty().then_some(())).await.is_none() {
            problems.extend(down().await.iter().map(|series| format!("not scraped: {:?}", series.labels)));
        }
    }
    problems
}

/// Each metric of the catalogue was scraped, with its kind and its help.
async fn metadata(stack: &Stack) -> Vec<String> {
    let scraped = stack.prometheus.metadata().await.unwrap();
    let printed = process::run(&["catalogue"], &BTreeMap::new()).stdout;
    let catalogue: serde_json::Value = serde_json::from_slice(&printed).unwrap();
    let mut problems = Vec::new();
    for metric in catalogue["metrics"].as_array().unwrap() {
        let text = |field: &str| metric[field].as_str().unwrap().to_owned();
        let (name, kind, help) = (text("name"), text("kind"), text("help"));
        // OpenMetrics names the family, and the samples of a counter end in `_total`.
        let families = [scraped.get(&name), scraped.get(name.trim_end_matches("_total"))];
        let rows: Vec<&(String, String)> = families.into_iter().flatten().flatten().collect();
        if !rows.contains(&&(kind.clone(), help.clone())) {
            problems.push(format!("{name} is a {kind} (\"{help}\") in the catalogue, scraped was {rows:?}"));
        }
    }
    problems
}

/// Latencies lead to traces, and each of these was really sent.
async fn exemplars(stack: &Stack) -> Vec<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let found = stack.prometheus.exemplars(WITH_EXEMPLARS, now - 600.0).await.unwrap();
    let traces: BTreeSet<&str> = found.iter().map(|exemplar| exemplar.trace_id.as_str()).collect();
    let instances: BTreeSet<&String> = found.iter().filter_map(|exemplar| exemplar.series.get("instance")).collect();
    println!("{} exemplars of {} traces from {} instances", found.len(), traces.len(), instances.len());
    if instances.len() != stack.instances.len() {
        return vec![format!("{WITH_EXEMPLARS}: exemplars of {} instances only", instances.len())];
    }
    let arrived = async || {
        let arrived: BTreeSet<String> = stack.collector.all().iter().map(|seen| seen.trace_id()).collect();
        traces.iter().all(|trace| arrived.contains(*trace)).then_some(())
    };
    match within(SOON, arrived).await {
        Some(()) => Vec::new(),
        None => vec!["an exemplar names a trace that the collector was not sent".to_owned()],
    }
}
