//! What a node allows, set on that node and not in Git: whoever can push must not become root
//! everywhere.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it resolves paths")]

use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::pod::{ContainerSpec, VolumeSource};

/// Capabilities that Docker gives every container anyway; asking for them adds nothing.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that Kubernetes counts as safe.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
];

/// What this node allows. The default allows nothing special.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// hostPath volumes may lie in these folders, and nowhere else.
    pub host_paths: Vec<PathBuf>,
    pub privileged: bool,
    /// hostNetwork, hostPID and hostIPC.
    pub host_namespaces: bool,
    /// Capabilities beyond Docker's default ones.
    pub capabilities: Vec<String>,
    /// No rules are set and no names answered on this node: services lead nowhere from it.
    pub no_services: bool,
}

impl NodePolicy {
    /// What `kgit up` allows on one's own machine.
    pub fn for_own_machine() -> Self {
        let host_paths = ["/tmp", "/srv", "/mnt"].map(PathBuf::from).to_vec();
        Self { host_paths, ..Self::default() }
    }
}

/// Why a pod is refused: the field, and what to set on the node to allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not allow {field}: {allow}")]
pub struct Refusal {
    pub field: String,
    pub allow: String,
}

/// What no policy can allow.
#[derive(Clone, Debug, Default)]
pub struct Forbidden {
    pub paths: Vec<Kept>,
    /// Where the engine keeps its data; only the engine knows, and it may be away for now.
    pub engine_root: OnceLock<PathBuf>,
}

/// A path on the host that no volume may hold or lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub path: PathBuf,
    pub holds: Holds,
}

/// What is kept there, which is why it is kept closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Whoever reaches it is root on the host.
    EngineSocket,
    EngineData,
    /// Keys, and what other pods were given.
    KgitData,
    PodSecrets,
}

impl Holds {
    fn words(self) -> &'static str {
        match self {
            Self::EngineSocket => "the engine's socket",
            Self::EngineData => "the engine's own data",
            Self::KgitData => "kgit's own data",
            Self::PodSecrets => "the secrets of pods",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::KgitData => "; kgit's data can lie elsewhere, see --data",
            Self::EngineSocket | Self::EngineData | Self::PodSecrets => "",
        }
    }
}

impl Forbidden {
    /// Why no setting can open `real`, if that is so.
    fn reason(&self, real: &Path) -> Option<String> {
        let engine = self.engine_root.get().map(|root| (root, Holds::EngineData));
        let kept = self.paths.iter().map(|kept| (&kept.path, kept.holds));
        kept.chain(engine).find_map(|(path, holds)| overlap(real, &resolve(path), holds))
    }
}

fn overlap(real: &Path, kept: &Path, holds: Holds) -> Option<String> {
    let (shown, what) = (kept.display(), holds.words());
    let how = if real == kept {
        format!("it is {what}")
    } else if real.starts_with(kept) {
        format!("it lies in {shown}, which is {what}")
    } else if kept.starts_with(real) {
        format!("it contains {shown}, which is {what}")
    } else {
        return None;
    };
    Some(format!("{how}, and no setting opens that{}", holds.remedy()))
}

/// Checks everything but the paths of volumes, which [`check_path`] does when they are resolved.
pub fn check(policy: &NodePolicy, pod: &PodAssignment) -> Result<(), Refusal> {
    let spec = &pod.spec;
    let namespaces = [
        (spec.host_network, "hostNetwork"),
        (spec.host_pid, "hostPID"),
        (spec.host_ipc, "hostIPC"),
    ];
    for (asked, field) in namespaces {
        if asked && !policy.host_namespaces {
            return refuse(format!("spec.{field}"), "start its agent with --allow-host-namespaces");
        }
    }
    for name in spec.security.sysctls.keys() {
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !policy.privileged {
            let field = format!("spec.securityContext.sysctls[{name}]");
            return refuse(field, "start its agent with --allow-privileged");
        }
    }
    spec.all_containers().try_for_each(|container| check_container(policy, container))
}

fn check_container(policy: &NodePolicy, container: &ContainerSpec) -> Result<(), Refusal> {
    let place = |field: &str| format!("containers[{}].securityContext.{field}", container.name);
    if container.security.privileged && !policy.privileged {
        return refuse(place("privileged"), "start its agent with --allow-privileged");
    }
    for capability in &container.security.add_capabilities {
        let name = capability.strip_prefix("CAP_").unwrap_or(capability);
        let allowed = policy.privileged
            || DEFAULT_CAPABILITIES.contains(&name)
            || policy.capabilities.iter().any(|allowed| {
                allowed.strip_prefix("CAP_").unwrap_or(allowed).eq_ignore_ascii_case(name)
            });
        if !allowed {
            let field = place(&format!("capabilities.add[{capability}]"));
            return refuse(field, &format!("start its agent with --allow-capability {name}"));
        }
    }
    if container.security.seccomp.as_deref() == Some("Unconfined") && !policy.privileged {
        return refuse(place("seccompProfile"), "start its agent with --allow-privileged");
    }
    Ok(())
}

fn refuse(field: String, allow: &str) -> Result<(), Refusal> {
    Err(Refusal { field, allow: allow.to_owned() })
}

/// Checks a hostPath. The path is resolved first: `..` and links count for where they lead.
pub fn check_path(
    policy: &NodePolicy,
    forbidden: &Forbidden,
    volume: &str,
    path: &Path,
) -> Result<PathBuf, Refusal> {
    let real = resolve(path);
    let field = format!("hostPath {} (volume {volume})", path.display());
    if let Some(allow) = forbidden.reason(&real) {
        return Err(Refusal { field, allow });
    }
    let inside = policy.host_paths.iter().any(|allowed| real.starts_with(resolve(allowed)));
    if inside {
        return Ok(real);
    }
    let leads =
        if real == path { String::new() } else { format!(" (it leads to {})", real.display()) };
    let allow = format!("start its agent with --allow-host-path {}{leads}", path.display());
    Err(Refusal { field, allow })
}

/// The path with links and `..` resolved as far as it exists; the rest is taken by its words.
fn resolve(path: &Path) -> PathBuf {
    let mut existing = lexical(path);
    let mut rest = Vec::new();
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.iter().rev().fold(real, |path, part| path.join(part));
        }
        match existing.file_name().map(ToOwned::to_owned) {
            Some(name) => rest.push(name),
            None => return lexical(path),
        }
        existing.pop();
    }
}

fn lexical(path: &Path) -> PathBuf {
    // `..` after a link is left to canonicalize where the path exists as it is written.
    if path.exists() {
        return path.to_path_buf();
    }
    path.components().fold(PathBuf::from("/"), |mut so_far, part| {
        match part {
            Component::ParentDir => {
                so_far.pop();
            }
            Component::Normal(name) => so_far.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        so_far
    })
}

/// The pod's hostPath volumes.
pub fn host_paths(pod: &PodAssignment) -> impl Iterator<Item = (&str, &Path)> {
    pod.spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::HostPath { path, .. } => Some((volume.name.as_str(), Path::new(path))),
        VolumeSource::EmptyDir { .. }
        | VolumeSource::Files { .. }
        | VolumeSource::Docker { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(allowed: &[&Path], path: &Path) -> Result<PathBuf, Refusal> {
        let host_paths = allowed.iter().map(|path| path.to_path_buf()).collect();
        let policy = NodePolicy { host_paths, ..NodePolicy::default() };
        let kept = |path: &str, holds| Kept { path: PathBuf::from(path), holds };
        let forbidden = Forbidden {
            paths: vec![
                kept("/var/run/docker.sock", Holds::EngineSocket),
                kept("/nowhere/kgit/agent", Holds::KgitData),
            ],
            engine_root: OnceLock::from(PathBuf::from("/nowhere/engine")),
        };
        check_path(&policy, &forbidden, "v", path)
    }

    #[test]
    fn a_path_counts_for_where_it_leads() {
        let root = tempfile::tempdir().unwrap();
        let allowed = root.path().join("allowed");
        std::fs::create_dir(&allowed).unwrap();
        std::os::unix::fs::symlink("/etc", allowed.join("link")).unwrap();
        assert!(verdict(&[&allowed], &allowed.join("new/folder")).is_ok());
        assert!(verdict(&[&allowed], &allowed.join("../other")).is_err());
        assert!(verdict(&[&allowed], &allowed.join("link")).is_err());
        assert!(verdict(&[&allowed], &allowed.join("link/passwd")).is_err());
        assert!(verdict(&[&allowed], &allowed.join("missing/../../x")).is_err());
        assert!(verdict(&[], Path::new("/tmp")).is_err());
    }

    #[test]
    fn no_setting_opens_the_engines_socket_or_what_holds_it() {
        assert!(verdict(&[Path::new("/")], Path::new("/var/run/docker.sock")).is_err());
        assert!(verdict(&[Path::new("/")], Path::new("/")).is_err());
        assert!(verdict(&[Path::new("/")], Path::new("/usr")).is_ok());
    }

    #[test]
    fn a_refused_path_is_told_which_kept_folder_stands_against_it() {
        let why = |path: &str| verdict(&[Path::new("/")], Path::new(path)).unwrap_err().to_string();
        assert_eq!(
            why("/nowhere/kgit"),
            "this node does not allow hostPath /nowhere/kgit (volume v): it contains \
             /nowhere/kgit/agent, which is kgit's own data, and no setting opens that; kgit's \
             data can lie elsewhere, see --data"
        );
        assert!(why("/nowhere/kgit/agent").contains("it is kgit's own data"));
        assert!(why("/nowhere/engine/volumes").contains("it lies in /nowhere/engine, which is"));
        assert!(verdict(&[Path::new("/nowhere")], Path::new("/nowhere/data")).is_ok());
    }
}
