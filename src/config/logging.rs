//! Logs: where lines go, what they look like, when they are written, and what is received to be passed on (configuration manual 3.1, 4.2 `log`,
//! 3.7 `ring`, 3.8 `log-forward`, 3.9 `log-profile`).
use super::model::Proxy;
use crate::base::addr::Host;
use crate::base::diag::Place;
use crate::rules::logformat::LogFormat;
pub use crate::rules::logformat::{Step, Steps};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDest {
    /// A UDP syslog server.
    Udp(Host, u16),
    Unix(String),
    /// 1 and 2, or another inherited descriptor.
    Fd(i32),
    /// `ring@<name>`; a `tcp@` address makes one of its own.
    Ring(String),
    /// `backend@<name>`
    Backend(String),
}

impl LogDest {
    /// The descriptor, if it is one.
    pub fn fd(&self) -> Option<i32> {
        if let Self::Fd(n) = self { Some(*n) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// RFC 3164 without a host name.
    Local,
    Rfc3164,
    Rfc5424,
    Raw,
    Short,
    Timed,
    Priority,
    Iso,
}

impl LogForm {
    pub const NAMES: &[(&str, Self)] = &[
        ("local", Self::Local),
        ("rfc3164", Self::Rfc3164),
        ("rfc5424", Self::Rfc5424),
        ("raw", Self::Raw),
        ("short", Self::Short),
        ("timed", Self::Timed),
        ("priority", Self::Priority),
        ("iso", Self::Iso),
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTarget {
    pub place: Place,
    pub dest: LogDest,
    /// None: as `local`, or `rfc3164` if a host name is sent; for received messages as they came.
    pub form: Option<LogForm>,
    /// `profile`
    pub profile: Option<String>,
    pub facility: u8,
    /// Least severe level sent (7 is debug).
    pub level: u8,
    /// Most severe level as which messages are sent.
    pub min_level: u8,
    /// Bytes of a line, with its header and its end.
    pub max_len: usize,
    /// `sample 1,3:4`: none or (ranges, size).
    pub sample: Option<(Vec<(u32, u32)>, u32)>,
}

#[derive(Clone, Debug, Default)]
pub enum LogChoice {
    #[default]
    Default,
    Http,
    Tcp,
    Clf,
    Custom(Arc<LogFormat>, String),
}

/// What a profile makes of a step.
#[derive(Clone, Debug, Default)]
pub struct StepRule {
    pub drop: bool,
    pub format: Option<Arc<LogFormat>>,
    /// Structured data of RFC 5424.
    pub sd: Option<Arc<LogFormat>>,
}

/// A `log-profile` section.
#[derive(Clone, Debug)]
pub struct LogProfile {
    pub name: String,
    pub tag: Option<String>,
    /// `on <step>`
    pub steps: Vec<(Step, StepRule)>,
    /// `on any`
    pub any: Option<StepRule>,
}

impl LogProfile {
    pub fn rule(&self, s: Step) -> Option<&StepRule> {
        let s = if s == Step::Killed { Step::Error } else { s };
        self.steps.iter().find(|r| r.0 == s).map(|r| &r.1).or(self.any.as_ref())
    }
}

/// A `ring` section, or what a `tcp@` address of a `log` line or a server of a log backend makes.
#[derive(Clone, Debug)]
pub struct Ring {
    pub place: Place,
    pub name: String,
    pub description: String,
    /// The header that events get; none of its own is that of the log line.
    pub form: Option<LogForm>,
    /// Bytes of one event.
    pub max_len: usize,
    /// Bytes of all.
    pub size: usize,
    pub backing_file: Option<String>,
    /// Its servers, as a backend has them.
    pub proxy: Box<Proxy>,
}

/// Bytes of a ring that says no `size`.
pub const RING_SIZE: usize = 16_384;
/// Bytes of a ring's area that no event can have: its header on disk.
pub const RING_HEADER: usize = 192;

/// `log-proto`: how events are told from one another on a stream (RFC 6587).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogProto {
    #[default]
    Legacy,
    OctetCount,
}

/// `option host` of a `log-forward` section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostName {
    Replace,
    #[default]
    Fill,
    Keep,
    Append,
}

/// What a `log-forward` section says beyond what every frontend says.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// `option assume-rfc6587-ntf`
    pub lines: bool,
    /// `option dont-parse-log`
    pub unparsed: bool,
    pub host: HostName,
}
