//! What pods and the machine use: measured now and then, told once, never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::PROTOCOL_VERSION;
use kgit_protocol::usage::{ContainerUsage, NodeUsage, PodUsage, USAGE_PERIOD_SECONDS, Usage};
use tokio::time::Instant;

use crate::link::Link;
use crate::runtime::{Measured, Outcome, PAUSE, Runtime, Seen};
use crate::worker::outbox::Outbox;
use crate::worker::{Shared, now};

const EVERY: Duration = Duration::from_secs(USAGE_PERIOD_SECONDS as u64);
/// Containers that are asked about at once: enough to be through in a moment, few enough to leave
/// the engine to its work.
const AT_ONCE: usize = 4;

/// The cpu time of something so far, and when that was read.
#[derive(Clone, Copy, Debug)]
struct Read {
    at: Instant,
    cpu: Duration,
}

/// Measures and tells for as long as the agent lives.
pub(super) async fn tell<R: Runtime, L: Link>(
    shared: Arc<Shared<R>>,
    link: Arc<L>,
    outbox: Arc<Outbox>,
) {
    let mut meter = Meter::default();
    loop {
        let pods = meter.pods(&shared).await;
        if let Some(node) = meter.node() {
            let boot = outbox.boot().clone();
            let usage = Usage { version: PROTOCOL_VERSION, boot, node, pods };
            if let Err(error) = link.usage(&usage).await {
                tracing::debug!(%error, "figures not told; the next ones will be");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What was read last, so that the next reading gives a rate.
#[derive(Debug, Default)]
struct Meter {
    containers: BTreeMap<String, Read>,
    machine: Option<Read>,
}

impl Meter {
    /// Of every pod whose containers all have been read twice.
    async fn pods<R: Runtime>(&mut self, shared: &Arc<Shared<R>>) -> Vec<PodUsage> {
        let seen = Arc::clone(&shared.seen.borrow());
        let mut alive = Vec::new();
        for container in seen.iter() {
            if container.state.is_alive() && container.identity.container != PAUSE {
                alive.push(measured(Arc::clone(shared), container.clone()));
            }
        }
        let answers: Vec<_> = stream::iter(alive).buffer_unordered(AT_ONCE).collect().await;
        let mut partial: BTreeSet<PodUid> = BTreeSet::new();
        let mut reads = BTreeMap::new();
        let mut pods: BTreeMap<PodUid, PodUsage> = BTreeMap::new();
        for (container, measured, at) in answers {
            let before = self.containers.get(&container.id);
            if let Ok(Some(measured)) = measured {
                reads.insert(container.id.clone(), Read { at, cpu: measured.cpu });
                if let Some(before) = before {
                    add(&mut pods, &container, measured, at, *before);
                    continue;
                }
            }
            // What the others use would look like all that the pod does.
            partial.insert(container.identity.pod.clone());
        }
        self.containers = reads;
        pods.retain(|uid, _| !partial.contains(uid));
        for pod in pods.values_mut() {
            pod.containers.sort_by(|one, other| one.name.cmp(&other.name));
        }
        pods.into_values().collect()
    }

    fn node(&mut self) -> Option<NodeUsage> {
        let read = Read { at: Instant::now(), cpu: machine_cpu()? };
        let before = self.machine.replace(read)?;
        let cpu_millis = millis(before, read.cpu, read.at);
        Some(NodeUsage { at: now(), cpu_millis, memory_bytes: memory_in_use()? })
    }
}

async fn measured<R: Runtime>(
    shared: Arc<Shared<R>>,
    container: Seen,
) -> (Seen, Outcome<Option<Measured>>, Instant) {
    let measured = shared.runtime.measure(&container.id).await;
    (container, measured, Instant::now())
}

fn add(
    pods: &mut BTreeMap<PodUid, PodUsage>,
    container: &Seen,
    measured: Measured,
    at: Instant,
    before: Read,
) {
    let uid = &container.identity.pod;
    let window = at.duration_since(before.at).as_secs().max(1);
    let pod = pods.entry(uid.clone()).or_insert_with(|| PodUsage {
        uid: uid.clone(),
        at: now(),
        window_seconds: u32::try_from(window).unwrap_or(u32::MAX),
        containers: Vec::new(),
    });
    pod.containers.push(ContainerUsage {
        name: container.identity.container.clone(),
        cpu_millis: millis(before, measured.cpu, at),
        memory_bytes: measured.memory_bytes,
    });
}

/// Thousandths of a core between two readings, rounded up: who does anything is seen.
fn millis(before: Read, cpu: Duration, at: Instant) -> u64 {
    let used = cpu.saturating_sub(before.cpu).as_nanos();
    let time = at.duration_since(before.at).as_nanos().max(1);
    u64::try_from((used * 1000).div_ceil(time)).unwrap_or(u64::MAX)
}

/// What all processes together used since the machine started. Source: proc(5), `/proc/stat`.
fn machine_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; the rest is part of user.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(busy * 1000 / per_second.max(1)))
}

/// What could not be given to a new process without swapping.
fn memory_in_use() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Some((kibibytes("MemTotal")?.saturating_sub(kibibytes("MemAvailable")?)) * 1024)
}
