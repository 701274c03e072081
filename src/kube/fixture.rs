//! A small World made by hand: one of each kind, in states that people meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::directory::{self, Backend, Endpoint, Service, ServiceAddress, TrafficPolicy};
use kgit_protocol::ids::{Attempt, BootId, ClusterId, Digest, Epoch, Generation, NodeName, PodUid};
use kgit_protocol::observation::{
    Capacity, ContainerObservation, ContainerState, NodeFacts, NodeObservation, PodObservation,
    PodPhase, Termination,
};
use kgit_protocol::pod::{Dns, PodSpec, Protocol, PullPolicy, Resources, RestartPolicy};
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::{ContainerUsage, NodeUsage, PodUsage, Usage};
use serde_json::{Value, json};

use crate::domain::desired::Commit;
use crate::domain::diagnostic::Place;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::manifest::Manifest;
use crate::domain::node::Node;
use crate::domain::record::{
    Applied, ClaimPhase, ClaimState, DeploymentState, Event, EventLog, JobFinish, JobState, Placed,
    Pod, ReplicaSet, ReplicaStatus, VolumePhase, VolumeState,
};
use crate::domain::resource::{
    AccessMode, ClaimSpec, DeploymentSpec, IntOrPercent, PersistentSource, PersistentVolumeSpec,
    ReclaimPolicy, Resource, ServicePort, ServiceSpec, Spec, Strategy, TargetPort,
};
use crate::domain::selector::{Labels, Selector};
use crate::domain::service::{EndpointPod, ServiceState, of_the_api};
use crate::domain::template::{ContainerTemplate, PodTemplate};
use crate::domain::world::{Effect, Record, World, node_key};
use crate::kube::workload_fixture;

/// Everything was made an hour before.
pub const NOW: Timestamp = Timestamp(1_767_225_600_000);
pub const THEN: Timestamp = Timestamp(NOW.0 - 3_600_000);

pub fn world() -> World {
    let mut world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
    let effects = [
        deployment(),
        storage(),
        workload_fixture::configs(),
        workload_fixture::cron_job(),
        workload_fixture::autoscaler(),
        workload_fixture::others(),
        vec![
            workload_fixture::job(),
            service(),
            behind_service(),
            own_service(),
            node(),
            lonely_pod(),
        ],
        balancer(),
        events(),
    ];
    for (number, effect) in effects.into_iter().flatten().enumerate() {
        for effect in expand(effect) {
            world.apply(&effect, number as u64 + 10);
        }
    }
    world
}

pub(super) enum Made {
    Object(ObjectKey, Box<Spec>, Value),
    Row(ObjectKey, Record),
}

fn expand(made: Made) -> Vec<Effect> {
    match made {
        Made::Row(key, record) => vec![Effect::Put(key, record)],
        Made::Object(key, spec, manifest) => {
            vec![Effect::Put(key.clone(), Record::Object(Arc::new(applied(key, *spec, manifest))))]
        }
    }
}

pub fn labels(app: &str) -> Labels {
    BTreeMap::from([("app".to_owned(), app.to_owned())])
}

pub fn applied(key: ObjectKey, spec: Spec, manifest: Value) -> Applied {
    let place = Place::new(format!("apps/{}.yaml", key.name), 1, 1);
    let read =
        |field: &str| manifest.pointer(field).map(|v| serde_json::from_value(v.clone()).unwrap());
    Applied {
        uid: format!("uid-of-{}", key.name),
        resource: Arc::new(Resource {
            labels: read("/metadata/labels").unwrap_or_default(),
            annotations: Labels::new(),
            spec,
            place,
            references: Vec::new(),
            digest: Digest::of(manifest.to_string().as_bytes()),
            manifest: Manifest::of(&manifest),
            fields: Arc::default(),
            key,
        }),
        created: THEN,
        changed: THEN,
        generation: 1,
        commit: Arc::new(Commit { id: "0a1b2c3d4e5f".to_owned(), ..Commit::default() }),
        owner: None,
        deletion: None,
        changes: Vec::new(),
        counter: 0,
        retained: None,
    }
}

fn container(name: &str, image: &str) -> ContainerTemplate {
    ContainerTemplate {
        name: name.to_owned(),
        image: image.to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env_from: Vec::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        resources: Resources::default(),
        liveness: None,
        readiness: None,
        startup: None,
        post_start: None,
        pre_stop: None,
        security: Default::default(),
        stdin: false,
        tty: false,
        sidecar: false,
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_from_logs: false,
    }
}

pub(super) fn template(app: &str, image: &str) -> Arc<PodTemplate> {
    Arc::new(PodTemplate {
        labels: labels(app),
        containers: vec![container(app, image)],
        termination_grace_seconds: 30,
        ..PodTemplate::default()
    })
}

pub(super) fn template_json(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": app, "image": image}]},
    })
}

fn deployment() -> Vec<Made> {
    let key = ObjectKey::new(Kind::Deployment, "default", "web");
    let spec = DeploymentSpec {
        replicas: 3,
        selector: Selector::from_labels(&labels("web")),
        template: template("web", "nginx:1.27"),
        strategy: Strategy::RollingUpdate {
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
        },
        min_ready_seconds: 0,
        revision_history_limit: 10,
        progress_deadline_seconds: 600,
        paused: false,
    };
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template_json("web", "nginx:1.27"),
        },
    });
    let state = DeploymentState {
        observed_generation: 1,
        revision: 2,
        progressed: THEN,
        status: ReplicaStatus { replicas: 3, updated: 3, ready: 2, available: 2 },
        ..DeploymentState::default()
    };
    let mut made = vec![
        Made::Object(key.clone(), Box::new(Spec::Deployment(spec)), manifest),
        Made::Row(key.clone(), Record::Deployment(Arc::new(state))),
        replica_set(&key, "5d59d67564", 1, 0, "nginx:1.26"),
        replica_set(&key, "7c5ddbdf54", 2, 3, "nginx:1.27"),
    ];
    made.extend(web_pods());
    made
}

fn replica_set(owner: &ObjectKey, hash: &str, revision: u64, replicas: u32, image: &str) -> Made {
    let key = owner.sibling(Kind::ReplicaSet, &format!("{}-{hash}", owner.name));
    let ready = if replicas > 0 { 2 } else { 0 };
    let set = ReplicaSet {
        uid: format!("uid-of-{}", key.name),
        owner: owner.clone(),
        created: THEN,
        template: template("web", image),
        revision_digest: Digest::of(hash.as_bytes()),
        hash: hash.to_owned(),
        configs: BTreeMap::new(),
        revision,
        revision_history: Vec::new(),
        replicas,
        desired: 3,
        max_replicas: 4,
        min_ready_seconds: 0,
        counter: 3,
        status: ReplicaStatus { replicas, updated: replicas, ready, available: ready },
        key: key.clone(),
    };
    Made::Row(key, Record::ReplicaSet(Arc::new(set)))
}

fn web_pods() -> Vec<Made> {
    let running = ContainerState::Running { started_at: THEN };
    let back_off = ContainerState::Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: Some("back-off 40s restarting failed container".to_owned()),
    };
    let states = [("aaaaa", running.clone(), 0), ("bbbbb", running, 0), ("ccccc", back_off, 4)];
    states.into_iter().map(|(end, state, restarts)| web_pod(end, state, restarts)).collect()
}

fn web_pod(end: &str, state: ContainerState, restarts: u32) -> Made {
    let owner = ObjectKey::new(Kind::ReplicaSet, "default", "web-7c5ddbdf54");
    let ready = matches!(state, ContainerState::Running { .. });
    let last = (restarts > 0).then(|| Termination {
        exit_code: 1,
        reason: "Error".to_owned(),
        message: None,
        started_at: Some(Timestamp(NOW.0 - 90_000)),
        finished_at: Some(Timestamp(NOW.0 - 60_000)),
        container_id: Some("0f".repeat(32)),
    });
    let observed = PodObservation {
        uid: PodUid::new(format!("uid-of-{end}")),
        phase: PodPhase::Running,
        reason: None,
        message: None,
        ready,
        ready_since: Some(THEN),
        started_at: Some(THEN),
        init_containers: Vec::new(),
        containers: vec![ContainerObservation {
            name: "web".to_owned(),
            attempt: Attempt(restarts.into()),
            state,
            last,
            restarts,
            ready,
            started: true,
            container_id: Some("1f".repeat(32)),
            image_id: Some("docker-pullable://nginx@sha256:1234".to_owned()),
        }],
        drifts: Vec::new(),
        silent_ports: Vec::new(),
    };
    let mut labels = labels("web");
    labels.insert("pod-template-hash".to_owned(), "7c5ddbdf54".to_owned());
    let mut pod = pod(&format!("web-7c5ddbdf54-{end}"), owner, template("web", "nginx:1.27"));
    pod.uid = observed.uid.clone();
    pod.labels = labels;
    pod.placed = Some(Placed {
        node: NodeName::new("a"),
        at: THEN,
        spec: Arc::new(pod_spec()),
        digest: pod_spec().digest(),
    });
    pod.observed = Some(Arc::new(observed));
    Made::Row(pod.key.clone(), Record::Pod(Arc::new(pod)))
}

fn pod(name: &str, owner: ObjectKey, template: Arc<PodTemplate>) -> Pod {
    Pod {
        key: ObjectKey::new(Kind::Pod, "default", name),
        uid: PodUid::new(format!("uid-of-{name}")),
        owner,
        created: THEN,
        labels: template.labels.clone(),
        annotations: Labels::new(),
        revision_digest: template.digest(),
        template,
        index: None,
        pinned: None,
        counted: false,
        placed: None,
        deletion: None,
        observed: None,
        drifts_told: 0,
        priority: 0,
        never_preempts: false,
        nominated: None,
    }
}

fn pod_spec() -> PodSpec {
    PodSpec {
        hostname: "web".to_owned(),
        address: Some([10, 42, 0, 7].into()),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        dns: Dns::default(),
        host_aliases: Vec::new(),
        init_containers: Vec::new(),
        containers: Vec::new(),
        volumes: Vec::new(),
        restart_policy: RestartPolicy::Always,
        termination_grace_seconds: 30,
        active_deadline_seconds: None,
        security: Default::default(),
        registry_logins: Vec::new(),
        fence_after_seconds: None,
        domain: None,
    }
}

/// Has no node yet.
fn lonely_pod() -> Made {
    let key = ObjectKey::new(Kind::Pod, "default", "lonely");
    let pod = pod("lonely", key.clone(), template("lonely", "busybox"));
    Made::Row(key, Record::Pod(Arc::new(pod)))
}

fn storage() -> Vec<Made> {
    let claim = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data");
    let volume = ObjectKey::new(Kind::PersistentVolume, "", "disk");
    let waiting = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "nothing-fits");
    let unused = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "unused");
    let volume_spec = PersistentVolumeSpec {
        capacity_bytes: 5 << 30,
        access_modes: vec![AccessMode::ReadWriteOnce],
        class: "manual".to_owned(),
        reclaim: ReclaimPolicy::Retain,
        block: false,
        claim: None,
        source: PersistentSource::HostPath {
            path: "/mnt/data".to_owned(),
            kind: Default::default(),
        },
        node_affinity: Vec::new(),
    };
    let volume_manifest = json!({"metadata": {"name": "disk"}, "spec": {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "manual",
        "hostPath": {"path": "/mnt/data"},
    }});
    let bound = VolumeState {
        phase: VolumePhase::Bound,
        claim: Some((claim.clone(), "uid-of-data".to_owned())),
        node: Some(NodeName::new("a")),
        provisioned: None,
    };
    let claimed = ClaimState { phase: ClaimPhase::Bound, volume: Some("disk".to_owned()) };
    let (claim_spec, claim_manifest) = claim_parts(Some("manual"));
    let (waiting_spec, waiting_manifest) = claim_parts(None);
    vec![
        Made::Object(
            volume.clone(),
            Box::new(Spec::PersistentVolume(volume_spec)),
            volume_manifest,
        ),
        Made::Row(volume, Record::Volume(Arc::new(bound))),
        Made::Object(claim.clone(), Box::new(claim_spec), claim_manifest),
        Made::Row(claim, Record::Claim(Arc::new(claimed))),
        Made::Object(waiting, Box::new(waiting_spec.clone()), waiting_manifest.clone()),
        Made::Object(unused, Box::new(waiting_spec), waiting_manifest),
    ]
}

fn claim_parts(class: Option<&str>) -> (Spec, Value) {
    let spec = ClaimSpec {
        request_bytes: 1 << 30,
        access_modes: vec![AccessMode::ReadWriteOnce],
        class: class.map(str::to_owned),
        volume_name: None,
        selector: None,
        block: false,
    };
    let mut manifest = json!({"metadata": {}, "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }});
    if let Some(class) = class {
        manifest["spec"]["storageClassName"] = json!(class);
    }
    (Spec::PersistentVolumeClaim(spec), manifest)
}

fn service() -> Made {
    let key = ObjectKey::new(Kind::Service, "default", "web");
    let port = ServicePort {
        name: None,
        port: 80,
        protocol: Default::default(),
        target: TargetPort::Number(8080),
        node_port: Some(30080),
    };
    let spec = ServiceSpec {
        kind: "NodePort".to_owned(),
        selector: Some(labels("web")),
        ports: vec![port],
        headless: false,
        cluster_ip: None,
        external_name: None,
        external_ips: Vec::new(),
        affinity_seconds: None,
        publish_not_ready: false,
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        without_node_ports: false,
    };
    let manifest = json!({"metadata": {"name": "web"}, "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
    }});
    Made::Object(key, Box::new(Spec::Service(spec)), manifest)
}

/// Two of the deployment's pods, one of which is not ready.
fn behind_service() -> Made {
    let endpoint = |pod: &str, ready: bool| Endpoint {
        address: [10, 42, 0, 7].into(),
        node: Some(NodeName::new("a")),
        pod: pod.rsplit('-').next().map(|end| PodUid::new(format!("uid-of-{end}"))),
        hostname: None,
        targets: vec![Some(8080)],
        ready,
        serving: ready,
    };
    let pods = [("web-7c5ddbdf54-aaaaa", true), ("web-7c5ddbdf54-ccccc", false)];
    let endpoints = pods.iter().map(|(pod, ready)| endpoint(pod, *ready)).collect();
    let names =
        pods.iter().map(|(pod, _)| EndpointPod { name: Arc::from(*pod), terminating: false });
    let state = decided([10, 43, 0, 9], Some(30080), endpoints, names.collect());
    let key = ObjectKey::new(Kind::Service, "default", "web");
    Made::Row(key, Record::Service(Arc::new(state)))
}

/// A LoadBalancer, without a pod behind it.
fn balancer() -> Vec<Made> {
    let key = ObjectKey::new(Kind::Service, "default", "public");
    let Made::Object(_, spec, _) = service() else { unreachable!("a service is an object") };
    let Spec::Service(spec) = *spec else { unreachable!("its spec is a service's") };
    let spec = ServiceSpec { kind: "LoadBalancer".to_owned(), ..spec };
    let manifest = json!({"metadata": {"name": "public"}, "spec": {
        "type": "LoadBalancer",
        "selector": {"app": "public"},
        "ports": [{"name": "http", "port": 80}],
    }});
    let mut state = decided([10, 43, 0, 10], Some(30081), Vec::new(), Vec::new());
    state.ingress = vec!["192.168.1.10".to_owned()];
    vec![
        Made::Object(key.clone(), Box::new(Spec::Service(spec)), manifest),
        Made::Row(key, Record::Service(Arc::new(state))),
    ]
}

/// By which pods reach the API.
fn own_service() -> Made {
    let mut state = decided([10, 43, 0, 1], None, Vec::new(), Vec::new());
    state.service.backend = Backend::Master;
    state.service.ports[0] = directory::ServicePort {
        name: Some("https".to_owned()),
        port: 443,
        ..state.service.ports[0].clone()
    };
    Made::Row(of_the_api(), Record::Service(Arc::new(state)))
}

fn decided(
    address: [u8; 4],
    node_port: Option<u16>,
    endpoints: Vec<Endpoint>,
    pods: Vec<EndpointPod>,
) -> ServiceState {
    let port = directory::ServicePort { name: None, protocol: Protocol::Tcp, port: 80, node_port };
    let service = Service {
        address: ServiceAddress::Cluster(address.into()),
        ports: vec![port],
        backend: Backend::Endpoints(endpoints),
        affinity_seconds: None,
        publish_not_ready: false,
        external_addresses: Vec::new(),
        on_node_addresses: false,
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
    };
    ServiceState { service, pods, ingress: Vec::new() }
}

fn node() -> Made {
    let network = PodNetwork { range: "10.42.0.0/24".parse().unwrap() };
    let issued = Stamp { epoch: Epoch(0), generation: Generation(1), digest: Digest::of(b"") };
    let (name, uid) = (NodeName::new("a"), "uid-of-a".to_owned());
    let node = Node {
        labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), "a".to_owned())]),
        observed: NodeObservation {
            service_troubles: Vec::new(),
            capacity: Capacity {
                cpu_millis: 2000,
                memory_bytes: 4 << 30,
                pods: 250,
                disk_bytes: 100 << 30,
            },
            conditions: Vec::new(),
            facts: NodeFacts {
                hostname: "a".to_owned(),
                addresses: vec!["192.168.1.10".to_owned()],
                os_image: "Debian GNU/Linux 12".to_owned(),
                kernel: "6.1.0".to_owned(),
                architecture: "amd64".to_owned(),
                engine: "28.2.2".to_owned(),
                engine_api: "1.50".to_owned(),
                agent: "0.1.0".to_owned(),
                boot_id: "boot".to_owned(),
                allowed_paths: Vec::new(),
            },
        },
        heard: Some(true),
        next_address: 9,
        ..Node::new(name, uid, THEN, network, Digest::of(b"key"), issued)
    };
    Made::Row(node_key(&node.name), Record::Node(Arc::new(node)))
}

fn events() -> Vec<Made> {
    let pod = ObjectKey::new(Kind::Pod, "default", "web-7c5ddbdf54-ccccc");
    let event = Event {
        warning: true,
        reason: "Unhealthy".to_owned(),
        message: "Readiness probe failed: connection refused".to_owned(),
        field_path: Some("spec.containers{web}".to_owned()),
        component: "kgit-agent".to_owned(),
        first: THEN,
        last: Timestamp(NOW.0 - 60_000),
        count: 4,
    };
    let finished = JobState {
        started: Some(THEN),
        succeeded: 1,
        finished: Some(JobFinish {
            at: Timestamp(THEN.0 + 42_000),
            succeeded: true,
            reason: String::new(),
        }),
        ..JobState::default()
    };
    let job = ObjectKey::new(Kind::Job, "default", "migrate");
    vec![
        Made::Row(pod, Record::Events(Arc::new(EventLog { events: vec![event] }))),
        Made::Row(job, Record::Job(Arc::new(finished))),
    ]
}

/// The node was heard of a second ago.
pub fn heartbeats() -> imbl::OrdMap<NodeName, Timestamp> {
    imbl::OrdMap::unit(NodeName::new("a"), Timestamp(NOW.0 - 1000))
}

/// What the node and a pod of it used last.
pub fn usages() -> imbl::OrdMap<NodeName, Arc<Usage>> {
    let container =
        ContainerUsage { name: "web".to_owned(), cpu_millis: 12, memory_bytes: 34 << 20 };
    let pod = PodUsage {
        uid: PodUid::new("uid-of-ccccc"),
        at: NOW,
        window_seconds: 15,
        containers: vec![container],
    };
    let node = NodeUsage { at: NOW, cpu_millis: 345, memory_bytes: 678 << 20 };
    let usage = Usage { version: 1, boot: BootId::new("boot"), node, pods: vec![pod] };
    imbl::OrdMap::unit(NodeName::new("a"), Arc::new(usage))
}
