//! Statistics as rows of named fields: the CSV, the page and the metrics are all made from these.
use crate::balance::Algorithm;
use crate::base::addr::Host;
use crate::config::model::Mode;
use crate::health::found::describe;
use crate::state::counters::{Counter, Counters};
use crate::state::live::{Doors, INHERITED_MAINT, Live, lock};
use crate::state::snapshot::{ListenerNode, ProxyNode, ServerNode, Snapshot};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// Columns of `show stat`, as HAProxy 3.5 orders them.
#[rustfmt::skip]
pub const COLUMNS: &[&str] = &[
    "pxname", "svname", "qcur", "qmax", "scur", "smax", "slim", "stot", "bin", "bout", "dreq", "dresp", "ereq", "econ", "eresp", "wretr", "wredis",
    "status", "weight", "act", "bck", "chkfail", "chkdown", "lastchg", "downtime", "qlimit", "pid", "iid", "sid", "throttle", "lbtot", "tracked", "type",
    "rate", "rate_lim", "rate_max", "check_status", "check_code", "check_duration", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx",
    "hrsp_other", "hanafail", "req_rate", "req_rate_max", "req_tot", "cli_abrt", "srv_abrt", "comp_in", "comp_out", "comp_byp", "comp_rsp", "lastsess",
    "last_chk", "last_agt", "qtime", "ctime", "rtime", "ttime", "agent_status", "agent_code", "agent_duration", "check_desc", "agent_desc", "check_rise",
    "check_fall", "check_health", "agent_rise", "agent_fall", "agent_health", "addr", "cookie", "mode", "algo", "conn_rate", "conn_rate_max", "conn_tot",
    "intercepted", "dcon", "dses", "wrew", "connect", "reuse", "cache_lookups", "cache_hits", "srv_icur", "src_ilim", "qtime_max", "ctime_max",
    "rtime_max", "ttime_max", "eint", "idle_conn_cur", "safe_conn_cur", "used_conn_cur", "need_conn_est", "uweight", "agg_server_status",
    "agg_server_check_status", "agg_check_status", "srid", "sess_other", "h1sess", "h2sess", "h3sess", "req_other", "h1req", "h2req", "h3req", "proto",
    "priv_idle_cur", "reqbin", "reqbout", "resbin", "resbout", "cache_hint_hits",
];

/// Answers by class.
const CLASSES: &[(&str, Counter)] = &[
    ("hrsp_1xx", Counter::Http1xx),
    ("hrsp_2xx", Counter::Http2xx),
    ("hrsp_3xx", Counter::Http3xx),
    ("hrsp_4xx", Counter::Http4xx),
    ("hrsp_5xx", Counter::Http5xx),
    ("hrsp_other", Counter::HttpOther),
];

/// Columns of protocols, behind the others: HAProxy's modules `h2`, `ssl` and `h1`.
#[rustfmt::skip]
pub const MODULES: &[&str] = &[
    "h2_headers_rcvd", "h2_data_rcvd", "h2_settings_rcvd", "h2_rst_stream_rcvd", "h2_goaway_rcvd", "h2_detected_conn_protocol_errors",
    "h2_detected_strm_protocol_errors", "h2_rst_stream_resp", "h2_goaway_resp", "h2_open_connections", "h2_backend_open_streams",
    "h2_total_connections", "h2_backend_total_streams", "ssl_sess", "ssl_reused_sess", "ssl_failed_handshake", "ssl_ocsp_staple",
    "ssl_failed_ocsp_staple", "h1_open_connections", "h1_open_streams", "h1_total_connections", "h1_total_streams", "h1_bytes_in", "h1_bytes_out",
    "h1_spliced_bytes_in", "h1_spliced_bytes_out",
];

/// What is left out (`show stat up`, `no-maint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hide {
    /// Servers that are down or in maintenance.
    pub down: bool,
    /// Servers in maintenance.
    pub maint: bool,
}

/// The rows that are wanted. Where servers are left out, backends say how many there are.
pub fn table(s: &Snapshot, hide: Hide, takes: impl Fn(&Row) -> bool) -> Vec<Row> {
    let mut all = rows(s);
    if hide != Hide::default() {
        let hidden = |r: &Row| {
            let status = r.get("status");
            let maint = status.starts_with("MAINT");
            r.kind == Kind::Server && (maint || hide.down && matches!(status, "DOWN" | "DOWN (agent)"))
        };
        for r in all.iter_mut().filter(|r| r.kind == Kind::Backend) {
            if let Some(p) = s.proxies.iter().find(|p| p.iid == r.iid) {
                let up = p.servers.iter().filter(|s| s.live.effective_weight() > 0).count();
                let status = format!("{} ({up}/{})", r.get("status"), p.servers.len());
                r.set("status", status);
            }
        }
        all.retain(|r| !hidden(r));
    }
    all.retain(takes);
    all
}

/// A table as CSV, its header included.
pub fn csv(rows: &[Row]) -> String {
    let mut out = format!("# {},-,{},\n", COLUMNS.join(","), MODULES.join(","));
    rows.iter().for_each(|r| r.csv(&mut out));
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Frontend,
    Backend,
    Server,
    Listener,
}

impl Kind {
    /// Number in the `type` column; the bit of `show stat <iid> <type> <sid>` is 1 shifted by it.
    pub fn number(self) -> u32 {
        match self {
            Self::Frontend => 0,
            Self::Backend => 1,
            Self::Server => 2,
            Self::Listener => 3,
        }
    }
}

pub struct Row {
    pub kind: Kind,
    pub iid: u32,
    pub sid: u32,
    pub proxy: String,
    pub name: String,
    fields: HashMap<&'static str, String>,
}

impl Row {
    pub fn get(&self, field: &str) -> &str {
        match field {
            "pxname" => &self.proxy,
            "svname" => &self.name,
            f => self.fields.get(f).map_or("", String::as_str),
        }
    }
    fn set(&mut self, field: &'static str, v: impl ToString) {
        self.fields.insert(field, v.to_string());
    }
    fn zeros(&mut self, fields: &[&'static str]) {
        for f in fields {
            self.fields.entry(f).or_insert_with(|| "0".to_owned());
        }
    }
    fn new(kind: Kind, p: &ProxyNode, sid: u32, name: &str) -> Self {
        let mut r =
            Self { kind, iid: p.iid, sid, proxy: p.conf.name.clone(), name: name.to_owned(), fields: HashMap::new() };
        r.set("pid", 1);
        r.set("iid", p.iid);
        r.set("sid", sid);
        r.set("type", kind.number());
        r.set("mode", if p.conf.mode == Mode::Http { "http" } else { "tcp" });
        r
    }
    fn bytes(&mut self, c: &Counters) {
        let (i, o) = (c.get(Counter::BytesIn), c.get(Counter::BytesOut));
        for (f, v) in [("bin", i), ("bout", o), ("reqbin", i), ("reqbout", i), ("resbin", o), ("resbout", o)] {
            self.set(f, v);
        }
    }
    fn responses(&mut self, c: &Counters) {
        for (f, k) in CLASSES {
            self.set(f, c.get(*k));
        }
    }
    fn filters(&mut self, c: &Counters) {
        use Counter as C;
        for (f, k) in [
            ("comp_in", C::CompressionIn),
            ("comp_out", C::CompressionOut),
            ("comp_byp", C::CompressionBypassed),
            ("comp_rsp", C::CompressedResponses),
            ("cache_lookups", C::CacheLookups),
            ("cache_hits", C::CacheHits),
            ("cache_hint_hits", C::CacheHintHits),
        ] {
            self.set(f, c.get(k));
        }
    }
    fn times(&mut self, avg: [u64; 4], max: [u64; 4]) {
        for (i, (a, m)) in
            [("qtime", "qtime_max"), ("ctime", "ctime_max"), ("rtime", "rtime_max"), ("ttime", "ttime_max")]
                .into_iter()
                .enumerate()
        {
            self.set(a, avg[i]);
            self.set(m, max[i]);
        }
    }
    /// What HTTP/1 connections of one side came to.
    fn h1(&mut self, c: &Counters, connections: (u64, u64), streams: u64) {
        for (f, v) in [
            ("h1_open_connections", connections.0),
            ("h1_open_streams", streams),
            ("h1_total_connections", connections.1),
            ("h1_total_streams", c.get(Counter::Requests)),
            ("h1_bytes_in", c.get(Counter::H1In)),
            ("h1_bytes_out", c.get(Counter::H1Out)),
            ("h1_spliced_bytes_in", c.get(Counter::H1SplicedIn)),
            ("h1_spliced_bytes_out", c.get(Counter::H1SplicedOut)),
        ] {
            self.set(f, v);
        }
    }
    fn ssl(&mut self, c: &Counters) {
        self.set("ssl_sess", c.get(Counter::SslSessions));
        self.set("ssl_failed_handshake", c.get(Counter::FailedHandshakes));
        self.zeros(&["ssl_reused_sess", "ssl_ocsp_staple", "ssl_failed_ocsp_staple"]);
    }
    fn csv(&self, out: &mut String) {
        for c in COLUMNS.iter().chain(&["-"]).chain(MODULES) {
            let v = if *c == "-" { "-" } else { self.get(c) };
            if v.contains([',', '"', '\n']) {
                out.push('"');
                out.push_str(&v.replace('"', "\"\""));
                out.push('"');
            } else {
                out.push_str(v);
            }
            out.push(',');
        }
        out.push('\n');
    }
}

/// Every row, in the order of the file.
pub fn rows(s: &Snapshot) -> Vec<Row> {
    let mut out = Vec::new();
    for p in s.proxies.iter().filter(|p| p.conf.mode != Mode::Syslog) {
        if p.conf.is_frontend() {
            out.push(frontend(p));
            if p.conf.options.socket_stats {
                out.extend(p.listeners.iter().map(|l| listener(p, l)));
            }
        }
        if p.conf.is_backend() {
            out.extend(p.servers.iter().map(|s| server(p, s)));
            out.push(backend(p));
        }
    }
    out
}

pub fn frontend(p: &ProxyNode) -> Row {
    let (l, c) = (&p.live, &p.live.front);
    let mut r = Row::new(Kind::Frontend, p, 0, "FRONTEND");
    let doors = l.doors();
    let stopped = p.conf.disabled || l.stopped.load(Relaxed) || doors == Doors::Shut;
    r.set(
        "status",
        if stopped {
            "STOP"
        } else if doors == Doors::Paused {
            "PAUSED"
        } else {
            "OPEN"
        },
    );
    r.set("scur", l.front_conns.get());
    r.set("smax", l.front_conns.max());
    r.set("slim", l.maxconn.get());
    r.set("stot", c.get(Counter::Sessions));
    r.set("conn_tot", c.get(Counter::Sessions));
    r.bytes(c);
    r.set("dreq", c.get(Counter::DeniedRequests));
    r.set("dresp", c.get(Counter::DeniedResponses));
    r.set("ereq", c.get(Counter::RequestErrors));
    r.set("dcon", c.get(Counter::DeniedConnections));
    r.set("rate", l.front_rate.get());
    r.set("rate_max", l.front_rate.max());
    r.set("conn_rate", l.front_rate.get());
    r.set("conn_rate_max", l.front_rate.max());
    if p.conf.mode == Mode::Http {
        r.responses(c);
        r.set("intercepted", c.get(Counter::Intercepted));
        r.filters(c);
    }
    // Bytes may become requests.
    r.set("req_rate", l.req_rate.get());
    r.set("req_rate_max", l.req_rate.max());
    r.set("req_tot", c.get(Counter::Requests));
    r.set("h1sess", c.get(if p.conf.mode == Mode::Http { Counter::Sessions } else { Counter::Upgrades }));
    r.set("h1req", c.get(Counter::Requests));
    r.set("wrew", c.get(Counter::FailedRewrites));
    r.set("eint", c.get(Counter::InternalErrors));
    r.set("rate_lim", l.sessions.limit.get());
    r.zeros(&["dses", "sess_other", "h2sess", "h3sess", "req_other", "h2req", "h3req"]);
    if p.conf.mode == Mode::Http {
        let streams = c.get(Counter::Begun).saturating_sub(c.get(Counter::Ended));
        r.h1(c, (l.front_conns.get(), c.get(Counter::Sessions)), streams);
    }
    r.ssl(c);
    r.zeros(&MODULES[..13]);
    r.zeros(&MODULES[18..]);
    r
}

pub fn listener(p: &ProxyNode, l: &ListenerNode) -> Row {
    let c = &l.live.counters;
    let mut r = Row::new(Kind::Listener, p, l.id, &l.name);
    r.set("status", if p.live.is_open() { "OPEN" } else { "WAITING" });
    r.set("scur", l.live.conns.get());
    r.set("smax", l.live.conns.max());
    r.set("slim", l.conf.maxconn);
    r.set("stot", c.get(Counter::Sessions));
    r.set("conn_tot", c.get(Counter::Sessions));
    r.bytes(c);
    r.set("addr", &l.conf.addr);
    r.set("proto", if l.conf.addr.to_string().starts_with('[') { "tcpv6" } else { "tcpv4" });
    r.zeros(&["dreq", "dresp", "ereq", "dcon", "dses", "wrew", "eint"]);
    r.ssl(c);
    r
}

/// `UP`, `DOWN`, `MAINT`, `DRAIN`, `no check`, with the way to the next state in between.
pub fn server_status(s: &ServerNode) -> String {
    let l = &s.live;
    if l.in_maintenance() {
        let why = if l.admin() & crate::state::live::RESOLUTION_MAINT != 0 { " (resolution)" } else { "" };
        if let (0, Some((b, n))) = (l.admin() & !(INHERITED_MAINT | crate::state::live::CONFIG_MAINT), &s.conf.track) {
            return format!("MAINT (via {b}/{n})");
        }
        return format!("MAINT{why}");
    }
    let agent = s.conf.agent.wanted && l.agent.enabled.load(Relaxed);
    if !l.is_up() && agent && !l.agent.up.load(Relaxed) {
        return "DOWN (agent)".into();
    }
    if !l.is_up() {
        let (h, rise) = (l.health().count(), s.conf.health.rise);
        return if h == 0 || !s.conf.check { "DOWN".into() } else { format!("DOWN {h}/{rise}") };
    }
    let word = match (l.stopping(), l.draining()) {
        (true, _) => "NOLB",
        (_, true) if agent => return "DRAIN (agent)".into(),
        (_, true) => "DRAIN",
        _ => "UP",
    };
    if s.conf.track.is_some() {
        return word.into();
    }
    if (!s.conf.check || !l.check_enabled.load(Relaxed)) && word == "UP" {
        return "no check".into();
    }
    let p = s.conf.health;
    let h = l.health().count();
    if h == p.rise + p.fall - 1 || lock(&l.check).is_none() {
        word.into()
    } else {
        format!("{word} {}/{}", h.saturating_sub(p.rise) + 1, p.fall)
    }
}

pub fn server(p: &ProxyNode, s: &ServerNode) -> Row {
    let (l, c) = (&s.live, &s.live.counters);
    let mut r = Row::new(Kind::Server, p, s.sid, &s.conf.name);
    r.set("qcur", l.queued.get());
    r.set("qmax", l.queued.max());
    r.set("scur", l.sessions.get());
    r.set("smax", l.sessions.max());
    let max = l.maxconn.load(Relaxed);
    if max > 0 {
        r.set("slim", max);
    }
    r.set("stot", c.get(Counter::Sessions));
    r.bytes(c);
    for (f, k) in [
        ("dresp", Counter::DeniedResponses),
        ("econ", Counter::ConnectErrors),
        ("eresp", Counter::ResponseErrors),
        ("wretr", Counter::Retries),
        ("wredis", Counter::Redispatches),
        ("lbtot", Counter::Chosen),
        ("cli_abrt", Counter::ClientAborts),
        ("srv_abrt", Counter::ServerAborts),
        ("connect", Counter::Connects),
        ("reuse", Counter::Reuses),
    ] {
        r.set(f, c.get(k));
    }
    let usable = l.effective_weight() > 0;
    r.set("status", server_status(s));
    r.set("weight", if l.draining() { 0 } else { l.weight() });
    r.set("uweight", l.weight());
    if usable && l.warmth() < 100 {
        r.set("throttle", l.warmth());
    }
    r.set("act", u8::from(usable && !s.conf.backup));
    r.set("bck", u8::from(usable && s.conf.backup));
    r.set("lastchg", l.since_change());
    if s.conf.check || s.conf.agent.wanted || s.conf.track.is_some() {
        r.set("downtime", l.downtime());
    }
    r.set("rate", l.rate.get());
    r.set("rate_max", l.rate.max());
    r.set("lastsess", l.last_session());
    r.times(l.times.averages(), l.times.maxima());
    if p.conf.mode == Mode::Http {
        r.responses(c);
        // Those that it answered, as there.
        r.set("req_tot", CLASSES.iter().map(|(_, k)| c.get(*k)).sum::<u64>());
    }
    if s.conf.check {
        r.set("chkfail", c.get(Counter::ChecksFailed));
        r.set("chkdown", c.get(Counter::ChecksDown));
        r.set("check_rise", s.conf.health.rise);
        r.set("check_fall", s.conf.health.fall);
        r.set("check_health", l.health().count());
        match &*lock(&l.check) {
            Some(k) => {
                r.set("check_status", k.found.status);
                if let Some(code) = k.found.code {
                    // A program that a signal ended has -1, which the reference shows without a sign.
                    r.set("check_code", code.cast_unsigned());
                }
                r.set("check_duration", k.took.as_millis());
                r.set("check_desc", describe(k.found.status));
                r.set("last_chk", k.found.info.replace('\n', " "));
            }
            None => r.set("check_status", "INI"),
        }
    }
    if s.conf.agent.wanted && l.agent.enabled.load(Relaxed) {
        r.set("agent_rise", 1);
        r.set("agent_fall", 1);
        r.set("agent_health", u8::from(l.agent.up.load(Relaxed)));
        let running = if l.agent.running.load(Relaxed) { "* " } else { "" };
        let last = lock(&l.agent.last);
        let (status, took) = last.as_ref().map_or(("INI", 0), |k| (k.found.status, k.took.as_millis()));
        r.set("agent_status", format!("{running}{status}"));
        r.set("agent_duration", took);
        r.set("agent_desc", describe(status));
        if let Some(k) = &*last {
            if let Some(code) = k.found.code {
                r.set("agent_code", code);
            }
            r.set("last_agt", k.found.info.replace('\n', " "));
        }
    }
    if s.conf.maxqueue > 0 {
        r.set("qlimit", s.conf.maxqueue);
    }
    r.set("addr", address(s));
    if let Some(k) = &s.conf.cookie {
        r.set("cookie", k);
    }
    let idle = l.idle();
    r.set("srv_icur", idle);
    r.set("idle_conn_cur", idle);
    r.set("used_conn_cur", l.sessions.get());
    r.set("wrew", c.get(Counter::FailedRewrites));
    r.set("eint", c.get(Counter::InternalErrors));
    r.set("need_conn_est", l.needed());
    r.zeros(&["safe_conn_cur", "srid", "priv_idle_cur"]);
    r.ssl(c);
    r
}

/// Address and port as the statistics show them.
pub fn address(s: &ServerNode) -> String {
    match (&s.conf.host, crate::proxy::server_address(s)) {
        (_, Some(a)) => a.to_string(),
        (Host::Unix(p), None) => p.clone(),
        (h, None) => h.to_string(),
    }
}

pub fn backend(p: &ProxyNode) -> Row {
    let (l, c) = (&p.live, &p.live.back);
    let mut r = Row::new(Kind::Backend, p, 0, "BACKEND");
    r.set("qcur", l.queued.get());
    r.set("qmax", l.queued.max());
    r.set("scur", l.back_sessions.get());
    r.set("smax", l.back_sessions.max());
    r.set("slim", p.fullconn);
    r.set("stot", c.get(Counter::Sessions));
    r.bytes(c);
    for (f, k) in [
        ("dreq", Counter::DeniedRequests),
        ("dresp", Counter::DeniedResponses),
        ("econ", Counter::ConnectErrors),
        ("eresp", Counter::ResponseErrors),
        ("wretr", Counter::Retries),
        ("wredis", Counter::Redispatches),
        ("lbtot", Counter::Chosen),
        ("cli_abrt", Counter::ClientAborts),
        ("srv_abrt", Counter::ServerAborts),
        ("connect", Counter::Connects),
        ("reuse", Counter::Reuses),
    ] {
        r.set(f, c.get(k));
    }
    let up =
        |backup: bool| p.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count();
    let mut weight = 0;
    p.candidates(|_, s| weight += s.live.effective_weight());
    let open = if l.unpublished.load(Relaxed) { " (UNPUB)" } else { "" };
    r.set("status", format!("{}{open}", if p.is_up() { "UP" } else { "DOWN" }));
    r.set("weight", weight);
    r.set("uweight", weight);
    r.set("act", up(false));
    r.set("bck", up(true));
    r.set("chkdown", p.servers.iter().map(|s| s.live.counters.get(Counter::ChecksDown)).sum::<u64>());
    r.set("lastchg", p.servers.iter().map(|s| s.live.since_change()).min().unwrap_or(0));
    r.set("rate", l.back_rate.get());
    r.set("rate_max", l.back_rate.max());
    let last = l.last_session.load(Relaxed);
    r.set(
        "lastsess",
        if last < 0 { -1 } else { i64::try_from(crate::state::live::now_ms() / 1000).unwrap_or(0) - last },
    );
    r.times(l.times.averages(), l.times.maxima());
    r.set("algo", p.conf.balance.unwrap_or(Algorithm::RoundRobin).name());
    if let Some(k) = &p.conf.cookie {
        r.set("cookie", &k.name);
    }
    if p.conf.mode == Mode::Http {
        r.responses(c);
        r.set("req_tot", c.get(Counter::Requests));
        r.filters(c);
    }
    r.set("wrew", c.get(Counter::FailedRewrites));
    r.set("eint", c.get(Counter::InternalErrors));
    r.zeros(&["downtime", "agg_server_status", "agg_server_check_status", "agg_check_status"]);
    if p.conf.mode == Mode::Http {
        let open = p.servers.iter().map(|s| s.live.sessions.get() + s.live.idle()).sum();
        r.h1(c, (open, c.get(Counter::Connects)), l.back_sessions.get());
    }
    r.ssl(c);
    r.zeros(&MODULES[..13]);
    r.zeros(&MODULES[18..]);
    r
}

/// `show info`: names and values in HAProxy's order.
pub fn info(s: &Snapshot, live: &Live) -> Vec<(&'static str, String)> {
    let up = live.started.elapsed().as_secs();
    let listeners: usize = s.proxies.iter().map(|p| p.listeners.len()).sum();
    let limits = &live.limits;
    let limit = limits.maxconn.get();
    let n = |v: u64| v.to_string();
    let z = || "0".to_owned();
    vec![
        ("Name", "HAProxy".into()),
        ("Version", super::VERSION.into()),
        ("Release_date", super::RELEASE_DATE.into()),
        ("Nbthread", live.threads.to_string()),
        ("Nbproc", "1".into()),
        ("Process_num", "1".into()),
        ("Pid", std::process::id().to_string()),
        ("Uptime", format!("{}d {}h{:02}m{:02}s", up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60)),
        ("Uptime_sec", n(up)),
        ("Memmax_MB", z()),
        ("PoolAlloc_MB", z()),
        ("PoolUsed_MB", z()),
        ("PoolFailed", z()),
        ("Ulimit-n", n(limit * 2 + 100)),
        ("Maxsock", n(limit * 2 + 100)),
        ("Maxconn", n(limit)),
        ("Hard_maxconn", n(s.maxconn.into())),
        ("CurrConns", n(live.conns.get())),
        ("CumConns", n(live.total_conns.load(Relaxed))),
        ("CumReq", n(live.totals.get(Counter::Requests))),
        ("MaxSslConns", z()),
        ("CurrSslConns", n(live.ssl_conns.get())),
        ("CumSslConns", n(live.total_ssl.load(Relaxed))),
        ("Maxpipes", if s.global.pipes.none { z() } else { n(s.global.pipes.most.unwrap_or(s.maxconn / 4).into()) }),
        ("PipesUsed", z()),
        ("PipesFree", z()),
        ("ConnRate", n(live.conn_rate.get())),
        ("ConnRateLimit", n(limits.connections.limit.get())),
        ("MaxConnRate", n(live.conn_rate.max())),
        ("SessRate", n(live.conn_rate.get())),
        ("SessRateLimit", n(limits.sessions.limit.get())),
        ("MaxSessRate", n(live.conn_rate.max())),
        ("SslRate", n(live.ssl_rate.get())),
        ("SslRateLimit", n(limits.tls.limit.get())),
        ("MaxSslRate", n(live.ssl_rate.max())),
        ("SslFrontendKeyRate", z()),
        ("SslFrontendMaxKeyRate", z()),
        ("SslFrontendSessionReuse_pct", z()),
        ("SslBackendKeyRate", z()),
        ("SslBackendMaxKeyRate", z()),
        ("SslCacheLookups", z()),
        ("SslCacheMisses", z()),
        ("CompressBpsIn", n(live.comp_rate_in.get())),
        ("CompressBpsOut", n(live.comp_rate_out.get())),
        ("CompressBpsRateLim", n(limits.compression.get())),
        ("Tasks", n(live.conns.get() + 1)),
        ("Run_queue", z()),
        ("Idle_pct", "100".into()),
        ("node", s.global.node.clone().unwrap_or_else(|| s.global.localpeer.clone())),
        ("Stopping", u8::from(live.stopping.load(Relaxed)).to_string()),
        ("Jobs", n(live.conns.get() + listeners as u64)),
        ("Unstoppable Jobs", z()),
        ("Listeners", listeners.to_string()),
        ("ActivePeers", z()),
        ("ConnectedPeers", z()),
        ("DroppedLogs", n(live.dropped_logs.load(Relaxed))),
        ("BusyPolling", z()),
        ("FailedResolutions", z()),
        ("TotalBytesOut", n(live.totals.get(Counter::BytesOut))),
        ("TotalSplicedBytesOut", n(live.spliced_bytes.load(Relaxed))),
        ("BytesOutRate", z()),
        ("DebugCommandsIssued", z()),
        ("CumRecvLogs", n(live.received_logs.load(Relaxed))),
        ("Build info", super::VERSION.into()),
        ("Memmax_bytes", z()),
        ("PoolAlloc_bytes", z()),
        ("PoolUsed_bytes", z()),
        ("Start_time_sec", n(live.started_at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs()))),
        ("Tainted", z()),
        ("TotalWarnings", z()),
        ("MaxconnReached", n(live.maxconn_reached.load(Relaxed))),
        ("BootTime_ms", z()),
        ("Niced_tasks", z()),
        ("CurrStreams", n(live.conns.get())),
        ("CumStreams", n(live.totals.get(Counter::Requests))),
        ("BlockedTrafficWarnings", z()),
        ("PatternsAdded", z()),
        ("PatternsFreed", z()),
        ("NbThreadGroups", "1".into()),
    ]
}
