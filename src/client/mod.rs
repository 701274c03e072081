//! A typed client of the master's API, for `kgit`'s commands.

pub mod kubeconfig;
pub mod tls;
