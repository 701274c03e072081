//! How one audit entry is bound to the one before it.
//!
//! `body_digest = HMAC-SHA256(audit key, body)` and
//! `digest = SHA256(previous digest, sequence, at, reconcile, body_digest)`: the chain covers
//! keyed digests and not the texts, so a text can be taken out without breaking it, and a short
//! text can't be guessed from its digest.

use hmac::{Hmac, KeyInit as _, Mac as _};
use kgit_protocol::ids::{ClusterId, Digest, hex};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use sha2::{Digest as _, Sha256};

/// The 32 bytes that body digests are keyed with.
#[derive(Clone)]
pub(super) struct AuditKey(pub(super) Vec<u8>);

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey(…)")
    }
}

impl AuditKey {
    pub(super) fn digest(&self, body: &[u8]) -> Digest {
        Digest::new(hex(&keyed(&self.0, body)))
    }
}

fn keyed(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(bytes).finalize().into_bytes().to_vec(),
        // HMAC takes keys of any length.
        Err(_) => unreachable!("an HMAC key of any length is good"),
    }
}

/// What stands before the first entry. It names the cluster, so that a whole chain can't be
/// swapped for another cluster's.
pub(super) fn origin(cluster: &ClusterId) -> AuditHead {
    AuditHead {
        restored: Timestamp::default(),
        sequence: 0,
        digest: Digest::of(format!("kgit audit chain of cluster {cluster}").as_bytes()),
    }
}

/// The digest of an entry that follows `previous`.
pub(super) fn link(
    previous: &Digest,
    sequence: u64,
    at: Timestamp,
    reconcile: u64,
    body_digest: &Digest,
) -> Digest {
    // One line per part: no two different entries have the same text.
    let text = format!(
        "{}\n{sequence}\n{}\n{reconcile}\n{}\n",
        previous.as_str(),
        at.0,
        body_digest.as_str()
    );
    Digest::new(hex(&Sha256::digest(text.as_bytes())))
}
