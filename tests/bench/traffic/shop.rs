//! A host with an engine and `kgit up`, a pod that serves, and the same by Docker's own means beside it.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::hosts::Hosts;
use crate::net_process;
use crate::process::kgit_at;

const IMAGE: &str = "kgit-test/polite:1";
const PATIENCE: Duration = Duration::from_secs(180);
const HOST: &str = "one";

pub struct Shop {
    pub hosts: Hosts,
    dir: tempfile::TempDir,
    process: Child,
}

/// A service of Swarm's with one task.
pub struct Swarm {
    /// The network of a container that may reach it.
    pub network: PathBuf,
    pub task: SocketAddrV4,
    pub vip: SocketAddrV4,
    pub ingress: SocketAddrV4,
}

impl Shop {
    /// `None` where there is no root or no engine with the image.
    pub fn open(set: &str) -> Option<Self> {
        let has_image = std::process::Command::new("docker")
            .args(["image", "inspect", IMAGE])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !rustix::process::geteuid().is_root() || !has_image.is_ok_and(|it| it.success()) {
            return None;
        }
        let hosts = Hosts::new(set, &[HOST, "two"], &[]);
        let socket = hosts.engine(HOST);
        hosts.load(HOST, &[IMAGE]);
        let dir = tempfile::Builder::new().prefix("kgit-bench").tempdir_in("/var/tmp").unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        std::fs::write(dir.path().join("source/web.yaml"), WEB).unwrap();
        let process = kgit_at(&hosts, HOST)
            .args(["up", "--listen", "127.0.0.1:0", "--docker"])
            .arg(&socket)
            .arg("--data")
            .arg(dir.path().join("data"))
            .arg(dir.path().join("source"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kgit starts");
        let shop = Self { hosts, dir, process };
        shop.until(|shop| shop.answers(shop.try_service_address()?));
        Some(shop)
    }

    fn until<T>(&self, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "what is waited for never comes");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&self, host: &str, program: &str, arguments: &[&str]) -> Option<String> {
        let output = self.hosts.command(host, program).args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let ran = self.run(HOST, "docker", arguments);
        ran.unwrap_or_else(|| panic!("docker {arguments:?} fails"))
    }

    fn kgit(&self, arguments: &[&str]) -> Option<serde_json::Value> {
        let mut command = kgit_at(&self.hosts, HOST);
        command.args(arguments).args(["-o", "json", "--kubeconfig"]);
        let output = command.arg(self.dir.path().join("data/kubeconfig")).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn answers(&self, address: SocketAddrV4) -> Option<()> {
        let url = format!("http://{address}/");
        self.run(HOST, "curl", &["-sf", "--max-time", "2", &url]).map(drop)
    }

    fn try_service_address(&self) -> Option<SocketAddrV4> {
        let service = self.kgit(&["get", "service", "web"])?;
        format!("{}:80", service["spec"]["clusterIP"].as_str()?).parse().ok()
    }

    pub fn service_address(&self) -> SocketAddrV4 {
        self.try_service_address().expect("the service has an address")
    }

    fn pod(&self) -> String {
        self.docker(&["ps", "-q", "--filter", "label=dev.kgit.container=web"])
    }

    pub fn pod_network(&self) -> PathBuf {
        self.network_of(&self.pod())
    }

    fn network_of(&self, container: &str) -> PathBuf {
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
        PathBuf::from(format!("/proc/{pid}/ns/net"))
    }

    /// Of the other pod, which is asked from the first one's network.
    pub fn pod_address(&self) -> SocketAddrV4 {
        let pod = self.kgit(&["get", "pod", "server"]).expect("the pod is there");
        let address = pod["status"]["podIP"].as_str().expect("it has an address");
        format!("{address}:8080").parse().unwrap()
    }

    /// The same server with its port published by Docker, asked from outside.
    pub fn published(&self) -> SocketAddrV4 {
        self.docker(&["run", "-d", "--name", "published", "-p", "8090:8080", IMAGE]);
        let address: SocketAddrV4 = format!("{}:8090", self.hosts.address(HOST)).parse().unwrap();
        self.until(|shop| shop.answers(address));
        address
    }

    /// `None` where the kernel has not got what Swarm balances with.
    pub fn swarm(&self) -> Option<Swarm> {
        if !Path::new("/proc/net/ip_vs").exists() {
            println!(
                "Swarm: not compared, since its balancing needs IPVS and this kernel has none"
            );
            return None;
        }
        let host = self.hosts.address(HOST);
        self.run(HOST, "docker", &["swarm", "init", "--advertise-addr", &host])?;
        self.docker(&["network", "create", "-d", "overlay", "--attachable", "bench"]);
        let create = ["service", "create", "-d", "--name", "swarmed", "--network", "bench"];
        let more = ["-p", "8091:8080", "--no-resolve-image", IMAGE];
        self.docker(&[&create[..], &more].concat());
        let asker = self.docker(&["run", "-d", "--network", "bench", IMAGE]);
        let ingress = format!("{host}:8091").parse().unwrap();
        self.until(|shop| shop.answers(ingress));
        let network = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}}={{.Addr}} {{end}}";
        let addresses = self.docker(&["service", "inspect", "-f", network, "swarmed"]);
        let id = self.docker(&["network", "inspect", "-f", "{{.Id}}", "bench"]);
        let vip = addresses.split(' ').find_map(|pair| pair.strip_prefix(&format!("{id}=")))?;
        let label = "label=com.docker.swarm.service.name=swarmed";
        let task = self.docker(&["ps", "-q", "--filter", label]);
        let own = "{{.NetworkSettings.Networks.bench.IPAddress}}";
        let task = self.docker(&["inspect", "-f", own, &task]);
        Some(Swarm {
            network: self.network_of(&asker),
            task: format!("{task}:8080").parse().unwrap(),
            vip: format!("{}:8080", vip.split('/').next()?).parse().unwrap(),
            ingress,
        })
    }

    /// Has so many services with five endpoints each; the seconds until the last one answers.
    pub fn services(&mut self, count: usize) -> f64 {
        let mut manifests = String::from(FIVE);
        for number in 0..count {
            manifests.push_str(&format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec:\n  \
                 selector: {{app: five}}\n  ports: [{{port: 80, targetPort: 8080}}]\n"
            ));
        }
        let file = self.dir.path().join("source/many.yaml");
        std::fs::write(&file, FIVE).unwrap();
        let five = |shop: &Self| {
            let filter = "label=dev.kgit.container=five";
            (shop.docker(&["ps", "-q", "--filter", filter]).lines().count() == 5).then_some(())
        };
        self.until(five);
        let before = Instant::now();
        std::fs::write(&file, manifests).unwrap();
        let last = format!("s{}", count - 1);
        self.until(|shop| {
            let service = shop.kgit(&["get", "service", &last])?;
            let address = format!("{}:80", service["spec"]["clusterIP"].as_str()?);
            shop.answers(address.parse().ok()?)
        });
        before.elapsed().as_secs_f64()
    }

    /// Resident, of the process that carries traffic.
    pub fn net_megabytes(&self) -> f64 {
        let net = net_process::find(&self.dir.path().join("data/agent")).expect("net runs");
        let status = std::fs::read_to_string(format!("/proc/{net}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let mut down = kgit_at(&self.hosts, HOST);
        down.args(["down", "--purge", "--yes"]);
        let _ = down.arg("--data").arg(self.dir.path().join("data")).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const WEB: &str = "apiVersion: v1
kind: Pod
metadata: {name: asker}
spec: {containers: [{name: web, image: 'kgit-test/polite:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {containers: [{name: server, image: 'kgit-test/polite:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: server}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

const FIVE: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: five}
spec:
  replicas: 5
  selector: {matchLabels: {app: five}}
  template:
    metadata: {labels: {app: five}}
    spec: {containers: [{name: five, image: 'kgit-test/polite:1'}]}
";
