//! Carries commands out.
use super::command::{Ceilings, Command, Dynamic, Vrrp, help};
use super::runtime::{self, Removable, Wish};
use super::stats;
use super::typed;
use crate::config::model::{CliLevel, PortRule};
use crate::health::found::{Outcome, status_number};
use crate::health::verdict::Office;
use crate::state::counters::Counter;
use crate::state::live::{CONFIG_MAINT, Doors, Live, lock};
use crate::state::names::TALLIES;
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use crate::vrrp::view::VrrpView;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a command asks of the worker's main task.
#[derive(Debug)]
pub enum Asked {
    Reload,
    Standby(bool),
    /// One thread into a loop.
    Loop(u64),
    /// The configuration in force is to be another one; the word back says why it is not.
    Change(Wish, oneshot::Sender<Result<String, String>>),
}

/// What comes of a command.
pub enum Reply {
    Said(String),
    /// And what is to be asked.
    Ask(String, Asked),
    /// A change of the configuration: what is said of it is known when it is in force.
    Change(Wish),
    Wait {
        most: Duration,
        until: Option<Removable>,
    },
}

/// Carries a command out, or says what is to be asked of others.
pub fn execute(c: &Command, s: &Snapshot, live: &Live, level: CliLevel) -> Reply {
    match c {
        Command::Reload => Reply::Ask("Reloading\n".into(), Asked::Reload),
        Command::DebugLoop(ms) => Reply::Ask(String::new(), Asked::Loop(*ms)),
        Command::Standby(yes) => Reply::Ask(String::new(), Asked::Standby(*yes)),
        Command::Wait { most, until } => Reply::Wait { most: *most, until: until.clone() },
        Command::Make(wish) => Reply::Change(wish.clone()),
        c => Reply::Said(say(c, s, live, level)),
    }
}

/// `set maxconn` and `set rate-limit`: in force until a file says something else than the one in force.
fn set_limit(what: &Ceilings, n: u64, s: &Snapshot, live: &Live) -> String {
    let limits = &live.limits;
    match what {
        Ceilings::Frontend(name) => match s.frontend(name) {
            Some(fe) => fe.live.maxconn.set(n),
            None => return "No such frontend.\n".into(),
        },
        // Descriptors were raised for as many as the file says.
        Ceilings::Maxconn if n > s.maxconn.into() => return "Value out of range.\n".into(),
        Ceilings::Maxconn => limits.maxconn.set(if n == 0 { s.maxconn.into() } else { n }),
        Ceilings::Connections => limits.connections.limit.set(n),
        Ceilings::Sessions => limits.sessions.limit.set(n),
        Ceilings::Tls => limits.tls.limit.set(n),
        Ceilings::Compression => limits.compression.set(n << 10),
    }
    String::new()
}

/// `disable frontend`, `enable frontend`, `shutdown frontend`
fn doors(name: &str, wanted: Doors, s: &Snapshot, live: &Live) -> String {
    let found = match name.strip_prefix('#').map(str::parse) {
        Some(id) => s.proxies.iter().find(|p| p.conf.is_frontend() && id == Ok(p.iid)),
        None => s.frontend(name),
    };
    let Some(fe) = found else { return "No such frontend.\n".into() };
    if fe.listeners.iter().any(|l| l.conf.datagram) {
        return "This frontend has listeners for datagrams, which cannot be paused yet; use a reload.\n".into();
    }
    let is = fe.live.doors();
    let refused = match (is, wanted) {
        (Doors::Shut, Doors::Open) => "Frontend was previously shut down, cannot enable.\n",
        (Doors::Shut, Doors::Paused) => "Frontend was previously shut down, cannot disable.\n",
        (Doors::Shut, Doors::Shut) => "Frontend was already shut down.\n",
        (Doors::Open, Doors::Open) => "All sockets are already enabled.\n",
        (Doors::Paused, Doors::Paused) => "All sockets are already disabled.\n",
        _ => "",
    };
    if refused.is_empty() {
        fe.live.set_doors(wanted);
        live.doors.send_modify(|d| match wanted {
            Doors::Open => drop(d.remove(&fe.conf.name)),
            closed => drop(d.insert(fe.conf.name.clone(), closed)),
        });
        let what = match wanted {
            Doors::Open => "Resumed",
            Doors::Paused => "Paused",
            Doors::Shut => "Stopped",
        };
        let text = format!("{what} {} {}.", if fe.conf.is_backend() { "proxy" } else { "frontend" }, fe.conf.name);
        fe.note(crate::log::WARNING, &text, live);
    }
    refused.into()
}

/// The answers of commands that are answered here and now.
fn say(c: &Command, s: &Snapshot, live: &Live, level: CliLevel) -> String {
    match c {
        Command::Help => help(level),
        Command::Prompt | Command::Quit => String::new(),
        Command::ShowInfo(Some(form)) => typed::info(s, live, *form),
        Command::ShowInfo(None) => stats::info(s, live).iter().fold(String::new(), |mut t, (n, v)| {
            // Writing to a String cannot fail.
            let _ = writeln!(t, "{n}: {v}");
            t
        }),
        Command::DumpStats => super::statsfile::dump(s),
        Command::ShowCache => show_cache(s),
        Command::ShowErrors(w) => super::offences::show(w, s, live),
        Command::ShowSinks => show_sinks(s, live),
        // The socket shows them as they come.
        Command::ShowEvents(_) => String::new(),
        Command::ShowStat { form, iid, kinds, sid, hide } => {
            let f = typed::Filter { proxy: iid.as_deref(), kinds: *kinds, sid: *sid };
            let table = stats::table(s, *hide, |r| f.takes(r));
            form.map_or_else(|| stats::csv(&table), |form| typed::stat(&table, form))
        }
        Command::ShowResolvers(id) => show_resolvers(s, live, id.as_deref()),
        Command::StatOfResolvers => {
            let mut out = format!("# id,pid,{},\n", TALLIES.join(",").replace("snd_error", "send_error"));
            for r in &s.resolvers {
                for (name, ..) in &r.servers {
                    let all = live.name_server(&r.name, name);
                    let values: Vec<String> = all.all().map(|n| n.to_string()).collect();
                    // Writing to a String cannot fail.
                    let _ = writeln!(out, "{name},{},{},", r.name, values.join(","));
                }
            }
            out
        }
        Command::ShowServersState(be) => servers_state(s, be.as_deref()),
        Command::ShowBackend => {
            s.proxies.iter().filter(|p| p.conf.is_backend()).fold("# name\n".to_owned(), |t, p| t + &p.conf.name + "\n")
        }
        Command::ShowVersion => format!("{}\n", super::VERSION),
        Command::ShowVrrp(Vrrp::Brief) => show_vrrp(live),
        Command::ShowVrrp(Vrrp::Explain) => lock(&live.vrrp).iter().map(explain).collect(),
        Command::ShowVrrp(Vrrp::Rejected) => lock(&live.vrrp).iter().fold(String::new(), |mut t, v| {
            let counts: Vec<String> =
                v.rejected.iter().map(|(why, n)| format!("{}={n}", why.replace(' ', "-"))).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(t, "{}: {}", v.name, counts.join(" "));
            t
        }),
        Command::ShowSess => {
            format!("connections: {}, requests so far: {}\n", live.conns.get(), live.totals.get(Counter::Requests))
        }
        Command::ClearCounters => {
            for p in &s.proxies {
                for c in [&p.live.front, &p.live.back].into_iter().chain(p.servers.iter().map(|s| &s.live.counters)) {
                    c.clear();
                }
                for l in &p.listeners {
                    l.live.counters.clear();
                    l.live.conns.clear_max();
                }
                p.live.front_conns.clear_max();
                p.live.back_sessions.clear_max();
                p.servers.iter().for_each(|s| s.live.sessions.clear_max());
            }
            String::new()
        }
        Command::ClearServerCounters { backend, server } => match enabled(s, backend, server) {
            Ok((_, n)) => {
                n.live.counters.clear();
                n.live.sessions.clear_max();
                n.live.queued.clear_max();
                "Server counters cleared.\n".into()
            }
            Err(e) => e,
        },
        Command::GetWeight { backend, server } => match find(s, backend, server) {
            Ok((_, n)) => format!("{} (initial {})\n", n.live.weight(), n.conf.weight),
            Err(e) => format!("{e}\n"),
        },
        Command::Server { backend, server, act } => match enabled(s, backend, server) {
            Ok((p, n)) => Office { snapshot: s, live }.operate(&p, n, act),
            Err(e) => e,
        },
        Command::SetLimit(what, n) => set_limit(what, *n, s, live),
        Command::Doors(name, wanted) => doors(name, *wanted, s, live),
        Command::DynamicCookie { backend, what } => {
            let Some(p) = s.backend_of(backend) else { return "No such backend.\n".into() };
            match what {
                Dynamic::On => p.live.cookies.switch(true),
                Dynamic::Off => p.live.cookies.switch(false),
                Dynamic::Key(key) => p.live.cookies.set_key(key),
            }
            String::new()
        }
        Command::ShowDefaults => s.defaults.iter().map(|n| format!("{n}\n")).collect(),
        Command::ShowDefaultServer(be) => {
            if be.as_ref().is_some_and(|b| s.backend_of(b).is_none()) {
                return "No such backend.\n".into();
            }
            let mut out = String::new();
            for p in s.proxies.iter().filter(|p| p.conf.is_backend()) {
                if be.as_ref().is_some_and(|b| *b != p.conf.name) {
                    continue;
                }
                // Writing to a String cannot fail.
                if p.conf.default_server_said {
                    let _ = writeln!(out, "* {}", p.conf.name);
                }
                for (name, _) in &p.conf.named_servers {
                    let _ = writeln!(out, "  {}/{name}", p.conf.name);
                }
            }
            out
        }
        Command::ServerWords => {
            let words = crate::config::haproxy::dynamic_server_words().map(|w| format!("{w}\n"));
            "List of keywords supported for dynamic server:\n".to_owned() + &words.collect::<String>()
        }
        Command::Publish { backend, yes } => runtime::publish(s, backend, *yes),
        Command::ShowReloads => {
            format!("{} in force, {} failed\n", live.reloads.load(Relaxed), live.failed_reloads.load(Relaxed))
        }
        // Answered before.
        Command::Reload | Command::DebugLoop(_) | Command::Standby(_) | Command::Wait { .. } | Command::Make(_) => {
            String::new()
        }
    }
}

/// A server by the names, or the numbers behind `#`, of its backend and its own. The error has no end of line.
pub fn find<'s>(s: &'s Snapshot, backend: &str, server: &str) -> Result<(Arc<ProxyNode>, &'s ServerNode), String> {
    let p = s.backend_of(backend).ok_or("No such backend.")?;
    let id = server.strip_prefix('#').and_then(|n| n.parse().ok());
    let is = |n: &&ServerNode| id.map_or(n.conf.name == server, |id: u32| n.sid == id);
    let n = p.servers.iter().find(is).ok_or("No such server.")?;
    Ok((p.clone(), n))
}

/// The same, for commands that change a server: nothing of a disabled backend is changed.
fn enabled<'s>(s: &'s Snapshot, backend: &str, server: &str) -> Result<(Arc<ProxyNode>, &'s ServerNode), String> {
    match find(s, backend, server) {
        Ok((p, _)) if p.conf.disabled => Err("Proxy is disabled.\n".into()),
        Ok(found) => Ok(found),
        Err(e) => Err(format!("{e}\n")),
    }
}

/// `show events`: what there is to be shown.
fn show_sinks(s: &Snapshot, live: &Live) -> String {
    let mut text =
        "Supported events sinks are listed below. Add -0(zero), -w(wait), -n(new). Any key to stop.\n".to_owned();
    for (i, name) in ["stdout", "stderr"].into_iter().enumerate() {
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "    {name:<10} : type=fd, 0 dropped, standard {} (fd#{})", ["output", "error"][i], i + 1);
    }
    for r in std::iter::once(&live.buf0).chain(&s.rings) {
        let _ = writeln!(
            text,
            "    {:<10} : type=buffer, {} dropped, {}",
            r.conf.name,
            r.dropped.load(Relaxed),
            r.conf.description
        );
    }
    text
}

fn show_resolvers(s: &Snapshot, live: &Live, id: Option<&str>) -> String {
    let mut out = String::new();
    for r in s.resolvers.iter().filter(|r| id.is_none_or(|i| i == r.name)) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "Resolvers section {}", r.name);
        for (name, ..) in &r.servers {
            let _ = writeln!(out, " nameserver {name}:");
            for (label, n) in TALLIES.iter().zip(live.name_server(&r.name, name).all()) {
                let _ = writeln!(out, "  {:<13}{n}", format!("{label}:"));
            }
        }
    }
    if out.is_empty() && id.is_some() { "Can't find that resolvers section\n".into() } else { out }
}

/// The ring of a name, or why its events cannot be shown.
pub fn ring_of(name: &str, s: &Snapshot, live: &Live) -> Result<std::sync::Arc<crate::log::ring::Ring>, &'static str> {
    if matches!(name, "stdout" | "stderr") {
        return Err("Nothing to report for this sink\n");
    }
    live.built_in_ring(name)
        .or_else(|| s.rings.iter().find(|r| r.conf.name == name).cloned())
        .ok_or("No such event sink\n")
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
            let (size, left) = (e.size(), e.expires.saturating_sub(now));
            let kind = if e.hints_alone { "hints" } else { "full" };
            let blocks = size.div_ceil(1 << 10);
            let hash = key.iter().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(*b)));
            let _ = writeln!(
                out,
                "{:p} hash:{hash} vary:0x{:040x} type:{kind} size:{size} ({blocks} blocks), refcount:0, expire:{left}",
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
            let op = match (l.in_maintenance() || !l.is_up(), l.stopping()) {
                (true, _) => 0,
                (_, true) => 3,
                _ if l.warmth() < 100 => 1,
                _ => 2,
            };
            let (status, result) = match &*lock(&l.check) {
                Some(c) => (
                    status_number(c.found.status),
                    match c.found.outcome() {
                        Outcome::Neutral => 1,
                        Outcome::Failed => 2,
                        Outcome::Passed => 3,
                        Outcome::Conditional => 4,
                    },
                ),
                None => (1, 0),
            };
            let configured_down = l.admin() & CONFIG_MAINT != 0;
            let check_state = match (n.conf.check, l.in_maintenance()) {
                (false, _) if configured_down => 8,
                (false, _) => 0,
                (true, waits) => 2 | u8::from(l.check_enabled.load(Relaxed)) << 2 | u8::from(waits) << 3,
            };
            let check_health = if l.admin() & !CONFIG_MAINT == 0 { l.health().count() } else { 0 };
            let addr = crate::proxy::server_address(n);
            let fqdn = match &n.conf.host {
                crate::base::addr::Host::Name(name) => name.as_str(),
                _ => "-",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{} {} {} {} {} {op} {} {} {} {} {status} {result} {} {check_state} {} {} {} {fqdn} {} - {} {} {} {} {}",
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
                agent_state(n),
                u8::from(p.conf.id.is_some()),
                u8::from(n.conf.id.is_some()),
                match (addr, n.conf.port) {
                    (Some(a), _) => a.port(),
                    (None, PortRule::Fixed(port)) => port,
                    (None, _) => 0,
                },
                u8::from(n.conf.traffic_tls),
                match l.check_port.load(Relaxed) {
                    0 => n.conf.check_port.map_or(0, u32::from),
                    p => p,
                },
                lock(&l.check_addr).or(n.conf.check_addr).map_or_else(|| "-".to_owned(), |a| a.to_string()),
                lock(&l.agent.addr)
                    .or(n.conf.agent.addr)
                    .or(n.conf.check_addr)
                    .filter(|_| n.conf.agent.wanted)
                    .map_or_else(|| "-".to_owned(), |a| a.to_string()),
                match l.agent.port.load(Relaxed) {
                    0 => n.conf.agent.port.or(n.conf.check_port).filter(|_| n.conf.agent.wanted).map_or(0, u32::from),
                    p => p,
                },
            );
        }
    }
    out
}

/// Bits of an agent: 1 it is being asked, 2 there is one, 4 it is enabled, 16 that it is one.
fn agent_state(n: &ServerNode) -> u8 {
    let a = &n.live.agent;
    if !n.conf.agent.wanted {
        return 0;
    }
    let bits = [(1, &a.running), (4, &a.enabled)].map(|(bit, on)| if on.load(Relaxed) { bit } else { 0 });
    2 + 16 + bits[0] + bits[1]
}

/// Everything about a virtual router, for people.
fn explain(v: &VrrpView) -> String {
    let mut t = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        t,
        "{} (VRID {} on {}): {} for {:.1} s, because {}",
        v.name,
        v.vrid,
        if v.interface.is_empty() { "any interface" } else { &v.interface },
        v.state,
        v.since,
        v.cause
    );
    let serves = if v.able { "can serve" } else { "cannot serve, and speaks with priority 1" };
    let _ = writeln!(t, "  addresses   {}", v.vips.join(", "));
    let _ = writeln!(
        t,
        "  priority    {} = {} from the file{}; {serves}",
        v.effective,
        v.priority,
        if v.shares.is_empty() { "" } else { " and what it tracks" }
    );
    for s in &v.shares {
        let _ = writeln!(t, "    {s}");
    }
    match &v.heard {
        Some((ago, from, priority)) => {
            let _ = writeln!(
                t,
                "  last advert {ago:.3} s ago from {from} with priority {priority}; adverts were up to {:.1} ms off their time",
                v.jitter
            );
        }
        None => {
            let _ = writeln!(t, "  last advert none was heard");
        }
    }
    if let Some(next) = v.next {
        let what = if v.state == "MASTER" { "the next advert" } else { "it takes over unless a master is heard" };
        let _ = writeln!(t, "  next        in {next:.3} s: {what}");
    }
    let _ = writeln!(t, "  adverts     {} sent, {} received", v.sent, v.received);
    for (ago, what) in &v.history {
        let _ = writeln!(t, "  {ago:>9.1} s ago  {what}");
    }
    t
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
