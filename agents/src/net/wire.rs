//! What the agent and `net` say to each other over the socket in the data directory: frames of
//! JSON, each after its length. Both ends are of one kgit or of two neighbouring ones, so fields
//! are added, never changed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ipnet::Ipv4Net;
use kgit_protocol::directory::Directory;
use kgit_protocol::ids::{Digest, NodeName, PodUid};
use kgit_protocol::observation::ServiceTrouble;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// A directory of 10,000 services with 10 endpoints each is about 20 MB.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// What the agent wants of `net`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Feed(Box<Feed>),
    /// A newer `net` takes over: close what it needs, touch the kernel's rules no more.
    HandOver,
    /// Take away everything from the kernel, and end.
    Remove,
}

/// Everything that traffic goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Counts up in one connection; answered with [`Applied::number`].
    pub number: u64,
    /// `None`: as before.
    #[serde(default)]
    pub directory: Option<Directory>,
    pub here: Here,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// The name that rules and chains go by: one for each cluster and node on a host.
    pub table: String,
    pub node: NodeName,
    pub bridge: String,
    /// The bridge's own address: names are answered there, and the host's own traffic to services
    /// comes from there.
    pub gateway: Ipv4Addr,
    pub pod_range: Ipv4Net,
    /// `host:port`, as this node reaches the master.
    pub master: String,
    pub pods: BTreeMap<PodUid, LocalPod>,
}

/// A pod of this node, as its agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPod {
    /// `None` on the host's network: the directory knows where it is reached.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Its containers are ready, whether it is being stopped or not.
    pub ready: bool,
    #[serde(default)]
    pub terminating: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The first frame of every connection.
    Hello {
        /// [`crate::net::build`] of the process that answers.
        build: String,
        /// The directory that it has.
        directory: Option<Digest>,
    },
    /// After each feed, and whenever something changes by itself.
    Applied(Applied),
    /// An order other than a feed was carried out.
    Done,
}

/// What stands in the kernel now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of the newest feed that is in force.
    pub number: u64,
    #[serde(default)]
    pub directory: Option<Digest>,
    /// Why cluster addresses don't work.
    #[serde(default)]
    pub rules: Option<Problem>,
    /// Why names are not answered.
    #[serde(default)]
    pub names: Option<Problem>,
    /// What else may keep services from being reached: the bridge, the route, other filters.
    #[serde(default)]
    pub ground: Option<Problem>,
    #[serde(default)]
    pub troubles: Vec<ServiceTrouble>,
}

/// A reason for programs and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub reason: String,
    pub message: String,
}

impl Problem {
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    frames: Framed<UnixStream, LengthDelimitedCodec>,
}

impl Wire {
    pub fn new(stream: UnixStream) -> Self {
        let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME_BYTES).new_codec();
        Self { frames: Framed::new(stream, codec) }
    }

    pub async fn send<T: Serialize>(&mut self, message: &T) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(std::io::Error::other)?;
        self.frames.send(Bytes::from(bytes)).await
    }

    /// `None` when the other end has gone.
    pub async fn next<T: DeserializeOwned>(&mut self) -> std::io::Result<Option<T>> {
        match self.frames.next().await {
            Some(Ok(bytes)) => {
                serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other)
            }
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }
}
