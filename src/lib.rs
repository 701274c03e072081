//! kgit runs Kubernetes manifests from a Git repo on plain Docker hosts.

pub mod api;
pub mod client;
pub mod domain;
pub mod kube;
pub mod manifest;
pub mod master;
pub mod store;
