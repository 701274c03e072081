//! Crash points: the process can be told to die right before or right after its nth commit.
//!
//! Every write of the store is one transaction through one function, so counting there
//! enumerates them all; a test that walks the numbers has seen every crash there is.

/// Where to die, if anywhere. Each transaction of this process counts, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashPoints {
    at: Option<(u64, Moment)>,
    commits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Everything is written, nothing is durable.
    Before,
    /// Durable, and nobody was told.
    After,
}

impl CrashPoints {
    /// Reads `store:7:before` or `store:7:after`. `None`: the text is meant for somebody else.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, moment) = text.strip_prefix("store:")?.split_once(':')?;
        let moment = match moment {
            "before" => Moment::Before,
            "after" => Moment::After,
            _ => return None,
        };
        Some(Self { at: Some((number.parse().ok()?, moment)), commits: 0 })
    }

    pub(super) fn before_commit(&mut self) {
        self.commits += 1;
        if self.at.is_some() {
            tracing::debug!(number = self.commits, "commit");
        }
        self.reach(Moment::Before);
    }

    pub(super) fn after_commit(&mut self) {
        self.reach(Moment::After);
    }

    fn reach(&self, moment: Moment) {
        if self.at == Some((self.commits, moment)) {
            // As abrupt as a kill: no destructor runs, no buffer is flushed.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_point_is_named_by_number_and_moment() {
        let parsed = CrashPoints::parse("store:7:before").unwrap();
        assert_eq!(parsed.at, Some((7, Moment::Before)));
        assert_eq!(CrashPoints::parse("docker:7:before"), None);
        assert_eq!(CrashPoints::parse("store:x:after"), None);
        assert_eq!(CrashPoints::parse("store:1:during"), None);
    }
}
