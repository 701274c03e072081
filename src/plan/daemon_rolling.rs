//! How a DaemonSet's pods are replaced node by node. Pure numbers and states.
//!
//! Source: upstream's `rollingUpdate` (`pkg/controller/daemon/update.go`). Where this departs from
//! it, docs/decisions/0010 says why.

use crate::domain::workload::DaemonUpdate;

/// How one pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Told to end, not gone yet.
    Ending,
    Unready,
    /// Ready, but not for minReadySeconds yet: it serves, and does not count.
    Ready,
    Available,
}

/// The pods on one node that is to run one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub old: Option<State>,
    pub new: Option<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub surge: u32,
    pub unavailable: u32,
}

impl Bounds {
    /// Both round up; if both come to nothing, one may be unavailable. `None`: pods are replaced
    /// only once they are deleted by somebody. Source: `updatedDesiredNodeCounts`.
    pub fn of(update: DaemonUpdate, nodes: u32) -> Option<Self> {
        let DaemonUpdate::RollingUpdate { max_surge, max_unavailable } = update else {
            return None;
        };
        let surge = max_surge.of_rounding_up(nodes);
        let unavailable = max_unavailable.of_rounding_up(nodes);
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Some(Self { surge, unavailable })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The old pod of the node makes room, or has been replaced.
    StopOld(usize),
    /// A new pod beside the old one.
    StartNew(usize),
}

/// What to replace now. Nodes without any pod are none of this: they get a new one in any case.
pub fn next(bounds: Bounds, spots: &[Spot]) -> Vec<Act> {
    match bounds.surge {
        0 => make_room(bounds.unavailable, spots),
        surge => go_beside(surge, spots),
    }
}

fn make_room(max_unavailable: u32, spots: &[Spot]) -> Vec<Act> {
    let down = spots.iter().filter(|spot| !serves(spot)).count();
    let mut left = (max_unavailable as usize).saturating_sub(down);
    let mut acts = Vec::new();
    for (index, spot) in spots.iter().enumerate() {
        match (spot.old, spot.new) {
            // Nothing is lost with it. Upstream lets one that is ready go so as well.
            (Some(State::Unready), _)
            | (Some(State::Ready | State::Available), Some(State::Available)) => {
                acts.push(Act::StopOld(index));
            }
            (Some(State::Available), None) if left > 0 => {
                left -= 1;
                acts.push(Act::StopOld(index));
            }
            (Some(State::Ready | State::Available | State::Ending) | None, _) => {}
        }
    }
    acts
}

fn go_beside(max_surge: u32, spots: &[Spot]) -> Vec<Act> {
    let beside = spots.iter().filter(|spot| spot.old.is_some() && spot.new.is_some()).count();
    let mut left = (max_surge as usize).saturating_sub(beside);
    let mut acts = Vec::new();
    for (index, spot) in spots.iter().enumerate() {
        match (spot.old, spot.new) {
            (Some(State::Unready | State::Ready | State::Available), Some(State::Available)) => {
                acts.push(Act::StopOld(index));
            }
            (Some(State::Unready), None) => {
                left = left.saturating_sub(1);
                acts.push(Act::StartNew(index));
            }
            (Some(State::Ready | State::Available), None) if left > 0 => {
                left -= 1;
                acts.push(Act::StartNew(index));
            }
            (Some(_) | None, _) => {}
        }
    }
    acts
}

fn serves(spot: &Spot) -> bool {
    [spot.old, spot.new].contains(&Some(State::Available))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::resource::IntOrPercent::{Int, Percent};

    fn state(text: char) -> Option<State> {
        match text {
            '-' => None,
            't' => Some(State::Ending),
            'n' => Some(State::Unready),
            'r' => Some(State::Ready),
            'a' => Some(State::Available),
            other => panic!("{other}"),
        }
    }

    /// Each node as its old pod and its new one: `-` none, `t` ending, `n` not ready, `r` ready,
    /// `a` available.
    #[track_caller]
    fn check(surge: u32, unavailable: u32, nodes: &str, expected: &str) {
        let spots = nodes.split_whitespace().map(|pair| {
            let mut chars = pair.chars();
            let old = state(chars.next().unwrap());
            Spot { old, new: state(chars.next().unwrap()) }
        });
        let acts = next(Bounds { surge, unavailable }, &spots.collect::<Vec<_>>());
        let acts = acts.iter().map(|act| match act {
            Act::StopOld(index) => format!("stop {index}"),
            Act::StartNew(index) => format!("start {index}"),
        });
        assert_eq!(acts.collect::<Vec<_>>().join(", "), expected, "{nodes}");
    }

    #[test]
    fn old_pods_make_room_as_far_as_pods_may_be_unavailable() {
        check(0, 1, "", "");
        check(0, 1, "a- a- a-", "stop 0");
        check(0, 1, "t- a- a-", "");
        check(0, 1, "-- a- a-", "");
        check(0, 1, "-n a- a-", "");
        check(0, 1, "-a a- a-", "stop 1");
        check(0, 1, "-a -a -a", "");
        check(0, 2, "a- a- a-", "stop 0, stop 1");
        check(0, 2, "-n a- a-", "stop 1");
        check(0, 9, "a- a- a-", "stop 0, stop 1, stop 2");
    }

    #[test]
    fn an_old_pod_that_is_down_already_goes_without_counting() {
        check(0, 1, "n- a- a-", "stop 0");
        check(0, 1, "n- n- a-", "stop 0, stop 1");
        check(0, 2, "n- a- a-", "stop 0, stop 1");
        check(0, 1, "n- -n a-", "stop 0");
    }

    #[test]
    fn a_pod_that_is_ready_counts_only_in_time_but_is_not_given_away() {
        check(0, 1, "r- r- a-", "");
        check(0, 2, "r- a- a-", "stop 1");
        check(0, 1, "-r a- a-", "");
        check(0, 1, "ra a-", "stop 0, stop 1");
        check(1, 0, "r- r- a-", "start 0");
        check(1, 0, "ar a- a-", "");
    }

    #[test]
    fn with_surge_the_old_pod_stays_until_the_new_one_is_available() {
        check(1, 0, "a- a- a-", "start 0");
        check(1, 0, "an a- a-", "");
        check(1, 0, "aa a- a-", "stop 0");
        check(1, 0, "ta a- a-", "");
        check(1, 0, "-a a- a-", "start 1");
        check(2, 0, "a- a- a-", "start 0, start 1");
        check(2, 0, "an a- a-", "start 1");
        check(1, 0, "n- a- a-", "start 0");
        check(1, 0, "t- a- a-", "start 1");
        check(1, 0, "-a -a", "");
    }

    #[test]
    fn two_pods_of_a_node_that_a_surge_left_behind_become_one() {
        check(0, 1, "aa a-", "stop 0, stop 1");
        check(0, 1, "an a-", "stop 1");
        check(0, 1, "nn a-", "stop 0");
    }

    #[test]
    fn percentages_round_up_and_never_to_nothing() {
        let of = |max_surge, max_unavailable, nodes| {
            let update = DaemonUpdate::RollingUpdate { max_surge, max_unavailable };
            let bounds = Bounds::of(update, nodes).unwrap();
            (bounds.surge, bounds.unavailable)
        };
        assert_eq!(of(Int(0), Int(1), 5), (0, 1));
        assert_eq!(of(Int(0), Percent(10), 5), (0, 1));
        assert_eq!(of(Int(0), Percent(50), 5), (0, 3));
        assert_eq!(of(Percent(30), Int(0), 10), (3, 0));
        assert_eq!(of(Percent(1), Int(0), 10), (1, 0));
        assert_eq!(of(Int(0), Percent(10), 0), (0, 1));
        assert_eq!(Bounds::of(DaemonUpdate::OnDelete, 5), None);
    }
}
