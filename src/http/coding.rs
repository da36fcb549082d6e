//! Content codings (RFC 9110, 8.4 and 12.5.3) as the manual's `compression` has them: which one, for which message, and the coding itself.
use super::h1::head::Head;
use crate::base::spare::Spare;
use crate::rules::sample::split_list;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::cell::RefCell;
use std::rc::Rc;

/// An algorithm of `compression algo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    /// With zlib's header, as RFC 9110 has it.
    Deflate,
    /// Without one, as some browsers had it.
    RawDeflate,
}

impl Coding {
    pub const NAMES: &[(&str, Self)] = &[
        ("identity", Self::Identity),
        ("gzip", Self::Gzip),
        ("deflate", Self::Deflate),
        ("raw-deflate", Self::RawDeflate),
    ];

    /// As configurations name it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|n| n.1 == self).map_or("", |n| n.0)
    }

    /// As messages name it.
    pub fn wire(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate | Self::RawDeflate => "deflate",
        }
    }
}

/// The coding that a client would have of those on offer, best first. The flag: it asked for it, and was not just given `identity`.
pub fn choose(offered: &[Coding], req: &Head) -> Option<(Coding, bool)> {
    if req.get("user-agent").is_some_and(cannot_decode) {
        return None;
    }
    let (mut best, mut best_q) = (None, 0);
    for (_, line) in req.headers().filter(|(n, _)| *n == b"accept-encoding") {
        for element in split_list(line) {
            let end = element.iter().position(|c| matches!(c, b';' | b' ' | b'\t')).unwrap_or(element.len());
            let (token, q) = (&element[..end], quality(&element[end..]));
            if q <= best_q {
                continue;
            }
            let found = match token {
                b"*" => offered.first(),
                _ => offered.iter().find(|c| token.eq_ignore_ascii_case(c.wire().as_bytes())),
            };
            if let Some(c) = found {
                (best, best_q) = (Some((*c, true)), q);
            }
        }
    }
    best.or_else(|| offered.contains(&Coding::Identity).then_some((Coding::Identity, false)))
}

/// The weight of an element in thousandths (RFC 9110, 12.4.2).
fn quality(params: &[u8]) -> u32 {
    let param = params.split(|c| *c == b';').map(<[u8]>::trim_ascii).find(|p| p.starts_with(b"q="));
    let Some(text) = param.map(|p| &p[2..]) else { return 1000 };
    let digit = |i: usize| text.get(i).filter(|c| c.is_ascii_digit()).map(|c| u32::from(c - b'0'));
    let Some(whole) = digit(0) else { return 1000 };
    let mut q = whole * 1000;
    if text.get(1) == Some(&b'.') {
        for (i, unit) in [(2, 100), (3, 10), (4, 1)] {
            let Some(d) = digit(i) else { break };
            q += d * unit;
        }
    }
    q.min(1000)
}

/// Browsers of long ago that say they can and cannot.
fn cannot_decode(agent: &[u8]) -> bool {
    let modern = agent.len() >= 31
        && &agent[25..30] == b"MSIE "
        && (agent[30] > b'6' || agent[30] == b'6' && agent.len() >= 54 && &agent[51..54] == b"SV1");
    agent.starts_with(b"Mozilla/4") && !modern
}

/// What the message must be like to be coded.
pub struct Wanted<'a> {
    /// Beginnings of content types; empty: any.
    pub types: &'a [String],
    /// Least length, in bytes, where it is known.
    pub min: u64,
}

/// True if an answer may be coded. `head_only`: it answers a HEAD.
pub fn response_may(res: &Head, head_only: bool, length: Option<u64>, wanted: &Wanted<'_>) -> bool {
    let transformable = |(n, v): (&[u8], &[u8])| {
        n != b"cache-control" || !split_list(v).any(|d| d.eq_ignore_ascii_case(b"no-transform"))
    };
    let mut tags = res.headers().filter(|(n, _)| *n == b"etag").map(|(_, v)| v);
    let tag_is_good = tags.next().is_none_or(valid_tag) && tags.next().is_none();
    res.minor > 0
        && !head_only
        && (200..=203).contains(&res.status)
        && res.headers().all(transformable)
        && tag_is_good
        && res.get("content-type").is_none_or(|t| !begins(t, b"multipart"))
        && fits(res, length, wanted)
}

/// True if a request may be coded.
pub fn request_may(req: &Head, length: Option<u64>, wanted: &Wanted<'_>) -> bool {
    req.minor > 0 && req.method() != b"HEAD" && fits(req, length, wanted)
}

fn fits(head: &Head, length: Option<u64>, wanted: &Wanted<'_>) -> bool {
    let kind = head.get("content-type");
    length.is_none_or(|n| n >= wanted.min)
        && head.get("content-encoding").is_none()
        && (wanted.types.is_empty() || kind.is_some_and(|k| wanted.types.iter().any(|t| begins(k, t.as_bytes()))))
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len()).is_some_and(|t| t.eq_ignore_ascii_case(with))
}

fn valid_tag(tag: &[u8]) -> bool {
    tag.len() >= 2 && tag.ends_with(b"\"") && (tag.starts_with(b"\"") || tag.starts_with(b"W/\""))
}

/// Makes a head say that its content is coded and comes in chunks.
pub fn mark(head: &mut Head, coding: Coding, chunked: bool) {
    if !chunked {
        head.add("transfer-encoding", b"chunked");
    }
    head.kill("content-length");
    let mut first = true;
    head.edit("etag", |v| {
        let strong = std::mem::take(&mut first) && v.starts_with(b"\"");
        Some(if strong { [b"W/", v].concat() } else { v.to_vec() })
    });
    let varies = |v: &[u8]| split_list(v).any(|t| t.eq_ignore_ascii_case(b"accept-encoding"));
    let lines = head.headers().filter(|(n, _)| *n == b"vary").count();
    if lines == 0 {
        head.add("vary", b"Accept-Encoding");
    } else if !head.headers().any(|(n, v)| n == b"vary" && varies(v)) {
        let mut line = 0;
        head.edit("vary", |v| {
            line += 1;
            let kept = v.trim_ascii_end();
            let kept = kept.strip_suffix(b",").unwrap_or(kept);
            Some(match (line == lines, kept.is_empty()) {
                (false, _) => v.to_vec(),
                (true, true) => b"Accept-Encoding".to_vec(),
                (true, false) => [kept, b",Accept-Encoding"].concat(),
            })
        });
    }
    if coding != Coding::Identity {
        head.add("content-encoding", coding.wire().as_bytes());
    }
}

/// What coders need and leave behind: some 400 kB each, which would cost more than coding a small answer if it were made anew for each.
pub struct Coders {
    gzip: Kept,
    deflate: Kept,
    raw: Kept,
}

type Kept = RefCell<Spare<Compress>>;

/// Coders of a kind kept for reuse.
const KEPT: usize = 16;
/// Room for output that is asked for at least.
const ROOM: usize = 4096;

impl Default for Coders {
    fn default() -> Self {
        let kept = || RefCell::new(Spare::new(KEPT));
        Self { gzip: kept(), deflate: kept(), raw: kept() }
    }
}

impl Coders {
    fn kept(&self, coding: Coding) -> Option<&Kept> {
        match coding {
            Coding::Identity => None,
            Coding::Gzip => Some(&self.gzip),
            Coding::Deflate => Some(&self.deflate),
            Coding::RawDeflate => Some(&self.raw),
        }
    }

    fn take(&self, coding: Coding) -> Option<Compress> {
        let level = Compression::fast();
        match self.kept(coding)?.borrow_mut().take() {
            Some(mut used) => {
                used.reset();
                Some(used)
            }
            None if coding == Coding::Gzip => Some(Compress::new_gzip(level, WINDOW)),
            None => Some(Compress::new(level, coding == Coding::Deflate)),
        }
    }

    fn give(&self, coding: Coding, state: Compress) {
        if let Some(kept) = self.kept(coding) {
            kept.borrow_mut().give(state);
        }
    }

    /// Once a second: lets go of what was not needed.
    pub fn decay(&self) {
        [&self.gzip, &self.deflate, &self.raw].into_iter().for_each(|k| k.borrow_mut().decay());
    }
}

/// Bits of the window: as far back as deflate can look (RFC 1951).
const WINDOW: u8 = 15;

/// Codes content piece by piece.
pub struct Encoder {
    coding: Coding,
    /// None: the content stays as it is.
    state: Option<Compress>,
    out: Vec<u8>,
    home: Rc<Coders>,
    /// The content has come to its end.
    over: bool,
}

impl Encoder {
    pub fn new(coding: Coding, home: &Rc<Coders>) -> Self {
        Self { coding, state: home.take(coding), out: Vec::new(), home: home.clone(), over: false }
    }

    pub fn write(&mut self, content: &[u8]) {
        self.step(content, FlushCompress::None);
    }

    /// Gives `to` what was written since the last time, in a form that can be decoded up to here; with `last` to its end.
    pub fn take(&mut self, last: bool, to: impl FnOnce(&[u8])) {
        self.step(b"", if last { FlushCompress::Finish } else { FlushCompress::Sync });
        self.over |= last;
        to(&self.out);
        self.out.clear();
        // Between two pieces of a slow message nothing much is kept.
        self.out.shrink_to(ROOM * 4);
    }

    fn step(&mut self, mut content: &[u8], flush: FlushCompress) {
        let Some(state) = &mut self.state else { return self.out.extend_from_slice(content) };
        loop {
            if self.out.capacity() - self.out.len() < ROOM / 4 {
                self.out.reserve(ROOM);
            }
            let before = state.total_in();
            // Coding fails only after its end, and then has nothing to say.
            let Ok(status) = state.compress_vec(content, &mut self.out, flush) else { return };
            content =
                content.get(usize::try_from(state.total_in() - before).unwrap_or(usize::MAX)..).unwrap_or_default();
            let room_left = self.out.len() < self.out.capacity();
            if status == Status::StreamEnd || content.is_empty() && room_left {
                return;
            }
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // One that was left in the middle may have a block open, which its reset (zlib-rs 0.6) does not close.
        if let Some(state) = self.state.take().filter(|_| self.over) {
            self.home.give(self.coding, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::h1::head::Accept;
    use super::*;
    use std::io::Read;

    fn request(headers: &str) -> Head {
        let mut h = Head::default();
        h.parse_request(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes(), Accept::default()).unwrap();
        h
    }

    fn response(headers: &str) -> Head {
        let mut h = Head::default();
        h.parse_response(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), b"GET", Accept::default()).unwrap();
        h
    }

    #[test]
    fn the_client_chooses() {
        use Coding::*;
        let both = [Gzip, Deflate];
        for (offered, headers, want) in [
            (&both[..], "Accept-Encoding: gzip\r\n", Some((Gzip, true))),
            (&both[..], "Accept-Encoding: deflate, gzip\r\n", Some((Deflate, true))),
            (&both[..], "Accept-Encoding: deflate;q=0.5, GZIP ; q=0.501\r\n", Some((Gzip, true))),
            (&both[..], "Accept-Encoding: br\r\nAccept-Encoding: *;q=0.1\r\n", Some((Gzip, true))),
            (&both[..], "Accept-Encoding: gzip;q=0, deflate;q=0.000\r\n", None),
            (&both[..], "Accept-Encoding: x-gzip\r\n", None),
            (&both[..], "", None),
            (&[Identity, Gzip][..], "", Some((Identity, false))),
            (&both[..], "User-Agent: Mozilla/4.0 (compatible; MSIE 5.0)\r\nAccept-Encoding: gzip\r\n", None),
            (
                &both[..],
                "User-Agent: Mozilla/4.0 (compatible; MSIE 7.0)\r\nAccept-Encoding: gzip\r\n",
                Some((Gzip, true)),
            ),
        ] {
            assert_eq!(choose(offered, &request(headers)), want, "{headers}");
        }
    }

    #[test]
    fn which_answers() {
        let text = ["text/".to_owned()];
        let may =
            |headers: &str, length| response_may(&response(headers), false, length, &Wanted { types: &text, min: 10 });
        for (headers, length, want) in [
            ("Content-Type: text/html\r\nContent-Length: 10\r\n", Some(10), true),
            ("Content-Type: TEXT/html\r\nTransfer-Encoding: chunked\r\n", None, true),
            ("Content-Type: text/html\r\nContent-Length: 9\r\n", Some(9), false),
            ("Content-Type: image/png\r\nContent-Length: 10\r\n", Some(10), false),
            ("Content-Length: 10\r\n", Some(10), false),
            ("Content-Type: text/html\r\nCache-Control: a, No-Transform\r\nContent-Length: 10\r\n", Some(10), false),
            ("Content-Type: text/html\r\nContent-Encoding: br\r\nContent-Length: 10\r\n", Some(10), false),
            ("Content-Type: text/html\r\nETag: x\r\nContent-Length: 10\r\n", Some(10), false),
            ("Content-Type: text/html\r\nETag: W/\"x\"\r\nContent-Length: 10\r\n", Some(10), true),
        ] {
            assert_eq!(may(headers, length), want, "{headers}");
        }
    }

    #[test]
    fn the_head_says_so() {
        for (headers, chunked, want) in [
            (
                "Content-Length: 100\r\nVary: Foo\r\nETag: \"abc\"\r\nX-A: 1\r\n",
                false,
                "vary: Foo,Accept-Encoding\r\netag: W/\"abc\"\r\nx-a: 1\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n",
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                true,
                "transfer-encoding: chunked\r\nvary: Accept-Encoding\r\ncontent-encoding: gzip\r\n",
            ),
            (
                "Vary: a\r\nVary: b,\r\n",
                false,
                "vary: a\r\nvary: b,Accept-Encoding\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n",
            ),
            (
                "Vary: accept-encoding\r\n",
                false,
                "vary: accept-encoding\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n",
            ),
        ] {
            let mut h = response(headers);
            mark(&mut h, Coding::Gzip, chunked);
            let mut out = Vec::new();
            h.write_response(None, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 200 OK\r\n{want}\r\n"));
        }
    }

    #[test]
    fn content_can_be_decoded_up_to_each_piece() {
        let home = Rc::default();
        // A coder that was used before codes as a new one, and one that was left in the middle is used no more.
        for (_, coding) in Coding::NAMES.iter().flat_map(|c| [c, c]) {
            let mut left = Encoder::new(*coding, &home);
            left.write(b"what is ");
            left.write(&[b'y'; 1000]);
            drop(left);
            let (mut e, mut all) = (Encoder::new(*coding, &home), Vec::new());
            let plain = |bytes: &[u8]| {
                let mut out = Vec::new();
                // What was cut off in the middle is an error behind what could be decoded.
                let _ = match coding {
                    Coding::Identity => (&mut &*bytes).read_to_end(&mut out),
                    Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
                    Coding::Deflate => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out),
                    Coding::RawDeflate => flate2::read::DeflateDecoder::new(bytes).read_to_end(&mut out),
                };
                out
            };
            e.write(b"hello ");
            e.take(false, |b| all.extend_from_slice(b));
            assert_eq!(plain(&all), b"hello ", "{coding:?}");
            e.take(false, |_| {});
            // More than finds room at once, and hard to code.
            let much: Vec<u8> = (0..100_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
            e.write(&much);
            e.take(false, |b| all.extend_from_slice(b));
            assert_eq!(plain(&all), [b"hello ", &much[..]].concat(), "{coding:?}");
            e.write(&[b'x'; 1000]);
            e.take(true, |b| all.extend_from_slice(b));
            assert_eq!(plain(&all), [b"hello ", &much[..], &[b'x'; 1000]].concat(), "{coding:?}");
        }
    }
}
