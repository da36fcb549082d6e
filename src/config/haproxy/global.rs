//! The `global` section (configuration manual 3).
use super::args::{self, ALONE, Any, FREE, I31, Int, OneOf, Secs, Shape, Size, U32, first, one};
use super::keywords::{self, Class};
use super::{Cx, State, ciphers, log, older, server_state};
use crate::base::addr::ListenAddr;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::{TimeUnit, parse_size};
use crate::config::model::{CliLevel, Global, KeepEnv, StatsSocket, TlsLimits, TlsVersion};

type Parse = fn(&mut Cx<'_>, &mut Global, &[String]);

/// What stands for a word that has no meaning here, with the reason that `-V` gives.
enum Row {
    Honoured(Parse),
    /// The reason, and what its arguments have to be.
    Accepted(&'static str, Shape),
}
use Row::{Accepted, Honoured};

/// Honoured words that refuse what stands behind so many arguments.
const MOST: &[(&str, usize)] = &[
    ("maxconn", 1),
    ("maxconnrate", 1),
    ("maxsessrate", 1),
    ("maxsslrate", 1),
    ("daemon", 0),
    ("node", 1),
    ("localpeer", 1),
    ("nbthread", 1),
];

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
    ("maxconnrate", Honoured(|cx, g, w| g.rates.connections = cx.number(w, 1, "a number of connections").unwrap_or(0))),
    ("maxsessrate", Honoured(|cx, g, w| g.rates.sessions = cx.number(w, 1, "a number of sessions").unwrap_or(0))),
    ("maxsslrate", Honoured(|cx, g, w| g.rates.tls = cx.number(w, 1, "a number of sessions").unwrap_or(0))),
    ("log", Honoured(log_line)),
    ("log-tag", Honoured(|cx, g, w| g.log_tag = cx.arg(w, 1, "a tag").unwrap_or("haproxy").to_owned())),
    ("log-send-hostname", Honoured(|_, g, w| g.log_hostname = Some(w.get(1).cloned().unwrap_or_default()))),
    ("stats", Honoured(stats)),
    (
        "stats-file",
        Honoured(|cx, g, w| {
            let Some(path) = cx.arg(w, 1, "a file path").map(str::to_owned) else { return };
            match cx.src.read(&path) {
                // Whoever begins without it has lost counters, and serves.
                Err(_) => cx.warn(format!("config: Can't load stats-file '{path}': cannot open file.")),
                Ok(bytes) if !is_stats_file(&bytes) => {
                    cx.warn(format!("config: Invalid stats-file format in file '{path}'."));
                }
                Ok(bytes) => g.stats_file = Some(bytes),
            }
        }),
    ),
    ("server-state-base", Honoured(|cx, g, w| server_state::path(cx, |g| &mut g.state_base, g, w))),
    ("server-state-file", Honoured(|cx, g, w| server_state::path(cx, |g| &mut g.state_file, g, w))),
    ("grace", Honoured(|cx, g, w| g.grace = cx.time(w, 1, TimeUnit::Millis).unwrap_or_default())),
    ("hard-stop-after", Honoured(|cx, g, w| g.hard_stop_after = cx.time(w, 1, TimeUnit::Millis))),
    ("crt-base", Honoured(|cx, g, w| once(cx, |g| &mut g.crt_base, g, w))),
    ("ca-base", Honoured(|cx, g, w| once(cx, |g| &mut g.ca_base, g, w))),
    (
        "node",
        Honoured(|cx, g, w| {
            g.node = cx.arg(w, 1, "a name").map(str::to_owned);
            if let Some(bad) = g.node.as_deref().and_then(args::foreign) {
                cx.error_of(Code::Name, format!("'node' : character '{bad}' is not permitted in a name"));
            }
        }),
    ),
    ("description", Honoured(|cx, g, w| g.description = cx.arg(w, 1, "a text").map(|_| w[1..].join(" ")))),
    ("localpeer", Honoured(|cx, g, w| g.localpeer = cx.arg(w, 1, "a name").unwrap_or_default().to_owned())),
    (
        "spread-checks",
        Honoured(|cx, g, w| {
            g.spread_checks = cx.number::<u32>(w, 1, "a percentage").unwrap_or(0);
            if g.spread_checks > 50 {
                cx.error_of(Code::Number, "'spread-checks' : a percentage from 0 to 50 is wanted");
            }
        }),
    ),
    ("tune.bufsize", Honoured(bufsize)),
    ("tune.maxrewrite", Honoured(|cx, g, w| g.maxrewrite = cx.number(w, 1, "a size in bytes").unwrap_or(1024))),
    (
        "tune.idle-pool.shared",
        Honoured(|cx, g, w| {
            if let Some(v) = cx.arg(w, 1, "'on', 'off', 'auto' or 'full'") {
                match v {
                    "off" => g.own_pools = true,
                    "on" | "auto" | "full" => g.own_pools = false,
                    o => cx.error(format!("'tune.idle-pool.shared' expects 'on', 'off', 'auto' or 'full', not '{o}'")),
                }
            }
        }),
    ),
    (
        "tune.http.maxhdr",
        Honoured(|cx, g, w| match cx.number::<u16>(w, 1, "a number of headers") {
            Some(n @ 1..=32_767) => g.kept.headers = n - 1,
            Some(_) => cx.error_of(Code::Number, "'tune.http.maxhdr' expects a numeric value between 1 and 32767"),
            None => {}
        }),
    ),
    (
        "tune.http.logurilen",
        Honoured(|cx, g, w| g.kept.log_line = cx.number(w, 1, "a number of bytes").unwrap_or(1_023usize).max(1)),
    ),
    ("tune.http.cookielen", Honoured(|cx, g, w| g.kept.cookie = cx.number(w, 1, "a number of bytes").unwrap_or(63))),
    ("cpu-map", Honoured(|cx, g, w| super::cpus::cpu_map(cx, &mut g.cpu_map, w))),
    ("tune.pipesize", Honoured(|cx, g, w| g.pipes.size = cx.number(w, 1, "a size in bytes"))),
    ("maxpipes", Honoured(|cx, g, w| g.pipes.most = cx.number(w, 1, "a number of pipes"))),
    ("h1-accept-payload-with-any-method", Honoured(|_, g, _| g.any_payload = true)),
    (
        "external-check",
        Honoured(|cx, g, w| match w.get(1).map(String::as_str) {
            None => g.external_check = Some(KeepEnv(false)),
            Some("preserve-env") => g.external_check = Some(KeepEnv(true)),
            Some(o) => cx.error(format!("'external-check' only supports 'preserve-env' as an argument, found '{o}'")),
        }),
    ),
    ("insecure-fork-wanted", Honoured(|cx, g, _| g.insecure_fork = !cx.negated)),
    (
        "h1-case-adjust",
        Honoured(|cx, g, w| {
            let (Some(from), Some(to)) = (cx.arg(w, 1, "<from> and <to>"), cx.arg(w, 2, "<from> and <to>")) else {
                return;
            };
            if let Err(e) = g.cases.insert(from, to) {
                cx.error(format!("'h1-case-adjust' : {e}"));
            }
        }),
    ),
    ("h1-case-adjust-file", Honoured(case_file)),
    ("nosplice", Honoured(|_, g, _| g.pipes.none = true)),
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
    ("ulimit-n", Accepted("the descriptor limit is raised to what maxconn needs", one(&[Int(0, I31)]))),
    ("quiet", Accepted("use -q on the command line", ALONE)),
    ("tune.ssl.default-dh-param", Accepted("finite-field Diffie-Hellman is not offered", first(&[Int(1024, I31)]))),
    ("ssl-dh-param-file", Accepted("finite-field Diffie-Hellman is not offered", first(&[Any]))),
    ("ssl-default-bind-curves", Accepted("the library's own order of groups is used", first(&[Any]))),
    ("noepoll", Accepted("epoll is the only poller", ALONE)),
    ("strict-limits", Accepted("limits are raised as far as the system permits, and reported", ALONE)),
    ("thread-groups", Accepted("all threads are one group", first(&[Int(1, 64)]))),
    ("thread-group", Accepted("all threads are one group", Shape { min: 1, max: 65, args: &[Int(1, 64), Any] })),
    ("cpu-policy", Accepted("threads are placed by the kernel", FREE)),
    ("tune.maxaccept", Accepted("accept batches are sized by the event loop", first(&[Int(-1, I31)]))),
    ("tune.rcvbuf.client", Accepted("the kernel sizes socket buffers", first(&[Size]))),
    ("tune.sndbuf.client", Accepted("the kernel sizes socket buffers", first(&[Size]))),
    ("tune.ssl.cachesize", Accepted("sessions are resumed by tickets", first(&[Int(0, I31)]))),
    ("tune.ssl.lifetime", Accepted("sessions are resumed by tickets", first(&[Secs]))),
    ("numa-cpu-mapping", Accepted("threads are placed by the kernel", ALONE)),
    ("expose-experimental-directives", Accepted("nothing here is hidden behind it", ALONE)),
    ("zero-warning", Honoured(|_, g, _| g.zero_warning = true)),
    ("busy-polling", Accepted("threads sleep when there is nothing to do", ALONE)),
    (
        "set-dumpable",
        Accepted(
            "the system decides about core dumps",
            Shape { min: 0, max: 1, args: &[OneOf(&["on", "off", "libs"])] },
        ),
    ),
    ("insecure-setuid-wanted", Accepted("the worker starts no program", ALONE)),
    ("maxcomprate", Honoured(|cx, g, w| g.comp_rate = cx.number::<u64>(w, 1, "kilobytes a second").unwrap_or(0) << 10)),
    ("maxcompcpuusage", Accepted("the load is left to 'maxcomprate'", one(&[Int(0, 100)]))),
    ("maxzlibmem", Accepted(ZLIB, one(&[Int(0, I31)]))),
    ("nogetaddrinfo", Accepted("names are resolved by own code", ALONE)),
    ("noreuseport", Accepted("each thread has a socket of its own, by SO_REUSEPORT", ALONE)),
    ("fd-hard-limit", Accepted("the descriptor limit is raised to what maxconn needs", one(&[Int(0, I31)]))),
    ("cluster-secret", Accepted("nothing here is derived from it", one(&[Any]))),
    ("anonkey", Accepted("nothing is dumped anonymously", first(&[Int(0, U32)]))),
    ("limited-quic", Accepted("QUIC is not served", ALONE)),
    ("h2-workaround-bogus-websocket-clients", Accepted("HTTP/2 is not served yet", ALONE)),
    ("no-memory-trimming", Accepted("memory is given back as the allocator sees fit", ALONE)),
    ("noevports", Accepted("epoll is the only poller", ALONE)),
    ("nokqueue", Accepted("epoll is the only poller", ALONE)),
    ("nopoll", Accepted("epoll is the only poller", ALONE)),
    ("noktls", Accepted("TLS is done in the process", ALONE)),
    ("prealloc-fd", Accepted("descriptors are allocated when they are needed", ALONE)),
    ("max-threads-per-group", Accepted("all threads are one group", one(&[Any]))),
    ("thread-hard-limit", Accepted("'nbthread' says how many threads there are", one(&[Any]))),
    ("close-spread-time", Accepted("idle connections end with their next answer", one(&[Any]))),
    ("tune.buffers.limit", Accepted(OWN_BUFFERS, one(&[Any]))),
    ("tune.buffers.reserve", Accepted(OWN_BUFFERS, one(&[Any]))),
    ("tune.bufsize.large", Accepted(OWN_BUFFERS, one(&[Any]))),
    ("tune.bufsize.small", Accepted(OWN_BUFFERS, one(&[Any]))),
    ("tune.recv_enough", Accepted(OWN_BUFFERS, one(&[Any]))),
    ("tune.comp.maxlevel", Accepted("the fastest level is used, as in HAProxy's usual build", one(&[Int(1, 9)]))),
    ("tune.zlib.memlevel", Accepted(ZLIB, one(&[Any]))),
    ("tune.zlib.windowsize", Accepted(ZLIB, one(&[Any]))),
    ("tune.disable-fast-forward", Accepted(OWN_LOOP, ALONE)),
    ("tune.disable-zero-copy-forwarding", Accepted(OWN_LOOP, ALONE)),
    ("tune.applet.zero-copy-forwarding", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.pt.zero-copy-forwarding", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.h1.zero-copy-fwd-recv", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.h1.zero-copy-fwd-send", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.epoll.mask-events", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.events.max-events-at-once", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.fd.edge-triggered", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.idletimer", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.listener.default-shards", Accepted("each thread has a socket of its own", one(&[Any]))),
    ("tune.listener.multi-queue", Accepted("a new connection goes to the thread that has the fewest", one(&[Any]))),
    ("tune.max-checks-per-thread", Accepted("checks run beside the traffic threads", one(&[Any]))),
    ("tune.maxpollevents", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.memory.hot-size", Accepted("memory is kept as the allocator sees fit", one(&[Any]))),
    ("tune.pool-high-fd-ratio", Accepted(OWN_POOLS, one(&[Any]))),
    ("tune.pool-low-fd-ratio", Accepted(OWN_POOLS, one(&[Any]))),
    ("tune.takeover-other-tg-connections", Accepted(OWN_POOLS, one(&[Any]))),
    ("tune.pattern.cache-size", Accepted("patterns are compiled into automata", one(&[Any]))),
    ("tune.rcvbuf.server", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.rcvbuf.backend", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.rcvbuf.frontend", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.sndbuf.server", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.sndbuf.backend", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.sndbuf.frontend", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.notsent-lowat.client", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.notsent-lowat.server", Accepted("the kernel sizes socket buffers", one(&[Any]))),
    ("tune.runqueue-depth", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.sched.low-latency", Accepted(OWN_LOOP, one(&[Any]))),
    ("tune.renice.runtime", Accepted("the system's priority stays", one(&[Any]))),
    ("tune.renice.startup", Accepted("the system's priority stays", one(&[Any]))),
    ("tune.ssl.maxrecord", Accepted("records are as large as the TLS library makes them", one(&[Any]))),
    ("tune.ssl.hard-maxrecord", Accepted("records are as large as the TLS library makes them", one(&[Any]))),
    ("tune.ssl.force-private-cache", Accepted("sessions are resumed by tickets", FREE)),
    ("tune.ssl.ssl-ctx-cache-size", Accepted("no certificates are made on the fly", one(&[Any]))),
];
const OWN_BUFFERS: &str = "a connection has memory of its own only while it holds a part of a message";
const OWN_LOOP: &str = "the event loop works in another way";
const OWN_POOLS: &str = "each thread has idle connections of its own";

pub fn line(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match KEYWORDS.iter().find(|k| k.0 == w[0]) {
        Some((name, Honoured(f))) => {
            if let Some((_, most)) = MOST.iter().find(|m| m.0 == *name) {
                cx.at_most(w, most + 1);
            }
            f(cx, g, w);
        }
        Some((name, Accepted(why, shape))) => {
            if args::check(cx, name, shape, &w[1..]) {
                cx.no_effect(name, why);
            }
        }
        None if older::GLOBAL.iter().any(|o| o.0 == w[0]) => {
            let advice = older::GLOBAL.iter().find(|o| o.0 == w[0]).map_or("", |o| o.1);
            if w[0] == "master-worker" && w.get(1).is_some_and(|x| x != "no-exit-on-failure") {
                return cx.error(format!("'master-worker' only supports 'no-exit-on-failure', not '{}'", w[1]));
            }
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

const ZLIB: &str = "it is for HAProxy built with zlib";

/// What a word of the section comes to.
pub fn state(name: &str) -> State {
    match KEYWORDS.iter().find(|k| k.0 == name) {
        Some((_, Honoured(_))) => State::Honoured,
        Some((_, Accepted(why, _))) => State::Accepted(why),
        None => older::GLOBAL.iter().find(|o| o.0 == name).map_or(State::NotYet, |o| State::Accepted(o.1)),
    }
}

/// A directory that is given once.
fn once(cx: &mut Cx<'_>, slot: fn(&mut Global) -> &mut Option<String>, g: &mut Global, w: &[String]) {
    let Some(dir) = cx.arg(w, 1, "a directory").map(str::to_owned) else { return };
    if slot(g).replace(dir).is_some() {
        cx.error_of(Code::Duplicate, format!("'{}' is already given; keep one of the two lines", w[0]));
    }
}

fn nbthread(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    if let Some(text) = w.get(1).filter(|t| t.parse::<u32>().is_err()) {
        return cx
            .error_of(Code::Number, format!("'nbthread' expects a number of threads from 1 to 64, but got '{text}'"));
    }
    g.nbthread = cx.number(w, 1, "a number of threads from 1 to 64");
    if g.nbthread.is_some_and(|n| !(1..=64).contains(&n)) {
        cx.error("'nbthread' : value must be between 1 and 64");
        g.nbthread = None;
    }
}

/// `h1-case-adjust-file <file>`: two names a line.
fn case_file(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    let Some(path) = cx.arg(w, 1, "a file name").map(str::to_owned) else { return };
    let Some(bytes) = cx.read(&path) else { return };
    for (n, line) in String::from_utf8_lossy(&bytes).lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let done = match (words.next(), words.next(), words.next()) {
            (Some(from), Some(to), None) => g.cases.insert(from, to),
            _ => Err("two names of a header are expected".into()),
        };
        if let Err(e) = done {
            cx.error(format!("'h1-case-adjust-file' : {path}:{} : {e}", n + 1));
        }
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
        cx.variables += name.len() + value.len();
        if cx.variables > super::MAX_VARIABLES {
            return cx.too_much("bytes of variables", super::MAX_VARIABLES);
        }
        cx.env.insert(name.to_owned(), Some(value.to_owned()));
    }
}

/// `stats socket`, `stats timeout`, `stats maxconn`.
fn stats(cx: &mut Cx<'_>, g: &mut Global, w: &[String]) {
    match w.get(1).map(String::as_str) {
        Some("timeout") => {
            if let Some(d) = cx.time(w, 2, TimeUnit::Millis) {
                g.stats_timeout = d;
                if d.is_zero() {
                    cx.error_of(Code::Time, "'stats timeout' : a time larger than 0 is wanted");
                }
            }
        }
        Some("maxconn") => {
            if cx.number::<u32>(w, 2, "a number of connections") == Some(0) {
                cx.error_of(Code::Number, "'stats maxconn' : a number from 1 is wanted");
            }
        }
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
            ("severity-output", Some(o)) if !matches!(o, "none" | "number" | "string") => {
                cx.error(format!("'stats socket' : 'severity-output' is one of none, number, string, not '{o}'"));
            }
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

/// Those that exist, and that the TLS library does not have.
const TLS13_OTHER: &[&str] = &["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256", ""];

/// Groups for key agreement, by the names that OpenSSL takes.
const CURVES: &[&str] = &[
    "P-256",
    "P-384",
    "P-521",
    "prime256v1",
    "secp256r1",
    "secp384r1",
    "secp521r1",
    "secp256k1",
    "secp224r1",
    "X25519",
    "x25519",
    "X448",
    "x448",
    "ffdhe2048",
    "ffdhe3072",
    "ffdhe4096",
    "brainpoolP256r1",
    "brainpoolP384r1",
    "brainpoolP512r1",
    "X25519MLKEM768",
    "SecP256r1MLKEM768",
    "SecP384r1MLKEM1024",
    "MLKEM768",
    "auto",
];

/// `curves`, `ecdhe`: none of the names is one.
pub fn curves(cx: &mut Cx<'_>, word: &str, text: &str) {
    if !text.split(':').any(|n| CURVES.contains(&n.trim_start_matches(['?', '*']))) {
        cx.error_of(
            Code::Tls,
            format!("'{word}' : '{text}' names no curve; there are P-256, P-384, P-521, X25519 and others"),
        );
    }
}

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
    if c.suites.is_empty() && c.missing.is_empty() && !c.unknown.is_empty() {
        return cx.error_of(
            Code::Tls,
            format!("'{}' : '{text}' names no cipher suite; 'openssl ciphers' lists their names", w[0]),
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
    } else if !text.split([':', ',']).any(|n| TLS13_OTHER.contains(&n)) {
        cx.error_of(
            Code::Tls,
            format!("'{}' : '{text}' names no TLS 1.3 cipher suite; there are {}", w[0], TLS13_SUITES.join(", ")),
        );
    }
}

/// Words of `ssl-default-*-options`, and of `bind` and `server` lines that say the same.
pub fn tls_options(cx: &mut Cx<'_>, limits: &mut TlsLimits, w: &[String], what: &str) {
    let mut i = 0;
    if w.is_empty() {
        return cx.error_of(
            Code::Missing,
            format!("'{what}' expects options, such as 'no-tls-tickets' or 'ssl-min-ver TLSv1.2'"),
        );
    }
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
            "prefer-client-ciphers" if what == "ssl-default-server-options" => {
                cx.error_of(Code::UnknownWord, format!("'{what}' : unknown option '{word}': it is for listeners"));
            }
            "no-sslv3" | "no-tlsv10" | "no-tlsv11" | "prefer-client-ciphers" | "tls-tickets" => {}
            _ => cx.error_of(Code::UnknownWord, format!("'{what}' : unknown option '{word}'")),
        }
    }
}

/// Whether a file begins as one with counters does; blank lines and comments may stand in front.
fn is_stats_file(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with("//"));
    first.is_none_or(|l| l.starts_with("#fe guid,") || l.starts_with("#be guid,"))
}
