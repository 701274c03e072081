//! StatefulSets: pods with names, volumes and an order of their own.
//!
//! Which pod is next is decided in `ordinals`, the claims of the pods live in `set_claims`.

use std::sync::Arc;

use kgit_protocol::observation::PodPhase;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::{Applied, Pod, ReplicaStatus, Revision, StatefulSetState};
use crate::domain::resource::Spec;
use crate::domain::selector::Labels;
use crate::domain::template::PodTemplate;
use crate::domain::workload::{StatefulSetSpec, StatefulUpdate};
use crate::domain::world::{Effect, Record, World};
use crate::plan::config::{self, Needs, needs, revision_digest};
use crate::plan::draft::Draft;
use crate::plan::ordinals::{self, Act, Order, Replica, Rolling, State, Turn, Version, Wait};
use crate::plan::pods::{self, NewPod, is_reachable};
use crate::plan::replicas::{end_of, pods_of, refused};
use crate::plan::revisions::{self, HASH_LABEL, Owner};
use crate::plan::set_claims::{self, Claims};
use crate::plan::{depends, evict, refresh, standoff};

pub const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
pub const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub fn plan_stateful_set(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::StatefulSet(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let replicas = draft.world.replicas_of(key, spec.replicas);
    Set { key, applied: &applied, spec, replicas }.run(draft);
}

/// The StatefulSet whose pod would have this name, if there is one: it may wait for the name.
pub fn named_by(world: &World, pod: &ObjectKey) -> Option<ObjectKey> {
    let (set, ordinal) = pod.name.rsplit_once('-')?;
    ordinal.parse::<u32>().ok()?;
    let key = pod.sibling(Kind::StatefulSet, set);
    world.objects.contains_key(&key).then_some(key)
}

struct Set<'a> {
    key: &'a ObjectKey,
    applied: &'a Applied,
    spec: &'a StatefulSetSpec,
    replicas: u32,
}

/// The two revisions that pods are to have.
struct Wanted {
    current: Arc<Revision>,
    update: Arc<Revision>,
}

impl Set<'_> {
    fn run(&self, draft: &mut Draft<'_>) {
        let all = pods_of(&draft.world, self.key);
        pods::follow(draft, self.key, &all);
        self.claims().keep(draft);
        if let Some(wanted) = self.wanted(draft) {
            self.place(draft, &wanted);
            self.go_on(draft, &wanted);
            self.note_state(draft, &wanted);
        }
        for pod in self.pods(draft).iter().filter(|pod| !pod.is_finished()) {
            evict::leave_or_wait(draft, self.key, pod);
        }
    }

    fn claims(&self) -> Claims<'_> {
        let range = (self.spec.first_ordinal, self.end());
        Claims { key: self.key, applied: self.applied, spec: self.spec, range }
    }

    fn end(&self) -> u32 {
        self.spec.first_ordinal.saturating_add(self.replicas)
    }

    fn owner(&self) -> Owner<'_> {
        let (key, applied, template) = (self.key, self.applied, &self.spec.template);
        Owner { key, applied, template, limit: self.spec.revision_history_limit }
    }

    /// `None` while there is no revision that pods could be made of.
    fn wanted(&self, draft: &mut Draft<'_>) -> Option<Wanted> {
        let state = self.state(draft);
        let update =
            match needs(&draft.world, self.key, &self.spec.template, &self.applied.resource) {
                Ok(needs) => self.update(draft, &needs, &state),
                Err(why) => {
                    draft.blocked(self.key, why, "the revision in force stays");
                    revisions::named(&draft.world, self.key, &state.update_revision)
                }
            }?;
        let current = revisions::named(&draft.world, self.key, &state.current_revision);
        Some(Wanted { current: current.unwrap_or_else(|| Arc::clone(&update)), update })
    }

    fn update(
        &self,
        draft: &mut Draft<'_>,
        needs: &Needs,
        state: &StatefulSetState,
    ) -> Option<Arc<Revision>> {
        let digest = revision_digest(&draft.world, &self.spec.template, needs);
        refresh::pods(draft, self.key, &digest, needs);
        let known = revisions::of_digest(&draft.world, self.key, &digest).is_some();
        if !known && depends::held(draft, self.key, &self.applied.resource) {
            return revisions::named(&draft.world, self.key, &state.update_revision);
        }
        Some(revisions::wanted(draft, self.owner(), &digest, needs))
    }

    fn pods(&self, draft: &Draft<'_>) -> Vec<Arc<Pod>> {
        pods_of(&draft.world, self.key)
    }

    fn place(&self, draft: &mut Draft<'_>, wanted: &Wanted) {
        let range = self.spec.first_ordinal..self.end();
        for pod in self.pods(draft).iter().filter(|pod| pod.placed.is_none()) {
            let own = revisions::of_digest(&draft.world, self.key, &pod.revision_digest);
            let own = own.unwrap_or_else(|| Arc::clone(&wanted.update));
            // One whose data was lost may have been given up.
            let is_wanted = |ordinal: &u32| pod.deletion.is_none() && range.contains(ordinal);
            if let Some(ordinal) = pod.index.filter(is_wanted) {
                self.claims().make(draft, ordinal);
            }
            pods::place_pending(draft, pod, &own.configs);
        }
    }

    /// Acts until nothing is left to be done now. What one round makes, the next one waits for,
    /// so there are hardly more rounds than pods.
    fn go_on(&self, draft: &mut Draft<'_>, wanted: &Wanted) {
        let most = 2 * (self.replicas as usize + self.pods(draft).len()) + 2;
        for _ in 0..most {
            let (pods, condemned) = self.sorted(draft);
            let turn = self.next(draft, wanted, &pods, &condemned);
            let before = draft.plan.steps.len();
            for act in &turn.acts {
                self.act(draft, wanted, *act, &pods, &condemned);
            }
            if draft.plan.steps.len() == before {
                self.wait(draft, &turn, &pods, &condemned);
                return;
            }
        }
    }

    /// The pods by position, and those beyond the range by ordinal.
    fn sorted(&self, draft: &Draft<'_>) -> (Vec<Option<Arc<Pod>>>, Vec<Arc<Pod>>) {
        let mut pods = vec![None; self.replicas as usize];
        let mut condemned = Vec::new();
        for pod in self.pods(draft) {
            let position = pod.index.and_then(|index| index.checked_sub(self.spec.first_ordinal));
            match position.and_then(|position| pods.get_mut(position as usize)) {
                Some(place) => *place = Some(pod),
                None => condemned.push(pod),
            }
        }
        condemned.sort_by_key(|pod| pod.index);
        (pods, condemned)
    }

    fn next(
        &self,
        draft: &Draft<'_>,
        wanted: &Wanted,
        pods: &[Option<Arc<Pod>>],
        condemned: &[Arc<Pod>],
    ) -> Turn {
        let of =
            |pod: Option<&Arc<Pod>>| pod.map_or(State::Missing, |it| self.pod_state(draft, it));
        let without_a_place = |pod: &&Pod| {
            version(wanted, pod) == Version::Update && self.pod_state(draft, pod) == State::Unplaced
        };
        let waiting: Vec<&Pod> =
            pods.iter().flatten().map(|pod| &**pod).filter(without_a_place).collect();
        let in_the_way = |pod: &Arc<Pod>| self.is_in_the_way(draft, wanted, &waiting, pod);
        let replicas: Vec<Replica> = pods
            .iter()
            .map(|pod| Replica {
                state: of(pod.as_ref()),
                version: pod.as_ref().map_or(Version::Update, |pod| version(wanted, pod)),
                in_the_way: pod.as_ref().is_some_and(in_the_way),
            })
            .collect();
        let condemned: Vec<State> = condemned.iter().map(|pod| of(Some(pod))).collect();
        ordinals::next(self.order(), &replicas, &condemned)
    }

    /// Whether it is an old pod without which one of the update that waits for a place, and its own
    /// successor, have one.
    fn is_in_the_way(
        &self,
        draft: &Draft<'_>,
        wanted: &Wanted,
        waiting: &[&Pod],
        pod: &Pod,
    ) -> bool {
        let is_there = pod.placed.is_some() && pod.deletion.is_none();
        is_there
            && version(wanted, pod) != Version::Update
            && waiting.iter().any(|waiting| {
                let successor = self.successor(wanted, pod, waiting);
                standoff::ends_without(&draft.world, waiting, pod, &successor)
            })
    }

    /// What the update would make in an old pod's stead, as far as its place goes. Its priority is
    /// that of another one that was made already.
    fn successor(&self, wanted: &Wanted, old: &Pod, made: &Pod) -> Pod {
        let ordinal = old.index.unwrap_or_default();
        let template = self.own_template(&wanted.update.template, &old.key.name, ordinal);
        let mut labels = template.labels.clone();
        labels.extend(self::labels(&wanted.update, &old.key.name, ordinal));
        Pod {
            labels,
            template: Arc::new(template),
            priority: made.priority,
            placed: None,
            nominated: None,
            ..old.clone()
        }
    }

    fn order(&self) -> Order {
        let rolling = match self.spec.update {
            StatefulUpdate::OnDelete => None,
            StatefulUpdate::RollingUpdate { partition, max_unavailable } => Some(Rolling {
                partition: partition as usize,
                // Source: `getStatefulSetMaxUnavailable`: rounded down, but never to nothing.
                max_unavailable: max_unavailable.of_rounding_down(self.replicas).max(1) as usize,
            }),
        };
        Order { parallel: self.spec.parallel, rolling }
    }

    fn pod_state(&self, draft: &Draft<'_>, pod: &Pod) -> State {
        let ended = pod.is_finished() || pod.phase() == PodPhase::Gone;
        if pod.deletion.is_some() {
            State::Ending
        } else if ended && !refused(pod) {
            State::Ended
        } else if pod.placed.is_none() {
            State::Unplaced
        } else if !pod.is_ready() || !is_reachable(&draft.world, pod) {
            State::Unready
        } else if pod.is_available(self.spec.min_ready_seconds, draft.now) {
            State::Available
        } else {
            State::Ready
        }
    }

    fn act(
        &self,
        draft: &mut Draft<'_>,
        wanted: &Wanted,
        act: Act,
        pods: &[Option<Arc<Pod>>],
        condemned: &[Arc<Pod>],
    ) {
        let last = self.last_change(draft);
        let number = wanted.update.number;
        let rollout = Reason::Rollout { deployment: self.key.clone(), revision: number };
        let (pod, reasons) = match act {
            Act::Make(position, version) => {
                let revision = match version {
                    Version::Current => &wanted.current,
                    Version::Update | Version::Other => &wanted.update,
                };
                return self.make(draft, revision, position, pods);
            }
            Act::Clear(position) => {
                let ended = pods[position]
                    .as_ref()
                    .map(|pod| Reason::PodEnded { pod: pod.key.clone(), reason: end_of(pod) });
                (pods[position].as_ref(), ended.into_iter().collect())
            }
            Act::Replace(position) => (pods[position].as_ref(), [vec![rollout], last].concat()),
            Act::GiveUp(position) | Act::MakeWay(position) => {
                let what = match act {
                    Act::MakeWay(_) => "a pod of the new revision has a place only without it",
                    _ => "it is not ready, and its revision is not wanted any more",
                };
                let ahead = Reason::Limit { what: what.to_owned() };
                (pods[position].as_ref(), [vec![ahead, rollout], last].concat())
            }
            Act::Dismiss(index) => (condemned.get(index), [vec![self.count(draft)], last].concat()),
        };
        if let Some(pod) = pod {
            pods::stop(draft, pod, reasons);
        }
    }

    fn last_change(&self, draft: &Draft<'_>) -> Vec<Reason> {
        config::last_change(&draft.world, self.applied, &self.spec.template)
    }

    fn count(&self, draft: &Draft<'_>) -> Reason {
        let found = self.pods(draft).iter().filter(|pod| pod.is_active()).count();
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        Reason::Count { owner: self.key.clone(), wanted: self.replicas, found }
    }

    fn make(
        &self,
        draft: &mut Draft<'_>,
        revision: &Revision,
        position: usize,
        before: &[Option<Arc<Pod>>],
    ) {
        let Some(owner) = draft.world.objects.get(self.key).map(|row| (*row.value).clone()) else {
            return;
        };
        // A set has at most as many pods as u32 counts, so a position fits.
        let ordinal = self.spec.first_ordinal + u32::try_from(position).unwrap_or(u32::MAX);
        let name = format!("{}-{ordinal}", self.key.name);
        let key = self.key.sibling(Kind::Pod, &name);
        if let Some(whose) = taken(&draft.world, &key) {
            let for_what = format!("the name `{name}`, which the pod of {whose} has");
            return draft.blocked(self.key, for_what, "its pod of that ordinal is not started");
        }
        self.claims().make(draft, ordinal);
        let mut reasons = [vec![self.count(draft)], self.last_change(draft)].concat();
        if before.iter().flatten().any(|pod| pod.revision_digest != revision.revision_digest) {
            let number = revision.number;
            reasons.insert(1, Reason::Rollout { deployment: self.key.clone(), revision: number });
        }
        let counter = owner.counter + 1;
        let counted = Applied { counter, ..owner.clone() };
        let new = NewPod {
            extra_labels: labels(revision, &name, ordinal),
            key,
            owner: self.key.clone(),
            owner_uid: owner.uid,
            counter,
            template: Arc::new(self.own_template(&revision.template, &name, ordinal)),
            revision_digest: revision.revision_digest.clone(),
            index: Some(ordinal),
            pinned: None,
        };
        let effect = Effect::Put(self.key.clone(), Record::Object(Arc::new(counted)));
        pods::create(draft, new, &revision.configs, reasons, vec![effect]);
    }

    /// The template with what makes this pod itself: its volumes, and its name in the DNS.
    fn own_template(&self, template: &PodTemplate, name: &str, ordinal: u32) -> PodTemplate {
        let mut own = template.clone();
        own.volumes = set_claims::volumes(self.spec, template, self.key, ordinal);
        own.network.hostname = Some(name.to_owned());
        own.network.subdomain = Some(self.spec.service.clone()).filter(|name| !name.is_empty());
        own
    }

    fn wait(
        &self,
        draft: &mut Draft<'_>,
        turn: &Turn,
        pods: &[Option<Arc<Pod>>],
        condemned: &[Arc<Pod>],
    ) {
        let one = match turn.waits_for {
            Some(Wait::Replica(position)) => pods.get(position).and_then(Option::as_ref),
            Some(Wait::Condemned(index)) => condemned.get(index),
            None => None,
        };
        if let Some(pod) = one {
            self.wait_for(draft, pod);
        }
        let down = |pod: &&Arc<Pod>| !matches!(self.pod_state(draft, pod), State::Available);
        let others: Vec<Arc<Pod>> = pods.iter().flatten().filter(down).cloned().collect();
        for pod in others.iter().filter(|pod| one.is_none_or(|one| one.key != pod.key)) {
            self.wait_for(draft, pod);
        }
    }

    /// What is told to end is waited for already.
    fn wait_for(&self, draft: &mut Draft<'_>, pod: &Pod) {
        let name = &pod.key.name;
        match self.pod_state(draft, pod) {
            State::Unready => {
                let what = format!("pod `{name}` to be ready");
                pods::wait_for_pods(draft, self.key, what, pod);
            }
            State::Ready => {
                let at = pod.available_at(self.spec.min_ready_seconds).unwrap_or(draft.now);
                let seconds = self.spec.min_ready_seconds;
                draft.wait(Waiting {
                    object: self.key.clone(),
                    for_what: format!("pod `{name}` to be ready for {seconds} s"),
                    kind: WaitKind::Progress,
                    deadline: Some(at),
                    consequence: "it counts as available, and the others follow".to_owned(),
                    unplaced: None,
                });
                draft.wake(self.key, at);
            }
            // Where there is no node for it, that is waited for.
            State::Unplaced => {}
            State::Missing | State::Ended | State::Ending | State::Available => {}
        }
    }

    fn state(&self, draft: &Draft<'_>) -> StatefulSetState {
        let row = draft.world.stateful_sets.get(self.key);
        row.map(|row| (*row.value).clone()).unwrap_or_default()
    }

    fn note_state(&self, draft: &mut Draft<'_>, wanted: &Wanted) {
        let old = self.state(draft);
        let (status, mut current) = self.count_pods(draft, wanted);
        // Source: `completeRollingUpdate`. Upstream leaves it out for OnDelete, and then counts
        // by a revision that no pod has.
        let complete = [status.replicas, status.updated, status.ready]
            .iter()
            .all(|count| *count == self.replicas);
        let revision = if complete { &wanted.update } else { &wanted.current };
        if complete {
            current = status.updated;
        }
        let state = StatefulSetState {
            observed_generation: self.applied.generation,
            current_revision: revision.key.name.to_string(),
            update_revision: wanted.update.key.name.to_string(),
            status,
            current,
            ..old.clone()
        };
        let used = [state.current_revision.clone(), state.update_revision.clone()];
        if state != old {
            draft.note(self.key, Record::StatefulSet(Arc::new(state)));
        }
        self.wake_to_count(draft);
        revisions::forget(draft, self.owner(), &used.each_ref().map(String::as_str));
    }

    /// A pod counts as available after it was ready for long enough, whether it is waited for or,
    /// beyond the range, only still there.
    fn wake_to_count(&self, draft: &mut Draft<'_>) {
        for pod in self.pods(draft) {
            let ready = self.pod_state(draft, &pod) == State::Ready;
            let at = pod.available_at(self.spec.min_ready_seconds).filter(|_| ready);
            if let Some(at) = at {
                draft.wake(self.key, at);
            }
        }
    }

    /// The counts, and how many pods have the current revision.
    fn count_pods(&self, draft: &Draft<'_>, wanted: &Wanted) -> (ReplicaStatus, u32) {
        let (mut status, mut current) = (ReplicaStatus::default(), 0);
        for pod in self.pods(draft) {
            status.replicas += 1;
            let state = self.pod_state(draft, &pod);
            status.ready += u32::from(matches!(state, State::Ready | State::Available));
            status.available += u32::from(state == State::Available);
            if state != State::Ending {
                let digest = &pod.revision_digest;
                status.updated += u32::from(*digest == wanted.update.revision_digest);
                current += u32::from(*digest == wanted.current.revision_digest);
            }
        }
        (status, current)
    }
}

fn version(wanted: &Wanted, pod: &Pod) -> Version {
    if pod.revision_digest == wanted.update.revision_digest {
        Version::Update
    } else if pod.revision_digest == wanted.current.revision_digest {
        Version::Current
    } else {
        Version::Other
    }
}

/// Who has a pod of this name, or wants it in a manifest.
fn taken(world: &World, key: &ObjectKey) -> Option<ObjectKey> {
    let pod = world.pods.get(key).map(|pod| pod.owner.clone());
    pod.or_else(|| world.objects.contains_key(key).then(|| key.clone()))
}

fn labels(revision: &Revision, name: &str, ordinal: u32) -> Labels {
    Labels::from([
        (HASH_LABEL.to_owned(), revision.key.name.to_string()),
        (POD_NAME_LABEL.to_owned(), name.to_owned()),
        (POD_INDEX_LABEL.to_owned(), ordinal.to_string()),
    ])
}
