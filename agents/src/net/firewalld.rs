//! Gaps in the filter of `firewalld`: pure text. It has a table of nftables to itself, in which an
//! accept of another table counts for nothing; so kgit's accepts stand in chains of that very
//! table, to which one jump leads, as in [`holes`]. Each reload makes the table anew, without them.
//!
//! What was translated passes by firewalld's own rules; left are names, the way to the master, and
//! pods that address each other.

use crate::net::holes;
use crate::net::wire::Here;

/// The table's name; its family is `inet`.
pub const TABLE: &str = "firewalld";

/// What the kernel must be told for kgit's traffic to pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Gap {
    /// Nothing: it passes.
    Open,
    /// This, in one transaction.
    Missing(String),
    /// Only firewalld itself may change its table.
    Owned,
}

/// What is to be done, by what `nft -a list table` shows. Without a listing nothing filters.
/// `known`: the accepts that stand are the ones that were put there last.
pub fn gap(shown: &str, here: &Here, master_port: u16, known: bool) -> Gap {
    let text: String =
        holes::FROM.iter().map(|from| opening(shown, from, here, master_port, known)).collect();
    if text.is_empty() {
        return Gap::Open;
    }
    if !is_owned(shown) {
        return Gap::Missing(text);
    }
    // Whoever put the bridge into a zone, as Docker does, decided what may pass there.
    match shown.contains(&format!("\"{}\"", here.bridge)) {
        true => Gap::Open,
        false => Gap::Owned,
    }
}

fn opening(shown: &str, from: &str, here: &Here, master_port: u16, known: bool) -> String {
    let base = base(from);
    let Some(rules) = rules(shown, &base) else { return String::new() };
    let chain = holes::chain(&here.table, from);
    let jump = format!("jump {chain}");
    let stands = rules.iter().position(|rule| what(rule) == jump);
    let is_first = stands.is_some_and(|at| rules[..at].iter().all(|rule| is_kgits(rule)));
    let is_filled = rules_of(shown, &chain) > 0;
    let mut text = String::new();
    if !known || !is_filled {
        text.push_str(&format!(
            "add chain inet {TABLE} {chain}\nflush chain inet {TABLE} {chain}\n"
        ));
        for accept in accepts(from, here, master_port) {
            text.push_str(&format!("add rule inet {TABLE} {chain} {accept} accept\n"));
        }
    }
    if !is_first {
        if let Some(handle) = stands.and_then(|at| handle(rules[at])) {
            text.push_str(&format!("delete rule inet {TABLE} {base} handle {handle}\n"));
        }
        text.push_str(&format!("insert rule inet {TABLE} {base} {jump}\n"));
    }
    text
}

/// Takes the gaps out again; empty where there are none.
pub fn closing(shown: &str, table: &str) -> String {
    let mut text = String::new();
    for from in holes::FROM {
        let (base, chain) = (base(from), holes::chain(table, from));
        let jump = format!("jump {chain}");
        let jumps = rules(shown, &base).unwrap_or_default();
        for handle in jumps.into_iter().filter(|rule| what(rule) == jump).filter_map(handle) {
            text.push_str(&format!("delete rule inet {TABLE} {base} handle {handle}\n"));
        }
        if rules(shown, &chain).is_some() {
            text.push_str(&format!("delete chain inet {TABLE} {chain}\n"));
        }
    }
    text
}

fn accepts(from: &str, here: &Here, master_port: u16) -> Vec<String> {
    let Here { bridge, gateway, .. } = here;
    match from {
        "INPUT" => {
            let to_us = format!("iifname \"{bridge}\" ip daddr {gateway}");
            ["udp dport 53".to_owned(), format!("tcp dport {{ 53, {master_port} }}")]
                .map(|port| format!("{to_us} {port}"))
                .into()
        }
        _ => vec![format!("iifname \"{bridge}\" oifname \"{bridge}\"")],
    }
}

/// firewalld's own chain for a hook.
fn base(from: &str) -> String {
    format!("filter_{from}")
}

/// The rules of a chain, each with its handle; `None` if there is no such chain.
fn rules<'a>(shown: &'a str, chain: &str) -> Option<Vec<&'a str>> {
    let head = format!("chain {chain} {{");
    let mut lines = shown.lines().map(str::trim);
    lines.find(|line| line.starts_with(&head))?;
    let rules = lines.take_while(|line| *line != "}");
    Some(rules.filter(|line| !line.starts_with("type ")).collect())
}

fn rules_of(shown: &str, chain: &str) -> usize {
    rules(shown, chain).map_or(0, |rules| rules.len())
}

/// A rule without its handle.
fn what(rule: &str) -> &str {
    rule.split(" # handle ").next().unwrap_or(rule)
}

fn handle(rule: &str) -> Option<&str> {
    rule.split(" # handle ").nth(1)
}

fn is_kgits(rule: &str) -> bool {
    rule.starts_with(&format!("jump {}-", holes::PREFIX))
}

fn is_owned(shown: &str) -> bool {
    let flags = shown.lines().map(str::trim).find_map(|line| line.strip_prefix("flags "));
    flags.is_some_and(|flags| flags.split(',').any(|flag| flag.trim() == "owner"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::here;

    /// What `nft -a` lists, with these rules in the base chains and in kgit's own.
    fn shown(head: &str, input: &str, own: &str) -> String {
        let own = match own {
            "" => String::new(),
            rule => format!(
                "\tchain KGIT-1_2-IN {{ # handle 8\n\t\t{rule} # handle 9\n\t}}\n\
                 \tchain KGIT-1_2-FWD {{ # handle 8\n\t\t{rule} # handle 9\n\t}}\n"
            ),
        };
        format!(
            "table inet firewalld {{ # handle 2\n{head}\tchain filter_INPUT {{ # handle 4\n\
             \t\ttype filter hook input priority filter + 10; policy accept;\n{input}\
             \t\treject with icmpx admin-prohibited # handle 7\n\t}}\n\
             \tchain filter_FORWARD {{ # handle 5\n\t\tjump KGIT-1_2-FWD # handle 6\n\t}}\n{own}}}\n"
        )
    }

    #[test]
    fn a_gap_is_made_where_the_jump_or_the_accepts_are_missing() {
        let made =
            |input: &str, own: &str, known| match gap(&shown("", input, own), &here(), 7, known) {
                Gap::Missing(text) => {
                    text.lines().map(|line| line.replace("inet firewalld ", "")).collect()
                }
                other => vec![format!("{other:?}")],
            };
        let first = "\t\tjump KGIT-3_4-IN # handle 11\n\t\tjump KGIT-1_2-IN # handle 12\n";
        let behind = "\t\taccept # handle 11\n\t\tjump KGIT-1_2-IN # handle 12\n";
        assert_eq!(made(first, "accept", true), ["Open"]);
        assert_eq!(
            made(behind, "accept", true),
            ["delete rule filter_INPUT handle 12", "insert rule filter_INPUT jump KGIT-1_2-IN"]
        );
        assert_eq!(made("", "accept", true), ["insert rule filter_INPUT jump KGIT-1_2-IN"]);
        assert_eq!(made("", "", true).len(), 8);
        assert_eq!(made(first, "accept", false).len(), 7);
    }

    #[test]
    fn without_firewalld_nothing_is_to_do() {
        assert_eq!(gap("", &here(), 7, false), Gap::Open);
        assert_eq!(closing("", "kgit_1_2"), "");
    }

    #[test]
    fn a_table_that_only_its_owner_changes_is_left_to_whoever_chose_a_zone() {
        let flags = "\tflags owner,persist\n";
        assert_eq!(gap(&shown(flags, "", ""), &here(), 7, false), Gap::Owned);
        let zone = format!("\t\tiifname \"{}\" goto filter_IN_docker # handle 3\n", here().bridge);
        assert_eq!(gap(&shown(flags, &zone, ""), &here(), 7, false), Gap::Open);
    }

    #[test]
    fn what_was_made_is_taken_out_again() {
        let jump = "\t\tjump KGIT-1_2-IN # handle 12\n";
        assert_eq!(
            closing(&shown("", jump, "accept"), "kgit_1_2"),
            "delete rule inet firewalld filter_INPUT handle 12\n\
             delete chain inet firewalld KGIT-1_2-IN\n\
             delete rule inet firewalld filter_FORWARD handle 6\n\
             delete chain inet firewalld KGIT-1_2-FWD\n"
        );
    }
}
