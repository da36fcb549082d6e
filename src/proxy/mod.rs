//! Level 5: the forwarding path. Each worker thread has one current-thread runtime, its own sockets, timers, pools and buffers.
mod answer;
mod caching;
pub mod datagram;
pub mod doors;
mod evidence;
mod filters;
mod forward;
mod forwarded;
mod key;
pub mod listener;
mod logging;
mod outcome;
pub mod parking;
mod persist;
mod pool;
mod reply;
mod rewrite;
mod session;
mod splice;
mod stream;
pub mod syslog;
mod tcp;
mod upstream;
pub mod wheel;

use crate::base::spare::Spare;
use crate::state::live::Live;
use crate::state::snapshot::Snapshot;
use arc_swap::ArcSwap;
pub use logging::postman;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};
pub use upstream::proxy_header;
use wheel::Wheel;

/// What other layers do for the forwarding path: pages and metrics.
pub trait Services: Send + Sync {
    /// The statistics page. The body and its headers are made by the control layer.
    fn stats(&self, request: &StatsRequest<'_>) -> ServiceReply;
    fn prometheus(&self, query: &str) -> ServiceReply;
}

pub struct StatsRequest<'a> {
    pub snapshot: &'a Snapshot,
    pub proxy: &'a str,
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub authorization: Option<&'a [u8]>,
    /// `stats admin` and its condition hold.
    pub admin: bool,
    pub body: &'a [u8],
}

pub struct ServiceReply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// What all threads of a worker share.
pub struct Shared {
    pub live: Arc<Live>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub services: Box<dyn Services>,
    /// One inbox a thread, for what other threads have for it.
    pub inboxes: Vec<tokio::sync::mpsc::UnboundedSender<listener::Mail>>,
    /// What hashes of names that clients choose begin with.
    pub secret: std::hash::RandomState,
    /// The worker finishes what it has, and then ends.
    pub draining: AtomicBool,
    pub unique: AtomicU64,
}

impl Shared {
    /// True once the worker only finishes what it has.
    pub fn drains(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// The clocks, read once for several uses.
struct Clock {
    now: Cell<Instant>,
    /// An instant, and the time of day that it was.
    wall: Cell<(Instant, SystemTime)>,
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self { now: Cell::new(now), wall: Cell::new((now, SystemTime::now())) }
    }
}

/// One worker thread.
pub struct Thread {
    pub id: usize,
    pub shared: Arc<Shared>,
    pub wheel: Rc<Wheel>,
    scratch: RefCell<Vec<u8>>,
    spare: RefCell<Spare<Vec<u8>>>,
    heads: RefCell<Spare<crate::http::h1::head::Head>>,
    coders: Rc<crate::http::coding::Coders>,
    pools: RefCell<HashMap<u64, pool::Pool, pool::ByKey>>,
    snapshot: RefCell<arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    pipes: RefCell<splice::Pipes>,
    clock: Clock,
    desk: RefCell<crate::log::Desk>,
    /// Wakes the task that sends what waits there.
    postman: RefCell<Option<std::task::Waker>>,
    /// It was woken, and has not been there yet.
    post_due: Cell<bool>,
    /// Connections between requests that still hold everything; see [`session`].
    warm: Cell<usize>,
    /// Connections that say nothing for long.
    pub parking: Option<parking::Parking>,
}

/// Room for one read; larger than `tune.bufsize` so that a read seldom fills it.
const SCRATCH: usize = 64 * 1024;
/// Buffers kept when little is served.
const KEPT: usize = 8;
/// Buffers kept for reuse by one thread.
const SPARE: usize = 256;

impl Thread {
    pub fn new(id: usize, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            id,
            wheel: Rc::new(Wheel::default()),
            scratch: RefCell::new(vec![0; SCRATCH]),
            spare: RefCell::new(Spare::new(SPARE)),
            heads: RefCell::new(Spare::new(SPARE)),
            coders: Rc::default(),
            pools: RefCell::default(),
            snapshot: RefCell::new(arc_swap::Cache::new(shared.snapshot.clone())),
            pipes: RefCell::new(splice::Pipes::new(splice::Limits::new(&shared.snapshot.load(), shared.inboxes.len()))),
            clock: Clock::default(),
            desk: RefCell::default(),
            postman: RefCell::default(),
            post_due: Cell::new(false),
            warm: Cell::new(0),
            parking: parking::Parking::new(),
            shared,
        })
    }

    /// The time, read anew: behind anything that may have waited.
    fn fresh(&self) -> Instant {
        let now = Instant::now();
        self.clock.now.set(now);
        now
    }

    /// The time as it was read last, where nothing has waited since.
    fn now(&self) -> Instant {
        self.clock.now.get()
    }

    /// The time of day that belongs to an instant not long ago.
    fn wall(&self, at: Instant) -> SystemTime {
        let (instant, wall) = self.clock.wall.get();
        wall + at.saturating_duration_since(instant)
    }

    /// The configuration in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow_mut().load().clone()
    }

    /// Which one that is.
    fn generation(&self) -> u64 {
        self.snapshot.borrow_mut().load().generation
    }

    /// True if no other thread has connections to servers that this one might use.
    fn alone(&self) -> bool {
        self.shared.inboxes.len() < 2 || self.snapshot().global.own_pools
    }

    fn take_buf(&self) -> Vec<u8> {
        self.spare.borrow_mut().take().unwrap_or_default()
    }

    fn give_buf(&self, mut b: Vec<u8>) {
        if b.capacity() > 0 && b.capacity() <= SCRATCH {
            b.clear();
            self.spare.borrow_mut().give(b);
        }
    }

    fn take_head(&self) -> crate::http::h1::head::Head {
        self.heads.borrow_mut().take().unwrap_or_default()
    }

    fn give_head(&self, mut h: crate::http::h1::head::Head) {
        h.clear();
        h.release();
        self.heads.borrow_mut().give(h);
    }

    /// Gives what is kept for reuse back to the system. (Other C libraries than GNU's do the rest by themselves.)
    fn give_back(&self) {
        self.spare.borrow_mut().shrink(KEPT);
        self.heads.borrow_mut().shrink(KEPT);
        self.wheel.shrink();
        #[cfg(target_env = "gnu")]
        // SAFETY: returns free memory of the allocator, which takes its own locks.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// One step of the thread's clock: timers, and once a second idle server connections.
    pub fn tick(&self) {
        self.clock.wall.set((self.fresh(), SystemTime::now()));
        self.wheel.advance();
        if !self.desk.borrow().post.is_empty() {
            self.post();
        }
        if self.parking.as_ref().is_some_and(|p| p.look(self.wheel.now())) {
            self.give_back();
        }
        if self.wheel.second_passed() {
            self.spare.borrow_mut().decay();
            self.heads.borrow_mut().decay();
            self.coders.decay();
            self.sweep_pools();
            self.limit_pipes(splice::Limits::new(&self.snapshot(), self.shared.inboxes.len()));
        }
    }
}

impl Thread {
    /// Sends what was logged and waits, for the last time.
    pub fn last_lines(&self) {
        self.desk.borrow_mut().post.close(&self.shared.live.dropped_logs);
    }
}

/// Where a server is, if that does not depend on the client.
pub fn server_address(s: &crate::state::snapshot::ServerNode) -> Option<std::net::SocketAddr> {
    upstream::address(s, None)
}
