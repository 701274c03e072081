//! Long histories of a large cluster: objects of all kinds by the thousand, hundreds of events
//! about manifests, nodes, configs and figures; and now and then, and at the end, that what turns
//! found by looking at what changed is what looking at everything finds.
//!
//! `KGIT_HISTORIES=N` lives through N of them, best with `--profile simulation`; without it, one of
//! a smaller cluster is lived through.

#![allow(clippy::disallowed_methods, reason = "tests read their settings")]

use std::time::Duration;

use kgit::domain::node_order::{NodeOrder, TaintOrder};
use proptest::prelude::*;

use crate::agents::Behaviour;
use crate::cluster::Cluster;

/// Files, with some 26 objects each.
const FILES: usize = 40;
const OBJECTS: usize = 1_000;
const EVENTS: usize = 200;
/// The same for every test run: what fits into a few seconds.
const FEW_FILES: usize = 4;
const FEW_EVENTS: usize = 25;
const NODES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Looking at everything costs hundreds of times what a turn does.
const CHECKED_EVERY: u32 = 40;

#[derive(Clone, Debug)]
enum Event {
    /// A file takes one of its forms; form 0 is its absence.
    Commit(usize, usize),
    Config(usize, usize),
    AgentsAct,
    Pass(u64),
    Behave(usize, Option<Behaviour>),
    Uses(usize, u64),
    Lose(usize),
    Find(usize),
    Join,
    Leave,
    Order(usize, NodeOrder),
    Approve,
    PruneRetained,
}

/// One file: kinds of every sort, those of one file tied to one another.
fn text(file: usize, form: usize) -> String {
    if form == 0 {
        return String::new();
    }
    let name = format!("f{file}");
    let mut all = Vec::new();
    for number in 0..6 {
        all.push(config(&format!("{name}-c{number}"), form));
        all.push(deployment(&format!("{name}-web{number}"), &format!("{name}-c{number}"), form));
    }
    for number in 0..4 {
        all.push(service(&format!("{name}-web{number}")));
    }
    all.push(stateful_set(&name, file, form));
    all.extend(["ReplicaSet", "ReplicationController"].map(|kind| set(kind, &name, form)));
    all.extend(batch(&name, form));
    all.extend(around(&name, form));
    if file.is_multiple_of(10) {
        all.push(format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: {name}-log}}\nspec:\n  \
             selector: {{matchLabels: {{app: {name}-log}}}}\n  template:\n    metadata: {{labels: \
             {{app: {name}-log}}}}\n    spec: {{containers: [{{name: m, image: \"log:{form}\"}}]}}\n"
        ));
    }
    all.join("---\n")
}

fn config(name: &str, form: usize) -> String {
    let value = form / 3;
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: \"{value}\"}}\n"
    )
}

fn deployment(name: &str, config: &str, form: usize) -> String {
    let (replicas, image) = (1 + form % 2, form / 2);
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers:\n      - {{name: m, \
         image: \"web:{image}\", resources: {{requests: {{cpu: 5m}}}}, envFrom: [{{configMapRef: \
         {{name: {config}}}}}, {{configMapRef: {{name: shared, optional: true}}}}]}}\n"
    )
}

fn service(app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {app}}}\nspec: {{selector: {{app: \
         {app}}}, ports: [{{port: 80}}]}}\n"
    )
}

fn stateful_set(name: &str, file: usize, form: usize) -> String {
    let policy = if file.is_multiple_of(2) { "Parallel" } else { "OrderedReady" };
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}-db}}\nspec:\n  \
         replicas: 2\n  serviceName: db\n  podManagementPolicy: {policy}\n  selector: \
         {{matchLabels: {{app: {name}-db}}}}\n  template:\n    metadata: {{labels: {{app: \
         {name}-db}}}}\n    spec: {{containers: [{{name: m, image: \"db:{form}\", volumeMounts: \
         [{{name: data, mountPath: /d}}]}}]}}\n  volumeClaimTemplates: [{{metadata: {{name: data}}, \
         spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}]\n"
    )
}

fn set(kind: &str, name: &str, form: usize) -> String {
    let short = if kind == "ReplicaSet" { "rs" } else { "rc" };
    let (version, selector) = match short {
        "rs" => ("apps/v1", format!("{{matchLabels: {{app: {name}-{short}}}}}")),
        _ => ("v1", format!("{{app: {name}-{short}}}")),
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}-{short}}}\nspec:\n  \
         replicas: {form}\n  selector: {selector}\n  template:\n    metadata: {{labels: {{app: \
         {name}-{short}}}}}\n    spec: {{containers: [{{name: m, image: \"web:1\"}}]}}\n"
    )
}

fn batch(name: &str, form: usize) -> [String; 2] {
    let job = format!(
        "backoffLimit: 2, completions: {form}, template: {{spec: {{restartPolicy: Never, \
         containers: [{{name: m, image: \"job:1\"}}]}}}}"
    );
    [
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}-job}}\nspec: {{{job}}}\n"
        ),
        format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: {name}-cron}}\nspec: \
             {{schedule: \"*/{form}0 * * * *\", jobTemplate: {{spec: {{{job}}}}}}}\n"
        ),
    ]
}

/// What stands around workloads, and a Pod with a claim.
fn around(name: &str, form: usize) -> [String; 5] {
    [
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}-web0}}\n\
             spec: {{maxUnavailable: {form}, selector: {{matchLabels: {{app: {name}-web0}}}}}}\n"
        ),
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: \
             {name}-web1}}\nspec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: \
             {name}-web1}}\n  maxReplicas: {}\n  metrics: [{{type: Resource, resource: {{name: cpu, \
             target: {{type: Utilization, averageUtilization: 50}}}}}}]\n",
            form + 1
        ),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{a: b}}\n"),
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: \
             {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n"
        ),
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: m, \
             image: \"main:1\", volumeMounts: [{{name: d, mountPath: /d}}]}}], volumes: [{{name: d, \
             persistentVolumeClaim: {{claimName: {name}}}}}]}}\n"
        ),
    ]
}

fn order() -> impl Strategy<Value = NodeOrder> {
    let taint = |remove| NodeOrder::Taint {
        taints: vec![TaintOrder {
            key: "maintenance".to_owned(),
            value: String::new(),
            effect: Some("NoExecute".to_owned()),
            remove,
        }],
    };
    let drain = NodeOrder::Drain { grace_seconds: None, delete_empty_dirs: true, force: true };
    let open = NodeOrder::Uncordon;
    prop::sample::select(vec![
        NodeOrder::Cordon,
        drain,
        open.clone(),
        open,
        taint(false),
        taint(true),
        taint(true),
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 0..NODES.len();
    // Those that fail do so again and again, and a Pod's failures are not delayed.
    let behaviour = prop::sample::select(vec![None, None, Some(Behaviour::NeverReady)]);
    prop_oneof![
        5 => (0..FILES, 0usize..6).prop_map(|(file, form)| Event::Commit(file, form)),
        2 => (0..4usize, 0usize..3).prop_map(|(file, form)| Event::Config(file, form)),
        6 => Just(Event::AgentsAct),
        2 => prop::sample::select(vec![5, 60, 400]).prop_map(Event::Pass),
        2 => (0..FILES, behaviour).prop_map(|(file, it)| Event::Behave(file, it)),
        2 => (0..FILES, 0u64..40).prop_map(|(file, cpu)| Event::Uses(file, cpu)),
        1 => node().prop_map(Event::Lose),
        2 => node().prop_map(Event::Find),
        1 => Just(Event::Join),
        1 => Just(Event::Leave),
        2 => (node(), order()).prop_map(|(node, order)| Event::Order(node, order)),
        1 => Just(Event::Approve),
        1 => Just(Event::PruneRetained),
    ]
}

fn happen(cluster: &mut Cluster, event: Event, files: usize) {
    match event {
        Event::Commit(file, form) => {
            let file = file % files;
            cluster.commit(&[(&format!("f{file}.yaml"), &text(file, form))]);
        }
        Event::Config(0, form) => {
            let shared = if form == 0 { String::new() } else { config("shared", form * 3) };
            cluster.commit(&[("shared.yaml", &shared)]);
        }
        Event::Config(file, form) => {
            let changed =
                text(file, 1).replace("data: {a: \"0\"}", &format!("data: {{a: x{form}}}"));
            cluster.commit(&[(&format!("f{file}.yaml"), &changed)]);
        }
        Event::AgentsAct => drop(cluster.agents_act()),
        Event::Pass(seconds) => cluster.pass(Duration::from_secs(seconds)),
        Event::Behave(file, it) => {
            let prefix = format!("f{}-web", file % files);
            match it {
                Some(it) => drop(cluster.behaviour.insert(prefix, it)),
                None => drop(cluster.behaviour.remove(&prefix)),
            }
        }
        Event::Uses(file, cpu) => cluster.uses(&format!("f{}-web1", file % files), cpu),
        Event::Lose(node) => drop(cluster.lost.insert(NODES[node].to_owned())),
        Event::Find(node) => {
            cluster.lost.remove(NODES[node]);
            cluster.report(NODES[node], None, Vec::new());
        }
        Event::Join => cluster.join("z", 200),
        Event::Leave => cluster.leave("z"),
        // What is refused is no event.
        Event::Order(node, order) => drop(cluster.order(NODES[node], order)),
        Event::Approve => {
            if let Some(plan) = cluster.held() {
                drop(cluster.approve(&plan));
            }
        }
        Event::PruneRetained => {
            let world = cluster.world();
            let retained = world.objects.iter().filter(|(_, row)| row.retained.is_some());
            let retained: Vec<String> = retained.map(|(key, _)| key.to_string()).collect();
            cluster.prune(&retained.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}

fn asked() -> Option<u32> {
    std::env::var("KGIT_HISTORIES").ok()?.parse().ok()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let count = if asked().is_some() { EVENTS } else { FEW_EVENTS };
    prop::collection::vec(event(), count..count + count / 5)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: asked().unwrap_or(1),
        failure_persistence: None,
        max_shrink_iters: 20,
        ..ProptestConfig::default()
    })]

    #[test]
    fn in_a_large_cluster_looking_at_what_changed_is_as_good(events in events()) {
        let files = if asked().is_some() { FILES } else { FEW_FILES };
        let mut cluster = Cluster::new(&NODES);
        cluster.checked_every = CHECKED_EVERY;
        let texts: Vec<(String, String)> =
            (0..files).map(|file| (format!("f{file}.yaml"), text(file, 1))).collect();
        let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (&**path, &**text)).collect();
        cluster.commit(&texts);
        cluster.settle();
        prop_assert!(files < FILES || cluster.objects() >= OBJECTS, "{}", cluster.objects());
        for event in events {
            happen(&mut cluster, event, files);
        }
        cluster.checked_every = 1;
        cluster.pass(Duration::from_secs(1));
    }
}
