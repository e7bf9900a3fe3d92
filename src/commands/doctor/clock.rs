//! Whether another clock shows the same time as ours. Pure: both are arguments.

use super::check::Finding;

/// Clocks that differ by more make file times and certificates wrong.
const SKEW_MAX_SECONDS: u64 = 30;

/// What is to say of the clock of `whose`, whose time is seconds since 1970; nothing if it told none
/// that can be read.
pub(super) fn compared(whose: &str, theirs: Option<&str>, now: i64) -> Option<Finding> {
    let theirs = seconds(theirs?)?;
    let skew = theirs.abs_diff(now);
    let what = format!("clock of {whose}");
    if skew <= SKEW_MAX_SECONDS {
        return Some(Finding::ok(what, "the same as here"));
    }
    let side = if theirs > now { "ahead of" } else { "behind" };
    Some(
        Finding::warning(what, format!("{skew} s {side} the clock here"))
            .why("keys and certificates are refused, and tools that compare file times err")
            .remedy("timedatectl set-ntp true    on the side that is wrong"),
    )
}

/// Seconds since 1970 of `2024-05-01T10:00:00.5Z` (an engine) or `Wed, 01 May 2024 10:00:00 GMT`
/// (a `Date` header).
fn seconds(text: &str) -> Option<i64> {
    if text.starts_with(|c: char| c.is_ascii_digit()) { of_engine(text) } else { of_header(text) }
}

fn of_engine(text: &str) -> Option<i64> {
    let numbers = text.split(['-', 'T', ':', '.', 'Z', '+']).map_while(|part| part.parse().ok());
    let numbers: Vec<i64> = numbers.collect();
    let [year, month, day, hour, minute, second, ..] = *numbers.as_slice() else { return None };
    Some(since_1970(year, month, day)? + hour * 3600 + minute * 60 + second)
}

fn of_header(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let fields: Vec<&str> = text.split([' ', ',', ':']).filter(|f| !f.is_empty()).collect();
    let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
    let month = MONTHS.iter().position(|month| Some(month) == fields.get(2))?;
    let month = i64::try_from(month).ok()? + 1;
    let clock = number(4)? * 3600 + number(5)? * 60 + number(6)?;
    Some(since_1970(number(3)?, month, number(1)?)? + clock)
}

/// Seconds from 1970 to the beginning of a day, by the Gregorian calendar.
fn since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years are counted from March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn both_ways_of_writing_a_time_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T12:34:56.789Z", Some(1_709_210_096)),
            ("Thu, 29 Feb 2024 12:34:56 GMT", Some(1_709_210_096)),
            ("Tue, 01 Jan 2030 00:00:00 GMT", Some(1_893_456_000)),
            ("yesterday", None),
            ("", None),
            ("2024-13-01T00:00:00Z", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_half_a_minute_is_told() {
        let at = |now| compared("x", Some("1970-01-01T01:00:00Z"), now).expect("a finding");
        assert_eq!(at(3600 + 30).level, Level::Ok);
        assert_eq!(at(3600 + 31).found, "31 s behind the clock here");
        assert_eq!(at(3600 - 60).found, "60 s ahead of the clock here");
        assert_eq!(compared("x", None, 0), None);
    }
}
