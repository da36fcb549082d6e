//! From the tree to the VRRP model.
use super::parse::Node;
use super::{Manner, known};
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::{Place, Report, Severity, suggestion};
use crate::config::model::{
    Garp, Notify, ScriptCall, TrackEntry, Vip, VrrpGroup, VrrpInstance, VrrpModel, VrrpScript, VrrpVersion,
};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

pub fn blank_instance(name: &str, place: &Place) -> VrrpInstance {
    VrrpInstance {
        name: name.to_owned(),
        place: place.to_string(),
        version: VrrpVersion::V2,
        interface: String::new(),
        vrid: 0,
        priority: 100,
        initial_master: false,
        advert_int: Duration::from_secs(1),
        preempt: true,
        preempt_delay: Duration::ZERO,
        auth_pass: None,
        vips: Vec::new(),
        excluded: Vec::new(),
        unicast_src: None,
        unicast_peers: Vec::new(),
        mcast_src: None,
        track_interfaces: Vec::new(),
        track_scripts: Vec::new(),
        notify: Notify::default(),
        garp: Garp::default(),
        checksum_v2: false,
        skip_addr_check: false,
        check_unicast_src: false,
        twin_of: None,
    }
}

/// A scope by name or number, as the kernel numbers them.
pub fn scope(text: &str) -> Option<u8> {
    Some(match text {
        "global" => 0,
        "site" => 200,
        "link" => 253,
        "host" => 254,
        o => o.parse().ok()?,
    })
}

pub fn blank_script(name: &str, place: &Place) -> VrrpScript {
    VrrpScript {
        name: name.to_owned(),
        place: place.to_string(),
        command: String::new(),
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
        weight: 0,
        reverse: false,
        rise: 1,
        fall: 1,
        init_fail: false,
        user: None,
        liveness: false,
    }
}

/// `auth_pass` as the packet carries it: the first eight bytes, padded with zeros.
pub fn auth_bytes(pass: &str) -> [u8; 8] {
    let mut out = [0; 8];
    for (o, b) in out.iter_mut().zip(pass.bytes()) {
        *o = b;
    }
    out
}

/// Addresses that an advert can carry: its count is one byte, and it has to fit into a frame of 1,500 bytes.
const MAX_VIPS4: usize = 255;
const MAX_VIPS6: usize = 90;

/// An interface has room for 255 virtual routers of each family.
const MAX_BLOCKS: usize = 10_000;

struct Cx<'a> {
    report: &'a mut Report,
    globals: Globals,
    /// What keepalived only reports is an error.
    strict: bool,
}

struct Globals {
    version: Option<VrrpVersion>,
    garp: Garp,
    skip_addr_check: bool,
    check_unicast_src: bool,
}

pub fn model(tree: &[Node], manner: &Manner, report: &mut Report) -> VrrpModel {
    let mut cx = Cx {
        report,
        strict: manner.strict,
        globals: Globals { version: None, garp: Garp::default(), skip_addr_check: false, check_unicast_src: false },
    };
    let mut m = VrrpModel { fault_strict: manner.fault_strict, ..VrrpModel::default() };
    for n in tree.iter().filter(|n| n.words.first().is_some_and(|w| w == "global_defs")) {
        global_defs(&mut cx, n, &mut m);
    }
    for n in tree {
        let Some(head) = n.words.first() else { continue };
        if m.instances.len() + m.scripts.len() + m.groups.len() > MAX_BLOCKS {
            let text = format!("more than {MAX_BLOCKS} instances, scripts and groups; is this the right file?");
            cx.report.error(Code::TooMuch, &n.place, text);
            break;
        }
        match head.as_str() {
            "global_defs" => {}
            "vrrp_instance" => instance(&mut cx, n, &mut m),
            "vrrp_script" => script(&mut cx, n, &mut m),
            "vrrp_sync_group" => group(&mut cx, n, &mut m),
            h => {
                let before = cx.report.diags.len();
                cx.unknown(n, "");
                if known::is_known("", h) && before < cx.report.diags.len() {
                    // What stands in it is checked all the same.
                    inside(&mut cx, n, h);
                }
            }
        }
    }
    finish(&mut cx, &mut m);
    m
}

/// Words in a block that is not honoured yet.
fn inside(cx: &mut Cx<'_>, n: &Node, block: &str) {
    // Groups of virtual servers, addresses and routes hold data, no words.
    if !known::has_words(block) {
        return;
    }
    for c in n.block.iter().flatten() {
        let Some(w) = c.words.first() else { continue };
        if known::is_known(block, w) || known::is_known("real_server", w) && block.ends_with("_CHECK") {
            inside(cx, c, w);
        } else if !matches!(block, "HTTP_GET" | "SSL_GET") || !known::is_anywhere(w) {
            cx.unknown(c, block);
        }
    }
}

impl Cx<'_> {
    /// What keepalived reports before it goes on.
    fn lenient(&mut self, code: Code, place: &Place, text: String) {
        if self.strict {
            self.report.error(code, place, text);
        } else {
            self.report.warning(code, place, text);
        }
    }
    fn value<'n>(&mut self, n: &'n Node) -> Option<&'n str> {
        let v = n.words.get(1).map(String::as_str);
        if v.is_none() {
            self.report.error(Code::Missing, &n.place, format!("'{}' is missing its value", n.words[0]));
        }
        v
    }
    fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(&mut self, n: &Node, lo: T, hi: T) -> Option<T> {
        let text = self.value(n)?;
        match text.parse::<T>() {
            Ok(v) if v >= lo && v <= hi => Some(v),
            _ => {
                let text = format!(
                    "'{}' : '{text}' is not a number from {lo} to {hi}; the default is used, as keepalived does",
                    n.words[0]
                );
                self.lenient(Code::Lenient, &n.place, text);
                None
            }
        }
    }
    /// Decimal seconds.
    fn seconds(&mut self, n: &Node, lo: f64, hi: f64) -> Option<Duration> {
        let secs = self.number::<f64>(n, lo, hi)?;
        Some(Duration::from_secs_f64(secs))
    }
    /// The lines of a block; what stands where braces were to stand is reported.
    fn lines<'n>(&mut self, n: &'n Node) -> impl Iterator<Item = &'n Node> + use<'n> {
        if n.block.is_none() {
            let text = format!("'{}' is missing its block: {} {{ ... }}", n.words[0], n.words[0]);
            self.lenient(Code::Braces, &n.place, text);
        } else if let Some(extra) = n.words.get(1) {
            let text = format!("'{}' takes no '{extra}' in front of its block", n.words[0]);
            self.lenient(Code::Extra, &n.place, text);
        }
        n.block.iter().flatten().filter(|l| !l.words.is_empty())
    }
    /// How often something is announced: at least once.
    fn repeat(&mut self, n: &Node, default: u32) -> u32 {
        match self.number(n, 0u32, u32::MAX) {
            Some(0) => {
                self.lenient(Code::Lenient, &n.place, format!("'{}' must be greater than 0; 1 is used", n.words[0]));
                1
            }
            found => found.unwrap_or(default),
        }
    }
    fn flag(&mut self, n: &Node) -> bool {
        match n.words.get(1).map(String::as_str) {
            None | Some("true" | "on" | "yes") => true,
            Some("false" | "off" | "no") => false,
            Some(o) => {
                self.report.error(Code::Value, &n.place, format!("'{}' : '{o}' is not a boolean", n.words[0]));
                true
            }
        }
    }
    fn not_yet(&mut self, n: &Node) {
        self.report.not_yet(
            &n.place,
            format!("'{}' is known but not honoured yet by this version; remove the line, or stay with keepalived for this configuration", n.words[0]),
        );
    }
    /// A word without a handler: one that keepalived knows is not honoured yet, or means nothing here; any other is reported, as keepalived does.
    fn unknown(&mut self, n: &Node, block: &str) {
        let w = n.words[0].as_str();
        match known::WORDS.iter().find(|k| k.0 == block && k.1 == w) {
            Some((.., "")) => return self.not_yet(n),
            Some((.., why)) => return self.no_effect(n, why),
            None => {}
        }
        // Of many, the first are shown; the others need no hint.
        if !self.report.keeps(Severity::Warning) {
            return self.lenient(Code::UnknownWord, &n.place, String::new());
        }
        let place = if block.is_empty() { "the file".to_owned() } else { format!("'{block}'") };
        let near = known::WORDS.iter().filter(|k| k.0 == block).map(|k| k.1);
        let elsewhere = known::WORDS.iter().find(|k| k.1 == w && !k.0.is_empty());
        let hint = match elsewhere {
            Some((b, ..)) => format!("; it belongs into a '{b}' block"),
            None => suggestion(w, near),
        };
        let skipped = if n.block.is_some() {
            "; its block is passed over, whose lines keepalived would read as the surrounding block's"
        } else {
            ""
        };
        let text = format!("unknown keyword '{w}' in {place}, ignored as keepalived does{skipped}{hint}");
        self.lenient(Code::UnknownWord, &n.place, text);
    }
    /// A VRRP-less word: said once, with the reason.
    fn no_effect(&mut self, n: &Node, why: &str) {
        self.report.notice(Code::NoEffect, &n.place, format!("'{}' has no effect: {why}", n.words[0]));
    }
}

fn global_defs(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let secs = |n: Option<u32>| n.map(|n| Duration::from_secs(n.into()));
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "router_id" if n.words.len() < 2 => {
                cx.lenient(Code::Lenient, &n.place, "'router_id' has no name; it is ignored".into())
            }
            "script_user" if n.words.len() < 2 => {
                cx.lenient(Code::Lenient, &n.place, "'script_user' has no user; it is ignored".into())
            }
            "router_id" => m.router_id = cx.value(n).unwrap_or_default().to_owned(),
            "vrrp_version" => cx.globals.version = version(cx, n),
            "script_user" => m.script_user = cx.value(n).map(|u| (u.to_owned(), n.words.get(2).cloned())),
            "vrrp_garp_master_delay" => {
                cx.globals.garp.delay = secs(cx.number(n, 0, 86_400)).unwrap_or(cx.globals.garp.delay)
            }
            "vrrp_garp_master_repeat" => {
                cx.globals.garp.repeat = cx.repeat(n, 5);
                cx.globals.garp.lower_prio_repeat = cx.globals.garp.repeat;
            }
            "vrrp_garp_master_refresh" => {
                cx.globals.garp.refresh = secs(cx.number(n, 0, 86_400)).filter(|d| !d.is_zero())
            }
            "vrrp_garp_master_refresh_repeat" => cx.globals.garp.refresh_repeat = cx.repeat(n, 1),
            "vrrp_garp_lower_prio_repeat" => {
                cx.globals.garp.lower_prio_repeat = cx.number(n, 0u32, u32::MAX).unwrap_or(5)
            }
            "vrrp_garp_lower_prio_delay" => {
                cx.globals.garp.lower_prio_delay = secs(cx.number(n, 0, 86_400)).unwrap_or_default()
            }
            "vrrp_check_unicast_src" => cx.globals.check_unicast_src = cx.flag(n),
            "dynamic_interfaces" => {
                m.dynamic_interfaces = true;
                if let Some(o) = n.words.get(1).filter(|o| *o != "allow_if_changes") {
                    let text = format!("'dynamic_interfaces' knows 'allow_if_changes' only, not '{o}'");
                    cx.lenient(Code::Value, &n.place, text);
                }
            }
            "enable_script_security" => m.script_security = true,
            "vrrp_skip_check_adv_addr" => cx.globals.skip_addr_check = cx.flag(n),
            "vrrp_strict" => {
                if cx.flag(n) {
                    cx.not_yet(n);
                }
            }
            _ => cx.unknown(n, "global_defs"),
        }
    }
}

fn version(cx: &mut Cx<'_>, n: &Node) -> Option<VrrpVersion> {
    Some(if cx.number(n, 2u8, 3)? == 2 { VrrpVersion::V2 } else { VrrpVersion::V3 })
}

fn instance(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let name = block.words.get(1).cloned().unwrap_or_default();
    if name.is_empty() {
        cx.report.error(Code::RouterIncomplete, &block.place, "'vrrp_instance' is missing its name");
    } else if let Some(extra) = block.words.get(2) {
        cx.lenient(
            Code::Extra,
            &block.place,
            format!("'vrrp_instance {name}' : a name is one word; '{extra}' is left out"),
        );
    }
    let mut i = blank_instance(&name, &block.place);
    (i.garp, i.skip_addr_check) = (cx.globals.garp.clone(), cx.globals.skip_addr_check);
    i.check_unicast_src = cx.globals.check_unicast_src;
    let (mut auth_type, mut peers_said) = (false, false);
    let (mut own_version, mut priority, mut state_place) = (None, None, None);
    let mut advert: Option<(f64, Place)> = None;
    let secs = |n: Option<u32>| n.map(|n| Duration::from_secs(n.into()));
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "state" if state_place.is_some() && n.words.get(1).is_some_and(|w| w == "BACKUP") => {
                let text = "'state BACKUP' behind 'state MASTER' is not used, as keepalived does".to_owned();
                cx.lenient(Code::Lenient, &n.place, text);
            }
            "state" => match cx.value(n) {
                Some("MASTER") => (i.initial_master, state_place) = (true, Some(n.place.clone())),
                Some("BACKUP") => {}
                Some(o) => cx.report.warning(
                    Code::Lenient,
                    &n.place,
                    format!(
                        "unknown state '{o}': BACKUP is taken, as keepalived does{}",
                        suggestion(o, ["MASTER", "BACKUP"])
                    ),
                ),
                None => {}
            },
            "interface" => i.interface = cx.value(n).unwrap_or_default().to_owned(),
            "virtual_router_id" => i.vrid = cx.number(n, 1u8, 255).unwrap_or(0),
            "priority" => priority = cx.number(n, 1u8, 255),
            "version" => {
                let said = version(cx, n);
                if own_version.is_some() && said != own_version {
                    cx.lenient(Code::Duplicate, &n.place, "'version' is already given, and another one".into());
                }
                own_version = own_version.or(said);
            }
            "advert_int" => {
                if let Some(s) = cx.number::<f64>(n, 0.01, 255.0) {
                    advert = Some((s, n.place.clone()));
                }
            }
            "authentication" => {
                for a in cx.lines(n) {
                    match a.words[0].as_str() {
                        "auth_type" => match cx.value(a) {
                            Some("PASS") => auth_type = true,
                            Some("AH") => cx.not_yet(a),
                            Some(o) => {
                                let text = format!(
                                    "unknown authentication type '{o}': none is used, as keepalived does{}",
                                    suggestion(&o.to_uppercase(), ["PASS", "AH"])
                                );
                                cx.lenient(Code::Lenient, &a.place, text);
                            }
                            None => {}
                        },
                        "auth_pass" => match cx.value(a) {
                            Some("") | None => {}
                            Some(p) => {
                                if p.len() > 8 {
                                    cx.report.warning(Code::AuthPass, &a.place, "'auth_pass' is longer than 8 characters: only the first 8 are used, as in keepalived");
                                }
                                i.auth_pass = Some(auth_bytes(p));
                            }
                        },
                        _ => cx.unknown(a, "authentication"),
                    }
                }
            }
            // Blocks of one name add up.
            "virtual_ipaddress" => {
                for a in cx.lines(n) {
                    i.vips.extend(vip(cx, a));
                }
            }
            "virtual_ipaddress_excluded" => {
                for a in cx.lines(n) {
                    i.excluded.extend(vip(cx, a));
                }
            }
            "unicast_peer" => {
                peers_said = true;
                for a in cx.lines(n) {
                    i.unicast_peers.extend(peer(cx, a));
                }
            }
            "unicast_src_ip" | "mcast_src_ip" => match cx.value(n).map(|v| v.split('/').next().unwrap_or(v).parse::<IpAddr>()) {
                Some(Ok(ip)) if head == "unicast_src_ip" => i.unicast_src = Some(ip),
                Some(Ok(ip)) => i.mcast_src = Some(ip),
                Some(Err(_)) => cx.lenient(Code::Lenient, &n.place, format!("'{head}' : '{}' is not an IP address; it is left out, as keepalived does", n.words[1])),
                None => {}
            },
            "track_interface" => tracks(cx, n, &mut i.track_interfaces),
            "track_script" => tracks(cx, n, &mut i.track_scripts),
            "nopreempt" => i.preempt = false,
            "preempt" => i.preempt = true,
            "preempt_delay" => i.preempt_delay = cx.seconds(n, 0.0, 1000.0).unwrap_or_default(),
            "garp_master_delay" => i.garp.delay = secs(cx.number(n, 0, 86_400)).unwrap_or(i.garp.delay),
            "garp_master_repeat" => i.garp.repeat = cx.repeat(n, 5),
            "garp_master_refresh" => i.garp.refresh = secs(cx.number(n, 0, 86_400)).filter(|d| !d.is_zero()),
            "garp_master_refresh_repeat" => i.garp.refresh_repeat = cx.repeat(n, 1),
            "garp_lower_prio_repeat" => i.garp.lower_prio_repeat = cx.number(n, 0u32, u32::MAX).unwrap_or(5),
            "garp_lower_prio_delay" => i.garp.lower_prio_delay = secs(cx.number(n, 0, 86_400)).unwrap_or_default(),
            "skip_check_adv_addr" => i.skip_addr_check = cx.flag(n),
            "check_unicast_src" => i.check_unicast_src = cx.flag(n),
            "v3_checksum_as_v2" => i.checksum_v2 = cx.flag(n),
            "accept" => {}
            h if h.starts_with("notify") => notify(cx, n, "vrrp_instance", &mut i.notify),
            "lvs_sync_daemon_interface" => cx.report.warning(
                Code::NoEffect,
                &n.place,
                "'lvs_sync_daemon_interface' in an instance is deprecated, and has no effect: IPVS is not driven from here",
            ),
            _ => cx.unknown(n, "vrrp_instance"),
        }
    }
    let six = i
        .vips
        .first()
        .map(|v| v.addr.addr)
        .or(i.mcast_src)
        .or(i.unicast_src)
        .or(i.unicast_peers.first().copied())
        .is_some_and(|a| a.is_ipv6());
    i.version = if six { VrrpVersion::V3 } else { own_version.or(cx.globals.version).unwrap_or(VrrpVersion::V2) };
    i.priority = priority.unwrap_or(if i.initial_master { 255 } else { 100 });
    if let Some((s, place)) = advert {
        i.advert_int = match i.version {
            VrrpVersion::V2 => {
                if s.fract() != 0.0 {
                    cx.report.warning(Code::AdvertInterval, &place, format!("'advert_int {s}' : VRRPv2 has whole seconds only; {} is used, as keepalived does. Say 'vrrp_version 3' for shorter intervals", s.round().max(1.0)));
                }
                Duration::from_secs_f64(s.round().max(1.0))
            }
            VrrpVersion::V3 => {
                let cs = (s * 100.0).round().clamp(1.0, 4095.0);
                if (s * 100.0 - cs).abs() > 1e-6 && s <= 40.95 {
                    cx.report.warning(Code::AdvertInterval, &place, format!("'advert_int {s}' : VRRPv3 counts in hundredths of a second; {} is used, as keepalived does", cs / 100.0));
                }
                if s > 40.95 {
                    cx.report.warning(
                        Code::AdvertInterval,
                        &place,
                        "'advert_int' : VRRPv3 carries at most 40.95 s; that is used",
                    );
                }
                Duration::from_secs_f64(cs / 100.0)
            }
        };
    }
    if i.auth_pass.is_some() && !auth_type {
        // Not reported there either.
        let text =
            format!("vrrp_instance '{name}' : 'auth_pass' without 'auth_type PASS' is not used, as in keepalived");
        cx.report.notice(Code::AuthPass, &block.place, text);
        i.auth_pass = None;
    } else if auth_type && i.auth_pass.is_none() {
        let text = format!("vrrp_instance '{name}' : 'auth_type PASS' without 'auth_pass': there is no authentication");
        cx.lenient(Code::AuthPass, &block.place, text);
    }
    one_family(cx, &mut i, &block.place, six);
    said_with(cx, &i, &block.place, state_place.is_some(), peers_said);
    // What does not fit into one advert is held all the same, and not advertised.
    let room = if six { MAX_VIPS6 } else { MAX_VIPS4 };
    if i.vips.len() > room {
        cx.report.warning(Code::Advice, &block.place, format!("vrrp_instance '{name}' : only {room} addresses fit into an advert; the others are treated as excluded, as keepalived does"));
        let rest = i.vips.split_off(room);
        i.excluded.splice(0..0, rest);
    }
    if i.version == VrrpVersion::V3 && i.auth_pass.take().is_some() {
        cx.report.warning(
            Code::AuthPass,
            &block.place,
            format!("vrrp_instance '{name}' : VRRPv3 has no authentication; auth_pass is ignored, as keepalived does"),
        );
    }
    if let (Some(place), false) = (&state_place, i.preempt) {
        cx.report.warning(Code::NopreemptMaster, place, "'nopreempt' with 'state MASTER' is ignored, as keepalived does: nopreempt only works with 'state BACKUP' on both nodes");
        i.preempt = true;
    }
    for v in i.vips.iter().filter(|v| v.addr.addr.is_ipv6() != six) {
        cx.report.error(Code::AddressFamily, &block.place, format!("vrrp_instance '{name}' : {} is of the other address family than the first address; put it into virtual_ipaddress_excluded, or into an instance of its own", v.addr.addr));
    }
    i.vips.retain(|v| v.addr.addr.is_ipv6() == six);
    if i.interface.is_empty() {
        cx.report.error(Code::RouterIncomplete, &block.place, format!("vrrp_instance '{name}' has no 'interface'"));
    }
    if i.vrid == 0 {
        cx.report.error(
            Code::RouterIncomplete,
            &block.place,
            format!(
                "vrrp_instance '{name}' has no valid 'virtual_router_id'; both nodes need the same number from 1 to 255"
            ),
        );
    }
    if i.vips.is_empty() {
        cx.lenient(
            Code::RouterIncomplete,
            &block.place,
            format!("vrrp_instance '{name}' has no 'virtual_ipaddress': it moves nothing"),
        );
    }
    m.instances.push(i);
}

fn vip(cx: &mut Cx<'_>, n: &Node) -> Option<Vip> {
    let word = n.words.first()?;
    let Some(addr) = IpNet::parse(word.strip_suffix('/').unwrap_or(word)) else {
        cx.lenient(
            Code::Lenient,
            &n.place,
            format!("'{word}' is not an IP address with an optional prefix length; it is left out, as keepalived does"),
        );
        return None;
    };
    let mut v = Vip { addr, dev: None, label: None, broadcast: None, scope: 0, no_prefix_route: false };
    let mut i = 1;
    while let Some(w) = n.words.get(i) {
        let value = n.words.get(i + 1);
        match (w.as_str(), value) {
            ("dev", Some(d)) => {
                if v.dev.replace(d.clone()).is_some() {
                    cx.lenient(
                        Code::Duplicate,
                        &n.place,
                        format!("address {word} has 'dev' more than once; the last one is used"),
                    );
                }
            }
            ("label", Some(l)) if addr.addr.is_ipv6() => {
                cx.lenient(
                    Code::Lenient,
                    &n.place,
                    format!("'label {l}' : IPv6 addresses have no labels; it is left out"),
                );
            }
            ("label", Some(l)) if l.len() < 16 => v.label = Some(l.clone()),
            ("label", Some(l)) => {
                cx.report.error(Code::Value, &n.place, format!("'label {l}' : at most 15 characters fit"))
            }
            ("brd" | "broadcast", Some(b)) => match (b.as_str(), addr.addr) {
                ("-", _) => {}
                ("+", IpAddr::V4(a)) => {
                    v.broadcast = Some((u32::from(a) | u32::MAX.checked_shr(addr.prefix.into()).unwrap_or(0)).into())
                }
                (b, _) => match b.parse() {
                    Ok(a) => v.broadcast = Some(a),
                    Err(_) => cx.report.error(Code::Value, &n.place, format!("'brd {b}' is not an IPv4 address")),
                },
            },
            ("scope", Some(s)) => {
                v.scope = scope(s).unwrap_or_else(|| {
                    let text = format!("'scope {s}' is not known; use global, site, link or host. Global is used");
                    cx.lenient(Code::Lenient, &n.place, text);
                    0
                })
            }
            ("noprefixroute", _) => {
                v.no_prefix_route = true;
                i += 1;
                continue;
            }
            ("no_track" | "-nodad" | "home" | "mngtmpaddr" | "autojoin", _) => {
                i += 1;
                continue;
            }
            ("preferred_lft" | "track_group" | "peer" | "use_vmac", _) => {
                cx.report.not_yet(&n.place, format!("'{w}' of an address is known but not honoured yet"));
            }
            (o, _) => {
                cx.report.warning(
                    Code::UnknownWord,
                    &n.place,
                    format!(
                        "unknown word '{o}' behind address {word}, ignored as keepalived does{}",
                        suggestion(o, ["dev", "label", "brd", "scope"])
                    ),
                );
                i += 1;
                continue;
            }
        }
        i += 2;
    }
    Some(v)
}

/// Words of an instance that do not go together; keepalived reports them and drops one.
fn said_with(cx: &mut Cx<'_>, i: &VrrpInstance, place: &Place, master: bool, peers: bool) {
    let name = &i.name;
    let mut say = |code, what: String| cx.lenient(code, place, format!("vrrp_instance '{name}' : {what}"));
    if (i.check_unicast_src || peers) && i.unicast_peers.is_empty() {
        say(Code::Lenient, "it has words for unicast, but no 'unicast_peer': multicast is used".into());
    }
    if !i.preempt_delay.is_zero() && (master || i.priority == 255) {
        say(Code::Lenient, "'preempt_delay' has no effect on a node that begins as MASTER".into());
    }
    if i.priority == 255 && !i.preempt {
        say(
            Code::NopreemptMaster,
            "'nopreempt' does not go with priority 255, whose holder always takes the address".into(),
        );
    }
}

/// Sources and peers of the other family are left out, as keepalived does.
fn one_family(cx: &mut Cx<'_>, i: &mut VrrpInstance, place: &Place, six: bool) {
    let name = i.name.clone();
    let mut fits = |what: &str, a: &IpAddr| {
        let fits = a.is_ipv6() == six;
        if !fits {
            let text =
                format!("vrrp_instance '{name}' : {what} {a} is left out: it is not of the family of its addresses");
            cx.lenient(Code::AddressFamily, place, text);
        }
        fits
    };
    i.mcast_src = i.mcast_src.filter(|a| fits("mcast_src_ip", a));
    i.unicast_src = i.unicast_src.filter(|a| fits("unicast_src_ip", a));
    i.unicast_peers.retain(|p| fits("unicast peer", p));
}

/// `<address> [min_ttl <n>] [max_ttl <n>]`; keepalived cuts a prefix length off.
fn peer(cx: &mut Cx<'_>, n: &Node) -> Option<IpAddr> {
    let word = n.words[0].as_str();
    let Ok(ip) = word.split('/').next().unwrap_or(word).parse() else {
        let text = format!("'unicast_peer' : '{word}' is not an IP address; it is left out, as keepalived does");
        cx.lenient(Code::Lenient, &n.place, text);
        return None;
    };
    for pair in n.words[1..].chunks(2) {
        match pair[0].as_str() {
            w @ ("min_ttl" | "max_ttl") => {
                if pair.get(1).and_then(|v| v.parse::<u8>().ok()).is_some() {
                    cx.report.not_yet(&n.place, format!("'{w}' of a unicast peer is known but not honoured yet; remove it, or stay with keepalived for this configuration"));
                } else {
                    cx.lenient(Code::Number, &n.place, format!("'{w}' expects a number from 0 to 255"));
                }
            }
            o => {
                let hint = if o.parse::<IpAddr>().is_ok() { "; write each peer on a line of its own" } else { "" };
                cx.lenient(Code::UnknownWord, &n.place, format!("unknown word '{o}' behind peer {word}{hint}"));
            }
        }
    }
    Some(ip)
}

/// What a block tracks, behind what was tracked before.
fn tracks(cx: &mut Cx<'_>, n: &Node, to: &mut Vec<TrackEntry>) {
    let mut seen: HashSet<String> = to.iter().map(|t| t.name.clone()).collect();
    for line in cx.lines(n) {
        let t = track(cx, line);
        if !seen.insert(t.name.clone()) {
            let text = format!("'{}' is tracked twice in {}; the first one counts", t.name, n.words[0]);
            cx.lenient(Code::Duplicate, &line.place, text);
        } else {
            to.push(t);
        }
    }
}

fn track(cx: &mut Cx<'_>, n: &Node) -> TrackEntry {
    let mut t = TrackEntry { name: n.words[0].clone(), weight: None, reverse: false };
    let mut i = 1;
    while let Some(w) = n.words.get(i) {
        match w.as_str() {
            "weight" => {
                match n.words.get(i + 1).and_then(|v| v.parse::<i32>().ok()) {
                    Some(v) => {
                        if !(-253..=253).contains(&v) {
                            cx.lenient(Code::Number, &n.place, format!("'weight {v}' : weights go from -253 to 253"));
                        }
                        t.weight = Some(v.clamp(-253, 253));
                    }
                    None => cx.report.error(Code::Number, &n.place, "'weight' expects a number from -253 to 253"),
                }
                i += 1;
            }
            "reverse" => t.reverse = true,
            "noreverse" => t.reverse = false,
            o => cx.report.warning(
                Code::UnknownWord,
                &n.place,
                format!("unknown word '{o}' behind tracked '{}'", t.name),
            ),
        }
        i += 1;
    }
    t
}

/// `notify_master "cmd args" [user [group]]`: a quoted command is one word; without quotes the first word is the command.
fn notify(cx: &mut Cx<'_>, n: &Node, block: &str, to: &mut Notify) {
    let Some(cmd) = cx.value(n).map(str::to_owned) else { return };
    let slot = match n.words[0].as_str() {
        "notify" => &mut to.any,
        "notify_master" => &mut to.master,
        "notify_backup" => &mut to.backup,
        "notify_fault" => &mut to.fault,
        "notify_stop" => &mut to.stop,
        _ => return cx.unknown(n, block),
    };
    if slot.is_some() {
        cx.report.warning(
            Code::Duplicate,
            &n.place,
            format!("'{}' was already given; the first one is kept, as keepalived does", n.words[0]),
        );
    } else {
        // What cannot be an account's name is part of the command.
        let name = |w: &String| !w.is_empty() && w.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c));
        *slot = Some(match n.words.get(2) {
            Some(u) if !name(u) => ScriptCall { command: n.raw.clone(), user: None },
            u => ScriptCall { command: cmd, user: u.map(|u| (u.clone(), n.words.get(3).cloned())) },
        });
    }
}

fn script(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let name = block.words.get(1).cloned().unwrap_or_default();
    if name.is_empty() {
        return cx.lenient(Code::Missing, &block.place, "'vrrp_script' is missing its name: it is left out".into());
    }
    let mut s = blank_script(&name, &block.place);
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "script" => {
                s.command = if n.words.len() > 2 {
                    n.raw.trim_matches('"').to_owned()
                } else {
                    cx.value(n).unwrap_or_default().to_owned()
                }
            }
            "interval" => s.interval = cx.seconds(n, 0.001, 1_000_000.0).unwrap_or(s.interval),
            "timeout" => s.timeout = cx.seconds(n, 0.001, 1_000_000.0).unwrap_or_default(),
            "weight" => {
                s.weight = cx.number(n, -253, 253).unwrap_or(0);
                match n.words.get(2).map(String::as_str) {
                    Some("reverse") => s.reverse = true,
                    None | Some("noreverse") => {}
                    Some(o) => {
                        let text =
                            format!("unknown word '{o}' behind 'weight'{}", suggestion(o, ["reverse", "noreverse"]));
                        cx.lenient(Code::UnknownWord, &n.place, text);
                    }
                }
            }
            "rise" => s.rise = cx.number(n, 1u32, u32::MAX).unwrap_or(1),
            "fall" => s.fall = cx.number(n, 1u32, u32::MAX).unwrap_or(1),
            "user" => s.user = cx.value(n).map(|u| (u.to_owned(), n.words.get(2).cloned())),
            "init_fail" => s.init_fail = true,
            _ => cx.unknown(n, "vrrp_script"),
        }
    }
    if s.timeout.is_zero() {
        s.timeout = s.interval;
    }
    if s.command.is_empty() {
        return cx.lenient(
            Code::RouterIncomplete,
            &block.place,
            format!("vrrp_script '{}' has no 'script': it is left out, as keepalived does", s.name),
        );
    }
    s.liveness = asks_for_haproxy(&s.command);
    if s.liveness {
        let what = if s.weight == 0 {
            "a node whose proxy cannot serve yields".to_owned()
        } else {
            format!("weight {} is applied", s.weight)
        };
        cx.report.notice(Code::Remark, &block.place, format!("vrrp_script '{}' only asks whether HAProxy is alive: it is answered from inside, within milliseconds, and never run; {what}", s.name));
    }
    m.scripts.push(s);
}

/// True for a command that only asks whether a process called haproxy lives.
pub fn asks_for_haproxy(command: &str) -> bool {
    // "cmd && exit 0 || exit 1" and the like change nothing.
    let mut text = command.trim();
    for shell in ["/bin/sh -c", "/bin/bash -c", "sh -c", "bash -c"] {
        text = text.strip_prefix(shell).map_or(text, |t| t.trim().trim_matches(['\'', '"']));
    }
    // Behind the question, only what passes its answer on.
    let mut words = text.split_whitespace().peekable();
    let Some(program) = words.next().map(|p| p.rsplit('/').next().unwrap_or(p)) else { return false };
    let mut question: Vec<&str> = Vec::new();
    while let Some(w) = words.next_if(|w| !matches!(*w, "||" | "&&") && !w.contains(['|', '&', ';', '>', '<'])) {
        question.push(w);
    }
    let behind: Vec<&str> = words.collect();
    let quiet = |w: &&str| {
        matches!(*w, ">" | ">/dev/null" | "/dev/null" | "2>&1" | "&>/dev/null" | ">&/dev/null" | "2>/dev/null")
    };
    let behind: Vec<&str> = behind.into_iter().filter(|w| !quiet(w)).collect();
    if !matches!(
        behind[..],
        [] | ["||", "exit", "1" | "2"]
            | ["||", "false"]
            | ["&&", "exit", "0"]
            | ["&&", "true"]
            | ["&&", "exit", "0", "||", "exit", "1"]
    ) {
        return false;
    }
    let bare = |w: &str| {
        let w = w.trim_matches(['\'', '"', '^', '$']);
        w == "haproxy" || w.ends_with("/haproxy") || w == "haproxy.service"
    };
    // Exactly one thing is asked about, and only with options that do not change the question.
    let (options, targets): (Vec<&str>, Vec<&str>) = question.iter().partition(|w| w.starts_with('-'));
    let one = targets.len() == 1 && bare(targets[0]);
    let only = |known: &[&str]| options.iter().all(|o| known.contains(o));
    let zero = || options.iter().any(|o| matches!(*o, "-0" | "-s0" | "--signal=0"));
    match program {
        "killall" | "pkill" => {
            let spelled = question.len() == 3 && matches!(question[..2], ["-s" | "--signal", "0"]) && bare(question[2]);
            spelled || one && zero() && only(&["-0", "-s0", "--signal=0", "-q", "-e", "-x", "-f", "--quiet", "--exact"])
        }
        "pidof" => one && only(&["-s", "-x", "-q", "-c", "-z"]),
        "pgrep" => one && only(&["-x", "-f", "-c", "-o", "-n", "-l", "-a", "--exact", "--full"]),
        "systemctl" => {
            options.iter().all(|o| matches!(*o, "--quiet" | "-q"))
                && targets.len() == 2
                && targets[0] == "is-active"
                && bare(targets[1])
        }
        "service" => question == ["haproxy", "status"],
        _ => false,
    }
}

fn group(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    if block.words.len() != 2 {
        let text = "'vrrp_sync_group' must have a name of one word: it is left out, as keepalived does";
        return cx.lenient(Code::RouterIncomplete, &block.place, text.into());
    }
    let mut g = VrrpGroup {
        name: block.words.get(1).cloned().unwrap_or_default(),
        members: Vec::new(),
        notify: Notify::default(),
        track_interfaces: Vec::new(),
        track_scripts: Vec::new(),
    };
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "group" => {
                if !g.members.is_empty() {
                    let text = "'group' is already given; its members are added".to_owned();
                    cx.lenient(Code::Duplicate, &n.place, text);
                }
                let mut seen: HashSet<String> = g.members.iter().cloned().collect();
                for w in cx.lines(n).flat_map(|l| &l.words) {
                    if !seen.insert(w.clone()) {
                        cx.lenient(Code::Duplicate, &n.place, format!("'{w}' is in the group twice"));
                    } else {
                        g.members.push(w.clone());
                    }
                }
            }
            "track_interface" => tracks(cx, n, &mut g.track_interfaces),
            "track_script" => tracks(cx, n, &mut g.track_scripts),
            h if h.starts_with("notify") => notify(cx, n, "vrrp_sync_group", &mut g.notify),
            _ => cx.unknown(n, "vrrp_sync_group"),
        }
    }
    match g.members.len() {
        0 => {
            let text =
                format!("vrrp_sync_group '{}' has no virtual router: it is left out, as keepalived does", g.name);
            return cx.lenient(Code::RouterIncomplete, &block.place, text);
        }
        1 => {
            let text = format!("vrrp_sync_group '{}' has a single member: nothing moves along with it", g.name);
            cx.lenient(Code::Useless, &block.place, text);
        }
        _ => {}
    }
    m.groups.push(g);
}

fn finish(cx: &mut Cx<'_>, m: &mut VrrpModel) {
    let scripts = &m.scripts;
    let known: HashSet<&str> = scripts.iter().map(|s| s.name.as_str()).collect();
    for i in &mut m.instances {
        let place = &place_of(&i.place);
        i.track_scripts.retain(|t| {
            let known = known.contains(t.name.as_str());
            if !known {
                let text = format!(
                    "vrrp_instance '{}' tracks script '{}', which no vrrp_script defines: it is not tracked, as in keepalived{}",
                    i.name,
                    t.name,
                    suggestion(&t.name, scripts.iter().map(|s| s.name.as_str()))
                );
                cx.lenient(Code::UnknownTracked, place, text);
            }
            known
        });
        let own = i.interface.clone();
        if i.track_interfaces.iter().any(|t| t.name == own) {
            cx.report.warning(
                Code::Advice,
                place,
                format!("vrrp_instance '{}' tracks {own}, its own interface, which it does in any case", i.name),
            );
        }
        i.track_interfaces.retain(|t| t.name != own);
    }
    let instances: HashSet<&str> = m.instances.iter().map(|i| i.name.as_str()).collect();
    let mut grouped: HashMap<&str, &str> = HashMap::new();
    for g in &m.groups {
        let mut bad = |code, text: String| cx.report.push(code, Severity::Error, None, text);
        for t in g.track_scripts.iter().filter(|t| !known.contains(t.name.as_str())) {
            bad(
                Code::UnknownTracked,
                format!(
                    "vrrp_sync_group '{}' tracks script '{}', which no vrrp_script defines{}",
                    g.name,
                    t.name,
                    suggestion(&t.name, m.scripts.iter().map(|s| s.name.as_str()))
                ),
            );
        }
        for name in &g.members {
            if let Some(other) = grouped.insert(name, &g.name) {
                let text =
                    format!("vrrp_instance '{name}' is in two sync groups, '{other}' and '{}'; keep it in one", g.name);
                bad(Code::Duplicate, text);
            }
        }
        for name in g.members.iter().filter(|n| !instances.contains(n.as_str())) {
            cx.report.push(
                Code::UnknownTarget,
                crate::base::diag::Severity::Error,
                None,
                format!("vrrp_sync_group '{}' names '{name}', which no vrrp_instance defines", g.name),
            );
        }
    }
}

/// A place back from its text form `file:line`.
pub fn place_of(text: &str) -> Place {
    let (file, line) = text.rsplit_once(':').unwrap_or((text, "0"));
    Place { file: file.into(), line: line.parse().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_questions_are_recognised() {
        for yes in [
            "killall -0 haproxy",
            "/usr/bin/killall -0 haproxy",
            "pidof haproxy",
            "/bin/pidof -s haproxy",
            "pgrep -x haproxy",
            "pkill -0 haproxy",
            "systemctl is-active --quiet haproxy",
            "systemctl is-active haproxy.service",
            "/bin/sh -c 'killall -0 haproxy'",
            "killall -0 haproxy || exit 1",
            "/usr/bin/pgrep haproxy > /dev/null",
            "pidof haproxy >/dev/null 2>&1 || exit 1",
            "killall -s 0 haproxy",
            "service haproxy status",
        ] {
            assert!(asks_for_haproxy(yes), "{yes}");
        }
        for no in [
            "killall haproxy",
            "pidof nginx",
            "/etc/keepalived/check.sh",
            "curl http://localhost/",
            "pgrep haproxy; curl x",
            "killall -0 haproxy && curl -f http://localhost/",
            "killall -9 haproxy",
            "killall -0 nginx haproxy",
            "pgrep -x nginx -u haproxy",
            "systemctl is-active nginx haproxy",
            "pidof haproxy && exit 1",
            "pidof haproxy || true",
            "",
        ] {
            assert!(!asks_for_haproxy(no), "{no}");
        }
    }

    fn load(text: &str) -> (VrrpModel, Report) {
        let mut src = crate::config::source::Recorded::default();
        src.files.insert("/k".into(), Ok(text.as_bytes().to_vec()));
        let mut report = Report::default();
        let m = super::super::load("/k", &mut src, &Manner::default(), &mut report);
        (m, report)
    }

    #[test]
    fn a_usual_instance() {
        let (m, r) = load(
            "vrrp_script chk { script \"killall -0 haproxy\"\n interval 2\n weight 2 }\nvrrp_instance VI_1 {\n state MASTER\n interface eth0\n virtual_router_id 51\n priority 101\n advert_int 1\n authentication {\n auth_type PASS\n auth_pass 1111\n }\n virtual_ipaddress {\n 192.168.1.10/24 dev eth0 label eth0:1\n }\n track_script { chk }\n}\n",
        );
        assert!(!r.has_fatal(), "{:?}", r.diags);
        let i = &m.instances[0];
        assert_eq!((i.vrid, i.priority, i.version, i.vips[0].addr.prefix), (51, 101, VrrpVersion::V2, 24));
        assert_eq!(i.auth_pass, Some(*b"1111\0\0\0\0"));
        assert!(m.scripts[0].liveness && m.scripts[0].weight == 2);
    }

    #[test]
    fn mistakes_are_errors_with_places() {
        let (_, r) = load(
            "vrrp_instance A {\n interface eth0\n virtual_router_id 300\n virtual_ipaddress { 10.0.0.300 }\n track_script { nope }\n}\n",
        );
        assert!(
            r.diags.iter().filter(|d| d.severity >= crate::base::diag::Severity::Warning).count() >= 4 && r.has_fatal(),
            "{:?}",
            r.diags
        );
    }
}
