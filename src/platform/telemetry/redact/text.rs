//! How the finders read text: by its bytes, where every delimiter is ASCII and no other character has
//! such a byte.

use std::ops::Range;

/// Where secrets stand in a text, in bytes.
pub type Found = Vec<Range<usize>>;

/// What `view` reads an encoded blank as: it parts words like one and ends no value (`my%20password`).
pub const ENCODED_BLANK: u8 = 0x1f;

/// What a byte can be a part of: a word, a hexadecimal number, a key as vendors print them.
pub const WORD: u8 = 1;
pub const HEX: u8 = 2;
pub const KEY: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => WORD | HEX | KEY,
            b'g'..=b'z' | b'G'..=b'Z' => WORD | KEY,
            b'-' => HEX | KEY,
            b'_' => KEY,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// What this byte can be a part of.
pub fn classes(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether this is a letter or a digit of ASCII.
pub fn is_word(byte: u8) -> bool {
    classes(byte) & WORD != 0
}

/// Whether words are parted here.
pub fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == ENCODED_BLANK
}

/// The end of the run of such bytes that begins here.
pub fn run(text: &[u8], from: usize, is_part: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|byte| !is_part(*byte)).map_or(text.len(), |length| from + length)
}

/// The start of the run of such bytes that ends here.
pub fn run_back(text: &[u8], to: usize, is_part: impl Fn(u8) -> bool) -> usize {
    text[..to].iter().rposition(|byte| !is_part(*byte)).map_or(0, |last| last + 1)
}

/// Whether no word goes on to the left; the `n` of an escaped line break is no part of a word.
pub fn starts_word(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., before] => !before.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// Whether no word goes on to the right.
pub fn ends_word(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|next| !next.is_ascii_alphanumeric())
}

/// Whether what stands before this can have been the end of a value.
pub fn is_delimited(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|next| next.is_ascii_whitespace() || b",;:)]}>\"'`\\|".contains(next))
}

/// The quotation mark that opens here: with the backslashes of every string around it, or a letter
/// (`b"`, `r"`).
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    mark: u8,
    slashes: usize,
    /// Where the quoted text begins.
    pub inside: usize,
}

impl Quote {
    /// The mark that opens here, if one does.
    pub fn open(text: &[u8], at: usize) -> Option<Self> {
        let from = if matches!(text.get(at)?, b'b' | b'r' | b'u') { at + 1 } else { at };
        let mark_at = run(text, from, |byte| byte == b'\\');
        let mark = *text.get(mark_at)?;
        let slashes = mark_at - from;
        matches!(mark, b'"' | b'\'' | b'`').then_some(Self { mark, slashes, inside: mark_at + 1 })
    }

    /// The end of what is quoted, and the place after the closing mark; both the end of the text when it
    /// was cut off. A string in a string in a string… is closed by its own number of backslashes.
    pub fn close(self, text: &[u8]) -> (usize, usize) {
        let period = 2 * (self.slashes + 1).next_power_of_two();
        let mut at = self.inside;
        while let Some(step) = text[at..].iter().position(|byte| *byte == self.mark) {
            let mark = at + step;
            let slashes = mark - run_back(text, mark, |byte| byte == b'\\').max(self.inside);
            let doubled = self.mark == b'\'' && mark > self.inside && text.get(mark + 1) == Some(&b'\'');
            if doubled {
                at = mark + 2;
            } else if slashes % period <= self.slashes {
                return (mark - slashes.min(self.slashes), mark + 1);
            } else {
                at = mark + 1;
            }
        }
        (text.len(), text.len())
    }
}
