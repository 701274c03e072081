//! What happened, line by line; kept only when somebody will read it.

use kgit_protocol::time::Timestamp;

/// A replay that runs away must not fill the memory; the end is what matters.
const MAX_LINES: usize = 200_000;

#[derive(Debug, Default)]
pub struct Trace {
    pub kept: bool,
    start: Timestamp,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(kept: bool, start: Timestamp) -> Self {
        Self { kept, start, lines: Vec::new() }
    }

    pub fn say(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if !self.kept || self.lines.len() >= MAX_LINES {
            return;
        }
        let since = now.since(self.start);
        self.lines.push(format!("{:>6}.{:03} {}", since.as_secs(), since.subsec_millis(), line()));
    }

    pub fn last(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }
}
