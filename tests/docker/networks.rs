//! The ground that tests with several hosts stand on: what a NAT router lets through, what a pulled cable does, and
//! that each host has an engine of its own.

use crate::hosts::Hosts;
use crate::skip::not_tried;
use std::process::{Child, Command, Stdio};

/// A listener starts within milliseconds; the limit is for a machine that has other things to do.
const TRIES: usize = 50;

struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended with its host.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listen(hosts: &Hosts, host: &str, says: &str) -> Listener {
    let child = hosts
        .command(host, "busybox")
        .args(["nc", "-ll", "-p", "9000", "-e", "echo", says])
        .stdin(Stdio::null())
        .spawn()
        .expect("busybox starts");
    let listener = Listener(child);
    assert_eq!(reach_in_time(hosts, host, "127.0.0.1").as_deref(), Some(says));
    listener
}

/// What the listener at an address says, or nothing within a second.
fn reach(hosts: &Hosts, from: &str, address: &str) -> Option<String> {
    let output = hosts
        .command(from, "busybox")
        .args(["nc", "-w", "1", address, "9000"])
        .stdin(Stdio::null())
        .output()
        .expect("busybox starts");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn reach_in_time(hosts: &Hosts, from: &str, address: &str) -> Option<String> {
    (0..TRIES).find_map(|_| reach(hosts, from, address))
}

fn docker(socket: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(["-H", socket])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the docker command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn may_make_hosts() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        not_tried("network namespaces need root");
    }
    root
}

#[test]
fn a_host_behind_nat_reaches_out_and_is_not_reached() {
    if !may_make_hosts() {
        return;
    }
    let hosts = Hosts::new("nat", &["office"], &["shop"]);
    let _office = listen(&hosts, "office", "office");
    let _shop = listen(&hosts, "shop", "shop");
    let office = hosts.address("office");
    assert_eq!(reach(&hosts, "shop", &office).as_deref(), Some("office"));
    assert_eq!(reach(&hosts, "office", &hosts.address("shop")), None);
    assert_eq!(reach(&hosts, "office", "10.210.0.254"), None, "the router itself answers nobody");
}

#[test]
fn a_cut_host_is_reached_again_when_healed() {
    if !may_make_hosts() {
        return;
    }
    let hosts = Hosts::new("cut", &["one", "two"], &[]);
    let _two = listen(&hosts, "two", "two");
    let two = hosts.address("two");
    assert_eq!(reach(&hosts, "one", &two).as_deref(), Some("two"));
    hosts.cut("two");
    assert_eq!(reach(&hosts, "one", &two), None);
    hosts.heal("two");
    assert_eq!(reach_in_time(&hosts, "one", &two).as_deref(), Some("two"));
}

#[test]
fn each_host_has_an_engine_of_its_own() {
    if !may_make_hosts() {
        return;
    }
    let hosts = Hosts::new("engines", &["one"], &["two"]);
    let sockets = ["one", "two"].map(|host| format!("unix://{}", hosts.engine(host).display()));
    hosts.load("two", &["kgit-test/web:1"]);
    let [one, two] = sockets.each_ref().map(String::as_str);
    assert_eq!(docker(one, &["images", "-q"]), "");
    docker(two, &["run", "-d", "--name", "web", "kgit-test/web:1", "serve", "9000"]);
    let address = docker(two, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    // An HTTP server that is sent nothing says nothing: that it can be reached is what counts.
    assert_eq!(reach_in_time(&hosts, "two", &address).as_deref(), Some(""));
    assert_eq!(docker(one, &["ps", "-q"]), "");
}
