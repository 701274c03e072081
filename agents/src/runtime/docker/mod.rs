//! The Docker Engine, through bollard on a unix socket, API 1.41 and later.
//!
//! One client for each negotiated connection; after a failure to reach the engine it is made
//! anew, since an upgraded engine may speak another version.

mod body;
mod errors;
mod events;
mod image;
mod labels;
mod network;
mod output;
mod pause;
mod port;
mod stats;
mod talk;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerStateStatusEnum, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListVolumesOptions,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use kgit_protocol::pod::RegistryLogin;
use kgit_protocol::stream::{Ends, LogRequest, TerminalSize};
use kgit_protocol::time::Timestamp;
use tokio::net::TcpStream;

use crate::runtime::docker::errors::{Asked, understood};
use crate::runtime::{
    ContainerOrder, Engine, Event, ExecResult, Image, LogStream, Measured, Outcome, Process,
    Runtime, RuntimeError, Scope, Talk, View, VolumeOrder,
};

pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Reads a socket as people and `DOCKER_HOST` write it: a path, or `unix://` and a path.
///
/// # Errors
/// Other schemes: an agent is on its engine's host, since it writes files that containers mount.
pub fn parse_socket(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        None => Ok(text.to_owned()),
        Some(("unix", path)) => Ok(path.to_owned()),
        Some((scheme, _)) => Err(format!(
            "{scheme}:// leads to another host's engine; run `kgit agent` there, or give this host's socket"
        )),
    }
}

/// A call that takes longer than this has hung: the engine answers in milliseconds, and even a
/// container with many mounts starts within seconds.
const CALL_TIMEOUT_SECONDS: u64 = 60;
/// The engine's share of a view; a hung engine must be noticed soon.
const VIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// A Docker engine, as far as one node of one cluster is concerned.
#[derive(Debug)]
pub struct Docker {
    scope: Scope,
    socket: String,
    client: Mutex<Option<bollard::Docker>>,
    details: view::Details,
    /// What image ids stand for, by id; bounded by the images that ran here.
    image_names: Mutex<HashMap<String, String>>,
    /// Containers that this process made and did not ask to start yet.
    made: Mutex<HashSet<String>>,
}

impl Docker {
    /// `socket` is a path. Nothing is dialled yet.
    pub fn new(scope: Scope, socket: &str) -> Self {
        Self {
            scope,
            socket: socket.to_owned(),
            client: Mutex::new(None),
            details: view::Details::default(),
            image_names: Mutex::new(HashMap::new()),
            made: Mutex::default(),
        }
    }

    async fn client(&self) -> Outcome<bollard::Docker> {
        if let Some(client) = self.lock().clone() {
            return Ok(client);
        }
        let version = bollard::API_DEFAULT_VERSION;
        let client =
            bollard::Docker::connect_with_unix(&self.socket, CALL_TIMEOUT_SECONDS, version)
                .map_err(|error| RuntimeError::Unavailable(error.to_string()))?;
        let client = tokio::time::timeout(VIEW_TIMEOUT, client.negotiate_version())
            .await
            .map_err(|_| RuntimeError::Unavailable("no answer in time".to_owned()))?
            .map_err(|error| understood(Asked::Engine, &self.socket, error))?;
        *self.lock() = Some(client.clone());
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, Option<bollard::Docker>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) -> MutexGuard<'_, HashSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has started it, if only to see it end. The order of an agent that died may
    /// still be under way: inspecting waits for it, since both lock the container.
    async fn was_started(&self, client: &bollard::Docker, id: &str) -> Outcome<bool> {
        let shown = client.inspect_container(id, None).await;
        let shown = shown.map_err(|error| self.failed(Asked::Start, id, error))?;
        let status = shown.state.and_then(|state| state.status);
        Ok(status != Some(ContainerStateStatusEnum::CREATED))
    }

    /// Classifies an error; after a lost connection the next call negotiates again.
    fn failed(&self, asked: Asked, what: &str, error: bollard::errors::Error) -> RuntimeError {
        let error = understood(asked, what, error);
        if matches!(error, RuntimeError::Unavailable(_)) {
            *self.lock() = None;
        }
        error
    }
}

impl Runtime for Docker {
    async fn view(&self, expected: Ipv4Net) -> Outcome<View> {
        match tokio::time::timeout(VIEW_TIMEOUT, self.look(expected)).await {
            Ok(view) => view,
            Err(_) => {
                *self.lock() = None;
                Err(RuntimeError::Unavailable("no answer in time".to_owned()))
            }
        }
    }

    async fn ensure_network(&self, range: Ipv4Net) -> Outcome<()> {
        self.make_network(range).await
    }

    async fn create(&self, order: &ContainerOrder) -> Outcome<String> {
        let options = CreateContainerOptionsBuilder::default().name(&order.name).build();
        let body = body::container(&self.scope, order);
        let client = self.client().await?;
        match client.create_container(Some(options), body).await {
            Ok(created) => {
                self.made().insert(created.id.clone());
                Ok(created.id)
            }
            Err(error) => match self.failed(Asked::Create, &order.image, error) {
                RuntimeError::NameTaken(_) => self.adopt(order).await,
                other => Err(other),
            },
        }
    }

    async fn start(&self, id: &str) -> Outcome<()> {
        let client = self.client().await?;
        let is_fresh = self.made().remove(id);
        if !is_fresh && self.was_started(&client, id).await? {
            self.details.forget(id);
            return Ok(());
        }
        let started = client.start_container(id, None).await;
        self.details.forget(id);
        started.map_err(|error| self.failed(Asked::Start, id, error))
    }

    async fn terminate(&self, id: &str) -> Outcome<()> {
        let client = self.client().await?;
        let signal = match client.inspect_container(id, None).await {
            Ok(shown) => shown.config.and_then(|config| config.stop_signal),
            Err(error) => return gone_is_fine(self.failed(Asked::Container, id, error)),
        };
        self.signal(id, signal.as_deref().unwrap_or("SIGTERM")).await
    }

    async fn kill(&self, id: &str) -> Outcome<()> {
        self.signal(id, "SIGKILL").await
    }

    async fn unpause(&self, id: &str) -> Outcome<()> {
        let client = self.client().await?;
        self.details.forget(id);
        match client.unpause_container(id).await {
            Ok(()) => Ok(()),
            Err(error) => gone_is_fine(self.failed(Asked::Container, id, error)),
        }
    }

    async fn remove(&self, id: &str) -> Outcome<()> {
        let client = self.client().await?;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = client.remove_container(id, Some(options)).await;
        self.details.forget(id);
        match removed {
            Ok(()) => Ok(()),
            Err(error) => gone_is_fine(self.failed(Asked::Container, id, error)),
        }
    }

    async fn attach(&self, id: &str, address: std::net::Ipv4Addr) -> Outcome<()> {
        self.join_network(id, address).await
    }

    async fn image(&self, name: &str) -> Outcome<Option<Image>> {
        self.find_image(name).await
    }

    async fn images(&self) -> Outcome<Vec<Image>> {
        self.all_images().await
    }

    async fn pull(&self, name: &str, logins: &[RegistryLogin]) -> Outcome<()> {
        self.fetch_image(name, logins).await
    }

    async fn restore_image(&self, container: &str, name: &str) -> Outcome<()> {
        self.name_image(container, name).await
    }

    async fn remove_image(&self, id: &str) -> Outcome<()> {
        self.drop_image(id).await
    }

    async fn ensure_pause_image(&self) -> Outcome<String> {
        self.load_pause_image().await
    }

    async fn ensure_volume(&self, order: &VolumeOrder) -> Outcome<bool> {
        let client = self.client().await?;
        match client.inspect_volume(&order.name).await {
            Ok(_) => return Ok(false),
            Err(error) => match self.failed(Asked::Container, &order.name, error) {
                RuntimeError::Gone(_) => {}
                other => return Err(other),
            },
        }
        let options: HashMap<String, String> =
            order.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let request = VolumeCreateRequest {
            name: Some(order.name.clone()),
            driver: Some(order.driver.clone()).filter(|driver| !driver.is_empty()),
            driver_opts: Some(options),
            labels: Some(labels::scope(&self.scope)),
            cluster_volume_spec: None,
        };
        client
            .create_volume(request)
            .await
            .map(|_| true)
            .map_err(|error| self.failed(Asked::Container, &order.name, error))
    }

    async fn volumes(&self) -> Outcome<Vec<String>> {
        let client = self.client().await?;
        let options = ListVolumesOptions { filters: Some(labels::filters(&self.scope)) };
        let found = client
            .list_volumes(Some(options))
            .await
            .map_err(|error| self.failed(Asked::Engine, "volumes", error))?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    async fn volume_path(&self, name: &str) -> Outcome<Option<String>> {
        let client = self.client().await?;
        match client.inspect_volume(name).await {
            Ok(volume) => Ok(Some(volume.mountpoint).filter(|path| !path.is_empty())),
            Err(error) => Err(self.failed(Asked::Container, name, error)),
        }
    }

    async fn remove_volume(&self, name: &str) -> Outcome<()> {
        let client = self.client().await?;
        let ours = match client.inspect_volume(name).await {
            Ok(volume) => labels::in_scope(&self.scope, &volume.labels),
            Err(error) => return gone_is_fine(self.failed(Asked::Container, name, error)),
        };
        if !ours {
            let text = format!("volume {name} does not carry this cluster's label");
            return Err(RuntimeError::Refused(text));
        }
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) => gone_is_fine(self.failed(Asked::Container, name, error)),
        }
    }

    async fn remove_network(&self) -> Outcome<()> {
        self.drop_network().await
    }

    async fn network_ranges(&self) -> Outcome<Vec<Ipv4Net>> {
        self.all_ranges().await
    }

    async fn process(&self, id: &str) -> Outcome<Option<u32>> {
        let client = self.client().await?;
        let shown = client.inspect_container(id, None).await;
        let shown = shown.map_err(|error| self.failed(Asked::Container, id, error))?;
        let process = shown.state.and_then(|state| state.pid).filter(|pid| *pid > 0);
        Ok(process.and_then(|pid| u32::try_from(pid).ok()))
    }

    async fn measure(&self, id: &str) -> Outcome<Option<Measured>> {
        self.stats(id).await
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Outcome<ExecResult> {
        self.run_command(id, command, timeout).await
    }

    async fn logs(&self, id: &str, request: &LogRequest) -> Outcome<LogStream> {
        self.read_logs(id, request).await
    }

    async fn open_exec(&self, id: &str, command: &[String], ends: Ends) -> Outcome<Talk> {
        self.talk_to_command(id, command, ends).await
    }

    async fn open_attach(&self, id: &str, ends: Ends) -> Outcome<Talk> {
        self.talk_to_container(id, ends).await
    }

    async fn resize(&self, process: &Process, size: TerminalSize) -> Outcome<()> {
        self.set_size(process, size).await
    }

    async fn exec_code(&self, exec: &str) -> Outcome<Option<i64>> {
        self.code_of(exec).await
    }

    async fn connect(
        &self,
        id: &str,
        address: Option<std::net::Ipv4Addr>,
        port: u16,
    ) -> Outcome<TcpStream> {
        self.dial(id, address, port).await
    }

    fn events(&self, since: Timestamp) -> BoxStream<'static, Outcome<Event>> {
        self.follow_events(since)
    }

    async fn engine(&self) -> Outcome<Engine> {
        let client = self.client().await?;
        let info =
            client.info().await.map_err(|error| self.failed(Asked::Engine, "info", error))?;
        let version = client.client_version();
        Ok(Engine {
            version: info.server_version.unwrap_or_default(),
            api: version.to_string(),
            root: info.docker_root_dir.unwrap_or_default(),
            operating_system: info.operating_system.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            architecture: info.architecture.unwrap_or_default(),
            cpus: u64::try_from(info.ncpu.unwrap_or(0)).unwrap_or(0),
            memory_bytes: u64::try_from(info.mem_total.unwrap_or(0)).unwrap_or(0),
        })
    }
}

impl Docker {
    async fn signal(&self, id: &str, signal: &str) -> Outcome<()> {
        let client = self.client().await?;
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match client.kill_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => gone_is_fine(self.failed(Asked::Container, id, error)),
        }
    }

    /// The container that has the ordered name already, if it is the one that was ordered: the
    /// agent died between making it and noting that it had.
    async fn adopt(&self, order: &ContainerOrder) -> Outcome<String> {
        let client = self.client().await?;
        let shown = client
            .inspect_container(&order.name, None)
            .await
            .map_err(|error| self.failed(Asked::Container, &order.name, error))?;
        let found = shown.config.and_then(|config| config.labels).unwrap_or_default();
        let ours = labels::in_scope(&self.scope, &found);
        let id = shown.id.unwrap_or_default();
        if ours && labels::identity(&found).as_ref() == Some(&order.identity) {
            return Ok(id);
        }
        if ours {
            // Left by an order that has changed since; the name is free for the next try.
            self.remove(&id).await?;
        }
        Err(RuntimeError::NameTaken(order.name.clone()))
    }
}

/// "It is not there" is what removing and stopping are after.
fn gone_is_fine(error: RuntimeError) -> Outcome<()> {
    match error {
        RuntimeError::Gone(_) => Ok(()),
        other => Err(other),
    }
}
