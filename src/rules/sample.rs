//! Sample fetches and converters (configuration manual 7.3). One const table each; what is not in the table is refused when the file is read.
use crate::rules::action::Timer;
use crate::rules::gauge::Gauge;
use crate::wire::{Look, client_hello, proxy, rdp};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// Where a rule is evaluated: decides which fetches are allowed there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Scope {
    /// Only the connection is known.
    Connection,
    Request,
    Response,
    Log,
}

/// A value taken from traffic.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample<'a> {
    Bool(bool),
    Int(i64),
    Ip(IpAddr),
    Str(Cow<'a, [u8]>),
}

impl<'a> Sample<'a> {
    pub fn str(s: &'a [u8]) -> Self {
        Self::Str(Cow::Borrowed(s))
    }

    /// The text form, as in a log line or header.
    pub fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bool(b) => Cow::Borrowed(if *b { b"1" } else { b"0" }),
            Self::Int(i) => Cow::Owned(i.to_string().into_bytes()),
            Self::Ip(ip) => Cow::Owned(ip.to_string().into_bytes()),
            Self::Str(s) => Cow::Borrowed(s),
        }
    }

    /// The integer form; text is read as a decimal number, else there is none.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Bool(b) => Some(i64::from(*b)),
            Self::Int(i) => Some(*i),
            Self::Ip(_) => None,
            Self::Str(s) => std::str::from_utf8(s).ok()?.trim().parse().ok(),
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Str(s) => std::str::from_utf8(s).ok()?.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn truth(&self) -> bool {
        match self {
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Ip(_) => true,
            Self::Str(s) => !s.is_empty(),
        }
    }
}

/// What the engine asks of the traffic it stands in. Every method has an answer at any time; "not known here" is `None` or empty.
pub trait Traffic {
    fn src(&self) -> Option<SocketAddr> {
        None
    }
    fn dst(&self) -> Option<SocketAddr> {
        None
    }
    /// The ends of the server's connection, ours first.
    fn server_ends(&self) -> [Option<SocketAddr>; 2] {
        [None, None]
    }
    /// The ends of the client's connection, which rules of streams do not change.
    fn ends(&self) -> [Option<SocketAddr>; 2] {
        [self.src(), self.dst()]
    }
    fn ssl_fc(&self) -> bool {
        false
    }
    fn ssl_sni(&self) -> Option<&str> {
        None
    }
    fn method(&self) -> &[u8] {
        b""
    }
    /// The request target as received.
    fn url(&self) -> &[u8] {
        b""
    }
    /// HTTP version as `1.0` or `1.1`.
    fn version(&self) -> &str {
        ""
    }
    fn header<'a>(&'a self, _name: &str, _from: HeadSide, _visit: &mut dyn FnMut(&'a [u8]) -> bool) {}
    fn status(&self) -> u16 {
        0
    }
    fn frontend(&self) -> &str {
        ""
    }
    fn backend(&self) -> &str;
    fn server(&self) -> &str;
    /// A number of a proxy, or of one of its servers; without names, of the one that the rule stands in.
    fn gauge(&self, _what: Gauge, _proxy: Option<&str>, _server: Option<&str>) -> Option<i64> {
        None
    }
    fn unique_id(&self) -> u64 {
        0
    }
    /// A `txn`, `req`, `sess`... variable by its full name.
    fn var(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    /// What a slot has captured: of the request, or of the response.
    fn captured(&self, _from: HeadSide, _slot: usize) -> Option<&[u8]> {
        None
    }
    /// A number that belongs to this moment of the exchange.
    fn number(&self, _what: Number) -> Option<i64> {
        None
    }
    /// The listener's name, if it was given one.
    fn listener(&self) -> Option<&str> {
        None
    }
    /// The cache that the response comes from.
    fn cache_hit(&self) -> Option<&str> {
        None
    }
    /// The PROXY header that the connection began with.
    fn proxied(&self) -> Option<&proxy::Header> {
        None
    }
    /// What `unique-id-format` made.
    fn unique(&self) -> &[u8] {
        b""
    }
    /// The algorithm with which the response is compressed.
    fn compression(&self) -> Option<&'static str> {
        None
    }
    /// The request as it came in: method, target and version.
    fn first_line(&self) -> [&[u8]; 3] {
        [b""; 3]
    }
    /// What came in of a stream that rules look into, and whether it will grow no more: the wait is over, the client closed, the buffer is full.
    fn payload(&self) -> (&[u8], bool) {
        (b"", true)
    }
    /// A stream of bytes is looked into, and a request may yet come of it.
    fn awaits_request(&self) -> bool {
        false
    }
    /// As [`payload`](Traffic::payload), of what a server sends.
    fn answered(&self) -> (&[u8], bool) {
        (b"", true)
    }
    /// The body of an answer, where it is kept as a whole.
    fn answer_body(&self) -> &[u8] {
        b""
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadSide {
    Request,
    Response,
}

/// See [`Traffic::number`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// 1 if this is the first request of its connection.
    FirstRequest,
    ListenerId,
    FrontendId,
    BackendId,
    ServerId,
    /// Minor version of the response.
    ResponseMinor,
    /// A time-out in milliseconds: as the file says, or as rules have set it.
    Timeout(Timer, bool),
    /// Retries that are allowed, in the same two ways.
    Retries(bool),
    /// 1 if the connection to the server has carried a request before.
    Reused,
    /// `set-priority-class` and `set-priority-offset`.
    PriorityClass,
    PriorityOffset,
    /// 1 if the stream is made of HTTP messages.
    IsHttp,
    /// The time of day, in seconds since 1970.
    Now,
    /// 1 once the process is to end.
    Stopping,
    /// Of the client's connection, or of the server's, as the kernel counts it; times in microseconds.
    Tcp(HeadSide, TcpFact),
}

/// What the kernel knows of a TCP connection (`fc_rtt` and the like).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpFact {
    Rtt,
    RttVar,
    Unacked,
    Sacked,
    Lost,
    Retrans,
    Fackets,
    Reordering,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    AlwaysTrue,
    AlwaysFalse,
    /// An end of the client's connection, whatever rules have made of it: where it leads (true), and the port (true).
    End(bool, bool),
    /// The same of the server's connection.
    ServerEnd(bool, bool),
    /// Major version of HTTP.
    Major,
    Bool,
    Int,
    Str,
    Env,
    Src,
    SrcPort,
    Dst,
    DstPort,
    SslFc,
    SslSni,
    Method,
    Path,
    Pathq,
    Query,
    Url,
    UrlParam,
    Base,
    ReqVer,
    ReqHdr,
    ReqFhdr,
    ReqHdrCnt,
    ReqHdrVal,
    ReqCook,
    ResHdr,
    ResFhdr,
    ResHdrCnt,
    ResHdrVal,
    Status,
    Gauge(Gauge),
    FeName,
    BeName,
    SvName,
    Var,
    Number(Number),
    SoName,
    RcvdProxy,
    ProxyTlv,
    ResVer,
    UniqueId,
    CacheHit,
    CacheName,
    ResComp,
    ResCompAlgo,
    CaptureReqHdr,
    CaptureResHdr,
    CaptureReqMethod,
    CaptureReqUri,
    CaptureReqVer,
    ReqFhdrCnt,
    ResFhdrCnt,
    ReqCookCnt,
    ReqCookVal,
    // What looks into the stream; see `Expr::look`.
    ReqLen,
    Payload,
    PayloadLv,
    ResLen,
    ResPayload,
    ResPayloadLv,
    ResHelloType,
    ResBody,
    ResBodyLen,
    HelloType,
    HelloSni,
    HelloAlpn,
    ProtoHttp,
    RdpCookie,
    RdpCookieCnt,
    WaitEnd,
}

struct Row {
    name: &'static str,
    kind: Kind,
    /// 0 none, 1 optional, 2 required.
    arg: u8,
    least: Scope,
    /// The type it yields, for the implicit match method: 'b', 'i', 's', 'a'.
    out: u8,
}

const fn row(name: &'static str, kind: Kind, arg: u8, least: Scope, out: u8) -> Row {
    Row { name, kind, arg, least, out }
}

use Scope::{Connection as C, Request as Q, Response as P};

/// The fetches that are honoured, under every name HAProxy gives them.
const FETCHES: &[Row] = &[
    row("always_true", Kind::AlwaysTrue, 0, C, b'b'),
    row("always_false", Kind::AlwaysFalse, 0, C, b'b'),
    row("bool", Kind::Bool, 2, C, b'b'),
    row("int", Kind::Int, 2, C, b'i'),
    row("str", Kind::Str, 2, C, b's'),
    row("env", Kind::Env, 2, C, b's'),
    row("src", Kind::Src, 0, C, b'a'),
    row("src_port", Kind::SrcPort, 0, C, b'i'),
    row("dst", Kind::Dst, 0, C, b'a'),
    row("dst_port", Kind::DstPort, 0, C, b'i'),
    row("ssl_fc", Kind::SslFc, 0, C, b'b'),
    row("ssl_fc_sni", Kind::SslSni, 0, C, b's'),
    row("fe_name", Kind::FeName, 0, C, b's'),
    row("be_name", Kind::BeName, 0, C, b's'),
    row("srv_name", Kind::SvName, 0, P, b's'),
    row("avg_queue", Kind::Gauge(Gauge::AvgQueue), 1, C, b'i'),
    row("be_conn", Kind::Gauge(Gauge::BeConn), 1, C, b'i'),
    row("be_conn_free", Kind::Gauge(Gauge::BeConnFree), 1, C, b'i'),
    row("be_sess_rate", Kind::Gauge(Gauge::BeSessRate), 1, C, b'i'),
    row("connslots", Kind::Gauge(Gauge::ConnSlots), 1, C, b'i'),
    row("fe_conn", Kind::Gauge(Gauge::FeConn), 1, C, b'i'),
    row("fe_req_rate", Kind::Gauge(Gauge::FeReqRate), 1, C, b'i'),
    row("fe_sess_rate", Kind::Gauge(Gauge::FeSessRate), 1, C, b'i'),
    row("nbsrv", Kind::Gauge(Gauge::NbSrv), 1, C, b'i'),
    row("queue", Kind::Gauge(Gauge::Queue), 1, C, b'i'),
    row("srv_conn", Kind::Gauge(Gauge::SrvConn), 2, C, b'i'),
    row("srv_conn_free", Kind::Gauge(Gauge::SrvConnFree), 2, C, b'i'),
    row("srv_is_up", Kind::Gauge(Gauge::SrvIsUp), 2, C, b'b'),
    row("srv_iweight", Kind::Gauge(Gauge::SrvIweight), 2, C, b'i'),
    row("srv_queue", Kind::Gauge(Gauge::SrvQueue), 2, C, b'i'),
    row("srv_sess_rate", Kind::Gauge(Gauge::SrvSessRate), 2, C, b'i'),
    row("srv_uweight", Kind::Gauge(Gauge::SrvUweight), 2, C, b'i'),
    row("srv_weight", Kind::Gauge(Gauge::SrvWeight), 2, C, b'i'),
    row("fe_client_timeout", Kind::Number(Number::Timeout(Timer::Client, false)), 0, C, b'i'),
    row("be_connect_timeout", Kind::Number(Number::Timeout(Timer::Connect, false)), 0, C, b'i'),
    row("be_queue_timeout", Kind::Number(Number::Timeout(Timer::Queue, false)), 0, C, b'i'),
    row("be_server_timeout", Kind::Number(Number::Timeout(Timer::Server, false)), 0, C, b'i'),
    row("be_tarpit_timeout", Kind::Number(Number::Timeout(Timer::Tarpit, false)), 0, C, b'i'),
    row("be_tunnel_timeout", Kind::Number(Number::Timeout(Timer::Tunnel, false)), 0, C, b'i'),
    row("cur_client_timeout", Kind::Number(Number::Timeout(Timer::Client, true)), 0, C, b'i'),
    row("cur_connect_timeout", Kind::Number(Number::Timeout(Timer::Connect, true)), 0, C, b'i'),
    row("cur_queue_timeout", Kind::Number(Number::Timeout(Timer::Queue, true)), 0, C, b'i'),
    row("cur_server_timeout", Kind::Number(Number::Timeout(Timer::Server, true)), 0, C, b'i'),
    row("cur_tarpit_timeout", Kind::Number(Number::Timeout(Timer::Tarpit, true)), 0, C, b'i'),
    row("cur_tunnel_timeout", Kind::Number(Number::Timeout(Timer::Tunnel, true)), 0, C, b'i'),
    row("be_max_retries", Kind::Number(Number::Retries(false)), 0, C, b'i'),
    row("cur_max_retries", Kind::Number(Number::Retries(true)), 0, C, b'i'),
    row("fc_rcvd_proxy", Kind::RcvdProxy, 0, C, b'b'),
    row("fc_pp_authority", Kind::ProxyTlv, 0, C, b's'),
    row("fc_pp_unique_id", Kind::ProxyTlv, 0, C, b's'),
    row("fc_pp_tlv", Kind::ProxyTlv, 2, C, b's'),
    row("bc_reused", Kind::Number(Number::Reused), 0, P, b'b'),
    row("prio_class", Kind::Number(Number::PriorityClass), 0, C, b'i'),
    row("prio_offset", Kind::Number(Number::PriorityOffset), 0, C, b'i'),
    row("internal.strm.is_htx", Kind::Number(Number::IsHttp), 0, C, b'b'),
    row("fc_src", Kind::End(false, false), 0, C, b'a'),
    row("fc_src_port", Kind::End(false, true), 0, C, b'i'),
    row("fc_dst", Kind::End(true, false), 0, C, b'a'),
    row("fc_dst_port", Kind::End(true, true), 0, C, b'i'),
    row("fc_http_major", Kind::Major, 0, C, b'i'),
    row("bc_http_major", Kind::Major, 0, C, b'i'),
    row("bc_src", Kind::ServerEnd(false, false), 0, C, b'a'),
    row("bc_src_port", Kind::ServerEnd(false, true), 0, C, b'i'),
    row("bc_dst", Kind::ServerEnd(true, false), 0, C, b'a'),
    row("bc_dst_port", Kind::ServerEnd(true, true), 0, C, b'i'),
    row("bc_rtt", Kind::Number(Number::Tcp(HeadSide::Response, TcpFact::Rtt)), 1, C, b'i'),
    row("bc_rttvar", Kind::Number(Number::Tcp(HeadSide::Response, TcpFact::RttVar)), 1, C, b'i'),
    row("fc_rtt", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Rtt)), 1, C, b'i'),
    row("fc_rttvar", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::RttVar)), 1, C, b'i'),
    row("fc_unacked", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Unacked)), 1, C, b'i'),
    row("fc_sacked", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Sacked)), 1, C, b'i'),
    row("fc_lost", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Lost)), 1, C, b'i'),
    row("fc_retrans", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Retrans)), 1, C, b'i'),
    row("fc_fackets", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Fackets)), 1, C, b'i'),
    row("fc_reordering", Kind::Number(Number::Tcp(HeadSide::Request, TcpFact::Reordering)), 1, C, b'i'),
    row("date", Kind::Number(Number::Now), 2, C, b'i'),
    row("stopping", Kind::Number(Number::Stopping), 0, C, b'b'),
    row("var", Kind::Var, 2, C, b's'),
    row("req.len", Kind::ReqLen, 0, C, b'i'),
    row("req_len", Kind::ReqLen, 0, C, b'i'),
    row("req.payload", Kind::Payload, 2, C, b's'),
    row("payload", Kind::Payload, 2, C, b's'),
    row("req.payload_lv", Kind::PayloadLv, 2, C, b's'),
    row("payload_lv", Kind::PayloadLv, 2, C, b's'),
    row("req.ssl_hello_type", Kind::HelloType, 0, C, b'i'),
    row("req_ssl_hello_type", Kind::HelloType, 0, C, b'i'),
    row("req.ssl_sni", Kind::HelloSni, 0, C, b's'),
    row("req_ssl_sni", Kind::HelloSni, 0, C, b's'),
    row("req.ssl_alpn", Kind::HelloAlpn, 0, C, b's'),
    row("req.proto_http", Kind::ProtoHttp, 0, C, b'b'),
    row("req_proto_http", Kind::ProtoHttp, 0, C, b'b'),
    row("req.rdp_cookie", Kind::RdpCookie, 1, C, b's'),
    row("rdp_cookie", Kind::RdpCookie, 1, C, b's'),
    row("req.rdp_cookie_cnt", Kind::RdpCookieCnt, 1, C, b'i'),
    row("rdp_cookie_cnt", Kind::RdpCookieCnt, 1, C, b'i'),
    row("wait_end", Kind::WaitEnd, 0, C, b'b'),
    row("method", Kind::Method, 0, Q, b's'),
    row("path", Kind::Path, 0, Q, b's'),
    row("pathq", Kind::Pathq, 0, Q, b's'),
    row("query", Kind::Query, 0, Q, b's'),
    row("url", Kind::Url, 0, Q, b's'),
    row("url_param", Kind::UrlParam, 2, Q, b's'),
    row("urlp", Kind::UrlParam, 2, Q, b's'),
    row("base", Kind::Base, 0, Q, b's'),
    row("req.ver", Kind::ReqVer, 0, Q, b's'),
    row("req_ver", Kind::ReqVer, 0, Q, b's'),
    row("hdr", Kind::ReqHdr, 1, Q, b's'),
    row("req.hdr", Kind::ReqHdr, 1, Q, b's'),
    row("req.fhdr", Kind::ReqFhdr, 1, Q, b's'),
    row("hdr_cnt", Kind::ReqHdrCnt, 1, Q, b'i'),
    row("req.hdr_cnt", Kind::ReqHdrCnt, 1, Q, b'i'),
    row("hdr_val", Kind::ReqHdrVal, 1, Q, b'i'),
    row("req.hdr_val", Kind::ReqHdrVal, 1, Q, b'i'),
    row("cook", Kind::ReqCook, 2, Q, b's'),
    row("req.cook", Kind::ReqCook, 2, Q, b's'),
    row("shdr", Kind::ResHdr, 1, P, b's'),
    row("res.hdr", Kind::ResHdr, 1, P, b's'),
    row("res.fhdr", Kind::ResFhdr, 1, P, b's'),
    row("res.hdr_cnt", Kind::ResHdrCnt, 1, P, b'i'),
    row("res.hdr_val", Kind::ResHdrVal, 1, P, b'i'),
    row("http_first_req", Kind::Number(Number::FirstRequest), 0, Q, b'b'),
    row("so_id", Kind::Number(Number::ListenerId), 0, C, b'i'),
    row("so_name", Kind::SoName, 0, C, b's'),
    row("fe_id", Kind::Number(Number::FrontendId), 0, C, b'i'),
    row("be_id", Kind::Number(Number::BackendId), 0, C, b'i'),
    row("srv_id", Kind::Number(Number::ServerId), 0, P, b'i'),
    row("res.ver", Kind::ResVer, 0, P, b's'),
    row("resp_ver", Kind::ResVer, 0, P, b's'),
    row("unique-id", Kind::UniqueId, 0, C, b's'),
    row("capture.req.hdr", Kind::CaptureReqHdr, 2, Q, b's'),
    row("capture.res.hdr", Kind::CaptureResHdr, 2, P, b's'),
    row("capture.req.method", Kind::CaptureReqMethod, 0, Q, b's'),
    row("capture.req.uri", Kind::CaptureReqUri, 0, Q, b's'),
    row("capture.req.ver", Kind::CaptureReqVer, 0, Q, b's'),
    row("req.fhdr_cnt", Kind::ReqFhdrCnt, 1, Q, b'i'),
    row("res.fhdr_cnt", Kind::ResFhdrCnt, 1, P, b'i'),
    row("req.cook_cnt", Kind::ReqCookCnt, 1, Q, b'i'),
    row("cook_cnt", Kind::ReqCookCnt, 1, Q, b'i'),
    row("req.cook_val", Kind::ReqCookVal, 2, Q, b'i'),
    row("cook_val", Kind::ReqCookVal, 2, Q, b'i'),
    row("status", Kind::Status, 0, P, b'i'),
    row("res.len", Kind::ResLen, 0, P, b'i'),
    row("res.ssl_hello_type", Kind::ResHelloType, 0, P, b'i'),
    row("rep_ssl_hello_type", Kind::ResHelloType, 0, P, b'i'),
    row("res.payload", Kind::ResPayload, 2, P, b's'),
    row("res.payload_lv", Kind::ResPayloadLv, 2, P, b's'),
    row("res.body", Kind::ResBody, 0, P, b's'),
    row("res.body_len", Kind::ResBodyLen, 0, P, b'i'),
    row("res.body_size", Kind::ResBodyLen, 0, P, b'i'),
    row("res.cache_hit", Kind::CacheHit, 0, P, b'b'),
    row("res.cache_name", Kind::CacheName, 0, P, b's'),
    row("res.comp", Kind::ResComp, 0, P, b'b'),
    row("res.comp_algo", Kind::ResCompAlgo, 0, P, b's'),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Conv {
    Lower,
    Upper,
    Length,
    Bool,
    Not,
    /// `add`, `sub`, `mul`, `div`, `mod`, `neg`, by their signs.
    Math(char),
    Field,
    Word,
    HostOnly,
    RegSub,
    Concat,
    Iif,
    Hex,
    HttpDate,
}

/// The converters that are honoured: name, operation, least and largest number of arguments.
const CONVERTERS: &[(&str, Conv, usize, usize)] = &[
    ("lower", Conv::Lower, 0, 0),
    ("upper", Conv::Upper, 0, 0),
    ("length", Conv::Length, 0, 0),
    ("bool", Conv::Bool, 0, 0),
    ("not", Conv::Not, 0, 0),
    ("add", Conv::Math('+'), 1, 1),
    ("sub", Conv::Math('-'), 1, 1),
    ("mul", Conv::Math('*'), 1, 1),
    ("div", Conv::Math('/'), 1, 1),
    ("mod", Conv::Math('%'), 1, 1),
    ("neg", Conv::Math('n'), 0, 0),
    ("field", Conv::Field, 2, 3),
    ("word", Conv::Word, 2, 3),
    ("host_only", Conv::HostOnly, 0, 0),
    ("iif", Conv::Iif, 2, 2),
    ("hex", Conv::Hex, 0, 0),
    ("http_date", Conv::HttpDate, 0, 1),
    ("regsub", Conv::RegSub, 2, 3),
    ("concat", Conv::Concat, 1, 3),
];

/// Scopes of variables (manual 2.8). Those of the process are not here yet.
const VAR_SCOPES: &[&str] = &["sess", "txn", "req", "res", "check"];

/// Whether a variable can be called so: a scope, a dot, letters, digits, `_` and dots.
pub fn check_variable(name: &str) -> Result<(), ExprError> {
    let bad = |why: &str| Err(ExprError::Bad(format!("invalid variable name '{name}': {why}")));
    match name.split_once('.') {
        Some((_, "")) => bad("a name is missing behind the scope"),
        Some((scope, rest)) if VAR_SCOPES.contains(&scope) || scope == "proc" => {
            if let Some(c) = rest.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))) {
                return bad(&format!("'{c}' is not permitted in it; use letters, digits, '_' and '.'"));
            }
            match scope {
                "proc" => Err(ExprError::NotYet(format!("variable '{name}': scope '{scope}' is not honoured yet"))),
                _ => Ok(()),
            }
        }
        _ => bad("it begins with its scope: txn., req., res., sess. or proc."),
    }
}

/// `MAX_HDR_HISTORY`: occurrences are counted back no further.
const MOST_BACK: i32 = -10;

#[derive(Clone, Debug)]
struct Step {
    conv: Conv,
    args: Vec<String>,
    regex: Option<regex::bytes::Regex>,
}

/// A compiled sample expression: a fetch and the converters behind it.
#[derive(Clone, Debug)]
pub struct Expr {
    kind: Kind,
    arg: String,
    /// What `var()` yields where the variable is not set.
    default: Option<String>,
    index: Option<i32>,
    /// Offsets and lengths within a stream.
    numbers: [usize; 3],
    steps: Vec<Step>,
    out: u8,
    least: Scope,
    text: String,
}

/// Why an expression was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum ExprError {
    Unknown(String),
    NotYet(String),
    Bad(String),
    /// It depends on something that was refused, and reported, before.
    Reported,
}

/// Finds the address of a host.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Option<IpAddr>;

/// Names that exist in the reference but not here; passed in so that the message can tell the two apart.
pub struct KnownNames<'a> {
    pub is_fetch: fn(&str) -> bool,
    pub is_converter: fn(&str) -> bool,
    /// What `env()` finds.
    pub env: Option<&'a std::collections::BTreeMap<String, Option<String>>>,
    /// Whether a fetch has a value where this expression stands.
    pub fits: Option<&'a dyn Fn(&str) -> bool>,
    /// Finds the address of a host that an ACL names.
    pub resolve: Option<Resolve<'a>>,
}

/// True if this sample fetch is honoured.
pub fn is_fetch(name: &str) -> bool {
    FETCHES.iter().any(|r| r.name == name)
}

/// True if this converter is honoured.
pub fn is_converter(name: &str) -> bool {
    CONVERTERS.iter().any(|c| c.0 == name)
}

impl Expr {
    /// Parses `fetch[(args)][,conv[(args)]...]`. Returns the expression and what was not used of `text`.
    pub fn parse<'t>(text: &'t str, known: &KnownNames<'_>) -> Result<(Self, &'t str), ExprError> {
        let (name, args, mut rest) = call(text)?;
        let Some(row) = FETCHES.iter().find(|r| r.name == name) else {
            return Err(if (known.is_fetch)(name) {
                ExprError::NotYet(format!("sample fetch '{name}' is not honoured yet"))
            } else {
                ExprError::Unknown(format!(
                    "unknown fetch method '{name}'{}",
                    crate::base::diag::suggestion(name, FETCHES.iter().map(|r| r.name))
                ))
            });
        };
        if known.fits.is_some_and(|fits| !fits(name)) {
            return Err(ExprError::Bad(format!("sample fetch '{name}' has no value at this point of the exchange")));
        }
        if row.arg == 0 && !args.is_empty() {
            return Err(ExprError::Bad(format!("fetch method '{name}' takes no argument")));
        }
        if row.arg == 2 && args.first().is_none_or(String::is_empty) {
            if matches!(row.kind, Kind::UrlParam | Kind::ReqCook) {
                return Err(ExprError::NotYet(format!(
                    "fetch method '{name}' without an argument is not honoured yet"
                )));
            }
            return Err(ExprError::Bad(format!("fetch method '{name}' wants an argument")));
        }
        let index = match args.get(1) {
            Some(i)
                if matches!(
                    row.kind,
                    Kind::ReqHdr | Kind::ReqFhdr | Kind::ResHdr | Kind::ResFhdr | Kind::ReqHdrVal | Kind::ResHdrVal
                ) =>
            {
                let n = i.parse().ok().filter(|n: &i32| *n >= MOST_BACK);
                Some(n.ok_or_else(|| {
                    ExprError::Bad(format!("'{i}' is not an occurrence number from {MOST_BACK} in '{text}'"))
                })?)
            }
            Some(_)
                if !matches!(
                    row.kind,
                    Kind::UrlParam
                        | Kind::Var
                        | Kind::Payload
                        | Kind::PayloadLv
                        | Kind::ResPayload
                        | Kind::ResPayloadLv
                ) =>
            {
                return Err(ExprError::Bad(format!("too many arguments for fetch method '{name}'")));
            }
            _ => None,
        };
        let most = match row.kind {
            Kind::UrlParam | Kind::PayloadLv | Kind::ResPayloadLv => 3,
            Kind::Int | Kind::Bool | Kind::Env => 1,
            _ => 2,
        };
        if args.len() > most && !matches!(row.kind, Kind::Str) {
            return Err(ExprError::Bad(format!("too many arguments for fetch method '{name}'")));
        }
        let mut numbers = [0usize; 3];
        if matches!(row.kind, Kind::Payload | Kind::PayloadLv | Kind::ResPayload | Kind::ResPayloadLv) {
            if args.len() < 2 {
                return Err(ExprError::Bad(format!("fetch method '{name}' wants an offset and a length")));
            }
            for (n, a) in numbers.iter_mut().zip(&args) {
                // A third argument with a sign counts from the end of the length.
                let digits = a.strip_prefix('+').unwrap_or(a);
                *n = digits
                    .parse()
                    .map_err(|_| ExprError::Bad(format!("'{a}' is not an offset or a length in '{text}'")))?;
            }
            if matches!(row.kind, Kind::PayloadLv | Kind::ResPayloadLv)
                && args.get(2).is_none_or(|a| a.starts_with('+'))
            {
                numbers[2] = numbers[2].saturating_add(numbers[0]).saturating_add(numbers[1]);
            }
        }
        let mut args = args.into_iter();
        let mut arg = args.next().unwrap_or_default();
        let default = if row.kind == Kind::Var { args.next() } else { None };
        if row.kind == Kind::Var {
            check_variable(&arg)?;
        }
        if row.kind == Kind::Bool && !matches!(arg.as_str(), "true" | "false" | "0" | "1") {
            return Err(ExprError::Bad(format!("'{arg}' is no boolean in '{text}'; write true, false, 0 or 1")));
        }
        let mut kind = row.kind;
        if kind == Kind::Env
            && let Some(v) = known.env.and_then(|e| e.get(&arg).cloned().flatten())
        {
            // It does not change any more: a constant.
            (kind, arg) = (Kind::Str, v);
        }
        if row.kind == Kind::ProxyTlv {
            numbers[0] = match name {
                "fc_pp_authority" => usize::from(proxy::AUTHORITY),
                "fc_pp_unique_id" => usize::from(proxy::UNIQUE_ID),
                _ => usize::from(
                    proxy::kind(&arg)
                        .ok_or_else(|| ExprError::Bad(format!("'{arg}' is no type of a TLV in '{text}'")))?,
                ),
            };
        }
        if matches!(row.kind, Kind::CaptureReqHdr | Kind::CaptureResHdr) {
            numbers[0] =
                arg.parse().map_err(|_| ExprError::Bad(format!("'{arg}' is not the number of a slot in '{text}'")))?;
        }
        if row.kind == Kind::Number(Number::Now)
            && let Some(unit) = args.next().filter(|u| u != "s")
        {
            return Err(ExprError::NotYet(format!("'{unit}' in fetch 'date' is not honoured yet")));
        }
        if row.kind == Kind::Number(Number::Now) && !arg.is_empty() && arg.parse::<i64>().is_err() {
            return Err(ExprError::Bad(format!("'{arg}' is no number of seconds in '{text}'")));
        }
        if matches!(row.kind, Kind::Number(Number::Tcp(..))) && !matches!(arg.as_str(), "" | "us" | "ms") {
            return Err(ExprError::Bad(format!("'{arg}' is no unit in '{text}'; it is 'us' or 'ms'")));
        }
        if matches!(row.kind, Kind::Int) && arg.parse::<i64>().is_err() {
            return Err(ExprError::Bad(format!("'{arg}' is not an integer")));
        }
        if matches!(
            row.kind,
            Kind::ReqHdr
                | Kind::ReqFhdr
                | Kind::ReqHdrCnt
                | Kind::ReqHdrVal
                | Kind::ResHdr
                | Kind::ResFhdr
                | Kind::ResHdrCnt
                | Kind::ResHdrVal
                | Kind::ReqFhdrCnt
                | Kind::ResFhdrCnt
        ) {
            arg.make_ascii_lowercase();
        }
        let mut expr = Self {
            kind,
            arg,
            default,
            index,
            numbers,
            steps: Vec::new(),
            out: row.out,
            least: row.least,
            text: String::new(),
        };
        while let Some(tail) = rest.strip_prefix(',') {
            // A comma with nothing behind it is passed over.
            if tail.is_empty() || tail.starts_with([',', ' ', ']', ')']) {
                rest = tail;
                continue;
            }
            let (name, args, after) = call(tail)?;
            let Some(&(_, conv, least, most)) = CONVERTERS.iter().find(|c| c.0 == name) else {
                return Err(if (known.is_converter)(name) {
                    ExprError::NotYet(format!("converter '{name}' is not honoured yet"))
                } else {
                    ExprError::Unknown(format!(
                        "unknown converter '{name}'{}",
                        crate::base::diag::suggestion(name, CONVERTERS.iter().map(|r| r.0))
                    ))
                });
            };
            if args.len() > most {
                return Err(ExprError::Bad(format!("converter '{name}' takes no argument '{}'", args[most])));
            }
            if args.len() < least {
                return Err(ExprError::Bad(format!("converter '{name}' wants {least} argument(s)")));
            }
            let bad_int = |a: &String| ExprError::Bad(format!("'{a}' is not an integer, in converter '{name}'"));
            let mut regex = None;
            match conv {
                Conv::Math(_)
                    if !args.is_empty() && (check_variable(&args[0]).is_ok() || args[0].starts_with("proc.")) =>
                {
                    return Err(ExprError::NotYet(format!(
                        "variable '{}' in converter 'add' is not honoured yet",
                        args[0]
                    )));
                }
                Conv::Math(_) | Conv::Field | Conv::Word | Conv::HttpDate
                    if !args.is_empty() && args[0].parse::<i64>().is_err() =>
                {
                    return Err(bad_int(&args[0]));
                }
                Conv::Concat if args.get(1).is_some_and(|a| !a.is_empty()) => {
                    return Err(ExprError::NotYet("a variable in converter 'concat' is not honoured yet".into()));
                }
                Conv::RegSub => {
                    let flags = args.get(2).map_or("", String::as_str);
                    if let Some(f) = flags.chars().find(|f| !matches!(f, 'g' | 'i')) {
                        return Err(ExprError::Bad(format!(
                            "'{f}' is no flag of converter 'regsub'; it has 'g' and 'i'"
                        )));
                    }
                    let pattern = if flags.contains('i') { format!("(?i){}", args[0]) } else { args[0].clone() };
                    regex = Some(
                        regex::bytes::Regex::new(&pattern)
                            .map_err(|e| ExprError::Bad(format!("regular expression '{}': {e}", args[0])))?,
                    );
                }
                _ => {}
            }
            expr.out = match conv {
                Conv::Length | Conv::Math(_) => b'i',
                Conv::Bool | Conv::Not => b'b',
                _ => b's',
            };
            expr.steps.push(Step { conv, args, regex });
            rest = after;
        }
        expr.text = text[..text.len() - rest.len()].to_owned();
        Ok((expr, rest))
    }

    pub fn text(&self) -> &str {
        &self.text
    }
    /// What it asks of a proxy or a server at large, and the name in its brackets.
    pub fn gauge(&self) -> Option<(Gauge, &str)> {
        match self.kind {
            Kind::Gauge(g) => Some((g, &self.arg)),
            _ => None,
        }
    }
    /// The earliest moment at which the expression has a value.
    pub fn least(&self) -> Scope {
        self.least
    }
    pub fn is_ip(&self) -> bool {
        self.out == b'a'
    }
    pub fn is_int(&self) -> bool {
        self.out == b'i'
    }
    pub fn is_bool(&self) -> bool {
        self.out == b'b'
    }
    pub fn is_method(&self) -> bool {
        self.kind == Kind::Method && self.steps.is_empty()
    }

    /// Seconds that `date` adds.
    fn offset(&self) -> i64 {
        self.arg.parse().unwrap_or(0)
    }

    /// True if it looks into the bytes of the stream.
    pub fn wants_payload(&self) -> bool {
        use Kind::*;
        matches!(
            self.kind,
            ReqLen
                | Payload
                | PayloadLv
                | HelloType
                | HelloSni
                | HelloAlpn
                | ProtoHttp
                | RdpCookie
                | RdpCookieCnt
                | WaitEnd
        )
    }

    /// True if it asks about a request.
    pub fn wants_request(&self) -> bool {
        self.least == Scope::Request
    }

    /// True if its value may become another one when more bytes come in.
    pub fn may_change(&self, t: &dyn Traffic) -> bool {
        self.wants_request() && t.awaits_request()
            || matches!(self.kind, Kind::ResLen | Kind::ResPayload | Kind::ResPayloadLv | Kind::ResHelloType)
                && !t.answered().1
                && (self.kind == Kind::ResLen
                    || self.kind == Kind::ResPayload && self.numbers[1] == 0
                    || self.look(t) == Look::More)
            || self.wants_payload()
                && !t.payload().1
                && (matches!(self.kind, Kind::ReqLen | Kind::WaitEnd)
                    || self.kind == Kind::Payload && self.numbers[1] == 0
                    || self.look(t) == Look::More)
    }

    /// It asks where the server's connection leads.
    pub fn tells_server(&self) -> bool {
        matches!(self.kind, Kind::ServerEnd(..))
    }

    /// Microseconds in one of the units that a time is asked for in.
    fn unit(&self) -> i64 {
        if self.arg == "us" { 1 } else { 1_000 }
    }

    /// What the bytes of the stream say so far.
    fn look<'a>(&'a self, t: &'a dyn Traffic) -> Look<Sample<'a>> {
        let (bytes, last) = match self.kind {
            Kind::ResLen | Kind::ResPayload | Kind::ResPayloadLv | Kind::ResHelloType => t.answered(),
            Kind::ResBody | Kind::ResBodyLen => (t.answer_body(), true),
            _ => t.payload(),
        };
        let int = |i: usize| Sample::Int(i64::try_from(i).unwrap_or(i64::MAX));
        let short = if last { Look::No } else { Look::More };
        let part = |from: usize, len: usize| match bytes.get(from..from.saturating_add(len)) {
            Some(b) => Look::Yes(Sample::str(b)),
            None => short.clone(),
        };
        match self.kind {
            // Where a request was read already, it is what came in.
            Kind::ReqLen if !t.method().is_empty() => Look::Yes(int(t.first_line().iter().map(|w| w.len() + 1).sum())),
            Kind::ReqLen | Kind::ResLen | Kind::ResBodyLen => Look::Yes(int(bytes.len())),
            Kind::ResBody => Look::Yes(Sample::str(bytes)),
            Kind::WaitEnd => {
                if last {
                    Look::Yes(Sample::Bool(true))
                } else {
                    Look::More
                }
            }
            Kind::Payload | Kind::ResPayload => match self.numbers {
                // A length of zero is everything up to the end.
                [from, 0, _] => bytes.get(from..).map_or(short, |b| Look::Yes(Sample::str(b))),
                [from, len, _] => part(from, len),
            },
            Kind::PayloadLv | Kind::ResPayloadLv => {
                let [at, size, from] = self.numbers;
                match bytes.get(at..at.saturating_add(size.min(8))) {
                    Some(b) => part(from, b.iter().fold(0usize, |n, c| n << 8 | usize::from(*c))),
                    None => short,
                }
            }
            Kind::HelloType | Kind::ResHelloType => {
                client_hello::handshake_type(bytes).map(|n| Sample::Int(i64::from(n)))
            }
            Kind::HelloSni => client_hello::server_name(bytes).map(Sample::str),
            Kind::HelloAlpn => client_hello::first_protocol(bytes).map(Sample::str),
            Kind::ProtoHttp if !t.method().is_empty() => Look::Yes(Sample::Bool(true)),
            Kind::ProtoHttp => match crate::wire::http_request(bytes) {
                Look::Yes(()) => Look::Yes(Sample::Bool(true)),
                Look::No => Look::Yes(Sample::Bool(false)),
                Look::More => Look::More,
            },
            Kind::RdpCookie => rdp::cookie(bytes, &self.arg).map(Sample::str),
            Kind::RdpCookieCnt => match rdp::cookie(bytes, &self.arg) {
                Look::Yes(_) => Look::Yes(Sample::Int(1)),
                Look::No => Look::Yes(Sample::Int(0)),
                Look::More => Look::More,
            },
            _ => Look::No,
        }
    }

    /// Visits every value (a header may have several) until `visit` says true; returns whether it did.
    pub fn any<'a>(&'a self, t: &'a dyn Traffic, visit: &mut dyn FnMut(Sample<'a>) -> bool) -> bool {
        let mut hit = false;
        let mut convert = |s: Sample<'a>| {
            hit = match self.steps.is_empty() {
                true => visit(s),
                false => self.steps.iter().try_fold(s, |s, step| step.apply(s)).is_some_and(&mut *visit),
            };
            hit
        };
        match self.kind {
            // Any of several of the same type will do.
            Kind::ProxyTlv => {
                let those = t.proxied().into_iter().flat_map(|h| &h.tlvs);
                for (_, v) in those.filter(|(k, _)| usize::from(*k) == self.numbers[0]) {
                    if convert(Sample::str(v)) {
                        break;
                    }
                }
            }
            Kind::ReqHdr | Kind::ResHdr | Kind::ReqHdrVal | Kind::ResHdrVal if self.index.is_none() => {
                t.header(&self.arg, self.side(), &mut |line| {
                    split_list(line).any(|v| match self.kind {
                        Kind::ReqHdr | Kind::ResHdr => convert(Sample::str(v)),
                        _ => Sample::str(v).int().is_some_and(|i| convert(Sample::Int(i))),
                    })
                });
            }
            _ => {
                if let Some(s) = self.one(t) {
                    convert(s);
                }
            }
        }
        hit
    }

    /// The one value of the expression in a log line or a header: for a list, the last one, as HAProxy has it.
    pub fn eval<'a>(&'a self, t: &'a dyn Traffic) -> Option<Sample<'a>> {
        let first = self.one(t)?;
        self.steps.iter().try_fold(first, |s, step| step.apply(s))
    }

    fn side(&self) -> HeadSide {
        match self.kind {
            Kind::ResHdr | Kind::ResFhdr | Kind::ResHdrCnt | Kind::ResHdrVal | Kind::ResFhdrCnt => HeadSide::Response,
            _ => HeadSide::Request,
        }
    }

    fn one<'a>(&'a self, t: &'a dyn Traffic) -> Option<Sample<'a>> {
        let int = |i: usize| Some(Sample::Int(i64::try_from(i).unwrap_or(i64::MAX)));
        match self.kind {
            Kind::AlwaysTrue => Some(Sample::Bool(true)),
            Kind::AlwaysFalse => Some(Sample::Bool(false)),
            Kind::Bool => {
                Some(Sample::Bool(self.arg == "true" || self.arg == "1" || self.arg == "on" || self.arg == "yes"))
            }
            Kind::Int => self.arg.parse().ok().map(Sample::Int),
            Kind::Str => Some(Sample::str(self.arg.as_bytes())),
            // One that exists became a constant when the file was read.
            Kind::Env => None,
            Kind::Src => t.src().map(|a| Sample::Ip(crate::base::addr::canonical(a.ip()))),
            Kind::SrcPort => t.src().map(|a| Sample::Int(i64::from(a.port()))),
            Kind::Dst => t.dst().map(|a| Sample::Ip(crate::base::addr::canonical(a.ip()))),
            Kind::DstPort => t.dst().map(|a| Sample::Int(i64::from(a.port()))),
            Kind::SslFc => Some(Sample::Bool(t.ssl_fc())),
            Kind::SslSni => t.ssl_sni().map(|s| Sample::str(s.as_bytes())),
            Kind::Method => Some(Sample::str(t.method())),
            Kind::Path => path_of(t.url()).map(Sample::str),
            Kind::Pathq => pathq_of(t.url()).map(Sample::str),
            Kind::Query => Some(Sample::str(query_of(t.url()))),
            Kind::Url => Some(Sample::str(t.url())),
            Kind::UrlParam => param(query_of(t.url()), self.arg.as_bytes()).map(Sample::str),
            Kind::Base => {
                let mut base = Vec::new();
                t.header("host", HeadSide::Request, &mut |h| {
                    base.extend_from_slice(h);
                    true
                });
                base.extend_from_slice(path_of(t.url()).unwrap_or_default());
                Some(Sample::Str(Cow::Owned(base)))
            }
            Kind::ReqVer => Some(Sample::str(t.version().as_bytes())),
            Kind::ReqHdrCnt | Kind::ResHdrCnt => {
                let mut n = 0;
                t.header(&self.arg, self.side(), &mut |line| {
                    n += split_list(line).count();
                    false
                });
                int(n)
            }
            Kind::ReqHdr | Kind::ResHdr | Kind::ReqHdrVal | Kind::ResHdrVal => {
                let found = nth(self.index.unwrap_or(-1), |visit| {
                    t.header(&self.arg, self.side(), &mut |line| {
                        split_list(line).for_each(&mut *visit);
                        false
                    });
                });
                match self.kind {
                    Kind::ReqHdrVal | Kind::ResHdrVal => found.and_then(|v| Sample::str(v).int()).map(Sample::Int),
                    _ => found.map(Sample::str),
                }
            }
            Kind::ReqFhdr | Kind::ResFhdr => nth(self.index.unwrap_or(-1), |visit| {
                t.header(&self.arg, self.side(), &mut |line| {
                    visit(line);
                    false
                });
            })
            .map(Sample::str),
            Kind::ReqCook => {
                let mut found = None;
                t.header("cookie", HeadSide::Request, &mut |line| {
                    found = crate::http::cookie::pairs(line).find(|(n, _)| *n == self.arg.as_bytes()).map(|(_, v)| v);
                    found.is_some()
                });
                found.map(Sample::str)
            }
            Kind::Status => Some(Sample::Int(i64::from(t.status()))),
            Kind::Gauge(g @ Gauge::SrvIsUp) => g.read(t, &self.arg).map(|n| Sample::Bool(n != 0)),
            Kind::Gauge(g) => g.read(t, &self.arg).map(Sample::Int),
            Kind::FeName => Some(Sample::str(t.frontend().as_bytes())),
            Kind::BeName => Some(Sample::str(t.backend().as_bytes())),
            Kind::SvName => Some(Sample::str(t.server().as_bytes())),
            Kind::Var => t.var(&self.arg).or(self.default.as_deref().map(str::as_bytes)).map(Sample::str),
            Kind::Number(n @ (Number::FirstRequest | Number::Stopping | Number::Reused | Number::IsHttp)) => {
                t.number(n).map(|n| Sample::Bool(n != 0))
            }
            Kind::Number(Number::Now) => t.number(Number::Now).map(|n| Sample::Int(n.saturating_add(self.offset()))),
            Kind::Number(n @ Number::Tcp(_, TcpFact::Rtt | TcpFact::RttVar)) => {
                t.number(n).map(|us| Sample::Int(us / self.unit()))
            }
            Kind::Number(n) => t.number(n).map(Sample::Int),
            Kind::End(dst, port) | Kind::ServerEnd(dst, port) => {
                let of = if matches!(self.kind, Kind::End(..)) { t.ends() } else { t.server_ends() };
                let at = of[usize::from(dst)]?;
                Some(if port {
                    Sample::Int(at.port().into())
                } else {
                    Sample::Ip(crate::base::addr::canonical(at.ip()))
                })
            }
            Kind::Major => Some(Sample::Int(1)),
            Kind::RcvdProxy => Some(Sample::Bool(t.proxied().is_some())),
            Kind::ProxyTlv => t.proxied()?.tlv(u8::try_from(self.numbers[0]).ok()?).map(Sample::str),
            Kind::SoName => t.listener().map(|n| Sample::str(n.as_bytes())),
            Kind::ResVer => t.number(Number::ResponseMinor).map(|n| Sample::str(if n == 0 { b"1.0" } else { b"1.1" })),
            Kind::UniqueId => Some(t.unique()).filter(|u| !u.is_empty()).map(Sample::str),
            Kind::CacheHit => Some(Sample::Bool(t.cache_hit().is_some())),
            Kind::CacheName => t.cache_hit().map(|n| Sample::str(n.as_bytes())),
            Kind::ResComp => Some(Sample::Bool(t.compression().is_some())),
            Kind::ResCompAlgo => t.compression().map(|n| Sample::str(n.as_bytes())),
            Kind::CaptureReqHdr => t.captured(HeadSide::Request, self.numbers[0]).map(Sample::str),
            Kind::CaptureResHdr => t.captured(HeadSide::Response, self.numbers[0]).map(Sample::str),
            Kind::CaptureReqMethod => Some(Sample::str(t.first_line()[0])),
            Kind::CaptureReqUri => Some(Sample::str(t.first_line()[1])),
            Kind::CaptureReqVer => Some(Sample::str(t.first_line()[2])),
            Kind::ReqFhdrCnt | Kind::ResFhdrCnt => {
                let mut n = 0;
                t.header(&self.arg, self.side(), &mut |_| {
                    n += 1;
                    false
                });
                int(n)
            }
            Kind::ReqCookCnt | Kind::ReqCookVal => {
                let (mut n, mut last) = (0, None);
                t.header("cookie", HeadSide::Request, &mut |line| {
                    for (name, v) in crate::http::cookie::pairs(line) {
                        if self.arg.is_empty() || name == self.arg.as_bytes() {
                            n += 1;
                            last.get_or_insert(v);
                        }
                    }
                    false
                });
                match self.kind {
                    Kind::ReqCookCnt => int(n),
                    _ => last.and_then(|v| Sample::str(v).int()).map(Sample::Int),
                }
            }
            _ => self.look(t).found(),
        }
    }
}

impl Step {
    fn apply<'a>(&self, s: Sample<'a>) -> Option<Sample<'a>> {
        let owned = |v: Vec<u8>| Some(Sample::Str(Cow::Owned(v)));
        match self.conv {
            Conv::HttpDate => {
                let offset = self.args.first().and_then(|a| a.parse().ok()).unwrap_or(0);
                let at = s.int()?.saturating_add(offset);
                // The years that the format has.
                let seconds = u64::try_from(at).ok().filter(|s| *s < 253_402_300_800)?;
                let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                owned(httpdate::fmt_http_date(at).into_bytes())
            }
            Conv::Lower => owned(s.text().to_ascii_lowercase()),
            Conv::Hex => {
                let bytes = match &s {
                    Sample::Int(n) => n.to_be_bytes().to_vec(),
                    Sample::Ip(IpAddr::V4(ip)) => ip.octets().to_vec(),
                    Sample::Ip(IpAddr::V6(ip)) => ip.octets().to_vec(),
                    other => other.text().into_owned(),
                };
                owned(bytes.iter().flat_map(|b| format!("{b:02X}").into_bytes()).collect())
            }
            Conv::Upper => owned(s.text().to_ascii_uppercase()),
            Conv::Length => Some(Sample::Int(i64::try_from(s.text().len()).unwrap_or(i64::MAX))),
            Conv::Bool => Some(Sample::Bool(s.int()? != 0)),
            Conv::Not => Some(Sample::Bool(s.int()? == 0)),
            Conv::Math(op) => {
                let a = s.int()?;
                let b: i64 = self.args.first().map_or(Some(0), |b| b.parse().ok())?;
                Some(Sample::Int(match op {
                    '+' => a.saturating_add(b),
                    '-' => a.saturating_sub(b),
                    '*' => a.saturating_mul(b),
                    // As HAProxy has it: the largest number of the same sign, and no rest.
                    '/' if b == 0 => {
                        if a < 0 {
                            i64::MIN
                        } else {
                            i64::MAX
                        }
                    }
                    '/' => a.saturating_div(b),
                    '%' => a.checked_rem(b).unwrap_or(0),
                    _ => a.saturating_neg(),
                }))
            }
            Conv::Iif => owned(self.args[usize::from(!s.truth())].clone().into_bytes()),
            Conv::Concat => {
                let mut v = s.text().into_owned();
                v.extend_from_slice(self.args[0].as_bytes());
                v.extend_from_slice(self.args.get(2).map_or("", String::as_str).as_bytes());
                owned(v)
            }
            Conv::HostOnly => {
                let t = s.text();
                let end = match t.first() {
                    Some(b'[') => t.iter().position(|c| *c == b']').map_or(t.len(), |p| p + 1),
                    _ => t.iter().position(|c| *c == b':').unwrap_or(t.len()),
                };
                owned(t[..end].to_vec())
            }
            Conv::Field | Conv::Word => {
                let text = s.text();
                let n: i64 = self.args[0].parse().ok()?;
                let is_delim = |c: &u8| self.args[1].as_bytes().contains(c);
                let parts: Vec<&[u8]> =
                    text.split(is_delim).filter(|p| self.conv == Conv::Field || !p.is_empty()).collect();
                let i = if n > 0 {
                    usize::try_from(n - 1).ok()?
                } else {
                    parts.len().checked_sub(usize::try_from(n.checked_neg()?).ok()?)?
                };
                owned(parts.get(i).copied().unwrap_or_default().to_vec())
            }
            Conv::RegSub => {
                let re = self.regex.as_ref()?;
                let flags = self.args.get(2).map_or("", String::as_str);
                // HAProxy writes back references as \1; the regex crate as ${1}.
                let to = back_references(&self.args[1]);
                let text = s.text();
                owned(re.replacen(&text, usize::from(!flags.contains('g')), to.as_bytes()).into_owned())
            }
        }
    }
}

/// `\1` as `${1}`, and a plain `$` doubled.
pub fn back_references(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.peek() {
                Some(d) if d.is_ascii_digit() => {
                    out.push_str(&format!("${{{d}}}"));
                    chars.next();
                }
                Some(_) => out.extend(chars.next()),
                None => out.push('\\'),
            },
            '$' => out.push_str("$$"),
            c => out.push(c),
        }
    }
    out
}

/// `name(args)` at the start of `text`: name, arguments, the rest.
fn call(text: &str) -> Result<(&str, Vec<String>, &str), ExprError> {
    let n = text.bytes().take_while(|c| c.is_ascii_alphanumeric() || b"_.-".contains(c)).count();
    let (name, rest) = text.split_at(n);
    if name.is_empty() {
        return Err(ExprError::Bad(format!("missing fetch or converter name at '{text}'")));
    }
    let Some(inner) = rest.strip_prefix('(') else { return Ok((name, Vec::new(), rest)) };
    let (mut args, mut cur) = (Vec::new(), String::new());
    let mut quote: Option<char> = None;
    let mut chars = inner.char_indices();
    while let Some((i, c)) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => {
                if let Some((_, n)) = chars.next() {
                    if !matches!(n, ',' | '(' | ')' | '"' | '\'' | '\\' | ' ') {
                        cur.push('\\');
                    }
                    cur.push(n);
                }
            }
            (Some(_), c) => cur.push(c),
            (None, '"' | '\'') => quote = Some(c),
            (None, ',') => args.push(std::mem::take(&mut cur)),
            (None, ')') => {
                if !(args.is_empty() && cur.is_empty()) {
                    args.push(cur);
                }
                return Ok((name, args, &inner[i + 1..]));
            }
            (None, c) => cur.push(c),
        }
    }
    Err(ExprError::Bad(format!("missing ')' in '{text}'")))
}

/// Comma-separated values of a header line, outside double quotes, trimmed.
pub fn split_list(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |c| {
        quoted ^= *c == b'"';
        *c == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

/// Value number `n` (1-based; negative counts from the end) of what `walk` visits, in one pass.
fn nth<'a>(n: i32, walk: impl FnOnce(&mut dyn FnMut(&'a [u8]))) -> Option<&'a [u8]> {
    let mut seen: Vec<&'a [u8]> = Vec::new();
    let (mut count, mut found) = (0i32, None);
    walk(&mut |v| {
        count += 1;
        match n {
            -1 => found = Some(v),
            n if n < 0 => seen.push(v),
            n if n == count => found = Some(v),
            _ => {}
        }
    });
    if n < -1 {
        let back = usize::try_from(n.unsigned_abs()).ok()?;
        found = seen.len().checked_sub(back).map(|i| seen[i]);
    }
    found
}

/// The path with its query: what follows the authority of an absolute URI. `None` for `*` and `CONNECT` targets.
pub fn pathq_of(url: &[u8]) -> Option<&[u8]> {
    if url.first() == Some(&b'/') {
        return Some(url);
    }
    let at = url.windows(3).position(|w| w == b"://")?;
    let rest = &url[at + 3..];
    Some(rest.iter().position(|c| *c == b'/').map_or(&b"/"[..], |p| &rest[p..]))
}

pub fn path_of(url: &[u8]) -> Option<&[u8]> {
    let pq = pathq_of(url)?;
    Some(pq.iter().position(|c| matches!(*c, b'?' | b'#')).map_or(pq, |p| &pq[..p]))
}

pub fn query_of(url: &[u8]) -> &[u8] {
    url.iter().position(|c| *c == b'?').map_or(&[], |p| &url[p + 1..])
}

/// The value of a parameter of a query.
pub fn param<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|c| matches!(*c, b'&' | b';')).find_map(|p| p.strip_prefix(name)?.strip_prefix(b"="))
}
