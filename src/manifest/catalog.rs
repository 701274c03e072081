//! The catalog.

#[derive(Clone, Debug, Default)]
pub struct Catalog;
