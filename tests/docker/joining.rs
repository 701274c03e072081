//! A master on one host, agents behind a NAT router on others, and a `git push` at the master's.

use crate::face::{condition, list};
use crate::hosts::Hosts;
use crate::office::{Office, listening, reaches};
use crate::process::kgit_on;
use crate::skip::not_tried;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: shop}
      containers:
      - name: web
        image: kgit-test/web:1
        command: [sh, -c, 'echo open for business; exec serve 8080']
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
";

/// What has its data on the second host.
const KEEPER: &str = "
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: keeper}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  nodeSelector: {kubernetes.io/hostname: van}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: kgit-test/web:1
    command: [sh, -c, 'echo kept >/data/it; exec serve 8080']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: keeper}}]
";

const GREEDY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec:
  containers:
  - {name: p, image: 'kgit-test/web:1', securityContext: {privileged: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: root-of-the-host}
spec:
  containers:
  - name: p
    image: kgit-test/web:1
    volumeMounts: [{name: host, mountPath: /host}]
  volumes: [{name: host, hostPath: {path: /}}]
";

const IMAGES: &[&str] = &["kgit-test/web:1", "kgit-test/web:2"];

#[test]
fn a_push_at_the_masters_deploys_behind_nat_and_survives_a_cut_cable() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("join", &["office"], &["shop", "van"]));
    let shop = office.join("shop", IMAGES);
    deploys_and_logs(&office, shop);
    nothing_listens_for_the_master(&office);
    the_node_refuses_what_would_make_a_pusher_root(&office, shop);
    a_cut_host_goes_on_and_catches_up(&office, shop);
    a_second_host_takes_its_share(&mut office, shop);
    a_host_leaves_for_good(&mut office);
}

fn deploys_and_logs(office: &Office, shop: usize) {
    office.repo.write("web.yaml", WEB);
    let commit = office.repo.commit("web");
    office.repo.push();
    office.face.until_done(&commit);
    let web = office.agents[shop].running("web-");
    assert_eq!(web.len(), 1, "{}", office.face.account());
    assert_eq!(web[0].label("node"), "shop");
    let log = office.face.kubectl(&["logs", web[0].label("pod")]);
    assert_eq!(log.out, "open for business\n", "logs come through the router: {log}");
}

fn nothing_listens_for_the_master(office: &Office) {
    for port in listening(&office.hosts, "shop") {
        assert!(!reaches(&office.hosts, "office", "shop", port), "port {port} can be reached");
    }
    let master = listening(&office.hosts, "office");
    assert!(master.contains(&7443), "the master listens, so this looks in the right place");
    assert!(reaches(&office.hosts, "shop", "office", 7443), "and the agent's side reaches out");
}

fn the_node_refuses_what_would_make_a_pusher_root(office: &Office, shop: usize) {
    office.repo.write("greedy.yaml", GREEDY).commit("more than a node allows");
    office.repo.push();
    for (pod, field) in [("privileged", "privileged"), ("root-of-the-host", "hostPath /")] {
        let refused = office.face.until(&format!("{pod} is refused"), || {
            let pod = office.face.object("pods", pod)?;
            let message = pod["status"]["message"].as_str()?.to_owned();
            message.contains("does not allow").then_some((pod, message))
        });
        assert!(refused.1.contains(field), "{}", refused.1);
        assert_ne!(condition(&refused.0, "Ready"), Some("True"));
        let described = office.face.kubectl(&["describe", "pod", pod]);
        assert!(described.out.contains("does not allow"), "kubectl shows why: {described}");
    }
    assert!(office.agents[shop].running("privileged").is_empty());
    assert!(office.agents[shop].running("root-of").is_empty());
    office.repo.remove("greedy.yaml");
    let commit = office.repo.commit("modest again");
    office.repo.push();
    office.face.until_done(&commit);
}

fn a_cut_host_goes_on_and_catches_up(office: &Office, shop: usize) {
    let before = office.agents[shop].running("web-").remove(0);
    office.hosts.cut("shop");
    office.repo.edit("web.yaml", "kgit-test/web:1", "kgit-test/web:2").commit("web 2");
    office.repo.push();
    office.face.until("the master knows of the commit and waits", || {
        office.face.object("deployments", "web").filter(|web| web["status"]["updatedReplicas"] == 1)
    });
    let cut_off = office.agents[shop].running("web-");
    assert_eq!(cut_off.len(), 1);
    assert_eq!(cut_off[0].life(), before.life(), "a pulled cable ends nothing");
    office.hosts.heal("shop");
    office.face.until("the new image runs", || {
        let running = office.agents[shop].running("web-");
        (running.len() == 1 && running[0].text("/Config/Image") == "kgit-test/web:2").then_some(())
    });
    office.face.until_done(&office.repo.head());
    assert_eq!(office.face.kgit(&["diff"]).code, 0);
}

fn a_second_host_takes_its_share(office: &mut Office, shop: usize) {
    let before = office.agents[shop].running("web-").remove(0);
    let van = office.join("van", IMAGES);
    let second = WEB.replace("name: web}", "name: van}").replace("app: web", "app: van");
    let second = second.replace("hostname: shop", "hostname: van");
    office.repo.write("van.yaml", second + KEEPER);
    let commit = office.repo.commit("a second one");
    office.repo.push();
    office.face.until_done(&commit);
    assert_eq!(office.agents[van].running("van-").len(), 1);
    assert_eq!(office.agents[shop].running("web-").remove(0).life(), before.life());
    let nodes = office.face.objects("nodes");
    assert_eq!(nodes.len(), 2);
    let token = office.face.kgit(&["token", "list", "-o", "json"]);
    assert_eq!(token.code, 0, "{token}");
}

fn a_host_leaves_for_good(office: &mut Office) {
    let van = office.agents.pop().expect("the van joined last");
    office.repo.remove("van.yaml");
    let commit = office.repo.commit("no van");
    office.repo.push();
    office.face.until_done(&commit);
    van.process.terminate();
    // Its directory knows the master and the engine.
    let mut leave = kgit_on(&office.hosts, "van");
    leave.args(["agent", "leave", "--data"]).arg(office.agent_data("van"));
    let left = crate::ran::Ran::of(&mut leave);
    assert_eq!(left.code, 0, "{left}");
    assert!(left.err.contains("data stays here in 1 volumes"), "{left}");
    office.face.until("the master has forgotten it", || {
        let status = office.face.status()?;
        (list(&status["nodes"]).len() == 1).then_some(())
    });
    let remains = van.engine.docker(&["ps", "-aq"]);
    assert_eq!(remains, "", "nothing runs on the host any more");
    let volumes = van.engine.docker(&["volume", "ls", "-q"]);
    assert_eq!(volumes.lines().count(), 1, "data stays until somebody removes it: {volumes}");
    assert!(!office.agent_data("van").exists());
}
