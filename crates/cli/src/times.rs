//! Times as people and programs read them.

use std::str::FromStr;

use boxwood_runtime::state::clock::Moment;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// RFC 3339 in UTC with nanoseconds, as Docker writes it.
pub(crate) fn rfc3339(moment: Moment) -> String {
    match Timestamp::from_nanosecond(i128::from(moment.0)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// When a process started, as ps(1) shows it: the time of today, or else the day; where the user is.
pub(crate) fn started(moment: Moment, now: Moment) -> String {
    started_in(&TimeZone::system(), moment, now)
}

fn started_in(zone: &TimeZone, moment: Moment, now: Moment) -> String {
    let local = |moment: Moment| {
        let time = Timestamp::from_nanosecond(i128::from(moment.0)).unwrap_or_default();
        time.to_zoned(zone.clone())
    };
    let (then, now) = (local(moment), local(now));
    let format = if then.date() == now.date() { "%H:%M" } else { "%b%d" };
    then.strftime(format).to_string()
}

/// How long ago, in Docker's words: `About a minute`, `3 hours`.
pub(crate) fn since(moment: Moment, now: Moment) -> String {
    let seconds = now.0.saturating_sub(moment.0) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        3600..5400 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// A time as users give one: Docker's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// This one.
    At(Moment),
    /// So many nanoseconds ago.
    Ago(u64),
}

impl Time {
    /// Which it is at `now`.
    pub(crate) fn before(self, now: Moment) -> Moment {
        match self {
            Time::At(moment) => moment,
            Time::Ago(nanoseconds) => Moment(now.0.saturating_sub(nanoseconds)),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no time: write it as 2026-01-02T15:04:05Z, in seconds since 1970, \
                 or how long ago, as 10m"
            )
        };
        if let Some(nanoseconds) = seconds(text) {
            return Ok(Time::At(Moment(nanoseconds)));
        }
        if let Ok(nanoseconds) = duration(text) {
            return Ok(Time::Ago(nanoseconds));
        }
        let unsigned = |nanoseconds: i128| u64::try_from(nanoseconds.max(0)).map_err(|_| wrong());
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Time::At(Moment(unsigned(time.as_nanosecond())?)));
        }
        // Without a zone it is the local one's; without a time of day it is midnight.
        let civil = text.parse::<jiff::civil::DateTime>();
        let civil =
            civil.or_else(|_| text.parse::<jiff::civil::Date>().map(|day| day.at(0, 0, 0, 0)));
        let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()));
        let time = zoned.map_err(|_| wrong())?.timestamp();
        Ok(Time::At(Moment(unsigned(time.as_nanosecond())?)))
    }
}

/// Seconds since 1970, perhaps with a fraction, in nanoseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// A duration as Go writes it (`1h30m`, `1.5s`, `100ms`), in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no duration: write it as 30s, 1m30s or 500ms");
    let mut rest = text;
    let mut total = 0.0;
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (digits, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += digits.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = behind;
    }
    // A century is more than anything waits.
    match text.is_empty() || total > 3.2e18 {
        true => Err(wrong()),
        false => Ok(total as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        for (text, time) in [
            ("1700000000", Time::At(Moment(1_700_000_000_000_000_000))),
            ("1.5", Time::At(Moment(1_500_000_000))),
            ("1970-01-01T00:00:02Z", Time::At(Moment(2_000_000_000))),
            ("1970-01-01T01:00:02.5+01:00", Time::At(Moment(2_500_000_000))),
            ("1h30m", Time::Ago(5_400_000_000_000)),
            ("1.5s", Time::Ago(1_500_000_000)),
            ("0s", Time::Ago(0)),
        ] {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
        assert!(matches!("2026-01-02T15:04:05".parse(), Ok(Time::At(_))));
        assert!(matches!("2026-01-02".parse(), Ok(Time::At(_))));
        for wrong in
            ["", "yesterday", "10", "1x", "-5s", "1.2.3", "s"].iter().filter(|t| **t != "10")
        {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_are_told_in_dockers_words() {
        let ago = |seconds: u64| since(Moment(0), Moment(seconds * 1_000_000_000));
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (600, "10 minutes"),
            (3700, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 30, "4 weeks"),
        ] {
            assert_eq!(ago(seconds), words);
        }
    }

    #[test]
    fn a_start_is_the_time_of_today_or_the_day() {
        let now = Moment(1_700_000_000_000_000_000);
        let ago =
            |seconds: u64| started_in(&TimeZone::UTC, Moment(now.0 - seconds * 1_000_000_000), now);
        assert_eq!((ago(0), ago(3600)), ("22:13".to_owned(), "21:13".to_owned()));
        assert_eq!(ago(86_400), "Nov13");
    }

    #[test]
    fn moments_are_rfc_3339() {
        let text = rfc3339(Moment(1_700_000_000_123_456_789));
        assert_eq!(text, "2023-11-14T22:13:20.123456789Z");
    }
}
