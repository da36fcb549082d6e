//! `vrrp_instance`
use super::address::{peer, vip};
use super::global::{extra, version};
use super::{Cx, notify, route, track};
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::{Place, suggestion};
use crate::config::keepalived::parse::Node;
use crate::config::model::{
    Auth, Garp, HmacAuth, HmacMode, IPVLAN_MODES, Ipvlan, Notify, OldChecksum, OwnMac, Peer, Replay, Vmac,
    VrrpInstance, VrrpModel, VrrpVersion, is_interface, mac_of,
};
use crate::vrrp::timing::DOWN_ADVERTS;
use std::net::IpAddr;
use std::time::Duration;

/// Addresses that an advert can carry: its count is one byte, and it has to fit into a frame of 1,500 bytes.
pub const MAX_VIPS4: usize = 255;
pub const MAX_VIPS6: usize = 90;

pub fn blank_instance(name: &str, place: &Place) -> VrrpInstance {
    VrrpInstance {
        name: name.to_owned(),
        place: place.to_string(),
        version: VrrpVersion::V2,
        interface: String::new(),
        vrf: false,
        vrid: 0,
        priority: 100,
        initial_master: false,
        advert_int: Duration::from_secs(1),
        preempt: true,
        preempt_delay: Duration::ZERO,
        auth: Auth::None,
        hmac: None,
        vips: Vec::new(),
        excluded: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        unicast_src: None,
        peers: Vec::new(),
        unicast_ttl: None,
        mcast_src: None,
        mcast_dst: None,
        tracks: Vec::new(),
        ignores_link: false,
        tracks_source: false,
        notify: Notify::default(),
        garp: Garp::default(),
        also_v2: false,
        checksum_v2: false,
        lacks_peer: false,
        old_checksum: OldChecksum::default(),
        skip_addr_check: false,
        check_unicast_src: false,
        strict: false,
        down_adverts: DOWN_ADVERTS,
        quiet_to_lower: false,
        answers_higher: false,
        owner_deaf: false,
        late_backup: None,
        promote_secondaries: false,
        vmac: None,
        twin_of: None,
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

/// `authentication { auth_type PASS|AH, auth_pass <text> }`
fn authentication(cx: &mut Cx<'_>, n: &Node, said: &mut Said<'_>) {
    for a in cx.lines(n) {
        match a.words[0].as_str() {
            "auth_type" => match cx.value(a) {
                Some("PASS") => said.auth = Some(Auth::Pass),
                Some("AH") => said.auth = Some(Auth::Header),
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
                        cx.report.warning(
                            Code::AuthPass,
                            &a.place,
                            "'auth_pass' is longer than 8 characters: only the first 8 are used, as in keepalived",
                        );
                    }
                    said.pass = Some(auth_bytes(p));
                }
            },
            _ => cx.unknown(a, "authentication"),
        }
    }
}

/// `auth_hmac { key <id> <value> ... }`
fn hmac(cx: &mut Cx<'_>, n: &Node, i: &mut VrrpInstance) {
    let mut h =
        HmacAuth { keys: Vec::new(), active: 0, replay: Replay::default(), window: None, mode: HmacMode::default() };
    let mut active = None;
    for a in cx.lines(n) {
        match a.words[0].as_str() {
            "key" => {
                let Some(id) = cx.number(a, 1u8, 255) else { continue };
                let value = a.words.get(2).map(String::as_str).unwrap_or_default();
                match key(cx, value) {
                    Ok(k) => {
                        h.keys.retain(|k| k.0 != id);
                        h.keys.push((id, k));
                    }
                    Err(why) => cx.report.error(Code::Value, &a.place, format!("'key {id}' : {why}")),
                }
            }
            "active_key" => active = cx.number(a, 1u8, 255),
            "time_window" => h.window = cx.seconds(a, 1.0, 300.0),
            "anti_replay" => match cx.value(a) {
                Some("time") => h.replay = Replay::Time,
                Some("monotonic") => h.replay = Replay::Monotonic,
                Some(o) => {
                    let text = format!("'anti_replay' knows time and monotonic, not '{o}'");
                    cx.report.error(Code::Value, &a.place, text);
                }
                None => {}
            },
            "mode" => match cx.value(a) {
                Some("enforce") => h.mode = HmacMode::Enforce,
                Some("permissive") => h.mode = HmacMode::Permissive,
                Some("receive-only") => h.mode = HmacMode::ReceiveOnly,
                Some(o) => {
                    let text = format!("'mode' knows enforce, permissive and receive-only, not '{o}'");
                    cx.report.error(Code::Value, &a.place, text);
                }
                None => {}
            },
            _ => cx.unknown(a, "auth_hmac"),
        }
    }
    match active.filter(|a| h.key(*a).is_some()) {
        Some(a) => {
            h.active = a;
            i.hmac = Some(h);
        }
        None => {
            let text = format!(
                "vrrp_instance '{}' : 'auth_hmac' needs a 'key <id> <value>' and the 'active_key <id>' that signs",
                i.name
            );
            cx.report.error(Code::AuthPass, &n.place, text);
        }
    }
}

/// A key: `hex:<digits>`, `file:<path>`, or text; 32 to 64 octets. What is in a file may be in hexadecimal too.
fn key(cx: &mut Cx<'_>, value: &str) -> Result<Vec<u8>, String> {
    let text = match value.strip_prefix("file:") {
        None => value.to_owned(),
        Some(path) => {
            let bytes = cx.source.read(path).map_err(|e| format!("cannot read '{path}': {e}"))?;
            String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    let key = match text.strip_prefix("hex:") {
        None => text.into_bytes(),
        Some(digits) => hex(digits).ok_or("hexadecimal digits come in pairs")?,
    };
    if (32..=64).contains(&key.len()) {
        Ok(key)
    } else {
        Err(format!("a key has 32 to 64 octets, this one {}", key.len()))
    }
}

/// Octets from pairs of hexadecimal digits.
pub fn hex(digits: &str) -> Option<Vec<u8>> {
    let pair = |c: &[u8]| u8::from_str_radix(std::str::from_utf8(c).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.as_bytes().chunks(2).map(pair).collect())?
}

/// What the lines of an instance said, until all are read.
#[derive(Default)]
struct Said<'a> {
    vrf: Option<&'a Node>,
    vmac: Option<&'a Node>,
    ipvlan: Option<&'a Node>,
    from_base: bool,
    /// `use_vmac_addr`
    address_macs: bool,
    auth: Option<fn([u8; 8]) -> Auth>,
    pass: Option<[u8; 8]>,
    peers: bool,
    version: Option<VrrpVersion>,
    priority: Option<u8>,
    /// Where `state MASTER` stands.
    master: Option<Place>,
    /// `state BACKUP` is said.
    backup: bool,
    advert: Option<(f64, Place)>,
    strict: Option<bool>,
    accept: bool,
    quiet_to_lower: Option<bool>,
    no_vips: bool,
}

/// `vrrp_instance <name> { ... }`
pub(super) fn read(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
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
    let g = &cx.globals;
    (i.garp, i.skip_addr_check) = (g.garp.clone(), g.skip_addr_check);
    (i.check_unicast_src, i.checksum_v2) = (g.check_unicast_src, g.checksum_v2);
    (i.answers_higher, i.owner_deaf) = (g.answers_higher, g.owner_deaf);
    i.down_adverts = g.down_adverts.unwrap_or(DOWN_ADVERTS);
    i.notify.priority_changes = g.priority_changes;
    i.notify.mail = g.alerts.of_routers();
    let mut said = Said::default();
    let secs = |n: Option<u32>| n.map(|n| Duration::from_secs(n.into()));
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "state" if said.master.is_some() && n.words.get(1).is_some_and(|w| w == "BACKUP") => {
                let text = "'state BACKUP' behind 'state MASTER' is not used, as keepalived does".to_owned();
                cx.lenient(Code::Lenient, &n.place, text);
            }
            "state" => match cx.value(n) {
                Some("MASTER") => (i.initial_master, said.master) = (true, Some(n.place.clone())),
                Some("BACKUP") => said.backup = true,
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
            "vrf" => said.vrf = Some(n),
            "virtual_router_id" => i.vrid = cx.number(n, 1u8, 255).unwrap_or(0),
            "priority" => said.priority = cx.number(n, 1u8, 255),
            "version" => {
                let own = version(cx, n);
                if said.version.is_some() && own != said.version {
                    cx.lenient(Code::Duplicate, &n.place, "'version' is already given, and another one".into());
                }
                said.version = said.version.or(own);
            }
            "advert_int" => {
                if let Some(s) = cx.number::<f64>(n, 0.01, 255.0) {
                    said.advert = Some((s, n.place.clone()));
                }
            }
            "authentication" => authentication(cx, n, &mut said),
            "auth_hmac" => hmac(cx, n, &mut i),
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
            "virtual_routes" => route::routes(cx, n, &mut i.routes),
            "virtual_rules" => route::rules(cx, n, &mut i.rules),
            "unicast_peer" => {
                said.peers = true;
                for a in cx.lines(n) {
                    i.peers.extend(peer(cx, a));
                }
            }
            "unicast_src_ip" | "mcast_src_ip" => match cx.value(n).map(|v| v.split('/').next().unwrap_or(v).parse::<IpAddr>()) {
                Some(Ok(ip)) if head == "unicast_src_ip" => i.unicast_src = Some(ip),
                Some(Ok(ip)) => i.mcast_src = Some(ip),
                Some(Err(_)) => cx.lenient(Code::Lenient, &n.place, format!("'{head}' : '{}' is not an IP address; it is left out, as keepalived does", n.words[1])),
                None => {}
            },
            "mcast_dst_ip" => match cx.value(n).map(str::parse::<IpAddr>) {
                Some(Ok(ip)) if ip.is_multicast() => i.mcast_dst = Some(ip),
                Some(_) => {
                    let text = format!("'mcast_dst_ip' : '{}' is no multicast address; it is left out, as keepalived does", n.words[1]);
                    cx.lenient(Code::Lenient, &n.place, text);
                }
                None => {}
            },
            "unicast_ttl" => i.unicast_ttl = cx.number(n, 1u8, 255),
            h if h.starts_with("track_") && track::block(cx, n, &mut i.tracks) => {}
            "track_src_ip" => i.tracks_source = true,
            "dont_track_primary" => i.ignores_link = true,
            "down_timer_adverts" => i.down_adverts = cx.number(n, 1, 100).unwrap_or(DOWN_ADVERTS),
            "lower_prio_no_advert" => said.quiet_to_lower = Some(cx.flag(n)),
            "higher_prio_send_advert" => i.answers_higher = cx.flag(n),
            "owner_ignore_adverts" => i.owner_deaf = cx.flag(n),
            "timer_expired_backup" | "thread_timer_expired" => {
                i.late_backup = if n.words.len() > 1 { cx.number(n, 1u8, 254).or(Some(254)) } else { Some(254) }
            }
            // The second is its old name.
            "garp_extra_if" | "vmac_garp_intvl" => i.garp.extra = extra(cx, n),
            "strict_mode" => said.strict = Some(cx.flag(n)),
            "smtp_alert" => i.notify.mail = cx.flag(n),
            "promote_secondaries" => i.promote_secondaries = true,
            "use_vmac" => said.vmac = Some(n),
            "use_ipvlan" if said.ipvlan.is_some() => {
                cx.lenient(Code::Lenient, &n.place, "'use_ipvlan' stands there already; this one is left out".to_owned());
            }
            "use_ipvlan" => said.ipvlan = Some(n),
            "vmac_xmit_base" => said.from_base = true,
            "use_vmac_addr" => said.address_macs = true,
            "unicast_fault_no_peer" => i.lacks_peer = true,
            "old_unicast_checksum" => {
                i.old_checksum = match n.words.get(1).map(String::as_str) {
                    None => OldChecksum::Always,
                    Some("never") => OldChecksum::Never,
                    Some(o) => {
                        let text = format!("'old_unicast_checksum' knows 'never' only, not '{o}'");
                        cx.lenient(Code::Value, &n.place, text);
                        OldChecksum::Always
                    }
                }
            }
            "no_virtual_ipaddress" => said.no_vips = true,
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
            "accept" => said.accept = true,
            h if h.starts_with("notify") => notify::read(cx, n, "vrrp_instance", &mut i.notify),
            "lvs_sync_daemon_interface" => cx.report.warning(
                Code::NoEffect,
                &n.place,
                "'lvs_sync_daemon_interface' in an instance is deprecated, and has no effect: IPVS is not driven from here",
            ),
            _ => cx.unknown(n, "vrrp_instance"),
        }
    }
    let six = i.is_six();
    unbound(cx, &mut i, &mut said, block);
    if let Some(n) = said.ipvlan.or(said.vmac) {
        let mut v = match said.ipvlan {
            Some(n) => ipvlan(cx, n, &i, six),
            None => vmac(cx, n, &i, six, said.from_base),
        };
        let other =
            m.instances.iter().find(|o| o.vmac.as_ref().is_some_and(|w| !w.name.is_empty() && w.name == v.name));
        if let Some(o) = other {
            let text = format!(
                "vrrp_instance '{name}' : '{}' uses interface {} already; the name is left out",
                o.name, v.name
            );
            cx.lenient(Code::Lenient, &n.place, text);
            v.name.clear();
        }
        i.vmac = Some(v);
    }
    if said.from_base && !i.vmac.as_ref().is_some_and(|v| v.from_base) {
        cx.lenient(
            Code::Lenient,
            &block.place,
            format!("vrrp_instance '{name}' : 'vmac_xmit_base' has no effect without 'use_vmac'"),
        );
    }
    place_macs(&mut i, &said);
    if i.vmac.as_ref().is_some_and(|v| v.ipvlan.is_some()) && !i.peers.is_empty() {
        let text = format!(
            "vrrp_instance '{name}' : 'use_ipvlan' with unicast peers: adverts leave from its interface all the same"
        );
        cx.lenient(Code::Lenient, &block.place, text);
    } else if i.vmac.as_ref().is_some_and(|v| !v.from_base) && !i.peers.is_empty() {
        let text = format!(
            "vrrp_instance '{name}' : 'use_vmac' with unicast peers needs 'vmac_xmit_base': it is set, as keepalived does"
        );
        cx.lenient(Code::Lenient, &block.place, text);
        i.vmac.iter_mut().for_each(|v| v.from_base = true);
    }
    i.version = if six { VrrpVersion::V3 } else { said.version.or(cx.globals.version).unwrap_or(VrrpVersion::V2) };
    i.priority = said.priority.unwrap_or(if i.initial_master { 255 } else { 100 });
    if let Some((s, place)) = said.advert.take() {
        i.advert_int = match i.version {
            VrrpVersion::V2 => {
                if s.fract() != 0.0 {
                    cx.report.warning(Code::AdvertInterval, &place, format!("'advert_int {s}' : VRRPv2 has whole seconds only; {} is used, as keepalived does. Say 'vrrp_version 3' for shorter intervals", s.round().max(1.0)));
                }
                Duration::from_secs_f64(s.round().max(1.0))
            }
            // keepalived's language has no CARP.
            VrrpVersion::V3 | VrrpVersion::Carp => {
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
    match (said.auth, said.pass) {
        (Some(kind), Some(pass)) => i.auth = kind(pass),
        (None, Some(_)) => {
            // Not reported there either.
            let text =
                format!("vrrp_instance '{name}' : 'auth_pass' without 'auth_type' is not used, as in keepalived");
            cx.report.notice(Code::AuthPass, &block.place, text);
        }
        (Some(_), None) => {
            let text = format!("vrrp_instance '{name}' : 'auth_type' without 'auth_pass': there is no authentication");
            cx.lenient(Code::AuthPass, &block.place, text);
        }
        (None, None) => {}
    }
    if i.hmac.is_some() && i.auth != Auth::None {
        let text = format!("vrrp_instance '{name}' : 'authentication' and 'auth_hmac' do not go together; remove one");
        cx.report.error(Code::AuthPass, &block.place, text);
    }
    strict(cx, &mut i, &mut said, &block.place);
    i.quiet_to_lower = said.quiet_to_lower.or(cx.globals.quiet_to_lower).unwrap_or(i.strict);
    one_family(cx, &mut i, &block.place, six);
    said_with(cx, &i, &block.place, &said);
    // What does not fit into one advert is held all the same, and not advertised.
    let room = if six { MAX_VIPS6 } else { MAX_VIPS4 };
    if i.vips.len() > room {
        cx.report.warning(Code::Advice, &block.place, format!("vrrp_instance '{name}' : only {room} addresses fit into an advert; the others are treated as excluded, as keepalived does"));
        let rest = i.vips.split_off(room);
        i.excluded.splice(0..0, rest);
    }
    if i.version == VrrpVersion::V3 && std::mem::take(&mut i.auth) != Auth::None {
        cx.report.warning(
            Code::AuthPass,
            &block.place,
            format!("vrrp_instance '{name}' : VRRPv3 has no authentication; auth_pass is ignored, as keepalived does"),
        );
    }
    if let (Some(place), false) = (&said.master, i.preempt) {
        cx.report.warning(Code::NopreemptMaster, place, "'nopreempt' with 'state MASTER' is ignored, as keepalived does: nopreempt only works with 'state BACKUP' on both nodes");
        i.preempt = true;
    }
    for v in i.vips.iter().filter(|v| v.addr.addr.is_ipv6() != six) {
        cx.report.error(Code::AddressFamily, &block.place, format!("vrrp_instance '{name}' : {} is of the other address family than the first address; put it into virtual_ipaddress_excluded, or into an instance of its own", v.addr.addr));
    }
    i.vips.retain(|v| v.addr.addr.is_ipv6() == six);
    if let Some(what) = lacks_interface(&i) {
        cx.report.error(Code::RouterIncomplete, &block.place, format!("vrrp_instance '{name}' {what}"));
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
    if i.vips.is_empty() && !said.no_vips {
        cx.lenient(
            Code::RouterIncomplete,
            &block.place,
            format!("vrrp_instance '{name}' has no 'virtual_ipaddress': it moves nothing"),
        );
    }
    m.instances.push(i);
}

/// `use_vmac [[name] <interface>] [<mac>] [netlink_notify_msg] [group <n>]`
fn vmac(cx: &mut Cx<'_>, n: &Node, i: &VrrpInstance, six: bool, from_base: bool) -> Vmac {
    let mac = Vmac::usual_mac(i.vrid, six);
    let mut v = Vmac { name: String::new(), mac, ipvlan: None, group: None, from_base };
    let mut words = n.words[1..].iter().map(String::as_str);
    while let Some(w) = words.next() {
        let name = match w {
            // The kernel tells of everything here.
            "netlink_notify_msg" => continue,
            "group" => {
                v.group = group(cx, n, words.next());
                continue;
            }
            "name" => words.next().unwrap_or_default(),
            w if w.contains(':') => {
                match mac_of(w, i.vrid) {
                    Some(mac) => v.mac = mac,
                    None => cx.lenient(
                        Code::Value,
                        &n.place,
                        format!("'use_vmac' : '{w}' is not a MAC address; the usual one is used"),
                    ),
                }
                continue;
            }
            w => w,
        };
        if is_interface(name) {
            v.name = name.to_owned();
        } else {
            cx.report.error(
                Code::Value,
                &n.place,
                format!("'use_vmac' : '{name}' cannot be the name of an interface: 1 to 15 characters"),
            );
        }
    }
    v
}

/// `group <n>` of an interface that is made.
fn group(cx: &mut Cx<'_>, n: &Node, word: Option<&str>) -> Option<u32> {
    let found = word.and_then(|g| g.parse().ok().or_else(|| route::Names::number(cx, "group", g)));
    if found.is_none() {
        let text = "'group' expects a number or a name of /etc/iproute2/group".to_owned();
        cx.lenient(Code::Value, &n.place, text);
    }
    found
}

/// `use_ipvlan [[name] <interface>] [<ip>[/<len>]] [bridge|private|vepa] [group <n>]`
fn ipvlan(cx: &mut Cx<'_>, n: &Node, i: &VrrpInstance, six: bool) -> Vmac {
    let (mut name, mut addr, mut mode, mut linked) = (String::new(), None::<IpNet>, None, None);
    let mut words = n.words[1..].iter().map(String::as_str);
    while let Some(w) = words.next() {
        let mut say = |what: String| cx.lenient(Code::Value, &n.place, format!("'use_ipvlan' : {what}"));
        let ip = IpNet::parse(w).filter(|_| w.contains(['.', ':']));
        if let Some(a) = ip {
            match addr {
                Some(_) => say(format!("there is an address already; '{w}' is left out")),
                None if a.addr.is_ipv6() != six => {
                    say(format!("{w} is left out: it is not of the family of the router's addresses"))
                }
                None => addr = Some(a),
            }
        } else if let Some(m) = IPVLAN_MODES.iter().find(|m| m.0 == w) {
            match mode {
                Some(_) => say(format!("there is a mode already; '{w}' is left out")),
                None => mode = Some(m.1),
            }
        } else if w == "group" {
            linked = group(cx, n, words.next());
        } else {
            let said = if w == "name" { words.next().unwrap_or_default() } else { w };
            if !name.is_empty() {
                say(format!("there is a name already; '{said}' is left out"));
            } else if is_interface(said) {
                said.clone_into(&mut name);
            } else {
                say(format!("'{said}' cannot be the name of an interface: 1 to 15 characters; it is left out"));
            }
        }
    }
    let ipvlan = Some(Ipvlan { mode: mode.unwrap_or_default(), addr });
    let v = Vmac { name, mac: [0; 6], ipvlan, group: linked, from_base: false };
    if v.lacks_address(six) {
        let text = format!("vrrp_instance '{}' : 'use_ipvlan' of IPv4 needs an address; it stays in FAULT", i.name);
        cx.lenient(Code::RouterIncomplete, &n.place, text);
    }
    v
}

/// `vrf`, and an instance without an interface: it speaks to unicast peers, and its addresses are on interfaces that they name, or the default one.
fn unbound(cx: &mut Cx<'_>, i: &mut VrrpInstance, said: &mut Said<'_>, block: &Node) {
    if let Some(n) = said.vrf {
        if i.interface.is_empty() {
            (i.interface, i.vrf) = (cx.value(n).unwrap_or_default().to_owned(), true);
        } else {
            cx.lenient(Code::Lenient, &n.place, "'vrf' beside 'interface' is not used, as in keepalived".to_owned());
        }
    }
    if !i.roams() {
        return;
    }
    let name = i.name.clone();
    if let Some(n) = said.vmac.take().or(said.ipvlan.take()) {
        let text =
            format!("vrrp_instance '{name}' : '{}' without an 'interface' is not used, as in keepalived", n.words[0]);
        cx.lenient(Code::Lenient, &n.place, text);
    }
    let usual = cx.globals.default_interface.clone();
    let homeless = i.addresses_mut().filter(|v| v.dev.is_none());
    let n = homeless.map(|v| v.dev = Some(usual.clone())).count();
    if n > 0 {
        let text = format!(
            "vrrp_instance '{name}' : without an 'interface' each address needs its own: {n} of them go on {usual}, the default one; write 'dev <interface>' behind them"
        );
        cx.lenient(Code::Lenient, &block.place, text);
    }
}

/// What an instance without an interface lacks, once what is of the other family is left out.
fn lacks_interface(i: &VrrpInstance) -> Option<&'static str> {
    if !i.roams() {
        return None;
    }
    match i.unicast_src {
        _ if i.peers.is_empty() && i.vrf => Some("has 'vrf' and no unicast peer: name one, or an 'interface' instead"),
        _ if i.peers.is_empty() => Some("has no 'interface'"),
        None => Some("has no 'interface' and no 'unicast_src_ip': write one of them"),
        Some(_) if i.is_link_local() => {
            Some("has link-local addresses of unicast and no 'interface' on which they are: name it")
        }
        Some(_) => None,
    }
}

/// `use_vmac` of addresses, and `use_vmac_addr`: beside which interface theirs are, and which MAC address they have.
fn place_macs(i: &mut VrrpInstance, said: &Said<'_>) {
    let (six, vrid, interface) = (i.is_six(), i.vrid, i.interface.clone());
    let mac = i.vmac.as_ref().filter(|v| v.ipvlan.is_none()).map(|v| v.mac);
    for v in i.addresses_mut() {
        let elsewhere = v.dev.as_ref().is_some_and(|d| *d != interface);
        let other = v.addr.addr.is_ipv6();
        let implied = said.address_macs && (elsewhere || other != six);
        if v.own_mac.is_some() || implied {
            let base = v.dev.take().unwrap_or_else(|| interface.clone());
            let mac = mac.filter(|_| other == six).unwrap_or(Vmac::usual_mac(vrid, other));
            v.own_mac = Some(OwnMac { base, mac });
        }
    }
}

/// Words of an instance that do not go together; keepalived reports them and drops one.
fn said_with(cx: &mut Cx<'_>, i: &VrrpInstance, place: &Place, said: &Said<'_>) {
    let name = &i.name;
    let mut say = |code, what: String| cx.lenient(code, place, format!("vrrp_instance '{name}' : {what}"));
    if i.lacks_peer {
        say(Code::Lenient, "'unicast_fault_no_peer' and no 'unicast_peer': it stays in FAULT".into());
    } else if (i.check_unicast_src || said.peers) && i.peers.is_empty() {
        say(Code::Lenient, "it has words for unicast, but no 'unicast_peer': multicast is used".into());
    }
    if i.unicast_ttl.is_some() && i.peers.is_empty() {
        say(Code::Lenient, "'unicast_ttl' has no effect without unicast peers".into());
    }
    if !i.preempt_delay.is_zero() && (said.master.is_some() || i.priority == 255) {
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
    i.mcast_dst = i.mcast_dst.filter(|a| fits("mcast_dst_ip", a));
    i.peers.retain(|p| fits("unicast peer", &p.addr));
    i.lacks_peer &= i.peers.is_empty();
    // A bound on where adverts come from is one on who they come from.
    i.check_unicast_src |= i.peers.iter().any(Peer::is_bound);
}

/// `vrrp_strict`, `strict_mode`: what the RFCs do not have is left out, and said. Their accept mode is not followed: see `docs/compatibility.md`.
fn strict(cx: &mut Cx<'_>, i: &mut VrrpInstance, said: &mut Said<'_>, place: &Place) {
    i.strict = said.strict.unwrap_or(cx.globals.strict);
    if !i.strict {
        return;
    }
    let owner = i.priority == 255;
    let mut say = |what: &str| {
        let text = format!("vrrp_instance '{}' : strict mode {what}", i.name);
        cx.lenient(Code::Lenient, place, text);
    };
    if said.master.is_some() && !owner || said.backup && owner {
        say("wants 'state MASTER' with priority 255, and only with it");
        (i.initial_master, said.master) = (owner, None);
    }
    if i.auth != Auth::None {
        say("has no authentication: it is ignored, as keepalived does");
        i.auth = Auth::None;
    }
    if !i.preempt_delay.is_zero() {
        say("has no 'preempt_delay': it is ignored, as keepalived does");
        i.preempt_delay = Duration::ZERO;
    }
    if said.quiet_to_lower == Some(false) {
        say("does not answer lower adverts: 'lower_prio_no_advert false' is ignored, as keepalived does");
        said.quiet_to_lower = None;
    }
    if i.answers_higher {
        say("does not answer higher adverts: 'higher_prio_send_advert' is ignored, as keepalived does");
        i.answers_higher = false;
    }
    if !i.peers.is_empty() {
        say("does not know unicast peers");
    }
    if said.accept && i.version == VrrpVersion::V2 {
        say("has no accept mode in version 2: 'accept' is ignored, as keepalived does");
    }
    i.owner_deaf = true;
    let accepts = said.accept && i.version == VrrpVersion::V3;
    if !(owner || accepts) {
        let text = format!(
            "vrrp_instance '{}' : strict mode means that packets to the virtual addresses are dropped on who does not own them; here they are accepted, since the proxy answers on them",
            i.name
        );
        cx.report.notice(Code::NoEffect, place, text);
    }
}
