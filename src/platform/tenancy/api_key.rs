//! API keys: `ak_<id>_<secret>`. The id finds the row, the secret is compared as
//! HMAC-SHA-256(pepper, id and secret) in constant time. 190 random bits need no slow hash.

use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use parking_lot::RwLock;

use super::TenantId;
use crate::platform::config::Secret;

const PREFIX: &str = "ak_";
const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key as a client sends it. No `Debug`: it holds the secret.
pub struct ApiKey<'a> {
    pub id: &'a str,
    secret: &'a str,
}

impl<'a> ApiKey<'a> {
    /// The parts of a well-formed key; `None` for anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let plain = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain(id, ID_LENGTH) && plain(secret, SECRET_LENGTH)).then_some(Self { id, secret })
    }
}

/// The key under which secrets are hashed; the database alone is not enough to forge one. While it is being
/// rotated the one before it counts too. Cheap to clone; clones rotate together.
#[derive(Clone)]
pub struct Pepper(Arc<RwLock<Keys>>);

#[derive(Clone)]
struct Keys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl Keys {
    fn new(current: &Secret, previous: Option<&Secret>) -> Self {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self { current: key(current), previous: previous.map(key) }
    }

    fn each(&self) -> impl Iterator<Item = &hmac::Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// What became of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    Yes,
    /// By the pepper before the current one: to be hashed anew.
    ByPrevious,
    No,
}

impl Pepper {
    pub fn new(current: &Secret, previous: Option<&Secret>) -> Self {
        Self(Arc::new(RwLock::new(Keys::new(current, previous))))
    }

    /// Uses other secrets from now on, in all clones.
    pub fn rotate(&self, current: &Secret, previous: Option<&Secret>) {
        *self.0.write() = Keys::new(current, previous);
    }

    fn message(key: &ApiKey<'_>) -> String {
        ["api-key:", key.id, ":", key.secret].concat()
    }

    /// What to keep of a key.
    pub fn hash(&self, key: &ApiKey<'_>) -> Vec<u8> {
        hmac::sign(&self.0.read().current, Self::message(key).as_bytes()).as_ref().to_vec()
    }

    /// Whether `key` is the one this hash was made of; takes the same time for any answer.
    pub fn verify(&self, key: &ApiKey<'_>, hash: &[u8]) -> Verified {
        let (keys, message) = (self.0.read(), Self::message(key));
        let matches = |key: &hmac::Key| hmac::verify(key, message.as_bytes(), hash).is_ok();
        let (current, previous) = (matches(&keys.current), keys.previous.as_ref().is_some_and(matches));
        match (current, previous) {
            (true, _) => Verified::Yes,
            (false, true) => Verified::ByPrevious,
            (false, false) => Verified::No,
        }
    }

    /// What a tenant's webhooks are signed with, the current secret first; the tenant gets it once, out of band.
    pub fn webhook_secrets(&self, tenant: TenantId) -> Vec<Vec<u8>> {
        let message = format!("webhook:{tenant}");
        self.0.read().each().map(|key| hmac::sign(key, message.as_bytes()).as_ref().to_vec()).collect()
    }

    /// Keys of their own for another purpose (`cursor`), so that one tag never passes for another; the current
    /// one first.
    pub fn derive(&self, purpose: &str) -> Vec<hmac::Key> {
        let derived = |key| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, purpose.as_bytes()).as_ref());
        self.0.read().each().map(derived).collect()
    }
}

/// A new key: its id, the text for the client (shown once), and the hash to keep.
pub struct NewKey {
    pub id: String,
    pub text: String,
    pub hash: Vec<u8>,
}

impl NewKey {
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(pepper: &Pepper) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let id = random(ID_LENGTH)?;
        let secret = random(SECRET_LENGTH)?;
        let hash = pepper.hash(&ApiKey { id: &id, secret: &secret });
        Ok(Self { text: format!("{PREFIX}{id}_{secret}"), id, hash })
    }
}

/// Uniform letters and digits: bytes past the last multiple of 62 are drawn again.
fn random(length: usize) -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        rand::fill(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(fair.take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_verifies_and_a_changed_one_does_not() {
        let [secret, other_secret] = ["pepper", "other!"].map(|text| Secret::new(text.repeat(6)));
        let pepper = Pepper::new(&secret, None);
        let new = NewKey::generate(&pepper).unwrap();
        let key = ApiKey::parse(&new.text).unwrap();
        assert_eq!(pepper.verify(&key, &new.hash), Verified::Yes);
        let mut other = new.text.clone().into_bytes();
        *other.last_mut().unwrap() = if other.ends_with(b"a") { b'b' } else { b'a' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(pepper.verify(&ApiKey::parse(&other).unwrap(), &new.hash), Verified::No);
        let clone = pepper.clone();
        clone.rotate(&other_secret, Some(&secret));
        assert_eq!(pepper.verify(&key, &new.hash), Verified::ByPrevious);
        assert_eq!(pepper.verify(&key, &pepper.hash(&key)), Verified::Yes);
        clone.rotate(&other_secret, None);
        assert_eq!(pepper.verify(&key, &new.hash), Verified::No);
    }

    #[test]
    fn only_the_exact_form_parses() {
        let good = format!("ak_{}_{}", "a".repeat(12), "b".repeat(32));
        assert!(ApiKey::parse(&good).is_some());
        for bad in
            ["", "ak_", "ak__", &good[1..], &format!("{good}c"), &good.replace('b', "é"), &good.replace("ak_", "AK_")]
        {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}
