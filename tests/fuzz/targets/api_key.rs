//! API keys: what parses is what the grammar says, and what was parsed is what was written.

use aws_lc_rs::hmac;
use keel::platform::{
    config::Secret,
    tenancy::api_key::{ApiKey, Pepper, Verified},
};

use super::input::Input;

const PEPPER: &str = "a pepper of thirty-two characters";

pub fn run(data: &[u8]) {
    check(&String::from_utf8_lossy(data));

    let mut input = Input::new(data);
    let key = format!("ak_{}_{}", input.token(12), input.token(32));
    assert!(ApiKey::parse(&key).is_some(), "{key}");
    check(&key);

    let mut changed = key.into_bytes();
    match input.below(3) {
        0 => changed.truncate(input.below(changed.len())),
        1 => changed.insert(input.below(changed.len() + 1), input.byte()),
        _ => changed[input.below(48)] = input.byte(),
    }
    check(&String::from_utf8_lossy(&changed));
}

fn check(text: &str) {
    let parsed = ApiKey::parse(text);
    assert_eq!(parsed.is_some(), is_key(text), "{text:?}");
    let Some(key) = parsed else { return };
    let secret = &text[16..];
    assert_eq!(format!("ak_{}_{secret}", key.id), text, "the parts are the whole");
    // The secret is private; that it's this one shows in the hash.
    let pepper = Pepper::new(&Secret::new(PEPPER.to_owned()), None);
    assert!(pepper.verify(&key, hash(key.id, secret).as_ref()) == Verified::Yes, "{text:?} has another secret");
    assert!(
        pepper.verify(&key, hash(key.id, &secret[1..]).as_ref()) == Verified::No,
        "{text:?} has a part of its secret"
    );
    assert!(pepper.verify(&key, &[]) == Verified::No, "{text:?} has no hash");
}

/// `^ak_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}$`, byte by byte.
fn is_key(text: &str) -> bool {
    text.len() == 48
        && text.bytes().enumerate().all(|(at, byte)| match at {
            0 => byte == b'a',
            1 => byte == b'k',
            2 | 15 => byte == b'_',
            _ => byte.is_ascii_alphanumeric(),
        })
}

fn hash(id: &str, secret: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, PEPPER.as_bytes()), format!("api-key:{id}:{secret}").as_bytes())
}
