//! `acl`, `use_backend`, `redirect`, `http-request`, `http-response` and `tcp-request` lines (configuration manual 4.3, 4.4, 7).
use super::keywords::{self, Class};
use super::{Cx, actions, names};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::model::{Chosen, Kind, Proxy};
use crate::config::source::Source;
use crate::http::status;
use crate::rules::acl::{Cond, Term};
use crate::rules::action::{Body, HttpAction, NameMatch, Redirect, RedirectTo, Reply, Rule, Service, SetCookie};
use crate::rules::gauge::Subject;
use crate::rules::logformat::{LogFormat, Step};
use crate::rules::sample::{self, Expr, ExprError, KnownNames, Scope};
use std::cell::RefCell;
use std::sync::Arc;

pub fn acl(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let (Some(name), Some(_)) = (cx.arg(w, 1, "a name and a criterion"), cx.arg(w, 2, "a criterion")) else { return };
    if matches!(name, "or" | "||") {
        return cx.error(format!("'acl' : '{name}' cannot name an ACL"));
    }
    if let Some(bad) = super::args::foreign(name) {
        let text = format!("character '{bad}' is not permitted in acl name '{name}'; use letters, digits and -_.:");
        return cx.error_of(Code::Name, text);
    }
    let (src, env) = (RefCell::new(&mut *cx.src), &cx.env);
    let resolve = |n: &str| first_address(&mut **src.borrow_mut(), n);
    let known = KnownNames { resolve: Some(&resolve), ..names(env) };
    let parsed = Term::parse(&w[2..], &known, &mut |f| pattern_file(&mut **src.borrow_mut(), f));
    match parsed {
        Ok(t) => {
            if t.is_empty() {
                cx.warn_of(Code::Useless, format!("'acl {name}' has no value to match, so that it is never true; use '-m found' to ask for presence"));
            }
            asked_by(cx, std::iter::once(&t));
            p.acls.add(name, t);
        }
        Err(e) => {
            cx.expr_error(&format!("acl {name}"), e);
            p.acls.refuse(name);
        }
    }
}

/// HAProxy takes an IPv4 address if there is one.
fn first_address(src: &mut dyn Source, name: &str) -> Option<std::net::IpAddr> {
    let all = src.resolve(name);
    all.iter().find(|a| a.is_ipv4()).or(all.first()).copied()
}

/// Remembers the proxies and servers that an expression asks about: they may be defined further down.
pub fn asked(cx: &mut Cx<'_>, e: &Expr) {
    let Some((gauge, name)) = e.gauge() else { return };
    let subject = gauge.subject();
    match (subject, name) {
        (Subject::Backend, "") if cx.kind == Kind::Frontend => cx.error_of(
            Code::Misplaced,
            format!(
                "'{}' asks about a backend, and this is a frontend; name the backend: {}(<name>)",
                e.text(),
                e.text()
            ),
        ),
        (Subject::Server, name) => {
            let (b, s) = name.rsplit_once('/').unwrap_or((&cx.own, name));
            cx.asked_servers.push((b.to_owned(), s.to_owned(), cx.place.clone()));
        }
        (_, "") => {}
        _ => cx.asked.push((subject == Subject::Backend, name.to_owned(), cx.place.clone())),
    }
}

/// The same for all of a condition.
fn asked_by<'e>(cx: &mut Cx<'_>, all: impl Iterator<Item = &'e Term>) {
    for t in all {
        cx.regex_work(t.regex_work());
        asked(cx, t.expr());
    }
}

/// One pattern a line; blank lines and comments are passed over.
fn pattern_file(src: &mut dyn crate::config::source::Source, path: &str) -> Result<Vec<String>, String> {
    let bytes = src.read(path).map_err(|e| format!("cannot read pattern file '{path}' : {e}"))?;
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// The condition at the end of a line, which must stand at `at` or nowhere. `Err` was reported.
pub fn cond(cx: &mut Cx<'_>, p: &Proxy, w: &[String], at: usize, scope: Scope) -> Result<Option<Cond>, ()> {
    let Some(rest) = w.get(at..).filter(|r| !r.is_empty()) else { return Ok(None) };
    let (src, env) = (RefCell::new(&mut *cx.src), &cx.env);
    let resolve = |n: &str| first_address(&mut **src.borrow_mut(), n);
    let known = KnownNames { resolve: Some(&resolve), ..names(env) };
    let parsed = Cond::parse(rest, &p.acls, &known, &mut |f| pattern_file(&mut **src.borrow_mut(), f));
    if let Ok(c) = &parsed {
        if c.is_empty() {
            let never = if rest[0] == "if" { "never" } else { "always" };
            cx.warn_of(Code::Useless, format!("nothing stands behind '{}': the condition {never} holds", rest[0]));
        }
        if c.terms().any(Term::is_empty) && rest.iter().any(|w| w == "{") {
            cx.warn_of(
                Code::Useless,
                "a criterion has no value to match, so that it is never true; use '-m found' to ask for presence",
            );
        }
        asked_by(cx, c.terms());
    }
    match parsed {
        Ok(c) if c.least() > scope => {
            cx.error(format!("'{}' : the condition asks for something that is not known yet at this point of the exchange, so it could never match", w[0]));
            Err(())
        }
        Ok(c) => Ok(Some(c)),
        Err(e) => {
            cx.expr_error(&w[0], e);
            Err(())
        }
    }
}

pub fn use_backend(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "a backend name") else { return };
    let name = name.to_owned();
    if p.use_backend.len() >= super::MAX_SECTIONS * 2 {
        return cx.too_much("'use_backend' rules in a section", super::MAX_SECTIONS * 2);
    }
    let scope = Scope::Request;
    let Some(name) = chosen(cx, "use_backend", name, scope) else { return };
    if let Ok(c) = cond(cx, p, w, 2, scope) {
        p.use_backend.push((c, name, cx.place.clone()));
    }
}

/// A name, or the format of one.
fn chosen(cx: &mut Cx<'_>, what: &str, name: String, scope: Scope) -> Option<Chosen> {
    if !name.contains("%[") {
        return Some(Chosen::Name(name));
    }
    format(cx, what, &name, scope).map(|f| Chosen::Computed(Arc::new(f)))
}

/// `use-server <server> [if|unless <condition>]`; the server is looked for at the end of the section.
pub fn use_server(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "a server name") else { return };
    let name = name.to_owned();
    let scope = Scope::Request;
    let Some(name) = chosen(cx, "use-server", name, scope) else { return };
    if let Ok(c) = cond(cx, p, w, 2, scope) {
        p.use_server.push((c, name, cx.place.clone()));
    }
}

/// `ignore-persist` and `force-persist`
pub fn persist(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let scope = Scope::Request;
    match cond(cx, p, w, 1, scope) {
        Ok(Some(c)) => p.persist_rules.push((c, w[0] == "force-persist")),
        Ok(None) => cx.error_of(Code::Missing, format!("'{}' expects a condition, 'if' or 'unless'", w[0])),
        Err(()) => {}
    }
}

/// `force-be-switch`
pub fn force_switch(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let scope = Scope::Request;
    match cond(cx, p, w, 1, scope) {
        Ok(Some(c)) => p.force_switch.push(c),
        Ok(None) => cx.error_of(Code::Missing, "'force-be-switch' expects a condition, 'if' or 'unless'"),
        Err(()) => {}
    }
}

pub fn format(cx: &mut Cx<'_>, what: &str, text: &str, scope: Scope) -> Option<LogFormat> {
    use keywords::column;
    let columns: &[usize] = match (scope, cx.kind) {
        (Scope::Connection, _) => &[],
        (Scope::Log, _) => &[column::LOGS],
        (Scope::Request, Kind::Frontend) => &[column::FRONTEND_REQUEST],
        (Scope::Request, Kind::Backend) => &[column::BACKEND_REQUEST],
        (Scope::Request, _) => &[column::FRONTEND_REQUEST, column::BACKEND_REQUEST],
        (Scope::Response, Kind::Frontend) => &[column::FRONTEND_RESPONSE],
        (Scope::Response, Kind::Backend) => &[column::BACKEND_RESPONSE],
        (Scope::Response, _) => &[column::FRONTEND_RESPONSE, column::BACKEND_RESPONSE],
    };
    format_at(cx, what, text, scope, columns, if scope == Scope::Log { LogFormat::line } else { LogFormat::parse })
}

/// As [`format`], where a request is under way: all that a log line may say, and what the request has.
pub fn request_format(cx: &mut Cx<'_>, what: &str, text: &str, compile: Compile) -> Option<LogFormat> {
    format_at(cx, what, text, Scope::Log, &[keywords::column::FRONTEND_REQUEST], compile)
}

/// How a format is compiled: see [`LogFormat`].
pub type Compile = fn(&str, Scope, &KnownNames<'_>) -> Result<LogFormat, ExprError>;

/// As [`format`], where fetches that `-dKsmp` lists in one of these columns have a value.
pub fn format_at(
    cx: &mut Cx<'_>,
    what: &str,
    text: &str,
    scope: Scope,
    columns: &[usize],
    compile: Compile,
) -> Option<LogFormat> {
    let fits = |name: &str| columns.is_empty() || keywords::fits(name, columns);
    let known = KnownNames { fits: Some(&fits), ..names(&cx.env) };
    let made = compile(text, scope, &known).map_err(|e| cx.expr_error(what, e)).ok()?;
    made.samples().for_each(|e| asked(cx, e));
    Some(made)
}

/// `redirect ...` alone is `http-request redirect ...`.
pub fn redirect(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if let Some((r, used)) = redirect_action(cx, w, 1) {
        push(cx, p, w, used, Scope::Request, HttpAction::Redirect(r));
    }
}

fn redirect_action(cx: &mut Cx<'_>, w: &[String], mut i: usize) -> Option<(Redirect, usize)> {
    let mut to = None;
    let mut r = Redirect {
        to: RedirectTo::Location(LogFormat::parse("", Scope::Connection, &names(&cx.env)).ok()?),
        code: 302,
        drop_query: false,
        append_slash: false,
        keep_query: false,
        ignore_empty: false,
        set_cookie: None,
    };
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "location" | "prefix" | "scheme" => {
                let text = cx.arg(w, i + 1, "a value")?;
                let f = format(cx, "redirect", text, Scope::Request)?;
                to = Some(match word.as_str() {
                    "location" => RedirectTo::Location(f),
                    "prefix" => RedirectTo::Prefix(f),
                    _ => RedirectTo::Scheme(f),
                });
                i += 2;
            }
            "code" => {
                r.code = cx.number(w, i + 1, "one of 301, 302, 303, 307 or 308")?;
                if !matches!(r.code, 301 | 302 | 303 | 307 | 308) {
                    cx.error(format!("'redirect' : unsupported HTTP code '{}'; use 301, 302, 303, 307 or 308", r.code));
                    return None;
                }
                i += 2;
            }
            "set-cookie" => {
                let c = cx.arg(w, i + 1, "a cookie")?;
                // HAProxy's words: a cookie of the session, for the whole site.
                r.set_cookie = Some(SetCookie::Whole(format!("{c}; path=/;")));
                i += 2;
            }
            "set-cookie-fmt" => {
                let text = cx.arg(w, i + 1, "a format")?;
                r.set_cookie = Some(SetCookie::Format(format(cx, "redirect", text, Scope::Request)?));
                i += 2;
            }
            "clear-cookie" => {
                let c = cx.arg(w, i + 1, "a cookie")?;
                r.set_cookie = Some(SetCookie::Whole(format!(
                    "{}; path=/; Max-Age=0;",
                    if c.contains('=') { c.to_owned() } else { format!("{c}=") }
                )));
                i += 2;
            }
            flag @ ("drop-query" | "append-slash" | "ignore-empty" | "keep-query") => {
                *match flag {
                    "drop-query" => &mut r.drop_query,
                    "append-slash" => &mut r.append_slash,
                    "ignore-empty" => &mut r.ignore_empty,
                    _ => &mut r.keep_query,
                } = true;
                i += 1;
            }
            "if" | "unless" => break,
            o => {
                let hint = if o.starts_with('/') || o.contains("://") {
                    format!("; write 'location {o}'")
                } else {
                    String::new()
                };
                cx.error(format!("'redirect' : unexpected '{o}'{hint}; expects 'code', 'prefix', 'location', 'scheme', 'set-cookie', 'set-cookie-fmt', 'clear-cookie', 'drop-query', 'keep-query', 'append-slash' or 'ignore-empty'"));
                return None;
            }
        }
    }
    match to {
        Some(t) => r.to = t,
        None => {
            cx.error("'redirect' : expects a target: 'location', 'prefix' or 'scheme'");
            return None;
        }
    }
    Some((r, i))
}

fn push(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], at: usize, scope: Scope, action: HttpAction) {
    let Ok(cond) = cond(cx, p, w, at, scope) else { return };
    let list = match (scope, w[0].as_str()) {
        (_, "http-after-response") => &mut p.http_after_response,
        (Scope::Response, _) => &mut p.http_response,
        _ => &mut p.http_request,
    };
    list.push(Rule { place: cx.place.clone(), cond, action });
}

pub const REQUEST_ACTIONS: &[&str] = &[
    "allow",
    "deny",
    "return",
    "redirect",
    "tarpit",
    "silent-drop",
    "set-header",
    "add-header",
    "del-header",
    "replace-header",
    "set-path",
    "set-query",
    "set-method",
    "use-service",
    "cache-use",
];
pub const RESPONSE_ACTIONS: &[&str] = &[
    "allow",
    "deny",
    "return",
    "redirect",
    "silent-drop",
    "set-header",
    "add-header",
    "del-header",
    "replace-header",
    "set-status",
    "cache-store",
];

/// Of `http-after-response`.
pub const AFTER_ACTIONS: &[&str] = &["allow", "set-header", "add-header", "del-header", "replace-header", "set-status"];

pub fn http_after_response(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    http_rule(cx, p, w, Scope::Response);
}

pub fn http_request(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    http_rule(cx, p, w, Scope::Request);
}

pub fn http_response(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    http_rule(cx, p, w, Scope::Response);
}

fn http_rule(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) {
    let Some(name) = cx.arg(w, 1, "an action") else { return };
    let request = scope == Scope::Request;
    let after = w[0] == "http-after-response";
    let (mine, known) = match (request, after) {
        (true, _) => (REQUEST_ACTIONS, Class::HttpRequest),
        (_, true) => (AFTER_ACTIONS, Class::HttpAfterResponse),
        _ => (RESPONSE_ACTIONS, Class::HttpResponse),
    };
    let what = format!("{} {name}", w[0]);
    let base = name.split('(').next().unwrap_or(name);
    if base == "set-var" && name.ends_with(')') {
        return set_var(cx, p, w, scope);
    }
    if matches!(name, "do-log" | "set-log-level") {
        let step = match (after, request) {
            (true, _) => Step::HttpAfterRes,
            (_, true) => Step::HttpReq,
            _ => Step::HttpRes,
        };
        if let Some((action, used)) = actions::effect(cx, w, scope, step) {
            push(cx, p, w, used, scope, action);
        }
        return;
    }
    if matches!(base, "set-var-fmt" | "unset-var") && name.ends_with(')') {
        if let Some((action, used)) = actions::variable(cx, w, scope) {
            push(cx, p, w, used, scope, action);
        }
        return;
    }
    let shared = match after {
        true => actions::AFTER.contains(&name),
        false => actions::BOTH.contains(&name) || name == "capture" || request && actions::REQUEST.contains(&name),
    };
    if shared {
        if let Some((action, used)) = actions::parse(cx, p, w, scope) {
            push(cx, p, w, used, scope, action);
        }
        return;
    }
    if !mine.contains(&name) {
        let stem = base.trim_end_matches(|c: char| c.is_ascii_digit());
        if keywords::is(known, base)
            || keywords::is(known, stem)
            || name.starts_with("lua.")
            || base.starts_with("track-sc")
            || base.starts_with("sc-")
        {
            return cx.not_yet(&format!("'{what}'"));
        }
        return cx.error_of(
            Code::UnknownWord,
            format!(
                "'{}' does not know the action '{name}'{}",
                w[0],
                suggestion(name, mine.iter().copied().chain(keywords::names(known)))
            ),
        );
    }
    let (action, used) = match name {
        "allow" => (HttpAction::Allow, 2),
        "silent-drop" => (HttpAction::SilentDrop, 2),
        "cache-use" | "cache-store" => {
            let Some(cache) = cx.arg(w, 2, "the name of a section 'cache'").map(str::to_owned) else { return };
            cx.asked_caches.push((cache.clone(), cx.place.clone()));
            let unhinted = request && w.get(3).is_some_and(|o| o == "no-early-hints");
            let action = if request { HttpAction::CacheUse(cache, !unhinted) } else { HttpAction::CacheStore(cache) };
            (action, 3 + usize::from(unhinted))
        }
        "set-status" => {
            let Some(status) = cx.number::<u16>(w, 2, "a status code") else { return };
            if !(100..=999).contains(&status) {
                return cx
                    .error_of(Code::Number, format!("'{what}' : a status from 100 to 999 is wanted, not {status}"));
            }
            match w.get(3).map(String::as_str) {
                Some("reason") => match cx.arg(w, 4, "a text") {
                    Some(text) => (HttpAction::SetStatus(status, Some(text.to_owned())), 5),
                    None => return,
                },
                _ => (HttpAction::SetStatus(status, None), 3),
            }
        }
        "deny" | "tarpit" | "return" => {
            let default = match (name, request) {
                ("return", _) => 200,
                ("tarpit", _) => 500,
                (_, true) => 403,
                _ => 502,
            };
            let Some((reply, used)) = reply(cx, w, 2, default, scope, name == "return") else { return };
            (
                match name {
                    "deny" => HttpAction::Deny(reply),
                    "tarpit" => HttpAction::Tarpit(reply),
                    _ => HttpAction::Return(reply),
                },
                used,
            )
        }
        "redirect" => match redirect_action(cx, w, 2) {
            Some((r, used)) => (HttpAction::Redirect(r), used),
            None => return,
        },
        "set-header" | "add-header" => {
            let (Some(header), Some(text)) = (cx.arg(w, 2, "a header name and a value"), cx.arg(w, 3, "a value"))
            else {
                return;
            };
            if header.is_empty()
                || !header.bytes().all(|c| c.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&c))
            {
                return cx.error(format!("'{what}' : '{header}' is not a header name"));
            }
            let Some(f) = format(cx, &what, text, scope) else { return };
            let header = header.to_ascii_lowercase();
            (if name == "set-header" { HttpAction::SetHeader(header, f) } else { HttpAction::AddHeader(header, f) }, 4)
        }
        "del-header" => {
            let Some(header) = cx.arg(w, 2, "a header name") else { return };
            let text = header.to_ascii_lowercase();
            let (m, used) = match (w.get(3).map(String::as_str), w.get(4).map(String::as_str)) {
                (Some("-m"), Some("str")) => (NameMatch::Exact(text), 5),
                (Some("-m"), Some("beg")) => (NameMatch::Beg(text), 5),
                (Some("-m"), Some("end")) => (NameMatch::End(text), 5),
                (Some("-m"), Some("sub")) => (NameMatch::Sub(text), 5),
                (Some("-m"), Some("reg")) => match regex::bytes::Regex::new(&format!("(?i){header}")) {
                    Ok(r) => (NameMatch::Reg(r), 5),
                    Err(e) => return cx.error(format!("'{what}' : {e}")),
                },
                (Some("-m"), o) => {
                    return cx.error_of(
                        Code::UnknownWord,
                        format!("'{what}' : unknown match method '{}'", o.unwrap_or_default()),
                    );
                }
                _ => (NameMatch::Exact(text), 3),
            };
            (HttpAction::DelHeader(m), used)
        }
        "replace-header" => {
            let (Some(header), Some(re), Some(to)) =
                (cx.arg(w, 2, "a name, a pattern and a value"), cx.arg(w, 3, "a pattern"), cx.arg(w, 4, "a value"))
            else {
                return;
            };
            match regex::bytes::RegexBuilder::new(re).unicode(false).size_limit(1 << 20).build() {
                Ok(r) => {
                    let Some(f) = format(cx, &what, to, scope) else { return };
                    (HttpAction::ReplaceHeader(header.to_ascii_lowercase(), r, f), 5)
                }
                Err(e) => return cx.error(format!("'{what}' : {e}")),
            }
        }
        "set-path" | "set-query" | "set-method" => {
            let Some(text) = cx.arg(w, 2, "a value") else { return };
            let Some(f) = format(cx, &what, text, scope) else { return };
            match name {
                "set-path" => (HttpAction::SetPath(f), 3),
                "set-query" => (HttpAction::SetQuery(f), 3),
                _ => (HttpAction::SetMethod(f), 3),
            }
        }
        _ => match cx.arg(w, 2, "a service name") {
            Some("prometheus-exporter") => (HttpAction::UseService(Service::PrometheusExporter), 3),
            Some(o) if o.starts_with("lua.") => return cx.not_yet("Lua services"),
            Some(o) => {
                return cx.error_of(
                    Code::UnknownWord,
                    format!("'{what}' : unknown service '{o}'; the one there is: prometheus-exporter"),
                );
            }
            None => return,
        },
    };
    push(cx, p, w, used, scope, action);
}

fn set_var(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) {
    let inner = w[1].trim_end_matches(')').trim_start_matches("set-var(");
    let name = inner.split(',').next().unwrap_or_default();
    if inner.contains(',') {
        return cx.not_yet("a condition in 'set-var'");
    }
    if let Err(e) = sample::check_variable(name) {
        return cx.expr_error(&w[1], e);
    }
    let Some(text) = cx.arg(w, 2, "an expression") else { return };
    match Expr::parse(text, &names(&cx.env)) {
        Ok((e, "")) if e.least() <= scope => push(cx, p, w, 3, scope, HttpAction::SetVar(name.to_owned(), Box::new(e))),
        Ok((_, "")) => cx.error(format!("'{}' : '{text}' has no value at this point of the exchange", w[1])),
        Ok((_, rest)) => cx.error(format!("'{}' : unexpected '{rest}'", w[1])),
        Err(e) => cx.expr_error(&w[1], e),
    }
}

/// The arguments of `return`, `deny` and `tarpit`.
pub fn reply(
    cx: &mut Cx<'_>,
    w: &[String],
    mut i: usize,
    default: u16,
    scope: Scope,
    is_return: bool,
) -> Option<(Reply, usize)> {
    let mut r = Reply {
        status: default,
        content_type: None,
        headers: Vec::new(),
        body: if is_return { Body::Empty } else { Body::Default },
    };
    let mut set = None;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "status" | "deny_status" => {
                r.status = cx.number(w, i + 1, "a status code")?;
                if !(200..=599).contains(&r.status) {
                    cx.error(format!("'{} {}' : a status from 200 to 599 is wanted, not {}", w[0], w[1], r.status));
                    return None;
                }
                i += 2;
            }
            "content-type" => {
                r.content_type = Some(cx.arg(w, i + 1, "a media type")?.to_owned());
                i += 2;
            }
            "hdr" => {
                let (n, v) = (cx.arg(w, i + 1, "a name and a value")?, cx.arg(w, i + 2, "a value")?);
                r.headers.push((n.to_ascii_lowercase(), format(cx, "hdr", v, scope)?));
                i += 3;
            }
            "string" | "lf-string" | "file" | "lf-file" | "errorfile"
                if matches!(r.body, Body::Bytes(_) | Body::Format(_) | Body::Raw(_)) =>
            {
                cx.error_of(
                    Code::Duplicate,
                    format!("'{} {}' : there is a body already, and '{word}' is another", w[0], w[1]),
                );
                return None;
            }
            "string" => {
                r.body = Body::Bytes(Arc::from(cx.arg(w, i + 1, "a text")?.as_bytes()));
                i += 2;
            }
            "lf-string" => {
                let text = cx.arg(w, i + 1, "a text")?;
                r.body = Body::Format(format(cx, "lf-string", text, scope)?);
                i += 2;
            }
            "file" | "lf-file" | "errorfile" => {
                let path = cx.arg(w, i + 1, "a file name")?.to_owned();
                let bytes = cx.read(&path)?;
                r.body = match word.as_str() {
                    "file" => Body::Bytes(bytes),
                    "errorfile" => Body::Raw(checked_errorfile(cx, &path, &bytes)?),
                    _ => Body::Format(format(cx, "lf-file", &String::from_utf8_lossy(&bytes), scope)?),
                };
                i += 2;
            }
            "default-errorfiles" => {
                r.body = Body::Default;
                i += 1;
            }
            "errorfiles" => {
                let name = cx.arg(w, i + 1, "the name of a section 'http-errors'")?;
                set = Some(super::errors::find(cx, name)?.clone());
                i += 2;
            }
            _ => break,
        }
    }
    if let Some(page) = set.as_ref().and_then(|s| s.get(&r.status)) {
        r.body = Body::Raw(page.clone());
    } else if set.is_some() {
        r.body = Body::Default;
    }
    if matches!(r.body, Body::Default) && !status::is_page(r.status) {
        if !is_return {
            cx.error(format!("'{} {}' : status {} has no error page; use one that has, or say what to answer: 'http-request return status {} ...'", w[0], w[1], r.status, r.status));
        } else {
            r.body = Body::Empty;
        }
    }
    if !r.headers.is_empty() && matches!(r.body, Body::Default) {
        // A header given without content switches the page off.
        r.body = Body::Empty;
    }
    // What is empty has no type.
    let has_content = match &r.body {
        Body::Bytes(b) => !b.is_empty(),
        Body::Format(_) => true,
        _ => false,
    };
    if has_content && r.content_type.is_none() {
        cx.error(format!("'{} {}' : a content type is needed with a body: add 'content-type <type>'", w[0], w[1]));
        return None;
    }
    Some((r, i))
}

/// Makes an errorfile's bytes a message this proxy can send: lines ended by CR LF, names in lower case, no connection headers.
/// An empty one (`/dev/null`) means that nothing is sent.
pub fn checked_errorfile(cx: &mut Cx<'_>, path: &str, bytes: &[u8]) -> Option<Arc<[u8]>> {
    if bytes.is_empty() {
        return Some(bytes.into());
    }
    let text_end = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|p| (p, p + 4))
        .or_else(|| bytes.windows(2).position(|w| w == b"\n\n").map(|p| (p, p + 2)));
    let Some((end, body_at)) = text_end.or(Some((bytes.len(), bytes.len())).filter(|_| bytes.starts_with(b"HTTP/")))
    else {
        cx.error(format!("'{path}' is not an HTTP message: a status line, headers and a blank line are wanted"));
        return None;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let mut parts = first.splitn(3, ' ');
    let (version, code) = (parts.next().unwrap_or_default(), parts.next().and_then(|c| c.parse::<u16>().ok()));
    let (true, Some(code)) = (version.starts_with("HTTP/1."), code) else {
        cx.error(format!("'{path}' : '{first}' is not a status line such as 'HTTP/1.1 503 Service Unavailable'"));
        return None;
    };
    let body = &bytes[body_at..];
    let reason = parts.next().unwrap_or_else(|| status::reason(code));
    let mut out = format!("{version} {code} {reason}\r\n").into_bytes();
    for line in lines {
        if let Some((n, v)) = line.split_once(':') {
            let n = n.trim().to_ascii_lowercase();
            if n == "content-length" && v.trim().parse() != Ok(body.len()) {
                cx.warn(format!(
                    "'{path}' : its Content-Length is {}, its body {} bytes; the length is corrected",
                    v.trim(),
                    body.len()
                ));
                out.extend_from_slice(format!("{n}: {}\r\n", body.len()).as_bytes());
            } else if !matches!(n.as_str(), "connection" | "transfer-encoding") {
                out.extend_from_slice(format!("{n}: {}\r\n", v.trim()).as_bytes());
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Some(out.into())
}
