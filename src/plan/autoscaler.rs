//! HorizontalPodAutoscalers: a workload gets as many pods as their figures ask for.
//!
//! The figures are on record by the time they are looked at; the arithmetic is in `autoscaling`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::observation::PodPhase;
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::{ContainerUsage, PodUsage, USAGE_PERIOD_SECONDS, Usage};

use crate::domain::autoscaling::{
    AutoscalerSpec, AutoscalerState, MeasuredResource, ResourceMetric, STALE_AFTER,
};
use crate::domain::key::ObjectKey;
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{Applied, Pod};
use crate::domain::resource::Spec;
use crate::domain::template::ContainerTemplate;
use crate::domain::world::{Effect, Record, World};
use crate::plan::autoscaling::{self, Past, Sample, SampleState};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::pods::is_reachable;

/// How often a number is worked out anew. Source: `--horizontal-pod-autoscaler-sync-period`.
const PERIOD: Duration = Duration::from_secs(USAGE_PERIOD_SECONDS as u64);
/// For how long after its start a pod's cpu figures count only if they are of a time when it was
/// ready. Source: upstream's `--horizontal-pod-autoscaler-cpu-initialization-period`.
const CPU_INITIALIZATION: Duration = Duration::from_secs(5 * 60);

/// What a node's figures change: those of pods that an autoscaler looks after are recorded.
pub fn fold(world: &World, node: &NodeName, usage: &Usage) -> Vec<Effect> {
    let mut states: BTreeMap<ObjectKey, AutoscalerState> = BTreeMap::new();
    for figures in &usage.pods {
        let Some(pod) = world.pod_by_uid(&figures.uid).filter(|pod| pod.node() == Some(node))
        else {
            continue;
        };
        let workload = world.workload_of(pod);
        if let Some(key) = world.autoscaler_of(&workload) {
            let state = states.entry(key.clone()).or_insert_with(|| recorded(world, key));
            state.usages.insert(figures.uid.clone(), figures.clone());
        }
    }
    let put = |(key, state)| Effect::Put(key, Record::Autoscaler(Arc::new(state)));
    states.into_iter().map(put).collect()
}

fn recorded(world: &World, key: &ObjectKey) -> AutoscalerState {
    world.autoscalers.get(key).map(|row| (*row.value).clone()).unwrap_or_default()
}

pub fn plan_autoscaler(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::Autoscaler(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let before = recorded(&draft.world, key);
    let due = before.evaluated.map_or(draft.now, |at| at.after(PERIOD));
    if due > draft.now && before.observed_generation == applied.generation {
        draft.wake(key, due);
        return say(draft, key, &before);
    }
    draft.wake(key, draft.now.after(PERIOD));
    let mut scaler = Autoscaler { key, applied: &applied, spec, state: before.clone() };
    scaler.run(draft);
    scaler.state.observed_generation = applied.generation;
    scaler.state.evaluated = Some(draft.now);
    let state = scaler.state;
    say(draft, key, &state);
    draft.note(key, Record::Autoscaler(Arc::new(state)));
}

/// Figures may come late, and an autoscaler without any waits for them.
fn say(draft: &mut Draft<'_>, key: &ObjectKey, state: &AutoscalerState) {
    if let Some(trouble) = &state.trouble {
        draft.blocked(key, format!("something to go by ({trouble})"), "the number of pods stays");
    }
}

/// The number that a workload's manifest says.
pub fn written_replicas(world: &World, target: &ObjectKey) -> Option<u32> {
    match &world.objects.get(target)?.resource.spec {
        Spec::Deployment(spec) => Some(spec.replicas),
        Spec::ReplicaSet(spec) => Some(spec.replicas),
        Spec::StatefulSet(spec) => Some(spec.replicas),
        _ => None,
    }
}

/// Why a workload has another number of pods than its manifest says.
pub fn reason(world: &World, workload: &ObjectKey) -> Option<Reason> {
    let (by, desired) = world.scaled_by(workload)?;
    Some(Reason::Autoscaled { by: by.clone(), what: format!("{desired} pods are needed") })
}

struct Autoscaler<'a> {
    key: &'a ObjectKey,
    applied: &'a Arc<Applied>,
    spec: &'a AutoscalerSpec,
    state: AutoscalerState,
}

impl Autoscaler<'_> {
    fn run(&mut self, draft: &mut Draft<'_>) {
        let target = &self.spec.target;
        let Some(written) = written_replicas(&draft.world, target) else {
            self.state.trouble = Some(format!("there is no {target} to scale"));
            return;
        };
        if let Some(first) = draft.world.autoscaler_of(target).filter(|first| *first != self.key) {
            self.state.trouble = Some(format!("{first} scales {target} already"));
            return;
        }
        let current = draft.world.replicas_of(target, written);
        self.state.current = current;
        self.state.limited = None;
        let pods = self.pods(&draft.world);
        let uids: BTreeSet<&PodUid> = pods.iter().map(|pod| &pod.uid).collect();
        self.state.usages.retain(|uid, _| uids.contains(uid));
        self.state.served.retain(|uid| uids.contains(uid));
        let is_new = self.state.metrics.is_empty();
        let served = pods.iter().filter(|pod| pod.is_ready() || is_new && is_old(pod, draft.now));
        self.state.served.extend(served.map(|pod| pod.uid.clone()));
        if current == 0 {
            self.state.trouble = Some("its target is scaled to 0 by hand".to_owned());
            return;
        }
        let wished = self.wished(draft, &pods, current);
        let (replicas, why) = self.bounded(current, wished, draft.now);
        self.scale(draft, current, replicas, &why);
    }

    fn pods(&self, world: &World) -> Vec<Arc<Pod>> {
        let owners = world.pod_owners(&self.spec.target);
        let mut pods: Vec<Arc<Pod>> = owners
            .into_iter()
            .flat_map(|owner| world.pods_of(&owner))
            .filter(|pod| pod.is_active())
            .map(|row| Arc::clone(&row.value))
            .collect();
        pods.sort_by(|one, other| one.key.cmp(&other.key));
        pods
    }

    /// The most that any metric wishes for, and in words why. While one of them has no figures the
    /// others don't take pods away.
    fn wished(&mut self, draft: &Draft<'_>, pods: &[Arc<Pod>], current: u32) -> (u32, String) {
        let mut highest: Option<(u32, String)> = None;
        let mut blind = false;
        self.state.metrics.clear();
        for metric in &self.spec.metrics {
            let samples: Vec<Sample> =
                pods.iter().map(|pod| self.sample(&draft.world, pod, metric, draft.now)).collect();
            let wish = autoscaling::wish(current, metric.target, &samples);
            self.state.metrics.push(wish.map(|wish| wish.value));
            let Some(wish) = wish else {
                blind = true;
                continue;
            };
            if highest.as_ref().is_none_or(|(replicas, _)| wish.replicas > *replicas) {
                highest = Some((wish.replicas, words(metric, &wish)));
            }
        }
        self.state.trouble = blind.then(|| no_figures(pods.len()));
        match highest {
            Some((replicas, why)) if !(blind && replicas < current) => (replicas, why),
            _ => (current, "without figures".to_owned()),
        }
    }

    fn sample(&self, world: &World, pod: &Pod, metric: &ResourceMetric, now: Timestamp) -> Sample {
        let measured = |container: &&ContainerTemplate| {
            metric.container.as_ref().is_none_or(|name| *name == container.name)
        };
        let containers = pod.template.containers.iter();
        let sidecars = pod.template.init_containers.iter().filter(|container| container.sidecar);
        let requests = containers.chain(sidecars).filter(measured).map(|it| request(it, metric));
        let figures = self.state.usages.get(&pod.uid).filter(|it| now.since(it.at) <= STALE_AFTER);
        let state = match figures.and_then(|it| Some((it, used(it, metric)?))) {
            _ if pod.phase() == PodPhase::Pending => SampleState::Unready,
            None => SampleState::Missing,
            Some((figures, _)) if self.is_warming_up(world, pod, metric, figures, now) => {
                SampleState::Unready
            }
            Some((_, usage)) => SampleState::Ready(usage),
        };
        // One container that asks for nothing leaves no share to speak of.
        let requests: Option<Vec<u64>> = requests.collect();
        Sample {
            state,
            request: requests
                .map_or(0, |all| all.iter().fold(0, |sum: u64, one| sum.saturating_add(*one))),
        }
    }

    /// Starting up costs cpu that serving does not. Later on, one that served once and is not
    /// ready just now may be so for being overloaded: it counts. Source: `groupPods` of upstream's
    /// `replica_calculator.go`.
    fn is_warming_up(
        &self,
        world: &World,
        pod: &Pod,
        metric: &ResourceMetric,
        figures: &PodUsage,
        now: Timestamp,
    ) -> bool {
        if metric.resource != MeasuredResource::Cpu {
            return false;
        }
        let Some(observed) = pod.observed.as_ref() else { return true };
        let Some(started) = observed.started_at else { return true };
        let since = observed.ready_since.filter(|_| pod.is_ready() && is_reachable(world, pod));
        if now.since(started) >= CPU_INITIALIZATION {
            return since.is_none() && !self.state.served.contains(&pod.uid);
        }
        let window = Duration::from_secs(figures.window_seconds.into());
        since.is_none_or(|since| figures.at < since.after(window))
    }

    /// Within what the rules and the bounds allow.
    fn bounded(&mut self, current: u32, wished: (u32, String), now: Timestamp) -> (u32, String) {
        let (wish, why) = wished;
        let (up, down) = (&self.spec.scale_up, &self.spec.scale_down);
        let window = up.stabilization_seconds.max(down.stabilization_seconds);
        let fresh =
            |at: Timestamp, seconds: u32| now.since(at) < Duration::from_secs(u64::from(seconds));
        self.state.recommendations.retain(|(at, _)| *at < now && fresh(*at, window));
        self.state.recommendations.push((now, wish));
        let periods = up.policies.iter().chain(&down.policies).map(|it| it.period_seconds);
        let longest = periods.max().unwrap_or(0);
        self.state.changes.retain(|(at, _)| fresh(*at, longest));
        let past =
            Past { recommendations: &self.state.recommendations, changes: &self.state.changes };
        let steady = autoscaling::stabilized(current, (up, down), past, now);
        let paced = if steady > current {
            steady.min(autoscaling::ceiling(current, up, past, now))
        } else {
            steady.max(autoscaling::floor(current, down, past, now))
        };
        let bounded = paced.clamp(self.spec.min_replicas, self.spec.max_replicas);
        let limited = match () {
            () if bounded < paced || steady > self.spec.max_replicas => Some("TooManyReplicas"),
            () if bounded > paced || steady < self.spec.min_replicas => Some("TooFewReplicas"),
            () if paced < steady => Some("ScaleUpLimit"),
            () if paced > steady => Some("ScaleDownLimit"),
            () => None,
        };
        self.state.limited = limited.map(str::to_owned);
        let why = match () {
            () if paced == bounded => why,
            () if bounded == self.spec.max_replicas => format!("{why}, at most {bounded}"),
            () => format!("at least {bounded}"),
        };
        (bounded, why)
    }

    fn scale(&mut self, draft: &mut Draft<'_>, current: u32, replicas: u32, why: &str) {
        if replicas == current {
            // Without figures the manifest's number goes on counting.
            let known = self.state.metrics.iter().any(Option::is_some);
            if self.state.desired.is_none() && known {
                self.state.desired = Some(current);
            }
            return;
        }
        self.state.desired = Some(replicas);
        self.state.last_scale = Some(draft.now);
        let change = i64::from(replicas) - i64::from(current);
        self.state.changes.push((draft.now, change));
        let words =
            Said { detail: format!("{current} → {replicas}"), ..said(Verb::Scale, self.key) };
        let reasons = vec![
            Reason::Autoscaled { by: self.key.clone(), what: why.to_owned() },
            commit_reason(self.applied),
        ];
        let record = Record::Autoscaler(Arc::new(self.state.clone()));
        draft.step(words, reasons, vec![Effect::Put(self.key.clone(), record)]);
    }
}

/// Of a pod that was there before its autoscaler, nobody knows whether it ever served.
fn is_old(pod: &Pod, now: Timestamp) -> bool {
    let started = pod.observed.as_ref().and_then(|observed| observed.started_at);
    started.is_some_and(|started| now.since(started) >= CPU_INITIALIZATION)
}

fn no_figures(pods: usize) -> String {
    match pods {
        0 => "its target has no pods".to_owned(),
        _ => "no figures for its pods: none came, or the pods request nothing".to_owned(),
    }
}

fn words(metric: &ResourceMetric, wish: &autoscaling::Wish) -> String {
    use crate::domain::autoscaling::MetricTarget;
    let name = metric.resource.name();
    match (metric.target, wish.value.utilization) {
        (MetricTarget::Utilization(aim), Some(found)) => {
            format!("{name} is at {found} % of the request, and {aim} % is aimed at")
        }
        (MetricTarget::Utilization(aim), None) => format!("{name}, {aim} % is aimed at"),
        (MetricTarget::AverageValue(aim), _) => {
            let (found, unit) = (wish.value.average, unit(metric.resource));
            format!("{name} is at {found}{unit} on average, and {aim}{unit} is aimed at")
        }
    }
}

fn unit(resource: MeasuredResource) -> &'static str {
    match resource {
        MeasuredResource::Cpu => "m",
        MeasuredResource::Memory => " bytes",
    }
}

fn request(container: &ContainerTemplate, metric: &ResourceMetric) -> Option<u64> {
    match metric.resource {
        MeasuredResource::Cpu => container.resources.cpu_request_millis,
        MeasuredResource::Memory => container.resources.memory_request_bytes,
    }
}

fn used(figures: &PodUsage, metric: &ResourceMetric) -> Option<u64> {
    let measured = |container: &&ContainerUsage| {
        metric.container.as_ref().is_none_or(|name| *name == container.name)
    };
    let mut found = figures.containers.iter().filter(measured).peekable();
    found.peek()?;
    Some(
        found
            .map(|container| match metric.resource {
                MeasuredResource::Cpu => container.cpu_millis,
                MeasuredResource::Memory => container.memory_bytes,
            })
            .sum(),
    )
}
