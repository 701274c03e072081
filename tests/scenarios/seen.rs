//! What follows from what agents see and tell of pods: restarts, health, drifts, events.

use insta::assert_snapshot;
use kgit::domain::audit::Body;
use kgit::master::event::Event;
use kgit_protocol::ids::{BootId, NodeName};
use kgit_protocol::messages::Report;
use kgit_protocol::observation::{
    ContainerObservation, ContainerState, Drift, DriftKind, PodEvent, PodObservation, PodPhase,
};

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{job, web};

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: main, image: 'main:1'}]}
";

impl Cluster {
    /// The agents see something else of the pods whose names begin so.
    pub fn seen(&mut self, prefix: &str, change: impl Fn(&mut PodObservation)) {
        let pods = self.pods();
        for pod in pods.iter().filter(|pod| pod.key.name.starts_with(prefix)) {
            let Some(node) = pod.node() else { continue };
            let Some(mut seen) = self.reported.get(&pod.uid).cloned() else { continue };
            change(&mut seen);
            self.report(node.as_str(), None, vec![seen]);
        }
    }

    /// What the agent on a node tells of the pods whose names begin so.
    pub fn tells(&mut self, node: &str, prefix: &str, told: &[(bool, &str, &str)]) {
        let pods = self.pods();
        let here = pods.iter().filter(|pod| pod.key.name.starts_with(prefix));
        let events = here.flat_map(|pod| {
            told.iter().map(|(warning, reason, message)| PodEvent {
                uid: pod.uid.clone(),
                at: self.now,
                warning: *warning,
                reason: (*reason).to_owned(),
                message: (*message).to_owned(),
                field_path: None,
            })
        });
        let events = events.collect();
        self.report_whole(node, None, Vec::new(), false, events);
    }
}

/// A Job whose containers are started again where they are.
fn restarted_in_place(backoff_limit: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    let text = job("batch", "batch:1", &format!("  backoffLimit: {backoff_limit}\n"))
        .replace("restartPolicy: Never", "restartPolicy: OnFailure");
    cluster.commit(&[("job.yaml", &text)]);
    cluster.settle();
    cluster
}

#[test]
fn restarts_in_place_count_against_the_limit() {
    let restarted = |restarts: u32| {
        move |seen: &mut PodObservation| {
            seen.phase = PodPhase::Running;
            seen.containers = vec![container("main", running(), restarts)];
        }
    };
    for limit in ["0", "2"] {
        let mut cluster = restarted_in_place(limit);
        for restarts in 0..=2 {
            cluster.seen("batch", restarted(restarts));
        }
    }
}

#[test]
fn restarts_of_init_containers_count_as_well() {
    let mut cluster = restarted_in_place("2");
    cluster.seen("batch", |seen| seen.init_containers = vec![container("init", running(), 2)]);
    let world = cluster.world();
    let finished = world.jobs.values().next().unwrap().finished.clone().unwrap();
    assert_eq!(finished.reason, "BackoffLimitExceeded");
}

fn container(name: &str, state: ContainerState, restarts: u32) -> ContainerObservation {
    ContainerObservation {
        name: name.to_owned(),
        attempt: kgit_protocol::ids::Attempt(u64::from(restarts)),
        state,
        last: None,
        restarts,
        ready: false,
        started: false,
        container_id: None,
        image_id: None,
    }
}

fn running() -> ContainerState {
    ContainerState::Running { started_at: kgit_protocol::time::Timestamp(1_767_225_600_000) }
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message: None }
}

#[test]
fn a_pods_health_is_that_of_its_containers() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("p".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("p.yaml", POD)]);
    cluster.settle();
    let ended = |code: i64| {
        ContainerState::Terminated(kgit_protocol::observation::Termination {
            exit_code: code,
            reason: "Error".to_owned(),
            message: None,
            started_at: None,
            finished_at: None,
            container_id: None,
        })
    };
    let reasons = ["ContainerCreating", "ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"];
    let reasons =
        reasons.into_iter().chain(["RunContainerError", "InvalidImageName", "PodInitializing"]);
    let mut states: Vec<ContainerState> = reasons.map(waiting).collect();
    states.extend([ended(0), ended(1), running(), ContainerState::Unknown]);
    for phase in [PodPhase::Pending, PodPhase::Running] {
        for state in &states {
            cluster.seen("p", |seen| {
                seen.phase = phase;
                seen.containers = vec![container("main", state.clone(), 1)];
            });
        }
        cluster.seen("p", |seen| {
            seen.phase = phase;
            let ContainerState::Terminated(end) = ended(1) else { unreachable!() };
            let last = Some(end);
            seen.containers =
                vec![ContainerObservation { last, ..container("main", running(), 1) }];
        });
    }
    cluster.seen("p", |seen| seen.ready = true);
    cluster.seen("p", |seen| seen.phase = PodPhase::Unknown);
    cluster.seen("p", |seen| seen.phase = PodPhase::Failed);
    cluster.seen("p", |seen| seen.phase = PodPhase::Running);
}

#[test]
fn what_agents_put_right_and_tell_is_on_record_once() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let drift = |number: u64, container: &str| Drift {
        number,
        at: kgit_protocol::time::Timestamp(1_767_225_600_000),
        container: container.to_owned(),
        kind: DriftKind::Removed,
        seen: format!("drift {number}"),
    };
    cluster.seen("web", |seen| seen.drifts = vec![drift(1, "web")]);
    cluster.seen("web", |seen| seen.drifts = vec![drift(1, "web"), drift(2, ""), drift(3, "web")]);
    cluster.seen("web", |seen| {
        seen.drifts = vec![drift(2, ""), drift(3, "web")];
        seen.ready = false;
        seen.ready_since = None;
    });
    let (pulled, killed) = ((false, "Pulled", "image"), (true, "Unhealthy", "probe failed"));
    cluster.tells("a", "web", &[pulled, killed]);
    cluster.tells("a", "web", &[killed]);
    cluster.commit(&[("two.yaml", &web("web:1", 1).replace("web", "other"))]);
    cluster.settle();
    cluster.tells("a", "", &[pulled, killed, pulled]);
}

/// What set the last reconcile off.
fn trigger(cluster: &Cluster) -> String {
    let triggers = cluster.entries().into_iter().filter_map(|entry| match entry.body {
        Body::Triggered { by, .. } => Some(format!("{by:?}")),
        _ => None,
    });
    triggers.last().unwrap_or_default()
}

#[test]
fn what_happens_after_a_drift_is_not_told_as_that_drift_again() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let drift = Drift {
        number: 1,
        at: kgit_protocol::time::Timestamp(1_767_225_600_000),
        container: "web".to_owned(),
        kind: DriftKind::Removed,
        seen: "removed by hand".to_owned(),
    };
    cluster.seen("web", |seen| seen.drifts = vec![drift.clone()]);
    assert_snapshot!(trigger(&cluster), @r#"Drift { what: "Pod/default/web-dz6clcrlxq-mr2cq Removed: removed by hand" }"#);
    cluster.seen("web", |seen| {
        seen.drifts = vec![drift.clone()];
        seen.phase = PodPhase::Failed;
        seen.ready = false;
    });
    assert_snapshot!(trigger(&cluster), @r#"Observation { what: "Pod/default/web-dz6clcrlxq-mr2cq not ready" }"#);
    cluster.ends_quietly();
}

#[test]
fn an_agent_that_starts_anew_is_heard_though_it_counts_its_reports_from_one() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let pod = cluster.pods()[0].clone();
    let seen = PodObservation { ready: false, ..(**pod.observed.as_ref().unwrap()).clone() };
    let (reply, _answer) = tokio::sync::oneshot::channel();
    let report = Report {
        directory: None,
        version: 1,
        boot: BootId::new("another boot"),
        sequence: 1,
        applied: None,
        node: None,
        pods: vec![seen],
        events: Vec::new(),
        volumes_removed: Vec::new(),
        complete: true,
    };
    cluster.restart_master();
    cluster.turn(vec![Event::Report { node: NodeName::new("a"), report: Box::new(report), reply }]);
    assert!(!cluster.pods()[0].is_ready());
}

#[test]
fn a_pod_that_its_node_refuses_is_shown_and_not_tried_again_until_its_manifest_changes() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let mut cluster = Cluster::new(&["a"]);
        cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
        let text = |image: &str| {
            let web = web(image, 1).replace("kind: Deployment", &format!("kind: {kind}"));
            match kind {
                "StatefulSet" => web.replace("  selector", "  serviceName: web\n  selector"),
                "DaemonSet" => web.replace("  replicas: 1\n", ""),
                _ => web,
            }
        };
        cluster.commit(&[("web.yaml", &text("web:1"))]);
        cluster.settle();
        let before = cluster.pods()[0].uid.clone();
        for _ in 0..3 {
            cluster.seen("web", |seen| {
                seen.phase = PodPhase::Failed;
                seen.reason = Some("NodePolicy".to_owned());
            });
            cluster.settle();
        }
        let uids: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
        assert_eq!(uids, [before], "{kind}");
        let name = &cluster.pods()[0].key.name;
        let wait = format!("{kind}/default/web waits for node `a` to allow pod `{name}`");
        let waits = cluster.waits();
        assert!(kind == "Deployment" || waits.contains(&wait), "{kind}: {waits:?}");
        cluster.behaviour.clear();
        cluster.commit(&[("web.yaml", &text("web:2"))]);
        cluster.settle();
        let images: Vec<_> =
            cluster.pods().iter().map(|pod| pod.template.containers[0].image.clone()).collect();
        assert_eq!(images, ["web:2"], "{kind}: {:?}", cluster.waits());
        cluster.ends_quietly();
    }
}

#[test]
fn a_node_speaks_of_its_own_pods_alone() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let pod = cluster.pods()[0].clone();
    let other = if pod.node().unwrap().as_str() == "a" { "b" } else { "a" };
    let ended = PodObservation::bare(pod.uid.clone(), PodPhase::Failed);
    cluster.report(other, None, vec![ended]);
    assert!(cluster.pods()[0].is_ready());
    cluster.ends_quietly();
}
