//! The `global` section (configuration manual 3).
use super::keywords::{self, Class};
use super::{Cx, State, ciphers, log, older};
use crate::base::addr::ListenAddr;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::{TimeUnit, parse_size};
use crate::config::model::{CliLevel, Global, StatsSocket, TlsLimits, TlsVersion};

type Parse = fn(&mut Cx<'_>, &mut Global, &[String]);

/// What stands for a word that has no meaning here, with the reason that `-V` gives.
enum Row {
    Honoured(Parse),
    Accepted(&'static str),
}
use Row::{Accepted, Honoured};

const KEYWORDS: &[(&str, Row)] = &[
    ("daemon", Honoured(|_, g, _| g.daemon = true)),
    ("user", Honoured(|cx, g, w| g.user = cx.arg(w, 1, "a user name").map(str::to_owned))),
    ("group", Honoured(|cx, g, w| g.group = cx.arg(w, 1, "a group name").map(str::to_owned))),
    ("uid", Honoured(|cx, g, w| g.uid = cx.number(w, 1, "a numeric user id"))),
    ("gid", Honoured(|cx, g, w| g.gid = cx.number(w, 1, "a numeric group id"))),
    ("chroot", Honoured(|cx, g, w| g.chroot = cx.arg(w, 1, "a directory").map(str::to_owned))),
    ("pidfile", Honoured(|cx, g, w| g.pidfile = cx.arg(w, 1, "a file name").map(str::to_owned))),
    ("nbthread", Honoured(nbthread)),
    ("maxconn", Honoured(|cx, g, w| g.maxconn = cx.number(w, 1, "a number of connections"))),
    ("log", Honoured(log_line)),
    ("log-tag", Honoured(|cx, g, w| g.log_tag = cx.arg(w, 1, "a tag").unwrap_or("haproxy").to_owned())),
    ("log-send-hostname", Honoured(|_, g, w| g.log_hostname = Some(w.get(1).cloned().unwrap_or_default()))),
    ("stats", Honoured(stats)),
    ("hard-stop-after", Honoured(|cx, g, w| g.hard_stop_after = cx.time(w, 1, TimeUnit::Millis))),
    ("crt-base", Honoured(|cx, g, w| g.crt_base = cx.arg(w, 1, "a directory").map(str::to_owned))),
    ("ca-base", Honoured(|cx, g, w| g.ca_base = cx.arg(w, 1, "a directory").map(str::to_owned))),
    ("node", Honoured(|cx, g, w| g.node = cx.arg(w, 1, "a name").map(str::to_owned))),
    ("description", Honoured(|cx, g, w| g.description = cx.arg(w, 1, "a text").map(|_| w[1..].join(" ")))),
    ("localpeer", Honoured(|cx, g, w| g.localpeer = cx.arg(w, 1, "a name").unwrap_or_default().to_owned())),
    (
        "spread-checks",
        Honoured(|cx, g, w| g.spread_checks = cx.number::<u32>(w, 1, "a percentage").unwrap_or(0).min(50)),
    ),
    ("tune.bufsize", Honoured(bufsize)),
    ("tune.maxrewrite", Honoured(|cx, g, w| g.maxrewrite = cx.number(w, 1, "a size in bytes").unwrap_or(1024))),
    ("ssl-default-bind-ciphers", Honoured(|cx, g, w| cipher_list(cx, &mut g.bind_tls, w))),
    ("ssl-default-server-ciphers", Honoured(|cx, g, w| cipher_list(cx, &mut g.server_tls, w))),
    ("ssl-default-bind-ciphersuites", Honoured(|cx, g, w| ciphersuites(cx, &mut g.bind_tls, w))),
    ("ssl-default-server-ciphersuites", Honoured(|cx, g, w| ciphersuites(cx, &mut g.server_tls, w))),
    (
        "ssl-default-bind-options",
        Honoured(|cx, g, w| tls_options(cx, &mut g.bind_tls, &w[1..], "ssl-default-bind-options")),
    ),
    (
        "ssl-default-server-options",
        Honoured(|cx, g, w| tls_options(cx, &mut g.server_tls, &w[1..], "ssl-default-server-options")),
    ),
    ("ssl-server-verify", Honoured(server_verify)),
    ("setenv", Honoured(|cx, _, w| setenv(cx, w, true))),
    ("presetenv", Honoured(|cx, _, w| setenv(cx, w, false))),
    ("unsetenv", Honoured(|cx, _, w| w[1..].iter().for_each(|n| drop(cx.env.insert(n.clone(), None))))),
    ("fault", Honoured(fault)),
    ("ulimit-n", Accepted("the descriptor limit is raised to what maxconn needs")),
    ("quiet", Accepted("use -q on the command line")),
    ("tune.ssl.default-dh-param", Accepted("finite-field Diffie-Hellman is not offered")),
    ("ssl-dh-param-file", Accepted("finite-field Diffie-Hellman is not offered")),
    ("ssl-default-bind-curves", Accepted("the library's own order of groups is used")),
    ("noepoll", Accepted("epoll is the only poller")),
    ("nosplice", Accepted("splicing is not used")),
    ("strict-limits", Accepted("limits are raised as far as the system permits, and reported")),
    ("insecure-fork-wanted", Accepted("the worker never forks")),
    ("cpu-map", Accepted("threads are placed by the kernel")),
    ("cpu-policy", Accepted("threads are placed by the kernel")),
    ("tune.maxaccept", Accepted("accept batches are sized by the event loop")),
    ("tune.rcvbuf.client", Accepted("the kernel sizes socket buffers")),
    ("tune.sndbuf.client", Accepted("the kernel sizes socket buffers")),
    ("tune.ssl.cachesize", Accepted("sessions are resumed by tickets")),
    ("tune.ssl.lifetime", Accepted("sessions are resumed by tickets")),
    ("numa-cpu-mapping", Accepted("threads are placed by the kernel")),
    ("expose-experimental-directives", Accepted("nothing here is hidden behind it")),
    ("zero-warning", Honoured(|_, g, _| g.zero_warning = true)),
    ("busy-polling", Accepted("threads sleep when there is nothing to do")),
    ("set-dumpable", Accepted("the system decides about core dumps")),
    ("insecure-setuid-wanted", Accepted("the worker starts no program")),
    ("maxpipes", Accepted("splicing is not used")),
    ("maxcomprate", Accepted("nothing is compressed yet")),
    ("maxcompcpuusage", Accepted("nothing is compressed yet")),
    ("maxzlibmem", Accepted("nothing is compressed yet")),
    ("nogetaddrinfo", Accepted("names are resolved by own code")),
    ("noreuseport", Accepted("each thread has a socket of its own, by SO_REUSEPORT")),
    ("fd-hard-limit", Accepted("the descriptor limit is raised to what maxconn needs")),
    ("cluster-secret", Accepted("nothing here is derived from it")),
    ("anonkey", Accepted("nothing is dumped anonymously")),
    ("limited-quic", Accepted("QUIC is not served")),
    ("h2-workaround-bogus-websocket-clients", Accepted("HTTP/2 is not served yet")),
];

pub fn line(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match KEYWORDS.iter().find(|k| k.0 == w[0]) {
        Some((_, Honoured(f))) => f(cx, g, w),
        Some((name, Accepted(why))) => {
            cx.report.notice(Code::NoEffect, &cx.place, format!("'{name}' has no effect: {why}"))
        }
        None if older::GLOBAL.iter().any(|o| o.0 == w[0]) => {
            let advice = older::GLOBAL.iter().find(|o| o.0 == w[0]).map_or("", |o| o.1);
            if cx.strict {
                cx.error_of(Code::RemovedWord, format!("'{}' is not supported any more: {advice}", w[0]));
            } else {
                cx.report.notice(
                    Code::OldWord,
                    &cx.place,
                    format!("'{}' is an old word and has no effect: {advice}", w[0]),
                );
            }
        }
        None if keywords::is(Class::Global, &w[0]) => cx.not_yet(&format!("'{}'", w[0])),
        None => {
            let names = KEYWORDS.iter().map(|k| k.0).chain(keywords::names(Class::Global));
            cx.error_of(
                Code::UnknownWord,
                format!("unknown keyword '{}' in 'global' section{}", w[0], suggestion(&w[0], names)),
            );
        }
    }
}

/// What a word of the section comes to.
pub fn state(name: &str) -> State {
    match KEYWORDS.iter().find(|k| k.0 == name) {
        Some((_, Honoured(_))) => State::Honoured,
        Some((_, Accepted(why))) => State::Accepted(why),
        None => older::GLOBAL.iter().find(|o| o.0 == name).map_or(State::NotYet, |o| State::Accepted(o.1)),
    }
}

fn nbthread(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    g.nbthread = cx.number(w, 1, "a number of threads from 1 to 64");
    if g.nbthread.is_some_and(|n| !(1..=64).contains(&n)) {
        cx.error("'nbthread' : value must be between 1 and 64");
        g.nbthread = None;
    }
}

fn bufsize(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    let Some(text) = cx.arg(w, 1, "a size in bytes") else { return };
    match parse_size(text).map(usize::try_from) {
        Ok(Ok(n)) if (1024..=1 << 24).contains(&n) => g.bufsize = n,
        Ok(_) => cx.error("'tune.bufsize' : a size from 1024 bytes to 16 MiB is wanted"),
        Err(e) => cx.error(format!("'tune.bufsize' : {e}")),
    }
}

fn log_line(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    if cx.negated {
        g.logs.clear();
    } else if let Some(t) = log::parse(cx, w) {
        g.logs.push(t);
    }
}

fn fault(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match w.get(1).map(String::as_str) {
        Some("strict") => g.fault_strict = true,
        _ => cx.error("'fault' expects 'strict'"),
    }
}

fn server_verify(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match cx.arg(w, 1, "'none' or 'required'") {
        Some("none") => g.server_verify_none = true,
        Some("required") => g.server_verify_none = false,
        Some(o) => cx.error(format!("'ssl-server-verify' expects 'none' or 'required', but got '{o}'")),
        None => {}
    }
}

fn setenv(cx: &mut Cx<'_>, w: &[String], over: bool) {
    let (Some(name), Some(value)) = (cx.arg(w, 1, "a name"), cx.arg(w, 2, "a value")) else { return };
    if over || cx.env_of(name).is_none() {
        cx.env.insert(name.to_owned(), Some(value.to_owned()));
    }
}

/// `stats socket`, `stats timeout`, `stats maxconn`.
fn stats(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match w.get(1).map(String::as_str) {
        Some("timeout") => {
            if let Some(d) = cx.time(w, 2, TimeUnit::Millis) {
                g.stats_timeout = d;
            }
        }
        Some("maxconn") => drop(cx.number::<u32>(w, 2, "a number of connections")),
        Some("socket") => {
            let Some(addr) = cx.arg(w, 2, "an address or a path") else { return };
            if let Some(s) = stats_socket(cx, addr, &w[3..]) {
                g.stats_sockets.push(s);
            }
        }
        Some(o) => cx.error(format!("'stats' in 'global' expects 'socket', 'timeout' or 'maxconn', but got '{o}'")),
        None => cx.error("'stats' expects 'socket', 'timeout' or 'maxconn'"),
    }
}

pub fn stats_socket(cx: &mut Cx<'_>, addr: &str, w: &[String]) -> Option<StatsSocket> {
    let addr = cx.expand(addr)?;
    let addr = match super::bind::addresses(cx, &addr)?.pop() {
        Some(ListenAddr::Inet { port: 0, .. }) | None => {
            cx.error(format!("'stats socket' : no port in '{addr}'"));
            return None;
        }
        Some(a) => a,
    };
    let mut s = StatsSocket { addr, level: CliLevel::Operator, mode: None, user: None, group: None };
    let mut i = 0;
    while let Some(word) = w.get(i) {
        let value = w.get(i + 1).map(String::as_str);
        match (word.as_str(), value) {
            ("level", Some("user")) => s.level = CliLevel::User,
            ("level", Some("operator")) => s.level = CliLevel::Operator,
            ("level", Some("admin")) => s.level = CliLevel::Admin,
            ("level", o) => cx.error(format!(
                "'stats socket' : 'level' is one of user, operator, admin, not '{}'",
                o.unwrap_or_default()
            )),
            ("mode", Some(v)) => match u32::from_str_radix(v, 8) {
                Ok(m) => s.mode = Some(m),
                Err(_) => cx.error(format!("'stats socket' : '{v}' is not an octal mode")),
            },
            ("user" | "uid", Some(v)) => s.user = Some(v.to_owned()),
            ("group" | "gid", Some(v)) => s.group = Some(v.to_owned()),
            ("expose-fd", Some("listeners")) => cx.report.notice(
                Code::NoEffect,
                &cx.place,
                "'expose-fd listeners' has no effect: sockets stay with the guardian over a reload",
            ),
            ("process" | "thread" | "severity-output" | "name" | "maxconn" | "backlog" | "nbconn" | "id", Some(_)) => {}
            ("accept-proxy" | "v4v6" | "v6only", _) => {
                i += 1;
                continue;
            }
            _ => cx.error(format!(
                "'stats socket' : unknown or incomplete keyword '{word}'{}",
                suggestion(word, ["level", "mode", "user", "group", "expose-fd"])
            )),
        }
        i += 2;
    }
    Some(s)
}

pub const TLS13_SUITES: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

pub fn cipher_list(cx: &mut Cx<'_>, limits: &mut TlsLimits, w: &[String]) {
    let Some(text) = cx.arg(w, 1, "a list of cipher suites") else { return };
    let c = ciphers::choose(text);
    let lost: Vec<&str> = c.missing.iter().chain(&c.unknown).map(String::as_str).collect();
    if !lost.is_empty() {
        cx.report.notice(
            Code::NoEffect,
            &cx.place,
            format!("'{}' : not offered by this TLS library and left out: {}", w[0], lost.join(":")),
        );
    }
    if c.suites.is_empty() {
        cx.report.notice(
            Code::NoEffect,
            &cx.place,
            format!(
                "'{}' : this leaves none of the library's TLS 1.2 suites; all of them are offered ({})",
                w[0],
                ciphers::TLS12_SUITES.join(":")
            ),
        );
        return;
    }
    limits.ciphers = Some(c.suites.into_iter().map(str::to_owned).collect());
}

pub fn ciphersuites(cx: &mut Cx<'_>, limits: &mut TlsLimits, w: &[String]) {
    let Some(text) = cx.arg(w, 1, "a list of TLS 1.3 cipher suites") else { return };
    let kept: Vec<String> = text.split([':', ',']).filter(|n| TLS13_SUITES.contains(n)).map(str::to_owned).collect();
    if !kept.is_empty() {
        limits.ciphersuites = Some(kept);
    }
}

/// Words of `ssl-default-*-options`, and of `bind` and `server` lines that say the same.
pub fn tls_options(cx: &mut Cx<'_>, limits: &mut TlsLimits, w: &[String], what: &str) {
    let mut i = 0;
    while let Some(word) = w.get(i) {
        i += 1;
        match word.as_str() {
            "ssl-min-ver" | "ssl-max-ver" => {
                let Some(v) = w.get(i) else {
                    cx.error(format!("'{what}' : '{word}' expects a version"));
                    return;
                };
                i += 1;
                let version = match v.as_str() {
                    "SSLv3" | "TLSv1.0" | "TLSv1.1" if word == "ssl-min-ver" => {
                        cx.report.notice(
                            Code::NoEffect,
                            &cx.place,
                            format!("'{what}' : versions below TLSv1.2 are not offered by this TLS library"),
                        );
                        continue;
                    }
                    "SSLv3" | "TLSv1.0" | "TLSv1.1" => {
                        cx.error(format!("'{what}' : '{word} {v}' leaves no version: TLSv1.2 and TLSv1.3 are what this TLS library has"));
                        continue;
                    }
                    "TLSv1.2" => TlsVersion::V12,
                    "TLSv1.3" => TlsVersion::V13,
                    _ => {
                        cx.error(format!("'{what}' : unknown version '{v}'; use TLSv1.2 or TLSv1.3"));
                        continue;
                    }
                };
                if word == "ssl-min-ver" {
                    limits.min = Some(version);
                } else {
                    limits.max = Some(version);
                }
            }
            "no-tlsv12" | "force-tlsv13" => limits.min = Some(TlsVersion::V13),
            "no-tlsv13" => limits.max = Some(TlsVersion::V12),
            "force-tlsv12" => (limits.min, limits.max) = (Some(TlsVersion::V12), Some(TlsVersion::V12)),
            "no-tls-tickets" => limits.no_tickets = true,
            "no-sslv3" | "no-tlsv10" | "no-tlsv11" | "prefer-client-ciphers" | "tls-tickets" => {}
            _ => cx.error_of(Code::UnknownWord, format!("'{what}' : unknown option '{word}'")),
        }
    }
}
