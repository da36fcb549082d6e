//! `log` lines (configuration manual 4.2 and 3.1).
use super::Cx;
use crate::base::addr::{Host, split_host_port};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::model::{LogDest, LogForm, LogTarget};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp", "audit",
    "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
pub const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const FORMS: &[(&str, LogForm)] = &[
    ("local", LogForm::Local),
    ("rfc3164", LogForm::Rfc3164),
    ("rfc5424", LogForm::Rfc5424),
    ("raw", LogForm::Raw),
    ("short", LogForm::Short),
    ("timed", LogForm::Timed),
    ("priority", LogForm::Priority),
    ("iso", LogForm::Iso),
];

/// Parses `log <address> [len <n>] [format <f>] [sample <s>] <facility> [<level> [<min>]]`.
pub fn parse(cx: &mut Cx<'_>, w: &[String]) -> Option<LogTarget> {
    let addr = cx.arg(w, 1, "an address and a facility")?;
    let addr = cx.expand(addr)?;
    let mut form = None;
    let dest = match addr.as_str() {
        "stdout" => LogDest::Fd(1),
        "stderr" => LogDest::Fd(2),
        a if a.starts_with("fd@") => match a[3..].parse() {
            Ok(fd) => LogDest::Fd(fd),
            Err(_) => {
                cx.error(format!("'log' : '{a}' is not a descriptor"));
                return None;
            }
        },
        a if a.starts_with("ring@") || a.starts_with("backend@") => {
            cx.not_yet(&format!("log target '{a}'"));
            return None;
        }
        a => match split_host_port(a.strip_prefix("udp@").unwrap_or(a)) {
            Ok((Host::Unix(p), _)) => LogDest::Unix(p),
            Ok((host @ (Host::Ip(_) | Host::Name(_)), port)) => {
                let port = match port.map_or(Ok(514), str::parse::<u16>) {
                    Ok(p) => p,
                    Err(_) => {
                        cx.error(format!("'log' : invalid port in '{a}'"));
                        return None;
                    }
                };
                let host = match host {
                    Host::Name(n) => match cx.resolve(&n) {
                        Some(ip) => Host::Ip(ip),
                        None => {
                            cx.error_of(Code::Unresolved, format!("'log' : could not resolve address '{n}'"));
                            return None;
                        }
                    },
                    h => h,
                };
                LogDest::Udp(host, port)
            }
            Ok(_) => {
                cx.error(format!("'log' : '{a}' is not an address that logs can be sent to"));
                return None;
            }
            Err(e) => {
                cx.error(format!("'log' : {e}"));
                return None;
            }
        },
    };
    let mut target = LogTarget {
        form: if matches!(dest, LogDest::Fd(_)) { LogForm::Raw } else { LogForm::Local },
        dest,
        facility: 0,
        level: 7,
        min_level: 0,
        max_len: 1024,
        sample: None,
    };
    let mut i = 2;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "len" => {
                let n = cx.number::<usize>(w, i + 1, "a length from 80 to 65535")?;
                if !(80..=65535).contains(&n) {
                    cx.error_of(Code::Number, format!("'log' : a length from 80 to 65535 is wanted, not {n}"));
                }
                target.max_len = n.clamp(80, 65535);
            }
            "format" => {
                let name = cx.arg(w, i + 1, "a format")?;
                match FORMS.iter().find(|f| f.0 == name) {
                    Some(f) => form = Some(f.1),
                    None => {
                        cx.error_of(
                            Code::UnknownWord,
                            format!("'log' : unknown format '{name}'{}", suggestion(name, FORMS.iter().map(|f| f.0))),
                        );
                        return None;
                    }
                }
            }
            "sample" => {
                let text = cx.arg(w, i + 1, "ranges and a size, such as 1:4")?;
                target.sample = sample(text);
                if target.sample.is_none() {
                    cx.error(format!("'log' : '{text}' is not a sample; write <range>[,<range>...]:<size>"));
                }
            }
            "profile" => cx.not_yet("'profile' in 'log'"),
            _ => break,
        }
        i += 2;
    }
    target.form = form.unwrap_or(target.form);
    let facility = cx.arg(w, i, "a facility, such as local0")?;
    match FACILITIES.iter().position(|f| *f == facility).and_then(|f| u8::try_from(f).ok()) {
        Some(f) => target.facility = f,
        None => {
            cx.error_of(
                Code::UnknownWord,
                format!("'log' : unknown log facility '{facility}'{}", suggestion(facility, FACILITIES)),
            );
            return None;
        }
    }
    for (k, slot) in [&mut target.level, &mut target.min_level].into_iter().enumerate() {
        if let Some(name) = w.get(i + 1 + k) {
            match LEVELS.iter().position(|l| l == name).and_then(|l| u8::try_from(l).ok()) {
                Some(l) => *slot = l,
                None => cx.error_of(
                    Code::UnknownWord,
                    format!("'log' : unknown log level '{name}'{}", suggestion(name, LEVELS)),
                ),
            }
        }
    }
    cx.at_most(w, i + 3);
    Some(target)
}

fn sample(text: &str) -> Option<(Vec<(u32, u32)>, u32)> {
    let (ranges, size) = text.split_once(':')?;
    let ranges = ranges
        .split(',')
        .map(|r| {
            let (a, b) = r.split_once('-').unwrap_or((r, r));
            Some((a.parse().ok()?, b.parse().ok()?))
        })
        .collect::<Option<Vec<(u32, u32)>>>()?;
    let size = size.parse().ok()?;
    ranges.iter().all(|r| r.0 >= 1 && r.0 <= r.1 && r.1 <= size).then_some((ranges, size))
}
