//! `tandem convert`: one file of the two. HAProxy's part is kept as it is written, comments and all; keepalived's becomes `vrrp` sections.
use super::model::{Garp, Notify, ScriptCall, TrackEntry, Vip, VrrpInstance, VrrpModel, VrrpVersion};
use std::fmt::Write as _;
use std::time::Duration;

/// The sections that say what the model says. The error names what the grammar cannot carry.
pub fn vrrp(m: &VrrpModel) -> Result<String, String> {
    let mut out = String::new();
    global(&mut out, m);
    for s in &m.scripts {
        let _ = writeln!(out, "\nvrrp-script {}\n    exec {}", word(&s.name), word(&s.command));
        line(&mut out, "interval", &time(s.interval), true);
        line(&mut out, "timeout", &time(s.timeout), s.timeout != s.interval);
        line(&mut out, "weight", &s.weight.to_string(), s.weight != 0);
        line(&mut out, "reverse", "", s.reverse);
        line(&mut out, "rise", &s.rise.to_string(), s.rise != 1);
        line(&mut out, "fall", &s.fall.to_string(), s.fall != 1);
        line(&mut out, "init", "fail", s.init_fail);
        line(&mut out, "", &account(&s.user), s.user.is_some());
    }
    for i in &m.instances {
        instance(&mut out, i)?;
    }
    for g in &m.groups {
        let _ = writeln!(out, "\nvrrp-group {}", word(&g.name));
        for n in &g.members {
            line(&mut out, "member", &word(n), true);
        }
        tracks(&mut out, "interface", &g.track_interfaces);
        tracks(&mut out, "script", &g.track_scripts);
        notify(&mut out, &g.notify);
    }
    if out.contains('\0') {
        return Err("keepalived's file has a NUL character, which a line of the other language cannot carry".to_owned());
    }
    Ok(out)
}

fn global(out: &mut String, m: &VrrpModel) {
    let mut g = String::new();
    line(&mut g, "vrrp-router-id", &word(&m.router_id), !m.router_id.is_empty());
    line(&mut g, "vrrp-dynamic-interfaces", "", m.dynamic_interfaces);
    line(&mut g, "vrrp-script-security", "", m.script_security);
    if let Some((user, group)) = &m.script_user {
        let _ = writeln!(g, "    vrrp-script-user {}{}", word(user), behind(group));
    }
    if !g.is_empty() {
        let _ = write!(out, "\nglobal\n{g}");
    }
}

fn behind(name: &Option<String>) -> String {
    name.as_ref().map_or_else(String::new, |n| format!(" {}", word(n)))
}

fn instance(out: &mut String, i: &VrrpInstance) -> Result<(), String> {
    let _ = writeln!(out, "\nvrrp {}", word(&i.name));
    line(out, "interface", &word(&i.interface), true);
    line(out, "vrid", &i.vrid.to_string(), true);
    line(out, "version", if i.version == VrrpVersion::V2 { "2" } else { "3" }, true);
    line(out, "state", "master", i.initial_master);
    line(out, "priority", &i.priority.to_string(), true);
    line(out, "advertise", &time(i.advert_int), true);
    if let Some(pass) = &i.auth_pass {
        let end = pass.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
        let text = std::str::from_utf8(&pass[..end]).ok().filter(|t| !t.is_empty() && !t.contains('\0'));
        let text = text.ok_or(format!("'{}' : its password cannot be written as text", i.name))?;
        line(out, "auth", &word(text), true);
    }
    for v in &i.vips {
        line(out, "address", &address(v), true);
    }
    for v in &i.excluded {
        line(out, "address", &format!("{} unannounced", address(v)), true);
    }
    if let Some(a) = i.unicast_src {
        line(out, "source", &a.to_string(), true);
    }
    if let Some(a) = i.mcast_src {
        line(out, "multicast-source", &a.to_string(), true);
    }
    for p in &i.unicast_peers {
        line(out, "peer", &p.to_string(), true);
    }
    line(out, "check-source", "", i.check_unicast_src);
    line(out, "no-address-check", "", i.skip_addr_check);
    line(out, "checksum", "v2", i.checksum_v2);
    line(out, "no preempt", "", !i.preempt);
    line(out, "preempt delay", &time(i.preempt_delay), !i.preempt_delay.is_zero());
    tracks(out, "interface", &i.track_interfaces);
    tracks(out, "script", &i.track_scripts);
    announce(out, &i.garp);
    notify(out, &i.notify);
    Ok(())
}

fn line(out: &mut String, name: &str, value: &str, wanted: bool) {
    if wanted {
        let blank = if name.is_empty() || value.is_empty() { "" } else { " " };
        let _ = writeln!(out, "    {name}{blank}{value}");
    }
}

fn address(v: &Vip) -> String {
    let mut s = format!("{}/{}", v.addr.addr, v.addr.prefix);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(s, " {name} {value}");
        }
    };
    add("dev", v.dev.as_deref().map(word));
    add("label", v.label.as_deref().map(word));
    add("brd", v.broadcast.map(|b| b.to_string()));
    add("scope", (v.scope != 0).then(|| v.scope.to_string()));
    if v.no_prefix_route {
        s.push_str(" noprefixroute");
    }
    s
}

fn tracks(out: &mut String, kind: &str, all: &[TrackEntry]) {
    for t in all {
        let weight = t.weight.map_or_else(String::new, |w| format!(" weight {w}"));
        let reverse = if t.reverse { " reverse" } else { "" };
        let _ = writeln!(out, "    track {kind} {}{weight}{reverse}", word(&t.name));
    }
}

fn announce(out: &mut String, g: &Garp) {
    let d = Garp::default();
    let mut s = String::new();
    let mut add = |name: &str, value: String, differs: bool| {
        if differs {
            let _ = write!(s, " {name} {value}");
        }
    };
    add("repeat", g.repeat.to_string(), g.repeat != d.repeat);
    add("delay", time(g.delay), g.delay != d.delay);
    add("refresh", time(g.refresh.unwrap_or_default()), g.refresh != d.refresh);
    add("refresh-repeat", g.refresh_repeat.to_string(), g.refresh_repeat != d.refresh_repeat);
    add("lower-repeat", g.lower_prio_repeat.to_string(), g.lower_prio_repeat != d.lower_prio_repeat);
    add("lower-delay", time(g.lower_prio_delay), g.lower_prio_delay != d.lower_prio_delay);
    if !s.is_empty() {
        let _ = writeln!(out, "    announce{s}");
    }
}

fn notify(out: &mut String, n: &Notify) {
    let all =
        [("master", &n.master), ("backup", &n.backup), ("fault", &n.fault), ("stop", &n.stop), ("change", &n.any)];
    for (state, call) in all {
        if let Some(ScriptCall { command, user }) = call {
            let who = if user.is_some() { format!("{} ", account(user)) } else { String::new() };
            let _ = writeln!(out, "    on {state} {who}exec {}", word(command));
        }
    }
}

fn account(user: &Option<(String, Option<String>)>) -> String {
    user.as_ref().map_or_else(String::new, |(u, g)| {
        let group = g.as_ref().map_or_else(String::new, |g| format!(" group {}", word(g)));
        format!("user {}{group}", word(u))
    })
}

/// A time in the largest unit that holds it exactly.
fn time(t: Duration) -> String {
    let us = t.as_micros();
    match us {
        0 => "0s".to_owned(),
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1000) => format!("{}ms", us / 1000),
        _ => format!("{us}us"),
    }
}

/// One word of HAProxy's line grammar, quoted if it has to be.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,=@+%*?[]{}()<>|&;~^!".contains(c) || !c.is_ascii();
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else if !text.contains(['\'', '\n', '\r', '\t']) {
        format!("'{text}'")
    } else {
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' | '$' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c => out.push(c),
            }
        }
        out.push('"');
        out
    }
}
