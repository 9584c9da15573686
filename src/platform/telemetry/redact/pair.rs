//! Secrets by the name before them, in free text: `name=value`, `"name":"value"` in JSON however often
//! quoted, `name: Some("value")`, headers, lists of pairs, `{"name":"password","value":"x"}`, options of
//! a command, elements of XML.

use super::{
    extent::{Form, Value, bare, is_key},
    harmless::{is_code, is_place, is_placeholder, is_remark},
    key::{LONGEST, can_be_name, secret_name},
    text::{ENCODED_BLANK, Found, Quote, is_blank, run, run_back},
    token::is_scheme,
};

/// The names under which pairs are told apart, and those of what stands beside them.
pub const NAMES: &[&str] = &["name", "key", "field", "header", "param", "parameter", "property"];
pub const VALUES: &[&str] = &["value", "val", "content", "data", "stringvalue"];

/// Names that are secrets' in a query only.
pub const QUERY: &[&str] = &["auth", "code", "key", "sig"];

/// Their values are lists of pairs: `sid=1; theme=dark`.
const HEADERS: &[&str] = &["authorization", "cookie", "cookies", "setcookie"];

/// Schemes of `authorization` that have such a list instead of a token.
const SCHEMES: &[&str] = &["digest", "hawk", "oauth", "aws4-hmac-sha256", "signature"];

/// Their values are words with blanks between.
const PHRASES: &[&str] =
    &["address", "fullname", "phone", "phonenumber", "postaladdress", "street", "streetaddress", "telephone"];

/// What was read of a text up to here.
pub struct Pairs<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// After a pair's `"name":"password"`.
    named: Option<usize>,
    /// Where the value of the last `"value":` begins.
    valued: Option<usize>,
}

/// A name in front of a value.
struct Key {
    start: usize,
    end: usize,
    is_quoted: bool,
}

impl<'a> Pairs<'a> {
    /// Nothing of the text is read yet.
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), named: None, valued: None }
    }

    /// Looks at the `:`, `=` or `>` here; returns where to go on.
    pub fn find(&mut self, at: usize, found: &mut Found) -> usize {
        match (self.bytes[at], self.bytes.get(at + 1)) {
            (b':', Some(b':')) => return at + 2,
            (b':' | b'=', Some(b'=')) | (_, None) => return at + 1,
            (b'>', _) => return self.find_element(at, found),
            _ => {}
        }
        // Most names stand in quotes and are no secret's.
        if matches!(self.bytes[..at], [.., b'a'..=b'z', b'"']) && !can_be_name(&self.bytes[..at - 1]) {
            return at + 1;
        }
        let Some(key) = self.key(at) else { return at + 1 };
        let after = if self.bytes[at..].starts_with(b"=>") { at + 2 } else { at + 1 };
        let value_at = self.value_at(after, key.is_quoted);
        let written = &self.text[key.start..key.end];
        match secret_name(written).or_else(|| self.query_name(&key)) {
            Some(name) => self.find_value(name, &key, at, value_at, found).unwrap_or(at + 1),
            None if self.is_list(written, value_at) => self.hide(value_at, found).unwrap_or(at + 1),
            None => self.find_beside(written, &key, value_at, found).unwrap_or(at + 1),
        }
    }

    /// The key before this separator.
    fn key(&self, at: usize) -> Option<Key> {
        let is_equals = self.bytes[at] == b'=';
        let is_sign = |byte: u8| match byte {
            b' ' | b'\t' | ENCODED_BLANK => true,
            b'=' | b'!' | b'<' | b'>' | b':' | b'+' | b'~' => is_equals,
            _ => false,
        };
        let is_closing = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b']' | b')' | b'*');
        let back = |to: usize, most: usize, is_part: &dyn Fn(u8) -> bool| {
            let first = to.saturating_sub(most);
            first + run_back(&self.bytes[first..], to - first, is_part)
        };
        let end = back(at, 16, &is_sign);
        let closed = back(end, 128, &is_closing);
        if !can_be_name(&self.bytes[..closed]) {
            return None;
        }
        let is_quoted = self.bytes[closed..end].iter().any(|byte| matches!(byte, b'"' | b'\'' | b'`'));
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. []\x1f".contains(&byte) || !byte.is_ascii();
        let mut start = self.text.ceil_char_boundary(back(closed, LONGEST, &is_part));
        // The `n` of an escaped line break.
        if start < closed && start > 0 && self.bytes[start - 1] == b'\\' && b"nrt".contains(&self.bytes[start]) {
            start += 1;
        }
        (start < closed).then_some(Key { start, end: closed, is_quoted })
    }

    /// Where the value after a separator begins: in the next line only if a quotation mark says so.
    fn value_at(&self, after: usize, is_quoted: bool) -> usize {
        let at = run(self.bytes, after, |byte| matches!(byte, b' ' | b'\t' | ENCODED_BLANK));
        let next = run(self.bytes, at, is_blank);
        if is_quoted || matches!(self.bytes.get(next), Some(b'"' | b'\'')) { next } else { at }
    }

    /// The name, if the key is one of a query.
    fn query_name(&self, key: &Key) -> Option<&'static str> {
        let before = key.start.checked_sub(1).map(|at| self.bytes[at]);
        let name = QUERY.iter().copied().find(|name| self.text[key.start..key.end] == **name)?;
        let long = run(self.bytes, key.end + 1, |byte| byte.is_ascii_alphanumeric() || b"_-%./".contains(&byte));
        (matches!(before, Some(b'?' | b'&')) && (name != "code" || long > key.end + 8)).then_some(name)
    }

    /// Whether secrets are listed under this name: `"tokens": ["…"]`, but `tokens: 512`.
    fn is_list(&self, written: &str, value_at: usize) -> bool {
        let single = written.strip_suffix(['s', 'S']).and_then(secret_name);
        self.bytes.get(value_at) == Some(&b'[') && single.is_some()
    }

    /// Hides a value whatever it is.
    fn hide(&self, value_at: usize, found: &mut Found) -> Option<usize> {
        let value = Value::at(self.bytes, value_at, false)?;
        let is_empty = is_placeholder(&self.text[value.range.clone()]);
        found.extend((!is_empty).then_some(value.range));
        (!is_empty).then_some(value.next)
    }

    /// The value of a secret's name.
    fn find_value(&self, name: &str, key: &Key, at: usize, value_at: usize, found: &mut Found) -> Option<usize> {
        let is_header = HEADERS.contains(&name);
        let mut value = Value::at(self.bytes, value_at, is_header)?;
        let text = &self.text[value.range.clone()];
        if is_placeholder(text) || is_place(name, text) {
            return None;
        }
        if value.form == Form::Bare {
            let is_sentence = self.bytes[at] == b':' && value_at > at + 1;
            if is_remark(self.text, name, &value.range, is_sentence) || is_code(&self.text[key.start..key.end], text) {
                return None;
            }
            // A scheme's token, or its parts.
            let is_listed = is_header && SCHEMES.iter().any(|scheme| text.eq_ignore_ascii_case(scheme));
            // Also of `x[Bearer y]`: without its scheme nobody knows the token.
            let last = text.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(text);
            if is_listed || is_scheme(last.as_bytes()) || (is_header && is_sentence && is_word(text)) {
                let token = run(self.bytes, value.range.end, is_blank);
                let end = bare(self.bytes, token, is_header);
                // "Send the API key as Authorization: Bearer <key>."
                if is_placeholder(self.text[token..end].trim_end_matches('.')) && end > token {
                    return None;
                }
                if end > token && (is_listed || !is_key(self.bytes, token)) {
                    value.range.end = end;
                }
            }
            if is_sentence && PHRASES.contains(&name) {
                value.range.end = self.phrase(value.range.end);
            }
            value.next = value.range.end;
        } else if value.form == Form::Quoted
            && text.bytes().all(|byte| byte.is_ascii_whitespace() || b",:;{}[]()".contains(&byte))
        {
            // The mark closed the string the name stands in: `"Enter password:", "`.
            return None;
        }
        found.push(value.range);
        Some(value.next)
    }

    /// The end of a phrase: the next pair, or a mark.
    fn phrase(&self, from: usize) -> usize {
        let mut end = from;
        while self.bytes.get(end) == Some(&b' ') && !is_key(self.bytes, end + 1) {
            let next = run(self.bytes, end + 1, |byte| !is_blank(byte) && !b",;|\"'`\\)}]".contains(&byte));
            if next == end + 1 {
                break;
            }
            end = next;
        }
        end
    }

    /// A pair of which one half is the name and the other the value: `{"name":"password","value":"x"}`.
    fn find_beside(&mut self, written: &str, key: &Key, value_at: usize, found: &mut Found) -> Option<usize> {
        let last = written.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(written);
        let is_one = |names: &[&str]| names.iter().any(|name| last.eq_ignore_ascii_case(name));
        // In one object, not in two of a list.
        let is_near =
            |from: usize, to: usize| from <= to && !self.bytes[from..to].iter().any(|byte| matches!(byte, b'{' | b'}'));
        if is_one(NAMES) {
            let last = (value_at + 2 * LONGEST).min(self.bytes.len());
            let value = Value::at(&self.bytes[..last], value_at, false)?;
            secret_name(self.text.get(value.range.clone())?)?;
            let valued = self.valued.take().filter(|from| is_near(*from, key.start));
            self.named = Some(value.next);
            if let Some(from) = valued {
                self.hide(from, found);
            }
            Some(value.next)
        } else if is_one(VALUES) {
            if self.named.take().is_some_and(|named| is_near(named, key.start)) {
                return self.hide(value_at, found);
            }
            self.valued = Some(value_at);
            None
        } else {
            None
        }
    }

    /// Looks at the bracket here: `["password","x"]`, `("password", "x")`; returns the value's end.
    pub fn find_listed(&self, at: usize, found: &mut Found) -> Option<usize> {
        let blank = |from: usize| run(self.bytes, from, is_blank);
        let quote = Quote::open(self.bytes, blank(at + 1))?;
        let (end, next) = quote.close(&self.bytes[..(quote.inside + 2 * LONGEST).min(self.bytes.len())]);
        secret_name(self.text.get(quote.inside..end)?)?;
        let comma = blank(next);
        let value_at = (self.bytes.get(comma) == Some(&b',')).then(|| blank(comma + 1))?;
        let value = Value::at(self.bytes, value_at, false)?;
        let text = &self.text[value.range.clone()];
        let is_scalar = value.form != Form::Bare
            || text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-')
            || matches!(text, "true" | "false");
        // A list of names is none of pairs: `["email","phone"]`, `("email", "password", "name")`.
        let is_pair = self.bytes.get(blank(value.next)).is_none_or(|byte| matches!(byte, b']' | b')'))
            && !(value.form == Form::Quoted && secret_name(text).is_some());
        if !is_scalar || !is_pair || is_placeholder(text) {
            return None;
        }
        found.push(value.range);
        Some(value.next)
    }

    /// Looks at the two hyphens here: `--password x`; returns the value's end.
    pub fn find_option(&self, at: usize, found: &mut Found) -> Option<usize> {
        let start = at + 2;
        let last = (start + LONGEST).min(self.bytes.len());
        let end = run(&self.bytes[..last], start, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let name = secret_name(&self.text[start..end])?;
        let value_at = run(self.bytes, end, |byte| byte == b' ');
        self.bytes.get(value_at).filter(|first| value_at > end && **first != b'-')?;
        let value = Value::at(self.bytes, value_at, false)?;
        let text = &self.text[value.range.clone()];
        if is_placeholder(text) || (value.form == Form::Bare && is_remark(self.text, name, &value.range, true)) {
            return None;
        }
        found.push(value.range);
        Some(value.next)
    }

    /// `<password>x</password>`.
    fn find_element(&self, at: usize, found: &mut Found) -> usize {
        let first = at.saturating_sub(2 * LONGEST);
        let Some(open) = self.bytes[first..at].iter().rposition(|byte| matches!(byte, b'<' | b'>')) else {
            return at + 1;
        };
        let start = first + open + 1;
        let end = run(&self.bytes[..at], start, |byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
        if self.bytes[start - 1] == b'<' && secret_name(&self.text[start..end]).is_some() {
            let close = run(self.bytes, at + 1, |byte| byte != b'<');
            if close > at + 1 && self.bytes.get(close + 1) == Some(&b'/') {
                found.push(at + 1..close);
                return close;
            }
        }
        at + 1
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
