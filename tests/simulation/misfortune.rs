//! The faults that strike by themselves, and how long they last.

use std::time::Duration;

use kgit_agent::runtime::{Change, Event, EventKind, RunState, Seen};

use crate::checks::Checked;
use crate::cluster::Cluster;
use crate::happening::Happening;
use crate::weather::Fault;

/// How far clocks are set wrong, in milliseconds: no further than somebody would notice soon.
const STEPS: [i64; 8] = [-240_000, -60_000, -10_000, -1_500, 1_500, 10_000, 60_000, 240_000];
/// How fast clocks get wrong, in millionths: a bad quartz makes 100.
const DRIFTS: [i64; 6] = [-500, -100, -20, 20, 100, 500];
/// A fleet that loses more than this share of its machines is another matter.
const MOST_DEAD: usize = 3;

impl Cluster {
    pub fn misfortune(&mut self) {
        let faults: Vec<Fault> =
            self.weather.faults.iter().copied().filter(|fault| fault.strikes_alone()).collect();
        let nodes: Vec<usize> = self.members().map(|agent| agent.index).collect();
        if faults.is_empty() || nodes.is_empty() {
            return;
        }
        let (fault, node) = (self.random.pick(&faults), self.random.pick(&nodes));
        let of_master = matches!(
            fault,
            Fault::MasterDies | Fault::MasterRestored | Fault::MasterClockSteps | Fault::StoreFails
        );
        match of_master {
            true => self.befall_master(fault),
            false => self.befall(fault, node),
        }
    }

    fn befall_master(&mut self, fault: Fault) {
        match fault {
            Fault::MasterRestored if self.backup.is_none() => return,
            Fault::MasterDies | Fault::MasterRestored if self.master.running.is_none() => return,
            _ => self.strike(fault),
        }
        match fault {
            Fault::MasterDies => self.kill_master(),
            Fault::MasterRestored => self.restore_master(),
            Fault::MasterClockSteps => {
                let (step, drift) = (self.random.pick(&STEPS), self.random.pick(&DRIFTS));
                self.set_master_clock(step, drift);
                self.say(|| format!("master's clock is {step} ms ahead"));
                self.wake_master(Duration::ZERO);
            }
            _ => {
                self.store_fails = true;
                self.master.fail_store(true);
                let delay = self.random.millis(500, 20_000);
                self.at(delay, Happening::StoreWorks);
            }
        }
    }

    pub fn set_master_clock(&mut self, ahead_ms: i64, drift_ppm: i64) {
        self.master.clock.set(ahead_ms, drift_ppm, self.now);
        self.master_clock_set = self.now;
    }

    fn befall(&mut self, fault: Fault, node: usize) {
        let process = self.agents[node].process.is_some();
        let most = self.agents.len() / MOST_DEAD;
        let dead = self.agents.iter().filter(|agent| agent.dead || agent.left).count();
        match fault {
            Fault::AgentDies if !process => return,
            Fault::HostDies if dead >= most || self.members().count() < 3 => return,
            _ => self.strike(fault),
        }
        self.say(|| format!("   on n{node}"));
        match fault {
            Fault::AgentDies => self.kill_agent(node),
            Fault::AgentHangs => {
                let delay = self.random.pick(&[1_000, 30_000, 120_000, 900_000]);
                // A second one does not end the first.
                let until = self.now.after(Duration::from_millis(delay));
                let agent = &mut self.agents[node];
                agent.hangs_until = agent.hangs_until.max(until);
            }
            Fault::AgentClockSteps | Fault::AgentClockDrifts => self.turn_clock(fault, node),
            Fault::HostReboots => self.reboot(node),
            Fault::HostDies => self.bury(node),
            Fault::DiskFull => self.fill_disk(node),
            Fault::EngineRestarts => {
                self.end_all(node, 143);
                self.engine_away(node);
            }
            Fault::EngineAway => self.engine_away(node),
            Fault::EngineHangs => {
                let delay = self.random.pick(&[2_000, 20_000, 90_000, 600_000]);
                let until = self.now.after(Duration::from_millis(delay));
                let agent = &mut self.agents[node];
                agent.engine_hangs_until = agent.engine_hangs_until.max(until);
            }
            Fault::CallFails => self.fail_calls(node),
            Fault::LinkCut | Fault::AnswersLost | Fault::RequestsLost => {
                let link = &mut self.agents[node].link;
                link.mute |= fault != Fault::AnswersLost;
                link.deaf |= fault != Fault::RequestsLost;
                let delay = self.random.pick(&[2_000, 30_000, 60_000, 400_000]);
                self.at(Duration::from_millis(delay), Happening::LinkBack { node });
            }
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
            _ => self.vandalise(fault, node),
        }
    }

    fn turn_clock(&mut self, fault: Fault, node: usize) {
        let drift = self.random.pick(&DRIFTS);
        let step = self.random.pick(&STEPS);
        let clock = &mut self.agents[node].clock;
        let ahead = match fault {
            Fault::AgentClockSteps => step,
            _ => clock.at(self.now).wall.0 - self.now.0,
        };
        clock.set(ahead, drift, self.now);
        self.say(|| format!("n{node} clock is {ahead} ms ahead, and drifts by {drift}"));
    }

    /// The machine is gone; somebody will take it out of the cluster, and perhaps bring another.
    fn bury(&mut self, node: usize) {
        self.agents[node].die();
        self.agents[node].dead = true;
        self.end_all(node, 137);
        let members = self.members().count();
        self.hours.members(self.now, members);
        let delay = self.random.pick(&[50_000, 200_000, 900_000]);
        self.at(Duration::from_millis(delay), Happening::NodeRemoved { node });
        if self.random.permille(800) {
            self.join();
        }
    }

    /// The machine is not gone for good after all. Whoever brings it back may have a token for it.
    pub fn unbury(&mut self, node: usize) -> Checked {
        if !self.agents[node].dead {
            return Ok(());
        }
        self.say(|| format!("n{node} comes back"));
        self.coverage.stranger("comes back");
        let token = self.calm || self.random.permille(500);
        let agent = &mut self.agents[node];
        (agent.dead, agent.token) = (false, token);
        agent.host_boot += 1;
        let members = self.members().count();
        self.hours.members(self.now, members);
        self.start_agent(node)
    }

    /// Nothing new can be kept on the machine: no image, no container, no journal.
    fn fill_disk(&mut self, node: usize) {
        let agent = &self.agents[node];
        agent.disk.platter().full = true;
        let mut world = agent.engine.world();
        for call in ["create", "pull", "ensure_volume", "ensure_pause_image"] {
            world.faults.insert(call.to_owned(), u32::MAX);
        }
        drop(world);
        let delay = self.random.pick(&[5_000, 60_000, 600_000]);
        self.at(Duration::from_millis(delay), Happening::DiskFreed { node });
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

    pub fn end_all(&mut self, node: usize, code: i64) {
        let agent = &self.agents[node];
        agent.engine.set_time(agent.clock.at(self.now).wall);
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
        let (id, wall) = (victim.id.clone(), self.agents[node].clock.at(self.now).wall);
        self.say(|| format!("n{node} {}/{}", victim.identity.pod_name, victim.identity.container));
        let engine = self.agents[node].engine.clone();
        engine.set_time(wall);
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
                world.events.push_back(Event { at: wall, kind });
            }
        }
    }
}
