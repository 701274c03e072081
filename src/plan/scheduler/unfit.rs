//! Why nodes can't take a pod, and the one line that counts them.

use std::collections::BTreeMap;
use std::fmt;

/// Why a node can't take a pod. In upstream's words where it has some: people search for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    OtherNodeNamed,
    Cordoned,
    Taint {
        key: String,
        value: String,
    },
    Labels,
    HostPortTaken,
    TooManyPods,
    Cpu,
    Memory,
    VolumeElsewhere,
    NoVolume,
    SpreadLabel,
    Spread,
    Affinity,
    AntiAffinity,
    /// A pod that runs there does not want this one near.
    Unwelcome,
}

impl Unfit {
    /// Whether the node could take the pod if others went.
    pub fn can_yield(&self) -> bool {
        match self {
            Self::HostPortTaken
            | Self::TooManyPods
            | Self::Cpu
            | Self::Memory
            | Self::Spread
            | Self::AntiAffinity
            | Self::Unwelcome => true,
            Self::OtherNodeNamed
            | Self::Cordoned
            | Self::Taint { .. }
            | Self::Labels
            | Self::VolumeElsewhere
            | Self::NoVolume
            | Self::SpreadLabel
            | Self::Affinity => false,
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherNodeNamed => "node(s) didn't match the requested node name",
            Self::Cordoned => "node(s) were unschedulable",
            Self::Taint { key, value } => {
                return write!(f, "node(s) had untolerated taint {{{key}: {value}}}");
            }
            Self::Labels => "node(s) didn't match Pod's node affinity/selector",
            Self::HostPortTaken => "node(s) didn't have free ports for the requested pod ports",
            Self::TooManyPods => "Too many pods",
            Self::Cpu => "Insufficient cpu",
            Self::Memory => "Insufficient memory",
            Self::VolumeElsewhere => "node(s) had volume node affinity conflict",
            Self::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Self::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::Spread => "node(s) didn't match pod topology spread constraints",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::Unwelcome => "node(s) didn't satisfy existing pods anti-affinity rules",
        })
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {dedicated: db}`.
/// A node that lacks several resources counts for each.
pub fn refusal(nodes: usize, unfit: impl IntoIterator<Item = Vec<Unfit>>) -> String {
    if nodes == 0 {
        return "0/0 nodes are available: no node has joined yet".to_owned();
    }
    let mut counts: BTreeMap<Unfit, usize> = BTreeMap::new();
    for why in unfit.into_iter().flatten() {
        *counts.entry(why).or_default() += 1;
    }
    // Sorted as text, as upstream does.
    let mut reasons: Vec<String> =
        counts.iter().map(|(why, count)| format!("{count} {why}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}", reasons.join(", "))
}
