//! What becomes of bodies on their way: they are coded (manual, `compression`) or slowed down (`filter bwlim-in`, `bwlim-out`).
use super::Thread;
use super::caching::Tap;
use super::outcome::Exchange;
use super::wheel::Timer;
use crate::base::pace::Pace;
use crate::config::model::{Compression, Filter};
use crate::http::coding::{self, Coding, Encoder, Wanted};
use crate::http::h1::body::{BadChunk, Follower, Framing};
use crate::state::counters::Counter;
use crate::state::snapshot::ProxyNode;
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::time::Duration;

/// A body that is written anew, in chunks, or kept while it passes.
pub struct Recoded {
    encoder: Option<Encoder>,
    /// The cache gets it as it came.
    draft: Option<Tap>,
    /// Its trailer section, once it is whole.
    trailer: Option<Vec<u8>>,
    /// Bytes of content before and after.
    pub plain: u64,
    pub coded: u64,
}

impl Recoded {
    pub fn new(t: &Thread, coding: Coding) -> Self {
        Self::of(t, Some(coding), None)
    }

    pub fn of(t: &Thread, coding: Option<Coding>, draft: Option<Tap>) -> Self {
        Self { encoder: coding.map(|c| Encoder::new(c, &t.coders)), draft, trailer: None, plain: 0, coded: 0 }
    }

    /// The body has come to its end: what the cache got is kept.
    pub fn keep(&mut self) {
        if let Some(d) = self.draft.take() {
            d.finish(self.trailer.take());
        }
    }

    /// As [`Follower::pass`]: what of `bytes` belongs to the body goes to `out`, coded, with its end if that is there.
    pub fn pass(&mut self, f: &mut Follower, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let (encoder, draft, mut any) = (&mut self.encoder, &mut self.draft, 0);
        let used = f.content(bytes, |part| {
            if draft.as_mut().is_some_and(|d| !d.push(part)) {
                *draft = None;
            }
            if let Some(e) = encoder {
                e.write(part);
            }
            any += part.len() as u64;
        })?;
        self.plain += any;
        if self.encoder.is_none() {
            let trailer = f.take_trailer();
            f.copy(&bytes[..used], out);
            out.extend_from_slice(&trailer);
            if f.done() && f.is_chunked() {
                self.trailer = Some(trailer);
            }
            return Ok(used);
        }
        if any > 0 || f.done() {
            self.chunk(f.done(), out);
        }
        if f.done() {
            out.extend_from_slice(b"0\r\n");
            let trailer = f.take_trailer();
            out.extend_from_slice(if trailer.is_empty() { b"\r\n" } else { &trailer });
            self.trailer = f.is_chunked().then_some(trailer);
        }
        Ok(used)
    }

    fn chunk(&mut self, last: bool, out: &mut Vec<u8>) {
        let Some(e) = &mut self.encoder else { return };
        e.take(last, |data| {
            if !data.is_empty() {
                self.coded += data.len() as u64;
                // Writing into memory cannot fail.
                let _ = write!(out, "{:x}\r\n", data.len());
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
        });
    }
}

/// Bytes of a body that have to wait, and the timer that ends the wait.
pub struct Paced {
    pace: Pace,
    timer: Timer,
    /// Bytes that may pass and have not been written yet.
    granted: usize,
}

/// What slows one direction of an exchange down, if rules say so: towards the server (0), or towards the client (1).
pub fn paced(t: &Thread, x: &Exchange<'_>, direction: usize) -> Option<Box<Paced>> {
    x.pace[direction].as_ref().map(|p| Box::new(Paced::new(t, (**p).clone())))
}

impl Paced {
    pub fn new(t: &Thread, pace: Pace) -> Self {
        Self { pace, timer: t.wheel.timer(), granted: 0 }
    }

    /// How many of `len` bytes may pass now; if not all of them, the task is woken when more may.
    pub fn allow(&mut self, cx: &mut Context<'_>, t: &Thread, len: usize, last: bool) -> usize {
        if self.granted > 0 {
            return self.granted.min(len);
        }
        let now = t.wheel.millis();
        let (n, until) = self.pace.allow(now, len as u64, last);
        if let Some(until) = until {
            self.timer.set(Some(Duration::from_millis(until.saturating_sub(now).max(1))));
            if self.timer.expired(cx) {
                cx.waker().wake_by_ref();
            }
        }
        self.granted = usize::try_from(n).unwrap_or(len);
        self.granted
    }

    /// So many of them have gone.
    pub fn written(&mut self, n: usize) {
        self.granted = self.granted.saturating_sub(n);
    }
}

/// What backend and frontend say together: each word is the backend's, where it has it.
struct Settings<'a> {
    back: Option<&'a Compression>,
    front: Option<&'a Compression>,
}

impl<'a> Settings<'a> {
    fn of(be: &'a ProxyNode, fe: &'a ProxyNode) -> Option<Self> {
        let s = Self { back: be.conf.compression.as_deref(), front: fe.conf.compression.as_deref() };
        (s.back.is_some() || s.front.is_some()).then_some(s)
    }
    fn both(&self) -> impl Iterator<Item = &'a Compression> {
        self.back.into_iter().chain(self.front)
    }
    fn list<T>(&self, of: fn(&Compression) -> &Vec<T>) -> &'a [T] {
        self.both().map(of).find(|l| !l.is_empty()).map_or(&[], |l| l)
    }
    fn size(&self, of: fn(&Compression) -> u64) -> u64 {
        self.both().map(of).find(|n| *n > 0).unwrap_or(0)
    }
    fn any(&self, of: fn(&Compression) -> bool) -> bool {
        self.both().any(of)
    }
}

fn filtered(be: &ProxyNode, fe: &ProxyNode, filter: &Filter) -> bool {
    [be, fe].iter().any(|p| p.conf.filters.contains(filter))
}

fn length(framing: Framing) -> Option<u64> {
    match framing {
        Framing::None => Some(0),
        Framing::Length(n) => Some(n),
        Framing::Chunked | Framing::UntilClose => None,
    }
}

/// `maxcomprate` leaves room for more.
fn has_room(t: &Thread) -> bool {
    let most = t.shared.live.limits.compression.get();
    most == 0 || t.shared.live.comp_rate_in.get() <= most
}

/// Once all rules of the request are through: what of its answer will be coded, and whether it is coded itself.
pub fn request(t: &Thread, x: &mut Exchange<'_>, be: &ProxyNode) {
    if Settings::of(be, &x.fe).is_none() {
        return;
    }
    let fe = x.fe.clone();
    let Some(s) = Settings::of(be, &fe) else { return };
    if s.any(|c| c.responses) && filtered(be, &fe, &Filter::CompressResponses) {
        let chosen = coding::choose(s.list(|c| &c.algos), &x.req);
        x.coding.wanted = chosen.map(|c| c.0);
        if chosen.is_some_and(|c| c.1) && s.any(|c| c.offload) {
            x.req.kill("accept-encoding");
        }
    }
    if s.any(|c| c.requests) && filtered(be, &fe, &Filter::CompressRequests) {
        let wanted = Wanted { types: s.list(|c| &c.types_request), min: s.size(|c| c.min_request) };
        let algo = s.both().find_map(|c| c.algo_request);
        let framing = x.req.framing;
        if let Some(algo) = algo.filter(|_| framing != Framing::None)
            && coding::request_may(&x.req, length(framing), &wanted)
            && has_room(t)
        {
            coding::mark(&mut x.req, algo, framing == Framing::Chunked);
            x.coding.request = Some(algo);
        }
    }
}

/// Before the rules of the response: whether it will be coded.
pub fn response(t: &Thread, x: &mut Exchange<'_>, be: &ProxyNode) {
    let Some(coding) = x.coding.wanted else { return };
    let fe = x.fe.clone();
    let Some(s) = Settings::of(be, &fe) else { return };
    let wanted = Wanted { types: s.list(|c| &c.types), min: s.size(|c| c.min) };
    let framed = matches!(x.res.framing, Framing::Length(1..) | Framing::Chunked);
    let may = coding::response_may(&x.res, x.is_head(), length(x.res.framing), &wanted);
    if framed && x.req.minor > 0 && may && has_room(t) {
        x.coding.response = Some(coding);
    }
}

/// Behind them: the head says so.
pub fn mark_response(x: &mut Exchange<'_>) {
    if let Some(c) = x.coding.response {
        let chunked = x.res.framing == Framing::Chunked;
        coding::mark(&mut x.res, c, chunked);
    }
}

/// Counts what was coded. `whole`: to its end.
pub fn count(t: &Thread, x: &Exchange<'_>, r: &Recoded, whole: bool) {
    if r.encoder.is_none() {
        return;
    }
    let be = x.backend();
    for c in [&x.fe.live.front, &be.live.back] {
        if x.coding.response == Some(Coding::Identity) {
            c.add(Counter::CompressionBypassed, r.plain);
        } else {
            c.add(Counter::CompressionIn, r.plain);
            c.add(Counter::CompressionOut, r.coded);
        }
        if whole {
            c.inc(Counter::CompressedResponses);
        }
    }
    count_rate(t, r);
}

/// Counts for the process, in both directions.
pub fn count_rate(t: &Thread, r: &Recoded) {
    t.shared.live.comp_in.fetch_add(r.plain, Relaxed);
    t.shared.live.comp_out.fetch_add(r.coded, Relaxed);
}

/// The codings of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codings {
    /// The client would have the answer so.
    pub wanted: Option<Coding>,
    pub request: Option<Coding>,
    pub response: Option<Coding>,
}
