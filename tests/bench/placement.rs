//! How many pods a second get their places: by the scheduler alone, and by the whole planner.

use std::sync::Arc;

use kgit::domain::desired::{Commit, Desired, FileContent, SourceFile, TreeChange};
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::node::Node;
use kgit::domain::plan::Dirty;
use kgit::domain::record::{Placed, Pod};
use kgit::domain::world::{Effect, Record, World, node_key};
use kgit::manifest::catalog::Catalog;
use kgit::plan::scheduler::session::Session;
use kgit::plan::scheduler::{Constraints, place};
use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::ids::{ClusterId, Digest, Epoch, Generation, NodeName, PodUid};
use kgit_protocol::observation::{Capacity, NodeObservation};
use kgit_protocol::time::Timestamp;

use crate::cpu::measured;
use crate::{Size, median};

const NOW: Timestamp = Timestamp(1_767_225_600_000);
/// As many zones as a large provider has.
const ZONES: usize = 10;

const SPREAD: &str = "topologySpreadConstraints: [\
    {topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}, \
    {topologyKey: kubernetes.io/hostname, maxSkew: 5, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]";
const AFFINITY: &str = "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [\
    {weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}}]}, \
    podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [\
    {weight: 50, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {app: web}}}}]}}";

fn node(index: usize) -> Node {
    let name = NodeName::new(format!("node-{index}"));
    let range = format!("10.{}.{}.0/24", index / 256, index % 256).parse().unwrap();
    let issued = Stamp { epoch: Epoch(0), generation: Generation(0), digest: Digest::of(b"") };
    let uid = format!("uid-{index}");
    let capacity =
        Capacity { cpu_millis: 8000, memory_bytes: 32 << 30, pods: 110, disk_bytes: 1 << 40 };
    let labels = [
        ("kubernetes.io/hostname".to_owned(), name.to_string()),
        ("zone".to_owned(), format!("zone-{}", index % ZONES)),
    ];
    Node {
        labels: labels.into(),
        observed: NodeObservation { capacity, ..NodeObservation::default() },
        heard: Some(true),
        ..Node::new(name, uid, NOW, PodNetwork { range }, Digest::of(b""), issued)
    }
}

fn fleet(nodes: usize) -> World {
    let mut world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
    for index in 0..nodes {
        let node = node(index);
        let record = Record::Node(Arc::new(node.clone()));
        world.apply(&Effect::Put(node_key(&node.name), record), 1);
    }
    world
}

fn deployment(name: &str, replicas: usize, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    spec:\n      {spec}\n      \
         containers: [{{name: web, image: 'web:1', resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}}}]\n"
    )
}

fn desired(text: &str) -> Desired {
    let mut catalog = Catalog::default();
    let content = FileContent::Bytes(Arc::from(text.as_bytes()));
    let file = SourceFile { path: "web.yaml".into(), content };
    catalog.apply(&TreeChange { upserted: vec![file], removed: Vec::new() });
    assert!(catalog.diagnostics().is_empty(), "{:?}", catalog.diagnostics());
    catalog.desired(Arc::new(Commit::default()))
}

/// A pod of the template that a Deployment has, not placed yet.
fn pod(desired: &Desired, workload: &str) -> Pod {
    let key = ObjectKey::new(Kind::Deployment, "default", workload);
    let template = Arc::clone(desired.objects[&key].template().unwrap());
    Pod {
        pinned: None,
        key: key.sibling(Kind::Pod, workload),
        uid: PodUid::new("uid"),
        owner: key.sibling(Kind::ReplicaSet, workload),
        created: NOW,
        labels: template.labels.clone(),
        annotations: Default::default(),
        revision_digest: template.digest(),
        template,
        index: None,
        counted: false,
        placed: None,
        deletion: None,
        observed: None,
        drifts_told: 0,
        priority: 0,
        never_preempts: false,
        nominated: None,
    }
}

/// The scheduler's own work: finding each place, and recording that it is taken.
fn scheduled(world: &mut World, pods: &[Pod], placed: &Placed) -> f64 {
    let ((), spent) = measured(|| {
        let mut kept: Option<Session> = None;
        for pod in pods {
            let node = place(world, &mut kept, pod, &Constraints::default()).unwrap();
            let placed = Placed { node, ..placed.clone() };
            let pod = Arc::new(Pod { placed: Some(placed), ..pod.clone() });
            world.apply(&Effect::Put(pod.key.clone(), Record::Pod(Arc::clone(&pod))), 2);
            if let Some(kept) = &mut kept {
                kept.changed(world, None, Some(&pod));
            }
        }
    });
    spent
}

/// Pods of so many workloads, in turn one workload after the other.
fn pods(count: usize, workloads: usize, spec: &str) -> Vec<Pod> {
    let each = count / workloads;
    let names: Vec<String> = (0..workloads).map(|workload| format!("web-{workload}")).collect();
    let texts = names.iter().map(|name| deployment(name, each, spec));
    let desired = desired(&texts.collect::<Vec<_>>().join("---\n"));
    let mut pods = Vec::new();
    for name in &names {
        let one = pod(&desired, name);
        pods.extend((0..each).map(|number| Pod {
            key: one.key.sibling(Kind::Pod, &format!("{name}-{number}")),
            uid: PodUid::new(format!("{name}-{number}")),
            ..one.clone()
        }));
    }
    pods
}

/// The fleet with a pod on each node that leaves room for so many more of the others.
fn brim(empty: &World, room: usize, placed: &Placed) -> World {
    let mut world = empty.clone();
    let rest = 8000 - 100 * room;
    let large = deployment("large", 1, "").replace("cpu: 100m", &format!("cpu: {rest}m"));
    let one = pod(&desired(&large.replace("app: web", "app: large")), "large");
    for (index, node) in empty.nodes.values().enumerate() {
        let key = one.key.sibling(Kind::Pod, &format!("large-{index}"));
        let placed = Some(Placed { node: node.name.clone(), ..placed.clone() });
        let pod = Pod { key, uid: PodUid::new(format!("large-{index}")), placed, ..one.clone() };
        world.apply(&Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod))), 1);
    }
    world
}

/// What a placed pod's record holds besides its node.
fn placed() -> Placed {
    let world = fleet(1);
    let desired = desired(&deployment("one", 1, ""));
    let dirty = Dirty::everything(&world, &desired);
    let plan = kgit::plan::tick(&world, &desired, &dirty, NOW);
    let mut pods = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Put(_, Record::Pod(pod)) => pod.placed.clone(),
        _ => None,
    });
    pods.next().unwrap()
}

#[test]
fn places_are_found_fast_in_a_large_fleet() {
    let (nodes, count, rounds) = match Size::chosen() {
        Size::Smoke => (50, 100, 1),
        Size::Full => (5_000, 10_000, 5),
    };
    let placed = placed();
    let empty = fleet(nodes);
    for (what, workloads, spec) in [
        ("plain", 1, ""),
        ("plain, of many workloads", count / 20, ""),
        ("with topology spread", 1, SPREAD),
        ("with affinity and anti-affinity", 1, AFFINITY),
    ] {
        let pods = pods(count, workloads, spec);
        let mut spent = Vec::new();
        for _ in 0..rounds {
            spent.push(scheduled(&mut empty.clone(), &pods, &placed));
        }
        print(what, "an empty fleet", pods.len(), median(spent));
        let mut brim = brim(&empty, pods.len().div_ceil(nodes), &placed);
        print(
            what,
            "one filled to the last place",
            pods.len(),
            scheduled(&mut brim, &pods, &placed),
        );
        let refused = place(&brim, &mut None, &pods[0], &Constraints::default());
        assert!(refused.is_err(), "no place is left, and one was found: {refused:?}");
    }
    whole(&empty, count);
}

/// From a commit to the rows of its pods: names, addresses, what agents are told, reasons.
fn whole(empty: &World, count: usize) {
    let per_workload = 100;
    let texts = (0..count / per_workload)
        .map(|number| deployment(&format!("web-{number}"), per_workload, ""));
    let desired = desired(&texts.collect::<Vec<_>>().join("---\n"));
    let dirty = Dirty::everything(empty, &desired);
    let (plan, spent) = measured(|| kgit::plan::tick(empty, &desired, &dirty, NOW));
    assert!(plan.steps.len() > count);
    print("planned as a whole", "an empty fleet", count, spent);
}

fn print(what: &str, fleet: &str, pods: usize, milliseconds: f64) {
    assert!(milliseconds > 0.0, "the clock stands still");
    let rate = pods as f64 / milliseconds * 1000.0;
    println!("placements, {what}, on {fleet}: {rate:.0} a second of CPU time ({pods} pods)");
}
