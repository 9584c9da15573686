//! The data sources that Grafana is provisioned with: keys that it reads, links between them that lead somewhere, and
//! queries of links that ask for what exists.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::{
    Tree, caught,
    grafana::{
        inspect::{self, list, text},
        links,
    },
    none,
};

/// Keys of Grafana 13's documentation of provisioning and of each data source, as far as they are used or may be:
/// Grafana takes any key and ignores what it does not know. `*` is any element of a list.
const KEYS: &[(&str, &str)] = &[
    ("", "access editable isDefault jsonData name orgId type uid url version"),
    // prometheus
    (
        "jsonData.",
        "alertmanagerUid cacheLevel disableRecordingRules exemplarTraceIdDestinations exemplarTraceIdDestinations.* \
         httpMethod incrementalQuerying manageAlerts prometheusType prometheusVersion timeInterval timeout",
    ),
    ("jsonData.exemplarTraceIdDestinations.*.", "datasourceUid name url urlDisplayLabel"),
    // loki
    ("jsonData.", "derivedFields derivedFields.* maxLines"),
    ("jsonData.derivedFields.*.", "datasourceUid matcherRegex matcherType name targetBlank url urlDisplayLabel"),
    // tempo
    ("jsonData.", "nodeGraph search serviceMap spanBar streamingEnabled traceQuery tracesToLogsV2 tracesToMetrics"),
    ("jsonData.nodeGraph.", "enabled"),
    ("jsonData.search.", "hide"),
    ("jsonData.serviceMap.", "datasourceUid"),
    ("jsonData.spanBar.", "tag type"),
    ("jsonData.streamingEnabled.", "metrics search"),
    ("jsonData.traceQuery.", "spanEndTimeShift spanStartTimeShift timeShiftEnabled"),
    (
        "jsonData.tracesToLogsV2.",
        "customQuery datasourceUid filterBySpanID filterByTraceID query spanEndTimeShift spanStartTimeShift tags tags.* \
         tags.*.key tags.*.value",
    ),
    (
        "jsonData.tracesToMetrics.",
        "datasourceUid queries queries.* queries.*.name queries.*.query spanEndTimeShift spanStartTimeShift tags tags.* \
         tags.*.key tags.*.value",
    ),
    // alertmanager
    ("jsonData.", "handleGrafanaManagedAlerts implementation"),
];

fn is_key(key: &str) -> bool {
    KEYS.iter()
        .any(|(at, names)| key.strip_prefix(at).is_some_and(|rest| names.split_whitespace().any(|name| name == rest)))
}

/// Where each uid is served in the composed stack.
const URLS: &[(&str, &str, &str)] = &[
    ("alertmanager", "alertmanager", "http://alertmanager:9093"),
    ("loki", "loki", "http://loki:3100"),
    ("prometheus", "prometheus", "http://prometheus:9090"),
    ("tempo", "tempo", "http://tempo:3200"),
];

const FOLDER: &str = "deploy/grafana/provisioning/datasources";

/// Each data source with the path of its file, by its uid; `$$` read as Grafana reads it.
pub fn sources(tree: &Tree) -> BTreeMap<String, (String, Value)> {
    let mut found = BTreeMap::new();
    for path in tree.files(FOLDER, ".yaml") {
        for document in tree.yaml(&path) {
            for source in list(&document, "/datasources") {
                let uid = text(source, "uid").to_owned();
                assert!(found.insert(uid.clone(), (path.clone(), source.clone())).is_none(), "{path}: `{uid}` again");
            }
        }
    }
    found
}

pub fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(below(key));
                keys(value, &below(key), found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, &below("*"), found)),
        _ => (),
    }
}

/// Values of a key anywhere in a document.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key {
                    found.extend(value.as_str());
                }
                all(value, key, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, key, found)),
        _ => (),
    }
}

fn problems(tree: &Tree) -> Vec<String> {
    let sources = sources(tree);
    let single = Regex::new(r"(^|[^$])(\$\$)*\$([^$]|$)").unwrap();
    let mut problems = Vec::new();
    for (uid, (path, source)) in &sources {
        let mut say = |what: String| problems.push(format!("{path}: {what}"));
        let mut used = BTreeSet::new();
        keys(source, "", &mut used);
        for key in used.iter().filter(|key| !is_key(key)) {
            say(format!("Grafana's documentation has no `{key}`"));
        }
        let is = (uid.as_str(), text(source, "type"), text(source, "url"));
        if !URLS.contains(&is) {
            say(format!("{is:?} is not a data source of the stack: {URLS:?}"));
        }
        if source["editable"] != false {
            say(format!("`{uid}` can be edited: what is changed by hand is lost"));
        }
        let mut named = Vec::new();
        all(source, "datasourceUid", &mut named);
        all(source, "alertmanagerUid", &mut named);
        for other in named.into_iter().filter(|other| !sources.contains_key(*other)) {
            say(format!("the link to `{other}` leads to no data source"));
        }
        // Grafana puts variables of its environment in, and there is none.
        for text in strings(source) {
            if single.is_match(text) {
                say(format!("a single `$` in `{text}`: Grafana replaces it, write `$$`"));
            }
        }
        links::problems(source).into_iter().for_each(say);
    }
    for (uid, ..) in URLS.iter().filter(|(uid, ..)| !sources.contains_key(*uid)) {
        problems.push(format!("{FOLDER}: no data source `{uid}`"));
    }
    problems
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Object(map) => map.values().flat_map(strings).collect(),
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// Each data source that a dashboard asks is provisioned, with its type.
fn asked(tree: &Tree) -> Vec<String> {
    let sources = sources(tree);
    let mut problems = Vec::new();
    for dashboard in inspect::dashboards(tree) {
        let mut references = Vec::new();
        datasources(&dashboard.json, &mut references);
        for reference in references.into_iter().filter(|reference| reference["uid"] != "-- Grafana --") {
            let provisioned = sources.get(text(reference, "uid"));
            if !provisioned.is_some_and(|(_, source)| source["type"] == reference["type"]) {
                problems.push(format!("{}: the data source {reference} is not provisioned", dashboard.path));
            }
        }
        for panel in dashboard.panels() {
            for target in list(panel, "/targets").iter().filter(|target| target["datasource"]["uid"].is_null()) {
                problems.push(format!("{}: {} {target}: no data source", dashboard.path, text(panel, "title")));
            }
        }
    }
    problems
}

fn datasources<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("datasource"));
            map.values().for_each(|value| datasources(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| datasources(value, found)),
        _ => (),
    }
}

#[test]
fn data_sources_are_linked_and_their_links_lead_somewhere() {
    none(&problems(&Tree::checkout()));
}

#[test]
fn dashboards_ask_data_sources_that_are_provisioned() {
    none(&asked(&Tree::checkout()));
}

#[test]
fn a_wrong_name_in_a_data_source_is_caught() {
    let file = |name: &str| format!("{FOLDER}/{name}.yaml");
    let (prometheus, loki, tempo) = (file("prometheus"), file("loki"), file("tempo"));
    caught(problems, &prometheus, "datasourceUid: tempo", "datasourceUid: temp", "the link to `temp`");
    caught(problems, &prometheus, "alertmanagerUid: alertmanager", "alertmanagerUid: alerts", "the link to `alerts`");
    caught(problems, &prometheus, "name: trace_id", "name: traceID", "no label `traceID`");
    caught(problems, &prometheus, ":9090", ":9091", "not a data source of the stack");
    caught(problems, &loki, "derivedFields", "derivedField", "no `jsonData.derivedField`");
    caught(problems, &loki, "\"trace_id\":\"", "\"traceId\":\"", "names no field");
    caught(problems, &loki, "\"trace_id\":\"", "\"traceid\":\"", "no field `traceid`");
    caught(problems, &loki, "{32}", "{16}", "does not take the 32 digits");
    caught(problems, &loki, "$${__value.raw}", "${__value.raw}", "write `$$`");
    caught(problems, &tempo, "value: service_name", "value: service", "no stream label `service`");
    caught(problems, &tempo, "value: http_route", "value: route", "no label `route`");
    caught(problems, &tempo, "key: http.route", "key: http.path", "no `http.path`");
    caught(problems, &tempo, "db_queries_per_request_sum", "db_queries_sum", "no series `db_queries_sum`");
    caught(problems, &tempo, "$${__trace.traceId}", "$${__trace.id}", "a variable that the link does not have");
    caught(problems, &tempo, "{error_type!=\"\",$$__tags}", "{$$__tags,error_type!=\"\"}", "with 0 tags");
    caught(problems, &tempo, "seconds_bucket{$$__tags}", "seconds_bucket{job=\"x\" $$__tags}", "with 1 tags");
    caught(problems, &tempo, "count{$$__tags}[5m]))'", "count{$${__tags}}[5m]))'", "only `$__tags`");
    caught(problems, &tempo, "spanStartTimeShift: -5m", "spanStartTimeShift: 5m", "tracesToLogsV2: Grafana adds `5m`");
    caught(problems, &tempo, "spanEndTimeShift: 15m", "spanEndTimeShift: 15min", "tracesToMetrics: `15min` is no");
    caught(problems, &tempo, "spanStartTimeShift: 1h", "spanStartTimeShift: -1h", "traceQuery: with `-1h`");
    caught(problems, &tempo, "tracesToLogsV2", "tracesToLogsV3", "no `jsonData.tracesToLogsV3`");
}

#[test]
fn a_wrong_uid_in_a_dashboard_is_caught() {
    caught(
        asked,
        "deploy/grafana/dashboards/red.json",
        "\"uid\": \"prometheus\"",
        "\"uid\": \"prom\"",
        "\"uid\":\"prom\"",
    );
    caught(asked, "deploy/grafana/dashboards/logs.json", "\"type\": \"loki\"", "\"type\": \"lok\"", "not provisioned");
    caught(asked, &format!("{FOLDER}/loki.yaml"), "uid: loki", "uid: logs", "\"uid\":\"loki\"");
}
