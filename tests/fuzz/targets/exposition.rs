//! A strict reader of the two formats of metrics, to read back what was written.

use std::collections::{BTreeMap, BTreeSet};

/// One series: its name and its labels. The empty ones are none.
pub type Series = (String, BTreeMap<String, String>);

/// What a scrape says.
#[derive(Debug, Default)]
pub struct Exposition {
    pub help: BTreeMap<String, String>,
    pub kinds: BTreeMap<String, String>,
    pub series: Vec<(Series, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

/// What is in the text.
///
/// # Panics
/// At what the format does not allow.
pub fn read(text: &str, format: Format) -> Exposition {
    let is_strict = format == Format::OpenMetrics;
    let body =
        if is_strict { text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text:?}")) } else { text };
    let (mut read, mut seen) = (Exposition::default(), BTreeSet::new());
    for line in body.split_terminator('\n') {
        let (series, value) = match line.strip_prefix("# ") {
            None => sample(line, is_strict),
            Some(comment) => {
                assert!(comment != "EOF", "an end in the middle: {text:?}");
                let mut words = comment.splitn(3, ' ');
                let (word, name) = (words.next(), words.next().unwrap_or_default().to_owned());
                let rest = words.next().unwrap_or_default();
                let twice = match word {
                    Some("HELP") => read.help.insert(name, unescape(rest, is_strict)),
                    Some("TYPE") => read.kinds.insert(name, rest.to_owned()),
                    _ => panic!("no comment of the format: {line:?}"),
                };
                assert!(twice.is_none(), "said twice: {line:?}");
                continue;
            }
        };
        assert!(seen.insert(series.clone()), "a series stands twice: {line:?}");
        let family = |suffix: &str| series.0.strip_suffix(suffix).is_some_and(|name| read.kinds.contains_key(name));
        let is_known = ["", "_total", "_bucket", "_sum", "_count"].iter().any(|suffix| family(suffix));
        assert!(is_known, "a sample of no family: {line:?}");
        read.series.push((series, value));
    }
    read
}

fn sample(line: &str, is_strict: bool) -> (Series, f64) {
    let bad = |what: &str| -> ! { panic!("{what}: {line:?}") };
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let Some((label, value)) = rest.split_once("=\"") else { bad("no label") };
            if !label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') || label.is_empty() {
                bad("no name of a label");
            }
            let Some(end) = closing(value) else { bad("a value does not end") };
            let written = unescape(&value[..end], true);
            // The formats differ in how they write a bound: `1` and `1.0`.
            let written = if label == "le" { format!("{:?}", number(&written, is_strict)) } else { written };
            if labels.contains_key(label) {
                bad("a label stands twice");
            }
            if !written.is_empty() {
                labels.insert(label.to_owned(), written);
            }
            rest = &value[end + 1..];
            match rest.as_bytes().first() {
                Some(b',') => rest = &rest[1..],
                Some(b'}') => break,
                _ => bad("neither a label nor the end of them"),
            }
        }
        rest = &rest[1..];
    }
    let Some(rest) = rest.strip_prefix(' ') else { bad("no value") };
    let (value, exemplar) = rest.split_once(" # ").map_or((rest, None), |(value, rest)| (value, Some(rest)));
    if exemplar.is_some_and(|exemplar| !is_exemplar(exemplar)) {
        bad("no exemplar");
    }
    ((name.to_owned(), labels), number(value, is_strict))
}

/// `{trace_id="…",span_id="…"} value time`.
fn is_exemplar(text: &str) -> bool {
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = text.strip_prefix("{trace_id=\"").and_then(|rest| {
        let (trace, rest) = rest.split_once("\",span_id=\"")?;
        let (span, rest) = rest.split_once("\"} ")?;
        Some((trace, span, rest.split_once(' ')?))
    });
    parts.is_some_and(|(trace, span, (value, at))| {
        number(value, true);
        is_hex(trace, 32) && is_hex(span, 16) && at.parse::<f64>().is_ok()
    })
}

/// Where the quotation mark stands that no backslash escapes.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescape(text: &str, is_quoted: bool) -> String {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match (c, is_quoted) {
            ('\\', _) => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('"') if is_quoted => out.push('"'),
                other => panic!("no escape of the format: {other:?} in {text:?}"),
            },
            ('"', true) => panic!("a mark that is not escaped: {text:?}"),
            _ => out.push(c),
        }
    }
    out
}

/// As Go reads it in text; OpenMetrics knows one spelling of each.
fn number(text: &str, is_strict: bool) -> f64 {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let is_known = ["+Inf", "-Inf", "NaN"].contains(&text) || !is_strict && ["inf", "-inf"].contains(&text);
    assert!(is_plain || is_known, "no number: {text:?}");
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}
