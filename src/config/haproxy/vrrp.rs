//! `vrrp` and `vrrp-group` sections: keepalived's half of a node in HAProxy's grammar.
use super::Cx;
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::{Place, suggestion};
use crate::base::units::TimeUnit;
use crate::config::keepalived::build;
use crate::config::model::{
    Garp, Notify, ScriptCall, TrackEntry, Vip, VrrpGroup, VrrpInstance, VrrpModel, VrrpScript, VrrpVersion,
};
use std::time::Duration;

/// A section being read; `finish` splits it by address family.
pub struct Draft {
    inst: VrrpInstance,
    priority_set: bool,
    vips: Vec<Vip>,
    place: Place,
}

/// Default interval of adverts in this dialect: VRRPv3 at 100 ms.
const DEFAULT_ADVERTISE: Duration = Duration::from_millis(100);

impl Draft {
    pub fn new(name: &str, place: &Place) -> Self {
        let mut inst = build::blank_instance(name, place);
        (inst.version, inst.advert_int) = (VrrpVersion::V3, DEFAULT_ADVERTISE);
        Self { inst, priority_set: false, vips: Vec::new(), place: place.clone() }
    }
}

/// A keyword, and how many words its line has at most.
type Row = (&'static str, usize);
/// The words that follow are looked at one by one.
const OPEN: usize = usize::MAX;

const KEYWORDS: &[Row] = &[
    ("interface", 2),
    ("vrid", 2),
    ("priority", 2),
    ("state", 2),
    ("address", OPEN),
    ("advertise", 2),
    ("version", 2),
    ("auth", 2),
    ("peer", OPEN),
    ("source", 2),
    ("multicast-source", 2),
    ("track", OPEN),
    ("preempt", 3),
    ("no-preempt", 1),
    ("on", OPEN),
    ("announce", OPEN),
    ("check-source", 1),
    ("no-address-check", 1),
    ("checksum", 2),
];

const GROUP_KEYWORDS: &[Row] = &[("member", OPEN), ("track", OPEN), ("on", OPEN)];

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

const GLOBAL_KEYWORDS: &[Row] =
    &[("vrrp-router-id", 2), ("vrrp-dynamic-interfaces", 1), ("vrrp-script-security", 1), ("vrrp-script-user", 3)];

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
    let i = &mut d.inst;
    match w[0].as_str() {
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
        "address" => address(cx, d, w),
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
        "version" => match cx.arg(w, 1, "2 or 3") {
            Some("2") => i.version = VrrpVersion::V2,
            Some("3") => i.version = VrrpVersion::V3,
            _ => cx.error("'version' expects 2 or 3"),
        },
        "auth" => {
            let Some(pass) = cx.arg(w, 1, "a password of at most 8 characters") else { return };
            i.auth_pass = Some(build::auth_bytes(pass));
            if pass.len() > 8 {
                cx.warn_of(Code::AuthPass, "'auth' : only the first 8 characters of the password are used");
            }
        }
        "peer" => {
            for word in &w[1..] {
                match word.parse().ok().or_else(|| cx.resolve(word)) {
                    Some(ip) => i.unicast_peers.push(ip),
                    None => cx.error_of(Code::Unresolved, format!("'peer' : could not resolve '{word}'")),
                }
            }
        }
        "source" | "multicast-source" => match cx.arg(w, 1, "an address").map(str::parse) {
            Some(Ok(ip)) if w[0] == "source" => i.unicast_src = Some(ip),
            Some(Ok(ip)) => i.mcast_src = Some(ip),
            _ => cx.error(format!("'{}' expects an IP address", w[0])),
        },
        "check-source" => i.check_unicast_src = true,
        "no-address-check" => i.skip_addr_check = true,
        "checksum" => match cx.arg(w, 1, "'v2'") {
            Some("v2") => i.checksum_v2 = true,
            _ => cx.error("'checksum' expects 'v2'"),
        },
        "preempt" => match w.get(1).map(String::as_str) {
            None => i.preempt = true,
            Some("delay") => i.preempt_delay = cx.time(w, 2, TimeUnit::Secs).unwrap_or_default(),
            Some(o) => cx.error(format!("'preempt' takes 'delay <time>', not '{o}'")),
        },
        "no-preempt" => i.preempt = false,
        "track" => track(cx, &mut i.track_interfaces, &mut i.track_scripts, w),
        "on" => on(cx, &mut i.notify, w),
        "announce" => announce(cx, &mut i.garp, w),
        // Those without a handler of their own are not in the table.
        _ => {}
    }
}

/// `address <ip>[/<prefix>] [dev <if>] [label <l>] [brd <ip>] [scope <s>] [noprefixroute] [unannounced] ...`; words behind an address are about it.
fn address(cx: &mut Cx<'_>, d: &mut Draft, w: &[String]) {
    let mut last: Option<Vip> = None;
    let mut hidden = false;
    let mut keep = |v: Option<Vip>, hidden: bool| {
        if let Some(v) = v {
            if hidden { d.inst.excluded.push(v) } else { d.vips.push(v) }
        }
    };
    let mut i = 1;
    while let Some(word) = w.get(i) {
        i += 1;
        if let Some(addr) = IpNet::parse(word) {
            keep(last.take(), std::mem::take(&mut hidden));
            last = Some(Vip { addr, dev: None, label: None, broadcast: None, scope: 0, no_prefix_route: false });
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
            "dev" | "label" | "brd" | "scope" => {}
            o => {
                let known = ["dev", "label", "brd", "scope", "noprefixroute", "unannounced"];
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
            "label" if value.len() < 16 => v.label = Some(value.to_owned()),
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

/// `track interface|script <name> [weight <n>] [reverse]`, `track proxy`
fn track(cx: &mut Cx<'_>, interfaces: &mut Vec<TrackEntry>, scripts: &mut Vec<TrackEntry>, w: &[String]) {
    let to = match w.get(1).map(String::as_str) {
        Some("interface") => interfaces,
        Some("script") => scripts,
        // Always on.
        Some("proxy") => return,
        Some("backend") => return cx.not_yet("'track backend'"),
        o => {
            return cx.error(format!(
                "'track' expects 'interface', 'script' or 'backend', but got '{}'",
                o.unwrap_or_default()
            ));
        }
    };
    let Some(name) = cx.arg(w, 2, "a name") else { return };
    let mut t = TrackEntry { name: name.to_owned(), weight: None, reverse: false };
    let mut i = 3;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "weight" => {
                t.weight = cx.number(w, i + 1, "a number from -253 to 253");
                if t.weight.is_some_and(|n| !(-253..=253).contains(&n)) {
                    cx.error_of(Code::Number, "'track' : a weight from -253 to 253 is wanted");
                }
                i += 1;
            }
            "reverse" => t.reverse = true,
            o => return cx.error(format!("'track' takes 'weight <n>' and 'reverse', not '{o}'")),
        }
        i += 1;
    }
    to.push(t);
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
        o => {
            return cx
                .error_of(Code::UnknownWord, format!("'on' knows master, backup, fault, stop and change, not '{o}'"));
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
            o => {
                let known = ["repeat", "delay", "refresh", "refresh-repeat", "lower-repeat", "lower-delay"];
                return cx.error(format!("'announce' does not know '{o}'{}", suggestion(o, known)));
            }
        }
        i += 2;
    }
}

pub fn finish(cx: &mut Cx<'_>, d: Draft, model: &mut VrrpModel) {
    let place = &d.place;
    let mut bad = |m: String| cx.report.error(Code::RouterIncomplete, place, m);
    let name = &d.inst.name;
    if d.inst.interface.is_empty() {
        bad(format!("vrrp '{name}' has no 'interface'"));
    }
    if d.inst.vrid == 0 {
        bad(format!("vrrp '{name}' has no 'vrid'; both nodes need the same number from 1 to 255"));
    }
    if !d.priority_set {
        bad(format!("vrrp '{name}' has no 'priority'; give each node its own, from 1 to 254"));
    }
    if d.inst.version == VrrpVersion::V2 && d.inst.advert_int.subsec_nanos() != 0 {
        bad(format!("vrrp '{name}' : VRRPv2 has whole seconds only; write 'advertise 1s' or use version 3"));
    }
    if d.inst.version == VrrpVersion::V3 && d.inst.advert_int > Duration::from_millis(40_950) {
        bad(format!("vrrp '{name}' : VRRPv3 carries at most 40950ms; write a shorter 'advertise' or use version 2"));
    }
    if d.vips.is_empty() {
        let why = if d.inst.excluded.is_empty() { "it has no 'address'" } else { "all are 'unannounced'" };
        cx.warn_of(Code::RouterIncomplete, format!("vrrp '{name}' advertises no address: {why}"));
        return model.instances.push(d.inst);
    }
    let (six, four): (Vec<Vip>, Vec<Vip>) = d.vips.into_iter().partition(|v| v.addr.addr.is_ipv6());
    let mixed = !six.is_empty() && !four.is_empty();
    for (vips, is_six) in [(four, false), (six, true)] {
        if vips.is_empty() {
            continue;
        }
        let mut inst = d.inst.clone();
        inst.vips = vips;
        inst.unicast_peers.retain(|p| p.is_ipv6() == is_six);
        inst.unicast_src = inst.unicast_src.filter(|a| a.is_ipv6() == is_six);
        if is_six {
            inst.version = VrrpVersion::V3;
            inst.auth_pass = None;
            if mixed {
                // What is not announced moves with the first of the two.
                inst.excluded.clear();
                inst.twin_of = Some(d.inst.name.clone());
                inst.name = format!("{}.6", d.inst.name);
            }
        }
        model.instances.push(inst);
    }
}

pub fn new_group(name: &str) -> VrrpGroup {
    VrrpGroup {
        name: name.to_owned(),
        members: Vec::new(),
        notify: Default::default(),
        track_interfaces: Vec::new(),
        track_scripts: Vec::new(),
    }
}

pub fn group_line(cx: &mut Cx<'_>, g: &mut VrrpGroup, w: &[String]) {
    if !known(cx, GROUP_KEYWORDS, "vrrp-group", w) {
        return;
    }
    match w[0].as_str() {
        "member" => g.members.extend(w[1..].iter().cloned()),
        "track" => track(cx, &mut g.track_interfaces, &mut g.track_scripts, w),
        "on" => on(cx, &mut g.notify, w),
        _ => {}
    }
}

pub fn new_script(name: &str, place: &Place) -> VrrpScript {
    build::blank_script(name, place)
}

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

/// `vrrp-*` in `global`: what `global_defs` says in the other language.
pub fn global_line(cx: &mut Cx<'_>, m: &mut VrrpModel, w: &[String]) -> bool {
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
        _ => {}
    }
    true
}
