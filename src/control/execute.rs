//! Carries commands out.
use super::command::{Command, ServerAct, help};
use super::stats;
use crate::config::model::CliLevel;
use crate::health::prober;
use crate::state::live::{CONFIG_MAINT, FORCED_DRAIN, FORCED_MAINT, Live, RESOLUTION_MAINT, lock};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What only the guardian can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Reload,
    Standby(bool),
    /// For the worker itself: one thread into a loop.
    Loop(u64),
}

/// The answer's text, and what is to be asked of the guardian.
pub fn execute(c: &Command, s: &Snapshot, live: &Live, level: CliLevel) -> (String, Option<Asked>) {
    let text = match c {
        Command::Help => help(level),
        Command::Prompt | Command::Quit => String::new(),
        Command::ShowInfo => stats::info(s, live).iter().fold(String::new(), |mut t, (n, v)| {
            // Writing to a String cannot fail.
            let _ = writeln!(t, "{n}: {v}");
            t
        }),
        Command::ShowCache => show_cache(s),
        Command::ShowStat { iid, kinds, sid } => show_stat(s, iid.as_deref(), *kinds, *sid),
        Command::ShowServersState(be) => servers_state(s, be.as_deref()),
        Command::ShowBackend => {
            s.proxies.iter().filter(|p| p.conf.is_backend()).fold("# name\n".to_owned(), |t, p| t + &p.conf.name + "\n")
        }
        Command::ShowVersion => format!("{}\n", super::VERSION),
        Command::ShowVrrp { rejected: false } => show_vrrp(live),
        Command::ShowVrrp { rejected: true } => lock(&live.vrrp).iter().fold(String::new(), |mut t, v| {
            let counts: Vec<String> =
                v.rejected.iter().map(|(why, n)| format!("{}={n}", why.replace(' ', "-"))).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(t, "{}: {}", v.name, counts.join(" "));
            t
        }),
        Command::ShowSess => {
            format!("connections: {}, requests so far: {}\n", live.conns.get(), live.total_requests.load(Relaxed))
        }
        Command::ClearCounters => {
            for p in &s.proxies {
                for c in [&p.live.front, &p.live.back].into_iter().chain(p.servers.iter().map(|s| &s.live.counters)) {
                    c.clear();
                }
                p.live.front_conns.clear_max();
                p.live.back_sessions.clear_max();
                p.servers.iter().for_each(|s| s.live.sessions.clear_max());
            }
            String::new()
        }
        Command::GetWeight { backend, server } => match find(s, backend, server) {
            Ok((_, n)) => format!("{} (initial {})\n", n.live.weight(), n.conf.weight),
            Err(e) => e,
        },
        Command::Server { backend, server, act } => match find(s, backend, server) {
            Ok((p, n)) => act_on(s, live, &p, n, act),
            Err(e) => e,
        },
        Command::Reload => return ("Reloading\n".into(), Some(Asked::Reload)),
        Command::ShowReloads => {
            format!("{} in force, {} failed\n", live.reloads.load(Relaxed), live.failed_reloads.load(Relaxed))
        }
        Command::DebugLoop(ms) => return (String::new(), Some(Asked::Loop(*ms))),
        Command::Standby(yes) => return (String::new(), Some(Asked::Standby(*yes))),
    };
    (text, None)
}

fn find<'s>(s: &'s Snapshot, backend: &str, server: &str) -> Result<(Arc<ProxyNode>, &'s ServerNode), String> {
    let p = s.backend(backend).ok_or("No such backend.\n")?;
    let n = p.servers.iter().find(|n| n.conf.name == server).ok_or("No such server.\n")?;
    Ok((p.clone(), n))
}

/// Changes a server, and tells the logs; an empty answer means that it was done.
pub fn act_on(snapshot: &Snapshot, live: &Live, p: &ProxyNode, n: &ServerNode, act: &ServerAct) -> String {
    let l = &n.live;
    let mut said = String::new();
    let name = format!("{} {}/{}", if n.conf.backup { "Backup Server" } else { "Server" }, p.conf.name, n.conf.name);
    let before = (l.in_maintenance(), l.draining(), l.is_up());
    match act {
        ServerAct::Ready => {
            l.set_admin(FORCED_MAINT | CONFIG_MAINT, false);
            l.set_admin(FORCED_DRAIN, false);
        }
        ServerAct::Drain => {
            l.set_admin(FORCED_MAINT | CONFIG_MAINT, false);
            l.set_admin(FORCED_DRAIN, true);
        }
        ServerAct::Maint => drop(l.set_admin(FORCED_MAINT, true)),
        ServerAct::Weight(text) => {
            let weight = match text.strip_suffix('%') {
                Some(p) => p.parse::<u32>().ok().filter(|p| *p <= 25_600).map(|p| n.conf.weight * p / 100),
                None => text.parse::<u32>().ok(),
            };
            match weight {
                Some(w) if w <= 256 => l.set_weight(w),
                _ if text.is_empty() => return "Require <weight> or <weight%>.\n".into(),
                _ => return "Absolute weight can only be between 0 and 256 inclusive.\n".into(),
            }
        }
        ServerAct::Health(up) => l.force_health(*up),
        ServerAct::Addr(a, port) => {
            let (Ok(ip), current) = (a.parse(), crate::proxy::server_address(n).map_or(0, |x| x.port())) else {
                return format!("Invalid addr family or address: '{a}'\n");
            };
            let given = port.is_some();
            let Ok(port) = port.as_ref().map_or(Ok(current), |p| p.parse()) else { return "Invalid port.\n".into() };
            let old = crate::proxy::server_address(n);
            let ip_part = match old.map(|o| o.ip()) {
                Some(o) if o == ip => "no need to change the addr".to_owned(),
                o => format!("IP changed from '{}' to '{ip}'", o.map_or_else(|| "-".to_owned(), |o| o.to_string())),
            };
            let port_part = match given.then_some(old.map_or(0, |o| o.port())) {
                None => String::new(),
                Some(o) if o == port => ", no need to change the port".to_owned(),
                Some(o) => format!(", port changed from '{o}' to '{port}'"),
            };
            said = format!("{ip_part}{port_part} by 'stats socket command'\n");
            l.move_to(ip, Some(port));
            l.set_admin(RESOLUTION_MAINT, false);
        }
        ServerAct::MaxConn(max) => l.maxconn.store(*max, Relaxed),
        ServerAct::ShutdownSessions => l.shutdown_sessions(false),
    }
    p.live.bump();
    p.live.wake(None);
    let up =
        |backup: bool| p.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count();
    let (a, b) = (up(false), up(true));
    let running = if a == 0 && b > 0 { " Running on backup." } else { "" };
    let left = format!(
        "{a} active and {b} backup servers left.{running} {} sessions active, 0 requeued, {} remaining in queue.",
        l.sessions.get(),
        l.queued.get()
    );
    let online = format!(
        "{a} active and {b} backup servers online.{running} 0 sessions requeued, {} total in queue.",
        p.live.queued.get()
    );
    let now = (l.in_maintenance(), l.draining(), l.is_up());
    let state = if now.2 { "UP" } else { "DOWN" };
    let text = match (before, now) {
        ((false, ..), (true, ..)) => Some(format!("{name} is going DOWN for maintenance. {left}")),
        ((true, ..), (false, false, _)) => Some(format!("{name} is {state}/READY (leaving forced maintenance).")),
        ((_, false, _), (_, true, _)) => Some(format!("{name} enters drain state. {online}")),
        ((_, true, _), (_, false, _)) => Some(format!("{name} is {state} (leaving forced drain).")),
        ((.., true), (.., false)) => Some(format!("{name} is DOWN, changed from CLI. {left}")),
        ((.., false), (.., true)) => Some(format!("{name} is UP, changed from CLI. {online}")),
        _ => None,
    };
    if let Some(text) = text {
        let severity = if now.0 || !now.2 { crate::log::ALERT } else { crate::log::NOTICE };
        let tag = crate::log::Tag { tag: &p.log_tag, hostname: p.log_hostname.as_deref() };
        let sinks = &snapshot.sinks;
        sinks.send(&p.logs, severity, &tag, text.as_bytes(), &mut Vec::new(), &live.dropped_logs);
        if let Some(c) = &sinks.console {
            c.warning(text);
        }
    }
    said
}

fn show_stat(s: &Snapshot, iid: Option<&str>, kinds: i64, sid: i64) -> String {
    let mut out = format!("# {},\n", stats::COLUMNS.join(","));
    for r in stats::rows(s) {
        let by_name = iid.is_none_or(|i| i == r.proxy || i == r.iid.to_string());
        let by_kind = kinds < 0 || kinds & (1 << r.kind.number()) != 0;
        if by_name && by_kind && (sid < 0 || sid == i64::from(r.sid)) {
            r.csv(&mut out);
        }
    }
    out
}

/// Each cache, and each entry that is fresh.
fn show_cache(s: &Snapshot) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut out = String::new();
    for c in &s.caches {
        // Writing to a String cannot fail.
        let at = std::sync::Arc::as_ptr(c);
        let _ = writeln!(out, "{at:p}: {} (shctx:{at:p}, available blocks:{})", c.conf.name, c.free() >> 10);
        for (key, e) in c.list(now) {
            let (size, left) = (e.size(), e.expires - now);
            let blocks = size.div_ceil(1 << 10);
            let hash = key.iter().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(*b)));
            let _ = writeln!(
                out,
                "{:p} hash:{hash} vary:0x{:040x} type:full size:{size} ({blocks} blocks), refcount:0, expire:{left}",
                std::sync::Arc::as_ptr(&e),
                0
            );
        }
    }
    out
}

fn servers_state(s: &Snapshot, backend: Option<&str>) -> String {
    if let Some(b) = backend
        && s.backend(b).is_none()
    {
        return "Can't find backend.\n".into();
    }
    let mut out = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n".to_owned();
    for p in s.proxies.iter().filter(|p| p.conf.is_backend() && backend.is_none_or(|b| b == p.conf.name)) {
        for n in &p.servers {
            let l = &n.live;
            let op = if l.in_maintenance() || !l.is_up() { 0 } else { 2 };
            let (status, result) = match &*lock(&l.check) {
                Some(c) => (prober::status_number(c.status), if l.is_up() { 3 } else { 2 }),
                None => (1, 0),
            };
            let configured_down = l.admin() & CONFIG_MAINT != 0;
            let check_state = match (n.conf.check, l.in_maintenance()) {
                (false, _) if configured_down => 8,
                (false, _) => 0,
                (true, true) => 14,
                (true, false) => 6,
            };
            let check_health = if l.admin() == 0 { l.health().count() } else { 0 };
            let addr = crate::proxy::server_address(n);
            let fqdn = match &n.conf.host {
                crate::base::addr::Host::Name(name) => name.as_str(),
                _ => "-",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{} {} {} {} {} {op} {} {} {} {} {status} {result} {} {check_state} 0 {} {} {fqdn} {} - {} {} {} - 0",
                p.iid,
                p.conf.name,
                n.sid,
                n.conf.name,
                addr.map_or_else(|| "-".to_owned(), |a| a.ip().to_string()),
                l.admin(),
                l.weight(),
                n.conf.weight,
                l.since_change(),
                check_health,
                u8::from(p.conf.id.is_some()),
                u8::from(n.conf.id.is_some()),
                addr.map_or(0, |a| a.port()),
                u8::from(n.conf.traffic_tls),
                n.conf.check_port.unwrap_or(0),
                n.conf.check_addr.map_or_else(|| "-".to_owned(), |a| a.to_string()),
            );
        }
    }
    out
}

fn show_vrrp(live: &Live) -> String {
    let views = lock(&live.vrrp);
    if views.is_empty() {
        return "no virtual router is configured\n".into();
    }
    views.iter().fold(String::new(), |mut t, v| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            t,
            "{} interface={} vrid={} state={} priority={} effective={} serves={} addresses={} master_heard={} sent={} received={} cause=\"{}\"",
            v.name,
            v.interface,
            v.vrid,
            v.state,
            v.priority,
            v.effective,
            v.able,
            v.vips.join(","),
            v.master_priority.map_or_else(|| "-".to_owned(), |p| p.to_string()),
            v.sent,
            v.received,
            v.cause
        );
        t
    })
}
