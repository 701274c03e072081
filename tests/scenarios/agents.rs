//! What the agents of a scenario do: at once what they are told, unless they are to behave otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit::master::event::Event;
use kgit::plan::assignments;
use kgit_protocol::assignment::Order;
use kgit_protocol::ids::{Attempt, BootId, NodeName, PodUid};
use kgit_protocol::observation::{
    ContainerObservation, ContainerState, PodObservation, PodPhase, Termination,
};
use kgit_protocol::pod::RestartPolicy;
use kgit_protocol::usage::{ContainerUsage, NodeUsage, PodUsage, Usage};

use crate::cluster::Cluster;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// As without a behaviour: by the longest prefix, it is an exception from another one.
    Succeeds,
    /// Started, never ready.
    NeverReady,
    /// Does not end when told to.
    NeverEnds,
    /// Ends with an error.
    Fails,
    /// Its container `main` ends with this code.
    Exits(i64),
    /// Runs, and ends with an error when told to end.
    FailsWhenStopped,
}

impl Cluster {
    /// One round of every agent; false if none had anything to do.
    pub fn agents_act(&mut self) -> bool {
        let view = self.core.view(&self.store);
        let mut acted = false;
        let acts = |name: &NodeName| {
            !self.lost.contains(name.as_str()) && !self.failing.contains(name.as_str())
        };
        let nodes: Vec<_> = view.world.nodes.values().filter(|node| acts(&node.name)).collect();
        for node in nodes {
            let set = assignments::for_node(&view.world, &node.name).unwrap();
            let seen: Vec<PodObservation> = set
                .pods
                .values()
                .map(|pod| self.observe(&pod.uid, &pod.name, pod.order, pod.spec.restart_policy))
                .filter(|seen| self.reported.get(&seen.uid) != Some(seen))
                .collect();
            if !seen.is_empty() {
                acted = true;
                self.reported.extend(seen.iter().map(|seen| (seen.uid.clone(), seen.clone())));
                self.report(node.name.as_str(), None, seen);
            }
        }
        acted
    }

    fn observe(
        &self,
        uid: &PodUid,
        name: &str,
        order: Order,
        policy: RestartPolicy,
    ) -> PodObservation {
        let behaviour = self
            .behaviour
            .iter()
            .filter(|(prefix, _)| name.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, behaviour)| *behaviour);
        let before = self.reported.get(uid);
        let (phase, ready) = match (order, behaviour, policy) {
            (Order::Stop { .. }, Some(Behaviour::NeverEnds), _) => (PodPhase::Running, true),
            (Order::Stop { .. }, Some(Behaviour::FailsWhenStopped), _)
                if before.is_some_and(|before| before.phase == PodPhase::Running) =>
            {
                (PodPhase::Failed, false)
            }
            (Order::Stop { .. }, ..) => (PodPhase::Gone, false),
            (Order::Run, Some(Behaviour::NeverReady | Behaviour::FailsWhenStopped), _) => {
                (PodPhase::Running, false)
            }
            (Order::Run, Some(Behaviour::Fails | Behaviour::Exits(_)), _) => {
                (PodPhase::Failed, false)
            }
            (Order::Run, _, RestartPolicy::Always) => (PodPhase::Running, true),
            (Order::Run, _, RestartPolicy::OnFailure | RestartPolicy::Never) => {
                (PodPhase::Succeeded, false)
            }
        };
        let since = before.filter(|before| before.ready).and_then(|before| before.ready_since);
        PodObservation {
            ready,
            ready_since: ready.then(|| since.unwrap_or(self.now)),
            started_at: Some(before.and_then(|before| before.started_at).unwrap_or(self.now)),
            containers: behaviour.and_then(ended).into_iter().collect(),
            ..PodObservation::bare(uid.clone(), phase)
        }
    }

    /// Every running pod whose name starts with this uses so much cpu, in thousandths of a core.
    pub fn uses(&mut self, prefix: &str, cpu_millis: u64) {
        let pods = self.pods();
        let mut by_node: BTreeMap<NodeName, Vec<PodUsage>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| pod.key.name.starts_with(prefix)) {
            let Some(node) = pod.node() else { continue };
            let name = pod.template.containers[0].name.clone();
            by_node.entry(node.clone()).or_default().push(PodUsage {
                uid: pod.uid.clone(),
                at: self.now,
                window_seconds: 15,
                containers: vec![ContainerUsage { name, cpu_millis, memory_bytes: 1 << 20 }],
            });
        }
        let boot = BootId::new("boot");
        let events = by_node.into_iter().map(|(node, pods)| {
            let whole = NodeUsage::default();
            let usage = Usage { version: 1, boot: boot.clone(), node: whole, pods };
            Event::Usage { node, usage: Arc::new(usage) }
        });
        self.turn(events.collect());
        self.settle();
    }

    /// The behaviour set now is that of pods made from now on; the others keep theirs.
    pub fn agents_act_on_new_pods_only(&mut self) {
        let old: Vec<String> = self.reported_names();
        let new = self.behaviour.clone();
        self.behaviour = old.into_iter().map(|name| (name, Behaviour::Succeeds)).collect();
        self.behaviour.extend(new);
        self.settle();
    }

    fn reported_names(&self) -> Vec<String> {
        let pods = self.pods();
        let known = pods.iter().filter(|pod| self.reported.contains_key(&pod.uid));
        known.map(|pod| pod.key.name.to_string()).collect()
    }
}

fn ended(behaviour: Behaviour) -> Option<ContainerObservation> {
    let Behaviour::Exits(exit_code) = behaviour else { return None };
    let end = Termination {
        exit_code,
        reason: "Error".to_owned(),
        message: None,
        started_at: None,
        finished_at: None,
        container_id: None,
    };
    Some(ContainerObservation {
        name: "main".to_owned(),
        attempt: Attempt::default(),
        state: ContainerState::Terminated(end),
        last: None,
        ready: false,
        started: false,
        restarts: 0,
        container_id: None,
        image_id: None,
    })
}
