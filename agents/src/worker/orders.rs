//! What the master orders and tells: sets of pods to run, and the directory of services; and what
//! `net` makes of the latter.

use std::collections::BTreeSet;
use std::time::Duration;

use kgit_protocol::directory::DirectoryChange;
use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::Pulled;
use tokio::time::Instant;

use crate::decide::outcome::Note;
use crate::link::Link;
use crate::node::Taken;
use crate::runtime::Runtime;
use crate::worker::catalogue::Told;
use crate::worker::{Have, Worker, WorkerError, now, removals, silence};

impl<R: Runtime, L: Link> Worker<R, L> {
    pub(super) fn have(&self) -> Have {
        Have { stamp: self.node.stamp().cloned(), directory: self.catalogue.digest() }
    }

    /// Takes what the master answered; what to ask with next.
    pub(super) fn take_orders(&mut self, pulled: Pulled) -> Result<Have, WorkerError> {
        if let Some(head) = pulled.audit_head
            && self.witness.as_ref().is_none_or(|known| head.is_after(known))
        {
            self.journal.keep_witness(&head)?;
            self.outbox.witness(head.clone());
            self.witness = Some(head);
        }
        let mut need_whole = false;
        match self.node.take(pulled.orders) {
            Taken::Applied(changed) => self.applied(&changed)?,
            Taken::NeedWhole => need_whole = true,
            Taken::Stale => tracing::warn!("refused orders older than those being carried out"),
            Taken::Unchanged => {}
        }
        let told = self.take_directory(pulled.directory)?;
        let mut have = self.have();
        have.stamp = have.stamp.filter(|_| !need_whole);
        have.directory = have.directory.filter(|_| told == Told::Applied);
        Ok(have)
    }

    fn take_directory(&mut self, change: Option<DirectoryChange>) -> Result<Told, WorkerError> {
        let keep_others = self.node.set().is_some_and(|set| set.keep_others);
        if !keep_others {
            self.catalogue.let_go(&self.journal)?;
        }
        let Some(change) = change else { return Ok(Told::Applied) };
        let told = self.catalogue.take(change, keep_others, &self.journal)?;
        if let Some(traffic) = &mut self.traffic {
            self.node.serve(self.catalogue.served(&self.shared.scope.node));
            traffic.feed(&self.node, &self.catalogue);
        }
        Ok(told)
    }

    /// What `net` has in force is new.
    pub(super) fn take_traffic(&mut self) {
        let Some(traffic) = &mut self.traffic else { return };
        let drained = traffic.drained();
        if !drained.is_empty() {
            self.look_at = Instant::now();
        }
        for uid in drained {
            self.node.note(&uid, Note::Drained, now());
        }
        traffic.tell(&self.outbox, &self.catalogue);
        self.refresh_names();
    }

    /// Has pods ask where names are answered.
    pub(super) fn refresh_names(&mut self) {
        let Some(traffic) = &self.traffic else { return };
        if !self.shared.places.resolver.update(traffic.name_server()) {
            return;
        }
        let pods = self.node.set().into_iter().flat_map(|set| set.pods.values());
        for pod in pods.chain(self.node.kept().values()) {
            if let Err(error) = self.shared.places.refresh_names(pod) {
                tracing::warn!(pod = pod.name, %error, "resolv.conf is not brought up to date");
            }
        }
    }

    pub(super) fn look_for_silence(&mut self) {
        if Instant::now() < self.silence_at {
            return;
        }
        self.silence_at = Instant::now() + silence::EVERY;
        let Some(directory) = self.catalogue.in_force() else { return };
        let all = silence::suspects(directory, &self.node, &self.view, now());
        if !all.is_empty() {
            tokio::spawn(silence::check(self.shared(), all));
        }
    }

    fn applied(&mut self, changed: &BTreeSet<PodUid>) -> Result<(), WorkerError> {
        // What is kept of the set before is on disk before the next: else an older order would hold again
        // after a crash.
        self.remember()?;
        if let Some(set) = self.node.set() {
            self.journal.keep_set(set)?;
            if self.outbox.applied(set.stamp.clone()) {
                // A master that was restored may not know what it was told before.
                self.complete_at = Instant::now();
            }
        }
        for pod in changed.iter().filter_map(|uid| self.node.pod(uid)) {
            if let Err(error) = self.shared.places.refresh_files(pod) {
                tracing::warn!(pod = pod.name, %error, "files of a volume not brought up to date");
            }
        }
        self.remove_ordered_volumes();
        self.look_within(Duration::ZERO);
        Ok(())
    }

    pub(super) fn remove_ordered_volumes(&mut self) {
        let Some(set) = self.node.set() else { return };
        let due = self.removals.due(set, self.node.kept(), Instant::now());
        if !due.is_empty() {
            tokio::spawn(removals::carry_out(self.shared(), due));
        }
    }
}
