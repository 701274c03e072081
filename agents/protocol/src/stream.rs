//! The tunnel: one connection per node that the agent dials, on which the master is the HTTP/2
//! client and the agent the server (docs/decisions/0008).
//!
//! Each stream is one `POST /stream`, whose body flows both ways. It consists of frames: four
//! bytes with a length, most significant first, then as many bytes. The first frame that the
//! master sends is a [`StreamRequest`] in JSON. What follows depends on what is asked:
//!
//! | request                | master → agent                      | agent → master              |
//! | ---------------------- | ----------------------------------- | --------------------------- |
//! | `Logs`                 | nothing                             | the log's bytes, no frames  |
//! | `Exec`, `Attach`       | frames, each led by its [`Channel`] | the same                    |
//! | `Connect`              | bytes, no frames                    | bytes, no frames            |
//!
//! The agent answers 200 once the stream is open, else with a [`crate::messages::Refusal`]. A
//! stream names a pod's uid and a container or a port, never an address: the agent resolves it.

use serde::{Deserialize, Serialize};

use crate::ids::PodUid;
use crate::time::Timestamp;

/// What `GET /agent/v1/tunnel` asks to be upgraded to.
pub const TUNNEL_UPGRADE: &str = "kgit-tunnel";
/// Where on the tunnel streams are asked for.
pub const STREAM_PATH: &str = "/stream";
/// How long the length in front of a frame is itself.
pub const FRAME_HEAD_BYTES: usize = 4;
/// A frame's length at most: what a client's message carries is cut to this.
pub const MAX_FRAME_BYTES: usize = 128 * 1024;
/// Streams of one tunnel at a time: 50 people with a few windows each, and a port-forward that
/// serves a browser.
pub const MAX_STREAMS: u32 = 512;
/// Bytes under way that a stream's reader has not taken: 25 MB/s at 20 ms of round trip.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// The same of all streams together. As much as all of them may have, so that readers who are
/// slow never hold up the others.
pub const TUNNEL_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * MAX_STREAMS;
/// Either side pings as often as this, and takes the other for dead when no answer comes for as
/// long again.
pub const TUNNEL_PING_SECONDS: u64 = 10;

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRequest {
    Logs(LogRequest),
    /// Run a command in a container.
    Exec(ExecRequest),
    /// Join the container's own process.
    Attach(AttachRequest),
    /// Connect to a port of a pod.
    Connect(ConnectRequest),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    pub pod: PodUid,
    pub container: String,
    #[serde(default)]
    pub follow: bool,
    /// The container before this one.
    #[serde(default)]
    pub previous: bool,
    #[serde(default)]
    pub timestamps: bool,
    #[serde(default)]
    pub tail_lines: Option<u64>,
    #[serde(default)]
    pub since: Option<Timestamp>,
    #[serde(default)]
    pub limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub pod: PodUid,
    pub container: String,
    pub command: Vec<String>,
    pub ends: Ends,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    pub pod: PodUid,
    pub container: String,
    pub ends: Ends,
}

/// Which of a process's three streams are wanted, and whether a terminal is between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    #[serde(default)]
    pub stdin: bool,
    #[serde(default)]
    pub stdout: bool,
    #[serde(default)]
    pub stderr: bool,
    #[serde(default)]
    pub tty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectRequest {
    pub pod: PodUid,
    pub port: u16,
}

/// The first byte of a frame of `Exec` and `Attach`: the numbers of Kubernetes' own
/// `v5.channel.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdin,
    Stdout,
    Stderr,
    /// A [`StreamEnd`]: nothing follows.
    End,
    /// A [`TerminalSize`].
    Resize,
    /// Standard input ends here; the rest goes on.
    CloseStdin,
}

impl Channel {
    pub fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::End => 3,
            Self::Resize => 4,
            Self::CloseStdin => 255,
        }
    }

    pub fn of_number(number: u8) -> Option<Self> {
        let all =
            [Self::Stdin, Self::Stdout, Self::Stderr, Self::End, Self::Resize, Self::CloseStdin];
        all.into_iter().find(|channel| channel.number() == number)
    }
}

/// A frame as it stands in a stream: its length, then `parts` one after the other.
pub fn frame(parts: [&[u8]; 2]) -> Vec<u8> {
    let length = parts[0].len() + parts[1].len();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + length);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(parts[0]);
    frame.extend_from_slice(parts[1]);
    frame
}

/// The length that a frame's head tells, and `None` if it is more than any frame may have.
pub fn frame_length(head: [u8; FRAME_HEAD_BYTES]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(head)).ok()?;
    (length <= MAX_FRAME_BYTES).then_some(length)
}

/// In characters; the names are those of Kubernetes' resize messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    #[serde(rename = "Width")]
    pub width: u16,
    #[serde(rename = "Height")]
    pub height: u16,
}

/// How an `Exec` or `Attach` ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamEnd {
    /// The command ended by itself.
    Exited { code: i64 },
    /// What was attached to closed its streams.
    Detached,
    /// It could not be run or followed to its end.
    Failed { message: String },
}
