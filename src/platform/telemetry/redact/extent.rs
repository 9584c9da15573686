//! Where a value ends that stands after a name: in quotes, in brackets, or bare in a sentence, a query
//! or a list of pairs. In doubt it goes on: too much is hidden rather than too little.

use std::ops::Range;

use super::{
    MASK,
    text::{Quote, is_blank, is_delimited, run},
};

/// How a value is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    Quoted,
    Nested,
    Bare,
}

/// A value as it's written: what is between the quotes, brackets and all they hold, or bare text.
#[derive(Clone, Debug)]
pub struct Value {
    pub range: Range<usize>,
    pub form: Form,
    /// Where to go on.
    pub next: usize,
}

impl Value {
    fn new(range: Range<usize>, form: Form) -> Self {
        Self { next: range.end, range, form }
    }

    /// The value that begins here. A header's has parts after `;` and `,` (`a=1; b=2`).
    pub fn at(text: &[u8], at: usize, is_header: bool) -> Option<Self> {
        if let Some(quote) = Quote::open(text, at) {
            let (end, next) = quote.close(text);
            return Some(Self { range: quote.inside..end, form: Form::Quoted, next });
        }
        let masked = at + MASK.len();
        if text[at..].starts_with(MASK.as_bytes()) {
            // Whatever was hidden here, it ended here.
            let end = if is_delimited(text, masked) && !is_header { masked } else { bare(text, at, is_header) };
            return Some(Self::new(at..end, Form::Bare));
        }
        if let Some(open) = bracket(text, at) {
            let close = close_bracket(text, open);
            let end = if is_delimited(text, close) { close } else { bare(text, close, is_header) };
            return Some(Self::new(at..end, Form::Nested));
        }
        let end = bare(text, at, is_header);
        (end > at).then(|| Self::new(at..end, Form::Bare))
    }
}

/// The bracket that opens here, also after the name of a type: `Some("x")`, `Secret<str>("x")`,
/// `Login { password: … }`.
fn bracket(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'{' | b'[' | b'(' => return Some(at),
        first if first.is_ascii_uppercase() => {}
        _ => return None,
    }
    let mut open = run(text, at, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
    if text.get(open) == Some(&b'<') {
        open = run(text, open, |byte| byte != b'>' && !is_blank(byte)) + 1;
    }
    match text.get(open..)? {
        [b'(' | b'{', ..] => Some(open),
        [b' ', b'{', ..] => Some(open + 1),
        _ => None,
    }
}

/// After the bracket that closes this one; the end of the text when it was cut off.
fn close_bracket(text: &[u8], open: usize) -> usize {
    let (mut at, mut depth) = (open, 0_usize);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth -= 1,
            b'"' | b'\\' => {
                if let Some(quote) = Quote::open(text, at - 1) {
                    at = quote.close(text).1;
                } else {
                    at = run(text, at, |byte| byte == b'\\');
                }
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of what is neither in quotes nor in brackets.
pub fn bare(text: &[u8], from: usize, is_header: bool) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(byte) = text.get(at) {
        let ends = match byte {
            b'(' | b'{' | b'<' if text.get(at + 1) != Some(&b'/') => {
                depth += 1;
                false
            }
            b')' | b'}' | b'>' if depth > 0 => {
                depth -= 1;
                false
            }
            b'[' if text[at..].starts_with(MASK.as_bytes()) => {
                at += MASK.len();
                continue;
            }
            b'\\' => {
                let after = run(text, at, |byte| byte == b'\\');
                let ends = match text.get(after) {
                    Some(b'"' | b'\'' | b'`') => is_delimited(text, after + 1),
                    Some(b'n' | b'r' | b't') => is_header || is_delimited(text, after + 1) || is_key(text, after + 1),
                    _ => false,
                };
                if ends {
                    return at;
                }
                at = after;
                continue;
            }
            b',' | b';' if is_header => !is_part(text, at + 1),
            b',' | b';' | b'&' => is_delimited(text, at + 1) || is_key(text, at + 1),
            b')' | b']' | b'}' | b'>' => is_delimited(text, at + 1) || text.get(at + 1) == Some(&b'.'),
            b'"' | b'\'' | b'`' => {
                let goes_on = is_header && matches!(text.get(at + 1), Some(b',' | b';')) && is_part(text, at + 2);
                is_delimited(text, at + 1) && !goes_on
            }
            b'*' | b'<' => text.get(at + 1) == Some(&b'/'),
            byte if byte.is_ascii_whitespace() => {
                !(is_header && matches!(text[at - 1], b',' | b';') && is_part(text, at))
            }
            _ => false,
        };
        if ends {
            break;
        }
        at += 1;
    }
    at
}

/// The name at most this long that stands here, and the place after it.
const LONGEST_NAME: usize = 40;

fn name(text: &[u8], at: usize) -> (usize, usize) {
    let from = run(text, at, |byte| byte == b' ');
    let last = (from + LONGEST_NAME).min(text.len());
    (from, run(&text[..last], from, |byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)))
}

/// Whether another pair begins here.
pub fn is_key(text: &[u8], at: usize) -> bool {
    let (from, end) = name(text, at);
    end > from && matches!(text.get(end), Some(b'=' | b':'))
}

/// Whether another part of a header's value begins here.
fn is_part(text: &[u8], at: usize) -> bool {
    let (from, end) = name(text, at);
    end > from && text.get(end) == Some(&b'=')
}
