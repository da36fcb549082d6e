//! One request to a server: attempts, and the head of the answer that is waited for. What becomes of the answer is in [`answer`](super::answer).
use super::filters::{self, Recoded};
use super::forwarded;
use super::key;
use super::outcome::{Cause, Exchange, Phase};
use super::persist;
use super::reply;
use super::rewrite;
use super::session::{Next, Session};
use super::stream::{Half, HalfError, ReadError, Stream, write_all};
use super::upstream::{self, AfterFailure, BackendSession, ConnectError, Likeness, NoServer, Seat};
use super::wheel::FOREVER;
use crate::balance::Algorithm;
use crate::config::model::{ConnMode, Observe, Reuse};
use crate::http::h1::body::{Follower, Framing};
use crate::http::h1::head::{Scan, empty_lines, worth_a_look};
use crate::rules::logformat::Step;
use crate::rules::sample::HeadSide;
use crate::state::counters::Counter;
use crate::state::live::{Met, ServerLive};
use crate::state::snapshot::{ProxyNode, ServerNode};
use std::future::poll_fn;
use std::hint::cold_path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How a connection to a server was come by.
pub(super) struct Link {
    pub like: Likeness,
    /// How often the server had moved then: where the connection leads is what counts later.
    pub moves: u64,
    /// Requests that it had served before.
    pub uses: u32,
    /// It was this client's alone.
    pub own: bool,
}

/// A connection that nobody else may use.
pub(super) struct Own {
    pub key: u64,
    pub moves: u64,
    pub stream: Stream,
    pub uses: u32,
    pub server: Arc<ServerLive>,
}

impl Session<'_> {
    /// The whole way to a server and back.
    pub(super) async fn forward(
        &mut self,
        x: &mut Exchange<'_>,
        be: &Arc<ProxyNode>,
        used: usize,
        mut body: Follower,
    ) -> Next {
        let session = BackendSession::new(&**be);
        if be.conf.options.drop_request_trailers {
            body.drop_trailer();
        }
        be.live.back.inc(Counter::Requests);
        let by_rule = upstream::asked_for(x, be);
        x.by_rule = by_rule.is_some();
        rewrite::capture_cookie(x, HeadSide::Request);
        let by_cookie = persist::persistence(x, be, x.by_rule);
        let mut bound = by_rule.or(by_cookie);
        // Where nothing binds it, a preference does, as long as that server is there.
        let mut preferred = if bound.is_none() { self.last_server(be) } else { None };
        bound = bound.or(preferred);
        forwarded::tell(x, be);
        if let Some(h) = x.fe.conf.unique_id_header.clone().filter(|_| !x.unique.is_empty()) {
            let id = std::mem::take(&mut x.unique);
            x.req.set(&h, &id);
            x.unique = id;
        }
        filters::request(self.t, x, be);
        x.posted = key::posted(x, be, &self.inbuf[used..]);
        let mut avoid = None;
        let mut fresh = false;
        loop {
            let slot = match self.assign(x, be, bound, avoid).await {
                Ok(s) => s,
                Err(NoServer::Down) if preferred.take().is_some() => {
                    cold_path();
                    bound = None;
                    continue;
                }
                Err(e) => {
                    cold_path();
                    drop(session);
                    return self.no_server(x, e, used, &mut body).await;
                }
            };
            x.server = Some(slot.index());
            if let Some(prefix) = &slot.server().conf.redirect
                && matches!(x.req.method(), b"GET" | b"HEAD")
            {
                cold_path();
                let m = reply::elsewhere(prefix, x.req.target());
                drop(slot);
                drop(session);
                return self.answer(x, m, Cause::Local, used, &mut body).await;
            }
            let tried = self.attempt(x, be, &slot, used, body.clone(), fresh).await;
            x.server_fd = None;
            match tried {
                Attempt::Done(next) => {
                    drop(slot);
                    drop(session);
                    return next;
                }
                // A pooled connection had died: once more on one of its own; this is no retry that counts.
                Attempt::Stale => fresh = true,
                Attempt::Failed(status) => {
                    cold_path();
                    drop(slot);
                    drop(session);
                    // The request is off the input already.
                    return self.fail(x, status, 0, &mut Follower::new(Framing::None)).await;
                }
                // Both go by the same rules; only what the log says of a last failure differs.
                Attempt::NoConnection(_) | Attempt::Again => {
                    cold_path();
                    let e = match tried {
                        Attempt::NoConnection(e) => e,
                        _ => ConnectError::Answered,
                    };
                    let by_cookie = bound.is_some() && x.cookie[0] == b'V';
                    match upstream::after_failure(x, be, &slot, by_cookie, &e) {
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

    async fn assign<'b>(
        &mut self,
        x: &mut Exchange<'_>,
        be: &'b ProxyNode,
        bound: Option<usize>,
        avoid: Option<usize>,
    ) -> Result<Seat<'b>, NoServer> {
        let stream = &mut *self.stream;
        // A client that has gone need not wait for a server; with `abortonclose` only, since it may have half-closed on purpose.
        let abort = be.conf.options.abortonclose || x.fe.conf.options.abortonclose;
        upstream::assign(self.t, x, be, bound, avoid, &self.st, |cx| abort && client_left(stream, cx)).await
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
        slot: &Seat<'_>,
        used: usize,
        mut body: Follower,
        fresh: bool,
    ) -> Attempt {
        let server = slot.server();
        let mode = if x.req.says_close() { ConnMode::ServerClose } else { mode_of(x, be) };
        let idempotent = matches!(x.req.method(), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE");
        // A connection may turn out to be dead. The first request of a client is not lost to that: it can be sent again, or gets one of its own.
        let harmless = || idempotent && body.can_end(&self.inbuf[used..]);
        let (may, proven) = match be.conf.reuse {
            Reuse::Never => (false, false),
            Reuse::Safe => (!x.first, false),
            Reuse::Unsaid => (!x.first || harmless(), false),
            Reuse::Aggressive => (true, x.first),
            Reuse::Always => (true, false),
        };
        let like = upstream::likeness(self.t, x, be, server);
        let moves = server.live.moves();
        let own = if mode == ConnMode::KeepAlive && !fresh { self.take_own(like.key, server) } else { None };
        let is_own = own.is_some();
        let pooled = match mode {
            _ if is_own => own,
            ConnMode::KeepAlive if !fresh && may => match be.conf.reuse {
                Reuse::Never => None,
                _ => match self.t.pool_take(like.key, server, proven) {
                    None if !like.personal && !self.t.alone() => {
                        self.t.pool_ask(like.key, server, proven, &self.st).await
                    }
                    taken => taken,
                },
            },
            _ => None,
        };
        let reused = pooled.is_some();
        let link = Link { like, moves, uses: pooled.as_ref().map_or(0, |p| p.1), own: is_own };
        let mut up = match pooled {
            Some((s, _)) => {
                server.live.counters.inc(Counter::Reuses);
                be.live.back.inc(Counter::Reuses);
                s
            }
            None => match upstream::connect(
                self.t,
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
        x.reused = Some(reused);
        x.server_fd = up.raw_fd();
        x.connected = Some(if reused { self.t.now() } else { self.t.fresh() });
        if !x.fe.logs.is_empty() {
            if x.fe.tells_servers {
                (x.backend_src, x.server_addr) = (up.local_addr(), up.peer_addr());
            }
            x.reached(self.t, Step::Connect);
        }
        // Head and what is there of the body leave together.
        let mut out = self.t.take_buf();
        let connection = match (x.req.minor, mode) {
            // HAProxy says nothing beside a change of protocol, and nothing where the framing is not that of the version.
            _ if x.req.upgrade || x.req.doubtful => None,
            (1, ConnMode::KeepAlive) => None,
            (1, _) if be.conf.options.pretend_keepalive => None,
            (1, _) => Some("close"),
            (_, ConnMode::KeepAlive) => Some("keep-alive"),
            _ => None,
        };
        if let Some(name) = &be.conf.name_header {
            x.req.set(name, server.conf.name.as_bytes());
        }
        x.req.write_request(connection, &mut out);
        if let Some(c) = &be.cases[1] {
            c.apply(&mut out);
        }
        let mut recoded = x.coding.request.map(|c| Box::new(Recoded::new(self.t, c)));
        // What is to be slowed down does not leave with the head.
        let paced = filters::paced(self.t, x, 0);
        let mut held = Vec::new();
        let to = if paced.is_some() { &mut held } else { &mut out };
        let passed = match &mut recoded {
            Some(r) => r.pass(&mut body, &self.inbuf[used..], to),
            None => body.pass(&self.inbuf[used..], to),
        };
        let Ok(n) = passed else {
            cold_path();
            x.end(Cause::Denied, Phase::Request);
            x.req.keep_alive = false;
            self.inbuf.clear();
            self.linger = true;
            return Attempt::Failed(400);
        };
        self.st.set(server_timeout(x, be));
        x.wire[1] = out.len() as u64;
        let sent = write_all(&mut up, &out, &self.st).await;
        self.t.give_buf(out);
        let replayable = body.done();
        if sent.is_err() && reused && replayable {
            cold_path();
            return Attempt::Stale;
        }
        let mut upload = Half::new(body);
        (upload.recoded, upload.paced) = (recoded, paced);
        if !held.is_empty() {
            upload.preload(&held);
        }
        upload.failed = sent.is_err();
        let mut resbuf = Vec::new();
        let head = self.await_response(x, slot, be, &mut up, &mut upload, &mut resbuf).await;
        let res_used = match head {
            Ok(n) => {
                let good = x.res.status < 500 || matches!(x.res.status, 501 | 505);
                upstream::observed(server, Observe::Layer7, if good { Met::Good } else { Met::WrongResponse });
                n
            }
            Err(e) => {
                cold_path();
                if matches!(e, NoResponse::Closed) && reused && replayable && resbuf.is_empty() && idempotent {
                    return Attempt::Stale;
                }
                let met = match e {
                    NoResponse::Closed if reused => None,
                    NoResponse::Closed => Some(Met::ReadError),
                    NoResponse::Garbage => Some(Met::BadHeaders),
                    NoResponse::Timeout => Some(Met::ReadTimeout),
                    _ => None,
                };
                if matches!(e, NoResponse::Garbage) {
                    super::evidence::response(self.t, x, be, &resbuf);
                }
                if let Some(met) = met {
                    upstream::observed(server, Observe::Layer7, met);
                }
                let on = &be.conf.retry_on;
                let wanted = match e {
                    NoResponse::Closed => on.empty_response,
                    NoResponse::Garbage => on.junk_response,
                    NoResponse::Timeout => on.response_timeout,
                    _ => false,
                };
                if wanted && replayable && may_retry(x, be) {
                    count_failure(be, server);
                    return Attempt::Again;
                }
                if matches!(e, NoResponse::Closed) && reused && resbuf.is_empty() {
                    // The server had closed it: not an answer, but what the client does when its own connection closes so.
                    count_failure(be, server);
                    x.end(Cause::ServerAbort, Phase::Headers);
                    return Attempt::Done(Next::Close);
                }
                let whole = upload.complete();
                self.consume(used, n, &mut upload);
                // There may be more of the request to come, which must not reset the answer away.
                self.linger |= !whole;
                return no_response(x, be, server, &e, whole);
            }
        };
        if replayable && be.conf.retry_on.statuses.contains(&x.res.status) && may_retry(x, be) {
            return Attempt::Again;
        }
        self.consume(used, n, &mut upload);
        x.bytes_in = x.bytes_in.max(1) + upload.follower.payload();
        x.wire[0] = (used + n) as u64;
        x.responded = Some(self.t.fresh());
        // What is answered in its place is not its answer.
        server.live.counters.http(x.res.status);
        let next = self.relay_response(x, be, slot, mode, (up, link), &mut upload, &mut resbuf, res_used).await;
        Attempt::Done(next)
    }

    /// This client's own connection, if it leads to this server and still lives.
    fn take_own(&mut self, key: u64, server: &ServerNode) -> Option<(Stream, u32)> {
        if self.own.is_empty() {
            return None;
        }
        self.own.retain(|o| o.stream.is_quiet());
        let at = self.own.iter().position(|o| o.key == key && o.moves == server.live.moves())?;
        let o = self.own.swap_remove(at);
        Some((o.stream, o.uses))
    }

    /// The server that this client has a connection of its own to, where it is to stay with that one: it has authenticated itself there, or
    /// `option prefer-last-server` (and `max-keep-alive-queue`) say so.
    fn last_server(&self, be: &ProxyNode) -> Option<usize> {
        if self.own.is_empty() || !(self.stays || be.conf.options.prefer_last_server) {
            return None;
        }
        if be.conf.balance.is_some_and(Algorithm::is_hash) {
            return None;
        }
        let patient = |s: &ServerNode| {
            be.conf.keep_alive_queue.is_none_or(|most| !upstream::full(be, s) || s.live.queued.get() < u64::from(most))
        };
        let mine = |s: &ServerNode| self.own.iter().any(|o| Arc::ptr_eq(&o.server, &s.live));
        be.servers.iter().position(|s| mine(s) && s.live.usable() && patient(s))
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
        slot: &Seat<'_>,
        be: &Arc<ProxyNode>,
        up: &mut Stream,
        upload: &mut Half,
        resbuf: &mut Vec<u8>,
    ) -> Result<usize, NoResponse> {
        let (mut scan, mut last, mut looked) = (Scan::default(), true, 0);
        // While an answer is waited for it is the server's timer that counts, as in HAProxy, even if the client is slow to send the rest.
        let mut sending = !(upload.complete() || upload.failed);
        self.ct.set(None);
        loop {
            if let [b'\r' | b'\n', ..] = resbuf[..] {
                cold_path();
                resbuf.drain(..empty_lines(resbuf));
                scan = Scan::default();
            }
            if !resbuf.is_empty() && scan.complete(resbuf) {
                let n =
                    x.res.parse_response(resbuf, x.req.method(), be.accept(false)).map_err(|_| NoResponse::Garbage)?;
                // A switch of protocols that nobody asked for would let the server speak for the next answers.
                let unasked = || {
                    let shaken = !x.res.websocket || x.res.get("sec-websocket-accept").is_some();
                    !(x.req.upgrade && x.res.upgrade && shaken)
                };
                let room = x.fe.bufsize - x.fe.maxrewrite;
                let large = x.res.weight_at_most() > room && x.res.weight() > room;
                if large || x.res.status == 101 && (unasked() || sending) {
                    cold_path();
                    return Err(NoResponse::Garbage);
                }
                if x.res.status / 100 == 1 && x.res.status != 101 {
                    cold_path();
                    // Said with an interim answer it counts for the final one too.
                    last &= x.res.keep_alive;
                    let mut out = self.t.take_buf();
                    x.res.write_response(None, &mut out);
                    x.fe.adjust_answer(&mut out);
                    self.ct.set(x.fe.conf.timeouts.client);
                    write_all(self.stream, &out, &self.ct).await.map_err(|_| NoResponse::ClientGone)?;
                    self.t.give_buf(out);
                    resbuf.drain(..n);
                    (scan, looked) = (Scan::default(), 0);
                    continue;
                }
                x.res.keep_alive &= last;
                return Ok(n);
            }
            let begun = !resbuf.is_empty() && worth_a_look(resbuf, looked);
            if resbuf.len() >= x.fe.bufsize || begun && x.res.is_hopeless_response(resbuf, be.accept(false)) {
                cold_path();
                return Err(NoResponse::Garbage);
            }
            looked = resbuf.len();
            let (t, stream, st) = (self.t, &mut *self.stream, &self.st);
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
}

/// What came of one try.
pub(super) enum Attempt {
    Done(Next),
    Stale,
    NoConnection(ConnectError),
    /// `retry-on`: another try, the request is still there.
    Again,
    Failed(u16),
}

/// Why there is no response head.
#[derive(Debug)]
pub(super) enum NoResponse {
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
pub(super) fn server_timeout(x: &Exchange<'_>, be: &ProxyNode) -> Option<Duration> {
    set_timeout(x, |s| s.server, be.conf.timeouts.server).or(Some(FOREVER))
}

/// What a rule has set, else what the file says.
pub(super) fn set_timeout(
    x: &Exchange<'_>,
    of: fn(&rewrite::SetTimeouts) -> Option<Option<Duration>>,
    said: Option<Duration>,
) -> Option<Duration> {
    x.timeouts.as_deref().and_then(of).unwrap_or(said)
}

fn count_failure(be: &ProxyNode, server: &ServerNode) {
    server.live.counters.inc(Counter::ResponseErrors);
    be.live.back.inc(Counter::ResponseErrors);
}

/// True if one more try is left to a request that is still here (configuration manual, `retry-on`, `disable-l7-retry`).
fn may_retry(x: &Exchange<'_>, be: &ProxyNode) -> bool {
    !x.no_retry && x.retries < x.most_retries.unwrap_or_else(|| u64::from(be.conf.retries))
}

pub(super) fn no_response(
    x: &mut Exchange<'_>,
    be: &Arc<ProxyNode>,
    server: &ServerNode,
    e: &NoResponse,
    whole: bool,
) -> Attempt {
    let (cause, status) = match e {
        NoResponse::Closed => (Cause::ServerAbort, 502),
        NoResponse::Garbage => (Cause::Denied, 502),
        NoResponse::Timeout => (Cause::ServerTimeout, 504),
        NoResponse::ClientGone | NoResponse::ClientLeft => (Cause::ClientAbort, 400),
        NoResponse::BadRequest => (Cause::Denied, 400),
        NoResponse::Killed(why) => (*why, 503),
    };
    if matches!(e, NoResponse::Closed | NoResponse::Garbage | NoResponse::Timeout) {
        count_failure(be, server);
    }
    x.end(cause, Phase::Headers);
    if matches!(e, NoResponse::ClientLeft | NoResponse::BadRequest) {
        if matches!(e, NoResponse::BadRequest) {
            x.fe.live.front.inc(Counter::RequestErrors);
        }
        // Nobody is there to be answered, or nobody who could be told where an answer begins.
        x.status = status.into();
        return Attempt::Done(Next::Close);
    }
    // A request that was taken whole leaves the connection fit for the next one.
    x.req.keep_alive &= whole;
    Attempt::Failed(status)
}

/// Asks whether the client has closed; bytes it sent stay where they are.
pub(super) fn client_left(s: &mut Stream, cx: &mut std::task::Context<'_>) -> bool {
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
