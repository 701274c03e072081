//! What no turn may do, whatever sets it off: checked after every turn of every scenario.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::node::Node;
use kgit::domain::record::{EndedBy, Pod};
use kgit::domain::resource::Spec;
use kgit::domain::template::{PodTemplate, effect};
use kgit::domain::workload::{DaemonSetSpec, DaemonUpdate, StatefulSetSpec, StatefulUpdate};
use kgit::domain::world::{World, node_key};
use kgit_protocol::ids::PodUid;
use kgit_protocol::observation::{PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;

/// One turn, from the World before it to the one after it.
pub struct Turned<'a> {
    pub before: &'a World,
    pub after: &'a World,
    pub now: Timestamp,
    /// What the agents said last.
    pub reported: &'a BTreeMap<PodUid, PodObservation>,
}

impl Turned<'_> {
    pub fn check(&self) {
        self.no_ordinal_runs_twice();
        for (key, row) in &self.after.objects {
            match &row.resource.spec {
                Spec::StatefulSet(spec) => self.stateful_set(key, spec),
                Spec::DaemonSet(spec) => self.daemon_set(key, spec),
                _ => {}
            }
        }
    }

    /// A pod of a StatefulSet is forgotten only once its node said that it is gone, or was itself
    /// taken out: only then may another have its name.
    fn no_ordinal_runs_twice(&self) {
        let stateful =
            self.before.pods.iter().filter(|(_, pod)| pod.owner.kind == Kind::StatefulSet);
        for (key, pod) in stateful {
            let Some(node) = pod.node() else { continue };
            let still = self.after.pods.get(key).is_some_and(|after| after.uid == pod.uid);
            let gone = self.reported.get(&pod.uid).is_some_and(|it| it.phase == PodPhase::Gone);
            let node_gone = !self.after.nodes.contains_key(&node_key(node));
            let over = self.stops_by_itself(pod);
            assert!(
                still || gone || node_gone || over,
                "{key} was forgotten while {node} may run it"
            );
        }
    }

    /// Its node has been cut off for so long that it has stopped the pod by itself.
    fn stops_by_itself(&self, pod: &Pod) -> bool {
        let Some(placed) = &pod.placed else { return false };
        let Some(fence) = placed.spec.fence_after_seconds else { return false };
        let node = &self.before.nodes[&node_key(&placed.node)];
        let needs = Duration::from_secs(u64::from(fence + placed.spec.termination_grace_seconds));
        node.heard == Some(false) && self.now.since(node.heard_since) > needs
    }

    fn stateful_set(&self, key: &ObjectKey, spec: &StatefulSetSpec) {
        let StatefulUpdate::RollingUpdate { max_unavailable, .. } = spec.update else { return };
        let range = spec.first_ordinal..spec.first_ordinal + spec.replicas;
        let in_range = |pod: &Pod| pod.index.is_some_and(|index| range.contains(&index));
        let available = self
            .pods(key)
            .filter(|pod| in_range(pod) && self.is_available(pod, spec.min_ready_seconds));
        let missing = spec.replicas.saturating_sub(u32::try_from(available.count()).unwrap());
        let allowed = max_unavailable.of_rounding_down(spec.replicas).max(1);
        let stopped = self.pods(key).find(|pod| in_range(pod) && self.was_stopped_serving(pod));
        if let Some(stopped) = stopped {
            let name = &stopped.key.name;
            let allowed = allowed + self.kept_away_by(&stopped, key, spec);
            assert!(missing <= allowed, "{name} was stopped, and {missing} of {key} are missing");
        }
    }

    /// Pods that may have a place only when an old one is gone, which keeps others of the set away
    /// and whose successor does not.
    fn kept_away_by(&self, old: &Pod, key: &ObjectKey, spec: &StatefulSetSpec) -> u32 {
        let keeps_away = |template: &PodTemplate| {
            let mut terms = template.placement.pod_anti_affinity.iter();
            terms.any(|term| term.selector.as_ref().is_some_and(|it| it.matches(&template.labels)))
        };
        if !keeps_away(&old.template) || keeps_away(&spec.template) {
            return 0;
        }
        let without_a_place = self.pods(key).filter(|pod| pod.placed.is_none()).count();
        // In order, others are not made, or made again, before those have a place.
        let there = self.pods(key).filter(|pod| !pod.is_finished()).count();
        let behind = if spec.parallel { 0 } else { (spec.replicas as usize).saturating_sub(there) };
        u32::try_from(without_a_place + behind).unwrap()
    }

    fn daemon_set(&self, key: &ObjectKey, spec: &DaemonSetSpec) {
        self.at_most_one_on_each_node(key, spec);
        let DaemonUpdate::RollingUpdate { max_unavailable, max_surge } = spec.update else {
            return;
        };
        let chosen: Vec<&Node> = self
            .after
            .nodes
            .values()
            .map(|row| &**row)
            .filter(|node| is_chosen(spec, node))
            .collect();
        let count = u32::try_from(chosen.len()).unwrap();
        let least = u32::from(max_surge.of_rounding_up(count) == 0);
        let allowed = max_unavailable.of_rounding_up(count).max(least);
        let open = |node: &&&Node| node.is_ready() == Some(true) && node.taints.is_empty();
        let heard = chosen.iter().filter(open);
        let on = |node: &Node| {
            self.pods(key).filter(|pod| pod.node() == Some(&node.name)).collect::<Vec<_>>()
        };
        let (mut missing, mut stopped) = (0, None);
        for node in heard {
            let pods = on(node);
            if pods.iter().any(|pod| self.is_available(pod, spec.min_ready_seconds)) {
                continue;
            }
            missing += 1;
            stopped = stopped.or(pods.into_iter().find(|pod| self.was_stopped_serving(pod)));
        }
        if let Some(stopped) = stopped {
            let name = &stopped.key.name;
            assert!(missing <= allowed, "{name} was stopped, and {missing} nodes go without {key}");
        }
    }

    fn at_most_one_on_each_node(&self, key: &ObjectKey, spec: &DaemonSetSpec) {
        let surges = matches!(
            spec.update,
            DaemonUpdate::RollingUpdate { max_surge, .. } if max_surge.of_rounding_up(1) > 0
        );
        for new in self.pods(key).filter(|pod| !self.before.pods.contains_key(&pod.key)) {
            let there =
                self.pods(key).filter(|pod| pod.pinned == new.pinned && pod.deletion.is_none());
            let there = there.count();
            assert!(there <= 1 + usize::from(surges), "{there} pods of {key} on one node");
        }
    }

    fn pods(&self, owner: &ObjectKey) -> impl Iterator<Item = Arc<Pod>> {
        self.after.pods_of(owner).map(|row| Arc::clone(&row.value)).collect::<Vec<_>>().into_iter()
    }

    fn is_available(&self, pod: &Pod, min_ready_seconds: u32) -> bool {
        pod.is_available(min_ready_seconds, self.now) && self.is_heard(pod)
    }

    /// Nothing is known to be served from a node that is not heard of.
    fn is_heard(&self, pod: &Pod) -> bool {
        let node = pod.node().and_then(|node| self.after.nodes.get(&node_key(node)));
        node.is_some_and(|node| node.is_ready() != Some(false))
    }

    fn was_stopped_serving(&self, pod: &Pod) -> bool {
        let before = self.before.pods.get(&pod.key).is_some_and(|before| before.deletion.is_none());
        let by_plan = pod.deletion.as_ref().is_some_and(|it| it.by != EndedBy::Order);
        before && by_plan && pod.serves() && self.is_heard(pod) && !self.is_cleared(pod)
    }

    /// Its node is being cleared, by order or for a pod of higher priority: whatever the pod's set
    /// is in the middle of.
    fn is_cleared(&self, pod: &Pod) -> bool {
        let node = pod.node().and_then(|node| self.after.nodes.get(&node_key(node)));
        let driven = |node: &Node| node.taints.iter().any(|it| it.effect == effect::NO_EXECUTE);
        let promised = |node: &Node| {
            self.after.promised_to(&node.name).any(|other| other.priority > pod.priority)
        };
        node.is_some_and(|node| node.drain.is_some() || driven(node) || promised(&node.value))
    }
}

fn is_chosen(spec: &DaemonSetSpec, node: &Node) -> bool {
    let selector = &spec.template.placement.node_selector;
    selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}
