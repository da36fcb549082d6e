//! Routes and rules through rtnetlink.
use crate::base::addr::IpNet;
use crate::config::model::{Hop, Order, Route, RoutingRule};
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RoutePreference, RouteProtocol, RouteRealm, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange, RuleUidRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use std::net::IpAddr;

/// Something that goes with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Route(Route),
    Rule(RoutingRule),
}

impl Way {
    pub fn is_untracked(&self) -> bool {
        match self {
            Self::Route(r) => r.untracked,
            Self::Rule(r) => r.untracked,
        }
    }

    /// As the kernel knows it.
    pub fn plain(&self) -> Self {
        let mut w = self.clone();
        match &mut w {
            Self::Route(r) => (r.group, r.untracked) = (None, false),
            Self::Rule(r) => (r.group, r.untracked) = (None, false),
        }
        w
    }

    /// `track_group`
    pub fn group(&self) -> Option<&String> {
        match self {
            Self::Route(r) => r.group.as_ref(),
            Self::Rule(r) => r.group.as_ref(),
        }
    }

    /// With the table of its VRF, which `table` knows by that one's name.
    pub fn settled(mut self, table: impl Fn(&str) -> Option<u32>) -> Self {
        if let Self::Route(Route { vrf: Some(v), table: t, .. }) = &mut self {
            *t = table(v).unwrap_or(0);
        }
        self
    }

    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Route(r) => format!("route {}", r.text()),
            Self::Rule(r) => format!("rule {}", r.text()),
        }
    }

    /// An IPv6 route with this source: when that address goes, the kernel leaves the route without it, and says nothing.
    pub fn loses_its_source(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Route(r) if r.to.addr.is_ipv6() && r.src == Some(ip))
    }

    /// True if it names no interface, and its gateway is in this network.
    pub fn leads_into(&self, net: IpNet) -> bool {
        match self {
            Self::Route(r) => {
                let inside = |via: Option<IpAddr>| via.is_some_and(|ip| net.contains(ip));
                r.dev.is_none() && inside(r.via) || r.hops.iter().any(|h| h.dev.is_none() && inside(h.via))
            }
            Self::Rule(_) => false,
        }
    }

    /// The interface that it names.
    pub fn names(&self, dev: &str) -> bool {
        match self {
            Self::Route(r) => {
                [&r.dev, &r.vrf].iter().any(|d| d.as_deref() == Some(dev))
                    || r.hops.iter().any(|h| h.dev.as_deref() == Some(dev))
            }
            Self::Rule(_) => false,
        }
    }
}

/// What the kernel says has gone, as far as it can be told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    Route {
        six: bool,
        to: Option<(IpAddr, u8)>,
        table: u32,
        metric: u32,
        protocol: u8,
        tos: u8,
        /// Next hop, where there is one.
        via: Option<IpAddr>,
        /// Index of the interface; 0 where none is said.
        dev: u32,
    },
    Rule {
        six: bool,
        preference: u32,
        protocol: u8,
    },
}

impl Gone {
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Route { protocol, .. } | Self::Rule { protocol, .. } => *protocol,
        }
    }

    /// `index` knows interfaces by their names.
    pub fn is(&self, w: &Way, index: impl Fn(&str) -> Option<u32>) -> bool {
        match (self, w) {
            (Self::Route { six, to, table, metric, protocol, tos, via, dev }, Way::Route(r)) => {
                // The kernel gives an IPv6 route that says none this one.
                let usual = if *six { 1024 } else { 0 };
                let another = |name: &String| *dev != 0 && index(name).is_some_and(|i| i != *dev);
                // Of several next hops the notice may name any.
                let same_hop = !r.hops.is_empty() || *via == r.via && !r.dev.as_ref().is_some_and(another);
                same_hop
                    && *tos == r.tos
                    && *six == r.to.addr.is_ipv6()
                    && (*to).map_or(r.to.prefix == 0, |t| t == (r.to.addr, r.to.prefix))
                    && *table == r.table
                    && *metric == r.metric.unwrap_or(usual)
                    && *protocol == r.protocol
            }
            (Self::Rule { six, preference, protocol }, Way::Rule(r)) => {
                *six == r.six && *preference == r.preference && *protocol == r.protocol
            }
            _ => false,
        }
    }

    /// Out of a notice of the kernel.
    pub fn of(m: &RouteNetlinkMessage) -> Option<Self> {
        let family = |f: AddressFamily| match f {
            AddressFamily::Inet => Some(false),
            AddressFamily::Inet6 => Some(true),
            _ => None,
        };
        match m {
            RouteNetlinkMessage::DelRoute(r) => {
                let (mut to, mut table, mut metric) = (None, u32::from(r.header.table), 0);
                let (mut via, mut dev) = (None, 0);
                let ip = |a: &RouteAddress| match a {
                    RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
                    RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
                    _ => None,
                };
                for a in &r.attributes {
                    match a {
                        RouteAttribute::Destination(d) => {
                            to = ip(d).map(|ip| (ip, r.header.destination_prefix_length));
                        }
                        RouteAttribute::Gateway(g) => via = ip(g),
                        RouteAttribute::Via(RouteVia::Inet6(a)) => via = Some(IpAddr::V6(*a)),
                        RouteAttribute::Via(RouteVia::Inet(a)) => via = Some(IpAddr::V4(*a)),
                        RouteAttribute::Oif(i) => dev = *i,
                        RouteAttribute::Table(t) => table = *t,
                        RouteAttribute::Priority(p) => metric = *p,
                        _ => {}
                    }
                }
                let six = family(r.header.address_family)?;
                let (protocol, tos) = (r.header.protocol.into(), r.header.tos);
                Some(Self::Route { six, to, table, metric, protocol, tos, via, dev })
            }
            RouteNetlinkMessage::DelRule(r) => {
                let (mut preference, mut protocol) = (0, 0);
                for a in &r.attributes {
                    match a {
                        RuleAttribute::Priority(p) => preference = *p,
                        RuleAttribute::Protocol(p) => protocol = u8::from(*p),
                        _ => {}
                    }
                }
                Some(Self::Rule { six: family(r.header.family)?, preference, protocol })
            }
            _ => None,
        }
    }
}

fn family(six: bool) -> AddressFamily {
    if six { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn index(name: &str) -> Result<u32, String> {
    nix::net::if_::if_nametoindex(name).map_err(|_| format!("there is no interface {name}"))
}

fn realm((source, destination): (u16, u16)) -> RouteRealm {
    RouteRealm { source, destination }
}

/// By way of an address, of the other family if need be (RFC 5549).
fn via(six: bool, ip: IpAddr) -> RouteAttribute {
    match ip {
        IpAddr::V6(a) if !six => RouteAttribute::Via(RouteVia::Inet6(a)),
        ip => RouteAttribute::Gateway(ip.into()),
    }
}

/// The request that adds a way, or takes it off.
pub fn request(w: &Way, add: bool) -> Result<NetlinkMessage<RouteNetlinkMessage>, String> {
    let (inner, order) = match w {
        Way::Route(r) => {
            let m = route(r, add)?;
            let order = match r.order {
                Order::Prepend => 0,
                Order::Add => NLM_F_EXCL,
                Order::Append => NLM_F_APPEND,
            };
            (if add { RouteNetlinkMessage::NewRoute(m) } else { RouteNetlinkMessage::DelRoute(m) }, order)
        }
        Way::Rule(r) => {
            let m = rule(r);
            (if add { RouteNetlinkMessage::NewRule(m) } else { RouteNetlinkMessage::DelRule(m) }, NLM_F_EXCL)
        }
    };
    let mut req = NetlinkMessage::from(inner);
    req.header.flags = NLM_F_REQUEST | NLM_F_ACK | if add { NLM_F_CREATE | order } else { 0 };
    Ok(req)
}

fn route(r: &Route, add: bool) -> Result<RouteMessage, String> {
    let six = r.to.addr.is_ipv6();
    if let (Some(v), 0) = (&r.vrf, r.table) {
        // Table 0 is the main one to the kernel.
        return Err(format!("there is no VRF {v}"));
    }
    let mut m = RouteMessage::default();
    let h = &mut m.header;
    h.address_family = family(six);
    h.destination_prefix_length = r.to.prefix;
    h.tos = r.tos;
    h.table = u8::try_from(r.table).unwrap_or(0);
    h.protocol = RouteProtocol::from(r.protocol);
    h.kind = RouteType::from(r.kind);
    // What a route without a next hop reaches directly is on the link.
    let direct = r.via.is_none() && r.hops.is_empty() && matches!(r.kind, 1 | 4);
    let usual = match r.kind {
        2 => 254,
        3 => 253,
        1 | 4 | 5 if direct && !six => 253,
        _ => 0,
    };
    h.scope = RouteScope::from(r.scope.unwrap_or(usual));
    if !add && r.scope.is_none() {
        h.scope = RouteScope::from(255);
    }
    if r.onlink {
        h.flags |= RouteFlags::Onlink;
    }
    let a = &mut m.attributes;
    if r.to.prefix > 0 {
        a.push(RouteAttribute::Destination(r.to.addr.into()));
    }
    if let Some(f) = r.from {
        m.header.source_prefix_length = f.prefix;
        a.push(RouteAttribute::Source(f.addr.into()));
    }
    a.push(RouteAttribute::Table(r.table));
    if let Some(ip) = r.via {
        a.push(via(six, ip));
    }
    if let Some(s) = r.src {
        a.push(RouteAttribute::PrefSource(s.into()));
    }
    if let Some(d) = &r.dev {
        a.push(RouteAttribute::Oif(index(d)?));
    }
    if let Some(p) = r.metric {
        a.push(RouteAttribute::Priority(p));
    }
    if let Some(x) = r.realms {
        a.push(RouteAttribute::Realm(realm(x)));
    }
    if !r.hops.is_empty() {
        let all: Result<Vec<RouteNextHop>, String> = r.hops.iter().map(|h| hop(h, six)).collect();
        a.push(RouteAttribute::MultiPath(all?));
    }
    if add {
        let mut metrics: Vec<RouteMetric> = Vec::new();
        if r.lock > 0 {
            metrics.push(RouteMetric::Lock(r.lock));
        }
        metrics.extend(r.metrics.iter().filter_map(|(n, v)| metric(*n, *v)));
        if let Some(c) = &r.congestion {
            metrics.push(RouteMetric::CcAlgo(c.clone()));
        }
        if !metrics.is_empty() {
            a.push(RouteAttribute::Metrics(metrics));
        }
        if let Some(p) = r.pref {
            a.push(RouteAttribute::Preference(match p {
                0 => RoutePreference::Medium,
                1 => RoutePreference::High,
                _ => RoutePreference::Low,
            }));
        }
        if let Some(e) = r.expires {
            a.push(RouteAttribute::Expires(e));
        }
    }
    Ok(m)
}

fn hop(h: &Hop, six: bool) -> Result<RouteNextHop, String> {
    let mut n = RouteNextHop::default();
    n.hops = u8::try_from(h.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    if let Some(d) = &h.dev {
        n.interface_index = index(d)?;
    }
    if h.onlink {
        n.flags |= RouteNextHopFlags::Onlink;
    }
    if let Some(ip) = h.via {
        n.attributes.push(via(six, ip));
    }
    if let Some(x) = h.realms {
        n.attributes.push(RouteAttribute::Realm(realm(x)));
    }
    Ok(n)
}

fn metric(n: u16, v: u32) -> Option<RouteMetric> {
    Some(match n {
        2 => RouteMetric::Mtu(v),
        3 => RouteMetric::Window(v),
        4 => RouteMetric::Rtt(v),
        5 => RouteMetric::RttVar(v),
        6 => RouteMetric::SsThresh(v),
        7 => RouteMetric::Cwnd(v),
        8 => RouteMetric::Advmss(v),
        9 => RouteMetric::Reordering(v),
        10 => RouteMetric::Hoplimit(v),
        11 => RouteMetric::InitCwnd(v),
        12 => RouteMetric::Features(v),
        13 => RouteMetric::RtoMin(v),
        14 => RouteMetric::InitRwnd(v),
        15 => RouteMetric::QuickAck(v),
        17 => RouteMetric::FastopenNoCookie(v),
        _ => return None,
    })
}

fn rule(r: &RoutingRule) -> RuleMessage {
    let mut m = RuleMessage::default();
    let h = &mut m.header;
    h.family = family(r.six);
    h.tos = r.tos;
    h.action = RuleAction::from(r.action);
    if r.inverted {
        h.flags |= RuleFlags::Invert;
    }
    let a = &mut m.attributes;
    if let Some(n) = r.from {
        h.src_len = n.prefix;
        a.push(RuleAttribute::Source(n.addr));
    }
    if let Some(n) = r.to {
        h.dst_len = n.prefix;
        a.push(RuleAttribute::Destination(n.addr));
    }
    a.push(RuleAttribute::Priority(r.preference));
    let mut put = |o: Option<RuleAttribute>| a.extend(o);
    put(r.table.map(RuleAttribute::Table));
    put(r.goto.map(RuleAttribute::Goto));
    put(r.mark.map(|m| RuleAttribute::FwMark(m.0)));
    put(r.mark.and_then(|m| m.1).map(RuleAttribute::FwMask));
    put(r.iif.clone().map(RuleAttribute::Iifname));
    put(r.oif.clone().map(RuleAttribute::Oifname));
    put(r.realms.map(|x| RuleAttribute::Realm(realm(x))));
    put(r.suppress_prefix.map(RuleAttribute::SuppressPrefixLen));
    put(r.suppress_group.map(RuleAttribute::SuppressIfGroup));
    put(r.uids.map(|(start, end)| RuleAttribute::UidRange(RuleUidRange { start, end })));
    put(r.l3mdev.then_some(RuleAttribute::L3MDev(true)));
    put(Some(RuleAttribute::Protocol(RouteProtocol::from(r.protocol))));
    put(r.ip_protocol.map(|n| RuleAttribute::IpProtocol(IpProtocol::from(n))));
    let range = |(start, end)| RulePortRange { start, end };
    put(r.sport.map(|x| RuleAttribute::SourcePortRange(range(x))));
    put(r.dport.map(|x| RuleAttribute::DestinationPortRange(range(x))));
    put(r.tunnel.map(RuleAttribute::TunId));
    m
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkPayload;

    #[test]
    fn a_route_of_a_vrf_waits_for_its_table() {
        let to = IpNet::parse("10.1.0.0/16").unwrap();
        let w =
            Way::Route(Route { vrf: Some("blue".into()), table: 0, via: Some([10, 0, 0, 1].into()), ..Route::to(to) });
        assert_eq!(request(&w.clone().settled(|_| None), true).unwrap_err(), "there is no VRF blue");
        let w = w.settled(|v| (v == "blue").then_some(77));
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(m)) = request(&w, true).unwrap().payload else {
            panic!("another message")
        };
        assert!(m.header.table == 77 && m.attributes.contains(&RouteAttribute::Table(77)), "{m:?}");
        let mut gone = Gone::of(&RouteNetlinkMessage::DelRoute(m)).unwrap();
        assert!(gone.is(&w, |_| None));
        if let Gone::Route { table, .. } = &mut gone {
            *table = 254;
        }
        assert!(!gone.is(&w, |_| None));
        assert_eq!(w.text(), "route 10.1.0.0/16 via 10.0.0.1 vrf blue");
    }
}
