//! kgit runs Kubernetes manifests from a Git repo on plain Docker hosts.

pub mod diff;
pub mod domain;
pub mod graph;
pub mod manifest;
pub mod master;
pub mod plan;
pub mod store;
