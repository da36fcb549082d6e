//! Routes and rules that move with an address, in the words of `ip route` and `ip rule` (keepalived.conf(5), `virtual_routes`, `virtual_rules`).
use crate::base::addr::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RT_TABLE_MAIN`
pub const MAIN_TABLE: u32 = 254;
/// `RTPROT_KEEPALIVED`: what such routes and rules are known by.
pub const PROTOCOL: u8 = 18;

/// Where a route stands among those that match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    #[default]
    Prepend,
    /// Only if there is none.
    Add,
    Append,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub to: IpNet,
    /// Of IPv6: `from`.
    pub from: Option<IpNet>,
    /// `RTN_UNICAST` and its like, as the kernel numbers them.
    pub kind: u8,
    pub via: Option<IpAddr>,
    /// `src`: what packets without an address get.
    pub src: Option<IpAddr>,
    pub dev: Option<String>,
    pub table: u32,
    /// `vrf`: its table is that of this VRF, and `table` is 0 until that is known.
    pub vrf: Option<String>,
    pub metric: Option<u32>,
    pub scope: Option<u8>,
    pub protocol: u8,
    pub tos: u8,
    pub onlink: bool,
    /// Attributes by their numbers (`RTAX_MTU` and its like), and the bits of those that are locked.
    pub metrics: Vec<(u16, u32)>,
    pub lock: u32,
    pub congestion: Option<String>,
    /// from, to
    pub realms: Option<(u16, u16)>,
    /// Router preference (RFC 4191), as the kernel numbers it.
    pub pref: Option<u8>,
    /// Seconds; of IPv6.
    pub expires: Option<u32>,
    pub hops: Vec<Hop>,
    pub order: Order,
    /// `no_track`
    pub untracked: bool,
    /// `track_group` of a static one
    pub group: Option<String>,
}

/// One of several ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    pub via: Option<IpAddr>,
    pub dev: Option<String>,
    /// 1 to 256
    pub weight: u16,
    pub onlink: bool,
    pub realms: Option<(u16, u16)>,
}

impl Route {
    pub fn to(to: IpNet) -> Self {
        Self {
            to,
            from: None,
            kind: 1,
            via: None,
            src: None,
            dev: None,
            table: MAIN_TABLE,
            vrf: None,
            metric: None,
            scope: None,
            protocol: PROTOCOL,
            tos: 0,
            onlink: false,
            metrics: Vec::new(),
            lock: 0,
            congestion: None,
            realms: None,
            pref: None,
            expires: None,
            hops: Vec::new(),
            order: Order::default(),
            untracked: false,
            group: None,
        }
    }

    /// As a line that means the same.
    pub fn text(&self) -> String {
        let mut t = String::new();
        let mut put = |words: &[&str]| {
            words.iter().for_each(|w| {
                t.push_str(if t.is_empty() { "" } else { " " });
                t.push_str(w);
            })
        };
        if let Some(k) = KINDS.iter().find(|k| k.1 == self.kind && k.1 != 1) {
            put(&[k.0]);
        }
        put(&[&spell(self.to)]);
        if let Some(f) = self.from {
            put(&["from", &spell(f)]);
        }
        if let Some(v) = self.via {
            put(&["via", &v.to_string()]);
        }
        if let Some(d) = &self.dev {
            put(&["dev", d]);
        }
        if let Some(s) = self.src {
            put(&["src", &s.to_string()]);
        }
        if let Some(v) = &self.vrf {
            put(&["vrf", v]);
        } else if self.table != MAIN_TABLE {
            put(&["table", &self.table.to_string()]);
        }
        if let Some(m) = self.metric {
            put(&["metric", &m.to_string()]);
        }
        if let Some(s) = self.scope {
            put(&["scope", &s.to_string()]);
        }
        if self.protocol != PROTOCOL {
            put(&["protocol", &self.protocol.to_string()]);
        }
        if self.tos > 0 {
            put(&["tos", &format!("{:#04x}", self.tos)]);
        }
        if self.onlink {
            put(&["onlink"]);
        }
        for (n, v) in &self.metrics {
            let Some(m) = METRICS.iter().find(|m| m.1 == *n) else { continue };
            // Times are written in milliseconds, the way they are read.
            let value = match m.0 {
                "rtt" => v / 8,
                "rttvar" => v / 4,
                "features" => {
                    put(&["features", "ecn"]);
                    continue;
                }
                _ => *v,
            };
            put(&[m.0]);
            if self.lock & (1 << n) != 0 {
                put(&["lock"]);
            }
            put(&[&value.to_string()]);
        }
        if let Some(c) = &self.congestion {
            put(&["congctl"]);
            if self.lock & (1 << CC_ALGO) != 0 {
                put(&["lock"]);
            }
            put(&[c]);
        }
        if let Some((a, b)) = self.realms {
            put(&["realms", &format!("{a}/{b}")]);
        }
        if let Some(p) = self.pref {
            put(&["pref", PREFERENCES.iter().find(|q| q.1 == p).map_or("medium", |q| q.0)]);
        }
        if let Some(e) = self.expires {
            put(&["expires", &e.to_string()]);
        }
        match self.order {
            Order::Prepend => {}
            Order::Add => put(&["add"]),
            Order::Append => put(&["append"]),
        }
        if self.untracked {
            put(&["no_track"]);
        }
        for h in &self.hops {
            put(&["nexthop"]);
            if let Some(v) = h.via {
                put(&["via", &v.to_string()]);
            }
            if let Some(d) = &h.dev {
                put(&["dev", d]);
            }
            put(&["weight", &h.weight.to_string()]);
            if h.onlink {
                put(&["onlink"]);
            }
            if let Some((a, b)) = h.realms {
                put(&["realms", &format!("{a}/{b}")]);
            }
        }
        t
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingRule {
    pub six: bool,
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    /// `not`
    pub inverted: bool,
    pub preference: u32,
    /// `FR_ACT_TO_TBL` and its like, as the kernel numbers them.
    pub action: u8,
    pub table: Option<u32>,
    pub goto: Option<u32>,
    pub tos: u8,
    /// mark, mask
    pub mark: Option<(u32, Option<u32>)>,
    pub iif: Option<String>,
    pub oif: Option<String>,
    pub realms: Option<(u16, u16)>,
    pub suppress_prefix: Option<u32>,
    pub suppress_group: Option<u32>,
    pub uids: Option<(u32, u32)>,
    pub l3mdev: bool,
    pub protocol: u8,
    pub ip_protocol: Option<u8>,
    pub sport: Option<(u16, u16)>,
    pub dport: Option<(u16, u16)>,
    pub tunnel: Option<u64>,
    pub untracked: bool,
    /// `track_group` of a static one
    pub group: Option<String>,
}

/// `FR_ACT_TO_TBL`, `FR_ACT_GOTO`
pub const TO_TABLE: u8 = 1;
pub const GOTO: u8 = 2;

impl RoutingRule {
    pub fn new(six: bool) -> Self {
        Self {
            six,
            from: None,
            to: None,
            inverted: false,
            preference: 0,
            action: TO_TABLE,
            table: None,
            goto: None,
            tos: 0,
            mark: None,
            iif: None,
            oif: None,
            realms: None,
            suppress_prefix: None,
            suppress_group: None,
            uids: None,
            l3mdev: false,
            protocol: PROTOCOL,
            ip_protocol: None,
            sport: None,
            dport: None,
            tunnel: None,
            untracked: false,
            group: None,
        }
    }

    /// As a line that means the same.
    pub fn text(&self) -> String {
        let mut t = Vec::<String>::new();
        let mut put = |word: &str, value: Option<String>| {
            if let Some(v) = value {
                t.extend([word.to_owned(), v]);
            }
        };
        let range = |r: Option<(u16, u16)>| r.map(|(a, b)| format!("{a}-{b}"));
        put("from", self.from.map(spell));
        put("to", self.to.map(spell));
        put("tos", (self.tos > 0).then(|| format!("{:#04x}", self.tos)));
        put("fwmark", self.mark.map(|(m, k)| k.map_or_else(|| m.to_string(), |k| format!("{m}/{k}"))));
        put("iif", self.iif.clone());
        put("oif", self.oif.clone());
        put("realms", self.realms.map(|(a, b)| format!("{a}/{b}")));
        put("suppress_prefixlength", self.suppress_prefix.map(|n| n.to_string()));
        put("suppress_ifgroup", self.suppress_group.map(|n| n.to_string()));
        put("uidrange", self.uids.map(|(a, b)| format!("{a}-{b}")));
        put("protocol", (self.protocol != PROTOCOL).then(|| self.protocol.to_string()));
        put("ip_proto", self.ip_protocol.map(|n| n.to_string()));
        put("sport", range(self.sport));
        put("dport", range(self.dport));
        put("tun_id", self.tunnel.map(|n| n.to_string()));
        put("preference", Some(self.preference.to_string()));
        put("table", self.table.map(|n| n.to_string()));
        put("goto", self.goto.map(|n| n.to_string()));
        let mut word = |is: bool, word: &str| {
            if is {
                t.push(word.to_owned());
            }
        };
        word(self.l3mdev, "l3mdev");
        if let Some(a) = ACTIONS.iter().find(|a| a.1 == self.action) {
            word(true, a.0);
        }
        word(self.untracked, "no_track");
        if self.inverted {
            t.insert(0, "not".to_owned());
        }
        if self.six {
            t.insert(0, "inet6".to_owned());
        }
        t.join(" ")
    }
}

fn spell(n: IpNet) -> String {
    format!("{}/{}", n.addr, n.prefix)
}

/// All addresses of a family: `default`.
pub fn anywhere(six: bool) -> IpNet {
    let addr = if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNet { addr, prefix: 0 }
}

/// Kinds of routes, as the kernel numbers them.
pub const KINDS: &[(&str, u8)] = &[
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
    ("throw", 9),
];

/// What a rule does that leads to no table and to no other rule.
pub const ACTIONS: &[(&str, u8)] = &[("nop", 3), ("blackhole", 6), ("unreachable", 7), ("prohibit", 8)];

/// `RTAX_CC_ALGO`
pub const CC_ALGO: u16 = 16;

/// Attributes of routes that are numbers.
pub const METRICS: &[(&str, u16)] = &[
    ("mtu", 2),
    ("window", 3),
    ("rtt", 4),
    ("rttvar", 5),
    ("ssthresh", 6),
    ("cwnd", 7),
    ("advmss", 8),
    ("reordering", 9),
    ("hoplimit", 10),
    ("initcwnd", 11),
    ("features", 12),
    ("rto_min", 13),
    ("initrwnd", 14),
    ("quickack", 15),
    ("fastopen_no_cookie", 17),
];

/// `pref`
pub const PREFERENCES: &[(&str, u8)] = &[("medium", 0), ("high", 1), ("low", 3)];
