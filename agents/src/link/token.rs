//! Join tokens: `kgit1.<SHA-256 of the CA's DER, in hex>.<name>.<secret>`. The digest lets the
//! agent know the master before it says anything, so nothing is trusted on first use.

use kgit_protocol::ids::Digest;

use crate::link::LinkError;

const FORMAT: &str = "kgit1";
const DIGEST_DIGITS: usize = 64;

/// A join token, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub authority: Digest,
    /// What the master is given: the name and the secret, `name.secret`.
    pub secret: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({})", self.authority.short())
    }
}

impl JoinToken {
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let mut parts = text.trim().splitn(3, '.');
        if parts.next() != Some(FORMAT) {
            return Err(LinkError::Token("it does not begin with `kgit1.`"));
        }
        let digest = parts.next().unwrap_or_default();
        let is_digest =
            digest.len() == DIGEST_DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Err(LinkError::Token("its second part is not a SHA-256 digest"));
        }
        let secret = parts.next().unwrap_or_default();
        match secret.split_once('.') {
            Some((name, secret)) if !name.is_empty() && !secret.is_empty() => {}
            _ => return Err(LinkError::Token("it is cut off")),
        }
        Ok(Self { authority: Digest::new(digest.to_ascii_lowercase()), secret: secret.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_apart_and_damaged_ones_refused() {
        let digest = "ab".repeat(32);
        let token = JoinToken::parse(&format!("kgit1.{digest}.ci.s3cret\n")).unwrap();
        assert_eq!(token.authority.as_str(), digest);
        assert_eq!(token.secret, "ci.s3cret");
        for bad in ["", "kgit2.x.y.z", "kgit1.short.a.b", &format!("kgit1.{digest}.only")] {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }
}
