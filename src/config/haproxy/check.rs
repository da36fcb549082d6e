//! `option httpchk`, `http-check` and `tcp-check` (configuration manual 4.2).
use super::{Cx, names};
use crate::base::code::Code;
use crate::config::model::{CheckKind, CheckStep, ExpectBytes, ExpectHttp, Proxy};
use crate::health::dialect::Dialect;
use crate::rules::logformat::LogFormat;
use crate::rules::sample::Scope;

/// `option httpchk [<method>] [<uri>] [<version> [<host>]]`: the request that a later `http-check send` replaces.
pub fn httpchk(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (method, uri, version) = match &w[2..] {
        [] => ("OPTIONS", "/", None),
        [uri] => ("OPTIONS", uri.as_str(), None),
        [m, uri] => (m.as_str(), uri.as_str(), None),
        [m, uri, v, ..] => (m.as_str(), uri.as_str(), Some(v.as_str())),
    };
    let (version, mut headers, mut body) = (version.unwrap_or("HTTP/1.0"), Vec::new(), Vec::new());
    // Old files hide headers behind the version: "HTTP/1.1\r\nHost:\ www".
    let mut text = version.to_owned();
    let rest = w.get(5..).unwrap_or_default();
    if version.contains("\r\n") {
        rest.iter().for_each(|r| text.extend([" ", r]));
    } else if let Some(host) = rest.first() {
        headers.extend(format(cx, host).map(|f| ("host".to_owned(), f)));
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
        body = b.as_bytes().to_vec();
        for line in head.split("\r\n").filter(|l| !l.is_empty()) {
            let (n, v) = line.split_once(':').unwrap_or((line, ""));
            headers.extend(format(cx, v.trim()).map(|f| (n.trim().to_owned(), f)));
        }
    }
    let send = CheckStep::HttpSend {
        method: method.to_owned(),
        uri: uri.to_owned(),
        version: minor(cx, version.trim()),
        headers,
        body,
    };
    match &mut p.check {
        CheckKind::Http(steps) => match steps.iter_mut().find(|s| matches!(s, CheckStep::HttpSend { .. })) {
            Some(CheckStep::HttpSend { method: m, uri: u, version: v, headers: h, body: b }) if w.len() > 2 => {
                let CheckStep::HttpSend { method, uri, version, headers, body } = send else { return };
                (*m, *u, *v) = (method, uri, version);
                // What the line says itself counts; what an earlier 'http-check send' said stays.
                if !headers.is_empty() {
                    (*h, *b) = (headers, body);
                }
            }
            Some(_) => {}
            None => steps.insert(0, send),
        },
        other => *other = CheckKind::Http(vec![send]),
    }
}

fn minor(cx: &mut Cx<'_>, version: &str) -> u8 {
    match version {
        "HTTP/1.0" => 0,
        "HTTP/1.1" => 1,
        v if v.starts_with("HTTP/") => {
            cx.not_yet(&format!("version '{v}' of checks"));
            0
        }
        _ => {
            cx.error(format!("'{version}' is not a version checks can speak; use HTTP/1.0 or HTTP/1.1"));
            0
        }
    }
}

fn format(cx: &mut Cx<'_>, text: &str) -> Option<LogFormat> {
    LogFormat::parse(text, Scope::Connection, &names(&cx.env)).map_err(|e| cx.expr_error("http-check send", e)).ok()
}

/// A section's own rules take the place of those that its `defaults` has, all of them; the request of `option httpchk` stays.
fn own_rules(p: &mut Proxy) {
    if std::mem::take(&mut p.check_inherited) {
        match &mut p.check {
            CheckKind::Http(steps) => steps.truncate(1),
            CheckKind::TcpScript(steps) => steps.clear(),
            CheckKind::Tcp | CheckKind::SslHello | CheckKind::Dialect(_) => {}
        }
    }
}

/// The steps of an HTTP check; `http-check` lines before `option httpchk` count as well.
fn http_steps(p: &mut Proxy) -> &mut Vec<CheckStep> {
    own_rules(p);
    if !matches!(p.check, CheckKind::Http(_)) {
        p.check = CheckKind::Http(vec![CheckStep::HttpSend {
            method: "OPTIONS".into(),
            uri: "/".into(),
            version: 0,
            headers: Vec::new(),
            body: Vec::new(),
        }]);
    }
    match &mut p.check {
        CheckKind::Http(s) => s,
        _ => unreachable!("set just above"),
    }
}

pub fn http_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    match w.get(1).map(String::as_str) {
        Some("send") => {
            let (mut m, mut u, mut v, mut headers, mut body) = (None, None, None, Vec::new(), Vec::new());
            let mut i = 2;
            while let Some(word) = w.get(i) {
                let Some(value) = cx.arg(w, i + 1, "a value") else { return };
                match word.as_str() {
                    "meth" => m = Some(value.to_owned()),
                    "uri" => u = Some(value.to_owned()),
                    "ver" => v = Some(minor(cx, value)),
                    "body" => body = value.as_bytes().to_vec(),
                    "hdr" => {
                        let Some(text) = cx.arg(w, i + 2, "a header value") else { return };
                        headers.extend(format(cx, text).map(|f| (value.to_owned(), f)));
                        i += 1;
                    }
                    "uri-lf" | "body-lf" => return cx.not_yet(&format!("'{word}' in 'http-check send'")),
                    _ => {
                        return cx.error_of(
                            Code::UnknownWord,
                            format!(
                                "'http-check send' : unknown keyword '{word}'; expected meth, uri, ver, hdr or body"
                            ),
                        );
                    }
                }
                i += 2;
            }
            let steps = http_steps(p);
            // The first `send` completes what `option httpchk` began.
            if let Some(CheckStep::HttpSend { method, uri, version, headers: h, body: b }) = steps.first_mut() {
                *method = m.unwrap_or_else(|| std::mem::take(method));
                *uri = u.unwrap_or_else(|| std::mem::take(uri));
                *version = v.unwrap_or(*version);
                (*h, *b) = (headers, body);
            }
        }
        Some("expect") => {
            let Some((negate, kind, pattern)) = expected(cx, "http-check expect", w) else { return };
            let what = match kind {
                "status" => {
                    let ranges: Option<Vec<(u16, u16)>> = pattern
                        .split(',')
                        .map(|r| {
                            let (a, b) = r.split_once('-').unwrap_or((r, r));
                            Some((a.parse().ok()?, b.parse().ok()?)).filter(|(a, b): &(u16, u16)| a <= b)
                        })
                        .collect();
                    match ranges {
                        Some(r) => ExpectHttp::Status(r),
                        None => {
                            return cx.error(format!(
                                "'http-check expect status' : '{pattern}' is not a list of status codes or ranges"
                            ));
                        }
                    }
                }
                "string" => ExpectHttp::Body(pattern.as_bytes().to_vec()),
                "rstatus" | "rstring" => {
                    match regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(1 << 20).build() {
                        Ok(r) if kind == "rstatus" => ExpectHttp::StatusRegex(r),
                        Ok(r) => ExpectHttp::BodyRegex(r),
                        Err(e) => return cx.error(format!("'http-check expect {kind}' : {e}")),
                    }
                }
                "hdr" | "fhdr" | "string-lf" => return cx.not_yet(&format!("'http-check expect {kind}'")),
                o => {
                    return cx.error_of(
                        Code::UnknownWord,
                        format!("'http-check expect' : unknown match '{o}'; use status, rstatus, string or rstring"),
                    );
                }
            };
            http_steps(p).push(CheckStep::ExpectHttp { what, negate });
        }
        Some(o) if ["set-var(", "set-var-fmt(", "unset-var("].iter().any(|v| o.starts_with(v)) => {
            cx.not_yet(&format!("'http-check {o}'"));
        }
        Some(
            o @ ("connect" | "disable-on-404" | "send-state" | "comment" | "set-var" | "set-var-fmt" | "unset-var"),
        ) => cx.not_yet(&format!("'http-check {o}'")),
        Some(o) => cx.error(format!("'http-check' expects 'send' or 'expect', but got '{o}'")),
        None => cx.error("'http-check' expects 'send' or 'expect'"),
    }
}

/// `expect [<option> <value>]* [!] <match> <pattern> [<option> <value>]*`: whether it is negated, the match and the pattern.
fn expected<'w>(cx: &mut Cx<'_>, what: &str, w: &'w [String]) -> Option<(bool, &'w str, &'w str)> {
    let rest = options(cx, what, &w[2..])?;
    let bangs = rest.iter().take_while(|x| *x == "!").count();
    let (kind, pattern, behind) = match &rest[bangs..] {
        [kind, pattern, behind @ ..] => (kind.as_str(), pattern.as_str(), behind),
        _ => {
            cx.error(format!("'{what}' expects [!] <match> <pattern>, such as 'string +PONG'"));
            return None;
        }
    };
    let name = kind.trim_start_matches('!');
    let negate = (bangs + kind.len() - name.len()) % 2 == 1;
    if matches!(name, "hdr" | "fhdr") {
        cx.not_yet(&format!("'{what} {name}'"));
        return None;
    }
    if OPTIONS.contains(&name) {
        cx.error(format!("'{what}' : '!' stands in front of the match, behind '{name}' and its value"));
        return None;
    }
    if let Some(extra) = options(cx, what, behind)?.first() {
        cx.error_of(Code::Extra, format!("'{what}' takes one match a line; '{extra}' is too much"));
        return None;
    }
    Some((negate, name, pattern))
}

/// Options of an expectation; each has a value.
const OPTIONS: &[&str] =
    &["comment", "min-recv", "ok-status", "error-status", "tout-status", "on-success", "on-error", "status-code"];

/// Takes options; what is left.
fn options<'w>(cx: &mut Cx<'_>, what: &str, mut w: &'w [String]) -> Option<&'w [String]> {
    while let [word, rest @ ..] = w {
        if !OPTIONS.contains(&word.as_str()) {
            break;
        }
        let Some((value, rest)) = rest.split_first() else {
            cx.error_of(Code::Missing, format!("'{what}' : '{word}' expects a value"));
            return None;
        };
        let known: &[&str] = match word.as_str() {
            "ok-status" => &["L7OK", "L7OKC", "L6OK", "L4OK"],
            "error-status" => &["L7OKC", "L7RSP", "L7STS", "L6RSP", "L4CON"],
            "tout-status" => &["L7TOUT", "L6TOUT", "L4TOUT"],
            _ => &[],
        };
        if !known.is_empty() && !known.contains(&value.as_str()) {
            cx.error(format!("'{word}' is one of {}, not '{value}'", known.join(", ")));
            return None;
        }
        if word == "comment" {
            if !what.starts_with("tcp") {
                cx.no_effect(&format!("{what} comment"), "results are not commented on");
            }
        } else if word == "min-recv" && what == "tcp-check expect" {
            if value.parse::<i32>().is_err() {
                cx.error_of(Code::Number, format!("'{what}' : '{value}' is not a number of bytes"));
            }
        } else {
            cx.not_yet(&format!("'{word}' of '{what}'"));
        }
        w = rest;
    }
    Some(w)
}

pub fn tcp_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let step = match w.get(1).map(String::as_str) {
        Some("connect") => {
            let (mut port, mut tls, mut send_proxy, mut comment) = (None, false, false, p.check_comment.clone());
            let mut i = 2;
            while let Some(word) = w.get(i) {
                match word.as_str() {
                    "port" => {
                        port = cx.number(w, i + 1, "a port");
                        i += 1;
                    }
                    "ssl" => tls = true,
                    "send-proxy" => send_proxy = true,
                    "default" | "linger" => {}
                    "comment" => {
                        comment = cx.arg(w, i + 1, "a text").map(str::to_owned);
                        i += 1;
                    }
                    o => return cx.not_yet(&format!("'{o}' in 'tcp-check connect'")),
                }
                i += 1;
            }
            CheckStep::Connect { port, tls, send_proxy, comment }
        }
        Some("comment") => {
            p.check_comment = cx.arg(w, 2, "a text").map(str::to_owned);
            return;
        }
        Some(o) if ["set-var(", "set-var-fmt(", "unset-var("].iter().any(|v| o.starts_with(v)) => {
            return cx.not_yet(&format!("'tcp-check {o}'"));
        }
        Some("send") => match cx.arg(w, 2, "a text") {
            Some(t) => CheckStep::Send(t.as_bytes().to_vec()),
            None => return,
        },
        Some("send-binary") => {
            let Some(text) = cx.arg(w, 2, "hexadecimal digits") else { return };
            match hex(text) {
                Some(b) => CheckStep::Send(b),
                None => {
                    return cx
                        .error(format!("'tcp-check send-binary' : '{text}' is not a series of hexadecimal digits"));
                }
            }
        }
        Some("expect") => {
            let min = w.iter().position(|x| x == "min-recv").filter(|i| *i < w.len() - 1);
            let min_recv = min.and_then(|i| w[i + 1].parse().ok()).unwrap_or(0);
            let Some((negate, kind, text)) = expected(cx, "tcp-check expect", w) else { return };
            let pattern = match kind {
                "string" => ExpectBytes::String(text.as_bytes().to_vec()),
                "binary" => match hex(text) {
                    Some(b) => ExpectBytes::String(b),
                    None => {
                        return cx.error(format!(
                            "'tcp-check expect binary' : '{text}' is not a series of hexadecimal digits"
                        ));
                    }
                },
                "rstring" => match regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build() {
                    Ok(r) => ExpectBytes::Regex(r),
                    Err(e) => return cx.error(format!("'tcp-check expect rstring' : {e}")),
                },
                "rbinary" | "string-lf" | "binary-lf" => return cx.not_yet(&format!("'tcp-check expect {kind}'")),
                o => {
                    return cx
                        .error(format!("'tcp-check expect' : unknown match '{o}'; use string, rstring or binary"));
                }
            };
            let shown = match kind {
                "string" => format!("string '{text}'"),
                "rstring" => "regex".to_owned(),
                o => o.to_owned(),
            };
            let own = w.iter().position(|x| x == "comment").and_then(|i| w.get(i + 1));
            let comment = own.or(p.check_comment.as_ref()).cloned();
            CheckStep::ExpectBytes { pattern, negate, min_recv, shown, comment }
        }
        Some(o @ ("send-lf" | "send-binary-lf" | "set-var" | "set-var-fmt" | "unset-var")) => {
            return cx.not_yet(&format!("'tcp-check {o}'"));
        }
        o => {
            return cx.error(format!(
                "'tcp-check' expects connect, send, send-binary or expect, but got '{}'",
                o.unwrap_or_default()
            ));
        }
    };
    own_rules(p);
    match &mut p.check {
        CheckKind::TcpScript(steps) => steps.push(step),
        other => *other = CheckKind::TcpScript(vec![step]),
    }
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

fn hex(text: &str) -> Option<Vec<u8>> {
    (text.len().is_multiple_of(2) && text.is_ascii())
        .then(|| (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())
        .flatten()
}
