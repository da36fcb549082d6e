//! `option httpchk`, `http-check`, `tcp-check` and the options of checks in a server's protocol (configuration manual 4.2).
use super::keywords::column;
use super::{Cx, names, rules};
use crate::base::addr::Host;
use crate::base::code::Code;
use crate::base::diag::Severity;
use crate::config::model::{CheckKind, CheckLines, CheckRules, CheckWord, Model, PortRule, Proxy, Server};
use crate::health::dialect::Dialect;
use crate::health::found;
use crate::health::script::{
    Act, CheckPort, Connect, Expect, How, HttpSend, Match, Named, Script, Send, Step, Text, hex, regex,
};
use crate::rules::logformat::LogFormat;
use crate::rules::sample::{Expr, KnownNames, Scope, check_variable};
use std::sync::Arc;

/// A format that has a value in a check.
fn format(cx: &mut Cx<'_>, what: &str, text: &str) -> Option<LogFormat> {
    rules::format_at(cx, what, text, Scope::Response, &[column::CHECK], LogFormat::parse)
}

fn expr(cx: &mut Cx<'_>, what: &str, text: &str) -> Option<Expr> {
    let fits = |name: &str| super::keywords::fits(name, &[column::CHECK]);
    let known = KnownNames { fits: Some(&fits), ..names(&cx.env) };
    match Expr::parse(text, &known) {
        Ok((e, "")) => return Some(e),
        Ok((_, rest)) => cx.error(format!("'{what}' : unexpected '{rest}'")),
        Err(e) => cx.expr_error(what, e),
    }
    None
}

/// What the section says of checks; its own words take the place of what its `defaults` say.
fn own(p: &mut Proxy) -> &mut CheckRules {
    let r = Arc::make_mut(&mut p.check_rules);
    r.own = true;
    r
}

/// The lines of one kind, as a section's own ones: nothing of those in `defaults` is left, not even the request of `option httpchk`.
fn own_lines(p: &mut Proxy, http: bool) -> &mut CheckLines {
    let r = own(p);
    if http && r.http.inherited {
        r.request = None;
    }
    let lines = if http { &mut r.http } else { &mut r.tcp };
    if lines.inherited {
        *lines = CheckLines::default();
    }
    lines
}

/// A section begins: what it has so far is not its own.
pub fn begin(p: &mut Proxy) {
    let r = Arc::make_mut(&mut p.check_rules);
    (r.own, r.tcp.inherited, r.http.inherited) = (false, true, true);
}

/// `option httpchk [<method>] [<uri>] [<version> [<host>]]`
pub fn httpchk(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (method, uri, version) = match &w[2..] {
        [] => (None, None, None),
        [uri] => (None, Some(uri), None),
        [m, uri] => (Some(m), Some(uri), None),
        [m, uri, v, ..] => (Some(m), Some(uri), Some(v.as_str())),
    };
    let (mut headers, mut body) = (Vec::new(), None);
    // Old files hide headers behind the version: "HTTP/1.1\r\nHost:\ www".
    let mut text = version.unwrap_or_default().to_owned();
    let rest = w.get(5..).unwrap_or_default();
    if text.contains("\r\n") {
        rest.iter().for_each(|r| text.extend([" ", r]));
    } else if let Some(host) = rest.first() {
        headers.extend(format(cx, "option httpchk", host).map(|f| ("host".to_owned(), f)));
        if let Some(extra) = rest.get(1) {
            cx.error_of(
                Code::Extra,
                format!("'option httpchk' : nothing is expected behind the host, but '{extra}' is there"),
            );
        }
    }
    let (version, hidden) = text.split_once("\r\n").unwrap_or((&text, ""));
    if !hidden.is_empty() {
        cx.warn_of(
            Code::OldWord,
            "'option httpchk' : headers after the version are old syntax; use 'http-check send hdr <name> <value>'",
        );
        let (head, b) = hidden.split_once("\r\n\r\n").unwrap_or((hidden, ""));
        body = (!b.is_empty()).then(|| Text::Fixed(b.as_bytes().to_vec()));
        for line in head.split("\r\n").filter(|l| !l.is_empty()) {
            let (n, v) = line.split_once(':').unwrap_or((line, ""));
            headers.extend(format(cx, "option httpchk", v.trim()).map(|f| (n.trim().to_ascii_lowercase(), f)));
        }
    }
    let version = Some(version.trim()).filter(|v| !v.is_empty()).map(str::to_owned);
    if let Some(v) = version.as_ref().filter(|v| !v.starts_with("HTTP/")) {
        return cx
            .error(format!("'option httpchk' : '{v}' is not a version checks can speak; use HTTP/1.0 or HTTP/1.1"));
    }
    own_lines(p, true);
    p.check = CheckKind::HttpRules;
    let said = HttpSend {
        method: method.cloned(),
        uri: uri.map(|u| Text::Fixed(u.clone().into_bytes())),
        version,
        headers,
        body,
        state: false,
    };
    merge(own(p).request.get_or_insert_default(), said);
}

/// What a later line says takes the place of what an earlier one said.
fn merge(request: &mut HttpSend, said: HttpSend) {
    let HttpSend { method, uri, version, headers, body, state: _ } = said;
    request.method = method.or(request.method.take());
    request.uri = uri.or(request.uri.take());
    request.version = version.or(request.version.take());
    if !headers.is_empty() {
        request.headers = headers;
    }
    request.body = body.or(request.body.take());
}

/// `option tcp-check`
pub fn tcp_rules(_: &mut Cx<'_>, p: &mut Proxy, _: &[String]) {
    own(p);
    p.check = CheckKind::TcpRules;
}

/// `option ssl-hello-chk`
pub fn ssl_hello(_: &mut Cx<'_>, p: &mut Proxy, _: &[String]) {
    p.check = CheckKind::SslHello;
}

/// `option external-check`
pub fn external(_: &mut Cx<'_>, p: &mut Proxy, _: &[String]) {
    p.check = CheckKind::External;
}

/// `external-check command <file>` and `external-check path <path>`
pub fn external_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let what = match w.get(1).map(String::as_str) {
        Some(k @ ("command" | "path")) => k.to_owned(),
        Some(o) => {
            return cx.error_of(
                Code::UnknownWord,
                format!("'external-check' only supports 'command' and 'path', but got '{o}'"),
            );
        }
        None => return cx.error_of(Code::Missing, "'external-check' : missing argument; write command or path"),
    };
    let Some(value) = cx.arg(w, 2, &format!("an argument after '{what}'")) else { return };
    cx.at_most(w, 3);
    if what == "command" {
        p.external_command = Some(value.to_owned());
    } else {
        p.external_path = Some(value.to_owned());
    }
}

/// The end of all files: programs may check only where that is allowed.
pub fn external_finish(cx: &mut Cx<'_>, model: &Model) {
    for p in model.proxies.iter().filter(|p| p.is_backend()) {
        if !p.servers.iter().any(|s| s.check && matches!(p.check_of(s).0, CheckKind::External)) {
            continue;
        }
        let mut wrong = |text: String| cx.report.error(Code::Missing, &p.place, text);
        if model.global.external_check.is_none() {
            wrong(format!(
                "'{}' : 'option external-check' unable to find required 'external-check' in section 'global'",
                p.name
            ));
        }
        match &p.external_command {
            None => {
                wrong(format!(
                    "'{}' : 'option external-check' unable to find required 'external-check command'",
                    p.name
                ));
            }
            Some(c) if !c.starts_with('/') && p.external_path.is_none() => wrong(format!(
                "'{}' : 'external-check command' does not have a leading '/' and 'external-check path' is not set",
                p.name
            )),
            Some(_) => {}
        }
        if !model.global.insecure_fork {
            let text = format!(
                "'{}' : 'insecure-fork-wanted' is not said in section 'global'; HAProxy wants it for 'option external-check'",
                p.name
            );
            cx.report.warning(Code::Remark, &p.place, text);
        }
    }
}

/// Adds a step to the lines of its kind, with the comment that is to be said of it.
fn push(cx: &mut Cx<'_>, p: &mut Proxy, http: bool, comment: Option<String>, act: Act) {
    let kind = |a: &Act| match a {
        Act::Connect(_) => Some(CheckWord::Connect),
        Act::Send(_) => Some(CheckWord::Send),
        Act::Expect(_) => Some(CheckWord::Expect),
        Act::SetVar(..) | Act::SetVarFmt(..) | Act::UnsetVar(_) => None,
    };
    let word = kind(&act);
    let place = cx.place.clone();
    let lines = own_lines(p, http);
    lines.count += 1;
    lines.place.get_or_insert(place);
    let before = lines.steps.iter().rev().find_map(|s| kind(&s.act));
    let n = lines.count;
    if http {
        use CheckWord::{Connect as C, Expect as E, Send as S};
        let missing = match (before, word) {
            (Some(S), Some(C)) => Some(("connect", "expect")),
            (Some(S), Some(S)) => Some(("send", "expect")),
            (Some(C), Some(E)) => Some(("expect", "send")),
            (Some(C), Some(C)) => Some(("connect", "send")),
            (Some(E), Some(S)) => Some(("send", "connect")),
            _ => None,
        };
        if let Some((what, first)) = missing {
            return cx.error(format!("unable to add http-check {what} rule at step {n} (missing {first} rule)"));
        }
    } else if word == Some(CheckWord::Connect)
        && before.is_some()
        && !lines.steps.iter().any(|s| matches!(s.act, Act::Connect(_)))
    {
        return cx.error("first step MUST also be a 'connect', optionally preceded by a 'set-var', an 'unset-var' or a 'comment', when there is a 'connect' step in the tcp-check ruleset");
    }
    let pending = match (lines.comment.take(), word) {
        (Some((text, None)), Some(k)) => Some((text, k)),
        (Some((text, Some(k))), Some(w)) if k == w => Some((text, k)),
        _ => None,
    };
    lines.comment = pending.clone().filter(|c| c.1 != CheckWord::Connect).map(|(t, k)| (t, Some(k)));
    let comment = comment.or(pending.map(|c| c.0));
    lines.steps.push(Step { number: n, comment, act });
}

/// `set-var(<name>) <expr>`, `set-var-fmt(<name>) <format>`, `unset-var(<name>)`; false if the word is none of them.
fn variable(cx: &mut Cx<'_>, p: &mut Proxy, http: bool, w: &[String]) -> bool {
    let Some((word, inner)) = w.get(1).and_then(|o| o.split_once('(')) else { return false };
    if !matches!(word, "set-var" | "set-var-fmt" | "unset-var") {
        return false;
    }
    let what = format!("{} {word}", w[0]);
    let Some(name) = inner.strip_suffix(')') else {
        cx.error(format!("'{what}' : missing ')' behind '{inner}'"));
        return true;
    };
    if name.contains(',') {
        cx.not_yet(&format!("a condition in '{what}'"));
        return true;
    }
    if let Err(e) = check_variable(name) {
        cx.expr_error(&what, e);
        return true;
    }
    let name = name.to_owned();
    let act = if word == "unset-var" {
        Some(Act::UnsetVar(name))
    } else {
        match cx.arg(w, 2, "a value") {
            None => None,
            Some(text) if word == "set-var" => expr(cx, &what, text).map(|e| Act::SetVar(name, e)),
            Some(text) => format(cx, &what, text).map(|f| Act::SetVarFmt(name, f)),
        }
    };
    if let Some(act) = act {
        push(cx, p, http, None, act);
    }
    true
}

fn comment_line(cx: &mut Cx<'_>, p: &mut Proxy, http: bool, w: &[String]) {
    let Some(text) = cx.arg(w, 2, "a text") else { return };
    let text = text.to_owned();
    let lines = own_lines(p, http);
    lines.count += 1;
    lines.comment = Some((text, None));
}

pub fn http_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if variable(cx, p, true, w) {
        return;
    }
    match w.get(1).map(String::as_str) {
        Some("connect") => connect(cx, p, true, w),
        Some("comment") => comment_line(cx, p, true, w),
        Some("send") => http_send(cx, p, w),
        Some("expect") => expect(cx, p, true, w),
        Some(word @ ("disable-on-404" | "send-state")) => {
            cx.at_most(w, 2);
            let r = own(p);
            if word == "send-state" {
                r.send_state = true;
            } else {
                r.disable_on_404 = true;
            }
        }
        o => cx.error_of(
            Code::UnknownWord,
            format!(
                "'http-check' expects 'comment', 'connect', 'send', 'expect', 'set-var', 'set-var-fmt', 'unset-var', 'disable-on-404' or 'send-state', but got '{}'",
                o.unwrap_or_default()
            ),
        ),
    }
}

fn http_send(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (mut said, mut comment) = (HttpSend::default(), None);
    let what = "http-check send";
    let mut i = 2;
    while let Some(word) = w.get(i) {
        let Some(value) = cx.arg(w, i + 1, "a value") else { return };
        match word.as_str() {
            "meth" => said.method = Some(value.to_owned()),
            "uri" => said.uri = Some(Text::Fixed(value.as_bytes().to_vec())),
            "uri-lf" => said.uri = format(cx, what, value).map(Text::Format),
            "ver" => said.version = Some(value.to_owned()),
            "body" => said.body = Some(Text::Fixed(value.as_bytes().to_vec())),
            "body-lf" => said.body = format(cx, what, value).map(Text::Format),
            "comment" => comment = Some(value.to_owned()),
            "hdr" => {
                let Some(text) = cx.arg(w, i + 2, "a header value") else { return };
                let name = value.to_ascii_lowercase();
                if name == "host" && said.headers.iter().any(|(n, _)| n == "host") {
                    return cx.error_of(Code::Duplicate, format!("'{what}' : 'host' header already defined"));
                }
                if let Some(f) = format(cx, what, text) {
                    said.headers.push((name, f));
                }
                i += 1;
            }
            _ => {
                return cx.error_of(
                    Code::UnknownWord,
                    format!("'{what}' : expected 'comment', 'meth', 'uri', 'uri-lf', 'ver', 'hdr', 'body' or 'body-lf' but got '{word}' as argument"),
                );
            }
        }
        i += 2;
    }
    let first = {
        let lines = own_lines(p, true);
        !lines.steps.iter().any(|s| matches!(s.act, Act::Send(_)))
    };
    if first {
        // The first one completes what `option httpchk` says; where it stands is kept by an empty one.
        let mut request = own(p).request.take().unwrap_or_default();
        merge(&mut request, said);
        own(p).request = Some(request);
        said = HttpSend::default();
    }
    push(cx, p, true, comment, Act::Send(Send::Http(Box::new(said))));
}

/// `[default] [port <n|expr>] [addr <ip>] [send-proxy] [via-socks4] [ssl] [sni <text>] [alpn <list>] [linger] [proto <mux>] [comment <text>]`
fn connect(cx: &mut Cx<'_>, p: &mut Proxy, http: bool, w: &[String]) {
    let what = format!("{} connect", w[0]);
    let (mut c, mut comment) = (Connect::default(), None);
    let mut i = 2;
    while let Some(word) = w.get(i) {
        i += 1;
        match word.as_str() {
            "default" => c.default = true,
            "ssl" => c.tls = true,
            "send-proxy" => c.send_proxy = true,
            "via-socks4" => c.socks4 = true,
            "linger" => c.linger = true,
            "port" | "addr" | "sni" | "alpn" | "proto" | "comment" => {
                let Some(value) = cx.arg(w, i, "a value") else { return };
                i += 1;
                match word.as_str() {
                    "port" if value.bytes().all(|b| b.is_ascii_digit()) => match value.parse() {
                        Ok(n @ 1..) => c.port = CheckPort::Number(n),
                        _ => {
                            return cx.error_of(
                                Code::Number,
                                format!("'{what}' : expects a valid TCP port (from range 1 to 65535) or a sample expression, got {value}"),
                            );
                        }
                    },
                    "port" => match expr(cx, &what, value) {
                        Some(e) => c.port = CheckPort::Sample(e),
                        None => return,
                    },
                    "addr" => match super::server::check_addr(value) {
                        Some(a) => c.addr = Some(a),
                        None => {
                            return cx
                                .error(format!("'{what}' : 'addr' expects <ipv4|ipv6> as argument, not '{value}'"));
                        }
                    },
                    "sni" => c.sni = Some(value.to_owned()),
                    "alpn" => c.alpn = super::server::alpn(cx, value),
                    "comment" => comment = Some(value.to_owned()),
                    _ => match (http, value) {
                        (true, "h1") | (false, "none") => {}
                        (true, "h2" | "fcgi") => return cx.not_yet(&format!("'proto {value}' in '{what}'")),
                        _ => return cx.error(format!("'{what}' : 'proto' : unknown MUX protocol '{value}'")),
                    },
                }
            }
            o => {
                return cx.error_of(
                    Code::UnknownWord,
                    format!("'{what}' : expects 'comment', 'port', 'addr', 'send-proxy', 'ssl', 'sni', 'alpn' or 'via-socks4', 'linger', 'default' but got '{o}' as argument"),
                );
            }
        }
    }
    push(cx, p, http, comment, Act::Connect(Box::new(c)));
}

/// Options of an expectation; each has a value.
const OPTIONS: &[&str] =
    &["comment", "min-recv", "ok-status", "error-status", "tout-status", "on-success", "on-error", "status-code"];

/// `expect [<option> <value>]* [!] <match> <pattern> [<option> <value>]*`
fn expect(cx: &mut Cx<'_>, p: &mut Proxy, http: bool, w: &[String]) {
    let what = format!("{} expect", w[0]);
    let mut e = Expect::of(Match::String(Vec::new()));
    let (mut comment, mut found) = (None, false);
    let mut i = 2;
    while let Some(word) = w.get(i) {
        let name = word.trim_start_matches('!');
        let bangs = word.len() - name.len();
        if bangs > 0 {
            if found {
                return cx.error_of(Code::Extra, format!("'{what}' : only one pattern expected"));
            }
            e.negate ^= bangs % 2 == 1;
            if name.is_empty() {
                i += 1;
                continue;
            }
        }
        i += 1;
        if OPTIONS.contains(&name) {
            if e.negate && !found {
                return cx
                    .error(format!("'{what}' : [!] not supported with '{name}'; it stands in front of the match"));
            }
            let Some(value) = cx.arg(w, i, &format!("a value behind '{name}'")) else { return };
            i += 1;
            let errors = cx.report.count(Severity::Error);
            option(cx, &what, name, value, &mut e, &mut comment);
            if cx.report.count(Severity::Error) > errors {
                return;
            }
            continue;
        }
        if found {
            return cx.error_of(Code::Extra, format!("'{what}' : only one pattern expected, '{word}' is too much"));
        }
        found = true;
        let Some(m) = pattern(cx, &what, http, name, w, &mut i) else { return };
        e.what = m;
    }
    if !found {
        return cx.error_of(
            Code::Missing,
            format!("'{what}' expects at least a matching pattern as arguments, such as 'string +PONG'"),
        );
    }
    push(cx, p, http, comment, Act::Expect(Box::new(e)));
}

fn option(cx: &mut Cx<'_>, what: &str, name: &str, value: &str, e: &mut Expect, comment: &mut Option<String>) {
    let status = |cx: &mut Cx<'_>, all: &[&str]| match found::known(value).filter(|s| all.contains(s)) {
        Some(s) => Some(s),
        None => {
            cx.error(format!("'{name}' is one of {}, not '{value}'", all.join(", ")));
            None
        }
    };
    match name {
        "comment" => *comment = Some(value.to_owned()),
        "min-recv" => match value.parse::<i64>() {
            Ok(-1) => e.min_recv = None,
            Ok(n @ 0..=0x7fff_ffff) => e.min_recv = usize::try_from(n).ok(),
            _ => cx.error_of(
                Code::Number,
                format!("'{what}' : 'min-recv' expects -1 or an integer from 0 to INT_MAX, not '{value}'"),
            ),
        },
        "ok-status" => e.ok_status = status(cx, &["L4OK", "L6OK", "L7OK", "L7OKC"]),
        "error-status" => e.error_status = status(cx, &["L4CON", "L6RSP", "L7OKC", "L7RSP", "L7STS"]),
        "tout-status" => e.late_status = status(cx, &["L4TOUT", "L6TOUT", "L7TOUT"]),
        "on-success" => e.on_success = format(cx, what, value),
        "on-error" => e.on_error = format(cx, what, value),
        _ => e.status_code = expr(cx, what, value),
    }
}

/// A match and its pattern; `i` is behind the match's name, and behind the pattern afterwards.
fn pattern(cx: &mut Cx<'_>, what: &str, http: bool, kind: &str, w: &[String], i: &mut usize) -> Option<Match> {
    let known: &[&str] = if http {
        &["status", "rstatus", "string", "rstring", "string-lf", "hdr", "fhdr"]
    } else {
        &["string", "rstring", "binary", "rbinary", "string-lf", "binary-lf"]
    };
    if !known.contains(&kind) {
        cx.error_of(Code::UnknownWord, format!("'{what}' : unknown match '{kind}'; use {}", known.join(", ")));
        return None;
    }
    if matches!(kind, "hdr" | "fhdr") {
        return header(cx, what, kind == "fhdr", w, i);
    }
    let text = cx.arg(w, *i, "a <pattern>")?;
    *i += 1;
    let compiled = |cx: &mut Cx<'_>| regex(text).map_err(|e| cx.error(format!("'{what} {kind}' : {e}"))).ok();
    Some(match kind {
        "string" => Match::String(text.as_bytes().to_vec()),
        "binary" => Match::Binary(binary(cx, what, text)?),
        "rstring" => Match::Regex(compiled(cx)?),
        "rbinary" => Match::HexRegex(compiled(cx)?),
        "rstatus" => Match::StatusRegex(compiled(cx)?),
        "string-lf" => Match::StringFormat(format(cx, what, text)?),
        "binary-lf" => Match::BinaryFormat(format(cx, what, text)?),
        _ => {
            let ranges = text.split(',').map(|r| {
                let (a, b) = r.split_once('-').unwrap_or((r, r));
                Some((a.parse().ok()?, b.parse().ok()?)).filter(|(a, b): &(u16, u16)| a <= b)
            });
            match ranges.collect() {
                Some(r) => Match::Status(r),
                None => {
                    cx.error(format!("'{what} status' : '{text}' is not a list of status codes or ranges"));
                    return None;
                }
            }
        }
    })
}

fn binary(cx: &mut Cx<'_>, what: &str, text: &str) -> Option<Vec<u8>> {
    let bytes = hex(text.as_bytes());
    if bytes.is_none() {
        cx.error(format!(
            "'{what}' : '{text}' invalid binary string (an even number of hexadecimal digits is expected)"
        ));
    }
    bytes
}

/// `{name|name-lf} [-m <meth>] <name> [{value|value-lf} [-m <meth>] <value>]`
fn header(cx: &mut Cx<'_>, what: &str, full: bool, w: &[String], i: &mut usize) -> Option<Match> {
    let word = w.get(*i).map(String::as_str);
    if !matches!(word, Some("name" | "name-lf")) {
        cx.error_of(Code::Missing, format!("'{what}' : 'name' or 'name-lf' is expected behind 'hdr' and 'fhdr'"));
        return None;
    }
    let name = named(cx, what, true, w, i)?;
    let value = match w.get(*i).map(String::as_str) {
        Some("value" | "value-lf") => Some(named(cx, what, false, w, i)?),
        _ => None,
    };
    Some(Match::Header { full, name, value })
}

fn named(cx: &mut Cx<'_>, what: &str, is_name: bool, w: &[String], i: &mut usize) -> Option<Named> {
    let formatted = w[*i].ends_with("-lf");
    *i += 1;
    let mut how = How::Exact;
    if w.get(*i).is_some_and(|m| m == "-m") {
        how = match cx.arg(w, *i + 1, "a match method")? {
            "str" => How::Exact,
            "beg" => How::Beg,
            "end" => How::End,
            "sub" => How::Sub,
            "reg" => How::Reg,
            o => {
                cx.error_of(
                    Code::UnknownWord,
                    format!("'{what}' : unknown match method '{o}'; use str, beg, end, sub or reg"),
                );
                return None;
            }
        };
        *i += 2;
    }
    let text = cx.arg(w, *i, "a pattern")?;
    *i += 1;
    if formatted {
        return format(cx, what, text).map(|f| Named::Format(how, f));
    }
    // Names are compared without regard to case.
    let text = if is_name && how != How::Reg { text.to_ascii_lowercase() } else { text.to_owned() };
    let text = if is_name && how == How::Reg { format!("(?i){text}") } else { text };
    let m = how.pattern(&text);
    if m.is_none() {
        cx.error(format!("'{what}' : '{text}' is no regular expression"));
    }
    m.map(Named::Fixed)
}

pub fn tcp_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if variable(cx, p, false, w) {
        return;
    }
    match w.get(1).map(String::as_str) {
        Some("connect") => connect(cx, p, false, w),
        Some("comment") => comment_line(cx, p, false, w),
        Some("expect") => expect(cx, p, false, w),
        Some(word @ ("send" | "send-binary" | "send-lf" | "send-binary-lf")) => {
            let what = format!("tcp-check {word}");
            let Some(text) = cx.arg(w, 2, "a text") else { return };
            let send = match word {
                "send" => Some(Send::Text(Text::Fixed(text.as_bytes().to_vec()))),
                "send-binary" => binary(cx, &what, text).map(|b| Send::Text(Text::Fixed(b))),
                "send-lf" => format(cx, &what, text).map(|f| Send::Text(Text::Format(f))),
                _ => format(cx, &what, text).map(Send::Hex),
            };
            let comment = match w.get(3).map(String::as_str) {
                None => None,
                Some("comment") => match cx.arg(w, 4, "a text") {
                    Some(c) => Some(c.to_owned()),
                    None => return,
                },
                Some(o) => {
                    return cx.error_of(
                        Code::Extra,
                        format!("'{what}' : expects 'comment' but got '{o}' as argument; quote a text with blanks"),
                    );
                }
            };
            if let Some(s) = send {
                push(cx, p, false, comment, Act::Send(s));
            }
        }
        o => cx.error_of(
            Code::UnknownWord,
            format!(
                "'tcp-check' expects 'comment', 'connect', 'send', 'send-binary', 'send-lf', 'send-binary-lf', 'expect', 'set-var', 'set-var-fmt' or 'unset-var', but got '{}'",
                o.unwrap_or_default()
            ),
        ),
    }
}

/// The section ends: its check becomes one script.
pub fn finish(cx: &mut Cx<'_>, p: &mut Proxy) {
    let rules = p.check_rules.clone();
    if rules.own {
        match p.check {
            CheckKind::HttpRules => p.script = Arc::new(http_script(cx, p, &rules)),
            CheckKind::TcpRules => {
                let mut steps = rules.tcp.steps.clone();
                begin_with_connect(&mut steps);
                p.script = Arc::new(Script { steps, ..Script::default() });
            }
            _ => {}
        }
        for (lines, here, word, option) in [
            (&rules.http, matches!(p.check, CheckKind::HttpRules), "http-check", "httpchk"),
            (&rules.tcp, matches!(p.check, CheckKind::TcpRules), "tcp-check", "tcp-check"),
        ] {
            if let Some(place) = lines.place.as_ref().filter(|_| !here && !lines.inherited && p.is_backend()) {
                let text = format!(
                    "{} '{}' uses {word} rules without 'option {option}', so the rules are ignored",
                    p.kind.name(),
                    p.name
                );
                cx.report.warning(Code::Useless, place, text);
            }
        }
    }
    for s in p.servers.iter().filter(|s| s.healthcheck.is_none()) {
        if let Some(text) = lacks_port(p, s) {
            cx.report.error(Code::Value, &s.place, text);
        }
    }
    // Checks of another kind that `defaults` asks for are not this section's.
    if matches!(p.check, CheckKind::Tcp) && p.script.steps.len() != 1 {
        p.script = Arc::new(Script::connect());
    }
}

/// Why the check of a server has no port to go to. One whose address is not known yet, or is none in particular, is checked as it is.
pub fn lacks_port(p: &Proxy, s: &Server) -> Option<String> {
    let particular = matches!(s.host, Host::Ip(ip) if !ip.is_unspecified()) || s.check_addr.is_some();
    let has = matches!(s.port, PortRule::Fixed(_)) || s.check_port.is_some() || s.check_addr_port.is_some();
    let (check, script) = p.check_of(s);
    if !s.check || has || !particular || matches!(check, CheckKind::External) {
        return None;
    }
    let (kind, name) = (p.kind.name(), &p.name);
    let what = format!("{kind} '{name}': server '{}' has neither service port nor check port", s.name);
    if !matches!(check, CheckKind::HttpRules | CheckKind::TcpRules) {
        return Some(format!("{what}."));
    }
    let mut connects = script.steps.iter().filter(|s| matches!(s.act, Act::Connect(_)));
    if !script.steps.first().is_some_and(Step::names_port) {
        return Some(format!("{what} nor tcp_check rule 'connect' with port information."));
    }
    let later = connects.any(|c| !c.names_port());
    later.then(|| format!("{what}, and a tcp_check rule 'connect' with no port information."))
}

fn begin_with_connect(steps: &mut Vec<Step>) {
    if !steps.iter().any(|s| matches!(s.act, Act::Connect(_))) {
        steps.splice(0..0, Script::connect().steps);
    }
}

fn http_script(cx: &mut Cx<'_>, p: &Proxy, rules: &CheckRules) -> Script {
    let mut steps = rules.http.steps.clone();
    let request = rules.request.clone().map(|r| HttpSend { state: rules.send_state, ..r });
    let first = steps.iter_mut().find_map(|s| match &mut s.act {
        Act::Send(Send::Http(h)) => Some(h),
        _ => None,
    });
    match (first, request) {
        (Some(h), Some(r)) => **h = r,
        (None, Some(r)) => {
            let at = steps.iter().position(|s| matches!(s.act, Act::Connect(_))).map_or(0, |i| i + 1);
            steps.insert(at, Step { number: 0, comment: None, act: Act::Send(Send::Http(Box::new(r))) });
        }
        (Some(_), None) => {}
        (None, None) => {
            if let Some(place) = &rules.http.place {
                let text = format!(
                    "checks of '{}' send no request: its own 'http-check' rules displace all that 'defaults' says of them; repeat 'option httpchk' here",
                    p.name
                );
                cx.report.warning(Code::Useless, place, text);
            }
        }
    }
    for s in &mut steps {
        if let Act::Send(Send::Http(h)) = &mut s.act {
            h.state = rules.send_state;
        }
    }
    let last = steps.iter().rev().find(|s| matches!(s.act, Act::Connect(_) | Act::Send(_) | Act::Expect(_)));
    if matches!(last, Some(Step { act: Act::Send(_), .. })) {
        let e = Expect::of(Match::Status(vec![(200, 399)]));
        steps.push(Step { number: 0, comment: None, act: Act::Expect(Box::new(e)) });
    }
    begin_with_connect(&mut steps);
    Script { http: true, disable_on_404: rules.disable_on_404, steps }
}

/// `option mysql-check [user <user> [pre-41|post-41]]` and the other checks that speak a server's protocol.
pub fn dialect(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let user = |cx: &mut Cx<'_>| match w.get(2).map(String::as_str) {
        None => None,
        Some("user") => cx.arg(w, 3, "a user name").map(str::to_owned),
        Some(o) => {
            cx.error(format!("'option {}' only takes 'user', not '{o}'", w[1]));
            None
        }
    };
    let (dialect, most) = match w[1].as_str() {
        "redis-check" => (Dialect::Redis, 2),
        "ldap-check" => (Dialect::Ldap, 2),
        "spop-check" => (Dialect::Spop, 2),
        "smtpchk" => {
            let greeting = match (w.get(2).map(String::as_str), w.get(3)) {
                (Some(h @ ("HELO" | "EHLO")), Some(domain)) => format!("{h} {domain}"),
                // As there: what is no greeting is the default one.
                _ => "HELO localhost".to_owned(),
            };
            (Dialect::Smtp(greeting), 4)
        }
        "pgsql-check" => {
            let Some(user) = user(cx) else {
                return cx.error_of(Code::Missing, "'option pgsql-check' expects 'user <user>'");
            };
            (Dialect::Pgsql { user }, 4)
        }
        _ => {
            let user = user(cx);
            let pre_41 = match w.get(4).map(String::as_str) {
                None | Some("post-41") => false,
                Some("pre-41") => true,
                Some(o) => {
                    return cx.error(format!("'option mysql-check' : 'pre-41' or 'post-41' is wanted, not '{o}'"));
                }
            };
            if user.as_ref().is_some_and(|u| u.len() > 100) {
                return cx.error("'option mysql-check' : the user name is too long");
            }
            (Dialect::Mysql { user, pre_41 }, 5)
        }
    };
    cx.at_most(w, most);
    p.check = CheckKind::Dialect(dialect);
}
