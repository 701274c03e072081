//! When an object's change comes about among those of one commit: its phase and its wave.
//!
//! Source of the words and of their order: Argo CD's "Sync Phases and Waves" and "Resource Hooks".
//! The annotations `argocd.argoproj.io/…` and `kgit.dev/…` mean the same.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::desired::Commit;
use crate::domain::key::ObjectKey;
use crate::domain::selector::Labels;

/// The annotations that say a stage, by what comes behind the prefix.
pub const PREFIXES: [&str; 2] = ["kgit.dev/", "argocd.argoproj.io/"];
pub const WAVE: &str = "sync-wave";
pub const HOOK: &str = "hook";
pub const HELM_HOOK: &str = "helm.sh/hook";
pub const HOOK_DELETE_POLICY: &str = "hook-delete-policy";

/// In the order in which they come; `SyncFail` only where the sync fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    PreSync,
    Sync,
    PostSync,
    SyncFail,
}

/// Phases come one after the other, and in each its waves, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stage {
    pub phase: Phase,
    pub wave: i32,
}

/// An object that is made anew for each sync, at its phases, instead of being kept in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Empty: it is never made (`Skip`).
    pub phases: Vec<Phase>,
    pub delete_succeeded: bool,
    pub delete_failed: bool,
}

/// The value of an annotation under either prefix, with its whole name.
pub fn annotation<'a>(annotations: &'a Labels, name: &str) -> Option<(String, &'a str)> {
    PREFIXES.iter().find_map(|prefix| {
        let key = format!("{prefix}{name}");
        let value = annotations.get(&key)?;
        Some((key, value.as_str()))
    })
}

/// The parts of a list with commas.
pub fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The wave of an object; one that can't be read was refused with its manifest.
pub fn wave(annotations: &Labels) -> i32 {
    let helm = || Some((String::new(), annotations.get(helm::WEIGHT)?.as_str()));
    let written = annotation(annotations, WAVE).or_else(helm);
    written.and_then(|(_, text)| text.trim().parse().ok()).unwrap_or(0)
}

pub fn hook(annotations: &Labels) -> Option<Hook> {
    let Some((_, written)) = annotation(annotations, HOOK) else {
        return helm::hook(annotations);
    };
    let policy = annotation(annotations, HOOK_DELETE_POLICY).map(|(_, policy)| policy);
    let policies: BTreeSet<&str> = policy.into_iter().flat_map(parts).collect();
    Some(Hook {
        phases: parts(written).filter_map(Phase::parse).collect(),
        delete_succeeded: policies.contains("HookSucceeded"),
        delete_failed: policies.contains("HookFailed"),
    })
}

/// An object's place among the changes of a commit, unless it is a hook.
pub fn stage(annotations: &Labels) -> Stage {
    Stage { phase: Phase::Sync, wave: wave(annotations) }
}

/// True of what does not simply come with everything else.
pub fn is_staged(annotations: &Labels) -> bool {
    hook(annotations).is_some() || wave(annotations) != 0
}

/// What Helm's charts say, as Argo CD takes it ("Helm Hooks" of its documentation).
mod helm {
    use super::{Hook, Phase, parts};
    use crate::domain::selector::Labels;

    pub const WEIGHT: &str = "helm.sh/hook-weight";

    /// Hooks around a deletion, a rollback or a test are nothing that a commit sets off.
    pub fn hook(annotations: &Labels) -> Option<Hook> {
        let written = annotations.get(super::HELM_HOOK)?;
        let phase = |word: &str| match word {
            "crd-install" | "pre-install" | "pre-upgrade" => Some(Phase::PreSync),
            "post-install" | "post-upgrade" => Some(Phase::PostSync),
            _ => None,
        };
        let mut phases: Vec<Phase> = parts(written).filter_map(phase).collect();
        phases.sort_unstable();
        phases.dedup();
        let policy = annotations.get("helm.sh/hook-delete-policy").map(String::as_str);
        let has = |word: &str| policy.into_iter().flat_map(parts).any(|it| it == word);
        let (delete_succeeded, delete_failed) = (has("hook-succeeded"), has("hook-failed"));
        Some(Hook { phases, delete_succeeded, delete_failed })
    }
}

impl Phase {
    pub const WORDS: [(&str, Phase); 4] = [
        ("PreSync", Phase::PreSync),
        ("Sync", Phase::Sync),
        ("PostSync", Phase::PostSync),
        ("SyncFail", Phase::SyncFail),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, phase)| *phase)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.phase, self.wave) {
            (Phase::Sync, wave) => write!(f, "wave {wave}"),
            (phase, 0) => write!(f, "{phase:?}"),
            (phase, wave) => write!(f, "{phase:?} wave {wave}"),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases: Vec<String> = self.phases.iter().map(|phase| format!("{phase:?}")).collect();
        f.write_str(&phases.join(" and "))
    }
}

/// A commit on its way through its stages. There is one only where manifests name any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    pub commit: Arc<Commit>,
    /// False once everything is through.
    pub open: bool,
    /// Manifests whose change waits for an earlier stage, or for deletions of a later one.
    pub pending: BTreeSet<ObjectKey>,
    /// What this sync changed, and what an unfinished one before it did: later stages wait for
    /// their health.
    pub touched: BTreeSet<ObjectKey>,
    pub hooks: Vec<HookRun>,
    /// The stage that later ones wait for, and since when.
    pub waits_at: Option<(Stage, Timestamp)>,
    /// A hook failed, an object did, or it took too long: what `SyncFail` hooks are for.
    pub failed: bool,
    /// The object whose waits tell about this.
    pub teller: Option<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    pub phase: Phase,
    pub hook: ObjectKey,
    pub state: HookState,
    /// How it ended, in words: the object may be gone by now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookState {
    /// The run for an earlier commit comes to its end first.
    Waiting,
    /// The one of an earlier sync is on its way out.
    Replacing,
    Running,
    Succeeded,
    Failed,
}

impl Sync {
    /// Goes on where an unfinished one stopped, without what its hooks did.
    pub fn new(commit: Arc<Commit>, before: Option<&Self>) -> Self {
        let open = before.filter(|before| before.open);
        Self {
            commit,
            open: true,
            pending: open.map(|open| open.pending.clone()).unwrap_or_default(),
            touched: open.map(|open| open.touched.clone()).unwrap_or_default(),
            hooks: Vec::new(),
            waits_at: None,
            failed: false,
            teller: before.and_then(|before| before.teller.clone()),
        }
    }

    pub fn hook(&self, phase: Phase, key: &ObjectKey) -> Option<HookState> {
        self.hooks.iter().find(|run| run.phase == phase && run.hook == *key).map(|run| run.state)
    }

    pub fn set_hook(&mut self, phase: Phase, key: &ObjectKey, state: HookState, end: String) {
        self.hooks.retain(|run| run.phase != phase || run.hook != *key);
        self.hooks.push(HookRun { phase, hook: key.clone(), state, end });
    }

    /// How a hook ended.
    pub fn end_of(&self, phase: Phase, key: &ObjectKey) -> &str {
        let run = self.hooks.iter().find(|run| run.phase == phase && run.hook == *key);
        run.map_or("", |run| &run.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(entries: &[(&str, &str)]) -> Labels {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn phases_come_before_waves() {
        let stage = |phase, wave| Stage { phase, wave };
        let mut stages = [
            stage(Phase::PostSync, -5),
            stage(Phase::Sync, 1),
            stage(Phase::Sync, -1),
            stage(Phase::PreSync, 3),
        ];
        stages.sort();
        let said: Vec<String> = stages.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["PreSync wave 3", "wave -1", "wave 1", "PostSync wave -5"]);
    }

    #[test]
    fn helms_hooks_are_taken_as_argo_takes_them() {
        let phases = |word: &str| hook(&labels(&[("helm.sh/hook", word)])).unwrap().phases;
        assert_eq!(phases("pre-install,pre-upgrade"), [Phase::PreSync]);
        assert_eq!(phases("post-upgrade"), [Phase::PostSync]);
        assert_eq!(phases("pre-delete"), []);
        assert_eq!(phases("test"), []);
        assert_eq!(wave(&labels(&[("helm.sh/hook-weight", "-5")])), -5);
    }

    #[test]
    fn both_spellings_mean_the_same_and_the_own_one_comes_first() {
        assert_eq!(wave(&labels(&[("argocd.argoproj.io/sync-wave", "-3")])), -3);
        let both = [("argocd.argoproj.io/sync-wave", "1"), ("kgit.dev/sync-wave", "2")];
        assert_eq!(wave(&labels(&both)), 2);
        let hooked = labels(&[
            ("kgit.dev/hook", "PreSync, PostSync"),
            ("argocd.argoproj.io/hook-delete-policy", "HookSucceeded,BeforeHookCreation"),
        ]);
        let expected = Hook {
            phases: vec![Phase::PreSync, Phase::PostSync],
            delete_succeeded: true,
            delete_failed: false,
        };
        assert_eq!(hook(&hooked), Some(expected));
        assert!(hook(&labels(&[("argocd.argoproj.io/hook", "Skip")])).unwrap().phases.is_empty());
    }
}
