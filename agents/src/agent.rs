//! Putting the agent together: join or resume, then run; and taking it apart again.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it puts the agent together")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::PodNetwork;
use kgit_protocol::ids::{BootId, hex};
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::journal::{Ends, Identity, Journal, JournalError};
use crate::link::https::HttpsLink;
use crate::link::join::{Application, join, new_key, renew, renewal_due_in};
use crate::link::retry::Backoff;
use crate::link::tls::random;
use crate::link::token::JoinToken;
use crate::link::{Link as _, LinkError};
use crate::net::feeder;
use crate::node::Node;
use crate::policy::{Forbidden, Holds, Kept};
use crate::range;
use crate::runtime::crash::Crash;
use crate::runtime::docker::Docker;
use crate::runtime::{Runtime, RuntimeError, Scope};
use crate::volumes::Places;
use crate::volumes::resolver::Resolver;
use crate::worker::facts;
use crate::worker::images::Puller;
use crate::worker::outbox::Outbox;
use crate::worker::traffic::Ground;
use crate::worker::{Start, Worker, WorkerError, now};

/// How often a renewal that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// The longest sleep before looking at the certificate again: clocks get set.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(3600);

/// How long the agent waits after its journal could not be written.
const BEGIN_AGAIN: Duration = Duration::from_secs(5);
/// How long an empty network may refuse to go before that is told.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);
const NETWORK_POLL: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the agent's data directory")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Engine(#[from] RuntimeError),
    #[error("no agent keeps its data in {0}; name its folder with --data")]
    NotHere(PathBuf),
    #[error("its pods have ended, and the master does not know it yet; run this again")]
    NotTold(#[source] LinkError),
    #[error("this node is not part of a cluster yet, and no join token was given")]
    NoToken,
    #[error("no master was named, and none is on record here; add --join https://HOST:PORT")]
    NoMaster,
    #[error("this node is called {known} in its cluster, not {asked}; `kgit agent leave` first")]
    OtherName { known: String, asked: String },
    #[error("no part of 10.0.0.0/8 is free for pods on this host")]
    NoFreeRange,
    #[error(
        "all else is removed, but the engine keeps the pods' network, as `docker network ls` shows"
    )]
    NetworkStays(#[source] RuntimeError),
    #[error("what leads traffic to services is not all gone: {0}")]
    RulesStay(String),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the folder {0}")]
    Folder(PathBuf, #[source] std::io::Error),
}

/// Runs the agent until `shutdown`. Containers go on after that.
///
/// # Errors
/// What keeps it from starting. A journal that can't be written later, as on a full disk, does not
/// end it: it begins again from what is on disk, as after a crash.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let mut has_run = false;
    loop {
        let error = match serve(&config, shutdown.clone()).await {
            Err(AgentError::Worker(error)) => AgentError::Worker(error),
            Err(AgentError::Journal(error)) if has_run => AgentError::Journal(error),
            outcome => return outcome,
        };
        has_run = true;
        tell(&error);
        tokio::select! {
            () = tokio::time::sleep(BEGIN_AGAIN) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// With its causes.
fn tell(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, "the agent begins again soon; containers go on meanwhile");
}

async fn serve(config: &AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let journal = Journal::open(&config.data_dir)?;
    let key = match journal.key()? {
        Some(key) => key,
        None => {
            let key = new_key()?;
            journal.keep_key(&key)?;
            key
        }
    };
    journal.keep_ends(&Ends {
        master_url: config.master_url.clone(),
        docker_socket: config.docker_socket.clone(),
    })?;
    let network = pod_network(&journal, config).await?;
    if config.policy.no_services {
        // It may have been otherwise before.
        end_traffic(config).await?;
    }
    let joined = tokio::select! {
        joined = identity(&journal, config, &key, network) => joined?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let link = HttpsLink::new(&config.master_url, &joined.authority, &joined.certificate, &key)?;
    // Only one that is no member any more needs it: it may be any old one.
    let token = config.token.as_deref().and_then(|text| JoinToken::parse(text).ok());
    let link = Arc::new(link.applying(application(config, &key, network, token)));
    let renewing = {
        let renewal = Renewal { link: Arc::clone(&link), config: config.clone(), key };
        tokio::spawn(renewal.keep_certificate(joined.clone()))
    };
    let worker = worker(config, journal, &joined, network, link)?;
    let result = worker.run(shutdown).await;
    renewing.abort();
    Ok(result?)
}

fn worker(
    config: &AgentConfig,
    journal: Journal,
    joined: &Identity,
    network: PodNetwork,
    link: Arc<HttpsLink>,
) -> Result<Worker<Crash<Docker>, HttpsLink>, AgentError> {
    let scope = scope(joined);
    let docker = Docker::new(scope.clone(), &config.docker_socket);
    let spec_key = journal.spec_key(random())?;
    let remembered = journal.remembered()?;
    let mut node = Node::new(spec_key, journal.set()?, remembered.pods.clone());
    node.keep(remembered.kept.clone());
    let ground = Ground {
        dir: config.data_dir.clone(),
        scope: scope.clone(),
        pod_range: network.range,
        master_url: config.master_url.clone(),
    };
    let serves = !config.policy.no_services;
    // Until `net` says that it can't have that address.
    let resolver = Resolver::new(serves.then(|| ground.gateway()));
    let places = Places { resolver, ..places(config, &scope) };
    let start = Start {
        runtime: Crash::new(docker, config.crash_at.clone()),
        link,
        scope,
        places,
        puller: Puller::new(config.docker_config.clone()),
        journal,
        outbox: Arc::new(Outbox::new(BootId::new(hex(&random::<8>())), node.stamp().cloned())),
        range: network.range,
        node,
        remembered,
        host_boot: facts::host_boot(),
        ground: serves.then_some(ground),
    };
    Ok(Worker::new(start)?)
}

fn scope(joined: &Identity) -> Scope {
    Scope { cluster: joined.cluster.clone(), node: joined.node.clone() }
}

fn places(config: &AgentConfig, scope: &Scope) -> Places {
    let socket = &config.docker_socket;
    let kept = |path: &Path, holds| Kept { path: path.to_owned(), holds };
    let mut paths = vec![
        kept(Path::new(socket), Holds::EngineSocket),
        kept(Path::new("/run/kgit"), Holds::PodSecrets),
    ];
    let own = config.kept_dirs.iter().chain([&config.data_dir]);
    paths.extend(own.map(|path| kept(path, Holds::KgitData)));
    Places {
        pods: config.data_dir.join("pods"),
        secrets: Path::new("/run/kgit").join(scope.network()),
        made: config.data_dir.join("volumes"),
        policy: config.policy.clone(),
        forbidden: Forbidden { paths, ..Forbidden::default() },
        resolver: Resolver::default(),
    }
}

/// The pod range: chosen once, free of the host's routes and the engine's networks.
async fn pod_network(journal: &Journal, config: &AgentConfig) -> Result<PodNetwork, AgentError> {
    if let Some(network) = journal.network()? {
        return Ok(network);
    }
    let nobody = Scope { cluster: "0000000000000000".into(), node: config.node.clone() };
    let docker = Docker::new(nobody, &config.docker_socket);
    let mut taken = docker.network_ranges().await?;
    taken.extend(range::routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default()));
    let seed = format!("{} {}", config.master_url, config.node);
    let range = range::choose(&seed, &taken).ok_or(AgentError::NoFreeRange)?;
    let network = PodNetwork { range };
    journal.keep_network(network)?;
    Ok(network)
}

fn application(
    config: &AgentConfig,
    key: &str,
    network: PodNetwork,
    token: Option<JoinToken>,
) -> Application {
    let (node, labels) = (config.node.clone(), labels(config));
    Application { node, key: key.to_owned(), labels, network, token }
}

/// Who this node is: from the journal, or by joining.
async fn identity(
    journal: &Journal,
    config: &AgentConfig,
    key: &str,
    network: PodNetwork,
) -> Result<Identity, AgentError> {
    if let Some(known) = journal.identity()? {
        if known.node != config.node {
            let (known, asked) = (known.node.to_string(), config.node.to_string());
            return Err(AgentError::OtherName { known, asked });
        }
        return Ok(known);
    }
    let token = JoinToken::parse(config.token.as_deref().ok_or(AgentError::NoToken)?)?;
    let application = application(config, key, network, Some(token));
    let mut backoff = Backoff::default();
    let joined = loop {
        match join(&config.master_url, &application).await {
            Ok(joined) => break joined,
            // A master that is starting, or a network that is coming up.
            Err(LinkError::Unreachable(error)) => {
                tracing::warn!(error, "can't join yet; will try again");
                tokio::time::sleep(backoff.delay()).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let identity = Identity {
        cluster: joined.cluster,
        node: joined.node,
        certificate: joined.certificate,
        authority: joined.authority,
    };
    journal.keep_identity(&identity)?;
    Ok(identity)
}

/// What it takes to renew the node's certificate.
struct Renewal {
    link: Arc<HttpsLink>,
    config: AgentConfig,
    key: String,
}

impl Renewal {
    /// Renews it in time, for as long as the agent runs.
    async fn keep_certificate(self, mut known: Identity) {
        loop {
            let due = match renewal_due_in(&known.certificate, now().0 / 1000) {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(error) => {
                    tracing::warn!(%error, "the node's certificate can't be read");
                    Duration::ZERO
                }
            };
            if !due.is_zero() {
                tokio::time::sleep(due.min(LOOK_AT_CERTIFICATE)).await;
                continue;
            }
            match self.renew(&known).await {
                Ok(fresh) => known = fresh,
                Err(error) => {
                    tracing::warn!(%error, "the node's certificate is not renewed yet");
                    tokio::time::sleep(RENEW_AGAIN).await;
                }
            }
        }
    }

    async fn renew(&self, known: &Identity) -> Result<Identity, AgentError> {
        let url = &self.config.master_url;
        let joined = renew(url, &known.authority, &self.key, &known.node).await?;
        let fresh = Identity { certificate: joined.certificate, ..known.clone() };
        Journal::keep_identity_in(&self.config.data_dir, &fresh)?;
        self.link.renewed(&fresh.authority, &fresh.certificate, &self.key)?;
        Ok(fresh)
    }
}

/// Stops and removes every container of this node, within `grace`; volumes and data stay.
pub async fn stop_all(config: &AgentConfig, grace: Duration) -> Result<(), AgentError> {
    let journal = Journal::open(&config.data_dir)?;
    let Some((docker, network)) = known_engine(&journal, config)? else { return Ok(()) };
    note_taken_down(&journal, &docker, network).await?;
    remove_containers(&docker, network, grace).await?;
    end_traffic(config).await
}

/// Ends `net`, and what it put into the kernel.
async fn end_traffic(config: &AgentConfig) -> Result<(), AgentError> {
    feeder::remove(&config.data_dir).await.map_err(AgentError::RulesStay)
}

/// Notes that what runs now ends on purpose. Written before anything is stopped: however far
/// this comes, the next agent takes nothing of it for somebody's meddling.
async fn note_taken_down(
    journal: &Journal,
    docker: &Docker,
    network: PodNetwork,
) -> Result<(), AgentError> {
    let mut remembered = journal.remembered()?;
    let spec_key = journal.spec_key(random())?;
    let mut node = Node::new(spec_key, journal.set()?, std::mem::take(&mut remembered.pods));
    node.keep(remembered.kept.clone());
    node.take_down(&docker.view(network.range).await?, now());
    remembered.pods = node.facts().clone();
    Ok(journal.remember(&remembered)?)
}

/// Removes everything of this node from the engine and the disk, its data directory included.
pub async fn purge(config: &AgentConfig, grace: Duration) -> Result<(), AgentError> {
    remove(config, grace, true).await.map(drop)
}

/// The same; without `with_data` volumes stay. Gives those.
async fn remove(
    config: &AgentConfig,
    grace: Duration,
    with_data: bool,
) -> Result<Vec<String>, AgentError> {
    let (mut network_went, mut stay) = (Ok(()), Vec::new());
    {
        let journal = Journal::open(&config.data_dir)?;
        let engine = known_engine(&journal, config)?;
        if let Some((docker, network)) = &engine {
            remove_containers(docker, *network, grace).await?;
        }
        end_traffic(config).await?;
        if let Some((docker, _)) = engine {
            stay = docker.volumes().await?;
            if with_data {
                for volume in std::mem::take(&mut stay) {
                    docker.remove_volume(&volume).await?;
                }
            }
            network_went = remove_network(&docker).await;
        }
        if let Some(joined) = journal.identity()? {
            remove_folder(&places(config, &scope(&joined)).secrets)?;
        }
    }
    remove_folder(&config.data_dir)?;
    network_went.map(|()| stay)
}

/// The engine lets go of endpoints some time after their containers are gone.
async fn remove_network(docker: &Docker) -> Result<(), AgentError> {
    let deadline = tokio::time::Instant::now() + NETWORK_PATIENCE;
    loop {
        match docker.remove_network().await {
            Ok(()) => return Ok(()),
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(NETWORK_POLL).await;
            }
            Err(error) => return Err(AgentError::NetworkStays(error)),
        }
    }
}

/// Takes the node out of its cluster: its pods end, the master is told, and what was made for the
/// cluster is removed. Volumes stay unless `with_data`; gives those. A host that joins under the
/// same name has them again.
pub async fn leave(
    config: &AgentConfig,
    grace: Duration,
    with_data: bool,
) -> Result<Vec<String>, AgentError> {
    if !config.data_dir.exists() {
        return Err(AgentError::NotHere(config.data_dir.clone()));
    }
    {
        let journal = Journal::open(&config.data_dir)?;
        if let (Some(joined), Some(key)) = (journal.identity()?, journal.key()?) {
            let grace = grace.min(longest_grace(&journal)?.unwrap_or(grace));
            if let Some((docker, network)) = known_engine(&journal, config)? {
                remove_containers(&docker, network, grace).await?;
            }
            let known = journal.ends()?.map(|ends| ends.master_url);
            let named = Some(&config.master_url).filter(|url| !url.is_empty()).cloned();
            let url = named.or(known).ok_or(AgentError::NoMaster)?;
            let link = HttpsLink::new(&url, &joined.authority, &joined.certificate, &key)?;
            link.leave().await.map_err(AgentError::NotTold)?;
        }
    }
    remove(config, grace, with_data).await
}

/// Of the pods that are to run here.
fn longest_grace(journal: &Journal) -> Result<Option<Duration>, AgentError> {
    let Some(set) = journal.set()? else { return Ok(None) };
    let seconds = set.pods.values().map(|pod| pod.spec.termination_grace_seconds.into());
    Ok(seconds.max().map(Duration::from_secs))
}

/// Those that were asked for, and the host's architecture, which many manifests select by.
fn labels(config: &AgentConfig) -> BTreeMap<String, String> {
    let own = facts::architecture(std::env::consts::ARCH).to_owned();
    let mut labels = BTreeMap::from([(facts::ARCHITECTURE_LABEL.to_owned(), own)]);
    labels.extend(config.labels.clone());
    labels
}

/// What somebody is told who had the node leave, and which volumes stayed.
pub fn said_of_leaving(stay: &[String]) -> String {
    match stay {
        [] => "left the cluster; nothing of it stays here".to_owned(),
        stay => format!(
            "left the cluster; data stays here in {} volumes: {}. A host that joins under the same \
             name has them again; `docker volume rm` removes them",
            stay.len(),
            stay.join(", ")
        ),
    }
}

fn known_engine(
    journal: &Journal,
    config: &AgentConfig,
) -> Result<Option<(Docker, PodNetwork)>, AgentError> {
    let (Some(joined), Some(network)) = (journal.identity()?, journal.network()?) else {
        return Ok(None);
    };
    // What runs is where it was started, whatever is said now.
    let used = journal.ends()?.map(|ends| ends.docker_socket);
    let socket = used.as_deref().unwrap_or(&config.docker_socket);
    Ok(Some((Docker::new(scope(&joined), socket), network)))
}

async fn remove_containers(
    docker: &Docker,
    network: PodNetwork,
    grace: Duration,
) -> Result<(), AgentError> {
    let deadline = tokio::time::Instant::now() + grace;
    let first = docker.view(network.range).await?;
    for seen in first.containers.iter().filter(|seen| seen.state.is_alive()) {
        docker.terminate(&seen.id).await?;
    }
    loop {
        let view = docker.view(network.range).await?;
        let members = view.containers.iter().filter(|seen| {
            seen.state.is_alive() && seen.identity.container != crate::runtime::PAUSE
        });
        if members.count() == 0 || tokio::time::Instant::now() >= deadline {
            for seen in view.containers {
                docker.remove(&seen.id).await?;
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn remove_folder(path: &Path) -> Result<(), AgentError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AgentError::Folder(path.to_owned(), error)),
    }
}
