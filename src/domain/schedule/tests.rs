//! Slots in their zones, and what is no schedule.

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn slots(schedule: &str, zone: Option<&str>, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(schedule, zone).unwrap();
    let first = schedule.next_after(at(from));
    let slots = std::iter::successors(first, |at| schedule.next_after(*at));
    slots.take(count).map(|at| at.to_string()).collect()
}

/// A schedule, a zone, a moment, and the next slots. What stands there was worked out apart from
/// this code, minute by minute, by the rules of `robfig/cron`.
const SLOTS: &str = include_str!("slots.txt");

#[test]
fn each_schedule_has_the_slots_that_it_has_upstream() {
    for line in SLOTS.lines() {
        let [schedule, zone, from, expected] =
            line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let full = |text: &str| match text.len() {
            17 => text.replace('Z', ":00Z"),
            _ => text.to_owned(),
        };
        let expected: Vec<String> = expected.split(' ').map(full).collect();
        let found = slots(schedule, Some(zone), &full(from), expected.len());
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn slots_follow_the_fields() {
    let check = |schedule: &str, from: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|text| format!("2026-{text}Z")).collect();
        let from = format!("2026-{from}Z");
        assert_eq!(slots(schedule, None, &from, expected.len()), expected, "{schedule}");
    };
    check("* * * * *", "01-01T00:00:00", &["01-01T00:01:00", "01-01T00:02:00"]);
    check("*/15 * * * *", "01-01T00:07:30", &["01-01T00:15:00", "01-01T00:30:00"]);
    check(
        "5/20 * * * *",
        "01-01T00:00:00",
        &["01-01T00:05:00", "01-01T00:25:00", "01-01T00:45:00"],
    );
    check("0 0 * * 0", "01-01T00:00:00", &["01-04T00:00:00", "01-11T00:00:00"]);
    check("0 0 * * SUN", "01-01T00:00:00", &["01-04T00:00:00"]);
    check("0 0 1 feb ?", "01-01T00:00:00", &["02-01T00:00:00"]);
    check("30 8-10/2 * * mon-fri", "01-02T09:00:00", &["01-02T10:30:00", "01-05T08:30:00"]);
    check("0,30 6 * * *", "01-01T06:00:00", &["01-01T06:30:00", "01-02T06:00:00"]);
    check("@hourly", "01-01T00:00:00", &["01-01T01:00:00"]);
    check("@daily", "01-01T00:00:00", &["01-02T00:00:00"]);
    check("@midnight", "01-01T12:00:00", &["01-02T00:00:00"]);
    check("@weekly", "01-01T00:00:00", &["01-04T00:00:00"]);
    check("@monthly", "01-01T00:00:00", &["02-01T00:00:00"]);
    check("@every 90s", "01-01T00:00:00", &["01-01T00:01:30", "01-01T00:03:00"]);
    check("@every 1h30m", "01-01T00:00:00", &["01-01T01:30:00"]);
    // A day of the month and a day of the week: either.
    check("0 0 13 * 5", "02-01T00:00:00", &["02-06T00:00:00", "02-13T00:00:00", "02-20T00:00:00"]);
    // A star with steps chooses days of its own.
    check(
        "0 0 */10 * 1",
        "01-01T00:00:00",
        &["01-05T00:00:00", "01-11T00:00:00", "01-12T00:00:00"],
    );
    // The slot itself is not after itself.
    check("0 12 * * *", "01-01T12:00:00", &["01-02T12:00:00"]);
    check("0 12 * * *", "01-01T11:59:59", &["01-01T12:00:00"]);
    check("0 0 31 * *", "01-31T00:00:00", &["03-31T00:00:00", "05-31T00:00:00"]);
}

#[test]
fn a_leap_day_is_found_years_ahead() {
    assert_eq!(slots("0 0 29 2 *", None, "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
}

#[test]
fn slots_follow_the_zone_through_its_changes_of_clock() {
    let berlin = Some("Europe/Berlin");
    let check = |schedule: &str, from: &str, expected: &[&str]| {
        assert_eq!(slots(schedule, berlin, from, expected.len()), expected, "{schedule}");
    };
    check("0 9 * * *", "2026-01-01T00:00:00Z", &["2026-01-01T08:00:00Z"]);
    check("0 9 * * *", "2026-07-01T00:00:00Z", &["2026-07-01T07:00:00Z"]);
    // 2026-03-29: 02:00 is followed by 03:00.
    check(
        "0 * * * *",
        "2026-03-28T23:30:00Z",
        &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
    );
    // A time that the night leaps over is no slot that night.
    check("30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-30T00:30:00Z"]);
    // 2026-10-25: 03:00 is followed by 02:00; every minute is there twice.
    check(
        "0 * * * *",
        "2026-10-24T23:30:00Z",
        &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
    );
}

#[test]
fn the_newest_missed_slot_is_found_however_long_it_was() {
    let check = |schedule: &str, earliest: &str, now: &str, expected: Option<(&str, usize)>| {
        let schedule = Schedule::parse(schedule, None).unwrap();
        let expected = expected.map(|(slot, count)| Missed { newest: at(slot), count });
        assert_eq!(schedule.missed(at(earliest), at(now)), expected);
    };
    let day = "2026-06-01T00:00:00Z";
    check("0 * * * *", day, "2026-06-01T00:59:59Z", None);
    check("0 * * * *", day, "2026-06-01T01:00:00Z", Some(("2026-06-01T01:00:00Z", 1)));
    check("0 * * * *", day, "2026-06-01T05:30:00Z", Some(("2026-06-01T05:00:00Z", 5)));
    check("* * * * *", day, "2027-06-01T00:00:30Z", Some(("2027-06-01T00:00:00Z", 100)));
    check("0 0 1 1 *", day, "2029-03-01T00:00:00Z", Some(("2029-01-01T00:00:00Z", 3)));
    check("0 0 29 2 *", day, "2027-03-01T00:00:00Z", None);
    check("0 0 29 2 *", day, "2030-03-01T00:00:00Z", Some(("2028-02-29T00:00:00Z", 1)));
    check("@every 40s", day, "2026-06-01T00:01:30Z", Some(("2026-06-01T00:01:20Z", 2)));
    check("@every 1h", day, "2026-06-01T00:30:00Z", None);
    // The clock was set back.
    check("0 * * * *", "2026-06-01T05:00:00Z", day, None);
}

#[test]
fn what_kubernetes_would_refuse_is_refused() {
    let check = |schedule: &str, zone: Option<&str>, expected: &str| {
        let error = Schedule::parse(schedule, zone).unwrap_err();
        assert!(error.contains(expected), "{schedule}: {error}");
    };
    check("* * * *", None, "4 fields");
    check("0 0 0 * * *", None, "6 fields");
    check("", None, "0 fields");
    check("60 * * * *", None, "60");
    check("* 24 * * *", None, "24");
    check("* * 0 * *", None, "0");
    check("* * L * *", None, "`L` is neither");
    check("* * * * 5#2", None, "`5#2` is neither");
    check("@reboot", None, "`@reboot` is not one of");
    check("@every", None, "not a duration");
    check("@every 10ms", None, "less than a second");
    check("TZ=UTC 0 0 * * *", None, "timeZone");
    check("* * * * *", Some("Mars/Olympus"), "no time zone `Mars/Olympus`");
}
