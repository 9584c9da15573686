//! Text without its secrets. One pass looks for the marks that every finder needs (`@`, `=`, a
//! digit…) and hands each to the finder of its kind, which looks no further than it has to.

use std::{borrow::Cow, ops::Range};

use super::{
    MASK, address, number, own,
    pair::Pairs,
    text::Found,
    token,
    view::{ESCAPE, View},
};

/// A text that is still unclean after so many passes was made for it.
const PASSES: usize = 4;

/// The text without secrets; borrowed when there is none.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    for _ in 0..PASSES {
        // Where two secrets touch, only the second pass sees where the other begins.
        let Some(next) = pass(&clean) else { break };
        clean = Cow::Owned(next);
    }
    clean
}

/// The text without the secrets that are seen in it as it is; `None` when there is none.
fn pass(text: &str) -> Option<String> {
    let mut found = Found::new();
    if search(text, &mut found)
        && let Some(view) = View::of(text)
    {
        let mut seen = Found::new();
        search(&view.text, &mut seen);
        found.extend(seen.iter().map(|range| view.source(range)));
    }
    found.retain(|range| text.get(range.clone()) != Some(MASK));
    (!found.is_empty()).then(|| mask(text, found))
}

/// What a byte can be the mark of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    None,
    Digit,
    At,
    Separator,
    Scheme,
    Bracket,
    Hyphen,
    Dollar,
    Encoded,
}

const MARKS: [Mark; 256] = {
    let mut marks = [Mark::None; 256];
    let mut byte = 0;
    while byte < 256 {
        marks[byte] = match byte as u8 {
            b'0'..=b'9' => Mark::Digit,
            b'@' => Mark::At,
            b':' | b'=' | b'>' => Mark::Separator,
            b'b' | b'B' | b'g' | b'G' => Mark::Scheme,
            b'[' | b'(' => Mark::Bracket,
            b'-' => Mark::Hyphen,
            b'$' => Mark::Dollar,
            b'%' | b'\\' | ESCAPE | 0x80.. => Mark::Encoded,
            _ => Mark::None,
        };
        byte += 1;
    }
    marks
};

/// Adds what the finders find; returns whether the text may read otherwise than it is written.
fn search(text: &str, found: &mut Found) -> bool {
    own::find(text, found);
    token::find(text, found);
    let bytes = text.as_bytes();
    let mut pairs = Pairs::new(text);
    let (mut at, mut clear, mut is_encoded) = (0, 0, false);
    while let Some(step) = bytes[at..].iter().position(|byte| MARKS[usize::from(*byte)] != Mark::None) {
        at += step;
        at = match MARKS[usize::from(bytes[at])] {
            Mark::Digit => number::find(bytes, at, found),
            Mark::At => address::find_email(bytes, at, found),
            Mark::Separator if bytes[at..].starts_with(b"://") => address::find_url(bytes, at, &mut clear, found),
            Mark::Separator => pairs.find(at, found),
            Mark::Scheme => token::find_credential(text, at, found),
            Mark::Bracket => {
                token::find_row(text, at, found).or_else(|| pairs.find_listed(at, found)).unwrap_or(at + 1)
            }
            Mark::Hyphen if bytes[at..].starts_with(b"--") => {
                token::find_private_key(text, at, found).or_else(|| pairs.find_option(at, found)).unwrap_or(at + 1)
            }
            Mark::Dollar => token::find_hash(bytes, at, found),
            Mark::Encoded => {
                is_encoded = true;
                at + 1
            }
            Mark::Hyphen | Mark::None => at + 1,
        };
    }
    is_encoded
}

fn mask(text: &str, mut found: Found) -> String {
    found.sort_unstable_by_key(|range| range.start);
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    let mut found = found.into_iter().peekable();
    while let Some(Range { start, mut end }) = found.next() {
        while let Some(next) = found.next_if(|next| next.start <= end) {
            end = end.max(next.end);
        }
        clean.push_str(&text[at..text.floor_char_boundary(start).max(at)]);
        clean.push_str(MASK);
        at = text.ceil_char_boundary(end);
    }
    clean.push_str(&text[at..]);
    clean
}
