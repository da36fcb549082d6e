//! Cookie persistence (configuration manual, `cookie`).
use super::outcome::Exchange;
use crate::config::model::CookiePersist;
use crate::http::cookie;
use crate::rules::sample::{HeadSide, Traffic};
use crate::state::snapshot::{ProxyNode, ServerNode};

/// The server the request's cookie asks for; sets the log's third letter and takes an indirect cookie off.
pub fn persistence(x: &mut Exchange<'_>, be: &ProxyNode) -> Option<usize> {
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
    if c.indirect {
        let name = c.name.as_bytes();
        x.req.edit("cookie", |line| cookie::without(line, name));
    }
    let found = be.servers.iter().position(|s| s.conf.cookie.as_ref().is_some_and(|v| v.as_bytes() == value));
    match found {
        None => {
            x.cookie[0] = b'I';
            None
        }
        Some(i) if be.servers[i].live.reachable() || be.conf.options.persist => {
            x.cookie[0] = b'V';
            Some(i)
        }
        Some(_) => {
            x.cookie[0] = b'D';
            None
        }
    }
}

/// `cookie ... insert`: tells the client which server it got, unless it knows.
pub fn insert_cookie(x: &mut Exchange<'_>, c: &CookiePersist, server: &ServerNode) {
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
    if x.cookie[0] == b'V' || c.postonly && x.req.method() != b"POST" {
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
