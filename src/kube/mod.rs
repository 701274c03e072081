//! The Kubernetes face of the World: objects, tables, selectors, discovery and errors as
//! `kubectl` knows them, and the documents of kgit's own endpoints.
//!
//! Pure, and shared by the API and its client. Nothing here decides about workloads, and no
//! object here is ever read back: what is recorded is the World.

pub mod autoscaler;
pub mod config;
pub mod cron_job;
pub mod daemon_set;
pub mod defaults;
pub mod deployment;
pub mod discovery;
pub mod dto;
#[cfg(test)]
mod dto_tests;
pub mod endpoints;
pub mod event;
#[cfg(test)]
pub mod fixture;
pub mod human;
pub mod job;
pub mod json;
pub mod lease;
pub mod metadata;
pub mod metrics;
pub mod namespace;
pub mod node;
pub mod openapi;
#[cfg(test)]
pub mod own_fixture;
pub mod plain;
pub mod pod;
pub mod pod_status;
pub mod policy;
pub mod reconcile;
pub mod remote;
pub mod replica_set;
pub mod resource_type;
pub mod review;
pub mod revision;
pub mod seen;
pub mod selector;
pub mod service;
#[cfg(test)]
mod sets_tests;
pub mod stateful_set;
pub mod status;
pub mod storage;
pub mod table;
pub mod template;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod workload_fixture;
