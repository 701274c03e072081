//! One container of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort as WrittenPort, PodSecurityContext, Probe as WrittenProbe,
    ResourceRequirements, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kgit_protocol::pod::{ContainerPort, Probe, Protocol, PullPolicy, Resources};

use crate::domain::template::{ContainerTemplate, MountTemplate, VolumeTemplate};
use crate::manifest::findings::did_you_mean;
use crate::manifest::lower::names::Shape;
use crate::manifest::lower::probe::{ProbeKind, hook, probe};
use crate::manifest::lower::{Object, env, security};
use crate::manifest::path::Path;

pub const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("Always", PullPolicy::Always),
    ("IfNotPresent", PullPolicy::IfNotPresent),
    ("Never", PullPolicy::Never),
];

/// Which of the pod's two lists a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Init,
    Main,
}

/// What of the pod a container's meaning depends on.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub volumes: &'a [VolumeTemplate],
    pub security: &'a PodSecurityContext,
    pub host_network: bool,
}

pub fn container(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    place: Place,
    written: &Container,
    around: Around<'_>,
) -> ContainerTemplate {
    object.name(&path.key("name"), &written.name, Shape::Label);
    let image = image(object, path, written);
    let ports = ports(object, path, written, around.host_network);
    let sidecar = sidecar(object, path, place, written);
    let probes = Probes::read(object, path, written, &ports, place == Place::Main || sidecar);
    let lifecycle = written.lifecycle.clone().unwrap_or_default();
    let at = path.key("lifecycle");
    let post_start =
        lifecycle.post_start.and_then(|it| hook(object, &at.key("postStart"), &it, &ports));
    let pre_stop = lifecycle.pre_stop.and_then(|it| hook(object, &at.key("preStop"), &it, &ports));
    let context = written.security_context.as_ref();
    let from_logs = [("File", false), ("FallbackToLogsOnError", true)];
    ContainerTemplate {
        pull_policy: pull_policy(object, path, written),
        name: written.name.clone(),
        image,
        command: written.command.clone().unwrap_or_default(),
        args: written.args.clone().unwrap_or_default(),
        working_dir: written.working_dir.clone().filter(|dir| !dir.is_empty()),
        env_from: each(path, "envFrom", written.env_from.as_deref(), |at, from| {
            env::all_of(object, at, from)
        }),
        env: each(path, "env", written.env.as_deref(), |at, variable| {
            Some(env::variable(object, at, variable))
        }),
        mounts: mounts(object, path, written, around.volumes),
        resources: resources(object, path, written.resources.as_ref()),
        liveness: probes.liveness,
        readiness: probes.readiness,
        startup: probes.startup,
        post_start,
        pre_stop,
        security: security::container(
            object,
            &path.key("securityContext"),
            context,
            around.security,
        ),
        stdin: written.stdin.unwrap_or(false),
        tty: written.tty.unwrap_or(false),
        sidecar,
        termination_message_path: written
            .termination_message_path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/dev/termination-log".to_owned()),
        termination_message_from_logs: object.choice(
            &path.key("terminationMessagePolicy"),
            written.termination_message_policy.as_deref(),
            false,
            &from_logs,
        ),
        ports,
    }
}

/// Lowers each item of a list that stands at `path.key`.
pub fn each<T, U>(
    path: &Path<'_>,
    key: &str,
    items: Option<&[T]>,
    mut lower: impl FnMut(&Path<'_>, &T) -> Option<U>,
) -> Vec<U> {
    let parent = path.key(key);
    let items = items.unwrap_or_default().iter().enumerate();
    let mut lowered: Vec<U> =
        items.filter_map(|(index, item)| lower(&parent.index(index), item)).collect();
    // It was collected with room for four, and is kept for as long as the manifest.
    lowered.shrink_to_fit();
    lowered
}

fn image(object: &mut Object<'_, '_>, path: &Path<'_>, written: &Container) -> String {
    let image = written.image.clone().unwrap_or_default();
    let path = path.key("image");
    if image.is_empty() {
        object.required(&path);
    } else if image.contains(char::is_whitespace) {
        object.error(&path, format!("`{image}` is not the name of an image: it has a space in it"));
    } else if let Some(odd) = image.chars().find(|letter| !is_of_image(*letter)) {
        let message = format!("`{image}` is not the name of an image: it has a `{odd}` in it");
        let hint = PLACEHOLDERS.contains(&odd).then(|| "put the image's name in its place".into());
        object.error_with_hint(&path, message, hint);
    } else if repository(&image).contains(|c: char| c.is_ascii_uppercase()) {
        let message = format!("`{image}` is not the name of an image: repositories are lower-case");
        object.error(&path, message);
    } else if let Some(wrong) = wrong_suffix(&image) {
        object.error(&path, format!("`{image}` is not the name of an image: {wrong}"));
    }
    image
}

/// What other programs' placeholders begin or end with.
const PLACEHOLDERS: [char; 5] = ['$', '<', '>', '{', '}'];

/// Brackets are of IPv6 addresses.
fn is_of_image(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-/:@[]+".contains(letter)
}

/// What is wrong with an image's tag or digest. Source:
/// <https://pkg.go.dev/github.com/distribution/reference>.
fn wrong_suffix(image: &str) -> Option<&'static str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let is_hex = |text: &str| text.len() >= 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    if digest.is_some_and(|digest| !digest.split_once(':').is_some_and(|(_, hex)| is_hex(hex))) {
        return Some("what follows `@` is no digest, such as `sha256:` and 64 hexadecimal digits");
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    let is_tag = |tag: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        tag.starts_with(word)
            && tag.len() <= 128
            && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
    };
    match last.split_once(':') {
        Some((_, tag)) if !is_tag(tag) => Some("what follows `:` is no tag"),
        _ => None,
    }
}

/// The image's name without its registry, tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let name = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) => rest,
        _ => name,
    };
    name.split(':').next().unwrap_or_default()
}

fn pull_policy(object: &mut Object<'_, '_>, path: &Path<'_>, written: &Container) -> PullPolicy {
    let default = default_pull_policy(written.image.as_deref().unwrap_or_default());
    let policy = written.image_pull_policy.as_deref();
    object.choice(&path.key("imagePullPolicy"), policy, default, &PULL_POLICIES)
}

/// `Always` where the tag is `latest` or absent, unless a digest says which image it is.
pub fn default_pull_policy(image: &str) -> PullPolicy {
    let last = image.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match tag {
        _ if image.contains('@') => PullPolicy::IfNotPresent,
        None | Some("latest") => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

fn sidecar(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    place: Place,
    written: &Container,
) -> bool {
    let at = path.key("restartPolicy");
    match (place, written.restart_policy.as_deref()) {
        (_, None | Some("")) => false,
        (Place::Init, Some("Always")) => true,
        (Place::Init, Some(_)) => {
            object.error(&at, "an init container may only say `Always`");
            false
        }
        (Place::Main, Some(_)) => {
            object.error(&at, "only init containers have a restart policy of their own");
            false
        }
    }
}

fn ports(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &Container,
    host_network: bool,
) -> Vec<ContainerPort> {
    let mut names = BTreeSet::new();
    each(path, "ports", written.ports.as_deref(), |at, written| {
        let name = written.name.clone().filter(|name| !name.is_empty());
        if let Some(name) = &name {
            object.name(&at.key("name"), name, Shape::Port);
            if !names.insert(name.clone()) {
                object.error(&at.key("name"), format!("two ports are named `{name}`"));
            }
        }
        Some(port(object, at, written, name, host_network))
    })
}

fn port(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenPort,
    name: Option<String>,
    host_network: bool,
) -> ContainerPort {
    let at = path.key("containerPort");
    let port = match object.says(&at) {
        true => object.port(&at, i64::from(written.container_port)),
        false => {
            object.required(&at);
            1
        }
    };
    let at = path.key("hostPort");
    let host_port = written.host_port.filter(|port| *port != 0);
    let host_port = host_port.map(|port| object.port(&at, i64::from(port)));
    if host_network && host_port.is_some_and(|host_port| host_port != port) {
        object.error(&at, format!("on the host's network it must be {port}, the container's port"));
    }
    let protocol = written.protocol.as_deref();
    let protocol = object.choice(&path.key("protocol"), protocol, Protocol::Tcp, &PROTOCOLS);
    let host_port = host_port.or(host_network.then_some(port));
    let host_ip = written.host_ip.clone().filter(|ip| !ip.is_empty());
    ContainerPort { name, port, protocol, host_port, host_ip }
}

#[derive(Default)]
struct Probes {
    liveness: Option<Probe>,
    readiness: Option<Probe>,
    startup: Option<Probe>,
}

impl Probes {
    fn read(
        object: &mut Object<'_, '_>,
        path: &Path<'_>,
        written: &Container,
        ports: &[ContainerPort],
        allowed: bool,
    ) -> Self {
        let mut read = |key: &str, kind, written: Option<&WrittenProbe>| {
            let written = written?;
            if !allowed {
                object.error(&path.key(key), "an init container has no probes");
            }
            probe(object, &path.key(key), kind, written, ports)
        };
        let other = ProbeKind::LivenessOrStartup;
        Self {
            liveness: read("livenessProbe", other, written.liveness_probe.as_ref()),
            readiness: read(
                "readinessProbe",
                ProbeKind::Readiness,
                written.readiness_probe.as_ref(),
            ),
            startup: read("startupProbe", other, written.startup_probe.as_ref()),
        }
    }
}

fn mounts(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &Container,
    volumes: &[VolumeTemplate],
) -> Vec<MountTemplate> {
    let mut taken = BTreeSet::new();
    each(path, "volumeMounts", written.volume_mounts.as_deref(), |at, mount| {
        if !mount.mount_path.is_empty() && !taken.insert(mount.mount_path.clone()) {
            let message = format!("two volumes are mounted at `{}`", mount.mount_path);
            object.error(&at.key("mountPath"), message);
        }
        Some(self::mount(object, at, mount, volumes))
    })
}

fn mount(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &VolumeMount,
    volumes: &[VolumeTemplate],
) -> MountTemplate {
    object.filled(&path.key("name"), &written.name);
    if !written.name.is_empty() && !volumes.iter().any(|volume| volume.name == written.name) {
        let message = format!("the pod has no volume named `{}`", written.name);
        let hint = did_you_mean(&written.name, volumes.iter().map(|volume| volume.name.as_str()));
        object.error_with_hint(&path.key("name"), message, hint);
    }
    object.filled(&path.key("mountPath"), &written.mount_path);
    if written.mount_path.contains(':') {
        object.error(&path.key("mountPath"), "must not contain `:`");
    }
    let sub_path = written.sub_path.clone().filter(|path| !path.is_empty());
    let sub_path_expr = written.sub_path_expr.clone().filter(|path| !path.is_empty());
    for (key, inner) in [("subPath", &sub_path), ("subPathExpr", &sub_path_expr)] {
        object.inner_path(&path.key(key), inner.as_deref().unwrap_or_default());
    }
    if sub_path.is_some() && sub_path_expr.is_some() {
        object.error(&path.key("subPathExpr"), "a mount has either `subPath` or `subPathExpr`");
    }
    MountTemplate {
        volume: written.name.clone(),
        path: written.mount_path.clone(),
        sub_path,
        sub_path_expr,
        read_only: written.read_only.unwrap_or(false),
    }
}

fn resources(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&ResourceRequirements>,
) -> Resources {
    let Some(written) = written else { return Resources::default() };
    let path = path.key("resources");
    let limits = amounts(object, &path.key("limits"), written.limits.as_ref());
    let requests = amounts(object, &path.key("requests"), written.requests.as_ref());
    let at = path.key("requests");
    for (key, request, limit) in [("cpu", requests.0, limits.0), ("memory", requests.1, limits.1)] {
        if request.zip(limit).is_some_and(|(request, limit)| request > limit) {
            object.error(&at.key(key), format!("requests more {key} than its limit allows"));
        }
    }
    Resources {
        cpu_request_millis: requests.0.or(limits.0),
        cpu_limit_millis: limits.0,
        memory_request_bytes: requests.1.or(limits.1),
        memory_limit_bytes: limits.1,
    }
}

/// The cpu in thousandths and the memory in bytes.
fn amounts(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&std::collections::BTreeMap<String, Quantity>>,
) -> (Option<u64>, Option<u64>) {
    let (mut cpu, mut memory) = (None, None);
    for (name, amount) in written.into_iter().flatten() {
        let at = path.key(name);
        let Some(quantity) = object.quantity(&at, &amount.0) else { continue };
        match name.as_str() {
            "cpu" => cpu = quantity.thousandths(),
            "memory" => {
                memory = quantity.units();
                if quantity.millis % 1000 != 0 {
                    let message = format!("`{}` of memory is a fraction of a byte", amount.0);
                    object.warn(&at, "suspicious", message);
                }
            }
            _ => object.warn(
                &at,
                "no-effect",
                format!("`{name}` has no effect: kgit counts cpu and memory"),
            ),
        }
    }
    (cpu, memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_tag_is_pulled_always() {
        for image in ["nginx", "nginx:latest", "host:5000/nginx", "docker.io/a/b:latest"] {
            assert_eq!(default_pull_policy(image), PullPolicy::Always, "{image}");
        }
        for image in ["nginx:1.27", "host:5000/nginx:1", "nginx@sha256:00", "nginx:latest@sha256:0"]
        {
            assert_eq!(default_pull_policy(image), PullPolicy::IfNotPresent, "{image}");
        }
    }
}
