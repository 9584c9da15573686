//! Secrets by their form, in free text: cards, account numbers, tokens, keys, credentials in URLs and
//! in `name=value`, addresses; and the process's own secrets by their value.
//!
//! Most text has none of this. One pass looks for what every rule needs (`@`, `://`, `key`, a run of
//! digits…); only text that has it is searched by the rules.

use std::{
    borrow::Cow,
    sync::{LazyLock, OnceLock},
};

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Captures, Regex};

use super::MASK;

/// Shorter ones are words that ordinary text contains.
const SHORTEST_SECRET: usize = 8;

static OWN: OnceLock<AhoCorasick> = OnceLock::new();

/// Hides these values wherever they appear, from now on. The first call counts: it is the boot's.
pub fn protect(secrets: impl IntoIterator<Item = String>) {
    let secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
    let searcher = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(secrets);
    if let Ok(searcher) = searcher {
        OWN.get_or_init(|| searcher);
    }
}

/// What some rule needs to match at all, in any case.
const HINTS: &[&str] = &[
    "@",
    "%40",
    "://",
    "eyj",
    "-----begin",
    "bearer",
    "basic",
    "digest",
    "negotiate",
    "akia",
    "asia",
    "abia",
    "acca",
    "sk_",
    "rk_",
    "ak_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "aiza",
    "npm_",
    "sg.",
    "sk-",
    "passw",
    "pwd",
    "passphrase",
    "secret",
    "key",
    "token",
    "authorization",
    "cookie",
    "credential",
    "session",
    "signature",
    "code=",
    "sig=",
    "sid=",
];

static HINT: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(HINTS).expect("the hints are literals"));

/// The text without secrets; borrowed when there is none.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if let Some(own) = OWN.get().filter(|own| own.is_match(&*text)) {
        let mut clean = String::with_capacity(text.len());
        own.replace_all_with(&text, &mut clean, |_, _, out| {
            out.push_str(MASK);
            true
        });
        text = Cow::Owned(clean);
    }
    if HINT.is_match(&*text) {
        let schemes = SCHEME.replace_all(&text, |found: &Captures<'_>| {
            if is_credential(&found[2]) { format!("{}{MASK}", &found[1]) } else { found[0].to_owned() }
        });
        if let Cow::Owned(clean) = schemes {
            text = Cow::Owned(clean);
        }
        for (rule, replacement) in &*RULES {
            if let Cow::Owned(clean) = rule.replace_all(&text, *replacement) {
                text = Cow::Owned(clean);
            }
        }
    }
    if has_number(&text) {
        for (pattern, is_one) in [(&*IBAN, is_iban as fn(&str) -> bool), (&*CARD, is_card)] {
            let replaced =
                pattern.replace_all(
                    &text,
                    |found: &Captures<'_>| {
                        if is_one(&found[0]) { MASK.to_owned() } else { found[0].to_owned() }
                    },
                );
            if let Cow::Owned(clean) = replaced {
                text = Cow::Owned(clean);
            }
        }
        if let Cow::Owned(clean) = SSN.replace_all(&text, MASK) {
            text = Cow::Owned(clean);
        }
    }
    text
}

/// Nine digits, with nothing but single blanks and hyphens between them: the shortest number below.
fn has_number(text: &str) -> bool {
    let (mut digits, mut gap) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => (digits, gap) = (digits + 1, 0),
            b' ' | b'-' if digits > 0 && gap == 0 => gap = 1,
            b'A'..=b'Z' if digits > 0 => gap = 0,
            _ => digits = 0,
        }
        if digits >= 9 {
            return true;
        }
    }
    false
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a literal, compiled by a test")
}

/// What follows the name of an HTTP authentication scheme.
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b((?:bearer|basic|digest|negotiate)\s+)([A-Za-z0-9._~+/=-]{8,})"));
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d(?:[ -]?\d){12,18}\b"));
static IBAN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"));
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d{3}-\d{2}-\d{4}\b"));

/// In this order: what is whole (a PEM block, a URL) before what could be a part of it.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        // A key block, also one that was cut off.
        (r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", "[REDACTED]"),
        // Credentials of a database URL, up to the last @: passwords hold @ and / unescaped.
        (r#"(?i)\b((?:postgres(?:ql)?|mysql|mariadb|rediss?|amqps?|mongodb(?:\+srv)?)://)[^\s"'<>]*@"#, "${1}[REDACTED]@"),
        (r#"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/"'<>]*@"#, "${1}[REDACTED]@"),
        // Query parameters by name.
        (
            r#"(?i)([?&;](?:[^=&\s"']*(?:token|secret|passw|pwd|api[_-]?key|access[_-]?key|signature|credential|session|email|auth)[^=&\s"']*|sig|code|key|sid)=)[^&\s"'#]+"#,
            "${1}[REDACTED]",
        ),
        // JSON Web Tokens, with or without a signature.
        (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*", "[REDACTED]"),
        // Keys of vendors, and our own.
        (r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", "[REDACTED]"),
        (
            r"\b(?:ak_[A-Za-z0-9]{12}_[A-Za-z0-9]{32}|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{60,}|glpat-[\w-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}|SG\.[\w-]{16,}\.[\w-]{16,}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,})",
            "[REDACTED]",
        ),
        // name=value, name: value, "name":"value", name: Some("value"), in any nesting of quotes.
        (
            r#"(?i)((?:^|[^a-z])(?:[a-z0-9]*[_-]?(?:password|passwd|pwd|passphrase|secret|api[_-]?key|apikey|access[_-]?key|access[_-]?token|refresh[_-]?token|id[_-]?token|auth[_-]?token|private[_-]?key|authorization|cookie))\\*["']?\s*(?:=>|[:=])\s*(?:Some\()?\\*["']?)((?:bearer|basic)\s+)?[^\s"',;&})\\\[]+"#,
            "${1}[REDACTED]",
        ),
        (r"(?i)\b[a-z0-9._%+-]{1,64}(?:@|%40)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*\.[a-z]{2,24}\b", "[REDACTED]"),
    ]
    .into_iter()
    .map(|(text, replacement)| (pattern(text), replacement))
    .collect()
});

/// A token and no word: "basic information" is no secret.
fn is_credential(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b'=')
}

/// A number a card can have: issuer, length and check digit (Luhn).
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.bytes().filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0')).collect();
    let (two, four) = (digits[0] * 10 + digits[1], digits[..4].iter().fold(0, |number, digit| number * 10 + digit));
    let issued = match digits.len() {
        13 | 19 if digits[0] == 4 => true,
        15 => matches!(two, 34 | 37),
        16 => {
            digits[0] == 4 || matches!(two, 35 | 51..=55 | 62 | 65) || matches!(four, 2221..=2720 | 6011 | 6440..=6499)
        }
        14 => matches!(two, 36 | 38),
        17..=19 => two == 62,
        _ => false,
    };
    let sum = digits.iter().rev().enumerate().map(|(at, digit)| match (at % 2, digit * 2) {
        (0, _) => *digit,
        (_, double) if double > 9 => double - 9,
        (_, double) => double,
    });
    issued && sum.sum::<u32>() % 10 == 0
}

/// An account number whose check digits fit (ISO 13616, mod 97).
fn is_iban(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let turned = plain[4..].chars().chain(plain[..4].chars());
    let rest = turned
        .filter_map(|c| c.to_digit(36))
        .fold(0, |rest, value| if value > 9 { (rest * 100 + value) % 97 } else { (rest * 10 + value) % 97 });
    rest == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets that are found wherever they stand.
    const SECRETS: &[&str] = &[
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555555555554444",
        "378282246310005",
        "6011111111111117",
        "3530111333300000",
        "DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "FR1420041010050500013M02606",
        "078-05-1120",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.",
        "Bearer abc.def-ghi_123456",
        "Basic dXNlcjpwYXNzd29yZA==",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "rk_test_4eC39HqLyjWDarjtT1zdp7dc",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "glpat-abcdefghij0123456789",
        "xoxb-123456789012-abcdefghij",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789",
        "SG.abcdefghijklmnop.abcdefghijklmnop",
        "sk-ant-abcdefghij0123456789xyz",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ak_PuSaXLnWTIZy_haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25",
        "postgres://app:s3cr3tpw@db:5432/app",
        "postgres://app:p@ss/w0rd@db/app",
        "redis://:hunter22@cache:6379/0",
        "https://user:tok3n@api.example.com/x",
        "jane.doe+tag@example.co.uk",
        "jane%40example.com",
    ];

    /// Places a secret can stand in.
    const PLACES: &[&str] = &[
        "{}",
        "value {} and more",
        "({})",
        "[{}]",
        "\"{}\"",
        "'{}'",
        "{\"a\":[\"{}\"]}",
        "{\\\"a\\\":\\\"{}\\\"}",
        "panicked at 'bad: {}'",
        "line one\n{}\nline three",
        "field={}",
        "a, {}, b",
    ];

    /// The part of a secret that must be gone: what is left over names the kind at most.
    fn core(secret: &str) -> &str {
        let rest =
            secret.split_once("://").map_or(secret, |(_, rest)| rest.rsplit_once('@').map_or(rest, |(user, _)| user));
        rest.rsplit([' ', ':']).next().unwrap()
    }

    #[test]
    fn secrets_are_found_in_every_place() {
        let mut vectors = 0;
        for secret in SECRETS {
            for place in PLACES {
                let text = place.replace("{}", secret);
                let clean = scrub(&text);
                assert!(!clean.contains(secret) && !clean.contains(core(secret)), "{text:?} -> {clean:?}");
                assert!(clean.contains(MASK), "{text:?} -> {clean:?}");
                vectors += 1;
            }
        }
        assert!(vectors >= 300, "{vectors}");
    }

    #[test]
    fn secrets_are_found_by_the_name_before_them() {
        const NAMES: &[&str] = &[
            "password",
            "Password",
            "PASSWORD",
            "passwd",
            "pwd",
            "db_password",
            "secret",
            "client_secret",
            "clientSecret",
            "api_key",
            "apiKey",
            "API-KEY",
            "access_token",
            "accessToken",
            "refresh_token",
            "private_key",
            "authorization",
            "Set-Cookie",
            "aws_secret_access_key",
        ];
        const FORMS: &[&str] = &[
            "{n}={v}",
            "{n}: {v}",
            "\"{n}\":\"{v}\"",
            "\\\"{n}\\\":\\\"{v}\\\"",
            "Config { {n}: Some(\"{v}\"), host: \"x\" }",
            "host=db {n}={v} user=x",
            "{n} => '{v}'",
            "?{n}={v}&limit=1",
        ];
        for name in NAMES {
            for form in FORMS {
                let text = form.replace("{n}", name).replace("{v}", "hunter2xyz");
                let clean = scrub(&text);
                assert!(!clean.contains("hunter2xyz"), "{text:?} -> {clean:?}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
            "order 123e4567-e89b-12d3-a456-426614174000",
            "01a1fb75-faf8-755a-b806-df5192a3e0c4",
            "ts_ns 1763639853000000000 ok",
            "tokens_used=512 max_tokens=2048",
            "token_count: 7",
            "duration_ms=1234 status=200",
            "path /v1/orders/{id}",
            "SELECT id FROM orders WHERE tenant_id = $1 AND secret_ref = $2",
            "version v1.2.3 sha 1d15be8a5fd1d1bcdd37fb9e8aa3c9c2971b24fb",
            "GET https://api.example.com/v1/users/@me 200",
            "page_token=abc&limit=10",
            "1234567890123456",
            "phone ext 123-45-678",
            "2026-11-20T11:44:36.123456789Z",
            "key_id PuSaXLnWTIZy",
            "http://127.0.0.1:8080/health/ready",
            "the monkey took the keyboard",
            "basic information",
            "a bearer of news",
            "cookies are fine",
            "idempotency_key k-1",
            "idempotent-replayed: true",
            "password is required",
            "public_key",
            "bytes 0-1023/2048",
            "10.0.0.1:5432",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn the_processs_own_secrets_are_known_by_value() {
        protect(["correct horse battery".to_owned(), "short".to_owned()]);
        assert_eq!(scrub("it was correct horse battery, a short one"), "it was [REDACTED], a short one");
    }
}
