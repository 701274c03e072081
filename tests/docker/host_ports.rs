//! Ports of the host that pods ask for: both protocols, one address or all of them, several containers of a pod, and
//! two pods that want the same one.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::load::enter;
use crate::own_engine::OwnEngine;
use crate::wait;

/// What is refused at once never takes this long.
const ANSWER: Duration = Duration::from_secs(3);
/// Until what a container listens on is seen through the host's port.
const SOON: Duration = Duration::from_secs(30);

/// NODE stands for the host's own address.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: both}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: first
    image: kgit-test/busybox:1
    command: [nc, -ll, -p, '8081', -e, echo, first]
    ports: [{containerPort: 8081, hostPort: 9001}]
  - name: second
    image: kgit-test/busybox:1
    command: [nc, -ll, -p, '8082', -e, echo, second]
    ports:
    - {containerPort: 8082, hostPort: 9002}
    - {containerPort: 5353, hostPort: 9001, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: inner}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: inner
    image: kgit-test/busybox:1
    command: [nc, -ll, -p, '8081', -e, echo, inner]
    ports: [{containerPort: 8081, hostPort: 9003, hostIP: 127.0.0.1}]
---
apiVersion: v1
kind: Pod
metadata: {name: outer}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: outer
    image: kgit-test/busybox:1
    command: [nc, -ll, -p, '8081', -e, echo, outer]
    ports: [{containerPort: 8081, hostPort: 9003, hostIP: NODE}]
";

const TWICE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: twice}
spec:
  replicas: 2
  strategy: {type: Recreate}
  selector: {matchLabels: {app: twice}}
  template:
    metadata: {labels: {app: twice}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: twice
        image: kgit-test/busybox:1
        command: [nc, -ll, -p, '8081', -e, echo, twice]
        ports: [{containerPort: 8081, hostPort: 9004}]
";

/// Does something in another network.
fn within<T: Send>(network: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(network);
            work()
        });
        thread.join().expect("it does not panic")
    })
}

/// Who answers there.
fn asked(network: &Path, at: &str) -> Option<String> {
    let at: SocketAddr = at.parse().expect("an address and a port");
    within(network, || {
        let mut stream = TcpStream::connect_timeout(&at, ANSWER).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said.trim().to_owned()).filter(|said| !said.is_empty())
    })
}

/// A port that is published answers before what it leads to listens: with an end.
fn until_asked(network: &Path, at: &str) -> Option<String> {
    wait::until_within(SOON, || asked(network, at))
}

/// Answers one datagram in a pod's network, and asks for it from another.
fn datagram(pod: &Path, from: &Path, at: &str) -> Option<String> {
    let server = within(pod, || UdpSocket::bind("0.0.0.0:5353").expect("nothing else has it"));
    server.set_read_timeout(Some(ANSWER)).expect("a time is set");
    let answers = std::thread::spawn(move || {
        let mut asked = [0; 64];
        let (length, asker) = server.recv_from(&mut asked).ok()?;
        server.send_to(&[b"heard ", &asked[..length]].concat(), asker).ok()
    });
    let said = within(from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.set_read_timeout(Some(ANSWER)).ok()?;
        socket.send_to(b"a word", at).ok()?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    });
    answers.join().expect("it does not panic");
    said
}

#[test]
fn ports_of_the_host_lead_to_the_containers_that_asked_for_them() {
    let Some(own) = OwnEngine::new("hostports", &["kgit-test/busybox:1"]) else { return };
    let node = own.hosts.address("one");
    let pods = PODS.replace("NODE", &node);
    let cluster = Cluster::up_on(&own.hosts, "one", &[("pods.yaml", &pods)]);
    for pod in ["both", "inner", "outer"] {
        cluster.until_ready(pod);
    }
    let (here, beside) = (own.hosts.network("one"), own.hosts.network("two"));
    for (network, at, expected) in [
        (&beside, format!("{node}:9001"), "first"),
        (&beside, format!("{node}:9002"), "second"),
        (&here, "127.0.0.1:9003".to_owned(), "inner"),
        (&beside, format!("{node}:9003"), "outer"),
    ] {
        assert_eq!(until_asked(network, &at).as_deref(), Some(expected), "{at}");
    }
    let of_pod = cluster.running("both").remove(0).at("/State/Pid").clone();
    let pod = Path::new("/proc").join(of_pod.to_string()).join("ns/net");
    let said = datagram(&pod, &beside, &format!("{node}:9001"));
    assert_eq!(said.as_deref(), Some("heard a word"), "the same number, the other protocol");
    two_of_one_rollout(&own, &cluster);
}

/// One runs, the other waits and says for what, and is the first to go.
fn two_of_one_rollout(own: &OwnEngine, cluster: &Cluster) {
    cluster.write("twice.yaml", TWICE);
    let message = cluster.until("one pod waits for the port", || {
        let running = cluster.running("twice-");
        let pods = cluster.objects("pods");
        let waiting = pods.iter().find(|pod| {
            let of_it = pod["metadata"]["labels"]["app"] == "twice";
            of_it && pod["status"]["phase"] == "Pending" && pod["spec"]["nodeName"].is_null()
        })?;
        let conditions = waiting["status"]["conditions"].as_array()?;
        let scheduled = conditions.iter().find(|it| it["type"] == "PodScheduled")?;
        let message = scheduled["message"].as_str()?.to_owned();
        (running.len() == 1 && scheduled["reason"] == "Unschedulable").then_some(message)
    });
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports"
    );
    let address = format!("{}:9004", own.hosts.address("one"));
    let beside = own.hosts.network("two");
    assert_eq!(until_asked(&beside, &address).as_deref(), Some("twice"));
    let first = cluster.running("twice-").remove(0);
    assert_eq!(first.at("/RestartCount"), 0);
    cluster.write("twice.yaml", &TWICE.replace("replicas: 2", "replicas: 1"));
    cluster.until("one pod is wanted and runs", || {
        let all = cluster.objects("pods");
        let of_it = all.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "twice");
        (of_it.count() == 1).then_some(())
    });
    assert_eq!(cluster.running("twice-")[0].life(), first.life(), "who has the port keeps it");
}
