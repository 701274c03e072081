//! All nodes in a row, so that what is known of them can be kept by number. The same for every pod,
//! until a node changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;

use crate::domain::node::Node;
use crate::domain::world::World;

/// The nodes' label by which pods without a constraint of their own are spread.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

#[derive(Debug)]
pub struct Fleet {
    pub nodes: Vec<Arc<Node>>,
    places: BTreeMap<NodeName, usize>,
    hostnames: Arc<Key>,
}

/// A label of nodes, whose values are domains.
#[derive(Debug)]
pub struct Key {
    pub name: String,
    pub domains: usize,
    /// Of each node.
    pub of_node: Vec<Option<usize>>,
    /// No two nodes share a domain.
    pub is_per_node: bool,
}

impl Fleet {
    pub fn new(world: &World) -> Self {
        let nodes: Vec<Arc<Node>> =
            world.nodes.values().map(|row| Arc::clone(&row.value)).collect();
        let places = nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place));
        let hostnames = Arc::new(Key::new(HOSTNAME, &nodes));
        Self { places: places.collect(), hostnames, nodes }
    }

    pub fn place(&self, name: &NodeName) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub fn key(&self, name: &str) -> Arc<Key> {
        match name {
            HOSTNAME => Arc::clone(&self.hostnames),
            name => Arc::new(Key::new(name, &self.nodes)),
        }
    }
}

impl Key {
    fn new(name: &str, nodes: &[Arc<Node>]) -> Self {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut labelled = 0;
        let of_node = nodes.iter().map(|node| {
            let value = node.labels.get(name)?;
            labelled += 1;
            let next = known.len();
            Some(*known.entry(value).or_insert(next))
        });
        let of_node: Vec<Option<usize>> = of_node.collect();
        let domains = known.len();
        Self { name: name.to_owned(), domains, of_node, is_per_node: domains == labelled }
    }
}
