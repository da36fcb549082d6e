//! `cache-use` and `cache-store` (configuration manual 6): the look into a cache, the answer from it, and what is put there.
use super::Thread;
use super::filters;
use super::outcome::{Cause, Exchange, Phase};
use super::rewrite::{self, Verdict};
use super::session::{Next, Session};
use super::stream::{ReadError, write_all};
use super::upstream::BackendSession;
use crate::config::model::Hints;
use crate::http::caching::{self, Asked, Secondary};
use crate::http::h1::body::{Follower, Framing};
use crate::http::status::is_bare;
use crate::state::cache::{Draft, Entry, Store};
use crate::state::counters::Counter;
use crate::state::snapshot::ProxyNode;
use std::sync::Arc;
use std::time::SystemTime;

/// What a `cache-use` rule found out about a request.
pub struct Use {
    key: Vec<u8>,
    said: Secondary,
    asked: Asked,
}

fn now(t: &Thread) -> u64 {
    let wall = t.wall(t.now()).duration_since(SystemTime::UNIX_EPOCH);
    wall.map_or(0, |d| d.as_secs())
}

/// `http-request cache-use`: looks for an answer, or for what its client will need (`hinted`).
pub fn look(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, name: &str, hinted: bool) {
    let Some(store) = node.caches.get(name) else { return };
    let Some(asked) = caching::asked(&x.req) else { return };
    let (key, said) = (caching::key(&x.req), caching::secondary(&x.req));
    if asked.may_hit {
        let frontend = Arc::ptr_eq(&node.live, &x.fe.live);
        let counters = if frontend { &node.live.front } else { &node.live.back };
        counters.inc(Counter::CacheLookups);
        let found = store.find(&key, &said, now(t));
        if let Some(entry) = found {
            counters.inc(Counter::CacheHits);
            x.hit = Some((store.clone(), entry));
        } else if store.conf.hints != Hints::Off
            && hinted
            && let Some(entry) = store.hints(&key, &said, now(t))
        {
            counters.inc(Counter::CacheHintHits);
            x.early.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
            for h in &entry.hints {
                x.early.extend_from_slice(b"link: ");
                x.early.extend_from_slice(h);
                x.early.extend_from_slice(b"\r\n");
            }
            x.early.extend_from_slice(b"\r\n");
        }
    }
    x.cache = Some(Box::new(Use { key, said, asked }));
}

/// `http-response cache-store`: begins to keep the answer as it is now, or forgets what it makes out of date.
pub fn store(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, name: &str) {
    let (Some(store), Some(u)) = (node.caches.get(name), &x.cache) else { return };
    // What comes from a cache is not put into one; one cache is enough.
    if x.hit.is_some() || x.draft.is_some() || x.res.doubtful {
        return;
    }
    if caching::is_unsafe(x.req.method()) && (200..400).contains(&x.res.status) {
        return store.forget(&u.key);
    }
    if x.req.method() != b"GET" {
        return;
    }
    let conf = &store.conf;
    if conf.hints == Hints::Only {
        let now = now(t);
        if let Some(keep) = caching::keep(&x.res, u.asked.storable, conf.max_age, conf.vary, now) {
            store.keep_hints(&u.key, &x.res, &keep, &u.said, now);
        }
        return;
    }
    if matches!(x.res.framing, Framing::Length(n) if n > conf.max_object) {
        return;
    }
    let now = now(t);
    let Some(keep) = caching::keep(&x.res, u.asked.storable, conf.max_age, conf.vary, now) else { return };
    let draft = store.begin(&u.key, &x.res, &keep, &u.said, now);
    if draft.is_some() {
        x.res.kill("age");
    }
    x.draft = draft.map(Box::new);
}

impl Session<'_> {
    /// Answers from the cache.
    pub(super) async fn serve_hit(
        &mut self,
        x: &mut Exchange<'_>,
        (store, entry): (Arc<Store>, Arc<Entry>),
        used: usize,
        body: &mut Follower,
    ) -> Next {
        x.applet = Some("<CACHE>");
        x.served_here(self.t);
        let be = x.backend().clone();
        let session = (!Arc::ptr_eq(&be, &x.fe)).then(|| BackendSession::new(&*be));
        if session.is_some() {
            be.live.back.inc(Counter::Requests);
        } else {
            x.fe.live.front.inc(Counter::Intercepted);
        }
        filters::request(self.t, x, &be);
        let now = now(self.t);
        x.res.clone_from(&entry.head);
        let age = entry.age(now).to_string();
        x.res.add("age", age.as_bytes());
        let chunked = entry.trailer.is_some();
        // What ended with its connection has a length now.
        if x.res.get("content-length").is_none() && !chunked {
            x.res.add("content-length", entry.body.len().to_string().as_bytes());
        }
        if caching::not_modified(&x.req, &entry.head, entry.stored) {
            x.res.set_status(304, None);
        }
        let head_only = x.is_head() || x.res.status == 304;
        x.res.framing = match (head_only, chunked) {
            (true, _) => Framing::None,
            (_, true) => Framing::Chunked,
            _ => Framing::Length(entry.body.len() as u64),
        };
        x.status = x.res.status.into();
        x.hit = Some((store, entry.clone()));
        x.end(Cause::Local, Phase::Request);
        filters::response(self.t, x, &be);
        for node in [&be, &x.fe.clone()] {
            let mut verdict = rewrite::response_rules(self.t, x, node, 0);
            loop {
                let next = match verdict {
                    // All of the body is there.
                    Verdict::Wait { next, .. } => next,
                    Verdict::Pause { next, time } => {
                        if let Err(cause) = self.pause(x, time, None).await {
                            x.end(cause, Phase::Headers);
                            return Next::Close;
                        }
                        next
                    }
                    _ => break,
                };
                verdict = rewrite::response_rules(self.t, x, node, next);
            }
            match verdict {
                Verdict::Failed(cause) => {
                    x.end(cause, Phase::Headers);
                    return self.fail(x, 500, used, body).await;
                }
                Verdict::Answer(m, _) => return self.respond(x, m, used, body).await,
                Verdict::Drop => return Next::Drop,
                _ => {}
            }
            if Arc::ptr_eq(&be, &x.fe) {
                break;
            }
        }
        if rewrite::wants_after(x) && !rewrite::after_response(self.t, x) {
            x.end(Cause::Denied, Phase::Headers);
            return self.fail(x, 500, used, body).await;
        }
        // A rule may have given it another status.
        let untrue = head_only && !x.is_head() && !is_bare(x.res.status) || x.res.status / 100 == 1;
        let head_only = head_only || is_bare(x.res.status);
        if head_only {
            (x.res.framing, x.coding.response) = (Framing::None, None);
        }
        filters::mark_response(x);
        x.bytes_out = x.res.accounted();
        let drained = self.take_body(used, body);
        self.linger |= !drained;
        let keep = x.req.keep_alive && !x.res.says_close() && drained && !untrue && !self.closing(x);
        let connection = match (keep, x.res.minor.min(x.req.minor)) {
            (false, _) if x.res.minor == 0 => None,
            (false, _) => Some("close"),
            (true, 0) => Some("keep-alive"),
            _ => None,
        };
        let mut out = self.t.take_buf();
        x.res.write_response(connection, &mut out);
        x.fe.adjust_answer(&mut out);
        let written = if head_only {
            self.ct.set(x.fe.conf.timeouts.client);
            write_all(self.stream, &out, &self.ct).await
        } else {
            x.bytes_out += entry.body.len() as u64;
            self.write_content(x, &entry, &mut out).await
        };
        self.t.give_buf(out);
        match written {
            Ok(()) if keep => Next::Again,
            Ok(()) => Next::Close,
            Err(e) => {
                let timeout = matches!(e, ReadError::Timeout);
                x.end(if timeout { Cause::ClientTimeout } else { Cause::ClientAbort }, Phase::Data);
                Next::Close
            }
        }
    }

    /// Writes what is in `out` and the kept content behind it, piece by piece: no client holds a copy of it all, and the client's timer
    /// begins anew with each piece.
    async fn write_content(&mut self, x: &Exchange<'_>, entry: &Entry, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut coded = x.coding.response.map(|c| filters::Recoded::new(self.t, c));
        let mut follower = Follower::new(Framing::Length(entry.body.len() as u64));
        let mut rest = &entry.body[..];
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            match (&mut coded, &entry.trailer) {
                // In memory, and of the length that was just said: it cannot be broken.
                (Some(r), _) => drop(r.pass(&mut follower, piece, out)),
                (None, Some(trailer)) => {
                    if !piece.is_empty() {
                        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                        out.extend_from_slice(piece);
                        out.extend_from_slice(b"\r\n");
                    }
                    if after.is_empty() {
                        out.extend_from_slice(b"0\r\n");
                        out.extend_from_slice(if trailer.is_empty() { b"\r\n" } else { trailer });
                    }
                }
                (None, None) => out.extend_from_slice(piece),
            }
            self.ct.set(x.fe.conf.timeouts.client);
            write_all(self.stream, out, &self.ct).await?;
            out.clear();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        if let Some(r) = &coded {
            filters::count(self.t, x, r, true);
        }
        Ok(())
    }
}

/// So much of a kept answer is written at a time.
const PIECE: usize = 16 * 1024;

/// Keeps what passes, in a box that travels with the body.
pub type Tap = Box<Draft>;
