//! Heads: parsed in place, edited by appending, written out once.
use super::body::Framing;
use std::mem::MaybeUninit;

/// HAProxy's `tune.http.maxhdr`: header lines of one message.
pub const MAX_HEADERS: usize = 101;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(base: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(base.as_ptr() as usize);
        Self::new(start, part.len())
    }
    fn new(start: usize, len: usize) -> Self {
        // Buffers are bounded by tune.bufsize plus the rules' additions: far below 4 GiB.
        Self { start: u32::try_from(start).unwrap_or(0), len: u32::try_from(len).unwrap_or(0) }
    }
    fn get(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..(self.start + self.len) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
    live: bool,
}

/// Why a head was refused. The variant says whose fault it is; `status` says what the client is told for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The start line or a header line breaks the grammar.
    Syntax,
    TooManyHeaders,
    /// Larger than the buffer.
    TooLarge,
    Version,
    /// Content-Length that is not a number, or two that differ.
    ContentLength,
    /// Chunked twice, not last, not at all, or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding beside chunked, which this side does not speak.
    Coding,
}

impl HeadError {
    pub fn status(self) -> u16 {
        match self {
            Self::Coding => 422,
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
        while let Some(at) = memchr_lf(&buf[self.0..]) {
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

/// True if a request may begin with this byte (RFC 9110, 5.6.2: a method is a token).
pub fn may_begin(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn memchr_lf(buf: &[u8]) -> Option<usize> {
    buf.iter().position(|c| *c == b'\n')
}

/// A message head. Reused from message to message so that its vectors keep their capacity.
#[derive(Debug, Default)]
pub struct Head {
    buf: Vec<u8>,
    method: Span,
    target: Span,
    reason: Span,
    /// Minor version of HTTP/1.
    pub minor: u8,
    pub status: u16,
    fields: Vec<Field>,
    /// What the connection-related headers said.
    pub keep_alive: bool,
    pub upgrade: bool,
    pub expect_continue: bool,
    /// It says its length in two ways, or in one that its version has not: nothing may follow on its connections.
    pub doubtful: bool,
    /// Tokens of `Connection` other than close and keep-alive: passed on, at the end of the head.
    connection_tokens: Vec<u8>,
    pub framing: Framing,
}

impl Head {
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
        (self.method, self.target, self.reason) = Default::default();
        (self.status, self.minor) = (0, 1);
        (self.keep_alive, self.upgrade, self.expect_continue, self.doubtful) = (false, false, false, false);
        self.connection_tokens.clear();
        self.framing = Framing::None;
    }

    /// Drops buffers an idle connection has no use for.
    pub fn release(&mut self) {
        if self.buf.capacity() > 4096 {
            self.buf = Vec::new();
        }
    }

    /// Parses a request head at the start of `bytes`, which holds at least one whole head. Returns its length.
    pub fn parse_request(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        self.clear();
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_HEADERS];
        let mut req = httparse::Request::new(&mut []);
        let len =
            match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut req, bytes, &mut headers) {
                Ok(httparse::Status::Complete(n)) => n,
                Ok(httparse::Status::Partial) => return Err(HeadError::Syntax),
                Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
                Err(httparse::Error::Version) => return Err(HeadError::Version),
                Err(_) => return Err(HeadError::Syntax),
            };
        let (method, target) = (req.method.unwrap_or_default(), req.path.unwrap_or_default());
        self.method = Span::of(bytes, method.as_bytes());
        self.target = Span::of(bytes, target.as_bytes());
        self.minor = req.version.unwrap_or(1);
        self.take_fields(bytes, req.headers);
        self.buf.extend_from_slice(&bytes[..len]);
        self.lower_names();
        let form = target.starts_with('/')
            || target == "*" && method == "OPTIONS"
            || target.contains("://")
            || method == "CONNECT";
        if !form || target.bytes().any(|c| c == b'#' || c >= 0x80) {
            return Err(HeadError::Syntax);
        }
        self.examine(None)?;
        Ok(len)
    }

    /// Parses a response head. `method` is that of the request it answers: HEAD and CONNECT change the framing.
    pub fn parse_response(&mut self, bytes: &[u8], method: &[u8]) -> Result<usize, HeadError> {
        self.clear();
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_HEADERS];
        let mut res = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(false);
        let len = match config.parse_response_with_uninit_headers(&mut res, bytes, &mut headers) {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) => return Err(HeadError::Syntax),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
            Err(_) => return Err(HeadError::Syntax),
        };
        self.status = res.code.unwrap_or(0);
        self.minor = res.version.unwrap_or(1);
        self.reason = Span::of(bytes, res.reason.unwrap_or_default().as_bytes());
        if res.reason.unwrap_or_default().is_empty() {
            self.reason = Span::default();
        }
        self.take_fields(bytes, res.headers);
        self.buf.extend_from_slice(&bytes[..len]);
        self.lower_names();
        self.examine(Some(method))?;
        Ok(len)
    }

    fn take_fields(&mut self, bytes: &[u8], headers: &[httparse::Header<'_>]) {
        self.fields.extend(headers.iter().map(|h| Field {
            name: Span::of(bytes, h.name.as_bytes()),
            value: Span::of(bytes, h.value),
            live: true,
        }));
    }

    fn lower_names(&mut self) {
        for f in &self.fields {
            self.buf[f.name.start as usize..(f.name.start + f.name.len) as usize].make_ascii_lowercase();
        }
    }

    /// Reads the headers that frame the message, and takes `Connection` off (RFC 9110, 7.6.1): it is said anew on each side.
    fn examine(&mut self, answering: Option<&[u8]>) -> Result<(), HeadError> {
        let (mut length, mut chunked, mut coded) = (None::<u64>, false, false);
        let mut others_coded = false;
        let (mut close, mut keep) = (false, false);
        let mut upgrade_named = false;
        let mut has_upgrade = false;
        let mut others = Vec::new();
        let mut seen_length = false;
        let mut host: Option<Span> = None;
        for i in 0..self.fields.len() {
            let f = self.fields[i];
            let value = f.value.get(&self.buf);
            match f.name.get(&self.buf) {
                b"content-length" => {
                    for part in value.split(|c| *c == b',') {
                        let n = digits(part.trim_ascii()).ok_or(HeadError::ContentLength)?;
                        if length.is_some_and(|l| l != n) {
                            return Err(HeadError::ContentLength);
                        }
                        length = Some(n);
                    }
                    if seen_length {
                        self.fields[i].live = false;
                    } else if let Some(comma) = value.iter().position(|c| *c == b',') {
                        // A list of equal lengths is sent on as one.
                        self.fields[i].value.len = u32::try_from(comma).unwrap_or(0);
                    }
                    seen_length = true;
                }
                b"transfer-encoding" => {
                    if chunked {
                        return Err(HeadError::TransferEncoding);
                    }
                    for coding in value.split(|c| *c == b',').map(<[u8]>::trim_ascii).filter(|c| !c.is_empty()) {
                        if chunked {
                            return Err(HeadError::TransferEncoding);
                        }
                        chunked = coding.eq_ignore_ascii_case(b"chunked");
                        others_coded |= !chunked;
                        coded = true;
                    }
                }
                b"connection" => {
                    for token in value.split(|c| *c == b',').map(<[u8]>::trim_ascii) {
                        let (c, k) = (token.eq_ignore_ascii_case(b"close"), token.eq_ignore_ascii_case(b"keep-alive"));
                        close |= c;
                        keep |= k;
                        upgrade_named |= token.eq_ignore_ascii_case(b"upgrade");
                        if !(c || k || token.is_empty()) {
                            others.extend_from_slice(if others.is_empty() { b"" } else { b", " });
                            others.extend_from_slice(token);
                        }
                    }
                    self.fields[i].live = false;
                }
                b"host" if answering.is_none() => match host {
                    // Two that differ could be routed by one and served by the other.
                    Some(h) if !h.get(&self.buf).eq_ignore_ascii_case(value) => return Err(HeadError::Syntax),
                    Some(_) => self.fields[i].live = false,
                    None => host = Some(f.value),
                },
                b"upgrade" => has_upgrade = true,
                b"expect" => self.expect_continue |= value.trim_ascii().eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        if answering.is_none()
            && let Some(h) = host
        {
            let target = self.target.get(&self.buf);
            if let Some(at) = target.windows(3).position(|w| w == b"://") {
                let rest = &target[at + 3..];
                let authority = &rest[..rest.iter().position(|c| matches!(*c, b'/' | b'?')).unwrap_or(rest.len())];
                let port: &[u8] = if target[..at].eq_ignore_ascii_case(b"https") { b":443" } else { b":80" };
                // Who asks is not where (RFC 3986, 3.2.1).
                let at = authority.iter().rposition(|c| *c == b'@').map_or(0, |p| p + 1);
                let authority = &authority[at..];
                // The scheme's own port may be said or not (RFC 9110, 4.2.3).
                let bare = |a: &[u8]| a.strip_suffix(port).unwrap_or(a).to_ascii_lowercase();
                if bare(authority) != bare(h.get(&self.buf)) {
                    return Err(HeadError::Syntax);
                }
            } else if self.method.get(&self.buf) == b"CONNECT" && !target.eq_ignore_ascii_case(h.get(&self.buf)) {
                return Err(HeadError::Syntax);
            }
        }
        self.upgrade = upgrade_named && has_upgrade;
        self.connection_tokens = others;
        self.keep_alive = if self.minor == 0 { keep && !close } else { !close };
        if coded && !chunked {
            // A coding that is not chunked cannot delimit a message.
            return Err(HeadError::TransferEncoding);
        }
        if others_coded {
            return Err(HeadError::Coding);
        }
        if chunked {
            if self.minor == 0 {
                // RFC 9112, 6.1: the framing is not to be trusted; it is passed on as what it is, and the connection ends.
                (self.keep_alive, self.doubtful) = (false, true);
                if answering.is_none() {
                    self.minor = 1;
                }
            }
            if length.is_some() {
                // RFC 9112, 6.3: chunked wins, the length goes, and the connection is not to be trusted any longer.
                self.kill("content-length");
                (self.keep_alive, self.doubtful) = (false, true);
            }
        }
        self.framing = match answering {
            None => match (chunked, length) {
                (true, _) => Framing::Chunked,
                (false, Some(n)) if n > 0 => Framing::Length(n),
                _ => Framing::None,
            },
            Some(method) => {
                let bodiless = method == b"HEAD" || self.status / 100 == 1 || self.status == 204 || self.status == 304;
                let tunnel = method == b"CONNECT" && self.status / 100 == 2;
                match (chunked, length) {
                    _ if bodiless => Framing::None,
                    _ if tunnel => Framing::UntilClose,
                    (true, _) => Framing::Chunked,
                    (false, Some(0)) => Framing::None,
                    (false, Some(n)) => Framing::Length(n),
                    (false, None) => {
                        self.keep_alive = false;
                        Framing::UntilClose
                    }
                }
            }
        };
        Ok(())
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

    pub fn write_request_line(&self, out: &mut Vec<u8>) {
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
        out.extend_from_slice(b"HTTP/1.");
        out.push(b'0' + self.minor);
        out.push(b' ');
        let s = self.status;
        out.extend([s / 100 % 10, s / 10 % 10, s % 10].map(|d| b'0' + u8::try_from(d).unwrap_or(0)));
        out.push(b' ');
        out.extend_from_slice(self.reason());
        out.extend_from_slice(b"\r\n");
        self.write_fields(connection, out);
    }

    fn write_fields(&self, connection: Option<&str>, out: &mut Vec<u8>) {
        for (name, value) in self.headers() {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        let tokens = &self.connection_tokens;
        if connection.is_some() || !tokens.is_empty() {
            out.extend_from_slice(b"connection: ");
            out.extend_from_slice(tokens);
            out.extend_from_slice(if tokens.is_empty() || connection.is_none() { b"" } else { b", " });
            out.extend_from_slice(connection.unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0u64, |n, c| c.is_ascii_digit().then(|| n * 10 + u64::from(c - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn req(text: &str) -> Result<Head, HeadError> {
        let mut h = Head::default();
        h.parse_request(text.as_bytes()).map(|n| {
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
            h.parse_response(format!("HTTP/1.1 {status} x\r\n{headers}\r\n").as_bytes(), method.as_bytes()).unwrap();
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
