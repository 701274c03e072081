//! Kubernetes' names on one node: [`zone`] is what the cluster's names mean, [`server`] answers
//! for them at the bridge's address, [`upstream`] asks the host's own servers for all others, and
//! [`resolv`] reads and words `resolv.conf`. What deliberately does not live here: which endpoints
//! are behind a service now.

pub mod message;
pub mod resolv;
pub mod server;
pub mod upstream;
pub mod zone;
