//! Events: what was told about objects. One row holds the events of one object.
//!
//! What an object is kept waiting by is told as well, for as long as it is: a service without
//! pods, a claim without a volume, a pod without a node, a container in back-off; and how nodes
//! came and are. That is derived, not recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::ids::Digest;
use kgit_protocol::observation::{ContainerObservation, ContainerState};
use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{WaitKind, Waiting};
use crate::domain::record::{ClaimPhase, Event, Pod};
use crate::domain::world::World;
use crate::kube::human;
use crate::kube::json::{number, object, put, text};
use crate::kube::metadata::uid_of;
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::table::Column;

pub const COLUMNS: &[Column] = &[
    Column::text("Last Seen"),
    Column::text("Type"),
    Column::text("Reason"),
    Column::text("Object"),
    Column::wide("Subobject"),
    Column::wide("Source"),
    Column::text("Message"),
    Column::wide("First Seen"),
    Column::wide("Count"),
    Column::wide_name(),
];

/// What happens in one moment of a pod's start, in the order in which it does.
const IN_ORDER: [&str; 6] =
    ["SuccessfulCreate", "Scheduled", "Pulled", "PulledLocally", "Created", "Started"];

/// How long Kubernetes keeps events.
const KEPT: std::time::Duration = std::time::Duration::from_secs(3600);

/// The objects of a namespace that something was told about. What is told about an object
/// without a namespace is listed in `default`, as Kubernetes does.
pub fn keys(seen: &Seen<'_>, namespace: Option<&str>) -> Vec<ObjectKey> {
    let inside = |key: &&ObjectKey| namespace.is_none_or(|wanted| namespace_of(key) == wanted);
    let waiting = seen.waits.values().flatten().filter_map(|wait| Some(trouble(wait)?.0));
    let nodes = seen.world.nodes.keys();
    let claims = seen.world.objects_of(Kind::PersistentVolumeClaim);
    let claims = claims.map(|claim| &claim.resource.key).filter(|key| lacks_consumer(seen, key));
    let told = seen.world.events.keys();
    let all: BTreeSet<&ObjectKey> = told.chain(waiting).chain(nodes).chain(claims).collect();
    all.into_iter().filter(inside).cloned().collect()
}

fn namespace_of(key: &ObjectKey) -> &str {
    if key.namespace.is_empty() { "default" } else { &key.namespace }
}

/// All that was told about one object.
pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Vec<Shown> {
    let uid = subject_uid(seen.world, key);
    let show = |version, event: &Event| show_one(key, uid.as_deref(), version, event);
    let log = seen.world.events.get(key);
    let told = log.into_iter().flat_map(|log| log.events.iter().map(|it| show(log.version, it)));
    let derived =
        [troubles(seen, key), of_node(seen, key), of_claim(seen, key), back_offs(seen, key)]
            .concat();
    told.chain(derived.iter().map(|(version, event)| show(*version, event))).collect()
}

/// When the node joined, and since when it is as it is: as long as that is news.
fn of_node(seen: &Seen<'_>, key: &ObjectKey) -> Vec<(u64, Event)> {
    let Some(node) = seen.world.nodes.get(key) else { return Vec::new() };
    let name = &node.name;
    let joined = format!("Node {name} event: Registered Node {name} in Controller");
    let mut all = vec![("RegisteredNode", joined, "node-controller", node.joined)];
    if let Some(ready) = node.is_ready() {
        let reason = if ready { "NodeReady" } else { "NodeNotReady" };
        let message = format!("Node {name} status is now: {reason}");
        all.push((reason, message, "node-controller", node.ready_since()));
    }
    all.retain(|(.., at)| seen.now.since(*at) <= KEPT);
    let event = |(reason, message, component, at): (&str, String, &str, Timestamp)| Event {
        warning: reason == "NodeNotReady",
        ..derived((reason, component, message), at, at)
    };
    all.into_iter().map(|told| (node.version, event(told))).collect()
}

/// A pending claim that nobody is asked to do anything about waits for a pod that uses it.
fn lacks_consumer(seen: &Seen<'_>, key: &ObjectKey) -> bool {
    let claim = seen.world.claims.get(key);
    claim.is_none_or(|claim| claim.phase == ClaimPhase::Pending)
        && !seen.waits.contains_key(key)
        && seen.world.pods_with_claim(key).next().is_none()
}

fn of_claim(seen: &Seen<'_>, key: &ObjectKey) -> Vec<(u64, Event)> {
    if key.kind != Kind::PersistentVolumeClaim || !lacks_consumer(seen, key) {
        return Vec::new();
    }
    let Some(applied) = seen.world.objects.get(key) else { return Vec::new() };
    let message = "waiting for first consumer to be created before binding".to_owned();
    let told = ("WaitForFirstConsumer", "persistentvolume-controller", message);
    let event = Event { warning: false, ..derived(told, applied.created, seen.now) };
    vec![(applied.version, event)]
}

/// The containers of a pod that are not tried again just now.
fn back_offs(seen: &Seen<'_>, key: &ObjectKey) -> Vec<(u64, Event)> {
    let Some(pod) = seen.world.pods.get(key) else { return Vec::new() };
    let containers = pod.observed.iter().flat_map(|observed| observed.all_containers());
    containers
        .filter_map(|container| back_off(pod, container, seen.now))
        .map(|event| (pod.version, event))
        .collect()
}

fn back_off(pod: &Pod, container: &ContainerObservation, now: Timestamp) -> Option<Event> {
    let ContainerState::Waiting { reason, .. } = &container.state else { return None };
    let name = &container.name;
    let message = match reason.as_str() {
        "CrashLoopBackOff" => {
            format!("Back-off restarting failed container {name} in pod {}", pod.key.name)
        }
        "ImagePullBackOff" => {
            let mut all = pod.template.all_containers();
            let image = all.find(|it| it.name == *name).map_or("", |it| it.image.as_str());
            format!("Back-off pulling image {image:?}")
        }
        _ => return None,
    };
    let since = container.last.as_ref().and_then(|end| end.finished_at).unwrap_or(pod.created);
    let field_path = Some(format!("spec.containers{{{name}}}"));
    Some(Event { field_path, ..derived(("BackOff", "kgit-agent", message), since, now) })
}

/// A warning by reason, component and message.
fn derived(
    (reason, component, message): (&str, &str, String),
    first: Timestamp,
    last: Timestamp,
) -> Event {
    Event {
        warning: true,
        reason: reason.to_owned(),
        message,
        field_path: None,
        component: component.to_owned(),
        first,
        last,
        count: 1,
    }
}

/// What the object is kept waiting by, with the version of its row.
fn troubles(seen: &Seen<'_>, key: &ObjectKey) -> Vec<(u64, Event)> {
    let world = seen.world;
    let (version, since, waiting) = match key.kind {
        Kind::Pod => match world.pods.get(key) {
            Some(pod) => (pod.version, pod.created, world.workload_of(pod)),
            None => return Vec::new(),
        },
        _ => match world.objects.get(key) {
            Some(applied) => (applied.version, applied.created, key.clone()),
            None => return Vec::new(),
        },
    };
    let waits = seen.waits.get(&waiting).into_iter().flatten();
    let told = waits.filter_map(trouble).filter(|(about, ..)| *about == key);
    let event = |(_, reason, component, message): Trouble<'_>| {
        derived((reason, component, message), since, seen.now)
    };
    told.map(|told| (version, event(told))).collect()
}

/// The object that is in trouble, the reason and the component as people know them, a message.
type Trouble<'a> = (&'a ObjectKey, &'static str, &'static str, String);

fn trouble(wait: &Waiting) -> Option<Trouble<'_>> {
    if let Some(unplaced) = &wait.unplaced {
        let because = unplaced.because.clone();
        return Some((&unplaced.pod, "FailedScheduling", "default-scheduler", because));
    }
    if wait.kind != WaitKind::Blocked {
        return None;
    }
    let (reason, component) = match wait.object.kind {
        Kind::Service => ("NotServing", "endpoints-controller"),
        Kind::PersistentVolumeClaim => ("FailedBinding", "persistentvolume-controller"),
        _ => return None,
    };
    let message = format!("waits for {}; until then {}", wait.for_what, wait.consequence);
    Some((&wait.object, reason, component, message))
}

fn subject_uid(world: &World, key: &ObjectKey) -> Option<String> {
    match key.kind {
        Kind::Pod => world.pods.get(key).map(|pod| pod.uid.to_string()),
        // kubectl asks for a node's events by its name.
        Kind::Node => Some(key.name.to_string()),
        _ => uid_of(world, key).map(str::to_owned),
    }
}

fn show_one(key: &ObjectKey, uid: Option<&str>, version: u64, event: &Event) -> Shown {
    let field_path = event.field_path.as_deref().unwrap_or_default();
    let identity = Digest::of(
        format!("{key}\n{}\n{}\n{}\n{field_path}", event.warning, event.reason, event.message)
            .as_bytes(),
    );
    // Names sort by time, as upstream's do: clients show events of one second in the list's order.
    let rank = IN_ORDER.iter().position(|reason| *reason == event.reason).unwrap_or(0xf);
    let digest = &identity.as_str()[..7];
    let name = format!("{}.{:012x}{rank:x}{digest}", key.name, event.first.0);
    let namespace = namespace_of(key);
    let mut involved = json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.as_str(),
        "name": key.name,
    });
    let fields = object(&mut involved);
    put(fields, "namespace", Some(&*key.namespace).filter(|namespace| !namespace.is_empty()));
    put(fields, "uid", uid);
    put(fields, "fieldPath", event.field_path.clone());
    let shown = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid_of_event(&identity),
            "resourceVersion": version.max(1).to_string(),
            "creationTimestamp": event.first.to_string(),
        },
        "involvedObject": involved,
        "reason": event.reason,
        "message": event.message,
        "type": if event.warning { "Warning" } else { "Normal" },
        "count": event.count,
        "firstTimestamp": event.first.to_string(),
        "lastTimestamp": event.last.to_string(),
        "source": {"component": event.component},
        "reportingComponent": event.component,
        "reportingInstance": "",
    });
    let key = ShownKey { namespace: Arc::from(namespace), name: Arc::from(name) };
    Shown { key, version, object: shown }
}

/// Shaped like other uids.
fn uid_of_event(identity: &Digest) -> String {
    let text = identity.as_str();
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..32]].join("-")
}

pub fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let last = human::age(text(event, "/lastTimestamp"), now);
    let first = human::age(text(event, "/firstTimestamp"), now);
    let count = number(event, "/count");
    let last_seen = match count {
        0 | 1 => last,
        count => format!("{last} (x{count} over {first})"),
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    vec![
        json!(last_seen),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(format!("{kind}/{}", text(event, "/involvedObject/name"))),
        json!(text(event, "/involvedObject/fieldPath")),
        json!(text(event, "/source/component")),
        json!(text(event, "/message").trim()),
        json!(first),
        json!(count),
        json!(text(event, "/metadata/name")),
    ]
}
