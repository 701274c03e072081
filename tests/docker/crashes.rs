//! `kill -9` at every moment: the process is aborted before and after every commit of the store, before and after
//! every call that changes the engine, and at random; then it must arrive where it would have arrived without.
//!
//! The points come from a run without a crash, which counts them. In CI each kind of call, and every so many commits,
//! is hit. All of them, and fifty random kills, take a quarter of an hour, more than nextest gives a test:
//!
//! ```text
//! KGIT_CRASH_POINTS=all KGIT_RANDOM_KILLS=50 cargo test --test docker crashes -- --nocapture --test-threads=1
//! ```
//!
//! `KGIT_SEED` repeats a random run.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kgit::store::verify::Problem;
use rusqlite::Connection;

use crate::engine::Engine;
use crate::mortal::{COURSE, Half, Pair, Web, engine, verify};

/// Clusters at a time: their time is mostly waiting.
const AT_ONCE: usize = 4;
/// Commits between two that are hit in CI.
const EVERY: u64 = 8;
/// Runs are not equal to the last commit: a report may come as two. So many beyond the count are tried in a full run.
const BEYOND: u64 = 4;
/// Random kills in CI.
const KILLS: usize = 6;
/// A number that no run reaches, for counting.
const NEVER: u64 = 1_000_000;

/// Where a process is to die.
#[derive(Clone, Debug)]
struct Point {
    half: Half,
    at: String,
}

fn all_points() -> bool {
    std::env::var("KGIT_CRASH_POINTS").is_ok_and(|wanted| wanted == "all")
}

/// The whole course with one death; whether it came to that.
fn survive(engine: &Engine, point: &Point) -> bool {
    let (master, agent) = match point.half {
        Half::Master => (Some(point.at.as_str()), None),
        Half::Agent => (None, Some(point.at.as_str())),
    };
    let mut pair = Pair::start(engine, master, agent);
    run_course(&mut pair);
    pair.deaths() > 0
}

fn run_course(pair: &mut Pair) {
    pair.arrive(COURSE[0]);
    for station in &COURSE[1..] {
        pair.commit(*station);
        pair.arrive(*station);
    }
}

/// The lines in which a process counts its points, from a run without a crash.
fn counted(engine: &Engine, half: Half, never: &str) -> Vec<String> {
    let (master, agent) = match half {
        Half::Master => (Some(never), None),
        Half::Agent => (None, Some(never)),
    };
    let mut pair = Pair::start(engine, master, agent);
    run_course(&mut pair);
    let log = pair.log(half);
    let marks = ["engine call", "store::crash: commit"];
    log.lines()
        .filter(|line| marks.iter().any(|mark| line.contains(mark)))
        .map(str::to_owned)
        .collect()
}

/// Runs all of them, several at a time, and fails with all that failed.
fn survive_all(engine: &Engine, points: Vec<Point>) {
    let total = points.len();
    let queue = Mutex::new(VecDeque::from(points));
    let (failed, missed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let note = |list: &Mutex<Vec<String>>, point: &Point| {
        list.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{:?} {}", point.half, point.at));
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(point) = next() {
                    match catch_unwind(AssertUnwindSafe(|| survive(engine, &point))) {
                        Ok(true) => {}
                        Ok(false) => note(&missed, &point),
                        Err(_) => {
                            eprintln!("NOT SURVIVED: {point:?}");
                            note(&failed, &point);
                        }
                    }
                }
            });
        }
    });
    let (failed, missed) =
        (failed.into_inner().expect("a list"), missed.into_inner().expect("a list"));
    eprintln!(
        "{total} points: {} not survived, {} not reached: {missed:?}",
        failed.len(),
        missed.len()
    );
    assert!(failed.is_empty(), "not survived: {failed:#?}");
    assert!(missed.len() < total, "no crash point was reached");
}

#[test]
fn a_master_that_dies_around_any_commit_of_its_store_goes_on_where_it_was() {
    let Some(engine) = engine() else { return };
    let commits = counted(&engine, Half::Master, &format!("store:{NEVER}:before")).len() as u64;
    assert!(commits > EVERY, "the log counts the commits: {commits}");
    let numbers: Vec<u64> = match all_points() {
        true => (1..=commits + BEYOND).collect(),
        false => (1..=commits).step_by(EVERY as usize).collect(),
    };
    let moments = |number: u64| match all_points() {
        true => vec!["before", "after"],
        false => vec![if number % (2 * EVERY) == 1 { "before" } else { "after" }],
    };
    let point = |number: u64, moment: &str| Point {
        half: Half::Master,
        at: format!("store:{number}:{moment}"),
    };
    let points: Vec<Point> = numbers
        .into_iter()
        .flat_map(|number| moments(number).into_iter().map(move |moment| point(number, moment)))
        .collect();
    eprintln!("{commits} commits in a run, {} points", points.len());
    survive_all(&engine, points);
}

#[test]
fn an_agent_that_dies_around_any_call_to_its_engine_goes_on_where_it_was() {
    let Some(engine) = engine() else { return };
    let calls = counted(&engine, Half::Agent, &format!("docker:{NEVER}"));
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for call in &calls {
        let name = call.split("call=\"").nth(1).and_then(|rest| rest.split('"').next());
        *kinds.entry(name.expect("a call has a name").to_owned()).or_default() += 1;
    }
    eprintln!("{} calls in a run: {kinds:?}", calls.len());
    let numbers = |count: u64| match all_points() {
        true => (1..=count).collect(),
        false => vec![count.div_ceil(2)],
    };
    let mut points = Vec::new();
    for (name, count) in kinds {
        for number in numbers(count) {
            for side in ["", ":after"] {
                points
                    .push(Point { half: Half::Agent, at: format!("docker:{name}:{number}{side}") });
            }
        }
    }
    survive_all(&engine, points);
}

// --- at random ---------------------------------------------------------------------------------------------------

/// Marsaglia's xorshift: a kill's moment and victim, from a seed that can be given again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn number_from(setting: &str) -> Option<u64> {
    std::env::var(setting).ok()?.parse().ok()
}

#[test]
fn random_kills_of_master_agent_or_both_lose_and_double_nothing() {
    let Some(engine) = engine() else { return };
    let seed = number_from("KGIT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let kills = number_from("KGIT_RANDOM_KILLS").map_or(KILLS, |kills| kills as usize);
    eprintln!("KGIT_SEED={seed}, {kills} kills");
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut pair = Pair::start(&engine, None, None);
    pair.arrive(COURSE[0]);
    let mut killed = 0;
    while killed < kills {
        let web = Web { replicas: 1 + dice.below(3) as usize, image: 1 + dice.below(2) as u32 };
        pair.commit(Some(web));
        // Several in one rollout: also of what has just come back.
        for _ in 0..=dice.below(2) {
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            let victims = [&[Half::Master][..], &[Half::Agent], &[Half::Master, Half::Agent]];
            for half in victims[dice.below(3) as usize] {
                pair.kill(*half);
            }
            pair.tend();
            killed += 1;
        }
        pair.arrive(Some(web));
    }
    eprintln!("{killed} kills survived");
}

// --- the log -----------------------------------------------------------------------------------------------------

#[test]
fn a_log_that_was_changed_or_cut_short_while_its_master_was_down_is_found_out() {
    let Some(engine) = engine() else { return };
    let mut pair = Pair::start(&engine, None, None);
    pair.arrive(COURSE[0]);
    pair.kill_both();
    let data = pair.room.join("data");
    let whole = verify(&data);
    assert!(whole.is_sound(), "{whole:?}");
    let last = whole.head.sequence;
    let edited = |sql: &str| {
        let copy = tempfile::tempdir().expect("a folder can be made");
        copy_folder(&data, copy.path());
        let store = Connection::open(copy.path().join("kgit.db")).expect("the file opens");
        store.execute_batch(sql).expect("the file can be edited");
        drop(store);
        verify(copy.path()).problems
    };
    let changed = "UPDATE audit SET body = replace(body, 'web', 'wob') WHERE sequence = 2";
    assert_eq!(edited(changed), [Problem::BodyChanged { sequence: 2 }]);
    let gap = edited("DELETE FROM audit WHERE sequence = 2");
    assert!(gap.contains(&Problem::Gap { after: 1, next: 3 }), "{gap:?}");
    let cut = edited(&format!("DELETE FROM audit WHERE sequence = {last}"));
    assert!(cut.contains(&Problem::CutOff { ends_at: last - 1, head: last }), "{cut:?}");
}

#[test]
fn a_log_that_was_put_back_to_an_older_state_is_found_out_by_what_the_agent_was_told() {
    let Some(engine) = engine() else { return };
    let mut pair = Pair::start(&engine, None, None);
    pair.arrive(COURSE[0]);
    pair.kill_both();
    let data = pair.room.join("data");
    let older = pair.room.folder("older");
    copy_folder(&data, &older);
    pair.commit(COURSE[1]);
    pair.arrive(COURSE[1]);
    pair.kill_both();
    std::fs::remove_dir_all(&data).expect("the data can be removed");
    copy_folder(&older, &data);
    let forged = verify(&data);
    assert!(forged.is_sound(), "in itself the older log is sound: {forged:?}");
    pair.until("the agent's testimony", |pair| {
        let verified = pair.kgit(&["audit", "verify"]);
        (verified.code == 1 && verified.out.contains("node one was given")).then_some(())
    });
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "the data can be copied");
}
