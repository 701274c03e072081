//! What stands in the kernel, and having it stand: rules, route, bridge. Repeats itself without
//! harm, since others take things away at any time. Other people's filters are [`gaps`]'s affair.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it looks at the host")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;

use ipnet::Ipv4Net;
use kgit_protocol::directory::Directory;
use kgit_protocol::observation::ServiceTrouble;
use kgit_protocol::pod::Protocol;

use crate::net::choice::{Lead, Targets, leads};
use crate::net::gaps;
use crate::net::kernel::{self, KernelError, OwnChange};
use crate::net::passage::{OpenPorts, Underway};
use crate::net::rules::ports::{HostPort, Ports, ports};
use crate::net::rules::{Ground, Ruleset, ruleset, text};
use crate::net::sockets;
use crate::net::wire::{Here, Problem};

/// Entries of the kernel's memory that one change may cost a program run each.
const MOST_FORGOTTEN: usize = 64;

/// What `net` has in the kernel.
#[derive(Debug, Default)]
pub struct Field {
    pub own: Arc<OwnChange>,
    rules: Option<Ruleset>,
    leads: Vec<Lead>,
    filtered: bool,
    listening: BTreeSet<HostPort>,
    /// What is open instead of rules.
    open: OpenPorts,
    underway: Underway,
}

/// What came of putting things in place.
#[derive(Debug, Default)]
pub struct Outcome {
    pub problem: Option<Problem>,
    pub troubles: Vec<ServiceTrouble>,
}

impl Field {
    pub fn new(underway: Underway) -> Self {
        Self { underway, ..Self::default() }
    }

    /// Somebody took rules away: the next time they are all made anew.
    pub fn lost(&mut self) {
        self.rules = None;
    }

    /// Looks at what rules depend on and nobody tells of; whether they must change.
    pub fn look(&mut self) -> bool {
        let filtered = kernel::bridge_is_filtered();
        std::mem::replace(&mut self.filtered, filtered) != filtered
    }

    /// Looks at who listens on the host; whether that changes who has which port.
    pub fn look_at_ports(&mut self) -> bool {
        let wants = |lead: &Lead| lead.on_node || lead.node_port.is_some();
        if !self.leads.iter().any(wants) {
            return false;
        }
        let before = ports(&self.leads, &self.listening);
        self.listening = self.listeners();
        ports(&self.leads, &self.listening) != before
    }

    /// Ports that others have.
    fn listeners(&self) -> BTreeSet<HostPort> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut found = sockets::of_host(read);
        found.retain(|port| !self.open.is_open(*port));
        found
    }

    /// Has everything lead where it should.
    pub async fn put(&mut self, directory: &Directory, here: &Here, master_port: u16) -> Outcome {
        let leads = leads(directory, here);
        self.filtered = kernel::bridge_is_filtered();
        self.listening = self.listeners();
        let (ports, troubles) = ports(&leads, &self.listening);
        let ground = Ground {
            here,
            service_range: directory.service_range,
            master_port,
            bridge_is_filtered: self.filtered,
        };
        let problem = self.rule(ruleset(&leads, &ports, ground)).await.err().map(worded);
        let mut outcome = Outcome { problem, troubles };
        self.open_ports(&leads, &ports, &mut outcome);
        let before = std::mem::replace(&mut self.leads, leads);
        if outcome.problem.is_none() {
            forget_datagrams(&before, &self.leads).await;
        }
        outcome
    }

    /// Has the kernel go by these rules: by the change if what stands is known, else by all.
    async fn rule(&mut self, wanted: Ruleset) -> Result<(), KernelError> {
        if let Some(known) = self.rules.take().filter(|known| known.table == wanted.table) {
            let change = text::change(&known, &wanted);
            if change.is_empty() || kernel::nft(&change, &self.own).await.is_ok() {
                self.rules = Some(wanted);
                return Ok(());
            }
            tracing::info!("the rules are not as they were left; they are made anew");
        }
        kernel::nft(&text::whole(&wanted), &self.own).await?;
        self.rules = Some(wanted);
        Ok(())
    }

    /// Where the kernel takes no rules, node ports work all the same.
    fn open_ports(&mut self, leads: &[Lead], ports: &Ports, outcome: &mut Outcome) {
        let mut wanted: BTreeMap<HostPort, Vec<SocketAddrV4>> = BTreeMap::new();
        if outcome.problem.is_some() {
            for lead in leads {
                for port in ports.of(lead) {
                    if let Targets::Endpoints(targets) = &lead.outer {
                        let places = targets.iter().map(|target| target.at).collect();
                        wanted.insert((lead.protocol, port), places);
                    }
                }
            }
        }
        for ((protocol, port), error) in self.open.set(&wanted, &self.underway) {
            let owner = leads
                .iter()
                .find(|lead| lead.protocol == protocol && ports.of(lead).contains(&port));
            let Some(owner) = owner else { continue };
            outcome.troubles.push(ServiceTrouble {
                service: owner.service.clone(),
                reason: "PortNotOpened".to_owned(),
                message: format!("port {port} can't be opened on this node: {error}"),
            });
        }
    }

    /// The bridge's settings and the host's route to services. The bridge may not be there yet;
    /// its coming is told.
    pub async fn connect(&self, range: Ipv4Net, here: &Here) -> Result<(), Problem> {
        let bridge = here.bridge.as_str();
        if !kernel::bridge_exists(bridge) {
            return Ok(());
        }
        let refused = |error: &dyn std::fmt::Display| {
            Problem::new("BridgeNotSetUp", format!("the bridge {bridge}: {error}"))
        };
        kernel::set_up_bridge(bridge).map_err(|error| refused(&error))?;
        if !kernel::has_route(range) {
            kernel::add_route(range, here.gateway).await.map_err(|error| refused(&error))?;
        }
        if self.filtered {
            kernel::allow_hairpins(bridge).await.map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}

/// Takes everything away that was put in place, by whichever process.
pub async fn clear(range: Option<Ipv4Net>, here: &Here) -> Result<(), Problem> {
    let removed = kernel::nft(&text::removal(&here.table), &OwnChange::default()).await;
    if let Some(range) = range
        && kernel::has_route(range)
    {
        kernel::remove_route(range).await;
    }
    kernel::reset_bridge(&here.bridge);
    gaps::clear(&here.table).await;
    match removed.map_err(worded) {
        // Without the program or the right there were no rules.
        Err(problem) if !["NoNft", "NotPermitted"].contains(&problem.reason.as_str()) => {
            Err(problem)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn worded(error: KernelError) -> Problem {
    match &error {
        KernelError::Missing(program) => {
            let message = format!("install the package that has `{program}` (Debian: nftables)");
            Problem::new("NoNft", message)
        }
        KernelError::Refused { said, .. } if said.contains("Operation not permitted") => {
            Problem::new("NotPermitted", "kgit has no right to set rules here: it needs NET_ADMIN")
        }
        KernelError::Refused { .. } | KernelError::Run { .. } => {
            Problem::new("RulesRefused", error.to_string())
        }
    }
}

/// A connection that is gone is dialled anew; datagrams just go on to where they went before,
/// until the kernel forgets that.
async fn forget_datagrams(before: &[Lead], now: &[Lead]) {
    let still: BTreeSet<_> = now.iter().flat_map(places).collect();
    let gone: BTreeSet<_> =
        before.iter().flat_map(places).filter(|at| !still.contains(at)).collect();
    if gone.is_empty() || !kernel::is_installed("conntrack") {
        return;
    }
    for (port, target) in gone.into_iter().take(MOST_FORGOTTEN) {
        let (port, target) = (port.to_string(), target.ip().to_string());
        let arguments = ["-D", "-p", "udp", "--orig-port-dst", &port, "--dst-nat", &target];
        // It says so with an error if there was nothing to forget.
        let _ = kernel::run("conntrack", &arguments).await;
    }
}

/// Each way of datagrams: the port that they are sent to, and where they end.
fn places(lead: &Lead) -> Vec<(u16, SocketAddrV4)> {
    if lead.protocol != Protocol::Udp {
        return Vec::new();
    }
    let targets = [&lead.inner, &lead.outer].into_iter().flat_map(|targets| match targets {
        Targets::Endpoints(targets) => targets.as_slice(),
        Targets::Master => &[],
    });
    let ports = || std::iter::once(lead.port).chain(lead.node_port);
    targets.flat_map(|target| ports().map(|port| (port, target.at))).collect()
}
