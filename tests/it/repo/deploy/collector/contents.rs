//! What is made of a line, and what is hidden of spans and lines.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{AGENT, COMPOSE, GATEWAY, LOKI, read, searchable, strings};
use crate::repo::deploy::{Tree, caught, none, printed};

/// Patterns as the collector reads them: `$$` is a `$` there.
fn patterns(file: &Value, which: &str) -> Result<Vec<Regex>, regex::Error> {
    let patterns = strings(&file["processors"]["redaction"][which]);
    patterns.into_iter().map(|pattern| Regex::new(&pattern.replace("$$", "$"))).collect()
}

/// As the processor does it: one pattern after the other, and only what matches is replaced.
fn masked(values: &[Regex], text: &str) -> String {
    values.iter().fold(text.to_owned(), |text, pattern| pattern.replace_all(&text, "****").into_owned())
}

/// What the service puts on spans and resources besides what is searched by.
const EMITTED: &[&str] = &[
    "client.address",
    "db.collection.name",
    "db.namespace",
    "db.operation.name",
    "db.query.summary",
    "db.query.text",
    "db.response.returned_rows",
    "db.response.status_code",
    "db.system.name",
    "deployment.environment.name",
    "http.request.header.x-request-id",
    "http.request.method",
    "http.request.method_original",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "messaging.destination.name",
    "messaging.message.id",
    "messaging.operation.type",
    "messaging.system",
    "network.protocol.version",
    "server.address",
    "server.port",
    "service.instance.id",
    "service.name",
    "service.version",
    "url.full",
    "url.path",
    "url.scheme",
    "url.template",
    "user_agent.original",
    "vcs.ref.head.revision",
];

fn wrong_redaction(tree: &Tree) -> Vec<String> {
    let file = read(tree, COMPOSE);
    let (keys, values) = match (patterns(&file, "blocked_key_patterns"), patterns(&file, "blocked_values")) {
        (Ok(keys), Ok(values)) => (keys, values),
        (Err(error), _) | (_, Err(error)) => return vec![format!("{COMPOSE}: redaction: {error}")],
    };
    let mut problems = Vec::new();
    if file["processors"]["redaction"] != read(tree, GATEWAY)["processors"]["redaction"] {
        problems.push(format!("{COMPOSE} and {GATEWAY} do not redact alike"));
    }
    let searchable = searchable();
    let named = |key: &str| keys.iter().any(|pattern| pattern.is_match(key));
    for key in EMITTED.iter().copied().chain(searchable.iter().map(String::as_str)).filter(|key| named(key)) {
        problems.push(format!("{COMPOSE}: redaction would hide {key}, which the service means to be seen"));
    }
    for key in [
        "authorization",
        "http.request.header.authorization",
        "password",
        "db_password",
        "api_key",
        "x-api-key",
        "client.secret",
        "set-cookie",
        "refresh_token",
        "session.id",
        "user.email",
        "sentry.dsn",
        "auth.pepper",
    ] {
        if !named(key) {
            problems.push(format!("{COMPOSE}: redaction would let {key} through"));
        }
        let name = key.rsplit("header.").next().unwrap();
        for line in [
            format!(r#"{{"level":"INFO","{name}":"hun\"ter2-tail","status":201}}"#),
            format!(r#"{{"level":"INFO","body":"{{\"{name}\": \"hunter2-tail\"}}","status":201}}"#),
        ] {
            let left = masked(&values, &line);
            if left.contains("tail") || !left.contains(r#""status":201"#) {
                problems.push(format!("{COMPOSE}: redaction would make `{left}` of the line `{line}`"));
            }
        }
    }
    // Put together here: whole, they would look like leaks to who searches this repository for them. The last part is
    // what must not be left.
    let secrets = [
        ["ak_01JTESTTESTTEST", "_abcdefghij", "klmnop"],
        ["eyJhbGciOiJIUzI1NiJ9.", "eyJzdWIiOiIxIn0.", "c2ln"],
        ["AKIA", "IOSFODNN7", "EXAMPLE"],
        ["sk_live_", "4eC39HqLyjWDarjt", "T1zdp7dc"],
        ["ghp_", "abcdefghijklmnopqrstuvwxyz", "0123456789"],
        ["-----BEGIN RSA ", "PRIVATE KEY-----\nMIIEpAIB/A+K==\nMIIE", "pAIBTAIL=\n-----END RSA PRIVATE KEY-----"],
        [r"key: -----BEGIN ", r"PRIVATE KEY-----\nMIIEvQIB\nMIIE", r"pAIBTAIL\n-----END PRIVATE KEY-----"],
        [r"-----BEGIN EC ", r"PRIVATE KEY-----\\nMIIEvQIB\\n", r"pAIBTAIL"],
        ["-----BEGIN RSA ", "PRIVATE KEY-----\nDEK-Info: AES-128-CBC,A0\n\nMIIE", "pAIBTAIL="],
        ["Authorization: Bearer ", "abcdefghijklmnopqrst", "uvwxyz"],
        ["postgres://keel_app:", "hunter", "2@"],
        ["4111 1111 ", "1111 ", "1111"],
    ];
    for [start, middle, tail] in secrets {
        let left = masked(&values, &[start, middle, tail].concat());
        if left.contains(tail) || left.contains("TAIL") {
            problems.push(format!("{COMPOSE}: redaction would make `{left}` of `{start}{middle}{tail}`"));
        }
    }
    let plain = [
        r#"{"timestamp":"2026-01-02T03:04:05.678901Z","level":"INFO","message":"request_completed","trace_id":"4111111111111111411111111111111a","span_id":"4111111111111111","request_id":"01975b2c-4123-4567-8912-412345678912","route":"/v1/orders/{order_id}","status":201}"#,
        "SELECT id, name FROM products WHERE tenant_id = $1",
        "http://payment.example:9090/charges",
        "Mozilla/5.0 (X11)",
        "basic information about the bearer of bad news",
    ];
    let catalogue: Value = serde_json::from_str(&printed(&["catalogue"])).unwrap();
    let fields = catalogue["events"].as_array().unwrap().iter().flat_map(|event| strings(&event["fields"]));
    let lines: Vec<String> = fields.map(|field| format!(r#"{{"message":"m","{field}":"v"}}"#)).collect();
    for text in plain.into_iter().chain(lines.iter().map(String::as_str)).filter(|text| masked(&values, text) != *text)
    {
        problems.push(format!("{COMPOSE}: redaction would mask a part of `{text}`"));
    }
    problems
}

/// What the transformation language has, of the functions, paths and enums that are used here: read in contrib's
/// pkg/ottl (ottlfuncs, contexts/internal/ctxlog) of 0.150.
const LANGUAGE: &[&str] = &[
    "IsMatch",
    "ParseJSON",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_WARN",
    "Time",
    "delete_matching_keys",
    "log.attributes",
    "log.body",
    "log.cache",
    "log.severity_number",
    "log.severity_text",
    "log.span_id.string",
    "log.time",
    "log.trace_id.string",
    "merge_maps",
    "nil",
    "resource.attributes",
    "set",
    "where",
];

/// Words of statements and conditions that the language does not have.
fn foreign_words(path: &str, file: &Value) -> Vec<String> {
    let text = Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap();
    let word = Regex::new(r"[A-Za-z_][A-Za-z0-9_.]*").unwrap();
    let groups = file["processors"]["transform/lines"]["log_statements"].as_array().into_iter().flatten();
    let written = groups.flat_map(|group| [strings(&group["statements"]), strings(&group["conditions"])].concat());
    let mut problems = Vec::new();
    for statement in written {
        let bare = text.replace_all(statement, "");
        if bare.matches('(').count() != bare.matches(')').count() {
            problems.push(format!("{path}: brackets of `{statement}`"));
        }
        for found in word.find_iter(&bare).filter(|found| !LANGUAGE.contains(&found.as_str())) {
            problems.push(format!("{path}: OTTL knows no `{}`: {statement}", found.as_str()));
        }
    }
    problems
}

/// The statements of `transform/lines` for what is JSON.
fn statements(file: &Value) -> Vec<String> {
    let groups = file["processors"]["transform/lines"]["log_statements"].as_array();
    let json = groups.into_iter().flatten().filter(|group| group["conditions"].to_string().contains("IsMatch"));
    json.flat_map(|group| strings(&group["statements"])).map(ToOwned::to_owned).collect()
}

/// Attributes that every line gets, whatever is in it.
fn told(file: &Value) -> BTreeSet<String> {
    let set = Regex::new(r#"^set\(log\.attributes\["([^"]+)"\], "?[^"]"#).unwrap();
    let groups = file["processors"]["transform/lines"]["log_statements"].as_array().into_iter().flatten();
    let general = groups.filter(|group| !group["conditions"].to_string().contains("IsMatch"));
    let statements = general.flat_map(|group| strings(&group["statements"]));
    statements.filter_map(|statement| Some(set.captures(statement)?[1].to_owned())).collect()
}

fn wrong_lines(tree: &Tree) -> Vec<String> {
    let (compose, agent) = (read(tree, COMPOSE), read(tree, AGENT));
    let mut problems = [foreign_words(COMPOSE, &compose), foreign_words(AGENT, &agent)].concat();
    if statements(&compose) != statements(&agent) || statements(&agent).is_empty() {
        problems.push(format!("{COMPOSE} and {AGENT} do not make the same of a line (transform/lines)"));
    }
    let known = [COMPOSE, AGENT].map(|path| (path, told(&read(tree, path))));
    for label in ["service.name", "deployment.environment.name"] {
        for (path, _) in known.iter().filter(|(_, told)| !told.contains(label)) {
            problems.push(format!("{path}: a line that is no JSON gets no {label}, by which Loki is asked"));
        }
    }
    let reference = printed(&["catalogue", "--markdown"]);
    let every = reference.lines().find(|line| line.starts_with("Every line has ")).unwrap_or_default();
    let field = Regex::new(r#"log\.cache\["([a-z_]+)"\]"#).unwrap();
    for statement in statements(&agent) {
        for found in field.captures_iter(&statement) {
            // `severity` is a field of the events that must page.
            if &found[1] != "severity" && !every.contains(&format!("`{}`", &found[1])) {
                problems.push(format!("{AGENT}: no line has `{}`: {statement}", &found[1]));
            }
        }
    }
    let labels: Vec<String> =
        read(tree, LOKI)["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|config| config["action"] == "index_label")
            .flat_map(|config| strings(&config["attributes"]).into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
            .collect();
    if labels != ["service.name", "deployment.environment.name"] {
        problems.push(format!(
            "{LOKI}: the labels are {labels:?}: each value of each other one would be a stream of its own"
        ));
    }
    for (path, file) in [(COMPOSE, &compose), (AGENT, &agent)] {
        let keys = &file["processors"]["groupbyattrs"]["keys"];
        for label in labels.iter().filter(|label| !strings(keys).contains(&label.as_str())) {
            problems.push(format!("{path}: {label} does not reach the resource, where Loki's label comes from"));
        }
    }
    problems
}

#[test]
fn redaction_knows_secrets_from_what_is_meant_to_be_seen() {
    none(&wrong_redaction(&Tree::checkout()));
    caught(wrong_redaction, COMPOSE, "|token|", "|", "refresh_token");
    caught(wrong_redaction, COMPOSE, "\\\\bak_", "\\\\bkey_", "`ak_");
    caught(wrong_redaction, COMPOSE, "KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,\\\\s]", "KEY(?:[A-Z]", "pAIBTAIL");
    caught(wrong_redaction, COMPOSE, "(?i)\\\"[^\\\"]*(password|", "(?i)\\\"[^\\\"]*(", "\"db_password\":\"hun");
    caught(wrong_redaction, COMPOSE, "(cookie|api", "(api", "\"set-cookie\":\"hun");
    caught(wrong_redaction, COMPOSE, "(?i)(password", "(?i)(request|password", "hide http.request");
    caught(wrong_redaction, COMPOSE, "(?i)(password", "(?i)((password", "redaction: regex parse error");
    caught(wrong_redaction, GATEWAY, "allow_all_keys: true", "allow_all_keys: false", "do not redact alike");
}

#[test]
fn a_misspelt_statement_is_caught() {
    caught(wrong_lines, COMPOSE, "set(log.time", "set(log.timestamp", "no `log.timestamp`");
    caught(wrong_lines, AGENT, "merge_maps(", "merge_map(", "no `merge_map`");
    caught(wrong_lines, AGENT, "ParseJSON(log.body)", "ParseJSON(log.body", "brackets of");
    caught(wrong_lines, COMPOSE, "SEVERITY_NUMBER_WARN", "SEVERITY_NUMBER_WARNING", "no `SEVERITY_NUMBER_WARNING`");
}

#[test]
fn a_line_keeps_its_labels_few_and_gives_its_trace_to_the_record() {
    none(&wrong_lines(&Tree::checkout()));
    caught(wrong_lines, AGENT, "log.cache[\"trace_id\"]", "log.cache[\"trace\"]", "no line has `trace`");
    caught(wrong_lines, COMPOSE, "log.cache[\"service\"]", "log.cache[\"name\"]", "do not make the same");
    caught(
        wrong_lines,
        AGENT,
        "          - set(log.attributes[\"deployment.environment.name\"], \"$",
        "          - set(log.attributes[\"environment\"], \"$",
        "gets no deployment.environment.name",
    );
    caught(
        wrong_lines,
        LOKI,
        "            - deployment.environment.name\n",
        "            - deployment.environment.name\n            - k8s.pod.name\n",
        "k8s.pod.name",
    );
    caught(
        wrong_lines,
        COMPOSE,
        "      - deployment.environment.name\n\n  # The second",
        "\n  # The second",
        "does not reach the resource",
    );
}
