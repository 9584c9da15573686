//! API10: receivers of webhooks that misbehave in every way: no more than its cap is read of any answer, and nobody
//! waits longer than the call may take.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use keel::platform::outbound::{Call, Failure};

use super::{
    hostile::{Hostile, Manner},
    webhooks,
};

/// More than the cap of one answer (1 MiB) and what sockets buffer for two tries; much less than a gigabyte.
pub const MOST_READ: usize = 48 << 20;

pub const ENDLESS: &str =
    "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n";
pub const CHUNKED: &str = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n";
pub const HEAD: &str = "HTTP/1.1 201 Created\r\nx: ";

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_webhooks_holds_nothing_up_and_is_not_read_to_the_end() {
    let outbound = webhooks::outbound(true);
    for (manner, expected) in [
        (Manner::Endless(ENDLESS), vec![Failure::TooLarge]),
        (Manner::Endless(CHUNKED), vec![Failure::TooLarge]),
        (Manner::Endless(HEAD), vec![Failure::Broken, Failure::TooLarge]),
        (Manner::Drip, vec![Failure::Timeout]),
        (Manner::Silent, vec![Failure::Timeout]),
        (Manner::Gone, vec![Failure::Broken]),
        (Manner::Bytes(b"\0\x01\x02\xff\r\n\r\n".to_vec()), vec![Failure::Broken]),
    ] {
        let server = Hostile::start(manner.clone()).await;
        let (url, started) = (server.url.parse().unwrap(), Instant::now());
        let (method, headers, timeout) =
            (reqwest::Method::POST, reqwest::header::HeaderMap::new(), Duration::from_secs(1));
        let call =
            Call { method, url, template: "{webhook_url}", headers, body: Some(b"{}"), timeout, idempotent: false };
        let failure = outbound.call_tenant(&call).await.unwrap_err();
        assert!(expected.contains(&failure), "{manner:?}: {failure:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{manner:?}");
        assert!(server.sent.load(Relaxed) < MOST_READ, "{manner:?}");
        assert_eq!(server.asked().len(), 1, "{manner:?}: a webhook is not repeated by itself");
    }
}
