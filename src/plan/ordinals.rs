//! Which of a StatefulSet's pods is made, replaced or ended next. Pure numbers and states; whose
//! pods they are is none of its business.
//!
//! Source of the order: upstream's `updateStatefulSet` (`pkg/controller/statefulset/
//! stateful_set_control.go`). Where this departs from it, docs/decisions/0010 says why.

/// How one pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Missing,
    /// Ended by itself; it is cleared away and made again.
    Ended,
    /// Told to end, not gone yet.
    Ending,
    /// No node can take it now, and it never had one.
    Unplaced,
    Unready,
    /// Ready, but not for minReadySeconds yet.
    Ready,
    Available,
}

/// The revision of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that all pods are to get.
    Update,
    /// The one that all pods had last.
    Current,
    /// One that was given up on the way.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    pub state: State,
    pub version: Version,
    /// An old one. Once it is gone, both its successor and one of the update that is without a
    /// place have one.
    pub in_the_way: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// No pod waits for another to be made or ended.
    pub parallel: bool,
    /// `None`: pods are replaced only once they are deleted by somebody.
    pub rolling: Option<Rolling>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolling {
    /// How many of the first pods keep the current revision.
    pub partition: usize,
    pub max_unavailable: usize,
}

/// What to do. Positions count from the set's first ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Make(usize, Version),
    /// It ended: it goes, and is made again.
    Clear(usize),
    /// A rollout is at it.
    Replace(usize),
    /// It is not ready and of a revision that nobody wants: it goes without its turn.
    GiveUp(usize),
    /// Another one finds a place only when it is gone: it goes without its turn.
    MakeWay(usize),
    /// The set shrinks. The position is one among the condemned.
    Dismiss(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub acts: Vec<Act>,
    /// The pod that everything else waits for, where that is one pod.
    pub waits_for: Option<Wait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Replica(usize),
    Condemned(usize),
}

/// The next acts: to be carried out, and this to be asked again, until there are none.
/// `condemned` are the pods beyond the set's range, by ordinal.
pub fn next(order: Order, replicas: &[Replica], condemned: &[State]) -> Turn {
    let given_up = give_up(order, replicas);
    if !given_up.acts.is_empty() {
        return given_up;
    }
    let making_way = make_way(order, replicas);
    if !making_way.acts.is_empty() {
        return making_way;
    }
    let up = bring_up(order, replicas);
    if !order.parallel && up != Turn::default() {
        return up;
    }
    let down = take_down(order, condemned);
    if !order.parallel && down != Turn::default() {
        return down;
    }
    let acts = [up.acts, down.acts].concat();
    match order.rolling {
        Some(rolling) if acts.is_empty() => roll(rolling, replicas),
        _ => Turn { acts, waits_for: None },
    }
}

/// A pod that never got ready and is of a revision that is not wanted any more would hold up
/// everything, the rollback that gets rid of it first of all. Beyond upstream, it is replaced at
/// once, since nothing is lost with it. The same goes for the current revision where none of its
/// pods serves and the update is not seen to fail, and for a pod of it that has no place: the
/// update may be what fits.
fn give_up(order: Order, replicas: &[Replica]) -> Turn {
    let Some(rolling) = order.rolling else { return Turn::default() };
    let serves = |it: &Replica| matches!(it.state, State::Ready | State::Available);
    let speaks_against_it = |it: &Replica| match it.version {
        Version::Current => serves(it),
        Version::Update => it.state == State::Unready,
        Version::Other => false,
    };
    let may_recover = replicas.iter().any(speaks_against_it);
    let hopeless = |index: usize, replica: &Replica| match (replica.version, replica.state) {
        (Version::Update, _) => false,
        (Version::Other, State::Unplaced | State::Unready) => true,
        (Version::Current, State::Unplaced) => index >= rolling.partition,
        (Version::Current, State::Unready) => index >= rolling.partition && !may_recover,
        (Version::Current | Version::Other, _) => false,
    };
    let acts = replicas.iter().enumerate().filter(|(index, replica)| hopeless(*index, replica));
    Turn { acts: acts.map(|(index, _)| Act::GiveUp(index)).collect(), waits_for: None }
}

/// One that has no place while an old one is there, and is therefore missing, must not keep that one
/// from being replaced. Beyond upstream, which waits for it unless the pods are brought up in
/// parallel and its ordinal is the lower one. Those without a place are not counted here, nor are
/// those that are made in order, and only after them: the set may miss one more for a while than
/// it allows.
fn make_way(order: Order, replicas: &[Replica]) -> Turn {
    let Some(rolling) = order.rolling else { return Turn::default() };
    let missing = |it: &&Replica| match it.state {
        State::Available | State::Unplaced => false,
        State::Missing | State::Ended => order.parallel,
        State::Ending | State::Unready | State::Ready => true,
    };
    let may_go = |index: usize, replica: &Replica| {
        let others = replicas.iter().filter(missing).count();
        let costs = usize::from(replica.state == State::Available);
        replica.in_the_way
            && index >= rolling.partition
            && others + costs <= rolling.max_unavailable
    };
    let mut found = replicas.iter().enumerate().rev();
    let found = found.find(|(index, replica)| may_go(*index, replica));
    let acts = found.map(|(index, _)| Act::MakeWay(index)).into_iter().collect();
    Turn { acts, waits_for: None }
}

fn bring_up(order: Order, replicas: &[Replica]) -> Turn {
    let mut turn = Turn::default();
    for (index, replica) in replicas.iter().enumerate() {
        match replica.state {
            State::Missing => turn.acts.push(Act::Make(index, wanted(order, index))),
            State::Ended => turn.acts.push(Act::Clear(index)),
            State::Available => continue,
            State::Ending | State::Unplaced | State::Unready | State::Ready => {
                turn.waits_for = Some(Wait::Replica(index));
            }
        }
        if !order.parallel {
            return turn;
        }
    }
    turn
}

/// The revision of a pod that is made now.
fn wanted(order: Order, index: usize) -> Version {
    match order.rolling {
        Some(rolling) if index < rolling.partition => Version::Current,
        _ => Version::Update,
    }
}

/// From the highest ordinal. Upstream holds here for a condemned pod that is not ready; there is
/// nothing to wait for with it, so it goes like any other.
fn take_down(order: Order, condemned: &[State]) -> Turn {
    let mut turn = Turn::default();
    for (index, state) in condemned.iter().enumerate().rev() {
        match state {
            State::Missing => continue,
            State::Ending if order.parallel => continue,
            State::Ending => turn.waits_for = Some(Wait::Condemned(index)),
            State::Ended | State::Unplaced | State::Unready | State::Ready | State::Available => {
                turn.acts.push(Act::Dismiss(index));
            }
        }
        if !order.parallel {
            return turn;
        }
    }
    turn
}

/// From the highest ordinal down to the partition, never more unavailable than allowed. A pod
/// that is not ready costs nothing; but no more of the update are made than allowed before those
/// that are there turn out well.
fn roll(rolling: Rolling, replicas: &[Replica]) -> Turn {
    let mut turn = Turn::default();
    let mut unavailable = replicas.iter().filter(|it| it.state != State::Available).count();
    let range = rolling.partition.min(replicas.len())..replicas.len();
    let mut on_the_way = replicas[range.clone()].iter().filter(|it| is_on_the_way(it)).count();
    let mut held = false;
    for index in range.rev() {
        let replica = replicas[index];
        match (replica.version, replica.state) {
            (Version::Update, State::Available) => {}
            _ if is_on_the_way(&replica) => {
                turn.waits_for = turn.waits_for.or(Some(Wait::Replica(index)));
            }
            (_, State::Unplaced | State::Unready) if on_the_way < rolling.max_unavailable => {
                on_the_way += 1;
                turn.acts.push(Act::Replace(index));
            }
            (_, State::Available) if unavailable < rolling.max_unavailable && !held => {
                (unavailable, on_the_way) = (unavailable + 1, on_the_way + 1);
                turn.acts.push(Act::Replace(index));
            }
            // One of those below must not be taken in its place.
            _ => {
                held = true;
                let missing = |it: &Replica| it.state != State::Available;
                let other = replicas.iter().rposition(is_on_the_way);
                let other = other.or_else(|| replicas.iter().rposition(missing));
                turn.waits_for = turn.waits_for.or(other.map(Wait::Replica));
            }
        }
    }
    turn
}

/// Of the update, or about to be, and not available yet.
fn is_on_the_way(replica: &Replica) -> bool {
    let made_anew = matches!(replica.state, State::Missing | State::Ended | State::Ending);
    made_anew || (replica.version == Version::Update && replica.state != State::Available)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-` missing, `x` ended, `t` ending, `p` not placed, `n` not ready, `r` ready, `a` available; followed by
    /// `'` for the current revision and by `?` for another one, and by `!` for one in the way.
    fn replica(text: &str) -> Replica {
        let version = match text.chars().nth(1) {
            None => Version::Update,
            Some('\'') => Version::Current,
            Some('?') => Version::Other,
            other => panic!("{other:?}"),
        };
        Replica { state: state(text), version, in_the_way: text.ends_with('!') }
    }

    fn state(text: &str) -> State {
        match text.chars().next() {
            Some('-') => State::Missing,
            Some('x') => State::Ended,
            Some('t') => State::Ending,
            Some('p') => State::Unplaced,
            Some('n') => State::Unready,
            Some('r') => State::Ready,
            Some('a') => State::Available,
            other => panic!("{other:?}"),
        }
    }

    fn said(turn: &Turn) -> String {
        let acts = turn.acts.iter().map(|act| match act {
            Act::Make(index, Version::Current) => format!("make {index}'"),
            Act::Make(index, _) => format!("make {index}"),
            Act::Clear(index) => format!("clear {index}"),
            Act::Replace(index) => format!("replace {index}"),
            Act::GiveUp(index) => format!("give up {index}"),
            Act::MakeWay(index) => format!("make way {index}"),
            Act::Dismiss(index) => format!("dismiss {index}"),
        });
        let wait = turn.waits_for.map(|wait| match wait {
            Wait::Replica(index) => format!("wait {index}"),
            Wait::Condemned(index) => format!("wait condemned {index}"),
        });
        acts.chain(wait).collect::<Vec<_>>().join(", ")
    }

    /// `replicas | condemned`.
    #[track_caller]
    fn check(order: Order, pods: &str, expected: &str) {
        let (replicas, condemned) = pods.split_once('|').unwrap_or((pods, ""));
        let replicas: Vec<Replica> = replicas.split_whitespace().map(replica).collect();
        let condemned: Vec<State> = condemned.split_whitespace().map(state).collect();
        assert_eq!(said(&next(order, &replicas, &condemned)), expected, "{pods}");
    }

    const fn rolling(partition: usize, max_unavailable: usize) -> Option<Rolling> {
        Some(Rolling { partition, max_unavailable })
    }

    const ORDERED: Order = Order { parallel: false, rolling: rolling(0, 1) };
    const PARALLEL: Order = Order { parallel: true, rolling: rolling(0, 1) };
    const ON_DELETE: Order = Order { parallel: false, rolling: None };

    #[test]
    fn in_order_the_lowest_missing_pod_is_made_once_those_before_it_are_available() {
        check(ORDERED, "", "");
        check(ORDERED, "- - -", "make 0");
        check(ORDERED, "n - -", "wait 0");
        check(ORDERED, "r - -", "wait 0");
        check(ORDERED, "t - -", "wait 0");
        check(ORDERED, "a - -", "make 1");
        check(ORDERED, "a a -", "make 2");
        check(ORDERED, "a - a", "make 1");
        check(ORDERED, "- a a", "make 0");
        check(ORDERED, "a a a", "");
    }

    #[test]
    fn a_pod_that_ended_is_cleared_away_and_made_again_in_its_turn() {
        check(ORDERED, "x - -", "clear 0");
        check(ORDERED, "a x x", "clear 1");
        check(ORDERED, "n x -", "wait 0");
        check(PARALLEL, "x n x", "clear 0, clear 2");
        check(ORDERED, "x' a", "clear 0");
        check(ON_DELETE, "x' a", "clear 0");
    }

    #[test]
    fn in_parallel_nothing_waits_for_another_pod() {
        check(PARALLEL, "- - -", "make 0, make 1, make 2");
        check(PARALLEL, "n - t -", "make 1, make 3");
        check(PARALLEL, "- | a n t", "make 0, dismiss 1, dismiss 0");
        check(PARALLEL, "a | t t", "");
    }

    #[test]
    fn a_set_shrinks_from_the_highest_ordinal_once_the_others_are_available() {
        check(ORDERED, "a a | a a", "dismiss 1");
        check(ORDERED, "a a | a t", "wait condemned 1");
        check(ORDERED, "a n | a a", "wait 1");
        check(ORDERED, "a - | a a", "make 1");
        check(ORDERED, "| a a", "dismiss 1");
        check(ORDERED, "| a", "dismiss 0");
        // Upstream waits for these to get ready first.
        check(ORDERED, "a | n n", "dismiss 1");
        check(ORDERED, "a | n a", "dismiss 1");
        check(ORDERED, "a | x", "dismiss 0");
    }

    #[test]
    fn an_update_goes_from_the_highest_ordinal_one_at_a_time() {
        check(ORDERED, "a' a' a'", "replace 2");
        check(ORDERED, "a' a' t'", "wait 2");
        check(ORDERED, "a' a' -", "make 2");
        check(ORDERED, "a' a' n", "wait 2");
        check(ORDERED, "a' a' r", "wait 2");
        check(ORDERED, "a' a' a", "replace 1");
        check(ORDERED, "a' a a", "replace 0");
        check(ORDERED, "a a a", "");
        // A revision that was superseded on the way is as old as the current one.
        check(ORDERED, "a' a? a?", "replace 2");
        check(ORDERED, "a' a? a", "replace 1");
    }

    #[test]
    fn scaling_comes_before_updating() {
        check(ORDERED, "a' a' -", "make 2");
        check(ORDERED, "a' a' | a", "dismiss 0");
        check(PARALLEL, "a' - | a", "make 1, dismiss 0");
        check(PARALLEL, "a' a' | t", "replace 1");
    }

    #[test]
    fn in_parallel_an_update_goes_one_at_a_time_all_the_same() {
        check(PARALLEL, "a' a' a'", "replace 2");
        check(PARALLEL, "a' a' t'", "wait 2");
        check(PARALLEL, "a' a' n", "wait 2");
        // What is down already costs nothing, wherever it is; and it holds up the others.
        check(PARALLEL, "a' n' a'", "replace 1, wait 1");
        check(PARALLEL, "n' a' a", "replace 0, wait 0");
        check(PARALLEL, "n a' a'", "wait 0");
    }

    #[test]
    fn an_update_that_does_not_turn_out_well_gets_no_pod_that_is_merely_down() {
        check(PARALLEL, "n' a' n", "wait 2");
        check(PARALLEL, "a' n' n", "wait 2");
        check(PARALLEL, "n' n' n", "wait 2");
        check(PARALLEL, "n a' n'", "wait 0");
        check(PARALLEL, "n' a' t'", "wait 2");
        check(PARALLEL, "n' a' r", "wait 2");
        check(PARALLEL, "n' a' a", "replace 0, wait 0");
        let two = Order { rolling: rolling(0, 2), ..PARALLEL };
        check(two, "n' a' n", "replace 0, wait 2");
        check(two, "n' n' a' n", "replace 1, wait 3");
        check(two, "n' n n", "wait 2");
        // Nor in order, where none of the old ones serves.
        check(ORDERED, "n' n", "wait 0");
        check(ORDERED, "n' n' n", "wait 0");
        check(ORDERED, "n' r", "give up 0");
        check(ORDERED, "n' p", "give up 0");
    }

    #[test]
    fn pods_below_the_partition_keep_the_current_revision() {
        let partition = |at| Order { rolling: rolling(at, 1), ..ORDERED };
        check(partition(2), "a' a' a'", "replace 2");
        check(partition(2), "a' a' a", "");
        check(partition(3), "a' a' a'", "");
        check(partition(9), "a' a' a'", "");
        check(partition(2), "- a' a", "make 0'");
        check(partition(2), "a' a' -", "make 2");
        check(partition(2), "n' a' a", "wait 0");
        check(partition(2), "n? a' a", "give up 0");
        check(partition(1), "n' n' n'", "give up 1, give up 2");
        check(partition(1), "n' a?", "wait 0");
    }

    #[test]
    fn several_pods_may_be_unavailable_where_the_set_allows_it() {
        let two = Order { rolling: rolling(0, 2), ..ORDERED };
        check(two, "a' a' a' a'", "replace 3, replace 2");
        check(two, "a' a'", "replace 1, replace 0");
        check(two, "a'", "replace 0");
        let two = Order { parallel: true, ..two };
        check(two, "a' a' t' n", "wait 3");
        check(two, "a' a' a' n", "replace 2, wait 3");
        check(two, "a' a' n' n'", "replace 3, replace 2, wait 3");
        check(two, "a' a' r' a'", "replace 3, wait 2");
        check(two, "r' a' a' a", "replace 2, wait 0");
    }

    #[test]
    fn on_delete_replaces_nothing_by_itself() {
        check(ON_DELETE, "a' a' a'", "");
        check(ON_DELETE, "a' - a'", "make 1");
        check(ON_DELETE, "a' n? a'", "wait 1");
    }

    #[test]
    fn a_broken_update_is_got_rid_of_without_its_turn() {
        // Rolled back while the new revision never got ready.
        check(ORDERED, "a a n?", "give up 2");
        check(ORDERED, "a a t?", "wait 2");
        // Rolled forward to a third one.
        check(ORDERED, "a' a' n?", "give up 2");
        check(ORDERED, "a' n? n?", "give up 1, give up 2");
        // The current one itself is broken: there is nothing to lose.
        check(ORDERED, "n' - -", "give up 0");
        check(ORDERED, "n' n' t'", "give up 0, give up 1");
        // But a pod that is merely down while others of its revision serve waits for its turn.
        check(ORDERED, "a' n' a'", "wait 1");
        check(ORDERED, "a' n' a", "wait 1");
        // The update or one that was given up may serve, but says nothing about it.
        check(ORDERED, "n' a", "give up 0");
        check(ORDERED, "n' a?", "give up 0");
        check(ORDERED, "n' r? t'", "give up 0");
        check(ORDERED, "n - -", "wait 0");
        check(PARALLEL, "a' a' n?", "give up 2");
    }

    #[test]
    fn a_pod_that_finds_no_place_is_given_to_the_update() {
        check(ORDERED, "a' p' -", "give up 1");
        check(ORDERED, "a' p' a'", "give up 1");
        check(ORDERED, "p' a' p'", "give up 0, give up 2");
        check(ORDERED, "a' p?", "give up 1");
        // It is of the update already, or it is to stay as it is.
        check(ORDERED, "a' p", "wait 1");
        check(ON_DELETE, "a' p' -", "wait 1");
        let partition = Order { rolling: rolling(2, 1), ..ORDERED };
        check(partition, "a' p' -", "wait 1");
        check(partition, "a' a' p'", "give up 2");
        // In parallel it never held up anything.
        check(PARALLEL, "a' p' a'", "give up 1");
        check(PARALLEL, "p a'", "wait 0");
        check(ORDERED, "a | p", "dismiss 0");
    }

    #[test]
    fn an_old_pod_makes_way_for_one_that_has_no_place_beside_it() {
        check(PARALLEL, "p a'", "wait 0");
        check(PARALLEL, "p a'!", "make way 1");
        check(PARALLEL, "a'! p", "make way 0");
        check(ORDERED, "p a'!", "make way 1");
        check(ORDERED, "a? p a?!", "make way 2");
        // One at a time, from the highest ordinal, whatever else is to be made.
        check(ORDERED, "p a'! a'!", "make way 2");
        check(PARALLEL, "p a'! -", "make 2");
        check(ORDERED, "p a'! -", "make way 1");
        check(ORDERED, "p a'! x'", "make way 1");
        check(PARALLEL, "p a'! x'", "clear 2");
        check(PARALLEL, "p a'! t'", "wait 2");
        check(PARALLEL, "p p a'! a'", "make way 2");
        // Others that are missing count; it may go if it is one of them itself.
        check(PARALLEL, "p a'! n", "wait 2");
        check(PARALLEL, "p r'!", "make way 1");
        check(PARALLEL, "p r'! n", "wait 2");
        let two = Order { rolling: rolling(0, 2), ..PARALLEL };
        check(two, "p a'! a'! n", "make way 2");
        check(two, "p a'! a'! n n", "wait 4");
        // It is to stay as it is.
        check(ON_DELETE, "p a'!", "wait 0");
        let partition = Order { rolling: rolling(2, 1), ..PARALLEL };
        check(partition, "a' a'! p", "wait 2");
        check(partition, "a' a'! p a'!", "make way 3");
    }

    #[test]
    fn asked_again_and_again_it_comes_to_an_end_and_keeps_its_promise() {
        for parallel in [false, true] {
            for (partition, max) in [(0, 1), (0, 2), (2, 1), (1, 3)] {
                let order = Order { parallel, rolling: rolling(partition, max) };
                let (state, version) = (State::Available, Version::Current);
                let old = Replica { state, version, in_the_way: false };
                let mut replicas = vec![old; 5];
                for _ in 0..100 {
                    let turn = next(order, &replicas, &[]);
                    for act in &turn.acts {
                        carry_out(&mut replicas, *act);
                    }
                    let down = replicas.iter().filter(|it| it.state != State::Available).count();
                    assert!(down <= max, "{order:?}: {replicas:?}");
                    if turn.acts.is_empty() && down == 0 {
                        break;
                    }
                    age(&mut replicas);
                }
                let updated = replicas.iter().filter(|it| it.version == Version::Update).count();
                assert_eq!(updated, 5 - partition, "{order:?}: {replicas:?}");
            }
        }
    }

    fn carry_out(replicas: &mut [Replica], act: Act) {
        match act {
            Act::Make(index, version) => {
                replicas[index] = Replica { state: State::Unready, version, in_the_way: false }
            }
            Act::Clear(index) | Act::Replace(index) | Act::GiveUp(index) | Act::MakeWay(index) => {
                replicas[index].state = State::Ending;
            }
            Act::Dismiss(_) => {}
        }
    }

    fn age(replicas: &mut [Replica]) {
        for replica in replicas {
            replica.state = match replica.state {
                State::Ending => State::Missing,
                State::Unready => State::Ready,
                State::Ready => State::Available,
                other => other,
            };
        }
    }
}
