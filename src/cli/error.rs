//! What a command failed with, as people read it: what, why, and what to do next.

use std::error::Error;
use std::fmt::Write as _;

use thiserror::Error;

use crate::client::http::ClientError;
use crate::client::kubeconfig::KubeconfigError;
use crate::daemon::error::DaemonError;
use crate::source::error::SourceError;
use crate::store::error::StoreError;

#[derive(Debug, Error)]
pub enum CliError {
    #[error("failed to start")]
    Daemon(#[from] DaemonError),
    #[error("failed to leave the cluster")]
    Leave(#[source] DaemonError),
    #[error("failed to find the master")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("failed to ask the master")]
    Client(#[source] ClientError),
    /// The master's own words.
    #[error(transparent)]
    Refused(ClientError),
    #[error("failed to read the manifests")]
    Source(#[from] SourceError),
    #[error("the store")]
    Store(#[from] StoreError),
    #[error("failed to {attempted}")]
    Io { attempted: String, source: std::io::Error },
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(_) => Self::Refused(error),
            other => Self::Client(other),
        }
    }
}

impl CliError {
    pub fn io(attempted: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let attempted = attempted.into();
        move |source| Self::Io { attempted, source }
    }

    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Daemon(error) | Self::Leave(error) => error.hint().map(str::to_owned),
            Self::Kubeconfig(_) => Some(
                "is `kgit up` or `kgit master` running? Name its kubeconfig with --kubeconfig"
                    .to_owned(),
            ),
            Self::Client(error) | Self::Refused(error) => error.hint(),
            Self::Usage { hint, .. } => hint.clone(),
            Self::Source(_) | Self::Store(_) | Self::Io { .. } => None,
        }
    }

    /// `error: …`, its causes, and a hint.
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(inner) = cause {
            // Writing to a String can't fail.
            let _ = write!(text, "\n  because: {inner}");
            cause = inner.source();
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }
}
