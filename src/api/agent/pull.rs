//! The long poll: an agent says which set it has and is told what else it should run.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use kgit_protocol::assignment::{AssignmentSet, Stamp};
use kgit_protocol::directory::DirectoryChange;
use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::{Orders, Pull, Pulled};
use tokio::time::Instant;

use crate::api::agent::message;
use crate::api::auth::{must_be_member, standing};
use crate::api::authority::NodeIdentity;
use crate::api::error::AgentError;
use crate::api::state::Api;
use crate::domain::standing::Standing;
use crate::domain::world::node_key;
use crate::master::event::Event;
use crate::master::view::View;

/// Longest that a pull is held: shorter than what proxies and NATs forget idle connections after.
const MAX_WAIT: Duration = Duration::from_secs(55);
/// How many past versions are searched for the set that an agent has. One that was away for
/// longer gets the whole set.
const DELTA_DEPTH: usize = 512;

pub async fn pull(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    body: Result<Json<Pull>, JsonRejection>,
) -> Result<Json<Pulled>, AgentError> {
    let pull = message(body, |pull| pull.version)?;
    if standing(&api, &identity) == Standing::Member {
        let (node, have) = (identity.node.clone(), pull.have.clone());
        let witness = pull.audit_witness.clone();
        api.master.send(Event::Pull { node, have, witness }).await?;
    }
    let wait = Duration::from_secs(pull.wait_seconds.into()).min(MAX_WAIT);
    let news = wait_for_news(&api, &identity, &pull, wait).await?;
    let audit_head = api.records.audit_head()?;
    let News { orders, directory } = news;
    Ok(Json(Pulled { orders, directory, audit_head, now: api.now() }))
}

/// What an agent is told.
struct News {
    orders: Orders,
    directory: Option<DirectoryChange>,
}

async fn wait_for_news(
    api: &Api,
    identity: &NodeIdentity,
    pull: &Pull,
    wait: Duration,
) -> Result<News, AgentError> {
    let deadline = Instant::now() + wait;
    // Taken before looking, so that nothing that happens meanwhile is missed.
    let mut versions = api.master.versions();
    loop {
        versions.borrow_and_update();
        // It may have been taken out meanwhile, and its name given to another machine.
        let standing = standing(api, identity);
        if let Some(set) = standing.dismissal(pull.have.as_ref()) {
            return Ok(News { orders: Orders::Set(set), directory: None });
        }
        must_be_member(&standing, &identity.node)?;
        let orders = orders(api, &identity.node, pull.have.as_ref());
        let world = &api.master.view().world;
        let directory = api.directories.change(world, pull.directory.as_ref());
        let nothing = orders == Orders::Unchanged && directory.is_none();
        if !nothing || Instant::now() >= deadline {
            return Ok(News { orders, directory });
        }
        tokio::select! {
            changed = versions.changed() => if changed.is_err() {
                return Err(stopping());
            },
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

fn orders(api: &Api, node: &NodeName, have: Option<&Stamp>) -> Orders {
    let view = api.master.view();
    let Some(member) = view.world.nodes.get(&node_key(node)) else { return Orders::Unchanged };
    if !is_behind(have, &member.issued) {
        return Orders::Unchanged;
    }
    let Some(set) = (api.planning.assignments)(&view.world, node) else {
        return Orders::Unchanged;
    };
    if set.stamp != member.issued {
        // A record that contradicts itself must not be carried out.
        tracing::error!(%node, "the assignment set is not the one that was issued");
        return Orders::Unchanged;
    }
    delta(api, node, have, &set).unwrap_or(Orders::Set(set))
}

/// Whether a node with `have` should be given the set `issued`. One that has a later set, or
/// another one of the same number, met a master that was restored: it gets nothing until the loop,
/// which was told what it has, has begun a new epoch.
fn is_behind(have: Option<&Stamp>, issued: &Stamp) -> bool {
    have.is_none_or(|have| (have.epoch, have.generation) < (issued.epoch, issued.generation))
}

/// The difference to the set that the node has, if that one is still known and it is worth it.
fn delta(api: &Api, node: &NodeName, have: Option<&Stamp>, set: &AssignmentSet) -> Option<Orders> {
    let (have, key) = (have?, node_key(node));
    let had = |view: &View| view.world.nodes.get(&key).is_some_and(|node| node.issued == *have);
    let before = api.history.find(DELTA_DEPTH, had)?;
    let base = (api.planning.assignments)(&before.world, node)?;
    if base.stamp != *have || base.content_digest() != have.digest {
        return None;
    }
    let delta = base.delta_to(set);
    (delta.changed.len() < set.pods.len()).then_some(Orders::Delta(delta))
}

fn stopping() -> AgentError {
    let code = StatusCode::SERVICE_UNAVAILABLE;
    AgentError::new(code, "ShuttingDown", "the master is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kgit_protocol::ids::{Digest, Epoch, Generation};

    fn stamp(epoch: u64, generation: u64, content: &str) -> Stamp {
        Stamp {
            epoch: Epoch(epoch),
            generation: Generation(generation),
            digest: Digest::of(content.as_bytes()),
        }
    }

    #[test]
    fn a_node_gets_later_sets_only() {
        assert!(is_behind(None, &stamp(0, 0, "a")));
        assert!(is_behind(Some(&stamp(0, 1, "a")), &stamp(0, 2, "b")));
        assert!(is_behind(Some(&stamp(0, 9, "a")), &stamp(1, 1, "b")));
        assert!(!is_behind(Some(&stamp(0, 2, "a")), &stamp(0, 2, "a")));
        assert!(!is_behind(Some(&stamp(0, 2, "a")), &stamp(0, 2, "b")));
        assert!(!is_behind(Some(&stamp(0, 3, "a")), &stamp(0, 2, "b")));
    }
}
