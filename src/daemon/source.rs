//! From what a person named to a followed source, and from its deliveries to events.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::config::MasterConfig;
use crate::daemon::error::DaemonError;
use crate::master::event::Event;
use crate::master::handle::Handle;
use crate::master::view::SourceStatus;
use crate::source::folder::{Folder, FolderConfig, os_user};
use crate::source::follow::{Delivery, Follower, follow};
use crate::source::git::{LocalGit, LocalGitConfig};
use crate::source::history::History;
use crate::source::remote::{Credential, Remote, RemoteConfig};
use crate::source::{Detected, Source, detect};

/// A source that is ready to be followed.
pub struct Chosen {
    source: Box<dyn FnOnce(Deliver) -> std::io::Result<Follower> + Send>,
    pub history: History,
    pub status: SourceStatus,
}

type Deliver = Box<dyn FnMut(Delivery) -> ControlFlow<()> + Send>;

impl Chosen {
    fn new(source: impl Source, history: History, status: SourceStatus) -> Self {
        let source = Box::new(move |deliver: Deliver| follow(source, deliver));
        Self { source, history, status }
    }
}

/// Finds out what the configured source is.
pub fn choose(config: &MasterConfig) -> Result<Chosen, DaemonError> {
    match detect(&config.source) {
        Detected::Repository => Ok(repository(config)),
        Detected::Folder => Ok(folder(config)),
        Detected::Url => remote(config),
        Detected::Nothing => Err(DaemonError::NoSource { location: config.source.clone() }),
    }
}

fn absolute(path: &str) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn repository(config: &MasterConfig) -> Chosen {
    let path = absolute(&config.source);
    let status = status(config, "git", path.display().to_string());
    let source = LocalGit::new(LocalGitConfig {
        path,
        branch: config.branch.clone(),
        folder: config.folder.clone(),
        data: config.data.clone(),
        at: None,
    });
    let history = source.history();
    Chosen::new(source, history, status)
}

fn folder(config: &MasterConfig) -> Chosen {
    let path = absolute(&config.source).join(&config.folder);
    let status = status(config, "folder", path.display().to_string());
    let data = config.data.clone();
    let source = Folder::new(FolderConfig { path, data, author: os_user(), at: None });
    let history = source.history();
    Chosen::new(source, history, status)
}

fn remote(config: &MasterConfig) -> Result<Chosen, DaemonError> {
    let secret = config.git_token.clone();
    let source = Remote::new(RemoteConfig {
        url: config.source.clone(),
        branch: config.branch.clone(),
        folder: config.folder.clone(),
        data: config.data.clone(),
        interval: Duration::from_secs(config.poll_seconds),
        credential: secret.map(|secret| Credential { user: None, secret }),
        ssh: PathBuf::from("ssh"),
        at: None,
    })?;
    let status = status(config, "remote", source.location().to_owned());
    let history = source.history();
    Ok(Chosen::new(source, history, status))
}

fn status(config: &MasterConfig, kind: &str, location: String) -> SourceStatus {
    SourceStatus {
        kind: kind.to_owned(),
        location,
        branch: config.branch.clone(),
        ..SourceStatus::default()
    }
}

/// Follows the source; each delivery becomes an event. Commits are kept before they are acted on,
/// so that the audit never names one that is gone.
pub fn start(chosen: Chosen, master: Handle) -> Result<Follower, DaemonError> {
    let history = chosen.history.clone();
    let mut last_error: Option<String> = None;
    let deliver = Box::new(move |delivery: Delivery| {
        let event = match delivery {
            Delivery::Unchanged => {
                if last_error.take().is_none() {
                    return ControlFlow::Continue(());
                }
                Event::SourceRecovered
            }
            Delivery::Changed { commit, change } => {
                last_error = None;
                let kept = if commit.id.is_empty() { Ok(()) } else { history.keep(&commit.id) };
                if let Err(error) = kept {
                    tracing::warn!(commit = commit.short(), %error, "failed to keep a commit");
                }
                Event::Source { commit, change }
            }
            Delivery::Failed(error) => {
                let error = with_causes(&error);
                if last_error.as_ref() == Some(&error) {
                    return ControlFlow::Continue(());
                }
                tracing::warn!(%error, "the source can't be read");
                last_error = Some(error.clone());
                Event::SourceFailed { error }
            }
        };
        match master.send_blocking(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    (chosen.source)(deliver).map_err(DaemonError::Thread)
}

/// An error and what is behind it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
