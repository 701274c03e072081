//! Which hours count: those with five nodes at least all along, a commit, and three faults that
//! are more than a message lost.

use std::collections::BTreeMap;

use kgit_protocol::time::Timestamp;

const NODES: usize = 5;
const COMMITS: u32 = 1;
const FAULTS: u32 = 3;

#[derive(Debug)]
pub struct Hours {
    start: Timestamp,
    of: BTreeMap<u64, Hour>,
}

#[derive(Clone, Copy, Debug)]
struct Hour {
    least_nodes: usize,
    commits: u32,
    faults: u32,
}

impl Default for Hour {
    fn default() -> Self {
        Self { least_nodes: usize::MAX, commits: 0, faults: 0 }
    }
}

impl Hours {
    pub fn new(start: Timestamp) -> Self {
        Self { start, of: BTreeMap::new() }
    }

    fn at(&mut self, now: Timestamp, members: usize) -> &mut Hour {
        let hour = self.of.entry(now.since(self.start).as_secs() / 3600).or_default();
        hour.least_nodes = hour.least_nodes.min(members);
        hour
    }

    /// Half of this hour is over, and nobody has committed.
    pub fn want_a_commit(&self, now: Timestamp) -> bool {
        let seconds = now.since(self.start).as_secs();
        let commits = self.of.get(&(seconds / 3600)).map_or(0, |hour| hour.commits);
        seconds % 3600 > 1800 && commits == 0
    }

    pub fn commit(&mut self, now: Timestamp, members: usize) {
        self.at(now, members).commits += 1;
    }

    pub fn fault(&mut self, now: Timestamp, members: usize) {
        self.at(now, members).faults += 1;
    }

    /// Members change with faults and joins alone, and both are told of here.
    pub fn members(&mut self, now: Timestamp, members: usize) {
        self.at(now, members);
    }

    /// Hours that count, of those that are over by `end`.
    pub fn that_count(&self, end: Timestamp) -> u64 {
        let whole = end.since(self.start).as_secs() / 3600;
        let counts = |hour: &Hour| {
            hour.least_nodes >= NODES && hour.commits >= COMMITS && hour.faults >= FAULTS
        };
        self.of.range(..whole).filter(|(_, hour)| counts(hour)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_hard_hours_count() {
        let start = Timestamp(0);
        let at = |minutes: u64| start.after(Duration::from_secs(minutes * 60));
        let mut hours = Hours::new(start);
        for (minute, nodes) in [(1, 5), (2, 5), (59, 5), (61, 5), (62, 4), (70, 5), (130, 5)] {
            hours.fault(at(minute), nodes);
        }
        assert_eq!(hours.that_count(at(180)), 0, "none has a commit");
        for minute in [30, 90, 150] {
            hours.commit(at(minute), 5);
        }
        assert_eq!(hours.that_count(at(59)), 0, "it is not over");
        assert_eq!(hours.that_count(at(180)), 1, "the others had four nodes, or one fault");
    }
}
