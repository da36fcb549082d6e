//! Cookie persistence (configuration manual, `cookie`).
use super::outcome::Exchange;
use crate::config::model::{CookieMode, CookiePersist};
use crate::http::cookie;
use crate::rules::sample::{HeadSide, Traffic};
use crate::state::snapshot::{ProxyNode, ServerNode};

/// The server the request's cookie asks for; sets the log's third letter and takes an indirect cookie off.
pub fn persistence(x: &mut Exchange<'_>, be: &ProxyNode) -> Option<usize> {
    let rule = be.conf.persist_rules.iter().find(|r| r.0.holds(&*x)).map(|r| r.1);
    x.force_persist = rule == Some(true);
    let c = be.conf.cookie.as_ref()?;
    let mut value = None;
    x.header("cookie", HeadSide::Request, &mut |line| {
        value = cookie::pairs(line).find(|(n, _)| *n == c.name.as_bytes()).map(|(_, v)| v.to_vec());
        value.is_some()
    });
    x.cookie[1] = b'N';
    let Some(value) = value else {
        x.cookie[0] = b'N';
        return None;
    };
    let name = c.name.as_bytes();
    if c.indirect && c.mode == CookieMode::Insert {
        x.req.edit("cookie", |line| cookie::without(line, name));
    }
    let value = match (c.mode, value.iter().position(|b| *b == b'~')) {
        (CookieMode::Prefix, Some(at)) => {
            // The server never sees what was put before its value.
            x.req.edit("cookie", |line| Some(cookie::replaced(line, name, &value[at + 1..])));
            value[..at].to_vec()
        }
        _ => value,
    };
    if rule == Some(false) {
        // `ignore-persist`: as if there were none, though the server does not see it.
        return None;
    }
    let found = be.servers.iter().position(|s| s.conf.cookie.as_ref().is_some_and(|v| v.as_bytes() == value));
    match found {
        None => {
            x.cookie[0] = b'I';
            None
        }
        Some(i) if be.servers[i].live.reachable() || be.conf.options.persist || x.force_persist => {
            x.cookie[0] = b'V';
            Some(i)
        }
        Some(_) => {
            x.cookie[0] = b'D';
            None
        }
    }
}

/// What `cookie` does to an answer.
pub fn answer_cookie(x: &mut Exchange<'_>, c: &CookiePersist, server: &ServerNode) {
    match c.mode {
        CookieMode::Insert => insert_cookie(x, c, server),
        CookieMode::Passive | CookieMode::Rewrite | CookieMode::Prefix => {
            let (name, mut seen) = (c.name.as_bytes(), false);
            let ours = server.conf.cookie.as_deref().unwrap_or_default().as_bytes();
            let known = server.conf.cookie.is_some();
            x.res.edit("set-cookie", |line| {
                let (pair, rest) = line.split_at(line.iter().position(|b| *b == b';').unwrap_or(line.len()));
                let Some(value) = pair.strip_prefix(name).and_then(|v| v.strip_prefix(b"=")) else {
                    return Some(line.to_vec());
                };
                seen = true;
                Some(match c.mode {
                    _ if !known => line.to_vec(),
                    CookieMode::Rewrite => [name, b"=", ours, rest].concat(),
                    CookieMode::Prefix => [name, b"=", ours, b"~", value, rest].concat(),
                    _ => line.to_vec(),
                })
            });
            x.cookie[1] = match (seen, c.mode) {
                (false, _) => b'N',
                (true, CookieMode::Passive) => b'P',
                (true, _) => b'R',
            };
            if seen && c.nocache && c.mode != CookieMode::Passive {
                x.res.add("cache-control", b"private");
            }
        }
    }
}

/// `cookie ... insert`: tells the client which server it got, unless it knows.
fn insert_cookie(x: &mut Exchange<'_>, c: &CookiePersist, server: &ServerNode) {
    x.cookie[1] = b'N';
    let prefix = format!("{}=", c.name);
    let sets = x.res.headers().any(|(n, v)| n == b"set-cookie" && v.starts_with(prefix.as_bytes()));
    if sets && c.preserve {
        x.cookie[1] = b'P';
        return;
    }
    if sets {
        x.res.edit("set-cookie", |v| (!v.starts_with(prefix.as_bytes())).then(|| v.to_vec()));
    }
    if x.cookie[0] == b'V' || x.by_rule || c.postonly && x.req.method() != b"POST" {
        return;
    }
    let mut text = match &server.conf.cookie {
        Some(v) => format!("{}={v}; path=/", c.name),
        None => format!("{}=; Expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/", c.name),
    };
    for d in &c.domains {
        text.push_str("; domain=");
        text.push_str(d);
    }
    for (on, word) in [(c.httponly, "HttpOnly"), (c.secure, "Secure")] {
        if on {
            text.push_str("; ");
            text.push_str(word);
        }
    }
    for a in &c.attrs {
        text.push_str("; ");
        text.push_str(a);
    }
    x.res.add("set-cookie", text.as_bytes());
    x.cookie[1] = b'I';
    let cacheable = x.res.get("expires").is_some()
        || x.res.get("cache-control").is_some_and(|v| v.windows(7).any(|w| w == b"max-age" || w == b"-maxage"));
    if c.nocache && cacheable {
        x.res.add("cache-control", b"private");
    }
}
