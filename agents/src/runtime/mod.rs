//! The seam to the container engine: what the agent asks of it, and what it shows.
//!
//! [`docker`] is the real one, [`sim`] the one that tests and simulations use, [`crash`] wraps
//! either to die at a chosen call. What deliberately does not live here: any decision about
//! what should run; and any thing that is not labelled with this cluster and this node.

pub mod crash;
pub mod docker;
pub mod sim;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use kgit_protocol::ids::{Attempt, ClusterId, NodeName, PodUid};

use kgit_protocol::pod::RegistryLogin;
use kgit_protocol::stream::{Ends, LogRequest, TerminalSize};
use kgit_protocol::time::Timestamp;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// The container that holds a pod's namespaces goes by this name, which no manifest can use.
pub const PAUSE: &str = "";

/// Whose containers these are. A runtime shows and touches nothing outside its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub cluster: ClusterId,
    pub node: NodeName,
}

impl Scope {
    /// The first 8 digits of the cluster's id: enough to tell clusters on one engine apart.
    pub fn short(&self) -> &str {
        self.cluster.as_str().get(..8).unwrap_or(self.cluster.as_str())
    }

    /// The name of the node's bridge network: one for each cluster and node on an engine.
    pub fn network(&self) -> String {
        let node = kgit_protocol::ids::Digest::of(self.node.as_str().as_bytes());
        format!("kgit-{}-{}", self.short(), node.as_str().get(..4).unwrap_or("0000"))
    }

    /// The bridge's name on the host: at most 15 letters, the same after each making.
    pub fn bridge(&self) -> String {
        let name = kgit_protocol::ids::Digest::of(self.network().as_bytes());
        format!("kgit-{}", name.as_str().get(..8).unwrap_or("0"))
    }
}

/// What labels say about one of kgit's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pod: PodUid,
    pub namespace: String,
    pub pod_name: String,
    /// [`PAUSE`] for the container that holds the pod's namespaces.
    pub container: String,
    pub attempt: Attempt,
    /// The keyed hash of the spec that it was made from.
    pub spec: String,
}

/// One container as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub identity: Identity,
    pub state: RunState,
    /// A repo digest, or the image id of a local build.
    pub image: String,
    /// Its address on the node's own network, if it has one there.
    pub address: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    Created,
    Running {
        started_at: Timestamp,
    },
    Paused {
        started_at: Timestamp,
    },
    Exited(Exit),
    /// Being removed, or left half-removed by the engine.
    Removing,
}

impl RunState {
    /// Whether processes of the container exist.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub out_of_memory: bool,
    /// What the engine itself had to say, empty if nothing.
    pub error: String,
}

/// Everything the engine shows of this cluster on this node, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub containers: Vec<Seen>,
    pub network: NetworkState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkState {
    #[default]
    Missing,
    Present,
}

/// A container to be made, with nothing left to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerOrder {
    pub name: String,
    pub identity: Identity,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// `NAME=value`; may hold secrets.
    pub env: Vec<String>,
    pub hostname: Option<String>,
    pub namespaces: Namespaces,
    pub mounts: Vec<BindMount>,
    pub ports: Vec<kgit_protocol::pod::ContainerPort>,
    pub resources: kgit_protocol::pod::Resources,
    pub security: kgit_protocol::pod::ContainerSecurity,
    pub seccomp: Seccomp,
    pub pod_security: kgit_protocol::pod::PodSecurity,
    pub stdin: bool,
    pub tty: bool,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// As the engine has it for all containers.
    #[default]
    EngineDefault,
    Unconfined,
    /// A profile's text.
    Profile(String),
}

/// Where a container's network, IPC and process namespaces come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    pub network: NetworkSource,
    pub ipc: IpcSource,
    pub pid: PidSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkSource {
    /// The node's bridge, with the address that the plan assigned.
    Bridge(Ipv4Addr),
    Host,
    /// The pod's pause container, by id.
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpcSource {
    Private,
    Shareable,
    Host,
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidSource {
    Own,
    Host,
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A path on the host.
    Path(String),
    /// A Docker volume; if only a folder in it is wanted, that folder's path on the host.
    Volume { name: String, sub_path: Option<String> },
}

/// A Docker volume to be made if it does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOrder {
    pub name: String,
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

/// An image as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub names: Vec<String>,
    /// `name@sha256:…`, empty for a local build.
    pub digests: Vec<String>,
    /// Whom its processes run as, `user[:group]`; empty for root. `None` in a list of images.
    pub user: Option<String>,
}

/// What a container used so far, and holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Cpu time since it started.
    pub cpu: Duration,
    /// The working set: in use, less the cached files that could be dropped.
    pub memory_bytes: u64,
}

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub code: i64,
    /// The first bytes of what it said.
    pub output: String,
}

/// Something happened to a thing in scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Container { id: String, identity: Identity, change: Change },
    Network,
    Image,
    Volume,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody sent it a signal through the engine.
    Signalled(i32),
    /// Its limits were changed through the engine.
    Updated,
    /// Anything that a look at the engine shows as well.
    State,
}

/// Facts about the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    pub version: String,
    pub api: String,
    pub root: String,
    pub operating_system: String,
    pub kernel: String,
    pub architecture: String,
    pub cpus: u64,
    pub memory_bytes: u64,
}

/// What went wrong with a request to the engine, as far as the agent acts on it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine can't be reached or does not answer in time.
    #[error("the container engine does not answer: {0}")]
    Unavailable(String),
    #[error("no such image: {0}")]
    NoSuchImage(String),
    #[error("{0} is gone")]
    Gone(String),
    /// Somebody else has the address on the bridge, often an old container of ours.
    #[error("the address is in use: {0}")]
    AddressInUse(String),
    /// The name is taken by something that is not what was ordered.
    #[error("the name {0} is taken by something that is not this pod's")]
    NameTaken(String),
    /// The registry can't be reached at all.
    #[error("the registry can't be reached: {0}")]
    RegistryUnreachable(String),
    /// What the container is to run can't be run.
    #[error("{0}")]
    CannotRun(String),
    /// The engine refused.
    #[error("{0}")]
    Refused(String),
}

pub type Outcome<T> = Result<T, RuntimeError>;

/// How a container's output is asked for, with the request's own words.
pub type LogStream = BoxStream<'static, Outcome<Bytes>>;

/// A process that somebody talks to.
pub struct Talk {
    pub process: Process,
    /// Its standard input; shutting it down ends that, and nothing else.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it says, until it closes both of its outputs.
    pub output: BoxStream<'static, Outcome<Said>>,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Talk").field(&self.process).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// A command that was run in a container, by the engine's name for it.
    Exec(String),
    /// A container's own.
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Out(Bytes),
    Err(Bytes),
}

/// The container engine.
///
/// Every call is idempotent: "already so" counts as success, since a crash may fall between any
/// call and the note of it.
pub trait Runtime: Send + Sync + 'static {
    /// Everything in scope. `expected` is the node's network.
    fn view(&self, expected: Ipv4Net) -> impl Future<Output = Outcome<View>> + Send;
    /// Makes the bridge with this range, first address as its gateway; replaces one that differs.
    fn ensure_network(&self, range: Ipv4Net) -> impl Future<Output = Outcome<()>> + Send;
    /// Makes a container or adopts the one that has the name, if it is what was ordered.
    fn create(&self, order: &ContainerOrder) -> impl Future<Output = Outcome<String>> + Send;
    /// Starts a container that was made; one that was started before, and may have ended since, is
    /// left as it is: its work is not done twice.
    fn start(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Sends the signal that the image asks to be stopped by, TERM unless it says otherwise.
    fn terminate(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    fn kill(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    fn unpause(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Removes a container, killing it if it runs.
    fn remove(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Puts a running container back on the node's network.
    fn attach(&self, id: &str, address: Ipv4Addr) -> impl Future<Output = Outcome<()>> + Send;

    fn image(&self, name: &str) -> impl Future<Output = Outcome<Option<Image>>> + Send;
    fn images(&self) -> impl Future<Output = Outcome<Vec<Image>>> + Send;
    fn pull(
        &self,
        name: &str,
        logins: &[RegistryLogin],
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Gives the image that a container was made from a name that it had before.
    fn restore_image(
        &self,
        container: &str,
        name: &str,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Removes an image that no container uses.
    fn remove_image(&self, id: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Loads the embedded pause image if the engine lacks it; its name.
    fn ensure_pause_image(&self) -> impl Future<Output = Outcome<String>> + Send;

    /// Makes a Docker volume if it does not exist; whether it had to be made.
    fn ensure_volume(&self, order: &VolumeOrder) -> impl Future<Output = Outcome<bool>> + Send;
    /// The names of the volumes in scope.
    fn volumes(&self) -> impl Future<Output = Outcome<Vec<String>>> + Send;
    /// The folder on the host that holds a volume's data, if it has one there.
    fn volume_path(&self, name: &str) -> impl Future<Output = Outcome<Option<String>>> + Send;
    fn remove_volume(&self, name: &str) -> impl Future<Output = Outcome<()>> + Send;
    fn remove_network(&self) -> impl Future<Output = Outcome<()>> + Send;
    /// The ranges of all networks of the engine, anybody's, to keep clear of.
    fn network_ranges(&self) -> impl Future<Output = Outcome<Vec<Ipv4Net>>> + Send;

    /// The process that a running container began with, as this host numbers it.
    fn process(&self, id: &str) -> impl Future<Output = Outcome<Option<u32>>> + Send;

    /// What a running container uses; `None` of one that does not run.
    fn measure(&self, id: &str) -> impl Future<Output = Outcome<Option<Measured>>> + Send;

    fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Outcome<ExecResult>> + Send;
    fn logs(
        &self,
        id: &str,
        request: &LogRequest,
    ) -> impl Future<Output = Outcome<LogStream>> + Send;
    /// Runs a command and talks to it. It goes on when the talk is dropped, with its input closed.
    fn open_exec(
        &self,
        id: &str,
        command: &[String],
        ends: Ends,
    ) -> impl Future<Output = Outcome<Talk>> + Send;
    /// Talks to the container's own process, which goes on when the talk is dropped.
    fn open_attach(&self, id: &str, ends: Ends) -> impl Future<Output = Outcome<Talk>> + Send;
    fn resize(
        &self,
        process: &Process,
        size: TerminalSize,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// The code that a command ended with, once it has.
    fn exec_code(&self, exec: &str) -> impl Future<Output = Outcome<Option<i64>>> + Send;
    /// Connects to a port of a running container as its own processes would, by its loopback; where
    /// the agent may not enter its network, by `address`.
    fn connect(
        &self,
        id: &str,
        address: Option<Ipv4Addr>,
        port: u16,
    ) -> impl Future<Output = Outcome<TcpStream>> + Send;
    /// Events from `since` on. The stream ends when the engine goes away.
    fn events(&self, since: Timestamp) -> BoxStream<'static, Outcome<Event>>;
    fn engine(&self) -> impl Future<Output = Outcome<Engine>> + Send;
}
