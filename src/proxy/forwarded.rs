//! What a server is told of the client and of the way to it: `X-Forwarded-For` and its like, and `Forwarded` (RFC 7239).
use super::outcome::Exchange;
use crate::base::addr::canonical;
use crate::config::model::{Forwarded, Told};
use crate::rules::sample::{HeadSide, Sample, Traffic};
use crate::state::snapshot::ProxyNode;
use std::net::{IpAddr, SocketAddr};

/// `option forwardfor`, `option originalto` and `option forwarded`.
pub fn tell(x: &mut Exchange<'_>, be: &ProxyNode) {
    if let Some(f) = &be.conf.options.forwarded {
        forwarded(x, f);
    }
    let says = |p: &ProxyNode| p.conf.options.forwardfor.is_some() || p.conf.options.originalto.is_some();
    if !says(be) && !says(&x.fe) {
        return;
    }
    let fe = x.fe.clone();
    let client = (x.src(), [&be.conf.options.forwardfor, &fe.conf.options.forwardfor]);
    let asked = (x.dst(), [&be.conf.options.originalto, &fe.conf.options.originalto]);
    for (addr, said) in [client, asked] {
        let Some(ip) = addr.map(|a| canonical(a.ip())) else { continue };
        let said = || said.iter().filter_map(|f| f.as_ref());
        // The backend's name for the header goes first; 'if-none' counts if both say it.
        let Some(first) = said().next() else { continue };
        let excepted = said().any(|f| f.except.is_some_and(|n| n.contains(ip)));
        if excepted || said().all(|f| f.if_none) && x.req.get(&first.header).is_some() {
            continue;
        }
        x.req.add(&first.header, ip.to_string().as_bytes());
    }
}

/// One element of the header: what is said of this hop, behind what others have said.
fn forwarded(x: &mut Exchange<'_>, f: &Forwarded) {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if f.proto {
        parts.push(if x.ssl_fc() { b"proto=https".to_vec() } else { b"proto=http".to_vec() });
    }
    match &f.host {
        None => {}
        Some(Told::Usual) => {
            let mut host = Vec::new();
            x.header("host", HeadSide::Request, &mut |h| {
                host.extend_from_slice(h);
                true
            });
            parts.push(host_part(&host));
        }
        Some(Told::Expr(e)) => parts.push(host_part(&e.eval(x).map(|v| v.text().into_owned()).unwrap_or_default())),
    }
    for (word, who, port, at) in [("by", &f.by, &f.by_port, x.dst()), ("for", &f.client, &f.client_port, x.src())] {
        if let Some(who) = who {
            parts.push(node(x, word, who, port.as_ref(), at));
        }
    }
    let element = parts.join(&b";"[..]);
    // Behind what the last one has said: nobody's words are lost.
    let lines = x.req.headers().filter(|(n, _)| *n == b"forwarded").count();
    if lines == 0 {
        return x.req.add("forwarded", &element);
    }
    let mut line = 0;
    x.req.edit("forwarded", |v| {
        line += 1;
        Some(if line == lines { [v, b",", &element].concat() } else { v.to_vec() })
    });
}

/// A host that is none (RFC 3986, 3.2.2) is left out.
fn host_part(host: &[u8]) -> Vec<u8> {
    let is_host = |c: &u8| c.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(c);
    let host = if host.iter().all(is_host) { host } else { b"" };
    [b"host=\"", host, b"\""].concat()
}

/// `by` or `for`: a node and its port (RFC 7239, 6).
fn node(x: &Exchange<'_>, word: &str, who: &Told, port: Option<&Told>, at: Option<SocketAddr>) -> Vec<u8> {
    const UNKNOWN: &[u8] = b"unknown";
    let ip = |ip: IpAddr| match canonical(ip) {
        IpAddr::V4(ip) => ip.to_string().into_bytes(),
        IpAddr::V6(ip) => format!("[{ip}]").into_bytes(),
    };
    let name = match who {
        Told::Usual => at.map(|a| ip(a.ip())),
        Told::Expr(e) => e.eval(x).and_then(|v| match v {
            Sample::Ip(a) => Some(ip(a)),
            other => {
                let text = other.text();
                let v4 = std::str::from_utf8(&text).is_ok_and(|t| t.parse::<std::net::Ipv4Addr>().is_ok());
                if v4 { Some(text.into_owned()) } else { obfuscated(&text) }
            }
        }),
    };
    let mut out = name.unwrap_or_else(|| UNKNOWN.to_vec());
    let said = port.and_then(|p| match p {
        Told::Usual => at.map(|a| a.port().to_string().into_bytes()),
        Told::Expr(e) => match e.eval(x)? {
            Sample::Int(n) => u16::try_from(n).ok().map(|n| n.to_string().into_bytes()),
            other => obfuscated(&other.text()),
        },
    });
    if let Some(p) = said {
        out.push(b':');
        out.extend(p);
    }
    // Colons and brackets are for quoted strings.
    if out.iter().any(|c| b":[]".contains(c)) {
        out.insert(0, b'"');
        out.push(b'"');
    }
    [word.as_bytes(), b"=", &out].concat()
}

/// An identifier that tells nothing (RFC 7239, 6.3): it begins with `_`. None if the text cannot be one.
fn obfuscated(text: &[u8]) -> Option<Vec<u8>> {
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b"._-".contains(c);
    if text.is_empty() || !text.iter().all(fits) {
        return None;
    }
    let bare = text.strip_prefix(b"_").unwrap_or(text);
    Some([b"_", bare].concat())
}
