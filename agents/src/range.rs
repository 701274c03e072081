//! Choosing ranges for a node's pods and for a cluster's services: free of everything that the host can reach, and then fixed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use kgit_protocol::ids::Digest;

/// 254 addresses a node: Docker and Kubernetes both settle on fewer pods than that.
const PREFIX: u8 = 24;
/// The lowest networks of 10/8 are what home and office routers hand out.
const FIRST_SECOND_BYTE: u32 = 32;
/// Services are between those and the nodes' ranges, with room for 65,000 of them.
const FIRST_OF_SERVICES: u32 = 16;
const PREFIX_OF_SERVICES: u8 = 16;

/// A range within 10/8 that overlaps none of `taken`. `seed` spreads nodes and clusters, so that
/// two of them seldom choose the same. `None` if 10/8 is all taken.
pub fn choose(seed: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let start = start(seed);
    let candidates = (256 - FIRST_SECOND_BYTE) * 256;
    (0..candidates)
        .map(|step| nth((start % candidates + step) % candidates))
        .find(|range| is_free(*range, taken))
}

/// A range for the cluster's services, which are addresses without hosts: where no node's range
/// ever is. `None` if all of that is taken.
pub fn choose_for_services(seed: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let start = start(seed);
    let count = FIRST_SECOND_BYTE - FIRST_OF_SERVICES;
    (0..count)
        .map(|step| FIRST_OF_SERVICES + (start % count + step) % count)
        .map(|second| network((10 << 24) | (second << 16), PREFIX_OF_SERVICES))
        .find(|range| is_free(*range, taken))
}

fn start(seed: &str) -> u32 {
    let digest = Digest::of(seed.as_bytes());
    u32::from_str_radix(digest.as_str().get(..8).unwrap_or("0"), 16).unwrap_or(0)
}

fn is_free(range: Ipv4Net, taken: &[Ipv4Net]) -> bool {
    taken.iter().all(|other| !range.contains(other) && !other.contains(&range))
}

fn network(bits: u32, prefix: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::from(bits), prefix).expect("a valid prefix length")
}

fn nth(number: u32) -> Ipv4Net {
    let second = FIRST_SECOND_BYTE + number / 256;
    network((10 << 24) | (second << 16) | ((number % 256) << 8), PREFIX)
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

    #[test]
    fn services_are_where_no_node_is() {
        let all: Ipv4Net = "10.16.0.0/12".parse().unwrap();
        let first = choose_for_services("a", &[]).unwrap();
        assert!(all.contains(&first));
        assert_ne!(choose_for_services("a", &[first]), Some(first));
        assert_eq!(choose_for_services("a", &[all]), None);
        assert!((0..999).all(|n| !all.contains(&choose(&n.to_string(), &[]).unwrap())));
    }
}
