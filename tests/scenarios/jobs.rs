//! Jobs: run once, retried with a delay, never run again by themselves.

use std::time::Duration;

use insta::assert_snapshot;

use crate::cluster::{Behaviour, Cluster};
use crate::manifests::{job, web};

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
    + create    Pod/default/migrate-mrzx5  on a  DEVIATES: Pod/default/migrate-jbtt9 Failed
    + create    Pod/default/migrate-qjtxv  on a  DEVIATES: Pod/default/migrate-mrzx5 Failed
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
    + restore   Job/default/migrate
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
