//! Pod templates as objects. The manifest's own words where they still are what runs; else,
//! for an earlier revision, what the record of it says.

use kgit_protocol::pod::{
    ContainerPort, ContainerSecurity, Handler, HostPathKind, Probe, PullPolicy, Resources,
};
use serde_json::{Map, Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Applied;
use crate::domain::template::{
    ConfigRef, ContainerTemplate, DownwardField, EnvFrom, EnvSource, EnvTemplate, MountTemplate,
    PodTemplate, Projection, Toleration, VolumeTemplate, VolumeTemplateSource,
};
use crate::domain::world::World;
use crate::kube::defaults;
use crate::kube::human;
use crate::kube::json::{object, put, put_list, without_nulls};

/// The `spec` of a pod that runs `template` for `workload`, defaults filled in.
pub fn pod_spec(world: &World, workload: &ObjectKey, template: &PodTemplate) -> Value {
    let applied = world.objects.get(workload);
    let written = applied.and_then(|applied| written_spec(applied, template));
    let mut spec = written.unwrap_or_else(|| recorded_spec(template));
    defaults::pod_spec(object(&mut spec));
    spec
}

/// The spec as the manifest has it, if that is still what the template says.
fn written_spec(applied: &Applied, template: &PodTemplate) -> Option<Value> {
    let current = applied.resource.template()?;
    let pointer = match applied.resource.key.kind {
        Kind::Pod => "/spec",
        _ => "/spec/template/spec",
    };
    same_spec(current, template).then(|| applied.resource.manifest.at(pointer)).flatten()
}

/// Equal but for labels and annotations, which the owners add to.
fn same_spec(a: &PodTemplate, b: &PodTemplate) -> bool {
    std::ptr::eq(a, b)
        || (a.containers == b.containers
            && a.init_containers == b.init_containers
            && a.volumes == b.volumes
            && a.restart_policy == b.restart_policy
            && a.termination_grace_seconds == b.termination_grace_seconds
            && a.active_deadline_seconds == b.active_deadline_seconds
            && a.placement == b.placement
            && a.network == b.network
            && a.security == b.security
            && a.image_pull_secrets == b.image_pull_secrets
            && a.share_process_namespace == b.share_process_namespace)
}

fn recorded_spec(template: &PodTemplate) -> Value {
    let (network, placement) = (&template.network, &template.placement);
    let mut spec = Map::new();
    put_list(&mut spec, "initContainers", list(&template.init_containers, container));
    put_list(&mut spec, "containers", list(&template.containers, container));
    put_list(&mut spec, "volumes", list(&template.volumes, volume));
    put_list(&mut spec, "tolerations", list(&placement.tolerations, toleration));
    put_list(&mut spec, "hostAliases", list(&network.host_aliases, |alias| json!(alias)));
    let secrets = list(&template.image_pull_secrets, |name| json!({"name": name}));
    put_list(&mut spec, "imagePullSecrets", secrets);
    let selector = &placement.node_selector;
    put(&mut spec, "nodeSelector", (!selector.is_empty()).then(|| json!(selector)));
    put(&mut spec, "hostNetwork", network.host_network.then_some(true));
    put(&mut spec, "hostPID", network.host_pid.then_some(true));
    put(&mut spec, "hostIPC", network.host_ipc.then_some(true));
    put(&mut spec, "hostname", network.hostname.clone());
    put(&mut spec, "subdomain", network.subdomain.clone());
    put(&mut spec, "dnsPolicy", Some(network.dns_policy.clone()).filter(|p| !p.is_empty()));
    let shared = template.share_process_namespace.then_some(true);
    put(&mut spec, "shareProcessNamespace", shared);
    put(&mut spec, "activeDeadlineSeconds", template.active_deadline_seconds);
    put(&mut spec, "terminationGracePeriodSeconds", Some(template.termination_grace_seconds));
    put(&mut spec, "restartPolicy", Some(json!(template.restart_policy)));
    put(&mut spec, "securityContext", Some(pod_security(template)));
    Value::Object(spec)
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(show).collect()
}

fn pod_security(template: &PodTemplate) -> Value {
    let security = &template.security;
    let sysctls: Vec<_> = security
        .sysctls
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let mut shown = Map::new();
    put(&mut shown, "fsGroup", security.fs_group);
    let groups = &security.supplemental_groups;
    put(&mut shown, "supplementalGroups", (!groups.is_empty()).then(|| json!(groups)));
    put_list(&mut shown, "sysctls", sysctls);
    Value::Object(shown)
}

fn container(container: &ContainerTemplate) -> Value {
    let mut shown = Map::new();
    put(&mut shown, "name", Some(container.name.clone()));
    put(&mut shown, "image", Some(container.image.clone()));
    put(&mut shown, "imagePullPolicy", Some(pull_policy(container.pull_policy)));
    put_list(&mut shown, "command", list(&container.command, |word| json!(word)));
    put_list(&mut shown, "args", list(&container.args, |word| json!(word)));
    put(&mut shown, "workingDir", container.working_dir.clone());
    put_list(&mut shown, "envFrom", list(&container.env_from, env_from));
    put_list(&mut shown, "env", list(&container.env, env));
    put_list(&mut shown, "ports", list(&container.ports, port));
    put_list(&mut shown, "volumeMounts", list(&container.mounts, mount));
    put(&mut shown, "resources", Some(resources(&container.resources)));
    put(&mut shown, "livenessProbe", container.liveness.as_ref().map(probe));
    put(&mut shown, "readinessProbe", container.readiness.as_ref().map(probe));
    put(&mut shown, "startupProbe", container.startup.as_ref().map(probe));
    put(&mut shown, "lifecycle", lifecycle(container));
    put(&mut shown, "securityContext", security(&container.security));
    put(&mut shown, "stdin", container.stdin.then_some(true));
    put(&mut shown, "tty", container.tty.then_some(true));
    put(&mut shown, "restartPolicy", container.sidecar.then_some("Always"));
    let path = container.termination_message_path.clone();
    put(&mut shown, "terminationMessagePath", Some(path));
    let policy = container.termination_message_from_logs.then_some("FallbackToLogsOnError");
    put(&mut shown, "terminationMessagePolicy", policy);
    Value::Object(shown)
}

fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn lifecycle(container: &ContainerTemplate) -> Option<Value> {
    let mut shown = Map::new();
    put(&mut shown, "postStart", container.post_start.as_ref().map(handler));
    put(&mut shown, "preStop", container.pre_stop.as_ref().map(handler));
    (!shown.is_empty()).then_some(Value::Object(shown))
}

fn env_from(from: &EnvFrom) -> Value {
    let mut shown = match &from.source {
        ConfigRef::ConfigMap(name) => json!({"configMapRef": reference(name, from.optional)}),
        ConfigRef::Secret(name) => json!({"secretRef": reference(name, from.optional)}),
    };
    let prefix = Some(from.prefix.clone()).filter(|prefix| !prefix.is_empty());
    put(object(&mut shown), "prefix", prefix);
    shown
}

fn reference(name: &str, optional: bool) -> Value {
    without_nulls(json!({"name": name, "optional": optional.then_some(true)}))
}

fn env(env: &EnvTemplate) -> Value {
    let key_ref = |name: &str, key: &str, optional: bool| {
        let mut shown = reference(name, optional);
        put(object(&mut shown), "key", Some(key));
        shown
    };
    match &env.value {
        EnvSource::Literal(value) => json!({"name": env.name, "value": value}),
        EnvSource::ConfigMapKey { name, key, optional } => {
            json!({"name": env.name, "valueFrom": {"configMapKeyRef": key_ref(name, key, *optional)}})
        }
        EnvSource::SecretKey { name, key, optional } => {
            json!({"name": env.name, "valueFrom": {"secretKeyRef": key_ref(name, key, *optional)}})
        }
        EnvSource::Downward(field) => json!({"name": env.name, "valueFrom": downward(field)}),
    }
}

fn downward(field: &DownwardField) -> Value {
    match field {
        DownwardField::Field(path) => json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}}),
        DownwardField::Resource { container, resource, divisor } => without_nulls(json!({
            "resourceFieldRef":
                {"containerName": container, "resource": resource, "divisor": divisor}
        })),
    }
}

fn port(port: &ContainerPort) -> Value {
    without_nulls(json!({
        "name": port.name,
        "containerPort": port.port,
        "protocol": port.protocol,
        "hostPort": port.host_port,
        "hostIP": port.host_ip,
    }))
}

fn mount(mount: &MountTemplate) -> Value {
    without_nulls(json!({
        "name": mount.volume,
        "mountPath": mount.path,
        "subPath": mount.sub_path,
        "subPathExpr": mount.sub_path_expr,
        "readOnly": mount.read_only.then_some(true),
    }))
}

fn resources(resources: &Resources) -> Value {
    let pair = |cpu: Option<u64>, memory: Option<u64>| {
        let mut shown = Map::new();
        put(&mut shown, "cpu", cpu.map(human::cpu));
        put(&mut shown, "memory", memory.map(human::bytes));
        (!shown.is_empty()).then_some(Value::Object(shown))
    };
    let mut shown = Map::new();
    let limits = pair(resources.cpu_limit_millis, resources.memory_limit_bytes);
    put(&mut shown, "limits", limits);
    let requests = pair(resources.cpu_request_millis, resources.memory_request_bytes);
    put(&mut shown, "requests", requests);
    Value::Object(shown)
}

fn probe(probe: &Probe) -> Value {
    let mut shown = handler(&probe.handler);
    let fields = object(&mut shown);
    let delay = probe.initial_delay_seconds;
    put(fields, "initialDelaySeconds", (delay > 0).then_some(delay));
    put(fields, "periodSeconds", Some(probe.period_seconds));
    put(fields, "timeoutSeconds", Some(probe.timeout_seconds));
    put(fields, "successThreshold", Some(probe.success_threshold));
    put(fields, "failureThreshold", Some(probe.failure_threshold));
    shown
}

fn handler(handler: &Handler) -> Value {
    match handler {
        Handler::Exec { command } => json!({"exec": {"command": command}}),
        Handler::Http { host, port, path, https, headers } => {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            without_nulls(json!({"httpGet": {
                "host": host,
                "port": port,
                "path": path,
                "scheme": if *https { "HTTPS" } else { "HTTP" },
                "httpHeaders": (!headers.is_empty()).then_some(headers),
            }}))
        }
        Handler::Tcp { host, port } => {
            without_nulls(json!({"tcpSocket": {"host": host, "port": port}}))
        }
        Handler::Sleep { seconds } => json!({"sleep": {"seconds": seconds}}),
    }
}

fn security(security: &ContainerSecurity) -> Option<Value> {
    let capabilities = json!({
        "add": Some(&security.add_capabilities).filter(|list| !list.is_empty()),
        "drop": Some(&security.drop_capabilities).filter(|list| !list.is_empty()),
    });
    let capabilities = Some(without_nulls(capabilities)).filter(|shown| *shown != json!({}));
    let shown = without_nulls(json!({
        "privileged": security.privileged.then_some(true),
        "runAsUser": security.run_as_user,
        "runAsGroup": security.run_as_group,
        "runAsNonRoot": security.run_as_non_root.then_some(true),
        "readOnlyRootFilesystem": security.read_only_root.then_some(true),
        "allowPrivilegeEscalation": security.allow_privilege_escalation,
        "capabilities": capabilities,
    }));
    (shown != json!({})).then_some(shown)
}

fn volume(volume: &VolumeTemplate) -> Value {
    let mut shown = match &volume.source {
        VolumeTemplateSource::EmptyDir { memory, size_limit_bytes } => without_nulls(json!({
            "emptyDir": {
                "medium": memory.then_some("Memory"),
                "sizeLimit": size_limit_bytes.map(human::bytes),
            }
        })),
        VolumeTemplateSource::HostPath { path, kind } => {
            json!({"hostPath": {"path": path, "type": host_path_kind(*kind)}})
        }
        VolumeTemplateSource::Claim { name, read_only } => without_nulls(json!({
            "persistentVolumeClaim":
                {"claimName": name, "readOnly": read_only.then_some(true)}
        })),
        VolumeTemplateSource::Projected { default_mode, sources } => {
            files_volume(*default_mode, sources)
        }
    };
    put(object(&mut shown), "name", Some(volume.name.clone()));
    shown
}

/// A volume of one ConfigMap or Secret is shown as such, anything else as projected.
fn files_volume(default_mode: u32, sources: &[Projection]) -> Value {
    if let [Projection::Config { source, items, optional }] = sources {
        let items = items.as_ref().map(|items| list(items, projected_key));
        let (field, name_field, name) = match source {
            ConfigRef::ConfigMap(name) => ("configMap", "name", name),
            ConfigRef::Secret(name) => ("secret", "secretName", name),
        };
        return without_nulls(json!({field: {
            name_field: name,
            "items": items,
            "optional": optional.then_some(true),
            "defaultMode": default_mode,
        }}));
    }
    json!({"projected": {"sources": list(sources, projection), "defaultMode": default_mode}})
}

fn projection(projection: &Projection) -> Value {
    match projection {
        Projection::Config { source, items, optional } => {
            let items = items.as_ref().map(|items| list(items, projected_key));
            let (field, name) = match source {
                ConfigRef::ConfigMap(name) => ("configMap", name),
                ConfigRef::Secret(name) => ("secret", name),
            };
            without_nulls(json!({field:
                {"name": name, "items": items, "optional": optional.then_some(true)}}))
        }
        Projection::Downward { path, mode, field } => {
            let mut item = downward(field);
            put(object(&mut item), "path", Some(path.clone()));
            put(object(&mut item), "mode", *mode);
            json!({"downwardAPI": {"items": [item]}})
        }
    }
}

fn projected_key(item: &crate::domain::template::ProjectedKey) -> Value {
    without_nulls(json!({"key": item.key, "path": item.path, "mode": item.mode}))
}

fn host_path_kind(kind: HostPathKind) -> &'static str {
    match kind {
        HostPathKind::Unset => "",
        HostPathKind::DirectoryOrCreate => "DirectoryOrCreate",
        HostPathKind::Directory => "Directory",
        HostPathKind::FileOrCreate => "FileOrCreate",
        HostPathKind::File => "File",
        HostPathKind::Socket => "Socket",
        HostPathKind::CharDevice => "CharDevice",
        HostPathKind::BlockDevice => "BlockDevice",
    }
}

fn toleration(toleration: &Toleration) -> Value {
    without_nulls(json!({
        "key": Some(&toleration.key).filter(|key| !key.is_empty()),
        "operator": if toleration.value.is_some() { "Equal" } else { "Exists" },
        "value": toleration.value,
        "effect": toleration.effect,
        "tolerationSeconds": toleration.seconds,
    }))
}
