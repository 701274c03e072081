//! Exec beside `docker exec`, and port-forward beside a published port: how soon the first byte
//! comes, and how fast many do. Both sides are processes of their own, as people start them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{kgit, ready_nodes, wait_until};
use crate::skip::not_tried;
use crate::{Size, median};

const IMAGE: &str = "kgit-test/busybox:1";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn exec_and_port_forward_against_the_engines_own() {
    let (mebibytes, rounds) = match Size::chosen() {
        Size::Smoke => (4, 1),
        Size::Full => (256, 15),
    };
    if !run("docker", &["image", "inspect", IMAGE]) {
        return not_tried("no Docker engine with the test images (tests/run docker makes them)");
    }
    let bench = Bench::start(mebibytes);
    let forwarded = bench.forward();
    let published = bench.publish(mebibytes);
    let mut seen = Seen::default();
    for _ in 0..rounds {
        seen.exec_first.push([bench.kgit_exec("echo a"), bench.docker_exec("echo a")]);
        let cat = "cat /www/big";
        seen.exec_all.push([bench.kgit_exec(cat), bench.docker_exec(cat)]);
        let ((first, all), (first_there, all_there)) = (get(forwarded.1), get(published.1));
        seen.port_first.push([first, first_there]);
        seen.port_all.push([all, all_there]);
    }
    seen.print(mebibytes);
}

/// Seconds of each round: kgit's and the other's.
#[derive(Default)]
struct Seen {
    exec_first: Vec<[Duration; 2]>,
    exec_all: Vec<[Duration; 2]>,
    port_first: Vec<[Duration; 2]>,
    port_all: Vec<[Duration; 2]>,
}

impl Seen {
    fn print(&self, mebibytes: usize) {
        let middle = |rounds: &[[Duration; 2]], side: usize| {
            median(rounds.iter().map(|round| round[side].as_secs_f64()).collect())
        };
        let rows = [
            ("exec, one line", "docker exec", &self.exec_first),
            ("exec, all", "docker exec", &self.exec_all),
            ("port-forward, first byte", "a published port", &self.port_first),
            ("port-forward, all", "a published port", &self.port_all),
        ];
        for (what, beside, rounds) in rows {
            let (ours, theirs) = (middle(rounds, 0), middle(rounds, 1));
            println!(
                "{what} ({mebibytes} MiB): kgit {:.1} ms, {beside} {:.1} ms: {:.2} ×",
                ours * 1e3,
                theirs * 1e3,
                ours / theirs
            );
        }
    }
}

/// `kgit up` with one pod that serves a file.
struct Bench {
    dir: tempfile::TempDir,
    process: Child,
    container: String,
}

/// Ended when dropped.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container, removed when dropped.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        run("docker", &["rm", "-f", &self.0]);
    }
}

fn script(mebibytes: usize) -> String {
    format!(
        "mkdir -p /www && head -c {} /dev/urandom >/www/big && touch /ready; \
         httpd -p 8080 -h /www; sleep 100000",
        mebibytes << 20
    )
}

impl Bench {
    fn start(mebibytes: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("kgit-bench").tempdir_in("/var/tmp").unwrap();
        std::fs::create_dir(dir.path().join("repo")).unwrap();
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  \
             terminationGracePeriodSeconds: 0\n  containers:\n  - name: web\n    image: {IMAGE}\n    \
             command: [sh, -c, '{}']\n    \
             readinessProbe: {{exec: {{command: [test, -f, /ready]}}, periodSeconds: 1}}\n",
            script(mebibytes)
        );
        std::fs::write(dir.path().join("repo/web.yaml"), manifest).unwrap();
        let process = kgit()
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path().join("data"))
            .arg(dir.path().join("repo"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kgit starts");
        let mut bench = Self { dir, process, container: String::new() };
        wait_until(&bench.data(), |status| ready_nodes(status) > 0);
        bench.container = bench.until_ready();
        bench
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn kgit(&self, arguments: &[&str]) -> Command {
        let mut command = kgit();
        command.env("KUBECONFIG", self.data().join("kubeconfig")).args(arguments);
        command
    }

    /// The container's id, once the pod is ready.
    fn until_ready(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.kgit(&["get", "pod", "web", "-o", "json"]).output().unwrap();
            let pod: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &pod["status"]["containerStatuses"][0];
            if status["ready"] == true {
                let id = status["containerID"].as_str().expect("a container has an id");
                return id.rsplit('/').next().unwrap_or(id).to_owned();
            }
            assert!(Instant::now() < deadline, "the pod does not get ready: {pod:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kgit_exec(&self, script: &str) -> Duration {
        took(self.kgit(&["exec", "web", "--", "sh", "-c", script]))
    }

    fn docker_exec(&self, script: &str) -> Duration {
        let mut command = Command::new("docker");
        command.args(["exec", &self.container, "sh", "-c", script]);
        took(command)
    }

    /// A port-forward, and its local port.
    fn forward(&self) -> (Ends, u16) {
        let mut command = self.kgit(&["port-forward", "web", ":8080"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("kgit starts");
        let mut lines = BufReader::new(child.stdout.take().expect("an output")).lines();
        let first = lines.next().expect("a first line").expect("a line");
        let (_, port) = first.split(" -> ").next().unwrap().rsplit_once(':').expect("a port");
        let port = port.parse().expect("a number");
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        (Ends(child), port)
    }

    /// The same file in a container whose port the engine publishes.
    fn publish(&self, mebibytes: usize) -> (Removed, u16) {
        let run = ["run", "-d", "-p", "127.0.0.1::8080", IMAGE, "sh", "-c", &script(mebibytes)];
        let removed = Removed(output("docker", &run));
        let deadline = Instant::now() + PATIENCE;
        while !run_in(&removed.0) {
            assert!(Instant::now() < deadline, "the file does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        let shown = output("docker", &["port", &removed.0, "8080"]);
        let (_, port) = shown.rsplit_once(':').expect("a port");
        let port = port.parse().expect("a number");
        (removed, port)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // `down` ends the process by itself; it may have ended already.
        let _ = kgit().args(["down", "--purge", "--yes", "--data"]).arg(self.data()).status();
        let _ = self.process.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run_in(container: &str) -> bool {
    run("docker", &["exec", container, "sh", "-c", "test -f /ready && sleep 0.5"])
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// From its start until it has ended and all that it wrote was read.
fn took(mut command: Command) -> Duration {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program is there");
    let mut out = child.stdout.take().expect("an output");
    let mut piece = vec![0; 1 << 16];
    while out.read(&mut piece).expect("readable") > 0 {}
    let ended = child.wait().expect("it ends");
    assert!(ended.success(), "{command:?}");
    begun.elapsed()
}

/// Until the first byte of the file's answer, and until the last.
fn get(port: u16) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"GET /big HTTP/1.0\r\n\r\n").expect("the request is sent");
    let mut piece = vec![0; 1 << 16];
    assert!(stream.read(&mut piece).expect("an answer") > 0);
    let first = begun.elapsed();
    while stream.read(&mut piece).expect("readable") > 0 {}
    (first, begun.elapsed())
}
