//! A master: store, loop, source and listener, put together and taken down in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use ipnet::Ipv4Net;
use kgit_agent::range::{choose_for_services, routes};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::auth::TokenText;
use crate::api::authority::Authority;
use crate::api::listener::serve;
use crate::api::state::{Api, Parts, Planning};
use crate::client::kubeconfig::Kubeconfig;
use crate::daemon::config::{self, DEFAULT_LISTEN, MasterConfig};
use crate::daemon::error::DaemonError;
use crate::daemon::forecasts::Planner;
use crate::daemon::now;
use crate::daemon::records::StoreRecords;
use crate::daemon::source::{self, Chosen};
use crate::domain::token::{Role, Token, TokenOrder};
use crate::master::core::Core;
use crate::master::event::Event;
use crate::master::handle::Handle;
use crate::master::{lease_seconds, run};
use crate::plan::assignments::for_node;
use crate::plan::services::api_address;
use crate::source::follow::Follower;
use crate::store::Store;

/// The name behind the token in the kubeconfig that a master writes.
const OWNER: &str = "admin";

/// A running master.
pub struct Master {
    pub address: SocketAddr,
    pub handle: Handle,
    authority: Authority,
    /// Until it is followed.
    chosen: Option<Chosen>,
    follower: Option<Follower>,
    core: Option<JoinHandle<()>>,
    api: tokio::task::JoinHandle<()>,
    stop_api: watch::Sender<bool>,
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a master. It serves as soon as this returns, and follows its source once
/// [`Master::follow`] is called.
pub async fn start(config: &MasterConfig) -> Result<Master, DaemonError> {
    config::make_data(&config.data)?;
    let chosen = source::choose(config)?;
    let mut store = Store::open(&config.data)?;
    if let Some(crash) = config.crash {
        store.set_crash_points(crash);
    }
    let reader = store.reader();
    let core = Core::new(store.load()?, chosen.status.clone(), now());
    let (master_loop, handle) = run::new(core, store, Arc::new(now));
    let thread = std::thread::Builder::new()
        .name("master".to_owned())
        .spawn(move || master_loop.run())
        .map_err(DaemonError::Thread)?;

    let services = settle_service_range(&handle).await?;

    let pki = config.data.join("pki");
    let authority = Authority::open(&pki, now())?;
    let listener = listen(config).await?;
    let address = listener.local_addr().map_err(DaemonError::file("read", "the address"))?;
    config::write_private(&config::listen_file(&config.data), address.to_string().as_bytes())?;
    // Pods know the API by its service's address.
    let in_cluster = services.and_then(api_address).map(|address| address.to_string());
    let names: Vec<String> = config.advertise.iter().cloned().chain(in_cluster).collect();
    let tls = authority.server_config(&names, now())?;
    let api = Api::new(Parts {
        master: handle.clone(),
        authority: Authority::open(&pki, now())?,
        records: Arc::new(StoreRecords(reader)),
        planning: Planning { assignments: for_node, lease_seconds },
        forecasts: Arc::new(Planner { history: chosen.history.clone() }),
        clock: Arc::new(now),
    });
    let (stop_api, stopping) = watch::channel(false);
    let api = tokio::spawn(serve(listener, tls, api, stopping));
    let master = Master {
        address,
        handle,
        authority,
        chosen: Some(chosen),
        follower: None,
        core: Some(thread),
        api,
        stop_api,
    };
    master.write_kubeconfig(&config.data, &config.advertise).await?;
    Ok(master)
}

/// Chosen free of this host's routes; what was chosen at the first start stays.
async fn settle_service_range(handle: &Handle) -> Result<Option<Ipv4Net>, DaemonError> {
    let view = handle.view();
    if let Some(range) = view.world.meta.service_range {
        return Ok(Some(range));
    }
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let Some(range) = choose_for_services(view.world.cluster.as_str(), &routes(&table)) else {
        tracing::error!("no part of 10.16.0.0/12 is free for services: they get no addresses");
        return Ok(None);
    };
    let sent = handle.send(Event::ServiceRange { range }).await;
    sent.map_err(|refused| DaemonError::Refused(refused.message))?;
    Ok(Some(range))
}

/// The address asked for; or the one this data directory had; or the default; or any free port.
async fn listen(config: &MasterConfig) -> Result<TcpListener, DaemonError> {
    let failed = |address: &str, source| DaemonError::Listen { address: address.into(), source };
    if let Some(address) = &config.listen {
        return TcpListener::bind(address).await.map_err(|error| failed(address, error));
    }
    let before = std::fs::read_to_string(config::listen_file(&config.data)).ok();
    if let Some(address) = before.as_deref().map(str::trim) {
        // Everybody who knows this master knows it by this address: no other will do.
        return TcpListener::bind(address).await.map_err(|error| failed(address, error));
    }
    match TcpListener::bind(DEFAULT_LISTEN).await {
        Ok(listener) => Ok(listener),
        Err(_) => {
            let any = "127.0.0.1:0";
            TcpListener::bind(any).await.map_err(|error| failed(any, error))
        }
    }
}

impl Master {
    /// Begins to follow the source.
    pub fn follow(&mut self) -> Result<(), DaemonError> {
        if let Some(chosen) = self.chosen.take() {
            self.follower = Some(source::start(chosen, self.handle.clone())?);
        }
        Ok(())
    }

    /// `https://` and the address by which this machine reaches the master.
    pub fn url(&self) -> String {
        let ip = self.address.ip();
        let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
        format!("https://{host}:{}", self.address.port())
    }

    /// A fresh token; its secret is shown once and kept as a hash.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        uses: Option<u32>,
    ) -> Result<String, DaemonError> {
        let text = TokenText::generate(self.authority.digest());
        let token = Token {
            id: text.id.clone(),
            name: name.to_owned(),
            role,
            secret_hash: text.secret_hash(),
            created: now(),
            expires: None,
            uses_left: uses,
            revoked: false,
        };
        let order = TokenOrder::Create(token);
        let by = "kgit".to_owned();
        let created = self.handle.ask(|reply| Event::Token { order, by, reply }).await;
        created.map_err(|refused| DaemonError::Refused(refused.message))?;
        Ok(text.to_string())
    }

    /// Writes a kubeconfig for the owner of the data directory, unless there is one already that
    /// leads here.
    async fn write_kubeconfig(&self, data: &Path, advertise: &[String]) -> Result<(), DaemonError> {
        let path = config::kubeconfig(data);
        let url = match advertise.first() {
            Some(name) => format!("https://{name}:{}", self.address.port()),
            None => self.url(),
        };
        let known = Kubeconfig::read(&path).ok();
        if known.is_some_and(|known| known.server == url && known.authority == self.authority.pem())
        {
            return Ok(());
        }
        let token = self.create_token(OWNER, Role::Admin, None).await?;
        let kubeconfig = Kubeconfig::new(&url, self.authority.pem(), &token);
        config::write_private(&path, kubeconfig.to_yaml().as_bytes())
    }

    /// Stops following, lets the loop finish what it has, and closes the listener.
    pub async fn stop(mut self) {
        let follower = self.follower.take();
        let core = self.core.take();
        // Both wait for their threads.
        let _ = tokio::task::spawn_blocking(move || drop(follower)).await;
        let _ = self.handle.send(Event::Shutdown).await;
        let _ = tokio::task::spawn_blocking(move || core.map(JoinHandle::join)).await;
        let _ = self.stop_api.send(true);
        let _ = self.api.await;
    }
}
