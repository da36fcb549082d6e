//! What becomes of a server: by checks, by its agent, by traffic, by operators; and who is told (management manual 8.4).
use super::agent::{self, Admin, Reply};
use super::found::{Found, Outcome};
use super::fsm::Change;
use super::mail::Mail;
use crate::config::model::OnError;
use crate::state::counters::Counter;
use crate::state::live::{
    Alert, CheckResult, Ended, FORCED_DRAIN, FORCED_MAINT, Happening, INHERITED_DRAIN, INHERITED_MAINT, Live, Quorum,
    RESOLUTION_MAINT, lock,
};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done to a server from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAct {
    Ready,
    Drain,
    Maint,
    /// An absolute weight, or a percentage of the configured one.
    Weight(String),
    Health(bool),
    /// It serves only those that are bound to it.
    Stopping,
    Addr(String, Option<String>),
    MaxConn(u32),
    ShutdownSessions,
    /// Health checks are wanted.
    EnableHealth(bool),
    EnableAgent(bool),
    /// In the place of the agent.
    AgentSays(bool),
    AgentAddr(String, Option<String>),
    AgentPort(String),
    CheckAddr(String, Option<String>),
    CheckPort(String),
    AgentSend(String),
}

/// Which of a server's two checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Health,
    Agent,
}

/// Everything that a change of a server's state touches.
#[derive(Clone, Copy)]
pub struct Office<'a> {
    pub snapshot: &'a Snapshot,
    pub live: &'a Live,
}

/// Servers that balancing may use: active ones and backups.
fn usable(p: &ProxyNode) -> (usize, usize) {
    let up =
        |backup: bool| p.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count();
    (up(false), up(true))
}

fn kind(s: &ServerNode) -> &'static str {
    if s.conf.backup { "Backup Server" } else { "Server" }
}

/// `1 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue.`
fn left(p: &ProxyNode, s: &ServerNode) -> String {
    let (a, b) = usable(p);
    let running = if a == 0 && b > 0 { " Running on backup." } else { "" };
    format!(
        "{a} active and {b} backup servers left.{running} {} sessions active, 0 requeued, {} remaining in queue.",
        s.live.sessions.get(),
        s.live.queued.get()
    )
}

/// `1 active and 0 backup servers online. 0 sessions requeued, 0 total in queue.`
fn online(p: &ProxyNode) -> String {
    let (a, b) = usable(p);
    let running = if a == 0 && b > 0 { " Running on backup." } else { "" };
    format!(
        "{a} active and {b} backup servers online.{running} 0 sessions requeued, {} total in queue.",
        p.live.queued.get()
    )
}

impl Office<'_> {
    fn log(&self, p: &ProxyNode, severity: u8, text: &str) {
        self.note(p, severity, text);
        // What a virtual server has to say, the guardian says.
        if let Some(c) = self.snapshot.sinks.console.as_ref().filter(|_| p.conf.virtual_server.is_none()) {
            c.warning(text);
        }
    }

    /// Tells the guardian what became of a virtual server, or of one of its servers.
    fn tell(&self, p: &ProxyNode, server: Option<&ServerNode>, up: bool, why: &str) {
        if p.conf.virtual_server.is_some() {
            let server = server.map(|s| s.conf.name.clone());
            let why = why.trim_start_matches([',', ' ']).to_owned();
            self.live.happenings.tell(Happening { section: p.conf.name.clone(), server, up, why });
        }
    }

    /// A virtual server counts what its live servers weigh (`quorum`, `hysteresis`), and says sorry where that is not enough. `cut`: a check has
    /// taken a server away, and what is lost with the quorum is lost at once, as in the kernel's table.
    pub fn quorum(&self, p: &Arc<ProxyNode>, cut: bool) {
        let Some(v) = &p.conf.virtual_server else { return };
        let alive = p.servers.iter().filter(|s| !s.conf.backup);
        let sum = alive.fold(0u32, |n, s| n.saturating_add(s.live.effective_weight()));
        let (enough, news) = {
            let mut held = lock(&p.live.quorum);
            let enough = match *held {
                Quorum::Gained => sum >= v.quorum - v.hysteresis,
                Quorum::Lost | Quorum::Unknown => sum >= v.quorum.saturating_add(v.hysteresis),
            };
            let now = if enough { Quorum::Gained } else { Quorum::Lost };
            (enough, std::mem::replace(&mut *held, now) != now)
        };
        let sorry = !enough && p.servers.iter().any(|s| s.conf.backup);
        if p.live.sorry.swap(sorry, Relaxed) != sorry {
            for s in p.servers.iter().filter(|s| s.conf.backup != sorry && s.conf.shutdown_on_down && (cut || !sorry)) {
                s.live.shutdown_sessions(if sorry { Ended::ServerDown } else { Ended::ServerUp });
            }
            p.live.bump();
            p.live.wake(None);
        }
        if news {
            let what = if enough { "gained" } else { "lost" };
            let serves = if sorry { "; the sorry server serves" } else { "" };
            let text = format!("quorum {what}: live servers weigh {sum} of {}{serves}", v.quorum);
            self.note(p, crate::log::NOTICE, &format!("Virtual server {} : {text}", p.conf.name));
            self.tell(p, None, enough, &text);
        }
    }

    /// What was known of a virtual server, or of one of its servers, before this process began. Nobody is told again.
    pub fn recall(&self, h: &Happening) {
        let Some(p) = self.snapshot.backend(&h.section).filter(|p| p.conf.virtual_server.is_some()) else { return };
        match &h.server {
            None => *lock(&p.live.quorum) = if h.up { Quorum::Gained } else { Quorum::Lost },
            Some(name) => {
                for s in p.servers.iter().filter(|s| s.conf.name == *name && s.conf.check) {
                    s.live.recall(h.up);
                }
            }
        }
        p.live.bump();
    }

    /// What all checkers of a server hold of it together, and the one that was asked just now.
    pub fn held(&self, p: &Arc<ProxyNode>, i: usize, up: bool, checker: &str, found: Found, took: Duration) {
        let s = &p.servers[i];
        let l = &s.live;
        if found.outcome() == Outcome::Failed {
            l.counters.inc(Counter::ChecksFailed);
        }
        let why = format!(", {checker}: {}", found.reason(took));
        *lock(&l.check) = Some(CheckResult { found, took });
        l.hold(up);
        if !up {
            self.down(p, s, &why);
        } else if !l.in_maintenance() {
            self.up(p, s, &why);
        }
    }

    /// A server weighs so much from now on.
    pub fn weigh(&self, p: &Arc<ProxyNode>, i: usize, weight: u32) {
        let l = &p.servers[i].live;
        if l.weight() != weight {
            l.set_weight(weight);
            p.live.bump();
            p.live.wake(None);
            self.quorum(p, false);
        }
    }

    /// In the logs alone.
    fn note(&self, p: &ProxyNode, severity: u8, text: &str) {
        p.note(severity, text, self.live);
    }

    /// By mail, to those who want messages that are so severe.
    fn mail(&self, p: &ProxyNode, severity: u8, text: &str) {
        let Some(m) = p.email.as_ref().filter(|m| severity <= m.level) else { return };
        let text = text.trim_end_matches('.').to_owned();
        let mail = Mail {
            from: m.from.clone(),
            to: vec![m.to.clone()],
            hostname: m.hostname.clone(),
            date: super::post::date_now(),
            subject: format!("[HAProxy Alert] {text}"),
            text,
        };
        let _ = self.live.outbox.0.send(Alert { mailers: m.mailers.clone(), mail: Arc::new(mail) });
    }

    /// Takes the result of a check in.
    pub fn checked(&self, p: &Arc<ProxyNode>, i: usize, which: Which, found: Found, took: Duration) {
        let s = &p.servers[i];
        let l = &s.live;
        let outcome = found.outcome();
        let params = s.conf.health;
        let reason = found.reason(took);
        let status = found.status;
        let last = if which == Which::Agent { &l.agent.last } else { &l.check };
        let before = lock(last).replace(CheckResult { found, took }).map(|c| c.found.status);
        let passed = match outcome {
            Outcome::Neutral => return,
            Outcome::Failed => false,
            Outcome::Passed | Outcome::Conditional => true,
        };
        // Top, count and rise of the check; an agent has one step only.
        let (moved, up, n, m) = match which {
            Which::Health => {
                let was = l.health();
                if !passed && was.count() > 0 {
                    l.counters.inc(Counter::ChecksFailed);
                }
                let _: Change = l.update_health(|h| if passed { h.passed(params) } else { h.failed(params) });
                let h = l.health();
                let up = h.is_up(params);
                let (n, m) = if up { (h.count() - params.rise + 1, params.fall) } else { (h.count(), params.rise) };
                (was != h, up, n, m)
            }
            Which::Agent => {
                // That it could not be asked says nothing about the server.
                let counts = passed || status == "L7STS";
                let was = l.agent.up.load(Relaxed);
                let now = if counts { passed } else { was };
                l.agent.up.store(now, Relaxed);
                (was != now, now, u32::from(now), 1)
            }
        };
        let verbose = p.conf.options.log_health_checks;
        if verbose && (moved || before != Some(status)) {
            let text = format!(
                "{} check for {}server {}/{} {}, {reason}, status: {n}/{m} {}.",
                if which == Which::Agent { "Agent" } else { "Health" },
                if s.conf.backup { "backup " } else { "" },
                p.conf.name,
                s.conf.name,
                match outcome {
                    Outcome::Conditional => "conditionally succeeded",
                    _ if passed => "succeeded",
                    _ => "failed",
                },
                match up {
                    false => "DOWN",
                    true if l.weight() == 0 => "DRAIN",
                    true => "UP",
                }
            );
            self.log(p, crate::log::NOTICE, &text);
            self.mail(p, crate::log::INFO, &text);
        }
        let why = if verbose { String::new() } else { format!(", {reason}") };
        let agent_up = !s.conf.agent.wanted || !l.agent.enabled.load(Relaxed) || l.agent.up.load(Relaxed);
        let health_up = !s.conf.check || !l.check_enabled.load(Relaxed) || l.health().is_up(params);
        if !up {
            let decides = which == Which::Health || status == "L7STS";
            if decides {
                self.down(p, s, &why);
            }
        } else if passed && agent_up && health_up && !l.in_maintenance() {
            match outcome {
                Outcome::Conditional if which == Which::Health => self.stopping(p, s, &why),
                // What an agent says does not end it.
                _ if which == Which::Agent && l.stopping() => {}
                _ => self.up(p, s, &why),
            }
        }
    }

    /// It cannot serve any more.
    pub(super) fn down(&self, p: &Arc<ProxyNode>, s: &ServerNode, why: &str) {
        let l = &s.live;
        if !l.is_up() {
            return;
        }
        let had = p.is_up();
        let mild = l.stopping() || l.draining();
        l.set_up(false);
        l.counters.inc(Counter::ChecksDown);
        p.live.bump();
        if s.conf.shutdown_on_down {
            l.shutdown_sessions(Ended::ServerDown);
        }
        let text = format!("{} {}/{} is DOWN{why}. {}", kind(s), p.conf.name, s.conf.name, left(p, s));
        let severity = if mild { crate::log::NOTICE } else { crate::log::ALERT };
        self.log(p, severity, &text);
        self.mail(p, severity, &text);
        self.follow(p, s);
        self.nobody(p, had);
        self.tell(p, Some(s), false, why);
        self.quorum(p, true);
        p.live.wake(None);
    }

    pub(super) fn up(&self, p: &Arc<ProxyNode>, s: &ServerNode, why: &str) {
        let l = &s.live;
        if l.is_up() && !l.stopping() {
            return;
        }
        l.set_stopping(false);
        l.set_up(true);
        p.live.bump();
        came_up(p, s);
        let text = format!("{} {}/{} is UP{why}. {}", kind(s), p.conf.name, s.conf.name, online(p));
        self.log(p, crate::log::NOTICE, &text);
        self.mail(p, crate::log::NOTICE, &text);
        self.follow(p, s);
        self.tell(p, Some(s), true, why);
        self.quorum(p, false);
        p.live.wake(None);
    }

    pub(super) fn stopping(&self, p: &Arc<ProxyNode>, s: &ServerNode, why: &str) {
        let l = &s.live;
        if l.is_up() && l.stopping() {
            return;
        }
        let had = p.is_up();
        l.set_up(true);
        l.set_stopping(true);
        p.live.bump();
        self.log(
            p,
            crate::log::NOTICE,
            &format!("{} {}/{} is stopping{why}. {}", kind(s), p.conf.name, s.conf.name, online(p)),
        );
        self.follow(p, s);
        self.nobody(p, had);
        p.live.wake(None);
    }

    fn nobody(&self, p: &ProxyNode, had: bool) {
        if had && !p.is_up() {
            self.note(p, 0, &format!("backend {} has no server available!", p.conf.name));
            if let Some(c) = &self.snapshot.sinks.console {
                c.alert(format!("backend '{}' has no server available!", p.conf.name));
            }
        }
    }

    /// Servers that `track` this one are what it is; who came last is told first.
    pub fn follow(&self, p: &ProxyNode, s: &ServerNode) {
        let (up, stopping) = (s.live.is_up(), s.live.stopping());
        let notice = crate::log::NOTICE;
        for q in self.snapshot.proxies.iter().rev() {
            let is = |t: &&ServerNode| t.conf.track.as_ref().is_some_and(|k| k.0 == p.conf.name && k.1 == s.conf.name);
            for t in q.servers.iter().rev().filter(is) {
                let l = &t.live;
                let (had, was_up, inherited) = (q.is_up(), l.is_up(), l.admin());
                let before = (l.in_maintenance(), l.draining());
                // What holds the tracked one back holds these back as well.
                l.set_admin(INHERITED_MAINT, s.live.in_maintenance());
                l.set_admin(INHERITED_DRAIN, s.live.draining());
                let now = (l.in_maintenance(), l.draining());
                let moved = l.is_up() != up || l.stopping() != stopping;
                l.set_up(up);
                l.set_stopping(stopping);
                q.live.bump();
                if moved && !up && t.conf.shutdown_on_down {
                    l.shutdown_sessions(Ended::ServerDown);
                }
                let name = format!("{} {}/{}", kind(t), q.conf.name, t.conf.name);
                let via = format!(" via {}/{}", p.conf.name, s.conf.name);
                let alert = crate::log::ALERT;
                let (text, severity) = match (before, now) {
                    ((false, _), (true, _)) if !was_up => {
                        (format!("{name} was DOWN and now enters maintenance{via}."), notice)
                    }
                    ((false, _), (true, _)) => {
                        (format!("{name} is going DOWN for maintenance{via}. {}", left(q, t)), alert)
                    }
                    ((true, _), (false, _)) => {
                        let state = if up { "UP" } else { "DOWN" };
                        (format!("{name} is {state}/READY (leaving maintenance)."), notice)
                    }
                    ((true, _), (true, _)) if inherited & INHERITED_MAINT != 0 && l.admin() & INHERITED_MAINT == 0 => {
                        (format!("{name} remains in forced maintenance."), notice)
                    }
                    ((true, _), (true, _)) => {
                        self.follow(q, t);
                        continue;
                    }
                    ((_, false), (_, true)) => (format!("{name} enters drain state{via}. {}", online(q)), notice),
                    ((_, true), (_, false)) => (format!("{name} is UP (leaving drain){via}."), notice),
                    _ if !moved => {
                        self.follow(q, t);
                        continue;
                    }
                    _ => match (up, stopping) {
                        (_, true) => (format!("{name} is stopping{via}. {}", online(q)), notice),
                        (true, false) => {
                            came_up(q, t);
                            (format!("{name} is UP{via}. {}", online(q)), notice)
                        }
                        (false, false) => (format!("{name} is DOWN{via}. {}", left(q, t)), alert),
                    },
                };
                self.log(q, severity, &text);
                self.mail(q, severity, &text);
                self.follow(q, t);
                self.nobody(q, had);
                q.live.wake(None);
            }
        }
    }

    /// Traffic met so many errors in a row as `error-limit` allows: does what `on-error` says.
    pub fn suspect(&self, p: &Arc<ProxyNode>, i: usize) {
        let s = &p.servers[i];
        let params = s.conf.health;
        match s.conf.on_error {
            OnError::Fastinter => return,
            OnError::FailCheck => {}
            OnError::SuddenDeath => drop(s.live.update_health(|h| {
                h.lower_to(params.rise + 1);
                Change::None
            })),
            OnError::MarkDown => drop(s.live.update_health(|h| {
                h.lower_to(params.rise);
                Change::None
            })),
        }
        let last = *lock(&s.live.last_error);
        let info = format!("Detected {} consecutive errors, last one was: {last}", s.conf.error_limit);
        self.checked(p, i, Which::Health, Found::new("HANA", 0, info), Duration::ZERO);
    }

    /// What the agent of a server said.
    pub fn agent_said(&self, p: &Arc<ProxyNode>, i: usize, reply: &Reply, took: Duration) {
        let s = &p.servers[i];
        if let Some(a) = reply.admin {
            let act = match a {
                Admin::Ready => ServerAct::Ready,
                Admin::Drain => ServerAct::Drain,
                Admin::Maint => ServerAct::Maint,
            };
            self.operate(p, s, &act);
        }
        let mut warning = None;
        if let Some(w) = &reply.weight {
            match agent::weight(w, s.conf.weight, p.conf.is_static()) {
                Ok(w) => s.live.set_weight(w),
                Err(e) => warning = Some(format!("{e}\n")),
            }
        }
        if let Some(m) = &reply.maxconn {
            match agent::maxconn(m) {
                Ok(m) => s.live.maxconn.store(m, Relaxed),
                Err(e) => drop(warning.get_or_insert_with(|| format!("{e}\n"))),
            }
        }
        if reply.weight.is_some() || reply.maxconn.is_some() {
            p.live.bump();
            p.live.wake(None);
        }
        self.checked(p, i, Which::Agent, reply.found(warning.as_deref()), took);
    }

    /// Changes a server, and tells the logs; an empty answer means that it was done.
    pub fn operate(&self, p: &Arc<ProxyNode>, n: &ServerNode, act: &ServerAct) -> String {
        let l = &n.live;
        let mut said = String::new();
        let name = format!("{} {}/{}", kind(n), p.conf.name, n.conf.name);
        let before = (l.in_maintenance(), l.draining());
        let (had, was_up) = (p.is_up(), l.is_up());
        let cli = ", changed from CLI";
        match act {
            ServerAct::Ready => {
                l.set_admin(FORCED_MAINT, false);
                l.set_admin(FORCED_DRAIN, false);
            }
            ServerAct::Drain => {
                l.set_admin(FORCED_MAINT, false);
                l.set_admin(FORCED_DRAIN, true);
            }
            ServerAct::Maint => {
                l.set_admin(FORCED_DRAIN, false);
                l.set_admin(FORCED_MAINT, true);
            }
            ServerAct::Weight(text) => match agent::weight(text, n.conf.weight, p.conf.is_static()) {
                Ok(w) => l.set_weight(w),
                Err(e) => return format!("{e}\n"),
            },
            ServerAct::Health(_) | ServerAct::Stopping if n.conf.track.is_some() => {
                return "cannot change health on a tracking server.\n".into();
            }
            ServerAct::Health(up) => {
                l.force_health(*up, n.conf.agent.wanted);
                if *up { self.up(p, n, cli) } else { self.down(p, n, cli) }
            }
            ServerAct::Stopping => self.stopping(p, n, cli),
            ServerAct::Addr(a, port) => match move_server(n, a, port.as_deref()) {
                Ok(text) => said = text,
                Err(e) => return e,
            },
            ServerAct::MaxConn(max) => l.maxconn.store(*max, Relaxed),
            ServerAct::ShutdownSessions => l.shutdown_sessions(Ended::Killed),
            ServerAct::EnableHealth(yes) => {
                if *yes && !n.conf.check {
                    return "Health check was not configured on this server, cannot enable.\n".into();
                }
                if *yes && !l.check_enabled.load(Relaxed) && n.conf.init_state.is_some() {
                    l.begin_again();
                }
                l.check_enabled.store(*yes, Relaxed);
            }
            ServerAct::EnableAgent(true) if !n.conf.agent.wanted => {
                return "Agent was not configured on this server, cannot enable.\n".into();
            }
            ServerAct::EnableAgent(yes) => l.agent.enabled.store(*yes, Relaxed),
            ServerAct::AgentSays(_) if !agent_enabled(n) => {
                return "agent checks are not enabled on this server.\n".into();
            }
            ServerAct::AgentSays(up) => {
                l.agent.up.store(*up, Relaxed);
                if *up { self.up(p, n, cli) } else { self.down(p, n, cli) }
            }
            ServerAct::CheckAddr(..) | ServerAct::CheckPort(_) if !n.conf.check => {
                return "health checks are not enabled on this server\n".into();
            }
            ServerAct::CheckAddr(addr, port) => match place_of(addr, port.as_deref()) {
                Ok(place) => place.put(&l.check_addr, &l.check_port),
                Err(e) => return e,
            },
            ServerAct::CheckPort(port) => match port_of(port) {
                Ok(port) => l.check_port.store(port.into(), Relaxed),
                Err(e) => return e.into(),
            },
            ServerAct::AgentAddr(..) | ServerAct::AgentPort(_) if !agent_enabled(n) => {
                return "agent checks are not enabled on this server\n".into();
            }
            ServerAct::AgentSend(_) if !agent_enabled(n) => {
                return "agent checks are not enabled on this server.\n".into();
            }
            ServerAct::AgentAddr(addr, port) => match place_of(addr, port.as_deref()) {
                Ok(place) => place.put(&l.agent.addr, &l.agent.port),
                Err(e) => return e,
            },
            ServerAct::AgentPort(port) => match port_of(port) {
                Ok(port) => l.agent.port.store(port.into(), Relaxed),
                Err(e) => return e.into(),
            },
            ServerAct::AgentSend(text) => *lock(&l.agent.send) = Some(text.clone().into_bytes()),
        }
        if let Some((backend, name)) = &n.conf.track
            && let Some(q) = self.snapshot.backend(backend)
            && let Some(tracked) = q.servers.iter().find(|s| s.conf.name == *name)
        {
            self.follow(q, tracked);
        }
        p.live.bump();
        self.quorum(p, false);
        p.live.wake(None);
        let now = (l.in_maintenance(), l.draining());
        let state = if l.is_up() { "UP" } else { "DOWN" };
        let notice = crate::log::NOTICE;
        let (text, severity) = match (before, now) {
            ((false, _), (true, _)) if !was_up => (format!("{name} was DOWN and now enters maintenance."), notice),
            ((false, _), (true, _)) => {
                (format!("{name} is going DOWN for maintenance. {}", left(p, n)), crate::log::ALERT)
            }
            ((true, _), (false, false)) => {
                came_up(p, n);
                (format!("{name} is {state}/READY (leaving forced maintenance)."), notice)
            }
            ((_, false), (_, true)) => {
                let text = format!("{name} enters drain state. {}", online(p));
                self.mail(p, notice, &text);
                (text, notice)
            }
            ((_, true), (_, false)) => (format!("{name} is {state} (leaving forced drain)."), notice),
            _ => {
                self.follow(p, n);
                return said;
            }
        };
        self.log(p, severity, &text);
        self.nobody(p, had);
        self.follow(p, n);
        said
    }
}

/// `on-marked-up shutdown-backup-sessions`
fn came_up(p: &ProxyNode, s: &ServerNode) {
    if s.conf.shutdown_backups_on_up && !s.conf.backup && s.live.effective_weight() > 0 {
        p.servers.iter().filter(|b| b.conf.backup).for_each(|b| b.live.shutdown_sessions(Ended::ServerUp));
    }
}

fn agent_enabled(n: &ServerNode) -> bool {
    n.conf.agent.wanted && n.live.agent.enabled.load(Relaxed)
}

/// Where an operator sends checks or questions: an address, and a port if one is said.
struct Told(IpAddr, Option<u16>);

impl Told {
    fn put(self, addr: &Mutex<Option<IpAddr>>, port: &AtomicU32) {
        *lock(addr) = Some(self.0);
        if let Some(p) = self.1 {
            port.store(p.into(), Relaxed);
        }
    }
}

fn place_of(addr: &str, port: Option<&str>) -> Result<Told, String> {
    let ip = addr.parse().map_err(|_| format!("invalid addr '{addr}'\n"))?;
    Ok(Told(ip, port.map(port_of).transpose()?))
}

fn port_of(text: &str) -> Result<u16, &'static str> {
    match text.parse::<i64>() {
        Err(_) => Err("provided port is not an integer\n"),
        Ok(n) => u16::try_from(n).map_err(|_| "provided port is invalid\n"),
    }
}

/// `set server addr`: what was done, or why not.
fn move_server(n: &ServerNode, addr: &str, port: Option<&str>) -> Result<String, String> {
    let old = crate::proxy::server_address(n);
    let ip = addr.parse().map_err(|_| format!("Invalid addr family or address: '{addr}'\n"))?;
    let given = port.is_some();
    let port = match port {
        None => old.map_or(0, |o| o.port()),
        Some(p) => p.parse().map_err(|_| "Invalid port.\n")?,
    };
    let ip_part = match old.map(|o| o.ip()) {
        Some(o) if o == ip => "no need to change the addr".to_owned(),
        o => format!("IP changed from '{}' to '{ip}'", o.map_or_else(|| "-".to_owned(), |o| o.to_string())),
    };
    let port_part = match given.then_some(old.map_or(0, |o| o.port())) {
        None => String::new(),
        Some(o) if o == port => ", no need to change the port".to_owned(),
        Some(o) => format!(", port changed from '{o}' to '{port}'"),
    };
    n.live.move_to(ip, Some(port));
    n.live.set_admin(RESOLUTION_MAINT, false);
    Ok(format!("{ip_part}{port_part} by 'stats socket command'\n"))
}
