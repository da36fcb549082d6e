//! Traffic logs: one line rendered into a reused buffer, sent without blocking; what cannot be sent is counted, never waited for.
pub mod console;
mod fd;
pub mod frame;
pub mod post;
pub mod ring;
pub mod ship;
pub mod syslog;

use self::console::Console;
use self::fd::FdSink;
use self::frame::{Meta, Time};
use self::post::{Post, Way};
use self::ring::Ring;
use crate::base::addr::Host;
use crate::config::model::{LogDest, LogForm, LogProfile, LogTarget, Step};
use crate::rules::logformat::LogFormat;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// Severities, as syslog numbers them.
pub const ALERT: u8 = 1;
pub const ERR: u8 = 3;
pub const WARNING: u8 = 4;
pub const NOTICE: u8 = 5;
pub const INFO: u8 = 6;

/// Sockets that logs leave by, opened before the worker gives up its rights.
pub struct Sinks {
    udp4: Option<UdpSocket>,
    udp6: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
    /// Unix paths in use, connected while they could still be reached: a chroot may hide them.
    paths: Vec<(String, UnixDatagram)>,
    /// Descriptors in use: standard output and the like.
    fds: Vec<(i32, FdSink)>,
    /// The process's own messages.
    pub console: Option<Console>,
    pub pid: u32,
    pub utc_offset: i32,
    pid_text: String,
}

/// What every line of one proxy shares.
#[derive(Clone, Copy)]
pub struct Tag<'a> {
    pub tag: &'a str,
    pub hostname: Option<&'a str>,
}

impl Sinks {
    /// For a check: nothing is ever sent.
    pub fn closed() -> Self {
        Self {
            udp4: None,
            udp6: None,
            unix: None,
            paths: Vec::new(),
            fds: Vec::new(),
            console: None,
            pid: std::process::id(),
            utc_offset: 0,
            pid_text: String::new(),
        }
    }

    /// `pid` is the one that lines carry: that of the process which operators know.
    pub fn open<'a>(targets: impl Iterator<Item = &'a LogTarget>, console: Console, utc_offset: i32, pid: u32) -> Self {
        let nonblocking = |s: std::io::Result<UdpSocket>| s.and_then(|s| s.set_nonblocking(true).map(|()| s)).ok();
        let mut paths: Vec<(String, UnixDatagram)> = Vec::new();
        let mut fds: Vec<(i32, FdSink)> = Vec::new();
        for t in targets {
            if let LogDest::Fd(n) = t.dest
                && !fds.iter().any(|(m, _)| *m == n)
            {
                fds.push((n, FdSink::open(n)));
            }
            if let LogDest::Unix(p) = &t.dest
                && !paths.iter().any(|(q, _)| q == p)
                && let Ok(s) = UnixDatagram::unbound()
                && s.set_nonblocking(true).is_ok()
                && s.connect(p).is_ok()
            {
                paths.push((p.clone(), s));
            }
        }
        Self {
            udp4: nonblocking(UdpSocket::bind("0.0.0.0:0")),
            udp6: nonblocking(UdpSocket::bind("[::]:0")),
            unix: UnixDatagram::unbound().ok().filter(|s| s.set_nonblocking(true).is_ok()),
            paths,
            fds,
            console: Some(console),
            pid,
            utc_offset,
            pid_text: pid.to_string(),
        }
    }

    /// Frames one message and sends it at once to every target that wants its severity.
    pub fn send(
        self: &Arc<Self>,
        loggers: &[Logger],
        severity: u8,
        tag: &Tag<'_>,
        message: &[u8],
        dropped: &AtomicU64,
    ) {
        let mut out = Outlet { sinks: self, frame: &mut Vec::new(), post: None, dropped };
        for l in loggers.iter().filter(|l| l.wants(severity)) {
            out.put(l, severity, tag, &[], message);
        }
    }

    /// Sends one datagram, without waiting; false if it is lost because there is no room for it.
    fn at_once(&self, way: Way, bytes: &[u8]) -> bool {
        match way {
            Way::Udp(to) => {
                let socket = if to.is_ipv4() { &self.udp4 } else { &self.udp6 };
                socket.as_ref().is_some_and(|s| taken(s.send_to(bytes, to)))
            }
            Way::Unix(i) => {
                let Some((path, s)) = self.paths.get(i) else { return false };
                // Whoever listened there is gone; somebody else may have the name by now.
                s.send(bytes).is_ok() || self.by_name(path, bytes)
            }
        }
    }

    fn by_name(&self, path: &str, bytes: &[u8]) -> bool {
        self.unix.as_ref().is_some_and(|s| taken(s.send_to(bytes, path)))
    }
}

/// Where lines leave: sockets, and what one thread uses again and again.
pub struct Outlet<'a> {
    pub sinks: &'a Arc<Sinks>,
    pub frame: &'a mut Vec<u8>,
    /// Datagrams wait here for others to go with; without it each goes at once.
    pub post: Option<&'a mut Post>,
    /// Lines that could not be taken.
    pub dropped: &'a AtomicU64,
}

/// A message and what its header says.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub form: LogForm,
    pub meta: &'a Meta<'a>,
    pub message: &'a [u8],
}

impl Outlet<'_> {
    /// Sends the line of a step: with what the targets' profiles make of it, where they have one. `render` writes it as the proxy has it, or as a
    /// profile's format wants, and the structured data likewise.
    pub fn emit(
        &mut self,
        loggers: &[Logger],
        event: &Event<'_>,
        render: &dyn Fn(Part<'_>, &mut Vec<u8>),
        (line, data): (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        // Rendered once for all that have no profile; an empty line is never sent.
        let mut rendered = false;
        for l in loggers.iter().filter(|l| l.wants(event.severity)) {
            let profile = event.profile.or(l.profile.as_deref());
            let rule = profile.and_then(|p| p.rule(event.step));
            if rule.is_some_and(|r| r.drop) {
                continue;
            }
            let tag = Tag { tag: profile.and_then(|p| p.tag.as_deref()).unwrap_or(event.tag.tag), ..event.tag };
            let own = rule.is_some_and(|r| r.format.is_some() || r.sd.is_some());
            if own || !rendered {
                line.clear();
                data.clear();
                render(Part::Line(rule.and_then(|r| r.format.as_deref())), line);
                render(Part::Data(rule.and_then(|r| r.sd.as_deref())), data);
                rendered = !own;
            }
            self.put(l, event.severity, &tag, data, line);
        }
    }

    fn put(&mut self, l: &Logger, severity: u8, tag: &Tag<'_>, data: &[u8], message: &[u8]) {
        if message.iter().all(|c| matches!(c, b'\n' | 0)) {
            return;
        }
        let meta = Meta {
            facility: u32::from(l.conf.facility),
            severity: u32::from(severity.max(l.conf.min_level)),
            time: Time::At(SystemTime::now(), self.sinks.utc_offset),
            host: tag.hostname.map(str::as_bytes),
            tag: Some(tag.tag.as_bytes()),
            pid: Some(self.sinks.pid_text.as_bytes()),
            msgid: None,
            data: Some(data).filter(|d| !d.is_empty()),
        };
        let form = l.conf.form.unwrap_or(match tag.hostname {
            Some(_) => LogForm::Rfc3164,
            None => LogForm::Local,
        });
        self.deliver(l, Line { form, meta: &meta, message });
    }

    /// Sends a message with its header to one target; what cannot be taken is counted.
    pub fn deliver(&mut self, l: &Logger, line: Line<'_>) {
        let most = l.conf.max_len;
        self.frame.clear();
        let taken = match &l.to {
            // It counts what it loses itself, and says what its lines look like.
            To::Ring(r) => {
                let form = r.conf.form.unwrap_or(line.form);
                ring_event(r, Line { form, ..line }, most, self.frame);
                true
            }
            To::Backend(b) => b.get().is_some_and(|b| b.deliver(self, line, most)),
            To::Socket => {
                frame::line(line.form, line.meta, line.message, most, self.frame);
                self.write(&l.conf.dest)
            }
        };
        if !taken {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Frames a message as a datagram to a server of a log backend; false if it could not be taken.
    pub fn datagram(&mut self, to: SocketAddr, line: Line<'_>, most: usize) -> bool {
        frame::line(line.form, line.meta, line.message, most, self.frame);
        self.leave(Way::Udp(to))
    }

    fn write(&mut self, dest: &LogDest) -> bool {
        match dest {
            LogDest::Udp(Host::Ip(ip), port) => self.leave(Way::Udp(SocketAddr::new(*ip, *port))),
            // Their places are rings and backends, and names are addresses by now.
            LogDest::Udp(..) | LogDest::Ring(_) | LogDest::Backend(_) => false,
            LogDest::Unix(path) => match self.sinks.paths.iter().position(|(p, _)| p == path) {
                Some(i) => self.leave(Way::Unix(i)),
                None => self.sinks.by_name(path, self.frame),
            },
            LogDest::Fd(n) => match self.sinks.fds.iter().find(|(m, _)| m == n) {
                Some((_, sink)) => sink.write(self.frame),
                None => FdSink::open(*n).write(self.frame),
            },
        }
    }

    /// The framed message, as a datagram.
    fn leave(&mut self, way: Way) -> bool {
        match &mut self.post {
            Some(post) => post.add(self.sinks, way, self.frame, self.dropped),
            None => self.sinks.at_once(way, self.frame),
        }
    }
}

/// Only what a full socket refuses is a lost line; a missing receiver is nobody who listens.
fn taken(sent: std::io::Result<usize>) -> bool {
    !sent.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
}

/// Puts an event into a ring, with a header of this form.
pub fn ring_event(r: &Ring, line: Line<'_>, most: usize, scratch: &mut Vec<u8>) -> bool {
    let Line { form, meta, message } = line;
    frame::event(form, meta, message, most.saturating_sub(1).min(r.conf.max_len), scratch);
    r.write(scratch, &|text, out| {
        let notice = Meta { severity: u32::from(NOTICE), ..*meta };
        frame::event(form, &notice, text.as_bytes(), r.conf.max_len, out);
        out.push(0);
    })
}

/// One `log` line of one proxy.
#[derive(Debug)]
pub struct Logger {
    pub conf: LogTarget,
    profile: Option<Arc<LogProfile>>,
    /// Messages that came up for the sample.
    sampled: AtomicU32,
    to: To,
}

#[derive(Debug)]
enum To {
    /// A socket or a descriptor that [`Sinks`] has.
    Socket,
    Ring(Arc<Ring>),
    Backend(BackendSlot),
}

/// A log backend, once it is made.
pub type BackendSlot = Arc<std::sync::OnceLock<Arc<dyn Deliver>>>;

/// A log backend: chooses one of its servers.
pub trait Deliver: Send + Sync + std::fmt::Debug {
    /// False if no server can have it.
    fn deliver(&self, out: &mut Outlet<'_>, line: Line<'_>, most: usize) -> bool;
}

impl Logger {
    /// None if there is no such ring or backend, which is found before.
    pub fn new(
        conf: &LogTarget,
        profiles: &[Arc<LogProfile>],
        ring: &dyn Fn(&str) -> Option<Arc<Ring>>,
        backend: &dyn Fn(&str) -> Option<BackendSlot>,
    ) -> Option<Self> {
        let to = match &conf.dest {
            LogDest::Ring(name) => To::Ring(ring(name)?),
            LogDest::Backend(name) => To::Backend(backend(name)?),
            LogDest::Udp(..) | LogDest::Unix(_) | LogDest::Fd(_) => To::Socket,
        };
        let profile = conf.profile.as_ref().and_then(|n| profiles.iter().find(|p| p.name == *n)).cloned();
        Some(Self { conf: conf.clone(), profile, sampled: AtomicU32::new(0), to })
    }

    /// Its level lets the message through, and its turn has come.
    pub fn wants(&self, severity: u8) -> bool {
        if severity > self.conf.level {
            return false;
        }
        let Some((ranges, size)) = &self.conf.sample else { return true };
        let n = self.sampled.fetch_add(1, Relaxed) % size.max(&1) + 1;
        ranges.iter().any(|(a, b)| (*a..=*b).contains(&n))
    }
}

/// What happened, for [`Outlet::emit`].
pub struct Event<'a> {
    pub severity: u8,
    pub step: Step,
    pub tag: Tag<'a>,
    /// In place of the targets' own.
    pub profile: Option<&'a LogProfile>,
}

/// What is to be rendered: the proxy's own, or a profile's.
pub enum Part<'a> {
    Line(Option<&'a LogFormat>),
    Data(Option<&'a LogFormat>),
}

/// What one thread uses for each line.
#[derive(Debug, Default)]
pub struct Desk {
    pub line: Vec<u8>,
    pub data: Vec<u8>,
    pub frame: Vec<u8>,
    pub post: Post,
}

/// Seconds that local time is ahead of UTC, as the C library has it.
pub fn utc_offset() -> i32 {
    // SAFETY: localtime_r writes only into `tm`, which is a plain struct.
    unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const now, &raw mut tm).is_null() {
            return 0;
        }
        i32::try_from(tm.tm_gmtoff).unwrap_or(0)
    }
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks").field("udp4", &self.udp4.as_ref().map(AsRawFd::as_raw_fd)).finish_non_exhaustive()
    }
}
