//! Histories that nobody thought of. What they are checked for stands in [`Cluster::turn`]: what a
//! turn finds to do, by looking at what changed, is what looking at everything finds.

use std::time::Duration;

use proptest::prelude::*;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{
    claim, config, daemon, job, pod_with_claim, stateful, volume, web, web_with,
};

/// Each history is some hundred turns, each with a transaction on disk: a few seconds in all.
const CASES: u32 = 24;
const MOST_EVENTS: usize = 24;

#[derive(Clone, Debug)]
enum Event {
    /// A file, by its place in [`FILES`], becomes one of its forms.
    Commit(Vec<(usize, usize)>),
    AgentsAct,
    Pass(u64),
    Behave(&'static str, Option<Behaviour>),
    Lose(&'static str),
    Find(&'static str),
    Join(&'static str),
    Leave(&'static str),
    PruneRetained,
    Approve,
}

/// The files, and how many forms each has; form 0 is its absence.
const FILES: [(&str, usize); 13] = [
    ("web.yaml", 8),
    ("job.yaml", 6),
    ("bare.yaml", 4),
    ("set.yaml", 3),
    ("settings.yaml", 3),
    ("claim.yaml", 3),
    ("volume.yaml", 3),
    ("service.yaml", 6),
    ("rival.yaml", 3),
    ("db.yaml", 10),
    ("log.yaml", 8),
    ("db-0.yaml", 2),
    ("data-db-1.yaml", 2),
];

/// The places of the files of most kinds, and of those that the sets with nodes, names and claims
/// of their own are about.
const MOST: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8];
const SETS: &[usize] = &[4, 9, 10, 11, 12];

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  \
                   containers: [{name: main, image: main:1}]\n";

fn set(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: set}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: set}}}}\n  template:\n    \
         metadata: {{labels: {{app: set}}}}\n    spec: {{containers: [{{name: m, image: m:1}}]}}\n"
    )
}

fn service(name: &str, address: &str, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  {address}\n  \
         selector: {{app: {app}}}\n  ports: [{{port: 80, targetPort: 8080}}]\n"
    )
}

fn annotated(line: &str) -> String {
    let annotation = format!("name: web\n  annotations: {{{line}}}\nspec");
    web("web:1", 1).replace("name: web\nspec", &annotation)
}

fn db(form: usize) -> String {
    let rolling = |more: &str| format!("  updateStrategy: {{{more}}}\n");
    let parallel = "  podManagementPolicy: Parallel\n";
    match form {
        1 => stateful("db:1", 2, ""),
        2 => stateful("db:2", 3, ""),
        3 => stateful("db:1", 3, parallel),
        4 => {
            let two = rolling("rollingUpdate: {partition: 1, maxUnavailable: 2}");
            stateful("db:2", 3, &(two + parallel))
        }
        5 => stateful("db:3", 2, "  minReadySeconds: 30\n  revisionHistoryLimit: 1\n"),
        6 => stateful("db:1", 1, "  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}\n"),
        7 => stateful("db:2", 2, &rolling("type: OnDelete")),
        8 => stateful("db:3", 2, "  ordinals: {start: 1}\n"),
        _ => {
            let needs = "        envFrom: [{configMapRef: {name: settings}}]\n        volumeMounts";
            stateful("db:1", 2, "").replace("        volumeMounts", needs)
        }
    }
}

fn log(form: usize) -> String {
    let rolling = |more: &str| format!("  updateStrategy: {{{more}}}\n");
    match form {
        1 => daemon("log:1", "", ""),
        2 => daemon("log:2", "", ""),
        3 => daemon("log:1", &rolling("rollingUpdate: {maxSurge: 1, maxUnavailable: 0}"), ""),
        4 => daemon("log:2", "", "      nodeSelector: {kubernetes.io/hostname: b}\n"),
        5 => daemon("log:3", &rolling("rollingUpdate: {maxUnavailable: 60%}"), ""),
        6 => daemon("log:2", "  minReadySeconds: 30\n", ""),
        _ => daemon("log:1", &rolling("type: OnDelete"), ""),
    }
}

fn text(file: usize, form: usize) -> String {
    let needs = "        envFrom: [{configMapRef: {name: settings}}]\n";
    let may_have = "        envFrom: [{configMapRef: {name: settings, optional: true}}]\n";
    match (FILES[file].0, form) {
        (_, 0) => String::new(),
        ("web.yaml", 1) => web("web:1", 2),
        ("web.yaml", 2) => web("web:2", 3),
        ("web.yaml", 3) => web_with("web:1", 1, needs),
        ("web.yaml", 4) => web_with("web:1", 2, may_have),
        ("web.yaml", 5) => annotated("kgit.dev/prune: \"false\""),
        ("web.yaml", 6) => annotated("kgit.dev/depends-on: Pod/bare"),
        ("web.yaml", _) => annotated("kgit.dev/depends-on: \"ReplicaSet/set,Job/job\""),
        ("job.yaml", 1) => job("job", "job:1", ""),
        ("job.yaml", 2) => job("job", "job:2", "  parallelism: 2\n"),
        ("job.yaml", 3) => job("job", "job:1", "  suspend: true\n"),
        ("job.yaml", 4) => job("job", "job:1", "  completions: 3\n  parallelism: 2\n"),
        ("job.yaml", _) => job("job", "job:2", "") + needs,
        ("bare.yaml", 1) => POD.to_owned(),
        ("bare.yaml", 2) => POD.replace("main:1", "main:2"),
        ("bare.yaml", _) => pod_with_claim("bare", "data"),
        ("set.yaml", form) => set(u32::try_from(form).unwrap()),
        ("settings.yaml", 1) => config("a"),
        ("settings.yaml", _) => config("b"),
        ("claim.yaml", 1) => claim("data", ""),
        ("claim.yaml", _) => claim("data", "  storageClassName: manual\n"),
        ("volume.yaml", 1) => volume("small", "manual", "1Gi"),
        ("volume.yaml", _) => volume("large", "manual", "5Gi"),
        ("service.yaml", 1) => service("web", "type: ClusterIP", "web"),
        ("service.yaml", 2) => service("web", "type: NodePort", "set"),
        ("service.yaml", 3) => service("web", "type: LoadBalancer", "job"),
        ("service.yaml", 4) => service("web", "clusterIP: None", "web"),
        ("service.yaml", _) => service("web", "clusterIP: 10.16.0.9", "nobody"),
        ("db.yaml", form) => db(form),
        ("log.yaml", form) => log(form),
        ("db-0.yaml", _) => POD.replace("name: bare", "name: db-0"),
        ("data-db-1.yaml", _) => claim("data-db-1", ""),
        (_, 1) => service("rival", "clusterIP: 10.16.0.9", "set"),
        (_, _) => service("rival", "type: NodePort", "web"),
    }
}

/// Only pods that are replaced after a delay fail: those of a set are replaced at once, for ever.
fn behave((prefix, behaviour): (&'static str, Option<Behaviour>)) -> Event {
    match behaviour {
        Some(Behaviour::Fails) if prefix.starts_with("db") => Event::Behave("log", behaviour),
        Some(Behaviour::Fails) if prefix != "log" => Event::Behave("job", behaviour),
        _ => Event::Behave(prefix, behaviour),
    }
}

fn event(
    files: &'static [usize],
    prefixes: &'static [&'static str],
) -> impl Strategy<Value = Event> {
    let file = prop::sample::select(files);
    let change = file.prop_flat_map(|file| (Just(file), 0..FILES[file].1));
    let prefix = prop::sample::select(prefixes);
    let behaviour = prop::sample::select(vec![
        None,
        Some(Behaviour::NeverReady),
        Some(Behaviour::NeverEnds),
        Some(Behaviour::Fails),
        Some(Behaviour::FailsWhenStopped),
    ]);
    let node = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        6 => prop::collection::vec(change, 1..4).prop_map(Event::Commit),
        6 => Just(Event::AgentsAct),
        2 => prop::sample::select(vec![5, 60, 700]).prop_map(Event::Pass),
        2 => (prefix, behaviour).prop_map(behave),
        1 => node().prop_map(Event::Lose),
        1 => node().prop_map(Event::Find),
        1 => Just(Event::Join("c")),
        1 => Just(Event::Leave("c")),
        1 => Just(Event::PruneRetained),
        1 => Just(Event::Approve),
    ]
}

fn happen(cluster: &mut Cluster, event: Event) {
    match event {
        Event::Commit(changes) => {
            let texts = changes.iter().map(|(file, form)| (FILES[*file].0, text(*file, *form)));
            let texts: Vec<(&str, String)> = texts.collect();
            let files: Vec<_> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
            cluster.commit(&files);
        }
        Event::AgentsAct => drop(cluster.agents_act()),
        Event::Pass(seconds) => cluster.pass(Duration::from_secs(seconds)),
        Event::Behave(prefix, Some(it)) => drop(cluster.behaviour.insert(prefix.to_owned(), it)),
        Event::Behave(prefix, None) => drop(cluster.behaviour.remove(prefix)),
        Event::Lose(node) => drop(cluster.lost.insert(node.to_owned())),
        Event::Find(node) => {
            cluster.lost.remove(node);
            cluster.report(node, None, Vec::new());
        }
        Event::Join(node) => cluster.join(node, 2),
        Event::Leave(node) => cluster.leave(node),
        Event::PruneRetained => {
            let world = cluster.world();
            let retained = world.objects.iter().filter(|(_, row)| row.retained.is_some());
            let retained: Vec<String> = retained.map(|(key, _)| key.to_string()).collect();
            cluster.prune(&retained.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Event::Approve => {
            if let Some(plan) = cluster.held() {
                drop(cluster.approve(&plan));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn looking_at_what_changed_is_as_good_as_looking_at_everything(
        events in prop::collection::vec(event(MOST, &["web", "job", "bare", "set"]), 1..MOST_EVENTS)
    ) {
        live_through(events);
    }

    #[test]
    fn sets_keep_their_promises_whatever_happens(
        events in prop::collection::vec(event(SETS, &["db", "db-0", "log"]), 1..MOST_EVENTS)
    ) {
        live_through(events);
    }
}

fn live_through(events: Vec<Event>) {
    let mut cluster = Cluster::new(&["a", "b"]);
    let other = config("a").replace("settings", "other");
    cluster.commit(&[("other.yaml", &other)]);
    for event in events {
        happen(&mut cluster, event);
    }
    cluster.behaviour.clear();
    cluster.lost.clear();
    cluster.report("a", None, Vec::new());
    cluster.report("b", None, Vec::new());
    cluster.settle();
}
