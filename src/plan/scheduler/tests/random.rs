//! What is kept from pod to pod gives the places that a plain look at everything gives.

use proptest::prelude::*;

use super::{plain, pod, put, world};
use crate::domain::record::Pod;
use crate::domain::world::{Effect, Table, World};
use crate::plan::scheduler::Constraints;
use crate::plan::scheduler::session::Session;

const NODES: &str = "a zone=1 rack=1 cpu=2 | b zone=1 rack=2 cpu=3 | c zone=2 rack=3 | d zone=2 rack=3 cpu=1
    e zone=3 taint=x=y:PreferNoSchedule | f zone=3 cpu=8 taint=x=y:NoSchedule | g cpu=2 | h zone=1 cordoned
    i zone=2 cpu=2 pods=3 | j zone=3 rack=1 disk=ssd";

const SPREAD: &str = "labelSelector: {matchLabels: {app: web}}";

/// Kinds of pods: plain ones, picky ones, and ones that mind others.
fn kinds() -> Vec<String> {
    let term = |app: &str, key: &str| {
        format!("{{labelSelector: {{matchLabels: {{app: {app}}}}}, topologyKey: {key}}}")
    };
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let wish =
        |weight: u32, term: String| format!("[{{weight: {weight}, podAffinityTerm: {term}}}]");
    vec![
        "app=web cpu=100m mem=64Mi".to_owned(),
        "app=web".to_owned(),
        "app=db cpu=500m ; tolerations: [{key: x, operator: Exists}]".to_owned(),
        "app=web cpu=100m port=80".to_owned(),
        format!(
            "app=web cpu=50m ; topologySpreadConstraints: [{{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, {SPREAD}}}]"
        ),
        format!(
            "app=web cpu=50m ; topologySpreadConstraints: [{{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, {SPREAD}}}, {{topologyKey: zone, maxSkew: 2, whenUnsatisfiable: ScheduleAnyway, {SPREAD}}}]"
        ),
        format!(
            "app=web cpu=50m ; topologySpreadConstraints: [{{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, {SPREAD}}}, {{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, {SPREAD}}}]"
        ),
        format!(
            "app=web cpu=10m ; affinity: {{podAntiAffinity: {{{required}: [{}]}}}}",
            term("web", "kubernetes.io/hostname")
        ),
        format!(
            "app=db cpu=10m ; affinity: {{podAntiAffinity: {{{required}: [{}]}}}}",
            term("web", "zone")
        ),
        format!(
            "app=web cpu=10m ; affinity: {{podAffinity: {{{required}: [{}]}}}}",
            term("web", "zone")
        ),
        format!(
            "app=cache cpu=10m ; affinity: {{podAffinity: {{{required}: [{}]}}}}",
            term("db", "rack")
        ),
        format!(
            "app=web cpu=10m ; affinity: {{podAffinity: {{{preferred}: {}}}, podAntiAffinity: {{{preferred}: {}}}}}",
            wish(30, term("db", "zone")),
            wish(70, term("web", "kubernetes.io/hostname"))
        ),
        format!(
            "app=db cpu=10m ; affinity: {{podAffinity: {{{preferred}: {}}}}}",
            wish(50, term("web", "rack"))
        ),
    ]
}

/// One pod placed for good, or one of those that were placed gone.
fn act(world: &mut World, session: &mut Session, template: &Pod, number: usize, goes: bool) {
    if goes && world.pods.len() > 1 {
        let at = number % world.pods.len();
        let gone = world.pods.values().nth(at).unwrap().value.clone();
        world.apply(&Effect::Remove(gone.key.clone(), Table::Pod), 1);
        session.changed(world, Some(&gone), None);
        return;
    }
    let mut new = template.clone();
    new.key = new.key.sibling(new.key.kind, &format!("p{number}"));
    let node = Session::new(world, &new, &Constraints::default()).best(world).cloned();
    let Some(node) = node else { return };
    let placed = pod(Some(node.as_str()), "x", "").placed;
    let new = Pod { placed, ..new };
    put(world, new.clone());
    session.changed(world, None, Some(&new));
}

/// Places the pod that was asked about, and asks about another one like it.
fn next_of_its_kind(world: &mut World, session: &mut Session, asked: &Pod, number: usize) -> Pod {
    if let Some(node) = session.best(world).cloned() {
        let placed = Pod { placed: pod(Some(node.as_str()), "x", "").placed, ..asked.clone() };
        put(world, placed.clone());
        session.changed(world, Some(asked), Some(&placed));
    }
    Pod { key: asked.key.sibling(asked.key.kind, &format!("asked{number}")), ..asked.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_kept_finds_what_a_plain_look_at_everything_finds(
        own in 0usize..13,
        acts in proptest::collection::vec((0usize..13, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let kinds: Vec<Pod> = kinds().iter().map(|line| pod(None, "kind", line)).collect();
        let mut world = world(NODES, "a default/first app=db cpu=1");
        let mut asked = kinds[own].clone();
        asked.key = asked.key.sibling(asked.key.kind, "asked");
        let mut session = Session::new(&world, &asked, &Constraints::default());
        for (number, (kind, goes, also)) in acts.into_iter().enumerate() {
            if goes && !also {
                asked = next_of_its_kind(&mut world, &mut session, &asked, number);
            }
            act(&mut world, &mut session, &kinds[kind], number, goes && also);
            if !session.suits(&asked) {
                session = Session::new(&world, &asked, &Constraints::default());
            }
            let fresh = Session::new(&world, &asked, &Constraints::default());
            prop_assert_eq!(session.best(&world), fresh.best(&world));
            prop_assert_eq!(session.refusal(&world), fresh.refusal(&world));
            let scores = plain::scores(&world, &asked);
            let best = session.best(&world).map(|node| scores.get(node.as_str()).copied());
            prop_assert_eq!(best, scores.values().max().map(|best| Some(*best)), "{:?}", scores);
        }
    }
}
