//! `tandem convert`: one file of the two. HAProxy's part is kept as it is written, comments and all; keepalived's becomes `vrrp` sections.
use super::model::{
    Auth, Bfd, Garp, HmacAuth, HmacMode, IPVLAN_MODES, MinUp, Notify, OldChecksum, ParamMatch, Peer, Replay,
    ScriptCall, TrackEntry, TrackProcess, Vip, Vmac, VrrpInstance, VrrpModel, VrrpVersion,
};
use crate::vrrp::timing::DOWN_ADVERTS;
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
    for f in &m.files {
        let _ = writeln!(out, "\nvrrp-file {}\n    path {}", word(&f.name), word(&f.path));
        line(&mut out, "weight", &f.weight.to_string(), f.weight != 1);
        line(&mut out, "reverse", "", f.reverse);
        if let Some((value, overwrite)) = f.init {
            line(&mut out, "init", &format!("{value}{}", if overwrite { " overwrite" } else { "" }), true);
        }
    }
    m.processes.iter().for_each(|p| process(&mut out, p));
    m.bfds.iter().for_each(|b| bfd(&mut out, b));
    let mut usual = m.instances.clone();
    let macs = usual.iter_mut().flat_map(VrrpInstance::addresses_mut).filter(|v| v.own_mac.is_some());
    macs.for_each(|v| v.dev = None);
    Vmac::name_all(&mut usual, "vrrp", "vrrp");
    if usual != m.instances {
        return Err("interfaces of addresses have names that one file cannot give them: leave 'vmac_prefix' and 'vmac_addr_prefix' out".to_owned());
    }
    for i in &m.instances {
        instance(&mut out, i)?;
    }
    for g in &m.groups {
        let _ = writeln!(out, "\nvrrp-group {}", word(&g.name));
        for n in &g.members {
            line(&mut out, "member", &word(n), true);
        }
        tracks(&mut out, &g.tracks);
        line(&mut out, "own-weights", "", g.own_weights);
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
    line(&mut g, "vrrp-startup-delay", &time(m.startup_delay), !m.startup_delay.is_zero());
    line(&mut g, "vrrp-delay-after-boot", &time(m.delay_after_boot), !m.delay_after_boot.is_zero());
    if let Some(a) = m.group4 {
        line(&mut g, "vrrp-multicast-group", &a.to_string(), true);
    }
    if let Some(a) = m.group6 {
        line(&mut g, "vrrp-multicast-group", &a.to_string(), true);
    }
    for f in &m.fifos {
        let mut s = format!("{}{}", word(&f.path), spaced(&account(&f.user)));
        if let Some(c) = &f.script {
            let _ = write!(s, "{} exec {}", spaced(&account(&c.user)), word(&c.command));
        }
        line(&mut g, "vrrp-fifo", &s, true);
    }
    line(&mut g, "vrrp-fifo-on-reload", "", m.lines_on_reload);
    line(&mut g, "vrrp-no-fault-mail", "", m.no_fault_mail);
    line(&mut g, "vrrp-no-local-igmp", "", m.no_local_igmp);
    for (name, s) in [("vrrp-startup-script", &m.at_start), ("vrrp-shutdown-script", &m.at_end)] {
        if let Some(c) = &s.script {
            let timeout = s.timeout.map_or_else(String::new, |t| format!("timeout {} ", time(t)));
            let user = account(&c.user);
            let blank = if user.is_empty() { "" } else { " " };
            line(&mut g, name, &format!("{timeout}{user}{blank}exec {}", word(&c.command)), true);
        }
    }
    for d in &m.debounce {
        line(&mut g, "vrrp-interface-delay", &format!("{} {} {}", word(&d.interface), time(d.down), time(d.up)), true);
    }
    let pace = |arp, na| format!("arp {} na {}", time(arp), time(na));
    let p = &m.pace;
    line(&mut g, "vrrp-announce-interval", &pace(p.arp, p.na), !(p.arp.is_zero() && p.na.is_zero()));
    for p in &m.pace.groups {
        let names: Vec<String> = p.interfaces.iter().map(|n| word(n)).collect();
        line(&mut g, "vrrp-announce-interval", &format!("{} interface {}", pace(p.arp, p.na), names.join(" ")), true);
    }
    for v in &m.statics {
        line(&mut g, "vrrp-static-address", &address(v), true);
    }
    if let Some(c) = &m.mail {
        let to: Vec<String> = c.to.iter().map(|t| word(t)).collect();
        // A line has room for so many words.
        let mut parts = to.chunks(32).map(|p| p.join(" "));
        let text = format!(
            "{} from {} helo {} timeout {} to {}",
            c.server,
            word(&c.from),
            word(&c.helo),
            time(c.timeout),
            parts.next().unwrap_or_default()
        );
        line(&mut g, "vrrp-mail", &text, true);
        parts.for_each(|p| line(&mut g, "vrrp-mail", &format!("to {p}"), true));
    }
    let tracked = |text: String, group: &Option<String>| match group {
        Some(name) => format!("{text} track_group {}", word(name)),
        None => text,
    };
    for r in &m.static_routes {
        line(&mut g, "vrrp-static-route", &tracked(words(&r.text()), &r.group), true);
    }
    for r in &m.static_rules {
        line(&mut g, "vrrp-static-rule", &tracked(words(&r.text()), &r.group), true);
    }
    for (name, members) in &m.track_groups {
        for r in members {
            line(&mut g, "vrrp-track-group", &format!("{} {}", word(name), word(r)), true);
        }
    }
    let dumps = [("state", &m.dumps.state), ("counters", &m.dumps.stats), ("json", &m.dumps.json)];
    for (kind, path) in dumps {
        if let Some(path) = path {
            line(&mut g, "vrrp-dump", &format!("{kind} {}", word(path)), true);
        }
    }
    line(&mut g, "vrrp-dump", "json-version 2", m.dumps.json2);
    if let Some((user, group)) = &m.script_user {
        let _ = writeln!(g, "    vrrp-script-user {}{}", word(user), behind(group));
    }
    if !g.is_empty() {
        let _ = write!(out, "\nglobal\n{g}");
    }
}

/// With a blank in front, if there is something.
fn spaced(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

fn behind(name: &Option<String>) -> String {
    name.as_ref().map_or_else(String::new, |n| format!(" {}", word(n)))
}

fn instance(out: &mut String, i: &VrrpInstance) -> Result<(), String> {
    let _ = writeln!(out, "\nvrrp {}", word(&i.name));
    line(out, if i.vrf { "vrf" } else { "interface" }, &word(&i.interface), !i.interface.is_empty());
    line(out, "vrid", &i.vrid.to_string(), true);
    line(out, "state", "master", i.initial_master);
    match i.version {
        VrrpVersion::V2 => line(out, "version", "2", true),
        VrrpVersion::V3 => line(out, "version", if i.also_v2 { "both" } else { "3" }, true),
        VrrpVersion::Carp => line(out, "protocol", "carp", true),
    }
    if i.version == VrrpVersion::Carp {
        line(out, "advbase", &i.advert_int.as_secs().to_string(), true);
        line(out, "advskew", &(254 - i.priority.min(254)).to_string(), true);
    } else {
        line(out, "priority", &i.priority.to_string(), true);
        line(out, "advertise", &time(i.advert_int), true);
    }
    let (word_for, pass) = match &i.auth {
        Auth::None => ("", &[][..]),
        Auth::Pass(p) => ("auth", &p[..]),
        Auth::Header(p) => ("auth-header", &p[..]),
        Auth::Carp(c) => ("password", &c.key[..]),
    };
    if !word_for.is_empty() {
        let end = pass.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
        let text = std::str::from_utf8(&pass[..end]).ok().filter(|t| !t.is_empty() && !t.contains('\0'));
        let text = text.ok_or(format!("'{}' : its password cannot be written as text", i.name))?;
        line(out, word_for, &word(text), true);
    }
    if let Some(h) = &i.hmac {
        hmac(out, h);
    }
    for v in &i.vips {
        line(out, "address", &address(v), true);
    }
    for v in &i.excluded {
        line(out, "address", &format!("{} unannounced", address(v)), true);
    }
    if i.vmac.as_ref().is_some_and(|v| v.lacks_address(i.is_six())) {
        return Err(format!(
            "'{}' : its IPVLAN interface has no address, and so it would stay in FAULT: write one",
            i.name
        ));
    }
    if let Some(v) = &i.vmac {
        let mac: Vec<String> = v.mac.iter().map(|b| format!("{b:02x}")).collect();
        let group = v.group.map_or_else(String::new, |g| format!(" group {g}"));
        let base = if v.from_base { " from-interface" } else { "" };
        match v.ipvlan {
            None => line(
                out,
                "virtual-mac",
                &format!("name {} address {}{group}{base}", word(&v.name), mac.join(":")),
                true,
            ),
            Some(p) => {
                let mode = IPVLAN_MODES.iter().find(|m| m.1 == p.mode).map_or("bridge", |m| m.0);
                let addr = p.addr.map_or_else(String::new, |a| format!(" address {}/{}", a.addr, a.prefix));
                line(out, "ipvlan", &format!("name {}{addr} mode {mode}{group}", word(&v.name)), true);
            }
        }
    }
    i.routes.iter().for_each(|r| line(out, "route", &words(&r.text()), true));
    i.rules.iter().for_each(|r| line(out, "rule", &words(&r.text()), true));
    if let Some(a) = i.unicast_src {
        line(out, "source", &a.to_string(), true);
    }
    if let Some(a) = i.mcast_src {
        line(out, "multicast-source", &a.to_string(), true);
    }
    if let Some(a) = i.mcast_dst {
        line(out, "multicast-group", &a.to_string(), true);
    }
    i.peers.iter().for_each(|p| peer(out, p));
    line(out, "peer-ttl", &i.unicast_ttl.unwrap_or(0).to_string(), i.unicast_ttl.is_some());
    line(out, "check-source", "", i.check_unicast_src);
    line(out, "no-address-check", "", i.skip_addr_check);
    line(out, "checksum", "v2", i.checksum_v2);
    line(out, "checksum", "old-unicast", i.old_checksum == OldChecksum::Always);
    line(out, "checksum", "new-unicast", i.old_checksum == OldChecksum::Never);
    line(out, "unicast-only", "", i.lacks_peer);
    line(out, "no preempt", "", !i.preempt);
    line(out, "preempt delay", &time(i.preempt_delay), !i.preempt_delay.is_zero());
    line(out, "strict", "", i.strict);
    line(out, "down-after", &i.down_adverts.to_string(), i.down_adverts != DOWN_ADVERTS);
    line(out, "quiet-to-lower", "", i.quiet_to_lower);
    line(out, "answer-higher", "", i.answers_higher);
    line(out, "ignore-adverts-as-owner", "", i.owner_deaf && !i.strict);
    line(out, "late-is-backup", &i.late_backup.unwrap_or(0).to_string(), i.late_backup.is_some());
    line(out, "ignore-link", "", i.ignores_link);
    line(out, "track-source", "", i.tracks_source);
    line(out, "promote-secondaries", "", i.promote_secondaries);
    tracks(out, &i.tracks);
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
    add("dev", v.own_mac.as_ref().map(|m| m.base.as_str()).or(v.dev.as_deref()).map(word));
    add("peer", v.peer.map(|p| p.to_string()));
    add("label", v.label.as_deref().map(word));
    add("brd", v.broadcast.map(|b| b.to_string()));
    add("track-group", v.group.as_deref().map(word));
    add("scope", (v.scope != 0).then(|| v.scope.to_string()));
    for (said, name) in [
        (v.no_prefix_route, "noprefixroute"),
        (v.home, "home"),
        (v.temporary, "mngtmpaddr"),
        (v.autojoin, "autojoin"),
        (v.untracked, "no-track"),
        (v.own_mac.is_some(), "virtual-mac"),
    ] {
        if said {
            let _ = write!(s, " {name}");
        }
    }
    match v.preferred {
        None => {}
        Some(u32::MAX) => s.push_str(" preferred forever"),
        Some(secs) => {
            let _ = write!(s, " preferred {secs}");
        }
    }
    s
}

fn hmac(out: &mut String, h: &HmacAuth) {
    for (id, key) in &h.keys {
        let digits: String = key.iter().map(|b| format!("{b:02x}")).collect();
        line(out, "hmac-key", &format!("{id} hex:{digits}"), true);
    }
    let mut s = format!("active {}", h.active);
    if h.replay == Replay::Monotonic {
        s.push_str(" replay monotonic");
    }
    if let Some(w) = h.window {
        let _ = write!(s, " window {}", time(w));
    }
    match h.mode {
        HmacMode::Enforce => {}
        HmacMode::Permissive => s.push_str(" mode permissive"),
        HmacMode::ReceiveOnly => s.push_str(" mode receive-only"),
    }
    line(out, "hmac", &s, true);
}

fn peer(out: &mut String, p: &Peer) {
    let mut s = p.addr.to_string();
    if p.min_ttl != 0 {
        let _ = write!(s, " min-ttl {}", p.min_ttl);
    }
    if p.max_ttl != 255 {
        let _ = write!(s, " max-ttl {}", p.max_ttl);
    }
    line(out, "peer", &s, true);
}

fn process(out: &mut String, p: &TrackProcess) {
    let command: Vec<String> = p.command.iter().map(|w| word(w)).collect();
    let _ = writeln!(out, "\nvrrp-process {}\n    command {}", word(&p.name), command.join(" "));
    line(out, "full-command", "", p.full_command);
    match p.params {
        ParamMatch::Exact => {}
        ParamMatch::Initial => line(out, "parameters", "initial", true),
        ParamMatch::Partial => line(out, "parameters", "partial", true),
    }
    line(out, "weight", &p.weight.to_string(), p.weight != 0);
    line(out, "reverse", "", p.reverse);
    let most = if p.quorum_max == u32::MAX { String::new() } else { format!(" max {}", p.quorum_max) };
    line(out, "quorum", &format!("{}{most}", p.quorum), p.quorum != 1 || !most.is_empty());
    line(out, "delay fork", &time(p.fork_delay), !p.fork_delay.is_zero());
    line(out, "delay end", &time(p.terminate_delay), !p.terminate_delay.is_zero());
}

fn bfd(out: &mut String, b: &Bfd) {
    let _ = writeln!(out, "\nvrrp-bfd {}\n    neighbour {}", word(&b.name), b.neighbour);
    if let Some(s) = b.source {
        line(out, "source", &s.to_string(), true);
    }
    line(out, "receive-every", &time(b.min_rx), true);
    line(out, "send-every", &time(b.min_tx), true);
    line(out, "idle-every", &time(b.idle_tx), true);
    line(out, "multiplier", &b.multiplier.to_string(), true);
    line(out, "passive", "", b.passive);
    line(out, "ttl", &b.ttl.to_string(), true);
    line(out, "max-hops", &b.max_hops.to_string(), b.max_hops != 0);
    line(out, "multihop", "", b.multihop);
    line(out, "weight", &b.weight.to_string(), b.weight != 0);
    line(out, "reverse", "", b.reverse);
}

fn tracks(out: &mut String, all: &[TrackEntry]) {
    for t in all {
        let weight = t.weight.map_or_else(String::new, |w| format!(" weight {w}"));
        let reverse = match t.reverse {
            None => "",
            Some(true) => " reverse",
            Some(false) => " no-reverse",
        };
        let name = if t.name.is_empty() { String::new() } else { format!(" {}", word(&t.name)) };
        let inside = t.inside.map_or_else(String::new, |i| {
            let min = match i.min_up {
                MinUp::Count(1) => String::new(),
                MinUp::Count(n) => format!(" min-up {n}"),
                MinUp::Percent(p) => format!(" min-up {p}%"),
            };
            format!("{min} rise {} fall {}", time(i.rise), time(i.fall))
        });
        let _ = writeln!(out, "    track {}{name}{inside}{weight}{reverse}", t.kind.name());
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
    let (every, all) = g.extra.unwrap_or_default();
    add(if all { "elsewhere" } else { "elsewhere-virtual" }, time(every), g.extra != d.extra);
    if !s.is_empty() {
        let _ = writeln!(out, "    announce{s}");
    }
}

fn notify(out: &mut String, n: &Notify) {
    let all = [
        ("master", &n.master),
        ("backup", &n.backup),
        ("fault", &n.fault),
        ("stop", &n.stop),
        ("change", &n.any),
        ("lower-advert", &n.lower),
        ("deleted", &n.deleted),
    ];
    line(out, "on", "deleted", n.says_deleted && n.deleted.is_none());
    line(out, "on", "priority", n.priority_changes);
    line(out, "mail-alert", "", n.mail);
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
/// Each of several words, as a line of the other language takes it.
fn words(text: &str) -> String {
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

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
