//! Sockets that `net` opens: shared with the process that takes over from it, and at addresses
//! that need not be there yet.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long to wait when accepting fails, as it does when file descriptors run out.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(100);

pub fn udp(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bound(at, SocketType::DGRAM)?;
    UdpSocket::from_std(socket.into())
}

pub fn tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(at, SocketType::STREAM)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bound(at: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, flags, None)?;
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    sockopt::set_socket_reuseport(&socket, true)?;
    if at.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    }
    bind(&socket, &at)?;
    Ok(socket)
}
