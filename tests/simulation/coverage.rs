//! Which faults struck at which moments: a fault that never meets a rollout proves nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::people::Order;
use crate::repo::Commit;
use crate::weather::Fault;

#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub met: BTreeMap<(Fault, &'static str), u64>,
    pub commits: BTreeMap<Commit, u64>,
    pub orders: BTreeMap<Order, u64>,
    /// What became of machines that were no members.
    pub strangers: BTreeMap<&'static str, u64>,
    pub turns: u64,
    pub transactions: u64,
    pub calls: u64,
    pub looks: u64,
    pub virtual_seconds: u64,
    /// See `hours`.
    pub hours_that_count: u64,
}

impl Coverage {
    pub fn met(&mut self, fault: Fault, moments: &BTreeSet<&'static str>) {
        *self.met.entry((fault, "any")).or_default() += 1;
        for moment in moments {
            *self.met.entry((fault, moment)).or_default() += 1;
        }
    }

    pub fn stranger(&mut self, what: &'static str) {
        *self.strangers.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.met {
            *self.met.entry(*key).or_default() += count;
        }
        for (key, count) in &other.commits {
            *self.commits.entry(*key).or_default() += count;
        }
        for (key, count) in &other.orders {
            *self.orders.entry(*key).or_default() += count;
        }
        for (what, count) in &other.strangers {
            *self.strangers.entry(what).or_default() += count;
        }
        self.looks += other.looks;
        self.hours_that_count += other.hours_that_count;
        self.turns += other.turns;
        self.transactions += other.transactions;
        self.calls += other.calls;
        self.virtual_seconds += other.virtual_seconds;
    }

    pub fn table(&self) -> String {
        let moments: BTreeSet<&str> = self.met.keys().map(|(_, moment)| *moment).collect();
        let mut lines = vec![format!(
            "{} cluster-hours, {} of them with {}; {} turns, {} transactions, {} looks, {} engine \
             calls\ncommits {:?}\norders {:?}\nstrangers {:?}",
            self.virtual_seconds / 3600,
            self.hours_that_count,
            "5 nodes, a commit and 3 faults or more",
            self.turns,
            self.transactions,
            self.looks,
            self.calls,
            self.commits,
            self.orders,
            self.strangers
        )];
        let cells = |name: &str, cell: &dyn Fn(&str) -> String| {
            let row: Vec<String> =
                moments.iter().map(|moment| format!("{:>11}", cell(moment))).collect();
            format!("{name:<31}{}", row.join(""))
        };
        lines.push(cells("", &|moment| moment.to_owned()));
        for fault in Fault::ALL {
            let count = |moment: &str| {
                let found = self.met.iter().find(|((f, m), _)| *f == fault && *m == moment);
                found.map_or(0, |(_, count)| *count).to_string()
            };
            lines.push(cells(&format!("{fault:?}"), &count));
        }
        lines.join("\n")
    }
}
