//! The master's part in the cluster: its process comes and goes, turns, and answers.

use std::sync::Arc;
use std::time::Duration;

use kgit::domain::audit::Body;
use kgit::domain::standing::Standing;
use kgit::domain::world::{World, node_key};
use kgit::master::event::{Credential, Event};
use kgit::plan::text;
use kgit_protocol::messages::Orders;
use tokio::sync::oneshot;

use crate::checks::stages::Hooked;
use crate::checks::{Checked, Turned};
use crate::cluster::{Cluster, join};
use crate::happening::{Answer, Happening, Request};
use crate::master::Held;
use crate::weather::Fault;
use crate::words::{differences, word};

/// As in the master's loop.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// What templates ask for, less what clocks may differ by.
const FENCED_AFTER: Duration = Duration::from_secs(298);
/// What comes within this is heard in one turn, where many beat together.
const TOGETHER: Duration = Duration::from_millis(40);

impl Cluster {
    pub fn wake_master(&mut self, delay: Duration) {
        let at = self.now.after(delay);
        if self.master.turn_at.is_none_or(|due| due > at || due <= self.now) {
            self.master.turn_at = Some(at);
        }
        let life = self.master.life;
        self.at(delay, Happening::MasterTurns { life });
    }

    pub fn start_master(&mut self) {
        if self.master.running.is_some() {
            return;
        }
        self.say(|| "master starts".to_owned());
        self.master.start(self.now);
        self.world = self.master.running.as_ref().expect("it was just started").world();
        self.wake_master(Duration::ZERO);
        let life = self.master.life;
        let delay = self.random.millis(0, 5000);
        self.at(delay, Happening::SourceDelivers { life });
    }

    pub fn kill_master(&mut self) {
        self.say(|| "master dies".to_owned());
        self.master.die();
        let delay = self.random.pick(&[100, 1_000, 10_000, 120_000, 500_000]);
        self.at(Duration::from_millis(delay), Happening::MasterStarts);
    }

    pub fn deliver(&mut self, life: u64) {
        let (head, now) = (self.repo.head, self.master.clock.at(self.now).wall);
        let Some(running) = &mut self.master.running else { return };
        if life != self.master.life || running.delivered_head == head {
            return;
        }
        running.deliver(head, &self.tree, now);
        self.say(|| format!("source delivers {head}"));
        self.wake_master(Duration::ZERO);
    }

    pub fn turn(&mut self) -> Checked {
        if self.strikes(Fault::MasterDiesBeforeCommit) {
            self.kill_master();
            return Ok(());
        }
        self.coverage.turns += 1;
        let moment = self.master.clock.at(self.now);
        let before = self.world.clone();
        let Some(running) = &mut self.master.running else { return Ok(()) };
        let events = std::mem::take(&mut running.inbox);
        let said: Vec<String> = match self.trace.kept {
            true => events.iter().map(word).collect(),
            false => Vec::new(),
        };
        let reads = events.iter().any(|event| matches!(event, Event::Source { .. }));
        let turn = running.core.turn(events, moment.wall, &mut running.store);
        let view = running.core.view(&running.store);
        if reads {
            let desired = view.catalog.desired(Arc::default());
            running.readable = desired.unreadable.is_empty();
            let staged = desired.staged.iter().filter_map(|key| desired.objects.get(key));
            running.hooks = staged.filter_map(Hooked::of).collect();
        }
        running.note_issued(&view.world);
        let read = view.source.commit.is_some();
        let wake = running.core.next_wake();
        if turn.failed.is_some() && !self.store_fails {
            return Err(format!("the store failed: {:?}", turn.failed));
        }
        self.coverage.transactions += u64::from(turn.committed.is_some());
        self.say_turn(&said, &before, &view.world);
        let Some(running) = &mut self.master.running else { return Ok(()) };
        let excused = self.agents.iter().filter(|agent| {
            let due = agent.heard_at.after(FENCED_AFTER);
            agent.fit_since(self.now) > due || self.master_clock_set > agent.heard_at
        });
        self.checks.excuses(excused.map(|agent| agent.name.clone()));
        let turned = Turned {
            before: &before,
            after: &view.world,
            waits: &view.waits,
            now: moment.wall,
            readable: running.readable,
            read,
            through: turn.failed.is_none(),
            hooks: &running.hooks,
        };
        self.checks.turn(&turned)?;
        (self.world, self.waits) = (view.world, view.waits);
        self.master.turn_at = None;
        if self.strikes(Fault::MasterDiesAfterCommit) {
            self.kill_master();
            return self.on_disk();
        }
        self.answer_reports();
        self.answer_pulls();
        let sleep = wake.map_or(LONGEST_SLEEP, |wake| wake.since(moment.wall)).min(LONGEST_SLEEP);
        self.wake_master(sleep.max(Duration::from_millis(1)));
        Ok(())
    }

    /// What was committed is what a restart finds.
    pub fn on_disk(&mut self) -> Checked {
        if self.store_fails {
            return Ok(());
        }
        let world = &self.world;
        self.master.start(self.now);
        let loaded = self.master.view().expect("it was just started").world;
        self.master.die();
        if format!("{:?}", loaded.pods) == format!("{:?}", world.pods)
            && format!("{:?}", loaded.nodes) == format!("{:?}", world.nodes)
            && loaded.meta == world.meta
        {
            return Ok(());
        }
        Err("a restart finds another World than was committed".to_owned())
    }

    pub fn say_turn(&mut self, said: &[String], before: &World, after: &World) {
        if !self.trace.kept || (said.is_empty() && before.version == after.version) {
            return;
        }
        self.say(|| format!("master turns: {}", said.join(", ")));
        for line in differences(before, after) {
            self.say(|| format!("    {line}"));
        }
        let Some(running) = &self.master.running else { return };
        // A restored master goes on from an earlier entry.
        let said = self.said_entry.min(running.store.audit_head().sequence);
        let entries = running.store.reader().entries_from(said + 1, usize::MAX).unwrap_or_default();
        for entry in entries {
            self.said_entry = entry.sequence;
            let Body::Planned { steps, .. } = entry.body else { continue };
            for step in steps {
                self.say(|| format!("    > {} because {:?}", text::said(&step.said), step.reasons));
            }
        }
    }

    pub fn answer_reports(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        let asked = std::mem::take(&mut running.asked);
        for (node, id, mut answer) in asked {
            let answer = match answer.try_recv() {
                Ok(Ok(sequence)) => Answer::Acknowledged(sequence),
                Ok(Err(_)) | Err(_) => Answer::Failed,
            };
            self.reply(node, id, answer);
        }
    }

    pub fn answer_pulls(&mut self) {
        let (now, world) = (self.now, &self.world);
        let wall = self.master.clock.at(now).wall;
        let Some(running) = &mut self.master.running else { return };
        let mut answers = Vec::new();
        let is_member =
            |node: &usize| world.nodes.contains_key(&node_key(&self.agents[*node].name));
        let gone: Vec<(usize, u64)> = running
            .held
            .iter()
            .filter(|(node, _)| !is_member(node))
            .map(|(n, h)| (*n, h.id))
            .collect();
        running.held.retain(|node, _| is_member(node));
        for (node, held) in &running.held {
            let orders = running.orders(world, &self.agents[*node].name, held.have.as_ref());
            if orders != Orders::Unchanged || held.until <= now {
                answers.push((*node, held.id, running.pulled(orders, wall)));
            }
        }
        for (node, _, _) in &answers {
            running.held.remove(node);
        }
        for (node, id, pulled) in answers {
            self.reply(node, id, Answer::Pulled(Box::new(pulled)));
        }
        for (node, id) in gone {
            self.reply(node, id, Answer::Failed);
        }
    }

    /// What `api/agent` does about a machine that is no member. It asks to be one with what it has,
    /// if that can help.
    fn at_stranger(&mut self, node: usize, id: u64, request: Request) {
        let wall = self.master.clock.at(self.now).wall;
        let Some(running) = &mut self.master.running else { return };
        let agent = &self.agents[node];
        let standing = Standing::of(&self.world, &agent.name, &agent.key_digest());
        let Request::Pull { have, .. } = request else {
            return self.reply(node, id, Answer::Failed);
        };
        if let Some(set) = standing.dismissal(have.as_ref()) {
            let pulled = running.pulled(Orders::Set(set), wall);
            self.coverage.stranger("dismissed");
            return self.reply(node, id, Answer::Pulled(Box::new(pulled)));
        }
        let (credential, what) = match standing {
            Standing::Departed(_) if !agent.token => {
                self.coverage.stranger("refused");
                return self.reply(node, id, Answer::Failed);
            }
            Standing::Departed(_) => (Credential::Token(None), "joins again by token"),
            Standing::Unknown if agent.certified => {
                (Credential::Certificate, "joins by certificate")
            }
            Standing::Unknown | Standing::Member => (Credential::Token(None), "joins late"),
        };
        self.coverage.stranger(what);
        running.inbox.push(join(agent, credential));
        self.wake_master(Duration::ZERO);
        self.reply(node, id, Answer::Failed);
    }

    pub fn at_master(&mut self, node: usize, life: u64, id: u64, request: Request) {
        let (now, poll) = (self.now, self.pace.poll);
        if life != self.agents[node].life {
            // A dead process's connection is dead. Were its last report to come after the first
            // one of the next process, the master could not tell which is newer: boot ids have no
            // order (found as seed 89, open).
            return;
        }
        let name = self.agents[node].name.clone();
        let Some(running) = &mut self.master.running else {
            return self.at(
                Duration::from_millis(5),
                Happening::AtAgent { node, life, id, answer: Answer::Failed },
            );
        };
        let agent = &mut self.agents[node];
        if !self.world.nodes.contains_key(&node_key(&name)) {
            return self.at_stranger(node, id, request);
        }
        (agent.certified, agent.token) = (true, false);
        let together = matches!(request, Request::Heartbeat | Request::Usage(_));
        match request {
            Request::Pull { have, witness } => {
                running.held.insert(node, Held { id, have: have.clone(), until: now.after(poll) });
                running.inbox.push(Event::Pull { node: name, have, witness });
                self.at(poll, Happening::MasterTurns { life: self.master.life });
            }
            Request::Report(report) => {
                let (reply, answer) = oneshot::channel();
                running.asked.push((node, id, answer));
                running.inbox.push(Event::Report { node: name, report, reply });
            }
            Request::Heartbeat => {
                let boot = kgit_protocol::ids::BootId::new("any");
                running.inbox.push(Event::Heartbeat { node: name, boot });
                self.reply(node, id, Answer::Lease);
            }
            Request::Usage(usage) => {
                running.inbox.push(Event::Usage { node: name, usage: Arc::from(usage) });
            }
        }
        let delay = match together && self.pace.beats_together {
            true => TOGETHER,
            false => self.random.millis(0, 4),
        };
        self.wake_master(delay);
    }
}
