//! Manifests.
pub mod catalog;
