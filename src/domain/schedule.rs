//! When a CronJob is due: five fields, or a word such as `@daily`, in a time zone.
//!
//! Reads what Kubernetes reads. Source: `robfig/cron/v3` (`ParseStandard`), which the CronJob
//! controller uses. The rules of a zone come from the machine's tz database, or from the one that
//! is built in where it has none: data like any constant, which is why they may be asked here.

use std::time::Duration;

use cronexpr::{Crontab, ParseOptions, parse_crontab_with};
use jiff::tz::TimeZone;
use kgit_protocol::time::Timestamp;

/// The words for common schedules.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// How many missed slots are counted; beyond it is "too many" for Kubernetes too.
pub const MAX_COUNTED_SLOTS: usize = 100;

/// How far back the newest slot is looked for, step by step: a year and a day last, since every
/// schedule but that of a leap day has a slot in it.
const WINDOWS: [Duration; 5] = [
    Duration::from_secs(2 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(2 * 24 * 60 * 60),
    Duration::from_secs(32 * 24 * 60 * 60),
    Duration::from_secs(366 * 24 * 60 * 60),
];

#[derive(Debug)]
pub struct Schedule {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Fields(Box<Crontab>),
    /// `@every`: so long after the slot before.
    Every(Duration),
}

/// The slots between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub newest: Timestamp,
    /// At most [`MAX_COUNTED_SLOTS`].
    pub count: usize,
}

impl Schedule {
    /// `Err` says what is wrong with the schedule or the zone, as a fragment.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let zone = zone.unwrap_or("UTC");
        let tz = TimeZone::get(zone).map_err(|_| format!("there is no time zone `{zone}`"))?;
        let rule = match text.strip_prefix("@every") {
            Some(duration) => Rule::Every(every(duration)?),
            None => Rule::Fields(Box::new(fields(text, tz)?)),
        };
        Ok(Self { rule })
    }

    /// The first slot after `moment`; `None` if there is none any more.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(period) => Some(whole_second(moment).after(*period)),
            Rule::Fields(table) => {
                let found = table.find_next(moment.to_jiff()).ok()?;
                Some(Timestamp(found.timestamp().as_millisecond()))
            }
        }
    }

    /// The first slot after `now`, if the slots up to `done` were.
    pub fn upcoming(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(period) => {
                let last = newest_of_period(*period, done, now);
                Some(last.unwrap_or_else(|| whole_second(done)).after(*period))
            }
            Rule::Fields(_) => self.next_after(now),
        }
    }

    /// The slots after `earliest` up to `now`, if there are any.
    pub fn missed(&self, earliest: Timestamp, now: Timestamp) -> Option<Missed> {
        let newest = match &self.rule {
            Rule::Every(period) => newest_of_period(*period, earliest, now)?,
            Rule::Fields(_) => self.newest(earliest, now)?,
        };
        let slots = std::iter::successors(self.next_after(earliest), |at| self.next_after(*at));
        let count = slots.take_while(|at| *at <= now).take(MAX_COUNTED_SLOTS).count();
        Some(Missed { newest, count })
    }

    /// Goes forward from the nearest moment behind which there is a slot at all, so that a year of
    /// minutes is not gone through one by one.
    fn newest(&self, earliest: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let starts = WINDOWS.iter().map(|window| before(now, *window).max(earliest));
        let starts = starts.chain(std::iter::once(earliest));
        let found = |start: Timestamp| self.next_after(start).filter(|slot| *slot <= now);
        let mut newest = starts.into_iter().find_map(found)?;
        while let Some(later) = found(newest) {
            newest = later;
        }
        Some(newest)
    }
}

fn newest_of_period(period: Duration, earliest: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let first = whole_second(earliest).after(period);
    let period = i64::try_from(period.as_millis()).ok().filter(|period| *period > 0)?;
    (first <= now).then(|| Timestamp(first.0 + (now.0 - first.0) / period * period))
}

fn before(moment: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp(moment.0.saturating_sub(millis))
}

fn whole_second(moment: Timestamp) -> Timestamp {
    Timestamp(moment.0.div_euclid(1000) * 1000)
}

fn every(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let signed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("`{text}` is not a duration such as `1h30m`"))?;
    // Source: robfig's `Every` rounds to seconds and knows nothing shorter.
    let seconds = u64::try_from(signed.as_secs()).unwrap_or(0);
    match seconds {
        0 => Err(format!("`{text}` is less than a second")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

fn fields(text: &str, zone: TimeZone) -> Result<Crontab, String> {
    let text = match text.strip_prefix('@') {
        Some(_) => WORDS
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, fields)| *fields)
            .ok_or_else(|| unknown_word(text))?,
        None => text,
    };
    if text.contains("TZ=") {
        return Err("the time zone belongs into `timeZone`, not into the schedule".to_owned());
    }
    let found: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = found[..] else {
        return Err(format!(
            "it has {} fields, and needs five: minute, hour, day of month, month, day of week",
            found.len()
        ));
    };
    let plain = [
        starred(minute, "0-59"),
        starred(hour, "0-23"),
        starred(day, "1-31"),
        starred(month, "1-12"),
        starred(weekday, "0-6"),
    ];
    plain.iter().try_for_each(|field| known_words(field))?;
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = cronexpr::FallbackTimezoneOption::None;
    let name = zone.iana_name().unwrap_or("UTC").to_owned();
    parse_crontab_with(&format!("{} {name}", plain.join(" ")), options).map_err(|error| {
        let message = error.to_string();
        message.rsplit('^').next().unwrap_or(&message).trim().to_owned()
    })
}

fn unknown_word(text: &str) -> String {
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    format!("`{text}` is not one of {}, `@every <duration>`", words.join(", "))
}

/// `?` is `*`. A star with steps is a plain range: only a bare star leaves the choice of the day
/// to the other field.
fn starred(field: &str, range: &str) -> String {
    let parts = field.split(',').map(|part| match part.split_once('/') {
        Some(("*" | "?", step)) if step != "1" => format!("{range}/{step}"),
        Some(("*" | "?", _)) => "*".to_owned(),
        _ if part == "?" => "*".to_owned(),
        // `5/15`: from 5 to the end.
        Some((from, step)) if from.bytes().all(|byte| byte.is_ascii_digit()) => {
            let end = range.rsplit('-').next().unwrap_or(range);
            format!("{from}-{end}/{step}")
        }
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Other crons know `L`, `W`, `#` and more; Kubernetes does not.
fn known_words(field: &str) -> Result<(), String> {
    const NAMES: [&str; 19] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "sun",
        "mon", "tue", "wed", "thu", "fri", "sat",
    ];
    for word in field.split([',', '-', '/']) {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number && word != "*" && !NAMES.contains(&word.to_lowercase().as_str()) {
            return Err(format!("`{word}` is neither a number nor the name of a month or a day"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn slots_follow_the_fields() {
        let check = |schedule: &str, from: &str, expected: &[&str]| {
            let expected: Vec<String> =
                expected.iter().map(|text| format!("2026-{text}Z")).collect();
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
        check(
            "0 0 13 * 5",
            "02-01T00:00:00",
            &["02-06T00:00:00", "02-13T00:00:00", "02-20T00:00:00"],
        );
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
}
