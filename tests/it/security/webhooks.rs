//! API7: where a tenant's webhook may lead. `platform::outbound::guard` has the addresses as a unit test; here all
//! spellings through the caller itself, each a security event, names, redirects. What the command line takes is in
//! `webhook_urls`.

use std::{net::ToSocketAddrs as _, sync::atomic::Ordering::Relaxed, time::Duration};

use keel::platform::{
    outbound::{Call, Failure, Outbound, OutboundConfig, guard::Resolver},
    telemetry::metrics::Registry,
};
use reqwest::{Method, Url, dns::Resolve as _, header::HeaderMap};

use super::hostile::{Hostile, Manner};
use crate::support::sinks::SHARED;

/// All of them are refused; the last ones are not even URLs of the right kind.
pub const FORBIDDEN: [&str; 36] = [
    "https://127.0.0.1/",
    "https://127.0.0.1:5432/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/iam/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://100.100.100.200/",
    "https://192.0.0.192/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://１２７.０.０.１/",
    "https://user:pw@example.com/",
    "http://example.com/",
    "ftp://example.com/",
];

pub fn outbound(allow_private: bool) -> Outbound {
    let config = OutboundConfig { allow_private, connect_timeout: Duration::from_millis(500) };
    let registry = Registry::default();
    Outbound::build(&config, &SHARED.telemetry, &registry, &keel::platform::breaker::Breakers::new(&registry)).unwrap()
}

pub fn call(url: &str) -> Call<'static> {
    Call {
        method: Method::POST,
        url: Url::parse(url).unwrap(),
        template: "{webhook_url}",
        headers: HeaderMap::new(),
        body: Some(b"{}"),
        timeout: Duration::from_secs(2),
        idempotent: false,
    }
}

async fn events() -> usize {
    SHARED.logs("event", "outbound_forbidden").await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_an_inner_address_is_called_and_each_refusal_is_an_event() {
    let outbound = outbound(false);
    for url in FORBIDDEN {
        let before = events().await;
        assert_eq!(outbound.call_tenant(&call(url)).await.unwrap_err(), Failure::Forbidden, "{url}");
        assert!(events().await > before, "{url}: no event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_judged_by_what_it_resolves_to_for_the_connection_itself() {
    let server = Hostile::start(Manner::json("200 OK", "{}")).await;
    let port = server.url.rsplit_once(':').unwrap().1;
    // As a name that was public when it was looked at, and is not when it is called.
    for name in ["localhost", "LocalHost"] {
        let refused = Resolver::new(false).resolve(name.parse().unwrap()).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("no public address")), "{name}");
        assert!(Resolver::new(true).resolve(name.parse().unwrap()).await.is_ok(), "{name}");
        let failure = outbound(false).call_tenant(&call(&format!("https://{name}:{port}/"))).await.unwrap_err();
        assert_eq!(failure, Failure::Forbidden, "{name}");
    }
    assert_eq!(server.connections.load(Relaxed), 0, "nothing was connected to");
    // The name of this machine, where it has an inner address.
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    let inner = (own.as_str(), 0)
        .to_socket_addrs()
        .is_ok_and(|mut found| found.all(|address| !keel::platform::outbound::guard::is_public(address.ip())));
    if inner {
        assert!(Resolver::new(false).resolve(own.parse().unwrap()).await.is_err(), "{own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_an_answer_and_not_a_place_to_go() {
    let inner = Hostile::start(Manner::json("200 OK", "{\"secret\":true}")).await;
    let receiver = Hostile::start(Manner::Silent).await;
    let mut sent = 0;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        for to in [inner.url.as_str(), "http://169.254.169.254/latest/meta-data/", "//127.0.0.1/", "file:///etc/passwd"]
        {
            let redirect = Manner::redirect(status, to);
            receiver.behave(move |_| redirect.clone());
            let answer = outbound(true).call_tenant(&call(&receiver.url)).await.unwrap();
            assert_eq!(answer.status.to_string(), status[..3], "{to}");
            sent += 1;
            assert_eq!((receiver.asked().len(), answer.body.len()), (sent, 0), "asked once, with no second try");
        }
    }
    for asked in receiver.asked() {
        assert_eq!((asked.line.as_str(), asked.idempotency_key.as_str()), ("POST /", ""), "as it was told");
    }
    assert_eq!(inner.connections.load(Relaxed), 0, "the inner service was never reached");
}
