//! The dashboards of `deploy/grafana/`: they are what their sources make, say what they show, and ask only for what
//! exists. `make dashboards-check` runs what [`queries`] lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

pub use super::grafana::inspect::queries;
use super::{
    Tree, caught, code,
    grafana::{
        generate,
        inspect::{self, Dashboard, list, text},
        layout, logql, promql,
    },
    none,
};

/// Metrics that no dashboard shows, each with the reason.
const UNUSED: &[(&str, &str)] = &[];

/// Grafana's names of units; it shows a name it does not know behind the figure.
const UNITS: &[&str] =
    &["Bps", "bytes", "dateTimeFromNow", "eps", "ms", "none", "ops", "percentunit", "reqps", "s", "short"];

fn fresh(tree: &Tree) -> Vec<String> {
    let made = match generate::all(tree) {
        Ok(made) => made,
        Err(problem) => return vec![problem],
    };
    let there = tree.files("deploy/grafana/dashboards", ".json");
    let differs = made.iter().filter(|(path, text)| !there.contains(path) || tree.text(path) != **text);
    let mut problems: Vec<String> =
        differs.map(|(path, _)| format!("{path} is not what its source makes: run `make docs`")).collect();
    problems.extend(
        there.iter().filter(|path| !made.contains_key(*path)).map(|path| format!("{path} has no source: delete it")),
    );
    problems
}

/// Titles, descriptions, units, queries, and that no two panels lie on each other.
fn shape(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let mut uids = BTreeMap::new();
    for dashboard in inspect::dashboards(tree) {
        let path = &dashboard.path;
        let mut say = |what: String| problems.push(format!("{path}: {what}"));
        if text(&dashboard.json, "uid") != generate::uid(&dashboard.name) {
            say(format!("its uid is not {}", generate::uid(&dashboard.name)));
        }
        if let Some(other) = uids.insert(text(&dashboard.json, "title").to_owned(), path.clone()) {
            say(format!("it has the title of {other}"));
        }
        if text(&dashboard.json, "description").is_empty() {
            say("it has no description".to_owned());
        }
        let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard.panels() {
            let title = text(panel, "title");
            let unit = panel.pointer("/fieldConfig/defaults/unit").and_then(Value::as_str).unwrap_or_default();
            if title.is_empty() || !titles.insert(title) {
                say(format!("panel `{title}`: its title is empty or another panel's"));
            }
            if !ids.insert(panel["id"].as_u64()) {
                say(format!("panel `{title}`: another panel has its id"));
            }
            if !text(panel, "description").ends_with(['.', '?']) {
                say(format!("panel `{title}` has no description in a whole sentence"));
            }
            if !UNITS.contains(&unit) {
                say(format!("panel `{title}` has the unit `{unit}`, not one of {}", UNITS.join(", ")));
            }
            if list(panel, "/targets").is_empty() {
                say(format!("panel `{title}` has no query"));
            }
        }
        layout::overlaps(list(&dashboard.json, "/panels")).into_iter().for_each(&mut say);
        for row in list(&dashboard.json, "/panels").iter().filter(|panel| panel["type"] == "row") {
            layout::overlaps(list(row, "/panels")).into_iter().for_each(&mut say);
        }
    }
    problems
}

/// Queries ask for what exists, in PromQL, LogQL and TraceQL, and legends name labels of the answer.
fn names(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let mut series = BTreeSet::new();
    for dashboard in inspect::dashboards(tree) {
        for (place, query) in dashboard.queries() {
            let found = names_of(&dashboard, query, &mut series);
            problems.extend(found.into_iter().map(|problem| format!("{}: {place}: {problem}", dashboard.path)));
        }
    }
    let shown = |metric: &&String| {
        ["", "_bucket", "_sum", "_count"].iter().any(|suffix| series.contains(&format!("{metric}{suffix}")))
    };
    let excused = |metric: &str| UNUSED.iter().any(|(name, _)| *name == metric);
    for metric in code().metrics.keys() {
        if !shown(&metric) && !excused(metric) {
            problems.push(format!("no dashboard shows `{metric}`; show it, or say in UNUSED why not"));
        } else if shown(&metric) && excused(metric) {
            problems.push(format!("`{metric}` is in UNUSED and shown"));
        }
    }
    problems
}

fn names_of(dashboard: &Dashboard, query: &Value, series: &mut BTreeSet<String>) -> Vec<String> {
    let filled = |key: &str| dashboard.filled(text(query, key));
    let Some(expr) = inspect::promql_of(query) else {
        return match (text(&query["datasource"], "type"), text(query, "queryType")) {
            ("loki", _) => logql::problems(&filled("expr")),
            ("tempo", "traceql") => logql::traceql_problems(&filled("query")),
            ("tempo", "serviceMap") => Vec::new(),
            (other, _) => vec![format!("nothing is known of queries to `{other}`")],
        };
    };
    let found = promql::look(&dashboard.filled(&expr));
    series.extend(found.series);
    let mut problems = found.problems;
    static SHORT_RATE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"rate\([^\[]*\[\$__(interval|range)\]").unwrap());
    if SHORT_RATE.is_match(&expr) {
        problems.push("a rate over less than four scrapes has gaps: use $__rate_interval".to_owned());
    }
    static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{\s*(\w+)\s*\}\}").unwrap());
    for label in LABEL.captures_iter(text(query, "legendFormat")) {
        if !found.labels.contains(&label[1]) {
            problems.push(format!("the legend names `{}`, which its answer does not have", &label[1]));
        }
    }
    problems
}

/// Variables that are used are defined, and the other way round.
fn variables(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for dashboard in inspect::dashboards(tree) {
        let defined: BTreeSet<String> =
            dashboard.variables().iter().map(|variable| text(variable, "name").to_owned()).collect();
        let mut used = BTreeSet::new();
        for (place, query) in dashboard.queries() {
            let texts = [text(query, "expr"), text(query, "query"), text(&query["query"], "query")];
            let here: BTreeSet<String> = texts.into_iter().flat_map(inspect::variables_in).collect();
            for name in here.difference(&defined) {
                problems.push(format!("{}: {place}: there is no variable `{name}`", dashboard.path));
            }
            used.extend(here);
        }
        for name in defined.difference(&used) {
            problems.push(format!("{}: no query uses the variable `{name}`", dashboard.path));
        }
    }
    problems
}

/// Links lead to dashboards that exist, and set variables that these have, from labels that the panel has.
fn links(tree: &Tree) -> Vec<String> {
    let dashboards = inspect::dashboards(tree);
    let variables: BTreeMap<&str, BTreeSet<&str>> = dashboards
        .iter()
        .map(|each| (text(&each.json, "uid"), each.variables().iter().map(|variable| text(variable, "name")).collect()))
        .collect();
    let target = Regex::new(r"^/d/([a-z0-9-]+)\?").unwrap();
    let setting = Regex::new(r"var-(\w+)=\$\{([^}]*)\}").unwrap();
    let mut problems = Vec::new();
    for dashboard in &dashboards {
        for panel in dashboard.panels() {
            let mut say =
                |what: String| problems.push(format!("{}: panel `{}`: {what}", dashboard.path, text(panel, "title")));
            let labels: BTreeSet<String> = list(panel, "/targets")
                .iter()
                .filter_map(inspect::promql_of)
                .flat_map(|expr| promql::look(&dashboard.filled(&expr)).labels)
                .collect();
            for link in list(panel, "/links").iter().chain(list(panel, "/fieldConfig/defaults/links")) {
                let url = text(link, "url");
                let Some(there) = target.captures(url).and_then(|found| variables.get(found.get(1).unwrap().as_str()))
                else {
                    say(format!("the link `{url}` leads to no dashboard"));
                    continue;
                };
                for set in setting.captures_iter(url) {
                    if !there.contains(&set[1]) {
                        say(format!("the link `{url}` sets `{}`, which is no variable there", &set[1]));
                    }
                    let from = set[2].trim_end_matches(":percentencode");
                    if let Some(label) = from.strip_prefix("__field.labels.").or(from.strip_prefix("__data.fields.")) {
                        if !labels.contains(label) {
                            say(format!("the link `{url}` takes `{label}`, which no query of it has"));
                        }
                    } else if !dashboard.variables().iter().any(|variable| text(variable, "name") == from) {
                        say(format!("the link `{url}` takes `{from}`, which is no variable here"));
                    }
                }
            }
        }
    }
    problems
}

#[test]
fn dashboards_are_what_their_sources_make() {
    none(&fresh(&Tree::checkout()));
}

#[test]
#[ignore = "make docs"]
fn write_the_dashboards() {
    let tree = Tree::checkout();
    for (path, text) in generate::all(&tree).unwrap_or_else(|problem| panic!("{problem}")) {
        std::fs::write(tree.path(&path), text).unwrap();
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() {
    none(&shape(&Tree::checkout()));
}

#[test]
fn queries_ask_for_what_exists() {
    none(&names(&Tree::checkout()));
}

#[test]
fn variables_are_defined_and_used() {
    none(&variables(&Tree::checkout()));
}

#[test]
fn links_lead_somewhere() {
    none(&links(&Tree::checkout()));
}

#[test]
fn every_query_is_listed_with_its_variables_filled_in() {
    let queries = queries(&Tree::checkout());
    assert!(queries.len() > 150, "{}", queries.len());
    for query in &queries {
        assert!(!query.expr.contains('$'), "{} {}: {}", query.dashboard, query.place, query.expr);
    }
    assert!(queries.iter().any(|query| query.place == "variable route"));
    assert!(queries.iter().any(|query| query.place.ends_with("(stack)")));
}

#[test]
fn a_stale_dashboard_is_caught() {
    let source = "deploy/grafana/source/red.yaml";
    caught(fresh, source, "title: Request rate", "title: Requests", "run `make docs`");
    caught(fresh, source, "title: Request rate", "titel: Request rate", "unknown field");
    caught(fresh, source, "<target>", "<traget>", "no fragment `traget`");
    caught(fresh, source, "type: stat", "type: graph", "unknown variant");
}

#[test]
fn a_panel_without_unit_description_query_or_room_is_caught() {
    let red = "deploy/grafana/dashboards/red.json";
    caught(shape, red, "\"unit\": \"reqps\"", "\"unit\": \"\"", "has the unit ``");
    caught(shape, red, "\"unit\": \"reqps\"", "\"unit\": \"requests\"", "has the unit `requests`");
    caught(shape, red, "\"targets\": [", "\"targets_\": [", "has no query");
    caught(shape, red, "\"x\": 4,", "\"x\": 3,", "overlap");
    caught(shape, red, "\"x\": 20,", "\"x\": 21,", "24 columns");
}

#[test]
fn a_wrong_name_in_a_query_is_caught() {
    let red = "deploy/grafana/dashboards/red.json";
    caught(
        names,
        red,
        "http_server_active_requests",
        "http_server_active_request",
        "no series `http_server_active_request`",
    );
    caught(
        names,
        red,
        "http_server_request_duration_seconds_count{",
        "http_server_request_duration_seconds{",
        "no series",
    );
    caught(names, red, "slo:availability:error_ratio_rate5m", "slo:availability:error_ratio_rate4m", "no series `slo:");
    caught(names, red, "error_ratio_rate5m{job=", "error_ratio_rate5m{instance=\\\"x\\\",job=", "no label `instance`");
    caught(names, red, "by (http_route)", "by (route)", "groups by `route`");
    caught(names, red, "http_response_status_code=~", "status=~", "has no label `status`");
    caught(
        names,
        red,
        "\"legendFormat\": \"{{http_route}}\"",
        "\"legendFormat\": \"{{route}}\"",
        "legend names `route`",
    );
    caught(names, red, "sum by (le", "sum by (instance", "histogram_quantile needs the label `le`");
    caught(names, red, "resource.service.name", "resource.service.nam", "no span has `resource.service.nam`");
    let logs = "deploy/grafana/dashboards/logs.json";
    caught(names, logs, "{service_name=", "{service=", "no stream label `service`");
    caught(names, logs, "message=\\\"slow_query", "message=\\\"slow_querie", "no line says `slow_querie`");
    caught(names, logs, "level=\\\"ERROR", "level=\\\"error", "no line has the level `error`");
    caught(names, logs, "\"query\": \"ERROR,", "\"query\": \"error,", "no line has the level `error`");
    caught(names, logs, "| __error__=\\\"\\\" [", "[", "add `| __error__");
    caught(names, logs, "duration_ms", "duration_msec", "no field `duration_msec`");
    let resources = "deploy/grafana/dashboards/resources.json";
    caught(names, resources, "job=\\\"postgres\\\"", "job=\\\"postgresql\\\"", "comes with job=\"postgres\"");
    caught(names, resources, "process_open_fds", "process_max_fds", "no dashboard shows `process_open_fds`");
}

#[test]
fn a_wrong_variable_is_caught() {
    let red = "deploy/grafana/dashboards/red.json";
    caught(variables, red, "instance=~\\\"$instance\\\"", "instance=~\\\"$pod\\\"", "no variable `pod`");
    caught(variables, red, "\"name\": \"objective\"", "\"name\": \"goal\"", "no query uses the variable `goal`");
}

#[test]
fn a_broken_link_is_caught() {
    let red = "deploy/grafana/dashboards/red.json";
    caught(links, red, "/d/keel-sql?", "/d/keel-sq?", "leads to no dashboard");
    caught(links, red, "var-route=", "var-http_route=", "no variable there");
    caught(links, red, "labels.http_route:", "labels.route:", "takes `route`");
}
