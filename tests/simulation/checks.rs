//! What must hold at every moment, whatever goes wrong around. Each check gives the words of the
//! promise that was broken.

use std::collections::{BTreeMap, BTreeSet};

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::plan::Waits;
use kgit::domain::record::{ClaimPhase, Pod};
use kgit::domain::resource::{DeploymentSpec, IntOrPercent, Spec, Strategy};
use kgit::domain::service;
use kgit::domain::world::{World, node_key};
use kgit_agent::runtime::PAUSE;
use kgit_protocol::directory::{Backend, ServiceAddress};
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::observation::PodPhase;
use kgit_protocol::time::Timestamp;

use crate::agent::Agent;

pub type Checked = Result<(), String>;

/// What is remembered of a pod from the World, also when it has left it.
#[derive(Clone, Debug)]
struct Known {
    key: ObjectKey,
    node: Option<NodeName>,
    claims: Vec<ObjectKey>,
    job: bool,
    gone: bool,
}

/// What the checks remember from one moment to the next.
#[derive(Debug, Default)]
pub struct Checks {
    pods: BTreeMap<PodUid, Known>,
    issued: BTreeMap<NodeName, (u64, u64)>,
    /// Containers of jobs that ended well by themselves.
    succeeded: BTreeSet<(PodUid, String)>,
    /// Volumes that engines ever had.
    volumes: BTreeSet<(usize, String)>,
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
}

impl Checks {
    /// After a turn of the master.
    pub fn turn(&mut self, turned: &Turned<'_>) -> Checked {
        self.learn(turned.after);
        self.generations(turned.after)?;
        addresses(turned.after)?;
        no_data_removed(turned)?;
        if !turned.readable {
            nothing_deleted(turned)?;
        }
        availability(turned)?;
        surge(turned)?;
        finished_jobs_rest(turned)?;
        everything_pending_is_explained(turned)?;
        endpoints(turned.after)
    }

    fn learn(&mut self, world: &World) {
        for known in self.pods.values_mut() {
            known.gone = true;
        }
        for pod in world.pods.values() {
            let claims = pod.template.claims();
            let known = Known {
                key: pod.key.clone(),
                node: pod.node().cloned(),
                claims: claims
                    .map(|name| pod.key.sibling(Kind::PersistentVolumeClaim, name))
                    .collect(),
                job: pod.owner.kind == Kind::Job,
                gone: pod.phase() == PodPhase::Gone && pod.deletion.is_some(),
            };
            self.pods.insert(pod.uid.clone(), known);
        }
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
        Ok(())
    }

    /// A process of a job's container ended well by itself.
    pub fn ended_well(&mut self, pod: &PodUid, container: &str) {
        self.succeeded.insert((pod.clone(), container.to_owned()));
    }

    /// A container was started by an agent.
    pub fn started(&self, pod: &PodUid, container: &str) -> Checked {
        let job = self.pods.get(pod).is_some_and(|known| known.job);
        if job && self.succeeded.contains(&(pod.clone(), container.to_owned())) {
            return Err(format!("{} runs again after it succeeded", self.name(pod)));
        }
        Ok(())
    }

    fn name(&self, pod: &PodUid) -> String {
        self.pods.get(pod).map_or_else(|| pod.to_string(), |known| known.key.to_string())
    }

    /// After anything that may have changed an engine.
    pub fn engines(&mut self, agents: &[Agent]) -> Checked {
        let mut alive: BTreeSet<(PodUid, String)> = BTreeSet::new();
        let mut claims: BTreeMap<ObjectKey, usize> = BTreeMap::new();
        for agent in agents {
            let world = agent.engine.world();
            for (pod, name) in world
                .containers
                .values()
                .filter(|seen| seen.state.is_alive())
                .map(|seen| (&seen.identity.pod, &seen.identity.container))
            {
                if !alive.insert((pod.clone(), name.clone())) {
                    return Err(format!("two containers `{name}` of {} run", self.name(pod)));
                }
                self.owed(agent, pod)?;
                if name == PAUSE {
                    continue;
                }
                for claim in self.pods.get(pod).iter().flat_map(|known| &known.claims) {
                    let other = *claims.entry(claim.clone()).or_insert(agent.index);
                    if other != agent.index {
                        return Err(format!("{claim} is in use on n{other} and {}", agent.name));
                    }
                }
            }
            self.volumes(agent.index, &world.volumes)?;
        }
        Ok(())
    }

    fn owed(&self, agent: &Agent, pod: &PodUid) -> Checked {
        if !agent.given.contains(pod) {
            let name = self.name(pod);
            return Err(format!("{name} runs on {}, which was never given it", agent.name));
        }
        match self.pods.get(pod) {
            None => Err(format!("pod {pod} runs, and the master never made it")),
            Some(known) if known.gone => {
                Err(format!("{} runs on {} after the master saw it gone", known.key, agent.name))
            }
            Some(known) if known.node.as_ref() != Some(&agent.name) => {
                Err(format!("{} runs on {}, but is placed elsewhere", known.key, agent.name))
            }
            Some(_) => Ok(()),
        }
    }

    fn volumes(&mut self, index: usize, there: &BTreeSet<String>) -> Checked {
        let lost = self.volumes.iter().find(|(on, name)| *on == index && !there.contains(name));
        if let Some((_, name)) = lost {
            return Err(format!("volume {name} was removed from n{index}"));
        }
        self.volumes.extend(there.iter().map(|name| (index, name.clone())));
        Ok(())
    }
}

/// No two pods of one node have one address.
fn addresses(world: &World) -> Checked {
    let mut taken = BTreeMap::new();
    for pod in world.pods.values() {
        let Some(placed) = &pod.placed else { continue };
        let Some(address) = placed.spec.address else { continue };
        if let Some(other) = taken.insert((placed.node.clone(), address), pod.key.clone()) {
            return Err(format!("{other} and {} have the address {address}", pod.key));
        }
    }
    Ok(())
}

/// A service leads to its pods as they are now, and has an address that no other has.
fn endpoints(world: &World) -> Checked {
    let mut taken = BTreeMap::new();
    for (key, state) in &world.services {
        if let ServiceAddress::Cluster(address) = state.service.address
            && let Some(other) = taken.insert(address, key)
        {
            return Err(format!("{other} and {key} have the address {address}"));
        }
        let applied = world.objects.get(key).map(|applied| &applied.resource.spec);
        let Some(Spec::Service(spec)) = applied else { continue };
        let (expected, _) = service::endpoints(world, key, spec);
        if state.service.backend != Backend::Endpoints(expected.clone()) {
            return Err(format!("{key} leads to {:?}, not to {expected:?}", state.service.backend));
        }
    }
    Ok(())
}

/// Nobody orders data away here, so claims, volumes and their bindings stay.
fn no_data_removed(turned: &Turned<'_>) -> Checked {
    let lost = |what: &str, key: &ObjectKey| Err(format!("{what} {key} was removed"));
    for (key, claim) in &turned.before.claims {
        match turned.after.claims.get(key) {
            None => return lost("the state of", key),
            Some(now) if claim.phase == ClaimPhase::Bound && now.volume != claim.volume => {
                return Err(format!("{key} is bound to another volume"));
            }
            Some(_) => {}
        }
    }
    let volume = turned.before.volumes.keys().find(|key| !turned.after.volumes.contains_key(*key));
    if let Some(key) = volume {
        return lost("volume", key);
    }
    let mut data = turned.before.objects.keys().filter(|key| key.kind.holds_data());
    match data.find(|key| !turned.after.objects.contains_key(*key)) {
        Some(key) => lost("object", key),
        None => Ok(()),
    }
}

fn nothing_deleted(turned: &Turned<'_>) -> Checked {
    for (key, row) in &turned.before.objects {
        let Some(now) = turned.after.objects.get(key) else {
            return Err(format!("{key} was deleted while a file can't be read"));
        };
        if row.retained.is_none() && now.retained.is_some() {
            return Err(format!("{key} was retained while a file can't be read"));
        }
    }
    Ok(())
}

/// What a rolling update may have too few and too many of; by the published rules, and written
/// here once more so that the planner's own arithmetic is not its own witness.
fn bounds(spec: &DeploymentSpec) -> Option<(u32, u32)> {
    let Strategy::RollingUpdate { max_surge, max_unavailable } = spec.strategy else { return None };
    let of = |value: IntOrPercent, up: u32| match value {
        IntOrPercent::Int(number) => number,
        IntOrPercent::Percent(percent) => (spec.replicas * percent + up) / 100,
    };
    let (surge, unavailable) = (of(max_surge, 99), of(max_unavailable, 0));
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Some((surge, unavailable.min(spec.replicas)))
}

/// Deployments as they are now, that were there before with as many replicas.
fn steady<'a>(
    turned: &Turned<'a>,
) -> impl Iterator<Item = (&'a ObjectKey, &'a DeploymentSpec)> + use<'a> {
    let before = turned.before;
    turned.after.objects.iter().filter_map(move |(key, row)| {
        let Spec::Deployment(spec) = &row.value.resource.spec else { return None };
        let old = &before.objects.get(key)?.value.resource;
        let Spec::Deployment(old) = &old.spec else { return None };
        (old.replicas == spec.replicas && old.strategy == spec.strategy).then_some((key, spec))
    })
}

pub fn pods_of<'a>(world: &'a World, deployment: &ObjectKey) -> Vec<&'a Pod> {
    let pods = world.pods.values().map(|row| &*row.value);
    pods.filter(|pod| world.workload_of(pod) == *deployment).collect()
}

fn is_reachable(world: &World, pod: &Pod) -> bool {
    let node = pod.node().and_then(|node| world.nodes.get(&node_key(node)));
    node.is_none_or(|node| node.ready != Some(false))
}

/// Of the pods that this turn told to end, so many were available, and so many are left.
fn availability(turned: &Turned<'_>) -> Checked {
    for (key, spec) in steady(turned) {
        let Some((_, unavailable)) = bounds(spec) else { continue };
        let available = |pod: &Pod| {
            pod.is_available(spec.min_ready_seconds, turned.now) && is_reachable(turned.after, pod)
        };
        let after = pods_of(turned.after, key);
        let told = after.iter().filter(|pod| {
            let was = turned.before.pods.get(&pod.key);
            pod.deletion.is_some() && was.is_some_and(|was| was.deletion.is_none())
        });
        let victims = told.filter(|pod| {
            let alive = Pod { deletion: None, ..(**pod).clone() };
            available(&alive)
        });
        let victims = victims.count();
        let left = after.iter().filter(|pod| available(pod)).count();
        let least = spec.replicas.saturating_sub(unavailable) as usize;
        if victims > 0 && left < least {
            return Err(format!(
                "{key}: {victims} available pods were told to end, which leaves {left} of at \
                 least {least}"
            ));
        }
    }
    Ok(())
}

/// A turn that makes pods leaves no more of them than the surge allows.
fn surge(turned: &Turned<'_>) -> Checked {
    for (key, spec) in steady(turned) {
        let surge = bounds(spec).map_or(0, |(surge, _)| surge);
        let after = pods_of(turned.after, key);
        let made = after.iter().any(|pod| !turned.before.pods.contains_key(&pod.key));
        let active = after.iter().filter(|pod| pod.is_active()).count();
        let most = (spec.replicas + surge) as usize;
        if made && active > most {
            return Err(format!("{key}: {active} pods, of at most {most}"));
        }
        let old_and_new: BTreeSet<&ObjectKey> = after.iter().map(|pod| &pod.owner).collect();
        if spec.strategy == Strategy::Recreate && made && old_and_new.len() > 1 {
            return Err(format!("{key}: a new pod beside old ones (Recreate)"));
        }
    }
    Ok(())
}

/// A finished job makes no pods, unless its template changed.
fn finished_jobs_rest(turned: &Turned<'_>) -> Checked {
    for (key, job) in &turned.before.jobs {
        let Some(row) = turned.after.objects.get(key) else { continue };
        let Spec::Job(spec) = &row.value.resource.spec else { continue };
        if job.finished.is_none() || job.template_digest != Some(spec.template.digest()) {
            continue;
        }
        let new = turned.after.pods_of(key).find(|pod| !turned.before.pods.contains_key(&pod.key));
        if let Some(pod) = new {
            return Err(format!("{} was made for a finished job", pod.key));
        }
    }
    Ok(())
}

fn everything_pending_is_explained(turned: &Turned<'_>) -> Checked {
    if !turned.through {
        return Ok(());
    }
    let waits = |key: &ObjectKey| turned.waits.get(key).is_some_and(|waits| !waits.is_empty());
    let world = turned.after;
    for pod in world.pods.values() {
        let workload = world.workload_of(pod);
        let owned = world.objects.contains_key(&workload) || world.pruned.contains_key(&workload);
        let pending = pod.placed.is_none() || pod.deletion.is_some();
        if pending && owned && !waits(&workload) {
            return Err(format!("{} is pending, and {workload} waits for nothing", pod.key));
        }
    }
    for (key, row) in &world.objects {
        let pending = match &row.value.resource.spec {
            Spec::Deployment(spec) => !spec.paused && !is_complete(world, key, spec, turned.now),
            Spec::Job(_) => world.jobs.get(key).is_none_or(|job| job.finished.is_none()),
            Spec::Pod(_) => !pods_of_pod(world, key),
            _ => false,
        };
        if pending && !waits(key) && turned.read {
            return Err(format!("{key} is not done, and waits for nothing"));
        }
    }
    // A claim that waits for its first pod is explained by that pod, if there is one.
    let unused = |key: &ObjectKey| {
        let mut pods = world.pods_with_claim(key);
        pods.all(|pod| waits(&world.workload_of(pod)))
    };
    let mut claims = world.claims.iter().filter(|(_, row)| row.phase == ClaimPhase::Pending);
    match claims.find(|(key, _)| !waits(key) && !unused(key) && turned.read) {
        Some((key, _)) => Err(format!("{key} is pending, and waits for nothing")),
        None => Ok(()),
    }
}

fn pods_of_pod(world: &World, key: &ObjectKey) -> bool {
    world.pods_of(key).any(|pod| pod.is_ready() || pod.is_finished())
}

fn is_complete(world: &World, key: &ObjectKey, spec: &DeploymentSpec, now: Timestamp) -> bool {
    let pods = pods_of(world, key);
    let active = pods.iter().filter(|pod| pod.is_active());
    let owners: BTreeSet<&ObjectKey> = active.clone().map(|pod| &pod.owner).collect();
    let available = active
        .clone()
        .filter(|pod| pod.is_available(spec.min_ready_seconds, now) && is_reachable(world, pod));
    let wanted = spec.replicas as usize;
    owners.len() <= 1 && active.count() == wanted && available.count() == wanted
}
