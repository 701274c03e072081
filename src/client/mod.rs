//! A typed client of the master's API, for `kgit`'s commands.
#![allow(clippy::disallowed_methods, reason = "the shell: a kubeconfig is a file")]

pub mod http;
pub mod kubeconfig;
pub mod socket;
pub mod tls;
