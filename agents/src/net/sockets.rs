//! What listens on ports, from the text of `/proc/PID/net/{tcp,tcp6,udp,udp6}`: pure.

use std::collections::BTreeSet;

use kgit_protocol::pod::Protocol;

use crate::net::rules::ports::HostPort;

/// TCP_LISTEN and, for datagrams, TCP_CLOSE of the kernel's `tcp_states.h`.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// The local ports that take connections, or datagrams from anybody.
pub fn listening(table: &str, protocol: Protocol) -> impl Iterator<Item = Listener> {
    let wanted = if protocol == Protocol::Udp { UNCONNECTED } else { LISTENS };
    table.lines().skip(1).filter_map(move |line| listener(line, wanted))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    /// Only the network's own processes reach it.
    pub on_loopback: bool,
}

/// `sl local_address rem_address st …`, in hexadecimal.
fn listener(line: &str, wanted: &str) -> Option<Listener> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    // 127.x.x.x as the machine lays it out in memory, and ::1.
    let on_loopback = match address.len() {
        8 => address.ends_with("7F") || address.starts_with("7F") && cfg!(target_endian = "big"),
        _ => address == "00000000000000000000000001000000",
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == wanted).then_some(Listener { port, on_loopback })
}

/// Every port of this host that a program has.
pub fn of_host(read: impl Fn(&str) -> String) -> BTreeSet<HostPort> {
    let tables = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ];
    let mut found = BTreeSet::new();
    for (name, protocol) in tables {
        let table = read(&format!("/proc/thread-self/net/{name}"));
        found.extend(listening(&table, protocol).map(|listener| (protocol, listener.port)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0\n\
        1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:0\n\
        2: 0100007F:0051 0100007F:9C40 01 00000000:00000000 00:0\n";

    #[test]
    fn only_what_listens_counts_and_loopback_is_told() {
        let found: Vec<(u16, bool)> = listening(TABLE, Protocol::Tcp)
            .map(|listener| (listener.port, listener.on_loopback))
            .collect();
        assert_eq!(found, [(8080, true), (80, false)]);
    }
}
