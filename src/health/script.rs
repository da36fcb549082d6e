//! Checks that are written as rules (configuration manual 4.2, `tcp-check`, `http-check`): steps in, bytes in; what to do next out.
use super::found::Found;
use crate::http::h1::body::Follower;
use crate::http::h1::head::{Accept, Head, HeadError};
use crate::rules::action::NameMatch;
use crate::rules::gauge::Gauge;
use crate::rules::logformat::LogFormat;
use crate::rules::sample::{Expr, HeadSide, Number, Traffic, split_list};
use std::net::IpAddr;

/// A whole check.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Of `http-check` rules.
    pub http: bool,
    /// `http-check disable-on-404`
    pub disable_on_404: bool,
    pub steps: Vec<Step>,
}

impl Script {
    /// A connection is all that is wanted.
    pub fn connect() -> Self {
        let c = Connect { implicit: true, ..Connect::default() };
        Self { steps: vec![Step { number: 0, comment: None, act: Act::Connect(Box::new(c)) }], ..Self::default() }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Its place among the lines of its section, from 1; results name it. 0 for one that no line says.
    pub number: usize,
    pub comment: Option<String>,
    pub act: Act,
}

impl Step {
    /// It connects, and says where.
    pub fn names_port(&self) -> bool {
        matches!(&self.act, Act::Connect(c) if !matches!(c.port, CheckPort::Server) || c.addr.is_some_and(|a| a.1.is_some()))
    }
}

#[derive(Clone, Debug)]
pub enum Act {
    Connect(Box<Connect>),
    Send(Send),
    Expect(Box<Expect>),
    SetVar(String, Expr),
    SetVarFmt(String, LogFormat),
    UnsetVar(String),
}

/// Where a connection goes if not where the server line says.
#[derive(Clone, Debug, Default)]
pub enum CheckPort {
    #[default]
    Server,
    Number(u16),
    Sample(Expr),
}

#[derive(Clone, Debug, Default)]
pub struct Connect {
    /// No line says it: every check begins with one.
    pub implicit: bool,
    /// `default`: what the server line says of its checks counts.
    pub default: bool,
    pub port: CheckPort,
    pub addr: Option<(IpAddr, Option<u16>)>,
    pub tls: bool,
    pub send_proxy: bool,
    pub socks4: bool,
    /// Ends with FIN, not with a reset.
    pub linger: bool,
    pub sni: Option<String>,
    pub alpn: Vec<String>,
}

/// Bytes that are said, or made when they are needed.
#[derive(Clone, Debug)]
pub enum Text {
    Fixed(Vec<u8>),
    Format(LogFormat),
}

#[derive(Clone, Debug)]
pub enum Send {
    Text(Text),
    /// `send-binary-lf`: what it makes is hexadecimal.
    Hex(LogFormat),
    Http(Box<HttpSend>),
}

/// `http-check send`; what is not said is taken from elsewhere, at last from the defaults.
#[derive(Clone, Debug, Default)]
pub struct HttpSend {
    pub method: Option<String>,
    pub uri: Option<Text>,
    pub version: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, LogFormat)>,
    pub body: Option<Text>,
    /// `http-check send-state`
    pub state: bool,
}

#[derive(Clone, Debug)]
pub struct Expect {
    pub negate: bool,
    pub what: Match,
    /// No verdict before so many bytes; none: any number of them may still come.
    pub min_recv: Option<usize>,
    pub ok_status: Option<&'static str>,
    pub error_status: Option<&'static str>,
    pub late_status: Option<&'static str>,
    pub on_success: Option<LogFormat>,
    pub on_error: Option<LogFormat>,
    pub status_code: Option<Expr>,
}

impl Expect {
    /// Without any option.
    pub fn of(what: Match) -> Self {
        Self {
            negate: false,
            what,
            min_recv: None,
            ok_status: None,
            error_status: None,
            late_status: None,
            on_success: None,
            on_error: None,
            status_code: None,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Match {
    String(Vec<u8>),
    Binary(Vec<u8>),
    Regex(regex::bytes::Regex),
    /// Over the upper-case hexadecimal form of the bytes.
    HexRegex(regex::bytes::Regex),
    StringFormat(LogFormat),
    BinaryFormat(LogFormat),
    /// Ranges of status codes.
    Status(Vec<(u16, u16)>),
    StatusRegex(regex::bytes::Regex),
    Header {
        /// `fhdr`: the values are not split at commas.
        full: bool,
        name: Named,
        value: Option<Named>,
    },
}

/// A name or a value of a header, and how it is compared.
#[derive(Clone, Debug)]
pub enum Named {
    Fixed(NameMatch),
    /// `-lf`: the pattern is made anew each time.
    Format(How, LogFormat),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Exact,
    Beg,
    End,
    Sub,
    Reg,
}

impl How {
    /// None if it is no regular expression.
    pub fn pattern(self, text: &str) -> Option<NameMatch> {
        Some(match self {
            Self::Exact => NameMatch::Exact(text.to_owned()),
            Self::Beg => NameMatch::Beg(text.to_owned()),
            Self::End => NameMatch::End(text.to_owned()),
            Self::Sub => NameMatch::Sub(text.to_owned()),
            Self::Reg => NameMatch::Reg(regex(text).ok()?),
        })
    }
}

/// A regular expression over bytes, of bounded size.
pub fn regex(text: &str) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build()
}

/// `2b4f` as bytes.
pub fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.len().is_multiple_of(2).then_some(())?;
    text.chunks_exact(2).map(|c| Some(digit(c[0])? << 4 | digit(c[1])?)).collect()
}

/// What happens to the server beside the check.
pub struct Around<'a> {
    pub traffic: &'a dyn Traffic,
    /// The value of `x-haproxy-server-state`.
    pub state: &'a str,
    /// The server is down: only a true success brings it back.
    pub stopped: bool,
}

#[derive(Debug)]
pub enum Next<'a> {
    /// A connection in place of the one there is; with the port that the step says, if it does.
    Connect(&'a Connect, Option<u16>),
    Send(Vec<u8>),
    Read,
    Done(Found),
}

/// Answers are kept up to here.
pub const MAX_ANSWER: usize = 64 * 1024;

/// One run of a script.
pub struct Run<'a> {
    script: &'a Script,
    at: usize,
    /// Where to begin anew when more bytes come: the first of a row of expectations that is satisfied only so far.
    resume: Option<usize>,
    /// The last step of those that touch the wire.
    last: Option<usize>,
    seen: Vec<u8>,
    closed: bool,
    /// The last connection is encrypted.
    tls: bool,
    method: Vec<u8>,
    answer: Answer,
    vars: Vec<(String, Vec<u8>)>,
}

/// What came in as an HTTP message.
#[derive(Default)]
pub(super) struct Answer {
    head: Head,
    /// The head is whole.
    there: bool,
    follower: Option<Follower>,
    fed: usize,
    body: Vec<u8>,
    broken: bool,
}

impl Answer {
    /// `seen`: all that has come in so far.
    pub(super) fn take(&mut self, seen: &[u8], method: &[u8]) {
        if !self.there && !self.broken {
            match self.head.parse_response(seen, method, Accept::default()) {
                Ok(n) => {
                    self.there = true;
                    self.fed = n;
                    self.follower = Some(Follower::new(self.head.framing));
                }
                Err(HeadError::Partial) => {}
                Err(_) => self.broken = true,
            }
        }
        if let Some(f) = &mut self.follower
            && self.fed < seen.len()
            && !f.done()
        {
            let body = &mut self.body;
            match f.content(&seen[self.fed..], |b| body.extend_from_slice(b)) {
                Ok(_) => self.fed = seen.len(),
                Err(_) => self.broken = true,
            }
        }
    }

    /// The status, once the head is there.
    pub(super) fn status(&self) -> Option<u16> {
        self.there.then_some(self.head.status)
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn is_whole(&self) -> bool {
        self.follower.as_ref().is_some_and(Follower::done)
    }
}

/// What an expectation comes to.
enum Verdict {
    Yes {
        /// More bytes may change it.
        so_far: bool,
    },
    No(&'static str),
    Wait,
}

impl<'a> Run<'a> {
    pub fn new(script: &'a Script) -> Self {
        Self {
            script,
            at: 0,
            resume: None,
            last: None,
            seen: Vec::new(),
            closed: false,
            tls: false,
            method: Vec::new(),
            answer: Answer::default(),
            vars: Vec::new(),
        }
    }

    /// The connection that was asked for is there.
    pub fn connected(&mut self, tls: bool) {
        self.tls = tls;
        self.fresh();
    }

    /// Bytes came in; none: the peer closed.
    pub fn received(&mut self, bytes: &[u8]) {
        let room = MAX_ANSWER.saturating_sub(self.seen.len());
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.closed |= bytes.is_empty();
        if self.script.http {
            self.answer.take(&self.seen, &self.method);
        }
        if let Some(at) = self.resume.take() {
            self.at = at;
        }
    }

    fn fresh(&mut self) {
        self.seen.clear();
        self.closed = false;
        self.answer = Answer::default();
        self.resume = None;
    }

    /// Goes on as far as it can.
    pub fn go_on(&mut self, around: &Around<'_>) -> Next<'a> {
        loop {
            let script = self.script;
            let Some(step) = script.steps.get(self.at) else { return Next::Done(self.end(around)) };
            match &step.act {
                Act::Connect(c) => {
                    self.last = Some(self.at);
                    self.at += 1;
                    let port = match &c.port {
                        CheckPort::Server => None,
                        CheckPort::Number(n) => Some(*n),
                        CheckPort::Sample(e) => {
                            let view = View { run: self, around };
                            let n = e.eval(&view).and_then(|s| s.int());
                            n.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
                        }
                    };
                    return Next::Connect(c, port);
                }
                Act::Send(s) => {
                    self.last = Some(self.at);
                    self.at += 1;
                    match self.bytes(s, around) {
                        Ok(b) => {
                            self.fresh();
                            if !b.is_empty() {
                                return Next::Send(b);
                            }
                        }
                        Err(()) => {
                            let n = step.number;
                            let info = format!("tcp-check send : failed to build log-format string at step {n}");
                            return Next::Done(Found::new("L7RSP", 0, info));
                        }
                    }
                }
                Act::Expect(e) => {
                    self.last = Some(self.at);
                    if self.script.http
                        && !self.answer.there
                        && (self.answer.broken || self.closed || self.seen.len() >= MAX_ANSWER)
                    {
                        return Next::Done(Found::bare("SOCKERR"));
                    }
                    match self.judge(e, around) {
                        Verdict::Wait => return Next::Read,
                        Verdict::Yes { so_far } => {
                            if so_far && e.negate {
                                self.resume.get_or_insert(self.at);
                            }
                            self.at += 1;
                            if !matches!(self.script.steps.get(self.at), Some(Step { act: Act::Expect(_), .. })) {
                                self.resume = None;
                            }
                        }
                        Verdict::No(why) => return Next::Done(self.mismatch(step, e, why, around)),
                    }
                }
                Act::SetVar(name, e) => {
                    let view = View { run: self, around };
                    let v = e.eval(&view).map(|s| s.text().into_owned());
                    if let Some(v) = v {
                        self.set(name, v);
                    }
                    self.at += 1;
                }
                Act::SetVarFmt(name, f) => {
                    let v = self.render(f, around);
                    self.set(name, v);
                    self.at += 1;
                }
                Act::UnsetVar(name) => {
                    self.vars.retain(|(n, _)| n != name);
                    self.at += 1;
                }
            }
        }
    }

    /// The host that the first request is for, without its port.
    pub fn host(&self, around: &Around<'_>) -> Option<String> {
        let first = self.script.steps.iter().find_map(|s| match &s.act {
            Act::Send(Send::Http(h)) => Some(h),
            _ => None,
        })?;
        let (_, f) = first.headers.iter().find(|(n, _)| n == "host")?;
        let text = String::from_utf8(self.render(f, around)).ok()?;
        let host = text.rsplit_once(':').filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit())).map_or(&*text, |h| h.0);
        (!host.is_empty()).then(|| host.to_owned())
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.vars.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => *v = value,
            None => self.vars.push((name.to_owned(), value)),
        }
    }

    fn render(&self, f: &LogFormat, around: &Around<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        f.render(&View { run: self, around }, &mut out);
        out
    }

    fn text(&self, t: &Text, around: &Around<'_>) -> Vec<u8> {
        match t {
            Text::Fixed(b) => b.clone(),
            Text::Format(f) => self.render(f, around),
        }
    }

    fn bytes(&mut self, s: &Send, around: &Around<'_>) -> Result<Vec<u8>, ()> {
        match s {
            Send::Text(t) => Ok(self.text(t, around)),
            Send::Hex(f) => hex(&self.render(f, around)).ok_or(()),
            Send::Http(h) => Ok(self.request(h, around)),
        }
    }

    /// The request as HAProxy writes it: names in lower case, the length only where one is wanted, `connection` last.
    fn request(&mut self, h: &HttpSend, around: &Around<'_>) -> Vec<u8> {
        let method = h.method.as_deref().unwrap_or("OPTIONS");
        self.method = method.as_bytes().to_vec();
        let mut uri = h.uri.as_ref().map(|u| self.text(u, around)).unwrap_or_default();
        if uri.is_empty() {
            uri = b"/".to_vec();
        }
        let version = match h.version.as_deref() {
            None => "HTTP/1.0",
            Some(v) if v.starts_with("HTTP/2") || v.starts_with("HTTP/3") => "HTTP/1.1",
            Some(v) => v,
        };
        let body = h.body.as_ref().map(|b| self.text(b, around)).unwrap_or_default();
        let mut headers: Vec<(&str, Vec<u8>)> = Vec::new();
        for (name, f) in &h.headers {
            let v = self.render(f, around);
            let keep_alive = name == "connection" && v.eq_ignore_ascii_case(b"keep-alive");
            if !(v.is_empty() || keep_alive || matches!(name.as_str(), "content-length" | "transfer-encoding")) {
                headers.push((name, v));
            }
        }
        if let Some((_, host)) = headers.iter().find(|(n, _)| *n == "host")
            && let Some(at) = uri.windows(3).position(|w| w == b"://")
        {
            let rest = uri[at + 3..].iter().position(|c| *c == b'/').map_or(uri.len(), |p| at + 3 + p);
            uri.splice(at + 3..rest, host.iter().copied());
        }
        let connection = h.headers.iter().any(|(n, _)| n == "connection");
        let state = if h.state { Some(around.state) } else { None };
        let lengthless = matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE");
        let length = (!body.is_empty() || !lengthless).then(|| body.len().to_string());
        let close = (version == "HTTP/1.1" && !connection).then_some("close");
        let more = [("x-haproxy-server-state", state), ("content-length", length.as_deref()), ("connection", close)];
        let mut out = [method.as_bytes(), b" ", &uri, b" ", version.as_bytes(), b"\r\n"].concat();
        let more = more.iter().filter_map(|(n, v)| Some((*n, v.as_ref()?.as_bytes())));
        for (n, v) in headers.iter().map(|(n, v)| (*n, v.as_slice())).chain(more) {
            out.extend([n.as_bytes(), b": ", v, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        out.extend(body);
        out
    }

    /// Whether bytes are what is expected. `last`: there will be no more of them.
    fn bytes_match(&self, e: &Expect, bytes: &[u8], last: bool, around: &Around<'_>) -> Verdict {
        let made;
        let (hit, short) = match &e.what {
            Match::String(w) | Match::Binary(w) => (find(bytes, w), bytes.len() < w.len()),
            Match::Regex(r) => (r.is_match(bytes), false),
            Match::HexRegex(r) => {
                (r.is_match(bytes.iter().map(|b| format!("{b:02X}")).collect::<String>().as_bytes()), false)
            }
            Match::StringFormat(f) => {
                made = self.render(f, around);
                if made.is_empty() {
                    return Verdict::No("log-format string evaluated to an empty string");
                }
                (find(bytes, &made), bytes.len() < made.len())
            }
            Match::BinaryFormat(f) => match hex(&self.render(f, around)) {
                Some(w) if w.is_empty() => return Verdict::No("log-format string evaluated to an empty string"),
                Some(w) => (find(bytes, &w), bytes.len() < w.len()),
                None => return Verdict::No("Failed to parse hexastring resulting of eval of a log-format string"),
            },
            Match::Status(_) | Match::StatusRegex(_) | Match::Header { .. } => return Verdict::No(""),
        };
        if !last && (short || bytes.is_empty() || e.min_recv.is_some_and(|m| bytes.len() < m)) {
            return Verdict::Wait;
        }
        if !hit && !last && e.min_recv.is_none() {
            return Verdict::Wait;
        }
        if hit == e.negate { Verdict::No("") } else { Verdict::Yes { so_far: !hit && !last } }
    }

    fn judge(&self, e: &Expect, around: &Around<'_>) -> Verdict {
        let full = self.seen.len() >= MAX_ANSWER;
        if !self.script.http {
            return self.bytes_match(e, &self.seen, self.closed || full, around);
        }
        if !self.answer.there {
            return Verdict::Wait;
        }
        // On a server that runs, 404 says that it wants to run out, whatever else is expected.
        if self.draining(around) {
            return Verdict::Yes { so_far: false };
        }
        let head = &self.answer.head;
        let hit = match &e.what {
            Match::Status(ranges) => ranges.iter().any(|(a, b)| (*a..=*b).contains(&head.status)),
            Match::StatusRegex(r) => r.is_match(head.status.to_string().as_bytes()),
            Match::Header { full, name, value } => self.has_header(*full, name, value.as_ref(), around),
            _ => {
                let last = self.answer.is_whole() || self.answer.broken || self.closed || full;
                return match self.bytes_match(e, &self.answer.body, last, around) {
                    Verdict::No("") => Verdict::No(match (self.answer.body.is_empty(), e.negate) {
                        (true, false) => "HTTP content check could not find a response body",
                        (_, true) => "HTTP check matched unwanted content",
                        (_, false) => "HTTP content check did not match",
                    }),
                    other => other,
                };
            }
        };
        if hit == e.negate { Verdict::No("") } else { Verdict::Yes { so_far: false } }
    }

    fn draining(&self, around: &Around<'_>) -> bool {
        self.script.disable_on_404 && !around.stopped && self.answer.there && self.answer.head.status == 404
    }

    fn has_header(&self, full: bool, name: &Named, value: Option<&Named>, around: &Around<'_>) -> bool {
        let made = |n: &Named| match n {
            Named::Fixed(m) => Some(m.clone()),
            Named::Format(how, f) => how.pattern(&String::from_utf8_lossy(&self.render(f, around))),
        };
        let Some(name) = made(name) else { return false };
        let value = match value.map(made) {
            Some(None) => return false,
            Some(v) => v,
            None => None,
        };
        self.answer.head.headers().filter(|(n, _)| name.matches(&n.to_ascii_lowercase())).any(|(_, v)| match &value {
            None => true,
            Some(m) if full => m.matches(v),
            Some(m) => split_list(v).any(|v| m.matches(v)),
        })
    }

    /// The HTTP status of the last answer, for what results say.
    fn status(&self) -> i32 {
        if self.script.http { i32::from(self.answer.head.status) } else { 0 }
    }

    fn code(&self, e: &Expect, around: &Around<'_>) -> i32 {
        let said = e.status_code.as_ref().and_then(|x| x.eval(&View { run: self, around })?.int());
        said.map_or_else(|| self.status(), |n| i32::try_from(n).unwrap_or(i32::MAX))
    }

    /// All steps are done.
    fn end(&self, around: &Around<'_>) -> Found {
        let plain = if self.script.http { "" } else { "(tcp-check)" };
        match self.last.and_then(|i| self.script.steps.get(i)).map(|s| &s.act) {
            Some(Act::Expect(_)) if self.draining(around) => Found::new("L7OKC", 404, ""),
            Some(Act::Expect(e)) => {
                let info = match &e.on_success {
                    Some(f) => String::from_utf8_lossy(&self.render(f, around)).into_owned(),
                    None => plain.to_owned(),
                };
                Found::new(e.ok_status.unwrap_or("L7OK"), self.code(e, around), info)
            }
            Some(Act::Send(_)) => Found::new("L7OK", 0, plain),
            Some(Act::Connect(c)) => {
                Found::new(if self.tls { "L6OK" } else { "L4OK" }, 0, if c.implicit { "" } else { plain })
            }
            _ => Found::bare(if self.tls { "L6OK" } else { "L4OK" }),
        }
    }

    fn mismatch(&self, step: &Step, e: &Expect, why: &str, around: &Around<'_>) -> Found {
        let head = matches!(e.what, Match::Status(_) | Match::StatusRegex(_) | Match::Header { .. });
        let (n, empty) = (step.number, self.seen.is_empty());
        let mut info = match &e.on_error {
            _ if why.contains("log-format") => why.to_owned(),
            Some(f) => String::from_utf8_lossy(&self.render(f, around)).into_owned(),
            None if head => String::from_utf8_lossy(self.answer.head.reason()).into_owned(),
            None if !why.is_empty() => why.to_owned(),
            None if empty => format!("TCPCHK got an empty response at step {n}"),
            None => {
                let what = if e.negate { "matched unwanted content" } else { "did not match content" };
                let which = match &e.what {
                    Match::String(w) => format!(" '{}'", String::from_utf8_lossy(w)),
                    Match::Binary(_) => " (binary)".into(),
                    Match::Regex(_) => " (regex)".into(),
                    Match::HexRegex(_) => " (binary regex)".into(),
                    Match::StringFormat(_) => " (log-format string)".into(),
                    Match::BinaryFormat(_) => " (log-format binary)".into(),
                    Match::Status(_) | Match::StatusRegex(_) | Match::Header { .. } => String::new(),
                };
                format!("TCPCHK {what}{which} at step {n}")
            }
        };
        if let Some(c) = &step.comment {
            info.push_str(&format!(" comment: {c}"));
        }
        let status = e.error_status.unwrap_or(if head { "L7STS" } else { "L7RSP" });
        Found::new(status, self.code(e, around), info)
    }

    /// The step under way got no further: `status` unless an expectation has one of its own; what went wrong before it, as results say it.
    pub fn stuck(&self, status: &'static str, cause: &str) -> Found {
        let step = self.last.and_then(|i| self.script.steps.get(i));
        let own = match step.map(|s| &s.act) {
            Some(Act::Expect(e)) => e.late_status,
            _ => None,
        };
        let info = if self.script.http { cause.to_owned() } else { format!("{cause}{}", self.place(step)) };
        Found::new(own.unwrap_or(status), 0, info)
    }

    fn place(&self, step: Option<&Step>) -> String {
        let Some(step) = step else { return String::new() };
        let what = match &step.act {
            Act::Connect(c) if c.implicit => return " at initial connection step of tcp-check".into(),
            Act::Connect(c) => match c.port {
                CheckPort::Number(n) => format!("connect port {n}"),
                _ => "connect".to_owned(),
            },
            Act::Send(_) => "send".to_owned(),
            Act::Expect(e) => format!(
                "expect {}",
                match &e.what {
                    Match::String(w) => format!("string '{}'", String::from_utf8_lossy(w)),
                    Match::Binary(w) =>
                        format!("binary '{}'", w.iter().map(|b| format!("{b:02X}")).collect::<String>()),
                    Match::Regex(_) => "regex".into(),
                    Match::HexRegex(_) => "binary regex".into(),
                    Match::StringFormat(_) => "log-format string".into(),
                    Match::BinaryFormat(_) => "log-format binary".into(),
                    Match::Status(_) | Match::StatusRegex(_) | Match::Header { .. } => String::new(),
                }
            ),
            Act::SetVar(..) | Act::SetVarFmt(..) | Act::UnsetVar(_) => return String::new(),
        };
        let comment = step.comment.as_ref().map_or_else(String::new, |c| format!(" comment: '{c}'"));
        format!(" at step {} of tcp-check ({what}){comment}", step.number)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> bool {
    what.is_empty() || bytes.windows(what.len()).any(|x| x == what)
}

/// What expressions see: the run's variables and answer, the rest from around it.
struct View<'v, 'a> {
    run: &'v Run<'a>,
    around: &'v Around<'v>,
}

impl Traffic for View<'_, '_> {
    fn header<'a>(&'a self, name: &str, from: HeadSide, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        if from == HeadSide::Response {
            let those = self.run.answer.head.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
            for (_, v) in those {
                if visit(v) {
                    break;
                }
            }
        }
    }
    fn status(&self) -> u16 {
        self.run.answer.head.status
    }
    fn backend(&self) -> &str {
        self.around.traffic.backend()
    }
    fn server(&self) -> &str {
        self.around.traffic.server()
    }
    fn gauge(&self, what: Gauge, proxy: Option<&str>, server: Option<&str>) -> Option<i64> {
        self.around.traffic.gauge(what, proxy, server)
    }
    fn var(&self, name: &str) -> Option<&[u8]> {
        self.run.vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
    fn number(&self, what: Number) -> Option<i64> {
        match what {
            Number::ResponseMinor => Some(i64::from(self.run.answer.head.minor)),
            other => self.around.traffic.number(other),
        }
    }
    fn answered(&self) -> (&[u8], bool) {
        let whole = if self.run.script.http { self.run.answer.is_whole() } else { false };
        (&self.run.seen, self.run.closed || whole)
    }
    fn answer_body(&self) -> &[u8] {
        &self.run.answer.body
    }
}
