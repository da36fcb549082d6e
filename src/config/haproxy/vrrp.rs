//! `vrrp` and `vrrp-group` sections: keepalived's half of a node in HAProxy's grammar.
use super::Cx;
use crate::base::addr::IpNet;
use crate::base::diag::{Place, suggestion};
use crate::base::units::TimeUnit;
use crate::config::keepalived::build;
use crate::config::model::{ScriptCall, TrackEntry, Vip, VrrpGroup, VrrpInstance, VrrpModel, VrrpVersion};
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

const KEYWORDS: &[&str] = &[
    "interface",
    "vrid",
    "priority",
    "address",
    "advertise",
    "version",
    "auth",
    "peer",
    "source",
    "track",
    "no",
    "preempt",
    "on",
];

pub fn line(cx: &mut Cx<'_>, d: &mut Draft, w: &[String]) {
    let i = &mut d.inst;
    match w[0].as_str() {
        "interface" => i.interface = cx.arg(w, 1, "an interface").unwrap_or_default().to_owned(),
        "vrid" => {
            i.vrid = cx.number(w, 1, "a number from 1 to 255").unwrap_or(0);
            if i.vrid == 0 {
                cx.error("'vrid' : a number from 1 to 255 is wanted");
            }
        }
        "priority" => {
            i.priority = cx.number(w, 1, "a number from 1 to 254").unwrap_or(100);
            d.priority_set = true;
        }
        "address" => {
            for word in &w[1..] {
                match IpNet::parse(word) {
                    Some(addr) => d.vips.push(Vip {
                        addr,
                        dev: None,
                        label: None,
                        broadcast: None,
                        scope: 0,
                        no_prefix_route: false,
                    }),
                    None => {
                        cx.error(format!("'address' : '{word}' is not an IP address with an optional prefix length"))
                    }
                }
            }
        }
        "advertise" => {
            if let Some(t) = cx.time(w, 1, TimeUnit::Millis) {
                if t < Duration::from_millis(10) || t > Duration::from_millis(40_950) {
                    cx.error("'advertise' : VRRPv3 carries intervals from 10ms to 40950ms");
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
        "auth" => i.auth_pass = cx.arg(w, 1, "a password of at most 8 characters").map(build::auth_bytes),
        "peer" => {
            for word in &w[1..] {
                match word.parse().ok().or_else(|| cx.resolve(word)) {
                    Some(ip) => i.unicast_peers.push(ip),
                    None => cx.error(format!("'peer' : could not resolve '{word}'")),
                }
            }
        }
        "source" => match cx.arg(w, 1, "an address").map(str::parse) {
            Some(Ok(ip)) => i.unicast_src = Some(ip),
            _ => cx.error("'source' expects an IP address"),
        },
        "preempt" => match w.get(1).map(String::as_str) {
            None => i.preempt = true,
            Some("delay") => i.preempt_delay = cx.time(w, 2, TimeUnit::Secs).unwrap_or_default(),
            Some(o) => cx.error(format!("'preempt' takes 'delay <time>', not '{o}'")),
        },
        "no-preempt" => i.preempt = false,
        "track" => match w.get(1).map(String::as_str) {
            Some("interface") => {
                let Some(name) = cx.arg(w, 2, "an interface") else { return };
                let weight = (w.get(3).map(String::as_str) == Some("weight"))
                    .then(|| cx.number(w, 4, "a number from -253 to 253"))
                    .flatten();
                i.track_interfaces.push(TrackEntry { name: name.to_owned(), weight, reverse: false });
            }
            Some("proxy") => {}
            Some("backend") => cx.not_yet("'track backend'"),
            o => cx.error(format!("'track' expects 'interface' or 'backend', but got '{}'", o.unwrap_or_default())),
        },
        "on" => {
            let (Some(what), Some("exec"), Some(cmd)) = (w.get(1), w.get(2).map(String::as_str), w.get(3)) else {
                return cx.error("'on' expects <state> exec <command>");
            };
            let command = std::iter::once(cmd).chain(&w[4..]).cloned().collect::<Vec<_>>().join(" ");
            let cmd = Some(ScriptCall { command, user: None });
            match what.as_str() {
                "master" => i.notify.master = cmd,
                "backup" => i.notify.backup = cmd,
                "fault" => i.notify.fault = cmd,
                "stop" => i.notify.stop = cmd,
                "change" => i.notify.any = cmd,
                o => cx.error(format!("'on' knows master, backup, fault, stop and change, not '{o}'")),
            }
        }
        o => cx.error(format!("unknown keyword '{o}' in 'vrrp' section{}", suggestion(o, KEYWORDS.iter().copied()))),
    }
}

pub fn finish(cx: &mut Cx<'_>, d: Draft, model: &mut VrrpModel) {
    let place = &d.place;
    let mut bad = |m: String| cx.report.error(place, m);
    let name = &d.inst.name;
    if d.inst.interface.is_empty() {
        bad(format!("vrrp '{name}' has no 'interface'"));
    }
    if d.inst.vrid == 0 {
        bad(format!("vrrp '{name}' has no 'vrid'; both nodes need the same number from 1 to 255"));
    }
    if d.vips.is_empty() {
        bad(format!("vrrp '{name}' has no 'address'"));
    }
    if !d.priority_set {
        bad(format!("vrrp '{name}' has no 'priority'; give each node its own, from 1 to 254"));
    }
    if d.inst.version == VrrpVersion::V2 && d.inst.advert_int.subsec_nanos() != 0 {
        bad(format!("vrrp '{name}' : VRRPv2 has whole seconds only; write 'advertise 1s' or use version 3"));
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
    match w[0].as_str() {
        "member" => g.members.extend(w[1..].iter().cloned()),
        o => cx.error(format!("unknown keyword '{o}' in 'vrrp-group' section{}", suggestion(o, ["member"]))),
    }
}
