//! What the pure core must not touch: clock, environment, files, network, randomness, async. Clippy's disallowed
//! methods say the same of calls; this looks at names, and keeps anyone from allowing themselves out of it.

use crate::layers::{AGENT_PURE, module};
use crate::source::{Path, paths};
use crate::tree::{File, Offence};

const PURE: &[&str] = &["domain", "manifest", "graph", "diff", "kube", "plan"];

/// Paths that reach outside, by their start.
const OUTSIDE: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "collections", "HashMap"],
    &["std", "collections", "HashSet"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["Timestamp", "now"],
    &["Zoned", "now"],
    &["async"],
    &["await"],
    &["tokio"],
    &["tokio_util"],
    &["futures_util"],
    &["rand"],
    &["getrandom"],
    &["rusqlite"],
    &["git2"],
    &["notify"],
    &["reqwest"],
    &["axum"],
    &["hyper"],
    &["hyper_util"],
    &["bollard"],
    &["rustix"],
    &["rustls"],
    &["rcgen"],
    &["tempfile"],
    &["tracing"],
];

/// Addresses are values, not the network.
const VALUES: &[&str] = &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "AddrParseError"];

/// Whether a file belongs to the core that decides.
fn is_pure(path: &str) -> bool {
    if path.starts_with("agents/protocol/src/") {
        return true;
    }
    if let Some(inside) = path.strip_prefix("agents/src/") {
        let name = inside.split('/').next().unwrap_or_default();
        return AGENT_PURE.contains(&name.trim_end_matches(".rs"));
    }
    module(path).is_some_and(|name| PURE.contains(&name))
}

pub fn check(file: &File) -> Vec<Offence> {
    if !is_pure(&file.path) {
        return Vec::new();
    }
    let reaches = paths(&file.text)
        .into_iter()
        .filter(|path| !path.in_test && !file.is_test_only && is_outside(path))
        .map(|path| {
            let name = path.segments.join("::");
            Offence::new(
                file,
                path.line,
                format!("`{name}` in the pure core, which touches nothing outside"),
            )
        });
    let allows = file
        .text
        .lines()
        .enumerate()
        // Files that hold only tests may read their cases, and clippy must hear of it.
        .filter(|_| !file.is_test_only)
        .filter(|(_, line)| line.contains("disallowed_methods") && !line.contains("deny("))
        .map(|(at, _)| {
            Offence::new(file, at + 1, "the pure core may not allow itself disallowed methods")
        });
    reaches.chain(allows).collect()
}

fn is_outside(path: &Path) -> bool {
    let value = path.is(&["std", "net"])
        && path.segments.get(2).is_some_and(|name| VALUES.contains(&name.as_str()));
    !value && OUTSIDE.iter().any(|start| path.is(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&File::new(path, text)).iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn files_clock_and_async_are_offences_in_the_core() {
        let text = "use std::{fmt, fs};\nfn f() { SystemTime::now() }\nasync fn g() { h.await }\nuse tokio::sync;\n";
        assert_eq!(lines("src/plan/tick.rs", text), [1, 2, 3, 3, 4]);
    }

    #[test]
    fn the_shell_may_reach_out() {
        assert!(lines("src/store/mod.rs", "use std::fs;").is_empty());
        assert!(lines("agents/src/runtime/mod.rs", "use tokio::sync;").is_empty());
    }

    #[test]
    fn addresses_are_values() {
        assert!(lines("src/plan/tick.rs", "use std::net::{IpAddr, Ipv4Addr};").is_empty());
        assert_eq!(lines("src/plan/tick.rs", "use std::net::TcpStream;"), [1]);
    }

    #[test]
    fn the_core_can_not_allow_itself_out() {
        let text = "//! x\n#![allow(clippy::disallowed_methods, reason = \"just this once\")]\n";
        assert_eq!(lines("agents/src/decide/mod.rs", text), [2]);
        let denied = "//! x\n#![deny(clippy::disallowed_methods, reason = \"this decides\")]\n";
        assert!(lines("agents/src/decide/mod.rs", denied).is_empty());
    }

    #[test]
    fn tests_of_the_core_may_read_their_cases() {
        assert!(
            lines("src/plan/tick.rs", "#[cfg(test)]\nmod tests {\n use std::fs;\n}").is_empty()
        );
    }
}
