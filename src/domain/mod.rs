//! The words of the core: what is wanted, what is recorded, what changes, and what is planned.
//!
//! Data and small total functions on it. Nothing in here decides, and nothing reads a clock, a
//! file or the network.

pub mod audit;
pub mod autoscaling;
pub mod change;
pub mod desired;
pub mod diagnostic;
pub mod epoch;
mod index;
pub mod key;
pub mod load;
pub mod manifest;
pub mod node;
pub mod node_order;
pub mod plan;
pub mod record;
pub mod resource;
pub mod schedule;
pub mod selector;
pub mod service;
pub mod stage;
pub mod standing;
pub mod template;
pub mod token;
pub mod words;
pub mod workload;
pub mod world;
