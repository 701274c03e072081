//! Jobs: run once, retried with a delay, never run again by themselves.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::node_order::{NodeOrder, TaintOrder};

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{config, job, web};

#[test]
fn a_job_runs_to_its_end_once() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("job.yaml", &job("migrate", "migrate:1", ""))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/migrate
    + create    Pod/default/migrate-jbtt9  on a
    ~ finish    Job/default/migrate  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn a_failing_job_is_retried_with_a_growing_delay_and_then_given_up() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::Fails);
    cluster.commit(&[("job.yaml", &job("migrate", "migrate:1", "  backoffLimit: 2\n"))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Job/default/migrate waits for the retry delay after 1 failures
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.pass(Duration::from_secs(9));
    assert_eq!(cluster.pods().len(), 1);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.pods().len(), 2);
    cluster.pass(Duration::from_secs(60));
    assert_eq!(cluster.pods().len(), 3);
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/migrate
    + create    Pod/default/migrate-jbtt9  on a
    + create    Pod/default/migrate-mrzx5  on a  DEVIATES: Job/default/migrate wants 1 pods and has 0
    + create    Pod/default/migrate-qjtxv  on a  DEVIATES: Job/default/migrate wants 1 pods and has 0
    ~ finish    Job/default/migrate  failed: BackoffLimitExceeded  DEVIATES: Pod/default/migrate-qjtxv Failed
    finished: 3 deviations, 1 missing, superseded false
    ");
}

#[test]
fn completions_run_as_many_at_a_time_as_allowed() {
    let mut cluster = Cluster::new(&["a"]);
    let more = "  completions: 5\n  parallelism: 2\n";
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", more))]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 5);
    cluster.ends_quietly();
}

#[test]
fn a_finished_job_that_is_removed_and_put_back_does_not_run_again() {
    let mut cluster = Cluster::new(&["a"]);
    let manifest = job("migrate", "migrate:1", "");
    cluster.commit(&[("job.yaml", &manifest), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.commit(&[("job.yaml", "")]);
    cluster.settle();
    cluster.commit(&[("job.yaml", &manifest)]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   Job/default/migrate  ended before, and is not run again
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_dependant_waits_until_the_job_is_done() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverReady);
    let web = web("web:1", 1).replace(
        "  name: web\nspec",
        "  name: web\n  annotations: {kgit.dev/depends-on: Job/migrate}\nspec",
    );
    cluster.commit(&[("job.yaml", &job("migrate", "m:1", "")), ("web.yaml", &web)]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for Job/default/migrate to be healthy (web.yaml:5:38); it is Progressing
    Deployment/default/web waits for 1 of 1 pods of the new revision to be available
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2);
    cluster.ends_quietly();
}

#[test]
fn a_work_queue_is_done_when_one_pod_succeeded_and_none_is_left() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("job.yaml", &job("queue", "queue:1", "  parallelism: 1\n"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/queue
    + create    Pod/default/queue-pzh9l  on a
    ~ finish    Job/default/queue  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn a_work_queue_starts_no_pod_after_a_success_and_waits_for_the_others() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("job.yaml", &job("queue", "queue:1", "  parallelism: 3\n"))]);
    let slow = cluster.pods()[0].key.name.to_string();
    cluster.behaviour.insert(slow, Behaviour::NeverReady);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Job/default/queue waits for 1 pods of the work queue to end");
    assert_eq!(cluster.pods().len(), 3);
    cluster.behaviour.clear();
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 3);
    assert!(cluster.waits().is_empty(), "{:?}", cluster.waits());
}

#[test]
fn a_pod_that_was_told_to_end_is_no_failure_of_its_job() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::FailsWhenStopped);
    let strict = "  backoffLimit: 0\n";
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", strict))]);
    cluster.settle();
    let suspended = format!("{strict}  suspend: true\n");
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", &suspended))]);
    cluster.settle();
    assert!(cluster.pods().is_empty());
    cluster.behaviour.clear();
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", strict))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Job/default/batch
    + create    Pod/default/batch-d9h7j  on a
    ~ finish    Job/default/batch  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn pods_that_are_gone_are_forgotten_though_a_config_is_missing() {
    let mut cluster = Cluster::new(&["a"]);
    let needs =
        |text: String| format!("{text}        envFrom: [{{configMapRef: {{name: settings}}}}]\n");
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: bare\nspec:\n  containers:\n  - name: main\n    \
             image: {image}\n    envFrom: [{{configMapRef: {{name: settings}}}}]\n"
        )
    };
    let started = [
        ("job.yaml", needs(job("batch", "batch:1", ""))),
        ("pod.yaml", pod("bare:1")),
        ("c.yaml", config("a")),
        ("other.yaml", config("a").replace("settings", "other")),
    ];
    cluster.behaviour.insert("b".to_owned(), Behaviour::NeverReady);
    cluster.commit(&started.each_ref().map(|(path, text)| (*path, text.as_str())));
    cluster.settle();
    cluster.behaviour.insert("b".to_owned(), Behaviour::NeverEnds);
    let job = needs(job("batch", "batch:1", "  suspend: true\n"));
    cluster.commit(&[("job.yaml", &job), ("pod.yaml", &pod("bare:2"))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", "")]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2);
    cluster.behaviour.clear();
    cluster.settle();
    assert!(cluster.pods().is_empty(), "{:?}", cluster.waits());
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/bare waits for ConfigMap/default/settings, which does not exist");
}

/// An Indexed job of three, of which the second one ends with a code of its own.
fn indexed(more: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::Exits(3));
    let more = format!("  completionMode: Indexed\n  completions: 3\n  parallelism: 3\n{more}");
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", &more))]);
    cluster.settle();
    cluster
}

fn ended(cluster: &Cluster) -> String {
    let world = cluster.world();
    let job = world.jobs.values().next().unwrap();
    match &job.finished {
        Some(finish) => format!("{}, {} failed", finish.reason, job.failed),
        None => format!("running, {} failed", job.failed),
    }
}

#[test]
fn a_failure_policy_says_what_a_failure_means() {
    let rule = |action: &str, codes: &str| {
        format!(
            "  backoffLimit: 1\n  podFailurePolicy:\n    rules:\n    - action: {action}\n      onExitCodes: {codes}\n"
        )
    };
    let check = |more: &str, expected: &str| assert_eq!(ended(&indexed(more)), expected, "{more}");
    check(&rule("FailJob", "{operator: In, values: [3]}"), "PodFailurePolicy, 3 failed");
    check(&rule("FailJob", "{operator: In, values: [4]}"), "BackoffLimitExceeded, 3 failed");
    check(&rule("FailJob", "{operator: NotIn, values: [4]}"), "PodFailurePolicy, 3 failed");
    check(&rule("FailJob", "{operator: NotIn, values: [3]}"), "BackoffLimitExceeded, 3 failed");
    let other = "{containerName: other, operator: In, values: [3]}";
    check(&rule("FailJob", other), "BackoffLimitExceeded, 3 failed");
    check(&rule("Count", "{operator: In, values: [3]}"), "BackoffLimitExceeded, 3 failed");
    let per_index = "  backoffLimitPerIndex: 0\n";
    check(per_index, "FailedIndexes, 3 failed");
    check(&format!("{per_index}  maxFailedIndexes: 1\n"), "MaxFailedIndexesExceeded, 3 failed");
    let fail_index = rule("FailIndex", "{operator: In, values: [3]}");
    let fail_index = fail_index.replace("backoffLimit: 1", "backoffLimitPerIndex: 5");
    check(&fail_index, "FailedIndexes, 3 failed");
}

#[test]
fn an_ignored_failure_counts_for_nothing_but_the_delay() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("once".to_owned(), Behaviour::Exits(42));
    let policy = "  backoffLimit: 0\n  podFailurePolicy:\n    rules:\n    - action: Ignore\n      onExitCodes: {operator: In, values: [42]}\n";
    cluster.commit(&[("job.yaml", &job("once", "once:1", policy))]);
    cluster.agents_act();
    assert_eq!(ended(&cluster), "running, 0 failed");
    cluster.pass(Duration::from_secs(9));
    assert_eq!(cluster.pods().len(), 1);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.pods().len(), 2);
    cluster.behaviour.clear();
    cluster.pass(Duration::from_secs(60));
    assert_eq!(ended(&cluster), ", 0 failed");
}

#[test]
fn each_index_has_a_delay_and_a_limit_of_its_own() {
    let mut cluster = indexed("  backoffLimitPerIndex: 1\n");
    assert_eq!(ended(&cluster), "running, 3 failed");
    assert_eq!(cluster.pods().len(), 3);
    cluster.pass(Duration::from_secs(9));
    assert_eq!(cluster.pods().len(), 3);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(ended(&cluster), "FailedIndexes, 6 failed");
}

#[test]
fn each_index_is_told_which_one_it_is() {
    let cluster = indexed("  backoffLimitPerIndex: 5\n");
    let index = "batch.kubernetes.io/job-completion-index";
    let mut told = Vec::new();
    for pod in cluster.pods() {
        let placed = pod.placed.as_ref().unwrap();
        let variables = &placed.spec.containers[0].env;
        let variable = variables.iter().find(|it| it.name == "JOB_COMPLETION_INDEX").unwrap();
        assert_eq!(pod.labels[index], variable.value);
        assert_eq!(pod.annotations[index], variable.value);
        assert_eq!(pod.annotations["batch.kubernetes.io/job-index-failure-count"], "0");
        told.push(format!("{} is {} on {}", pod.key.name, variable.value, placed.spec.hostname));
    }
    assert_snapshot!(told.join("\n"), @"
    batch-0-6ct27 is 0 on batch-0
    batch-1-d9h7j is 1 on batch-1
    batch-2-c6b5b is 2 on batch-2
    ");
}

#[test]
fn a_suspended_jobs_deadline_starts_anew_when_it_goes_on() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("slow".to_owned(), Behaviour::NeverReady);
    let text = |more: &str| job("slow", "slow:1", &format!("  activeDeadlineSeconds: 60\n{more}"));
    cluster.commit(&[("job.yaml", &text(""))]);
    cluster.pass(Duration::from_secs(50));
    cluster.commit(&[("job.yaml", &text("  suspend: true\n"))]);
    cluster.pass(Duration::from_secs(3600));
    assert_eq!(ended(&cluster), "running, 0 failed");
    cluster.commit(&[("job.yaml", &text(""))]);
    cluster.pass(Duration::from_secs(50));
    assert_eq!(ended(&cluster), "running, 0 failed");
    cluster.pass(Duration::from_secs(15));
    assert_eq!(ended(&cluster), "DeadlineExceeded, 1 failed");
}

#[test]
fn an_index_stands_beside_the_variables_of_the_manifest() {
    let mut cluster = Cluster::new(&["a"]);
    let more = "  completionMode: Indexed\n  completions: 1\n";
    let text = job("batch", "batch:1", more) + "        env: [{name: OTHER, value: x}]\n";
    cluster.commit(&[("job.yaml", &text)]);
    let pod = cluster.pods()[0].clone();
    let env = &pod.placed.as_ref().unwrap().spec.containers[0].env;
    let names: Vec<&str> = env.iter().map(|variable| variable.name.as_str()).collect();
    assert!(names.contains(&"JOB_COMPLETION_INDEX") && names.contains(&"OTHER"), "{names:?}");
}

/// A Job of one pod that runs until it is told to end.
fn running(more: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", more))]);
    cluster.settle();
    cluster
}

#[test]
fn a_pod_that_somebody_ends_has_failed() {
    let mut cluster = running("  backoffLimit: 0\n");
    let pod = cluster.pods()[0].key.name.to_string();
    cluster.end_pod(&pod).unwrap();
    cluster.settle();
    assert_eq!(ended(&cluster), "BackoffLimitExceeded, 1 failed");
    assert!(cluster.pods().is_empty());
    cluster.ends_quietly();
}

fn driving_out() -> TaintOrder {
    TaintOrder {
        key: "gone".to_owned(),
        value: String::new(),
        effect: Some("NoExecute".to_owned()),
        remove: false,
    }
}

#[test]
fn a_pod_that_its_node_drives_out_has_failed_unless_the_policy_knows_better() {
    let policy = "  podFailurePolicy:\n    rules:\n    - action: Ignore\n      \
                  onPodConditions: [{type: DisruptionTarget}]\n";
    for (more, expected, pods) in
        [("", "BackoffLimitExceeded, 1 failed", 0), (policy, "running, 0 failed", 1)]
    {
        let mut cluster = running(&format!("  backoffLimit: 0\n{more}"));
        // There would be room for another.
        cluster.join("b", 1);
        cluster.order("a", NodeOrder::Taint { taints: vec![driving_out()] }).unwrap();
        let replaced = cluster.pods().iter().any(|pod| pod.deletion.is_none());
        assert!(!replaced, "one was made before the first had failed");
        cluster.settle();
        cluster.pass(Duration::from_secs(11));
        cluster.settle();
        assert_eq!((ended(&cluster).as_str(), cluster.pods().len()), (expected, pods), "{more}");
    }
}

#[test]
fn a_job_that_comes_back_while_its_pod_ends_has_not_failed() {
    let mut cluster = running("  backoffLimit: 0\n");
    let manifest = job("batch", "batch:1", "  backoffLimit: 0\n");
    cluster.commit(&[("settings.yaml", &config("a"))]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("job.yaml", "")]);
    cluster.settle();
    cluster.commit(&[("job.yaml", &manifest)]);
    cluster.settle();
    assert_eq!(ended(&cluster), ", 0 failed");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

/// An Indexed job of so many, all at once.
fn so_many(completions: u32) -> String {
    let more = format!(
        "  completionMode: Indexed\n  completions: {completions}\n  parallelism: {completions}\n"
    );
    job("batch", "batch:1", &more)
}

fn active(cluster: &Cluster) -> Vec<Option<u32>> {
    let mut pods = cluster.pods();
    pods.retain(|pod| pod.is_active());
    let mut indexes: Vec<_> = pods.iter().map(|pod| pod.index).collect();
    indexes.sort_unstable();
    indexes
}

#[test]
fn an_index_beyond_a_smaller_number_is_no_part_of_the_job() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    for done in ["batch-2", "batch-3"] {
        cluster.behaviour.insert(done.to_owned(), Behaviour::Succeeds);
    }
    cluster.commit(&[("job.yaml", &so_many(5))]);
    cluster.settle();
    assert_eq!(active(&cluster), [Some(0), Some(1), Some(4)]);
    cluster.commit(&[("job.yaml", &so_many(2))]);
    cluster.settle();
    assert_eq!(ended(&cluster), "running, 0 failed");
    assert_eq!(active(&cluster), [Some(0), Some(1)]);
    assert_snapshot!(cluster.waits().join("\n"), @"Job/default/batch waits for 2 of 2 completions");
    cluster.behaviour.clear();
    cluster.ends_quietly();
    assert_eq!(ended(&cluster), ", 0 failed");
}

#[test]
fn the_failure_of_an_index_beyond_a_smaller_number_is_none_of_the_job() {
    let limited = |completions| format!("{}  backoffLimitPerIndex: 0\n", so_many(completions));
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    for index in ["batch-2", "batch-3"] {
        cluster.behaviour.insert(index.to_owned(), Behaviour::Exits(1));
    }
    cluster.commit(&[("job.yaml", &limited(4))]);
    cluster.settle();
    assert_eq!(ended(&cluster), "running, 2 failed");
    cluster.commit(&[("job.yaml", &limited(2))]);
    cluster.behaviour.clear();
    cluster.ends_quietly();
    assert_eq!(ended(&cluster), ", 2 failed");
}

#[test]
fn fewer_at_a_time_end_the_others() {
    let manifest = |parallelism: u32| {
        let more = format!("  completions: 10\n  parallelism: {parallelism}\n");
        job("batch", "batch:1", &more)
    };
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    for parallelism in [5, 2, 0, 1] {
        cluster.commit(&[("job.yaml", &manifest(parallelism))]);
        cluster.settle();
        assert_eq!(active(&cluster).len(), parallelism as usize);
        assert_eq!(ended(&cluster), "running, 0 failed");
    }
    cluster.behaviour.clear();
    cluster.ends_quietly();
    assert_eq!(ended(&cluster), ", 0 failed");
}

#[test]
fn where_a_policy_asks_how_a_pod_ended_no_other_is_made_before_it_has() {
    let policy = "  podFailurePolicy:\n    rules:\n    - action: FailJob\n      \
                  onExitCodes: {operator: In, values: [42]}\n";
    for mode in ["", "  completionMode: Indexed\n  completions: 1\n"] {
        let mut cluster = running(&format!("{mode}{policy}"));
        cluster.join("b", 1);
        cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverEnds);
        cluster.order("a", NodeOrder::Taint { taints: vec![driving_out()] }).unwrap();
        cluster.settle();
        assert_eq!(cluster.pods().len(), 1, "{mode}");
        cluster.behaviour.insert("batch".to_owned(), Behaviour::FailsWhenStopped);
        cluster.pass(Duration::from_secs(60));
        assert_eq!(ended(&cluster), "running, 1 failed");
        assert_eq!(active(&cluster).len(), 1);
    }
}

#[test]
fn an_ignored_failure_of_an_index_delays_that_index_alone() {
    let policy = "  completionMode: Indexed\n  completions: 4\n  parallelism: 2\n  \
                  backoffLimitPerIndex: 0\n  podFailurePolicy:\n    rules:\n    - action: Ignore\n      \
                  onExitCodes: {operator: In, values: [42]}\n";
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    cluster.behaviour.insert("batch-0".to_owned(), Behaviour::Exits(42));
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", policy))]);
    cluster.settle();
    assert_eq!(active(&cluster), [Some(1), Some(2)]);
    cluster.behaviour.clear();
    cluster.pass(Duration::from_secs(60));
    assert_eq!(ended(&cluster), ", 0 failed");
    let index = "batch.kubernetes.io/job-index-failure-count";
    assert!(cluster.pods().iter().all(|pod| pod.annotations[index] == "0"));
}
