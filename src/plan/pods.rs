//! The life of a pod, whoever owns it: made, placed, stopped, forgotten.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::observation::PodPhase;

use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::plan::{Reason, Said, Unplaced, Verb, WaitKind, Waiting};
use crate::domain::record::{Deletion, EndedBy, Placed, Pod};
use crate::domain::selector::Labels;
use crate::domain::template::PodTemplate;
use crate::domain::world::{Effect, Record, Table, World, node_key};
use crate::plan::draft::{Draft, said};
use crate::plan::preempt::{self, Preemption};
use crate::plan::replicas::refused;
use crate::plan::scheduler::Constraints;
use crate::plan::spec::{Configs, Decision, decide};
use crate::plan::{attach, doubt, fence, names, priority, scheduler, services};

/// A pod that is to be made.
#[derive(Debug)]
pub struct NewPod {
    pub key: ObjectKey,
    pub owner: ObjectKey,
    pub owner_uid: String,
    pub counter: u64,
    pub extra_labels: Labels,
    pub template: Arc<PodTemplate>,
    pub revision_digest: Digest,
    pub index: Option<u32>,
    /// The only node that it may go to.
    pub pinned: Option<NodeName>,
}

/// Makes a pod and places it if a node can take it. `effects` go into the same step: the owner's
/// counter, so that no two pods are ever made from one number.
pub fn create(
    draft: &mut Draft<'_>,
    new: NewPod,
    configs: &Configs,
    reasons: Vec<Reason>,
    mut effects: Vec<Effect>,
) {
    let priority = priority::of(&draft.world, &new.template.placement);
    let mut labels = new.template.labels.clone();
    labels.extend(new.extra_labels);
    let mut pod = Pod {
        uid: names::pod_uid(&new.owner_uid, draft.world.meta.epoch, new.counter),
        key: new.key,
        owner: new.owner,
        created: draft.now,
        labels,
        annotations: new.template.annotations.clone(),
        template: new.template,
        revision_digest: new.revision_digest,
        index: new.index,
        pinned: new.pinned,
        counted: false,
        placed: None,
        deletion: None,
        observed: None,
        drifts_told: 0,
        priority: priority.value,
        never_preempts: priority.never_preempts,
        nominated: None,
    };
    let (mut preemption, mut no_place) = (None, None);
    match placement(draft, &pod, configs) {
        Ok((placed, next_address)) => {
            effects.extend(taken_address(draft, &placed.node, next_address));
            pod.placed = Some(placed);
        }
        Err(why) => {
            preemption = room_for(draft, &pod);
            pod.nominated = preemption.as_ref().map(|it| it.node.clone());
            no_place = Some(why);
        }
    }
    let said = Said { node: pod.node().cloned(), ..said(Verb::Create, &pod.key) };
    effects.push(Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod.clone()))));
    draft.step(said, reasons, effects);
    if let Some(preemption) = preemption {
        preempt::carry_out(draft, &preemption, &pod);
    }
    if let Some(why) = no_place {
        wait_for_place(draft, &pod, why);
    }
}

/// Where room could be made for a pod that fits nowhere.
fn room_for(draft: &Draft<'_>, pod: &Pod) -> Option<Preemption> {
    let constraints = constraints(&draft.world, pod).ok()?;
    preempt::choose(&draft.world, pod, &constraints)
}

/// Makes room for a pod that waits, unless that is being done already.
fn make_room(draft: &mut Draft<'_>, pod: &Pod) -> Pod {
    let node = pod.nominated.as_ref().and_then(|node| draft.world.nodes.get(&node_key(node)));
    let in_reach = node.is_some_and(|node| node.is_ready() == Some(true) && !node.unschedulable);
    if in_reach && !preempt::under_way(&draft.world, pod).is_empty() {
        return pod.clone();
    }
    let preemption = room_for(draft, pod);
    let nominated = preemption.as_ref().map(|it| it.node.clone());
    let pod = Pod { nominated, ..pod.clone() };
    if draft.world.pods.get(&pod.key).is_some_and(|row| row.nominated != pod.nominated) {
        draft.note(&pod.key, Record::Pod(Arc::new(pod.clone())));
    }
    if let Some(preemption) = preemption {
        preempt::carry_out(draft, &preemption, &pod);
    }
    pod
}

/// Places a pod that has no node yet, if one can take it now.
pub fn place_pending(draft: &mut Draft<'_>, pod: &Pod, configs: &Configs) {
    match placement(draft, pod, configs) {
        Err(why) => {
            let pod = make_room(draft, pod);
            wait_for_place(draft, &pod, why);
        }
        Ok((placed, next_address)) => {
            let node = placed.node.clone();
            let mut effects: Vec<Effect> =
                taken_address(draft, &node, next_address).into_iter().collect();
            let pod = Pod { placed: Some(placed), nominated: None, ..pod.clone() };
            let words = Said { node: Some(node.clone()), ..said(Verb::Place, &pod.key) };
            let why = Reason::Node { node, what: "can take it now".to_owned() };
            effects.push(Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod))));
            draft.step(words, vec![why], effects);
        }
    }
}

/// How long pods that have no deadline of their own may take to become ready before their
/// reconcile stops waiting for them: a Deployment's default progress deadline.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// Waits for pods to become ready, `newest` the last of them that was made.
pub fn wait_for_pods(draft: &mut Draft<'_>, key: &ObjectKey, for_what: String, newest: &Pod) {
    if let (true, Some(node)) = (refused(newest), newest.node()) {
        let what = format!("node `{node}` to allow pod `{}`", newest.key.name);
        let until_then = "it stays as it is; allow what its events name, then delete the pod";
        return draft.blocked(key, what, until_then);
    }
    let since = newest.placed.as_ref().map_or(newest.created, |placed| placed.at);
    let deadline = since.after(START_DEADLINE);
    let late = deadline <= draft.now;
    draft.wait(Waiting {
        object: key.clone(),
        for_what,
        kind: if late { WaitKind::Blocked } else { WaitKind::Progress },
        deadline: Some(deadline),
        consequence: "its reconcile ends without it; it is still being tried".to_owned(),
        unplaced: None,
    });
    if !late {
        draft.wake(key, deadline);
    }
}

fn wait_for_place(draft: &mut Draft<'_>, pod: &Pod, why: String) {
    let workload = draft.world.workload_of(pod);
    let making_way = preempt::under_way(&draft.world, pod);
    if let (Some(node), true) = (pod.promised(), !making_way.is_empty()) {
        let what = format!("{} pods of lower priority to make way on {node}", making_way.len());
        let (deadline, kind) = ought_all_to_be_gone(making_way.iter().map(|pod| &**pod), draft.now);
        if kind == WaitKind::Progress {
            draft.wake(&workload, deadline);
        }
        draft.wait(Waiting {
            object: workload,
            for_what: format!("a place for pod `{}`: {what}", pod.key.name),
            kind,
            deadline: Some(deadline),
            consequence: "the pod stays pending".to_owned(),
            unplaced: Some(Unplaced { pod: pod.key.clone(), because: why }),
        });
        return;
    }
    draft.wait(Waiting {
        object: workload,
        for_what: format!("a place for pod `{}`: {why}", pod.key.name),
        kind: WaitKind::Blocked,
        deadline: None,
        consequence: "the pod stays pending".to_owned(),
        unplaced: Some(Unplaced { pod: pod.key.clone(), because: why }),
    });
}

/// Where a pod may run at all, as far as others don't take the room. `Err` says what is waited for.
pub fn constraints(world: &World, pod: &Pod) -> Result<Constraints, String> {
    match doubt::forbids(world, pod) {
        Some(why) => Err(why),
        None => attach::constraints(world, &pod.key, &claims_of(pod)),
    }
}

fn claims_of(pod: &Pod) -> Vec<String> {
    pod.template.claims().map(str::to_owned).collect()
}

/// Node, address and decided spec for a pod; the node's next address to remember.
fn placement(
    draft: &mut Draft<'_>,
    pod: &Pod,
    configs: &Configs,
) -> Result<(Placed, Option<u32>), String> {
    let claims = claims_of(pod);
    let constraints = constraints(&draft.world, pod)?;
    let name = scheduler::place(&draft.world, &mut draft.places, pod, &constraints)?;
    let node = draft.world.nodes.get(&node_key(&name)).map(|row| Arc::clone(&row.value));
    let Some(node) = node else { return Err(format!("node `{name}`")) };
    let address = match pod.template.network.host_network {
        true => None,
        false => Some(free_address(&draft.world, &node).ok_or_else(|| {
            format!("a free address on node `{name}`, whose range is {}", node.network.range)
        })?),
    };
    let attachments = attach::attachments(draft, &pod.key, &claims, &constraints, &node)?;
    let sources = attachments.iter().map(|(name, it)| (name.clone(), it.source.clone())).collect();
    let decision = Decision {
        pod,
        configs,
        claims: &sources,
        node: &name,
        node_address: node.observed.facts.addresses.first().map(String::as_str),
        address,
        api: draft.world.meta.service_range.and_then(services::api_address),
    };
    let mut spec = decide(&decision)?;
    spec.fence_after_seconds =
        fence::wanted(&pod.template).filter(|_| attach::can_move(&draft.world, &attachments));
    // Nothing is bound, made or pinned for a pod that comes to nothing.
    attach::attach(draft, &pod.key, attachments, &node);
    let placed = Placed { node: name, at: draft.now, digest: spec.digest(), spec: Arc::new(spec) };
    Ok((placed, address.map(|address| u32::from(address) + 1)))
}

fn taken_address(draft: &Draft<'_>, node: &NodeName, next: Option<u32>) -> Option<Effect> {
    let key = node_key(node);
    let node = draft.world.nodes.get(&key)?;
    let node = Node { next_address: next?, ..(*node.value).clone() };
    Some(Effect::Put(key, Record::Node(Arc::new(node))))
}

/// The first address behind the last one given out that no pod on the node holds; the range is
/// gone through in a circle, so that an address is reused as late as possible. The network's own
/// address, the gateway (the first host) and the broadcast address are nobody's.
fn free_address(world: &World, node: &Node) -> Option<Ipv4Addr> {
    let range = node.network.range;
    let first = u32::from(range.network()) + 2;
    let last = u32::from(range.broadcast()).checked_sub(1)?;
    if first > last {
        return None;
    }
    let taken: std::collections::BTreeSet<u32> = world
        .pods_on(&node.name)
        .filter_map(|pod| pod.placed.as_ref()?.spec.address)
        .map(u32::from)
        .collect();
    let start = node.next_address.clamp(first, last);
    (start..=last).chain(first..start).find(|address| !taken.contains(address)).map(Ipv4Addr::from)
}

/// Tells a pod to end, for its workload's sake. One that never had a node is simply forgotten.
pub fn stop(draft: &mut Draft<'_>, pod: &Pod, reasons: Vec<Reason>) {
    stop_for(EndedBy::Workload, draft, pod, None, reasons);
}

/// Tells a pod to end though its workload wants it.
pub fn disrupt(draft: &mut Draft<'_>, pod: &Pod, reason: Reason) {
    stop_for(EndedBy::Disruption, draft, pod, None, vec![reason]);
}

/// The same for anybody's sake; `grace_seconds` instead of the pod's own.
pub fn stop_for(
    by: EndedBy,
    draft: &mut Draft<'_>,
    pod: &Pod,
    grace_seconds: Option<u32>,
    reasons: Vec<Reason>,
) {
    if pod.deletion.is_some() {
        return;
    }
    if pod.placed.is_none() {
        let forget = vec![Effect::Remove(pod.key.clone(), Table::Pod)];
        draft.step(said(Verb::Delete, &pod.key), reasons, forget);
        return;
    }
    let words = Said { node: pod.node().cloned(), ..said(Verb::Stop, &pod.key) };
    let grace_seconds = grace_seconds.unwrap_or(pod.template.termination_grace_seconds);
    let deletion = Deletion { at: draft.now, grace_seconds, by };
    let pod = Pod { deletion: Some(deletion), ..pod.clone() };
    let effect = Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod)));
    draft.step(words, reasons, vec![effect]);
}

/// Forgets pods that were told to end and were seen to be gone, tells drifts, and says what the
/// others are waited for.
pub fn follow(draft: &mut Draft<'_>, workload: &ObjectKey, pods: &[Arc<Pod>]) {
    for pod in pods {
        if pod.phase() == PodPhase::Gone {
            forget(draft, workload, pod);
            continue;
        }
        tell_drifts(draft, pod);
        if let Some(deletion) = pod.deletion {
            wait_for_end(draft, workload, pod, deletion);
        }
    }
}

/// A pod that its node says is gone: told to end, or stopped by the node itself when it was cut off.
fn forget(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Arc<Pod>) {
    if pod.deletion.is_none() {
        return count_as_gone(draft, workload, pod, Reason::PodGone { pod: pod.key.clone() });
    }
    rows_of(pod).into_iter().for_each(|effect| draft.note_effect(effect));
}

/// Takes a pod for gone that nobody ordered to end, or that nobody can ask; `workload` replaces it.
pub fn count_as_gone(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Pod, reason: Reason) {
    let words = Said { node: pod.node().cloned(), ..said(Verb::Stop, &pod.key) };
    draft.step(words, vec![reason], rows_of(pod).into());
    draft.queue.insert(workload.clone());
}

/// What a pod that is gone leaves nothing of.
fn rows_of(pod: &Pod) -> [Effect; 2] {
    [Table::Pod, Table::Events].map(|table| Effect::Remove(pod.key.clone(), table))
}

/// By when a pod that was told to end ought to be gone.
fn ought_to_be_gone(deletion: Deletion) -> Timestamp {
    /// Beyond the grace period: for the order to arrive and the engine to act.
    const SLACK: Duration = Duration::from_secs(30);
    deletion.at.after(Duration::from_secs(deletion.grace_seconds.into()) + SLACK)
}

/// The same of the last of several; `now` where none was told to end.
pub fn ought_all_to_be_gone<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
) -> (Timestamp, WaitKind) {
    let deadline = pods.filter_map(|pod| pod.deletion).map(ought_to_be_gone).max().unwrap_or(now);
    (deadline, if deadline <= now { WaitKind::Blocked } else { WaitKind::Progress })
}

fn wait_for_end(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Pod, deletion: Deletion) {
    let deadline = ought_to_be_gone(deletion);
    let late = deadline <= draft.now;
    let node = pod.node().map_or_else(String::new, |node| format!(" on {node}"));
    draft.wait(Waiting {
        object: workload.clone(),
        for_what: format!("pod `{}` to end{node}", pod.key.name),
        kind: if late { WaitKind::Blocked } else { WaitKind::Progress },
        deadline: Some(deadline),
        consequence: "its address and its volumes stay taken until its node says it is gone".into(),
        unplaced: None,
    });
    if !late {
        draft.wake(workload, deadline);
    }
}

/// Each drift becomes a step once: the agent put it back already, the plan says why.
fn tell_drifts(draft: &mut Draft<'_>, pod: &Arc<Pod>) {
    let Some(observed) = &pod.observed else { return };
    let untold: Vec<_> =
        observed.drifts.iter().filter(|drift| drift.number > pod.drifts_told).cloned().collect();
    for drift in &untold {
        let told = Pod { drifts_told: drift.number, ..(**pod).clone() };
        let reason = Reason::Drift {
            pod: pod.key.clone(),
            container: drift.container.clone(),
            kind: drift.kind,
            seen: drift.seen.clone(),
            at: drift.at,
        };
        let detail = match drift.container.as_str() {
            "" => "network".to_owned(),
            name => format!("container {name}"),
        };
        let words = Said { node: pod.node().cloned(), detail, ..said(Verb::Repair, &pod.key) };
        let effect = Effect::Put(pod.key.clone(), Record::Pod(Arc::new(told)));
        draft.step(words, vec![reason], vec![effect]);
    }
}

/// On a node that is known to be cut off, or whose engine fails, nothing is ready, whatever was seen last.
pub fn is_reachable(world: &World, pod: &Pod) -> bool {
    let node = pod.node().and_then(|node| world.nodes.get(&node_key(node)));
    node.is_none_or(|node| node.is_ready() != Some(false))
}
