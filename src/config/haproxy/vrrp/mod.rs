//! `vrrp` and `vrrp-group` sections: keepalived's half of a node in HAProxy's grammar.
mod carp;
mod finish;
pub mod global;
mod hmac;
pub mod tracked;

pub use finish::finish;

use super::Cx;
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::{Place, suggestion};
use crate::base::units::TimeUnit;
use crate::config::keepalived::build::{self, Names, Wrong, number_in};
use crate::config::model::{
    Auth, Garp, IPVLAN_MODES, Inside, Ipvlan, IpvlanMode, MinUp, Notify, OldChecksum, OwnMac, Peer, ScriptCall,
    TrackEntry, Tracked, Vip, Vmac, VrrpGroup, VrrpInstance, VrrpVersion, is_interface, mac_of,
};
use std::time::Duration;

/// A section being read; `finish` splits it by address family.
pub struct Draft {
    inst: VrrpInstance,
    priority_set: bool,
    vips: Vec<Vip>,
    carp: carp::Words,
    /// The words of its lines.
    said: Vec<String>,
    place: Place,
}

/// Default interval of adverts in this dialect: VRRPv3 at 100 ms.
const DEFAULT_ADVERTISE: Duration = Duration::from_millis(100);

impl Draft {
    pub fn new(name: &str, place: &Place) -> Self {
        let mut inst = build::blank_instance(name, place);
        (inst.version, inst.advert_int) = (VrrpVersion::V3, DEFAULT_ADVERTISE);
        Self {
            inst,
            priority_set: false,
            vips: Vec::new(),
            carp: carp::Words::default(),
            said: Vec::new(),
            place: place.clone(),
        }
    }
}

/// A keyword, and how many words its line has at most.
type Row = (&'static str, usize);
/// The words that follow are looked at one by one.
const OPEN: usize = usize::MAX;

const KEYWORDS: &[Row] = &[
    ("interface", 2),
    ("vrf", 2),
    ("protocol", 2),
    ("advbase", 2),
    ("advskew", 2),
    ("password", 2),
    ("vrid", 2),
    ("priority", 2),
    ("state", 2),
    ("address", OPEN),
    ("route", OPEN),
    ("virtual-mac", OPEN),
    ("ipvlan", OPEN),
    ("rule", OPEN),
    ("advertise", 2),
    ("version", 2),
    ("auth", 2),
    ("auth-header", 2),
    ("hmac-key", 3),
    ("hmac", OPEN),
    ("peer", OPEN),
    ("peer-ttl", 2),
    ("source", 2),
    ("multicast-source", 2),
    ("multicast-group", 2),
    ("strict", 1),
    ("down-after", 2),
    ("quiet-to-lower", 1),
    ("answer-higher", 1),
    ("ignore-adverts-as-owner", 1),
    ("late-is-backup", 2),
    ("ignore-link", 1),
    ("track-source", 1),
    ("promote-secondaries", 1),
    ("track", OPEN),
    ("preempt", 3),
    ("no-preempt", 1),
    ("on", OPEN),
    ("mail-alert", 1),
    ("announce", OPEN),
    ("check-source", 1),
    ("no-address-check", 1),
    ("checksum", 2),
    ("unicast-only", 1),
];

const GROUP_KEYWORDS: &[Row] =
    &[("member", OPEN), ("track", OPEN), ("on", OPEN), ("mail-alert", 1), ("own-weights", 1)];

/// Whether there is such a word; what is too much behind it is an error.
fn known(cx: &mut Cx<'_>, rows: &[Row], section: &str, w: &[String]) -> bool {
    match rows.iter().find(|r| r.0 == w[0]) {
        Some(r) => {
            cx.at_most(w, r.1);
            true
        }
        None => {
            let near = suggestion(&w[0], rows.iter().map(|r| r.0));
            cx.error_of(Code::UnknownWord, format!("unknown keyword '{}' in '{section}' section{near}", w[0]));
            false
        }
    }
}

pub fn line(cx: &mut Cx<'_>, d: &mut Draft, w: &[String]) {
    if !known(cx, KEYWORDS, "vrrp", w) {
        return;
    }
    d.said.push(w[0].clone());
    if d.carp.line(cx, w) {
        return;
    }
    let i = &mut d.inst;
    match w[0].as_str() {
        "vrf" => (i.interface, i.vrf) = (cx.arg(w, 1, "a VRF's name").unwrap_or_default().to_owned(), true),
        "interface" => i.interface = cx.arg(w, 1, "an interface").unwrap_or_default().to_owned(),
        "vrid" => {
            i.vrid = cx.number(w, 1, "a number from 1 to 255").unwrap_or(0);
            if i.vrid == 0 {
                cx.error_of(Code::Number, "'vrid' : a number from 1 to 255 is wanted");
            }
        }
        "priority" => {
            i.priority = cx.number(w, 1, "a number from 1 to 255").unwrap_or(100);
            d.priority_set = true;
            if i.priority == 0 {
                cx.error_of(Code::Number, "'priority' : a number from 1 to 255 is wanted");
            }
        }
        "state" => match cx.arg(w, 1, "'master' or 'backup'") {
            Some("master") => i.initial_master = true,
            Some("backup") => i.initial_master = false,
            Some(o) => cx.error(format!("'state' expects 'master' or 'backup', but got '{o}'")),
            None => {}
        },
        "address" => address(cx, &mut d.vips, &mut i.excluded, w),
        "virtual-mac" => {
            // Names and numbers are those of the whole section.
            let mut v = Vmac { name: String::new(), mac: [0; 6], ipvlan: None, group: None, from_base: false };
            let mut words = w[1..].iter();
            while let Some(word) = words.next() {
                match (word.as_str(), words.clone().next().map(String::as_str)) {
                    ("from-interface", _) => {
                        v.from_base = true;
                        continue;
                    }
                    ("name", Some(n)) if is_interface(n) => v.name = n.to_owned(),
                    ("address", Some(a)) if mac_of(a, 0).is_some_and(|m| m != [0; 6]) && a.split(':').count() == 6 => {
                        v.mac = mac_of(a, 0).unwrap_or_default();
                    }
                    ("group", Some(g)) if g.parse::<u32>().is_ok() => v.group = g.parse().ok(),
                    (o, _) => {
                        cx.error(format!("'virtual-mac' : '{o}' : name <up to 15 characters>, address <mac>, group <number> and from-interface are known"));
                        return;
                    }
                }
                words.next();
            }
            i.vmac = Some(v);
        }
        "ipvlan" => {
            let mut v = Vmac { name: String::new(), mac: [0; 6], ipvlan: None, group: None, from_base: false };
            let mut own = Ipvlan { mode: IpvlanMode::Bridge, addr: None };
            for pair in w[1..].chunks(2) {
                let value = pair.get(1).map(String::as_str).unwrap_or_default();
                let mode = IPVLAN_MODES.iter().find(|m| m.0 == value).map(|m| m.1);
                match (pair[0].as_str(), IpNet::parse(value), mode) {
                    ("name", ..) if is_interface(value) => v.name = value.to_owned(),
                    ("address", Some(a), _) => own.addr = Some(a),
                    ("mode", _, Some(m)) => own.mode = m,
                    ("group", ..) if value.parse::<u32>().is_ok() => v.group = value.parse().ok(),
                    (o, ..) => {
                        cx.error(format!("'ipvlan' : '{o}' : name <up to 15 characters>, address <ip>[/<length>], mode bridge|private|vepa and group <number> are known"));
                        return;
                    }
                }
            }
            v.ipvlan = Some(own);
            i.vmac = Some(v);
        }
        "route" => i.routes.extend(route(cx, w)),
        "rule" => i.rules.extend(rule(cx, w)),
        "advertise" => {
            if let Some(t) = cx.time(w, 1, TimeUnit::Millis) {
                if t < Duration::from_millis(10) || t > Duration::from_millis(255_000) {
                    cx.error_of(
                        Code::AdvertInterval,
                        "'advertise' : VRRPv3 carries intervals from 10ms to 40950ms, VRRPv2 whole seconds up to 255",
                    );
                } else {
                    i.advert_int = t;
                }
            }
        }
        "version" => match cx.arg(w, 1, "2, 3 or 'both'") {
            Some("2") => (i.version, i.also_v2) = (VrrpVersion::V2, false),
            Some("3") => (i.version, i.also_v2) = (VrrpVersion::V3, false),
            Some("both") => (i.version, i.also_v2) = (VrrpVersion::V3, true),
            _ => cx.error("'version' expects 2, 3 or 'both'"),
        },
        "auth" | "auth-header" => {
            let Some(pass) = cx.arg(w, 1, "a password of at most 8 characters") else { return };
            i.auth = if w[0] == "auth" {
                Auth::Pass(build::auth_bytes(pass))
            } else {
                Auth::Header(build::auth_bytes(pass))
            };
            if pass.len() > 8 {
                cx.warn_of(
                    Code::AuthPass,
                    format!("'{}' : only the first 8 characters of the password are used", w[0]),
                );
            }
        }
        "hmac-key" => hmac::key(cx, i, w),
        "hmac" => hmac::line(cx, i, w),
        "peer" => {
            peers(cx, &mut i.peers, w);
            i.check_unicast_src |= i.peers.iter().any(Peer::is_bound);
        }
        "source" | "multicast-source" => match cx.arg(w, 1, "an address").map(str::parse) {
            Some(Ok(ip)) if w[0] == "source" => i.unicast_src = Some(ip),
            Some(Ok(ip)) => i.mcast_src = Some(ip),
            _ => cx.error(format!("'{}' expects an IP address", w[0])),
        },
        "check-source" => i.check_unicast_src = true,
        "no-address-check" => i.skip_addr_check = true,
        "checksum" => match cx.arg(w, 1, "v2, old-unicast or new-unicast") {
            Some("v2") => i.checksum_v2 = true,
            Some("old-unicast") => i.old_checksum = OldChecksum::Always,
            Some("new-unicast") => i.old_checksum = OldChecksum::Never,
            _ => cx.error("'checksum' knows v2, old-unicast and new-unicast"),
        },
        "unicast-only" => i.lacks_peer = true,
        "preempt" => match w.get(1).map(String::as_str) {
            None => i.preempt = true,
            Some("delay") => i.preempt_delay = cx.time(w, 2, TimeUnit::Secs).unwrap_or_default(),
            Some(o) => cx.error(format!("'preempt' takes 'delay <time>', not '{o}'")),
        },
        "no-preempt" => i.preempt = false,
        "peer-ttl" => i.unicast_ttl = cx.number(w, 1, "a number from 0 to 255"),
        "multicast-group" => match cx.arg(w, 1, "a multicast address").map(str::parse::<std::net::IpAddr>) {
            Some(Ok(ip)) if ip.is_multicast() => i.mcast_dst = Some(ip),
            _ => cx.error("'multicast-group' expects a multicast address"),
        },
        "strict" => (i.strict, i.owner_deaf) = (true, true),
        "down-after" => {
            i.down_adverts = cx.number(w, 1, "a number from 1 to 100").unwrap_or(3);
            if !(1..=100).contains(&i.down_adverts) {
                cx.error_of(Code::Number, "'down-after' : a number of adverts from 1 to 100 is wanted");
            }
        }
        "quiet-to-lower" => i.quiet_to_lower = true,
        "answer-higher" => i.answers_higher = true,
        "ignore-adverts-as-owner" => i.owner_deaf = true,
        "late-is-backup" => {
            i.late_backup = if w.len() > 1 { cx.number(w, 1, "a number from 1 to 254") } else { Some(254) };
            if i.late_backup.is_some_and(|p| !(1..=254).contains(&p)) {
                cx.error_of(Code::Number, "'late-is-backup' : a priority from 1 to 254 is wanted");
            }
        }
        "ignore-link" => i.ignores_link = true,
        "track-source" => i.tracks_source = true,
        "promote-secondaries" => i.promote_secondaries = true,
        "track" => track(cx, &mut i.tracks, w),
        "on" => on(cx, &mut i.notify, w),
        "mail-alert" => i.notify.mail = true,
        "announce" => announce(cx, &mut i.garp, w),
        // Those without a handler of their own are not in the table.
        _ => {}
    }
}

/// `address <ip>[/<prefix>] [dev <if>] [label <l>] [brd <ip>] [scope <s>] [noprefixroute] [unannounced] ...`; words behind an address are about it.
fn address(cx: &mut Cx<'_>, shown: &mut Vec<Vip>, unannounced: &mut Vec<Vip>, w: &[String]) {
    let mut last: Option<Vip> = None;
    let mut hidden = false;
    let mut keep = |v: Option<Vip>, hidden: bool| {
        if let Some(v) = v {
            if hidden { unannounced.push(v) } else { shown.push(v) }
        }
    };
    let mut i = 1;
    while let Some(word) = w.get(i) {
        i += 1;
        if let Some(addr) = IpNet::parse(word) {
            keep(last.take(), std::mem::take(&mut hidden));
            last = Some(Vip::plain(addr));
            continue;
        }
        let Some(v) = last.as_mut() else {
            return cx.error(format!("'address' : '{word}' is not an IP address with an optional prefix length"));
        };
        match word.as_str() {
            "noprefixroute" => {
                v.no_prefix_route = true;
                continue;
            }
            "unannounced" => {
                hidden = true;
                continue;
            }
            "home" | "mngtmpaddr" | "autojoin" | "no-track" => {
                match word.as_str() {
                    "home" => v.home = true,
                    "mngtmpaddr" => v.temporary = true,
                    "autojoin" => v.autojoin = true,
                    _ => v.untracked = true,
                }
                continue;
            }
            "virtual-mac" => {
                v.own_mac = Some(OwnMac { base: String::new(), mac: [0; 6] });
                continue;
            }
            "dev" | "label" | "brd" | "scope" | "preferred" | "track-group" | "peer" => {}
            o => {
                let known = [
                    "dev",
                    "label",
                    "brd",
                    "scope",
                    "noprefixroute",
                    "unannounced",
                    "home",
                    "mngtmpaddr",
                    "autojoin",
                    "no-track",
                    "preferred",
                    "track-group",
                    "peer",
                    "virtual-mac",
                ];
                return cx.error(format!(
                    "'address' : '{o}' is neither an IP address with an optional prefix length nor a word behind one{}",
                    suggestion(o, known)
                ));
            }
        }
        let Some(value) = cx.arg(w, i, "a value") else { return };
        i += 1;
        match word.as_str() {
            "dev" => v.dev = Some(value.to_owned()),
            "peer" => match value.parse::<std::net::IpAddr>() {
                Ok(p) if p.is_ipv4() == v.addr.addr.is_ipv4() => {
                    v.peer = Some(p);
                    // The prefix length is the other end's.
                    v.addr.prefix = if p.is_ipv4() { 32 } else { 128 };
                }
                _ => return cx.error(format!("'address' : 'peer {value}' is no IP address of the address's family")),
            },
            "track-group" => v.group = Some(value.to_owned()),
            "label" if value.len() < 16 => v.label = Some(value.to_owned()),
            "preferred" if value == "forever" => v.preferred = Some(u32::MAX),
            "preferred" => match value.parse() {
                Ok(secs) => v.preferred = Some(secs),
                Err(_) => {
                    return cx.error(format!(
                        "'address' : 'preferred {value}' is neither a number of seconds nor 'forever'"
                    ));
                }
            },
            "label" => return cx.error(format!("'address' : 'label {value}' : at most 15 characters fit")),
            "brd" => match value.parse() {
                Ok(b) => v.broadcast = Some(b),
                Err(_) => return cx.error(format!("'address' : 'brd {value}' is not an IPv4 address")),
            },
            _ => match build::scope(value) {
                Some(s) => v.scope = s,
                None => {
                    return cx
                        .error(format!("'address' : 'scope {value}' is not known; use global, site, link or host"));
                }
            },
        }
    }
    if last.is_none() && w.len() < 2 {
        cx.arg(w, 1, "an IP address with an optional prefix length");
    }
    keep(last, hidden);
}

/// `peer <ip> [min-ttl <n>] [max-ttl <n>] ...`; words behind a peer are about it.
fn peers(cx: &mut Cx<'_>, to: &mut Vec<Peer>, w: &[String]) {
    let first = to.len();
    let mut i = 1;
    while let Some(word) = w.get(i) {
        i += 1;
        match (word.as_str(), to.len() > first) {
            ("min-ttl" | "max-ttl", true) => {
                let ttl = cx.number(w, i, "a number from 0 to 255");
                i += 1;
                if let (Some(ttl), Some(p)) = (ttl, to.last_mut()) {
                    *(if word == "min-ttl" { &mut p.min_ttl } else { &mut p.max_ttl }) = ttl;
                    if p.min_ttl > p.max_ttl {
                        cx.error_of(Code::Number, "'peer' : 'min-ttl' is more than 'max-ttl'");
                    }
                }
            }
            _ => match word.parse().ok().or_else(|| cx.resolve(word)) {
                Some(ip) => to.push(Peer::any_ttl(ip)),
                None => cx.error_of(Code::Unresolved, format!("'peer' : could not resolve '{word}'")),
            },
        }
    }
}

/// Kinds of tracked things, and how large a weight may be.
const TRACKED: &[(Tracked, i32)] = &[
    (Tracked::Interface, 253),
    (Tracked::Script, 253),
    (Tracked::File, 254),
    (Tracked::Process, 254),
    (Tracked::Bfd, 253),
    (Tracked::Backend, 253),
    (Tracked::Frontend, 253),
    (Tracked::Load, 253),
];

/// `track interface|script|file|process <name> [weight <n>] [reverse|no-reverse]`, `track proxy`
fn track(cx: &mut Cx<'_>, to: &mut Vec<TrackEntry>, w: &[String]) {
    let (kind, most) = match w.get(1).map(String::as_str) {
        // Always on.
        Some("proxy") => return,
        o => match TRACKED.iter().find(|t| Some(t.0.name()) == o) {
            Some(found) => *found,
            None => {
                let known: Vec<&str> = TRACKED.iter().map(|t| t.0.name()).collect();
                return cx.error(format!(
                    "'track' expects one of {}, but got '{}'",
                    known.join(", "),
                    o.unwrap_or_default()
                ));
            }
        },
    };
    let named = kind != Tracked::Load;
    let name = if named { cx.arg(w, 2, "a name") } else { Some("") };
    let Some(name) = name else { return };
    let mut inside = Inside::default();
    let mut t = TrackEntry { kind, name: name.to_owned(), weight: None, reverse: None, inside: None };
    let mut i = if named { 3 } else { 2 };
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "min-up" if kind == Tracked::Backend => {
                match min_up(w.get(i + 1)) {
                    Some(m) => inside.min_up = m,
                    None => cx.error_of(
                        Code::Number,
                        "'track' : 'min-up' expects a number of servers, or a percentage from 1% to 100%",
                    ),
                }
                i += 1;
            }
            "rise" if kind.is_inside() => {
                inside.rise = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or_default();
                i += 1;
            }
            "fall" if kind.is_inside() => {
                inside.fall = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or_default();
                i += 1;
            }
            "weight" => {
                t.weight = cx.number(w, i + 1, "a number");
                if t.weight.is_some_and(|n| !(-most..=most).contains(&n)) {
                    cx.error_of(Code::Number, format!("'track' : a weight from -{most} to {most} is wanted"));
                }
                i += 1;
            }
            "reverse" => t.reverse = Some(true),
            "no-reverse" => t.reverse = Some(false),
            o => return cx.error(format!("'track' takes 'weight <n>', 'reverse' and 'no-reverse', not '{o}'")),
        }
        i += 1;
    }
    if kind.is_inside() {
        t.inside = Some(inside);
        if t.weight == Some(0) {
            cx.error_of(Code::Number, "'track' : what the proxy sees needs a weight other than 0: no servers here is no reason to give an address to nobody");
        }
    }
    to.push(t);
}

/// `<n>` or `<n>%`
fn min_up(word: Option<&String>) -> Option<MinUp> {
    let word = word?;
    match word.strip_suffix('%') {
        Some(p) => p.parse().ok().filter(|p| (1..=100).contains(p)).map(MinUp::Percent),
        None => word.parse().ok().filter(|n| *n > 0).map(MinUp::Count),
    }
}

/// `on <state> [user <name> [group <name>]] exec <command>`
fn on(cx: &mut Cx<'_>, n: &mut Notify, w: &[String]) {
    let Some(what) = cx.arg(w, 1, "a state, then 'exec <command>'") else { return };
    let slot = match what {
        "master" => &mut n.master,
        "backup" => &mut n.backup,
        "fault" => &mut n.fault,
        "stop" => &mut n.stop,
        "change" => &mut n.any,
        "lower-advert" => &mut n.lower,
        "deleted" => {
            n.says_deleted = true;
            // A script is not needed.
            if w.len() == 2 {
                return;
            }
            &mut n.deleted
        }
        "priority" if w.len() == 2 => return n.priority_changes = true,
        o => {
            return cx.error_of(
                Code::UnknownWord,
                format!(
                    "'on' knows master, backup, fault, stop, change, deleted, priority and lower-advert, not '{o}'"
                ),
            );
        }
    };
    let mut at = 2;
    let Some(user) = account(cx, w, &mut at) else { return };
    match (w.get(at).map(String::as_str), w.get(at + 1)) {
        (Some("exec"), Some(_)) => *slot = Some(ScriptCall { command: w[at + 1..].join(" "), user }),
        _ => cx.error(format!("'on {what}' expects [user <name> [group <name>]] exec <command>")),
    }
}

/// `[user <name> [group <name>]]` at `at`, which is moved behind it. `None`: something was wrong, and is said.
#[expect(clippy::option_option, reason = "an account may be missing, or be wrong")]
fn account(cx: &mut Cx<'_>, w: &[String], at: &mut usize) -> Option<Option<(String, Option<String>)>> {
    if w.get(*at).is_none_or(|x| x != "user") {
        return Some(None);
    }
    let user = cx.arg(w, *at + 1, "a user")?.to_owned();
    *at += 2;
    let mut group = None;
    if w.get(*at).is_some_and(|x| x == "group") {
        group = Some(cx.arg(w, *at + 1, "a group")?.to_owned());
        *at += 2;
    }
    Some(Some((user, group)))
}

/// `announce [repeat <n>] [delay <t>] [refresh <t>] [refresh-repeat <n>] [lower-repeat <n>] [lower-delay <t>]`: gratuitous ARP and unsolicited NA.
fn announce(cx: &mut Cx<'_>, g: &mut Garp, w: &[String]) {
    let mut i = 1;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "repeat" => g.repeat = cx.number(w, i + 1, "a number").unwrap_or(g.repeat).max(1),
            "refresh-repeat" => g.refresh_repeat = cx.number(w, i + 1, "a number").unwrap_or(g.refresh_repeat).max(1),
            "lower-repeat" => g.lower_prio_repeat = cx.number(w, i + 1, "a number").unwrap_or(g.lower_prio_repeat),
            "delay" => g.delay = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or(g.delay),
            "refresh" => g.refresh = cx.time(w, i + 1, TimeUnit::Secs).filter(|t| !t.is_zero()),
            "lower-delay" => g.lower_prio_delay = cx.time(w, i + 1, TimeUnit::Secs).unwrap_or(g.lower_prio_delay),
            "elsewhere" | "elsewhere-virtual" => {
                let every = cx.time(w, i + 1, TimeUnit::Secs).filter(|t| !t.is_zero());
                g.extra = every.map(|t| (t, word == "elsewhere"));
            }
            o => {
                let known = [
                    "repeat",
                    "delay",
                    "refresh",
                    "refresh-repeat",
                    "lower-repeat",
                    "lower-delay",
                    "elsewhere",
                    "elsewhere-virtual",
                ];
                return cx.error(format!("'announce' does not know '{o}'{}", suggestion(o, known)));
            }
        }
        i += 2;
    }
}

/// `/etc/iproute2/rt_tables` and its like.
struct Iproute<'a>(&'a mut dyn crate::config::source::Source);

impl Names for Iproute<'_> {
    fn number(&mut self, file: &str, name: &str) -> Option<u32> {
        number_in(&self.0.read(&format!("/etc/iproute2/{file}")).ok()?, name)
    }
}

fn wrong(cx: &mut Cx<'_>, word: &str, e: Wrong) {
    match e {
        Wrong::Bad(text) | Wrong::Missing(text) => cx.error(format!("'{word}' : {text}")),
        Wrong::NotYet(w) => cx.not_yet(&w),
    }
}

/// `route`, `vrrp-static-route`: the words of `ip route`.
fn route(cx: &mut Cx<'_>, w: &[String]) -> Option<crate::config::model::Route> {
    build::route(&w[1..], &mut Iproute(cx.src)).map_err(|e| wrong(cx, &w[0], e)).ok()
}

/// `rule`, `vrrp-static-rule`: the words of `ip rule`, with a preference.
fn rule(cx: &mut Cx<'_>, w: &[String]) -> Option<crate::config::model::RoutingRule> {
    let r = build::rule(&w[1..], 0, &mut Iproute(cx.src)).map_err(|e| wrong(cx, &w[0], e)).ok()?;
    if r.preference == 0 {
        cx.error_of(Code::Missing, format!("'{}' needs its 'preference <n>': rules are asked in that order", w[0]));
    }
    Some(r)
}

pub fn new_group(name: &str) -> VrrpGroup {
    VrrpGroup {
        name: name.to_owned(),
        members: Vec::new(),
        notify: Default::default(),
        tracks: Vec::new(),
        own_weights: false,
    }
}

pub fn group_line(cx: &mut Cx<'_>, g: &mut VrrpGroup, w: &[String]) {
    if !known(cx, GROUP_KEYWORDS, "vrrp-group", w) {
        return;
    }
    match w[0].as_str() {
        "member" => g.members.extend(w[1..].iter().cloned()),
        "track" => track(cx, &mut g.tracks, w),
        "own-weights" => g.own_weights = true,
        "on" => on(cx, &mut g.notify, w),
        "mail-alert" => g.notify.mail = true,
        _ => {}
    }
}
