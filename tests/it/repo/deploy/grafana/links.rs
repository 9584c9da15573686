//! The links between data sources, as Grafana makes them: from exemplars and lines to traces, from spans to lines and
//! metrics. What it does with them was read in `createSpanLink.tsx` of its sources, and in the Tempo data source.

use regex::Regex;
use serde_json::Value;

use super::{
    inspect::{list, text},
    logql, promql,
};

/// Attributes of each span that the links take: resource attributes and semantic conventions of the server span.
const ATTRIBUTES: &[&str] = &["service.name", "deployment.environment.name", "http.route"];

pub fn problems(source: &Value) -> Vec<String> {
    [lines(source), logs(source), metrics(source), shifts(source)].concat()
}

/// From metrics and lines to traces: the label of exemplars, and a field that lines have, as they write it.
fn lines(source: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for exemplar in list(source, "/jsonData/exemplarTraceIdDestinations") {
        // openmetrics.rs writes `# {trace_id="…",span_id="…"}`.
        if text(exemplar, "name") != "trace_id" {
            problems.push(format!("exemplars have no label `{}`, but `trace_id`", text(exemplar, "name")));
        }
    }
    let start = Regex::new(r#"^"([a-z_]+)":"#).unwrap();
    for derived in list(source, "/jsonData/derivedFields") {
        let pattern = text(derived, "matcherRegex");
        let field = start.captures(pattern).map(|found| found[1].to_owned());
        match field {
            Some(field) if logql::is_field(&field) => {
                let line = format!(
                    r#"{{"level":"INFO","{field}":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"}}"#
                );
                let taken =
                    Regex::new(pattern).unwrap().captures(&line).and_then(|found| Some(found.get(1)?.as_str().len()));
                if taken != Some(32) {
                    problems.push(format!("`{pattern}` does not take the 32 digits of a trace id from `{line}`"));
                }
            }
            Some(field) => problems.push(format!("lines have no field `{field}` for `{pattern}`")),
            None => problems.push(format!("`{pattern}` names no field of a JSON line")),
        }
    }
    problems
}

/// The keys and values of `tags`, and what is wrong with them.
fn tags(source: &Value, link: &str) -> (Vec<String>, Vec<String>) {
    let tags = list(source, &format!("/jsonData/{link}/tags"));
    let unknown = tags.iter().filter(|tag| !ATTRIBUTES.contains(&text(tag, "key")));
    let problems = unknown.map(|tag| format!("spans have no `{}` to link by", text(tag, "key"))).collect();
    (tags.iter().map(|tag| text(tag, "value").to_owned()).collect(), problems)
}

/// What a span may have of the tags: nothing, some, all. Grafana leaves out what it has not.
fn possible(tags: &[String]) -> Vec<Vec<String>> {
    (0..1_usize << tags.len())
        .map(|chosen| {
            let here = tags.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
            here.map(|(_, label)| format!(r#"{label}="x""#)).collect()
        })
        .collect()
}

/// From a span to its lines. Without a tag there is no link: a variable without a value takes it away.
fn logs(source: &Value) -> Vec<String> {
    let (tags, mut problems) = tags(source, "tracesToLogsV2");
    let Some(query) = source.pointer("/jsonData/tracesToLogsV2/query").and_then(Value::as_str) else {
        return problems;
    };
    for has in possible(&tags).into_iter().filter(|has| !has.is_empty()) {
        let filled = query
            .replace("$$", "$")
            .replace("${__tags}", &has.join(", "))
            .replace("$__tags", &has.join(", "))
            .replace("${__trace.traceId}", "4bf92f3577b34da6a3ce929d0e0e4736");
        problems.extend(logql::problems(&filled));
        if filled.contains('$') {
            problems.push(format!("`{filled}`: a variable that the link does not have"));
        }
    }
    problems
}

/// From a span to metrics. Here the link is there without any tag too, and what it asks has to be a query still.
fn metrics(source: &Value) -> Vec<String> {
    let (tags, mut problems) = tags(source, "tracesToMetrics");
    for query in list(source, "/jsonData/tracesToMetrics/queries") {
        let name = text(query, "name");
        for has in possible(&tags) {
            let filled = text(query, "query").replace("$$", "$").replace("$__tags", &has.join(", "));
            if filled.contains('$') {
                problems.push(format!("{name}: Grafana fills in only `$__tags` here, not `{filled}`"));
            }
            let found = promql::look(&filled).problems.into_iter();
            problems.extend(found.map(|problem| format!("{name}, with {} tags: {problem}", has.len())));
        }
    }
    problems
}

/// How far before and after a span one looks. The links add both to the span's times; the search for a trace takes the
/// first off the start of the range.
fn shifts(source: &Value) -> Vec<String> {
    let time = Regex::new("^-?[0-9]+[smh]$").unwrap();
    let mut problems = Vec::new();
    for link in ["tracesToLogsV2", "tracesToMetrics", "traceQuery"] {
        let settings = &source["jsonData"][link];
        for key in ["spanStartTimeShift", "spanEndTimeShift"].into_iter().filter(|_| !settings.is_null()) {
            let shift = text(settings, key);
            let before = key == "spanStartTimeShift" && link != "traceQuery";
            if !time.is_match(shift) {
                problems.push(format!("{link}: `{shift}` is no time for {key}: `5m`"));
            } else if before && !shift.starts_with('-') {
                problems.push(format!("{link}: Grafana adds `{shift}` to the start: write `-{shift}`"));
            } else if !before && shift.starts_with('-') {
                problems.push(format!("{link}: with `{shift}` for {key} one looks at less, not at more: drop the `-`"));
            }
        }
    }
    problems
}

#[test]
fn a_span_has_none_some_or_all_of_the_tags() {
    let tags = ["job", "http_route"].map(str::to_owned);
    assert_eq!(possible(&[]), [Vec::<String>::new()]);
    let counts: Vec<usize> = possible(&tags).iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 1, 1, 2]);
}
