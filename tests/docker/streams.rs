//! Working inside pods: exec, attach, cp, port-forward and logs that are followed, with an old
//! `kubectl` (SPDY), a new one (WebSockets) and `kgit` itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::face::{Face, condition};
use crate::hosts::Hosts;
use crate::office::Office;
use crate::process::Process;
use crate::ran::Ran;
use crate::skip::not_tried;
use crate::terminal::Terminal;
use crate::wait;

const MIB: usize = 1 << 20;
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
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: kgit-test/busybox:1
        stdin: true
        ports: [{name: http, containerPort: 8080}]
        command: [sh, -c]
        args: ['mkdir -p /www && head -c 20971520 /dev/urandom >/www/big && httpd -p 127.0.0.1:8080 -h /www;
          echo begun; while read line; do echo heard $line; done; while :; do sleep 0.1; done']
        readinessProbe: {exec: {command: [test, -f, /www/big]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

/// A program that works inside pods: `kubectl` of some version, or `kgit`.
#[derive(Debug)]
struct Tool {
    path: String,
    name: String,
}

impl Tool {
    fn command(&self, face: &Face, arguments: &[&str]) -> Command {
        let mut command = face.command(&self.path);
        command.args(arguments);
        command
    }

    fn run(&self, face: &Face, arguments: &[&str]) -> Ran {
        Ran::of(self.command(face, arguments).stdin(Stdio::null()))
    }

    /// Runs it with an input.
    fn feed(&self, face: &Face, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(face, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it has an input");
        let input = input.to_vec();
        let feeding = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        // It may have ended before it read everything; what it said tells.
        let _ = feeding.join();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `kgit`, and of the `kubectl`s that lie beside the one on the PATH one that speaks SPDY and one
/// that speaks WebSockets; where none do, the one on the PATH.
fn tools() -> Vec<Tool> {
    let found = Ran::of(Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]));
    let path = PathBuf::from(found.out.trim());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let beside = |minors: std::ops::Range<u32>| {
        let mut paths = minors.map(|minor| folder.join(format!("kubectl.1.{minor}")));
        paths.find(|path| path.exists())
    };
    let mut all: Vec<PathBuf> = [beside(20..30), beside(31..60)].into_iter().flatten().collect();
    if all.is_empty() {
        all.push(path);
    }
    all.push(env!("CARGO_BIN_EXE_kgit").into());
    let tool = |path: PathBuf| Tool {
        name: path.file_name().expect("a program").to_string_lossy().into_owned(),
        path: path.to_string_lossy().into_owned(),
    };
    all.into_iter().map(tool).collect()
}

fn web_pod(face: &Face) -> String {
    face.until("a ready pod", || {
        let pods = face.objects("pods");
        let web = pods.iter().find(|pod| condition(pod, "Ready") == Some("True"))?;
        Some(web["metadata"]["name"].as_str()?.to_owned())
    })
}

#[test]
fn people_work_inside_pods_with_old_and_new_kubectl_and_with_kgit() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("web.yaml", WEB)]);
    let pod = web_pod(&cluster);
    for tool in tools() {
        eprintln!("with {}", tool.name);
        a_command_has_outputs_an_input_and_a_code(&tool, &cluster, &pod);
        files_arrive_byte_for_byte(&tool, &cluster, &pod);
        ports_are_forwarded(&tool, &cluster, &pod);
        whoever_attaches_talks_to_the_containers_own_process(&tool, &cluster, &pod);
        a_terminal_has_the_size_that_it_is_given(&tool, &cluster, &pod);
        fifty_commands_run_at_once(&tool, &cluster, &pod);
        what_can_not_be_is_said(&tool, &cluster, &pod);
    }
    everything_is_in_the_audit_log(&cluster, &pod);
    to_read_is_not_enough(&cluster, &pod);
    a_quiet_command_outlives_the_pings(&cluster, &pod);
}

fn a_command_has_outputs_an_input_and_a_code(tool: &Tool, face: &Face, pod: &str) {
    let ran = tool.run(face, &["exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "out\n"), "{ran}");
    assert!(ran.err.starts_with("err\n"), "{ran}");
    let input: Vec<u8> = (0..5 * MIB).map(|at| (at % 251) as u8).collect();
    let counted = tool.feed(face, &["exec", "-i", pod, "-c", "web", "--", "wc", "-c"], &input);
    assert_eq!((counted.code, counted.out.trim()), (0, "5242880"), "{counted}");
    // Both directions at once, more than any buffer in between holds.
    let text = "0123456789abcde\n".repeat(MIB / 4);
    let echoed = tool.feed(face, &["exec", "-i", pod, "--", "cat"], text.as_bytes());
    assert!(echoed.out == text, "{} of {} bytes came back", echoed.out.len(), text.len());
}

fn files_arrive_byte_for_byte(tool: &Tool, face: &Face, pod: &str) {
    let room = crate::room::Room::new();
    let (there, back) = (room.join("there"), room.join("back"));
    let mut random = std::fs::File::open("/dev/urandom").expect("chance").take(64 * MIB as u64);
    let mut file = std::fs::File::create(&there).expect("a file");
    std::io::copy(&mut random, &mut file).expect("64 MiB of chance");
    let remote = format!("{pod}:/tmp/copied");
    let sent = tool.run(face, &["cp", there.to_str().unwrap(), &remote]);
    assert_eq!(sent.code, 0, "{sent}");
    let fetched = tool.run(face, &["cp", &remote, back.to_str().unwrap()]);
    assert_eq!(fetched.code, 0, "{fetched}");
    let same = std::fs::read(&there).unwrap() == std::fs::read(&back).unwrap();
    assert!(same, "{}: what came back is not what was sent", tool.name);
}

/// A port-forward under way, ended when dropped.
struct Forward(Child);

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one, and returns the local port that it chose.
fn forward(tool: &Tool, face: &Face, what: &str, remote: &str) -> (Forward, u16) {
    let mut command = tool.command(face, &["port-forward", what, &format!(":{remote}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it has an output")).lines();
    let forward = Forward(child);
    let first = lines.by_ref().map_while(Result::ok).find(|line| line.contains("127.0.0.1"));
    let first = first.expect("it says where it listens");
    let (_, port) = first.split(" -> ").next().unwrap().rsplit_once(':').expect("a port");
    let port = port.parse().expect("a number");
    // It must not stop because nobody reads what it says.
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    (forward, port)
}

fn fetched(port: u16, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer comes to its end");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    answer.split_off(head + 4)
}

fn ports_are_forwarded(tool: &Tool, face: &Face, pod: &str) {
    let sum = tool.run(face, &["exec", pod, "--", "md5sum", "/www/big"]);
    let (_forward, port) = forward(tool, face, "service/web", "80");
    let getting: Vec<_> =
        (0..20).map(|_| std::thread::spawn(move || fetched(port, "/big"))).collect();
    let bodies: Vec<_> = getting.into_iter().map(|one| one.join().expect("an answer")).collect();
    assert!(bodies.iter().all(|body| body.len() == 20 * MIB && *body == bodies[0]));
    let room = crate::room::Room::new();
    std::fs::write(room.join("body"), &bodies[0]).expect("a file");
    let own = Ran::of(Command::new("md5sum").arg(room.join("body")));
    assert_eq!(own.out.split(' ').next(), sum.out.split(' ').next(), "byte for byte");
}

fn whoever_attaches_talks_to_the_containers_own_process(tool: &Tool, face: &Face, pod: &str) {
    let mut command = tool.command(face, &["attach", "-i", pod]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("an output")).lines();
    let mut stdin = child.stdin.take().expect("an input");
    writeln!(stdin, "hello of {}", tool.name).expect("it is attached");
    let heard = lines.next().expect("an answer").expect("a line");
    assert_eq!(heard, format!("heard hello of {}", tool.name));
    drop(Forward(child));
    let pods = face.objects("pods");
    assert!(pods.iter().all(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 0));
}

fn a_terminal_has_the_size_that_it_is_given(tool: &Tool, face: &Face, pod: &str) {
    let script = "stty size; while read line; do stty size; [ \"$line\" = end ] && exit 5; done";
    let command = tool.command(face, &["exec", "-it", pod, "--", "sh", "-c", script]);
    let mut terminal = Terminal::run(&command, 80, 24);
    for (columns, rows) in [(101, 33), (77, 22)] {
        terminal.resize(columns, rows);
        let told = wait::until_within(std::time::Duration::from_secs(20), || {
            // The command learns of a size some time after the terminal has it.
            terminal.press("again\r");
            terminal.shows(&format!("{rows} {columns}")).then_some(())
        });
        assert!(told.is_some(), "{} does not tell of {rows} by {columns}", tool.name);
    }
    terminal.press("end\r");
    assert_eq!(terminal.code(), 5);
}

fn fifty_commands_run_at_once(tool: &Tool, face: &Face, pod: &str) {
    let mut children = Vec::new();
    for number in 0..50 {
        let script = format!("sleep 1; echo {number}");
        let mut command = tool.command(face, &["exec", pod, "--", "sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        children.push((number, command.spawn().expect("it starts")));
    }
    for (number, child) in children {
        let output = child.wait_with_output().expect("it ends");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        let err = String::from_utf8_lossy(&err);
        assert_eq!(out.trim(), number.to_string(), "{}: {err}", tool.name);
    }
}

fn what_can_not_be_is_said(tool: &Tool, face: &Face, pod: &str) {
    let gone = tool.run(face, &["exec", "gone", "--", "ls"]);
    assert!(gone.code != 0 && gone.err.contains("pods \"gone\" not found"), "{gone}");
    let container = tool.run(face, &["exec", pod, "-c", "db", "--", "ls"]);
    assert!(
        container.code != 0 && container.err.contains("container db is not valid"),
        "{container}"
    );
    let command = tool.run(face, &["exec", pod, "--", "no-such-command"]);
    assert!(command.code != 0, "{command}");
}

fn everything_is_in_the_audit_log(cluster: &Cluster, pod: &str) {
    let export = cluster.kgit(&["audit", "export"]);
    let said = |what: &str| export.out.contains(what);
    assert!(said(&format!("to run in Pod/default/{pod}")), "{export}");
    assert!(said("container web: md5sum /www/big"), "{export}");
    assert!(said(&format!("to attach to Pod/default/{pod}")), "{export}");
    assert!(said(&format!("to forward ports of Pod/default/{pod}")), "{export}");
    assert_eq!(cluster.kgit(&["audit", "verify"]).code, 0);
}

fn to_read_is_not_enough(cluster: &Cluster, pod: &str) {
    let token = cluster.kgit(&["token", "create", "--role", "read", "--name", "eve"]);
    assert_eq!(token.code, 0, "{token}");
    let own = std::fs::read_to_string(cluster.data().join("kubeconfig")).expect("a kubeconfig");
    let secret = own.lines().find_map(|line| line.trim().strip_prefix("token: ")).expect("a token");
    let room = crate::room::Room::new();
    let path = room.join("kubeconfig");
    std::fs::write(&path, own.replace(secret, token.out.trim())).expect("a file");
    for tool in tools() {
        for words in
            [&["exec", pod, "--", "ls"][..], &["attach", pod], &["exec", "-i", pod, "--", "ls"]]
        {
            let mut command = tool.command(cluster, words);
            let ran = Ran::of(command.env("KUBECONFIG", &path).stdin(Stdio::null()));
            assert!(ran.code != 0 && ran.err.contains("cannot create resource"), "{ran}");
        }
    }
}

fn a_quiet_command_outlives_the_pings(cluster: &Cluster, pod: &str) {
    let running: Vec<_> = tools()
        .into_iter()
        .map(|tool| {
            let command = ["exec", pod, "--", "sh", "-c", "sleep 45; echo there"];
            let mut command = tool.command(cluster, &command);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            (tool, command.spawn().expect("it starts"))
        })
        .collect();
    for (tool, child) in running {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "there\n", "{}", tool.name);
    }
}

#[test]
fn logs_are_followed_while_pods_are_replaced_and_end_with_them() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("web.yaml", WEB)]);
    for round in 0..3 {
        let pod = web_pod(&cluster);
        let following: Vec<_> = tools()
            .into_iter()
            .map(|tool| {
                let mut command = tool.command(&cluster, &["logs", "-f", &pod]);
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                (tool, command.spawn().expect("it starts"))
            })
            .collect();
        cluster.write("web.yaml", &WEB.replace("echo begun", &format!("echo begun {round}")));
        for (tool, child) in following {
            let output = child.wait_with_output().expect("it ends with its pod");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.starts_with("begun"), "{}: {said}", tool.name);
        }
        cluster
            .until("the old pod is gone", || cluster.object("pods", &pod).is_none().then_some(()));
    }
}

const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: till}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: till
    image: kgit-test/busybox:1
    command: [sh, -c, 'echo open; while :; do sleep 0.1; done']
";

#[test]
fn a_node_behind_nat_is_reached_and_an_agents_death_ends_its_streams() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("streams", &["office"], &["shop"]));
    let shop = office.join("shop", &["kgit-test/busybox:1"]);
    office.repo.write("till.yaml", SHOP);
    let commit = office.repo.commit("a till");
    office.repo.push();
    office.face.until_done(&commit);
    office.face.until_ready("till");
    office.face.until("the tunnel is up", || tunnel_is(&office.face, "True"));
    for tool in tools() {
        let ran = tool.run(&office.face, &["exec", "till", "--", "echo", "paid"]);
        assert_eq!(ran.out, "paid\n", "{}: {ran}", tool.name);
        let log = tool.run(&office.face, &["logs", "till"]);
        assert_eq!(log.out, "open\n", "{}: {log}", tool.name);
    }
    let under_way: Vec<_> = tools()
        .into_iter()
        .map(|tool| {
            let command = ["exec", "till", "--", "sh", "-c", "echo begun; sleep 600"];
            let mut command = tool.command(&office.face, &command);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let mut out = BufReader::new(child.stdout.take().expect("an output"));
            let mut line = String::new();
            out.read_line(&mut line).expect("it says that it has begun");
            assert_eq!(line, "begun\n", "{}", tool.name);
            (tool, child)
        })
        .collect();
    let agent = office.agents.remove(shop);
    agent.process.kill();
    for (tool, child) in under_way {
        let output = child.wait_with_output().expect("it does not hang");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains("lost"), "{}: {err}", tool.name);
    }
    office.face.until("the tunnel is down", || tunnel_is(&office.face, "False"));
    let unreachable = office.face.kgit(&["exec", "till", "--", "ls"]);
    assert!(unreachable.err.contains("node `shop` can't be reached"), "{unreachable}");
    let _again = Process::start(office.agent("shop"), &office.agent_data("again.log"));
    office.face.until("the next command works", || {
        let ran = office.face.kgit(&["exec", "till", "--", "echo", "paid"]);
        (ran.out == "paid\n").then_some(())
    });
}

fn tunnel_is(face: &Face, status: &str) -> Option<()> {
    let node = face.object("nodes", "shop")?;
    (condition(&node, "TunnelReady") == Some(status)).then_some(())
}
