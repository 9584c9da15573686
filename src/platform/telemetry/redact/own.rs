//! The process's own secrets: whatever text they turn up in, as they are or encoded, they are known by
//! their value.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use parking_lot::RwLock;

use super::text::{ENCODED_BLANK, Found, run, run_back};

/// Shorter ones are words that ordinary text contains.
const SHORTEST_SECRET: usize = 8;

#[derive(Default)]
struct Own {
    secrets: Vec<String>,
    searcher: Option<AhoCorasick>,
    /// The patterns from here on are base64.
    first_base64: usize,
}

static OWN: RwLock<Own> = RwLock::new(Own { secrets: Vec::new(), searcher: None, first_base64: 0 });

/// Without secrets nobody waits for the lock.
static HAS_ANY: AtomicBool = AtomicBool::new(false);

/// Hides these values too wherever they appear, from now on: at boot and whenever a secret is rotated.
/// The old one stays hidden.
pub fn protect(secrets: impl IntoIterator<Item = String>) {
    let new = |own: &Own, secret: &String| secret.len() >= SHORTEST_SECRET && !own.secrets.contains(secret);
    let secrets: Vec<String> = secrets.into_iter().collect();
    // Asked again and again, and hardly ever for something new: nobody's line waits for that.
    if !secrets.iter().any(|secret| new(&OWN.read(), secret)) {
        return;
    }
    let mut own = OWN.write();
    for secret in secrets {
        if new(&own, &secret) {
            own.secrets.push(secret);
        }
    }
    let plain: Vec<String> = own.secrets.iter().flat_map(|secret| spellings(secret)).collect();
    own.first_base64 = plain.len();
    let patterns = plain.into_iter().chain(own.secrets.iter().flat_map(|secret| base64(secret)));
    let searcher = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
    own.searcher = Some(searcher.expect("secrets are far shorter than the searcher's limit of 2 GiB"));
    HAS_ANY.store(!own.secrets.is_empty(), Relaxed);
}

/// The secret as it is, in a JSON string, in a form, and as `view` reads it: that undoes the other
/// escapes, but marks blanks.
fn spellings(secret: &str) -> Vec<String> {
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let mut spellings = vec![
        secret.to_owned(),
        quoted.replace('/', "\\/"),
        quoted,
        secret.replace(' ', "+"),
        secret.replace(' ', &char::from(ENCODED_BLANK).to_string()),
    ];
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// What the secret's base64 has in common wherever the secret stands in what was encoded
/// (`user:secret`): a byte before it moves it by a third of a group.
fn base64(secret: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for shift in 0..3 {
        let bytes = [&[0; 2][..shift], secret.as_bytes()].concat();
        let stable = (shift * 8).div_ceil(6)..bytes.len() * 8 / 6;
        parts.push(BASE64_STANDARD_NO_PAD.encode(&bytes)[stable.clone()].to_owned());
        parts.push(BASE64_URL_SAFE_NO_PAD.encode(&bytes)[stable].to_owned());
    }
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Adds the places of the process's secrets.
pub fn find(text: &str, found: &mut Found) {
    if !HAS_ANY.load(Relaxed) {
        return;
    }
    let own = OWN.read();
    let Some(searcher) = &own.searcher else { return };
    for one in searcher.find_iter(text) {
        let (mut start, mut end) = (one.start(), one.end());
        if one.pattern().as_usize() >= own.first_base64 {
            // The characters at its ends hold bits of the secret as well.
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
            let bytes = text.as_bytes();
            let (first, last) = (start.saturating_sub(4), (end + 4).min(bytes.len()));
            start = first + run_back(&bytes[first..], start - first, is_part);
            end = run(&bytes[..last], end, is_part);
        }
        found.push(start..end);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scrub, *};

    #[test]
    fn they_are_known_by_value_in_any_encoding() {
        const SECRET: &str = "corr?ct h\"rse/bätt+ry";
        protect([SECRET.to_owned(), "short".to_owned()]);
        protect(["rotated-3141592653".to_owned()]);
        let json = format!("{SECRET:?}");
        let escaped: String = SECRET.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let lower: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let twice = percent.replace('%', "%25");
        let form = SECRET.replace(' ', "+");
        for text in [SECRET, json.trim_matches('"'), &escaped, &percent, &lower, &twice, &form, "rotated-3141592653"] {
            assert_eq!(scrub(&format!("it was {text}, a short one")), "it was [REDACTED], a short one", "{text}");
        }
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "z", "yz"] {
                let text = format!("{before}{SECRET}{after}");
                for code in [BASE64_STANDARD_NO_PAD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)] {
                    let clean = scrub(&code);
                    let kept = clean.replace("[REDACTED]", "");
                    assert!(clean.len() < code.len() && kept.len() <= 9, "{code} -> {clean}");
                }
            }
        }
        assert_eq!(scrub("corr?ct h\"rse"), "corr?ct h\"rse");
    }
}
