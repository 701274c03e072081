//! The long poll: an agent says which set it has and is told what else it should run.

use std::collections::BTreeMap;
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
use crate::api::auth::Standing;
use crate::api::authority::NodeIdentity;
use crate::api::error::AgentError;
use crate::api::state::Api;
use crate::domain::node::Departed;
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
    match Standing::of(&api.master.view().world, &identity) {
        Standing::Departed(departed) if is_behind(pull.have.as_ref(), &departed.issued) => {
            return Ok(Json(dismissed(&api, &departed)));
        }
        standing => standing.must_be_member(&identity.node)?,
    }
    let node = identity.node;
    let (have, witness) = (pull.have.clone(), pull.audit_witness.clone());
    api.master.send(Event::Pull { node: node.clone(), have, witness }).await?;
    let wait = Duration::from_secs(pull.wait_seconds.into()).min(MAX_WAIT);
    let news = wait_for_news(&api, &node, &pull, wait).await?;
    let audit_head = api.records.audit_head()?;
    let News { orders, directory } = news;
    Ok(Json(Pulled { orders, directory, audit_head, now: api.now() }))
}

/// One that is no member any more has nothing left to run.
fn dismissed(api: &Api, departed: &Departed) -> Pulled {
    let set = AssignmentSet {
        stamp: departed.issued.clone(),
        pods: BTreeMap::new(),
        remove_volumes: Vec::new(),
        keep_others: false,
    };
    Pulled { orders: Orders::Set(set), directory: None, audit_head: None, now: api.now() }
}

/// What an agent is told.
struct News {
    orders: Orders,
    directory: Option<DirectoryChange>,
}

async fn wait_for_news(
    api: &Api,
    node: &NodeName,
    pull: &Pull,
    wait: Duration,
) -> Result<News, AgentError> {
    let deadline = Instant::now() + wait;
    // Taken before looking, so that nothing that happens meanwhile is missed.
    let mut versions = api.master.versions();
    loop {
        versions.borrow_and_update();
        let orders = orders(api, node, pull.have.as_ref())?;
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

fn orders(api: &Api, node: &NodeName, have: Option<&Stamp>) -> Result<Orders, AgentError> {
    let view = api.master.view();
    let issued = &view
        .world
        .nodes
        .get(&node_key(node))
        .ok_or_else(|| AgentError::new(StatusCode::FORBIDDEN, "NotAMember", "the node left"))?
        .issued;
    if !is_behind(have, issued) {
        return Ok(Orders::Unchanged);
    }
    let Some(set) = (api.planning.assignments)(&view.world, node) else {
        return Ok(Orders::Unchanged);
    };
    if set.stamp != *issued {
        // A record that contradicts itself must not be carried out.
        tracing::error!(%node, "the assignment set is not the one that was issued");
        return Ok(Orders::Unchanged);
    }
    Ok(delta(api, node, have, &set).unwrap_or(Orders::Set(set)))
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
