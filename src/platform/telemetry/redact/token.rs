//! Tokens by their form: keys as vendors print them and our own, JSON Web Tokens, private key blocks,
//! hashes of passwords, what follows the name of an HTTP authentication scheme, rows in Postgres'
//! messages.

use std::{ops::Range, sync::LazyLock};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use regex::Regex;

use super::text::{Found, HEX, KEY, classes, is_blank, is_word, run, run_back, starts_word};

/// What the rest of a key is made of.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// Letters and digits.
    Plain,
    /// Also `_` and `-`.
    Word,
    /// Also `.`, `/`, `+` and `=`.
    Any,
    /// Three parts and more.
    WebToken,
}

/// How a key begins, and how many characters follow at least: fewer are a name (`sk-learn`).
type Key = (&'static str, usize, Body);
const KEYS: &[Key] = &[
    // Ours: an id, which is public, and at least a part of the secret.
    ("ak_", 21, Body::Word),
    ("eyJ", 0, Body::WebToken),
    ("AKIA", 16, Body::Plain),
    ("ASIA", 16, Body::Plain),
    ("ABIA", 16, Body::Plain),
    ("A3T", 17, Body::Plain),
    ("sk_live_", 10, Body::Plain),
    ("sk_test_", 10, Body::Plain),
    ("rk_live_", 10, Body::Plain),
    ("rk_test_", 10, Body::Plain),
    ("whsec_", 16, Body::Any),
    ("ghp_", 30, Body::Plain),
    ("gho_", 30, Body::Plain),
    ("ghu_", 30, Body::Plain),
    ("ghs_", 30, Body::Plain),
    ("ghr_", 30, Body::Plain),
    ("github_pat_", 40, Body::Word),
    ("glpat-", 20, Body::Word),
    ("gldt-", 20, Body::Word),
    ("glrt-", 20, Body::Word),
    ("xoxa-", 10, Body::Word),
    ("xoxb-", 10, Body::Word),
    ("xoxe-", 10, Body::Word),
    ("xoxe.", 10, Body::Any),
    ("xoxo-", 10, Body::Word),
    ("xoxp-", 10, Body::Word),
    ("xoxr-", 10, Body::Word),
    ("xoxs-", 10, Body::Word),
    ("xapp-", 10, Body::Word),
    ("AIza", 35, Body::Word),
    ("ya29.", 20, Body::Word),
    ("GOCSPX-", 20, Body::Word),
    ("npm_", 36, Body::Plain),
    ("pypi-AgE", 40, Body::Word),
    ("dckr_pat_", 20, Body::Word),
    ("SG.", 30, Body::Any),
    ("sk-", 20, Body::Word),
    ("hf_", 30, Body::Plain),
    ("hvs.", 20, Body::Word),
    ("dop_v1_", 40, Body::Plain),
    ("shpat_", 32, Body::Plain),
    ("glsa_", 30, Body::Word),
    ("sntrys_", 30, Body::Any),
    ("lin_api_", 30, Body::Plain),
    ("AGE-SECRET-KEY-1", 30, Body::Plain),
];

/// The keys by their first letter.
static BEGINNINGS: LazyLock<[Vec<&Key>; 128]> = LazyLock::new(|| {
    let mut beginnings = [const { Vec::new() }; 128];
    for key in KEYS {
        beginnings[usize::from(key.0.as_bytes()[0])].push(key);
    }
    beginnings
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a literal, compiled by a test")
}

/// No key has a shorter part without a dot, and hardly a word of ordinary text is as long.
const SHORTEST: usize = 15;

/// The longest beginning that ends before such a part (`ya29.`).
const BEFORE: usize = 5;

fn is_part(byte: u8) -> bool {
    classes(byte) & KEY != 0
}

/// The next long run of what keys are made of, but no number as ids are: no key is one. Only every
/// fifteenth byte is looked at on the way.
fn next_long(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut from = from;
    loop {
        let probe = from + SHORTEST - 1;
        if !is_part(*text.get(probe)?) {
            from = probe + 1;
            continue;
        }
        let start = run_back(&text[..probe], probe, is_part).max(from);
        let (mut end, mut common) = (start, KEY | HEX);
        while let Some(byte) = text.get(end).filter(|byte| is_part(**byte)) {
            common &= classes(*byte);
            end += 1;
        }
        if end - start >= SHORTEST && common & HEX == 0 {
            return Some(start..end);
        }
        from = end;
    }
}

/// Adds keys and web tokens.
pub fn find(text: &str, found: &mut Found) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(long) = next_long(bytes, at) {
        at = at.max(long.start.saturating_sub(BEFORE));
        while at < long.end {
            at = match token(bytes, at) {
                Ok(range) => {
                    let end = range.end;
                    found.push(range);
                    end
                }
                Err(next) => next,
            };
        }
    }
}

/// The key or web token that begins here, or else where to go on.
fn token(text: &[u8], at: usize) -> Result<Range<usize>, usize> {
    let next = run(text, at, is_word) + 1;
    let keys = BEGINNINGS.get(usize::from(text[at])).map_or(&[][..], Vec::as_slice);
    match keys.iter().find(|(beginning, ..)| text[at..].starts_with(beginning.as_bytes())) {
        _ if !starts_word(text, at) => Err(at + 1),
        Some((_, _, Body::WebToken)) => web_token(text, at),
        Some((beginning, least, body)) => key(text, at..at + beginning.len(), *least, *body).ok_or(next),
        None if matches!(text[..=at], [.., b'\\', b'n' | b'r' | b't']) => Err(at + 1),
        None => Err(next),
    }
}

/// More of a key isn't looked at to tell it from words.
const ENOUGH: usize = 64;

/// A key that begins like this one, if enough follows and it's no words (`sk-learn-contrib-packages`).
fn key(text: &[u8], beginning: Range<usize>, least: usize, body: Body) -> Option<Range<usize>> {
    let is_part = |byte: u8| match body {
        _ if byte.is_ascii_alphanumeric() => true,
        Body::Plain | Body::WebToken => false,
        Body::Word => matches!(byte, b'_' | b'-'),
        Body::Any => b"_-./+=$,".contains(&byte),
    };
    let from = beginning.end;
    let rest = &text[from..run(&text[..(from + ENOUGH).min(text.len())], from, is_part)];
    let is_random = rest.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let is_key = rest.len() >= least && is_random;
    is_key.then(|| beginning.start..run(text, from, is_part))
}

/// A JSON Web Token, signed, unsigned or encrypted; a mail program may have wrapped it.
fn web_token(text: &[u8], at: usize) -> Result<Range<usize>, usize> {
    let part = |from: usize| {
        let mut end = from;
        loop {
            end = run(text, end, is_part);
            let next = run(text, end, is_blank);
            let is_wrapped = next > end && text[end..next].iter().filter(|byte| **byte == b'\n').count() == 1;
            if !is_wrapped || !text.get(next).is_some_and(u8::is_ascii_alphanumeric) {
                return end;
            }
            end = next;
        }
    };
    let header = part(at);
    if text.get(header) != Some(&b'.') || header < at + 8 {
        return Err(header);
    }
    let claims = part(header + 1);
    if text.get(claims) != Some(&b'.') || claims < header + 6 {
        return Err(header + 1);
    }
    // Nothing ends a wrapped signature: a line is a part of it if it can be no sentence.
    let word = |from: usize| run(text, from, |byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let mut end = word(claims + 1);
    loop {
        let line = run(text, end, is_blank);
        let next = word(line);
        if !text[end..line].contains(&b'\n') || next < line + 20 {
            return Ok(at..end);
        }
        end = next;
    }
}

/// Looks at the hyphens here; the end of a private key's block. One that was cut off ends with the
/// text: nobody knows where else.
pub fn find_private_key(text: &str, at: usize, found: &mut Found) -> Option<usize> {
    static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
        pattern(concat!(
            r"\A-----(?:END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?s:.*?)",
            r"(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z))",
        ))
    });
    let bytes = text.as_bytes();
    let is_end = bytes[at..].starts_with(b"-----END ");
    let block = (is_end || bytes[at..].starts_with(b"-----BEGIN ")).then(|| BLOCK.find(&text[at..]))??;
    let is_body = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\\\r\n".contains(&byte);
    // Without its beginning it begins where such lines do.
    let start = if is_end { run_back(bytes, at, is_body) } else { at };
    found.push(start..at + block.end());
    Some(at + block.end())
}

/// Looks at the bracket here: the values of a row that broke a constraint; returns their end.
pub fn find_row(text: &str, at: usize, found: &mut Found) -> Option<usize> {
    text[..at].ends_with("Failing row contains ").then_some(())?;
    let from = at + 1;
    let line = &text[from..from + text[from..].find('\n').unwrap_or(text.len() - from)];
    let end = from + line.rfind(')').unwrap_or(line.len());
    found.push(from..end);
    Some(end)
}

/// Looks at the `$` here: the hash of a password; returns where to go on.
pub fn find_hash(text: &[u8], at: usize, found: &mut Found) -> usize {
    if !HASHES.iter().any(|name| text[at + 1..].starts_with(name)) {
        return at + 1;
    }
    let end = run(text, at, |byte| is_word(byte) || b"$=,+/.-_".contains(&byte));
    if end < at + SHORTEST_HASH {
        return at + 1;
    }
    found.push(at..end);
    end
}

/// How hashes of passwords begin, after a `$`.
const HASHES: &[&[u8]] = &[b"argon2", b"2a$", b"2b$", b"2y$", b"scrypt$", b"pbkdf2"];

/// Less is a name in a text about hashes.
const SHORTEST_HASH: usize = 40;

/// Names of authentication schemes before a token; each has a letter that is rare, at this place.
const SCHEMES: &[(&[u8], usize)] = &[(b"bearer", 0), (b"basic", 0), (b"digest", 2), (b"negotiate", 2)];

/// Whether this is the name of a scheme.
pub fn is_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|(name, _)| word.eq_ignore_ascii_case(name))
}

/// Looks at the `b` or `g` here, which can be a scheme's; returns where to go on.
pub fn find_credential(text: &str, at: usize, found: &mut Found) -> usize {
    static DIGEST: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r#"\A(?i:username|realm|nonce|response)=(?:(?:\\*"[^"]*"|[^\s,"]+)(?:\\*",|,)?[ \t]*(?:\w+=)?)+"#)
    });
    let bytes = text.as_bytes();
    let scheme = SCHEMES.iter().find_map(|(name, letter)| {
        let start = at.checked_sub(*letter)?;
        let word = bytes.get(start..start + name.len())?;
        (word.eq_ignore_ascii_case(name) && starts_word(bytes, start)).then_some((*name, start + name.len()))
    });
    let Some((scheme, end)) = scheme.filter(|(_, end)| bytes.get(*end).copied().is_some_and(is_blank)) else {
        return at + 1;
    };
    let at = end;
    let start = run(bytes, at, is_blank);
    if scheme == b"digest"
        && let Some(parts) = DIGEST.find(&text[start..])
    {
        found.push(start..start + parts.end());
        return start + parts.end();
    }
    let end = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || b"._~+/-".contains(&byte));
    let end = run(bytes, end, |byte| byte == b'=');
    let token = &text[start..end];
    // A parameter: `Bearer error_description="…"`.
    let is_name =
        token.strip_suffix('=').is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    if token.len() < 8 || is_name || !(is_random(token) || is_pair(token)) {
        return at + 1;
    }
    found.push(start..end);
    end
}

/// A token and no word: "basic information", "Basic Authentication".
fn is_random(token: &str) -> bool {
    token.len() >= 20
        || token.ends_with('=')
        || token.bytes().any(|byte| byte.is_ascii_digit())
        || token.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
}

/// The base64 of `user:password`.
fn is_pair(token: &str) -> bool {
    let token = token.trim_end_matches('=');
    let bytes = BASE64_STANDARD_NO_PAD.decode(token).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(token));
    bytes.is_ok_and(|bytes| bytes.contains(&b':') && bytes.iter().all(|byte| matches!(byte, b' '..=b'~')))
}
