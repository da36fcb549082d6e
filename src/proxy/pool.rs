//! Connections to servers that wait for their next request. Each thread has its own; one that has none asks the thread that had one last.
use super::Thread;
use super::listener::Mail;
use super::stream::Stream;
use super::upstream::Likeness;
use super::wheel::{TICK, Timer};
use crate::state::live::ServerLive;
use crate::state::snapshot::ServerNode;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

/// A connection to a server that waits for its next request.
pub struct Idle {
    stream: Stream,
    /// Sweeps survived, one a second.
    age: u32,
    /// How often its server had moved when it was put here.
    moves: u64,
    /// Requests that it has served.
    uses: u32,
}

/// What one thread keeps for one server, by the key of its address: a reload may give the server another.
pub struct Pool {
    live: Arc<ServerLive>,
    /// Whose it is.
    thread: usize,
    /// Sweeps to survive (`pool-purge-delay`).
    most: u32,
    idle: Vec<Idle>,
}

impl Pool {
    /// Lets go of those whose server closed them: nobody has looked at them since.
    fn drop_dead(&mut self) {
        let before = self.idle.len();
        self.idle.retain(|i| i.stream.is_quiet());
        self.live.idle_less(self.thread, before - self.idle.len());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.live.idle_less(self.thread, self.idle.len());
    }
}

/// The keys of pools are hashes already.
#[derive(Default)]
pub struct KeyHasher(u64);

pub type ByKey = std::hash::BuildHasherDefault<KeyHasher>;

impl std::hash::Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        // Only numbers are hashed with it.
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Idle connections kept by one thread for one server.
const MAX_IDLE: usize = 128;
/// Idle connections to a server whose connections have names, all names together.
const MAX_NAMED: u64 = 1024;

impl Thread {
    /// A connection to where the server is now, and how many requests it has served; with `proven`, more than one: its server does keep connections.
    pub fn pool_take(&self, key: u64, s: &ServerNode, proven: bool) -> Option<(Stream, u32)> {
        self.take_idle(key, s.live.moves(), proven)
    }

    fn take_idle(&self, key: u64, moves: u64, proven: bool) -> Option<(Stream, u32)> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&key)?;
        // The one that came last is the one that lives most likely.
        while let Some(at) = pool.idle.iter().rposition(|i| i.uses > 1 || !proven) {
            let i = pool.idle.swap_remove(at);
            pool.live.idle_less(pool.thread, 1);
            if i.moves == moves && i.stream.is_quiet() {
                return Some((i.stream, i.uses));
            }
        }
        None
    }

    /// As [`pool_take`](Self::pool_take), from the thread that kept one last, if it answers before the next tick of the clock
    /// (`tune.idle-pool.shared`).
    pub async fn pool_ask(&self, key: u64, s: &ServerNode, proven: bool, timer: &Timer) -> Option<(Stream, u32)> {
        let (mail, other) = (&self.shared.inboxes, s.live.idle_at.load(Relaxed));
        // One with TLS keeps its state in its own thread.
        let tls = s.tls.is_some() && s.conf.traffic_tls;
        if tls || s.live.idle() == 0 || other == self.id {
            return None;
        }
        let (to, answer) = oneshot::channel();
        mail.get(other)?.send(Mail::Ask(Ask { key, moves: s.live.moves(), proven, to })).ok()?;
        timer.set(Some(Duration::from_millis(TICK)));
        let mut answer = pin!(answer);
        let lent = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(r) => Poll::Ready(r.ok()),
            Poll::Pending if timer.expired(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let (lent, uses) = lent.await?;
        let stream = match lent {
            Lent::Tcp(s) => TcpStream::from_std(s).map(Stream::Tcp),
            Lent::Unix(s) => UnixStream::from_std(s).map(Stream::Unix),
        };
        Some((stream.ok()?, uses))
    }

    /// Answers another thread.
    pub fn lend(&self, a: Ask) {
        let Some((stream, uses)) = self.take_idle(a.key, a.moves, a.proven) else { return };
        let lent = match stream {
            Stream::Tcp(s) => s.into_std().map(Lent::Tcp),
            Stream::Unix(s) => s.into_std().map(Lent::Unix),
            _ => return,
        };
        if let Ok(lent) = lent {
            // Who does not wait any more has made one of his own.
            let _ = a.to.send((lent, uses));
        }
    }

    /// `moves`: how often the server had moved when the connection was asked for; `uses`: requests that it has served.
    pub fn pool_give(&self, like: Likeness, s: &ServerNode, stream: Stream, moves: u64, uses: u32) {
        let key = like.key;
        if moves != s.live.moves() {
            return stream.cut();
        }
        let mut pools = self.pools.borrow_mut();
        if pools.get(&key).is_some_and(|p| !Arc::ptr_eq(&p.live, &s.live)) {
            // The server was gone for a while, and has come back as another.
            pools.remove(&key);
        }
        let pool = pools.entry(key).or_insert_with(|| {
            let most = u32::try_from(s.conf.pool_purge.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Pool { live: s.live.clone(), thread: self.id, most, idle: Vec::new() }
        });
        // There may be as many names as clients can think of, but only so many clients.
        let named = key != s.pool_key && !like.personal;
        let most = s.conf.pool_max.map(u64::from).or(named.then_some(MAX_NAMED));
        let room = most.is_none_or(|most| s.live.idle() < most);
        let mut needed = s.live.needs_idle(self.id, s.conf.pool_low);
        if !needed {
            pool.drop_dead();
            needed = s.live.needs_idle(self.id, s.conf.pool_low);
        }
        if pool.idle.len() < MAX_IDLE && room && s.live.reachable() && needed {
            s.live.idle_more(self.id);
            pool.idle.push(Idle { stream, age: 0, moves, uses });
        } else {
            stream.cut();
        }
    }

    /// Once a second: what nobody used for five seconds is closed (`pool-purge-delay`), and so is what the server closed.
    pub(super) fn sweep_pools(&self) {
        self.pools.borrow_mut().retain(|_, pool| {
            let before = pool.idle.len();
            pool.idle.retain_mut(|i| {
                i.age += 1;
                let quiet = i.stream.is_quiet();
                if quiet && i.age > pool.most {
                    i.stream.cut();
                }
                quiet && i.age <= pool.most
            });
            pool.live.idle_less(pool.thread, before - pool.idle.len());
            !pool.idle.is_empty()
        });
    }
}

/// One thread asks another for an idle connection.
pub struct Ask {
    key: u64,
    moves: u64,
    proven: bool,
    to: oneshot::Sender<(Lent, u32)>,
}

/// An idle connection between two event loops.
enum Lent {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}
