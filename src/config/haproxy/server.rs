//! `server` and `default-server` lines (configuration manual 5.2).
use super::keywords::{self, Class};
use super::{Cx, State, global, names, server_state};
use crate::base::addr::{Host, IpNet, split_host_port};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::TimeUnit;
use crate::config::model::{
    LogProto, Mode, Observe, OnError, PortRule, Proxy, Remembered, SendProxy, Server, ServerTls, SniRule, TlsLimits,
};
use crate::health::fsm::InitState;
use crate::rules::logformat::LogFormat;
use crate::rules::sample::Expr;
use std::sync::Arc;

pub fn server(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (Some(name), Some(addr)) = (cx.arg(w, 1, "<name> and <address>[:<port>]"), cx.arg(w, 2, "<address>[:<port>]"))
    else {
        return;
    };
    if let Some(bad) = super::args::foreign(name) {
        cx.error_of(Code::Name, format!("character '{bad}' is not permitted in server name '{name}'"));
    }
    if let Some(other) = cx.servers.insert(name.to_owned(), cx.place.clone()) {
        let text = format!("another server named '{name}' was already defined at {other}; please use distinct names");
        return cx.error_of(Code::Duplicate, text);
    }
    cx.servers_read += 1;
    if cx.servers_read > super::MAX_SERVERS {
        return cx.too_much("servers", super::MAX_SERVERS);
    }
    let Some(addr) = cx.expand(addr) else { return };
    // Logs can be sent in datagrams; nothing else can.
    let datagram = ["udp@", "udp4@", "udp6@"].iter().find_map(|f| addr.strip_prefix(f)).map(str::to_owned);
    if datagram.is_some() && p.mode != Mode::Log {
        return cx
            .error(format!("'server {name}' : '{addr}' is for datagrams, which only a backend of 'mode log' sends"));
    }
    let is_datagram = datagram.is_some();
    let addr = datagram.unwrap_or(addr);
    if let Some((family, _)) = addr.split_once('@').filter(|f| super::bind::NOT_YET.contains(&f.0)) {
        return cx.not_yet(&format!("address family '{family}@' in '{addr}'"));
    }
    let Some(mut s) = base(cx, p, &w[3..], p.default_server.clone()) else { return };
    (s.name, s.place, s.datagram) = (name.to_owned(), cx.place.clone(), is_datagram);
    match split_host_port(&addr) {
        Ok((host, port)) => {
            s.host = host;
            s.port = match port {
                None | Some("") => PortRule::Same,
                Some(t) if t.starts_with(['+', '-']) => match t.parse() {
                    Ok(n) => PortRule::Offset(n),
                    Err(_) => return cx.error(format!("'server {name}' : invalid port offset '{t}'")),
                },
                Some(t) if t.contains('-') => {
                    return cx.error(format!("'server {name}' : a range of ports is for listeners, not for '{addr}'"));
                }
                Some(t) => match leading_port(cx, t) {
                    Some(0) => PortRule::Same,
                    Some(n) => PortRule::Fixed(n),
                    None => {
                        return cx.error(format!(
                            "'server {name}' : invalid character or value in port number '{t}' in '{addr}'"
                        ));
                    }
                },
            };
        }
        Err(e) => return cx.error(format!("'server {name}' : {e}")),
    }
    if !params(cx, &mut s, &w[3..], "server") {
        return;
    }
    if s.agent.wanted && s.agent.port.is_none() && s.check_port.is_none() {
        return cx.error(format!("'server {name}' : it does not have an agent port; add 'agent-port <port>'"));
    }
    if s.track.is_some() && s.init_state.is_some() {
        return cx.error(format!("'server {name}' : unable to set 'init-state' and 'track' at the same time"));
    }
    if s.observe.is_some() && !s.check {
        cx.warn(format!("'server {name}' : 'observe' counts for nothing without 'check'"));
    }
    if let Some((b, _)) = &mut s.track {
        if b.is_empty() {
            b.clone_from(&p.name);
        }
        if s.check {
            cx.error(format!("'server {name}' : it cannot have both 'check' and 'track'; remove one of them"));
        }
    }
    s.ip = match &s.host {
        Host::Ip(ip) => Some(*ip),
        Host::Name(n) => {
            let ip = if s.ask_at_start { cx.resolve(n) } else { None }.or(s.init_ip);
            if ip.is_none() && !s.may_lack_address {
                server_state::unresolved(
                    cx,
                    &s,
                    format!(
                        "'server {name}' : could not resolve address '{n}'; check the name or the resolver, or write an address"
                    ),
                );
            }
            ip
        }
        Host::Unix(_) | Host::Abstract(_) => None,
    };
    p.servers.push(s);
}

/// `server-template <prefix> <number or range> <fqdn>[:<port>] ...`
pub fn template(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let what = "<prefix>, <number or range> and <fqdn>[:<port>]";
    let (Some(prefix), Some(range), Some(addr)) = (cx.arg(w, 1, what), cx.arg(w, 2, what), cx.arg(w, 3, what)) else {
        return;
    };
    let (prefix, addr) = (prefix.to_owned(), addr.to_owned());
    let bounds = match range.split_once('-') {
        Some((a, b)) => (a.parse::<u32>().ok(), b.parse::<u32>().ok()),
        None => (Some(1), range.parse().ok()),
    };
    let (Some(from), Some(to)) = bounds else {
        let text = format!("'server-template' : '{range}' is neither a number nor a range such as 1-5");
        return cx.error_of(Code::Number, text);
    };
    if from > to || to == 0 {
        return cx.error_of(Code::Number, format!("'server-template' : there are no servers in '{range}'"));
    }
    for n in from..=to {
        let mut line = vec!["server".to_owned(), format!("{prefix}{n}"), addr.clone()];
        line.extend_from_slice(&w[4..]);
        let (before, errors) = (p.servers.len(), cx.report.count(crate::base::diag::Severity::Error));
        server(cx, p, &line);
        if cx.report.count(crate::base::diag::Severity::Error) > errors || p.servers.len() == before {
            return;
        }
        // One address for each: the others get theirs from the name servers.
        if n > from
            && let Some(s) = p.servers.last_mut().filter(|s| s.resolvers.is_some())
        {
            s.ip = None;
        }
    }
}

/// `init-addr`: the methods that are tried in turn for the first address.
fn init_addr(cx: &mut Cx<'_>, s: &mut Server, methods: &str, what: &str) {
    s.may_lack_address = false;
    s.remembered = Remembered::No;
    let mut first = true;
    for m in methods.split(',') {
        match m {
            // Behind a method that always knows something it has nothing to say.
            "last" if !s.may_lack_address => {
                s.remembered = if first { Remembered::First } else { Remembered::Behind };
            }
            "last" | "libc" => {}
            // The last resort is one: a name that nobody knows is no mistake of this file.
            "none" => s.may_lack_address = true,
            ip if ip.parse::<std::net::IpAddr>().is_ok() => {
                (s.may_lack_address, s.init_ip) = (true, ip.parse().ok());
            }
            o => {
                return cx.error(format!(
                    "'{what}' : unknown method '{o}' in 'init-addr'; it is a list of last, libc, none and an address"
                ));
            }
        }
        first = false;
    }
    s.ask_at_start = methods.split(',').any(|m| m == "libc");
}

/// A port; up to HAProxy 2.6 its digits counted and what stood behind them did not.
fn leading_port(cx: &mut Cx<'_>, text: &str) -> Option<u16> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let port = text[..digits].parse().ok()?;
    let behind = &text[digits..];
    if !behind.is_empty() {
        if cx.strict {
            return None;
        }
        cx.warn(format!("'{behind}' behind port {port} has no meaning, and had none before HAProxy 2.7: a server has no path; write '{port}'"));
    }
    Some(port)
}

pub fn default_server(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(at) = w.iter().position(|x| x == "name") else {
        let Some(mut s) = base(cx, p, &w[1..], p.default_server.clone()) else { return };
        params(cx, &mut s, &w[1..], "default-server");
        p.default_server = s;
        let reset = w.len() == 3 && w[1] == "from";
        p.default_server_said = !reset || w[2] == "be:" && p.default_server_said;
        return;
    };
    let Some(name) = cx.arg(w, at + 1, "a name").map(str::to_owned) else { return };
    let known = p.named_servers.iter().position(|n| n.0 == name);
    let before = known.map_or_else(Server::default, |i| p.named_servers[i].1.clone());
    let Some(mut s) = base(cx, p, &w[1..], before) else { return };
    params(cx, &mut s, &w[1..], "default-server");
    match known {
        Some(i) => p.named_servers[i].1 = s,
        None => p.named_servers.push((name, s)),
    }
}

/// What a line begins with: `from none`, `from be:` or `from srv:<name>` in it, or `usual`.
fn base(cx: &mut Cx<'_>, p: &Proxy, w: &[String], usual: Server) -> Option<Server> {
    let Some(at) = w.iter().position(|x| x == "from") else { return Some(usual) };
    match cx.arg(w, at + 1, "'none', 'be:' or 'srv:<name>'")? {
        "none" => Some(Server::default()),
        "be:" => Some(p.default_server.clone()),
        o => {
            let named = o.strip_prefix("srv:").and_then(|n| p.named_servers.iter().find(|s| s.0 == n));
            if named.is_none() {
                let near = suggestion(o.trim_start_matches("srv:"), p.named_servers.iter().map(|s| s.0.as_str()));
                cx.error_of(Code::UnknownTarget, format!("'from {o}' : there is no such 'default-server'{near}"));
            }
            named.map(|s| s.1.clone())
        }
    }
}

/// Takes the parameters; false if the line cannot be used.
fn params(cx: &mut Cx<'_>, s: &mut Server, w: &[String], what: &str) -> bool {
    let mut ssl = s.traffic_tls;
    let mut tls = s.tls.clone().unwrap_or(ServerTls {
        verify: !cx.no_verify,
        ca_file: None,
        sni: None,
        verify_host: None,
        alpn: Vec::new(),
        limits: TlsLimits::default(),
    });
    let mut i = 0;
    while let Some(word) = w.get(i) {
        i += 1;
        let at = i;
        macro_rules! value {
            ($what:expr) => {{
                i += 1;
                cx.arg(w, at, $what)
            }};
        }
        macro_rules! number {
            ($t:ty) => {{
                i += 1;
                cx.number::<$t>(w, at, "a number")
            }};
        }
        match word.as_str() {
            "check" => s.check = true,
            "no-check" => s.check = false,
            "backup" => s.backup = true,
            "no-backup" => s.backup = false,
            "disabled" => s.disabled = true,
            "enabled" => s.disabled = false,
            "weight" => {
                if let Some(n) = number!(u32) {
                    if n > 256 {
                        cx.error(format!("'{what}' : weight must be from 0 to 256, not {n}"));
                    }
                    s.weight = n.min(256);
                }
            }
            "maxconn" => s.maxconn = number!(u32).unwrap_or(0),
            "minconn" => s.minconn = number!(u32).unwrap_or(0),
            "slowstart" => {
                i += 1;
                s.slowstart = cx.time(w, at, TimeUnit::Secs).unwrap_or_default();
            }
            "maxqueue" => s.maxqueue = number!(u32).unwrap_or(0),
            "cookie" => s.cookie = value!("a value").map(str::to_owned),
            "inter" | "fastinter" | "downinter" => {
                i += 1;
                let d = cx.time(w, at, TimeUnit::Millis);
                if d.is_some_and(|d| d.is_zero()) {
                    cx.error(format!("'{what}' : '{word}' must be larger than 0"));
                    continue;
                }
                match word.as_str() {
                    "inter" => s.inter = d.unwrap_or(s.inter),
                    "fastinter" => s.fastinter = d,
                    _ => s.downinter = d,
                }
            }
            "rise" | "fall" => {
                let n = number!(u32).unwrap_or(1);
                if n == 0 {
                    cx.error(format!("'{what}' : '{word}' must be larger than 0"));
                }
                if word == "rise" {
                    s.health.rise = n.clamp(1, 1_000_000);
                } else {
                    s.health.fall = n.clamp(1, 1_000_000);
                }
            }
            "port" => s.check_port = number!(u16),
            "addr" => {
                if let Some(v) = value!("an address") {
                    match check_addr(v).or_else(|| named_addr(cx, v)) {
                        Some((ip, port)) => (s.check_addr, s.check_addr_port) = (Some(ip), port),
                        None => cx.error_of(Code::Unresolved, format!("'{what}' : could not resolve 'addr {v}'")),
                    }
                }
            }
            "agent-check" => s.agent.wanted = true,
            "no-agent-check" => s.agent.wanted = false,
            "agent-port" => s.agent.port = number!(u16).filter(|p| *p > 0),
            "agent-send" => {
                if let Some(v) = value!("a string") {
                    s.agent.send = v.as_bytes().to_vec();
                }
            }
            "agent-addr" => {
                if let Some(v) = value!("an address") {
                    s.agent.addr = v.parse().ok().or_else(|| cx.resolve(v));
                    if s.agent.addr.is_none() {
                        cx.error_of(
                            Code::Unresolved,
                            format!("'{what}' : parsing agent-addr failed; check if '{v}' is a correct address"),
                        );
                    }
                }
            }
            "agent-inter" => {
                i += 1;
                let d = cx.time(w, at, TimeUnit::Millis);
                if d.is_some_and(|d| d.is_zero()) {
                    cx.error_of(Code::Number, format!("'{what}' : invalid value 0 for argument 'agent-inter'"));
                }
                s.agent.inter = d;
            }
            "init-state" => match value!("a state") {
                Some("none") => s.init_state = None,
                Some("fully-up") => s.init_state = Some(InitState::FullyUp),
                Some("up") => s.init_state = Some(InitState::Up),
                Some("down") => s.init_state = Some(InitState::Down),
                Some("fully-down") => s.init_state = Some(InitState::FullyDown),
                Some(o) => cx.error(format!(
                    "'{what}' : 'init-state' expects one of 'none', 'fully-up', 'up', 'down', or 'fully-down' but got '{o}'"
                )),
                None => {}
            },
            "on-marked-up" => match value!("'shutdown-backup-sessions'") {
                Some("shutdown-backup-sessions") => s.shutdown_backups_on_up = true,
                Some(o) => {
                    cx.error(format!("'{what}' : 'on-marked-up' expects 'shutdown-backup-sessions' but got '{o}'"));
                }
                None => {}
            },
            "check-sni" => s.check_sni = value!("a name").map(str::to_owned),
            "healthcheck" => s.healthcheck = value!("the name of a 'healthcheck' section").map(str::to_owned),
            "check-sni-auto" => s.check_sni_auto = true,
            "no-check-sni-auto" => s.check_sni_auto = false,
            "check-alpn" => {
                let v = value!("a list of protocols").unwrap_or_default().to_owned();
                s.check_alpn = alpn(cx, &v);
            }
            "source" => match super::source::parse(cx, w, i, true) {
                Some((from, used)) => {
                    s.source = Some(Arc::new(from));
                    i = used;
                }
                None => return false,
            },
            "usesrc" => {
                cx.error(format!("'{what}' : 'usesrc' only allowed after a 'source' statement"));
                return false;
            }
            "tcp-ut" => {
                i += 1;
                s.user_timeout = cx.time(w, at, TimeUnit::Millis).filter(|d| !d.is_zero());
            }
            "cc" => s.congestion = value!("an algorithm").map(str::to_owned),
            "tcp-md5sig" => match value!("a password") {
                Some(k) if k.len() > 80 => {
                    cx.error(format!("'{what}' : 'tcp-md5sig' : password too long (at most 80 characters expected)"));
                }
                k => s.md5 = k.map(str::to_owned),
            },
            "socks4" => {
                if let Some(v) = value!("<addr>:<port>") {
                    match check_addr(v).or_else(|| named_addr(cx, v)) {
                        Some((ip, Some(port))) => s.socks4 = Some(std::net::SocketAddr::new(ip, port)),
                        _ => cx.error(format!("'{what}' : 'socks4' expects <addr>:<port>, not '{v}'")),
                    }
                }
            }
            "check-via-socks4" => s.check_socks4 = true,
            "check-proto" if !matches!(w.get(i).map(String::as_str), Some("h1" | "none")) => {
                cx.not_yet(&format!("'{word}' on '{what}'"));
                return false;
            }
            "check-proto" => i += 1,
            "guid" => {
                if let Some(g) = value!("an identifier") {
                    s.guid = cx.guid(g, &format!("server {}", s.name));
                }
            }
            "id" => {
                s.id = number!(u32);
                if s.id == Some(0) {
                    cx.error_of(Code::Number, format!("'{what}' : 'id' has to be larger than 0"));
                }
            }
            "ssl" => ssl = true,
            "no-ssl" => ssl = false,
            "check-ssl" => s.check_tls = true,
            "no-check-ssl" => s.check_tls = false,
            "check-send-proxy" => s.check_send_proxy = true,
            "verify" => match value!("'none' or 'required'") {
                Some("none") => tls.verify = false,
                Some("required") => tls.verify = true,
                Some(o) => cx.error(format!("'{what}' : 'verify' is one of none, required, not '{o}'")),
                None => {}
            },
            "ca-file" => tls.ca_file = value!("a file name").map(|f| in_base(cx.ca_base.as_deref(), f)),
            "verifyhost" => tls.verify_host = value!("a host name").map(str::to_owned),
            "sni" => {
                if let Some(text) = value!("an expression, such as str(www.example.com)") {
                    match Expr::parse(text, &names(&cx.env)) {
                        Ok((e, "")) => {
                            tls.sni = Some(match text.strip_prefix("str(").and_then(|t| t.strip_suffix(')')) {
                                Some(fixed) => SniRule::Fixed(fixed.trim_matches(['"', '\'']).to_owned()),
                                None => SniRule::Expr(Arc::new(e)),
                            });
                        }
                        Ok((_, rest)) => cx.error(format!("'{what}' : unexpected '{rest}' after 'sni'")),
                        Err(e) => cx.expr_error("sni", e),
                    }
                }
            }
            "alpn" => {
                if let Some(v) = value!("a list of protocols") {
                    tls.alpn = v.split(',').map(|s| s.trim().to_owned()).filter(|a| a != "h2").collect();
                    if tls.alpn.is_empty() || v.contains("h2") {
                        cx.report.notice(
                            Code::Remark,
                            &cx.place,
                            "'alpn h2' : HTTP/2 to servers is not spoken yet; http/1.1 is negotiated",
                        );
                        tls.alpn = vec!["http/1.1".to_owned()];
                    }
                }
            }
            "ciphers" => {
                let v = value!("a list of suites").unwrap_or_default().to_owned();
                global::cipher_list(cx, &mut tls.limits, &["ciphers".to_owned(), v]);
            }
            "ciphersuites" => {
                let v = value!("a list of suites").unwrap_or_default().to_owned();
                global::ciphersuites(cx, &mut tls.limits, &["ciphersuites".to_owned(), v]);
            }
            "ssl-min-ver" | "ssl-max-ver" => {
                let v = value!("a version").unwrap_or_default().to_owned();
                global::tls_options(cx, &mut tls.limits, &[word.clone(), v], what);
            }
            "no-sslv3" | "no-tlsv10" | "no-tlsv11" | "no-tlsv12" | "no-tlsv13" | "force-tlsv12" | "force-tlsv13"
            | "no-tls-tickets" | "tls-tickets" => {
                global::tls_options(cx, &mut tls.limits, std::slice::from_ref(word), what);
            }
            "proto" if !matches!(w.get(i).map(String::as_str), Some("h1" | "none")) => {
                cx.not_yet(&format!("'{word}' on '{what}'"));
                return false;
            }
            "proto" => i += 1,
            "send-proxy" => s.send_proxy = Some(SendProxy::V1),
            "send-proxy-v2" => s.send_proxy = Some(SendProxy::V2),
            // A client's certificate is never asked for, so that none has a name to be sent.
            "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                (s.send_proxy, s.proxy_options.ssl) = (Some(SendProxy::V2), true);
            }
            "no-send-proxy-v2-ssl" | "no-send-proxy-v2-ssl-cn" => (s.send_proxy, s.proxy_options.ssl) = (None, false),
            "proxy-v2-options" => {
                for o in value!("a list of options").unwrap_or_default().split(',') {
                    let p = &mut s.proxy_options;
                    match o {
                        "ssl" | "cert-cn" => p.ssl = true,
                        "ssl-cipher" => (p.ssl, p.ssl_cipher) = (true, true),
                        "authority" => p.authority = true,
                        "crc32c" => p.crc32c = true,
                        "unique-id" => p.unique_id = true,
                        "cert-key" | "cert-sig" => cx.not_yet(&format!("'{o}' in 'proxy-v2-options'")),
                        _ => cx.error(format!("'{what}' : proxy v2 option '{o}' is not known")),
                    }
                }
            }
            o if o.split('(').next() == Some("set-proxy-v2-tlv-fmt") => {
                let id = o.strip_prefix("set-proxy-v2-tlv-fmt").unwrap_or_default();
                let id = id.trim_start_matches('(').trim_end_matches(')');
                let id = match (id.strip_prefix("0x").or(id.strip_prefix("0X")), id) {
                    (_, "") => Some(0),
                    (Some(hex), _) => u8::from_str_radix(hex, 16).ok(),
                    (None, id) => id.parse().ok(),
                };
                let Some(text) = value!("a format") else { continue };
                match id {
                    None => cx.error_of(Code::Number, format!("'{what}' : '{o}' names no TLV from 0 to 255")),
                    Some(id) => {
                        if let Some(f) = super::rules::request_format(cx, "set-proxy-v2-tlv-fmt", text, LogFormat::parse) {
                            s.proxy_tlvs.push((id, Arc::new(f)));
                        }
                    }
                }
            }
            "no-send-proxy" | "no-send-proxy-v2" => s.send_proxy = None,
            "on-marked-down" => match value!("'shutdown-sessions'") {
                Some("shutdown-sessions") => s.shutdown_on_down = true,
                Some(o) => cx.error(format!("'{what}' : 'on-marked-down' expects 'shutdown-sessions' but got '{o}'")),
                None => {}
            },
            // Taken before all others.
            "from" => i += 1,
            "name" if what == "default-server" => i += 1,
            "init-addr" => {
                if let Some(v) = value!("a list of methods") {
                    init_addr(cx, s, v, what);
                }
            }
            "observe" => match value!("'layer4' or 'layer7'") {
                Some("none") => s.observe = None,
                Some("layer4") => s.observe = Some(Observe::Layer4),
                Some("layer7") => s.observe = Some(Observe::Layer7),
                Some(o) => cx.error(format!("'{what}' : 'observe' is one of none, layer4, layer7, not '{o}'")),
                None => {}
            },
            "error-limit" => match number!(u32) {
                Some(0) => cx.error_of(Code::Number, format!("'{what}' : 'error-limit' has to be larger than 0")),
                Some(n) => s.error_limit = n,
                None => {}
            },
            "on-error" => match value!("a mode") {
                Some("fastinter") => s.on_error = OnError::Fastinter,
                Some("fail-check") => s.on_error = OnError::FailCheck,
                Some("sudden-death") => s.on_error = OnError::SuddenDeath,
                Some("mark-down") => s.on_error = OnError::MarkDown,
                Some(o) => cx.error(format!(
                    "'{what}' : 'on-error' is one of fastinter, fail-check, sudden-death, mark-down, not '{o}'"
                )),
                None => {}
            },
            "track" => {
                if let Some(v) = value!("[<backend>/]<server>") {
                    // Without a backend it is the server's own; its name is put in at the end of the line.
                    let (b, n) = v.rsplit_once('/').unwrap_or(("", v));
                    s.track = Some((b.to_owned(), n.to_owned()));
                }
            }
            "resolvers" => {
                if let Some(v) = value!("the name of a section 'resolvers'") {
                    s.resolvers = Some(v.to_owned());
                    cx.asked_resolvers.push((v.to_owned(), cx.place.clone()));
                }
            }
            "resolve-prefer" => match value!("'ipv4' or 'ipv6'") {
                Some(v @ ("ipv4" | "ipv6")) => s.prefer_ipv4 = v == "ipv4",
                Some(v) => cx.error(format!("'{what}' : 'resolve-prefer' is one of ipv4, ipv6, not '{v}'")),
                None => {}
            },
            "resolve-net" => {
                s.resolve_nets.clear();
                for n in value!("a list of networks").unwrap_or_default().split(',').filter(|n| !n.is_empty()) {
                    match IpNet::parse(n) {
                        Some(net) => s.resolve_nets.push(net),
                        None => cx.error(format!("'{what}' : invalid network '{n}' in 'resolve-net'")),
                    }
                }
            }
            "resolve-opts" => {
                for o in value!("a list of options").unwrap_or_default().split(',').filter(|o| !o.is_empty()) {
                    match o {
                        "allow-dup-ip" => s.dup_ip = true,
                        "prevent-dup-ip" => s.dup_ip = false,
                        "ignore-weight" => s.ignore_weight = true,
                        _ => cx.error(format!(
                            "'{what}' : unknown option '{o}' in 'resolve-opts'; it is a list of allow-dup-ip, prevent-dup-ip, ignore-weight"
                        )),
                    }
                }
            }
            "no-check-send-proxy" => s.check_send_proxy = false,
            "pool-conn-name" => {
                if let Some(text) = value!("an expression, such as hdr(x-tenant)") {
                    match Expr::parse(text, &names(&cx.env)) {
                        Ok((e, "")) => s.pool_name = Some(Arc::new(e)),
                        Ok((_, rest)) => cx.error(format!("'{what}' : unexpected '{rest}' after 'pool-conn-name'")),
                        Err(e) => cx.expr_error("pool-conn-name", e),
                    }
                }
            }
            "log-proto" => match value!("'legacy' or 'octet-count'") {
                Some("legacy") => s.log_proto = LogProto::Legacy,
                Some("octet-count") => s.log_proto = LogProto::OctetCount,
                Some(o) => {
                    let near = suggestion(o, ["legacy", "octet-count"]);
                    cx.error_of(Code::UnknownWord, format!("'{what}' : unknown protocol '{o}' in 'log-proto'{near}"));
                }
                None => {}
            },
            "pool-max-conn" => match value!("a number of connections, or -1") {
                Some("-1") => s.pool_max = None,
                Some(n) => match n.parse() {
                    Ok(n) => s.pool_max = Some(n),
                    Err(_) => {
                        cx.error_of(Code::Number, format!("'{what}' : '{n}' in 'pool-max-conn' is no number from -1"))
                    }
                },
                None => {}
            },
            "pool-low-conn" => s.pool_low = number!(u32).unwrap_or(0).into(),
            "pool-purge-delay" => {
                i += 1;
                s.pool_purge = cx.time(w, at, TimeUnit::Millis).unwrap_or(s.pool_purge);
            }
            "redir" => s.redirect = value!("a prefix").map(str::to_owned),
            "max-reuse" => match value!("a number of times, or -1") {
                Some(n) if n.parse::<i64>().is_ok_and(|n| n < 0) => s.max_reuse = None,
                Some(n) => match n.parse() {
                    Ok(n) => s.max_reuse = Some(n),
                    Err(_) => {
                        cx.error_of(Code::Number, format!("'{what}' : invalid max-reuse argument '{n}'; it is a number from -1"));
                    }
                },
                None => {}
            },
            o if ACCEPTED.iter().any(|a| a.0 == o) => {
                if let State::Accepted(why) = state(o) {
                    cx.no_effect(o, why);
                }
            }
            o if keywords::is(Class::Server, o) => {
                cx.not_yet(&format!("'{o}' on '{what}'"));
                return false;
            }
            o => {
                cx.error_of(
                    Code::UnknownWord,
                    format!("'{what}' : unknown keyword '{o}'{}", suggestion(o, keywords::names(Class::Server))),
                );
                return false;
            }
        }
    }
    if s.minconn > 0 && s.maxconn == 0 {
        // As there: alone it is the limit.
        s.maxconn = s.minconn;
    }
    if (ssl || s.check_tls) && tls.verify && tls.ca_file.is_none() && what == "server" {
        cx.error_of(Code::Tls, format!(
            "'server {}' : verify is enabled but no ca-file given; add 'ca-file <file>' (or '@system-ca'), or 'verify none' to accept any certificate",
            s.name
        ));
    }
    if let Some(ca) = tls.ca_file.as_ref().filter(|f| !(f.starts_with('@') || ssl && tls.verify)) {
        // What is used is read where it is used.
        let ca = ca.clone();
        if cx.src.list(&ca).is_none() {
            cx.read(&ca);
        }
    }
    s.tls = (ssl || s.check_tls).then_some(tls);
    s.traffic_tls = ssl;
    true
}

/// Protocols that a check may negotiate.
pub fn alpn(cx: &mut Cx<'_>, list: &str) -> Vec<String> {
    let all = list.split(',').map(str::trim);
    if all.clone().any(|a| a == "h2") {
        cx.report.notice(
            Code::Remark,
            &cx.place,
            "'h2' in ALPN : checks do not speak HTTP/2 yet; http/1.1 is negotiated",
        );
    }
    let rest: Vec<String> = all.filter(|a| *a != "h2").map(str::to_owned).collect();
    if rest.is_empty() { vec!["http/1.1".to_owned()] } else { rest }
}

/// `<ip>[:<port>]` of a check.
pub fn check_addr(text: &str) -> Option<(std::net::IpAddr, Option<u16>)> {
    match split_host_port(text) {
        Ok((Host::Ip(ip), port)) => Some((ip, port.and_then(|p| p.parse().ok()))),
        _ => text.parse().ok().map(|ip| (ip, None)),
    }
}

/// The same, of a host that has a name.
fn named_addr(cx: &mut Cx<'_>, text: &str) -> Option<(std::net::IpAddr, Option<u16>)> {
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(h, p)| (h, p.parse().ok()));
    Some((cx.resolve(name)?, port))
}

/// `crt-base` and `ca-base` apply to relative names.
pub fn in_base(base: Option<&str>, file: &str) -> String {
    match base {
        Some(b) if !file.starts_with(['/', '@']) => format!("{}/{file}", b.trim_end_matches('/')),
        _ => file.to_owned(),
    }
}

/// Words of a `server` line that do what they say.
const HONOURED: &[&str] = &[
    "addr",
    "agent-addr",
    "agent-check",
    "agent-inter",
    "agent-port",
    "agent-send",
    "alpn",
    "backup",
    "ca-file",
    "cc",
    "check",
    "check-alpn",
    "check-proto",
    "check-send-proxy",
    "check-sni",
    "check-sni-auto",
    "check-ssl",
    "check-via-socks4",
    "ciphers",
    "ciphersuites",
    "cookie",
    "error-limit",
    "disabled",
    "downinter",
    "enabled",
    "fall",
    "fastinter",
    "force-tlsv12",
    "force-tlsv13",
    "healthcheck",
    "from",
    "guid",
    "id",
    "init-addr",
    "init-state",
    "inter",
    "max-reuse",
    "maxconn",
    "maxqueue",
    "minconn",
    "no-agent-check",
    "no-backup",
    "no-check",
    "no-check-send-proxy",
    "no-check-sni-auto",
    "no-check-ssl",
    "no-send-proxy",
    "no-send-proxy-v2",
    "no-send-proxy-v2-ssl",
    "no-send-proxy-v2-ssl-cn",
    "no-ssl",
    "no-sslv3",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-max-conn",
    "log-proto",
    "pool-conn-name",
    "pool-low-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "proxy-v2-options",
    "redir",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "set-proxy-v2-tlv-fmt",
    "slowstart",
    "sni",
    "socks4",
    "source",
    "ssl",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-md5sig",
    "tcp-ut",
    "tls-tickets",
    "track",
    "usesrc",
    "verify",
    "verifyhost",
    "weight",
];

/// Words without a meaning here.
const ACCEPTED: &[(&str, &str)] = &[
    ("no-renegotiate", NEVER_RENEGOTIATED),
    ("no-ssl-reuse", RESUMED),
    ("no-tfo", NO_TFO),
    ("non-stick", NO_TABLES),
    ("renegotiate", NEVER_RENEGOTIATED),
    ("ssl-reuse", RESUMED),
    ("stick", NO_TABLES),
    ("tfo", NO_TFO),
];
const NO_TABLES: &str = "there are no stick tables here yet";
const RESUMED: &str = "sessions are resumed as the TLS library sees fit";
const NO_TFO: &str = "servers are connected to before anything is sent";
const NEVER_RENEGOTIATED: &str = "nothing is ever renegotiated";

/// What a word of a `server` line comes to.
pub fn state(name: &str) -> State {
    if HONOURED.contains(&name) {
        return State::Honoured;
    }
    ACCEPTED.iter().find(|a| a.0 == name).map_or(State::NotYet, |a| State::Accepted(a.1))
}
