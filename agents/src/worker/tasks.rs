//! The tasks around the loop: following the engine, pulling, reporting, heartbeats.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::messages::{AuditHead, Heartbeat, PROTOCOL_VERSION, Pull};
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::link::retry::Backoff;
use crate::link::{Link, LinkError};
use crate::runtime::Runtime;
use crate::worker::contact::uptime;
use crate::worker::outbox::Outbox;
use crate::worker::{Have, Input, Shared, now};

/// How long the first look waits for the engine to replay what happened while the agent was away.
pub(super) const REPLAY: Duration = Duration::from_millis(200);
/// How long the master may hold a poll; shorter than what NATs and proxies keep idle.
const POLL_SECONDS: u32 = 25;
/// How soon to follow the engine again after it went away.
const FOLLOW_AGAIN: Duration = Duration::from_millis(500);
/// Heartbeats go every quarter of a lease, but never more often than this.
const SHORTEST_BEAT: Duration = Duration::from_secs(1);

/// Follows the engine's events for as long as the agent lives.
pub(super) async fn follow_engine<R: Runtime>(shared: Arc<Shared<R>>, from: Timestamp) {
    // The engine takes a time of zero for "never": then only what is to come.
    let mut since = if from == Timestamp::default() { now() } else { from };
    loop {
        let mut events = shared.runtime.events(since);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::debug!(%error, "engine events stopped");
                    break;
                }
            };
            since = since.max(event.at).after(Duration::from_millis(1));
            if shared.inputs.send(Input::Engine(event)).await.is_err() {
                return;
            }
        }
        if shared.inputs.send(Input::EngineLost).await.is_err() {
            return;
        }
        tokio::time::sleep(FOLLOW_AGAIN).await;
    }
}

/// Asks the master for orders, again and again.
pub(super) async fn pull<R: Runtime, L: Link>(
    link: Arc<L>,
    shared: Arc<Shared<R>>,
    mut have: Have,
    witness: Option<AuditHead>,
    outbox: Arc<Outbox>,
) {
    let mut backoff = Backoff::default();
    if let Some(head) = witness {
        outbox.witness(head);
    }
    loop {
        let request = Pull {
            version: PROTOCOL_VERSION,
            have: have.stamp.clone(),
            directory: have.directory.clone(),
            wait_seconds: POLL_SECONDS,
            audit_witness: outbox.witnessed(),
        };
        let sent = uptime();
        match link.pull(&request).await {
            Ok(pulled) => {
                shared.contact.answered(sent);
                let told_directory = pulled.directory.is_some();
                let (reply, answer) = oneshot::channel();
                let input = Input::Pulled(Box::new(pulled), reply);
                if shared.inputs.send(input).await.is_err() {
                    return;
                }
                have = match answer.await {
                    Ok(have) => have,
                    Err(_) => return,
                };
                let delays = [
                    after_answer(request.have.as_ref(), have.stamp.as_ref(), &mut backoff),
                    // A master that gives no directory gives none the next time either.
                    after_refusal(&request, told_directory, &have, &mut backoff),
                ];
                if let Some(delay) = delays.into_iter().flatten().max() {
                    tracing::warn!("what the master sent does not fit its digest; will ask again");
                    tokio::time::sleep(delay).await;
                }
            }
            Err(error) if error.is_no_member() => match link.join_again().await {
                Ok(()) => {
                    tracing::info!("this node is a member again");
                    if shared.inputs.send(Input::JoinedAgain).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if error.is_no_member() {
                        tracing::warn!(%error, "will ask again");
                    }
                    wait(&mut backoff, "join again", &error).await;
                }
            },
            Err(error) => wait(&mut backoff, "pull", &error).await,
        }
    }
}

/// The same for the directory: a whole one that did not fit would come again the same.
fn after_refusal(
    request: &Pull,
    told: bool,
    have: &Have,
    backoff: &mut Backoff,
) -> Option<Duration> {
    let refused = told && request.directory.is_none() && have.directory.is_none();
    refused.then(|| backoff.delay())
}

/// How long to wait before the next question. A delta that does not fit is followed by a question
/// for the whole set at once; a whole set that does not fit would come again the same.
fn after_answer(
    had: Option<&Stamp>,
    have: Option<&Stamp>,
    backoff: &mut Backoff,
) -> Option<Duration> {
    if had.is_none() && have.is_none() {
        return Some(backoff.delay());
    }
    if have.is_some() {
        backoff.reset();
    }
    None
}

/// Reports what is in the outbox; each report until it is acknowledged.
pub(super) async fn report<L: Link>(link: Arc<L>, outbox: Arc<Outbox>) {
    let mut backoff = Backoff::default();
    loop {
        let report = outbox.next().await;
        loop {
            match link.report(&report).await {
                Ok(acknowledged) if acknowledged.sequence >= report.sequence => break,
                Ok(_) => {
                    let error = LinkError::Nonsense("it acknowledges an older report".to_owned());
                    wait(&mut backoff, "report", &error).await;
                }
                Err(error) => wait(&mut backoff, "report", &error).await,
            }
        }
        backoff.reset();
        outbox.acknowledged(&report);
    }
}

/// Keeps the node's lease.
pub(super) async fn heartbeat<R: Runtime, L: Link>(
    shared: Arc<Shared<R>>,
    link: Arc<L>,
    outbox: Arc<Outbox>,
) {
    let mut backoff = Backoff::default();
    let beat = Heartbeat { version: PROTOCOL_VERSION, boot: outbox.boot().clone() };
    loop {
        let sent = uptime();
        match link.heartbeat(&beat).await {
            Ok(granted) => {
                shared.contact.answered(sent);
                backoff.reset();
                let quarter = Duration::from_secs(u64::from(granted.seconds)) / 4;
                tokio::time::sleep(quarter.max(SHORTEST_BEAT)).await;
            }
            Err(error) => wait(&mut backoff, "heartbeat", &error).await,
        }
    }
}

async fn wait(backoff: &mut Backoff, what: &str, error: &LinkError) {
    let delay = backoff.delay();
    match error {
        LinkError::Unreachable(_) => tracing::debug!(what, %error, "will try again"),
        // The puller says so, once for all tasks.
        error if error.is_no_member() => tracing::debug!(what, %error, "will try again"),
        LinkError::Refused { .. }
        | LinkError::Nonsense(_)
        | LinkError::Token(_)
        | LinkError::Certificate(_) => tracing::warn!(what, %error, "will try again"),
    }
    tokio::time::sleep(delay).await;
}

#[cfg(test)]
mod tests {
    use kgit_protocol::ids::{Digest, Epoch, Generation};

    use super::*;

    #[test]
    fn a_whole_set_that_does_not_fit_is_asked_for_again_later_and_later() {
        let stamp = Stamp { epoch: Epoch(1), generation: Generation(1), digest: Digest::new("") };
        let mut backoff = Backoff::default();
        assert_eq!(after_answer(Some(&stamp), None, &mut backoff), None);
        let first = after_answer(None, None, &mut backoff).unwrap();
        let later: Vec<Duration> =
            (0..4).filter_map(|_| after_answer(None, None, &mut backoff)).collect();
        assert!(later.last().is_some_and(|last| *last > 2 * first), "{first:?} {later:?}");
        assert_eq!(after_answer(None, Some(&stamp), &mut backoff), None);
    }
}
