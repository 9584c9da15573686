//! Numbers that name a card, an account or a person, told from other numbers by issuer, length,
//! grouping and check digits.

use std::ops::Range;

use super::text::{ENCODED_BLANK, Found, ends_word, is_word, run, starts_word};

/// Looks at the digits that begin here; returns where to go on.
pub fn find(text: &[u8], at: usize, found: &mut Found) -> usize {
    let end = run(text, at, |byte| byte.is_ascii_digit());
    let number = match end - at {
        3 => social_security(text, at),
        4 => grouped_card(text, at),
        13..=19 => whole_card(text, at..end),
        _ => None,
    };
    let has_country =
        || at > 1 && text[at - 1].is_ascii_alphabetic() && text.get(at + 1).is_some_and(u8::is_ascii_digit);
    if let Some(range) = number.or_else(|| if has_country() { iban(text, at) } else { None }) {
        let end = range.end;
        found.push(range);
        return end;
    }
    // No number begins within a word: an id is passed at once, the hyphen after a part of it too.
    let end = run(text, end, is_word);
    if matches!(text[end..], [b'-', next, ..] if next != b'-') { end + 1 } else { end }
}

fn whole_card(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let is_fraction =
        matches!(text[..range.start], [.., b'0'..=b'9', b'.']) || matches!(text[range.end..], [b'.', b'0'..=b'9', ..]);
    let is_alone = starts_word(text, range.start) && ends_word(text, range.end);
    (is_alone && !is_fraction && is_card(&text[range.clone()])).then_some(range)
}

/// As it is printed on cards: in fours, American Express and Diners Club as four, six and the rest.
fn grouped_card(text: &[u8], at: usize) -> Option<Range<usize>> {
    const GROUPS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];
    text.get(at + 5..at + 9).filter(|next| next.iter().all(u8::is_ascii_digit))?;
    let separator =
        *text.get(at + 4).filter(|byte| matches!(**byte, b' ' | b'-' | b'.' | b'_' | b'+' | ENCODED_BLANK))?;
    GROUPS.iter().filter(|_| starts_word(text, at)).find_map(|groups| {
        let (mut digits, mut length, mut end) = ([0; 19], 0, at);
        for group in *groups {
            if length > 0 {
                text.get(end).filter(|byte| **byte == separator)?;
                end += 1;
            }
            let part = text.get(end..end + group).filter(|part| part.iter().all(u8::is_ascii_digit))?;
            digits[length..length + group].copy_from_slice(part);
            length += group;
            end += group;
        }
        (ends_word(text, end) && is_card(&digits[..length])).then_some(at..end)
    })
}

/// A number a card can have: issuer, length and check digit (Luhn).
fn is_card(digits: &[u8]) -> bool {
    let value = |length: usize| digits[..length].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    let (two, four) = (value(2), value(4));
    let issued = match digits.len() {
        // Visa's old numbers are as long as the codes on goods.
        13 => digits[0] == b'4' && !is_article(digits),
        14 => matches!(two, 36 | 38 | 39) || matches!(four, 3000..=3059),
        15 => matches!(two, 34 | 37),
        16 => matches!(two, 35 | 40..=49 | 51..=55 | 62 | 65) || matches!(four, 2221..=2720 | 6011 | 6440..=6499),
        19 if digits[0] == b'4' => true,
        17..=19 => two == 62,
        _ => false,
    };
    let sum = digits.iter().rev().map(|digit| u32::from(digit - b'0')).enumerate().map(|(at, digit)| match at % 2 {
        0 => digit,
        _ if digit > 4 => digit * 2 - 9,
        _ => digit * 2,
    });
    issued && sum.sum::<u32>() % 10 == 0
}

/// An EAN-13 by its check digit.
fn is_article(digits: &[u8]) -> bool {
    let weights = [1, 3].into_iter().cycle();
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum::<u32>() % 10 == 0
}

/// The lengths of account numbers (ISO 13616, release 99).
const LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29\
    ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20\
    LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24\
    SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

/// An account number whose length is its country's and whose check digits fit (mod 97). `at` is the
/// first digit, after the country.
fn iban(text: &[u8], at: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(2).filter(|start| text[*start..at].iter().all(u8::is_ascii_alphabetic))?;
    if !starts_word(text, start) {
        return None;
    }
    let country = text[start..at].to_ascii_uppercase();
    let entry = LENGTHS.as_bytes().chunks(4).find(|entry| entry[..2] == *country)?;
    let length = usize::from(entry[2] - b'0') * 10 + usize::from(entry[3] - b'0');

    let (mut plain, mut end) = (Vec::with_capacity(length), start);
    while plain.len() < length {
        match text.get(end)? {
            byte if byte.is_ascii_alphanumeric() => plain.push(byte.to_ascii_uppercase()),
            b' ' | b'-' | b'.' | b'+' | &ENCODED_BLANK if plain.len() % 4 == 0 => {}
            _ => return None,
        }
        end += 1;
    }
    plain.rotate_left(4);
    let rest = plain.iter().filter_map(|byte| char::from(*byte).to_digit(36)).fold(0, |rest, value| match value {
        0..=9 => (rest * 10 + value) % 97,
        _ => (rest * 100 + value) % 97,
    });
    (ends_word(text, end) && rest == 1).then_some(start..end)
}

/// A number of the US Social Security Administration: no part is all zeros, none begins with 9 or 666.
fn social_security(text: &[u8], at: usize) -> Option<Range<usize>> {
    let number = text.get(at..at + 11)?;
    let shaped = number.iter().enumerate().all(|(at, byte)| match at {
        3 | 6 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let possible = number[0] != b'9'
        && !matches!(&number[..3], b"000" | b"666")
        && &number[4..6] != b"00"
        && &number[7..] != b"0000";
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b'-' | b'.'));
    let alone = starts_word(text, at)
        && ends_word(text, at + 11)
        && !is_part(text[..at].last())
        && !is_part(text.get(at + 11).filter(|byte| **byte == b'-'));
    (shaped && possible && alone).then_some(at..at + 11)
}
