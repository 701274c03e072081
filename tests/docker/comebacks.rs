//! Hosts that the master does not know: one that joined after the backup that it was restored from,
//! and one that was taken out and comes back.

use crate::face::{is_ready, list};
use crate::hosts::Hosts;
use crate::office::Office;
use crate::process::kgit_on;
use crate::ran::Ran;
use crate::skip::not_tried;

/// Its pod may run on the second host alone.
const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: seat}
spec:
  serviceName: seat
  selector: {matchLabels: {app: seat}}
  template:
    metadata:
      labels: {app: seat}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {kubernetes.io/hostname: van}
      containers:
      - name: main
        image: kgit-test/web:1
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
";

const IMAGES: &[&str] = &["kgit-test/web:1"];

#[test]
fn hosts_that_the_master_does_not_know_are_let_in_or_end_what_they_run() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("comebacks", &["office"], &["shop", "van"]));
    office.join("shop", IMAGES);
    let backup = office.back_up();
    let van = office.join("van", IMAGES);
    office.repo.write("set.yaml", SET);
    let commit = office.repo.commit("a set");
    office.repo.push();
    office.face.until_done(&commit);

    a_restored_master_lets_it_in_and_starts_nothing_twice(&mut office, van, &backup);
    taken_out_it_ends_what_it_runs(&office, van);
    a_token_makes_it_a_member_again(&mut office, van);
    taken_out_again_it_can_leave(&mut office, van);
}

fn a_restored_master_lets_it_in_and_starts_nothing_twice(
    office: &mut Office,
    van: usize,
    backup: &std::path::Path,
) {
    let before = office.agents[van].running("seat-").remove(0);
    office.restore(backup);
    office.face.until("the van is in doubt", || {
        let doubts = office.face.status()?["doubts"].to_string();
        doubts.contains("node van runs 1 pod not in the backup").then_some(())
    });
    office.face.until("its pod waits for the van", || {
        let waits = office.face.status()?["waits"].to_string();
        (waits.contains("seat-0") && waits.contains("node `van`")).then_some(())
    });
    let running = office.agents[van].running("seat-");
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].life(), before.life(), "nothing was stopped or started");

    let approved = office.face.kgit(&["approve", "restored"]);
    assert_eq!(approved.code, 0, "{approved}");
    office.face.until("the set's own pod runs", || {
        let pod = office.face.object("pods", "seat-0").filter(is_ready)?;
        (pod["spec"]["nodeName"] == "van").then_some(())
    });
    let running = office.agents[van].running("seat-");
    assert_eq!(running.len(), 1, "the one that nobody knew was stopped");
    assert_ne!(running[0].life(), before.life());
    assert_eq!(office.face.kgit(&["diff"]).code, 0);
}

fn take_out(office: &Office) {
    office.hosts.cut("van");
    office.face.until("the van is missed", || {
        let removed = office.face.kgit(&["node", "remove", "van"]);
        (removed.code == 0).then_some(())
    });
    office.hosts.heal("van");
}

fn taken_out_it_ends_what_it_runs(office: &Office, van: usize) {
    assert_eq!(office.agents[van].running("seat-").len(), 1);
    let volumes = office.agents[van].engine.docker(&["volume", "ls", "-q"]);
    take_out(office);
    office.face.until("nothing runs on the van", || {
        office.agents[van].running("seat-").is_empty().then_some(())
    });
    assert_eq!(office.agents[van].engine.docker(&["volume", "ls", "-q"]), volumes, "data stays");
    office.face.until("the agent says what to do", || {
        let log = office.agents[van].process.log();
        log.contains("was taken out of the cluster").then_some(())
    });
    let nodes = office.face.status().expect("the master answers");
    assert_eq!(list(&nodes["nodes"]).len(), 1);
    assert_eq!(nodes["restored"], false, "the master knows who this was");
}

fn a_token_makes_it_a_member_again(office: &mut Office, van: usize) {
    let token = office.token("van");
    office.restart_agent(van, "van", &token);
    let pruned = office.face.until("the lost claim is known", || {
        let pruned =
            office.face.kgit(&["prune", "PersistentVolumeClaim/default/data-seat-0", "--yes"]);
        (pruned.code == 0).then_some(pruned)
    });
    office.face.until("its pod runs there again", || {
        office.face.object("pods", "seat-0").filter(is_ready).map(drop)
    });
    assert_eq!(office.agents[van].running("seat-").len(), 1, "{pruned}");
    let status = office.face.status().expect("the master answers");
    assert_eq!(status["restored"], false);
}

fn taken_out_again_it_can_leave(office: &mut Office, van: usize) {
    take_out(office);
    let agent = office.agents.remove(van);
    agent.process.terminate();
    let mut leave = kgit_on(&office.hosts, "van");
    leave.args(["agent", "leave", "--purge", "--data"]).arg(office.agent_data("van"));
    let left = Ran::of(&mut leave);
    assert_eq!(left.code, 0, "{left}");
    assert_eq!(agent.engine.docker(&["ps", "-aq"]), "");
    assert_eq!(agent.engine.docker(&["volume", "ls", "-q"]), "");
    assert!(!office.agent_data("van").exists());
}
