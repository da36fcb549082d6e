//! A client connection of a TCP frontend: one server, two directions, one task.
use super::Thread;
use super::filters;
use super::listener::Connection;
use super::outcome::{Cause, Exchange, Phase, Raw};
use super::stream::{Half, HalfError, ReadError, Stream};
use super::upstream::{self, AfterFailure, BackendSession, NoServer};
use super::wheel::FOREVER;
use crate::config::model::{Chosen, Mode};
use crate::http::h1::body::{Follower, Framing};
use crate::http::h1::head::Scan;
use crate::rules::acl;
use crate::rules::action::{Refusal, TcpAction};
use crate::rules::logformat::Step;
use crate::state::counters::Counter;
use crate::state::snapshot::ProxyNode;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// What a connection that rules let pass goes on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    AsItIs,
    /// As one of HTTP (`switch-mode http`).
    Http,
    /// Not at all (`close`).
    Closed,
}

/// The verdict of `tcp-request` rules.
pub fn allowed(
    t: &Thread,
    x: &mut Exchange<'_>,
    node: &ProxyNode,
    rules: &[crate::rules::action::Rule<TcpAction>],
) -> Result<Passed, Refusal> {
    for r in rules {
        if acl::holds(r.cond.as_ref(), &*x)
            && let Some(verdict) = decided(t, x, node, &r.action)
        {
            return verdict;
        }
    }
    Ok(Passed::AsItIs)
}

/// Does what a rule says; none if the next one follows.
fn decided(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, action: &TcpAction) -> Option<Result<Passed, Refusal>> {
    match action {
        TcpAction::Accept => Some(Ok(Passed::AsItIs)),
        TcpAction::SwitchMode => Some(Ok(Passed::Http)),
        TcpAction::Close => Some(Ok(Passed::Closed)),
        TcpAction::Reject => Some(Err(Refusal::Reject)),
        TcpAction::SilentDrop => Some(Err(Refusal::SilentDrop)),
        TcpAction::ExpectProxy | TcpAction::ExpectNetscaler => None,
        TcpAction::Effect(a) => {
            super::rewrite::effect(t, x, node, a);
            None
        }
    }
}

/// Runs `tcp-request content` rules, waiting up to `inspect-delay` for the bytes that they ask about.
async fn inspect(
    t: &Rc<Thread>,
    x: &mut Exchange<'_>,
    node: &Arc<ProxyNode>,
    stream: &mut Stream,
) -> Result<Passed, Refusal> {
    let looks = |c: &Option<acl::Cond>| c.as_ref().is_some_and(acl::Cond::wants_payload);
    let conf = &node.conf;
    let computed = |n: &Chosen| matches!(n, Chosen::Computed(f) if f.wants_payload());
    let rules = || conf.use_backend.iter().chain(&conf.use_server);
    let routed = rules().any(|(c, n, _)| looks(c) || computed(n));
    if !routed && !conf.tcp_content.iter().any(|r| looks(&r.cond)) {
        return allowed(t, x, node, &conf.tcp_content);
    }
    let timer = t.wheel.timer();
    timer.set(Some(conf.inspect_delay.unwrap_or_default()));
    x.peek_over = false;
    let limit = node.bufsize - node.maxrewrite;
    // Without a delay what is there already is looked at, once.
    let mut looked = conf.inspect_delay.is_some() && !conf.tcp_content.is_empty();
    // The rule that waits, and what was decided: no rule takes effect twice.
    let (mut from, mut done) = (0, None);
    let mut scan = Scan::default();
    loop {
        read_request(x, node, &mut scan);
        let mut verdict = Some(done.unwrap_or(Ok(Passed::AsItIs)));
        for (i, r) in conf.tcp_content.iter().enumerate().skip(from) {
            from = i;
            match r.cond.as_ref().map_or(Some(true), |c| c.holds_so_far(&*x)) {
                Some(false) => {}
                Some(true) => {
                    done = decided(t, x, node, &r.action);
                    if let Some(d) = done {
                        verdict = Some(d);
                        from = conf.tcp_content.len();
                        break;
                    }
                }
                None => {
                    verdict = None;
                    break;
                }
            }
            from = i + 1;
        }
        // Accepted, but where it goes may hang on bytes that are still on their way.
        let open = || {
            let so_far =
                |c: &Option<acl::Cond>, n: &Chosen| match (c.as_ref().map_or(Some(true), |c| c.holds_so_far(&*x)), n) {
                    (Some(true), Chosen::Computed(f)) if f.wants_payload() => {
                        let mut name = Vec::new();
                        f.render(&*x, &mut name);
                        (!name.is_empty()).then_some(true)
                    }
                    (held, _) => held,
                };
            rules().map(|(c, n, _)| so_far(c, n)).find(|h| *h != Some(false)) == Some(None)
        };
        match verdict {
            Some(Err(action)) => return Err(action),
            // Where it goes is for its requests to say.
            Some(Ok(other @ (Passed::Http | Passed::Closed))) => {
                x.peek_over = true;
                return Ok(other);
            }
            Some(Ok(Passed::AsItIs)) if x.peek_over || (looked && !open()) => {
                x.peek_over = true;
                return Ok(Passed::AsItIs);
            }
            _ => {}
        }
        let mut peeked = std::mem::take(&mut x.peeked);
        let read = t.read_more(stream, &mut peeked, &timer).await;
        x.peeked = peeked;
        match read {
            Ok(1..) => x.peek_over = x.peeked.len() >= limit,
            _ => x.peek_over = true,
        }
        looked = true;
    }
}

/// `tcp-response content` rules, as far as what has come in decides them; none if more has to come. `from`: the rule that waits.
fn respond(t: &Thread, x: &mut Exchange<'_>, be: &ProxyNode, from: &mut usize) -> Option<Result<Passed, Refusal>> {
    for (i, r) in be.conf.tcp_response.iter().enumerate().skip(*from) {
        *from = i;
        if r.cond.as_ref().map_or(Some(true), |c| c.holds_so_far(&*x))?
            && let Some(d) = decided(t, x, be, &r.action)
        {
            return Some(d);
        }
        *from = i + 1;
    }
    Some(Ok(Passed::AsItIs))
}

/// Rules of a stream of bytes may ask about a request: what has come in is read as one as soon as that can be said.
fn read_request(x: &mut Exchange<'_>, node: &ProxyNode, scan: &mut Scan) {
    if x.raw != Raw::Open {
        return;
    }
    let accept = node.accept(true);
    if scan.complete(&x.peeked) {
        if x.req.parse_request(&x.peeked, accept).is_err() {
            x.req.clear();
        }
        x.raw = Raw::Settled;
    } else if !x.peeked.is_empty() && x.req.is_hopeless(&x.peeked, accept) {
        x.raw = Raw::Settled;
    }
}

/// A stream of bytes that goes on as one of HTTP.
pub struct Upgrade {
    /// What has come in of it.
    pub bytes: Vec<u8>,
    /// The backend that the bytes were for, if that made them HTTP.
    pub be: Option<Arc<ProxyNode>>,
    pub unique: Vec<u8>,
    /// Both ends, as rules have set them, and what else they have set.
    pub ends: [Option<std::net::SocketAddr>; 2],
    pub priority: (i16, i32),
    pub packets: crate::net::sockopt::Packets,
    pub pace: [Option<Box<crate::base::pace::Pace>>; 2],
    pub most_retries: Option<u64>,
    pub level: super::logging::Level,
    pub captured: Vec<Option<Vec<u8>>>,
}

/// Serves a connection of bytes; or says that it is one of HTTP.
pub async fn run(t: &Rc<Thread>, c: &mut Connection) -> Option<Box<Upgrade>> {
    let (mut fe, Some(stream), client) = (c.fe.clone(), &mut c.stream, &c.client) else { return None };
    // A reload may have come during the handshake: backends are those of the configuration in force, which is held while they are looked up.
    let snapshot = t.snapshot();
    if let Some(now) = snapshot.frontend(&fe.conf.name) {
        fe = now.clone();
    }
    let mut x = Exchange::new(client, fe.clone(), t, true);
    x.got_request = Some(client.accepted);
    x.raw = Raw::Open;
    x.reached(t, Step::Accept);
    if let Some(f) = fe.conf.unique_id.clone() {
        x.make_unique(t, &f);
    }
    let mut verdict = inspect(t, &mut x, &fe, stream).await;
    if verdict == Ok(Passed::AsItIs) {
        x.be = fe.route(&x);
        // The rules of one that speaks HTTP are for requests.
        let bytes = |be: &Arc<ProxyNode>| be.conf.mode != Mode::Http && !Arc::ptr_eq(be, &fe);
        if let Some(be) = x.be.clone().filter(bytes) {
            verdict = inspect(t, &mut x, &be, stream).await;
        }
    }
    drop(snapshot);
    let becomes_http = x.be.as_ref().is_some_and(|be| be.conf.mode == Mode::Http) || verdict == Ok(Passed::Http);
    if verdict.is_ok() && becomes_http {
        let may = fe.listeners.get(client.listener as usize).is_none_or(|l| !l.conf.never_http);
        if may {
            let upgrade = Upgrade {
                bytes: std::mem::take(&mut x.peeked),
                be: x.be.take().filter(|be| be.conf.mode == Mode::Http),
                unique: std::mem::take(&mut x.unique),
                ends: [x.src, x.dst],
                priority: x.priority,
                packets: x.packets,
                pace: std::mem::take(&mut x.pace),
                most_retries: x.most_retries,
                level: x.level,
                captured: std::mem::take(&mut x.captured[0]),
            };
            fe.live.front.inc(Counter::Upgrades);
            // It is one stream: its variables go on.
            client.vars.set(Some(Box::new(std::mem::take(&mut x.vars))).filter(|v: &Box<_>| !v.is_empty()));
            x.recycle(t);
            return Some(Box::new(upgrade));
        }
        x.end(Cause::Denied, Phase::Request);
    } else if let Err(action) = verdict {
        fe.live.front.inc(Counter::DeniedRequests);
        x.end(Cause::Denied, Phase::Request);
        if action == Refusal::SilentDrop {
            stream.vanish();
        }
    } else if let Some(be) = x.be.clone() {
        let session = BackendSession::new(&*be);
        serve(t, &mut x, &be, stream).await;
        drop(session);
    } else {
        x.end(Cause::ServerAbort, Phase::Connect);
    }
    if x.cause == Cause::ServerAbort && x.connected.is_none() {
        // What the client has sent already would turn the close into a reset.
        let mut unread = t.take_buf();
        let pause = t.wheel.timer();
        pause.set(Some(std::time::Duration::ZERO));
        let _ = poll_fn(|cx| stream.poll_shutdown(cx)).await;
        while matches!(t.read_more(stream, &mut unread, &pause).await, Ok(1..)) {
            unread.clear();
        }
        t.give_buf(unread);
    }
    x.finish(t, true);
    x.recycle(t);
    None
}

async fn serve(t: &Rc<Thread>, x: &mut Exchange<'_>, be: &Arc<ProxyNode>, stream: &mut Stream) {
    let (ct, st) = (t.wheel.timer(), t.wheel.timer());
    let mut avoid = None;
    let mut bound =
        upstream::asked_for(x, be).or_else(|| upstream::by_rdp_cookie(x, be)).or_else(|| upstream::stuck(x, be));
    let (slot, mut up) = loop {
        t.fresh();
        let slot = match upstream::assign(t, x, &**be, bound, avoid, &st, |_| false).await {
            Ok(s) => s,
            // It was there when the client was asked where it had been.
            Err(NoServer::Down) if bound.is_some() && be.conf.virtual_server.is_some() => {
                bound = None;
                continue;
            }
            Err(e) => {
                match e {
                    NoServer::QueueTimeout => x.end(Cause::ServerTimeout, Phase::Queue),
                    NoServer::QueueFull | NoServer::ClientGone => x.end(Cause::ServerAbort, Phase::Queue),
                    NoServer::Down => x.end(Cause::ServerAbort, Phase::Connect),
                }
                return;
            }
        };
        let server = slot.server();
        x.server = Some(slot.index());
        match upstream::connect(t, x, be, server, be.conf.timeouts.connect, &st).await {
            Ok(s) => break (slot, s),
            Err(e) => match upstream::after_failure(x, be, &slot, false, &e) {
                AfterFailure::GiveUp => return,
                AfterFailure::Again { server, not, pause } => {
                    if server.is_none() {
                        x.assigned = None;
                    }
                    (bound, avoid) = (server, not);
                    drop(slot);
                    if let Some(pause) = pause {
                        st.set(Some(pause));
                        st.wait().await;
                    }
                }
            },
        }
    };
    let _stay = upstream::stay(x, be, slot.server());
    x.connected = Some(t.fresh());
    x.server_fd = up.raw_fd();
    if x.fe.tells_servers {
        (x.backend_src, x.server_addr) = (up.local_addr(), up.peer_addr());
    }
    let tunnel = be.conf.timeouts.tunnel;
    let client_timeout = tunnel.or(x.fe.conf.timeouts.client);
    let server_timeout = tunnel.or(be.conf.timeouts.server).or(Some(FOREVER));
    let (client_fin, server_fin) = (x.fe.conf.timeouts.client_fin, be.conf.timeouts.server_fin);
    ct.set(client_timeout);
    st.set(server_timeout);
    x.reached(t, Step::Connect);
    let mut request = Half::new(Follower::new(Framing::UntilClose));
    let peeked = std::mem::take(&mut x.peeked);
    request.preload(&peeked);
    request.bytes = peeked.len() as u64;
    t.give_buf(peeked);
    let mut response = Half::new(Follower::new(Framing::UntilClose));
    request.paced = filters::paced(t, x, 0);
    let (mut up_done, mut down_done) = (false, false);
    let (mut up_shut, mut down_shut) = (false, false);
    // What the server says is held back until rules have decided.
    let mut looking = !be.conf.tcp_response.is_empty();
    let (patience, mut from) = (t.wheel.timer(), 0);
    if !looking {
        response.paced = filters::paced(t, x, 1);
    }
    let mut refusal = None;
    x.answer_over = be.conf.response_delay.is_none();
    if looking {
        patience.set(be.conf.response_delay);
    }
    let ended = poll_fn(|cx| {
        let (mut a, mut b) = ([false; 2], [false; 2]);
        if !up_done {
            match request.poll(cx, stream, &mut up, t, &mut a) {
                Poll::Ready(Ok(())) => {
                    up_done = true;
                    ct.set(client_fin.or(client_timeout));
                }
                Poll::Ready(Err(HalfError::Sink)) => return Poll::Ready(Some(Cause::ServerAbort)),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Cause::ClientAbort)),
                Poll::Pending => {}
            }
        }
        if up_done && !up_shut {
            up_shut = up.poll_shutdown(cx).is_ready();
        }
        while looking {
            match respond(t, x, be, &mut from) {
                Some(Ok(Passed::Closed)) => return Poll::Ready(None),
                Some(Ok(_)) => {
                    looking = false;
                    response.paced = filters::paced(t, x, 1);
                    response.preload(&x.answered);
                    response.bytes = x.answered.len() as u64;
                    continue;
                }
                Some(Err(how)) => {
                    x.count_denied_response();
                    refusal = Some(how);
                    return Poll::Ready(Some(Cause::Denied));
                }
                None => {}
            }
            match t.poll_read_more(cx, &mut up, &mut x.answered, &patience) {
                Poll::Ready(Ok(1..)) => {
                    x.answer_over = x.answered.len() >= be.bufsize - be.maxrewrite;
                    st.set(server_timeout);
                }
                Poll::Ready(Err(ReadError::Io(_))) if x.answered.is_empty() => {
                    return Poll::Ready(Some(Cause::ServerAbort));
                }
                Poll::Ready(_) => x.answer_over = true,
                Poll::Pending => break,
            }
        }
        if !down_done && !looking {
            match response.poll(cx, &mut up, stream, t, &mut b) {
                Poll::Ready(Ok(())) => {
                    down_done = true;
                    st.set(server_fin.or(server_timeout));
                }
                Poll::Ready(Err(HalfError::Sink)) => return Poll::Ready(Some(Cause::ClientAbort)),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Cause::ServerAbort)),
                Poll::Pending => {}
            }
        }
        if down_done && !down_shut {
            down_shut = stream.poll_shutdown(cx).is_ready();
        }
        if up_done && down_done {
            return Poll::Ready(None);
        }
        if a[0] || b[1] && !x.fe.conf.options.independent {
            ct.set(if up_done { client_fin.or(client_timeout) } else { client_timeout });
        }
        if b[0] || a[1] && !be.conf.options.independent {
            st.set(if down_done { server_fin.or(server_timeout) } else { server_timeout });
        }
        if let Some(why) = slot.over() {
            return Poll::Ready(Some(why));
        }
        if ct.expired(cx) {
            return Poll::Ready(Some(Cause::ClientTimeout));
        }
        if st.expired(cx) {
            return Poll::Ready(Some(Cause::ServerTimeout));
        }
        Poll::Pending
    })
    .await;
    x.server_fd = None;
    x.bytes_in = request.bytes;
    x.bytes_out = response.bytes;
    if let Some(cause) = ended {
        x.end(cause, Phase::Data);
    }
    if !down_done {
        up.cut();
    }
    if refusal == Some(Refusal::SilentDrop) {
        stream.vanish();
    }
    drop(slot);
}
