//! `log` lines (configuration manual 4.2 and 3.1), and `log-profile` sections.
use super::{Cx, ring, rules, sections};
use crate::base::addr::{Host, split_host_port};
use crate::base::code::Code;
use crate::base::diag::{Severity, suggestion};
use crate::config::model::{LogDest, LogForm, LogProfile, LogTarget, Mode, Model, Step, StepRule};
use crate::rules::sample::Scope;
use std::sync::Arc;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp", "audit",
    "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
pub const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Addresses of logs that are streams: each makes a ring of its own.
const STREAMS: [&str; 4] = ["tcp@", "tcp4@", "tcp6@", "uxst@"];

/// A descriptor, a ring, a backend, or an address that datagrams are sent to.
fn destination(cx: &mut Cx<'_>, a: &str) -> Option<LogDest> {
    match a {
        "stdout" => return Some(LogDest::Fd(1)),
        "stderr" => return Some(LogDest::Fd(2)),
        _ => {}
    }
    if let Some(n) = a.strip_prefix("fd@") {
        let fd = n.parse().ok().filter(|n| *n >= 0).map(LogDest::Fd);
        if fd.is_none() {
            cx.error(format!("'log' : '{a}' is not a descriptor"));
        }
        return fd;
    }
    if let Some(name) = a.strip_prefix("ring@") {
        return Some(LogDest::Ring(name.to_owned()));
    }
    if let Some(name) = a.strip_prefix("backend@") {
        return Some(LogDest::Backend(name.to_owned()));
    }
    let plain = ["udp@", "udp4@", "udp6@", "uxdg@"].iter().find_map(|f| a.strip_prefix(f)).unwrap_or(a);
    match split_host_port(plain) {
        Ok((Host::Unix(p), _)) => Some(LogDest::Unix(p)),
        Ok((host @ (Host::Ip(_) | Host::Name(_)), port)) => {
            let Ok(port) = port.map_or(Ok(514), str::parse::<u16>) else {
                cx.error(format!("'log' : invalid port in '{a}'"));
                return None;
            };
            let ip = match host {
                Host::Name(n) => match cx.resolve(&n) {
                    Some(ip) => Host::Ip(ip),
                    None => {
                        cx.error_of(Code::Unresolved, format!("'log' : could not resolve address '{n}'"));
                        return None;
                    }
                },
                h => h,
            };
            Some(LogDest::Udp(ip, port))
        }
        Ok(_) => {
            cx.error(format!("'log' : '{a}' is not an address that logs can be sent to"));
            None
        }
        Err(e) => {
            cx.error(format!("'log' : {e}"));
            None
        }
    }
}

/// The name of a format.
pub fn form(cx: &mut Cx<'_>, name: &str) -> Option<LogForm> {
    let found = LogForm::NAMES.iter().find(|f| f.0 == name);
    if found.is_none() {
        let near = suggestion(name, LogForm::NAMES.iter().map(|f| f.0));
        cx.error_of(Code::UnknownWord, format!("unknown log format '{name}'{near}"));
    }
    found.map(|f| f.1)
}

/// Parses `log <address> [len <n>] [format <f>] [sample <s>] [profile <p>] <facility> [<level> [<min>]]`.
pub fn parse(cx: &mut Cx<'_>, w: &[String]) -> Option<LogTarget> {
    let addr = cx.arg(w, 1, "an address and a facility")?;
    let addr = cx.expand(addr)?;
    let stream = STREAMS.iter().any(|f| addr.starts_with(f));
    let dest = if stream { LogDest::Ring(String::new()) } else { destination(cx, &addr)? };
    let mut target = LogTarget {
        place: cx.place.clone(),
        form: None,
        profile: None,
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
                target.form = Some(form(cx, name)?);
            }
            "sample" => {
                let text = cx.arg(w, i + 1, "ranges and a size, such as 1:4")?;
                target.sample = sample(text);
                if target.sample.is_none() {
                    cx.error(format!("'log' : '{text}' is not a sample; write <range>[,<range>...]:<size>, with ranges that do not overlap and lie within the size"));
                }
            }
            "profile" => target.profile = cx.arg(w, i + 1, "the name of a log-profile section").map(str::to_owned),
            _ => break,
        }
        i += 2;
    }
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
    if stream {
        target.dest = LogDest::Ring(ring::implicit(cx, &addr, &target)?);
    }
    Some(target)
}

fn sample(text: &str) -> Option<(Vec<(u32, u32)>, u32)> {
    let (ranges, size) = text.split_once(':')?;
    let mut ranges = ranges
        .split(',')
        .map(|r| {
            let (a, b) = r.split_once('-').map_or_else(|| (r, None), |(a, b)| (a, Some(b)));
            let a = a.parse().ok()?;
            let b = b.map_or(Some(a), |b| b.parse().ok().filter(|b| *b > a))?;
            Some((a, b))
        })
        .collect::<Option<Vec<(u32, u32)>>>()?;
    ranges.sort_unstable();
    let size = size.parse().ok()?;
    let apart = ranges.windows(2).all(|w| w[0].1 < w[1].0);
    (apart && ranges.iter().all(|r| r.0 >= 1 && r.1 <= size)).then_some((ranges, size))
}

/// A line of a `log-profile` section.
pub fn profile_line(cx: &mut Cx<'_>, p: &mut LogProfile, s: &mut sections::Open, w: &[String]) {
    let before = cx.report.count(Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(Severity::Error) > before {
        return;
    }
    if w[0] == "log-tag" {
        p.tag = w.get(1).cloned();
        return;
    }
    let mut rule = StepRule::default();
    let mut i = 2;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "drop" => (rule.drop, i) = (true, i + 1),
            o => {
                let Some(text) = cx.arg(w, i + 1, "a format string") else { return };
                let Some(f) = rules::format(cx, "on", text, Scope::Log).map(Arc::new) else { return };
                // A format behind it takes `drop` back, as there.
                rule.drop = false;
                if o == "sd" {
                    rule.sd = Some(f)
                } else {
                    rule.format = Some(f)
                }
                i += 2;
            }
        }
    }
    match w[1].as_str() {
        "any" => p.any = Some(rule),
        // Of a protocol that is not here.
        "quic-init" => {}
        name => {
            let step = Step::STEPS.iter().find(|s| s.0 == name).map_or(Step::Error, |s| s.1);
            p.steps.retain(|r| r.0 != step);
            p.steps.push((step, rule));
        }
    }
}

/// The end of all files: what `log` lines name has to be there.
pub fn finish(cx: &mut Cx<'_>, model: &Model) {
    for (name, place) in std::mem::take(&mut cx.asked_profiles) {
        if !model.log_profiles.iter().any(|p| p.name == name) {
            let near = suggestion(&name, model.log_profiles.iter().map(|p| p.name.as_str()));
            cx.report.error(Code::UnknownTarget, &place, format!("'do-log' : unknown log-profile '{name}'{near}"));
        }
    }
    let all = model.global.logs.iter().chain(model.proxies.iter().flat_map(|p| &p.logs));
    for t in all {
        if let Some(name) = &t.profile
            && !model.log_profiles.iter().any(|p| p.name == *name)
        {
            let near = suggestion(name, model.log_profiles.iter().map(|p| p.name.as_str()));
            cx.report.error(Code::UnknownTarget, &t.place, format!("'log' : unknown log-profile '{name}'{near}"));
        }
        match &t.dest {
            LogDest::Ring(name) if !known_ring(model, name) => {
                let near = suggestion(name, model.rings.iter().map(|r| r.name.as_str()));
                cx.report.error(
                    Code::UnknownTarget,
                    &t.place,
                    format!("'log' : uses unknown ring named '{name}'{near}"),
                );
            }
            LogDest::Backend(name) => {
                let text = match model.proxies.iter().find(|p| p.is_backend() && p.name == *name) {
                    None => {
                        let names = model.proxies.iter().filter(|p| p.mode == Mode::Log).map(|p| p.name.as_str());
                        format!("'log' : uses unknown log backend '{name}'{}", suggestion(name, names))
                    }
                    Some(p) if p.mode != Mode::Log => {
                        format!("'log' : uses incompatible log backend '{name}'; it has to say 'mode log'")
                    }
                    Some(_) => continue,
                };
                cx.report.error(Code::UnknownTarget, &t.place, text);
            }
            _ => {}
        }
    }
}

fn known_ring(model: &Model, name: &str) -> bool {
    ring::BUILT_IN.contains(&name) || model.rings.iter().any(|r| r.name == name)
}
