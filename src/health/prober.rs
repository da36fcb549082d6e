//! Health checks and agent checks (configuration manual 5.2, `check`, `agent-check`): a task for each, on the worker's control thread.
use super::agent::{self, Reply};
use super::connect::{Link, Trouble, Wish, connect};
use super::dialect::{Dialect, Next as Say, Talk};
use super::found::Found;
use super::pulse::Probe as Question;
use super::script::{Around, MAX_ANSWER, Next, Run, Script};
use super::verdict::{Office, Which};
use super::{checkers, external, post};
use crate::config::model::CheckKind;
use crate::rules::gauge::Gauge;
use crate::rules::sample::{Number, Traffic};
use crate::state::gauges;
use crate::state::live::{Live, lock};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// The running checks of one snapshot; dropping it ends them.
pub struct Probes(Vec<JoinHandle<()>>);

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// An interval from here on is one that checks can be spread over (`SRV_CHK_INTER_THRES`).
const SHORT: Duration = Duration::from_secs(1);

/// Starts the checks of every server that has some, spread over the first interval.
pub fn start(snapshot: &Arc<Snapshot>, live: &Arc<Live>) -> Probes {
    // Outlives this snapshot: it ends at once if it runs already.
    tokio::task::spawn_local(post::deliver(live.clone()));
    let mut tasks = Vec::new();
    // Who tracks a server that was checked before the reload begins with what it is.
    let office = Office { snapshot, live };
    let tracks = snapshot.proxies.iter().flat_map(|p| &p.servers).filter_map(|s| s.conf.track.as_ref());
    let tracked: HashSet<(&str, &str)> = tracks.map(|(b, s)| (b.as_str(), s.as_str())).collect();
    for p in snapshot.proxies.iter().filter(|_| !tracked.is_empty()) {
        // Those behind it are told by it.
        let is =
            |s: &&ServerNode| s.conf.track.is_none() && tracked.contains(&(p.conf.name.as_str(), s.conf.name.as_str()));
        p.servers.iter().filter(is).for_each(|s| office.follow(p, s));
    }
    let backends = || snapshot.proxies.iter().filter(|p| p.conf.is_backend() && !p.conf.disabled);
    // All together are spread over the least interval that is not short; those with short ones do not hurry the others.
    let checked = |s: &ServerNode| s.conf.check || s.conf.agent.wanted;
    let all = || backends().flat_map(|p| &p.servers).filter(|s| checked(s));
    let least = all().map(|s| s.conf.inter).filter(|i| *i >= SHORT).min().unwrap_or_default();
    let (n, mut k) = (u32::try_from(all().count()).unwrap_or(u32::MAX).max(1), 0);
    for p in backends() {
        for i in (0..p.servers.len()).filter(|i| checked(&p.servers[*i])) {
            let s = &p.servers[i];
            let offset = least.max(s.conf.inter).mul_f64(f64::from(k) / f64::from(n));
            k += 1;
            let probe = Probe { p: p.clone(), i, snapshot: snapshot.clone(), live: live.clone() };
            if !s.conf.checkers.is_empty() {
                tasks.extend(checkers::start(p, i, snapshot, live));
                // Whoever added to its weight before may not be there any more.
                if !s.conf.checkers.iter().any(|c| matches!(c.probe, Question::Outside(_))) {
                    checkers::add_weight(&office, p, i, 0);
                }
            } else if s.conf.check {
                tasks.push(tokio::task::spawn_local(probe.clone().health(offset)));
            }
            if s.conf.agent.wanted {
                tasks.push(tokio::task::spawn_local(probe.agent(offset)));
            }
        }
    }
    for p in snapshot.proxies.iter().filter(|p| p.conf.virtual_server.is_some()) {
        // Nobody asks any more whether these are up.
        for s in p.servers.iter().filter(|s| !s.conf.check && !s.live.is_up()) {
            s.live.set_up(true);
            p.live.bump();
        }
        office.quorum(p, false);
    }
    Probes(tasks)
}

/// One server that is checked.
#[derive(Clone)]
struct Probe {
    p: Arc<ProxyNode>,
    i: usize,
    snapshot: Arc<Snapshot>,
    live: Arc<Live>,
}

impl Probe {
    fn server(&self) -> &ServerNode {
        &self.p.servers[self.i]
    }

    fn office(&self) -> Office<'_> {
        Office { snapshot: &self.snapshot, live: &self.live }
    }

    /// `timeout check`, unless it is not said.
    fn check_timeout(&self) -> Option<Duration> {
        self.p.conf.timeouts.check.map(|c| c.max(Duration::from_millis(1)))
    }

    /// How long a connection may take, `inter` being what it is for this check.
    fn connect_limit(&self, inter: Duration) -> Instant {
        let t = &self.p.conf.timeouts;
        let limit = match (t.check, t.connect) {
            (Some(_), Some(c)) => inter.min(c),
            _ => inter,
        };
        Instant::now() + limit
    }

    /// Waits for the first turn: `offset` from now, or when the check was due that went before.
    async fn await_turn(&self, which: Which, offset: Duration) {
        let s = self.server();
        let inter = match which {
            Which::Health => s.conf.inter,
            Which::Agent => s.conf.agent.inter.unwrap_or(s.conf.inter),
        };
        let now = Instant::now();
        // What was never asked keeps its first turn, however often everything begins anew.
        let due = *lock(&s.live.due[which as usize]).get_or_insert(now + offset);
        sleep_until(due.min(now + inter.max(offset))).await;
    }

    async fn health(self, offset: Duration) {
        let s = self.server();
        // A server that was checked before keeps its state and its rhythm.
        self.await_turn(Which::Health, offset).await;
        loop {
            if s.live.in_maintenance() || !s.live.check_enabled.load(Relaxed) {
                // When it is wanted again, it has its own turn.
                *lock(&s.live.due[Which::Health as usize]) = Some(Instant::now() + s.conf.inter);
                sleep(s.conf.inter).await;
                continue;
            }
            let begin = Instant::now();
            let found = self.check().await;
            // It may have been put into maintenance meanwhile: nobody asks any more.
            if !s.live.in_maintenance() && s.live.check_enabled.load(Relaxed) {
                self.office().checked(&self.p, self.i, Which::Health, found, begin.elapsed());
            }
            let params = s.conf.health;
            let inter = match s.live.health().count() {
                c if c == params.rise + params.fall - 1 => s.conf.inter,
                0 if !s.live.is_up() => s.conf.downinter.unwrap_or(s.conf.inter),
                _ => s.conf.fastinter.unwrap_or(s.conf.inter),
            };
            let next = Instant::now() + inter.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
            *lock(&s.live.due[Which::Health as usize]) = Some(next);
            tokio::select! {
                () = sleep_until(next) => {}
                () = s.live.suspicion.notified(), if s.conf.observe.is_some() => {
                    if s.live.is_suspected() && s.live.is_up() {
                        self.office().suspect(&self.p, self.i);
                    }
                    let soon = s.conf.fastinter.unwrap_or(s.conf.inter);
                    sleep_until(next.min(Instant::now() + soon)).await;
                }
            }
        }
    }

    async fn check(&self) -> Found {
        let (p, s) = (&self.p, self.server());
        let (kind, script) = p.conf.check_of(&s.conf);
        match kind {
            CheckKind::Tcp | CheckKind::TcpRules | CheckKind::HttpRules => self.script(script).await,
            CheckKind::SslHello => match self.link(Wish { tls: false, ..Wish::of_server(s) }).await {
                Ok((link, limit)) => ssl_hello(link, limit).await,
                Err(f) => f,
            },
            CheckKind::Dialect(d) => match self.link(Wish::of_server(s)).await {
                Ok((link, limit)) => dialect(link, d, limit).await,
                Err(f) => f,
            },
            CheckKind::External => external::run(p, s, &self.snapshot, self.connect_limit(s.conf.inter)).await,
        }
    }

    /// A connection, and how long what follows may take.
    async fn link(&self, w: Wish) -> Result<(Link, Instant), Found> {
        let limit = self.connect_limit(self.server().conf.inter);
        let link = connect(&self.p, self.server(), w, limit).await.map_err(|t| Found::new(t.0, 0, t.1))?;
        Ok((link, self.check_timeout().map_or(limit, |c| Instant::now() + c)))
    }

    async fn script(&self, script: &Script) -> Found {
        let s = self.server();
        let traffic = Backend { p: &self.p, s };
        let state = state_header(&self.snapshot, &self.p, s);
        let around = Around { traffic: &traffic, state: &state, stopped: !s.live.is_up() };
        let mut run = Run::new(script);
        let mut link: Option<Link> = None;
        let mut limit = self.connect_limit(s.conf.inter);
        loop {
            match run.go_on(&around) {
                Next::Done(f) => return f,
                Next::Connect(c, port) => {
                    drop(link.take());
                    let mut wish = Wish::of_step(s, c, port);
                    if c.implicit && wish.sni.is_none() && s.conf.check_sni_auto {
                        wish.sni = run.host(&around);
                    }
                    limit = self.connect_limit(s.conf.inter);
                    match connect(&self.p, s, wish, limit).await {
                        Ok(l) => {
                            run.connected(l.tls);
                            link = Some(l);
                        }
                        Err(Trouble(status, cause)) => return run.stuck(status, &cause),
                    }
                    if let Some(c) = self.check_timeout() {
                        limit = Instant::now() + c;
                    }
                }
                Next::Send(bytes) => {
                    let Some(l) = &mut link else { return Found::bare("SOCKERR") };
                    // A server that does not take it may have said why.
                    if timeout_at(limit, l.io.write_all(&bytes)).await.is_err() {
                        return run.stuck("L7TOUT", "");
                    }
                }
                Next::Read => {
                    let Some(l) = &mut link else { return Found::bare("SOCKERR") };
                    let mut buf = [0; 4096];
                    match timeout_at(limit, l.io.read(&mut buf)).await {
                        Ok(n) => run.received(&buf[..n.unwrap_or(0)]),
                        Err(_) => return run.stuck("L7TOUT", ""),
                    }
                }
            }
        }
    }

    async fn agent(self, offset: Duration) {
        let s = self.server();
        let inter = s.conf.agent.inter.unwrap_or(s.conf.inter);
        // Whoever asked it before was cut short.
        s.live.agent.running.store(false, Relaxed);
        self.await_turn(Which::Agent, offset).await;
        loop {
            if s.live.agent.enabled.load(Relaxed) {
                let begin = Instant::now();
                s.live.agent.running.store(true, Relaxed);
                let said = self.ask_agent(inter).await;
                s.live.agent.running.store(false, Relaxed);
                let took = begin.elapsed();
                match said {
                    // What was asked before it was disabled counts no more.
                    _ if !s.live.agent.enabled.load(Relaxed) => {}
                    Ok(reply) => self.office().agent_said(&self.p, self.i, &reply, took),
                    Err(Some(f)) => self.office().checked(&self.p, self.i, Which::Agent, f, took),
                    Err(None) => {}
                }
                let next = begin + inter.max(took + Duration::from_millis(1));
                *lock(&s.live.due[Which::Agent as usize]) = Some(next);
                sleep_until(next).await;
            } else {
                sleep(inter).await;
            }
        }
    }

    /// The agent's line; else what went wrong, or nothing if that changes nothing.
    async fn ask_agent(&self, inter: Duration) -> Result<Reply, Option<Found>> {
        let s = self.server();
        let a = &s.conf.agent;
        let set = *lock(&s.live.agent.addr);
        let port = Some(s.live.agent.port.load(Relaxed)).filter(|p| *p > 0).and_then(|p| u16::try_from(p).ok());
        let ip = set.or(a.addr).or(s.conf.check_addr);
        let wish =
            Wish { port: port.or(a.port).or(s.conf.check_port), addr: ip.map(|ip| (ip, None)), ..Wish::default() };
        let limit = self.connect_limit(inter);
        let mut link = connect(&self.p, s, wish, limit).await.map_err(|t| Some(Found::new(t.0, 0, t.1)))?;
        let limit = self.check_timeout().map_or(limit, |c| Instant::now() + c);
        let send = lock(&s.live.agent.send).clone().unwrap_or_else(|| a.send.clone());
        let late = |_| Some(Found::bare("L7TOUT"));
        if !send.is_empty() {
            let _ = timeout_at(limit, link.io.write_all(&send)).await.map_err(late)?;
        }
        let mut seen = Vec::new();
        loop {
            if let Some(end) = agent::line_end(&seen) {
                return Ok(Reply::parse(&seen[..end]));
            }
            let mut buf = [0; 1024];
            match timeout_at(limit, link.io.read(&mut buf)).await.map_err(late)? {
                Ok(n @ 1..) if seen.len() < MAX_ANSWER => seen.extend_from_slice(&buf[..n]),
                _ if seen.is_empty() => {
                    return Err(Some(Found::new("L7RSP", 0, "TCPCHK got an empty response at step 2")));
                }
                _ => {
                    let status = lock(&s.live.agent.last).as_ref().map(|c| c.found.status);
                    return Err(status.map(|s| Found::new(s, 0, "Ignoring incomplete line from agent")).filter(|f| {
                        // Nothing changes but what is said of it.
                        f.outcome() == super::found::Outcome::Neutral
                    }));
                }
            }
        }
    }
}

/// `UP 1/2; address=...`: what `http-check send-state` says.
fn state_header(snapshot: &Snapshot, p: &ProxyNode, s: &ServerNode) -> String {
    let l = &s.live;
    let (h, params) = (l.health().count(), s.conf.health);
    let word = match (s.conf.check, l.is_up(), l.stopping()) {
        (false, ..) => "no check".to_owned(),
        (_, false, _) if h == 0 => "DOWN".to_owned(),
        (_, false, _) => format!("DOWN {h}/{}", params.rise),
        (_, true, stopping) => {
            let word = if stopping { "NOLB" } else { "UP" };
            match h.saturating_sub(params.rise) + 1 {
                n if n >= params.fall => word.to_owned(),
                n => format!("{word} {n}/{}", params.fall),
            }
        }
    };
    let addr = crate::proxy::server_address(s);
    let total: u32 = {
        let mut sum = 0;
        p.candidates(|_, s| sum += s.live.effective_weight());
        sum
    };
    let node = snapshot.global.node.clone().unwrap_or_else(|| snapshot.global.localpeer.clone());
    let mut text = format!(
        "{word}; address={}; port={}; name={}/{}; node={node}; weight={}/{total}; scur={}/{}; qcur={}",
        addr.map_or_else(|| s.conf.host.to_string(), |a| a.ip().to_string()),
        addr.map_or(0, |a| a.port()),
        p.conf.name,
        s.conf.name,
        l.effective_weight(),
        l.sessions.get(),
        p.live.back_sessions.get(),
        l.queued.get()
    );
    if l.is_up() && l.warmth() < 100 {
        text.push_str(&format!("; throttle={}%", l.warmth().max(1)));
    }
    text
}

/// A conversation in the server's own protocol.
pub(super) async fn dialect(mut link: Link, d: &Dialect, limit: Instant) -> Found {
    let mut talk = Talk::new(d);
    let (mut seen, mut closed) = (Vec::new(), false);
    loop {
        match talk.go_on(&mut seen, closed) {
            // A server that does not take it may have said why.
            Say::Send(bytes) => {
                if timeout_at(limit, link.io.write_all(&bytes)).await.is_err() {
                    return Found::bare("L7TOUT");
                }
            }
            Say::Done(f) => return f,
            Say::Read => {
                let mut buf = [0u8; 4096];
                match timeout_at(limit, link.io.read(&mut buf)).await {
                    Err(_) => return Found::bare("L7TOUT"),
                    Ok(Ok(n @ 1..)) if seen.len() < MAX_ANSWER => seen.extend_from_slice(&buf[..n]),
                    Ok(_) => closed = true,
                }
            }
        }
    }
}

/// Sends the start of a TLS handshake and wants to see the start of an answer.
async fn ssl_hello(mut link: Link, limit: Instant) -> Found {
    // A hello as old as they come, with suites that everybody knew: even who refuses it answers, and it is no use to anybody else.
    let suites = [0, 0x0a, 0, 0x09, 0, 0x64, 0, 0x62, 0, 3, 0, 6, 0, 5, 0, 4, 0, 0x2f, 0, 0x35];
    let mut hello = vec![0x16, 3, 0, 0, 63, 1, 0, 0, 59, 3, 0];
    hello.extend_from_slice(&[0x5a; 32]);
    hello.extend_from_slice(&[0, 0, 20]);
    hello.extend_from_slice(&suites);
    hello.extend_from_slice(&[1, 0]);
    let asked = async {
        let mut first = [0u8; 1];
        link.io.write_all(&hello).await?;
        link.io.read_exact(&mut first).await?;
        std::io::Result::Ok(first[0])
    };
    match timeout_at(limit, asked).await {
        Err(_) => Found::bare("L6TOUT"),
        // A handshake record or an alert: either way it speaks TLS.
        Ok(Ok(0x15 | 0x16)) => Found::bare("L6OK"),
        Ok(Ok(_)) => Found::bare("L6RSP"),
        Ok(Err(_)) => Found::new("L6RSP", 0, "TCPCHK got an empty response at step 2"),
    }
}

/// What expressions of checks see beside the answer.
struct Backend<'a> {
    p: &'a ProxyNode,
    s: &'a ServerNode,
}

impl Traffic for Backend<'_> {
    fn backend(&self) -> &str {
        &self.p.conf.name
    }
    fn server(&self) -> &str {
        &self.s.conf.name
    }
    fn gauge(&self, what: Gauge, proxy: Option<&str>, server: Option<&str>) -> Option<i64> {
        gauges::gauge(what, None, self.p, proxy, server)
    }
    fn number(&self, what: Number) -> Option<i64> {
        match what {
            Number::BackendId => Some(i64::from(self.p.iid)),
            Number::ServerId => Some(i64::from(self.s.sid)),
            _ => None,
        }
    }
}
