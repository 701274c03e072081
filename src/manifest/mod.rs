//! From files to what they ask for: bytes in, [`Desired`](crate::domain::desired::Desired) and
//! diagnostics out, every place with file, line and column.
//!
//! `tree` reads text, `decode` turns it into the published Kubernetes types, `lower` checks and
//! lowers those, `reading` does this for one file, and `catalog` keeps all files of a source and
//! checks what crosses them. `render` shows diagnostics to people.
//!
//! What deliberately does not live here: finding and reading files (`source`), the order of
//! things (`graph`), and any decision about what to do.

pub mod catalog;
pub mod check;
pub mod crossing;
pub mod decode;
pub mod findings;
pub mod glob;
pub mod json;
pub mod kinds;
pub mod lower;
pub mod object;
pub mod path;
pub mod quantity;
pub mod quoted;
pub mod reading;
pub mod render;
pub mod scalar;
pub mod settings;
pub mod tree;
pub mod unused;

#[cfg(test)]
mod tests;
