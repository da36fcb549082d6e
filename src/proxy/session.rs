//! An HTTP/1 client connection: request after request until either side has enough.
use super::Thread;
use super::outcome::{Cause, ClientInfo, Exchange, Phase};
use super::persist;
use super::reply::Message;
use super::rewrite::{self, Verdict};
use super::stream::{Half, HalfError, ReadError, Stream, write_all};
use super::upstream::{self, AfterFailure, BackendSession, ConnectError, NoServer, Slot};
use super::wheel::{FOREVER, Timer};
use super::{ServiceReply, StatsRequest};
use crate::config::model::{ConnMode, Mode, Reuse};
use crate::http::h1::body::{Follower, Framing};
use crate::http::h1::head::{HeadError, Scan};
use crate::rules::acl;
use crate::rules::action::TcpAction;
use crate::rules::sample::{HeadSide, pathq_of};
use crate::state::counters::Counter;
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

/// What is to be done with the connection after an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Again,
    Close,
    /// Leave the client hanging: close without a word reaching it.
    Drop,
}

struct Session<'a> {
    t: &'a Rc<Thread>,
    client: &'a ClientInfo,
    stream: Stream,
    /// What was read and not used yet.
    inbuf: Vec<u8>,
    /// Client-side and server-side time-outs.
    ct: Timer,
    st: Timer,
    /// The last request's body was not read to its end.
    linger: bool,
    /// A connection to a server that is this client's alone: `http-reuse never`, or one that says who the client is.
    own: Option<(Own, Stream)>,
}

/// What a connection depends on besides the server's words: where it leads, and the client that it told of.
#[derive(PartialEq, Eq)]
struct Own {
    key: u64,
    to: Option<SocketAddr>,
    src: Option<SocketAddr>,
    dst: Option<SocketAddr>,
}

impl Own {
    fn of(x: &Exchange<'_>, server: &ServerNode) -> Self {
        Self { key: server.pool_key, to: upstream::address(server, x.dst), src: x.src, dst: x.dst }
    }
}

/// Serves one client connection of an HTTP frontend until it ends.
pub async fn run(t: &Rc<Thread>, mut fe: Arc<ProxyNode>, mut generation: u64, stream: Stream, client: &ClientInfo) {
    let mut s = Session {
        t,
        client,
        stream,
        inbuf: Vec::new(),
        ct: t.wheel.timer(),
        st: t.wheel.timer(),
        linger: false,
        own: None,
    };
    let mut first = true;
    loop {
        let snapshot = t.snapshot();
        if snapshot.generation != generation {
            // A kept connection is on the new configuration with its next request; if its frontend is gone, so is it.
            let Some(new) = snapshot.frontend(&fe.conf.name) else { break };
            (fe, generation) = (new.clone(), snapshot.generation);
        }
        let next = s.exchange(&fe, &snapshot, first).await;
        drop(snapshot);
        first = false;
        match next {
            Next::Again => {}
            Next::Close => break,
            Next::Drop => {
                s.stream.vanish();
                return;
            }
        }
    }
    // What the client still sends would turn the close into a reset that may overtake the answer: half-close, and read off what comes for a moment.
    s.ct.set(Some(LINGER));
    let closed = poll_fn(|cx| match s.stream.poll_shutdown(cx) {
        Poll::Pending if s.ct.expired(cx) => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
        Poll::Ready(r) => Poll::Ready(r.is_ok()),
    })
    .await;
    if closed && s.linger {
        let mut left = LINGER_BYTES;
        while left > 0 {
            s.inbuf.clear();
            match t.read_more(&mut s.stream, &mut s.inbuf, &s.ct).await {
                Ok(n @ 1..) => left = left.saturating_sub(n),
                _ => break,
            }
        }
    }
    t.give_buf(s.inbuf);
}

/// How long, and for how many bytes, a client that still sends is listened to after the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

impl Session<'_> {
    async fn exchange(&mut self, fe: &Arc<ProxyNode>, snapshot: &Snapshot, first: bool) -> Next {
        let mut x = Exchange::new(self.client, fe.clone(), self.t, first);
        let next = match self.receive(&mut x).await {
            Ok(used) => {
                // The wait may have been long: the request is served by the configuration in force now.
                let current = self.t.snapshot();
                let snapshot = if current.generation == snapshot.generation { snapshot } else { &current };
                if let Some(new) = snapshot.frontend(&fe.conf.name) {
                    x.fe = new.clone();
                }
                fe.live.front.inc(Counter::Requests);
                self.t.shared.live.total_requests.fetch_add(1, Relaxed);
                let r = self.serve(&mut x, snapshot, used).await;
                x.finish(self.t, false);
                r
            }
            Err(Some(log)) => {
                if log {
                    x.finish(self.t, false);
                }
                Next::Close
            }
            Err(None) => Next::Close,
        };
        x.recycle(self.t);
        if self.inbuf.is_empty() && self.inbuf.capacity() > 0 {
            self.t.give_buf(std::mem::take(&mut self.inbuf));
        }
        next
    }

    /// Reads one request head. `Err(Some(true))`: the connection ends and the session is logged.
    async fn receive(&mut self, x: &mut Exchange<'_>) -> Result<usize, Option<bool>> {
        let to = x.fe.conf.timeouts;
        let request_timeout = to.http_request.or(to.client);
        let idle = !x.first && self.inbuf.is_empty();
        self.ct.set(if idle { to.http_keep_alive.or(request_timeout) } else { request_timeout });
        self.ct.idle(idle);
        let mut scan = Scan::default();
        let mut begun = false;
        let mut armed = false;
        let limit = x.fe.bufsize - x.fe.maxrewrite;
        loop {
            let blank = if begun { 0 } else { self.inbuf.iter().take_while(|c| matches!(c, b'\r' | b'\n')).count() };
            if blank > 0 {
                self.inbuf.drain(..blank);
            }
            if !self.inbuf.is_empty() && !begun {
                begun = true;
                x.begun = true;
                (x.started, x.started_at) = (Instant::now(), SystemTime::now());
            }
            if begun && scan.complete(&self.inbuf) {
                break;
            }
            if begun && !crate::http::h1::head::may_begin(self.inbuf[0]) {
                return self.refuse(x, 400, Cause::Denied).await;
            }
            if self.inbuf.len() >= limit {
                return self.refuse(x, HeadError::TooLarge.status(), Cause::Denied).await;
            }
            match self.t.read_more(&mut self.stream, &mut self.inbuf, &self.ct).await {
                Ok(0) | Err(ReadError::Io(_)) if !begun && !x.first => return Err(None),
                Ok(0) | Err(ReadError::Io(_)) => {
                    x.status = 400;
                    x.end(Cause::ClientAbort, Phase::Request);
                    if begun || !x.fe.conf.options.dontlognull {
                        x.fe.live.front.inc(Counter::RequestErrors);
                    }
                    return if begun { self.refuse(x, 400, Cause::ClientAbort).await } else { Err(Some(true)) };
                }
                Ok(_) => {
                    if idle && !armed {
                        armed = true;
                        self.ct.set(request_timeout);
                        self.ct.idle(false);
                    }
                }
                Err(ReadError::Timeout) if !begun && (!x.first || x.fe.conf.options.ignore_probes) => return Err(None),
                Err(ReadError::Timeout) => return self.refuse(x, 408, Cause::ClientTimeout).await,
            }
        }
        self.ct.idle(false);
        self.ct.set(to.client);
        let used = match x.req.parse_request(&self.inbuf) {
            Ok(n) => n,
            Err(e) => {
                x.req.clear();
                return self.refuse(x, e.status(), Cause::Denied).await;
            }
        };
        if used > limit {
            // However it came in: a head has to leave room for what rules add.
            x.req.clear();
            return self.refuse(x, HeadError::TooLarge.status(), Cause::Denied).await;
        }
        // Chunking that is broken already is a bad request, and no server's business.
        if x.req.framing == Framing::Chunked && Follower::new(Framing::Chunked).feed(&self.inbuf[used..]).is_err() {
            x.req.clear();
            return self.refuse(x, 400, Cause::Denied).await;
        }
        x.got_request = Some(Instant::now());
        x.bytes_in = x.req.accounted();
        // As it came: for logs, and for rules that ask what it was.
        let mut line = self.t.take_buf();
        x.req.write_request_line(&mut line);
        x.request_line = line;
        Ok(used)
    }

    /// Answers something that is no request, and ends.
    async fn refuse<T>(&mut self, x: &mut Exchange<'_>, status: u16, cause: Cause) -> Result<T, Option<bool>> {
        x.status = status.into();
        x.end(cause, Phase::Request);
        x.fe.live.front.inc(Counter::RequestErrors);
        let m = Message::raw(status, &x.fe.page(status));
        let mut out = self.t.take_buf();
        m.write(Some("close"), false, true, &mut out);
        self.ct.set(x.fe.conf.timeouts.client);
        let _ = write_all(&mut self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        Err(Some(true))
    }

    async fn serve(&mut self, x: &mut Exchange<'_>, snapshot: &Snapshot, used: usize) -> Next {
        let fe = x.fe.clone();
        let mut body = Follower::new(x.req.framing);
        let monitored = |u: &String| match u.starts_with('/') {
            // Whatever form the target has.
            true => pathq_of(x.req.target()) == Some(u.as_bytes()),
            false => u.as_bytes() == x.req.target(),
        };
        if fe.conf.monitor_uri.as_ref().is_some_and(monitored) {
            let fail = fe.conf.monitor_fail.iter().any(|c| c.holds(&*x));
            let status = if fail { 503 } else { 200 };
            let m = Message::raw(status, &fe.page(status));
            return self.answer(x, m, Cause::Local, used, &mut body).await;
        }
        if !fe.conf.captures.request.is_empty() || fe.conf.captures.cookie.is_some() {
            rewrite::capture_headers(x, HeadSide::Request);
        }
        if let Some(f) = fe.conf.unique_id.clone() {
            x.make_unique(self.t, &f);
        }
        let buffered = |p: &ProxyNode| p.conf.options.buffer_request;
        // The frontend's rules, then those of the backend they lead to.
        for back in [false, true] {
            let mut node = fe.clone();
            if back {
                x.be = route(x, &fe);
                match &x.be {
                    Some(be) if !Arc::ptr_eq(be, &fe) => node = be.clone(),
                    _ => break,
                }
            }
            if buffered(&node) && !(back && buffered(&fe)) {
                let to = fe.conf.timeouts;
                if let Err(status) = self.wait_for_body(x, used, to.http_request.or(to.client), 0).await {
                    x.end(if status == 408 { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Request);
                    x.req.keep_alive = false;
                    return self.fail(x, status, used, &mut body).await;
                }
            }
            if let Err(action) = super::tcp::allowed(x, &node.conf.tcp_content) {
                fe.live.front.inc(Counter::DeniedRequests);
                x.end(Cause::Denied, Phase::Request);
                if action == TcpAction::SilentDrop {
                    return Next::Drop;
                }
                return Next::Close;
            }
            let mut verdict = rewrite::request_rules(self.t, x, &node, 0);
            while let Verdict::Wait { next, time, at_least } = verdict {
                if let Err(status) = self.wait_for_body(x, used, Some(time), at_least).await {
                    x.end(if status == 408 { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Request);
                    x.req.keep_alive = false;
                    return self.fail(x, status, used, &mut body).await;
                }
                verdict = rewrite::request_rules(self.t, x, &node, next);
            }
            match verdict {
                Verdict::Go | Verdict::Wait { .. } => {}
                Verdict::Close => {
                    fe.live.front.inc(Counter::DeniedRequests);
                    x.end(Cause::Denied, Phase::Request);
                    return Next::Close;
                }
                Verdict::Answer(m, cause) => {
                    let counter = if cause == Cause::Denied { Counter::DeniedRequests } else { Counter::Intercepted };
                    fe.live.front.inc(counter);
                    return self.answer(x, m, cause, used, &mut body).await;
                }
                Verdict::Tarpit(m) => return self.tarpit(x, m, used, &mut body).await,
                Verdict::Drop => {
                    x.end(Cause::Denied, Phase::Request);
                    return Next::Drop;
                }
            }
            if node.conf.stats.enabled && stats_hit(&node, x) {
                fe.live.front.inc(Counter::Intercepted);
                return self.stats(x, snapshot, &node, used, &mut body).await;
            }
        }
        let Some(be) = x.be.clone() else {
            x.end(Cause::ServerAbort, Phase::Connect);
            return self.fail(x, 503, used, &mut body).await;
        };
        self.forward(x, be, used, body).await
    }

    /// Waits until the body is whole, has `at_least` bytes (0: all), or the buffer is full. The status to answer if that fails.
    async fn wait_for_body(
        &mut self,
        x: &mut Exchange<'_>,
        used: usize,
        time: Option<Duration>,
        at_least: usize,
    ) -> Result<(), u16> {
        let limit = x.fe.bufsize - x.fe.maxrewrite;
        let timer = self.t.wheel.timer();
        timer.set(time);
        let mut f = Follower::new(x.req.framing);
        let mut at = used;
        if x.req.expect_continue && !f.done() && self.inbuf.len() == used {
            write_all(&mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n", &timer).await.map_err(|_| 400u16)?;
            x.req.kill("expect");
        }
        loop {
            at += f.feed(&self.inbuf[at..]).map_err(|_| 400u16)?;
            let enough = at_least > 0 && f.payload() >= at_least as u64;
            if f.done() || enough || self.inbuf.len() >= limit {
                return Ok(());
            }
            match self.t.read_more(&mut self.stream, &mut self.inbuf, &timer).await {
                Ok(1..) => {}
                Err(ReadError::Timeout) => return Err(408),
                Ok(0) | Err(ReadError::Io(_)) => return Err(400),
            }
        }
    }

    /// Writes an answer of our own. A request body that is on its way is read off, so that the connection can go on.
    async fn answer(
        &mut self,
        x: &mut Exchange<'_>,
        m: Message,
        cause: Cause,
        used: usize,
        body: &mut Follower,
    ) -> Next {
        x.end(cause, if cause == Cause::Normal { Phase::Done } else { Phase::Request });
        self.respond(x, m, used, body).await
    }

    async fn respond(&mut self, x: &mut Exchange<'_>, mut m: Message, used: usize, body: &mut Follower) -> Next {
        if !m.is_empty() && rewrite::wants_after(x) && m.to_head(&mut x.res) {
            x.status = m.status.into();
            rewrite::after_response(x);
            m.take_head(&x.res);
        }
        x.status = m.status.into();
        x.bytes_out = if x.req.method() == b"HEAD" { m.accounted_head } else { m.accounted };
        let drained = self.take_body(used, body);
        self.linger |= !drained;
        let keep = x.req.keep_alive && !m.must_close && drained && !self.closing(x) && x.cause != Cause::ClientAbort;
        let connection = match (keep, x.req.minor) {
            (false, _) => Some("close"),
            (true, 0) => Some("keep-alive"),
            _ => None,
        };
        if m.is_empty() {
            return Next::Close;
        }
        let mut out = self.t.take_buf();
        m.write(connection, x.req.method() == b"HEAD", false, &mut out);
        self.ct.set(x.fe.conf.timeouts.client);
        let r = write_all(&mut self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        if keep && r.is_ok() { Next::Again } else { Next::Close }
    }

    /// True if the frontend's mode or the worker's end closes connections after each answer.
    fn closing(&self, x: &Exchange<'_>) -> bool {
        x.fe.conf.options.conn_mode == ConnMode::Close || *self.t.shared.draining.borrow()
    }

    /// Takes the head and what is there of the body off the input. True if the body is whole.
    fn take_body(&mut self, used: usize, body: &mut Follower) -> bool {
        let n = body.feed(&self.inbuf[used..]).unwrap_or(0);
        self.inbuf.drain(..used + n);
        body.done()
    }

    /// An error of the exchange: the page of its status, with the termination already set.
    async fn fail(&mut self, x: &mut Exchange<'_>, status: u16, used: usize, body: &mut Follower) -> Next {
        let m = match x.backend().conf.error_replies.get(&status).cloned() {
            Some(r) => super::reply::from_rule(&r, x),
            None => Message::raw(status, &x.backend().page(status)),
        };
        self.respond(x, m, used, body).await
    }

    async fn tarpit(&mut self, x: &mut Exchange<'_>, m: Message, used: usize, body: &mut Follower) -> Next {
        x.fe.live.front.inc(Counter::DeniedRequests);
        let wait = x
            .backend()
            .conf
            .timeouts
            .tarpit
            .or(x.fe.conf.timeouts.tarpit)
            .or(x.fe.conf.timeouts.connect)
            .unwrap_or(Duration::ZERO);
        self.st.set(set_timeout(x, |s| s.tarpit, Some(wait)).or(Some(Duration::ZERO)));
        x.tarpit = true;
        self.st.wait().await;
        x.end(Cause::Denied, Phase::Tarpit);
        x.req.keep_alive = false;
        self.respond(x, m, used, body).await
    }

    async fn stats(
        &mut self,
        x: &mut Exchange<'_>,
        snapshot: &Snapshot,
        node: &Arc<ProxyNode>,
        used: usize,
        body: &mut Follower,
    ) -> Next {
        // A POST of the administration form is small; it is read whole.
        const MAX_FORM: usize = 16 * 1024;
        self.ct.set(x.fe.conf.timeouts.client);
        let mut form = Vec::new();
        if x.req.method() == b"POST" {
            let mut whole = Follower::new(x.req.framing);
            let mut at = used;
            while let Ok(n) = whole.feed(&self.inbuf[at..]) {
                form.extend_from_slice(&self.inbuf[at..at + n]);
                at += n;
                if whole.done()
                    || form.len() > MAX_FORM
                    || !matches!(self.t.read_more(&mut self.stream, &mut self.inbuf, &self.ct).await, Ok(1..))
                {
                    break;
                }
            }
        }
        let admin = node.conf.stats.admin.iter().any(|c| acl::holds(c.as_ref(), &*x));
        let reply: ServiceReply = self.t.shared.services.stats(&StatsRequest {
            snapshot,
            proxy: &node.conf.name,
            method: x.req.method(),
            target: x.req.target(),
            authorization: x.req.get("authorization"),
            admin,
            body: &form,
        });
        let cause = Cause::Local;
        x.applet = Some("<STATS>");
        x.served_here();
        self.answer(x, Message::service(reply), cause, used, body).await
    }

    /// The whole way to a server and back.
    async fn forward(&mut self, x: &mut Exchange<'_>, be: Arc<ProxyNode>, used: usize, mut body: Follower) -> Next {
        let session = BackendSession::new(&be);
        be.live.back.inc(Counter::Requests);
        let by_cookie = persist::persistence(x, &be);
        let mut bound = upstream::asked_for(x, &be).or(by_cookie);
        rewrite::forwarded(x, &be);
        if let Some(h) = x.fe.conf.unique_id_header.clone().filter(|_| !x.unique.is_empty()) {
            let id = std::mem::take(&mut x.unique);
            x.req.set(&h, &id);
            x.unique = id;
        }
        let mut avoid = None;
        let mut fresh = false;
        loop {
            let slot = match self.assign(x, &be, bound, avoid).await {
                Ok(s) => s,
                Err(e) => {
                    drop(session);
                    return self.no_server(x, e, used, &mut body).await;
                }
            };
            x.assigned.get_or_insert_with(Instant::now);
            let server = slot.server();
            x.server = be.servers.iter().position(|s| std::ptr::eq(s, server));
            match self.attempt(x, &be, &slot, used, body, fresh).await {
                Attempt::Done(next) => {
                    drop(slot);
                    drop(session);
                    return next;
                }
                // A pooled connection had died: once more on one of its own; this is no retry that counts.
                Attempt::Stale => fresh = true,
                Attempt::Failed(status) => {
                    drop(slot);
                    drop(session);
                    // The request is off the input already.
                    return self.fail(x, status, 0, &mut Follower::new(Framing::None)).await;
                }
                Attempt::NoConnection(e) => {
                    let by_cookie = bound.is_some() && x.cookie[0] == b'V';
                    match upstream::after_failure(x, &be, &slot, by_cookie, &e) {
                        AfterFailure::GiveUp => {
                            drop(slot);
                            drop(session);
                            return self.fail(x, 503, used, &mut body).await;
                        }
                        AfterFailure::Again { server, not, pause } => {
                            if server.is_none() {
                                x.assigned = None;
                                if x.cookie[0] == b'V' {
                                    x.cookie[0] = b'D';
                                }
                            }
                            (bound, avoid) = (server, not);
                            drop(slot);
                            if let Some(pause) = pause {
                                self.st.set(Some(pause));
                                self.st.wait().await;
                            }
                        }
                    }
                }
            }
        }
    }

    async fn assign(
        &mut self,
        x: &mut Exchange<'_>,
        be: &Arc<ProxyNode>,
        bound: Option<usize>,
        avoid: Option<usize>,
    ) -> Result<Slot, NoServer> {
        let stream = &mut self.stream;
        // A client that has gone need not wait for a server; with `abortonclose` only, since it may have half-closed on purpose.
        let abort = be.conf.options.abortonclose || x.fe.conf.options.abortonclose;
        upstream::assign(x, be, bound, avoid, &self.st, |cx| abort && client_left(stream, cx)).await
    }

    async fn no_server(&mut self, x: &mut Exchange<'_>, e: NoServer, used: usize, body: &mut Follower) -> Next {
        match e {
            NoServer::Down => x.end(Cause::ServerAbort, Phase::Connect),
            NoServer::QueueTimeout => {
                x.backend().live.back.inc(Counter::ConnectErrors);
                x.end(Cause::ServerTimeout, Phase::Queue);
            }
            NoServer::QueueFull => x.end(Cause::ServerAbort, Phase::Queue),
            NoServer::ClientGone => {
                x.end(Cause::ClientAbort, Phase::Queue);
                return Next::Close;
            }
        }
        self.fail(x, 503, used, body).await
    }

    /// One try on one server.
    async fn attempt(
        &mut self,
        x: &mut Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Slot,
        used: usize,
        mut body: Follower,
        fresh: bool,
    ) -> Attempt {
        let server = slot.server();
        let mode = mode_of(x, be);
        let pooled = if mode == ConnMode::KeepAlive && !fresh {
            if shared(be, server) { self.t.pool_take(server) } else { self.take_own(x, server) }
        } else {
            None
        };
        let reused = pooled.is_some();
        let mut up = match pooled {
            Some(s) => {
                server.live.counters.inc(Counter::Reuses);
                be.live.back.inc(Counter::Reuses);
                s
            }
            None => match upstream::connect(
                x,
                be,
                server,
                set_timeout(x, |s| s.connect, be.conf.timeouts.connect),
                &self.st,
            )
            .await
            {
                Ok(s) => s,
                Err(e) => return Attempt::NoConnection(e),
            },
        };
        x.connected = Some(Instant::now());
        if !x.fe.logs.is_empty() {
            (x.backend_src, x.server_addr) = (up.local_addr(), up.peer_addr());
        }
        // Head and what is there of the body leave together.
        let mut out = self.t.take_buf();
        let connection = match (x.req.minor, mode) {
            (1, ConnMode::KeepAlive) => None,
            (1, _) => Some("close"),
            (_, ConnMode::KeepAlive) => Some("keep-alive"),
            _ => None,
        };
        x.req.write_request(connection, &mut out);
        let Ok(n) = body.feed(&self.inbuf[used..]) else {
            x.end(Cause::Denied, Phase::Request);
            x.req.keep_alive = false;
            self.inbuf.clear();
            return Attempt::Failed(400);
        };
        out.extend_from_slice(&self.inbuf[used..used + n]);
        self.st.set(server_timeout(x, be));
        let sent = write_all(&mut up, &out, &self.st).await;
        self.t.give_buf(out);
        let replayable = body.done();
        if sent.is_err() && reused && replayable {
            return Attempt::Stale;
        }
        let mut upload = Half::new(body);
        upload.failed = sent.is_err();
        let mut resbuf = Vec::new();
        let head = self.await_response(x, slot, be, &mut up, &mut upload, &mut resbuf).await;
        let res_used = match head {
            Ok(n) => n,
            Err(e) => {
                let idempotent =
                    matches!(x.req.method(), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE");
                if matches!(e, NoResponse::Closed) && reused && replayable && resbuf.is_empty() && idempotent {
                    return Attempt::Stale;
                }
                let whole = upload.complete();
                self.consume(used, n, &mut upload);
                return no_response(x, be, server, &e, whole);
            }
        };
        self.consume(used, n, &mut upload);
        x.bytes_in = x.bytes_in.max(1) + upload.follower.payload();
        x.responded = Some(Instant::now());
        let next = self.relay_response(x, be, slot, mode, up, upload, resbuf, res_used).await;
        Attempt::Done(next)
    }

    /// This client's own connection, if it leads to this server and still lives.
    fn take_own(&mut self, x: &Exchange<'_>, server: &ServerNode) -> Option<Stream> {
        self.own.take().filter(|(own, s)| *own == Own::of(x, server) && s.is_quiet()).map(|(_, s)| s)
    }

    /// Takes the request off the input: its head, the body part that was there, and puts what came behind the body back.
    fn consume(&mut self, used: usize, n: usize, upload: &mut Half) {
        self.inbuf.drain(..used + n);
        self.inbuf.append(&mut upload.rest);
    }

    /// Sends the rest of the request while waiting for the head of the final response; passes 1xx on.
    async fn await_response(
        &mut self,
        x: &mut Exchange<'_>,
        slot: &Slot,
        be: &Arc<ProxyNode>,
        up: &mut Stream,
        upload: &mut Half,
        resbuf: &mut Vec<u8>,
    ) -> Result<usize, NoResponse> {
        let mut scan = Scan::default();
        // While an answer is waited for it is the server's timer that counts, as in HAProxy, even if the client is slow to send the rest.
        let mut sending = !(upload.complete() || upload.failed);
        self.ct.set(None);
        loop {
            if !resbuf.is_empty() && scan.complete(resbuf) {
                let n = x.res.parse_response(resbuf, x.req.method()).map_err(|_| NoResponse::Garbage)?;
                // A switch of protocols that nobody asked for would let the server speak for the next answers.
                if n > x.fe.bufsize || x.res.status == 101 && !x.req.upgrade {
                    return Err(NoResponse::Garbage);
                }
                if x.res.status / 100 == 1 && x.res.status != 101 {
                    let mut out = self.t.take_buf();
                    x.res.write_response(None, &mut out);
                    self.ct.set(x.fe.conf.timeouts.client);
                    write_all(&mut self.stream, &out, &self.ct).await.map_err(|_| NoResponse::ClientGone)?;
                    self.t.give_buf(out);
                    resbuf.drain(..n);
                    scan = Scan::default();
                    continue;
                }
                return Ok(n);
            }
            if resbuf.len() >= x.fe.bufsize {
                return Err(NoResponse::Garbage);
            }
            let (t, stream, st) = (self.t, &mut self.stream, &self.st);
            let server_timeout = server_timeout(x, be);
            let abort = be.conf.options.abortonclose || x.fe.conf.options.abortonclose;
            let read = poll_fn(|cx| {
                if sending {
                    let mut moved = [false; 2];
                    match upload.poll(cx, stream, up, t, &mut moved) {
                        Poll::Ready(Ok(())) | Poll::Ready(Err(HalfError::Sink)) => {
                            // A server may answer before it has read everything, and may then not take the rest.
                            sending = false;
                            st.set(server_timeout);
                        }
                        Poll::Ready(Err(HalfError::Source)) => return Poll::Ready(Err(NoResponse::ClientLeft)),
                        Poll::Ready(Err(HalfError::BadChunk)) => return Poll::Ready(Err(NoResponse::BadRequest)),
                        Poll::Pending => {
                            if moved[1] {
                                st.set(server_timeout);
                            }
                        }
                    }
                }
                match t.poll_read_more(cx, up, resbuf, st) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(ReadError::Io(_))) => Poll::Ready(Err(NoResponse::Closed)),
                    Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
                    Poll::Ready(Err(ReadError::Timeout)) => Poll::Ready(Err(NoResponse::Timeout)),
                    Poll::Pending if slot.over().is_some() => {
                        Poll::Ready(Err(NoResponse::Killed(slot.over().unwrap_or(Cause::Killed))))
                    }
                    Poll::Pending if abort && !sending && client_left(stream, cx) => {
                        Poll::Ready(Err(NoResponse::ClientGone))
                    }
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            read?;
        }
    }

    #[allow(clippy::too_many_arguments)] // One call, and every argument is a different owner of part of the exchange.
    async fn relay_response(
        &mut self,
        x: &mut Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Slot,
        mode: ConnMode,
        mut up: Stream,
        mut upload: Half,
        mut resbuf: Vec<u8>,
        res_used: usize,
    ) -> Next {
        let server = slot.server();
        x.status = x.res.status.into();
        // A chunked message has an end of its own, which HAProxy counts as one.
        x.bytes_out = x.res.accounted() + u64::from(x.res.framing == Framing::Chunked);
        let tunnel = x.res.status == 101 || (x.req.method() == b"CONNECT" && x.res.status / 100 == 2);
        if !x.fe.conf.captures.response.is_empty() || x.fe.conf.captures.cookie.is_some() {
            rewrite::capture_headers(x, HeadSide::Response);
        }
        for node in [be, &x.fe.clone()] {
            if let Some(m) = rewrite::response_rules(x, node) {
                be.live.back.inc(Counter::DeniedResponses);
                x.end(Cause::Denied, Phase::Headers);
                x.req.keep_alive = false;
                let mut none = Follower::new(Framing::None);
                return self.respond(x, m, 0, &mut none).await;
            }
            if Arc::ptr_eq(be, &x.fe) {
                break;
            }
        }
        if let Some(c) = &be.conf.cookie {
            persist::answer_cookie(x, c, server);
        }
        if rewrite::wants_after(x) {
            rewrite::after_response(x);
        }
        let until_close = x.res.framing == Framing::UntilClose;
        // The rest of a request that was answered early is still passed on; only what nobody takes ends the connection.
        let whole = !upload.failed;
        let server_keep = x.res.keep_alive && mode == ConnMode::KeepAlive && whole && !until_close && !tunnel;
        let client_keep = x.req.keep_alive && !x.res.doubtful && whole && !until_close && !tunnel && !self.closing(x);
        let connection = match (client_keep, tunnel) {
            (_, true) => None,
            (false, _) => Some("close"),
            (true, _) if x.req.minor == 0 || x.res.minor == 0 => Some("keep-alive"),
            _ => None,
        };
        let mut follower = Follower::new(if tunnel { Framing::UntilClose } else { x.res.framing });
        let mut out = self.t.take_buf();
        x.res.write_response(connection, &mut out);
        let Ok(n) = follower.feed(&resbuf[res_used..]) else {
            self.t.give_buf(out);
            x.responded = None;
            x.end(Cause::Denied, Phase::Headers);
            be.live.back.inc(Counter::ResponseErrors);
            server.live.counters.inc(Counter::ResponseErrors);
            return self.fail(x, 502, 0, &mut Follower::new(Framing::None)).await;
        };
        out.extend_from_slice(&resbuf[res_used..res_used + n]);
        let extra = resbuf.len() > res_used + n;
        resbuf.clear();
        self.t.give_buf(resbuf);
        self.ct.set(x.fe.conf.timeouts.client);
        let asap = x.fe.conf.options.logasap;
        if asap {
            x.log_early(self.t, false);
        }
        let base = x.bytes_out;
        let written = write_all(&mut self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        x.bytes_out = base + follower.payload();
        if let Err(e) = written {
            x.end(if matches!(e, ReadError::Timeout) { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Data);
            return Next::Close;
        }
        if tunnel {
            upload = Half::new(Follower::new(Framing::UntilClose));
            let rest = std::mem::take(&mut self.inbuf);
            upload.preload(&rest);
        }
        let mut quiet = !extra;
        if !follower.done() || !(upload.complete() || upload.failed) {
            let mut down = Half::new(follower);
            let ended = self.relay(x, be, slot, &mut up, &mut upload, &mut down, tunnel).await;
            x.bytes_out = base + down.follower.payload();
            quiet &= down.rest.is_empty();
            self.inbuf.append(&mut upload.rest);
            if let Err((cause, phase)) = ended {
                x.end(cause, phase);
                return Next::Close;
            }
        }
        if server_keep && quiet && upload.complete() {
            if shared(be, server) {
                self.t.pool_give(server, up);
            } else if !upstream::named_by_request(server) {
                self.own = Some((Own::of(x, server), up));
            }
        }
        self.linger |= !upload.complete();
        if client_keep && upload.complete() { Next::Again } else { Next::Close }
    }

    /// Both directions at once, in one task.
    #[allow(clippy::too_many_arguments)] // As above.
    async fn relay(
        &mut self,
        x: &Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Slot,
        up: &mut Stream,
        upload: &mut Half,
        down: &mut Half,
        tunnel: bool,
    ) -> Result<(), (Cause, Phase)> {
        let (fe, t) = (&x.fe, self.t);
        let tunnel_timeout = set_timeout(x, |s| s.tunnel, be.conf.timeouts.tunnel).filter(|_| tunnel);
        let client_timeout = tunnel_timeout.or(set_timeout(x, |s| s.client, fe.conf.timeouts.client));
        let server_timeout = tunnel_timeout.or(server_timeout(x, be));
        let (client_fin, server_fin) = (fe.conf.timeouts.client_fin, be.conf.timeouts.server_fin);
        self.ct.set(client_timeout);
        self.st.set(server_timeout);
        let mut up_done = upload.complete() || upload.failed;
        let mut down_done = down.follower.done();
        let (stream, ct, st) = (&mut self.stream, &self.ct, &self.st);
        poll_fn(|cx| {
            let mut moved_up = [false; 2];
            if !up_done {
                match upload.poll(cx, stream, up, t, &mut moved_up) {
                    Poll::Ready(Ok(())) => {
                        up_done = true;
                        if tunnel {
                            ct.set(client_fin.or(client_timeout));
                            let _ = up.poll_shutdown(cx);
                        }
                    }
                    // What the server no longer takes it need not have; its answer is what counts.
                    Poll::Ready(Err(HalfError::Sink)) => up_done = true,
                    Poll::Ready(Err(HalfError::Source)) if !down_done => {
                        return Poll::Ready(Err((Cause::ClientAbort, Phase::Data)));
                    }
                    Poll::Ready(Err(HalfError::Source)) => up_done = true,
                    Poll::Ready(Err(HalfError::BadChunk)) => return Poll::Ready(Err((Cause::Denied, Phase::Data))),
                    Poll::Pending => {}
                }
            }
            let mut moved = [false; 2];
            if !down_done {
                match down.poll(cx, up, stream, t, &mut moved) {
                    Poll::Ready(Ok(())) => {
                        down_done = true;
                        if tunnel {
                            st.set(server_fin.or(server_timeout));
                            let _ = stream.poll_shutdown(cx);
                        }
                    }
                    Poll::Ready(Err(HalfError::Source)) => return Poll::Ready(Err((Cause::ServerAbort, Phase::Data))),
                    Poll::Ready(Err(HalfError::Sink)) => return Poll::Ready(Err((Cause::ClientAbort, Phase::Data))),
                    Poll::Ready(Err(HalfError::BadChunk)) => return Poll::Ready(Err((Cause::Denied, Phase::Data))),
                    Poll::Pending => {}
                }
            }
            if down_done && up_done {
                return Poll::Ready(Ok(()));
            }
            if moved[0] || moved_up[1] {
                st.set(if down_done && tunnel { server_fin.or(server_timeout) } else { server_timeout });
            }
            if moved[1] || moved_up[0] {
                ct.set(if up_done && tunnel { client_fin.or(client_timeout) } else { client_timeout });
            }
            if let Some(why) = slot.over() {
                return Poll::Ready(Err((why, Phase::Data)));
            }
            if down_done && !tunnel {
                // Answered; the rest of the request ends when it ends, or with whoever is late.
                let late = if upload.waits_for_sink() { st.expired(cx) } else { ct.expired(cx) };
                return if late { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if tunnel && ct.expired(cx) {
                return Poll::Ready(Err((Cause::ClientTimeout, Phase::Data)));
            }
            // The server is only late if it is its turn.
            if down.waits_for_sink() {
                if ct.expired(cx) {
                    return Poll::Ready(Err((Cause::ClientTimeout, Phase::Data)));
                }
            } else if st.expired(cx) {
                return Poll::Ready(Err((Cause::ServerTimeout, Phase::Data)));
            }
            Poll::Pending
        })
        .await
    }
}

/// True if a connection to this server may carry requests of any client.
fn shared(be: &ProxyNode, server: &ServerNode) -> bool {
    be.conf.reuse != Reuse::Never && upstream::poolable(server)
}

enum Attempt {
    Done(Next),
    Stale,
    NoConnection(ConnectError),
    Failed(u16),
}

/// Why there is no response head.
#[derive(Debug)]
enum NoResponse {
    Closed,
    Garbage,
    Timeout,
    ClientGone,
    /// In the middle of its request.
    ClientLeft,
    BadRequest,
    /// The server's sessions were shut down.
    Killed(Cause),
}

/// On the wheel even if there is none, so that a session that waits for its server can be woken.
fn server_timeout(x: &Exchange<'_>, be: &ProxyNode) -> Option<Duration> {
    set_timeout(x, |s| s.server, be.conf.timeouts.server).or(Some(FOREVER))
}

/// What a rule has set, else what the file says.
fn set_timeout(
    x: &Exchange<'_>,
    of: fn(&rewrite::SetTimeouts) -> Option<Option<Duration>>,
    said: Option<Duration>,
) -> Option<Duration> {
    x.timeouts.as_deref().and_then(of).unwrap_or(said)
}

fn no_response(x: &mut Exchange<'_>, be: &Arc<ProxyNode>, server: &ServerNode, e: &NoResponse, whole: bool) -> Attempt {
    let (cause, status) = match e {
        NoResponse::Closed => (Cause::ServerAbort, 502),
        NoResponse::Garbage => (Cause::Denied, 502),
        NoResponse::Timeout => (Cause::ServerTimeout, 504),
        NoResponse::ClientGone | NoResponse::ClientLeft => (Cause::ClientAbort, 400),
        NoResponse::BadRequest => (Cause::Denied, 400),
        NoResponse::Killed(why) => (*why, 503),
    };
    if matches!(e, NoResponse::Closed | NoResponse::Garbage | NoResponse::Timeout) {
        server.live.counters.inc(Counter::ResponseErrors);
        be.live.back.inc(Counter::ResponseErrors);
    }
    if matches!(e, NoResponse::ClientLeft) {
        // Nobody is there to be answered.
        x.end(cause, Phase::Data);
        return Attempt::Done(Next::Close);
    }
    x.end(cause, Phase::Headers);
    // A request that was taken whole leaves the connection fit for the next one.
    x.req.keep_alive &= whole;
    Attempt::Failed(status)
}

/// Asks whether the client has closed; bytes it sent stay where they are.
fn client_left(s: &mut Stream, cx: &mut std::task::Context<'_>) -> bool {
    let Stream::Tcp(tcp) = s else { return false };
    let mut byte = [std::mem::MaybeUninit::uninit(); 1];
    let mut b = tokio::io::ReadBuf::uninit(&mut byte);
    matches!(tcp.poll_peek(cx, &mut b), Poll::Ready(Ok(0) | Err(_)))
}

fn mode_of(x: &Exchange<'_>, be: &ProxyNode) -> ConnMode {
    let (a, b) = (x.fe.conf.options.conn_mode, be.conf.options.conn_mode);
    match (a, b) {
        (ConnMode::Close, _) | (_, ConnMode::Close) => ConnMode::Close,
        (ConnMode::ServerClose, _) | (_, ConnMode::ServerClose) => ConnMode::ServerClose,
        _ => ConnMode::KeepAlive,
    }
}

/// The backend a request goes to; `None` if there is none.
fn route(x: &Exchange<'_>, fe: &Arc<ProxyNode>) -> Option<Arc<ProxyNode>> {
    let routes = fe.routes();
    let by_rule = routes.rules.iter().find(|(c, _)| acl::holds(c.as_ref(), x)).map(|(_, b)| b);
    by_rule
        .or(routes.default.as_ref())
        .and_then(std::sync::Weak::upgrade)
        .filter(|b| b.conf.mode == Mode::Http && !b.conf.disabled)
}

fn stats_hit(node: &ProxyNode, x: &Exchange<'_>) -> bool {
    x.req.target().starts_with(node.conf.stats.uri().as_bytes())
}
