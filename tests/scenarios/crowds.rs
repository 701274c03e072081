//! Workloads that do not get along: of different worth, near to one another or not, spread, with
//! budgets, and with more to do than the nodes have room for. No two of these cases were thought
//! of; what a turn finds to do, by looking at what changed, is what looking at everything finds
//! ([`Cluster::turn`]), and every forecast comes to an end.
//!
//! `KGIT_CROWDS=N` tries N of them. One that fails is printed in full, as small as it gets.

#![allow(clippy::disallowed_methods, reason = "tests read their settings")]

use kgit::domain::node_order::NodeOrder;
use kgit_protocol::observation::{Capacity, NodeObservation};
use proptest::prelude::*;

use crate::cluster::Cluster;

const CASES: u32 = 12;
/// Rounds of the agents after each commit. Some crowds never come to rest: each pod that comes
/// drives another one out.
const ROUNDS: usize = 8;
/// Each node's, and its zone.
const CPU_MILLIS: u64 = 2_000;
const NODES: [(&str, &str); 3] = [("a", "z0"), ("b", "z1"), ("c", "z1")];
const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
const TOPOLOGIES: [&str; 2] = ["zone", "kubernetes.io/hostname"];

#[derive(Clone, Debug)]
struct App {
    kind: &'static str,
    replicas: usize,
    cpu_millis: u64,
    class: Option<usize>,
    strategy: usize,
    host_port: bool,
    /// Near whom, away from whom, spread among whom: a name and a topology.
    near: Option<(usize, usize)>,
    away: Option<(usize, usize)>,
    spread: Option<(usize, usize, bool)>,
    budget: Option<&'static str>,
}

fn app() -> impl Strategy<Value = App> {
    let some = |chance: f64| prop::option::weighted(chance, (0..NAMES.len(), 0..TOPOLOGIES.len()));
    let kinds = vec!["Deployment", "Deployment", "Deployment", "StatefulSet", "DaemonSet"];
    let budgets = vec!["maxUnavailable: 0", "maxUnavailable: 1", "minAvailable: 1"];
    let shape = (
        prop::sample::select(kinds),
        prop::sample::select(vec![1, 2, 3, 4, 6]),
        prop::sample::select(vec![10, 300, 700, 900, 1_500]),
        prop::option::of(1..4_usize),
        0..4_usize,
        prop::bool::weighted(0.2),
    );
    let spread = (0..NAMES.len(), 0..TOPOLOGIES.len(), any::<bool>());
    let spread = prop::option::weighted(0.3, spread);
    let budget = prop::option::weighted(0.3, prop::sample::select(budgets));
    (shape, some(0.3), some(0.5), spread, budget).prop_map(|(shape, near, away, spread, budget)| {
        let (kind, replicas, cpu_millis, class, strategy, host_port) = shape;
        App { kind, replicas, cpu_millis, class, strategy, host_port, near, away, spread, budget }
    })
}

impl App {
    fn text(&self, name: &str) -> String {
        let labels = format!("{{matchLabels: {{app: {name}}}}}");
        let budget = self.budget.map(|budget| {
            format!(
                "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n\
                 spec: {{{budget}, selector: {labels}}}\n"
            )
        });
        let kind = self.kind;
        let class = self.class.map(|class| format!("      priorityClassName: p{class}\n"));
        let port =
            if self.host_port { ", ports: [{containerPort: 80, hostPort: 8099}]" } else { "" };
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{}  selector: \
             {labels}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n{}{}\
             \x20     containers: [{{name: main, image: \"main:1\", resources: {{requests: {{cpu: \
             {}m}}}}{port}}}]\n{}",
            self.counted(),
            class.unwrap_or_default(),
            self.company(),
            self.cpu_millis,
            budget.unwrap_or_default(),
        )
    }

    fn counted(&self) -> String {
        let replicas = self.replicas;
        match (self.kind, self.strategy) {
            ("DaemonSet", _) => String::new(),
            ("StatefulSet", 0) => format!("  replicas: {replicas}\n  serviceName: x\n"),
            ("StatefulSet", _) => format!(
                "  replicas: {replicas}\n  serviceName: x\n  podManagementPolicy: Parallel\n"
            ),
            (_, 0) => format!("  replicas: {replicas}\n"),
            (_, 1) => format!("  replicas: {replicas}\n  strategy: {{type: Recreate}}\n"),
            (_, strategy) => {
                let (surge, unavailable) = (3 - strategy, strategy - 2);
                format!(
                    "  replicas: {replicas}\n  strategy: {{rollingUpdate: {{maxSurge: {surge}, \
                     maxUnavailable: {unavailable}}}}}\n"
                )
            }
        }
    }

    fn company(&self) -> String {
        let of = |who: usize| format!("labelSelector: {{matchLabels: {{app: {}}}}}", NAMES[who]);
        let term = |kind: &str, (who, topology): (usize, usize)| {
            format!(
                "{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: [{{{}, topologyKey: {}}}]}}",
                of(who),
                TOPOLOGIES[topology]
            )
        };
        let near = self.near.map(|near| term("podAffinity", near));
        let away = self.away.map(|away| term("podAntiAffinity", away));
        let terms: Vec<String> = near.into_iter().chain(away).collect();
        let spread = self.spread.map(|(who, topology, must)| {
            let when = if must { "DoNotSchedule" } else { "ScheduleAnyway" };
            format!(
                "      topologySpreadConstraints: [{{maxSkew: 1, topologyKey: {}, \
                 whenUnsatisfiable: {when}, {}}}]\n",
                TOPOLOGIES[topology],
                of(who)
            )
        });
        format!("      affinity: {{{}}}\n{}", terms.join(", "), spread.unwrap_or_default())
    }
}

fn classes() -> String {
    let class = |number: usize| {
        format!(
            "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: p{number}}}\n\
             value: {number}00\n"
        )
    };
    [1, 2, 3].map(class).join("---\n")
}

fn nodes() -> Cluster {
    let mut cluster = Cluster::new(&NODES.map(|(name, _)| name));
    for (name, zone) in NODES {
        let labels = [("zone".to_owned(), Some(zone.to_owned()))].into();
        cluster.order(name, NodeOrder::Label { labels }).unwrap();
        let capacity = Capacity {
            cpu_millis: CPU_MILLIS,
            memory_bytes: 8 << 30,
            pods: 110,
            disk_bytes: 1 << 40,
        };
        let node = NodeObservation { capacity, ..NodeObservation::default() };
        cluster.report(name, Some(node), Vec::new());
    }
    cluster
}

/// One commit after the other; each has all of its applications, and those before it are gone.
fn live_together(commits: &[Vec<App>]) {
    let mut cluster = nodes();
    cluster.commit(&[("classes.yaml", &classes())]);
    for apps in commits {
        let texts: Vec<(String, String)> = NAMES
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let app = apps.get(index);
                (format!("{name}.yaml"), app.map(|app| app.text(name)).unwrap_or_default())
            })
            .collect();
        let files: Vec<(&str, &str)> =
            texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        // That it ends is enough: a forecast of what goes round tells no more than that.
        cluster.diff(&files);
        cluster.commit(&files);
        for _ in 0..ROUNDS {
            if !cluster.agents_act() {
                break;
            }
        }
        assert_eq!(cluster.diagnostics(), Vec::<String>::new());
    }
}

fn cases() -> u32 {
    std::env::var("KGIT_CROWDS").ok().map_or(CASES, |number| number.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn those_that_do_not_get_along_miss_nothing(
        commits in prop::collection::vec(prop::collection::vec(app(), 2..=NAMES.len()), 1..4)
    ) {
        live_together(&commits);
    }
}
