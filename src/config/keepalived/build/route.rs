//! Routes and rules: `virtual_routes`, `virtual_rules`, `static_routes`, `static_rules`.
use super::Cx;
use super::address::scope;
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::config::keepalived::parse::Node;
use crate::config::route::{
    ACTIONS, CC_ALGO, GOTO, Hop, KINDS, METRICS, Order, PREFERENCES, Route, RoutingRule, TO_TABLE, anywhere,
};
use std::net::IpAddr;

/// Rules that say no preference get this one, and those behind them one less each, as keepalived counts.
pub(super) const FIRST_PREFERENCE: u32 = 16_384;

impl Names for Cx<'_> {
    fn number(&mut self, file: &str, name: &str) -> Option<u32> {
        number_in(&self.source.read(&format!("/etc/iproute2/{file}")).ok()?, name)
    }
}

/// `<number> <name>` lines; numbers may be hexadecimal.
pub fn number_in(text: &[u8], name: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|l| {
        let mut w = l.split_whitespace();
        let n = w.next()?;
        let n = n.strip_prefix("0x").map_or_else(|| n.parse().ok(), |h| u32::from_str_radix(h, 16).ok())?;
        (w.next() == Some(name)).then_some(n)
    })
}

/// Words of old, and those of now.
const OLD: &[(&str, &str)] = &[("gw", "via"), ("or", "nexthop")];

pub(super) fn routes(cx: &mut Cx<'_>, block: &Node, to: &mut Vec<Route>) {
    for n in cx.lines(block) {
        if let Some(old) = n.words.iter().find_map(|w| OLD.iter().find(|o| o.0 == w)) {
            let text = format!("'{}' in a route is deprecated; say '{}'", old.0, old.1);
            cx.lenient(Code::Lenient, &n.place, text);
        }
        if n.words.iter().any(|w| w == "proto") {
            let text = "'proto' is not known in a route: it is left out, as keepalived does. Say 'protocol'".to_owned();
            cx.lenient(Code::UnknownWord, &n.place, text);
            continue;
        }
        match route(&n.words, cx) {
            Ok(r) => to.push(r),
            Err(e) => wrong(cx, n, "route", e),
        }
    }
}

pub(super) fn rules(cx: &mut Cx<'_>, block: &Node, to: &mut Vec<RoutingRule>) {
    for n in cx.lines(block) {
        let preferences = cx.globals.next_preference;
        // Which family it is of is known once it is read.
        match rule(&n.words, 0, cx) {
            Ok(mut r) => {
                if r.preference == 0 {
                    r.preference = preferences[usize::from(r.six)];
                    let text = format!("the rule says no preference: {} is taken, as keepalived does", r.preference);
                    cx.lenient(Code::Lenient, &n.place, text);
                    cx.globals.next_preference[usize::from(r.six)] = r.preference.saturating_sub(1).max(1);
                }
                to.push(r);
            }
            Err(e) => wrong(cx, n, "rule", e),
        }
    }
}

fn wrong(cx: &mut Cx<'_>, n: &Node, what: &str, e: Wrong) {
    match e {
        Wrong::Bad(text) => {
            cx.lenient(Code::Lenient, &n.place, format!("{text}: the {what} is left out, as keepalived does"))
        }
        Wrong::Missing(text) => cx.report.error(Code::Missing, &n.place, text),
        Wrong::NotYet(w) => cx.report.not_yet(&n.place, format!("'{w}' of a {what} is known but not honoured yet")),
    }
}

/// Where names of tables, protocols and realms are looked up.
pub trait Names {
    /// The number of a name in `/etc/iproute2/<file>`.
    fn number(&mut self, file: &str, name: &str) -> Option<u32>;
}

/// Numbers that have names everywhere.
const TABLES: &[(&str, u32)] = &[("default", 253), ("main", 254), ("local", 255)];
const PROTOCOLS: &[(&str, u32)] = &[
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("gated", 8),
    ("ra", 9),
    ("mrt", 10),
    ("zebra", 11),
    ("bird", 12),
    ("dnrouted", 13),
    ("xorp", 14),
    ("ntk", 15),
    ("dhcp", 16),
    ("mrouted", 17),
    ("keepalived", 18),
    ("babel", 42),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("eigrp", 192),
];
const IP_PROTOCOLS: &[(&str, u8)] =
    &[("icmp", 1), ("tcp", 6), ("udp", 17), ("ipv6-icmp", 58), ("sctp", 132), ("dccp", 33), ("gre", 47), ("esp", 50)];

/// What is wrong with a line.
pub enum Wrong {
    /// It is left out.
    Bad(String),
    NotYet(String),
    /// A word without its value.
    Missing(String),
}

type Read<T> = Result<T, Wrong>;

fn bad<T>(text: impl Into<String>) -> Read<T> {
    Err(Wrong::Bad(text.into()))
}

/// Words one after the other.
struct Words<'a> {
    all: &'a [String],
    at: usize,
    names: &'a mut dyn Names,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let w = self.all.get(self.at)?;
        self.at += 1;
        Some(w)
    }

    fn value(&mut self, word: &str) -> Read<&'a str> {
        let v = self.next().ok_or_else(|| Wrong::Missing(format!("'{word}' is missing its value")))?;
        match v.is_empty() || v.contains(char::is_whitespace) {
            true => bad(format!("'{word}' : its value is one word, not '{v}'")),
            false => Ok(v),
        }
    }

    fn number(&mut self, word: &str, most: u64) -> Read<u64> {
        let w = self.value(word)?;
        let n = match w.strip_prefix("0x") {
            Some(h) => u64::from_str_radix(h, 16).ok(),
            None => w.parse().ok(),
        };
        n.filter(|n| *n <= most).ok_or_else(|| Wrong::Bad(format!("'{word} {w}' : a number up to {most} is expected")))
    }

    fn small<T: TryFrom<u64>>(&mut self, word: &str, most: u64) -> Read<T> {
        let n = self.number(word, most)?;
        T::try_from(n).map_err(|_| Wrong::Bad(format!("'{word}' : a number up to {most} is expected")))
    }

    fn named(&mut self, word: &str, known: &[(&str, u32)], file: &str, most: u32) -> Read<u32> {
        let w = self.value(word)?;
        let n = w.parse().ok().or_else(|| known.iter().find(|k| k.0 == w).map(|k| k.1));
        let n = n.or_else(|| self.names.number(file, w)).filter(|n| *n <= most);
        n.ok_or_else(|| Wrong::Bad(format!("'{word} {w}' is neither a number up to {most} nor a name of {file}")))
    }

    fn ip(&mut self, word: &str) -> Read<IpAddr> {
        let w = match self.value(word)? {
            // The family may be said in front of it.
            "inet" | "inet6" => self.value(word)?,
            w => w,
        };
        w.parse().map_err(|_| Wrong::Bad(format!("'{word} {w}' : that is not an IP address")))
    }

    fn net(&mut self, word: &str, six: Option<bool>) -> Read<IpNet> {
        let w = self.value(word)?;
        net(w, six).ok_or_else(|| Wrong::Bad(format!("'{word} {w}' : that is neither an address nor a network")))
    }

    /// `from/to`, or only `to`.
    fn realms(&mut self, word: &str) -> Read<(u16, u16)> {
        let w = self.value(word)?;
        let mut one = |t: &str| t.parse().ok().or_else(|| u16::try_from(self.names.number("rt_realms", t)?).ok());
        let found = match w.split_once('/') {
            Some((a, b)) => one(a).zip(one(b)),
            None => one(w).map(|b| (0, b)),
        };
        found.ok_or_else(|| Wrong::Bad(format!("'{word} {w}' : realms are numbers or names of rt_realms")))
    }

    fn pair<T: std::str::FromStr + Copy + PartialOrd>(&mut self, word: &str) -> Read<(T, T)> {
        let w = self.value(word)?;
        let (a, b) = w.split_once('-').unwrap_or((w, w));
        match (a.parse(), b.parse()) {
            (Ok(a), Ok(b)) if a <= b => Ok((a, b)),
            _ => bad(format!("'{word} {w}' : a number or a range is expected")),
        }
    }
}

fn net(w: &str, six: Option<bool>) -> Option<IpNet> {
    match w {
        "default" | "all" | "any" => Some(anywhere(six.unwrap_or(false))),
        w => IpNet::parse(w),
    }
}

/// One route: the words of `ip route`, and keepalived's own older ones.
pub fn route(words: &[String], names: &mut dyn Names) -> Read<Route> {
    let six =
        words.iter().any(|w| w == "inet6") || words.iter().filter_map(|w| IpNet::parse(w)).any(|n| n.addr.is_ipv6());
    let mut w = Words { all: words, at: 0, names };
    let mut r = Route::to(anywhere(six));
    let mut to = None;
    while let Some(word) = w.next() {
        match word {
            "inet" | "inet6" => {}
            "src" => r.src = Some(w.ip(word)?),
            "from" => r.from = Some(w.net(word, Some(six))?),
            "to" => to = Some(w.net(word, Some(six))?),
            "via" | "gw" => r.via = Some(w.ip(word)?),
            // The old form of two ways.
            "or" => {
                let second = Hop { via: Some(w.ip(word)?), weight: 1, ..Hop::default() };
                let first = Hop { via: r.via.take(), weight: 1, ..Hop::default() };
                r.hops.extend([first, second]);
            }
            "dev" | "oif" => r.dev = Some(w.value(word)?.to_owned()),
            "table" => (r.vrf, r.table) = (None, w.named(word, TABLES, "rt_tables", u32::MAX)?),
            "metric" | "priority" | "preference" => r.metric = Some(w.small(word, u32::MAX.into())?),
            "scope" => {
                let v = w.value(word)?;
                let known = match v {
                    "nowhere" => Some(255),
                    v => scope(v),
                };
                r.scope = Some(known.ok_or_else(|| Wrong::Bad(format!("'scope {v}' is not known")))?);
            }
            "protocol" | "proto" => {
                r.protocol = u8::try_from(w.named(word, PROTOCOLS, "rt_protos", 255)?).unwrap_or_default();
            }
            "tos" | "dsfield" => r.tos = w.small(word, 255)?,
            "onlink" => r.onlink = true,
            "realms" => r.realms = Some(w.realms(word)?),
            "pref" => {
                let v = w.value(word)?;
                let known = PREFERENCES.iter().find(|p| p.0 == v).map(|p| p.1);
                r.pref =
                    Some(known.ok_or_else(|| Wrong::Bad(format!("'pref {v}' : low, medium or high is expected")))?);
            }
            "expires" => r.expires = Some(w.small(word, u32::MAX.into())?),
            "add" => r.order = Order::Add,
            "append" => r.order = Order::Append,
            "prepend" => r.order = Order::Prepend,
            "no_track" => r.untracked = true,
            "track_group" => r.group = Some(w.value(word)?.to_owned()),
            "congctl" => {
                let mut v = w.value(word)?;
                if v == "lock" {
                    r.lock |= 1 << CC_ALGO;
                    v = w.value(word)?;
                }
                r.congestion = Some(v.to_owned());
            }
            "features" => {
                let v = w.value(word)?;
                if v != "ecn" {
                    return bad(format!("'features {v}' is not known"));
                }
                r.metrics.push((12, 1));
            }
            "nexthop" => {
                r.hops.push(hop(&mut w)?);
            }
            "vrf" => (r.vrf, r.table) = (Some(w.value(word)?.to_owned()), 0),
            "encap" | "nhid" | "as" | "ttl-propagate" => {
                return Err(Wrong::NotYet(word.to_owned()));
            }
            word => {
                if let Some(m) = METRICS.iter().find(|m| m.0 == word) {
                    let lock = w.all.get(w.at).is_some_and(|v| v == "lock");
                    if lock {
                        w.at += 1;
                        r.lock |= 1 << m.1;
                    }
                    let v: u32 = w.small(word, u32::MAX.into())?;
                    // As the kernel keeps times: in eighths and quarters of a millisecond.
                    let v = match word {
                        "rtt" => v.saturating_mul(8),
                        "rttvar" => v.saturating_mul(4),
                        _ => v,
                    };
                    r.metrics.push((m.1, v));
                } else if let Some(k) = KINDS.iter().find(|k| k.0 == word) {
                    r.kind = k.1;
                } else if to.is_none()
                    && let Some(n) = net(word, Some(six))
                {
                    to = Some(n);
                } else {
                    return bad(format!("'{word}' is not known in a route"));
                }
            }
        }
    }
    let Some(to) = to else { return bad("a route has no destination") };
    r.to = IpNet { addr: masked(to), ..to };
    // One way in front of others is one of them.
    if !r.hops.is_empty() && (r.via.is_some() || r.dev.is_some()) {
        for h in &mut r.hops {
            h.dev = h.dev.take().or_else(|| r.dev.clone());
        }
        r.dev = None;
        if let Some(v) = r.via.take() {
            r.hops.insert(0, Hop { via: Some(v), weight: 1, ..Hop::default() });
        }
    }
    let family = |ip: &IpAddr| ip.is_ipv6() == r.to.addr.is_ipv6();
    let vias = r.via.iter().chain(r.hops.iter().filter_map(|h| h.via.as_ref()));
    if r.src.is_some_and(|s| !family(&s)) || r.from.is_some_and(|f| !family(&f.addr)) {
        return bad("addresses of both families in one route");
    }
    if r.to.addr.is_ipv6() && vias.clone().any(|v| v.is_ipv4()) {
        return bad("an IPv6 route cannot go by way of an IPv4 address");
    }
    if r.from.is_some() && r.to.addr.is_ipv4() {
        return bad("'from' is for IPv6 routes");
    }
    Ok(r)
}

/// `nexthop [via <address>] [dev <interface>] [weight <n>] [onlink] [realms ...]`
fn hop(w: &mut Words<'_>) -> Read<Hop> {
    let mut h = Hop { weight: 1, ..Hop::default() };
    while let Some(word) = w.all.get(w.at).map(String::as_str) {
        match word {
            "via" | "dev" | "weight" | "onlink" | "realms" => w.at += 1,
            _ => break,
        }
        match word {
            "via" => h.via = Some(w.ip(word)?),
            "dev" => h.dev = Some(w.value(word)?.to_owned()),
            "weight" => {
                h.weight = w.small(word, 256)?;
                if h.weight == 0 {
                    return bad("'weight' : a number from 1 to 256 is expected");
                }
            }
            "onlink" => h.onlink = true,
            _ => h.realms = Some(w.realms(word)?),
        }
    }
    Ok(h)
}

fn masked(n: IpNet) -> IpAddr {
    match n.addr {
        IpAddr::V4(a) => {
            IpAddr::V4((u32::from(a) & u32::MAX.checked_shl(32 - u32::from(n.prefix)).unwrap_or(0)).into())
        }
        IpAddr::V6(a) => {
            IpAddr::V6((u128::from(a) & u128::MAX.checked_shl(128 - u32::from(n.prefix)).unwrap_or(0)).into())
        }
    }
}

/// One rule: the words of `ip rule`. `preference`: what it has if it does not say one.
pub fn rule(words: &[String], preference: u32, names: &mut dyn Names) -> Read<RoutingRule> {
    let six =
        words.iter().any(|w| w == "inet6") || words.iter().filter_map(|w| IpNet::parse(w)).any(|n| n.addr.is_ipv6());
    let mut w = Words { all: words, at: 0, names };
    let mut r = RoutingRule { preference, ..RoutingRule::new(six) };
    let (mut said, mut acts) = (false, false);
    while let Some(word) = w.next() {
        said |= !matches!(word, "inet" | "inet6" | "preference" | "priority" | "order" | "no_track" | "track_group");
        match word {
            "inet" | "inet6" => {}
            "not" => r.inverted = true,
            "from" => r.from = Some(w.net(word, Some(six))?).filter(|n| n.prefix > 0),
            "to" => r.to = Some(w.net(word, Some(six))?).filter(|n| n.prefix > 0),
            "table" | "lookup" => {
                r.table = Some(w.named(word, TABLES, "rt_tables", u32::MAX)?);
                acts = true;
            }
            "preference" | "priority" | "order" => r.preference = w.small(word, u32::MAX.into())?,
            "tos" | "dsfield" => r.tos = w.small(word, 255)?,
            "fwmark" => {
                let v = w.value(word)?;
                let one = |t: &str| match t.strip_prefix("0x") {
                    Some(h) => u32::from_str_radix(h, 16).ok(),
                    None => t.parse().ok(),
                };
                let found = match v.split_once('/') {
                    Some((m, k)) => one(m).zip(one(k).map(Some)),
                    None => one(v).map(|m| (m, None)),
                };
                r.mark = Some(
                    found.ok_or_else(|| Wrong::Bad(format!("'fwmark {v}' : a number, or number/mask is expected")))?,
                );
            }
            "iif" | "dev" => r.iif = Some(w.value(word)?.to_owned()),
            "oif" => r.oif = Some(w.value(word)?.to_owned()),
            "realms" => r.realms = Some(w.realms(word)?),
            "goto" => {
                r.goto = Some(w.small(word, u32::MAX.into())?);
                r.action = GOTO;
                acts = true;
            }
            "suppress_prefixlength" => r.suppress_prefix = Some(w.small(word, 128)?),
            "suppress_ifgroup" => r.suppress_group = Some(w.named(word, &[], "group", u32::MAX)?),
            "uidrange" => r.uids = Some(w.pair(word)?),
            "l3mdev" => (r.l3mdev, acts) = (true, true),
            "protocol" | "proto" => {
                r.protocol = u8::try_from(w.named(word, PROTOCOLS, "rt_protos", 255)?).unwrap_or_default();
            }
            "ip_proto" | "ipproto" => {
                let v = w.value(word)?;
                let known = IP_PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(v)).map(|p| p.1);
                let n = v.parse().ok().or(known);
                r.ip_protocol = Some(n.ok_or_else(|| Wrong::Bad(format!("'{word} {v}' is not known")))?);
            }
            "sport" => r.sport = Some(w.pair(word)?),
            "dport" => r.dport = Some(w.pair(word)?),
            "tun_id" => r.tunnel = Some(w.number(word, u64::MAX)?),
            "no_track" => r.untracked = true,
            "track_group" => r.group = Some(w.value(word)?.to_owned()),
            "nat" | "map-to" => return Err(Wrong::NotYet(word.to_owned())),
            word => match ACTIONS.iter().find(|a| a.0 == word) {
                Some(a) => (r.action, acts) = (a.1, true),
                None => return bad(format!("'{word}' is not known in a rule")),
            },
        }
    }
    if !said {
        return bad("a rule says nothing");
    }
    if !acts {
        // As `ip rule` has it.
        r.table = Some(crate::config::route::MAIN_TABLE);
    }
    if r.action == TO_TABLE && r.table.is_none() && !r.l3mdev {
        r.table = Some(crate::config::route::MAIN_TABLE);
    }
    let families = [r.from, r.to];
    if families.iter().flatten().any(|n| n.addr.is_ipv6() != six) {
        return bad("addresses of both families in one rule");
    }
    Ok(r)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct None_;
    impl Names for None_ {
        fn number(&mut self, file: &str, name: &str) -> Option<u32> {
            (file == "rt_tables" && name == "blue").then_some(77)
        }
    }

    fn words(t: &str) -> Vec<String> {
        t.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_have_numbers() {
        let f = b"# a comment\n255\tlocal\n0x12 blue # behind it\n";
        assert_eq!((number_in(f, "local"), number_in(f, "blue"), number_in(f, "a")), (Some(255), Some(18), None));
    }

    #[test]
    fn routes_are_read_and_written() {
        let read = |t: &str| route(&words(t), &mut None_).ok();
        for (line, canonical) in [
            ("192.168.110.0/24 via 192.168.200.254 dev eth1", "192.168.110.0/24 via 192.168.200.254 dev eth1"),
            (
                "src 192.168.100.1 to 192.168.109.7/24 via 192.168.200.254 dev eth1",
                "192.168.109.0/24 via 192.168.200.254 dev eth1 src 192.168.100.1",
            ),
            ("blackhole 192.168.114.0/24", "blackhole 192.168.114.0/24"),
            ("0.0.0.0/0 gw 192.168.0.1 table 100", "0.0.0.0/0 via 192.168.0.1 table 100"),
            ("default via 192.168.0.1 table blue", "0.0.0.0/0 via 192.168.0.1 table 77"),
            (
                "192.168.113.0/24 via 192.168.200.254 or 192.168.100.254 dev eth1",
                "192.168.113.0/24 nexthop via 192.168.200.254 dev eth1 weight 1 nexthop via 192.168.100.254 dev eth1 weight 1",
            ),
            (
                "192.168.200.0/24 dev p33p1.2 table 6909 tos 0x04 protocol bird scope link priority 12 mtu 1000 hoplimit 100 rtt 102 rttvar 103 ssthresh lock 107 realms 4/20 rto_min 108 features ecn add",
                "192.168.200.0/24 dev p33p1.2 table 6909 metric 12 scope 253 protocol 12 tos 0x04 mtu 1000 hoplimit 100 rtt 102 rttvar 103 ssthresh lock 107 rto_min 108 features ecn realms 4/20 add",
            ),
            (
                "2001:470:69e9:1:2::4 dev p33p1.2 metric 12 pref low append no_track",
                "2001:470:69e9:1:2::4/128 dev p33p1.2 metric 12 pref low append no_track",
            ),
        ] {
            let r = read(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(r.text(), canonical);
            assert_eq!(read(&r.text()).as_ref(), Some(&r), "{line}");
        }
        for bad in [
            "",
            "dev eth0",
            "10.0.0.0/24 via",
            "10.0.0.0/24 via x",
            "10.0.0.0/24 scope bogus",
            "10.0.0.0/24 mtu x",
            "10.0.0.0/24 bogus",
            "2001:db8::/32 via 10.0.0.1",
            "10.0.0.0/24 from 10.0.0.1",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
        assert!(matches!(route(&words("10.0.0.0/24 encap mpls 3"), &mut None_), Err(Wrong::NotYet(_))));
    }

    #[test]
    fn rules_are_read_and_written() {
        let read = |t: &str| rule(&words(t), 99, &mut None_).ok();
        for (line, canonical) in [
            ("from 192.168.2.0/24 table 1", "from 192.168.2.0/24 preference 99 table 1"),
            (
                "from 192.168.28.0/24 to 192.168.29.0/26 table blue iif p33p1 oif wlan0 tos 22 fwmark 24/12 preference 39 realms 30/20 goto 40",
                "from 192.168.28.0/24 to 192.168.29.0/26 tos 0x16 fwmark 24/12 iif p33p1 oif wlan0 realms 30/20 preference 39 table 77 goto 40",
            ),
            (
                "to 1:2:3:4:5:6:7:0/112 from 7:6:5:4:3:2::/96 table 6908 uidrange 10000-19999",
                "inet6 from 7:6:5:4:3:2::/96 to 1:2:3:4:5:6:7:0/112 uidrange 10000-19999 preference 99 table 6908",
            ),
            (
                "to 10.0.0.0/8 l3mdev protocol 12 ip_proto UDP sport 10-20 dport 20",
                "to 10.0.0.0/8 protocol 12 ip_proto 17 sport 10-20 dport 20-20 preference 99 l3mdev",
            ),
            ("not from 10.0.0.0/8 blackhole", "not from 10.0.0.0/8 preference 99 blackhole"),
            ("from 10.0.0.0/8", "from 10.0.0.0/8 preference 99 table 254"),
        ] {
            let r = read(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(r.text(), canonical);
            assert_eq!(read(&r.text()).as_ref(), Some(&r), "{line}");
        }
        for bad in ["", "preference 3", "from x", "from 10.0.0.0/8 to 2001:db8::/32", "from 10.0.0.0/8 bogus"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
