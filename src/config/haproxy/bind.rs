//! `bind` lines (configuration manual 5.1).
use super::keywords::{self, Class};
use super::{Cx, State, global};
use crate::base::addr::{Host, ListenAddr, parse_ports, split_host_port};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::model::{Bind, BindTls, Proxy};

/// Listeners of one `bind` line; a range may not make more.
const MAX_RANGE: usize = 4096;

/// The listening addresses of one comma-free word.
pub fn addresses(cx: &mut Cx<'_>, word: &str) -> Option<Vec<ListenAddr>> {
    if let Some(n) = word.strip_prefix("fd@") {
        return match n.parse() {
            Ok(fd) => Some(vec![ListenAddr::Fd(fd)]),
            Err(_) => {
                cx.error(format!("'{word}' is not a descriptor: fd@<number>"));
                None
            }
        };
    }
    let (host, port) = match split_host_port(word) {
        Ok(x) => x,
        Err(e) => {
            cx.error(e);
            return None;
        }
    };
    let addr = match host {
        Host::Unix(p) => return Some(vec![ListenAddr::Unix(p)]),
        Host::Abstract(p) => return Some(vec![ListenAddr::Abstract(p)]),
        Host::Ip(ip) => ip,
        Host::Name(n) => match cx.resolve(&n) {
            Some(ip) => ip,
            None => {
                cx.error_of(
                    Code::Unresolved,
                    format!("could not resolve address '{n}'; write an IP address, or mend the resolver"),
                );
                return None;
            }
        },
    };
    let Some(port) = port else {
        cx.error(format!("missing port number: '{word}'"));
        return None;
    };
    match parse_ports(port) {
        Ok(range) if range.len() <= MAX_RANGE => {
            Some(range.map(|port| ListenAddr::Inet { addr, port, v4v6: false, device: None }).collect())
        }
        Ok(range) => {
            cx.error(format!("port range '{port}' makes {} listeners; at most {MAX_RANGE} are taken", range.len()));
            None
        }
        Err(e) => {
            cx.error(format!("{e} in '{word}'"));
            None
        }
    }
}

pub fn parse(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(list) = cx.arg(w, 1, "[<address>]:<port>[,...] or a path") else { return };
    let Some(list) = cx.expand(list) else { return };
    let mut all = Vec::new();
    for word in list.split(',') {
        all.extend(addresses(cx, word).unwrap_or_default());
    }
    let mut b = Bind {
        place: cx.place.clone(),
        addr: ListenAddr::Fd(-1),
        id: None,
        name: None,
        maxconn: 0,
        backlog: None,
        accept_proxy: false,
        tls: None,
        mode: None,
        user: None,
        group: None,
    };
    let (mut tls, mut ssl) = (BindTls::default(), false);
    let (mut v4v6, mut v6only, mut device) = (false, false, None);
    // The rest of the line was not read.
    let mut refused = false;
    let mut i = 2;
    while let Some(word) = w.get(i) {
        i += 1;
        let mut value = |cx: &mut Cx<'_>| {
            let v = cx.arg(w, i, "a value").map(str::to_owned);
            i += 1;
            v
        };
        match word.as_str() {
            "ssl" => ssl = true,
            "crt" | "default-crt" => match value(cx) {
                Some(c) if c.starts_with('@') => {
                    cx.not_yet(&format!("'crt {c}' of a certificate store"));
                    refused = true;
                }
                c => tls.crt.extend(c),
            },
            "alpn" | "npn" => {
                tls.alpn = value(cx).map_or_else(Vec::new, |v| v.split(',').map(|s| s.trim().to_owned()).collect())
            }
            "no-alpn" => tls.alpn.clear(),
            "ciphers" => {
                let v = value(cx).unwrap_or_default();
                global::cipher_list(cx, &mut tls.limits, &["ciphers".to_owned(), v]);
            }
            "ciphersuites" => {
                let v = value(cx).unwrap_or_default();
                global::ciphersuites(cx, &mut tls.limits, &["ciphersuites".to_owned(), v]);
            }
            "ssl-min-ver" | "ssl-max-ver" => {
                let v = value(cx).unwrap_or_default();
                global::tls_options(cx, &mut tls.limits, &[word.clone(), v], "bind");
            }
            "no-sslv3"
            | "no-tlsv10"
            | "no-tlsv11"
            | "no-tlsv12"
            | "no-tlsv13"
            | "force-tlsv12"
            | "force-tlsv13"
            | "no-tls-tickets"
            | "prefer-client-ciphers"
            | "tls-tickets" => {
                global::tls_options(cx, &mut tls.limits, std::slice::from_ref(word), "bind");
            }
            "strict-sni" => tls.strict_sni = true,
            "no-strict-sni" => tls.strict_sni = false,
            "verify" => match value(cx).as_deref() {
                Some("none") => {}
                Some("optional" | "required") => cx.not_yet("'verify' of client certificates on 'bind'"),
                o => cx.error(format!(
                    "'bind' : 'verify' is one of none, optional, required, not '{}'",
                    o.unwrap_or_default()
                )),
            },
            "name" => b.name = value(cx),
            "maxconn" => {
                let v = value(cx);
                b.maxconn = number(cx, word, v).unwrap_or(0);
            }
            "backlog" => {
                let v = value(cx);
                b.backlog = number(cx, word, v);
            }
            "accept-proxy" => b.accept_proxy = true,
            "v4v6" => v4v6 = true,
            "v6only" => v6only = true,
            "interface" => device = value(cx),
            "mode" => b.mode = value(cx).and_then(|v| u32::from_str_radix(&v, 8).ok()),
            "user" | "uid" => b.user = value(cx),
            "group" | "gid" => b.group = value(cx),
            "transparent" => cx.not_yet("'transparent' on 'bind'"),
            "id" => {
                let v = value(cx);
                b.id = number(cx, word, v);
            }
            "proto" => match value(cx).as_deref() {
                Some("h1" | "none") | None => {}
                Some(o) => cx.not_yet(&format!("'proto {o}' on 'bind'")),
            },
            o if ACCEPTED.iter().any(|a| a.0 == o) => {
                if !matches!(o, "tfo" | "defer-accept") {
                    value(cx);
                }
                if let State::Accepted(why) = state(o) {
                    cx.no_effect(o, why);
                }
            }
            o if keywords::is(Class::Bind, o) => {
                cx.not_yet(&format!("'{o}' on 'bind'"));
                refused = true;
                break;
            }
            o => {
                cx.error_of(
                    Code::UnknownWord,
                    format!("'bind {list}' : unknown keyword '{o}'{}", suggestion(o, keywords::names(Class::Bind))),
                );
                break;
            }
        }
    }
    if v4v6 && v6only {
        cx.error("'bind' : 'v4v6' and 'v6only' exclude each other");
    }
    if tls.alpn.iter().any(|a| a == "h2") {
        cx.report.notice(Code::Remark, &cx.place, "'alpn h2' : HTTP/2 is not served yet; http/1.1 is negotiated");
        tls.alpn.retain(|a| a != "h2");
        if tls.alpn.is_empty() {
            tls.alpn.push("http/1.1".to_owned());
        }
    }
    if ssl && tls.crt.is_empty() && !refused {
        cx.error_of(Code::Tls, "'bind ... ssl' : no certificate given; add 'crt <file or directory>'");
    }
    if !ssl && !tls.crt.is_empty() {
        cx.warn_of(
            Code::Tls,
            "'bind' : a certificate is given but 'ssl' is missing, so the listener speaks clear text",
        );
    }
    b.tls = ssl.then_some(tls);
    for mut addr in all {
        if let ListenAddr::Inet { addr: ip, v4v6: both, device: dev, .. } = &mut addr {
            // HAProxy leaves bindv6only to the system: "::" takes both families unless v6only.
            *both = ip.is_ipv6() && ip.is_unspecified() && (v4v6 || !v6only);
            *dev = device.clone();
        }
        p.binds.push(Bind { addr, ..b.clone() });
    }
}

/// Words that are honoured.
const HONOURED: &[&str] = &[
    "accept-proxy",
    "alpn",
    "backlog",
    "ciphers",
    "ciphersuites",
    "crt",
    "default-crt",
    "force-tlsv12",
    "force-tlsv13",
    "gid",
    "group",
    "id",
    "interface",
    "maxconn",
    "mode",
    "name",
    "no-alpn",
    "no-sslv3",
    "no-strict-sni",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "npn",
    "prefer-client-ciphers",
    "proto",
    "ssl",
    "ssl-max-ver",
    "ssl-min-ver",
    "strict-sni",
    "tls-tickets",
    "uid",
    "user",
    "v4v6",
    "v6only",
    "verify",
];

/// Words without a meaning here.
const ACCEPTED: &[(&str, &str)] = &[
    ("curves", LIBRARY),
    ("defer-accept", "connections are accepted as they come"),
    ("ecdhe", LIBRARY),
    ("guid-prefix", "nothing here is found by it"),
    ("level", STATS),
    ("nice", "all connections are equal"),
    ("process", THREADS),
    ("severity-output", STATS),
    ("shards", THREADS),
    ("sigalgs", LIBRARY),
    ("tfo", "TCP fast open is left to the kernel's defaults"),
    ("thread", THREADS),
];
const LIBRARY: &str = "the TLS library's own choice is used";
const STATS: &str = "it belongs to a 'stats socket'";
const THREADS: &str = "every thread has a socket of its own, and takes what others are too busy for";

/// What a word of a `bind` line comes to.
pub fn state(name: &str) -> State {
    if HONOURED.contains(&name) {
        return State::Honoured;
    }
    ACCEPTED.iter().find(|a| a.0 == name).map_or(State::NotYet, |a| State::Accepted(a.1))
}

fn number(cx: &mut Cx<'_>, word: &str, value: Option<String>) -> Option<u32> {
    let n = value.as_ref().and_then(|v| v.parse().ok());
    if n.is_none() {
        cx.error_of(
            Code::Number,
            format!("'bind' : '{word}' expects a number, but got '{}'", value.unwrap_or_default()),
        );
    }
    n
}
