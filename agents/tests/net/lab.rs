//! A host with a bridge and pods on it, and another host outside, each a network namespace; on the
//! host a real `net`, fed by hand. The machine's own network is never touched.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kgit_agent::net::feeder;
use kgit_agent::net::wire::{Answer, Applied, Feed, Here, Order, Wire};
use kgit_protocol::directory::{Directory, ListedService, Service, ServiceName};
use kgit_protocol::ids::Digest;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// Generous: a loaded machine must not fail what is right.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What is refused at once never takes this long.
const ANSWER: Duration = Duration::from_secs(3);

pub const HOST: &str = "host";
pub const OUTSIDE: &str = "outside";
pub const GATEWAY: &str = "10.40.1.1";
pub const NODE: &str = "10.210.0.1";

pub struct Lab {
    name: String,
    dir: tempfile::TempDir,
    net: Option<Child>,
    wire: Option<Wire>,
    number: u64,
    pub here: Here,
    pub directory: Directory,
    /// The user that `net` runs as, if not root.
    pub user: Option<u32>,
    /// The second of two on one host takes other addresses.
    pub owns_host: bool,
}

/// The address of a pod by its last number.
pub fn pod(last: u8) -> String {
    format!("10.40.1.{last}")
}

impl Lab {
    /// `None`, and said so, where there is no root or no `nft`.
    pub fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !kgit_agent::net::kernel::is_installed("nft") {
            crate::skip::not_tried("network namespaces need root, and rules need nft");
            return None;
        }
        let lab = Self {
            name: name.to_owned(),
            dir: tempfile::tempdir().unwrap(),
            net: None,
            wire: None,
            number: 0,
            here: here("kgit_1_2", "kgit-br"),
            directory: directory(),
            user: None,
            owns_host: true,
        };
        lab.sweep();
        lab.build();
        Some(lab)
    }

    /// Another `net` of another cluster on the same host, without a bridge of its own.
    pub fn beside(&self) -> Self {
        let mut here = here("kgit_3_4", "kgit-b2");
        here.gateway = "10.40.2.1".parse().unwrap();
        here.pod_range = "10.40.2.0/24".parse().unwrap();
        let mut directory = directory();
        directory.service_range = "10.97.0.0/16".parse().unwrap();
        self.sh(HOST, "ip link add kgit-b2 type bridge; ip link set kgit-b2 up; ip addr add 10.40.2.1/24 dev kgit-b2");
        Self {
            name: self.name.clone(),
            dir: tempfile::tempdir().unwrap(),
            net: None,
            wire: None,
            number: 0,
            here,
            directory,
            user: None,
            owns_host: false,
        }
    }

    fn space(&self, place: &str) -> String {
        format!("kgn-{}-{place}", self.name)
    }

    fn build(&self) {
        for place in [HOST, OUTSIDE, "p5", "p6"] {
            sh(&format!("ip netns add {0}; ip -n {0} link set lo up", self.space(place)));
        }
        let host = self.space(HOST);
        sh(&format!(
            "ip -n {host} link add kgit-br type bridge; ip -n {host} link set kgit-br up
             ip -n {host} addr add {GATEWAY}/24 dev kgit-br
             ip -n {host} link add eth0 type veth peer name eth0 netns {out}
             ip -n {host} link set eth0 up; ip -n {host} addr add {NODE}/24 dev eth0
             ip -n {out} link set eth0 up; ip -n {out} addr add 10.210.0.2/24 dev eth0
             ip -n {host} route add default via 10.210.0.2",
            out = self.space(OUTSIDE)
        ));
        for last in [5, 6] {
            let pod = self.space(&format!("p{last}"));
            sh(&format!(
                "ip -n {host} link add v{last} type veth peer name eth0 netns {pod}
                 ip -n {host} link set v{last} master kgit-br up
                 ip -n {pod} link set eth0 up; ip -n {pod} addr add 10.40.1.{last}/24 dev eth0
                 ip -n {pod} route add default via {GATEWAY}"
            ));
        }
        self.sh(HOST, "echo 1 >/proc/sys/net/ipv4/ip_forward");
    }

    fn sweep(&self) {
        for place in [HOST, OUTSIDE, "p5", "p6"] {
            // Of a test that was killed.
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.space(place)])
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Whether what crosses the bridge passes the rules, as older engines have it.
    pub fn filter_bridge(&self, on: bool) {
        let value = u8::from(on);
        self.sh(HOST, &format!("echo {value} >/proc/sys/net/bridge/bridge-nf-call-iptables"));
    }

    /// The file that stands for a place's network.
    pub fn network(&self, place: &str) -> PathBuf {
        PathBuf::from("/var/run/netns").join(self.space(place))
    }

    /// Runs a script in a place; what it says.
    pub fn sh(&self, place: &str, script: &str) -> String {
        sh(&format!("exec nsenter --net=/var/run/netns/{} sh -c '{script}'", self.space(place)))
    }

    /// Runs something in a place's network.
    pub fn within<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let space = File::open(self.network(place)).unwrap();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// A server that says its name and whom it talks to, until the test ends.
    pub fn serve(&self, place: &str, port: u16, name: &'static str) {
        self.serve_at(place, Ipv4Addr::UNSPECIFIED, port, name);
    }

    pub fn serve_at(&self, place: &str, at: Ipv4Addr, port: u16, name: &'static str) {
        let listener = self.within(place, move || TcpListener::bind((at, port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = write!(stream, "{name} {}", stream.peer_addr().unwrap().ip());
            }
        });
    }

    pub fn serve_datagrams(&self, place: &str, port: u16, name: &'static str) {
        let socket = self.within(place, move || UdpSocket::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    }

    /// What a server at an address says to a place.
    pub fn ask(&self, place: &str, address: &str, port: u16) -> Result<String, ErrorKind> {
        let at = SocketAddrV4::new(address.parse().unwrap(), port);
        self.within(place, move || say(at.into()))
    }

    /// The same over datagrams from one socket.
    pub fn datagram(&self, place: &str, address: &str, port: u16) -> Result<String, ErrorKind> {
        let socket = self.within(place, || UdpSocket::bind("0.0.0.0:0").unwrap());
        exchange(&socket, address, port)
    }

    pub fn until(&self, what: &str, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < PATIENCE, "never {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data().join("net.log")).unwrap_or_default()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Puts a service into the directory.
    pub fn list(&mut self, name: &str, service: Value) {
        let service: Service = serde_json::from_value(service).unwrap();
        let listed = ListedService { digest: service.digest(), service };
        self.directory.services.insert(ServiceName::new("default", name), listed);
        self.directory.digest = self.directory.content_digest();
    }

    /// Says how a pod is, by the last number of its address.
    pub fn pod(&mut self, last: u8, ready: bool, terminating: bool) {
        let pod = json!({ "address": pod(last), "ready": ready, "terminating": terminating });
        self.here.pods.insert(uid(last).as_str().into(), serde_json::from_value(pod).unwrap());
    }

    /// Starts `net`; upstream names are asked of the host outside.
    pub fn start(&mut self) {
        self.net = Some(self.spawn());
    }

    pub fn spawn(&self) -> Child {
        let resolv = self.data().join("resolv.conf");
        std::fs::write(&resolv, "nameserver 10.210.0.2\n").unwrap();
        let log = File::options().create(true).append(true).open(self.data().join("net.log"));
        let log = log.unwrap();
        let mut run = format!(
            "exec {} net --data {}",
            env!("CARGO_BIN_EXE_kgit-agent"),
            self.data().display()
        );
        if let Some(user) = self.user {
            std::os::unix::fs::chown(self.data(), Some(user), Some(user)).unwrap();
            run = format!(
                "exec setpriv --reuid {user} --regid {user} --clear-groups --inh-caps=-all {}",
                &run["exec ".len()..]
            );
        }
        let script = format!("mount --bind {} /etc/resolv.conf && {run}", resolv.display());
        Command::new("nsenter")
            .arg(format!("--net=/var/run/netns/{}", self.space(HOST)))
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub fn kill(&mut self) {
        self.wire = None;
        if let Some(mut net) = self.net.take() {
            net.kill().unwrap();
            net.wait().unwrap();
        }
    }

    /// Has everything taken away from the host, by `net` where it lives.
    pub fn remove(&self) {
        let dir = self.data();
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(feeder::remove(&dir))
        };
        self.within(HOST, remove).unwrap();
    }

    /// Waits for the end of a `net` that was told to end.
    pub fn ended(&mut self) {
        self.wire = None;
        let mut net = self.net.take().unwrap();
        self.ends(&mut net);
    }

    /// Waits until a process ended well.
    pub fn ends(&self, net: &mut Child) {
        let begun = Instant::now();
        loop {
            if let Some(status) = net.try_wait().unwrap() {
                return assert!(status.success(), "{status}\n{}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "it never ended\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn replace(&mut self, net: Child) -> Option<Child> {
        self.wire = None;
        self.net.replace(net)
    }

    async fn connect(&self) -> Wire {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.data().join("net.sock")).await {
                let mut wire = Wire::new(stream);
                if let Ok(Some(Answer::Hello { .. })) = wire.next().await {
                    return wire;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "net never answered\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Feeds what the lab knows; what came of it.
    pub async fn feed(&mut self) -> Applied {
        self.number += 1;
        let number = self.number;
        let (directory, here) = (Some(self.directory.clone()), self.here.clone());
        let feed = Order::Feed(Box::new(Feed { number, directory, here }));
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect().await,
        };
        wire.send(&feed).await.unwrap();
        let applied = loop {
            match wire.next().await.unwrap() {
                Some(Answer::Applied(applied)) if applied.number == number => break applied,
                Some(_) => {}
                None => panic!("net hung up\n{}", self.log()),
            }
        };
        self.wire = Some(wire);
        applied
    }

    /// Starts, and feeds without any complaint.
    pub async fn begin(&mut self) {
        self.start();
        let applied = self.feed().await;
        assert_eq!((applied.rules, applied.names), (None, None), "{}", self.log());
        let host = Instant::now();
        // The route to services comes right after the answer.
        while !self.sh(HOST, "ip route").contains(&self.directory.service_range.to_string()) {
            assert!(host.elapsed() < PATIENCE, "no route\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.kill();
        if self.owns_host {
            self.sweep();
        }
    }
}

pub fn uid(last: u8) -> String {
    format!("pod-{last}")
}

/// An endpoint that is a pod of the node.
pub fn endpoint(last: u8, port: u16) -> Value {
    json!({
        "address": pod(last), "node": "one", "pod": uid(last), "targets": [port],
        "ready": true, "serving": true,
    })
}

/// A service on port 80 of an address, with pods that listen on 8080.
pub fn service(address: &str, pods: &[u8]) -> Value {
    let endpoints: Vec<Value> = pods.iter().map(|last| endpoint(*last, 8080)).collect();
    json!({
        "address": { "Cluster": address },
        "ports": [{ "name": "http", "port": 80 }],
        "backend": { "Endpoints": endpoints },
    })
}

fn here(table: &str, bridge: &str) -> Here {
    serde_json::from_value(json!({
        "table": table, "node": "one", "bridge": bridge, "gateway": GATEWAY,
        "pod_range": "10.40.1.0/24", "master": "127.0.0.1:7443", "pods": {},
    }))
    .unwrap()
}

fn directory() -> Directory {
    let mut directory = Directory {
        digest: Digest::new(""),
        domain: "cluster.local".to_owned(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        services: Default::default(),
    };
    directory.digest = directory.content_digest();
    directory
}

pub fn say(at: SocketAddr) -> Result<String, ErrorKind> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(|error| error.kind())?;
    Ok(said)
}

pub fn exchange(socket: &UdpSocket, address: &str, port: u16) -> Result<String, ErrorKind> {
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    // Connected, so that a refusal is heard.
    socket.connect((address, port)).map_err(|error| error.kind())?;
    socket.send(b"?").map_err(|error| error.kind())?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What stands in a host's kernel, for comparing before and after.
pub fn standing(lab: &Lab) -> String {
    let routes = lab.sh(HOST, "ip route | sort");
    let rules = lab.sh(HOST, "nft list tables | grep kgit || true");
    let filters = lab.sh(HOST, "iptables -S | grep KGIT || true");
    format!("{routes}{rules}{filters}")
}
