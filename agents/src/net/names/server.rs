//! Answers questions at the bridge's own address, over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Name;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::net::names::message::{Reply, datagram, failed, parse, reply};
use crate::net::names::upstream::{self, Way, read_frame, write_frame};
use crate::net::names::zone::Zone;
use crate::net::open;

const PORT: u16 = 53;
/// Questions under way at a time; what comes beyond is dropped, and asked again by the resolver.
const MOST_QUESTIONS: usize = 512;
const MOST_STREAMS: usize = 128;
/// A stream that asks nothing for so long is closed.
const STREAM_IDLE: Duration = Duration::from_secs(10);
/// Aliases of aliases are followed so far.
const MOST_ALIASES: usize = 8;
const DATAGRAM_BYTES: usize = 4096;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    own: Ipv4Addr,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Where it answers.
    pub fn own(&self) -> Ipv4Addr {
        self.own
    }
}

#[derive(Clone)]
struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    own: Ipv4Addr,
}

/// Takes the name server's port at this address, which need not be there yet.
pub fn start(own: Ipv4Addr, zone: watch::Receiver<Arc<Zone>>) -> io::Result<Server> {
    let at = SocketAddr::from((own, PORT));
    let (datagrams, streams) = (open::udp(at)?, open::tcp(at)?);
    let shared = Shared { zone, own };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_datagrams(Arc::new(datagrams), shared.clone()));
    tasks.spawn(serve_streams(streams, shared));
    Ok(Server { own, _tasks: tasks })
}

async fn serve_datagrams(socket: Arc<UdpSocket>, shared: Shared) {
    let slots = Arc::new(Semaphore::new(MOST_QUESTIONS));
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        // An error here is an earlier answer that could not be delivered.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (bytes, socket, shared) =
            (buffer[..length].to_vec(), Arc::clone(&socket), shared.clone());
        tokio::spawn(async move {
            let _slot = slot;
            if let Some(answer) = answer(&shared, &bytes, Way::Datagram).await {
                // The asker may have gone.
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_streams(listener: TcpListener, shared: Shared) {
    let slots = Arc::new(Semaphore::new(MOST_STREAMS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(open::AFTER_REFUSAL).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _slot = slot;
            while converse(&mut stream, &shared).await.is_some() {}
        });
    }
}

/// One question on a stream; `None` when there will be no more.
async fn converse(stream: &mut TcpStream, shared: &Shared) -> Option<()> {
    let asked = tokio::time::timeout(STREAM_IDLE, read_frame(stream)).await.ok()?.ok()?;
    let answer = answer(shared, &asked, Way::Stream).await?;
    write_frame(stream, &answer).await.ok()
}

async fn answer(shared: &Shared, bytes: &[u8], way: Way) -> Option<Vec<u8>> {
    let query = parse(bytes)?;
    let zone = Arc::clone(&shared.zone.borrow());
    let message = match reply(&zone, &query) {
        Reply::Send(message) => message,
        Reply::Forward => match upstream::ask(bytes, way, shared.own).await {
            Some(answer) => return Some(answer),
            None => failed(&query, ResponseCode::ServFail),
        },
        Reply::Chase { partial, target } => chase(shared, &zone, &query, partial, target).await,
    };
    match way {
        Way::Datagram => datagram(&query, &message),
        Way::Stream => message.to_vec().ok(),
    }
}

/// Follows an alias to what was asked for, here or upstream.
async fn chase(
    shared: &Shared,
    zone: &Zone,
    query: &Message,
    mut partial: Message,
    mut target: Name,
) -> Message {
    let kind = query.queries.first().map(Query::query_type).unwrap_or_else(|| {
        // Only a query with one question is ever answered by an alias.
        hickory_proto::rr::RecordType::A
    });
    for _ in 0..MOST_ALIASES {
        let mut next = Message::query();
        next.metadata.recursion_desired = true;
        next.add_query(Query::query(target.clone(), kind));
        match reply(zone, &next) {
            Reply::Send(found) => {
                partial.add_answers(found.answers);
                return partial;
            }
            Reply::Chase { partial: found, target: further } => {
                partial.add_answers(found.answers);
                target = further;
            }
            Reply::Forward => {
                let Ok(bytes) = next.to_vec() else { return partial };
                let answer = upstream::ask(&bytes, Way::Datagram, shared.own).await;
                match answer.and_then(|bytes| Message::from_vec(&bytes).ok()) {
                    Some(found) => partial.add_answers(found.answers),
                    None => return failed(query, ResponseCode::ServFail),
                };
                return partial;
            }
        }
    }
    failed(query, ResponseCode::ServFail)
}
