//! The master's HTTP face: one TLS listener for agents, `kgit`, `kubectl` and client libraries.
//!
//! It reads views and sends events; it decides nothing about workloads. What Kubernetes objects
//! look like is [`crate::kube`]'s, what a plan says is `plan`'s, and orders are the loop's.
#![allow(clippy::disallowed_methods, reason = "the shell: clocks, files and sockets")]

pub mod agent;
pub mod auth;
pub mod authority;
pub mod error;
#[cfg(test)]
pub mod fixture;
pub mod forecasts;
pub mod history;
pub mod kgit;
pub mod kube;
pub mod limit;
pub mod listener;
pub mod records;
#[cfg(test)]
mod refusal_tests;
pub mod router;
pub mod spdy;
pub mod state;
pub mod tunnels;
