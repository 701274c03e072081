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
    /// By the clock of a zone; the table itself knows nothing of zones.
    Fields(Box<Crontab>, TimeZone),
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
            None => Rule::Fields(Box::new(fields(text)?), tz),
        };
        Ok(Self { rule })
    }

    /// From one slot to the next, where that is what the schedule says.
    pub fn period(&self) -> Option<Duration> {
        match &self.rule {
            Rule::Every(period) => Some(*period),
            Rule::Fields(..) => None,
        }
    }

    /// The first slot after `moment`; `None` if there is none any more.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(period) => Some(whole_second(moment).after(*period)),
            Rule::Fields(table, zone) => next_by_the_clock(table, zone, moment),
        }
    }

    /// The first slot after `now`, if the slots up to `done` were.
    pub fn upcoming(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(period) => {
                let last = newest_of_period(*period, done, now);
                Some(last.unwrap_or_else(|| whole_second(done)).after(*period))
            }
            Rule::Fields(..) => self.next_after(now),
        }
    }

    /// The slots after `earliest` up to `now`, if there are any.
    pub fn missed(&self, earliest: Timestamp, now: Timestamp) -> Option<Missed> {
        let newest = match &self.rule {
            Rule::Every(period) => newest_of_period(*period, earliest, now)?,
            Rule::Fields(..) => self.newest(earliest, now)?,
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

/// How often a zone's clock may change until there is a slot. Twice a year, and a leap day is eight
/// years away at most; slots that a change leaps over take a few years more.
const MAX_CHANGES: usize = 24;

/// The first minute after `moment` in which the clock shows what the table says. Between two
/// changes of the zone's offset that clock is one that never changes, and is asked as such: times
/// that a change leaps over are no slots, and those that come again are slots again.
fn next_by_the_clock(table: &Crontab, zone: &TimeZone, moment: Timestamp) -> Option<Timestamp> {
    let mut from = moment;
    let mut offset = zone.to_offset(moment.to_jiff());
    let mut changes = zone.following(moment.to_jiff());
    for _ in 0..MAX_CHANGES {
        let ahead = i64::from(offset.seconds()) * 1000;
        let shown = table.find_next(Timestamp(from.0 + ahead).to_jiff()).ok()?;
        let slot = Timestamp(shown.timestamp().as_millisecond() - ahead);
        let Some(change) = changes.next() else { return Some(slot) };
        let at = Timestamp(change.timestamp().as_millisecond());
        if slot < at {
            return Some(slot);
        }
        // The minute in which it changes may be a slot itself.
        from = Timestamp(at.0 - 1);
        offset = change.offset();
    }
    None
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

fn fields(text: &str) -> Result<Crontab, String> {
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
    parse_crontab_with(&format!("{} UTC", plain.join(" ")), options).map_err(|error| {
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
mod tests;
