//! Message bodies (RFC 9112, 6 and 7): bytes are passed on as they are, but for what may stand beside a chunk's size; else only their end is
//! looked for.

use std::ops::Range;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Reading a chunk's size: the number so far, and whether a digit was seen.
    Size {
        n: u64,
        any: bool,
    },
    /// Behind the size: blanks and extensions.
    Ext {
        n: u64,
        len: u16,
        at: Ext,
    },
    SizeLf {
        n: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the trailer section, which is kept back until it is whole.
    Trailer,
    Done,
}

/// Where in the extensions of a chunk (RFC 9112, 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ext {
    /// Behind the size, before any extension.
    Before,
    Within,
    Quoted,
    /// Behind a backslash in a quoted string.
    Escaped,
}

/// Follows a body through any splitting of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    state: State,
    /// The trailer section: as it comes; then, once it is whole, as it is sent on.
    trailer: Vec<u8>,
    /// Bytes at the end of what was fed last that belong to the trailer section.
    held: usize,
    /// Where in what was fed last lies what is not sent on: extensions of chunks, which mean nothing to the next hop (RFC 9112, 7.1.1) and are
    /// read in more ways than one, and zeros in front of their sizes.
    cuts: Vec<Range<usize>>,
    /// Bytes of the content itself, without chunk framing.
    payload: u64,
    /// Trailers are read, and not sent on.
    drops_trailer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    Chunk(Chunk),
    UntilClose,
}

/// The peer's chunking breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

/// Extensions and trailers may not be used to feed bytes for ever.
const MAX_TRAILER: usize = 16 * 1024;
const MAX_EXTENSION: u16 = 16 * 1024;
/// HAProxy's limit of a chunk: 52 bits.
const MAX_CHUNK: u64 = 1 << 52;

impl Follower {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunk(Chunk::Size { n: 0, any: false }),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, payload: 0, trailer: Vec::new(), held: 0, cuts: Vec::new(), drops_trailer: false }
    }

    /// What trailers say ends here (`option http-drop-request-trailers`).
    pub fn drop_trailer(&mut self) {
        self.drops_trailer = true;
    }

    pub fn done(&self) -> bool {
        matches!(self.state, State::Length(0) | State::Chunk(Chunk::Done))
    }

    pub fn is_chunked(&self) -> bool {
        matches!(self.state, State::Chunk(_))
    }

    /// Bytes of content seen so far.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// True if the end of the connection is the end of this body.
    pub fn ends_with_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Bytes of content that come next for certain, and that may pass without being looked at; as many as there can be if only the close ends them.
    pub fn ahead(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(Chunk::Data { left }) => left,
            State::Chunk(_) => 0,
            State::UntilClose => u64::MAX,
        }
    }

    /// Says that `n` bytes, at most what is [ahead](Self::ahead), passed without being looked at.
    pub fn skip(&mut self, n: u64) {
        self.payload += n;
        match &mut self.state {
            State::Length(left) => *left = left.saturating_sub(n),
            State::Chunk(c) => {
                if let Chunk::Data { left } = c {
                    *left = left.saturating_sub(n);
                    if *left == 0 {
                        *c = Chunk::DataCr;
                    }
                }
            }
            State::UntilClose => {}
        }
    }

    /// As [`feed`](Self::feed); appends to `out` what is to be sent on.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let n = self.feed(bytes)?;
        self.copy(&bytes[..n], out);
        out.append(&mut self.take_trailer());
        Ok(n)
    }

    /// Appends to `out` what is to be sent on of `bytes`, which were fed last and belong to this body; not the trailer section.
    pub fn copy(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        // Not kept: whoever sends many would have it stay large.
        for cut in std::mem::take(&mut self.cuts) {
            out.extend_from_slice(&bytes[from..cut.start]);
            from = cut.end;
        }
        out.extend_from_slice(&bytes[from..bytes.len() - self.held]);
    }

    /// Of `used` bytes that were fed last and belong to this body, how many are sent on as they are; None if not all but those of the trailer
    /// section (see [`take_trailer`](Self::take_trailer)) are.
    pub fn verbatim(&self, used: usize) -> Option<usize> {
        self.cuts.is_empty().then_some(used - self.held)
    }

    /// The trailer section as it is to be sent on, once, when it is whole (RFC 9112, 7.1.2); else nothing.
    pub fn take_trailer(&mut self) -> Vec<u8> {
        if self.done() { std::mem::take(&mut self.trailer) } else { Vec::new() }
    }

    /// True if the rest of this body is in `bytes`.
    pub fn can_end(&self, bytes: &[u8]) -> bool {
        let mut f = self.clone();
        f.done() || f.feed(bytes).is_ok() && f.done()
    }

    /// How many of `bytes` belong to this body.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        self.content(bytes, |_| {})
    }

    /// As [`feed`](Self::feed); the content itself, without chunk framing, goes to `take` piece by piece.
    pub fn content(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        self.held = 0;
        self.cuts = Vec::new();
        match &mut self.state {
            State::UntilClose => {
                self.payload += bytes.len() as u64;
                take(bytes);
                Ok(bytes.len())
            }
            State::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= n as u64;
                self.payload += n as u64;
                take(&bytes[..n]);
                Ok(n)
            }
            State::Chunk(c) => {
                let mut i = 0;
                while i < bytes.len() && *c != Chunk::Done {
                    if let Chunk::Data { left } = c {
                        let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - i);
                        *left -= n as u64;
                        self.payload += n as u64;
                        take(&bytes[i..i + n]);
                        i += n;
                        if *left == 0 {
                            *c = Chunk::DataCr;
                        }
                        continue;
                    }
                    if *c == Chunk::Trailer {
                        self.trailer.push(bytes[i]);
                        self.held += 1;
                        if hopeless(&self.trailer) {
                            return Err(BadChunk);
                        }
                        if bytes[i] == b'\n' && ends(&self.trailer) {
                            let mut head = super::head::Head::default();
                            self.trailer = head.parse_trailer(&self.trailer).map_err(|_| BadChunk)?;
                            if self.drops_trailer {
                                self.trailer = b"\r\n".to_vec();
                            }
                            *c = Chunk::Done;
                        } else if self.trailer.len() > MAX_TRAILER {
                            return Err(BadChunk);
                        }
                    } else {
                        let zero = matches!(c, Chunk::Size { n: 0, any: true });
                        *c = c.step(bytes[i])?;
                        match c {
                            // Where it came with what was fed before, the zero is gone already; it does no harm.
                            Chunk::Size { .. } if zero && i > 0 => cut(&mut self.cuts, i - 1),
                            Chunk::Ext { .. } => cut(&mut self.cuts, i),
                            _ => {}
                        }
                    }
                    i += 1;
                }
                Ok(i)
            }
        }
    }
}

/// Adds the byte at `at`, which lies behind all others.
fn cut(cuts: &mut Vec<Range<usize>>, at: usize) {
    match cuts.last_mut() {
        Some(last) if last.end == at => last.end += 1,
        _ => cuts.push(at..at + 1),
    }
}

/// True if a trailer section that begins so can never become one. Asked for each byte, so it looks back where a line ends only.
fn hopeless(section: &[u8]) -> bool {
    match section {
        [before @ .., b'\n'] => {
            let line = before.iter().rposition(|b| *b == b'\n').map_or(before, |at| &before[at + 1..]);
            // A field, the rest of a folded one, or the end.
            !matches!(line, [] | [b'\r'] | [b' ' | b'\t', ..]) && !line.contains(&b':')
        }
        // An empty line that is none.
        [b'\r', _] | [.., b'\n', b'\r', _] => true,
        _ => false,
    }
}

/// True if a trailer section that ends with a line feed ends with an empty line.
fn ends(section: &[u8]) -> bool {
    matches!(section, b"\n" | b"\r\n") || section.ends_with(b"\n\n") || section.ends_with(b"\n\r\n")
}

impl Chunk {
    fn step(self, b: u8) -> Result<Self, BadChunk> {
        Ok(match (self, b) {
            (Self::Size { n, .. }, b) if b.is_ascii_hexdigit() => {
                let d = u64::from((b as char).to_digit(16).unwrap_or(0));
                match n * 16 + d {
                    n if n >= MAX_CHUNK => return Err(BadChunk),
                    n => Self::Size { n, any: true },
                }
            }
            (Self::Size { n, any: true }, b'\r') => Self::SizeLf { n },
            (Self::Size { n, any: true }, b' ' | b'\t') => Self::Ext { n, len: 1, at: Ext::Before },
            (Self::Size { n, any: true }, b';') => Self::Ext { n, len: 1, at: Ext::Within },
            (Self::Ext { n, at: Ext::Before | Ext::Within, .. }, b'\r') => Self::SizeLf { n },
            (Self::Ext { n, len, at }, b) if len < MAX_EXTENSION => {
                let visible = matches!(b, b'\t' | b' '..=b'~' | 0x80..);
                let at = match (at, b) {
                    (Ext::Before, b' ' | b'\t') => Ext::Before,
                    (Ext::Before, b';') => Ext::Within,
                    (Ext::Within, b'"') => Ext::Quoted,
                    (Ext::Within, b'\\') | (Ext::Before, _) => return Err(BadChunk),
                    (Ext::Quoted, b'"') => Ext::Within,
                    (Ext::Quoted, b'\\') => Ext::Escaped,
                    (Ext::Escaped, _) if visible => Ext::Quoted,
                    (at, _) if visible => at,
                    _ => return Err(BadChunk),
                };
                Self::Ext { n, len: len + 1, at }
            }
            (Self::SizeLf { n }, b'\n') => match n {
                0 => Self::Trailer,
                left => Self::Data { left },
            },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { n: 0, any: false },
            _ => return Err(BadChunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_bodies_at_every_split_point() {
        let body = b"5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: v\r\n\r\nNEXT";
        for split in 0..body.len() {
            let mut f = Follower::new(Framing::Chunked);
            let mut used = 0;
            for part in [&body[..split], &body[split..]] {
                used += f.feed(part).unwrap();
                if f.done() {
                    break;
                }
            }
            assert!(f.done(), "{split}");
            assert_eq!(used, body.len() - 4, "{split}");
        }
    }

    #[test]
    fn broken_chunking_is_refused() {
        for bad in [
            "x\r\n",
            "5\r\nhelloX",
            "\r\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "-1\r\n",
            " 5\r\n",
            "5\rX",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "0\r\nno colon\r\n",
            "0\r\na: b\r\nno colon\r\n",
            "0\r\na: b\r\n\rX",
            "0\r\n: empty\r\n\r\n",
            "0\r\na@b: c\r\n\r\n",
            "0\r\nContent-Length: x\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "5 x\r\n",
            "5 5\r\n",
            "5;a=\"b\r\n",
            "5;a\\b\r\n",
            "5;a=\"\\\r\n",
            "5;\x01\r\n",
            "10000000000000\r\n",
        ] {
            assert_eq!(Follower::new(Framing::Chunked).feed(bad.as_bytes()), Err(BadChunk), "{bad:?}");
        }
    }

    #[test]
    fn what_is_ahead_may_be_skipped() {
        let mut f = Follower::new(Framing::Chunked);
        assert_eq!(f.ahead(), 0);
        f.feed(b"10\r\nab").unwrap();
        assert_eq!(f.ahead(), 14);
        f.skip(10);
        assert_eq!((f.ahead(), f.payload()), (4, 12));
        f.skip(4);
        assert_eq!(f.ahead(), 0);
        assert_eq!(f.feed(b"\r\n0\r\n\r\nX"), Ok(7));
        assert!(f.done());
        let mut f = Follower::new(Framing::Length(5));
        f.skip(5);
        assert!(f.done());
        let mut f = Follower::new(Framing::UntilClose);
        f.skip(1 << 40);
        assert_eq!((f.ahead(), f.payload()), (u64::MAX, 1 << 40));
    }

    #[test]
    fn trailers_are_sent_on_as_headers_are() {
        let body = b"2\r\nok\r\n0\r\nX-A: b\n c \r\nUpgrade: h2c\r\n\nNEXT";
        for split in 0..body.len() {
            let (mut f, mut out, mut used) = (Follower::new(Framing::Chunked), Vec::new(), 0);
            for part in [&body[..split], &body[split..]] {
                used += f.pass(part, &mut out).unwrap();
            }
            assert!(f.done(), "{split}");
            assert_eq!(used, body.len() - 4, "{split}");
            assert_eq!(out, b"2\r\nok\r\n0\r\nx-a: b  c\r\n\r\n", "{split}");
        }
    }

    #[test]
    fn odd_but_good_chunking_passes() {
        let zeros = format!("{}5\r\n", "0".repeat(40));
        for good in ["5;a=b\r\n", "5 ;a\r\n", "5;a=\"b\\\"c\"\r\n", "5 \t\r\n", "fffffffffffff\r\n", zeros.as_str()] {
            assert_eq!(Follower::new(Framing::Chunked).feed(good.as_bytes()), Ok(good.len()), "{good:?}");
        }
    }

    #[test]
    fn extensions_and_zeros_go_no_further() {
        let body = b"5;a=\"\\\"\"\r\nhello\r\n0003 \r\nabc\r\na;x;y=z\r\n0123456789\r\n000;z\r\nT: v\r\n\r\nNEXT";
        let want = b"5\r\nhello\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\nt: v\r\n\r\n";
        for split in 0..body.len() {
            let (mut f, mut out, mut used) = (Follower::new(Framing::Chunked), Vec::new(), 0);
            for part in [&body[..split], &body[split..]] {
                used += f.pass(part, &mut out).unwrap();
            }
            assert_eq!(used, body.len() - 4, "{split}");
            // A zero that was alone at the end of what came is gone before it is known to be one too many.
            let said = String::from_utf8(out).unwrap();
            let size =
                said.find("3\r\nabc").map_or(0, |at| said[..at].bytes().rev().take_while(|b| *b == b'0').count());
            let last =
                said.find("\r\nt: v").map_or(0, |at| said[..at].bytes().rev().take_while(|b| *b == b'0').count());
            assert!(size <= 1 && (1..=2).contains(&last), "{split} {said:?}");
            let said = said.replace("03\r\nabc", "3\r\nabc").replace("00\r\nt: v", "0\r\nt: v");
            assert_eq!(said.as_bytes(), want, "{split}");
        }
    }

    #[test]
    fn lengths() {
        let mut f = Follower::new(Framing::Length(3));
        assert_eq!(f.feed(b"ab"), Ok(2));
        assert!(!f.done());
        assert_eq!(f.feed(b"cd"), Ok(1));
        assert!(f.done() && Follower::new(Framing::None).done());
    }
}
