//! A ruleset as text for `nft -f -`: whole, or as the change from another. Either is one
//! transaction, so traffic meets the old rules or the new ones.

use std::fmt::Write as _;

use crate::net::rules::{Chain, Ruleset, Set, SetKind};

/// Elements in one statement: `nft` reads long lines, people should not have to.
const ELEMENTS_A_LINE: usize = 64;

/// Makes the table anew, whatever was in it.
pub fn whole(rules: &Ruleset) -> String {
    let empty = Ruleset { table: rules.table.clone(), ..nothing() };
    // Adding it first makes the deletion right in either case.
    let table = &rules.table;
    format!("add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n")
        + &change(&empty, rules)
}

/// Takes the table away.
pub fn removal(table: &str) -> String {
    format!("add table ip {table}\ndelete table ip {table}\n")
}

fn nothing() -> Ruleset {
    Ruleset { table: String::new(), chains: Default::default(), sets: Default::default() }
}

/// From one ruleset to another of the same table. Sets that rules fill are kept as they are.
pub fn change(from: &Ruleset, to: &Ruleset) -> String {
    let mut text = String::new();
    let table = &to.table;
    let known = |name: &String| from.chains.get(name);
    for (name, chain) in &to.chains {
        if known(name).is_none() {
            declare(&mut text, table, name, chain);
        }
    }
    for (name, set) in &to.sets {
        if from.sets.get(name).is_some_and(|old| old.definition == set.definition) {
            continue;
        }
        add_set(&mut text, table, name, set);
    }
    for (name, chain) in &to.chains {
        let old = known(name);
        if old.is_some_and(|old| old.rules == chain.rules) {
            continue;
        }
        if old.is_some() {
            line(&mut text, format_args!("flush chain ip {table} {name}"));
        }
        for rule in &chain.rules {
            line(&mut text, format_args!("add rule ip {table} {name} {rule}"));
        }
    }
    for (name, set) in &to.sets {
        change_elements(&mut text, table, name, from.sets.get(name), set);
    }
    take_away(&mut text, from, to);
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{words}");
}

fn declare(text: &mut String, table: &str, name: &str, chain: &Chain) {
    match &chain.hook {
        Some(hook) => {
            line(text, format_args!("add chain ip {table} {name} {{ {hook}; policy accept; }}"));
        }
        None => line(text, format_args!("add chain ip {table} {name}")),
    }
}

fn add_set(text: &mut String, table: &str, name: &str, set: &Set) {
    let kind = match set.kind {
        SetKind::Set | SetKind::Remembered => "set",
        SetKind::Map => "map",
    };
    let definition = &set.definition;
    line(text, format_args!("add {kind} ip {table} {name} {{ {definition}; }}"));
}

/// Elements that differ: the old ones go before the new ones come.
fn change_elements(text: &mut String, table: &str, name: &str, old: Option<&Set>, new: &Set) {
    let before = |key: &String| old.and_then(|old| old.elements.get(key));
    let gone = old
        .into_iter()
        .flat_map(|old| old.elements.keys())
        .filter(|key| new.elements.get(*key).is_none_or(|value| before(key) != Some(value)));
    let gone: Vec<&str> = gone.map(String::as_str).collect();
    elements(text, &format!("delete element ip {table} {name}"), &gone);
    let added = new.elements.iter().filter(|(key, value)| before(key) != Some(value));
    let added: Vec<String> = added
        .map(|(key, value)| match value {
            Some(value) => format!("{key} : {value}"),
            None => key.clone(),
        })
        .collect();
    let added: Vec<&str> = added.iter().map(String::as_str).collect();
    elements(text, &format!("add element ip {table} {name}"), &added);
}

fn elements(text: &mut String, command: &str, all: &[&str]) {
    for some in all.chunks(ELEMENTS_A_LINE) {
        line(text, format_args!("{command} {{ {} }}", some.join(", ")));
    }
}

/// Chains are emptied before any is deleted: they may name each other and the sets.
fn take_away(text: &mut String, from: &Ruleset, to: &Ruleset) {
    let table = &to.table;
    let chains: Vec<&String> =
        from.chains.keys().filter(|name| !to.chains.contains_key(*name)).collect();
    for name in &chains {
        line(text, format_args!("flush chain ip {table} {name}"));
    }
    for name in &chains {
        line(text, format_args!("delete chain ip {table} {name}"));
    }
    for (name, set) in from.sets.iter().filter(|(name, _)| !to.sets.contains_key(*name)) {
        let kind = if set.kind == SetKind::Map { "map" } else { "set" };
        line(text, format_args!("delete {kind} ip {table} {name}"));
    }
}
