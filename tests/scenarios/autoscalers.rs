//! Autoscalers: as many pods as the figures ask for, within bounds, and no faster than allowed.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::key::Kind;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::web_with;

const PERIOD: Duration = Duration::from_secs(15);

fn autoscaler(more: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: web
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}
  minReplicas: 2
  maxReplicas: 8
{more}  metrics:
  - type: Resource
    resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}
"
    )
}

/// Pods that ask for a tenth of a core each, past the time in which starting up counts.
fn deployment() -> String {
    web_with("web:1", 2, "        resources: {requests: {cpu: 100m}}\n")
}

fn cluster(more: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &deployment()), ("hpa.yaml", &autoscaler(more))]);
    cluster.pass(Duration::from_secs(600));
    cluster
}

fn running(cluster: &Cluster) -> usize {
    cluster.pods().iter().filter(|pod| pod.is_active()).count()
}

/// Figures come every period, for so many periods.
fn under_load(cluster: &mut Cluster, cpu_millis: u64, periods: u32) -> Vec<usize> {
    let mut sizes = Vec::new();
    for _ in 0..periods {
        cluster.uses("web", cpu_millis);
        cluster.pass(PERIOD);
        sizes.push(running(cluster));
    }
    sizes
}

#[test]
fn a_forecast_has_no_figures_of_times_to_come_and_does_not_ask_for_them() {
    let mut cluster = cluster("");
    assert_eq!(under_load(&mut cluster, 50, 1), [2]);
    let slow = deployment().replacen("spec:\n", "spec:\n  minReadySeconds: 300\n", 1);
    let slow = slow.replacen("web:1", "web:2", 1);
    let forecast = cluster.diff(&[("web.yaml", &slow)]);
    assert_snapshot!(forecast, @"
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-9zx4qxjwwj  revision 2
    + create    Pod/default/web-9zx4qxjwwj-45lg9  on b
    ~ scale     ReplicaSet/default/web-mn4tmjh4nc  2 → 0
    - stop      Pod/default/web-mn4tmjh4nc-cdbvc  on b
    ~ scale     ReplicaSet/default/web-9zx4qxjwwj  1 → 2
    + create    Pod/default/web-9zx4qxjwwj-7h2hg  on a
    - stop      Pod/default/web-mn4tmjh4nc-p7lss  on a
    ");
}

#[test]
fn load_brings_pods_and_quiet_takes_them_away_after_five_minutes() {
    let mut cluster = cluster("");
    assert_eq!(under_load(&mut cluster, 50, 2), [2, 2]);
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ scale     HorizontalPodAutoscaler/default/web  2 → 4
    ~ scale     ReplicaSet/default/web-mn4tmjh4nc  2 → 4
    + create    Pod/default/web-mn4tmjh4nc-hljcq  on b
    + create    Pod/default/web-mn4tmjh4nc-8tlrz  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    let world = cluster.world();
    let log = world.events.iter().find(|(key, _)| key.kind == Kind::HorizontalPodAutoscaler);
    let told = log.unwrap().1.events.iter().map(|it| format!("{}: {}", it.reason, it.message));
    assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"SuccessfulRescale: New size: 4; reason: cpu is at 100 % of the request, and 50 % is aimed at");
    cluster.pass(Duration::from_secs(320));
    assert_eq!(under_load(&mut cluster, 50, 1), [4]);
    let sizes = under_load(&mut cluster, 10, 22);
    assert_eq!(sizes[..19], [4; 19], "{sizes:?}");
    assert_eq!(sizes.last(), Some(&2), "{sizes:?}");
    assert_eq!(cluster.diff(&[]), "", "its number is no difference from the manifest");
}

#[test]
fn it_stays_within_its_bounds_and_its_pace() {
    let mut cluster = cluster("");
    let sizes = under_load(&mut cluster, 1000, 3);
    // At most four pods or twice as many in fifteen seconds.
    assert_eq!(sizes[0], 6);
    cluster.pass(Duration::from_secs(320));
    assert_eq!(under_load(&mut cluster, 1000, 2).last(), Some(&8));
}

#[test]
fn without_figures_nothing_changes_and_it_is_said() {
    let cluster = cluster("");
    assert_eq!(running(&cluster), 2);
    let world = cluster.world();
    let state = world.autoscalers.values().next().unwrap();
    assert_eq!(state.desired, None);
    assert!(state.trouble.as_ref().unwrap().contains("no figures"), "{state:?}");
}

#[test]
fn figures_that_stop_coming_hold_the_number() {
    let mut cluster = cluster("");
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    cluster.pass(Duration::from_secs(3600));
    assert_eq!(running(&cluster), 4);
}

#[test]
fn the_manifests_number_counts_again_without_it() {
    let mut cluster = cluster("");
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    cluster.commit(&[("hpa.yaml", "")]);
    cluster.settle();
    assert_eq!(running(&cluster), 2);
}

#[test]
fn a_disabled_direction_is_never_taken() {
    let mut cluster = cluster("  behavior: {scaleUp: {selectPolicy: Disabled}}\n");
    assert_eq!(under_load(&mut cluster, 1000, 4), [2; 4]);
}

#[test]
fn a_target_scaled_to_nothing_is_left_alone() {
    let mut cluster = Cluster::new(&["a"]);
    let none = deployment().replace("replicas: 2", "replicas: 0");
    cluster.commit(&[("web.yaml", &none), ("hpa.yaml", &autoscaler(""))]);
    cluster.pass(PERIOD);
    assert_eq!(running(&cluster), 0);
}

#[test]
fn the_older_version_means_the_same() {
    let mut cluster = Cluster::new(&["a"]);
    let older = "apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata:
  name: web
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 3
  maxReplicas: 8
  targetCPUUtilizationPercentage: 50
";
    cluster.commit(&[("web.yaml", &deployment()), ("hpa.yaml", older)]);
    cluster.pass(Duration::from_secs(600));
    assert_eq!(running(&cluster), 3, "at least three, figures or not");
    assert_eq!(under_load(&mut cluster, 100, 1), [6]);
}

const CPU: &str = "  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
";

/// Goes by these metrics, for pods of this manifest.
fn measuring(metrics: &str, web: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a", "b"]);
    let autoscaler = autoscaler("").replace(CPU, metrics);
    cluster.commit(&[("web.yaml", web), ("hpa.yaml", &autoscaler)]);
    cluster.pass(Duration::from_secs(600));
    cluster
}

#[test]
fn of_several_metrics_the_one_that_asks_for_most_decides() {
    // Each pod has one MiB.
    let memory = "  - type: Resource
    resource: {name: memory, target: {type: AverageValue, averageValue: 512Ki}}
";
    let why = |metrics: [&str; 2]| {
        let mut cluster = measuring(&metrics.concat(), &deployment());
        assert_eq!(under_load(&mut cluster, 50, 1), [4]);
        let world = cluster.world();
        let log = world.events.iter().find(|(key, _)| key.kind == Kind::HorizontalPodAutoscaler);
        log.unwrap().1.events.iter().map(|it| it.message.clone()).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(why([CPU, memory]), @"New size: 4; reason: memory is at 1048576 bytes on average, and 524288 bytes is aimed at");
    assert_eq!(why([memory, CPU]), why([CPU, memory]));
}

#[test]
fn while_a_metric_has_no_figures_the_others_add_pods_and_take_none_away() {
    // No pod asks for memory, so there is nothing to have a share of.
    let memory = "  - type: Resource
    resource: {name: memory, target: {type: Utilization, averageUtilization: 50}}
";
    let mut cluster = measuring(&[CPU, memory].concat(), &deployment());
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    assert_snapshot!(cluster.waits().join("\n"), @"HorizontalPodAutoscaler/default/web waits for something to go by (no figures for its pods: none came, or the pods request nothing)");
    cluster.pass(Duration::from_secs(320));
    assert_eq!(under_load(&mut cluster, 10, 25).last(), Some(&4));
}

#[test]
fn a_metric_of_one_container_goes_by_that_one() {
    let of = |container: &str| {
        format!(
            "  - type: ContainerResource
    containerResource:
      {{container: {container}, name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}
"
        )
    };
    let two =
        deployment() + "      - {name: log, image: log:1, resources: {requests: {cpu: 300m}}}\n";
    let mut cluster = measuring(&of("web"), &two);
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    let mut cluster = measuring(&of("log"), &two);
    assert_eq!(under_load(&mut cluster, 100, 1), [2], "of this one there are no figures");
}

#[test]
fn what_keeps_the_number_from_what_the_figures_ask_for_is_told() {
    let slowly = "  behavior:
    scaleDown:
      stabilizationWindowSeconds: 0
      policies: [{type: Pods, value: 1, periodSeconds: 60}]
";
    let after = |loads: &[u64]| {
        let mut cluster = cluster(slowly);
        for load in loads {
            cluster.pass(Duration::from_secs(320));
            under_load(&mut cluster, *load, 1);
        }
        let world = cluster.world();
        let limited = world.autoscalers.values().next().and_then(|state| state.limited.clone());
        format!(
            "{loads:?}: {} pods, {}",
            running(&cluster),
            limited.as_deref().unwrap_or("not held back")
        )
    };
    let all: [&[u64]; 7] =
        [&[50], &[100], &[200], &[1000], &[10], &[200, 10], &[200, 200, 200, 200]];
    let told: Vec<String> = all.into_iter().map(after).collect();
    assert_snapshot!(told.join("\n"), @"
    [50]: 2 pods, not held back
    [100]: 4 pods, not held back
    [200]: 6 pods, ScaleUpLimit
    [1000]: 6 pods, TooManyReplicas
    [10]: 2 pods, TooFewReplicas
    [200, 10]: 7 pods, ScaleDownLimit
    [200, 200, 200, 200]: 8 pods, TooManyReplicas
    ");
}

#[test]
fn sets_are_scaled_as_deployments_are() {
    for (kind, more) in [("ReplicaSet", ""), ("StatefulSet", "  serviceName: web\n")] {
        let mut cluster = Cluster::new(&["a", "b"]);
        let set = deployment().replace("kind: Deployment", &format!("kind: {kind}"));
        let set = set.replace("spec:\n  replicas", &format!("spec:\n{more}  replicas"));
        let autoscaler = autoscaler("").replace("kind: Deployment", &format!("kind: {kind}"));
        cluster.commit(&[("web.yaml", &set), ("hpa.yaml", &autoscaler)]);
        cluster.pass(Duration::from_secs(600));
        assert_eq!(under_load(&mut cluster, 100, 1), [4], "{kind}");
    }
}

#[test]
fn what_a_pod_uses_while_it_starts_does_not_count() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &deployment()), ("hpa.yaml", &autoscaler(""))]);
    cluster.settle();
    assert_eq!(under_load(&mut cluster, 100, 2), [2, 4]);
}

#[test]
fn of_two_autoscalers_of_one_target_one_decides_and_the_other_says_so() {
    let mut cluster = cluster("");
    let other = autoscaler("").replacen("name: web", "name: another", 1).replace("8", "9");
    cluster.commit(&[("another.yaml", &other)]);
    cluster.pass(PERIOD);
    assert_snapshot!(cluster.waits().join("\n"), @"
    HorizontalPodAutoscaler/default/another waits for something to go by (no figures for its pods: none came, or the pods request nothing)
    HorizontalPodAutoscaler/default/web waits for something to go by (HorizontalPodAutoscaler/default/another scales Deployment/default/web already)
    ");
}

#[test]
fn pods_without_a_place_do_not_keep_the_number_up() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let one_a_node = "        resources: {requests: {cpu: 100m}}\n        \
                      ports: [{containerPort: 80, hostPort: 80}]\n";
    let web = web_with("web:1", 8, one_a_node);
    cluster.commit(&[("web.yaml", &web), ("hpa.yaml", &autoscaler(""))]);
    cluster.pass(Duration::from_secs(600));
    assert_eq!(running(&cluster), 8);
    assert_eq!(under_load(&mut cluster, 20, 22).last(), Some(&2));
}

#[test]
fn pods_that_served_and_are_not_ready_for_their_load_count() {
    let mut cluster = cluster("");
    assert_eq!(under_load(&mut cluster, 50, 1), [2]);
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    assert_eq!(under_load(&mut cluster, 100, 1), [4]);
    // The new ones have never been ready: what they use says nothing of what the others need.
    assert_eq!(under_load(&mut cluster, 60, 1), [4]);
}

#[test]
fn budgets_go_by_the_size_that_is_decided() {
    let budget = "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: web}}
";
    let mut cluster = Cluster::new(&["a", "b"]);
    let set = deployment().replace("kind: Deployment", "kind: StatefulSet");
    let set = set.replace("spec:\n  replicas", "spec:\n  serviceName: web\n  replicas");
    let autoscaler = autoscaler("").replace("kind: Deployment", "kind: StatefulSet");
    cluster.commit(&[("web.yaml", &set), ("hpa.yaml", &autoscaler), ("pdb.yaml", budget)]);
    cluster.pass(Duration::from_secs(600));
    // The next pod is not made while this one is not ready.
    cluster.behaviour.insert("web-1".to_owned(), Behaviour::NeverReady);
    assert_eq!(under_load(&mut cluster, 100, 1), [2]);
    let world = cluster.world();
    let state = world.budgets.values().next().unwrap();
    assert_eq!((state.expected, state.desired), (4, 3));
    cluster.commit(&[("hpa.yaml", "")]);
    cluster.settle();
    let world = cluster.world();
    let state = world.budgets.values().next().unwrap();
    assert_eq!((state.expected, state.desired), (2, 1));
}

#[test]
fn pods_that_were_overloaded_before_their_autoscaler_came_count() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &deployment())]);
    cluster.pass(Duration::from_secs(600));
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.settle();
    cluster.commit(&[("hpa.yaml", &autoscaler(""))]);
    assert_eq!(under_load(&mut cluster, 100, 2).last(), Some(&4));
}
