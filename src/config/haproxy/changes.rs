//! Makes changes that came at run time, on a model that was just read. What speaks against one is an error of the report, in the words of
//! HAProxy's runtime interface.
use super::{Cx, server};
use crate::base::code::Code;
use crate::base::diag::{Place, Severity};
use crate::config::change::Change;
use crate::config::model::{Kind, Mode, Model, Proxy, Server};
use std::collections::HashSet;

/// Words of a `server` line that are nothing for a server made at run time.
const REFUSED: &[&str] = &[
    "cc",
    "check-sni-auto",
    "enabled",
    "init-addr",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "namespace",
    "no-agent-check",
    "no-check",
    "no-check-reuse-pool",
    "no-check-send-proxy",
    "no-check-ssl",
    "no-ssl",
    "non-stick",
    "redir",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "sni-auto",
    "socks4",
    "ssl-reuse",
    "stick",
    "tcp-md5sig",
    "tcp-ut",
];

/// Words that a server made at run time may have.
pub fn dynamic_server_words() -> impl Iterator<Item = &'static str> {
    let known = |w: &&str| super::server::state(w) != super::State::NotYet && !REFUSED.contains(w);
    super::keywords::names(super::keywords::Class::Server).filter(known)
}

/// A statistics socket takes the first number.
fn first_number(m: &Model) -> u32 {
    if m.global.stats_sockets.is_empty() { 1 } else { 2 }
}

/// Numbers proxies and servers as statistics, processes and consistent hashing know them: who says none gets the next one that nobody said. Servers
/// that say one are counted on the way to the next.
pub fn number(m: &mut Model) {
    let first = first_number(m);
    let said: HashSet<u32> = m.proxies.iter().filter_map(|p| p.id).collect();
    let mut free = (first..).filter(|n| !said.contains(n));
    for p in &mut m.proxies {
        // What forwards logs is no proxy that the statistics know.
        let next = if p.mode == Mode::Syslog { None } else { p.id.or_else(|| free.next()) };
        p.number = next.unwrap_or(u32::MAX);
        let said: HashSet<u32> = p.servers.iter().filter_map(|s| s.id).collect();
        let mut next = 1u32;
        for s in &mut p.servers {
            s.number = s.id.unwrap_or_else(|| {
                // Never none: there are more numbers than servers.
                next = (next..=u32::MAX).find(|n| !said.contains(n)).unwrap_or(u32::MAX);
                next
            });
            next = next.saturating_add(1);
        }
    }
}

/// Numbers sections that come behind those of the files.
pub fn number_behind(m: &Model, more: &mut [Proxy]) {
    let last = m.proxies.iter().map(|p| p.number).filter(|n| *n < u32::MAX).max();
    let first = last.map_or(first_number(m), |n| n + 1);
    for (n, p) in (first..).zip(more) {
        p.number = n;
        for (n, s) in (1..).zip(&mut p.servers) {
            s.number = n;
        }
    }
}

pub fn apply(cx: &mut Cx<'_>, m: &mut Model, defaults: &[Proxy], change: &Change) {
    cx.place = Place::new(&std::sync::Arc::from("runtime"), 0);
    let done = match change {
        Change::AddServer { backend, server, args, number } => add_server(cx, m, (backend, server), args, *number),
        Change::DelServer { backend, server } => of(m, backend, server).map(|(p, i)| {
            // Its GUID may be another's.
            if let Some(g) = p.servers.remove(i).guid {
                cx.guids.remove(&*g);
            }
        }),
        Change::RenameServer { backend, server, name } => of(m, backend, server).and_then(|(p, i)| {
            if p.servers.iter().any(|s| s.name == *name && p.servers[i].name != *name) {
                return Err("A server with the same name already exists in this backend.".into());
            }
            p.servers[i].name.clone_from(name);
            Ok(())
        }),
        Change::Fqdn { backend, server, name, ip } => of(m, backend, server).map(|(p, i)| {
            p.servers[i].host = crate::base::addr::Host::Name(name.clone());
            p.servers[i].ip = *ip;
        }),
        Change::AddBackend { name, args, number } => add_backend(cx, m, defaults, name, args, *number),
        Change::DelBackend { name } => {
            let its = m.proxies.iter().find(|p| p.kind == Kind::Backend && p.name == *name);
            if let Some(g) = its.and_then(|p| p.guid.clone()) {
                cx.guids.remove(&*g);
            }
            m.proxies.retain(|p| p.kind != Kind::Backend || p.name != *name);
            Ok(())
        }
    };
    if let Err(text) = done {
        cx.error_of(Code::Value, text);
    }
}

fn of<'m>(m: &'m mut Model, backend: &str, server: &str) -> Result<(&'m mut Proxy, usize), String> {
    let p = m.proxies.iter_mut().find(|p| p.is_backend() && p.name == backend).ok_or("No such backend.")?;
    let i = p.servers.iter().position(|s| s.name == server).ok_or("No such server.")?;
    Ok((p, i))
}

fn add_server(
    cx: &mut Cx<'_>,
    m: &mut Model,
    (backend, name): (&str, &str),
    args: &[String],
    number: Option<u32>,
) -> Result<(), String> {
    let at = m.proxies.iter().position(|p| p.is_backend() && p.name == backend).ok_or("No such backend.")?;
    let p = &*m.proxies[at];
    let no = |why: &str| {
        let kind = if p.kind == Kind::Listen { "proxy" } else { "backend" };
        Err(format!("Backend does not support dynamic servers : {kind} '{}' uses {why}.", p.name))
    };
    match p.mode {
        Mode::Log => return no("mode log"),
        _ if p.is_static() => return no("a non dynamic load balancing method"),
        _ => {}
    }
    if p.servers.iter().any(|s| s.name == *name) {
        return Err("Already exists a server with the same name in backend.".into());
    }
    let Some((addr, mut words)) = args.split_first().filter(|_| !name.is_empty()) else {
        return Err("'server' expects <name> and <addr>[:<port>] as arguments.".into());
    };
    if let Some(c) = super::args::foreign(name) {
        return Err(format!("character '{c}' is not permitted in server name '{name}'."));
    }
    // Variables count as in a file.
    let Some(addr) = &cx.expand(addr) else { return Ok(()) };
    address(addr)?;
    // What it says is judged where it stands.
    (cx.kind, cx.own) = (p.kind, p.name.clone());
    let mut base = match words {
        [from, rest @ ..] if from == "from" => {
            let value = rest.first().ok_or("from: missing value.")?;
            words = &rest[1..];
            if words.iter().any(|w| w == "from") {
                return Err("'from' keyword can only be specified once.".into());
            }
            inherited(m, p, value)?
        }
        _ => Server::default(),
    };
    if let Some(w) = words.iter().find(|w| REFUSED.contains(&w.as_str())) {
        return Err(format!("'{w}' option is not accepted for dynamic server"));
    }
    if words.iter().any(|w| w == "from") {
        return Err("unknown keyword 'from'.".into());
    }
    let mut line = vec!["server".to_owned(), name.to_owned(), addr.clone()];
    line.extend_from_slice(words);
    // Nobody is asked for its name.
    (base.may_lack_address, base.ask_at_start, base.guid) = (true, false, None);
    let p = &mut m.proxies[at];
    cx.servers.clear();
    let usual = std::mem::replace(&mut p.default_server, base);
    let (before, errors) = (p.servers.len(), cx.report.count(Severity::NotYet) + cx.report.count(Severity::Error));
    // It says itself what speaks against it.
    server::server(cx, p, &line);
    p.default_server = usual;
    if p.servers.len() == before || cx.report.count(Severity::NotYet) + cx.report.count(Severity::Error) > errors {
        return Ok(());
    }
    if let Some(text) = super::healthcheck::adopt_one(&m.healthchecks, p, before) {
        return Err(text.1);
    }
    if let Some(text) = super::check::lacks_port(p, &p.servers[before]) {
        return Err(text);
    }
    let taken: HashSet<u32> = p.servers[..before].iter().map(|s| s.number).collect();
    let s = &mut p.servers[before];
    if let Some(id) = s.id.filter(|id| taken.contains(id)) {
        return Err(format!("'id' : custom id {id} already used."));
    }
    // Never none: there are more numbers than servers.
    s.number = s.id.or(number).or_else(|| (1..).find(|n| !taken.contains(n))).unwrap_or(u32::MAX);
    (s.disabled, s.dynamic) = (true, true);
    Ok(())
}

/// Where a server may be: words that are refused before anything else is read.
fn address(addr: &str) -> Result<(), String> {
    if addr.starts_with("fd@") {
        return Err(format!("a file descriptor is not acceptable here in '{addr}'"));
    }
    if addr.starts_with('/') || addr.contains('@') {
        return Ok(());
    }
    let Some((_, port)) = addr.rsplit_once(':').filter(|(h, _)| !h.contains(':') || h.ends_with(']')) else {
        return Ok(());
    };
    match port.trim_start_matches(['+', '-']) {
        p if p.contains('-') => Err(format!("port range not permitted here in '{addr}'")),
        p if !p.is_empty() && p.parse::<u16>().is_err() => Err(format!("invalid port '{port}'")),
        _ => Ok(()),
    }
}

/// `from`: what a new server begins with.
fn inherited(m: &Model, own: &Proxy, value: &str) -> Result<Server, String> {
    let backend = |name: &str, what: &str| -> Result<Proxy, String> {
        let p = m.proxies.iter().find(|p| p.is_backend() && p.name == name);
        p.map(|p| (**p).clone()).ok_or_else(|| format!("from: unknown backend{what} '{name}'."))
    };
    if value == "none" {
        return Ok(Server::default());
    }
    if let Some(name) = value.strip_prefix("be:") {
        return if name.is_empty() {
            Ok(own.default_server.clone())
        } else {
            Ok(backend(name, " instance")?.default_server)
        };
    }
    let Some(name) = value.strip_prefix("srv:") else {
        return Err(format!("invalid '{value}' value for 'from' keyword."));
    };
    let (p, name) = match name.split_once('/') {
        Some(("", _) | (_, "")) => return Err("from: require <backend>/<server>.".into()),
        Some((b, s)) => (backend(b, "")?, s),
        None => (own.clone(), name),
    };
    let named = p.named_servers.iter().find(|s| s.0 == name).map(|s| s.1.clone());
    let found = named.or_else(|| p.servers.iter().find(|s| s.name == name).cloned());
    let mut s = found.ok_or_else(|| format!("from: unknown server '{name}' in backend '{}'.", p.name))?;
    // What is a server's own is not handed down.
    (s.id, s.cookie, s.track) = (None, None, None);
    Ok(s)
}

fn add_backend(
    cx: &mut Cx<'_>,
    m: &mut Model,
    defaults: &[Proxy],
    name: &str,
    args: &[String],
    number: Option<u32>,
) -> Result<(), String> {
    let usage = || "Usage: add backend <name> from <defproxy>.".to_owned();
    if let Some(bad) = super::args::foreign(name) {
        return Err(format!("Invalid character '{bad}' in backend name."));
    }
    let (mut from, mut mode, mut guid) = (None, None, None);
    let mut words = args.iter();
    while let Some(w) = words.next() {
        let value = words.next().ok_or_else(usage)?;
        match w.as_str() {
            "from" => from = Some(value),
            "mode" => {
                mode = Some(match value.as_str() {
                    "http" => Mode::Http,
                    "tcp" => Mode::Tcp,
                    "log" | "spop" | "haterm" => {
                        return Err("Dynamic backends are compatible with only TCP or HTTP mode.".into());
                    }
                    _ => return Err("Unknown proxy mode.".into()),
                });
            }
            "guid" => guid = cx.guid(value, &format!("backend {name}")),
            _ => return Err(usage()),
        }
    }
    let from = from.ok_or_else(usage)?;
    let base = defaults.iter().rev().find(|d| d.name == *from && !from.is_empty());
    let base = base.ok_or_else(|| format!("Cannot find default proxy '{from}'."))?;
    let mode = match mode {
        Some(m) => m,
        None if base.mode_said && !matches!(base.mode, Mode::Http | Mode::Tcp) => {
            return Err(format!(
                "Dynamic backends only support TCP or HTTP mode, whereas default proxy '{from}' uses another one."
            ));
        }
        None if base.mode_said => base.mode,
        None => return Err(format!("Mode is required as '{from}' default proxy does not explicitly defines it.")),
    };
    if let Some(p) = m.proxies.iter().find(|p| p.name == name) {
        let kind = p.kind.name();
        return Err(format!("Error during backend creation : name is already used by other proxy '{kind} {name}'."));
    }
    let mut p = base.clone();
    (p.kind, p.name, p.place) = (Kind::Backend, name.to_owned(), cx.place.clone());
    (p.mode, p.unpublished, p.guid) = (mode, true, guid);
    p.binds.clear();
    p.servers.clear();
    super::check::begin(&mut p);
    super::check::finish(cx, &mut p);
    super::older::finish(&mut p);
    super::filter::finish(cx, &mut p);
    let taken: HashSet<u32> = m.proxies.iter().map(|p| p.number).collect();
    let first = first_number(m);
    // Never none: there are more numbers than proxies.
    p.number = number.or_else(|| (first..).find(|n| !taken.contains(n))).unwrap_or(u32::MAX);
    m.proxies.push(Box::new(p));
    Ok(())
}
