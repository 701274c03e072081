//! The agent of kgit: pulls what its node is to run from the master, runs it on Docker, and
//! reports what it sees. It only ever dials out.
//!
//! [`decide`] and [`node`] are pure and hold every decision; [`worker`] carries steps out through
//! [`runtime`]; [`link`] talks to the master; [`journal`] keeps what must survive. [`net`] is
//! another process, for service traffic and names. What deliberately does not live here: placing
//! pods, reading manifests.

pub mod agent;
pub mod config;
pub mod decide;
pub mod disk;
pub mod journal;
pub mod link;
pub mod net;
pub mod node;
pub mod policy;
pub mod probes;
pub mod range;
pub mod runtime;
pub mod spec;
pub mod volumes;
pub mod worker;
