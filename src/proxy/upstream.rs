//! The server side: which server, waiting for a slot, a pooled or a new connection.
use super::Thread;
use super::outcome::{Cause, Exchange, Phase, TlsInfo};
use super::stream::Stream;
use super::{key, wheel::Timer};
use crate::balance::{self, Algorithm, Load};
use crate::base::addr::Host;
use crate::config::model::{Affinity, Chosen, Observe, PortRule, SendProxy, SniRule, Source, UseSource};
use crate::net::sockopt::{self, Outgoing, Packets, Unreached};
use crate::state::counters::{Counter, Gauge};
use crate::state::live::{self, Ended, Met, Rank, ServerLive, Waiter, lock};
use crate::state::snapshot::{ProxyNode, ServerNode, Table};
use crate::wire::{proxy, socks4};
use rustls_pki_types::ServerName;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// Holds a server's slot and the backend's count; gives both back, and the slot to who waits, when dropped.
pub struct Slot<B: Deref<Target = ProxyNode> = Arc<ProxyNode>> {
    be: B,
    server: usize,
    /// The server's when the slot was taken.
    era: u64,
}

/// One whose holder has the backend itself.
pub type Seat<'a> = Slot<&'a ProxyNode>;

impl<B: Deref<Target = ProxyNode>> Slot<B> {
    pub fn server(&self) -> &ServerNode {
        &self.be.servers[self.server]
    }

    /// Its place among the backend's servers.
    pub fn index(&self) -> usize {
        self.server
    }

    /// Why the session has to end, once the server's sessions are to be closed.
    pub fn over(&self) -> Option<Cause> {
        let now = self.server().live.era();
        let why = match ServerLive::ended(now) {
            Ended::Killed => Cause::Killed,
            Ended::ServerDown => Cause::ServerDown,
            Ended::ServerUp => Cause::ServerUp,
        };
        (now != self.era).then_some(why)
    }
}

impl<B: Deref<Target = ProxyNode>> Drop for Slot<B> {
    fn drop(&mut self) {
        let s = &self.be.servers[self.server].live;
        s.sessions.down();
        self.be.live.wake(Some(s));
    }
}

/// Counts a session of a backend.
pub struct BackendSession<B: Deref<Target = ProxyNode>>(B);

impl<B: Deref<Target = ProxyNode>> BackendSession<B> {
    pub fn new(be: B) -> Self {
        be.live.back_sessions.up();
        be.live.back.inc(Counter::Sessions);
        Self(be)
    }
}

impl<B: Deref<Target = ProxyNode>> Drop for BackendSession<B> {
    fn drop(&mut self) {
        self.0.live.back_sessions.down();
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum NoServer {
    /// None is up.
    Down,
    QueueTimeout,
    QueueFull,
    ClientGone,
}

/// True if connections to this server lead to the same place for every client.
fn is_fixed(s: &ServerNode) -> bool {
    let somewhere =
        |ip: IpAddr, port: bool| !ip.is_unspecified() && (port || matches!(s.conf.port, PortRule::Fixed(_)));
    match &s.conf.host {
        Host::Unix(_) | Host::Abstract(_) => true,
        // Where it has never moved there is nothing to be looked up.
        _ if s.live.moves() == 0 => s.conf.ip.is_some_and(|ip| somewhere(ip, false)),
        _ => match *lock(&s.live.addr) {
            Some((ip, port)) => somewhere(ip, port.is_some()),
            None => s.conf.ip.is_some_and(|ip| somewhere(ip, false)),
        },
    }
}

/// What a connection has in common with those that may be used in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Likeness {
    pub key: u64,
    /// There is the client's own port in it: nobody else will ask for it.
    pub personal: bool,
}

/// What connections to a server have in common that may be shared: what the configuration says of it, the name that the request gives them
/// (`pool-conn-name`, else the name asked for in TLS), and whatever of the client decides where they lead, where they come from and what their
/// PROXY header says.
pub fn likeness(t: &Thread, x: &Exchange<'_>, be: &ProxyNode, s: &ServerNode) -> Likeness {
    use std::hash::BuildHasher;
    let by_sni = || match s.conf.tls.as_ref().and_then(|t| t.sni.as_ref()) {
        Some(SniRule::Expr(e)) => Some(e),
        _ => None,
    };
    let name = s.conf.pool_name.as_ref().or_else(by_sni);
    let from = s.conf.source.as_ref().or(be.conf.source.as_ref()).and_then(|f| foreign(x, f));
    let to = if is_fixed(s) { None } else { address(s, x.dst) };
    let header = s.conf.send_proxy.map(|v| proxy_header_of(t, x, s, v));
    let personal = header.is_some() || from.is_some_and(|a| a.port() > 0);
    let packets = x.packets;
    if name.is_none() && from.is_none() && to.is_none() && header.is_none() && packets == Packets::default() {
        return Likeness { key: s.pool_key, personal };
    }
    let name = name.map(|e| e.eval(x).map(|v| v.text().into_owned()));
    // The hash has a secret in it: nobody can think of two names that share connections.
    Likeness { key: t.shared.secret.hash_one((s.pool_key, name, from, to, header, packets)), personal }
}

/// The client's address, or another that is not ours, that a connection is to come from (`usesrc`).
fn foreign(x: &Exchange<'_>, from: &Source) -> Option<SocketAddr> {
    match from.usesrc.as_ref()? {
        UseSource::Addr(a) => Some(*a),
        UseSource::Client => x.src.map(canonical),
        UseSource::ClientIp => x.src.map(|a| SocketAddr::new(canonical(a).ip(), 0)),
        UseSource::Header(name, n) => header_ip(x, name, *n).map(|ip| SocketAddr::new(ip, 0)),
    }
}

/// True if it has all the connections that it may have.
pub fn full(be: &ProxyNode, s: &ServerNode) -> bool {
    let max = be.limit(s);
    max > 0 && s.live.sessions.get() >= max
}

/// Picks by the algorithm among usable servers, leaving `avoid` out if another will do. True with it: no other will do, it is waited for.
fn pick(x: &Exchange<'_>, be: &ProxyNode, avoid: Option<usize>) -> Option<(usize, bool)> {
    let algo = be.conf.balance.unwrap_or(Algorithm::RoundRobin);
    match algo {
        Algorithm::LeastConn | Algorithm::ShortestDelay | Algorithm::NeverQueue | Algorithm::First => {
            least_or_first(be, algo, avoid).map(|i| (i, false))
        }
        _ if algo.is_hash() => match (key::hash(x, be), &table(be).1) {
            // What has no key goes round.
            (None, t) => round(be, t, avoid).map(|i| (i, false)),
            (Some(_), Table::Turns(t)) if t.is_empty() => None,
            (Some(h), Table::Turns(t)) => Some((usize::from(t[h as usize % t.len()]), true)),
            (Some(h), Table::Ring(r)) => {
                let mut last = None;
                let fits = |i: u16| {
                    last = Some(i);
                    Some(usize::from(i)) != avoid && within_factor(be, usize::from(i)) && has_room(be, usize::from(i))
                };
                let i = match r.find(h, fits) {
                    Some(i) => i,
                    // All are full: the last one on the way has it wait, as there.
                    None if be.conf.hash_affinity != Affinity::Always => last?,
                    None => r.find(h, |_| true)?,
                };
                Some((usize::from(i), true))
            }
        },
        Algorithm::Random(draws) => random(be, draws, avoid).map(|i| (i, false)),
        _ => round(be, &table(be).1, avoid).map(|i| (i, false)),
    }
}

/// `hash-preserve-affinity`: whether a hash may lead to this server.
fn has_room(be: &ProxyNode, i: usize) -> bool {
    let s = &be.servers[i];
    match be.conf.hash_affinity {
        Affinity::Always => true,
        Affinity::Maxconn => !full(be, s),
        Affinity::Maxqueue => {
            let limit = u64::from(s.conf.maxqueue);
            limit == 0 || s.live.maxconn.load(Relaxed) == 0 || s.live.queued.get() < limit
        }
    }
}

/// `hash-balance-factor`: whether a server may take one more of its share of all.
fn within_factor(be: &ProxyNode, i: usize) -> bool {
    let factor = u64::from(be.conf.hash_balance_factor);
    if factor == 0 {
        return true;
    }
    let (mut all, mut weights) = (1, 0);
    be.candidates(|_, s| {
        all += s.live.sessions.get();
        weights += u64::from(s.live.effective_weight());
    });
    let s = &be.servers[i].live;
    let places = (all * factor).div_ceil(100);
    s.sessions.get() < (places * u64::from(s.effective_weight())).div_ceil(weights.max(1))
}

/// The next one whose turn it is. One that is full is passed over while another is free; all full: the queue decides.
fn round(be: &ProxyNode, table: &Table, avoid: Option<usize>) -> Option<usize> {
    let turn = || be.live.turn.fetch_add(1, Relaxed);
    let turns = match table {
        Table::Turns(t) => t,
        Table::Ring(r) => {
            let hash = balance::hash::avalanche(u32::try_from(turn() & 0xffff_ffff).unwrap_or(0));
            return r
                .find(hash, |i| !full(be, &be.servers[usize::from(i)]))
                .or_else(|| r.find(hash, |_| true))
                .map(usize::from);
        }
    };
    let n = turns.len();
    let mut chosen = None;
    for _ in 0..n {
        let i = usize::from(turns[turn() % n]);
        if Some(i) == avoid && n > 1 {
            continue;
        }
        if !full(be, &be.servers[i]) {
            return Some(i);
        }
        chosen.get_or_insert(i);
    }
    chosen.or_else(|| turns.first().map(|i| usize::from(*i)))
}

/// The least loaded for its weight of so many that were drawn.
fn random(be: &ProxyNode, draws: u32, avoid: Option<usize>) -> Option<usize> {
    let table = table(be);
    let Table::Turns(turns) = &table.1 else { return None };
    let mut best: Option<usize> = None;
    let load = |i: usize| {
        let s = &be.servers[i].live;
        let n = u64::from(full(be, &be.servers[i])) * (u64::MAX / 1024) + s.sessions.get();
        (n, u64::from(s.effective_weight().max(1)))
    };
    for _ in 0..draws.min(64) {
        let n = be.live.turn.fetch_add(1, Relaxed);
        // Only a spread is wanted, not a secret.
        let drawn = balance::hash::avalanche(u32::try_from(n & 0xffff_ffff).unwrap_or(0)) as usize;
        let i = usize::from(*turns.get(drawn % turns.len().max(1))?);
        let better = |b: usize| {
            let ((x, wx), (y, wy)) = (load(i), load(b));
            u128::from(x) * u128::from(wy) < u128::from(y) * u128::from(wx)
        };
        if Some(i) != avoid && best.is_none_or(better) {
            best = Some(i);
        }
    }
    best.or_else(|| round(be, &table.1, avoid))
}

fn least_or_first(be: &ProxyNode, algo: Algorithm, avoid: Option<usize>) -> Option<usize> {
    let mut index: Vec<usize> = Vec::with_capacity(be.servers.len());
    let mut loads: Vec<Load> = Vec::with_capacity(be.servers.len());
    be.candidates(|i, s| {
        if Some(i) != avoid || be.servers.len() == 1 {
            index.push(i);
            loads.push(Load {
                weight: fine_weight(be, s),
                conns: u32::try_from(s.live.sessions.get() + s.live.queued.get()).unwrap_or(u32::MAX),
                maxconn: s.live.maxconn.load(Relaxed),
            });
        }
    });
    if index.is_empty() {
        return avoid.filter(|a| be.servers[*a].live.usable());
    }
    if algo == Algorithm::First {
        return balance::first(&loads).or(Some(loads.len() - 1)).map(|k| index[k]);
    }
    // One that has a slot left goes before one that has not, however few connections that one has.
    // Looked at once: other threads fill and empty them meanwhile.
    let open: Vec<bool> = index.iter().map(|i| !full(be, &be.servers[*i])).collect();
    if open.contains(&true) && open.contains(&false) {
        let mut keep = open.iter().copied();
        loads.retain(|_| keep.next().unwrap_or(true));
        let mut keep = open.iter().copied();
        index.retain(|_| keep.next().unwrap_or(true));
    }
    let start = be.live.turn.fetch_add(1, Relaxed) % loads.len().max(1);
    let chosen = match algo {
        Algorithm::ShortestDelay | Algorithm::NeverQueue => {
            balance::shortest_delay(&loads, start, algo == Algorithm::NeverQueue)
        }
        _ => balance::least_conn(&loads, start),
    };
    chosen.and_then(|k| index.get(k).copied())
}

/// The server that a `use-server` rule names, if it may be used.
pub fn asked_for(x: &Exchange<'_>, be: &ProxyNode) -> Option<usize> {
    let usable = |s: &ServerNode| s.live.reachable() || be.conf.options.persist;
    let held = be.conf.use_server.iter().filter(|r| crate::rules::acl::holds(r.0.as_ref(), x));
    // A later rule may have one if the first one's is down.
    let called = |name: &[u8]| be.servers.iter().position(|s| s.conf.name.as_bytes() == name && usable(s));
    held.filter_map(|(_, chosen, _)| match chosen {
        Chosen::Name(n) => called(n.as_bytes()),
        Chosen::Computed(f) => {
            let mut name = Vec::new();
            f.render(x, &mut name);
            called(&name)
        }
    })
    .next()
}

/// `persist rdp-cookie`: the server whose address and port the client's cookie has, as numbers of the other byte order.
pub fn by_rdp_cookie(x: &Exchange<'_>, be: &ProxyNode) -> Option<usize> {
    let name = be.conf.rdp_persist.as_deref()?;
    let value = crate::wire::rdp::cookie(&x.peeked, name).found()?;
    let mut parts = std::str::from_utf8(value).ok()?.splitn(3, '.');
    let ip = std::net::Ipv4Addr::from(parts.next()?.parse::<u32>().ok()?.swap_bytes());
    let port = parts.next()?.parse::<u16>().ok()?.swap_bytes();
    parts.next()?;
    let wanted = SocketAddr::from((ip, port));
    be.servers.iter().position(|s| address(s, x.dst) == Some(wanted) && (s.live.reachable() || be.conf.options.persist))
}

/// The server that a virtual server's client had last (`persistence_timeout`), if it may still be used and has room.
pub fn stuck(x: &Exchange<'_>, be: &ProxyNode) -> Option<usize> {
    let p = be.conf.virtual_server.as_ref()?.persistence?;
    let client = p.key(canonical(x.src?).ip());
    let had = lock(&be.live.sticky).find(client, std::time::Instant::now())?;
    let fits = |s: &ServerNode| address(s, None) == Some(had) && s.live.reachable() && !full(be, s);
    be.servers.iter().position(|s| !s.conf.backup && fits(s)).filter(|_| !be.live.sorry.load(Relaxed))
}

/// A virtual server's client keeps the server that it has for as long as this lives, and for a while behind it.
pub struct Stay {
    be: Arc<ProxyNode>,
    client: IpAddr,
    server: SocketAddr,
    timeout: Duration,
}

/// Remembers where a virtual server's client went. Not if it was the sorry server.
pub fn stay(x: &Exchange<'_>, be: &Arc<ProxyNode>, server: &ServerNode) -> Option<Stay> {
    let p = be.conf.virtual_server.as_ref()?.persistence?;
    let client = p.key(canonical(x.src.filter(|_| !server.conf.backup)?).ip());
    let server = address(server, None)?;
    lock(&be.live.sticky).begin(client, server, std::time::Instant::now(), p.timeout);
    Some(Stay { be: be.clone(), client, server, timeout: p.timeout })
}

impl Drop for Stay {
    fn drop(&mut self) {
        lock(&self.be.live.sticky).end(self.client, self.server, std::time::Instant::now(), self.timeout);
    }
}

/// The servers that may be used, made anew when one's state or weight changed.
fn table(be: &ProxyNode) -> impl Deref<Target = Arc<(u64, Table)>> {
    let version = be.live.version.load(Relaxed);
    let held = be.table.load();
    if held.0 != version {
        let mut weights = vec![0u32; be.servers.len()];
        be.candidates(|i, s| weights[i] = fine_weight(be, s));
        let algo = be.conf.balance.unwrap_or(Algorithm::RoundRobin);
        let made = match algo {
            _ if algo.is_hash() && be.conf.hash_type.consistent => {
                let places = weights.iter().zip(&be.servers).enumerate().filter_map(|(i, (w, s))| {
                    Some((u16::try_from(i).ok()?, balance::hash::Ring::key_of_id(s.sid), *w))
                });
                Table::Ring(balance::hash::Ring::new(places))
            }
            // These know no slow start.
            _ if algo.is_hash() || algo == Algorithm::StaticRr => {
                be.candidates(|i, s| weights[i] = scaled(be, s.live.effective_weight()));
                Table::Turns(balance::hash::map(&weights))
            }
            _ => Table::Turns(balance::turns(&weights)),
        };
        // Two threads may both make it; each uses what it has made.
        let made = Arc::new((version, made));
        be.table.store(made.clone());
        return arc_swap::Guard::from_inner(made);
    }
    held
}

/// Maps and rings have so many places for a server at most.
const MOST_PLACES: u32 = 256;

/// What a server's weight comes to: some schedulers of virtual servers know no weights but nothing, and what is beyond HAProxy's own range is scaled down.
fn scaled(be: &ProxyNode, weight: u32) -> u32 {
    let Some(v) = &be.conf.virtual_server else { return weight };
    match (v.level, be.conf.balance.is_some_and(Algorithm::is_hash)) {
        (true, _) => weight.min(1),
        (false, true) => {
            let most = be.servers.iter().map(|s| s.live.weight()).max().unwrap_or(0);
            let fits = u64::from(weight) * u64::from(MOST_PLACES) / u64::from(most.max(1));
            if most > MOST_PLACES { u32::try_from(fits).unwrap_or(1).max(weight.min(1)) } else { weight }
        }
        (false, false) => weight,
    }
}

/// The same in sixteenths, while the server warms up.
fn fine_weight(be: &ProxyNode, s: &ServerNode) -> u32 {
    if be.conf.virtual_server.is_some() { scaled(be, s.live.effective_weight()) * 16 } else { s.live.fine_weight() }
}

/// Finds a server and takes a slot of it, waiting in the queue if all are full.
/// `bound`: the server a cookie asks for. `avoid`: the one that just failed.
pub async fn assign<B: Deref<Target = ProxyNode>>(
    t: &Thread,
    x: &mut Exchange<'_>,
    be: B,
    bound: Option<usize>,
    avoid: Option<usize>,
    timer: &Timer,
    mut gone: impl FnMut(&mut std::task::Context<'_>) -> bool,
) -> Result<Slot<B>, NoServer> {
    let set = x.timeouts.as_deref().copied().unwrap_or_default();
    let wait = set.queue.unwrap_or(be.conf.timeouts.queue).or(set.connect.unwrap_or(be.conf.timeouts.connect));
    let mut queued = false;
    loop {
        // Persistence and hashes want one server, and wait in its queue; else any will do.
        let (i, only) = match bound {
            Some(i) => (i, true),
            None => pick(x, &be, avoid).ok_or(NoServer::Down)?,
        };
        let s = &be.servers[i];
        // Nobody overtakes who waits already, unless he was just woken.
        if (queued || be.live.queued.get() == 0) && s.live.take_slot(be.limit(s)) {
            s.live.counters.inc(Counter::Sessions);
            s.live.counters.inc(Counter::Chosen);
            be.live.back.inc(Counter::Chosen);
            let now = if queued { t.fresh() } else { t.now() };
            x.assigned.get_or_insert(now);
            let seconds = crate::state::live::seconds(now);
            s.live.used(seconds);
            be.live.last_session.store(seconds, Relaxed);
            let era = s.live.era();
            return Ok(Slot { be, server: i, era });
        }
        if bound.is_some() && !s.live.reachable() {
            return Err(NoServer::Down);
        }
        let limit = u64::from(s.conf.maxqueue);
        if only && limit > 0 && s.live.queued.get() >= limit {
            return Err(NoServer::QueueFull);
        }
        let (wake, mut woken) = tokio::sync::oneshot::channel();
        let since = *x.queued_at.get_or_insert_with(|| t.fresh());
        let rank = Rank { class: x.priority.0, at: live::millis(since).saturating_add(x.priority.1.into()) };
        let gauge: &Gauge = if only { &s.live.queued } else { &be.live.queued };
        {
            let mut q = lock(&be.live.queue);
            if !queued {
                // The place in the queue, as HAProxy counts it: the first one to wait has place 1.
                let place = |g: &Gauge| g.get() + 1;
                x.queues =
                    if only { [place(&s.live.queued), place(&be.live.queued)] } else { [0, place(&be.live.queued)] };
            }
            // Who was woken and found the slot taken keeps its place.
            let w = Waiter { wake, server: only.then(|| be.servers[i].live.clone()), rank };
            w.queue(&mut q, queued);
        }
        if only {
            be.live.queued.up();
        }
        gauge.up();
        if !queued {
            timer.set(wait);
        }
        // A slot may have been freed between the look and the queueing.
        if !full(&be, s) {
            be.live.wake(Some(&s.live));
        }
        let result = std::future::poll_fn(|cx| {
            if std::pin::Pin::new(&mut woken).poll(cx).is_ready() {
                return std::task::Poll::Ready(Ok(()));
            }
            if timer.expired(cx) {
                return std::task::Poll::Ready(Err(NoServer::QueueTimeout));
            }
            if gone(cx) {
                return std::task::Poll::Ready(Err(NoServer::ClientGone));
            }
            std::task::Poll::Pending
        })
        .await;
        gauge.down();
        if only {
            be.live.queued.down();
        }
        queued = true;
        if let Err(e) = result {
            woken.close();
            // Woken in the very moment of giving up: the next one gets the turn.
            if woken.try_recv().is_ok() {
                be.live.wake(None);
            }
            return Err(e);
        }
    }
}

/// What follows a connection that could not be made.
pub enum AfterFailure {
    /// The termination is set.
    GiveUp,
    /// Another try: on this `server` or on any but `not`, after a pause.
    Again { server: Option<usize>, not: Option<usize>, pause: Option<Duration> },
}

/// Decides about a retry, counts it, and chooses where it goes (configuration manual, `retries`, `option redispatch`). `by_cookie`: persistence wanted this server.
pub fn after_failure(
    x: &mut Exchange<'_>,
    be: &ProxyNode,
    slot: &Seat<'_>,
    by_cookie: bool,
    e: &ConnectError,
) -> AfterFailure {
    let server = slot.server();
    let most = x.most_retries.unwrap_or_else(|| u64::from(be.conf.retries));
    if x.retries >= most || !be.conf.retry_on.conn_failure && !matches!(e, ConnectError::Answered) {
        server.live.counters.inc(Counter::ConnectErrors);
        be.live.back.inc(Counter::ConnectErrors);
        let cause = if matches!(e, ConnectError::Timeout) { Cause::ServerTimeout } else { Cause::ServerAbort };
        x.end(cause, Phase::Connect);
        return AfterFailure::GiveUp;
    }
    x.retries += 1;
    server.live.counters.inc(Counter::Retries);
    be.live.back.inc(Counter::Retries);
    // Who did not want this very server goes to another at once (seen in 2.6 and 3.5, with every algorithm that is no hash).
    let others = be.usable_servers() > 1;
    let any = be.conf.balance.is_none_or(|a| !a.is_hash()) && others;
    let due = match be.conf.options.redispatch {
        None => false,
        _ if !server.live.reachable() => true,
        _ if any && !by_cookie => true,
        Some(n) if n < 0 => x.retries == most,
        Some(n) => x.retries.is_multiple_of(u64::try_from(n.max(1)).unwrap_or(1)),
    };
    let second = Duration::from_secs(1);
    // A refusal comes at once, and would come again at once from the same server.
    let wait = matches!(e, ConnectError::Refused).then(|| be.conf.timeouts.connect.unwrap_or(second).min(second));
    if due && others {
        server.live.counters.inc(Counter::Redispatches);
        be.live.back.inc(Counter::Redispatches);
        x.redispatched = true;
        AfterFailure::Again { server: None, not: Some(slot.server), pause: None }
    } else {
        AfterFailure::Again { server: Some(slot.server).filter(|_| server.live.reachable()), not: None, pause: wait }
    }
}

#[derive(Debug)]
pub enum ConnectError {
    Refused,
    Timeout,
    /// It was there, and `retry-on` says that what came of it is not good enough.
    Answered,
}

/// Where a server is: address and port, with `set server addr` and port rules applied.
pub fn address(s: &ServerNode, dst: Option<SocketAddr>) -> Option<SocketAddr> {
    let ip: IpAddr = match if s.live.moves() == 0 { None } else { *lock(&s.live.addr) } {
        Some((ip, Some(port))) => return Some(SocketAddr::new(ip, port)),
        Some((ip, None)) => ip,
        None => s.conf.ip?,
    };
    let base = dst.map_or(0, |d| d.port());
    let port = match s.conf.port {
        PortRule::Fixed(p) => p,
        PortRule::Same => base,
        PortRule::Offset(n) => u16::try_from(i32::from(base) + n).ok()?,
    };
    // An unspecified address stands for the one the client asked for.
    let ip = if ip.is_unspecified() { dst?.ip() } else { ip };
    Some(SocketAddr::new(ip, port))
}

/// Tells `observe` what came of a connection or an answer.
pub fn observed(s: &ServerNode, layer: Observe, met: Met) {
    // Errors of connections count for both layers; their success says nothing about answers.
    let counts = match s.conf.observe {
        None => false,
        Some(Observe::Layer4) => layer == Observe::Layer4,
        Some(Observe::Layer7) => layer == Observe::Layer7 || met != Met::Good,
    };
    if counts && s.conf.check {
        s.live.observe(met, s.conf.error_limit);
    }
}

/// The connection itself, with what the file says of its socket and of where it comes from.
async fn open_tcp(
    t: &Thread,
    x: &Exchange<'_>,
    be: &ProxyNode,
    s: &ServerNode,
    to: SocketAddr,
) -> std::io::Result<TcpStream> {
    let c = &s.conf;
    let o = Outgoing {
        keepalive: be.conf.options.tcpka_server.then_some(&be.conf.keepalive_server),
        congestion: c.congestion.as_deref(),
        md5: c.md5.as_deref(),
        user_timeout: c.user_timeout,
        packets: x.packets,
        ..Outgoing::default()
    };
    let Some(from) = c.source.as_ref().or(be.conf.source.as_ref()) else {
        return Ok(sockopt::connect(to, &o).await?);
    };
    let foreign = foreign(x, from);
    let o = Outgoing {
        source: foreign.or(Some(from.addr).filter(|a| !a.ip().is_unspecified())),
        foreign: foreign.is_some(),
        ports: if foreign.is_some() { None } else { from.ports },
        first_port: s.live.next_port(),
        interface: from.interface.as_deref(),
        ..o
    };
    match sockopt::connect(to, &o).await {
        Ok(tcp) => Ok(tcp),
        Err(Unreached::Bind(e)) => {
            let what = if foreign.is_some() { "tproxy source" } else { "source" };
            let text = format!(
                "Cannot bind to {what} address before connect() for backend {}: {}.",
                be.conf.name,
                crate::base::diag::io_words(&e)
            );
            if s.live.is_new_problem(&text) {
                be.note(0, &text, &t.shared.live);
                if let Some(c) = &be.sinks.console {
                    c.warning(text);
                }
            }
            Err(e)
        }
        Err(e) => Err(e.into()),
    }
}

/// An address of version 4 in a header, by the occurrence of its value.
fn header_ip(x: &Exchange<'_>, name: &str, n: i32) -> Option<IpAddr> {
    let lines = x.req.headers().filter(|(k, _)| k.eq_ignore_ascii_case(name.as_bytes()));
    let values: Vec<&[u8]> = lines.flat_map(|(_, v)| crate::rules::sample::split_list(v)).collect();
    let at = match usize::try_from(n) {
        Ok(n) => n.checked_sub(1)?,
        Err(_) => values.len().checked_sub(usize::try_from(n.unsigned_abs()).ok()?)?,
    };
    let ip: std::net::Ipv4Addr = std::str::from_utf8(values.get(at)?).ok()?.parse().ok()?;
    Some(ip.into())
}

/// Asks a SOCKS4 proxy for the way (manual, `socks4`).
async fn through_socks4(tcp: &mut TcpStream, to: SocketAddr) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let SocketAddr::V4(to) = to else { return Err(std::io::ErrorKind::AddrNotAvailable.into()) };
    tcp.write_all(&socks4::request(to)).await?;
    let mut answer = [0; socks4::ANSWER];
    tcp.read_exact(&mut answer).await?;
    if socks4::is_granted(&answer) { Ok(()) } else { Err(std::io::ErrorKind::ConnectionRefused.into()) }
}

/// Opens a connection, TLS and PROXY header included, within `limit`.
pub async fn connect(
    t: &Thread,
    x: &Exchange<'_>,
    be: &ProxyNode,
    s: &ServerNode,
    limit: Option<Duration>,
    timer: &Timer,
) -> Result<Stream, ConnectError> {
    timer.set(limit);
    s.live.counters.inc(Counter::Connects);
    be.live.back.inc(Counter::Connects);
    let open = async {
        let tcp = match &s.conf.host {
            Host::Unix(path) => return greet(UnixStream::connect(path).await?, t, x, s).await.map(Stream::Unix),
            Host::Abstract(name) => {
                return greet(crate::net::connect_abstract(name)?, t, x, s).await.map(Stream::Unix);
            }
            Host::Ip(_) | Host::Name(_) => {
                let addr = address(s, x.dst).ok_or(std::io::ErrorKind::AddrNotAvailable)?;
                let mut tcp = open_tcp(t, x, be, s, s.conf.socks4.unwrap_or(addr)).await?;
                if s.conf.socks4.is_some() {
                    through_socks4(&mut tcp, addr).await?;
                }
                tcp
            }
        };
        tls(s, x, greet(tcp, t, x, s).await?).await
    };
    let mut open = std::pin::pin!(open);
    let result = std::future::poll_fn(|cx| match open.as_mut().poll(cx) {
        std::task::Poll::Ready(r) => std::task::Poll::Ready(r.map_err(|_| ConnectError::Refused)),
        std::task::Poll::Pending if timer.expired(cx) => std::task::Poll::Ready(Err(ConnectError::Timeout)),
        std::task::Poll::Pending => std::task::Poll::Pending,
    })
    .await;
    observed(s, Observe::Layer4, if result.is_ok() { Met::Good } else { Met::Unconnected });
    result
}

/// Says who the client is (`send-proxy`), before anything else.
async fn greet<S: tokio::io::AsyncWrite + Unpin>(
    mut stream: S,
    t: &Thread,
    x: &Exchange<'_>,
    s: &ServerNode,
) -> std::io::Result<S> {
    use tokio::io::AsyncWriteExt;
    if let Some(version) = s.conf.send_proxy {
        stream.write_all(&proxy_header_of(t, x, s, version)).await?;
    }
    Ok(stream)
}

async fn tls(s: &ServerNode, x: &Exchange<'_>, tcp: TcpStream) -> std::io::Result<Stream> {
    let (Some(config), true) = (&s.tls, s.conf.traffic_tls) else { return Ok(Stream::Tcp(tcp)) };
    let sni = match s.conf.tls.as_ref().and_then(|t| t.sni.as_ref()) {
        Some(SniRule::Fixed(n)) => Some(n.clone()),
        Some(SniRule::Expr(e)) => e.eval(x).and_then(|v| String::from_utf8(v.text().into_owned()).ok()),
        None => None,
    };
    let name = match sni.and_then(|n| ServerName::try_from(n).ok()) {
        Some(n) => n,
        None => ServerName::IpAddress(tcp.peer_addr()?.ip().into()),
    };
    match tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await {
        Ok(stream) => Ok(Stream::Client(Box::new(stream))),
        Err(e) => {
            let text = format!("Server {}/{} : TLS handshake failed: {e}", x.backend().conf.name, s.conf.name);
            if s.live.is_new_problem(&text)
                && let Some(c) = &x.fe.sinks.console
            {
                c.warning(text);
            }
            Err(e)
        }
    }
}

/// The PROXY protocol header of a check, which speaks of its own connection.
pub fn proxy_header(version: SendProxy, src: Option<SocketAddr>, dst: Option<SocketAddr>) -> Vec<u8> {
    let pair = src.map(canonical).zip(dst.map(canonical));
    match version {
        SendProxy::V1 => proxy::line(pair),
        SendProxy::V2 => proxy::write(pair, &[], false),
    }
}

fn canonical(a: SocketAddr) -> SocketAddr {
    SocketAddr::new(crate::base::addr::canonical(a.ip()), a.port())
}

/// The PROXY protocol header of an exchange's connection (proxy-protocol.txt, 2; manual, `proxy-v2-options`).
fn proxy_header_of(t: &Thread, x: &Exchange<'_>, s: &ServerNode, version: SendProxy) -> Vec<u8> {
    let pair = x.src.map(canonical).zip(x.dst.map(canonical));
    if version == SendProxy::V1 {
        return proxy::line(pair);
    }
    let o = s.conf.proxy_options;
    let client = x.client;
    let mut tlvs: Vec<(u8, Vec<u8>)> = s.conf.proxy_tlvs.iter().map(|(k, f)| (*k, x.formatted(t, f))).collect();
    tlvs.extend(client.tls.as_ref().and_then(|t| t.alpn.clone()).map(|p| (proxy::ALPN, p)));
    if o.authority {
        let said = client.proxied.as_ref().and_then(|h| h.tlv(proxy::AUTHORITY)).map(<[u8]>::to_vec);
        tlvs.extend(
            said.or_else(|| client.tls.as_ref()?.sni.clone().map(String::into_bytes)).map(|a| (proxy::AUTHORITY, a)),
        );
    }
    if o.unique_id {
        tlvs.push((proxy::UNIQUE_ID, x.unique.clone()));
    }
    if o.ssl {
        let mut ssl = vec![u8::from(client.tls.is_some()), 0, 0, 0, 0];
        if let Some(TlsInfo { version, cipher, .. }) = client.tls.as_deref() {
            proxy::put(&mut ssl, proxy::SSL_VERSION, version.as_bytes());
            if o.ssl_cipher {
                proxy::put(&mut ssl, proxy::SSL_CIPHER, cipher.as_bytes());
            }
        }
        tlvs.push((proxy::SSL, ssl));
    }
    proxy::write(pair, &tlvs, o.crc32c)
}
