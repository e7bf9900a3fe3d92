//! Times and sizes as a person writes them, on the command line and in profiles: `90s`, `1h30m`,
//! `256MiB`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest time that means anything here: ten years.
const SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// What becomes of a command whose client has gone without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// It goes on for ever.
    Keep,
    /// It is stopped at once.
    Cancel,
    /// It goes on for so long.
    After(Duration),
}

impl OnDisconnect {
    /// As `Begin.disconnect_ms` has it, where 0 means that nothing was said.
    pub fn to_ms(self) -> u64 {
        match self {
            Self::Keep => u64::MAX,
            Self::Cancel => 1,
            Self::After(time) => milliseconds(time).max(1),
        }
    }
}

impl std::fmt::Display for OnDisconnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Cancel => f.write_str("cancel"),
            Self::After(time) => f.write_str(&duration_text(*time)),
        }
    }
}

/// A time in milliseconds, for a message.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time such as `500ms`, `90s`, `10m`, `1h30m` or `2d`. Never zero: that would mean "not set".
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it is not a time; write `90s`, `10m`, `1h30m`, `2d` or `500ms`".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    // In milliseconds, of the part before: `30m1h` is a slip of the pen.
    let mut before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(unit).filter(|_| unit < before).ok_or_else(wrong)?;
        total = total.saturating_add(Duration::from_millis(part));
        (before, rest) = (unit, tail);
    }
    match total {
        Duration::ZERO => {
            Err(if text.is_empty() { wrong() } else { "it is no time at all".into() })
        }
        total if total.as_secs() > SECONDS_MAX => Err("it is more than ten years".to_owned()),
        total => Ok(total),
    }
}

/// The time in the syntax of [`duration`].
pub fn duration_text(time: Duration) -> String {
    let mut rest = milliseconds(time);
    let mut text = String::new();
    for (unit, word) in
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")]
    {
        if rest >= unit {
            text += &format!("{}{word}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `keep`, `cancel` or a time.
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text {
        "keep" => Ok(OnDisconnect::Keep),
        "cancel" => Ok(OnDisconnect::Cancel),
        time => duration(time).map(OnDisconnect::After).map_err(|_| {
            "it is neither `keep` nor `cancel` nor a time such as `90s` or `10m`".to_owned()
        }),
    }
}

/// A size: a number of bytes, or one with a unit; units are powers of 1024.
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "it is not a size; write `256MiB`, `2g` or a number of bytes".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_in_the_same_syntax() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("10m", 600_000),
            ("10min", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1d1h1m1s1ms", 90_061_001),
        ] {
            let time = duration(text).unwrap();
            assert_eq!(milliseconds(time), ms, "{text}");
            assert_eq!(duration(&duration_text(time)).unwrap(), time, "{text}");
        }
        assert_eq!(duration_text(Duration::from_secs(90)), "1m30s");
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "10", "s", "1.5h", "-1s", "10 s", "30m1h", "1s1s", "0s", "99999d", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999d").is_err());
        assert!(duration("18446744073709551615d").is_err());
    }

    #[test]
    fn a_command_without_its_client_is_kept_or_stopped() {
        assert_eq!(on_disconnect("keep").unwrap().to_ms(), u64::MAX);
        assert_eq!(on_disconnect("cancel").unwrap().to_ms(), 1);
        assert_eq!(on_disconnect("2m").unwrap().to_ms(), 120_000);
        assert_eq!(on_disconnect("2m").unwrap().to_string(), "2m");
        assert!(on_disconnect("never").is_err());
    }

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["", "0", "MiB", "1.5g", "99999999999t", "-1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
