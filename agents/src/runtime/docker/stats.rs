//! What a container uses, as the engine measures it.

use std::time::Duration;

use bollard::models::ContainerMemoryStats;
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt as _;

use crate::runtime::docker::Docker;
use crate::runtime::docker::errors::Asked;
use crate::runtime::{Measured, Outcome};

impl Docker {
    pub(super) async fn stats(&self, id: &str) -> Outcome<Option<Measured>> {
        let client = self.client().await?;
        // Without one-shot the engine takes a second to measure a rate of its own.
        let options = StatsOptions { stream: false, one_shot: true };
        let answer = Box::pin(client.stats(id, Some(options))).next().await;
        let Some(answer) = answer else { return Ok(None) };
        let stats = answer.map_err(|error| self.failed(Asked::Container, id, error))?;
        let used = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
        let memory = stats.memory_stats.as_ref().and_then(working_set);
        // Of a container that does not run the engine answers without figures.
        Ok(used
            .zip(memory)
            .filter(|(cpu, _)| *cpu > 0)
            .map(|(cpu, memory_bytes)| Measured { cpu: Duration::from_nanos(cpu), memory_bytes }))
    }
}

/// As kubelet counts it: without the files that nobody used lately. Their name is
/// `inactive_file` where the host has cgroup v2, `total_inactive_file` where it has v1.
fn working_set(memory: &ContainerMemoryStats) -> Option<u64> {
    let of = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let inactive = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0);
    Some(memory.usage?.saturating_sub(inactive))
}
