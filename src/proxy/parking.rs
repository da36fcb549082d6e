//! Connections that say nothing for long: taken off the event loop and watched by one epoll set of the thread, so that each costs its
//! addresses and a place in a list, not a task.
use super::Thread;
use super::listener::{Connection, resume};
use super::stream::Stream;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::io::unix::AsyncFd;

struct Parked {
    /// Its stream is `socket`. Here by value: side by side they leave no holes between what serving took, which goes back to the system.
    rest: Connection,
    socket: std::net::TcpStream,
    /// Tick of the wheel at which it has waited long enough; more than a year does not count.
    until: u32,
}

/// Places in blocks of [`BLOCK`], which never move.
#[derive(Default)]
struct Places {
    all: Vec<Box<[Option<Parked>; BLOCK]>>,
    free: Vec<u32>,
}

const BLOCK: usize = 64;

impl Places {
    fn at(&mut self, i: u32) -> Option<&mut Option<Parked>> {
        let i = i as usize;
        self.all.get_mut(i / BLOCK)?.get_mut(i % BLOCK)
    }

    /// A free place.
    fn find(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = u32::try_from(self.all.len() * BLOCK).unwrap_or(u32::MAX);
            self.all.push(Box::new([const { None }; BLOCK]));
            // The lowest is taken first.
            self.free.extend((0..BLOCK).rev().filter_map(|i| first.checked_add(u32::try_from(i).ok()?)));
        }
        self.free.pop().unwrap_or(u32::MAX)
    }
}

pub struct Parking {
    set: Epoll,
    places: RefCell<Places>,
    /// Tick of the last look at time-outs.
    looked: Cell<u64>,
    /// Connections parked since memory was last given back, and how many of them at the last look.
    unreturned: Cell<(u32, u32)>,
}

/// Ticks between two looks at the time-outs.
const LOOK: u64 = 10;
/// Connections that make a wave.
const WAVE: u32 = 500;
/// Events taken at a time.
const BATCH: usize = 64;

impl Parking {
    /// None where the system gives no epoll set; then nobody is parked.
    pub fn new() -> Option<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        Some(Self { set, places: RefCell::default(), looked: Cell::new(0), unreturned: Cell::default() })
    }

    #[allow(clippy::result_large_err)] // It comes back only where the kernel has no more memory.
    fn put(&self, p: Parked) -> Result<(), Parked> {
        let mut places = self.places.borrow_mut();
        let i = places.find();
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT;
        if self.set.add(&p.socket, EpollEvent::new(flags, u64::from(i))).is_err() {
            places.free.push(i);
            return Err(p);
        }
        match places.at(i) {
            Some(place) => {
                *place = Some(p);
                let (parked, before) = self.unreturned.get();
                self.unreturned.set((parked.saturating_add(1), before));
            }
            // More than there can be descriptors.
            None => return Err(p),
        }
        Ok(())
    }

    fn take(&self, i: u64) -> Option<Parked> {
        let mut places = self.places.borrow_mut();
        let i = u32::try_from(i).ok()?;
        let p = places.at(i)?.take()?;
        places.free.push(i);
        let _ = self.set.delete(&p.socket);
        Some(p)
    }

    /// Closes, now and then, those whose time is over. True when a wave of connections has come to rest: what serving them took can be given back.
    pub fn look(&self, now: u64) -> bool {
        if now.saturating_sub(self.looked.get()) < LOOK {
            return false;
        }
        self.looked.set(now);
        self.expire(now);
        let (parked, before) = self.unreturned.get();
        let rests = parked >= WAVE && parked == before;
        self.unreturned.set(if rests { (0, 0) } else { (parked, parked) });
        rests
    }

    /// Closes those whose time is over at tick `now`.
    fn expire(&self, now: u64) {
        self.close(|p| u64::from(p.until) <= now);
    }

    /// The worker drains: closes all that need not wait for an answer that tells them (`option idle-close-on-response`).
    pub fn drain(&self) {
        self.close(|p| !p.rest.fe.conf.options.idle_close_on_response);
    }

    fn close(&self, which: impl Fn(&Parked) -> bool) {
        let over = |p: &Option<Parked>| p.as_ref().is_some_and(&which);
        let found: Vec<u64> = {
            let places = self.places.borrow();
            let each = places.all.iter().flat_map(|b| b.iter());
            (0..).zip(each).filter(|(_, p)| over(p)).map(|(i, _)| i).collect()
        };
        for i in found {
            drop(self.take(i));
        }
        let mut places = self.places.borrow_mut();
        if places.free.len() == places.all.len() * BLOCK && !places.all.is_empty() {
            *places = Places::default();
        }
    }
}

/// Takes a quiet plain connection off the event loop until its client says something or tick `until` comes. Gives it back if that cannot be.
pub fn park(t: &Thread, mut rest: Box<Connection>, until: u64) -> Result<(), Box<Connection>> {
    let Some(parking) = &t.parking else { return Err(rest) };
    let s = match rest.stream.take() {
        Some(Stream::Tcp(s)) => s,
        other => {
            rest.stream = other;
            return Err(rest);
        }
    };
    // Off the event loop it goes with this; without a descriptor there is nothing to be kept.
    let Ok(socket) = s.into_std() else { return Ok(()) };
    let until = u32::try_from(until).unwrap_or(u32::MAX);
    parking.put(Parked { rest: *rest, socket, until }).or_else(|p| {
        let mut rest = Box::new(p.rest);
        rest.stream = tokio::net::TcpStream::from_std(p.socket).ok().map(Stream::Tcp);
        if rest.stream.is_some() { Err(rest) } else { Ok(()) }
    })
}

/// Brings connections back whose clients say something; runs as long as the thread.
pub async fn attend(t: Rc<Thread>) {
    let Some(parking) = &t.parking else { return };
    // SAFETY: the set's descriptor is open as long as the thread's state, which this task holds, and nobody else registers it.
    let watch = unsafe { AsyncFd::register_with_interest(Fd(&parking.set), tokio::io::Interest::READABLE) };
    let Ok(watch) = watch else { return };
    let mut events = [EpollEvent::empty(); BATCH];
    loop {
        let Ok(mut guard) = watch.readable().await else { return };
        loop {
            let n = parking.set.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for e in &events[..n] {
                let Some(p) = parking.take(e.data()) else { continue };
                if let Ok(s) = tokio::net::TcpStream::from_std(p.socket) {
                    let mut rest = Box::new(p.rest);
                    rest.stream = Some(Stream::Tcp(s));
                    resume(&t, rest);
                }
            }
            if n < BATCH {
                guard.clear_ready();
                break;
            }
        }
    }
}

/// The set as something that has a descriptor.
struct Fd<'a>(&'a Epoll);

impl std::os::fd::AsRawFd for Fd<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0.0)
    }
}
