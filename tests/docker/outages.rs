//! What traffic is lost, and for how long, when something under it dies or is taken away: the table of
//! `docs/performance.md`. That nothing stays lost is asserted, and that an agent's death alone costs nothing.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Cluster;
use crate::firewalld::Firewalld;
use crate::load::{Load, Lost};
use crate::net_process;
use crate::own_engine::OwnEngine;
use crate::ran::Ran;
use crate::skip::not_tried;
use crate::traffic::{WEB, ready};
use crate::wait;

/// Traffic flows again within this, or it is not seen to be coming back.
const BACK: Duration = Duration::from_secs(60);
/// So many answers in a row without a loss: it flows.
const FLOWS: usize = 100;

/// The ways in: from the host itself to the service's address, and from another host to the node's port.
struct Ways {
    inside: Load,
    outside: Load,
}

struct Shop {
    own: OwnEngine,
    cluster: Cluster,
}

impl Ways {
    fn start(shop: &Shop) -> Self {
        let service = shop.cluster.object("services", "web").expect("the service is there");
        let own = service["spec"]["clusterIP"].as_str().expect("it has an address");
        let at = |text: String| -> [SocketAddr; 1] { [text.parse().expect("address and port")] };
        let hosts = &shop.own.hosts;
        let node = hosts.address("one");
        let ways = Self {
            inside: Load::start(&hosts.network("one"), &at(format!("{own}:80"))),
            outside: Load::start(&hosts.network("two"), &at(format!("{node}:30080"))),
        };
        ways.flow("before anything happens");
        ways
    }

    /// Waits until answers come by both ways and nothing more is lost.
    fn flow(&self, when: &str) {
        for (way, load) in [("inside", &self.inside), ("outside", &self.outside)] {
            let mut before = (load.answered(), load.lost().len());
            let flows = wait::until_within(BACK, || {
                let now = (load.answered(), load.lost().len());
                if now.1 > before.1 {
                    before = now;
                }
                (now.0 >= before.0 + FLOWS).then_some(())
            });
            assert!(flows.is_some(), "nothing flows {way} {when}: {:?}", load.lost().last());
        }
    }
}

impl Shop {
    fn open(set: &str) -> Option<Self> {
        OwnEngine::new(set, &["kgit-test/polite:1"]).map(Self::on)
    }

    fn on(own: OwnEngine) -> Self {
        let cluster = Cluster::up_on(&own.hosts, "one", &[("web.yaml", WEB)]);
        cluster.until("three pods are ready", || ready(&cluster, 3));
        Self { own, cluster }
    }

    /// Does something to the host while traffic flows; how much of it was lost.
    fn suffers(&mut self, what: &str, done: impl FnOnce(&mut Self)) -> usize {
        let ways = Ways::start(self);
        let began = (ways.inside.elapsed(), ways.outside.elapsed());
        done(self);
        ways.flow(&format!("after: {what}"));
        let (inside, outside) = (ways.inside.stop(), ways.outside.stop());
        let for_how_long = [(&inside.lost, began.0), (&outside.lost, began.1)]
            .map(|(lost, began)| last(lost, began));
        println!(
            "| {what} | {} of {} | {} of {} | {:.1} s |",
            inside.lost.len(),
            inside.lost.len() + inside.answered,
            outside.lost.len(),
            outside.lost.len() + outside.answered,
            for_how_long[0].max(for_how_long[1]).as_secs_f64(),
        );
        for lost in inside.lost.first().into_iter().chain(outside.lost.first()) {
            println!("  such as, after {:.1} s: {}", lost.after.as_secs_f64(), lost.how);
        }
        inside.lost.len() + outside.lost.len()
    }

    fn on_the_host(&self, program: &str, arguments: &[&str]) {
        let ran = Ran::of(self.own.hosts.command("one", program).args(arguments));
        assert_eq!(ran.code, 0, "{program} {arguments:?}: {ran}");
    }

    fn net(&self) -> Pid {
        let agent = self.cluster.data().join("agent");
        self.cluster.until("net runs", || net_process::find(&agent).and_then(Pid::from_raw))
    }

    /// That names, services and the API are there for a pod.
    fn serves_pods(&self, when: &str) {
        let pod = self.cluster.running("web-").remove(0);
        let script = "timeout 5 wget -qO- http://web.default.svc.cluster.local/ && \
                      nc -w 5 $KUBERNETES_SERVICE_HOST 443 </dev/null";
        let ran = self.own.engine.try_docker(&["exec", pod.id(), "sh", "-c", script]);
        assert_eq!(ran.code, 0, "{when}: {ran}");
    }
}

/// From the beginning until the last request that was lost.
fn last(lost: &[Lost], began: Duration) -> Duration {
    lost.last().map_or(Duration::ZERO, |lost| lost.after.saturating_sub(began))
}

#[test]
fn what_dies_or_is_taken_away_costs_little_and_comes_back() {
    let Some(mut shop) = Shop::open("outages") else { return };
    println!("| what happens | lost inside | lost outside | until |");
    let lost = shop.suffers("kill -9 of the agent, and a new one", |shop| {
        shop.cluster.kill();
        std::thread::sleep(Duration::from_secs(2));
        shop.cluster.start();
    });
    assert_eq!(lost, 0, "an agent's death costs no traffic");
    shop.suffers("kill -9 of net", |shop| {
        let net = shop.net();
        kill_process(net, Signal::KILL).expect("it is there");
        shop.cluster.until("another net", || (shop.net() != net).then_some(()));
    });
    shop.suffers("kill -9 of net and agent, and a new one", |shop| {
        shop.cluster.kill();
        kill_process(shop.net(), Signal::KILL).expect("it is there");
        std::thread::sleep(Duration::from_secs(2));
        shop.cluster.start();
    });
    shop.suffers("iptables -t nat -F", |shop| shop.on_the_host("iptables", &["-t", "nat", "-F"]));
    shop.suffers("iptables -F and -X", |shop| {
        shop.on_the_host("iptables", &["-F"]);
    });
    shop.suffers("nft flush ruleset", |shop| shop.on_the_host("nft", &["flush", "ruleset"]));
    shop.suffers("ufw enabled, all incoming denied", |shop| enable_ufw(shop));
    shop.suffers("dockerd restarted", |shop| {
        shop.own.end(&shop.own.dockerd(), "TERM");
        shop.own.start();
    });
}

#[test]
fn firewalld_and_its_reloads_cost_little_and_leave_everything_reachable() {
    let Some(mut shop) = Shop::open("firewalld") else { return };
    let Some(mut firewalld) = Firewalld::prepared(&shop.own.hosts.network("one")) else { return };
    println!("| what happens | lost inside | lost outside | until |");
    shop.serves_pods("before anything happens");
    // Docker does not see it, and helps nobody.
    shop.suffers("firewalld started, all in its zone public", |_| firewalld.start());
    shop.serves_pods("after firewalld started");
    reload(&mut shop, &firewalld, "");
    shop.own.end(&shop.own.dockerd(), "TERM");
    shop.own.start_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &firewalld.bus())]);
    shop.cluster.until("three pods are ready again", || ready(&shop.cluster, 3));
    assert!(firewalld.command(&["--get-active-zones"]).starts_with("docker"));
    shop.serves_pods("after Docker found firewalld");
    reload(&mut shop, &firewalld, ", Docker's networks in its zone docker");
}

fn reload(shop: &mut Shop, firewalld: &Firewalld, how: &str) {
    for reload in ["--reload", "--complete-reload"] {
        let what = format!("firewall-cmd {reload}{how}");
        shop.suffers(&what, |_| drop(firewalld.command(&[reload])));
        shop.serves_pods(&format!("after {what}"));
    }
}

#[test]
fn what_the_older_iptables_flushes_and_drops_costs_little_and_comes_back() {
    const PROGRAMS: &str = "/usr/sbin/xtables-legacy-multi";
    if !Path::new(PROGRAMS).exists() {
        return not_tried("this machine has no iptables of the older kind");
    }
    let Some(own) = OwnEngine::new("legacy", &["kgit-test/polite:1"]) else { return };
    // The program tells by its name what it is to be.
    let folder = tempfile::tempdir().expect("a folder can be made");
    for name in ["iptables", "iptables-save", "iptables-restore", "ip6tables"] {
        symlink(PROGRAMS, folder.path().join(name)).expect("a link can be made");
    }
    let path = std::env::var("PATH").expect("there is a path");
    let path = format!("{}:{path}", folder.path().display());
    own.end(&own.dockerd(), "TERM");
    own.start_with(&[("PATH", &path)]);
    let mut shop = Shop::on(own);
    println!("| what happens | lost inside | lost outside | until |");
    for what in [
        "iptables-legacy -t nat -F",
        "iptables-legacy -P FORWARD DROP",
        "iptables-legacy -F",
        "iptables-legacy -A INPUT -i lo -j ACCEPT; iptables-legacy -P INPUT DROP",
    ] {
        shop.suffers(what, |shop| shop.on_the_host("sh", &["-ec", what]));
        shop.serves_pods(&format!("after {what}"));
    }
    let filter = Ran::of(shop.own.hosts.command("one", "iptables-legacy").arg("-S"));
    assert!(filter.out.contains("-P FORWARD DROP") && filter.out.contains("-N DOCKER"), "{filter}");
}

/// Debian's own, on the host's network and with settings of its own: the machine's stay as they are.
fn enable_ufw(shop: &Shop) {
    let script = "set -e; cp -a /etc/ufw \"$1\"; mount --bind \"$1\" /etc/ufw; ufw --force enable";
    let copy = shop.cluster.data().with_file_name("ufw").display().to_string();
    shop.on_the_host("unshare", &["-m", "sh", "-c", script, "sh", &copy]);
}
