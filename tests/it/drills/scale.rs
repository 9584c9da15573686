//! Rules and Alertmanager's configuration with time that runs sixty times as fast: five minutes are five seconds. Only
//! durations are scaled, never thresholds.

use serde_json::{Value, json};

/// So many seconds of production are one of a drill.
pub const FACTOR: u64 = 60;
/// Scrapes and evaluations are a second apart: nothing shorter can be told.
const LEAST_MS: u64 = 1_000;
/// A rate needs two samples, and one may be late.
const LEAST_RANGE_MS: u64 = 3_000;

/// `1h30m` in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = match &rest[digits..digits + letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[digits + letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// Nothing stays nothing; else at least `least`.
fn shorter(text: &str, least: u64) -> Option<String> {
    let scaled = match milliseconds(text)? {
        0 => 0,
        long => (long / FACTOR).max(least),
    };
    Some(if scaled.is_multiple_of(1_000) { format!("{}s", scaled / 1_000) } else { format!("{scaled}ms") })
}

/// A duration of a configuration.
pub fn duration(text: &str) -> String {
    shorter(text, LEAST_MS).unwrap_or_else(|| panic!("`{text}` is no duration"))
}

/// An expression: its ranges, the steps of its subqueries, its offsets. What is in quotes or a comment stays.
pub fn expression(expr: &str) -> String {
    let mut scaled = String::new();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' | '`' => quoted(rest, first),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '[' => {
                let end = rest.find(']').unwrap_or(rest.len());
                let range: Vec<String> = rest[1..end].split(':').map(|part| range(part.trim())).collect();
                scaled.push_str(&format!("[{}", range.join(":")));
                rest = &rest[end..];
                continue;
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
                if rest[..end].eq_ignore_ascii_case("offset") {
                    let (kept, after) = offset(rest, end);
                    scaled.push_str(&kept);
                    rest = after;
                    continue;
                }
                end
            }
            other => other.len_utf8(),
        };
        scaled.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    scaled
}

/// Where the text in quotes ends with which this begins.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// The default step of a subquery is left empty.
fn range(part: &str) -> String {
    shorter(part, LEAST_RANGE_MS).unwrap_or_else(|| part.to_owned())
}

fn offset(text: &str, end: usize) -> (String, &str) {
    let after = text[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '-');
    let length = after.find(|c: char| !c.is_alphanumeric()).unwrap_or(after.len());
    let between = &text[end..text.len() - after.len()];
    match shorter(&after[..length], LEAST_MS) {
        Some(shorter) => (format!("{}{between}{shorter}", &text[..end]), &after[length..]),
        None => (text[..text.len() - after.len()].to_owned(), after),
    }
}

/// A file of rules.
pub fn rules(mut document: Value) -> Value {
    for group in document["groups"].as_array_mut().into_iter().flatten() {
        scale_keys(group, &["interval"]);
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            scale_keys(rule, &["for", "keep_firing_for"]);
            rule["expr"] = json!(expression(rule["expr"].as_str().unwrap()));
        }
    }
    document
}

fn scale_keys(value: &mut Value, keys: &[&str]) {
    for key in keys {
        if let Some(text) = value.get(*key).and_then(Value::as_str).map(duration) {
            value[*key] = json!(text);
        }
    }
}

/// Alertmanager's configuration, all receivers leading to `url`/‹receiver›.
pub fn alertmanager(mut document: Value, url: &str) -> Value {
    route(&mut document["route"]);
    for receiver in document["receivers"].as_array_mut().into_iter().flatten() {
        let name = receiver["name"].as_str().unwrap().to_owned();
        for hook in receiver["webhook_configs"].as_array_mut().into_iter().flatten() {
            hook.as_object_mut().unwrap().remove("url_file");
            hook["url"] = json!(format!("{url}/{name}"));
        }
    }
    document
}

fn route(route: &mut Value) {
    scale_keys(route, &["group_wait", "group_interval", "repeat_interval"]);
    let children = route.get_mut("routes").and_then(Value::as_array_mut);
    for child in children.into_iter().flatten() {
        self::route(child);
    }
}

#[test]
fn durations_are_scaled_and_have_an_end() {
    for (from, to) in [("1h", "60s"), ("5m", "5s"), ("90s", "1500ms"), ("15s", "1s"), ("1h30m", "90s"), ("0s", "0s")] {
        assert_eq!(duration(from), to);
    }
}

#[test]
fn ranges_steps_and_offsets_of_an_expression_are_scaled() {
    for (from, to) in [
        ("rate(a[1h])", "rate(a[60s])"),
        ("rate(a[5m]) > 5", "rate(a[5s]) > 5"),
        ("max_over_time(a[30m:5m])", "max_over_time(a[30s:5s])"),
        ("max_over_time(a[6h:])", "max_over_time(a[360s:])"),
        ("a offset 1w", "a offset 10080s"),
        ("a[5m] OFFSET -1h > b", "a[5s] OFFSET -60s > b"),
        ("a[ 1m ]", "a[3s]"),
        ("slo:rate5m / on (job) b_rate5m", "slo:rate5m / on (job) b_rate5m"),
        ("a{b=\"[5m] offset 1h\"}[5m] # [1h] \n", "a{b=\"[5m] offset 1h\"}[5s] # [1h] \n"),
        ("a{b=\"\\\"[5m]\"}", "a{b=\"\\\"[5m]\"}"),
        ("a{b=~'[0-9]+',c=`\\`}[5m]", "a{b=~'[0-9]+',c=`\\`}[5s]"),
        ("jobs_oldest_age_seconds > 120", "jobs_oldest_age_seconds > 120"),
        ("a{offset=\"x\"} - offset", "a{offset=\"x\"} - offset"),
    ] {
        assert_eq!(expression(from), to);
    }
}

#[test]
fn rules_are_scaled_without_their_thresholds() {
    let rule = json!({"alert": "A", "expr": "rate(a[5m]) > 5", "for": "2m", "labels": {"severity": "page"}});
    let record = json!({"record": "b", "expr": "a"});
    let scaled = rules(json!({"groups": [{"name": "g", "interval": "15s", "rules": [rule, record]}]}));
    let rule = json!({"alert": "A", "expr": "rate(a[5s]) > 5", "for": "2s", "labels": {"severity": "page"}});
    let record = json!({"record": "b", "expr": "a"});
    assert_eq!(scaled, json!({"groups": [{"name": "g", "interval": "1s", "rules": [rule, record]}]}));
}

#[test]
fn alertmanager_keeps_its_routes_and_leads_to_the_drill() {
    let routes = json!([{"receiver": "page", "group_wait": "0s"}]);
    let hooks = json!([{"url_file": "/etc/page-url", "send_resolved": false}]);
    let config = json!({"route": {"receiver": "page", "group_interval": "5m", "routes": routes}, "receivers": [{"name": "page", "webhook_configs": hooks}]});
    let scaled = alertmanager(config, "http://x/webhook");
    assert_eq!(scaled["route"]["group_interval"], "5s");
    assert_eq!(scaled["route"]["routes"][0], json!({"receiver": "page", "group_wait": "0s"}));
    assert_eq!(
        scaled["receivers"][0]["webhook_configs"][0],
        json!({"url": "http://x/webhook/page", "send_resolved": false})
    );
}
