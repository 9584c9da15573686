//! Signatures of webhooks, after Standard Webhooks (standardwebhooks.com): HMAC-SHA-256 over
//! `id.timestamp.body`. The receiver refuses old timestamps and an id it has seen.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The headers of one delivery; a repeated one has the same id. Signed with each of the secrets: while one is
/// being replaced, receivers may know either.
pub fn headers(secrets: &[Vec<u8>], id: Uuid, timestamp: i64, body: &str) -> HeaderMap {
    let plain = |text: &str| HeaderValue::from_str(text).expect("ids, numbers and base64 are plain ASCII");
    let signatures: Vec<String> =
        secrets.iter().map(|secret| signature(secret, &id.to_string(), timestamp, body)).collect();
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("webhook-id"), plain(&id.to_string())),
        (HeaderName::from_static("webhook-timestamp"), plain(&timestamp.to_string())),
        (HeaderName::from_static("webhook-signature"), plain(&signatures.join(" "))),
    ])
}

fn signature(secret: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn the_signature_is_the_one_receivers_compute() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
