//! `resolv.conf`: reading the host's, and wording a pod's: pure.

use std::net::{IpAddr, Ipv4Addr};

use kgit_protocol::pod::Dns;

/// Where systemd-resolved keeps the servers that its own address stands for.
pub const SYSTEMD_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
pub const HOST: &str = "/etc/resolv.conf";

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolv {
    pub nameservers: Vec<IpAddr>,
    pub searches: Vec<String>,
}

pub fn parse(text: &str) -> Resolv {
    let mut found = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                found.nameservers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            }
            // The last such line counts.
            Some("search" | "domain") => {
                found.searches = words.filter(|word| *word != ".").map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    found
}

/// The host's own servers and search domains. `read` gives a file's text, or none.
pub fn of_host(read: impl Fn(&str) -> Option<String>) -> Resolv {
    let host = parse(&read(HOST).unwrap_or_default());
    let stub = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
    match read(SYSTEMD_RESOLVED) {
        Some(text) if host.nameservers.contains(&stub) => {
            let real = parse(&text);
            let searches = if host.searches.is_empty() { real.searches } else { host.searches };
            Resolv { nameservers: real.nameservers, searches }
        }
        _ => host,
    }
}

/// A pod's `resolv.conf`; `None`: the host's own file serves. `gateway` answers for the cluster's
/// names where this node can have that.
pub fn of_pod(dns: &Dns, gateway: Option<Ipv4Addr>, host: &Resolv) -> Option<String> {
    if !dns.cluster {
        let servers = (!dns.nameservers.is_empty()).then_some(&dns.nameservers)?;
        return Some(text(servers, &dns.searches, &dns.options));
    }
    let mut servers = match gateway {
        Some(gateway) => vec![gateway.to_string()],
        // A server on the host's loopback can't be reached from a pod.
        None => {
            let reachable = host.nameservers.iter().filter(|server| !server.is_loopback());
            reachable.map(ToString::to_string).collect()
        }
    };
    servers.extend(dns.nameservers.iter().cloned());
    let mut searches = dns.searches.clone();
    searches.extend(host.searches.iter().filter(|name| !dns.searches.contains(name)).cloned());
    Some(text(&servers, &searches, &dns.options))
}

fn text(servers: &[String], searches: &[String], options: &[String]) -> String {
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Resolv {
        parse("search old\n# a comment\nnameserver 192.168.1.1\nnameserver ::1\nsearch lan corp\n")
    }

    fn cluster() -> Dns {
        Dns {
            cluster: true,
            nameservers: Vec::new(),
            searches: vec!["default.svc.cluster.local".to_owned(), "lan".to_owned()],
            options: vec!["ndots:5".to_owned()],
        }
    }

    #[test]
    fn a_pod_asks_the_bridge_and_searches_the_hosts_domains_last() {
        insta::assert_snapshot!(
            of_pod(&cluster(), Some(Ipv4Addr::new(10, 40, 1, 1)), &host()).unwrap(),
            @r"
        search default.svc.cluster.local lan corp
        nameserver 10.40.1.1
        options ndots:5
        "
        );
    }

    #[test]
    fn without_a_server_of_its_own_the_hosts_serve_except_on_loopback() {
        insta::assert_snapshot!(
            of_pod(&cluster(), None, &host()).unwrap(),
            @r"
        search default.svc.cluster.local lan corp
        nameserver 192.168.1.1
        options ndots:5
        "
        );
        assert_eq!(of_pod(&Dns::default(), None, &host()), None);
    }

    #[test]
    fn behind_systemd_resolved_its_own_list_counts() {
        let read = |path: &str| match path {
            HOST => Some("nameserver 127.0.0.53\nsearch lan\n".to_owned()),
            _ => Some("nameserver 9.9.9.9\n".to_owned()),
        };
        let found = of_host(read);
        assert_eq!(found.nameservers, ["9.9.9.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(found.searches, ["lan"]);
    }
}
