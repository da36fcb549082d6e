//! `virtual_server_group` and `virtual_server`: read here, and made into sections of the proxy in `lower`.
mod checker;
mod lower;

use super::Cx;
use crate::base::code::Code;
use crate::base::diag::{Place, suggestion};
use crate::config::keepalived::parse::Node;
use crate::config::model::{Checker, FactOf, Persistence, Proxy, ScriptCall, VrrpModel};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Addresses of one virtual server, its ranges included.
const MAX_ADDRESSES: usize = 4096;
/// IPVS's own limit.
const MAX_WEIGHT: u32 = 65_535;

const MAX_QUORUM: u32 = u32::MAX / 2;

/// `lvs_sched`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    Rr,
    Wrr,
    Lc,
    Wlc,
    Lblc,
    Sh,
    Mh,
    Dh,
    Fo,
    Ovf,
    Sed,
    Nq,
    Twos,
}

const SCHEDULES: &[(&str, Schedule)] = &[
    ("rr", Schedule::Rr),
    ("wrr", Schedule::Wrr),
    ("lc", Schedule::Lc),
    ("wlc", Schedule::Wlc),
    ("lblc", Schedule::Lblc),
    ("lblcr", Schedule::Lblc),
    ("sh", Schedule::Sh),
    ("mh", Schedule::Mh),
    ("dh", Schedule::Dh),
    ("fo", Schedule::Fo),
    ("ovf", Schedule::Ovf),
    ("sed", Schedule::Sed),
    ("nq", Schedule::Nq),
    ("twos", Schedule::Twos),
];

/// What a virtual server says for its real servers, and those for their checkers.
#[derive(Clone, Default)]
struct Manners {
    timeout: Option<Duration>,
    retry: Option<u32>,
    retry_delay: Option<Duration>,
    every: Option<Duration>,
    warmup: Option<Duration>,
    alpha: bool,
    inhibit: bool,
    host: Option<String>,
}

struct Group {
    name: String,
    listens: Vec<(IpAddr, u16)>,
}

struct Virtual {
    place: Place,
    /// As keepalived names it, in the words of an address.
    name: String,
    listens: Vec<(IpAddr, u16)>,
    udp: bool,
    schedule: Schedule,
    /// `sh-port`, `mh-port`
    with_port: bool,
    /// A forwarding method is said.
    method: bool,
    persistence: Option<Persistence>,
    one_packet: bool,
    quorum: u32,
    hysteresis: u32,
    quorum_up: Option<ScriptCall>,
    quorum_down: Option<ScriptCall>,
    omega: bool,
    sorry: Option<(IpAddr, u16)>,
    sorry_inhibit: bool,
    mail: bool,
    /// Of real servers that do not say it.
    weight: u32,
    reals: Vec<Real>,
}

struct Real {
    place: Place,
    addr: IpAddr,
    port: u16,
    weight: u32,
    most: u32,
    alpha: bool,
    inhibit: bool,
    mail: bool,
    up: Option<ScriptCall>,
    down: Option<ScriptCall>,
    checkers: Vec<Checker>,
    /// What the guardian has to do for it, if it is taken.
    own: VrrpModel,
}

/// All virtual servers of a file.
#[derive(Default)]
pub(super) struct Servers {
    groups: Vec<Group>,
    all: Vec<Virtual>,
    /// One of them answers around the director.
    direct: Option<Place>,
}

impl Servers {
    /// `virtual_server_group <name> { <address>[-<last>|/<bits>] [<port>] ... }`
    pub(super) fn group(&mut self, cx: &mut Cx<'_>, block: &Node) {
        let Some(name) = cx.value(block).map(str::to_owned) else { return };
        let mut g = Group { name, listens: Vec::new() };
        for l in block.block.iter().flatten().filter(|l| !l.words.is_empty()) {
            if l.words[0] == "fwmark" {
                marked(cx, l);
                continue;
            }
            let port = l.words.get(1).map_or(Some(0), |p| port(cx, l, p)).unwrap_or(0);
            match range(&l.words[0]) {
                Some(all) => g.listens.extend(all.into_iter().map(|a| (a, port))),
                None => {
                    let text = format!(
                        "'{}' is neither an IP address nor a range of up to {MAX_ADDRESSES}; it is left out, as keepalived does",
                        l.words[0]
                    );
                    cx.lenient(Code::Lenient, &l.place, text);
                }
            }
        }
        self.groups.push(g);
    }

    /// `virtual_server <address> [<port>] | group <name> | fwmark <n> { ... }`
    pub(super) fn server(&mut self, cx: &mut Cx<'_>, block: &Node) {
        let Some(first) = cx.value(block).map(str::to_owned) else { return };
        let second = block.words.get(2).cloned();
        let (name, listens) = match (first.as_str(), &second) {
            ("fwmark", _) => return marked(cx, block),
            ("group", Some(g)) => match self.groups.iter().find(|k| k.name == *g) {
                Some(k) => (g.clone(), k.listens.clone()),
                None => {
                    let near = suggestion(g, self.groups.iter().map(|k| k.name.as_str()));
                    let text = format!(
                        "'virtual_server group {g}' : there is no virtual_server_group '{g}' above it{near}; it is left out"
                    );
                    return cx.lenient(Code::UnknownTarget, &block.place, text);
                }
            },
            (ip, p) => match ip.parse::<IpAddr>() {
                Ok(a) => {
                    let port = p.as_ref().map_or(Some(0), |p| port(cx, block, p)).unwrap_or(0);
                    (spell(a, port), vec![(a, port)])
                }
                Err(_) => {
                    let text = format!(
                        "'virtual_server {ip}' : '{ip}' is not an IP address; it is left out, as keepalived does"
                    );
                    return cx.lenient(Code::Lenient, &block.place, text);
                }
            },
        };
        if listens.iter().any(|l| l.1 == 0) {
            let text = format!(
                "'virtual_server {name}' has no port: that is known but not honoured yet, since only the kernel can take all ports of an address; name the ports that are served, in a virtual_server_group or a block each"
            );
            return cx.report.not_yet(&block.place, text);
        }
        if let Some(mut v) = self.body(cx, block, name, listens) {
            if self.all.iter().any(|o| o.udp == v.udp && o.listens.iter().any(|l| v.listens.contains(l))) {
                let text =
                    format!("'virtual_server {}' is there twice: the first one is kept, as keepalived does", v.name);
                return cx.lenient(Code::Duplicate, &block.place, text);
            }
            // No section of HAProxy's can be called so.
            v.name = format!("{}@{}", if v.udp { "udp" } else { "tcp" }, v.name);
            self.all.push(v);
        }
    }

    fn body(&mut self, cx: &mut Cx<'_>, block: &Node, name: String, listens: Vec<(IpAddr, u16)>) -> Option<Virtual> {
        let mut v = Virtual {
            place: block.place.clone(),
            name,
            listens,
            udp: false,
            schedule: Schedule::Wlc,
            with_port: false,
            method: false,
            persistence: None,
            one_packet: false,
            quorum: 1,
            hysteresis: 0,
            quorum_up: None,
            quorum_down: None,
            omega: false,
            sorry: None,
            sorry_inhibit: false,
            mail: cx.globals.alerts.of_servers().0,
            weight: 1,
            reals: Vec::new(),
        };
        let six = v.listens.first().is_some_and(|l| l.0.is_ipv6());
        let mut manners = Manners::default();
        let mut prefix = if six { 128 } else { 32 };
        let mut served = true;
        let mut hashing = Vec::new();
        // What it says counts for the real servers above it, too.
        let (servers, words): (Vec<&Node>, Vec<&Node>) =
            block.block.iter().flatten().filter(|n| !n.words.is_empty()).partition(|n| n.words[0] == "real_server");
        for n in words {
            match n.words[0].as_str() {
                "lb_algo" | "lvs_sched" => schedule(cx, n, &mut v.schedule),
                w @ ("lb_kind" | "lvs_method" | "sorry_server_lvs_method") => {
                    v.method |= self.method(cx, n) && w != "sorry_server_lvs_method";
                }
                "protocol" => match cx.value(n).map(str::to_uppercase).as_deref() {
                    Some("TCP") => v.udp = false,
                    Some("UDP") => v.udp = true,
                    Some("SCTP") => {
                        let text = format!(
                            "'virtual_server {}' : SCTP is known but not honoured yet; stay with IPVS for it",
                            v.name
                        );
                        cx.report.not_yet(&n.place, text);
                        served = false;
                    }
                    Some(o) => {
                        let text = format!(
                            "'protocol {o}' is not known; TCP is used, as keepalived does{}",
                            suggestion(o, ["TCP", "UDP", "SCTP"])
                        );
                        cx.lenient(Code::Lenient, &n.place, text);
                    }
                    None => {}
                },
                "persistence_timeout" => {
                    let secs = if n.words.len() > 1 { cx.number(n, 1u64, 2_678_400) } else { None };
                    v.persistence = Some(Persistence { timeout: Duration::from_secs(secs.unwrap_or(360)), prefix });
                }
                "persistence_granularity" => {
                    if let Some(p) = granularity(cx, n, six) {
                        prefix = p;
                    }
                }
                "persistence_engine" => {
                    let text = "'persistence_engine' is known but not honoured yet: clients are told apart by their addresses, not by what SIP says";
                    cx.report.not_yet(&n.place, text.to_owned());
                }
                "ops" => v.one_packet = true,
                "sh-port" | "sh-fallback" | "hashed" => hashing.push((Schedule::Sh, n)),
                "mh-port" | "mh-fallback" => hashing.push((Schedule::Mh, n)),
                "flag-2" => v.with_port = true,
                "quorum" => v.quorum = cx.number(n, 1u32, MAX_QUORUM).unwrap_or(1),
                "hysteresis" => v.hysteresis = cx.number(n, 0u32, MAX_QUORUM).unwrap_or(0),
                "quorum_up" => v.quorum_up = script(cx, n),
                "quorum_down" => v.quorum_down = script(cx, n),
                "smtp_alert" => v.mail = cx.flag(n),
                "weight" => v.weight = cx.number(n, 0u32, MAX_WEIGHT).unwrap_or(1),
                "omega" => v.omega = cx.flag(n),
                "sorry_server" => v.sorry = address(cx, n),
                "sorry_server_inhibit" if v.sorry.is_some() => v.sorry_inhibit = true,
                "sorry_server_inhibit" => {
                    let text =
                        "'sorry_server_inhibit' in front of or without 'sorry_server': ignored as keepalived does"
                            .to_owned();
                    cx.lenient(Code::Lenient, &n.place, text);
                }
                _ if manner(cx, n, &mut manners) => {}
                _ => cx.unknown(n, "virtual_server"),
            }
        }
        for (schedule, n) in hashing {
            let w = n.words[0].as_str();
            if v.schedule != schedule {
                let text = format!(
                    "'{w}' goes with a scheduler that hashes, which this one is not; ignored as keepalived does"
                );
                cx.lenient(Code::Lenient, &n.place, text);
            } else {
                v.with_port |= w.ends_with("-port");
            }
            if !w.ends_with("-port") {
                cx.unknown(n, "virtual_server");
            }
        }
        if let Some(p) = v.persistence.as_mut() {
            p.prefix = prefix;
        }
        if v.one_packet && !v.udp {
            let text = format!("'virtual_server {}' : 'ops' is for UDP; ignored as keepalived does", v.name);
            cx.lenient(Code::Lenient, &v.place, text);
            v.one_packet = false;
        }
        if !v.method && served {
            let text =
                format!("'virtual_server {}' has no forwarding method: NAT is taken, as keepalived does", v.name);
            cx.lenient(Code::Lenient, &v.place, text);
        }
        if v.sorry.is_some_and(|s| s.0.is_ipv6() != six) {
            let text = format!(
                "the sorry server of 'virtual_server {}' is of another address family; it is left out, as keepalived does",
                v.name
            );
            cx.lenient(Code::AddressFamily, &v.place, text);
            v.sorry = None;
        }
        v.hysteresis = v.hysteresis.min(MAX_QUORUM);
        if v.hysteresis >= v.quorum {
            if v.hysteresis > 0 {
                let text = format!(
                    "'virtual_server {}' : 'hysteresis {}' has to be less than 'quorum {}'; {} is used, as keepalived does",
                    v.name,
                    v.hysteresis,
                    v.quorum,
                    v.quorum - 1
                );
                cx.lenient(Code::Number, &v.place, text);
            }
            v.hysteresis = v.quorum - 1;
        }
        for n in servers {
            if let Some(r) = self.real(cx, n, &v, &manners) {
                if v.reals.iter().any(|o| (o.addr, o.port) == (r.addr, r.port)) {
                    let text = format!(
                        "real_server {} is there twice in 'virtual_server {}'; the first one is kept, as keepalived does",
                        spell(r.addr, r.port),
                        v.name
                    );
                    cx.lenient(Code::Duplicate, &n.place, text);
                } else if r.addr.is_ipv6() != six {
                    let text = format!(
                        "real_server {} is of another address family than 'virtual_server {}'; it is left out, as keepalived does",
                        spell(r.addr, r.port),
                        v.name
                    );
                    cx.lenient(Code::AddressFamily, &n.place, text);
                } else {
                    v.reals.push(r);
                }
            }
        }
        let total = v.reals.iter().fold(0u32, |n, r| n.saturating_add(r.weight));
        if v.quorum > total && !v.reals.is_empty() {
            let text = format!(
                "'virtual_server {}' : its servers weigh {total} in all, less than 'quorum {}'; {total} is used, as keepalived does",
                v.name, v.quorum
            );
            cx.lenient(Code::Number, &v.place, text);
            v.quorum = total.max(1);
            v.hysteresis = v.hysteresis.min(v.quorum - 1);
        }
        if v.reals.is_empty() {
            let text = format!("'virtual_server {}' has no real server; it is left out, as keepalived does", v.name);
            cx.lenient(Code::NoServer, &v.place, text);
            return None;
        }
        if let Some(a) = v.sorry.as_mut().filter(|a| a.1 == 0) {
            a.1 = v.listens.first().map_or(0, |l| l.1);
        }
        served.then_some(v)
    }

    fn real(&mut self, cx: &mut Cx<'_>, block: &Node, v: &Virtual, from: &Manners) -> Option<Real> {
        let (addr, port) = address(cx, block)?;
        // Where no port is said it is the virtual server's.
        let port = if port > 0 { port } else { v.listens.first()?.1 };
        let mut r = Real {
            place: block.place.clone(),
            addr,
            port,
            weight: v.weight,
            most: 0,
            alpha: false,
            inhibit: false,
            mail: cx.globals.alerts.of_servers().1,
            up: None,
            down: None,
            checkers: Vec::new(),
            own: VrrpModel::default(),
        };
        let mut manners = from.clone();
        let (checks, words): (Vec<&Node>, Vec<&Node>) =
            block.block.iter().flatten().filter(|n| !n.words.is_empty()).partition(|n| checker::is_one(&n.words[0]));
        for n in words {
            match n.words[0].as_str() {
                "weight" => r.weight = cx.number(n, 0u32, MAX_WEIGHT).unwrap_or(r.weight),
                "lvs_method" => drop(self.method(cx, n)),
                "uthreshold" => r.most = cx.number(n, 0u32, u32::MAX).unwrap_or(0),
                "smtp_alert" => r.mail = cx.flag(n),
                "notify_up" => r.up = script(cx, n),
                "notify_down" => r.down = script(cx, n),
                _ if manner(cx, n, &mut manners) => {}
                w if checker::has(w) => {
                    let text = format!(
                        "'{w}' belongs into the block of a checker, not into 'real_server'; ignored as keepalived does"
                    );
                    cx.lenient(Code::UnknownWord, &n.place, text);
                }
                _ => cx.unknown(n, "real_server"),
            }
        }
        let at = checker::At { server: spell(addr, port), weight: r.weight, section: &v.name, udp: v.udp };
        for n in checks {
            let read = checker::read(cx, n, &manners, &at, &mut r.own);
            r.checkers.extend(read);
        }
        r.alpha = manners.alpha || r.checkers.iter().any(|c| c.alpha);
        r.inhibit = manners.inhibit;
        Some(r)
    }

    /// `lvs_method`: how packets would go. Here connections are made. True if it is one.
    fn method(&mut self, cx: &mut Cx<'_>, n: &Node) -> bool {
        match cx.value(n) {
            Some("DR" | "TUN") => {
                self.direct.get_or_insert_with(|| n.place.clone());
            }
            Some("NAT") | None => {}
            Some(o) => {
                let text = format!(
                    "'{} {o}' is not known; NAT is used, as keepalived does{}",
                    n.words[0],
                    suggestion(&o.to_uppercase(), ["NAT", "DR", "TUN"])
                );
                cx.lenient(Code::Lenient, &n.place, text);
            }
        }
        true
    }

    /// All of them as sections of the proxy; what the guardian has to know goes into `m`.
    pub(super) fn sections(self, cx: &mut Cx<'_>, m: &mut VrrpModel) -> Vec<Proxy> {
        for f in self.all.iter().flat_map(|v| &v.reals).flat_map(|r| &r.own.facts) {
            let (what, name, there) = match &f.of {
                FactOf::Script { .. } => continue,
                FactOf::File { name, .. } => ("track_file", name, m.files.iter().any(|t| t.name == *name)),
                FactOf::Bfd { name } => ("bfd_instance", name, m.bfds.iter().any(|b| b.name == *name)),
            };
            if !there {
                let text = format!("{} : there is no {what} '{name}'; it decides nothing", f.key);
                cx.lenient(Code::UnknownTracked, &super::place_of(&f.place), text);
            }
        }
        let Some(first) = self.all.first() else { return Vec::new() };
        let mut text = "virtual servers are served by the proxy, not by the kernel's IPVS: real servers see connections that come from this node".to_owned();
        if let Some(at) = &self.direct {
            text.push_str(&format!("; with DR and TUN ({at}) answers went around it: they come back through it now, and real servers need neither the address nor a tunnel"));
        }
        cx.report.notice(Code::Remark, &first.place, text);
        self.all.into_iter().map(|v| lower::section(v, m)).collect()
    }
}

/// What only the kernel can do.
fn marked(cx: &mut Cx<'_>, n: &Node) {
    let text = "'fwmark' is known but not honoured yet: packets that the firewall marks go to the kernel's IPVS, which is not driven from here; name the addresses and ports that are served";
    cx.report.not_yet(&n.place, text.to_owned());
}

fn spell(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

fn port(cx: &mut Cx<'_>, n: &Node, text: &str) -> Option<u16> {
    let found = text.parse().ok().filter(|p| *p > 0);
    if found.is_none() {
        cx.report.error(Code::Number, &n.place, format!("'{text}' is not a port: a number from 1 to 65535"));
    }
    found
}

/// `<word> <address> [<port>]`; 0 where no port is said.
fn address(cx: &mut Cx<'_>, n: &Node) -> Option<(IpAddr, u16)> {
    let Ok(ip) = cx.value(n)?.parse() else {
        let text =
            format!("'{} {}' : that is not an IP address; it is left out, as keepalived does", n.words[0], n.words[1]);
        cx.lenient(Code::Lenient, &n.place, text);
        return None;
    };
    Some((ip, n.words.get(2).map_or(Some(0), |p| port(cx, n, p))?))
}

fn schedule(cx: &mut Cx<'_>, n: &Node, to: &mut Schedule) {
    let Some(w) = cx.value(n) else { return };
    match SCHEDULES.iter().find(|s| s.0 == w) {
        Some(s) => *to = s.1,
        None => {
            let text = format!(
                "'{} {w}' is not known; wlc is used{}",
                n.words[0],
                suggestion(w, SCHEDULES.iter().map(|s| s.0))
            );
            cx.lenient(Code::Lenient, &n.place, text);
        }
    }
}

/// `persistence_granularity <mask>`: as dotted quad, or a prefix length.
fn granularity(cx: &mut Cx<'_>, n: &Node, six: bool) -> Option<u8> {
    let w = cx.value(n)?;
    let most = if six { 128 } else { 32 };
    let length = match w.parse::<Ipv4Addr>() {
        Ok(mask) if !six && u32::from(mask).leading_ones() == u32::from(mask).count_ones() => {
            u8::try_from(u32::from(mask).count_ones()).ok()
        }
        Ok(_) => None,
        Err(_) => w.parse().ok(),
    };
    let length = length.filter(|l| (1..=most).contains(l));
    if length.is_none() {
        let text = format!(
            "'persistence_granularity {w}' is neither a netmask nor a prefix length from 1 to {most}; it is left out"
        );
        cx.lenient(Code::Value, &n.place, text);
    }
    length
}

/// `<word> <script> [<user> [<group>]]`
fn script(cx: &mut Cx<'_>, n: &Node) -> Option<ScriptCall> {
    let command = cx.value(n)?.to_owned();
    let user = n.words.get(2).map(|u| (u.clone(), n.words.get(3).cloned()));
    Some(ScriptCall { command, user })
}

/// Words that virtual servers, real servers and checkers have in common. False if it is none.
fn manner(cx: &mut Cx<'_>, n: &Node, to: &mut Manners) -> bool {
    match n.words[0].as_str() {
        "connect_timeout" => to.timeout = cx.seconds(n, 0.001, 4294.0).or(to.timeout),
        "retry" => to.retry = cx.number(n, 0u32, u32::MAX).or(to.retry),
        "delay_before_retry" => to.retry_delay = cx.seconds(n, 0.0, 4294.0).or(to.retry_delay),
        "delay_loop" => to.every = cx.seconds(n, 0.001, 4294.0).or(to.every),
        "warmup" => to.warmup = cx.seconds(n, 0.0, 4294.0).or(to.warmup),
        "alpha" => to.alpha = cx.flag(n),
        "inhibit_on_failure" => to.inhibit = cx.flag(n),
        "virtualhost" => match n.words.get(1) {
            Some(h) => to.host = Some(h.clone()),
            None => cx.lenient(Code::Lenient, &n.place, "'virtualhost' is missing its value".to_owned()),
        },
        _ => return false,
    }
    true
}

/// `10.0.0.1`, `10.0.0.1-9`, `10.0.0.250-10.0.1.5`, `10.0.0.8/29`, and the like of IPv6, whose last part is hexadecimal.
fn range(word: &str) -> Option<Vec<IpAddr>> {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    };
    let (first, last) = if let Some((ip, bits)) = word.split_once('/') {
        let ip: IpAddr = ip.parse().ok()?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.parse().ok().filter(|b| *b <= width)?;
        let size = 1u128.checked_shl(width - bits).filter(|s| *s <= MAX_ADDRESSES as u128)?;
        let base = number(ip) & !(size - 1);
        (as_ip(base, ip), base + size - 1)
    } else if let Some((a, b)) = word.split_once('-') {
        let a: IpAddr = a.parse().ok()?;
        let last = match (b.parse::<IpAddr>(), a) {
            (Ok(b), _) if b.is_ipv4() == a.is_ipv4() => number(b),
            (Ok(_), _) => return None,
            (Err(_), IpAddr::V4(_)) => number(a) & !0xff | u128::from(b.parse::<u8>().ok()?),
            (Err(_), IpAddr::V6(_)) => number(a) & !0xffff | u128::from(u16::from_str_radix(b, 16).ok()?),
        };
        (a, last)
    } else {
        let a: IpAddr = word.parse().ok()?;
        (a, number(a))
    };
    let begin = number(first);
    let count = last.checked_sub(begin)?;
    (count < MAX_ADDRESSES as u128).then(|| (begin..=last).map(|n| as_ip(n, first)).collect())
}

/// The address of this number, of the family of `like`.
fn as_ip(n: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(n).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let ips = |w: &str| range(w).map(|v| v.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        assert_eq!(ips("10.0.0.1").unwrap(), ["10.0.0.1"]);
        assert_eq!(ips("10.0.0.1-3").unwrap(), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(ips("10.0.0.255-10.0.1.0").unwrap(), ["10.0.0.255", "10.0.1.0"]);
        assert_eq!(ips("10.0.0.8/30").unwrap(), ["10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11"]);
        assert_eq!(ips("2001:db8::fe-100").unwrap(), ["2001:db8::fe", "2001:db8::ff", "2001:db8::100"]);
        for bad in ["10.0.0.9-3", "10.0.0.0/8", "10.0.0.1-2001:db8::", "x", "10.0.0.1-300", "::/0", "10.0.0.1/33"] {
            assert!(range(bad).is_none(), "{bad}");
        }
    }
}
