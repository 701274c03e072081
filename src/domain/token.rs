//! Tokens: who may talk to the master, and as what.

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Make one node a member of the cluster; nothing else.
    Join,
    /// See everything but the values of Secrets.
    Read,
    /// Also approve, prune, and write through the API.
    Write,
    /// Also tokens, nodes, backups, and the values of Secrets.
    Admin,
}

/// A token as it is stored: the secret itself is shown once and kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Public: names the token in its own text and in `kgit token list`.
    pub id: String,
    /// Who is behind it; the audit's "by".
    pub name: String,
    pub role: Role,
    pub secret_hash: Digest,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    /// `None`: any number of times. Join tokens are good for one by default.
    pub uses_left: Option<u32>,
    pub revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOrder {
    Create(Token),
    Revoke {
        id: String,
    },
    /// A join token was used.
    Spend {
        id: String,
    },
}
