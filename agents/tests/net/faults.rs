//! What others do to `net` and to its rules, and what traffic notes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::{GATEWAY, HOST, Lab, say, service, standing};
use crate::names::{address_of, lookup};
use crate::{answered, both, two_pods};

/// Asks again and again, each time anew, until it is told to stop; how often it failed.
struct Clients {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    fn start(lab: &Lab, ways: &[(&str, &str, u16)]) -> Self {
        let mut clients = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        for (place, address, port) in ways {
            let at = format!("{address}:{port}").parse().unwrap();
            let (stop, asked, failed) =
                (clients.stop.clone(), clients.asked.clone(), clients.failed.clone());
            let run = move || {
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if say(at).is_err() {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        std::thread::sleep(Duration::from_millis(3));
                    }
                })
            };
            // A thread that is started in a network stays in it.
            clients.threads.push(lab.within(place, run));
        }
        clients
    }

    /// Asked and failed.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    async fn go_on(&self, requests: usize) {
        let enough = self.asked.load(Ordering::Relaxed) + requests;
        while self.asked.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_pods_are_drained_in_turn() {
    let Some(mut lab) = Lab::new("drain") else { return };
    two_pods(&mut lab);
    lab.begin().await;
    let clients = Clients::start(&lab, &[("p5", "10.96.0.10", 80), (HOST, "10.96.0.10", 80)]);
    for round in 0..20 {
        let last = 5 + round % 2;
        lab.pod(last, true, true);
        lab.feed().await;
        clients.go_on(20).await;
        lab.pod(last, true, false);
        lab.feed().await;
    }
    let (asked, failed) = clients.end();
    assert!(asked > 400);
    assert_eq!(failed, 0, "of {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_rules_come_back() {
    let Some(mut lab) = Lab::new("flush") else { return };
    two_pods(&mut lab);
    lab.begin().await;
    for vandal in [
        "nft flush ruleset",
        "nft delete table ip kgit_1_2",
        "nft flush table ip kgit_1_2",
        "nft delete element ip kgit_1_2 services { 10.96.0.10 . tcp . 80 }",
        "iptables -F; iptables -t nat -F; iptables -X; iptables -t nat -X",
        "ip route del 10.96.0.0/16",
    ] {
        lab.sh(HOST, vandal);
        lab.until(&format!("back after {vandal}"), || {
            lab.ask("p5", "10.96.0.10", 80).is_ok() && lab.ask(HOST, "10.96.0.10", 80).is_ok()
        });
    }
    assert_eq!(answered(&lab, HOST, "10.96.0.10", 80), both());
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_while_net_is_dead_and_it_begins_from_what_it_kept() {
    let Some(mut lab) = Lab::new("kill") else { return };
    two_pods(&mut lab);
    lab.begin().await;
    let clients = Clients::start(&lab, &[("p5", "10.96.0.10", 80), (HOST, "10.96.0.10", 80)]);
    lab.kill();
    clients.go_on(50).await;
    assert!(lookup(&lab, "p5", GATEWAY, "web.default.svc.cluster.local").is_err());
    lab.start();
    // No agent feeds it.
    lab.until("names are answered", || {
        address_of(&lab, "p5", GATEWAY, "web.default.svc.cluster.local").is_some()
    });
    clients.go_on(50).await;
    lab.sh(HOST, "nft flush ruleset");
    lab.until("it has rules of its own", || lab.sh(HOST, "nft list tables").contains("kgit_1_2"));
    lab.until("answers", || lab.ask("p5", "10.96.0.10", 80).is_ok());
    let (asked, _) = clients.end();
    assert!(asked > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_net_takes_over_and_nothing_is_lost() {
    let Some(mut lab) = Lab::new("over") else { return };
    two_pods(&mut lab);
    lab.begin().await;
    let clients = Clients::start(&lab, &[("p5", "10.96.0.10", 80), (HOST, "10.96.0.10", 80)]);
    let heir = lab.spawn();
    let mut old = lab.replace(heir).unwrap();
    for _ in 0..100 {
        let found = address_of(&lab, "p5", GATEWAY, "web.default.svc.cluster.local");
        assert!(found.is_some(), "{}", lab.log());
    }
    lab.ends(&mut old);
    lab.list("more", service("10.96.0.11", &[5]));
    lab.feed().await;
    assert!(lab.ask("p6", "10.96.0.11", 80).is_ok());
    let (asked, failed) = clients.end();
    assert_eq!(failed, 0, "of {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_leaves_nothing_whether_net_lives_or_not() {
    let Some(mut lab) = Lab::new("gone") else { return };
    two_pods(&mut lab);
    lab.sh(HOST, "iptables -P FORWARD DROP");
    let before = standing(&lab);
    for alive in [true, false] {
        lab.begin().await;
        lab.until("gaps are there", || standing(&lab).contains("KGIT"));
        if !alive {
            lab.kill();
        }
        lab.remove();
        if alive {
            lab.ended();
        }
        assert_eq!(standing(&lab), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_on_one_host_do_not_disturb_each_other() {
    let Some(mut lab) = Lab::new("two") else { return };
    two_pods(&mut lab);
    lab.begin().await;
    let mut other = lab.beside();
    other.list("web", service("10.97.0.10", &[]));
    other.begin().await;
    lab.sh(HOST, "iptables -P FORWARD DROP");
    for lab in [&lab, &other] {
        let own = if lab.owns_host { "KGIT-1_2-FWD" } else { "KGIT-3_4-FWD" };
        lab.until("a gap each", || lab.sh(HOST, "iptables -S FORWARD").contains(own));
    }
    other.remove();
    let left = standing(&lab);
    assert!(
        !left.contains("kgit_3_4") && !left.contains("10.97") && !left.contains("3_4"),
        "{left}"
    );
    assert_eq!(answered(&lab, "p5", "10.96.0.10", 80), both());
}
