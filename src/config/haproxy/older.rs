//! Words of older dialects (1.5 to 3.4) that the language has no more: each is translated, with one notice that names its modern form.
//! `--dialect 3.5` refuses them, as that version does.
use super::{Cx, State, proxy, rules, server};
use crate::base::code::Code;
use crate::config::model::{Kind, Mode, Proxy};
use crate::rules::action::{HttpAction, NameMatch, Rule};
use crate::rules::sample::Scope;

type Parse = fn(&mut Cx<'_>, &mut Proxy, &[String]);

/// Old word, its modern form as the notice says it, translation.
const WORDS: &[(&str, &str, Parse)] = &[
    ("contimeout", "timeout connect", |cx, p, w| timeout(cx, p, "connect", &w[1..])),
    ("clitimeout", "timeout client", |cx, p, w| timeout(cx, p, "client", &w[1..])),
    ("srvtimeout", "timeout server", |cx, p, w| timeout(cx, p, "server", &w[1..])),
    ("redispatch", "option redispatch", |_, p, _| p.options.redispatch = Some(-1)),
    ("redisp", "option redispatch", |_, p, _| p.options.redispatch = Some(-1)),
    ("block", "http-request deny", block),
    ("reqadd", "http-request add-header", |cx, p, w| add(cx, p, w, Scope::Request)),
    ("rspadd", "http-response add-header", |cx, p, w| add(cx, p, w, Scope::Response)),
    ("reqdel", "http-request del-header", |cx, p, w| del(cx, p, w, Scope::Request)),
    ("reqidel", "http-request del-header", |cx, p, w| del(cx, p, w, Scope::Request)),
    ("rspdel", "http-response del-header", |cx, p, w| del(cx, p, w, Scope::Response)),
    ("rspidel", "http-response del-header", |cx, p, w| del(cx, p, w, Scope::Response)),
    ("dispatch", "server dispatch <address>", dispatch),
    ("transparent", "server transparent 0.0.0.0", |cx, p, _| anywhere(cx, p)),
    ("monitor-net", "http-request return status 200 if { src <network> }", monitor_net),
    ("bind-process", "one process with several threads serves", |_, _, _| {}),
    ("grace", "hard-stop-after in the global section", |_, _, _| {}),
];

/// Old words of `global`, and what is to be said of them.
pub const GLOBAL: &[(&str, &str)] = &[
    ("debug", "use '-d' on the command line"),
    ("nbproc", "one process with several threads serves; use 'nbthread'"),
    ("master-worker", "a guardian and a worker always run; use '-W' or '-Ws' on the command line"),
    ("tune.chksize", "checks use 'tune.bufsize'"),
    ("no-quic", "write 'tune.quic.listen off'; QUIC is not served here in any case"),
];

/// Words that cannot be translated: why, and what to write.
const REFUSED: &[(&str, &str)] = &[
    (
        "appsession",
        "write 'stick-table type string len <len> size 1m expire <timeout>' with 'stick on req.cook(<cookie>)'; 'cookie <name> insert indirect' does it without a table",
    ),
    ("reqrep", "write 'http-request replace-header', 'replace-path' or 'set-path'"),
    ("reqirep", "write 'http-request replace-header', 'replace-path' or 'set-path'"),
    ("cliexp", "write 'http-request replace-header', 'replace-path' or 'set-path'"),
    ("rsprep", "write 'http-response replace-header'"),
    ("rspirep", "write 'http-response replace-header'"),
    ("srvexp", "write 'http-response replace-header'"),
    ("reqallow", "write 'http-request allow'"),
    ("reqiallow", "write 'http-request allow'"),
    ("reqdeny", "write 'http-request deny'"),
    ("reqideny", "write 'http-request deny'"),
    ("reqtarpit", "write 'http-request tarpit'"),
    ("reqitarpit", "write 'http-request tarpit'"),
    ("reqpass", "drop it: there are no filters of lines to be left"),
    ("reqipass", "drop it: there are no filters of lines to be left"),
    ("rspdeny", "write 'http-response deny'"),
    ("rspideny", "write 'http-response deny'"),
    ("reqsetbe", "write 'use_backend'"),
    ("reqisetbe", "write 'use_backend'"),
];

/// True if `w` was an old word; it is translated, or its refusal is reported.
pub fn line(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) -> bool {
    let word = w[0].as_str();
    if let Some((_, advice)) = REFUSED.iter().find(|r| r.0 == word) {
        if cx.strict || word == "appsession" {
            cx.error_of(Code::RemovedWord, format!("'{word}' is not supported any more: {advice}"));
        } else {
            cx.not_yet(&format!("'{word}', an old word ({advice})"));
        }
        return true;
    }
    let Some((_, modern, translate)) = WORDS.iter().find(|o| o.0 == word) else { return false };
    if word == "dispatch" && p.kind == Kind::Defaults {
        cx.error_of(Code::Misplaced, "'dispatch' is not allowed in a 'defaults' section");
        return true;
    }
    if cx.strict {
        cx.error_of(Code::RemovedWord, format!("the '{word}' directive is not supported any more; use '{modern}'"));
    } else {
        cx.warn_of(Code::OldWord, format!("'{word}' is old syntax; write '{modern}'"));
        translate(cx, p, w);
    }
    true
}

/// What an old word comes to: it is translated, or not honoured.
pub fn state(name: &str) -> State {
    match name {
        "bind-process" => State::Accepted("one process with several threads serves"),
        "grace" => State::Accepted("'hard-stop-after' in the global section says when a stop ends"),
        n if WORDS.iter().any(|o| o.0 == n) => State::Honoured,
        _ => State::NotYet,
    }
}

/// `timeout contimeout` and its like: the modern name.
pub fn timer(name: &str) -> Option<&'static str> {
    Some(match name {
        "contimeout" => "connect",
        "clitimeout" => "client",
        "srvtimeout" => "server",
        _ => return None,
    })
}

fn timeout(cx: &mut Cx<'_>, p: &mut Proxy, name: &str, rest: &[String]) {
    let mut line = vec!["timeout".to_owned(), name.to_owned()];
    line.extend_from_slice(rest);
    proxy::timeout(cx, p, &line);
}

/// `block if ...` came before every `http-request` rule, wherever it stood.
fn block(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if w.len() < 2 {
        return cx.error("'block' expects 'if' or 'unless' with a condition");
    }
    let mut line = vec!["http-request".to_owned(), "deny".to_owned()];
    line.extend_from_slice(&w[1..]);
    let before = p.http_request.len();
    rules::http_request(cx, p, &line);
    if p.http_request.len() > before
        && let Some(rule) = p.http_request.pop()
    {
        p.http_request.insert(p.blocks, rule);
        p.blocks += 1;
    }
}

/// `reqadd Name:\ value` came after every other rule, wherever it stood.
fn add(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) {
    let Some(text) = cx.arg(w, 1, "a header line, such as 'X-Name:\\ value'") else { return };
    let Some((name, value)) = text.split_once(':') else {
        return cx.error(format!("'{}' : '{text}' is no header line: a name, a colon and a value are wanted", w[0]));
    };
    let Ok(cond) = rules::cond(cx, p, w, 2, scope) else { return };
    // The value was no format: a percent sign stood for itself.
    let value = value.trim_start().replace('%', "%%");
    let Some(value) = rules::format(cx, &w[0], &value, scope) else { return };
    late(cx, p, scope, cond, HttpAction::AddHeader(name.trim().to_owned(), value));
}

/// `reqdel ^Name:` names a header; other expressions look at whole lines, which nothing does any more.
fn del(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String], scope: Scope) {
    let Some(text) = cx.arg(w, 1, "an expression, such as '^X-Name:'") else { return };
    let name = text.strip_prefix('^').and_then(|t| t.split_once(':')).filter(|(n, rest)| {
        !n.is_empty()
            && n.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && matches!(*rest, "" | ".*" | ".*$" | "\\ .*")
    });
    let Some((name, _)) = name else {
        return cx
            .not_yet(&format!("'{} {text}', an old word whose expression is about more than a header's name,", w[0]));
    };
    let name = name.to_ascii_lowercase();
    let Ok(cond) = rules::cond(cx, p, w, 2, scope) else { return };
    let rule = HttpAction::DelHeader(NameMatch::Exact(name));
    let list = if scope == Scope::Response { &mut p.http_response } else { &mut p.http_request };
    list.push(Rule { place: cx.place.clone(), cond, action: rule });
}

fn late(cx: &Cx<'_>, p: &mut Proxy, scope: Scope, cond: Option<crate::rules::acl::Cond>, action: HttpAction) {
    let rule = Rule { place: cx.place.clone(), cond, action };
    if scope == Scope::Response { p.late_response.push(rule) } else { p.late_request.push(rule) }
}

/// At the end of the section: rules that came last wherever they stood.
pub fn finish(p: &mut Proxy) {
    if p.kind != Kind::Defaults {
        p.http_request.append(&mut p.late_request);
        p.http_response.append(&mut p.late_response);
    }
}

/// `dispatch` won over every server.
fn dispatch(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(addr) = cx.arg(w, 1, "an address and a port").map(str::to_owned) else { return };
    cx.at_most(w, 2);
    if addr.rsplit_once(':').is_none_or(|a| a.1.parse::<u16>().is_err()) {
        return cx.error(format!("'dispatch' : missing port in '{addr}'; write <address>:<port>"));
    }
    for s in &mut p.servers {
        s.weight = 0;
    }
    server::server(cx, p, &["server".to_owned(), "dispatch".to_owned(), addr]);
}

/// To wherever the client wanted to go.
pub fn anywhere(cx: &mut Cx<'_>, p: &mut Proxy) {
    server::server(cx, p, &["server", "transparent", "0.0.0.0"].map(str::to_owned));
}

fn monitor_net(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(net) = cx.arg(w, 1, "a network").map(str::to_owned) else { return };
    if p.mode == Mode::Tcp {
        return cx.not_yet("'monitor-net' in 'mode tcp'");
    }
    let line = ["http-request", "return", "status", "200", "if", "{", "src", &net, "}"].map(str::to_owned);
    let before = p.http_request.len();
    rules::http_request(cx, p, &line);
    if p.http_request.len() > before
        && let Some(rule) = p.http_request.pop()
    {
        p.http_request.insert(p.blocks, rule);
        p.blocks += 1;
    }
}
