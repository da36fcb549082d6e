//! An HTTP/1 client connection: request after request until either side has enough.
use super::Thread;
use super::forward::{Own, client_left, set_timeout};
use super::listener::Connection;
use super::logging::{self, Level};
use super::outcome::{Cause, ClientInfo, Exchange, Phase};
use super::reply::{self, Message};
use super::rewrite::{self, Verdict};
use super::stream::{ReadError, Stream, write_all};
use super::tcp::{self, Passed, Upgrade};
use super::upstream::Seat;
use super::wheel::Timer;
use super::{ServiceReply, StatsRequest};
use crate::config::model::{ConnMode, Mode, Restrict};
use crate::http::h1::body::{Follower, Framing};
use crate::http::h1::head::{Scan, empty_lines, worth_a_look};
use crate::http::status::is_bare;
use crate::rules::acl;
use crate::rules::action::Refusal;
use crate::rules::logformat::Step;
use crate::rules::sample::{HeadSide, pathq_of};
use crate::state::counters::Counter;
use crate::state::snapshot::{ProxyNode, Snapshot};
use std::future::poll_fn;
use std::hint::cold_path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What is to be done with the connection after an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Again,
    /// Nothing was heard for a while: wait without holding more than the connection.
    Rest,
    Close,
    /// Leave the client hanging: close without a word reaching it.
    Drop,
}

pub(super) struct Session<'a> {
    pub t: &'a Rc<Thread>,
    client: &'a ClientInfo,
    pub stream: &'a mut Stream,
    /// What was read and not used yet.
    pub inbuf: Vec<u8>,
    /// Client-side and server-side time-outs.
    pub ct: Timer,
    pub st: Timer,
    first: bool,
    /// What came before the first request of a stream that began as one of bytes.
    upgrade: Option<Box<Upgrade>>,
    /// The last request's body was not read to its end.
    pub linger: bool,
    /// The client closed between two requests.
    left: bool,
    /// Connections to servers that are this client's alone: `http-reuse never`, or they were authenticated as a whole.
    pub own: Vec<Own>,
    /// It is to stay with the servers of these.
    pub stays: bool,
}

/// How long a connection waits for its next request with everything that serving one takes; then it keeps only itself.
const WARM: Duration = Duration::from_secs(1);
/// So many of a thread may wait so; memory that thousands had at once would not come back to the system.
const MOST_WARM: usize = 128;

/// Serves one client connection of an HTTP frontend until it ends. Most connections wait most of the time: this future is small, and what
/// serving takes is on the heap while something is served.
pub async fn run(t: &Rc<Thread>, c: &mut Connection, begin: Begin) -> Ended {
    let first = !matches!(begin, Begin::Again);
    let mut upgrade = match begin {
        Begin::Upgraded(u) => Some(u),
        Begin::First | Begin::Again => None,
    };
    let (fe, generation) = (&mut c.fe, &mut c.generation);
    let Some(stream) = &mut c.stream else { return Ended::Over };
    let mut s = Session {
        t,
        client: &c.client,
        stream,
        inbuf: upgrade.as_mut().map(|u| std::mem::take(&mut u.bytes)).unwrap_or_default(),
        ct: t.wheel.timer(),
        st: t.wheel.timer(),
        first,
        upgrade,
        linger: false,
        left: false,
        own: Vec::new(),
        stays: false,
    };
    s.ct.set(request_timeout(fe));
    loop {
        let parks = !s.first && s.own.is_empty() && matches!(s.stream, Stream::Tcp(_));
        s.st.set(Some(QUIET).filter(|_| parks));
        let heard = poll_fn(|cx| {
            // What made it a connection of HTTP is there already.
            if s.first && !s.inbuf.is_empty() {
                return Poll::Ready(Some(Ok(s.inbuf.len())));
            }
            match t.poll_read_more(cx, s.stream, &mut s.inbuf, &s.ct) {
                Poll::Pending if s.st.expired(cx) => Poll::Ready(None),
                r => r.map(Some),
            }
        })
        .await;
        let Some(heard) = heard else {
            if t.shared.drains() && !fe.conf.options.idle_close_on_response {
                break;
            }
            return Ended::Quiet { until: s.ct.deadline() };
        };
        match Box::pin(s.serve_warm(fe, generation, heard)).await {
            Next::Again | Next::Rest => {}
            Next::Close => break,
            Next::Drop => {
                s.stream.vanish();
                return Ended::Over;
            }
        }
    }
    Box::pin(s.part()).await;
    Ended::Over
}

/// How a connection comes to be served.
pub enum Begin {
    First,
    /// It served requests before.
    Again,
    /// It began as a stream of bytes.
    Upgraded(Box<Upgrade>),
}

/// How a connection left its task.
pub enum Ended {
    Over,
    /// It waits for its next request, and may do so until this tick of the wheel.
    Quiet {
        until: u64,
    },
}

/// How long a connection waits for its next request on the event loop.
const QUIET: Duration = Duration::from_millis(400);

/// One of the connections that wait warm.
struct Warm<'a>(&'a Thread);

impl Drop for Warm<'_> {
    fn drop(&mut self) {
        self.0.warm.set(self.0.warm.get() - 1);
    }
}

fn request_timeout(fe: &ProxyNode) -> Option<Duration> {
    fe.conf.timeouts.http_request.or(fe.conf.timeouts.client)
}

/// How long, and for how many bytes, a client that still sends is listened to after the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

impl Session<'_> {
    /// Exchanges, until the connection ends or has nothing to do for a while. `heard` is what the wait for the first of them gave.
    async fn serve_warm(
        &mut self,
        fe: &mut Arc<ProxyNode>,
        generation: &mut u64,
        heard: Result<usize, ReadError>,
    ) -> Next {
        let mut heard = Some(heard);
        let mut snapshot = self.t.snapshot();
        let mut x = Exchange::new(self.client, fe.clone(), self.t, self.first);
        let next = loop {
            if snapshot.generation != self.t.generation() {
                snapshot = self.t.snapshot();
            }
            if snapshot.generation != *generation {
                // A kept connection is on the new configuration with its next request; if its frontend is gone, so is it.
                let Some(new) = snapshot.frontend(&fe.conf.name) else { break Next::Close };
                (*fe, *generation) = (new.clone(), snapshot.generation);
                x.fe = new.clone();
            }
            let next = self.exchange(&mut x, fe, &snapshot, heard.take()).await;
            x.reset();
            (self.first, x.first) = (false, false);
            if next != Next::Again {
                break next;
            }
            if self.inbuf.is_empty() {
                self.t.give_buf(std::mem::take(&mut self.inbuf));
                if self.t.shared.drains() && !fe.conf.options.idle_close_on_response {
                    break Next::Close;
                }
                self.ct.set(fe.conf.timeouts.http_keep_alive.or(request_timeout(fe)));
                self.ct.idle(!fe.conf.options.idle_close_on_response);
                if self.t.warm.get() >= MOST_WARM {
                    self.st.release();
                    break Next::Rest;
                }
                self.t.warm.set(self.t.warm.get() + 1);
                let _one = Warm(self.t);
                self.st.set(Some(WARM));
                let (t, stream, inbuf, ct, st) = (self.t, &mut *self.stream, &mut self.inbuf, &self.ct, &self.st);
                heard = poll_fn(|cx| match t.poll_read_more(cx, stream, inbuf, ct) {
                    Poll::Pending if st.expired(cx) => Poll::Ready(None),
                    r => r.map(Some),
                })
                .await;
                if heard.is_none() {
                    self.st.release();
                    break Next::Rest;
                }
            }
        };
        x.recycle(self.t);
        next
    }

    /// Ends the connection. What the client still sends would turn the close into a reset that may overtake the answer: half-close, and read
    /// off what comes for a moment.
    async fn part(mut self) {
        self.own.iter().for_each(|o| o.stream.cut());
        if self.left {
            return self.t.give_buf(self.inbuf);
        }
        self.ct.set(Some(LINGER));
        let closed = poll_fn(|cx| match self.stream.poll_shutdown(cx) {
            Poll::Pending if self.ct.expired(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
            Poll::Ready(r) => Poll::Ready(r.is_ok()),
        })
        .await;
        if closed && self.linger {
            let mut left = LINGER_BYTES;
            while left > 0 {
                self.inbuf.clear();
                match self.t.read_more(self.stream, &mut self.inbuf, &self.ct).await {
                    Ok(n @ 1..) => left = left.saturating_sub(n),
                    _ => break,
                }
            }
        }
        self.t.give_buf(self.inbuf);
    }

    async fn exchange(
        &mut self,
        x: &mut Exchange<'_>,
        fe: &Arc<ProxyNode>,
        snapshot: &Snapshot,
        heard: Option<Result<usize, ReadError>>,
    ) -> Next {
        match &mut self.upgrade {
            Some(u) => {
                x.unique = std::mem::take(&mut u.unique);
                [x.src, x.dst] = u.ends;
                (x.priority, x.packets, x.most_retries, x.level) = (u.priority, u.packets, u.most_retries, u.level);
                (x.pace, x.captured[0]) = (std::mem::take(&mut u.pace), std::mem::take(&mut u.captured));
            }
            None => x.reached(self.t, Step::Accept),
        }
        match self.receive(x, heard).await {
            Ok(used) => {
                // The wait may have been long: the request is served by the configuration in force now.
                let current = (self.t.generation() != snapshot.generation).then(|| self.t.snapshot());
                let (mut snapshot, mut fe) = (snapshot, fe);
                if let Some(current) = &current {
                    snapshot = current;
                    if let Some(new) = snapshot.frontend(&fe.conf.name) {
                        x.fe = new.clone();
                        fe = new;
                    }
                }
                fe.live.front.inc(Counter::Requests);
                fe.live.front.inc(Counter::Begun);
                self.t.shared.live.totals.inc(Counter::Requests);
                // A stream of bytes was told of when it came.
                if self.upgrade.is_none() {
                    logging::connected(self.t, &x.fe, self.client);
                }
                let r = self.serve(x, fe, snapshot, used).await;
                x.finish(self.t, false);
                r
            }
            Err(Some(log)) => {
                // What was no request counts as one, as its answer does.
                fe.live.front.inc(Counter::Requests);
                fe.live.front.inc(Counter::Begun);
                self.t.shared.live.totals.inc(Counter::Requests);
                if log {
                    x.finish(self.t, false);
                } else {
                    fe.live.front.inc(Counter::Ended);
                }
                Next::Close
            }
            Err(None) => Next::Close,
        }
    }

    /// Reads one request head. `Err(Some(true))`: the connection ends and the session is logged.
    async fn receive(
        &mut self,
        x: &mut Exchange<'_>,
        mut heard: Option<Result<usize, ReadError>>,
    ) -> Result<usize, Option<bool>> {
        if !x.first {
            self.ct.set(request_timeout(&x.fe));
        }
        self.ct.idle(false);
        let mut scan = Scan::default();
        let (mut begun, mut waited) = (false, false);
        let (mut skipped, mut looked) = (0, 0);
        let limit = x.fe.bufsize - x.fe.maxrewrite;
        loop {
            if !begun {
                // Line ends before a request are remains of the one before (RFC 9112, 2.2).
                let blank = empty_lines(&self.inbuf);
                self.inbuf.drain(..blank);
                skipped += blank;
                if skipped > x.fe.bufsize {
                    return self.refuse(x, 414, Cause::Denied).await;
                }
            }
            if !self.inbuf.is_empty() && self.inbuf != b"\r" && !begun {
                begun = true;
                x.begun = true;
                x.started = self.t.fresh();
                x.started_at = self.t.wall(x.started);
            }
            if begun && scan.complete(&self.inbuf) {
                break;
            }
            let worth = worth_a_look(&self.inbuf, looked);
            looked = self.inbuf.len();
            if begun && worth && x.req.is_hopeless(&self.inbuf, x.fe.accept(true)) {
                return self.refuse(x, 400, Cause::Denied).await;
            }
            if self.inbuf.len() >= limit {
                return self.refuse(x, too_large(&self.inbuf, limit), Cause::Denied).await;
            }
            // What the wait before gave is looked at first; bytes are in the buffer already.
            let read = match heard.take() {
                Some(Ok(1..)) if !begun => continue,
                Some(other) => other,
                None => {
                    waited |= begun;
                    self.t.read_more(self.stream, &mut self.inbuf, &self.ct).await
                }
            };
            match read {
                Ok(0) | Err(ReadError::Io(_)) if !begun && !x.first => {
                    self.left = true;
                    return Err(None);
                }
                Ok(0) | Err(ReadError::Io(_)) => {
                    x.status = 400;
                    x.end(Cause::ClientAbort, Phase::Request);
                    if begun {
                        return self.refuse(x, 400, Cause::ClientAbort).await;
                    }
                    if !x.fe.conf.options.dontlognull {
                        x.fe.live.front.inc(Counter::RequestErrors);
                    }
                    return Err(Some(true));
                }
                Ok(_) => {}
                Err(ReadError::Timeout) if !begun && (!x.first || x.fe.conf.options.ignore_probes) => return Err(None),
                Err(ReadError::Timeout) => return self.refuse(x, 408, Cause::ClientTimeout).await,
            }
        }
        self.ct.set(x.fe.conf.timeouts.client);
        let used = match x.req.parse_request(&self.inbuf, x.fe.accept(true)) {
            Ok(n) => n,
            Err(e) => {
                super::evidence::request(self.t, x, &self.inbuf);
                x.req.clear();
                return self.refuse(x, e.status(), Cause::Denied).await;
            }
        };
        if x.req.weight_at_most() > limit && x.req.weight() > limit {
            // However it came in: a head has to leave room for what rules add.
            x.req.clear();
            return self.refuse(x, too_large(&self.inbuf, limit), Cause::Denied).await;
        }
        // Chunking that is broken already is a bad request, and no server's business.
        if x.req.framing == Framing::Chunked && Follower::new(Framing::Chunked).feed(&self.inbuf[used..]).is_err() {
            x.req.clear();
            return self.refuse(x, 400, Cause::Denied).await;
        }
        x.got_request = Some(if waited { self.t.fresh() } else { self.t.now() });
        x.bytes_in = x.req.accounted();
        // As it came: for logs, and for rules that ask what it was.
        let mut line = std::mem::take(&mut x.request_line);
        x.req.write_request_line(&mut line);
        x.asked_head = line.starts_with(b"HEAD ");
        line.truncate(x.fe.log_line_len);
        x.request_line = line;
        Ok(used)
    }

    /// Answers something that is no request, and ends.
    async fn refuse<T>(&mut self, x: &mut Exchange<'_>, status: u16, cause: Cause) -> Result<T, Option<bool>> {
        x.status = status.into();
        x.end(cause, Phase::Request);
        x.fe.live.front.inc(Counter::RequestErrors);
        // Whatever it was, there may be more of it to come.
        self.linger = true;
        let m = reply::page(status, x);
        let mut out = self.t.take_buf();
        // HAProxy's pages of these say nothing about the connection, which ends all the same.
        let connection = Some("close").filter(|_| matches!(status, 400 | 408));
        m.write(connection, false, true, &mut out);
        x.fe.adjust_answer(&mut out);
        self.ct.set(x.fe.conf.timeouts.client);
        let _ = write_all(self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        Err(Some(true))
    }

    /// `fe` is the exchange's own.
    async fn serve(&mut self, x: &mut Exchange<'_>, fe: &Arc<ProxyNode>, snapshot: &Snapshot, used: usize) -> Next {
        // Whatever becomes of the first request, the next one is a request like any other.
        let upgrade = self.upgrade.take();
        let mut body = Follower::new(x.req.framing);
        let monitored = |u: &String| match u.starts_with('/') {
            // Whatever form the target has.
            true => pathq_of(x.req.target()) == Some(u.as_bytes()),
            false => u.as_bytes() == x.req.target(),
        };
        if fe.conf.monitor_uri.as_ref().is_some_and(monitored) {
            cold_path();
            let fail = fe.conf.monitor_fail.iter().any(|c| c.holds(&*x));
            let status = if fail { 503 } else { 200 };
            let m = reply::page(status, x);
            // Nobody wants to read of these.
            x.level = Level::Silent;
            return self.answer(x, m, Cause::Local, used, &mut body).await;
        }
        if !fe.conf.captures.request.is_empty() {
            rewrite::capture_headers(x, HeadSide::Request);
        }
        if let Some(f) = fe.conf.unique_id.clone().filter(|_| x.unique.is_empty()) {
            x.make_unique(self.t, &f);
        }
        x.reached(self.t, Step::Request);
        if let Some(u) = &upgrade {
            x.be = u.be.clone();
        }
        let posted = x.req.method() == b"POST";
        let buffered = |p: &ProxyNode| p.conf.options.buffer_request || posted && p.conf.balances_posts();
        // The frontend's rules, then those of the backend they lead to.
        let mut found: Option<Arc<ProxyNode>> = None;
        for back in [false, true] {
            let mut node = fe;
            if back {
                if x.be.is_none() {
                    x.be = fe.route(&*x).filter(|be| be.conf.mode == Mode::Http);
                }
                match &x.be {
                    Some(be) if !Arc::ptr_eq(be, fe) => {
                        node = found.insert(be.clone());
                        if let Some(t) = &mut x.timeouts {
                            t.change_backend();
                        }
                        // The backend has its own idea of it.
                        x.most_retries = None;
                    }
                    _ => break,
                }
            }
            if buffered(node) && !(back && buffered(fe)) {
                cold_path();
                let to = fe.conf.timeouts;
                if let Err(status) = self.wait_for_body(x, used, to.http_request.or(to.client), 0).await {
                    if status == 400 && x.be.is_none() {
                        // A client that leaves is noticed on the way to the backend, as logs of the reference have it.
                        x.be = fe.route(&*x);
                    }
                    x.end(if status == 408 { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Request);
                    x.req.keep_alive = false;
                    return self.fail(x, status, used, &mut body).await;
                }
            }
            // The frontend's have looked at the bytes of a stream.
            let looked = upgrade.is_some() && !back;
            let verdict =
                if looked { Ok(Passed::AsItIs) } else { tcp::allowed(self.t, x, node, &node.conf.tcp_content) };
            if let Err(how) = verdict {
                cold_path();
                fe.live.front.inc(Counter::DeniedRequests);
                x.end(Cause::Denied, Phase::Request);
                if how == Refusal::SilentDrop {
                    return Next::Drop;
                }
                return Next::Close;
            }
            let odd = |n: &[u8]| !n.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-');
            match node.conf.options.restrict_names {
                Restrict::Preserve => {}
                Restrict::Delete => drop(x.req.kill_if(odd)),
                Restrict::Reject if x.req.headers().any(|(n, _)| odd(n)) => {
                    fe.live.front.inc(Counter::DeniedRequests);
                    x.end(Cause::Denied, Phase::Request);
                    return self.fail(x, 403, used, &mut body).await;
                }
                Restrict::Reject => {}
            }
            x.buffered = x.buffered.max(self.buffered(x, used));
            let mut verdict = rewrite::request_rules(self.t, x, node, 0);
            if !self.send_early(x).await {
                return Next::Close;
            }
            loop {
                let (next, time, at_least) = match verdict {
                    Verdict::Wait { next, time, at_least } => (next, time, at_least),
                    Verdict::Pause { next, time } => {
                        cold_path();
                        if let Err(cause) = self.pause(x, time, None).await {
                            x.end(cause, Phase::Request);
                            return Next::Close;
                        }
                        verdict = rewrite::request_rules(self.t, x, node, next);
                        if !self.send_early(x).await {
                            return Next::Close;
                        }
                        continue;
                    }
                    _ => break,
                };
                cold_path();
                if let Err(status) = self.wait_for_body(x, used, Some(time), at_least).await {
                    x.end(if status == 408 { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Request);
                    x.req.keep_alive = false;
                    return self.fail(x, status, used, &mut body).await;
                }
                x.buffered = x.buffered.max(self.buffered(x, used));
                verdict = rewrite::request_rules(self.t, x, node, next);
                if !self.send_early(x).await {
                    return Next::Close;
                }
            }
            match verdict {
                Verdict::Go | Verdict::Wait { .. } | Verdict::Pause { .. } => {}
                Verdict::Failed(cause) => {
                    cold_path();
                    x.end(cause, Phase::Request);
                    return self.fail(x, 500, used, &mut body).await;
                }
                Verdict::Close => {
                    cold_path();
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
            if let Some(hit) = x.hit.take() {
                cold_path();
                return self.serve_hit(x, hit, used, &mut body).await;
            }
            if node.conf.stats.enabled && stats_hit(node, x) {
                fe.live.front.inc(Counter::Intercepted);
                return self.stats(x, snapshot, node, used, &mut body).await;
            }
        }
        let Some(be) = found.or_else(|| x.be.clone()) else {
            cold_path();
            if fe.conf.mode == Mode::Tcp {
                // It leads to servers that do not speak HTTP, if anywhere.
                x.end(Cause::Internal, Phase::Request);
                x.status = 500;
                return Next::Close;
            }
            x.end(Cause::ServerAbort, Phase::Connect);
            return self.fail(x, 503, used, &mut body).await;
        };
        self.forward(x, &be, used, body).await
    }

    /// `pause` of a rule: until the time is over, or there is nobody left to wait for.
    pub(super) async fn pause(
        &mut self,
        x: &Exchange<'_>,
        time: Duration,
        slot: Option<&Seat<'_>>,
    ) -> Result<(), Cause> {
        let abort = x.backend().conf.options.abortonclose || x.fe.conf.options.abortonclose;
        self.st.set(Some(time));
        let (stream, st) = (&mut *self.stream, &self.st);
        poll_fn(|cx| match slot.and_then(Seat::over) {
            _ if st.expired(cx) => Poll::Ready(Ok(())),
            Some(why) => Poll::Ready(Err(why)),
            None if abort && client_left(stream, cx) => Poll::Ready(Err(Cause::ClientAbort)),
            None => Poll::Pending,
        })
        .await
    }

    /// How much of the request's body is there, of what the buffer takes beside its head.
    fn buffered(&self, x: &Exchange<'_>, used: usize) -> usize {
        // Behind the body there may be the next request.
        let there = match x.req.framing {
            Framing::None => 0,
            Framing::Length(n) => usize::try_from(n).unwrap_or(usize::MAX).min(self.inbuf.len() - used),
            Framing::Chunked | Framing::UntilClose => self.inbuf.len() - used,
        };
        x.req.beside(there, x.fe.bufsize - x.fe.maxrewrite)
    }

    /// Writes the answers 103 that rules have made. False if the client does not take them: nothing may follow half of one.
    async fn send_early(&mut self, x: &mut Exchange<'_>) -> bool {
        if x.early.is_empty() {
            return true;
        }
        cold_path();
        let out = std::mem::take(&mut x.early);
        self.ct.set(x.fe.conf.timeouts.client);
        let written = write_all(self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        let Err(e) = written else { return true };
        x.end(if matches!(e, ReadError::Timeout) { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Request);
        false
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
            write_all(self.stream, b"HTTP/1.1 100 Continue\r\n\r\n", &timer).await.map_err(|_| 400u16)?;
            x.req.kill("expect");
        }
        loop {
            at += f.feed(&self.inbuf[at..]).map_err(|_| 400u16)?;
            let enough = at_least > 0 && f.payload() >= at_least as u64;
            if f.done() || enough || self.inbuf.len() >= limit {
                self.t.fresh();
                return Ok(());
            }
            match self.t.read_more(self.stream, &mut self.inbuf, &timer).await {
                Ok(1..) => {}
                Err(ReadError::Timeout) => return Err(408),
                Ok(0) | Err(ReadError::Io(_)) => return Err(400),
            }
        }
    }

    /// Writes an answer of our own. A request body that is on its way is read off, so that the connection can go on.
    pub(super) async fn answer(
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

    pub(super) async fn respond(
        &mut self,
        x: &mut Exchange<'_>,
        mut m: Message,
        used: usize,
        body: &mut Follower,
    ) -> Next {
        // A page for an answer that found no room has its own turn, and no third one.
        for again in [true, false] {
            if m.is_empty() || !rewrite::wants_after(x) || !m.to_head(&mut x.res) {
                break;
            }
            x.status = m.status.into();
            x.buffered = 0;
            if rewrite::after_response(self.t, x) {
                m.take_head(&x.res);
                break;
            }
            m = reply::page(500, x);
            if !again {
                x.status = m.status.into();
            }
        }
        // A rule may have given it a status that has no content, or that is not the last one.
        let head_only = x.is_head() || is_bare(m.status);
        m.must_close |= m.status / 100 == 1;
        x.status = m.status.into();
        x.bytes_out = if head_only { m.accounted_head } else { m.accounted };
        let drained = self.take_body(used, body);
        self.linger |= !drained;
        let keep = x.req.keep_alive && !m.must_close && drained && !self.closing(x) && x.cause != Cause::ClientAbort;
        let connection = match (keep, x.req.minor) {
            (false, _) => Some("close"),
            (true, 0) => Some("keep-alive"),
            _ => None,
        };
        if m.is_empty() || m.status == 101 {
            return Next::Close;
        }
        let mut out = self.t.take_buf();
        m.write(connection, head_only, false, &mut out);
        x.fe.adjust_answer(&mut out);
        self.ct.set(x.fe.conf.timeouts.client);
        (x.wire[0], x.wire[3]) = (x.wire[0].max(used as u64), out.len() as u64);
        let r = write_all(self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        if keep && r.is_ok() { Next::Again } else { Next::Close }
    }

    /// True if the frontend's mode or the worker's end closes connections after each answer.
    pub(super) fn closing(&self, x: &Exchange<'_>) -> bool {
        x.fe.conf.options.conn_mode == ConnMode::Close || self.t.shared.drains()
    }

    /// Takes the head and what is there of the body off the input. True if the body is whole.
    pub(super) fn take_body(&mut self, used: usize, body: &mut Follower) -> bool {
        let n = body.feed(&self.inbuf[used..]).unwrap_or(0);
        self.inbuf.drain(..used + n);
        body.done()
    }

    /// An error of the exchange: the page of its status, with the termination already set.
    pub(super) async fn fail(&mut self, x: &mut Exchange<'_>, status: u16, used: usize, body: &mut Follower) -> Next {
        let m = reply::page(status, x);
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
                    || !matches!(self.t.read_more(self.stream, &mut self.inbuf, &self.ct).await, Ok(1..))
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
        x.served_here(self.t);
        self.answer(x, Message::service(reply), cause, used, body).await
    }
}

/// The status for a head that does not fit the buffer: it depends on which part did not (RFC 9110, 15.5.15; RFC 6585, 5).
fn too_large(head: &[u8], room: usize) -> u16 {
    // What a buffer has room for is looked at.
    if head.iter().take(room).any(|c| *c == b'\n') { 431 } else { 414 }
}

fn stats_hit(node: &ProxyNode, x: &Exchange<'_>) -> bool {
    x.req.target().starts_with(node.conf.stats.uri().as_bytes())
}
