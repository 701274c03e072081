//! Checking the audit chain, against itself and against what the agents were told.
//!
//! Whoever can write the file can also recompute the chain; what they can't reach is the heads
//! that the agents keep. So a rewritten past is found by the agents' testimony, and everything
//! less thorough by the chain itself.

use std::collections::BTreeMap;
use std::fmt;

use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use rusqlite::Connection;
use serde::Serialize;

use crate::domain::audit::Body;
use crate::store::audit;
use crate::store::chain;
use crate::store::error::StoreError;
use crate::store::reader::{ENTRY_COLUMNS, RawEntry, Reader};

/// Problems listed in full; a chain that is wrong throughout says so once.
const MAX_PROBLEMS: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub entries: u64,
    /// The first and the last entry there is.
    pub first: u64,
    pub head: AuditHead,
    /// Entries up to here were removed by order; 0: none.
    pub removed_through: u64,
    /// Entries whose text was taken out by order.
    pub redacted: Vec<u64>,
    /// Agents whose testimony the chain contains.
    pub witnessed_by: Vec<NodeName>,
    /// Testimony that can't be compared any more, and why; no sign of tampering.
    pub notes: Vec<String>,
    /// Empty: the log is what it was.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether what the node was given can't be explained.
    pub fn contradicted_by(&self, node: &NodeName) -> bool {
        self.problems.iter().any(|problem| match problem {
            Problem::ShorterThanWitnessed { node: by, .. }
            | Problem::DiffersFromWitness { node: by, .. } => by == node,
            Problem::Gap { .. }
            | Problem::Broken { .. }
            | Problem::BodyChanged { .. }
            | Problem::RedactedWithoutOrder { .. }
            | Problem::CutOff { .. }
            | Problem::HeadDiffers { .. }
            | Problem::More => false,
        })
    }
}

/// One sign that somebody changed the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    /// Entries are missing between two others, or at the start without an anchor.
    Gap {
        after: u64,
        next: u64,
    },
    /// The entry's number, time, reconcile or digest was changed, or an entry before it.
    Broken {
        sequence: u64,
    },
    BodyChanged {
        sequence: u64,
    },
    /// The text is gone and no entry says who took it out.
    RedactedWithoutOrder {
        sequence: u64,
    },
    /// The log ends before the head that the store remembers.
    CutOff {
        ends_at: u64,
        head: u64,
    },
    /// The last entry is not the one that the store remembers.
    HeadDiffers {
        sequence: u64,
    },
    /// An agent was given a head that the log does not reach.
    ShorterThanWitnessed {
        node: NodeName,
        ends_at: u64,
        witnessed: u64,
    },
    /// An agent was given another entry under this number.
    DiffersFromWitness {
        node: NodeName,
        sequence: u64,
    },
    /// There are more; the rest is not listed.
    More,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { after, next } => {
                write!(f, "entries between {after} and {next} are missing")
            }
            Self::Broken { sequence } => {
                write!(f, "entry {sequence} does not follow the one before it")
            }
            Self::BodyChanged { sequence } => write!(f, "the text of entry {sequence} was changed"),
            Self::RedactedWithoutOrder { sequence } => {
                write!(f, "the text of entry {sequence} is gone and nobody ordered that")
            }
            Self::CutOff { ends_at, head } => {
                write!(f, "the log ends at entry {ends_at}, entries up to {head} were cut off")
            }
            Self::HeadDiffers { sequence } => {
                write!(f, "entry {sequence} is not the one that was written last")
            }
            Self::ShorterThanWitnessed { node, ends_at, witnessed } => write!(
                f,
                "the log ends at entry {ends_at}, but node {node} was given entry {witnessed}"
            ),
            Self::DiffersFromWitness { node, sequence } => {
                write!(f, "node {node} was given another entry {sequence}: the log was rewritten")
            }
            Self::More => write!(f, "and more"),
        }
    }
}

impl Reader {
    /// Reads the whole chain. `witnesses` come on top of those that are stored.
    pub fn verify(&self, witnesses: &[(NodeName, AuditHead)]) -> Result<VerifyReport, StoreError> {
        let mut all = self.witnesses()?;
        all.extend_from_slice(witnesses);
        self.with(|connection| {
            // One read transaction: the loop may append while this reads.
            let tx = connection
                .unchecked_transaction()
                .map_err(StoreError::sql("reading the audit log"))?;
            let tip = audit::load_tip(&tx, &self.cluster)?;
            let mut walk = Walk::start(self, &tx, &all)?;
            walk.run(&tx)?;
            walk.compare_head(&tip.head);
            walk.compare_witnesses(&all);
            Ok(walk.report)
        })
    }
}

struct Walk<'a> {
    reader: &'a Reader,
    previous: AuditHead,
    /// The digests that somebody witnessed, as the chain has them.
    wanted: BTreeMap<u64, Option<Digest>>,
    redacted_by_order: Vec<u64>,
    restores: Vec<Restore>,
    report: VerifyReport,
}

/// Testimony from before it about entries after `after` is about a lost life of the chain.
struct Restore {
    at: Timestamp,
    after: u64,
}

impl<'a> Walk<'a> {
    fn start(
        reader: &'a Reader,
        connection: &Connection,
        witnesses: &[(NodeName, AuditHead)],
    ) -> Result<Self, StoreError> {
        let previous = match newest_anchor(connection)? {
            Some(anchor) => anchor,
            None => chain::origin(&reader.cluster),
        };
        let report = VerifyReport {
            entries: 0,
            first: previous.sequence + 1,
            head: previous.clone(),
            removed_through: previous.sequence,
            redacted: Vec::new(),
            witnessed_by: Vec::new(),
            notes: Vec::new(),
            problems: Vec::new(),
        };
        let wanted = witnesses.iter().map(|(_, head)| (head.sequence, None)).collect();
        Ok(Self {
            reader,
            previous,
            wanted,
            redacted_by_order: Vec::new(),
            restores: Vec::new(),
            report,
        })
    }

    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let attempted = "reading the audit log";
        self.want();
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM audit ORDER BY sequence");
        let mut statement = connection.prepare(&sql).map_err(StoreError::sql(attempted))?;
        let mut rows = statement.query([]).map_err(StoreError::sql(attempted))?;
        while let Some(row) = rows.next().map_err(StoreError::sql(attempted))? {
            self.step(&RawEntry::read(row).map_err(StoreError::sql(attempted))?);
        }
        self.report.head = self.previous.clone();
        let without_order: Vec<u64> = (self.report.redacted.iter().copied())
            .filter(|sequence| !self.redacted_by_order.contains(sequence))
            .collect();
        for sequence in without_order {
            self.problem(Problem::RedactedWithoutOrder { sequence });
        }
        Ok(())
    }

    fn step(&mut self, entry: &RawEntry) {
        self.report.entries += 1;
        let expected = self.previous.sequence + 1;
        if entry.sequence != expected {
            let after = self.previous.sequence;
            self.problem(Problem::Gap { after, next: entry.sequence });
        } else if self.digest(entry) != entry.digest {
            self.problem(Problem::Broken { sequence: entry.sequence });
        }
        self.check_body(entry);
        let restored = self.previous.restored;
        self.previous =
            AuditHead { restored, sequence: entry.sequence, digest: entry.digest.clone() };
        self.want();
    }

    fn digest(&self, entry: &RawEntry) -> Digest {
        let RawEntry { sequence, at, reconcile, body_digest, .. } = entry;
        chain::link(&self.previous.digest, *sequence, *at, *reconcile, body_digest)
    }

    fn check_body(&mut self, entry: &RawEntry) {
        let Some(text) = &entry.body else {
            self.report.redacted.push(entry.sequence);
            return;
        };
        let body = serde_json::from_str::<Body>(text).ok();
        let kind = body.as_ref().map(Body::kind);
        if self.reader.key.digest(text.as_bytes()) != entry.body_digest
            || kind != Some(entry.kind.as_str())
        {
            self.problem(Problem::BodyChanged { sequence: entry.sequence });
            return;
        }
        match body {
            Some(Body::Redaction { sequence, .. }) => self.redacted_by_order.push(sequence),
            Some(Body::Restored { .. }) => {
                self.previous.restored = entry.at;
                self.restores.push(Restore { at: entry.at, after: entry.sequence - 1 });
            }
            _ => {}
        }
    }

    /// Keeps the digest that was just reached, if somebody witnessed that number.
    fn want(&mut self) {
        if let Some(seen) = self.wanted.get_mut(&self.previous.sequence) {
            *seen = Some(self.previous.digest.clone());
        }
    }

    fn compare_head(&mut self, stored: &AuditHead) {
        let AuditHead { sequence, digest, .. } = self.previous.clone();
        if sequence < stored.sequence {
            self.problem(Problem::CutOff { ends_at: sequence, head: stored.sequence });
        } else if (sequence, &digest) != (stored.sequence, &stored.digest) {
            self.problem(Problem::HeadDiffers { sequence });
        }
    }

    fn compare_witnesses(&mut self, witnesses: &[(NodeName, AuditHead)]) {
        for (node, head) in witnesses {
            match self.wanted.get(&head.sequence) {
                Some(Some(digest)) if *digest == head.digest => {
                    if !self.report.witnessed_by.contains(node) {
                        self.report.witnessed_by.push(node.clone());
                    }
                }
                Some(Some(_)) => self.contradicted(node, head),
                Some(None) | None => self.unreached(node, head),
            }
        }
    }

    fn contradicted(&mut self, node: &NodeName, head: &AuditHead) {
        let sequence = head.sequence;
        match self.lost_by(head) {
            Some(restored) => self.note_lost(node, sequence, restored),
            None => self.problem(Problem::DiffersFromWitness { node: node.clone(), sequence }),
        }
    }

    fn unreached(&mut self, node: &NodeName, head: &AuditHead) {
        let witnessed = head.sequence;
        let ends_at = self.previous.sequence;
        if witnessed < self.report.first {
            self.report.notes.push(format!(
                "node {node} was given entry {witnessed}, which was removed by order"
            ));
        } else if let Some(restored) = self.lost_by(head) {
            self.note_lost(node, witnessed, restored);
        } else if witnessed > ends_at {
            let node = node.clone();
            self.problem(Problem::ShorterThanWitnessed { node, ends_at, witnessed });
        }
        // What is left is inside a gap, which is a problem of its own.
    }

    fn note_lost(&mut self, node: &NodeName, sequence: u64, restored: u64) {
        self.report.notes.push(format!(
            "node {node} was given entry {sequence}, which was lost when the store was restored \
             to entry {restored}"
        ));
    }

    /// The entry to which a restore after the testimony took the chain back.
    fn lost_by(&self, head: &AuditHead) -> Option<u64> {
        let mut restores = self.restores.iter();
        let lost = |restore: &&Restore| restore.at > head.restored && head.sequence > restore.after;
        restores.find(lost).map(|restore| restore.after)
    }

    fn problem(&mut self, problem: Problem) {
        match self.report.problems.len() {
            0..MAX_PROBLEMS => self.report.problems.push(problem),
            MAX_PROBLEMS => self.report.problems.push(Problem::More),
            _ => {}
        }
    }
}

/// Where the remaining chain starts, if entries were removed by order.
fn newest_anchor(connection: &Connection) -> Result<Option<AuditHead>, StoreError> {
    let texts: Vec<String> = connection
        .prepare("SELECT body FROM audit WHERE kind = 'anchor' AND body IS NOT NULL")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(StoreError::sql("reading the audit log's anchors"))?;
    let anchors = texts.iter().filter_map(|text| match serde_json::from_str(text).ok()? {
        Body::Anchor { removed_through, last_digest, .. } => {
            let restored = Timestamp::default();
            Some(AuditHead { restored, sequence: removed_through, digest: last_digest })
        }
        _ => None,
    });
    Ok(anchors.max_by_key(|anchor| anchor.sequence))
}
