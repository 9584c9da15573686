//! A text as its reader reads it: percent and `\u` escapes decoded, however often they were encoded,
//! full-width letters as ASCII, invisible characters and a terminal's colours left out. The finders
//! search it too, and what they find is hidden in the text it was made of.

use std::ops::Range;

use super::text::{ENCODED_BLANK, run};

/// What is read, and where each stretch of it comes from.
pub struct View {
    /// The text as it's read.
    pub text: String,
    /// Places in `text` and in the source where a stretch begins that both have in common.
    stretches: Vec<(usize, usize)>,
}

/// What the colours of a terminal begin with, up to an `m`.
pub const ESCAPE: u8 = 0x1b;

/// The character a reader takes this one for; `None` when it can't be seen.
pub fn plain(c: char) -> Option<char> {
    match c {
        '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => None,
        '\u{fe00}'..='\u{fe0f}' => None,
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        c if c.is_whitespace() || c.is_control() => Some(char::from(ENCODED_BLANK)),
        c => Some(c),
    }
}

impl View {
    /// `None` when the text is read as it stands.
    pub fn of(source: &str) -> Option<Self> {
        let mut view = Self { text: String::new(), stretches: vec![(0, 0)] };
        let (mut at, mut copied) = (0, 0);
        while let Some(step) =
            source.as_bytes()[at..].iter().position(|byte| matches!(*byte, b'%' | b'\\' | ESCAPE | 0x80..))
        {
            at += step;
            let Some((c, end)) = character(source, at) else {
                // A run of backslashes at once: looking at it from each of them would be quadratic.
                at = match source.as_bytes()[at] {
                    b'%' => at + 1,
                    first => run(source.as_bytes(), at + 1, |byte| {
                        if first == b'\\' { byte == first } else { matches!(byte, 0x80..=0xbf) }
                    }),
                };
                continue;
            };
            view.text.push_str(&source[copied..at]);
            view.stretches.push((view.text.len(), at));
            view.text.extend(c);
            view.stretches.push((view.text.len(), end));
            (at, copied) = (end, end);
        }
        view.text.push_str(&source[copied..]);
        (copied > 0).then_some(view)
    }

    /// The part of the source that was read as this part of the text.
    pub fn source(&self, range: &Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let next = self.stretches.partition_point(|(here, _)| *here <= at);
            let (here, source) = self.stretches[next - 1];
            source + (at - here)
        };
        place(range.start)..place(range.end)
    }
}

/// The character that is written otherwise here, and where its spelling ends.
fn character(source: &str, at: usize) -> Option<(Option<char>, usize)> {
    let (c, end) = match source.as_bytes()[at] {
        b'%' => percent_encoded(source.as_bytes(), at)?,
        b'\\' => escaped(source.as_bytes(), at)?,
        _ => {
            let c = source[at..].chars().next()?;
            (c, at + c.len_utf8())
        }
    };
    if c == char::from(ESCAPE) {
        let parameters = end + usize::from(source.as_bytes().get(end) == Some(&b'['));
        let last = run(source.as_bytes(), parameters, |byte| byte.is_ascii_digit() || byte == b';');
        return Some((None, if source.as_bytes().get(last) == Some(&b'm') { last + 1 } else { end }));
    }
    let seen = if c == ' ' { Some(char::from(ENCODED_BLANK)) } else { plain(c) };
    (seen != Some(c) || source.as_bytes()[at].is_ascii()).then_some((seen, end))
}

/// The number these hexadecimal digits are.
fn hex(digits: &[u8]) -> Option<u32> {
    (!digits.is_empty()).then_some(())?;
    digits.iter().try_fold(0_u32, |number, digit| Some(number.checked_mul(16)? + char::from(*digit).to_digit(16)?))
}

/// `%40`, `%2540` when it was encoded once more, `%C3%A4`.
fn percent_encoded(source: &[u8], at: usize) -> Option<(char, usize)> {
    let byte = |at: usize| {
        let mut from = at + 1;
        while source.get(from..from + 2) == Some(b"25") && source.get(from + 2..from + 4).and_then(hex).is_some() {
            from += 2;
        }
        let code = source.get(from..from + 2).filter(|_| source[at] == b'%').and_then(hex)?;
        Some((u8::try_from(code).ok()?, from + 2))
    };
    let (first, mut end) = byte(at)?;
    let mut bytes = [first, 0, 0, 0];
    let length = if first.is_ascii() { 1 } else { first.leading_ones() as usize };
    for next in bytes.get_mut(1..length)? {
        (*next, end) = byte(end)?;
    }
    let c = str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
    Some((c, end))
}

/// `\u0040`, `\u{40}` and `\x40`, after as many backslashes as there are strings around it.
fn escaped(source: &[u8], at: usize) -> Option<(char, usize)> {
    let from = run(source, at, |byte| byte == b'\\') + 1;
    let fixed = |length: usize| Some((hex(source.get(from..from + length)?)?, from + length));
    let (code, end) = match source.get(from - 1..)? {
        [b'u', b'{', ..] => {
            let end = run(source, from + 1, |byte| byte.is_ascii_hexdigit());
            (hex(&source[from + 1..end]).filter(|_| source.get(end) == Some(&b'}'))?, end + 1)
        }
        [b'u', ..] => fixed(4)?,
        [b'x', ..] => fixed(2)?,
        _ => return None,
    };
    Some((char::from_u32(code)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_found_again() {
        for (source, text) in [
            ("a%40b", "a@b"),
            ("a%252540b", "a@b"),
            ("%C3%A4%25e2%2582%25ac", "ä€"),
            ("a\\u0040b\\\\u0040", "a@b@"),
            ("\\u{40}\\x40", "@@"),
            ("a\u{200b}b\u{ff21}", "abA"),
            ("a\u{1b}[1;31mb\\u001b[0mc\u{1b}", "abc"),
            ("a%20b\\u0020c", "a\u{1f}b\u{1f}c"),
        ] {
            let view = View::of(source).unwrap();
            assert_eq!(view.text, text);
            assert_eq!(view.source(&(0..text.len())), 0..source.len());
        }
        let view = View::of("%61%62cd%65").unwrap();
        assert_eq!((view.source(&(1..2)), view.source(&(2..4)), view.source(&(3..5))), (3..6, 6..8, 7..11));
        for source in [
            "", "abc", "100%", "%", "%4", "%zz", "%ff", "%c3", "%c3%", "\\", "\\u12", "\\u{}", "\\u{40", "\\ud800", "ä",
        ] {
            assert!(View::of(source).is_none_or(|view| view.text == source), "{source}");
        }
    }
}
