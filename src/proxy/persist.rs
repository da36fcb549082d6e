//! Cookie persistence (configuration manual, `cookie`).
use super::outcome::Exchange;
use crate::config::model::{CookieMode, CookiePersist};
use crate::http::cookie;
use crate::rules::sample::{HeadSide, Traffic};
use crate::state::snapshot::{ProxyNode, ServerNode};
use std::borrow::Cow;

/// The server the request's cookie asks for; sets the log's third letter and takes an indirect cookie off. `assigned`: a rule has chosen one, and
/// the cookie is not looked at.
pub fn persistence(x: &mut Exchange<'_>, be: &ProxyNode, assigned: bool) -> Option<usize> {
    let rule = be.conf.persist_rules.iter().find(|r| r.0.holds(&*x)).map(|r| r.1);
    x.force_persist = rule == Some(true);
    x.ignore_persist = rule == Some(false);
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
            &value[..at]
        }
        (CookieMode::Prefix, None) => &value[..],
        _ => match dated(x, c, &value) {
            Ok(v) => v,
            Err(why) => {
                x.cookie[0] = why;
                return None;
            }
        },
    };
    if assigned || x.ignore_persist {
        // As if there were none, though the server does not see it.
        x.cookie[0] = b'U';
        return None;
    }
    let mut down = false;
    for (i, s) in be.servers.iter().enumerate() {
        // Nobody is bound to a server that has no cookie by an empty one.
        if value.is_empty() || cookie_of(be, s).is_none_or(|v| v.as_bytes() != value) {
            continue;
        }
        if s.live.reachable() || be.conf.options.persist || x.force_persist {
            x.cookie[0] = b'V';
            return Some(i);
        }
        // Another one may have the same cookie.
        down = true;
    }
    x.cookie[0] = if down { b'D' } else { b'I' };
    None
}

/// A cookie is good for a day more than its date says, for those whose clocks differ.
const FUTURE: u64 = 86_400;

/// A cookie's value without the dates behind it, which are kept for the answer; or the log's letter for one that is too old (`maxlife`, `maxidle`).
fn dated<'v>(x: &mut Exchange<'_>, c: &CookiePersist, value: &'v [u8]) -> Result<&'v [u8], u8> {
    let mut parts = value.splitn(3, |b| *b == b'|');
    let name = parts.next().unwrap_or_default();
    let mut date = || parts.next().and_then(seconds).unwrap_or(0);
    let (last, first) = (date(), date());
    if last == 0 && first == 0 {
        return Ok(name);
    }
    let now = unix_now();
    let over = |date: u64, most: Option<u64>| {
        date > 0 && most.is_some_and(|m| now.saturating_sub(date) > m || date.saturating_sub(now) > FUTURE)
    };
    if over(first, c.max_life) {
        return Err(b'O');
    }
    if over(last, c.max_idle) {
        return Err(b'E');
    }
    x.cookie_dates = [last, first];
    Ok(name)
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Dates of cookies count four seconds, in 30 bits, six in each of five letters.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn seconds(text: &[u8]) -> Option<u64> {
    let digit = |c: &u8| LETTERS.iter().position(|l| l == c).map(|n| n as u64);
    let n = text.get(..5)?.iter().try_fold(0, |n, c| Some(n << 6 | digit(c)?))?;
    Some(n << 2)
}

/// Rounded up: a date is never before its event.
fn letters(seconds: u64) -> String {
    let n = seconds.div_ceil(4);
    [24, 18, 12, 6, 0].map(|shift| char::from(LETTERS[(n >> shift & 63) as usize])).iter().collect()
}

/// A server's value: what its line says, or one made of its address (`dynamic`).
pub fn cookie_of<'s>(be: &ProxyNode, s: &'s ServerNode) -> Option<Cow<'s, str>> {
    if let Some(v) = &s.conf.cookie {
        return Some(Cow::Borrowed(v));
    }
    // The letters `0` to `f` of a number: short enough to be made for each request.
    be.live.cookies.of(&s.live, || super::upstream::address(s, None)).map(|n| Cow::Owned(format!("{n:016x}")))
}

/// What `cookie` does to an answer.
pub fn answer_cookie(x: &mut Exchange<'_>, be: &ProxyNode, c: &CookiePersist, server: &ServerNode) {
    match c.mode {
        CookieMode::Insert => insert_cookie(x, be, c, server),
        CookieMode::Passive | CookieMode::Rewrite | CookieMode::Prefix => {
            let (name, mut seen) = (c.name.as_bytes(), false);
            let ours = cookie_of(be, server);
            let (known, ours) = (ours.is_some(), ours.unwrap_or_default());
            let ours = ours.as_bytes();
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
fn insert_cookie(x: &mut Exchange<'_>, be: &ProxyNode, c: &CookiePersist, server: &ServerNode) {
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
    let known = x.cookie[0] == b'V' || x.by_rule;
    let [last, first] = x.cookie_dates;
    // Most cookies have no dates, and need no clock.
    let dated = c.max_idle.is_some() || c.max_life.is_some();
    let now = if dated || last > 0 { unix_now() } else { 0 };
    let refresh = (c.max_idle.is_some() || last > 0) && last < now || c.max_life.is_some() != (first > 0);
    if known && !refresh || c.postonly && x.req.method() != b"POST" || x.ignore_persist {
        return;
    }
    let ours = cookie_of(be, server);
    let mut text = match &ours {
        Some(v) => {
            let mut dates = String::new();
            if dated {
                dates = format!("|{}", letters(now));
            }
            if c.max_life.is_some() {
                dates += &format!("|{}", letters(if first > 0 { first } else { now }));
            }
            format!("{}={v}{dates}; path=/", c.name)
        }
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
    // The server stays, and only the date is another.
    x.cookie[1] = if known && ours.is_some() { b'U' } else { b'I' };
    let cacheable = x.res.get("expires").is_some()
        || x.res.get("cache-control").is_some_and(|v| v.windows(7).any(|w| w == b"max-age" || w == b"-maxage"));
    if c.nocache && cacheable {
        x.res.add("cache-control", b"private");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rounded_up_to_four_seconds() {
        for at in [0, 1, 4, 1_800_000_001] {
            let back = seconds(letters(at).as_bytes()).unwrap();
            assert!(back >= at && back < at + 4, "{at}: {back}");
        }
        assert_eq!((seconds(b"AAAB"), seconds(b"AA AB")), (None, None));
    }
}
