//! A typed client of the master's API, for `kgit`'s commands.

pub mod tls;
