//! What the node itself is like: capacity, facts, disk. Also drops unused images when the disk
//! fills up.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::observation::{Capacity, NodeFacts, NodeObservation};

use crate::runtime::{NetworkState, Runtime};
use crate::worker::Shared;
use crate::worker::outbox::Outbox;

const EVERY: Duration = Duration::from_secs(60);
/// How soon to look again while the engine does not answer.
const SOON: Duration = Duration::from_secs(2);
/// Kubernetes' own default.
const MAX_PODS: u32 = 110;
/// Kubernetes collects images above this share of the disk.
const PRESSURE_PERCENT: u64 = 85;

/// The label by which manifests ask for an architecture.
pub const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// A machine's name as Kubernetes (and Go) writes it; engines and kernels write what `uname -m` does.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armv6l" | "armv7l" => "arm",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Looks at the node now and then, for as long as the agent lives.
pub(super) async fn watch_node<R: Runtime>(shared: Arc<Shared<R>>, outbox: Arc<Outbox>) {
    loop {
        let Ok(engine) = shared.runtime.engine().await else {
            tokio::time::sleep(SOON).await;
            continue;
        };
        let disk = disk(Path::new(&engine.root));
        let allowed = shared.places.policy.host_paths.iter();
        let facts = NodeFacts {
            hostname: line("/proc/sys/kernel/hostname"),
            addresses: addresses(),
            os_image: engine.operating_system,
            kernel: engine.kernel,
            architecture: architecture(&engine.architecture).to_owned(),
            engine: engine.version,
            engine_api: engine.api,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: host_boot(),
            allowed_paths: allowed.map(|path| path.display().to_string()).collect(),
        };
        let capacity = Capacity {
            cpu_millis: engine.cpus * 1000,
            memory_bytes: engine.memory_bytes,
            pods: MAX_PODS,
            disk_bytes: disk.map_or(0, |disk| disk.total_bytes),
        };
        outbox.node(NodeObservation { capacity, facts, ..NodeObservation::default() });
        if let Some(disk) = disk {
            watch_disk(&shared, &outbox, disk).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Clone, Copy)]
struct Disk {
    total_bytes: u64,
    used_percent: u64,
}

fn disk(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    let total_bytes = found.f_blocks.checked_mul(found.f_frsize)?;
    let free = found.f_bavail.checked_mul(found.f_frsize)?;
    let used_percent = 100 - (u128::from(free) * 100 / u128::from(total_bytes.max(1))) as u64;
    Some(Disk { total_bytes, used_percent })
}

async fn watch_disk<R: Runtime>(shared: &Shared<R>, outbox: &Outbox, disk: Disk) {
    let pressed = disk.used_percent >= PRESSURE_PERCENT;
    let state = if pressed {
        Err(format!("the engine's disk is {} % full", disk.used_percent))
    } else {
        Ok(())
    };
    outbox.condition("DiskPressure", state, "EnoughSpace", "DiskNearlyFull");
    if pressed {
        drop_unused_images(shared).await;
    }
}

/// Removes images that were fetched for pods of this cluster and serve none of them now.
async fn drop_unused_images<R: Runtime>(shared: &Shared<R>) {
    let any = "255.255.255.255/32".parse().expect("a valid range");
    let Ok(view) = shared.runtime.view(any).await else { return };
    debug_assert_eq!(view.network, NetworkState::Missing);
    let used: BTreeSet<&str> = view.containers.iter().map(|seen| seen.image.as_str()).collect();
    let Ok(images) = shared.runtime.images().await else { return };
    let fetched = shared.puller.fetched();
    for image in images {
        let ours = image.names.iter().any(|name| fetched.contains(name));
        let in_use = used.contains(image.id.as_str())
            || image.digests.iter().any(|digest| used.contains(digest.as_str()));
        if ours && !in_use {
            // An image that something else uses is refused by the engine, as it should be.
            match shared.runtime.remove_image(&image.id).await {
                Ok(()) => shared.puller.forget(&image.names),
                Err(error) => tracing::debug!(image = image.id, %error, "image kept"),
            }
        }
    }
}

/// Addresses that other hosts could know this one by: those that its routes go out from.
fn addresses() -> Vec<String> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok();
    let address = socket.and_then(|socket| {
        socket.connect("198.51.100.1:9").ok()?;
        socket.local_addr().ok()
    });
    address.map(|address| address.ip().to_string()).into_iter().collect()
}

/// Changes with each boot of the host.
pub fn host_boot() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
