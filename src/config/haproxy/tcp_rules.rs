//! `tcp-request` and `tcp-response` rules (configuration manual 4.2).
use super::keywords::{self, Class};
use super::rules::cond;
use super::{Cx, actions};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::model::{Kind, Proxy};
use crate::rules::action::{Rule, TcpAction};
use crate::rules::logformat::Step;
use crate::rules::sample::Scope;
use std::sync::Arc;

/// Actions of `tcp-request` rules that are honoured, in all three rule sets.
pub const TCP_ACTIONS: &[&str] =
    &["accept", "expect-netscaler-cip", "expect-proxy", "reject", "silent-drop", "switch-mode"];

/// Actions of `tcp-request` that rules of requests have as well, and behind which the next rule follows.
pub fn effects(kind: &str) -> &'static [&'static str] {
    match kind {
        "content" => &[
            "capture",
            "do-log",
            "set-bandwidth-limit",
            "set-bc-mark",
            "set-bc-tos",
            "set-dst",
            "set-dst-port",
            "set-fc-mark",
            "set-fc-tos",
            "set-log-level",
            "set-mark",
            "set-nice",
            "set-priority-class",
            "set-priority-offset",
            "set-retries",
            "set-src",
            "set-src-port",
            "set-tos",
            "set-var",
            "set-var-fmt",
            "unset-var",
        ],
        _ => &[
            "do-log",
            "set-dst",
            "set-dst-port",
            "set-fc-mark",
            "set-fc-tos",
            "set-mark",
            "set-src",
            "set-src-port",
            "set-tos",
            "set-var",
            "set-var-fmt",
            "unset-var",
        ],
    }
}

fn tcp_known(name: &str) -> bool {
    [Class::TcpConnection, Class::TcpSession, Class::TcpContent].into_iter().any(|c| keywords::is(c, name))
}

/// `tcp-request connection|content|session|inspect-delay`
pub fn tcp_request(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(kind) = cx.arg(w, 1, "'connection', 'content', 'session' or 'inspect-delay'") else { return };
    if kind == "inspect-delay" {
        p.inspect_delay = cx.time(w, 2, crate::base::units::TimeUnit::Millis).filter(|d| !d.is_zero());
        return;
    }
    if cx.kind == Kind::Backend && matches!(kind, "connection" | "session") {
        return cx.error_of(
            Code::Misplaced,
            format!(
                "'tcp-request {kind}' is not allowed in a backend: its connections come from frontends; move it there"
            ),
        );
    }
    if !matches!(kind, "connection" | "content" | "session") {
        return cx.error(format!(
            "'tcp-request' expects 'connection', 'content', 'session' or 'inspect-delay', but got '{kind}'"
        ));
    }
    let Some(name) = cx.arg(w, 2, "an action") else { return };
    let mut used = 3;
    let action = match name {
        "expect-proxy" | "expect-netscaler-cip" if kind == "connection" => {
            if w.get(3).map(String::as_str) != Some("layer4") {
                let got = w.get(3).map_or("", String::as_str);
                return cx.error(format!("'tcp-request connection {name}' only supports 'layer4', not '{got}'"));
            }
            used = 4;
            if name == "expect-proxy" { TcpAction::ExpectProxy } else { TcpAction::ExpectNetscaler }
        }
        "expect-proxy" | "expect-netscaler-cip" => {
            return cx.error_of(
                Code::Misplaced,
                format!("'{name} layer4' is not allowed in 'tcp-request {kind}' rules; it belongs to 'connection'"),
            );
        }
        o if effects(kind).iter().any(|e| o == *e || o.strip_prefix(e).is_some_and(|r| r.starts_with('('))) => {
            // As a rule of requests has it, in its own words.
            let line: Vec<String> = w[1..].to_vec();
            let scope = if kind == "content" { Scope::Request } else { Scope::Connection };
            let step = match kind {
                "connection" => Step::TcpReqConn,
                "session" => Step::TcpReqSess,
                _ => Step::TcpReqCont,
            };
            if name == "capture" && line.get(3).is_none_or(|l| l != "len") {
                return cx
                    .error_of(Code::Missing, "'tcp-request content capture' : a positive 'len' argument is mandatory");
            }
            let made = match name {
                "capture" => actions::capture(cx, p, &line, scope),
                _ => actions::effect(cx, &line, scope, step),
            };
            let Some((action, n)) = made else { return };
            used = n + 1;
            TcpAction::Effect(Arc::new(action))
        }
        "switch-mode" if kind == "content" => {
            if cx.kind == Kind::Backend {
                let text = format!(
                    "'tcp-request switch-mode' not allowed because backend '{}' has no frontend capability",
                    p.name
                );
                return cx.error_of(Code::Misplaced, text);
            }
            match w.get(3).map(String::as_str) {
                Some("http") => used = 4,
                Some(o) => {
                    return cx.error(format!("'tcp-request switch-mode' expects a valid mode (got '{o}')."));
                }
                None => return cx.error_of(Code::Missing, "'tcp-request switch-mode' expects a mode as argument."),
            }
            if w.get(4).is_some_and(|x| x == "proto") {
                match w.get(5).map(String::as_str) {
                    Some("h1") => used = 6,
                    Some("h2") => return cx.not_yet("'proto h2' of 'tcp-request content switch-mode'"),
                    Some(o) => {
                        return cx.error_of(
                            Code::UnknownWord,
                            format!("'tcp-request switch-mode' : unknown MUX protocol '{o}'"),
                        );
                    }
                    None => return cx.error_of(Code::Missing, "'proto' expects a protocol: h1"),
                }
            }
            p.switches = true;
            TcpAction::SwitchMode
        }
        "accept" => TcpAction::Accept,
        "reject" => TcpAction::Reject,
        "silent-drop" => TcpAction::SilentDrop,
        o => {
            let base = o.split('(').next().unwrap_or(o);
            if tcp_known(base)
                || base.starts_with("track-sc")
                || base.starts_with("sc-")
                || o.starts_with("lua.")
                || base == "use-service"
            {
                return cx.not_yet(&format!("'tcp-request {kind} {o}'"));
            }
            return cx.error_of(
                Code::UnknownWord,
                format!(
                    "'tcp-request {kind}' does not know the action '{o}'{}",
                    suggestion(o, ["accept", "reject", "silent-drop"])
                ),
            );
        }
    };
    // Where the contents are bytes, a request is looked for in them.
    let scope = if kind == "content" { Scope::Request } else { Scope::Connection };
    if let Ok(cond) = cond(cx, p, w, used, scope) {
        let rule = Rule { place: cx.place.clone(), cond, action };
        match kind {
            "content" => p.tcp_content.push(rule),
            "session" => p.tcp_session.push(rule),
            _ => p.tcp_connection.push(rule),
        }
    }
}

/// Actions of `tcp-response content` rules that are honoured.
pub const RESPONSE_ACTIONS: &[&str] = &["accept", "close", "reject", "silent-drop"];

/// Those that rules of responses have as well, and behind which the next rule follows.
pub const RESPONSE_EFFECTS: &[&str] = &[
    "do-log",
    "set-bandwidth-limit",
    "set-fc-mark",
    "set-fc-tos",
    "set-log-level",
    "set-mark",
    "set-nice",
    "set-tos",
    "set-var",
    "set-var-fmt",
    "unset-var",
];

/// `tcp-response content|inspect-delay`
pub fn tcp_response(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(kind) = cx.arg(w, 1, "'content' or 'inspect-delay'") else { return };
    if kind == "inspect-delay" {
        p.response_delay = cx.time(w, 2, crate::base::units::TimeUnit::Millis).filter(|d| !d.is_zero());
        return;
    }
    if kind != "content" {
        return cx.error(format!("'tcp-response' expects 'content' or 'inspect-delay', but got '{kind}'"));
    }
    let Some(name) = cx.arg(w, 2, "an action") else { return };
    let mut used = 3;
    let base = name.split('(').next().unwrap_or(name);
    let action = match name {
        "accept" => TcpAction::Accept,
        "close" => TcpAction::Close,
        "reject" => TcpAction::Reject,
        "silent-drop" => TcpAction::SilentDrop,
        _ if RESPONSE_EFFECTS.contains(&base) => {
            let line: Vec<String> = w[1..].to_vec();
            let Some((action, n)) = actions::effect(cx, &line, Scope::Response, Step::TcpResCont) else { return };
            used = n + 1;
            TcpAction::Effect(Arc::new(action))
        }
        _ if keywords::is(Class::TcpResponse, base) || base.starts_with("sc-") || name.starts_with("lua.") => {
            return cx.not_yet(&format!("'tcp-response content {name}'"));
        }
        o => {
            let text = format!(
                "'tcp-response content' does not know the action '{o}'{}",
                suggestion(o, RESPONSE_ACTIONS.iter().chain(RESPONSE_EFFECTS).copied())
            );
            return cx.error_of(Code::UnknownWord, text);
        }
    };
    if let Ok(cond) = cond(cx, p, w, used, Scope::Response) {
        p.tcp_response.push(Rule { place: cx.place.clone(), cond, action });
    }
}
