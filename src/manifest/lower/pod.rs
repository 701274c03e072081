//! Pod templates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kgit_protocol::pod::{HostAlias, RestartPolicy};

use crate::domain::key::Kind;
use crate::domain::resource::{LEAST_FENCE_SECONDS, ReferenceKind, annotation};
use crate::domain::template::{ContainerTemplate, PodNetworking, PodTemplate, VolumeTemplate};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::{Around, Place, container, each};
use crate::manifest::lower::names::Shape;
use crate::manifest::lower::placement::placement;
use crate::manifest::lower::security;
use crate::manifest::lower::volume::volume;
use crate::manifest::path::Path;

/// Source: `DefaultTerminationGracePeriodSeconds`.
const DEFAULT_GRACE_SECONDS: u32 = 30;
const DNS_POLICIES: [(&str, &str); 4] = [
    ("ClusterFirst", "ClusterFirst"),
    ("ClusterFirstWithHostNet", "ClusterFirstWithHostNet"),
    ("Default", "Default"),
    ("None", "None"),
];
const RESTART_POLICIES: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

const BELONGS_INTO_A_JOB: &str = "pods that end belong into a Job";

/// Which restart policies an owner lets its pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    Any,
    /// Of everything that keeps its pods running.
    AlwaysOnly,
    /// Jobs: a pod that never ends never completes.
    NotAlways,
}

/// The template of a workload, at `spec.template`.
pub fn template(
    object: &mut Object<'_, '_>,
    written: &PodTemplateSpec,
    restarts: Restarts,
) -> PodTemplate {
    let spec = Path::ROOT.key("spec");
    template_at(object, &spec.key("template"), written, restarts)
}

pub fn template_at(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodTemplateSpec,
    restarts: Restarts,
) -> PodTemplate {
    template_with(object, path, written, restarts, &[])
}

/// The same, where its containers may mount volumes that the template does not name.
pub fn template_with(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodTemplateSpec,
    restarts: Restarts,
    further: &[VolumeTemplate],
) -> PodTemplate {
    let meta = written.metadata.clone().unwrap_or_default();
    object.labels(&path.key("metadata").key("labels"), &meta.labels.clone().unwrap_or_default());
    let Some(spec) = &written.spec else {
        object.required(&path.key("spec"));
        return PodTemplate::default();
    };
    pod_with(object, &path.key("spec"), &meta, spec, restarts, further)
}

fn fencing(object: &mut Object<'_, '_>, spec: &Path<'_>, meta: &ObjectMeta) {
    let written = meta.annotations.as_ref().and_then(|all| all.get(annotation::FENCE_AFTER));
    let Some(written) = written else { return };
    if written.parse().is_ok_and(|seconds: u32| seconds >= LEAST_FENCE_SECONDS) {
        return;
    }
    let (metadata, least) = (spec.sibling("metadata"), LEAST_FENCE_SECONDS);
    let annotations = metadata.key("annotations");
    let message = format!("`{written}` is not a number of seconds from {least} on");
    object.error(&annotations.key(annotation::FENCE_AFTER), message);
}

pub fn pod(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    meta: &ObjectMeta,
    written: &PodSpec,
    restarts: Restarts,
) -> PodTemplate {
    pod_with(object, path, meta, written, restarts, &[])
}

fn pod_with(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    meta: &ObjectMeta,
    written: &PodSpec,
    restarts: Restarts,
    further: &[VolumeTemplate],
) -> PodTemplate {
    let volumes = volumes(object, path, written, further);
    let mountable = [&volumes, further].concat();
    let context = written.security_context.clone().unwrap_or_default();
    let host_network = written.host_network.unwrap_or(false);
    let around = Around { volumes: &mountable, security: &context, host_network };
    let init = written.init_containers.as_deref();
    let init_containers = each(path, "initContainers", init, |at, it| {
        Some(container(object, at, Place::Init, it, around))
    });
    let containers = each(path, "containers", Some(&written.containers), |at, it| {
        Some(container(object, at, Place::Main, it, around))
    });
    if containers.is_empty() {
        object.required(&path.key("containers"));
    }
    check_unique(object, path, &init_containers, &containers);
    fencing(object, path, meta);
    let grace = written.termination_grace_period_seconds;
    let deadline = written.active_deadline_seconds;
    if restarts == Restarts::AlwaysOnly && deadline.is_some() {
        // Source: `ValidatePodTemplateSpecForReplicaSet` and its likes.
        let message = "has no place in a workload whose pods run for ever";
        let at = path.key("activeDeadlineSeconds");
        object.error_with_hint(&at, message, Some(BELONGS_INTO_A_JOB.to_owned()));
    }
    PodTemplate {
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        restart_policy: restart_policy(object, path, written, restarts),
        termination_grace_seconds: object.count(
            &path.key("terminationGracePeriodSeconds"),
            grace,
            DEFAULT_GRACE_SECONDS,
            0,
        ),
        active_deadline_seconds: object.optional_count(
            &path.key("activeDeadlineSeconds"),
            deadline,
            1,
        ),
        placement: placement(object, path, written),
        network: network(object, path, written),
        security: security::pod(object, &context),
        image_pull_secrets: pull_secrets(object, path, written),
        share_process_namespace: written.share_process_namespace.unwrap_or(false),
        init_containers,
        containers,
        volumes,
    }
}

/// Those that the pods have from elsewhere (`further`) take the place of written ones of their names.
fn volumes(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodSpec,
    further: &[VolumeTemplate],
) -> Vec<VolumeTemplate> {
    let mut names = BTreeSet::new();
    each(path, "volumes", written.volumes.as_deref(), |at, it| {
        if !it.name.is_empty() && !names.insert(it.name.clone()) {
            object.error(&at.key("name"), format!("two volumes are named `{}`", it.name));
        }
        let replaced = further.iter().any(|other| other.name == it.name);
        (!replaced).then(|| volume(object, at, it))
    })
}

/// Names of containers and ports of the host are each there once in a pod.
fn check_unique(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    init: &[ContainerTemplate],
    main: &[ContainerTemplate],
) {
    let (mut names, mut host_ports) = (BTreeSet::new(), BTreeSet::new());
    for (key, containers) in [("initContainers", init), ("containers", main)] {
        let parent = path.key(key);
        for (index, container) in containers.iter().enumerate() {
            let at = parent.index(index);
            if !container.name.is_empty() && !names.insert(&container.name) {
                let message = format!("two containers are named `{}`", container.name);
                object.error(&at.key("name"), message);
            }
            for (index, port) in container.ports.iter().enumerate() {
                let Some(host_port) = port.host_port else { continue };
                if !host_ports.insert((host_port, port.protocol, port.host_ip.clone())) {
                    let ports = at.key("ports");
                    let message = format!("two containers want the host's port {host_port}");
                    object.error(&ports.index(index), message);
                }
            }
        }
    }
}

fn restart_policy(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodSpec,
    restarts: Restarts,
) -> RestartPolicy {
    let path = path.key("restartPolicy");
    let policy = written.restart_policy.as_deref();
    let policy = object.choice(&path, policy, RestartPolicy::Always, &RESTART_POLICIES);
    match (restarts, policy) {
        (Restarts::AlwaysOnly, RestartPolicy::OnFailure | RestartPolicy::Never) => {
            let hint = Some(BELONGS_INTO_A_JOB.to_owned());
            object.error_with_hint(&path, "must be `Always` here", hint);
        }
        (Restarts::NotAlways, RestartPolicy::Always) => {
            let hint = "add `restartPolicy: OnFailure` or `restartPolicy: Never`".to_owned();
            let message = "the pods of a Job must not restart for ever";
            object.error_with_hint(&path, message, Some(hint));
        }
        _ => {}
    }
    policy
}

fn pull_secrets(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> Vec<String> {
    each(path, "imagePullSecrets", written.image_pull_secrets.as_deref(), |at, secret| {
        object.refer(Kind::Secret, &secret.name, ReferenceKind::Optional, &at.key("name"));
        Some(secret.name.clone()).filter(|name| !name.is_empty())
    })
}

fn network(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> PodNetworking {
    for (key, name) in [("hostname", &written.hostname), ("subdomain", &written.subdomain)] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            object.name(&path.key(key), name, Shape::Label);
        }
    }
    let at = path.key("dnsPolicy");
    let policy = object.choice(&at, written.dns_policy.as_deref(), "ClusterFirst", &DNS_POLICIES);
    let dns = written.dns_config.clone().unwrap_or_default();
    let nameservers = dns.nameservers.unwrap_or_default();
    if policy == "None" && nameservers.is_empty() {
        object.error(&at, "`None` needs `dnsConfig.nameservers`");
    }
    let options = dns.options.unwrap_or_default().into_iter();
    let options = options.filter_map(|option| {
        let name = option.name?;
        Some(option.value.map(|value| format!("{name}:{value}")).unwrap_or(name))
    });
    PodNetworking {
        host_network: written.host_network.unwrap_or(false),
        host_pid: written.host_pid.unwrap_or(false),
        host_ipc: written.host_ipc.unwrap_or(false),
        hostname: written.hostname.clone().filter(|name| !name.is_empty()),
        subdomain: written.subdomain.clone().filter(|name| !name.is_empty()),
        host_aliases: host_aliases(object, path, written),
        dns_policy: policy.to_owned(),
        nameservers,
        searches: dns.searches.unwrap_or_default(),
        dns_options: options.collect(),
    }
}

fn host_aliases(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> Vec<HostAlias> {
    each(path, "hostAliases", written.host_aliases.as_deref(), |at, alias| {
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            object.error(&at.key("ip"), format!("`{}` is not an address", alias.ip));
        }
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        Some(HostAlias { ip: alias.ip.clone(), hostnames })
    })
}
