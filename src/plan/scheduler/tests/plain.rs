//! The same places found the plain way: for each node every pod is looked at. Slow, and written
//! from upstream's description alone, so that it can be held against `session`.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::load::{Amounts, requests};
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::template::{PodTerm, SpreadConstraint};
use crate::domain::world::World;
use crate::plan::scheduler::score::{self, Range};
use crate::plan::scheduler::terms::term_matches;
use crate::plan::scheduler::{Constraints, filter};

/// Every node that can take the pod, with its score.
pub fn scores(world: &World, pod: &Pod) -> BTreeMap<String, i64> {
    let all: Vec<&Node> = world.nodes.values().map(|row| &*row.value).collect();
    let fit: Vec<&Node> = all.iter().copied().filter(|node| fits(world, pod, node, &all)).collect();
    let placement = &pod.template.placement;
    let avoided: Vec<i64> = fit.iter().map(|node| filter::avoided(placement, node)).collect();
    let preferred: Vec<i64> = fit.iter().map(|node| preferred(pod, node)).collect();
    let wishes: Vec<i64> = fit.iter().map(|node| wish(world, pod, node)).collect();
    let crowds = crowds(world, pod, &fit, &all);
    let range = |values: &[i64]| Range::of(values.iter().copied());
    let crowd_range = Range::of(crowds.iter().flatten().copied());
    let each = fit.iter().enumerate().map(|(at, node)| {
        let total = own(world, pod, node)
            + 3 * range(&avoided).reversed(avoided[at])
            + 2 * range(&preferred).share(preferred[at])
            + 2 * range(&wishes).between(wishes[at])
            + 2 * crowds[at].map_or(0, |crowd| crowd_range.spread(crowd));
        (node.name.to_string(), total)
    });
    each.collect()
}

fn own(world: &World, pod: &Pod, node: &Node) -> i64 {
    let wanted = requests(&pod.template);
    let load = filter::room(world, pod, &wanted, node).unwrap();
    score::room(&node.observed.capacity, &load, wanted.asked == Amounts::default())
}

fn preferred(pod: &Pod, node: &Node) -> i64 {
    let all = &pod.template.placement.preferred_nodes;
    let met = all.iter().filter(|wish| wish.term.matches(node.name.as_str(), &node.labels));
    met.map(|wish| i64::from(wish.weight)).sum()
}

fn fits(world: &World, pod: &Pod, node: &Node, all: &[&Node]) -> bool {
    let hard: Vec<&SpreadConstraint> =
        pod.template.placement.spread.iter().filter(|it| it.hard).collect();
    filter::admits(pod, node, &Constraints::default()).is_ok()
        && filter::room(world, pod, &requests(&pod.template), node).is_ok()
        && hard.iter().all(|it| is_even(world, pod, node, it, &hard, all))
        && is_near(world, pod, node, all)
        && is_apart(world, pod, node)
}

/// Pods that run, with their nodes.
fn running(world: &World) -> impl Iterator<Item = (&Pod, &Node)> {
    let placed = world.pods.values().map(|row| &*row.value);
    placed.filter(|pod| !pod.is_over()).filter_map(|pod| {
        let node = pod.node()?;
        world.nodes.values().map(|row| &*row.value).find(|it| it.name == *node).map(|it| (pod, it))
    })
}

fn crowd(world: &World, pod: &Pod, rule: &SpreadConstraint, value: &str, open: &[&Node]) -> i64 {
    let selector = rule.selector.as_ref();
    let selects = |other: &Pod| {
        other.deletion.is_none()
            && other.key.namespace == pod.key.namespace
            && selector.is_some_and(|selector| selector.matches(&other.labels))
            && rule
                .match_label_keys
                .iter()
                .all(|key| pod.labels.get(key).is_none_or(|own| other.labels.get(key) == Some(own)))
    };
    let there = running(world).filter(|(other, node)| {
        node.labels.get(&rule.topology_key).map(String::as_str) == Some(value)
            && open.iter().any(|it| it.name == node.name)
            && selects(other)
    });
    i64::try_from(there.count()).unwrap()
}

/// The nodes that a constraint looks at.
fn open<'n>(
    pod: &Pod,
    rule: &SpreadConstraint,
    alike: &[&SpreadConstraint],
    all: &[&'n Node],
) -> Vec<&'n Node> {
    let placement = &pod.template.placement;
    let counts = |node: &&&Node| {
        alike.iter().all(|it| node.labels.contains_key(&it.topology_key))
            && (rule.ignores_affinity || filter::selects(placement, node))
            && (!rule.honors_taints || filter::tolerates_all(placement, node))
    };
    all.iter().filter(counts).copied().collect()
}

fn is_even(
    world: &World,
    pod: &Pod,
    node: &Node,
    rule: &SpreadConstraint,
    hard: &[&SpreadConstraint],
    all: &[&Node],
) -> bool {
    let Some(value) = node.labels.get(&rule.topology_key) else { return false };
    let open = open(pod, rule, hard, all);
    let values: BTreeSet<&String> =
        open.iter().filter_map(|node| node.labels.get(&rule.topology_key)).collect();
    let counts = values.iter().map(|value| crowd(world, pod, rule, value, &open));
    let least = match values.len() < rule.min_domains.unwrap_or(1) as usize {
        true => 0,
        false => counts.min().unwrap_or(0),
    };
    let selector = rule.selector.as_ref();
    let itself = selector.is_some_and(|selector| selector.matches(&pod.labels));
    crowd(world, pod, rule, value, &open) + i64::from(itself) - least <= i64::from(rule.max_skew)
}

fn same_domain(key: &str, a: &Node, b: &Node) -> bool {
    a.labels.get(key).is_some_and(|value| b.labels.get(key) == Some(value))
}

fn is_near(world: &World, pod: &Pod, node: &Node, all: &[&Node]) -> bool {
    let terms = &pod.template.placement.pod_affinity;
    let wanted = |other: &Pod| terms.iter().all(|term| term_matches(world, term, pod, other));
    let met = |term: &PodTerm| {
        running(world)
            .any(|(other, there)| same_domain(&term.topology_key, node, there) && wanted(other))
    };
    let labelled = |node: &Node| terms.iter().all(|it| node.labels.contains_key(&it.topology_key));
    let some_labelled =
        |node: &Node| terms.iter().any(|it| node.labels.contains_key(&it.topology_key));
    let anybody = running(world).any(|(other, there)| {
        wanted(other) && all.iter().any(|it| it.name == there.name) && some_labelled(there)
    });
    terms.iter().all(met) || (!anybody && wanted(pod) && labelled(node))
}

fn is_apart(world: &World, pod: &Pod, node: &Node) -> bool {
    let own = &pod.template.placement.pod_anti_affinity;
    !running(world).any(|(other, there)| {
        let theirs = &other.template.placement.pod_anti_affinity;
        let mine = own.iter().any(|term| {
            same_domain(&term.topology_key, node, there) && term_matches(world, term, pod, other)
        });
        mine || theirs.iter().any(|term| {
            same_domain(&term.topology_key, node, there) && term_matches(world, term, other, pod)
        })
    })
}

fn wish(world: &World, pod: &Pod, node: &Node) -> i64 {
    let weigh = |(other, there): (&Pod, &Node)| {
        let near = |term: &PodTerm| same_domain(&term.topology_key, node, there);
        let (own, theirs) = (&pod.template.placement, &other.template.placement);
        let mine = own.preferred_pods.iter().filter(|wish| near(&wish.term));
        let mine = mine.filter(|wish| term_matches(world, &wish.term, pod, other));
        let yours = theirs.preferred_pods.iter().filter(|wish| near(&wish.term));
        let yours = yours.filter(|wish| term_matches(world, &wish.term, other, pod));
        let needs = theirs.pod_affinity.iter().filter(|term| near(term));
        let needs = needs.filter(|term| term_matches(world, term, other, pod)).count();
        let wishes: i64 = mine.chain(yours).map(|wish| i64::from(wish.weight)).sum();
        wishes + i64::try_from(needs).unwrap()
    };
    running(world).map(weigh).sum()
}

/// How crowded each node's domains are; `None` for those that lack a label.
fn crowds(world: &World, pod: &Pod, fit: &[&Node], all: &[&Node]) -> Vec<Option<i64>> {
    let host = "kubernetes.io/hostname";
    if pod.template.placement.spread.is_empty() {
        let labelled = fit.iter().filter(|node| node.labels.contains_key(host)).count();
        let weight = score::domain_weight(labelled);
        let siblings = |node: &&Node| {
            node.labels.get(host)?;
            let siblings = world.pods_on(&node.name).filter(|other| {
                other.owner == pod.owner && other.deletion.is_none() && !other.is_over()
            });
            let count = i64::try_from(siblings.count()).unwrap();
            Some(score::rounded(score::crowd(count, weight, 3)))
        };
        return fit.iter().map(siblings).collect();
    }
    let soft: Vec<&SpreadConstraint> =
        pod.template.placement.spread.iter().filter(|it| !it.hard).collect();
    let is_labelled =
        |node: &&&Node| soft.iter().all(|it| node.labels.contains_key(&it.topology_key));
    let labelled: Vec<&Node> = fit.iter().filter(is_labelled).copied().collect();
    let each = fit.iter().map(|node| {
        is_labelled(&node).then_some(())?;
        let parts = soft.iter().map(|rule| {
            let values = labelled.iter().map(|node| &node.labels[&rule.topology_key]);
            let weight = score::domain_weight(values.collect::<BTreeSet<_>>().len());
            let value = &node.labels[&rule.topology_key];
            let open = open(pod, rule, &soft, all);
            score::crowd(crowd(world, pod, rule, value, &open), weight, rule.max_skew)
        });
        Some(score::rounded(parts.sum()))
    });
    each.collect()
}
