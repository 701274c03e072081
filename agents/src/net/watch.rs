//! What the kernel says of changes that others make: somebody flushed tables, a bridge came, a
//! route went. Netlink's own broadcasts, so waiting costs nothing.

use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::Arc;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use crate::net::kernel::OwnChange;

/// RTMGRP_LINK and RTMGRP_IPV4_ROUTE of `linux/rtnetlink.h`.
const ROUTE_GROUPS: u32 = 0x1 | 0x40;
/// NFNLGRP_NFTABLES of `linux/netfilter/nfnetlink.h` is 7, as a bit.
const NFTABLES_GROUP: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWGEN of `linux/netfilter/nf_tables.h`.
const NEW_GENERATION: u16 = (10 << 8) | 15;
/// NFTA_GEN_PROC_PID of the same.
const GENERATION_PID: u16 = 2;
/// `struct nlmsghdr` and the `struct nfgenmsg` after it.
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;
/// Larger than any datagram of the kernel's.
const BUFFER_BYTES: usize = 64 << 10;

/// Tables in which others drop what they did not ask for.
const FILTERS: [&[u8]; 2] = [b"filter\0", b"firewalld\0"];

/// Something that `net` does not have in its own hands changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody else changed kgit's table, or messages were lost.
    OwnTable,
    /// Somebody changed a table in which others filter: `iptables`' or `firewalld`'s.
    Filter,
    /// Links or routes.
    Links,
}

/// Listens until the receiver has gone.
///
/// # Errors
/// If the kernel gives no such socket; then only slow checks are left.
pub fn listen(table: String, own: Arc<OwnChange>, changes: mpsc::Sender<Change>) -> io::Result<()> {
    let links = open(None, ROUTE_GROUPS)?;
    let to = changes.clone();
    tokio::spawn(async move {
        while let Some(_bytes) = next(&links).await {
            if to.send(Change::Links).await.is_err() {
                return;
            }
        }
    });
    let rules = open(Some(NETFILTER), NFTABLES_GROUP)?;
    tokio::spawn(async move {
        let mut reader = Reader::new(&table);
        while let Some(bytes) = next(&rules).await {
            let found = match bytes {
                Some(bytes) => reader.read(&bytes, |pid| own.is(pid)),
                None => vec![Change::OwnTable, Change::Filter],
            };
            for change in found {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(())
}

/// Without a protocol: routes and links, whose number is 0.
fn open(protocol: Option<rustix::net::Protocol>, groups: u32) -> io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    // Receiving is the same call for every socket of datagrams, and tokio knows this kind.
    UnixDatagram::from_std(StdDatagram::from(socket))
}

/// The next datagram, `Some(None)` if some were lost, `None` if there will be no more.
async fn next(socket: &UnixDatagram) -> Option<Option<Vec<u8>>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let lost = rustix::io::Errno::NOBUFS.raw_os_error();
    match socket.recv(&mut buffer).await {
        Ok(length) => {
            buffer.truncate(length);
            Some(Some(buffer))
        }
        Err(error) if error.raw_os_error() == Some(lost) => Some(None),
        Err(_) => None,
    }
}

/// Puts messages together until the generation that they belong to is named with its author.
struct Reader {
    own: Vec<u8>,
    own_touched: bool,
    filter_touched: bool,
}

impl Reader {
    fn new(table: &str) -> Self {
        // Attributes hold names with a zero at their end.
        let own = [table.as_bytes(), &[0]].concat();
        Self { own, own_touched: false, filter_touched: false }
    }

    fn read(&mut self, bytes: &[u8], is_own: impl Fn(u32) -> bool) -> Vec<Change> {
        let mut found = Vec::new();
        for message in messages(bytes) {
            if kind(message) != Some(NEW_GENERATION) {
                self.own_touched |= contains(message, &self.own);
                self.filter_touched |= FILTERS.iter().any(|name| contains(message, name));
                continue;
            }
            let by_us = author(message).is_some_and(&is_own);
            if std::mem::take(&mut self.own_touched) && !by_us {
                found.push(Change::OwnTable);
            }
            if std::mem::take(&mut self.filter_touched) {
                found.push(Change::Filter);
            }
        }
        found
    }
}

fn messages(bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(length) = number_32(rest, 0).map(|length| length as usize) {
        if length < HEADER_BYTES || length > rest.len() {
            break;
        }
        all.push(&rest[..length]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn kind(message: &[u8]) -> Option<u16> {
    number_16(message, 4)
}

/// The process that a generation is of.
fn author(message: &[u8]) -> Option<u32> {
    let mut rest = message.get(HEADER_BYTES + FAMILY_BYTES..)?;
    while let Some(length) = number_16(rest, 0).map(usize::from) {
        if length < 4 {
            return None;
        }
        if number_16(rest, 2)? == GENERATION_PID {
            let bytes = rest.get(4..8)?;
            return Some(u32::from_be_bytes(bytes.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn number_16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number_32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((20 + body.len() as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn generation(pid: u32) -> Vec<u8> {
        let mut body = Vec::new();
        // The generation's number comes first.
        for (kind, value) in [(1u16, 7), (GENERATION_PID, pid)] {
            body.extend(8u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(u32::to_be_bytes(value));
        }
        message(NEW_GENERATION, &body)
    }

    #[test]
    fn what_others_do_to_the_table_is_told_and_what_we_do_is_not() {
        let read = |name: &[u8], pid| {
            let bytes = [message(0x0a02, name), generation(pid)].concat();
            Reader::new("kgit_1").read(&bytes, |pid| pid == 5)
        };
        assert_eq!(read(b"kgit_1\0", 6), [Change::OwnTable]);
        assert_eq!(read(b"kgit_1\0", 5), []);
        assert_eq!(read(b"kgit_12\0", 6), []);
        assert_eq!(read(b"filter\0", 6), [Change::Filter]);
        assert_eq!(read(b"firewalld\0", 6), [Change::Filter]);
    }

    #[test]
    fn a_cut_off_message_is_not_read() {
        let bytes = message(0x0a02, b"kgit_1\0");
        assert!(messages(&bytes[..10]).is_empty());
        assert_eq!(author(&bytes[..20]), None);
    }
}
