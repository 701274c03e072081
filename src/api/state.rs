//! What every handler has at hand.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use kgit_protocol::assignment::AssignmentSet;
use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::api::agent::directory::Directories;
use crate::api::auth::TokenCache;
use crate::api::authority::Authority;
use crate::api::forecasts::Forecasts;
use crate::api::history::History;
use crate::api::kube::streams::port_forward::Forwards;
use crate::api::limit::{Limiter, Watches};
use crate::api::records::{Records, RecordsError};
use crate::api::tunnels::Tunnels;
use crate::domain::world::World;
use crate::master::handle::Handle;

/// What the daemon puts the API together from.
pub struct Parts {
    pub master: Handle,
    pub authority: Authority,
    pub records: Arc<dyn Records>,
    pub planning: Planning,
    pub forecasts: Arc<dyn Forecasts>,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The pure functions of the layers below that answer requests.
#[derive(Clone, Copy)]
pub struct Planning {
    /// Everything that a node is to run, under the stamp that was last issued to it.
    pub assignments: fn(&World, &NodeName) -> Option<AssignmentSet>,
    /// How long a lease lasts in a fleet of this many nodes.
    pub lease_seconds: fn(usize) -> u32,
}

/// Cheap to copy; one for the whole server.
#[derive(Clone, Debug)]
pub struct Api(Arc<Shared>);

pub struct Shared {
    pub master: Handle,
    pub authority: Authority,
    pub records: Arc<dyn Records>,
    pub planning: Planning,
    pub forecasts: Arc<dyn Forecasts>,
    pub directories: Directories,
    pub tunnels: Tunnels,
    pub forwards: Forwards,
    pub tokens: TokenCache,
    pub limiter: Limiter,
    pub watches: Watches,
    pub history: History,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Api {
    pub fn new(parts: Parts) -> Self {
        let history = History::new(&parts.master);
        Self(Arc::new(Shared {
            history,
            master: parts.master,
            authority: parts.authority,
            records: parts.records,
            planning: parts.planning,
            forecasts: parts.forecasts,
            directories: Directories::default(),
            tunnels: Tunnels::default(),
            forwards: Forwards::default(),
            tokens: TokenCache::default(),
            limiter: Limiter::default(),
            watches: Watches::default(),
            clock: parts.clock,
        }))
    }
}

impl Api {
    /// Reads the records on a thread that may wait for the disk.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Records) -> Result<T, RecordsError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let records = Arc::clone(&self.records);
        tokio::task::spawn_blocking(move || read(&*records))
            .await
            .unwrap_or_else(|_| Err(RecordsError::new("the reader stopped")))
    }
}

impl Shared {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl fmt::Debug for Planning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planning")
    }
}
