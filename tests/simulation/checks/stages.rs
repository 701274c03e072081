//! A commit's changes come stage by stage, and its hooks run once. By what docs/reference/waves.md
//! promises, and by what engines ran; the planner's own notes of it are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::record::{Applied, Pod};
use kgit::domain::resource::{Resource, Spec};
use kgit::domain::stage::{self, Phase, Stage};
use kgit::domain::workload::DaemonUpdate;
use kgit::domain::world::World;
use kgit_protocol::ids::PodUid;
use kgit_protocol::time::Timestamp;

use crate::checks::waits::is_pending;
use crate::checks::{Checked, Checks, Turned, is_reachable, makes_way, pods_of, was_told_to_end};

/// What is remembered of the commit that is in force.
#[derive(Debug, Default)]
pub(super) struct Stages {
    commit: String,
    /// A restored master has forgotten what it did of this commit: it may do it again.
    forgotten: bool,
    /// What changed for it, and the workloads that roll for that.
    changed: BTreeSet<ObjectKey>,
    /// What was made for each hook, by uid, the last one at the end.
    runs: BTreeMap<ObjectKey, Vec<String>>,
    /// The pods of those.
    pods: BTreeMap<ObjectKey, BTreeSet<PodUid>>,
}

/// A hook of the repo, and when it is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    pub key: ObjectKey,
    pub stages: Vec<Stage>,
}

impl Hooked {
    pub fn of(resource: &Arc<Resource>) -> Option<Self> {
        let phases = stage::hook(&resource.annotations)?.phases;
        let wave = stage::wave(&resource.annotations);
        let stages = phases.into_iter().map(|phase| Stage { phase, wave }).collect();
        Some(Self { key: resource.key.clone(), stages })
    }
}

pub(super) fn is_hook(row: &Applied) -> bool {
    stage::hook(&row.resource.annotations).is_some()
}

impl Checks {
    pub(super) fn stages(&mut self, turned: &Turned<'_>) -> Checked {
        let Some(sync) = turned.after.meta.sync.as_ref().filter(|_| turned.read) else {
            return Ok(());
        };
        if self.stages.commit != sync.commit.id {
            self.stages = Stages { commit: sync.commit.id.clone(), ..Stages::default() };
        }
        if self.stages.forgotten {
            return Ok(());
        }
        let before: BTreeSet<ObjectKey> = std::mem::take(&mut self.stages.changed);
        let now = changed(turned);
        self.stages.changed = before.union(&now).cloned().collect();
        self.learn_runs(turned);
        for hook in made(turned) {
            self.hook_may_run(turned, &hook, &before, &now)?;
        }
        self.may_go(turned)?;
        // One that rolls for a config came long before.
        for key in now.iter().filter(|key| differs(turned, key)) {
            let stage = stage::stage(&turned.after.objects[key].resource.annotations);
            self.may_come(turned, key, stage, &now)?;
        }
        Ok(())
    }

    /// A master goes on with an old copy of its data.
    pub(super) fn forgets_stages(&mut self, world: &World) {
        let commit = world.meta.sync.as_ref().map(|sync| sync.commit.id.clone());
        let commit = commit.unwrap_or_default();
        self.stages = Stages { commit, forgotten: true, ..Stages::default() };
    }

    fn learn_runs(&mut self, turned: &Turned<'_>) {
        for hook in made(turned) {
            let uid = turned.after.objects[&hook].uid.clone();
            self.stages.runs.entry(hook.clone()).or_default().push(uid);
            self.stages.pods.remove(&hook);
        }
        for (hook, runs) in &self.stages.runs {
            let row = turned.after.objects.get(hook);
            if row.is_some_and(|row| runs.last() == Some(&row.uid)) {
                let pods = turned.after.pods_of(hook).map(|pod| pod.uid.clone());
                self.stages.pods.entry(hook.clone()).or_default().extend(pods);
            }
        }
    }

    fn hook_may_run(
        &self,
        turned: &Turned<'_>,
        key: &ObjectKey,
        before: &BTreeSet<ObjectKey>,
        now: &BTreeSet<ObjectKey>,
    ) -> Checked {
        let hook = Hooked::of(&turned.after.objects[key].resource);
        let stages = hook.map(|hook| hook.stages).unwrap_or_default();
        let runs = self.stages.runs.get(key).map_or(0, Vec::len);
        if runs > stages.len() {
            return Err(format!("the hook {key} ran {runs} times for one commit"));
        }
        let Some(stage) = stages.first().filter(|stage| stage.phase != Phase::SyncFail) else {
            return Ok(());
        };
        let changed = before.iter().find(|key| turned.after.objects.contains_key(*key));
        if let (Phase::PreSync, Some(changed)) = (stage.phase, changed) {
            return Err(format!("{changed} changed before the hook {key} ran"));
        }
        self.may_come(turned, key, *stage, now)
    }

    /// Everything of earlier stages is done.
    fn may_come(
        &self,
        turned: &Turned<'_>,
        key: &ObjectKey,
        stage: Stage,
        now: &BTreeSet<ObjectKey>,
    ) -> Checked {
        for hook in turned.hooks {
            let earlier = |it: &Stage| it.phase != Phase::SyncFail && *it < stage;
            if hook.stages.iter().any(earlier) && !self.ended_before(&hook.key) {
                return Err(format!("{key} came before the hook {} ended well", hook.key));
            }
        }
        for other in &self.stages.changed {
            let Some(row) = turned.after.objects.get(other) else { continue };
            if stage::stage(&row.resource.annotations) < stage
                && is_down(turned.after, other, self.latest)
                // What broke down only now was still fine when the turn began.
                && (now.contains(other) || is_down(turned.before, other, self.latest))
                // It rolls for a config, and is itself what the commit moves to a later wave.
                && !is_still_to_come(turned, other)
                // One of a later stage may be worth more, and takes its place.
                && !pods_of(turned.after, other).iter().any(|pod| gave_way(turned, pod))
            {
                return Err(format!("{key} came before {other} of an earlier stage was healthy"));
            }
        }
        Ok(())
    }

    /// Nothing goes before the first hooks have ended well.
    fn may_go(&self, turned: &Turned<'_>) -> Checked {
        let is_first = |stage: &Stage| stage.phase == Phase::PreSync;
        let mut hooks = turned.hooks.iter().filter(|hook| hook.stages.iter().any(is_first));
        let Some(hook) = hooks.find(|hook| !self.ended_before(&hook.key)) else { return Ok(()) };
        match gone(turned).find(|key| !self.ordered_away.contains(*key)) {
            Some(key) => Err(format!("{key} went before the hook {} ended well", hook.key)),
            None => Ok(()),
        }
    }

    fn ended_before(&self, hook: &ObjectKey) -> bool {
        let pods = self.stages.pods.get(hook);
        pods.is_some_and(|pods| self.succeeded.iter().any(|(pod, _)| pods.contains(pod)))
    }
}

/// By the health table, which is Argo CD's: a StatefulSet's pods need be no more than ready, and
/// what is to be updated by hand is waited for by nobody.
fn is_down(world: &World, key: &ObjectKey, now: Timestamp) -> bool {
    let Some(row) = world.objects.get(key) else { return false };
    match &row.resource.spec {
        Spec::StatefulSet(spec) => {
            let pods = pods_of(world, key);
            let ready = pods.iter().filter(|pod| pod.is_ready() && is_reachable(world, pod));
            ready.count() < world.replicas_of(key, spec.replicas) as usize
        }
        Spec::DaemonSet(spec) if spec.update == DaemonUpdate::OnDelete => false,
        spec => is_pending(world, key, spec, now),
    }
}

fn is_still_to_come(turned: &Turned<'_>, key: &ObjectKey) -> bool {
    turned.after.meta.sync.as_ref().is_some_and(|sync| sync.pending.contains(key))
}

fn gave_way(turned: &Turned<'_>, pod: &Pod) -> bool {
    was_told_to_end(turned, pod) && makes_way(turned, pod)
}

/// Hooks that this turn made anew.
fn made(turned: &Turned<'_>) -> Vec<ObjectKey> {
    let is_new = |key: &ObjectKey, row: &Applied| {
        turned.before.objects.get(key).is_none_or(|old| old.uid != row.uid)
    };
    let hooks = turned.after.objects.iter().filter(|(_, row)| is_hook(row));
    hooks.filter(|(key, row)| is_new(key, row)).map(|(key, _)| key.clone()).collect()
}

/// What this turn put in force, and the workloads that there were for a changed config.
fn changed(turned: &Turned<'_>) -> BTreeSet<ObjectKey> {
    let mut changed: BTreeSet<ObjectKey> = turned
        .after
        .objects
        .iter()
        .filter(|(key, row)| is_written(row) && differs(turned, key))
        .map(|(key, _)| key.clone())
        .collect();
    let configs = changed.iter().filter(|key| matches!(key.kind, Kind::ConfigMap | Kind::Secret));
    let users: Vec<ObjectKey> = configs
        .flat_map(|key| turned.before.referrers(key))
        .filter(|user| user.kind.is_workload())
        .filter(|user| turned.after.objects.get(*user).is_some_and(|row| is_written(row)))
        .cloned()
        .collect();
    changed.extend(users);
    changed
}

/// What this turn deleted, unless somebody approved of that. What is retained is there still.
fn gone<'a>(turned: &Turned<'a>) -> impl Iterator<Item = &'a ObjectKey> {
    let (before, after) = (turned.before, turned.after);
    let written = before.objects.iter().filter(|(_, row)| is_written(row));
    let gone = written.filter(|(key, _)| !after.objects.contains_key(*key)).map(|(key, _)| key);
    gone.filter(|_| before.meta.held.is_none() && !before.meta.restored)
}

/// A manifest says so, and it is no hook.
fn is_written(row: &Applied) -> bool {
    row.owner.is_none() && row.retained.is_none() && !is_hook(row)
}

fn differs(turned: &Turned<'_>, key: &ObjectKey) -> bool {
    let digest = |world: &World| {
        let row = world.objects.get(key).filter(|row| is_written(row))?;
        Some(row.resource.digest.clone())
    };
    digest(turned.before) != digest(turned.after)
}
