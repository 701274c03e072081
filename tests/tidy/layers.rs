//! The layer table, and who may import whom. It is the same as in docs/architecture.md; this one is enforced.

use crate::source::{Path, paths};
use crate::tree::{File, Offence};

/// The modules of `src/`, lowest first. A module imports lower layers only, and itself.
const LAYERS: &[(&str, u8)] = &[
    ("domain", 1),
    ("manifest", 2),
    ("graph", 2),
    ("diff", 2),
    ("kube", 2),
    ("plan", 3),
    ("source", 4),
    ("store", 4),
    ("master", 5),
    ("api", 6),
    ("client", 6),
    ("daemon", 7),
    ("cli", 8),
];

/// Imports between siblings of one layer that are meant: (importer, imported, why).
const SIBLINGS: &[(&str, &str, &str)] = &[];

/// Where the embedded agent may be named: below, everybody knows only the words both sides share.
const AGENT_USERS: &[&str] = &["daemon", "cli"];

/// Module of the agent that decides, and therefore knows nothing of the modules that do.
pub const AGENT_PURE: &[&str] = &["decide"];

/// Modules of the agent whose types, and nothing else of them, may be named by what decides.
const AGENT_WORDS: &[&str] = &["runtime"];

/// What may stand in a crate's `[dependencies]`: L0 is words, and nothing that acts.
const PROTOCOL_MAY: &[&str] =
    &["ipnet", "jiff", "serde", "serde_json", "sha2", "thiserror", "hmac", "base64"];
/// The agent also builds alone, slim: no SQLite, no Git, no web server, no progress bars.
const AGENT_MAY_NOT: &[&str] = &["kgit", "rusqlite", "git2", "axum", "indicatif", "k8s-openapi"];

/// The top module of a file under `src/`, as `plan` of `src/plan/tick.rs`.
pub fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

pub fn check(file: &File) -> Vec<Offence> {
    let judge = if file.path.starts_with("src/") {
        judge_kgit
    } else if file.path.starts_with("agents/src/") {
        judge_agent
    } else {
        judge_protocol
    };
    if file.is_test_only {
        return Vec::new();
    }
    paths(&file.text)
        .iter()
        .filter(|path| !path.in_test)
        .filter_map(|path| judge(file, path).map(|what| Offence::new(file, path.line, what)))
        .collect()
}

fn judge_kgit(file: &File, path: &Path) -> Option<String> {
    let from = module(&file.path)?;
    if from == "main" || from == "lib" {
        return None;
    }
    let Some(own) = layer(from) else {
        return Some(format!("module `{from}` is in no layer: add it to the table"));
    };
    if path.is(&["kgit_agent"]) && !AGENT_USERS.contains(&from) {
        return Some(format!("`{from}` names the agent, which only {AGENT_USERS:?} may"));
    }
    let to = target(file, path)?;
    let reached = layer(&to)?;
    let listed = SIBLINGS.iter().any(|(a, b, _)| *a == from && *b == to);
    if to == from || reached < own || listed {
        return None;
    }
    Some(format!("`{from}` (layer {own}) imports `{to}` (layer {reached})"))
}

/// The top module that a path leads to, if it leads to one of this crate.
fn target(file: &File, path: &Path) -> Option<String> {
    if path.is(&["crate"]) || path.is(&["kgit"]) {
        return path.segments.get(1).cloned();
    }
    let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
    // `super` often enough leaves the top module, and is then an import like any other.
    let climbed_out = ups > 0 && ups == module_depth(&file.path) + path.depth;
    climbed_out.then(|| path.segments.get(ups).cloned()).flatten()
}

/// How many modules deep a file of `src/` stands: `src/plan/mod.rs` 1, `src/plan/tick.rs` 2.
fn module_depth(path: &str) -> usize {
    let names = path.trim_start_matches("src/").split('/').count();
    if path.ends_with("/mod.rs") { names - 1 } else { names }
}

fn judge_agent(file: &File, path: &Path) -> Option<String> {
    if path.is(&["kgit"]) {
        return Some("the agent names `kgit`, which builds on it".to_owned());
    }
    let inside = file.path.strip_prefix("agents/src/")?;
    let own = inside.split('/').next()?.trim_end_matches(".rs");
    let to = path.is(&["crate"]).then(|| path.segments.get(1))??;
    let pure = |name: &str| AGENT_PURE.contains(&name);
    // The words that a doer's contract is written in are values: what it is called with and what it answers.
    let is_type = path.segments.get(2).is_some_and(|item| item.starts_with(char::is_uppercase));
    let word = path.segments.len() == 3 && is_type && AGENT_WORDS.contains(&to.as_str());
    (pure(own) && !pure(to) && !word)
        .then(|| format!("`{own}` decides, and `{to}` does: it may not be imported"))
}

fn judge_protocol(_: &File, path: &Path) -> Option<String> {
    let up = path.is(&["kgit"]) || path.is(&["kgit_agent"]);
    up.then(|| format!("the protocol names `{}`, which builds on it", path.segments[0]))
}

/// The crates' own arrows, as their manifests say them.
pub fn check_dependencies(file: &File) -> Vec<Offence> {
    let forbidden = |name: &str| match file.path.as_str() {
        "agents/Cargo.toml" => AGENT_MAY_NOT.contains(&name),
        "agents/protocol/Cargo.toml" => !PROTOCOL_MAY.contains(&name),
        _ => false,
    };
    dependencies(&file.text)
        .filter(|(_, name)| forbidden(name))
        .map(|(line, name)| {
            Offence::new(file, line, format!("this crate may not depend on `{name}`"))
        })
        .collect()
}

fn dependencies(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
            return None;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        (inside && !name.is_empty() && !name.starts_with('#')).then_some((at + 1, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offences(path: &str, text: &str) -> Vec<String> {
        check(&File::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_import_from_above_is_an_offence() {
        let found =
            offences("src/plan/tick.rs", "use crate::domain::World;\nuse crate::store::Store;\n");
        assert_eq!(found, ["src/plan/tick.rs:2: `plan` (layer 3) imports `store` (layer 4)"]);
    }

    #[test]
    fn an_import_from_a_sibling_is_an_offence() {
        let found = offences("src/graph/mod.rs", "fn f() { crate::diff::g() }");
        assert_eq!(found, ["src/graph/mod.rs:1: `graph` (layer 2) imports `diff` (layer 2)"]);
    }

    #[test]
    fn climbing_out_with_super_is_an_import_too() {
        assert_eq!(offences("src/graph/mod.rs", "use super::diff::X;").len(), 1);
        assert_eq!(offences("src/graph/order.rs", "use super::super::diff::X;").len(), 1);
        assert_eq!(offences("src/graph/order.rs", "use super::diff::X;").len(), 0);
        assert_eq!(offences("src/graph/mod.rs", "mod a { use super::diff::X; }").len(), 0);
    }

    #[test]
    fn a_module_outside_the_table_is_an_offence() {
        assert!(offences("src/util.rs", "use std::fmt;")[0].contains("in no layer"));
    }

    #[test]
    fn the_agent_is_embedded_at_the_top_only() {
        assert_eq!(offences("src/store/mod.rs", "use kgit_agent::run;").len(), 1);
        assert_eq!(offences("src/daemon/mod.rs", "use kgit_agent::run;").len(), 0);
    }

    #[test]
    fn what_decides_in_the_agent_does_not_import_what_does() {
        assert_eq!(offences("agents/src/decide/mod.rs", "use crate::link::Link;").len(), 1);
        assert_eq!(offences("agents/src/decide/mod.rs", "use crate::runtime::docker::X;").len(), 1);
        assert_eq!(
            offences("agents/src/decide/mod.rs", "use crate::runtime::ContainerView;").len(),
            0
        );
        assert_eq!(offences("agents/src/decide/run.rs", "use crate::decide::Step;").len(), 0);
        assert_eq!(offences("agents/protocol/src/pod.rs", "use kgit_agent::X;").len(), 1);
    }

    #[test]
    fn a_dependency_of_the_wrong_crate_is_an_offence() {
        let manifest = "[dependencies]\nserde.workspace = true\ntokio = \"1\"\n\n[dev-dependencies]\ninsta = \"1\"\n";
        let found = check_dependencies(&File::new("agents/protocol/Cargo.toml", manifest));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }
}
