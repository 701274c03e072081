//! Connections to a container's ports. What listens on its loopback alone is reached as well, as
//! in Kubernetes: the connection is made in the container's own network namespace.
#![allow(clippy::disallowed_methods, reason = "part of the shell: a namespace is a file")]

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as Blocking};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::runtime::docker::Docker;
use crate::runtime::{Outcome, Runtime as _, RuntimeError};

/// Nothing is nearer than one's own host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Docker {
    pub(super) async fn dial(
        &self,
        id: &str,
        address: Option<Ipv4Addr>,
        port: u16,
    ) -> Outcome<TcpStream> {
        let pid = self.process(id).await?.ok_or_else(|| RuntimeError::Gone(id.to_owned()))?;
        let refused = |error: std::io::Error| {
            RuntimeError::Refused(format!("failed to connect to port {port}: {error}"))
        };
        match inside(pid, port).await {
            // The agent does not run as root: from outside, then.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let host = address.unwrap_or(Ipv4Addr::LOCALHOST);
                let dialled =
                    tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)));
                let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
                dialled.await.map_err(late).flatten().map_err(refused)
            }
            Err(error) => Err(refused(error)),
            Ok(stream) => {
                stream.set_nonblocking(true).map_err(refused)?;
                TcpStream::from_std(stream).map_err(refused)
            }
        }
    }
}

/// Connects in the network namespace of a process. A namespace belongs to a thread, so this takes
/// one of its own, which ends with it.
async fn inside(pid: u32, port: u16) -> std::io::Result<Blocking> {
    let (reply, connected) = oneshot::channel();
    let work = move || {
        // Whoever waited may have gone.
        let _ = reply.send(connect(pid, port));
    };
    std::thread::Builder::new().name("kgit-port".to_owned()).spawn(work)?;
    connected.await.unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")))
}

fn connect(pid: u32, port: u16) -> std::io::Result<Blocking> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = Blocking::connect_timeout(&v4, CONNECT_TIMEOUT).or_else(|error| {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        Blocking::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| error)
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
