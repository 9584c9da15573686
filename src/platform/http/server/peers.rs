//! How many connections each client address holds, so that one client can't take all places.

use std::net::{IpAddr, Ipv6Addr};

use crate::platform::tally::{Counted, Tally};

/// Connections by client.
pub(super) type Peers = Tally<IpAddr>;

/// Counts one more connection of this client, unless it has `most` already.
pub(super) fn admit(peers: &Peers, address: IpAddr, most: usize) -> Option<Counted<IpAddr>> {
    peers.begin(client(address), most)
}

/// Whoever has an IPv6 address has its /64.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_an_address_or_a_64_and_is_forgotten_when_it_leaves() {
        let peers = Peers::default();
        let one = admit(&peers, ip("2001:db8::1"), 2).unwrap();
        let two = admit(&peers, ip("2001:db8::ffff"), 2).unwrap();
        assert!(admit(&peers, ip("2001:db8::2"), 2).is_none());
        assert!(admit(&peers, ip("2001:db8:0:1::2"), 2).is_some());
        let plain = admit(&peers, ip("192.0.2.1"), 1).unwrap();
        assert!(admit(&peers, ip("::ffff:192.0.2.1"), 1).is_none());
        drop((one, two, plain));
        assert!(peers.counts().is_empty());
    }
}
