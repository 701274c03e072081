//! When the cluster is at rest: what the repo asks for is so, and nothing else is left over.

use std::collections::{BTreeMap, BTreeSet};

use kgit::domain::key::ObjectKey;
use kgit::domain::resource::Spec;
use kgit::domain::world::World;
use kgit::master::event::Event;
use kgit::master::view::View;
use kgit::plan::{forecast, text};
use kgit_agent::runtime::PAUSE;
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::observation::PodPhase;
use tokio::sync::oneshot;

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
        objects_as_asked(&view)?;
        workloads_done(&view.world)?;
        self.engines_hold_what_is_owed(&view.world)?;
        let forecast =
            forecast::forecast(&view.world, &view.catalog.desired(Default::default()), self.now);
        match forecast.steps.is_empty() {
            true => Ok(()),
            false => Err(format!("the forecast has {}", text::said(&forecast.steps[0].said))),
        }
    }

    fn agents_at_rest(&self, world: &World) -> Checked {
        for agent in &self.agents {
            let process = agent.process.as_ref().ok_or("an agent is away")?;
            let node = world.nodes.values().find(|node| node.name == agent.name);
            let node = node.ok_or("a node is missing")?;
            if node.ready != Some(true) {
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
        for agent in &self.agents {
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

    /// Somebody approves what the brakes hold.
    pub fn approve(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        let Some(held) = running.world().meta.held.clone() else { return };
        let (reply, _) = oneshot::channel();
        let by = "ann".to_owned();
        running.inbox.push(Event::Approve { plan: held.plan, by, reply });
        self.say(|| "somebody approves".to_owned());
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
        let report = running.store.reader().verify(&witnesses).map_err(|e| e.to_string())?;
        match report.is_sound() {
            true => Ok(()),
            false => Err(format!("the audit does not verify: {:?}", report.problems)),
        }
    }
}

fn objects_as_asked(view: &View) -> Checked {
    let desired = view.catalog.desired(Default::default());
    let asked: BTreeSet<&ObjectKey> = desired.objects.keys().collect();
    let there: BTreeSet<&ObjectKey> = view
        .world
        .objects
        .iter()
        .filter(|(_, row)| row.retained.is_none())
        .map(|(key, _)| key)
        .collect();
    match asked.symmetric_difference(&there).next() {
        Some(key) => Err(format!("{key} is not as the repo says")),
        None => Ok(()),
    }
}

fn workloads_done(world: &World) -> Checked {
    for pod in world.pods.values() {
        let settled = pod.deletion.is_none() && (pod.is_ready() || pod.is_finished());
        if !settled {
            return Err(format!("{} is {:?}", pod.key, pod.phase()));
        }
    }
    for (key, row) in &world.objects {
        match &row.value.resource.spec {
            Spec::Deployment(spec) => {
                let pods = pods_of(world, key);
                let right = pods.iter().filter(|pod| pod.template == spec.template).count();
                if right != spec.replicas as usize || pods.len() != right {
                    return Err(format!("{key} has {right} of {} pods", spec.replicas));
                }
            }
            Spec::Job(_) if world.jobs.get(key).is_none_or(|job| job.finished.is_none()) => {
                return Err(format!("{key} is not finished"));
            }
            Spec::Pod(_) if world.pods_of(key).next().is_none() => {
                return Err(format!("{key} has no pod"));
            }
            _ => {}
        }
    }
    Ok(())
}
