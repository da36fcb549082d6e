//! `option httpchk`, `http-check` and `tcp-check` (configuration manual 4.2).
use super::{Cx, names};
use crate::base::code::Code;
use crate::config::model::{CheckKind, CheckStep, ExpectBytes, ExpectHttp, Proxy};
use crate::rules::logformat::LogFormat;
use crate::rules::sample::Scope;

/// `option httpchk [<method>] [<uri>] [<version> [headers]]`: the request that a later `http-check send` replaces.
pub fn httpchk(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (method, uri, version) = match &w[2..] {
        [] => ("OPTIONS", "/", None),
        [uri] => ("OPTIONS", uri.as_str(), None),
        [m, uri] => (m.as_str(), uri.as_str(), None),
        [m, uri, v, ..] => (m.as_str(), uri.as_str(), Some(v.as_str())),
    };
    let (version, mut headers, mut body) = (version.unwrap_or("HTTP/1.0"), Vec::new(), Vec::new());
    // Old files hide headers behind the version: "HTTP/1.1\r\nHost:\ www".
    let rest = w.get(5..).map(|r| r.join(" ")).unwrap_or_default();
    let text = if rest.is_empty() { version.to_owned() } else { format!("{version} {rest}") };
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
            Some(CheckStep::HttpSend { method: m, uri: u, version: v, .. }) if w.len() > 2 => {
                let CheckStep::HttpSend { method, uri, version, .. } = send else { return };
                (*m, *u, *v) = (method, uri, version);
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
            CheckKind::Tcp | CheckKind::SslHello => {}
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
            let (negate, rest) = match &w[2..] {
                [bang, rest @ ..] if bang == "!" => (true, rest),
                rest => (false, rest),
            };
            for pair in rest.windows(2) {
                let known: &[&str] = match pair[0].as_str() {
                    "ok-status" => &["L7OK", "L7OKC", "L6OK", "L4OK"],
                    "error-status" => &["L7OKC", "L7RSP", "L7STS", "L6RSP", "L4CON"],
                    "tout-status" => &["L7TOUT", "L6TOUT", "L4TOUT"],
                    _ => continue,
                };
                if !known.contains(&pair[1].as_str()) {
                    return cx.error(format!("'{}' is one of {}, not '{}'", pair[0], known.join(", "), pair[1]));
                }
            }
            let rest = skip_options(rest);
            if matches!(rest.first().map(String::as_str), Some("hdr" | "fhdr")) {
                return cx.not_yet(&format!("'http-check expect {}'", rest[0]));
            }
            // Options may stand behind as well.
            let rest = if rest.len() > 2 && skip_options(&rest[2..]).is_empty() { &rest[..2] } else { rest };
            let (Some(kind), Some(pattern)) = (rest.first(), rest.get(1)) else {
                return cx.error("'http-check expect' expects [!] <match> <pattern>, such as 'status 200'");
            };
            if let Some(extra) = rest.get(2) {
                return cx.error_of(
                    Code::Extra,
                    format!("'http-check expect' takes one match a line; '{extra}' is too much"),
                );
            }
            let what = match kind.as_str() {
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

/// `min-recv`, `comment`, `on-success` and the like, which only change how a result is shown.
fn skip_options(mut rest: &[String]) -> &[String] {
    while let [word, _, tail @ ..] = rest {
        if !matches!(
            word.as_str(),
            "min-recv"
                | "comment"
                | "ok-status"
                | "error-status"
                | "tout-status"
                | "on-success"
                | "on-error"
                | "status-code"
        ) {
            break;
        }
        rest = tail;
    }
    rest
}

pub fn tcp_check(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let step = match w.get(1).map(String::as_str) {
        Some("connect") => {
            let (mut port, mut tls, mut send_proxy) = (None, false, false);
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
                    "comment" => i += 1,
                    o => return cx.not_yet(&format!("'{o}' in 'tcp-check connect'")),
                }
                i += 1;
            }
            CheckStep::Connect { port, tls, send_proxy }
        }
        Some("comment") => {
            if cx.arg(w, 2, "a text").is_some() {
                cx.no_effect("tcp-check comment", "results are not commented on");
            }
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
            let (negate, rest) = match &w[2..] {
                [bang, rest @ ..] if bang == "!" => (true, rest),
                rest => (false, rest),
            };
            let rest = skip_options(rest);
            let (Some(kind), Some(text)) = (rest.first(), rest.get(1)) else {
                return cx.error("'tcp-check expect' expects [!] <match> <pattern>, such as 'string +PONG'");
            };
            let pattern = match kind.as_str() {
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
            CheckStep::ExpectBytes { pattern, negate }
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

fn hex(text: &str) -> Option<Vec<u8>> {
    (text.len().is_multiple_of(2) && text.is_ascii())
        .then(|| (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())
        .flatten()
}
