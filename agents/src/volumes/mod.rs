//! A pod's volumes on the host: made before its first container starts, removed after its last
//! is gone. Each preparation is idempotent; it runs again with each start.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it makes folders and files")]

mod files;
mod host_path;
pub mod resolver;
mod sub_path;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::pod::{ContainerSpec, Volume, VolumeSource};

use crate::policy::{Forbidden, NodePolicy, Refusal, check, check_path};
use crate::runtime::{BindMount, MountSource, Runtime, RuntimeError, VolumeOrder};
use crate::volumes::resolver::Resolver;

/// A tmpfs for an emptyDir in memory without a limit may take as much as this.
const DEFAULT_MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// Kubernetes reads this much of a container's last words.
const LAST_WORDS_BYTES: usize = 4096;
/// In a pod's folder.
const RESOLV: &str = "resolv.conf";

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("volume {volume}: {message}")]
    Failed { volume: String, message: String },
    #[error("volume {volume}")]
    Engine {
        volume: String,
        #[source]
        error: RuntimeError,
    },
    #[error("the pod's folder {0}")]
    Folder(PathBuf, #[source] io::Error),
}

/// Where the agent keeps what pods need on the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// On disk: a folder for each pod.
    pub pods: PathBuf,
    /// In memory, for secrets: a folder for each pod. Falls back to `pods` where there is none.
    pub secrets: PathBuf,
    /// Names of provisioned volumes that were once made here.
    pub made: PathBuf,
    pub policy: NodePolicy,
    pub forbidden: Forbidden,
    pub resolver: Resolver,
}

/// What a container's mounts are made from.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    roots: BTreeMap<String, Root>,
    /// Provisioned volumes that had existed and had to be made anew: their data is lost.
    pub lost: Vec<String>,
}

#[derive(Clone, Debug)]
enum Root {
    Folder(PathBuf),
    Docker(String),
}

impl Places {
    fn pod(&self, uid: &PodUid) -> PathBuf {
        self.pods.join(uid.as_str())
    }

    /// Where an emptyDir on disk lies.
    pub fn empty_dir(&self, uid: &PodUid, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(volume)
    }

    /// Checks the node's policy and makes the pod's volumes and files.
    pub async fn prepare(
        &self,
        runtime: &impl Runtime,
        pod: &PodAssignment,
    ) -> Result<Prepared, VolumeError> {
        check(&self.policy, pod)?;
        let folder = self.pod(&pod.uid);
        make_folder(&folder, 0o700).map_err(|error| VolumeError::Folder(folder.clone(), error))?;
        let mut prepared = Prepared::default();
        for volume in &pod.spec.volumes {
            let root = self.root(runtime, pod, volume, &mut prepared.lost).await?;
            prepared.roots.insert(volume.name.clone(), root);
        }
        write_identity_files(&folder, pod, &self.resolver)
            .map_err(|error| VolumeError::Folder(folder.clone(), error))?;
        Ok(prepared)
    }

    async fn root(
        &self,
        runtime: &impl Runtime,
        pod: &PodAssignment,
        volume: &Volume,
        lost: &mut Vec<String>,
    ) -> Result<Root, VolumeError> {
        let name = &volume.name;
        let failed = |error: io::Error| VolumeError::Failed {
            volume: name.clone(),
            message: error.to_string(),
        };
        let group = pod.spec.security.fs_group;
        match &volume.source {
            VolumeSource::EmptyDir { memory: false, .. } => {
                let path = self.empty_dir(&pod.uid, name);
                make_folder(&path, 0o777).and_then(|()| give(&path, group)).map_err(failed)?;
                Ok(Root::Folder(path))
            }
            VolumeSource::EmptyDir { memory: true, size_limit_bytes } => {
                let size = size_limit_bytes.unwrap_or(DEFAULT_MEMORY_BYTES);
                self.memory(runtime, pod, name, size).await
            }
            VolumeSource::HostPath { path, kind } => {
                self.learn_engine_root(runtime, name).await?;
                let real = check_path(&self.policy, &self.forbidden, name, Path::new(path))?;
                host_path::ensure(&real, *kind)
                    .map_err(|message| VolumeError::Failed { volume: name.clone(), message })?;
                Ok(Root::Folder(real))
            }
            VolumeSource::Files { files, secret } => {
                let path = self.files_folder(&pod.uid, name, *secret);
                files::write(&path, files, group).map_err(failed)?;
                Ok(Root::Folder(path))
            }
            VolumeSource::Docker { volume, driver, options } => {
                let order = VolumeOrder {
                    name: volume.clone(),
                    driver: driver.clone(),
                    options: options.clone(),
                };
                self.provisioned(runtime, order, group, lost).await
            }
        }
    }

    /// Asks the engine where its data lies, once: no volume may reach that.
    async fn learn_engine_root(
        &self,
        runtime: &impl Runtime,
        volume: &str,
    ) -> Result<(), VolumeError> {
        if self.forbidden.engine_root.get().is_some() {
            return Ok(());
        }
        let engine = |error| VolumeError::Engine { volume: volume.to_owned(), error };
        let root = PathBuf::from(runtime.engine().await.map_err(engine)?.root);
        if root.is_absolute() {
            // Another pod's volume may have asked at the same time, and got the same answer.
            let _ = self.forbidden.engine_root.set(root);
        }
        Ok(())
    }

    /// A seccomp profile of the node's own, by its path beneath `seccomp` in the agent's
    /// directory. The error is worded for people.
    pub fn seccomp_profile(&self, file: &str) -> Result<String, String> {
        let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || file.is_empty() {
            return Err(format!("seccomp profile {file:?}: must be relative, without `..`"));
        }
        let path = self.pods.with_file_name("seccomp").join(file);
        let told = |error| format!("cannot load seccomp profile {}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| told(error.to_string()))?;
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(told(error.to_string())),
        }
    }

    /// A Docker volume on tmpfs: shared among the pod's containers, gone with the pod.
    async fn memory(
        &self,
        runtime: &impl Runtime,
        pod: &PodAssignment,
        name: &str,
        size: u64,
    ) -> Result<Root, VolumeError> {
        let volume = memory_volume(&pod.uid, name);
        let options = BTreeMap::from([
            ("type".to_owned(), "tmpfs".to_owned()),
            ("device".to_owned(), "tmpfs".to_owned()),
            ("o".to_owned(), format!("size={size},mode=1777")),
        ]);
        let order = VolumeOrder { name: volume.clone(), driver: "local".to_owned(), options };
        runtime
            .ensure_volume(&order)
            .await
            .map_err(|error| VolumeError::Engine { volume: name.to_owned(), error })?;
        Ok(Root::Docker(volume))
    }

    async fn provisioned(
        &self,
        runtime: &impl Runtime,
        order: VolumeOrder,
        group: Option<i64>,
        lost: &mut Vec<String>,
    ) -> Result<Root, VolumeError> {
        let name = order.name.clone();
        let engine = |error| VolumeError::Engine { volume: name.clone(), error };
        let mark = self.made.join(&name);
        // Looked for before the volume is: two pods may make a new volume at once, both are told
        // that they made it, and the mark of the one must not tell the other of lost data.
        let existed = mark.exists();
        let made = runtime.ensure_volume(&order).await.map_err(engine)?;
        if made && existed {
            lost.push(name.clone());
        }
        let failed = |error: io::Error| VolumeError::Failed {
            volume: name.clone(),
            message: error.to_string(),
        };
        if !existed {
            make_folder(&self.made, 0o700).and_then(|()| fs::write(&mark, b"")).map_err(failed)?;
        }
        if let (true, Some(_)) = (made, group)
            && let Some(path) = runtime.volume_path(&name).await.map_err(engine)?
        {
            give(Path::new(&path), group).map_err(failed)?;
        }
        Ok(Root::Docker(name))
    }

    fn files_folder(&self, uid: &PodUid, volume: &str, secret: bool) -> PathBuf {
        let in_memory = self.secrets.join(uid.as_str());
        if secret && make_folder(&in_memory, 0o700).is_ok() {
            return in_memory.join(volume);
        }
        self.pod(uid).join("files").join(volume)
    }

    /// Writes the pod's files again, for a changed ConfigMap or Secret under running containers.
    pub fn refresh_files(&self, pod: &PodAssignment) -> io::Result<()> {
        for volume in &pod.spec.volumes {
            if let VolumeSource::Files { files, secret } = &volume.source {
                let path = self.files_folder(&pod.uid, &volume.name, *secret);
                if path.exists() {
                    files::write(&path, files, pod.spec.security.fs_group)?;
                }
            }
        }
        Ok(())
    }

    /// Writes `resolv.conf` anew for a pod that has one of its own.
    pub fn refresh_names(&self, pod: &PodAssignment) -> io::Result<()> {
        let folder = self.pod(&pod.uid);
        match folder.join(RESOLV).exists() {
            true => write_identity_files(&folder, pod, &self.resolver),
            false => Ok(()),
        }
    }

    /// The mounts of one container.
    pub async fn mounts(
        &self,
        runtime: &impl Runtime,
        pod: &PodAssignment,
        spec: &ContainerSpec,
        attempt: Attempt,
        prepared: &Prepared,
    ) -> Result<Vec<BindMount>, VolumeError> {
        let mut mounts = self.identity_mounts(pod, spec, attempt);
        for mount in &spec.mounts {
            let Some(root) = prepared.roots.get(&mount.volume) else { continue };
            let source = match (root, mount.sub_path.as_deref().filter(|path| !path.is_empty())) {
                (Root::Folder(path), None) => MountSource::Path(text(path)),
                (Root::Docker(name), None) => {
                    MountSource::Volume { name: name.clone(), sub_path: None }
                }
                (Root::Folder(path), Some(sub)) => {
                    MountSource::Path(within(path, sub, &mount.volume)?)
                }
                (Root::Docker(name), Some(sub)) => {
                    let engine =
                        |error| VolumeError::Engine { volume: mount.volume.clone(), error };
                    let path = runtime.volume_path(name).await.map_err(engine)?;
                    let path = path.ok_or_else(|| VolumeError::Failed {
                        volume: mount.volume.clone(),
                        message: "its driver has no folder to take a subPath of".to_owned(),
                    })?;
                    let folder = within(Path::new(&path), sub, &mount.volume)?;
                    MountSource::Volume { name: name.clone(), sub_path: Some(folder) }
                }
            };
            mounts.push(BindMount {
                source,
                target: mount.path.clone(),
                read_only: mount.read_only || is_written_by_kgit(pod, &mount.volume),
            });
        }
        Ok(mounts)
    }

    /// `/etc/hosts`, `/etc/resolv.conf`, and the file for last words.
    fn identity_mounts(
        &self,
        pod: &PodAssignment,
        spec: &ContainerSpec,
        attempt: Attempt,
    ) -> Vec<BindMount> {
        let folder = self.pod(&pod.uid);
        let taken = |path: &str| spec.mounts.iter().any(|mount| mount.path == path);
        let mut mounts = Vec::new();
        let mut add = |file: PathBuf, target: &str| {
            if !taken(target) && file.exists() {
                let source = MountSource::Path(text(&file));
                mounts.push(BindMount { source, target: target.to_owned(), read_only: false });
            }
        };
        if !pod.spec.host_network {
            add(folder.join("hosts"), "/etc/hosts");
        }
        add(folder.join(RESOLV), "/etc/resolv.conf");
        self.drop_old_words(&pod.uid, &spec.name, attempt);
        let words = self.last_words_file(&pod.uid, &spec.name, attempt);
        if fs::write(&words, b"").is_ok()
            && fs::set_permissions(&words, fs::Permissions::from_mode(0o666)).is_ok()
        {
            add(words, &spec.termination_message_path);
        }
        mounts
    }

    /// One for each attempt: the next may have begun before the words of the last were read.
    fn last_words_file(&self, uid: &PodUid, container: &str, attempt: Attempt) -> PathBuf {
        self.pod(uid).join(format!("last-words-{container}-{attempt}"))
    }

    fn drop_old_words(&self, uid: &PodUid, container: &str, attempt: Attempt) {
        if let Some(old) = attempt.0.checked_sub(2) {
            // There is none where the attempt was not made here.
            let _ = fs::remove_file(self.last_words_file(uid, container, Attempt(old)));
        }
    }

    /// What a container left in the file for its last words.
    pub fn last_words(&self, uid: &PodUid, container: &str, attempt: Attempt) -> Option<String> {
        let mut bytes = fs::read(self.last_words_file(uid, container, attempt)).ok()?;
        bytes.truncate(LAST_WORDS_BYTES);
        let words = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!words.is_empty()).then_some(words)
    }

    /// Removes everything that a pod has left on the host. Provisioned volumes stay.
    pub async fn clean(&self, runtime: &impl Runtime, uid: &PodUid) -> Result<(), VolumeError> {
        for folder in [self.pod(uid), self.secrets.join(uid.as_str())] {
            match fs::remove_dir_all(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(VolumeError::Folder(folder, error)),
            }
        }
        let engine = |error| VolumeError::Engine { volume: "in memory".to_owned(), error };
        let prefix = memory_volume(uid, "");
        for volume in runtime.volumes().await.map_err(engine)? {
            if volume.starts_with(&prefix) {
                runtime.remove_volume(&volume).await.map_err(engine)?;
            }
        }
        Ok(())
    }

    /// Removes provisioned volumes by explicit order; those that are gone now.
    pub async fn remove_ordered(&self, runtime: &impl Runtime, names: &[String]) -> Vec<String> {
        let mut gone = Vec::new();
        for name in names {
            match runtime.remove_volume(name).await {
                Ok(()) => {
                    // Its mark may never have been made.
                    let _ = fs::remove_file(self.made.join(name));
                    gone.push(name.clone());
                }
                Err(error) => tracing::warn!(volume = name, %error, "volume not removed yet"),
            }
        }
        gone
    }
}

fn memory_volume(uid: &PodUid, name: &str) -> String {
    format!("kgit-memory-{uid}-{name}")
}

fn within(root: &Path, sub: &str, volume: &str) -> Result<String, VolumeError> {
    sub_path::resolve(root, sub).map(|path| text(&path)).map_err(|error| VolumeError::Failed {
        volume: volume.to_owned(),
        message: format!("subPath {sub}: {error}"),
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Makes a folder with exactly these permissions.
fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Hands a volume's root to the pod's fsGroup, new files in it as well.
fn give(path: &Path, group: Option<i64>) -> io::Result<()> {
    let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else { return Ok(()) };
    std::os::unix::fs::chown(path, None, Some(group))?;
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2070))
}

/// `/etc/hosts` and `/etc/resolv.conf`, as Kubernetes writes them.
fn write_identity_files(folder: &Path, pod: &PodAssignment, resolver: &Resolver) -> io::Result<()> {
    let spec = &pod.spec;
    let mut hosts = String::from("# Kept by kgit.\n127.0.0.1\tlocalhost\n::1\tlocalhost\n");
    if let Some(address) = spec.address {
        let whole = spec.domain.iter().map(|domain| format!("{}.{domain}\t", spec.hostname));
        hosts.push_str(&format!("{address}\t{}{}\n", whole.collect::<String>(), spec.hostname));
    }
    for alias in &spec.host_aliases {
        hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    write_in_place(&folder.join("hosts"), &hosts)?;
    match resolver.text(&spec.dns) {
        Some(text) => write_in_place(&folder.join(RESOLV), &text),
        None => Ok(()),
    }
}

/// What comes from ConfigMaps, Secrets and the downward API is read-only in every container, whatever its mount says
/// (<https://kubernetes.io/docs/concepts/configuration/configmap/>, as for Secrets and projected volumes).
fn is_written_by_kgit(pod: &PodAssignment, volume: &str) -> bool {
    let mut volumes = pod.spec.volumes.iter();
    volumes.any(|found| found.name == volume && matches!(found.source, VolumeSource::Files { .. }))
}

/// Keeps the file's inode, since containers have it mounted.
fn write_in_place(path: &Path, content: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|bytes| bytes == content.as_bytes()) {
        return Ok(());
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
