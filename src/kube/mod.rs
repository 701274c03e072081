//! The Kubernetes face of the World: objects, tables, selectors, discovery and errors as
//! `kubectl` knows them, and the documents of kgit's own endpoints.
//!
//! Pure, and shared by the API and its client. Nothing here decides about workloads, and no
//! object here is ever read back: what is recorded is the World.

pub mod status;
