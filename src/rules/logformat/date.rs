//! Dates as logs, syslog and HTTP write them.
use std::time::SystemTime;

#[derive(Clone, Copy)]
pub enum DateForm {
    /// `22/Nov/2026:10:02:03.456`
    Log,
    /// `22/Nov/2026:10:02:03 +0100`
    Clf(i32),
    /// `Nov 22 10:02:03`, as in RFC 3164
    Syslog,
    /// `2026-11-22T10:02:03.456789+01:00`, as in RFC 5424
    Iso(i32),
    /// `Sun, 22 Nov 2026 10:02:03 GMT`
    Http,
    /// `Sun Nov 22 10:02:03.456789 2026`, as keepalived's dumps have it
    Ctime,
}

pub(super) fn since_epoch(t: SystemTime) -> std::time::Duration {
    t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Writes a date `offset` seconds east of UTC.
pub fn date(at: SystemTime, offset: i32, form: DateForm, out: &mut Vec<u8>) {
    use std::io::Write as _;
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let d = since_epoch(at);
    let secs = i64::try_from(d.as_secs()).unwrap_or(0) + i64::from(offset);
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    // Civil date from days since 1970-01-01, by whole 400-year eras that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let zone = |o: i32| (if o < 0 { '-' } else { '+' }, o.abs() / 3600, o.abs() / 60 % 60);
    // Writing to a Vec cannot fail.
    let _ = match form {
        DateForm::Log => write!(out, "{day:02}/{name}/{year}:{h:02}:{m:02}:{s:02}.{:03}", d.subsec_millis()),
        DateForm::Clf(o) => {
            let (sign, zh, zm) = zone(o);
            write!(out, "{day:02}/{name}/{year}:{h:02}:{m:02}:{s:02} {sign}{zh:02}{zm:02}")
        }
        DateForm::Syslog => write!(out, "{name} {day:2} {h:02}:{m:02}:{s:02}"),
        DateForm::Iso(o) => {
            let (sign, zh, zm) = zone(o);
            write!(out, "{year}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}{sign}{zh:02}:{zm:02}", d.subsec_micros())
        }
        DateForm::Ctime => write!(
            out,
            "{} {name} {day:2} {h:02}:{m:02}:{s:02}.{:06} {year}",
            DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)],
            d.subsec_micros()
        ),
        DateForm::Http => write!(
            out,
            "{}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT",
            DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)]
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_417_874_042);
        let show = |form, offset| {
            let mut v = Vec::new();
            date(at, offset, form, &mut v);
            String::from_utf8(v).unwrap()
        };
        assert_eq!(show(DateForm::Log, 0), "23/Nov/2026:07:11:14.042");
        assert_eq!(show(DateForm::Syslog, 0), "Nov 23 07:11:14");
        assert_eq!(show(DateForm::Http, 0), "Mon, 23 Nov 2026 07:11:14 GMT");
        assert_eq!(show(DateForm::Iso(3600), 3600), "2026-11-23T08:11:14.042000+01:00");
        assert_eq!(show(DateForm::Clf(-5400), -5400), "23/Nov/2026:05:41:14 -0130");
    }
}
