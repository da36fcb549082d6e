//! `log-forward` sections (configuration manual 3.8): frontends that receive syslog messages and pass them on.
use super::{Cx, bind, log, sections};
use crate::base::diag::Severity;
use crate::base::units::TimeUnit;
use crate::config::model::{Forwarding, HostName, Kind, Mode, Proxy};

/// Connections of a section that says no `maxconn`.
const MAXCONN: u32 = 10;

pub fn new(cx: &Cx<'_>, name: &str) -> Proxy {
    let mut p = Proxy::new(cx.place.clone(), name, Kind::Frontend);
    p.mode = Mode::Syslog;
    p.maxconn = Some(MAXCONN);
    p.forwarding = Some(Box::default());
    p
}

pub fn line(cx: &mut Cx<'_>, p: &mut Proxy, s: &mut sections::Open, w: &[String]) {
    match w[0].as_str() {
        "bind" => return bind::parse(cx, p, w),
        "dgram-bind" => {
            let mut line = w.to_vec();
            if let Some(list) = line.get_mut(1) {
                let plain = |a: &str| {
                    ["udp@", "udp4@", "udp6@", "uxdg@"].iter().find_map(|f| a.strip_prefix(f)).unwrap_or(a).to_owned()
                };
                *list = list.split(',').map(plain).collect::<Vec<_>>().join(",");
            }
            return bind::parse(cx, p, &line);
        }
        "log" if cx.negated => {
            p.logs.clear();
            p.log_global = false;
            return;
        }
        "log" if w.get(1).is_some_and(|x| x == "global") => {
            cx.at_most(w, 2);
            p.log_global = true;
            return;
        }
        "log" => return p.logs.extend(log::parse(cx, w)),
        _ => {}
    }
    let before = cx.report.count(Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(Severity::Error) > before {
        return;
    }
    match (w[0].as_str(), w.get(1).map(String::as_str)) {
        ("maxconn", _) => p.maxconn = cx.number(w, 1, "a number of connections"),
        ("backlog", _) => p.backlog = cx.number(w, 1, "a number of connections"),
        ("timeout", _) => p.timeouts.client = cx.time(w, 2, TimeUnit::Millis),
        ("option", Some("assume-rfc6587-ntf")) => forwarding(p).lines = !cx.negated,
        ("option", Some("dont-parse-log")) => forwarding(p).unparsed = !cx.negated,
        ("option", Some("host")) => {
            forwarding(p).host = match w.get(2).map(String::as_str) {
                _ if cx.negated => HostName::Fill,
                Some("replace") => HostName::Replace,
                Some("keep") => HostName::Keep,
                Some("append") => HostName::Append,
                _ => HostName::Fill,
            }
        }
        _ => {}
    }
}

fn forwarding(p: &mut Proxy) -> &mut Forwarding {
    p.forwarding.get_or_insert_with(Box::default)
}
