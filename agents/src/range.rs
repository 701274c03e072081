//! Choosing the node's pod range: free of everything that the host can reach, and then fixed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use kgit_protocol::ids::Digest;

/// 254 addresses a node: Docker and Kubernetes both settle on fewer pods than that.
const PREFIX: u8 = 24;
/// The lowest networks of 10/8 are what home and office routers hand out.
const FIRST_SECOND_BYTE: u32 = 32;

/// A range within 10/8 that overlaps none of `taken`. `seed` spreads nodes and clusters, so that
/// two of them seldom choose the same. `None` if 10/8 is all taken.
pub fn choose(seed: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let digest = Digest::of(seed.as_bytes());
    let start = u32::from_str_radix(digest.as_str().get(..8).unwrap_or("0"), 16).unwrap_or(0);
    let candidates = (256 - FIRST_SECOND_BYTE) * 256;
    (0..candidates)
        .map(|step| nth((start % candidates + step) % candidates))
        .find(|range| taken.iter().all(|other| !range.contains(other) && !other.contains(range)))
}

fn nth(number: u32) -> Ipv4Net {
    let second = FIRST_SECOND_BYTE + number / 256;
    let bits = (10 << 24) | (second << 16) | ((number % 256) << 8);
    Ipv4Net::new(Ipv4Addr::from(bits), PREFIX).expect("24 is a valid prefix length")
}

/// The host's routes, from the text of `/proc/net/route`. The default route does not count.
pub fn routes(table: &str) -> Vec<Ipv4Net> {
    table.lines().skip(1).filter_map(route).filter(|range| range.prefix_len() > 0).collect()
}

fn route(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
    Ipv4Net::with_netmask(Ipv4Addr::from(number(1)?), Ipv4Addr::from(number(7)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
        eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n\
        eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";

    #[test]
    fn routes_are_read_and_the_default_route_does_not_count() {
        assert_eq!(routes(TABLE), ["192.168.1.0/24".parse().unwrap()]);
    }

    #[test]
    fn the_choice_is_stable_and_avoids_what_is_taken() {
        let first = choose("a", &[]).unwrap();
        assert_eq!(choose("a", &[]), Some(first));
        let second = choose("a", &[first]).unwrap();
        assert_ne!(first, second);
        assert_eq!(choose("a", &["10.0.0.0/8".parse().unwrap()]), None);
    }
}
