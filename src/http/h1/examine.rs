//! What a head says about its message and its connection (RFC 9112, 6 and 9; RFC 9110, 7), and what is made right before it is passed on.
use super::body::Framing;
use super::head::{Accept, Head, HeadError, Span};

/// What the framing headers say together.
#[derive(Default)]
pub(super) struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    /// `Connection: upgrade`
    upgrade: bool,
    /// There is an `Upgrade` with something in it.
    protocols: bool,
    /// There is an `Upgrade`, a `TE`.
    upgrades: bool,
    te: bool,
}

/// Without blanks around it (RFC 9110, 5.6.3): nothing else that looks like one counts as one.
fn trim(text: &[u8]) -> &[u8] {
    let (lead, len) = trimmed(text);
    &text[lead..lead + len]
}

/// Where what is left begins, and its length.
pub(super) fn trimmed(text: &[u8]) -> (usize, usize) {
    let blank = |c: &u8| matches!(c, b' ' | b'\t');
    let lead = text.iter().take_while(|c| blank(c)).count();
    let trail = text[lead..].iter().rev().take_while(|c| blank(c)).count();
    (lead, text.len() - lead - trail)
}

/// Length of `Sec-WebSocket-Key`: 16 bytes in base64 (RFC 6455, 4.1).
const KEY: usize = 24;

/// Characters that may be anywhere in a `Host`.
static PLAIN: [bool; 256] = {
    let mut t = [false; 256];
    let mut i = 0u8;
    while i < 0x80 {
        t[i as usize] = i.is_ascii_alphanumeric() || matches!(i, b'.' | b'-' | b':');
        i += 1;
    }
    t
};

/// Methods that HAProxy knows, which have their own forms of targets.
const KNOWN: &[&[u8]] = &[b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"TRACE", b"CONNECT"];

impl Head {
    pub(super) fn examine_request(&mut self, accept: Accept) -> Result<(), HeadError> {
        let said = self.read_fields(true, accept)?;
        self.examine_target(accept)?;
        self.take(&said);
        self.upgrade &= said.protocols;
        if !self.upgrade {
            // One without the other says nothing.
            if said.upgrades {
                self.kill("upgrade");
            }
            if said.upgrade {
                self.edit("connection", |v| without(v, b"upgrade"));
            }
        } else if self.websocket && self.get("sec-websocket-key").is_none_or(|k| k.len() != KEY && !accept.violations) {
            return Err(HeadError::Syntax);
        }
        if said.te {
            self.edit("te", |v| {
                let trailers = v.split(|c| *c == b',').any(|t| trim(t).eq_ignore_ascii_case(b"trailers"));
                trailers.then(|| b"trailers".to_vec())
            });
        }
        self.framing = match (said.chunked, said.length) {
            (true, _) => Framing::Chunked,
            (false, Some(n)) if n > 0 => Framing::Length(n),
            _ => Framing::None,
        };
        let bare = matches!(self.method.get(&self.buf), b"GET" | b"HEAD" | b"DELETE");
        if self.minor == 0 && bare && self.framing != Framing::None && !accept.any_payload {
            return Err(HeadError::Payload);
        }
        Ok(())
    }

    /// What the headers say about the connection, of either side.
    fn take(&mut self, said: &Said) {
        self.keep_alive = if self.minor == 0 { said.keep && !said.close } else { !said.close };
        self.upgrade = said.upgrade;
        if said.chunked && self.minor == 0 {
            // RFC 9112, 6.1: the framing is not to be trusted; it is passed on as what it is, and the connections end.
            (self.keep_alive, self.doubtful) = (false, true);
        }
        if said.chunked && said.length.is_some() {
            // RFC 9112, 6.3: chunked wins, the length goes, and the connection is not to be trusted any longer.
            self.kill("content-length");
            self.keep_alive = false;
        }
    }

    pub(super) fn examine_response(&mut self, method: &[u8], accept: Accept) -> Result<(), HeadError> {
        let said = self.read_fields(false, accept)?;
        self.take(&said);
        let tunnel = method == b"CONNECT" && self.status / 100 == 2;
        if self.status / 100 == 1 || self.status == 204 || tunnel {
            // RFC 9110, 8.6 and RFC 9112, 6.1: these have no content, and may not say that they have.
            self.kill_if(|n| n == b"content-length" || n == b"transfer-encoding");
        }
        self.framing = match (said.chunked, said.length) {
            _ if method == b"HEAD" || self.status / 100 == 1 || self.status == 204 || self.status == 304 => {
                Framing::None
            }
            _ if tunnel => Framing::UntilClose,
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(n)) => Framing::Length(n),
            (false, None) => {
                self.keep_alive = false;
                Framing::UntilClose
            }
        };
        Ok(())
    }

    /// Reads the headers that frame the message and rule its connection, and writes them as they should be.
    pub(super) fn read_fields(&mut self, request: bool, accept: Accept) -> Result<Said, HeadError> {
        let mut said = Said::default();
        let (mut coded, mut kept, mut others_coded, mut first_length) = (false, false, false, None::<usize>);
        let mut host: Option<Span> = None;
        for i in 0..self.fields.len() {
            let f = self.fields[i];
            let value = f.value.get(&self.buf);
            match f.name.get(&self.buf) {
                b"content-length" => {
                    let mut canonical = true;
                    for part in value.split(|c| *c == b',') {
                        let n = digits(trim(part)).ok_or(HeadError::ContentLength)?;
                        if said.length.is_some_and(|l| l != n) {
                            return Err(HeadError::ContentLength);
                        }
                        said.length = Some(n);
                        canonical &= part.len() == value.len() && (value[0] != b'0' || value.len() == 1);
                    }
                    if first_length.is_some() {
                        // The same said twice is said once.
                        self.fields[i].live = false;
                    } else if let (false, Some(n)) = (canonical, said.length) {
                        self.fields[i].value = self.keep(n.to_string().as_bytes());
                    }
                    first_length = first_length.or(Some(i));
                }
                b"transfer-encoding" => {
                    let lax = accept.violations && !request;
                    let quotes = value.iter().filter(|c| **c == b'"').count();
                    if quotes % 2 == 1 {
                        return Err(HeadError::TransferEncoding);
                    }
                    for coding in value.split(|c| *c == b',').map(trim) {
                        let chunked = coding.eq_ignore_ascii_case(b"chunked");
                        if coding.is_empty() || said.chunked {
                            if lax && (coding.is_empty() || chunked) {
                                continue;
                            }
                            return Err(HeadError::TransferEncoding);
                        }
                        said.chunked = chunked;
                        others_coded |= !chunked;
                    }
                    // Whoever comes next should read it as it was read here.
                    self.fields[i].live = !kept && said.chunked;
                    kept |= self.fields[i].live;
                    if value != b"chunked" {
                        self.fields[i].value = self.keep(b"chunked");
                    }
                    coded = true;
                }
                b"connection" => {
                    for token in value.split(|c| *c == b',').map(trim) {
                        said.close |= token.eq_ignore_ascii_case(b"close");
                        said.keep |= token.eq_ignore_ascii_case(b"keep-alive");
                        said.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                    }
                    // What each side says for itself is taken off here; what is found later was put there by a rule.
                    if is_ours(value) {
                        let others: Vec<&[u8]> = others(value).collect();
                        let others = others.join(&b","[..]);
                        self.fields[i].live = !others.is_empty();
                        self.fields[i].value = self.keep(&others);
                    }
                }
                b"host" if request => {
                    if !value.iter().all(|c| PLAIN[usize::from(*c)])
                        && !value.iter().enumerate().all(|(i, _)| may_be_in_host(value, i))
                    {
                        return Err(HeadError::Syntax);
                    }
                    match host {
                        // Two that differ could be routed by one and served by the other.
                        Some(h) if !h.get(&self.buf).eq_ignore_ascii_case(value) => return Err(HeadError::Syntax),
                        Some(_) => self.fields[i].live = false,
                        None => host = Some(f.value),
                    }
                }
                b"te" => said.te = true,
                b"upgrade" => {
                    said.upgrades = true;
                    // The step to HTTP/2 in clear text would go past everything that is done to requests here.
                    let h2 = |t: &[u8]| t.eq_ignore_ascii_case(b"h2c") || t.eq_ignore_ascii_case(b"h2");
                    let of = |v: &[u8]| v.split(|c| *c == b',').map(trim).any(h2);
                    if of(value) {
                        let kept = without(value, b"h2c").and_then(|v| without(&v, b"h2"));
                        self.fields[i].live = kept.is_some();
                        self.fields[i].value = self.keep(&kept.unwrap_or_default());
                    }
                    let now = self.fields[i].value.get(&self.buf);
                    said.protocols |= self.fields[i].live && !now.is_empty();
                    self.websocket |= now.split(|c| *c == b',').any(|t| trim(t).eq_ignore_ascii_case(b"websocket"));
                }
                b"expect" => self.expect_continue |= trim(value).eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        if coded && !said.chunked && (others_coded || !accept.violations) {
            // A coding that is not chunked cannot delimit a message.
            return Err(HeadError::TransferEncoding);
        }
        if others_coded {
            return Err(HeadError::Coding);
        }
        Ok(said)
    }

    /// The forms of a target (RFC 9112, 3.2), and that it and `Host` name the same place, each without a port that goes without saying.
    fn examine_target(&mut self, accept: Accept) -> Result<(), HeadError> {
        let (method, target) = (self.method.get(&self.buf), self.target.get(&self.buf));
        if !accept.violations && target.iter().any(|c| *c == b'#' || *c >= 0x80) {
            return Err(HeadError::Syntax);
        }
        let connect = method == b"CONNECT";
        // The preface of HTTP/2 (RFC 9113, 3.4) is no request.
        if method.eq_ignore_ascii_case(b"PRI") {
            return Err(HeadError::Syntax);
        }
        let star = target == b"*" && !KNOWN.contains(&method);
        if !connect && (target.starts_with(b"/") || star) {
            return Ok(());
        }
        let (from, authority, path, default) = if connect {
            let place = target.iter().rposition(|c| *c == b'@').map_or(target, |p| &target[p + 1..]);
            let (_, port) = split_port(place);
            let good = port.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
            if !accept.violations && !good || place.contains(&b'/') || target == b"*" {
                return Err(HeadError::Syntax);
            }
            (0, place, target.len(), port.filter(|p| matches!(*p, b"80" | b"443")).unwrap_or_default())
        } else {
            let at = target.windows(3).position(|w| w == b"://").ok_or(HeadError::Syntax)?;
            let scheme = &target[..at];
            let letter = |c: &u8| c.is_ascii_alphanumeric() || b"+-.".contains(c);
            if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(letter) {
                return Err(HeadError::Syntax);
            }
            let rest = &target[at + 3..];
            let end = rest.iter().position(|c| matches!(*c, b'/' | b'?' | b'#')).unwrap_or(rest.len());
            // Who asks is not where (RFC 3986, 3.2.1).
            let place = &rest[..end];
            let place = place.iter().rposition(|c| *c == b'@').map_or(place, |p| &place[p + 1..]);
            let default: &[u8] = match scheme.to_ascii_lowercase().as_slice() {
                b"http" => b"80",
                b"https" => b"443",
                _ => b"",
            };
            (at + 3 + end - place.len(), place, at + 3 + end, default)
        };
        if !accept.violations && !authority.iter().enumerate().all(|(i, _)| may_be_in_host(authority, i)) {
            return Err(HeadError::Syntax);
        }
        let bare = |a: &[u8]| -> usize {
            match split_port(a) {
                (name, Some(p)) if p.is_empty() || p == default => name.len(),
                _ => a.len(),
            }
        };
        // What names no port loses nothing beside CONNECT, whose target names one.
        let keeps = |a: &[u8]| connect && split_port(a).1.is_some_and(<[u8]>::is_empty);
        let place = &authority[..bare(authority)];
        let mut shorter = None;
        if let Some(i) = self.fields.iter().position(|f| f.live && f.name.get(&self.buf) == b"host") {
            let value = self.fields[i].value;
            let text = value.get(&self.buf);
            let n = bare(text);
            let same = text[..n].eq_ignore_ascii_case(place);
            if !accept.violations && !same {
                return Err(HeadError::Syntax);
            }
            if same && place.len() < authority.len() && !keeps(text) {
                shorter = Some((i, Span::new(value.start as usize, n)));
            }
        }
        if !connect {
            let (before, after) = (target[..from].to_vec(), target[path..].to_vec());
            let slash: &[u8] = if after.is_empty() && method != b"OPTIONS" { b"/" } else { b"" };
            let whole = [&before[..], place, slash, &after[..]].concat();
            if whole != target {
                self.target = self.keep(&whole);
            }
        }
        if let Some((i, span)) = shorter {
            self.fields[i].value = span;
        }
        Ok(())
    }
}

/// A name or address, and what stands behind its last colon.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    match authority.iter().rposition(|c| *c == b':') {
        Some(i) if !authority[i..].contains(&b']') => (&authority[..i], Some(&authority[i + 1..])),
        _ => (authority, None),
    }
}

/// The characters HAProxy takes in an authority: visible ones that do not end it, and brackets around it only.
fn may_be_in_host(host: &[u8], i: usize) -> bool {
    match host[i] {
        b'[' => i == 0,
        b']' => host.get(i + 1).is_none_or(|c| *c == b':'),
        b',' | b'#' | b'/' | b'?' | b'@' | b'\\' => false,
        b'!'..=b'~' => !(i + 1 == host.len() && host[0] == b'[' && !host.contains(&b']')),
        _ => false,
    }
}

/// A list without one of its tokens; `None` if nothing is left.
fn without(list: &[u8], gone: &[u8]) -> Option<Vec<u8>> {
    let kept: Vec<&[u8]> =
        list.split(|c| *c == b',').map(trim).filter(|t| !t.is_empty() && !t.eq_ignore_ascii_case(gone)).collect();
    (!kept.is_empty()).then(|| kept.join(&b","[..]))
}

fn ours(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive")
}

/// True if a `Connection` header says close.
pub(super) fn closes(connection: &[u8]) -> bool {
    connection.split(|c| *c == b',').any(|t| trim(t).eq_ignore_ascii_case(b"close"))
}

/// True if a `Connection` header says what each side says for itself.
pub(super) fn is_ours(connection: &[u8]) -> bool {
    connection.is_empty() || connection.split(|c| *c == b',').any(|t| ours(trim(t)))
}

fn others(connection: &[u8]) -> impl Iterator<Item = &[u8]> {
    connection.split(|c| *c == b',').map(trim).filter(|t| !t.is_empty() && !ours(t))
}

/// Writes what a `Connection` header says besides, if anything.
pub(super) fn without_ours(connection: &[u8], out: &mut Vec<u8>) {
    let mut first = true;
    for token in others(connection) {
        out.extend_from_slice(if first { b"connection: " } else { b"," });
        out.extend_from_slice(token);
        first = false;
    }
    if !first {
        out.extend_from_slice(b"\r\n");
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, c| {
        let d = c.is_ascii_digit().then(|| u64::from(c - b'0'))?;
        n.checked_mul(10)?.checked_add(d)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Result<String, HeadError> {
        let mut h = Head::default();
        h.parse_request(text.as_bytes(), Accept::default())?;
        let mut out = Vec::new();
        h.write_request(None, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn headers_of_the_connection_are_made_right() {
        for (said, want) in [
            ("Connection: foo, close, bar", "connection: foo,bar\r\n"),
            ("Connection: foo\r\nConnection: bar", "connection: foo\r\nconnection: bar\r\n"),
            ("Connection: Upgrade\r\nUpgrade: foo", "connection: Upgrade\r\nupgrade: foo\r\n"),
            ("Connection: upgrade, foo", "connection: foo\r\n"),
            ("Upgrade: foo", ""),
            ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "connection: HTTP2-Settings\r\n"),
            ("Connection: Upgrade\r\nUpgrade: foo, H2C", "connection: Upgrade\r\nupgrade: foo\r\n"),
            ("TE: deflate\r\nTE: trailers, gzip", "te: trailers\r\n"),
            ("Transfer-Encoding: CHUNKED", "transfer-encoding: chunked\r\n"),
            ("Content-Length: 05 , 5", "content-length: 5\r\n"),
        ] {
            let got = sent(&format!("POST / HTTP/1.1\r\n{said}\r\n\r\n")).unwrap();
            assert_eq!(got, format!("POST / HTTP/1.1\r\n{want}\r\n"), "{said}");
        }
    }

    #[test]
    fn framing_that_two_readers_could_read_differently_is_refused() {
        for (said, want) in [
            ("Transfer-Encoding: ", HeadError::TransferEncoding),
            ("Transfer-Encoding: ,chunked", HeadError::TransferEncoding),
            ("Transfer-Encoding: chunked,", HeadError::TransferEncoding),
            ("Transfer-Encoding:\r\nTransfer-Encoding: chunked", HeadError::TransferEncoding),
            ("Transfer-Encoding: \"a, chunked", HeadError::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked", HeadError::Coding),
            ("Content-Length: 18446744073709551616", HeadError::ContentLength),
            ("Connection: Upgrade\r\nUpgrade: websocket", HeadError::Syntax),
        ] {
            assert_eq!(sent(&format!("POST / HTTP/1.1\r\n{said}\r\n\r\n")), Err(want), "{said}");
        }
        assert_eq!(sent("GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\n"), Err(HeadError::Payload));
    }

    #[test]
    fn target_and_host_are_one_place() {
        for (line, host, want) in [
            ("GET http://h:80/x", "h", Some(("GET http://h/x", "h"))),
            ("GET http://h:", "h:80", Some(("GET http://h/", "h"))),
            ("GET https://u@h:443?q", "h:443", Some(("GET https://u@h?q", "h"))),
            ("GET http://[::1]:80/", "[::1]", Some(("GET http://[::1]/", "[::1]"))),
            ("GET /?u=http://other/", "h", Some(("GET /?u=http://other/", "h"))),
            ("FOO *", "h", Some(("FOO *", "h"))),
            ("CONNECT h:443", "h", Some(("CONNECT h:443", "h"))),
            ("CONNECT u@h:443", "h:443", Some(("CONNECT u@h:443", "h"))),
            ("GET *", "h", None),
            ("GET http://h/", "i", None),
            ("GET 1http://h/", "h", None),
            ("CONNECT h", "h", None),
            ("CONNECT h:x", "h:x", None),
            ("CONNECT http://h:443/", "h:443", None),
            ("GET /", "a,b", None),
            ("GET /", "u@h", None),
            ("GET /", "[::1", None),
            ("GET /", "a b", None),
        ] {
            let got = sent(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n")).ok();
            let want = want.map(|(l, h)| format!("{l} HTTP/1.1\r\nhost: {h}\r\n\r\n"));
            assert_eq!(got, want, "{line} {host}");
        }
    }
}
