//! The agent's end of `net`: starts it where none answers, replaces one of another build, feeds it
//! and hears what it has in force. The agent may come and go; `net` stays.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it starts a process")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::directory::Directory;
use kgit_protocol::ids::Digest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::net::build;
use crate::net::keep::Keep;
use crate::net::wire::{Answer, Applied, Feed, Here, Order, Wire};

/// A process that starts answers within this; then another one is started.
const START: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How long to wait after `net` could not be started or reached.
const AGAIN: Duration = Duration::from_secs(1);
/// How long taking everything away may take.
const REMOVE: Duration = Duration::from_secs(20);

/// What `net` is to have in force.
#[derive(Clone, Debug, Default)]
struct Wanted {
    number: u64,
    directory: Option<Arc<Directory>>,
    here: Option<Here>,
}

/// What is known of `net`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it said last; `None` before it said anything.
    pub applied: Option<Applied>,
    /// Why it can't be started or reached.
    pub failure: Option<String>,
}

/// Feeds `net` in the background for as long as it lives.
#[derive(Debug)]
pub struct Feeder {
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<Status>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feeder {
    pub fn start(dir: &Path) -> Self {
        let (wanted, wishes) = watch::channel(Wanted::default());
        let (told, status) = watch::channel(Status::default());
        let task = tokio::spawn(keep_feeding(Keep::new(dir), wishes, told));
        Self { wanted, status, task }
    }

    /// Has this put into force; the number that says so when it is.
    pub fn feed(&self, directory: Option<&Arc<Directory>>, here: Here) -> u64 {
        let mut number = 0;
        self.wanted.send_if_modified(|wanted| {
            let same_directory = match (&wanted.directory, directory) {
                (Some(known), Some(new)) => known.digest == new.digest,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            let differs = !same_directory || wanted.here.as_ref() != Some(&here);
            if differs {
                let directory = directory.cloned();
                *wanted = Wanted { number: wanted.number + 1, directory, here: Some(here) };
            }
            number = wanted.number;
            differs
        });
        number
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

async fn keep_feeding(
    keep: Keep,
    mut wishes: watch::Receiver<Wanted>,
    told: watch::Sender<Status>,
) {
    loop {
        let failure = match reach(&keep).await {
            Ok((wire, digest)) => {
                if converse(wire, digest, &mut wishes, &told).await == Ended::NoMoreWishes {
                    return;
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(failure) = failure {
            tracing::warn!(failure, "no `net` for services; will try again");
            told.send_modify(|status| status.failure = Some(failure));
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// A connection to a `net` of this build, which is started if there is none.
async fn reach(keep: &Keep) -> std::io::Result<(Wire, Option<Digest>)> {
    if let Ok((wire, answered, digest)) = greet(keep).await
        && answered == build()
    {
        return Ok((wire, digest));
    }
    let mut child = spawn(keep)?;
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if let Ok((wire, answered, digest)) = greet(keep).await
            && answered == build()
        {
            // Nobody else waits for it when it ends.
            tokio::spawn(async move { child.wait().await });
            return Ok((wire, digest));
        }
        if let Some(status) = child.try_wait()? {
            let what = format!("it ended ({status}); see net.log in the agent's directory");
            return Err(std::io::Error::other(what));
        }
        if tokio::time::Instant::now() > deadline {
            child.start_kill()?;
            return Err(std::io::Error::other("it does not answer"));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn greet(keep: &Keep) -> std::io::Result<(Wire, String, Option<Digest>)> {
    let mut wire = Wire::new(UnixStream::connect(keep.socket()).await?);
    match tokio::time::timeout(START, wire.next()).await {
        Ok(Ok(Some(Answer::Hello { build, directory }))) => Ok((wire, build, directory)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// This very program, as `net`.
fn spawn(keep: &Keep) -> std::io::Result<Child> {
    let log = keep.log()?;
    Command::new(program())
        .arg("net")
        .arg("--data")
        .arg(keep.dir())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn program() -> PathBuf {
    // A file that was replaced since can still be run under the second name.
    let own = std::env::current_exe().ok().filter(|path| path.exists());
    own.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

#[derive(PartialEq, Eq)]
enum Ended {
    Lost,
    NoMoreWishes,
}

async fn converse(
    mut wire: Wire,
    mut digest: Option<Digest>,
    wishes: &mut watch::Receiver<Wanted>,
    told: &watch::Sender<Status>,
) -> Ended {
    // A new one is to be fed at once.
    wishes.mark_changed();
    loop {
        tokio::select! {
            wish = wishes.changed() => {
                if wish.is_err() {
                    return Ended::NoMoreWishes;
                }
                let wanted = wishes.borrow_and_update().clone();
                let Some(here) = wanted.here else { continue };
                let news = wanted.directory.filter(|new| Some(&new.digest) != digest.as_ref());
                if let Some(new) = &news {
                    digest = Some(new.digest.clone());
                }
                let directory = news.map(|new| Directory::clone(&new));
                let feed = Feed { number: wanted.number, directory, here };
                if wire.send(&Order::Feed(Box::new(feed))).await.is_err() {
                    return Ended::Lost;
                }
            }
            answer = wire.next::<Answer>() => match answer {
                Ok(Some(Answer::Applied(applied))) => {
                    told.send_replace(Status { applied: Some(applied), failure: None });
                }
                Ok(Some(Answer::Hello { .. } | Answer::Done)) => {}
                Ok(None) | Err(_) => return Ended::Lost,
            },
        }
    }
}

/// Ends `net` and takes away all that it put into the kernel, also where none answers any more.
pub async fn remove(dir: &Path) -> Result<(), String> {
    let keep = Keep::new(dir);
    let (directory, here) = (keep.directory(), keep.here());
    if let Ok((mut wire, ..)) = greet(&keep).await {
        let asked = async {
            wire.send(&Order::Remove).await?;
            // It answers when all is gone, and then hangs up.
            while wire.next::<Answer>().await?.is_some() {}
            std::io::Result::Ok(())
        };
        if !matches!(tokio::time::timeout(REMOVE, asked).await, Ok(Ok(()))) {
            tracing::warn!("`net` did not say that it is gone");
        }
    }
    let Some(here) = here else { return Ok(()) };
    let range = directory.map(|known| known.service_range);
    let cleared = crate::net::field::clear(range, &here).await;
    keep.forget();
    cleared.map_err(|problem| problem.message)
}
