//! What only the whole configuration shows: sections against each other, and proxies against virtual routers.
use super::keepalived::build::place_of;
use super::model::{
    CheckKind, Chosen, INSIDE_WEIGHT, Kind, Mode, Model, PortRule, Proxy, TrackEntry, Tracked, VrrpInstance,
};
use crate::base::addr::ListenAddr;
use crate::base::code::Code;
use crate::base::diag::{Place, Report, suggestion};
use crate::rules::action::{HttpAction, Rule, TcpAction};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// Warnings that HAProxy does not have.
pub const ADVICE: &[Code] = &[
    Code::NoServer,
    Code::Unreachable,
    Code::Useless,
    Code::Loop,
    Code::SharedAddress,
    Code::VipUnserved,
    Code::ForeignListener,
    Code::NopreemptMaster,
    Code::AdvertInterval,
    Code::AuthPass,
    Code::ScriptMissing,
    Code::ScriptUnsafe,
    Code::WeightWithoutEffect,
    Code::UnknownTracked,
    Code::RouterIncomplete,
    Code::Lenient,
    Code::Interface,
    Code::NotifyMissing,
];

pub fn check(m: &Model, with_proxy: bool, report: &mut Report) {
    let mut backends: HashMap<&str, &Proxy> = HashMap::new();
    let mut reached: HashSet<&str> = HashSet::new();
    for p in m.proxies.iter().rev() {
        if p.is_backend() {
            backends.insert(&p.name, p);
        }
        if p.is_frontend() && !p.disabled {
            reached.extend(chosen(p).map(|(n, _)| n.as_str()));
        }
    }
    let mut bound = BTreeMap::new();
    let mut ids: BTreeMap<u32, &Place> = BTreeMap::new();
    for p in &m.proxies {
        if let Some(other) = p.id.and_then(|id| ids.insert(id, &p.place)) {
            let text =
                format!("{} '{}' has the same id as the section at {other}; ids are unique", p.kind.name(), p.name);
            report.error(Code::Duplicate, &p.place, text);
        }
    }
    // What virtual servers have to say is said where they are read.
    for p in m.proxies.iter().filter(|p| !p.disabled && p.virtual_server.is_none()) {
        if p.is_frontend() {
            targets(&backends, p, report);
        } else if let Some((_, at)) = chosen(p).find(|(n, _)| **n == p.name) {
            report.error(Code::Loop, at, format!("loop detected: backend '{}' sends to itself", p.name));
        }
        same_ids(p, report);
        listeners(p, &mut bound, report);
        timeouts(p, report);
        words_without_effect(&backends, p, report);
        rules(p, report);
        servers(&reached, p, report);
    }
    for g in m.vrrp.groups.iter().filter(|_| with_proxy) {
        let place = m.vrrp.instances.iter().find(|i| g.members.contains(&i.name)).map(|i| place_of(&i.place));
        inside(m, &g.tracks, &g.name, &place.unwrap_or_else(|| place_of("")), report);
    }
    let serves = with_proxy && !m.proxies.is_empty();
    let mut names: HashMap<&str, &VrrpInstance> = HashMap::new();
    let mut numbers: HashMap<(&str, u8, bool), &VrrpInstance> = HashMap::new();
    for i in &m.vrrp.instances {
        let six = i.vips.first().is_some_and(|a| a.addr.addr.is_ipv6());
        router(i, names.insert(&i.name, i), numbers.insert((&i.interface, i.vrid, six), i), report);
        weights(m, i, report);
        if with_proxy {
            inside(m, &i.tracks, &i.name, &place_of(&i.place), report);
        }
        if serves {
            addresses(m, i, report);
        }
    }
}

/// Backends and frontends that are tracked have to be there.
fn inside(m: &Model, tracks: &[TrackEntry], who: &str, place: &Place, report: &mut Report) {
    for t in tracks {
        let side: fn(&Proxy) -> bool = match t.kind {
            Tracked::Backend => Proxy::is_backend,
            Tracked::Frontend => Proxy::is_frontend,
            _ => continue,
        };
        let names = || m.proxies.iter().filter(|p| side(p)).map(|p| p.name.as_str());
        if !names().any(|n| n == t.name) {
            let near = suggestion(&t.name, names());
            let text = format!("'{who}' tracks {} '{}', which there is not{near}", t.kind.name(), t.name);
            report.error(Code::UnknownTarget, place, text);
        }
    }
}

/// The backends that a section sends to.
fn chosen(p: &Proxy) -> impl Iterator<Item = (&String, &Place)> {
    let named = p.use_backend.iter().filter_map(|(_, n, at)| match n {
        Chosen::Name(n) => Some((n, at)),
        Chosen::Computed(_) => None,
    });
    named.chain(p.default_backend.iter().map(|(n, at)| (n, at)))
}

fn targets(backends: &HashMap<&str, &Proxy>, p: &Proxy, report: &mut Report) {
    for (name, at) in chosen(p) {
        if report.is_full() {
            return;
        }
        match backends.get(name.as_str()).copied() {
            None => report.error(
                Code::UnknownTarget,
                at,
                format!("unable to find required backend: '{name}'{}", suggestion(name, backends.keys().copied())),
            ),
            Some(b) if std::ptr::eq(b, p) => {
                report.error(Code::Loop, at, format!("loop detected: '{name}' sends to itself; name another backend"));
            }
            // The bytes are HTTP from there on.
            Some(b) if p.mode == Mode::Tcp && b.mode == Mode::Http => {}
            Some(b) if b.mode != p.mode => report.error(
                Code::ModeMismatch,
                at,
                format!(
                    "{} '{}' is in mode {} but backend '{name}' is in mode {}; give both the same 'mode'",
                    p.kind.name(),
                    p.name,
                    mode(p.mode),
                    mode(b.mode)
                ),
            ),
            Some(_) => {}
        }
    }
}

/// `id` of servers and listeners: one each in a section.
fn same_ids(p: &Proxy, report: &mut Report) {
    let servers = p.servers.iter().filter_map(|s| s.id.map(|id| ("server", id, &s.place)));
    // A line with several addresses is one listener to its operator.
    let binds = p.binds.iter().filter_map(|b| b.id.map(|id| ("bind", id, &b.place)));
    let mut seen: BTreeMap<(&str, u32), &Place> = BTreeMap::new();
    for (kind, id, place) in servers.chain(binds) {
        if let Some(other) = seen.insert((kind, id), place)
            && other != place
        {
            report.error(
                Code::Duplicate,
                place,
                format!("'{kind} ... id {id}' : {other} has this id already; ids are unique"),
            );
        }
    }
}

fn listeners(p: &Proxy, bound: &mut BTreeMap<String, String>, report: &mut Report) {
    for b in &p.binds {
        if let Some(other) = bound.insert(b.addr.to_string(), p.name.clone()) {
            report.warning(
                Code::SharedAddress,
                &b.place,
                format!("'{}' is also bound by '{other}': connections are shared between the two", b.addr),
            );
        }
    }
    if p.is_frontend() && p.binds.is_empty() {
        report.warning(
            Code::NoListener,
            &p.place,
            format!("{} '{}' has no 'bind': it cannot receive connections", p.kind.name(), p.name),
        );
    }
}

fn timeouts(p: &Proxy, report: &mut Report) {
    // Logs wait for nobody.
    if matches!(p.mode, Mode::Log | Mode::Syslog) {
        return;
    }
    let what = if p.is_frontend() && !p.binds.is_empty() && p.timeouts.client.is_none() {
        "without 'timeout client' a dead client's connection is kept for ever"
    } else if p.is_backend() && !p.servers.is_empty() && (p.timeouts.connect.is_none() || p.timeouts.server.is_none()) {
        "set 'timeout connect' and 'timeout server', or hung servers will hold connections for ever"
    } else {
        return;
    };
    let text = format!("missing timeouts for {} '{}': {what}", p.kind.name(), p.name);
    report.warning(Code::NoTimeout, &p.place, text);
}

fn words_without_effect(backends: &HashMap<&str, &Proxy>, p: &Proxy, report: &mut Report) {
    // What its bytes can become counts as well.
    let http = |n: &String| backends.get(n.as_str()).is_some_and(|b| b.mode == Mode::Http);
    let computed = p.use_backend.iter().any(|u| matches!(u.1, Chosen::Computed(_)));
    let becomes_http = p.switches || computed || chosen(p).any(|(n, _)| http(n));
    if p.mode == Mode::Tcp && p.switches && p.default_backend.is_none() && p.use_backend.is_empty() {
        let text = format!(
            "Proxy '{}' : 'switch-mode http' configured for a tcp proxy with no backend. Incoming connections upgraded to HTTP cannot be routed to TCP servers",
            p.name
        );
        report.warning(Code::Useless, &p.place, text);
    }
    if p.mode == Mode::Tcp && !becomes_http {
        let http_only = [
            (!p.http_request.is_empty(), "http-request"),
            (!p.http_response.is_empty(), "http-response"),
            (p.cookie.is_some(), "cookie"),
            (p.stats.enabled && p.is_frontend() && p.stats.uri.is_some(), "stats"),
        ];
        for (_, word) in http_only.iter().filter(|x| x.0) {
            let text =
                format!("'{word}' is ignored in {} '{}', which is in mode tcp; add 'mode http'", p.kind.name(), p.name);
            report.warning(Code::IgnoredByMode, &p.place, text);
        }
    }
    if p.is_backend() && p.servers.iter().any(|s| s.cookie.is_some()) && p.cookie.is_none() && p.mode == Mode::Http {
        let text = format!("'cookie' on servers of '{}' has no effect without a 'cookie' line in the section", p.name);
        report.warning(Code::Useless, &p.place, text);
    }
    let described = matches!(p.check, CheckKind::HttpRules) && p.kind == Kind::Backend && p.check_rules.own;
    if described && !p.servers.is_empty() && !p.servers.iter().any(|s| s.check) {
        let text = format!("health checks are described for '{}' but no server has 'check'", p.name);
        report.notice(Code::Useless, &p.place, text);
    }
}

/// Rules behind one that always ends their list.
fn rules(p: &Proxy, report: &mut Report) {
    let mut list = |what: &str, rules: &mut dyn Iterator<Item = (bool, &Place)>| {
        let mut end: Option<&Place> = None;
        for (ends, place) in rules {
            if let Some(end) = end {
                let text = format!(
                    "'{what}' : this rule can never run: the one at {end} has no condition and always ends the list; move this one up, or give that one a condition"
                );
                // One of them is enough: the others are under it.
                return report.warning(Code::Unreachable, place, text);
            }
            end = ends.then_some(place);
        }
    };
    list("http-request", &mut p.http_request.iter().map(|r| (r.cond.is_none() && r.action.is_final(), &r.place)));
    list(
        "http-after-response",
        &mut p.http_after_response.iter().map(|r| (r.cond.is_none() && r.action.is_final(), &r.place)),
    );
    list("http-response", &mut p.http_response.iter().map(|r| (r.cond.is_none() && r.action.is_final(), &r.place)));
    let ends = |r: &Rule<TcpAction>| r.cond.is_none() && !r.action.goes_on();
    list("tcp-request connection", &mut p.tcp_connection.iter().map(|r| (ends(r), &r.place)));
    list("tcp-request session", &mut p.tcp_session.iter().map(|r| (ends(r), &r.place)));
    list("tcp-request content", &mut p.tcp_content.iter().map(|r| (ends(r), &r.place)));
    list("use_backend", &mut p.use_backend.iter().map(|(cond, _, place)| (cond.is_none(), place)));
}

fn servers(reached: &HashSet<&str>, p: &Proxy, report: &mut Report) {
    for s in &p.servers {
        let (Some(ip), PortRule::Fixed(port)) = (s.ip, &s.port) else { continue };
        let own = |l: &ListenAddr| matches!(l, ListenAddr::Inet { addr, port: own, .. } if own == port && *addr == ip);
        if p.binds.iter().any(|b| own(&b.addr)) {
            let text = format!("server '{}' is this proxy's own listener {ip}:{port}: requests would loop", s.name);
            report.warning(Code::Loop, &s.place, text);
        }
    }
    let answers = |a: &HttpAction| a.is_final() && !matches!(a, HttpAction::Allow);
    let own = p.kind == Kind::Listen && !p.binds.is_empty() && p.use_backend.is_empty() && p.default_backend.is_none();
    let reached = own || reached.contains(p.name.as_str());
    if p.is_backend()
        && p.servers.is_empty()
        && reached
        && !p.stats.enabled
        && !p.http_request.iter().any(|r| answers(&r.action))
        && p.monitor_uri.is_none()
    {
        let text = format!(
            "{} '{}' has no 'server': whatever comes here is answered with 503; add a server, or an answer with 'http-request return'",
            p.kind.name(),
            p.name
        );
        report.warning(Code::NoServer, &p.place, text);
    }
}

fn mode(m: Mode) -> &'static str {
    match m {
        Mode::Tcp => "tcp",
        Mode::Http => "http",
        Mode::Log => "log",
        Mode::Syslog => "syslog",
        Mode::Udp => "udp",
    }
}

/// `namesake`: one of the same name; `rival`: one of the same number on the same interface.
fn router(i: &VrrpInstance, namesake: Option<&VrrpInstance>, rival: Option<&VrrpInstance>, report: &mut Report) {
    let place = place_of(&i.place);
    if let Some(other) = namesake {
        let text = format!("two virtual routers are called '{}'; the other is at {}", i.name, other.place);
        report.error(Code::Duplicate, &place, text);
    }
    if let Some(other) = rival {
        let text = format!(
            "'{}' and '{}' both use VRID {} on {}: give one of them another number (the other is at {})",
            i.name,
            other.name,
            i.vrid,
            i.place_to_speak(),
            other.place
        );
        report.error(Code::SameRouter, &place, text);
    }
    if i.peers.is_empty() && i.unicast_src.is_some() {
        let text = format!("'{}' has a unicast source but no unicast peers: multicast is used", i.name);
        report.warning(Code::Advice, &place, text);
    }
}

/// Weights that leave the order of the priorities as it is.
fn weights(m: &Model, i: &VrrpInstance, report: &mut Report) {
    let place = place_of(&i.place);
    let all = i.tracks.iter().filter(|t| t.kind != Tracked::File).map(|t| {
        let own = match t.kind {
            Tracked::Script => m.vrrp.scripts.iter().find(|s| s.name == t.name).map_or(0, |s| s.weight),
            Tracked::Bfd => m.vrrp.bfds.iter().find(|b| b.name == t.name).map_or(0, |b| b.weight),
            Tracked::Process => m.vrrp.processes.iter().find(|p| p.name == t.name).map_or(0, |p| p.weight),
            Tracked::Backend | Tracked::Frontend | Tracked::Load => INSIDE_WEIGHT,
            Tracked::Interface | Tracked::File => 0,
        };
        (t.kind.name(), &t.name, t.weight.unwrap_or(own))
    });
    for (kind, name, weight) in all.filter(|t| t.2 != 0) {
        let base = i32::from(i.priority);
        let why = if base == 255 {
            "priority 255 is the owner's and does not move".to_owned()
        } else if (base + weight).clamp(1, 254) == base {
            format!("priority {base} cannot go further: it ends at {}", if weight > 0 { 254 } else { 1 })
        } else if !i.preempt {
            "with 'nopreempt' nobody takes over because of a priority; leave the weight out, so that a failure makes the node give way".to_owned()
        } else {
            continue;
        };
        let text = format!("'{}' : weight {weight} of {kind} '{name}' can never change who is master: {why}", i.name);
        report.warning(Code::WeightWithoutEffect, &place, text);
    }
}

/// Virtual addresses on which nothing answers.
fn addresses(m: &Model, i: &VrrpInstance, report: &mut Report) {
    for v in &i.vips {
        let ip = v.addr.addr;
        if !m.proxies.iter().filter(|p| !p.disabled).flat_map(|p| &p.binds).any(|b| hears(&b.addr, ip)) {
            let text = format!(
                "no 'bind' listens on virtual address {ip} of '{}': who holds it would not answer there; add a 'bind', or remove the address",
                i.name
            );
            report.warning(Code::VipUnserved, &place_of(&i.place), text);
        }
    }
}

/// True if a listener gets connections to `ip`.
fn hears(l: &ListenAddr, ip: IpAddr) -> bool {
    match l {
        ListenAddr::Inet { addr, v4v6, .. } => {
            *addr == ip || addr.is_unspecified() && (addr.is_ipv4() == ip.is_ipv4() || *v4v6)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::source::{LoadArgs, Recorded};
    use crate::base::diag::Severity;

    fn codes(haproxy: &str, keepalived: &str) -> Vec<(&'static str, u32)> {
        let mut src = Recorded::default();
        let base = "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n";
        src.files.insert("/h".into(), Ok(format!("{base}{haproxy}").into_bytes()));
        src.files.insert("/k".into(), Ok(keepalived.as_bytes().to_vec()));
        let keepalived = (!keepalived.is_empty()).then(|| "/k".to_owned());
        let args = LoadArgs { haproxy: vec!["/h".into()], keepalived, localpeer: "lb1".into(), ..LoadArgs::default() };
        let (_, r) = load(&mut src, &args);
        let wanted = |d: &&crate::base::diag::Diag| d.severity >= Severity::Warning;
        r.diags.iter().filter(wanted).map(|d| (d.code.id(), d.place.as_ref().map_or(0, |p| p.line))).collect()
    }

    #[test]
    fn a_rule_behind_the_last_word_is_found_in_every_list() {
        let front =
            |l: &str| format!("frontend f\n bind :80\n{l} default_backend b\nbackend b\n server s 10.0.0.1:80\n");
        let at = |l: &str| codes(&front(l), "");
        assert_eq!(at(" http-request deny\n http-request set-header a b\n"), [("T410", 9)]);
        assert_eq!(at(" http-request deny if TRUE\n http-request set-header a b\n"), []);
        assert_eq!(at(" tcp-request connection accept\n tcp-request connection reject\n"), [("T410", 9)]);
        assert_eq!(at(" use_backend b\n use_backend b if TRUE\n"), [("T410", 9)]);
    }

    #[test]
    fn a_backend_that_can_only_refuse_is_found() {
        let with = |l: &str| codes(&format!("frontend f\n bind :80\n default_backend b\nbackend b\n{l}"), "");
        assert_eq!(with(""), [("T409", 9)]);
        assert_eq!(with(" http-request return status 200\n"), []);
        assert_eq!(with(" stats enable\n"), []);
    }

    #[test]
    fn weights_that_cannot_matter_are_found() {
        let router = |priority: u8, more: &str| {
            let k = format!(
                "vrrp_script s {{\n script \"killall -0 haproxy\"\n weight 2\n}}\nvrrp_instance v {{\n interface lo\n virtual_router_id 5\n priority {priority}\n virtual_ipaddress {{\n 10.0.0.9/24\n }}\n track_script {{\n s\n }}\n{more}}}\n"
            );
            let all = codes("frontend f\n bind :80\n http-request return status 200\n", &k);
            all.into_iter().filter(|c| c.0 == "T509").count()
        };
        assert_eq!((router(100, ""), router(254, ""), router(100, " nopreempt\n"), router(255, "")), (0, 1, 1, 1));
    }

    #[test]
    fn an_address_that_nothing_serves_and_a_number_used_twice() {
        let k = "vrrp_instance a {\n interface lo\n virtual_router_id 5\n virtual_ipaddress {\n 10.0.0.9\n }\n}\nvrrp_instance b {\n interface lo\n virtual_router_id 5\n virtual_ipaddress {\n 10.0.0.8\n }\n}\n";
        let found = codes("frontend f\n bind 10.0.0.8:80\n http-request return status 200\n", k);
        assert_eq!(found, [("T501", 1), ("T503", 8)]);
    }
}
