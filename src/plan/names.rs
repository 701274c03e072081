//! Names and uids, derived: the same cluster, owner and counter always give the same ones.

use kgit_protocol::ids::{ClusterId, Digest, Epoch, PodUid, hex};
use sha2::{Digest as _, Sha256};

use crate::domain::key::ObjectKey;

/// Kubernetes' alphabet for generated names: no vowels, so no words; nothing easily misread.
/// Source: `k8s.io/apimachinery/pkg/util/rand`.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters of a pod's suffix, as Kubernetes has them.
const SUFFIX_CHARS: usize = 5;

/// Characters of a revision's hash: 27^10 makes a collision within a Deployment a theory.
const HASH_CHARS: usize = 10;

/// The longest name that a pod may have and still be a hostname.
const MAX_NAME_CHARS: usize = 63;

/// The uid of a manifest's object in one incarnation of its name.
pub fn object_uid(cluster: &ClusterId, key: &ObjectKey, incarnation: u64) -> String {
    uuid(&[
        b"object",
        cluster.as_str().as_bytes(),
        key.to_string().as_bytes(),
        &incarnation.to_be_bytes(),
    ])
}

/// The uid of something that belongs to another: a revision, a provisioned volume.
pub fn owned_uid(owner_uid: &str, what: &str) -> String {
    uuid(&[b"owned", owner_uid.as_bytes(), what.as_bytes()])
}

/// The uid of an owner's `counter`-th pod, as it was made in this epoch: a restored master counts
/// on from an older number.
pub fn pod_uid(owner_uid: &str, epoch: Epoch, counter: u64) -> PodUid {
    let (owner, number) = (owner_uid.as_bytes(), counter.to_be_bytes());
    PodUid::new(match epoch {
        Epoch(0) => uuid(&[b"pod", owner, &number]),
        Epoch(later) => uuid(&[b"pod", owner, &later.to_be_bytes(), &number]),
    })
}

/// The name of an owner's `counter`-th pod.
pub fn pod_name(owner: &ObjectKey, owner_uid: &str, counter: u64) -> String {
    pod_name_with(owner, owner_uid, counter, "")
}

/// The same with something between the owner's name and the suffix.
pub fn pod_name_with(owner: &ObjectKey, owner_uid: &str, counter: u64, between: &str) -> String {
    let digest = digest(&[b"name", owner_uid.as_bytes(), &counter.to_be_bytes()]);
    let owner = shortened(&owner.name, between.len() + SUFFIX_CHARS + 1);
    format!("{owner}{between}-{}", letters(&digest, SUFFIX_CHARS))
}

/// A revision's `pod-template-hash`. `collisions` moves it when the name is taken by another.
pub fn revision_hash(revision: &Digest, collisions: u64) -> String {
    let digest = digest(&[b"revision", revision.as_str().as_bytes(), &collisions.to_be_bytes()]);
    letters(&digest, HASH_CHARS)
}

/// The name of a revision: of a Deployment, a StatefulSet, a DaemonSet.
pub fn owned_name(owner: &ObjectKey, hash: &str) -> String {
    format!("{}-{hash}", owner.name)
}

/// A number that depends on the parts alone: for breaking ties.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let digest = digest(&bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

fn shortened(name: &str, reserve: usize) -> &str {
    // Names of objects are ASCII, checked when the manifest was read.
    name.get(..MAX_NAME_CHARS - reserve).unwrap_or(name).trim_end_matches(['-', '.'])
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn letters(digest: &[u8; 32], count: usize) -> String {
    digest[..count].iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % 27])).collect()
}

/// Shaped like a UUID of version 8 (RFC 9562: "custom"), variant 1.
fn uuid(parts: &[&[u8]]) -> String {
    let mut bytes = digest(parts);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes[..16]);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::Kind;

    #[test]
    fn names_depend_on_owner_and_counter_alone() {
        let owner = ObjectKey::new(Kind::ReplicaSet, "default", "web-5d8c");
        assert_eq!(pod_name(&owner, "u", 1), pod_name(&owner, "u", 1));
        assert_ne!(pod_name(&owner, "u", 1), pod_name(&owner, "u", 2));
        let first = Epoch(0);
        assert_ne!(pod_uid("u", first, 1), pod_uid("v", first, 1));
        assert_ne!(pod_uid("u", first, 1), pod_uid("u", first.next(), 1));
    }

    #[test]
    fn long_names_are_cut_to_fit_a_hostname() {
        let owner = ObjectKey::new(Kind::ReplicaSet, "default", &"w".repeat(63));
        assert_eq!(pod_name(&owner, "u", 1).len(), 63);
    }

    #[test]
    fn uids_are_shaped_like_uuids() {
        let uid = pod_uid("u", Epoch(0), 1).to_string();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'8');
    }
}
