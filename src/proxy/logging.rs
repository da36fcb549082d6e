//! When an exchange writes its lines, and what they are (configuration manual 8.2 and 8.4, `log-steps`, `log-profile`).
use super::Thread;
use super::outcome::{Cause, ClientInfo, Exchange, Phase};
use crate::base::addr::source_text;
use crate::config::model::{LogProfile, Mode, Step};
use crate::log::{Desk, ERR, Event, INFO, Outlet, Part, Tag};
use crate::rules::logformat::{DateForm, LogFormat, Record, Stage, Times, date};
use crate::state::snapshot::{ListenerNode, LogLine, ProxyNode};
use std::future::poll_fn;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

/// What `set-log-level` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    #[default]
    Usual,
    At(u8),
    Silent,
}

/// Why a line is written: for its own sake, or because a rule wants it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Course,
    Rule,
}

impl Exchange<'_> {
    /// A step is reached: its line is written if `log-steps` wants it, or if all is known that the frontend's format asks for.
    pub fn reached(&mut self, t: &Thread, step: Step) {
        if self.fe.logs.is_empty() {
            return;
        }
        if let Some(steps) = self.fe.conf.log_steps {
            if steps.has(step) {
                self.emit(t, step, self.times(t.fresh()), None, Reason::Course);
            }
            return;
        }
        let known = match step {
            Step::Request => Stage::Request,
            Step::Response => Stage::Response,
            // A stream has nothing else to wait for.
            Step::Connect if self.fe.conf.mode == Mode::Tcp => Stage::Response,
            _ => return,
        };
        if !self.logged && self.fe.log_at <= known && matches!(self.fe.format, LogLine::Format(_)) {
            self.emit(t, step, self.times(t.fresh()), None, Reason::Course);
            self.logged = true;
        }
    }

    /// The end: the line that was not written yet.
    pub(super) fn log_end(&mut self, t: &Thread, tcp: bool, end: Instant) {
        let o = &self.fe.conf.options;
        if self.fe.logs.is_empty() {
            return;
        }
        let empty = if tcp { self.bytes_in == 0 && self.bytes_out == 0 } else { !self.begun };
        if o.dontlognull
            && empty
            && matches!(self.phase, Phase::Request | Phase::Done)
            && (tcp || self.cause != Cause::Normal)
        {
            return;
        }
        // What was no request has no steps.
        if !tcp && self.request_line.is_empty() {
            return self.emit(t, Step::Error, self.times(end), None, Reason::Course);
        }
        match self.fe.conf.log_steps {
            Some(steps) if !steps.has(Step::Close) => {}
            None if self.logged => {}
            _ => self.emit(t, Step::Close, self.times(end), None, Reason::Course),
        }
    }

    /// `do-log`: a line now, whatever else is written.
    pub fn log_now(&mut self, t: &Thread, step: Step, profile: Option<&str>) {
        let named = profile.and_then(|n| self.fe.profiles.iter().find(|p| p.name == n)).cloned();
        self.emit(t, step, self.times(t.fresh()), named.as_deref(), Reason::Rule);
    }

    fn emit(&mut self, t: &Thread, step: Step, times: Times, profile: Option<&LogProfile>, why: Reason) {
        let fe = self.fe.clone();
        let o = &fe.conf.options;
        let abnormal = !matches!(self.cause, Cause::Normal | Cause::Local)
            || self.retries > 0
            || self.redispatched
            || self.status >= 500;
        if fe.logs.is_empty() || self.level == Level::Silent || o.dontlog_normal && !abnormal && why == Reason::Course {
            return;
        }
        let severity = match self.level {
            Level::At(n) => n,
            _ if why == Reason::Course && o.log_separate_errors && abnormal => ERR,
            _ => INFO,
        };
        let mut record = self.record(t, times);
        record.origin = step.origin();
        if step == Step::Accept {
            record.status = 0;
        }
        let own = match (&fe.conf.error_log_format, &fe.format) {
            (Some(f), _) if step == Step::Error => Some(f),
            (_, LogLine::Format(f)) => Some(f),
            // Its line is written when the connection is accepted.
            (_, LogLine::Default) => None,
        };
        write(t, &fe, &record, own, &Event { severity, step, tag: tag(&fe), profile });
        if fe.counts_lines && why == Reason::Course {
            fe.live.lines.fetch_add(1, Relaxed);
        }
    }
}

impl Thread {
    /// Writes a line to a proxy's targets. Datagrams leave when the others that are ready in this turn of the event loop have had theirs.
    fn emit(&self, p: &ProxyNode, event: &Event<'_>, render: &dyn Fn(Part<'_>, &mut Vec<u8>)) {
        self.with_outlet(p, |out, texts| out.emit(&p.logs, event, render, texts));
    }

    pub(super) fn with_outlet(&self, p: &ProxyNode, then: impl FnOnce(&mut Outlet<'_>, (&mut Vec<u8>, &mut Vec<u8>))) {
        let mut desk = self.desk.borrow_mut();
        let Desk { line, data, frame, post } = &mut *desk;
        let dropped = &self.shared.live.dropped_logs;
        then(&mut Outlet { sinks: &p.sinks, frame, post: Some(post), dropped }, (line, data));
        if !post.is_empty()
            && !self.post_due.replace(true)
            && let Some(w) = &*self.postman.borrow()
        {
            w.wake_by_ref();
        }
    }

    /// Sends what waits; what cannot be sent yet is tried again with the next line, or the next tick of the clock.
    pub(super) fn post(&self) {
        self.post_due.set(false);
        self.desk.borrow_mut().post.send(&self.shared.live.dropped_logs);
    }
}

/// The task that sends what was logged: woken by the first line, it stands behind all that are ready already.
pub async fn postman(t: Rc<Thread>) {
    poll_fn(|cx| {
        t.post();
        *t.postman.borrow_mut() = Some(cx.waker().clone());
        Poll::<()>::Pending
    })
    .await;
}

fn tag(p: &ProxyNode) -> Tag<'_> {
    Tag { tag: &p.log_tag, hostname: p.log_hostname.as_deref() }
}

fn write(t: &Thread, fe: &ProxyNode, record: &Record<'_>, own: Option<&Arc<LogFormat>>, event: &Event<'_>) {
    let render = |part: Part<'_>, out: &mut Vec<u8>| {
        let format = match part {
            Part::Line(f) => f.or(own.map(|f| &**f)),
            Part::Data(f) => f.or(fe.conf.log_sd.as_deref()),
        };
        if let Some(f) = format {
            f.log(record, out);
        }
    };
    t.emit(fe, event, &render);
}

/// The line of a frontend without a format: who connected to what.
pub fn connected(t: &Thread, fe: &ProxyNode, client: &ClientInfo) {
    if fe.logs.is_empty() || !matches!(fe.format, LogLine::Default) {
        return;
    }
    let mode = match fe.conf.mode {
        Mode::Http => "HTTP",
        Mode::Tcp | Mode::Log => "TCP",
        Mode::Udp => "UDP",
        // Its log lines are for what it receives.
        Mode::Syslog => return,
    };
    let text =
        format!("Connect from {} to {} ({}/{mode})", source_text(client.src), source_text(client.dst), fe.conf.name);
    let event = Event { severity: INFO, step: Step::Accept, tag: tag(fe), profile: None };
    let render = |part: Part<'_>, out: &mut Vec<u8>| {
        if matches!(part, Part::Line(_)) {
            out.extend_from_slice(text.as_bytes());
        }
    };
    t.emit(fe, &event, &render);
}

/// The line of a connection that ended before there was a session.
pub fn embryonic_end(t: &Thread, fe: &Arc<ProxyNode>, l: &ListenerNode, client: &ClientInfo, what: &str) {
    let o = &fe.conf.options;
    if fe.logs.is_empty() || o.dontlognull {
        return;
    }
    let mut line = t.take_buf();
    // Writing to a Vec cannot fail.
    let _ = write!(line, "{} [", source_text(client.src));
    date(client.accepted_at, fe.sinks.utc_offset, DateForm::Log, &mut line);
    // A listener without a name goes by its number.
    let name = l.conf.name.clone().unwrap_or_else(|| l.id.to_string());
    let _ = write!(line, "] {}/{name}: {what}", fe.conf.name);
    let x = Exchange::new(client, fe.clone(), t, true);
    let mut record = x.record(t, x.times(t.fresh()));
    (record.origin, record.status) = (Step::Killed.origin(), 0);
    let severity = if o.log_separate_errors { ERR } else { INFO };
    let event = Event { severity, step: Step::Killed, tag: tag(fe), profile: None };
    let render = |part: Part<'_>, out: &mut Vec<u8>| match part {
        Part::Line(f) => match f.or(fe.conf.error_log_format.as_deref()) {
            Some(f) => f.log(&record, out),
            None => out.extend_from_slice(&line),
        },
        Part::Data(f) => {
            if let Some(f) = f.or(fe.conf.log_sd.as_deref()) {
                f.log(&record, out);
            }
        }
    };
    t.emit(fe, &event, &render);
    x.recycle(t);
    t.give_buf(line);
}
