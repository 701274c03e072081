//! The words of the core: what is wanted, what is recorded, what changes, and what is planned.
//!
//! Data and small total functions on it. Nothing in here decides, and nothing reads a clock, a
//! file or the network.

pub mod diagnostic;
