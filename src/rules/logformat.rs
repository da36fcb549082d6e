//! Log-format strings (configuration manual 8.2): compiled to a list of operations, rendered into a reused buffer.
use super::sample::{Expr, ExprError, KnownNames, Scope, Traffic};
use std::net::SocketAddr;
use std::time::SystemTime;

/// Aliases that exist and are not honoured yet.
const OTHER_ALIASES: &[&str] = &["OG", "trg", "trl"];

/// The `%` aliases that are honoured.
const ALIASES: &[(&str, Alias)] = &[
    ("ci", Alias::ClientIp),
    ("cp", Alias::ClientPort),
    ("fi", Alias::FrontendIp),
    ("fp", Alias::FrontendPort),
    ("bi", Alias::BackendSourceIp),
    ("bp", Alias::BackendSourcePort),
    ("si", Alias::ServerIp),
    ("sp", Alias::ServerPort),
    ("t", Alias::AcceptDate),
    ("tr", Alias::RequestDate),
    ("T", Alias::GmtDate),
    ("Tl", Alias::LocalDate),
    ("Ts", Alias::Timestamp),
    ("ms", Alias::Millis),
    ("f", Alias::Frontend),
    ("ft", Alias::FrontendTransport),
    ("b", Alias::Backend),
    ("s", Alias::Server),
    ("Th", Alias::TimeHandshake),
    ("Ti", Alias::TimeIdle),
    ("Tq", Alias::TimeRequestOld),
    ("TR", Alias::TimeRequest),
    ("Tw", Alias::TimeQueue),
    ("Tc", Alias::TimeConnect),
    ("Tr", Alias::TimeResponse),
    ("Td", Alias::TimeData),
    ("Ta", Alias::TimeActive),
    ("Tt", Alias::TimeTotal),
    ("Tu", Alias::TimeUser),
    ("ST", Alias::Status),
    ("B", Alias::BytesOut),
    ("U", Alias::BytesIn),
    ("CC", Alias::CaptureRequestCookie),
    ("CS", Alias::CaptureResponseCookie),
    ("ts", Alias::Termination),
    ("tsc", Alias::TerminationCookie),
    ("ac", Alias::ActConn),
    ("fc", Alias::FeConn),
    ("bc", Alias::BeConn),
    ("sc", Alias::SrvConn),
    ("rc", Alias::Retries),
    ("sq", Alias::SrvQueue),
    ("bq", Alias::BackendQueue),
    ("hr", Alias::RequestHeaders),
    ("hs", Alias::ResponseHeaders),
    ("hrl", Alias::RequestHeaders),
    ("hsl", Alias::ResponseHeaders),
    ("r", Alias::Request),
    ("HM", Alias::Method),
    ("HP", Alias::Path),
    ("HPO", Alias::Path),
    ("HQ", Alias::Query),
    ("HU", Alias::Uri),
    ("HV", Alias::Version),
    ("rt", Alias::RequestCounter),
    ("pid", Alias::Pid),
    ("H", Alias::Hostname),
    ("ID", Alias::UniqueId),
    ("sslv", Alias::SslVersion),
    ("sslc", Alias::SslCipher),
    ("lc", Alias::LogCounter),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alias {
    ClientIp,
    ClientPort,
    FrontendIp,
    FrontendPort,
    BackendSourceIp,
    BackendSourcePort,
    ServerIp,
    ServerPort,
    AcceptDate,
    RequestDate,
    GmtDate,
    LocalDate,
    Timestamp,
    Millis,
    Frontend,
    FrontendTransport,
    Backend,
    Server,
    TimeHandshake,
    TimeIdle,
    TimeRequestOld,
    TimeRequest,
    TimeQueue,
    TimeConnect,
    TimeResponse,
    TimeData,
    TimeActive,
    TimeTotal,
    TimeUser,
    Status,
    BytesOut,
    BytesIn,
    CaptureRequestCookie,
    CaptureResponseCookie,
    Termination,
    TerminationCookie,
    ActConn,
    FeConn,
    BeConn,
    SrvConn,
    Retries,
    SrvQueue,
    BackendQueue,
    RequestHeaders,
    ResponseHeaders,
    Request,
    Method,
    Path,
    Query,
    Uri,
    Version,
    RequestCounter,
    Pid,
    Hostname,
    UniqueId,
    SslVersion,
    SslCipher,
    LogCounter,
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Flags {
    quote: bool,
    hex: bool,
    mandatory: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Text(Vec<u8>),
    Alias(Alias, Flags),
    Sample(Box<Expr>, Flags),
}

/// What a log line can be asked for beyond what rules see. Times are milliseconds; -1 means the step was never reached.
pub struct Record<'a> {
    pub traffic: &'a dyn Traffic,
    pub accepted: SystemTime,
    pub requested: SystemTime,
    /// Local time minus UTC, in seconds.
    pub utc_offset: i32,
    pub times: Times,
    pub status: i32,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub flags: [u8; 4],
    /// actconn, feconn, beconn, srvconn, retries
    pub conns: [u64; 5],
    pub redispatched: bool,
    pub queues: [u64; 2],
    /// A `+` stands before what was not final when the line was written (`option logasap`).
    pub asap: bool,
    pub backend_src: Option<SocketAddr>,
    pub server_addr: Option<SocketAddr>,
    pub request_line: &'a [u8],
    /// Captured headers of request and response, and how many slots there are.
    pub captured: [&'a [Option<Vec<u8>>]; 2],
    pub slots: [usize; 2],
    pub captured_cookies: [&'a [u8]; 2],
    pub pid: u32,
    pub hostname: &'a str,
    pub tls: Option<(&'static str, &'static str)>,
    pub tls_frontend: bool,
    pub request_counter: u64,
}

/// Phases of a session, in milliseconds, -1 where not reached (manual 8.4).
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub handshake: i64,
    pub idle: i64,
    pub request: i64,
    pub queue: i64,
    pub connect: i64,
    pub response: i64,
    pub data: i64,
    /// From the first byte of the request to the end.
    pub active: i64,
    /// From the accept to the end.
    pub total: i64,
}

#[derive(Clone, Debug)]
pub struct LogFormat {
    ops: Vec<Op>,
}

pub const HTTPLOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";
pub const TCPLOG: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
pub const CLF: &str = "%{+Q}o %{-Q}ci - - [%T] %r %ST %B \"\" \"\" %cp %ms %ft %b %s %TR %Tw %Tc %Tr %Ta %tsc %ac %fc %bc %sc %rc %sq %bq %CC %CS %hrl %hsl";

impl LogFormat {
    /// Compiles a format. Aliases are only allowed where `aliases` says so (they are everywhere but in header values of some contexts).
    pub fn parse(text: &str, scope: Scope, known: &KnownNames<'_>) -> Result<Self, ExprError> {
        let mut ops = Vec::new();
        let mut lit: Vec<u8> = Vec::new();
        let mut default = Flags::default();
        let mut rest = text;
        let flush = |lit: &mut Vec<u8>, ops: &mut Vec<Op>| {
            if !lit.is_empty() {
                ops.push(Op::Text(std::mem::take(lit)));
            }
        };
        while let Some(at) = rest.find('%') {
            lit.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at + 1..];
            if let Some(r) = rest.strip_prefix('%') {
                lit.push(b'%');
                rest = r;
                continue;
            }
            let mut flags = default;
            if let Some(r) = rest.strip_prefix('{') {
                let end = r.find('}').ok_or_else(|| ExprError::Bad(format!("missing '}}' in log format '{text}'")))?;
                for f in r[..end].split(',') {
                    let (on, name) = match f.split_at_checked(1) {
                        Some(("+", n)) => (true, n),
                        Some(("-", n)) => (false, n),
                        _ => (true, f),
                    };
                    match name {
                        "Q" => flags.quote = on,
                        "X" => flags.hex = on,
                        "M" => flags.mandatory = on,
                        "E" => {}
                        _ => return Err(ExprError::Bad(format!("unknown flag '{name}' in log format '{text}'"))),
                    }
                }
                rest = &r[end + 1..];
            }
            if let Some(r) = rest.strip_prefix('[') {
                let (expr, after) = Expr::parse(r, known)?;
                let after = after
                    .strip_prefix(']')
                    .ok_or_else(|| ExprError::Bad(format!("missing ']' after '{}' in '{text}'", expr.text())))?;
                if expr.least() > scope {
                    return Err(ExprError::Bad(format!(
                        "'{}' has no value at this point of the exchange",
                        expr.text()
                    )));
                }
                flush(&mut lit, &mut ops);
                ops.push(Op::Sample(Box::new(expr), flags));
                rest = after;
                continue;
            }
            let n = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let name = &rest[..n];
            if name == "o" {
                default = flags;
                rest = rest[n..].trim_start_matches(' ');
                continue;
            }
            if name.is_empty() {
                let what = match rest.chars().next() {
                    None => "ends behind a '%'",
                    Some(' ') => "has a blank behind a '%'",
                    Some(_) => {
                        lit.push(b'%');
                        continue;
                    }
                };
                return Err(ExprError::Bad(format!("log format '{text}' {what}; write '%%' for a percent sign")));
            }
            if OTHER_ALIASES.contains(&name) {
                return Err(ExprError::NotYet(format!("log-format alias '%{name}' is not honoured yet")));
            }
            let Some((_, alias)) = ALIASES.iter().find(|a| a.0 == name) else {
                return Err(ExprError::Bad(format!(
                    "no such log-format alias '%{name}' in '{text}'{}",
                    crate::base::diag::suggestion(name, ALIASES.iter().map(|a| a.0))
                )));
            };
            flush(&mut lit, &mut ops);
            ops.push(Op::Alias(*alias, flags));
            rest = &rest[n..];
        }
        lit.extend_from_slice(rest.as_bytes());
        flush(&mut lit, &mut ops);
        ops.shrink_to_fit();
        Ok(Self { ops })
    }

    /// The text, when no part of it depends on traffic.
    pub fn literal(&self) -> Option<&[u8]> {
        match &self.ops[..] {
            [] => Some(b""),
            [Op::Text(t)] => Some(t),
            _ => None,
        }
    }

    /// Renders for a header, a redirect or a body: only samples, no aliases of the log kind beyond addresses.
    pub fn render(&self, t: &dyn Traffic, out: &mut Vec<u8>) {
        for op in &self.ops {
            match op {
                Op::Text(text) => out.extend_from_slice(text),
                Op::Sample(e, f) => match e.eval(t) {
                    Some(s) => push_flagged(&s.text(), *f, false, out),
                    None if f.quote => out.extend_from_slice(b"\"\""),
                    None => {}
                },
                Op::Alias(a, f) => alias_in_rules(*a, *f, t, out),
            }
        }
    }

    /// Renders a log line.
    pub fn log(&self, r: &Record<'_>, out: &mut Vec<u8>) {
        // Where nothing stands between two blanks there is one.
        let mut blank = false;
        for op in &self.ops {
            let before = out.len();
            match op {
                Op::Text(text) if blank => out.extend_from_slice(text.strip_prefix(b" ").unwrap_or(text)),
                Op::Text(text) => out.extend_from_slice(text),
                Op::Sample(e, f) => match e.eval(r.traffic) {
                    Some(s) => push_flagged(&s.text(), *f, true, out),
                    None if f.quote => out.extend_from_slice(b"\"\""),
                    None => out.push(b'-'),
                },
                Op::Alias(a, f) => r.alias(*a, *f, out),
            }
            let nothing =
                out.len() == before && matches!(op, Op::Alias(Alias::RequestHeaders | Alias::ResponseHeaders, _));
            blank = nothing && out.last() == Some(&b' ');
        }
    }
}

fn alias_in_rules(a: Alias, f: Flags, t: &dyn Traffic, out: &mut Vec<u8>) {
    match a {
        Alias::ClientIp => push_ip(t.src(), f, out),
        Alias::ClientPort => push_port(t.src(), f, out),
        Alias::FrontendIp => push_ip(t.dst(), f, out),
        Alias::FrontendPort => push_port(t.dst(), f, out),
        Alias::Frontend | Alias::FrontendTransport => out.extend_from_slice(t.frontend().as_bytes()),
        Alias::Backend => out.extend_from_slice(t.backend().as_bytes()),
        Alias::Server => out.extend_from_slice(t.server().as_bytes()),
        Alias::Method => out.extend_from_slice(t.method()),
        Alias::Uri => out.extend_from_slice(t.url()),
        Alias::Path => out.extend_from_slice(super::sample::path_of(t.url()).unwrap_or_default()),
        Alias::RequestCounter => push_int(i64::try_from(t.unique_id()).unwrap_or(0), out),
        Alias::Status => push_int(i64::from(t.status()), out),
        _ => out.push(b'-'),
    }
}

/// Text with its flags; in a log, bytes that could break a line or a terminal are written as `#XX` (manual 8.6).
fn push_flagged(text: &[u8], f: Flags, escape: bool, out: &mut Vec<u8>) {
    if text.is_empty() && escape && !f.quote {
        out.push(b'-');
        return;
    }
    if f.quote {
        out.push(b'"');
    }
    for &c in text {
        if escape && (!(0x20..0x7f).contains(&c) || c == b'#' || (c == b'"' && f.quote)) {
            out.extend_from_slice(format!("#{c:02X}").as_bytes());
        } else {
            out.push(c);
        }
    }
    if f.quote {
        out.push(b'"');
    }
}

/// Bytes that could break a line or a terminal, and `also`, as `#XX`.
fn escaped(text: &[u8], also: &[u8], out: &mut Vec<u8>) {
    for &c in text {
        if !(0x20..0x7f).contains(&c) || also.contains(&c) {
            out.extend_from_slice(format!("#{c:02X}").as_bytes());
        } else {
            out.push(c);
        }
    }
}

fn push_int(n: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut m = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(m % 10).unwrap_or(0);
        m /= 10;
        if m == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// A number, in hexadecimal digits where the flag says so.
fn hex_or(n: u64, f: Flags, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = if f.hex { write!(out, "{n:04X}") } else { write!(out, "{n}") };
}

fn push_ip(a: Option<SocketAddr>, f: Flags, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let Some(a) = a else {
        out.push(b'-');
        return;
    };
    match (crate::base::addr::canonical(a.ip()), f.hex) {
        // Writing to a Vec cannot fail.
        (std::net::IpAddr::V4(ip), true) => drop(write!(out, "{:08X}", u32::from(ip))),
        (ip, _) => drop(write!(out, "{ip}")),
    }
}

fn push_port(a: Option<SocketAddr>, f: Flags, out: &mut Vec<u8>) {
    match a {
        Some(a) if f.hex => out.extend_from_slice(format!("{:04X}", a.port()).as_bytes()),
        Some(a) => push_int(i64::from(a.port()), out),
        None => out.push(b'-'),
    }
}

impl Record<'_> {
    fn alias(&self, a: Alias, f: Flags, out: &mut Vec<u8>) {
        let quoted = |text: &[u8], out: &mut Vec<u8>| push_flagged(text, f, true, out);
        let plus = |out: &mut Vec<u8>| {
            if self.asap {
                out.push(b'+');
            }
        };
        let count = |n: u64, out: &mut Vec<u8>| push_int(i64::try_from(n).unwrap_or(i64::MAX), out);
        let t = &self.times;
        let url = self.traffic.url();
        match a {
            Alias::ClientIp => push_ip(self.traffic.src(), f, out),
            Alias::ClientPort => push_port(self.traffic.src(), f, out),
            Alias::FrontendIp => push_ip(self.traffic.dst(), f, out),
            Alias::FrontendPort => push_port(self.traffic.dst(), f, out),
            Alias::BackendSourceIp => push_ip(self.backend_src, f, out),
            Alias::BackendSourcePort => push_port(self.backend_src, f, out),
            Alias::ServerIp => push_ip(self.server_addr, f, out),
            Alias::ServerPort => push_port(self.server_addr, f, out),
            Alias::AcceptDate => date(self.accepted, self.utc_offset, DateForm::Log, out),
            Alias::RequestDate => date(self.requested, self.utc_offset, DateForm::Log, out),
            Alias::GmtDate => date(self.accepted, 0, DateForm::Clf(0), out),
            Alias::LocalDate => date(self.accepted, self.utc_offset, DateForm::Clf(self.utc_offset), out),
            Alias::Timestamp => hex_or(since_epoch(self.accepted).as_secs(), f, out),
            Alias::Millis => {
                out.extend_from_slice(format!("{:03}", since_epoch(self.accepted).subsec_millis()).as_bytes())
            }
            Alias::Frontend => quoted(self.traffic.frontend().as_bytes(), out),
            Alias::FrontendTransport => {
                if f.quote {
                    out.push(b'"');
                }
                out.extend_from_slice(self.traffic.frontend().as_bytes());
                if self.tls_frontend {
                    out.push(b'~');
                }
                if f.quote {
                    out.push(b'"');
                }
            }
            Alias::Backend => quoted(self.traffic.backend().as_bytes(), out),
            Alias::Server => quoted(self.traffic.server().as_bytes(), out),
            Alias::TimeHandshake => push_int(t.handshake, out),
            Alias::TimeIdle => push_int(t.idle, out),
            Alias::TimeRequest => push_int(t.request, out),
            Alias::TimeRequestOld => {
                push_int(if t.request < 0 { -1 } else { t.handshake.max(0) + t.idle.max(0) + t.request }, out)
            }
            Alias::TimeQueue => push_int(t.queue, out),
            Alias::TimeConnect => push_int(t.connect, out),
            Alias::TimeResponse => push_int(t.response, out),
            Alias::TimeData => push_int(t.data, out),
            Alias::TimeActive => {
                plus(out);
                push_int(t.active, out);
            }
            Alias::TimeTotal => {
                plus(out);
                push_int(t.total, out);
            }
            Alias::TimeUser => push_int(t.total - t.idle.max(0), out),
            Alias::Status => push_int(i64::from(self.status), out),
            Alias::BytesOut => {
                plus(out);
                count(self.bytes_out, out);
            }
            Alias::BytesIn => count(self.bytes_in, out),
            Alias::CaptureRequestCookie => quoted(self.captured_cookies[0], out),
            Alias::CaptureResponseCookie => quoted(self.captured_cookies[1], out),
            Alias::Termination => quoted(&self.flags[..2], out),
            Alias::TerminationCookie => quoted(&self.flags, out),
            Alias::ActConn => count(self.conns[0], out),
            Alias::FeConn => count(self.conns[1], out),
            Alias::BeConn => count(self.conns[2], out),
            Alias::SrvConn => count(self.conns[3], out),
            Alias::Retries => {
                if self.redispatched {
                    out.push(b'+');
                }
                count(self.conns[4], out);
            }
            Alias::SrvQueue => count(self.queues[0], out),
            Alias::BackendQueue => count(self.queues[1], out),
            // No capture is configured: HAProxy prints nothing.
            Alias::RequestHeaders | Alias::ResponseHeaders => {
                let side = usize::from(a == Alias::ResponseHeaders);
                // What was no request has nothing captured, not even nothing.
                match if self.request_line.is_empty() { 0 } else { self.slots[side] } {
                    0 => {}
                    n => {
                        out.push(b'{');
                        for i in 0..n {
                            if i > 0 {
                                out.push(b'|');
                            }
                            let v = self.captured[side].get(i).and_then(Option::as_deref).unwrap_or_default();
                            escaped(v, b"\"#{|}", out);
                        }
                        out.push(b'}');
                    }
                }
            }
            Alias::Request => quoted(if self.request_line.is_empty() { b"<BADREQ>" } else { self.request_line }, out),
            Alias::Method => quoted(self.traffic.method(), out),
            Alias::Path => quoted(super::sample::path_of(url).unwrap_or_default(), out),
            Alias::Query => {
                let q = super::sample::query_of(url);
                let at = url.len() - q.len();
                quoted(if q.is_empty() { q } else { &url[at - 1..] }, out);
            }
            Alias::Uri => quoted(url, out),
            Alias::Version => quoted(format!("HTTP/{}", self.traffic.version()).as_bytes(), out),
            Alias::RequestCounter | Alias::LogCounter => hex_or(self.request_counter, f, out),
            Alias::Pid => hex_or(u64::from(self.pid), f, out),
            Alias::Hostname => quoted(self.hostname.as_bytes(), out),
            Alias::UniqueId => quoted(self.traffic.unique(), out),
            Alias::SslVersion => quoted(self.tls.map_or("", |t| t.0).as_bytes(), out),
            Alias::SslCipher => quoted(self.tls.map_or("", |t| t.1).as_bytes(), out),
        }
    }
}

#[derive(Clone, Copy)]
pub enum DateForm {
    /// `22/Nov/2026:10:02:03.456`
    Log,
    /// `22/Nov/2026:10:02:03 +0100`
    Clf(i32),
    /// `Nov 22 10:02:03`, as in RFC 3164
    Syslog,
    /// `2026-11-22T10:02:03.456789+01:00`, as in RFC 5424
    Iso(i32),
    /// `Sun, 22 Nov 2026 10:02:03 GMT`
    Http,
}

fn since_epoch(t: SystemTime) -> std::time::Duration {
    t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Writes a date `offset` seconds east of UTC.
pub fn date(at: SystemTime, offset: i32, form: DateForm, out: &mut Vec<u8>) {
    use std::io::Write as _;
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let d = since_epoch(at);
    let secs = i64::try_from(d.as_secs()).unwrap_or(0) + i64::from(offset);
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    // Civil date from days since 1970-01-01, by whole 400-year eras that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let zone = |o: i32| (if o < 0 { '-' } else { '+' }, o.abs() / 3600, o.abs() / 60 % 60);
    // Writing to a Vec cannot fail.
    let _ = match form {
        DateForm::Log => write!(out, "{day:02}/{name}/{year}:{h:02}:{m:02}:{s:02}.{:03}", d.subsec_millis()),
        DateForm::Clf(o) => {
            let (sign, zh, zm) = zone(o);
            write!(out, "{day:02}/{name}/{year}:{h:02}:{m:02}:{s:02} {sign}{zh:02}{zm:02}")
        }
        DateForm::Syslog => write!(out, "{name} {day:2} {h:02}:{m:02}:{s:02}"),
        DateForm::Iso(o) => {
            let (sign, zh, zm) = zone(o);
            write!(out, "{year}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}{sign}{zh:02}:{zm:02}", d.subsec_micros())
        }
        DateForm::Http => write!(
            out,
            "{}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT",
            DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)]
        ),
    };
}

/// Turns a sample into header-safe bytes: line breaks become blanks.
pub fn header_safe(value: &mut [u8]) {
    for c in value {
        if matches!(*c, b'\r' | b'\n' | 0) {
            *c = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_417_874_042);
        let show = |form, offset| {
            let mut v = Vec::new();
            date(at, offset, form, &mut v);
            String::from_utf8(v).unwrap()
        };
        assert_eq!(show(DateForm::Log, 0), "23/Nov/2026:07:11:14.042");
        assert_eq!(show(DateForm::Syslog, 0), "Nov 23 07:11:14");
        assert_eq!(show(DateForm::Http, 0), "Mon, 23 Nov 2026 07:11:14 GMT");
        assert_eq!(show(DateForm::Iso(3600), 3600), "2026-11-23T08:11:14.042000+01:00");
        assert_eq!(show(DateForm::Clf(-5400), -5400), "23/Nov/2026:05:41:14 -0130");
    }
}
