//! From a template to the fully decided spec of one pod: every reference looked up, every
//! variable expanded.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kgit_protocol::ids::NodeName;
use kgit_protocol::pod::{
    ContainerSpec, Dns, EnvVar, File, Mount, PodSpec, RegistryLogin, Volume, VolumeSource,
};

use crate::domain::record::Pod;
use crate::domain::service::DOMAIN;
use crate::domain::template::{
    ConfigContent, ConfigRef, ContainerTemplate, DownwardField, EnvSource, MountTemplate,
    PodNetworking, PodTemplate, ProjectedKey, Projection, VolumeTemplate, VolumeTemplateSource,
};
use crate::plan::downward;
use crate::plan::services::API_PORT;

/// A name with fewer dots is looked for in the cluster first. Source: kubelet's default.
const NDOTS: &str = "ndots:5";

pub type Configs = BTreeMap<ConfigRef, Arc<ConfigContent>>;

/// Everything that a decided spec is made from.
#[derive(Debug)]
pub struct Decision<'a> {
    pub pod: &'a Pod,
    pub configs: &'a Configs,
    /// Where each claim's data is, under the claim's name.
    pub claims: &'a BTreeMap<String, VolumeSource>,
    pub node: &'a NodeName,
    pub node_address: Option<&'a str>,
    /// `None` on the host's network.
    pub address: Option<Ipv4Addr>,
    /// Where pods reach the API.
    pub api: Option<Ipv4Addr>,
}

/// Decides a pod's spec. `Err` says what is missing; nothing else can go wrong.
pub fn decide(decision: &Decision<'_>) -> Result<PodSpec, String> {
    let template = &decision.pod.template;
    let network = &template.network;
    let volumes = template.volumes.iter().map(|v| volume(decision, v)).collect::<Result<_, _>>()?;
    let containers = |list: &[ContainerTemplate]| {
        let all = list.iter().map(|c| container(decision, c)).collect::<Result<Vec<_>, _>>();
        // It was collected with room for four, and is kept for as long as the pod.
        all.map(|mut all| {
            all.shrink_to_fit();
            all
        })
    };
    Ok(PodSpec {
        hostname: network.hostname.clone().unwrap_or_else(|| decision.pod.key.name.to_string()),
        address: decision.address,
        host_network: network.host_network,
        host_pid: network.host_pid,
        host_ipc: network.host_ipc,
        share_process_namespace: template.share_process_namespace,
        dns: dns(network, &decision.pod.key.namespace),
        host_aliases: network.host_aliases.clone(),
        init_containers: containers(&template.init_containers)?,
        containers: containers(&template.containers)?,
        volumes,
        restart_policy: template.restart_policy,
        termination_grace_seconds: template.termination_grace_seconds,
        active_deadline_seconds: template.active_deadline_seconds,
        security: template.security.clone(),
        registry_logins: registry_logins(template, decision.configs),
        fence_after_seconds: None,
        domain: network
            .subdomain
            .as_ref()
            .map(|name| format!("{name}.{}.svc.{DOMAIN}", decision.pod.key.namespace)),
    })
}

/// Source: kubelet's DNS policies ("DNS for Services and Pods").
fn dns(network: &PodNetworking, namespace: &str) -> Dns {
    let cluster = match network.dns_policy.as_str() {
        "ClusterFirst" => !network.host_network,
        policy => policy == "ClusterFirstWithHostNet",
    };
    let mut searches = Vec::new();
    let mut options = network.dns_options.clone();
    if cluster {
        searches.push(format!("{namespace}.svc.{DOMAIN}"));
        searches.push(format!("svc.{DOMAIN}"));
        searches.push(DOMAIN.to_owned());
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push(NDOTS.to_owned());
        }
    }
    searches.extend(network.searches.iter().cloned());
    Dns { cluster, nameservers: network.nameservers.clone(), searches, options }
}

fn container(decision: &Decision<'_>, from: &ContainerTemplate) -> Result<ContainerSpec, String> {
    let env = environment(decision, from)?;
    let expand = |texts: &[String]| texts.iter().map(|text| expanded(text, &env)).collect();
    let mounts = from.mounts.iter().map(|m| mount(decision, m, &env)).collect();
    Ok(ContainerSpec {
        name: from.name.clone(),
        image: from.image.clone(),
        pull_policy: from.pull_policy,
        command: expand(&from.command),
        args: expand(&from.args),
        working_dir: from.working_dir.clone(),
        ports: from.ports.clone(),
        mounts,
        resources: from.resources.clone(),
        liveness: from.liveness.clone(),
        readiness: from.readiness.clone(),
        startup: from.startup.clone(),
        post_start: from.post_start.clone(),
        pre_stop: from.pre_stop.clone(),
        security: from.security.clone(),
        stdin: from.stdin,
        tty: from.tty,
        sidecar: from.sidecar,
        termination_message_path: from.termination_message_path.clone(),
        termination_message_from_logs: from.termination_message_from_logs,
        env,
    })
}

fn mount(decision: &Decision<'_>, from: &MountTemplate, env: &[EnvVar]) -> Mount {
    let mut volumes = decision.pod.template.volumes.iter();
    let of_claim = |source: &VolumeTemplateSource| {
        matches!(source, VolumeTemplateSource::Claim { read_only: true, .. })
    };
    let never_written = volumes.any(|it| it.name == from.volume && of_claim(&it.source));
    let by_expression = from.sub_path_expr.as_ref().map(|text| expanded(text, env));
    Mount {
        volume: from.volume.clone(),
        path: from.path.clone(),
        sub_path: by_expression.or_else(|| from.sub_path.clone()),
        read_only: from.read_only || never_written,
    }
}

/// envFrom first, then env; a later variable replaces an earlier one of its name, and sees the
/// ones before it.
fn environment(decision: &Decision<'_>, from: &ContainerTemplate) -> Result<Vec<EnvVar>, String> {
    let mut env: Vec<EnvVar> = Vec::new();
    if let Some(api) = decision.api {
        set(&mut env, "KUBERNETES_SERVICE_HOST".to_owned(), api.to_string());
        set(&mut env, "KUBERNETES_SERVICE_PORT".to_owned(), API_PORT.to_string());
    }
    for source in &from.env_from {
        let Some(content) = content(decision, &source.source, source.optional)? else { continue };
        let texts = content.entries.iter().filter(|(key, _)| !content.binary.contains(*key));
        for (key, value) in texts {
            set(&mut env, format!("{}{key}", source.prefix), text_of(value));
        }
    }
    for variable in &from.env {
        let value = match &variable.value {
            EnvSource::Literal(text) => Some(expanded(text, &env)),
            EnvSource::ConfigMapKey { name, key, optional } => {
                config_key(decision, &ConfigRef::ConfigMap(name.clone()), key, *optional)?
            }
            EnvSource::SecretKey { name, key, optional } => {
                config_key(decision, &ConfigRef::Secret(name.clone()), key, *optional)?
            }
            EnvSource::Downward(field) => Some(downward_value(decision, from, field)?),
        };
        if let Some(value) = value {
            set(&mut env, variable.name.clone(), value);
        }
    }
    Ok(env)
}

fn set(env: &mut Vec<EnvVar>, name: String, value: String) {
    match env.iter_mut().find(|variable| variable.name == name) {
        Some(variable) => variable.value = value,
        None => env.push(EnvVar { name, value }),
    }
}

fn content<'a>(
    decision: &Decision<'a>,
    source: &ConfigRef,
    optional: bool,
) -> Result<Option<&'a ConfigContent>, String> {
    match decision.configs.get(source) {
        Some(content) => Ok(Some(content)),
        None if optional => Ok(None),
        None => Err(format!("{} to exist", named(source))),
    }
}

fn config_key(
    decision: &Decision<'_>,
    source: &ConfigRef,
    key: &str,
    optional: bool,
) -> Result<Option<String>, String> {
    let Some(content) = content(decision, source, optional)? else { return Ok(None) };
    match content.entries.get(key).filter(|_| !content.binary.contains(key)) {
        Some(value) => Ok(Some(text_of(value))),
        None if optional => Ok(None),
        None => Err(format!("{} to have the key `{key}`", named(source))),
    }
}

fn named(source: &ConfigRef) -> String {
    match source {
        ConfigRef::ConfigMap(name) => format!("ConfigMap `{name}`"),
        ConfigRef::Secret(name) => format!("Secret `{name}`"),
    }
}

fn downward_value(
    decision: &Decision<'_>,
    container: &ContainerTemplate,
    field: &DownwardField,
) -> Result<String, String> {
    downward::value(decision, Some(container), field)
}

/// One volume of a pod.
pub fn volume(decision: &Decision<'_>, from: &VolumeTemplate) -> Result<Volume, String> {
    let source = match &from.source {
        VolumeTemplateSource::EmptyDir { memory, size_limit_bytes } => {
            VolumeSource::EmptyDir { memory: *memory, size_limit_bytes: *size_limit_bytes }
        }
        VolumeTemplateSource::HostPath { path, kind } => {
            VolumeSource::HostPath { path: path.clone(), kind: *kind }
        }
        VolumeTemplateSource::Claim { name, .. } => decision
            .claims
            .get(name)
            .cloned()
            .ok_or_else(|| format!("claim `{name}` to be bound"))?,
        VolumeTemplateSource::Projected { default_mode, sources } => {
            projected(decision, *default_mode, sources)?
        }
    };
    Ok(Volume { name: from.name.clone(), source })
}

fn projected(
    decision: &Decision<'_>,
    default_mode: u32,
    sources: &[Projection],
) -> Result<VolumeSource, String> {
    let mut files = Vec::new();
    let mut secret = false;
    for source in sources {
        match source {
            Projection::Config { source, items, optional } => {
                secret |= matches!(source, ConfigRef::Secret(_));
                let Some(content) = content(decision, source, *optional)? else { continue };
                files.extend(config_files(
                    source,
                    content,
                    items.as_deref(),
                    *optional,
                    default_mode,
                )?);
            }
            Projection::Downward { path, mode, field } => files.push(File {
                path: path.clone(),
                mode: mode.unwrap_or(default_mode),
                content: BASE64.encode(downward::value(decision, None, field)?),
            }),
        }
    }
    Ok(VolumeSource::Files { files, secret })
}

fn config_files(
    source: &ConfigRef,
    content: &ConfigContent,
    items: Option<&[ProjectedKey]>,
    optional: bool,
    default_mode: u32,
) -> Result<Vec<File>, String> {
    let Some(items) = items else {
        let all = content.entries.iter().map(|(key, value)| File {
            path: key.clone(),
            mode: default_mode,
            content: value.clone(),
        });
        return Ok(all.collect());
    };
    let mut files = Vec::new();
    for item in items {
        match content.entries.get(&item.key) {
            Some(value) => files.push(File {
                path: item.path.clone(),
                mode: item.mode.unwrap_or(default_mode),
                content: value.clone(),
            }),
            None if optional => {}
            None => return Err(format!("{} to have the key `{}`", named(source), item.key)),
        }
    }
    Ok(files)
}

/// Contents are kept in base64; an environment variable is text. What is not UTF-8 is replaced,
/// as a process could not read it in any other way.
fn text_of(base64: &str) -> String {
    String::from_utf8_lossy(&BASE64.decode(base64).unwrap_or_default()).into_owned()
}

/// `$(NAME)` becomes the variable's value, `$$` a `$`; an unknown name stays as it is.
/// Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`.
pub fn expanded(text: &str, env: &[EnvVar]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match env.iter().find(|variable| variable.name == name) {
                Some(variable) => out.push_str(&variable.value),
                None => out.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// From `kubernetes.io/dockerconfigjson` Secrets. One that can't be read gives no login; the pull
/// then says what the registry thinks of that.
pub fn registry_logins(template: &PodTemplate, configs: &Configs) -> Vec<RegistryLogin> {
    let secrets = template.image_pull_secrets.iter();
    let contents = secrets.filter_map(|name| configs.get(&ConfigRef::Secret(name.clone())));
    contents.flat_map(|content| logins_in(content)).collect()
}

fn logins_in(content: &ConfigContent) -> Vec<RegistryLogin> {
    let Some(text) = content.entries.get(".dockerconfigjson").map(|value| text_of(value)) else {
        return Vec::new();
    };
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(registries) = parsed["auths"].as_object() else { return Vec::new() };
    registries.iter().filter_map(|(registry, entry)| login(registry, entry)).collect()
}

fn login(registry: &str, entry: &serde_json::Value) -> Option<RegistryLogin> {
    let field = |name: &str| entry[name].as_str().map(str::to_owned);
    let pair = field("auth").and_then(|auth| {
        let (user, password) =
            text_of(&auth).split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))?;
        Some((user, password))
    });
    let (username, password) = match (field("username"), field("password")) {
        (Some(username), Some(password)) => (username, password),
        _ => pair?,
    };
    Some(RegistryLogin { registry: registry.to_owned(), username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_kubernetes() {
        let env = [EnvVar { name: "A".into(), value: "1".into() }];
        let check = |text, expected| assert_eq!(expanded(text, &env), expected);
        check("$(A)/$(B)/$$(A)/$A/$", "1/$(B)/$(A)/$A/$");
        check("$(A", "$(A");
        check("", "");
    }
}
