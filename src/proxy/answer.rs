//! An answer on its way to the client: rules, what of it is wanted, and both bodies.
use super::filters::{self, Recoded};
use super::forward::{Attempt, Link, NoResponse, Own, no_response, server_timeout, set_timeout};
use super::outcome::{Cause, Exchange, Phase};
use super::persist;
use super::rewrite::{self, Verdict};
use super::session::{Next, Session};
use super::stream::{Half, HalfError, ReadError, Stream, write_all};
use super::tcp::{self, Passed};
use super::upstream::Seat;
use crate::config::model::{ConnMode, Reuse};
use crate::http::h1::body::{Follower, Framing};
use crate::http::h1::head::Head;
use crate::http::status::is_bare;
use crate::rules::action::Refusal;
use crate::rules::logformat::Step;
use crate::rules::sample::HeadSide;
use crate::state::counters::Counter;
use crate::state::snapshot::ProxyNode;
use std::future::poll_fn;
use std::hint::cold_path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

impl Session<'_> {
    /// `http-response wait-for-body`: until the answer is whole, has `at_least` bytes (0: all), or fills the buffer. What a server that goes away has
    /// left behind is an answer too.
    async fn wait_for_answer(
        &mut self,
        x: &Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Seat<'_>,
        (up, upload): (&mut Stream, &mut Half),
        (resbuf, used): (&mut Vec<u8>, usize),
        (time, at_least): (Duration, usize),
    ) -> Result<(), NoResponse> {
        let room = x.fe.bufsize - x.fe.maxrewrite;
        let timer = self.t.wheel.timer();
        timer.set(Some(time).filter(|t| !t.is_zero()));
        let mut f = Follower::new(x.res.framing);
        let mut at = used;
        let mut sending = !(upload.complete() || upload.failed);
        loop {
            at += f.feed(&resbuf[at..]).map_err(|_| NoResponse::Garbage)?;
            let enough = at_least > 0 && f.payload() >= at_least as u64;
            if f.done() || enough || resbuf.len() - used + x.res.weight() >= room {
                return Ok(());
            }
            let (t, stream, st) = (self.t, &mut *self.stream, &self.st);
            let server_timeout = server_timeout(x, be);
            st.set(server_timeout);
            let more = poll_fn(|cx| {
                if sending {
                    let mut moved = [false; 2];
                    match upload.poll(cx, stream, up, t, &mut moved) {
                        Poll::Ready(Ok(()) | Err(HalfError::Sink)) => sending = false,
                        Poll::Ready(Err(HalfError::Source)) => return Poll::Ready(Err(NoResponse::ClientLeft)),
                        Poll::Ready(Err(HalfError::BadChunk)) => return Poll::Ready(Err(NoResponse::BadRequest)),
                        Poll::Pending => {}
                    }
                    if moved[1] {
                        st.set(server_timeout);
                    }
                }
                match t.poll_read_more(cx, up, resbuf, &timer) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(ReadError::Io(_))) => Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(_)) => Poll::Ready(Ok(true)),
                    Poll::Ready(Err(ReadError::Timeout)) => Poll::Ready(Err(NoResponse::Timeout)),
                    Poll::Pending if st.expired(cx) => Poll::Ready(Err(NoResponse::Timeout)),
                    Poll::Pending => match slot.over() {
                        Some(why) => Poll::Ready(Err(NoResponse::Killed(why))),
                        None => Poll::Pending,
                    },
                }
            });
            if !more.await? {
                return Ok(());
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // One call, and every argument is a different owner of part of the exchange.
    pub(super) async fn relay_response(
        &mut self,
        x: &mut Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Seat<'_>,
        mode: ConnMode,
        (mut up, link): (Stream, Link),
        upload: &mut Half,
        resbuf: &mut Vec<u8>,
        res_used: usize,
    ) -> Next {
        let server = slot.server();
        x.status = x.res.status.into();
        // A chunked message has an end of its own, which HAProxy counts as one.
        x.bytes_out = x.res.accounted() + u64::from(x.res.framing == Framing::Chunked);
        let personal = matches!(x.res.status, 401 | 407) && authenticates_connection(&x.res);
        self.stays |= personal;
        let tunnel = x.res.status == 101 || (x.req.method() == b"CONNECT" && x.res.status / 100 == 2);
        if !x.fe.conf.captures.response.is_empty() {
            rewrite::capture_headers(x, HeadSide::Response);
        }
        let mut server_ends = false;
        if !be.conf.tcp_response.is_empty() {
            cold_path();
            // Without a delay these rules look as soon as the server is connected, when nothing has come yet.
            let early = be.conf.response_delay.is_none();
            let early = early.then(|| (std::mem::take(&mut x.res), std::mem::replace(&mut x.status, -1)));
            let verdict = tcp::allowed(self.t, x, be, &be.conf.tcp_response);
            if let Some(what) = early {
                (x.res, x.status) = what;
            }
            server_ends = verdict == Ok(Passed::Closed);
            if let Err(how) = verdict {
                x.count_denied_response();
                x.end(Cause::Denied, Phase::Data);
                return if how == Refusal::SilentDrop { Next::Drop } else { Next::Close };
            }
        }
        let bare = x.req.method() == b"HEAD" || is_bare(x.res.status);
        filters::response(self.t, x, be);
        x.buffered = 0;
        let front = (!x.fe.conf.http_response.is_empty() && !Arc::ptr_eq(be, &x.fe)).then(|| x.fe.clone());
        for node in [Some(be), front.as_ref()].into_iter().flatten() {
            x.buffered = x.buffered.max(buffered(x, resbuf, res_used));
            let mut verdict = rewrite::response_rules(self.t, x, node, 0);
            loop {
                let (next, time, at_least) = match verdict {
                    Verdict::Wait { next, time, at_least } => (next, time, at_least),
                    Verdict::Pause { next, time } => {
                        cold_path();
                        if let Err(cause) = self.pause(x, time, Some(slot)).await {
                            x.end(cause, Phase::Headers);
                            return Next::Close;
                        }
                        verdict = rewrite::response_rules(self.t, x, node, next);
                        continue;
                    }
                    _ => break,
                };
                cold_path();
                let wanted = (time, at_least);
                let waited =
                    self.wait_for_answer(x, be, slot, (&mut up, &mut *upload), (&mut *resbuf, res_used), wanted);
                let waited = waited.await;
                // What came behind the request's end belongs to the next one.
                self.inbuf.append(&mut upload.rest);
                if let Err(e) = waited {
                    let whole = upload.complete();
                    self.linger |= !whole;
                    return match no_response(x, be, server, &e, whole) {
                        Attempt::Done(next) => next,
                        Attempt::Failed(status) => self.fail(x, status, 0, &mut Follower::new(Framing::None)).await,
                        // It gives no other.
                        _ => Next::Close,
                    };
                }
                x.buffered = x.buffered.max(buffered(x, resbuf, res_used));
                verdict = rewrite::response_rules(self.t, x, node, next);
            }
            if let Verdict::Failed(cause) = verdict {
                cold_path();
                return self.no_room(x, cause, upload.complete()).await;
            }
            if !matches!(verdict, Verdict::Go) {
                cold_path();
                x.count_denied_response();
                x.end(Cause::Denied, Phase::Headers);
                x.req.keep_alive = false;
                self.linger |= !upload.complete();
            }
            match verdict {
                Verdict::Answer(m, _) => return self.respond(x, m, 0, &mut Follower::new(Framing::None)).await,
                Verdict::Drop => return Next::Drop,
                // Response rules give no other.
                _ => {}
            }
        }
        rewrite::capture_cookie(x, HeadSide::Response);
        if let Some(c) = &be.conf.cookie {
            persist::answer_cookie(x, be, c, server);
        }
        if rewrite::wants_after(x) && !rewrite::after_response(self.t, x) {
            return self.no_room(x, Cause::Denied, upload.complete()).await;
        }
        if x.res.status / 100 == 1 && !tunnel {
            cold_path();
            // A rule made it so. The client would wait for another answer, which nobody has.
            x.end(Cause::Internal, Phase::Data);
            self.linger |= !upload.complete();
            if x.res.status == 101 {
                x.bytes_out = 0;
            } else {
                let mut out = self.t.take_buf();
                x.res.write_response(Some("close"), &mut out);
                x.fe.adjust_answer(&mut out);
                self.ct.set(x.fe.conf.timeouts.client);
                let _ = write_all(self.stream, &out, &self.ct).await;
                self.t.give_buf(out);
            }
            return Next::Close;
        }
        // The server may send a body that the client does not expect: its request was changed on the way, or the status was.
        let mute = !tunnel && x.res.framing != Framing::None && (x.is_head() || is_bare(x.res.status));
        // Its head speaks of content that does not come: the client's method was changed on the way, or a status that has none.
        let untrue = bare && !tunnel && !x.is_head() && !is_bare(x.res.status);
        let mut unframed = untrue;
        if mute {
            cold_path();
            (x.coding.response, x.draft, x.pace[1]) = (None, None, None);
            unframed = x.res.status == 204 && x.res.kill("transfer-encoding");
        }
        filters::mark_response(x);
        let until_close = x.res.framing == Framing::UntilClose;
        // The rest of a request that was answered early is still passed on; only what nobody takes ends the connection.
        let whole = !upload.failed;
        let server_keep =
            x.res.keep_alive && !x.req.doubtful && mode == ConnMode::KeepAlive && whole && !until_close && !tunnel;
        let client_keep = x.req.keep_alive
            && !x.res.says_close()
            && !x.res.doubtful
            && whole
            && !until_close
            && !tunnel
            && !unframed
            && !self.closing(x);
        let connection = match (client_keep, tunnel) {
            (_, true) => None,
            // The version says it.
            (false, _) if x.res.minor == 0 => None,
            (false, _) => Some("close"),
            (true, _) if x.req.minor == 0 || x.res.minor == 0 => Some("keep-alive"),
            _ => None,
        };
        let mut follower = Follower::new(if tunnel { Framing::UntilClose } else { x.res.framing });
        if x.fe.conf.options.drop_response_trailers {
            follower.drop_trailer();
        }
        let mut out = self.t.take_buf();
        x.res.write_response(connection, &mut out);
        x.fe.adjust_answer(&mut out);
        let draft = x.draft.take();
        let mut recoded = (x.coding.response.is_some() || draft.is_some())
            .then(|| Box::new(Recoded::of(self.t, x.coding.response, draft)));
        let paced = filters::paced(self.t, x, 1);
        let mut held = Vec::new();
        let to = if paced.is_some() { &mut held } else { &mut out };
        let passed = match &mut recoded {
            Some(r) => r.pass(&mut follower, &resbuf[res_used..], to),
            None if mute => follower.feed(&resbuf[res_used..]),
            None => follower.pass(&resbuf[res_used..], to),
        };
        let Ok(n) = passed else {
            cold_path();
            self.t.give_buf(out);
            x.responded = None;
            x.req.keep_alive &= upload.complete();
            self.linger |= !upload.complete();
            x.end(Cause::Denied, Phase::Headers);
            be.live.back.inc(Counter::ResponseErrors);
            server.live.counters.inc(Counter::ResponseErrors);
            return self.fail(x, 502, 0, &mut Follower::new(Framing::None)).await;
        };
        let extra = resbuf.len() > res_used + n;
        self.t.give_buf(std::mem::take(resbuf));
        self.ct.set(x.fe.conf.timeouts.client);
        x.reached(self.t, Step::Response);
        let base = x.bytes_out;
        x.wire[2] = (res_used + n) as u64;
        x.wire[3] = out.len() as u64;
        let written = write_all(self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        x.bytes_out = base + follower.payload();
        if let Err(e) = written {
            cold_path();
            x.end(if matches!(e, ReadError::Timeout) { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Data);
            return Next::Close;
        }
        if server_ends && (tunnel || !follower.done()) {
            cold_path();
            // What was there of the answer is out; its server is not listened to any longer.
            up.cut();
            x.end(Cause::ServerAbort, Phase::Data);
            return Next::Close;
        }
        if tunnel {
            cold_path();
            *upload = Half::new(Follower::new(Framing::UntilClose));
            let rest = std::mem::take(&mut self.inbuf);
            upload.preload(&rest);
        }
        let mut quiet = !extra;
        if !follower.done() || !held.is_empty() || !(upload.complete() || upload.failed) {
            let mut down = Half::new(follower);
            (down.recoded, down.paced, down.mute) = (recoded.take(), paced, mute);
            if !held.is_empty() {
                down.preload(&held);
            }
            let ended = self.relay(x, be, slot, &mut up, upload, &mut down, tunnel).await;
            x.bytes_out = base + down.follower.payload();
            x.wire[2] += down.bytes;
            x.wire[3] += if mute { 0 } else { down.bytes };
            x.spliced[1] = down.spliced;
            recoded = down.recoded.take();
            if let (Some(r), true) = (&recoded, ended.is_err()) {
                filters::count(self.t, x, r, false);
            }
            quiet &= down.rest.is_empty();
            self.inbuf.append(&mut upload.rest);
            match ended {
                Err((cause, phase)) => {
                    x.wire[0] += upload.bytes;
                    x.wire[1] += upload.bytes;
                    x.end(cause, phase);
                    return Next::Close;
                }
                Ok(left) if left => x.end(Cause::ClientAbort, Phase::Last),
                Ok(_) => {}
            }
        }
        x.wire[0] += upload.bytes;
        x.wire[1] += upload.bytes;
        x.spliced[0] = upload.spliced;
        if let Some(r) = &upload.recoded {
            filters::count_rate(self.t, r);
        }
        if let Some(r) = &mut recoded {
            filters::count(self.t, x, r, true);
            r.keep();
        }
        let uses = link.uses.saturating_add(1);
        let worn = server.conf.max_reuse.is_some_and(|most| uses > most);
        if server_keep && !worn && !server_ends && quiet && upload.complete() {
            let Link { like, moves, own, .. } = link;
            if be.conf.reuse == Reuse::Never || personal || own {
                let most = x.fe.conf.session_conns;
                if self.own.len() >= most && most > 0 {
                    self.own.remove(0);
                }
                // Nobody will ask for one that has told of this request.
                if most > 0 && !server.conf.proxy_options.unique_id {
                    self.own.push(Own { key: like.key, moves, stream: up, uses, server: server.live.clone() });
                } else {
                    up.cut();
                }
            } else if !server.conf.proxy_options.unique_id && (client_keep || !like.personal) {
                self.t.pool_give(like, server, up, moves, uses);
            } else {
                up.cut();
            }
        } else if quiet && upload.complete() && !tunnel && x.res.framing != Framing::UntilClose {
            up.cut();
        }
        self.linger |= !upload.complete();
        if client_keep && upload.complete() { Next::Again } else { Next::Close }
    }

    /// A rule's rewrite found no room: a page in the answer's place. `whole`: the request has been read to its end, so that another may follow.
    async fn no_room(&mut self, x: &mut Exchange<'_>, cause: Cause, whole: bool) -> Next {
        x.end(cause, Phase::Headers);
        x.req.keep_alive &= whole;
        self.linger |= !whole;
        self.fail(x, 500, 0, &mut Follower::new(Framing::None)).await
    }

    /// Both directions at once, in one task. True: the client left before it had sent everything, but behind the whole answer.
    #[allow(clippy::too_many_arguments)] // As above.
    async fn relay(
        &mut self,
        x: &Exchange<'_>,
        be: &Arc<ProxyNode>,
        slot: &Seat<'_>,
        up: &mut Stream,
        upload: &mut Half,
        down: &mut Half,
        tunnel: bool,
    ) -> Result<bool, (Cause, Phase)> {
        let (fe, t) = (&x.fe, self.t);
        let tunnel_timeout = set_timeout(x, |s| s.tunnel, be.conf.timeouts.tunnel).filter(|_| tunnel);
        let client_timeout = tunnel_timeout.or(set_timeout(x, |s| s.client, fe.conf.timeouts.client));
        let server_timeout = tunnel_timeout.or(server_timeout(x, be));
        let (client_fin, server_fin) = (fe.conf.timeouts.client_fin, be.conf.timeouts.server_fin);
        self.ct.set(client_timeout);
        self.st.set(server_timeout);
        let mut up_done = upload.complete() || upload.failed;
        let mut down_done = down.complete();
        let (stream, ct, st) = (&mut *self.stream, &self.ct, &self.st);
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
                    Poll::Ready(Err(HalfError::Source)) => return Poll::Ready(Ok(!tunnel)),
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
                return Poll::Ready(Ok(false));
            }
            if moved[0] || moved_up[1] && !be.conf.options.independent {
                st.set(if down_done && tunnel { server_fin.or(server_timeout) } else { server_timeout });
            }
            if moved[1] && !fe.conf.options.independent || moved_up[0] {
                ct.set(if up_done && tunnel { client_fin.or(client_timeout) } else { client_timeout });
            }
            if let Some(why) = slot.over() {
                return Poll::Ready(Err((why, Phase::Data)));
            }
            if down_done && !tunnel {
                // Answered; the rest of the request ends when it ends, or with whoever is late.
                let late = if upload.waits_for_sink() { st.expired(cx) } else { ct.expired(cx) };
                return if late { Poll::Ready(Ok(false)) } else { Poll::Pending };
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

/// How much of the answer's body is there.
fn buffered(x: &Exchange<'_>, resbuf: &[u8], used: usize) -> usize {
    let there = if x.res.framing == Framing::None { 0 } else { resbuf.len() - used };
    x.res.beside(there, x.fe.bufsize - x.fe.maxrewrite)
}

/// NTLM and Negotiate (RFC 4559) authenticate the connection, not the request: whoever else used it would be taken for this client. Known, as in
/// HAProxy, by the server's question.
fn authenticates_connection(res: &Head) -> bool {
    let named = |n: &[u8]| n == b"www-authenticate" || n == b"proxy-authenticate";
    let schemes = res.headers().filter(|(n, _)| named(n)).flat_map(|(_, v)| crate::rules::sample::split_list(v));
    let mut words = schemes.map(|v| v.split(u8::is_ascii_whitespace).next().unwrap_or_default());
    words.any(|w| w.eq_ignore_ascii_case(b"ntlm") || w.eq_ignore_ascii_case(b"negotiate"))
}
