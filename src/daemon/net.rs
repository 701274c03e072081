//! `kgit net`: what carries service traffic, in a process of its own; and whether it could.

use std::path::Path;

use kgit_agent::net::{kernel, serve};
use tokio_util::sync::CancellationToken;

use crate::daemon::error::DaemonError;

/// Runs until `stop`, or until another takes over. The kernel goes on by its rules.
pub async fn run(data: &Path, stop: CancellationToken) -> Result<(), DaemonError> {
    Ok(serve::run(data, stop).await?)
}

/// What would keep services from working on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Root,
    Nft,
    Route,
    Forwarding,
    Conntrack,
}

/// Everything that this host lacks for services, the worst first.
pub fn lacks() -> Vec<Lack> {
    let mut found = Vec::new();
    if !rustix::process::geteuid().is_root() {
        found.push(Lack::Root);
    }
    let programs = [("nft", Lack::Nft), ("ip", Lack::Route), ("conntrack", Lack::Conntrack)];
    found.extend(
        programs.into_iter().filter(|(name, _)| !kernel::is_installed(name)).map(|(_, lack)| lack),
    );
    if !kernel::host_forwards() {
        found.push(Lack::Forwarding);
    }
    found.sort_by_key(|lack| *lack == Lack::Conntrack);
    found
}
