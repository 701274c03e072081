//! What a change would do: asked here, answered by the layers that read manifests and plan.

use kgit_protocol::time::Timestamp;
use thiserror::Error;

use crate::domain::audit::AuditedStep;
use crate::domain::desired::TreeChange;
use crate::domain::diagnostic::Diagnostic;
use crate::domain::key::ObjectKey;
use crate::domain::plan::Waiting;
use crate::master::view::View;

/// Computes forecasts. Pure in what it returns, but it may read commits, so it is called on a
/// thread that may wait.
pub trait Forecasts: Send + Sync + 'static {
    fn forecast(&self, view: &View, wanted: Wanted) -> Result<Forecast, ForecastRefused>;
}

/// The tree that is forecast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one that is followed, from where the World is now.
    Current,
    /// A commit, as git names it.
    Revision(String),
    /// What somebody has on their own disk.
    Tree {
        change: TreeChange,
        /// `change` is the whole tree: what is not in it is gone.
        complete: bool,
        by: String,
        at: Timestamp,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    pub steps: Vec<AuditedStep>,
    /// What is still waited for when everything else has converged.
    pub waits: Vec<Waiting>,
    /// Objects whose manifests are gone, and whose deletion a brake holds.
    pub held: Vec<ObjectKey>,
    /// Changes that wait for a wave or a hook which failed, and would go on waiting.
    pub pending: Vec<ObjectKey>,
    pub diagnostics: Vec<Diagnostic>,
    /// How many steps there are; 0 means that nothing would happen.
    pub changes: usize,
    /// All of it, for people.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ForecastRefused {
    pub message: String,
}
