//! Who the client is, behind proxies: `X-Forwarded-For` is believed only as far as it was written by hops that
//! the configuration names (ASVS 4.1.3). Without any, the client is the peer of the connection.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use ipnet::IpNet;

/// Hops looked at: a chain that is longer is somebody's joke.
const MOST_HOPS: usize = 32;

/// Networks of the proxies in front of the service.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// # Errors
    /// The first text that is neither an address nor a network such as `10.0.0.0/8`.
    pub fn parse(networks: &[String]) -> Result<Self, String> {
        networks.iter().map(|text| network(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them is the whole internet.
    pub fn are_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The client of a request that came over a connection from `peer`: the last address that no trusted hop has.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.contain(client) {
            return client;
        }
        let mut hops = 0;
        for line in headers.get_all("x-forwarded-for").iter().rev() {
            // What can't be read ends the walk: what stands before it is nobody's word.
            let Ok(line) = line.to_str() else { return client };
            for hop in line.rsplit(',') {
                hops += 1;
                let (Some(address), true) = (address(hop.trim()), hops <= MOST_HOPS) else { return client };
                client = address.to_canonical();
                if !self.contain(client) {
                    return client;
                }
            }
        }
        client
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse().map(|address: IpAddr| address.into());
    text.parse()
        .or_else(|_| one())
        .map_err(|_| format!("expected an address or a network such as 10.0.0.0/8, got \"{text}\""))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.trim_matches(['[', ']']).parse().ok();
    text.parse::<SocketAddr>().map(|with_port| with_port.ip()).ok().or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &[&str], peer: &str, header: &str) -> String {
        let proxies = Proxies::parse(&proxies.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", header.parse().unwrap());
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.200.3.4", "11.0.0.1"),
            ("10.1.2.3/8", "10.9.9.9", "9.9.9.9"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ] {
            let network = Proxies::parse(&[network.to_owned()]).unwrap();
            assert!(network.contain(inside.parse().unwrap()), "{network:?} {inside}");
            assert!(!network.contain(outside.parse().unwrap()), "{network:?} {outside}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "example.com", "10.0.0.0/-1"] {
            assert!(Proxies::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_configured_hops_are_believed() {
        assert_eq!(client(&[], "203.0.113.9", "198.51.100.1"), "203.0.113.9", "nobody is trusted by default");
        assert_eq!(client(&["10.0.0.0/8"], "203.0.113.9", "198.51.100.1"), "203.0.113.9", "not a hop of ours");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", "198.51.100.1"), "198.51.100.1");
        // What the client wrote itself stands to the left of what our hops added.
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9"), "198.51.100.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", "1.1.1.1, nonsense"), "10.1.2.3");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", ""), "10.1.2.3");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", "1.1.1.1, 198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", "[2001:db8::1]:4711, 10.0.0.1"), "2001:db8::1");
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
        let appended = axum::http::HeaderValue::from_bytes(b"\xff, 198.51.100.1").unwrap();
        headers.append("x-forwarded-for", appended);
        assert_eq!(proxies.client("10.1.2.3".parse().unwrap(), &headers).to_string(), "10.1.2.3", "unreadable");
        assert_eq!(client(&["10.0.0.0/8"], "::ffff:10.1.2.3", "2001:db8::1"), "2001:db8::1");
        assert_eq!(client(&["fd00::/8", "0.0.0.0/0"], "fd00::1", &"1.1.1.1, ".repeat(1_000)), "fd00::1");
    }

    #[test]
    fn networks_are_addresses_with_a_length() {
        for bad in ["10.0.0.0/33", "::/129", "10.0.0", "host", "10.0.0.0/", "/8", ""] {
            assert!(Proxies::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
