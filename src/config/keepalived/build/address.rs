//! Virtual addresses and unicast peers.
use super::Cx;
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::keepalived::parse::Node;
use crate::config::model::{OwnMac, Peer, Vip};
use std::net::IpAddr;

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

pub(super) fn vip(cx: &mut Cx<'_>, n: &Node) -> Option<Vip> {
    let word = n.words.first()?;
    let Some(addr) = IpNet::parse(word.strip_suffix('/').unwrap_or(word)) else {
        cx.lenient(
            Code::Lenient,
            &n.place,
            format!("'{word}' is not an IP address with an optional prefix length; it is left out, as keepalived does"),
        );
        return None;
    };
    let mut v = Vip::plain(addr);
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
                match w.as_str() {
                    "no_track" => v.untracked = true,
                    "home" => v.home = true,
                    "mngtmpaddr" => v.temporary = true,
                    "autojoin" => v.autojoin = true,
                    // No address waits for its detection of duplicates.
                    _ => {}
                }
                i += 1;
                continue;
            }
            ("preferred_lft", Some(t)) => match t.parse() {
                Ok(secs) => v.preferred = Some(secs),
                Err(_) if t == "forever" => v.preferred = Some(u32::MAX),
                Err(_) => {
                    let text =
                        format!("'preferred_lft {t}' is neither a number of seconds nor 'forever'; it is left out");
                    cx.lenient(Code::Lenient, &n.place, text);
                }
            },
            ("track_group", Some(g)) => v.group = Some(g.clone()),
            ("peer", Some(p)) => v.peer = other_end(cx, n, p, &v.addr),
            ("use_vmac", _) => {
                // Where it is to be made is known at the end of its instance.
                v.own_mac = Some(OwnMac { base: String::new(), mac: [0; 6] });
                i += 1;
                continue;
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
    let full = if addr.addr.is_ipv4() { 32 } else { 128 };
    if v.peer.is_some() && addr.prefix != full {
        let text = format!("address {word} has a 'peer', and its prefix length is that one's: it is left out");
        cx.lenient(Code::Value, &n.place, text);
        v.addr.prefix = full;
    }
    Some(v)
}

/// `peer <address>`, of the address's family.
fn other_end(cx: &mut Cx<'_>, n: &Node, p: &str, of: &IpNet) -> Option<IpAddr> {
    let peer = p.parse().ok().filter(|a: &IpAddr| a.is_ipv4() == of.addr.is_ipv4());
    if peer.is_none() {
        let text =
            format!("'peer {p}' is no IP address of the family of {}: it is left out, as keepalived does", of.addr);
        cx.lenient(Code::Value, &n.place, text);
    }
    peer
}

/// `static_ipaddress { <address> [dev <interface>] ... }`
pub(super) fn statics(cx: &mut Cx<'_>, block: &Node, to: &mut Vec<Vip>) {
    for n in cx.lines(block) {
        let Some(mut v) = vip(cx, n) else { continue };
        if v.own_mac.take().is_some() {
            cx.lenient(Code::NoEffect, &n.place, "'use_vmac' has no meaning for a static address".to_owned());
        }
        v.dev.get_or_insert_with(|| cx.globals.default_interface.clone());
        to.push(v);
    }
}

/// `<address> [min_ttl <n>] [max_ttl <n>]`; keepalived cuts a prefix length off.
pub(super) fn peer(cx: &mut Cx<'_>, n: &Node) -> Option<Peer> {
    let word = n.words[0].as_str();
    let Ok(ip) = word.split('/').next().unwrap_or(word).parse() else {
        let text = format!("'unicast_peer' : '{word}' is not an IP address; it is left out, as keepalived does");
        cx.lenient(Code::Lenient, &n.place, text);
        return None;
    };
    let mut p = Peer::any_ttl(ip);
    for pair in n.words[1..].chunks(2) {
        match pair[0].as_str() {
            w @ ("min_ttl" | "max_ttl") => match pair.get(1).and_then(|v| v.parse::<u8>().ok()) {
                Some(v) if w == "min_ttl" => p.min_ttl = v,
                Some(v) => p.max_ttl = v,
                None => cx.lenient(Code::Number, &n.place, format!("'{w}' expects a number from 0 to 255")),
            },
            o => {
                let hint = if o.parse::<IpAddr>().is_ok() { "; write each peer on a line of its own" } else { "" };
                cx.lenient(Code::UnknownWord, &n.place, format!("unknown word '{o}' behind peer {word}{hint}"));
            }
        }
    }
    if p.min_ttl > p.max_ttl {
        let text =
            format!("peer {word} : 'min_ttl {}' is more than 'max_ttl {}'; neither is used", p.min_ttl, p.max_ttl);
        cx.lenient(Code::Value, &n.place, text);
        p = Peer::any_ttl(ip);
    }
    Some(p)
}
