//! `vrrp-script`, `vrrp-file`, `vrrp-process` and `vrrp-bfd`: what virtual routers track.
use super::{Cx, OPEN, Row, account, known};
use crate::base::code::Code;
use crate::base::units::TimeUnit;
use crate::config::keepalived::build;
use crate::config::model::{Bfd, ParamMatch, TrackFile, TrackProcess, VrrpModel, VrrpScript};
use std::time::Duration;

const SCRIPT_KEYWORDS: &[Row] = &[
    ("exec", OPEN),
    ("interval", 2),
    ("timeout", 2),
    ("weight", 2),
    ("reverse", 1),
    ("rise", 2),
    ("fall", 2),
    ("init", 2),
    ("user", 4),
];

const FILE_KEYWORDS: &[Row] = &[("path", 2), ("weight", 2), ("reverse", 1), ("init", 3)];

const PROCESS_KEYWORDS: &[Row] = &[
    ("command", OPEN),
    ("full-command", 1),
    ("parameters", 2),
    ("weight", 2),
    ("reverse", 1),
    ("quorum", 4),
    ("delay", 3),
];

pub fn script_line(cx: &mut Cx<'_>, s: &mut VrrpScript, w: &[String]) {
    if !known(cx, SCRIPT_KEYWORDS, "vrrp-script", w) {
        return;
    }
    match w[0].as_str() {
        "exec" if cx.arg(w, 1, "a command").is_some() => s.command = w[1..].join(" "),
        "interval" => s.interval = cx.time(w, 1, TimeUnit::Secs).unwrap_or(s.interval),
        "timeout" => s.timeout = cx.time(w, 1, TimeUnit::Secs).unwrap_or_default(),
        "weight" => {
            s.weight = cx.number(w, 1, "a number from -253 to 253").unwrap_or(0);
            if !(-253..=253).contains(&s.weight) {
                cx.error_of(Code::Number, "'weight' : a number from -253 to 253 is wanted");
            }
        }
        "reverse" => s.reverse = true,
        "rise" => s.rise = cx.number(w, 1, "a number from 1").unwrap_or(1).max(1),
        "fall" => s.fall = cx.number(w, 1, "a number from 1").unwrap_or(1).max(1),
        "init" => match cx.arg(w, 1, "'fail'") {
            Some("fail") => s.init_fail = true,
            _ => cx.error("'init' expects 'fail'"),
        },
        "user" => {
            let mut at = 0;
            if let Some(user) = account(cx, w, &mut at) {
                s.user = user;
                if let Some(extra) = w.get(at) {
                    cx.error_of(
                        Code::Extra,
                        format!("'user <name> [group <name>]' cannot handle unexpected argument '{extra}'"),
                    );
                }
            }
        }
        _ => {}
    }
}

pub fn finish_script(cx: &mut Cx<'_>, mut s: VrrpScript, model: &mut VrrpModel) {
    if s.command.is_empty() {
        return cx.error_of(Code::Missing, format!("vrrp-script '{}' has no 'exec <command>'", s.name));
    }
    if s.timeout.is_zero() {
        s.timeout = s.interval;
    }
    s.liveness = build::asks_for_haproxy(&s.command);
    model.scripts.push(s);
}

/// `path <file>`, `weight <n>`, `reverse`, `init <n> [overwrite]`: keepalived's `track_file`.
pub fn file_line(cx: &mut Cx<'_>, f: &mut TrackFile, w: &[String]) {
    if !known(cx, FILE_KEYWORDS, "vrrp-file", w) {
        return;
    }
    match w[0].as_str() {
        "path" => f.path = cx.arg(w, 1, "a file").unwrap_or_default().to_owned(),
        "weight" => f.weight = cx.number(w, 1, "a number").unwrap_or(1),
        "reverse" => f.reverse = true,
        "init" => {
            let overwrite = match w.get(2).map(String::as_str) {
                None => false,
                Some("overwrite") => true,
                Some(o) => return cx.error(format!("'init' takes a number and 'overwrite', not '{o}'")),
            };
            f.init = cx.number(w, 1, "a number").map(|v| (v, overwrite));
        }
        _ => {}
    }
}

/// keepalived's `vrrp_track_process`.
pub fn process_line(cx: &mut Cx<'_>, p: &mut TrackProcess, w: &[String]) {
    if !known(cx, PROCESS_KEYWORDS, "vrrp-process", w) {
        return;
    }
    match w[0].as_str() {
        "command" if cx.arg(w, 1, "a command").is_some() => p.command = w[1..].to_vec(),
        "full-command" => p.full_command = true,
        "parameters" => match cx.arg(w, 1, "'initial' or 'partial'") {
            Some("initial") => p.params = ParamMatch::Initial,
            Some("partial") => p.params = ParamMatch::Partial,
            _ => cx.error("'parameters' expects 'initial' or 'partial'"),
        },
        "weight" => {
            p.weight = cx.number(w, 1, "a number from -254 to 254").unwrap_or(0);
            if !(-254..=254).contains(&p.weight) {
                cx.error_of(Code::Number, "'weight' : a number from -254 to 254 is wanted");
            }
        }
        "reverse" => p.reverse = true,
        "quorum" => {
            p.quorum = cx.number(w, 1, "a number").unwrap_or(1);
            match w.get(2).map(String::as_str) {
                None => {}
                Some("max") => p.quorum_max = cx.number(w, 3, "a number").unwrap_or(u32::MAX),
                Some(o) => cx.error(format!("'quorum' takes 'max <n>', not '{o}'")),
            }
        }
        "delay" => match cx.arg(w, 1, "'fork' or 'end'") {
            Some("fork") => p.fork_delay = cx.time(w, 2, TimeUnit::Secs).unwrap_or_default(),
            Some("end") => p.terminate_delay = cx.time(w, 2, TimeUnit::Secs).unwrap_or_default(),
            _ => cx.error("'delay' expects 'fork <time>' or 'end <time>'"),
        },
        _ => {}
    }
}

pub fn finish_file(cx: &mut Cx<'_>, f: TrackFile, model: &mut VrrpModel) {
    if f.path.is_empty() {
        return cx.error_of(Code::Missing, format!("vrrp-file '{}' has no 'path <file>'", f.name));
    }
    model.files.push(f);
}

pub fn finish_process(cx: &mut Cx<'_>, p: TrackProcess, model: &mut VrrpModel) {
    if p.command.is_empty() {
        return cx.error_of(Code::Missing, format!("vrrp-process '{}' has no 'command <name>'", p.name));
    }
    model.processes.push(p);
}

const BFD_KEYWORDS: &[Row] = &[
    ("neighbour", 2),
    ("source", 2),
    ("receive-every", 2),
    ("send-every", 2),
    ("idle-every", 2),
    ("multiplier", 2),
    ("passive", 1),
    ("ttl", 2),
    ("max-hops", 2),
    ("multihop", 1),
    ("weight", 2),
    ("reverse", 1),
];

/// keepalived's `bfd_instance`. TTL 0 is "not said" until the end of the section.
pub fn bfd_line(cx: &mut Cx<'_>, b: &mut Bfd, w: &[String]) {
    if !known(cx, BFD_KEYWORDS, "vrrp-bfd", w) {
        return;
    }
    let between = |cx: &mut Cx<'_>, lo: u64, hi: u64, now: Duration| match cx.time(w, 1, TimeUnit::Millis) {
        Some(t) if t >= Duration::from_millis(lo) && t <= Duration::from_millis(hi) => t,
        Some(_) => {
            cx.error_of(Code::Number, format!("'{}' : a time from {lo}ms to {hi}ms is wanted", w[0]));
            now
        }
        None => now,
    };
    match w[0].as_str() {
        "neighbour" | "source" => match cx.arg(w, 1, "an address").map(str::parse) {
            Some(Ok(ip)) if w[0] == "source" => b.source = Some(ip),
            Some(Ok(ip)) => {
                b.neighbour = ip;
                b.ttl = build::usual_ttl(ip);
            }
            _ => cx.error(format!("'{}' expects an IP address", w[0])),
        },
        "receive-every" => b.min_rx = between(cx, 1, 1000, b.min_rx),
        "send-every" => b.min_tx = between(cx, 1, 1000, b.min_tx),
        "idle-every" => b.idle_tx = between(cx, 1000, 10_000, b.idle_tx),
        "multiplier" => b.multiplier = cx.number(w, 1, "a number from 1 to 255").unwrap_or(5).max(1),
        "passive" => b.passive = true,
        // Behind 'neighbour', which says what is usual.
        "ttl" => b.ttl = cx.number(w, 1, "a number from 1 to 255").unwrap_or(b.ttl).max(1),
        "max-hops" => b.max_hops = cx.number(w, 1, "a number from 0 to 255").unwrap_or(0),
        "multihop" => b.multihop = true,
        "weight" => {
            b.weight = cx.number(w, 1, "a number from -253 to 253").unwrap_or(0);
            if !(-253..=253).contains(&b.weight) {
                cx.error_of(Code::Number, "'weight' : a number from -253 to 253 is wanted");
            }
        }
        "reverse" => b.reverse = true,
        _ => {}
    }
}

pub fn finish_bfd(cx: &mut Cx<'_>, b: Bfd, model: &mut VrrpModel) {
    if b.neighbour.is_unspecified() {
        return cx.error_of(Code::Missing, format!("vrrp-bfd '{}' has no 'neighbour <ip>'", b.name));
    }
    if b.source.is_some_and(|s| s.is_ipv4() != b.neighbour.is_ipv4()) {
        let text = format!("vrrp-bfd '{}' : its source is of another family than its neighbour", b.name);
        return cx.error_of(Code::AddressFamily, text);
    }
    model.bfds.push(b);
}
