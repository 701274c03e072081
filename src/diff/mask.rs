//! How a secret value is shown: by a keyed digest, from which a change can be seen and nothing
//! else.

use hmac::{Hmac, KeyInit, Mac};
use kgit_protocol::ids::hex;
use sha2::Sha256;

/// How many bytes of the digest are shown: enough to tell two values apart, useless for guessing
/// without the key.
const SHOWN_BYTES: usize = 4;

/// `(secret 1a2b3c4d)`: equal for equal values of one cluster.
pub fn masked(key: &[u8], value: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(value.as_bytes());
    format!("(secret {})", hex(&mac.finalize().into_bytes()[..SHOWN_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_value_shows_change_and_nothing_else() {
        assert_eq!(masked(b"k", "hunter2"), masked(b"k", "hunter2"));
        assert_ne!(masked(b"k", "hunter2"), masked(b"k", "hunter3"));
        assert_ne!(masked(b"k", "hunter2"), masked(b"another", "hunter2"));
        assert!(!masked(b"k", "hunter2").contains("hunter2"));
    }
}
