//! `cache-use` and `cache-store` (configuration manual 6): the look into a cache, the answer from it, and what is put there.
use super::Thread;
use super::filters;
use super::outcome::{Cause, Exchange};
use super::rewrite::{self, Verdict};
use super::session::{Next, Session};
use super::stream::write_all;
use super::upstream::BackendSession;
use crate::http::caching::{self, Asked, Secondary};
use crate::http::h1::body::{Follower, Framing};
use crate::state::cache::{Draft, Entry, Store};
use crate::state::counters::Counter;
use crate::state::snapshot::ProxyNode;
use std::sync::Arc;
use std::time::SystemTime;

/// What a `cache-use` rule found out about a request.
pub struct Use {
    key: Vec<u8>,
    said: Option<Secondary>,
    asked: Asked,
}

fn now(t: &Thread) -> u64 {
    let wall = t.wall(t.now()).duration_since(SystemTime::UNIX_EPOCH);
    wall.map_or(0, |d| d.as_secs())
}

/// `http-request cache-use`: looks for an answer.
pub fn look(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, name: &str) {
    let Some(store) = node.caches.get(name) else { return };
    let Some(asked) = caching::asked(&x.req) else { return };
    let (key, said) = (caching::key(&x.req), caching::secondary(&x.req));
    if asked.may_hit {
        let frontend = Arc::ptr_eq(&node.live, &x.fe.live);
        let counters = if frontend { &node.live.front } else { &node.live.back };
        counters.inc(Counter::CacheLookups);
        let found = said.as_ref().and_then(|s| store.find(&key, s, now(t)));
        if let Some(entry) = found {
            counters.inc(Counter::CacheHits);
            x.hit = Some((store.clone(), entry));
        }
    }
    x.cache = Some(Box::new(Use { key, said, asked }));
}

/// `http-response cache-store`: begins to keep the answer as it is now, or forgets what it makes out of date.
pub fn store(t: &Thread, x: &mut Exchange<'_>, node: &ProxyNode, name: &str) {
    let (Some(store), Some(u)) = (node.caches.get(name), &x.cache) else { return };
    if x.hit.is_some() {
        return;
    }
    if caching::is_unsafe(x.req.method()) && (200..400).contains(&x.res.status) {
        return store.forget(&u.key);
    }
    if x.req.method() != b"GET" {
        return;
    }
    let conf = &store.conf;
    if matches!(x.res.framing, Framing::Length(n) if n > conf.max_object) {
        return;
    }
    let now = now(t);
    let Some(keep) = caching::keep(&x.res, u.asked.storable, conf.max_age, conf.vary, now) else { return };
    let Some(said) = &u.said else { return };
    let draft = store.begin(&u.key, &x.res, &keep, said, now);
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
        let session = (!Arc::ptr_eq(&be, &x.fe)).then(|| BackendSession::new(&be));
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
        let head_only = x.req.method() == b"HEAD" || x.res.status == 304;
        x.res.framing = match (head_only, chunked) {
            (true, _) => Framing::None,
            (_, true) => Framing::Chunked,
            _ => Framing::Length(entry.body.len() as u64),
        };
        x.status = x.res.status.into();
        x.hit = Some((store, entry.clone()));
        x.end(Cause::Local, super::outcome::Phase::Request);
        filters::response(self.t, x, &be);
        for node in [&be, &x.fe.clone()] {
            match rewrite::response_rules(self.t, x, node) {
                Verdict::Answer(m, _) => return self.respond(x, m, used, body).await,
                Verdict::Drop => return Next::Drop,
                _ => {}
            }
            if Arc::ptr_eq(&be, &x.fe) {
                break;
            }
        }
        if rewrite::wants_after(x) {
            rewrite::after_response(x);
        }
        filters::mark_response(x);
        x.bytes_out = x.res.accounted();
        let drained = self.take_body(used, body);
        self.linger |= !drained;
        let keep = x.req.keep_alive && !x.res.says_close() && drained && !self.closing(x);
        let connection = match (keep, x.req.minor) {
            (false, _) => Some("close"),
            (true, 0) => Some("keep-alive"),
            _ => None,
        };
        let mut out = self.t.take_buf();
        x.res.write_response(connection, &mut out);
        if !head_only {
            x.bytes_out += entry.body.len() as u64;
            let mut coded = x.coding.response.map(filters::Recoded::new);
            match &mut coded {
                Some(r) => {
                    // In memory, and of the length that was just said: it cannot be broken.
                    let _ = r.pass(&mut Follower::new(Framing::Length(entry.body.len() as u64)), &entry.body, &mut out);
                    filters::count(self.t, x, r, true);
                }
                None if chunked => {
                    if !entry.body.is_empty() {
                        out.extend_from_slice(format!("{:x}\r\n", entry.body.len()).as_bytes());
                        out.extend_from_slice(&entry.body);
                        out.extend_from_slice(b"\r\n");
                    }
                    out.extend_from_slice(b"0\r\n");
                    let trailer = entry.trailer.as_deref().filter(|t| !t.is_empty());
                    out.extend_from_slice(trailer.unwrap_or(b"\r\n"));
                }
                None => out.extend_from_slice(&entry.body),
            }
        }
        self.ct.set(x.fe.conf.timeouts.client);
        let r = write_all(self.stream, &out, &self.ct).await;
        self.t.give_buf(out);
        if keep && r.is_ok() { Next::Again } else { Next::Close }
    }
}

/// Keeps what passes, in a box that travels with the body.
pub type Tap = Box<Draft>;
