//! The master's loop: one thread, one queue of [`event::Event`]s, one transaction a turn.
//!
//! Event → (World, Catalog) → tick → commit → a new [`view::View`] for everyone who reads. What
//! does not live here: HTTP (`api`), Git and folders (`source`), SQL (`store`), and any decision
//! about workloads (`plan`).

mod agenda;
mod batch;
pub mod core;
pub mod event;
pub mod handle;
mod lease;
mod members;
mod nodes;
mod orders;
mod pods;
mod reconcile;
pub mod run;
#[cfg(test)]
mod tests;
mod tokens;
pub mod view;

pub use lease::lease_seconds;
