//! Keywords of `defaults`, `frontend`, `backend` and `listen` (configuration manual 4.1 and 4.2).
use super::keywords::{self, Class};
use super::{
    Cx, State, bind, check, errors, filter, log, mailers, older, rules, server, server_state, source, tcp_rules,
};
use crate::balance::Algorithm;
use crate::balance::hash::{Function, HashType};
use crate::base::addr::IpNet;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::TimeUnit;
use crate::config::model::{
    Affinity, ConnMode, CookieMode, CookiePersist, ForwardFor, Forwarded, HashKey, Kind, LogChoice, Mode, Proxy,
    Restrict, RetryOn, Reuse, Slot, Step, Steps, Told,
};
use crate::rules::logformat::LogFormat;
use crate::rules::sample::{Expr, Scope};
use std::sync::Arc;

type Parse = fn(&mut Cx<'_>, &mut Proxy, &[String]);

/// Where a keyword may stand.
const D: u8 = 1;
const F: u8 = 2;
const B: u8 = 4;
const ALL: u8 = D | F | B;

/// Keyword, sections, most words of a line (0: the handler knows), handler.
const KEYWORDS: &[(&str, u8, usize, Parse)] = &[
    ("mode", ALL, 2, mode),
    ("bind", F, 0, bind::parse),
    ("server", B, 0, server::server),
    ("server-template", B, 0, server::template),
    ("default-server", D | B, 0, server::default_server),
    ("timeout", ALL, 0, timeout),
    ("option", ALL, 0, option),
    ("log", ALL, 0, log_line),
    ("log-format", D | F, 0, log_format),
    ("log-format-sd", D | F, 0, log_format),
    ("error-log-format", D | F, 0, log_format),
    ("log-steps", ALL, 0, log_steps),
    ("log-tag", ALL, 0, |cx, p, w| p.log_tag = cx.arg(w, 1, "a tag").map(str::to_owned)),
    ("maxconn", D | F, 2, |cx, p, w| p.maxconn = cx.number(w, 1, "a number of connections")),
    ("fullconn", D | B, 2, |cx, p, w| p.fullconn = cx.number(w, 1, "a number of connections")),
    ("backlog", D | F, 2, |cx, p, w| p.backlog = cx.number(w, 1, "a number of connections")),
    ("retries", D | B, 2, |cx, p, w| p.retries = cx.number(w, 1, "a number of retries").unwrap_or(3)),
    ("balance", D | B, 0, balance),
    ("acl", ALL, 0, rules::acl),
    ("use_backend", F, 0, rules::use_backend),
    ("use-server", B, 0, rules::use_server),
    ("ignore-persist", B, 0, rules::persist),
    ("force-persist", B, 0, rules::persist),
    ("retry-on", D | B, 0, retry_on),
    ("errorloc", ALL, 3, errors::errorloc),
    ("errorloc302", ALL, 3, errors::errorloc),
    ("errorloc303", ALL, 3, errors::errorloc),
    ("default_backend", D | F, 2, |cx, p, w| {
        if let Some(n) = cx.arg(w, 1, "a backend name") {
            p.default_backend = Some((n.to_owned(), cx.place.clone()));
        }
    }),
    ("http-request", ALL, 0, rules::http_request),
    ("http-response", ALL, 0, rules::http_response),
    ("http-after-response", ALL, 0, rules::http_after_response),
    ("capture", F, 0, capture),
    ("declare", F, 0, declare),
    ("redirect", F | B, 0, rules::redirect),
    ("tcp-request", ALL, 0, tcp_rules::tcp_request),
    ("tcp-response", D | B, 0, tcp_rules::tcp_response),
    ("errorfile", ALL, 3, errors::errorfile),
    ("errorfiles", ALL, 0, errors::errorfiles),
    ("http-error", ALL, 0, errors::http_error),
    ("unique-id-format", D | F, 0, |cx, p, w| {
        let Some(text) = cx.arg(w, 1, "a format string") else { return };
        cx.at_most(w, 2);
        p.unique_id = rules::request_format(cx, "unique-id-format", text, LogFormat::unique).map(Arc::new);
    }),
    ("unique-id-header", D | F, 2, |cx, p, w| {
        p.unique_id_header = cx.arg(w, 1, "a header name").map(str::to_ascii_lowercase);
    }),
    ("cookie", D | B, 0, cookie),
    ("compression", ALL, 0, filter::compression),
    ("filter", F | B, 0, filter::filter),
    ("http-check", D | B, 0, check::http_check),
    ("tcp-check", D | B, 0, check::tcp_check),
    ("external-check", D | B, 0, check::external_check),
    ("email-alert", ALL, 0, mailers::email_alert),
    ("source", D | B, 0, source::line),
    ("clitcpka-cnt", D | F, 2, |cx, p, w| p.keepalive_client.count = cx.number(w, 1, "a number of probes")),
    ("clitcpka-idle", D | F, 2, |cx, p, w| p.keepalive_client.idle = cx.time(w, 1, TimeUnit::Secs)),
    ("clitcpka-intvl", D | F, 2, |cx, p, w| p.keepalive_client.interval = cx.time(w, 1, TimeUnit::Secs)),
    ("srvtcpka-cnt", D | B, 2, |cx, p, w| p.keepalive_server.count = cx.number(w, 1, "a number of probes")),
    ("srvtcpka-idle", D | B, 2, |cx, p, w| p.keepalive_server.idle = cx.time(w, 1, TimeUnit::Secs)),
    ("srvtcpka-intvl", D | B, 2, |cx, p, w| p.keepalive_server.interval = cx.time(w, 1, TimeUnit::Secs)),
    ("http-reuse", D | B, 2, http_reuse),
    ("stats", ALL, 0, stats),
    ("monitor-uri", D | F, 2, |cx, p, w| p.monitor_uri = cx.arg(w, 1, "a URI").map(str::to_owned)),
    ("monitor", F, 0, monitor),
    ("id", F | B, 2, |cx, p, w| {
        p.id = cx.number(w, 1, "a number");
        if p.id.is_some_and(|n| n == 0 || n > 0x7fff_ffff) {
            cx.error_of(Code::Number, "'id' : a number from 1 to 2147483647 is wanted");
        }
    }),
    ("description", F | B, 0, |cx, p, w| p.description = cx.arg(w, 1, "a text").map(|_| w[1..].join(" "))),
    ("disabled", ALL, 1, |_, p, _| p.disabled = true),
    ("enabled", ALL, 1, |_, p, _| p.disabled = false),
    ("hash-type", D | B, 0, hash_type),
    ("hash-balance-factor", D | B, 2, |cx, p, w| {
        let n = cx.number(w, 1, "0, or a percentage from 101");
        if n.is_some_and(|n: u32| n > 0 && n <= 100) {
            cx.error_of(Code::Number, "'hash-balance-factor' : 0, or a percentage larger than 100, is wanted");
        }
        p.hash_balance_factor = n.unwrap_or(0);
    }),
    ("hash-preserve-affinity", D | F | B, 2, |cx, p, w| match w.get(1).map(String::as_str) {
        Some("always") => p.hash_affinity = Affinity::Always,
        Some("maxconn") => p.hash_affinity = Affinity::Maxconn,
        Some("maxqueue") => p.hash_affinity = Affinity::Maxqueue,
        o => cx.error(format!(
            "'hash-preserve-affinity' expects 'always', 'maxconn' or 'maxqueue', not '{}'",
            o.unwrap_or_default()
        )),
    }),
    ("dynamic-cookie-key", D | B, 2, |cx, p, w| p.cookie_key = cx.arg(w, 1, "a key").map(str::to_owned)),
    ("http-send-name-header", D | B, 2, |cx, p, w| {
        p.name_header = cx.arg(w, 1, "a header name").map(str::to_ascii_lowercase);
        if let Some(n) = p.name_header.as_deref().filter(|n| FRAMING.contains(n)) {
            let text = format!("'http-send-name-header' : '{n}' is not permitted: the message would be another one");
            cx.error(text);
        }
    }),
    ("max-keep-alive-queue", D | B, 2, |cx, p, w| {
        p.keep_alive_queue = match w.get(1).map(String::as_str) {
            Some(n) if n.parse::<i64>().is_ok_and(|n| n < 0) => None,
            _ => cx.number(w, 1, "a number of requests, or -1"),
        };
    }),
    ("load-server-state-from-file", D | B, 2, server_state::from),
    ("server-state-file-name", D | B, 2, |_, p, w| server_state::name(p, w)),
    ("rate-limit", D | F, 3, |cx, p, w| match w.get(1).map(String::as_str) {
        Some("sessions") => p.session_rate = cx.number(w, 2, "a number of sessions a second").unwrap_or(0),
        _ => cx.error("'rate-limit' only supports 'sessions' (followed by a number)"),
    }),
    ("persist", D | B, 2, persist),
    ("be-unpublished", B, 1, |_, p, _| p.unpublished = true),
    ("force-be-switch", F, 0, rules::force_switch),
    ("guid", F | B, 2, |cx, p, w| {
        let Some(g) = cx.arg(w, 1, "an identifier") else { return };
        p.guid = cx.guid(g, &format!("{} {}", p.kind.name(), p.name));
    }),
    ("max-session-srv-conns", D | F, 2, |cx, p, w| {
        p.session_conns = cx.number(w, 1, "a number of connections").unwrap_or(p.session_conns);
    }),
];

/// Headers that say how a message is framed and whom it is for.
const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding", "connection"];

/// `persist rdp-cookie[(<name>)]`
fn persist(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    match w.get(1).map(|x| (x.as_str(), x.strip_prefix("rdp-cookie"))) {
        Some((_, Some(""))) => p.rdp_persist = Some("msts".to_owned()),
        Some((o, Some(rest))) => match rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
            Some("") => cx.error_of(Code::Missing, format!("'persist {o}' : missing cookie name")),
            Some(name) => p.rdp_persist = Some(name.to_owned()),
            None => cx.error(format!("'persist {o}' : expected 'rdp-cookie(name)'")),
        },
        _ => cx.error_of(Code::Missing, "'persist' : missing persist method; it is 'rdp-cookie'"),
    }
}

pub fn line(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if older::line(cx, p, w) {
        return;
    }
    let Some((_, places, most, parse)) = KEYWORDS.iter().find(|k| k.0 == w[0]) else {
        if keywords::is(Class::Listen, &w[0]) {
            return cx.not_yet(&format!("'{}'", w[0]));
        }
        let names = KEYWORDS.iter().map(|k| k.0).chain(keywords::names(Class::Listen));
        return cx.error_of(
            Code::UnknownWord,
            format!("unknown keyword '{}' in '{}' section{}", w[0], p.kind.name(), suggestion(&w[0], names)),
        );
    };
    let here = match p.kind {
        Kind::Defaults => D,
        Kind::Frontend => F,
        Kind::Backend => B,
        Kind::Listen => F | B,
    };
    if places & here == 0 {
        let may: Vec<&str> = [(D, "defaults"), (F, "frontend"), (B, "backend"), (F | B, "listen")]
            .iter()
            .filter(|(b, _)| places & b != 0)
            .map(|(_, n)| *n)
            .collect();
        if matches!(w[0].as_str(), "server" | "default-server") {
            return cx
                .error_of(Code::Misplaced, format!("'{}' is not allowed in a frontend; put it into a backend", w[0]));
        }
        if p.kind == Kind::Defaults {
            return cx.error_of(
                Code::Misplaced,
                format!("'{}' is not allowed in a 'defaults' section: it belongs to {}", w[0], may.join(", ")),
            );
        }
        // HAProxy warns and ignores here; so do we.
        return cx.warn_of(
            Code::Misplaced,
            format!(
                "'{}' ignored because {} '{}' cannot have it: it belongs to {}",
                w[0],
                p.kind.name(),
                p.name,
                may.join(", ")
            ),
        );
    }
    let rule = matches!(
        w[0].as_str(),
        "http-request" | "http-response" | "http-after-response" | "tcp-request" | "tcp-response" | "acl"
    );
    if p.kind == Kind::Defaults && p.name.is_empty() && rule {
        return cx.error_of(
            Code::Misplaced,
            format!("'{}' is not allowed in a 'defaults' section without a name; give it one", w[0]),
        );
    }
    if *most > 0 {
        cx.at_most(w, *most);
    }
    parse(cx, p, w);
}

fn mode(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    p.mode_said = true;
    match cx.arg(w, 1, "'tcp' or 'http'") {
        Some("tcp") => p.mode = Mode::Tcp,
        Some("http") => p.mode = Mode::Http,
        Some("log") if p.kind == Kind::Backend || p.kind == Kind::Defaults => p.mode = Mode::Log,
        Some("log") => cx.error_of(Code::Misplaced, "'mode log' is only for backends"),
        Some(o @ "spop") => cx.not_yet(&format!("'mode {o}'")),
        Some("health") => cx.error_of(
            Code::RemovedWord,
            "'mode health' is no longer supported; use 'http-request return status 200' in 'mode http'",
        ),
        Some(o) => {
            cx.error_of(Code::UnknownWord, format!("unknown proxy mode '{o}'{}", suggestion(o, ["tcp", "http"])))
        }
        None => {}
    }
}

const TIMEOUTS: &[&str] = &[
    "client",
    "server",
    "connect",
    "queue",
    "check",
    "http-request",
    "http-keep-alive",
    "tunnel",
    "tarpit",
    "client-fin",
    "client-hs",
    "server-fin",
];

pub fn timeout(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "the name of a timer") else { return };
    let name = match older::timer(name) {
        Some(modern) if !cx.strict => {
            cx.warn_of(Code::OldWord, format!("'timeout {name}' is old syntax; write 'timeout {modern}'"));
            modern
        }
        _ => name,
    };
    if !TIMEOUTS.contains(&name) {
        return cx.error_of(
            Code::UnknownWord,
            format!(
                "'timeout' does not know '{name}'{}; it takes {}",
                suggestion(name, TIMEOUTS.iter().copied()),
                TIMEOUTS.join(", ")
            ),
        );
    }
    let Some(d) = cx.time(w, 2, TimeUnit::Millis) else { return };
    cx.at_most(w, 3);
    // Zero is HAProxy's "no timeout".
    let d = (!d.is_zero()).then_some(d);
    let t = &mut p.timeouts;
    *match name {
        "client" => &mut t.client,
        "server" => &mut t.server,
        "connect" => &mut t.connect,
        "queue" => &mut t.queue,
        "check" => &mut t.check,
        "http-request" => &mut t.http_request,
        "http-keep-alive" => &mut t.http_keep_alive,
        "tunnel" => &mut t.tunnel,
        "tarpit" => &mut t.tarpit,
        "client-fin" => &mut t.client_fin,
        "client-hs" => &mut t.client_hs,
        _ => &mut t.server_fin,
    } = d;
}

/// `retry-on <event>...`
fn retry_on(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if cx.arg(w, 1, "a list of events").is_none() {
        return;
    }
    let mut r = RetryOn { conn_failure: false, ..RetryOn::default() };
    for e in &w[1..] {
        match e.as_str() {
            "none" if w.len() == 2 => {}
            "none" => cx.error("'retry-on' : 'none' stands alone"),
            "conn-failure" => r.conn_failure = true,
            "empty-response" => r.empty_response = true,
            "junk-response" => r.junk_response = true,
            "response-timeout" => r.response_timeout = true,
            "0rtt-rejected" => cx.no_effect("0rtt-rejected", "no early data is sent to servers"),
            "all-retryable-errors" => {
                (r.conn_failure, r.empty_response, r.junk_response, r.response_timeout) = (true, true, true, true);
                r.statuses.extend([500, 502, 503, 504]);
            }
            o => match o.parse() {
                Ok(s) if RETRIED_STATUSES.contains(&s) => r.statuses.push(s),
                _ => {
                    let known = [
                        "none",
                        "conn-failure",
                        "empty-response",
                        "junk-response",
                        "response-timeout",
                        "0rtt-rejected",
                        "all-retryable-errors",
                    ];
                    let text = format!(
                        "'retry-on' : unknown event '{o}'{}; statuses are {RETRIED_STATUSES:?}",
                        suggestion(o, known)
                    );
                    cx.error_of(Code::UnknownWord, text);
                }
            },
        }
    }
    p.retry_on = r;
}

/// Statuses that `retry-on` takes.
const RETRIED_STATUSES: &[u16] = &[401, 403, 404, 408, 421, 425, 429, 500, 501, 502, 503, 504];

/// Options that are honoured.
const OPTIONS: &[(&str, Parse)] = &[
    ("httplog", |cx, p, w| {
        if let Some(extra) = w.get(2).filter(|x| *x != "clf") {
            return cx.error(format!("'option httplog' only takes 'clf', not '{extra}'"));
        }
        p.log_format = if w.get(2).map(String::as_str) == Some("clf") { LogChoice::Clf } else { LogChoice::Http }
    }),
    ("tcplog", |_, p, _| p.log_format = LogChoice::Tcp),
    ("dontlognull", |cx, p, _| p.options.dontlognull = !cx.negated),
    ("dontlog-normal", |cx, p, _| p.options.dontlog_normal = !cx.negated),
    ("log-health-checks", |cx, p, _| p.options.log_health_checks = !cx.negated),
    ("log-separate-errors", |cx, p, _| p.options.log_separate_errors = !cx.negated),
    ("logasap", |cx, p, _| p.options.logasap = !cx.negated),
    ("socket-stats", |cx, p, _| p.options.socket_stats = !cx.negated),
    ("http-ignore-probes", |cx, p, _| p.options.ignore_probes = !cx.negated),
    ("accept-unsafe-violations-in-http-request", |cx, p, _| p.options.violations_request = !cx.negated),
    ("accept-unsafe-violations-in-http-response", |cx, p, _| p.options.violations_response = !cx.negated),
    ("accept-invalid-http-request", |cx, p, _| p.options.violations_request = !cx.negated),
    ("accept-invalid-http-response", |cx, p, _| p.options.violations_response = !cx.negated),
    ("http-restrict-req-hdr-names", |cx, p, w| {
        p.options.restrict_names = match w.get(2).map(String::as_str) {
            _ if cx.negated => Restrict::Preserve,
            Some("preserve") => Restrict::Preserve,
            Some("delete") => Restrict::Delete,
            Some("reject") => Restrict::Reject,
            o => {
                let got = o.unwrap_or_default();
                return cx.error(format!(
                    "'option http-restrict-req-hdr-names' expects preserve, delete or reject, not '{got}'"
                ));
            }
        }
    }),
    ("abortonclose", |cx, p, _| p.options.abortonclose = !cx.negated),
    ("http-keep-alive", |_, p, _| p.options.conn_mode = ConnMode::KeepAlive),
    ("http-server-close", |cx, p, _| {
        p.options.conn_mode = if cx.negated { ConnMode::KeepAlive } else { ConnMode::ServerClose }
    }),
    ("httpclose", |cx, p, _| p.options.conn_mode = if cx.negated { ConnMode::KeepAlive } else { ConnMode::Close }),
    ("forceclose", |cx, p, _| p.options.conn_mode = if cx.negated { ConnMode::KeepAlive } else { ConnMode::Close }),
    ("redispatch", |cx, p, w| {
        p.options.redispatch = (!cx.negated).then(|| w.get(2).and_then(|n| n.parse().ok()).unwrap_or(-1));
    }),
    ("forwardfor", |cx, p, w| p.options.forwardfor = sent_on(cx, w, "x-forwarded-for", p.options.forwardfor.take())),
    ("originalto", |cx, p, w| p.options.originalto = sent_on(cx, w, "x-original-to", p.options.originalto.take())),
    ("forwarded", forwarded),
    ("http-pretend-keepalive", |cx, p, _| p.options.pretend_keepalive = !cx.negated),
    ("independent-streams", |cx, p, _| p.options.independent = !cx.negated),
    ("idle-close-on-response", |cx, p, _| p.options.idle_close_on_response = !cx.negated),
    ("http-drop-request-trailers", |cx, p, _| p.options.drop_request_trailers = !cx.negated),
    ("http-drop-response-trailers", |cx, p, _| p.options.drop_response_trailers = !cx.negated),
    ("http-buffer-request", |cx, p, _| p.options.buffer_request = !cx.negated),
    ("httpchk", check::httpchk),
    ("tcp-check", check::tcp_rules),
    ("external-check", check::external),
    ("redis-check", check::dialect),
    ("mysql-check", check::dialect),
    ("pgsql-check", check::dialect),
    ("smtpchk", check::dialect),
    ("ldap-check", check::dialect),
    ("spop-check", check::dialect),
    ("ssl-hello-chk", check::ssl_hello),
    ("allbackups", |cx, p, _| p.options.allbackups = !cx.negated),
    ("persist", |cx, p, _| p.options.persist = !cx.negated),
    ("prefer-last-server", |cx, p, _| p.options.prefer_last_server = !cx.negated),
    ("h1-case-adjust-bogus-client", |cx, p, _| p.options.adjust_client = !cx.negated),
    ("h1-case-adjust-bogus-server", |cx, p, _| p.options.adjust_server = !cx.negated),
    ("nolinger", |cx, p, _| p.options.nolinger = !cx.negated),
    ("tcpka", |cx, p, _| (p.options.tcpka_client, p.options.tcpka_server) = (!cx.negated, !cx.negated)),
    ("clitcpka", |cx, p, _| p.options.tcpka_client = !cx.negated),
    ("srvtcpka", |cx, p, _| p.options.tcpka_server = !cx.negated),
];

/// Options that change nothing here, with the reason.
const ACCEPTED_OPTIONS: &[(&str, &str)] = &[
    ("splice-auto", "bulk data is spliced without being asked, see nosplice"),
    ("splice-request", "bulk data is spliced without being asked, see nosplice"),
    ("splice-response", "bulk data is spliced without being asked, see nosplice"),
    ("tcp-smart-accept", "the kernel's defaults are used"),
    ("tcp-smart-connect", "the kernel's defaults are used"),
    ("contstats", "counters are always current"),
    ("http-no-delay", "nothing is delayed"),
    ("http-use-htx", "it has been the only way since HAProxy 2.0"),
    ("checkcache", "no answer is blocked; HAProxy 2.6 and 3.5 were seen to block none either"),
    ("disable-h2-upgrade", "HTTP/2 is not served yet"),
    ("use-small-buffers", "a connection has no more memory than it needs"),
];

/// Options that only clients' side has (configuration manual, 4.1).
const FRONTEND_OPTIONS: &[&str] = &[
    "accept-invalid-http-request",
    "accept-unsafe-violations-in-http-request",
    "clitcpka",
    "dontlog-normal",
    "dontlognull",
    "h1-case-adjust-bogus-client",
    "http-drop-response-trailers",
    "http-ignore-probes",
    "idle-close-on-response",
    "log-separate-errors",
    "logasap",
    "socket-stats",
];

/// Those that only servers' side has.
const BACKEND_OPTIONS: &[&str] = &[
    "accept-invalid-http-response",
    "accept-unsafe-violations-in-http-response",
    "allbackups",
    "external-check",
    "forwarded",
    "h1-case-adjust-bogus-server",
    "http-drop-request-trailers",
    "http-pretend-keepalive",
    "httpchk",
    "ldap-check",
    "log-health-checks",
    "mysql-check",
    "persist",
    "pgsql-check",
    "prefer-last-server",
    "redis-check",
    "redispatch",
    "smtpchk",
    "spop-check",
    "srvtcpka",
    "ssl-hello-chk",
    "tcp-check",
];

fn option(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "the name of an option") else { return };
    let misplaced = match p.kind {
        Kind::Frontend => BACKEND_OPTIONS.contains(&name).then_some("backend"),
        Kind::Backend => FRONTEND_OPTIONS.contains(&name).then_some("frontend"),
        Kind::Defaults | Kind::Listen => None,
    };
    if let Some(side) = misplaced {
        let text = format!("'{name}' ignored because {} '{}' has no {side} capability", p.kind.name(), p.name);
        return cx.warn_of(Code::Misplaced, text);
    }
    if let Some((_, f)) = OPTIONS.iter().find(|o| o.0 == name) {
        let free = matches!(
            name,
            "httplog"
                | "redispatch"
                | "forwardfor"
                | "forwarded"
                | "originalto"
                | "httpchk"
                | "smtpchk"
                | "mysql-check"
                | "pgsql-check"
                | "http-restrict-req-hdr-names"
        );
        if !free {
            cx.at_most(&w[1..], 1);
        }
        if name == "forceclose" {
            if cx.strict {
                return cx.error_of(
                    Code::RemovedWord,
                    "'option forceclose' is not supported any more; use 'option httpclose'",
                );
            }
            cx.warn_of(Code::OldWord, "'option forceclose' is old syntax; write 'option httpclose'");
        }
        if cx.negated
            && matches!(
                name,
                "httplog"
                    | "tcplog"
                    | "httpchk"
                    | "tcp-check"
                    | "external-check"
                    | "ssl-hello-chk"
                    | "forwardfor"
                    | "redis-check"
                    | "mysql-check"
                    | "pgsql-check"
                    | "smtpchk"
                    | "ldap-check"
                    | "spop-check"
            )
        {
            return cx.error(format!("negation is not supported for 'option {name}'"));
        }
        return f(cx, p, w);
    }
    if !cx.strict {
        match name {
            "http-tunnel" => {
                return cx.warn_of(
                    Code::OldWord,
                    "'option http-tunnel' is old syntax: connections are kept alive; remove it",
                );
            }
            "transparent" => {
                cx.warn_of(Code::OldWord, "'option transparent' is old syntax; write 'server transparent 0.0.0.0'");
                return older::anywhere(cx, p);
            }
            "http_proxy" => {
                return cx.error_of(Code::RemovedWord, "'option http_proxy' is not supported any more; write 'http-request do-resolve', 'set-dst', 'set-uri' and a server with address 0.0.0.0");
            }
            _ => {}
        }
    }
    if let Some((_, why)) = ACCEPTED_OPTIONS.iter().find(|o| o.0 == name) {
        return cx.report.notice(Code::NoEffect, &cx.place, format!("'option {name}' has no effect: {why}"));
    }
    if keywords::is(Class::Option, name) {
        if !cx.negated {
            cx.not_yet(&format!("'option {name}'"));
        }
        return;
    }
    let names = OPTIONS.iter().map(|o| o.0).chain(keywords::names(Class::Option));
    cx.error_of(Code::UnknownWord, format!("unknown option '{name}'{}", suggestion(name, names)));
}

/// `option forwarded [proto] [host | host-expr <expr>] [by...] [by_port...] [for...] [for_port...]`
fn forwarded(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    p.options.forwarded = None;
    if cx.negated {
        return;
    }
    let mut f = Forwarded { proto: w.len() == 2, ..Forwarded::default() };
    if f.proto {
        f.client = Some(Told::Usual);
    }
    let mut i = 2;
    while let Some(word) = w.get(i) {
        i += 1;
        if word == "proto" {
            f.proto = true;
            continue;
        }
        let (name, told) = match word.strip_suffix("-expr") {
            None => (word.as_str(), Told::Usual),
            Some(name) => {
                let Some(text) = cx.arg(w, i, "an expression") else { return };
                i += 1;
                let Some(e) = super::actions::expression(cx, "option forwarded", text, Scope::Request) else { return };
                (name, Told::Expr(Arc::from(e)))
            }
        };
        *match name {
            "host" => &mut f.host,
            "by" => &mut f.by,
            "by_port" => &mut f.by_port,
            "for" => &mut f.client,
            "for_port" => &mut f.client_port,
            _ => {
                return cx.error(format!(
                    "'option forwarded' : unknown parameter '{word}'; there are proto, host, by, by_port, for, for_port, and all but the first with -expr"
                ));
            }
        } = Some(told);
    }
    // A port belongs to a node.
    if f.by_port.is_some() && f.by.is_none() || f.client_port.is_some() && f.client.is_none() {
        cx.warn("'option forwarded' : a port is left out where its node is");
    }
    p.options.forwarded = Some(Box::new(f));
}

/// `option forwardfor` and `option originalto`; on an error what was there stays.
fn sent_on(cx: &mut Cx<'_>, w: &[String], header: &str, before: Option<ForwardFor>) -> Option<ForwardFor> {
    if cx.negated {
        return None;
    }
    let name = &w[1];
    let mut f = ForwardFor { header: header.to_owned(), except: None, if_none: false };
    let mut i = 2;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "except" => {
                let Some(net) = cx.arg(w, i + 1, "a network") else { return before };
                f.except = IpNet::parse(net);
                if f.except.is_none() {
                    cx.error(format!("'option {name}' : '{net}' is not a network"));
                }
                i += 2;
            }
            "header" => {
                let Some(h) = cx.arg(w, i + 1, "a header name") else { return before };
                f.header = h.to_ascii_lowercase();
                i += 2;
            }
            "if-none" => {
                f.if_none = true;
                i += 1;
            }
            o => {
                cx.error(format!("'option {name}' only takes 'except', 'header' and 'if-none', not '{o}'"));
                return before;
            }
        }
    }
    Some(f)
}

/// `capture request header <name> len <n>`, `capture response header ...`, `capture cookie <name> len <n>`
fn capture(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(what) = cx.arg(w, 1, "'request header', 'response header' or 'cookie'") else { return };
    let (name, at) = match what {
        "cookie" => (cx.arg(w, 2, "the name of a cookie"), 3),
        "request" | "response" if w.get(2).is_some_and(|x| x == "header") => (cx.arg(w, 3, "a header name"), 4),
        _ => return cx.error("'capture' expects 'cookie', 'request header' or 'response header'"),
    };
    let Some(name) = name.map(str::to_owned) else { return };
    if w.get(at).map(String::as_str) != Some("len") {
        return cx.error("'capture' expects 'len <bytes>' behind the name");
    }
    let Some(len) = cx.number(w, at + 1, "a number of bytes") else { return };
    cx.at_most(w, at + 2);
    let slot = Slot { header: Some(name.to_ascii_lowercase()), len };
    match what {
        "cookie" => p.captures.cookie = Some((name, len)),
        "request" => p.captures.request.push(slot),
        _ => p.captures.response.push(slot),
    }
}

/// `declare capture request|response len <n>`
fn declare(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let slots = match (w.get(1).map(String::as_str), w.get(2).map(String::as_str), w.get(3).map(String::as_str)) {
        (Some("capture"), Some("request"), Some("len")) => &mut p.captures.request,
        (Some("capture"), Some("response"), Some("len")) => &mut p.captures.response,
        _ => return cx.error("'declare' expects 'capture request len <bytes>' or 'capture response len <bytes>'"),
    };
    if let Some(len) = cx.number(w, 4, "a number of bytes") {
        slots.push(Slot { header: None, len });
    }
}

fn log_line(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if cx.negated {
        cx.at_most(w, 1);
        p.logs.clear();
        p.log_global = false;
    } else if w.get(1).map(String::as_str) == Some("global") {
        cx.at_most(w, 2);
        p.log_global = true;
    } else if let Some(t) = log::parse(cx, w) {
        p.logs.push(t);
    }
}

fn log_format(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(text) = cx.arg(w, 1, "a format string") else { return };
    cx.at_most(w, 2);
    let Some(f) = rules::format(cx, &w[0], text, Scope::Log).map(Arc::new) else { return };
    match w[0].as_str() {
        "log-format-sd" => p.log_sd = Some(f),
        "error-log-format" => p.error_log_format = Some(f),
        _ => p.log_format = LogChoice::Custom(f, text.to_owned()),
    }
}

/// `log-steps all|<step>[,<step>...]`
fn log_steps(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(list) = cx.arg(w, 1, "'all', or a list of steps") else { return };
    if p.kind == Kind::Backend {
        return cx.warn_of(Code::Useless, "'log-steps' is ignored: a backend writes no lines of its own");
    }
    let mut steps = if list == "all" { Steps::ALL } else { Steps::default() };
    for name in list.split(',').filter(|_| list != "all") {
        match Step::STEPS.iter().find(|s| s.0 == name) {
            Some(s) => steps.add(s.1),
            None => {
                let near = suggestion(name, Step::STEPS.iter().map(|s| s.0));
                return cx.error_of(Code::UnknownWord, format!("'log-steps' : invalid log step name '{name}'{near}"));
            }
        }
    }
    p.log_steps = Some(steps);
}

fn balance(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "an algorithm") else { return };
    let (word, inner) = match name.split_once('(') {
        Some((word, rest)) => (word, rest.strip_suffix(')')),
        None => (name, None),
    };
    if inner.is_none() && word != name {
        return cx.error(format!("'balance {name}' : missing ')'"));
    }
    let Some((_, algorithm)) = Algorithm::NAMES.iter().find(|a| a.0 == word) else {
        return cx.error_of(
            Code::UnknownWord,
            format!("unknown balance algorithm '{name}'{}", suggestion(name, Algorithm::NAMES.iter().map(|a| a.0))),
        );
    };
    if inner.is_some() && !matches!(algorithm, Algorithm::Header | Algorithm::Random(_) | Algorithm::RdpCookie) {
        return cx.error(format!("'balance {word}' takes nothing in parentheses"));
    }
    let mut algorithm = *algorithm;
    let mut used = 2;
    let key = match algorithm {
        Algorithm::Uri => {
            let (mut len, mut depth, mut whole, mut path_only) = (0, 0, false, false);
            while let Some(x) = w.get(used) {
                match x.as_str() {
                    "len" | "depth" => {
                        let Some(n) = cx.number(w, used + 1, "a number larger than 0").filter(|n| *n > 0) else {
                            return;
                        };
                        if x == "len" {
                            len = n
                        } else {
                            depth = n
                        }
                        used += 1;
                    }
                    "whole" => whole = true,
                    "path-only" => path_only = true,
                    o => {
                        return cx.error(format!(
                            "'balance uri' only takes 'len', 'depth', 'whole' and 'path-only', not '{o}'"
                        ));
                    }
                }
                used += 1;
            }
            HashKey::Uri { len, depth, whole, path_only }
        }
        Algorithm::UrlParam => {
            let Some(param) = cx.arg(w, 2, "the name of a parameter") else { return };
            let post = w.get(3).is_some_and(|o| o == "check_post");
            used = 3 + usize::from(post);
            if post {
                // So much of it, in former versions.
                used += usize::from(w.get(4).is_some_and(|n| n.parse::<u32>().is_ok()));
            }
            HashKey::Param { name: param.to_owned(), post }
        }
        Algorithm::Header => {
            let Some(header) = inner.filter(|h| !h.is_empty()) else {
                return cx.error("'balance hdr' expects the name of a header: hdr(<name>)");
            };
            let domain_only = w.get(2).map(String::as_str) == Some("use_domain_only");
            used += usize::from(domain_only);
            HashKey::Header { name: header.to_ascii_lowercase(), domain_only }
        }
        Algorithm::RdpCookie => HashKey::RdpCookie(inner.unwrap_or("mstshash").to_owned()),
        Algorithm::Hash => {
            let Some(text) = cx.arg(w, 2, "an expression") else { return };
            used = 3;
            match Expr::parse(text, &super::names(&cx.env)) {
                Ok((e, "")) if e.least() <= Scope::Request => HashKey::Sample(Arc::new(e)),
                Ok((_, "")) => {
                    return cx.error(format!("'balance hash' : '{text}' has no value before a server is chosen"));
                }
                Ok((_, rest)) => return cx.error(format!("'balance hash' : unexpected '{rest}'")),
                Err(e) => return cx.expr_error("balance hash", e),
            }
        }
        Algorithm::LogHash => {
            let Some(text) = cx.arg(w, 2, "converters") else { return };
            used = 3;
            // Converters of what a message says.
            match Expr::parse(&format!("req.payload(0,0),{text}"), &super::names(&cx.env)) {
                Ok((e, "")) => HashKey::Sample(Arc::new(e)),
                Ok((_, rest)) => return cx.error(format!("'balance log-hash' : unexpected '{rest}'")),
                Err(e) => return cx.expr_error("balance log-hash", e),
            }
        }
        Algorithm::Random(_) => {
            if let Some(n) = inner {
                match n.parse() {
                    Ok(n @ 1..) => algorithm = Algorithm::Random(n),
                    _ => return cx.error(format!("'balance random' : '{n}' is not a number of draws from 1")),
                }
            }
            HashKey::Source
        }
        _ => HashKey::Source,
    };
    cx.at_most(w, used);
    (p.balance, p.hash_key) = (Some(algorithm), key);
}

/// The end of the section: what a backend of logs can be.
pub fn finish_logs(cx: &mut Cx<'_>, p: &Proxy) {
    use Algorithm::{LogHash, Random, RoundRobin, Sticky};
    if p.mode != Mode::Log {
        if matches!(p.balance, Some(Sticky | LogHash)) {
            let text = format!("'{}' : 'balance sticky' and 'balance log-hash' are for 'mode log'", p.name);
            cx.report.error(Code::Misplaced, &p.place, text);
        }
        return;
    }
    let place = &p.place;
    if !matches!(p.balance, None | Some(RoundRobin | Random(_) | Sticky | LogHash)) {
        let text = format!(
            "in backend '{}' : 'balance' only supports 'roundrobin', 'random', 'sticky' and 'log-hash' in 'mode log'",
            p.name
        );
        cx.report.error(Code::Misplaced, place, text);
    }
    if p.balance == Some(LogHash) && p.hash_type.consistent {
        let text = format!("backend '{}' : 'balance log-hash' needs 'hash-type map-based'", p.name);
        cx.report.error(Code::Misplaced, place, text);
    }
    if p.servers.windows(2).any(|s| s[0].datagram != s[1].datagram) {
        let text =
            format!("log backend '{}' : its servers have to be all of datagrams (udp@) or all of streams", p.name);
        cx.report.error(Code::Misplaced, place, text);
    }
    let unused = [
        ("tcp-request", !p.tcp_content.is_empty()),
        ("use-server", !p.use_server.is_empty()),
        ("http-request", !p.http_request.is_empty()),
        ("cookie", p.cookie.is_some()),
    ];
    for (word, _) in unused.iter().filter(|u| u.1) {
        let text = format!("'{word}' cannot be used with 'mode log' in backend '{}', and is ignored", p.name);
        cx.report.warning(Code::Useless, place, text);
    }
}

/// `hash-type <method> [<function>] [<modifier>]`
fn hash_type(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(method) = cx.arg(w, 1, "'map-based' or 'consistent'") else { return };
    let consistent = match method {
        "map-based" => false,
        "consistent" => true,
        "avalanche" => {
            return cx.error_of(
                Code::RemovedWord,
                "'hash-type avalanche' is old syntax; write 'hash-type map-based sdbm avalanche'",
            );
        }
        o => {
            return cx.error_of(
                Code::UnknownWord,
                format!(
                    "'hash-type' only supports 'map-based' and 'consistent', not '{o}'{}",
                    suggestion(o, ["map-based", "consistent"])
                ),
            );
        }
    };
    let mut t = HashType { consistent, function: Function::Sdbm, avalanche: false };
    match w.get(2) {
        // A ring without a function gets the one that spreads.
        None => t.avalanche = consistent,
        Some(f) => match Function::NAMES.iter().find(|n| n.0 == f) {
            Some((_, f)) => t.function = *f,
            None => {
                let names = Function::NAMES.iter().map(|n| n.0);
                return cx.error_of(Code::UnknownWord, format!("unknown hash function '{f}'{}", suggestion(f, names)));
            }
        },
    }
    match w.get(3).map(String::as_str) {
        None => {}
        Some("avalanche") => t.avalanche = true,
        Some(o) => return cx.error(format!("'hash-type' : unknown modifier '{o}'; there is 'avalanche'")),
    }
    cx.at_most(w, 4);
    p.hash_type = t;
}

fn cookie(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "a name and 'insert'") else { return };
    let mut c = CookiePersist {
        name: name.to_owned(),
        mode: CookieMode::Passive,
        indirect: false,
        nocache: false,
        postonly: false,
        preserve: false,
        httponly: false,
        secure: false,
        domains: Vec::new(),
        attrs: Vec::new(),
        max_idle: None,
        max_life: None,
        dynamic: false,
    };
    let mut modes = 0;
    let mut i = 2;
    while let Some(word) = w.get(i) {
        i += 1;
        match word.as_str() {
            "insert" | "rewrite" | "prefix" => {
                modes += 1;
                c.mode = match word.as_str() {
                    "insert" => CookieMode::Insert,
                    "rewrite" => CookieMode::Rewrite,
                    _ => CookieMode::Prefix,
                };
            }
            "indirect" => c.indirect = true,
            "nocache" => c.nocache = true,
            "postonly" => c.postonly = true,
            "preserve" => c.preserve = true,
            "httponly" => c.httponly = true,
            "secure" => c.secure = true,
            "domain" => {
                c.domains.extend(cx.arg(w, i, "a domain").map(str::to_owned));
                i += 1;
            }
            "attr" => {
                if let Some(bad) = w.get(i).and_then(|a| a.chars().find(|c| c.is_control() || *c == ';')) {
                    cx.error(format!("'cookie' : character '{}' is not permitted in 'attr'", bad.escape_default()));
                }
                c.attrs.extend(cx.arg(w, i, "an attribute").map(str::to_owned));
                i += 1;
            }
            "dynamic" => c.dynamic = true,
            o @ ("maxidle" | "maxlife") => {
                let Some(d) = cx.time(w, i, TimeUnit::Secs) else { return };
                let seconds = Some(d.as_secs()).filter(|s| *s > 0);
                *(if o == "maxidle" { &mut c.max_idle } else { &mut c.max_life }) = seconds;
                i += 1;
            }
            o => {
                return cx.error_of(
                    Code::UnknownWord,
                    format!(
                        "'cookie' : unknown keyword '{o}'{}",
                        suggestion(o, ["insert", "indirect", "nocache", "preserve", "httponly", "secure", "domain"])
                    ),
                );
            }
        }
    }
    if modes > 1 {
        return cx.error("'cookie' is one of 'insert', 'rewrite' and 'prefix'");
    }
    if c.mode == CookieMode::Prefix && c.indirect {
        return cx.error("'cookie' : 'prefix' and 'indirect' do not go together");
    }
    p.cookie = Some(c);
}

fn http_reuse(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    p.reuse = match cx.arg(w, 1, "'never', 'safe', 'aggressive' or 'always'") {
        Some("never") => Reuse::Never,
        Some("safe") => Reuse::Safe,
        Some("aggressive") => Reuse::Aggressive,
        Some("always") => Reuse::Always,
        Some(o) => {
            return cx.error(format!("'http-reuse' expects 'never', 'safe', 'aggressive' or 'always', but got '{o}'"));
        }
        None => return,
    };
}

fn monitor(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if w.get(1).map(String::as_str) != Some("fail") || w.len() < 3 {
        return cx.error("'monitor' expects 'fail if|unless <condition>'");
    }
    if let Ok(Some(c)) = rules::cond(cx, p, w, 2, Scope::Request) {
        p.monitor_fail.push(c);
    }
}

fn stats(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(word) = cx.arg(w, 1, "a keyword of the statistics page") else { return };
    let s = &mut p.stats;
    s.enabled = true;
    match word {
        "enable" => {}
        "uri" => s.uri = cx.arg(w, 2, "a URI").map(str::to_owned),
        "realm" => s.realm = cx.arg(w, 2, "a realm").map(str::to_owned),
        "auth" => {
            let Some(pair) = cx.arg(w, 2, "<user>:<password>") else { return };
            match pair.split_once(':') {
                Some((u, pw)) => s.auth.push((u.to_owned(), pw.to_owned())),
                None => cx.error("'stats auth' expects <user>:<password>"),
            }
        }
        "refresh" => s.refresh = cx.time(w, 2, TimeUnit::Secs),
        "hide-version" => s.hide_version = true,
        "show-version" => s.hide_version = false,
        "show-legends" => s.show_legends = true,
        "show-node" => s.show_node = Some(w.get(2).cloned().unwrap_or_default()),
        "show-desc" => s.show_desc = Some(w.get(2..).map(|r| r.join(" ")).unwrap_or_default()),
        "show-modules" => {}
        "scope" => s.scope.extend(cx.arg(w, 2, "a proxy name").map(str::to_owned)),
        "admin" if w.len() < 3 => cx.error_of(Code::Missing, "'stats admin' expects 'if' or 'unless' with a condition"),
        "admin" => {
            if let Ok(c) = rules::cond(cx, p, w, 2, Scope::Request) {
                p.stats.admin.push(c);
            }
        }
        "http-request" => cx.not_yet("'stats http-request'"),
        "socket" | "timeout" => cx.error_of(Code::Misplaced, format!("'stats {word}' belongs to the 'global' section")),
        o => {
            let names = [
                "enable",
                "uri",
                "realm",
                "auth",
                "refresh",
                "hide-version",
                "show-legends",
                "show-node",
                "show-desc",
                "scope",
                "admin",
            ];
            cx.error_of(Code::UnknownWord, format!("unknown stats keyword '{o}'{}", suggestion(o, names)));
        }
    }
}

/// What a line's first word, or an option, comes to.
pub fn state(option: bool, name: &str) -> State {
    if option {
        if OPTIONS.iter().any(|o| o.0 == name) {
            return State::Honoured;
        }
        match name {
            "http-tunnel" => return State::Accepted("an old word: connections are kept alive"),
            "transparent" => return State::Honoured,
            _ => {}
        }
        return ACCEPTED_OPTIONS.iter().find(|o| o.0 == name).map_or(State::NotYet, |o| State::Accepted(o.1));
    }
    match name {
        n if KEYWORDS.iter().any(|k| k.0 == n) => State::Honoured,
        n => older::state(n),
    }
}
