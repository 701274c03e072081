//! What a source says at one commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::key::ObjectKey;
use crate::domain::resource::{IntOrPercent, Resource};

/// A commit of the followed repo, or of the private one that a folder is snapshotted into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The object id, in hexadecimal digits.
    pub id: String,
    /// `Name <address>`.
    pub author: String,
    pub at: Timestamp,
    /// The first line of the message.
    pub summary: String,
}

/// The id of what git knows no commit of, as git itself has it.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Commit {
    /// Stands for a tree that nobody committed yet, such as one to be previewed.
    pub fn not_yet(author: String, at: Timestamp) -> Self {
        Self { id: NO_COMMIT.to_owned(), author, at, summary: "not committed yet".to_owned() }
    }

    /// As a cause, in words.
    pub fn said(&self) -> String {
        match self.id == NO_COMMIT {
            true => format!("a change that {} has not committed yet", self.author),
            false => format!("commit {} by {}", self.short(), self.author),
        }
    }

    /// The first 7 digits, as git shows them.
    pub fn short(&self) -> &str {
        self.id.get(..7).unwrap_or(&self.id)
    }
}

/// How one tree differs from the one before: all that a reader needs to go from its own idea of
/// the first to the second. A first delivery is a change from nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeChange {
    pub upserted: Vec<SourceFile>,
    /// Paths that are gone.
    pub removed: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the followed folder, with `/` between the parts.
    pub path: Arc<str>,
    pub content: FileContent,
}

/// What stands at a path. Sources deliver only paths that could hold manifests (by their ending)
/// and the names that change how a folder is read (`kustomization.yaml`, `Chart.yaml`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    Bytes(Arc<[u8]>),
    /// Larger than the source hands out.
    TooLarge {
        bytes: u64,
        limit: u64,
    },
    /// A symbolic link, with its target as written. One that stays within the tree is followed by
    /// the source; what arrives here as a link leads out of it, or nowhere.
    Link {
        target: String,
    },
    Submodule,
    /// The source could not read it.
    Unreadable {
        reason: String,
    },
}

/// Everything that one commit asks for.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    pub commit: Arc<Commit>,
    pub objects: OrdMap<ObjectKey, Arc<Resource>>,
    /// Those of them with a wave other than 0, and the hooks.
    pub staged: OrdSet<ObjectKey>,
    /// Objects whose document names them but has errors: they keep their last accepted form.
    pub broken: BTreeSet<ObjectKey>,
    /// Files that could not be read to the end. While there is one, nothing is pruned.
    pub unreadable: BTreeSet<Arc<str>>,
    pub settings: Settings,
}

/// The repo's own settings: `kgit.dev/v1 Cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// More deletions than this, of all of the source's objects, wait for approval.
    pub prune_budget: IntOrPercent,
    /// But never fewer than this many.
    pub prune_budget_floor: u32,
    /// Globs; empty: everything.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// How many pods may be on their way at once when a node joins; `None`: none move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance_budget: Option<u32>,
    /// How long a wave may take to become healthy, or a hook to end, before the sync counts as
    /// failed.
    #[serde(default = "wave_deadline", skip_serializing_if = "is_wave_deadline")]
    pub wave_deadline_seconds: u32,
}

/// As long as a Deployment may go without progress unless its manifest says otherwise.
const WAVE_DEADLINE_SECONDS: u32 = 600;

fn wave_deadline() -> u32 {
    WAVE_DEADLINE_SECONDS
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_wave_deadline(seconds: &u32) -> bool {
    *seconds == WAVE_DEADLINE_SECONDS
}

impl Default for Settings {
    /// max(5, 20 %), everything included.
    fn default() -> Self {
        Self {
            prune_budget: IntOrPercent::Percent(20),
            prune_budget_floor: 5,
            include: Vec::new(),
            exclude: Vec::new(),
            rebalance_budget: None,
            wave_deadline_seconds: WAVE_DEADLINE_SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_is_not_called_a_commit() {
        let preview = Commit::not_yet("ann".to_owned(), Timestamp(0));
        assert_eq!(preview.said(), "a change that ann has not committed yet");
        let made = Commit { id: "3f2a9c1d".to_owned(), ..preview };
        assert_eq!(made.said(), "commit 3f2a9c1 by ann");
    }
}
