//! The programs that change the kernel: `nft` for kgit's own table, `ip` for the route to the
//! service range, `iptables` for the gaps in other people's filters, `conntrack` for what the
//! kernel remembers of datagrams. Each call does one thing; what to do is decided elsewhere.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it tells the kernel")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Where Debian keeps such programs; not on everybody's path.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long `iptables` waits for others that change the same tables.
const LOCK_SECONDS: &str = "5";
/// As much of a program's complaint as a person reads.
const SHOWN_BYTES: usize = 400;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("there is no `{0}` program")]
    Missing(&'static str),
    #[error("`{program}` could not be run")]
    Run { program: &'static str, source: std::io::Error },
    #[error("`{program}` refused: {said}")]
    Refused { program: &'static str, said: String },
}

/// The process that changes kgit's own table right now, for telling its changes from others'.
#[derive(Debug, Default)]
pub struct OwnChange(AtomicU32);

impl OwnChange {
    pub fn is(&self, pid: u32) -> bool {
        self.0.load(Ordering::Acquire) == pid
    }
}

/// One transaction of `nft`.
pub async fn nft(text: &str, own: &OwnChange) -> Result<(), KernelError> {
    let mut child = program("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot("nft", error))?;
    // Known before the text is: nothing is changed until the text has ended.
    own.0.store(child.id().unwrap_or_default(), Ordering::Release);
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why.
        let _ = input.write_all(text.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|source| KernelError::Run { program: "nft", source })?;
    judged("nft", &output).map(|_| ())
}

/// Runs a program to its end; what it says.
pub async fn run(name: &'static str, arguments: &[&str]) -> Result<String, KernelError> {
    let output = program(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| cannot(name, error))?;
    judged(name, &output)
}

/// The two ways in which `iptables` keeps rules. The kernel goes by both where both have some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Iptables {
    /// Whatever the host's own command is; where there is a choice, in nftables.
    Usual,
    /// In tables of their own, as before nftables.
    Legacy,
}

impl Iptables {
    fn programs(self) -> (&'static str, &'static str) {
        match self {
            Self::Usual if is_installed("iptables-nft") => ("iptables-nft", "iptables-nft-restore"),
            Self::Usual => ("iptables", "iptables-restore"),
            Self::Legacy => ("iptables-legacy", "iptables-legacy-restore"),
        }
    }

    pub async fn run(self, arguments: &[&str]) -> Result<String, KernelError> {
        let mut all = vec!["-w", LOCK_SECONDS];
        all.extend(arguments);
        run(self.programs().0, &all).await
    }

    /// Runs `iptables-restore` on a text that changes only what it names.
    pub async fn restore(self, text: &str) -> Result<(), KernelError> {
        let name = self.programs().1;
        let mut child = program(name)
            .args(["--noflush", "-w", LOCK_SECONDS])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| cannot(name, error))?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(text.as_bytes()).await;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|source| KernelError::Run { program: name, source })?;
        judged(name, &output).map(|_| ())
    }
}

/// The kinds that filter on this host. The older one only where somebody uses it: merely to look
/// at its tables would make them.
pub fn iptables_kinds() -> Vec<Iptables> {
    let mut kinds = Vec::new();
    if is_installed("iptables") || is_installed("iptables-nft") {
        kinds.push(Iptables::Usual);
    }
    if has_legacy_filter() && is_installed("iptables-legacy") {
        kinds.push(Iptables::Legacy);
    }
    kinds
}

/// Whether this network has a filter of the older kind, of whose changes the kernel says nothing.
pub fn has_legacy_filter() -> bool {
    let tables = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", SYSTEM_PATH).env("LC_ALL", "C").kill_on_drop(true);
    command
}

fn cannot(program: &'static str, source: std::io::Error) -> KernelError {
    match source.kind() {
        std::io::ErrorKind::NotFound => KernelError::Missing(program),
        _ => KernelError::Run { program, source },
    }
}

fn judged(program: &'static str, output: &Output) -> Result<String, KernelError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String =
        String::from_utf8_lossy(&output.stderr).trim().chars().take(SHOWN_BYTES).collect();
    Err(KernelError::Refused { program, said })
}

/// Whether the programs are there that rules need.
pub fn is_installed(name: &str) -> bool {
    SYSTEM_PATH.split(':').any(|folder| Path::new(folder).join(name).exists())
}

/// Where packets to services go that no rule has led to a pod, until they are refused. Not the
/// bridge: a pod's packet that leaves by the link that it came from makes the kernel advise the pod
/// of a shorter way (ICMP redirect), and the refusal is then held back as one message too many.
const NOWHERE: &str = "lo";

/// The host's own way to services, from the bridge's address.
pub async fn add_route(range: Ipv4Net, gateway: Ipv4Addr) -> Result<(), KernelError> {
    let (range, gateway) = (range.to_string(), gateway.to_string());
    run("ip", &["route", "replace", &range, "dev", NOWHERE, "src", &gateway]).await.map(|_| ())
}

pub async fn remove_route(range: Ipv4Net) {
    // It may be gone already, with the address that it names.
    let _ = run("ip", &["route", "del", &range.to_string(), "dev", NOWHERE]).await;
}

/// Lets every port of the bridge send a frame back to where it came from: a pod that reaches
/// itself through a service needs that where the bridge is filtered.
pub async fn allow_hairpins(bridge: &str) -> Result<(), KernelError> {
    let shown = run("ip", &["-d", "-o", "link", "show", "master", bridge]).await?;
    for port in shown.lines().filter(|line| line.contains("hairpin off")).filter_map(link_name) {
        // A port that has gone meanwhile needs nothing.
        let _ =
            run("ip", &["link", "set", "dev", port, "type", "bridge_slave", "hairpin", "on"]).await;
    }
    Ok(())
}

/// `7: veth12@if6: <…` names `veth12`.
fn link_name(line: &str) -> Option<&str> {
    let name = line.split(": ").nth(1)?;
    name.split('@').next()
}

/// What the kernel must be told of one bridge, in `/proc/sys/net/ipv4/conf`.
pub fn set_up_bridge(bridge: &str) -> std::io::Result<()> {
    // So that pods reach what is not on their bridge, and the host reaches a pod from 127.0.0.1.
    setting(bridge, "forwarding", "1")?;
    setting(bridge, "route_localnet", "1")
}

pub fn reset_bridge(bridge: &str) {
    // The bridge may be gone.
    let _ = setting(bridge, "route_localnet", "0");
}

fn setting(bridge: &str, name: &str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/{name}");
    if std::fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value)
}

pub fn bridge_exists(bridge: &str) -> bool {
    Path::new("/proc/sys/net/ipv4/conf").join(bridge).exists()
}

/// Whether packets that only cross a bridge pass the rules as well.
pub fn bridge_is_filtered() -> bool {
    is_on("/proc/sys/net/bridge/bridge-nf-call-iptables")
}

pub fn host_forwards() -> bool {
    is_on("/proc/sys/net/ipv4/ip_forward")
}

fn is_on(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// Whether the route to services stands.
pub fn has_route(range: Ipv4Net) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let ours = table.lines().filter(|line| line.split_whitespace().next() == Some(NOWHERE));
    // The parser skips a header.
    let lines: Vec<&str> = std::iter::once("").chain(ours).collect();
    crate::range::routes(&lines.join("\n")).contains(&range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_is_read_without_its_peer() {
        let line = "7: veth12@if6: <BROADCAST,UP> mtu 1500 hairpin off guard off";
        assert_eq!(link_name(line), Some("veth12"));
        assert_eq!(link_name("7: eth0: <UP>"), Some("eth0"));
    }
}
