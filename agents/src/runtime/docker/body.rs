//! A container order in the engine's words.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, NetworkingConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use kgit_protocol::pod::{ContainerPort, Protocol};

use crate::runtime::docker::labels;
use crate::runtime::{
    BindMount, ContainerOrder, IpcSource, MountSource, NetworkSource, PidSource, Scope, Seccomp,
};

/// Each container keeps at most this much of its output.
const LOG_FILE_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// Kubernetes' smallest CPU weight, and shares for one whole CPU.
const MIN_CPU_SHARES: u64 = 2;
const SHARES_PER_CPU: u64 = 1024;

pub(super) fn container(scope: &Scope, order: &ContainerOrder) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(order.image.clone()),
        entrypoint: some_list(&order.command),
        // Docker drops the image's own arguments along with its entrypoint, as Kubernetes does.
        cmd: some_list(&order.args),
        working_dir: order.working_dir.clone(),
        env: Some(order.env.clone()),
        hostname: match order.namespaces.network {
            NetworkSource::Bridge(_) => order.hostname.clone(),
            NetworkSource::Host | NetworkSource::Container(_) => None,
        },
        user: user(order),
        open_stdin: Some(order.stdin),
        tty: Some(order.tty),
        labels: Some(labels::container(scope, &order.identity)),
        exposed_ports: exposed(order),
        host_config: Some(host_config(scope, order)),
        networking_config: networking(scope, order),
        ..Default::default()
    }
}

fn some_list(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn user(order: &ContainerOrder) -> Option<String> {
    let security = &order.security;
    match (security.run_as_user, security.run_as_group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => Some(format!("0:{group}")),
        (None, None) => None,
    }
}

fn host_config(scope: &Scope, order: &ContainerOrder) -> HostConfig {
    let resources = &order.resources;
    let security = &order.security;
    let groups = order.pod_security.fs_group.iter().chain(&order.pod_security.supplemental_groups);
    HostConfig {
        nano_cpus: resources.cpu_limit_millis.map(|millis| signed(millis * 1_000_000)),
        cpu_shares: resources
            .cpu_request_millis
            .map(|millis| signed((millis * SHARES_PER_CPU / 1000).max(MIN_CPU_SHARES))),
        memory: resources.memory_limit_bytes.map(signed),
        // No swap beyond the limit, as in Kubernetes.
        memory_swap: resources.memory_limit_bytes.map(signed),
        log_config: Some(log_config()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        mounts: Some(order.mounts.iter().map(mount).collect()),
        network_mode: Some(network_mode(scope, &order.namespaces.network)),
        ipc_mode: Some(ipc_mode(&order.namespaces.ipc)),
        pid_mode: pid_mode(&order.namespaces.pid),
        port_bindings: port_bindings(order),
        privileged: Some(security.privileged),
        readonly_rootfs: Some(security.read_only_root),
        cap_add: Some(security.add_capabilities.clone()),
        cap_drop: Some(security.drop_capabilities.clone()),
        security_opt: Some(security_options(order)),
        group_add: Some(groups.map(ToString::to_string).collect()),
        sysctls: sysctls(order),
        init: Some(false),
        ..Default::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn log_config() -> HostConfigLogConfig {
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), LOG_FILE_SIZE.to_owned()),
            ("max-file".to_owned(), LOG_FILES.to_owned()),
        ])),
    }
}

fn mount(mount: &BindMount) -> Mount {
    let (typ, source) = match &mount.source {
        MountSource::Path(path) => (MountType::BIND, path.clone()),
        MountSource::Volume { name, sub_path: None } => (MountType::VOLUME, name.clone()),
        MountSource::Volume { sub_path: Some(path), .. } => (MountType::BIND, path.clone()),
    };
    let propagation = match mount.source {
        MountSource::Path(_) => MountBindOptionsPropagationEnum::RPRIVATE,
        // The engine refuses a private mount of what lies beneath its own root.
        MountSource::Volume { .. } => MountBindOptionsPropagationEnum::RSLAVE,
    };
    let bind_options = (typ == MountType::BIND)
        .then(|| MountBindOptions { propagation: Some(propagation), ..Default::default() });
    Mount {
        target: Some(mount.target.clone()),
        source: Some(source),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        bind_options,
        ..Default::default()
    }
}

fn network_mode(scope: &Scope, network: &NetworkSource) -> String {
    match network {
        NetworkSource::Bridge(_) => scope.network(),
        NetworkSource::Host => "host".to_owned(),
        NetworkSource::Container(id) => format!("container:{id}"),
    }
}

fn ipc_mode(ipc: &IpcSource) -> String {
    match ipc {
        IpcSource::Private => "private".to_owned(),
        IpcSource::Shareable => "shareable".to_owned(),
        IpcSource::Host => "host".to_owned(),
        IpcSource::Container(id) => format!("container:{id}"),
    }
}

fn pid_mode(pid: &PidSource) -> Option<String> {
    match pid {
        PidSource::Own => None,
        PidSource::Host => Some("host".to_owned()),
        PidSource::Container(id) => Some(format!("container:{id}")),
    }
}

fn networking(scope: &Scope, order: &ContainerOrder) -> Option<NetworkingConfig> {
    let NetworkSource::Bridge(address) = order.namespaces.network else { return None };
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let endpoints_config = Some(HashMap::from([(scope.network(), endpoint)]));
    Some(NetworkingConfig { endpoints_config })
}

fn port_name(port: &ContainerPort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.port)
}

/// Only ports that are bound on the host: the rest are reachable anyway.
fn bound(order: &ContainerOrder) -> impl Iterator<Item = &ContainerPort> {
    let on_bridge = matches!(order.namespaces.network, NetworkSource::Bridge(_));
    order.ports.iter().filter(move |port| on_bridge && port.host_port.is_some())
}

fn exposed(order: &ContainerOrder) -> Option<Vec<String>> {
    let names: Vec<String> = bound(order).map(port_name).collect();
    (!names.is_empty()).then_some(names)
}

fn port_bindings(order: &ContainerOrder) -> Option<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in bound(order) {
        let binding = PortBinding {
            host_ip: port.host_ip.clone(),
            host_port: port.host_port.map(|number| number.to_string()),
        };
        bindings.entry(port_name(port)).or_default().get_or_insert_default().push(binding);
    }
    (!bindings.is_empty()).then_some(bindings)
}

fn security_options(order: &ContainerOrder) -> Vec<String> {
    let mut options = Vec::new();
    if order.security.allow_privilege_escalation == Some(false) {
        options.push("no-new-privileges".to_owned());
    }
    match &order.seccomp {
        // `RuntimeDefault`, and what says nothing: Docker's own profile, if its daemon was not
        // told otherwise.
        Seccomp::EngineDefault => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => options.push(format!("seccomp={text}")),
    }
    options
}

fn sysctls(order: &ContainerOrder) -> Option<HashMap<String, String>> {
    let own_network = matches!(order.namespaces.network, NetworkSource::Bridge(_));
    let all = &order.pod_security.sysctls;
    (own_network && !all.is_empty())
        .then(|| all.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}
