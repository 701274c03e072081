//! Bytes that only a node has: a handler asks for a stream, the node's next pull carries the
//! request, and the agent dials out with the answer. Nobody ever dials the agent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::{StreamKind, StreamRequest};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

/// How long an agent may take to dial out: a pull's round trip through a slow uplink, twice.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Streams of one node at a time, those under way included. Each is a connection or an HTTP/2
/// stream of the agent.
const MAX_STREAMS_PER_NODE: usize = 64;
/// Streams of the whole cluster at a time.
const MAX_STREAMS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamRefused {
    #[error("node `{0}` did not answer in time; is its agent running? `kgit get nodes` tells")]
    NoAnswer(NodeName),
    #[error("too many streams are open; close some and try again")]
    TooMany,
    #[error("nobody waits for this stream")]
    NobodyWaits,
    #[error("{0}")]
    Agent(String),
}

/// The streams that are asked for or under way.
#[derive(Debug)]
pub struct Streams {
    inner: Mutex<Inner>,
    asked: watch::Sender<u64>,
    open_timeout: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    wanted: BTreeMap<String, Wanted>,
    open: BTreeMap<NodeName, usize>,
}

#[derive(Debug)]
struct Wanted {
    node: NodeName,
    request: StreamRequest,
    handed_out: bool,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Answer {
    refusal: Option<String>,
    body: Body,
    /// Dropped when the reader is done; the agent's request ends with it.
    done: oneshot::Sender<()>,
}

/// One stream's place among the limited number; gives it back when dropped.
#[derive(Debug)]
struct Seat<'a> {
    streams: &'a Streams,
    node: NodeName,
    id: String,
}

impl Default for Streams {
    fn default() -> Self {
        Self { inner: Mutex::default(), asked: watch::Sender::new(0), open_timeout: OPEN_TIMEOUT }
    }
}

impl Streams {
    /// Asks `node` for a stream and waits for its first answer. Dropping the returned stream
    /// ends the agent's side.
    pub async fn open(
        &self,
        node: &NodeName,
        kind: StreamKind,
    ) -> Result<impl Stream<Item = Result<Bytes, axum::Error>> + Send + use<>, StreamRefused> {
        let (reply, answer) = oneshot::channel();
        let seat = self.ask(node, kind, reply)?;
        let answer = tokio::time::timeout(self.open_timeout, answer).await;
        drop(seat);
        match answer {
            Ok(Ok(Answer { refusal: Some(message), .. })) => Err(StreamRefused::Agent(message)),
            Ok(Ok(Answer { body, done, .. })) => Ok(with_guard(body, done)),
            Ok(Err(_)) | Err(_) => Err(StreamRefused::NoAnswer(node.clone())),
        }
    }

    fn ask(
        &self,
        node: &NodeName,
        kind: StreamKind,
        reply: oneshot::Sender<Answer>,
    ) -> Result<Seat<'_>, StreamRefused> {
        let mut inner = self.lock();
        let of_node = inner.open.get(node).copied().unwrap_or(0)
            + inner.wanted.values().filter(|wanted| wanted.node == *node).count();
        let of_all = inner.wanted.len() + inner.open.values().sum::<usize>();
        if of_node >= MAX_STREAMS_PER_NODE || of_all >= MAX_STREAMS {
            return Err(StreamRefused::TooMany);
        }
        inner.next += 1;
        let id = inner.next.to_string();
        let request = StreamRequest { id: id.clone(), kind };
        let wanted = Wanted { node: node.clone(), request, handed_out: false, reply };
        inner.wanted.insert(id.clone(), wanted);
        drop(inner);
        self.asked.send_modify(|asked| *asked += 1);
        Ok(Seat { streams: self, node: node.clone(), id })
    }

    /// Wakes when somebody asks for a stream of some node.
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// The requests that `node` does not know of yet.
    pub fn hand_out(&self, node: &NodeName) -> Vec<StreamRequest> {
        let mut inner = self.lock();
        let fresh = inner.wanted.values_mut().filter(|w| w.node == *node && !w.handed_out);
        fresh
            .map(|wanted| {
                wanted.handed_out = true;
                wanted.request.clone()
            })
            .collect()
    }

    /// Passes an agent's answer on, and returns when its reader is done with it.
    pub async fn answer(
        &self,
        node: &NodeName,
        id: &str,
        refusal: Option<String>,
        body: Body,
    ) -> Result<(), StreamRefused> {
        let (done, ended) = oneshot::channel();
        let reply = {
            let mut inner = self.lock();
            match inner.wanted.get(id) {
                Some(wanted) if wanted.node == *node => inner.wanted.remove(id),
                _ => None,
            }
        };
        let wanted = reply.ok_or(StreamRefused::NobodyWaits)?;
        let open = Open::count(self, node);
        wanted
            .reply
            .send(Answer { refusal, body, done })
            .map_err(|_| StreamRefused::NobodyWaits)?;
        // An error means that the sender was dropped: the reader is done.
        let _ = ended.await;
        drop(open);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.streams.lock().wanted.remove(&self.id);
        tracing::trace!(node = %self.node, stream = %self.id, "no longer waiting");
    }
}

/// Counts a stream that is under way.
struct Open<'a> {
    streams: &'a Streams,
    node: NodeName,
}

impl<'a> Open<'a> {
    fn count(streams: &'a Streams, node: &NodeName) -> Self {
        *streams.lock().open.entry(node.clone()).or_default() += 1;
        Self { streams, node: node.clone() }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut inner = self.streams.lock();
        if let Some(count) = inner.open.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.node);
            }
        }
    }
}

fn with_guard(
    body: Body,
    done: oneshot::Sender<()>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    let state = (body.into_data_stream(), done);
    stream::unfold(state, |(mut body, done)| async move {
        let item = body.next().await?;
        Some((item, (body, done)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kgit_protocol::ids::PodUid;
    use kgit_protocol::messages::LogRequest;
    use std::sync::Arc;

    fn logs() -> StreamKind {
        StreamKind::Logs(LogRequest {
            pod: PodUid::new("uid"),
            container: "web".to_owned(),
            follow: false,
            previous: false,
            timestamps: false,
            tail_lines: None,
            since: None,
            limit_bytes: None,
        })
    }

    async fn asked(streams: &Streams, node: &NodeName) -> StreamRequest {
        let mut asked = streams.asked();
        loop {
            if let Some(request) = streams.hand_out(node).pop() {
                return request;
            }
            asked.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn bytes_of_an_answer_arrive_and_the_agents_request_ends_with_the_reader() {
        let (streams, node) = (Arc::new(Streams::default()), NodeName::new("a"));
        let (agent, at) = (Arc::clone(&streams), node.clone());
        let answering = tokio::spawn(async move {
            let request = asked(&agent, &at).await;
            agent.answer(&at, &request.id, None, Body::from("hello\n")).await
        });
        let stream = streams.open(&node, logs()).await.unwrap();
        let read: Vec<Bytes> = Box::pin(stream).map(Result::unwrap).collect().await;
        assert_eq!(read, ["hello\n"]);
        answering.await.unwrap().unwrap();
        assert!(streams.lock().open.is_empty());
    }

    #[tokio::test]
    async fn a_node_can_not_answer_for_another() {
        let (streams, node) = (Arc::new(Streams::default()), NodeName::new("a"));
        let (agent, at) = (Arc::clone(&streams), node.clone());
        tokio::spawn(async move {
            let request = asked(&agent, &at).await;
            let other = NodeName::new("b");
            let stolen = agent.answer(&other, &request.id, None, Body::empty()).await;
            assert_eq!(stolen, Err(StreamRefused::NobodyWaits));
            let refusal = Some("no such pod".to_owned());
            let _ = agent.answer(&at, &request.id, refusal, Body::empty()).await;
        });
        let opened = streams.open(&node, logs()).await.map(|_| ());
        assert_eq!(opened, Err(StreamRefused::Agent("no such pod".to_owned())));
    }

    #[tokio::test]
    async fn an_agent_that_does_not_answer_is_given_up_on() {
        let open_timeout = Duration::from_millis(1);
        let streams = Streams { open_timeout, ..Streams::default() };
        let opened = streams.open(&NodeName::new("a"), logs()).await.map(|_| ());
        assert_eq!(opened, Err(StreamRefused::NoAnswer(NodeName::new("a"))));
        assert!(streams.lock().wanted.is_empty());
    }
}
