//! How a log line is written: escapes, timestamps, ids and numbers, by hand into a reused buffer.
//! `format!` and chrono's formatter cost more than all the rest of a line.

use std::{cell::Cell, fmt::Write as _, time::SystemTime};

use chrono::{DateTime, Timelike as _, Utc};
use opentelemetry::trace::SpanContext;

/// `,"key":"value"`.
pub fn entry(out: &mut String, key: &str, value: &str) {
    key_of(out, key);
    quote(out, value);
}

/// `,"key":`.
pub fn key_of(out: &mut String, key: &str) {
    out.push(',');
    quote(out, key);
    out.push(':');
}

/// A JSON string: a control character can't forge a line.
pub fn quote(out: &mut String, text: &str) {
    out.push('"');
    // Nearly every text needs no escape, and then it is one copy.
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\' && byte < 0x7f) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `,"trace_id":"…","span_id":"…","sampled":true`, inside a trace.
pub fn trace_ids(out: &mut String, span: &SpanContext) {
    if !span.is_valid() {
        return;
    }
    out.push_str(",\"trace_id\":\"");
    hex(out, &span.trace_id().to_bytes());
    out.push_str("\",\"span_id\":\"");
    hex(out, &span.span_id().to_bytes());
    out.push_str(if span.is_sampled() { "\",\"sampled\":true" } else { "\",\"sampled\":false" });
}

fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// A number with at most three decimals; JSON has no NaN and no infinity.
pub fn float(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    let thousandths = (value * 1_000.0).round();
    if thousandths.abs() >= 9e15 {
        let _ = write!(out, "{value:.0}");
        return;
    }
    let thousandths = thousandths as i64;
    if thousandths < 0 {
        out.push('-');
    }
    integer(out, thousandths.unsigned_abs() / 1_000);
    let rest = thousandths.unsigned_abs() % 1_000;
    if rest > 0 {
        out.push('.');
        let digits = [rest / 100, rest / 10 % 10, rest % 10];
        let last = digits.iter().rposition(|digit| *digit > 0).unwrap_or(0);
        digits[..=last].iter().for_each(|digit| out.push(char::from(b'0' + *digit as u8)));
    }
}

pub fn integer(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    digits[at..].iter().for_each(|digit| out.push(char::from(*digit)));
}

/// Seconds since the epoch, and how they are written.
type Second = (i64, [u8; 20]);

thread_local!(static SECOND: Cell<Second> = const { Cell::new((i64::MIN, [0; 20])) });

/// RFC 3339, UTC, microseconds: `2026-11-21T03:04:05.678901Z`.
pub fn timestamp(out: &mut String, now: SystemTime) {
    let now = DateTime::<Utc>::from(now);
    let (mut known, mut written) = SECOND.get();
    if known != now.timestamp() {
        let text = now.format("%Y-%m-%dT%H:%M:%S.").to_string();
        // A year of five digits is not this program's to live through; then the text is cut, not lost.
        written.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        known = now.timestamp();
        SECOND.set((known, written));
    }
    written.iter().for_each(|byte| out.push(char::from(*byte)));
    let micros = u64::from(now.nanosecond() / 1_000).min(999_999);
    [100_000, 10_000, 1_000, 100, 10, 1]
        .iter()
        .for_each(|place| out.push(char::from(b'0' + (micros / place % 10) as u8)));
    out.push('Z');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn of(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn numbers_and_times_read_as_written() {
        for (value, text) in [
            (0.0, "0"),
            (12.3456, "12.346"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (3.0, "3"),
            (0.001, "0.001"),
            (0.0004, "0"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(of(|out| float(out, value)), text);
        }
        assert_eq!(of(|out| integer(out, u64::MAX)), u64::MAX.to_string());
        let at = UNIX_EPOCH + Duration::from_micros(1_795_230_245_000_071);
        assert_eq!(of(|out| timestamp(out, at)), "2026-11-21T03:04:05.000071Z");
        assert_eq!(of(|out| timestamp(out, at + Duration::from_millis(1))), "2026-11-21T03:04:05.001071Z");
        assert_eq!(of(|out| timestamp(out, UNIX_EPOCH)), "1970-01-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_quotes_and_stays_on_its_line(text in any::<String>()) {
            let quoted = of(|out| quote(out, &text));
            prop_assert!(!quoted.chars().any(|c| c.is_control() || c == '\u{2028}'), "{}", quoted);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }

        #[test]
        fn floats_are_their_own_value_to_a_thousandth(value in -1e9..1e9_f64) {
            let read: f64 = of(|out| float(out, value)).parse().unwrap();
            prop_assert!((read - value).abs() <= 0.000_500_1);
        }
    }
}
