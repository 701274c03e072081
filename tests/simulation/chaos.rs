//! What is done to the cluster, one thing after another: commits of the repo, orders, faults; and
//! in the end, that all of it is undone.

use std::time::Duration;

use crate::agent::Link;
use crate::cluster::Cluster;
use crate::happening::Happening;
use crate::repo::{Commit, Repo};

/// Of commits to a repo that can't be read or is empty, in thousand: those that mend it.
const MENDS: u32 = 400;
/// Of what people do, in thousand: orders about nodes and the like, not commits.
const ORDERS: u32 = 250;
/// What workloads have to do, in thousandths of a core.
const LOADS: [u64; 6] = [0, 20, 60, 150, 400, 1500];

impl Cluster {
    /// One thing happens, and the next one after a while.
    pub fn chaos(&mut self) {
        if self.calm || self.now >= self.chaos_ends() {
            return;
        }
        let commits = self.random.permille(self.weather.change);
        if self.pace.hours > 0 && self.hours.want_a_commit(self.now) {
            self.commit();
        } else if !commits {
            self.misfortune();
        } else if self.random.permille(ORDERS) {
            self.order_something();
        } else {
            self.commit();
        }
        let delay = self.pace.between(&mut self.random);
        self.at(delay, Happening::Chaos);
    }

    fn commit(&mut self) {
        let mends = self.repo.needs_mending() && self.random.permille(MENDS);
        let kind = if mends { Commit::Mend } else { self.random.pick(&Commit::ALL) };
        let Some(said) = self.repo.commit(kind, &mut self.random) else { return };
        *self.coverage.commits.entry(kind).or_default() += 1;
        let members = self.members().count();
        self.hours.commit(self.now, members);
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

    pub fn change_load(&mut self) {
        if self.calm {
            return;
        }
        let names: Vec<String> = self.repo.names().cloned().collect();
        for name in names {
            let load = self.random.pick(&LOADS);
            self.load.insert(name, load);
        }
        let delay = self.random.millis(30_000, 600_000);
        self.at(delay, Happening::LoadChanges);
    }

    /// A fault ends.
    pub fn relents(&mut self, node: usize, happening: &Happening) {
        let agent = &mut self.agents[node];
        let mut world = agent.engine.world();
        let what = match happening {
            Happening::EngineBack { .. } => {
                world.down = false;
                agent.unfit_until = agent.unfit_until.max(self.now);
                "engine is back"
            }
            Happening::RegistryBack { .. } => {
                world.registry = Repo::images().collect();
                "registry is back"
            }
            Happening::DiskFreed { .. } => {
                world.faults.clear();
                agent.disk.platter().full = false;
                "disk has room"
            }
            _ => {
                agent.link = Link::default();
                "link is back"
            }
        };
        drop(world);
        self.say(|| format!("n{node} {what}"));
    }

    /// Everything that was done is undone, as far as it is not the cluster's own to repair.
    pub fn heal(&mut self) -> Result<(), String> {
        self.say(|| "everything heals".to_owned());
        self.calm = true;
        self.store_fails = false;
        self.master.fail_store(false);
        self.set_master_clock(0, 0);
        self.start_master();
        // Where a hook or a wave waits for room that only later ones leave, and where one machine
        // has no room to roll, nobody but a person can help.
        let cramped = self.repo.staged || self.members().count() == 1;
        for node in 0..self.agents.len() {
            if cramped {
                self.agents[node].grow();
            }
            self.heal_node(node)?;
        }
        self.undo_orders();
        self.repo.heal();
        self.published();
        Ok(())
    }

    fn heal_node(&mut self, node: usize) -> Result<(), String> {
        let now = self.now;
        let agent = &mut self.agents[node];
        agent.link = Link::default();
        agent.clock.set(0, 0, now);
        // What was put off while it hung comes when it was put off to.
        let hung = agent.hangs_until.max(agent.engine_hangs_until);
        (agent.hangs_until, agent.engine_hangs_until) = (now, now);
        agent.unfit_until = agent.unfit_until.max(hung).max(now);
        {
            let mut world = agent.engine.world();
            world.down = false;
            world.faults.clear();
            world.stubborn.clear();
            world.registry = Repo::images().collect();
            let mut platter = agent.disk.platter();
            (platter.full, platter.dies_in) = (false, None);
        }
        if agent.dead || agent.left {
            // Also if a restored master knows it again.
            self.at(Duration::from_secs(60), Happening::NodeRemoved { node });
            return Ok(());
        }
        self.start_agent(node)
    }
}
