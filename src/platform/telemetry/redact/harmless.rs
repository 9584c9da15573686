//! What stands after a secret's name and is none: a placeholder, a remark ("password: required"), a
//! column, the address of a machine. False hits are defects as missed secrets are.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use super::{MASK, text::run, token::is_scheme};

/// Names that are words of ordinary sentences: before a colon they announce what is wrong as often as
/// a value.
const COMMON: &[&str] = &[
    "address",
    "birthday",
    "cookie",
    "cookies",
    "csrf",
    "credential",
    "credentials",
    "email",
    "emails",
    "jwt",
    "mfa",
    "otp",
    "pan",
    "passport",
    "phone",
    "pin",
    "secrets",
    "session",
    "sid",
    "signature",
    "street",
    "telephone",
    "token",
    "totp",
    "xsrf",
];

/// What follows a name and is no secret: "password: required", "token=expired".
const REMARKS: &[&str] = &[
    "&str",
    "and",
    "are",
    "at",
    "bool",
    "can",
    "cannot",
    "changed",
    "denied",
    "disabled",
    "empty",
    "enabled",
    "expected",
    "expired",
    "failed",
    "found",
    "granted",
    "invalid",
    "is",
    "may",
    "missing",
    "must",
    "needed",
    "nil",
    "no",
    "none",
    "not",
    "null",
    "ok",
    "or",
    "rejected",
    "required",
    "reset",
    "revoked",
    "rotated",
    "should",
    "string",
    "too",
    "undefined",
    "unexpected",
    "unknown",
    "unset",
    "updated",
    "valid",
    "was",
    "weak",
    "were",
    "wrong",
];

/// What stands where a value will be, has been or is not: `$1`, `?`, `{password}`, `***`, `null`.
pub fn is_placeholder(text: &str) -> bool {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-. ".contains(&byte));
    let is_variable = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let between = |open: &str, close: &str| text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
    text.bytes().all(|byte| b"*.-?~ ".contains(&byte))
        || text == MASK
        || text.chars().all(|c| matches!(c, '•' | '…'))
        || ["null", "none", "nil", "undefined", "%s", "%d", "%v", "{:?}", "[]", "()"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
        || ["$", "?", "@p"].iter().any(|mark| text.strip_prefix(mark).is_some_and(is_number))
        || text.strip_prefix(':').is_some_and(is_name)
        || between("<", ">").is_some_and(|name| is_name(&name.to_ascii_lowercase()))
        || between("{", "}").is_some_and(|text| is_name(text) || is_number(text))
        || between("${", "}").is_some_and(is_variable)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The address of a machine; the working directory in `PWD`.
pub fn is_place(name: &str, text: &str) -> bool {
    match name {
        "address" => {
            let host = text.trim_end_matches(['.', ',', ':']);
            let is_ip = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok();
            is_ip || host.starts_with("localhost") || host.starts_with("0x")
        }
        "pwd" => {
            text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
        }
        _ => false,
    }
}

/// "invalid token: end of input", "password: must be set".
pub fn is_remark(text: &str, name: &str, value: &Range<usize>, is_sentence: bool) -> bool {
    let word = text[value.clone()].trim_end_matches(['.', ',', ';', ':', '!']);
    if REMARKS.iter().any(|remark| word.eq_ignore_ascii_case(remark)) {
        return true;
    }
    let bytes = text.as_bytes();
    let next = run(bytes, value.end, |byte| byte == b' ');
    let end = run(bytes, next, |byte| byte.is_ascii_lowercase());
    let goes_on = next > value.end && end > next && bytes.get(end).is_none_or(|byte| b" .,;!".contains(byte));
    let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_common = COMMON.contains(&name);
    is_sentence && is_plain && !is_scheme(word.as_bytes()) && (is_common || goes_on)
}

/// A column or a variable of the same name (`s.token = t.token`), a call without a literal.
pub fn is_code(key: &str, text: &str) -> bool {
    let is_path = |path: &str| path.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
    let last = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or(key);
    let is_column = is_path(text) && text.rsplit_once('.').is_some_and(|(_, column)| column == last);
    let is_call = text.split_once('(').is_some_and(|(name, arguments)| {
        let first = arguments.trim_end_matches(')');
        !name.is_empty() && is_path(name) && (first.is_empty() || first.strip_prefix('$').is_some_and(is_number))
    });
    is_column || is_call
}
