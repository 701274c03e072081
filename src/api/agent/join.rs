//! How a node becomes a member, keeps its certificate fresh, and leaves.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::{Join, Joined, Leave, Renew};

use crate::api::agent::message;
use crate::api::auth::{Peer, TokenText, check, must_be_member, standing};
use crate::api::authority::{NodeIdentity, NodeRequest};
use crate::api::error::AgentError;
use crate::api::state::Api;
use crate::domain::standing::Standing;
use crate::domain::token::{Role, Token, TokenOrder};
use crate::domain::world::node_key;
use crate::master::event::{Credential, Event};

/// Longest name of a node: a DNS-1123 subdomain.
const MAX_NODE_NAME: usize = 253;

/// A join token and a certificate request in, a certificate out. One that has a certificate, and
/// that no record tells of, joined in what a master that was restored from a backup has lost.
pub async fn join(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<Join>, JsonRejection>,
) -> Result<Json<Joined>, AgentError> {
    let join = message(body, |join| join.version)?;
    check_name(&join.node)?;
    let request = read_request(&join.certificate_request)?;
    let credential = credential(&api, &join, &request, peer.node)?;
    let node = join.node.clone();
    let key_digest = request.key_digest.clone();
    let join = Box::new(Join { token: String::new(), ..join });
    api.master.ask(|reply| Event::Join { join, key_digest, credential, reply }).await?;
    tracing::info!(%node, "node joined");
    signed(&api, node, &request)
}

/// A member's certificate request for the key that it joined with. The request's own signature
/// proves the key, so this works when the old certificate has run out.
pub async fn renew(
    State(api): State<Api>,
    body: Result<Json<Renew>, JsonRejection>,
) -> Result<Json<Joined>, AgentError> {
    let renew = message(body, |renew| renew.version)?;
    let request = read_request(&renew.certificate_request)?;
    let world = &api.master.view().world;
    must_be_member(&Standing::of(world, &renew.node, &request.key_digest), &renew.node)?;
    signed(&api, renew.node, &request)
}

/// The node leaves; its pods are gone from it already. One that is no member has left.
pub async fn leave(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    body: Result<Json<Leave>, JsonRejection>,
) -> Result<StatusCode, AgentError> {
    message(body, |leave| leave.version)?;
    if standing(&api, &identity) == Standing::Member {
        let node = identity.node;
        api.master.ask(|reply| Event::Leave { node, reply }).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn credential(
    api: &Api,
    join: &Join,
    request: &NodeRequest,
    certified: Option<NodeIdentity>,
) -> Result<Credential, AgentError> {
    let view = api.master.view();
    let standing = Standing::of(&view.world, &join.node, &request.key_digest);
    if standing == Standing::Member {
        // Its answer was lost, and its token is spent. The request's own signature proves the
        // key, as it does for a renewal.
        return Ok(Credential::Key);
    }
    let is_taken = view.world.nodes.contains_key(&node_key(&join.node));
    let own = NodeIdentity { node: join.node.clone(), key_digest: request.key_digest.clone() };
    let is_certified = certified == Some(own);
    if is_certified && standing == Standing::Unknown && !is_taken {
        return Ok(Credential::Certificate);
    }
    let token = match checked_token(api, &join.token) {
        Ok(token) => token,
        // Whoever runs it may not know what became of it; the token comes after that.
        Err(error) if is_certified && !is_taken => {
            return Err(must_be_member(&standing, &join.node).err().unwrap_or(error));
        }
        Err(_) if is_certified => return Err(name_taken(&join.node)),
        Err(error) => return Err(error),
    };
    // Before the token is spent: a refusal that can be foreseen should not cost one.
    if is_taken {
        return Err(name_taken(&join.node));
    }
    // The loop counts: of two joins with one single-use token, the second is refused there.
    Ok(Credential::Token(Some(TokenOrder::Spend { id: token.id })))
}

fn signed(api: &Api, node: NodeName, request: &NodeRequest) -> Result<Json<Joined>, AgentError> {
    let certificate = api.authority.sign_node(&node, request, api.now()).map_err(|error| {
        tracing::error!(%node, %error, "failed to sign a certificate");
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        AgentError::new(code, "InternalError", "the master failed to sign the certificate")
    })?;
    let cluster = api.master.view().world.cluster.clone();
    let authority = api.authority.pem().to_owned();
    Ok(Json(Joined { cluster, node, certificate, authority }))
}

fn checked_token(api: &Api, text: &str) -> Result<Token, AgentError> {
    let refused =
        |message: String| AgentError::new(StatusCode::UNAUTHORIZED, "TokenRefused", message);
    let malformed = crate::api::auth::TokenRefused::Malformed;
    let text = TokenText::parse(text).ok_or_else(|| refused(malformed.to_string()))?;
    // A join must not be decided on by a list that is seconds old: the token may be spent by now.
    let tokens = api.records.tokens()?;
    let token = check(&text, &tokens, &api.authority.digest(), api.now())
        .map_err(|error| refused(error.to_string()))?;
    match token.role {
        Role::Join => Ok(token),
        Role::Read | Role::Write | Role::Admin => Err(refused(
            "this token is for the API; create a join token with `kgit token create`".to_owned(),
        )),
    }
}

fn read_request(pem: &str) -> Result<NodeRequest, AgentError> {
    NodeRequest::read(pem)
        .map_err(|error| AgentError::bad(format!("the certificate request is not valid: {error}")))
}

fn name_taken(node: &NodeName) -> AgentError {
    let message = format!(
        "another machine is node `{node}` already; choose another name with --name, or, if that \
         machine is gone for good, run `kgit node reset {node}` first"
    );
    AgentError::new(StatusCode::CONFLICT, "NameTaken", message)
}

fn check_name(node: &NodeName) -> Result<(), AgentError> {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = node.as_str();
    if name.len() <= MAX_NODE_NAME && name.split('.').all(label) {
        return Ok(());
    }
    Err(AgentError::bad(format!(
        "`{name}` can't be a node's name: it must be lower-case letters, digits, `-` and `.`, and \
         begin and end with a letter or digit; choose one with --name"
    )))
}
