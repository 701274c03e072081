//! What is done to the cluster: commits of the repo, and faults that strike by themselves.

use std::time::Duration;

use kgit_agent::runtime::{Change, Event, EventKind, RunState, Seen};

use crate::cluster::{Cluster, Happening};
use crate::repo::Commit;
use crate::weather::Fault;

impl Cluster {
    /// One thing happens, and the next one after a while.
    pub fn chaos(&mut self) {
        if self.chaos_left == 0 {
            return;
        }
        self.chaos_left -= 1;
        if self.random.permille(self.weather.change) {
            self.commit();
        } else {
            self.misfortune();
        }
        let delay = match self.random.below(20) {
            0..8 => self.random.millis(0, 2_000),
            8..16 => self.random.millis(2_000, 15_000),
            16..19 => self.random.millis(15_000, 70_000),
            _ => self.random.millis(70_000, 420_000),
        };
        self.at(delay, Happening::Chaos);
    }

    fn commit(&mut self) {
        let kind = self.random.pick(&Commit::ALL);
        let Some(said) = self.repo.commit(kind, &mut self.random) else { return };
        *self.coverage.commits.entry(kind).or_default() += 1;
        self.say(|| format!("commit: {said}"));
        self.published();
    }

    /// The source will find the new head.
    pub fn published(&mut self) {
        self.tree = self.repo.tree();
        let life = self.master.life;
        let delay = self.random.millis(0, 3_000);
        self.at(delay, Happening::SourceDelivers { life });
    }

    fn misfortune(&mut self) {
        let faults: Vec<Fault> =
            self.weather.faults.iter().copied().filter(|fault| fault.strikes_alone()).collect();
        if faults.is_empty() {
            return;
        }
        let fault = self.random.pick(&faults);
        let node = self.random.below(self.agents.len());
        self.strike(fault);
        self.befall(fault, node);
    }

    fn befall(&mut self, fault: Fault, node: usize) {
        match fault {
            Fault::MasterDies => {
                if self.master.running.is_some() {
                    self.kill_master();
                }
            }
            Fault::StoreFails => {
                self.store_fails = true;
                self.master.fail_store(true);
                let delay = self.random.millis(500, 20_000);
                self.at(delay, Happening::StoreWorks);
            }
            Fault::AgentDies => {
                if self.agents[node].process.is_some() {
                    self.kill_agent(node);
                }
            }
            Fault::HostReboots => {
                self.kill_agent(node);
                self.agents[node].host_boot += 1;
                self.end_all(node, 137);
            }
            Fault::EngineRestarts => {
                self.end_all(node, 143);
                self.engine_away(node);
            }
            Fault::EngineHangs => self.engine_away(node),
            Fault::CallFails => self.fail_calls(node),
            Fault::LinkCut | Fault::AnswersLost => {
                let agent = &mut self.agents[node];
                match fault {
                    Fault::LinkCut => agent.cut = true,
                    _ => agent.deaf = true,
                }
                let delay = self.random.pick(&[2_000, 30_000, 60_000, 400_000]);
                self.at(Duration::from_millis(delay), Happening::LinkBack { node });
            }
            Fault::ContainerKilled
            | Fault::ContainerRemoved
            | Fault::ContainerPaused
            | Fault::ProcessCrashes => self.vandalise(fault, node),
            Fault::ImageGone => self.agents[node].engine.world().images.clear(),
            Fault::NetworkGone => self.agents[node].engine.world().network = None,
            Fault::RegistryDown => {
                self.agents[node].engine.world().registry.clear();
                let delay = self.random.millis(1_000, 60_000);
                self.at(delay, Happening::RegistryBack { node });
            }
            Fault::IgnoresTerm => {
                let mut world = self.agents[node].engine.world();
                if !world.stubborn.remove("main") {
                    world.stubborn.insert("main".to_owned());
                }
            }
            Fault::MasterDiesBeforeCommit
            | Fault::MasterDiesAfterCommit
            | Fault::AgentDiesBeforeCall
            | Fault::AgentDiesAfterCall
            | Fault::AgentDiesBetweenJournalAndWork
            | Fault::MessageLost
            | Fault::MessageDoubled
            | Fault::MessageLate
            | Fault::ProbeFails => {}
        }
    }

    fn fail_calls(&mut self, node: usize) {
        let calls = ["create", "start", "terminate", "kill", "remove", "ensure_volume", "view"];
        let call = self.random.pick(&calls);
        let times = 1 + u32::try_from(self.random.below(3)).unwrap_or(0);
        self.agents[node].engine.world().faults.insert(call.to_owned(), times);
    }

    fn engine_away(&mut self, node: usize) {
        self.agents[node].engine.world().down = true;
        let delay = self.random.millis(500, 30_000);
        self.at(delay, Happening::EngineBack { node });
    }

    fn alive(&self, node: usize) -> Vec<Seen> {
        let world = self.agents[node].engine.world();
        world.containers.values().filter(|seen| seen.state.is_alive()).cloned().collect()
    }

    fn end_all(&mut self, node: usize, code: i64) {
        for seen in self.alive(node) {
            self.agents[node].engine.exit(&seen.id, code);
        }
    }

    /// Somebody does something to a container through the engine; or its process crashes.
    fn vandalise(&mut self, fault: Fault, node: usize) {
        let alive = self.alive(node);
        if alive.is_empty() {
            return;
        }
        let victim = self.random.pick(&alive);
        let (id, now) = (victim.id.clone(), self.now);
        self.say(|| format!("n{node} {}/{}", victim.identity.pod_name, victim.identity.container));
        let engine = self.agents[node].engine.clone();
        match fault {
            Fault::ContainerKilled => engine.kill_from_outside(&id),
            Fault::ContainerRemoved => engine.remove_from_outside(&id),
            Fault::ProcessCrashes => engine.exit(&id, 1),
            _ => {
                let mut world = engine.world();
                let Some(seen) = world.containers.get_mut(&id) else { return };
                if let RunState::Running { started_at } = seen.state {
                    seen.state = RunState::Paused { started_at };
                }
                let (identity, change) = (victim.identity, Change::State);
                let kind = EventKind::Container { id, identity, change };
                world.events.push_back(Event { at: now, kind });
            }
        }
    }

    /// Everything that was done is undone, as far as it is not the cluster's own to repair.
    pub fn heal(&mut self) {
        self.say(|| "everything heals".to_owned());
        self.chaos_left = 0;
        self.store_fails = false;
        self.master.fail_store(false);
        self.start_master();
        for node in 0..self.agents.len() {
            self.start_agent(node);
            let agent = &mut self.agents[node];
            (agent.cut, agent.deaf) = (false, false);
            let mut world = agent.engine.world();
            world.down = false;
            world.faults.clear();
            world.stubborn.clear();
            world.registry = crate::repo::Repo::images().collect();
        }
        self.repo.heal();
        self.published();
    }
}
