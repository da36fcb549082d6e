//! Carries out HTTP rules (configuration manual 4.3): verdicts, edits of heads, what sessions are told.
use super::Thread;
use super::caching;
use super::logging::Level;
use super::outcome::{Cause, Exchange};
use super::reply::{self, Message};
use crate::base::pace::Pace;
use crate::config::model::Slot;
use crate::http::h1::head::Head;
use crate::net::sockopt::Packets;
use crate::rules::acl;
use crate::rules::action::{self, HttpAction, Part, Service, Side, Timer, Value};
use crate::rules::logformat::LogFormat;
use crate::rules::sample::{HeadSide, Traffic, back_references, path_of, pathq_of, query_of};
use crate::state::counters::{Counter, Counters};
use crate::state::snapshot::ProxyNode;
use regex::bytes::Regex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The verdict of a list of request rules.
pub enum Verdict {
    Go,
    Answer(Message, Cause),
    Tarpit(Message),
    /// Leaves the client hanging.
    Drop,
    /// Closes without an answer.
    Close,
    /// A rewrite found no room.
    Failed(Cause),
    /// `wait-for-body`; the rules go on from this one.
    Wait {
        next: usize,
        time: Duration,
        at_least: usize,
    },
    /// `pause`; the rules go on from this one.
    Pause {
        next: usize,
        time: Duration,
    },
}

/// `pause`: none if there is nothing to wait for.
fn pause(x: &Exchange<'_>, time: &Value, next: usize) -> Option<Verdict> {
    let ms = number(x, time).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)?;
    Some(Verdict::Pause { next, time: Duration::from_millis(ms) })
}

/// Runs `http-request` rules from number `from` on.
pub fn request_rules(t: &Thread, x: &mut Exchange<'_>, node: &Arc<ProxyNode>, from: usize) -> Verdict {
    x.strict |= from == 0;
    for (i, rule) in node.conf.http_request.iter().enumerate().skip(from) {
        if !acl::holds(rule.cond.as_ref(), &*x) {
            continue;
        }
        match &rule.action {
            HttpAction::Allow => return Verdict::Go,
            HttpAction::Deny(r) => return Verdict::Answer(reply::from_rule(r, x), Cause::Denied),
            HttpAction::Return(r) => return Verdict::Answer(reply::from_rule(r, x), Cause::Local),
            HttpAction::Tarpit(r) => return Verdict::Tarpit(reply::from_rule(r, x)),
            HttpAction::Redirect(r) => {
                if let Some(m) = reply::redirect(r, x) {
                    return Verdict::Answer(m, Cause::Local);
                }
            }
            HttpAction::SilentDrop => return Verdict::Drop,
            HttpAction::Reject => return Verdict::Close,
            HttpAction::WaitForBody { time, at_least } => {
                return Verdict::Wait { next: i + 1, time: *time, at_least: *at_least };
            }
            HttpAction::Pause(v) => {
                if let Some(p) = pause(x, v, i + 1) {
                    return p;
                }
            }
            HttpAction::UseService(Service::PrometheusExporter) => {
                x.applet = Some("<PROMEX>");
                x.served_here(t);
                let query = String::from_utf8_lossy(query_of(x.req.target())).into_owned();
                return Verdict::Answer(Message::service(t.shared.services.prometheus(&query)), Cause::Local);
            }
            HttpAction::SetBandwidth { filter, limit, period } => set_pace(x, node, filter, [limit, period]),
            HttpAction::CacheUse(name, hinted) => caching::look(t, x, node, name, *hinted),
            HttpAction::EarlyHint(name, f) => {
                let next = node.conf.http_request.get(i + 1);
                let goes_on = next.is_some_and(|n| n.cond.is_none() && matches!(n.action, HttpAction::EarlyHint(..)));
                if !early_hint(x, name, f, goes_on) {
                    x.fe.live.front.inc(Counter::InternalErrors);
                    return Verdict::Failed(Cause::Internal);
                }
            }
            a => {
                if !change(t, x, a, HeadSide::Request) {
                    return Verdict::Failed(Cause::Denied);
                }
            }
        }
    }
    Verdict::Go
}

/// Runs response rules from number `from` on; an answer in place of the server's, or none at all, ends the exchange.
pub fn response_rules(t: &Thread, x: &mut Exchange<'_>, node: &Arc<ProxyNode>, from: usize) -> Verdict {
    x.strict |= from == 0;
    for (i, rule) in node.conf.http_response.iter().enumerate().skip(from) {
        if !acl::holds(rule.cond.as_ref(), &*x) {
            continue;
        }
        match &rule.action {
            HttpAction::Allow => return Verdict::Go,
            HttpAction::Deny(r) | HttpAction::Return(r) => {
                return Verdict::Answer(reply::from_rule(r, x), Cause::Denied);
            }
            HttpAction::Redirect(r) => {
                if let Some(m) = reply::redirect(r, x) {
                    return Verdict::Answer(m, Cause::Denied);
                }
            }
            HttpAction::SilentDrop => return Verdict::Drop,
            HttpAction::SetBandwidth { filter, limit, period } => set_pace(x, node, filter, [limit, period]),
            HttpAction::Pause(v) => {
                if let Some(p) = pause(x, v, i + 1) {
                    return p;
                }
            }
            HttpAction::CacheStore(name) => caching::store(t, x, node, name),
            HttpAction::WaitForBody { time, at_least } => {
                return Verdict::Wait { next: i + 1, time: *time, at_least: *at_least };
            }
            a => {
                if !change(t, x, a, HeadSide::Response) {
                    return Verdict::Failed(Cause::Denied);
                }
            }
        }
    }
    Verdict::Go
}

/// Runs `http-after-response` rules over the answer that goes out, the backend's first; false if a rewrite found no room.
pub fn after_response(t: &Thread, x: &mut Exchange<'_>) -> bool {
    for node in [Some(x.backend().clone()), Some(x.fe.clone()).filter(|fe| !Arc::ptr_eq(fe, x.backend()))] {
        x.strict = true;
        for rule in node.iter().flat_map(|n| &n.conf.http_after_response) {
            if acl::holds(rule.cond.as_ref(), &*x) {
                if matches!(rule.action, HttpAction::Allow) {
                    break;
                }
                if !change(t, x, &rule.action, HeadSide::Response) {
                    return false;
                }
            }
        }
    }
    true
}

/// True if answers of this exchange have to go through [`after_response`].
pub fn wants_after(x: &Exchange<'_>) -> bool {
    !(x.fe.conf.http_after_response.is_empty() && x.backend().conf.http_after_response.is_empty())
}

fn head<'x>(x: &'x mut Exchange<'_>, side: HeadSide) -> &'x mut Head {
    if side == HeadSide::Request { &mut x.req } else { &mut x.res }
}

/// Renders into the exchange's own buffer, so that nothing is allocated for each rule.
fn rendered(x: &mut Exchange<'_>, f: &LogFormat, then: impl FnOnce(&mut Exchange<'_>, &[u8])) {
    let mut v = std::mem::take(&mut x.scratch);
    v.clear();
    f.render(&*x, &mut v);
    then(x, &v);
    x.scratch = v;
}

fn number(x: &Exchange<'_>, v: &Value) -> Option<i64> {
    match v {
        Value::Number(n) => Some(*n),
        Value::Sample(e) => e.eval(x)?.int(),
    }
}

/// `\1` in a rendered text as the regex library has it.
fn replacement(text: &[u8]) -> String {
    back_references(&String::from_utf8_lossy(text))
}

/// Headers that say where a message ends: they are not for rules to change, or what follows would be taken for another message.
fn frames(name: &[u8]) -> bool {
    matches!(name, b"content-length" | b"transfer-encoding")
}

/// What a `tcp-request` rule does beside letting through.
pub fn effect(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, action: &HttpAction) {
    match action {
        HttpAction::SetBandwidth { filter, limit, period } => set_pace(x, node, filter, [limit, period]),
        a => edit(t, x, a, HeadSide::Request),
    }
}

/// Carries out a rule that changes a head or what is known of the exchange. False if the head has become too large for the buffer it shares with
/// the body (`tune.bufsize`) and the exchange has to end for it; without `strict-mode` the rule is as good as not there.
fn change(t: &Thread, x: &mut Exchange<'_>, action: &HttpAction, side: HeadSide) -> bool {
    let before = (!x.strict).then(|| head(x, side).clone());
    edit(t, x, action, side);
    let content = if x.buffered > 0 { x.buffered + 8 } else { 0 };
    let most = x.fe.bufsize.saturating_sub(content);
    let h = head(x, side);
    if h.weight_at_most() <= most || h.weight() <= most {
        return true;
    }
    for counters in sides(x, side) {
        counters.inc(Counter::FailedRewrites);
        if x.strict {
            counters.inc(Counter::InternalErrors);
        }
    }
    match before {
        Some(b) => *head(x, side) = b,
        None => return false,
    }
    true
}

/// Whose failure it is: the frontend's and the backend's, and of an answer the server's.
fn sides<'n>(x: &'n Exchange<'_>, side: HeadSide) -> impl Iterator<Item = &'n Counters> {
    let be = x.be.as_ref();
    let server = be.zip(x.server).filter(|_| side == HeadSide::Response).and_then(|(b, i)| b.servers.get(i));
    let back = be.map(|b| &b.live.back);
    [Some(&x.fe.live.front), back, server.map(|s| &s.live.counters)].into_iter().flatten()
}

/// Adds a header to an answer 103, which is begun if none is open, and ended unless another rule `goes_on` with it. False if it has no room.
fn early_hint(x: &mut Exchange<'_>, name: &str, f: &LogFormat, goes_on: bool) -> bool {
    if x.req.minor == 0 {
        return true;
    }
    rendered(x, f, |x, v| {
        let start = *x.early_open.get_or_insert(x.early.len());
        if start == x.early.len() {
            x.early.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        }
        let name = name.to_ascii_lowercase();
        if !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
            x.early.extend_from_slice(name.as_bytes());
            x.early.extend_from_slice(b": ");
            let at = x.early.len();
            x.early.extend_from_slice(v);
            crate::rules::logformat::header_safe(&mut x.early[at..]);
            x.early.extend_from_slice(b"\r\n");
        }
    });
    let Some(start) = x.early_open else { return true };
    if x.early.len() - start > x.fe.bufsize {
        x.early.truncate(start);
        x.early_open = None;
        return false;
    }
    if !goes_on {
        let mut whole = x.early.split_off(start);
        whole.extend_from_slice(b"\r\n");
        x.fe.adjust_answer(&mut whole);
        x.early.append(&mut whole);
        x.early_open = None;
    }
    true
}

fn edit(t: &Thread, x: &mut Exchange<'_>, action: &HttpAction, side: HeadSide) {
    match action {
        HttpAction::SetHeader(n, _)
        | HttpAction::AddHeader(n, _)
        | HttpAction::ReplaceHeader(n, ..)
        | HttpAction::ReplaceValue(n, ..)
            if frames(n.as_bytes()) => {}
        HttpAction::SetHeader(n, f) => rendered(x, f, |x, v| head(x, side).set(n, v)),
        HttpAction::AddHeader(n, f) => rendered(x, f, |x, v| head(x, side).add(n, v)),
        HttpAction::DelHeader(m) => drop(head(x, side).kill_if(|n| !frames(n) && m.matches(n))),
        HttpAction::ReplaceHeader(n, re, f) => rendered(x, f, |x, to| {
            let to = replacement(to);
            head(x, side).edit(n, |v| Some(replaced(v, re, &to).unwrap_or_else(|| v.to_vec())));
        }),
        HttpAction::ReplaceValue(n, re, f) => rendered(x, f, |x, to| {
            let to = replacement(to);
            head(x, side).edit(n, |v| Some(replaced_values(v, re, &to)));
        }),
        HttpAction::SetPath(f) => rendered(x, f, |x, v| set_part(x, Part::Path, v)),
        HttpAction::SetPart(part, f) => rendered(x, f, |x, v| set_part(x, *part, v)),
        HttpAction::ReplacePart(part, re, f) => rendered(x, f, |x, to| {
            let to = replacement(to);
            let url = x.req.target();
            let old = match part {
                Part::Path => path_of(url),
                Part::PathQuery => pathq_of(url),
                Part::Uri => Some(url),
            };
            if let Some(new) = old.and_then(|o| replaced(o, re, &to)) {
                set_part(x, *part, &new);
            }
        }),
        HttpAction::SetQuery(f) => rendered(x, f, |x, query| {
            let mut target = before_query(x.req.target()).to_vec();
            if !query.is_empty() {
                target.push(b'?');
                target.extend_from_slice(query.strip_prefix(b"?").unwrap_or(query));
            }
            x.req.set_target(&target);
        }),
        HttpAction::SetMethod(f) => rendered(x, f, |x, v| x.req.set_method(v)),
        HttpAction::SetVar(name, e) => {
            if let Some(v) = e.eval(&*x).map(|s| s.text().into_owned()) {
                x.set_var(name, v);
            }
        }
        HttpAction::SetVarFmt(name, f) => rendered(x, f, |x, v| x.set_var(name, v.to_vec())),
        HttpAction::SetLogLevel(level) => x.level = level.map_or(Level::Silent, Level::At),
        HttpAction::DoLog(step, profile) => x.log_now(t, *step, profile.as_deref()),
        HttpAction::UnsetVar(name) => x.vars.retain(|(n, _)| n != name),
        HttpAction::SetTimeout(timer, v) => {
            let Some(ms) = number(x, v).and_then(|n| u64::try_from(n).ok()) else { return };
            let d = (ms > 0).then(|| Duration::from_millis(ms));
            x.timeouts.get_or_insert_default().set(*timer, d);
        }
        HttpAction::SetStatus(status, reason) => {
            x.res.set_status(*status, reason.as_deref());
            x.status = (*status).into();
        }
        HttpAction::StrictMode(on) => x.strict = *on,
        HttpAction::DisableRetry => x.no_retry = true,
        HttpAction::SetRetries(v) => x.most_retries = number(x, v).and_then(|n| u64::try_from(n).ok()),
        HttpAction::SetPriority { offset, value } => {
            let Some(n) = value.eval(&*x).and_then(|v| v.int()) else { return };
            match offset {
                false => x.priority.0 = i16::try_from(n.clamp(-2_047, 2_047)).unwrap_or(0),
                true => x.priority.1 = i32::try_from(n.clamp(-524_287, 524_287)).unwrap_or(0),
            }
        }
        HttpAction::SetPackets { side, what, value } => set_packets(x, *side, *what, value),
        HttpAction::SetAddress { source, port, value } => set_address(x, *source, *port, value),
        HttpAction::Capture { slot, value } => {
            let Some(v) = value.eval(&*x).map(|s| s.text().into_owned()) else { return };
            let slots =
                if side == HeadSide::Request { &x.fe.conf.captures.request } else { &x.fe.conf.captures.response };
            // A backend may name a slot that this frontend has not.
            let Some(most) = slots.get(*slot).map(|s| s.len) else { return };
            keep(&mut x.captured[usize::from(side == HeadSide::Response)], *slot, &v, most);
        }
        _ => {}
    }
}

/// What becomes of a text that `re` matches anywhere: the whole of it is replaced by `to` with the groups of the match in it.
fn replaced(text: &[u8], re: &Regex, to: &str) -> Option<Vec<u8>> {
    let groups = re.captures(text)?;
    let mut out = Vec::with_capacity(to.len() + text.len());
    groups.expand(to.as_bytes(), &mut out);
    Some(out)
}

/// Each value of a comma-separated list on its own.
fn replaced_values(line: &[u8], re: &Regex, to: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    for (i, v) in line.split(|c| *c == b',').enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let inner = v.trim_ascii();
        let at = v.len() - v.trim_ascii_start().len();
        out.extend_from_slice(&v[..at]);
        match replaced(inner, re, to) {
            Some(new) => out.extend_from_slice(&new),
            None => out.extend_from_slice(inner),
        }
        out.extend_from_slice(&v[at + inner.len()..]);
    }
    out
}

fn before_query(url: &[u8]) -> &[u8] {
    &url[..url.iter().position(|c| *c == b'?').unwrap_or(url.len())]
}

fn set_part(x: &mut Exchange<'_>, part: Part, new: &[u8]) {
    let url = x.req.target();
    // The scheme and the authority of an absolute target stay; its path begins behind them.
    let start = match (part, pathq_of(url)) {
        (Part::Uri, _) => 0,
        (_, Some(p)) if url.ends_with(p) => url.len() - p.len(),
        (_, Some(_)) => url.len(),
        // `*` and the target of CONNECT have no path to be kept.
        (_, None) => 0,
    };
    let mut target = url[..start].to_vec();
    target.extend_from_slice(new);
    if part == Part::Path {
        target.extend_from_slice(&url[before_query(url).len()..]);
    }
    x.req.set_target(&target);
}

fn set_address(x: &mut Exchange<'_>, source: bool, port: bool, value: &crate::rules::sample::Expr) {
    let before = if source { x.src() } else { x.dst() };
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut addr = before.unwrap_or(unknown);
    let Some(v) = value.eval(&*x) else { return };
    if port {
        let Some(p) = v.int().and_then(|n| u16::try_from(n).ok()) else { return };
        addr.set_port(p);
    } else {
        let Some(ip) = v.ip() else { return };
        addr.set_ip(ip);
    }
    if source { x.src = Some(addr) } else { x.dst = Some(addr) }
}

fn set_packets(x: &mut Exchange<'_>, side: Side, what: action::Packets, value: &Value) {
    let Some(n) = number(x, value) else { return };
    let mut said = Packets::default();
    match what {
        // The low byte of whatever it is.
        action::Packets::Tos => said.tos = Some(n.to_le_bytes()[0]),
        action::Packets::Mark => said.mark = u32::try_from(n & i64::from(u32::MAX)).ok(),
    }
    match (side, x.client.fd) {
        (Side::Server, _) => {
            x.packets = Packets { tos: said.tos.or(x.packets.tos), mark: said.mark.or(x.packets.mark) };
        }
        // SAFETY: the exchange borrows its client, whose connection has the socket open.
        (Side::Client, Some(fd)) => said.set(unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }),
        (Side::Client, None) => {}
    }
}

/// `set-bandwidth-limit`: what is not said, or has no value, is as the filter has it.
fn set_pace(x: &mut Exchange<'_>, node: &ProxyNode, name: &str, said: [&Option<Value>; 2]) {
    let Some(b) = node.conf.bandwidth(name) else { return };
    let period = crate::base::units::millis(b.period);
    let [limit, period] = [(said[0], b.limit), (said[1], period)].map(|(v, default)| {
        let n = v.as_ref().and_then(|v| number(x, v)).and_then(|n| u64::try_from(n).ok());
        n.filter(|n| *n > 0).unwrap_or(default)
    });
    match &mut x.pace[usize::from(b.out)] {
        Some(p) => p.set(limit, period),
        none => *none = Some(Box::new(Pace::new(limit, period, b.min_size))),
    }
}

/// What `capture request header` and the like want of a head.
pub fn capture_headers(x: &mut Exchange<'_>, side: HeadSide) {
    let fe = x.fe.clone();
    let response = side == HeadSide::Response;
    let slots: &[Slot] = if response { &fe.conf.captures.response } else { &fe.conf.captures.request };
    let mut kept = std::mem::take(&mut x.captured[usize::from(response)]);
    for (i, s) in slots.iter().enumerate() {
        let Some(name) = &s.header else { continue };
        // The last one counts.
        let from = if response { &x.res } else { &x.req };
        let value = from.headers().filter(|(n, _)| *n == name.as_bytes()).last();
        if let Some((_, v)) = value {
            keep(&mut kept, i, v, s.len);
        }
    }
    x.captured[usize::from(response)] = kept;
}

/// What `capture cookie` wants of a head: once it is clear that a server is asked, or has answered.
pub fn capture_cookie(x: &mut Exchange<'_>, side: HeadSide) {
    if x.fe.conf.captures.cookie.is_none() {
        return;
    }
    let fe = x.fe.clone();
    let Some((name, most)) = &fe.conf.captures.cookie else { return };
    let response = side == HeadSide::Response;
    let header = if response { "set-cookie" } else { "cookie" };
    let most = (*most).min(fe.log_cookie_len);
    let mut found = Vec::new();
    x.header(header, side, &mut |line| {
        let pairs = line.split(|c| *c == b';').take(if response { 1 } else { usize::MAX }).map(<[u8]>::trim_ascii);
        for p in pairs.filter(|p| p.starts_with(name.as_bytes())) {
            found = p[..p.len().min(most)].to_vec();
        }
        false
    });
    x.captured_cookies[usize::from(response)] = found;
}

fn keep(slots: &mut Vec<Option<Vec<u8>>>, slot: usize, value: &[u8], most: usize) {
    if slots.len() <= slot {
        slots.resize(slot + 1, None);
    }
    slots[slot] = Some(value[..value.len().min(most)].to_vec());
}

/// Timeouts that rules of this exchange have set; each is none unless it was, and then what it was set to.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetTimeouts {
    pub client: Option<Option<Duration>>,
    pub server: Option<Option<Duration>>,
    pub tunnel: Option<Option<Duration>>,
    pub connect: Option<Option<Duration>>,
    pub queue: Option<Option<Duration>>,
    pub tarpit: Option<Option<Duration>>,
}

impl SetTimeouts {
    /// Another proxy takes over: what was set of the timers of its side is forgotten, as in HAProxy.
    pub fn change_backend(&mut self) {
        (self.server, self.tunnel, self.connect, self.queue) = (None, None, None, None);
    }

    pub fn get(&self, t: Timer) -> Option<Option<Duration>> {
        match t {
            Timer::Client => self.client,
            Timer::Server => self.server,
            Timer::Tunnel => self.tunnel,
            Timer::Connect => self.connect,
            Timer::Queue => self.queue,
            Timer::Tarpit => self.tarpit,
        }
    }

    fn set(&mut self, t: Timer, d: Option<Duration>) {
        *match t {
            Timer::Client => &mut self.client,
            Timer::Server => &mut self.server,
            Timer::Tunnel => &mut self.tunnel,
            Timer::Connect => &mut self.connect,
            Timer::Queue => &mut self.queue,
            Timer::Tarpit => &mut self.tarpit,
        } = Some(d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_list() {
        let re = Regex::new("^a(.*)$").unwrap();
        assert_eq!(replaced_values(b"ax, b ,ay", &re, "<${1}>"), b"<x>, b ,<y>");
    }

    #[test]
    fn what_matches_in_part_is_replaced_whole() {
        let re = Regex::new("b(.)").unwrap();
        assert_eq!(replaced(b"abcd", &re, "${1}!").as_deref(), Some(&b"c!"[..]));
        assert_eq!(replaced(b"xyz", &re, "${1}!"), None);
    }
}
