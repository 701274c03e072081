//! A remote repository, asked by the clock and fetched into the archive.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use git2::{Direction, FetchOptions, Oid, RemoteCallbacks, Repository};
use reqwest::Url;

use crate::source::archive::Archive;
use crate::source::error::SourceError;
use crate::source::folder::ARCHIVE;
use crate::source::git::{BranchFollow, Tip};
use crate::source::history::History;
use crate::source::http::HttpClient;
use crate::source::session::{self, Session};
use crate::source::signal::Signal;
use crate::source::watch::Watching;
use crate::source::{Snapshot, Source, ssh};

/// Where the fetched branch is in the archive.
const FETCHED: &str = "refs/kgit/remote";

/// The first retry after a failure comes this soon; each further one doubles the wait.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// A remote that stays away is asked this often at least, whatever the interval.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Waits differ by up to a tenth either way, so that many masters do not ask in step.
const JITTER_PERCENT: u32 = 10;

/// A fetch above this is not a repository of manifests, or somebody means harm.
const MAX_FETCH_BYTES: usize = 4 << 30;

/// A webhook that fires for each of several branches leads to one look.
const QUIET: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// `https://`, `http://`, `ssh://`, `file://`, or `user@host:path`.
    pub url: String,
    /// `None`: the branch that the remote's HEAD names.
    pub branch: Option<String>,
    /// The followed folder within the tree; empty: all of it.
    pub folder: String,
    /// kgit's own data directory.
    pub data: PathBuf,
    pub interval: Duration,
    /// Takes the place of one in the URL.
    pub credential: Option<Credential>,
    /// The program that speaks SSH; usually `ssh`.
    pub ssh: PathBuf,
    /// The commit whose files the reader has already.
    pub at: Option<String>,
}

/// Who to be at the remote. The secret is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub user: Option<String>,
    pub secret: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Remote {
    config: RemoteConfig,
    /// Without any credential: for fetching and for showing.
    location: String,
    session: Session,
    follow: BranchFollow,
    /// Failures in a row.
    failures: u32,
}

impl Remote {
    /// # Errors
    /// The address is none that can be fetched from.
    pub fn new(config: RemoteConfig) -> Result<Self, SourceError> {
        let (location, of_url) = split_credential(&config.url)?;
        let is_http = location.starts_with("http://") || location.starts_with("https://");
        if config.credential.is_some() && is_plain_http_elsewhere(&location) {
            return Err(SourceError::Address {
                what: format!("{location} would get the token unencrypted"),
                hint: "use https",
            });
        }
        let http = is_http.then(HttpClient::new).transpose()?.map(Arc::new);
        let credential = config.credential.clone().or(of_url);
        let session = Session { http, credential, ssh: config.ssh.clone() };
        let follow = BranchFollow::new(&config.folder, config.at.clone());
        Ok(Self { config, location, session, follow, failures: 0 })
    }

    /// The address as it may be shown: without any credential.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn history(&self) -> History {
        History {
            followed: None,
            archive: self.config.data.join(ARCHIVE),
            folder: self.config.folder.clone(),
            reference: Some(FETCHED.to_owned()),
        }
    }

    fn fetch(&mut self) -> Result<Option<Snapshot>, SourceError> {
        let archive = Archive::open_or_make(&self.config.data.join(ARCHIVE))?;
        let repo = archive.repo();
        let tip = session::during(&self.session, || self.fetch_tip(repo))?;
        self.follow.advance(repo, tip, &self.location)
    }

    /// Asks what there is, and fetches it unless it is here already.
    fn fetch_tip(&self, repo: &Repository) -> Result<Tip, SourceError> {
        let attempted = || format!("fetching from {}", self.location);
        let mut remote =
            repo.remote_anonymous(&self.location).map_err(SourceError::git(attempted()))?;
        let tip = {
            let connection = remote
                .connect_auth(Direction::Fetch, None, None)
                .map_err(SourceError::git(attempted()))?;
            let heads = connection.list().map_err(SourceError::git(attempted()))?;
            self.choose(heads)?
        };
        let Tip::At { commit, branch } = &tip else { return Ok(tip) };
        if repo.find_commit(*commit).is_err() || fetched(repo) != Some(*commit) {
            let refspec = format!("+refs/heads/{branch}:{FETCHED}");
            remote
                .fetch(&[refspec], Some(&mut options()), None)
                .map_err(SourceError::git(attempted()))?;
        }
        // The branch may have moved between the question and the fetch.
        let commit = fetched(repo).unwrap_or(*commit);
        Ok(Tip::At { commit, branch: branch.clone() })
    }

    fn choose(&self, heads: &[git2::RemoteHead<'_>]) -> Result<Tip, SourceError> {
        let named = |name: &str| heads.iter().find(|head| head.name() == name);
        let branch = match &self.config.branch {
            Some(branch) => branch.clone(),
            None => match default_branch(heads) {
                Some(branch) => branch,
                None if heads.is_empty() => {
                    return Ok(Tip::Unborn { branch: "HEAD".to_owned(), others: Vec::new() });
                }
                None => {
                    return Err(SourceError::Detached { location: self.location.clone() });
                }
            },
        };
        match named(&format!("refs/heads/{branch}")) {
            Some(head) => Ok(Tip::At { commit: head.oid(), branch }),
            None if heads.is_empty() => Ok(Tip::Unborn { branch, others: Vec::new() }),
            None => Err(SourceError::NoBranch { branch, location: self.location.clone() }),
        }
    }
}

impl Source for Remote {
    fn watch(&mut self, _signal: &Signal) -> Watching {
        // A remote tells nobody; asking it by the clock is what was meant.
        Watching::Notified
    }

    fn look(&mut self) -> Result<Option<Snapshot>, SourceError> {
        let found = self.fetch();
        self.failures = match found {
            Ok(_) => 0,
            Err(_) => self.failures.saturating_add(1),
        };
        found
    }

    fn patience(&self) -> Duration {
        let noise = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_micros());
        jittered(wait(self.config.interval, self.failures), noise)
    }

    fn quiet(&self) -> Duration {
        QUIET
    }
}

/// How long until the next question, after this many failures in a row.
fn wait(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        failures => {
            let doubled = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16));
            doubled.min(interval.max(LONGEST_RETRY))
        }
    }
}

fn jittered(wait: Duration, noise: u32) -> Duration {
    let percent = 100 - JITTER_PERCENT + noise % (2 * JITTER_PERCENT + 1);
    wait * percent / 100
}

fn fetched(repo: &Repository) -> Option<Oid> {
    repo.refname_to_id(FETCHED).ok()
}

/// Servers say where HEAD points; very old ones only to which commit.
fn default_branch(heads: &[git2::RemoteHead<'_>]) -> Option<String> {
    let head = heads.iter().find(|head| head.name() == "HEAD")?;
    if let Some(target) = head.symref_target() {
        return target.strip_prefix("refs/heads/").map(str::to_owned);
    }
    let same = heads.iter().filter(|other| other.oid() == head.oid());
    same.filter_map(|other| other.name().strip_prefix("refs/heads/")).next().map(str::to_owned)
}

fn options() -> FetchOptions<'static> {
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|progress| progress.received_bytes() <= MAX_FETCH_BYTES);
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks).download_tags(git2::AutotagOption::None);
    options
}

/// An address rather than a path.
pub(super) fn is_url(location: &str) -> bool {
    if location.contains("://") {
        return true;
    }
    let scp_like = location.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    scp_like && !Path::new(location).exists()
}

/// Takes the user and password out of an HTTP address, for they must not be shown.
fn split_credential(url: &str) -> Result<(String, Option<Credential>), SourceError> {
    let Some((scheme, _)) = url.split_once("://") else {
        return ssh::Address::parse(url)
            .map(|_| (url.to_owned(), None))
            .map_err(|what| SourceError::Address { what, hint: "write user@host:path" });
    };
    match scheme {
        "http" | "https" => split_http(url),
        "ssh" => ssh::Address::parse(url)
            .map(|_| (url.to_owned(), None))
            .map_err(|what| SourceError::Address { what, hint: "write ssh://user@host/path" }),
        "file" | "git" => Ok((url.to_owned(), None)),
        other => Err(SourceError::Address {
            what: format!("`{other}://` is no way to fetch that kgit knows"),
            hint: "use https, http, ssh or file",
        }),
    }
}

fn split_http(url: &str) -> Result<(String, Option<Credential>), SourceError> {
    let mut parsed = Url::parse(url).map_err(|error| SourceError::Address {
        what: format!("the address can't be read ({error})"),
        hint: "write https://host/path",
    })?;
    let user = (!parsed.username().is_empty()).then(|| decode(parsed.username()));
    let secret = parsed.password().map(decode);
    // They fail for addresses without a host alone, which http has none of.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    let credential = match (user, secret) {
        (None, None) => None,
        // `https://token@host/…`, as several servers' own pages show it.
        (Some(token), None) => Some(Credential { user: Some(token), secret: String::new() }),
        (user, Some(secret)) => Some(Credential { user, secret }),
    };
    Ok((parsed.to_string(), credential))
}

/// Undoes the percent signs that a user or password needs in an address.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_plain_http_elsewhere(location: &str) -> bool {
    let Ok(url) = Url::parse(location) else { return false };
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    url.scheme() == "http" && !here
}
