//! What engines really run, whoever believes what.

use std::collections::{BTreeMap, BTreeSet};

use kgit::domain::key::{Kind, ObjectKey};
use kgit_agent::runtime::PAUSE;
use kgit_protocol::ids::{NodeName, PodUid};

use crate::agent::Agent;
use crate::checks::{Checked, Checks, Known};

/// What only one node, one pod or one life of a pod may have at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// A claim, of one node.
    OnNode(ObjectKey),
    /// A claim, of one pod.
    OfPod(ObjectKey),
    /// The name of a StatefulSet's pod.
    Ordinal(ObjectKey),
}

#[derive(Debug, Default)]
pub(super) struct Engines {
    seen: BTreeMap<usize, (u64, u64)>,
    /// What runs on each node.
    running: BTreeMap<usize, BTreeSet<PodUid>>,
    users: BTreeMap<Thing, BTreeSet<(usize, PodUid)>>,
    /// Volumes that engines have.
    volumes: BTreeMap<usize, BTreeSet<String>>,
}

impl Engines {
    /// What is known of pods changed: who uses what is seen as engines change, or are looked at.
    pub(super) fn look_anew(&mut self) {
        self.seen.clear();
        self.users.clear();
    }

    /// Notes the users of what `node` runs now; the first thing that has too many.
    fn use_things(
        &mut self,
        node: usize,
        things: Vec<(Thing, PodUid)>,
    ) -> Option<(Thing, Vec<(usize, PodUid)>)> {
        self.users.retain(|_, users| {
            users.retain(|(on, _)| *on != node);
            !users.is_empty()
        });
        for (thing, pod) in things {
            let users = self.users.entry(thing.clone()).or_default();
            users.insert((node, pod));
            let nodes: BTreeSet<usize> = users.iter().map(|(node, _)| *node).collect();
            let pods: BTreeSet<&PodUid> = users.iter().map(|(_, pod)| pod).collect();
            let count = if matches!(thing, Thing::OnNode(_)) { nodes.len() } else { pods.len() };
            if count > 1 {
                return Some((thing, users.iter().cloned().collect()));
            }
        }
        None
    }
}

impl Checks {
    /// After anything that may have changed an engine.
    pub fn engine(&mut self, agent: &Agent) -> Checked {
        let world = agent.engine.world();
        let stand = (world.calls, world.told);
        if self.engines.seen.insert(agent.index, stand) == Some(stand) {
            return Ok(());
        }
        let alive = world.containers.values().filter(|seen| seen.state.is_alive());
        let mut names: BTreeSet<(&PodUid, &String)> = BTreeSet::new();
        let mut things = Vec::new();
        for identity in alive.map(|seen| &seen.identity) {
            let (pod, name) = (&identity.pod, &identity.container);
            if !names.insert((pod, name)) {
                return Err(format!("two containers `{name}` of {} run", self.name(pod)));
            }
            let known = self.pods.get(pod).filter(|known| name != PAUSE && !known.stranger);
            if let Some(known) = known.filter(|_| !self.unstopped.contains(pod)) {
                things.extend(self.things(known).map(|thing| (thing, pod.clone())));
            }
        }
        let pods: BTreeSet<PodUid> = names.iter().map(|(pod, _)| (*pod).clone()).collect();
        pods.iter().try_for_each(|pod| self.owed(agent, pod))?;
        self.engines.running.insert(agent.index, pods);
        if let Some((thing, users)) = self.engines.use_things(agent.index, things) {
            return Err(format!("{thing:?} is in use by {users:?}"));
        }
        self.volumes(agent.index, &world.volumes)
    }

    /// Another pod with the same claim, as if the master had made it for that node; `None` if the
    /// pod has no claim. For a promise broken on purpose.
    pub fn with_claim(&mut self, pod: &PodUid, node: &NodeName) -> Option<PodUid> {
        self.pods.get(pod).filter(|known| !known.claims.is_empty())?;
        self.twin_of(pod, node)
    }

    /// The same of any pod, with its name as well.
    pub fn twin_of(&mut self, pod: &PodUid, node: &NodeName) -> Option<PodUid> {
        let known = self.pods.get(pod)?;
        let twin = PodUid::new(format!("{pod}-twin"));
        let known = Known { node: Some(node.clone()), ..known.clone() };
        self.pods.insert(twin.clone(), known);
        Some(twin)
    }

    fn things(&self, known: &Known) -> impl Iterator<Item = Thing> {
        let mut things = Vec::new();
        for claim in &known.claims {
            things.push(match self.once_pod.contains(claim) {
                true => Thing::OfPod(claim.clone()),
                false => Thing::OnNode(claim.clone()),
            });
        }
        if known.kind == Kind::StatefulSet {
            things.push(Thing::Ordinal(known.key.clone()));
        }
        things.into_iter()
    }

    fn owed(&self, agent: &Agent, pod: &PodUid) -> Checked {
        if !agent.given.contains(pod) {
            let name = self.name(pod);
            return Err(format!("{name} runs on {}, which was never given it", agent.name));
        }
        match self.pods.get(pod) {
            None => Err(format!("pod {pod} runs, and the master never made it")),
            Some(known) if known.lost || self.unstopped.contains(pod) => Ok(()),
            Some(known) if known.gone => {
                Err(format!("{} runs on {} after the master saw it gone", known.key, agent.name))
            }
            Some(known) if known.node.as_ref() != Some(&agent.name) => {
                Err(format!("{} runs on {}, but is placed elsewhere", known.key, agent.name))
            }
            Some(_) => Ok(()),
        }
    }

    /// A turn changed what is known of a pod: if it runs, that must still be right.
    pub(super) fn still_owed(&self, pod: &PodUid) -> Checked {
        let known = self.pods.get(pod).filter(|known| !known.lost);
        let Some(known) = known.filter(|_| !self.unstopped.contains(pod)) else { return Ok(()) };
        for (node, _) in self.engines.running.iter().filter(|(_, pods)| pods.contains(pod)) {
            if known.gone {
                return Err(format!("{} runs on n{node}, and the master saw it gone", known.key));
            }
            if known.node.as_ref().is_none_or(|name| name.as_str() != format!("n{node}")) {
                return Err(format!("{} runs on n{node}, but is placed elsewhere", known.key));
            }
        }
        Ok(())
    }

    fn volumes(&mut self, index: usize, there: &BTreeSet<String>) -> Checked {
        let known = self.engines.volumes.entry(index).or_default();
        if known == there {
            return Ok(());
        }
        let lost = known.difference(there).find(|name| !self.may_go.contains(*name));
        if let Some(name) = lost {
            return Err(format!("volume {name} was removed from n{index}"));
        }
        known.clone_from(there);
        Ok(())
    }
}
