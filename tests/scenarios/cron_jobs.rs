//! CronJobs: one Job a slot, the newest missed one alone, and no slot twice.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::key::Kind;
use kgit::domain::node_order::NodeOrder;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::cron_job;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn cluster(schedule: &str, more: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("cron.yaml", &cron_job("tick", schedule, more))]);
    cluster.settle();
    cluster
}

/// The slots that there are Jobs for, as minutes of the first of January 2026.
fn slots(cluster: &Cluster) -> Vec<i64> {
    let midnight = 1_767_225_600 / 60;
    let world = cluster.world();
    let jobs =
        world.objects.iter().filter(|(key, row)| key.kind == Kind::Job && row.deletion.is_none());
    jobs.map(|(key, _)| key.name.rsplit_once('-').unwrap().1.parse::<i64>().unwrap() - midnight)
        .collect()
}

#[test]
fn each_slot_has_its_job_and_the_plan_says_why() {
    let mut cluster = cluster("*/10 * * * *", "");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    CronJob/default/tick
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.pass(9 * MINUTE);
    assert!(slots(&cluster).is_empty());
    cluster.pass(MINUTE);
    assert_eq!(slots(&cluster), [10]);
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/tick-29453770
    + create    Pod/default/tick-29453770-lhgxr  on a
    ~ finish    Job/default/tick-29453770  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.pass(21 * MINUTE);
    assert_eq!(slots(&cluster), [10, 20, 30]);
    cluster.ends_quietly();
}

#[test]
fn history_is_kept_to_its_limits() {
    let mut good = cluster("* * * * *", "  successfulJobsHistoryLimit: 2\n");
    good.pass(6 * MINUTE);
    assert_eq!(slots(&good), [5, 6]);
    assert_eq!(good.pods().len(), 2);
    let mut bad = Cluster::new(&["a"]);
    bad.behaviour.insert("tick".to_owned(), Behaviour::Fails);
    let text = cron_job("tick", "0 * * * *", "")
        .replace("      template:\n", "      backoffLimit: 0\n      template:\n");
    bad.commit(&[("cron.yaml", &text)]);
    bad.pass(4 * HOUR);
    assert_eq!(slots(&bad), [240]);
}

#[test]
fn of_the_slots_that_were_missed_only_the_newest_runs() {
    let mut cluster = cluster("0 * * * *", "");
    // Nobody looks for five hours and a half.
    cluster.now = cluster.now.after(5 * HOUR + 30 * MINUTE);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(slots(&cluster), [300]);
}

#[test]
fn a_slot_that_is_too_late_to_start_is_skipped() {
    let mut cluster = cluster("0 * * * *", "  startingDeadlineSeconds: 600\n");
    cluster.now = cluster.now.after(5 * HOUR + 30 * MINUTE);
    cluster.pass(Duration::from_secs(1));
    assert!(slots(&cluster).is_empty());
    cluster.pass(30 * MINUTE);
    assert_eq!(slots(&cluster), [360]);
    // Late, but not too late.
    cluster.now = cluster.now.after(HOUR + 9 * MINUTE);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(slots(&cluster), [360, 420]);
}

#[test]
fn slots_that_are_still_to_come_are_no_part_of_a_forecast() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.order("a", NodeOrder::Cordon).unwrap();
    let alone = cron_job("alone", "* * * * *", "  concurrencyPolicy: Forbid\n");
    let many = cron_job("many", "* * * * *", "");
    cluster.commit(&[("alone.yaml", &alone), ("many.yaml", &many)]);
    cluster.pass(2 * MINUTE);
    let slower = cron_job("many", "*/2 * * * *", "");
    assert_snapshot!(cluster.diff(&[("alone.yaml", &alone), ("many.yaml", &slower)]), @"
    ~ update    CronJob/default/many
      … Job/default/alone-29453761 waits for a place for pod `alone-29453761-s6dh6`: 0/1 nodes are available: 1 node(s) were unschedulable
          until then: the pod stays pending
      … Job/default/alone-29453761 waits for 1 of 1 completions
          until then: it goes on, and no newer commit waits for it
      … Job/default/many-29453761 waits for a place for pod `many-29453761-h5jwz`: 0/1 nodes are available: 1 node(s) were unschedulable
          until then: the pod stays pending
      … Job/default/many-29453761 waits for 1 of 1 completions
          until then: it goes on, and no newer commit waits for it
      … Job/default/many-29453762 waits for a place for pod `many-29453762-zk5dm`: 0/1 nodes are available: 1 node(s) were unschedulable
          until then: the pod stays pending
      … Job/default/many-29453762 waits for 1 of 1 completions
          until then: it goes on, and no newer commit waits for it
      … CronJob/default/alone waits for Job/default/alone-29453761 to end, before the slot of 2026-01-01T00:02:00Z (Forbid)
          until then: a later slot takes its place
    ");
}

#[test]
fn forbid_waits_for_the_running_job() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("tick".to_owned(), Behaviour::NeverReady);
    let text = cron_job("tick", "*/10 * * * *", "  concurrencyPolicy: Forbid\n");
    cluster.commit(&[("cron.yaml", &text)]);
    cluster.pass(25 * MINUTE);
    assert_eq!(slots(&cluster), [10]);
    assert_snapshot!(cluster.waits().join("\n"), @"
    Job/default/tick-29453770 waits for 1 of 1 completions
    CronJob/default/tick waits for Job/default/tick-29453770 to end, before the slot of 2026-01-01T00:20:00Z (Forbid)
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(slots(&cluster), [10, 20]);
}

#[test]
fn replace_ends_the_running_job_first() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("tick".to_owned(), Behaviour::NeverReady);
    let text = cron_job("tick", "*/10 * * * *", "  concurrencyPolicy: Replace\n");
    cluster.commit(&[("cron.yaml", &text)]);
    cluster.pass(20 * MINUTE);
    assert_eq!(slots(&cluster), [20]);
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/tick-29453770
    + create    Pod/default/tick-29453770-lhgxr  on a
    - delete    Job/default/tick-29453770  DEVIATES: CronJob/default/tick is due at 2026-01-01T00:20:00Z
    - stop      Pod/default/tick-29453770-lhgxr  on a  DEVIATES: CronJob/default/tick is due at 2026-01-01T00:20:00Z
    + create    Job/default/tick-29453780  DEVIATES: CronJob/default/tick is due at 2026-01-01T00:20:00Z
    + create    Pod/default/tick-29453780-cwpcl  on a  DEVIATES: Job/default/tick-29453780 wants 1 pods and has 0
    ");
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn allow_lets_jobs_run_side_by_side() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("tick".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("cron.yaml", &cron_job("tick", "*/10 * * * *", ""))]);
    cluster.pass(30 * MINUTE);
    assert_eq!(slots(&cluster), [10, 20, 30]);
    assert_eq!(cluster.pods().len(), 3);
}

#[test]
fn a_suspended_one_starts_nothing_and_goes_on_with_the_newest_slot() {
    let mut cluster = cluster("*/10 * * * *", "  suspend: true\n");
    cluster.pass(35 * MINUTE);
    assert!(slots(&cluster).is_empty());
    cluster.commit(&[("cron.yaml", &cron_job("tick", "*/10 * * * *", ""))]);
    cluster.settle();
    assert_eq!(slots(&cluster), [30]);
}

#[test]
fn a_changed_template_is_for_the_next_slot() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("tick".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("cron.yaml", &cron_job("tick", "*/10 * * * *", ""))]);
    cluster.pass(10 * MINUTE);
    let changed = cron_job("tick", "*/10 * * * *", "").replace("tick:1", "tick:2");
    cluster.commit(&[("cron.yaml", &changed)]);
    cluster.pass(10 * MINUTE);
    let pods = cluster.pods();
    let images: Vec<&str> =
        pods.iter().map(|pod| pod.template.containers[0].image.as_str()).collect();
    assert_eq!(images, ["tick:1", "tick:2"]);
}

#[test]
fn its_jobs_go_with_its_manifest_and_no_slot_runs_again_when_it_is_back() {
    let mut cluster = cluster("*/10 * * * *", "");
    cluster.commit(&[("other.yaml", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n")]);
    cluster.pass(20 * MINUTE);
    cluster.commit(&[("cron.yaml", "")]);
    cluster.settle();
    assert!(slots(&cluster).is_empty());
    assert!(cluster.pods().is_empty());
    cluster.commit(&[("cron.yaml", &cron_job("tick", "*/10 * * * *", ""))]);
    cluster.pass(MINUTE);
    assert!(slots(&cluster).is_empty(), "slot 20 ran before");
    cluster.pass(10 * MINUTE);
    assert_eq!(slots(&cluster), [30]);
}

#[test]
fn a_finished_job_goes_after_its_time_to_live() {
    let text = cron_job("tick", "0 * * * *", "")
        .replace("      template:\n", "      ttlSecondsAfterFinished: 60\n      template:\n");
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("cron.yaml", &text)]);
    cluster.pass(HOUR);
    assert_eq!(slots(&cluster), [60]);
    cluster.pass(2 * MINUTE);
    assert!(slots(&cluster).is_empty());
    assert!(cluster.pods().is_empty());
    cluster.pass(10 * MINUTE);
    assert!(slots(&cluster).is_empty(), "the slot is done with");
}

#[test]
fn slots_are_those_of_the_zone() {
    // Midnight UTC is one o'clock in Berlin.
    let mut cluster = cluster("0 2 * * *", "  timeZone: Europe/Berlin\n");
    cluster.pass(HOUR);
    assert_eq!(slots(&cluster), [60]);
    let world = cluster.world();
    let job = world.objects.values().find(|row| row.resource.key.kind == Kind::Job).unwrap();
    let slot = &job.resource.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(slot, "2026-01-01T02:00:00+01:00");
}
