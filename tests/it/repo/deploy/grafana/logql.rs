//! LogQL and TraceQL against the names that lines and spans have. There is no parser of them for Rust: this reads
//! words and brackets, which is enough to see a wrong name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

use crate::support::process;

/// Labels by which Loki finds lines; the collector sets them.
pub const STREAM: &[&str] = &["service_name", "deployment_environment_name"];

/// What every line can have besides an event's own fields: contract.md, Logs.
const CONTEXT: &[&str] = &[
    "timestamp",
    "level",
    "message",
    "target",
    "service",
    "environment",
    "version",
    "trace_id",
    "span_id",
    "sampled",
    "request_id",
    "correlation_id",
    "tenant_id",
    "principal_id",
    "method",
    "route",
    "path",
    "job",
];

const WORDS: &[&str] = &[
    "and",
    "avg",
    "avg_over_time",
    "bottomk",
    "by",
    "bytes_over_time",
    "count",
    "count_over_time",
    "drop",
    "json",
    "keep",
    "line_format",
    "max",
    "max_over_time",
    "min",
    "or",
    "quantile_over_time",
    "rate",
    "sum",
    "sum_over_time",
    "topk",
    "unwrap",
    "without",
    "__error__",
];

/// As a line says them; `.*` asks for all.
const LEVELS: &[&str] = &["ERROR", "WARN", "INFO", "DEBUG", "TRACE", ".*"];

/// Attributes of spans and resources that queries may use, besides those the catalogue calls searchable.
const SPAN: &[&str] = &[
    "resource.service.name",
    "resource.deployment.environment.name",
    "status",
    "error",
    "duration",
    "name",
    "kind",
    "server",
];

/// What the binary says of lines and spans.
struct Known {
    events: BTreeSet<String>,
    fields: BTreeSet<String>,
    searchable: BTreeSet<String>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let catalogue: Value = serde_json::from_slice(&process::run(&["catalogue"], &BTreeMap::new()).stdout).unwrap();
    let events = catalogue["events"].as_array().unwrap();
    let texts = |values: &Value| -> Vec<String> {
        values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    Known {
        events: events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect(),
        fields: events.iter().flat_map(|event| texts(&event["fields"])).collect(),
        searchable: texts(&catalogue["searchable_attributes"]).iter().map(|name| format!("span.{name}")).collect(),
    }
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern(r#""(?:[^"\\]|\\.)*"|`[^`]*`"#));
static MESSAGE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"message\s*=~?\s*["`]([^"`]*)["`]"#));
static LEVEL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\blevel\s*(?:=~|!~|!=|=)\s*["`]([^"`]*)["`]"#));
static RANGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{[^}]*\}([^\[]*)\[[^\]]*\]"));
static SELECTOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{([^}]*)\}"));
static MATCHER: LazyLock<Regex> = LazyLock::new(|| pattern(r"([A-Za-z_]+)\s*(?:=~|!~|!=|=)"));
static SELECTOR_OR_RANGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{[^}]*\}|\[[^\]]*\]"));
static WORD: LazyLock<Regex> = LazyLock::new(|| pattern("[A-Za-z_][A-Za-z0-9_]*"));
static SPAN_WORD: LazyLock<Regex> = LazyLock::new(|| pattern("[A-Za-z0-9_][A-Za-z0-9_.]*"));
static CHOOSES: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^[a-z_]+\s*(=\s*""|[<>]=?\s*[0-9]|==?\s*[0-9])"#));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern("^[0-9]+(ms|s|m)?$"));

/// Whether lines have such a field.
pub fn is_field(name: &str) -> bool {
    CONTEXT.contains(&name) || KNOWN.fields.contains(name)
}

/// Whether a line says this.
pub fn is_event(name: &str) -> bool {
    KNOWN.events.contains(name)
}

/// Whether spans have it, in the spelling of the documents.
pub fn is_attribute(name: &str) -> bool {
    KNOWN.searchable.contains(&format!("span.{name}")) || SPAN.contains(&format!("resource.{name}").as_str())
}

pub fn problems(query: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for found in MESSAGE.captures_iter(query) {
        for event in found[1].split('|').filter(|event| !KNOWN.events.contains(*event)) {
            problems.push(format!("no line says `{event}`; docs/telemetry.md has the events"));
        }
    }
    for found in LEVEL.captures_iter(query) {
        for level in found[1].split('|').filter(|level| !LEVELS.contains(level)) {
            problems.push(format!("no line has the level `{level}`, only {}", LEVELS.join(", ")));
        }
    }
    let bare = QUOTED.replace_all(query, "\"\"");
    problems.extend(brackets(&bare));
    problems.extend(RANGE.captures_iter(&bare).filter_map(|found| unreadable(&found[1])));
    for label in SELECTOR.captures_iter(&bare).flat_map(|found| MATCHER.captures_iter(found.get(1).unwrap().as_str())) {
        if !STREAM.contains(&&label[1]) {
            problems.push(format!("Loki has no stream label `{}`, only {}", &label[1], STREAM.join(", ")));
        }
    }
    if !bare.contains('{') {
        problems.push("it has no stream selector".to_owned());
    }
    for word in WORD.find_iter(&SELECTOR_OR_RANGE.replace_all(&bare, " ")).map(|found| found.as_str()) {
        if !WORDS.contains(&word) && !is_field(word) {
            problems.push(format!("lines have no field `{word}`; docs/telemetry.md has the events"));
        }
    }
    problems
}

/// Why Loki may answer the whole query with 400: a figure is made of what a stage could not read. In `pipeline` stand
/// the stages between the selector and the range.
fn unreadable(pipeline: &str) -> Option<String> {
    let stages: Vec<&str> = pipeline.split('|').map(str::trim).collect();
    let after = |name: &str| {
        let at = stages.iter().rposition(|stage| stage.split_whitespace().next() == Some(name))?;
        Some(&stages[at + 1..])
    };
    let excluded = |stages: &[&str]| stages.iter().any(|stage| stage.replace(' ', "") == "__error__=\"\"");
    // A field equal to something: a line that is no JSON has none. `!=` and `=~` can be true of nothing.
    let chosen = |stages: &[&str]| stages.iter().any(|stage| CHOOSES.is_match(stage));
    match (after("json"), after("unwrap")) {
        (_, Some(stages)) if !excluded(stages) => {
            Some("a field that is no number makes Loki answer 400: add `| __error__=\"\"` after unwrap".to_owned())
        }
        (Some(stages), _) if !excluded(stages) && !chosen(stages) => {
            Some("a line that is no JSON makes Loki answer 400: add `| __error__=\"\"` after json".to_owned())
        }
        _ => None,
    }
}

fn brackets(text: &str) -> Vec<String> {
    let mut open = Vec::new();
    for char in text.chars() {
        match char {
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' if open.pop() != Some(char) => return vec![format!("`{char}` closes nothing in `{text}`")],
            _ => (),
        }
    }
    open.last().map(|char| format!("`{char}` is missing in `{text}`")).into_iter().collect()
}

pub fn traceql_problems(query: &str) -> Vec<String> {
    let bare = QUOTED.replace_all(query, "\"\"");
    let mut problems = brackets(&bare);
    for word in SPAN_WORD.find_iter(&bare).map(|found| found.as_str()) {
        if !SPAN.contains(&word) && !KNOWN.searchable.contains(word) && !NUMBER.is_match(word) {
            problems.push(format!("no span has `{word}` to search by; docs/telemetry.md has the attributes"));
        }
    }
    problems
}

#[test]
fn a_level_that_no_line_has_is_a_problem() {
    let of = |level: &str| problems(&format!(r#"{{service_name="keel"}} | json | level{level}"#));
    for right in [r#"="ERROR""#, r#"=~"WARN|ERROR""#, r#"!="DEBUG""#, r#"=~".*""#] {
        assert_eq!(of(right), Vec::<String>::new(), "{right}");
    }
    for wrong in [r#"="error""#, r#"=~"WARN|Error""#, r#"!~"WARNING""#, "=`FATAL`"] {
        assert!(of(wrong).iter().any(|problem| problem.contains("no line has the level")), "{wrong}");
    }
}

#[test]
fn a_figure_of_lines_leaves_out_what_it_cannot_read() {
    let of = |stages: &str, range: &str| problems(&format!(r#"rate({{service_name="keel"}} {stages} {range})"#));
    for right in [
        "",
        r#"| json | __error__="""#,
        r#"| json | message="request_completed""#,
        "| json | status >= 500",
        r#"| json | message="request_completed" | unwrap duration_ms | __error__="""#,
    ] {
        assert_eq!(of(right, "[5m]"), Vec::<String>::new(), "{right}");
    }
    for wrong in [
        "| json",
        r#"|= "x" | json"#,
        r#"| message="request_completed" | json"#,
        r#"| json | message!="request_completed""#,
        r#"| json | level=~".*""#,
        r#"| json | message="request_completed" | unwrap duration_ms"#,
    ] {
        assert!(of(wrong, "[5m]").iter().any(|problem| problem.contains("Loki answer 400")), "{wrong}");
        // Lines themselves are shown, whatever they are.
        assert!(
            !problems(&format!(r#"{{service_name="keel"}} {wrong}"#)).iter().any(|it| it.contains("400")),
            "{wrong}"
        );
    }
}
