//! The store: SQLite.

/// Placeholder until the store lands.
#[derive(Debug)]
pub struct Store;
