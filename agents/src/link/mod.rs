//! The seam to the master: what the agent asks and tells, always by dialling out.
//!
//! [`https`] is the real one. What deliberately does not live here: when to ask and what to do
//! with answers; that is the worker's.

pub mod https;
pub mod join;
pub mod retry;
pub mod tls;
pub mod token;

use std::future::Future;

use kgit_protocol::messages::{Acknowledged, Heartbeat, Lease, Pull, Pulled, Report};
use kgit_protocol::usage::Usage;

use tokio::io::{AsyncRead, AsyncWrite};

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the master can't be reached: {0}")]
    Unreachable(String),
    /// The master's own words: a reason for programs, a message for people.
    #[error("the master refused ({reason}): {message}")]
    Refused { reason: String, message: String },
    #[error("the master's answer makes no sense: {0}")]
    Nonsense(String),
    #[error("the join token can't be used: {0}")]
    Token(&'static str),
    #[error("the node's key or certificate can't be used: {0}")]
    Certificate(String),
}

impl LinkError {
    /// Whether the master does not count this node as a member, or no longer.
    pub fn is_no_member(&self) -> bool {
        let reasons = ["NotAMember", "NodeRemoved"];
        matches!(self, Self::Refused { reason, .. } if reasons.contains(&reason.as_str()))
    }
}

pub type Answer<T> = Result<T, LinkError>;

/// Bytes both ways.
pub type Wire = Box<dyn Duplex>;

/// What a [`Wire`] can do.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The way to the master.
pub trait Link: Send + Sync + 'static {
    /// A long poll: returns when there is something new or the time is up.
    fn pull(&self, pull: &Pull) -> impl Future<Output = Answer<Pulled>> + Send;
    fn report(&self, report: &Report) -> impl Future<Output = Answer<Acknowledged>> + Send;
    fn heartbeat(&self, heartbeat: &Heartbeat) -> impl Future<Output = Answer<Lease>> + Send;
    /// Tells figures, once.
    fn usage(&self, usage: &Usage) -> impl Future<Output = Answer<()>> + Send;
    /// A connection on which the master asks for streams (`kgit_protocol::stream`).
    fn tunnel(&self) -> impl Future<Output = Answer<Wire>> + Send;
    /// Asks to be a member again, since the master said that this node is none.
    fn join_again(&self) -> impl Future<Output = Answer<()>> + Send;
    fn leave(&self) -> impl Future<Output = Answer<()>> + Send;
}
