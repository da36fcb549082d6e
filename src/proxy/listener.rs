//! Listening sockets of one thread: accept, hand the connection to the least loaded thread, admit it, serve it.
use super::logging::embryonic_end;
use super::outcome::{ClientInfo, Exchange, TlsInfo};
use super::session::{self, Begin};
use super::stream::Stream;
use super::wheel::Timer;
use super::{Thread, tcp};
use crate::config::model::Mode;
use crate::net::sockopt;
use crate::rules::acl;
use crate::rules::action::{Refusal, TcpAction};
use crate::state::counters::{Counter, Gauge, Held};
use crate::state::limits::Ceiling;
use crate::state::live::{Doors, ListenerLive, Live, ProxyLive};
use crate::state::snapshot::ProxyNode;
use crate::wire::proxy;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// A connection on its way from the thread that accepted it to the one that serves it.
pub struct Accepted {
    fd: OwnedFd,
    unix: bool,
    src: Option<SocketAddr>,
    frontend: Arc<str>,
    listener: usize,
    seats: Seats,
    turn: Turn,
}

/// The places that a connection takes within the limits of process, frontend and listener (`maxconn` of each); given back when dropped.
struct Seats {
    process: Held<Arc<Gauge>>,
    front: Held<FrontConn>,
    listener: Held<ListenerConn>,
}

/// A connection's turn under the ceilings of what may come in a second; given back if it does not come, or is refused before it is a session.
#[derive(Default)]
struct Turn(Option<Box<Taken>>);

struct Taken {
    live: Arc<Live>,
    fe: Arc<ProxyLive>,
    tls: bool,
    /// It has come in: whatever becomes of it, it was a connection.
    came: bool,
}

impl Turn {
    fn take(live: &Arc<Live>, fe: &Arc<ProxyNode>, tls: bool) -> Option<Self> {
        let one = Taken { live: live.clone(), fe: fe.live.clone(), tls, came: false };
        let now = crate::state::live::now_ms;
        let taken = one.ceilings().take_while(|c| c.take(now)).count();
        if taken == one.ceilings().count() {
            return Some(Self(Some(Box::new(one))));
        }
        one.ceilings().take(taken).for_each(Ceiling::give_back);
        None
    }

    /// The connection is there.
    fn came(&mut self) {
        if let Some(t) = &mut self.0 {
            t.came = true;
        }
    }

    /// It has become a session.
    fn used(mut self) {
        self.0 = None;
    }
}

impl Taken {
    fn ceilings(&self) -> impl Iterator<Item = &Ceiling> {
        let l = &self.live.limits;
        let connections = Some(&l.connections).filter(|_| !self.came);
        [connections, Some(&l.sessions), Some(&l.tls).filter(|_| self.tls), Some(&self.fe.sessions)]
            .into_iter()
            .flatten()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.iter().for_each(|t| t.ceilings().for_each(Ceiling::give_back));
    }
}

impl Seats {
    /// Taken before the accept, so that no number of threads goes beyond a limit.
    fn reserve(t: &Thread, place: &Place) -> Result<Option<(Self, Turn)>, ()> {
        let snapshot = t.snapshot();
        let live = &t.shared.live;
        let Some(fe) = snapshot.frontend(&place.frontend) else { return Err(()) };
        let Some(l) = fe.listeners.get(place.listener) else { return Err(()) };
        let most = if l.conf.maxconn > 0 { u64::from(l.conf.maxconn) } else { u64::MAX };
        let Some(process) = Held::reserve(live.conns.clone(), live.limits.maxconn.get()) else {
            live.maxconn_reached.fetch_add(1, Relaxed);
            return Ok(None);
        };
        let front = Held::reserve(FrontConn(fe.live.clone()), fe.live.maxconn.get());
        let listener = Held::reserve(ListenerConn(l.live.clone()), most);
        let Some((front, listener)) = front.zip(listener) else { return Ok(None) };
        let seats = Self { process, front, listener };
        if !live.limits.any() && fe.live.sessions.limit.get() == 0 {
            return Ok(Some((seats, Turn::default())));
        }
        Ok(Turn::take(live, fe, l.tls.is_some()).map(|turn| (seats, turn)))
    }

    fn confirm(&self) {
        self.process.confirm();
        self.front.confirm();
        self.listener.confirm();
    }
}

/// Which listener a socket belongs to; names are looked up in the snapshot of the moment.
#[derive(Clone, Debug)]
pub struct Place {
    pub frontend: Arc<str>,
    /// Index in the frontend's list.
    pub listener: usize,
    pub unix: bool,
}

impl Place {
    pub(super) fn is_open(&self, doors: &mut watch::Receiver<HashMap<String, Doors>>) -> bool {
        !doors.borrow_and_update().contains_key(&*self.frontend)
    }

    /// A line to where the frontend logs.
    pub(super) fn tell(&self, t: &Thread, what: &str) {
        let s = t.snapshot();
        if let Some(p) = s.frontend(&self.frontend) {
            p.note(crate::log::WARNING, &format!("Frontend {}: {what}.", p.conf.name), &t.shared.live);
        }
    }
}

/// Connections taken from one socket before the other tasks of the thread get their turn.
const BATCH: usize = 32;

/// Accepts until told to stop, or until the doors are closed, with what waits by then: the socket comes back, as it does if it does not listen any more.
pub(super) async fn accept_open(
    t: &Rc<Thread>,
    socket: OwnedFd,
    place: &Place,
    stop: &mut watch::Receiver<bool>,
    doors: &mut watch::Receiver<HashMap<String, Doors>>,
) -> Option<OwnedFd> {
    // SAFETY: the descriptor is owned by the AsyncFd from here on.
    let fd = unsafe { AsyncFd::register(socket) }.ok()?;
    let mut closing = false;
    let pause = t.wheel.timer();
    loop {
        let stopping = *stop.borrow();
        let mut guard = if stopping || closing {
            match tokio::time::timeout(Duration::ZERO, fd.readable()).await {
                Ok(Ok(g)) => g,
                _ if closing && !stopping => return Some(fd.into_inner()),
                _ => return None,
            }
        } else {
            tokio::select! {
                biased;
                _ = doors.changed() => {
                    closing = !place.is_open(doors);
                    continue;
                }
                _ = stop.changed() => continue,
                g = fd.readable() => g.ok()?,
            }
        };
        for _ in 0..BATCH {
            let (seats, mut turn) = match Seats::reserve(t, place) {
                Ok(Some(s)) => s,
                // At a limit connections wait in the kernel, as in HAProxy.
                Ok(None) if closing && !stopping => {
                    drop(guard);
                    return Some(fd.into_inner());
                }
                Ok(None) => {
                    pause.set(Some(Duration::from_millis(super::wheel::TICK)));
                    pause.wait().await;
                    break;
                }
                // The frontend is gone: this socket is about to be stopped.
                Err(()) if stopping => return None,
                Err(()) => {
                    pause.set(Some(Duration::from_millis(super::wheel::TICK)));
                    pause.wait().await;
                    break;
                }
            };
            match accept(fd.get_ref().as_raw_fd()) {
                Ok((conn, src)) => {
                    seats.confirm();
                    turn.came();
                    hand_over(
                        t,
                        Accepted {
                            fd: conn,
                            unix: place.unix,
                            src,
                            frontend: place.frontend.clone(),
                            listener: place.listener,
                            seats,
                            turn,
                        },
                    );
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    break;
                }
                Err(e)
                    if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) =>
                {
                    pause.set(Some(Duration::from_millis(100)));
                    pause.wait().await;
                    break;
                }
                // It does not listen: somebody who shares it has closed it.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    drop(guard);
                    return if stopping { None } else { Some(fd.into_inner()) };
                }
                // The client gave up meanwhile: the next one.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

pub(super) fn accept(fd: RawFd) -> std::io::Result<(OwnedFd, Option<SocketAddr>)> {
    // SAFETY: a zeroed sockaddr_storage is valid, and its size is handed along.
    let mut addr: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes into `addr`.
    let n =
        unsafe { libc::accept4(fd, (&raw mut addr).cast(), &raw mut len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
    if n < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: accept4 returned a descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(n) };
    // SAFETY: the kernel filled `addr` for the family it names.
    let src = unsafe {
        socket2::SockAddr::new(std::mem::transmute::<libc::sockaddr_storage, socket2::SockAddrStorage>(addr), len)
    }
    .as_socket();
    Ok((fd, src))
}

/// What one thread has for another.
pub enum Mail {
    Accepted(Accepted),
    Ask(super::pool::Ask),
}

/// Takes what another thread has sent.
pub fn read(t: &Rc<Thread>, m: Mail) {
    match m {
        Mail::Accepted(a) => start(t, a),
        Mail::Ask(a) => t.lend(a),
    }
}

/// To the least loaded thread. SO_REUSEPORT alone is uneven with long connections and keeps feeding a thread that is stuck.
fn hand_over(t: &Rc<Thread>, a: Accepted) {
    let loads = &t.shared.live.thread_load;
    let best = chosen(t.id, loads.iter().map(|l| l.load(Relaxed)));
    if best != t.id {
        loads[best].fetch_add(1, Relaxed);
        if let Err(back) = t.shared.inboxes[best].send(Mail::Accepted(a)) {
            loads[best].fetch_sub(1, Relaxed);
            loads[t.id].fetch_add(1, Relaxed);
            read(t, back.0);
        }
        return;
    }
    loads[t.id].fetch_add(1, Relaxed);
    start(t, a);
}

/// The thread that is to have a connection which thread `me` has accepted.
fn chosen(me: usize, loads: impl Iterator<Item = usize> + Clone) -> usize {
    let mine = loads.clone().nth(me).unwrap_or(0);
    let (best, load) = loads.enumerate().min_by_key(|(_, l)| *l).unwrap_or((me, mine));
    // Moving costs a wake-up: only for a difference that matters.
    if mine > load + 1 + load / 8 { best } else { me }
}

/// Serves an accepted connection on this thread.
pub fn start(t: &Rc<Thread>, a: Accepted) {
    let t = t.clone();
    // What waits longest, an idle HTTP connection, should weigh least: the other stages are on the heap while they last.
    let opening = Box::pin(open(t.clone(), a));
    tokio::task::spawn_local(async move {
        let Some(mut c) = opening.await else { return };
        match c.fe.conf.mode {
            Mode::Http => serve(&t, c, Begin::First).await,
            Mode::Syslog => Box::pin(super::syslog::run(&t, &mut c)).await,
            Mode::Tcp | Mode::Log | Mode::Udp => {
                if let Some(u) = Box::pin(tcp::run(&t, &mut c)).await {
                    serve(&t, c, Begin::Upgraded(u)).await;
                }
            }
        }
    });
}

/// Serves a connection again that was parked.
pub fn resume(t: &Rc<Thread>, c: Box<Connection>) {
    let t = t.clone();
    tokio::task::spawn_local(async move { serve(&t, c, Begin::Again).await });
}

async fn serve(t: &Rc<Thread>, mut c: Box<Connection>, mut begin: Begin) {
    while let session::Ended::Quiet { until } = session::run(t, &mut c, begin).await {
        match super::parking::park(t, c, until) {
            Ok(()) => return,
            Err(back) => (c, begin) = (back, Begin::Again),
        }
    }
}

/// One connection of a thread, as long as it lives.
struct OneOf(Rc<Thread>);

impl Drop for OneOf {
    fn drop(&mut self) {
        self.0.shared.live.thread_load[self.0.id].fetch_sub(1, Relaxed);
    }
}

struct FrontConn(Arc<ProxyLive>);
impl AsRef<Gauge> for FrontConn {
    fn as_ref(&self) -> &Gauge {
        &self.0.front_conns
    }
}
struct ListenerConn(Arc<ListenerLive>);
impl AsRef<Gauge> for ListenerConn {
    fn as_ref(&self) -> &Gauge {
        &self.0.conns
    }
}

/// A connection whose sessions may begin.
pub struct Connection {
    pub fe: Arc<ProxyNode>,
    pub generation: u64,
    /// None while it is parked.
    pub stream: Option<Stream>,
    pub client: ClientInfo,
    _seats: Seats,
    _load: OneOf,
}

/// What comes before a session: the PROXY header, the connection's rules, the TLS handshake. `None` if the connection ends with it.
async fn open(t: Rc<Thread>, a: Accepted) -> Option<Box<Connection>> {
    let load = OneOf(t.clone());
    let t = &t;
    let (accepted, accepted_at) = (Instant::now(), SystemTime::now());
    let snapshot = t.snapshot();
    let live = &t.shared.live;
    let fe = snapshot.frontend(&a.frontend).cloned()?;
    let generation = snapshot.generation;
    drop(snapshot);
    let listener = fe.listeners.get(a.listener)?;
    let (seats, turn) = (a.seats, a.turn);
    live.total_conns.fetch_add(1, Relaxed);
    fe.live.front.inc(Counter::Sessions);
    listener.live.counters.inc(Counter::Sessions);
    let mut client = ClientInfo {
        src: a.src,
        dst: None,
        tls: None,
        proxied: None,
        vars: std::cell::Cell::default(),
        accepted,
        accepted_at,
        handshake_ms: 0,
        fd: (!a.unix).then(|| a.fd.as_raw_fd()),
        // A configuration has at most MAX_LISTENERS.
        listener: u32::try_from(a.listener).unwrap_or(u32::MAX),
        id: t.shared.unique.fetch_add(1, Relaxed),
    };
    let mut stream = if a.unix {
        match UnixStream::from_std(std::os::unix::net::UnixStream::from(a.fd)) {
            Ok(s) => Stream::Unix(s),
            Err(_) => return None,
        }
    } else {
        match TcpStream::from_std(std::net::TcpStream::from(a.fd)) {
            Ok(s) => Stream::Tcp(s),
            Err(_) => return None,
        }
    };
    if let Stream::Tcp(s) = &stream {
        let _ = s.set_nodelay(true);
        client.dst = s.local_addr().ok();
        if fe.conf.options.tcpka_client {
            sockopt::keepalive(s.as_fd(), &fe.conf.keepalive_client);
        }
        if let Some(by) = listener.conf.options.mss.filter(|m| *m < 0) {
            sockopt::shrink_mss(s, -by);
        }
    }
    let mut expected = Expected { netscaler: listener.conf.accept_cip.is_some(), proxy: listener.conf.accept_proxy };
    let refused = |s: &Stream, how: Refusal, counter: Counter| {
        fe.live.front.inc(counter);
        if how == Refusal::SilentDrop {
            s.vanish();
        }
    };
    if !fe.conf.tcp_connection.is_empty() {
        let mut x = Exchange::new(&client, fe.clone(), t, true);
        let verdict = connection_rules(t, &mut x, &fe);
        let ends = (x.src, x.dst);
        x.recycle(t);
        (client.src, client.dst) = ends;
        match verdict {
            Ok(e) => {
                expected.proxy |= e.proxy;
                expected.netscaler |= e.netscaler;
            }
            Err(how) => {
                refused(&stream, how, Counter::DeniedConnections);
                return None;
            }
        }
    }
    turn.used();
    // One deadline for all that comes before the session.
    let limit = fe.conf.timeouts.client_hs.or(fe.conf.timeouts.client);
    if expected.proxy || expected.netscaler {
        let timer = t.wheel.timer();
        timer.set(limit.or(Some(Duration::from_secs(30))));
        let magic = listener.conf.accept_cip.unwrap_or(0);
        let mut said = Ok(());
        if expected.netscaler {
            let h = read_preamble(t, &mut stream, &timer, "NetScaler Client IP", |b| proxy::read_netscaler(b, magic));
            said = h.await.map(|h| client.say(h.pair));
        }
        if expected.proxy && said.is_ok() {
            said = read_preamble(t, &mut stream, &timer, "PROXY protocol", proxy::read).await.map(|h| {
                client.say(h.pair);
                client.proxied = Some(Box::new(h));
            });
        }
        if let Err(what) = said {
            embryonic_end(t, &fe, listener, &client, &what);
            return None;
        }
    }
    if !fe.conf.tcp_session.is_empty() {
        let mut x = Exchange::new(&client, fe.clone(), t, true);
        let verdict = tcp::allowed(t, &mut x, &fe, &fe.conf.tcp_session);
        let ends = (x.src, x.dst);
        x.recycle(t);
        (client.src, client.dst) = ends;
        if let Err(action) = verdict {
            refused(&stream, action, Counter::DeniedSessions);
            return None;
        }
    }
    if let Some(config) = &listener.tls {
        let Stream::Tcp(tcp) = stream else { return None };
        live.ssl_conns.up();
        live.total_ssl.fetch_add(1, Relaxed);
        let limit = limit.unwrap_or(Duration::from_secs(30));
        let shake = tokio_rustls::TlsAcceptor::from(config.clone()).accept(tcp);
        let result = tokio::time::timeout(limit, shake).await;
        live.ssl_conns.down();
        match result {
            Ok(Ok(s)) => {
                let c = s.get_ref().1;
                let suite = c.negotiated_cipher_suite().map_or("unknown", |s| crate::tls::cipher_name(s.suite()));
                client.tls = Some(Box::new(TlsInfo {
                    version: c.protocol_version().map_or("unknown", crate::tls::version_name),
                    cipher: suite,
                    sni: c.server_name().map(str::to_owned),
                    alpn: c.alpn_protocol().map(<[u8]>::to_vec),
                }));
                client.handshake_ms = u32::try_from(accepted.elapsed().as_millis()).unwrap_or(u32::MAX);
                listener.live.counters.inc(Counter::SslSessions);
                stream = Stream::Server(Box::new(s));
            }
            failed => {
                // It went with the handshake.
                client.fd = None;
                fe.live.front.inc(Counter::FailedHandshakes);
                listener.live.counters.inc(Counter::FailedHandshakes);
                let what = match failed {
                    Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                        "Connection closed during SSL handshake"
                    }
                    Ok(_) => "SSL handshake failure",
                    Err(_) => "Timeout during SSL handshake",
                };
                embryonic_end(t, &fe, listener, &client, what);
                return None;
            }
        }
    }
    // In HTTP it is its requests that are told of.
    if fe.conf.mode != Mode::Http {
        super::logging::connected(t, &fe, &client);
    }
    Some(Box::new(Connection { fe, generation, stream: Some(stream), client, _seats: seats, _load: load }))
}

/// Which headers a connection begins with.
#[derive(Clone, Copy, Default)]
struct Expected {
    netscaler: bool,
    proxy: bool,
}

/// The verdict of `tcp-request connection` rules, and what they expect.
fn connection_rules(t: &Thread, x: &mut Exchange<'_>, fe: &ProxyNode) -> Result<Expected, Refusal> {
    let mut e = Expected::default();
    for r in &fe.conf.tcp_connection {
        if !acl::holds(r.cond.as_ref(), &*x) {
            continue;
        }
        match &r.action {
            TcpAction::ExpectProxy => e.proxy = true,
            TcpAction::ExpectNetscaler => e.netscaler = true,
            TcpAction::Effect(a) => super::rewrite::effect(t, x, fe, a),
            TcpAction::Accept | TcpAction::SwitchMode | TcpAction::Close => break,
            TcpAction::Reject => return Err(Refusal::Reject),
            TcpAction::SilentDrop => return Err(Refusal::SilentDrop),
        }
    }
    Ok(e)
}

/// Reads one header. Nothing behind it is consumed: what follows may be TLS.
async fn read_preamble(
    t: &Rc<Thread>,
    s: &mut Stream,
    timer: &Timer,
    protocol: &'static str,
    read: impl Fn(&[u8]) -> proxy::Read,
) -> Result<proxy::Header, String> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        let peeked = std::future::poll_fn(|cx| {
            let mut scratch = t.scratch.borrow_mut();
            match s.poll_peek(cx, &mut scratch) {
                Poll::Ready(Ok(n)) => {
                    head.extend_from_slice(&scratch[..n]);
                    Poll::Ready(Some(n))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Some(0)),
                Poll::Pending if timer.expired(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let taken = match (peeked, read(&head)) {
            (None, _) => return Err(format!("Timeout while waiting for {protocol} header")),
            (Some(0), _) if before == 0 => {
                return Err(format!("Connection closed while waiting for {protocol} header"));
            }
            (Some(0), _) => return Err(format!("Truncated {protocol} header received")),
            (_, proxy::Read::Whole(h, n)) => {
                take(t, s, timer, n - before).await?;
                return Ok(h);
            }
            (Some(n), proxy::Read::More) if head.len() <= proxy::MAX_HEADER => n,
            _ if proxy::looks_right(&head) => return Err(format!("Received an invalid {protocol} header")),
            _ => return Err(format!("Received something which does not look like a {protocol} header")),
        };
        // What is there already would be peeked at again and again: it is taken.
        take(t, s, timer, taken).await?;
    }
}

/// Takes so many bytes off a stream, which are there.
async fn take(t: &Thread, s: &mut Stream, timer: &Timer, mut n: usize) -> Result<(), String> {
    while n > 0 {
        let got = std::future::poll_fn(|cx| {
            let mut scratch = t.scratch.borrow_mut();
            let most = n.min(scratch.len());
            match s.poll_read(cx, &mut scratch[..most]) {
                Poll::Pending if timer.expired(cx) => Poll::Ready(Ok(0)),
                r => r,
            }
        })
        .await;
        match got {
            Ok(got @ 1..) => n -= got,
            _ => return Err("Connection error while waiting for PROXY protocol header".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::chosen;

    /// However the kernel spreads connections that stay: no thread has more than 1.25 times its share.
    #[test]
    fn accepted_connections_are_spread() {
        for threads in [2, 3, 8, 64] {
            let mut loads = vec![0usize; threads];
            let mut seed = 1u64;
            for n in 1..=40 * threads {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Every third one comes to the same thread.
                let me = if n % 3 == 0 { 0 } else { usize::try_from(seed >> 33).unwrap() % threads };
                let to = chosen(me, loads.iter().copied());
                loads[to] += 1;
            }
            assert!(loads.iter().all(|l| *l <= 50), "{loads:?}");
        }
    }
}
