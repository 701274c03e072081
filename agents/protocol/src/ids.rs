//! Identifiers. Each is a type of its own, so that one can't be passed for another. Texts are
//! shared, since rows, indexes and messages hold copies of them everywhere.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

text_id! {
    /// Names one cluster, for as long as its data directory lives: 16 hexadecimal digits.
    ClusterId
}
text_id! {
    /// A node's name: a DNS-1123 subdomain, unique in the cluster.
    NodeName
}
text_id! {
    /// A pod's uid: shaped like a UUID, derived from the cluster, the owner and the owner's counter.
    PodUid
}
text_id! {
    /// Chosen afresh by each start of an agent process; reports are numbered within it.
    BootId
}
text_id! {
    /// SHA-256 in hexadecimal digits.
    Digest
}

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::new(hex(&Sha256::digest(bytes)))
    }

    /// The first 12 digits: enough to recognise, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Lower-case hexadecimal digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Counts the lives of the master's record: bumped when the master finds that it was restored
    /// from a backup, so that orders of the lost life can be told from its own.
    Epoch
}
counter! {
    /// Counts the assignment sets issued to one node within an epoch.
    Generation
}
counter! {
    /// Counts the containers made for one container of a pod, from 0.
    Attempt
}
