//! The agents' part in the cluster: their processes come and go, look, and work call by call.

use std::error::Error as _;
use std::time::Duration;

use kgit_agent::decide::outcome::{Note, ProbeResult, PullTold};
use kgit_agent::runtime::{EventKind, RunState, Runtime as _, Seen};
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::time::Timestamp;

use crate::calls::{Call, Outcome, now as at_once};
use crate::checks::Checked;
use crate::cluster::Cluster;
use crate::happening::{Happening, Sabotage, Sends};
use crate::process::Process;
use crate::weather::Fault;

impl Cluster {
    pub fn process(&mut self, node: usize, life: u64) -> Option<&mut Process> {
        let agent = &mut self.agents[node];
        if agent.life == life { agent.process.as_mut() } else { None }
    }

    pub fn start_agent(&mut self, node: usize) -> Checked {
        let agent = &mut self.agents[node];
        if agent.process.is_some() || agent.dead || agent.left {
            return Ok(());
        }
        agent.disk.platter().lies = self.sabotage == Sabotage::SyncsNothing;
        if agent.disk.platter().full && agent.newest.is_none() {
            // It can't even keep its key, and is started again and again until it can.
            self.at(Duration::from_secs(20), Happening::AgentStarts { node });
            return Ok(());
        }
        agent.start(self.now, self.pace.resync).map_err(|error| {
            format!("{}'s agent can't start: {error}: {:?}", agent.name, error.source())
        })?;
        self.say(|| format!("n{node} agent starts"));
        let life = self.agents[node].life;
        // What the journal has was taken, even if the power went before anybody saw it.
        self.took(node)?;
        self.look_later(node);
        for what in [Sends::Pull, Sends::Report, Sends::Beat, Sends::Usage] {
            self.at(Duration::from_millis(1), Happening::AgentSends { node, life, what });
        }
        Ok(())
    }

    pub fn kill_agent(&mut self, node: usize) {
        self.say(|| format!("n{node} agent dies"));
        self.agents[node].die();
        let delay = self.random.pick(&[10, 1_000, 20_000, 100_000, 400_000]);
        self.at(Duration::from_millis(delay), Happening::AgentStarts { node });
    }

    /// The journal could not be written: the process ends, or the whole machine does.
    pub fn journal_fails(&mut self, node: usize) {
        self.say(|| format!("n{node} journal can't be written"));
        if self.agents[node].disk.platter().dead {
            return self.reboot(node);
        }
        self.kill_agent(node);
    }

    /// The power goes, and comes back.
    pub fn reboot(&mut self, node: usize) {
        self.kill_agent(node);
        self.agents[node].host_boot += 1;
        self.end_all(node, 137);
        self.agents[node].disk.power_cut(&mut self.random);
    }

    /// The agent hears what its engine told, and looks when something calls for it.
    pub fn listen(&mut self, node: usize) -> Checked {
        self.agents[node].hear(self.now);
        let waiting = self.agents[node].process.as_ref().map(|process| process.look_at);
        if waiting.is_some_and(|at| at <= self.now.after(Duration::from_millis(25))) {
            self.look_later(node);
        }
        self.checks.engine(&self.agents[node])
    }

    pub fn look_later(&mut self, node: usize) {
        let agent = &mut self.agents[node];
        let Some(process) = &mut agent.process else { return };
        let at = process.look_at.max(self.now);
        if process.look_queued.is_some_and(|queued| queued <= at) {
            return;
        }
        process.look_queued = Some(at);
        let (delay, life) = (at.since(self.now), agent.life);
        self.at(delay, Happening::AgentLooks { node, life });
    }

    pub fn look(&mut self, node: usize, life: u64) {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return };
        if process.look_queued.is_some_and(|queued| queued <= now) {
            process.look_queued = None;
        }
        if process.look_at > now {
            return self.look_later(node);
        }
        if self.strikes(Fault::PowerFails) {
            let left = u32::try_from(self.random.below(9)).unwrap_or(0);
            self.agents[node].disk.platter().dies_in = Some(left);
        }
        if self.sabotage == Sabotage::IgnoresFence
            && let Some(process) = self.process(node, life)
        {
            process.contact = Some(Duration::MAX);
        }
        let Ok(looked) = self.agents[node].look(now) else { return self.journal_fails(node) };
        let Some(looked) = looked else { return };
        self.coverage.looks += 1;
        if self.strikes(Fault::AgentDiesBetweenJournalAndWork) {
            return self.kill_agent(node);
        }
        for volume in looked.removed {
            self.say(|| format!("n{node} removes volume {volume}"));
        }
        for pod in looked.work {
            if self.trace.kept {
                self.say_work(node, &pod);
            }
            let delay = self.random.millis(1, 50);
            self.at(delay, Happening::AgentCalls { node, life, pod });
        }
        for (key, target) in looked.new_probes {
            let initial = u64::from(target.probe.initial_delay_seconds);
            self.at(Duration::from_secs(initial), Happening::Probes { node, life, key });
        }
        self.send(node, life, Sends::Report);
        self.look_later(node);
    }

    /// Something that was done apart ended.
    pub fn note(&mut self, node: usize, life: u64, pod: &PodUid, note: Note) {
        let moment = self.agents[node].clock.at(self.now);
        let Some(process) = self.process(node, life) else { return };
        process.note(pod, note, moment);
        self.look_later(node);
    }

    pub fn say_work(&mut self, node: usize, pod: &PodUid) {
        let job = self.agents[node].process.as_ref().and_then(|process| process.jobs.get(pod));
        let calls: Vec<String> =
            job.iter().flat_map(|job| &job.calls).map(|call| format!("{call:?}")).collect();
        let name = job
            .and_then(|job| job.pod.as_ref())
            .map_or_else(|| pod.to_string(), |pod| pod.name.clone());
        self.say(|| format!("n{node} {name}: {}", calls.join("; ")));
    }

    pub fn call(&mut self, node: usize, life: u64, pod: &PodUid) -> Checked {
        if self.process(node, life).is_none() {
            return Ok(());
        }
        if self.strikes(Fault::AgentDiesBeforeCall) {
            self.kill_agent(node);
            return Ok(());
        }
        if self.weather.faults.contains(&Fault::CallFails) {
            self.maybe_fail_call(node, pod);
        }
        self.coverage.calls += 1;
        let (now, moment) = (self.now, self.agents[node].clock.at(self.now));
        let scope = self.agents[node].scope(&self.world.cluster);
        let engine = self.agents[node].engine.clone();
        let sabotage = self.sabotage;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let Some(mut job) = process.jobs.remove(pod) else { return Ok(()) };
        let Some(call) = job.calls.pop_front() else {
            process.finished(pod, false, now);
            self.look_later(node);
            return Ok(());
        };
        let skipped = sabotage == Sabotage::IgnoresStop
            && matches!(call, Call::Terminate(_) | Call::Kill(_) | Call::Remove(_));
        let made = match skipped {
            true => Outcome::Done(None),
            false => job.make(&call, &engine, &scope),
        };
        let word = call.word();
        if let Outcome::Failed(note) = &made {
            self.trace.say(now, || format!("n{node} {word} failed: {note:?}"));
        }
        self.apart(node, life, pod, &call);
        let (note, failed, over) = match made {
            Outcome::Done(note) => (note, false, false),
            Outcome::Over(note) => (note, false, true),
            Outcome::Failed(note) => (note, true, true),
        };
        let started = match (&call, &note) {
            (Call::Run { container, .. }, Some(Note::Started { id, .. })) => {
                Some((container.clone(), id.clone()))
            }
            _ => None,
        };
        if let Some((container, id)) = &started {
            self.checks.started(pod, container)?;
            self.begins(node, id);
        }
        self.sabotage_after(node, pod, &call, started.is_some());
        if self.strikes(Fault::AgentDiesAfterCall) {
            self.kill_agent(node);
            return Ok(());
        }
        if over && !failed {
            job.skip_start();
        }
        let end = failed || job.calls.is_empty();
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.jobs.insert(pod.clone(), job);
        if let Some(note) = note {
            process.note(pod, note, moment);
        }
        if end {
            process.finished(pod, failed, now);
            self.look_later(node);
        } else {
            let delay = self.random.millis(1, 200);
            self.at(delay, Happening::AgentCalls { node, life, pod: pod.clone() });
        }
        Ok(())
    }

    pub fn maybe_fail_call(&mut self, node: usize, pod: &PodUid) {
        let next = self.agents[node].process.as_ref().and_then(|process| {
            process.jobs.get(pod).and_then(|job| job.calls.front()).map(Call::word)
        });
        if let Some(word) = next
            && self.strikes(Fault::CallFails)
        {
            self.agents[node].engine.world().faults.insert(word.to_owned(), 1);
        }
    }

    pub fn sabotage_after(&mut self, node: usize, pod: &PodUid, call: &Call, started: bool) {
        let engine = self.agents[node].engine.clone();
        let mut world = engine.world();
        match (self.sabotage, call) {
            (Sabotage::DoublesContainers, Call::Run { .. }) if started => {
                let Some(seen) =
                    world.containers.values().find(|seen| seen.state.is_alive()).cloned()
                else {
                    return;
                };
                let id = format!("{}-again", seen.id);
                world.containers.insert(id.clone(), Seen { id, ..seen });
                world.told += 1;
            }
            (Sabotage::SharesClaims, Call::Run { .. }) if started => {
                drop(world);
                self.share_claim(node, pod);
            }
            (Sabotage::RemovesVolumes, Call::Clean) => {
                world.volumes.clear();
                world.told += 1;
            }
            (Sabotage::StartsWhatIsGone, Call::Clean) => {
                let gone =
                    self.agents[node].told.iter().rev().find_map(|event| match &event.kind {
                        EventKind::Container { identity, .. } if identity.pod == *pod => {
                            Some(identity.clone())
                        }
                        _ => None,
                    });
                if let Some(identity) = gone {
                    let state = RunState::Running { started_at: world.now };
                    let (id, image) = (format!("{pod}-ghost"), "web:1".to_owned());
                    let seen = Seen { id: id.clone(), identity, state, image, address: None };
                    world.containers.insert(id, seen);
                    world.told += 1;
                }
            }
            _ => {}
        }
    }

    /// A pod with a claim runs on another node as well, as if that had been ordered.
    fn share_claim(&mut self, node: usize, pod: &PodUid) {
        let other = (node + 1) % self.agents.len();
        let Some(twin) = self.checks.with_claim(pod, &self.agents[other].name) else { return };
        let world = self.agents[node].engine.world();
        let seen = world.containers.values().find(|seen| seen.identity.pod == *pod).cloned();
        drop(world);
        let Some(mut seen) = seen.filter(|_| other != node) else { return };
        seen.identity.pod = twin.clone();
        seen.id.push_str("-shared");
        self.agents[other].given.insert(twin);
        let mut world = self.agents[other].engine.world();
        world.told += 1;
        world.containers.insert(seen.id.clone(), seen);
    }

    /// Starts what is done apart from the other calls.
    pub fn apart(&mut self, node: usize, life: u64, pod: &PodUid, call: &Call) {
        match call {
            Call::Pull { container, image, attempt } => {
                let delay = match self.strikes(Fault::PullSlow) {
                    true => self.random.pick(&[120_000, 600_000, 1_200_000]),
                    false => self.random.pick(&[20, 500, 3_000, 40_000]),
                };
                let (pod, container, image) = (pod.clone(), container.clone(), image.clone());
                let attempt = *attempt;
                self.at(
                    Duration::from_millis(delay),
                    Happening::Fetched { node, life, pod, container, image, attempt },
                );
            }
            Call::Hook { container, id, hook } => {
                let delay = self.random.millis(10, 8_000);
                let note = Note::HookEnded {
                    container: container.clone(),
                    id: id.clone(),
                    hook: *hook,
                    result: Ok(()),
                };
                self.at(delay, Happening::HookEnds { node, life, pod: pod.clone(), note });
            }
            _ => {}
        }
    }

    pub fn fetched(
        &mut self,
        node: usize,
        life: u64,
        pod: &PodUid,
        container: String,
        image: &str,
        attempt: Attempt,
    ) {
        let engine = self.agents[node].engine.clone();
        if self.process(node, life).is_none() {
            return;
        }
        let here = engine.world().images.contains(image);
        let pulled = match (here, self.strikes(Fault::PullFails)) {
            (true, _) => Ok(()),
            (false, true) => Err("connection reset".to_owned()),
            (false, false) => at_once(engine.pull(image, &[])).map_err(|error| error.to_string()),
        };
        let note = match pulled {
            Ok(()) => {
                let told = PullTold::Fetched(image.to_owned());
                Note::Pulled { container, attempt, told }
            }
            Err(message) => Note::PullFailed { container, message },
        };
        self.note(node, life, pod, note);
    }

    /// A process begins: those of jobs end by themselves, and those of bad images crash.
    pub fn begins(&mut self, node: usize, id: &str) {
        let seen = self.agents[node].engine.world().containers.get(id).cloned();
        let Some(seen) = seen else { return };
        let RunState::Running { started_at } = seen.state else { return };
        let fails = !self.calm && self.random.permille(200);
        let (delay, code) = match seen.image.split(':').next() {
            Some("job") => (self.random.millis(500, 30_000), i64::from(fails)),
            Some("crash") => (self.random.millis(100, 3_000), 1),
            _ => return,
        };
        let id = id.to_owned();
        self.at(delay, Happening::ProcessEnds { node, id, started_at, code });
    }

    pub fn process_ends(&mut self, node: usize, id: &str, started_at: Timestamp, code: i64) {
        let engine = self.agents[node].engine.clone();
        let seen = engine.world().containers.get(id).cloned();
        let Some(seen) = seen.filter(|seen| seen.state == RunState::Running { started_at }) else {
            return;
        };
        engine.exit(id, code);
        let identity = &seen.identity;
        if code == 0 {
            self.checks.ended_well(&identity.pod, &identity.container);
        }
        self.trace.say(self.now, || {
            format!("n{node} {}/{} ends with {code}", identity.pod_name, identity.container)
        });
    }

    pub fn probe(&mut self, node: usize, life: u64, key: (String, u8)) {
        let Some(process) = self.process(node, life) else { return };
        let Some((pod, target)) = process.probes.get(&key).cloned() else { return };
        let fails = self.strikes(Fault::ProbeFails);
        let result = match fails {
            true => ProbeResult::Failure("refused".to_owned()),
            false => ProbeResult::Success,
        };
        let period = Duration::from_secs(u64::from(target.probe.period_seconds.max(1)));
        let (container, id, kind, probe) = (target.container, target.id, target.kind, target.probe);
        self.note(node, life, &pod, Note::Probed { container, id, kind, probe, result });
        self.at(period, Happening::Probes { node, life, key });
    }
}
