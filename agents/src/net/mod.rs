//! Service traffic and names on one node, in a process of its own: `net`. It outlives the agent,
//! which feeds it ([`feeder`]) with what [`wire`] words; what it was fed last it keeps on disk and
//! begins with. What the kernel was told stays in force when `net` dies.
//!
//! [`choice`], [`rules`], [`names::zone`], [`names::message`], [`holes`], [`firewalld`] and
//! [`sockets`] decide and are pure; [`serve`] is the process, [`field`] has rules put into the
//! kernel through [`kernel`], [`gaps`] has kgit's traffic pass other people's, [`watch`] hears who
//! undoes them, [`passage`] carries bytes where the kernel can't.
//! What deliberately does not live here: what is behind a service (the master's directory says),
//! and whether a pod is ready (the agent says).

pub mod choice;
pub mod feeder;
pub mod field;
pub mod firewalld;
pub mod gaps;
pub mod holes;
pub mod keep;
pub mod kernel;
pub mod names;
pub mod open;
pub mod passage;
pub mod rules;
pub mod serve;
pub mod sockets;
pub mod watch;
pub mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::os::unix::fs::MetadataExt as _;

/// Which program this is: its version, and the very file, so that a rebuilt one counts as another.
#[allow(clippy::disallowed_methods, reason = "part of the shell: it looks at its own file")]
pub fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{version}+{:x}.{:x}", file.size(), file.mtime()),
        Err(_) => version.to_owned(),
    }
}
