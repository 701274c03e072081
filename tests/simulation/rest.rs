//! When the cluster is at rest: what the repo asks for is so, and nothing else is left over.

use std::collections::{BTreeMap, BTreeSet};

use kgit::domain::key::ObjectKey;
use kgit::domain::node::Node;
use kgit::domain::record::{ClaimPhase, Pod};
use kgit::domain::resource::Spec;
use kgit::domain::stage::{self, Phase};
use kgit::domain::template::PodTemplate;
use kgit::domain::workload::{DaemonUpdate, StatefulUpdate};
use kgit::domain::world::{Recorded, World};
use kgit::master::view::View;
use kgit::plan::{forecast, text};
use kgit::store::verify::Problem;
use kgit_agent::runtime::PAUSE;
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::observation::PodPhase;

use crate::checks::{Checked, pods_of};
use crate::cluster::Cluster;

impl Cluster {
    /// `Err` says what is not as it should be, yet.
    pub fn at_rest(&self) -> Checked {
        let view = self.master.view().ok_or("the master is away")?;
        let running = self.master.running.as_ref().ok_or("the master is away")?;
        if running.delivered_head != self.repo.head {
            return Err("the source has something newer".to_owned());
        }
        self.agents_at_rest(&view.world)?;
        workloads_done(&view)?;
        self.engines_hold_what_is_owed(&view.world)?;
        if held_up_by_lost_data(&view.world) {
            return Ok(());
        }
        objects_as_asked(&view)?;
        let forecast =
            forecast::forecast(&view.world, &view.catalog.desired(Default::default()), self.now);
        let mut steps = forecast.steps.iter().map(|step| &step.said);
        match steps.find(|said| !is_for_failures(&view, &said.object)) {
            None => Ok(()),
            Some(said) => Err(format!("the forecast has {}", text::said(said))),
        }
    }

    fn agents_at_rest(&self, world: &World) -> Checked {
        if world.nodes.len() != self.members().count() {
            return Err(format!("{} nodes are members", world.nodes.len()));
        }
        for agent in self.members() {
            let process = agent.process.as_ref().ok_or("an agent is away")?;
            let node = world.nodes.values().find(|node| node.name == agent.name);
            let node = node.ok_or("a node is missing")?;
            if node.is_ready() != Some(true) {
                return Err(format!("{} is not ready", agent.name));
            }
            if process.node.stamp() != Some(&node.issued) {
                return Err(format!("{} has not got its orders", agent.name));
            }
            if !process.jobs.is_empty() {
                return Err(format!("{} is at work", agent.name));
            }
        }
        Ok(())
    }

    fn engines_hold_what_is_owed(&self, world: &World) -> Checked {
        let mut owed: BTreeMap<(NodeName, PodUid, String), ObjectKey> = BTreeMap::new();
        for pod in world.pods.values().filter(|pod| pod.phase() == PodPhase::Running) {
            let Some(placed) = &pod.placed else { continue };
            for container in &placed.spec.containers {
                let at = (placed.node.clone(), pod.uid.clone(), container.name.clone());
                owed.insert(at, pod.key.clone());
            }
        }
        for agent in self.members() {
            let engine = agent.engine.world();
            for seen in engine.containers.values() {
                let identity = &seen.identity;
                let name = identity.container.clone();
                let here = world.pod_by_uid(&identity.pod);
                if here.and_then(|pod| pod.node().cloned()).as_ref() != Some(&agent.name) {
                    let what = &identity.pod_name;
                    return Err(format!("{} holds a container of {what}", agent.name));
                }
                let place = (agent.name.clone(), identity.pod.clone(), name.clone());
                let alive = matches!(seen.state, kgit_agent::runtime::RunState::Running { .. });
                if alive && name != PAUSE && owed.remove(&place).is_none() {
                    return Err(format!("{} runs {} too much", agent.name, identity.pod_name));
                }
            }
        }
        match owed.values().next() {
            Some(key) => Err(format!("{key} does not run")),
            None => Ok(()),
        }
    }

    pub fn audit_is_sound(&self) -> Checked {
        let Some(running) = &self.master.running else { return Ok(()) };
        let witnesses: Vec<_> = self
            .agents
            .iter()
            .filter_map(|agent| {
                let witness = agent.process.as_ref()?.witness.clone()?;
                Some((agent.name.clone(), witness))
            })
            .collect();
        // What agents witnessed of a log that was lost is not in the one that was restored, and
        // whoever verifies it is told so.
        let witnesses = if self.restores == 0 { witnesses } else { Vec::new() };
        let report = running.store.reader().verify(&witnesses).map_err(|e| e.to_string())?;
        // Nor is what they said of it to the restored master.
        let of_another_life = |problem: &Problem| {
            matches!(
                problem,
                Problem::DiffersFromWitness { .. } | Problem::ShorterThanWitnessed { .. }
            )
        };
        let excused = self.restores > 0 && report.problems.iter().all(of_another_life);
        match report.is_sound() || excused {
            true => Ok(()),
            false => Err(format!("the audit does not verify: {:?}", report.problems)),
        }
    }
}

/// What stands in later waves than a workload whose data is gone for good waits as it does.
fn held_up_by_lost_data(world: &World) -> bool {
    let waits = world.meta.sync.as_ref().is_some_and(|sync| sync.open && sync.waits_at.is_some());
    waits && world.claims.values().any(|state| state.phase == ClaimPhase::Lost)
}

fn objects_as_asked(view: &View) -> Checked {
    let desired = view.catalog.desired(Default::default());
    // A hook is there after it ran, and not for long where its policy says so.
    let once = |key: &ObjectKey| {
        let annotations = desired.objects.get(key).map(|resource| &resource.annotations);
        annotations.and_then(stage::hook).is_some()
    };
    let asked: BTreeSet<&ObjectKey> = desired.objects.keys().filter(|key| !once(key)).collect();
    let rows = view.world.objects.iter();
    let of_manifests = rows.filter(|(_, row)| row.retained.is_none() && row.owner.is_none());
    let there: BTreeSet<&ObjectKey> =
        of_manifests.map(|(key, _)| key).filter(|key| !once(key)).collect();
    match asked.symmetric_difference(&there).next() {
        Some(key) => Err(format!("{key} is not as the repo says")),
        None => Ok(()),
    }
}

/// What a workload's data was on is gone for good, and somebody said so: it waits for a person.
fn lost_its_data(world: &World, workload: &ObjectKey) -> bool {
    let lost = |claim: &ObjectKey| {
        world.claims.get(claim).is_some_and(|state| state.phase == ClaimPhase::Lost)
    };
    let set = format!("-{}-", workload.name);
    let mut claims = world
        .claims
        .keys()
        .filter(|claim| *claim.name == *workload.name || claim.name.contains(&set));
    claims.any(lost)
}

/// What ran for a sync that failed, and may never end, is nobody's business until the next one
/// fails, nor is what would run again only then; nor is a hook's earlier run where a sync that waits
/// for lost data does not come to it, or where nothing has changed since the sync it was of.
fn is_for_failures(view: &View, key: &ObjectKey) -> bool {
    let desired = view.catalog.desired(Default::default());
    let run = view.world.objects.get(key).map(|row| &row.resource);
    let both = run.into_iter().chain(desired.objects.get(key));
    let mut hooks = both.filter_map(|resource| stage::hook(&resource.annotations));
    let sync = view.world.meta.sync.as_ref();
    let is_of_an_earlier_sync =
        || sync.is_some_and(|sync| sync.hooks.iter().all(|run| run.hook != *key));
    hooks.any(|hook| {
        hook.phases == [Phase::SyncFail]
            || held_up_by_lost_data(&view.world)
            || is_of_an_earlier_sync()
    })
}

/// Its change is one of those that wait for lost data.
fn waits_for_lost_data(world: &World, workload: &ObjectKey) -> bool {
    let pending = world.meta.sync.as_ref().is_some_and(|sync| sync.pending.contains(workload));
    pending && held_up_by_lost_data(world)
}

fn is_excused(view: &View, workload: &ObjectKey) -> bool {
    lost_its_data(&view.world, workload)
        || waits_for_lost_data(&view.world, workload)
        || is_for_failures(view, workload)
}

fn workloads_done(view: &View) -> Checked {
    let world = &view.world;
    for pod in world.pods.values() {
        let settled = pod.deletion.is_none() && (pod.is_ready() || pod.is_finished());
        if !settled && !is_excused(view, &world.workload_of(pod)) {
            return Err(format!("{} is {:?}", pod.key, pod.phase()));
        }
    }
    for (key, row) in &world.objects {
        if !is_excused(view, key) {
            workload_done(world, key, &row.value.resource.spec)?;
        }
    }
    Ok(())
}

fn workload_done(world: &World, key: &ObjectKey, spec: &Spec) -> Checked {
    let has = |template: Option<&PodTemplate>, wanted: usize| {
        let pods = pods_of(world, key);
        let fits = |pod: &&&Pod| template.is_none_or(|it| it.containers == pod.template.containers);
        let right = pods.iter().filter(|pod| pod.is_ready()).filter(fits).count();
        match right == wanted && pods.len() == right {
            true => Ok(()),
            false => Err(format!("{key} has {right} of {wanted} pods")),
        }
    };
    let replicas = |written: u32| world.replicas_of(key, written) as usize;
    match spec {
        Spec::Deployment(spec) => has(Some(&spec.template), replicas(spec.replicas)),
        Spec::ReplicaSet(spec) => has(None, replicas(spec.replicas)),
        Spec::StatefulSet(spec) => {
            let rolls = matches!(spec.update, StatefulUpdate::RollingUpdate { partition: 0, .. });
            has(rolls.then_some(&*spec.template), replicas(spec.replicas))
        }
        Spec::DaemonSet(spec) => {
            let selector = &spec.template.placement.node_selector;
            let chosen = |node: &&Recorded<Node>| {
                selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            };
            let rolls = !matches!(spec.update, DaemonUpdate::OnDelete);
            has(rolls.then_some(&*spec.template), world.nodes.values().filter(chosen).count())
        }
        Spec::Job(_) if world.jobs.get(key).is_none_or(|job| job.finished.is_none()) => {
            Err(format!("{key} is not finished"))
        }
        Spec::Pod(_) if world.pods_of(key).next().is_none() => Err(format!("{key} has no pod")),
        _ => Ok(()),
    }
}
