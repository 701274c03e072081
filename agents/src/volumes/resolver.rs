//! Where pods ask for names: the node's own server, or the host's where the node can't have one.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it reads the host's settings")]

use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

use kgit_protocol::pod::Dns;

use crate::net::names::resolv::{Resolv, of_host, of_pod};

/// What pods' `resolv.conf` is made from; shared by all that write it.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    state: Arc<RwLock<State>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    server: Option<Ipv4Addr>,
    host: Resolv,
}

impl Resolver {
    pub fn new(server: Option<Ipv4Addr>) -> Self {
        let resolver = Self::default();
        resolver.update(server);
        resolver
    }

    /// Takes note of the node's server, and reads the host's file; whether anything changed.
    pub fn update(&self, server: Option<Ipv4Addr>) -> bool {
        let host = of_host(|path| std::fs::read_to_string(path).ok());
        let next = State { server, host };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let differs = *state != next;
        *state = next;
        differs
    }

    /// A pod's file; `None`: the host's own serves.
    pub fn text(&self, dns: &Dns) -> Option<String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        of_pod(dns, state.server, &state.host)
    }
}
