//! The link: what the agents' tasks send and wait for, and what becomes of it on the way.

use std::time::Duration;

use futures_util::FutureExt as _;
use kgit_protocol::ids::BootId;
use kgit_protocol::messages::Report;
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::{ContainerUsage, NodeUsage, PodUsage, Usage};

use crate::checks::Checked;
use crate::cluster::Cluster;
use crate::happening::{Answer, Happening, Request, Sabotage, Sends};
use crate::process::{Pending, Process};
use crate::weather::Fault;

/// As in the agent's tasks and its link; a pull may take so much longer than it is held.
const POLL_GRACE: Duration = Duration::from_secs(15);
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// A quarter of the shortest lease.
const BEAT: Duration = Duration::from_secs(10);
const USAGE: Duration = Duration::from_secs(15);

impl Cluster {
    pub fn travel(&mut self) -> Vec<Duration> {
        if self.strikes(Fault::MessageLost) {
            return Vec::new();
        }
        let mut times = vec![self.random.millis(1, 30)];
        if self.strikes(Fault::MessageLate) {
            times[0] = self.random.millis(1_000, 45_000);
        }
        if self.strikes(Fault::MessageDoubled) {
            times.push(self.random.millis(1, 30_000));
        }
        times
    }

    pub fn reply(&mut self, node: usize, id: u64, answer: Answer) {
        if self.agents[node].link.deaf {
            return;
        }
        let life = self.agents[node].life;
        for delay in self.travel() {
            let answer = answer.clone();
            self.at(delay, Happening::AtAgent { node, life, id, answer });
        }
    }

    pub fn send(&mut self, node: usize, life: u64, what: Sends) {
        if what == Sends::Usage {
            return self.send_usage(node, life);
        }
        self.requests += 1;
        let poll_limit = self.pace.poll + POLL_GRACE;
        let sent = self.agents[node].clock.uptime(self.now);
        let pending = Pending { id: self.requests, sent };
        let loses = self.sabotage == Sabotage::LosesReports;
        let Some(process) = self.process(node, life) else { return };
        let (request, limit) = match what {
            Sends::Pull => {
                process.pull = Some(pending);
                let (have, witness) = (process.have.clone(), process.witness.clone());
                (Request::Pull { have, witness }, poll_limit)
            }
            Sends::Beat => {
                process.beat = Some(pending);
                (Request::Heartbeat, REQUEST_LIMIT)
            }
            Sends::Usage => return,
            Sends::Report => {
                if process.reporting.as_ref().is_some_and(|(pending, _)| pending.id > 0) {
                    return;
                }
                let again = process.reporting.take().map(|(_, report)| report);
                let Some(mut report) = again.or_else(|| take(process)) else { return };
                if loses {
                    report.pods.clear();
                }
                process.reporting = Some((pending, report.clone()));
                (Request::Report(Box::new(report)), REQUEST_LIMIT)
            }
        };
        self.at(limit, Happening::TimedOut { node, life, id: pending.id });
        if self.agents[node].link.mute {
            return;
        }
        for delay in self.travel() {
            let (request, id) = (request.clone(), pending.id);
            self.at(delay, Happening::AtMaster { node, life, id, request });
        }
    }

    /// A request failed, or was given up.
    pub fn failed(&mut self, node: usize, life: u64, id: u64) {
        let Some(process) = self.process(node, life) else { return };
        let is = |pending: &Option<Pending>| pending.is_some_and(|pending| pending.id == id);
        let what = if is(&process.pull) {
            process.pull = None;
            Sends::Pull
        } else if is(&process.beat) {
            process.beat = None;
            Sends::Beat
        } else if let Some((pending, _)) = &mut process.reporting
            && pending.id == id
        {
            pending.id = 0;
            Sends::Report
        } else {
            return;
        };
        let delay = process.backoff();
        self.at(delay, Happening::AgentSends { node, life, what });
    }

    pub fn at_agent(&mut self, node: usize, life: u64, id: u64, answer: Answer) -> Checked {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        match answer {
            Answer::Failed => self.failed(node, life, id),
            Answer::Lease => {
                if let Some(beat) = process.beat.take_if(|pending| pending.id == id) {
                    process.answered(beat);
                    self.hears(node, beat);
                    let delay = self.next_of(BEAT);
                    self.at(delay, Happening::AgentSends { node, life, what: Sends::Beat });
                }
            }
            Answer::Acknowledged(sequence) => {
                let current =
                    process.reporting.take_if(|(p, r)| p.id == id && sequence >= r.sequence);
                if let Some((_, report)) = current {
                    process.outbox.acknowledged(&report);
                    process.failures = 0;
                    self.send(node, life, Sends::Report);
                }
            }
            Answer::Pulled(pulled) => {
                // An answer that comes late or twice is taken as well: orders are fenced.
                let current = process.pull.take_if(|pending| pending.id == id);
                if let Some(pull) = current {
                    process.answered(pull);
                }
                let Ok((taken, have)) = process.take_orders(*pulled, now) else {
                    self.journal_fails(node);
                    return Ok(());
                };
                if let Some(pull) = current {
                    process.have = have;
                    self.hears(node, pull);
                }
                self.trace.say(now, || format!("n{node} takes orders: {taken:?}"));
                self.took(node)?;
                self.send(node, life, Sends::Report);
                if current.is_some() {
                    self.send(node, life, Sends::Pull);
                }
                self.look_later(node);
            }
        }
        Ok(())
    }

    fn hears(&mut self, node: usize, request: Pending) {
        let agent = &mut self.agents[node];
        let since = agent.clock.uptime(self.now).saturating_sub(request.sent);
        let since = i64::try_from(since.as_millis()).unwrap_or(0);
        agent.heard_at = agent.heard_at.max(Timestamp(self.now.0 - since));
    }

    /// What the agent may run from now on, and that its orders only ever go ahead.
    pub fn took(&mut self, node: usize) -> Checked {
        let agent = &mut self.agents[node];
        let Some(set) = agent.process.as_ref().and_then(|process| process.node.set()) else {
            return Ok(());
        };
        let place = (set.stamp.epoch.0, set.stamp.generation.0);
        if agent.newest.is_some_and(|newest| place < newest) {
            return Err(format!("{}'s orders went back to {place:?}", agent.name));
        }
        agent.newest = Some(place);
        agent.given.extend(set.pods.keys().cloned());
        Ok(())
    }
}

impl Cluster {
    /// When something that is done every so often is next done: together with others, if so.
    pub fn next_of(&self, period: Duration) -> Duration {
        if !self.pace.beats_together {
            return period;
        }
        let period = period.as_millis();
        let gone = u128::from(self.now.since(self.start).as_millis() as u64) % period;
        Duration::from_millis(u64::try_from(period - gone).unwrap_or(0))
    }

    /// What each pod uses: its share of what its workload has to do.
    fn send_usage(&mut self, node: usize, life: u64) {
        if self.process(node, life).is_none() {
            return;
        }
        let period = if self.pace.hours == 0 { USAGE } else { USAGE * 4 };
        let delay = self.next_of(period);
        self.at(delay, Happening::AgentSends { node, life, what: Sends::Usage });
        if self.agents[node].link.mute || !self.has_autoscalers() {
            return;
        }
        let usage = self.usage(node);
        for delay in self.travel() {
            let request = Request::Usage(Box::new(usage.clone()));
            self.at(delay, Happening::AtMaster { node, life, id: 0, request });
        }
    }

    fn usage(&self, node: usize) -> Usage {
        let agent = &self.agents[node];
        let at = agent.clock.at(self.now).wall;
        let share = |name: &str| {
            let (workload, load) =
                self.load.iter().find(|(it, _)| name.starts_with(it.as_str()))?;
            let pods = self.world.pods.keys().filter(|key| key.name.starts_with(workload.as_str()));
            Some(load / (pods.count().max(1) as u64))
        };
        let engine = agent.engine.world();
        let alive = engine.containers.values().filter(|seen| seen.state.is_alive());
        let main = alive.filter(|seen| seen.identity.container == "main");
        let pods = main.map(|seen| PodUsage {
            uid: seen.identity.pod.clone(),
            at,
            window_seconds: 15,
            containers: vec![ContainerUsage {
                name: "main".to_owned(),
                cpu_millis: share(&seen.identity.pod_name).unwrap_or(10),
                memory_bytes: 1 << 20,
            }],
        });
        let boot = BootId::new(format!("{}-{}", agent.name, agent.life));
        Usage { version: 1, boot, node: NodeUsage::default(), pods: pods.collect() }
    }
}

/// What the outbox has; nothing waits in virtual time.
fn take(process: &Process) -> Option<Report> {
    process.outbox.next().now_or_never()
}
