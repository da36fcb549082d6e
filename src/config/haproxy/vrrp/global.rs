//! Words of `global` that are about virtual routers.
use super::{Cx, OPEN, Row, account, address, known};
use crate::base::code::Code;
use crate::base::units::TimeUnit;
use crate::config::model::{Debounce, Fifo, MailConf, PaceGroup, ScriptCall, TimedScript, VrrpModel};
use std::time::Duration;

const GLOBAL_KEYWORDS: &[Row] = &[
    ("vrrp-router-id", 2),
    ("vrrp-dynamic-interfaces", 1),
    ("vrrp-script-security", 1),
    ("vrrp-script-user", 3),
    ("vrrp-startup-delay", 2),
    ("vrrp-delay-after-boot", 2),
    ("vrrp-multicast-group", 2),
    ("vrrp-fifo", OPEN),
    ("vrrp-fifo-on-reload", 1),
    ("vrrp-no-fault-mail", 1),
    ("vrrp-no-local-igmp", 1),
    ("vrrp-startup-script", OPEN),
    ("vrrp-shutdown-script", OPEN),
    ("vrrp-interface-delay", 4),
    ("vrrp-announce-interval", OPEN),
    ("vrrp-dump", 3),
    ("vrrp-mail", OPEN),
    ("vrrp-static-address", OPEN),
    ("vrrp-static-route", OPEN),
    ("vrrp-static-rule", OPEN),
    ("vrrp-track-group", OPEN),
];

/// `vrrp-*` in `global`: what `global_defs` says in the other language.
pub fn line(cx: &mut Cx<'_>, m: &mut VrrpModel, w: &[String]) -> bool {
    if !GLOBAL_KEYWORDS.iter().any(|r| r.0 == w[0]) || !known(cx, GLOBAL_KEYWORDS, "global", w) {
        return false;
    }
    match w[0].as_str() {
        "vrrp-router-id" => m.router_id = cx.arg(w, 1, "a name").unwrap_or_default().to_owned(),
        "vrrp-dynamic-interfaces" => m.dynamic_interfaces = true,
        "vrrp-script-security" => m.script_security = true,
        "vrrp-script-user" => {
            if let Some(user) = cx.arg(w, 1, "a user") {
                m.script_user = Some((user.to_owned(), w.get(2).cloned()));
            }
        }
        "vrrp-startup-delay" => m.startup_delay = cx.time(w, 1, TimeUnit::Secs).unwrap_or_default(),
        "vrrp-delay-after-boot" => m.delay_after_boot = cx.time(w, 1, TimeUnit::Secs).unwrap_or_default(),
        "vrrp-multicast-group" => match cx.arg(w, 1, "a multicast address").map(str::parse::<std::net::IpAddr>) {
            Some(Ok(std::net::IpAddr::V4(a))) if a.is_multicast() => m.group4 = Some(a),
            Some(Ok(std::net::IpAddr::V6(a))) if a.is_multicast() => m.group6 = Some(a),
            _ => cx.error("'vrrp-multicast-group' expects a multicast address"),
        },
        "vrrp-fifo" => fifo(cx, m, w),
        "vrrp-fifo-on-reload" => m.lines_on_reload = true,
        "vrrp-no-fault-mail" => m.no_fault_mail = true,
        "vrrp-no-local-igmp" => m.no_local_igmp = true,
        "vrrp-startup-script" => timed(cx, &mut m.at_start, w),
        "vrrp-shutdown-script" => timed(cx, &mut m.at_end, w),
        "vrrp-interface-delay" => {
            let Some(interface) = cx.arg(w, 1, "an interface").map(str::to_owned) else { return true };
            let Some(down) = cx.time(w, 2, TimeUnit::Secs) else { return true };
            let up = if w.len() > 3 { cx.time(w, 3, TimeUnit::Secs).unwrap_or(down) } else { down };
            m.debounce.retain(|d| d.interface != interface);
            m.debounce.push(Debounce { interface, down, up });
        }
        // Further lines name further recipients.
        "vrrp-mail" => match &mut m.mail {
            Some(c) if w.get(1).is_some_and(|t| t == "to") && w.len() > 2 => c.to.extend_from_slice(&w[2..]),
            _ => m.mail = mail(cx, w),
        },
        "vrrp-static-address" => {
            let before = m.statics.len();
            address(cx, &mut m.statics, &mut Vec::new(), w);
            if m.statics[before..].iter().any(|v| v.own_mac.is_some()) {
                cx.error("'vrrp-static-address' : 'virtual-mac' belongs to addresses that move with a router");
            }
            if m.statics[before..].iter().any(|v| v.dev.is_none()) {
                cx.error_of(Code::Missing, "'vrrp-static-address' : an address here needs its 'dev <interface>'");
            }
        }
        "vrrp-static-route" => m.static_routes.extend(super::route(cx, w)),
        "vrrp-static-rule" => m.static_rules.extend(super::rule(cx, w)),
        "vrrp-track-group" => {
            let Some(name) = cx.arg(w, 1, "a name") else { return true };
            if cx.arg(w, 2, "a virtual router").is_some() {
                match m.track_groups.iter_mut().find(|g| g.0 == name) {
                    Some(g) => g.1.extend_from_slice(&w[2..]),
                    None => m.track_groups.push((name.to_owned(), w[2..].to_vec())),
                }
            }
        }
        "vrrp-announce-interval" => pace(cx, m, w),
        "vrrp-dump" => {
            let (Some(kind), Some(path)) = (w.get(1), cx.arg(w, 2, "a file").map(str::to_owned)) else { return true };
            match kind.as_str() {
                "state" => m.dumps.state = Some(path),
                "counters" => m.dumps.stats = Some(path),
                "json" => m.dumps.json = Some(path),
                "json-version" => m.dumps.json2 = path == "2",
                o => cx.error(format!("'vrrp-dump' knows state, counters, json and json-version, not '{o}'")),
            }
        }
        _ => {}
    }
    true
}

/// `vrrp-fifo <path> [user <name> [group <name>]] [exec <command>]`; who runs the command is said in front of it, with a second `user`.
fn fifo(cx: &mut Cx<'_>, m: &mut VrrpModel, w: &[String]) {
    let Some(path) = cx.arg(w, 1, "a path").map(str::to_owned) else { return };
    let mut at = 2;
    let Some(user) = account(cx, w, &mut at) else { return };
    let mut f = Fifo { path, user, script: None };
    let Some(runs_as) = account(cx, w, &mut at) else { return };
    match (w.get(at).map(String::as_str), w.get(at + 1)) {
        (Some("exec"), Some(_)) => f.script = Some(ScriptCall { command: w[at + 1..].join(" "), user: runs_as }),
        (None, _) if runs_as.is_none() => {}
        _ => return cx.error("'vrrp-fifo' expects <path> [user <name>] [[user <name>] exec <command>]"),
    }
    if m.fifos.iter().any(|o| o.path == f.path) {
        return cx.error_of(Code::Duplicate, format!("'vrrp-fifo' : '{}' is named twice", f.path));
    }
    m.fifos.push(f);
}

/// `vrrp-startup-script [timeout <time>] [user <name> [group <name>]] exec <command>`
fn timed(cx: &mut Cx<'_>, to: &mut TimedScript, w: &[String]) {
    let mut at = 1;
    if w.get(at).is_some_and(|t| t == "timeout") {
        let Some(t) = cx.time(w, at + 1, TimeUnit::Secs) else { return };
        if !(Duration::from_secs(1)..=Duration::from_secs(1000)).contains(&t) {
            return cx.error_of(Code::Number, format!("'{}' : 'timeout' is a time from 1s to 1000s", w[0]));
        }
        to.timeout = Some(t);
        at += 2;
    }
    let Some(user) = account(cx, w, &mut at) else { return };
    match (w.get(at).map(String::as_str), w.get(at + 1)) {
        (Some("exec"), Some(_)) => to.script = Some(ScriptCall { command: w[at + 1..].join(" "), user }),
        _ => cx.error(format!("'{}' expects [timeout <time>] [user <name> [group <name>]] exec <command>", w[0])),
    }
}

/// `vrrp-announce-interval arp|na <time> [na <time>] [interface <if> ...]`: without interfaces, for each one alone.
fn pace(cx: &mut Cx<'_>, m: &mut VrrpModel, w: &[String]) {
    let mut g = PaceGroup::default();
    let mut i = 1;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "arp" => g.arp = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or_default(),
            "na" => g.na = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or_default(),
            "interface" => {
                g.interfaces = w[i + 1..].to_vec();
                break;
            }
            o => return cx.error(format!("'vrrp-announce-interval' knows arp, na and interface, not '{o}'")),
        }
        i += 2;
    }
    if g.interfaces.is_empty() {
        (m.pace.arp, m.pace.na) = (g.arp, g.na);
    } else {
        m.pace.groups.push(g);
    }
}

/// `vrrp-mail <ip>:<port> [from <address>] [helo <name>] [timeout <time>] to <address> ...`
fn mail(cx: &mut Cx<'_>, w: &[String]) -> Option<MailConf> {
    let Some(Ok(server)) = cx.arg(w, 1, "an address and a port").map(str::parse) else {
        cx.error("'vrrp-mail' expects the mail server's address and port first");
        return None;
    };
    let mut c = MailConf {
        server,
        from: "tandem@localhost".into(),
        to: Vec::new(),
        helo: "localhost".into(),
        timeout: Duration::from_secs(30),
    };
    let mut at = 2;
    while let Some(word) = w.get(at) {
        match (word.as_str(), w.get(at + 1)) {
            ("to", Some(_)) => {
                c.to = w[at + 1..].to_vec();
                return Some(c);
            }
            ("from", Some(v)) => c.from.clone_from(v),
            ("helo", Some(v)) => c.helo.clone_from(v),
            ("timeout", Some(_)) => c.timeout = cx.time(w, at + 1, TimeUnit::Secs).unwrap_or(c.timeout),
            (o, _) => {
                cx.error(format!("'vrrp-mail' : '{o}' : from, helo, timeout and to are known"));
                return None;
            }
        }
        at += 2;
    }
    cx.error_of(Code::Missing, "'vrrp-mail' needs 'to <address> ...' at its end");
    None
}
