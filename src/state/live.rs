//! What outlives a reload, keyed by name: states of servers, counters, connections, queues, overrides made at run time.
use super::cookies::{self, Cookies};
use super::counters::{Counters, Gauge, Rate};
use super::limits::{Ceiling, Limit, Limits};
use super::names::NameServer;
use super::sticky::Sticky;
use crate::base::addr::Host;
use crate::config::model::{Fact, PortRule, Proxy, Server};
use crate::health::found::Found;
use crate::health::fsm::{Health, InitState, Params};
use crate::health::pulse::Pulse;
use crate::log::ring::Ring;
use crate::vrrp::view::VrrpView;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

pub use crate::config::model::{
    ANY_MAINT, CONFIG_MAINT, FORCED_DRAIN, FORCED_MAINT, INHERITED_DRAIN, INHERITED_MAINT, RESOLUTION_MAINT,
};

/// In place of the moment at which a server came up: it was up when it was first heard of.
const ALWAYS: u64 = u64::MAX;

/// The result of the last check, as the statistics have it.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub found: Found,
    pub took: Duration,
}

/// What traffic met on a server (`observe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Good,
    Unconnected,
    WrongResponse,
    BadHeaders,
    ReadError,
    ReadTimeout,
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Good => "none",
            Self::Unconnected => "L4 unsuccessful connection",
            Self::WrongResponse => "Wrong http response",
            Self::BadHeaders => "Invalid http response (headers)",
            Self::ReadError => "Read error (http)",
            Self::ReadTimeout => "Read timeout (http)",
        })
    }
}

/// Why the sessions of a server are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By an operator.
    Killed = 0,
    /// `on-marked-down shutdown-sessions`
    ServerDown = 1,
    /// `on-marked-up shutdown-backup-sessions`
    ServerUp = 2,
}

/// The agent of a server at run time (`agent-check`).
#[derive(Debug)]
pub struct AgentLive {
    pub last: Mutex<Option<CheckResult>>,
    pub enabled: AtomicBool,
    /// What it said last of the server's health.
    pub up: AtomicBool,
    /// It is being asked.
    pub running: AtomicBool,
    /// Where it is, if an operator said so.
    pub addr: Mutex<Option<IpAddr>>,
    pub port: AtomicU32,
    /// What is sent to it, if an operator said so.
    pub send: Mutex<Option<Vec<u8>>>,
}

impl AgentLive {
    fn new(enabled: bool) -> Self {
        Self {
            last: Mutex::default(),
            enabled: AtomicBool::new(enabled),
            up: AtomicBool::new(true),
            running: AtomicBool::new(false),
            addr: Mutex::default(),
            port: AtomicU32::new(0),
            send: Mutex::default(),
        }
    }
}

/// One server at run time.
#[derive(Debug)]
pub struct ServerLive {
    pub counters: Counters,
    pub sessions: Gauge,
    pub queued: Gauge,
    pub cookie: cookies::Made,
    pub rate: Rate,
    admin: AtomicU32,
    up: AtomicBool,
    /// Weight as set at run time or in the file.
    weight: AtomicU32,
    pub maxconn: AtomicU32,
    health: Mutex<Health>,
    pub params: Mutex<Params>,
    pub check: Mutex<Option<CheckResult>>,
    /// Health checks are wanted: `disable health` says no.
    /// Made at run time.
    dynamic: AtomicBool,
    /// When its health check and its agent are due, from one set of checks to the next.
    pub due: [Mutex<Option<tokio::time::Instant>>; 2],
    pub check_enabled: AtomicBool,
    /// Where checks go, if an operator said so.
    pub check_addr: Mutex<Option<IpAddr>>,
    pub check_port: AtomicU32,
    pub agent: AgentLive,
    /// It serves only those that are bound to it (`http-check disable-on-404`).
    stopping: AtomicBool,
    /// What its health is when checks begin: at the start and behind a maintenance.
    init: Mutex<Option<InitState>>,
    /// Microseconds since the process started: two changes by a command each do not happen in the same. An earlier process's changes are
    /// negative.
    changed: AtomicI64,
    last_session: AtomicI64,
    downtime: AtomicU64,
    /// `set server addr` and name servers: address and port in place of the file's; without a port, that of the file.
    pub addr: Mutex<Option<(IpAddr, Option<u16>)>>,
    /// `observe`: errors since the last success, what they have led to, and the bell that the check hears.
    errors_in_row: AtomicU32,
    suspected: AtomicBool,
    pub last_error: Mutex<Met>,
    pub suspicion: tokio::sync::Notify,
    /// Counts changes of the address: connections to another one are not used again.
    moves: AtomicU64,
    idle: AtomicU64,
    /// The same, of each thread.
    idle_of: Box<[AtomicU64]>,
    /// Connections that it needs at a time, and most that were in use since that was last thought over.
    needed: AtomicU64,
    peak: AtomicU64,
    /// The thread that kept one last.
    pub idle_at: AtomicUsize,
    pub times: Times,
    /// What the file said when the run-time values were taken from it.
    said: Mutex<(u32, bool, u32)>,
    /// Where the file said it is: an address that was learnt for that holds only as long.
    place: Mutex<(Host, PortRule, Option<String>)>,
    /// Bumped to make sessions on this server close; each holds the number it began with.
    era: AtomicU64,
    /// Where in the range of `source` the next port is looked for.
    port_turn: AtomicUsize,
    /// `slowstart` in milliseconds, and when it came up last; one that was up at the start is warm.
    slowstart: AtomicU32,
    came_up: AtomicU64,
    bell: Arc<Bell>,
    /// What went wrong last, so that it is said once.
    problem: Mutex<String>,
    /// Of a virtual server's server: its checkers in their order, and what they add to its weight.
    pub pulses: Mutex<Vec<Option<KeptPulse>>>,
    pub extra_weight: AtomicI64,
    recalled: AtomicBool,
    /// A check, an agent, another server or `init-state` says what it is.
    judged: AtomicBool,
}

fn judged(s: &Server) -> bool {
    s.check || s.agent.wanted || s.track.is_some() || s.init_state.is_some()
}

/// Rung when sessions anywhere have to look whether they are over; every traffic thread listens and wakes its sessions.
#[derive(Debug)]
pub struct Bell(tokio::sync::watch::Sender<u64>);

impl Bell {
    fn new() -> Self {
        Self(tokio::sync::watch::channel(0).0)
    }
    fn ring(&self) {
        self.0.send_modify(|n| *n = n.wrapping_add(1));
    }
    pub fn listen(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Averages over the last 1024 requests, in milliseconds, kept as sliding sums.
#[derive(Debug, Default)]
pub struct Times {
    sums: [AtomicU64; 4],
    max: [AtomicU64; 4],
    count: AtomicU64,
}

impl Times {
    const WINDOW: u64 = 1024;
    /// Queue, connect, response and total time in milliseconds.
    pub fn record(&self, ms: [u64; 4]) {
        // As with the sums: threads that meet here lose one of many.
        let n = self.count.load(Relaxed);
        self.count.store(n + 1, Relaxed);
        let n = n.min(Self::WINDOW);
        for (i, v) in ms.into_iter().enumerate() {
            let s = self.sums[i].load(Relaxed);
            let s = if n < Self::WINDOW { s + v } else { s - s.div_ceil(Self::WINDOW).min(s) + v };
            self.sums[i].store(s, Relaxed);
            if v > self.max[i].load(Relaxed) {
                self.max[i].store(v, Relaxed);
            }
        }
    }
    pub fn averages(&self) -> [u64; 4] {
        let n = self.count.load(Relaxed).clamp(1, Self::WINDOW);
        std::array::from_fn(|i| self.sums[i].load(Relaxed) / n)
    }
    pub fn maxima(&self) -> [u64; 4] {
        std::array::from_fn(|i| self.max[i].load(Relaxed))
    }
}

impl ServerLive {
    fn new(s: &Server, threads: usize, bell: Arc<Bell>) -> Self {
        Self {
            counters: Counters::new(threads),
            sessions: Gauge::default(),
            queued: Gauge::default(),
            cookie: cookies::Made::default(),
            rate: Rate::default(),
            admin: AtomicU32::new(
                match (s.dynamic, s.disabled) {
                    (true, _) => FORCED_MAINT,
                    (_, true) => CONFIG_MAINT | FORCED_MAINT,
                    _ => 0,
                } | if s.is_nowhere() { RESOLUTION_MAINT } else { 0 },
            ),
            up: AtomicBool::new(s.init_state.is_none_or(InitState::is_up)),
            weight: AtomicU32::new(s.weight),
            maxconn: AtomicU32::new(s.maxconn),
            health: Mutex::new(Health::begin(s.health, s.init_state)),
            params: Mutex::new(s.health),
            check: Mutex::new(None),
            dynamic: AtomicBool::new(s.dynamic),
            due: Default::default(),
            check_addr: Mutex::default(),
            check_port: AtomicU32::new(0),
            // Of a server that was made at run time they begin when they are asked for.
            check_enabled: AtomicBool::new(!s.dynamic),
            agent: AgentLive::new(!s.dynamic),
            stopping: AtomicBool::new(false),
            init: Mutex::new(s.init_state),
            changed: AtomicI64::new(now_us()),
            pulses: Mutex::default(),
            extra_weight: AtomicI64::new(0),
            recalled: AtomicBool::new(false),
            judged: AtomicBool::new(judged(s)),
            last_session: AtomicI64::new(-1),
            downtime: AtomicU64::new(0),
            addr: Mutex::new(None),
            errors_in_row: AtomicU32::new(0),
            suspected: AtomicBool::new(false),
            last_error: Mutex::new(Met::Good),
            suspicion: tokio::sync::Notify::new(),
            moves: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            idle_of: (0..threads.max(1)).map(|_| AtomicU64::new(0)).collect(),
            needed: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            idle_at: AtomicUsize::new(0),
            times: Times::default(),
            said: Mutex::new((s.weight, s.disabled, s.maxconn)),
            place: Mutex::new((s.host.clone(), s.port, s.resolvers.clone())),
            era: AtomicU64::new(0),
            port_turn: AtomicUsize::new(0),
            slowstart: AtomicU32::new(u32::try_from(s.slowstart.as_millis()).unwrap_or(u32::MAX)),
            came_up: AtomicU64::new(ALWAYS),
            bell,
            problem: Mutex::default(),
        }
    }

    /// What a connection or an answer said about the server (`observe`); so many errors in a row are told to its check.
    pub fn observe(&self, met: Met, limit: u32) {
        if met == Met::Good {
            if self.errors_in_row.load(Relaxed) != 0 {
                self.errors_in_row.store(0, Relaxed);
            }
            return;
        }
        *lock(&self.last_error) = met;
        if self.errors_in_row.fetch_add(1, Relaxed) + 1 >= limit {
            self.errors_in_row.store(0, Relaxed);
            self.suspected.store(true, Relaxed);
            self.suspicion.notify_one();
        }
    }

    /// True once for each time that errors reached their limit.
    pub fn is_suspected(&self) -> bool {
        self.suspected.swap(false, Relaxed)
    }

    /// It is somewhere else from now on.
    pub fn move_to(&self, ip: IpAddr, port: Option<u16>) {
        *lock(&self.addr) = Some((ip, port));
        self.moves.fetch_add(1, Relaxed);
    }

    /// Whether one more connection is worth being kept idle by a thread: its first, and as many as there were in use at a time lately, with
    /// `low` more (`pool-low-conn`).
    pub fn needs_idle(&self, thread: usize, low: u64) -> bool {
        let (used, idle) = (self.sessions.get(), self.idle());
        if used > self.peak.load(Relaxed) {
            self.peak.fetch_max(used, Relaxed);
        }
        used + idle <= used.max(self.needed()) + low || self.idle_of[thread].load(Relaxed) == 0
    }

    /// Idle connections, of all threads.
    pub fn idle(&self) -> u64 {
        self.idle.load(Relaxed)
    }

    /// A thread has one more.
    pub fn idle_more(&self, thread: usize) {
        self.idle.fetch_add(1, Relaxed);
        // One writer each.
        let own = &self.idle_of[thread];
        own.store(own.load(Relaxed) + 1, Relaxed);
        self.idle_at.store(thread, Relaxed);
    }

    /// A thread has so many less.
    pub fn idle_less(&self, thread: usize, n: usize) {
        self.idle.fetch_sub(n as u64, Relaxed);
        let own = &self.idle_of[thread];
        own.store(own.load(Relaxed).wrapping_sub(n as u64), Relaxed);
    }

    pub fn needed(&self) -> u64 {
        self.needed.load(Relaxed).max(self.peak.load(Relaxed))
    }

    /// Thinks over how many connections it needs: half of what there was counts as long as nothing more comes.
    pub fn rethink_need(&self) {
        let peak = self.peak.swap(self.sessions.get(), Relaxed);
        self.needed.store(peak.max((self.needed.load(Relaxed) + peak) / 2), Relaxed);
    }

    pub fn moves(&self) -> u64 {
        self.moves.load(Relaxed)
    }

    /// Closes the sessions that this server has now.
    pub fn shutdown_sessions(&self, why: Ended) {
        // The lowest bits tell why.
        let _ = self.era.fetch_update(Relaxed, Relaxed, |e| Some(((e >> 2) + 1) << 2 | why as u64));
        self.bell.ring();
    }

    pub fn next_port(&self) -> usize {
        self.port_turn.fetch_add(1, Relaxed)
    }

    /// True if this was not what went wrong last. For rare events only.
    pub fn is_new_problem(&self, text: &str) -> bool {
        let mut last = lock(&self.problem);
        let new = *last != text;
        if new {
            text.clone_into(&mut last);
        }
        new
    }

    /// What a session remembers; it is over once this has changed.
    pub fn era(&self) -> u64 {
        self.era.load(Relaxed)
    }

    /// Why sessions were closed last.
    pub fn ended(era: u64) -> Ended {
        match era & 3 {
            1 => Ended::ServerDown,
            2 => Ended::ServerUp,
            _ => Ended::Killed,
        }
    }

    /// Takes a session's place, unless there are `most` already; 0 is no limit.
    pub fn take_slot(&self, most: u64) -> bool {
        match most {
            0 => {
                self.sessions.up();
                true
            }
            max => self.sessions.up_below(max),
        }
    }

    /// A reload in force: what the file says now counts only where the file changed; what was set at run time stays otherwise.
    pub fn reconcile(&self, s: &Server) {
        self.slowstart.store(u32::try_from(s.slowstart.as_millis()).unwrap_or(u32::MAX), Relaxed);
        let now = (s.weight, s.disabled, s.maxconn);
        // One that was made at run time and stands in the file now is like the others.
        if self.dynamic.swap(s.dynamic, Relaxed) && !s.dynamic {
            self.check_enabled.store(true, Relaxed);
            self.agent.enabled.store(true, Relaxed);
        }
        let mut said = lock(&self.said);
        if said.0 != now.0 {
            self.weight.store(now.0, Relaxed);
        }
        if said.1 != now.1 {
            self.set_admin(CONFIG_MAINT | FORCED_MAINT, now.1);
            if now.1 {
                self.set_admin(FORCED_DRAIN, false);
            }
        }
        if said.2 != now.2 {
            self.maxconn.store(now.2, Relaxed);
        }
        *said = now;
        // What checkers hold of it is what it begins with behind a maintenance.
        if s.checkers.is_empty() {
            *lock(&self.init) = s.init_state;
        }
        let place = (s.host.clone(), s.port, s.resolvers.clone());
        let moved = std::mem::replace(&mut *lock(&self.place), place.clone()) != place;
        if moved {
            *lock(&self.addr) = None;
            self.moves.fetch_add(1, Relaxed);
        }
        // With name servers it is they who say whether it is anywhere; at the start, and without them, the file.
        if moved || s.resolvers.is_none() {
            let nowhere = s.is_nowhere() && lock(&self.addr).is_none();
            self.set_admin(RESOLUTION_MAINT, nowhere);
        }
        let mut params = lock(&self.params);
        if *params != s.health {
            *lock(&self.health) = Health::set(s.health, self.is_up());
            *params = s.health;
        }
        // Who tracks another has that one's state, which is told to it.
        // What a check said counts no more once there is none.
        if !s.check && lock(&self.check).take().is_some() && s.track.is_none() {
            self.begin_again();
        }
        for (due, _) in self.due.iter().zip([s.check, s.agent.wanted]).filter(|(_, wanted)| !wanted) {
            *lock(due) = None;
        }
        if !s.agent.wanted {
            self.agent.running.store(false, Relaxed);
            *lock(&self.agent.last) = None;
            self.agent.up.store(true, Relaxed);
        }
        // Whoever said that it is down says nothing any more. What an operator or a state file said stays.
        if self.judged.swap(judged(s), Relaxed) && !judged(s) {
            self.up.store(true, Relaxed);
            self.stopping.store(false, Relaxed);
        }
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }
    pub fn admin(&self) -> u32 {
        self.admin.load(Relaxed)
    }
    pub fn in_maintenance(&self) -> bool {
        self.admin() & ANY_MAINT != 0
    }
    pub fn draining(&self) -> bool {
        self.admin() & (FORCED_DRAIN | INHERITED_DRAIN) != 0
    }
    /// May get new traffic that nothing binds to it.
    pub fn usable(&self) -> bool {
        self.is_up() && self.admin() & !CONFIG_MAINT == 0 && !self.stopping()
    }
    /// Up, but only for those that are bound to it.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
    pub fn set_stopping(&self, yes: bool) {
        self.stopping.store(yes, Relaxed);
    }
    /// May get traffic that a cookie binds to it.
    pub fn reachable(&self) -> bool {
        self.is_up() && !self.in_maintenance()
    }
    pub fn set_admin(&self, bit: u32, on: bool) -> bool {
        let before = if on { self.admin.fetch_or(bit, Relaxed) } else { self.admin.fetch_and(!bit, Relaxed) };
        let moved = if on { bit & !before } else { bit & before };
        if moved & !CONFIG_MAINT != 0 {
            self.changed.store(now_us(), Relaxed);
            if !on && !self.in_maintenance() {
                self.came_up.store(now_ms(), Relaxed);
                if moved & ANY_MAINT != 0 {
                    self.begin_again();
                }
            }
        }
        moved != 0
    }
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }
    pub fn set_weight(&self, w: u32) {
        self.weight.store(w, Relaxed);
    }
    /// How warm it is after it came up, in percent (`slowstart`).
    pub fn warmth(&self) -> u32 {
        let whole = u64::from(self.slowstart.load(Relaxed));
        if whole == 0 {
            return 100;
        }
        let since = self.came_up.load(Relaxed);
        if since == ALWAYS {
            return 100;
        }
        let part = now_ms().saturating_sub(since) * 100 / whole;
        u32::try_from(part).unwrap_or(100).clamp(1, 100)
    }
    /// Sixteenths of [`ServerLive::effective_weight`], so that small weights can grow while a server warms up.
    pub fn fine_weight(&self) -> u32 {
        match self.effective_weight() * 16 {
            0 => 0,
            w => (w * self.warmth() / 100).max(1),
        }
    }
    /// The weight balancing goes by: none unless usable.
    pub fn effective_weight(&self) -> u32 {
        if self.usable() { self.weight() } else { 0 }
    }
    pub fn health(&self) -> Health {
        *lock(&self.health)
    }
    /// Its state is as old as an earlier process said.
    pub fn changed_before(&self, age: Duration) {
        self.changed.store(now_us().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)), Relaxed);
    }
    /// It has just come up, as far as `slowstart` goes.
    pub fn warm_up(&self) {
        self.came_up.store(now_ms(), Relaxed);
    }
    /// An earlier worker knew what it was.
    pub fn recall(&self, up: bool) {
        self.hold(up);
        self.set_up(up);
        self.recalled.store(true, Relaxed);
    }
    pub fn is_recalled(&self) -> bool {
        self.recalled.load(Relaxed)
    }
    /// What its checkers hold of it, behind a maintenance too.
    pub fn hold(&self, up: bool) {
        *lock(&self.init) = Some(if up { InitState::FullyUp } else { InitState::FullyDown });
        *lock(&self.health) = Health::set(*lock(&self.params), up);
    }
    pub fn update_health(
        &self,
        f: impl FnOnce(&mut Health) -> crate::health::fsm::Change,
    ) -> crate::health::fsm::Change {
        f(&mut lock(&self.health))
    }
    /// Behind a maintenance nothing is known of it, except what its agent said: it begins as at the start.
    pub fn begin_again(&self) {
        let (init, params) = (*lock(&self.init), *lock(&self.params));
        *lock(&self.health) = Health::begin(params, init);
        self.stopping.store(false, Relaxed);
        self.set_up(init.is_none_or(InitState::is_up) && self.agent.up.load(Relaxed));
    }
    /// An operator says that it is up or down; if it has an agent, in the place of that one too.
    pub fn force_health(&self, up: bool, agent: bool) {
        *lock(&self.health) = Health::set(*lock(&self.params), up);
        if agent && up {
            self.agent.up.store(true, Relaxed);
        }
    }
    pub fn set_up(&self, up: bool) {
        if !up {
            self.stopping.store(false, Relaxed);
        }
        if self.up.swap(up, Relaxed) != up {
            let now = now_us();
            let before = self.changed.swap(now, Relaxed);
            if up {
                self.came_up.store(now_ms(), Relaxed);
                self.downtime.fetch_add(micros(now.saturating_sub(before)) / 1000, Relaxed);
            }
        }
    }
    /// Seconds since the last change of state.
    pub fn since_change(&self) -> u64 {
        micros(now_us().saturating_sub(self.changed.load(Relaxed))) / 1_000_000
    }
    /// When its state changed last, in microseconds of the process.
    pub fn changed_at(&self) -> i64 {
        self.changed.load(Relaxed)
    }
    pub fn downtime(&self) -> u64 {
        let extra = if self.is_up() { 0 } else { micros(now_us().saturating_sub(self.changed.load(Relaxed))) / 1000 };
        (self.downtime.load(Relaxed) + extra) / 1000
    }
    /// A session begins, at this second.
    pub fn used(&self, seconds: i64) {
        self.last_session.store(seconds, Relaxed);
    }
    /// Seconds since the last session, -1 for never.
    pub fn last_session(&self) -> i64 {
        match self.last_session.load(Relaxed) {
            -1 => -1,
            t => i64::try_from(now_ms() / 1000).unwrap_or(0) - t,
        }
    }
}

/// A request waiting for a server slot.
#[derive(Debug)]
pub struct Waiter {
    pub wake: tokio::sync::oneshot::Sender<()>,
    /// Only this server will do (persistence); else any.
    pub server: Option<Arc<ServerLive>>,
    pub rank: Rank,
}

/// The order of a queue: `set-priority-class`, then the moment of queueing in milliseconds, with `set-priority-offset` added. Lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub class: i16,
    pub at: i64,
}

impl Waiter {
    /// Takes its place among those who wait. `back`: it had one and was woken for nothing, so that it goes before its equals.
    pub fn queue(self, q: &mut VecDeque<Self>, back: bool) {
        let at = q.partition_point(|w| if back { w.rank < self.rank } else { w.rank <= self.rank });
        q.insert(at, self);
    }
}

/// A message that could not be read.
#[derive(Debug)]
pub struct Offence {
    pub at: std::time::SystemTime,
    /// Counted from 0 over all proxies.
    pub number: u64,
    pub src: Option<std::net::SocketAddr>,
    /// Name and number of the proxy on the other side.
    pub other: Option<(String, u32)>,
    pub server: Option<(String, u32)>,
    /// The first byte that spoilt it.
    pub position: usize,
    pub bytes: Box<[u8]>,
}

/// One proxy at run time; a `listen` section has both halves in one.
#[derive(Debug)]
pub struct ProxyLive {
    /// The last invalid request, and the last invalid response.
    pub offences: [Mutex<Option<Box<Offence>>>; 2],
    /// Lines that it logged, where its format asks for that.
    pub lines: AtomicU64,
    pub front: Counters,
    pub back: Counters,
    pub front_conns: Gauge,
    pub back_sessions: Gauge,
    pub queued: Gauge,
    pub front_rate: Rate,
    pub cookies: Cookies,
    /// Connections of a frontend at a time, and sessions a second (`rate-limit sessions`).
    pub maxconn: Limit,
    pub sessions: Ceiling,
    pub req_rate: Rate,
    pub back_rate: Rate,
    pub turn: AtomicUsize,
    pub queue: Mutex<VecDeque<Waiter>>,
    pub servers: Mutex<HashMap<String, Arc<ServerLive>>>,
    pub listeners: Mutex<HashMap<String, Arc<ListenerLive>>>,
    /// Bumped whenever a server's weight or state changes, so that turn lists are made anew.
    pub version: AtomicU64,
    pub stopped: AtomicBool,
    /// [`Doors`], for who shows it; listeners go by [`Live::doors`].
    door: AtomicU8,
    /// Rules pass over it (`unpublish backend`).
    pub unpublished: AtomicBool,
    /// What the configuration in force says of that.
    said_unpublished: AtomicBool,
    pub times: Times,
    pub last_session: AtomicI64,
    /// Of a virtual server: its quorum, and whether it says sorry.
    pub quorum: Mutex<Quorum>,
    pub sorry: AtomicBool,
    /// Of a virtual server: which server each client had last.
    pub sticky: Mutex<Sticky>,
}

/// What a checker of a virtual server's server knew when a reload came.
#[derive(Clone, Debug)]
pub struct KeptPulse {
    pub name: &'static str,
    pub pulse: Pulse,
    pub due: tokio::time::Instant,
}

/// The listeners of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    Open,
    /// `disable frontend`
    Paused,
    /// `shutdown frontend`: until the next reload.
    Shut,
}

impl ProxyLive {
    pub fn doors(&self) -> Doors {
        match self.door.load(Relaxed) {
            d if d == Doors::Paused as u8 => Doors::Paused,
            d if d == Doors::Shut as u8 => Doors::Shut,
            _ => Doors::Open,
        }
    }

    pub fn set_doors(&self, d: Doors) {
        self.door.store(d as u8, Relaxed);
    }

    /// True if a frontend takes connections.
    pub fn is_open(&self) -> bool {
        self.doors() == Doors::Open && !self.stopped.load(Relaxed)
    }
}

#[derive(Debug)]
pub struct ListenerLive {
    pub counters: Counters,
    pub conns: Gauge,
}

impl ProxyLive {
    fn new(p: &Proxy, threads: usize) -> Self {
        Self {
            unpublished: AtomicBool::new(p.unpublished),
            said_unpublished: AtomicBool::new(p.unpublished),
            lines: AtomicU64::new(0),
            offences: Default::default(),
            front: Counters::new(threads),
            back: Counters::new(threads),
            front_conns: Gauge::default(),
            back_sessions: Gauge::default(),
            queued: Gauge::default(),
            front_rate: Rate::default(),
            cookies: Cookies::default(),
            maxconn: Limit::default(),
            sessions: Ceiling::default(),
            req_rate: Rate::default(),
            back_rate: Rate::default(),
            turn: AtomicUsize::new(0),
            queue: Mutex::default(),
            servers: Mutex::default(),
            listeners: Mutex::default(),
            version: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            door: AtomicU8::new(Doors::Open as u8),
            times: Times::default(),
            last_session: AtomicI64::new(-1),
            quorum: Mutex::default(),
            sorry: AtomicBool::new(false),
            sticky: Mutex::default(),
        }
    }

    /// A configuration in force: what it says counts where it says something else than before.
    pub fn reconcile(&self, p: &Proxy) {
        if self.said_unpublished.swap(p.unpublished, Relaxed) != p.unpublished {
            self.unpublished.store(p.unpublished, Relaxed);
        }
    }

    pub fn bump(&self) {
        self.version.fetch_add(1, Relaxed);
    }

    /// Wakes who waits: the first waiter that the freed server will do for.
    pub fn wake(&self, freed: Option<&Arc<ServerLive>>) {
        if self.queued.get() == 0 {
            return;
        }
        let mut q = lock(&self.queue);
        q.retain(|w| !w.wake.is_closed());
        let Some(freed) = freed else {
            // A server came, went or changed: everybody looks again.
            for w in q.drain(..) {
                let _ = w.wake.send(());
            }
            return;
        };
        while let Some(at) = q.iter().position(|w| w.server.as_ref().is_none_or(|s| Arc::ptr_eq(s, freed))) {
            // One that gave up meanwhile is passed over.
            if let Some(w) = q.remove(at)
                && w.wake.send(()).is_ok()
            {
                return;
            }
        }
    }
}

/// A mail, and to whom it is given.
#[derive(Debug)]
pub struct Alert {
    pub mailers: Arc<crate::config::model::Mailers>,
    pub mail: Arc<crate::health::mail::Mail>,
}

/// Where alerts wait for the control thread: anybody puts them in, one task takes them out.
#[derive(Debug)]
pub struct Outbox(pub mpsc::UnboundedSender<Alert>, pub Mutex<Option<mpsc::UnboundedReceiver<Alert>>>);

impl Outbox {
    fn new() -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        Self(tx, Mutex::new(Some(rx)))
    }
}

/// A virtual server gained or lost its quorum, or (`server`) a real server of it came or went.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Happening {
    pub section: String,
    pub server: Option<String>,
    pub up: bool,
    pub why: String,
}

/// Where they wait for the control thread.
#[derive(Debug)]
pub struct Happenings(mpsc::UnboundedSender<Happening>, Mutex<Option<mpsc::UnboundedReceiver<Happening>>>);

impl Happenings {
    fn new() -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        Self(tx, Mutex::new(Some(rx)))
    }

    pub fn tell(&self, h: Happening) {
        let _ = self.0.send(h);
    }

    /// Where they come out; once.
    pub fn take(&self) -> Option<mpsc::UnboundedReceiver<Happening>> {
        lock(&self.1).take()
    }
}

/// Whether the live servers of a virtual server are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Quorum {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    Lost,
    Gained,
}

/// Everything that lives on, and the process-wide totals.
#[derive(Debug)]
pub struct Live {
    pub threads: usize,
    pub proxies: Mutex<HashMap<String, Arc<ProxyLive>>>,
    /// By name; one lives on as long as its section says the same.
    pub caches: Mutex<HashMap<String, Arc<super::cache::Store>>>,
    pub bell: Arc<Bell>,
    pub outbox: Outbox,
    /// What virtual servers have to tell the guardian.
    pub happenings: Happenings,
    /// What the guardian has told of things that servers are checked by.
    pub facts: watch::Sender<HashMap<String, Fact>>,
    /// Frontends that take no connections (`disable frontend` and its like), by their names: their listeners outlive what else is known of them.
    pub doors: watch::Sender<HashMap<String, Doors>>,
    pub conns: Arc<Gauge>,
    /// Of virtual servers of datagrams.
    pub datagram_sessions: Arc<Gauge>,
    pub total_conns: AtomicU64,
    /// Requests and bytes of answers of the whole process.
    pub totals: Counters,
    pub ssl_conns: Gauge,
    pub total_ssl: AtomicU64,
    pub conn_rate: Rate,
    pub sess_rate: Rate,
    pub ssl_rate: Rate,
    pub started: Instant,
    pub started_at: std::time::SystemTime,
    pub dropped_logs: AtomicU64,
    /// Invalid messages so far.
    pub offences: AtomicU64,
    /// Messages that `log-forward` sections received.
    pub received_logs: AtomicU64,
    rings: Mutex<HashMap<String, Arc<Ring>>>,
    /// Name servers, by their section and their own name.
    names: Mutex<HashMap<(String, String), Arc<NameServer>>>,
    pub buf0: Arc<Ring>,
    /// Bytes of answers that went through a pipe.
    pub spliced_bytes: AtomicU64,
    /// Bytes of messages before and after they were compressed, and how many a second.
    pub comp_in: AtomicU64,
    pub comp_out: AtomicU64,
    pub comp_rate_in: Rate,
    pub comp_rate_out: Rate,
    pub maxconn_reached: AtomicU64,
    pub limits: Limits,
    pub reloads: AtomicU64,
    pub failed_reloads: AtomicU64,
    pub stopping: AtomicBool,
    /// Open connections of each thread: where the next one goes.
    pub thread_load: Box<[AtomicUsize]>,
    /// The guardian's last word on VRRP: name, state, priority.
    pub vrrp: Mutex<Vec<VrrpView>>,
}

impl Live {
    pub fn new(threads: usize) -> Arc<Self> {
        start_clock();
        Arc::new(Self {
            threads,
            caches: Mutex::default(),
            proxies: Mutex::default(),
            bell: Arc::new(Bell::new()),
            outbox: Outbox::new(),
            happenings: Happenings::new(),
            facts: watch::Sender::default(),
            conns: Arc::default(),
            datagram_sessions: Arc::default(),
            total_conns: AtomicU64::new(0),
            totals: Counters::new(threads),
            ssl_conns: Gauge::default(),
            total_ssl: AtomicU64::new(0),
            conn_rate: Rate::default(),
            sess_rate: Rate::default(),
            ssl_rate: Rate::default(),
            started: Instant::now(),
            started_at: std::time::SystemTime::now(),
            doors: watch::Sender::default(),
            dropped_logs: AtomicU64::new(0),
            offences: AtomicU64::new(0),
            received_logs: AtomicU64::new(0),
            rings: Mutex::default(),
            names: Mutex::default(),
            buf0: Arc::new(Ring::buf0()),
            spliced_bytes: AtomicU64::new(0),
            comp_in: AtomicU64::new(0),
            comp_out: AtomicU64::new(0),
            comp_rate_in: Rate::default(),
            comp_rate_out: Rate::default(),
            maxconn_reached: AtomicU64::new(0),
            limits: Limits::default(),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            thread_load: (0..threads.max(1)).map(|_| AtomicUsize::new(0)).collect(),
            vrrp: Mutex::default(),
        })
    }

    /// The live half of a proxy: the one it had before the reload, or a new one. Changes nothing that is in force.
    pub fn proxy(&self, p: &Proxy) -> Arc<ProxyLive> {
        lock(&self.proxies).entry(key(p)).or_insert_with(|| Arc::new(ProxyLive::new(p, self.threads))).clone()
    }

    /// Its name is another one from the next configuration on.
    pub fn rename_server(proxy: &ProxyLive, old: &str, new: &str) {
        let mut servers = lock(&proxy.servers);
        if let Some(s) = servers.get(old).cloned() {
            servers.insert(new.to_owned(), s);
        }
    }

    /// As [`Live::proxy`], for a server.
    pub fn server(&self, proxy: &ProxyLive, s: &Server) -> Arc<ServerLive> {
        lock(&proxy.servers)
            .entry(s.name.clone())
            .or_insert_with(|| Arc::new(ServerLive::new(s, self.threads, self.bell.clone())))
            .clone()
    }

    /// The store of a cache: the one there is, if its section says the same as before.
    pub fn cache(&self, conf: crate::config::model::Cache) -> Arc<super::cache::Store> {
        match lock(&self.caches).get(&conf.name) {
            Some(c) if c.conf == conf => c.clone(),
            _ => Arc::new(super::cache::Store::new(conf)),
        }
    }

    /// A ring keeps its events as long as it stays what it is. The error says why its file cannot be used.
    pub fn ring(&self, conf: &Arc<crate::config::model::Ring>) -> Result<Arc<Ring>, String> {
        let mut rings = lock(&self.rings);
        if let Some(r) = rings.get(&conf.name).filter(|r| same_ring(&r.conf, conf)) {
            return Ok(r.clone());
        }
        let ring = Arc::new(Ring::open(conf.clone())?);
        rings.insert(conf.name.clone(), ring.clone());
        Ok(ring)
    }

    /// A name server of a `resolvers` section: the one there is, or a new one.
    pub fn name_server(&self, section: &str, name: &str) -> Arc<NameServer> {
        lock(&self.names).entry((section.to_owned(), name.to_owned())).or_default().clone()
    }

    /// `buf0`, which is always there.
    pub fn built_in_ring(&self, name: &str) -> Option<Arc<Ring>> {
        (name == self.buf0.conf.name).then(|| self.buf0.clone())
    }

    /// Rings in force; others are forgotten.
    pub fn adopt_rings(&self, keep: impl Fn(&Arc<Ring>) -> bool) {
        lock(&self.rings).retain(|_, r| keep(r));
    }

    /// These are in force now; what others hold goes with its last reader.
    pub fn adopt_caches(&self, all: &[Arc<super::cache::Store>]) {
        *lock(&self.caches) = all.iter().map(|c| (c.conf.name.clone(), c.clone())).collect();
    }

    /// Forgets proxies that no configuration in force has; sessions that are left keep what they need.
    pub fn forget_proxies(&self, keep: impl Fn(&Arc<ProxyLive>) -> bool) {
        lock(&self.proxies).retain(|_, p| keep(p));
    }

    pub fn listener(&self, proxy: &ProxyLive, name: &str) -> Arc<ListenerLive> {
        lock(&proxy.listeners)
            .entry(name.to_owned())
            .or_insert_with(|| {
                Arc::new(ListenerLive { counters: Counters::new(self.threads), conns: Gauge::default() })
            })
            .clone()
    }
}

fn key(p: &Proxy) -> String {
    format!("{}/{}", p.kind.name(), p.name)
}

/// A poisoned lock only means that another thread panicked while counting; the data is still whole.
pub fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static CLOCK: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

fn start_clock() {
    CLOCK.get_or_init(Instant::now);
}

/// Milliseconds since the process began to serve.
pub fn now_ms() -> u64 {
    u64::try_from(CLOCK.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(0)
}

/// True if events of the one are events of the other. The names of rings that log lines make only count them: where they lead has to be the same.
fn same_ring(a: &crate::config::model::Ring, b: &crate::config::model::Ring) -> bool {
    let to = |r: &crate::config::model::Ring| -> Vec<(Host, PortRule)> {
        r.proxy.servers.iter().map(|s| (s.host.clone(), s.port)).collect()
    };
    (a.form, a.max_len, a.size, &a.backing_file) == (b.form, b.max_len, b.size, &b.backing_file)
        && (!a.name.starts_with("ring#") || to(a) == to(b))
}

/// As [`now_ms`], finer.
fn now_us() -> i64 {
    i64::try_from(CLOCK.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(0)
}

/// A span of time; a clock that was read before an event is no span.
fn micros(span: i64) -> u64 {
    u64::try_from(span).unwrap_or(0)
}

/// Milliseconds of an instant on the same clock as [`now_ms`].
pub fn millis(at: Instant) -> i64 {
    i64::try_from(at.saturating_duration_since(*CLOCK.get_or_init(Instant::now)).as_millis()).unwrap_or(0)
}

/// Seconds of an instant on the same clock as [`now_ms`].
pub fn seconds(at: Instant) -> i64 {
    i64::try_from(at.saturating_duration_since(*CLOCK.get_or_init(Instant::now)).as_secs()).unwrap_or(0)
}
