//! Which addresses a tenant's URL may reach: public ones only. Names are checked as they are
//! resolved for the connection itself, so a name that changes its mind (DNS rebinding) gains nothing.

use std::{
    error::Error as StdError,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Whether the world can be reached there, and only the world.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// IANA's special-purpose registry for IPv4.
fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Global unicast (2000::/3) less what maps to IPv4 or is for documentation.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let segments = v6.segments();
    let global = segments[0] & 0xe000 == 0x2000;
    // 2001::/23 (Teredo, ORCHID…), 2001:db8::/32, 2002::/16 (6to4), 3fff::/20.
    let special = (segments[0] == 0x2001 && (segments[1] < 0x0200 || segments[1] == 0x0db8))
        || segments[0] == 0x2002
        || (segments[0] == 0x3fff && segments[1] < 0x1000);
    global && !special
}

/// Checks what can be told before a connection: scheme, credentials, and addresses written out
/// (`url` has already read `http://2130706433` and `0x7f.1` as addresses).
pub fn may_be_called(url: &Url, allow_private: bool) -> bool {
    let scheme = url.scheme() == "https" || (allow_private && url.scheme() == "http");
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>().map_or(!host.is_empty(), |address| allow_private || is_public(address));
    scheme && address && url.username().is_empty() && url.password().is_none()
}

/// The system's resolver, less private addresses.
pub struct Resolver {
    allow_private: bool,
    lookup: Lookup,
}

/// How names are looked up.
type Lookup = fn(&str) -> std::io::Result<Vec<SocketAddr>>;

impl Resolver {
    pub fn new(allow_private: bool) -> Self {
        Self { allow_private, lookup: |host| Ok((host, 0).to_socket_addrs()?.collect()) }
    }
}

/// A name that resolves to nothing a tenant may reach.
#[derive(Debug)]
struct Refusal;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name has no public address")
    }
}

impl StdError for Refusal {}

/// Whether an error of the client comes from this guard.
pub fn is_refusal(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<Refusal>() {
            return true;
        }
        next = cause.source();
    }
    false
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { allow_private, lookup } = *self;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || lookup(&host)).await??;
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(Refusal) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_followed_to_public_addresses_only() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let lookup: Lookup = |_| {
            let addresses: &[&str] = match ASKED.fetch_add(1, Relaxed) {
                0 => &["93.184.216.34:0"],
                1 => &["127.0.0.1:0"],
                _ => &["[::ffff:10.0.0.1]:0", "169.254.169.254:0", "93.184.216.34:0"],
            };
            Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
        };
        let resolver = Resolver { allow_private: false, lookup };
        let ask = async || {
            let found = resolver.resolve("rebind.example.com".parse().unwrap()).await;
            found.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(ask().await, Some(vec!["93.184.216.34".to_owned()]));
        assert_eq!(ask().await, None, "each connection asks anew, and is refused");
        assert_eq!(ask().await, Some(vec!["93.184.216.34".to_owned()]), "of many, the public ones");
    }

    #[test]
    fn private_addresses_in_any_spelling_are_refused() {
        let bad = [
            "https://127.0.0.1/",
            "https://10.1.2.3",
            "https://192.168.0.1",
            "https://172.16.0.1",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://[::]/",
            "https://0.0.0.0",
            "https://100.64.0.1",
            "https://198.18.0.1",
            "https://192.0.2.1",
            "https://224.0.0.1",
            "https://255.255.255.255",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[2002:7f00:1::]/",
            "https://[64:ff9b::7f00:1]/",
            "http://example.com/",
            "ftp://example.com/",
            "https://user:pw@example.com/",
            "https://user@example.com/",
            "file:///etc/passwd",
        ];
        for url in bad {
            assert!(!may_be_called(&Url::parse(url).unwrap(), false), "{url}");
        }
        for url in ["https://example.com/hook", "https://93.184.216.34/", "https://[2606:2800:220:1::1]:8443/x"] {
            assert!(may_be_called(&Url::parse(url).unwrap(), false), "{url}");
        }
        assert!(may_be_called(&Url::parse("http://127.0.0.1:9/").unwrap(), true));
    }
}
