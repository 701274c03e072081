//! Why a master or an agent does not start.

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error("the store")]
    Store(#[from] crate::store::error::StoreError),
    #[error("the cluster's certificate authority")]
    Authority(#[from] crate::api::authority::AuthorityError),
    #[error("the source")]
    Source(#[from] crate::source::error::SourceError),
    #[error("`{location}` is neither a folder, nor a Git repository, nor a URL")]
    NoSource { location: String },
    #[error("failed to listen on {address}")]
    Listen { address: String, source: std::io::Error },
    #[error("failed to {attempted} {}", path.display())]
    File { attempted: &'static str, path: PathBuf, source: std::io::Error },
    #[error("failed to start a thread")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Agent(#[from] kgit_agent::agent::AgentError),
    #[error("services on this node")]
    Net(#[from] kgit_agent::net::serve::NetError),
    #[error("the container engine can't be reached at {socket}")]
    Engine { socket: String, source: kgit_agent::agent::AgentError },
    #[error("kubeconfig {}", path.display())]
    Kubeconfig { path: PathBuf, source: std::io::Error },
    #[error("the master refused: {0}")]
    Refused(String),
    #[error("no kgit runs from {}", .0.display())]
    NotRunning(PathBuf),
    #[error("`kgit up` runs from {} already, as process {pid}", path.display())]
    Running { path: PathBuf, pid: u32 },
}

impl DaemonError {
    pub fn file(
        attempted: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { attempted, path, source }
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Engine { .. } => Some(
                "install Docker (Debian, Ubuntu: `apt-get install docker.io`) or start it; `kgit doctor` looks closer",
            ),
            Self::Listen { .. } => {
                Some("another process may have the port: choose one with --listen")
            }
            Self::NoSource { .. } => {
                Some("name a folder with manifests in it, or a Git repository")
            }
            Self::NotRunning(_) => Some("name its data directory with --data"),
            Self::Running { .. } => Some("stop it with `kgit down`, or use another --data"),
            _ => None,
        }
    }
}
