//! Virtual servers of datagrams (keepalived.conf(5), `protocol UDP`): what a client sends from one port goes to one server over a socket of its own, and
//! what comes back over that goes to the client, until nothing has passed for as long as `timeout client` says.
use super::Thread;
use super::listener::Place;
use super::outcome::{Cause, ClientInfo, Exchange, Phase};
use super::upstream::{self, BackendSession, Slot};
use super::wheel::Timer;
use crate::state::counters::{Counter, Held};
use crate::state::live::ServerLive;
use crate::state::snapshot::ProxyNode;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

/// The largest datagram that there is.
const MOST: usize = 65_535;
/// Datagrams taken from one socket before the other tasks of the thread get their turn.
const BATCH: usize = 64;
/// Sessions of the whole process: each takes a descriptor. Beyond it the oldest one of the socket makes room.
pub const SESSIONS: u64 = 20_000;

/// So many may be on their way out beside them.
const LEAVING: u64 = 2_000;

/// One client's exchange with one server.
struct Session {
    socket: UdpSocket,
    /// Octets so far, of the client and of the server.
    bytes: [Cell<u64>; 2],
    timer: Timer,
    /// So long may nothing pass.
    idle: Option<Duration>,
    /// It is over: the next datagram begins a new one.
    over: Cell<bool>,
    server: Arc<ServerLive>,
    /// Of the configuration that was looked at last.
    generation: Cell<u64>,
}

/// Who it is between: the client, and with `ops` the server too.
type Key = (SocketAddr, Option<usize>);

/// The sessions of one socket of a thread, and the order in which they began.
#[derive(Default)]
struct Table {
    all: HashMap<Key, Rc<Session>>,
    order: VecDeque<(Key, Weak<Session>)>,
}

impl Table {
    fn add(&mut self, key: Key, s: &Rc<Session>) {
        self.all.insert(key, s.clone());
        self.order.push_back((key, Rc::downgrade(s)));
        // What has ended by itself is cleared away when it is most of it.
        if self.order.len() > 64 + 2 * self.all.len() {
            self.order.retain(|o| o.1.strong_count() > 0);
        }
    }

    /// Ends the oldest one.
    fn make_room(&mut self) {
        while let Some((_, s)) = self.order.pop_front() {
            if let Some(s) = s.upgrade().filter(|s| !s.over.get()) {
                return s.end();
            }
        }
    }
}

type Sessions = Rc<RefCell<Table>>;

impl Session {
    /// So many octets passed, of the client (0) or of the server.
    fn passed(&self, side: usize, n: usize) {
        self.bytes[side].set(self.bytes[side].get().saturating_add(n as u64));
        self.timer.set(self.idle);
    }

    /// The next datagram begins a new one, and the task of this one ends.
    fn end(&self) {
        self.over.set(true);
        self.timer.set(Some(Duration::ZERO));
    }

    /// The server may still be used: it is in the configuration in force, and nobody has taken it out.
    fn fits(&self, t: &Thread, place: &Place) -> bool {
        if self.over.get() || self.server.in_maintenance() {
            return false;
        }
        let snapshot = t.snapshot();
        if self.generation.replace(snapshot.generation) == snapshot.generation {
            return true;
        }
        let fe = snapshot.frontend(&place.frontend);
        fe.is_some_and(|f| f.servers.iter().any(|s| Arc::ptr_eq(&s.live, &self.server)))
    }
}

/// Counts a session of a frontend.
struct FrontSession(Arc<ProxyNode>);

impl FrontSession {
    fn reserve(fe: &Arc<ProxyNode>) -> Option<Self> {
        let taken = fe.live.front_conns.reserve(fe.live.maxconn.get());
        taken.then(|| {
            fe.live.front_conns.confirm();
            fe.live.front.inc(Counter::Sessions);
            Self(fe.clone())
        })
    }
}

impl Drop for FrontSession {
    fn drop(&mut self) {
        self.0.live.front_conns.down();
    }
}

/// Serves one listening socket until told to stop; sessions end with it.
pub async fn serve(t: Rc<Thread>, socket: OwnedFd, place: Place, mut stop: tokio::sync::watch::Receiver<bool>) {
    let socket = socket2::Socket::from(socket);
    let here = socket.local_addr().ok().and_then(|a| a.as_socket());
    // SAFETY: the socket is owned by the AsyncFd from here on.
    let Ok(fd) = (unsafe { AsyncFd::register(socket) }) else { return };
    let fd = Rc::new(fd);
    let sessions = Sessions::default();
    let mut buf: Vec<u8> = Vec::with_capacity(MOST);
    loop {
        let mut guard = tokio::select! {
            g = fd.readable() => match g { Ok(g) => g, Err(_) => return },
            _ = stop.changed() => return end_all(&sessions),
        };
        for n in 0..=BATCH {
            if n == BATCH {
                tokio::task::yield_now().await;
                break;
            }
            buf.clear();
            let (n, from) = match fd.get_ref().recv_from(buf.spare_capacity_mut()) {
                Ok((n, from)) => (n, from.as_socket()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    break;
                }
                // What an earlier answer met on its way to a client.
                Err(_) => continue,
            };
            // SAFETY: so many bytes were just received into the room behind the vector's end, which is MOST bytes.
            unsafe { buf.set_len(n) };
            let Some(from) = from else { continue };
            take(&t, &fd, &place, &sessions, (from, here), &buf).await;
        }
    }
}

fn end_all(sessions: &Sessions) {
    sessions.borrow().all.values().for_each(|s| s.end());
}

/// One datagram of a client.
async fn take(
    t: &Rc<Thread>,
    fd: &Rc<AsyncFd<socket2::Socket>>,
    place: &Place,
    sessions: &Sessions,
    (from, here): (SocketAddr, Option<SocketAddr>),
    bytes: &[u8],
) {
    let known = sessions.borrow().all.get(&(from, None)).cloned();
    let session = match known {
        Some(s) if s.fits(t, place) => s,
        other => {
            // Whoever it had is not the one any more.
            other.iter().for_each(|s| s.end());
            match begin(t, fd, place, sessions, from, here).await {
                Some(s) => s,
                None => return,
            }
        }
    };
    // Not by way of the event loop, which knows nothing of a new socket yet.
    match socket2::SockRef::from(&session.socket).send(bytes) {
        Ok(n) => session.passed(0, n),
        // A server that is not there says so, and the next datagram goes elsewhere.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => session.end(),
        // A full buffer loses it, as a full queue on the way would.
        Err(_) => {}
    }
}

/// A session for a client that has none, at the server that balancing or persistence says.
async fn begin(
    t: &Rc<Thread>,
    fd: &Rc<AsyncFd<socket2::Socket>>,
    place: &Place,
    sessions: &Sessions,
    from: SocketAddr,
    here: Option<SocketAddr>,
) -> Option<Rc<Session>> {
    let snapshot = t.snapshot();
    let fe = snapshot.frontend(&place.frontend)?.clone();
    let one_packet = fe.conf.virtual_server.as_ref().is_some_and(|v| v.one_packet);
    let seat = Held::reserve(t.shared.live.datagram_sessions.clone(), SESSIONS).or_else(|| {
        // Whoever makes room leaves with the next tick: until then there is one more.
        sessions.borrow_mut().make_room();
        Held::reserve(t.shared.live.datagram_sessions.clone(), SESSIONS + LEAVING)
    })?;
    seat.confirm();
    let client = ClientInfo {
        src: Some(from),
        dst: here,
        tls: None,
        proxied: None,
        vars: Cell::default(),
        accepted: Instant::now(),
        accepted_at: SystemTime::now(),
        handshake_ms: 0,
        fd: None,
        listener: u32::try_from(place.listener).unwrap_or(u32::MAX),
        id: t.shared.unique.fetch_add(1, Relaxed),
    };
    let mut x = Exchange::new(&client, fe.clone(), t, true);
    x.be = Some(fe.clone());
    let held = BackendSession::new(fe.clone());
    let patience = t.wheel.timer();
    let bound = upstream::stuck(&x, &fe);
    // Nobody queues for a datagram: whoever would have to is gone at once.
    let slot = match upstream::assign(t, &mut x, fe.clone(), bound, None, &patience, |_| true).await {
        Err(_) if bound.is_some() => upstream::assign(t, &mut x, fe.clone(), None, None, &patience, |_| true).await,
        s => s,
    };
    let Ok(slot) = slot else {
        x.end(Cause::ServerAbort, Phase::Connect);
        x.finish(t, true);
        x.recycle(t);
        return None;
    };
    let stay = upstream::stay(&x, &fe, slot.server());
    x.recycle(t);
    let key = (from, one_packet.then(|| slot.index()));
    let known = sessions.borrow().all.get(&key).cloned();
    if let Some(s) = known.filter(|s| one_packet && s.fits(t, place)) {
        return Some(s);
    }
    let front = FrontSession::reserve(&fe)?;
    t.shared.live.total_conns.fetch_add(1, Relaxed);
    let to = upstream::address(slot.server(), here)?;
    let socket = open(to, &slot, &fe).inspect_err(|_| slot.server().live.counters.inc(Counter::ConnectErrors)).ok()?;
    let idle = fe.conf.timeouts.client;
    let session = Rc::new(Session {
        socket,
        bytes: Default::default(),
        timer: t.wheel.timer(),
        idle,
        over: Cell::new(false),
        server: slot.server().live.clone(),
        generation: Cell::new(snapshot.generation),
    });
    session.timer.set(idle);
    sessions.borrow_mut().add(key, &session);
    let answers = Answers { t: t.clone(), fd: fd.clone(), fe, slot, client, from };
    let (s, all) = (session.clone(), sessions.clone());
    tokio::task::spawn_local(async move {
        let _kept = (seat, front, held, stay);
        answers.run(&s).await;
        let mut table = all.borrow_mut();
        // It may be another's by now.
        if table.all.get(&key).is_some_and(|k| Rc::ptr_eq(k, &s)) {
            table.all.remove(&key);
        }
    });
    Some(session)
}

fn open(to: SocketAddr, slot: &Slot, be: &ProxyNode) -> io::Result<UdpSocket> {
    let s = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM.nonblocking(), None)?;
    let from = slot.server().conf.source.as_ref().or(be.conf.source.as_ref());
    if let Some(f) = from.filter(|f| !f.addr.ip().is_unspecified()) {
        s.bind(&f.addr.into())?;
    }
    s.connect(&to.into())?;
    UdpSocket::from_std(s.into())
}

/// What a server sends back, on its way to the client.
struct Answers {
    t: Rc<Thread>,
    fd: Rc<AsyncFd<socket2::Socket>>,
    fe: Arc<ProxyNode>,
    slot: Slot,
    client: ClientInfo,
    from: SocketAddr,
}

impl Answers {
    async fn run(&self, s: &Session) {
        let to = socket2::SockAddr::from(self.from);
        let cause = loop {
            let ready = std::future::poll_fn(|cx| {
                if let Some(why) = self.slot.over() {
                    return Poll::Ready(Err(Some(why)));
                }
                if s.over.get() || s.timer.expired(cx) {
                    return Poll::Ready(Err(None));
                }
                s.socket.poll_recv_ready(cx).map_err(|_| Some(Cause::ServerAbort))
            });
            if let Err(why) = ready.await {
                break why;
            }
            // Only while there is something to read: sessions are many, and quiet.
            let mut buf = self.t.take_buf();
            buf.reserve(MOST);
            let read = s.socket.try_recv_buf(&mut buf);
            if let Ok(n) = read {
                // The client may be gone; its queue may be full: a datagram more or less.
                let _ = self.fd.get_ref().send_to(&buf, &to);
                s.passed(1, n);
            }
            self.t.give_buf(buf);
            match read {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break Some(Cause::ServerAbort),
            }
        };
        s.over.set(true);
        let mut x = Exchange::new(&self.client, self.fe.clone(), &self.t, true);
        x.be = Some(self.fe.clone());
        x.server = Some(self.slot.index());
        x.connected = Some(self.client.accepted);
        (x.bytes_in, x.bytes_out) = (s.bytes[0].get(), s.bytes[1].get());
        if let Some(c) = cause {
            x.end(c, Phase::Data);
        }
        x.finish(&self.t, true);
        x.recycle(&self.t);
    }
}
