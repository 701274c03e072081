//! Numbers and times as `kubectl` writes them.

use kgit_protocol::time::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// `5m3s`, `3h`, `12d`: at most two units, fewer the longer it is. Source of the steps:
/// apimachinery's `duration.HumanDuration`.
pub fn duration(seconds: i64) -> String {
    let two = |whole: i64, unit: &str, rest: i64, rest_unit: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{rest_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// How long ago an RFC 3339 moment was; `<unknown>` if the text is none.
pub fn age(moment: &str, now: Timestamp) -> String {
    match Timestamp::parse(moment) {
        Some(moment) => duration((now.0 - moment.0) / 1000),
        None => "<unknown>".to_owned(),
    }
}

/// An RFC 3339 moment as `kubectl describe` writes it: `Sat, 21 Nov 2026 03:13:57 +0000`. Text
/// that is none stays as it is.
pub fn moment(text: &str) -> String {
    match Timestamp::parse(text) {
        Some(at) => at.to_jiff().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        None => text.to_owned(),
    }
}

/// A number of bytes as a quantity: `5Gi`, `1536Mi`, `1000`.
pub fn bytes(bytes: u64) -> String {
    let units = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let whole = |&&(_, bits): &&(&str, u32)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits);
    match units.iter().find(whole) {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

/// In mebibytes, rounded up: `12Mi`.
pub fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

/// Thousandths of a core as a quantity: `500m`, `2`.
pub fn cpu(millis: u64) -> String {
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        _ => format!("{millis}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lose_precision_as_they_grow() {
        let shown = |seconds| duration(seconds);
        let days = |days: i64| duration(days * DAY);
        assert_eq!(["0s", "119s", "2m", "5m3s"], [-1, 119, 120, 303].map(shown).each_ref());
        assert_eq!(
            ["10m", "179m", "3h", "7h59m"],
            [600, 10799, 10800, 28799].map(shown).each_ref()
        );
        assert_eq!(
            ["8h", "47h", "2d", "7d23h"],
            [28800, 172799, 172800, 691199].map(shown).each_ref()
        );
        assert_eq!(
            ["8d", "729d", "2y", "7y364d", "8y"],
            [8, 729, 730, 2919, 2920].map(days).each_ref()
        );
    }

    #[test]
    fn moments_are_written_out() {
        assert_eq!(moment("2026-11-21T03:13:57Z"), "Sat, 21 Nov 2026 03:13:57 +0000");
        assert_eq!(moment(""), "");
    }

    #[test]
    fn quantities_use_the_largest_unit_that_is_exact() {
        assert_eq!(bytes(5 << 30), "5Gi");
        assert_eq!(bytes(1536 << 20), "1536Mi");
        assert_eq!(bytes(1000), "1000");
        assert_eq!(bytes(0), "0");
        assert_eq!([cpu(1500), cpu(2000)], ["1500m", "2"]);
    }
}
