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

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
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

impl TokenOrder {
    /// The token that it is about.
    pub fn id(&self) -> &str {
        match self {
            Self::Create(token) => &token.id,
            Self::Revoke { id } | Self::Spend { id } => id,
        }
    }

    /// What becomes of the token, which is `None` if there is none of that id.
    pub fn carry_out(&self, token: Option<Token>) -> Result<Token, TokenRefusal> {
        match (self, token) {
            (Self::Create(token), None) => Ok(token.clone()),
            (Self::Create(_), Some(_)) => Err(TokenRefusal::Exists),
            (Self::Revoke { .. } | Self::Spend { .. }, None) => Err(TokenRefusal::Unknown),
            (Self::Revoke { .. }, Some(token)) => Ok(Token { revoked: true, ..token }),
            (Self::Spend { .. }, Some(token)) => spent(token),
        }
    }
}

fn spent(token: Token) -> Result<Token, TokenRefusal> {
    if token.revoked || token.uses_left == Some(0) {
        return Err(TokenRefusal::Spent);
    }
    let uses_left = token.uses_left.map(|uses| uses - 1);
    Ok(Token { uses_left, ..token })
}

/// Why an order about a token can't be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error("there is one of this id already")]
    Exists,
    #[error("there is no such token")]
    Unknown,
    #[error("it was used up or revoked")]
    Spent,
}
