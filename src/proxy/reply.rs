//! Answers the proxy makes itself: error pages, `return`, `redirect`, services.
use super::ServiceReply;
use super::outcome::Exchange;
use crate::http::status;
use crate::rules::action::{Body, Redirect, RedirectTo, Reply, SetCookie};
use crate::rules::sample::{path_of, pathq_of};

/// A message ready to be written, with what logs and connection handling need to know of it.
pub struct Message {
    pub status: u16,
    /// Head without the connection header and the blank line.
    head: Vec<u8>,
    body: Vec<u8>,
    /// The size as HAProxy's logs and counters have it: names and values without separators.
    pub accounted: u64,
    /// The same without the body, for answers to HEAD.
    pub accounted_head: u64,
    /// The end of the message can only be the end of the connection.
    pub must_close: bool,
}

impl Message {
    pub fn new(status: u16, reason: &str, headers: &[(&str, &[u8])], body: Vec<u8>) -> Self {
        let mut head = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
        let mut accounted = 20 + 8 + 3 + reason.len() + 1;
        for (n, v) in headers {
            head.extend_from_slice(n.as_bytes());
            head.extend_from_slice(b": ");
            let at = head.len();
            head.extend_from_slice(v);
            crate::rules::logformat::header_safe(&mut head[at..]);
            head.extend_from_slice(b"\r\n");
            accounted += n.len() + v.len();
        }
        Self {
            status,
            head,
            accounted: (accounted + body.len()) as u64,
            accounted_head: accounted as u64,
            body,
            must_close: false,
        }
    }

    /// A whole message as an `errorfile` or the built-in pages hold it.
    pub fn raw(status: u16, bytes: &[u8]) -> Self {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Self {
                status,
                head: Vec::new(),
                body: Vec::new(),
                accounted: 0,
                accounted_head: 0,
                must_close: true,
            };
        };
        let (head, body) = (bytes[..end + 2].to_vec(), bytes[end + 4..].to_vec());
        let text = String::from_utf8_lossy(&head).into_owned();
        let first: usize = text.lines().next().map_or(0, |l| l.len().saturating_sub(2));
        let fields: usize =
            text.lines().skip(1).filter_map(|l| l.split_once(": ")).map(|(n, v)| n.len() + v.len()).sum();
        let must_close = text.starts_with("HTTP/1.0") || !text.contains("\r\ncontent-length: ");
        let size = (20 + first + fields + 1) as u64;
        Self { status, head, accounted: size + body.len() as u64, accounted_head: size, body, must_close }
    }

    /// The head in a form that rules can edit; false if it cannot be one.
    pub fn to_head(&self, into: &mut crate::http::h1::head::Head) -> bool {
        let whole = [&self.head[..], b"\r\n"].concat();
        into.parse_response(&whole, b"GET", crate::http::h1::head::Accept::default()).is_ok()
    }

    /// Takes the head back that rules have edited.
    pub fn take_head(&mut self, from: &crate::http::h1::head::Head) {
        let mut head = Vec::with_capacity(self.head.len() + 128);
        from.write_response(None, &mut head);
        // The blank line comes with the connection header.
        head.truncate(head.len() - 2);
        self.status = from.status;
        let body = self.accounted - self.accounted_head;
        self.accounted_head = from.accounted();
        self.accounted = self.accounted_head + body;
        self.head = head;
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Bytes for the wire. `early`: a parse error or time-out, answered before a request was understood; HAProxy puts the header elsewhere then.
    pub fn write(&self, connection: Option<&str>, head_only: bool, early: bool, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            return;
        }
        let line = connection.map(|c| format!("connection: {c}\r\n"));
        match (&line, early) {
            (Some(l), true) => {
                let at = self
                    .head
                    .windows(13)
                    .position(|w| w.eq_ignore_ascii_case(b"content-type:"))
                    .unwrap_or(self.head.len());
                out.extend_from_slice(&self.head[..at]);
                out.extend_from_slice(l.as_bytes());
                out.extend_from_slice(&self.head[at..]);
            }
            _ => {
                out.extend_from_slice(&self.head);
                out.extend_from_slice(line.as_deref().unwrap_or_default().as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(&self.body);
        }
    }

    pub fn service(r: ServiceReply) -> Self {
        let length = r.body.len().to_string();
        let mut headers: Vec<(&str, &[u8])> = r.headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        headers.push(("content-length", length.as_bytes()));
        Self::new(r.status, status::reason(r.status), &headers, r.body)
    }
}

/// The answer for a status: the backend's `errorfile` or `http-error`, else the frontend's, else the built-in one.
pub fn page(status: u16, x: &Exchange<'_>) -> Message {
    for node in [x.backend(), &x.fe] {
        match (node.conf.error_replies.get(&status), node.pages.get(&status)) {
            (Some(r), _) if !matches!(r.body, Body::Default) => return from_rule(r, x),
            (_, Some(file)) => return Message::raw(status, file),
            _ => {}
        }
    }
    Message::raw(status, &x.fe.page(status))
}

/// The answer of `deny`, `return` and `tarpit`.
pub fn from_rule(r: &Reply, x: &Exchange<'_>) -> Message {
    let body = match &r.body {
        Body::Default => return page(r.status, x),
        Body::Raw(bytes) => return Message::raw(r.status, bytes),
        Body::Bytes(b) => b.to_vec(),
        Body::Format(f) => {
            let mut out = Vec::new();
            f.render(x, &mut out);
            out
        }
        Body::Empty => Vec::new(),
    };
    let rendered: Vec<(&str, Vec<u8>)> = r
        .headers
        .iter()
        .map(|(n, f)| {
            let mut v = Vec::new();
            f.render(x, &mut v);
            (n.as_str(), v)
        })
        // A header without a value is left out.
        .filter(|(_, v)| !v.trim_ascii().is_empty())
        .collect();
    let length = body.len().to_string();
    let mut headers: Vec<(&str, &[u8])> = rendered.iter().map(|(n, v)| (*n, &v[..])).collect();
    if r.status != 204 {
        headers.push(("content-length", length.as_bytes()));
    }
    if let Some(t) = r.content_type.as_ref().filter(|_| !body.is_empty()) {
        headers.push(("content-type", t.as_bytes()));
    }
    Message::new(r.status, status::reason(r.status), &headers, body)
}

/// `None` if the rule is to be passed over.
pub fn redirect(r: &Redirect, x: &Exchange<'_>) -> Option<Message> {
    let url = x.req.target();
    let mut location = Vec::new();
    match &r.to {
        RedirectTo::Location(f) => {
            f.render(x, &mut location);
            if r.ignore_empty && location.is_empty() {
                return None;
            }
            if r.keep_query {
                push_query(url, &mut location);
            }
        }
        RedirectTo::Scheme(f) => {
            f.render(x, &mut location);
            location.extend_from_slice(b"://");
            location.extend_from_slice(x.req.get("host").unwrap_or_default());
            push_path(url, r, &mut location);
        }
        RedirectTo::Prefix(f) => {
            f.render(x, &mut location);
            if location == b"/" {
                location.clear();
            }
            push_path(url, r, &mut location);
        }
    }
    let mut headers: Vec<(&str, &[u8])> = vec![("content-length", b"0"), ("location", &location)];
    if matches!(r.code, 302 | 303 | 307) {
        headers.push(("cache-control", b"no-cache"));
    }
    let mut made = Vec::new();
    match &r.set_cookie {
        None => {}
        Some(SetCookie::Whole(c)) => headers.push(("set-cookie", c.as_bytes())),
        Some(SetCookie::Format(f)) => {
            f.render(x, &mut made);
            made.extend_from_slice(b"; path=/;");
            headers.push(("set-cookie", &made));
        }
    }
    Some(Message::new(r.code, status::reason(r.code), &headers, Vec::new()))
}

/// Appends the query string of `url`, if there is one, to a location which may have one as well.
fn push_query(url: &[u8], location: &mut Vec<u8>) {
    let Some(at) = url.iter().position(|b| *b == b'?').filter(|at| at + 1 < url.len()) else { return };
    match location.iter().position(|b| *b == b'?') {
        None => location.push(b'?'),
        Some(q) if q + 1 < location.len() => location.push(b'&'),
        Some(_) => {}
    }
    location.extend_from_slice(&url[at + 1..]);
}

/// `redir` of a server: the client is to ask somebody else.
pub fn elsewhere(prefix: &str, target: &[u8]) -> Message {
    let location = [prefix.as_bytes(), pathq_of(target).unwrap_or(b"/")].concat();
    let headers: [(&str, &[u8]); 3] =
        [("cache-control", b"no-cache"), ("content-length", b"0"), ("location", &location)];
    Message::new(302, status::reason(302), &headers, Vec::new())
}

fn push_path(url: &[u8], r: &Redirect, out: &mut Vec<u8>) {
    let (path, pathq) = (path_of(url).unwrap_or(b"/"), pathq_of(url).unwrap_or(b"/"));
    let base = if r.drop_query { path } else { pathq };
    out.extend_from_slice(base);
    if r.append_slash && path.last() != Some(&b'/') {
        out.push(b'/');
    }
}
