//! `bind` lines (configuration manual 5.1).
use super::args::{self, Arg, Int, OneOf};
use super::keywords::{self, Class};
use super::{Cx, State, global};
use crate::base::addr::{Host, ListenAddr, parse_ports, split_host_port};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::TimeUnit;
use crate::config::model::{Bind, BindTls, Proxy, SocketOptions};

/// Listeners of one `bind` line; a range may not make more.
const MAX_RANGE: usize = 4096;

/// Room in a socket's path, less what HAProxy needs while it changes sockets.
const MAX_PATH: usize = 97;

/// Families of addresses that are known.
pub const NOT_YET: &[&str] = &[
    "sockpair",
    "udp",
    "udp4",
    "udp6",
    "uxdg",
    "quic",
    "quic4",
    "quic6",
    "dgram",
    "dgram+ipv4",
    "dgram+ipv6",
    "dgram+unix",
    "mptcp",
    "mptcp4",
    "mptcp6",
    "rhttp",
    "xprt+ipv4",
    "xprt+ipv6",
    "fakeserv",
];

/// The listening addresses of one comma-free word.
pub fn addresses(cx: &mut Cx<'_>, word: &str) -> Option<Vec<ListenAddr>> {
    if let Some(n) = word.strip_prefix("fd@") {
        return match n.parse::<i32>() {
            Ok(fd) if fd >= 0 => Some(vec![ListenAddr::Fd(fd)]),
            _ => {
                cx.error(format!("'{word}' is not a descriptor: fd@<number>"));
                None
            }
        };
    }
    if let Some((family, _)) = word.split_once('@').filter(|f| NOT_YET.contains(&f.0)) {
        cx.not_yet(&format!("address family '{family}@' in '{word}'"));
        return None;
    }
    let (host, port) = match split_host_port(word) {
        Ok(x) => x,
        Err(e) => {
            cx.error(e);
            return None;
        }
    };
    let addr = match host {
        Host::Unix(p) if p.len() > MAX_PATH => {
            cx.error(format!("'{word}' : the path is too long for a socket; at most {MAX_PATH} characters fit"));
            return None;
        }
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
    if port.starts_with(['+', '-']) {
        cx.error(format!("port offset '{port}' is for servers; a listener needs a port, in '{word}'"));
        return None;
    }
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
    // A comma with nothing behind it is passed over.
    for word in list.strip_suffix(',').unwrap_or(&list).split(',') {
        all.extend(addresses(cx, word).unwrap_or_default());
    }
    let mut b = Bind {
        place: cx.place.clone(),
        addr: ListenAddr::Fd(-1),
        id: None,
        name: None,
        maxconn: 0,
        backlog: None,
        datagram: w[0] == "dgram-bind",
        accept_proxy: false,
        accept_cip: None,
        tls: None,
        mode: None,
        user: None,
        group: None,
        options: SocketOptions::default(),
        guid: None,
        never_http: false,
    };
    let mut guids: Option<String> = None;
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
            "accept-netscaler-cip" => {
                let v = value(cx);
                b.accept_cip = number(cx, word, v);
                if b.accept_cip == Some(0) {
                    cx.error_of(Code::Number, "'bind' : 'accept-netscaler-cip' expects a number larger than 0");
                }
            }
            "v4v6" => v4v6 = true,
            "v6only" => v6only = true,
            "interface" => device = value(cx),
            "mode" => b.mode = value(cx).and_then(|v| u32::from_str_radix(&v, 8).ok()),
            "user" | "uid" => b.user = value(cx),
            "group" | "gid" => b.group = value(cx),
            "transparent" => b.options.transparent = true,
            "tfo" => b.options.fast_open = true,
            "defer-accept" => b.options.defer_accept = true,
            "mss" => {
                let v = value(cx).unwrap_or_default();
                match v.parse::<i32>() {
                    Ok(n) if n != 0 && n.abs() <= 65_535 => b.options.mss = Some(n),
                    _ => cx.error_of(
                        Code::Number,
                        format!("'bind' : 'mss' expects an MSS with an absolute value between 1 and 65535, not '{v}'"),
                    ),
                }
            }
            "tcp-ut" => {
                let d = cx.time(w, i, TimeUnit::Millis);
                i += 1;
                b.options.user_timeout_ms = d.and_then(|d| u32::try_from(d.as_millis()).ok()).filter(|n| *n > 0);
            }
            "cc" => b.options.congestion = value(cx),
            "tcp-md5sig" => match value(cx) {
                Some(k) if k.len() > 80 => {
                    cx.error("'bind' : 'tcp-md5sig' : password too long (at most 80 characters expected)");
                }
                k => b.options.md5 = k,
            },
            "id" => {
                let v = value(cx);
                b.id = number(cx, word, v);
                if b.id == Some(0) {
                    cx.error_of(Code::Number, "'bind' : 'id' has to be larger than 0");
                }
            }
            "guid-prefix" => guids = value(cx),
            "proto" => match value(cx).as_deref() {
                Some("h1") | None => {}
                Some("none") => b.never_http = true,
                Some(o) => cx.not_yet(&format!("'proto {o}' on 'bind'")),
            },
            o if ACCEPTED.iter().any(|a| a.0 == o) => {
                let v = value(cx);
                accepted(cx, o, v);
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
    if ssl && tls.crt.is_empty() && !refused && !tls.strict_sni {
        cx.error_of(Code::Tls, "'bind ... ssl' : no certificate given; add 'crt <file or directory>'");
    }
    if !ssl && !tls.crt.is_empty() {
        cx.warn_of(
            Code::Tls,
            "'bind' : a certificate is given but 'ssl' is missing, so the listener speaks clear text",
        );
    }
    if !ssl {
        for c in std::mem::take(&mut tls.crt) {
            let path = super::server::in_base(cx.crt_base.as_deref(), &c);
            if cx.src.list(&path).is_none() {
                cx.read(&path);
            }
        }
    }
    b.tls = ssl.then_some(tls);
    if b.id.is_some() && all.len() > 1 {
        cx.error("'bind' : 'id' can only be used with a single socket; give each its own line");
    }
    cx.listeners += all.len();
    if cx.listeners > super::MAX_LISTENERS {
        return cx.too_much("listeners", super::MAX_LISTENERS);
    }
    let before = p.binds.len();
    for mut addr in all {
        if let ListenAddr::Inet { addr: ip, v4v6: both, device: dev, .. } = &mut addr {
            // HAProxy leaves bindv6only to the system: "::" takes both families unless v6only.
            *both = ip.is_ipv6() && ip.is_unspecified() && (v4v6 || !v6only);
            *dev = device.clone();
        }
        let number = p.binds.len() - before;
        let guid = guids.as_ref().and_then(|g| cx.guid(&format!("{g}-{number}"), &format!("listener of {}", p.name)));
        p.binds.push(Bind { addr, guid, ..b.clone() });
    }
}

/// The value of a word that has no meaning here.
fn accepted(cx: &mut Cx<'_>, word: &str, value: Option<String>) {
    let Some(v) = value else { return };
    let what = format!("bind ... {word}");
    let wanted: Arg = match word {
        "nice" => Int(-1024, 1024),
        "level" => OneOf(&["user", "operator", "admin"]),
        "severity-output" => OneOf(&["none", "number", "string"]),
        "shards" if matches!(v.as_str(), "by-thread" | "by-group") => return,
        "shards" => Int(1, 1000),
        "thread" | "process" => {
            // `all`, `odd`, `even`, or numbers and ranges, in parts that '/' and ',' divide.
            let fits = |p: &str| {
                matches!(p, "all" | "odd" | "even")
                    || p.split('-').all(|n| n.is_empty() || n.parse::<u16>().is_ok_and(|n| (1..=4096).contains(&n)))
                        && p.bytes().any(|c| c.is_ascii_digit())
            };
            if !v.split(['/', ',']).all(fits)
                || word == "process" && v.split('/').next().is_some_and(|p| p.parse().is_ok_and(|n: u16| n > 1))
            {
                cx.error(format!("'{what}' : '{v}' is neither 'all', 'odd' or 'even' nor a number or a range"));
            }
            return;
        }
        "curves" | "ecdhe" => return global::curves(cx, &what, &v),
        _ => return,
    };
    if let Err(e) = args::fits(wanted, &v) {
        cx.error(format!("'{what}' : {e}"));
    }
}

/// Words that are honoured.
const HONOURED: &[&str] = &[
    "accept-netscaler-cip",
    "accept-proxy",
    "alpn",
    "backlog",
    "cc",
    "ciphers",
    "ciphersuites",
    "crt",
    "default-crt",
    "defer-accept",
    "force-tlsv12",
    "force-tlsv13",
    "gid",
    "group",
    "id",
    "interface",
    "maxconn",
    "mode",
    "mss",
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
    "guid-prefix",
    "proto",
    "ssl",
    "ssl-max-ver",
    "ssl-min-ver",
    "strict-sni",
    "tcp-md5sig",
    "tcp-ut",
    "tfo",
    "tls-tickets",
    "transparent",
    "uid",
    "user",
    "v4v6",
    "v6only",
    "verify",
];

/// Words without a meaning here.
const ACCEPTED: &[(&str, &str)] = &[
    ("curves", LIBRARY),
    ("ecdhe", LIBRARY),
    ("level", STATS),
    ("nice", "all connections are equal"),
    ("process", THREADS),
    ("severity-output", STATS),
    ("shards", THREADS),
    ("sigalgs", LIBRARY),
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
