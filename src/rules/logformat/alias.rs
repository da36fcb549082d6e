//! The `%` aliases of log formats (configuration manual 8.2.6), and what they are made of.
use super::date::{DateForm, date, since_epoch};
use super::{Flags, push_int, push_text};
use crate::rules::sample::{self, Traffic};
use std::net::SocketAddr;
use std::time::SystemTime;

/// When what is asked for is known, for the moment a line can be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    Request,
    Response,
    End,
}

/// What encodings make of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Int,
    Text,
    /// Text of which some bytes are written as `#XX`.
    Pieces,
    List,
}

#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub alias: Alias,
    pub class: Class,
    pub stage: Stage,
}

const fn row(name: &'static str, alias: Alias, class: Class, stage: Stage) -> Row {
    Row { name, alias, class, stage }
}

#[rustfmt::skip] // One line an alias.
pub const ALIASES: &[Row] = &[
    row("ci", Alias::ClientIp, Class::Text, Stage::Response),
    row("cp", Alias::ClientPort, Class::Int, Stage::Response),
    row("fi", Alias::FrontendIp, Class::Text, Stage::Response),
    row("fp", Alias::FrontendPort, Class::Int, Stage::Response),
    row("bi", Alias::BackendSourceIp, Class::Text, Stage::Response),
    row("bp", Alias::BackendSourcePort, Class::Int, Stage::Response),
    row("si", Alias::ServerIp, Class::Text, Stage::Response),
    row("sp", Alias::ServerPort, Class::Int, Stage::Response),
    row("t", Alias::AcceptDate, Class::Text, Stage::Request),
    row("tr", Alias::RequestDate, Class::Text, Stage::Request),
    row("T", Alias::GmtDate, Class::Text, Stage::Request),
    row("Tl", Alias::LocalDate, Class::Text, Stage::Request),
    row("Ts", Alias::Timestamp, Class::Int, Stage::Request),
    row("ms", Alias::Millis, Class::Int, Stage::Request),
    row("f", Alias::Frontend, Class::Text, Stage::Request),
    row("ft", Alias::FrontendTransport, Class::Pieces, Stage::Request),
    row("b", Alias::Backend, Class::Text, Stage::Request),
    row("s", Alias::Server, Class::Text, Stage::Response),
    row("Th", Alias::TimeHandshake, Class::Int, Stage::End),
    row("Ti", Alias::TimeIdle, Class::Int, Stage::End),
    row("Tq", Alias::TimeRequestOld, Class::Int, Stage::End),
    row("TR", Alias::TimeRequest, Class::Int, Stage::End),
    row("Tw", Alias::TimeQueue, Class::Int, Stage::End),
    row("Tc", Alias::TimeConnect, Class::Int, Stage::End),
    row("Tr", Alias::TimeResponse, Class::Int, Stage::End),
    row("Td", Alias::TimeData, Class::Int, Stage::End),
    row("Ta", Alias::TimeActive, Class::Int, Stage::End),
    row("Tt", Alias::TimeTotal, Class::Int, Stage::End),
    row("Tu", Alias::TimeUser, Class::Int, Stage::End),
    row("ST", Alias::Status, Class::Int, Stage::Response),
    row("B", Alias::BytesOut, Class::Int, Stage::End),
    row("U", Alias::BytesIn, Class::Int, Stage::End),
    row("CC", Alias::CaptureRequestCookie, Class::Text, Stage::Response),
    row("CS", Alias::CaptureResponseCookie, Class::Text, Stage::Response),
    row("ts", Alias::Termination, Class::Text, Stage::End),
    row("tsc", Alias::TerminationCookie, Class::Text, Stage::End),
    row("ac", Alias::ActConn, Class::Int, Stage::End),
    row("fc", Alias::FeConn, Class::Int, Stage::End),
    row("bc", Alias::BeConn, Class::Int, Stage::End),
    row("sc", Alias::SrvConn, Class::Int, Stage::End),
    row("rc", Alias::Retries, Class::Int, Stage::End),
    row("sq", Alias::SrvQueue, Class::Int, Stage::End),
    row("bq", Alias::BackendQueue, Class::Int, Stage::End),
    row("hr", Alias::RequestHeaders, Class::Pieces, Stage::Response),
    row("hs", Alias::ResponseHeaders, Class::Pieces, Stage::Response),
    row("hrl", Alias::RequestHeaderList, Class::List, Stage::Response),
    row("hsl", Alias::ResponseHeaderList, Class::List, Stage::Response),
    row("r", Alias::Request, Class::Pieces, Stage::Request),
    row("HM", Alias::Method, Class::Pieces, Stage::Request),
    row("HP", Alias::Path, Class::Pieces, Stage::Request),
    row("HPO", Alias::Path, Class::Pieces, Stage::Request),
    row("HQ", Alias::Query, Class::Pieces, Stage::Request),
    row("HU", Alias::Uri, Class::Pieces, Stage::Request),
    row("HV", Alias::Version, Class::Pieces, Stage::Request),
    row("rt", Alias::RequestCounter, Class::Int, Stage::Request),
    row("pid", Alias::Pid, Class::Int, Stage::Request),
    row("H", Alias::Hostname, Class::Text, Stage::Request),
    row("ID", Alias::UniqueId, Class::Text, Stage::End),
    row("sslv", Alias::SslVersion, Class::Text, Stage::Response),
    row("sslc", Alias::SslCipher, Class::Text, Stage::Response),
    row("lc", Alias::LogCounter, Class::Int, Stage::Request),
    row("OG", Alias::Origin, Class::Text, Stage::Request),
    row("trg", Alias::RequestGmtDate, Class::Text, Stage::Request),
    row("trl", Alias::RequestLocalDate, Class::Text, Stage::Request),
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
    RequestHeaderList,
    ResponseHeaderList,
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
    Origin,
    RequestGmtDate,
    RequestLocalDate,
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
    /// Lines that the frontend has written so far.
    pub log_counter: u64,
    /// The step that the line is written at.
    pub origin: &'static str,
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

/// What rules know of it; the rest is nothing.
pub(super) fn in_rules(a: Alias, f: Flags, t: &dyn Traffic, out: &mut Vec<u8>) {
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
        Alias::Path => out.extend_from_slice(sample::path_of(t.url()).unwrap_or_default()),
        Alias::RequestCounter => push_int(i64::try_from(t.unique_id()).unwrap_or(0), out),
        Alias::Status => push_int(i64::from(t.status()), out),
        _ => out.push(b'-'),
    }
}

/// Bytes that could break a line or a terminal, and `also`, as `#XX`.
fn escaped(text: &[u8], also: &[u8], out: &mut Vec<u8>) {
    for &c in text {
        if !(0x20..0x7f).contains(&c) || also.contains(&c) {
            super::push_hex(c, out);
        } else {
            out.push(c);
        }
    }
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
    /// Captured headers of a side; what was no request has none, not even empty ones.
    fn slots(&self, side: usize) -> usize {
        if self.request_line.is_empty() { 0 } else { self.slots[side] }
    }

    fn captured(&self, side: usize, slot: usize) -> &[u8] {
        self.captured[side].get(slot).and_then(Option::as_deref).unwrap_or_default()
    }

    pub(super) fn alias(&self, a: Alias, f: Flags, out: &mut Vec<u8>) {
        let quoted = |text: &[u8], out: &mut Vec<u8>| push_text(text, f, out);
        // What was no request has no part of one.
        let request = |text: &[u8], out: &mut Vec<u8>| match (self.request_line.is_empty(), f.quote) {
            (false, false) => escaped(text, b"\"#", out),
            (false, true) => in_quotes(out, |out| escaped(text, b"\"#", out)),
            (true, _) => push_text(b"<BADREQ>", f, out),
        };
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
            Alias::TimeUser => {
                plus(out);
                push_int(t.total - t.idle.max(0), out);
            }
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
            Alias::RequestHeaders | Alias::ResponseHeaders => {
                let side = usize::from(a == Alias::ResponseHeaders);
                let all = |out: &mut Vec<u8>| {
                    out.push(b'{');
                    for i in 0..self.slots(side) {
                        if i > 0 {
                            out.push(b'|');
                        }
                        escaped(self.captured(side, i), b"\"#{|}", out);
                    }
                    out.push(b'}');
                };
                match self.slots(side) {
                    0 => {}
                    _ if f.quote => in_quotes(out, all),
                    _ => all(out),
                }
            }
            Alias::RequestHeaderList | Alias::ResponseHeaderList => {
                let side = usize::from(a == Alias::ResponseHeaderList);
                for i in 0..self.slots(side) {
                    if i > 0 {
                        out.push(b' ');
                    }
                    match self.captured(side, i) {
                        v if f.quote => in_quotes(out, |out| escaped(v, b"\"#{|}", out)),
                        b"" => out.push(b'-'),
                        v => escaped(v, b"\"#{|}", out),
                    }
                }
            }
            Alias::Request => request(self.request_line, out),
            Alias::Method => request(self.traffic.method(), out),
            Alias::Path => request(sample::path_of(url).unwrap_or_default(), out),
            Alias::Query => {
                let q = sample::query_of(url);
                let at = url.len() - q.len();
                request(if q.is_empty() { q } else { &url[at - 1..] }, out);
            }
            Alias::Uri => request(url, out),
            Alias::Version => request(format!("HTTP/{}", self.traffic.version()).as_bytes(), out),
            Alias::Origin => quoted(self.origin.as_bytes(), out),
            Alias::RequestGmtDate => date(self.requested, 0, DateForm::Clf(0), out),
            Alias::RequestLocalDate => date(self.requested, self.utc_offset, DateForm::Clf(self.utc_offset), out),
            Alias::LogCounter => hex_or(self.log_counter, f, out),
            Alias::RequestCounter => hex_or(self.request_counter, f, out),
            Alias::Pid => hex_or(u64::from(self.pid), f, out),
            Alias::Hostname => quoted(self.hostname.as_bytes(), out),
            Alias::UniqueId => quoted(self.traffic.unique(), out),
            Alias::SslVersion => quoted(self.tls.map_or("", |t| t.0).as_bytes(), out),
            Alias::SslCipher => quoted(self.tls.map_or("", |t| t.1).as_bytes(), out),
        }
    }
}

fn in_quotes(out: &mut Vec<u8>, what: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    what(out);
    out.push(b'"');
}

/// The parts of a list that was written with quotes.
pub(super) fn parts(text: &[u8]) -> Vec<Vec<u8>> {
    // No part has a quote in it: it would be written as `#22`.
    let parts = text.split(|c| *c == b'"').skip(1).step_by(2);
    parts.map(|p| if p.is_empty() { b"-".to_vec() } else { p.to_vec() }).collect()
}
