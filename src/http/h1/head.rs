//! Heads: parsed in place, edited by appending, written out once.
use super::body::Framing;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn of(base: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(base.as_ptr() as usize);
        Self::new(start, part.len())
    }
    pub fn new(start: usize, len: usize) -> Self {
        // Buffers are bounded by tune.bufsize plus the rules' additions: far below 4 GiB.
        Self { start: u32::try_from(start).unwrap_or(0), len: u32::try_from(len).unwrap_or(0) }
    }
    pub fn get(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..(self.start + self.len) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub name: Span,
    pub value: Span,
    pub live: bool,
}

/// What is let through that the RFCs forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// `option accept-unsafe-violations-in-http-request` or `-response`
    pub violations: bool,
    /// `h1-accept-payload-with-any-method`
    pub any_payload: bool,
    /// Header lines of one message (`tune.http.maxhdr`, which counts the start line as well).
    pub most_headers: u16,
}

impl Default for Accept {
    fn default() -> Self {
        Self { violations: false, any_payload: false, most_headers: 100 }
    }
}

/// Why a head was refused. The variant says whose fault it is; `status` says what the client is told for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It goes on behind the bytes that are there; they are good so far.
    Partial,
    /// The start line or a header line breaks the grammar.
    Syntax,
    TooManyHeaders,
    Version,
    /// Content-Length that is not a number, or two that differ.
    ContentLength,
    /// Chunked twice, not last, not at all, or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding beside chunked, which this side does not speak.
    Coding,
    /// A body where HTTP/1.0 has none.
    Payload,
}

impl HeadError {
    pub fn status(self) -> u16 {
        match self {
            Self::Coding => 422,
            Self::Payload => 413,
            _ => 400,
        }
    }
}

/// Where the end of a head was looked for so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan(usize);

impl Scan {
    /// True once the blank line that ends the head is in `buf`. Looks at each byte once however slowly they come.
    pub fn complete(&mut self, buf: &[u8]) -> bool {
        // Nothing has come behind it, as a rule.
        if buf.ends_with(b"\r\n\r\n") {
            return true;
        }
        while let Some(at) = memchr::memchr(b'\n', &buf[self.0..]) {
            let next = self.0 + at + 1;
            match (buf.get(next), buf.get(next + 1)) {
                (Some(b'\n'), _) | (Some(b'\r'), Some(b'\n')) => return true,
                (None, _) | (Some(b'\r'), None) => return false,
                _ => self.0 = next,
            }
        }
        // The last byte may be the line feed that the blank line needs.
        self.0 = buf.len();
        false
    }
}

/// A head of which no more than so many bytes were there is looked at whenever more come.
const FIRST_LOOK: usize = 256;

/// True if a head that is not whole may be found hopeless now and was not when it had `looked` bytes: a whole line may break the grammar, and so
/// may the beginning of the first; not every byte of a slow sender is worth a look.
pub fn worth_a_look(buf: &[u8], looked: usize) -> bool {
    looked <= FIRST_LOOK || buf[looked.min(buf.len())..].contains(&b'\n')
}

/// Bytes of the empty lines in front of a start line (RFC 9112, 2.2).
pub fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\r', b'\n', behind @ ..] | [b'\n', behind @ ..] = rest {
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// True if a request may begin with this byte (RFC 9110, 5.6.2: a method is a token).
pub const fn may_begin(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// A message head. Reused from message to message so that its vectors keep their capacity.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub(super) buf: Vec<u8>,
    /// How much of that was there when it had been parsed; what rules add comes behind.
    parsed: usize,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) reason: Span,
    /// Minor version of HTTP/1.
    pub minor: u8,
    pub status: u16,
    pub(super) fields: Vec<Field>,
    /// What the connection-related headers said.
    pub keep_alive: bool,
    pub upgrade: bool,
    pub expect_continue: bool,
    /// It says its length in a way that its version has not: nothing may follow on either connection.
    pub doubtful: bool,
    /// The request asks for, or the response speaks, the websocket protocol.
    pub websocket: bool,
    pub framing: Framing,
}

impl Head {
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
        (self.method, self.target, self.reason) = Default::default();
        (self.status, self.minor, self.parsed) = (0, 1, 0);
        (self.keep_alive, self.upgrade, self.expect_continue, self.doubtful) = (false, false, false, false);
        self.websocket = false;
        self.framing = Framing::None;
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.buf.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Drops buffers an idle connection has no use for.
    pub fn release(&mut self) {
        if self.buf.capacity() > 4096 {
            self.buf = Vec::new();
        }
    }

    /// Parses a request head at the start of `bytes`. Returns its length.
    pub fn parse_request(&mut self, bytes: &[u8], accept: Accept) -> Result<usize, HeadError> {
        self.clear();
        let len = self.read_request(bytes, accept)?;
        self.examine_request(accept)?;
        self.parsed = self.buf.len();
        Ok(len)
    }

    /// Parses a response head at the start of `bytes`. `method` is that of the request it answers: HEAD and CONNECT change the framing.
    pub fn parse_response(&mut self, bytes: &[u8], method: &[u8], accept: Accept) -> Result<usize, HeadError> {
        self.clear();
        let len = self.read_response(bytes, accept)?;
        self.examine_response(method, accept)?;
        self.parsed = self.buf.len();
        Ok(len)
    }

    pub fn method(&self) -> &[u8] {
        self.method.get(&self.buf)
    }
    pub fn target(&self) -> &[u8] {
        self.target.get(&self.buf)
    }
    pub fn reason(&self) -> &[u8] {
        self.reason.get(&self.buf)
    }

    /// Live headers in order, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().filter(|f| f.live).map(|f| (f.name.get(&self.buf), f.value.get(&self.buf)))
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// True if a rule has put a `Connection: close` into the head.
    pub fn says_close(&self) -> bool {
        // What came with it was taken off.
        self.buf.len() > self.parsed && self.headers().any(|(n, v)| n == b"connection" && super::examine::closes(v))
    }

    /// Takes off every header called `name` (lower case); says whether there was one.
    pub fn kill(&mut self, name: &str) -> bool {
        self.kill_if(|n| n == name.as_bytes())
    }

    pub fn kill_if(&mut self, mut hit: impl FnMut(&[u8]) -> bool) -> bool {
        let mut any = false;
        for f in self.fields.iter_mut().filter(|f| f.live) {
            if hit(f.name.get(&self.buf)) {
                f.live = false;
                any = true;
            }
        }
        any
    }

    /// Appends a header; the name is written in lower case.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let at = self.buf.len();
        self.buf.extend(name.bytes().map(|c| c.to_ascii_lowercase()));
        let mid = self.buf.len();
        self.buf.extend_from_slice(value);
        crate::rules::logformat::header_safe(&mut self.buf[mid..]);
        self.fields.push(Field { name: Span::new(at, mid - at), value: Span::new(mid, value.len()), live: true });
    }

    pub fn set(&mut self, name: &str, value: &[u8]) {
        let lower = name.to_ascii_lowercase();
        self.kill(&lower);
        self.add(&lower, value);
    }

    /// Replaces the value of each header called `name` by what `edit` makes of it; `None` removes the header.
    pub fn edit(&mut self, name: &str, mut edit: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        for i in 0..self.fields.len() {
            let f = self.fields[i];
            if f.live && f.name.get(&self.buf) == name.as_bytes() {
                match edit(f.value.get(&self.buf)) {
                    Some(v) => {
                        let at = self.buf.len();
                        self.buf.extend_from_slice(&v);
                        crate::rules::logformat::header_safe(&mut self.buf[at..]);
                        self.fields[i].value = Span::new(at, v.len());
                    }
                    None => self.fields[i].live = false,
                }
            }
        }
    }

    pub fn set_target(&mut self, target: &[u8]) {
        let at = self.buf.len();
        self.buf.extend(target.iter().filter(|c| **c > b' ' && **c != 0x7f));
        self.target = Span::new(at, self.buf.len() - at);
    }

    /// Replaces the status of a response; without a reason it gets the one of its own.
    pub fn set_status(&mut self, status: u16, reason: Option<&str>) {
        self.status = status;
        let reason = reason.map_or_else(|| crate::http::status::reason_of(status), str::as_bytes).to_vec();
        self.reason = self.keep(&reason);
    }

    pub fn set_method(&mut self, method: &[u8]) {
        let at = self.buf.len();
        self.buf.extend(method.iter().filter(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c)));
        self.method = Span::new(at, self.buf.len() - at);
    }

    /// The size HAProxy's logs and counters give a head: its tokens without separators, and a constant for the start line.
    pub fn accounted(&self) -> u64 {
        let start = if self.status == 0 { self.method.len + self.target.len } else { 3 + self.reason.len };
        let fields: u64 = self.fields.iter().filter(|f| f.live).map(|f| u64::from(f.name.len + f.value.len)).sum();
        20 + 8 + u64::from(start) + fields + 1
    }

    /// Bytes that the head takes of a buffer, as limits count them (`tune.bufsize`, `tune.maxrewrite`): each part has its entry in an index.
    pub fn weight(&self) -> usize {
        let live = self.fields.iter().filter(|f| f.live).count();
        40 + usize::try_from(self.accounted()).unwrap_or(usize::MAX / 2) + 8 * (2 + live)
    }

    /// At least its [weight](Self::weight), and known at once.
    pub fn weight_at_most(&self) -> usize {
        40 + 29 + self.buf.len() + 8 * (2 + self.fields.len())
    }

    /// How many of `there` bytes of the body fit beside the head into a buffer of `room` bytes.
    pub fn beside(&self, there: usize, room: usize) -> usize {
        // The content has its entry too.
        if there + self.weight_at_most() + 8 <= room {
            there
        } else {
            there.min(room.saturating_sub(self.weight() + 8))
        }
    }

    pub fn write_request_line(&self, out: &mut Vec<u8>) {
        // As it came, if it came so.
        let (from, at) = (self.method.start as usize, (self.target.start + self.target.len) as usize);
        let end = [b" HTTP/1.0", b" HTTP/1.1"][usize::from(self.minor & 1)];
        let one_blank = self.method.len + 1 == self.target.start.wrapping_sub(self.method.start);
        if one_blank && self.buf.get(from + self.method.len as usize) == Some(&b' ') && self.buf[at..].starts_with(end)
        {
            return out.extend_from_slice(&self.buf[from..at + end.len()]);
        }
        out.extend_from_slice(self.method());
        out.push(b' ');
        out.extend_from_slice(self.target());
        out.extend_from_slice(b" HTTP/1.");
        out.push(b'0' + self.minor);
    }

    /// The whole request head as a server gets it: always HTTP/1.1 but for a client of 1.0.
    pub fn write_request(&self, connection: Option<&str>, out: &mut Vec<u8>) {
        self.write_request_line(out);
        out.extend_from_slice(b"\r\n");
        self.write_fields(connection, out);
    }

    pub fn write_response(&self, connection: Option<&str>, out: &mut Vec<u8>) {
        let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
        let s = self.status;
        let [a, b, c] = [s / 100, s / 10, s].map(digit);
        out.extend_from_slice(&[b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' + self.minor, b' ', a, b, c, b' ']);
        let reason = self.reason();
        let reason = if reason.is_empty() { crate::http::status::reason_of(self.status) } else { reason };
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        self.write_fields(connection, out);
    }

    pub(super) fn write_fields(&self, connection: Option<&str>, out: &mut Vec<u8>) {
        // Neighbours that stand in the buffer as they are to be written go in one piece.
        let mut piece = 0..0;
        for f in self.fields.iter().filter(|f| f.live) {
            let (name, value) = (f.name.get(&self.buf), f.value.get(&self.buf));
            let ours = name == b"connection" && super::examine::is_ours(value);
            if !ours && let Some(line) = self.line_of(f) {
                if line.start == piece.end {
                    piece.end = line.end;
                } else {
                    out.extend_from_slice(&self.buf[std::mem::replace(&mut piece, line)]);
                }
                continue;
            }
            out.extend_from_slice(&self.buf[std::mem::take(&mut piece)]);
            if ours {
                super::examine::without_ours(value, out);
                continue;
            }
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.buf[piece]);
        if let Some(c) = connection {
            out.extend_from_slice(b"connection: ");
            out.extend_from_slice(c.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Where a header stands in the buffer as a whole line, if it does.
    fn line_of(&self, f: &Field) -> Option<std::ops::Range<usize>> {
        let (start, at) = (f.name.start as usize, (f.name.start + f.name.len) as usize);
        let end = (f.value.start + f.value.len) as usize;
        let whole = f.value.start as usize == at + 2
            && self.buf[at..].starts_with(b": ")
            && self.buf[end..].starts_with(b"\r\n");
        whole.then_some(start..end + 2)
    }

    /// Appends bytes that a span may name.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Span {
        let at = self.buf.len();
        self.buf.extend_from_slice(bytes);
        Span::new(at, bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn req(text: &str) -> Result<Head, HeadError> {
        let mut h = Head::default();
        h.parse_request(text.as_bytes(), Accept::default()).map(|n| {
            assert_eq!(n, text.len());
            h
        })
    }

    #[test]
    fn request_framing() {
        for (headers, want) in [
            ("", Ok(Framing::None)),
            ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5, 5\r\n", Ok(Framing::Length(5))),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(HeadError::ContentLength)),
            ("Content-Length: +5\r\n", Err(HeadError::ContentLength)),
            ("Content-Length: \r\n", Err(HeadError::ContentLength)),
            ("Transfer-Encoding: gzip\r\n", Err(HeadError::TransferEncoding)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(HeadError::TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(HeadError::TransferEncoding)),
            ("Foo : bar\r\n", Err(HeadError::Syntax)),
        ] {
            assert_eq!(
                req(&format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).map(|h| h.framing),
                want,
                "{headers}"
            );
        }
        assert!(!req("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().keep_alive);
    }

    #[test]
    fn edits_append_and_order_is_kept() {
        let mut h = req("GET /x HTTP/1.1\r\nHost: a\r\nCoNnection: keep-alive\r\nX-A: 1\r\nX-a: 2\r\n\r\n").unwrap();
        h.set("X-A", b"3\r\nEvil: 1");
        h.add("X-Forwarded-For", b"1.2.3.4");
        let mut out = Vec::new();
        h.write_request(None, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /x HTTP/1.1\r\nhost: a\r\nx-a: 3  Evil: 1\r\nx-forwarded-for: 1.2.3.4\r\n\r\n"
        );
    }

    #[test]
    fn what_is_written_as_it_came_is_written_as_it_should_be() {
        for (came, goes) in [
            ("GET /x HTTP/1.1\r\nhost: a\r\nX: y\r\n\r\n", "GET /x HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n"),
            ("GET  /x  HTTP/1.1\r\nhost: a\r\n\r\n", "GET /x HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("GET /x HTTP/1.3\nHost:a\nX:\t y \r\nZ: 1\r\n\r\n", "GET /x HTTP/1.1\r\nhost: a\r\nx: y\r\nz: 1\r\n\r\n"),
            ("GET /x HTTP/1.0\r\nA: b\r\nConnection: close\r\nC: d\r\n\r\n", "GET /x HTTP/1.0\r\na: b\r\nc: d\r\n\r\n"),
            ("GET /x HTTP/1.1\r\nA: b\r\n c\r\nD:\r\nE: \r\n\r\n", "GET /x HTTP/1.1\r\na: b   c\r\nd: \r\ne: \r\n\r\n"),
        ] {
            let mut out = Vec::new();
            req(came).unwrap().write_request(None, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), goes, "{came:?}");
        }
        let mut h = req("GET /x HTTP/1.1\r\nA: b\r\nC: d\r\nE: f\r\n\r\n").unwrap();
        h.edit("c", |v| Some([v, b"d"].concat()));
        let mut out = Vec::new();
        h.write_request(None, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "GET /x HTTP/1.1\r\na: b\r\nc: dd\r\ne: f\r\n\r\n");
        assert!(!h.says_close());
        h.kill("c");
        h.set("connection", b"close");
        h.set_target(b"/");
        assert!(h.says_close());
        let mut out = Vec::new();
        h.write_request(None, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "GET / HTTP/1.1\r\na: b\r\ne: f\r\n\r\n");
    }

    #[test]
    fn response_framing_follows_method_and_status() {
        for (status, method, headers, want) in [
            (200, "GET", "Content-Length: 3\r\n", Framing::Length(3)),
            (200, "HEAD", "Content-Length: 3\r\n", Framing::None),
            (304, "GET", "Content-Length: 3\r\n", Framing::None),
            (204, "GET", "", Framing::None),
            (200, "GET", "", Framing::UntilClose),
            (200, "GET", "Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ] {
            let mut h = Head::default();
            h.parse_response(
                format!("HTTP/1.1 {status} x\r\n{headers}\r\n").as_bytes(),
                method.as_bytes(),
                Accept::default(),
            )
            .unwrap();
            assert_eq!(h.framing, want, "{status} {method}");
        }
    }

    #[test]
    fn end_of_head_is_found_at_every_split() {
        let text = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for end in 0..text.len() {
            let mut scan = Scan::default();
            for i in 0..end {
                assert!(!scan.complete(&text[..i]), "{i}");
            }
        }
        let mut scan = Scan::default();
        for i in 0..=text.len() {
            assert_eq!(scan.complete(&text[..i]), i == text.len());
        }
    }
}
