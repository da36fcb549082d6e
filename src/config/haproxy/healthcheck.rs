//! `healthcheck` sections: checks that servers of any section may name (configuration manual 12.9).
use super::{Cx, check, sections};
use crate::base::code::Code;
use crate::base::diag::{Severity, suggestion};
use crate::config::model::{CheckKind, HealthCheck, Kind, Model, Proxy, Server};
use std::sync::Arc;

/// A section being read: its words are those of a backend that has no servers.
pub struct Draft {
    like: Proxy,
    open: sections::Open,
    typed: bool,
    /// Which rules stood there before its type was known.
    rules: Vec<&'static str>,
}

pub fn new(cx: &Cx<'_>, name: &str, open: sections::Open) -> Draft {
    let mut like = Proxy::new(cx.place.clone(), name, Kind::Backend);
    check::begin(&mut like);
    Draft { like, open, typed: false, rules: Vec::new() }
}

impl Draft {
    pub fn name(&self) -> &str {
        &self.like.name
    }
}

/// Whose rules a kind of check takes.
fn rules_of(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::HttpRules => "http-check",
        _ => "tcp-check",
    }
}

pub fn line(cx: &mut Cx<'_>, d: &mut Draft, w: &[String]) {
    let before = cx.report.count(Severity::Error);
    sections::line(cx, &mut d.open, w);
    if cx.report.count(Severity::Error) > before {
        return;
    }
    (cx.kind, cx.own) = (d.like.kind, d.like.name.clone());
    match w[0].as_str() {
        "type" if d.typed => cx.error_of(Code::Duplicate, "'type' : this health check has a type already"),
        "type" => {
            d.typed = true;
            let read = match w[1].as_str() {
                "httpchk" => check::httpchk,
                "tcp-check" => check::tcp_rules,
                "ssl-hello-chk" => check::ssl_hello,
                _ => check::dialect,
            };
            read(cx, &mut d.like, w);
            if let Some(other) = d.rules.iter().find(|r| **r != rules_of(&d.like.check)) {
                cx.error(format!("'type {}' : there are '{other}' rules above, which are not for it", w[1]));
            }
        }
        word => {
            let (word, read): (_, fn(&mut Cx<'_>, &mut Proxy, &[String])) =
                if word == "http-check" { ("http-check", check::http_check) } else { ("tcp-check", check::tcp_check) };
            if d.typed && rules_of(&d.like.check) != word {
                return cx.error(format!("'{word}' : it is not for a health check of this 'type'"));
            }
            d.rules.push(word);
            read(cx, &mut d.like, w);
        }
    }
}

/// The section ends: a check of its type, or a plain connection if it has none.
pub fn finish(cx: &mut Cx<'_>, mut d: Draft, model: &mut Model) {
    sections::finish(cx, &d.open);
    if !d.typed && !d.rules.is_empty() {
        let text = format!("healthcheck '{}' has rules and no 'type', so the rules are ignored", d.like.name);
        cx.report.warning(Code::Useless, &d.open.place, text);
        d.like.check_rules = Arc::default();
    }
    check::finish(cx, &mut d.like);
    let Proxy { name, check, script, .. } = d.like;
    model.healthchecks.push(Arc::new(HealthCheck { name, kind: check, script }));
}

/// Servers that name one get it; what is wrong is told of their lines.
pub fn adopt(cx: &mut Cx<'_>, all: &[Arc<HealthCheck>], p: &mut Proxy) {
    for i in 0..p.servers.len() {
        if let Some((code, text)) = adopt_one(all, p, i) {
            cx.report.error(code, &p.servers[i].place, text);
        }
    }
}

/// The same of one server; what is wrong.
pub fn adopt_one(all: &[Arc<HealthCheck>], p: &mut Proxy, i: usize) -> Option<(Code, String)> {
    let name = p.servers[i].healthcheck.clone()?;
    p.servers[i].own_check = all.iter().find(|h| h.name == name).cloned();
    let s: &Server = &p.servers[i];
    if s.own_check.is_some() {
        return check::lacks_port(p, s).map(|text| (Code::Value, text));
    }
    let near = suggestion(&name, all.iter().map(|h| h.name.as_str()));
    Some((
        Code::UnknownTarget,
        format!("'server {}/{}' : there is no section 'healthcheck {name}'{near}", p.name, s.name),
    ))
}
