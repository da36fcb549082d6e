//! From bytes to a head (RFC 9112, 2 to 5): `httparse` for what is written as it should be, and the whole grammar that HAProxy takes for the
//! rest: several blanks in the start line, folded lines, control characters in values, versions beyond 1.1.
use super::head::{Accept, Field, Head, HeadError, Span, empty_lines, may_begin};
use std::mem::MaybeUninit;

/// Header lines that the quick reader has room for; where more are allowed, the other one reads them.
const QUICK: usize = 100;
/// Length of a header's name, as HAProxy limits it.
pub(super) const MAX_NAME: u32 = 255;

impl Head {
    /// True if `bytes`, which are not a whole head yet, can never become one.
    pub fn is_hopeless(&mut self, bytes: &[u8], accept: Accept) -> bool {
        self.clear();
        let refused = !matches!(self.read_request(bytes, accept), Ok(_) | Err(HeadError::Partial));
        self.clear();
        refused
    }

    /// The same of a response.
    pub fn is_hopeless_response(&mut self, bytes: &[u8], accept: Accept) -> bool {
        self.clear();
        let refused = !matches!(self.read_response(bytes, accept), Ok(_) | Err(HeadError::Partial));
        self.clear();
        refused
    }

    /// A whole trailer section, with the empty line at its end; returns it as it is to be sent on.
    pub(super) fn parse_trailer(&mut self, bytes: &[u8]) -> Result<Vec<u8>, HeadError> {
        self.clear();
        self.read_lines(Reader { bytes, at: 0 }, Accept::default())?;
        self.read_fields(true, Accept::default())?;
        self.kill_if(|n| n == b"upgrade");
        let mut out = Vec::with_capacity(bytes.len());
        self.write_fields(None, &mut out);
        Ok(out)
    }

    pub(super) fn read_request(&mut self, bytes: &[u8], accept: Accept) -> Result<usize, HeadError> {
        if let Some(n) = self.quick_request(bytes, accept) {
            return Ok(n);
        }
        self.clear();
        self.read_any_request(bytes, accept)
    }

    /// However it is written.
    pub(super) fn read_any_request(&mut self, bytes: &[u8], accept: Accept) -> Result<usize, HeadError> {
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; QUICK];
        let mut req = httparse::Request::new(&mut []);
        let config = httparse::ParserConfig::default();
        let len = match config.parse_request_with_uninit_headers(&mut req, bytes, &mut headers) {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) => return Err(HeadError::Partial),
            Err(_) => {
                let mut at = Reader { bytes, at: empty_lines(bytes) };
                self.method = at.token()?;
                at.blanks()?;
                self.target = at.target()?;
                at.blanks()?;
                self.minor = at.version()?;
                at.line_end()?;
                return self.read_lines(at, accept);
            }
        };
        self.method = Span::of(bytes, req.method.unwrap_or_default().as_bytes());
        self.target = Span::of(bytes, req.path.unwrap_or_default().as_bytes());
        self.minor = req.version.unwrap_or(1);
        self.take_fields(bytes, len, req.headers, accept)
    }

    pub(super) fn read_response(&mut self, bytes: &[u8], accept: Accept) -> Result<usize, HeadError> {
        if let Some(n) = self.quick_response(bytes, accept) {
            return Ok(n);
        }
        self.clear();
        self.read_any_response(bytes, accept)
    }

    /// However it is written.
    pub(super) fn read_any_response(&mut self, bytes: &[u8], accept: Accept) -> Result<usize, HeadError> {
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; QUICK];
        let mut res = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(false);
        let parsed = config.parse_response_with_uninit_headers(&mut res, bytes, &mut headers);
        let len = match parsed {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) => return Err(HeadError::Partial),
            Err(_) => {
                let mut at = Reader { bytes, at: empty_lines(bytes) };
                self.minor = at.version()?;
                at.blanks()?;
                self.status = at.status()?;
                self.reason = at.reason()?;
                at.line_end()?;
                return self.read_lines(at, accept);
            }
        };
        self.status = res.code.unwrap_or(0);
        self.minor = res.version.unwrap_or(1);
        // Not httparse's: it drops one that is not ASCII.
        let begin = empty_lines(bytes);
        let line = bytes[begin..].iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(0);
        let from = line.min("HTTP/1.1 200 ".len());
        self.reason = Span::new(begin + from, line - from);
        self.take_fields(bytes, len, res.headers, accept)
    }

    fn take_fields(
        &mut self,
        bytes: &[u8],
        len: usize,
        headers: &[httparse::Header<'_>],
        accept: Accept,
    ) -> Result<usize, HeadError> {
        if headers.len() > usize::from(accept.most_headers) {
            return Err(HeadError::TooManyHeaders);
        }
        self.fields.extend(headers.iter().map(|h| Field {
            name: Span::of(bytes, h.name.as_bytes()),
            value: Span::of(bytes, h.value),
            live: true,
        }));
        self.buf.extend_from_slice(&bytes[..len]);
        self.lower_names()?;
        Ok(len)
    }

    fn lower_names(&mut self) -> Result<(), HeadError> {
        for f in &self.fields {
            if f.name.len > MAX_NAME {
                return Err(HeadError::Syntax);
            }
            self.buf[f.name.start as usize..(f.name.start + f.name.len) as usize].make_ascii_lowercase();
        }
        Ok(())
    }

    /// The header lines behind a start line that was read.
    fn read_lines(&mut self, mut at: Reader<'_>, accept: Accept) -> Result<usize, HeadError> {
        let bytes = at.bytes;
        // Line ends within folded values, to be blanked.
        let mut folds = Vec::new();
        while !at.blank_line()? {
            if self.fields.len() == usize::from(accept.most_headers) {
                return Err(HeadError::TooManyHeaders);
            }
            let (name, valid) = at.name(accept)?;
            let value = at.value(accept, &mut folds)?;
            if valid {
                self.fields.push(Field { name, value, live: true });
            }
        }
        self.buf.extend_from_slice(&bytes[..at.at]);
        folds.iter().for_each(|i| self.buf[*i] = b' ');
        for f in &mut self.fields {
            let (start, text) = (f.value.start as usize, f.value.get(&self.buf));
            let (lead, len) = super::examine::trimmed(text);
            f.value = Span::new(start + lead, len);
        }
        self.lower_names()?;
        Ok(at.at)
    }
}

fn blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, HeadError> {
        self.bytes.get(self.at).copied().ok_or(HeadError::Partial)
    }

    fn run(&mut self, within: impl Fn(u8) -> bool) -> Result<Span, HeadError> {
        let from = self.at;
        while within(self.peek()?) {
            self.at += 1;
        }
        match self.at - from {
            0 => Err(HeadError::Syntax),
            n => Ok(Span::new(from, n)),
        }
    }

    fn token(&mut self) -> Result<Span, HeadError> {
        self.run(may_begin)
    }
    fn blanks(&mut self) -> Result<Span, HeadError> {
        self.run(blank)
    }
    fn target(&mut self) -> Result<Span, HeadError> {
        self.run(|b| b > b' ' && b != 0x7f)
    }

    /// The minor version: everything beyond 1.1 is taken for that, and 0.9 is not spoken.
    fn version(&mut self) -> Result<u8, HeadError> {
        let there = self.bytes.len() - self.at;
        let text = &self.bytes[self.at..self.at + there.min(8)];
        let shape = |(i, b): (usize, &u8)| match i {
            5 | 7 => b.is_ascii_digit(),
            _ => *b == b"HTTP/1.1"[i],
        };
        if !text.iter().enumerate().all(shape) {
            return Err(HeadError::Version);
        }
        if there < 8 {
            return Err(HeadError::Partial);
        }
        self.at += 8;
        match (text[5], text[7]) {
            (b'0', _) => Err(HeadError::Version),
            (b'1', b'0') => Ok(0),
            _ => Ok(1),
        }
    }

    fn status(&mut self) -> Result<u16, HeadError> {
        let digits = self.run(|b| b.is_ascii_digit())?.get(self.bytes);
        if digits.len() > 3 || !matches!(self.peek()?, b' ' | b'\t' | b'\r' | b'\n') {
            return Err(HeadError::Syntax);
        }
        Ok(digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
    }

    fn reason(&mut self) -> Result<Span, HeadError> {
        while blank(self.peek()?) {
            self.at += 1;
        }
        let from = self.at;
        while !matches!(self.peek()?, b'\r' | b'\n') {
            self.at += 1;
        }
        Ok(Span::new(from, self.at - from))
    }

    /// CRLF, or the line feed alone that old senders write.
    fn line_end(&mut self) -> Result<(), HeadError> {
        if self.peek()? == b'\r' {
            self.at += 1;
        }
        match self.peek()? {
            b'\n' => self.at += 1,
            _ => return Err(HeadError::Syntax),
        }
        Ok(())
    }

    fn blank_line(&mut self) -> Result<bool, HeadError> {
        let end = matches!(self.peek()?, b'\r' | b'\n');
        if end {
            self.line_end()?;
        }
        Ok(end)
    }

    /// A header's name, and whether it is one; others are let through to be dropped if violations are.
    fn name(&mut self, accept: Accept) -> Result<(Span, bool), HeadError> {
        let from = self.at;
        let mut valid = true;
        loop {
            match self.peek()? {
                b':' if self.at == from => return Err(HeadError::Syntax),
                b':' => break,
                b if may_begin(b) => {}
                b'\r' | b'\n' => return Err(HeadError::Syntax),
                _ if accept.violations => valid = false,
                _ => return Err(HeadError::Syntax),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok((Span::new(from, self.at - 1 - from), valid))
    }

    /// A value to its line's end, over folded lines (RFC 9112, 5.2), whose line ends are noted.
    fn value(&mut self, accept: Accept, folds: &mut Vec<usize>) -> Result<Span, HeadError> {
        let from = self.at;
        loop {
            match self.peek()? {
                0 if !accept.violations => return Err(HeadError::Syntax),
                b'\r' | b'\n' => {
                    let end = self.at;
                    self.line_end()?;
                    if !blank(self.peek()?) {
                        return Ok(Span::new(from, end - from));
                    }
                    folds.extend(end..self.at);
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str, accept: Accept) -> Result<String, HeadError> {
        let mut h = Head::default();
        h.parse_request(text.as_bytes(), accept)?;
        let mut out = Vec::new();
        h.write_request(None, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_old_senders_write_is_mended() {
        for (said, want) in [
            ("GET  /\t HTTP/1.2\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\r\na: b   c\r\n\r\n"),
            ("GET / HTTP/1.1\nA:\r\n\tb \r\n \r\n\r\n", "GET / HTTP/1.1\r\na: b\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: \u{1}b\r\n\r\n", "GET / HTTP/1.1\r\na: \u{1}b\r\n\r\n"),
        ] {
            assert_eq!(sent(said, Accept::default()).as_deref(), Ok(want), "{said:?}");
        }
    }

    #[test]
    fn what_cannot_be_mended_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\n A: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "GET / HTTP/0.9\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET /\r\n\r\n",
        ] {
            let e = sent(bad, Accept::default());
            assert!(matches!(e, Err(HeadError::Syntax | HeadError::Version)), "{bad:?} {e:?}");
        }
        let (most, one_more) = ("A: b\r\n".repeat(100), "A: b\r\n".repeat(101));
        assert!(sent(&format!("GET / HTTP/1.1\r\n{most}\r\n"), Accept::default()).is_ok());
        assert_eq!(
            sent(&format!("GET / HTTP/1.1\r\n{one_more}\r\n"), Accept::default()),
            Err(HeadError::TooManyHeaders)
        );
        // Another limit, lower and higher than what the quick reader has room for.
        for (most, is) in [(3, 3), (3, 4), (200, 200), (200, 201)] {
            let text = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(is));
            let accept = Accept { most_headers: most, ..Accept::default() };
            assert_eq!(sent(&text, accept).is_ok(), is <= usize::from(most), "{most} {is}");
        }
    }

    #[test]
    fn violations_are_let_through_or_dropped() {
        let accept = Accept { violations: true, ..Accept::default() };
        assert_eq!(
            sent("GET /#\u{e9} HTTP/1.1\r\nA : b\r\nB: \0\r\n\r\n", accept).as_deref(),
            Ok("GET /#\u{e9} HTTP/1.1\r\nb: \0\r\n\r\n")
        );
        assert!(sent("GET / HTTP/1.1\r\n: b\r\n\r\n", accept).is_err());
    }

    #[test]
    fn a_broken_beginning_is_known_before_its_end() {
        let mut h = Head::default();
        for (bytes, hopeless) in [
            ("GET / HT", false),
            ("GET / HTT\r", true),
            ("GET /\r\n", true),
            ("SSH-2.0-x\r\n", true),
            ("GET / HTTP/1.1\r\nA b\r\n", true),
        ] {
            assert_eq!(h.is_hopeless(bytes.as_bytes(), Accept::default()), hopeless, "{bytes:?}");
        }
    }
}
