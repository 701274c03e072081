//! kgit runs Kubernetes manifests from a Git repo on plain Docker hosts.

pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod diff;
pub mod domain;
pub mod graph;
pub mod kube;
pub mod manifest;
pub mod master;
pub mod plan;
pub mod source;
pub mod store;
