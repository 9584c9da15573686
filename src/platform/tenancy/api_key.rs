//! API keys: `ak_<id>_<secret>`. The id finds the row, the secret is compared as
//! HMAC-SHA-256(pepper, id and secret) in constant time. 190 random bits need no slow hash.

use aws_lc_rs::{hmac, rand};

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

/// The key under which secrets are hashed; the database alone is not enough to forge one.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl Pepper {
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    fn hash(&self, id: &str, secret: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in ["api-key:", id, ":", secret] {
            context.update(part.as_bytes());
        }
        context.sign()
    }

    /// Whether `key` is the one this hash was made of; takes the same time for any answer.
    pub fn verify(&self, key: &ApiKey<'_>, hash: &[u8]) -> bool {
        let message = ["api-key:", key.id, ":", key.secret].concat();
        hmac::verify(&self.0, message.as_bytes(), hash).is_ok()
    }

    /// What a tenant's webhooks are signed with; the tenant gets it once, out of band.
    pub fn webhook_secret(&self, tenant: TenantId) -> Vec<u8> {
        hmac::sign(&self.0, format!("webhook:{tenant}").as_bytes()).as_ref().to_vec()
    }

    /// A key of its own for another purpose (`cursor`), so that one tag never passes for another.
    pub fn derive(&self, purpose: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, purpose.as_bytes()).as_ref())
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
        let hash = pepper.hash(&id, &secret).as_ref().to_vec();
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
        let pepper = Pepper::new(&Secret::new("pepper".repeat(6)));
        let new = NewKey::generate(&pepper).unwrap();
        let key = ApiKey::parse(&new.text).unwrap();
        assert!(pepper.verify(&key, &new.hash));
        let mut other = new.text.clone().into_bytes();
        *other.last_mut().unwrap() = if other.ends_with(b"a") { b'b' } else { b'a' };
        let other = String::from_utf8(other).unwrap();
        assert!(!pepper.verify(&ApiKey::parse(&other).unwrap(), &new.hash));
        assert!(!Pepper::new(&Secret::new("other".repeat(6))).verify(&key, &new.hash));
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
