//! Heads that are written as nearly all are (RFC 9112, 3 to 5): one blank where one belongs, CRLF behind each line, no blanks around values. They take a
//! third of the time that `httparse` and what comes behind it take, in one pass that also makes names lower case. Everything else, and everything that is
//! wrong, is left to [`parse`](super::parse), and what is read here is read the same way there.
use super::head::{Accept, Field, Head, Span};
use super::parse::MAX_NAME;

/// The characters of a token (RFC 9110, 5.6.2), in lower case; 0 for all others.
static TOKEN: [u8; 256] = {
    let mut t = [0; 256];
    let mut b = 0u8;
    while b < 0x7f {
        if super::head::may_begin(b) {
            t[b as usize] = b.to_ascii_lowercase();
        }
        b += 1;
    }
    t
};

/// A head that is longer than this, with something behind it, is read in the other way: as much is copied before it is known where it ends.
const LONGEST: usize = 2048;
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = EACH * 0x80;

/// The highest bit of each byte that is 0, and perhaps of some behind the first of them.
fn zeros(w: u64) -> u64 {
    w.wrapping_sub(EACH) & !w & HIGH
}

/// Where the first byte is, from `at` on, whose highest bit `found` sets; the length of `bytes` if there is none.
fn first(bytes: &[u8], mut at: usize, found: impl Fn(u64) -> u64) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let bits = found(u64::from_le_bytes(*eight));
        if bits != 0 {
            return at + (bits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    // None of the last few is more than one look.
    let mut last = [b'a'; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    last[..rest.len()].copy_from_slice(rest);
    (at + (found(u64::from_le_bytes(last)).trailing_zeros() / 8) as usize).min(bytes.len())
}

/// The first control character (0x00 to 0x1f, 0x7f). A borrow reaches bytes behind it only.
fn control(bytes: &[u8], at: usize) -> usize {
    first(bytes, at, |w| w.wrapping_sub(EACH * 0x20) & !w & HIGH | zeros(w ^ (EACH * 0x7f)))
}

fn colon(bytes: &[u8], at: usize) -> usize {
    first(bytes, at, |w| zeros(w ^ (EACH * 0x3a)))
}

impl Head {
    /// A request's head at the start of `bytes`, if it is written so; its length. What is left in `self` otherwise means nothing.
    pub(super) fn quick_request(&mut self, bytes: &[u8], accept: Accept) -> Option<usize> {
        self.copy(bytes);
        let method =
            self.buf.iter().position(|b| TOKEN[usize::from(*b)] == 0).filter(|n| *n > 0 && self.buf[*n] == b' ')?;
        let end = control(&self.buf, method + 1);
        let (target, version) = self.buf.get(method + 1..end)?.split_last_chunk::<9>()?;
        self.minor = match version {
            b" HTTP/1.1" => 1,
            b" HTTP/1.0" => 0,
            _ => return None,
        };
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        (self.method, self.target) = (Span::new(0, method), Span::new(method + 1, target.len()));
        self.quick_fields(end, accept)
    }

    /// The same for a response.
    pub(super) fn quick_response(&mut self, bytes: &[u8], accept: Accept) -> Option<usize> {
        self.copy(bytes);
        let start = self.buf.first_chunk::<13>()?;
        let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'1', b' ', code @ .., b' '] = start else {
            return None;
        };
        let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *code else { return None };
        self.minor = minor - b'0';
        self.status = [a, b, c].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        let end = control(&self.buf, 13);
        self.reason = Span::new(13, end - 13);
        self.quick_fields(end, accept)
    }

    /// What is behind a head comes along, and goes again.
    fn copy(&mut self, bytes: &[u8]) {
        let all = bytes.len() <= LONGEST || bytes.ends_with(b"\r\n\r\n");
        self.buf.extend_from_slice(if all { bytes } else { &bytes[..LONGEST] });
    }

    /// The lines behind the first one, whose end is at `end`; the length of the head. None: they are written in another way, or not all there.
    fn quick_fields(&mut self, mut end: usize, accept: Accept) -> Option<usize> {
        let buf = &mut self.buf[..];
        loop {
            match buf.get(end..)?.first_chunk::<4>()? {
                b"\r\n\r\n" => break,
                [b'\r', b'\n', ..] => {}
                _ => return None,
            }
            let start = end + 2;
            let at = colon(buf, start);
            let mut invalid = at == start;
            for b in buf.get_mut(start..at)? {
                *b = TOKEN[usize::from(*b)];
                invalid |= *b == 0;
            }
            // One blank, and something that is none behind it and in front of the end.
            let value = at + 2;
            invalid |= *buf.get(at + 1)? != b' ' || *buf.get(value)? <= b' ';
            end = control(buf, value);
            invalid |= buf[end - 1] == b' ' || at - start > MAX_NAME as usize;
            if invalid || self.fields.len() >= usize::from(accept.most_headers) {
                return None;
            }
            let (name, value) = (Span::new(start, at - start), Span::new(value, end - value));
            self.fields.push(Field { name, value, live: true });
        }
        let len = end + 4;
        self.buf.truncate(len);
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read, as far as it decides anything.
    type Read<'a> = (&'a [u8], Vec<(Span, Span)>, [Span; 3], u8, u16);

    fn read(h: &Head) -> Read<'_> {
        let fields = h.fields.iter().map(|f| (f.name, f.value)).collect();
        (&h.buf, fields, [h.method, h.target, h.reason], h.minor, h.status)
    }

    /// Reads in both ways; how the quick one did.
    fn both(bytes: &[u8], accept: Accept) -> [bool; 2] {
        let mut done = [false; 2];
        for (response, done) in [false, true].into_iter().zip(&mut done) {
            let (mut a, mut b) = (Head::default(), Head::default());
            a.clear();
            b.clear();
            let quick = if response { a.quick_response(bytes, accept) } else { a.quick_request(bytes, accept) };
            let Some(n) = quick else { continue };
            let slow = if response { b.read_any_response(bytes, accept) } else { b.read_any_request(bytes, accept) };
            assert_eq!(slow, Ok(n), "{:?}", bytes.escape_ascii().to_string());
            assert_eq!(read(&a), read(&b), "{:?}", bytes.escape_ascii().to_string());
            *done = true;
        }
        done
    }

    const HEADS: [&str; 4] = [
        "GET /a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: x y\r\nX-Long-Name-Of-It: \u{fc}1234567\r\n\r\nrest",
        "POST * HTTP/1.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nA: 123456789 01234567\r\n\r\nhello",
        "HTTP/1.0 404 \r\nSet-Cookie: a=b; Path=/\r\n\r\n",
    ];

    #[test]
    fn usual_heads_are_read_quickly() {
        let quick: Vec<_> = HEADS.iter().map(|h| both(h.as_bytes(), Accept::default())).collect();
        assert_eq!(quick, [[true, false], [true, false], [false, true], [false, true]]);
        let few = Accept { most_headers: 2, ..Accept::default() };
        assert_eq!(both(HEADS[0].as_bytes(), few), [false, false]);
    }

    /// One byte changed, left out or put in, at every place; and two of them at places that a counter makes.
    #[test]
    fn what_is_read_quickly_is_read_the_same_way_otherwise() {
        let odd = b"\r\n\0\t :\x7f\x80\xff\x1f/AZ[a{1.";
        let (mut taken, mut n) = (0u32, 1u64);
        let change = |h: &mut Vec<u8>, at: usize, what: usize| {
            let b = odd[what % odd.len()];
            match what / odd.len() {
                0 => h[at] = b,
                1 => h.insert(at, b),
                _ => drop(h.remove(at)),
            }
        };
        for head in HEADS.map(str::as_bytes) {
            for at in 0..head.len() {
                for what in 0..=odd.len() * 2 {
                    let mut h = head.to_vec();
                    change(&mut h, at, what);
                    taken += both(&h, Accept::default()).map(u32::from).iter().sum::<u32>();
                }
            }
            for _ in 0..20_000 {
                let mut h = head.to_vec();
                for _ in 0..3 {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (at, what) = ((n >> 33) as usize, (n >> 20) as usize);
                    let at = at % h.len();
                    change(&mut h, at, what % (odd.len() * 2 + 1));
                }
                taken += both(&h, Accept::default()).map(u32::from).iter().sum::<u32>();
            }
        }
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn the_first_control_character_and_colon_are_found_at_every_place() {
        for len in 0..20 {
            for at in 0..len {
                for b in 0..=u8::MAX {
                    let mut text = vec![b'a'; len];
                    text[at] = b;
                    let want = if b.is_ascii_control() { at } else { len };
                    assert_eq!(control(&text, 0), want, "{len} {at} {b}");
                    assert_eq!(colon(&text, 0), if b == b':' { at } else { len }, "{len} {at} {b}");
                    text[len - 1] = b'\r';
                    let want = if b.is_ascii_control() { at } else { len - 1 };
                    assert_eq!(control(&text, 0), want, "{len} {at} {b}");
                }
            }
        }
    }
}
