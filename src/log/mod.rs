//! Traffic logs: one line rendered into a reused buffer, sent without blocking; what cannot be sent is counted, never waited for.
pub mod console;
mod fd;

use self::console::Console;
use self::fd::FdSink;
use crate::base::addr::Host;
use crate::config::model::{LogDest, LogForm, LogTarget};
use crate::rules::logformat::{DateForm, date};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
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
    sampled: AtomicU32,
}

/// What every line of one proxy shares.
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
            sampled: AtomicU32::new(0),
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
            sampled: AtomicU32::new(0),
        }
    }

    /// Frames and sends one message to every target that wants its severity.
    pub fn send(
        &self,
        targets: &[LogTarget],
        severity: u8,
        tag: &Tag<'_>,
        message: &[u8],
        scratch: &mut Vec<u8>,
        dropped: &AtomicU64,
    ) {
        for t in targets {
            if severity > t.level {
                continue;
            }
            if let Some((ranges, size)) = &t.sample {
                let n = self.sampled.fetch_add(1, Relaxed) % size.max(&1) + 1;
                if !ranges.iter().any(|(a, b)| (*a..=*b).contains(&n)) {
                    continue;
                }
            }
            scratch.clear();
            self.frame(t, severity.max(t.min_level), tag, message, scratch);
            if !self.write(&t.dest, scratch) {
                dropped.fetch_add(1, Relaxed);
            }
        }
    }

    fn frame(&self, t: &LogTarget, severity: u8, tag: &Tag<'_>, message: &[u8], out: &mut Vec<u8>) {
        use std::io::Write as _;
        let pri = t.facility * 8 + severity;
        let now = SystemTime::now();
        // Writing to a Vec cannot fail.
        let _ = match t.form {
            LogForm::Raw => Ok(()),
            LogForm::Local | LogForm::Rfc3164 => {
                let _ = write!(out, "<{pri}>");
                date(now, self.utc_offset, DateForm::Syslog, out);
                match tag.hostname.or((t.form == LogForm::Rfc3164).then_some("localhost")) {
                    Some(h) => write!(out, " {h} {}[{}]: ", tag.tag, self.pid),
                    None => write!(out, " {}[{}]: ", tag.tag, self.pid),
                }
            }
            LogForm::Rfc5424 => {
                let _ = write!(out, "<{pri}>1 ");
                date(now, self.utc_offset, DateForm::Iso(self.utc_offset), out);
                write!(out, " {} {} {} - - ", tag.hostname.unwrap_or("-"), tag.tag, self.pid)
            }
            LogForm::Short => write!(out, "<{severity}>"),
            LogForm::Priority => write!(out, "<{pri}>"),
            LogForm::Timed => {
                let _ = write!(out, "<{severity}>");
                date(now, self.utc_offset, DateForm::Iso(self.utc_offset), out);
                write!(out, " ")
            }
            LogForm::Iso => {
                date(now, self.utc_offset, DateForm::Iso(self.utc_offset), out);
                write!(out, " ")
            }
        };
        out.extend_from_slice(message);
        out.truncate(t.max_len);
        out.push(b'\n');
    }

    fn write(&self, dest: &LogDest, bytes: &[u8]) -> bool {
        match dest {
            LogDest::Udp(Host::Ip(ip), port) => {
                let socket = if ip.is_ipv4() { &self.udp4 } else { &self.udp6 };
                socket.as_ref().is_some_and(|s| s.send_to(bytes, SocketAddr::new(*ip, *port)).is_ok())
            }
            LogDest::Udp(..) => false,
            LogDest::Unix(path) => {
                if let Some((_, s)) = self.paths.iter().find(|(p, _)| p == path)
                    && s.send(bytes).is_ok()
                {
                    return true;
                }
                self.unix.as_ref().is_some_and(|s| s.send_to(bytes, path).is_ok())
            }
            LogDest::Fd(n) => match self.fds.iter().find(|(m, _)| m == n) {
                Some((_, sink)) => sink.write(bytes),
                None => FdSink::open(*n).write(bytes),
            },
        }
    }
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

/// The targets of a proxy: its own, and the global ones where `log global` stands.
pub fn targets(own: &[LogTarget], with_global: bool, global: &[LogTarget]) -> Vec<LogTarget> {
    own.iter().chain(global.iter().filter(|_| with_global)).cloned().collect()
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks").field("udp4", &self.udp4.as_ref().map(AsRawFd::as_raw_fd)).finish_non_exhaustive()
    }
}
