//! kgit runs Kubernetes manifests from a Git repo on plain Docker hosts.

pub mod domain;
pub mod manifest;
pub mod master;
pub mod source;
pub mod store;
