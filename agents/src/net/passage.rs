//! Carries bytes from a port of this host to somewhere else: to the master, for the `kubernetes`
//! service; and to pods, on a node whose kernel takes no rules.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kgit_protocol::pod::Protocol;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::net::open;
use crate::net::rules::ports::HostPort;

/// Connections that one port carries at a time.
const MOST_CONNECTIONS: usize = 4096;
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// A client that sent nothing for so long has no way back any more, as in the kernel's own table.
const DATAGRAM_IDLE: Duration = Duration::from_secs(60);
const MOST_DATAGRAM_CLIENTS: usize = 1024;
const DATAGRAM_BYTES: usize = 65_535;

/// Connections under way, for a process that is to end after them.
pub type Underway = Arc<AtomicUsize>;

/// A port that leads to the master.
#[derive(Debug)]
pub struct ToMaster {
    pub port: u16,
    at: Ipv4Addr,
    master: watch::Sender<String>,
    task: JoinHandle<()>,
}

/// Where pods expect an API server; another one serves as well, since rules lead there.
const WANTED_PORT: u16 = 6443;

impl ToMaster {
    pub fn open(at: Ipv4Addr, master: &str, underway: Underway) -> io::Result<Self> {
        let listener = open::tcp(SocketAddr::from((at, WANTED_PORT)))
            .or_else(|_| open::tcp(SocketAddr::from((at, 0))))?;
        let port = listener.local_addr()?.port();
        let (sender, receiver) = watch::channel(master.to_owned());
        let dial = move || {
            let master = receiver.borrow().clone();
            async move { TcpStream::connect(master).await }
        };
        let task = tokio::spawn(accept(listener, dial, underway));
        Ok(Self { port, at, master: sender, task })
    }

    pub fn serves(&self, at: Ipv4Addr) -> bool {
        self.at == at
    }

    pub fn lead_to(&self, master: &str) {
        self.master.send_if_modified(|known| {
            let differs = known != master;
            master.clone_into(known);
            differs
        });
    }
}

impl Drop for ToMaster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<D, F>(listener: TcpListener, dial: D, underway: Underway)
where
    D: Fn() -> F + Send + 'static,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok((mut from, _)) = listener.accept().await else {
            tokio::time::sleep(open::AFTER_REFUSAL).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (dialled, underway) = (dial(), Arc::clone(&underway));
        underway.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            let _slot = slot;
            if let Ok(Ok(mut to)) = tokio::time::timeout(DIAL_PATIENCE, dialled).await {
                // Either end may hang up whenever it likes.
                let _ = from.set_nodelay(true);
                let _ = to.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }
            underway.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// Ports of the node that lead to pods by copying.
#[derive(Debug, Default)]
pub struct OpenPorts {
    open: BTreeMap<HostPort, OpenPort>,
}

#[derive(Debug)]
struct OpenPort {
    targets: watch::Sender<Vec<SocketAddrV4>>,
    task: JoinHandle<()>,
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenPorts {
    /// Opens, redirects and closes ports; what can't be opened is told. A port without a target is
    /// closed, so that it is refused.
    pub fn set(
        &mut self,
        wanted: &BTreeMap<HostPort, Vec<SocketAddrV4>>,
        underway: &Underway,
    ) -> Vec<(HostPort, io::Error)> {
        let leads = |port: &HostPort| wanted.get(port).is_some_and(|targets| !targets.is_empty());
        self.open.retain(|port, _| leads(port));
        let mut refused = Vec::new();
        for (port, targets) in wanted.iter().filter(|(port, _)| leads(port)) {
            if let Some(open) = self.open.get(port) {
                open.targets.send_replace(targets.clone());
                continue;
            }
            match open_port(*port, targets.clone(), Arc::clone(underway)) {
                Ok(open) => {
                    self.open.insert(*port, open);
                }
                Err(error) => refused.push((*port, error)),
            }
        }
        refused
    }

    pub fn is_open(&self, port: HostPort) -> bool {
        self.open.contains_key(&port)
    }
}

fn open_port(
    (protocol, port): HostPort,
    targets: Vec<SocketAddrV4>,
    underway: Underway,
) -> io::Result<OpenPort> {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let (sender, receiver) = watch::channel(targets);
    let task = match protocol {
        Protocol::Udp => tokio::spawn(carry_datagrams(Arc::new(open::udp(at)?), receiver)),
        Protocol::Tcp | Protocol::Sctp => {
            let dial = move || {
                let target = any(&receiver);
                async move {
                    let target = target.ok_or(io::ErrorKind::ConnectionRefused)?;
                    TcpStream::connect(target).await
                }
            };
            tokio::spawn(accept(open::tcp(at)?, dial, underway))
        }
    };
    Ok(OpenPort { targets: sender, task })
}

fn any(targets: &watch::Receiver<Vec<SocketAddrV4>>) -> Option<SocketAddrV4> {
    let targets = targets.borrow();
    let chance = usize::from(u16::from_ne_bytes(crate::link::tls::random()));
    targets.get(chance % targets.len().max(1)).copied()
}

/// One socket for each client, so that answers find back.
async fn carry_datagrams(socket: Arc<UdpSocket>, targets: watch::Receiver<Vec<SocketAddrV4>>) {
    let mut clients: BTreeMap<SocketAddr, (Arc<UdpSocket>, JoinHandle<()>)> = BTreeMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // An error here is an earlier answer that could not be delivered.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        clients.retain(|_, (_, answers)| !answers.is_finished());
        if !clients.contains_key(&from) && clients.len() < MOST_DATAGRAM_CLIENTS {
            let Some(target) = any(&targets) else { continue };
            let Ok(to) = dial_datagrams(target).await else { continue };
            let answers = tokio::spawn(carry_back(Arc::clone(&to), Arc::clone(&socket), from));
            clients.insert(from, (to, answers));
        }
        if let Some((to, _)) = clients.get(&from) {
            // Datagrams may be lost.
            let _ = to.send(&buffer[..length]).await;
        }
    }
}

async fn dial_datagrams(target: SocketAddrV4) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(target).await?;
    Ok(Arc::new(socket))
}

async fn carry_back(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while let Ok(Ok(length)) = tokio::time::timeout(DATAGRAM_IDLE, from.recv(&mut buffer)).await {
        // Datagrams may be lost.
        let _ = to.send_to(&buffer[..length], client).await;
    }
}
