//! Actions of `http-request` and `http-response` rules (configuration manual 4.3), compiled.
use super::acl::Cond;
use super::logformat::{LogFormat, Step};
use crate::base::diag::Place;
use std::sync::Arc;

/// A rule: an action under a condition.
#[derive(Clone, Debug)]
pub struct Rule<A> {
    pub place: Place,
    pub cond: Option<Cond>,
    pub action: A,
}

/// How header names are chosen by `del-header`.
#[derive(Clone, Debug)]
pub enum NameMatch {
    Exact(String),
    Beg(String),
    End(String),
    Sub(String),
    Reg(regex::bytes::Regex),
}

impl NameMatch {
    /// `name` is lower case.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(n) => name == n.as_bytes(),
            Self::Beg(n) => name.starts_with(n.as_bytes()),
            Self::End(n) => name.ends_with(n.as_bytes()),
            Self::Sub(n) => n.is_empty() || name.windows(n.len()).any(|w| w == n.as_bytes()),
            Self::Reg(r) => r.is_match(name),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Body {
    /// The answer built in or configured by `errorfile` for the status.
    Default,
    /// A whole message, head included.
    Raw(Arc<[u8]>),
    Bytes(Arc<[u8]>),
    Format(LogFormat),
    Empty,
}

/// What `return` and `deny` answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub headers: Vec<(String, LogFormat)>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum RedirectTo {
    Location(LogFormat),
    Prefix(LogFormat),
    Scheme(LogFormat),
}

#[derive(Clone, Debug)]
pub struct Redirect {
    pub to: RedirectTo,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
    pub drop_query: bool,
    pub append_slash: bool,
    /// The query string goes along to a `location`.
    pub keep_query: bool,
    /// A `location` without a character is none: the rule is passed over.
    pub ignore_empty: bool,
    pub set_cookie: Option<SetCookie>,
}

/// The value of a `Set-Cookie` header.
#[derive(Clone, Debug)]
pub enum SetCookie {
    Whole(String),
    /// `set-cookie-fmt`: what makes it a cookie of the session, for the whole site, stands behind it.
    Format(LogFormat),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    PrometheusExporter,
}

/// A part of the request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Path,
    PathQuery,
    Uri,
}

/// Timeouts that rules can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Client,
    Server,
    Tunnel,
    Connect,
    Queue,
    Tarpit,
}

/// Which connection of an exchange is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What packets carry for those between: the byte of differentiated services (RFC 2474), or the mark of the host's own firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    Tos,
    Mark,
}

/// A number that is said, or taken from traffic.
#[derive(Clone, Debug)]
pub enum Value {
    Number(i64),
    Sample(Box<super::sample::Expr>),
}

#[derive(Clone, Debug)]
pub enum HttpAction {
    /// `strict-mode`: whether a rewrite that finds no room ends the exchange.
    StrictMode(bool),
    /// `early-hint <name> <format>`: a header of an answer 103 (RFC 8297).
    EarlyHint(String, LogFormat),
    /// Closes without an answer.
    Reject,
    /// `set-status <status> [reason <text>]`
    SetStatus(u16, Option<String>),
    /// `disable-l7-retry`
    DisableRetry,
    SetPart(Part, LogFormat),
    /// The first match is replaced; `\\1` stands for what a group matched.
    ReplacePart(Part, regex::bytes::Regex, LogFormat),
    /// As `ReplaceHeader`, for each value of a comma-separated list.
    ReplaceValue(String, regex::bytes::Regex, LogFormat),
    /// In milliseconds.
    SetTimeout(Timer, Value),
    SetRetries(Value),
    /// `set-priority-class`, or `set-priority-offset` in milliseconds.
    SetPriority {
        offset: bool,
        value: Box<super::sample::Expr>,
    },
    /// `set-fc-tos`, `set-bc-mark` and the like.
    SetPackets {
        side: Side,
        what: Packets,
        value: Value,
    },
    /// Without effect.
    SetNice,
    /// `pause`, in milliseconds.
    Pause(Value),
    /// `set-src`, `set-dst` and their ports.
    SetAddress {
        source: bool,
        port: bool,
        value: Box<super::sample::Expr>,
    },
    Capture {
        slot: usize,
        value: Box<super::sample::Expr>,
    },
    WaitForBody {
        time: std::time::Duration,
        at_least: usize,
    },
    /// `cache-use` and `cache-store`, by the cache's name.
    /// With hints, if there are some.
    CacheUse(String, bool),
    CacheStore(String),
    /// `set-bandwidth-limit <filter> [limit <size>] [period <time>]`: bytes, and milliseconds.
    SetBandwidth {
        filter: String,
        limit: Option<Value>,
        period: Option<Value>,
    },
    SetVarFmt(String, LogFormat),
    UnsetVar(String),
    /// `set-log-level`: a number of syslog; none is `silent`.
    SetLogLevel(Option<u8>),
    /// `do-log [profile <name>]`, and where it stands.
    DoLog(Step, Option<String>),
    Allow,
    Deny(Reply),
    Return(Reply),
    Tarpit(Reply),
    Redirect(Redirect),
    SilentDrop,
    SetHeader(String, LogFormat),
    AddHeader(String, LogFormat),
    DelHeader(NameMatch),
    ReplaceHeader(String, regex::bytes::Regex, LogFormat),
    SetPath(LogFormat),
    SetQuery(LogFormat),
    SetMethod(LogFormat),
    SetVar(String, Box<super::sample::Expr>),
    UseService(Service),
}

impl HttpAction {
    /// True if no later rule of the list can run after this one.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Allow
                | Self::Deny(_)
                | Self::Return(_)
                | Self::Tarpit(_)
                | Self::Redirect(_)
                | Self::SilentDrop
                | Self::Reject
                | Self::UseService(_)
        )
    }
}

/// Actions of `tcp-request` rules.
#[derive(Clone, Debug)]
pub enum TcpAction {
    Accept,
    /// Of a response: the server's connection ends.
    Close,
    Reject,
    SilentDrop,
    /// `expect-proxy layer4`
    ExpectProxy,
    /// `expect-netscaler-cip layer4`
    ExpectNetscaler,
    /// `switch-mode http`: what comes is HTTP.
    SwitchMode,
    /// What rules of requests do as well, with the next rule to follow.
    Effect(Arc<HttpAction>),
}

/// How a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Reject,
    SilentDrop,
}

impl TcpAction {
    /// The rules behind it are looked at all the same.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::ExpectProxy | Self::ExpectNetscaler | Self::Effect(_))
    }
}
