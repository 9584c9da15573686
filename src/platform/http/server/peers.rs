//! How many connections each client address holds, so that one client can't take all places. Memory
//! is bounded by the connections that are open.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use parking_lot::Mutex;

/// Addresses with a common prefix: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    prefix: u128,
    bits: u32,
    v6: bool,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv6() == self.v6 && masked(address, self.bits) == self.prefix
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected an address or a network such as 10.0.0.0/8, got \"{text}\"");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv6() { 128 } else { 32 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(wrong());
        }
        Ok(Self { prefix: masked(address, bits), bits, v6: address.is_ipv6() })
    }
}

/// The first bits of an address, at the top of the number.
fn masked(address: IpAddr, bits: u32) -> u128 {
    let number = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    // A shift by the whole width is no shift.
    number & u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

/// Connections by client.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<IpAddr, usize>>);

impl Peers {
    /// Counts one more connection of this client, unless it has `most` already.
    pub fn admit(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Admitted> {
        let client = client(address);
        let mut peers = self.0.lock();
        let held = peers.entry(client).or_insert(0);
        if *held >= most {
            return None;
        }
        *held += 1;
        Some(Admitted { peers: Arc::clone(self), client })
    }
}

/// Whoever has an IPv6 address has its /64.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// Counts as a connection of its client until dropped.
pub(super) struct Admitted {
    peers: Arc<Peers>,
    client: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock();
        if let Some(held) = peers.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                peers.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
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
            let network: Network = network.parse().unwrap();
            assert!(network.contains(ip(inside)), "{network:?} {inside}");
            assert!(!network.contains(ip(outside)), "{network:?} {outside}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "example.com", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_client_is_an_address_or_a_64_and_is_forgotten_when_it_leaves() {
        let peers = Arc::new(Peers::default());
        let one = peers.admit(ip("2001:db8::1"), 2).unwrap();
        let two = peers.admit(ip("2001:db8::ffff"), 2).unwrap();
        assert!(peers.admit(ip("2001:db8::2"), 2).is_none());
        assert!(peers.admit(ip("2001:db8:0:1::2"), 2).is_some());
        let plain = peers.admit(ip("192.0.2.1"), 1).unwrap();
        assert!(peers.admit(ip("::ffff:192.0.2.1"), 1).is_none());
        drop((one, two, plain));
        assert!(peers.0.lock().is_empty());
    }
}
