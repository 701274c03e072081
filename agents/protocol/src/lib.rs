//! The words that kgit's master and its agents agree on: ids, time, the fully decided
//! [`pod::PodSpec`], assignments, the directory of services, observations and the messages that carry them.
//!
//! What deliberately does not live here: any decision. A type in this crate can be built,
//! compared, hashed and serialised, and that is all. It depends on serde alone, so that both
//! sides, and a tool of somebody else's, can speak the protocol.
//!
//! The wire tolerates unknown fields (an older side ignores what a newer one adds); every
//! message has a golden file under `tests/golden`.

pub mod assignment;
pub mod directory;
pub mod ids;
pub mod messages;
pub mod observation;
pub mod pod;
pub mod stream;
pub mod time;
pub mod usage;
