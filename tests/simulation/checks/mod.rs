//! What must hold at every moment, whatever goes wrong around. Each check gives the words of the
//! promise that was broken.

mod budgets;
mod data;
mod engines;
mod rollouts;
mod services;
mod sets;
pub mod stages;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::node::Node;
use kgit::domain::plan::Waits;
use kgit::domain::record::Pod;
use kgit::domain::resource::{AccessMode, Spec};
use kgit::domain::template::effect;
use kgit::domain::world::{Recorded, World, node_key};
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::observation::PodPhase;
use kgit_protocol::time::Timestamp;

use crate::checks::engines::Engines;
use crate::checks::stages::{Hooked, Stages, is_hook};

pub type Checked = Result<(), String>;

/// What is remembered of a pod from the World, also when it has left it.
#[derive(Clone, Debug)]
struct Known {
    key: ObjectKey,
    node: Option<NodeName>,
    claims: Vec<ObjectKey>,
    kind: Kind,
    gone: bool,
    /// Made by a master whose memory of it was lost with its data.
    lost: bool,
    /// And its node as well, so that nobody could be asked about it.
    stranger: bool,
}

/// What the checks remember from one moment to the next.
#[derive(Debug, Default)]
pub struct Checks {
    pods: BTreeMap<PodUid, Known>,
    issued: BTreeMap<NodeName, (u64, u64)>,
    /// Containers of jobs that ended well by themselves.
    succeeded: BTreeSet<(PodUid, String)>,
    engines: Engines,
    stages: Stages,
    /// Claims that one pod alone may use.
    once_pod: BTreeSet<ObjectKey>,
    /// What somebody ordered away, and the nodes that somebody gave up.
    ordered_away: BTreeSet<ObjectKey>,
    given_up: BTreeSet<NodeName>,
    /// Nodes that can't be relied on to stop pods by themselves.
    excused: BTreeSet<NodeName>,
    /// What such a node may go on with.
    unstopped: BTreeSet<PodUid>,
    /// Volumes that may go, since their claims may.
    may_go: BTreeSet<String>,
    checked: Option<u64>,
    /// By the master's clock, which may be set back: what was there for long enough then is there
    /// for long enough now.
    latest: Timestamp,
    waited: Waits,
}

/// Two Worlds around one turn, and what is known of the source.
pub struct Turned<'a> {
    pub before: &'a World,
    pub after: &'a World,
    pub waits: &'a Waits,
    pub now: Timestamp,
    /// Every file of the commit that the master has can be read.
    pub readable: bool,
    /// The master has read the source since its start.
    pub read: bool,
    /// The store took it. If not, nothing of the turn happened, and it is tried again.
    pub through: bool,
    /// Of the commit that the master has.
    pub hooks: &'a [Hooked],
}

impl Checks {
    /// After a turn of the master.
    pub fn turn(&mut self, turned: &Turned<'_>) -> Checked {
        self.latest = self.latest.max(turned.now);
        if self.checked == Some(turned.after.version) && self.waited.ptr_eq(turned.waits) {
            return Ok(());
        }
        self.waited = turned.waits.clone();
        if self.checked == Some(turned.after.version) {
            // Nothing is recorded that was not before; what is waited for may differ.
            return waits::everything_pending_is_explained(turned, self.latest);
        }
        self.checked = Some(turned.after.version);
        self.learn(turned)?;
        self.generations(turned.after)?;
        addresses(turned.after)?;
        self.no_data_removed(turned)?;
        if !turned.readable {
            self.nothing_deleted(turned)?;
        }
        rollouts::availability(turned)?;
        rollouts::surge(turned)?;
        rollouts::sets_of_their_own(turned)?;
        rollouts::finished_jobs_rest(turned)?;
        sets::check(turned)?;
        budgets::check(turned)?;
        self.stages(turned)?;
        waits::everything_pending_is_explained(turned, self.latest)?;
        services::endpoints(turned.after)
    }

    /// What a machine that somebody gave up goes on with when it comes back all the same, until it is
    /// told, is nobody's fault but theirs.
    fn give_up(&mut self, turned: &Turned<'_>) {
        let fences = |node: Option<&Recorded<Node>>| node.is_none_or(|it| it.fenced.is_some());
        for name in &self.given_up {
            let key = node_key(name);
            let (before, after) = (turned.before.nodes.get(&key), turned.after.nodes.get(&key));
            if fences(before) || !fences(after) {
                continue;
            }
            let there = self.pods.iter().filter(|(_, pod)| pod.node.as_ref() == Some(name));
            self.unstopped.extend(there.map(|(uid, _)| uid.clone()));
            self.engines.look_anew();
        }
    }

    fn learn(&mut self, turned: &Turned<'_>) -> Checked {
        self.give_up(turned);
        let mut changed = Vec::new();
        for item in turned.before.pods.diff(&turned.after.pods) {
            match item {
                DiffItem::Add(_, row) | DiffItem::Update { new: (_, row), .. } => {
                    changed.push(self.know(&row.value));
                }
                DiffItem::Remove(_, _) => {}
            }
            if let DiffItem::Remove(_, old) | DiffItem::Update { old: (_, old), .. } = item
                && turned.after.pod_by_uid(&old.uid).is_none()
                && let Some(known) = self.pods.get_mut(&old.uid)
            {
                known.gone = true;
                // Its node was to stop it by itself, and is not in a state to.
                let stops = old.placed.as_ref().filter(|it| it.spec.fence_after_seconds.is_some());
                if stops.is_some_and(|placed| self.excused.contains(&placed.node)) {
                    self.unstopped.insert(old.uid.clone());
                    self.engines.look_anew();
                }
                changed.push(old.uid.clone());
            }
        }
        for (key, row) in &turned.after.objects {
            let Spec::PersistentVolumeClaim(spec) = &row.resource.spec else { continue };
            if spec.access_modes == [AccessMode::ReadWriteOncePod] {
                self.once_pod.insert(key.clone());
            }
        }
        changed.iter().try_for_each(|pod| self.still_owed(pod))
    }

    fn know(&mut self, pod: &Pod) -> PodUid {
        let claims = pod.template.claims();
        let known = Known {
            key: pod.key.clone(),
            node: pod.node().cloned(),
            claims: claims.map(|name| pod.key.sibling(Kind::PersistentVolumeClaim, name)).collect(),
            kind: pod.owner.kind,
            gone: pod.phase() == PodPhase::Gone && pod.deletion.is_some(),
            lost: false,
            stranger: false,
        };
        self.pods.insert(pod.uid.clone(), known);
        pod.uid.clone()
    }

    fn generations(&mut self, world: &World) -> Checked {
        for node in world.nodes.values() {
            let place = (node.issued.epoch.0, node.issued.generation.0);
            let last = self.issued.entry(node.name.clone()).or_default();
            if place < *last {
                return Err(format!("{} was issued {last:?}, and now {place:?}", node.name));
            }
            *last = place;
        }
        self.issued.retain(|name, _| world.nodes.contains_key(&node_key(name)));
        Ok(())
    }

    fn nothing_deleted(&self, turned: &Turned<'_>) -> Checked {
        for (key, row) in &turned.before.objects {
            // What an object made ends as that sees fit, what somebody ordered away goes, and a
            // hook is made anew for each commit.
            if row.owner.is_some() || self.ordered_away.contains(key) || is_hook(row) {
                continue;
            }
            let Some(now) = turned.after.objects.get(key) else {
                return Err(format!("{key} was deleted while a file can't be read"));
            };
            if row.retained.is_none() && now.retained.is_some() {
                return Err(format!("{key} was retained while a file can't be read"));
            }
        }
        Ok(())
    }

    /// A master goes on with an old copy of its data: what it made since, it never made.
    pub fn forgets(&mut self, world: &World) {
        self.checked = None;
        self.issued.clear();
        // That they did is forgotten, too.
        self.succeeded.clear();
        self.forgets_stages(world);
        self.engines.look_anew();
        for (uid, known) in &mut self.pods {
            let then = world.pod_by_uid(uid);
            known.lost |= then.is_none_or(|pod| pod.node() != known.node.as_ref());
            let is_member = |node: &NodeName| world.nodes.contains_key(&node_key(node));
            known.stranger |= known.lost && !known.node.as_ref().is_some_and(is_member);
        }
        for pod in world.pods.values().filter(|pod| pod.placed.is_some()) {
            self.know(pod);
        }
    }

    /// Somebody orders retained objects, and their data, away.
    pub fn orders_away(&mut self, objects: &[ObjectKey]) {
        self.ordered_away.extend(objects.iter().cloned());
    }

    /// Where the agent or the engine is not at work, and where the master's clock was set since a
    /// node was heard of, a pod may go on that its node is to stop by itself, as the docs say.
    pub fn excuses(&mut self, nodes: impl Iterator<Item = NodeName>) {
        self.excused = nodes.collect();
    }

    /// Somebody declares a machine to be gone for good.
    pub fn gives_up(&mut self, node: &NodeName) {
        self.given_up.insert(node.clone());
    }

    /// A process of a job's container ended well by itself.
    pub fn ended_well(&mut self, pod: &PodUid, container: &str) {
        self.succeeded.insert((pod.clone(), container.to_owned()));
    }

    /// A container was started by an agent.
    pub fn started(&self, pod: &PodUid, container: &str) -> Checked {
        let job = self.pods.get(pod).is_some_and(|known| known.kind == Kind::Job && !known.lost);
        if job && self.succeeded.contains(&(pod.clone(), container.to_owned())) {
            return Err(format!("{} runs again after it succeeded", self.name(pod)));
        }
        Ok(())
    }

    fn name(&self, pod: &PodUid) -> String {
        self.pods.get(pod).map_or_else(|| pod.to_string(), |known| known.key.to_string())
    }
}

/// No two pods of one node have one address.
fn addresses(world: &World) -> Checked {
    let mut taken = BTreeMap::new();
    for pod in world.pods.values() {
        let Some(placed) = &pod.placed else { continue };
        let Some(address) = placed.spec.address else { continue };
        if let Some(other) = taken.insert((&placed.node, address), &pod.key) {
            return Err(format!("{other} and {} have the address {address}", pod.key));
        }
    }
    Ok(())
}

pub fn pods_of<'a>(world: &'a World, workload: &ObjectKey) -> Vec<&'a Pod> {
    // A ReplicaSet of its own is its own set.
    let sets = world.sets_of(workload).filter(|set| set.key != *workload);
    let of_sets = sets.flat_map(|set| world.pods_of(&set.key));
    world.pods_of(workload).chain(of_sets).map(|row| &*row.value).collect()
}

fn is_reachable(world: &World, pod: &Pod) -> bool {
    let node = pod.node().and_then(|node| world.nodes.get(&node_key(node)));
    node.is_none_or(|node| node.is_ready() != Some(false))
}

/// A pod that this turn told to end.
fn was_told_to_end(turned: &Turned<'_>, pod: &Pod) -> bool {
    let was = turned.before.pods.get(&pod.key);
    pod.deletion.is_some() && was.is_some_and(|was| was.deletion.is_none() && was.uid == pod.uid)
}

/// Its node is to be cleared, or is wanted for a pod of more worth: it goes whatever its workload
/// is in the middle of.
fn makes_way(turned: &Turned<'_>, pod: &Pod) -> bool {
    let Some(name) = pod.node() else { return false };
    let Some(node) = turned.after.nodes.get(&node_key(name)) else { return true };
    let cleared =
        node.drain.is_some() || node.taints.iter().any(|taint| taint.effect == effect::NO_EXECUTE);
    cleared || turned.after.promised_to(name).next().is_some()
}
