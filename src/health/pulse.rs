//! What checkers of virtual servers decide (keepalived.conf(5), "Virtual server(s)"): pure, bytes and results in, verdicts out.
use super::found::Found;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One checker of a `real_server`. All of them have to be content.
#[derive(Clone, Debug)]
pub struct Checker {
    /// `TCP_CHECK`, `HTTP_GET`, ...
    pub name: &'static str,
    pub probe: Probe,
    /// `connect_ip`, `connect_port`
    pub to: (Option<IpAddr>, Option<u16>),
    /// `bindto`, `bind_port`, `bind_if`
    pub from: Option<Origin>,
    /// `connect_timeout`
    pub timeout: Duration,
    /// `retry`: failures behind the first one before it counts.
    pub retry: u32,
    /// `delay_before_retry`
    pub retry_delay: Duration,
    /// `delay_loop`
    pub every: Duration,
    /// `warmup`: the first check comes within so much time.
    pub warmup: Duration,
    /// `alpha`: the server is down until this was content.
    pub alpha: bool,
    /// `fast_recovery`: no pause between the URLs of one that comes back.
    pub fast_recovery: bool,
}

#[derive(Clone, Debug)]
pub enum Probe {
    Tcp,
    Http(Box<HttpProbe>),
    Smtp {
        helo: String,
    },
    Dns {
        /// As in the packet.
        kind: u16,
        name: String,
    },
    Udp(Box<UdpProbe>),
    Ping,
    /// Told by the guardian: a script (`MISC_CHECK`), a file (`FILE_CHECK`), a neighbour (`BFD_CHECK`); the key of it.
    Outside(String),
}

#[derive(Clone, Debug)]
pub struct HttpProbe {
    pub tls: bool,
    /// `enable_sni`, `sni_name`
    pub sni: Option<String>,
    pub version: HttpVersion,
    pub urls: Vec<Url>,
}

/// `http_protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    #[default]
    V10,
    /// With `Connection: close`.
    V10C,
    V11,
}

#[derive(Clone, Debug)]
pub struct Url {
    pub path: String,
    pub host: Option<String>,
    /// MD5 of the answer's body.
    pub digest: Option<[u8; 16]>,
    pub status: Vec<(u16, u16)>,
    /// `regex`, and whether it must not match.
    pub regex: Option<(regex::bytes::Regex, bool)>,
    /// `regex_min_offset`, `regex_max_offset`: where a match may begin.
    pub offsets: (usize, Option<usize>),
}

#[derive(Clone, Debug, Default)]
pub struct UdpProbe {
    /// None: something random.
    pub payload: Option<Vec<u8>>,
    /// An answer is wanted: octets, and which of their bits count.
    pub reply: Option<Vec<(u8, u8)>>,
    pub min: usize,
    pub max: usize,
}

/// Where checks come from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub addr: SocketAddr,
    pub interface: Option<String>,
}

/// The rhythm of one checker, and what it holds of its server.
#[derive(Clone, Debug)]
pub struct Pulse {
    up: bool,
    /// Failures in a row while it is up; successes in a row while it is down.
    row: u32,
    /// Of several URLs, the one whose turn it is.
    pub turn: usize,
}

impl Pulse {
    pub fn new(up: bool) -> Self {
        Self { up, row: 0, turn: 0 }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Takes a result in: whether it holds anything else than before, and when to ask again.
    pub fn took(&mut self, c: &Checker, passed: bool) -> (Option<bool>, Duration) {
        let parts = match &c.probe {
            Probe::Http(h) => h.urls.len().max(1),
            _ => 1,
        };
        if passed {
            self.turn = (self.turn + 1) % parts;
        }
        match (self.up, passed) {
            (true, true) => {
                self.row = 0;
                (None, c.every)
            }
            (true, false) => {
                self.row += 1;
                if self.row <= c.retry {
                    return (None, c.retry_delay);
                }
                (self.up, self.row, self.turn) = (false, 0, 0);
                (Some(false), c.every)
            }
            (false, false) => {
                (self.row, self.turn) = (0, 0);
                (None, c.every)
            }
            // One that comes back has to pass them all.
            (false, true) => {
                self.row += 1;
                if (self.row as usize) < parts {
                    return (None, if c.fast_recovery { Duration::ZERO } else { c.every });
                }
                (self.up, self.row) = (true, 0);
                (Some(true), c.every)
            }
        }
    }
}

/// `HTTP_GET`: the request for a URL.
pub fn request(h: &HttpProbe, u: &Url, to: SocketAddr) -> Vec<u8> {
    let usual = if h.tls { 443 } else { 80 };
    let host = u.host.clone().unwrap_or_else(|| match to {
        _ if to.port() != usual => to.to_string(),
        SocketAddr::V4(a) => a.ip().to_string(),
        SocketAddr::V6(a) => format!("[{}]", a.ip()),
    });
    let (version, close) = match h.version {
        HttpVersion::V10 => ("1.0", ""),
        HttpVersion::V10C => ("1.0", "Connection: close\r\n"),
        HttpVersion::V11 => ("1.1", "Connection: close\r\n"),
    };
    format!("GET {} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\n{close}Host: {host}\r\n\r\n", u.path).into_bytes()
}

/// What an answer is worth.
pub fn judge(u: &Url, status: u16, body: &[u8]) -> Found {
    let code = i32::from(status);
    if !u.status.iter().any(|(a, b)| (*a..=*b).contains(&status)) {
        return Found::new("L7STS", code, format!("{} : status {status}", u.path));
    }
    if let Some(want) = u.digest {
        use md5::Digest;
        let is: [u8; 16] = md5::Md5::digest(body).into();
        if is != want {
            let text: String = is.iter().map(|b| format!("{b:02x}")).collect();
            return Found::new("L7RSP", code, format!("{} : the digest is {text}", u.path));
        }
    }
    if let Some((r, unwanted)) = &u.regex {
        let from = u.offsets.0.min(body.len());
        let found = r.find_at(body, from).is_some_and(|m| u.offsets.1.is_none_or(|most| m.start() <= most));
        if found == *unwanted {
            let what = if found { "matches" } else { "does not match" };
            return Found::new("L7RSP", code, format!("{} : the answer {what} '{}'", u.path, r.as_str()));
        }
    }
    Found::new("L7OK", code, "")
}

/// `DNS_CHECK`: the question, and the number that its answer has to carry.
pub fn question(kind: u16, name: &str) -> Option<(u16, Vec<u8>)> {
    let mut m = Message::query();
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(Name::from_utf8(name).ok()?, RecordType::from(kind)));
    Some((m.metadata.id, m.to_vec().ok()?))
}

/// What came back is an answer to the question, and no error; none if it is something else.
pub fn answered(bytes: &[u8], id: u16) -> Option<Found> {
    use hickory_proto::op::MessageType;
    let m = Message::from_vec(bytes).ok()?;
    if m.metadata.id != id || m.metadata.message_type != MessageType::Response {
        return None;
    }
    let code = m.metadata.response_code;
    Some(match u16::from(code) {
        0 => Found::new("L7OK", 0, ""),
        n => Found::new("L7STS", n.into(), format!("{code}")),
    })
}

/// `UDP_CHECK`: whether an answer is what is wanted.
pub fn replied(u: &UdpProbe, bytes: &[u8]) -> Found {
    let Some(want) = &u.reply else { return Found::bare("L7OK") };
    if !(u.min..=u.max).contains(&bytes.len()) {
        return Found::new("L7RSP", 0, format!("an answer of {} bytes, not {} to {}", bytes.len(), u.min, u.max));
    }
    match bytes.iter().zip(want).position(|(b, (w, mask))| b & mask != w & mask) {
        Some(at) => Found::new("L7RSP", 0, format!("the answer differs at byte {at}")),
        None => Found::bare("L7OK"),
    }
}

/// `PING_CHECK`: an echo request (RFC 792, RFC 4443); the kernel fills in its identifier.
pub fn echo(six: bool, number: u16) -> [u8; 16] {
    let mut p = [0; 16];
    p[0] = if six { 128 } else { 8 };
    p[6..8].copy_from_slice(&number.to_be_bytes());
    p[8..].copy_from_slice(b"tandem..");
    if !six {
        let sum: u32 = p.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
        p[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    p
}

/// The answer to it.
pub fn is_echo(six: bool, number: u16, bytes: &[u8]) -> bool {
    let kind = if six { 129 } else { 0 };
    bytes.len() >= 8 && bytes[0] == kind && bytes[6..8] == number.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker(probe: Probe, retry: u32) -> Checker {
        let s = Duration::from_secs;
        Checker {
            name: "TCP_CHECK",
            probe,
            to: (None, None),
            from: None,
            timeout: s(5),
            retry,
            retry_delay: s(3),
            every: s(10),
            warmup: s(0),
            alpha: false,
            fast_recovery: false,
        }
    }

    fn url(path: &str) -> Url {
        Url { path: path.into(), host: None, digest: None, status: vec![(200, 299)], regex: None, offsets: (0, None) }
    }

    #[test]
    fn a_failure_is_asked_again_before_it_counts() {
        let (c, s) = (checker(Probe::Tcp, 2), Duration::from_secs);
        let mut p = Pulse::new(true);
        assert_eq!(p.took(&c, false), (None, s(3)));
        assert_eq!(p.took(&c, true), (None, s(10)));
        assert_eq!(p.took(&c, false), (None, s(3)));
        assert_eq!(p.took(&c, false), (None, s(3)));
        assert_eq!(p.took(&c, false), (Some(false), s(10)));
        assert_eq!(p.took(&c, false), (None, s(10)));
        assert_eq!(p.took(&c, true), (Some(true), s(10)));
        assert!(p.is_up());
    }

    #[test]
    fn one_that_comes_back_passes_all_urls() {
        let urls = vec![url("/a"), url("/b")];
        let h = HttpProbe { tls: false, sni: None, version: HttpVersion::V10, urls };
        let mut c = checker(Probe::Http(Box::new(h)), 0);
        c.fast_recovery = true;
        let mut p = Pulse::new(true);
        assert_eq!((p.took(&c, true).0, p.turn), (None, 1));
        assert_eq!((p.took(&c, false), p.turn), ((Some(false), c.every), 0));
        assert_eq!((p.took(&c, true), p.turn), ((None, Duration::ZERO), 1));
        assert_eq!((p.took(&c, false), p.turn), ((None, c.every), 0));
        assert_eq!((p.took(&c, true), p.turn), ((None, Duration::ZERO), 1));
        assert_eq!((p.took(&c, true), p.turn), ((Some(true), c.every), 0));
    }

    #[test]
    fn answers_are_judged() {
        let mut u = url("/x");
        assert_eq!(judge(&u, 204, b"").status, "L7OK");
        assert_eq!(judge(&u, 404, b"").status, "L7STS");
        // md5 of "hello"
        u.digest = crate::health::script::hex(b"5d41402abc4b2a76b9719d911017c592").unwrap().try_into().ok();
        assert_eq!(judge(&u, 200, b"hello").status, "L7OK");
        assert_eq!(judge(&u, 200, b"hellO").status, "L7RSP");
        u.digest = None;
        u.regex = Some((crate::health::script::regex("ell").unwrap(), false));
        assert_eq!(judge(&u, 200, b"hello").status, "L7OK");
        assert_eq!(judge(&u, 200, b"world").status, "L7RSP");
        u.offsets = (2, None);
        assert_eq!(judge(&u, 200, b"hello").status, "L7RSP");
        u.offsets = (0, Some(0));
        assert_eq!(judge(&u, 200, b"hello").status, "L7RSP");
        u.regex = Some((crate::health::script::regex("oops").unwrap(), true));
        assert_eq!(judge(&u, 200, b"hello").status, "L7OK");
    }

    #[test]
    fn requests_name_their_host() {
        let h = |tls, version| HttpProbe { tls, sni: None, version, urls: Vec::new() };
        let text = |h: &HttpProbe, u: &Url, to: &str| String::from_utf8(request(h, u, to.parse().unwrap())).unwrap();
        let t = text(&h(false, HttpVersion::V10), &url("/"), "10.0.0.1:80");
        assert_eq!(t, "GET / HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: 10.0.0.1\r\n\r\n");
        let t = text(&h(true, HttpVersion::V11), &Url { host: Some("www".into()), ..url("/x") }, "[::1]:80");
        assert_eq!(t, "GET /x HTTP/1.1\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: www\r\n\r\n");
    }

    #[test]
    fn datagrams() {
        let (id, mut q) = question(6, ".").unwrap();
        assert!(answered(&q, id).is_none(), "it is the question");
        q[2] |= 0x80;
        // It is no answer to another question, and an answer without an error is one.
        assert!(answered(&q, id ^ 1).is_none());
        assert_eq!(answered(&q, id).unwrap().status, "L7OK");
        let mut refused = q;
        refused[3] |= 5;
        assert_eq!(answered(&refused, id).unwrap().status, "L7STS");
        let u = |reply| UdpProbe { payload: None, reply, min: 2, max: 4 };
        assert_eq!(replied(&u(None), b"").status, "L7OK");
        assert_eq!(replied(&u(Some(Vec::new())), b"a").status, "L7RSP");
        assert_eq!(replied(&u(Some(Vec::new())), b"ab").status, "L7OK");
        assert_eq!(replied(&u(Some(vec![(b'a', 0xff), (0, 0)])), b"azzz").status, "L7OK");
        assert_eq!(replied(&u(Some(vec![(b'a', 0xff), (b'b', 0x0f)])), b"ac").status, "L7RSP");
        let p = echo(false, 3);
        let sum: u32 = p.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        let mut back = p;
        back[0] = 0;
        assert!(is_echo(false, 3, &back) && !is_echo(false, 4, &back) && !is_echo(false, 3, &p));
    }
}
