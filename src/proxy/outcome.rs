//! How a session ended: the closed mapping from what happened to status, termination code, counters and log line (manual 8.5).
use super::Thread;
use crate::http::h1::head::Head;
use crate::rules::action::Timer;
use crate::rules::gauge::Gauge;
use crate::rules::logformat::{Record, Stage, Times};
use crate::rules::sample::{HeadSide, Number, Traffic};
use crate::state::counters::Counter;
use crate::state::gauges;
use crate::state::snapshot::ProxyNode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

/// First letter: who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Normal,
    ClientAbort,
    ServerAbort,
    Denied,
    Local,
    ClientTimeout,
    ServerTimeout,
    /// An operator closed it.
    Killed,
    /// Its server went down, and `on-marked-down shutdown-sessions` stands there.
    ServerDown,
    /// An active server came up, and `on-marked-up shutdown-backup-sessions` stands there.
    ServerUp,
    /// What was to be sent has no room, or no meaning.
    Internal,
}

/// Second letter: where it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Done,
    Request,
    Queue,
    Connect,
    Headers,
    Data,
    /// The server has said everything; the client has not got it all, or not sent all.
    Last,
    Tarpit,
}

impl Cause {
    pub fn letter(self) -> u8 {
        match self {
            Self::Normal => b'-',
            Self::ClientAbort => b'C',
            Self::ServerAbort => b'S',
            Self::Denied => b'P',
            Self::Local => b'L',
            Self::ClientTimeout => b'c',
            Self::ServerTimeout => b's',
            Self::Killed => b'K',
            Self::ServerDown => b'D',
            Self::ServerUp => b'U',
            Self::Internal => b'I',
        }
    }
}

impl Phase {
    pub fn letter(self) -> u8 {
        match self {
            Self::Done => b'-',
            Self::Request => b'R',
            Self::Queue => b'Q',
            Self::Connect => b'C',
            Self::Headers => b'H',
            Self::Data => b'D',
            Self::Last => b'L',
            Self::Tarpit => b'T',
        }
    }
}

/// Whether an exchange is one of bytes, and what rules know of a request in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    No,
    /// They may be the beginning of one.
    Open,
    /// They are one, or none.
    Settled,
}

/// What the client side of a connection is, for all its requests. Tens of thousands of them wait for the next one: what most have not is in boxes.
pub struct ClientInfo {
    pub src: Option<SocketAddr>,
    pub dst: Option<SocketAddr>,
    pub tls: Option<Box<TlsInfo>>,
    /// Variables of the session, while no exchange is under way.
    pub vars: std::cell::Cell<Option<Box<Variables>>>,
    /// What a PROXY header said.
    pub proxied: Option<Box<crate::wire::proxy::Header>>,
    pub accepted: Instant,
    pub accepted_at: SystemTime,
    pub handshake_ms: u32,
    /// Its socket, which is open as long as this is; none of unix sockets.
    pub fd: Option<std::os::fd::RawFd>,
    /// Which of the frontend's listeners accepted it.
    pub listener: u32,
    pub id: u64,
}

/// Names and values.
pub type Variables = Vec<(String, Vec<u8>)>;

/// What a handshake came to.
pub struct TlsInfo {
    pub version: &'static str,
    pub cipher: &'static str,
    pub sni: Option<String>,
    pub alpn: Option<Vec<u8>>,
}

impl ClientInfo {
    /// Takes over what a header in front of the stream says of the addresses.
    pub fn say(&mut self, pair: Option<(SocketAddr, SocketAddr)>) {
        if let Some((src, dst)) = pair {
            (self.src, self.dst) = (Some(src), Some(dst));
        }
    }
}

/// Milliseconds from one instant to another. Many of them are one reading of the clock.
fn ms(a: Instant, b: Instant) -> i64 {
    match a == b {
        true => 0,
        false => i64::try_from(b.saturating_duration_since(a).as_millis()).unwrap_or(i64::MAX),
    }
}

/// Room that an exchange keeps for the client's next one, in bytes a buffer.
const KEPT_ROOM: usize = 4096;

/// One exchange: everything rules and logs may ask for.
pub struct Exchange<'a> {
    pub client: &'a ClientInfo,
    pub fe: Arc<ProxyNode>,
    pub be: Option<Arc<ProxyNode>>,
    pub server: Option<usize>,
    pub req: Head,
    pub res: Head,
    pub vars: Variables,
    pub started: Instant,
    pub started_at: SystemTime,
    pub got_request: Option<Instant>,
    pub queued_at: Option<Instant>,
    pub assigned: Option<Instant>,
    pub connected: Option<Instant>,
    pub responded: Option<Instant>,
    pub status: i32,
    /// Bytes of the body that are there beside the head that rules work on.
    pub buffered: usize,
    /// A rewrite that finds no room ends the exchange (`strict-mode`).
    pub strict: bool,
    /// Answers 103 that go out before anything else; the last one may lack its end.
    pub early: Vec<u8>,
    /// Where in `early` an answer begins that lacks its end.
    pub early_open: Option<usize>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// As they came and went: from the client, to the server, from the server, to the client.
    pub wire: [u64; 4],
    /// The connection to the server has carried a request before; none if there is none.
    pub reused: Option<bool>,
    /// Those of them that were spliced: requests, answers.
    pub spliced: [u64; 2],
    pub cause: Cause,
    pub phase: Phase,
    pub cookie: [u8; 2],
    pub retries: u64,
    pub redispatched: bool,
    /// `force-persist`: a server that is down may be used if persistence wants it.
    pub force_persist: bool,
    /// `ignore-persist`: its cookie counts for nothing, and it gets none.
    pub ignore_persist: bool,
    /// When the client's cookie was last seen, and first, in seconds since 1970; 0 for unknown.
    pub cookie_dates: [u64; 2],
    /// `disable-l7-retry`
    pub no_retry: bool,
    /// `use-server` chose the server.
    pub by_rule: bool,
    /// The parameter of its body that decides about the server (`balance url_param ... check_post`).
    pub posted: Option<Vec<u8>>,
    pub queues: [u64; 2],
    /// `set-priority-class`, and `set-priority-offset` in milliseconds.
    pub priority: (i16, i32),
    /// The process is to end.
    stopping: &'a AtomicBool,
    /// What packets to the server are to carry.
    pub packets: crate::net::sockopt::Packets,
    pub first: bool,
    /// Cut to what logs keep of it.
    pub request_line: Vec<u8>,
    pub asked_head: bool,
    /// The socket of the server's connection, while that is this exchange's: none before it is made, and from before it is given away.
    pub server_fd: Option<std::os::fd::RawFd>,
    pub backend_src: Option<SocketAddr>,
    pub server_addr: Option<SocketAddr>,
    pub tarpit: bool,
    pub coding: super::filters::Codings,
    pub cache: Option<Box<super::caching::Use>>,
    /// The answer that a cache has, and where.
    pub hit: Option<(Arc<crate::state::cache::Store>, Arc<crate::state::cache::Entry>)>,
    /// The answer on its way into a cache.
    pub draft: Option<super::caching::Tap>,
    /// `set-bandwidth-limit`: towards the server, and towards the client.
    pub pace: [Option<Box<crate::base::pace::Pace>>; 2],
    /// In place of a server, as logs name it: `<STATS>`, `<PROMEX>`.
    pub applet: Option<&'static str>,
    /// What `unique-id-format` made for this request.
    pub unique: Vec<u8>,
    /// What rules made of the addresses of client and frontend.
    pub src: Option<SocketAddr>,
    pub dst: Option<SocketAddr>,
    pub timeouts: Option<Box<super::rewrite::SetTimeouts>>,
    pub most_retries: Option<u64>,
    /// Captured headers of request and response, by slot.
    pub captured: [Vec<Option<Vec<u8>>>; 2],
    pub captured_cookies: [Vec<u8>; 2],
    /// Room for rules to render into.
    pub scratch: Vec<u8>,
    /// Bytes of a stream that rules look into before it is forwarded, and whether the wait for more is over.
    pub peeked: Vec<u8>,
    pub peek_over: bool,
    pub raw: Raw,
    /// What came in of a server's bytes that rules look into, and that it will be no more.
    pub answered: Vec<u8>,
    pub answer_over: bool,
    /// At least one byte of the request came.
    pub begun: bool,
    /// Its line is written.
    pub(super) logged: bool,
    pub level: super::logging::Level,
}

impl<'a> Exchange<'a> {
    pub fn new(client: &'a ClientInfo, fe: Arc<ProxyNode>, t: &'a Thread, first: bool) -> Self {
        Self {
            client,
            fe,
            be: None,
            server: None,
            req: t.take_head(),
            res: t.take_head(),
            vars: client.vars.take().map(|v| *v).unwrap_or_default(),
            started: client.accepted,
            started_at: client.accepted_at,
            got_request: None,
            queued_at: None,
            assigned: None,
            connected: None,
            responded: None,
            status: -1,
            bytes_in: 0,
            bytes_out: 0,
            cause: Cause::Normal,
            phase: Phase::Done,
            cookie: *b"--",
            retries: 0,
            redispatched: false,
            force_persist: false,
            ignore_persist: false,
            cookie_dates: [0; 2],
            no_retry: false,
            by_rule: false,
            posted: None,
            queues: [0; 2],
            priority: (0, 0),
            stopping: &t.shared.live.stopping,
            packets: crate::net::sockopt::Packets::default(),
            first,
            request_line: Vec::new(),
            asked_head: false,
            wire: [0; 4],
            reused: None,
            spliced: [0; 2],
            buffered: 0,
            strict: true,
            early: Vec::new(),
            early_open: None,
            server_fd: None,
            backend_src: None,
            server_addr: None,
            tarpit: false,
            cache: None,
            hit: None,
            draft: None,
            coding: super::filters::Codings::default(),
            pace: [None, None],
            applet: None,
            unique: Vec::new(),
            src: client.src,
            dst: client.dst,
            timeouts: None,
            most_retries: None,
            captured: Default::default(),
            captured_cookies: Default::default(),
            scratch: Vec::new(),
            peeked: Vec::new(),
            peek_over: true,
            raw: Raw::No,
            answered: Vec::new(),
            answer_over: true,
            begun: false,
            logged: false,
            level: super::logging::Level::Usual,
        }
    }

    /// Makes it as [`new`](Self::new) would for another request of this client: nothing of the last one is left but variables of the session, and room.
    pub fn reset(&mut self) {
        // Whoever adds a field says here what becomes of it.
        let Self {
            client,
            fe: _,
            be,
            server,
            req,
            res,
            vars,
            started,
            started_at,
            got_request,
            queued_at,
            assigned,
            connected,
            responded,
            status,
            buffered,
            strict,
            early,
            early_open,
            bytes_in,
            bytes_out,
            wire,
            reused,
            spliced,
            cause,
            phase,
            cookie,
            retries,
            redispatched,
            force_persist,
            ignore_persist,
            cookie_dates,
            no_retry,
            by_rule,
            posted,
            queues,
            priority,
            stopping: _,
            packets,
            first: _,
            request_line,
            asked_head,
            server_fd,
            backend_src,
            server_addr,
            tarpit,
            coding,
            cache,
            hit,
            draft,
            pace,
            applet,
            unique,
            src,
            dst,
            timeouts,
            most_retries,
            captured,
            captured_cookies,
            scratch,
            peeked,
            peek_over,
            raw,
            answered,
            answer_over,
            begun,
            logged,
            level,
        } = self;
        for head in [req, res] {
            head.clear();
            head.release();
        }
        vars.retain(|(n, _)| n.starts_with("sess."));
        for room in [request_line, scratch, peeked, answered, early, unique] {
            room.clear();
            if room.capacity() > KEPT_ROOM {
                *room = Vec::new();
            }
        }
        (*be, *server, *posted, *timeouts, *most_retries, *applet) = (None, None, None, None, None, None);
        (*cache, *hit, *draft, *pace) = (None, None, None, [None, None]);
        (*started, *started_at, *src, *dst) = (client.accepted, client.accepted_at, client.src, client.dst);
        (*got_request, *queued_at, *assigned, *connected, *responded) = (None, None, None, None, None);
        (*status, *buffered, *strict, *early_open) = (-1, 0, true, None);
        (*bytes_in, *bytes_out, *wire, *spliced, *reused) = (0, 0, [0; 4], [0; 2], None);
        (*cause, *phase, *cookie, *cookie_dates) = (Cause::Normal, Phase::Done, *b"--", [0; 2]);
        (*retries, *redispatched, *no_retry, *queues, *priority) = (0, false, false, [0; 2], (0, 0));
        (*force_persist, *ignore_persist, *by_rule, *asked_head, *tarpit) = (false, false, false, false, false);
        (*server_fd, *backend_src, *server_addr) = (None, None, None);
        (*packets, *coding) = Default::default();
        captured.iter_mut().filter(|c| !c.is_empty()).for_each(Vec::clear);
        captured_cookies.iter_mut().for_each(Vec::clear);
        (*peek_over, *raw, *answer_over) = (true, Raw::No, true);
        (*begun, *logged, *level) = (false, false, super::logging::Level::Usual);
    }

    /// Gives the buffers back to the thread.
    pub fn recycle(mut self, t: &Thread) {
        self.vars.retain(|(n, _)| n.starts_with("sess."));
        if !self.vars.is_empty() {
            self.client.vars.set(Some(Box::new(self.vars)));
        }
        t.give_head(self.req);
        t.give_head(self.res);
        t.give_buf(self.request_line);
        t.give_buf(self.answered);
        t.give_buf(self.scratch);
        t.give_buf(self.peeked);
    }

    pub fn set_var(&mut self, name: &str, value: Vec<u8>) {
        match self.vars.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => *v = value,
            None => self.vars.push((name.to_owned(), value)),
        }
    }

    pub fn end(&mut self, cause: Cause, phase: Phase) {
        (self.cause, self.phase) = (cause, phase);
    }

    /// An applet answers: as one that took no time to reach.
    pub fn served_here(&mut self, t: &Thread) {
        let now = Some(t.fresh());
        (self.assigned, self.connected, self.responded) = (now, now, now);
    }

    pub fn backend(&self) -> &Arc<ProxyNode> {
        self.be.as_ref().unwrap_or(&self.fe)
    }

    /// Milliseconds in a queue, of connecting, until the answer, and of all since the request began; -1 where it did not come to that.
    fn shares(&self, end: Instant) -> [i64; 4] {
        let queue = match (self.got_request, self.assigned, self.queued_at) {
            (Some(g), Some(a), _) => ms(g, a),
            (Some(g), None, Some(_)) => ms(g, end),
            _ if self.tarpit => self.got_request.map_or(-1, |g| ms(g, end)),
            _ => -1,
        };
        let connect = self.connected.zip(self.assigned).map_or(-1, |(c, a)| ms(a, c));
        let response = self.responded.zip(self.connected).map_or(-1, |(r, c)| ms(c, r));
        [queue, connect, response, ms(self.started, end)]
    }

    pub(super) fn times(&self, end: Instant) -> Times {
        let [queue, connect, response, active] = self.shares(end);
        Times {
            handshake: self.client.handshake_ms.into(),
            idle: if self.first { 0 } else { -1 },
            request: self.got_request.filter(|_| !self.tarpit).map_or(-1, |g| ms(self.started, g)),
            queue,
            connect,
            response,
            data: self.responded.map_or(-1, |r| ms(r, end)),
            active,
            total: ms(self.client.accepted, end),
        }
    }

    /// Counts the end of the exchange and writes its log line.
    pub fn finish(&mut self, t: &Thread, tcp: bool) {
        let end = t.fresh();
        if !tcp {
            self.count_wire();
        }
        self.fe.live.front.add(Counter::BytesIn, self.bytes_in);
        self.fe.live.front.add(Counter::BytesOut, self.bytes_out);
        if self.fe.conf.options.socket_stats
            && let Some(l) = self.fe.listeners.get(self.client.listener as usize)
        {
            l.live.counters.add(Counter::BytesIn, self.bytes_in);
            l.live.counters.add(Counter::BytesOut, self.bytes_out);
        }
        t.shared.live.totals.add(Counter::BytesOut, self.bytes_out);
        let status = u16::try_from(self.status).unwrap_or(0);
        // Each request counts once, so that the classes add up to the requests; without a status it is one of the others.
        let counts = !tcp && (status > 0 || self.got_request.is_some());
        if counts {
            self.fe.live.front.http(status);
        }
        if let Some(be) = &self.be {
            be.live.back.add(Counter::BytesIn, self.bytes_in);
            be.live.back.add(Counter::BytesOut, self.bytes_out);
            if counts {
                be.live.back.http(status);
            }
            match self.cause {
                Cause::ClientAbort | Cause::ClientTimeout if self.server.is_some() => {
                    be.live.back.inc(Counter::ClientAborts)
                }
                Cause::ServerAbort | Cause::ServerTimeout if self.phase == Phase::Data => {
                    be.live.back.inc(Counter::ServerAborts)
                }
                _ => {}
            }
            if let Some(s) = self.server.map(|i| &be.servers[i]) {
                s.live.counters.add(Counter::BytesIn, self.bytes_in);
                s.live.counters.add(Counter::BytesOut, self.bytes_out);
                let all = self.shares(end).map(|v| u64::try_from(v).unwrap_or(0));
                s.live.times.record(all);
                be.live.times.record(all);
                match self.cause {
                    Cause::ClientAbort | Cause::ClientTimeout => s.live.counters.inc(Counter::ClientAborts),
                    Cause::ServerAbort | Cause::ServerTimeout if self.phase == Phase::Data => {
                        s.live.counters.inc(Counter::ServerAborts)
                    }
                    _ => {}
                }
            }
        }
        self.log_end(t, tcp, end);
    }

    /// A rule refused what the server said.
    pub(super) fn count_denied_response(&self) {
        let be = self.backend();
        self.fe.live.front.inc(Counter::DeniedResponses);
        be.live.back.inc(Counter::DeniedResponses);
        if let Some(s) = self.server.and_then(|i| be.servers.get(i)) {
            s.live.counters.inc(Counter::DeniedResponses);
        }
    }

    /// What a format makes of this exchange now.
    pub fn formatted(&self, t: &Thread, f: &crate::rules::logformat::LogFormat) -> Vec<u8> {
        let mut out = Vec::new();
        f.log(&self.record(t, self.times(t.fresh())), &mut out);
        out
    }

    pub(super) fn record<'r>(&'r self, t: &Thread, times: Times) -> Record<'r> {
        let (fe, be) = (&self.fe, self.backend());
        let sinks = &fe.sinks;
        let live = &t.shared.live;
        // The counters are those after this session: its own share is taken off once it is closed.
        let srv = self.server.map(|i| &be.servers[i]);
        Record {
            traffic: self,
            accepted: self.client.accepted_at,
            requested: self.started_at,
            utc_offset: sinks.utc_offset,
            times,
            status: self.status,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            flags: [self.cause.letter(), self.phase.letter(), self.cookie[0], self.cookie[1]],
            conns: [
                live.conns.get(),
                fe.live.front_conns.get(),
                self.be.as_ref().map_or(0, |b| b.live.back_sessions.get()),
                srv.map_or(0, |s| s.live.sessions.get()),
                self.retries,
            ],
            redispatched: self.redispatched,
            queues: self.queues,
            asap: fe.log_at < Stage::End,
            backend_src: self.backend_src,
            server_addr: self.server_addr,
            request_line: &self.request_line,
            captured: [&self.captured[0], &self.captured[1]],
            slots: [fe.conf.captures.request.len(), fe.conf.captures.response.len()],
            captured_cookies: [&self.captured_cookies[0], &self.captured_cookies[1]],
            pid: sinks.pid,
            hostname: fe.log_hostname.as_deref().unwrap_or_default(),
            tls: self.client.tls.as_ref().map(|t| (t.version, t.cipher)),
            tls_frontend: self.client.tls.is_some(),
            request_counter: self.client.id,
            log_counter: if fe.counts_lines { fe.live.lines.load(Relaxed) } else { 0 },
            origin: "txn_close",
        }
    }

    /// `unique-id-format`, once a request.
    pub fn make_unique(&mut self, t: &Thread, f: &crate::rules::logformat::LogFormat) {
        let mut id = std::mem::take(&mut self.unique);
        id.clear();
        f.log(&self.record(t, self.times(t.fresh())), &mut id);
        self.unique = id;
    }
}

impl Exchange<'_> {
    fn count_wire(&self) {
        let front = &self.fe.live.front;
        front.inc(Counter::Ended);
        front.add(Counter::H1In, self.wire[0]);
        front.add(Counter::H1Out, self.wire[3]);
        let back = self.be.as_ref().filter(|_| self.server.is_some()).map(|b| &b.live.back);
        if let Some(back) = back {
            back.add(Counter::H1In, self.wire[2]);
            back.add(Counter::H1Out, self.wire[1]);
        }
        if self.spliced != [0; 2] {
            front.add(Counter::H1SplicedIn, self.spliced[0]);
            front.add(Counter::H1SplicedOut, self.spliced[1]);
            if let Some(back) = back {
                back.add(Counter::H1SplicedIn, self.spliced[1]);
                back.add(Counter::H1SplicedOut, self.spliced[0]);
            }
        }
    }

    /// True if the client has asked for a head only, whatever rules have made of its method.
    pub fn is_head(&self) -> bool {
        self.asked_head
    }
}

impl Traffic for Exchange<'_> {
    fn src(&self) -> Option<SocketAddr> {
        self.src
    }
    fn dst(&self) -> Option<SocketAddr> {
        self.dst
    }
    fn server_ends(&self) -> [Option<SocketAddr>; 2] {
        let (Some(fd), None) = (self.server_fd, self.server_addr) else {
            return [self.backend_src, self.server_addr];
        };
        // SAFETY: see `server_fd`.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let s = socket2::SockRef::from(&fd);
        [s.local_addr(), s.peer_addr()].map(|a| a.ok().and_then(|a| a.as_socket()))
    }
    fn ends(&self) -> [Option<SocketAddr>; 2] {
        [self.client.src, self.client.dst]
    }
    fn ssl_fc(&self) -> bool {
        self.client.tls.is_some()
    }
    fn ssl_sni(&self) -> Option<&str> {
        self.client.tls.as_ref()?.sni.as_deref()
    }
    fn method(&self) -> &[u8] {
        self.req.method()
    }
    fn url(&self) -> &[u8] {
        self.req.target()
    }
    fn version(&self) -> &str {
        if self.req.minor == 0 { "1.0" } else { "1.1" }
    }
    fn header<'a>(&'a self, name: &str, from: HeadSide, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        let head = if from == HeadSide::Request { &self.req } else { &self.res };
        for (n, v) in head.headers() {
            if (name.is_empty() || n == name.as_bytes()) && visit(v) {
                return;
            }
        }
    }
    fn status(&self) -> u16 {
        u16::try_from(self.status).unwrap_or(0)
    }
    fn frontend(&self) -> &str {
        &self.fe.conf.name
    }
    fn backend(&self) -> &str {
        &self.backend().conf.name
    }
    fn server(&self) -> &str {
        match self.server {
            Some(i) => &self.backend().servers[i].conf.name,
            None => self.applet.unwrap_or("<NOSRV>"),
        }
    }
    fn gauge(&self, what: Gauge, proxy: Option<&str>, server: Option<&str>) -> Option<i64> {
        gauges::gauge(what, Some(&self.fe), self.backend(), proxy, server)
    }
    fn unique_id(&self) -> u64 {
        self.client.id
    }
    fn captured(&self, from: HeadSide, slot: usize) -> Option<&[u8]> {
        self.captured[usize::from(from == HeadSide::Response)].get(slot)?.as_deref()
    }
    fn number(&self, what: Number) -> Option<i64> {
        Some(match what {
            Number::FirstRequest => i64::from(self.first),
            Number::ListenerId => i64::from(self.fe.listeners.get(self.client.listener as usize)?.id),
            Number::FrontendId => i64::from(self.fe.iid),
            Number::BackendId => i64::from(self.backend().iid),
            Number::ServerId => i64::from(self.backend().servers.get(self.server?)?.sid),
            Number::ResponseMinor => i64::from(self.res.minor),
            Number::Timeout(timer, current) => {
                let (fe, be) = (&self.fe.conf.timeouts, &self.backend().conf.timeouts);
                let said = match timer {
                    Timer::Client => fe.client,
                    Timer::Connect => be.connect,
                    Timer::Queue => be.queue.or(be.connect),
                    Timer::Server => be.server,
                    Timer::Tarpit => be.tarpit.or(be.connect),
                    Timer::Tunnel => be.tunnel,
                };
                let set = self.timeouts.as_deref().filter(|_| current).and_then(|s| s.get(timer));
                i64::try_from(set.unwrap_or(said)?.as_millis()).ok()?
            }
            Number::IsHttp => i64::from(self.raw == Raw::No),
            Number::Reused => i64::from(self.reused?),
            Number::Tcp(side, what) => {
                let fd = if side == HeadSide::Request { self.client.fd } else { self.server_fd }?;
                // SAFETY: the exchange borrows its client, whose connection has the socket open; and see `server_fd`.
                crate::net::sockopt::fact(unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }, what)?
            }
            Number::Stopping => i64::from(self.stopping.load(Relaxed)),
            Number::PriorityClass => self.priority.0.into(),
            Number::PriorityOffset => self.priority.1.into(),
            Number::Now => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
                i64::try_from(now.as_secs()).ok()?
            }
            Number::Retries(current) => {
                let set = self.most_retries.filter(|_| current);
                i64::try_from(set.unwrap_or_else(|| u64::from(self.backend().conf.retries))).ok()?
            }
        })
    }
    fn cache_hit(&self) -> Option<&str> {
        self.hit.as_ref().map(|(c, _)| c.conf.name.as_str())
    }
    fn proxied(&self) -> Option<&crate::wire::proxy::Header> {
        self.client.proxied.as_deref()
    }
    fn compression(&self) -> Option<&'static str> {
        self.coding.response.map(crate::http::coding::Coding::name)
    }
    fn listener(&self) -> Option<&str> {
        self.fe.listeners.get(self.client.listener as usize)?.conf.name.as_deref()
    }
    fn unique(&self) -> &[u8] {
        &self.unique
    }
    fn first_line(&self) -> [&[u8]; 3] {
        let mut words = self.request_line.split(|c| *c == b' ');
        let mut next = || words.next().unwrap_or_default();
        [next(), next(), next()]
    }
    fn answered(&self) -> (&[u8], bool) {
        (&self.answered, self.answer_over)
    }
    fn awaits_request(&self) -> bool {
        self.raw == Raw::Open && !self.peek_over
    }
    fn payload(&self) -> (&[u8], bool) {
        (&self.peeked, self.peek_over)
    }
    fn var(&self, name: &str) -> Option<&[u8]> {
        self.vars.iter().rev().find(|(n, _)| n == name).map(|(_, v)| &v[..])
    }
}
