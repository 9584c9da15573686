//! Addresses: e-mail addresses, and the credentials before the `@` of a URL.

use super::text::{Found, ends_word, is_blank, is_delimited, run, run_back};

/// Passwords of these stand unescaped in configurations, with `@` and `/` in them.
const DATABASES: &[&str] = &[
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "amqp",
    "amqps",
    "mongodb",
    "mongodb+srv",
    "clickhouse",
    "sqlserver",
];

/// Whoever knows the rest of this address can write.
const HOOKS: &[u8] = b"hooks.slack.com/services/";

/// What looks like a top-level domain and ends the names of files and units (`logo@2x.png`).
const NO_DOMAINS: &[&str] =
    &["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "service", "socket", "timer", "slice", "mount", "target"];

/// Looks at the `://` here; returns where to go on. Up to `clear` an earlier search found no `@`.
pub fn find_url(text: &[u8], at: usize, clear: &mut usize, found: &mut Found) -> usize {
    let from = at + 3;
    if from < *clear {
        return from;
    }
    let scheme = &text[run_back(text, at, |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))..at];
    let is_database = DATABASES.iter().any(|name| scheme.eq_ignore_ascii_case(name.as_bytes()));
    let is_part = |byte: u8| !is_blank(byte) && !b"<>\"`/?#".contains(&byte);
    let authority = run(text, from, is_part);
    // A colon before anything but a port begins a password, a slash in it or not.
    let host = run(&text[..authority], from, |byte| byte != b':');
    let has_password = host < authority && host > from && !text[host + 1..authority].iter().all(u8::is_ascii_digit);
    let to = if is_database || (has_password && text[from] != b'[') {
        let is_quote = |at: usize| matches!(text[at], b'"' | b'\'' | b'`' | b'\\') && is_delimited(text, at + 1);
        let is_end = |at: &usize| is_blank(text[*at]) || matches!(text[*at], b'<' | b'>') || is_quote(*at);
        (from..text.len()).find(is_end).unwrap_or(text.len())
    } else {
        authority
    };
    let Some(length) = text[from..to].iter().rposition(|byte| *byte == b'@') else {
        if text[from..].starts_with(HOOKS) {
            let end = run(text, from, |byte| is_part(byte) || byte == b'/');
            found.push(from + HOOKS.len()..end);
            return end;
        }
        *clear = to;
        return from;
    };
    let (credentials, host) = (&text[from..from + length], from + length + 1);
    // "not a Redis URL (redis://user:password@host:port/0)" shows how one is written.
    let is_example = matches!(credentials, b"user:password" | b"user" | b"key")
        && matches!(text[host..], [b'h', b'o', b's', b't', b':' | b'/', ..]);
    if !is_example && !matches!(credentials, b"git" | b"") {
        found.push(from..from + length);
    }
    host
}

/// Looks at the `@` here; returns where to go on.
pub fn find_email(text: &[u8], at: usize, found: &mut Found) -> usize {
    if let Some(password) = password(text, at) {
        found.push(password..at);
        return at + 1;
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) || !byte.is_ascii();
    let start = run_back(text, at, is_part);
    let start =
        start + text[start..at].iter().take_while(|byte| !byte.is_ascii_alphanumeric() && byte.is_ascii()).count();
    if start == at || &text[start..at] == b"git" {
        return at + 1;
    }
    let Some(end) = domain(text, at + 1) else { return at + 1 };
    found.push(start..end);
    end
}

/// The end of the domain that begins here: two labels or more, the last a name and no number.
fn domain(text: &[u8], from: usize) -> Option<usize> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || !byte.is_ascii();
    let whole = &text[from..run(text, from, is_part)];
    let is_number = |label: &[u8]| !label.is_empty() && label.iter().all(u8::is_ascii_digit);
    let mut labels = whole.split(|byte| *byte == b'.');
    let first = labels.next().filter(|label| !label.is_empty())?;
    if is_number(first) && labels.next().is_some_and(is_number) {
        // A version: `package@1.0.0-beta.rc`.
        return None;
    }
    let (mut at, mut end) = (from + first.len(), None);
    for label in whole[first.len()..].split(|byte| *byte == b'.').skip(1) {
        at += 1;
        let name = run(label, 0, |byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
        let is_domain = name >= 2 || label.starts_with(b"xn--");
        if is_domain && !NO_DOMAINS.iter().any(|other| label.eq_ignore_ascii_case(other.as_bytes())) {
            end = Some(at + if is_domain && name >= 2 { name } else { label.len() });
        }
        at += label.len();
    }
    end
}

/// Where the password begins that ends at this `@`, in an address without a scheme:
/// `user:password@host:5432`, `user:password@tcp(host)`.
fn password(text: &[u8], at: usize) -> Option<usize> {
    let start = run_back(text, at, |byte| !is_blank(byte) && !b"\"'`<>()@,;={}".contains(&byte));
    let user = run(&text[..at], start, |byte| byte != b':');
    let after = &text[at + 1..];
    let host = run(after, 0, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let port = run(after, (host + 1).min(after.len()), |byte| byte.is_ascii_digit());
    let has_port = after.get(host) == Some(&b':') && (3..=6).contains(&(port - host)) && ends_word(after, port);
    let is_call = matches!(&after[..host], b"tcp" | b"unix") && after.get(host) == Some(&b'(');
    (user > start && user + 1 < at && (is_call || (host > 0 && has_port))).then_some(user + 1)
}
