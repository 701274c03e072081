//! Who is calling, and what they may do. Tokens for people and programs, certificates for agents.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kgit_protocol::ids::{Digest, NodeName, hex};
use kgit_protocol::time::Timestamp;
use thiserror::Error;

use crate::api::authority::NodeIdentity;
use crate::api::error::{AgentError, ApiError};
use crate::api::limit::{ClientKey, impatient};
use crate::api::records::{Records, RecordsError};
use crate::api::state::Api;
use crate::domain::standing::Standing;
use crate::domain::token::{Role, Token};
use crate::kube::status::Status;

/// What every token starts with: names the format.
const FORMAT: &str = "kgit1";
/// Bytes of chance in a token's secret; 128 bits are more than anyone guesses.
const SECRET_BYTES: usize = 24;
/// Bytes in a token's public id.
const ID_BYTES: usize = 5;
/// How long a token that was revoked by another process may still work. The API's own orders
/// take effect at once.
const TOKENS_FRESH: Duration = Duration::from_secs(5);
/// How often within that time the store is read again because of a token that was not there: it
/// may be new. More than anyone creates in 5 s; bounded because made-up tokens cause it too.
const MAX_SECOND_LOOKS: u32 = 50;

/// Who sent a request over a connection, before anyone looked at the request.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: std::net::SocketAddr,
    /// From a client certificate that the cluster's authority signed.
    pub node: Option<NodeIdentity>,
}

/// Somebody with a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub role: Role,
    pub token_id: String,
}

/// A token's text, taken apart: `kgit1.<CA digest>.<id>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    /// Of the authority that the holder may trust. `None` in the short form `<id>.<secret>`.
    pub authority: Option<Digest>,
    pub id: String,
    pub secret: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenRefused {
    #[error("the token is not one of kgit's; a join token comes from `kgit token create`")]
    Malformed,
    #[error("the token belongs to another cluster; create one at this master")]
    OtherCluster,
    #[error("the token is unknown; create another with `kgit token create`")]
    Unknown,
    #[error("the token was revoked; create another with `kgit token create`")]
    Revoked,
    #[error("the token has expired; create another with `kgit token create`")]
    Expired,
    #[error("the token was used already; create another with `kgit token create`")]
    Spent,
}

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenText({}, …)", self.id)
    }
}

impl std::fmt::Display for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.authority {
            Some(authority) => write!(f, "{FORMAT}.{authority}.{}.{}", self.id, self.secret),
            None => write!(f, "{}.{}", self.id, self.secret),
        }
    }
}

impl TokenText {
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let (authority, id, secret) = match parts.as_slice() {
            [FORMAT, authority, id, secret] => {
                (Some(Digest::new((*authority).to_owned())), id, secret)
            }
            [id, secret] => (None, id, secret),
            _ => return None,
        };
        if id.is_empty() || secret.is_empty() {
            return None;
        }
        Some(Self { authority, id: (*id).to_owned(), secret: (*secret).to_owned() })
    }

    /// A new token's text, of chance.
    pub fn generate(authority: Digest) -> Self {
        Self {
            authority: Some(authority),
            id: random_hex::<ID_BYTES>(),
            secret: random_hex::<SECRET_BYTES>(),
        }
    }

    /// What is stored instead of the secret. It is long and of chance, so no salt is needed.
    pub fn secret_hash(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }
}

/// Checks `text` against the stored tokens.
pub fn check(
    text: &TokenText,
    tokens: &[Token],
    authority: &Digest,
    now: Timestamp,
) -> Result<Token, TokenRefused> {
    if text.authority.as_ref().is_some_and(|claimed| claimed != authority) {
        return Err(TokenRefused::OtherCluster);
    }
    let found = tokens.iter().find(|token| token.id == text.id).ok_or(TokenRefused::Unknown)?;
    if !same(&found.secret_hash, &text.secret_hash()) {
        return Err(TokenRefused::Unknown);
    }
    if found.revoked {
        return Err(TokenRefused::Revoked);
    }
    if found.expires.is_some_and(|expires| expires <= now) {
        return Err(TokenRefused::Expired);
    }
    if found.uses_left == Some(0) {
        return Err(TokenRefused::Spent);
    }
    Ok(found.clone())
}

/// Compares without telling by its duration where the first difference is.
fn same(left: &Digest, right: &Digest) -> bool {
    let (left, right) = (left.as_str().as_bytes(), right.as_str().as_bytes());
    let difference = left.iter().zip(right).fold(0, |found, (a, b)| found | (a ^ b));
    left.len() == right.len() && difference == 0
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).expect("the kernel's random numbers are always there");
    hex(&bytes)
}

/// The stored tokens as last read.
#[derive(Debug, Default)]
pub struct TokenCache {
    read: Mutex<Option<ReadTokens>>,
}

#[derive(Clone, Debug)]
struct ReadTokens {
    at: Instant,
    second_looks: u32,
    tokens: Arc<Vec<Token>>,
}

impl TokenCache {
    /// The tokens among which `id` is to be found. They may be somewhat old, but one that was
    /// created just now is among them.
    pub fn tokens(
        &self,
        records: &dyn Records,
        id: &str,
        now: Instant,
    ) -> Result<Arc<Vec<Token>>, RecordsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |read: &&mut ReadTokens| now.saturating_duration_since(read.at) < TOKENS_FRESH;
        if let Some(read) = read.as_mut().filter(fresh) {
            let is_known = read.tokens.iter().any(|token| token.id == id);
            if !is_known && read.second_looks < MAX_SECOND_LOOKS {
                read.second_looks += 1;
                read.tokens = Arc::new(records.tokens()?);
            }
            return Ok(Arc::clone(&read.tokens));
        }
        let tokens = Arc::new(records.tokens()?);
        let shared = Arc::clone(&tokens);
        *read = Some(ReadTokens { at: now, second_looks: 0, tokens });
        Ok(shared)
    }

    /// The next reader reads the store: an order on tokens was carried out.
    pub fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Caller {
    /// Refuses a caller whose role is too low.
    pub fn must_be(&self, role: Role, to: &str) -> Result<(), ApiError> {
        if self.role >= role {
            return Ok(());
        }
        let needed = format!("{role:?}").to_lowercase();
        let own = format!("{:?}", self.role).to_lowercase();
        Err(ApiError::from(Status::forbidden(format!(
            "User \"{}\" cannot {to}: the token's role is {own}, and it takes {needed}",
            self.name
        ))))
    }
}

/// Lets a request through if its client is within its limit; what it sends must keep coming.
pub async fn limit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let key = request.extensions().get::<Peer>().map(|peer| match &peer.node {
        Some(identity) => ClientKey::Node(identity.node.clone()),
        None => ClientKey::Address(peer.address.ip()),
    });
    if key.is_none_or(|key| api.limiter.admit(key, Instant::now())) {
        return next.run(request.map(impatient)).await;
    }
    let mut response = ApiError::from(Status::too_many_requests(1)).into_response();
    response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
    response
}

/// Lets a request through if it carries a valid token of a role that may use the API, and
/// remembers whose it is. A certificate of an agent counts for nothing here.
pub async fn require_token(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    match caller_of(&api, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn caller_of(api: &Api, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let text = bearer.and_then(TokenText::parse).ok_or_else(Status::unauthorized)?;
    let tokens = api.tokens.tokens(&*api.records, &text.id, Instant::now())?;
    let token = check(&text, &tokens, &api.authority.digest(), api.now())
        .map_err(|_| Status::unauthorized())?;
    if token.role == Role::Join {
        return Err(
            Status::forbidden("a join token makes a node a member, and nothing else").into()
        );
    }
    Ok(Caller { name: token.name, role: token.role, token_id: token.id })
}

/// What a machine is by what is on record now.
pub fn standing(api: &Api, identity: &NodeIdentity) -> Standing {
    Standing::of(&api.master.view().world, &identity.node, &identity.key_digest)
}

/// Refuses a machine that is no member.
pub fn must_be_member(standing: &Standing, node: &NodeName) -> Result<(), AgentError> {
    let (reason, message) = match standing {
        Standing::Member => return Ok(()),
        Standing::Departed(departed) => (
            "NodeRemoved",
            format!(
                "node `{node}` was taken out of the cluster at {}; `kgit agent leave` here \
                     clears up, and a new token (--token-file) makes it a member again",
                departed.at
            ),
        ),
        Standing::Unknown => (
            "NotAMember",
            format!(
                "node `{node}` with this key is not a member of the cluster; join again with \
                     a new token"
            ),
        ),
    };
    Err(AgentError::new(StatusCode::FORBIDDEN, reason, message))
}

/// Lets a request of an agent through if its certificate is the one of a node that is a member.
pub async fn require_node(State(api): State<Api>, request: Request, next: Next) -> Response {
    let identity = request.extensions().get::<NodeIdentity>();
    match identity.map(|identity| must_be_member(&standing(&api, identity), &identity.node)) {
        Some(Ok(())) => next.run(request).await,
        Some(Err(error)) => error.into_response(),
        None => without_certificate().into_response(),
    }
}

/// Lets a request of an agent through if it has a certificate of this cluster.
pub async fn require_certificate(mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let Some(identity) = peer.and_then(|peer| peer.node.clone()) else {
        return without_certificate().into_response();
    };
    request.extensions_mut().insert(identity);
    next.run(request).await
}

fn without_certificate() -> AgentError {
    let message = "an agent identifies itself by its certificate; join first";
    AgentError::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::FakeRecords;

    fn stored(text: &TokenText) -> Token {
        Token {
            id: text.id.clone(),
            name: "ann".to_owned(),
            role: Role::Read,
            secret_hash: text.secret_hash(),
            created: Timestamp(0),
            expires: Some(Timestamp(1000)),
            uses_left: None,
            revoked: false,
        }
    }

    #[test]
    fn a_token_is_read_back_as_it_was_written() {
        let text = TokenText::generate(Digest::of(b"authority"));
        assert_eq!(TokenText::parse(&format!("{text}\n")), Some(text));
        assert_eq!(TokenText::parse("kgit1.a.b"), None);
        assert_eq!(TokenText::parse("kgit2.a.b.c"), None);
    }

    #[test]
    fn a_token_that_was_created_after_the_last_reading_is_found_but_not_at_any_price() {
        let (cache, records, now) = (TokenCache::default(), FakeRecords::default(), Instant::now());
        let text = TokenText::generate(Digest::of(b"authority"));
        let known = |id: &str| {
            let tokens = cache.tokens(&records, id, now).unwrap();
            tokens.iter().any(|token| token.id == id)
        };
        assert!(!known(&text.id));
        records.tokens.lock().unwrap().push(stored(&text));
        assert!(known(&text.id));
        for guess in 0..MAX_SECOND_LOOKS {
            assert!(!known(&format!("guess-{guess}")));
        }
        let late = TokenText::generate(Digest::of(b"authority"));
        records.tokens.lock().unwrap().push(stored(&late));
        assert!(!known(&late.id), "the looks of these seconds are used up");
        let tokens = cache.tokens(&records, &late.id, now + TOKENS_FRESH).unwrap();
        assert_eq!(tokens.len(), 2);
    }

    #[test]
    fn a_token_counts_only_whole_unexpired_unrevoked_and_here() {
        let here = Digest::of(b"authority");
        let text = TokenText::generate(here.clone());
        let token = stored(&text);
        let checked = |text: &TokenText, token: Token, at| check(text, &[token], &here, at).err();
        assert_eq!(checked(&text, token.clone(), Timestamp(999)), None);
        assert_eq!(checked(&text, token.clone(), Timestamp(1000)), Some(TokenRefused::Expired));
        let revoked = Token { revoked: true, ..token.clone() };
        assert_eq!(checked(&text, revoked, Timestamp(0)), Some(TokenRefused::Revoked));
        let spent = Token { uses_left: Some(0), ..token.clone() };
        assert_eq!(checked(&text, spent, Timestamp(0)), Some(TokenRefused::Spent));
        let guessed = TokenText { secret: "0".repeat(48), ..text.clone() };
        assert_eq!(checked(&guessed, token.clone(), Timestamp(0)), Some(TokenRefused::Unknown));
        let elsewhere = TokenText::generate(Digest::of(b"another"));
        assert_eq!(checked(&elsewhere, token, Timestamp(0)), Some(TokenRefused::OtherCluster));
    }
}
