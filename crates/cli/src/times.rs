//! Times as people and programs read them.

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

#[cfg(test)]
mod tests {
    use super::*;

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
