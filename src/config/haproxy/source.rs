//! `source` (configuration manual 4.2 and 5.2): where connections to servers come from.
use super::Cx;
use crate::base::addr::{Host, split_host_port};
use crate::base::code::Code;
use crate::config::model::{Proxy, Source, UseSource};
use std::net::SocketAddr;

/// HAProxy counts occurrences of a header back no further.
const MOST_BACK: i32 = -10;

fn address(cx: &mut Cx<'_>, text: &str, range: bool) -> Option<(SocketAddr, Option<(u16, u16)>)> {
    let (host, port) = match split_host_port(text) {
        Ok(x) => x,
        Err(e) => {
            cx.error(format!("'source' : {e}"));
            return None;
        }
    };
    let ip = match host {
        Host::Ip(ip) => Some(ip),
        Host::Name(n) => cx.resolve(&n),
        Host::Unix(_) | Host::Abstract(_) => None,
    };
    let Some(ip) = ip else {
        cx.error_of(Code::Unresolved, format!("'source' : '{text}' is no address that connections could come from"));
        return None;
    };
    let (port, ports) = match port.filter(|p| !p.is_empty()) {
        None => (0, None),
        Some(p) => match p.split_once('-') {
            Some(_) if !range => {
                cx.error(format!("'source' : port range not permitted here in '{text}'"));
                return None;
            }
            Some((a, b)) => match (a.parse::<u16>(), b.parse::<u16>()) {
                (Ok(a), Ok(b)) if a > 0 && a <= b => (a, Some((a, b))),
                _ => {
                    cx.error_of(Code::Number, format!("'source' : invalid port range '{p}'"));
                    return None;
                }
            },
            None => match p.parse() {
                Ok(n) => (n, None),
                Err(_) => {
                    cx.error_of(Code::Number, format!("'source' : '{p}' is no port"));
                    return None;
                }
            },
        },
    };
    Some((SocketAddr::new(ip, port), ports))
}

/// `hdr_ip(name[,occurrence])`
fn header(cx: &mut Cx<'_>, text: &str) -> Option<UseSource> {
    let inner = text.strip_prefix("hdr_ip(")?.strip_suffix(')')?;
    let (name, n) = inner.split_once(',').unwrap_or((inner, "-1"));
    match n.trim().parse::<i32>() {
        Ok(n) if n >= MOST_BACK && n != 0 => Some(UseSource::Header(name.trim().to_ascii_lowercase(), n)),
        _ => {
            cx.error_of(
                Code::Number,
                format!("'usesrc hdr_ip(name,num)' does not support occurrence '{n}'; it counts from 1, or back from -1 to {MOST_BACK}"),
            );
            None
        }
    }
}

/// What stands behind `source`, from word `i`; with the index behind it.
pub fn parse(cx: &mut Cx<'_>, w: &[String], mut i: usize, range: bool) -> Option<(Source, usize)> {
    let text = cx.arg(w, i, "<addr>[:<port>[-<port>]]")?;
    let (addr, ports) = address(cx, text, range)?;
    let mut s = Source { addr, ports, usesrc: None, interface: None };
    i += 1;
    while let Some(word @ ("usesrc" | "interface")) = w.get(i).map(String::as_str) {
        let value = cx.arg(w, i + 1, "<addr>[:<port>], 'client', 'clientip', or an interface name")?;
        if word == "interface" {
            s.interface = Some(value.to_owned());
        } else {
            s.usesrc = Some(match value {
                "client" => UseSource::Client,
                "clientip" => UseSource::ClientIp,
                v if v.starts_with("hdr_ip(") => header(cx, v)?,
                v => UseSource::Addr(address(cx, v, false)?.0),
            });
        }
        i += 2;
    }
    Some((s, i))
}

/// The line of a section.
pub fn line(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some((s, used)) = parse(cx, w, 1, false) else { return };
    if let Some(extra) = w.get(used) {
        return cx.error_of(
            Code::Extra,
            format!("'source' only supports optional keywords 'interface' and 'usesrc', not '{extra}'"),
        );
    }
    p.source = Some(std::sync::Arc::new(s));
}
