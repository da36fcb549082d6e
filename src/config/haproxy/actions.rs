//! Actions of HTTP rules beyond replies and plain header edits (configuration manual 4.3).
use super::rules::format;
use super::{Cx, names};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::TimeUnit;
use crate::config::model::{Kind, Proxy};
use crate::rules::action::{HttpAction, Packets, Part, Side, Timer, Value};
use crate::rules::logformat::{LogFormat, Step};
use crate::rules::sample::{self, Expr, Scope};

/// Those that change a request.
pub const REQUEST: &[&str] = &[
    "capture",
    "disable-l7-retry",
    "early-hint",
    "reject",
    "replace-path",
    "replace-pathq",
    "replace-uri",
    "set-dst",
    "set-dst-port",
    "set-pathq",
    "set-priority-class",
    "set-priority-offset",
    "set-retries",
    "set-src",
    "set-src-port",
    "set-uri",
    "set-bc-mark",
    "set-bc-tos",
];
/// Those of requests and responses.
pub const BOTH: &[&str] = &[
    "pause",
    "replace-value",
    "set-bandwidth-limit",
    "set-fc-mark",
    "set-fc-tos",
    "set-mark",
    "set-nice",
    "set-timeout",
    "set-tos",
    "strict-mode",
    "wait-for-body",
];

/// Those of them that `http-after-response` has too.
pub const AFTER: &[&str] = &["capture", "replace-value", "strict-mode"];

/// Those that [`effect`] has, for rules of streams of bytes.
pub const OF_STREAM: &[&str] = &[
    "set-bandwidth-limit",
    "set-bc-mark",
    "set-bc-tos",
    "set-fc-mark",
    "set-fc-tos",
    "set-mark",
    "set-nice",
    "set-priority-class",
    "set-priority-offset",
    "set-retries",
    "set-tos",
];

/// Parses one; `None` if it was reported. The number is that of the words used.
pub fn parse(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) -> Option<(HttpAction, usize)> {
    let what = format!("{} {}", w[0], w[1]);
    Some(match w[1].as_str() {
        "reject" => (HttpAction::Reject, 2),
        "disable-l7-retry" => (HttpAction::DisableRetry, 2),
        "strict-mode" => match cx.arg(w, 2, "'on' or 'off'")? {
            o if o.eq_ignore_ascii_case("on") => (HttpAction::StrictMode(true), 3),
            o if o.eq_ignore_ascii_case("off") => (HttpAction::StrictMode(false), 3),
            o => {
                cx.error(format!("'{what}' expects 'on' or 'off', not '{o}'"));
                return None;
            }
        },
        "early-hint" => {
            let (name, text) = (cx.arg(w, 2, "a header name")?.to_owned(), cx.arg(w, 3, "a value")?);
            (HttpAction::EarlyHint(name, format(cx, &what, text, scope)?), 4)
        }
        "set-uri" | "set-pathq" => {
            let part = if w[1] == "set-uri" { Part::Uri } else { Part::PathQuery };
            let text = cx.arg(w, 2, "a value")?;
            (HttpAction::SetPart(part, format(cx, &what, text, scope)?), 3)
        }
        "replace-path" | "replace-pathq" | "replace-uri" => {
            let part = match w[1].as_str() {
                "replace-path" => Part::Path,
                "replace-pathq" => Part::PathQuery,
                _ => Part::Uri,
            };
            let (re, text) = (cx.arg(w, 2, "a pattern")?, cx.arg(w, 3, "a value")?);
            let re = regex(cx, &what, re)?;
            (HttpAction::ReplacePart(part, re, format(cx, &what, text, scope)?), 4)
        }
        "replace-value" => {
            let name = cx.arg(w, 2, "a name, a pattern and a value")?.to_ascii_lowercase();
            let (re, text) = (cx.arg(w, 3, "a pattern")?, cx.arg(w, 4, "a value")?);
            let re = regex(cx, &what, re)?;
            (HttpAction::ReplaceValue(name, re, format(cx, &what, text, scope)?), 5)
        }
        "set-timeout" => {
            let timer = match cx.arg(w, 2, "'server', 'tunnel', 'client', 'connect', 'queue' or 'tarpit'")? {
                "server" => Timer::Server,
                "tunnel" => Timer::Tunnel,
                "client" => Timer::Client,
                "connect" => Timer::Connect,
                "queue" => Timer::Queue,
                "tarpit" => Timer::Tarpit,
                o => {
                    cx.error(format!(
                        "'{what}' : '{o}' is no timeout that rules can set; use server, tunnel, client, connect, queue or tarpit"
                    ));
                    return None;
                }
            };
            let lacks = match (&timer, cx.kind) {
                (Timer::Client, Kind::Backend) => Some("frontend"),
                (Timer::Server | Timer::Tunnel | Timer::Connect | Timer::Queue, Kind::Frontend) => Some("backend"),
                _ => None,
            };
            if let Some(side) = lacks {
                cx.error(format!("'{what} {}' : this section is no {side}, which this time-out belongs to", w[2]));
            }
            let text = cx.arg(w, 3, "a time or an expression")?;
            let value = match crate::base::units::parse_time(text, TimeUnit::Millis) {
                Ok(d) => Value::Number(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
                Err(_) => Value::Sample(expression(cx, &what, text, scope)?),
            };
            (HttpAction::SetTimeout(timer, value), 4)
        }
        "pause" => {
            let text = cx.arg(w, 2, "a time or an expression")?;
            let value = match crate::base::units::parse_time(text, TimeUnit::Millis) {
                Ok(d) => Value::Number(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
                Err(_) => Value::Sample(expression(cx, &what, text, scope)?),
            };
            (HttpAction::Pause(value), 3)
        }
        o if OF_STREAM.contains(&o) => return of_stream(cx, w, &what, scope),
        "set-src" | "set-src-port" | "set-dst" | "set-dst-port" => return address(cx, w, &what, scope),
        "wait-for-body" => {
            if cx.arg(w, 2, "'time <time>'")? != "time" {
                cx.error(format!("'{what}' expects 'time <time> [at-least <bytes>]'"));
                return None;
            }
            let time = cx.time(w, 3, TimeUnit::Millis)?;
            let (mut at_least, mut used) = (0, 4);
            if w.get(4).is_some_and(|x| x == "at-least") {
                let text = cx.arg(w, 5, "a size")?;
                let Ok(n) = crate::base::units::parse_size(text) else {
                    cx.error(format!("'{what}' : '{text}' is not a size"));
                    return None;
                };
                (at_least, used) = (usize::try_from(n).unwrap_or(usize::MAX), 6);
            }
            (HttpAction::WaitForBody { time, at_least }, used)
        }
        _ => capture(cx, p, w, scope)?,
    })
}

/// Actions that are for any stream, of bytes or of requests.
fn of_stream(cx: &mut Cx<'_>, w: &[String], what: &str, scope: Scope) -> Option<(HttpAction, usize)> {
    Some(match w[1].as_str() {
        "set-bandwidth-limit" => {
            let filter = cx.arg(w, 2, "the name of a bandwidth limit filter")?.to_owned();
            let (mut limit, mut period, mut i) = (None, None, 3);
            while let Some(word @ ("limit" | "period")) = w.get(i).map(String::as_str) {
                let text = cx.arg(w, i + 1, "a value or an expression")?;
                let said = match word {
                    "limit" => crate::base::units::parse_size(text).ok(),
                    _ => crate::base::units::parse_time(text, TimeUnit::Millis).ok().map(crate::base::units::millis),
                };
                let value = match said {
                    Some(n) => Value::Number(i64::try_from(n).unwrap_or(i64::MAX)),
                    None => Value::Sample(expression(cx, what, text, scope)?),
                };
                *(if word == "limit" { &mut limit } else { &mut period }) = Some(value);
                i += 2;
            }
            (HttpAction::SetBandwidth { filter, limit, period }, i)
        }
        "set-priority-class" | "set-priority-offset" => {
            let text = cx.arg(w, 2, "an expression")?;
            let offset = w[1] == "set-priority-offset";
            (HttpAction::SetPriority { offset, value: expression(cx, what, text, scope)? }, 3)
        }
        "set-nice" => {
            cx.arg(w, 2, "a number")?;
            cx.no_effect("set-nice", "all requests of a thread take turns");
            (HttpAction::SetNice, 3)
        }
        "set-fc-mark" | "set-fc-tos" | "set-bc-mark" | "set-bc-tos" | "set-mark" | "set-tos" => {
            let modern = match w[1].as_str() {
                "set-mark" => "set-fc-mark",
                "set-tos" => "set-fc-tos",
                o => o,
            };
            if modern != w[1] {
                cx.warn_of(Code::OldWord, format!("'{what}' is old syntax; write '{modern}'"));
            }
            let text = cx.arg(w, 2, "a number or an expression")?;
            let number = match text.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            };
            let value = match number {
                Some(n) => Value::Number(n.into()),
                None if text.starts_with(|c: char| c.is_ascii_digit()) => {
                    cx.error_of(
                        Code::Number,
                        format!("'{what}' : invalid character starting at '{text}' (integer/hex value expected)"),
                    );
                    return None;
                }
                None => Value::Sample(expression(cx, what, text, scope)?),
            };
            let packets = if modern.ends_with("-tos") { Packets::Tos } else { Packets::Mark };
            let side = if modern.starts_with("set-bc") { Side::Server } else { Side::Client };
            (HttpAction::SetPackets { side, what: packets, value }, 3)
        }
        "set-retries" if cx.kind == Kind::Frontend => {
            cx.error_of(
                Code::Misplaced,
                format!("'{what}' : 'set-retries' only available in backend or listen section"),
            );
            return None;
        }
        "set-retries" => {
            let text = cx.arg(w, 2, "a number or an expression")?;
            let value = match text.parse() {
                Ok(n) => Value::Number(n),
                Err(_) => Value::Sample(expression(cx, what, text, scope)?),
            };
            (HttpAction::SetRetries(value), 3)
        }
        // The callers' lists of words have no other.
        _ => return None,
    })
}

/// `http-request capture <expr> [len <n> | id <n>]`: with a length, a slot of its own.
pub fn capture(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) -> Option<(HttpAction, usize)> {
    let what = format!("{} capture", w[0]);
    // The slots are the frontend's.
    let backend = cx.kind == Kind::Backend;
    let text = cx.arg(w, 2, "an expression")?;
    let value = expression(cx, &what, text, scope)?;
    let slots = if scope == Scope::Response { &mut p.captures.response } else { &mut p.captures.request };
    match w.get(3).map(String::as_str) {
        Some("len") if backend => {
            cx.error(format!("'{what}' : 'len' makes a slot, which only a frontend can have; use 'id <slot>' here"));
            None
        }
        Some("len") if scope == Scope::Request => {
            slots.push(crate::config::model::Slot { header: None, len: 0 });
            let slot = slots.len() - 1;
            let len = cx.number(w, 4, "a number of bytes")?;
            p.captures.request[slot].len = len;
            Some((HttpAction::Capture { slot, value }, 5))
        }
        Some("id") => {
            let slot: usize = cx.number(w, 4, "the number of a slot")?;
            let there = if scope == Scope::Response { &p.captures.response } else { &p.captures.request }.len();
            if slot >= there && !backend {
                cx.error(format!(
                    "'{what}' : there is no slot {slot}; declare it with 'declare capture' before this line"
                ));
                return None;
            }
            Some((HttpAction::Capture { slot, value }, 5))
        }
        _ => {
            cx.error(format!("'{what}' expects 'len <bytes>' or 'id <slot>' behind the expression"));
            None
        }
    }
}

fn regex(cx: &mut Cx<'_>, what: &str, text: &str) -> Option<regex::bytes::Regex> {
    let made = regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build();
    made.map_err(|e| cx.error(format!("'{what}' : regular expression '{text}': {e}"))).ok()
}

/// An expression that has a value where the rule stands.
pub fn expression(cx: &mut Cx<'_>, what: &str, text: &str, scope: Scope) -> Option<Box<Expr>> {
    match Expr::parse(text, &names(&cx.env)) {
        Ok((e, "")) if e.least() <= scope => {
            super::rules::asked(cx, &e);
            return Some(Box::new(e));
        }
        Ok((_, "")) => cx.error(format!("'{what}' : '{text}' has no value at this point of the exchange")),
        Ok((_, rest)) => cx.error(format!("'{what}' : unexpected '{rest}'")),
        Err(e) => cx.expr_error(what, e),
    }
    None
}

/// Actions behind which the next rule follows, of every kind of rules: `do-log`, `set-log-level`, variables and addresses.
pub fn effect(cx: &mut Cx<'_>, w: &[String], scope: Scope, step: Step) -> Option<(HttpAction, usize)> {
    let what = format!("{} {}", w[0], w[1]);
    match w[1].as_str() {
        "do-log" => {
            let profile =
                w.get(2).is_some_and(|x| x == "profile").then(|| cx.arg(w, 3, "the name of a log-profile section"));
            let used = if profile.is_some() { 4 } else { 2 };
            let profile = match profile {
                None => None,
                Some(named) => Some(named?.to_owned()),
            };
            if let Some(name) = &profile {
                let place = cx.place.clone();
                cx.asked_profiles.push((name.clone(), place));
            }
            Some((HttpAction::DoLog(step, profile), used))
        }
        "set-log-level" => {
            let name = cx.arg(w, 2, "a log level, or 'silent'")?;
            let level = super::log::LEVELS.iter().position(|l| *l == name).and_then(|l| u8::try_from(l).ok());
            if level.is_none() && name != "silent" {
                let near = suggestion(name, super::log::LEVELS.into_iter().chain(["silent"]));
                cx.error_of(Code::UnknownWord, format!("'{what}' : unknown log level '{name}'{near}"));
                return None;
            }
            Some((HttpAction::SetLogLevel(level), 3))
        }
        "set-src" | "set-src-port" | "set-dst" | "set-dst-port" => address(cx, w, &what, scope),
        o if OF_STREAM.contains(&o) => of_stream(cx, w, &what, scope),
        o if o.starts_with("set-var(") => {
            let name = o.strip_prefix("set-var(")?.strip_suffix(')')?;
            if name.contains(',') {
                cx.not_yet("a condition in 'set-var'");
                return None;
            }
            if let Err(e) = sample::check_variable(name) {
                cx.expr_error(&what, e);
                return None;
            }
            let text = cx.arg(w, 2, "an expression")?;
            Some((HttpAction::SetVar(name.to_owned(), expression(cx, &what, text, scope)?), 3))
        }
        _ => variable(cx, w, scope),
    }
}

fn address(cx: &mut Cx<'_>, w: &[String], what: &str, scope: Scope) -> Option<(HttpAction, usize)> {
    let text = cx.arg(w, 2, "an expression")?;
    let value = expression(cx, what, text, scope)?;
    let (source, port) = (w[1].starts_with("set-src"), w[1].ends_with("-port"));
    Some((HttpAction::SetAddress { source, port, value }, 3))
}

/// `set-var-fmt(<name>) <format>` and `unset-var(<name>)`.
pub fn variable(cx: &mut Cx<'_>, w: &[String], scope: Scope) -> Option<(HttpAction, usize)> {
    let (word, inner) = w[1].split_once('(')?;
    let name = inner.strip_suffix(')')?;
    if name.contains(',') {
        cx.not_yet(&format!("a condition in '{word}'"));
        return None;
    }
    if let Err(e) = sample::check_variable(name) {
        cx.expr_error(&w[1], e);
        return None;
    }
    if word == "unset-var" {
        return Some((HttpAction::UnsetVar(name.to_owned()), 2));
    }
    let text = cx.arg(w, 2, "a format")?;
    let f: LogFormat = format(cx, &w[1], text, scope)?;
    Some((HttpAction::SetVarFmt(name.to_owned(), f), 3))
}
