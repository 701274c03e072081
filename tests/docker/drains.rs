//! A host is cleared for repairs, and the disruption budget says how fast.

use std::process::Child;

use crate::face::is_ready;
use crate::hosts::Hosts;
use crate::office::Office;
use crate::skip::not_tried;

/// Ready a while after its start, so that a hasty drain would be seen.
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: kgit-test/web:1
        command: [sh, -c, 'sleep 2; exec serve 8080']
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 3, selector: {matchLabels: {app: web}}}
";

const IMAGES: &[&str] = &["kgit-test/web:1"];

#[test]
fn a_drain_takes_no_more_pods_at_once_than_the_budget_allows() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("drains", &["office"], &["shop", "van"]));
    office.join("shop", IMAGES);
    office.join("van", IMAGES);
    office.repo.write("web.yaml", WEB);
    let commit = office.repo.commit("web");
    office.repo.push();
    office.face.until_done(&commit);
    assert_eq!(on(&office, "shop"), 2, "pods are spread over the hosts: {}", office.face.account());
    pods_move_one_by_one(&office);
    a_budget_that_allows_nothing_holds_the_drain(&office);
}

fn pods_move_one_by_one(office: &Office) {
    let mut drain = drained(office, "shop");
    let mut fewest = usize::MAX;
    office.face.until("the drain's end", || {
        fewest = fewest.min(ready(office));
        drain.try_wait().expect("it is our child")
    });
    let told = drain.wait_with_output().expect("it has ended");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("drained"), "{told}");
    assert!(fewest >= 3, "{fewest} pods were ready at one moment");
    assert_eq!(on(office, "shop"), 0);
    office.face.until("four on the other host", || (ready(office) == 4).then_some(()));
    let nodes = office.face.kubectl(&["get", "node", "shop", "--no-headers"]);
    assert!(nodes.out.contains("Ready,SchedulingDisabled"), "{nodes}");
    let uncordoned = office.face.kgit(&["node", "uncordon", "shop"]);
    assert_eq!(uncordoned.code, 0, "{uncordoned}");
}

fn a_budget_that_allows_nothing_holds_the_drain(office: &Office) {
    office.repo.edit("web.yaml", "minAvailable: 3", "minAvailable: 4").commit("none may go");
    office.repo.push();
    office.face.until("a budget of nothing", || {
        let budget = office.face.object("pdb", "web")?;
        (budget["status"]["disruptionsAllowed"] == 0).then_some(())
    });
    let mut drain = drained(office, "van");
    let wait = office.face.until("a wait for the budget", || {
        let status = office.face.status()?;
        let waits = status["waits"].as_array()?.clone();
        let held = |wait: &serde_json::Value| {
            let what = wait["for_what"].as_str().unwrap_or_default();
            wait["object"]["name"] == "van" && what.contains("PodDisruptionBudget/default/web")
        };
        waits.into_iter().find(held)
    });
    assert!(drain.try_wait().expect("it is our child").is_none(), "the drain waits: {wait}");
    assert_eq!((ready(office), on(office, "van")), (4, 4));
    let listed = office.face.kubectl(&["get", "pdb", "web", "--no-headers"]);
    let words: Vec<&str> = listed.out.split_whitespace().collect();
    assert_eq!(words[..4], ["web", "4", "N/A", "0"], "{listed}");
    office.repo.edit("web.yaml", "minAvailable: 4", "minAvailable: 3").commit("one at a time");
    office.repo.push();
    office.face.until("the drain goes on by itself, to its end", || {
        drain.try_wait().expect("it is our child")
    });
    assert_eq!(on(office, "van"), 0);
}

/// `kgit node drain`, which runs until the node is cleared.
fn drained(office: &Office, node: &str) -> Child {
    let mut command = office.face.command(env!("CARGO_BIN_EXE_kgit"));
    command.args(["node", "drain", node]).stderr(std::process::Stdio::piped());
    command.spawn().expect("kgit starts")
}

fn ready(office: &Office) -> usize {
    office.face.objects("pods").iter().filter(|pod| is_ready(pod)).count()
}

fn on(office: &Office, node: &str) -> usize {
    let pods = office.face.objects("pods");
    pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count()
}
