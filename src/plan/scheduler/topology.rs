//! What a pod's place has to do with other pods: spreading, affinity, anti-affinity. For each rule
//! the pods that it is about are counted by domain, and kept counted as pods come and go.
//!
//! Sources: upstream's `plugins/podtopologyspread` and `plugins/interpodaffinity`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::selector::{Labels, Selector};
use crate::domain::template::{PodTerm, SpreadConstraint};
use crate::domain::world::World;
use crate::plan::scheduler::filter;
use crate::plan::scheduler::fleet::{Fleet, HOSTNAME, Key};
use crate::plan::scheduler::terms::term_matches;
use crate::plan::scheduler::unfit::Unfit;

/// Upstream's skew for pods without a constraint of their own.
const DEFAULT_MAX_SKEW: u32 = 3;

#[derive(Debug)]
pub struct Topology {
    fleet: Arc<Fleet>,
    pub keys: Vec<Arc<Key>>,
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub struct Rule {
    pub what: What,
    pub key: usize,
    /// By domain.
    counts: Vec<i64>,
    /// Of each node, for spreading: whether it counts. Empty: all do.
    counting: Vec<bool>,
    /// By domain, for spreading: whether a node in it counts.
    open: Vec<bool>,
}

#[derive(Debug)]
pub enum What {
    /// No domain may have more pods than the emptiest by more than `max_skew`.
    Even { crowd: Crowd, max_skew: u32, min_domains: u32, counts_itself: bool },
    /// The fewer pods the better.
    Rather { crowd: Crowd, max_skew: u32 },
    /// A pod that matches all of the pod's affinity terms is there.
    Near,
    /// No pod that matches this term is there.
    Away(PodTerm),
    /// No pod is there that wants to be away from this one.
    Welcome,
    /// Wishes of the pod, and of others about it.
    Wish,
}

/// Which pods spreading counts.
#[derive(Clone, Debug)]
pub enum Crowd {
    /// Those of the same owner.
    Siblings,
    Selected {
        selector: Option<Selector>,
        keys: Vec<String>,
    },
}

/// What the rules find for a node: for each rule the count in its domain, `None` where it has
/// none.
pub type Counts = [Option<i64>];

impl Topology {
    pub fn new(world: &World, pod: &Pod, fleet: Arc<Fleet>) -> Self {
        let mut topology = Self { fleet, keys: Vec::new(), rules: Vec::new() };
        topology.add_spread(pod);
        topology.add_terms(world, pod);
        for index in 0..topology.rules.len() {
            topology.count_all(world, pod, index);
        }
        topology
    }

    fn add_spread(&mut self, pod: &Pod) {
        let constraints = &pod.template.placement.spread;
        if constraints.is_empty() {
            let what = What::Rather { crowd: Crowd::Siblings, max_skew: DEFAULT_MAX_SKEW };
            self.add(what, HOSTNAME);
            return;
        }
        for constraint in constraints {
            // Only nodes that have all labels of the constraints of one kind count for them.
            let alike = constraints.iter().filter(|other| other.hard == constraint.hard);
            let keys: Vec<&str> = alike.map(|other| other.topology_key.as_str()).collect();
            let fleet = Arc::clone(&self.fleet);
            let counting = fleet.nodes.iter().map(|node| {
                keys.iter().all(|key| node.labels.contains_key(*key))
                    && counts(constraint, pod, node)
            });
            let counting: Vec<bool> = counting.collect();
            let rule = self.add(spread(constraint, pod), &constraint.topology_key);
            let key = self.rules[rule].key;
            let mut open = vec![false; self.keys[key].domains];
            for (domain, counts) in self.keys[key].of_node.iter().zip(&counting) {
                if let (Some(domain), true) = (domain, counts) {
                    open[*domain] = true;
                }
            }
            self.rules[rule].counting = counting;
            self.rules[rule].open = open;
        }
    }

    fn add_terms(&mut self, world: &World, pod: &Pod) {
        let placement = &pod.template.placement;
        for term in &placement.pod_affinity {
            self.add(What::Near, &term.topology_key);
        }
        for term in &placement.pod_anti_affinity {
            self.add(What::Away(term.clone()), &term.topology_key);
        }
        let (unwelcome, wishes) = minded_keys(world, pod);
        for key in unwelcome {
            self.add(What::Welcome, &key);
        }
        for key in wishes {
            self.add(What::Wish, &key);
        }
    }

    fn add(&mut self, what: What, key: &str) -> usize {
        let known = self.keys.iter().position(|known| known.name == key);
        let key = known.unwrap_or_else(|| {
            self.keys.push(self.fleet.key(key));
            self.keys.len() - 1
        });
        let counts = vec![0; self.keys[key].domains];
        self.rules.push(Rule { what, key, counts, counting: Vec::new(), open: Vec::new() });
        self.rules.len() - 1
    }

    fn count_all(&mut self, world: &World, pod: &Pod, rule: usize) {
        let candidates = candidates(world, pod, &self.rules[rule].what);
        // Where it is now says nothing of where it goes; to pods like it, it counts once placed.
        for other in candidates.into_iter().filter(|other| other.key != pod.key) {
            self.count(world, pod, rule, &other, 1);
        }
    }

    /// Counts a pod that has come (1) or gone (−1), by every rule.
    pub fn changed(&mut self, world: &World, pod: &Pod, other: &Pod, sign: i64) {
        for rule in 0..self.rules.len() {
            self.count(world, pod, rule, other, sign);
        }
    }

    fn count(&mut self, world: &World, pod: &Pod, rule: usize, other: &Pod, sign: i64) {
        let Some(place) = other.seat().and_then(|node| self.fleet.place(node)) else {
            return;
        };
        let key = &self.keys[self.rules[rule].key];
        let rule = &mut self.rules[rule];
        let counts = rule.counting.is_empty() || rule.counting[place];
        if let (Some(domain), true) = (key.of_node[place], counts) {
            rule.counts[domain] += sign * weight(world, pod, other, &rule.what, &key.name);
        }
    }

    /// Whether every label is known that `other` minds about `pod`; else a new topology is needed.
    pub fn knows(&self, world: &World, pod: &Pod, other: &Pod) -> bool {
        if !other.template.placement.minds_pods() {
            return true;
        }
        let has = |wanted: fn(&What) -> bool, key: &str| {
            self.rules.iter().any(|rule| wanted(&rule.what) && self.keys[rule.key].name == key)
        };
        let (mut unwelcome, mut wishes) = (BTreeSet::new(), BTreeSet::new());
        minded_by(world, pod, other, &mut unwelcome, &mut wishes);
        unwelcome.iter().all(|key| has(|what| matches!(what, What::Welcome), key))
            && wishes.iter().all(|key| has(|what| matches!(what, What::Wish), key))
    }

    /// What a rule counts in the domain of a node; `None` if the node has none.
    pub fn counted(&self, rule: usize, place: usize) -> Option<i64> {
        let rule = &self.rules[rule];
        self.keys[rule.key].of_node[place].map(|domain| rule.counts[domain])
    }

    /// The domain of a node by a key.
    pub fn domain(&self, key: usize, place: usize) -> Option<usize> {
        self.keys[key].of_node[place]
    }

    pub fn in_domain(&self, rule: usize, domain: Option<usize>) -> Option<i64> {
        domain.map(|domain| self.rules[rule].counts[domain])
    }

    /// What holds wherever a node is: worked out once for all of them.
    pub fn outlook(&self, world: &World, pod: &Pod) -> Outlook {
        let least = self.rules.iter().map(Rule::least).collect();
        let near = || self.rules.iter().filter(|rule| matches!(rule.what, What::Near));
        // The first of pods that want to be together has to begin somewhere.
        let nobody = near().all(|rule| rule.counts.iter().all(|count| *count == 0));
        let affinity = &pod.template.placement.pod_affinity;
        let is_first = nobody && affinity.iter().all(|term| term_matches(world, term, pod, pod));
        Outlook { least, is_first }
    }

    /// Why a node with these counts can't take the pod.
    pub fn refuses(&self, outlook: &Outlook, counts: &Counts) -> Option<Unfit> {
        let rules = || self.rules.iter().zip(counts).zip(&outlook.least);
        rules()
            .find_map(|((rule, count), least)| rule.uneven(*count, *least))
            .or_else(|| rules().find_map(|((rule, count), _)| rule.alone(*count, outlook.is_first)))
            .or_else(|| rules().find_map(|((rule, count), _)| rule.crowded(*count)))
    }
}

/// What is the same for all nodes.
#[derive(Debug)]
pub struct Outlook {
    /// By rule: the count of the emptiest domain.
    least: Vec<i64>,
    /// No pod is there that this one has to be near, and it is itself such a pod.
    is_first: bool,
}

impl Rule {
    /// The count of the emptiest domain that counts.
    fn least(&self) -> i64 {
        let What::Even { min_domains, .. } = self.what else { return 0 };
        let open = self.counts.iter().zip(&self.open).filter(|(_, open)| **open);
        let domains = open.clone().count();
        if domains < min_domains as usize {
            return 0;
        }
        open.map(|(count, _)| *count).min().unwrap_or(0)
    }

    fn uneven(&self, count: Option<i64>, least: i64) -> Option<Unfit> {
        let What::Even { max_skew, counts_itself, .. } = self.what else { return None };
        let Some(count) = count else { return Some(Unfit::SpreadLabel) };
        let skew = count + i64::from(counts_itself) - least;
        (skew > i64::from(max_skew)).then_some(Unfit::Spread)
    }

    fn alone(&self, count: Option<i64>, is_first: bool) -> Option<Unfit> {
        let is_near = count.is_some_and(|count| count > 0 || is_first);
        (matches!(self.what, What::Near) && !is_near).then_some(Unfit::Affinity)
    }

    fn crowded(&self, count: Option<i64>) -> Option<Unfit> {
        let somebody = count.is_some_and(|count| count > 0);
        match self.what {
            What::Away(_) if somebody => Some(Unfit::AntiAffinity),
            What::Welcome if somebody => Some(Unfit::Unwelcome),
            _ => None,
        }
    }
}

fn spread(constraint: &SpreadConstraint, pod: &Pod) -> What {
    let max_skew = constraint.max_skew;
    let keys = constraint.match_label_keys.clone();
    let crowd = Crowd::Selected { selector: constraint.selector.clone(), keys };
    match constraint.hard {
        false => What::Rather { crowd, max_skew },
        true => What::Even {
            counts_itself: crowd.selects(pod, &pod.labels),
            crowd,
            max_skew,
            min_domains: constraint.min_domains.unwrap_or(1),
        },
    }
}

/// Whether spreading looks at this node at all.
fn counts(constraint: &SpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let placement = &pod.template.placement;
    (constraint.ignores_affinity || filter::selects(placement, node))
        && (!constraint.honors_taints || filter::tolerates_all(placement, node))
}

impl Crowd {
    fn counts(&self, pod: &Pod, other: &Pod) -> bool {
        match self {
            Self::Siblings => other.owner == pod.owner,
            Self::Selected { .. } => {
                other.key.namespace == pod.key.namespace && self.selects(pod, &other.labels)
            }
        }
    }

    fn selects(&self, pod: &Pod, labels: &Labels) -> bool {
        let Self::Selected { selector: Some(selector), keys } = self else { return false };
        let shared = keys.iter().filter(|key| pod.labels.contains_key(*key));
        selector.matches(labels)
            && shared.into_iter().all(|key| labels.get(key) == pod.labels.get(key))
    }
}

/// How much a pod with a seat counts for a rule.
fn weight(world: &World, pod: &Pod, other: &Pod, what: &What, key: &str) -> i64 {
    if other.is_over() || (other.placed.is_none() && !keeps_its_seat(pod, other, what)) {
        return 0;
    }
    match what {
        What::Even { crowd, .. } | What::Rather { crowd, .. } => {
            i64::from(other.deletion.is_none() && crowd.counts(pod, other))
        }
        What::Near => {
            let terms = &pod.template.placement.pod_affinity;
            i64::from(terms.iter().all(|term| term_matches(world, term, pod, other)))
        }
        What::Away(term) => i64::from(term_matches(world, term, pod, other)),
        What::Welcome => {
            let terms = &other.template.placement.pod_anti_affinity;
            let minds =
                |term: &&PodTerm| term.topology_key == key && term_matches(world, term, other, pod);
            i64::try_from(terms.iter().filter(minds).count()).unwrap_or(i64::MAX)
        }
        What::Wish => wishes(world, pod, other, key) + wishes_of_others(world, pod, other, key),
    }
}

/// A pod for which room is being made keeps those of no higher priority away as if it were there: else
/// what makes way for it came back beside it, and had to make way again, for ever.
fn keeps_its_seat(pod: &Pod, other: &Pod, what: &What) -> bool {
    matches!(what, What::Away(_) | What::Welcome) && other.priority >= pod.priority
}

fn wishes(world: &World, pod: &Pod, other: &Pod, key: &str) -> i64 {
    let wishes = pod.template.placement.preferred_pods.iter();
    let wishes = wishes.filter(|wish| wish.term.topology_key == key);
    let wishes = wishes.filter(|wish| term_matches(world, &wish.term, pod, other));
    wishes.map(|wish| i64::from(wish.weight)).sum()
}

/// Pods that must be near this one count by upstream's `hardPodAffinityWeight`, which is 1.
fn wishes_of_others(world: &World, pod: &Pod, other: &Pod, key: &str) -> i64 {
    let needs = other.template.placement.pod_affinity.iter();
    let needs = needs.filter(|term| term.topology_key == key);
    let needs = needs.filter(|term| term_matches(world, term, other, pod)).count();
    i64::try_from(needs).unwrap_or(i64::MAX) + wishes(world, other, pod, key)
}

/// The labels by which placed pods mind this one: those that keep it away, and those of wishes,
/// its own and others'. Pods like it that are placed later have its own terms.
fn minded_keys(world: &World, pod: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut unwelcome, mut wishes) = (BTreeSet::new(), BTreeSet::new());
    let own = pod.template.placement.preferred_pods.iter();
    wishes.extend(own.map(|wish| wish.term.topology_key.clone()));
    minded_by(world, pod, pod, &mut unwelcome, &mut wishes);
    for other in world.minding_pods() {
        minded_by(world, pod, other, &mut unwelcome, &mut wishes);
    }
    (unwelcome, wishes)
}

fn minded_by(
    world: &World,
    pod: &Pod,
    other: &Pod,
    unwelcome: &mut BTreeSet<String>,
    wishes: &mut BTreeSet<String>,
) {
    let placement = &other.template.placement;
    let add = |term: &PodTerm, keys: &mut BTreeSet<String>| {
        if !keys.contains(&term.topology_key) && term_matches(world, term, other, pod) {
            keys.insert(term.topology_key.clone());
        }
    };
    placement.pod_anti_affinity.iter().for_each(|term| add(term, unwelcome));
    placement.pod_affinity.iter().for_each(|term| add(term, wishes));
    placement.preferred_pods.iter().for_each(|wish| add(&wish.term, wishes));
}

/// The pods that may count for a rule.
fn candidates(world: &World, pod: &Pod, what: &What) -> Vec<Arc<Pod>> {
    let mut found: BTreeMap<ObjectKey, Arc<Pod>> = BTreeMap::new();
    let mut add = |row: &crate::domain::world::Recorded<Pod>| {
        if row.seat().is_some() {
            found.insert(row.key.clone(), Arc::clone(&row.value));
        }
    };
    match what {
        What::Even { crowd, .. } | What::Rather { crowd, .. } => match crowd {
            Crowd::Siblings => world.pods_of(&pod.owner).for_each(add),
            Crowd::Selected { selector, .. } => match selector {
                None => {}
                Some(selector) => {
                    world.pods_selected(&pod.key.namespace, selector).into_iter().for_each(add);
                }
            },
        },
        What::Near => {
            let terms = &pod.template.placement.pod_affinity;
            terms.iter().take(1).for_each(|term| about(world, pod, term, &mut add));
        }
        What::Away(term) => about(world, pod, term, &mut add),
        What::Welcome => world.minding_pods().for_each(add),
        What::Wish => {
            let own = &pod.template.placement.preferred_pods;
            own.iter().for_each(|wish| about(world, pod, &wish.term, &mut add));
            world.minding_pods().for_each(add);
        }
    }
    found.into_values().collect()
}

/// The pods that a term may be about.
fn about(
    world: &World,
    pod: &Pod,
    term: &PodTerm,
    add: &mut impl FnMut(&crate::domain::world::Recorded<Pod>),
) {
    let Some(selector) = &term.selector else { return };
    if term.namespaces.is_empty() && term.namespace_selector.is_none() {
        return world.pods_selected(&pod.key.namespace, selector).into_iter().for_each(add);
    }
    world.pods.values().for_each(add);
}
