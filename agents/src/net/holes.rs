//! Gaps in other people's filters: pure text. Where a host drops by default what comes in or is
//! forwarded (ufw, Docker), kgit's own traffic needs accepts in those very chains; they stand in
//! chains of kgit's own, to which one jump leads.

use std::net::Ipv4Addr;

use crate::net::wire::Here;

/// Names of chains have 28 letters at most.
pub const PREFIX: &str = "KGIT";

/// The chain that a jump from a built-in chain leads to.
pub fn chain(table: &str, from: &str) -> String {
    let own = table.trim_start_matches("kgit_").to_uppercase();
    let side = if from == "INPUT" { "IN" } else { "FWD" };
    format!("{PREFIX}-{own}-{side}")
}

/// The built-in chains with a jump.
pub const FROM: [&str; 2] = ["INPUT", "FORWARD"];

/// kgit's chains, for `iptables-restore --noflush`, which makes or empties and fills them at once.
pub fn chains(here: &Here, master_port: u16) -> String {
    let Here { table, bridge, gateway, .. } = here;
    let (input, forward) = (chain(table, "INPUT"), chain(table, "FORWARD"));
    let accepts = accepts(bridge, *gateway, master_port);
    let accepts: String =
        accepts.iter().map(|rule| format!("-A {input} {rule} -j ACCEPT\n")).collect();
    format!(
        "*filter\n:{input} - [0:0]\n:{forward} - [0:0]\n{accepts}\
         -A {forward} -i {bridge} -o {bridge} -j ACCEPT\n\
         -A {forward} -o {bridge} -m conntrack --ctstate DNAT -j ACCEPT\n\
         -A {forward} -i {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n"
    )
}

/// What pods may ask of the host itself: names, and the way to the master.
fn accepts(bridge: &str, gateway: Ipv4Addr, master_port: u16) -> [String; 4] {
    let to_us = format!("-i {bridge} -d {gateway}/32");
    [
        format!("{to_us} -p udp -m udp --dport 53"),
        format!("{to_us} -p tcp -m tcp --dport 53"),
        format!("{to_us} -p tcp -m tcp --dport {master_port}"),
        // A pod on the host's network that is behind a service.
        format!("-i {bridge} -m conntrack --ctstate DNAT"),
    ]
}

/// How a built-in chain stands, from what `iptables -S CHAIN` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Nothing but jumps of kgit's stand before it.
    First,
    /// Something stands before it that may drop: take it out and put it first.
    Behind,
    Missing,
}

/// Whether anything in the built-in chains could stand in the way, from what `iptables -S` says.
pub fn is_needed(shown: &str) -> bool {
    let own = format!("-j {PREFIX}-");
    shown.lines().any(|line| {
        FROM.iter().any(|from| {
            let has_rule = line.starts_with(&format!("-A {from} ")) && !line.contains(&own);
            has_rule || line == format!("-P {from} DROP")
        })
    })
}

/// Whether kgit's chains are there and have rules.
pub fn is_filled(shown: &str, table: &str) -> bool {
    FROM.iter().all(|from| {
        let rule = format!("-A {} ", chain(table, from));
        shown.lines().any(|line| line.starts_with(&rule))
    })
}

/// How the jump from a built-in chain stands.
pub fn jump(shown: &str, from: &str, chain: &str) -> Jump {
    let ours = format!("-j {chain}");
    let kgits = format!("-j {PREFIX}-");
    let of_chain = format!("-A {from} ");
    let mut rules = shown.lines().filter(|line| line.starts_with(&of_chain)).peekable();
    while rules.next_if(|rule| rule.contains(&kgits) && !rule.ends_with(&ours)).is_some() {}
    match rules.next() {
        Some(rule) if rule.ends_with(&ours) => Jump::First,
        _ if rules.any(|rule| rule.ends_with(&ours)) => Jump::Behind,
        _ => Jump::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_first_behind_or_missing() {
        let check = |shown: &str, expected| {
            let shown = format!("-P INPUT DROP\n-A FORWARD -j DROP\n{shown}");
            assert_eq!(jump(&shown, "INPUT", "KGIT-A-IN"), expected, "{shown}");
        };
        check("", Jump::Missing);
        check("-A INPUT -j KGIT-A-IN\n-A INPUT -j DROP\n", Jump::First);
        check("-A INPUT -j KGIT-B-IN\n-A INPUT -j KGIT-A-IN\n", Jump::First);
        check("-A INPUT -j ufw-before-input\n-A INPUT -j KGIT-A-IN\n", Jump::Behind);
        check("-A INPUT -j KGIT-B-IN\n-A INPUT -j DROP\n", Jump::Missing);
    }

    #[test]
    fn gaps_are_made_only_where_something_is_in_the_way() {
        assert!(!is_needed("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-A INPUT -j KGIT-A-IN\n"));
        assert!(is_needed("-P INPUT ACCEPT\n-P FORWARD DROP\n"));
        assert!(is_needed("-P INPUT ACCEPT\n-A INPUT -j ufw-before-input\n"));
        let filled = "-A KGIT-1_2-IN -j ACCEPT\n-A KGIT-1_2-FWD -j ACCEPT\n";
        assert!(is_filled(filled, "kgit_1_2"));
        assert!(!is_filled("-N KGIT-1_2-IN\n-A KGIT-1_2-FWD -j ACCEPT\n", "kgit_1_2"));
    }

    #[test]
    fn names_of_chains_are_short_enough() {
        assert_eq!(chain("kgit_0123abcd_4567", "INPUT"), "KGIT-0123ABCD_4567-IN");
        assert!(chain("kgit_0123abcd_4567", "FORWARD").len() <= 28);
    }
}
