//! Every message as it stands on the wire, one file each in `tests/golden`. A change of such a
//! file is a change of the protocol: may an older side still read it?
//!
//! Each message is also read back as an older release would have to read a newer one's: with
//! fields that it does not know.

use std::collections::BTreeMap;
use std::fmt::Debug;

use kgit_protocol::assignment::{
    AssignmentSet, Delta, Order, PodAssignment, PodNetwork, Stamp, content_digest,
};
use kgit_protocol::directory::{
    Backend, Directory, DirectoryChange, DirectoryDelta, Endpoint, ListedService, Service,
    ServiceAddress, ServiceName, ServicePort, TrafficPolicy,
};
use kgit_protocol::ids::{Attempt, BootId, ClusterId, Digest, Epoch, Generation, NodeName, PodUid};
use kgit_protocol::messages::{
    Acknowledged, AuditHead, Heartbeat, Join, Joined, Lease, Leave, Orders, PROTOCOL_VERSION, Pull,
    Pulled, Refusal, Renew, Report,
};
use kgit_protocol::observation::{
    Capacity, ContainerObservation, ContainerState, Drift, DriftKind, NodeCondition, NodeFacts,
    NodeObservation, PodEvent, PodObservation, PodPhase, ServiceTrouble, Termination,
};
use kgit_protocol::pod::{
    ContainerPort, ContainerSecurity, ContainerSpec, Dns, EnvVar, File, Handler, HostAlias,
    HostPathKind, Mount, PodSecurity, PodSpec, Probe, Protocol, PullPolicy, RegistryLogin,
    Resources, RestartPolicy, Volume, VolumeSource,
};
use kgit_protocol::stream::{
    AttachRequest, Channel, ConnectRequest, Ends, ExecRequest, LogRequest, StreamEnd,
    StreamRequest, TerminalSize,
};
use kgit_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields whose objects have keys that people chose: a new key there is data, no new field.
const MAPS: [&str; 6] = ["changed", "labels", "options", "pods", "services", "sysctls"];

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let text = serde_json::to_string_pretty(message).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), message, "{name} is read otherwise");
    let mut newer: Value = serde_json::from_str(&text).unwrap();
    add_unknown_fields(&mut newer, "");
    let read: T = serde_json::from_value(newer).expect("unknown fields are tolerated");
    assert_eq!(&read, message, "{name} is read otherwise from a newer release");
}

fn add_unknown_fields(value: &mut Value, field: &str) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| add_unknown_fields(item, field)),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                add_unknown_fields(value, key);
            }
            // `{"Set": …}` names a variant; it has no fields of its own.
            let is_variant = fields.keys().any(|key| key.starts_with(char::is_uppercase));
            if !is_variant && !MAPS.contains(&field) {
                fields.insert("of_a_later_release".to_owned(), Value::Bool(true));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const NOW: Timestamp = Timestamp(1_767_323_045_000);

fn stamp(generation: u64) -> Stamp {
    let digest = content_digest(std::iter::empty(), &[], false);
    Stamp { epoch: Epoch(1), generation: Generation(generation), digest }
}

fn head() -> AuditHead {
    AuditHead { restored: NOW, sequence: 12, digest: Digest::of(b"head") }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn container() -> ContainerSpec {
    let probe = |handler| Probe {
        handler,
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
    };
    let http = Handler::Http {
        host: None,
        port: 80,
        path: text("/healthz"),
        https: false,
        headers: vec![(text("Accept"), text("text/plain"))],
    };
    ContainerSpec {
        name: text("web"),
        image: text("example/web:1"),
        pull_policy: PullPolicy::IfNotPresent,
        command: vec![text("serve")],
        args: vec![text("--port=80")],
        working_dir: Some(text("/srv")),
        env: vec![EnvVar { name: text("MODE"), value: text("fast") }],
        ports: vec![ContainerPort {
            name: Some(text("http")),
            port: 80,
            protocol: Protocol::Tcp,
            host_port: Some(8080),
            host_ip: None,
        }],
        mounts: vec![Mount {
            volume: text("data"),
            path: text("/data"),
            sub_path: Some(text("web")),
            read_only: true,
        }],
        resources: Resources {
            cpu_request_millis: Some(100),
            memory_limit_bytes: Some(64 << 20),
            ..Resources::default()
        },
        liveness: Some(probe(Handler::Exec { command: vec![text("true")] })),
        readiness: Some(probe(http)),
        startup: Some(probe(Handler::Tcp { host: None, port: 80 })),
        post_start: None,
        pre_stop: Some(Handler::Sleep { seconds: 1 }),
        security: ContainerSecurity { run_as_user: Some(1000), ..ContainerSecurity::default() },
        stdin: false,
        tty: false,
        sidecar: false,
        termination_message_path: text("/dev/termination-log"),
        termination_message_from_logs: false,
    }
}

fn volumes() -> Vec<Volume> {
    let volume = |name: &str, source| Volume { name: text(name), source };
    let file = File { path: text("key"), mode: 0o600, content: text("c2VjcmV0") };
    let options = BTreeMap::from([(text("type"), text("nfs"))]);
    vec![
        volume("scratch", VolumeSource::EmptyDir { memory: true, size_limit_bytes: None }),
        volume(
            "host",
            VolumeSource::HostPath { path: text("/srv/x"), kind: HostPathKind::Directory },
        ),
        volume("files", VolumeSource::Files { files: vec![file], secret: true }),
        volume(
            "data",
            VolumeSource::Docker { volume: text("kgit-1"), driver: text("local"), options },
        ),
    ]
}

fn spec() -> PodSpec {
    PodSpec {
        domain: Some("db.default.svc.cluster.local".to_owned()),
        hostname: text("web-1"),
        address: Some([10, 1, 0, 2].into()),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        dns: Dns { cluster: true, options: vec![text("ndots:5")], ..Dns::default() },
        host_aliases: vec![HostAlias { ip: text("10.0.0.1"), hostnames: vec![text("db")] }],
        init_containers: Vec::new(),
        containers: vec![container()],
        volumes: volumes(),
        restart_policy: RestartPolicy::Always,
        termination_grace_seconds: 30,
        active_deadline_seconds: None,
        security: PodSecurity {
            fs_group: Some(1000),
            supplemental_groups: Vec::new(),
            sysctls: BTreeMap::from([(text("net.core.somaxconn"), text("1024"))]),
        },
        registry_logins: vec![RegistryLogin {
            registry: text("registry.example.com"),
            username: text("ann"),
            password: text("secret"),
        }],
        fence_after_seconds: None,
    }
}

fn assignment(order: Order) -> PodAssignment {
    PodAssignment {
        uid: PodUid::new("uid-1"),
        namespace: text("default"),
        name: text("web-1"),
        order,
        digest: Digest::of(b"spec"),
        spec: spec(),
    }
}

fn pulled(orders: Orders) -> Pulled {
    Pulled { orders, directory: None, audit_head: Some(head()), now: NOW }
}

fn observed(name: &str, state: ContainerState) -> ContainerObservation {
    ContainerObservation {
        name: text(name),
        attempt: Attempt(2),
        state,
        last: None,
        restarts: 2,
        ready: false,
        started: true,
        container_id: Some(text("c0ffee")),
        image_id: Some(text("sha256:1")),
    }
}

fn pod() -> PodObservation {
    let ended = Termination {
        exit_code: 137,
        reason: text("OOMKilled"),
        message: Some(text("last words")),
        started_at: Some(NOW),
        finished_at: Some(NOW),
        container_id: Some(text("c0ffee")),
    };
    let waiting = ContainerState::Waiting { reason: text("ImagePullBackOff"), message: None };
    PodObservation {
        uid: PodUid::new("uid-1"),
        phase: PodPhase::Running,
        reason: None,
        message: None,
        ready: false,
        ready_since: None,
        started_at: Some(NOW),
        init_containers: vec![observed("init", ContainerState::Terminated(ended.clone()))],
        containers: vec![
            observed("web", ContainerState::Running { started_at: NOW }),
            ContainerObservation { last: Some(ended), ..observed("side", waiting) },
            observed("lost", ContainerState::Unknown),
        ],
        silent_ports: vec![80],
        drifts: vec![Drift {
            number: 1,
            at: NOW,
            container: text("web"),
            kind: DriftKind::Removed,
            seen: text("the container is gone"),
        }],
    }
}

fn node() -> NodeObservation {
    NodeObservation {
        capacity: Capacity { cpu_millis: 2000, memory_bytes: 4 << 30, pods: 110, disk_bytes: 1 },
        conditions: vec![NodeCondition {
            kind: text("DiskPressure"),
            status: None,
            reason: text("EngineSilent"),
            message: text("the engine does not answer"),
        }],
        facts: NodeFacts { hostname: text("a"), ..NodeFacts::default() },
        service_troubles: vec![ServiceTrouble {
            service: ServiceName::new("default", "web"),
            reason: text("PortInUse"),
            message: text("port 80 of this node is another program's"),
        }],
    }
}

#[test]
fn joining_renewing_and_leaving() {
    let version = PROTOCOL_VERSION;
    let network = PodNetwork { range: "10.1.0.0/24".parse().unwrap() };
    let request = text("-----BEGIN CERTIFICATE REQUEST-----");
    golden(
        "join",
        &Join {
            version,
            token: text("kgit1.digest.id.secret"),
            node: NodeName::new("a"),
            labels: BTreeMap::from([(text("disk"), text("ssd"))]),
            certificate_request: request.clone(),
            network,
        },
    );
    let node = NodeName::new("a");
    golden("renew", &Renew { version, node: node.clone(), certificate_request: request });
    golden(
        "joined",
        &Joined {
            cluster: ClusterId::new("0123456789abcdef"),
            node,
            certificate: text("-----BEGIN CERTIFICATE-----"),
            authority: text("-----BEGIN CERTIFICATE-----"),
        },
    );
    golden("leave", &Leave { version });
    golden("refusal", &Refusal { reason: text("NotAMember"), message: text("join again") });
}

#[test]
fn pulling_orders() {
    let have = Some(stamp(1));
    let witness = Some(head());
    golden(
        "pull",
        &Pull {
            version: PROTOCOL_VERSION,
            have,
            directory: Some(Digest::of(b"directory")),
            wait_seconds: 60,
            audit_witness: witness,
        },
    );
    golden("pulled-unchanged", &pulled(Orders::Unchanged));
    let run = assignment(Order::Run);
    let set = AssignmentSet {
        stamp: stamp(2),
        pods: BTreeMap::from([(run.uid.clone(), run)]),
        remove_volumes: vec![text("kgit-2")],
        keep_others: true,
    };
    golden("pulled-set", &pulled(Orders::Set(set)));
    let delta = Delta {
        base: stamp(1),
        next: stamp(2),
        changed: vec![assignment(Order::Stop { grace_seconds: 30 })],
        removed: vec![PodUid::new("uid-2")],
        remove_volumes: Vec::new(),
        keep_others: false,
    };
    golden("pulled-delta", &pulled(Orders::Delta(delta)));
}

fn services() -> BTreeMap<ServiceName, ListedService> {
    let endpoint = Endpoint {
        address: "10.1.0.5".parse().unwrap(),
        node: Some(NodeName::new("a")),
        pod: Some(PodUid::new("uid-1")),
        hostname: Some(text("db-0")),
        targets: vec![Some(8080), None],
        ready: true,
        serving: true,
    };
    let port = |name: &str, port, node_port| ServicePort {
        name: Some(text(name)),
        protocol: Protocol::Tcp,
        port,
        node_port,
    };
    let web = Service {
        address: ServiceAddress::Cluster("10.96.0.10".parse().unwrap()),
        ports: vec![port("http", 80, Some(30080)), port("admin", 81, None)],
        backend: Backend::Endpoints(vec![endpoint]),
        affinity_seconds: Some(10_800),
        publish_not_ready: false,
        external_addresses: vec!["192.0.2.7".parse().unwrap()],
        on_node_addresses: true,
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Local,
    };
    let plain = Service {
        ports: Vec::new(),
        affinity_seconds: None,
        external_addresses: Vec::new(),
        on_node_addresses: false,
        external_traffic: TrafficPolicy::Cluster,
        ..web.clone()
    };
    let outside = ServiceAddress::ExternalName(text("db.example.org"));
    [
        ("default", "web", web),
        ("default", "kubernetes", Service { backend: Backend::Master, ..plain.clone() }),
        ("default", "outside", Service { address: outside, ..plain.clone() }),
        ("shop", "db", Service { address: ServiceAddress::Headless, ..plain }),
    ]
    .map(|(namespace, name, service)| {
        let listed = ListedService { digest: Digest::of(name.as_bytes()), service };
        (ServiceName::new(namespace, name), listed)
    })
    .into()
}

#[test]
fn pulling_the_directory() {
    let whole = Directory {
        digest: Digest::of(b"next"),
        domain: text("cluster.local"),
        service_range: "10.96.0.0/16".parse().unwrap(),
        services: services(),
    };
    let delta = DirectoryDelta {
        base: Digest::of(b"base"),
        next: Digest::of(b"next"),
        changed: services().into_iter().take(1).collect(),
        removed: vec![ServiceName::new("shop", "old")],
    };
    let with = |change| Pulled { directory: Some(change), ..pulled(Orders::Unchanged) };
    golden("pulled-directory", &with(DirectoryChange::Whole(whole)));
    golden("pulled-directory-delta", &with(DirectoryChange::Delta(delta)));
}

#[test]
fn asking_for_a_stream() {
    let (pod, container) = (PodUid::new("uid-1"), text("web"));
    let ends = Ends { stdin: true, stdout: true, stderr: true, tty: false };
    let logs = LogRequest {
        pod: pod.clone(),
        container: container.clone(),
        follow: true,
        previous: false,
        timestamps: false,
        tail_lines: Some(10),
        since: Some(NOW),
        limit_bytes: None,
    };
    golden("stream-logs", &StreamRequest::Logs(logs));
    let command = vec![text("sh"), text("-c"), text("ls")];
    let exec = ExecRequest { pod: pod.clone(), container: container.clone(), command, ends };
    golden("stream-exec", &StreamRequest::Exec(exec));
    let attach = AttachRequest { pod: pod.clone(), container, ends: Ends { tty: true, ..ends } };
    golden("stream-attach", &StreamRequest::Attach(attach));
    golden("stream-connect", &StreamRequest::Connect(ConnectRequest { pod, port: 8080 }));
}

#[test]
fn in_a_stream() {
    golden("stream-resize", &TerminalSize { width: 120, height: 40 });
    golden("stream-exited", &StreamEnd::Exited { code: 3 });
    golden("stream-detached", &StreamEnd::Detached);
    golden("stream-failed", &StreamEnd::Failed { message: text("the container is gone") });
    for number in 0..=u8::MAX {
        assert!(Channel::of_number(number).is_none_or(|channel| channel.number() == number));
    }
    assert_eq!(Channel::of_number(255), Some(Channel::CloseStdin));
    assert_eq!(Channel::of_number(7), None);
}

#[test]
fn reporting() {
    let event = PodEvent {
        uid: PodUid::new("uid-1"),
        at: NOW,
        warning: true,
        reason: text("BackOff"),
        message: text("back-off 10s restarting failed container"),
        field_path: Some(text("spec.containers{web}")),
    };
    golden(
        "report",
        &Report {
            directory: Some(Digest::of(b"directory")),
            version: PROTOCOL_VERSION,
            boot: BootId::new("boot"),
            sequence: 3,
            applied: Some(stamp(2)),
            node: Some(node()),
            pods: vec![pod()],
            events: vec![event],
            volumes_removed: vec![text("kgit-2")],
            complete: true,
        },
    );
    golden("acknowledged", &Acknowledged { sequence: 3 });
    let boot = BootId::new("boot");
    golden("heartbeat", &Heartbeat { version: PROTOCOL_VERSION, boot });
    golden("lease", &Lease { seconds: 40 });
}

#[test]
fn what_the_first_release_may_leave_out_is_filled_in() {
    let pull: Pull =
        serde_json::from_str(r#"{"version":1,"have":null,"wait_seconds":60}"#).unwrap();
    assert_eq!(pull.audit_witness, None);
    let head: AuditHead = serde_json::from_str(r#"{"sequence":12,"digest":"d"}"#).unwrap();
    assert_eq!((head.restored, head.sequence), (Timestamp(0), 12));
    let pulled: Pulled = serde_json::from_str(r#"{"orders":"Unchanged"}"#).unwrap();
    assert_eq!((pulled.audit_head, pulled.now), (None, Timestamp(0)));
    let report = r#"{"version":1,"boot":"b","sequence":1,"applied":null}"#;
    let report: Report = serde_json::from_str(report).unwrap();
    assert!(report.pods.is_empty() && report.node.is_none() && !report.complete);
}
