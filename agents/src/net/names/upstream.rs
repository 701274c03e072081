//! Asks the host's own servers: one after the other, over UDP, and over TCP where the question
//! came that way.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it reads the host's settings")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::link::tls::random;
use crate::net::names::resolv;

/// How long one server gets for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Each server is asked so often: datagrams get lost.
const ROUNDS: usize = 2;
const PORT: u16 = 53;
const DATAGRAM_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Datagram,
    Stream,
}

/// The answer of the first of the host's servers that gives one.
pub async fn ask(question: &[u8], way: Way, own: Ipv4Addr) -> Option<Vec<u8>> {
    let host = resolv::of_host(|path| std::fs::read_to_string(path).ok());
    for _ in 0..ROUNDS {
        // Asking itself would go round in circles.
        for server in host.nameservers.iter().filter(|server| **server != IpAddr::V4(own)) {
            let server = SocketAddr::new(*server, PORT);
            let asked = async {
                match way {
                    Way::Datagram => by_datagram(question, server).await,
                    Way::Stream => by_stream(question, server).await,
                }
            };
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
    }
    None
}

/// From a socket and with a number of its own, so that nobody else can guess an answer.
async fn by_datagram(question: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let number: [u8; 2] = random();
    socket.send(&numbered(question, number)).await?;
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if fits(question, number, &buffer[..length]) {
            return Ok(numbered(&buffer[..length], first_two(question)));
        }
    }
}

async fn by_stream(question: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_frame(&mut stream, question).await?;
    read_frame(&mut stream).await
}

/// Whether these bytes answer the question that was sent with this number.
fn fits(question: &[u8], number: [u8; 2], answer: &[u8]) -> bool {
    let same_question = || {
        let (asked, answered) =
            (Message::from_vec(question).ok()?, Message::from_vec(answer).ok()?);
        Some(asked.queries == answered.queries)
    };
    first_two(answer) == number && same_question().unwrap_or(false)
}

fn first_two(bytes: &[u8]) -> [u8; 2] {
    [bytes.first().copied().unwrap_or_default(), bytes.get(1).copied().unwrap_or_default()]
}

fn numbered(bytes: &[u8], number: [u8; 2]) -> Vec<u8> {
    let rest = bytes.get(2..).unwrap_or_default();
    [&number[..], rest].concat()
}

/// A message on a stream comes after its length.
pub async fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

pub async fn write_frame(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut all = length.to_be_bytes().to_vec();
    all.extend(bytes);
    stream.write_all(&all).await
}
