//! Keeps one task for each probe that is wanted, and none that is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::PodUid;
use tokio::task::AbortHandle;

use crate::decide::outcome::Note;
use crate::decide::probing::{ProbeKind, ProbeTarget};
use crate::probes;
use crate::runtime::Runtime;
use crate::worker::{Input, Shared, now};

/// The probe tasks that run, by container id and kind.
#[derive(Debug, Default)]
pub struct Probers {
    running: BTreeMap<(String, ProbeKind), (ProbeTarget, AbortHandle)>,
}

impl Probers {
    /// Starts what is wanted and does not run, stops what runs and is not wanted.
    pub(super) fn keep<R: Runtime>(
        &mut self,
        shared: &Arc<Shared<R>>,
        wanted: Vec<(PodUid, ProbeTarget)>,
    ) {
        let mut next = BTreeMap::new();
        for (uid, target) in wanted {
            let key = (target.id.clone(), target.kind);
            let entry = match self.running.remove(&key) {
                Some((known, task)) if known == target => (known, task),
                other => {
                    if let Some((_, task)) = other {
                        task.abort();
                    }
                    let task = tokio::spawn(probe(Arc::clone(shared), uid, target.clone()));
                    (target, task.abort_handle())
                }
            };
            next.insert(key, entry);
        }
        for (_, task) in self.running.values() {
            task.abort();
        }
        self.running = next;
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        for (_, task) in self.running.values() {
            task.abort();
        }
    }
}

async fn probe<R: Runtime>(shared: Arc<Shared<R>>, uid: PodUid, target: ProbeTarget) {
    let seconds = |number: u32| Duration::from_secs(u64::from(number.max(1)));
    let delay = Duration::from_secs(u64::from(target.probe.initial_delay_seconds));
    let begin = target.started_at.after(delay);
    tokio::time::sleep(begin.since(now())).await;
    let mut period = tokio::time::interval(seconds(target.probe.period_seconds));
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let limit = seconds(target.probe.timeout_seconds);
        let handler = &target.probe.handler;
        let tried =
            probes::attempt(&shared.runtime, &target.id, target.address, handler, limit).await;
        let Some(result) = tried else { continue };
        let note = Note::Probed {
            container: target.container.clone(),
            id: target.id.clone(),
            kind: target.kind,
            probe: target.probe.clone(),
            result,
        };
        if shared.inputs.send(Input::Note(uid.clone(), note)).await.is_err() {
            return;
        }
    }
}
