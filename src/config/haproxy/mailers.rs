//! `mailers` sections and `email-alert` (configuration manual 3.6 and 4.2).
use super::log::LEVELS;
use super::{Cx, sections};
use crate::base::addr::{Host, split_host_port};
use crate::base::code::Code;
use crate::base::diag::{Severity, suggestion};
use crate::base::units::TimeUnit;
use crate::config::model::{Mailers, Model, Proxy};
use std::net::SocketAddr;
use std::time::Duration;

pub fn new(name: &str) -> Mailers {
    Mailers { name: name.to_owned(), servers: Vec::new(), timeout: Duration::from_secs(10) }
}

/// What the lines of the section say; their shape was checked where every section's is.
pub fn line(cx: &mut Cx<'_>, m: &mut Mailers, s: &mut sections::Open, w: &[String]) {
    let before = cx.report.count(Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(Severity::Error) > before {
        return;
    }
    if w[0] == "timeout" {
        m.timeout = cx.time(w, 2, TimeUnit::Millis).unwrap_or(m.timeout);
        return;
    }
    let Some(addr) = cx.expand(&w[2]) else { return };
    let (ip, port) = match split_host_port(&addr) {
        Ok((Host::Ip(ip), Some(port))) => (Some(ip), port.parse::<u16>().ok()),
        Ok((Host::Name(n), Some(port))) => (cx.resolve(&n), port.parse().ok()),
        _ => (None, None),
    };
    match ip.zip(port) {
        Some((ip, port)) => m.servers.push(SocketAddr::new(ip, port)),
        None => cx.error_of(Code::Unresolved, format!("'mailer {}' : '{addr}' is no address that can be found", w[1])),
    }
}

/// `email-alert from|to|mailers|myhostname|level <value>`
pub fn email_alert(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let words = ["from", "to", "mailers", "myhostname", "level"];
    let Some(word) = cx.arg(w, 1, "'from', 'to', 'mailers', 'myhostname' or 'level'").map(str::to_owned) else {
        return;
    };
    if !words.contains(&word.as_str()) {
        let text = format!("'email-alert' : unknown keyword '{word}'{}", suggestion(&word, words));
        return cx.error_of(Code::UnknownWord, text);
    }
    let Some(value) = cx.arg(w, 2, "a value") else { return };
    cx.at_most(w, 3);
    let place = cx.place.clone();
    let e = &mut p.email;
    e.place = place;
    match word.as_str() {
        "from" => e.from = Some(value.to_owned()),
        "to" => e.to = Some(value.to_owned()),
        "mailers" => e.mailers = Some(value.to_owned()),
        "myhostname" => e.hostname = Some(value.to_owned()),
        _ => match LEVELS.iter().position(|l| *l == value).and_then(|l| u8::try_from(l).ok()) {
            Some(l) => e.level = l,
            None => cx.error(format!("unknown log level '{value}' after 'email-alert level'")),
        },
    }
}

/// The section ends: all that a mail takes has to be said.
pub fn alert(cx: &mut Cx<'_>, p: &Proxy) {
    let e = &p.email;
    let said = [&e.from, &e.to, &e.mailers];
    let any = e.hostname.is_some() || e.level != 1 || said.iter().any(|x| x.is_some());
    if any && said.iter().any(|x| x.is_none()) {
        let text = format!(
            "'email-alert' is ignored for {} '{}': 'email-alert from', 'email-alert to' and 'email-alert mailers' are all needed",
            p.kind.name(),
            p.name
        );
        cx.report.warning(Code::Useless, &e.place, text);
    }
}

/// The end of all files: every section of mailers that is named has to be there.
pub fn finish(cx: &mut Cx<'_>, model: &Model) {
    for p in &model.proxies {
        if let Some(name) = p.email.mailers.as_ref().filter(|n| !model.mailers.iter().any(|m| m.name == **n)) {
            let near = suggestion(name, model.mailers.iter().map(|m| m.name.as_str()));
            let text = format!("'{}' : unable to find mailers '{name}'{near}", p.name);
            cx.report.error(Code::UnknownTarget, &p.email.place, text);
        }
    }
}
