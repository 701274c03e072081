//! SPDY/3.1 as far as `kubectl` speaks it: the streams of exec and attach before Kubernetes 1.30,
//! and of every port-forward. One side only, the server's; no crate has it any more.
//!
//! What deliberately does not live here: what the streams are for. Flow control is not used by
//! any client and ignored.

pub mod frame;
pub mod headers;
pub mod session;
