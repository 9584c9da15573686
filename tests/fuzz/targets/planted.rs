//! Secrets of every kind that is known by its form or its name, made of a fuzzer's bytes, and places to stand in.

use super::input::Input;

/// A secret of this process, told to the redactor once.
pub const OWN: &str = "own-secret-of-the-fuzz-targets-3141592653";

/// What must not survive, and the text that holds it.
pub struct Planted {
    pub secret: String,
    pub text: String,
}

const KINDS: usize = 14;

pub fn secret(input: &mut Input<'_>) -> Planted {
    let kind = input.below(KINDS);
    let form = |secret: String, form: &str| Planted { text: form.replace("{}", &secret), secret };
    match kind {
        0 => form(format!("ak_{}_{}", input.token(12), input.token(32)), "{}"),
        1 => form(format!("eyJ{}.{}.{}", input.token(16), input.token(16), input.token(20)), "{}"),
        2 => form(format!("AKIA{}", input.token(16).to_uppercase()), "{}"),
        3 => form(format!("ghp_{}", input.token(36)), "{}"),
        4 => form(format!("sk_live_{}", input.token(24)), "{}"),
        5 => form(card(input), "{}"),
        6 => form(iban(input), "{}"),
        7 => form(input.token(12), "postgres://app:{}@db:5432/app"),
        8 => form(input.token(24), "Bearer {}"),
        9 => form(format!("{}@example.com", input.token(10)), "{}"),
        10 => form(input.token(12), "password={}"),
        11 => form(input.token(12), "\"api_key\":\"{}\""),
        12 => form(input.token(12), "{\\\"password\\\":\\\"{}\\\"}"),
        _ => form(OWN.to_owned(), "{}"),
    }
}

fn digits(input: &mut Input<'_>, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + input.byte() % 10)).collect()
}

/// A Visa card: its check digit by Luhn's rule.
fn card(input: &mut Input<'_>) -> String {
    let number = format!("4{}", digits(input, 14));
    let sum: u32 = number
        .bytes()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0') * if at % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    format!("{number}{}", (10 - sum % 10) % 10)
}

/// A German account: its check digits make the remainder 1 (ISO 13616); D and E count as 13 and 14.
fn iban(input: &mut Input<'_>) -> String {
    let account = digits(input, 18);
    let rest = format!("{account}131400").bytes().fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

/// Around a secret: what a reader would see as its ends.
pub const PLACES: &[(&str, &str)] =
    &[(" ", " "), ("\n", "\n"), ("\"", "\""), ("(", ")"), ("[", "]"), ("'", "'"), ("field=", ", "), ("", "")];
