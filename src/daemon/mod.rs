//! The composition root: the only place that knows every layer, and that reads configuration.
//!
//! A master is a store, a loop, a source and a listener; `kgit up` is a master and an agent that
//! talk over the same TLS as two hosts would.
#![allow(clippy::disallowed_methods, reason = "the shell: processes, files and the clock")]

pub mod agent;
pub mod config;
pub mod down;
pub mod error;
mod forecasts;
pub mod master;
pub mod net;
mod records;
mod source;
pub mod up;

use kgit_protocol::time::Timestamp;

/// Now, by this machine's clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
