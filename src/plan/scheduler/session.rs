//! All nodes scored for one kind of pod, and kept scored while pods come and go: placing a
//! thousand pods of one template looks at each node once, and then at what changed.
//!
//! Nodes of which every rule finds the same are together in a bucket, the best first; nodes that
//! share their domains are together in a cell. A placement compares buckets, not nodes, and the
//! scores that upstream measures by the range over all feasible nodes come out the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit_protocol::ids::NodeName;

use crate::domain::load::{Amounts, Requests, requests};
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::world::World;
use crate::plan::names::stable_hash;
use crate::plan::scheduler::fleet::Fleet;
use crate::plan::scheduler::score::{self, Range};
use crate::plan::scheduler::topology::{Topology, What};
use crate::plan::scheduler::unfit::{Unfit, refusal};
use crate::plan::scheduler::{Constraints, filter};

#[derive(Debug)]
pub struct Session {
    /// The pod that it was made for; others may be placed by it that are alike.
    pod: Arc<Pod>,
    requests: Requests,
    fleet: Arc<Fleet>,
    topology: Topology,
    spots: Vec<Spot>,
    cells: Vec<Cell>,
    /// It is of no use for further pods.
    is_stale: bool,
    /// What was said when no node could take the last pod, as long as nothing changed.
    refused: Option<String>,
}

/// A node, as it is to this kind of pod.
#[derive(Debug)]
struct Spot {
    never: Option<Unfit>,
    avoided: i64,
    preferred: i64,
    tie: u64,
    cell: usize,
    /// Where it lies in the cell; `None`: it has no room.
    at: Option<(Traits, i64)>,
}

/// Nodes that share their domains, by what else the rules find.
#[derive(Debug)]
struct Cell {
    domains: Vec<Option<usize>>,
    buckets: BTreeMap<Traits, BTreeSet<(i64, u64, usize)>>,
}

/// What is found on a node itself: PreferNoSchedule taints, the weight of its labels, and the
/// counts of those rules whose domains are single nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    avoided: i64,
    preferred: i64,
    counts: Vec<Option<i64>>,
}

/// A bucket whose nodes can take the pod.
#[derive(Debug)]
struct Candidate<'s> {
    traits: &'s Traits,
    domains: &'s [Option<usize>],
    counts: Vec<Option<i64>>,
    nodes: usize,
    /// The best of it: score, tie, place.
    best: (i64, u64, usize),
    wish: i64,
    /// `None` where a node lacks a label that the spreading is by.
    crowd: Option<i64>,
}

impl Session {
    pub fn new(world: &World, pod: &Pod, constraints: &Constraints) -> Self {
        Self::on(&Arc::new(Fleet::new(world)), world, pod, constraints)
    }

    /// The same, with what is known of the nodes already.
    pub fn on(fleet: &Arc<Fleet>, world: &World, pod: &Pod, constraints: &Constraints) -> Self {
        let topology = Topology::new(world, pod, Arc::clone(fleet));
        let seed = stable_hash(&[&pod.owner.to_string()]);
        let mut cells: BTreeMap<Vec<Option<usize>>, usize> = BTreeMap::new();
        let spots = fleet.nodes.iter().enumerate().map(|(place, node)| {
            let shared = topology.keys.iter().enumerate().filter(|(_, key)| !key.is_per_node);
            let domains = shared.map(|(key, _)| topology.domain(key, place)).collect();
            let next = cells.len();
            Spot {
                never: filter::admits(pod, node, constraints).err(),
                avoided: filter::avoided(&pod.template.placement, node),
                preferred: preferred(pod, node),
                tie: tie(seed, node.name.as_str()),
                cell: *cells.entry(domains).or_insert(next),
                at: None,
            }
        });
        let spots: Vec<Spot> = spots.collect();
        let mut session = Self {
            requests: requests(&pod.template),
            pod: Arc::new(pod.clone()),
            cells: ordered(cells),
            fleet: Arc::clone(fleet),
            topology,
            spots,
            // What its volumes allow is this pod's own.
            is_stale: !constraints.is_empty(),
            refused: None,
        };
        for place in 0..session.spots.len() {
            session.look_again(world, place);
        }
        session
    }

    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Whether what is known of one pod's places is so of another's.
    pub fn suits(&self, pod: &Pod) -> bool {
        !self.is_stale
            && pod.nominated.is_none()
            && self.pod.nominated.is_none()
            && Arc::ptr_eq(&self.pod.template, &pod.template)
            && self.pod.owner == pod.owner
            && self.pod.pinned == pod.pinned
            && self.pod.priority == pod.priority
            && self.pod.labels == pod.labels
    }

    /// Takes note of a pod that changed, with the World in which it has.
    pub fn changed(&mut self, world: &World, old: Option<&Pod>, new: Option<&Pod>) {
        self.refused = None;
        let pod = Arc::clone(&self.pod);
        for (other, sign) in [(old, -1), (new, 1)] {
            let Some(other) = other else { continue };
            self.topology.changed(world, &pod, other, sign);
            if sign > 0 && other.seat().is_some() && !self.topology.knows(world, &pod, other) {
                self.is_stale = true;
            }
        }
        let both = || old.into_iter().chain(new);
        let nodes: BTreeSet<&NodeName> =
            both().flat_map(|pod| pod.node().into_iter().chain(pod.promised())).collect();
        for name in nodes {
            if let Some(place) = self.fleet.place(name) {
                self.look_again(world, place);
            }
        }
    }

    fn look_again(&mut self, world: &World, place: usize) {
        let at = self.judge(world, place);
        let spot = &mut self.spots[place];
        if spot.at == at {
            return;
        }
        let cell = &mut self.cells[spot.cell];
        if let Some((traits, score)) = spot.at.take()
            && let Some(bucket) = cell.buckets.get_mut(&traits)
        {
            bucket.remove(&(score, spot.tie, place));
            if bucket.is_empty() {
                cell.buckets.remove(&traits);
            }
        }
        if let Some((traits, score)) = &at {
            let entry = (*score, spot.tie, place);
            match cell.buckets.get_mut(traits) {
                Some(bucket) => drop(bucket.insert(entry)),
                None => drop(cell.buckets.insert(traits.clone(), BTreeSet::from([entry]))),
            }
        }
        spot.at = at;
    }

    fn judge(&self, world: &World, place: usize) -> Option<(Traits, i64)> {
        let spot = &self.spots[place];
        if spot.never.is_some() {
            return None;
        }
        let node = &self.fleet.nodes[place];
        let load = filter::room(world, &self.pod, &self.requests, node).ok()?;
        let is_best_effort = self.requests.asked == Amounts::default();
        let score = score::room(&node.observed.capacity, &load, is_best_effort);
        let rules = self.topology.rules.iter().enumerate();
        let own = rules.filter(|(_, rule)| self.topology.keys[rule.key].is_per_node);
        let counts = own.map(|(rule, _)| self.topology.counted(rule, place)).collect();
        Some((Traits { avoided: spot.avoided, preferred: spot.preferred, counts }, score))
    }

    /// The node for a pod like this one, or the line that says why there is none.
    pub fn place(&mut self, world: &World) -> Result<NodeName, String> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let place = self.best(world).cloned().ok_or_else(|| self.refusal(world));
        self.refused = place.as_ref().err().cloned();
        place
    }

    /// The best node for the pod.
    pub fn best(&self, world: &World) -> Option<&NodeName> {
        let mut candidates = self.candidates(world);
        self.weigh(&mut candidates);
        let avoided = Range::of(candidates.iter().map(|it| it.traits.avoided));
        let preferred = Range::of(candidates.iter().map(|it| it.traits.preferred));
        let wish = Range::of(candidates.iter().map(|it| it.wish));
        let crowd = Range::of(candidates.iter().filter_map(|it| it.crowd));
        let rated = candidates.iter().map(|it| {
            let (score, tie, place) = it.best;
            let total = score
                + score::TAINTS_WEIGHT * avoided.reversed(it.traits.avoided)
                + score::PREFERRED_NODES_WEIGHT * preferred.share(it.traits.preferred)
                + score::PODS_WEIGHT * wish.between(it.wish)
                + score::SPREAD_WEIGHT * it.crowd.map_or(0, |it| crowd.spread(it));
            (total, tie, place)
        });
        rated.max().map(|(_, _, place)| &self.fleet.nodes[place].name)
    }

    fn candidates(&self, world: &World) -> Vec<Candidate<'_>> {
        let outlook = self.topology.outlook(world, &self.pod);
        let mut candidates = Vec::new();
        for cell in &self.cells {
            for (traits, nodes) in &cell.buckets {
                let counts = self.counts(&cell.domains, traits);
                let Some(best) = nodes.last().copied() else { continue };
                if self.topology.refuses(&outlook, &counts).is_none() {
                    candidates.push(Candidate {
                        traits,
                        domains: &cell.domains,
                        counts,
                        nodes: nodes.len(),
                        best,
                        wish: 0,
                        crowd: None,
                    });
                }
            }
        }
        candidates
    }

    /// By rule, from what the cell shares and what is the bucket's own.
    fn counts(&self, domains: &[Option<usize>], traits: &Traits) -> Vec<Option<i64>> {
        let mut own = traits.counts.iter();
        let rules = self.topology.rules.iter().enumerate();
        rules
            .map(|(index, rule)| match self.shared_place(rule.key) {
                None => own.next().copied().flatten(),
                Some(at) => self.topology.in_domain(index, domains[at]),
            })
            .collect()
    }

    /// Where a key stands among those that cells are made by; `None`: its domains are nodes.
    fn shared_place(&self, key: usize) -> Option<usize> {
        let keys = &self.topology.keys;
        let before = keys[..key].iter().filter(|key| !key.is_per_node).count();
        (!keys[key].is_per_node).then_some(before)
    }

    /// Works out wishes and crowds. How much a domain weighs depends on how many there are among
    /// the candidates.
    fn weigh(&self, candidates: &mut [Candidate<'_>]) {
        let rules = || self.topology.rules.iter().enumerate();
        for it in candidates.iter_mut() {
            let wishes = rules().filter(|(_, rule)| matches!(rule.what, What::Wish));
            it.wish = wishes.filter_map(|(rule, _)| it.counts[rule]).sum();
        }
        let soft: Vec<(usize, u32)> = rules()
            .filter_map(|(index, rule)| match rule.what {
                What::Rather { max_skew, .. } => Some((index, max_skew)),
                _ => None,
            })
            .collect();
        let weights: Vec<i64> = soft
            .iter()
            .map(|(rule, _)| score::domain_weight(self.domains(*rule, &soft, candidates)))
            .collect();
        for it in candidates.iter_mut() {
            let crowds = soft.iter().zip(&weights).map(|((rule, max_skew), weight)| {
                it.counts[*rule].map(|pods| score::crowd(pods, *weight, *max_skew))
            });
            it.crowd = crowds.sum::<Option<i64>>().map(score::rounded);
        }
    }

    /// Domains of a soft constraint among the candidates that have all their labels.
    fn domains(&self, rule: usize, soft: &[(usize, u32)], candidates: &[Candidate<'_>]) -> usize {
        let labelled =
            candidates.iter().filter(|it| soft.iter().all(|(rule, _)| it.counts[*rule].is_some()));
        match self.shared_place(self.topology.rules[rule].key) {
            None => labelled.map(|it| it.nodes).sum(),
            Some(at) => labelled.map(|it| it.domains[at]).collect::<BTreeSet<_>>().len(),
        }
    }

    /// Why the node can't take the pod; empty if it can.
    pub fn unfit(&self, world: &World, name: &NodeName) -> Vec<Unfit> {
        let Some(place) = self.fleet.place(name) else { return Vec::new() };
        let outlook = self.topology.outlook(world, &self.pod);
        self.unfit_at(world, place, &outlook)
    }

    fn unfit_at(
        &self,
        world: &World,
        place: usize,
        outlook: &crate::plan::scheduler::topology::Outlook,
    ) -> Vec<Unfit> {
        let spot = &self.spots[place];
        if let Some(never) = &spot.never {
            return vec![never.clone()];
        }
        if let Err(lacking) =
            filter::room(world, &self.pod, &self.requests, &self.fleet.nodes[place])
        {
            return lacking;
        }
        let rules = 0..self.topology.rules.len();
        let counts: Vec<_> = rules.map(|rule| self.topology.counted(rule, place)).collect();
        self.topology.refuses(outlook, &counts).into_iter().collect()
    }

    /// Nodes that could take the pod if others went.
    pub fn could_yield(&self, world: &World) -> Vec<NodeName> {
        let outlook = self.topology.outlook(world, &self.pod);
        let places = (0..self.spots.len()).filter(|place| {
            let unfit = self.unfit_at(world, *place, &outlook);
            !unfit.is_empty() && unfit.iter().all(Unfit::can_yield)
        });
        places.map(|place| self.fleet.nodes[place].name.clone()).collect()
    }

    /// The one line that says why no node can take the pod.
    pub fn refusal(&self, world: &World) -> String {
        let outlook = self.topology.outlook(world, &self.pod);
        let unfit = (0..self.spots.len()).map(|place| self.unfit_at(world, place, &outlook));
        refusal(self.spots.len(), unfit)
    }
}

/// Cells by their numbers.
fn ordered(cells: BTreeMap<Vec<Option<usize>>, usize>) -> Vec<Cell> {
    let mut numbered: Vec<_> =
        cells.into_iter().map(|(domains, number)| (number, domains)).collect();
    numbered.sort_by_key(|(number, _)| *number);
    let cells = numbered.into_iter();
    cells.map(|(_, domains)| Cell { domains, buckets: BTreeMap::new() }).collect()
}

/// The sum of the weights of the wishes that the node meets.
fn preferred(pod: &Pod, node: &Node) -> i64 {
    let wishes = pod.template.placement.preferred_nodes.iter();
    let met = wishes.filter(|wish| wish.term.matches(node.name.as_str(), &node.labels));
    met.map(|wish| i64::from(wish.weight)).sum()
}

/// Which of equal nodes is taken: the same every time for pods of one owner, another for others.
/// FNV-1a of the name, stirred once more (the finaliser of SplitMix64) so that names that differ
/// in their last letter alone are as far apart as any.
fn tie(seed: u64, name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
