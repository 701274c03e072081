//! From an assignment to container orders: names, keyed hashes, and the order itself. Pure.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::ids::{Attempt, hex};
use kgit_protocol::pod::{ContainerSpec, PodSpec, PullPolicy, VolumeSource};
use sha2::Sha256;

use crate::decide::{members, needs_pause};
use crate::runtime::{
    BindMount, ContainerOrder, Identity, IpcSource, Namespaces, NetworkSource, PAUSE, PidSource,
    Scope, Seccomp,
};

/// Keys the hashes of specs: they are shown on containers, and specs hold secrets that could be
/// guessed and compared if the hash were plain.
#[derive(Clone)]
pub struct SpecKey(pub [u8; 32]);

impl std::fmt::Debug for SpecKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpecKey(…)")
    }
}

/// Half of the hash: enough to tell specs apart, short enough for a label.
const HASH_BYTES: usize = 16;

/// The keyed hashes of a pod's containers, by name. What can change under a running container
/// (probes, hooks, files, logins) does not count.
pub fn hashes(key: &SpecKey, pod: &PodAssignment) -> BTreeMap<String, String> {
    let shared = shared_part(&pod.spec);
    let mut hashes: BTreeMap<String, String> = members(pod)
        .map(|(spec, _)| (spec.name.clone(), hash(key, &(&shared, own_part(spec)))))
        .collect();
    if needs_pause(pod) {
        hashes.insert(PAUSE.to_owned(), hash(key, &(&shared, PAUSE)));
    }
    hashes
}

fn hash(key: &SpecKey, content: &impl serde::Serialize) -> String {
    let bytes = serde_json::to_vec(content).expect("specs have only string keys");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    mac.update(&bytes);
    hex(&mac.finalize().into_bytes()[..HASH_BYTES])
}

fn shared_part(spec: &PodSpec) -> PodSpec {
    let mut shared = spec.clone();
    shared.containers.clear();
    shared.init_containers.clear();
    shared.registry_logins.clear();
    shared.host_aliases.clear();
    shared.dns = kgit_protocol::pod::Dns::default();
    shared.termination_grace_seconds = 0;
    shared.active_deadline_seconds = None;
    shared.fence_after_seconds = None;
    shared.restart_policy = kgit_protocol::pod::RestartPolicy::Always;
    for volume in &mut shared.volumes {
        if let VolumeSource::Files { files, .. } = &mut volume.source {
            files.clear();
        }
    }
    shared
}

fn own_part(spec: &ContainerSpec) -> ContainerSpec {
    let mut own = spec.clone();
    own.liveness = None;
    own.readiness = None;
    own.startup = None;
    own.post_start = None;
    own.pre_stop = None;
    own.pull_policy = PullPolicy::IfNotPresent;
    own
}

/// The name of a container: derived, so that making it twice is noticed by the engine.
pub fn container_name(scope: &Scope, pod: &PodAssignment, name: &str, attempt: Attempt) -> String {
    let name = if name == PAUSE { "POD" } else { name };
    let uid = pod.uid.as_str().get(..8).unwrap_or(pod.uid.as_str());
    format!("kgit-{}_{}_{}_{name}_{uid}_{attempt}", scope.short(), pod.namespace, pod.name)
}

fn identity(pod: &PodAssignment, name: &str, attempt: Attempt, hash: String) -> Identity {
    Identity {
        pod: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        pod_name: pod.name.clone(),
        container: name.to_owned(),
        attempt,
        spec: hash,
    }
}

/// The node's own profile that a container asks for: a file's path.
pub fn localhost_profile(spec: &ContainerSpec) -> Option<&str> {
    spec.security.seccomp.as_deref()?.strip_prefix("Localhost/")
}

/// Whether only the image can tell if the container would run as root.
pub fn root_depends_on_image(spec: &ContainerSpec) -> bool {
    spec.security.run_as_non_root && spec.security.run_as_user.is_none()
}

/// Refuses a container that must not run as root and would, or might. Rule and words are the
/// kubelet's (`verifyRunAsNonRoot`). `image_user` is the image's `user[:group]`.
pub fn check_non_root(
    pod: &PodAssignment,
    spec: &ContainerSpec,
    image_user: &str,
) -> Result<(), String> {
    if !spec.security.run_as_non_root {
        return Ok(());
    }
    let place =
        format!("(pod: \"{}_{}({})\", container: {})", pod.name, pod.namespace, pod.uid, spec.name);
    match spec.security.run_as_user {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(uid) if uid != 0 => Ok(()),
        Err(_) if !user.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify \
             user is non-root {place}"
        )),
        Ok(_) | Err(_) => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
    }
}

/// The order for a member of the pod.
pub fn member_order(
    scope: &Scope,
    pod: &PodAssignment,
    spec: &ContainerSpec,
    attempt: Attempt,
    hash: String,
    sandbox: Option<&str>,
    mounts: Vec<BindMount>,
) -> ContainerOrder {
    ContainerOrder {
        name: container_name(scope, pod, &spec.name, attempt),
        identity: identity(pod, &spec.name, attempt, hash),
        image: spec.image.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        env: spec.env.iter().map(|var| format!("{}={}", var.name, var.value)).collect(),
        hostname: Some(pod.spec.hostname.clone()),
        namespaces: member_namespaces(&pod.spec, sandbox),
        mounts,
        // The pause container binds the ports where there is one: it holds the network.
        ports: if sandbox.is_some() { Vec::new() } else { spec.ports.clone() },
        resources: spec.resources.clone(),
        security: spec.security.clone(),
        seccomp: match spec.security.seccomp.as_deref() {
            Some("Unconfined") => Seccomp::Unconfined,
            _ => Seccomp::EngineDefault,
        },
        pod_security: pod_security(&pod.spec, sandbox),
        stdin: spec.stdin,
        tty: spec.tty,
    }
}

fn pod_security(spec: &PodSpec, sandbox: Option<&str>) -> kgit_protocol::pod::PodSecurity {
    let mut security = spec.security.clone();
    if sandbox.is_some() {
        security.sysctls.clear();
    }
    security
}

fn member_namespaces(spec: &PodSpec, sandbox: Option<&str>) -> Namespaces {
    let sandbox = sandbox.map(str::to_owned);
    let network = match (&sandbox, spec.host_network) {
        (_, true) => NetworkSource::Host,
        (Some(id), false) => NetworkSource::Container(id.clone()),
        (None, false) => own_network(spec),
    };
    let ipc = match (&sandbox, spec.host_ipc) {
        (_, true) => IpcSource::Host,
        (Some(id), false) => IpcSource::Container(id.clone()),
        (None, false) => IpcSource::Private,
    };
    let pid = match (&sandbox, spec.host_pid, spec.share_process_namespace) {
        (_, true, _) => PidSource::Host,
        (Some(id), false, true) => PidSource::Container(id.clone()),
        (_, false, _) => PidSource::Own,
    };
    Namespaces { network, ipc, pid }
}

/// A pod without an address that is not on the host's network has nowhere to be, so it gets the
/// host's; the plan assigns an address to all others.
fn own_network(spec: &PodSpec) -> NetworkSource {
    spec.address.map_or(NetworkSource::Host, NetworkSource::Bridge)
}

/// The order for the container that holds the pod's namespaces.
pub fn pause_order(
    scope: &Scope,
    pod: &PodAssignment,
    attempt: Attempt,
    hash: String,
    image: String,
    mounts: Vec<BindMount>,
) -> ContainerOrder {
    let spec = &pod.spec;
    ContainerOrder {
        name: container_name(scope, pod, PAUSE, attempt),
        identity: identity(pod, PAUSE, attempt, hash),
        image,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        hostname: Some(spec.hostname.clone()),
        namespaces: Namespaces {
            network: if spec.host_network { NetworkSource::Host } else { own_network(spec) },
            ipc: if spec.host_ipc { IpcSource::Host } else { IpcSource::Shareable },
            pid: if spec.host_pid { PidSource::Host } else { PidSource::Own },
        },
        mounts,
        ports: spec
            .all_containers()
            .flat_map(|container| container.ports.iter().cloned())
            .collect(),
        resources: kgit_protocol::pod::Resources::default(),
        security: kgit_protocol::pod::ContainerSecurity {
            read_only_root: true,
            ..Default::default()
        },
        seccomp: Seccomp::EngineDefault,
        pod_security: kgit_protocol::pod::PodSecurity {
            sysctls: spec.security.sysctls.clone(),
            ..Default::default()
        },
        stdin: false,
        tty: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(security: serde_json::Value) -> PodAssignment {
        serde_json::from_value(json!({
            "uid": "u", "namespace": "ns", "name": "p", "order": "Run", "digest": "",
            "spec": {
                "hostname": "h", "address": null,
                "dns": { "nameservers": [], "searches": [], "options": [] },
                "restart_policy": "Always", "termination_grace_seconds": 30,
                "containers": [{
                    "name": "m", "image": "i", "pull_policy": "IfNotPresent", "security": security,
                }],
            },
        }))
        .unwrap()
    }

    fn verdict(security: serde_json::Value, image_user: &str) -> String {
        let pod = pod(security);
        match check_non_root(&pod, &pod.spec.containers[0], image_user) {
            Ok(()) => "may run".to_owned(),
            Err(why) => why,
        }
    }

    #[test]
    fn a_container_that_must_not_be_root_is_held_to_it_by_its_own_user_and_the_images() {
        let non_root = || json!({ "run_as_non_root": true });
        let place = "(pod: \"p_ns(u)\", container: m)";
        assert_eq!(verdict(json!({}), ""), "may run");
        assert_eq!(verdict(non_root(), "1000"), "may run");
        assert_eq!(verdict(non_root(), "1000:0"), "may run");
        let as_root = format!("container has runAsNonRoot and image will run as root {place}");
        assert_eq!(verdict(non_root(), ""), as_root);
        assert_eq!(verdict(non_root(), "0:1000"), as_root);
        assert_eq!(
            verdict(non_root(), "web"),
            format!(
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify \
                 user is non-root {place}"
            )
        );
        let own = |user: i64| json!({ "run_as_non_root": true, "run_as_user": user });
        assert_eq!(verdict(own(5), ""), "may run");
        assert_eq!(
            verdict(own(0), "1000"),
            format!("container's runAsUser breaks non-root policy {place}")
        );
    }
}
