//! What readers see: one consistent value, replaced as a whole after each transaction.

use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;
use serde::{Deserialize, Serialize};

use crate::domain::desired::Commit;
use crate::domain::diagnostic::Diagnostic;
use crate::domain::key::ObjectKey;
use crate::domain::plan::Waits;
use crate::domain::world::{Record, Table, World};
use crate::manifest::catalog::Catalog;

/// Everything a reader may ask for, as of one transaction.
#[derive(Clone, Debug)]
pub struct View {
    pub world: World,
    /// The source's files as last read; the base of a forecast for an edited tree.
    pub catalog: Catalog,
    pub source: Arc<SourceStatus>,
    pub diagnostics: Arc<Vec<Diagnostic>>,
    pub waits: Waits,
    /// When each node was last heard of; kept in memory only.
    pub heartbeats: imbl::OrdMap<NodeName, Timestamp>,
    /// What each node and its pods used last; kept in memory only.
    pub usages: imbl::OrdMap<NodeName, Arc<Usage>>,
    /// The reconcile under way: the sequence of its `Triggered` entry.
    pub reconciling: Option<u64>,
    /// Why nothing can be recorded at the moment: what is shown is from before, and nothing is
    /// planned until it can be.
    pub store_error: Option<Arc<str>>,
}

/// How the following of the source goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `folder`, `git` or `remote`, and where it is.
    pub kind: String,
    pub location: String,
    pub branch: Option<String>,
    /// The newest commit that was read.
    pub commit: Option<Arc<Commit>>,
    /// Why the source can't be read at the moment.
    pub error: Option<String>,
    pub checked: Timestamp,
}

/// One transaction, for those who follow along.
#[derive(Clone, Debug)]
pub struct Committed {
    pub version: u64,
    pub changes: Vec<RowChange>,
}

#[derive(Clone, Debug)]
pub struct RowChange {
    pub table: Table,
    pub key: ObjectKey,
    pub before: Option<Record>,
    pub after: Option<Record>,
}
