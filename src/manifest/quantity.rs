//! Kubernetes' quantities: `250m`, `1.5Gi`, `2e3`. Exact, rounded up like upstream.

/// A quantity in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    /// Rounded up from what was written.
    pub millis: i128,
}

/// Longer than any number that fits, shorter than what could overflow the arithmetic below.
const MAX_LENGTH: usize = 30;

impl Quantity {
    /// `None` where Kubernetes would not take it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits: i128 = digits.parse().ok()?;
        let (numerator, denominator) = factor(suffix)?;
        let scaled = digits.checked_mul(1000)?.checked_mul(numerator)?;
        let by =
            10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
        // Away from zero, as upstream rounds.
        let millis = scaled.checked_add(by - 1)? / by;
        Some(Self { millis: if negative { -millis } else { millis } })
    }

    /// Whole units, rounded up; `None` if negative or beyond 64 bits.
    pub fn units(self) -> Option<u64> {
        u64::try_from(self.millis.checked_add(999)?.div_euclid(1000)).ok()
    }

    /// Thousandths; `None` if negative or beyond 64 bits.
    pub fn thousandths(self) -> Option<u64> {
        u64::try_from(self.millis).ok()
    }
}

/// What a suffix multiplies by, as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            let scale = 10i128.checked_pow(power.unsigned_abs()).filter(|_| power.abs() <= 18)?;
            if power < 0 { (1, scale) } else { (scale, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_round_up() {
        let cases = [
            ("250m", Some(250)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1.", Some(1000)),
            ("0.0001", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2e3", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("5n", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("Gi", None),
            ("1 Gi", None),
            ("1GB", None),
            ("1gi", None),
            ("1.2.3", None),
            ("--1", None),
            ("1e99", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Quantity::parse(text).map(|q| q.millis), expected, "{text:?}");
        }
    }
}
